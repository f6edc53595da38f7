"""Wrappers: functions (sampler, options) -> table that change each row of any method, by name in a spec.

In a spec they follow the method, and are applied from left to right: "heun.detail(amount=0.2)@karras:8". In Python they
take a scheduler or a table: `detail(table, amount=0.2)`. A wrapper of one's own is registered in `WRAPPERS`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from typing import Any

import attrs
import numpy as np

from ..errors import ConfigError
from ..plugins import Registry
from ..table import Combination, Row, Scheduler, StepTable, as_table, combined
from ..values import field, flag, instance, items, number, numbers, shown, word
from .making import called, check_options, is_made
from .spec import Call, Spec

# Functions (sampler, options) -> StepTable, by the name that follows the method's in a spec.
WRAPPERS: Registry[Callable[..., StepTable]] = Registry("wrapper", "pidsampler.wrappers")

_LEAST = 1e-6  # share of the noise level that is told at least, as Detail Daemon has it


def _made(name: str, value: Scheduler) -> Scheduler:
    if not is_made(value):
        raise ConfigError(f"{name}={shown(value)} must be a scheduler or StepTable")
    return value


@attrs.frozen
class Wrapped:
    """A scheduler with one wrapper; of several, each holds the one before.

    Args:
        scheduler: Scheduler or table that is wrapped.
        wrapper: Name and options of the wrapper.

    Raises:
        PidSamplerError: The wrapper is unknown or has no such option.
    """

    scheduler: Scheduler = field(_made)
    wrapper: Call = field(instance, kind=Call, words="a Call")
    spec: Spec | None = attrs.field(default=None, init=False, eq=False)  # what it was made from, if that names its list

    def __attrs_post_init__(self) -> None:
        name, given = self.wrapper.name, self.wrapper.options
        named = check_options(WRAPPERS.find(name), name, options=given)
        object.__setattr__(self, "wrapper", Call(name, named))

    @property
    def timesteps(self) -> Any:
        """The times of what is wrapped."""
        return _times(self.scheduler)

    @property
    def timesteps_sha256(self) -> str | None:
        """The SHA-256 of the file that the times were in, or None."""
        return getattr(self.scheduler, "timesteps_sha256", None)

    def table(self) -> StepTable:
        """Return the table of what is wrapped, changed."""
        name = self.wrapper.name
        function, options = WRAPPERS.find(name), self.wrapper.options
        table = called(function, name, arguments=(self.scheduler,), options=options)
        return instance(f"the table of the wrapper {name}", table, kind=StepTable, words="a StepTable")

    def with_spec(self, spec: Spec) -> Wrapped:
        """Return the same with the spec that it was made from, which `str` then gives."""
        made = attrs.evolve(self)
        object.__setattr__(made, "spec", instance("spec", spec, kind=Spec, words="a Spec"))
        return made

    def __repr__(self) -> str:
        inner = "StepTable" if isinstance(self.scheduler, StepTable) else repr(self.scheduler)
        return f"{inner}.{self.wrapper}"

    def __str__(self) -> str:
        return repr(self) if self.spec is None else str(self.spec)

    def _repr_html_(self) -> str:
        return self.table().html(str(self))


def wrapped(scheduler: Scheduler, wrappers: Iterable[Call]) -> Scheduler:
    """Return a scheduler with each of the wrappers, the first one innermost; with none it is the scheduler itself."""
    made = _made("scheduler", scheduler)
    for call in items("wrappers", wrappers, words="Calls"):
        made = Wrapped(made, call)
    return made


def _times(sampler: Scheduler) -> Any:
    times = getattr(sampler, "timesteps", None)
    return as_table(sampler).times if times is None else times


def _listed(sampler: Scheduler) -> list[float]:
    """The descending list of a sampler; of a table, which does not tell its steps, all times that are evaluated."""
    return sorted({*numbers("timesteps", _times(sampler))}, reverse=True)


# What the network is told.


@WRAPPERS.register
def detail(
    sampler: Scheduler,
    amount: float = 0.1,
    *,
    start: float = 0.2,
    end: float = 0.8,
    bias: float = 0.5,
    exponent: float = 1.0,
    smooth: bool = True,
) -> StepTable:
    """Detail Daemon: the network is told less noise than x has, and x0 is read there, so that it leaves more detail.

    The time told is at = t*(1 - 0.1*w), q = -at. w is 0 before the step `start`, rises to `amount`, and falls to 0 at
    the step `end`; between two times of the list it is interpolated. `at` stays in (0, 1].

    Args:
        sampler: Scheduler or table of a velocity.
        amount: Most of w, -5..5; below 0 the network is told more noise, for less detail. Detail Daemon multiplies by
            the guidance scale: give the product.
        start: Where it begins, as a share of the steps, 0..1; one after `end` counts as `end`.
        end: Where it ends, 0..1.
        bias: Where between them w is largest, 0..1.
        exponent: Power of the rise and the fall, 0..10.
        smooth: Whether they are half a cosine, and not straight.

    Returns:
        The wrapped sampler's table.

    Raises:
        PidSamplerError: An option is out of its range, or a row does not read x0 of a velocity at the time told.

    Source: Jonseed/ComfyUI-Detail-Daemon, make_detail_daemon_schedule and get_dd_schedule, whose sigma of a flow is t;
    muerrilla/sd-webui-detail-daemon. Its offsets and fade are left out.
    """
    table, times = as_table(sampler), _listed(sampler)[:-1]
    amount, exponent = number("amount", amount, low=-5, high=5), number("exponent", exponent, low=0, high=10)
    start, end, bias = (number(n, v, low=0, high=1) for n, v in (("start", start), ("end", end), ("bias", bias)))
    smooth = flag("smooth", smooth)
    if len(times) < 2:
        return table
    start = min(start, end)
    first, top, last = (round(x * (len(times) - 1)) for x in (start, start + bias * (end - start), end))

    def ramp(steps: int) -> Any:
        """0 to 1, or 1 alone."""
        share = np.linspace(0.0, 1.0, steps + 1) if steps else np.ones(1)
        return ((1.0 - np.cos(math.pi * share)) / 2.0 if smooth else share) ** exponent

    w = np.zeros(len(times))
    w[first : top + 1], w[top : last + 1] = amount * ramp(top - first), amount * ramp(last - top)[::-1]
    shares = np.interp([row.t for row in table], times[::-1], w[::-1]).tolist()
    return _telling(table, [max(_LEAST, 1.0 - 0.1 * share) for share in shares])


@WRAPPERS.register
def lying(sampler: Scheduler, factor: float = -0.05, *, start: float = 0.1, end: float = 0.9) -> StepTable:
    """Lying Sigma: the network is told at = t*(1 + factor) where 1 - end <= t <= 1 - start, and x0 is read there.

    `at` stays in (0, 1].

    Args:
        sampler: Scheduler or table of a velocity.
        factor: Change of the time told, above -1; below 0 the network is told less noise than x has.
        start: Where it begins, as a share of the way from t = 1 to 0, 0..1.
        end: Where it ends, 0..1.

    Returns:
        The wrapped sampler's table.

    Raises:
        PidSamplerError: As `detail`.

    Source: Jonseed/ComfyUI-Detail-Daemon, lying_sigma_sampler, with ComfyUI's percent_to_sigma of a flow: 1 - percent,
    rounded to 4 digits.
    """
    factor = number("factor", factor, low=-1, above=True)
    top, bottom = (round(1.0 - number(n, v, low=0, high=1), 4) for n, v in (("start", start), ("end", end)))
    table = as_table(sampler)
    return _telling(table, [1.0 + factor if bottom <= row.t <= top else 1.0 for row in table])


def _telling(table: StepTable, factors: Iterable[float]) -> StepTable:
    """The time told times a factor, where x0 is read too."""

    def told(row: Row, factor: float) -> Row:
        if factor == 1.0:
            return row
        if row.p != 1.0 or row.q != -row.at:
            raise ConfigError(
                f"the row at t={row.t!r} has at={row.at!r}, p={row.p!r} and q={row.q!r}, expected p = 1 and q = -at: "
                "wrap a velocity's table, before its list is decoupled"
            )
        at = min(row.at * factor, 1.0)
        return attrs.evolve(row, at=at, q=-at)

    return StepTable(map(told, table, factors))


@WRAPPERS.register
def decoupled(sampler: Scheduler, at: Any = None) -> StepTable:
    """Decoupled times: row i asks the network at the time at[i], but x0 is read at x's own noise level.

    Args:
        sampler: Scheduler or table.
        at: One time for each row, in (0, 1]: a list, or a text such as "0.98/0.6/0.3" in a spec. None changes nothing.

    Returns:
        The wrapped sampler's table.

    Raises:
        PidSamplerError: A time is out of its range, or they are not as many as the rows.

    Source: LD3 (arXiv 2405.15506), section 4.3, which learns such times beside the list.
    """
    table = as_table(sampler)
    if at is None:
        return table
    times = numbers("at", _slashed("at", at), low=0, high=1, above=True)
    if len(times) != len(table):
        raise ConfigError(f"at={shown(at)} are {len(times)} times for {len(table)} rows: give one for each")
    return StepTable(attrs.evolve(row, at=t) for row, t in zip(table, times, strict=True))


def _slashed(name: str, value: Any) -> Any:
    """A list, of the text "0.98/0.6" too, or of one number."""
    if isinstance(value, str):
        try:
            return [float(part) for part in value.split("/")]
        except ValueError as error:
            raise ConfigError(f"{name}={shown(value)} must be numbers such as 0.98/0.6/0.3") from error
    return [value] if isinstance(value, int | float) else value


@WRAPPERS.register
def time_shift(sampler: Scheduler, by: float = -0.01, *, cutoff: float = 0.0) -> StepTable:
    """Shifted times: the network is asked at t + by where t is above `cutoff`, but x0 is read at x's own noise level.

    Args:
        sampler: Scheduler or table.
        by: What is added to the time told, -1..1; it stays in (0, 1]: a row for which it would not is left as it is.
        cutoff: Noise level down to which times are shifted, 0..1.

    Returns:
        The wrapped sampler's table.

    Raises:
        PidSamplerError: An option is out of its range.

    Source: Time-Shift Sampler (arXiv 2305.15583). There the shift is chosen in each step by the variance of x; a table
    has one that is known before.
    """
    by, cutoff = number("by", by, low=-1, high=1), number("cutoff", cutoff, low=0, high=1)
    return StepTable(
        attrs.evolve(row, at=row.at + by) if row.t > cutoff and 0.0 < row.at + by <= 1.0 else row
        for row in as_table(sampler)
    )


# What leaves the noise level on purpose.


@WRAPPERS.register
def s_noise(sampler: Scheduler, factor: float = 1.003) -> StepTable:
    """S_noise: all noise that the rows draw is multiplied by a factor. The rows are biased.

    Args:
        sampler: Scheduler or table; of one that draws none, nothing changes.
        factor: Factor of the noise, from 0. EDM has 1.003 to 1.007 to make up for detail that networks lose.

    Returns:
        The wrapped sampler's table.

    Raises:
        PidSamplerError: The factor is out of its range.

    Source: EDM (arXiv 2206.00364), algorithm 2 and table 5; s_noise of k-diffusion's samplers.
    """
    factor = number("factor", factor, low=0)

    def scaled(c: Combination) -> Combination:
        return attrs.evolve(c, noise=[(draw, w if draw == 0 else factor * w) for draw, w in c.noise])

    return _biased(as_table(sampler), lambda row: scaled)


@WRAPPERS.register
def epsilon_scaling(
    sampler: Scheduler, factor: float = 1.005, *, slope: float = 0.0, of: str = "velocity", t_max: float = 1.0
) -> StepTable:
    """Epsilon scaling: what the network predicts of the noise is divided by factor + slope*t. The rows are biased.

    x0 becomes w*x + x0/f in each combination. w is 1 - 1/f for the velocity and (1 - 1/f)/(1 - t) for eps.

    Args:
        sampler: Scheduler or table.
        factor: Divisor, above 0 and at most 2. Above 1 less noise is taken away.
        slope: What the noise level adds to it, -1..1: the linear schedule of the paper, over t.
        of: "velocity", as ComfyUI's node does for flows, or "eps", the paper's. Near t = 1 that is wild, since x tells
            next to nothing of x0 there: give `t_max`.
        t_max: Rows above this noise level are left as they are, 0..1.

    Returns:
        The wrapped sampler's table.

    Raises:
        PidSamplerError: An option is out of its range; the divisor at a row is not above 0; or eps is scaled at t = 1.

    Source: "Elucidating the exposure bias in diffusion models" (arXiv 2308.15321); ComfyUI, nodes_eps.py.
    """
    factor, slope = number("factor", factor, low=0, high=2, above=True), number("slope", slope, low=-1, high=1)
    of, t_max = word("of", of, choices=("velocity", "eps")), number("t_max", t_max, low=0, high=1)

    def scaling(row: Row) -> Callable[[Combination], Combination] | None:
        if row.t > t_max:
            return None
        f = number(f"the divisor at t={row.t!r}", factor + slope * row.t, low=0, above=True)
        if of == "eps" and row.t == 1.0:
            raise ConfigError("eps is undefined at t = 1: pass t_max below 1, or of='velocity'")
        w = (1.0 - 1.0 / f) / (1.0 - row.t if of == "eps" else 1.0)
        return lambda c: attrs.evolve(c, a=c.a + c.b * w, b=c.b / f)

    return _biased(as_table(sampler), scaling)


@WRAPPERS.register
def dcw(sampler: Scheduler, scale: float = 0.02) -> StepTable:
    """DCW in pixels: after each step x is moved away from x0, x += scale*t*(x - x0). The rows are biased.

    t is the noise level where the step's last row is evaluated, and x0 what that row predicts.

    Args:
        sampler: Scheduler or table; of a table, which does not tell its steps, each time that a row ends at ends one.
        scale: Share of x - x0 that is added, -1..1.

    Returns:
        The wrapped sampler's table.

    Raises:
        PidSamplerError: The scale is out of its range.

    Source: "Elucidating the SNR-t bias" (arXiv 2604.16044), equation 17; AMAP-ML/DCW, dcw_pix, with the weight
    t/t_max*scale that its EDM sampler has. Its wavelets are no rows of a table.
    """
    scale, table = number("scale", scale, low=-1, high=1), as_table(sampler)
    # A step to a time of the list ends with the last row that ends there or, after churn, above.
    ends = np.array([row.t_next for row in table])
    later = np.append(np.maximum.accumulate(ends[::-1])[-2::-1], -1.0)
    above, above_later = (np.searchsorted(_listed(sampler)[::-1], t, side="right") for t in (ends, later))

    def correction(i: int, row: Row) -> Row:
        if above[i] == above_later[i]:
            return row
        s = scale * row.t
        moved = combined([(1.0 + s, row), (-s, Combination(b=1.0))])
        b = row.b + s * (row.b - 1.0)  # where x is x0, it stays so to the bit
        return attrs.evolve(row, a=moved.a, b=b, h=moved.h, noise=moved.noise)

    return _declared(table, [correction(i, row) for i, row in enumerate(table)])


def _biased(table: StepTable, change: Callable[[Row], Callable[[Combination], Combination] | None]) -> StepTable:
    """The table with each row's update and saves changed by the function that `change` returns for it."""

    def changed(row: Row) -> Row:
        by = change(row)
        if by is None:
            return row
        new = by(row)
        assert isinstance(new, Row)  # an evolved row
        return attrs.evolve(new, saves=[(slot, by(c)) for slot, c in row.saves])

    return _declared(table, [changed(row) for row in table])


def _declared(table: StepTable, rows: list[Row]) -> StepTable:
    """Rows put in the place of a table's, declared biased where they changed, or read what such a row has saved."""
    off: set[int] = set()  # slots
    found = []
    for old, new in zip(table, rows, strict=True):
        reads = any(slot in off for c in new.combinations for slot, _ in c.h)
        is_off = new != old or reads
        off = off | {slot for slot, _ in new.saves} if is_off else off - {slot for slot, _ in new.saves}
        found.append(attrs.evolve(new, biased=new.biased or is_off))
    return StepTable(found)
