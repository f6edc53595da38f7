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
from ..denoiser import GaussianMixture
from ..errors import ConfigError, PidSamplerError, unknown_name
from ..io.files import matching
from ..noise import NoiseFunction, with_noise
from ..noise.philox import check_seeds
from ..schedulers.registry import as_scheduler, without_list
from ..table import Scheduler, StepTable
from ..values import field, file_path, flag, instance, items, mapping, number, numbers, shown, word, words
from ..values import shape as shape_
from .settings import SETTINGS, whole_settings

# What is measured unless the study says what: by what there is to measure.
_OF_FLOWS = ("ode-distance", "wasserstein-1", "wasserstein-2", "mmd", "mean-error", "std-error", "kurtosis-error")
_OF_REFERENCES = ("psnr", "ssim", "flip")
_OF_PICTURES = ("consistency", "sharpness", "drift-l", "drift-a", "drift-b", "gamma-drift", "specks", "seams")
_FLOW_IMAGE = "law"  # what stands for an image where a closed-form flow is sampled
_FLOW_SHAPE = (3, 128, 256)
_MOST_CELLS, _MOST_RUNS = 10_000, 1_000_000  # a file of a few bytes can ask for more than anybody waits for
_FORM = ("shape", "interval")  # keys of a flow beside those of its law


def _shape(name: str, value: object) -> tuple[int, int, int]:
    found = shape_(name, value)
    if len(found) != 3 or found[0] != 3:
        raise ConfigError(f"{name}={shown(value)}, expected [3, height, width]")
    return found


def _interval(name: str, value: object) -> tuple[float, float]:
    found = numbers(name, value, low=0.0, high=1.0)
    if len(found) != 2 or found[0] <= found[1]:
        raise ConfigError(f"{name}={shown(value)}, expected two descending noise levels in 0..1")
    return found


@moved.keywords()
@attrs.frozen(kw_only=True)
class Flow:
    """A closed-form flow under a name of the study's, to be used as a model.

    Args:
        law: Distribution of each element, independent of the others.
        shape: (3, H, W): how many are drawn with a seed.
        interval: Noise levels to sample between. Every list of times is scaled to it; a run starts from the exact
            state there, and is compared with the exact one at its end. Methods keep their order only within t = 1 and
            0, where the velocity has no bounded derivatives.

    Raises:
        PidSamplerError: One is not as described.
    """

    law: GaussianMixture = field(instance, kind=GaussianMixture, words="a GaussianMixture")
    shape: tuple[int, int, int] = field(_shape)
    interval: tuple[float, float] = field(_interval, default=(1.0, 0.0))

    def at(self, t: float) -> GaussianMixture:
        """Return the law of the noisy elements at noise level t."""
        t = number("t", t, low=0.0, high=1.0)
        stds = np.hypot((1.0 - t) * self.law.stds, t)
        return GaussianMixture(((1.0 - t) * self.law.means).tolist(), stds.tolist(), self.law.weights.tolist())


@attrs.frozen(kw_only=True)
class Cell:
    """One choice of settings.

    Args:
        settings: Every setting of `SETTINGS`, with the name of the scheduler where that is the model's own.
        id: 12 hex digits, a function of the settings alone.
        label: The settings of the axes, short.
        axes: The text of each axis' setting.
    """

    settings: Mapping[str, Any]
    id: str
    label: str
    axes: Mapping[str, str]


@attrs.frozen(kw_only=True)
class Truth:
    """What results are compared with, beside the preset's.

    Args:
        converged: The spec that stands for the exact ODE solution of a network.
        reduce: The images are references: each is reduced by the model's scale first.
        references: Folder of high-resolution pictures of the images' names, or None.

    Raises:
        PidSamplerError: Both `reduce` and `references` are given, or a value is of a wrong kind.
    """

    converged: str = field(word, default="dpmpp-2m@uniform:64")
    reduce: bool = field(flag, default=False)
    references: str | None = field(word, optional=True, default=None)

    def __attrs_post_init__(self) -> None:
        if self.reduce and self.references is not None:
            raise ConfigError("reduce makes the images their own references: leave 'references' out, or reduce")


def _choice(name: str, value: object, *, choices: Sequence[str]) -> str:
    if (found := word(name, value)) not in choices:
        raise unknown_name(f"choice of {name}", found, known=choices)
    return found


@attrs.frozen(kw_only=True)
class ReportOptions:
    """What a report says and holds.

    Args:
        title: A word or two.
        question: The question to answer, one sentence.
        pictures: "first" keeps the pictures of each image's first seed, "all" those of every one.
        album: Megabytes of pictures in the report.

    Raises:
        PidSamplerError: There is no such choice of pictures, or a value is of a wrong kind.
    """

    title: str = field(word, default="study")
    question: str = field(word, default="")
    pictures: str = field(_choice, choices=("first", "all"), default="first")
    album: float = field(number, low=0.0, default=30.0)


def _settings(name: str, value: object) -> Mapping[str, Any]:
    found = mapping(name, value, words="settings by name")
    for key in found:
        if key not in SETTINGS:
            raise unknown_name("setting", key, known=SETTINGS)
    return copy.deepcopy(found)


def _axes(name: str, value: object) -> Mapping[str, Sequence[Any]]:
    found = _settings(name, value)
    for key, values in found.items():
        if isinstance(values, str | bytes) or not isinstance(values, Sequence) or not values:
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


@moved.bundles(truth=Truth, report=ReportOptions)
@attrs.frozen(kw_only=True, slots=False)
class Study:
    """A study, from a file by `read_study` or made in Python.

    A setting is one of: model (a bundled name, a folder, or one of `flows`), scheduler (a spec, "FILE.py:NAME" or
    "@FILE.json"; None for the model's own), timesteps (a list's name, such as "karras(rho=5)", "FILE.py:NAME", "@FILE",
    or a list of times; None for the model's own), steps, eta, noise, degrade_sigma, images (a pattern such as
    "photos/*.png", or a list of them) and seeds (how many, or a list). None has a caption: a model that takes one gets
    its null caption, or zeros, and no guidance.

    Args:
        preset: The settings that all is compared with; others are `SETTINGS`' own.
        axes: Setting -> the values that it takes.
        cells: "grid" for every combination; "one-at-a-time" from the preset; or a list of settings that differ from it.
        flows: Name -> {"means": .., "stds": .., "weights": .., "shape": .., "interval": ..}, see `Flow`.
        measures: Names, see `measures.MEASURES`, or "FILE.py:FUNCTION"; by default those that need no extra of theirs.
        truth: What results are compared with.
        report: What the report says and holds.
        folder: Base of relative paths.

    Raises:
        PidSamplerError: A name is unknown, a value is of a wrong kind, or there is nothing to compare.
    """

    preset: Mapping[str, Any] = field(_settings, default={})
    axes: Mapping[str, Sequence[Any]] = field(_axes, default={})
    cells: str | Sequence[Mapping[str, Any]] = field(_cells, default="grid")
    flows: Mapping[str, Mapping[str, Any]] = field(_flows_by_name, default={})
    measures: Sequence[str] | None = field(words, optional=True, default=None)
    truth: Truth = field(instance, kind=Truth, words="a Truth", default=Truth())
    report: ReportOptions = field(instance, kind=ReportOptions, words="a ReportOptions", default=ReportOptions())
    folder: Path = field(file_path, default=Path())

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
            chosen = [{**self.preset, name: v} for name, values in axes.items() for v in values if v != own[name]]
        cells = [self._cell(settings, list(names)) for settings in chosen]
        preset = self._cell(self.preset, list(names))
        return cells if preset.id in {cell.id for cell in cells} else [preset, *cells]

    @cached_property
    def preset_cell(self) -> Cell:
        """The cell that all others are compared with."""
        own = self._cell(self.preset, []).id
        return next(cell for cell in self.all_cells if cell.id == own)

    def _cell(self, changed: Mapping[str, Any], names: list[str]) -> Cell:
        settings = whole_settings(changed)
        if settings["scheduler"] is None:
            settings["scheduler"] = self._own_sampler(settings["model"])
        digest = hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()[:12]
        axes = {name: as_text(settings[name]) for name in names}
        label = ", ".join(text if name in ("scheduler", "model") else f"{name}={text}" for name, text in axes.items())
        return Cell(settings=settings, id=digest, label=label or "preset", axes=axes)

    def flow(self, cell: Cell) -> Flow | None:
        """Return the closed-form flow that a cell samples, or None where its model is a network."""
        return self._flows.get(_of(cell)["model"])

    @cached_property
    def _flows(self) -> dict[str, Flow]:
        return {name: _flow(name, values) for name, values in self.flows.items()}

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
        images = [_FLOW_IMAGE] if self.flow(cell) is not None else list(self.images(cell))
        return [(image, check_seeds(seed, 1)[0]) for image in images for seed in chosen]

    def scheduler(self, cell: Cell) -> Scheduler:
        """Return a cell's scheduler.

        Raises:
            PidSamplerError: A setting is not as described.
        """
        from ..onnx import model_manifest, model_tables

        s = _of(cell)
        number("degrade_sigma", s["degrade_sigma"], low=0.0, high=1.0)
        options = {} if s["eta"] is None else {"eta": s["eta"]}
        given = {"timesteps": s["timesteps"], "steps": s["steps"], "folder": self.folder, "options": options}
        if (flow := self.flow(cell)) is None:
            path = self.model_path(cell)
            given |= {"own": model_manifest(path).listed_timesteps, "tables": model_tables(path)}
        scheduler = as_scheduler(s["scheduler"], **given)
        if flow is None or flow.interval == (1.0, 0.0):
            return scheduler
        if (times := getattr(scheduler, "timesteps", None)) is None:
            raise ConfigError(f"{scheduler} has no timesteps that could be scaled to the interval {flow.interval}")
        first, last = flow.interval
        scaled = last + (first - last) * np.asarray(times)
        name = without_list(s["scheduler"])
        return as_scheduler(name, timesteps=scaled, folder=self.folder, partial=True, options=options)

    def table(self, cell: Cell) -> tuple[StepTable, NoiseFunction | None]:
        """Return a cell's table, for its model's prediction and with its noise, see `noise.with_noise`.

        Raises:
            PidSamplerError: A setting is not as described.
        """
        return with_noise(self.predicting(cell, self.scheduler(cell).table()), cell.settings["noise"])

    def predicting(self, cell: Cell, table: StepTable) -> StepTable:
        """Return a table for the prediction of a cell's model."""
        from ..onnx import model_manifest

        instance("table", table, kind=StepTable, words="a StepTable")
        prediction = None if self.flow(cell) is not None else model_manifest(self.model_path(cell)).prediction
        return table.predicting(prediction or "velocity")

    def model_path(self, cell: Cell) -> str:
        """Return a cell's model: a bundled name, or a folder's path."""
        return self._path(_of(cell)["model"])

    def _path(self, model: str) -> str:
        from ..onnx import bundled_models

        return str(model) if model in bundled_models() else str(self.folder / model)

    def _own_sampler(self, model: str) -> str:
        """The scheduler that a model runs by, so that a cell means the same wherever it is named."""
        from ..onnx import model_manifest
        from ..onnx.manifest import Manifest

        if model not in self._samplers:
            self._samplers[model] = Manifest().own_sampler
            if model not in self.flows:
                with suppress(PidSamplerError):  # what is wrong with the model is said of its cells
                    self._samplers[model] = model_manifest(self._path(model)).own_sampler
        return self._samplers[model]

    @cached_property
    def _samplers(self) -> dict[str, str]:
        return {}

    def measure_names(self) -> list[str]:
        """Return the measures' names, files' paths made whole."""
        if self.measures is not None:
            names = self.measures
        else:
            flows = [self.flow(cell) is not None for cell in self.all_cells]
            names = _OF_FLOWS if any(flows) else ()
            if not all(flows):
                names += (*(_OF_REFERENCES if self.truth.reduce or self.truth.references else ()), *_OF_PICTURES)
        return [str(self.folder / name) if ".py:" in name else name for name in names]


def _of(cell: Cell) -> Mapping[str, Any]:
    return instance("cell", cell, kind=Cell, words="a Cell").settings


def as_text(value: Any) -> str:
    """Return a setting's value as the report shows it."""
    if value is None:
        return "own"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value))
    return str(value)


def _flow(name: str, values: Mapping[str, Any]) -> Flow:
    known = ("means", "stds", "weights", *_FORM)
    for key in values:
        if key not in known:
            raise ConfigError(f"flow {name!r}: {unknown_name('key', key, known=known)}")
    try:
        law = GaussianMixture(values["means"], values["stds"], values.get("weights", [1.0] * len(values["means"])))
        return Flow(law=law, **{"shape": _FLOW_SHAPE, **{key: values[key] for key in _FORM if key in values}})
    except PidSamplerError as error:
        raise ConfigError(f"flow {name!r}: {error}") from error
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(f"flow {name!r} needs lists of numbers means, stds and weights: {error!r}") from error


__getattr__ = moved.names(__name__)
