"""Where flights should end: where their ODE ends, exactly for a closed-form flow and else by steps enough; or a run."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from ..errors import ModelError
from ..search.journal import Journal
from ..study.statistics import Runs
from ..table import Scheduler
from .flights import Array, Flight, Trajectory, host, rms

SURE = 10.0  # times that the error of a reference is to be below what is reported

_STEPS = 64  # of a solution to fit to, and the first of one to compare with
_FLOW_STEPS = 256  # of a closed-form flow, whose calls cost little
_MOST_STEPS = 512


class Judged(Protocol):
    """A flight, and how good results of it are."""

    @property
    def flight(self) -> Flight:
        """The flight."""
        ...

    @property
    def error(self) -> float:
        """How far off is what results are compared with; 0 where it is exact."""
        ...

    def sharpen(self, wanted: float) -> None:
        """Make `error` no more than wanted, as far as that can be."""
        ...

    def values(self, x: Array) -> list[float]:
        """Return what is measured of each image of a result."""
        ...


class Ending:
    """A flight, and where it should end.

    Args:
        flight: The flight.
        end: Where it should end.
    """

    error = 0.0

    def __init__(self, flight: Flight, end: Array) -> None:
        self.flight, self.end = flight, end

    def sharpen(self, wanted: float) -> None:
        """Do nothing: the end is what it is."""

    def values(self, x: Array) -> list[float]:
        """Return the RMS distance of each image to where it should end."""
        return [rms(one - end) for one, end in zip(x, self.end, strict=True)]


class Followed(Ending):
    """A flight with all states on the way to where it should end, to fit to.

    Args:
        flight: The flight.
        sampler: What it should end like; None for the solution of its ODE.
    """

    def __init__(self, flight: Flight, sampler: Scheduler | None = None) -> None:
        steps = _STEPS if flight.subject.seen.flow is None else _FLOW_STEPS
        if sampler is None:
            self.trajectory = Trajectory(flight, flight.follower(steps), end=flight.exact)
        else:
            self.trajectory = Trajectory(flight, sampler)
        super().__init__(flight, self.trajectory.end)


class Reference(Ending):
    """A flight with the end of its ODE, to compare with.

    Args:
        flight: The flight.
        journal: Where ends are kept.

    `error` is the RMS change of the end when its steps were doubled last, which is more than it is off; 0 where the end
    is exact.
    """

    def __init__(self, flight: Flight, journal: Journal | None = None) -> None:
        self._steps, self._journal = 0, Journal() if journal is None else journal
        exact = flight.exact
        super().__init__(flight, self._solved(flight, _STEPS) if exact is None else exact)
        if exact is None:
            self._steps = _STEPS
            self.error = rms(self.end - self._solved(flight, _STEPS // 2))

    def sharpen(self, wanted: float) -> None:
        """Double the steps until the error is no more than wanted, or there are 512."""
        while self.error > wanted and self._steps < _MOST_STEPS:
            self._steps *= 2
            before, self.end = self.end, self._solved(self.flight, self._steps)
            self.error = rms(self.end - before)

    def _solved(self, flight: Flight, steps: int) -> Array:
        if not self._journal.keeps(flight.noise.size):
            return flight.solve(steps)
        name = f"solution {flight.subject.name} {flight.seeds} {steps}"
        end = self._journal.kept(name, lambda: host(flight.solve(steps)).tolist(), count=flight.noise.size)
        return flight.adopted(end)


def sharpen(ones: Sequence[Judged], mean: Callable[[], float]) -> None:
    """Make errors of references no more than a tenth of a mean distance, which changes with them, as far as can be."""
    before: list[float] = []
    while before != (errors := [one.error for one in ones]):
        before, wanted = errors, mean() / SURE
        for one in ones:
            one.sharpen(wanted)


def mean_square(solved: Sequence[Ending], ends: Sequence[Array]) -> float:
    """Return the mean squared distance of results to where they should end, over all runs and elements.

    Raises:
        PidSamplerError: A result is not finite.
    """
    total = [rms(end - one.end) ** 2 for one, end in zip(solved, ends, strict=True)]
    sizes = [one.end.size for one in solved]
    found: float = sum(a * n for a, n in zip(total, sizes, strict=True)) / sum(sizes)
    if not math.isfinite(found):
        raise ModelError(
            "the network returned NaN or infinity, expected finite numbers: check it at the times of the list"
        )
    return found


def judged(ones: Sequence[Judged], ends: Sequence[Array]) -> Runs:
    """Return what is measured of each run's result.

    Raises:
        PidSamplerError: A measure fails.
    """
    values = [value for one, xs in zip(ones, ends, strict=True) for value in one.values(xs)]
    return dict(zip(runs_of(ones), values, strict=True))


def runs_of(ones: Sequence[Judged]) -> list[tuple[str, int]]:
    """Return (image, seed) of each run."""
    return [(one.flight.subject.name, seed) for one in ones for seed in one.flight.seeds]
