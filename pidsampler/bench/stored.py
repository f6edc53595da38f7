"""Rows stored earlier beside those of now: what changed, and whether that can be told."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ..errors import FileError, PidSamplerError
from ..io.files import read_text
from ..values import file_path, number, shown, whole
from .ratios import Ratio, between_runs
from .rows import COLUMNS, check_columns
from .timing import Times

Key = tuple[str, ...]

_KEY = ("variant", "x", "m", "side", "by")  # what names a row
_MACHINE = ("device", "cores", "driver", "cuda")  # what makes it another machine
_MOST_BYTES = 50_000_000
_MOST_ROWS = 100_000
_MOST_MS = 1e9
_NAMED = 8  # rows that are named where they are in one file only
_STEADY = 1.1  # by which a copy may be faster or slower, in the same machine


@dataclass(frozen=True, kw_only=True)
class Change:
    """A row that was stored, and its times now.

    Args:
        name: What was timed.
        now: Its times now.
        before: Those stored.
        drift: How many times as fast a plain copy is as it was; 1 where that is not known.
    """

    name: str
    now: Times
    before: Times
    drift: float = 1.0

    @property
    def ratio(self) -> Ratio:
        """How many times as long it takes now, with its 95 % interval, see `ratios.between_runs`."""
        return between_runs(self.now, self.before, drift=self.drift)

    def __str__(self) -> str:
        times = f"{self.now.ms:.4g} ms, was {self.before.ms:.4g} ms"
        return f"{self.name}: {times}; {self.ratio} times as long: {self.ratio.verdict}"


@dataclass(frozen=True, kw_only=True)
class Comparison:
    """What changed between two sets of rows.

    Args:
        changes: The rows that are in both.
        gone: Names of those that were stored, and are not timed now.
        added: Names of those that are timed now, and were not stored.
        notes: What makes the sets differ beside the code: another machine, or another speed of a copy.
    """

    changes: tuple[Change, ...]
    gone: tuple[str, ...]
    added: tuple[str, ...]
    notes: tuple[str, ...]

    def lines(self, file: str) -> list[str]:
        """Return it in lines of text, where the stored rows are called `file`."""
        found = [str(change) for change in self.changes] or [f"no row of {file} was timed"]
        found += [f"only in {file}: {_some(self.gone)}"] if self.gone else []
        return found + ([f"not in {file}: {_some(self.added)}"] if self.added else [])


def read_rows(path: str | Path) -> list[dict[str, str]]:
    """Read rows that `pidsampler bench -o` wrote, column by name; times and counts in them are numbers.

    Raises:
        PidSamplerError: The file cannot be read, is larger than 50 MB or 100000 rows, has other columns, or a row is no
            row of a benchmark.
    """
    path = file_path("path", path)
    text = read_text(path, expected="rows of a benchmark", most=_MOST_BYTES)
    check_columns(path)
    found: list[dict[str, str]] = []
    try:
        reader = csv.reader(io.StringIO(text, newline=""), strict=True)
        next(reader, None)  # the columns
        for values in reader:
            if len(found) == _MOST_ROWS:
                raise FileError(f"{path} has more than {_MOST_ROWS} rows: pass a part of it")
            if len(values) != len(COLUMNS):
                raise FileError(
                    f"{path}, row {len(found) + 1} has {len(values)} columns, not {len(COLUMNS)}: pass rows that "
                    "pidsampler bench -o wrote"
                )
            found.append(dict(zip(COLUMNS, values, strict=True)))
    except csv.Error as error:
        raise FileError(f"{path}, row {len(found) + 1}: {error}") from error
    for place, row in enumerate(found, 1):
        try:
            _times(row)
        except PidSamplerError as error:
            raise FileError(f"{path}, row {place}: {error}") from error
    if not found:
        raise FileError(f"{path} has no rows: pass a file that pidsampler bench -o wrote")
    return found


def compared(now: Iterable[Mapping[str, Any]], before: Iterable[Mapping[str, Any]]) -> Comparison:
    """Compare rows of `rows.COLUMNS` with earlier ones; of several of one name and kind the last counts.

    Raises:
        PidSamplerError: The times of a row are none.
    """
    new, old = ({_key(row): row for row in rows} for rows in (now, before))
    both = [key for key in new if key in old]
    return Comparison(
        changes=tuple(_change(_name(key), new[key], old[key]) for key in both),
        gone=tuple(_name(key) for key in old if key not in new),
        added=tuple(_name(key) for key in new if key not in old),
        notes=tuple(_notes([(new[key], old[key]) for key in both])),
    )


def _change(name: str, new: Mapping[str, Any], old: Mapping[str, Any]) -> Change:
    return Change(name=name, now=_times(new), before=_times(old), drift=_drift(new, old) or 1.0)


def _notes(pairs: list[tuple[Mapping[str, Any], Mapping[str, Any]]]) -> Iterable[str]:
    for name in _MACHINE:
        others = {(_text(old.get(name)), _text(new.get(name))) for new, old in pairs}
        for there, here in sorted(pair for pair in others if pair[0] != pair[1]):
            yield f"they are of another machine: {name} {shown(there)}, here {shown(here)}"
    drifts = [drift for pair in pairs if (drift := _drift(*pair)) is not None]
    if drifts and not 1 / _STEADY <= (ratio := float(np.median(drifts))) <= _STEADY:
        yield f"a plain copy is {ratio:.2f} times as fast as it was: the machine is in another state"


def _key(row: Mapping[str, Any]) -> Key:
    return tuple(_text(row.get(name)) for name in _KEY)


def _name(key: Key) -> str:
    variant, x, m, side, by = key
    types = "/".join(dict.fromkeys(filter(None, (x, m))))
    return ", ".join(filter(None, [variant, types, side, "" if by == "pidsampler" else f"by {by}"]))


def _some(names: tuple[str, ...]) -> str:
    more = f"; and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return "; ".join(name[:200] for name in names[:_NAMED]) + more


def _text(value: Any) -> str:
    return "" if value is None else str(value)


def _times(row: Mapping[str, Any]) -> Times:
    ms, iqr, n = (_number(row, name) for name in ("ms", "iqr_ms", "n"))
    return Times(
        ms=number("ms", ms, low=0.0, high=_MOST_MS, above=True),
        iqr_ms=number("iqr_ms", iqr, low=0.0, high=_MOST_MS),
        n=whole("n", int(n) if isinstance(n, float) and n.is_integer() else n, low=1, high=10**9),
    )


def _drift(new: Mapping[str, Any], old: Mapping[str, Any]) -> float | None:
    """How many times as fast a copy is as it was, where both rows know its speed."""
    now, before = (_number(row, "copy_gb_s") for row in (new, old))
    known = all(isinstance(speed, float) and 1 / _MOST_MS < speed < _MOST_MS for speed in (now, before))
    return now / before if known else None


def _number(row: Mapping[str, Any], name: str) -> Any:
    """The number that a row's text is, or else the text, which is refused where it is checked."""
    value = row.get(name)
    try:
        return float(value) if value is not None else None
    except ValueError:
        return value
