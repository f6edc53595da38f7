"""STORK: stabilized Runge-Kutta with sub-steps whose velocities are a Taylor polynomial of earlier ones.

The sub-steps ask no network, and a flow's Taylor polynomial depends on time alone. So with v, its first two derivatives
D1 and D2 at t and h = t - t', all sub-steps together are x' = x - h*(w0*v - w1*h*D1 + w2*h^2*D2), three numbers w.
"""

from __future__ import annotations

import attrs
import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..table import Combination, Row, StepTable, combined
from ..values import field, whole, word
from .base import X0, SchedulerInfo, TimesScheduler, euler, refusing_close_times, row, velocity

_SUB_STEPS = 50  # of order 2, as the authors' default

# What the authors' code makes of v, D1 and D2/2 with ROCK4's 50 sub-steps, of which it drops the first.
_PUBLISHED_4 = (0.9989537705055166, 0.49999240848527443, 0.1666628618336023)


def _two_or_four(order: int) -> int:
    if whole("order", order) not in (2, 4):
        raise ConfigError(f"order={order} must be 2 or 4")
    return order


@attrs.frozen(slots=False)
class STORK(TimesScheduler):
    """STORK-2 and STORK-4 with derivatives from the two evaluations before.

    The first step asks twice, at its half by Euler's step too. STORK-4's sub-steps, ROCK4's, are of fourth order, so
    they integrate that polynomial exactly: for a flow it is Adams-Bashforth of order 3. STORK-2's, those of the second
    Runge-Kutta-Gegenbauer method, weigh D2 by 0.1247 in place of 1/6. The first step leaves both at order 2.

    Args:
        timesteps: A valid list of times.
        order: Order, 2 or 4.
        form: "exact", or "published", which does as the authors' code. For order 2 its sub-steps lie at other times,
            which leaves order 1. For order 4 it drops the first sub-step, which leaves none: a constant velocity counts
            0.99895 times, so that rows are biased. Its D1 takes the last two steps as equal.

    Source: STORK (arXiv 2505.24210), algorithms 1 and 2 with Taylor order 2; github.com/ZT220501/STORK.
    """

    info = SchedulerInfo("stork", 2, model_calls_per_step=1, stochastic=False, source="STORK, arXiv 2505.24210")

    order: int = attrs.field(converter=_two_or_four, default=2, metadata={"takes": "2 or 4"})
    form: str = field(word, choices=("exact", "published"), default="exact", kw_only=True)

    @refusing_close_times
    def table(self) -> StepTable:
        """Return one row per step, and one more for the first."""
        rows: list[Row] = []
        for n, (t, t_next) in enumerate(self.steps):
            h = t - t_next
            if t_next == 0.0:
                rows.append(row(t, t_next, update=X0))
            elif n == 0:
                middle = t - 0.5 * h
                rows.append(row(t, middle, update=euler(t, middle), saves={0: velocity(t)}))
                parts = [(-0.75 * h, velocity(middle)), (0.25 * h, Combination(h={0: 1.0}))]
                rows.append(row(middle, t_next, update=_moved(parts)))
            else:
                made = row(t, t_next, update=_moved(self._main(n)), saves={n % 2: velocity(t)})
                rows.append(attrs.evolve(made, biased=self._published and self.order == 4 and n > 1))
        return StepTable(rows)

    @property
    def _published(self) -> bool:
        return self.form == "published"

    def _main(self, n: int) -> list[tuple[float, Combination]]:
        """What step n adds to x, from the velocities of this step and the one or two before."""
        t, t_next = self.steps[n]
        h, h1 = t - t_next, self.steps[n - 1][0] - t
        now, before = velocity(t), Combination(h={(n - 1) % 2: 1.0})
        if n == 1:
            return [(-h - h * h / (2.0 * h1), now), (h * h / (2.0 * h1), before)]
        h2 = self.steps[n - 2][0] - self.steps[n - 1][0]
        second = np.array([2.0 / (h1 * (h1 + h2)), -2.0 / (h1 * h2), 2.0 / (h2 * (h1 + h2))])  # of now, 1 and 2 before
        first = np.array([-1.0 / h1, 1.0 / h1, 0.0]) - 0.5 * h1 * second
        if self._published:
            first = np.array([-3.0, 4.0, -1.0]) / (2.0 * h1)
        w0, w1, w2 = self._integrals()
        weights = -h * (np.array([w0, 0.0, 0.0]) - w1 * h * first + w2 * h * h * second)
        return list(zip(weights.tolist(), [now, before, Combination(h={n % 2: 1.0})], strict=True))

    def _integrals(self) -> tuple[float, float, float]:
        """What the sub-steps make of 1, u and u^2/2 over the step, u = 0..1."""
        if self.order == 4:
            return _PUBLISHED_4 if self._published else (1.0, 1 / 2, 1 / 6)
        w0, w1, w2 = _gegenbauer(_SUB_STEPS, published=self._published).tolist()
        return w0, w1, w2


def _moved(parts: list[tuple[float, Combination]]) -> Combination:
    return combined([(1.0, Combination(a=1.0)), *parts])


def _gegenbauer(s: int, *, published: bool) -> NDArray[np.float64]:
    """The integrals of 1, u and u^2/2 by s sub-steps of the second Runge-Kutta-Gegenbauer method.

    Source: Skaras et al., J. Comput. Phys. 425 (2021), 109879, the recursion; STORK takes the same.
    """

    def b(j: int) -> float:
        return (1.0, 1 / 3)[j] if j < 2 else 4 * (j - 1) * (j + 4) / (3 * j * (j + 1) * (j + 2) * (j + 3))

    share = 6.0 / ((s + 4) * (s - 1))
    before, now = np.zeros(3), np.array([share, 0.0, 0.0])
    for j in range(2, s + 1):
        mu, nu = (2 * j + 1) * b(j) / (j * b(j - 1)), -(j + 1) * b(j) / (j * b(j - 2))
        at = now[0]
        if published:
            at = (4 / 3 if j == 2 else (j - 1) ** 2 + (j - 1) - 2) / (s * s + s - 2)
        slope = np.array([1.0, at, at * at / 2.0]) - (1.0 - j * (j + 1) * b(j - 1) / 2.0) * np.array([1.0, 0.0, 0.0])
        before, now = now, mu * now + nu * before + mu * share * slope
    return now
