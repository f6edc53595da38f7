"""Where flights end if their ODE is solved: exact for a closed-form flow, else by steps of which there are enough."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

from ..errors import ModelError
from ..search.journal import Journal
from ..study.statistics import Runs
from .flights import Array, Flight, Trajectory, host, rms

_STEPS = 64  # of a solution to fit to, and the first of one to compare with
_FLOW_STEPS = 256  # of a closed-form flow, whose calls cost little
_MOST_STEPS = 512


class Solved(Protocol):
    """A flight, and where its ODE ends."""

    @property
    def flight(self) -> Flight:
        """The flight."""
        ...

    @property
    def end(self) -> Array:
        """Where it ends."""
        ...


class Followed:
    """A flight with the whole solution of its ODE, to fit to."""

    def __init__(self, flight: Flight) -> None:
        self.flight = flight
        steps = _STEPS if flight.subject.seen.flow is None else _FLOW_STEPS
        self.trajectory = Trajectory(flight, steps=steps)
        self.end = self.trajectory.end


class Reference:
    """A flight with the end of its ODE, to compare with.

    Args:
        flight: The flight.
        journal: Where ends are kept.

    `error` is the RMS change of the end when its steps were doubled last, which is more than it is off; 0 where the end
    is exact.
    """

    def __init__(self, flight: Flight, journal: Journal | None = None) -> None:
        self.flight, self.error = flight, 0.0
        self._steps, self._journal = 0, Journal() if journal is None else journal
        if (exact := flight.exact) is not None:
            self.end = exact
            return
        self._steps = _STEPS
        self.end = self._solved(_STEPS)
        self.error = rms(self.end - self._solved(_STEPS // 2))

    def sharpen(self, wanted: float) -> None:
        """Double the steps until the error is no more than wanted, or there are 512."""
        while self.error > wanted and self._steps < _MOST_STEPS:
            self._steps *= 2
            before, self.end = self.end, self._solved(self._steps)
            self.error = rms(self.end - before)

    def _solved(self, steps: int) -> Array:
        flight = self.flight
        if not self._journal.keeps(flight.noise.size):
            return flight.solve(steps)
        name = f"solution {flight.subject.name} {flight.seeds} {steps}"
        end = self._journal.kept(name, lambda: host(flight.solve(steps)).tolist(), count=flight.noise.size)
        return flight.adopted(end)


def mean_square(solved: Sequence[Solved], ends: Sequence[Array]) -> float:
    """Return the mean squared distance of results to the ends of their ODE, over all runs and elements.

    Raises:
        PidSamplerError: A result is not finite.
    """
    total = [rms(end - one.end) ** 2 for one, end in zip(solved, ends, strict=True)]
    sizes = [one.end.size for one in solved]
    found: float = sum(a * n for a, n in zip(total, sizes, strict=True)) / sum(sizes)
    if not math.isfinite(found):
        raise ModelError("the network returned NaN or infinity")
    return found


def runs_of(solved: Sequence[Solved]) -> list[tuple[str, int]]:
    """Return (image, seed) of each run."""
    return [(one.flight.subject.name, seed) for one in solved for seed in one.flight.seeds]


def distances(solved: Sequence[Solved], ends: Sequence[Array]) -> Runs:
    """Return the RMS distance of each run's result to the end of its ODE."""
    off = [rms(x - end) for one, xs in zip(solved, ends, strict=True) for x, end in zip(xs, one.end, strict=True)]
    return dict(zip(runs_of(solved), off, strict=True))
