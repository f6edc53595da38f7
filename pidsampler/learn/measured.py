"""Times, etas and weights searched on a measure: by COBYQA, which needs no derivatives, from the best of what is known.

Source: COBYQA (Ragonneau 2022, "Model-based derivative-free optimization methods and software"), as in SciPy.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, PidSamplerError, optional
from ..search import from_gaps
from ..search.journal import Journal
from .forms import OWN
from .known import quietly
from .solved import Judged, judged
from .solver import LinearSolver

FEW = 8  # of what is known that is tried on all images; the others on the first one only

_WIDEST = 12.0  # of the logarithm of a gap relative to the last one, as in a search of times
_WEIGHED = 3.0  # times a variable: the change of a weight that is like one of a gap's logarithm or of an eta
_FARTHEST = 12.0  # the most by which a weight is changed, in that unit
_FIRST_MOVE, _LAST_MOVE = 0.3, 0.003
_BELOW = 0.95  # where a first time that may move begins, as a share of where it was

Vector = NDArray[np.float64]


def searched(
    ones: Sequence[Judged],
    starts: Mapping[str, LinearSolver],
    *,
    sign: float,
    evaluations: int,
    moves: bool = True,
    below: float | None = None,
    on_best: Callable[[float], object] = lambda value: None,
    journal: Journal | None = None,
) -> tuple[LinearSolver, str]:
    """Return the solver found that is best on the mean of a measure, and the name of what it was moved from.

    All starts are tried on the first image; the best of them, and the model's own sampler, on all. From the best one
    times, etas and weights are moved, first without the weights and then together; if evaluations are left, from the
    next best.

    Args:
        ones: The runs, those of an image together.
        starts: Solvers to begin with, by name.
        sign: Sign of the measure: -1 where a higher measure is better.
        evaluations: The most solvers to try beyond the starts.
        moves: Move the times too.
        below: Move the first time too, below this.
        on_best: Called as on_best(value) with the mean of the measure of each solver that is better.
        journal: Where numbers are kept.

    Raises:
        PidSamplerError: All starts fail.
    """
    best = math.inf
    left = evaluations
    journal = Journal() if journal is None else journal

    def cost(solver: LinearSolver, among: Sequence[Judged] = ones) -> float:
        def work() -> list[float]:
            try:
                values = judged(among, [one.flight.by(solver.table()) for one in among]).values()
            except PidSamplerError:
                return [math.inf]
            return [sign * math.fsum(values) / len(values)]

        return journal.kept(f"measured {len(among)} by {solver!r}", work, count=1)[0]

    def tried(solver: LinearSolver) -> float:
        nonlocal best, left
        left -= 1
        if (found := cost(solver)) < best:
            best = found
            on_best(sign * best)
        return found

    with quietly():
        first = {name: cost(solver, ones[:1]) for name, solver in starts.items()}
        few = [*sorted(first, key=first.__getitem__)[:FEW], *({OWN} & starts.keys())]
        costs = {name: cost(starts[name]) for name in few}
        order = [name for name in sorted(costs, key=costs.__getitem__) if math.isfinite(costs[name])]
        if not order:
            judged(ones, [one.flight.by(starts[few[0]].table()) for one in ones])  # raises what is wrong
            raise ConfigError("no known sampler has a finite measure on all images: look at the measure")
        found, name, best = starts[order[0]], order[0], costs[order[0]]
        on_best(sign * best)
        for start in order:
            begin, least = starts[start], costs[start]
            for share, weights in ((0.5, False), (1.0, True)):
                space = _Space(begin, moves=moves, weights=weights, below=below)
                for value, solver in space.moved(tried, most=math.ceil(share * left)):
                    if value < least:
                        begin, least = solver, value
            if least == best and begin is not starts[start]:
                found, name = begin, start
            if left <= 0:
                break
    return found, name


class _SpentError(Exception):
    """All evaluations are used up."""


class _Space:
    """The solvers near one, as vectors: gaps' logarithms, etas, and weights."""

    def __init__(self, solver: LinearSolver, *, moves: bool, weights: bool, below: float | None) -> None:
        self._solver = solver
        times = np.array(solver.times)
        self._dropped = 0
        if moves and below is not None:
            times, self._dropped = np.append(below, times * min(1.0, _BELOW * below / times[0])), 1
        self._top = float(times[0])
        gaps = -np.diff(times)
        logs = np.clip(np.log(gaps[:-1] / gaps[-1]), -_WIDEST, _WIDEST) if moves else np.zeros(0)
        etas = np.array(solver.etas[:-1])  # the last row goes to 0
        numbers = _WEIGHED * np.concatenate([np.zeros(0), *solver.numbers]) if weights else np.zeros(0)
        self._start = np.concatenate([logs, etas, numbers])
        self._ends = np.cumsum([len(logs), len(etas)])
        self._low = np.concatenate([np.full(len(logs), -_WIDEST), np.zeros(len(etas)), numbers - _FARTHEST])
        self._high = np.concatenate([np.full(len(logs), _WIDEST), np.ones(len(etas)), numbers + _FARTHEST])

    def _at(self, vector: Vector) -> LinearSolver:
        logs, etas, numbers = np.split(vector, self._ends)
        times = from_gaps(self._top, logs)[self._dropped :].tolist() if len(logs) else self._solver.times
        flat = (numbers / _WEIGHED).tolist() or [n for row in self._solver.numbers for n in row]
        solver = self._solver.with_numbers(times, flat)
        return solver.with_etas([*np.clip(etas, 0.0, 1.0).tolist(), 0.0])

    def moved(self, cost: Callable[[LinearSolver], float], *, most: int) -> list[tuple[float, LinearSolver]]:
        """Return (cost, solver) of each that is tried."""
        found: list[tuple[float, LinearSolver]] = []

        def objective(vector: Vector) -> float:
            if len(found) >= most:
                raise _SpentError
            solver = self._at(vector)
            found.append((cost(solver), solver))
            return found[-1][0]

        if len(self._start) and most > 0:
            minimize = optional("scipy.optimize", "scipy").minimize
            options = {"initial_tr_radius": _FIRST_MOVE, "final_tr_radius": _LAST_MOVE}
            bounds = list(zip(self._low, self._high, strict=True))
            with suppress(_SpentError):
                minimize(objective, self._start, method="COBYQA", bounds=bounds, options=options)
        return found
