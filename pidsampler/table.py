"""StepTable: a sampler as data, one row of coefficients per network evaluation.

A row at time t turns x, the network's output m, the saved tensors S and noise N into the next x:

    x0 = clip(p*x + q*m)                                  velocity: p = 1, q = -t
    x  = a*x + b*x0 + sum_k h[k]*S[k] + sum_j c[j]*N(draw[j])

and may save such combinations of the old x, x0, the old S and noise for later rows. That is all any scheduler
does, so a scheduler is a function that returns a StepTable, and it never touches a tensor.
"""

from __future__ import annotations

import json
import math
import warnings
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, cast, overload, runtime_checkable

import attrs
import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, PidSamplerWarning
from .io.data import parse_json
from .values import field, instance, items, number, pairs, shown, whole, word

Terms = tuple[tuple[int, float], ...]
TermsLike = Mapping[int, float] | Iterable[tuple[int, float]]

PREDICTIONS = ("velocity", "x0", "eps")

_MOST = 2**32 - 1  # of a slot or draw
# Noise weights that the check of a file's table may sum; 1000 steps with brownian noise take up to 11 million.
_MOST_WORK = 20_000_000

# Rows are computed in float64; what a formula loses to rounding is far below this, a wrong formula far above.
_TOLERANCE = 1e-12

# How many times larger than in the network's velocity an error may come out of a row. Usual lists stay below 10. From
# 100 on an error of 1 % is as large as a picture; from 2^17 on float32's rounding, 2^-24, is one level of 8 bits.
_WARNED, _REFUSED = 100.0, 2.0**17
_RECENT = 16  # rows whose velocities are followed: more than any method looks back


def _terms(kind: str, value: TermsLike) -> Terms:
    """Return terms sorted by index without those of weight 0, so that equal tables compare equal."""
    if type(value) in (tuple, dict) and not value:  # most have none
        return ()
    found: dict[int, float] = {}
    for index, weight in pairs(f"weights by {kind}", value):
        index = whole(kind, index, low=0, high=_MOST)
        if index in found:
            raise ConfigError(f"{kind} {index} occurs twice in one combination: add its weights")
        found[index] = number(f"the weight of {kind} {index}", weight)
    return tuple(sorted((i, w) for i, w in found.items() if w != 0.0))


def _slots(h: TermsLike) -> Terms:
    return _terms("slot", h)


def _draws(noise: TermsLike) -> Terms:
    return _terms("draw", noise)


@attrs.frozen(kw_only=True)
class Combination:
    """a*x + b*x0 + sum_k h[k]*S[k] + sum_j c[j]*N(draw[j]), all coefficients float64.

    Args:
        a: Weight of x, as it was when the row began.
        b: Weight of x0, the row's prediction of the clean image.
        h: Weights of saved tensors, {slot: weight} or pairs.
        noise: Weights of noise draws, {draw: weight} or pairs. Draw 0 is the initial noise.

    Raises:
        PidSamplerError: A coefficient is not finite, an index is not a whole number, or one occurs twice.
    """

    a: float = field(number, default=0.0)
    b: float = field(number, default=0.0)
    h: Terms = attrs.field(converter=_slots, default=())
    noise: Terms = attrs.field(converter=_draws, default=())

    def formula(self) -> str:
        """Return the combination as text, such as "0.5*x + 0.5*x0 + 0.1*N(1)"."""
        parts = [(self.a, "x"), (self.b, "x0")]
        parts += [(w, f"S{k}") for k, w in self.h] + [(w, f"N({k})") for k, w in self.noise]
        text = " + ".join(name if w == 1.0 else f"{w:.6g}*{name}" for w, name in parts if w != 0.0)
        return text.replace("+ -", "- ") or "0"


def combined(parts: Iterable[tuple[float, Combination]]) -> Combination:
    """Return the sum of weight * combination: how a scheduler puts parts of a row together."""
    a, b = 0.0, 0.0
    h: dict[int, float] = {}
    noise: dict[int, float] = {}
    for weight, part in pairs("parts", parts):
        weight = number("the weight of a part", weight)
        part = instance("part", part, kind=Combination, words="a Combination")
        a, b = a + weight * part.a, b + weight * part.b
        for total, terms in ((h, part.h), (noise, part.noise)):
            for index, w in terms:
                total[index] = total.get(index, 0.0) + weight * w
    return Combination(a=a, b=b, h=h, noise=noise)


def _saves(saves: Mapping[int, Combination] | Iterable[tuple[int, Combination]]) -> tuple[tuple[int, Combination], ...]:
    found = {
        whole("slot", slot, low=0, high=_MOST): instance("saves", c, kind=Combination, words="Combinations by slot")
        for slot, c in pairs("saves", saves)
    }
    return tuple(sorted(found.items(), key=lambda item: item[0]))


def _weight_of_network(q: float | None) -> float:
    return math.nan if q is None else number("q", q)


@attrs.frozen
class Row(Combination):
    """One network evaluation at `t`, and the update of x to the noise level `t_next`.

    Args:
        t: Time of the evaluation, in (0, 1].
        t_next: Noise level of x after the row, in [0, 1]. The next row's t.
        a: Weight of the old x; likewise b, h and noise, see `Combination`.
        b: Weight of x0.
        h: Weights of saved tensors.
        noise: Weights of noise draws.
        p: x0 = p*x + q*m. Default 1, the velocity's.
        q: Default -t, the velocity's. Not 0, which would ignore the network.
        clip: Bound: x0 is clipped to -clip..clip. None leaves it.
        saves: {slot: Combination} of what to keep for later rows, made from the values before the update.

    Raises:
        PidSamplerError: A value is not finite or out of its range.
    """

    t: float = field(number, low=0, high=1, above=True)
    t_next: float = field(number, low=0, high=1)
    p: float = field(number, default=1.0, kw_only=True)
    q: float = attrs.field(converter=_weight_of_network, default=None, kw_only=True)
    clip: float | None = field(number, low=0, above=True, default=None, optional=True, kw_only=True)
    saves: tuple[tuple[int, Combination], ...] = attrs.field(converter=_saves, default=(), kw_only=True)

    def __attrs_post_init__(self) -> None:
        if math.isnan(self.q):  # none was given
            object.__setattr__(self, "q", -self.t)
        if self.q == 0.0:
            raise ConfigError(f"the row at t={self.t!r} has q = 0: it would ignore the network")

    @property
    def combinations(self) -> tuple[Combination, ...]:
        """All that the row computes: its update, then what it saves, slot by slot."""
        return (self, *(c for _, c in self.saves))

    @property
    def draws(self) -> list[int]:
        """The noise draws in any of its combinations, ascending."""
        return sorted({draw for c in self.combinations for draw, _ in c.noise})

    def prediction(self) -> str:
        """Return the row's x0 as text, such as "x - 0.999*m"."""
        text = Combination(a=self.p, h={0: self.q}).formula().replace("S0", "m")
        return text if self.clip is None else f"clip({text}, {self.clip:g})"


def _rows(rows: Iterable[Row]) -> tuple[Row, ...]:
    found = tuple(instance("row", row, kind=Row, words="a Row") for row in items("rows", rows, words="Row"))
    if not found:
        raise ConfigError("a table needs at least one row")
    return found


@attrs.frozen
class StepTable:
    """A whole sampler: rows that are checked together when the table is built, and frozen afterwards.

    The check runs the rows on the simplest flow, a constant image that the network predicts perfectly, with
    x = (1 - t)*image + t*N(0) at the start: after each row x must be (1 - t_next) times the image plus noise of
    standard deviation t_next, whatever mixture of draws it is made of. Each wrong weight of x, x0, a saved
    tensor or a noise draw breaks one of the two.

    Errors of the network are followed too: the absolute weights of its latest 16 velocities in x are summed up. Times
    that are too close for a multistep method make that sum large; above 100 it is a PidSamplerWarning with the row.

    Raises:
        PidSamplerError: No rows, times that don't join, a slot that is read before it is saved, a row that fails that
            check, or one that makes errors more than 2^17 times larger; the message names the row.
    """

    rows: tuple[Row, ...] = attrs.field(converter=_rows)

    def __len__(self) -> int:
        return len(self.rows)

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    @overload
    def __getitem__(self, index: int) -> Row: ...
    @overload
    def __getitem__(self, index: slice) -> tuple[Row, ...]: ...
    def __getitem__(self, index: int | slice) -> Row | tuple[Row, ...]:
        return self.rows[index]

    @property
    def times(self) -> tuple[float, ...]:
        """The times of all evaluations and the final noise level: len(table) + 1 floats."""
        return (*(row.t for row in self.rows), self.rows[-1].t_next)

    @property
    def slots(self) -> int:
        """How many tensors the size of x the table saves at most: slots are numbered 0..slots-1."""
        return 1 + max((slot for row in self.rows for slot, _ in row.saves), default=-1)

    def table(self) -> StepTable:
        """Return the table itself: it is a scheduler too, of a single list of times."""
        return self

    def predicting(self, prediction: str) -> StepTable:
        """Return the same table for a network of another output.

        Args:
            prediction: "velocity" (eps - x0), "x0" or "eps".

        Raises:
            PidSamplerError: The name is unknown, or the network predicts eps and a row is at t = 1, where x
                says nothing about x0.
        """
        word("prediction", prediction, choices=PREDICTIONS)

        def weights(t: float) -> tuple[float, float]:
            if prediction == "velocity":
                return 1.0, -t
            if prediction == "x0":
                return 0.0, 1.0
            if t == 1.0:
                raise ConfigError("a network that predicts eps is undefined at t = 1: start below 1")
            return 1.0 / (1.0 - t), -t / (1.0 - t)

        pq = [weights(row.t) for row in self.rows]
        return StepTable(attrs.evolve(row, p=p, q=q) for row, (p, q) in zip(self.rows, pq, strict=True))

    def clipped(self, clip: float | None) -> StepTable:
        """Return the same table with each row's x0 clipped to -clip..clip, or not at all with None."""
        return StepTable(attrs.evolve(row, clip=clip) for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the table as plain lists, floats and strings, ready for a JSON record."""

        def combination(c: Combination) -> dict[str, Any]:
            return {"a": c.a, "b": c.b, "h": [list(k) for k in c.h], "noise": [list(k) for k in c.noise]}

        def row(r: Row) -> dict[str, Any]:
            saves = [{"slot": slot, **combination(c)} for slot, c in r.saves]
            head = {"t": r.t, "t_next": r.t_next, "p": r.p, "q": r.q, "clip": r.clip}
            return {**head, **combination(r), "saves": saves}

        return {"format": _FORMAT, "rows": [row(r) for r in self.rows]}

    def to_json(self, indent: int | None = None) -> str:
        """Return JSON that `from_json` reads back to an equal table: floats are written to round-trip."""
        return json.dumps(self.to_dict(), indent=None if indent is None else whole("indent", indent, low=0, high=99))

    @classmethod
    def from_json(cls, text: str) -> StepTable:
        """Read a table that `to_json` wrote, and check it as any other.

        Raises:
            PidSamplerError: The text is no such JSON, or the table fails its checks.
        """

        def combination(d: dict[str, Any]) -> dict[str, Any]:
            return {key: d[key] for key in ("a", "b", "h", "noise")}

        def row(d: dict[str, Any]) -> Row:
            saves = [(s["slot"], Combination(**combination(s))) for s in d["saves"]]
            return Row(**{k: d[k] for k in ("t", "t_next", "p", "q", "clip")}, **combination(d), saves=saves)

        try:
            if (data := parse_json(text, expected="a table in JSON"))["format"] != _FORMAT:
                raise ConfigError(f"table format {data['format']!r}, expected {_FORMAT!r}")
            rows = [row(d) for d in items("rows", data["rows"], words="rows")]
        except (KeyError, TypeError) as error:
            what = f"entry {error} is missing" if isinstance(error, KeyError) else "a part is of another kind"
            raise ConfigError(f"not a table in JSON: {what}") from error
        combinations = [c for r in rows for c in r.combinations]
        draws = len({draw for c in combinations for draw, _ in c.noise})
        if draws * sum(1 + len(c.h) for c in combinations) > _MOST_WORK:
            raise ConfigError(f"a table of {len(rows)} rows and {draws} noise draws is too large to check")
        return cls(rows)

    def __str__(self) -> str:
        header = ["row", "t", "t_next", "x0", "x"]
        cells = [
            [str(i), f"{r.t:.6g}", f"{r.t_next:.6g}", r.prediction(), r.formula()] for i, r in enumerate(self.rows)
        ]
        if self.slots:
            header.append("saves")
            for line, r in zip(cells, self.rows, strict=True):
                line.append("; ".join(f"S{slot} = {c.formula()}" for slot, c in r.saves))
        widths = [max(map(len, column)) for column in zip(header, *cells, strict=True)]
        lines = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in [header, *cells])
        return "\n".join(line.rstrip() for line in lines)

    @np.errstate(over="ignore", invalid="ignore")  # what is too large fails the checks
    def __attrs_post_init__(self) -> None:
        column = {draw: i for i, draw in enumerate(dict.fromkeys([0, *(d for row in self.rows for d in row.draws)]))}
        x = _Tracked(1.0 - self.rows[0].t, self.rows[0].t * np.eye(1, len(column))[0], {})
        saved: dict[int, _Tracked] = {}
        worst = (0.0, "")
        for i, row in enumerate(self.rows):
            where = f"row {i} (t {row.t:.6g} -> {row.t_next:.6g})"
            if i and row.t != self.rows[i - 1].t_next:
                raise ConfigError(f"{where} begins at another time than row {i - 1} ends: they must join")
            if unsaved := [slot for c in row.combinations for slot, _ in c.h if slot not in saved]:
                raise ConfigError(f"{where} reads slot {unsaved[0]} before any row has saved it")
            x0 = _Tracked(1.0, np.zeros(0), {**x.errors, i: -row.t})  # x0 = x - t*velocity, and has no noise
            try:
                new = x.combined(row, x0, saved, column)
                saved |= {slot: x.combined(c, x0, saved, column) for slot, c in row.saves}
            except (OverflowError, ValueError) as error:  # of fsum
                raise ConfigError(f"{where}: its weights are too large to be summed") from error
            x, tolerance = new, _TOLERANCE * new.magnitude
            std = math.sqrt(float(np.square(x.noise).sum()))  # BLAS would be slower here
            if not math.isfinite(tolerance):
                raise ConfigError(f"{where}: its weights are too large to be summed")
            if not abs(x.mean - (1.0 - row.t_next)) <= tolerance:
                raise ConfigError(
                    f"{where}: a constant image comes out {x.mean:.9g} times itself, expected "
                    f"1 - t_next = {1.0 - row.t_next:.9g}: check a, b and h"
                )
            if not abs(std - row.t_next) <= tolerance:
                raise ConfigError(
                    f"{where}: the noise comes out with standard deviation {std:.9g}, expected "
                    f"t_next = {row.t_next:.9g}: check a, h and the noise weights"
                )
            errors = {k: w for k, w in x.errors.items() if k > i - _RECENT}
            growth = math.fsum(map(abs, errors.values()))
            where += f" makes errors of the network {growth:.3g} times larger: leave out times that are close"
            if not growth <= _REFUSED:
                raise ConfigError(where)
            worst = max(worst, (growth, where))
            # Each row is judged on its own: the next one starts without the rounding of this one.
            x = _Tracked(1.0 - row.t_next, x.noise * (row.t_next / std if std else 0.0), errors)
        if worst[0] > _WARNED:
            warnings.warn(worst[1], PidSamplerWarning, stacklevel=5)


_FORMAT = "pidsampler.StepTable/1"


@attrs.frozen
class _Tracked:
    """A tensor of the check: mean * image + sum of noise[draw] * N(draw), and the size of what was summed."""

    mean: float
    noise: NDArray[np.float64]  # a column for each draw of the table
    errors: dict[int, float]  # weights of the velocities of recent rows
    magnitude: float = 1.0

    def combined(self, c: Combination, x0: _Tracked, saved: dict[int, _Tracked], column: dict[int, int]) -> _Tracked:
        parts = [(c.a, self), (c.b, x0), *((w, saved[slot]) for slot, w in c.h)]
        errors = dict[int, float]()
        for weight, part in parts:
            for index, w in part.errors.items():
                errors[index] = errors.get(index, 0.0) + weight * w
        noise = c.a * self.noise
        for slot, weight in c.h:
            noise += weight * saved[slot].noise
        for draw, w in c.noise:
            noise[column[draw]] += w
        mean = math.fsum(w * part.mean for w, part in parts)
        sizes = [abs(w) * part.magnitude for w, part in parts] + [abs(w) for _, w in c.noise]
        return _Tracked(mean, noise, errors, 1.0 + math.fsum(sizes))


@runtime_checkable
class Scheduler(Protocol):
    """Anything with a `table()`; there is nothing to subclass."""

    def table(self) -> StepTable:
        """Return the coefficients."""
        ...


def as_table(table: Scheduler) -> StepTable:
    """Return a scheduler's table; a table is one itself.

    Raises:
        PidSamplerError: The value is no scheduler and no table.
    """
    if isinstance(table, StepTable):
        return table
    if isinstance(table, Scheduler) and not isinstance(table, type):
        return as_table(table.table())
    raise ConfigError(f"expected a StepTable or a scheduler with table(), found {shown(cast(object, table))}")
