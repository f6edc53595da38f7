"""A linear multistep solver as numbers: its times, and what each row weighs the predictions by."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any, NamedTuple

import attrs

from ..errors import ConfigError
from ..table import Combination, Row, StepTable
from ..timesteps import custom
from ..values import field, flag, items, numbers, whole

Bias = tuple[float, float]
EXACT: Bias = (0.0, 0.0)


def _times(name: str, value: Any) -> tuple[float, ...]:
    return tuple(custom(value, partial=True).tolist())


def _weights(name: str, value: Any) -> tuple[tuple[float, ...], ...]:
    return tuple(numbers(name, row) for row in items(name, value, words="rows of weights"))


def _biases(name: str, value: Any) -> tuple[Bias, ...]:
    found = tuple(numbers(name, row) for row in items(name, value, words="pairs of numbers"))
    if any(len(pair) != 2 for pair in found):
        raise ConfigError(f"{name} has a row of other than two numbers: pass (of x, of the row's prediction)")
    return tuple((of_x, of_p) for of_x, of_p in found)


class Update(NamedTuple):
    """What a row does: x' = a*x + b*P + the sum of its weighted earlier predictions + fresh*N.

    Args:
        base: The row whose state x is: its own, or of a pair's second row the first one.
        a: Weight of x.
        b: Weight of the row's own prediction P.
        fresh: Weight of fresh noise.
    """

    base: int
    a: float
    b: float
    fresh: float


def update(
    times: Sequence[float],
    i: int,
    *,
    weights: Sequence[float] = (),
    eta: float = 0.0,
    bias: Bias = EXACT,
    paired: bool = False,
) -> Update:
    """Return the update of row i of a `LinearSolver`, whose arguments these are."""
    base = i - 1 if paired and i % 2 else i
    t, t_next = times[base], times[i + 1]
    keep = math.sqrt((1.0 - eta) * (1.0 + eta))
    a = keep * (t_next / t)
    b = (1.0 - a) - (1.0 - keep) * t_next - math.fsum(weights)
    return Update(base, a + bias[0], b + bias[1], eta * t_next)


@attrs.frozen
class LinearSolver:
    """A solver whose row i goes from t to t' by its prediction P_i and those of rows before it:

        x' = a*x + (1 - t' - a*(1 - t))*P_i + sum_k weights[i][k]*(P_(i-1-k) - P_i) + t'*eta*N,
        a = sqrt(1 - eta^2)*t'/t

    Marginals are exact, whatever the weights and etas: what the weights weigh vanishes where the network predicts
    perfectly, and a share of the noise that x implies makes way for the fresh noise.

    Args:
        times: A valid list of n + 1 times, see `timesteps.custom`.
        weights: n rows; row i has at most i.
        etas: Share of fresh noise of each row, 0..1, as in `FlowSDE`; that of a row to 0 counts for nothing. Empty for
            none.
        biases: For each row what is added to the weights of x and of P_i. The row then misses its noise level, and its
            table says so. Empty for none.
        paired: Rows come in pairs, so that a step takes two calls: the second row of each goes from where the pair
            began, x and t being those of the first row.

    Raises:
        PidSamplerError: The list is not valid, or the rest is not as described.
    """

    times: tuple[float, ...] = field(_times)
    weights: tuple[tuple[float, ...], ...] = field(_weights)
    etas: tuple[float, ...] = field(numbers, low=0, high=1, default=(), kw_only=True)
    biases: tuple[Bias, ...] = field(_biases, default=(), kw_only=True)
    paired: bool = field(flag, default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if (steps := len(self.weights)) != len(self.times) - 1:
            raise ConfigError(f"{steps} rows of weights for {len(self.times) - 1} steps: pass one a step")
        for i, row in enumerate(self.weights):
            if len(row) > i:
                raise ConfigError(f"row {i} has {len(row)} weights, but {i} predictions before it: pass at most {i}")
        for name, given in (("etas", self.etas), ("biases", self.biases)):
            if given and len(given) != steps:
                raise ConfigError(f"{len(given)} {name} for {steps} steps: pass one a step, or none")
        if self.paired and steps % 2:
            raise ConfigError(f"{steps} rows cannot come in pairs: pass an even number, or paired=False")

    @property
    def largest(self) -> float:
        """The largest absolute weight; 0 where there is none."""
        return max((abs(w) for row in self.weights for w in row), default=0.0)

    def update(self, i: int) -> Update:
        """Return what row i does, beside its weights.

        Raises:
            PidSamplerError: There is no row i.
        """
        i = whole("i", i, low=0, high=len(self.weights) - 1)
        eta = self.etas[i] if self.etas else 0.0
        bias = self.biases[i] if self.biases else EXACT
        return update(self.times, i, weights=self.weights[i], eta=eta, bias=bias, paired=self.paired)

    @property
    def numbers(self) -> list[list[float]]:
        """All weights and biases of each row, which `with_numbers` takes."""
        biases = self.biases or [()] * len(self.weights)
        return [[*row, *bias] for row, bias in zip(self.weights, biases, strict=True)]

    def with_numbers(self, times: Sequence[float], found: Sequence[float]) -> LinearSolver:
        """Return the solver of other times, and of other `numbers`, all in one row.

        Args:
            times: Descending times.
            found: Values of `numbers`, all in one row.

        Raises:
            PidSamplerError: There are more or fewer values than the solver has.
        """
        wanted, flat = sum(map(len, self.numbers)), numbers("found", found)
        if len(flat) != wanted:
            raise ConfigError(f"found has {len(flat)} numbers, expected {wanted}")
        left = iter(flat)
        weights, biases = [], []
        for row in self.weights:
            weights.append(tuple(next(left) for _ in row))
            if self.biases:
                biases.append((next(left), next(left)))
        return attrs.evolve(self, times=_times("times", times), weights=tuple(weights), biases=tuple(biases))

    def with_etas(self, etas: Sequence[float]) -> LinearSolver:
        """Return the solver of other etas.

        Raises:
            PidSamplerError: A share is outside 0..1, or they are not as many as the rows.
        """
        return attrs.evolve(self, etas=numbers("etas", etas))

    def table(self) -> StepTable:
        """Return the table, whose rows save their prediction, and a pair's state, as long as a later one reads it."""
        steps = len(self.weights)
        updates = [self.update(i) for i in range(steps)]
        read: list[dict[tuple[str, int], float]] = []  # what each row reads of others: weights of their x and x0
        for i, (row, does) in enumerate(zip(self.weights, updates, strict=True)):
            read.append({("x0", i - 1 - k): w for k, w in enumerate(row) if w != 0.0})
            if does.base != i:
                read[i]["x", does.base] = does.a
        last = {key: i for i in range(steps) for key in read[i]}  # the row that reads it last
        slots: dict[tuple[str, int], int] = {}
        rows = []
        for i, (t, t_next) in enumerate(pairwise(self.times)):
            h = {slots[key]: w for key, w in read[i].items()}
            slots = {key: slot for key, slot in slots.items() if last[key] > i}
            saves = {}
            for kind, saved in (("x0", Combination(b=1.0)), ("x", Combination(a=1.0))):
                if (kind, i) in last:
                    slots[kind, i] = next(slot for slot in range(2 * steps) if slot not in slots.values())
                    saves[slots[kind, i]] = saved
            base, a, b, fresh = updates[i]
            noise = {i + 1: fresh} if fresh else {}
            biased = bool(self.biases) and self.biases[i] != EXACT
            a = a if base == i else 0.0
            rows.append(Row(t, t_next, a=a, b=b, h=h, noise=noise, saves=saves, biased=biased))
        return StepTable(rows)
