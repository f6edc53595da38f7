"""What is known already: every scheduler over every known list, the best of them, and one over a searched list."""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

import attrs
import numpy as np

from .. import timesteps
from ..errors import PidSamplerError, PidSamplerWarning
from ..schedulers.registry import get_scheduler, list_schedulers
from ..search import refine
from ..search.compare import Rival, known_lists, rivals
from ..search.journal import Journal
from ..search.problem import Problem
from ..study.statistics import Runs
from ..table import StepTable
from ..timesteps import Times
from .solved import Judged, judged, runs_of

BEST = 12  # samplers that are run on all held-out images; the others on the first one only

_SAME = 1e-6  # relative difference of what is measured of two samplers that are the same

Samplers = dict[str, tuple[Times, StepTable]]


@attrs.frozen(kw_only=True, eq=False)
class Known:
    """What was compared with.

    Args:
        count: How many known samplers there were.
        best: The best of them, the best first. Where there are several held-out images they are those that are best on
            the first one.
        searched: The best of them with times that were searched on the runs fitted to; None where none was to be found.
        left_out: Lists that there are not of so many steps, and why.
    """

    count: int
    best: list[Rival]
    searched: Rival | None
    left_out: dict[str, str]


def known_samplers(problem: Problem, calls: int, *, noisy: bool = False) -> Samplers:
    """Return every known scheduler over every known list that takes so many calls at most, by spec.

    Lists are brought to the model's first time. Of several with the same table the first one is there.

    Args:
        problem: The model, whose own list counts too.
        calls: The most model calls.
        noisy: Return those that draw noise too.
    """
    with quietly():
        return _samplers(problem, calls, noisy)


def _samplers(problem: Problem, calls: int, noisy: bool) -> Samplers:
    found: dict[StepTable, tuple[str, Times]] = {}
    lists: dict[int, dict[str, Times]] = {0: {}}
    for info in list_schedulers():
        if info.stochastic and not noisy:
            continue
        steps = next((n for n in range(calls, 0, -1) if _length(info.name, n) <= calls), 0)
        if steps not in lists:
            lists[steps] = known_lists(problem, steps)
        for name, times in lists[steps].items():
            with suppress(PidSamplerError):  # such as times too close for a method
                table = get_scheduler(info.name, times).table()
                if len(table) <= calls and not table.asks_both:
                    found.setdefault(table, (f"{info.name}@{name}:{steps}", times))
    return {name: (times, table) for table, (name, times) in found.items()}


def _length(name: str, steps: int) -> float:
    """Calls of so many steps; infinite where there is no such table."""
    try:
        return len(get_scheduler(name, timesteps.uniform(steps)).table())
    except PidSamplerError:  # it needs more steps
        return math.inf


@contextmanager
def quietly() -> Iterator[None]:
    """Go without warnings of tables that make errors larger: they are rivals like others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PidSamplerWarning)
        yield


def best_known(
    errors: Runs, held_out: Sequence[Judged], *, known: Samplers, sign: float = 1.0, journal: Journal | None = None
) -> list[Rival]:
    """Return the dozen of known samplers that are best on the first held-out image, compared on all, the best first.

    Of those with the same results there, such as two methods at their first order, one counts.

    Args:
        errors: What was measured of what was found.
        held_out: The runs, those of an image together.
        known: See `known_samplers`. One that fails, as its results are not finite, is left out.
        sign: Sign of the measure: -1 where higher is better.
        journal: Where numbers are kept.
    """
    journal = Journal() if journal is None else journal
    first: dict[str, Runs] = {}
    for name, (_, table) in known.items():
        found = measured(name, table, on=held_out[:1], journal=journal)
        if np.isfinite([*found.values()]).all():
            first[name] = found
    best: list[str] = []
    for name in sorted(first, key=lambda name: sign * math.fsum(first[name].values())):
        values = [*first[name].values()]
        same = (np.allclose(values, [*first[other].values()], rtol=_SAME, atol=0.0) for other in best)
        if len(best) < BEST and not any(same):
            best.append(name)

    def on_all(name: str, times: Times) -> Runs:
        return {**first[name], **measured(name, known[name][1], on=held_out[1:], journal=journal)}

    return rivals(errors, [(name, known[name][0]) for name in best], values=on_all, sign=sign)


def measured(name: str, table: StepTable, *, on: Sequence[Judged], journal: Journal) -> Runs:
    """Return what is measured of a table's results, run by run; nan where it fails.

    Args:
        name: Name of the table, for the journal.
        table: For a network that predicts the velocity.
        on: The runs.
        journal: Where they are kept.
    """
    runs = runs_of(on)

    def work() -> list[float]:
        try:
            with quietly():
                return [*judged(on, [one.flight.by(table) for one in on]).values()]
        except PidSamplerError:
            return [math.nan] * len(runs)

    images = len({image for image, _ in runs})
    return dict(zip(runs, journal.kept(f"{name} on {images} from {runs[:1]}", work, count=len(runs)), strict=True))


def best_searched(
    errors: Runs,
    held_out: Sequence[Judged],
    *,
    best: Rival,
    seen: Sequence[Judged],
    evaluations: int,
    sign: float = 1.0,
    below: float | None = None,
    journal: Journal | None = None,
) -> Rival | None:
    """Return a known sampler with its times moved to where it is best on the runs fitted to.

    Args:
        errors: What was measured of what was found.
        held_out: The runs to compare on.
        best: The sampler, with its known list.
        seen: The runs to search on.
        evaluations: Most lists to try.
        sign: Sign of the measure: -1 where higher is better.
        below: Move the first time too, below this.
        journal: Where numbers are kept.
    """
    journal = Journal() if journal is None else journal
    method, _, spec = best.name.partition("@")

    def on(runs: Sequence[Judged], times: Times) -> Runs:
        try:
            with quietly():
                table = get_scheduler(method, times).table()
        except PidSamplerError:  # such as times too close for it
            return dict.fromkeys(runs_of(runs), math.nan)
        return measured(f"{method} over {times.tobytes().hex()}", table, on=runs, journal=journal)

    def cost(times: Times) -> float:
        values = [*on(seen, times).values()]
        mean = sign * math.fsum(values) / len(values)
        return mean if math.isfinite(mean) else math.inf

    tried = refine(best.times, cost, evaluations=evaluations, below=below)
    _, times = min([(cost(best.times), best.times), *tried], key=lambda one: one[0])
    name = f"{method}@searched:{spec.rpartition(':')[2]}"
    found = rivals(errors, [(name, times)], values=lambda _, times: on(held_out, times), sign=sign)
    return next(iter(found), None)
