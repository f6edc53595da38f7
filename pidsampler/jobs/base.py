"""Jobs and workers: what every pool of workers asks of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, Protocol, Self

from ..values import word

ENGINES = ("local", "ray")
MOST_WORKERS = 4096  # each loads a model of its own


class Job(Protocol):
    """What a worker does in one go; it is pickled on its way there."""

    def lost(self, got: Sequence[Any], why: str) -> tuple[list[Any], list[Self]]:
        """Say what to do when its worker died: the outcomes that are given up, and the jobs that try the rest again.

        Args:
            got: Outcomes that it gave before.
            why: How the worker died, one line.
        """
        ...


class Worker(Protocol):
    """Does jobs, and keeps between them what is slow to load; what fails is an outcome, not an exception."""

    def run(self, job: Any) -> Iterable[Any]:
        """Do a job."""
        ...


def check_engine(engine: str) -> None:
    """Check the name of an engine.

    Raises:
        PidSamplerError: There is no such engine.
    """
    word("engine", engine, choices=ENGINES)
