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


def most_detailed(source: Source, side: int, *, path: Path) -> tuple[Source, tuple[int, int]]:
    """Return the square of a picture with the most detail, and its place (x, y).

    Detail is the sum of the squared differences of neighboring pixels, of the sum of their colors. Squares begin at
    every quarter of their side; of several with as much the first one is taken.

    Args:
        source: A picture of any size.
        side: Pixels, from 4.
        path: File of the picture, for the message.

    Raises:
        PidSamplerError: The source is a latent, or smaller than `side`.
    """
    if source.latent is not None:
        raise ConfigError(f"{path} is a latent: only a picture can be cropped")
    pixels = eight_bits(source.rgb)
    if min(pixels.shape[:2]) < side:
        raise ConfigError(f"{path} is less than {side} pixels wide or high: pass a smaller crop")
    gray = pixels.sum(axis=2, dtype=np.int32)
    detail = np.zeros_like(gray)
    detail[:, :-1] += np.square(np.diff(gray, axis=1))
    detail[:-1] += np.square(np.diff(gray, axis=0))
    quarter = side // 4
    rows, columns = (n // quarter for n in gray.shape)
    blocks = detail[: rows * quarter, : columns * quarter].reshape(rows, quarter, columns, quarter)
    sums = np.lib.stride_tricks.sliding_window_view(blocks.sum(axis=(1, 3), dtype=np.int64), (4, 4)).sum(axis=(2, 3))
    sums = sums[: (gray.shape[0] - side) // quarter + 1, : (gray.shape[1] - side) // quarter + 1]
    y, x = (int(n) * quarter for n in np.unravel_index(sums.argmax(), sums.shape))
    return Source.of(pixels[y : y + side, x : x + side]), (x, y)


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
