"""Noise as an axis of its own: kinds by name, which change a table's draws, or say where their values come from."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ..errors import ConfigError
from ..plugins import Registry
from ..schedulers.making import called
from ..table import StepTable
from ..values import instance, shown
from . import coupling
from .coupling import NoiseFunction

NOISES: Registry[Callable[[StepTable], Any]] = Registry("noise", "pidsampler.noises")
"""The kinds of noise by name: functions of a scheduler's table.

Each returns the table with other draws; or (table, noise function), where the values are not those of `noise.normal`.
"""


@NOISES.register
def independent(table: StepTable) -> StepTable:
    """Return the table as it is: a new draw for each re-noise."""
    return table


NOISES.register(coupling.fixed)
NOISES.register(coupling.brownian)


@NOISES.register
def torch(table: StepTable) -> tuple[StepTable, NoiseFunction]:
    """Return the table as it is, and PyTorch's noise on the CPU."""
    from .torch import normal

    return table, normal


def with_noise(table: StepTable, noise: str | NoiseFunction) -> tuple[StepTable, NoiseFunction | None]:
    """Return the table for a choice of noise, and the function that makes its values if that is not `noise.normal`.

    Args:
        table: Table of a scheduler; its k-th re-noise is draw k.
        noise: A name of `NOISES`, such as "independent" (as the table is), "fixed", "brownian" or "torch"; or a
            function (seed, draw, shape) -> array for noise of one's own.

    Raises:
        PidSamplerError: The name is unknown, or the table has no such form.
    """
    instance("table", table, kind=StepTable, words="a StepTable")
    if not isinstance(noise, str):
        if not callable(noise):
            raise ConfigError(f"noise={shown(noise)} is neither one of {', '.join(NOISES)} nor a function")
        return table, noise
    made = called(NOISES.find(noise), f"noise {noise!r}", arguments=(table,), options={})
    drawn, values = made if isinstance(made, tuple) and len(made) == 2 else (made, None)
    if not isinstance(drawn, StepTable) or not (values is None or callable(values)):
        raise ConfigError(f"noise {noise!r} made {made!r} of a table, expected a StepTable, or that and a function")
    return drawn, values
