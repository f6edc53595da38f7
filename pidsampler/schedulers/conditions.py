"""Order conditions of Runge-Kutta methods, each a rooted tree that is grown and not typed.

Source: Hairer, Norsett, Wanner, "Solving ordinary differential equations I", section II.2; for trees with vertices of
a linear part, Berland, Owren and Skaflestad, SIAM J. Numer. Anal. 43 (2005), "B-series and order conditions for
exponential integrators".
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from functools import cache
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..values import flag, function, numbers, whole

# Whether its root is of the linear part, which has one branch at most, and its branches in order.
Tree = tuple[bool, tuple[Any, ...]]

_MOST = 5  # vertices: the orders that are told apart


@cache
def trees(vertices: int, *, linear: bool = False) -> tuple[Tree, ...]:
    """Return the rooted trees of so many vertices: 1, 1, 2, 4, 9 from one on, more with vertices of a linear part."""
    kinds = (False, True) if flag("linear", linear) else (False,)
    if whole("vertices", vertices, low=1, high=_MOST) == 1:
        return tuple((kind, ()) for kind in kinds)
    smaller = trees(vertices - 1, linear=linear)
    return tuple(sorted({grown for tree in smaller for kind in kinds for grown in _grown(tree, (kind, ()))}))


def _grown(tree: Tree, leaf: Tree) -> Iterator[Tree]:
    """The tree with a leaf more, at each vertex that has room for it."""
    kind, branches = tree
    if not kind or not branches:
        yield kind, tuple(sorted((*branches, leaf)))
    for k, branch in enumerate(branches):
        for grown in _grown(branch, leaf):
            yield kind, tuple(sorted((*branches[:k], grown, *branches[k + 1 :])))


def order(weights: Callable[[int], tuple[Any, Any]], *, nodes: Sequence[float] | None = None) -> int:
    """Return the classical order of a method of s stages, at most 5.

    Args:
        weights: Function of a power m that returns the matrix (s, s) and the vector (s,) of the stages' and the step's
            weights; of an exponential method, their coefficients of z^m, where z is the linear part times the step.
        nodes: Places of the stages in the step, for an exponential method; None for one without a linear part.
    """
    function("weights", weights, takes="(m)")
    linear = nodes is not None
    known = [weights(m) for m in range(_MOST if linear else 1)]
    parts = [(np.asarray(matrix, np.float64), np.asarray(step, np.float64)) for matrix, step in known]
    ends = np.append(np.zeros(0) if nodes is None else numbers("nodes", nodes), 1.0)

    @cache
    def weight(tree: Tree) -> NDArray[np.float64]:
        """In each stage, and in the step as the last."""
        m, (kind, branches) = 0, tree
        while kind and branches:
            m, (kind, branches) = m + 1, branches[0]
        if kind:
            return ends ** (m + 1) / math.factorial(m + 1)
        inner = np.prod([weight(branch)[:-1] for branch in branches], axis=0) * np.ones(len(parts[0][1]))
        return np.append(parts[m][0] @ inner, parts[m][1] @ inner)

    for vertices in range(1, _MOST + 1):
        if not all(
            np.isclose(weight(tree)[-1] * _density(tree), 1, atol=1e-11) for tree in trees(vertices, linear=linear)
        ):
            return vertices - 1
    return _MOST


def _density(tree: Tree) -> int:
    """The number of vertices, times the densities of the branches; 1/density is the weight in the exact solution."""
    return _size(tree) * math.prod(map(_density, tree[1]))


def _size(tree: Tree) -> int:
    return 1 + sum(map(_size, tree[1]))
