"""Where to evaluate the network: descending lists of times t in [0, 1] that end in 0.

t is the noise level of the flow: x_t = (1 - t)*x0 + t*eps. A list of n + 1 times makes n steps. Every function
here returns a float64 array; `custom` checks a list of the user's own and changes no bit of it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import PidSamplerError, unknown_name

Times = NDArray[np.float64]
TimesLike = Sequence[float] | NDArray[Any]

_PID = (0.999, 0.866, 0.634, 0.342, 0.0)


def pid(steps: int = 4) -> Times:
    """Return the times that the PiD students were distilled with: [0.999, 0.866, 0.634, 0.342, 0].

    Args:
        steps: 1 to 4. Fewer than 4 are the published choice of indices, see `subset`.

    Raises:
        PidSamplerError: `steps` is outside 1..4. Above 4 the rule would repeat times; pass an explicit list.

    Source: PiD (arXiv 2605.23902) and its published inference code.
    """
    return subset(_PID, steps)


def subset(times: TimesLike, steps: int) -> Times:
    """Choose `steps` steps from a list of n: the times at indices round(linspace(0, n, steps + 1)).

    Args:
        times: A valid list of n + 1 times, see `custom`.
        steps: 1 to n.

    Raises:
        PidSamplerError: `steps` is outside 1..n.

    Source: PiD's inference code, which applies this rule to its own list of four steps.
    """
    full = custom(times, partial=True)
    n = len(full) - 1
    if not 1 <= steps <= n:
        why = "must be at least 1" if steps < 1 else f"would repeat times of a list of {n}"
        raise PidSamplerError(f"steps={steps} {why}: pass 1..{n}, or an explicit list of timesteps")
    return full[np.round(np.linspace(0, n, steps + 1)).astype(np.intp)]


def uniform(steps: int) -> Times:
    """Return `steps` + 1 equally spaced times from 1 to 0.

    Raises:
        PidSamplerError: `steps` is below 1.
    """
    if steps < 1:
        raise PidSamplerError(f"steps={steps} must be at least 1")
    return np.linspace(1.0, 0.0, steps + 1)


def custom(times: TimesLike, partial: bool = False) -> Times:
    """Check a list of times and return it bit for bit: never shifted, rounded, reordered or shortened.

    Args:
        times: At least two finite numbers in [0, 1], strictly descending, the last one 0.
        partial: Allow the list to end above 0, for work that stops at a noise level.

    Returns:
        A new float64 array of the same values.

    Raises:
        PidSamplerError: The list breaks one of these rules; the message names the offending value.
    """
    try:
        array = np.array(times, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise PidSamplerError(f"timesteps must be a list of numbers, found {times!r}: {error}") from None
    if array.ndim != 1 or len(array) < 2:
        raise PidSamplerError(
            f"timesteps must be a flat list of at least two times, such as [0.999, 0], found {times!r}"
        )
    for i, t in enumerate(array.tolist()):
        if not math.isfinite(t) or not 0.0 <= t <= 1.0:
            raise PidSamplerError(f"timestep {t!r} at position {i} is outside 0..1")
        if i and not t < array[i - 1]:
            verb = "repeats" if t == array[i - 1] else "ascends from"
            raise PidSamplerError(
                f"timestep {t!r} at position {i} {verb} {float(array[i - 1])!r}: times must strictly descend"
            )
    if array[-1] != 0.0 and not partial:
        raise PidSamplerError(
            f"timesteps end in {float(array[-1])!r}, expected 0: append 0, or use "
            "timesteps.custom(times, partial=True) to stop at a noise level"
        )
    return array


_LISTS: dict[str, Callable[[int], Times]] = {"pid": pid, "uniform": uniform}


def named(name: str, steps: int | None = None) -> Times:
    """Return a list by its short name, as in the part after @ of a scheduler spec: "pid", "uniform".

    Args:
        name: One of the functions of this module that take a number of steps.
        steps: How many; None takes the list's own default, which only "pid" has.

    Raises:
        PidSamplerError: The name is unknown, or `steps` is missing or out of the list's range.
    """
    if name not in _LISTS:
        raise unknown_name("timestep list", name, _LISTS)
    if steps is None:
        if name == "pid":
            return pid()
        raise PidSamplerError(f"timestep list {name!r} needs a number of steps, such as {name}:8")
    return _LISTS[name](steps)
