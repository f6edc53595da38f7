"""JSON and TOML of strangers: bounded before they are parsed, and plain values of one meaning afterwards."""

from __future__ import annotations

import json
import math
import re
import tomllib
from collections.abc import Callable
from itertools import accumulate
from pathlib import Path
from typing import Any

from ..errors import ConfigError, FileError, PidSamplerError
from ..values import file_path, shown, whole, word
from .files import MOST_TEXT, read_text

_DEPTH = 32  # lists and objects within one another
_VALUES = 1_000_000
_MOST_INT = 2**64 - 1  # a seed's
_DIGITS = 1000
# In a text that ends within a string too, so that a search never goes back to try again.
_JSON_STRING = re.compile(r'"[^"\\]*+(?:\\.[^"\\]*+)*+(?:"|\\?\Z)', re.DOTALL)
_NO_BRACKET = re.compile(r"[^][{}]+")


def parse_json(text: str, *, expected: str, most_values: int = _VALUES, most_depth: int = _DEPTH) -> Any:
    """Return what a text in JSON holds: dicts, lists, texts, True, False, None, finite numbers.

    Args:
        text: The text; a byte order mark before it is skipped.
        expected: What it should be, for the error, such as "a table in JSON".
        most_values: Values that it may have; what could be more is not parsed.
        most_depth: Lists and objects that may lie within one another; a text of more is not parsed.

    Raises:
        PidSamplerError: The text is no JSON, is larger or deeper, has a name twice in an object, or holds NaN,
            infinity, a whole number beyond +-(2^64-1), or half a surrogate pair.
    """
    text, expected = word("text", text).removeprefix("\ufeff"), word("expected", expected)
    most_values, most_depth = whole("most_values", most_values, low=1), whole("most_depth", most_depth, low=1)
    if sum(map(text.count, ",[{")) > most_values:  # each begins a value at most, and the first has none
        raise ConfigError(f"not {expected}: it has more than {most_values} values")
    brackets = _NO_BRACKET.sub("", _JSON_STRING.sub("", text))
    if max(accumulate(1 if c in "[{" else -1 for c in brackets), default=0) > most_depth:
        raise ConfigError(f"not {expected}: it has more than {most_depth} lists or objects within one another")
    return _parsed(lambda: json.loads(text, object_pairs_hook=_named, parse_int=_int), expected, most_depth)


def parse_toml(text: str, *, expected: str, most_depth: int = _DEPTH) -> dict[str, Any]:
    """Return what a text in TOML holds, of the same kinds as `parse_json`; dates and times are refused.

    Args:
        text: The text.
        expected: What it should be, for the error, such as "a study in TOML".
        most_depth: Lists and tables that may lie within one another.

    Raises:
        PidSamplerError: The text is no TOML, or breaks a rule of `parse_json`.
    """
    text, expected = word("text", text), word("expected", expected)
    most_depth = whole("most_depth", most_depth, low=1)
    data: dict[str, Any] = _parsed(lambda: tomllib.loads(text), expected, most_depth)
    return data


def read_json(path: Path, *, expected: str, most: int = MOST_TEXT) -> Any:
    """Return what a file in JSON holds, see `parse_json`.

    Args:
        path: The file.
        expected: What it should be, for the error, such as "a table in JSON".
        most: Bytes that it may have.

    Raises:
        PidSamplerError: The file cannot be read, is larger, or breaks a rule of `parse_json`.
    """
    path = file_path("path", path)
    text = read_text(path, expected=expected, most=most)
    try:
        return parse_json(text, expected=expected)
    except PidSamplerError as error:
        raise FileError(f"{path}: {error}") from error


def _parsed(parse: Callable[[], Any], expected: str, most_depth: int) -> Any:
    try:
        data = parse()
        _check(data, most_depth)
    except (ValueError, RecursionError) as error:  # ConfigError is a ValueError
        raise ConfigError(f"not {expected}: {error}") from error
    return data


def _int(digits: str) -> int:
    if len(digits) > _DIGITS:  # int() would take hours over millions, where the user lifted Python's own limit
        raise ConfigError(f"it holds a whole number of {len(digits)} digits, expected up to 64 bits")
    return int(digits)


def _named(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ConfigError(f"it has the name {shown(name)} twice: leave one out")
        found[name] = value
    return found


def _check(data: Any, most_depth: int) -> None:
    level, depth = [data], 0
    while level:
        inner: list[Any] = []
        for value in level:
            if isinstance(value, dict):
                inner += [*value, *value.values()]
            elif isinstance(value, list):
                inner += value
            else:
                _check_plain(value)
        level, depth = inner, depth + 1
        if depth > most_depth + 1:
            raise ConfigError(f"it has more than {most_depth} lists or objects within one another")


def _check_plain(value: Any) -> None:
    if isinstance(value, str):
        if not value.isascii() and any("\ud800" <= c <= "\udfff" for c in value):
            raise ConfigError(f"it holds {shown(value)}, which is no text of Unicode")
    elif isinstance(value, int):
        if abs(value) > _MOST_INT:
            raise ConfigError(f"it holds a whole number of {value.bit_length()} bits, expected up to 64")
    elif isinstance(value, float):
        if not math.isfinite(value):
            raise ConfigError(f"it holds {value}, expected finite numbers")
    elif value is not None:
        raise ConfigError(f"it holds {shown(value)}, expected texts, numbers, lists and tables")
