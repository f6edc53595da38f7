"""Runs of a network that are followed together: where they begin, what the network predicts, and the ODE's solution."""

from __future__ import annotations

import math
import time
from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import Any

import ml_dtypes
import numpy as np

from ..denoiser import Denoiser, network_of
from ..sampler import Run, start
from ..schedulers.registry import get_scheduler
from ..search.problem import FirstCallKept, Problem, Subject
from ..study.measures import law
from ..study.pictures import on_host
from ..table import Scheduler, as_table, x0_weights
from ..timesteps import Times
from .solver import LinearSolver, Update

Array = Any
Predictions = list[Array]

_TIMED = 3  # calls, for an estimate


class Flight:
    """One subject of a problem with several seeds, as one batch.

    Args:
        problem: What is sampled.
        subject: One of its subjects.
        seeds: Seed of each image of the batch.
        on_call: Called with each model call.
    """

    def __init__(
        self, problem: Problem, subject: Subject, *, seeds: Sequence[int], on_call: Callable[[], object] = lambda: None
    ) -> None:
        self.subject, self.seeds = subject, tuple(seeds)
        self._problem = problem
        self._network = _Counted(network_of(subject.denoiser, 0), on_call)
        self._first: dict[tuple[str, int], tuple[float, Array]] = {}  # t and output of the latest call on the noise
        self.noise = problem.backend.empty((len(self.seeds), *subject.shape[1:]), problem.dtype)
        problem.backend.noise(self.noise, self.seeds, draw=0)
        self._run = start(get_scheduler("flow-ode@uniform:1"), self.noise, backend=problem.backend)

    def _from_noise(self) -> Denoiser:
        return FirstCallKept(self._network, kept=self._first, key=("", 0))

    def predict(self, x: Array, t: float) -> Array:
        """Return the network's x0 at x and t, a new array like x."""
        p, q = self.weights(t)
        self._run.x = x
        m = self._run.evaluate(self._from_noise() if x is self.noise else self._network, t)
        found = q * m.astype(x.dtype)
        if p:
            found += p * x
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

    def by(self, sampler: Scheduler, on_step: Callable[[Run, Array], object] = lambda *_: None) -> Array:
        """Return where the flight ends by a sampler, made for a network that predicts the velocity.

        Raises:
            PidSamplerError: The sampler's table does not suit the network's prediction, or the result is not finite.
        """
        table = as_table(sampler).predicting(self._problem.prediction)
        run = start(table, self.noise, seed=self.seeds, backend=self._problem.backend)
        return run.finish(self._from_noise(), on_step)

    @property
    def exact(self) -> Array | None:
        """Where the ODE ends, where a closed form says so."""
        if (flow := self.subject.seen.flow) is None:
            return None
        return self.adopted(law.solution(flow, on_host(self.noise).astype(np.float64), t=self._problem.first))

    def adopted(self, elements: Any) -> Array:
        """Return all elements of a state, in host memory or a list, as an array like the noise."""
        found = np.asarray(elements, self._problem.dtype).reshape(self.noise.shape)
        return self._problem.backend.adopt(found)

    def follower(self, steps: int) -> Scheduler:
        """Return what follows the ODE in so many steps: DPM-Solver++ 3M, the last step to 0."""
        return get_scheduler("dpmpp-3m", fine(self._problem.first, steps=steps))

    def solve(self, steps: int) -> Array:
        """Return where the ODE ends, followed in so many steps."""
        return self.by(self.follower(steps))


class _Counted:
    """A network whose calls are told."""

    def __init__(self, denoiser: Denoiser, on_call: Callable[[], object]) -> None:
        self._denoiser, self._on_call = denoiser, on_call

    def __getattr__(self, name: str) -> Any:
        return getattr(self._denoiser, name)  # the types that it reads and writes

    def predict(self, x: Array, t: float, out: Array) -> None:
        self._on_call()
        self._denoiser.predict(x, t, out)


def fine(first: float, *, steps: int) -> Times:
    """Return a list for following the ODE: from `first` to first/64 as `Problem.solve`, and one step from there to 0.

    Half of its points are spread evenly in time, half in the logarithm of the signal to noise ratio: 64 steps are then
    as near to the solution as 127 equal ones, for the bundled teacher.
    """
    grid = np.linspace(first, first / 64, 4097)
    ratio = np.log(grid / (1.001 - grid))  # finite at 1 too
    place = (ratio[0] - ratio) / (ratio[0] - ratio[-1]) + (first - grid) / (first - grid[-1])
    return np.array([first, *np.interp(np.linspace(0.0, 2.0, steps), place, grid)[1:-1], grid[-1], 0.0])


class Trajectory:
    """The states of a flight by a sampler, at any time.

    Args:
        flight: The flight.
        sampler: One without noise. Of a step with stages the state where it begins counts; a StepTable does not tell
            steps from stages, so that of it all rows count.
        end: Where the flight ends, if that is known better.
    """

    def __init__(self, flight: Flight, sampler: Scheduler, *, end: Array | None = None) -> None:
        points: dict[float, tuple[Array, Array]] = {}  # x and dx/dt by t; of several rows at one time the last is best
        steps = getattr(sampler, "timesteps", None)
        wanted = None if steps is None else {float(t) for t in steps}

        def take(run: Run, m: Array) -> None:
            t = run.row.t
            if wanted is not None and t not in wanted:
                return
            v = run.predict_x0(m)
            v -= run.x
            v *= -1.0 / t
            points[t] = run.x.copy(), v

        found = flight.by(sampler, take)
        self.end = found if end is None else end
        self._points = [(t, *points[t]) for t in sorted(points)]
        self._times = [t for t, _, _ in self._points]

    def at(self, t: float) -> Array:
        """Return x at a time: Hermite's cubic between two points, a line below the last and above the first."""
        k = bisect_left(self._times, t)
        low, x, v = self._points[min(k, len(self._points) - 1)]
        if t == 0.0:
            return self.end
        if k == 0 or t >= low:
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


def step(states: Sequence[Array], does: Update, *, weights: Sequence[float], predictions: Predictions) -> Array:
    """Return x after a row of a `LinearSolver`, without its fresh noise; its prediction is the last of all so far."""
    found = does.b * predictions[-1]
    if does.a:
        found += does.a * states[does.base]
    for k, w in enumerate(weights):
        if w:
            found += w * predictions[-2 - k]
    return found


class Course:
    """A flight by a solver, row by row: each state and prediction, from which others branch.

    Args:
        flight: The flight.
        solver: The solver.
    """

    def __init__(self, flight: Flight, solver: LinearSolver) -> None:
        self.flight, self._solver = flight, solver
        self._states, self._predictions = [flight.noise], Predictions()
        for i, t in enumerate(solver.times[:-1]):
            self._predictions.append(self._predict(i, self._states[-1], t))
            self._states.append(self._row(solver, i, self._states, self._predictions))

    @property
    def end(self) -> Array:
        """Where it ends."""
        return self._states[-1]

    def _predict(self, i: int, x: Array, t: float) -> Array:
        """The prediction of row i."""
        return self.flight.predict(x, t)

    def _row(self, solver: LinearSolver, i: int, states: Sequence[Array], predictions: Predictions) -> Array:
        does = solver.update(i)
        x = step(states, does, weights=solver.weights[i], predictions=predictions)
        if does.fresh:
            self.flight.add_noise(x, draw=i + 1, size=does.fresh)
        return x

    def other(self, solver: LinearSolver, row: int) -> Array:
        """Return where another solver ends whose rows before `row` are this one's."""
        states, predictions = self._states[: row + 1], self._predictions[:row]
        for i in range(row, len(solver.weights)):
            if i == row and solver.times[i] == self._solver.times[i]:
                predictions.append(self._predictions[i])
            else:
                predictions.append(self._predict(i, states[-1], solver.times[i]))
            states.append(self._row(solver, i, states, predictions))
        return states[-1]


def rms(x: Array) -> float:
    """Return the root of the mean square of an array's elements."""
    return math.sqrt(float(np.square(x.reshape(-1)).sum(dtype=np.float64)) / x.size)


def host(x: Array) -> np.ndarray[Any, np.dtype[np.float64]]:
    """Return the elements, float64 in host memory."""
    return on_host(x.reshape(-1)).astype(np.float64)


def seconds_a_call(problem: Problem, *, seeds: int) -> float:
    """Return how many seconds a call of the network takes: the least of three, on so many seeds of the first image."""
    with problem.backend.active():
        flight = Flight(problem, problem.subjects[0], seeds=range(seeds))
        flight.predict(flight.noise.copy(), problem.first)  # the first one prepares the network
        problem.backend.synchronize()
        took = []
        for _ in range(_TIMED):
            began = time.perf_counter()
            flight.predict(flight.noise.copy(), problem.first)
            problem.backend.synchronize()
            took.append(time.perf_counter() - began)
    return min(took)
