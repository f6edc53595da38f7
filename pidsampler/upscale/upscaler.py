"""The main job: a photo or a latent in, a 4x photo out."""

from __future__ import annotations

import gc
import json
import math
import platform
import warnings
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from ..backends import Backend
from ..denoiser import Denoiser
from ..errors import ConfigError, OutOfMemoryError, PidSamplerWarning
from ..image.pixels import to_image, to_tensor
from ..image.size import Size, resolve, warn_if_stretched
from ..io import captions, pictures
from ..noise import NoiseFunction, with_noise
from ..noise.philox import DEGRADE, check_seeds
from ..onnx import CudaOptions, Model
from ..onnx.device import resolve_device
from ..onnx.hub import PREFIX, download_model
from ..sampler import Run, sample
from ..schedulers import FlowSDE
from ..schedulers.making import SamplerLike
from ..schedulers.registry import as_scheduler
from ..table import Scheduler, StepTable, as_table
from . import memory
from .finish import Finish, finished
from .memory import Plan, Tiling
from .source import Source
from .tiles import Tile, Tiled, cut_latent, encode_in_tiles

_TRAINED_SIGMA = 0.8
_T = TypeVar("_T")


@dataclass(frozen=True)
class Result:
    """An enlarged picture and how it was made.

    Args:
        array: uint8 (H, W, C): gray, gray + alpha, RGB or RGB + alpha as the input was.
        record: What is needed to make it again, as plain JSON data: model and file hashes, scheduler, timesteps,
            table, noise, seed, sigma, caption, finish, device and versions; and what came of it: how it was cut into
            tiles, whether memory ran out, and how its colours had drifted.
    """

    array: NDArray[np.uint8]
    record: dict[str, Any]
    _icc: bytes | None = field(default=None, repr=False)
    _dpi: tuple[float, float] | None = field(default=None, repr=False)

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write a PNG, JPEG, WebP or TIFF, whole or not at all.

        The record goes into a PNG's text chunk "pidsampler", or beside other formats as PATH.json.

        Raises:
            PidSamplerError: The file exists and `overwrite` is false, cannot be written, or its format cannot
                hold the picture.
        """
        picture = pictures.Picture(self.array, icc=self._icc, dpi=self._dpi)
        pictures.write(Path(path), picture, record=json.dumps(self.record, sort_keys=True), overwrite=overwrite)


@dataclass(frozen=True)
class Bound:
    """A picture or latent that waits for a sampler, made by `Upscaler.bind`.

    Args:
        source: What was read.
        denoiser: The network with the latent bound.
        shape: (1, 3, H, W) of what is to be sampled.
        height: Of the result, which may be less than H; so its `width`.
        width: Of the result.
        backend: Whose device the network runs on.
    """

    source: Source
    denoiser: Denoiser
    shape: tuple[int, int, int, int]
    height: int
    width: int
    backend: Backend

    def picture(self, x: Any) -> NDArray[np.uint8]:
        """Return the picture of a sampled x (1, 3, H, W): uint8 (height, width, C), with the source's channels.

        Raises:
            PidSamplerError: x holds NaN or infinity.
        """
        with self.backend.active():
            return self.source.like(to_image(x, size=(self.height, self.width), backend=self.backend))


class Upscaler:
    """A loaded model, ready to enlarge pictures; make one with `Upscaler.load`."""

    def __init__(self, model: Model, backend: Backend, tiling: Tiling | None = None) -> None:
        self.model = model
        self._backend = backend
        self._tiling = tiling or Tiling()
        self._budget = memory.budget(self._tiling, backend)  # now: what graphs keep later is theirs to use again
        self._measured: tuple[float, float] | None = None

    @classmethod
    def load(
        cls,
        model: str | Path = "tiny",
        device: str = "auto",
        options: CudaOptions | None = None,
        accept_licence: bool = False,
        tiling: Tiling | None = None,
    ) -> Upscaler:
        """Load a model.

        Args:
            model: A bundled model's name ("tiny"), a folder with vae_encoder.onnx and pid_upscaler.onnx, or
                "hf:OWNER/NAME", such a folder on Hugging Face.
            device: "auto", "cpu" or "cuda".
            options: How ONNX Runtime uses the GPU; on the CPU there is nothing to choose.
            accept_licence: Whether a model of Hugging Face may be downloaded; without it, its licence is said.
            tiling: How large results are cut up, and by how much memory; None as what is free asks for.

        Raises:
            PidSamplerError: The folder breaks the contract, onnxruntime is missing, or the device cannot be had.
        """
        backend = resolve_device(device)
        if accept_licence and str(model).startswith(PREFIX):
            download_model(str(model))
        return cls(Model.load(model, backend, options=options), backend, tiling)

    def __call__(
        self,
        image: str | Path | NDArray[Any] | Source,
        scheduler: SamplerLike | None = None,
        seed: int = 0,
        degrade_sigma: float = 0.0,
        noise: str | NoiseFunction = "independent",
        on_step: Callable[[Run, Any], object] | None = None,
        caption: NDArray[Any] | None = None,
        finish: Finish | None = None,
        progress: Callable[[float], object] | None = None,
    ) -> Result:
        """Enlarge one picture, or decode one latent.

        Args:
            image: A picture file or a uint8 or uint16 array (H, W) or (H, W, 1..4), of any size from 1x1; or a
                latent: a .npy, .npz or .safetensors file or a float array (C, h, w) or (1, C, h, w). A `Source` is
                one already read.
            scheduler: A sampler that ends at 0, in any form of `get_scheduler`, over the model's own timesteps where it
                names none. None takes FlowSDE.
            seed: 0..2^64-1.
            degrade_sigma: The noise level of the latent, 0..1; PiD is trained for 0..0.8. For a picture this
                much noise is added to its latent, in the model's frame. A latent is taken to have it already.
            noise: Of the sampler, as in `start`: "independent", "fixed", "brownian", "torch" or a function.
            on_step: As in `sample`.
            caption: A caption's embedding, floats (tokens, width) as `Contract.caption` says, for a model that takes
                one; None is zeros.
            finish: Colours, size and specks of the result; None is `Finish()`.
            progress: Called after each call of the network, of which tiles need several a step, with its share of all.

        Raises:
            PidSamplerError: An argument is not as described, or the model failed.
        """
        scheduler = self._scheduler(scheduler)
        table, given = with_noise(self._table(scheduler), noise)
        sigma = float(degrade_sigma)
        check_sigma(sigma)
        if sigma > _TRAINED_SIGMA:
            text = f"degrade_sigma={sigma} is above {_TRAINED_SIGMA}, the most PiD is trained for"
            warnings.warn(text, PidSamplerWarning, stacklevel=2)
        source = image if isinstance(image, Source) else Source.of(image)
        finish = finish or Finish()
        record = self._record(source, scheduler, table, seed, sigma, noise, caption, finish)
        native, scale = self.output_size(source), self.model.contract.scale
        warn_if_stretched(record["output"]["height"], record["output"]["width"], native)
        method = finish.method(source, self.model.contract.drifts)
        count = 2 + table.slots + (max((len(row.draws) for row in table.rows), default=0) if given else 0)

        def made(plan: Plan) -> tuple[NDArray[np.uint8], dict[str, Any] | None]:
            share = 1.0 / (len(table) * len(plan.grid))

            def step(run: Run, m: Any) -> None:
                if progress is not None and len(plan.grid) == 1:
                    progress(share)
                if on_step is not None:
                    on_step(run, m)

            tile = None if progress is None else lambda *_: progress(share)
            where, draws = self._backend, given or "independent"  # the table has its draws already
            with self._backend.active():  # once for all, since each entry waits for the caller's stream
                bound = self.bind(source, seed, sigma, caption, plan, tile)
                x = sample(
                    bound.denoiser, table, shape=bound.shape, seed=seed, backend=where, noise=draws, on_step=step
                )
                return finished(x, source, native, scale, method, finish, self._backend)

        (array, drift), plan, ran_out = self._within_memory(source, count, made)
        record |= {"tiles": plan.described, "drift": drift, "ran_out_of_memory": ran_out}
        return Result(array, record, source.icc, source.dpi)

    def plan(self, source: Source, tensors: int = 2) -> Plan:
        """Return how a result is cut up.

        Args:
            source: Of it.
            tensors: Full-size float32 tensors that the sampler will hold: x, the network's output, the saved ones.

        Raises:
            PidSamplerError: It does not fit into memory, or the tiling does not suit the model; with the numbers.
        """
        contract = self.model.contract
        height, width = self._padded(source)
        size = height * contract.scale, width * contract.scale
        fixed = None
        if contract.fixed_size is not None:
            fixed = contract.fixed_size[0] * contract.scale, contract.fixed_size[1] * contract.scale

        def need() -> memory.Need:
            network, encoder = contract.network_bytes, contract.encoder_bytes
            if network is None or (encoder is None and self.model.encoder is not None):
                self._measured = self._measured or memory.measure(self.model, self._backend)
            measured = self._measured or (0.0, 0.0)
            return memory.Need(measured[0] if network is None else network, measured[1] if encoder is None else encoder)

        unit, scale, budget = contract.unit, contract.scale, self._budget
        return memory.plan(self._tiling, size, unit, scale, fixed, budget, tensors, need)

    def _within_memory(self, source: Source, tensors: int, made: Callable[[Plan], _T]) -> tuple[_T, Plan, bool]:
        """Return made(plan), or that of a plan of smaller tiles where memory runs out; the plan; and whether it did."""
        plan = self.plan(source, tensors)
        try:
            return made(plan), plan, False
        except (OutOfMemoryError, MemoryError) as error:
            failure = str(error) or "no memory"
        # Outside of the handler, whose traceback holds on to what is to be freed.
        plan = self._smaller_plan(source, tensors, plan, failure)
        return made(plan), plan, True

    def _smaller_plan(self, source: Source, tensors: int, failed: Plan, failure: str) -> Plan:
        """Give memory back, and plan smaller tiles than those that ran out of it; later results keep to them."""
        gc.collect()  # what the failure held on to
        self.model.release()
        self._backend.release()
        tiling = None if self.model.contract.fixed_size else memory.smaller(self._tiling, failed)
        if tiling is None:
            raise OutOfMemoryError(f"out of memory, and tiles cannot be smaller here: {failure}")
        self._tiling = tiling
        plan = self.plan(source, tensors)
        tile = next(iter(plan.grid))
        warnings.warn(
            f"out of memory ({failure}): tried again in {len(plan.grid)} tiles of {tile.width}x{tile.height}",
            PidSamplerWarning,
            stacklevel=4,
        )
        return plan

    def _padded(self, source: Source) -> tuple[int, int]:
        """Return the (height, width) of the picture that is encoded, or that a latent stands for."""
        if source.latent is None:
            return self.model.contract.padded_size(*source.rgb.shape[:2])
        height, width = (n * self.model.contract.vae_factor for n in source.latent.shape[2:])
        return height, width

    def bind(
        self,
        image: str | Path | NDArray[Any] | Source,
        seed: int = 0,
        degrade_sigma: float = 0.0,
        caption: NDArray[Any] | None = None,
        plan: Plan | None = None,
        on_tile: Callable[[int, int], object] | None = None,
    ) -> Bound:
        """Make a picture or latent ready to be sampled: read, encoded, and bound to the network.

        Args:
            image: As in `__call__`, and so are `seed`, here that of the latent's noise, and `degrade_sigma`.
            seed: 0..2^64-1.
            degrade_sigma: 0..1.
            caption: As in `__call__`.
            plan: How it is cut up; None asks `plan`.
            on_tile: Called as on_tile(done, total) after each tile of each step, where there are several.

        Raises:
            PidSamplerError: An argument is not as described, it does not fit into memory, or the encoder failed.
        """
        check_seeds(seed, 1)
        check_sigma(degrade_sigma)
        sigma = float(degrade_sigma)
        if caption is not None:
            caption = captions.checked(caption)
            self.model.check_caption(caption)
        source = image if isinstance(image, Source) else Source.of(image)
        model, contract, backend = self.model, self.model.contract, self._backend
        height, width = self.output_size(source)
        plan = plan or self.plan(source)
        padded = self._padded(source)
        with backend.active():  # what tiles share goes to the device once
            caption = caption if caption is None else backend.adopt(caption)
            if source.latent is not None:
                latent = backend.adopt(source.latent)
            else:
                image = to_tensor(source.rgb, size=padded, backend=backend)
                if len(plan.encoder) == 1:
                    latent = model.encode(image)
                else:
                    f, channels = contract.vae_factor, contract.latent_channels
                    latent = encode_in_tiles(model.encode, image, plan.encoder, f, channels, backend)
                del image
                if sigma > 0.0:
                    keep = 1.0 - sigma if contract.noise_frame == "flow" else math.sqrt(1.0 - sigma**2)
                    backend.noise(latent, [seed], draw=0, stream=DEGRADE, keep=keep, scale=sigma)

            grid = plan.grid

            def cut(tile: Tile) -> Denoiser:
                return model.denoiser(
                    cut_latent(latent, tile, contract.unit), sigma, caption=caption, check=len(grid) == 1
                )

            denoiser = cut(next(iter(grid))) if len(grid) == 1 else Tiled(cut, grid, backend, on_tile)
            shape = (1, 3, padded[0] * contract.scale, padded[1] * contract.scale)
            return Bound(source, denoiser, shape, height, width, backend)

    def output_size(self, source: Source, size: Size | None = None) -> tuple[int, int]:
        """Return the (height, width) that `source` will be enlarged to: the model's own, or `size` if that is less.

        Raises:
            PidSamplerError: The model cannot take a picture or latent of its shape, or `size` is above its own.
        """
        if source.latent is not None:
            self.model.check_latent(source.latent)
        height, width = self._padded(source) if source.latent is not None else source.rgb.shape[:2]
        scale = self.model.contract.scale
        return resolve(size, (height * scale, width * scale), scale)

    def record(
        self,
        source: Source,
        scheduler: SamplerLike | None = None,
        seed: int = 0,
        degrade_sigma: float = 0.0,
        noise: str | NoiseFunction = "independent",
        caption: NDArray[Any] | None = None,
        finish: Finish | None = None,
    ) -> dict[str, Any]:
        """Return the record that `__call__` gives with these arguments, but for what shows in computing it.

        Raises:
            PidSamplerError: The scheduler, the noise, or the source's shape does not suit the model.
        """
        scheduler = self._scheduler(scheduler)
        table, _ = with_noise(self._table(scheduler), noise)
        return self._record(source, scheduler, table, seed, degrade_sigma, noise, caption, finish or Finish())

    def _record(
        self,
        source: Source,
        scheduler: Scheduler,
        table: StepTable,
        seed: int,
        sigma: float,
        noise: str | NoiseFunction,
        caption: NDArray[Any] | None,
        finish: Finish,
    ) -> dict[str, Any]:
        from importlib.metadata import version

        from ..version import __version__

        contract = self.model.contract
        height, width = self.output_size(source, finish.size)
        return {
            "model": {"name": contract.name, "licence": contract.license, "sha256": self.model.hashes},
            "scheduler": "StepTable" if isinstance(scheduler, StepTable) else repr(scheduler),
            # The list as it was given; a table of several evaluations a step holds more times.
            "timesteps": [float(t) for t in getattr(scheduler, "timesteps", table.times)],
            "table": table.to_dict(),
            "noise": noise if isinstance(noise, str) else getattr(noise, "__qualname__", repr(noise)),
            "seed": int(seed),
            "degrade_sigma": float(sigma),
            "finish": finish.described(source, contract.drifts),
            "caption": captions.described(caption),
            "noise_frame": contract.noise_frame,
            "input": source.described,
            "output": {"width": width, "height": height},
            "device": self._backend.device,
            "versions": {
                "pidsampler": __version__,
                "python": platform.python_version(),
                "numpy": np.__version__,
                "pillow": version("pillow"),
                "onnxruntime": self.model.runtime_version,
            },
        }

    def _scheduler(self, scheduler: SamplerLike | None) -> Scheduler:
        return as_scheduler(FlowSDE if scheduler is None else scheduler, own=self.model.contract.timesteps)

    def _table(self, scheduler: Scheduler) -> StepTable:
        table = as_table(scheduler)
        if table.times[-1] != 0.0:
            raise ConfigError(f"the table ends at noise level {table.times[-1]!r}: a picture needs one that ends in 0")
        return table.predicting(self.model.contract.prediction)


def check_sigma(sigma: float) -> None:
    """Check a latent's noise level, `degrade_sigma`.

    Raises:
        PidSamplerError: It is outside 0..1.
    """
    if not 0.0 <= sigma <= 1.0:
        raise ConfigError(f"degrade_sigma={sigma!r} is outside 0..1: it is the latent's noise level")
