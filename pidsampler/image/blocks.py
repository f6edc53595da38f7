"""A picture divided into blocks of about equal size, the same on the input and on its enlarged result.

Their means, and a correction that is a smooth surface over them; both of v = clip(x, -1, 1), what the picture shows.
"""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from .. import moved
from ..backends import Array, Backend, get_backend
from ..backends.base import Launcher, LaunchingBackend
from ..backends.kernels import NULL, definitions, kind
from ..errors import ModelError
from ..values import field, whole
from .host import NOT_FINITE, Tile, each, quiet, writing

_TILE = 1 << 15  # elements of a tile of one channel, or one row of blocks where that is more
_UNIT = 2.0**-32  # of the kernel's sums, which are whole numbers so that their order does not matter


@moved.keywords()
@attrs.frozen
class Blocks:
    """Blocks i = 0..g-1 of an axis of n pixels, each from pixel i*n // g to (i+1)*n // g: no two differ by more than 1.

    Args:
        height: Height of the input in pixels, at least `rows`.
        width: Width of the input in pixels, at least `columns`.
        scale: Pixels of the result that one of the input became, on each axis.
        rows: Number of blocks on the vertical axis.
        columns: Number of blocks on the horizontal axis.

    Raises:
        PidSamplerError: One is no whole number from 1.
    """

    height: int = field(whole, low=1)
    width: int = field(whole, low=1)
    scale: int = field(whole, low=1, kw_only=True)
    rows: int = field(whole, low=1, kw_only=True)
    columns: int = field(whole, low=1, kw_only=True)

    @classmethod
    @moved.keywords()
    def of(cls, height: int, width: int, *, scale: int, size: int) -> Blocks:
        """Divide a picture into blocks of about `size` x `size` pixels of the input; one at least."""
        rows, columns = (max(1, (n + size // 2) // size) for n in (height, width))
        return cls(height, width, scale=scale, rows=rows, columns=columns)

    @property
    def shape(self) -> tuple[int, int]:
        """How many blocks there are: (rows, columns)."""
        return self.rows, self.columns

    def edges(self, scale: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Return where blocks begin, and behind them the end, per axis: int64 (rows + 1,) and (columns + 1,).

        `scale` is the block's for pixels of the result, 1 for those of the input.
        """
        vertical, horizontal = (
            scale * (np.arange(g + 1, dtype=np.int64) * n // g)
            for n, g in ((self.height, self.rows), (self.width, self.columns))
        )
        return vertical, horizontal

    def areas(self, scale: int = 1) -> NDArray[np.float64]:
        """Return how many pixels each block has, float64 (rows, columns)."""
        vertical, horizontal = (np.diff(edges) for edges in self.edges(scale))
        return np.multiply.outer(vertical, horizontal).astype(np.float64)

    def mean(self, means: NDArray[Any]) -> NDArray[np.float64]:
        """Return the picture's means from those of its blocks: (..., rows, columns) -> float64 (...)."""
        areas = self.areas()
        mean: NDArray[np.float64] = (means * areas).sum(axis=(-2, -1)) / areas.sum()
        return mean


def block_means(x: Array, blocks: Blocks, *, powers: int = 1, backend: str | Backend) -> NDArray[np.float64]:
    """Return means over blocks of the result, of v = clip(x, -1, 1): one launch and one download on a GPU.

    Args:
        x: (1, 3, H, W), of which the top left (scale*height, scale*width) of `blocks` is the picture.
        blocks: How it is divided.
        powers: Number of powers: 1, or 2 for the means of v*v too.
        backend: Backend of x.

    Returns:
        float64 (powers, 3, rows, columns) on the host. Columns of a block are summed in float32 (x's type on the host),
        which suits blocks up to a hundred pixels high; these sums exactly.

    Raises:
        PidSamplerError: The picture holds NaN or infinity.
    """
    backend = get_backend(backend)
    if isinstance(backend, Launcher):
        return _launched(x, blocks, powers, None, backend)
    return _block_means(backend.to_host(x), blocks, powers)


def correct(
    x: Array, blocks: Blocks, *, gain: NDArray[Any], grid: NDArray[Any], backend: str | Backend
) -> NDArray[np.float64]:
    """x = gain*clip(x, -1, 1) + s in place, s the quadratic spline of a grid: one pass over the picture.

    In block i at t (0..1 from one edge to the other), s is ((1-t)^2 g[i-1] + (1 + 2t(1-t)) g[i] + t^2 g[i+1])/2 on
    each axis, the uniform quadratic B-spline; the grid goes on beyond its ends as it ends.

    Args:
        x: As for `block_means`, and free of NaN and infinity in the picture. Around it nothing changes.
        blocks: How the picture is divided.
        gain: One factor a channel, (3,).
        grid: (3, rows, columns), in x's units.
        backend: Backend of x.

    Returns:
        The block means of the x that it leaves, float64 (3, rows, columns), as by `block_means`.

    Raises:
        PidSamplerError: A GPU found NaN or infinity in the picture.
    """
    backend = get_backend(backend)
    if isinstance(backend, Launcher):
        means: NDArray[np.float64] = _launched(x, blocks, 1, (gain, grid), backend)[0]
        return means
    with writing(x, backend) as host:
        return _correct(host, blocks, gain, grid)


def picture_means(picture: NDArray[Any], blocks: Blocks, *, powers: int = 1) -> NDArray[np.float64]:
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

    each(work, _tiles(blocks, vertical, horizontal))
    sums /= blocks.areas()
    unit = 2.0 / np.iinfo(picture.dtype).max
    means = unit * sums[0] - 1.0
    return np.stack([means, *(unit * unit * squares - 2.0 * means - 1.0 for squares in sums[1:])])


def _launched(
    x: Array,
    blocks: Blocks,
    powers: int,
    correction: tuple[NDArray[Any], NDArray[Any]] | None,
    backend: LaunchingBackend,
) -> NDArray[np.float64]:
    gain, grid = (np.ones(3), NULL) if correction is None else correction
    if correction is not None:
        grid = backend.adopt(np.ascontiguousarray(grid, np.float32))
    # The sums, and behind them the word that says whether something was not finite.
    sums = backend.empty((powers * 3 * blocks.rows * blocks.columns + 1,), np.int64)
    with backend.active():
        sums[...] = 0
    numbers = (*x.shape[2:], blocks.height, blocks.width, blocks.scale, blocks.rows, blocks.columns)
    variant = definitions(x=kind(x.dtype), correct=correction is not None, powers=powers)
    backend.launch(
        "colour.cu",
        "pid_colour",
        flags=lambda vector: variant,
        tensors=[x],
        arguments=(x, *(np.uint32(n) for n in numbers), grid, *(np.float32(g) for g in gain), sums, sums[-1:]),
        threads=blocks.rows * blocks.width * blocks.scale,
    )
    host = backend.to_host(sums)
    if host[-1]:
        raise ModelError(NOT_FINITE)
    means: NDArray[np.float64] = host[:-1].reshape(powers, 3, *blocks.shape) * _UNIT
    return means / blocks.areas(blocks.scale)


def _block_means(x: NDArray[Any], blocks: Blocks, powers: int) -> NDArray[np.float64]:
    vertical, horizontal = blocks.edges(blocks.scale)
    sums = np.empty((powers, 3, *blocks.shape))

    @quiet
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

    each(work, _tiles(blocks, vertical, horizontal))
    means: NDArray[np.float64] = sums / blocks.areas(blocks.scale)
    return means


def _correct(x: NDArray[Any], blocks: Blocks, gain: NDArray[Any], grid: NDArray[Any]) -> NDArray[np.float64]:
    vertical, horizontal = blocks.edges(blocks.scale)
    sums = np.empty((3, *blocks.shape))
    widths = np.diff(horizontal)
    down, across = _weights(vertical, x.dtype), _weights(horizontal, x.dtype)
    around = np.pad(grid.astype(x.dtype), [(0, 0), (1, 1), (1, 1)], mode="edge")

    def work(tile: Tile) -> None:
        (i, columns), part = tile, _pixels(tile, vertical, horizontal)
        starts = horizontal[columns] - horizontal[columns.start]
        for c in range(3):
            v = x[0, c][part]
            near = around[c, i.start : i.start + 3]
            lines = sum(
                across[k, part[1]] * np.repeat(near[:, columns.start + k : columns.stop + k], widths[columns], axis=1)
                for k in range(3)
            )
            np.clip(v, -1.0, 1.0, out=v)
            if gain[c] != 1.0:
                v *= x.dtype.type(gain[c])
            smooth = down[:, part[0]].T @ lines
            v += smooth
            sums[c, i, columns] = _sums(np.clip(v, -1.0, 1.0, out=smooth), starts)

    each(work, _tiles(blocks, vertical, horizontal))
    means: NDArray[np.float64] = sums / blocks.areas(blocks.scale)
    return means


def _tiles(blocks: Blocks, vertical: NDArray[Any], horizontal: NDArray[Any]) -> list[Tile]:
    """Return tiles of whole blocks: a row of blocks, and as many of its columns as a tile holds."""
    largest = int(np.diff(vertical).max() * np.diff(horizontal).max())
    step = max(1, _TILE // largest)
    return [
        (slice(i, i + 1), slice(j, min(j + step, blocks.columns)))
        for i in range(blocks.rows)
        for j in range(0, blocks.columns, step)
    ]


def _pixels(tile: Tile, vertical: NDArray[Any], horizontal: NDArray[Any]) -> Tile:
    """Return a tile's pixels from its blocks."""
    rows, columns = tile
    return (
        slice(int(vertical[rows.start]), int(vertical[rows.stop])),
        slice(int(horizontal[columns.start]), int(horizontal[columns.stop])),
    )


def _sums(v: NDArray[Any], starts: NDArray[Any]) -> NDArray[np.float64]:
    """Return sums over the columns of pixels from each start to the next: (n, m) -> float64 (blocks,)."""
    sums: NDArray[np.float64] = np.add.reduceat(v.sum(axis=0), starts, dtype=np.float64)
    return sums


def _weights(edges: NDArray[Any], dtype: Any) -> NDArray[Any]:
    """Return what each pixel takes of the block before its own, its own, and the next: (3, pixels).

    The uniform quadratic B-spline, t in 0..1 from one edge of the block to the other.
    """
    sizes = np.diff(edges)
    t = (np.arange(edges[0], edges[-1]) - np.repeat(edges[:-1], sizes) + 0.5) / np.repeat(sizes, sizes)
    return np.stack([0.5 * (1.0 - t) ** 2, 0.5 + t * (1.0 - t), 0.5 * t * t]).astype(dtype)
