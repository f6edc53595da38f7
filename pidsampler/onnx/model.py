"""A model folder at work: image -> latent, and the network as a Denoiser."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import moved, values
from ..backends import Array, Backend, get_backend
from ..errors import ConfigError, ModelError
from ..io import captions
from .contract import (
    ENCODER,
    LATENT,
    NETWORK,
    PROJECTION,
    read_contract,
    read_null_caption,
)
from .folders import check_model, model_hashes, model_path
from .network import BoundNetwork, OnnxDenoiser
from .providers import CudaOptions, import_onnxruntime
from .session import Session

_PART = 1 << 24  # elements of a feature that are checked at once


class Model:
    """A loaded model folder on one device.

    Args:
        path: The folder.
        backend: Backend whose device runs the graphs.
        options: Options of the GPU.

    Attributes:
        null_caption: Caption where none is given, float32 (tokens, width), read-only; None without null_caption.npy.

    Raises:
        PidSamplerError: The folder breaks the contract; the message says what was found and expected.
    """

    null_caption: NDArray[np.float32] | None

    @moved.keywords()
    def __init__(self, path: Path, backend: Backend, *, options: CudaOptions | None = None) -> None:
        self.path = path = values.file_path("path", path)
        self._backend = backend = get_backend(backend)
        self._options = CudaOptions() if options is None else options
        values.instance("options", self._options, kind=CudaOptions, words="a CudaOptions")
        self._graphs: dict[tuple[int, ...], BoundNetwork] = {}
        manifest = check_model(path)  # before the graphs: it is read in no time
        encoder = path / ENCODER
        self.encoder = Session(encoder, backend, options=self._options) if encoder.is_file() else None
        self.network = Session(path / NETWORK, backend, options=self._options, network=True)
        self.projection = None
        if (path / PROJECTION).is_file():  # it runs once a picture, and its features can be larger than the picture
            # Features of bfloat16 or float16 round more than TF32 does: it takes a fifth of the time.
            rounded = any(tensor.dtype.itemsize == 2 for tensor in self.network.inputs)
            self.projection = Session(path / PROJECTION, backend, options=self._options, keep=False, tf32=rounded)
        self.contract = read_contract(
            path, manifest, encoder=self.encoder, network=self.network, projection=self.projection
        )
        self.null_caption = read_null_caption(path, self.contract)
        self._feature_shapes: dict[tuple[int, ...], dict[str, tuple[int, ...]]] = {}
        self._alone()

    @classmethod
    @moved.keywords()
    def load(cls, model: str | Path, backend: Backend, *, options: CudaOptions | None = None) -> Model:
        """Load a bundled model by name, or a folder.

        Args:
            model: Bundled name, or a folder with the graphs.
            backend: Device that the graphs run on.
            options: Options of the CUDA provider; None for its defaults.

        Returns:
            The model, ready to run.

        Raises:
            PidSamplerError: There is no such model, or the folder breaks the contract.
        """
        return cls(model_path(model), backend, options=options)

    def encode(self, image: Array) -> Array:
        """Run the encoder.

        Args:
            image: float32 (1, 3, H, W) in -1..1, of a size that `Contract.padded_size` returned.

        Returns:
            float32 latent (1, C, H/f, W/f).

        Raises:
            PidSamplerError: There is no encoder, it failed, or its latent holds NaN or infinity.
        """
        values.array("image", image)
        if self.encoder is None:
            raise ModelError(f"{self.path} has no {ENCODER}: it takes latents, not pictures")
        (source,), (target,) = self.encoder.inputs, self.encoder.outputs
        f = self.contract.vae_factor
        shape = (1, self.contract.latent_channels, image.shape[2] // f, image.shape[3] // f)
        self._alone(self.encoder)
        latent = self._backend.empty(shape, target.dtype)
        binding = self.encoder.bind(shrink=True)
        binding.input(source.name, image.astype(source.dtype, copy=False))
        binding.output(target.name, latent)
        binding.run()
        latent = latent.astype(np.float32, copy=False)
        if not np.isfinite(latent).all():
            raise ModelError(
                f"{self.encoder.path} gave a latent with NaN or infinity: an fp16 VAE overflows, use its fp32 export"
            )
        return latent

    def check_latent(self, latent: Array) -> None:
        """Check a latent that did not come from `encode`.

        Args:
            latent: float32 (1, C, h, w).

        Raises:
            PidSamplerError: Its shape does not fit the network, or a value is not finite.
        """
        values.array("latent", latent)
        c = self.contract
        least = c.fixed_size and tuple(n // c.vae_factor for n in c.fixed_size)
        h, w = (f">={n}" for n in least) if least else ("height", "width")
        if latent.ndim != 4 or latent.shape[0] != 1 or latent.shape[1] != c.latent_channels or 0 in latent.shape:
            hint = "; floats of a picture are (height, width, 1..4) in 0..1" if latent.shape[-1:] <= (4,) else ""
            raise ConfigError(
                f"the latent has shape {latent.shape}, but {c.name} takes (1, {c.latent_channels}, {h}, {w}){hint}"
            )
        if least and any(n < m for n, m in zip(latent.shape[2:], least, strict=True)):
            raise ConfigError(f"the latent is {latent.shape[2:]} in size, but {c.name} takes {least} at least")
        if not np.isfinite(latent).all():
            raise ConfigError("the latent holds NaN or infinity, expected finite numbers: make it again")

    def check_caption(self, caption: Array | None) -> None:
        """Check that the network takes a caption's embedding (tokens, width); it can do without one.

        Raises:
            PidSamplerError: The network takes no caption, or one of another shape.
        """
        c = self.contract
        if caption is None:
            return
        if c.caption is None:
            what = f"the caption has shape {tuple(caption.shape)}, but {c.name} takes none"
            raise ConfigError(f"{what}: leave it out, or export the model with caption=input")
        captions.check_shape(caption, c.caption, taker=c.name)

    @moved.keywords()
    def denoiser(
        self, latent: Array, sigma: float, *, caption: Array | None = None, check: bool = True
    ) -> OnnxDenoiser:
        """Return the network with its conditions bound; a folder's projection runs here, once for all steps.

        Args:
            latent: float32 (1, C, h, w).
            sigma: The noise level that the latent has, in 0..1.
            caption: Floats of `Contract.caption`; None is the folder's null caption, or zeros where it has none.
            check: Look for NaN and infinity in the projection's features, which waits for the device. Tiles are made
                within the loop, where nothing is read back: there the result shows it.

        Raises:
            PidSamplerError: The projection failed, its features hold NaN or infinity, or the caption does not suit.
        """
        self.check_caption(caption)
        with self._backend.active(), np.errstate(over="ignore"):
            at = self._captured(latent)
            at.sigma.fill(sigma)
            if at.caption is not None:
                at.caption[...] = self._embedding(caption)
            if check and self.projection is not None:
                self._check_features(self.projection, at.conditions)
        return OnnxDenoiser(at, self._backend, timescale=self.contract.timescale)

    def denoisers(
        self, latent: Array, sigma: float, *, captions: Sequence[Array | None], check: bool = True
    ) -> list[OnnxDenoiser]:
        """Return denoisers of one latent that differ in their captions, for guidance: its projection runs once.

        Args:
            latent: As in `denoiser`, and so are the others.
            sigma: The noise level that the latent has.
            captions: The caption of each; None as in `denoiser`.
            check: Look for NaN and infinity in the projection's features.

        Raises:
            PidSamplerError: As `denoiser`; or the network takes no caption.
        """
        if self.contract.caption is None:
            raise ConfigError(f"{self.contract.name} takes no caption: there is nothing for denoisers to differ in")
        for caption in captions:
            self.check_caption(caption)
        shared = self.denoiser(latent, sigma, check=check)
        with self._backend.active(), np.errstate(over="ignore"):
            return [shared.told(self._embedding(caption)) for caption in captions]

    def _embedding(self, caption: Array | None) -> Array | float:
        """What is written where the network reads a caption."""
        return self._own_caption if caption is None else self._backend.adopt(caption)

    def release(self) -> None:
        """Give the memory of all graphs back; the next call loads them again."""
        self._graphs.clear()
        for session in self.sessions:
            session.close()

    @cached_property
    def _own_caption(self) -> Array | float:
        """The caption where none is given, on the device."""
        return 0.0 if self.null_caption is None else self._backend.adopt(self.null_caption)

    @property
    def sessions(self) -> list[Session]:
        """The folder's graphs in the order in which they run."""
        return [session for session in (self.encoder, self.projection, self.network) if session is not None]

    def _alone(self, *kept: Session | None) -> None:
        """With `one_at_a_time`, free the memory of every graph but these."""
        if self._options.one_at_a_time:
            if self.network not in kept:
                self._graphs.clear()
            for session in self.sessions:
                if session not in kept:
                    session.close()

    def _captured(self, latent: Array) -> BoundNetwork:
        """The network's binding with this latent: a new one, or with CUDA graphs the one recorded for its size."""
        self._alone(self.projection, self.network)
        ready = self._graphs.get(latent.shape)
        conditions = self._conditions(latent, ready.conditions if ready else None)
        if ready is not None:
            return ready
        if not self._options.cuda_graph or self._backend.device == "cpu":
            return BoundNetwork(self.network, self._backend, conditions=conditions)
        captured = BoundNetwork(self.network, self._backend, conditions=conditions, graph=1 + len(self._graphs))
        self._graphs[latent.shape] = captured
        return captured

    def _conditions(self, latent: Array, into: dict[str, Array] | None) -> dict[str, Array]:
        """What the network takes of a latent, by name: in the arrays given, which stay in place, or in new ones."""
        if self.projection is not None:
            return self._features(self.projection, latent, into)
        if into is None:
            dtype = next(tensor.dtype for tensor in self.network.inputs if tensor.name == LATENT)
            into = {LATENT: self._backend.empty(latent.shape, dtype)}
        into[LATENT][...] = self._backend.adopt(latent)
        return into

    def _features(self, projection: Session, latent: Array, into: dict[str, Array] | None) -> dict[str, Array]:
        """Run the projection: its outputs by name."""
        source = self._backend.empty(latent.shape, projection.inputs[0].dtype)
        source[...] = self._backend.adopt(latent)
        if into is None:
            shapes = self._shapes(projection, source)
            into = {t.name: self._backend.empty(shapes[t.name], t.dtype) for t in projection.outputs}
        binding = projection.bind(shrink=True)
        binding.input(LATENT, source)
        for name, array in into.items():
            binding.output(name, array)
        binding.run()
        return into

    def _check_features(self, projection: Session, features: dict[str, Array]) -> None:
        for name, array in features.items():
            if not _is_finite(array):
                raise ModelError(
                    f"{projection.path} gave NaN or infinity in {name}: an fp16 graph overflows, use its fp32 or bf16 "
                    "export"
                )

    def _shapes(self, projection: Session, latent: Array) -> dict[str, tuple[int, ...]]:
        """The shapes of the features: as declared, or where an axis is dynamic, as they came out for this size."""
        fixed = {tensor.name: tuple(n for n in tensor.shape if isinstance(n, int)) for tensor in projection.outputs}
        if all(len(fixed[tensor.name]) == len(tensor.shape) for tensor in projection.outputs):
            return fixed
        if latent.shape not in self._feature_shapes:
            self._feature_shapes[latent.shape] = projection.output_shapes(latent)
        return self._feature_shapes[latent.shape]

    @property
    def runtime_version(self) -> str:
        """Version of onnxruntime."""
        return str(import_onnxruntime().__version__)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file that makes the model, see `model_hashes`."""
        return model_hashes(self.path)


def _is_finite(array: Array) -> bool:
    """Whether all elements are: a part at a time, since features may take more memory than the picture."""
    flat, dtype = array.reshape(-1), np.promote_types(array.dtype, np.float32)
    parts = (flat[start : start + _PART] for start in range(0, flat.size, _PART))
    return all(bool(np.isfinite(part.astype(dtype, copy=False)).all()) for part in parts)


__getattr__ = moved.names(__name__)
