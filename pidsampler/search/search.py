"""Search for a list of timesteps: a good one for a scheduler, a number of model calls, a model and its pictures.

The search starts from the known lists, and from two by dynamic programming over a converged trajectory: of all its
points those between which the errors of Euler's step, or their squares, sum to the least. From the best of them, then
from the next best, the times are moved by COBYQA, a trust-region method without derivatives, in the logarithms of the
gaps between them, so that every list tried is in order. What is found is compared with the known lists on pictures or
seeds that the search has not seen.

The first time stays unless `free_start` is set. A run begins with pure noise, which is too much of it for a lower first
time. With few calls that can make good for most of what the solver loses, as solvers contract; but the network then
sees at its first call what it was not trained for, and the list fits that number of calls only.

Source: GITS (Chen et al. 2024, arXiv 2405.11326) for the errors of Euler's step as costs of a dynamic program;
COBYQA (Ragonneau 2022, "Model-based derivative-free optimization methods and software"), as in SciPy.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from .. import moved, timesteps
from ..errors import ConfigError, PidSamplerError, optional
from ..schedulers.making import SamplerLike, sampler_name
from ..schedulers.registry import get_scheduler, without_list
from ..table import StepTable
from ..timesteps import Times, TimesLike
from ..values import callback, flag, function, instance, number, numbers, whole
from .compare import Rival, comparison, described, known_lists, rivals, split
from .journal import Journal, code_of, facts_of

if TYPE_CHECKING:
    from .problem import Problem

# Power of the mean squared errors that are summed.
_PROGRAMMED = {"dynamic-programming": 0.5, "dynamic-programming-squared": 1.0}

_WIDEST = 12.0  # the most by which the logarithm of a gap differs from the last gap's: no two times become equal
_FIRST_MOVE, _LAST_MOVE = 0.3, 0.01  # of such a logarithm
_MOST_CALLS = 256  # four times those of a converged solution
_MOST_RUNS = 1_000_000  # as in a study: more than anybody waits for
_BELOW = 0.95  # where a first time that may move begins, as a share of where it was: at 1 it has no gap to move by


@dataclass(frozen=True, kw_only=True)
class Found:
    """What a search found.

    Args:
        times: The list.
        start: Name of the list that it was moved from.
        costs: Name of a list -> mean of the measure over the runs searched on, with the sign that makes less better:
            of the lists that the search began with, and of the one "found".
        rivals: The known lists, the best one first.
        made: Provenance of the list, in lines.
        table: The comparison, in lines.
    """

    times: Times
    start: str
    costs: dict[str, float]
    rivals: list[Rival]
    made: list[str]
    table: list[str]


class Search:
    """What to search for.

    Args:
        sampler: A sampler that names no times: a spec such as "dpmpp-2m", "FILE.py:NAME", or a class or function of
            timesteps.
        calls: The most model calls; a method of several calls a step gets as many steps as fit.
        measure: Measure to optimize, see `study.measures.get_measure`. The distance to the ODE's solution is for
            schedulers that draw no noise.
        seeds: Number of seeds for each picture searched on, and of others for each held out.
        evaluations: Most lists that are tried beyond those to start from.
        free_start: Let the first time move too.

    Raises:
        PidSamplerError: An argument is not as described, or scipy is not installed.
    """

    @moved.keywords(scheduler="sampler")
    def __init__(
        self,
        sampler: SamplerLike,
        calls: int,
        *,
        measure: str = "ode-distance",
        seeds: int = 4,
        evaluations: int = 60,
        free_start: bool = False,
    ) -> None:
        from ..study.measures.registry import get_measure

        if isinstance(sampler, str) and sampler != without_list(sampler):
            raise ConfigError(f"{sampler!r} names a timestep list, which is what to find: pass what is before @")
        self.sampler, self.calls, self.seeds = (
            sampler,
            whole("calls", calls, low=1, high=_MOST_CALLS),
            whole("seeds", seeds, low=1, high=_MOST_RUNS),
        )
        self.evaluations = whole("evaluations", evaluations, low=0, high=_MOST_RUNS)
        self.free_start = flag("free_start", free_start)
        self.steps, table = self._largest()
        self.calls_made = len(table)
        self.measure = get_measure(measure)
        self._code = [code_of(sampler), code_of(measure)]
        self.compares = "converged" in self.measure.needs  # with the ODE's solution
        if not self.measure.better:
            raise ConfigError(f"the measure {measure!r} is neither good nor bad where it is high: choose another")
        if self.compares and any(row.draws for row in table.rows):
            raise ConfigError(
                f"{sampler_name(sampler)} draws noise, so its result is not meant to be the ODE's solution: choose a "
                f"measure other than {measure!r}, such as wasserstein-1 for a flow or psnr for pictures"
            )
        optional("scipy.optimize", "scipy")

    def run(
        self,
        problem: Problem,
        on_call: Callable[[int], object] | None = None,
        *,
        on_best: Callable[[float], object] | None = None,
        journal: Journal | None = None,
    ) -> Found:
        """Search, then compare on what was held out.

        Of several pictures every second one is held out. The held-out runs have other seeds than those searched on, so
        there are some of a single picture too.

        Args:
            problem: The model and its pictures.
            on_call: Called as on_call(most) with each model call, of which there will be `most` at most; an exception
                cancels the search.
            on_best: Called as on_best(value) with the mean of the measure of each list that is the best so far.
            journal: Where the costs of lists are kept, so that a search that was killed goes on from there, and ends
                the same to the bit. A network without hashes is told from others by the problem's name alone.

        Returns:
            The list of times, and how it compares.

        Raises:
            PidSamplerError: The measure does not apply, there would be fewer than two runs to compare on, every list
                fails, or the journal's file cannot be used.
        """
        callback("on_call", on_call, takes="(most)")
        callback("on_best", on_best, takes="(value)")
        journal = Journal() if journal is None else instance("journal", journal, kind=Journal, words="a Journal")
        most = self.most_calls(problem)
        journal.begin({**self._facts, **facts_of(problem)})
        try:
            return self._run(problem, on_call, on_best, most=most, journal=journal)
        finally:
            journal.close()

    @property
    def _facts(self) -> dict[str, Any]:
        """What its numbers depend on beside the problem."""
        return {
            "work": "search",
            "sampler": sampler_name(self.sampler),
            "table": self._largest()[1].to_dict(),
            "measure": self.measure.name,
            "code": self._code,
            "settings": [self.calls, self.seeds, self.evaluations, self.free_start],
        }

    def most_calls(self, problem: Problem) -> int:
        """Return the most model calls that `run` would make; nothing is run.

        Args:
            problem: Pictures or noise to search on.

        Raises:
            PidSamplerError: The measure does not apply, there would be fewer than two runs to compare on, or too many.
        """
        from .problem import FINE, Problem

        instance("problem", problem, kind=Problem, words="a Problem")
        for subject in problem.subjects:
            if missing := sorted({*self.measure.needs} - {"x", "converged"} - subject.shows):
                raise ConfigError(
                    f"the measure {self.measure.name!r} needs a {missing[0]}, which {subject.name} has not"
                )
        seen, unseen = split(problem, self.seeds)
        known = known_lists(problem, self.steps)
        count = (len(known) + len(_PROGRAMMED) + self.evaluations) * len(problem.subjects) * self.seeds
        if count > _MOST_RUNS:
            raise ConfigError(
                f"seeds={self.seeds} and evaluations={self.evaluations} make {count} runs, expected at most "
                f"{_MOST_RUNS}: pass fewer"
            )
        return FINE * (len(seen) + len(unseen) * self.compares) + self.calls_made * (
            (len(known) + len(_PROGRAMMED) + self.evaluations) * len(seen) + (len(known) + 1) * len(unseen)
        )

    def seconds(self, problem: Problem) -> float:
        """Return about how many seconds `run` would take at most: a few calls are timed, on the first image.

        Args:
            problem: Pictures or noise to search on.

        Raises:
            PidSamplerError: As `most_calls`, or the network fails.
        """
        most, made = self.most_calls(problem), 0

        def count() -> None:
            nonlocal made
            made += 1

        few, several = (get_scheduler("flow-ode", timesteps.uniform(steps)).table() for steps in (1, 3))
        subject = problem.subjects[0]
        problem.sampled(subject, 0, table=few)  # prepares the network
        began = time.perf_counter()
        problem.sampled(subject, 1, table=several, on_call=count)
        return (time.perf_counter() - began) / made * most

    def _run(
        self,
        problem: Problem,
        on_call: Callable[[int], object] | None,
        on_best: Callable[[float], object] | None,
        *,
        most: int,
        journal: Journal,
    ) -> Found:
        from .problem import cheapest
        from .trials import Trials

        seen, unseen = split(problem, self.seeds)
        known = known_lists(problem, self.steps)
        starts = dict(known)
        best = math.inf

        def advance() -> None:
            journal.calls += 1
            if on_call is not None:
                on_call(most - journal.skipped)

        solved = [problem.solve(subject, seed, on_call=advance) for subject, seed in seen]
        errors = np.mean([solution.step_errors for solution in solved], axis=0)
        for name, power in _PROGRAMMED.items():
            starts[name] = solved[0].times[cheapest(errors**power, self.steps)]
        judge = partial(Trials, problem, self.sampler, calls=self.calls, measure=self.measure, on_call=advance)
        trials = judge(pairs=seen, solved=solved)

        def cost(times: Times) -> float:
            nonlocal best
            value = journal.kept(f"over {times.tobytes().hex()}", lambda: [trials.cost(times)], count=1)[0]
            if value < best:
                best = value
                if on_best is not None:
                    on_best(trials.sign * value)
            return value

        costs = {name: cost(times) for name, times in starts.items()}
        order = [name for name in sorted(starts, key=costs.__getitem__) if math.isfinite(costs[name])]
        if not order:
            trials.values(starts["uniform"])  # raises what is wrong
        start, left = order[0], self.evaluations
        found, least = starts[start], costs[start]
        for name in order:
            tried = refine(starts[name], cost, evaluations=left, below=problem.first if self.free_start else None)
            left -= len(tried)
            for reached, times in tried:
                if reached < least:
                    found, start, least = times, name, reached
        costs["found"] = least
        solved = [problem.solve(subject, seed, on_call=advance) for subject, seed in unseen] if self.compares else []
        held_out = judge(pairs=unseen, solved=solved)
        runs = held_out.values(found)
        compared = rivals(runs, known.items(), values=lambda _, times: held_out.values(times), sign=held_out.sign)
        tried_on = f"{described(seen)}; {self.evaluations - left} lists tried, the best of them from {start}"
        made = self._made(problem, tried_on, described(unseen))
        table = comparison(runs, compared, measure=self._named)
        return Found(times=found, start=start, costs=costs, rivals=compared, made=made, table=table)

    def _largest(self) -> tuple[int, StepTable]:
        """The most steps that the calls allow, and a table of so many."""
        error: PidSamplerError | None = None
        for steps in range(self.calls, 0, -1):
            try:
                table = get_scheduler(self.sampler, timesteps.uniform(steps)).table()
            except PidSamplerError as failure:  # such as too few steps for Restart
                error = error or failure
                continue
            if len(table) <= self.calls:
                return steps, table
            error = ConfigError(f"{sampler_name(self.sampler)} takes more than {self.calls} model calls: pass more")
        assert error is not None
        raise error

    def _made(self, problem: Problem, searched_on: str, held_out: str) -> list[str]:
        from ..version import __version__

        better = "higher" if self.measure.better == "higher" else "lower"
        made = f"timesteps for {sampler_name(self.sampler)} in {self.calls_made} model calls"
        free = ", the first one free" if self.free_start else ""
        return [
            f"pidsampler {__version__} search: {made}{free}",
            f"model: {problem.name}",
            *(f"sha256 of {name}: {digest}" for name, digest in problem.hashes.items()),
            f"measure: {self._named}, {better} is better: {self.measure.source}",
            f"searched on: {searched_on}",
            f"held out: {held_out}",
        ]

    @property
    def _named(self) -> str:
        name = f"|{self.measure.name}|" if self.measure.better == "zero" else self.measure.name
        return f"{name} ({self.measure.unit})" if self.measure.unit else name


@moved.keywords()
def refine(
    times: TimesLike, cost: Callable[[Times], float], *, evaluations: int, below: float | None = None
) -> list[tuple[float, Times]]:
    """Move the times of a list, but for its ends, to where it costs least near by.

    Args:
        times: The list to start from.
        cost: Function (list) -> cost.
        evaluations: The most lists to try.
        below: Move the first time too, below this, in (0, 1].

    Returns:
        (cost, list) of each that was tried, a list float64 (n,); none where there is nothing to move.

    Raises:
        PidSamplerError: An argument is not as described, or scipy is not installed.
    """
    minimize = optional("scipy.optimize", "scipy").minimize
    times = timesteps.custom(times)
    function("cost", cost, takes="(times)")
    evaluations = whole("evaluations", evaluations, low=0, high=_MOST_RUNS)
    if below is not None:
        below = number("below", below, low=0.0, high=1.0, above=True)
        times = np.append(below, times * min(1.0, _BELOW * below / times[0]))
    tried: list[tuple[float, Times]] = []

    def objective(gaps: NDArray[np.float64]) -> float:
        if len(tried) == evaluations:
            raise _SpentError
        moved = from_gaps(float(times[0]), gaps)[0 if below is None else 1 :]
        tried.append((cost(moved), moved))
        return tried[-1][0]

    gaps = -np.diff(times)
    start = np.clip(np.log(gaps[:-1] / gaps[-1]), -_WIDEST, _WIDEST)
    if len(start) and evaluations:
        options = {"initial_tr_radius": _FIRST_MOVE, "final_tr_radius": _LAST_MOVE}
        with suppress(_SpentError):
            minimize(objective, start, method="COBYQA", bounds=[(-_WIDEST, _WIDEST)] * len(start), options=options)
    return tried


class _SpentError(Exception):
    """All evaluations are used up."""


def from_gaps(first: float, gaps: NDArray[np.float64]) -> Times:
    """Return the list from `first` to 0 whose gaps, as multiples of the last one, have these logarithms.

    Args:
        first: First time, in (0, 1].
        gaps: Logarithms (n,), within -12..12, of a list of n + 1 steps.

    Returns:
        float64 (n + 2,), descending to 0.

    Raises:
        PidSamplerError: An argument is not as described.
    """
    first = number("first", first, low=0.0, high=1.0, above=True)
    gaps = np.array(numbers("gaps", gaps), np.float64)
    sizes = np.exp(np.append(gaps, 0.0) - max(gaps.max(initial=0.0), 0.0))
    above = np.cumsum(sizes[::-1])[::-1]  # so that the small times are exact
    return np.append(first * (above / above[0]), 0.0)
