"""Kinds and ranges of arguments, by one mechanism: functions that check a value, and attrs fields that call them.

Each check returns the value in its plain Python type, or raises a ConfigError with the value found, what was expected,
and the parameter's name. True and False are no numbers, and NaN is never in a range.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from pathlib import Path
from typing import Any, TypeVar

import attrs
import numpy as np

from .errors import ConfigError, unknown_name

T = TypeVar("T")
F = TypeVar("F", bound=Callable[..., Any])

_LONGEST = 200  # characters of a value in a message
_LARGEST = 2**64 - 1  # of whole numbers without an end of their own: of more digits, an array or a text fails
_MOST_ELEMENTS = 1 << 40  # of an array: no memory holds so many, and numpy has other errors for more
_OF_CHECKS = ("low", "high", "above", "below", "choices", "kind", "words", "takes")  # their keywords


def whole(name: str, value: object, *, low: int | None = None, high: int | None = None) -> int:
    """Return a whole number in low..high, both included; None leaves an end open, up to +-(2^64-1)."""
    number = value if type(value) is int else None  # asking an abstract class takes ten times as long
    if number is None and isinstance(value, Integral) and not isinstance(value, bool):
        number = int(value)
    if number is not None and number > _LARGEST:
        high = _LARGEST if high is None else high
    elif number is not None and number < -_LARGEST:
        low = -_LARGEST if low is None else low
    if number is None or (low is not None and number < low) or (high is not None and number > high):
        raise ConfigError(f"{name}={shown(value)} must be a whole number{_within(low, high)}")
    return number


def number(
    name: str,
    value: object,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: bool = False,
    below: bool = False,
) -> float:
    """Return a finite number in low..high; `above` leaves out low itself, `below` leaves out high."""
    found = value if type(value) is float else math.nan
    if type(value) is not float and isinstance(value, Real) and not isinstance(value, bool):
        try:
            found = float(value)
        except OverflowError:  # a whole number of more than 308 digits
            found = math.inf
    inside = (low < found if above else low <= found) and (found < high if below else found <= high)
    if not inside or not math.isfinite(found):
        raise ConfigError(f"{name}={shown(value)} must be a finite number{_between(low, high, above, below)}")
    return found


def word(name: str, value: object, *, choices: Iterable[str] | None = None) -> str:
    """Return a text, one of `choices` where those are given."""
    if not isinstance(value, str):
        raise ConfigError(f"{name}={shown(value)} must be a text")
    if choices is not None and value not in (known := list(choices)):
        raise unknown_name(name, value, known=known)
    return value


def flag(name: str, value: object) -> bool:
    """Return True or False."""
    if not isinstance(value, bool):
        raise ConfigError(f"{name}={shown(value)} must be True or False")
    return value


def instance(name: str, value: object, *, kind: type[T], words: str) -> T:
    """Return a value of a class; `words` say what was expected, such as "a Size"."""
    if not isinstance(value, kind):
        raise ConfigError(f"{name}={shown(value)} must be {words}")
    return value


def function(name: str, value: F, *, takes: str) -> F:
    """Return a function; `takes` are its arguments, such as "(run, m)"."""
    if not callable(value):
        raise ConfigError(f"{name}={shown(value)} must be a function {takes}")
    return value


def callback(name: str, value: F | None, *, takes: str) -> F | None:
    """Return a function, or None; `takes` are its arguments, such as "(run, m)"."""
    return None if value is None else function(name, value, takes=takes)


def array(name: str, value: object) -> Any:
    """Return an array of any backend: what has a shape and an element type."""
    if not isinstance(getattr(value, "shape", None), tuple) or not hasattr(value, "dtype"):
        raise ConfigError(f"{name}={shown(value)} must be an array")
    return value


def host_array(name: str, value: object) -> Any:
    """Return a numpy array in this machine's order of bytes, of anything that numpy makes one of."""
    try:
        made = np.asarray(value)
    except Exception as error:  # of lists of unequal lengths, or of what another library's object does
        raise ConfigError(f"{name} of type {type(value).__name__} cannot be made an array: {error}") from error
    return made.astype(made.dtype.newbyteorder("="), copy=False)


def items(name: str, value: object, *, words: str) -> tuple[Any, ...]:
    """Return what a list, tuple, array or other iterable holds; `words` say what was expected, such as "numbers"."""
    if isinstance(value, Iterable) and not isinstance(value, str | bytes):
        try:
            return tuple(value)
        except TypeError:  # an array without an axis
            pass
    raise ConfigError(f"{name}={shown(value)} must be a list of {words}")


def numbers(
    name: str,
    value: object,
    *,
    low: float = -math.inf,
    high: float = math.inf,
    above: bool = False,
    below: bool = False,
) -> tuple[float, ...]:
    """Return finite numbers, each as `number` returns it."""
    return tuple(
        number(name, found, low=low, high=high, above=above, below=below)
        for found in items(name, value, words="numbers")
    )


def wholes(name: str, value: object, *, low: int | None = None, high: int | None = None) -> tuple[int, ...]:
    """Return whole numbers, each as `whole` returns it."""
    return tuple(whole(name, found, low=low, high=high) for found in items(name, value, words="whole numbers"))


def shape(name: str, value: object, *, low: int = 1) -> tuple[int, ...]:
    """Return the sizes of an array, each of at least `low`; of more than 2^40 elements there is none."""
    sizes = wholes(name, value, low=low)
    if math.prod(sizes) > _MOST_ELEMENTS:
        raise ConfigError(f"{name}={shown(value)} is a shape of more than 2^40 elements")
    return sizes


def words(name: str, value: object) -> tuple[str, ...]:
    """Return texts."""
    return tuple(word(name, found) for found in items(name, value, words="texts"))


def mapping(name: str, value: object, *, words: str) -> dict[Any, Any]:
    """Return a copy of a mapping; `words` say what was expected, such as "settings by name"."""
    if not isinstance(value, Mapping):
        raise ConfigError(f"{name}={shown(value)} must be a mapping of {words}")
    return dict(value)


def pairs(name: str, value: object) -> tuple[tuple[Any, Any], ...]:
    """Return what a mapping holds, or a list of pairs."""
    if type(value) is dict or isinstance(value, Mapping):
        return tuple(value.items())
    found = items(name, value, words="pairs")
    if not all(isinstance(pair, tuple | list) and len(pair) == 2 for pair in found):
        raise ConfigError(f"{name}={shown(value)} must be a list of pairs")
    return tuple((first, second) for first, second in found)


def shown(value: object) -> str:
    """Return a value as a message shows it: its repr in one line, cut where it is long, or its kind without a repr."""
    try:
        text = " ".join(repr(value).split())
    except (ValueError, RecursionError):  # a whole number of more than 4300 digits; lists deep in one another
        return f"a {type(value).__name__} too large to show"
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def file_path(name: str, value: object) -> Path:
    """Return a path, from a text too."""
    if not isinstance(value, str | os.PathLike) or not isinstance(os.fspath(value), str):
        raise ConfigError(f"{name}={shown(value)} must be a path")
    if not os.fspath(value):
        raise ConfigError(f"{name}={value!r} is empty, expected a path")
    return Path(value)


def field(check: Callable[..., Any], *, optional: bool = False, **options: Any) -> Any:
    """Return an attrs field whose value goes through a check of this module, such as field(whole, low=1, default=2).

    Args:
        check: Called as check(name of the field, value), with those of the options that are its own, such as a range.
        optional: Let None pass.
        **options: Options of `attrs.field`, such as `default`, `kw_only` or `alias`; others are the check's.
    """
    own = {key: options.pop(key) for key in list(options) if key in _OF_CHECKS}

    def convert(value: Any, made: attrs.Attribute[Any]) -> Any:
        return None if optional and value is None else check(made.name, value, **own)

    # What the signature of the class shows.
    kind = own["kind"].__name__ if check is instance else check.__annotations__["return"]
    convert.__annotations__["value"] = f"{kind} | None" if optional else kind
    options["metadata"] = {"takes": expected(check, **own), **own, **options.get("metadata", {})}
    return attrs.field(converter=attrs.Converter(convert, takes_field=True), **options)


def expected(check: Callable[..., Any], **limits: Any) -> str:
    """Return in words what a check of this module takes, such as "a whole number in 1..3".

    Args:
        check: One of the checks; of others it is the kind that they return.
        **limits: The check's own options, such as a range.
    """
    if check in (whole, wholes):
        return (
            f"{'a whole number' if check is whole else 'whole numbers'}{_within(limits.get('low'), limits.get('high'))}"
        )
    if check in (number, numbers):
        low, high = limits.get("low", -math.inf), limits.get("high", math.inf)
        within = _between(low, high, limits.get("above", False), limits.get("below", False))
        return f"{'a number' if check is number else 'numbers'}{within}"
    if check is word and "choices" in limits:
        return f"one of {', '.join(limits['choices'])}"
    if check in (instance, items, mapping):
        return str(limits["words"])
    return {word: "a text", flag: "True or False"}.get(check, str(check.__annotations__["return"]))


def _within(low: int | None, high: int | None) -> str:
    if low is None:
        return "" if high is None else f" of at most {_power(high)}"
    return f" of at least {low}" if high is None else f" in {low}..{_power(high)}"


def _power(n: int) -> str:
    """2^64-1 as that."""
    bits = (n + 1).bit_length() - 1
    return f"2^{bits}-1" if bits > 16 and n + 1 == 1 << bits else str(n)


def _between(low: float, high: float, above: bool, below: bool) -> str:
    if low == -math.inf and high == math.inf:
        return ""
    if high == math.inf:
        return f" {'above' if above else 'from'} {low:g}"
    if low == -math.inf:
        return f" {'below' if below else 'up to'} {high:g}"
    return f" in {'(' if above else '['}{low:g}, {high:g}{')' if below else ']'}"
