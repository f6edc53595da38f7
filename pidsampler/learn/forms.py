"""Known samplers as linear solvers, where they are of that form: what a search begins with."""

from __future__ import annotations

import math
from collections.abc import Mapping
from contextlib import suppress

from ..errors import PidSamplerError
from ..schedulers.registry import get_scheduler, list_schedulers
from ..search.compare import known_lists, own_list
from ..search.problem import Problem
from ..table import Row, StepTable
from ..timesteps import Times
from .known import quietly
from .solver import LinearSolver

_ROUNDING = 1e-9  # of weights that are equal

OWN = "the model's own"


def as_solver(table: StepTable, *, history: int, biased: bool = False) -> LinearSolver | None:
    """Return a table of a network that predicts the velocity as a `LinearSolver`, with room for all weights.

    Args:
        table: The table.
        history: The most predictions before its own that a row weighs.
        biased: Make room for biases too.

    Returns:
        The solver, with a weight for each prediction that a row may weigh, 0 where the table has none; None where the
        table is of another form: has stages, reads other than earlier x0, draws a noise twice, or is biased.
    """
    held: dict[int, int] = {}  # slot -> the row whose x0 it holds
    weights: list[tuple[float, ...]] = []
    etas: list[float] = []
    drawn = {0}
    for i, row in enumerate(table):
        if not _is_plain(row):
            return None
        eta = 0.0
        for draw, size in row.noise:
            if draw in drawn or eta or not 0.0 < size <= row.t_next * (1.0 + _ROUNDING):
                return None
            drawn.add(draw)
            eta = min(1.0, size / row.t_next)
        found = dict.fromkeys(range(min(i, history)), 0.0)
        for slot, w in row.h:
            k = i - 1 - held.get(slot, i)
            if k not in found:
                return None
            found[k] += w
        if not math.isclose(row.a, math.sqrt((1.0 - eta) * (1.0 + eta)) * row.t_next / row.t, abs_tol=_ROUNDING):
            return None
        weights.append((*found.values(),))
        etas.append(eta)
        for slot, saved in row.saves:
            held.pop(slot, None)
            if (saved.a, saved.b, saved.h, saved.noise) == (0.0, 1.0, (), ()):
                held[slot] = i
    biases = ((0.0, 0.0),) * len(table) if biased else ()
    return LinearSolver(table.times, tuple(weights), etas=tuple(etas), biases=biases)


def _is_plain(row: Row) -> bool:
    """Whether a row goes down by a velocity at its own time."""
    as_told = (row.p, row.q, row.at, row.net, row.clip) == (1.0, -row.t, row.t, 0, None)
    return as_told and row.t_next < row.t and not row.biased


def starts(
    problem: Problem, calls: int, *, history: int, biased: bool, times: Times | None = None
) -> dict[str, LinearSolver]:
    """Return every known sampler of so many calls that is a linear solver, by spec, over every known list.

    Args:
        problem: The model. Its own sampler over its own list counts too, as `OWN`, where it is of that form.
        calls: Model calls.
        history: The most predictions before its own that a row weighs.
        biased: Make room for biases.
        times: The only list; None for all known ones, each from the model's first time on.
    """
    lists: Mapping[str, Times] = known_lists(problem, calls) if times is None else {"given": times}
    found: dict[LinearSolver, str] = {}
    samplers = []
    if problem.sampler:
        samplers.append((OWN, problem.sampler, own_list(problem, calls) if times is None else times))
    for info in list_schedulers():
        samplers += [(f"{info.name}@{name}:{calls}", info.name, over) for name, over in lists.items()]
    with quietly():
        for spec, sampler, over in samplers:
            with suppress(PidSamplerError):  # of some there is no table over a list
                table = get_scheduler(sampler, over).table()
                solver = as_solver(table, history=history, biased=biased) if len(table) == calls else None
                if solver is not None:
                    found.setdefault(solver, spec)
    return {name: solver for solver, name in found.items()}
