"""pidsampler.json: what a model folder states beyond its graphs' names, types and shapes."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from .. import moved, timesteps
from ..errors import FileError, ModelError, PidSamplerError, unknown_name
from ..io.files import read_text
from ..table import PREDICTIONS

NAME = "pidsampler.json"
FRAMES = ("flow", "vp")
_SPELLINGS = ("licence", "license")  # of one key


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
        timesteps: The list it was trained for, descending to 0.
        noise_frame: Form of a latent with noise of level s: "flow" (1-s)*z + s*eps, or "vp" sqrt(1-s^2)*z + s*eps.
        scale: Output pixels per input pixel, along a side.
        vae_factor: Input pixels per latent pixel, along a side.
        drifts: Whether its colours are known to drift: results then get those of their input, unless told otherwise.
        network_bytes: Memory of the network for each pixel of the result. None: it is measured where it matters.
        encoder_bytes: Memory of the encoder for each pixel of the input. None: it is measured where it matters.
    """

    name: str | None = None
    description: str | None = None
    license: str | None = None
    prediction: str | None = None
    timescale: float | None = None
    timesteps: tuple[float, ...] | None = None
    noise_frame: str | None = None
    scale: int | None = None
    vae_factor: int | None = None
    drifts: bool | None = None
    network_bytes: float | None = None
    encoder_bytes: float | None = None

    licence = moved.attribute("licence", "license")

    @property
    def own_timesteps(self) -> tuple[float, ...]:
        """The list that the model runs over unless told otherwise: its own, or PiD's."""
        return self.timesteps or tuple(timesteps.pid().tolist())

    def to_dict(self) -> dict[str, Any]:
        """Return what the file is to say, by its keys."""
        stated = {f.name: value for f in fields(self) if (value := getattr(self, f.name)) is not None}
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
            return tuple(timesteps.custom(value).tolist())
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


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < float("inf")


_RULES: dict[str, tuple[str, Callable[[Any], bool]]] = {
    "name": ("a text", _is_text),
    "description": ("a text", _is_text),
    **dict.fromkeys(_SPELLINGS, ("a text", _is_text)),
    "prediction": (f"one of {', '.join(PREDICTIONS)}", lambda v: v in PREDICTIONS),
    "timescale": ("a number above 0", _is_positive),
    "noise_frame": (f"one of {', '.join(FRAMES)}", lambda v: v in FRAMES),
    "scale": ("a whole number from 1", _is_count),
    "vae_factor": ("a whole number from 1", _is_count),
    "drifts": ("true or false", lambda v: isinstance(v, bool)),
    "network_bytes": ("a number above 0", _is_positive),
    "encoder_bytes": ("a number above 0", _is_positive),
}
