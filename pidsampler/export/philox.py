"""Philox4x32-10 and Box-Muller in ONNX's standard operators: the noise of a seed, made inside a graph.

The integers are those of `noise.philox`, bit by bit. The normals are worked out in float64, and agree to 1e-6. ONNX
Runtime's CUDA provider has no operators on bits: there such nodes run on the CPU.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from .build import FLOAT, Graph, Value, data_type

_MULTIPLIERS = 0xD2511F53, 0xCD9E8D57
_WEYL = 0x9E3779B9, 0xBB67AE85
_LOW = 0xFFFFFFFF
_ROUNDS = 10
_WORD, _WIDE = np.dtype(np.uint64), np.dtype(np.float64)


class Philox:
    """Noise of one seed, for one graph.

    Args:
        graph: Graph that the nodes are added to.
        seed: uint64 value of one element.

    Source: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11), and cuRAND's Box-Muller, as in
    `noise.philox`.
    """

    def __init__(self, graph: Graph, seed: Value) -> None:
        self._g = graph
        low, high = self._low(seed), self._high(seed)
        self._keys = [
            (self._plus(low, k * _WEYL[0] & _LOW), self._plus(high, k * _WEYL[1] & _LOW)) for k in range(_ROUNDS)
        ]
        self._counters: dict[int | Value, Value] = {}

    def normal(self, draw: int, shape: Sequence[int] | Value, *, stream: int = 0) -> Value:
        """Return float32 noise of one image, as `noise.normal` makes it, of the shape given.

        Args:
            draw: Number of the draw, 0..2^32-1.
            shape: Shape with the batch axis of 1, of fewer than 2^34 elements; or int64 values of the graph.
            stream: Number of the stream: 0 for the sampler, 1 for the latent's noise.
        """
        g = self._g
        size, whole = self._size(shape)
        words = self._words(size, draw, stream)
        columns = []
        for first, second in ((0, 1), (2, 3)):
            u, turn = self._unit(words[first]), self._unit(words[second])
            radius = g("Sqrt", g("Mul", g("Log", u), g.constant(-2.0, _WIDE)))
            angle = g("Mul", turn, g.constant(2.0 * math.pi, _WIDE))
            later = g("Add", angle, g.constant(math.pi / 2, _WIDE))  # Cos has no float64 form in some releases
            columns += [g("Cast", g("Mul", radius, g("Sin", a)), to=data_type(FLOAT)) for a in (angle, later)]
        columns = [g("Unsqueeze", column, g.constant([1])) for column in columns]
        values = g("Concat", *columns, axis=1)
        if not whole:
            size = size if isinstance(size, Value) else g.constant([size])
            values = g("Slice", g("Reshape", values, g.constant([-1])), g.constant([0]), size)
        return g("Reshape", values, shape if isinstance(shape, Value) else g.constant(list(shape)))

    def _size(self, shape: Sequence[int] | Value) -> tuple[int | Value, bool]:
        """The number of elements, a number or int64 (1,), and whether it is known to be a multiple of 4."""
        if isinstance(shape, Value):
            return self._g("ReduceProd", shape, keepdims=1), False
        return (size := math.prod(shape)), size % 4 == 0

    def _words(self, size: int | Value, draw: int, stream: int) -> list[Value]:
        """The four output words of the counters that `size` elements take, each in the low half of a uint64."""
        g = self._g
        if size not in self._counters:
            if isinstance(size, Value):
                count = g("Div", g("Add", g("Squeeze", size), g.constant(3)), g.constant(4))
            else:
                count = g.constant(-(-size // 4))
            numbers = g("Range", g.constant(0), count, g.constant(1))
            self._counters[size] = g("Cast", numbers, to=data_type(_WORD))
        c0, c1, c2, c3 = self._counters[size], self._word(0), self._word(draw), self._word(stream)
        for key0, key1 in self._keys:
            product0 = g("Mul", c0, self._word(_MULTIPLIERS[0]))
            product1 = g("Mul", c2, self._word(_MULTIPLIERS[1]))
            c0 = g("BitwiseXor", self._high(product1), g("BitwiseXor", c1, key0))
            c2 = g("BitwiseXor", self._high(product0), g("BitwiseXor", c3, key1))
            c1, c3 = self._low(product1), self._low(product0)
        return [c0, c1, c2, c3]

    def _unit(self, word: Value) -> Value:
        """(r + 1/2) * 2^-32 in float64."""
        g = self._g
        scaled = g("Mul", g("Cast", word, to=data_type(_WIDE)), g.constant(2.0**-32, _WIDE))
        return g("Add", scaled, g.constant(2.0**-33, _WIDE))

    def _plus(self, word: Value, number: int) -> Value:
        """(word + number) mod 2^32, as int64: Add has no unsigned form in ONNX Runtime."""
        g = self._g
        total = g("Add", g("Cast", word, to=data_type(np.dtype(np.int64))), g.constant([number]))
        return self._low(g("Cast", total, to=data_type(_WORD)))

    def _low(self, value: Value) -> Value:
        return self._g("BitwiseAnd", value, self._word(_LOW))

    def _high(self, value: Value) -> Value:
        return self._g("BitShift", value, self._word(32), direction="RIGHT")

    def _word(self, value: int) -> Value:
        return self._g.constant([value], np.uint64)
