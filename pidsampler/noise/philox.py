"""Gaussian noise as a pure function of (seed, draw, position): Philox4x32-10 and Box-Muller.

Element i of one image, counted flat over (C, H, W), comes from the counter (q low, q high, draw, stream) with
q = i // 4 under the key (seed low, seed high). So a value depends on nothing else: not on device, batch, tile,
chunk or launch shape. Draw 0 is the initial noise and draw k the k-th re-noise; stream 0 is the sampler's,
stream 1 the latent degradation's.

Sources: Salmon et al., "Parallel random numbers: as easy as 1, 2, 3" (SC11) for Philox; Box-Muller in cuRAND's
convention: u = r*2^-32 + 2^-33, v = (r'*2^-32 + 2^-33)*2*pi, s = sqrt(-2 ln u), pair (s*sin v, s*cos v).

The formula is worked out in float32, by products, sums and roots that every machine rounds alike: so one seed gives one
set of bits on every CPU, whether numpy or the compiled library makes them.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
from numpy.typing import NDArray

from .. import native
from ..errors import ConfigError
from ..moved import keywords
from ..values import instance, items, whole, word
from ..values import shape as shape_

SAMPLER = 0
"""The stream of the sampler's noise."""

DEGRADE = 1
"""The stream of the noise that is added to a latent, see `degrade_sigma`."""

_MULTIPLIERS = np.uint64(0xD2511F53), np.uint64(0xCD9E8D57)
_WEYL = 0x9E3779B9, 0xBB67AE85
_LOW, _32 = np.uint64(0xFFFFFFFF), np.uint64(32)
_MOST_IMAGES = 1_000_000  # of a batch
_MOST_START = (1 << 62) - 1  # whose counter, a fourth of it, and what follows fit 64 bits

# All that follows in float32 and 32 bits: kernels/noise.cuh and kernels/host.c have the same operations in this order.
_TO_UNIT, _HALF, _TO_EIGHTHS, _ONE = (np.float32(v) for v in (2.0**-32, 2.0**-33, 2.0**-31, 1.0))
_EIGHTH, _QUARTER, _SIGN = np.uint32(1 << 29), np.uint32(1 << 30), np.uint32(1 << 31)  # of a turn
_TWO_THIRDS, _EXPONENT = np.uint32(0x3F2AAAAB), np.uint32(0xFF800000)  # bits of float32
_LN_2 = np.float32(-1.65259166e-7)  # -2 ln 2 * 2^-23
# -2 ln(1 + f) / f, relative to the logarithm within 2.1e-8; sine and cosine of pi/4 * t over t and t^2, within 3e-8.
_MINUS_2_LN = tuple(
    np.float32(c)
    for c in (
        *(-0.299724579, 0.306788713, -0.275270224, 0.328606695, -0.400579661),
        *(0.500129998, -0.666655481, 0.999999464, -2.0),
    )
)
_SINE = tuple(np.float32(c) for c in (-3.63177714e-5, 0.002490649, -0.0807457417, 0.785398185))
_COSINE = tuple(np.float32(c) for c in (3.49398124e-6, -0.000325868634, 0.0158542842, -0.308425128, 1.0))
_CHUNK = 1 << 13  # counters at a time: the arrays, 64 KiB and less, of a chunk stay in the second-level cache


def normal(seed: int, draw: int, shape: Sequence[int], stream: int = SAMPLER) -> NDArray[np.float32]:
    """Return standard normal noise for one image.

    Args:
        seed: Seed, 0..2^64-1.
        draw: Number of the draw, 0..2^32-1; 0 is the initial noise, k the k-th re-noise.
        shape: Shape of one image, (C, H, W), without a batch axis. Any shape is accepted.
        stream: Number of the stream, 0..2^32-1: 0 for the sampler, 1 for the latent degradation.

    Returns:
        float32 array of `shape`, within 4 ulp or 1e-6 of the exact value, whichever is larger.

    Raises:
        PidSamplerError: A number is outside its range.
    """
    out = np.empty(shape_("shape", shape, low=0), np.float32)
    fill(out.reshape(-1), seed, draw=draw, stream=stream)
    return out


@keywords()
def fill(out: NDArray[np.floating], seed: int, *, draw: int, stream: int = SAMPLER, start: int = 0) -> None:
    """Write the noise of flat positions start..start+len(out)-1 of one image into `out`, a 1-D array.

    Args:
        out: float32 or float64 (n,), which is written.
        seed: Seed of the image, 64 bits.
        draw: Number of the draw, 32 bits.
        stream: Number of the stream, 32 bits.
        start: First flat position.

    Raises:
        PidSamplerError: A number is outside its range, see `normal`.
    """
    instance("out", out, kind=np.ndarray, words="an array")
    seed, start = check_number("seed", seed, bits=64), whole("start", start, low=0, high=_MOST_START)
    draw, stream = check_number("draw", draw, bits=32), check_number("stream", stream, bits=32)
    library = native.built()
    if library is not None and library.fill(out, seed, draw=draw, stream=stream, start=start):
        return
    stop = start + len(out)
    first, last = start // 4, -(-stop // 4)
    block = np.empty((min(_CHUNK, last - first), 4), np.float32)
    for q in range(first, last, _CHUNK):
        count = min(_CHUNK, last - q)
        _box_muller(_philox(q, count, seed, draw, stream), block[:count])
        lo, hi = max(start, 4 * q), min(stop, 4 * (q + count))
        out[lo - start : hi - start] = block.reshape(-1)[lo - 4 * q : hi - 4 * q]


def check_seeds(seed: int | Sequence[int], batch: int) -> tuple[int, ...]:
    """Return one seed for each image of a batch: a list as it is, a single seed s as s, s+1, s+2, ...

    Raises:
        PidSamplerError: The list has another length than the batch, or a seed is outside 0..2^64-1.
    """
    batch = whole("batch", batch, low=1, high=_MOST_IMAGES)
    if isinstance(seed, Iterable):
        seeds = items("seed", seed, words="whole numbers")
    else:
        seeds = tuple(whole("seed", seed) + i for i in range(batch))
    if len(seeds) != batch:
        raise ConfigError(f"{len(seeds)} seeds for a batch of {batch}: pass one for each image, or a single one")
    return tuple(check_number("seed", value, bits=64) for value in seeds)


@keywords()
def check_number(name: str, value: int, *, bits: int) -> int:
    """Return a whole number of so many bits.

    Args:
        name: What an error calls the number.
        value: Number to check.
        bits: Most bits that it may have.

    Raises:
        PidSamplerError: The value is no whole number, or has more bits.
    """
    return whole(word("name", name), value, low=0, high=(1 << whole("bits", bits, low=1, high=64)) - 1)


def _philox(q: int, count: int, seed: int, draw: int, stream: int) -> tuple[NDArray[np.uint64], ...]:
    """Return the four output words of the counters q..q+count-1, each word in the low half of a uint64."""
    c0 = np.arange(q, q + count, dtype=np.uint64)
    c1 = c0 >> _32
    c0 &= _LOW
    c2 = np.full(count, draw, np.uint64)
    c3 = np.full(count, stream, np.uint64)
    product0, product1 = np.empty_like(c0), np.empty_like(c0)
    key0, key1 = seed & 0xFFFFFFFF, seed >> 32
    for _ in range(10):
        np.multiply(c0, _MULTIPLIERS[0], out=product0)
        np.multiply(c2, _MULTIPLIERS[1], out=product1)
        np.right_shift(product1, _32, out=c0)
        c0 ^= c1
        c0 ^= np.uint64(key0)
        np.right_shift(product0, _32, out=c2)
        c2 ^= c3
        c2 ^= np.uint64(key1)
        np.bitwise_and(product1, _LOW, out=c1)
        np.bitwise_and(product0, _LOW, out=c3)
        key0, key1 = (key0 + _WEYL[0]) & 0xFFFFFFFF, (key1 + _WEYL[1]) & 0xFFFFFFFF
    return c0, c1, c2, c3


def _box_muller(words: tuple[NDArray[np.uint64], ...], out: NDArray[np.float32]) -> None:
    """Write the normals of four words a counter into `out`, (count, 4)."""
    for j in (0, 2):
        radius = _radius(words[j].astype(np.uint32))
        sine, cosine = _sine_and_cosine(words[j + 1].astype(np.uint32))
        np.multiply(radius, sine, out=out[:, j])
        np.multiply(radius, cosine, out=out[:, j + 1])


def _radius(r: NDArray[np.uint32]) -> NDArray[np.float32]:
    """Return sqrt(-2 ln u), u = (r + 1/2) * 2^-32 = 2^e * (1 + f), f in -1/3..1/3; the operations of `pid_radius`.

    float32 cannot hold u near 1. There, from 2/3 on, e is 0, and f = u - 1 is made from the complement of r.
    """
    f = r.astype(np.float32)
    f *= _TO_UNIT
    f += _HALF
    bits = f.view(np.uint32)
    exponent = bits - _TWO_THIRDS
    exponent &= _EXPONENT  # e * 2^23
    bits -= exponent
    f -= _ONE
    below_1 = np.invert(r, out=r).astype(np.float32)
    below_1 *= -_TO_UNIT
    below_1 -= _HALF
    np.copyto(f, below_1, where=exponent == 0)
    square = exponent.view(np.int32).astype(np.float32)
    square *= _LN_2
    p = _polynomial(_MINUS_2_LN, f, out=below_1)
    p *= f
    square += p
    return np.sqrt(square, out=square)


def _sine_and_cosine(r: NDArray[np.uint32]) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return those of 2*pi*(r + 1/2) * 2^-32, polynomials of what is left of the nearest quarter turn."""
    quarters = r + _EIGHTH  # in the upper two bits
    r <<= np.uint32(2)
    r |= np.uint32(2)
    t = r.view(np.int32).astype(np.float32)
    t *= _TO_EIGHTHS
    t2 = t * t
    sine = _polynomial(_SINE, t2, out=np.empty_like(t))
    sine *= t
    cosine = _polynomial(_COSINE, t2, out=t)
    sines, cosines = sine.view(np.uint32), cosine.view(np.uint32)
    swap = sines ^ cosines
    swap &= ((quarters << np.uint32(1)).view(np.int32) >> np.int32(31)).view(np.uint32)  # all bits of the odd quarters
    sines ^= swap
    cosines ^= swap
    sines ^= quarters & _SIGN
    quarters += _QUARTER
    quarters &= _SIGN
    cosines ^= quarters
    return sine, cosine


def _polynomial(
    coefficients: Sequence[np.float32], x: NDArray[np.float32], out: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Horner's scheme, from the highest power on."""
    np.multiply(x, coefficients[0], out=out)
    for c in coefficients[1:-1]:
        out += c
        out *= x
    out += coefficients[-1]
    return out
