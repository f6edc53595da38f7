"""Exponential Runge-Kutta methods for x0, each from a tableau of phi functions: RES, ETDRK and Krogstad.

The linear part of the flow's equation in log-SNR, or in -log(sigma), is solved exactly, which is Euler's step; the
stages add how x0 changes. A step that is infinitely long in that variable is Euler's alone.
"""

from __future__ import annotations

import math
from typing import Any, ClassVar

import attrs

from ..errors import ConfigError
from ..table import Row, StepTable
from ..values import field, instance, items, number, numbers, whole, word
from . import conditions
from .base import SchedulerInfo, Stage, TimesScheduler, euler, refusing_close_times, row, stage_rows, x0
from .exact import VARIABLES, Variable, phi

# A sum of weight * phi_k(c*z), as (weight, k, c).
Phis = tuple[tuple[float, int, float], ...]


def _phis(name: str, value: Any) -> Phis:
    terms = [items(name, term, words="(weight, k, c)") for term in items(name, value, words="terms")]
    if any(len(term) != 3 for term in terms):
        raise ConfigError(f"{name} must be sums of terms (weight, k, c)")
    return tuple((number(name, w), whole(name, k, low=0, high=9), number(name, c)) for w, k, c in terms)


def _weights(name: str, value: Any) -> tuple[Phis, ...]:
    return tuple(_phis(name, phis) for phis in items(name, value, words="weights"))


def _rows(name: str, value: Any) -> tuple[tuple[Phis, ...], ...]:
    return tuple(_weights(name, weights) for weights in items(name, value, words="rows of weights"))


@attrs.frozen
class ExponentialTableau:
    """An explicit exponential method for u' = L*u + g(u), with z = h*L and weights that are sums of phi_k(c*z).

    Stage i is at the share c of the step, exp(c*z)*u + h*sum_j a[i][j]*g_j, and so is the step itself with b.

    Args:
        c: Where in the step each stage after the first lies, in 0..1.
        a: One row for each of those stages, with one weight for each stage between the first and it: 0, 1, 2, ...
        b: One weight for each stage after the first. A weight is a sum of terms (weight, k, c), each
            weight*phi_k(c*z).

    The weight of the first stage is c*phi_1(c*z) less the others, so that a constant g is integrated exactly. The
    classical order (up to 5) is derived from the order conditions.

    Raises:
        PidSamplerError: Shapes do not fit, or a node lies outside 0..1.

    Source: Hochbruck and Ostermann, "Exponential integrators", Acta Numerica 2010, section 2.3.
    """

    c: tuple[float, ...] = field(numbers, low=0, high=1)
    a: tuple[tuple[Phis, ...], ...] = field(_rows)
    b: tuple[Phis, ...] = field(_weights, kw_only=True)

    def __attrs_post_init__(self) -> None:
        lengths = [len(row) for row in self.a]
        if lengths != list(range(len(self.c))) or len(self.b) != len(self.c):
            raise ConfigError(
                f"a tableau with {len(self.c)} nodes c needs as many weights b and rows a of 0.. weights, found "
                f"{len(self.b)} and {lengths}"
            )

    def at(self, z: float) -> list[list[float]]:
        """Return the weights of the stages after the first at z, of each stage after it and of the step.

        Raises:
            PidSamplerError: z is not finite.
        """
        z = number("z", z)
        return [[math.fsum(w * phi(k, c * z) for w, k, c in phis) for phis in row] for row in (*self.a, self.b)]

    @property
    def order(self) -> int:
        """Classical order of accuracy, from the conditions of trees of the linear part and the rest."""
        return conditions.order(self._series, nodes=(0.0, *self.c))

    def _series(self, m: int) -> tuple[list[list[float]], list[float]]:
        """The coefficients of z^m of all weights."""
        size, rows = 1 + len(self.c), [[0.0] * (1 + len(self.c))]
        for c, weights in zip((*self.c, 1.0), (*self.a, self.b), strict=True):
            others = [math.fsum(w * at**m / math.factorial(m + k) for w, k, at in phis) for phis in weights]
            first = c ** (m + 1) / math.factorial(m + 1) - math.fsum(others)
            rows.append([first, *others, *[0.0] * (size - 1 - len(others))])
        return rows[:-1], rows[-1]


@attrs.frozen(slots=False)
class _Exponential(TimesScheduler):
    """An exponential method by the tableau of the object or its class.

    Args:
        timesteps: A valid list of times.
        variable: "log-snr", log((1 - t)/t), or "log-sigma", -log(t) as in ComfyUI and RES4LYF: what a step is measured
            in, and stages lie in.
    """

    tableau: ClassVar[ExponentialTableau]
    stiff_order: ClassVar[int]  # that long steps leave, where the linear part dominates

    variable: str = field(word, choices=VARIABLES, default="log-snr", kw_only=True)

    @refusing_close_times
    def table(self) -> StepTable:
        """Return one row per stage; a step to 0, and in log-SNR one from 1, is one row."""
        rows: list[Row] = []
        for t, t_next in self.steps:
            rows += self._step(t, t_next)
        return StepTable(rows)

    def _step(self, t: float, t_next: float) -> list[Row]:
        variable, tableau = Variable(self.variable), self.tableau
        if not math.isfinite(h := variable.step(t, t_next)):
            return [row(t, t_next, update=euler(t, t_next))]
        stages = []
        for c, weights in zip((*tableau.c, 1.0), tableau.at(-h), strict=True):
            at = variable.inside(t, t_next, share=c)
            scaled = [variable.scale(at) * h * w for w in weights]
            stages.append(Stage(at, euler(t, at), weights=(-math.fsum(scaled), *scaled)))
        return stage_rows(t, stages, quantity=x0)


@attrs.frozen(slots=False)
class ExponentialRungeKutta(_Exponential):
    """The exponential Runge-Kutta method of a tableau of one's own.

    Source: Hochbruck and Ostermann, "Exponential integrators", Acta Numerica 2010, section 2.3.
    """

    tableau: ExponentialTableau = field(  # type: ignore[misc]
        instance, kind=ExponentialTableau, words="an ExponentialTableau"
    )


def _node(default: float) -> Any:
    return field(number, low=0, high=1, above=True, default=default, kw_only=True)


@attrs.frozen(slots=False)
class RES2S(_Exponential):
    """RES of two stages, of order 2.

    Args:
        timesteps: A valid list of times.
        variable: "log-snr" or "log-sigma".
        c2: Where in the step the second evaluation lies; in (0, 1].

    Source: Refined exponential solver (arXiv 2308.02157), section 3; Hochbruck and Ostermann 2010, section 2.3.
    """

    info = SchedulerInfo("res-2s", 2, model_calls_per_step=2, stochastic=False, source="RES, arXiv 2308.02157")
    stiff_order = 2

    c2: float = _node(0.5)

    @property
    def tableau(self) -> ExponentialTableau:  # type: ignore[override]
        """The tableau with this c2."""
        return ExponentialTableau((self.c2,), ((),), b=(((1 / self.c2, 2, 1.0),),))


class ETDRK2(_Exponential):
    """ETDRK2, the exponential Heun method: res-2s with its second evaluation at the end of the step.

    Source: Cox and Matthews, J. Comput. Phys. 176 (2002), equation 22.
    """

    info = SchedulerInfo("etdrk2", 2, model_calls_per_step=2, stochastic=False, source="Cox and Matthews 2002")
    stiff_order = 2
    tableau = ExponentialTableau((1.0,), ((),), b=(((1.0, 2, 1.0),),))


@attrs.frozen(slots=False)
class RES3S(_Exponential):
    """RES of three stages, of order 3.

    Args:
        timesteps: A valid list of times.
        variable: "log-snr" or "log-sigma".
        c2: Where in the step the second evaluation lies; in (0, 1], and not 2/3.
        c3: Where the third lies; in (0, 1].

    Raises:
        PidSamplerError: The two leave no method of order 3.

    Source: Refined exponential solver (arXiv 2308.02157), section 3; Hochbruck and Ostermann 2010, section 2.3.
    """

    info = SchedulerInfo("res-3s", 3, model_calls_per_step=3, stochastic=False, source="RES, arXiv 2308.02157")
    stiff_order = 3

    c2: float = _node(0.5)
    c3: float = _node(1.0)

    def __attrs_post_init__(self) -> None:
        if abs(2 - 3 * self.c2) < 1e-9 or abs(self._gamma * self.c2 + self.c3) < 1e-9:
            raise ConfigError(f"c2={self.c2!r} and c3={self.c3!r} leave no method of order 3: take others")

    @property
    def _gamma(self) -> float:
        return (3 * self.c3**2 - 2 * self.c3) / (self.c2 * (2 - 3 * self.c2))

    @property
    def tableau(self) -> ExponentialTableau:  # type: ignore[override]
        """The tableau with these c2 and c3."""
        c2, c3, gamma = self.c2, self.c3, self._gamma
        third = ((gamma * c2, 2, c2), (c3**2 / c2, 2, c3))
        share = 1 / (gamma * c2 + c3)
        return ExponentialTableau((c2, c3), ((), (third,)), b=(((gamma * share, 2, 1.0),), ((share, 2, 1.0),)))


class RES5S(_Exponential):
    """Hochbruck and Ostermann's method of five stages, of order 4 for long steps too.

    Source: Hochbruck and Ostermann, SIAM J. Numer. Anal. 43 (2005), equation 5.19.
    """

    info = SchedulerInfo(
        "res-5s",
        4,
        model_calls_per_step=5,
        stochastic=False,
        source="Hochbruck and Ostermann 2005",
        aliases=("hochbruck-ostermann",),
    )
    stiff_order = 4
    _FIFTH = ((1 / 2, 2, 1 / 2), (-1.0, 3, 1.0), (1 / 4, 2, 1.0), (-1 / 2, 3, 1 / 2))
    tableau = ExponentialTableau(
        (1 / 2, 1 / 2, 1.0, 1 / 2),
        (
            (),
            (((1.0, 2, 1 / 2),),),
            (((1.0, 2, 1.0),), ((1.0, 2, 1.0),)),
            (_FIFTH, _FIFTH, ((1 / 4, 2, 1 / 2), *((-w, k, c) for w, k, c in _FIFTH))),
        ),
        b=((), (), ((-1.0, 2, 1.0), (4.0, 3, 1.0)), ((4.0, 2, 1.0), (-8.0, 3, 1.0))),
    )


def _through_34(c: float) -> tuple[Phis, Phis]:
    """The weights of the third and fourth evaluation of `RES6S`, at 1/2 and 1/3, in a state at c."""
    third = ((-4 * c**2, 2, c), (24 * c**3, 3, c))
    fourth = ((9 * c**2, 2, c), (-36 * c**3, 3, c))
    return third, fourth


class RES6S(_Exponential):
    """Luan and Ostermann's method of six stages, of order 4 for long steps too: res_6s of RES4LYF.

    Source: Luan and Ostermann, J. Comput. Appl. Math. 256 (2014), the method expRK4s6.
    """

    info = SchedulerInfo(
        "res-6s", 4, model_calls_per_step=6, stochastic=False, source="Luan and Ostermann 2014, expRK4s6"
    )
    stiff_order = 4
    tableau = ExponentialTableau(
        (1 / 2, 1 / 2, 1 / 3, 1 / 3, 5 / 6),
        (
            (),
            (((1 / 2, 2, 1 / 2),),),
            (((2 / 9, 2, 1 / 3),), ()),
            ((), *_through_34(1 / 3)),
            ((), *_through_34(5 / 6), ()),
        ),
        b=((), (), (), ((5.0, 2, 1.0), (-12.0, 3, 1.0)), ((-4 / 5, 2, 1.0), (24 / 5, 3, 1.0))),
    )


class ETDRK3(_Exponential):
    """ETDRK3, of order 3 for short steps. Source: Cox and Matthews, J. Comput. Phys. 176 (2002), equations 23 to 25."""

    info = SchedulerInfo("etdrk3", 3, model_calls_per_step=3, stochastic=False, source="Cox and Matthews 2002")
    stiff_order = 2
    tableau = ExponentialTableau(
        (1 / 2, 1.0),
        ((), (((2.0, 1, 1.0),),)),
        b=(((4.0, 2, 1.0), (-8.0, 3, 1.0)), ((-1.0, 2, 1.0), (4.0, 3, 1.0))),
    )


_MIDDLE, _END = ((2.0, 2, 1.0), (-4.0, 3, 1.0)), ((-1.0, 2, 1.0), (4.0, 3, 1.0))


class ETDRK4(_Exponential):
    """ETDRK4, of order 4 for short steps: the classical Runge-Kutta method where there is no linear part.

    Source: Cox and Matthews, J. Comput. Phys. 176 (2002), equations 26 to 29.
    """

    info = SchedulerInfo("etdrk4", 4, model_calls_per_step=4, stochastic=False, source="Cox and Matthews 2002")
    stiff_order = 2
    tableau = ExponentialTableau(
        (1 / 2, 1 / 2, 1.0),
        ((), (((1 / 2, 1, 1 / 2),),), ((), ((1.0, 1, 1 / 2),))),
        b=(_MIDDLE, _MIDDLE, _END),
    )


class Krogstad(_Exponential):
    """Krogstad's method of four stages, of order 4 for short steps and 3 for long ones.

    Source: Krogstad, J. Comput. Phys. 203 (2005), its ETDRK4-B.
    """

    info = SchedulerInfo("krogstad", 4, model_calls_per_step=4, stochastic=False, source="Krogstad 2005")
    stiff_order = 3
    tableau = ExponentialTableau(
        (1 / 2, 1 / 2, 1.0),
        ((), (((1.0, 2, 1 / 2),),), ((), ((2.0, 2, 1.0),))),
        b=(_MIDDLE, _MIDDLE, _END),
    )
