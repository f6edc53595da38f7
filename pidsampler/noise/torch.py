"""PyTorch's CPU noise without PyTorch: what `torch.manual_seed(seed); torch.randn(shape)` gives, bit for bit.

Draw k is the k-th such call after the seed, counted from 0. So a seed of a diffusers or ComfyUI run on the CPU (both
draw the initial noise there by default) gives the same noise here. ComfyUI begins again with seed + 1 for re-noise:

    def comfyui(seed, draw, shape):
        return torch_noise.normal(seed + 1, draw - 1, shape) if draw else torch_noise.normal(seed, 0, shape)

Sources: PyTorch, ATen/native/cpu/DistributionTemplates.h (normal_fill_AVX2: x86 with AVX2 or later; other processors
differ in the last bits); Matsumoto and Nishimura 1998 for MT19937; the float32 logarithm, sine and cosine are those of
the Cephes library (S. Moshier), evaluated with the fused multiply-adds that PyTorch's builds have.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import native
from ..values import shape as shape_
from .philox import check_number

F32 = NDArray[np.float32]

_ROWS = 1 << 12  # groups of 16 values at a time, which stay in the second-level cache

_LOG = (7.0376836292e-2, -1.1514610310e-1, 1.1676998740e-1, -1.2420140846e-1, 1.4249322787e-1,
        -1.6668057665e-1, 2.0000714765e-1, -2.4999993993e-1, 3.3333331174e-1)  # fmt: skip
_SIN = (-1.9515295891e-4, 8.3321608736e-3, -1.6666654611e-1)
_COS = (2.443315711809948e-5, -1.388731625493765e-3, 4.166664568298827e-2)
_LN2 = 0.693359375, -2.12194440e-4  # in two parts, as is pi/4
_PI_4 = 0.78515625, 2.4187564849853515625e-4, 3.77489497744594108e-8


def normal(seed: int, draw: int, shape: Sequence[int]) -> F32:
    """Return the standard normal noise that PyTorch's CPU generator gives for the (draw + 1)-th randn(shape).

    Args:
        seed: Seed, 0..2^64-1; PyTorch's generator takes the lower 32 bits.
        draw: How many tensors of this shape were drawn before, 0..2^32-1.
        shape: Shape of the tensor. PyTorch fills a batch that is drawn at once in one go: give its shape with the batch
            axis to get the same.

    Raises:
        PidSamplerError: A number is outside its range.
    """
    seed, draw = check_number("seed", seed, bits=64), check_number("draw", draw, bits=32)
    shape = shape_("shape", shape, low=0)
    size = math.prod(shape)
    if size < 16:
        return _few(_words(seed), draw * size, size).reshape(shape)
    # A tensor takes a word a value, and 16 more to fill its end again where 16 does not divide its size.
    skipped = draw * (size + (16 if size % 16 else 0))
    out = np.empty(size, np.float32)
    library = native.built()
    if library is not None and library.torch(out, skipped=skipped, seed=seed & 0xFFFFFFFF):
        return out.reshape(shape)
    words = _words(seed)
    words.random_raw(skipped, output=False)
    whole = out[: size // 16 * 16].reshape(-1, 16)
    for block in np.array_split(whole, range(_ROWS, len(whole), _ROWS)):
        _box_muller(_uniform(words, block.size), block)
    if size % 16:
        _uniform(words, size % 16)
        _box_muller(_uniform(words, 16), out[-16:].reshape(1, 16))
    return out.reshape(shape)


def _words(seed: int) -> np.random.MT19937:
    words = np.random.MT19937()
    seeded: Any = np.random.RandomState(seed & 0xFFFFFFFF).get_state(legacy=False)  # as in 1998
    words.state = seeded
    return words


def _few(words: np.random.MT19937, start: int, size: int) -> F32:
    """Tensors of fewer than 16 values: pairs in float64, which run on from tensor to tensor."""
    pairs = []
    for _ in range((start + size + 1) // 2):
        high, low, high2, low2 = (int(word) for word in words.random_raw(4))
        u, v = (((h << 32 | lo) & (1 << 53) - 1) * 2.0**-53 for h, lo in ((high, low), (high2, low2)))
        r, angle = math.sqrt(-2.0 * math.log1p(-v)), 2.0 * math.pi * u
        pairs += [r * math.cos(angle), r * math.sin(angle)]
    return np.array(pairs[start : start + size], np.float32)


def _uniform(words: np.random.MT19937, count: int) -> F32:
    """Numbers in [0, 1) of 24 bits each."""
    raw = words.random_raw(count) & np.uint64(0xFFFFFF)
    return raw.astype(np.float32) * np.float32(2.0**-24)


def _box_muller(u: F32, out: F32) -> None:
    """Fill rows of 16 normals from 16 uniforms each: eight radii, then eight angles; cosines, then sines."""
    u = u.reshape(-1, 16)
    r = np.sqrt(np.float32(-2) * _log(np.float32(1) - u[:, :8]))
    sine, cosine = _sin_cos(np.float32(2 * math.pi) * u[:, 8:])
    np.multiply(r, cosine, out=out[:, :8])
    np.multiply(r, sine, out=out[:, 8:])


def _log(x: F32) -> F32:
    """Natural logarithm of x in (0, 1]."""
    x, exponent = np.frexp(x)
    below = x < np.float32(0.707106781186547524)
    e = exponent.astype(np.float32) - below
    x = np.where(below, (x - np.float32(1)) + x, x - np.float32(1))
    z = x * x
    y = _fma(_polynomial(_LOG, x) * x, z, e * np.float32(_LN2[1]))
    return _fma(e, _LN2[0], x + _fma(z, -0.5, y))


def _sin_cos(x: F32) -> tuple[F32, F32]:
    """Sine and cosine of x >= 0."""
    octant = (x * np.float32(4 / math.pi)).astype(np.int32)
    octant = octant + 1 & ~1
    for part in _PI_4:
        x = _fma(octant.astype(np.float32), -part, x)
    z = x * x
    cosine = _fma(_polynomial(_COS, z) * z, z, z * np.float32(-0.5)) + np.float32(1)
    sine = _fma(_polynomial(_SIN, z) * z, x, x)
    swapped = (octant & 2) != 0
    sine, cosine = np.where(swapped, cosine, sine), np.where(swapped, sine, cosine)
    return np.where(octant & 4, -sine, sine), np.where(octant + 2 & 4, -cosine, cosine)


def _polynomial(coefficients: Sequence[float], x: F32) -> F32:
    value = np.full_like(x, coefficients[0])
    for c in coefficients[1:]:
        value = _fma(value, x, c)
    return value


def _fma(a: F32 | float, b: F32 | float, c: F32 | float) -> F32:
    """a*b + c of float32 numbers, rounded once.

    The product is exact in float64 and the sum is rounded to it. Where that lands in the middle of two float32
    numbers, what it lost says which of them is nearer.
    """
    c = np.asarray(c, np.float32)
    product = np.multiply(np.asarray(a, np.float32), np.asarray(b, np.float32), dtype=np.float64)
    total = product + c
    middle = (total.view(np.uint64) & np.uint64(0x1FFFFFFF)) == np.uint64(0x10000000)
    p, s = product[middle], total[middle]
    added = s - p
    lost = (p - (s - added)) + (np.broadcast_to(c, total.shape)[middle] - added)
    total[middle] = np.where(lost == 0.0, s, np.nextafter(s, np.copysign(np.inf, lost)))
    rounded: F32 = total.astype(np.float32)
    return rounded
