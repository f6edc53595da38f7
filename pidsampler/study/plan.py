"""What a study compares: a preset of settings, axes that vary, and the cells that come of them."""

from __future__ import annotations

import copy
import hashlib
import itertools
import json
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import numpy as np

from .. import moved
from ..errors import ConfigError, PidSamplerError, unknown_name
from ..io.files import matching
from ..noise import NoiseFunction, with_noise
from ..noise.philox import check_seeds
from ..schedulers.making import is_made, sampler_name
from ..schedulers.registry import as_scheduler, without_list
from ..table import Scheduler, StepTable
from ..values import field, file_path, instance, items, mapping, number, shown, word
from .measures import Measure
from .parts import Flow, Network, ReportOptions, Truth, flow_of
from .settings import SETTINGS, whole_settings

# What is measured unless the study says what: by what there is to measure.
_OF_FLOWS = ("ode-distance", "wasserstein-1", "wasserstein-2", "mmd", "mean-error", "std-error", "kurtosis-error")
_OF_REFERENCES = ("psnr", "ssim", "flip")
_OF_PICTURES = ("consistency", "sharpness", "drift-l", "drift-a", "drift-b", "gamma-drift", "specks", "seams")
_NO_IMAGE = {Flow: "law", Network: "noise"}  # what stands for an image where there is none
_MOST_CELLS, _MOST_RUNS = 10_000, 1_000_000  # a file of a few bytes can ask for more than anybody waits for


@attrs.frozen(kw_only=True)
class Cell:
    """One choice of settings.

    Args:
        settings: Every setting of `SETTINGS`, with the name of the scheduler where that is the model's own.
        id: Name of 12 hex digits, a function of the settings alone.
        label: The settings of the axes, short.
        axes: The text of each axis' setting.
    """

    settings: Mapping[str, Any]
    id: str
    label: str
    axes: Mapping[str, str]


@attrs.frozen
class _Named:
    """A value of an axis with the name that the user gave it."""

    name: str
    value: Any


_OF_OBJECTS = ("model", "scheduler")  # settings that may be objects


def _settings(name: str, value: object) -> dict[str, Any]:
    found = mapping(name, value, words="settings by name")
    for key in found:
        if key not in SETTINGS:
            raise unknown_name("setting", key, known=SETTINGS)
    return {key: _copied(setting) for key, setting in found.items()}


def _copied(value: Any, depth: int = 2) -> Any:
    """A list as another one, of the same objects; numpy's numbers as Python's."""
    if isinstance(value, np.ndarray | np.generic):
        return value.tolist()
    return [_copied(v, depth - 1) for v in value] if isinstance(value, list | tuple) and depth else value


def _axes(name: str, value: object) -> Mapping[str, Sequence[Any]]:
    found = _settings(name, value)
    for key, values in found.items():
        if isinstance(values, Mapping) and values and key in _OF_OBJECTS:
            found[key] = [_Named(word(key, name), value) for name, value in values.items()]
        elif isinstance(values, str | bytes) or not isinstance(values, Sequence) or not values:
            raise ConfigError(f"axis {key!r} is {shown(values)}, expected a list of the values to compare")
    return found


def _cells(name: str, value: object) -> str | Sequence[Mapping[str, Any]]:
    if not isinstance(value, str):
        return tuple(_settings(name, cell) for cell in items(name, value, words="settings"))
    if value not in ("grid", "one-at-a-time"):
        raise unknown_name("choice of cells", value, known=("grid", "one-at-a-time", "a list of settings"))
    return value


def _flows_by_name(name: str, value: object) -> Mapping[str, Mapping[str, Any]]:
    found = mapping(name, value, words="flows by name")
    return {word(name, key): copy.deepcopy(mapping(key, flow, words="values")) for key, flow in found.items()}


def _measures(name: str, value: object) -> tuple[str | Measure, ...]:
    found = items(name, value, words="measures")
    return tuple(each if isinstance(each, Measure) else word("measure", each) for each in found)


@attrs.frozen(kw_only=True, slots=False)
class Plan:
    """What a study compares, and with what: see `Study`, which can be run.

    The settings are model, scheduler, timesteps, steps, eta, noise, degrade_sigma, images and seeds:

    - model: a bundled name, a folder, one of `flows`, a `Flow` or a `Network`.
    - scheduler: a spec, "FILE.py:NAME", "@FILE.json", or a scheduler, table or class. None is the model's own.
    - timesteps: a list's name such as "karras(rho=5)", "FILE.py:NAME", "@FILE", or times. None is the model's own.
    - images: a pattern such as "photos/*.png", or a list of them.
    - seeds: how many, or a list.

    No run has a caption: a model that takes one gets its null caption, or zeros, and no guidance.

    Args:
        preset: The settings that all is compared with; others are `SETTINGS`' own.
        axes: Setting -> the values that it takes: a list, or for model and scheduler also a mapping from names.
        cells: "grid" for every combination; "one-at-a-time" from the preset; or a list of settings that differ from it.
        flows: Name -> {"means": .., "stds": .., "weights": .., "shape": .., "interval": ..}, see `Flow`.
        measures: Names, see `measures.MEASURES`, "FILE.py:FUNCTION", or what `measures.measure` makes of a function; by
            default those that need no extra of theirs.
        truth: What results are compared with.
        report: What the report says and holds.
        folder: Base of relative paths.
        file: The text of the study's file, for its report; None where it was made in Python.

    Raises:
        PidSamplerError: A name is unknown, a value is of a wrong kind, or there is nothing to compare.
    """

    preset: Mapping[str, Any] = field(_settings, default={})
    axes: Mapping[str, Sequence[Any]] = field(_axes, default={})
    cells: str | Sequence[Mapping[str, Any]] = field(_cells, default="grid")
    flows: Mapping[str, Mapping[str, Any]] = field(_flows_by_name, default={})
    measures: Sequence[str | Measure] | None = field(_measures, optional=True, default=None)
    truth: Truth = field(instance, kind=Truth, words="a Truth", default=Truth())
    report: ReportOptions = field(instance, kind=ReportOptions, words="a ReportOptions", default=ReportOptions())
    folder: Path = field(file_path, default=Path())
    file: str | None = field(word, optional=True, default=None)

    def __attrs_post_init__(self) -> None:
        ids = Counter(cell.id for cell in self.all_cells)
        if twice := [cell.label for cell in self.all_cells if ids[cell.id] > 1]:
            raise ConfigError(f"the cell {twice[0]!r} occurs twice: leave one out")
        seeds = [n if isinstance(n := cell.settings["seeds"], int) else len(n) for cell in self.all_cells]
        if sum(seeds) > _MOST_RUNS:
            raise ConfigError(f"it has {sum(seeds)} runs of one image, expected at most {_MOST_RUNS}: take fewer seeds")
        if not all(map(self.runs, self.all_cells)):
            raise ConfigError("there are no images: set preset.images to a pattern such as 'photos/*.png'")

    @cached_property
    def all_cells(self) -> list[Cell]:
        """Every cell, the preset's among them: first, unless the grid holds it elsewhere."""
        axes = self.axes
        names = dict.fromkeys(axes if isinstance(self.cells, str) else itertools.chain(*self.cells))
        sizes = [len(values) for values in axes.values()]
        count = len(self.cells) if not isinstance(self.cells, str) else sum(sizes)
        count = math.prod(sizes) if self.cells == "grid" else count
        if count > _MOST_CELLS:
            raise ConfigError(f"it has {count} cells, expected at most {_MOST_CELLS}: leave values or an axis out")
        if not isinstance(self.cells, str):
            chosen = [{**self.preset, **cell} for cell in self.cells]
        elif self.cells == "grid":
            chosen = [
                {**self.preset, **dict(zip(axes, values, strict=True))} for values in itertools.product(*axes.values())
            ]
        else:
            own = self._cell(self.preset, []).settings
            chosen = [
                {**self.preset, name: v}
                for name, values in axes.items()
                for v in values
                if self._plain(name, v) != own[name]
            ]
        cells = [self._cell(settings, list(names)) for settings in chosen]
        preset = self._cell(self.preset, list(names))
        return cells if preset.id in {cell.id for cell in cells} else [preset, *cells]

    @cached_property
    def preset_cell(self) -> Cell:
        """The cell that all others are compared with."""
        own = self._cell(self.preset, []).id
        return next(cell for cell in self.all_cells if cell.id == own)

    def _cell(self, changed: Mapping[str, Any], names: list[str]) -> Cell:
        settings = whole_settings({name: self._plain(name, value) for name, value in changed.items()})
        if settings["scheduler"] is None:
            settings["scheduler"] = self._own_sampler(settings["model"])
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
        axes = {name: as_text(settings[name]) for name in names}
        label = ", ".join(text if name in ("scheduler", "model") else f"{name}={text}" for name, text in axes.items())
        return Cell(settings=settings, id=digest, label=label or "preset", axes=axes)

    def _plain(self, setting: str, value: Any) -> Any:
        """A setting's value, or the name of an object, which is kept by it."""
        if isinstance(value, _Named):
            name, value = value.name, value.value
        elif setting not in _OF_OBJECTS or value is None or isinstance(value, str):
            return value
        elif setting == "scheduler" and (is_made(value) or callable(value)):
            name = sampler_name(value)
        elif setting == "model" and isinstance(value, Flow | Network):
            name = getattr(value, "name", None) or _title(getattr(value, "net", value))
        else:
            return value  # and refused
        held = self._objects.setdefault((setting, name), value)
        if held is not value and not (type(held) is type(value) and held == value):
            raise ConfigError(
                f"two values of {setting} are both called {name!r}: give names, as in axes={{{setting!r}: "
                "{'one': ..., 'two': ...}}"
            )
        return name

    @cached_property
    def _objects(self) -> dict[tuple[str, str], Any]:
        """The values of settings that have a name here, by setting and name."""
        return {("model", name): flow_of(name, values) for name, values in self.flows.items()}

    def named(self, cell: Cell, setting: str) -> Any:
        """Return what the name in a cell's setting stands for in this study, or None where it is no such name.

        Raises:
            PidSamplerError: The setting is no text.
        """
        return self._objects.get((word("setting", setting), str(_of(cell)[setting])))

    def source(self, cell: Cell) -> Flow | Network | None:
        """Return what a cell samples without an image, or None where its model is a folder's."""
        found = self.named(cell, "model")
        return found if isinstance(found, Flow | Network) else None

    def flow(self, cell: Cell) -> Flow | None:
        """Return the closed-form flow that a cell samples, or None where its model is a network."""
        found = self.source(cell)
        return found if isinstance(found, Flow) else None

    def images(self, cell: Cell) -> dict[str, Path]:
        """Return the pictures of a cell by name.

        Raises:
            PidSamplerError: There is no such file, or two have one name.
        """
        patterns = _of(cell)["images"]
        found: dict[str, Path] = {}
        for pattern in [patterns] if isinstance(patterns, str) else patterns:
            whole = self.folder / pattern
            paths = matching(whole)
            if not paths or not all(path.is_file() for path in paths):
                raise ConfigError(f"no picture {str(whole)!r}: pass a file, or a pattern of some")
            for path in paths:
                if found.setdefault(path.stem, path) != path:
                    raise ConfigError(f"{found[path.stem]} and {path} are both named {path.stem!r}: rename one")
        return found

    def runs(self, cell: Cell) -> list[tuple[str, int]]:
        """Return the (image, seed) pairs of a cell, all seeds of an image after one another."""
        seeds = _of(cell)["seeds"]
        chosen = range(seeds) if isinstance(seeds, int) else seeds
        source = self.source(cell)
        images = list(self.images(cell)) if source is None else [_NO_IMAGE[type(source)]]
        return [(image, check_seeds(seed, 1)[0]) for image in images for seed in chosen]

    def scheduler(self, cell: Cell) -> Scheduler:
        """Return a cell's scheduler.

        Raises:
            PidSamplerError: A setting is not as described.
        """
        from ..onnx import model_manifest, model_tables

        s = _of(cell)
        number("degrade_sigma", s["degrade_sigma"], low=0.0, high=1.0)
        sampler = s["scheduler"] if (named := self.named(cell, "scheduler")) is None else named
        options = {} if s["eta"] is None else {"eta": s["eta"]}
        given = {"timesteps": s["timesteps"], "steps": s["steps"], "folder": self.folder, "options": options}
        if not self.source(cell):
            path = self.model_path(cell)
            given |= {"own": model_manifest(path).listed_timesteps, "tables": model_tables(path)}
        scheduler = as_scheduler(sampler, **given)
        flow = self.flow(cell)
        if flow is None or flow.interval == (1.0, 0.0):
            return scheduler
        times = getattr(scheduler, "timesteps", None)
        if times is None or (not isinstance(sampler, str) and is_made(sampler)):
            raise ConfigError(
                f"{sampler_name(sampler)} has no timesteps that could be scaled to the interval {flow.interval}"
            )
        first, last = flow.interval
        scaled = last + (first - last) * np.asarray(times)
        method = without_list(sampler) if isinstance(sampler, str) else sampler
        return as_scheduler(method, timesteps=scaled, folder=self.folder, partial=True, options=options)

    def table(self, cell: Cell) -> tuple[StepTable, NoiseFunction | None]:
        """Return a cell's table, for its model's prediction and with its noise, see `noise.with_noise`.

        Raises:
            PidSamplerError: A setting is not as described.
        """
        return with_noise(self.predicting(cell, self.scheduler(cell).table()), cell.settings["noise"])

    def predicting(self, cell: Cell, table: StepTable) -> StepTable:
        """Return a table for the prediction of a cell's model.

        Raises:
            PidSamplerError: The table is no `StepTable`, or the model's manifest is not valid.
        """
        from ..onnx import model_manifest

        instance("table", table, kind=StepTable, words="a StepTable")
        source = self.source(cell)
        if source is None:
            return table.predicting(model_manifest(self.model_path(cell)).prediction or "velocity")
        return table.predicting(getattr(source, "prediction", "velocity"))

    def model_path(self, cell: Cell) -> str:
        """Return a cell's model: a bundled name, or a folder's path."""
        return self._path(_of(cell)["model"])

    def _path(self, model: str) -> str:
        from ..onnx import bundled_models

        held = self._objects.get(("model", model))
        model = held if isinstance(held, str) else model
        return str(model) if model in bundled_models() else str(self.folder / model)

    def _own_sampler(self, model: str) -> str:
        """The scheduler that a model runs by, so that a cell means the same wherever it is named."""
        from ..onnx import model_manifest
        from ..onnx.manifest import Manifest

        if model not in self._samplers:
            self._samplers[model] = Manifest().own_sampler
            if not isinstance(self._objects.get(("model", model)), Flow | Network):
                with suppress(PidSamplerError):  # what is wrong with the model is said of its cells
                    self._samplers[model] = model_manifest(self._path(model)).own_sampler
        return self._samplers[model]

    @cached_property
    def _samplers(self) -> dict[str, str]:
        return {}

    def chosen_measures(self) -> list[str | Measure]:
        """Return the measures, or their names, with files' paths made whole."""
        if self.measures is not None:
            chosen = self.measures
        else:
            sources = [self.source(cell) for cell in self.all_cells]
            chosen = _OF_FLOWS if any(isinstance(source, Flow) for source in sources) else ()
            if any(isinstance(source, Network) for source in sources) and not chosen:
                chosen = _OF_FLOWS[:1]
            if not all(sources):
                chosen += (*(_OF_REFERENCES if self.truth.reduce or self.truth.references else ()), *_OF_PICTURES)
        return [str(self.folder / m) if isinstance(m, str) and ".py:" in m else m for m in chosen]


def _of(cell: Cell) -> Mapping[str, Any]:
    return instance("cell", cell, kind=Cell, words="a Cell").settings


def _title(thing: object) -> str:
    """The name of a function or class, or of the class of an object."""
    return str(getattr(thing, "__name__", type(thing).__name__))


def as_text(value: Any) -> str:
    """Return a setting's value as the report shows it."""
    if value is None:
        return "own"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


__getattr__ = moved.names(__name__)
