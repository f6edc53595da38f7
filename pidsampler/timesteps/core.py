"""What the lists share: the check of a list, the changes of one, and the options with their ranges."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..values import flag, number, shown, whole, word

Times = NDArray[np.float64]
TimesLike = Sequence[float] | NDArray[Any]

MOST_STEPS = 1_000_000  # of a list

_POSITIVE: dict[str, Any] = {"low": 0, "above": True}
# What the lists' options may be: the check of `values`, with its limits. An option has one meaning in all lists.
RANGES: dict[str, tuple[Callable[..., Any], dict[str, Any]]] = {
    "steps": (whole, {"low": 1, "high": MOST_STEPS}),
    **dict.fromkeys(("shift", "rho", "a", "b", "std"), (number, _POSITIVE)),
    "mu": (number, {"low": -700, "high": 700}),
    "threshold": (number, {"low": 0, "high": 1, "above": True, "below": True}),
    "t_max": (number, {"low": 0, "high": 1, "above": True}),
    "t_min": (number, {"low": 0, "high": 1, "above": True, "below": True}),
    "spacing": (word, {"choices": ("trailing", "leading", "linspace")}),
    "model": (word, {"choices": ("sd1", "sdxl", "svd")}),
    "tokens": (whole, {"low": 1, "high": 1 << 21}),
    "original_steps": (whole, {"low": 1, "high": 1000}),
}


def checked(name: str, value: Any) -> Any:
    """Return the value of an option, checked by its range."""
    check, limits = RANGES[name]
    return check(name, value, **limits)


def count(steps: int, most: int | None = None) -> int:
    """Return a number of steps, checked: 1 to `most`, or to `MOST_STEPS`."""
    return whole("steps", whole("steps", steps, low=1, high=most), high=MOST_STEPS)


def span(t_max: float, t_min: float) -> tuple[float, float]:
    """Return the first and the last time before 0, checked."""
    if not 0.0 < number("t_min", t_min) < number("t_max", t_max) <= 1.0:
        raise ConfigError(f"t_max={t_max!r} and t_min={t_min!r} must keep 0 < t_min < t_max <= 1")
    return t_max, t_min


def to_zero(times: Times, first: float) -> Times:
    """Append 0, and put the first time in place exactly, which powers and logarithms miss by a rounding."""
    times[0] = first
    return np.append(times, 0.0)


def interpolated(times: Times, n: int) -> Times:
    """Return n times, at least 2, between those of a list inside (0, 1), linear in log-SNR; both ends stay."""
    lam = np.log1p(-times) - np.log(times)
    at = np.interp(np.linspace(0, len(times) - 1, n), np.arange(len(times)), lam)
    result: Times = np.exp(-np.logaddexp(0.0, at))  # 1 / (1 + e^lambda)
    result[[0, -1]] = times[[0, -1]]
    return result


def uniform(steps: int) -> Times:
    """Return `steps` + 1 equally spaced times from 1 to 0.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..1,000,000.

    Source: equal steps, as in rectified flow (arXiv 2209.03003).
    """
    return np.linspace(1.0, 0.0, count(steps) + 1)


def custom(times: TimesLike, partial: bool = False) -> Times:
    """Check a list of times and return it bit for bit: never shifted, rounded, reordered or shortened.

    Args:
        times: Two or more finite numbers in [0, 1], strictly descending, the last one 0.
        partial: Allow the list to end above 0, for work that stops at a noise level.

    Returns:
        float64 (n,), a copy of the n times.

    Raises:
        PidSamplerError: The list breaks one of these rules; the message names the offending value.
    """
    partial = flag("partial", partial)
    try:
        kind = np.asarray(times).dtype.kind
        if kind in "bSU":
            held = "True or False" if kind == "b" else "text"
            raise TypeError(f"it has {held} where numbers in 0..1 were expected, such as [0.999, 0.5, 0]")
        array = np.array(times, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"timesteps must be a list of numbers, found {shown(times)}: {error}") from error
    if array.ndim != 1 or len(array) < 2:
        raise ConfigError(
            f"timesteps must be a flat list of at least two times, such as [0.999, 0], found {shown(times)}"
        )
    for i, t in enumerate(array.tolist()):
        if not math.isfinite(t) or not 0.0 <= t <= 1.0:
            raise ConfigError(f"timestep {t!r} at position {i} is outside 0..1")
        if i and not t < array[i - 1]:
            verb = "repeats" if t == array[i - 1] else "ascends from"
            raise ConfigError(
                f"timestep {t!r} at position {i} {verb} {float(array[i - 1])!r}: times must strictly descend"
            )
    if array[-1] != 0.0 and not partial:
        raise ConfigError(
            f"timesteps end in {float(array[-1])!r}, expected 0: append 0, or use "
            "timesteps.custom(times, partial=True) to stop at a noise level"
        )
    return array


def subset(times: TimesLike, steps: int) -> Times:
    """Choose `steps` steps, 1 to n, from a list of n: the times at indices round(linspace(0, n, steps + 1)).

    Args:
        times: Descending times that end in 0.
        steps: Number of steps, 1..n.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: There are fewer steps in the list, or it is not as described.

    Source: PiD's inference code, which applies this rule to its own list of four steps.
    """
    full, steps = custom(times, partial=True), whole("steps", steps)
    n = len(full) - 1
    if not 1 <= steps <= n:
        why = "must be at least 1" if steps < 1 else f"would repeat times of a list of {n}"
        raise ConfigError(f"steps={steps} {why}: pass 1..{n}, or an explicit list of timesteps")
    return full[np.round(np.linspace(0, n, steps + 1)).astype(np.intp)]


def begin(times: TimesLike, start: float) -> Times:
    """Return what is left of a list from a noise level on: `start`, in (0, 1], then the times below it.

    A list that begins there stays as it is, bit for bit.

    Returns:
        float64 (n,), at most one time more than the list has.

    Raises:
        PidSamplerError: The list begins below `start`, or `start` is outside (0, 1].
    """
    full, start = custom(times, partial=True), number("start", start, low=0, high=1, above=True)
    if start > full[0]:
        raise ConfigError(f"start={start!r} is above {float(full[0])!r}, where the timesteps begin: pass at most that")
    if start <= full[-1]:
        raise ConfigError(f"start={start!r} is not above {float(full[-1])!r}, where the timesteps end: pass more")
    return np.append(start, full[full < start])


def shift(times: TimesLike, shift: float) -> Times:
    """Return shift*t / (shift*t + 1 - t) for each time: above 1 it moves a list toward noise.

    It multiplies the ratio t/(1 - t) of noise to signal by `shift`; 0 and 1 stay.

    Args:
        times: Descending times in 0..1.
        shift: Factor, above 0.

    Returns:
        float64 (n,), as many times as given, descending.

    Raises:
        PidSamplerError: `times` is no list that `custom` accepts or `shift` is not above 0.

    Source: SD3 (arXiv 2403.03206), equation 23; FLUX's mu is log(shift).
    """
    t, shift = custom(times, partial=True), checked("shift", shift)
    nearer: Times = shift * t / (shift * t + (1.0 - t))  # exact at 0 and 1
    return nearer


def resample(times: TimesLike, steps: int) -> Times:
    """Stretch or thin a list to `steps` steps, at least 2, by linear interpolation of its log-SNR.

    This is how a trained list such as PiD's is taken to another length: the first time, the last one and 0 stay. The
    list has at least two steps, starts below 1, where log-SNR is infinite, and ends in 0.

    Args:
        times: Descending times that end in 0.
        steps: Number of steps, from 2.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: The list is not as described, or has other ends.

    Source: the log-linear interpolation of "Align your steps" (arXiv 2404.14507), in log-SNR.
    """
    t, steps = custom(times)[:-1], whole("steps", steps, high=MOST_STEPS)
    if t[0] == 1.0:
        raise ConfigError("timesteps start at 1.0, where log-SNR is infinite: start below 1, such as at 0.999")
    if len(t) < 2 or steps < 2:
        raise ConfigError(f"a list of {len(t)} steps cannot be resampled to {steps}: both must be at least 2")
    return np.append(interpolated(t, steps), 0.0)
