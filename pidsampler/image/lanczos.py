"""Antialiased reduction with the Lanczos-3 filter, as Pillow's `resize(..., LANCZOS)` does it.

The filter, sinc(x)*sinc(x/3) for |x| < 3 (C. Duchon, "Lanczos filtering in one and two dimensions", 1979), is as much
wider as the picture becomes smaller, and the weights of an output pixel are divided by their sum. It is separable.

On the CPU Pillow does it. Its own arithmetic is float64, an axis after the other, and it copies what it is given, so it
gets bands of a plane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..threads import count_cores

_LOBES = 3

_BAND = 1 << 20  # elements of a plane that Pillow is to copy at a time
_MOST_THREADS = 8
_ROWS = 4, 32  # of the result in a band. Pillow keeps a band's place in float32: 32 rows hold the error under 3e-6

# As on a GPU, what is not finite, or too large for the result's type, passes through without a word.
_quiet = np.errstate(over="ignore", invalid="ignore")


def check_reduction(x: Any, height: int, width: int, new_height: int, new_width: int) -> None:
    """Check the arguments of `Backend.reduce`.

    Raises:
        PidSamplerError: x is not (1, 3, H, W) with H, W at least (height, width), or the new size is not 1 to that.
    """
    if (
        len(x.shape) != 4
        or tuple(x.shape[:2]) != (1, 3)
        or not (1 <= height <= x.shape[2] and 1 <= width <= x.shape[3])
    ):
        raise ConfigError(
            f"a tensor of shape {tuple(x.shape)} holds no picture of {width}x{height}: expected (1, 3, H, W) of at "
            f"least (1, 3, {height}, {width})"
        )
    if not (1 <= new_height <= height and 1 <= new_width <= width):
        raise ConfigError(
            f"a picture of {width}x{height} cannot be reduced to {new_width}x{new_height}: pass 1x1 to {width}x{height}"
        )


def taps(size: int, new_size: int) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Return which elements of an axis make each new one, and with what weights.

    Args:
        size: Of the axis, at least `new_size`.
        new_size: Of the reduced axis.

    Returns:
        The first of the elements that make each new one, uint32 (new_size,), and the weights of it and those after
        it, float32 (taps, new_size), made in float64. All lie inside the axis; those past the filter weigh 0.
    """
    if size == new_size:
        return np.arange(size, dtype=np.uint32), np.ones((1, size), np.float32)
    factor = size / new_size
    centre = (np.arange(new_size) + 0.5) * factor
    count = min(size, math.ceil(2 * _LOBES * factor))
    first = np.clip(np.floor(centre - _LOBES * factor + 0.5).astype(np.int64), 0, size - count)
    x = (first + np.arange(count)[:, None] + 0.5 - centre) / factor
    weights = np.where(np.abs(x) < _LOBES, np.sinc(x) * np.sinc(x / _LOBES), 0.0)
    return first.astype(np.uint32), (weights / weights.sum(axis=0)).astype(np.float32)


def reduce_planes(planes: NDArray[Any], result: NDArray[Any]) -> None:
    """Write planes (C, H, W) reduced into `result` (C, h, w), in float32 whatever their element types.

    Beside them it needs at most 12 MB a core, 100 MB in all; but three times what 10 rows of a plane's result are made
    of where that is more.
    """
    from PIL import Image

    (_, height, width), (channels, new_height, new_width) = planes.shape, result.shape
    bands, room = _bands(height, width, new_height)

    @_quiet
    def reduce_band(job: tuple[int, tuple[int, int, int, int]]) -> None:
        c, (top, bottom, first, last) = job
        band = Image.fromarray(np.ascontiguousarray(planes[c, first:last], np.float32))
        box = (0, top * height / new_height - first, width, bottom * height / new_height - first)
        result[c, top:bottom] = band.resize((new_width, bottom - top), Image.Resampling.LANCZOS, box)

    jobs = [(c, band) for band in bands for c in range(channels)]
    with ThreadPoolExecutor(min(room, count_cores(), len(jobs))) as pool:
        list(pool.map(reduce_band, jobs))  # raises what a band raised


def _bands(height: int, width: int, new_height: int) -> tuple[Sequence[tuple[int, int, int, int]], int]:
    """Return the bands (top, bottom of the result; first, last row that makes them), and for how many there is room."""
    factor = height / new_height
    margin = 0 if height == new_height else math.ceil((_LOBES - 0.5) * factor) + 1
    least, most = _ROWS
    rows = max(least, min(most, int((_BAND / width - 2 * margin) / factor)))
    bands = []
    for top in range(0, new_height, rows):
        bottom = min(top + rows, new_height)
        first = max(0, math.floor(top * factor) - margin)
        bands.append((top, bottom, first, min(height, math.ceil(bottom * factor) + margin)))
    largest = width * max(last - first for *_, first, last in bands)
    return bands, max(1, _MOST_THREADS * _BAND // largest)
