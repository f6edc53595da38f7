"""What a sampler is fitted to: the solution of the model's ODE, where another sampler ends, or a measure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import attrs

from ..errors import ConfigError, PidSamplerError, unknown_name
from ..plugins import load_from_file, split_file
from ..schedulers.making import SamplerLike, sampler_name
from ..schedulers.registry import as_scheduler
from ..search.journal import Journal, code_of
from ..search.problem import Problem
from ..study.measures import MEASURES, Measure
from ..study.pictures import as_rgb, on_host
from ..study.statistics import Runs
from ..table import Scheduler, as_table
from ..timesteps import Times
from ..upscale.learnt import learnt_for, warn_of_another_model
from .flights import Array, Flight
from .solved import Ending, Followed, Judged, Reference, judged

ODE = "ode"


@attrs.frozen
class Run:
    """Where runs should end: at the solution of the ODE, or where another sampler ends from the same noise.

    Args:
        name: Name of the target.
        sampler: The other sampler; None for the solution.
    """

    name: str
    sampler: Scheduler | None

    sign, noisy = 1.0, False

    @property
    def measure(self) -> str:
        """What is measured."""
        return "RMS distance to " + ("the ODE's solution" if self.sampler is None else self.name)

    @property
    def facts(self) -> str | None:
        """All that runs to it depend on beside its name."""
        return None if self.sampler is None else as_table(self.sampler).to_json()

    def check(self, problem: Problem) -> None:
        """Do nothing: every problem has runs."""

    def warn(self, problem: Problem) -> None:
        """Warn of a table that was learnt for another model."""
        if self.sampler is not None:
            learnt = learnt_for(as_table(self.sampler), problem.hashes)
            warn_of_another_model(learnt, f"the target {self.name}", stacklevel=3)

    def calls(self, flights: int, *, compared: int) -> int:
        """Return about how many model calls it takes to know where flights should end, and others to compare with."""
        if self.sampler is None:
            return 64 * flights + (64 + 32 + 128) * compared
        return (len(as_table(self.sampler)) - 1) * (flights + compared)

    def followed(self, flight: Flight) -> Followed:
        """Return a flight to fit to."""
        return Followed(flight, self.sampler)

    def reference(self, flight: Flight, journal: Journal) -> Judged:
        """Return a flight to compare on."""
        return Reference(flight, journal) if self.sampler is None else Ending(flight, flight.by(self.sampler))


@attrs.frozen
class Measured:
    """What is to be best: a measure of a study.

    Args:
        by: The measure.
        facts: All that it depends on beside its name: the SHA-256 of its file, if it is of one.
    """

    by: Measure
    facts: str | None = None

    noisy = True

    @property
    def name(self) -> str:
        """Name of the target."""
        return self.by.name

    @property
    def sign(self) -> float:
        """-1 where higher is better."""
        return -1.0 if self.by.better == "higher" else 1.0

    @property
    def measure(self) -> str:
        """What is measured, and which direction is better."""
        name = f"|{self.name}|" if self.by.better == "zero" else self.name
        return (
            f"{name}{f' ({self.by.unit})' if self.by.unit else ''}, {'higher' if self.sign < 0 else 'lower'} is better"
        )

    def check(self, problem: Problem) -> None:
        """Raise a PidSamplerError if the measure does not apply to a problem."""
        for subject in problem.subjects:
            if missing := sorted({*self.by.needs} - {"x"} - subject.shows):
                raise ConfigError(f"the measure {self.name!r} needs a {missing[0]}, which {subject.name} has not")

    def calls(self, flights: int, *, compared: int) -> int:
        """Return 0: nothing needs to be known before."""
        return 0

    def reference(self, flight: Flight, journal: Journal) -> Judged:
        """Return a flight to measure."""
        return _Seen(flight, self.by)


Target = Run | Measured


class _Seen:
    """A flight of which results are measured."""

    error = 0.0

    def __init__(self, flight: Flight, by: Measure) -> None:
        self.flight, self._by = flight, by

    def sharpen(self, wanted: float) -> None:
        """Do nothing: a measure has no error."""

    def values(self, x: Array) -> list[float]:
        """Return the measure of each image; only its size, where zero is best."""
        subject, found = self.flight.subject, []
        for k in range(len(x)):
            one = x[k : k + 1]
            picture = None if subject.picture is None else as_rgb(subject.picture(one))
            value = self._by(replace(subject.seen, x=on_host(one), picture=picture))
            found.append(abs(value) if self._by.better == "zero" else value)
        return found


def target_of(target: SamplerLike, *, own: Times | None = None) -> Target:
    """Return a target, whatever form it was given in.

    Args:
        target: "ode"; the name of a measure, see `study.measures.get_measure`; or a sampler in any form of
            `get_scheduler`.
        own: The model's times, over which a sampler that names none runs; None is `timesteps.pid()`.

    Raises:
        PidSamplerError: The target is none of these; the measure has no direction, or compares with the ODE's solution;
            the sampler draws noise, asks two networks, or does not end at 0.
    """
    if isinstance(target, str) and target == ODE:
        return Run(ODE, None)
    if (measure := _measure(target)) is not None:
        if "converged" in measure.needs:
            raise ConfigError(f"the measure {measure.name!r} compares with the ODE's solution: pass target='ode'")
        if not measure.better:
            raise ConfigError(f"the measure {measure.name!r} is neither good nor bad where it is high: choose another")
        return Measured(measure, code_of(target))
    try:
        sampler = as_scheduler(target, own=own)
    except PidSamplerError as error:
        if isinstance(target, str) and target.replace("-", "").replace("_", "").isalnum():  # a name, of what is open
            known = [ODE, *MEASURES.names()]
            raise ConfigError(f"{unknown_name('target', target, known=known)}, or a sampler: {error}") from error
        raise
    name, table = sampler_name(sampler), as_table(sampler)
    if any(row.draws for row in table):
        raise ConfigError(
            f"the target {name} draws noise, which a sampler fitted to its results does not see, so that it would end "
            "at their blurred mean: pass one that draws none, such as with eta=0, or a measure"
        )
    if table.asks_both:
        raise ConfigError(f"the target {name} asks two networks, but one is fitted to: pass a sampler that asks one")
    if table.times[-1] != 0.0:
        raise ConfigError(f"the target {name} ends at the noise level {table.times[-1]!r}: pass one that ends at 0")
    return Run(name, sampler)


def _measure(target: Any) -> Measure | None:
    """The measure that a text names, if it names one."""
    if not isinstance(target, str):
        return None
    if MEASURES.knows(target):
        return MEASURES.find(target)
    parts = split_file(target)
    if parts is None or not parts[1].isidentifier():
        return None
    found = load_from_file(*parts, kind="measure or sampler")
    return found if isinstance(found, Measure) else None


def consistency(problem: Problem, held_out: Sequence[Judged], *, ends: Sequence[Array]) -> dict[str, Runs] | None:
    """Return how well results, reduced again, are their inputs: the measure of that name, in dB.

    Args:
        problem: The model.
        held_out: Runs with the solution of the ODE.
        ends: Where they end by what was learnt.

    Returns:
        Of "solution", "found" and "own", the model's own sampler over its own list; None where a result or an input is
        no picture, or the model has no sampler.
    """
    flights = [one.flight for one in held_out]
    if problem.sampler is None or not all(flight.subject.shows >= {"picture", "input"} for flight in flights):
        return None
    by = MEASURES.find("consistency")
    own = as_table(as_scheduler(problem.sampler, own=problem.own))
    if own.asks_both:
        return None
    results = {
        "solution": [one.end for one in held_out if isinstance(one, Ending)],
        "found": ends,
        "own": [flight.by(own) for flight in flights],
    }
    ones = [_Seen(flight, by) for flight in flights]
    return {name: judged(ones, of) for name, of in results.items()}
