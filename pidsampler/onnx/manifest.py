"""pidsampler.json: what a model folder states beyond its graphs' names, types and shapes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import attrs

from .. import moved, timesteps
from ..errors import ConfigError, FileError, ModelError, PidSamplerError, unknown_name
from ..io.files import read_text
from ..schedulers.registry import OwnLike, as_scheduler
from ..schedulers.spec import Spec, names_file
from ..table import PREDICTIONS
from ..values import field, number, shown, whole

NAME = "pidsampler.json"
FRAMES = ("flow", "vp")
_MOST = 1000  # steps, or repeats, that a file may ask for
_SPELLINGS = ("licence", "license")  # of one key


@attrs.frozen(kw_only=True)
class TeacherRule:
    """Timesteps as a rule of the result's size: `timesteps.teacher`, with the shift of `timesteps.pid_shift`.

    Args:
        base: Shift at a square of `size` pixels a side, above 0 and at most 1000.
        size: Pixels, from 1.
        steps: Number of steps, 1..1000, unless told otherwise.

    Raises:
        PidSamplerError: One is not as described.
    """

    base: float = field(number, low=0, high=1000, above=True)
    size: int = field(whole, low=1, high=1 << 20)
    steps: int = field(whole, low=1, high=_MOST)

    @classmethod
    def of(cls, data: dict[str, Any]) -> TeacherRule:
        """Read a rule as the file has it, {"shift": {"base": 6, "size": 2048}, "steps": 25}.

        Raises:
            PidSamplerError: It has another form.
        """
        shift = data.get("shift")
        if not isinstance(shift, dict) or data.keys() != {"shift", "steps"} or shift.keys() != {"base", "size"}:
            raise ConfigError(
                f"timesteps is {shown(data)}, expected a list of times, or a rule such as "
                '{"shift": {"base": 6, "size": 2048}, "steps": 25}'
            )
        return cls(steps=data["steps"], **shift)

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as the file has it."""
        return {"shift": {"base": self.base, "size": self.size}, "steps": self.steps}

    def at(self, size: tuple[int, int], steps: int | None = None) -> tuple[float, ...]:
        """Return the times for a result of `size`, (height, width) in pixels of the whole picture, tiled or not."""
        shift = timesteps.pid_shift(*size, base=self.base, size=self.size)
        return tuple(timesteps.teacher(self.steps if steps is None else steps, shift).tolist())

    def __str__(self) -> str:
        return f"teacher:{self.steps}, shift {self.base:g}*sqrt(sqrt(height*width)/{self.size})"


OwnTimes = tuple[float, ...] | TeacherRule


@moved.keywords(licence="license")
@dataclass(frozen=True, kw_only=True)
class Manifest:
    """The manifest's keys. None means that the file does not say, and the graph or PiD's default decides.

    Args:
        name: Short name of the model, for the record.
        description: One line.
        license: SPDX name or one line.
        prediction: "velocity", "x0" or "eps": what the network returns.
        timescale: The network takes t*timescale.
        timesteps: The list it was trained for, descending to 0, or a rule that makes one for each size.
        sampler: Scheduler that it runs by unless told otherwise, a spec without a list, such as "dpmpp-2m".
        guidance: Guidance scale, above 0, where a caption is given and nothing else is said.
        noise_frame: Form of a latent with noise of level s: "flow" (1-s)*z + s*eps, or "vp" sqrt(1-s^2)*z + s*eps.
        scale: Output pixels per input pixel, along a side.
        vae_factor: Input pixels per latent pixel, along a side.
        position_limit: Pixels a side beyond which the network scales pixel positions down, see
            `export.architecture.Architecture`; None where it scales none.
        drifts: Whether its colours are known to drift: results then get those of their input, unless told otherwise.
        network_bytes: Memory of the network for each pixel of the result. None: it is measured where it matters.
        encoder_bytes: Memory of the encoder for each pixel of the input. None: it is measured where it matters.
    """

    name: str | None = None
    description: str | None = None
    license: str | None = None
    prediction: str | None = None
    timescale: float | None = None
    timesteps: OwnTimes | None = None
    sampler: str | None = None
    guidance: float | None = None
    noise_frame: str | None = None
    scale: int | None = None
    vae_factor: int | None = None
    position_limit: int | None = None
    drifts: bool | None = None
    network_bytes: float | None = None
    encoder_bytes: float | None = None

    licence = moved.attribute("licence", "license")

    @property
    def own_timesteps(self) -> OwnTimes:
        """The list, or the rule of one, that the model runs over unless told otherwise: its own, or PiD's."""
        return self.timesteps or tuple(timesteps.pid().tolist())

    @property
    def listed_timesteps(self) -> OwnLike:
        """The list for pictures of any size; where there is a rule, a function that says so once it is called."""
        own = self.own_timesteps

        def refused(steps: int | None) -> tuple[float, ...]:
            raise ConfigError(
                f"the timesteps of {self.name or 'the model'} depend on the result's size ({own}): pass a list of one "
                f"shift, such as 'teacher(shift=6):{steps or 25}'"
            )

        return refused if isinstance(own, TeacherRule) else own

    @property
    def own_sampler(self) -> str:
        """The scheduler that the model runs by unless told otherwise: its own, or PiD's."""
        return self.sampler or "flow-sde"

    def to_dict(self) -> dict[str, Any]:
        """Return what the file is to say, by its keys."""
        stated = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
        if isinstance(self.timesteps, TeacherRule):
            stated["timesteps"] = self.timesteps.to_dict()
        return {"licence" if name == "license" else name: value for name, value in stated.items()}


def read_manifest(folder: Path) -> Manifest:
    """Read the manifest of a model folder; without one, all is None.

    Raises:
        PidSamplerError: The file is no JSON object, or a key is unknown or has a wrong value.
    """
    path = folder / NAME
    if not os.path.exists(path):  # that there is no such folder is said where it is loaded
        return Manifest()
    try:
        data = json.loads(read_text(path, expected="JSON"))
    except (ValueError, RecursionError) as error:
        raise FileError(f"{path} cannot be read as JSON: {error}") from error
    if not isinstance(data, dict):
        raise ModelError(f"{path} holds a {type(data).__name__}, expected an object with the model's facts")
    if {*_SPELLINGS} <= data.keys():
        raise ModelError(f"{path} has both {' and '.join(_SPELLINGS)}: leave one out")
    known = [key for f in fields(Manifest) for key in (_SPELLINGS if f.name == "license" else (f.name,))]
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in known:
            raise ModelError(f"{path}: {unknown_name('key', key, known=known)}")
        values["license" if key in _SPELLINGS else key] = _checked(path, key, value)
    return Manifest(**values)


def _checked(path: Path, key: str, value: Any) -> Any:
    if key == "timesteps":
        try:
            return TeacherRule.of(value) if isinstance(value, dict) else tuple(timesteps.custom(value).tolist())
        except PidSamplerError as error:
            raise ModelError(f"{path}: {error}") from error
    expected, accept = _RULES[key]
    if not accept(value):
        raise ModelError(f"{path}: {key} is {value!r}, expected {expected}")
    return value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_count(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 1


def _is_sampler(value: Any) -> bool:
    """Whether it is a scheduler's name and options: no file, which would be run, no list, and no endless work."""
    if not isinstance(value, str) or names_file(value):
        return False
    try:
        spec = Spec.parse(value)
        if spec.list is not None or any(n > _MOST for n in spec.options.values() if not isinstance(n, str)):
            return False
        as_scheduler(value)
    except PidSamplerError:
        return False
    return True


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "name": ("a text", _is_text),
    "description": ("a text", _is_text),
    **dict.fromkeys(_SPELLINGS, ("a text", _is_text)),
    "prediction": (f"one of {', '.join(PREDICTIONS)}", lambda v: v in PREDICTIONS),
    "timescale": ("a number above 0", _is_positive),
    "sampler": ("a scheduler's name and options, such as 'dpmpp-2m'", _is_sampler),
    "guidance": ("a number above 0", _is_positive),
    "noise_frame": (f"one of {', '.join(FRAMES)}", lambda v: v in FRAMES),
    "scale": ("a whole number from 1", _is_count),
    "vae_factor": ("a whole number from 1", _is_count),
    "position_limit": ("a whole number from 1", _is_count),
    "drifts": ("true or false", lambda v: isinstance(v, bool)),
    "network_bytes": ("a number above 0", _is_positive),
    "encoder_bytes": ("a number above 0", _is_positive),
}
