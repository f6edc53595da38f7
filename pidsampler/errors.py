"""The errors of the package, and the import of optional packages that raises one of them."""

from __future__ import annotations

import difflib
import importlib
import re
import unicodedata
from collections.abc import Iterable
from types import ModuleType

_FEW = 20  # names that an error still lists
_LONGEST = 200  # characters of a name that it repeats


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

    The message names the value found, what was expected, and what to pass instead, in one line. Names in it may come
    from a stranger's file: what would control a terminal is shown as an escape, see `printable`.
    """

    def __str__(self) -> str:
        return printable(super().__str__())


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


def unknown_name(kind: str, name: str, *, known: Iterable[str], where: str | None = None) -> ConfigError:
    """Return the error for a name that is not among `known`, with the three nearest suggested.

    Case and the separators space, ".", "-" and "_" do not count in what is near.

    Args:
        kind: What an error calls such a thing, such as "scheduler".
        name: Name that was given.
        known: Names that there are; of several that differ by separators or case the first is suggested.
        where: What lists the names, where they are too many for an error, such as "list_schedulers()".
    """
    names, name = list(dict.fromkeys(known)), str(name)
    many = where is not None and len(names) > _FEW
    more = f" and {len(names) - _FEW} more" if len(names) > _FEW else ""
    listed = f"see {where}" if many else f"known are {', '.join(sorted(names)[:_FEW])}{more}"
    given = name if len(name) <= _LONGEST else f"{name[:_LONGEST]}..."
    return ConfigError(f"unknown {kind} {given!r}: {did_you_mean(name, known=names, any_near=many)}{listed}")


def did_you_mean(name: str, *, known: Iterable[str], any_near: bool = False) -> str:
    """Return the question whether one of the three nearest names was meant, with a space after it; "" without any.

    Args:
        name: Name that was given.
        known: As in `unknown_name`.
        any_near: Take names that have little in common too.
    """
    folded: dict[str, str] = {}
    for each in known:
        folded.setdefault(_folded(each), each)
    near = difflib.get_close_matches(_folded(name[:_LONGEST]), folded, n=3, cutoff=0.2 if any_near else 0.6)
    if not near:
        return ""
    *others, last = [repr(folded[word]) for word in near]
    return f"did you mean {', '.join(others)}{' or ' if others else ''}{last}? "


def _folded(name: str) -> str:
    return re.sub(r"[\s._-]", "", name).casefold()


def missing_extra(module: str, extra: str) -> MissingDependencyError:
    """Return the error for an optional package that is not installed; it names the extra to install.

    Args:
        module: Package that is missing.
        extra: Extra that brings it.
    """
    return MissingDependencyError(f"{module} is not installed: pip install 'pidsampler[{extra}]'")


def optional(module: str, package: str, *, extra: str = "study") -> ModuleType:
    """Import a module of an optional package.

    Args:
        module: Module to import, such as "scipy.special".
        package: Package to install for it, such as "scipy".
        extra: The extra of pidsampler that brings it.

    Returns:
        The module.

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
