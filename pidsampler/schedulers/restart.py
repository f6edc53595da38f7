"""Restart: go back up in noise and down again, which contracts the errors made before."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any, Self

import attrs

from .. import moved
from ..errors import ConfigError
from ..table import Combination, Row, StepTable, combined
from ..values import field, number, shown, whole
from .base import SchedulerInfo, TimesScheduler, euler, row


def _listed(thirds: int, **options: Any) -> Any:
    """A field that is one of the scheduler's times; None takes the one after so many thirds of the steps."""

    def convert(value: float | None, made: Any, about: attrs.Attribute[float]) -> float:
        times = made.timesteps.tolist()
        t: float = times[round(thirds * (len(times) - 1) / 3)] if value is None else number(about.name, value)
        if t not in times:
            raise ConfigError(f"{about.name}={t!r} is not one of the timesteps {times}")
        return t

    converter = attrs.Converter(convert, takes_self=True, takes_field=True)
    return attrs.field(default=None, converter=converter, metadata={"takes": "one of the timesteps"}, **options)


_MOST_CALLS = 1_000_000  # as a list has steps at most


@moved.keywords()
@attrs.frozen(slots=False)
class Restart(TimesScheduler):
    """Euler's ODE, but from t_min noise is added back up to t_max, and the part between is done again.

    The row that arrives at t_min goes on to t_max at once: x' = r*x + sqrt(t_max^2 - (r*t_min)^2)*N with
    r = (1 - t_max)/(1 - t_min), so going back costs no model call; each repeat costs those of the part.

    Args:
        timesteps: A valid list of times, of at least three steps unless the part is given.
        t_max: One of the list's times; None takes the one after a third of the steps.
        t_min: A smaller one of the list's times, above 0; None takes the one after two thirds of the steps.
        repeats: How often the part is done again, at least 0.

    Source: Restart (Xu et al. 2023, arXiv 2306.14878), algorithm 1 in flow time.
    """

    info = SchedulerInfo("restart", 1, model_calls_per_step=1, stochastic=True, source="Restart, arXiv 2306.14878")

    t_max: float = _listed(1)
    t_min: float = _listed(2, kw_only=True)
    repeats: int = field(whole, low=0, default=1, kw_only=True)

    def __attrs_post_init__(self) -> None:
        if not 0.0 < self.t_min < self.t_max:
            raise ConfigError(f"t_min={self.t_min!r} and t_max={self.t_max!r} must keep 0 < t_min < t_max")
        times = self.timesteps.tolist()
        calls = len(times) - 1 + self.repeats * (times.index(self.t_min) - times.index(self.t_max))
        if calls > _MOST_CALLS:
            raise ConfigError(
                f"repeats={shown(self.repeats)} makes {calls} model calls, expected at most {_MOST_CALLS}"
            )

    def ascending(self, t_min: float) -> Self:
        """Raise an error: a step up is one of its returns.

        Args:
            t_min: Noise level that the list would begin at.

        Raises:
            PidSamplerError: Always.
        """
        raise ConfigError(
            "restart goes up by noise, and cannot be inverted: take flow-ode, which it is without repeats"
        )

    def table(self) -> StepTable:
        """Return one row per model call; the k-th return draws its noise as draw k."""
        times = self.timesteps.tolist()
        top, bottom = times.index(self.t_max), times.index(self.t_min)
        visited = [*times[: bottom + 1], *times[top : bottom + 1] * self.repeats, *times[bottom + 1 :]]
        r = (1.0 - self.t_max) / (1.0 - self.t_min)
        fresh = math.sqrt(self.t_max**2 - (r * self.t_min) ** 2)
        rows: list[Row] = []
        draw = 0
        for t, after in pairwise(visited):
            if after > t:  # back up: a part of the row before
                draw += 1
                arrived = rows.pop()
                update = combined([(r, arrived), (1.0, Combination(noise={draw: fresh}))])
                rows.append(row(arrived.t, after, update=update))
            else:
                rows.append(row(t, after, update=euler(t, after)))
        return StepTable(rows)
