"""The errors of the package, and the import of optional packages that raises one of them."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from numbers import Integral, Real
from types import ModuleType
from typing import Any


class PidSamplerError(Exception):
    """The base of every error that a user can cause.

    The message names the value found, what was expected, and what to pass instead, in one line.
    """


class OutOfMemoryError(PidSamplerError):
    """The device has no memory for what was to be computed: a smaller picture, or tile, may fit."""


def unknown_name(kind: str, name: str, known: Iterable[str]) -> PidSamplerError:
    """Return the error for a name that is not among `known`, with the nearest one suggested."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return PidSamplerError(f"unknown {kind} {name!r}: {hint}known are {', '.join(names)}")


def missing_extra(module: str, extra: str) -> PidSamplerError:
    """Return the error for an optional package that is not installed; it names the extra to install."""
    return PidSamplerError(f"{module} is not installed: pip install 'pidsampler[{extra}]'")


def optional(module: str, package: str, extra: str = "study") -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: Such as "scipy.special".
        package: What to install for it, such as "scipy".
        extra: The extra of pidsampler that brings it.

    Raises:
        PidSamplerError: It is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError:
        raise missing_extra(package, extra) from None


def check_options(name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Check that `function`, known to the user as `name`, has the options after its first argument, of such types.

    Raises:
        PidSamplerError: It has not; the message lists those it takes, or says what the value should be.
    """
    _, *known = inspect.signature(function).parameters.values()
    kinds = {p.name: str(getattr(p.annotation, "__name__", p.annotation)).removesuffix(" | None") for p in known}
    for option, value in options.items():
        if option not in kinds:
            takes = f"it takes {', '.join(kinds)}" if kinds else "it takes none"
            raise PidSamplerError(f"{name} has no option {option!r}: {takes}")
        kind, words = _KINDS.get(kinds[option], (object, ""))
        if not isinstance(value, kind):
            raise PidSamplerError(f"option {option}={value!r} of {name} is not {words}")


_KINDS: dict[str, tuple[type, str]] = {
    "int": (Integral, "a whole number"),
    "float": (Real, "a number"),
    "str": (str, "a word"),
}
