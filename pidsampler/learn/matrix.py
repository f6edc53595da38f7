"""Where a sampler is good: tables that were fitted on some runs, tried on others, beside the best named one."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from itertools import count
from typing import Any

import attrs

from ..errors import ConfigError
from ..schedulers.registry import get_scheduler
from ..search.journal import Journal
from ..search.problem import Problem
from ..study.statistics import Interval, difference, interval
from ..table import StepTable, as_table
from ..values import callback, field, instance, mapping, number, whole, word
from .flights import Flight
from .known import BEST, best_known, known_samplers, measured
from .solved import Reference, sharpen
from .targets import ODE, target_of

_MOST_SEEDS = 1024
_FIRST_SEED = 1 << 20  # beyond those that anything is fitted to


@attrs.frozen(kw_only=True)
class Tried:
    """A table that was tried on a problem.

    Args:
        table: Name of the table.
        on: Name of the problem.
        distance: Mean RMS distance to the ODE's solution.
        best: The best known sampler of as many calls there.
        best_distance: Its mean distance.
        share: The table's distance over the best sampler's; below 1 the table is better.
        low: Lower end of the 95 % interval of the paired difference to it, and `high` the upper one.
        high: Upper end; above 0 the table is not shown to be better.
        reference_error: As that of `Fit`.
    """

    table: str = field(word)
    on: str = field(word)
    distance: float = field(number)
    best: str = field(word)
    best_distance: float = field(number)
    share: float = field(number)
    low: float = field(number)
    high: float = field(number)
    reference_error: float = field(number)


def matrix(
    tables: Mapping[str, Any],
    problems: Mapping[str, Problem],
    *,
    seeds: int = 2,
    on_call: Callable[[str], object] | None = None,
) -> list[Tried]:
    """Try each table on all images of each problem, beside every known sampler over every known list.

    The known samplers are run on the first image, and the best twelve on all, as where a sampler is learnt.

    Args:
        tables: Samplers by name, in any form of `get_scheduler`; each has its times.
        problems: Models with their pictures, or flows, by name.
        seeds: Number of seeds for each image. They are from 2^20 on, so none of them was fitted to.
        on_call: Called as on_call(on) with each model call, on being the problem's name; an exception cancels.

    Returns:
        A row for each table on each problem, table by table.

    Raises:
        PidSamplerError: An argument is not as described, a table draws noise or asks two networks, a problem has fewer
            than two runs, or a network fails.
    """
    made = {word("table", name): _table(name, given) for name, given in _named("tables", tables).items()}
    seeds = whole("seeds", seeds, low=1, high=_MOST_SEEDS)
    callback("on_call", on_call, takes="(on)")
    found: dict[tuple[str, str], Tried] = {}
    for on, problem in _named("problems", problems).items():
        instance("problem", problem, kind=Problem, words="a Problem")
        if len(problem.subjects) * seeds < 2:
            raise ConfigError(f"{on} has a single run, which gives no interval: pass more seeds")
        with problem.backend.active():
            tell = (lambda: None) if on_call is None else partial(on_call, on)
            for name, row in _tried(made, on, problem, seeds, tell).items():
                found[name, on] = row
    return [found[name, on] for name in made for on in problems]


def matrix_calls(calls: int, problems: Mapping[str, Problem]) -> dict[str, int]:
    """Return about how many model calls it takes to try a table of so many calls on each problem.

    One of several seeds counts once. The known samplers are counted for the first problem: others have nearly the same.
    """
    first = next(iter(problems.values()), None)
    known = 0 if first is None else sum(len(table) - 1 for _, table in known_samplers(first, calls).values())
    found = {}
    for on, problem in problems.items():
        images = len(problem.subjects)
        found[on] = known + target_of(ODE).calls(0, compared=images) + (calls - 1) * (BEST + 1) * images
    return found


def matrix_lines(rows: Sequence[Tried]) -> list[str]:
    """Return rows as the lines of a table."""
    cells = [["tried on", "distance", "best known", "its distance", "share", "less it, 95 %"]]
    for row in rows:
        numbers = f"{row.best_distance:.4g}", f"{row.share:.3g}", f"{row.low:+.3g} .. {row.high:+.3g}"
        cells.append([row.on, f"{row.distance:.4g}", row.best, *numbers])
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    return ["  ".join(cell.ljust(w) for cell, w in zip(line, widths, strict=True)).rstrip() for line in cells]


def _tried(
    tables: Mapping[str, StepTable], on: str, problem: Problem, seeds: int, tell: Callable[[], object]
) -> dict[str, Tried]:
    references = [
        Reference(Flight(problem, subject, seeds=range(first, first + seeds), on_call=tell))
        for first, subject in zip(count(_FIRST_SEED, seeds), problem.subjects, strict=False)
    ]
    journal = Journal()

    def least() -> float:
        return min(interval(measured(name, tables[name], on=references, journal=journal)).mean for name in tables)

    sharpen(references, least)
    found = {}
    for calls in sorted({len(table) for table in tables.values()}):
        known = known_samplers(problem, calls)
        of_length = [name for name, table in tables.items() if len(table) == calls]
        mine = {name: measured(name, tables[name], on=references, journal=journal) for name in of_length}
        best = best_known(mine[of_length[0]], references, known=known)[0]
        theirs = measured(best.name, known[best.name][1], on=references, journal=journal)
        for name in of_length:
            distance: Interval = interval(mine[name])
            change = difference(mine[name], theirs)
            assert change is not None  # there are two runs at least
            found[name] = Tried(
                table=name,
                on=on,
                distance=distance.mean,
                best=best.name,
                best_distance=best.mean,
                share=distance.mean / best.mean,
                low=change.low,
                high=change.high,
                reference_error=max(one.error for one in references),
            )
    return found


def _named(name: str, given: Mapping[str, Any]) -> dict[str, Any]:
    found = mapping(name, given, words="what is tried, by name")
    if not found:
        raise ConfigError(f"{name} has nothing in it: pass one or more by name")
    for key in found:
        word(name, key)
    return found


def _table(name: str, given: Any) -> StepTable:
    table = as_table(get_scheduler(given))
    if table.asks_both or any(row.draws for row in table.rows):
        raise ConfigError(f"{name} draws noise or asks two networks, so the ODE's solution says nothing of it")
    return table
