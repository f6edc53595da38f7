"""Overlapping tiles added up in their places, each times its weights."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import threads
from ..backends import Array, Backend, get_backend
from ..backends.base import Launcher, LaunchingBackend
from ..backends.kernels import definitions, group, kind
from ..errors import ConfigError
from .host import quiet, writing


def blend(
    tile: Array,
    out: Array,
    *,
    rows: Array,
    columns: Array,
    top: int,
    left: int,
    unwritten: tuple[int, int],
    backend: str | Backend,
) -> None:
    """out[b, c, top + y, left + x] += rows[y]*columns[x]*tile[b, c, y, x], in place; one launch on a GPU.

    Args:
        tile: (B, C, h, w) of any floating type.
        out: (B, C, H, W) of a state's type. In half precision it is rounded once for each tile that covers a place.
        rows: (h,) weights, float32; on the host of any floating type.
        columns: (w,) likewise.
        top: First row of the tile in `out`.
        left: First column of the tile in `out`.
        unwritten: Offset (y, x) in the tile from which no earlier tile wrote, on both axes: there it is = for +=.
        backend: Backend of the arrays.

    Raises:
        PidSamplerError: The shapes do not fit together, or the tile reaches out of `out`.
    """
    backend = get_backend(backend)
    _check(tile, rows, columns, out, top, left)
    if isinstance(backend, Launcher):
        _launch(tile, out, rows, columns, (top, left), unwritten, backend)
        return
    h, w = tile.shape[2:]
    part = out[:, :, top : top + h, left : left + w]
    with writing(part, backend) as place:
        down, across = (backend.to_host(axis).astype(place.dtype, copy=False) for axis in (rows, columns))
        threads.in_parts(partial(_blend, backend.to_host(tile), down, across, place, unwritten), place.size)


def _check(tile: Array, rows: Array, columns: Array, out: Array, top: int, left: int) -> None:
    if tile.ndim != 4 or out.ndim != 4 or tile.shape[:2] != out.shape[:2]:
        raise ConfigError(
            f"a tile of shape {tile.shape} does not fit into {out.shape}: expected (batch, channels, height, width) of "
            "the same batch and channels"
        )
    (h, w), (height, width) = tile.shape[2:], out.shape[2:]
    if rows.shape != (h,) or columns.shape != (w,):
        raise ConfigError(
            f"weights have shapes {rows.shape} and {columns.shape}, expected {(h,)} and {(w,)} as the tile"
        )
    if not (0 <= top <= height - h and 0 <= left <= width - w):
        raise ConfigError(f"a tile of {h}x{w} at row {top}, column {left} reaches out of a picture of {height}x{width}")


def _launch(
    tile: Array,
    out: Array,
    rows: Array,
    columns: Array,
    at: tuple[int, int],
    unwritten: tuple[int, int],
    backend: LaunchingBackend,
) -> None:
    if rows.dtype != np.float32 or columns.dtype != np.float32:
        raise ConfigError(f"weights are {rows.dtype} and {columns.dtype}, expected float32")
    _, planes, h, w = tile.shape
    x, m = kind(out.dtype), kind(tile.dtype)
    steps = w * tile.itemsize, out.shape[3] * out.itemsize, at[1] * out.itemsize
    aligned = all(n % 16 == 0 for n in (backend.pointer(out), backend.pointer(columns), *steps))
    sizes = (np.uint32(n) for n in (*out.shape[2:], *at, *unwritten))
    backend.launch(
        "tile.cu",
        "pid_tile",
        flags=lambda vector: definitions(x=x, m=m, vector=vector and aligned),
        tensors=[tile],
        arguments=(*(np.uint32(n) for n in (planes, h, w)), tile, rows, columns, out, *sizes),
        threads=planes * h * -(-w // group(x, m)),
        others=[rows, columns, out],
    )


@quiet
def _blend(
    tile: NDArray[Any],
    rows: NDArray[Any],
    columns: NDArray[Any],
    place: NDArray[Any],
    unwritten: tuple[int, int],
    start: int,
    stop: int,
) -> None:
    """Do the rows whose first elements are among start..stop, were the tile to lie row by row with all its planes."""
    batch, channels, h, w = tile.shape
    line = batch * channels * w
    step = max(1, threads.CHUNK // w)
    weight, term = np.empty((2, min(step, h), w), place.dtype)
    y, last, (row, column) = -(-start // line), -(-stop // line), unwritten
    while y < last:
        end = min(y + step, last, row if y < row else last)
        n, at = end - y, slice(y, end)
        np.multiply(rows[at, None], columns, out=weight[:n])
        for b, c in np.ndindex(batch, channels):
            np.multiply(tile[b, c, at], weight[:n], out=term[:n], casting="same_kind")
            old = w if y < row else column
            place[b, c, at, :old] += term[:n, :old]
            place[b, c, at, old:] = term[:n, old:]
        y = end
