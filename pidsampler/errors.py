"""The one exception of the package, and the two sentences that many errors end with."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


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
