"""The errors of the package, and the import of optional packages that raises one of them."""

from __future__ import annotations

import difflib
import importlib
import inspect
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any


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


def unknown_name(kind: str, name: str, known: Iterable[str]) -> ConfigError:
    """Return the error for a name that is not among `known`, with the nearest one suggested."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return ConfigError(f"unknown {kind} {name!r}: {hint}known are {', '.join(names)}")


def missing_extra(module: str, extra: str) -> MissingDependencyError:
    """Return the error for an optional package that is not installed; it names the extra to install."""
    return MissingDependencyError(f"{module} is not installed: pip install 'pidsampler[{extra}]'")


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
    except ImportError as error:
        raise missing_extra(package, extra) from error


def check_options(name: str, function: Callable[..., Any], options: Mapping[str, Any]) -> None:
    """Check that `function`, known to the user as `name`, has such options after its first argument.

    Raises:
        PidSamplerError: It has not; the message lists those it takes.
    """
    _, *known = inspect.signature(function).parameters
    for option in options:
        if option not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise ConfigError(f"{name} has no option {option!r}: {takes}")
