"""Times and weights together: Gauss and Newton's method on where the flights end, with Levenberg's damping."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from ..search import from_gaps
from ..search.journal import Journal
from .flights import Array, Course, Flight, host
from .guards import SIZE, Shaken
from .solver import LinearSolver

MOST_STEPS = 30  # of Gauss and Newton

_TRIES = 8  # lengths of a step
_LONGEST = 2.0  # the most by which one step changes the logarithm of a gap, or a weight
_WIDEST = 12.0  # of the logarithm of a gap relative to the last one, as in a search
_GAIN = 1e-2  # share of the squared error that a step must gain for another one to follow

Vector = NDArray[np.float64]


@attrs.frozen(eq=False, kw_only=True)
class Ends:
    """Where flights should end, and how far from there a solver lets them end.

    Args:
        flights: The flights.
        targets: Where each should end, an array like its noise.
        change: How much a time or weight is changed, relative to its gap or to 1, to see what follows: above the
            rounding of the network's numbers.
        steady: What the squared amplification counts beside the mean squared error.
    """

    flights: Sequence[Flight]
    targets: Sequence[Array]
    change: float
    steady: float = 0.0

    def courses(self, solver: LinearSolver) -> list[Course]:
        """The flights by a solver, and where amplification counts the same with noise on every x0."""
        kinds = (Course, Shaken) if self.steady else (Course,)
        return [kind(flight, solver) for kind in kinds for flight in self.flights]

    def off(self, ends: Sequence[Array]) -> Vector:
        """All elements of the ends less the targets, and what noise on every x0 changes in them if that counts."""
        plain, shaken = ends[: len(self.flights)], ends[len(self.flights) :]
        found = [host(end - target) for end, target in zip(plain, self.targets, strict=True)]
        if shaken:
            weight = math.sqrt(self.steady) / SIZE
            found += [weight * host(other - end) for end, other in zip(plain, shaken, strict=True)]
        return np.concatenate(found)


def refined(
    ends: Ends,
    solver: LinearSolver,
    *,
    penalty: float,
    below: float | None = None,
    steps: int = MOST_STEPS,
    on_best: Callable[[float], object] = lambda off: None,
    journal: Journal | None = None,
) -> tuple[float, LinearSolver]:
    """Return the solver near by whose flights end nearest to their targets, and their RMS distance.

    What is moved are the logarithms of the times' gaps, as multiples of the last one, and the weights, so that every
    solver tried is valid. Derivatives are differences of flights, of which each repeats the rows that change, only.

    Args:
        ends: The flights, and where they should end.
        solver: Where to begin, with something to move; its number of weights stays.
        penalty: What the squared weights' sum counts beside the mean squared error.
        below: Move the first time too, below this, which is above it.
        steps: The most steps, from 1.
        on_best: Called as on_best(off) with the RMS distance to the targets of each solver that is better.
        journal: Where steps are kept.
    """
    journal = Journal() if journal is None else journal
    here: Point | None = None
    damping = 1e-3

    def better() -> list[float]:
        """One step from where it is: the damping, the share gained, the distance, times and weights."""
        nonlocal here
        if here is None or here.solver is not solver:
            here = Point(ends, solver, penalty=penalty, below=below)
        found, damped = _step(here, damping)
        if found is None:
            return [damped, 0.0, math.sqrt(here.mean_square), *solver.times, *flat(solver)]
        gain, here = 1.0 - found.cost / here.cost, found
        return [damped, gain, math.sqrt(here.mean_square), *here.solver.times, *flat(here.solver)]

    for _ in range(steps):
        name = f"together {penalty!r} {ends.steady!r} {damping!r} {[*solver.times, *flat(solver)]}"
        made = journal.kept(name, better, count=3 + len(solver.times) + len(flat(solver)))
        damping, gain, off = made[:3]
        if here is not None and here.solver is not solver:
            solver = here.solver
        else:
            solver = solver.with_numbers(made[3 : 3 + len(solver.times)], made[3 + len(solver.times) :])
        if gain:
            on_best(off)
        if gain < _GAIN:
            break
    return off, solver


def _step(here: Point, damping: float) -> tuple[Point | None, float]:
    """A better point, None where there is none, and the damping for the next step."""
    normal, slope = here.normal_equations()
    scale = np.diag(normal) + 1e-12 * np.trace(normal)
    for _ in range(_TRIES):
        move: Vector = np.linalg.lstsq(normal + damping * np.diag(scale), -slope, rcond=None)[0].astype(np.float64)
        other = here.moved(np.clip(move, -_LONGEST, _LONGEST))  # what is hardly felt must not hold up the rest
        if other.cost < here.cost:
            return other, max(damping / 10.0, 1e-12)
        damping *= 5.0
    return None, damping


def flat(solver: LinearSolver) -> list[float]:
    """Return all numbers of a solver beside its times, row by row."""
    return [number for row in solver.numbers for number in row]


class Point:
    """A solver, and where its flights end."""

    def __init__(self, ends: Ends, solver: LinearSolver, *, penalty: float, below: float | None) -> None:
        self.solver, self._ends, self._penalty, self._below = solver, ends, penalty, below
        self._courses = ends.courses(solver)
        self._off = ends.off([course.end for course in self._courses])
        self._count = sum(target.size for target in ends.targets)
        self._weights = np.array(flat(solver))
        self._top = solver.times[0] if below is None else below
        gaps = -np.diff(solver.times if below is None else [below, *solver.times])
        self._gaps = np.log(gaps[:-1] / gaps[-1])
        near = self._off[: self._count]
        self.mean_square = float(near @ near) / self._count
        self.cost = float(self._off @ self._off) / self._count + penalty * float(self._weights @ self._weights)

    def moved(self, move: Vector) -> Point:
        """The point at other gaps and weights."""
        count = len(self._gaps)
        gaps = np.clip(self._gaps + move[:count], -_WIDEST, _WIDEST)
        times = from_gaps(self._top, gaps)[0 if self._below is None else 1 :]
        solver = self.solver.with_numbers(times.tolist(), (self._weights + move[count:]).tolist())
        return Point(self._ends, solver, penalty=self._penalty, below=self._below)

    def normal_equations(self) -> tuple[NDArray[np.float64], Vector]:
        """The matrix and the slope of half the cost, in gaps and weights."""
        times, solver = np.array(self.solver.times), self.solver
        ahead = np.append(self._top, times[:-1])
        columns = []
        for k in range(1 if self._below is None else 0, len(times) - 1):
            other = times.copy()
            other[k] -= self._ends.change * min(ahead[k] - times[k], times[k] - times[k + 1])
            change = float(other[k] - times[k])
            moved = solver.with_numbers(other.tolist(), self._weights.tolist())
            columns.append(self._slope(moved, max(k - 1, 0), change))
        by_gaps = _times_by_gaps(self._top, self._gaps)
        place = 0
        for row, numbers in enumerate(solver.numbers):
            for _ in numbers:
                other = self._weights.copy()
                other[place] += self._ends.change
                change = float(other[place] - self._weights[place])
                columns.append(self._slope(solver.with_numbers(solver.times, other.tolist()), row, change))
                place += 1
        n, count = self._count, len(self._gaps)
        matrix = np.stack(columns, axis=1)
        gram, slope = matrix.T @ matrix / n, matrix.T @ self._off / n
        chain = np.eye(len(slope))
        chain[:count, :count] = by_gaps
        normal, slope = chain.T @ gram @ chain, chain.T @ slope
        own = np.arange(count, len(slope))
        normal[own, own] += self._penalty
        slope[count:] += self._penalty * self._weights
        return normal, slope

    def _slope(self, solver: LinearSolver, row: int, change: float) -> Vector:
        """The derivative of all ends, from a solver that differs from `row` on."""
        if not change:  # lost in the rounding of a huge weight, which then stays
            return np.zeros(len(self._off))
        return (self._ends.off([course.other(solver, row) for course in self._courses]) - self._off) / change


def _times_by_gaps(first: float, gaps: Vector) -> NDArray[np.float64]:
    """The derivatives of the inner times of `from_gaps` by its gaps: one row a time."""
    sizes = np.exp(np.append(gaps, 0.0) - max(gaps.max(initial=0.0), 0.0))
    total = sizes.sum()
    above = np.cumsum(sizes[::-1])[::-1] / total  # the times, as shares of the first
    n = len(gaps)
    found = np.empty((n, n))
    for k in range(n):  # of time k + 1, the sum of the gaps from k + 1 on
        inside = (np.arange(n) >= k + 1).astype(float)
        found[k] = first * sizes[:-1] / total * (inside - above[k + 1])
    return found
