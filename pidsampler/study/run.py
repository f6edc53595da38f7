"""Carrying a study out: what is still to do, who does it, and what is written down."""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from .. import moved
from ..errors import ConfigError, PidSamplerWarning
from ..io import atomic, files, latents, pictures
from ..jobs.base import MOST_WORKERS, check_engine
from ..jobs.run import outcomes
from ..onnx.device import resolve_device
from ..values import callback, file_path, whole
from .plan import Plan
from .prepare import Preparation
from .report.summary import report
from .results import Results, load
from .shared import count_calls
from .store import Store, check_folder
from .work import BASELINE, COSTS, RunOutcome, StudyJob, StudyWorker

_SAID = 5  # lines of what is known to fail, in a warning; the report has all


@dataclass(frozen=True, kw_only=True)
class Progress:
    """How far a study is.

    Args:
        done: Model calls made so far.
        calls: Model calls to be made in all.
        outcome: The last run's outcome.
    """

    done: int
    calls: int
    outcome: RunOutcome


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a study will take.

    Args:
        cells: Number of cells.
        runs: Number of runs still to do.
        calls: Model calls that they take together.
        calls_alone: Model calls if nothing were shared.
        seconds: Estimated time.
        problems: What is known to fail, a line each: cells, and measures that no run can have.
    """

    cells: int
    runs: int
    calls: int
    calls_alone: int
    seconds: float
    problems: list[str]


@moved.keywords()
def run_study(
    study: Plan,
    folder: str | Path,
    *,
    device: str = "auto",
    processes: int | None = 1,
    on_progress: Callable[[Progress], object] | None = None,
    engine: str = "local",
) -> Results:
    """Carry a study out, or go on with one that was stopped, and write its report.

    What is known to fail is warned of before the first run.

    Args:
        study: The study.
        folder: Output folder: study.sqlite, results.csv, tables, pictures, figures and report.html.
        device: "auto", "cpu" or "cuda".
        processes: Number of worker processes, each with a model of its own; None is one a slot, with Ray.
        on_progress: Called after each run.
        engine: "local" for this machine, or "ray" for a cluster, see `jobs.ray.cluster`.

    Returns:
        All runs with their measures.

    Raises:
        PidSamplerError: The study cannot begin or be written. A run or a measure that fails is a result, and the rest
            goes on.
    """
    check_engine(engine)
    callback("on_progress", on_progress, takes="(progress)")
    processes = None if processes is None else whole("processes", processes, low=1, high=MOST_WORKERS)
    resolve_device(device)
    plan = Preparation(study, file_path("folder", folder))
    plan.check_parts(processes, engine)
    if len(plan.errors) == len(study.all_cells):
        raise ConfigError(f"no cell can be run; the first: {next(iter(plan.errors.values()))}")
    files.check_outputs(plan.outputs(), inputs=plan.inputs())
    with closing(Store(plan.folder, plan.facts(device))) as store:
        if known := plan.problems():
            more = f"; and {len(known) - _SAID} more" if len(known) > _SAID else ""
            warnings.warn(f"known to fail: {'; '.join(known[:_SAID])}{more}", PidSamplerWarning, stacklevel=3)
        for text in plan.elsewhere.values():
            warnings.warn(text, PidSamplerWarning, stacklevel=3)
        for path in [plan.folder, *plan.folder.rglob("*/")]:  # of one that was killed
            atomic.remove_leftovers(path)
        store.describe(plan.described(), [*COSTS, *plan.measures])
        store.forget_failures()
        plan.write_tables()
        jobs = plan.jobs(store.done())
        for cell, error in plan.errors.items():
            for run in plan.runs[cell]:
                store.add(run, {}, error=error)
        if jobs:
            store.note_session(_session(device, processes))
        calls, made = sum(count_calls(job.tables.values()) for job in jobs), 0
        found = outcomes(engine, partial(StudyWorker, device), jobs=jobs, device=device, count=processes)
        try:
            for outcome in found:
                store.add(outcome.run, outcome.values, error=outcome.error, gaps=outcome.gaps)
                made += outcome.calls
                if on_progress is not None and outcome.run[0] != BASELINE:
                    on_progress(Progress(done=made, calls=calls, outcome=outcome))
        finally:
            found.close()
            store.write_csv([cell.id for cell in study.all_cells])
        report(study, store, measures=[*plan.measures, *COSTS], known=known, elsewhere=plan.elsewhere)
        store.end()
    return load(plan.folder)


@moved.keywords()
def estimate(study: Plan, folder: str | Path, *, device: str = "auto", processes: int = 1) -> Estimate:
    """Say what `run_study` with the same arguments would take; a run of each model is made three times, to time it.

    Args:
        study: Study to time.
        folder: Output folder.
        device: "auto", "cpu" or "cuda".
        processes: Number of worker processes.

    Returns:
        Runs, time, and what is known to fail.

    Raises:
        PidSamplerError: The study cannot begin.
    """
    processes = whole("processes", processes, low=1, high=MOST_WORKERS)
    resolve_device(device)
    plan = Preparation(study, file_path("folder", folder))
    plan.check_parts(processes, "local")
    check_folder(plan.folder)
    done = Store.peek(plan.folder)
    jobs = plan.jobs(done)
    per_model, seconds = dict[str, tuple[float, float]](), 0.0
    for job in jobs:
        if job.input.model not in per_model:
            per_model[job.input.model] = _timed(job, device, processes)
        of_call, of_run = per_model[job.input.model]
        calls = count_calls(job.tables.values()) + (len(job.converged) if job.converged is not None else 0)
        seconds += _size(job) * (calls * of_call + len(job.tables) * of_run)
    tables = [table for job in jobs for table in job.tables.values()]
    return Estimate(
        cells=len(study.all_cells),
        runs=len(tables),
        calls=sum(count_calls(job.tables.values()) for job in jobs),
        calls_alone=sum(map(len, tables)),
        seconds=seconds / processes,
        problems=plan.problems(),
    )


def _session(device: str, processes: int | None) -> dict[str, str]:
    """What the report says of this call: device, cores, date, commit and workers."""
    from ..bench.rows import machine

    found = machine(resolve_device(device))
    digits, *dirty = found["commit"].split("-")
    commit = "-".join([digits[:12], *dirty])
    kept = {name: found[name] for name in ("device", "cores", "date")}
    return {**kept, "commit": commit, "workers": "one a slot" if processes is None else str(processes)}


def _timed(job: StudyJob, device: str, processes: int) -> tuple[float, float]:
    """Return seconds a model call and seconds a run beyond its calls, of an input of one pixel, with all at work."""
    cell = min(job.tables, key=lambda cell: len(job.tables[cell]))
    alone = replace(job, tables={cell: job.tables[cell]}, converged=None, keep=False, baseline=False)
    ends, calls = [], 0.0
    for outcome in outcomes(
        "local", partial(StudyWorker, device), jobs=[alone] * (3 * processes), device=device, count=processes
    ):
        if outcome.error is not None:
            return 0.0, 0.0
        ends.append(time.perf_counter())
        calls = outcome.values["calls"] * (outcome.values["network"] + outcome.values["sampler"]) / 1e3
    whole = (ends[-1] - ends[processes - 1]) / 2.0  # each process loads the model in its first run
    return calls / len(job.tables[cell]) / _size(job), max(0.0, whole - calls) / _size(job)


def _size(job: StudyJob) -> float:
    """Pixels of the input; a latent counts as one."""
    if job.input.source is not None:
        return float(math.prod(job.input.source.shape))
    assert job.input.path is not None
    if not pictures.is_picture(job.input.path) and latents.is_latent(job.input.path):
        return 1.0
    return float(math.prod(pictures.read(job.input.path).pixels.shape[:2]))


__getattr__ = moved.names(__name__)
