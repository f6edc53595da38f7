"""Ratios of two times with their 95 % intervals, and when a machine is too noisy for one to be told."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import KW_ONLY, dataclass

import numpy as np

from .timing import Times

LEAST = 6  # values that an interval of 95 % of their median needs

_WIDEST = 1.25  # the interval's upper end over its lower one: beyond, a ratio says nothing
_MOST_SHARE = 1.5  # of a copy's speed: no row is faster, so that the copy was disturbed
_TAIL = 0.025
_MOST_WIDE = 100.0  # of an interval's logarithm
_OF_ONE = 1.96 / 1.35  # half the interval of one value, in units of the quartiles' distance
_OF_MEDIAN = 1.25 * _OF_ONE  # of a median, in units of that over sqrt(n)

NOISY = "the machine is too noisy to tell"


@dataclass(frozen=True)
class Ratio:
    """A ratio, and the ends of its 95 % interval.

    Args:
        middle: Its median.
        low: Lower end.
        high: Upper end.
    """

    middle: float
    _: KW_ONLY
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.middle:.3g} [{self.low:.3g}, {self.high:.3g}]"

    def times(self, factor: float) -> Ratio:
        """Return it multiplied by a number above 0."""
        return Ratio(self.middle * factor, low=self.low * factor, high=self.high * factor)

    @property
    def is_sure(self) -> bool:
        """Whether its interval is narrow enough to say anything: the upper end at most 1.25 times the lower one."""
        return self.high <= _WIDEST * self.low

    @property
    def is_share(self) -> bool:
        """Whether it can be a share of a copy's speed: `is_sure`, and at most 1.5."""
        return self.is_sure and self.middle <= _MOST_SHARE

    @property
    def verdict(self) -> str:
        """What it says, as one time over another: "faster", "slower", "no difference can be told", or `NOISY`."""
        if self.high < 1.0:
            return "faster"
        if self.low > 1.0:
            return "slower"
        return "no difference can be told" if self.is_sure else NOISY


def median(values: Sequence[float]) -> Ratio:
    """Return the median of at least six values, with the interval of 95 % that their ranks give.

    It holds for values of any law: the k-th smallest and the k-th largest. k is the largest number for which fewer than
    k of n fall below the median with a probability of at most 2.5 %. Source: Hahn and Meeker, Statistical
    Intervals (1991), section 5.2.
    """
    n, below, k = len(values), 0.0, 0
    while (below := below + math.comb(n, k) / 2**n) <= _TAIL:
        k += 1
    ordered = sorted(values)
    return Ratio(float(np.median(ordered)), low=ordered[k - 1], high=ordered[-k])


def paired(times: Sequence[float], others: Sequence[float]) -> Ratio:
    """Return how many times as long as `others` `times` are: the `median` of the ratios of those taken together."""
    return median([a / b for a, b in zip(times, others, strict=True)])


def unpaired(one: Times, other: Times) -> Ratio:
    """Return the ratio of two medians of one run that were not taken in turn.

    Source of a median's standard error, 1.25/1.35 times the
    range over sqrt(n): McGill, Tukey and Larsen, Variations of box plots (1978), section 7.
    """
    return _ratio(one, other, *(_OF_MEDIAN * each.iqr_ms / (each.ms * math.sqrt(each.n)) for each in (one, other)))


def between_runs(one: Times, other: Times, *, drift: float = 1.0) -> Ratio:
    """Return the ratio of two medians of different runs, with an interval for what differs between runs of one code.

    What disturbs a run disturbs all its samples alike, so that more of them do not narrow the interval. It is that of
    one sample of each, whose standard deviation is their quartiles' distance over 1.35, and of the copy's drift.

    Args:
        one: Times of one run.
        other: Times of the other.
        drift: How many times as fast a plain copy was in one of the runs as in the other.
    """
    return _ratio(one, other, *(_OF_ONE * each.iqr_ms / each.ms for each in (one, other)), math.log(drift))


def _ratio(one: Times, other: Times, *parts: float) -> Ratio:
    """The ratio of two medians, with the parts of half its logarithm's interval."""
    wide, ratio = min(math.hypot(*parts), _MOST_WIDE), one.ms / other.ms
    return Ratio(ratio, low=ratio * math.exp(-wide), high=ratio * math.exp(wide))
