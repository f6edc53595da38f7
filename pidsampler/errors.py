"""The one exception of the package, and the two sentences that many errors end with."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Iterable
from typing import Any


class PidSamplerError(Exception):
    """The base of every error that a user can cause.

    The message names the value found, what was expected, and what to pass instead, in one line.
    """


def unknown_name(kind: str, name: str, known: Iterable[str]) -> PidSamplerError:
    """Return the error for a name that is not among `known`, with the nearest one suggested."""
    names = sorted(known)
    near = difflib.get_close_matches(name, names, n=1)
    hint = f"did you mean {near[0]!r}? " if near else ""
    return PidSamplerError(f"unknown {kind} {name!r}: {hint}known are {', '.join(names)}")


def missing_extra(module: str, extra: str) -> PidSamplerError:
    """Return the error for an optional package that is not installed; it names the extra to install."""
    return PidSamplerError(f"{module} is not installed: pip install 'pidsampler[{extra}]'")


def check_options(name: str, function: Callable[..., Any], options: Iterable[str]) -> None:
    """Check that `function`, known to the user as `name`, has the options after its first argument.

    Raises:
        PidSamplerError: It has not; the message lists those it takes.
    """
    known = list(inspect.signature(function).parameters)[1:]
    for option in options:
        if option not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise PidSamplerError(f"{name} has no option {option!r}: {takes}")
