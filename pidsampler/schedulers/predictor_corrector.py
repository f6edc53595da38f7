"""UniPC and SA-Solver: multistep predictors, with correctors that cost no further evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence

import attrs

from .. import moved
from ..table import Combination, StepTable, combined
from ..values import field, number, whole, word
from .base import X0, SchedulerInfo, TimesScheduler, ancestral_step, noise_split, refusing_close_times, row
from .exact import interpolation_weights, log_snr_step, phi


class _PredictorCorrector(TimesScheduler):
    """Each evaluation first corrects the state that it was made at, then predicts the next one.

    Both are the first-order step plus sum_j w_j*(x0_j - x0_n) over earlier x0, and for the corrector the one to come.
    Slot 0 holds what the next corrector knows already, the others earlier x0. The corrector of a step from t = 1,
    where log-SNR is infinite, and that of the one to 0 are left out. Row i draws its noise as draw i + 1.
    """

    order: int  # of each subclass
    _evaluates_again = False  # whether the corrected state is evaluated anew, in a row of its own: PECE

    @refusing_close_times
    def table(self) -> StepTable:
        """Return one row per step, and one more for each correction that is evaluated anew."""
        times, rows = self.timesteps.tolist(), []
        begun: float | None = None  # weight of the row's x0 in the correction that slot 0 holds
        for n, (t, t_next) in enumerate(self.steps):
            state = Combination(a=1.0) if begun is None else Combination(b=begun, h={0: 1.0})
            if begun is not None and self._evaluates_again:
                rows.append(row(t, t, update=state))
                state = Combination(a=1.0)
            h = log_snr_step(t, t_next)
            first = ancestral_step(t, t_next, split=noise_split(self._strength, h), draw=n + 1)
            parts = [(first.a, state), (1.0, Combination(b=first.b, noise=first.noise))]
            earlier = range(1, min(self.order, n + 1))
            history = [(times[n - j], Combination(h={self._slot(n - j): 1.0})) for j in earlier if times[n - j] < 1.0]
            nodes = [-log_snr_step(before, t) / h for before, _ in history]
            saves, begun, predicted = {}, None, list(parts)
            if t < 1.0 and t_next > 0.0:
                for correct in (False, True):
                    weights = self._weights([*nodes, 1.0] if correct else nodes, h, t_next)
                    known = [(w, x0) for w, (_, x0) in zip(weights, history, strict=False)]
                    total = [*parts, *known, (-math.fsum(weights), X0)]
                    if correct:
                        saves, begun = {0: combined(total)}, weights[-1]
                    else:
                        predicted = total
            if self.order > 1:
                saves[self._slot(n)] = X0
            rows.append(row(t, t_next, update=combined(predicted), saves={} if n == len(times) - 2 else saves))
        return StepTable(rows)

    @property
    def _strength(self) -> float:
        """Strength of the SDE, 0 for the ODE."""
        return 0.0

    def _slot(self, n: int) -> int:
        return 1 + n % max(1, self.order - 1)

    def _weights(self, nodes: Sequence[float], h: float, t_next: float) -> list[float]:
        """Return the weights of x0_j - x0_n at `nodes`, where in the step h of log-SNR they lie: 1 is its end."""
        raise NotImplementedError


@moved.keywords()
@attrs.frozen(slots=False)
class UniPC(_PredictorCorrector):
    """UniPC for x0.

    Args:
        timesteps: A valid list of times.
        order: Order p of the predictor, 1 to 3; the corrector raises it by one. Fewer where history is short.
        b: The paper's B(h): "bh2" is e^h - 1, "bh1" is h.

    Source: UniPC (arXiv 2302.04867), algorithms 1 and 2 in the data-prediction form of its appendix; the weights at
    order 2 (predictor) and 1 (corrector) are 1/2 as in the authors' code.
    """

    info = SchedulerInfo("unipc", 3, model_calls_per_step=1, stochastic=False, source="UniPC, arXiv 2302.04867")

    order: int = field(whole, low=1, high=3, default=2)
    b: str = field(word, choices=("bh1", "bh2"), default="bh2", kw_only=True)

    def _weights(self, nodes: Sequence[float], h: float, t_next: float) -> list[float]:
        b = -h if self.b == "bh1" else math.expm1(-h)
        rhos = [0.5] * len(nodes)
        if len(nodes) > 1:
            moments = [-h * phi(i + 1, -h) * math.factorial(i) / b for i in range(1, len(nodes) + 1)]
            rhos = interpolation_weights(nodes, moments)
        return [-(1.0 - t_next) * b * rho / r for rho, r in zip(rhos, nodes, strict=True)]


@moved.keywords()
@attrs.frozen(slots=False)
class SASolver(_PredictorCorrector):
    """SA-Solver for x0 with a constant tau: stochastic Adams, predictor and corrector sharing their noise.

    Args:
        timesteps: A valid list of times.
        order: How many evaluations the predictor uses, 1 to 3; the corrector uses one more. Fewer at the start.
        tau: Strength of the noise, at least 0: 0 is the ODE. Over a step h in log-SNR exp(-tau^2*h) is kept.

    Source: SA-Solver (arXiv 2309.05019), algorithms 1 and 2, data prediction.
    """

    info = SchedulerInfo("sa-solver", 2, model_calls_per_step=1, stochastic=True, source="SA-Solver, arXiv 2309.05019")

    order: int = field(whole, low=1, high=3, default=2)
    tau: float = field(number, low=0, default=1.0, kw_only=True)

    @property
    def _strength(self) -> float:
        return self.tau**2

    def _weights(self, nodes: Sequence[float], h: float, t_next: float) -> list[float]:
        z = (1.0 + self._strength) * h
        moments = [(1.0 - t_next) * z * math.factorial(p) * phi(p + 1, -z) for p in range(len(nodes) + 1)]
        return interpolation_weights([0.0, *nodes], moments)[1:]


class SASolverPECE(SASolver):
    """SA-Solver in its PECE form: the corrected state is evaluated anew, and the predictors use that x0.

    Args:
        timesteps: A valid list of times.
        order: As in `SASolver`.
        tau: As in `SASolver`.

    Source: SA-Solver (arXiv 2309.05019), section 5; ComfyUI, sample_sa_solver_pece.
    """

    info = SchedulerInfo(
        "sa-solver-pece", 2, model_calls_per_step=2, stochastic=True, source="SA-Solver, arXiv 2309.05019"
    )
    _evaluates_again = True
