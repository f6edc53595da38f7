"""Pictures as a study and a search measure them: 8 bits, RGB, on the host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import backend_of
from ..errors import ConfigError
from ..upscale.source import Source


def reduced(source: Source, scale: int, *, path: Path) -> tuple[Source, NDArray[np.uint8]]:
    """Return a picture reduced by a scale (bicubic, antialiased), and itself, cropped to whole pixels of that.

    Args:
        source: A picture of any size.
        scale: Whole number.
        path: File of the picture, for the message.

    Raises:
        PidSamplerError: The source is a latent, or smaller than `scale` on a side.
    """
    if source.latent is not None:
        raise ConfigError(f"{path} is a latent: only a picture can be reduced")
    height, width = (n // scale for n in source.rgb.shape[:2])
    if not height or not width:
        raise ConfigError(f"{path} is less than {scale} pixels wide or high: it cannot be reduced")
    whole = eight_bits(source.rgb[: height * scale, : width * scale])
    return Source.of(resized(whole, (height, width))), whole


def resized(picture: NDArray[np.uint8], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Return an RGB picture at another size, (height, width), by antialiased bicubic interpolation."""
    from PIL import Image

    return np.asarray(Image.fromarray(picture).resize(size[::-1], Image.Resampling.BICUBIC))


def eight_bits(pixels: NDArray[Any]) -> NDArray[np.uint8]:
    """Return uint8 or uint16 pixels as uint8."""
    low: NDArray[np.uint8] = pixels if pixels.dtype == np.uint8 else np.rint(pixels / 257).astype(np.uint8)
    return np.ascontiguousarray(low)


def as_rgb(picture: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return a picture of 1 to 4 channels (gray or RGB, with alpha or without) as RGB, without alpha."""
    color = picture[:, :, : 1 if picture.shape[2] <= 2 else 3]
    return np.ascontiguousarray(np.broadcast_to(color, (*picture.shape[:2], 3)))


def on_host(x: Any) -> NDArray[Any]:
    """Return an array of any backend as one of numpy."""
    return backend_of(x).to_host(x)
