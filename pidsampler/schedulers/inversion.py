"""Inversion: the ODE of a method from a picture up to noise."""

from __future__ import annotations

from ..errors import ConfigError, PidSamplerError
from ..table import Scheduler, StepTable, as_table
from ..values import number
from .base import TimesScheduler
from .wrappers import WRAPPERS


@WRAPPERS.register
def inverted(sampler: Scheduler, t_min: float = 0.001) -> StepTable:
    """ODE inversion: the method's steps from t_min up its list, with the clean picture taken as x at t_min.

    The same method over the list down to t_min leads back, but for the error of both ways: its order is the method's.
    To take the picture as x at t_min costs an error of the size of t_min besides.

    Args:
        sampler: A scheduler of a list that draws no noise, such as "heun@uniform:8".
        t_min: Noise level to begin at, in (0, 1), below the list's first time.

    Returns:
        The table from t_min up.

    Raises:
        PidSamplerError: The sampler has no list, draws noise, guides by its rows, or begins at or below t_min; or its
            formula has no step up to 1, as those in log-SNR.

    Source: DDIM (arXiv 2010.02502), section 4.3, whose step is Euler's here.
    """
    table, t_min = as_table(sampler), number("t_min", t_min, low=0, high=1, above=True, below=True)
    if not isinstance(sampler, TimesScheduler):
        raise ConfigError("only a method over a list can be inverted, not a table: put .inverted after its name")
    if t_min >= (first := table.times[0]):
        raise ConfigError(f"t_min={t_min!r} is not below {first!r}, where the list begins: pass less")
    draws = ConfigError("a method that draws noise cannot be inverted: pass eta=0 where it has that, or take another")
    if any(row.draws for row in table):
        raise draws
    if table.asks_both:
        raise ConfigError("a method that guides by its rows, as CFG++, cannot be inverted: take one that does not")
    ascending = sampler.ascending(t_min)
    try:
        found = ascending.table()
    except PidSamplerError as error:
        if first < 1.0:
            raise
        raise ConfigError("the method has no step up to t = 1: take a list that begins below, such as pid") from error
    if any(row.draws for row in found):  # over a single step to 0 it drew none
        raise draws
    return found
