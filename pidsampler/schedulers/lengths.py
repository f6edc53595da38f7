"""Lists of another length: fewer of their times, or times between them."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any, NoReturn

from .. import timesteps as lists
from ..errors import ConfigError, PidSamplerError
from ..timesteps import Times
from ..values import whole

_LONGEST = 33  # times that an error still lists


def has_no_length(function: Callable[..., Any]) -> bool:
    """Return whether a list's function needs a number of steps."""
    first = next(iter(inspect.signature(function).parameters.values()), None)
    return first is not None and first.default is first.empty


def one_of(text: str, own: int | None, *, steps: int | None) -> int | None:
    """Return the number of steps that a list's text has, `own`, or that was given beside it.

    Raises:
        PidSamplerError: There are both.
    """
    if own is not None and steps is not None:
        raise ConfigError(f"{text!r} has a number of steps and steps={steps} was given too: use one of them")
    return steps if own is None else own


def of_steps(times: Times, steps: int, *, stretch: bool, to: str = "") -> Times:
    """Return a list of so many steps: a `timesteps.subset`, or with `stretch` a `resample` where it has fewer.

    Args:
        times: The list.
        steps: Number of steps.
        stretch: Whether it may be resampled to more steps than it has.
        to: The sampler that it was given with, without a list, for the error.

    Raises:
        PidSamplerError: The list cannot have so many steps.
    """
    if whole("steps", steps) < len(times):
        return lists.subset(times, steps)
    return lists.resample(times, steps) if stretch else _too_many(times, steps, to)


def _too_many(times: Times, steps: int, to: str) -> NoReturn:
    """Say by what list, given to what sampler, a student could make more steps than it was trained for."""
    try:
        more = _as_text(lists.resample(times, steps))
    except PidSamplerError:  # it starts at 1, or has one step
        lists.subset(times, steps)  # raises
        raise
    n = len(times) - 1
    to = f" with the sampler {to!r}" if to else ""
    raise ConfigError(
        f"steps={steps} would repeat times of a list of {n}: pass 1..{n}, or for that list resampled to "
        f"{steps} steps pass timesteps={more!r}{to}"
    )


def _as_text(times: Times) -> str:
    """A list as it is typed: short, or by a name where it is long."""
    if len(times) > _LONGEST:
        return f"log_snr(t_max={float(times[0])!r},t_min={float(times[-2])!r}):{len(times) - 1}"
    rounded = [float(f"{t:.4g}") for t in times]
    return ",".join(map(_shortest, rounded if len(set(rounded)) == len(times) else times.tolist()))


def _shortest(t: float) -> str:
    return repr(t).removesuffix(".0")
