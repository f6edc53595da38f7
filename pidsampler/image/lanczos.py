"""Antialiased reduction with the Lanczos-3 filter, as Pillow's `resize(..., LANCZOS)` does it.

The filter, sinc(x)*sinc(x/3) for |x| < 3 (C. Duchon, "Lanczos filtering in one and two dimensions", 1979), is as much
wider as the picture becomes smaller, and the weights of an output pixel are divided by their sum. It is separable.

On the host Pillow does it. Its own arithmetic is float64, an axis after the other, and it copies what it is given, so
it gets bands of a plane.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import threads
from ..backends import Array, Backend, get_backend
from ..backends.base import Launcher, LaunchingBackend
from ..backends.kernels import definitions, kind
from ..errors import ConfigError
from .host import check_picture, quiet, sides

_LOBES = 3

_BAND = 1 << 20  # elements of a plane that Pillow is to copy at a time
_ROOM = 8 * _BAND  # elements that are copied at once
_ROWS = 4, 32  # of the result in a band. Pillow keeps a band's place in float32: 32 rows hold the error under 3e-6.
# Where a whole number of rows make one there is no error, and a band has as many rows as it may have elements.


def reduce(x: Array, *, size: tuple[int, int], new_size: tuple[int, int], backend: str | Backend) -> Array:
    """Reduce the top left of a tensor with the Lanczos-3 filter, in float32; one launch on a GPU.

    Args:
        x: (1, 3, H, W) of any floating type. Values are not clamped, and NaN stays.
        size: (height, width) of the picture in its top left.
        new_size: (height, width) of the result, at most that.
        backend: Backend of x.

    Returns:
        (1, 3, *new_size) of x's type; x itself where it has that shape already.

    Raises:
        PidSamplerError: x is smaller than `size`, or that is smaller than the new size.
    """
    backend = get_backend(backend)
    height, width = size = sides("size", size)
    new_height, new_width = new_size = sides("new_size", new_size)
    check_picture(x, size)
    if not (1 <= new_height <= height and 1 <= new_width <= width):
        raise ConfigError(
            f"a picture of {width}x{height} cannot be reduced to {new_width}x{new_height}: pass 1x1 to {width}x{height}"
        )
    if new_size == tuple(x.shape[2:]):
        return x
    if isinstance(backend, Launcher):
        return _launched(x, size, new_size, backend)
    picture = backend.to_host(x)[:, :, :height, :width]
    if new_size == size:
        return backend.adopt(np.ascontiguousarray(picture))
    result = np.empty((1, 3, *new_size), picture.dtype)
    _reduce_planes(picture[0], result[0])
    return backend.adopt(result)


def taps(size: int, new_size: int) -> tuple[NDArray[np.uint32], NDArray[np.float32]]:
    """Return which elements of an axis make each new one, and with what weights.

    Args:
        size: Length of the axis, at least `new_size`.
        new_size: Length of the reduced axis.

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


def _launched(x: Array, size: tuple[int, int], new_size: tuple[int, int], backend: LaunchingBackend) -> Array:
    result, tables = backend.empty((1, 3, *new_size), x.dtype), []
    for side, new_side in zip(size, new_size, strict=True):
        first, weights = taps(side, new_side)
        tables += [backend.adopt(first), backend.adopt(weights), np.uint32(len(weights))]
    backend.launch(
        "reduce.cu",
        "pid_reduce",
        flags=lambda vector: definitions(x=kind(x.dtype), vector=vector),
        tensors=[x],
        arguments=(x, result, *tables, *(np.uint32(n) for n in (*x.shape[2:], *new_size))),
        threads=new_size[0] * new_size[1],
    )
    return result


def _reduce_planes(planes: NDArray[Any], result: NDArray[Any]) -> None:
    """Write planes (C, H, W) reduced into `result` (C, h, w), in float32 whatever their element types.

    Beside them it needs at most 12 MB a core, 100 MB in all; but three times what 10 rows of a plane's result are made
    of where that is more.
    """
    from PIL import Image

    (_, height, width), (channels, new_height, new_width) = planes.shape, result.shape
    bands, room = _bands(height, width, new_height)

    @quiet
    def reduce_band(job: tuple[int, tuple[int, int, int, int]]) -> None:
        c, (top, bottom, first, last) = job
        band = Image.fromarray(np.ascontiguousarray(planes[c, first:last], np.float32))
        box = (0, top * height / new_height - first, width, bottom * height / new_height - first)
        result[c, top:bottom] = band.resize((new_width, bottom - top), Image.Resampling.LANCZOS, box)

    jobs = [(c, band) for band in bands for c in range(channels)]
    threads.map(reduce_band, jobs, most=room)


def _bands(height: int, width: int, new_height: int) -> tuple[Sequence[tuple[int, int, int, int]], int]:
    """Return the bands (top, bottom of the result; first, last row that makes them), and for how many there is room."""
    factor = height / new_height
    margin = 0 if height == new_height else math.ceil((_LOBES - 0.5) * factor) + 1
    least, most = _ROWS if height % new_height else (_ROWS[0], new_height)
    rows = max(least, min(most, int((_BAND / width - 2 * margin) / factor)))
    bands = []
    for top in range(0, new_height, rows):
        bottom = min(top + rows, new_height)
        first = max(0, math.floor(top * factor) - margin)
        bands.append((top, bottom, first, min(height, math.ceil(bottom * factor) + margin)))
    largest = width * max(last - first for *_, first, last in bands)
    return bands, max(1, _ROOM // largest)
