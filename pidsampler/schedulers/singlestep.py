"""Exponential methods with stages inside the step: DPM-Solver-2 and -3, and DPM-Solver++(2S).

With lambda = log((1 - t)/t) the flow's equation is solved exactly for constant eps (DPM-Solver) or constant x0
(DPM-Solver++), which both is Euler's step, and the stages add how those change. A step from t = 1 or to t' = 0, where
lambda is infinite, is Euler's alone.
"""

from __future__ import annotations

import math

from ..errors import PidSamplerError
from ..table import Combination, Row, StepTable
from ..timesteps import TimesLike
from .base import X0, SchedulerInfo, Stage, TimesScheduler, eps, euler, log_snr, log_snr_step, row, stage_rows, time_of


class _Singlestep(TimesScheduler):
    def table(self) -> StepTable:
        """Return the rows of each step's stages."""
        rows: list[Row] = []
        for t, t_next in self.steps:
            inside = t < 1.0 and t_next > 0.0
            rows += self._step(t, t_next) if inside else [row(t, t_next, euler(t, t_next))]
        return StepTable(rows)

    def _step(self, t: float, t_next: float) -> list[Row]:
        raise NotImplementedError


class DPMSolver2(_Singlestep):
    """DPM-Solver-2: a midpoint in log-SNR for eps.

    Args:
        timesteps: A valid list of times.
        r: Where in the step, in log-SNR, the second evaluation lies; in (0, 1).

    Raises:
        PidSamplerError: The list is not valid, or r is outside (0, 1).

    Source: DPM-Solver (arXiv 2206.00927), algorithm 4; r = 1/2 is its algorithm 1.
    """

    info = SchedulerInfo("dpm-solver-2", 2, 2, False, "DPM-Solver, arXiv 2206.00927", ("dpm_2",))

    def __init__(self, timesteps: TimesLike, r: float = 0.5) -> None:
        super().__init__(timesteps)
        self.r = _inside(r)

    def _step(self, t: float, t_next: float) -> list[Row]:
        middle, r, h = _within(t, t_next, self.r)
        w = -t_next * math.expm1(h) * 0.5 / r
        stages = [Stage(middle, euler(t, middle), (0.0,)), Stage(t_next, euler(t, t_next), (-w, w))]
        return stage_rows(t, stages, eps)


class DPMSolver3(_Singlestep):
    """DPM-Solver-3: two stages at a third and two thirds of the step in log-SNR, for eps.

    Source: DPM-Solver (arXiv 2206.00927), algorithm 2.
    """

    info = SchedulerInfo("dpm-solver-3", 3, 3, False, "DPM-Solver, arXiv 2206.00927")

    def _step(self, t: float, t_next: float) -> list[Row]:
        (t1, r1, h), (t2, r2, _) = _within(t, t_next, 1 / 3), _within(t, t_next, 2 / 3)

        def bend(r: float) -> float:  # (e^(r h) - 1)/(r h) - 1
            return math.expm1(r * h) / (r * h) - 1

        second, last = -t2 * (r2 / r1) * bend(r2), -t_next / r2 * bend(1.0)
        stages = [
            Stage(t1, euler(t, t1), (0.0,)),
            Stage(t2, euler(t, t2), (-second, second)),
            Stage(t_next, euler(t, t_next), (-last, 0.0, last)),
        ]
        return stage_rows(t, stages, eps)


class DPMSolverPP2S(_Singlestep):
    """DPM-Solver++(2S): a midpoint in log-SNR for x0.

    Args:
        timesteps: A valid list of times.
        r: Where in the step, in log-SNR, the second evaluation lies; in (0, 1).

    Raises:
        PidSamplerError: The list is not valid, or r is outside (0, 1).

    Source: DPM-Solver++ (arXiv 2211.01095), algorithm 1.
    """

    info = SchedulerInfo("dpmpp-2s", 2, 2, False, "DPM-Solver++, arXiv 2211.01095", ("dpmpp_2s",))

    def __init__(self, timesteps: TimesLike, r: float = 0.5) -> None:
        super().__init__(timesteps)
        self.r = _inside(r)

    def _step(self, t: float, t_next: float) -> list[Row]:
        middle, r, _ = _within(t, t_next, self.r)
        w = (1.0 - t_next / t) * 0.5 / r
        stages = [Stage(middle, euler(t, middle), (0.0,)), Stage(t_next, euler(t, t_next), (-w, w))]
        return stage_rows(t, stages, _x0)


def _within(t: float, t_next: float, r: float) -> tuple[float, float, float]:
    """Return the time at the share r of a step in log-SNR, the share that it has after rounding, and the step h."""
    h = log_snr_step(t, t_next)
    middle = time_of(log_snr(t) + r * h)
    return middle, log_snr_step(t, middle) / h, h


def _x0(t: float) -> Combination:
    return X0


def _inside(r: float) -> float:
    if not 0.0 < r < 1.0:
        raise PidSamplerError(f"r={r!r} is outside (0, 1): it is where in the step the second evaluation lies")
    return float(r)
