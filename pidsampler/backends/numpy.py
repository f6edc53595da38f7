"""The reference backend: numpy, or the compiled library with its bits, in place and on all cores."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import moved, native
from ..errors import ConfigError
from ..noise import philox
from ..table import Row
from ..threads import CHUNK, in_parts
from .base import DLPACK_CPU
from .compiled import compiled_step, quiet
from .plain import HostDevice

Array = NDArray[Any]


class NumpyBackend(HostDevice):
    """numpy arrays on the CPU. float32 state; float64 too, to measure below float32's rounding."""

    name = "numpy"
    state_types = (np.dtype(np.float32), np.dtype(np.float64))

    @staticmethod
    def owns(x: Any) -> bool:
        """Return whether x is an array or tensor in host memory."""
        return hasattr(x, "__dlpack_device__") and x.__dlpack_device__()[0] == DLPACK_CPU

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

    def to_host(self, x: Array) -> Array:
        """Return x itself."""
        return x

    @quiet
    def write(self, x: Array, out: Array) -> None:
        """out = x in out's element type, rounded."""
        out[...] = x

    @moved.keywords()
    def noise(
        self,
        x: Array,
        seeds: Sequence[int],
        *,
        draw: int,
        stream: int = 0,
        keep: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        """x = keep*x + scale*N, in place."""
        for b, seed in enumerate(seeds):
            in_parts(partial(_noise, x[b].reshape(-1), seed, draw, stream, keep, scale), x[b].size)

    @moved.keywords()
    def step(
        self, row: Row, x: Array, *, m: Array, saved: Sequence[Array], seeds: Sequence[int], copy: Array | None = None
    ) -> None:
        """Do one row of a table in place; nothing larger than a chunk is allocated."""
        library = native.built()
        if library is None or not compiled_step(library, row, x=x, m=m, saved=saved, seeds=seeds):
            for b, seed in enumerate(seeds):
                xs, ms = x[b].reshape(-1), m[b].reshape(-1)
                in_parts(partial(_step, row, xs, ms, [s[b].reshape(-1) for s in saved], seed), xs.size)
        if copy is not None:
            self.write(x, copy)

    @quiet
    @moved.keywords()
    def predict_x0(self, row: Row, x: Array, *, m: Array, out: Array) -> None:
        """out = clip(p*x + q*m)."""
        term = np.empty(CHUNK, x.dtype)
        xs, ms, outs = x.reshape(-1), m.reshape(-1), out.reshape(-1)
        for part in _chunks(0, xs.size):
            _x0(row, xs[part], ms[part], outs[part], term[: part.stop - part.start])


@quiet
def _step(row: Row, xs: Array, ms: Array, slots: Sequence[Array], seed: int, start: int, stop: int) -> None:
    """Do one row for the elements start..stop of one image."""
    combinations = row.combinations
    x0, term, *results = np.empty((2 + len(combinations), CHUNK), xs.dtype)
    eps = np.empty(CHUNK, np.float32)
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


def _noise(flat: Array, seed: int, draw: int, stream: int, keep: float, scale: float, start: int, stop: int) -> None:
    """x = keep*x + scale*N for the elements start..stop of one image."""
    eps = np.empty(CHUNK, np.float32)
    for part in _chunks(start, stop):
        in_place = keep == 0.0 and flat.dtype == np.float32
        e = flat[part] if in_place else eps[: part.stop - part.start]
        philox.fill(e, seed, draw=draw, stream=stream, start=part.start)
        if keep == 0.0:
            if scale != 1.0 or not in_place:
                np.multiply(e, scale, out=flat[part])
        else:
            flat[part] *= keep
            flat[part] += np.multiply(e, scale, out=e)


def _chunks(start: int, stop: int) -> Iterator[slice]:
    for first in range(start, stop, CHUNK):
        yield slice(first, min(first + CHUNK, stop))


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
