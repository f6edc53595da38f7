"""A linear multistep solver as numbers: its times, and for each row the weights of the predictions before it."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import attrs

from ..errors import ConfigError
from ..table import Combination, Row, StepTable
from ..timesteps import custom
from ..values import field, items, numbers


def _times(name: str, value: Any) -> tuple[float, ...]:
    return tuple(custom(value, partial=True).tolist())


def _weights(name: str, value: Any) -> tuple[tuple[float, ...], ...]:
    return tuple(numbers(name, row) for row in items(name, value, words="rows of weights"))


@attrs.frozen
class LinearSolver:
    """A solver whose row i goes from t to t' by its prediction P_i and those of rows before it:

        x' = (t'/t)*x + (1 - t'/t)*P_i + sum_k weights[i][k]*(P_(i-1-k) - P_i)

    Marginals are exact, whatever the weights: what they weigh vanishes where the network predicts perfectly.

    Args:
        times: A valid list of n + 1 times, see `timesteps.custom`.
        weights: n rows; row i has at most i.

    Raises:
        PidSamplerError: The list is not valid, or the weights are not as described.
    """

    times: tuple[float, ...] = field(_times)
    weights: tuple[tuple[float, ...], ...] = field(_weights)

    def __attrs_post_init__(self) -> None:
        if len(self.weights) != len(self.times) - 1:
            raise ConfigError(f"{len(self.weights)} rows of weights for {len(self.times) - 1} steps: pass one a step")
        for i, row in enumerate(self.weights):
            if len(row) > i:
                raise ConfigError(f"row {i} has {len(row)} weights, but {i} predictions before it: pass at most {i}")

    @property
    def largest(self) -> float:
        """The largest absolute weight; 0 where there is none."""
        return max((abs(w) for row in self.weights for w in row), default=0.0)

    def table(self) -> StepTable:
        """Return the table, whose rows save their prediction as long as a later one reads it."""
        steps = len(self.weights)
        read = [[i - 1 - k for k, w in enumerate(row) if w != 0.0] for i, row in enumerate(self.weights)]
        last = {j: i for i in range(steps) for j in read[i]}  # the row that reads prediction j last
        slots: dict[int, int] = {}
        rows = []
        for i, (t, t_next) in enumerate(pairwise(self.times)):
            h = {slots[i - 1 - k]: w for k, w in enumerate(self.weights[i]) if w != 0.0}
            slots = {j: slot for j, slot in slots.items() if last[j] > i}
            saves = {}
            if i in last:
                slots[i] = next(slot for slot in range(steps) if slot not in slots.values())
                saves[slots[i]] = Combination(b=1.0)
            a = t_next / t
            b = (1.0 - a) - sum(h.values())
            rows.append(Row(t, t_next, a=a, b=b, h=h, saves=saves))
        return StepTable(rows)
