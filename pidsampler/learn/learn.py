"""Learn a sampler: times and weights of a linear multistep solver, fitted to where a network's ODE ends.

First the weights over known lists, by least squares down the list. From the best list the times are moved, with weights
fitted anew for each list tried. Then times and weights are refined together on where the runs end. What is found is
compared with every known scheduler over every known list, on pictures or seeds that it was not fitted to.

Source: the solver with exact marginals and its fit are this project's own; kin are BNS solvers (Shaul et al., arXiv
2403.01329) and S4S (Frankel et al., arXiv 2502.17423).
"""

from __future__ import annotations

import math
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any

import attrs
import numpy as np

from ..denoiser import DenoiserLike, GaussianMixture, as_denoiser
from ..errors import ConfigError, PidSamplerError, optional
from ..schedulers.registry import TimestepsLike, as_times
from ..search import refine
from ..search.compare import Pairs, known_lists, split
from ..search.problem import Problem, Subject
from ..study.measures import Sample
from ..study.statistics import interval
from ..timesteps import Times
from ..values import callback, field, flag, instance, number, whole
from ..values import shape as shape_
from .flights import Array, Course, Flight
from .guards import amplification, in_bfloat16
from .joint import Ends, refined
from .known import BEST, best_known, known_samplers
from .result import SURE, Fit
from .solved import Followed, Reference, distances, mean_square
from .solver import LinearSolver
from .weights import least_squares

_MOST_CALLS = 64  # of a learnt solver: a fit of more takes hours
_MOST_SEEDS = 1024  # of an image, all in memory at once
_MOST_LISTS = 100_000
_MOST_AMPLIFIED = 10.0
_TIMED = 2  # calls, for an estimate
_ROUNDS = 10  # of Gauss and Newton's method, as they often are

OnCall = Callable[[str, int], object]


def _list(name: str, value: Any) -> tuple[float, ...]:
    return tuple(as_times(value).tolist())


@attrs.frozen(kw_only=True)
class Extent:
    """What a fit takes.

    Args:
        fitted: Runs that are fitted to.
        held_out: Runs that are compared on.
        known: Known samplers that there are to compare with.
        calls: Model calls, about; one of several seeds of an image counts once.
    """

    fitted: int
    held_out: int
    known: int
    calls: int


@attrs.frozen(kw_only=True)
class Learning:
    """How to learn a sampler of one model call a step.

    Args:
        calls: Model calls.
        timesteps: A list of so many steps to keep, in any form of `as_times`; None moves the times too.
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
    timesteps: tuple[float, ...] | None = field(_list, optional=True, default=None)
    history: int = field(whole, low=0, high=_MOST_CALLS, default=3)
    ridge: float = field(number, low=0, default=1e-2)
    seeds: int = field(whole, low=1, high=_MOST_SEEDS, default=4)
    evaluations: int = field(whole, low=0, high=_MOST_LISTS, default=150)
    free_start: bool = field(flag, default=False)
    joint: bool = field(flag, default=True)
    most_amplified: float = field(number, low=1, default=_MOST_AMPLIFIED)

    def __attrs_post_init__(self) -> None:
        if self.timesteps is None:
            return
        if (steps := len(self.timesteps) - 1) != self.calls:
            raise ConfigError(f"the list has {steps} steps, but calls={self.calls}: pass one of as many")
        if self.free_start:
            raise ConfigError("free_start moves the first time, but a list is given to keep: leave one of them out")

    def extent(self, problem: Problem) -> Extent:
        """Return what `run` would take; nothing is run.

        Raises:
            PidSamplerError: There would be fewer than two runs to compare on.
        """
        seen, unseen = split(_checked(problem), self.seeds)
        return self._extent(problem, seen, unseen, known=len(known_samplers(problem, self.calls)))

    def _extent(self, problem: Problem, seen: Pairs, unseen: Pairs, known: int) -> Extent:
        fits, others = (len({subject.name for subject, _ in pairs}) for pairs in (seen, unseen))
        more = self.calls - 1  # the first call of a run is kept
        moves = self.timesteps is None
        lists = len(known_lists(problem, self.calls)) + self.evaluations if moves else 1
        by_weights = sum(min(i, self.history) * (more - i) for i in range(self.calls))
        by_times = more * (more + 1) // 2
        rounds = _ROUNDS * (by_weights + by_times + more) if moves and self.joint else 0
        references = 64 * fits + (64 + 32 + 128) * others
        compared = more * (known + (BEST + 3) * others)
        return Extent(
            fitted=len(seen),
            held_out=len(unseen),
            known=known,
            calls=references + fits * (lists * more + rounds) + compared,
        )

    def seconds(self, problem: Problem) -> float:
        """Return about how many seconds `run` would take: two calls are timed, on the first image.

        Raises:
            PidSamplerError: As `extent`, or the network fails.
        """
        calls = self.extent(problem).calls
        with problem.backend.active():
            flight = Flight(problem, problem.subjects[0], seeds=range(self.seeds))
            flight.predict(flight.noise.copy(), problem.first)  # the first one prepares the network
            began = time.perf_counter()
            for _ in range(_TIMED):
                flight.predict(flight.noise.copy(), problem.first)
            problem.backend.synchronize()
            return (time.perf_counter() - began) / _TIMED * calls

    def run(self, problem: Problem, on_call: OnCall | None = None) -> Fit:
        """Learn, then compare on what was held out.

        Args:
            problem: The model and its pictures, or a flow.
            on_call: Called as on_call(what, about) with each model call of the network: what is done, and about how
                many calls there will be; an exception cancels.

        Raises:
            PidSamplerError: There would be fewer than two runs to compare on; the network fails; or the amplification
                is above `most_amplified`.
        """
        callback("on_call", on_call, takes="(what, about)")
        optional("scipy.optimize", "scipy")
        seen, unseen = split(_checked(problem), self.seeds)
        known = known_samplers(problem, self.calls)
        told = _Told(on_call, self._extent(problem, seen, unseen, known=len(known)).calls)
        with problem.backend.active():
            fitted_to = [Followed(flight) for flight in _flights(problem, seen, told)]
            told.what = "weights"
            solver, start = self._learnt(problem, fitted_to, told)
            flights = _flights(problem, unseen, told)
            courses = [Course(flight, solver) for flight in flights]
            told.what = "judging"
            amplified = amplification(flights, solver, courses=courses)
            if amplified > self.most_amplified:
                raise ConfigError(
                    f"the sampler found makes errors of the network {amplified:.3g} times larger, more than "
                    f"most_amplified={self.most_amplified:g}: pass a larger ridge, a smaller history, or more"
                )
            held_out = [Reference(flight) for flight in flights]
            ends = [course.end for course in courses]
            wanted = interval(distances(held_out, ends)).mean / SURE
            for one in held_out:
                one.sharpen(wanted)
            errors = distances(held_out, ends)
            told.what = f"comparing {interval(errors).mean:.4g} with what is known"
            return Fit(
                solver=solver,
                errors=errors,
                baselines=best_known(errors, held_out, known=known),
                known=len(known),
                fitted=math.sqrt(mean_square(fitted_to, [Course(one.flight, solver).end for one in fitted_to])),
                reference_error=max(one.error for one in held_out),
                amplification=amplified,
                bfloat16=interval(distances(held_out, in_bfloat16(flights, solver))).mean,
                provenance=self._provenance(problem, seen, unseen, start),
            )

    def _learnt(self, problem: Problem, solved: Sequence[Followed], told: _Told) -> tuple[LinearSolver, str | None]:
        """The solver, and the list that its times were moved from, if any."""
        pairs = [(one.flight, one.trajectory) for one in solved]

        def fitted(times: Times) -> tuple[LinearSolver, list[Array]]:
            return least_squares(pairs, times.tolist(), history=self.history, ridge=self.ridge)

        best = math.inf

        def cost(times: Times) -> float:
            nonlocal best
            try:
                found = mean_square(solved, fitted(times)[1])
            except PidSamplerError:
                return math.inf
            best = min(best, found)
            told.what = f"moving times: {math.sqrt(best):.4g}"
            return found

        if self.timesteps is not None:
            return fitted(np.array(self.timesteps))[0], None
        lists = {name: times * (problem.first / times[0]) for name, times in known_lists(problem, self.calls).items()}
        costs = {name: cost(times) for name, times in lists.items()}
        start = min(costs, key=costs.__getitem__)
        below = problem.first if self.free_start else None
        tried = refine(lists[start], cost, evaluations=self.evaluations, below=below)
        _, times = min([(costs[start], lists[start]), *tried], key=lambda one: one[0])
        solver, reached = fitted(times)
        if not self.joint:
            return solver, start
        ends = Ends(
            flights=[one.flight for one in solved],
            targets=[one.end for one in solved],
            change=1e-6 if np.dtype(problem.dtype) == np.float64 else 1e-3,
        )
        penalty = self.ridge * mean_square(solved, reached)
        below = problem.first if self.free_start and solver.times[0] < problem.first else None

        def on_best(off: float) -> None:
            told.what = f"times and weights together: {off:.4g}"

        return refined(ends, solver, penalty=penalty, below=below, on_best=on_best), start

    def _provenance(self, problem: Problem, seen: Pairs, unseen: Pairs, start: str | None) -> dict[str, Any]:
        from ..version import __version__

        return {
            "made_by": f"pidsampler {__version__} learn",
            "versions": {"pidsampler": __version__, "numpy": np.__version__},
            "model": {"name": problem.name, "sha256": dict(problem.hashes)},
            "settings": attrs.asdict(self),
            "times_moved_from": start,
            "fitted_to": _described(seen),
            "held_out": _described(unseen),
        }


def fit(
    denoiser: DenoiserLike,
    *,
    calls: int,
    shape: Sequence[int],
    seeds: int = 4,
    timesteps: TimestepsLike | None = None,
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
        seeds: Number of seeds to fit to, and of others to hold out; from 2 on.
        timesteps: A list of so many steps to keep, in any form of `as_times`; None moves the times too.
        history: The most predictions before its own that a row weighs.
        ridge: How much large weights count against the fit.
        free_start: Move the first time too, downwards.
        first: Noise level at which runs begin, from pure noise; that of a list is its own first time.

    Returns:
        The fit; `.table` is the sampler, `.error` its held-out distance to the ODE's solution.

    Raises:
        PidSamplerError: An argument is not as described, or the fit is refused, see `Learning.run`.
    """
    kept = None if timesteps is None else _list("timesteps", timesteps)
    learning = Learning(calls=calls, timesteps=kept, history=history, ridge=ridge, seeds=seeds, free_start=free_start)
    size = shape_("shape", shape)
    if len(size) != 3:
        raise ConfigError(f"shape={size} is not that of an image: pass (3, height, width)")
    network = as_denoiser(denoiser)
    flow = network if isinstance(network, GaussianMixture) else None
    subject = Subject(name="seed", denoiser=network, shape=(1, *size), seen=Sample(np.empty(0), flow=flow))
    top = number("first", first, low=0, high=1, above=True)
    top = top if kept is None else kept[0]
    return learning.run(Problem(name=type(network).__name__, subjects=[subject], first=top, dtype=np.float64))


def _checked(problem: Problem) -> Problem:
    return instance("problem", problem, kind=Problem, words="a Problem")


class _Told:
    """Tells of each call what is done."""

    def __init__(self, on_call: OnCall | None, about: int) -> None:
        self.what = "solving"
        self._on_call, self._about = on_call, about

    def __call__(self) -> None:
        if self._on_call is not None:
            self._on_call(self.what, self._about)


def _by_image(pairs: Pairs) -> list[tuple[Subject, list[int]]]:
    seeds, subjects = defaultdict(list), {}
    for subject, seed in pairs:
        subjects[subject.name] = subject
        seeds[subject.name].append(seed)
    return [(subjects[name], of) for name, of in seeds.items()]


def _flights(problem: Problem, pairs: Pairs, told: _Told) -> list[Flight]:
    """The runs, those of an image together."""
    return [Flight(problem, subject, seeds=seeds, on_call=told) for subject, seeds in _by_image(pairs)]


def _described(pairs: Pairs) -> list[dict[str, Any]]:
    """The images of runs, each with its seeds and, of a file, its SHA-256."""
    return [
        {"name": subject.name, **({"sha256": subject.sha256} if subject.sha256 else {}), "seeds": seeds}
        for subject, seeds in _by_image(pairs)
    ]
