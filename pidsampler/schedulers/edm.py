"""EDM's stochastic samplers: Euler and Heun in sigma = t/(1 - t), with noise added before each step ("churn")."""

from __future__ import annotations

import math

import attrs

from ..table import Combination, Row, StepTable, combined
from ..values import field, number
from .base import SchedulerInfo, Stage, TimesScheduler, eps, euler, refusing_close_times, row, stage_rows

_MOST = math.sqrt(2.0) - 1.0  # of gamma: the variance of the noise doubles


@attrs.frozen(slots=False)
class EDMEuler(TimesScheduler):
    """Euler's step in sigma after churn: from t the noise level is first raised to sigma_hat = sigma*(1 + gamma).

    The row before does that: x' = r*x + S_noise*r*t*sqrt(gamma*(2 + gamma))*N at t_hat = t*(1 + gamma)*r, with
    r = 1/(1 + gamma*t). gamma is the least of S_churn/steps and sqrt(2) - 1, and 0 outside of S_tmin..S_tmax. The first
    step begins at the list's first time as it is: x is fresh noise there.

    Args:
        timesteps: A valid list of times.
        s_churn: S_churn, from 0; EDM has up to 80 for 256 steps, which is 0.3 a step.
        s_tmin: Smallest sigma = t/(1 - t) that is raised, from 0.
        s_tmax: Largest sigma that is raised, from 0.
        s_noise: S_noise, from 0. Any other than 1 makes the rows biased that add noise.

    Source: EDM (arXiv 2206.00364), algorithm 2 with Euler's steps; k-diffusion, sample_euler.
    """

    info = SchedulerInfo(
        "edm-euler", 1, model_calls_per_step=1, stochastic=True, source="EDM, arXiv 2206.00364, algorithm 2"
    )

    s_churn: float = field(number, low=0, default=1.0)
    s_tmin: float = field(number, low=0, default=0.05, kw_only=True)
    s_tmax: float = field(number, low=0, default=50.0, kw_only=True)
    s_noise: float = field(number, low=0, default=1.0, kw_only=True)

    @refusing_close_times
    def table(self) -> StepTable:
        """Return the rows of each step; the k-th that is raised draws its noise as draw k."""
        rows: list[Row] = []
        draw = 0
        for t, t_next in self.steps:
            gamma = self._gamma(t) if rows else 0.0
            if gamma > 0.0:
                draw += 1
                r = 1.0 / (1.0 + gamma * t)
                fresh = self.s_noise * (r * t * math.sqrt(gamma * (2.0 + gamma)))
                last, t = rows[-1], t * (1.0 + gamma) * r
                update = combined([(r, last), (1.0, Combination(noise={draw: fresh}))])
                raised = row(last.t, t, update=update, saves=dict(last.saves))
                rows[-1] = attrs.evolve(raised, biased=self.s_noise != 1.0)
            rows += self._step(t, t_next)
        return StepTable(rows)

    def _gamma(self, t: float) -> float:
        inside = t < 1.0 and self.s_tmin <= t / (1.0 - t) <= self.s_tmax
        return min(self.s_churn / len(self.steps), _MOST) if inside else 0.0

    def _step(self, t: float, t_next: float) -> list[Row]:
        return [row(t, t_next, update=euler(t, t_next))]


@attrs.frozen(slots=False)
class EDMHeun(EDMEuler):
    """Heun's step in sigma after churn, as in `EDMEuler`; Euler's from t = 1, where sigma is infinite, and to 0.

    Source: EDM (arXiv 2206.00364), algorithm 2; k-diffusion, sample_heun.
    """

    info = SchedulerInfo(
        "edm-heun", 2, model_calls_per_step=2, stochastic=True, source="EDM, arXiv 2206.00364, algorithm 2"
    )

    def _step(self, t: float, t_next: float) -> list[Row]:
        if t == 1.0 or t_next == 0.0:
            return super()._step(t, t_next)
        start = Combination(a=(1.0 - t_next) / (1.0 - t))
        h = (t_next - t) / (1.0 - t)  # (1 - t')*(sigma' - sigma)
        return stage_rows(
            t, [Stage(t_next, start, weights=(h,)), Stage(t_next, start, weights=(h / 2, h / 2))], quantity=eps
        )
