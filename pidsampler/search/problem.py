"""What a search samples: images with a network, or a closed-form flow; and the solution of their ODE."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .. import moved, timesteps
from ..backends import Backend, get_backend
from ..denoiser import Denoiser, GaussianMixture, Pair, network_of
from ..errors import ConfigError
from ..io import captions
from ..onnx.manifest import OwnTimes, TeacherRule
from ..sampler import Run, start
from ..schedulers.registry import get_scheduler
from ..study.measures import Sample, law
from ..study.pictures import as_rgb, eight_bits, most_detailed, on_host, reduced
from ..table import StepTable
from ..timesteps import Times
from ..upscale.guidance import guidance_for
from ..upscale.options import Options, listed
from ..upscale.source import Source
from ..upscale.upscaler import Upscaler
from ..values import file_path, flag, function, instance, items, whole

Array = Any

FINE = 64  # steps of a converged solution
_CONDITIONS = ("caption", "guidance", "negative")
_ELEMENTS = 4096  # of each image, by which the errors of its steps are judged


@dataclass(frozen=True, kw_only=True)
class Subject:
    """One image to sample.

    Args:
        name: Unlike any other's.
        denoiser: The network with the image bound.
        shape: (1, 3, H, W) of the result.
        seen: What a measure sees beside the result.
        picture: Makes the result a picture, uint8 (H, W, C); None for a closed-form flow.
        sha256: That of its file; None for a closed-form flow.
        crop: (x, y, side) of the square that was cut out of the file's picture; None for all of it.
        conditions: What the network is given beside the picture: guidance scale, and what a record says of captions.
    """

    name: str
    denoiser: Denoiser
    shape: tuple[int, ...]
    seen: Sample
    picture: Callable[[Array], NDArray[np.uint8]] | None = None
    sha256: str | None = None
    crop: tuple[int, int, int] | None = None
    conditions: dict[str, Any] = field(default_factory=dict)

    @property
    def shows(self) -> set[str]:
        """What a measure can see of a run, beside the result itself and the ODE's solution."""
        given = {name for name in ("input", "reference", "flow") if getattr(self.seen, name) is not None}
        return given if self.picture is None else {*given, "picture"}


class Solution(NamedTuple):
    """A trajectory of the ODE from pure noise.

    Args:
        x: (1, 3, H, W): where it ends at 0; exact for a closed-form flow.
        times: Those of its points, descending to 0.
        step_errors: Errors of Euler's steps between them, see `step_errors`.
    """

    x: NDArray[Any]
    times: Times
    step_errors: NDArray[np.float64]


@dataclass(kw_only=True)
class Problem:
    """A model with the images that it samples; make one by `of_model` or `of_flow`.

    Args:
        name: Name of the model.
        subjects: The images.
        first: The noise level at which the model starts from pure noise.
        own: The list that the model was made for, or None.
        sampler: Spec of the sampler that it runs by unless told otherwise, or None.
        prediction: What the network returns, see `StepTable.predicting`.
        backend: Where all is computed.
        dtype: Element type of the state.
        hashes: SHA-256 of the model's files.
    """

    name: str
    subjects: list[Subject]
    first: float
    own: Times | None = None
    sampler: str | None = None
    prediction: str = "velocity"
    backend: Backend = field(default_factory=lambda: get_backend("numpy"))
    dtype: Any = np.float32
    hashes: dict[str, str] = field(default_factory=dict)
    # The first call of a run depends on its noise and its t alone, and most lists of a search begin at the same t.
    _first_calls: dict[tuple[str, int], tuple[float, Array]] = field(default_factory=dict, init=False, repr=False)

    @classmethod
    @moved.keywords()
    def of_flow(cls, flow: GaussianMixture, *, height: int = 64, width: int = 64) -> Problem:
        """Return the problem of sampling a closed-form flow: 3*height*width elements with each seed, in float64."""
        instance("flow", flow, kind=GaussianMixture, words="a GaussianMixture")
        height, width = (whole(side, n, low=1, high=1 << 14) for side, n in (("height", height), ("width", width)))
        subject = Subject(
            name="law", denoiser=Pair(flow, flow), shape=(1, 3, height, width), seen=Sample(np.empty(0), flow=flow)
        )
        parts = (", ".join(map(repr, values.tolist())) for values in (flow.means, flow.stds, flow.weights))
        name = "GaussianMixture(({}), ({}), ({}))".format(*parts)
        return cls(name=name, subjects=[subject], first=1.0, dtype=np.float64)

    @classmethod
    @moved.keywords()
    @listed(*_CONDITIONS)
    def of_model(
        cls,
        model: str | Path,
        pictures: Sequence[str | Path],
        *,
        device: str = "auto",
        reduce: bool = False,
        crop: int | None = None,
        **options: Any,
    ) -> Problem:
        """Load a model and its pictures.

        Args:
            model: A bundled name or a folder.
            pictures: Picture or latent files, each once.
            device: "auto", "cpu" or "cuda".
            reduce: The pictures are what results should be: each is reduced by the model's scale first (bicubic).
            crop: Pixels a side, 4..4096, of the input that is cut out of each picture, where it has the most detail;
                None takes all.
            **options: Caption, guidance and negative for all pictures, as in `upscale.options.Options`. With guidance
                each prediction takes two calls of the network.

        Raises:
            PidSamplerError: A picture is given twice, cannot be read, or does not suit the model; or as
                `Upscaler.load`.
        """
        reduce, crop = flag("reduce", reduce), None if crop is None else whole("crop", crop, low=4, high=4096)
        paths = [file_path("pictures", path) for path in items("pictures", pictures, words="paths")]
        for path in paths:
            if paths.count(path) > 1:
                raise ConfigError(f"{path} was given twice: give each picture once")
        sources = [Source.of(path) for path in paths]
        up = Upscaler.load(model, device)
        contract = up.model.contract
        asked = Options.of(options, _CONDITIONS)
        scale, texts = guidance_for(asked, contract), {"caption": asked.caption, "negative": asked.negative}
        told = {"guidance": scale, **{name: captions.described(text) for name, text in texts.items()}}
        conditions = {name: value for name, value in told.items() if value is not None}
        subjects = []
        files: dict[str, Path] = {}
        for path, source in zip(paths, sources, strict=True):
            digest, cut = source.described["sha256"], None
            if (same := files.setdefault(digest, path)) != path:  # fitted to and held out, it would compare with itself
                raise ConfigError(f"{path} is the same file as {same}: give each picture once")
            if crop is not None:
                side = crop * contract.scale if reduce else crop
                source, place = most_detailed(source, side, path=path)
                cut = (*place, side)
            source, reference = reduced(source, contract.scale, path=path) if reduce else (source, None)
            bound = up.bind(source, **options)
            small = eight_bits(source.rgb) if source.latent is None else None
            seen = Sample(np.empty(0), input=small, reference=reference)
            subjects.append(
                Subject(
                    name=str(path),
                    denoiser=bound.denoiser,
                    shape=bound.shape,
                    seen=seen,
                    picture=bound.picture,
                    sha256=digest,
                    crop=cut,
                    conditions=conditions,
                )
            )
        own = timesteps.custom(_of_one_size(contract.timesteps, subjects))
        return cls(
            name=contract.name,
            subjects=subjects,
            first=float(own[0]),
            own=own,
            sampler=contract.sampler,
            prediction=contract.prediction,
            backend=up.backend,
            hashes=up.model.hashes,
        )

    @property
    def conditions(self) -> dict[str, Any]:
        """What the network is given beside each picture, see `Subject`."""
        return next((subject.conditions for subject in self.subjects), {})

    def sampled(
        self,
        subject: Subject,
        seed: int,
        *,
        table: StepTable,
        converged: NDArray[Any] | None = None,
        on_call: Callable[[], object] = lambda: None,
    ) -> Sample:
        """Return what a measure sees of a run.

        Args:
            subject: One of `subjects`.
            seed: Seed, 0..2^64-1.
            table: For a network that predicts the velocity.
            converged: The ODE's solution from the same noise, where it is wanted.
            on_call: Called with each model call.

        Raises:
            PidSamplerError: The result holds NaN or infinity, or the table does not suit the prediction.
        """
        instance("subject", subject, kind=Subject, words="one of the subjects")
        seed = whole("seed", seed, low=0, high=2**64 - 1)
        instance("table", table, kind=StepTable, words="a StepTable")
        function("on_call", on_call, takes="()")
        with self.backend.active():
            x = self._run(subject, seed, table, lambda *_: on_call())
            picture = None if subject.picture is None else as_rgb(subject.picture(x))
            return replace(subject.seen, x=on_host(x), picture=picture, converged=converged)

    def solve(self, subject: Subject, seed: int, *, on_call: Callable[[], object] = lambda: None) -> Solution:
        """Follow the ODE from pure noise at `first` by 64 equal steps of DPM-Solver++ 3M.

        For a network this is the solution down to first/64, to about 2e-4 with the bundled ones, and one step from
        there to 0. The ODE has no better end: nearer to 0 a network changes the picture with each further step (64 and
        1024 equal steps differ by 0.02 to 0.05), as it was not trained to tell so little noise from the picture.

        Args:
            subject: One of `subjects`.
            seed: Seed, 0..2^64-1.
            on_call: Called with each of 64 model calls.
        """
        instance("subject", subject, kind=Subject, words="one of the subjects")
        seed = whole("seed", seed, low=0, high=2**64 - 1)
        function("on_call", on_call, takes="()")
        times = timesteps.uniform(FINE) * self.first
        points: list[NDArray[np.float64]] = []
        velocities: list[NDArray[np.float64]] = []
        stride = math.prod(subject.shape) // _ELEMENTS | 1  # odd, so that no column of pixels is preferred

        def some(x: Array) -> NDArray[np.float64]:
            return on_host(x.reshape(-1)[::stride]).astype(np.float64)

        def follow(run: Run, m: Array) -> None:
            points.append(some(run.x))
            velocities.append((points[-1] - some(run.predict_x0(m))) / run.row.t)
            on_call()

        with self.backend.active():
            x = self._run(subject, seed, get_scheduler("dpmpp-3m", times).table(), follow)
            points.append(some(x))
            errors = step_errors(times, np.array(points), velocities=np.array(velocities))
            if (flow := subject.seen.flow) is None:
                return Solution(on_host(x), times, errors)
            noise = on_host(self._noise(subject, seed))
            return Solution(law.solution(flow, noise, t=self.first), times, errors)

    def _noise(self, subject: Subject, seed: int) -> Array:
        x = self.backend.empty(subject.shape, self.dtype)
        self.backend.noise(x, [seed], draw=0)
        return x

    def _run(self, subject: Subject, seed: int, table: StepTable, on_step: Callable[[Run, Array], object]) -> Array:
        """The result from pure noise; `on_step` is called as that of `sample`."""
        x = self.backend.empty(subject.shape, self.dtype)
        run = start(table.predicting(self.prediction), x, seed=seed, inplace=True)
        run.initial_noise()
        if table.asks_both:
            return run.finish(subject.denoiser, on_step)
        network = network_of(subject.denoiser, 0)
        return run.finish(FirstCallKept(network, kept=self._first_calls, key=(subject.name, seed)), on_step)


def _of_one_size(own: OwnTimes, subjects: Sequence[Subject]) -> tuple[float, ...]:
    """The model's list; that of a rule is the same for all images only where their results have one size."""
    if not isinstance(own, TeacherRule):
        return own
    sizes = {subject.shape[2:] for subject in subjects}
    if len(sizes) != 1:
        raise ConfigError(f"the model's timesteps depend on the result's size ({own}): pass pictures of one size")
    height, width = sizes.pop()
    return own.at((height, width))


class FirstCallKept:
    """The denoiser of one run, whose first call is taken from an earlier run of the same noise at the same t.

    Args:
        denoiser: The network.
        kept: (t, output) of the first calls, by run.
        key: Which run this is.
    """

    def __init__(
        self, denoiser: Denoiser, *, kept: dict[tuple[str, int], tuple[float, Array]], key: tuple[str, int]
    ) -> None:
        self._denoiser, self._kept, self._key = denoiser, kept, key
        self._is_first = True

    def __getattr__(self, name: str) -> Any:
        return getattr(self._denoiser, name)  # the types that it reads and writes

    def predict(self, x: Array, t: float, out: Array) -> None:
        """Write the network's output at x and t into `out`."""
        first, self._is_first = self._is_first, False
        known, m = self._kept.get(self._key, (None, None)) if first else (None, None)
        if known == t:
            out[...] = m
            return
        self._denoiser.predict(x, t, out)
        if first:
            self._kept[self._key] = t, out.copy()


def step_errors(times: Times, points: NDArray[np.float64], *, velocities: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the mean squared error of Euler's step from each point of a trajectory to each later one.

    Args:
        times: n + 1, descending.
        points: (n + 1, elements): the trajectory at these times.
        velocities: (n, elements): dx/dt there.

    Returns:
        (n + 1, n + 1): that of the step from time i to time j; infinite where j is not later.

    Source: the costs of GITS (Chen et al. 2024, arXiv 2405.11326, section 4).
    """
    n = len(times) - 1
    errors = np.full((n + 1, n + 1), np.inf)
    for i in range(n):
        reached = points[i] + np.multiply.outer(times[i + 1 :] - times[i], velocities[i])
        errors[i, i + 1 :] = np.square(reached - points[i + 1 :]).mean(axis=1)
    return errors


def cheapest(costs: NDArray[np.float64], steps: int) -> list[int]:
    """Return the way from the first to the last of n points, in so many steps, whose costs sum to the least.

    Args:
        costs: (n, n), of the step from i to j; infinite where there is none.
        steps: Number of steps, 1 to n - 1.

    Source: dynamic programming over a grid of times, as Watson et al. 2021 (arXiv 2106.03802, section 3).
    """
    total = np.full(len(costs), np.inf)
    total[0] = 0.0
    previous = []
    for _ in range(steps):
        through = total[:, None] + costs
        previous.append(through.argmin(axis=0))
        total = through.min(axis=0)
    way = [len(costs) - 1]
    for before in reversed(previous):
        way.append(int(before[way[-1]]))
    return way[::-1]


__getattr__ = moved.names(__name__)
