"""Runge-Kutta methods on the velocity, dx/dt = v = (x - x0)/t, from one self-checking Butcher tableau."""

from __future__ import annotations

import math
from itertools import accumulate
from typing import Any

import attrs

from ..errors import ConfigError
from ..table import Combination, Row, StepTable
from ..values import field, instance, items, numbers
from .base import SchedulerInfo, Stage, TimesScheduler, euler, refusing_close_times, row, stage_rows, velocity


def _matrix(name: str, value: Any) -> tuple[tuple[float, ...], ...]:
    return tuple(numbers(name, row) for row in items(name, value, words="rows of weights"))


@attrs.frozen
class ButcherTableau:
    """An explicit method: stage i is x + h*sum_j a[i][j]*v_j at t + c[i]*h, and the step x + h*sum_i b[i]*v_i.

    Args:
        a: One row for each stage after the first, of 1, 2, ... weights.
        b: One weight for each stage; they sum to 1.

    The nodes c are the sums of a's rows, and the order (up to 4) is derived from the order conditions.

    Raises:
        PidSamplerError: Shapes do not fit, b does not sum to 1, or a node lies outside 0..1.

    Source: Hairer, Norsett, Wanner, "Solving ordinary differential equations I", sections II.1 and II.2.
    """

    a: tuple[tuple[float, ...], ...] = field(_matrix)
    b: tuple[float, ...] = field(numbers)

    def __attrs_post_init__(self) -> None:
        lengths = [len(row) for row in self.a]
        if lengths != list(range(1, len(self.b))):
            raise ConfigError(f"a tableau with {len(self.b)} weights b needs rows a of 1.. weights, found {lengths}")
        if not math.isclose(math.fsum(self.b), 1.0, abs_tol=1e-14):
            raise ConfigError(f"a tableau's b sums to {math.fsum(self.b)!r}, expected 1")
        for c in self.c:
            if not 0.0 <= c <= 1.0:
                raise ConfigError(f"a tableau's stage is at {c!r} of the step, expected 0..1")

    @property
    def c(self) -> tuple[float, ...]:
        """Nodes: where in the step each stage lies, in 0..1."""
        return (0.0, *(math.fsum(row) for row in self.a))

    @property
    def order(self) -> int:
        """Order of accuracy, from the conditions of the rooted trees with up to four vertices."""
        a = [(0.0,) * len(self.b), *(row + (0.0,) * (len(self.b) - len(row)) for row in self.a)]
        c, n = self.c, range(len(self.b))

        def total(f: list[float]) -> float:
            return math.fsum(b * value for b, value in zip(self.b, f, strict=True))

        ac = [math.fsum(a[i][j] * c[j] for j in n) for i in n]
        ac2 = [math.fsum(a[i][j] * c[j] ** 2 for j in n) for i in n]
        aac = [math.fsum(a[i][j] * ac[j] for j in n) for i in n]
        conditions = [
            [(total(list(c)), 1 / 2)],
            [(total([x**2 for x in c]), 1 / 3), (total(ac), 1 / 6)],
            [
                (total([x**3 for x in c]), 1 / 4),
                (total([c[i] * ac[i] for i in n]), 1 / 8),
                (total(ac2), 1 / 12),
                (total(aac), 1 / 24),
            ],
        ]
        holds = (all(math.isclose(x, y, abs_tol=1e-12) for x, y in group) for group in conditions)
        return 1 + sum(accumulate(holds, lambda before, this: before and this))


class _Stages(TimesScheduler):
    """Runge-Kutta by the class's or the object's tableau. A step to 0 is Euler's."""

    tableau: ButcherTableau

    @refusing_close_times
    def table(self) -> StepTable:
        """Return one row per stage."""
        rows: list[Row] = []
        for t, t_next in self.steps:
            rows += self._step(t, t_next) if t_next > 0.0 else [row(t, t_next, update=euler(t, t_next))]
        return StepTable(rows)

    def _step(self, t: float, t_next: float) -> list[Row]:
        h = t_next - t
        ends = [t + c * h if c < 1.0 else t_next for c in self.tableau.c[1:]]
        stages = [
            Stage(at, Combination(a=1.0), weights=tuple(h * w for w in weights))
            for at, weights in zip([*ends, t_next], [*self.tableau.a, self.tableau.b], strict=True)
        ]
        return stage_rows(t, stages, quantity=velocity)


@attrs.frozen(slots=False)
class RungeKutta(_Stages):
    """The Runge-Kutta method of a tableau of one's own.

    Source: Hairer, Norsett, Wanner, "Solving ordinary differential equations I", section II.1.
    """

    tableau: ButcherTableau = field(instance, kind=ButcherTableau, words="a ButcherTableau")


class Midpoint(_Stages):
    """The explicit midpoint method. Source: Runge 1895; Hairer et al. I, table II.1.1."""

    info = SchedulerInfo("midpoint", 2, model_calls_per_step=2, stochastic=False, source="Runge 1895")
    tableau = ButcherTableau(((1 / 2,),), (0, 1))


class Heun(_Stages):
    """Heun's second-order method, the explicit trapezoid. Source: Heun 1900; EDM, arXiv 2206.00364, algorithm 1."""

    info = SchedulerInfo("heun", 2, model_calls_per_step=2, stochastic=False, source="Heun 1900; EDM, arXiv 2206.00364")
    tableau = ButcherTableau(((1,),), (1 / 2, 1 / 2))


class Ralston(_Stages):
    """Ralston's second-order method, of least error bound. Source: Ralston, Math. Comp. 16 (1962)."""

    info = SchedulerInfo("ralston", 2, model_calls_per_step=2, stochastic=False, source="Ralston 1962")
    tableau = ButcherTableau(((2 / 3,),), (1 / 4, 3 / 4))


class SSPRK3(_Stages):
    """The strong-stability-preserving third-order method. Source: Shu and Osher, J. Comput. Phys. 77 (1988)."""

    info = SchedulerInfo("ssprk3", 3, model_calls_per_step=3, stochastic=False, source="Shu and Osher 1988")
    tableau = ButcherTableau(((1,), (1 / 4, 1 / 4)), (1 / 6, 1 / 6, 2 / 3))


class Kutta3(_Stages):
    """Kutta's third-order method. Source: Kutta 1901; Hairer et al. I, section II.1."""

    info = SchedulerInfo("kutta3", 3, model_calls_per_step=3, stochastic=False, source="Kutta 1901")
    tableau = ButcherTableau(((1 / 2,), (-1, 2)), (1 / 6, 2 / 3, 1 / 6))


class RK4(_Stages):
    """The classical fourth-order method. Source: Kutta 1901; Hairer et al. I, table II.1.2."""

    info = SchedulerInfo("rk4", 4, model_calls_per_step=4, stochastic=False, source="Kutta 1901")
    tableau = ButcherTableau(((1 / 2,), (0, 1 / 2), (0, 0, 1)), (1 / 6, 1 / 3, 1 / 3, 1 / 6))
