"""Runs of a network that are followed together: where they begin, what the network predicts, and the ODE's solution."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import ml_dtypes
import numpy as np

from ..sampler import Run, start
from ..schedulers.registry import get_scheduler
from ..search.problem import Problem, Subject
from ..study.pictures import on_host
from ..table import StepTable, x0_weights
from ..timesteps import Times
from .solver import LinearSolver

Array = Any
Predictions = list[Array]


class Flight:
    """One subject of a problem with several seeds, as one batch.

    Args:
        problem: What is sampled.
        subject: One of its subjects.
        seeds: One for each image of the batch.
        on_call: Called with each model call.
    """

    def __init__(
        self, problem: Problem, subject: Subject, *, seeds: Sequence[int], on_call: Callable[[], object] = lambda: None
    ) -> None:
        self.subject, self.seeds = subject, tuple(seeds)
        self._problem, self._on_call = problem, on_call
        self.noise = problem.backend.empty((len(self.seeds), *subject.shape[1:]), problem.dtype)
        problem.backend.noise(self.noise, self.seeds, draw=0)
        self._run = start(get_scheduler("flow-ode@uniform:1"), self.noise, backend=problem.backend)
        self._first: dict[float, Array] = {}  # predictions from the noise, by time

    def predict(self, x: Array, t: float) -> Array:
        """Return the network's x0 at x and t, a new array like x."""
        if x is self.noise and t in self._first:
            return self._first[t]
        self._on_call()
        p, q = self.weights(t)
        self._run.x = x
        m = self._run.evaluate(self.subject.denoiser, t)
        found = q * m.astype(x.dtype)
        if p:
            found += p * x
        if x is self.noise:
            self._first = {t: found}
        return found

    def weights(self, t: float) -> tuple[float, float]:
        """Return (p, q) of x0 = p*x + q*m at t."""
        return x0_weights(self._problem.prediction, t)

    def add_noise(self, x: Array, *, draw: int, size: float) -> None:
        """Add a draw of noise, of each image's seed, to x."""
        self._problem.backend.noise(x, self.seeds, draw=draw, keep=1.0, scale=size)

    def in_bfloat16(self, m: Array) -> Array:
        """Return m rounded to bfloat16, in its own type."""
        narrow = self._problem.backend.empty(m.shape, ml_dtypes.bfloat16)
        self._problem.backend.write(m, narrow)
        found = self._problem.backend.empty(m.shape, m.dtype)
        self._problem.backend.write(narrow, found)
        return found

    def by(self, table: StepTable, on_step: Callable[[Run, Array], object] | None = None) -> Array:
        """Return where the flight ends by a table of the network's prediction."""
        run = start(table, self.noise, seed=self.seeds, backend=self._problem.backend)

        def called(run: Run, m: Array) -> None:
            self._on_call()
            if on_step is not None:
                on_step(run, m)

        return run.finish(self.subject.denoiser, called)

    def solve(self, times: Times, on_point: Callable[[float, Array, Array], object] | None = None) -> Array:
        """Follow the ODE over a fine list, by DPM-Solver++ 3M; on_point(t, x, x0) sees each point."""
        table = get_scheduler("dpmpp-3m", times).table().predicting(self._problem.prediction)
        if on_point is None:
            return self.by(table)
        return self.by(table, lambda run, m: on_point(run.row.t, run.x.copy(), run.predict_x0(m)))


class Trajectory:
    """The ODE's solution of a flight, at any time.

    Args:
        flight: The flight.
        times: A fine list that begins where the flight does.
    """

    def __init__(self, flight: Flight, times: Times) -> None:
        self._points: list[tuple[float, Array, Array]] = []  # t ascending, x, dx/dt
        self.end = flight.solve(times, self._take)
        self._points.reverse()
        self._times = [t for t, _, _ in self._points]

    def _take(self, t: float, x: Array, x0: Array) -> None:
        x0 -= x
        x0 *= -1.0 / t
        self._points.append((t, x, x0))

    def at(self, t: float) -> Array:
        """Return x at a time from 0 to where it begins: Hermite's cubic between two points, a line below the last."""
        k = bisect_left(self._times, t)
        low, x, v = self._points[min(k, len(self._points) - 1)]
        if t == 0.0:
            return self.end
        if k == 0 or t == low:
            return x + (t - low) * v
        before, y, u = self._points[k - 1]
        h = low - before
        s = (t - before) / h
        return (
            (2.0 * s**3 - 3.0 * s**2 + 1.0) * y
            + (s**3 - 2.0 * s**2 + s) * h * u
            + (3.0 * s**2 - 2.0 * s**3) * x
            + (s**3 - s**2) * h * v
        )


def step(x: Array, t: float, t_next: float, *, weights: Sequence[float], predictions: Predictions) -> Array:
    """Return x after a row of a `LinearSolver`; its own prediction is the last of `predictions`."""
    a = t_next / t
    found = (1.0 - a - math.fsum(weights)) * predictions[-1]
    if a:
        found += a * x
    for k, w in enumerate(weights):
        if w:
            found += w * predictions[-2 - k]
    return found


class Predicting(Protocol):
    """What a course asks of a flight."""

    noise: Array

    def predict(self, x: Array, t: float) -> Array:
        """Return x0 at x and t."""
        ...


class Course:
    """A flight by a solver, row by row: each state and prediction, from which others branch.

    Args:
        flight: The flight.
        solver: The solver.
    """

    def __init__(self, flight: Predicting, solver: LinearSolver) -> None:
        self._flight, self._solver = flight, solver
        self._states, self._predictions = [flight.noise], Predictions()
        for i, t in enumerate(solver.times[:-1]):
            self._predictions.append(flight.predict(self._states[-1], t))
            self._states.append(self._row(solver, i, self._states[-1], self._predictions))

    @property
    def end(self) -> Array:
        """Where it ends."""
        return self._states[-1]

    @staticmethod
    def _row(solver: LinearSolver, i: int, x: Array, predictions: Predictions) -> Array:
        t, t_next = solver.times[i : i + 2]
        return step(x, t, t_next, weights=solver.weights[i], predictions=predictions)

    def other(self, solver: LinearSolver, row: int) -> Array:
        """Return where another solver ends whose rows before `row` are this one's."""
        x, predictions = self._states[row], self._predictions[:row]
        for i in range(row, len(solver.weights)):
            if i == row and solver.times[i] == self._solver.times[i]:
                predictions.append(self._predictions[i])
            else:
                predictions.append(self._flight.predict(x, solver.times[i]))
            x = self._row(solver, i, x, predictions)
        return x


def rms(x: Array) -> float:
    """Return the root of the mean square of an array's elements."""
    return math.sqrt(float(np.square(x.reshape(-1)).sum(dtype=np.float64)) / x.size)


def host(x: Array) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the elements, float64 in host memory."""
    return on_host(x.reshape(-1)).astype(np.float64)
