"""Block means, colour correction and despeckling of large pictures in numpy, by cache-sized tiles on all cores."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import BRIM, NOT_FINITE
from ..errors import ModelError
from ..threads import count_cores
from .blocks import Blocks

Array = NDArray[Any]
Tile = tuple[slice, slice]

_TILE = 1 << 15  # elements of a tile of one channel, or one row of blocks where that is more
_SPECKLE_TILE = 64, 256  # rows and columns; the brim's rows and columns around it are read too
_MOST_THREADS = 8

_quiet = np.errstate(over="ignore", invalid="ignore")  # infinity and NaN are refused in words


def block_means(x: Array, blocks: Blocks, powers: int) -> NDArray[np.float64]:
    """Return the means of v, and for powers=2 of v*v, of v = clip(x, -1, 1) over blocks.

    Raises:
        PidSamplerError: The picture holds NaN or infinity.
    """
    vertical, horizontal = blocks.edges(blocks.scale)
    sums = np.empty((powers, 3, *blocks.shape))

    @_quiet
    def work(tile: Tile) -> None:
        (i, columns), part = tile, _pixels(tile, vertical, horizontal)
        starts = horizontal[columns] - horizontal[columns.start]
        for c in range(3):
            v = x[0, c][part]
            least, most = v.min(), v.max()  # cheaper than to clip what seldom needs it; NaN stays in both
            if not (np.isfinite(least) and np.isfinite(most)):
                raise ModelError(NOT_FINITE)
            if least < -1.0 or most > 1.0:
                v = np.clip(v, -1.0, 1.0)
            for power in range(powers):
                sums[power, c, i, columns] = _sums(v if power == 0 else v * v, starts)

    _each(work, _tiles(blocks, vertical, horizontal))
    means: NDArray[np.float64] = sums / blocks.areas(blocks.scale)
    return means


def picture_means(picture: Array, blocks: Blocks, powers: int) -> NDArray[np.float64]:
    """Return what `block_means` gives for the input itself, uint8 or uint16 (h, w, 3), taken to -1..1; exactly."""
    vertical, horizontal = blocks.edges(1)
    sums = np.empty((powers, 3, *blocks.shape))

    def work(tile: Tile) -> None:
        (i, columns), part = tile, _pixels(tile, vertical, horizontal)
        starts = horizontal[columns] - horizontal[columns.start]
        pixels = picture[part].astype(np.int64)
        for power in range(powers):
            levels = pixels if power == 0 else pixels * pixels
            sums[power, :, i, columns] = np.add.reduceat(levels.sum(axis=0), starts).T[:, None]

    _each(work, _tiles(blocks, vertical, horizontal))
    sums /= blocks.areas()
    unit = 2.0 / np.iinfo(picture.dtype).max
    means = unit * sums[0] - 1.0
    return np.stack([means, *(unit * unit * squares - 2.0 * means - 1.0 for squares in sums[1:])])


def correct(x: Array, blocks: Blocks, gain: Array, grid: Array) -> NDArray[np.float64]:
    """x = gain*clip(x, -1, 1) + the grid's quadratic spline, in place; return the new x's block means."""
    vertical, horizontal = blocks.edges(blocks.scale)
    sums = np.empty((3, *blocks.shape))

    def work(tile: Tile) -> None:
        (i, columns), part = tile, _pixels(tile, vertical, horizontal)
        starts = horizontal[columns] - horizontal[columns.start]
        down = _weights(vertical[i.start : i.stop + 1], x.dtype)
        across = _weights(horizontal[columns.start : columns.stop + 1], x.dtype)
        block = np.repeat(np.arange(columns.start, columns.stop), np.diff(horizontal[columns.start : columns.stop + 1]))
        near = np.clip(np.arange(i.start - 1, i.start + 2), 0, blocks.rows - 1)[:, None]
        for c in range(3):
            v = x[0, c][part]
            lines = sum(
                across[k] * grid[c, near, np.clip(block + k - 1, 0, blocks.columns - 1)].astype(x.dtype)
                for k in range(3)
            )
            np.clip(v, -1.0, 1.0, out=v)
            if gain[c] != 1.0:
                v *= x.dtype.type(gain[c])
            smooth = down.T @ lines
            v += smooth
            sums[c, i, columns] = _sums(np.clip(v, -1.0, 1.0, out=smooth), starts)

    _each(work, _tiles(blocks, vertical, horizontal))
    means: NDArray[np.float64] = sums / blocks.areas(blocks.scale)
    return means


def despeckled(x: Array, height: int, width: int, threshold: float) -> NDArray[np.uint8]:
    """Return the picture without its specks, see `Backend.tensor_to_image`; `threshold` is in x's units."""
    image = np.empty((height, width, 3), np.uint8)
    step = x.dtype.type(threshold)
    rows, columns = _SPECKLE_TILE

    @_quiet
    def work(tile: Tile) -> None:
        down, across = tile
        # The tile with its surroundings. What lies outside the picture is NaN: minimum and maximum keep it, so that it
        # ends runs, and fmax and fmin pass over it.
        outer = np.full((3, down.stop - down.start + 2 * BRIM, across.stop - across.start + 2 * BRIM), np.nan, x.dtype)
        top, left = max(0, down.start - BRIM), max(0, across.start - BRIM)
        bottom, right = min(height, down.stop + BRIM), min(width, across.stop + BRIM)
        y, z = top - down.start + BRIM, left - across.start + BRIM
        inside = outer[:, y : y + bottom - top, z : z + right - left]
        np.copyto(inside, x[0, :, top:bottom, left:right])
        v = outer[:, BRIM:-BRIM, BRIM:-BRIM]
        if not np.isfinite(v).all():
            raise ModelError(NOT_FINITE)
        np.clip(inside, -1.0, 1.0, out=inside)
        high, low = _standing(outer, np.fmax, np.minimum), _standing(outer, np.fmin, np.maximum)
        above, below = v > high + step, v < low - step
        np.copyto(v, high, where=above)
        np.copyto(v, low, where=below)
        v *= 127.5
        v += 127.5
        image[down, across] = np.rint(v, out=v).transpose(1, 2, 0)

    _each(
        work,
        [
            (slice(y, min(y + rows, height)), slice(x, min(x + columns, width)))
            for y in range(0, height, rows)
            for x in range(0, width, columns)
        ],
    )
    return image


def _tiles(blocks: Blocks, vertical: Array, horizontal: Array) -> list[Tile]:
    """Return tiles of whole blocks: a row of blocks, and as many of its columns as a tile holds."""
    largest = int(np.diff(vertical).max() * np.diff(horizontal).max())
    step = max(1, _TILE // largest)
    return [
        (slice(i, i + 1), slice(j, min(j + step, blocks.columns)))
        for i in range(blocks.rows)
        for j in range(0, blocks.columns, step)
    ]


def _pixels(tile: Tile, vertical: Array, horizontal: Array) -> Tile:
    """Return a tile's pixels from its blocks."""
    rows, columns = tile
    return (
        slice(int(vertical[rows.start]), int(vertical[rows.stop])),
        slice(int(horizontal[columns.start]), int(horizontal[columns.stop])),
    )


def _sums(v: Array, starts: Array) -> NDArray[np.float64]:
    """Return sums over the columns of pixels from each start to the next: (n, m) -> float64 (blocks,)."""
    sums: NDArray[np.float64] = np.add.reduceat(v.sum(axis=0), starts, dtype=np.float64)
    return sums


def _weights(edges: Array, dtype: Any) -> Array:
    """Return what each pixel takes of the block before its own, its own, and the next: (3, pixels).

    The uniform quadratic B-spline, t in 0..1 from one edge of the block to the other.
    """
    sizes = np.diff(edges)
    t = (np.arange(edges[0], edges[-1]) - np.repeat(edges[:-1], sizes) + 0.5) / np.repeat(sizes, sizes)
    return np.stack([0.5 * (1.0 - t) ** 2, 0.5 + t * (1.0 - t), 0.5 * t * t]).astype(dtype)


def _standing(outer: Array, pick: Any, drop: Any) -> Array:
    """Return what each value must stand out above for pick fmax and drop minimum; below, for fmin and maximum.

    (C, h + 2 BRIM, w + 2 BRIM) -> (C, h, w).
    """
    inner = slice(BRIM, -BRIM)
    found = _brim(outer, pick)
    for v, dy, dx in ((outer[:, inner], 0, 1), (outer[:, :, inner], 1, 0), (outer, 1, 1)):
        pick(found, _line(_line(v, dy, dx, drop), dy, dx, pick), out=found)
    mirrored = outer[:, :, ::-1]
    return pick(found, _line(_line(mirrored, 1, 1, drop), 1, 1, pick)[:, :, ::-1], out=found)  # type: ignore[no-any-return]


def _line(v: Array, dy: int, dx: int, pick: Any) -> Array:
    """Return the pick of each pixel and the next BRIM in direction (dy, dx), by doubling: 1, 2, 4 and one more."""

    def ahead(a: Array, b: Array, n: int) -> Array:
        h, w = b.shape[1] - n * dy, b.shape[2] - n * dx
        return pick(a[:, :h, :w], b[:, n * dy :, n * dx :])  # type: ignore[no-any-return]

    two = ahead(v, v, 1)
    return ahead(ahead(two, two, 2), v, BRIM)


def _brim(outer: Array, pick: Any) -> Array:
    """Return the pick of the outermost pixels of the square around each pixel."""
    across, down = _line(outer, 0, 1, pick), _line(outer, 1, 0, pick)
    across, down = pick(across[:, :, :-BRIM], across[:, :, BRIM:]), pick(down[:, :-BRIM], down[:, BRIM:])
    brim: Array = pick(across[:, : -2 * BRIM], across[:, 2 * BRIM :])
    pick(brim, down[:, :, : -2 * BRIM], out=brim)
    return pick(brim, down[:, :, 2 * BRIM :], out=brim)  # type: ignore[no-any-return]


def _each(work: Callable[[Tile], None], tiles: Iterable[Tile]) -> None:
    """Call work(tile) for each, on all cores where that pays."""
    tiles = list(tiles)
    threads = min(count_cores(), _MOST_THREADS, len(tiles) // 4)
    if threads < 2:
        for tile in tiles:
            work(tile)
        return
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, tiles))  # raises what a tile raised
