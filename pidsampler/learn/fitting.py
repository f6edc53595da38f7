"""The fit of a solver to runs: weights over known lists, then times moved with weights, then both together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs
import numpy as np

from ..errors import PidSamplerError
from ..search import refine
from ..search.compare import known_lists
from ..search.problem import Problem
from ..timesteps import Times
from .flights import Array
from .joint import Ends, refined
from .runs import Told
from .solved import Followed, mean_square
from .solver import LinearSolver


@attrs.frozen(kw_only=True, eq=False)
class Fitting:
    """How solvers are fitted to runs.

    Args:
        problem: What is sampled.
        seen: The runs.
        told: What is told of each call; its journal keeps the numbers.
        calls: Model calls.
        timesteps: The list to keep; None moves the times too.
        weigh: `least_squares` with the form of the rows: their history, in pairs or not, biased or not.
        evaluations: Most lists that are tried beyond the known ones.
        below: Move the first time too, below this.
        joint: Refine times and weights together at the end.
    """

    problem: Problem
    seen: Sequence[Followed]
    told: Told
    calls: int
    timesteps: tuple[float, ...] | None
    weigh: Callable[..., tuple[LinearSolver, list[Array]]]
    evaluations: int
    below: float | None
    joint: bool

    def solver(self, *, ridge: float) -> tuple[LinearSolver, str | None]:
        """Return the solver, and the known list that its times were moved from, if any.

        Raises:
            PidSamplerError: The network fails.
        """
        self.told.what = "weights"
        if self.timesteps is not None:
            return self._over(np.array(self.timesteps), ridge)[0], None
        lists = known_lists(self.problem, self.calls)
        best = math.inf

        def cost(times: Times) -> float:
            nonlocal best
            found = self._cost(times, ridge)
            best = min(best, found)
            self.told.what = f"moving times: {math.sqrt(best):.4g}"
            return found

        costs = {name: cost(times) for name, times in lists.items()}
        start = min(costs, key=costs.__getitem__)
        tried = refine(lists[start], cost, evaluations=self.evaluations, below=self.below)
        _, times = min([(costs[start], lists[start]), *tried], key=lambda one: one[0])
        solver, reached = self._over(times, ridge)
        if not self.joint:
            return solver, start
        return self._together(solver, penalty=ridge * mean_square(self.seen, reached)), start

    def _over(self, times: Times, ridge: float) -> tuple[LinearSolver, list[Array]]:
        """The solver over a list, and where the runs end."""
        return self.weigh([(one.flight, one.trajectory) for one in self.seen], times.tolist(), ridge=ridge)

    def _cost(self, times: Times, ridge: float) -> float:
        def work() -> list[float]:
            try:
                return [mean_square(self.seen, self._over(times, ridge)[1])]
            except PidSamplerError:
                return [math.inf]

        return self.told.journal.kept(f"{ridge!r} over {times.tobytes().hex()}", work, count=1)[0]

    def _together(self, solver: LinearSolver, *, penalty: float) -> LinearSolver:
        ends = Ends(
            flights=[one.flight for one in self.seen],
            targets=[one.end for one in self.seen],
            change=1e-6 if all(one.flight.subject.seen.flow for one in self.seen) else 1e-3,
        )
        below = self.below if self.below is not None and solver.times[0] < self.below else None

        def on_best(off: float) -> None:
            self.told.what = f"times and weights together: {off:.4g}"

        return refined(ends, solver, penalty=penalty, below=below, on_best=on_best, journal=self.told.journal)
