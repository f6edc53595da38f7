"""Sizes of a result and of what is encoded for it, as (height, width) in pixels."""

from __future__ import annotations

from ..image.size import Size, resolve
from ..onnx import Model
from ..values import instance
from .source import Source


def padded_size(source: Source, model: Model) -> tuple[int, int]:
    """Return the size of the picture that is encoded, or that a latent stands for."""
    latent = instance("source", source, kind=Source, words="a Source").latent
    if latent is None:
        return model.contract.padded_size(*source.rgb.shape[:2])
    height, width = (n * model.contract.vae_factor for n in latent.shape[2:])
    return height, width


def sampled_size(source: Source, model: Model) -> tuple[int, int]:
    """Return the size that is sampled: that of the result, padded to what the graphs take."""
    height, width = padded_size(source, model)
    return height * model.contract.scale, width * model.contract.scale


def output_size(source: Source, model: Model, *, size: Size | None = None) -> tuple[int, int]:
    """Return the size of a result: the model's own, or `size` if that is less.

    Raises:
        PidSamplerError: The model cannot take a picture or latent of its shape, or `size` is above its own.
    """
    if instance("source", source, kind=Source, words="a Source").latent is None:
        height, width = source.rgb.shape[:2]
    else:
        model.check_latent(source.latent)
        height, width = padded_size(source, model)
    if size is not None:
        instance("size", size, kind=Size, words="a Size")
    scale = model.contract.scale
    return resolve(size, (height * scale, width * scale), native_scale=scale)
