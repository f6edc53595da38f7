"""Log-SNR and exact integrals, without the cancellation that the plain formulas have near t = 0, t = 1 and t' = t."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs
import numpy as np

from ..errors import ConfigError
from ..values import field, number, numbers, shown, whole, word


def log_snr(t: float) -> float:
    """lambda = log((1 - t)/t), half the log of the signal-to-noise ratio; -inf at t = 1 and inf at t = 0."""
    t = number("t", t, low=0, high=1)
    if t in (0.0, 1.0):
        return math.inf if t == 0.0 else -math.inf
    return math.log1p(-t) - math.log(t)


def log_snr_step(t: float, t_next: float) -> float:
    """log_snr(t_next) - log_snr(t), without the cancellation of near times; infinite from t = 1 or to 0."""
    t, t_next = number("t", t, low=0, high=1), number("t_next", t_next, low=0, high=1)
    if t == 1.0 or t_next == 0.0:
        return math.inf
    return math.log1p((t - t_next) / ((1.0 - t) * t_next))


def time_of(lam: float) -> float:
    """The t of a log-SNR: 1 / (1 + exp(lambda)), for any lambda."""
    lam = lam if lam in (-math.inf, math.inf) else number("lam", lam)
    return float(np.exp(-np.logaddexp(0.0, lam)))


VARIABLES = ("log-snr", "log-sigma")


@attrs.frozen
class Variable:
    """What exponential methods measure their steps in: log((1 - t)/t), or -log(t).

    In both x' = (t'/t)*x + scale(t') * the integral of exp(-(h - s))*x0(s) over the step, s = 0..h, is exact.

    Args:
        name: "log-snr" or "log-sigma".
    """

    name: str = field(word, choices=VARIABLES)

    def step(self, t: float, t_next: float) -> float:
        """Return the length of a step; infinite to 0, and in log-SNR from 1."""
        h = log_snr_step(t, t_next)
        if self.name == "log-snr" or t_next == 0.0:
            return h
        return math.log1p((t - t_next) / t_next)

    def inside(self, t: float, t_next: float, *, share: float) -> float:
        """Return the time at a share of a step of finite length."""
        h = self.step(t, t_next) * number("share", share, low=0, high=1)
        if share == 1.0:
            return t_next
        return time_of(log_snr(t) + h) if self.name == "log-snr" else t * math.exp(-h)

    def scale(self, t_next: float) -> float:
        """Return the weight that x0 has after an infinitely long step to t_next."""
        t_next = number("t_next", t_next, low=0, high=1)
        return 1.0 - t_next if self.name == "log-snr" else 1.0


LOG_SNR = Variable("log-snr")


def phi(k: int, z: float) -> float:
    """phi_k(z) = sum_j z^j / (j + k)!, exact to rounding: by its series where the recursion would cancel.

    Source: Hochbruck and Ostermann, "Exponential integrators", Acta Numerica 2010, equation 2.10.
    """
    k, z = whole("k", k, low=0, high=100), number("z", z)
    if abs(z) < 1.0:
        return math.fsum(z**j / math.factorial(j + k) for j in range(20))
    value = math.exp(z)
    for j in range(k):
        value = (value - 1.0 / math.factorial(j)) / z
    return value


def interpolation_weights(nodes: Sequence[float], moments: Sequence[float]) -> list[float]:
    """The weights that integrate every polynomial through `nodes`, given the integrals of 1, u, u^2, ..."""
    nodes, moments = numbers("nodes", nodes), numbers("moments", moments)
    if len(nodes) != len(moments) or len(set(nodes)) < len(nodes):
        raise ConfigError(f"nodes={shown(nodes)} must be different, and as many as moments={shown(moments)}")
    matrix = np.vander(np.array(nodes), increasing=True).T
    return [float(w) for w in np.linalg.solve(matrix, np.array(moments))]
