"""How the draws of a table hang together: `fixed` and `brownian` turn a table into one with other draws.

What they return are tables again, that print, compare and run anywhere.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Any

from attrs import evolve

from .. import moved
from ..errors import ConfigError
from ..schedulers.exact import log_snr
from ..table import Combination, Row, StepTable, Terms, combined
from ..values import instance

NoiseFunction = Callable[[int, int, tuple[int, ...]], Any]
"""A function (seed, draw, shape of one image) -> its float32 noise, such as `noise.normal`.

Draw 0 is the initial noise.
"""

# The Brownian path runs over log-SNR from -32 to 32, and is halved 22 times: to 2^-16.
_BOUND, _CELL, _LEVELS = 32.0, 2.0**-16, 22


def fixed(table: StepTable) -> StepTable:
    """Return the table with the initial noise, draw 0, in place of every draw.

    What a row adds is scaled so that the noise level stays exact, now that old and new noise are the same: FlowSDE's
    x' = (1 - t')*x0 + t'*N(0) at eta = 1, and (1 - t')*x0 + t'*(keep*eps_hat + (1 - keep)*N(0)) in between. A row that
    misses its noise level on purpose misses it by as much as before.

    Raises:
        PidSamplerError: The table is no `StepTable`.
    """
    rows = []
    held: dict[int, float] = {}  # slot -> how much of N(0) it holds where the network is exact
    table = instance("table", table, kind=StepTable, words="a StepTable")
    for i, row in enumerate(table):
        drawn = _total(row.noise)
        level = row.t_next + (table.bias[i].noise if row.biased else 0.0)
        scale = (level - _known(row, row.t, held)) / drawn if drawn else 1.0
        rows.append(_redrawn(row, partial(_same, scale=scale)))
        held |= {slot: _known(c, row.t, held) + _total(c.noise) for slot, c in rows[-1].saves}
    return table.with_rows(rows)


def _known(c: Combination, t: float, held: dict[int, float]) -> float:
    """The noise in what a combination takes from x and the saved tensors."""
    return c.a * t + math.fsum(w * held[slot] for slot, w in c.h)


def _same(noise: Terms, scale: float) -> Terms:
    return ((0, scale * _total(noise)),)


def brownian(table: StepTable) -> StepTable:
    """Return the table with each draw made the increment of one Brownian path over its row's step in log-SNR.

    The path is a function of the seed alone. So runs of one seed with different numbers of steps, or by different
    methods, follow the same noise. With more steps a stochastic differential equation's results converge to one
    picture, strongly and with order 1, and not only in law.

    The path W is Levy's construction over log-SNR -32..32, halved 22 times. W's end is draw 1; what the j-th interval
    of level l adds at its middle is draw 2^l + 1 + j; and the last level's stands for all that lies inside an interval
    of 2^-16, so that each increment has its exact variance. It is a weighted sum of about forty draws, divided by its
    standard deviation: nothing is stored, but making a row's noise takes forty times as long.

    Raises:
        PidSamplerError: A row that draws noise goes back up, as Restart's, or over less than the path resolves.

    Source: the virtual Brownian tree of torchsde (Li et al., arXiv 2001.01328, section 4) and k-diffusion. Here it is
    over log-SNR, and its noise needs no tree in memory.
    """
    # Of each draw, the nodes it is made of: it is the increment over the step of the row that has it first. A row that
    # goes on from a saved state, as the last of a step's stages may, begins where that state has its noise from.
    increments = {0: Combination(noise={0: 1.0})}
    ends: dict[int, float] = {}  # draw -> where its increment ends
    held: dict[int, float] = {}  # slot -> how much noise it holds
    since: dict[int, float] = {}  # slot -> how far on the path its noise goes

    def reached(c: Combination, row: Row) -> float:
        states = [since[slot] for slot, _ in c.h if held[slot]] or [_place(row.t)]
        return max(*states, *(ends[draw] for draw, _ in c.noise if draw in ends), -math.inf)

    rows = []
    for i, row in enumerate(instance("table", table, kind=StepTable, words="a StepTable")):
        begin, end = reached(row, row), _place(row.t_next)
        for draw in row.draws:
            if draw in increments:
                continue
            if not begin // _CELL < end // _CELL:
                raise ConfigError(
                    f"row {i} (t {row.t!r} -> {row.t_next!r}) draws noise but does not go down by a log-SNR of "
                    f"{_CELL:.2g}: a Brownian path has no increment there; use independent or fixed noise"
                )
            increments[draw], ends[draw] = Combination(noise=_increment(begin, end)), end
        kept = {slot: (_known(c, row.t, held) + _total(c.noise), reached(c, row)) for slot, c in row.saves}
        held |= {slot: noise for slot, (noise, _) in kept.items()}
        since |= {slot: place for slot, (_, place) in kept.items()}
        rows.append(_redrawn(row, partial(_along, increments=increments)))
    return table.with_rows(rows)


def _along(noise: Terms, increments: dict[int, Combination]) -> Terms:
    return combined((w, increments[draw]) for draw, w in noise).noise


def _redrawn(row: Row, draws: Callable[[Terms], Terms]) -> Row:
    """The row with other noise, in what it saves too."""
    saves = tuple((slot, evolve(c, noise=draws(c.noise))) for slot, c in row.saves)
    return evolve(row, noise=draws(row.noise), saves=saves)


def _total(noise: Terms) -> float:
    return math.fsum(w for _, w in noise)


def _place(t: float) -> float:
    """Where on the path a time is, 0..64."""
    return min(max(log_snr(t), -_BOUND), _BOUND) + _BOUND


def _increment(begin: float, end: float) -> dict[int, float]:
    """The weights of the draws in (W(end) - W(begin)) / sqrt(end - begin), whose squares sum to 1."""
    weights = {1: (end - begin) / math.sqrt(2.0 * _BOUND)}
    for level in range(_LEVELS + 1):
        length = math.ldexp(2.0 * _BOUND, -level)
        for sign, at in ((-1.0, begin), (1.0, end)):
            j = math.floor(at / length)
            inside, before_end = at - j * length, (j + 1) * length - at
            if level < _LEVELS:  # a tent of height sqrt(length)/2
                height = min(inside, before_end) / math.sqrt(length)
            else:  # the standard deviation of a Brownian bridge
                height = math.sqrt(inside * before_end / length)
            draw = (1 << level) + 1 + j
            weights[draw] = weights.get(draw, 0.0) + sign * height
    size = math.hypot(*weights.values())
    return {draw: w / size for draw, w in weights.items()}


__getattr__ = moved.names(__name__)
