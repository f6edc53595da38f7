"""A row as a careful user of PyTorch writes it: in place, in as few passes as the row allows, buffers kept."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from ..table import Combination, Row

Array = Any


def in_place(torch: Any, row: Row) -> Callable[[Array, Array, Sequence[Array]], Sequence[Array]]:
    """Return a function of (x, m, saved) that changes x, and returns it and buffers with what the row saves.

    Where neither a bound nor a saved tensor needs x0, its terms are added up beforehand: the flow's Euler step is one
    `add_`. Noise is `normal_` into a buffer. The next call writes the buffers anew.

    Args:
        torch: The module.
        row: Row of a table.
    """
    return _InPlace(torch, row)


class _InPlace:
    def __init__(self, torch: Any, row: Row) -> None:
        self._torch, self._row = torch, row
        self._kept: dict[Any, Array] = {}

    def __call__(self, x: Array, m: Array, saved: Sequence[Array]) -> Sequence[Array]:
        row, x0 = self._row, None
        eps = {draw: self._buffer(draw, x).normal_() for draw in row.draws}
        if row.clip is not None or row.saves:
            x0 = self._sum([(row.p, x), (row.q, m)], self._buffer("x0", x))
            if row.clip is not None:
                x0.clamp_(-row.clip, row.clip)

        def terms(c: Combination) -> list[tuple[float, Array]]:
            of_x0 = [(c.a, x), (c.b, x0)] if x0 is not None else [(c.a + c.b * row.p, x), (c.b * row.q, m)]
            return [*of_x0, *((w, saved[k]) for k, w in c.h), *((w, eps[draw]) for draw, w in c.noise)]

        saves = []
        for slot, c in row.saves:
            alone = c == Combination(b=1.0)
            saves.append(x0 if alone else self._sum(terms(c), self._buffer(("save", slot), x)))
        return [self._sum(terms(row), x), *saves]

    def _buffer(self, name: Any, like: Array) -> Array:
        key = name, like.shape, like.dtype
        if key not in self._kept:
            self._kept[key] = self._torch.empty_like(like)
        return self._kept[key]

    def _sum(self, terms: Sequence[tuple[float, Array]], out: Array) -> Array:
        """out = the sum of weight * array, of which only the first may be `out`."""
        (weight, first), *others = [(w, array) for w, array in terms if w != 0.0]
        if first is out and weight == 1.0:
            return self._add(others, out)
        if not others:
            return self._torch.mul(first, weight, out=out)
        k = next((k for k, (w, _) in enumerate(others) if w == 1.0), 0)
        other, second = others.pop(k)
        if weight == 1.0:
            self._torch.add(first, second, alpha=other, out=out)
        elif other == 1.0:
            self._torch.add(second, first, alpha=weight, out=out)
        else:  # two weights in one pass: a matrix of one row, and the product of a vector of one element
            one, line = self._buffer("one", out.reshape(-1)[:1]).fill_(1.0), out.reshape(1, -1)
            self._torch.addr(first.reshape(1, -1), one, second.reshape(-1), beta=weight, alpha=other, out=line)
        return self._add(others, out)

    def _add(self, terms: Sequence[tuple[float, Array]], out: Array) -> Array:
        for weight, array in terms:
            out.add_(array, alpha=weight)
        return out
