"""The self-check of a table: its rows on a constant image that the network predicts perfectly."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence

import attrs
import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, PidSamplerWarning
from ..values import field, number
from .rows import Combination, Row

# Rows are computed in float64; what a formula loses to rounding is far below this, a wrong formula far above.
_TOLERANCE = 1e-12

# How many times larger than in the network's velocity an error may come out of a row. Usual lists stay below 10. From
# 100 on an error of 1 % is as large as a picture; from 2^17 on float32's rounding, 2^-24, is one level of 8 bits.
_WARNED, _REFUSED = 100.0, 2.0**17
_RECENT = 16  # rows whose velocities are followed: more than any method looks back


@attrs.frozen(kw_only=True)
class Bias:
    """How far x is off its noise level after a row, where the network predicts perfectly.

    Args:
        mean: The image's share in x less 1 - t_next, by this row alone: x was exact before it.
        noise: The noise's standard deviation in x less t_next, by this row alone.
        total_mean: As `mean`, by this row and all before it.
        total_noise: As `noise`, by this row and all before it.
    """

    mean: float = field(number)
    noise: float = field(number)
    total_mean: float = field(number)
    total_noise: float = field(number)

    def __str__(self) -> str:
        return f"mean {self.mean:+.3g} ({self.total_mean:+.3g}), noise {self.noise:+.3g} ({self.total_noise:+.3g})"


@np.errstate(over="ignore", invalid="ignore")  # what is too large fails the checks
def check(rows: Sequence[Row]) -> tuple[Bias, ...]:
    """Check rows as `StepTable` says, and return the bias after each; none where no row declares that it has one.

    Raises:
        PidSamplerError: As `StepTable`.
    """
    column = {draw: i for i, draw in enumerate(dict.fromkeys([0, *(d for row in rows for d in row.draws)]))}
    x = _start(rows[0], column)
    saved: dict[int, _Tracked] = {}
    alone: list[tuple[float, float]] = []
    worst = (0.0, "")
    for i, row in enumerate(rows):
        where = f"row {i} (t {row.t:.6g} -> {row.t_next:.6g})"
        if i and row.t != rows[i - 1].t_next:
            raise ConfigError(f"{where} begins at another time than row {i - 1} ends: they must join")
        if unsaved := [slot for c in row.combinations for slot, _ in c.h if slot not in saved]:
            raise ConfigError(f"{where} reads slot {unsaved[0]} before any row has saved it")
        try:
            x = _after(row, i, x, saved, column)
        except (OverflowError, ValueError) as error:  # of fsum
            raise ConfigError(f"{where}: its weights are too large to be summed in float64") from error
        tolerance, std = _TOLERANCE * x.magnitude, x.std
        if not math.isfinite(tolerance + std):
            raise ConfigError(f"{where}: its weights are too large to be summed in float64")
        if not (row.biased or abs(x.mean - (1.0 - row.t_next)) <= tolerance):
            raise ConfigError(
                f"{where}: a constant image comes out {x.mean:.9g} times itself, expected "
                f"1 - t_next = {1.0 - row.t_next:.9g}: check a, b and h, or declare the row biased"
            )
        if not (row.biased or abs(std - row.t_next) <= tolerance):
            raise ConfigError(
                f"{where}: the noise comes out with standard deviation {std:.9g}, expected "
                f"t_next = {row.t_next:.9g}: check a, h and the noise weights, or declare the row biased"
            )
        alone.append((x.mean - (1.0 - row.t_next), std - row.t_next))
        errors = {k: w for k, w in x.errors.items() if k > i - _RECENT}
        growth = math.fsum(map(abs, errors.values()))
        where += f" makes errors of the network {growth:.3g} times larger: leave out times that are close"
        if not growth <= _REFUSED:
            raise ConfigError(where)
        worst = max(worst, (growth, where))
        # Each row is judged on its own: the next one starts without the rounding, or the bias, of this one.
        x = _Tracked(1.0 - row.t_next, x.noise * (row.t_next / std if std else 0.0), errors)
    if worst[0] > _WARNED:
        warnings.warn(worst[1], PidSamplerWarning, stacklevel=6)
    if not any(row.biased for row in rows):
        return ()
    try:
        totals = _totals(rows, column)
    except (OverflowError, ValueError) as error:  # of fsum
        raise ConfigError("the weights of all rows together are too large to be summed in float64") from error
    return tuple(
        Bias(mean=mean, noise=noise, total_mean=total_mean, total_noise=total_noise)
        for (mean, noise), (total_mean, total_noise) in zip(alone, totals, strict=True)
    )


def _totals(rows: Sequence[Row], column: dict[int, int]) -> list[tuple[float, float]]:
    """The image's share and the noise after each row, less what they should be, where nothing is put right between."""
    x, saved, found = _start(rows[0], column), dict[int, _Tracked](), []
    for i, row in enumerate(rows):
        x = _after(row, i, x, saved, column)
        x = attrs.evolve(x, errors={})
        if not math.isfinite(x.mean + x.std):
            raise OverflowError
        found.append((x.mean - (1.0 - row.t_next), x.std - row.t_next))
    return found


@attrs.frozen
class _Tracked:
    """A tensor of the check: mean * image + sum of noise[draw] * N(draw), and the size of what was summed."""

    mean: float
    noise: NDArray[np.float64]  # a column for each draw of the table
    errors: dict[int, float]  # weights of the velocities of recent rows
    magnitude: float = 1.0

    @property
    def std(self) -> float:
        return math.sqrt(float(np.square(self.noise).sum()))  # BLAS would be slower here

    def combined(self, c: Combination, x0: _Tracked, saved: dict[int, _Tracked], column: dict[int, int]) -> _Tracked:
        parts = [(c.a, self), (c.b, x0), *((w, saved[slot]) for slot, w in c.h)]
        errors = dict[int, float]()
        for weight, part in parts:
            for index, w in part.errors.items():
                errors[index] = errors.get(index, 0.0) + weight * w
        noise = c.a * self.noise
        for slot, weight in c.h:
            noise += weight * saved[slot].noise
        for draw, w in c.noise:
            noise[column[draw]] += w
        mean = math.fsum(w * part.mean for w, part in parts)
        sizes = [abs(w) * part.magnitude for w, part in parts] + [abs(w) for _, w in c.noise]
        return _Tracked(mean, noise, errors, 1.0 + math.fsum(sizes))


def _start(row: Row, column: dict[int, int]) -> _Tracked:
    return _Tracked(1.0 - row.t, row.t * np.eye(1, len(column))[0], {})


def _after(row: Row, i: int, x: _Tracked, saved: dict[int, _Tracked], column: dict[int, int]) -> _Tracked:
    """x after a row, which saves what it saves."""
    x0 = _Tracked(1.0, np.zeros(0), {**x.errors, i: -row.t})  # x0 = x - t*velocity, and has no noise
    new = x.combined(row, x0, saved, column)
    saved |= {slot: x.combined(c, x0, saved, column) for slot, c in row.saves}
    return new
