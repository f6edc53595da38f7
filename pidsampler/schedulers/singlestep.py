"""Exponential methods with stages inside the step: DPM-Solver-2 and -3, DPM-Solver++(2S) and SDE, SEEDS-2 and -3.

With lambda = log((1 - t)/t) the flow's equation is solved exactly for constant eps (DPM-Solver) or constant x0
(DPM-Solver++), which both is Euler's step, and the stages add how those change. A step from t = 1 or to t' = 0, where
lambda is infinite, is Euler's alone.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import ClassVar

import attrs

from .. import moved
from ..table import Combination, Row, StepTable, combined
from ..values import field, number
from .base import (
    Eta,
    SchedulerInfo,
    Stage,
    TimesScheduler,
    ancestral_step,
    eps,
    eta_field,
    euler,
    noise_split,
    one_eta,
    refusing_close_times,
    row,
    stage_rows,
    x0,
)
from .exact import LOG_SNR, log_snr_step, phi


class _Singlestep(TimesScheduler):
    @refusing_close_times
    def table(self) -> StepTable:
        """Return the rows of each step's stages."""
        rows: list[Row] = []
        for n, (t, t_next) in enumerate(self.steps):
            inside, draw = t < 1.0 and t_next > 0.0, 3 * n + 1
            now = self.at_step(n)
            rows += now._step(t, t_next, draw) if inside else [row(t, t_next, update=now._first(t, t_next, draw))]
        return StepTable(rows)

    def _first(self, t: float, t_next: float, draw: int) -> Combination:
        """The first-order step."""
        return euler(t, t_next)

    def _step(self, t: float, t_next: float, draw: int) -> list[Row]:
        """The rows of one step, whose noise may be the draws `draw` to `draw` + 2."""
        raise NotImplementedError


@attrs.frozen(slots=False)
class _TwoStage(_Singlestep):
    """A second evaluation inside the step, and the change since the first weighted for the whole.

    Args:
        timesteps: A valid list of times.
        r: Where in the step, in log-SNR, the second evaluation lies; in (0, 1).
    """

    quantity: ClassVar[staticmethod[[float], Combination]]

    r: float = field(number, low=0, high=1, above=True, below=True, default=0.5)

    def _step(self, t: float, t_next: float, draw: int) -> list[Row]:
        middle, r, h = _within(t, t_next, self.r)
        w = self._whole(t, t_next, h) * 0.5 / r
        stages = [
            Stage(middle, euler(t, middle), weights=(0.0,)),
            Stage(t_next, euler(t, t_next), weights=(-w, w)),
        ]
        return stage_rows(t, stages, quantity=self.quantity)

    def _whole(self, t: float, t_next: float, h: float) -> float:
        """The weight of the quantity in the first-order step."""
        raise NotImplementedError


class DPMSolver2(_TwoStage):
    """DPM-Solver-2: a second evaluation at the share r of the step in log-SNR, in (0, 1), for eps.

    Source: DPM-Solver (arXiv 2206.00927), algorithm 4; r = 1/2 is its algorithm 1.
    """

    info = SchedulerInfo(
        "dpm-solver-2", 2, model_calls_per_step=2, stochastic=False, source="DPM-Solver, arXiv 2206.00927"
    )
    quantity = staticmethod(eps)

    def _whole(self, t: float, t_next: float, h: float) -> float:
        return -t_next * math.expm1(h)


class DPMSolverPP2S(_TwoStage):
    """DPM-Solver++(2S): a second evaluation at the share r of the step in log-SNR, in (0, 1), for x0.

    Source: DPM-Solver++ (arXiv 2211.01095), algorithm 1.
    """

    info = SchedulerInfo(
        "dpmpp-2s", 2, model_calls_per_step=2, stochastic=False, source="DPM-Solver++, arXiv 2211.01095"
    )
    quantity = staticmethod(x0)

    def _whole(self, t: float, t_next: float, h: float) -> float:
        return 1.0 - t_next / t


class DPMSolver3(_Singlestep):
    """DPM-Solver-3: two stages at a third and two thirds of the step in log-SNR, for eps.

    Source: DPM-Solver (arXiv 2206.00927), algorithm 2.
    """

    info = SchedulerInfo(
        "dpm-solver-3", 3, model_calls_per_step=3, stochastic=False, source="DPM-Solver, arXiv 2206.00927"
    )

    def _step(self, t: float, t_next: float, draw: int) -> list[Row]:
        (t1, r1, h), (t2, r2, _) = _within(t, t_next, 1 / 3), _within(t, t_next, 2 / 3)

        def bend(r: float) -> float:  # (e^(r h) - 1)/(r h) - 1
            return math.expm1(r * h) / (r * h) - 1

        second, last = -t2 * (r2 / r1) * bend(r2), -t_next / r2 * bend(1.0)
        stages = [
            Stage(t1, euler(t, t1), weights=(0.0,)),
            Stage(t2, euler(t, t2), weights=(-second, second)),
            Stage(t_next, euler(t, t_next), weights=(-last, 0.0, last)),
        ]
        return stage_rows(t, stages, quantity=eps)


@attrs.frozen(slots=False)
class _SDE(_Singlestep):
    """Stages for x0 and the SDE of strength eta. The parts of a step each add noise, and later stages carry it on."""

    eta: Eta = eta_field()

    def _first(self, t: float, t_next: float, draw: int) -> Combination:
        return ancestral_step(t, t_next, split=noise_split(one_eta(self.eta), log_snr_step(t, t_next)), draw=draw)

    def _sde_rows(self, t: float, times: Sequence[float], weights: Sequence[Sequence[float]], draw: int) -> list[Row]:
        """Rows of stages at `times`, each the first-order step plus weights of x0_j - x0 of the stages j = 1, 2, ..."""
        stages, noise, before = [], Combination(), t
        for k, (at, w) in enumerate(zip(times, weights, strict=True)):
            whole, part = self._first(t, at, draw), self._first(before, at, draw + k)
            # Of the noise so far the part keeps as much as of any that x implies, and adds its own.
            noise = combined([(part.a, noise), (1.0, Combination(noise=part.noise))])
            stages.append(Stage(at, Combination(a=whole.a, b=whole.b), weights=(-math.fsum(w), *w), noise=noise.noise))
            before = at
        return stage_rows(t, stages, quantity=x0)


@moved.keywords()
@attrs.frozen(slots=False)
class SEEDS2(_SDE):
    """SEEDS-2: two stages for the SDE of strength eta, with the noise of the first part shared by both.

    Args:
        timesteps: A valid list of times.
        eta: Strength of the noise, at least 0, or a list of one for each step. Over a step h in log-SNR the share
            exp(-eta*h) of the implied noise is kept.
        r: Where in the step, in log-SNR, the second evaluation lies; in (0, 1]. 1 is ComfyUI's exp_heun_2_x0_sde, and
            with eta = 0 its exp_heun_2_x0.

    Source: SEEDS (arXiv 2305.14267), algorithm 3, with eta as in ComfyUI's seeds_2.
    """

    info = SchedulerInfo("seeds-2", 2, model_calls_per_step=2, stochastic=True, source="SEEDS, arXiv 2305.14267")

    r: float = field(number, low=0, high=1, above=True, default=0.5, kw_only=True)

    def _step(self, t: float, t_next: float, draw: int) -> list[Row]:
        middle, r, h = _within(t, t_next, self.r)
        w = (1.0 - t_next) * self._bend((1.0 + one_eta(self.eta)) * h, r)
        return self._sde_rows(t, [middle, t_next], [(), (w,)], draw)

    def _bend(self, z: float, r: float) -> float:
        return z * phi(2, -z) / r


class SEEDS3(_SDE):
    """SEEDS-3: three stages for the SDE of strength eta (see `SEEDS2`), at thirds of the step in log-SNR.

    Nominal order 3, which eta = 0 has; with noise the weak order is 2.

    Source: SEEDS (arXiv 2305.14267), algorithm 4, with eta as in ComfyUI's seeds_3.
    """

    info = SchedulerInfo("seeds-3", 2, model_calls_per_step=3, stochastic=True, source="SEEDS, arXiv 2305.14267")

    def _step(self, t: float, t_next: float, draw: int) -> list[Row]:
        (t1, r1, h), (t2, r2, _) = _within(t, t_next, 1 / 3), _within(t, t_next, 2 / 3)
        z = (1.0 + one_eta(self.eta)) * h
        second = (1.0 - t2) * (r2 / r1) * (r2 * z) * phi(2, -r2 * z)
        last = (1.0 - t_next) / r2 * z * phi(2, -z)
        return self._sde_rows(t, [t1, t2, t_next], [(), (second,), (0.0, last)], draw)


@moved.keywords()
@attrs.frozen(slots=False)
class DPMSolverPPSDE(SEEDS2):
    """DPM-Solver++ (2S) for the SDE of strength eta: SEEDS-2's rows with a simpler weight of the change.

    Source: k-diffusion, sample_dpmpp_sde (its noise comes from one Brownian path, so the parts share it).
    """

    info = SchedulerInfo("dpmpp-sde", 2, model_calls_per_step=2, stochastic=True, source="k-diffusion, dpmpp_sde")

    def _bend(self, z: float, r: float) -> float:
        return -math.expm1(-z) * 0.5 / r


def _within(t: float, t_next: float, r: float) -> tuple[float, float, float]:
    """Return the time at the share r of a step in log-SNR, the share that it has after rounding, and the step h."""
    h = log_snr_step(t, t_next)
    middle = LOG_SNR.inside(t, t_next, share=r)
    return middle, log_snr_step(t, middle) / h, h
