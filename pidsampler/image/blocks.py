"""A picture divided into blocks of about equal size, the same on the input and on its enlarged result."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Blocks:
    """Blocks i = 0..g-1 of an axis of n pixels, each from pixel i*n // g to (i+1)*n // g: no two differ by more than 1.

    Args:
        height: Of the input, in pixels, at least `rows`.
        width: Of the input, in pixels, at least `columns`.
        scale: Pixels of the result that one of the input became, on each axis.
        rows: How many blocks there are on the vertical axis.
        columns: How many on the horizontal axis.
    """

    height: int
    width: int
    scale: int
    rows: int
    columns: int

    @classmethod
    def of(cls, height: int, width: int, scale: int, size: int) -> Blocks:
        """Divide a picture into blocks of about `size` x `size` pixels of the input; one at least."""
        rows, columns = (max(1, (n + size // 2) // size) for n in (height, width))
        return cls(height, width, scale, rows, columns)

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
