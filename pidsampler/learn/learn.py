"""Learn a sampler: times and weights of a linear multistep solver, fitted to where a network's ODE ends, or to another
target.

First the weights over known lists, by least squares down the list. From the best list the times are moved, with weights
fitted anew for each list tried. Then times and weights are refined together on where the runs end. What is found is
compared with every known scheduler over every known list, on pictures or seeds that it was not fitted to. Where a
measure is the target, times, etas and weights are searched instead, see `measured`.

Source: the solver with exact marginals and its fit are this project's own; kin are BNS solvers (Shaul et al., arXiv
2403.01329) and S4S (Frankel et al., arXiv 2502.17423).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from typing import Any

import attrs
import numpy as np

from ..errors import ConfigError, optional
from ..schedulers.making import SamplerLike, sampler_name
from ..schedulers.registry import as_times
from ..search.compare import Pairs, known_lists, lists_left_out, split
from ..search.journal import Journal, facts_of
from ..search.problem import Problem
from ..study.measures.base import Measure
from ..study.statistics import interval
from ..table.step_table import MOST_HISTORY
from ..values import callback, field, flag, instance, number, whole
from .fitting import Effort, Fitting, Limit, effort_of
from .flights import Course, Flight, seconds_a_call
from .forms import starts
from .guards import amplification, in_bfloat16
from .known import BEST, Known, Samplers, best_known, best_searched, known_samplers
from .measured import FEW, searched
from .result import Fit, without_folder
from .runs import OnCall, Told, described, flights
from .solved import Followed, Judged, judged, sharpen
from .solver import LinearSolver
from .targets import ODE, Measured, Run, Target, consistency, target_of
from .weights import ALL, least_squares, most_predictions

_MOST_CALLS = 64  # of a learnt solver: a fit of more takes hours
_MOST_SEEDS = 1024  # of an image, all in memory at once
_MOST_LISTS = 100_000
_MOST_AMPLIFIED = 10.0
_RIDGE = 1e-2
_LETTERS_A_RUN, _OTHER_LETTERS = 32, 20_000  # of a history: each run's error, and all beside the runs
_RAISED, _MOST_RAISED = 4.0, 6  # the ridge each time that errors are made too large, and how often


def _list(name: str, value: Any) -> tuple[float, ...]:
    return tuple(as_times(value).tolist())


def _target(name: str, value: SamplerLike) -> SamplerLike:
    """A target, as it was given."""
    target_of(value)  # raises what is wrong
    return value


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
    """How to learn a sampler.

    Args:
        calls: Model calls.
        timesteps: A list of so many steps to keep, in any form of `as_times`; None moves the times too.
        history: The most predictions before its own that a row weighs, 0..64; "all" becomes `calls`.
        ridge: How much large weights count against the fit, relative to what they weigh. 0 fits the runs best, and
            generalizes least.
        seeds: Number of seeds for each image fitted to, and of others for each held out.
        evaluations: Most lists that are tried beyond the known ones.
        free_start: Where the times move, move the first one too, downwards. Runs begin with pure noise all the same.
            None does so for a fit to runs, and not where a measure is the target.
        joint: Number of the best known lists from which, and from the moved one, times and weights are refined
            together at the end. It counts where the times move. 0 leaves that out; None is 2, or 20 of a closed-form
            flow, whose calls cost little. That is also fitted with a tenth and a hundredth of the ridge, and
            from lists that begin later. What is found is moved at random and refined again.
        most_amplified: The largest amplification that is not refused. Times and weights that are moved together move
            on until there is no more. Else the ridge is raised fourfold, six times at most; a ridge of 0 stays.
        target: What to come near to, from the same noise: "ode", the solution of the model's ODE; or a sampler without
            noise in any form of `get_scheduler`, such as "dpmpp-3m@uniform:64". Or what is to be best: a measure by
            name, see `study.measures.get_measure`. Each row may then draw fresh noise, and known samplers that draw
            noise are compared with too.
        paired: Rows come in pairs, so that a step takes two calls, see `LinearSolver`.
        biased: Weigh x and each row's own prediction freely too. Noise levels are then missed, as the table says.

    Raises:
        PidSamplerError: A value is not as described.
    """

    calls: int = field(whole, low=1, high=_MOST_CALLS)
    timesteps: tuple[float, ...] | None = field(_list, optional=True, default=None)
    history: int = field(most_predictions, default=3)
    ridge: float = field(number, low=0, default=_RIDGE)
    seeds: int = field(whole, low=1, high=_MOST_SEEDS, default=4)
    evaluations: int = field(whole, low=0, high=_MOST_LISTS, default=150)
    free_start: bool | None = field(flag, optional=True, default=None)
    joint: int | None = field(whole, low=0, high=_MOST_LISTS, optional=True, default=None)
    most_amplified: float = field(number, low=1, default=_MOST_AMPLIFIED)
    target: SamplerLike = field(_target, default=ODE)
    paired: bool = field(flag, default=False)
    biased: bool = field(flag, default=False)

    def __attrs_post_init__(self) -> None:
        if self.history == ALL:
            object.__setattr__(self, "history", self.calls)
        if self.paired and self.calls % 2:
            raise ConfigError(f"calls={self.calls} cannot come in pairs: pass an even number, or paired=False")
        if self.measure is not None:
            changed = {"paired": self.paired, "ridge": self.ridge != _RIDGE, "joint": self.joint is not None}
            for name in (name for name, is_changed in changed.items() if is_changed):
                what = f"{name}={getattr(self, name)} is of a fit to runs, but the target is a measure"
                raise ConfigError(f"{what}: leave one of them out")
        if self.timesteps is not None and (steps := len(self.timesteps) - 1) != self.calls:
            raise ConfigError(f"timesteps has {steps} steps, but calls={self.calls}: pass calls={steps}, or others")
        if self.timesteps is not None and (self.joint or self.free_start):
            what = f"joint={self.joint}" if self.joint else "free_start=True"
            raise ConfigError(f"{what} moves times, but timesteps keeps them: leave one of them out")

    @property
    def measure(self) -> Measure | None:
        """The measure that is the target, if one is."""
        target = target_of(self.target)
        return target.by if isinstance(target, Measured) else None

    def extent(self, problem: Problem) -> Extent:
        """Return what `run` would take; nothing is run.

        Args:
            problem: Model and pictures or noise to fit on.

        Raises:
            PidSamplerError: There would be fewer than two runs to compare on, or more than a history can name; or the
                measure does not apply.
        """
        seen, unseen = split(instance("problem", problem, kind=Problem, words="a Problem"), self.seeds)
        target = self._aim(problem)
        return self._extent(problem, seen, unseen, target=target, known=self._known(problem, target))

    def _aim(self, problem: Problem) -> Target:
        target = target_of(self.target, own=problem.own)
        target.check(problem)
        return target

    def _known(self, problem: Problem, target: Target) -> Samplers:
        return known_samplers(problem, self.calls, noisy=target.noisy)

    def _extent(self, problem: Problem, seen: Pairs, unseen: Pairs, *, target: Target, known: Samplers) -> Extent:
        images = [without_folder(one) for one in (*described(seen), *described(unseen))]
        if len(json.dumps(images)) + _LETTERS_A_RUN * len(unseen) + _OTHER_LETTERS > MOST_HISTORY:
            raise ConfigError(
                f"the history of {len(seen) + len(unseen)} runs does not fit into a table: pass fewer pictures or seeds"
            )
        fits, others = (len({subject.name for subject, _ in pairs}) for pairs in (seen, unseen))
        more = self.calls - 1  # the first call of a run is kept
        moves, effort = self.timesteps is None, self._effort(problem)
        lists = len(known_lists(problem, self.calls)) + effort.lists if moves else 1
        by_weights = sum((min(i, self.history) + 2 * self.biased) * (more - i) for i in range(self.calls))
        by_times = more * (more + 1) // 2
        rounds = effort.rounds * (by_weights + by_times + more) if moves else 0
        first = sum(len(table) - 1 for _, table in known.values())
        if isinstance(target, Measured):
            lists, rounds = FEW + 1 + self.evaluations, 0
            first += more * len(self._starts(problem))
        compared = first + more * ((BEST + 4) * others + 2 * fits)
        return Extent(
            fitted=len(seen),
            held_out=len(unseen),
            known=len(known),
            calls=target.calls(fits, compared=others)
            + fits * ((len(effort.ridges) * lists + self._lists) * more + rounds)
            + compared,
        )

    @property
    def _lists(self) -> int:
        """How many lists are tried for the best known sampler: it begins with its best one."""
        return self.evaluations // 2

    def seconds(self, problem: Problem) -> float:
        """Return about how many seconds `run` would take: three calls are timed, on the first image.

        Args:
            problem: Model and pictures or noise to fit on.

        Raises:
            PidSamplerError: As `extent`, or the network fails.
        """
        return self.extent(problem).calls * seconds_a_call(problem, seeds=self.seeds)  # what else runs makes it longer

    def run(self, problem: Problem, on_call: OnCall | None = None, *, journal: Journal | None = None) -> Fit:
        """Learn, then compare on what was held out.

        Args:
            problem: The model and its pictures, or a flow.
            on_call: Called as on_call(what, about) with each model call of the network: what is done, and about how
                many calls there will be; an exception cancels.
            journal: Where numbers are kept, so that a run that was killed goes on from there, and ends the same to the
                bit. A network without hashes is told from others by the problem's name alone.

        Returns:
            The table, and how it compares.

        Raises:
            PidSamplerError: There would be fewer than two runs to compare on; the measure does not apply; the network
                fails; the amplification is above `most_amplified`; or the journal's file cannot be used.
        """
        callback("on_call", on_call, takes="(what, about)")
        journal = Journal() if journal is None else instance("journal", journal, kind=Journal, words="a Journal")
        optional("scipy.optimize", "scipy")
        seen, unseen = split(instance("problem", problem, kind=Problem, words="a Problem"), self.seeds)
        target = self._aim(problem)
        if isinstance(target, Run):
            target.warn(problem)
        known = self._known(problem, target)
        about = self._extent(problem, seen, unseen, target=target, known=known).calls
        told = Told(journal, about=about, on_call=on_call)
        journal.begin({"work": "learn", "settings": self._settings, "target": target.facts, **facts_of(problem)})
        try:
            with problem.backend.active():
                return self._run(problem, seen, unseen, target=target, known=known, told=told)
        finally:
            journal.close()

    def _run(self, problem: Problem, seen: Pairs, unseen: Pairs, *, target: Target, known: Samplers, told: Told) -> Fit:
        journal = told.journal
        held_out = flights(problem, unseen, told=told)
        fitted_to: Sequence[Judged]
        if isinstance(target, Measured):
            fitted_to = [target.reference(flight, journal) for flight in flights(problem, seen, told=told)]
            solver, start = self._searched(problem, fitted_to, target, told)
            amplified = amplification([*(one.flight for one in fitted_to), *held_out], solver)
            made = {"times_moved_from": start, "ridge": self.ridge}
            if amplified > self.most_amplified:
                raise self._too_amplified(amplified)
        else:
            followed = [target.followed(flight) for flight in flights(problem, seen, told=told)]
            solver, amplified, made = self._not_amplifying(problem, followed, held_out, told)
            fitted_to = followed
        told.what = "judging"
        compared = [target.reference(flight, journal) for flight in held_out]
        ends = [Course(flight, solver).end for flight in held_out]
        sharpen(compared, lambda: interval(judged(compared, ends)).mean)
        errors = judged(compared, ends)
        mean = f"{interval(errors).mean:.4g}"
        told.what = f"comparing {mean} with what is known"
        best = best_known(errors, compared, known=known, sign=target.sign, journal=journal)
        told.what = f"comparing {mean} with a list searched for"
        rival = (
            best_searched(
                errors,
                compared,
                best=best[0],
                seen=fitted_to,
                evaluations=self._lists,
                sign=target.sign,
                below=self._below(problem),
                journal=journal,
            )
            if best
            else None
        )
        return Fit(
            solver=solver,
            errors=errors,
            known=Known(count=len(known), best=best, searched=rival, left_out=lists_left_out(problem, self.calls)),
            fitted=interval(judged(fitted_to, [Course(one.flight, solver).end for one in fitted_to])).mean,
            reference_error=max(one.error for one in compared),
            amplification=amplified,
            bfloat16=interval(judged(compared, in_bfloat16(held_out, solver))).mean,
            measure=target.measure,
            sign=target.sign,
            consistency=consistency(problem, compared, ends=ends) if self.target == ODE else None,
            provenance={**self._provenance(problem, seen, unseen), **made},
        )

    def _not_amplifying(
        self, problem: Problem, fitted_to: Sequence[Followed], held_out: Sequence[Flight], told: Told
    ) -> tuple[LinearSolver, float, dict[str, Any]]:
        """The solver, its amplification on all runs, and how it was made; with a larger ridge where that is needed."""
        every = [*(one.flight for one in fitted_to), *held_out]
        fitting = Fitting(
            problem=problem,
            seen=fitted_to,
            told=told,
            calls=self.calls,
            timesteps=self.timesteps,
            weigh=partial(least_squares, history=self.history, biased=self.biased, paired=self.paired),
            below=self._below(problem),
            effort=self._effort(problem),
            limit=Limit(most=self.most_amplified, amplified=partial(amplification, every)),
        )
        for _ in range(_MOST_RAISED + 1):
            before = told.journal.calls + told.journal.skipped
            one, amplified = fitting.nearest()
            if one is not None:
                made = {"times_moved_from": one.start, "ridge": one.ridge, "steady": one.steady}
                return one.solver, one.size, made
            if not self.ridge:
                break
            effort = attrs.evolve(fitting.effort, ridges=[_RAISED * max(fitting.effort.ridges)], hops=0)
            fitting = attrs.evolve(fitting, effort=effort)
            told.about += told.journal.calls + told.journal.skipped - before
        ridge = max(fitting.effort.ridges) / _RAISED
        raise self._too_amplified(amplified, f", with a ridge of {ridge:g} too" if ridge > self.ridge else "")

    def _too_amplified(self, amplified: float, though: str = "") -> ConfigError:
        return ConfigError(
            f"the sampler found makes errors of the network {amplified:.3g} times larger{though}, more than "
            f"most_amplified={self.most_amplified:g}: pass a larger ridge, a smaller history, or more"
        )

    def _effort(self, problem: Problem) -> Effort:
        plenty = self.timesteps is None and all(one.seen.flow for one in problem.subjects)
        return effort_of(self.ridge, evaluations=self.evaluations, joint=self.joint, calls=self.calls, plenty=plenty)

    def _below(self, problem: Problem) -> float | None:
        moves = self.measure is None if self.free_start is None else self.free_start
        return problem.first if moves else None

    def _starts(self, problem: Problem) -> dict[str, LinearSolver]:
        kept = None if self.timesteps is None else np.array(self.timesteps)
        return starts(problem, self.calls, history=self.history, biased=self.biased, times=kept)

    def _searched(
        self, problem: Problem, seen: Sequence[Judged], target: Measured, told: Told
    ) -> tuple[LinearSolver, str | None]:
        """The solver that is best on a measure, and the sampler that it was moved from."""

        def on_best(value: float) -> None:
            told.what = f"searching: {target.name} {value:.5g}"

        told.what = "trying what is known"
        return searched(
            seen,
            self._starts(problem),
            sign=target.sign,
            evaluations=self.evaluations,
            moves=self.timesteps is None,
            below=self._below(problem),
            on_best=on_best,
            journal=told.journal,
        )

    @property
    def _settings(self) -> dict[str, Any]:
        return {**attrs.asdict(self, recurse=False), "target": sampler_name(self.target)}

    def _provenance(self, problem: Problem, seen: Pairs, unseen: Pairs) -> dict[str, Any]:
        from ..version import __version__

        return {
            "made_by": f"pidsampler {__version__} learn",
            "versions": {"pidsampler": __version__, "numpy": np.__version__},
            "model": {"name": problem.name, "sha256": dict(problem.hashes), **problem.conditions},
            "settings": self._settings,
            "fitted_to": described(seen),
            "held_out": described(unseen),
        }
