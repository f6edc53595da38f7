"""Logging a study to trackio while it runs: a project for the study, a run for each cell, a step for each result."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import optional
from ..values import instance
from .plan import Plan
from .run import Progress


@contextmanager
def trackio_log(study: Plan) -> Iterator[Callable[[Progress], None]]:
    """Yield what to pass as `on_progress` of the study's run; on leaving, what was logged is written out.

    trackio keeps it on this machine unless its own settings say otherwise, such as TRACKIO_SPACE_ID.

    Raises:
        PidSamplerError: trackio is not installed.
    """
    instance("study", study, kind=Plan, words="a Study")
    trackio = optional("trackio", "trackio", extra="log")
    cells = {cell.id: cell for cell in study.all_cells}
    runs: dict[str, Any] = {}

    def log(progress: Progress) -> None:
        outcome = progress.outcome
        cell = cells[outcome.run[0]]
        if cell.id not in runs:
            project, name = study.report.title, f"{cell.label} {cell.id}"
            config = dict(cell.settings)
            runs[cell.id] = trackio.init(project, name=name, config=config, resume="allow", embed=False)
        _, image, seed = outcome.run
        told = {} if outcome.error is None else {"error": outcome.error}
        runs[cell.id].log({**outcome.values, **told, "image": image, "seed": seed})

    try:
        yield log
    finally:
        for run in runs.values():
            run.finish()
