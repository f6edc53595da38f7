"""The settings of a study's cell: their names, what they are unless the study says, and what they may be."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ..errors import ConfigError
from ..values import mapping, shown

# None of a scheduler, its timesteps, steps and eta is the model's own.
SETTINGS: dict[str, Any] = {
    "model": "tiny",
    "scheduler": None,
    "timesteps": None,
    "steps": None,
    "eta": None,
    "noise": "independent",
    "degrade_sigma": 0.0,
    "images": (),
    "seeds": 1,
}


def whole_settings(changed: Mapping[str, Any]) -> dict[str, Any]:
    """Return every setting of a cell: those that it changes, and else what `SETTINGS` says.

    Raises:
        PidSamplerError: A setting is not as described.
    """
    settings = {**SETTINGS, **mapping("changed", changed, words="settings by name")}
    for name, value in settings.items():
        accepts, expected = _ACCEPTS[name]
        if not accepts(value):
            raise ConfigError(f"the setting {name} is {shown(value)}, expected {expected}")
    return settings


def _is(value: Any, *kinds: type) -> bool:
    if isinstance(value, int):
        return int in kinds and not isinstance(value, bool) and abs(value) < 1 << 64
    return isinstance(value, kinds)


def _all_are(value: Any, *kinds: type) -> bool:
    return isinstance(value, list | tuple) and all(_is(v, *kinds) for v in value)


_ACCEPTS: dict[str, tuple[Callable[[Any], bool], str]] = {
    "model": (lambda v: _is(v, str), "a bundled name, a folder or a flow's name"),
    "scheduler": (lambda v: v is None or _is(v, str), "a spec such as 'heun'"),
    "timesteps": (
        lambda v: v is None or _is(v, str) or _all_are(v, int, float),
        "a list's name, 'FILE.py:NAME', '@FILE' or times",
    ),
    "steps": (lambda v: v is None or _is(v, int), "a whole number"),
    "eta": (lambda v: v is None or _is(v, int, float), "a number"),
    "noise": (lambda v: _is(v, str), "the name of a kind of noise"),
    "degrade_sigma": (lambda v: _is(v, int, float), "a number in 0..1"),
    "images": (lambda v: _is(v, str) or _all_are(v, str), "a pattern such as 'photos/*.png', or a list of them"),
    "seeds": (lambda v: 0 < v <= 1e5 if _is(v, int) else _all_are(v, int) and len(v) > 0, "1..100000, or a list"),
}
