import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pidsampler import PidSamplerError
from pidsampler.noise import philox as noise

pytestmark = pytest.mark.usefixtures("both")

# Random123's known answers for philox4x32 with 10 rounds (its kat_vectors): counter, key, output.
KNOWN = [
    ((0, 0, 0, 0), (0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 4, (0xFFFFFFFF,) * 2, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    (
        (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344),
        (0xA4093822, 0x299F31D0),
        (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1),
    ),
]  # fmt: skip
words32 = st.integers(0, 2**32 - 1)
seeds = st.integers(0, 2**64 - 1)


def philox(counter, key):
    """Philox4x32-10 in plain integers, as the paper has it."""
    c, k = list(counter), list(key)
    for _ in range(10):
        p0, p1 = 0xD2511F53 * c[0], 0xCD9E8D57 * c[2]
        c = [(p1 >> 32) ^ c[1] ^ k[0], p1 & 0xFFFFFFFF, (p0 >> 32) ^ c[3] ^ k[1], p0 & 0xFFFFFFFF]
        k = [(k[0] + 0x9E3779B9) & 0xFFFFFFFF, (k[1] + 0xBB67AE85) & 0xFFFFFFFF]
    return tuple(c)


def plain_normal(seed, draw, stream, i):
    """Element i by the contract's formula in plain Python."""
    q = i // 4
    r = philox((q & 0xFFFFFFFF, q >> 32, draw, stream), (seed & 0xFFFFFFFF, seed >> 32))
    first = i % 4 // 2 * 2
    u = r[first] * 2.0**-32 + 2.0**-33
    v = (r[first + 1] * 2.0**-32 + 2.0**-33) * 2 * math.pi
    s = math.sqrt(-2 * math.log(u))
    return s * (math.cos(v) if i % 2 else math.sin(v))


def allowed(exact):
    """The contract: 4 ulp or 1e-6, whichever is larger."""
    return np.maximum(4 * np.spacing(np.abs(exact).astype(np.float32)), 1e-6)


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_random123_known_answers(counter, key, expected):
    assert philox(counter, key) == expected
    q, seed = counter[0] | counter[1] << 32, key[0] | key[1] << 32
    words = noise._philox(q, 1, seed, counter[2], counter[3])
    assert tuple(int(w[0]) for w in words) == expected


@given(seeds, words32, words32, st.integers(0, 2**62))
def test_words_equal_plain_integers_across_a_carry(seed, draw, stream, q):
    words = noise._philox(q, 3, seed, draw, stream)
    for k in range(3):
        c = q + k
        assert tuple(int(w[k]) for w in words) == philox(
            (c & 0xFFFFFFFF, c >> 32, draw, stream), (seed & 0xFFFFFFFF, seed >> 32)
        )


def test_the_counter_carries_into_its_second_word():
    words = noise._philox(2**32 - 1, 2, 7, 3, 1)
    assert tuple(int(w[1]) for w in words) == philox((0, 1, 3, 1), (7, 0))


@given(seeds, words32, st.integers(0, 1), st.integers(0, 2**34), st.integers(0, 9))
def test_normals_equal_plain_python(seed, draw, stream, start, count):
    found = np.empty(count, np.float32)
    noise.fill(found, seed, draw=draw, stream=stream, start=start)
    expected = np.array([plain_normal(seed, draw, stream, start + i) for i in range(count)])
    assert np.all(np.abs(found - expected) <= allowed(expected))


WORDS = [
    *(0, 1, 2, 2**29 - 1, 2**29, 2**30, 2**31 - 1, 2**31, 2**31 + 1, 3 * 2**30, 2**32 - 2**29, 2**32 - 1),
    *(0xAAAAAAAA + k for k in range(-300, 300, 7)),  # around u = 2/3, where the exponent changes
    *(2**k for k in range(32)),
    *(2**32 - 2**k for k in range(32)),
]


def test_edges_of_radius_and_angle():
    """float32 at the ends of each branch, against float64: each word with each."""
    r = np.array(WORDS, np.uint64)
    first, second = (axis.reshape(-1) for axis in np.meshgrid(r, r))
    out = np.full((first.size, 4), np.nan, np.float32)
    noise._box_muller((first, second, second, first), out)
    for j, (a, b) in ((0, (first, second)), (2, (second, first))):
        s = np.sqrt(-2 * np.log(a * 2.0**-32 + 2.0**-33))
        v = (b * 2.0**-32 + 2.0**-33) * 2 * np.pi
        for k, exact in ((j, s * np.sin(v)), (j + 1, s * np.cos(v))):
            assert np.all(np.abs(out[:, k] - exact) <= allowed(exact))


@given(seeds, st.integers(0, 40_000), st.integers(1, 40_000), st.integers(0, 70_000))
def test_chunks_do_not_matter(seed, start, size, longer):
    whole = noise.normal(seed, 3, (start + size + longer,))
    part = np.full(size, np.nan, np.float32)
    noise.fill(part, seed, draw=3, start=start)
    assert np.array_equal(part, whole[start : start + size])


def test_shape_is_only_a_view_of_flat_positions():
    assert np.array_equal(noise.normal(5, 0, (3, 7, 11)).reshape(-1), noise.normal(5, 0, (231,)))
    assert noise.normal(5, 0, (3, 0, 11)).shape == (3, 0, 11)
    assert noise.normal(5, 0, (2,)).dtype == np.float32


def test_seed_draw_and_stream_each_change_everything():
    base = noise.normal(1, 2, (1000,), stream=0)
    others = [noise.normal(2, 2, (1000,)), noise.normal(1, 3, (1000,)), noise.normal(1, 2, (1000,), stream=1)]
    others.append(noise.normal(1 + 2**32, 2, (1000,)))
    for other in others:
        assert abs(np.corrcoef(base, other)[0, 1]) < 0.15
        assert not np.any(base == other)


def test_law():
    """10^6 values: moments within 5 standard errors, and the far tail is there."""
    x = noise.normal(2026, 0, (1_000_000,)).astype(np.float64)
    n = x.size
    assert abs(x.mean()) < 5 / math.sqrt(n)
    assert abs(x.var() - 1) < 5 * math.sqrt(2 / n)
    assert abs((x**3).mean()) < 5 * math.sqrt(15 / n)
    assert abs((x**4).mean() - 3) < 5 * math.sqrt(96 / n)
    assert abs(np.mean(x[:-1] * x[1:])) < 5 / math.sqrt(n)
    assert 4.5 < np.abs(x).max() < 6.7
    within = np.mean(np.abs(x) < 1)
    assert within == pytest.approx(math.erf(1 / math.sqrt(2)), abs=5 * 0.5 / math.sqrt(n))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((-1, 0, (2,)), r"seed=-1 must be a whole number in 0\.\.2\^64-1"),
        ((2**64, 0, (2,)), "seed=18446744073709551616"),
        ((1.5, 0, (2,)), "seed=1.5"),
        ((True, 0, (2,)), "seed=True"),
        ((0, -1, (2,)), "draw=-1"),
        ((0, 2**32, (2,)), r"draw=4294967296 must be a whole number in 0\.\.2\^32-1"),
        ((0, 0, (2,), -1), "stream=-1"),
    ],
)
def test_refuses(arguments, message):
    with pytest.raises(PidSamplerError, match=message):
        noise.normal(*arguments)


def test_seeds_of_a_batch():
    assert noise.check_seeds(7, 3) == (7, 8, 9)
    assert noise.check_seeds(np.int64(7), 1) == (7,)
    assert noise.check_seeds([3, 1], 2) == (3, 1)
    with pytest.raises(PidSamplerError, match="2 seeds for a batch of 3"):
        noise.check_seeds([1, 2], 3)
    with pytest.raises(PidSamplerError, match="seed=-1"):
        noise.check_seeds([1, -1], 2)
