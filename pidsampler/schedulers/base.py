"""What the schedulers share: a checked list of times, the first-order steps, and putting rows together."""

from __future__ import annotations

import copy
import functools
import inspect
import math
from collections.abc import Callable, Mapping, Sequence
from itertools import pairwise
from typing import Any, ClassVar, Self

import attrs
import numpy as np

from .. import moved
from ..errors import ConfigError
from ..table import Combination, Row, StepTable, Terms, TermsLike, as_table, combined
from ..timesteps import Times, TimesLike, custom
from ..values import expected, field, flag, function, instance, items, number, numbers, shown, whole, word, words
from .spec import Spec


@moved.keywords()
@attrs.frozen
class SchedulerInfo:
    """The facts about a method that users choose by.

    Args:
        name: Short name, as in a spec string.
        accuracy_order: Proved order of global convergence between two noise levels above 0: the error falls as
            steps**-accuracy_order. A method of higher nominal order may be capped by its cheap first rows. For a
            stochastic method it is the weak order, of the law's moments, on a Gaussian flow.
        model_calls_per_step: Network evaluations for each step of the timestep list; a step to 0 takes one of each
            network that is asked.
        stochastic: Whether any setting of it draws fresh noise.
        source: Paper or project that the formula comes from.
        aliases: Names of the same method elsewhere.

    Raises:
        PidSamplerError: A value is not as described.
    """

    name: str = field(word)
    accuracy_order: int = field(whole, low=0)
    model_calls_per_step: int = field(whole, low=1, kw_only=True)
    stochastic: bool = field(flag, kw_only=True)
    source: str = field(word, kw_only=True)
    aliases: tuple[str, ...] = field(words, default=(), kw_only=True)


def _checked(timesteps: TimesLike) -> tuple[float, ...]:
    return tuple(custom(timesteps, partial=True).tolist())


@attrs.frozen(slots=False, eq=False, repr=False)
class TimesScheduler:
    """A scheduler over a list of times: frozen, and equal to another of its class with equal times and options.

    A subclass declares its options as attrs fields under `@attrs.frozen`. One without options needs no decorator, and
    one with an `__init__` of its own keeps each option as an attribute of the same name.

    Args:
        timesteps: A valid list of times, see `timesteps.custom`. One that ends above 0 stops there.

    Raises:
        PidSamplerError: The list is not valid, or an option is not as its class states.
    """

    info: ClassVar[SchedulerInfo]

    _times: tuple[float, ...] = attrs.field(alias="timesteps", converter=_checked)
    spec: Spec | None = attrs.field(default=None, init=False)  # what it was made from, if that names its list
    timesteps_sha256: str | None = attrs.field(default=None, init=False)  # of the file that the times were in

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        for name in ("__eq__", "__hash__", "__repr__"):  # attrs writes those that a class has not itself
            if name not in vars(cls):
                setattr(cls, name, getattr(cls, name))
        if "__init__" in vars(cls) and "__attrs_attrs__" not in vars(cls):
            _freeze_after_init(cls)

    @property
    def timesteps(self) -> Times:
        """The times, a read-only float64 array."""
        times = np.array(self._times)
        times.setflags(write=False)
        return times

    @property
    def steps(self) -> list[tuple[float, float]]:
        """The pairs (t, t_next)."""
        return list(pairwise(self._times))

    def at_step(self, n: int) -> Self:
        """Return the scheduler as it takes step n: an `eta` that is a list of numbers is that of this step alone.

        Args:
            n: Number of the step, from 0.

        Raises:
            PidSamplerError: There is no such step.
        """
        whole("n", n, low=0, high=len(self._times) - 2)
        etas = getattr(self, "eta", None)
        if not isinstance(etas, tuple):
            return self
        made = copy.copy(self)
        vars(made)["eta"] = etas[n]
        return made

    @property
    def options(self) -> dict[str, Any]:
        """The options that it keeps as attributes, and their values, without the times."""
        names = [name for name in inspect.signature(type(self)).parameters if name != "timesteps"]
        return {name: getattr(self, name) for name in names if hasattr(self, name)}

    def with_spec(self, spec: Spec) -> Self:
        """Return the same scheduler with the spec that it was made from, which `str` then gives.

        Raises:
            PidSamplerError: The spec is no `Spec`.
        """
        made = copy.copy(self)
        object.__setattr__(made, "spec", instance("spec", spec, kind=Spec, words="a Spec"))
        return made

    def ascending(self, t_min: float) -> Self:
        """Return the same method over the list the other way: t_min, then the times above it, for inversion.

        Args:
            t_min: Noise level that the list begins at, above 0.

        Raises:
            PidSamplerError: t_min is not in (0, 1].
        """
        t_min = number("t_min", t_min, low=0, high=1, above=True)
        made = copy.copy(self)
        object.__setattr__(made, "_times", (t_min, *(t for t in reversed(self._times) if t > t_min)))
        object.__setattr__(made, "spec", None)
        return made

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, TimesScheduler) or type(other) is not type(self):
            return NotImplemented
        return self._times == other._times and self.options == other.options

    def __hash__(self) -> int:
        return hash((type(self), self._times, tuple(self.options.values())))

    def __repr__(self) -> str:
        options = "".join(f", {name}={value!r}" for name, value in self.options.items() if value is not None)
        return f"{type(self).__name__}({list(self._times)}{options})"

    def __str__(self) -> str:
        return repr(self) if self.spec is None else str(self.spec)

    def _repr_html_(self) -> str:
        return as_table(self).html(str(self))  # type: ignore[arg-type]


Eta = float | tuple[float, ...]


def eta_field(high: float = math.inf) -> Any:
    """A field `eta` of a `TimesScheduler`, 1 by default: a number from 0 to `high`, or a list of one for each step.

    Raises:
        PidSamplerError: When the scheduler is made: a number is out of range, or there are not as many as steps.
    """
    high = high if high == math.inf else number("high", high, low=0)

    def convert(value: float | Sequence[float], made: Any, about: attrs.Attribute[Eta]) -> Eta:
        if not isinstance(value, tuple | list | np.ndarray):
            return number(about.name, value, low=0, high=high)
        etas, steps = numbers(about.name, value, low=0, high=high), len(made.steps)
        if len(etas) != steps:
            raise ConfigError(
                f"{about.name} lists {len(etas)} numbers for {steps} steps: pass one for each step, or one number"
            )
        return etas

    limits = {"low": 0.0} if high == math.inf else {"low": 0.0, "high": high}
    takes = f"{expected(number, **limits)}, or a list of one for each step"
    return attrs.field(
        default=1.0,
        converter=attrs.Converter(convert, takes_self=True, takes_field=True),
        metadata={"takes": takes, **limits},
    )


def one_eta(eta: Eta) -> float:
    """The eta of a scheduler that is `at_step`, which is one number."""
    return number("eta", eta, low=0)


def refusing_close_times(table: Callable[[Any], StepTable]) -> Callable[[Any], StepTable]:
    """A `table` method whose errors name the closest times: float64 has no weights for times that it cannot tell apart.

    Raises:
        PidSamplerError: A weight is not finite, divides by 0, or makes errors too large, see `StepTable`.
    """
    function("table", table, takes="(self)")

    @functools.wraps(table)
    def checked(self: Any) -> StepTable:
        try:
            with np.errstate(all="ignore"):
                return table(self)
        except (ArithmeticError, ValueError) as error:  # also NumPy's of a singular matrix, and ConfigError
            t, t_next = min(self.steps, key=lambda step: step[0] - step[1])
            raise ConfigError(
                f"{self.info.name if hasattr(self, 'info') else type(self).__name__} cannot tell times apart that are "
                f"as close as {t!r} and {t_next!r} ({error}): leave one of them out"
            ) from error

    return checked


def _freeze_after_init(cls: Any) -> None:
    """Let a class's own `__init__` set attributes, and nothing afterwards."""
    init = cls.__init__

    @functools.wraps(init)
    def construct(self: Any, *arguments: Any, **options: Any) -> None:
        outermost = "_open" not in vars(self)
        vars(self)["_open"] = True
        init(self, *arguments, **options)
        if outermost:
            del vars(self)["_open"]

    def assign(self: Any, name: str, value: Any) -> None:
        if "_open" not in vars(self):
            raise attrs.exceptions.FrozenInstanceError
        if name == "timesteps":  # as a class of 0.1 may set it
            name, value = "_times", _checked(value)
        object.__setattr__(self, name, value)

    cls.__init__, cls.__setattr__ = construct, assign


# What a history or a stage holds, as combinations of x and x0 at time t.
X0 = Combination(b=1.0)


def x0(t: float) -> Combination:
    """Return the weights of x0, which is what steps extrapolate.

    Args:
        t: Noise level of x.

    Returns:
        Weights of x and x0.
    """
    _evaluated(t)
    return X0


def velocity(t: float) -> Combination:
    """Return the weights of the velocity v = (x - x0) / t, which is what steps extrapolate.

    Args:
        t: Noise level of x, above 0.

    Returns:
        Weights of x and x0.
    """
    t = _evaluated(t)
    return Combination(a=1.0 / t, b=-1.0 / t)


def eps(t: float) -> Combination:
    """Return the weights of eps = (x - (1 - t)*x0) / t, which is what steps extrapolate.

    Args:
        t: Noise level of x, above 0.

    Returns:
        Weights of x and x0.
    """
    t = _evaluated(t)
    return Combination(a=1.0 / t, b=-(1.0 - t) / t)


def euler(t: float, t_next: float) -> Combination:
    """x' = (t'/t)*x + (1 - t'/t)*x0: the first-order step of every deterministic method here; x0 itself at t' = 0."""
    t, t_next = _evaluated(t), number("t_next", t_next, low=0, high=1)
    return Combination(a=t_next / t, b=1.0 - t_next / t)


@moved.keywords(shares="split")
def ancestral_step(t: float, t_next: float, *, split: tuple[float, float], draw: int) -> Combination:
    """Euler's step that keeps a part of the noise that x implies and draws the rest; the marginal stays exact.

    x' = (1 - t')*x0 + t'*(keep*eps_hat + fresh*N(draw)),  eps_hat = (x - (1 - t)*x0)/t,  keep^2 + fresh^2 = 1

    Args:
        t: Time of the evaluation.
        t_next: Noise level to go to.
        split: (keep, fresh), such as of `noise_split`.
        draw: Number of the fresh noise.
    """
    t, t_next = _evaluated(t), number("t_next", t_next, low=0, high=1)
    keep, fresh = _pair(split)
    a = keep * (t_next / t)
    # (1 - t') - a*(1 - t), ordered so that keep = 1 and keep = 0 are exact: 1 - t'/t and 1 - t'.
    b = (1.0 - a) - (1.0 - keep) * t_next
    return Combination(a=a, b=b, noise=[(draw, fresh * t_next)])


def noise_split(strength: float, h: float) -> tuple[float, float]:
    """Return (keep, fresh) of an SDE over a step h in log-SNR: exp(-strength*h) of the implied noise is kept."""
    if number("strength", strength, low=0) == 0.0:
        return 1.0, 0.0
    h = h if h == math.inf else number("h", h, low=0)  # from t = 1 and to 0
    return math.exp(-strength * h), math.sqrt(-math.expm1(-2.0 * strength * h))


def _evaluated(t: float) -> float:
    return number("t", t, low=0, high=1, above=True)


def _pair(split: tuple[float, float]) -> tuple[float, float]:
    shares = numbers("split", split, low=0, high=1)
    if len(shares) != 2:
        raise ConfigError(f"split={shown(split)} must be (keep, fresh)")
    return shares[0], shares[1]


def row(t: float, t_next: float, *, update: Combination, saves: Mapping[int, Combination] | None = None) -> Row:
    """Return the row whose update is a combination."""
    instance("update", update, kind=Combination, words="a Combination")
    return Row(t, t_next, a=update.a, b=update.b, h=update.h, noise=update.noise, saves=saves or {})


def _draws(noise: TermsLike) -> Terms:
    return Combination(noise=noise).noise


@attrs.frozen
class Stage:
    """The state at `t` as start + sum_j weights[j]*q_j: a combination where the step began, q_j of stages before.

    `noise` is added to the state when it is complete.
    """

    t: float = field(number, low=0, high=1)
    start: Combination = field(instance, kind=Combination, words="a Combination")
    weights: tuple[float, ...] = field(numbers, kw_only=True)
    noise: Terms = attrs.field(converter=_draws, default=(), kw_only=True)


def stage_rows(t: float, stages: Sequence[Stage], *, quantity: Callable[[float], Combination]) -> list[Row]:
    """Return the rows of one step of a method with stages, the last of which is the result.

    Each later stage is summed up as its parts become known, so a row reads one saved tensor; stages that are equal
    so far share theirs.
    """
    rows: list[Row] = []
    slots: dict[tuple[object, ...], int] = {}  # (start, weights so far) -> where that sum lies
    stages = [instance("stage", stage, kind=Stage, words="a Stage") for stage in items("stages", stages, words="Stage")]
    times = [_evaluated(t), *(stage.t for stage in stages)]
    for i, (now, after) in enumerate(pairwise(times)):
        q = quantity(now)
        later = {(stage.start, *stage.weights[: i + 1]): stage for stage in stages[i + 1 :]}
        same = {key: slots[key[:-1]] for key in later if i and key[-1] == 0.0}
        free = (slot for slot in range(len(stages)) if slot not in same.values())
        new = {key: next(free) for key in later if key not in same}
        saves = {slot: _summed(later[key], i, q, slots) for key, slot in new.items()}
        update = combined([(1.0, _summed(stages[i], i, q, slots)), (1.0, Combination(noise=stages[i].noise))])
        rows.append(row(now, after, update=update, saves=saves))
        slots = same | new
    return rows


def _summed(stage: Stage, i: int, q: Combination, slots: dict[tuple[object, ...], int]) -> Combination:
    """The sum for `stage` up to evaluation i, whose quantity is q."""
    before = Combination(h={slots[stage.start, *stage.weights[:i]]: 1.0}) if i else stage.start
    return combined([(1.0, before), (stage.weights[i], q)])


__getattr__ = moved.names(__name__)
