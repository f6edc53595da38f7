"""Learn a sampler: times and weights of a linear multistep solver, fitted to where a network's ODE ends.

First the weights over known lists, by least squares down the list. From the best list the times are moved, with weights
fitted anew for each list tried. Then times and weights are refined together on where the runs end. What is found is
compared with every known scheduler over every known list, on pictures or seeds that it was not fitted to.

Source: the solver with exact marginals and its fit are this project's own; kin are BNS solvers (Shaul et al., arXiv
2403.01329) and S4S (Frankel et al., arXiv 2502.17423).
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial
from itertools import pairwise

import attrs
import numpy as np

from .. import timesteps
from ..denoiser import DenoiserLike, GaussianMixture, as_denoiser
from ..errors import ConfigError, PidSamplerError, optional
from ..schedulers.registry import get_scheduler, list_schedulers
from ..search import refine
from ..search.compare import Pairs, Rival, comparison, described, known_lists, rivals, split
from ..search.problem import Problem, Subject
from ..study.measures import Sample, law
from ..study.pictures import on_host
from ..study.statistics import Runs, interval
from ..table import StepTable
from ..timesteps import Times, TimesLike
from ..values import callback, field, flag, instance, number, whole
from ..values import shape as shape_
from .flights import Array, Course, Flight, Trajectory, rms
from .guards import amplification, in_bfloat16
from .joint import Ends, refined
from .solver import LinearSolver
from .weights import least_squares

_FINE = 64  # steps of a solution, the last one from first/64 to 0
_FINER = 4  # parts of each other step, so that a flow's and a network's solution has a small error of its own
_MOST_CALLS = 64  # of a learnt solver: a fit of more takes hours
_MOST_RUNS = 100_000
_MOST_AMPLIFIED = 10.0
_BELOW = 0.95  # where a first time that may move begins, as a share of where it was


@attrs.frozen(kw_only=True, eq=False)
class Fit:
    """What was learnt.

    Args:
        solver: Times and weights.
        errors: Held-out runs -> RMS distance of the result to the ODE's solution.
        baselines: The known schedulers over the known lists with as many calls, the best first, on the same runs.
        fitted: Mean distance of the runs that it was fitted to.
        reference_error: RMS change of the solution if its steps are halved: how well the distances are known.
        amplification: RMS change of the result over that of white noise on every x0; named methods have about 2.
        bfloat16: Mean held-out distance if the network's outputs are rounded to bfloat16.
        made: Where it comes from, in lines.
        comparison: The comparison, in lines.
    """

    solver: LinearSolver
    errors: Runs
    baselines: list[Rival]
    fitted: float
    reference_error: float
    amplification: float
    bfloat16: float
    made: list[str]
    comparison: list[str]

    @property
    def table(self) -> StepTable:
        """The sampler."""
        return self.solver.table()

    @property
    def error(self) -> float:
        """Mean held-out distance to the ODE's solution."""
        return interval(self.errors).mean


@attrs.frozen(kw_only=True)
class Learning:
    """How to learn a sampler of one model call a step.

    Args:
        calls: Model calls.
        timesteps: A list of so many steps to keep; None moves the times too.
        history: The most predictions before its own that a row weighs; all there are is `calls`.
        ridge: How much large weights count against the fit, relative to what they weigh. 0 fits the runs best, and
            generalises least.
        seeds: Number of seeds for each image fitted to, and of others for each held out.
        evaluations: Most lists that are tried beyond the known ones.
        free_start: Move the first time too, downwards.
        joint: Refine times and weights together at the end, where the times move.
        most_amplified: The largest amplification that is not refused.

    Raises:
        PidSamplerError: A value is not as described.
    """

    calls: int = field(whole, low=1, high=_MOST_CALLS)
    timesteps: TimesLike | None = attrs.field(default=None)
    history: int = field(whole, low=0, high=_MOST_CALLS, default=3)
    ridge: float = field(number, low=0, default=1e-2)
    seeds: int = field(whole, low=1, high=_MOST_RUNS, default=4)
    evaluations: int = field(whole, low=0, high=_MOST_RUNS, default=150)
    free_start: bool = field(flag, default=False)
    joint: bool = field(flag, default=True)
    most_amplified: float = field(number, low=1, default=_MOST_AMPLIFIED)

    def __attrs_post_init__(self) -> None:
        if self.timesteps is None:
            return
        times = timesteps.custom(self.timesteps)
        if len(times) != self.calls + 1:
            raise ConfigError(f"the list has {len(times) - 1} steps, but calls={self.calls}: pass one of as many")
        if self.free_start:
            raise ConfigError("free_start moves the first time, but a list is given to keep: leave one of them out")

    def run(self, problem: Problem, on_call: Callable[[], object] | None = None) -> Fit:
        """Learn, then compare on what was held out.

        Args:
            problem: The model and its pictures, or a flow.
            on_call: Called with each model call of the network; an exception cancels.

        Raises:
            PidSamplerError: There would be fewer than two runs to compare on; a known list fails as every other does;
                or the amplification is above `most_amplified`.
        """
        instance("problem", problem, kind=Problem, words="a Problem")
        callback("on_call", on_call, takes="()")
        optional("scipy.optimize", "scipy")
        seen, unseen = split(problem, self.seeds)
        flights = partial(_flights, problem, on_call=on_call or (lambda: None))
        with problem.backend.active():
            fitted_to = [_Solved(flight, problem) for flight in flights(seen)]
            solver, start_name = self._learnt(problem, fitted_to)
            held_out = [_Solved(flight, problem) for flight in flights(unseen)]
            return self._judged(problem, solver, fitted_to, held_out, [described(seen), described(unseen), start_name])

    def _learnt(self, problem: Problem, solved: Sequence[_Solved]) -> tuple[LinearSolver, str]:
        pairs = [(one.flight, one.trajectory) for one in solved]

        def fitted(times: Times) -> LinearSolver:
            return least_squares(pairs, times.tolist(), history=self.history, ridge=self.ridge)

        def cost(times: Times) -> float:
            try:
                return _mean_square(solved, fitted(times))
            except PidSamplerError:
                return math.inf

        if self.timesteps is not None:
            times, name = timesteps.custom(self.timesteps), "the list given"
        else:
            lists = {
                name: times * (problem.first / times[0]) for name, times in known_lists(problem, self.calls).items()
            }
            costs = {name: cost(times) for name, times in lists.items()}
            name = min(costs, key=costs.__getitem__)
            times = lists[name]
            below = problem.first if self.free_start else None
            tried = refine(times, cost, evaluations=self.evaluations, below=below)
            least, moved = min(tried, key=lambda one: one[0], default=(math.inf, times))
            times = moved if least < costs[name] else times
        solver = fitted(times)
        if not self.joint or self.timesteps is not None:
            return solver, name
        ends = Ends(
            flights=[one.flight for one in solved],
            targets=[one.end for one in solved],
            change=1e-6 if np.dtype(problem.dtype) == np.float64 else 1e-3,
        )
        penalty = self.ridge * _mean_square(solved, solver)
        below = problem.first if self.free_start and solver.times[0] < problem.first else None
        return refined(ends, solver, penalty=penalty, below=below), name

    def _judged(
        self,
        problem: Problem,
        solver: LinearSolver,
        fitted_to: Sequence[_Solved],
        held_out: Sequence[_Solved],
        words: Sequence[str],
    ) -> Fit:
        courses = [Course(one.flight, solver) for one in held_out]
        flights = [one.flight for one in held_out]
        amplified = amplification(flights, solver, courses=courses)
        if amplified > self.most_amplified:
            raise ConfigError(
                f"the sampler found makes errors of the network {amplified:.3g} times larger, more than "
                f"most_amplified={self.most_amplified:g}: pass a larger ridge, or a smaller history"
            )
        errors = _distances(held_out, [course.end for course in courses])
        narrow = _distances(held_out, in_bfloat16(flights, solver))
        known = known_samplers(problem, self.calls)

        def values(name: str, times: Times) -> Runs:
            table = get_scheduler(name.partition("@")[0], times).table().predicting(problem.prediction)
            return _distances(held_out, [one.flight.by(table) for one in held_out])

        compared = rivals(errors, known.items(), values=values)
        lines = comparison(errors, compared, measure="RMS distance to the ODE's solution")
        return Fit(
            solver=solver,
            errors=errors,
            baselines=compared,
            fitted=math.sqrt(_mean_square(fitted_to, solver)),
            reference_error=max(one.error for one in held_out),
            amplification=amplified,
            bfloat16=interval(narrow).mean,
            made=self._made(problem, words),
            comparison=lines,
        )

    def _made(self, problem: Problem, words: Sequence[str]) -> list[str]:
        from ..version import __version__

        fitted_to, held_out, start_name = words
        kept = ", at the times given" if self.timesteps is not None else f", times moved from {start_name}"
        return [
            f"pidsampler {__version__} learn: {self.calls} model calls{kept}",
            f"model: {problem.name}",
            *(f"sha256 of {name}: {digest}" for name, digest in problem.hashes.items()),
            f"history {self.history}, ridge {self.ridge:g}, joint refinement {'on' if self.joint else 'off'}",
            f"fitted to: {fitted_to}",
            f"held out: {held_out}",
        ]


def fit(
    denoiser: DenoiserLike,
    *,
    calls: int,
    shape: Sequence[int],
    seeds: int = 4,
    timesteps: TimesLike | None = None,
    history: int = 3,
    ridge: float = 1e-2,
    free_start: bool = False,
    first: float = 0.999,
) -> Fit:
    """Learn a sampler for a denoiser that predicts the velocity, in float64 on the CPU.

    Args:
        denoiser: A Denoiser, or any callable net(x, t) -> m.
        calls: Model calls, 1..64.
        shape: (3, H, W) of an image.
        seeds: Number of seeds to fit to, and of others to hold out.
        timesteps: A list of so many steps to keep; None moves the times too.
        history: The most predictions before its own that a row weighs.
        ridge: How much large weights count against the fit.
        free_start: Move the first time too, downwards.
        first: Noise level at which runs begin, from pure noise; that of a list is its own first time.

    Returns:
        The fit; `.table` is the sampler, `.error` its held-out distance to the ODE's solution.

    Raises:
        PidSamplerError: An argument is not as described, or the fit is refused, see `Learning`.
    """
    learning = Learning(
        calls=calls, timesteps=timesteps, history=history, ridge=ridge, seeds=seeds, free_start=free_start
    )
    size = shape_("shape", shape)
    network = as_denoiser(denoiser)
    flow = network if isinstance(network, GaussianMixture) else None
    subject = Subject(name="seed", denoiser=network, shape=(1, *size), seen=Sample(np.empty(0), flow=flow))
    top = number("first", first, low=0, high=1, above=True) if timesteps is None else _first_of(timesteps)
    return learning.run(Problem(name=type(network).__name__, subjects=[subject], first=top, dtype=np.float64))


def _first_of(times: TimesLike) -> float:
    return float(timesteps.custom(times)[0])


def known_samplers(problem: Problem, calls: int) -> dict[str, Times]:
    """Return every known scheduler without noise over every known list that takes so many calls at most, by spec.

    Args:
        problem: The model, whose own list counts too.
        calls: The most model calls.
    """
    found = {}
    for info in list_schedulers():
        if info.stochastic:
            continue
        for steps in range(calls, 0, -1):
            try:
                table = get_scheduler(info.name, timesteps.uniform(steps)).table()
            except PidSamplerError:  # it needs more steps
                break
            if len(table) <= calls and not table.asks_both:
                for name, times in known_lists(problem, steps).items():
                    found[f"{info.name}@{name}:{steps}"] = times * (problem.first / times[0])
                break
    return found


def _flights(problem: Problem, pairs: Pairs, *, on_call: Callable[[], object]) -> list[Flight]:
    """The runs, those of an image together."""
    seeds = defaultdict(list)
    subjects = {}
    for subject, seed in pairs:
        subjects[subject.name] = subject
        seeds[subject.name].append(seed)
    return [Flight(problem, subjects[name], seeds=of, on_call=on_call) for name, of in seeds.items()]


class _Solved:
    """A flight with the solution of its ODE, and the solution's own error."""

    def __init__(self, flight: Flight, problem: Problem) -> None:
        self.flight = flight
        self.trajectory = Trajectory(flight, _fine(problem.first, _FINER))
        self.end = self.trajectory.end
        self.error = rms(self.end - flight.solve(_fine(problem.first, _FINER // 2)))
        if (flow := flight.subject.seen.flow) is not None:
            exact = law.solution(flow, on_host(flight.noise).astype(np.float64), t=problem.first)
            self.end = self.trajectory.end = problem.backend.adopt(exact.astype(problem.dtype))
            self.error = 0.0


def _fine(first: float, parts: int) -> Times:
    """A list of 64 equal steps from `first` to 0, of which all but the last are cut into parts."""
    ends = timesteps.uniform(_FINE) * first
    cut = [np.linspace(t, s, parts, endpoint=False) for t, s in pairwise(ends[:-1])]
    return np.concatenate([*cut, ends[-2:]])


def _mean_square(solved: Sequence[_Solved], solver: LinearSolver) -> float:
    """The mean squared distance over all runs and elements."""
    total = [rms(Course(one.flight, solver).end - one.end) ** 2 for one in solved]
    sizes = [one.end.size for one in solved]
    found: float = sum(a * n for a, n in zip(total, sizes, strict=True)) / sum(sizes)
    if not math.isfinite(found):
        raise ConfigError("the network returned NaN or infinity")
    return found


def _distances(solved: Sequence[_Solved], ends: Sequence[Array]) -> Runs:
    return {
        (one.flight.subject.name, seed): rms(x - end)
        for one, xs in zip(solved, ends, strict=True)
        for seed, x, end in zip(one.flight.seeds, xs, one.end, strict=True)
    }
