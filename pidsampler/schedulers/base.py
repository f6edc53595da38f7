"""What the schedulers share: a checked list of times, the first-order steps, and putting rows together."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, ClassVar

from ..errors import ConfigError
from ..table import Combination, Row, Terms, combined
from ..timesteps import TimesLike, custom
from .spec import Spec


@dataclass(frozen=True)
class SchedulerInfo:
    """The facts about a method that users choose by.

    Args:
        name: Short name, as in a spec string.
        accuracy_order: Proved order of global convergence between two noise levels above 0: the error falls as
            steps**-accuracy_order. A method of higher nominal order may be capped by its cheap first rows. For a
            stochastic method it is the weak order, of the law's moments, on a Gaussian flow.
        model_calls_per_step: Network evaluations for each step of the timestep list; a step to 0 takes one.
        stochastic: Whether any setting of it draws fresh noise.
        source: Paper or project that the formula comes from.
        aliases: Names of the same method elsewhere.
    """

    name: str
    accuracy_order: int
    model_calls_per_step: int
    stochastic: bool
    source: str
    aliases: tuple[str, ...] = ()


class TimesScheduler:
    """A scheduler over a list of times; the options of a subclass are attributes of the same names.

    Args:
        timesteps: A valid list of times, see `timesteps.custom`. One that ends above 0 stops there.

    Raises:
        PidSamplerError: The list is not valid, or an option is outside the range that its class states.
    """

    info: ClassVar[SchedulerInfo]
    spec: Spec | None = None  # what it was made from, if that names its list

    def __init__(self, timesteps: TimesLike) -> None:
        self.timesteps = custom(timesteps, partial=True)

    @property
    def steps(self) -> list[tuple[float, float]]:
        """The pairs (t, t_next)."""
        return list(pairwise(self.timesteps.tolist()))

    @property
    def options(self) -> dict[str, Any]:
        """The options and their values, without the times."""
        return {name: getattr(self, name) for name in inspect.signature(type(self)).parameters if name != "timesteps"}

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items() if value is not None)
        return f"{type(self).__name__}({self.timesteps.tolist()}{options})"

    def __str__(self) -> str:
        return repr(self) if self.spec is None else str(self.spec)


# What a history or a stage holds, as combinations of x and x0 at time t.
X0 = Combination(b=1.0)


def x0(t: float) -> Combination:
    """x0 itself."""
    return X0


def velocity(t: float) -> Combination:
    """v = (x - x0) / t."""
    return Combination(a=1.0 / t, b=-1.0 / t)


def eps(t: float) -> Combination:
    """eps = (x - (1 - t)*x0) / t."""
    return Combination(a=1.0 / t, b=-(1.0 - t) / t)


def euler(t: float, t_next: float) -> Combination:
    """x' = (t'/t)*x + (1 - t'/t)*x0: the first-order step of every deterministic method here; x0 itself at t' = 0."""
    return Combination(a=t_next / t, b=1.0 - t_next / t)


def renoised(t: float, t_next: float, shares: tuple[float, float], draw: int) -> Combination:
    """Euler's step with only a share of the noise that x implies, the rest fresh; the marginal stays exact.

    x' = (1 - t')*x0 + t'*(keep*eps_hat + fresh*N(draw)),  eps_hat = (x - (1 - t)*x0)/t,  keep^2 + fresh^2 = 1
    """
    keep, fresh = shares
    a = keep * (t_next / t)
    # (1 - t') - a*(1 - t), ordered so that keep = 1 and keep = 0 are exact: 1 - t'/t and 1 - t'.
    b = (1.0 - a) - (1.0 - keep) * t_next
    return Combination(a=a, b=b, noise={draw: fresh * t_next})


def sde_shares(eta: float, h: float) -> tuple[float, float]:
    """The shares of implied and fresh noise of an SDE of strength eta over a step h in log-SNR: exp(-eta*h) is kept."""
    return (math.exp(-eta * h), math.sqrt(-math.expm1(-2.0 * eta * h))) if eta else (1.0, 0.0)  # h may be infinite


def checked_eta(eta: float, name: str = "eta") -> float:
    """Return the strength of an SDE's noise; raise PidSamplerError if it is negative or not finite."""
    if not 0.0 <= eta < math.inf:
        raise ConfigError(f"{name}={eta!r} must be a finite number from 0: 0 is the ODE, 1 the usual SDE")
    return float(eta)


def row(t: float, t_next: float, update: Combination, saves: Mapping[int, Combination] | None = None) -> Row:
    """The row whose update is a combination."""
    return Row(t, t_next, a=update.a, b=update.b, h=update.h, noise=update.noise, saves=saves or {})


@dataclass(frozen=True)
class Stage:
    """The state at `t` as start + sum_j weights[j]*q_j: a combination where the step began, q_j of stages before.

    `noise` is added to the state when it is complete.
    """

    t: float
    start: Combination
    weights: tuple[float, ...]
    noise: Terms = ()


def stage_rows(t: float, stages: Sequence[Stage], quantity: Callable[[float], Combination]) -> list[Row]:
    """The rows of one step of a method with stages, the last of which is the result.

    Each later stage is summed up as its parts become known, so a row reads one saved tensor; stages that are equal
    so far share theirs.
    """
    rows: list[Row] = []
    slots: dict[tuple[object, ...], int] = {}  # (start, weights so far) -> where that sum lies
    times = [t, *(stage.t for stage in stages)]
    for i, (now, after) in enumerate(pairwise(times)):
        q = quantity(now)
        later = {(stage.start, *stage.weights[: i + 1]): stage for stage in stages[i + 1 :]}
        same = {key: slots[key[:-1]] for key in later if i and key[-1] == 0.0}
        free = (slot for slot in range(len(stages)) if slot not in same.values())
        new = {key: next(free) for key in later if key not in same}
        saves = {slot: _summed(later[key], i, q, slots) for key, slot in new.items()}
        update = combined([(1.0, _summed(stages[i], i, q, slots)), (1.0, Combination(noise=stages[i].noise))])
        rows.append(row(now, after, update, saves))
        slots = same | new
    return rows


def _summed(stage: Stage, i: int, q: Combination, slots: dict[tuple[object, ...], int]) -> Combination:
    """The sum for `stage` up to evaluation i, whose quantity is q."""
    before = Combination(h={slots[stage.start, *stage.weights[:i]]: 1.0}) if i else stage.start
    return combined([(1.0, before), (stage.weights[i], q)])
