"""The main job: a photo or a latent in, a 4x photo out."""

from __future__ import annotations

import io
import json
import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, overload

import attrs
import numpy as np
from numpy.typing import NDArray

from .. import moved
from ..backends import Backend
from ..errors import ConfigError, PidSamplerWarning
from ..image.enlarge import enlarge
from ..image.pixels import to_tensor
from ..image.size import Size, warn_if_stretched
from ..io import pictures
from ..onnx import CudaOptions, Model
from ..onnx.device import resolve_device
from ..onnx.hub import PREFIX, download_model
from ..sampler import Run, sample, start
from ..schedulers.making import SamplerLike
from ..values import callback, field, file_path, flag, instance, shown, word
from . import sizes
from .bind import CONDITIONS, Bound, bind
from .finish import finished
from .guidance import guidance_for
from .learnt import warn_of_another_model
from .memory import TilePlan, Tiling
from .options import Options, listed
from .planner import Planner
from .record import make_record
from .resolve import Resolved, resolve
from .source import ImageLike, ImagesLike, Source, read, several
from .tiles import Progress

_TRAINED_SIGMA = 0.8
_PREVIEW = 1024  # pixels a side of what a notebook shows


@attrs.frozen(eq=False, repr=False)
class Result:
    """An enlarged picture and how it was made.

    Args:
        array: uint8 (H, W, C): gray, gray + alpha, RGB or RGB + alpha as the input was.
        record: What is needed to make it again, as plain JSON data: model and file hashes, scheduler, timesteps,
            table, noise, seed, sigma, texts, guidance, finish, device and versions; and what came of it: how it was cut
            into tiles, whether memory ran out, and how its colors had drifted.
        plan: How it was cut up; of smaller tiles than asked for where memory ran out.
        icc: Color profile of the input; None for sRGB.
        dpi: Resolution of the input in dots per inch, (x, y); None where it says none.
        cicp: Four code points (ITU-T H.273) that name the colors of the input; None without.
    """

    array: NDArray[np.uint8]
    record: dict[str, Any]
    plan: TilePlan = attrs.field(kw_only=True)
    _icc: bytes | None = attrs.field(default=None, repr=False, kw_only=True)
    _dpi: tuple[float, float] | None = attrs.field(default=None, repr=False, kw_only=True)
    _cicp: bytes | None = attrs.field(default=None, repr=False, kw_only=True)

    def save(self, path: str | Path, overwrite: bool = False) -> None:
        """Write a PNG, JPEG, WebP or TIFF, whole or not at all.

        The record goes into a PNG's text chunk "pidsampler", or beside other formats as PATH.json. A result does not
        know the file that it was made of: with `overwrite` true it replaces that too, if `path` is its name.

        Raises:
            PidSamplerError: The file exists and `overwrite` is false, cannot be written, or its format cannot
                hold the picture.
        """
        flag("overwrite", overwrite)
        pictures.write(file_path("path", path), self._picture, record=self._json, overwrite=overwrite)

    def to_png(self) -> bytes:
        """Return the bytes of the PNG that `save` writes, with the record."""
        pictures.write_png(file := io.BytesIO(), self._picture, record=self._json)
        return file.getvalue()

    def to_pil(self) -> Any:
        """Return a `PIL.Image.Image` of mode L, LA, RGB or RGBA, with the input's color profile."""
        return pictures.to_image(self._picture)

    @property
    def _picture(self) -> pictures.Picture:
        return pictures.Picture(self.array, icc=self._icc, dpi=self._dpi, cicp=self._cicp)

    @property
    def _json(self) -> str:
        return json.dumps(self.record, sort_keys=True)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NDArray[Any]:
        return np.array(self.array, dtype=dtype, copy=copy)

    def __repr__(self) -> str:
        height, width, channels = self.array.shape
        kind = ("gray", "gray with alpha", "RGB", "RGB with alpha")[channels - 1]
        made = shown(self.record.get("scheduler"))
        return f"<Result of {width}x{height}, {kind}: {made}, seed {self.record.get('seed')}>"

    def _repr_png_(self) -> bytes:
        """The picture for a notebook, at most 1024 pixels a side."""
        image = self.to_pil()
        image.thumbnail((_PREVIEW, _PREVIEW))
        image.save(file := io.BytesIO(), "PNG")
        return file.getvalue()


def _backend(name: str, value: Any) -> Backend:
    if not hasattr(value, "free_memory"):
        raise ConfigError(f"{name}={shown(value)} must be a backend, see get_backend")
    backend: Backend = value
    return backend


def _tiling(name: str, value: object) -> Tiling:
    return Tiling() if value is None else instance(name, value, kind=Tiling, words="a Tiling")


def _new_planner(up: Upscaler) -> Planner:
    return Planner(up.model, up.backend)


@moved.keywords()
@attrs.frozen(eq=False)
class Upscaler:
    """A loaded model, ready to enlarge pictures; make one with `Upscaler.load`. No call changes it.

    Args:
        model: Loaded model.
        backend: Device that samples.
        tiling: How large pictures are cut up.
        planner: Maker of the plans; by default one of the model, the backend and the tiling.
    """

    model: Model = field(instance, kind=Model, words="a Model", repr=lambda model: model.contract.name)
    backend: Backend = field(_backend, repr=lambda backend: backend.name)
    tiling: Tiling = field(_tiling, default=None, kw_only=True)
    _planner: Planner = attrs.field(default=attrs.Factory(_new_planner, takes_self=True), repr=False, kw_only=True)

    @classmethod
    @moved.keywords(accept_licence="accept_license")
    def load(
        cls,
        model: str | Path = "tiny",
        device: str = "auto",
        *,
        options: CudaOptions | None = None,
        accept_license: bool = False,
        tiling: Tiling | None = None,
    ) -> Upscaler:
        """Load a model.

        Args:
            model: A bundled model's name ("tiny"), a folder with vae_encoder.onnx and pid_upscaler.onnx, or
                "hf:OWNER/NAME" or "hf:OWNER/NAME@REVISION", such a folder on Hugging Face.
            device: "auto", "cpu" or "cuda".
            options: How ONNX Runtime uses the GPU; on the CPU there is nothing to choose.
            accept_license: Whether a model of Hugging Face may be downloaded; without it, its license is said.
            tiling: How large results are cut up, and by how much memory; None as what is free asks for.

        Returns:
            The upscaler.

        Raises:
            PidSamplerError: The folder breaks the contract, onnxruntime is missing, or the device cannot be had.
        """
        backend = resolve_device(word("device", device))
        if flag("accept_license", accept_license) and str(model).startswith(PREFIX):
            download_model(str(model))
        return cls(Model.load(model, backend, options=options), backend, tiling=tiling or Tiling())

    def with_tiling(self, tiling: Tiling) -> Upscaler:
        """Return an upscaler with the same loaded model that cuts results up in another way.

        Args:
            tiling: How large pictures are cut up.

        Raises:
            PidSamplerError: The tiling is no `Tiling`.
        """
        return attrs.evolve(self, tiling=instance("tiling", tiling, kind=Tiling, words="a Tiling"))

    @overload
    def __call__(self, image: ImagesLike, sampler: SamplerLike | None = None, **options: Any) -> list[Result]: ...
    @overload
    def __call__(self, image: ImageLike, sampler: SamplerLike | None = None, **options: Any) -> Result: ...
    @moved.keywords(scheduler="sampler")
    @listed()
    def __call__(
        self,
        image: ImageLike | ImagesLike,
        sampler: SamplerLike | None = None,
        *,
        on_step: Callable[[Run, Any], object] | None = None,
        progress: Callable[[float], object] | None = None,
        **options: Any,
    ) -> Result | list[Result]:
        """Enlarge one picture, or decode one latent; of a list of them, each in turn.

        Args:
            image: A file, its bytes, a PIL image or an array, see `Source.of`; or a list of these, which gives a list.
            sampler: As in `Options`.
            on_step: As in `sample`.
            progress: Called after each call of the network, of which tiles need several a step, with its share of all.
            **options: Those of `Options`.

        Returns:
            The picture and its record; of a list of inputs, a list of these.

        Raises:
            PidSamplerError: An argument is not as described, or the model failed.
        """
        _check_callbacks(on_step, progress)
        if several(image):
            return [self(each, sampler, on_step=on_step, progress=progress, **options) for each in image]
        asked, source = Options.of({"sampler": sampler, **options}), read(image)
        resolved = _resolved(source, asked, self.model)
        record = _recorded(source, asked, self, resolved)
        _warn(asked, record, native=sizes.output_size(source, self.model))
        make = partial(_made, source, asked, resolved=resolved, up=self, on_step=on_step, progress=progress)
        (array, drift), plan = self._planner.retry_on_oom(make, source, tiling=self.tiling, tensors=resolved.tensors)
        record |= {"tiles": plan.described, "drift": drift, "ran_out_of_memory": plan.tiling != self.tiling}
        return Result(array, record, plan=plan, icc=source.icc, dpi=source.dpi, cicp=source.cicp)

    def plan(self, source: Source, tensors: int = 2) -> TilePlan:
        """Return how a result is cut up, see `Planner.plan`.

        Args:
            source: Input of the result.
            tensors: Number of tensors of the result's size that the sampler holds.
        """
        return self._planner.plan(source, tiling=self.tiling, tensors=tensors)

    @moved.keywords()
    @listed(*CONDITIONS)
    def bind(
        self,
        image: ImageLike,
        *,
        plan: TilePlan | None = None,
        pair: bool = False,
        on_tile: Progress | None = None,
        **options: Any,
    ) -> Bound:
        """Make a picture or latent ready to be sampled: read, encoded, and bound to the network.

        Args:
            image: As in `__call__`.
            plan: How it is cut up; None asks `plan`.
            pair: Bind a `Pair` of networks, for a sampler that guides by its rows (`StepTable.asks_both`).
            on_tile: Called as on_tile(done, total) after each tile of each step, where there are several.
            **options: Those of `Options` that matter here: `CONDITIONS`, where seed is that of the latent's noise.

        Returns:
            The input's tensors and the network, for a loop of one's own.

        Raises:
            PidSamplerError: An argument is not as described, it does not fit into memory, or the encoder failed.
        """
        callback("on_tile", on_tile, takes="(done, total)")
        asked, source = Options.of(options, CONDITIONS), read(image)
        plan = plan or self.plan(source, 2 + (guidance_for(asked, self.model.contract, pair=pair) is not None))
        return bind(source, asked, model=self.model, backend=self.backend, plan=plan, pair=pair, on_tile=on_tile)

    def output_size(self, source: Source, size: Size | None = None) -> tuple[int, int]:
        """Return the (height, width) of a result, see `upscale.sizes.output_size`.

        Args:
            source: Input of the result.
            size: Size or scale asked for; None for the model's own scale.
        """
        return sizes.output_size(source, self.model, size=size)

    @moved.keywords(scheduler="sampler")
    @listed()
    def record(self, source: Source, sampler: SamplerLike | None = None, **options: Any) -> dict[str, Any]:
        """Return the record that `__call__` gives with these arguments, but for what shows in computing it.

        Args:
            source: Input of the result.
            sampler: As in `Options`.
            **options: Those of `Options`.

        Raises:
            PidSamplerError: The sampler, the noise, or the source's shape does not suit the model.
        """
        asked = Options.of({"sampler": sampler, **options})
        return _recorded(source, asked, self, _resolved(source, asked, self.model))


def _check_callbacks(on_step: Callable[..., object] | None, progress: Callable[..., object] | None) -> None:
    callback("on_step", on_step, takes="(run, m)")
    callback("progress", progress, takes="(share)")


def _recorded(source: Source, asked: Options, up: Upscaler, resolved: Resolved) -> dict[str, Any]:
    return make_record(source, asked, resolved=resolved, model=up.model, device=up.backend.device)


def _resolved(source: Source, asked: Options, model: Model) -> Resolved:
    size = sizes.sampled_size(source, model)
    if asked.start is not None and source.latent is not None:
        raise ConfigError(f"start={asked.start} begins from the enlarged picture, and a latent has none: leave it out")
    return resolve(asked, model.contract, size=size)


def _warn(asked: Options, record: dict[str, Any], native: tuple[int, int]) -> None:
    """Warn of what was asked for and may not be meant, in the name of the caller of `Upscaler.__call__`."""
    if asked.degrade_sigma > _TRAINED_SIGMA:
        text = f"degrade_sigma={asked.degrade_sigma} is above {_TRAINED_SIGMA}, the most PiD is trained for"
        warnings.warn(text, PidSamplerWarning, stacklevel=4)
    warn_of_another_model(record.get("learnt_for"), stacklevel=4)
    warn_if_stretched(record["output"]["height"], record["output"]["width"], native=native)


def _made(
    source: Source,
    asked: Options,
    plan: TilePlan,
    *,
    resolved: Resolved,
    up: Upscaler,
    on_step: Callable[[Run, Any], object] | None,
    progress: Callable[[float], object] | None,
) -> tuple[NDArray[np.uint8], dict[str, Any] | None]:
    """Return a picture by a plan, and the drift of its colors: bind, sample, finish."""
    share = 1.0 / (len(resolved.table) * len(plan.grid))

    def after_row(run: Run, m: Any) -> None:
        if progress is not None and len(plan.grid) == 1:
            progress(share)
        if on_step is not None:
            on_step(run, m)

    with up.backend.active():  # once for all, since each entry waits for the caller's stream
        bound = bind(
            source,
            asked,
            model=up.model,
            backend=up.backend,
            plan=plan,
            pair=resolved.table.asks_both,
            on_tile=None if progress is None else lambda *_: progress(share),
        )
        noise = resolved.noise or "independent"  # the table has its draws already
        if asked.start is None:
            x = sample(
                bound.denoiser,
                resolved.table,
                shape=bound.shape,
                seed=asked.seed,
                backend=up.backend,
                noise=noise,
                on_step=after_row,
            )
        else:
            x = up.backend.adopt(_enlarged(source, up.model))
            run = start(resolved.table, x, seed=asked.seed, noise=noise, inplace=True, backend=up.backend)
            run.add_noise()
            x = run.finish(bound.denoiser, after_row)
        native, contract = sizes.output_size(source, up.model), up.model.contract
        return finished(
            x,
            source,
            finish=asked.finish,
            native=native,
            scale=contract.scale,
            drifts=contract.drifts,
            backend=up.backend,
        )


def _enlarged(source: Source, model: Model) -> NDArray[np.float32]:
    """The picture as large as what is sampled, on the host: padded as it is for the encoder, then enlarged."""
    small = to_tensor(source.rgb, size=sizes.padded_size(source, model), backend="numpy")
    return enlarge(small, model.contract.scale)
