"""What a worker does: all cells that share a model, a latent, an initial noise, on one image with one seed."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import moved
from ..backends import Backend
from ..denoiser import Denoiser, GaussianMixture, Pair, as_denoiser
from ..errors import ConfigError, PidSamplerError
from ..image.pixels import to_image
from ..io import pictures
from ..noise.coupling import NoiseFunction
from ..onnx.device import resolve_device
from ..sampler import Run, sample, start
from ..table import StepTable
from ..upscale.bind import Bound
from ..upscale.source import Source
from ..upscale.upscaler import Upscaler
from .measures import Measure, Sample, get_measure
from .parts import Flow, Network
from .pictures import as_rgb, eight_bits, on_host, reduced, resized
from .shared import Cost, sample_all
from .store import RunKey

Array = Any


def _is_measured_by_the_run(sample: Sample) -> float:
    raise ConfigError("a cost is measured while a run goes on")


_COSTS = {
    "calls": ("", "network evaluations (NFE)"),
    "seconds": ("s", "latent, noise, steps and picture, as if run alone"),
    "network": ("ms a call", "time of a network evaluation"),
    "sampler": ("ms a call", "time of a row's update, its noise included"),
    "memory": ("MB", "x, the network's output and the saved tensors, by formula"),
}
COSTS = [
    Measure(name, unit=unit, better="lower", source=source, needs=(), function=_is_measured_by_the_run)
    for name, (unit, source) in _COSTS.items()
]

BASELINE = "input"  # what stands for a cell where the input enlarged by bicubic is measured, or shown

_FRAME, _FRAMES = 128, 12  # a preview's longest side in pixels, and how many a cell has at most


@dataclass(frozen=True, kw_only=True)
class StudyInput:
    """What comes before the first row: one image with one seed.

    Args:
        model: A bundled name or a folder; without meaning where there is a source.
        source: The flow or network that is sampled without an image, or None.
        image: Name of the image.
        path: Picture or latent file; None for a source.
        seed: Seed, 0..2^64-1.
        degrade_sigma: Noise level of the latent.
        noise: Noise function, or None for the package's own.
        reduce: Whether the picture is the reference, to be reduced first.
        reference: Path of the reference, or None.
    """

    model: str
    source: Flow | Network | None
    image: str
    path: Path | None
    seed: int
    degrade_sigma: float
    noise: NoiseFunction | None
    reduce: bool
    reference: Path | None


@dataclass(frozen=True, kw_only=True)
class StudyJob:
    """Cells that share all that comes before the first row.

    Args:
        input: What they share.
        tables: Cell id -> table.
        converged: The table that stands for the ODE's solution, where a measure needs it.
        measures: The measures, or their names.
        keep: Whether pictures and previews are kept.
        folder: Study folder.
        baseline: Whether the input enlarged by bicubic is measured too, where it is a picture with a reference.
    """

    input: StudyInput
    tables: Mapping[str, StepTable]
    converged: StepTable | None
    measures: tuple[str | Measure, ...]
    keep: bool
    folder: Path
    baseline: bool = False

    def run_key(self, cell: str) -> RunKey:
        """Return what a cell's run is known by."""
        return cell, self.input.image, self.input.seed

    def lost(self, got: Sequence[RunOutcome], why: str) -> tuple[list[RunOutcome], list[StudyJob]]:
        """Give each cell that is lacking a worker of its own; one that had its own is given up.

        The baseline comes first: where it is lacking, it may be what failed, and is given up.
        """
        done = {outcome.run[0] for outcome in got}
        lacking = [cell for cell in self.tables if cell not in done]
        if len(self.tables) == 1 and (BASELINE in done or not self.baseline):
            return [RunOutcome(run=self.run_key(cell), error=why) for cell in lacking], []
        return [], [replace(self, tables={cell: self.tables[cell]}, baseline=False) for cell in lacking]


@dataclass(frozen=True, kw_only=True)
class RunOutcome:
    """What came of one run.

    Args:
        run: (cell id, image, seed).
        values: Measure -> value; empty if the run failed.
        error: Why it failed, one line.
        gaps: Measure that failed -> why, one line.
        calls: Model calls made for it that no other shares.
    """

    run: RunKey
    values: Mapping[str, float] = field(default_factory=dict)
    error: str | None = None
    gaps: Mapping[str, str] = field(default_factory=dict)
    calls: int = 0


@dataclass(frozen=True)
class _Scene:
    """All that is there before the first row."""

    denoiser: Denoiser
    run: Run
    seconds: float  # taken so far
    known: dict[str, Any]  # of the samples to be measured
    picture: Callable[[Array], NDArray[np.uint8]] | None  # what makes a picture of x


class StudyWorker:
    """Keeps the model it used last in memory.

    Args:
        device: "auto", "cpu" or "cuda".
    """

    def __init__(self, device: str = "auto") -> None:
        self._device = device
        self._loaded: tuple[str, Upscaler] | None = None

    def run(self, job: StudyJob) -> Iterator[RunOutcome]:
        """Do a job's runs; what fails is an outcome too."""
        backend = resolve_device(self._device)
        with backend.active():
            try:
                scene = self._scene(job, backend)
                measures = [get_measure(name) for name in job.measures]
            except Exception as error:
                yield from (RunOutcome(run=job.run_key(cell), error=_line(error)) for cell in job.tables)
                return
            if job.baseline and (baseline := _baseline(job, scene.known, measures)) is not None:
                yield baseline
            strips: dict[str, list[NDArray[np.uint8]]] = {cell: [] for cell in job.tables}

            def preview(cell: str, run: Run, m: Array) -> None:
                if run.index in frames(len(job.tables[cell])):
                    strips[cell].append(_frame(run.predict_x0(m)))

            on_step = preview if job.keep and scene.picture is not None else None
            for cell, x, cost in sample_all(scene.denoiser, job.tables, run=scene.run, on_step=on_step):
                values: dict[str, float] = {}
                gaps: dict[str, str] = {}
                why = None
                try:
                    if isinstance(x, Exception):
                        raise x
                    values, gaps = self._measured(job, scene, cell, x, cost, measures, strips[cell])
                except Exception as error:
                    why = _line(error)
                yield RunOutcome(run=job.run_key(cell), values=values, error=why, gaps=gaps, calls=cost.new_calls)

    def _scene(self, job: StudyJob, backend: Backend) -> _Scene:
        table = next(iter(job.tables.values()))
        began = time.perf_counter()
        source = job.input.source
        denoiser: Denoiser
        picture: Callable[[Array], NDArray[np.uint8]] | None = None
        if isinstance(source, Flow):
            dtype = np.float64 if np.dtype(np.float64) in backend.state_types else np.float32
            denoiser = Pair(source.law, source.law)  # a flow has no condition
            shape: tuple[int, ...] = (1, *source.shape)
            known: dict[str, Any] = {"flow": source.at(source.interval[1])}
        elif source is not None:
            denoiser, shape, dtype, known = as_denoiser(source.net), (1, *source.shape), np.float32, {}
            if source.shape[0] == 3:
                picture = partial(to_image, size=source.shape[1:], backend=backend)
        else:
            up = self._upscaler(job.input.model)
            photo, reference = _pictures(job, up.model.contract.scale)
            bound = up.bind(photo, seed=job.input.seed, degrade_sigma=job.input.degrade_sigma)
            denoiser, shape, dtype, picture = bound.denoiser, bound.shape, np.float32, bound.picture
            known = {"input": eight_bits(photo.rgb) if photo.latent is None else None, "reference": reference}
            if job.keep:
                _keep_beside(job, photo, bound, reference)
        noise_kind = job.input.noise or "independent"
        x = backend.empty(shape, dtype)
        run = start(table, x, seed=job.input.seed, noise=noise_kind, inplace=True, backend=backend)
        run.initial_noise()
        noise = run.x
        if isinstance(source, Flow) and source.interval[0] < 1.0:
            noise = run.x.copy()
            run.x[...] = backend.adopt(_solution(source.at(source.interval[0]), noise))
        backend.synchronize()
        seconds = time.perf_counter() - began
        if job.converged is not None:
            known["converged"] = _converged(job, denoiser, noise, backend)
        return _Scene(denoiser, run, seconds, known, picture)

    def _upscaler(self, model: str) -> Upscaler:
        if self._loaded is None or self._loaded[0] != model:
            self._loaded = None  # frees its memory before the next one takes some
            self._loaded = model, Upscaler.load(model, self._device)
        return self._loaded[1]

    def _measured(
        self,
        job: StudyJob,
        scene: _Scene,
        cell: str,
        x: Array,
        cost: Cost,
        measures: list[Measure],
        strip: list[NDArray[np.uint8]],
    ) -> tuple[dict[str, float], dict[str, str]]:
        """What was measured, and which measures failed and why."""
        table = job.tables[cell]
        began = time.perf_counter()
        picture = None if scene.picture is None else scene.picture(x)
        finished = time.perf_counter() - began
        calls = len(table)
        values = {
            "calls": float(calls),
            "seconds": scene.seconds + cost.network + cost.sampler + finished,
            "network": 1e3 * cost.network / calls,
            "sampler": 1e3 * cost.sampler / calls,
            "memory": (2 + table.slots) * x.nbytes / 1e6,
        }
        known = dict(scene.known)
        if any(row.draws for row in table.rows):
            known["converged"] = None  # a stochastic method does not go to the ODE's solution
        seen = Sample(on_host(x), None if picture is None else as_rgb(picture), **known)
        judged, gaps = _judged(measures, seen)
        values |= judged
        if job.keep and picture is not None:
            record = {"cell": cell, "image": job.input.image, "seed": job.input.seed, "table": table.to_dict()}
            target = picture_path(job.folder, job.run_key(cell))
            target.parent.mkdir(parents=True, exist_ok=True)
            pictures.write(target, pictures.Picture(picture), record=json.dumps(record, sort_keys=True), overwrite=True)
            if strip:
                side_by_side = pictures.Picture(np.concatenate(strip, axis=1))
                pictures.write(
                    strip_path(job.folder, job.run_key(cell)),
                    side_by_side,
                    record="{}",
                    overwrite=True,
                )
        return values, gaps


def _judged(measures: Sequence[Measure], seen: Sample) -> tuple[dict[str, float], dict[str, str]]:
    """What was measured, and which measures failed and why."""
    values: dict[str, float] = {}
    gaps: dict[str, str] = {}
    for measure in measures:
        if measure.applies(seen):
            try:
                values[measure.name] = measure(seen)
            except Exception as error:  # the rest is as good as without it
                gaps[measure.name] = _line(error)
    return values, gaps


def _baseline(job: StudyJob, known: Mapping[str, Any], measures: Sequence[Measure]) -> RunOutcome | None:
    """The input enlarged by bicubic, measured as a cell's picture is; None without a picture or a reference."""
    small, reference = known.get("input"), known.get("reference")
    if small is None or reference is None:
        return None
    began = time.perf_counter()
    picture = resized(small, reference.shape[:2])
    seconds = time.perf_counter() - began
    x = picture.transpose(2, 0, 1)[None] / np.float32(127.5) - np.float32(1.0)
    values, gaps = _judged(measures, Sample(x, picture, input=small, reference=reference))
    return RunOutcome(run=job.run_key(BASELINE), values={"calls": 0.0, "seconds": seconds, **values}, gaps=gaps)


def _keep_beside(job: StudyJob, source: Source, bound: Bound, reference: NDArray[np.uint8] | None) -> None:
    """Write what the results are looked at beside: the input enlarged by bicubic interpolation, and the reference."""
    beside = {"reference": reference}
    if source.latent is None:
        beside[BASELINE] = resized(eight_bits(source.rgb), (bound.height, bound.width))
    for name, picture in beside.items():
        target = picture_path(job.folder, job.run_key(name))
        if picture is not None and not target.is_file():
            target.parent.mkdir(parents=True, exist_ok=True)
            pictures.write(target, pictures.Picture(picture), record="{}", overwrite=True)


def picture_path(folder: Path, run: RunKey) -> Path:
    """Return where a run's picture lies; its cell may be "input" or "reference" too."""
    cell, image, seed = run
    return folder / "pictures" / image / f"{cell}-{seed}.png"


def strip_path(folder: Path, run: RunKey) -> Path:
    """Return where a run's previews of x0 lie, side by side in one picture, one for each of `frames`."""
    cell, image, seed = run
    return folder / "pictures" / image / f"{cell}-{seed}-x0.png"


def frames(rows: int) -> list[int]:
    """Return the rows of a table that have a preview: all, or so many equally spaced."""
    return sorted({round(i) for i in np.linspace(0, rows - 1, min(rows, _FRAMES))})


def _pictures(job: StudyJob, scale: int) -> tuple[Source, NDArray[np.uint8] | None]:
    """Read the input and, where there is one, the reference."""
    assert job.input.path is not None
    source = Source.of(job.input.path)
    if job.input.reduce:
        return reduced(source, scale, path=job.input.path)
    if job.input.reference is None:
        return source, None
    return source, eight_bits(Source.of(job.input.reference).rgb)


def _converged(job: StudyJob, denoiser: Denoiser, noise: Array, backend: Backend) -> NDArray[Any]:
    """The ODE's solution from noise at t = 1: exact for a flow."""
    assert job.converged is not None
    if isinstance(source := job.input.source, Flow):
        return _solution(source.at(source.interval[1]), noise)
    return on_host(sample(denoiser, job.converged, x=noise, backend=backend))


def _solution(law: GaussianMixture, noise: Array) -> NDArray[np.float64]:
    from .measures.law import solution

    return solution(law, on_host(noise).astype(np.float64), t=1.0)


def _frame(x0: Array) -> NDArray[np.uint8]:
    """(1, 3, H, W) in -1..1 -> uint8 (h, w, 3), reduced by a whole number on the device."""
    _, _, height, width = x0.shape
    n = math.ceil(max(height, width) / _FRAME)
    tall, wide = min(n, height), min(n, width)
    h, w = height // tall, width // wide
    part = x0[0, :, : h * tall, : w * wide].reshape(3, h, tall, w, wide).mean(axis=(2, 4))
    shown = on_host(part).astype(np.float32)
    levels = np.rint(np.clip(np.nan_to_num(shown) * 127.5 + 127.5, 0, 255))
    return np.ascontiguousarray(levels.astype(np.uint8).transpose(1, 2, 0))


def _line(error: Exception) -> str:
    if isinstance(error, MemoryError) and not isinstance(error, PidSamplerError):
        return "not enough memory"
    kind = "" if isinstance(error, PidSamplerError) else f"{type(error).__name__}: "
    return kind + " ".join(str(error).split())


__getattr__ = moved.names(__name__)
