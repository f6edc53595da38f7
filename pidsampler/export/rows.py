"""A table's rows as nodes of a graph: the loop of `sampler`, written out."""

from __future__ import annotations

from collections.abc import Callable

from ..table import Combination, Row, StepTable
from .build import FLOAT, Graph, Value

Network = Callable[[Value, Row], Value]  # (x, row) -> m in float32, of the network that the row asks
Noise = Callable[[int], Value]  # draw -> float32 like x


def unrolled(g: Graph, table: StepTable, *, network: Network, noise: Noise) -> Value:
    """Add all rows of a table, in float32 and in the order of the numpy backend's operations; return the last x.

    Args:
        g: Graph that the nodes are added to.
        table: Ready for the network's prediction.
        network: Adds a call of the network.
        noise: Adds the noise of a draw, or returns it where it was added before. Draw 0 is where x begins.
    """
    x, saved = noise(0), dict[int, Value]()
    for row in table:
        x0 = _x0(g, row, x, network(x, row))
        results = [_combined(g, c, x=x, x0=x0, saved=saved, noise=noise) for c in row.combinations]
        x = results[0]
        saved |= {slot: result for (slot, _), result in zip(row.saves, results[1:], strict=True)}
    return x


def _x0(g: Graph, row: Row, x: Value, m: Value) -> Value:
    """clip(p*x + q*m)."""
    x0 = _sum(g, [(row.q, m), (row.p, x)])
    assert x0 is not None  # q is not 0
    if row.clip is None:
        return x0
    return g("Clip", x0, g.constant(-row.clip, FLOAT), g.constant(row.clip, FLOAT))


def _combined(g: Graph, c: Combination, *, x: Value, x0: Value, saved: dict[int, Value], noise: Noise) -> Value:
    terms = [(c.a, x), (c.b, x0), *((w, saved[k]) for k, w in c.h)]
    terms += [(w, noise(draw)) for draw, w in c.noise]
    total = _sum(g, terms)
    return g("Sub", x, x) if total is None else total


def _sum(g: Graph, terms: list[tuple[float, Value]]) -> Value | None:
    """The sum of weight * value; None where all weights are 0."""
    total: Value | None = None
    for weight, value in terms:
        if weight == 0.0:
            continue
        term = value if weight == 1.0 else g("Mul", value, g.constant(weight, FLOAT))
        total = term if total is None else g("Add", total, term)
    return total
