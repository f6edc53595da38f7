"""Study files: TOML with the keys of a study and its parts."""

from __future__ import annotations

from pathlib import Path

import attrs

from ..errors import ConfigError, FileError, PidSamplerError, unknown_name
from ..io.data import parse_toml
from ..io.files import read_text
from ..values import file_path, shown
from .parts import ReportOptions, Truth
from .study import Study

_MOST_BYTES = 1_000_000
_PARTS = (Truth, ReportOptions)
_KINDS: dict[str, tuple[tuple[type, ...], str]] = {
    "preset": ((dict,), "a table of settings"),
    "axes": ((dict,), "a table of lists"),
    "cells": ((str, list), "'grid', 'one-at-a-time' or a list of settings"),
    "title": ((str,), "a text"),
    "question": ((str,), "a text"),
    "flows": ((dict,), "a table of flows"),
    "measures": ((list,), "a list of names"),
    "converged": ((str,), "a scheduler's spec"),
    "reduce": ((bool,), "true or false"),
    "references": ((str,), "a folder"),
    "pictures": ((str,), "'first' or 'all'"),
    "album": ((int, float), "a number of megabytes"),
}


def read_study(path: str | Path) -> Study:
    """Read a study file: TOML whose keys are the arguments of `Study`, `Truth` and `ReportOptions`.

    Paths in it are relative to its folder.

    Args:
        path: File to read.

    Returns:
        The study.

    Raises:
        PidSamplerError: The file cannot be read, is larger than 1 MB, or is no study.
    """
    path = file_path("path", path)
    text = read_text(path, expected="a study in TOML", most=_MOST_BYTES)
    try:
        data = parse_toml(text, expected="a study in TOML")
    except PidSamplerError as error:
        raise FileError(f"{path}: {error}") from error
    for key, value in data.items():
        if key not in _KINDS:
            raise ConfigError(f"{path}: {unknown_name('key', key, known=_KINDS)}")
        kinds, words = _KINDS[key]
        if not isinstance(value, kinds) or isinstance(value, bool) != (key == "reduce"):
            raise ConfigError(f"{path}: {key} is {shown(value)}, expected {words}")
    try:
        data.setdefault("title", path.stem)
        truth, report = ({f.name: data.pop(f.name) for f in attrs.fields(part) if f.name in data} for part in _PARTS)
        return Study(**data, truth=Truth(**truth), report=ReportOptions(**report), folder=path.parent, file=text)
    except PidSamplerError as error:
        raise ConfigError(f"{path}: {error}") from error
