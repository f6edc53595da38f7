"""The errors of the package, and the import of optional packages that raises one of them."""

from __future__ import annotations

import difflib
import importlib
import unicodedata
from collections.abc import Iterable
from types import ModuleType


def printable(text: str) -> str:
    """Return a text in which nothing controls a terminal: line breaks, escapes and the like as \\n, \\x1b, \\u202e.

    Letters of all scripts and spaces stay.
    """
    if text.isprintable():
        return text
    shown = (c if c.isprintable() or unicodedata.category(c) == "Zs" else ascii(c)[1:-1] for c in text)
    return "".join(shown)


class PidSamplerError(Exception):
    """The base of every error that a user can cause.

    The message names the value found, what was expected, and what to pass instead, in one line.
    """


class ConfigError(PidSamplerError, ValueError):
    """An argument, option, name or setting that is not as described."""


class FileError(PidSamplerError, OSError):
    """A file that cannot be read, is not what it should be, exists already, or cannot be written."""


class ModelError(PidSamplerError):
    """A model that breaks its contract, or whose output is of no use, such as NaN."""


class DeviceError(PidSamplerError, RuntimeError):
    """A device that was asked for and cannot be had."""


class MissingDependencyError(PidSamplerError, ImportError):
    """An optional package that is not installed; the message names the extra that brings it."""


class OutOfMemoryError(PidSamplerError, MemoryError):
    """The device has no memory for what was to be computed: a smaller picture, or tile, may fit."""


class PidSamplerWarning(UserWarning):
    """What the package warns of: a result that may not be what was meant."""


def unknown_name(kind: str, name: str, *, known: Iterable[str]) -> ConfigError:
    """Return the error for a name that is not among `known`, with the three nearest suggested."""
    names = sorted(known)
    *others, last = [repr(near) for near in difflib.get_close_matches(str(name), names, n=3)] or [""]
    hint = f"did you mean {', '.join(others)}{' or ' if others else ''}{last}? " if last else ""
    return ConfigError(f"unknown {kind} {name!r}: {hint}known are {', '.join(names)}")


def missing_extra(module: str, extra: str) -> MissingDependencyError:
    """Return the error for an optional package that is not installed; it names the extra to install."""
    return MissingDependencyError(f"{module} is not installed: pip install 'pidsampler[{extra}]'")


def optional(module: str, package: str, *, extra: str = "study") -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: Such as "scipy.special".
        package: What to install for it, such as "scipy".
        extra: The extra of pidsampler that brings it.

    Raises:
        PidSamplerError: The package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise missing_extra(package, extra) from error


def reason(error: OSError) -> str:
    """Return what the system says of an error, without its number and path."""
    return error.strerror or str(error)
