"""A study that can be run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import attrs

from .. import moved
from .parts import ReportOptions, Truth
from .plan import Plan
from .results import Results
from .run import Estimate, Progress, estimate, run_study


@moved.bundles(truth=Truth, report=ReportOptions)
@attrs.frozen(kw_only=True, slots=False)
class Study(Plan):
    """A study, from a file by `read_study` or made in Python. Its arguments are those of `Plan`.

    Raises:
        PidSamplerError: A name is unknown, a value is of a wrong kind, or there is nothing to compare.
    """

    def run(
        self,
        folder: str | Path,
        *,
        device: str = "auto",
        processes: int | None = 1,
        on_progress: Callable[[Progress], object] | None = None,
        engine: str = "local",
    ) -> Results:
        """Carry it out, or go on where it was stopped, and write its report; see `run.run_study`.

        Args:
            folder: Output folder.
            device: "auto", "cpu" or "cuda".
            processes: Number of worker processes; None is one a slot, with Ray.
            on_progress: Function called after each run.
            engine: "local" for this machine, or "ray" for a cluster.

        Returns:
            All runs with their measures.

        Raises:
            PidSamplerError: The study cannot begin or be written. A run or a measure that fails is a result.
        """
        return run_study(self, folder, device=device, processes=processes, on_progress=on_progress, engine=engine)

    def estimate(self, folder: str | Path, *, device: str = "auto", processes: int = 1) -> Estimate:
        """Say what a run would take, and what is known to fail; see `run.estimate`.

        Args:
            folder: Output folder.
            device: "auto", "cpu" or "cuda".
            processes: Number of worker processes.

        Returns:
            Runs, time, and what is known to fail.

        Raises:
            PidSamplerError: The study cannot begin.
        """
        return estimate(self, folder, device=device, processes=processes)
