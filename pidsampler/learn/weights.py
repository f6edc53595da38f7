"""Weights by least squares: down the list, each row as near to the ODE's solution as its predictions allow."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from .flights import Array, Flight, Predictions, Trajectory, host, step
from .solver import LinearSolver


def least_squares(
    pairs: Sequence[tuple[Flight, Trajectory]], times: Sequence[float], *, history: int, ridge: float
) -> tuple[LinearSolver, list[Array]]:
    """Return the solver over `times` whose rows, each after those before it, end nearest to the solution.

    Row i minimises |x'(w) - X(t')|^2 + lambda*|w|^2 over all flights, where x' is that of `LinearSolver` and lambda is
    `ridge` times the mean squared length of what the weights weigh.

    Args:
        pairs: Flights with their solutions.
        times: A valid list.
        history: The most predictions before its own that a row weighs.
        ridge: From 0 on. 0 fits the flights best, and explodes where predictions are nearly the same.

    Returns:
        The solver, and where the flights end by it.

    Raises:
        PidSamplerError: A prediction is not finite.
    """
    states = [flight.noise for flight, _ in pairs]
    predictions: list[Predictions] = [[] for _ in pairs]
    weights: list[tuple[float, ...]] = []
    for i, (t, t_next) in enumerate(pairwise(times)):
        for (flight, _), x, known in zip(pairs, states, predictions, strict=True):
            known.append(flight.predict(x, t))
        count = min(i, history)
        plain = [
            step(x, t=t, t_next=t_next, weights=(), predictions=known)
            for x, known in zip(states, predictions, strict=True)
        ]
        factor: NDArray[np.float64] = np.zeros(
            (0, count + 1)
        )  # R of all equations so far, the last column their right sides
        for (_, trajectory), x, known in zip(pairs, plain, predictions, strict=True):
            if count:
                columns = [host(known[-2 - k] - known[-1]) for k in range(count)]
                equations = np.stack([*columns, host(trajectory.at(t_next) - x)], axis=1)
                factor = np.asarray(np.linalg.qr(np.concatenate([factor, equations]), mode="r"))
        weights.append(tuple(_solved(factor, ridge).tolist()))
        states = [
            step(x, t=t, t_next=t_next, weights=weights[-1], predictions=known)
            for x, known in zip(states, predictions, strict=True)
        ]
    return LinearSolver(tuple(times), tuple(weights)), states


def _solved(factor: NDArray[np.float64], ridge: float) -> NDArray[np.float64]:
    """The weights by the factor R of the equations, with ridge rows below."""
    matrix, right = factor[:, :-1], factor[:, -1]
    if not (count := matrix.shape[1]):
        return np.zeros(0)
    if not np.isfinite(factor).all():
        raise ModelError("the network returned NaN or infinity")
    damping = math.sqrt(ridge * float(np.square(matrix).sum()) / count)
    rows = np.concatenate([matrix, damping * np.eye(count)])
    found: NDArray[np.float64] = np.linalg.lstsq(rows, np.append(right, np.zeros(count)), rcond=None)[0]
    return found
