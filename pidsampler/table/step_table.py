"""StepTable: rows that were checked together, and what can be made of them."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Protocol, cast, overload, runtime_checkable

import attrs

from ..errors import ConfigError
from ..io.data import parse_json
from ..values import instance, items, mapping, shown, whole
from . import html
from .check import Bias, check
from .rows import Combination, Row, check_prediction, x0_weights

# Noise weights that the check of a file's table may sum; 1000 steps with brownian noise take up to 11 million.
_MOST_WORK = 20_000_000

MOST_HISTORY = 100_000  # characters: it is part of each record of a picture made by the table

_FORMAT, _FORMAT_1 = "pidsampler.StepTable/2", "pidsampler.StepTable/1"


def _rows(rows: Iterable[Row]) -> tuple[Row, ...]:
    found = tuple(instance("row", row, kind=Row, words="a Row") for row in items("rows", rows, words="Row"))
    if not found:
        raise ConfigError("a table needs at least one row")
    return found


def _history(value: Mapping[str, Any] | None) -> str | None:
    """A history as JSON, which nobody can change."""
    if value is None:
        return None
    given = mapping("history", value, words="JSON values by name")
    try:
        text = json.dumps(given, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"history={shown(value)} is not JSON: pass dicts, lists, texts and finite numbers") from error
    if len(text) > MOST_HISTORY:
        raise ConfigError(f"the history has {len(text)} characters in JSON, expected at most {MOST_HISTORY}")
    return text


@attrs.frozen(repr=False)
class StepTable:
    """A whole sampler: rows that are checked together when the table is built, and frozen afterwards.

    The check runs the rows on the simplest flow, a constant image that the network predicts perfectly, with
    x = (1 - t)*image + t*N(0) at the start: after each row x must be (1 - t_next) times the image plus noise of
    standard deviation t_next, whatever mixture of draws it is made of. Each wrong weight of x, x0, a saved
    tensor or a noise draw breaks one of the two.

    Errors of the network are followed too: the absolute weights of its latest 16 velocities in x are summed up. Times
    that are too close for a multistep method make that sum large; above 100 it is a PidSamplerWarning with the row.

    A row that is declared `biased` may fail the first check. `bias` then holds each row's deviation and that of all
    rows so far, on the same flow: the tuple is empty where no row is biased. The check cannot judge `at`, p and q.

    `history` is what a learnt table says of where it comes from, as plain JSON data: `predicting`, `clipped`, the noise
    kinds and JSON keep it, and two tables that differ by nothing else are equal.

    Raises:
        PidSamplerError: There is no row, times do not join, or a slot is read before it is saved. Or a row fails that
            check, or makes errors more than 2^17 times larger. The message names the row.
    """

    rows: tuple[Row, ...] = attrs.field(converter=_rows)
    _history: str | None = attrs.field(
        converter=_history, default=None, eq=False, repr=False, kw_only=True, alias="history"
    )
    bias: tuple[Bias, ...] = attrs.field(init=False, eq=False, repr=False)

    def __attrs_post_init__(self) -> None:
        object.__setattr__(self, "bias", check(self.rows))

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

    @property
    def asks_both(self) -> bool:
        """Whether a row asks the unconditional network, so that it takes a pair of networks."""
        return any(row.net for row in self.rows)

    def table(self) -> StepTable:
        """Return the table itself: it is a scheduler too, of a single list of times."""
        return self

    @property
    def history(self) -> dict[str, Any] | None:
        """Where the table comes from, a new dict; None where nothing is said."""
        return None if self._history is None else json.loads(self._history)

    def with_rows(self, rows: Iterable[Row]) -> StepTable:
        """Return a table of other rows with the same history.

        Raises:
            PidSamplerError: The rows are no table.
        """
        return StepTable(rows, history=self.history)

    def predicting(self, prediction: str) -> StepTable:
        """Return the same table for a network of another output; itself, where it is for that one already.

        x0 is read from a row's output at the noise level t. Where the network is told another time `at`, that holds for
        q = -t; q = -at, as Detail Daemon's, says that x0 is read at `at`.

        Args:
            prediction: "velocity" (eps - x0), "x0" or "eps".

        Raises:
            PidSamplerError: The name is unknown; the network predicts eps and a row reads it at 1, where x says
                nothing about x0; or a row with another `at` is none of a velocity, so that it does not tell.
        """
        check_prediction(prediction)

        def weights(row: Row) -> tuple[float, float]:
            if row.at != row.t and (row.p != 1.0 or row.q not in (-row.t, -row.at)):
                raise ConfigError(
                    f"the row at t={row.t!r} has at={row.at!r}, p={row.p!r} and q={row.q!r}: only with p = 1 and "
                    "q = -t or -at can it be put to another prediction; begin with the velocity's table"
                )
            return x0_weights(prediction, row.at if row.q == -row.at else row.t)

        pq = [weights(row) for row in self.rows]
        if pq == [(row.p, row.q) for row in self.rows]:
            return self
        return self.with_rows(attrs.evolve(row, p=p, q=q) for row, (p, q) in zip(self.rows, pq, strict=True))

    def clipped(self, clip: float | None) -> StepTable:
        """Return the same table with each row's x0 clipped to -clip..clip, or not at all with None."""
        return self.with_rows(attrs.evolve(row, clip=clip) for row in self.rows)

    def to_dict(self) -> dict[str, Any]:
        """Return the table as plain lists, floats and strings, ready for a JSON record."""

        def combination(c: Combination) -> dict[str, Any]:
            return {"a": c.a, "b": c.b, "h": [list(k) for k in c.h], "noise": [list(k) for k in c.noise]}

        def row(i: int, r: Row) -> dict[str, Any]:
            saves = [{"slot": slot, **combination(c)} for slot, c in r.saves]
            head = {"t": r.t, "t_next": r.t_next, "at": r.at, "net": r.net, "p": r.p, "q": r.q, "clip": r.clip}
            tail = {"saves": saves, "biased": r.biased}
            return {**head, **combination(r), **tail, **({"bias": attrs.asdict(self.bias[i])} if self.bias else {})}

        history = {} if self._history is None else {"history": self.history}
        return {"format": _FORMAT, "rows": [row(i, r) for i, r in enumerate(self.rows)], **history}

    def to_json(self, indent: int | None = None) -> str:
        """Return JSON that `from_json` reads back to an equal table: floats are written to round-trip.

        Args:
            indent: Spaces a level, 0..99; None writes one line.

        Raises:
            PidSamplerError: The indent is outside 0..99.
        """
        return json.dumps(self.to_dict(), indent=None if indent is None else whole("indent", indent, low=0, high=99))

    @classmethod
    def from_json(cls, text: str) -> StepTable:
        """Read a table that `to_json` wrote, of this or an earlier version, and check it as any other.

        The deviations of a biased table are computed anew.

        Returns:
            The table.

        Raises:
            PidSamplerError: The text is no such JSON, or the table fails its checks.
        """

        def combination(d: dict[str, Any]) -> dict[str, Any]:
            return {key: d[key] for key in ("a", "b", "h", "noise")}

        def row(d: dict[str, Any]) -> Row:
            saves = [(s["slot"], Combination(**combination(s))) for s in d["saves"]]
            return Row(**{k: d[k] for k in ("t", "t_next", "p", "q", "clip", *new)}, **combination(d), saves=saves)

        try:
            if (data := parse_json(text, expected="a table in JSON"))["format"] not in (_FORMAT, _FORMAT_1):
                raise ConfigError(f"table format {data['format']!r}, expected {_FORMAT!r} or {_FORMAT_1!r}")
            new = ("at", "net", "biased") if data["format"] == _FORMAT else ()
            rows = [row(d) for d in items("rows", data["rows"], words="rows")]
        except (KeyError, TypeError) as error:
            what = f"entry {error} is missing" if isinstance(error, KeyError) else "a part is of another kind"
            raise ConfigError(f"not a table in JSON: {what}") from error
        combinations = [c for r in rows for c in r.combinations]
        draws = len({draw for c in combinations for draw, _ in c.noise})
        if draws * sum(1 + len(c.h) for c in combinations) > _MOST_WORK:
            raise ConfigError(f"a table of {len(rows)} rows and {draws} noise draws is too large to check")
        return cls(rows, history=data.get("history"))

    def __repr__(self) -> str:
        rows = f"{len(self)} row{'s' * (len(self) > 1)}"
        return f"<StepTable of {rows}, t = {self.times[0]:.6g} to {self.times[-1]:.6g}>"

    def _repr_html_(self) -> str:
        return self.html(repr(self)[1:-1])

    def html(self, title: str) -> str:
        """Return the table for a notebook: a drawing of its times and weights, and its first fifty rows.

        Args:
            title: Heading.
        """
        lines = {"t": self.times, "a: x": [row.a for row in self.rows], "b: x0": [row.b for row in self.rows]}
        for slot in range(min(self.slots, 3)):
            lines[f"h: S{slot}"] = [dict(row.h).get(slot, 0.0) for row in self.rows]
        if any(row.noise for row in self.rows):
            lines["fresh noise"] = [math.hypot(*(w for _, w in row.noise)) for row in self.rows]
        return html.page(title, self._columns(), lines=lines)

    def __str__(self) -> str:
        shown_ = [[name, *cells] for name, cells in self._columns().items()]
        widths = [max(map(len, column)) for column in shown_]
        lines = ("  ".join(c.ljust(w) for c, w in zip(line, widths, strict=True)) for line in zip(*shown_, strict=True))
        return "\n".join(line.rstrip() for line in lines)

    def _columns(self) -> dict[str, list[str]]:
        rows = self.rows
        columns = {
            "row": [str(i) for i in range(len(rows))],
            "t": [f"{r.t:.6g}" for r in rows],
            "at": [f"{r.at:.6g}" for r in rows] if any(r.at != r.t for r in rows) else [],
            "t_next": [f"{r.t_next:.6g}" for r in rows],
            "net": [str(r.net) for r in rows] if self.asks_both else [],
            "x0": [r.prediction() for r in rows],
            "x": [r.formula() for r in rows],
            "saves": ["; ".join(f"S{slot} = {c.formula()}" for slot, c in r.saves) for r in rows] if self.slots else [],
            "bias (of all rows so far)": [str(bias) for bias in self.bias],
        }
        return {name: cells for name, cells in columns.items() if cells}


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
