"""Closed-form flows, for tests and research.

With x_t = (1 - t)*x0 + t*eps and x0 Gaussian or a mixture of Gaussians, the velocity v = E[eps - x0 | x_t] has an exact
formula, so a sampler's error is its own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..errors import ConfigError
from ..values import number, numbers, shown
from .base import Array, time_of


class Gaussian:
    """Exact velocity of the flow whose clean images are N(mean, std^2), independently per element.

    The variance of x_t is D = (1 - t)^2*std^2 + t^2. With r = (x - (1 - t)*mean) / D the expected x0 is
    mean + (1 - t)*std^2*r, and the expected eps is t*r. So v = (t - (1 - t)*std^2)*r - mean.

    Args:
        mean: A number, or an array that broadcasts against x.
        std: Standard deviation from 0, in x's unit; a number or an array like mean.

    Raises:
        PidSamplerError: std is negative or something is not finite.
    """

    def __init__(self, mean: Any, std: Any) -> None:
        self.mean, self.std = _law("mean", mean), _law("std", std)
        _check_law(self.mean, self.std)

    def __repr__(self) -> str:
        return f"Gaussian(mean={shown(self.mean)}, std={shown(self.std)})"

    def predict(self, x: Array, t: float, out: Array) -> None:
        """Write the exact velocity at x, t in (0, 1]."""
        t = time_of(t)
        variance = self.std**2
        out[...] = x - (1.0 - t) * self.mean
        out *= (t - (1.0 - t) * variance) / ((1.0 - t) ** 2 * variance + t**2)
        out -= self.mean


class GaussianMixture:
    """Exact velocity of the flow whose clean elements are drawn from a mixture of Gaussians, each on its own.

    v is the mean of the components' velocities (see `Gaussian`) under the posterior weights
    proportional to weights[k] * N(x; (1 - t)*means[k], D[k]). It is computed by numpy's functions, which CuPy's arrays
    carry out themselves.

    Args:
        means: Means, K numbers.
        stds: Standard deviations, K numbers from 0.
        weights: Weights, K numbers above 0; they are normalized to sum to 1.

    Raises:
        PidSamplerError: The lengths differ, a std is negative, a weight is not above 0, or one is not finite.
    """

    def __init__(self, means: Sequence[float], stds: Sequence[float], weights: Sequence[float]) -> None:
        self.means, self.stds = np.array(numbers("means", means)), np.array(numbers("stds", stds))
        self.weights = np.array(numbers("weights", weights))
        if not self.means.shape == self.stds.shape == self.weights.shape:
            raise ConfigError(
                f"a mixture needs as many means ({len(means)}) as stds ({len(stds)}) and weights ({len(weights)})"
            )
        _check_law(self.means, self.stds)
        if not len(self.weights) or not (self.weights > 0).all():
            raise ConfigError(f"mixture weights must be above 0, found {shown(weights)}")
        self.weights /= self.weights.sum()

    def __repr__(self) -> str:
        means, stds, weights = (shown(held.tolist()) for held in (self.means, self.stds, self.weights))
        return f"GaussianMixture(means={means}, stds={stds}, weights={weights})"

    def predict(self, x: Array, t: float, out: Array) -> None:
        """Write the exact velocity at x, t in (0, 1]."""
        t = time_of(t)
        laws = [(float(m), float(s) ** 2) for m, s in zip(self.means, self.stds, strict=True)]
        spreads = [(1.0 - t) ** 2 * v + t**2 for _, v in laws]
        logs = [
            np.square(x - (1.0 - t) * mean) * (-0.5 / d) + (np.log(w) - 0.5 * np.log(d))
            for (mean, _), d, w in zip(laws, spreads, self.weights.tolist(), strict=True)
        ]
        highest = logs[0]
        for log in logs[1:]:
            highest = np.maximum(highest, log)
        total = x.copy()
        total[...] = 0.0
        out[...] = 0.0
        for (mean, variance), d, log in zip(laws, spreads, logs, strict=True):
            weight = np.exp(log - highest)
            total += weight
            out += weight * ((x - (1.0 - t) * mean) * ((t - (1.0 - t) * variance) / d) - mean)
        out /= total


def _law(name: str, value: Any) -> Any:
    """A number, or an array as it is."""
    return value if getattr(value, "ndim", 0) else number(name, value)


def _check_law(mean: Any, std: Any) -> None:
    if not np.isfinite(mean).all() or not np.isfinite(std).all() or np.any(np.less(std, 0)):
        raise ConfigError(f"a Gaussian needs a finite mean and a finite std >= 0, found {shown(mean)} and {shown(std)}")
