"""A study made ready: its tables, its jobs, what results rest on, and what is known to fail."""

from __future__ import annotations

import glob
import hashlib
import json
from collections.abc import Callable, Iterator
from collections.abc import Set as AbstractSet
from contextlib import suppress
from functools import cache, cached_property
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from operator import methodcaller
from pathlib import Path
from typing import Any

from ..errors import ConfigError, PidSamplerError, missing_extra
from ..io import atomic, files, latents, pictures
from ..noise.coupling import NoiseFunction
from ..onnx.device import resolve_device
from ..plugins import split_file
from ..schedulers.registry import as_scheduler
from ..schedulers.spec import names_file, reference
from ..table import StepTable
from ..upscale.learnt import learnt_for, of_another_model
from ..values import instance
from .measures import Measure, get_measure
from .parts import Flow, Network
from .plan import Cell, Plan
from .store import NAME, RunKey
from .work import BASELINE, COSTS, StudyInput, StudyJob


class Preparation:
    """A study made ready: tables, errors, jobs."""

    def __init__(self, study: Plan, folder: Path) -> None:
        for package in ("scipy", "matplotlib"):  # the report's, which comes last: half a second to import
            if find_spec(package) is None:
                raise missing_extra(package, "study")
        self.study, self.folder = instance("study", study, kind=Plan, words="a Study"), folder
        self.measures = [get_measure(name) for name in study.chosen_measures()]
        names = [measure.name for measure in (*COSTS, *self.measures)]
        if twice := [name for name in names if names.count(name) > 1]:
            raise ConfigError(f"two measures are called {twice[0]!r}: leave one out, or rename it")
        self.tables: dict[str, tuple[StepTable, NoiseFunction | None]] = {}
        self.errors: dict[str, str] = {}
        self.runs = {cell.id: [(cell.id, *run) for run in study.runs(cell)] for cell in study.all_cells}
        for cell in study.all_cells:
            try:
                table, noise = study.table(cell)
                source = study.source(cell)
                if source is None:
                    self._check(study.model_path(cell))
                if table.times[-1] != 0.0 and not isinstance(source, Flow):
                    raise ConfigError(f"its table ends at noise level {table.times[-1]!r}, expected 0")
                if table.asks_both and source is None:
                    raise ConfigError("its rows guide toward a caption, and a study gives none: use a flow")
                self.tables[cell.id] = table, noise
            except PidSamplerError as error:
                self.errors[cell.id] = str(error)

    @cached_property
    def _check(self) -> Callable[[str], object]:
        """Raises where a model is not there; cells share models."""
        from ..onnx import check_model

        return cache(check_model)

    @cached_property
    def _hashes(self) -> Callable[[str], dict[str, str]]:
        """The SHA-256 of a model's files; cells share models."""
        from ..onnx import model_hashes

        return cache(model_hashes)

    @cached_property
    def elsewhere(self) -> dict[str, str]:
        """What is to be said of each cell whose table was learnt for another model, by the cell's id."""
        found = {}
        for cell in self.study.all_cells:
            table = self.tables[cell.id][0] if cell.id in self.tables else None
            if table is None or table.history is None:
                continue
            hashes = {} if self.study.source(cell) is not None else self._hashes(self.study.model_path(cell))
            text = of_another_model(learnt_for(table, hashes), f"the table of {cell.label}")
            if text is not None:
                found[cell.id] = text
        return found

    def problems(self) -> list[str]:
        """Return what is known to fail: cells, and measures that no run can have."""
        found = [f"{cell.label}: {self.errors[cell.id]}" for cell in self.study.all_cells if cell.id in self.errors]
        known = [self._has(cell) for cell in self.study.all_cells if cell.id not in self.errors]
        for measure in self.measures:
            lacks: list[list[str]] = [[need for need in measure.needs if need not in has] for has in known]
            missing = [module for module in measure.imports if find_spec(module.partition(".")[0]) is None]
            if missing:
                found.append(
                    f"measure {measure.name} needs {missing[0]}, which is not installed: install it, or leave it out"
                )
            elif lacks and all(lacks):
                needs = ", ".join(sorted(lacks, key=len)[0])
                found.append(f"measure {measure.name} needs {needs}, which no run has: {_REMEDIES.get(needs, _LEAVE)}")
        return found

    def _has(self, cell: Cell) -> set[str]:
        """The fields of the `Sample` that a cell's runs have."""
        source, truth, table = self.study.source(cell), self.study.truth, self.tables[cell.id][0]
        has = {"x"} | ({"flow"} if isinstance(source, Flow) else set())
        if not any(row.draws for row in table.rows):
            has.add("converged")
        if isinstance(source, Network):
            return has | ({"picture"} if source.shape[0] == 3 else set())
        if source is None:
            has |= {"picture"} | ({"reference"} if truth.reduce or truth.references is not None else set())
            if not all(map(_is_latent, self.study.images(cell).values())):
                has.add("input")
        return has

    def check_parts(self, processes: int | None, engine: str) -> None:
        """Check that the study's parts can go to other processes, where there are to be some.

        Raises:
            PidSamplerError: Some are objects, which only this process has.
        """
        own = [cell.settings["model"] for cell in self.study.all_cells if isinstance(self.study.source(cell), Network)]
        own += [measure.name for measure in self.study.chosen_measures() if isinstance(measure, Measure)]
        if own and (processes != 1 or engine != "local"):
            raise ConfigError(
                f"{own[0]} is an object of this process, which no other has: pass processes=1 and engine='local'"
            )

    def facts(self, device: str) -> dict[str, Any]:
        """Return what results rest on, by name."""
        study, digest = self.study, cache(_digest)  # cells share pictures
        used = {name: getattr(study.truth, name) for name in ("converged", "reduce", "references")}
        used["measures"] = [m.name for m in self.measures]
        facts: dict[str, Any] = {"choice of measures": used, "device": resolve_device(device).device}
        for package in ("pidsampler", "numpy", "onnxruntime", "scipy", "scikit-image", "flip-evaluator"):
            with suppress(PackageNotFoundError):
                facts[f"version of {package}"] = version(package)
        for cell in study.all_cells:
            own = [study.named(cell, "scheduler")]
            own += [name for key in ("scheduler", "timesteps") if names_file(name := cell.settings[key])]
            if cell.id in self.tables and any(each is not None for each in own):
                table = self.tables[cell.id][0].to_json()  # since the file may change
                facts[f"table of {cell.label}"] = hashlib.sha256(table.encode()).hexdigest()
            if (source := study.source(cell)) is not None:
                name = cell.settings["model"]
                if isinstance(source, Flow):
                    facts[f"flow {name}"] = study.flows.get(name) or _described(source)
                continue
            with suppress(PidSamplerError):  # that the model is not there is said of its cells
                facts[f"model {cell.settings['model']}"] = self._hashes(study.model_path(cell))
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
            if study.source(cell) is None:
                yield from Path(study.model_path(cell)).glob("*")
                yield from study.images(cell).values()
        if study.truth.references is not None:
            yield from (study.folder / study.truth.references).glob("*")
        yield from (Path(found[0]) for m in study.chosen_measures() if isinstance(m, str) and (found := split_file(m)))

    def described(self) -> Iterator[tuple[Cell, str | None, int | None, str | None]]:
        """Yield each cell with its scheduler, steps and table as text; and what stands for one where there is none."""
        yield Cell(settings={}, id=BASELINE, label="bicubic", axes={}), None, None, None
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
        preset = study.preset_cell
        first = dict(reversed(study.runs(preset)))  # image -> its first seed
        lacking = {image for image in first if (BASELINE, image, first[image]) not in done}
        jobs = []
        for (_, sigma, noise, image, seed), (cell, ids) in sorted(groups.items(), key=lambda group: group[0][0]):
            source = study.source(cell)
            path = None if source is not None else study.images(cell)[image]
            kept = {self.runs[cell][0][2] for cell in ids}
            baseline = image in lacking and seed == first[image] and cell.settings["model"] == preset.settings["model"]
            if baseline:
                lacking.remove(image)
            jobs.append(
                StudyJob(
                    input=StudyInput(
                        model=cell.settings["model"] if source is not None else study.model_path(cell),
                        source=source,
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
                    measures=tuple(study.chosen_measures()),
                    keep=study.report.pictures == "all" or seed in kept,
                    folder=self.folder,
                    baseline=baseline,
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


def _digest(file: Path) -> str:
    with files.opened(file) as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def _is_latent(path: Path) -> bool:
    return not pictures.is_picture(path) and latents.is_latent(path)


def _described(flow: Flow) -> dict[str, Any]:
    law = {name: getattr(flow.law, name).tolist() for name in ("means", "stds", "weights")}
    return {**law, "shape": list(flow.shape), "interval": list(flow.interval)}


_LEAVE = "leave the measure out"
_REMEDIES = {
    "reference": f"set reduce, or references, or {_LEAVE}",
    "converged": f"take a sampler that draws no noise, or {_LEAVE}",
    "flow": f"take a flow, or {_LEAVE}",
    "input": f"take pictures, or {_LEAVE}",
}
