"""What backends can inherit: a device whose memory is the host's, and rows as plain array expressions.

So a backend of another library needs little, here one on the CPU:

    @BACKENDS.register
    class Mine(PlainBackend):
        name = "mine"

        @staticmethod
        def owns(x):
            return isinstance(x, mine.Array)

        def empty(self, shape, dtype):
            own = isinstance(dtype, mine.DType)
            return mine.empty(shape, dtype=dtype if own else getattr(mine, np.dtype(dtype).name))

        def adopt(self, x):
            return mine.from_dlpack(x)
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import threads
from ..noise import philox
from ..table import Combination, Row
from . import host
from .base import Array


class HostDevice(ABC):
    """A `Device` in this machine's memory, which numpy views by DLPack, and whose work is done when a call returns."""

    name: str
    device = "cpu"
    device_id = 0
    stream_pointer = 0

    @staticmethod
    def owns(x: Any) -> bool:
        """Return whether x is an array of this device; none is, unless a subclass says so."""
        return False

    @abstractmethod
    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        """Allocate.

        Returns:
            Array of this shape, with whatever its memory holds.
        """

    @abstractmethod
    def adopt(self, x: Any) -> Array:
        """Return x as this backend's array, of the shape of x."""

    def active(self) -> AbstractContextManager[Any]:
        """Nothing to make current: work is done in order.

        Returns:
            A context that does nothing.
        """
        return nullcontext()

    def free_memory(self) -> int | None:
        """Return how many bytes can still be taken; None if unknown."""
        return host.free_memory()

    def held_memory(self) -> int | None:
        """Return how many bytes this process has; None if unknown."""
        return host.held_memory()

    def release(self) -> None:  # noqa: B027
        """Nothing is kept."""

    def synchronize(self) -> None:  # noqa: B027
        """Nothing is ever under way."""

    def to_host(self, x: Array) -> NDArray[Any]:
        """Return an array as numpy's of the same shape, a view of its memory."""
        return np.from_dlpack(x)

    def write(self, x: Array, out: Array) -> None:
        """out = x in out's element type, rounded."""
        self.to_host(out)[...] = self.to_host(x)

    def dtype(self, x: Array) -> Any:
        """Return numpy's element type for that of an array."""
        return self.to_host(x).dtype

    def writable(self, x: Array) -> bool:
        """Return whether an array is C-contiguous and may be written to."""
        flags = self.to_host(x).flags
        return bool(flags.c_contiguous and flags.writeable)

    def pointer(self, x: Array) -> int:
        """Return the address of the first element."""
        return int(self.to_host(x).ctypes.data)


class PlainBackend(HostDevice):
    """Rows as one would write them down, an array expression a term; noise is made on the host.

    It agrees with numpy's backend to float32's rounding, and takes the memory of a few tensors beside its own. One on a
    GPU overrides what `HostDevice` says of memory: `device`, `to_host`, `write`, `dtype`, `writable`, `pointer`.
    """

    state_types: tuple[Any, ...] = (np.dtype(np.float32), np.dtype(np.float64))

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
        noise = scale * self._normal(x.shape, seeds, draw, stream)
        self.write(noise if keep == 0.0 else keep * x + noise, x)

    def step(
        self, row: Row, x: Array, *, m: Array, saved: Sequence[Array], seeds: Sequence[int], copy: Array | None = None
    ) -> None:
        """Do one row of a table in place."""
        x0 = self._x0(row, x, m)
        noise = {draw: self._normal(x.shape, seeds, draw, philox.SAMPLER) for draw in row.draws}

        def result(c: Combination) -> Array:
            terms = [(c.a, x), (c.b, x0), *((w, saved[k]) for k, w in c.h), *((w, noise[k]) for k, w in c.noise)]
            return self._sum(terms, x)

        state, *others = [result(c) for c in row.combinations]  # all from the old x and saved tensors
        self.write(state, x)
        for (slot, _), other in zip(row.saves, others, strict=True):
            self.write(other, saved[slot])
        if copy is not None:
            self.write(x, copy)

    def predict_x0(self, row: Row, x: Array, *, m: Array, out: Array) -> None:
        """out = clip(p*x + q*m)."""
        self.write(self._x0(row, x, m), out)

    def clip(self, x: Array, bound: float) -> Array:
        """Return an array like x, clipped to -bound..bound, NaN kept: by the array API or its own method."""
        if hasattr(x, "__array_namespace__"):
            return x.__array_namespace__().clip(x, -bound, bound)
        return x.clip(-bound, bound)

    def _x0(self, row: Row, x: Array, m: Array) -> Array:
        x0 = self._sum([(row.q, m), (row.p, x)], x)
        return x0 if row.clip is None else self.clip(x0, row.clip)

    def _normal(self, shape: Sequence[int], seeds: Sequence[int], draw: int, stream: int) -> Array:
        values = np.empty(tuple(shape), np.float32)
        for image, seed in zip(values, seeds, strict=True):
            flat = image.reshape(-1)
            threads.in_parts(partial(_fill, flat, seed, draw, stream), flat.size)
        return self.adopt(values)

    def _sum(self, terms: Sequence[tuple[float, Array]], like: Array) -> Array:
        """Return the sum of weight*array, a new array; one of weight 0 is not read."""
        total = None
        for weight, array in terms:
            if weight != 0.0:
                total = weight * array if total is None else total + (array if weight == 1.0 else weight * array)
        if total is None:
            total = self.empty(like.shape, like.dtype)
            total[...] = 0.0
        return total


def _fill(flat: NDArray[np.float32], seed: int, draw: int, stream: int, start: int, stop: int) -> None:
    philox.fill(flat[start:stop], seed, draw=draw, stream=stream, start=start)
