"""The fit of a solver to runs: weights over known lists, then times moved with weights, then both together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs
import numpy as np

from ..errors import PidSamplerError
from ..search import from_gaps, refine
from ..search.compare import known_lists
from ..search.problem import Problem
from ..timesteps import Times
from .flights import Array
from .joint import MOST_STEPS, Ends, flat, refined
from .runs import Told
from .solved import Followed, mean_square
from .solver import LinearSolver


@attrs.frozen(kw_only=True)
class Found:
    """A solver that was fitted.

    Args:
        off: RMS distance of the ends of its runs to where they should end.
        solver: The solver.
        start: Known list that its times were moved from, if any.
        ridge: Ridge that it was fitted with.
        steady: What its squared amplification counted beside the mean squared error; 0 where it did not count.
    """

    off: float
    solver: LinearSolver
    start: str | None
    ridge: float
    steady: float = 0.0


_Begin = tuple[float, Times, str, float]  # mean squared error, list, the known list that it was moved from, ridge

_JOINT, _MANY_JOINT = 2, 30  # lists
_BELOW = 0.95  # where a first time that may move begins, as a share of where it was
_FEW_STEPS = 3  # of Gauss and Newton from each list, before the best of them are chosen
_MORE_STEPS = 7  # that there often are after those
_FINALISTS = 8  # the most lists from which all steps are taken
_STEADIER, _MOST_STEADIER = 2.0, 16  # what the amplification counts each time it is still too large, and how often
_STEADY_STEPS = 6  # of Gauss and Newton each time
_HOP = 0.5  # standard deviation of what moves the logarithms of gaps and the weights before they are refined again
_MOST_HOPS, _HOPS = 60, 1000  # how often: the most, and with one call; each costs the square of the calls
_NEAR = 1e-4  # RMS distance below which there are none: the rounding to bfloat16 costs ten times as much
_HOP_STEPS = 20  # of Gauss and Newton that there often are after one
_LIGHTER = 0.1  # ridge of times and weights together, relative to that of weights alone


@attrs.frozen(kw_only=True)
class Effort:
    """How much is tried.

    Args:
        ridges: Ridges to fit with.
        joint: From how many known lists, and from the moved one, times and weights are refined together with each
            ridge; 0 leaves it out.
        hops: How often the nearest solver is then moved at random and refined again.
    """

    ridges: Sequence[float]
    joint: int
    hops: int

    @property
    def rounds(self) -> int:
        """About how many steps of Gauss and Newton there are."""
        if not self.joint:
            return 0
        lists = self.joint + 1
        return len(self.ridges) * (_FEW_STEPS * lists + _MORE_STEPS * _finalists(lists)) + _HOP_STEPS * self.hops


def effort_of(ridge: float, *, joint: int | None, calls: int, plenty: bool) -> Effort:
    """Return how much is tried, unless `joint` says so: much where calls of the network cost little.

    Args:
        ridge: The largest ridge.
        joint: As in `Effort`; None has no opinion.
        calls: Model calls of the solver.
        plenty: Whether there is time for many lists, several ridges and hops.
    """
    if joint is not None or not plenty:
        return Effort(ridges=[ridge], joint=_JOINT if joint is None else joint, hops=0)
    ridges = [ridge, ridge / 10, ridge / 100] if ridge else [ridge]
    return Effort(ridges=ridges, joint=_MANY_JOINT, hops=min(_MOST_HOPS, _HOPS // calls**2))


def _finalists(lists: int) -> int:
    return min(-(-lists // 3), _FINALISTS)


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
        effort: How much is tried.
    """

    problem: Problem
    seen: Sequence[Followed]
    told: Told
    calls: int
    timesteps: tuple[float, ...] | None
    weigh: Callable[..., tuple[LinearSolver, list[Array]]]
    evaluations: int
    below: float | None
    effort: Effort

    def nearest(self, *, amplified: Callable[[LinearSolver], float], most: float) -> tuple[Found | None, float]:
        """Return the nearest of the solvers found, and its amplification.

        One that amplifies more than `most` is moved on until it does not, where times and weights are refined together.

        Args:
            amplified: Returns the amplification of a solver.
            most: The largest amplification.

        Returns:
            (None, the least amplification found) where no solver amplifies so little.

        Raises:
            PidSamplerError: The network fails.
        """
        best, size, least, off = None, math.inf, math.inf, math.inf
        for one in self._solvers():
            if one.off >= off:
                break
            its = amplified(one.solver)
            if its > most and self._moves_both:
                one, its = self._steadied(one, its, amplified=amplified, most=most, nearer=off)
            least = min(least, its)
            if its <= most and one.off < off:
                best, size, off = one, its, one.off
        return best, least if best is None else size

    @property
    def _moves_both(self) -> bool:
        return self.timesteps is None and self.effort.joint > 0 and (self.calls > 1 or self.below is not None)

    def _solvers(self) -> list[Found]:
        """Solvers that were fitted, the nearest first."""
        ridges = self.effort.ridges
        if self.timesteps is not None:
            found = [self._alone(np.array(self.timesteps), None, ridge) for ridge in ridges]
        else:
            begins = [self._begins(ridge) for ridge in ridges]
            if self._moves_both:
                found = [one for of in begins for one in self._together(of)]
                found += self._hopped(min(found, key=lambda one: one.off))
            else:
                found = [self._alone(*of[0][1:]) for of in begins]
        return sorted(found, key=lambda one: one.off)

    def _begins(self, ridge: float) -> list[_Begin]:
        """The list that was moved, and known ones."""
        self.told.what = "weights"
        share = 1.0 if self.below is None else _BELOW
        lists = {name: times * share for name, times in known_lists(self.problem, self.calls).items()}
        best = math.inf

        def cost(times: Times) -> float:
            nonlocal best
            found = self._cost(times, ridge)
            best = min(best, found)
            self.told.what = f"moving times: {math.sqrt(best):.4g}"
            return found

        costs = {name: cost(times) for name, times in lists.items()}
        order = sorted(costs, key=costs.__getitem__)
        tried = refine(lists[order[0]], cost, evaluations=self.evaluations, below=self.below)
        least, moved = min([(costs[order[0]], lists[order[0]]), *tried], key=lambda one: one[0])
        others = [(costs[name], lists[name], name, ridge) for name in order[: self.effort.joint] if costs[name] > least]
        return [(least, moved, order[0], ridge), *others]

    def _alone(self, times: Times, start: str | None, ridge: float) -> Found:
        """The solver over a list, whose times stay."""
        solver, ends = self._over(times, ridge)
        return Found(off=math.sqrt(mean_square(self.seen, ends)), solver=solver, start=start, ridge=ridge)

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

    def _together(self, begins: Sequence[_Begin]) -> list[Found]:
        """What times and weights together become, of several lists.

        A few steps are taken from each list, and all steps from the best third, or the best eight of many.
        """
        best = math.inf

        def on_best(off: float) -> None:
            nonlocal best
            best = min(best, off)
            self.told.what = f"times and weights together: {best:.4g}"

        few = []
        for cost, times, name, ridge in begins:
            penalty = _LIGHTER * ridge * cost
            off, solver = self._refined(self._over(times, ridge)[0], _FEW_STEPS, penalty=penalty, on_best=on_best)
            few.append((off, solver, penalty, name, ridge))
        few.sort(key=lambda one: one[0])
        found = []
        for _, one, penalty, name, ridge in few[: _finalists(len(few))]:
            off, solver = self._refined(one, MOST_STEPS, penalty=penalty, on_best=on_best)
            found.append(Found(off=off, solver=solver, start=name, ridge=ridge))
        return found

    def _hopped(self, best: Found) -> list[Found]:
        """Solvers that are nearer, each found from the one before, moved at random.

        Source: basin hopping (Wales and Doye 1997).
        """
        random = np.random.default_rng(0)
        found = []
        for _ in range(self.effort.hops):
            if best.off < _NEAR:
                break
            gaps = random.normal(np.log(-np.diff(best.solver.times)), _HOP)
            times = from_gaps(best.solver.times[0], gaps[:-1] - gaps[-1])
            moved = best.solver.with_numbers(times.tolist(), random.normal(flat(best.solver), _HOP).tolist())
            self.told.what = f"times and weights moved at random: {best.off:.4g}"
            off, solver = self._refined(moved, MOST_STEPS, penalty=_LIGHTER * best.ridge * best.off**2)
            if off < best.off:
                best = attrs.evolve(best, off=off, solver=solver)
                found.append(best)
        return found

    def _steadied(
        self, one: Found, size: float, *, amplified: Callable[[LinearSolver], float], most: float, nearer: float
    ) -> tuple[Found, float]:
        """What a solver becomes, and its amplification, which counts more and more until it is small or the end far."""
        steady = (one.off / size) ** 2  # at first as much as the error
        for _ in range(_MOST_STEADIER):
            self.told.what = f"errors made {size:.3g} times larger: {one.off:.4g}"
            before = self.told.journal.calls + self.told.journal.skipped
            off, solver = self._refined(one.solver, _STEADY_STEPS, steady=steady)
            one, size = attrs.evolve(one, off=off, solver=solver, steady=steady), amplified(solver)
            self.told.about += self.told.journal.calls + self.told.journal.skipped - before
            if size <= most or off >= nearer:
                break
            steady *= _STEADIER
        return one, size

    def _refined(
        self,
        solver: LinearSolver,
        steps: int,
        *,
        penalty: float = 0.0,
        steady: float = 0.0,
        on_best: Callable[[float], object] = lambda off: None,
    ) -> tuple[float, LinearSolver]:
        """How far off is what a solver becomes by so many steps, and that."""
        ends = Ends(
            flights=[one.flight for one in self.seen],
            targets=[one.end for one in self.seen],
            change=1e-6 if all(one.flight.subject.seen.flow for one in self.seen) else 1e-3,
            steady=steady,
        )
        below = self.below if self.below is not None and solver.times[0] < self.below else None
        return refined(
            ends, solver, penalty=penalty, below=below, steps=steps, on_best=on_best, journal=self.told.journal
        )
