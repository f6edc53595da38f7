"""UniPC: a multistep predictor and a corrector that costs no further evaluation."""

from __future__ import annotations

import math
from collections.abc import Sequence

from ..errors import PidSamplerError
from ..table import Combination, StepTable, combined
from ..timesteps import TimesLike
from .base import X0, SchedulerInfo, TimesScheduler, euler, interpolation_weights, log_snr_step, phi, row


class UniPC(TimesScheduler):
    """UniPC for x0: each evaluation first corrects the state it was made at, then predicts the next one.

    The corrector of a step from t = 1, where log-SNR is infinite, and of the one to 0 are left out.

    Args:
        timesteps: A valid list of times.
        order: Order p of the predictor, 1 to 3; the corrector raises it by one. Fewer where history is short.
        b: The paper's B(h): "bh2" is e^h - 1, "bh1" is h.

    Raises:
        PidSamplerError: The list, the order or b is not valid.

    Source: UniPC (arXiv 2302.04867), algorithms 1 and 2 in the data-prediction form of its appendix; the weights at
    order 2 (predictor) and 1 (corrector) are 1/2 as in the authors' code.
    """

    info = SchedulerInfo("unipc", 3, 1, False, "UniPC, arXiv 2302.04867", ("uni_pc", "UniPCMultistepScheduler"))

    def __init__(self, timesteps: TimesLike, order: int = 2, b: str = "bh2") -> None:
        super().__init__(timesteps)
        if order not in (1, 2, 3):
            raise PidSamplerError(f"order={order!r} of unipc is outside 1..3")
        if b not in ("bh1", "bh2"):
            raise PidSamplerError(f"b={b!r} of unipc is neither 'bh1' nor 'bh2'")
        self.order, self.b = order, b

    def table(self) -> StepTable:
        """Return one row per step. Slot 0 holds what the next corrector knows already, the others earlier x0."""
        times, rows = self.timesteps.tolist(), []
        begun: float | None = None  # weight of the next x0 in the correction that slot 0 holds
        for n, (t, t_next) in enumerate(self.steps):
            if t_next == 0.0:
                rows.append(row(t, t_next, euler(t, t_next)))
                break
            state = Combination(a=1.0) if begun is None else Combination(b=begun, h={0: 1.0})
            history = [X0, *(Combination(h={self._slot(n - j): 1.0}) for j in range(1, min(self.order, n + 1)))]
            known = times[n - len(history) + 1 : n + 1][::-1]
            if known[-1] == 1.0 and n:  # no node of a polynomial in log-SNR
                known, history = known[:-1], history[:-1]
            last = n == len(times) - 2
            saves = {}
            if t == 1.0:
                following, begun = combined([(t_next / t, state), (1.0 - t_next / t, X0)]), None
            else:
                following = self._step(state, history, known, t_next, corrector=False)[0]
                correction, begun = self._step(state, history, known, t_next, corrector=True)
                saves = {0: correction}
            if self.order > 1:
                saves[self._slot(n)] = X0
            rows.append(row(t, t_next, following, {} if last else saves))
        return StepTable(rows)

    def _slot(self, n: int) -> int:
        return 1 + n % max(1, self.order - 1)

    def _step(
        self,
        state: Combination,
        history: Sequence[Combination],
        times: Sequence[float],
        t_next: float,
        corrector: bool,
    ) -> tuple[Combination, float]:
        """Return the next state, and the weight of the x0 to come if it is a corrector's (0 for a predictor's)."""
        t, h = times[0], log_snr_step(times[0], t_next)
        nodes = [-log_snr_step(before, t) / h for before in times[1:]]
        unknown = [*nodes, 1.0] if corrector else nodes
        b = -h if self.b == "bh1" else math.expm1(-h)
        rhos: list[float] = [0.5] if len(unknown) == 1 else []
        if len(unknown) > 1:
            moments = [-h * phi(i + 1, -h) * math.factorial(i) / b for i in range(1, len(unknown) + 1)]
            rhos = interpolation_weights(unknown, moments)
        scale = -(1.0 - t_next) * b
        parts = [(t_next / t, state), (1.0 - t_next / t, X0)]
        for rho, r, x0 in zip(rhos, nodes, history[1:], strict=False):
            parts += [(scale * rho / r, x0), (-scale * rho / r, X0)]
        if not corrector:
            return combined(parts), 0.0
        return combined([*parts, (-scale * rhos[-1], X0)]), scale * rhos[-1]
