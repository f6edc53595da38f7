"""Sine and cosine by arithmetic alone: ONNX Runtime 1.26.0 has no CUDA kernel of opset 22's Sin and Cos.

Source: reduction by 2 pi in two parts, Cody and Waite, "Software Manual for the Elementary Functions" (1980). The
polynomial is our own: a least-squares fit of sin(r) / (r (pi^2 - r^2)) at the Chebyshev nodes of r^2 in 0..pi^2, whose
zeros at 0 and at pi are exact.
"""

from __future__ import annotations

import numpy as np

from .build import FLOAT, Graph, Value

_TURN = (6.283203125, -1.7817820413768004e-05)  # 2 pi: of 12 bits, so that a product of 12 more is exact, and the rest
_POLYNOMIAL = (
    0.1013211833467105,
    -0.006620879521816543,
    0.00017350505792063586,
    -2.5222923601371027e-06,
    2.3317790063465836e-08,
    -1.3291346186059306e-10,
)


def sine(g: Graph, angles: Value, *, quarters: int = 0) -> Value:
    """Add sin(angles + quarters*pi/2), in float32.

    It is at most 3e-7 off for angles of -1000..1000.

    Args:
        g: The graph.
        angles: In radians, float32.
        quarters: Quarters of a turn: 0 for the sine, 1 for the cosine.
    """

    def of(op: str, value: Value, number: float) -> Value:
        return g(op, value, g.constant(number, FLOAT))

    phase = quarters / 4
    turns = of("Sub", g("Floor", of("Add", of("Mul", angles, 0.5 / np.pi), phase + 0.5)), phase)
    rest = angles
    for part in _TURN:
        rest = g("Sub", rest, of("Mul", turns, part))
    square = g("Mul", rest, rest)
    *lower, sum_ = _POLYNOMIAL
    value = g.constant(sum_, FLOAT)
    for coefficient in reversed(lower):
        value = of("Add", g("Mul", value, square), coefficient)
    return g("Mul", g("Mul", rest, g("Sub", g.constant(np.pi**2, FLOAT), square)), value)
