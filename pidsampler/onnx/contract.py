"""The contract of a model folder, read from its graphs and its manifest together, or refused.

    vae_encoder.onnx   one input, image (1, 3, H, W) in -1..1; one output, latent (1, C, H/f, W/f)
    pid_upscaler.onnx  inputs x (1, 3, S*H, S*W), t, lq_latent, degrade_sigma; output like x
    lq_projection.onnx optional: one input, lq_latent (1, C, H/f, W/f); outputs, the features that the network takes by
                       the same names and of the same types instead of lq_latent: floats of two axes or more, the last
                       of a fixed size. It depends on neither x nor t, so it runs once for each picture.
    pidsampler.json    optional, see `manifest`
    tables/NAME.json   optional: step tables of the names that pidsampler.json lists
    null_caption.npy   optional: floats (tokens, width), the caption of whoever gives none

The network may take a caption (1, tokens, width) too, its embedding by a text encoder: floats of a fixed shape.

Without vae_encoder.onnx the folder decodes latents alone, and its manifest has to state vae_factor.

Names of the encoder's tensors and of the features are free; the network's inputs go by name. H and W are fixed or
dynamic.
"""

from __future__ import annotations

import os
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .. import moved
from ..errors import ModelError, PidSamplerError
from ..io import captions
from ..values import file_path
from .manifest import NAME as MANIFEST
from .manifest import Manifest, OwnTimes, own_tables
from .session import Graph, Tensor

ENCODER, PROJECTION, NETWORK = "vae_encoder.onnx", "lq_projection.onnx", "pid_upscaler.onnx"
LATENT, CAPTION = "lq_latent", "caption"
NULL_CAPTION = "null_caption.npy"
_NETWORK_INPUTS = ("x", "t", LATENT, "degrade_sigma")
_OWN_INPUTS = ("x", "t", "degrade_sigma")  # what no other graph makes
_PROBE = 64  # pixels: every known VAE factor divides it
_SDXL_CHANNELS = 4


@moved.keywords(licence="license")
@dataclass(frozen=True, kw_only=True)
class Contract:
    """What a folder's graphs and manifest say together.

    Args:
        name: Name of the model; the folder's name if the manifest has none.
        description: One line, or "".
        license: SPDX name or one line; "not stated" without one.
        prediction: "velocity", "x0" or "eps".
        timescale: The network takes t*timescale.
        timesteps: The default list, or the rule that makes it for a size.
        sampler: Spec of the default scheduler; "flow-sde" where the manifest has none.
        guidance: Default guidance scale where a caption is given, or None where the manifest does not say.
        noise_frame: "flow" or "vp".
        scale: Output pixels per input pixel, along a side.
        vae_factor: Input pixels per latent pixel, along a side.
        latent_channels: C of the latent.
        fixed_size: (height, width) of the only image the graphs take, or None if they are dynamic.
        caption: (tokens, width) of the caption's embedding, or None where the network takes none.
        null_caption: Whether the folder has a null caption, the one where none is given.
        origin: Where the weights are from, or None where the manifest does not say.
        stored_caption: SHA-256 of the embedding that the network holds, or None where the manifest says of none.
        position_limit: Pixels a side beyond which the network scales pixel positions down, or None where it scales
            none.
        drifts: Whether its colors are known to drift.
        network_bytes: Memory of the network for each pixel of the result, or None where the manifest does not say.
        encoder_bytes: Memory of the encoder for each pixel of the input, or None where the manifest does not say.
        tables: Files of the model's own step tables, by the names that follow @ in a sampler.
    """

    name: str
    description: str
    license: str
    prediction: str
    timescale: float
    timesteps: OwnTimes
    sampler: str
    guidance: float | None
    noise_frame: str
    scale: int
    vae_factor: int
    latent_channels: int
    fixed_size: tuple[int, int] | None
    caption: tuple[int, int] | None
    null_caption: bool
    origin: str | None
    stored_caption: str | None
    position_limit: int | None
    drifts: bool
    network_bytes: float | None
    encoder_bytes: float | None
    tables: dict[str, Path]

    licence = moved.attribute("licence", "license")

    @property
    def unit(self) -> int:
        """Pixels of the result for each latent pixel, along a side."""
        return self.scale * self.vae_factor

    def padded_size(self, height: int, width: int) -> tuple[int, int]:
        """Return the size to which an image is padded before it is encoded: at least that of graphs of a fixed size."""
        f, least = self.vae_factor, self.fixed_size or (1, 1)
        return max(least[0], -(-height // f) * f), max(least[1], -(-width // f) * f)


def read_contract(
    folder: Path, manifest: Manifest, *, encoder: Graph | None, network: Graph, projection: Graph | None = None
) -> Contract:
    """Put the graphs and the manifest of a folder together.

    Args:
        folder: Model folder, for messages.
        manifest: Empty where the folder has none.
        encoder: The graph of `ENCODER`, or None where the folder has none.
        network: The graph of `NETWORK`.
        projection: The graph of `PROJECTION`, or None where the network takes the latent itself.

    Raises:
        PidSamplerError: A graph breaks the contract, or they disagree; the message says what was found and
            what was expected.
    """
    return _Reader(folder, manifest, encoder, network, projection).contract()


def has_null_caption(folder: Path) -> bool:
    """Return whether a model folder has something by the name of the null caption, whether or not it can be read."""
    return os.path.lexists(file_path("folder", folder) / NULL_CAPTION)


def read_null_caption(folder: Path, contract: Contract) -> NDArray[np.float32] | None:
    """Read the null caption of a model folder: float32 (tokens, width), read-only, or None where there is none.

    Raises:
        PidSamplerError: The null caption cannot be read, or is none that the network takes.
    """
    path = folder / NULL_CAPTION
    if not has_null_caption(folder):
        return None
    if contract.caption is None:
        raise ModelError(f"{path}: the network takes no caption: delete the file, or export with caption=input")
    caption = captions.read(path)
    try:
        captions.check_shape(caption, contract.caption)
    except PidSamplerError as error:
        raise ModelError(f"{path}: {error}") from error
    caption.flags.writeable = False
    return caption


class _Reader:
    """Puts graphs and manifest together, and refuses what does not fit."""

    def __init__(
        self, folder: Path, manifest: Manifest, encoder: Graph | None, network: Graph, projection: Graph | None
    ) -> None:
        self.folder, self.manifest = folder, manifest
        self.encoder, self.network, self.projection = encoder, network, projection
        self.takes_latent = NETWORK if projection is None else PROJECTION

    def contract(self) -> Contract:
        manifest = self.manifest
        x, latent = self._network_tensors()
        if self.encoder is not None:
            image, latent_out = self._encoder_tensors(self.encoder)
            factor, channels = self._factor_and_channels(self.encoder, image, latent_out, latent)
        else:
            factor, channels = self._stated(latent)
            sides = (n * factor if isinstance(n, int) else n for n in latent.shape[2:])
            image = Tensor(name="image", dtype=np.dtype(np.float32), shape=(1, 3, *sides))
        scale = self._agreed("scale", _ratio(x, image) or _ratio(x, latent, factor), manifest.scale, default=4)
        for axis in (2, 3):
            self._same_size(axis, image, x, scale)
            self._same_size(axis, latent, x, scale * factor)
        height, width = (_fixed(image, a) or _fixed(x, a, scale) for a in (2, 3))
        if self.projection is not None:  # a graph of its own can be fixed where the others are not
            for axis in (2, 3):
                self._same_size(axis, latent, image, factor)
            height, width = height or _times(latent, 2, factor), width or _times(latent, 3, factor)
        if (height is None) != (width is None):
            raise self._broken(NETWORK, "one of height and width is fixed and the other dynamic: fix both or none")
        return Contract(
            name=manifest.name or self.folder.resolve().name,
            description=manifest.description or "",
            license=manifest.license or "not stated",
            prediction=manifest.prediction or "velocity",
            timescale=manifest.timescale or 1000.0,
            timesteps=manifest.own_timesteps,
            sampler=manifest.own_sampler,
            guidance=manifest.guidance,
            # SDXL's is the only variance-preserving latent among PiD's backbones, and the only one of 4 channels.
            noise_frame=manifest.noise_frame or ("vp" if channels == _SDXL_CHANNELS else "flow"),
            scale=scale,
            vae_factor=factor,
            latent_channels=channels,
            fixed_size=(height, width) if height and width else None,
            caption=self._caption(),
            null_caption=has_null_caption(self.folder),
            origin=manifest.origin,
            stored_caption=manifest.stored_caption,
            position_limit=manifest.position_limit,
            drifts=manifest.drifts or False,
            network_bytes=manifest.network_bytes,
            encoder_bytes=manifest.encoder_bytes,
            tables=own_tables(self.folder, manifest),
        )

    def _encoder_tensors(self, session: Graph) -> tuple[Tensor, Tensor]:
        if len(session.inputs) != 1 or len(session.outputs) != 1:
            found = f"{len(session.inputs)} inputs and {len(session.outputs)} outputs"
            raise self._broken(ENCODER, f"it has {found}, expected one image in and one latent out")
        (image,), (latent,) = session.inputs, session.outputs
        self._is_image(ENCODER, image)
        if len(latent.shape) != 4:
            raise self._broken(ENCODER, f"its output is {latent}, expected a latent of 4 axes")
        return image, latent

    def _network_tensors(self) -> tuple[Tensor, Tensor]:
        """Return x and the latent, which is an input of the network or of the projection."""
        session = self.network
        inputs = {tensor.name: tensor for tensor in session.inputs if tensor.name != CAPTION}
        latent = self._whole(inputs) if self.projection is None else self._split(inputs, self.projection)
        if len(session.outputs) != 1:
            names = ", ".join(t.name for t in session.outputs)
            raise self._broken(NETWORK, f"its outputs are {names}; expected one, like x")
        self._is_image(NETWORK, inputs["x"])
        self._is_image(NETWORK, session.outputs[0])
        for name in ("t", "degrade_sigma"):
            if len(inputs[name].shape) > 1 or any(isinstance(n, int) and n != 1 for n in inputs[name].shape):
                raise self._broken(NETWORK, f"{inputs[name]} expected a scalar or one number")
        if inputs["degrade_sigma"].dtype.kind == "i":
            raise self._broken(NETWORK, f"{inputs['degrade_sigma']} expected a floating type")
        if len(latent.shape) != 4:
            raise self._broken(self.takes_latent, f"{latent} expected 4 axes")
        return inputs["x"], latent

    def _caption(self) -> tuple[int, int] | None:
        for tensor in self.network.inputs:
            if tensor.name == CAPTION:
                _, *shape = tensor.shape
                sizes = [n for n in shape if isinstance(n, int)]
                if len(shape) != 2 or len(sizes) != 2 or tensor.shape[0] not in (1, None) or tensor.dtype.kind == "i":
                    raise self._broken(NETWORK, f"{tensor} expected floats of a fixed shape (1, tokens, width)")
                return sizes[0], sizes[1]
        return None

    def _whole(self, inputs: dict[str, Tensor]) -> Tensor:
        """Return the latent of a network that takes it itself."""
        if sorted(inputs) != sorted(_NETWORK_INPUTS):
            split = LATENT not in inputs and all(name in inputs for name in _OWN_INPUTS)
            hint = f", or {PROJECTION} beside it to make the others" if split else ""
            raise self._broken(
                NETWORK, f"its inputs are {_listed(inputs)}; expected by name {', '.join(_NETWORK_INPUTS)}{hint}"
            )
        return inputs[LATENT]

    def _split(self, inputs: dict[str, Tensor], projection: Graph) -> Tensor:
        """Return the latent of a projection whose outputs are the network's other inputs."""
        features = {tensor.name: tensor for tensor in projection.outputs}
        if [tensor.name for tensor in projection.inputs] != [LATENT] or projection.inputs[0].dtype.kind == "i":
            found = ", ".join(map(str, projection.inputs)) or "none"
            raise self._broken(PROJECTION, f"its inputs are {found}; expected one of floats, {LATENT}")
        for feature in features.values():
            self._is_feature(feature)
        if LATENT in inputs:
            raise self._broken(
                NETWORK,
                f"it takes {LATENT}, but {PROJECTION} is there to take it: expected in its place "
                f"{', '.join(features)}, or no {PROJECTION} in the folder",
            )
        if lost := features.keys() - inputs.keys():
            raise self._broken(
                PROJECTION, f"{NETWORK} has no input for {_named(lost, features)}: its inputs are {_listed(inputs)}"
            )
        expected = [*_OWN_INPUTS, *features]
        if missing := {*expected} - inputs.keys():
            raise self._broken(
                NETWORK, f"it has no input {_named(missing, expected)}; expected by name {', '.join(expected)}"
            )
        if orphans := inputs.keys() - {*expected}:
            raise self._broken(
                NETWORK,
                f"nothing provides its input {_named(orphans, inputs)}: expected {', '.join(_OWN_INPUTS)} and the "
                f"outputs of {PROJECTION}, {', '.join(features)}",
            )
        for name, feature in features.items():
            self._same_feature(feature, inputs[name])
        return projection.inputs[0]

    def _is_feature(self, tensor: Tensor) -> None:
        if tensor.name in _NETWORK_INPUTS:
            raise self._broken(PROJECTION, f"its output {tensor.name!r} has the name of another input: rename it")
        if len(tensor.shape) < 2 or not isinstance(tensor.shape[-1], int) or tensor.dtype.kind == "i":
            raise self._broken(
                PROJECTION, f"its output is {tensor}, expected floats of 2 axes or more, the last of a fixed size"
            )

    def _same_feature(self, made: Tensor, taken: Tensor) -> None:
        if made.dtype != taken.dtype:
            raise self._broken(
                NETWORK, f"it takes {taken}, but {PROJECTION} makes {made.dtype}: export both in one element type"
            )
        fits = len(made.shape) == len(taken.shape) and all(
            a == b or not (isinstance(a, int) and isinstance(b, int))
            for a, b in zip(made.shape, taken.shape, strict=True)
        )
        if not fits:
            raise self._broken(NETWORK, f"it takes {taken}, but {PROJECTION} makes {made}: export both for one size")

    def _stated(self, latent: Tensor) -> tuple[int, int]:
        """Return the factor and channels of a folder without an encoder."""
        if self.manifest.vae_factor is None:
            raise self._broken(MANIFEST, f"without {ENCODER} it has to state vae_factor: input pixels per latent pixel")
        if not isinstance(latent.shape[1], int):
            raise self._broken(
                self.takes_latent, f"{latent} expected a fixed number of channels: there is no {ENCODER}"
            )
        return self.manifest.vae_factor, latent.shape[1]

    def _factor_and_channels(
        self, encoder: Graph, image: Tensor, latent_out: Tensor, latent_in: Tensor
    ) -> tuple[int, int]:
        channels = {t.shape[1] for t in (latent_out, latent_in) if isinstance(t.shape[1], int)}
        factor = _ratio(image, latent_out)
        if factor is None or not channels:
            # The shapes are symbols: ask the graph by running it once on a small image.
            height, width = (_fixed(image, axis) or _PROBE for axis in (2, 3))
            probe = self._probe(encoder, image, latent_out, (1, 3, height, width))
            factor, channels = height // probe[2], channels | {probe[1]}
        if len(channels) != 1:
            raise self._broken(
                self.takes_latent,
                f"lq_latent has {latent_in.shape[1]} channels, but {ENCODER} makes a latent of {latent_out.shape[1]}",
            )
        return self._agreed("vae_factor", factor, self.manifest.vae_factor, default=factor), channels.pop()

    def _probe(self, encoder: Graph, image: Tensor, latent: Tensor, shape: tuple[int, ...]) -> tuple[int, ...]:
        (found,) = encoder.output_shapes(np.zeros(shape, image.dtype)).values()
        if len(found) != 4 or not 0 < found[2] <= shape[2] or shape[2] % found[2]:
            raise self._broken(ENCODER, f"an image of shape {shape} became {latent.name} of shape {found}")
        return found

    def _is_image(self, graph: str, tensor: Tensor) -> None:
        expected = (1, 3, None, None)
        matches = len(tensor.shape) == 4 and all(
            found == n or n is None or not isinstance(found, int)
            for found, n in zip(tensor.shape, expected, strict=True)
        )
        if not matches or tensor.dtype.kind == "i":
            raise self._broken(graph, f"{tensor} is not an image, expected floats of shape (1, 3, height, width)")

    def _same_size(self, axis: int, small: Tensor, large: Tensor, factor: int) -> None:
        a, b = small.shape[axis], large.shape[axis]
        if isinstance(a, int) and isinstance(b, int) and a * factor != b:
            graph = self.takes_latent if small.name == LATENT else NETWORK
            raise self._broken(graph, f"{large} is not {factor} times {small} in size")

    def _agreed(self, key: str, found: int | None, stated: int | None, default: int) -> int:
        if found is not None and stated is not None and found != stated:
            raise self._broken(MANIFEST, f"{key} is {stated}, but the graphs' shapes say {found}")
        return found or stated or default

    def _broken(self, file: str, what: str) -> PidSamplerError:
        return ModelError(f"{self.folder / file}: {what}")


def _listed(tensors: dict[str, Tensor]) -> str:
    return ", ".join(map(str, tensors.values())) or "none"


def _named(some: Collection[str], order: Iterable[str]) -> str:
    """Return those names in that order."""
    return ", ".join(name for name in order if name in some)


def _fixed(tensor: Tensor, axis: int, factor: int = 1) -> int | None:
    n = tensor.shape[axis]
    return n // factor if isinstance(n, int) else None


def _times(tensor: Tensor, axis: int, factor: int) -> int | None:
    n = tensor.shape[axis]
    return n * factor if isinstance(n, int) else None


def _ratio(large: Tensor, small: Tensor, factor: int = 1) -> int | None:
    """Return how many times larger the one is along its height, if both heights are fixed."""
    a, b = large.shape[2], small.shape[2]
    return a // (b * factor) if isinstance(a, int) and isinstance(b, int) else None
