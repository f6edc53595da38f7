"""Multistep methods: one evaluation a step, and the earlier ones saved.

Each interpolates what it knows of v, eps or x0 by a polynomial and integrates that exactly over the step. The first
row is Euler's, since there is no history, and so is the last, to t' = 0. lambda = log((1 - t)/t).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, ClassVar

import attrs
import numpy as np

from .. import moved
from ..table import Combination, StepTable, combined
from ..values import field, number, whole, word
from .base import (
    Eta,
    SchedulerInfo,
    TimesScheduler,
    ancestral_step,
    eps,
    eta_field,
    noise_split,
    one_eta,
    refusing_close_times,
    row,
    velocity,
    x0,
)
from .exact import LOG_SNR, VARIABLES, Variable, interpolation_weights, log_snr_step, phi


def _variable() -> Any:
    """A field: what the steps of an exponential method are measured in."""
    return field(word, choices=VARIABLES, default="log-snr", kw_only=True)


class _Multistep(TimesScheduler):
    """Rows x' = euler + sum_j w_j*(q_(n-j) - q_n), with q of the `order` - 1 evaluations before the row's own.

    With a strength above 0 it is the SDE's first-order step in place of Euler's; row i draws its noise as draw i + 1.
    The nominal order is 1 for the first-order step alone. The first row is of first order, which caps the global order
    at 2.
    """

    order: int  # of each subclass
    quantity: ClassVar[staticmethod[[float], Combination]] = staticmethod(x0)  # what the history holds

    @refusing_close_times
    def table(self) -> StepTable:
        """Return one row per step."""
        times, keep = self.timesteps.tolist(), self.order - 1
        rows = []
        for n, (t, t_next) in enumerate(self.steps):
            now = self.at_step(n)
            first = ancestral_step(t, t_next, split=now._split(t, t_next), draw=n + 1)
            q, parts = self.quantity(t), [(1.0, first)]
            if n and keep and t_next > 0.0:
                weights = now._weights(times[max(0, n - keep) : n + 1][::-1], t_next)
                parts += [(w, Combination(h={(n - j) % keep: 1.0})) for j, w in enumerate(weights, 1)]
                parts.append((-math.fsum(weights), q))
            saves = {n % keep: q} if keep and n < len(times) - 2 else {}
            rows.append(row(t, t_next, update=combined(parts), saves=saves))
        return StepTable(rows)

    @property
    def _strength(self) -> float:
        """Strength of the SDE, 0 for the ODE."""
        return 0.0

    def _split(self, t: float, t_next: float) -> tuple[float, float]:
        """How much of the implied noise is kept, and how much is fresh."""
        return noise_split(self._strength, log_snr_step(t, t_next))

    def _weights(self, times: Sequence[float], t_next: float) -> list[float]:
        """Return the weights of the first of the earlier q at times[1:], newest first; times[0] is the row's own."""
        raise NotImplementedError


@attrs.frozen(slots=False)
class AdamsBashforth(_Multistep):
    """Adams-Bashforth on the velocity, of order 1 to 4: k-diffusion's LMS, and iPNDM.

    Args:
        timesteps: A valid list of times.
        order: How many evaluations a step uses; fewer at the start.
        weights: "exact" for the steps as they are, or "equal", those of equal steps on any list, as iPNDM has them.

    Source: Hairer, Norsett, Wanner, "Solving ordinary differential equations I", section III.5; PNDM, arXiv
    2202.09778, for its use without Runge-Kutta start-up.
    """

    info = SchedulerInfo(
        "adams-bashforth",
        2,
        model_calls_per_step=1,
        stochastic=False,
        source="Hairer et al. I, III.5; arXiv 2202.09778",
    )
    quantity = staticmethod(velocity)

    order: int = field(whole, low=1, high=4, default=2)
    weights: str = field(word, choices=("exact", "equal"), default="exact", kw_only=True)

    def _weights(self, times: Sequence[float], t_next: float) -> list[float]:
        h = t_next - times[0]
        moments = [h / (p + 1) for p in range(len(times))]
        equal = self.weights == "equal"
        return interpolation_weights([-k if equal else (t - times[0]) / h for k, t in enumerate(times)], moments)[1:]


@attrs.frozen(slots=False)
class GradientEstimation(_Multistep):
    """Euler's step along 2*v_n - v_(n-1) (gamma = 2): less of the velocity's error, at first order.

    Args:
        timesteps: A valid list of times.
        gamma: Weight of the new velocity, finite; the earlier one has 1 - gamma.

    Source: Permenter and Yuan, arXiv 2306.04848, section 5 (gradient estimation).
    """

    info = SchedulerInfo("gradient-estimation", 1, model_calls_per_step=1, stochastic=False, source="arXiv 2306.04848")
    order = 2
    quantity = staticmethod(velocity)

    gamma: float = field(number, default=2.0)

    def _weights(self, times: Sequence[float], t_next: float) -> list[float]:
        return [(t_next - times[0]) * (1.0 - self.gamma)]


@attrs.frozen(slots=False)
class DPMSolverPP2M(_Multistep):
    """DPM-Solver++(2M): the exponential step for x0 extrapolated to the middle of the step. Of order 1 or 2.

    Args:
        timesteps: A valid list of times.
        order: Order, 1 or 2.
        variable: What the steps are measured in: "log-snr", the paper's and diffusers', or "log-sigma", -log(t), which
            ComfyUI's dpmpp_2m takes for flows too.

    Source: DPM-Solver++ (arXiv 2211.01095), algorithm 2.
    """

    info = SchedulerInfo(
        "dpmpp-2m", 2, model_calls_per_step=1, stochastic=False, source="DPM-Solver++, arXiv 2211.01095"
    )

    order: int = field(whole, low=1, high=2, default=2)
    variable: str = _variable()

    def _weights(self, times: Sequence[float], t_next: float) -> list[float]:
        return [_extrapolated(times, t_next, self.variable)]


class DPMSolverPP3M(_Multistep):
    """DPM-Solver++(3M), as k-diffusion and diffusers have it.

    Nominal order 3; its first rows, and its weight of the second difference (half of what a quadratic through the
    points asks for), leave order 2.

    Source: DPM-Solver++ (arXiv 2211.01095), appendix; k-diffusion's dpmpp_3m.
    """

    info = SchedulerInfo(
        "dpmpp-3m", 2, model_calls_per_step=1, stochastic=False, source="DPM-Solver++, arXiv 2211.01095"
    )
    order = 3

    def _weights(self, times: Sequence[float], t_next: float) -> list[float]:
        if times[-1] == 1.0 or len(times) == 2:
            return [_extrapolated(times, t_next, "log-snr")]
        return _differences(times, t_next)


@moved.keywords()
@attrs.frozen(slots=False)
class DPMSolverPP2MSDE(_Multistep):
    """DPM-Solver++(2M) for the SDE of strength eta.

    Args:
        timesteps: A valid list of times.
        eta: Strength of the noise, at least 0, or a list of one for each step: 0 is the ODE, 1 the SDE of the paper.
            Over a step h in log-SNR the share exp(-eta*h) of the implied noise is kept.
        kind: "midpoint" or "heun": how the change of x0 is weighted.
        order: Order, 1 or 2.

    Source: DPM-Solver++ (arXiv 2211.01095), SDE-DPM-Solver++(2M); k-diffusion's dpmpp_2m_sde for eta and kind.
    """

    info = SchedulerInfo(
        "dpmpp-2m-sde", 2, model_calls_per_step=1, stochastic=True, source="DPM-Solver++, arXiv 2211.01095"
    )

    eta: Eta = eta_field()
    kind: str = field(word, choices=("midpoint", "heun"), default="midpoint", kw_only=True)
    order: int = field(whole, low=1, high=2, default=2, kw_only=True)

    @property
    def _strength(self) -> float:
        return one_eta(self.eta)

    def _weights(self, times: Sequence[float], t_next: float) -> list[float]:
        h, before = log_snr_step(times[0], t_next), log_snr_step(times[1], times[0])
        z = (1.0 + self._strength) * h
        bend = z * phi(2, -z) if self.kind == "heun" else -0.5 * math.expm1(-z)
        return [-(1.0 - t_next) * bend * h / before]


@attrs.frozen(slots=False)
class DPMSolverPP3MSDE(DPMSolverPP3M):
    """DPM-Solver++(3M) for the SDE of strength eta, which is as in `DPMSolverPP2MSDE`.

    Source: k-diffusion, sample_dpmpp_3m_sde.
    """

    info = SchedulerInfo("dpmpp-3m-sde", 2, model_calls_per_step=1, stochastic=True, source="k-diffusion, dpmpp_3m_sde")

    eta: Eta = eta_field()

    @property
    def _strength(self) -> float:
        return one_eta(self.eta)

    def _weights(self, times: Sequence[float], t_next: float) -> list[float]:
        return _differences(times, t_next, self._strength)


@attrs.frozen(slots=False)
class ERSDE(_Multistep):
    """ER-SDE-Solver: the extended reverse-time SDE whose noise fades by phi(s) = s*(exp(s^0.3) + 10), s = t/(1 - t).

    Of the implied noise the share (phi(s')/s') / (phi(s)/s) is kept. What x0's divided differences add is integrated
    against 1/phi by Gauss-Legendre quadrature in log s, to rounding.

    Args:
        timesteps: A valid list of times.
        order: Nominal order, 1 to 3 (the paper's ER-SDE-Solver-1 to -3).

    Source: ER-SDE-Solver (arXiv 2309.06169), algorithms 2 and 3 with its recommended noise scale; ComfyUI's er_sde.
    """

    info = SchedulerInfo("er-sde", 2, model_calls_per_step=1, stochastic=True, source="ER-SDE, arXiv 2309.06169")

    order: int = field(whole, low=1, high=3, default=3)

    def _split(self, t: float, t_next: float) -> tuple[float, float]:
        if t == 1.0 or t_next == 0.0:
            return 0.0, 1.0
        keep = _er_scale(t_next / (1.0 - t_next)) / _er_scale(t / (1.0 - t))
        return keep, math.sqrt((1.0 - keep) * (1.0 + keep))

    def _weights(self, times: Sequence[float], t_next: float) -> list[float]:
        known = [t / (1.0 - t) for t in times if t < 1.0]
        if len(known) == 1:
            return []
        s, end = known[0], t_next / (1.0 - t_next)
        gaps = [b - a for a, b in pairwise(known)]  # above 0: s falls
        u, share = np.polynomial.legendre.leggauss(40)
        width = 0.5 * math.log(s / end)
        at = end * np.exp(width * (u + 1.0))
        measure = end * _er_scale(end) * width * share / _er_scale(at)  # phi(s') ds / phi(s)
        slope = (1.0 - t_next) * (end - s + float(np.sum(measure)))
        first = slope / gaps[0]
        if len(gaps) == 1:
            return [first]
        bend = (1.0 - t_next) * ((end - s) ** 2 / 2 + float(np.sum(measure * (at - s)))) * 2.0 / (gaps[0] + gaps[1])
        return [first - bend * (1.0 / gaps[0] + 1.0 / gaps[1]), bend / gaps[1]]


def _er_scale(s: Any) -> Any:
    return np.exp(s**0.3) + 10.0


@attrs.frozen(slots=False)
class DEIS(_Multistep):
    """DEIS: eps as a polynomial in log-SNR, integrated exactly with its exponential weight. Of order 1 to 4.

    Source: DEIS (arXiv 2204.13902), section 3.4, with the polynomial in log rho as in diffusers.
    """

    info = SchedulerInfo("deis", 2, model_calls_per_step=1, stochastic=False, source="DEIS, arXiv 2204.13902")
    quantity = staticmethod(eps)

    order: int = field(whole, low=1, high=4, default=2)

    def _weights(self, times: Sequence[float], t_next: float) -> list[float]:
        h = log_snr_step(times[0], t_next)
        return _exponential(times, t_next, scale=-t_next * h, z=h)


@attrs.frozen(slots=False)
class RES(_Multistep):
    """Exponential Adams-Bashforth for x0, of order 1 to 3.

    Args:
        timesteps: A valid list of times.
        order: Order, 1 to 3.
        variable: What the steps are measured in: "log-snr", or "log-sigma", -log(t), which ComfyUI's res_multistep (of
            order 2) takes for flows too.

    Source: Refined exponential solver (arXiv 2308.02157), section 3.3; Hochbruck and Ostermann 2010, section 2.7.
    """

    info = SchedulerInfo("res-multistep", 2, model_calls_per_step=1, stochastic=False, source="RES, arXiv 2308.02157")

    order: int = field(whole, low=1, high=3, default=2)
    variable: str = _variable()

    def _weights(self, times: Sequence[float], t_next: float) -> list[float]:
        variable = Variable(self.variable)
        h = variable.step(times[0], t_next)
        return _exponential(times, t_next, scale=variable.scale(t_next) * h, z=-h, variable=variable)


def _extrapolated(times: Sequence[float], t_next: float, variable: str) -> float:
    """The weight of the earlier x0 in the exponential step for x0 extrapolated to the middle of the step."""
    step = Variable(variable).step
    h, before = step(times[0], t_next), step(times[1], times[0])
    return -(1.0 - t_next / times[0]) * 0.5 * h / before  # in log-SNR from t = 1 before is infinite: none


def _differences(times: Sequence[float], t_next: float, strength: float = 0.0) -> list[float]:
    """The weights of the one or two earlier x0 in 3M's step: divided differences times phi_2 and phi_3 of -z."""
    h = log_snr_step(times[0], t_next)
    z = (1.0 + strength) * h
    p2, p3 = (1 - t_next) * z * phi(2, -z), (1 - t_next) * z * phi(3, -z)
    r0 = log_snr_step(times[1], times[0]) / h
    if times[-1] == 1.0 or len(times) == 2:
        return [-p2 / r0]
    r1 = log_snr_step(times[2], times[1]) / h
    # Of the first divided differences (q_n - q_(n-1))/r0 and (q_(n-1) - q_(n-2))/r1, the weights of the earlier q
    bend = [(-1 / r0 - 1 / r1) / (r0 + r1), 1 / r1 / (r0 + r1)]
    slope = [-1 / r0 + r0 * bend[0], r0 * bend[1]]
    return [p2 * first + p3 * second for first, second in zip(slope, bend, strict=True)]


def _exponential(
    times: Sequence[float], t_next: float, *, scale: float, z: float, variable: Variable = LOG_SNR
) -> list[float]:
    """The earlier q's weights in the integral of their polynomial times exp; an infinite node is left out.

    The integral of u^p over the step, u = 0..1, is scale * p! * phi_(p+1)(z).
    """
    h = variable.step(times[0], t_next)
    nodes = [0.0, *(-variable.step(t, times[0]) / h for t in times[1:])]
    known = [u for u in nodes if math.isfinite(u)]
    moments = [scale * math.factorial(p) * phi(p + 1, z) for p in range(len(known))]
    return interpolation_weights(known, moments)[1:]
