"""Guards against fooling oneself: what a solver makes of small errors of the network."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np

from .flights import Array, Course, Flight, rms
from .solver import LinearSolver

_SIZE = 1e-3  # standard deviation of the noise on every x0, small beside a picture's 0.5
_DRAWS = 1 << 31  # of that noise from here on: a solver's own draws are others


class _Change(Protocol):
    def __call__(self, flight: Flight, x0: Array, t: float, x: Array, call: int) -> Array: ...


class _Changed:
    """A flight whose predictions are changed."""

    def __init__(self, flight: Flight, change: _Change) -> None:
        self.noise = flight.noise
        self._flight, self._change, self._calls = flight, change, 0

    def predict(self, x: Array, t: float) -> Array:
        self._calls += 1
        return self._change(self._flight, self._flight.predict(x, t), t, x, self._calls)

    def add_noise(self, x: Array, *, draw: int, size: float) -> None:
        self._flight.add_noise(x, draw=draw, size=size)


def amplification(flights: Sequence[Flight], solver: LinearSolver) -> float:
    """Return the RMS change of the result over the RMS of white noise put on every x0."""
    changes = []
    for flight in flights:
        course, other = Course(flight, solver), Course(_Changed(flight, _with_noise), solver)
        changes.append(rms(other.end - course.end))
    return float(np.sqrt(np.mean(np.square(changes)))) / _SIZE


def _with_noise(flight: Flight, x0: Array, t: float, x: Array, call: int) -> Array:
    noisy = x0.copy()
    flight.add_noise(noisy, draw=_DRAWS + call, size=_SIZE)
    return noisy


def in_bfloat16(flights: Sequence[Flight], solver: LinearSolver) -> list[Array]:
    """Return where flights end if the network's outputs are rounded to bfloat16."""
    return [Course(_Changed(flight, _rounded), solver).end for flight in flights]


def _rounded(flight: Flight, x0: Array, t: float, x: Array, call: int) -> Array:
    p, q = flight.weights(t)
    return q * flight.in_bfloat16((x0 - p * x) / q) + p * x
