"""PyTorch's noise, against numbers that PyTorch made (parity/torch_noise.py)."""

import hashlib
import json
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pidsampler import PidSamplerError
from pidsampler.noise import torch

floats = st.floats(width=32, min_value=-(2.0**40), max_value=2.0**40)


@pytest.mark.parametrize("k", range(6))
def test_bit_for_bit(repository, k):
    cases = json.loads((repository / "tests" / "parity" / "torch_noise.json").read_text())["cases"]
    assert len(cases) == 6
    case = cases[k]
    for draw, expected in enumerate(case["draws"]):
        found = torch.normal(case["seed"], draw, case["shape"])
        assert found.dtype == np.float32
        assert found.shape == tuple(case["shape"])
        data = found.astype("<f4").tobytes()
        assert (data.hex() if len(data) < 2000 else hashlib.sha256(data).hexdigest()) == expected


@given(floats, floats, floats)
@example(a=1.0, b=1.0 + 2.0**-23, c=2.0**-24 + 2.0**-47)
@example(a=1.0 + 2.0**-23, b=1.0 - 2.0**-24, c=-(2.0**-90))
@example(a=1.0 + 2.0**-12, b=1.0 + 2.0**-12, c=2.0**-80)  # half way between two float32, and a little more
@example(a=1.0 + 2.0**-12, b=1.0 + 2.0**-12, c=-(2.0**-80))  # and a little less
@example(a=-1.0 - 2.0**-12, b=1.0 + 2.0**-12, c=-(2.0**-80))
def test_a_fused_multiply_add_rounds_once(a, b, c):
    """The nearest float32 of the exact a*b + c, and of two as near the even one."""
    found = torch._fma(np.array([a], np.float32), b, c)[0]
    exact = Fraction(a) * Fraction(b) + Fraction(c)
    around = [np.nextafter(found, np.float32(-np.inf)), found, np.nextafter(found, np.float32(np.inf))]
    distances = [abs(Fraction(float(v)) - exact) for v in around]
    assert distances[1] == min(distances)
    if distances.count(min(distances)) == 2:
        assert found.view(np.uint32) % 2 == 0


def test_a_large_tensor_crosses_blocks_alike():
    """Values do not depend on how many are made at a time: a prefix of whole groups is the same."""
    large = torch.normal(3, 0, (16 * 5000,))
    assert np.array_equal(torch.normal(3, 0, (16 * 4000,)), large[: 16 * 4000])
    assert abs(large.mean()) < 5 / math.sqrt(large.size)
    assert abs(large.var() - 1) < 5 * math.sqrt(2 / large.size)


def test_no_values():
    assert torch.normal(0, 3, (0, 4)).shape == (0, 4)


@pytest.mark.parametrize(("seed", "draw"), [(-1, 0), (2**64, 0), (0, -1), (0.5, 0), (0, 2**32)])
def test_bad_numbers(seed, draw):
    with pytest.raises(PidSamplerError, match="must be a whole number in 0"):
        torch.normal(seed, draw, (3, 4, 4))
