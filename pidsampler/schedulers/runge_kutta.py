"""Runge-Kutta methods on the velocity, dx/dt = v = (x - x0)/t, from one self-checking Butcher tableau."""

from __future__ import annotations

import math
from typing import Any, ClassVar

import attrs

from ..errors import ConfigError
from ..table import Combination, Row, StepTable
from ..values import field, instance, items, numbers, whole
from . import conditions
from .base import SchedulerInfo, Stage, TimesScheduler, euler, refusing_close_times, row, stage_rows, velocity


def _matrix(name: str, value: Any) -> tuple[tuple[float, ...], ...]:
    return tuple(numbers(name, row) for row in items(name, value, words="rows of weights"))


@attrs.frozen
class ButcherTableau:
    """An explicit method: stage i is x + h*sum_j a[i][j]*v_j at t + c[i]*h, and the step x + h*sum_i b[i]*v_i.

    Args:
        a: One row for each stage after the first, of 1, 2, ... weights.
        b: One weight for each stage; they sum to 1.

    The nodes c are the sums of a's rows, and the order (up to 5) is derived from the order conditions.

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
        """Order of accuracy, from the conditions of the rooted trees with up to five vertices."""
        matrix = [row + (0.0,) * (len(self.b) - len(row)) for row in ((), *self.a)]
        return conditions.order(lambda _: (matrix, self.b))


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


class RK38(_Stages):
    """Kutta's fourth-order method of the 3/8 rule. Source: Kutta 1901; Hairer et al. I, table II.1.2."""

    info = SchedulerInfo("rk38", 4, model_calls_per_step=4, stochastic=False, source="Kutta 1901")
    tableau = ButcherTableau(((1 / 3,), (-1 / 3, 1), (1, -1, 1)), (1 / 8, 3 / 8, 3 / 8, 1 / 8))


class BogackiShampine(_Stages):
    """Bogacki and Shampine's third-order method, which is Ralston's of least error bound.

    Source: Bogacki and Shampine, Appl. Math. Lett. 2 (1989), without the error estimate; Ralston, Math. Comp. 1962.
    """

    info = SchedulerInfo(
        "bogacki-shampine",
        3,
        model_calls_per_step=3,
        stochastic=False,
        source="Bogacki and Shampine 1989; Ralston 1962",
        aliases=("ralston-3",),
    )
    tableau = ButcherTableau(((1 / 2,), (0, 3 / 4)), (2 / 9, 1 / 3, 4 / 9))


_R5 = math.sqrt(5)


class Ralston4(_Stages):
    """Ralston's fourth-order method, of least error bound. Source: Ralston, Math. Comp. 16 (1962)."""

    info = SchedulerInfo("ralston-4", 4, model_calls_per_step=4, stochastic=False, source="Ralston 1962")
    tableau = ButcherTableau(
        (
            (2 / 5,),
            ((-2889 + 1428 * _R5) / 1024, (3785 - 1620 * _R5) / 1024),
            ((-3365 + 2094 * _R5) / 6040, (-975 - 3046 * _R5) / 2552, (467040 + 203968 * _R5) / 240845),
        ),
        (
            (263 + 24 * _R5) / 1812,
            (125 - 1000 * _R5) / 3828,
            1024 * (3346 + 1623 * _R5) / 5924787,
            (30 - 4 * _R5) / 123,
        ),
    )


class SSPRK43(_Stages):
    """The strong-stability-preserving third-order method of four stages, which RES4LYF calls ssprk4_4s.

    Source: Spiteri and Ruuth, SIAM J. Numer. Anal. 40 (2002).
    """

    info = SchedulerInfo("ssprk43", 3, model_calls_per_step=4, stochastic=False, source="Spiteri and Ruuth 2002")
    tableau = ButcherTableau(((1 / 2,), (1 / 2, 1 / 2), (1 / 6, 1 / 6, 1 / 6)), (1 / 6, 1 / 6, 1 / 6, 1 / 2))


class SSPRK4(_Stages):
    """The strong-stability-preserving fourth-order method, which takes five stages.

    Source: Spiteri and Ruuth, SIAM J. Numer. Anal. 40 (2002), its SSPRK(5,4); weights refined to float64.
    """

    info = SchedulerInfo("ssprk4", 4, model_calls_per_step=5, stochastic=False, source="Spiteri and Ruuth 2002")
    tableau = ButcherTableau(
        (
            (0.39175222657189024,),
            (0.21766909626116876, 0.36841059305037094),
            (0.0826920866578107, 0.13995850219189535, 0.25189177427169396),
            (0.06796628363711499, 0.11503469850463156, 0.20703489859738552, 0.544974750228521),
        ),
        (0.1468118760847867, 0.24848290944497586, 0.10425883033198095, 0.2744389009013503, 0.22600748323690614),
    )


class DormandPrince(_Stages):
    """Dormand and Prince's fifth-order method, without its error estimate.

    Source: Dormand and Prince, J. Comput. Appl. Math. 6 (1980); Hairer et al. I, table II.5.2.
    """

    info = SchedulerInfo(
        "dormand-prince", 5, model_calls_per_step=6, stochastic=False, source="Dormand and Prince 1980"
    )
    tableau = ButcherTableau(
        (
            (1 / 5,),
            (3 / 40, 9 / 40),
            (44 / 45, -56 / 15, 32 / 9),
            (19372 / 6561, -25360 / 2187, 64448 / 6561, -212 / 729),
            (9017 / 3168, -355 / 33, 46732 / 5247, 49 / 176, -5103 / 18656),
        ),
        (35 / 384, 0, 500 / 1113, 125 / 192, -2187 / 6784, 11 / 84),
    )


class Tsit5(_Stages):
    """Tsitouras' fifth-order method, without its error estimate. Source: Comput. Math. Appl. 62 (2011)."""

    info = SchedulerInfo("tsit5", 5, model_calls_per_step=6, stochastic=False, source="Tsitouras 2011")
    tableau = ButcherTableau(
        (
            (0.161,),
            (-0.008480655492356989, 0.335480655492357),
            (2.8971530571054935, -6.359448489975075, 4.3622954328695815),
            (5.325864828439257, -11.748883564062828, 7.4955393428898365, -0.09249506636175525),
            (5.86145544294642, -12.92096931784711, 8.159367898576159, -0.071584973281401, -0.028269050394068383),
        ),
        (
            *(0.09646076681806523, 0.01, 0.4798896504144996, 1.379008574103742),
            *(-3.290069515436081, 2.324710524099774),
        ),
    )


@attrs.frozen(slots=False)
class _Implicit(_Stages):
    """An implicit method by fixed-point sweeps from Euler's steps to its nodes: itself an explicit tableau.

    Args:
        timesteps: A valid list of times.
        iterations: Sweeps over the stages, 1 to 8. The order is iterations + 1, and at most that of the method solved.
    """

    matrix: ClassVar[tuple[tuple[float, ...], ...]]
    weights: ClassVar[tuple[float, ...]]

    iterations: int = field(whole, low=1, high=8, default=3)

    @property
    def tableau(self) -> ButcherTableau:  # type: ignore[override]
        """The sweeps as stages: the evaluation where the step begins, then those of each sweep."""
        size, before = len(self.weights), 1 + len(self.weights) * (self.iterations - 1)
        rows = [(math.fsum(row), *(0.0,) * k) for k, row in enumerate(self.matrix)]
        for start in range(1, before, size):
            rows += [((0.0,) * start + row + (0.0,) * k) for k, row in enumerate(self.matrix)]
        return ButcherTableau(tuple(rows), (0.0,) * before + self.weights)


class GaussLegendre2(_Implicit):
    """Gauss' implicit method of two stages, of fourth order, by fixed-point sweeps.

    Source: Hammer and Hollingsworth 1955; Hairer and Wanner II, section IV.5.
    """

    info = SchedulerInfo(
        "gauss-legendre-2", 4, model_calls_per_step=7, stochastic=False, source="Hairer and Wanner II, IV.5"
    )
    matrix = ((1 / 4, 1 / 4 - math.sqrt(3) / 6), (1 / 4 + math.sqrt(3) / 6, 1 / 4))
    weights = (1 / 2, 1 / 2)


@attrs.frozen(slots=False)
class RadauIIA2(_Implicit):
    """Radau's implicit method IIA of two stages, of third order, by fixed-point sweeps.

    Source: Hairer and Wanner, "Solving ordinary differential equations II", section IV.5.
    """

    info = SchedulerInfo(
        "radau-iia-2", 3, model_calls_per_step=5, stochastic=False, source="Hairer and Wanner II, IV.5"
    )
    matrix = ((5 / 12, -1 / 12), (3 / 4, 1 / 4))
    weights = (3 / 4, 1 / 4)

    iterations: int = field(whole, low=1, high=8, default=2)
