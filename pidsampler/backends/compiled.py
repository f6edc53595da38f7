"""Rows by the shared library of `native`: what a `Row` is there, and which arrays it takes."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..native import HostResult, HostRow, Library, address, suits
from ..native.library import MOST_RESULTS, MOST_TERMS
from ..noise.philox import check_number
from ..table import Row
from ..threads import CHUNK

Array = NDArray[Any]

# Infinity and NaN pass through as on a GPU, and `pixels.to_image` refuses them; numpy's warnings would only repeat it.
quiet = np.errstate(over="ignore", invalid="ignore")

_WORD = np.dtype(np.uint64)  # of a packed row: an address, a weight, a seed
_TYPES = (np.dtype(np.float32), np.dtype(np.float64))


def compiled_row(
    library: Library, row: Row, *, x: Array, m: Array, saved: Sequence[Array], seed: int
) -> Callable[[int, int], None] | None:
    """Return what does the elements start..stop-1 of a row for one image; it gives numpy's bits.

    Args:
        library: The shared library.
        row: Row of a table.
        x: State, one axis, float32 or float64; changed in place, as the saved tensors are.
        m: Network's output, of any floating type.
        saved: Saved tensors, of x's type.
        seed: Seed of the image.

    Returns:
        None where the library does no such row, or takes no such arrays.
    """
    packed = _packed(row)
    if packed is None or x.dtype not in _TYPES or m.size != x.size or m.dtype.kind not in "fV":
        return None
    places = []
    for array in (x, *(saved[slot] for slot in packed.slots)):
        if not suits(array, x.dtype) or array.size != x.size or not array.flags.writeable:
            return None
        places.append(address(array))
    words = packed.words.copy()
    words[packed.at] = [places[k] for k in packed.which]
    if packed.draws is not None:
        words[HostRow.seed.offset // _WORD.itemsize] = check_number("seed", seed, bits=64)
    if suits(m, x.dtype):
        return partial(_direct, library, words, m)
    return partial(_converting, library, words, m, x.dtype)


def _direct(library: Library, words: Array, m: Array, start: int, stop: int) -> None:
    library.step(words, m, span=(start, stop))


@quiet
def _converting(library: Library, words: Array, m: Array, dtype: np.dtype[Any], start: int, stop: int) -> None:
    """Do elements of a row whose output is of another type, a chunk at a time."""
    term = np.empty(min(CHUNK, stop - start), dtype)
    for first in range(start, stop, CHUNK):
        last = min(first + CHUNK, stop)
        np.copyto(term[: last - first], m[first:last], casting="same_kind")
        library.step(words, term, span=(first, last), m_start=first)


class _Packed:
    """A row as kernels/host.c has it, but for the seed and the addresses of arrays.

    Attributes:
        words: The structure's words of 64 bits.
        at: Words that are addresses of arrays.
        which: Array of each: 0 is x, k is slots[k - 1].
        slots: Saved tensors that the row reads or writes.
        draws: Numbers of the draws and their weights, whose addresses are in the words; None where nothing is drawn.
    """

    def __init__(self, row: Row) -> None:
        combinations = row.combinations
        self.slots = sorted({k for c in combinations for k, _ in c.h}.union(k for k, _ in row.saves))
        number = {slot: 1 + k for k, slot in enumerate(self.slots)}
        packed, found = HostRow(), {HostRow.x.offset: 0}
        packed.p, packed.q, packed.clip = row.p, row.q, math.inf if row.clip is None else row.clip
        packed.results = len(combinations)
        for r, (out, c) in enumerate(zip([0, *(number[slot] for slot, _ in row.saves)], combinations, strict=True)):
            result, offset = packed.result[r], HostRow.result.offset + r * HostRow.result.size // MOST_RESULTS
            found[offset + HostResult.out.offset] = out
            terms = [(c.a, 0), (c.b, None), *((w, number[slot]) for slot, w in c.h)]
            terms = [(w, which) for w, which in terms if w != 0.0]
            result.terms = len(terms)
            for k, (w, which) in enumerate(terms):
                result.weight[k] = w
                if which is not None:  # x0 is made there
                    found[offset + HostResult.source.offset + k * _WORD.itemsize] = which
        self.draws = None
        if draws := row.draws:
            weights = [dict(c.noise) for c in combinations]
            scales = np.array([[of.get(draw, 0.0) for of in weights] for draw in draws])
            self.draws = np.array(draws, np.uint32), scales
            packed.draws, (packed.draw, packed.scale) = len(draws), map(address, self.draws)
        self.words = np.frombuffer(bytes(packed), _WORD)
        self.at, self.which = np.array(list(found)) // _WORD.itemsize, list(found.values())


@lru_cache(1024)
def _packed(row: Row) -> _Packed | None:
    """Return a row packed; None where it has more results or terms than kernels/host.c has room for."""
    most = max(2 + len(c.h) for c in row.combinations)
    return None if len(row.combinations) > MOST_RESULTS or most > MOST_TERMS else _Packed(row)
