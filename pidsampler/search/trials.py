"""Lists judged by what a measure says of certain runs."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from ..errors import ConfigError, PidSamplerError
from ..schedulers.making import SamplerLike, sampler_name
from ..schedulers.registry import get_scheduler
from ..study.measures import Measure
from ..timesteps import Times
from .problem import Problem, Solution, Subject


class Trials:
    """Judges lists by what a measure says of certain runs.

    Args:
        problem: What is sampled.
        sampler: A sampler that names no times.
        calls: The most model calls of a table.
        measure: Measure that applies to the problem and has a direction.
        pairs: The runs: subjects of the problem, and seeds.
        solved: Their solutions, where the measure needs them.
        on_call: Called with each model call.
    """

    def __init__(
        self,
        problem: Problem,
        sampler: SamplerLike,
        *,
        calls: int,
        measure: Measure,
        pairs: Sequence[tuple[Subject, int]],
        solved: Sequence[Solution],
        on_call: Callable[[], object] = lambda: None,
    ) -> None:
        self._problem, self._sampler, self._calls = problem, sampler, calls
        self._measure, self._pairs, self._on_call = measure, pairs, on_call
        needed = "converged" in measure.needs
        self._converged = [solution.x for solution in solved] if needed else [None] * len(pairs)
        self.sign = -1.0 if measure.better == "higher" else 1.0

    def values(self, times: Times) -> dict[tuple[str, int], float]:
        """Return the measure of each run, (image, seed) -> value; only its size, where zero is best.

        Raises:
            PidSamplerError: The scheduler has no such table, it is too long, or a measure fails.
        """
        table = get_scheduler(self._sampler, times).table()
        if len(table) > self._calls:
            raise ConfigError(f"{sampler_name(self._sampler)} takes {len(table)} model calls over {times.tolist()}")
        found = {}
        for (subject, seed), converged in zip(self._pairs, self._converged, strict=True):
            value = self._measure(
                self._problem.sampled(subject, seed, table=table, converged=converged, on_call=self._on_call)
            )
            found[subject.name, seed] = abs(value) if self._measure.better == "zero" else value
        return found

    def cost(self, times: Times) -> float:
        """Return the mean of `values` times `sign`, which makes less better; infinity where they cannot be had."""
        try:
            values = self.values(times).values()
        except PidSamplerError:
            return math.inf
        return self.sign * math.fsum(values) / len(values)
