"""The reference backend: numpy, in place, a cache-sized chunk at a time, on all cores."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, ModelError
from ..image import planes
from ..image.blocks import Blocks
from ..image.lanczos import check_reduction, reduce_planes
from ..noise import philox
from ..table import Row
from ..threads import count_cores
from . import NOT_FINITE, check_blend, despeckle_step, host

Array = NDArray[Any]

_CHUNK = 1 << 15  # elements; a multiple of 4, so that noise chunks begin at whole counters

_MOST_THREADS = 8  # each needs about a megabyte
_WORTH_THREADS = 8 * _CHUNK  # starting threads costs as much as a chunk's arithmetic

# Infinity and NaN pass through as on a GPU, and `tensor_to_image` refuses them; numpy's warnings would only repeat it.
_quiet = np.errstate(over="ignore", invalid="ignore")


class NumpyBackend:
    """numpy arrays on the CPU. float32 state; float64 too, to measure below float32's rounding."""

    name = "numpy"
    device = "cpu"
    device_id = 0
    stream_pointer = 0
    state_types = (np.dtype(np.float32), np.dtype(np.float64))

    def active(self) -> AbstractContextManager[Any]:
        """Nothing to make current: the CPU's work is done in order."""
        return nullcontext()

    def free_memory(self) -> int | None:
        """Return how many bytes can still be taken."""
        return host.free_memory()

    def held_memory(self) -> int | None:
        """Return how many bytes this process has."""
        return host.held_memory()

    def release(self) -> None:
        """Nothing is kept."""

    def synchronize(self) -> None:
        """Nothing is ever under way."""

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        """Allocate."""
        return np.empty(tuple(shape), dtype)

    def adopt(self, x: Any) -> Array:
        """Return x as a numpy array: itself, or a view of a CPU tensor that has `__dlpack__` or `__array__`.

        Raises:
            PidSamplerError: x lies on another device, or is no array.
        """
        if isinstance(x, np.ndarray):
            return x
        try:
            return np.from_dlpack(x) if hasattr(x, "__dlpack__") else np.asarray(x, dtype=np.float32)
        except (TypeError, ValueError, BufferError, RuntimeError) as error:
            raise ConfigError(f"{type(x).__name__} cannot be read as a CPU array: {error}") from error

    def pointer(self, x: Array) -> int:
        """Return the address of the first element."""
        return int(x.ctypes.data)

    def noise(
        self,
        x: Array,
        seeds: Sequence[int],
        draw: int,
        stream: int = 0,
        *,
        keep: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        """x = keep*x + scale*N, in place."""
        for b, seed in enumerate(seeds):
            _on_all_cores(partial(_noise, x[b].reshape(-1), seed, draw, stream, keep, scale), x[b].size)

    def step(
        self, row: Row, x: Array, m: Array, saved: Sequence[Array], seeds: Sequence[int], copy: Array | None = None
    ) -> None:
        """Do one row of a table in place; nothing larger than a chunk is allocated."""
        for b, seed in enumerate(seeds):
            xs, ms = x[b].reshape(-1), m[b].reshape(-1)
            slots = [s[b].reshape(-1) for s in saved]
            _on_all_cores(partial(_step, row, xs, ms, slots, seed), xs.size)
        if copy is not None:
            copy[...] = x

    @_quiet
    def predict_x0(self, row: Row, x: Array, m: Array, out: Array) -> None:
        """out = clip(p*x + q*m)."""
        term = np.empty(_CHUNK, x.dtype)
        xs, ms, outs = x.reshape(-1), m.reshape(-1), out.reshape(-1)
        for part in _chunks(0, xs.size):
            _x0(row, xs[part], ms[part], outs[part], term[: part.stop - part.start])

    def image_to_tensor(self, image: Array, height: int, width: int) -> Array:
        """uint8 or uint16 (H, W, 3) -> float32 (1, 3, height, width) in -1..1, padded by reflection."""
        h, w, _ = image.shape
        x = np.empty((1, 3, height, width), np.float32)
        inside = x[0, :, :h, :w]
        np.multiply(image.transpose(2, 0, 1), np.float32(2.0 / np.iinfo(image.dtype).max), out=inside)
        inside -= 1.0
        # Columns and rows past the edge are read back in reverse: numpy's "reflect", for any amount of padding.
        x[0, :, :h, w:] = inside[:, :, np.pad(np.arange(w), (0, width - w), mode="reflect")[w:]]
        x[0, :, h:, :] = x[0][:, np.pad(np.arange(h), (0, height - h), mode="reflect")[h:], :]
        return x

    @_quiet
    def tensor_to_image(self, x: Array, height: int, width: int, despeckle: float | None = None) -> NDArray[np.uint8]:
        """(1, 3, H, W) in -1..1 -> uint8 (height, width, 3), clamped, rounded and cropped; see `Backend`.

        Raises:
            PidSamplerError: The tensor holds NaN or infinity, or `despeckle` is not a number from 0 on.
        """
        if (step := despeckle_step(despeckle, height, width)) is not None:
            return planes.despeckled(x, height, width, step)
        image = np.empty((height, width, 3), np.uint8)
        rows = max(1, _CHUNK // (3 * width))
        for top in range(0, height, rows):
            part = x[0, :, top : min(top + rows, height), :width]
            if not np.isfinite(part).all():
                raise ModelError(NOT_FINITE)
            scaled = part * x.dtype.type(127.5)
            scaled += 127.5
            np.clip(scaled, 0.0, 255.0, out=scaled)
            np.rint(scaled, out=scaled)
            image[top : top + rows] = scaled.transpose(1, 2, 0)
        return image

    def reduce(self, x: Array, height: int, width: int, new_height: int, new_width: int) -> Array:
        """Reduce the top left (height, width) of x (1, 3, H, W) to (1, 3, new_height, new_width), a band at a time.

        Raises:
            PidSamplerError: x is smaller than (height, width), or that is smaller than the new size.
        """
        check_reduction(x, height, width, new_height, new_width)
        if (new_height, new_width) == x.shape[2:]:
            return x
        if (new_height, new_width) == (height, width):
            return np.ascontiguousarray(x[:, :, :height, :width])
        result = np.empty((1, 3, new_height, new_width), x.dtype)
        reduce_planes(x[0, :, :height, :width], result[0])
        return result

    def blend(
        self, tile: Array, rows: Array, columns: Array, out: Array, top: int, left: int, fresh: tuple[int, int]
    ) -> None:
        """out += rows*columns*tile in the tile's place, in place and in out's type; = where nothing was before."""
        check_blend(tile, rows, columns, out, top, left)
        h, w = tile.shape[2:]
        place = out[:, :, top : top + h, left : left + w]
        weights = rows.astype(out.dtype, copy=False), columns.astype(out.dtype, copy=False)
        _on_all_cores(partial(_blend, tile, *weights, place, fresh), tile.size)

    def block_means(self, x: Array, blocks: Blocks, powers: int = 1) -> NDArray[np.float64]:
        """Return means over blocks of clip(x, -1, 1), and of its squares; see `Backend`.

        Raises:
            PidSamplerError: The picture holds NaN or infinity.
        """
        return planes.block_means(x, blocks, powers)

    def correct(self, x: Array, blocks: Blocks, gain: Array, grid: Array) -> NDArray[np.float64]:
        """x = gain*clip(x, -1, 1) + the grid's spline, in place; return its block means; see `Backend`."""
        return planes.correct(x, blocks, gain, grid)


@_quiet
def _step(row: Row, xs: Array, ms: Array, slots: Sequence[Array], seed: int, start: int, stop: int) -> None:
    """Do one row for the elements start..stop of one image."""
    combinations = row.combinations
    x0, term, *results = np.empty((2 + len(combinations), _CHUNK), xs.dtype)
    eps = np.empty(_CHUNK, np.float32)
    for part in _chunks(start, stop):
        n = part.stop - part.start
        _x0(row, xs[part], ms[part], x0[:n], term[:n])
        for c, result in zip(combinations, results, strict=True):
            terms = [(c.a, xs[part]), (c.b, x0[:n]), *((w, slots[k][part]) for k, w in c.h)]
            _weighted_sum(terms, result[:n], term[:n])
            for draw, w in c.noise:
                philox.fill(eps[:n], seed, draw=draw, start=part.start)
                result[:n] += np.multiply(eps[:n], w, out=term[:n], dtype=xs.dtype)
        xs[part] = results[0][:n]
        for (slot, _), result in zip(row.saves, results[1:], strict=True):
            slots[slot][part] = result[:n]


@_quiet
def _blend(
    tile: Array, rows: Array, columns: Array, place: Array, fresh: tuple[int, int], start: int, stop: int
) -> None:
    """Do the rows whose first elements are among start..stop, were the tile to lie row by row with all its planes."""
    batch, channels, h, w = tile.shape
    line = batch * channels * w
    step = max(1, _CHUNK // w)
    weight, term = np.empty((2, min(step, h), w), place.dtype)
    y, last, (row, column) = -(-start // line), -(-stop // line), fresh
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


def _noise(flat: Array, seed: int, draw: int, stream: int, keep: float, scale: float, start: int, stop: int) -> None:
    """x = keep*x + scale*N for the elements start..stop of one image."""
    eps = np.empty(_CHUNK, np.float32)
    for part in _chunks(start, stop):
        e = eps[: part.stop - part.start]
        philox.fill(e, seed, draw=draw, stream=stream, start=part.start)
        if keep == 0.0:
            np.multiply(e, scale, out=flat[part])
        else:
            flat[part] *= keep
            flat[part] += np.multiply(e, scale, out=e)


def _chunks(start: int, stop: int) -> Iterator[slice]:
    for first in range(start, stop, _CHUNK):
        yield slice(first, min(first + _CHUNK, stop))


def _on_all_cores(work: Callable[[int, int], object], size: int) -> None:
    """Call work(start, stop) for shares of 0..size that begin at whole chunks, one share a core."""
    share = -(-size // (min(count_cores(), _MOST_THREADS) * _CHUNK)) * _CHUNK
    if share >= size or size < _WORTH_THREADS:
        work(0, size)
        return
    starts = range(0, size, share)
    with ThreadPoolExecutor(len(starts)) as pool:
        list(pool.map(work, starts, (min(start + share, size) for start in starts)))  # raises what a share raised


def _x0(row: Row, x: Array, m: Array, out: Array, term: Array) -> None:
    """out = clip(p*x + q*m) in x's precision, whatever m's."""
    np.copyto(out, m, casting="same_kind")
    out *= row.q
    if row.p == 1.0:
        out += x
    elif row.p != 0.0:
        out += np.multiply(x, row.p, out=term)
    if row.clip is not None:
        np.clip(out, -row.clip, row.clip, out=out)


def _weighted_sum(terms: Sequence[tuple[float, Array]], out: Array, term: Array) -> None:
    """out = the sum of weight * array; an array of weight 0 is not read."""
    first = True
    for weight, array in terms:
        if weight == 0.0:
            continue
        if first:
            np.multiply(array, weight, out=out)
            first = False
        else:
            out += array if weight == 1.0 else np.multiply(array, weight, out=term)
    if first:
        out.fill(0.0)
