"""Rows by the shared library of `native`: what a `Row` is there, and which arrays it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from ctypes import c_uint64
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..native import HostRow, Library, address, crew_for
from ..native.library import MOST_RESULTS, MOST_TERMS
from ..noise.philox import check_number
from ..table import Row
from ..threads import CHUNK, in_parts

Array = NDArray[Any]

# Infinity and NaN pass through as on a GPU, and `pixels.to_image` refuses them; numpy's warnings would only repeat it.
quiet = np.errstate(over="ignore", invalid="ignore")

_TYPES = (np.dtype(np.float32), np.dtype(np.float64))
_PART = 4 * CHUNK  # elements that a thread takes at a time


def compiled_step(
    library: Library, row: Row, *, x: Array, m: Array, saved: Sequence[Array], seeds: Sequence[int]
) -> bool:
    """Do a row as `NumpyBackend.step` does, with numpy's bits.

    It comes after a network, which has emptied the caches: each object that it touches costs a tenth of a microsecond.

    Args:
        library: The shared library.
        row: Row of a table.
        x: (B, ...) state, float32 or float64; changed in place, as the saved tensors are.
        m: Network's output, of any floating type.
        saved: Saved tensors, of x's type.
        seeds: Seed of each image.

    Returns:
        False where the library does no such row, or takes no such arrays: then nothing was done.
    """
    packed = _packed(row)
    dtype, size = x.dtype, x.size
    if packed is None or not size or dtype not in _TYPES or m.size != size or len(seeds) > len(x):
        return False
    is_direct = m.dtype == dtype and m.flags.c_contiguous and m.flags.aligned
    if not is_direct and m.dtype.kind not in "fV":
        return False
    count = size // len(x)
    crew = crew_for(library, count) if is_direct else None
    arrays, places = [x, *[saved[slot] for slot in packed.slots]], []
    for array in arrays:
        if array.dtype != dtype or array.size != size or not array.flags.carray:
            return False
        places.append(address(array))
    for b, seed in enumerate(seeds):
        if packed.has_draws:
            check_number("seed", seed, bits=64)
        offset = b * count * dtype.itemsize
        at = [place + offset for place in places] if b else places
        if is_direct:
            start = address(m) + offset
            step = library.pack(packed.row, at, itemsize=dtype.itemsize, seed=seed, m=start, stop=count, part=_PART)
            done = c_uint64()
            while library.step(step, done, crew=crew):
                pass
        else:
            in_parts(partial(_converting, library, packed, at, seed, m[b].reshape(-1), arrays), count)
    return True


@quiet
def _converting(
    library: Library,
    packed: _Packed,
    at: Sequence[int],
    seed: int,
    m: Array,
    arrays: Sequence[Array],
    start: int,
    stop: int,
) -> None:
    """Do elements of a row whose output is of another type, a chunk at a time."""
    term = np.empty(min(CHUNK, stop - start), arrays[0].dtype)
    for first in range(start, stop, CHUNK):
        last = min(first + CHUNK, stop)
        np.copyto(term[: last - first], m[first:last], casting="same_kind")
        step = library.pack(
            packed.row, at, itemsize=term.itemsize, seed=seed, m=address(term), m_start=first, stop=last, part=CHUNK
        )
        library.step(step, c_uint64(first))


class _Packed:
    """A row as kernels/host.c has it.

    Attributes:
        row: The structure.
        slots: Saved tensors that the row reads or writes; the first is array 1 there.
        has_draws: Whether the row draws noise.
    """

    def __init__(self, row: Row) -> None:
        combinations, draws = row.combinations, row.draws
        self.has_draws = bool(draws)
        self.slots = sorted({k for c in combinations for k, _ in c.h}.union(k for k, _ in row.saves))
        number = {slot: 1 + k for k, slot in enumerate(self.slots)}
        self.row = HostRow(row.p, row.q, math.inf if row.clip is None else row.clip, len(combinations), len(draws))
        for result, out, c in zip(self.row.result, [0, *(number[k] for k, _ in row.saves)], combinations, strict=False):
            terms = [(c.a, 0), (c.b, -1), *((w, number[slot]) for slot, w in c.h)]
            terms = [(w, source) for w, source in terms if w != 0.0]
            result.out, result.terms = out, len(terms)
            for k, (w, source) in enumerate(terms):
                result.weight[k], result.source[k] = w, source
        weights = [dict(c.noise) for c in combinations]
        scales = np.array([[of.get(draw, 0.0) for of in weights] for draw in draws])
        self._draws = np.array(draws, np.uint32), scales  # whose addresses are in the structure
        self.row.draw, self.row.scale = map(address, self._draws)


@lru_cache(1024)
def _packed(row: Row) -> _Packed | None:
    """Return a row packed; None where it has more results or terms than kernels/host.c has room for."""
    most = max(2 + len(c.h) for c in row.combinations)
    return None if len(row.combinations) > MOST_RESULTS or most > MOST_TERMS else _Packed(row)
