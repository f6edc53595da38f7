"""Guards against fooling oneself: what a solver makes of small errors of the network."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .flights import Array, Course, Flight, rms
from .solver import LinearSolver

SIZE = 1e-3  # standard deviation of the noise on every x0, small beside a picture's 0.5
_DRAWS = 1 << 31  # of that noise from here on: a solver's own draws are others


class Shaken(Course):
    """A flight by a solver, with white noise on every x0, the same whatever the solver."""

    def _predict(self, i: int, x: Array, t: float) -> Array:
        x0 = super()._predict(i, x, t)
        self.flight.add_noise(x0, draw=_DRAWS + i + 1, size=SIZE)
        return x0


class _Rounded(Course):
    """A flight by a solver, with the network's outputs rounded to bfloat16."""

    def _predict(self, i: int, x: Array, t: float) -> Array:
        x0 = super()._predict(i, x, t)
        p, q = self.flight.weights(t)
        return q * self.flight.in_bfloat16((x0 - p * x) / q) + p * x


def amplification(flights: Sequence[Flight], solver: LinearSolver) -> float:
    """Return the RMS change of the result over the RMS of white noise put on every x0."""
    changes = [rms(Shaken(flight, solver).end - Course(flight, solver).end) for flight in flights]
    return float(np.sqrt(np.mean(np.square(changes)))) / SIZE


def in_bfloat16(flights: Sequence[Flight], solver: LinearSolver) -> list[Array]:
    """Return where flights end if the network's outputs are rounded to bfloat16."""
    return [_Rounded(flight, solver).end for flight in flights]
