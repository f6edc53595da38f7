"""Measures of x itself: the solver's error, and for closed-form flows the distance of x's elements to their exact law.

Those against the law say what n elements drawn exactly from it get, their noise floor: results below it are alike.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...denoiser import GaussianMixture
from ...errors import ConfigError, ModelError
from . import law
from .base import Sample, given, measure

Floats = NDArray[np.float64]


def _elements(x: NDArray[Any]) -> Floats:
    elements = np.asarray(x, np.float64).ravel()
    if not np.isfinite(elements).all():
        raise ModelError("x holds values that are not finite: the run diverged")
    return elements


@measure(
    unit="",
    better="lower",
    source="root mean square of x - converged, in x's unit (2 from black to white, so 1 is 127.5 levels of 255)",
    needs=("converged",),
)
def ode_distance(sample: Sample) -> float:
    """Distance to the converged ODE solution from the same noise: the solver's error without the model's.

    Of a closed-form flow that solution is exact, and this the true error. A sampler that adds noise goes elsewhere.
    """
    return float(np.sqrt(np.mean(np.square(_elements(sample.x) - _elements(given(sample.converged))))))


@lru_cache(maxsize=4)
def _quantiles(means: tuple[float, ...], stds: tuple[float, ...], weights: tuple[float, ...], n: int) -> Floats:
    return law.quantile(GaussianMixture(means, stds, weights), (np.arange(n) + 0.5) / n)


def _transport(sample: Sample) -> Floats:
    """How far each element, in order, is from the law's quantile of its rank."""
    x, flow = np.sort(_elements(sample.x)), given(sample.flow)
    return x - _quantiles(*(tuple(values.tolist()) for values in (flow.means, flow.stds, flow.weights)), len(x))


def _std(sample: Sample) -> float:
    std = math.sqrt(law.moments(given(sample.flow)).variance)
    if std == 0.0:
        raise ConfigError("the flow's law is a single value, whose std of 0 gives this measure no scale")
    return std


@measure(
    unit="",
    better="lower",
    source="mean |x_(k) - Q((k + 1/2)/n)|, sorted elements against the law's exact quantiles",
    needs=("flow",),
)
def wasserstein_1(sample: Sample) -> float:
    """Wasserstein-1 distance of the elements to the exact law, in x's unit.

    Exact draws get sqrt(2/(pi*n)) times the integral of sqrt(F*(1 - F)) on average: 1.3 s/sqrt(n) for N(m, s^2).
    """
    return float(np.mean(np.abs(_transport(sample))))


@measure(
    unit="",
    better="lower",
    source="root mean square of x_(k) - Q((k + 1/2)/n), sorted elements against the law's exact quantiles",
    needs=("flow",),
)
def wasserstein_2(sample: Sample) -> float:
    """Wasserstein-2 distance of the elements to the exact law, in x's unit; large errors weigh more than in -1.

    Exact draws from N(m, s^2) get about 1.8 s/sqrt(n). Where modes lie apart it falls as n^(-1/4) only: a share of
    1/sqrt(n) of the draws is in the wrong mode.
    """
    return float(np.sqrt(np.mean(np.square(_transport(sample)))))


@measure(
    unit="",
    better="lower",
    source="Gretton et al. 2012, V-statistic, Gaussian kernel of the law's std, against the law itself",
    needs=("flow",),
)
def mmd(sample: Sample) -> float:
    """Maximum mean discrepancy of the elements to the exact law.

    Its square is the integral of |phi_n(u) - phi(u)|^2, the characteristic functions of elements and law, over u drawn
    from N(0, 1/std^2) (Sriperumbudur et al. 2010). The trapezoidal rule is exact to 1e-13 here, in some 40 passes over
    the elements. Elements more than 8 component stds and 8 kernel widths off the law are taken as that far off.
    Exact draws get sqrt((1 - E k(X, Y))/n), for a Gaussian 0.65/sqrt(n).
    """
    flow, width = given(sample.flow), _std(sample)
    reach = 8.0 * (flow.stds + width)
    low, high = float((flow.means - reach).min()), float((flow.means + reach).max())
    spacing = 2.0 * math.pi / (high - low + 8.0 * width)  # the rule's kernel repeats at 2*pi/spacing
    u = spacing * np.arange(1, math.ceil(8.0 / (width * spacing)) + 1)  # at 0 both functions are 1
    density = 2.0 * spacing * width / math.sqrt(2.0 * math.pi) * np.exp(-0.5 * (width * u) ** 2)
    turn = np.exp(1j * spacing * np.clip(_elements(sample.x), low, high))
    power, found = turn.copy(), []
    for _ in u:
        found.append(power.mean())
        power *= turn
    exact = np.exp(1j * np.outer(u, flow.means) - 0.5 * np.outer(u, flow.stds) ** 2)
    difference = np.array(found) - np.sum(flow.weights * exact, axis=1)
    return math.sqrt(float(np.sum(density * np.abs(difference) ** 2)))


@measure(unit="", better="zero", source="mean of the elements less the law's", needs=("flow",))
def mean_error(sample: Sample) -> float:
    """Error of the mean; exact draws are within std/sqrt(n)."""
    return float(_elements(sample.x).mean()) - law.moments(given(sample.flow)).mean


@measure(unit="", better="zero", source="standard deviation of the elements less the law's", needs=("flow",))
def std_error(sample: Sample) -> float:
    """Error of the standard deviation, below 0 too narrow; exact draws from N(m, s^2) are within s/sqrt(2n)."""
    return float(_elements(sample.x).std()) - math.sqrt(law.moments(given(sample.flow)).variance)


@measure(
    unit="",
    better="zero",
    source="fourth central moment over squared variance of the elements, less the law's (Pearson 1905)",
    needs=("flow",),
)
def kurtosis_error(sample: Sample) -> float:
    """Error of the kurtosis, the shape apart from mean and std; exact Gaussian draws are within sqrt(24/n)."""
    exact = law.moments(given(sample.flow)).fourth / _std(sample) ** 4
    d = _elements(sample.x)
    d = np.square(d - d.mean())
    if not d.any():
        raise ConfigError("all elements of x are equal, so they have no kurtosis")
    return float(np.mean(d**2) / np.mean(d) ** 2) - exact
