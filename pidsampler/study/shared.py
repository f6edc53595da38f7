"""Many tables over one noise: what they have in common is computed once.

Tables that start with the same rows go the same way until they part; where they part at one time, the network's output
there is still the same. So tables make a tree whose nodes are states, and a network call is a node, a time and which
network is asked.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from .. import moved
from ..backends import backend_of
from ..denoiser import Denoiser
from ..sampler import Run
from ..table import Row, StepTable

Array = Any
OnStep = Callable[[str, Run, Array], object]


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a table takes, as if it had been run alone.

    Args:
        network: Seconds in the network.
        sampler: Seconds in the rows' updates.
        new_calls: Model calls made for it that no table before it had made.
    """

    network: float = 0.0
    sampler: float = 0.0
    new_calls: int = 0


@moved.keywords()
def sample_all(
    denoiser: Denoiser,
    tables: Mapping[str, StepTable],
    *,
    run: Run,
    on_step: OnStep | None = None,
) -> Iterator[tuple[str, Array | Exception, Cost]]:
    """Sample by each of `tables`, from the state of a run that has done no row.

    Args:
        denoiser: The network.
        tables: By key, with the draws of the run's noise, see `noise.with_noise`.
        run: Where to start, of any table; it is used up.
        on_step: Called as on_step(key, run, m) before each update, for each of the tables that share it.

    Yields:
        (key, x, cost), in an order of its own. x is used again once the iterator goes on. An exception, of whatever
        kind the network raised, stands for the x of every table that needed the call.
    """
    backend = backend_of(run.x)

    def now() -> float:
        """Return the time when all work so far is done."""
        backend.synchronize()
        return time.perf_counter()

    return _from(run, dict(tables), Cost(), denoiser, now, on_step)


def count_calls(tables: Iterable[StepTable]) -> int:
    """Return how many model calls `sample_all` makes for tables."""
    calls = set[tuple[int, float, int]]()  # a beginning that tables share, a time and a network
    beginnings: dict[tuple[int, Row], int] = {}
    for table in tables:
        before = 0
        for row in table.rows:
            calls.add((before, row.at, row.net))
            before = beginnings.setdefault((before, row), len(beginnings) + 1)
    return len(calls)


def _call(row: Row) -> tuple[float, int]:
    """What a network call of one state depends on."""
    return row.at, row.net


def _from(
    run: Run,
    tables: dict[str, StepTable],
    spent: Cost,
    denoiser: Denoiser,
    now: Callable[[], float],
    on_step: OnStep | None,
) -> Iterator[tuple[str, Array | Exception, Cost]]:
    """Go on from a state that all of `tables` reach; the run itself goes the way of its own table, last."""
    while tables:
        index = run.index
        for key in [key for key, table in tables.items() if len(table) == index]:
            yield key, run.x, spent
            del tables[key]
            spent = replace(spent, new_calls=0)
        if not tables:
            return
        if run.table not in tables.values():
            run = run.branch(next(iter(tables.values())))
        own = run.table.rows[index]
        ways: dict[Row, dict[str, StepTable]] = {}
        for key, table in tables.items():
            ways.setdefault(table.rows[index], {})[key] = table
        m: Array | Exception = None
        tables, called, last = {}, spent, (0.0, 0)
        for row in sorted(ways, key=lambda row: (_call(row) == _call(own), *_call(row), row == own)):
            along = ways[row]
            if _call(row) != last:
                last = _call(row)
                began = now()
                try:
                    m = run.evaluate(denoiser, row.at, net=row.net)
                except Exception as error:
                    m = error
                else:
                    called = replace(spent, network=spent.network + now() - began, new_calls=spent.new_calls + 1)
                    spent = replace(spent, new_calls=0)
            if isinstance(m, Exception):
                for key in along:
                    yield key, m, spent
                continue
            branch = run if row == own else run.branch(next(iter(along.values())))
            if on_step is not None:
                for key in along:
                    on_step(key, branch, m)
            began = now()
            branch.step(m)
            cost = replace(called, sampler=called.sampler + now() - began)
            called = replace(called, new_calls=0)
            if branch is run:
                tables, spent = along, cost
            else:
                yield from _from(branch, along, cost, denoiser, now, on_step)
