"""pidsampler.json: what a model folder states beyond its graphs' names, types and shapes."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from functools import partial
from pathlib import Path
from typing import Any

import attrs

from .. import moved, timesteps
from ..errors import ConfigError, FileError, ModelError, PidSamplerError, printable, unknown_name
from ..io.files import read_text
from ..schedulers.registry import OwnLike, as_scheduler
from ..schedulers.spec import Spec, names_file
from ..table import PREDICTIONS
from ..values import field, file_path, flag, instance, number, shown, whole, word, words

NAME = "pidsampler.json"
TABLES = "tables"  # folder of the step tables that a model brings along
FRAMES = ("flow", "vp")
_MOST = 1000  # steps that a file may ask for
_MOST_BYTES = 1_000_000
_LARGEST_OPTION = 100  # of a sampler, such as repeats
_LONGEST_TEXT, _LONGEST_KEY = 4000, 100
_MOST_TABLES = 100
_TABLE = re.compile(r"[\w-][\w.-]{0,99}", re.ASCII)
_SPELLINGS = ("licence", "license")  # of one key


@attrs.frozen(kw_only=True)
class TeacherRule:
    """Timesteps as a rule of the result's size: `timesteps.teacher`, with the shift of `timesteps.pid_shift`.

    Args:
        base: Shift at a square of `size` pixels a side, above 0 and at most 1000.
        size: Pixels, from 1.
        steps: Number of steps, 1..1000, unless told otherwise.

    Raises:
        PidSamplerError: A value is not as described.
    """

    base: float = field(number, low=0, high=1000, above=True)
    size: int = field(whole, low=1, high=1 << 20)
    steps: int = field(whole, low=1, high=_MOST)

    @classmethod
    def of(cls, data: dict[str, Any]) -> TeacherRule:
        """Read a rule as the file has it, {"shift": {"base": 6, "size": 2048}, "steps": 25}.

        Raises:
            PidSamplerError: The rule has another form.
        """
        shift = data.get("shift")
        if not isinstance(shift, dict) or data.keys() != {"shift", "steps"} or shift.keys() != {"base", "size"}:
            raise ConfigError(
                f"timesteps is {shown(data)}, expected a list of times, or a rule such as "
                '{"shift": {"base": 6, "size": 2048}, "steps": 25}'
            )
        try:
            return cls(steps=data["steps"], **shift)
        except ConfigError as error:
            raise ConfigError(
                f"timesteps is {shown(data)}, expected a base above 0 and at most 1000, a size in 1..2^20, and "
                f"1..{_MOST} steps"
            ) from error

    def to_dict(self) -> dict[str, Any]:
        """Return the rule as the file has it."""
        return {"shift": {"base": self.base, "size": self.size}, "steps": self.steps}

    def at(self, size: tuple[int, int] | None, steps: int | None = None) -> tuple[float, ...]:
        """Return the times for a result of `size`, (height, width) in pixels of the whole picture, tiled or not.

        Raises:
            PidSamplerError: The size is None: any.
        """
        if size is None:
            raise ConfigError("the model's timesteps depend on the result's size: give one size, or timesteps")
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
        origin: Where the weights are from, such as "nvidia/PiD@" and a commit. It goes into the record.
        stored_caption: SHA-256, in hex, of the float32 values of the caption's embedding that the network holds; None
            where it holds zeros, or is given one. It decides nothing, and goes into the record.
        position_limit: Pixels a side beyond which the network scales pixel positions down, see
            `export.architecture.Architecture`; None where it scales none.
        drifts: Whether its colors are known to drift: results then get those of their input, unless told otherwise.
        network_bytes: Memory of the network for each pixel of the result. None: it is measured where it matters.
        encoder_bytes: Memory of the encoder for each pixel of the input. None: it is measured where it matters.
        tables: Names of the model's own step tables: "@NAME" is tables/NAME.json of the folder, see `own_tables`.
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
    origin: str | None = None
    stored_caption: str | None = None
    position_limit: int | None = None
    drifts: bool | None = None
    network_bytes: float | None = None
    encoder_bytes: float | None = None
    tables: tuple[str, ...] | None = None

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

    It may be a stranger's: the file has at most 1 MB, and each key has a kind and a range. Of a key that occurs twice
    the last value counts, as JSON's readers have it. What would control a terminal becomes an escape, see
    `errors.printable`.

    Raises:
        PidSamplerError: The file cannot be read, is no JSON object, or a key is unknown or has a wrong value.
    """
    path = file_path("folder", folder) / NAME
    if not os.path.lexists(path):  # that there is no such folder is said where it is loaded
        return Manifest()
    text = read_text(path, expected="JSON", most=_MOST_BYTES)
    try:
        return _manifest(path, json.loads(text))
    except PidSamplerError:
        raise
    except RecursionError as error:
        raise FileError(f"{path} cannot be read as JSON: it is nested too deeply") from error
    except ValueError as error:
        raise FileError(f"{path} cannot be read as JSON: {error}") from error


def own_tables(folder: Path, manifest: Manifest) -> dict[str, Path]:
    """Return the files of a model's own step tables by name, whether or not they are there."""
    return {name: folder / TABLES / f"{name}.json" for name in manifest.tables or ()}


def _manifest(path: Path, data: Any) -> Manifest:
    if not isinstance(data, dict):
        raise ModelError(f"{path} holds a {type(data).__name__}, expected an object with the model's facts")
    if {*_SPELLINGS} <= data.keys():
        raise ModelError(f"{path} has both {' and '.join(_SPELLINGS)}: leave one out")
    values: dict[str, Any] = {}
    for key, value in data.items():
        if key not in _RULES:
            raise ModelError(f"{path}: {unknown_name('key', key[:_LONGEST_KEY], known=_RULES)}")
        expected, check = _RULES[key]
        try:
            values["license" if key in _SPELLINGS else key] = check(key, value)
        except PidSamplerError as error:  # without "key=value", which the command line would say as the user's option
            why = f"{key} is {shown(value)}, expected {expected}" if expected else error
            raise ModelError(f"{path}: {why}") from error
    made = Manifest(**values)
    if made.sampler is not None:
        own = made.own_timesteps
        try:
            as_scheduler(made.sampler, own=own.at((own.size, own.size)) if isinstance(own, TeacherRule) else own)
        except PidSamplerError as error:
            raise ModelError(
                f"{path}: sampler is {made.sampler!r}, expected {_SAMPLER}, that suits the timesteps"
            ) from error
    return made


def _text(name: str, value: object) -> str:
    """A text without what would control a terminal, and without halves of characters, which no file can hold."""
    text = word(name, value)
    if len(text) > _LONGEST_TEXT:
        raise ConfigError(f"{name} is too long")
    return printable(text)


def _digest(name: str, value: object) -> str:
    text = word(name, value)
    if re.fullmatch("[0-9a-f]{64}", text) is None:
        raise ConfigError(f"{name} is no SHA-256")
    return text


def _times(name: str, value: object) -> OwnTimes:
    if isinstance(value, dict):
        return TeacherRule.of(value)
    if not isinstance(value, list) or len(value) > _MOST + 1:
        raise ConfigError(f"{name} is {shown(value)}, expected a list of at most {_MOST + 1} times, or a rule")
    return tuple(timesteps.custom(value).tolist())


def _sampler(name: str, value: object) -> str:
    """A scheduler's name and options: no file, which would be run, no list, and no endless work."""
    if names_file(text := word(name, value)):
        raise ConfigError(f"{name} names a file")
    spec = Spec.parse(text)
    numbers = (n for n in spec.options.values() if isinstance(n, int | float))
    if spec.list is not None or any(n > _LARGEST_OPTION for n in numbers):
        raise ConfigError(f"{name} has a list, or a number above {_LARGEST_OPTION}")
    return text


def _tables(name: str, value: object) -> tuple[str, ...]:
    """Names that are neither paths nor hidden, so that no file outside of the folder is read."""
    names = words(name, instance(name, value, kind=list, words="a list"))
    if len({*names}) < len(names) or len(names) > _MOST_TABLES or not all(map(_TABLE.fullmatch, names)):
        raise ConfigError(f"{name} are no names")
    return names


_SAMPLER = "a scheduler's name and options, such as 'dpmpp-2m'"
_TEXT = (f"a text of at most {_LONGEST_TEXT} characters", _text)
_BYTES = ("a number above 0 and at most 1e9", partial(number, low=0, high=1e9, above=True))
# Of each key, what is expected and what checks it; "" where that says it itself.
_RULES: dict[str, tuple[str, Callable[[str, object], Any]]] = {
    "name": _TEXT,
    "description": _TEXT,
    **dict.fromkeys(_SPELLINGS, _TEXT),
    "prediction": (f"one of {', '.join(PREDICTIONS)}", partial(word, choices=PREDICTIONS)),
    "timescale": ("a number above 0 and at most 1e6", partial(number, low=0, high=1e6, above=True)),
    "timesteps": ("", _times),
    "sampler": (_SAMPLER, _sampler),
    "guidance": ("a number above 0 and at most 1000", partial(number, low=0, high=1000, above=True)),
    "noise_frame": (f"one of {', '.join(FRAMES)}", partial(word, choices=FRAMES)),
    "scale": ("a whole number in 1..64", partial(whole, low=1, high=64)),
    "vae_factor": ("a whole number in 1..256", partial(whole, low=1, high=256)),
    "origin": _TEXT,
    "stored_caption": ("64 hex digits, a SHA-256", _digest),
    "position_limit": ("a whole number in 1..2^20", partial(whole, low=1, high=1 << 20)),
    "drifts": ("true or false", flag),
    "network_bytes": _BYTES,
    "encoder_bytes": _BYTES,
    "tables": (
        f"a list of at most {_MOST_TABLES} names, each once, of letters, digits and ._- that begin with no dot",
        _tables,
    ),
}
