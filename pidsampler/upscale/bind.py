"""Binding: a picture or latent, encoded, degraded and bound to the network, ready for a sampler."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from ..backends import Backend
from ..denoiser import Denoiser, Guided, Pair, network_of
from ..image.pixels import to_image, to_tensor
from ..noise.philox import DEGRADE
from ..onnx import Model
from ..values import instance
from .guidance import guidance_for, negative_for
from .memory import TilePlan
from .options import Options
from .sizes import output_size, padded_size, sampled_size
from .source import Source
from .tiles import Tile, Tiled, cut_latent, encode_in_tiles

CONDITIONS = ("seed", "degrade_sigma", "caption", "guidance", "negative")  # the options that binding depends on


@attrs.frozen(eq=False, kw_only=True)
class Bound:
    """A picture or latent that waits for a sampler, made by `Upscaler.bind`.

    Args:
        source: What was read.
        denoiser: The network with the latent bound, guided where that was asked for, or the `Pair` of it.
        shape: (1, 3, H, W) of what is to be sampled.
        height: Height of the result, at most H.
        width: Width of the result, at most W.
        backend: Owner of the device that the network runs on.
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


def bind(
    source: Source,
    options: Options,
    *,
    model: Model,
    backend: Backend,
    plan: TilePlan,
    pair: bool = False,
    on_tile: Callable[[int, int], object] | None = None,
) -> Bound:
    """Bind a source to a model's network.

    Args:
        source: What was read.
        options: Options; seed (of the latent's noise), degrade_sigma, caption, guidance and negative are used.
        model: Loaded for the backend.
        backend: Owner of all arrays.
        plan: How the source is cut up.
        pair: Bind the network with the caption and that with the negative as a `Pair`, for rows that ask both.
        on_tile: Called as on_tile(done, total) after each tile of each step, where there are several.

    Raises:
        PidSamplerError: The caption, guidance or latent does not suit the model, or the encoder failed.
    """
    guidance, texts = guidance_for(options, model.contract, pair=pair), [options.caption]
    if guidance is not None or pair:
        texts.append(negative_for(options, model))
    for text in texts:
        model.check_caption(text)
    height, width = output_size(source, model)
    contract, sigma, grid = (
        model.contract,
        options.degrade_sigma,
        instance("plan", plan, kind=TilePlan, words="a TilePlan").grid,
    )
    with backend.active():  # what tiles share goes to the device once
        texts = [None if text is None else backend.adopt(text) for text in texts]
        latent = backend.adopt(source.latent) if source.latent is not None else _encoded(source, model, backend, plan)
        if source.latent is None and sigma > 0.0:
            keep = 1.0 - sigma if contract.noise_frame == "flow" else math.sqrt(1.0 - sigma**2)
            backend.noise(latent, [options.seed], draw=0, stream=DEGRADE, keep=keep, scale=sigma)

        def cut(tile: Tile) -> Denoiser:
            part = cut_latent(latent, tile, factor=contract.unit)
            check = len(grid) == 1
            if len(texts) == 1:
                return model.denoiser(part, sigma, caption=texts[0], check=check)
            told, untold = model.denoisers(part, sigma, captions=texts, check=check)
            return Pair(told, untold) if guidance is None else Guided(told, untold, guidance)

        def tiled(net: int) -> Denoiser:
            return Tiled(lambda tile: network_of(cut(tile), net), grid, backend=backend, on_tile=on_tile)

        whole = next(iter(grid)) if len(grid) == 1 else None
        denoiser = cut(whole) if whole else Pair(tiled(0), tiled(1)) if pair else tiled(0)
    shape = (1, 3, *sampled_size(source, model))
    return Bound(source=source, denoiser=denoiser, shape=shape, height=height, width=width, backend=backend)


def _encoded(source: Source, model: Model, backend: Backend, plan: TilePlan) -> Any:
    """Return the latent of a picture, on the device."""
    contract = model.contract
    image = to_tensor(source.rgb, size=padded_size(source, model), backend=backend)
    if len(plan.encoder) == 1:
        return model.encode(image)
    return encode_in_tiles(
        model.encode,
        image,
        grid=plan.encoder,
        factor=contract.vae_factor,
        channels=contract.latent_channels,
        backend=backend,
    )
