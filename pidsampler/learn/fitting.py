"""The fit of a solver to runs: weights over known lists, then times moved with weights, then both together."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import attrs
import numpy as np

from ..errors import PidSamplerError, optional
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
        size: Amplification of the solver.
        steady: What its squared amplification counted beside the mean squared error; 0 where it did not count.
    """

    off: float
    solver: LinearSolver
    start: str | None
    ridge: float
    size: float
    steady: float = 0.0


_Begin = tuple[float, Times, str, float]  # mean squared error, list, the known list that it was moved from, ridge

_JOINT, _MANY_JOINT = 2, 20  # lists
_BELOW = 0.95  # where a first time that may move begins, as a share of where it was
_FEW_STEPS = 3  # of Gauss and Newton from each list, before the best of them are chosen
_MORE_STEPS = 7  # that there often are after those
_FINALISTS = 8  # the most lists from which all steps are taken
_LATER = np.geomspace(0.97, 0.08, 50)  # shares of the first time where lists that begin later begin
_LATER_LISTS, _MOST_LATER, _LATER_TRIES = 4, 8, 12  # of how many lists, how many are chosen, and lists tried near one
_MOVED_ON = 8  # how many solvers that amplify too much are moved on
_STEADIER, _MOST_STEADIER = 2.0, 16  # what the amplification counts each time it is still too large, and how often
_STEADY_STEPS = 6  # of Gauss and Newton each time
_NEARLY, _HALVED = 0.9, 3  # what is below this share of the largest amplification is moved back, at most so often
_HOP = 0.5  # standard deviation of what moves the logarithms of gaps and the weights before they are refined again
_MOST_HOPS, _HOPS = 60, 1000  # how often: the most, and with one call; each costs the square of the calls
_NEAR = 1e-4  # RMS distance below which there are none: the rounding to bfloat16 costs ten times as much
_HOP_STEPS = 20  # of Gauss and Newton that there often are after one
_LIGHTER = 0.1  # ridge of times and weights together, relative to that of weights alone


@attrs.frozen(kw_only=True)
class Effort:
    """How much is tried.

    Args:
        evaluations: Most lists that are tried beyond the known ones.
        ridges: Ridges to fit with.
        joint: From how many known lists, and from the moved one, times and weights are refined together with each
            ridge; 0 leaves it out.
        hops: How often the nearest solver is then moved at random and refined again. Above 0, lists that begin later
            are tried too.
    """

    evaluations: int
    ridges: Sequence[float]
    joint: int
    hops: int

    @property
    def lists(self) -> int:
        """The most lists that are tried with a ridge beside the known ones."""
        return self.evaluations + (_LATER_LISTS * len(_LATER) + _MOST_LATER * _LATER_TRIES if self.hops else 0)

    @property
    def rounds(self) -> int:
        """About how many steps of Gauss and Newton there are."""
        if not self.joint:
            return 0
        lists = self.joint + 1 + (_MOST_LATER if self.hops else 0)
        return len(self.ridges) * (_FEW_STEPS * lists + _MORE_STEPS * _finalists(lists)) + _HOP_STEPS * self.hops


def effort_of(ridge: float, *, evaluations: int, joint: int | None, calls: int, plenty: bool) -> Effort:
    """Return how much is tried, unless `joint` says so: much where calls of the network cost little.

    Args:
        ridge: The largest ridge.
        evaluations: As in `Effort`.
        joint: As in `Effort`; None has no opinion.
        calls: Model calls of the solver.
        plenty: Whether there is time for many lists, several ridges and hops.
    """
    if joint is not None or not plenty:
        return Effort(evaluations=evaluations, ridges=[ridge], joint=_JOINT if joint is None else joint, hops=0)
    ridges, hops = [ridge, ridge / 10, ridge / 100] if ridge else [ridge], min(_MOST_HOPS, _HOPS // calls**2)
    return Effort(evaluations=evaluations, ridges=ridges, joint=_MANY_JOINT, hops=hops)


@attrs.frozen(kw_only=True)
class Limit:
    """How much a solver may amplify.

    Args:
        most: The largest amplification.
        amplified: Returns the amplification of a solver.
    """

    most: float
    amplified: Callable[[LinearSolver], float]

    def off(self, one: Found) -> float:
        """About how far off a solver is once it amplifies no more than it may: the product of both often stays."""
        return one.off * max(1.0, one.size / self.most)


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
        below: Move the first time too, below this.
        effort: How much is tried.
        limit: How much a solver may amplify.
    """

    problem: Problem
    seen: Sequence[Followed]
    told: Told
    calls: int
    timesteps: tuple[float, ...] | None
    weigh: Callable[..., tuple[LinearSolver, list[Array]]]
    below: float | None
    effort: Effort
    limit: Limit

    def nearest(self) -> tuple[Found | None, float]:
        """Return the nearest of the solvers found that amplify no more than they may, and the least amplification.

        One that amplifies more is moved on until it does not, where times and weights are refined together.

        Returns:
            None where no solver amplifies so little, and the least amplification found.

        Raises:
            PidSamplerError: The network fails.
        """
        best, least, moved_on = None, math.inf, 0
        for one in self._solvers():
            if best is not None and one.off >= best.off:
                continue
            if one.size > self.limit.most and self._moves_both and moved_on < _MOVED_ON:
                one = self._steadied(one, nearer=math.inf if best is None else best.off)
                moved_on += 1
            least = min(least, one.size)
            if one.size <= self.limit.most and (best is None or one.off < best.off):
                best = one
        return None if best is None else self._hopped(best), least

    def _found(self, off: float, solver: LinearSolver, start: str | None, ridge: float) -> Found:
        return Found(off=off, solver=solver, start=start, ridge=ridge, size=self.limit.amplified(solver))

    @property
    def _moves_both(self) -> bool:
        return self.timesteps is None and self.effort.joint > 0 and (self.calls > 1 or self.below is not None)

    def _solvers(self) -> list[Found]:
        """Solvers that were fitted, first the one that is nearest once it amplifies no more than it may."""
        ridges = self.effort.ridges
        if self.timesteps is not None:
            found = [self._alone(np.array(self.timesteps), None, ridge) for ridge in ridges]
        else:
            begins = [self._begins(ridge) for ridge in ridges]
            if self._moves_both:
                found = [one for of in begins for one in self._together(of)]
            else:
                found = [self._alone(*of[0][1:]) for of in begins]
        return sorted(found, key=self.limit.off)

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
        tried = refine(lists[order[0]], cost, evaluations=self.effort.evaluations, below=self.below)
        least, moved = min([(costs[order[0]], lists[order[0]]), *tried], key=lambda one: one[0])
        others = [(costs[name], lists[name], name, ridge) for name in order[: self.effort.joint] if costs[name] > least]
        if self.effort.hops and self.below is not None:
            others += self._later({name: lists[name] for name in order[:_LATER_LISTS]}, cost, ridge)
        return [(least, moved, order[0], ridge), *others]

    def _later(self, lists: dict[str, Times], cost: Callable[[Times], float], ridge: float) -> list[_Begin]:
        """Lists that begin later, where that is best: there a flow may tell separate modes apart at once."""
        minimize = optional("scipy.optimize", "scipy").minimize_scalar
        best = []
        for share in _LATER:
            best.append(min((cost(times * share), share, name) for name, times in lists.items()))
        inner = [one for before, one, after in zip(best, best[1:], best[2:], strict=False) if one < min(before, after)]
        found = []
        for _, share, name in sorted(inner)[:_MOST_LATER]:
            width = 1.0 - _LATER[1] / _LATER[0]
            made = minimize(
                lambda share, times=lists[name]: cost(times * share),
                bounds=(share * (1.0 - width), share * (1.0 + width)),
                method="bounded",
                options={"maxiter": _LATER_TRIES},
            )
            found.append((float(made.fun), lists[name] * made.x, name, ridge))
        return found

    def _alone(self, times: Times, start: str | None, ridge: float) -> Found:
        """The solver over a list, whose times stay."""
        solver, ends = self._over(times, ridge)
        return self._found(math.sqrt(mean_square(self.seen, ends)), solver, start, ridge)

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
            few.append((self._found(off, solver, name, ridge), penalty))
        few.sort(key=lambda one: self.limit.off(one[0]))
        found = []
        for one, penalty in few[: _finalists(len(few))]:
            off, solver = self._refined(one.solver, MOST_STEPS, penalty=penalty, on_best=on_best)
            found.append(self._found(off, solver, one.start, one.ridge))
        return found

    def _hopped(self, best: Found) -> Found:
        """A solver that is nearer, if one is found from this one, moved at random.

        Source: basin hopping (Wales and Doye 1997).
        """
        random = np.random.default_rng(0)
        left = self.effort.hops if self._moves_both else 0
        while left > 0 and best.off >= _NEAR:
            gaps = random.normal(np.log(-np.diff(best.solver.times)), _HOP)
            times = from_gaps(best.solver.times[0], gaps[:-1] - gaps[-1])
            moved = best.solver.with_numbers(times.tolist(), random.normal(flat(best.solver), _HOP).tolist())
            self.told.what = f"times and weights moved at random: {best.off:.4g}"
            steady = (best.off / self.limit.most) ** 2 if best.size > _NEARLY * self.limit.most else 0.0
            penalty = 0.0 if steady else _LIGHTER * best.ridge * best.off**2
            off, solver = self._refined(moved, MOST_STEPS, penalty=penalty, steady=steady)
            if off < best.off and (size := self.limit.amplified(solver)) <= self.limit.most:
                best = attrs.evolve(best, off=off, solver=solver, size=size, steady=steady)
            left -= 2 if steady else 1  # amplification takes as many calls again
        return best

    def _steadied(self, one: Found, *, nearer: float) -> Found:
        """What a solver becomes as its amplification counts more and more, until that is small or the end far."""
        before = attrs.evolve(one, steady=(one.off / one.size) ** 2 / _STEADIER)  # then it counts as much as the error
        for _ in range(_MOST_STEADIER):
            one = self._steadier(before, before.steady * _STEADIER)
            if one.size <= self.limit.most or one.off >= nearer:
                break
            before = one
        for _ in range(_HALVED):
            if one.size > _NEARLY * self.limit.most:
                break
            between = self._steadier(before, math.sqrt(before.steady * one.steady))
            if between.size > self.limit.most:
                before = between
            elif between.off < one.off:
                one = between
            else:
                break
        return one

    def _steadier(self, one: Found, steady: float) -> Found:
        """What a solver becomes where its amplification counts so much."""
        self.told.what = f"errors made {one.size:.3g} times larger: {one.off:.4g}"
        before = self.told.journal.calls + self.told.journal.skipped
        off, solver = self._refined(one.solver, _STEADY_STEPS, steady=steady)
        self.told.about += self.told.journal.calls + self.told.journal.skipped - before
        return attrs.evolve(one, off=off, solver=solver, steady=steady, size=self.limit.amplified(solver))

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
