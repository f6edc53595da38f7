"""Weights by least squares: down the list, each row as near to where it should go as its predictions allow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from ..values import whole
from .flights import Array, Flight, Predictions, host, step
from .solver import EXACT, Bias, LinearSolver, update

ALL = 64  # predictions before a row's own: more than any fit has


class Path(Protocol):
    """Where a flight should be at each time."""

    def at(self, t: float) -> Array:
        """Return x at a time."""
        ...


def most_predictions(name: str, value: int | str) -> int:
    """Return how many predictions before its own a row weighs at most, 0..64; "all" is 64.

    Raises:
        PidSamplerError: The value is neither; the message has the name.
    """
    return ALL if isinstance(value, str) and value == "all" else whole(name, value, low=0, high=ALL)


def least_squares(
    pairs: Sequence[tuple[Flight, Path]],
    times: Sequence[float],
    *,
    history: int,
    ridge: float,
    biased: bool = False,
    paired: bool = False,
) -> tuple[LinearSolver, list[Array]]:
    """Return the solver over `times` whose rows, each after those before it, end nearest to where they should.

    Row i minimizes |x'(w) - X(t')|^2 + the sum of lambda*w^2 over all flights, where x' is that of `LinearSolver`. The
    lambda of the weights is `ridge` times the mean squared length of what they weigh; that of the two biases likewise.

    Args:
        pairs: Flights, and where they should go.
        times: A valid list.
        history: The most predictions before its own that a row weighs.
        ridge: Penalty of large weights, from 0. 0 fits the flights best, and explodes where predictions are nearly
            the same.
        biased: Fit biases too.
        paired: Rows come in pairs, see `LinearSolver`.

    Returns:
        The solver, and where the flights end by it.

    Raises:
        PidSamplerError: A prediction is not finite.
    """
    states = [[flight.noise] for flight, _ in pairs]
    predictions: list[Predictions] = [[] for _ in pairs]
    weights: list[tuple[float, ...]] = []
    biases: list[Bias] = []
    for i, t in enumerate(times[:-1]):
        for (flight, _), xs, known in zip(pairs, states, predictions, strict=True):
            known.append(flight.predict(xs[-1], t))
        count, plain = min(i, history), update(times, i, paired=paired)
        factor: NDArray[np.float64] = np.zeros((0, count + 2 * biased + 1))  # R so far, the last column the right sides
        for (_, path), xs, known in zip(pairs, states, predictions, strict=True):
            if factor.shape[1] == 1:
                break
            columns = [known[-2 - k] - known[-1] for k in range(count)] + [xs[plain.base], known[-1]] * biased
            x = step(xs, plain, weights=(), predictions=known)
            equations = np.stack([*map(host, columns), host(path.at(times[i + 1]) - x)], axis=1)
            factor = np.asarray(np.linalg.qr(np.concatenate([factor, equations]), mode="r"))
        found = _solved(factor, ridge, count).tolist()
        weights.append(tuple(found[:count]))
        bias = (found[-2], found[-1]) if biased else EXACT
        biases += [bias] * biased
        does = update(times, i, weights=weights[i], bias=bias, paired=paired)
        for xs, known in zip(states, predictions, strict=True):
            xs.append(step(xs, does, weights=weights[i], predictions=known))
    return LinearSolver(tuple(times), tuple(weights), biases=tuple(biases), paired=paired), [xs[-1] for xs in states]


def _solved(factor: NDArray[np.float64], ridge: float, count: int) -> NDArray[np.float64]:
    """The weights, of which there are `count`, and biases by the factor R of the equations, with ridge rows below."""
    matrix, right = factor[:, :-1], factor[:, -1]
    if not (columns := matrix.shape[1]):
        return np.zeros(0)
    if not np.isfinite(factor).all():
        raise ModelError(
            "the network returned NaN or infinity, expected finite numbers: check it at the times of the list"
        )
    squares = np.square(matrix).sum(axis=0)
    means = [np.full(len(part), part.mean()) for part in (squares[:count], squares[count:]) if len(part)]
    rows = np.concatenate([matrix, np.diag(np.sqrt(ridge * np.concatenate(means)))])
    found: NDArray[np.float64] = np.linalg.lstsq(rows, np.append(right, np.zeros(columns)), rcond=None)[0]
    return found
