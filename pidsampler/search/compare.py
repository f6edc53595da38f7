"""What a search and learning share: the known lists, which runs are held out, and the comparison on those."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from .. import timesteps
from ..errors import ConfigError, PidSamplerError
from ..schedulers.registry import LISTS, get_timesteps
from ..timesteps import Times

if TYPE_CHECKING:
    from ..study.statistics import Difference, Runs
    from .problem import Problem, Subject

_SAME = 1e-9  # difference of times below which two lists are the same

Pairs = list[tuple["Subject", int]]  # runs: subjects and seeds


@dataclass(frozen=True, kw_only=True)
class Rival:
    """What is known beside what was found, on runs that were held out.

    Args:
        name: Name of the list, or of the sampler with its list.
        times: The list.
        mean: Mean of the measure.
        difference: The measure of what was found less that of this one, paired.
        verdict: What was found is "better" or "worse" by more than the interval, or "within noise".
    """

    name: str
    times: Times
    mean: float
    difference: Difference
    verdict: str


def split(problem: Problem, seeds: int) -> tuple[Pairs, Pairs]:
    """Return the runs to look at, and those to hold out: other seeds, and of several images every second one.

    Raises:
        PidSamplerError: There would be fewer than two runs to compare on.
    """
    images, others = problem.subjects[::2], problem.subjects[1::2] or problem.subjects
    if len(others) * seeds < 2:
        raise ConfigError(f"{len(others) * seeds} held-out run gives no interval: pass more seeds")
    seen = [(subject, seed) for subject in images for seed in range(seeds)]
    return seen, [(subject, seed) for subject in others for seed in range(seeds, 2 * seeds)]


def known_lists(problem: Problem, steps: int) -> dict[str, Times]:
    """Return every known list of so many steps, brought to the model's first time; the model's own is "own"."""
    return _lists(problem, steps)[0]


def lists_left_out(problem: Problem, steps: int) -> dict[str, str]:
    """Return the lists that `known_lists` leaves out, and why: none has so many steps, or another is the same."""
    return _lists(problem, steps)[1]


def _lists(problem: Problem, steps: int) -> tuple[dict[str, Times], dict[str, str]]:
    found: dict[str, Times] = {}
    left: dict[str, str] = {}
    for name in (*LISTS.names(), "own"):
        try:
            if name == "own":
                if problem.own is None:
                    continue
                times = own_list(problem, steps)
            else:
                times = _fitted(timesteps.pid(), steps) if name == "pid" else get_timesteps(name, steps)
        except PidSamplerError as error:  # log_snr has no list of one step, pid_one_step no other
            left[name] = str(error)
            continue
        if len(times) != steps + 1:
            left[name] = f"its list for {steps} steps has {len(times) - 1}"
            continue
        times = _from_first(problem, times)
        same = next((other for other, known in found.items() if np.abs(known - times).max() < _SAME), None)
        if same is None:
            found[name] = times
        else:
            left[name] = f"it is the same as {same}"
    return found, left


def own_list(problem: Problem, steps: int) -> Times:
    """Return the model's own list, or PiD's for one without, brought to so many steps and to the model's first time.

    Raises:
        PidSamplerError: The list cannot have so many steps.
    """
    return _from_first(problem, _fitted(timesteps.pid() if problem.own is None else problem.own, steps))


def _from_first(problem: Problem, times: Times) -> Times:
    return np.append(problem.first, times[1:] * (problem.first / times[0]))


def _fitted(times: Times, steps: int) -> Times:
    """A list of a length of its own, brought to so many steps."""
    return timesteps.subset(times, steps) if steps < len(times) else timesteps.resample(times, steps)


def rivals(
    found: Runs, known: Iterable[tuple[str, Times]], *, values: Callable[[str, Times], Runs], sign: float = 1.0
) -> list[Rival]:
    """Compare what was found with what is known; the best comes first.

    Args:
        found: The measure of each run.
        known: Names and lists.
        values: Returns the measure of each run of one of them. One for which it raises a PidSamplerError is no rival.
        sign: Sign of the measure: -1 where higher is better.
    """
    from ..study.statistics import difference, interval

    compared = []
    for name, times in known:
        with suppress(PidSamplerError):
            theirs = values(name, times)
            change = difference(found, theirs)
            assert change is not None  # there are two runs at least
            low, high = sorted((sign * change.low, sign * change.high))
            verdict = "better" if high < 0.0 else "worse" if low > 0.0 else "within noise"
            compared.append(
                Rival(name=name, times=times, mean=interval(theirs).mean, difference=change, verdict=verdict)
            )
    return sorted(compared, key=lambda rival: sign * rival.mean)


def comparison(found: Runs, compared: Sequence[Rival], *, measure: str) -> list[str]:
    """Return the comparison as the lines of a table."""
    from ..study.statistics import describe, interval

    rows = [["held out", measure, "found less it", "95 %", "found is"]]
    rows.append(["found", f"{interval(found).mean:.5g}", "", "", ""])
    for rival in compared:
        d = rival.difference
        rows.append(
            [rival.name, f"{rival.mean:.5g}", f"{d.mean:+.3g}", f"{d.low:+.3g} .. {d.high:+.3g}", rival.verdict]
        )
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(w) for cell, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return [*lines, describe(found)]


def described(pairs: Pairs) -> str:
    """Return which runs these are, in words."""
    names = dict.fromkeys(subject.name for subject, _ in pairs)
    return f"{', '.join(names)}; seeds {pairs[0][1]} to {pairs[-1][1]}"
