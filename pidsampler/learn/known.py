"""What is known already: every scheduler over every known list, and the best of them on held-out runs."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress

from .. import timesteps
from ..errors import PidSamplerError, PidSamplerWarning
from ..schedulers.registry import get_scheduler, list_schedulers
from ..search.compare import Rival, known_lists, rivals
from ..search.problem import Problem
from ..study.statistics import Runs, interval
from ..table import StepTable
from ..timesteps import Times
from .solved import Judged, judged

BEST = 12  # samplers that are run on all held-out images; the others on the first one only


def known_samplers(problem: Problem, calls: int, *, noisy: bool = False) -> dict[str, tuple[Times, StepTable]]:
    """Return every known scheduler over every known list that takes so many calls at most, by spec.

    Lists are brought to the model's first time. Of several with the same table the first one is there.

    Args:
        problem: The model, whose own list counts too.
        calls: The most model calls.
        noisy: Return those that draw noise too.
    """
    with quietly():
        return _samplers(problem, calls, noisy)


def _samplers(problem: Problem, calls: int, noisy: bool) -> dict[str, tuple[Times, StepTable]]:
    found: dict[StepTable, tuple[str, Times]] = {}
    for info in list_schedulers():
        if info.stochastic and not noisy:
            continue
        steps = next((n for n in range(calls, 0, -1) if _length(info.name, n) <= calls), 0)
        for name, times in known_lists(problem, steps).items() if steps else ():
            scaled = times * (problem.first / times[0])
            with suppress(PidSamplerError):  # such as times too close for a method
                table = get_scheduler(info.name, scaled).table()
                if len(table) <= calls and not table.asks_both:
                    found.setdefault(table, (f"{info.name}@{name}:{steps}", scaled))
    return {name: (times, table) for table, (name, times) in found.items()}


def _length(name: str, steps: int) -> float:
    """Calls of so many steps; infinite where there is no such table."""
    try:
        return len(get_scheduler(name, timesteps.uniform(steps)).table())
    except PidSamplerError:  # it needs more steps
        return float("inf")


@contextmanager
def quietly() -> Iterator[None]:
    """Go without warnings of tables that make errors larger: they are rivals like others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PidSamplerWarning)
        yield


def best_known(
    errors: Runs, held_out: Sequence[Judged], *, known: dict[str, tuple[Times, StepTable]], sign: float = 1.0
) -> list[Rival]:
    """Return the dozen of known samplers that are best on the first held-out image, compared on all, the best first.

    Args:
        errors: What was measured of what was found.
        held_out: The runs, those of an image together.
        known: See `known_samplers`. One that fails, as its results are not finite, is left out.
        sign: -1 where higher is better.
    """
    with quietly():
        return _best(errors, held_out, known, sign)


def _best(
    errors: Runs, held_out: Sequence[Judged], known: dict[str, tuple[Times, StepTable]], sign: float
) -> list[Rival]:
    first: dict[str, Runs] = {}
    for name, (_, table) in known.items():
        with suppress(PidSamplerError):
            found = judged(held_out[:1], [held_out[0].flight.by(table)])
            interval(found)  # raises if they are not finite
            first[name] = found
    best = sorted(first, key=lambda name: sign * interval(first[name]).mean)[:BEST]

    def values(name: str, times: Times) -> Runs:
        table = known[name][1]
        return {**first[name], **judged(held_out[1:], [one.flight.by(table) for one in held_out[1:]])}

    return rivals(errors, [(name, known[name][0]) for name in best], values=values, sign=sign)
