"""The exact law of a Gaussian-mixture flow: distribution function, quantiles, moments, and the exact ODE solution.

An element of x_t = (1 - t)*x0 + t*eps has a mixture of Gaussians for its law at every t, of means (1 - t)*m and
variances (1 - t)^2*s^2 + t^2, independent of all others. So everything here is of one dimension, in float64.

A component of std 0 is an atom. At t = 0 the distribution function then jumps, and quantiles and solutions are its
generalized inverse, inf {x: F(x) >= p}, to rounding: the atom itself for every p within the jump.

Arguments that recur: `flow` is a `denoiser.GaussianMixture`; `x` is of any shape, its values within +-1e150; `t` is a
noise level in 0..1. Anything else raises PidSamplerError.
"""

from __future__ import annotations

from types import ModuleType
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ... import moved
from ...denoiser import GaussianMixture
from ...errors import ConfigError, optional

Floats = NDArray[np.float64]

_EPS = float(np.finfo(np.float64).eps)


class Moments(NamedTuple):
    """Mean, and the central moments of order 2 to 4, of the clean elements."""

    mean: float
    variance: float
    third: float
    fourth: float


@moved.keywords()
def cdf(flow: GaussianMixture, x: ArrayLike, *, t: float = 0.0) -> Floats:
    """Return P(X_t <= x), in x's shape; exact to rounding also where it is tiny."""
    z, weights = _scores(flow, _values(x), t)
    below: Floats = np.sum(weights * _special().ndtr(z), axis=0)
    return below


@moved.keywords()
def survival(flow: GaussianMixture, x: ArrayLike, *, t: float = 0.0) -> Floats:
    """Return P(X_t > x) = 1 - cdf, in x's shape; exact to rounding also where it is tiny."""
    z, weights = _scores(flow, _values(x), t)
    above: Floats = np.sum(weights * _special().ndtr(-z), axis=0)
    return above


@moved.keywords()
def quantile(flow: GaussianMixture, p: ArrayLike, *, t: float = 0.0, upper: bool = False) -> Floats:
    """Return x with P(X_t <= x) = p, or with `upper` P(X_t > x) = p, which loses nothing where that is tiny.

    The error is rounding's: a few 1e-16 of x's size where the density is not tiny, and 1e-16 over the density
    between separate modes, where that is all that p can say.

    Args:
        flow: The law.
        p: Probabilities, above 0 and below 1, of any shape.
        t: Noise level.
        upper: Count from above.

    Raises:
        PidSamplerError: A probability is not within 0 and 1.
    """
    probabilities = np.asarray(p, np.float64)
    if not ((probabilities > 0.0) & (probabilities < 1.0)).all():
        raise ConfigError(f"a quantile needs probabilities above 0 and below 1, found {p!r}")
    tails = np.log(probabilities), np.log1p(-probabilities)
    return _inverse(flow, *(tails[::-1] if upper else tails), t)


def moments(flow: GaussianMixture) -> Moments:
    """Return the mean and central moments of the clean elements, in closed form."""
    mean = float(flow.weights @ flow.means)
    d, v = flow.means - mean, flow.stds**2
    central = (d**2 + v, d**3 + 3.0 * d * v, d**4 + 6.0 * d**2 * v + 3.0 * v**2)
    return Moments(mean, *(float(flow.weights @ c) for c in central))


@moved.keywords()
def solution(flow: GaussianMixture, x: ArrayLike, *, t: float) -> Floats:
    """Return the exact solution at time 0 of the probability-flow ODE that starts from x at time t, in x's shape.

    In one dimension the flow map is increasing and carries the law at t into the law at 0, so it keeps the
    distribution function: x0 = Q_0(F_t(x)). It is evaluated in the logarithm of the smaller tail, so far tails keep
    their digits (x up to 1e150 in size).

    Source: Karras et al., arXiv 2206.00364, appendix B.3, for the ODE; the increasing rearrangement is classical
    (Villani, Topics in Optimal Transportation, section 2.2).
    """
    values = _values(x)
    if t == 0.0:
        return values.copy()
    z, weights = _scores(flow, values, t)
    return _inverse(flow, _log_below(z, weights), _log_below(-z, weights), 0.0)


def _special() -> ModuleType:
    return optional("scipy.special", "scipy")


def _values(x: ArrayLike) -> Floats:
    values = np.asarray(x, np.float64)
    if not (np.abs(values) <= 1e150).all():  # squares must not overflow
        worst = values.flat[np.argmax(np.where(np.isnan(values), np.inf, np.abs(values)))]
        raise ConfigError(f"x holds {float(worst)!r}, expected values within +-1e150: what made it has diverged")
    return values


def _components(flow: GaussianMixture, t: float, ndim: int) -> tuple[Floats, Floats, Floats]:
    """Means, stds and weights at time t, each (K, 1, ..., 1)."""
    if not 0.0 <= t <= 1.0:
        raise ConfigError(f"t={t!r} must be a noise level in 0..1")
    shape = (-1,) + (1,) * ndim
    means, stds = (1.0 - t) * flow.means, np.hypot((1.0 - t) * flow.stds, t)
    return means.reshape(shape), stds.reshape(shape), flow.weights.reshape(shape)


def _scores(flow: GaussianMixture, x: Floats, t: float) -> tuple[Floats, Floats]:
    """(x - mean)/std of each component, (K, *x.shape), infinite for atoms, and the weights."""
    means, stds, weights = _components(flow, t, x.ndim)
    with np.errstate(divide="ignore", invalid="ignore"):
        z = (x - means) / stds
    z[np.isnan(z)] = np.inf  # x is at the atom, which P(X <= x) includes
    return z, weights


def _log_below(z: Floats, weights: Floats) -> Floats:
    """The logarithm of the mixture's probability below scores z, or with -z above them."""
    log: Floats = np.logaddexp.reduce(_special().log_ndtr(z) + np.log(weights), axis=0)
    return log


def _inverse(flow: GaussianMixture, log_below: Floats, log_above: Floats, t: float) -> Floats:
    """Return x with these logarithms of P(X_t <= x) and P(X_t > x), found from the smaller one.

    Newton's method on the logarithm of that tail, kept within a bracket and replaced by bisection wherever it does
    not halve its step. The bracket is the components' own quantiles: at the least of them every component has at most p
    below, at the largest every one at least p.
    """
    lower = log_below <= log_above
    target = np.where(lower, log_below, log_above)
    shape, sign, target = target.shape, np.where(lower, 1.0, -1.0).ravel(), target.ravel()
    means, stds, _ = _components(flow, t, 1)
    ends: Floats = means + stds * (sign * _special().ndtri_exp(target))
    low, high = ends.min(axis=0), ends.max(axis=0)
    x: Floats = 0.5 * (low + high)
    tolerance, step = _EPS * np.maximum(np.abs(low), np.abs(high)), high - low
    active = np.flatnonzero(step > tolerance)
    for _ in range(200):
        if not len(active):
            break
        at, side = x[active], sign[active]
        excess, slope = _excess(flow, at, t, side, target[active])
        low[active] = np.where(excess < 0.0, at, low[active])
        high[active] = np.where(excess < 0.0, high[active], at)
        left, right = low[active], high[active]
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            newton = at - excess / slope
            taken = (newton >= left) & (newton <= right) & (np.abs(newton - at) < 0.5 * step[active])
        x[active] = np.where(taken, newton, 0.5 * (left + right))
        step[active] = np.abs(x[active] - at)
        rounding = np.abs(excess) <= -4.0 * _EPS * target[active]
        x[active[rounding]] = at[rounding]
        active = active[~rounding & (step[active] > tolerance[active])]
    found: Floats = x.reshape(shape)
    return found


def _excess(flow: GaussianMixture, x: Floats, t: float, side: Floats, target: Floats) -> tuple[Floats, Floats]:
    """The log tail at x less its target, with the sign that makes it increase with x, and its slope."""
    z, weights = _scores(flow, x, t)
    tail = _log_below(side * z, weights)
    _, stds, _ = _components(flow, t, 1)
    scale = np.where(stds > 0.0, stds, 1.0)  # an atom has no density; its z is infinite
    with np.errstate(over="ignore", invalid="ignore"):  # nan and inf are no steps of Newton's
        log_density = np.logaddexp.reduce(np.log(weights / scale) - 0.5 * z**2, axis=0) - 0.5 * np.log(2.0 * np.pi)
        return side * (tail - target), np.exp(log_density - tail)
