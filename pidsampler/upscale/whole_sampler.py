"""A whole sampler in one ONNX file at work: what `export.compile` made, with an `Upscaler`'s calls."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from ..backends import Backend
from ..errors import ConfigError, ModelError, PidSamplerWarning
from ..image.pixels import to_tensor
from ..image.size import Size, resolve, warn_if_stretched
from ..io import captions
from ..io.files import sha256
from ..noise.philox import DEGRADE
from ..onnx.contract import CAPTION
from ..onnx.device import resolve_device
from ..onnx.providers import import_onnxruntime
from ..onnx.session import Session
from ..onnx.whole import Port, Whole, read_whole
from ..values import callback, file_path, instance, word
from . import memory
from .finish import finished
from .memory import TilePlan, Tiling
from .options import Options
from .record import versions
from .source import ImageLike, Source, read
from .upscaler import Result

_FIXED = ("sampler", "noise", "guidance", "negative", "steps", "start")  # options that the graph has in it
_SEED, _SIGMA, _LATENT, _PICTURE = "seed", "degrade_sigma", "latent", "picture"
_NOISE, _LATENT_NOISE = "noise_", "noise_latent"
_AGAIN = "compile a graph for this one"
_TYPES = {
    **dict.fromkeys((_SIGMA, _LATENT, _LATENT_NOISE, CAPTION), "float32"),
    _PICTURE: "uint8",
    _SEED: "uint64",
}
_AXES = {"uint8": 3, "float32": 4}  # of the result
_INPUT_AXES = {_PICTURE: 3, _LATENT: 4, CAPTION: 3}


class WholeSampler:
    """A whole sampler, loaded: it enlarges pictures or decodes latents by one sampler, of one size or of any.

    Args:
        path: File that `export.compile` or `pidsampler compile` made.
        device: "auto", "cpu" or "cuda".

    Attributes:
        whole: What the file says of itself.

    Raises:
        PidSamplerError: The file cannot be loaded, is no whole sampler, or its tensors are not those that it says.
    """

    def __init__(self, path: str | Path, device: str = "auto") -> None:
        self.path = path = file_path("path", path)
        self.backend: Backend = resolve_device(word("device", device))
        if not path.is_file():
            raise ModelError(f"no file {path}: make a whole sampler by `pidsampler compile`")
        self._session = Session(path, self.backend, whole=True)
        session = self._session
        self.whole: Whole = read_whole(session.metadata, path=path, inputs=session.inputs, outputs=session.outputs)
        self._inputs = {port.name: port for port in self.whole.inputs}
        self._check()
        if _SEED in self._inputs and self.backend.device != "cpu":
            text = f"{path} makes its noise by operators that run on the CPU alone: compile it with noise='input'"
            warnings.warn(text, PidSamplerWarning, stacklevel=2)

    def __call__(
        self,
        image: ImageLike,
        sampler: None = None,
        *,
        progress: Callable[[float], object] | None = None,
        **options: Any,
    ) -> Result:
        """Enlarge one picture, or decode one latent.

        Args:
            image: As in `Upscaler.__call__`, of a size that the graph takes. 16-bit pictures are rounded to 8 bits.
            sampler: None: the graph has its own.
            progress: Called with 1.0 at the end.
            **options: seed, degrade_sigma, finish, and caption where the graph takes one; see `Options`.

        Raises:
            PidSamplerError: An argument is not as described, or does not suit the graph, or the graph failed.
        """
        callback("progress", progress, takes="(share)")
        asked, source = self._asked({"sampler": sampler, **options}), read(image)
        whole = self._sized(source)
        native = _native(whole)
        warn_if_stretched(*self.output_size(source, asked.finish.size), native=native)
        with self.backend.active():
            (port,) = whole.outputs
            result = self.backend.empty(port.sizes, port.type)
            binding = self._session.bind()
            for name, array in self._arrays(source, asked, whole).items():
                binding.input(name, array)
            binding.output(port.name, result)
            binding.run()
            if port.type == "uint8":
                result = to_tensor(self.backend.to_host(result), size=native, backend=self.backend)
            array, drift = finished(
                result,
                source,
                finish=asked.finish,
                native=native,
                scale=self.whole.scale,
                drifts=self.whole.drifts,
                backend=self.backend,
            )
        if progress is not None:
            progress(1.0)
        record = self._record(source, asked) | {"tiles": None, "drift": drift, "ran_out_of_memory": False}
        return Result(array, record, plan=_plan(native, whole.scale), icc=source.icc, dpi=source.dpi, cicp=source.cicp)

    def with_tiling(self, tiling: Tiling) -> WholeSampler:
        """Return the sampler itself: one graph has no tiles."""
        instance("tiling", tiling, kind=Tiling, words="a Tiling")
        return self

    def output_size(self, source: Source, size: Size | None = None) -> tuple[int, int]:
        """Return the (height, width) of a result: the graph's own, or `size` if that is less.

        Raises:
            PidSamplerError: The source is not of the size or kind that the graph takes, or `size` is above its own.
        """
        instance("source", source, kind=Source, words="a Source")
        if size is not None:
            instance("size", size, kind=Size, words="a Size")
        return resolve(size, _native(self._sized(source)), native_scale=self.whole.scale)

    def record(self, source: Source, sampler: None = None, **options: Any) -> dict[str, Any]:
        """Return the record that `__call__` gives with these arguments, but for what shows in computing it.

        Raises:
            PidSamplerError: An argument is not as described, or does not suit the graph.
        """
        return self._record(source, self._asked({"sampler": sampler, **options}))

    @cached_property
    def sha256(self) -> str:
        """SHA-256 of the file."""
        return sha256(self.path)

    def _check(self) -> None:
        """The inputs are among those that `_arrays` makes, of types that these have."""
        for port in self.whole.inputs:
            is_noise = port.name.startswith(_NOISE) and port.name.removeprefix(_NOISE).isdecimal()
            expected = _TYPES.get(port.name, "float32" if is_noise else None)
            if port.type != expected or len(port.shape) != _INPUT_AXES.get(port.name, len(port.shape)):
                raise ModelError(f"{self.path}: its input is {port}, which no whole sampler takes")
        if (_PICTURE in self._inputs) == (_LATENT in self._inputs) or _SIGMA not in self._inputs:
            raise ModelError(f"{self.path}: its inputs are {', '.join(self._inputs)}: a picture or a latent is missing")
        if len(self.whole.outputs) != 1 or len(self.whole.outputs[0].shape) != _AXES.get(self.whole.outputs[0].type):
            raise ModelError(f"{self.path}: its output is no picture")

    def _sized(self, source: Source) -> Whole:
        """What the file says of itself, for one source that it takes."""
        if (port := self._inputs.get(_PICTURE)) is not None:
            if source.latent is not None:
                raise ConfigError(f"{self.path} takes pictures{_of(port)}, found a latent: {_AGAIN}")
            height, width = source.rgb.shape[:2]
            if not _fits(port.shape, (height, width, 3)):
                raise ConfigError(f"{self.path} takes pictures{_of(port)}, found one of {width}x{height}: {_AGAIN}")
            return self.whole.at(height, width)
        shape = self._inputs[_LATENT].shape
        if source.latent is None or not _fits(shape, source.latent.shape):
            found = "a picture" if source.latent is None else f"one of shape {source.latent.shape}"
            said = ", ".join(map(str, shape))
            raise ConfigError(f"{self.path} takes latents of shape ({said}), found {found}: {_AGAIN}")
        height, width = source.latent.shape[2:]
        return self.whole.at(height * self.whole.vae_factor, width * self.whole.vae_factor)

    def _asked(self, given: dict[str, Any]) -> Options:
        options = Options.of(given)
        for option in attrs.fields(Options):
            if option.name in _FIXED and getattr(options, option.name) != option.default:
                raise ConfigError(
                    f"{option.name} is in the graph {self.path} already: leave it out, or compile another"
                )
        port = self._inputs.get(CAPTION)
        if port is None and options.caption is not None:
            raise ConfigError(f"{self.path} takes no caption: compile it with caption='input'")
        if port is not None:
            if options.caption is None:
                raise ConfigError(f"{self.path} takes a caption, but none is given: pass a caption")
            captions.check_shape(options.caption, (port.sizes[1], port.sizes[2]))
        return options

    def _arrays(self, source: Source, asked: Options, whole: Whole) -> dict[str, Any]:
        """What the graph takes, by name, on the device."""
        backend = self.backend
        made: dict[str, NDArray[Any]] = {_SIGMA: np.array([asked.degrade_sigma], np.float32)}
        if _PICTURE in self._inputs:
            rgb = source.rgb
            made[_PICTURE] = rgb if rgb.dtype == np.uint8 else np.rint(rgb / 257.0).astype(np.uint8)
        elif source.latent is not None:
            made[_LATENT] = source.latent
        if _SEED in self._inputs:
            made[_SEED] = np.array([asked.seed], np.uint64)
        if asked.caption is not None:
            made[CAPTION] = asked.caption[None]
        arrays = {}
        for port in whole.inputs:
            if port.name in made:
                array = np.require(made[port.name], requirements="C")
                arrays[port.name] = array if port.name in self._session.on_host else backend.adopt(array)
            else:
                arrays[port.name] = self._noise(port, asked)
        return arrays

    def _noise(self, port: Port, asked: Options) -> Any:
        x, name = self.backend.empty(port.sizes, np.float32), port.name.removeprefix(_NOISE)
        if port.name != _LATENT_NOISE:
            self.backend.noise(x, [asked.seed], draw=int(name))
        elif asked.degrade_sigma > 0.0:
            self.backend.noise(x, [asked.seed], draw=0, stream=DEGRADE)
        else:
            x[...] = 0.0
        return x

    def _record(self, source: Source, asked: Options) -> dict[str, Any]:
        height, width = self.output_size(source, asked.finish.size)
        given = {"caption": captions.described(asked.caption), "caption_source": "given"}
        return {
            **self.whole.record,
            **({} if asked.caption is None else given),
            "table": self.whole.table.to_dict(),
            "noise": "independent",
            "seed": asked.seed,
            "degrade_sigma": asked.degrade_sigma,
            "finish": asked.finish.described(source, self.whole.drifts),
            "start": None,
            "input": source.described,
            "output": {"width": width, "height": height},
            "graph": {"name": self.path.name, "sha256": self.sha256},
            "device": self.backend.device,
            "versions": versions(str(import_onnxruntime().__version__)),
        }


def _native(whole: Whole) -> tuple[int, int]:
    """The (height, width) of the result, of sizes that are numbers."""
    (port,) = whole.outputs
    height, width = port.sizes[:2] if port.type == "uint8" else port.sizes[2:]
    return height, width


def _plan(native: tuple[int, int], scale: int) -> TilePlan:
    return memory.plan(Tiling(), native, unit=1, scale=scale, fixed=None, budget=None, tensors=1, need=_no_need)


def _fits(taken: tuple[int | str, ...], found: tuple[int, ...]) -> bool:
    """Whether a shape is one that a port takes."""
    return len(taken) == len(found) and all(isinstance(n, str) or n == m for n, m in zip(taken, found, strict=True))


def _of(port: Port) -> str:
    """Of which size the pictures are, in words; nothing where they are of any."""
    height, width = port.shape[:2]
    return "" if isinstance(height, str) else f" of {width}x{height}"


def _no_need() -> memory.Need:
    raise AssertionError("a whole sampler is never cut up")
