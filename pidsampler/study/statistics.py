"""Means with intervals, paired differences, corrected p-values and orders of convergence.

A **run** is one image with one seed, and `Runs` are the values of one measure over the runs of one cell. The mean is
that of the images' means. **What is resampled** is the image (its mean over seeds) where there are 8 images or more, or
an image with a single seed: then an interval speaks for other images of that kind. Otherwise it is the seed within each
image, and an interval says nothing about other images; `describe` says which.

**The interval** is the bootstrap's percentile interval, with its two sides multiplied by what it is too narrow by for
few values: sqrt(m/(m - 1)) for each group of m, and Student's quantile over the normal one. It was chosen by its
coverage, measured on 2000 simulated samples; aimed at is 95 %:

    values                     normal        uniform       Laplace      exponential    log-normal
    n                        4   8  32     4   8  32     4   8  32     4   8  32     4   8  32
    this one                94  95  95    93  95  95    96  94  94    88  90  92    83  85  90
    percentile              81  88  94    80  90  93    77  88  92    76  83  91    69  79  88
    BCa                     81  88  94    82  92  94    77  85  90    77  85  92    70  82  90
    bootstrap-t             96  95  96    96  98  96    96  92  92    94  94  94    91  91  93

Over 8 seeds of each of 4 images it covers 95 (normal), 93 (exponential) and 90 % (log-normal), over 2 seeds of each
98, 96 and 92 %. The bootstrap-t covers more of a skewed law, but it is twice as wide at n = 4, and it has no end where
many values are equal, as with counts that are mostly 0. Differences are far less skewed than the values.

**The test** of a paired difference is Student's, of the same mean and with the same unit. Wilcoxon's test and the
permutation of signs cannot give less than 2^(1 - n): with 8 images no difference, however large, would pass a
correction for 40 comparisons, and with 4 none would pass at all. On differences of normal, uniform, Laplace and
log-normal values Student's false positives at 5 % were 2.6 to 7.1 % (n = 4), 3.1 to 5.7 % (n = 8) and 4.1 to 5.4 %
(n = 32); where it is off its mark, it is mostly on the careful side.

Nothing here depends on the order of the runs or on a random state: the resampling is seeded, and shared by all
intervals of one shape.

Source: Hesterberg, "What teachers should know about the bootstrap", The American Statistician 69 (2015), on narrow
intervals and their correction; Holm, Scandinavian Journal of Statistics 6 (1979); Satterthwaite, Biometrics
Bulletin 2 (1946), for the degrees of freedom over several groups.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, missing_extra
from ..values import items, mapping, numbers, shown, wholes

Runs = Mapping[tuple[str, int], float]  # (image, seed) -> value

_LEVEL = 0.95
_RESAMPLES = 3999  # so that 2.5 % and 97.5 % are the 100th from either end
_ENOUGH_IMAGES = 8  # from here on an interval is over images

_SLOWEST = 0.25  # a local order below this is no convergence: the slowest method here, Euler-Maruyama, has 1/2
_STRAIGHT = 0.15  # local orders that differ by less than this share are taken for the asymptotic one


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A mean and its 95 % interval; `low` and `high` are nan where a single value leaves nothing to judge by.

    `n` is the number of runs.
    """

    mean: float
    low: float
    high: float
    n: int


@dataclass(frozen=True, kw_only=True)
class Difference(Interval):
    """A mean of paired differences, its interval, and the p-value of their mean being 0, not corrected."""

    p: float


@dataclass(frozen=True, kw_only=True)
class Order:
    """A fitted order of convergence and its 95 % interval; `low` and `high` are nan where there is a single run."""

    fit: float
    low: float
    high: float


def describe(runs: Runs) -> str:
    """Return the sentence that says what the intervals of such runs are over.

    Raises:
        PidSamplerError: There is no run, or a value that is not finite.
    """
    images = _images(runs)
    if _within(images):
        sizes = sorted({len(values) for values in images.values()})
        seeds = f"{sizes[0]} to {sizes[-1]}" if len(sizes) > 1 else f"{sizes[0]}"
        of = f"each of these {len(images)} images" if len(images) > 1 else "this one image"
        return f"Intervals are 95 %, by the bootstrap over the {seeds} seeds of {of}: they say nothing of other images."
    if len(images) > 1:
        return f"Intervals are 95 %, by the bootstrap over the {len(images)} images."
    return "Each cell is a single run: nothing can be said about noise."


def interval(runs: Runs) -> Interval:
    """Return the mean over the runs and its 95 % bootstrap interval.

    Raises:
        PidSamplerError: There is no run, or a value that is not finite.
    """
    mean, low, high, _, _ = _estimate(_groups(runs))
    return Interval(mean=mean, low=low, high=high, n=len(runs))


def difference(runs: Runs, base: Runs) -> Difference | None:
    """Return the mean of `runs` - `base` over the (image, seed) that both have; None where those are fewer than two.

    Two sides with the same noise and image share what is easy or hard about them, so the difference is known far
    better than either mean. p is 1 where all differences are 0, and 0 where they are all the same other number.

    Raises:
        PidSamplerError: A value is not finite.
    """
    runs, base = _checked("runs", runs), _checked("base", base)
    paired = {key: value - base[key] for key, value in runs.items() if key in base}
    if len(paired) < 2:
        return None
    mean, low, high, error, freedom = _estimate(_groups(paired))
    t = abs(mean) / error if error else math.inf if mean else 0.0
    p = 2.0 * float(_special().stdtr(freedom, -t))
    return Difference(mean=mean, low=low, high=high, n=len(paired), p=p)


def corrected(p: Sequence[float]) -> list[float]:
    """Return p-values corrected for their number by Holm's step-down, in the order given.

    To call those below 0.05 different is then wrong about any of them with a probability of 5 % at most.

    Raises:
        PidSamplerError: A value is outside 0..1.
    """
    p = numbers("p", p, low=0.0, high=1.0)
    result = [0.0] * len(p)
    least = 0.0
    for rank, i in enumerate(sorted(range(len(p)), key=lambda i: p[i])):
        least = max(least, min(1.0, (len(p) - rank) * p[i]))
        result[i] = least
    return result


def order(steps: Sequence[int], errors: Sequence[Runs]) -> Order | None:
    """Return the fitted order of convergence: minus the slope of log(mean error) over log(steps).

    Fitted are three neighboring step counts. Between neighbors there is a local order; few steps, where the method
    does not follow its order yet, and many, where the error has reached rounding or the reference's own, show by local
    orders that change. So of all triples whose two local orders are at least 1/4, it is the one of the most steps
    whose two differ by less than 15 % of the larger; or, if there is none, the one where they differ least. What a
    floor adds to the last of the three can still lower the fit, by a tenth or so.

    Args:
        steps: Step counts, each once, in any order.
        errors: The errors of each step count, at least 0. Used are the runs that all have.

    Returns:
        The order; its interval is over the runs, resampled jointly at the three step counts, to first order in their
        relative spread (the fit's derivative by each run's errors). None where there is no such triple.

    Raises:
        PidSamplerError: A step count repeats, is below 1 or has no errors; an error is negative or not finite.
    """
    steps = wholes("steps", steps)
    errors = [_checked("errors", runs) for runs in items("errors", errors, words="runs")]
    if len(steps) != len(errors) or len(set(steps)) < len(steps) or any(n < 1 for n in steps):
        raise ConfigError(f"steps={list(steps)} must be different counts from 1, with errors for each")
    for (image, seed), value in itertools.chain.from_iterable(runs.items() for runs in errors):
        if not 0.0 <= value < math.inf:
            raise ConfigError(f"the error {value!r} of image {image!r}, seed {seed} must be finite and at least 0")
    shared = set.intersection(*(set(runs) for runs in errors)) if errors else set()
    if not shared:
        return None
    points = []
    for n, runs in sorted(zip(steps, errors, strict=True), key=lambda point: point[0]):
        used = {key: runs[key] for key in shared}
        mean = _spread(_groups(used))[0]
        if mean > 0.0:
            points.append((math.log(n), math.log(mean), {key: value / mean for key, value in used.items()}))
    triple = _straightest(points)
    if triple is None:
        return None
    x = np.array([point[0] for point in triple])
    weights = -(x - x.mean()) / np.square(x - x.mean()).sum()
    fit = float(weights @ [point[1] for point in triple])
    moved = {key: float(weights @ [point[2][key] for point in triple]) for key in shared}
    _, low, high, _, _ = _estimate(_groups(moved))
    return Order(fit=fit, low=fit + low, high=fit + high)


_Point = tuple[float, float, dict[tuple[str, int], float]]  # log(steps), log(mean error), error over mean error


def _straightest(points: list[_Point]) -> Sequence[_Point] | None:
    """Choose the triple that `order` fits, by the rule that it states."""
    local = [(a[1] - b[1]) / (b[0] - a[0]) for a, b in itertools.pairwise(points)]
    changes = [
        (abs(p - q) / max(p, q), i) for i, (p, q) in enumerate(itertools.pairwise(local)) if min(p, q) >= _SLOWEST
    ]
    if not changes:
        return None
    straight = [i for change, i in changes if change < _STRAIGHT]
    first = max(straight) if straight else min(changes)[1]
    return points[first : first + 3]


def _checked(name: str, runs: object) -> Runs:
    """Return runs whose keys and values are of the kinds of `Runs`; that a value is finite is checked elsewhere."""
    found = mapping(name, runs, words="values by (image, seed)")
    for key, value in found.items():
        pair = isinstance(key, tuple) and len(key) == 2
        if not pair or not isinstance(value, Real) or isinstance(value, bool):
            raise ConfigError(f"{name}[{key!r}]={shown(value)}, expected a number of an (image, seed)")
    return found


def _groups(runs: Runs) -> list[NDArray[np.float64]]:
    """Return the values in groups within which they are resampled: a group per image, or one group of images' means."""
    images = _images(runs)
    groups = list(images.values())
    return groups if _within(images) else [np.array([_mean(group) for group in groups])]


def _images(runs: Runs) -> dict[str, NDArray[np.float64]]:
    """Return each image's values, in the order of their seeds."""
    runs = _checked("runs", runs)
    if not runs:
        raise ConfigError("there is no run: statistics need at least one value")
    images: dict[str, list[float]] = {}
    for (image, seed), value in sorted(runs.items()):
        if not math.isfinite(value):
            raise ConfigError(f"the value {value!r} of image {image!r}, seed {seed} must be finite")
        images.setdefault(image, []).append(value)
    return {image: np.array(values, dtype=np.float64) for image, values in images.items()}


def _within(images: dict[str, NDArray[np.float64]]) -> bool:
    """Whether seeds are resampled within each image, rather than images."""
    return len(images) < _ENOUGH_IMAGES and all(len(values) > 1 for values in images.values())


def _mean(values: NDArray[np.float64]) -> float:
    """The mean; exact where all values are equal, which a plain sum is not."""
    return float(values[0] + (values - values[0]).mean())


def _spread(groups: list[NDArray[np.float64]]) -> tuple[float, float, float]:
    """Return the mean of the groups' means, its standard error and its degrees of freedom (0: one value only)."""
    means = np.array([_mean(group) for group in groups])
    if len(groups) == 1 and len(groups[0]) == 1:
        return float(means[0]), math.nan, 0.0
    squares = [float(np.square(g - m).sum()) for g, m in zip(groups, means, strict=True)]
    parts = [s / (len(g) * (len(g) - 1)) for g, s in zip(groups, squares, strict=True)]
    variance = math.fsum(parts)
    if not variance:
        return _mean(means), 0.0, 1.0  # every factor gives the same interval
    shares = [part / variance for part in parts]
    freedom = 1.0 / math.fsum(share * share / (len(g) - 1) for g, share in zip(groups, shares, strict=True))
    return _mean(means), math.sqrt(variance) / len(groups), freedom


def _estimate(groups: list[NDArray[np.float64]]) -> tuple[float, float, float, float, float]:
    """Return the mean, the ends of its interval, its standard error and its degrees of freedom."""
    mean, error, freedom = _spread(groups)
    if not freedom:
        return mean, math.nan, math.nan, error, freedom
    special = _special()
    tail = (1.0 + _LEVEL) / 2.0
    factor = float(special.stdtrit(freedom, tail) / special.ndtri(tail))
    moves = _resampling(tuple(map(len, groups))) @ np.concatenate([group - _mean(group) for group in groups])
    last = round((1.0 - tail) * (_RESAMPLES + 1))
    ends = np.partition(moves, (last - 1, _RESAMPLES - last))[[last - 1, -last]]
    return mean, mean + factor * float(ends[0]), mean + factor * float(ends[1]), error, freedom


@lru_cache(maxsize=8)
def _resampling(sizes: tuple[int, ...]) -> NDArray[np.float64]:
    """Return the matrix (resamples, values) that takes values to how far each resample moves the mean."""
    random = np.random.default_rng(0)
    counts = [random.multinomial(m, np.full(m, 1.0 / m), size=_RESAMPLES) for m in sizes]
    moves = [(c - 1.0) / math.sqrt(m * (m - 1)) for c, m in zip(counts, sizes, strict=True)]
    matrix: NDArray[np.float64] = np.concatenate(moves, axis=1) / len(sizes)
    return matrix


def _special() -> Any:
    try:
        from scipy import special
    except ImportError as error:
        raise missing_extra("scipy", "study") from error
    return special
