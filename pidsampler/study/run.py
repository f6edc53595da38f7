"""Carrying a study out: what is still to do, who does it, and what is written down."""

from __future__ import annotations

import glob
import hashlib
import json
import math
import time
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import closing, suppress
from dataclasses import dataclass, replace
from functools import cache, partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from operator import methodcaller
from pathlib import Path
from typing import Any

from .. import moved
from ..errors import ConfigError, PidSamplerError, missing_extra
from ..io import atomic, files, latents, pictures
from ..jobs.base import MOST_WORKERS, check_engine
from ..jobs.run import outcomes
from ..noise.coupling import NoiseFunction
from ..onnx.device import resolve_device
from ..plugins import split_file
from ..schedulers.registry import as_scheduler
from ..schedulers.spec import names_file, reference
from ..table import StepTable
from ..values import callback, file_path, instance, whole
from .measures import get_measure
from .plan import Cell, Study
from .report.summary import report
from .shared import count_calls
from .store import NAME, RunKey, Store
from .work import COSTS, RunOutcome, StudyInput, StudyJob, StudyWorker


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
class Finished:
    """A study that was carried out.

    Args:
        report: Path of the report.
        runs: Number of runs.
        failed: Number of runs that failed.
        error: The first failure, with its cell; None if there is none.
    """

    report: Path
    runs: int
    failed: int
    error: str | None


@dataclass(frozen=True, kw_only=True)
class Estimate:
    """What a study will take.

    Args:
        cells: Number of cells.
        runs: Number of runs still to do.
        calls: Model calls that they take together.
        calls_alone: Model calls if nothing were shared.
        seconds: Estimated time.
        errors: Label of a cell -> why it cannot be run.
    """

    cells: int
    runs: int
    calls: int
    calls_alone: int
    seconds: float
    errors: dict[str, str]


@moved.keywords()
def run_study(
    study: Study,
    folder: str | Path,
    *,
    device: str = "auto",
    processes: int | None = 1,
    on_progress: Callable[[Progress], object] | None = None,
    engine: str = "local",
) -> Finished:
    """Carry a study out, or go on with one that was stopped, and write its report.

    Args:
        study: The study.
        folder: Output folder: study.sqlite, results.csv, tables, pictures, figures and report.html.
        device: "auto", "cpu" or "cuda".
        processes: Number of worker processes, each with a model of its own; None is one a slot, with Ray.
        on_progress: Called after each run.
        engine: "local" for this machine, or "ray" for a cluster, see `jobs.ray.cluster`.

    Raises:
        PidSamplerError: The study cannot begin or be written. A run that fails is a result, and the rest goes on.
    """
    for package in ("scipy", "matplotlib"):  # the report's, which comes last: half a second to import
        if find_spec(package) is None:
            raise missing_extra(package, "study")
    check_engine(engine)
    callback("on_progress", on_progress, takes="(progress)")
    processes = None if processes is None else whole("processes", processes, low=1, high=MOST_WORKERS)
    resolve_device(device)
    plan = _Preparation(study, file_path("folder", folder))
    if len(plan.errors) == len(study.all_cells):
        raise ConfigError(f"no cell can be run; the first: {next(iter(plan.errors.values()))}")
    files.check_outputs(plan.outputs(), inputs=plan.inputs())
    with closing(Store(plan.folder, plan.facts(device))) as store:
        for path in [plan.folder, *plan.folder.rglob("*/")]:  # of one that was killed
            atomic.remove_leftovers(path)
        store.describe(plan.described(), [*COSTS, *plan.measures])
        store.forget_failures()
        plan.write_tables()
        jobs = plan.jobs(store.done())
        for cell, error in plan.errors.items():
            for run in plan.runs[cell]:
                store.add(run, {}, error=error)
        calls, made = sum(count_calls(job.tables.values()) for job in jobs), 0
        found = outcomes(engine, partial(StudyWorker, device), jobs=jobs, device=device, count=processes)
        try:
            for outcome in found:
                store.add(outcome.run, outcome.values, error=outcome.error)
                made += outcome.calls
                if on_progress is not None:
                    on_progress(Progress(done=made, calls=calls, outcome=outcome))
        finally:
            found.close()
            store.write_csv([cell.id for cell in study.all_cells])
        path = report(study, store, measures=[*plan.measures, *COSTS])
        errors = store.errors()
        failed = [f"{cell.label}: {error}" for cell in study.all_cells for error in errors.get(cell.id, {}).values()]
        return Finished(
            report=path, runs=sum(map(len, plan.runs.values())), failed=len(failed), error=failed[0] if failed else None
        )


@moved.keywords()
def estimate(study: Study, folder: str | Path, *, device: str = "auto", processes: int = 1) -> Estimate:
    """Say what `run_study` with the same arguments would take; a run of each model is made three times, to time it.

    Raises:
        PidSamplerError: The study cannot begin.
    """
    processes = whole("processes", processes, low=1, high=MOST_WORKERS)
    resolve_device(device)
    plan = _Preparation(study, file_path("folder", folder))
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
        errors={cell.label: plan.errors[cell.id] for cell in study.all_cells if cell.id in plan.errors},
    )


def _timed(job: StudyJob, device: str, processes: int) -> tuple[float, float]:
    """Return seconds a model call and seconds a run beyond its calls, of an input of one pixel, with all at work."""
    cell = min(job.tables, key=lambda cell: len(job.tables[cell]))
    alone = replace(job, tables={cell: job.tables[cell]}, converged=None, keep=False)
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
    if job.input.flow is not None:
        return float(math.prod(job.input.flow.shape))
    assert job.input.path is not None
    if not pictures.is_picture(job.input.path) and latents.is_latent(job.input.path):
        return 1.0
    return float(math.prod(pictures.read(job.input.path).pixels.shape[:2]))


class _Preparation:
    """A study made ready: tables, errors, jobs."""

    def __init__(self, study: Study, folder: Path) -> None:
        self.study, self.folder = instance("study", study, kind=Study, words="a Study"), folder
        self.measures = [get_measure(name) for name in study.measure_names()]
        self.tables: dict[str, tuple[StepTable, NoiseFunction | None]] = {}
        self.errors: dict[str, str] = {}
        self.runs = {cell.id: [(cell.id, *run) for run in study.runs(cell)] for cell in study.all_cells}
        for cell in study.all_cells:
            try:
                table, noise = study.table(cell)
                if table.times[-1] != 0.0 and study.flow(cell) is None:
                    raise ConfigError(f"its table ends at noise level {table.times[-1]!r}, expected 0")
                if table.asks_both and study.flow(cell) is None:
                    raise ConfigError("its rows guide towards a caption, and a study gives none: use a flow")
                self.tables[cell.id] = table, noise
            except PidSamplerError as error:
                self.errors[cell.id] = str(error)

    def facts(self, device: str) -> dict[str, Any]:
        """Return what results rest on, by name."""
        from ..onnx import model_hashes

        study, hashes, digest = self.study, cache(model_hashes), cache(files.sha256)  # cells share models and pictures
        used = {name: getattr(study.truth, name) for name in ("converged", "reduce", "references")}
        used["measures"] = [m.name for m in self.measures]
        facts: dict[str, Any] = {"choice of measures": used, "device": resolve_device(device).device}
        for package in ("pidsampler", "numpy", "onnxruntime", "scipy", "scikit-image", "flip-evaluator"):
            with suppress(PackageNotFoundError):
                facts[f"version of {package}"] = version(package)
        for cell in study.all_cells:
            if cell.id in self.tables and any(names_file(cell.settings[name]) for name in ("scheduler", "timesteps")):
                table = self.tables[cell.id][0].to_json()  # since the file may change
                facts[f"table of {cell.label}"] = hashlib.sha256(table.encode()).hexdigest()
            if study.flow(cell) is not None:
                facts[f"flow {cell.settings['model']}"] = study.flows[cell.settings["model"]]
                continue
            with suppress(PidSamplerError):  # that the model is not there is said of its cells
                facts[f"model {cell.settings['model']}"] = hashes(study.model_path(cell))
            for name, path in study.images(cell).items():
                for kind, file in (("picture", path), ("reference", self._reference(path))):
                    if file is not None:
                        facts[f"{kind} {name}"] = digest(file)
        plain: dict[str, Any] = json.loads(json.dumps(facts))
        return plain

    def outputs(self) -> Iterator[Path]:
        """Yield what is there of the files that the study writes."""
        for name in ("*.csv", "table.*", "report.html", f"{NAME}*", "tables/*", "figures/*", "pictures/*/*"):
            yield from self.folder.glob(name)

    def inputs(self) -> Iterator[Path]:
        """Yield the files that the study reads: pictures, references, models, and those of samplers and measures."""
        study = self.study
        for cell in study.all_cells:
            for text in (cell.settings["scheduler"], cell.settings["timesteps"], study.truth.converged):
                if isinstance(text, str) and (file := reference(text) or (split_file(text) or (None,))[0]) is not None:
                    yield study.folder / file
            if study.flow(cell) is None:
                yield from Path(study.model_path(cell)).glob("*")
                yield from study.images(cell).values()
        if study.truth.references is not None:
            yield from (study.folder / study.truth.references).glob("*")
        yield from (Path(found[0]) for name in study.measure_names() if (found := split_file(name)) is not None)

    def described(self) -> Iterator[tuple[Cell, str | None, int | None, str | None]]:
        """Yield each cell with its scheduler, steps and table as text."""
        for cell in self.study.all_cells:
            if cell.id in self.errors:
                yield cell, None, None, None
            else:
                scheduler = self.study.scheduler(cell)
                steps = len(getattr(scheduler, "timesteps", self.tables[cell.id][0].times)) - 1
                yield cell, str(scheduler), steps, self.tables[cell.id][0].to_json()

    def write_tables(self) -> None:
        """Write the tables as files that `StepTable.from_json` reads."""
        folder = self.folder / "tables"
        folder.mkdir(exist_ok=True)
        for cell, (table, _) in self.tables.items():
            write = methodcaller("write", table.to_json(indent=1).encode())
            atomic.place(folder / f"{cell}.json", write, overwrite=True)

    def jobs(self, done: AbstractSet[RunKey]) -> list[StudyJob]:
        """Return the jobs of all runs that are not done, those of one model after one another."""
        study = self.study
        needs = {need for measure in self.measures for need in measure.needs}
        groups: dict[tuple[Any, ...], tuple[Cell, list[str]]] = {}
        for cell in study.all_cells:
            if cell.id in self.errors:
                continue
            for run in self.runs[cell.id]:
                if run not in done:
                    noise = self.tables[cell.id][1]
                    shared = (cell.settings["model"], float(cell.settings["degrade_sigma"]), noise, *run[1:])
                    groups.setdefault(shared, (cell, []))[1].append(cell.id)
        jobs = []
        for (_, sigma, noise, image, seed), (cell, ids) in sorted(groups.items(), key=lambda group: group[0][0]):
            flow = study.flow(cell)
            path = None if flow is not None else study.images(cell)[image]
            first = {self.runs[cell][0][2] for cell in ids}
            jobs.append(
                StudyJob(
                    input=StudyInput(
                        model=cell.settings["model"] if flow is not None else study.model_path(cell),
                        flow=flow,
                        image=image,
                        path=path,
                        seed=seed,
                        degrade_sigma=sigma,
                        noise=noise,
                        reduce=study.truth.reduce,
                        reference=None if path is None else self._reference(path),
                    ),
                    tables={cell: self.tables[cell][0] for cell in ids},
                    converged=self._converged(cell) if "converged" in needs else None,
                    measures=tuple(study.measure_names()),
                    keep=study.report.pictures == "all" or seed in first,
                    folder=self.folder,
                )
            )
        return jobs

    def _converged(self, cell: Cell) -> StepTable:
        converged = as_scheduler(self.study.truth.converged, folder=self.study.folder)
        return self.study.predicting(cell, converged.table())

    def _reference(self, path: Path) -> Path | None:
        """The reference of a picture, by its name."""
        references = self.study.truth.references
        if references is None:
            return None
        found = sorted((self.study.folder / references).glob(f"{glob.escape(path.stem)}.*"))
        if len(found) != 1:
            raise ConfigError(f"{references} holds {len(found)} references named {path.stem}, expected 1")
        return found[0]
