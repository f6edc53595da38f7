"""Rows by the shared library of `native`: what a `Row` is there, and which arrays it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..native import HostRow, Library, address, suits
from ..native.library import MOST_RESULTS, MOST_TERMS
from ..noise.philox import check_number
from ..table import Row
from ..threads import CHUNK

Array = NDArray[Any]

# Infinity and NaN pass through as on a GPU, and `pixels.to_image` refuses them; numpy's warnings would only repeat it.
quiet = np.errstate(over="ignore", invalid="ignore")


class CompiledRow:
    """One row for one image, to be done a part at a time; it gives numpy's bits.

    Args:
        library: The shared library.
        row: Row of a table.
        x: State, one axis, float32 or float64; changed in place, as the saved tensors are.
        m: Network's output, of any floating type.
        saved: Saved tensors, of x's type.
        seed: Seed of the image.
    """

    def __init__(self, library: Library, row: Row, *, x: Array, m: Array, saved: Sequence[Array], seed: int) -> None:
        self._library, self._m, self._dtype = library, m, x.dtype
        self._held = [x, *saved]  # the addresses below are theirs
        self._row = packed = HostRow()
        combinations, place, places = row.combinations, address(x), {k: address(saved[k]) for k in _slots(row)}
        packed.p, packed.q, packed.clip = row.p, row.q, math.inf if row.clip is None else row.clip
        packed.x, packed.results = place, len(combinations)
        outs = [place, *(places[slot] for slot, _ in row.saves)]
        for k, (out, c) in enumerate(zip(outs, combinations, strict=True)):
            terms = [(c.a, place), (c.b, None), *((w, places[slot]) for slot, w in c.h)]
            terms = [(w, source) for w, source in terms if w != 0.0]
            result, count = packed.result[k], len(terms)
            result.out, result.terms = out, count
            if count:
                result.weight[:count], result.source[:count] = zip(*terms, strict=True)
        if draws := row.draws:
            packed.seed, packed.draws = check_number("seed", seed, bits=64), len(draws)
            self._draws = np.array(draws, np.uint32)
            weights = [dict(c.noise) for c in combinations]
            self._scales = np.array([[of.get(draw, 0.0) for of in weights] for draw in draws])
            packed.draw, packed.scale = address(self._draws), address(self._scales)

    @staticmethod
    def takes(row: Row, x: Array, *, m: Array, saved: Sequence[Array]) -> bool:
        """Return whether the library does a row of these arrays, each of one axis."""
        if x.dtype not in (np.float32, np.float64) or m.size != x.size or m.dtype.kind not in "fV":
            return False
        arrays, combinations = [x, *(saved[slot] for slot in _slots(row))], row.combinations
        return (
            all(suits(array, x.dtype) and array.size == x.size and array.flags.writeable for array in arrays)
            and len(combinations) <= MOST_RESULTS
            and all(2 + len(c.h) <= MOST_TERMS for c in combinations)
        )

    @quiet
    def __call__(self, start: int, stop: int) -> None:
        """Do the elements start..stop-1."""
        if suits(self._m, self._dtype):
            self._library.step(self._row, self._m[start:stop], start=start)
            return
        term = np.empty(min(CHUNK, stop - start), self._dtype)
        for first in range(start, stop, CHUNK):
            part = term[: min(CHUNK, stop - first)]
            np.copyto(part, self._m[first : first + len(part)], casting="same_kind")
            self._library.step(self._row, part, start=first)


def _slots(row: Row) -> set[int]:
    """Return the saved tensors that a row reads or writes."""
    return {slot for c in row.combinations for slot, _ in c.h}.union(slot for slot, _ in row.saves)
