"""Bring the colors of an enlarged picture back to those of its input, and say how far they had drifted.

"match" moves the result's low frequencies to the input's, channel by channel, and leaves the detail above them alone:
the difference of block means, input less result, over blocks of 8x8 input pixels, is added as a smooth surface. This is
the split of a Laplacian pyramid (Burt and Adelson 1983) with the input's lowest level in place of the result's, as is
the wavelet color fix of StableSR (Wang et al. 2023), whose low frequencies are those below a blur of 13 result pixels;
a block of 32 result pixels has a standard deviation of 9, and its spline one of 16.

The surface is a quadratic spline of a grid. Its block means are a blur of that grid, by L = (2 + cos u)(2 + cos v)/9
at the frequency (u, v), in radians a block. Two rounds of back-projection (Van Cittert 1931; Irani and Peleg 1991) undo
most of it: of a drift of that frequency 1 - (1 - L)^3 goes. That is all of an even tint, 99.9 % where a wave is 8
blocks long, 96 % at 4 and 70 % at 2, the shortest there is. More rounds bring little but ringing about hard edges.

"adain" gives each channel the input's mean and standard deviation (Huang and Belongie 2017), everywhere alike. A result
has detail that its input has not, so this takes a little of its contrast.

Both work on what the picture shows, x clamped to -1..1.
"""

from __future__ import annotations

from numbers import Real
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import moved
from ..backends import Backend, get_backend
from ..errors import ConfigError
from ..values import array, whole, word
from .blocks import Blocks, block_means, correct, picture_means
from .host import check_pixels

METHODS = ("match", "adain", "off")

BLOCK = 8  # pixels of the input, on each axis
_ROUNDS = 2  # of back-projection
_FLAT = 1.0 / 255.0  # a standard deviation of half a level: below it there is no contrast to scale

# CIE XYZ of linear sRGB (IEC 61966-2-1), each row over that of the D65 white, 2 degrees.
_XYZ = np.array(
    [[0.412453, 0.357580, 0.180423], [0.212671, 0.715160, 0.072169], [0.019334, 0.119193, 0.950227]]
) / np.array([[0.95047], [1.0], [1.08883]])


@moved.keywords()
def match(
    x: Any, source_rgb: NDArray[Any], *, scale: int, method: str, strength: float, backend: str | Backend
) -> dict[str, Any]:
    """Correct the colors of x in place, or with method "off" only measure them.

    "match" and "adain" read the picture once, and then read and write it once; memory is needed for the blocks only.
    With strength 0 nothing is written.

    Args:
        x: The sampled tensor, floating (1, 3, H, W) in about -1..1 on the backend's device. The picture is its top left
            (scale*h, scale*w); what is padded around it stays as it is.
        source_rgb: The input, uint8 or uint16 (h, w, 3) on the host.
        scale: Pixels of the result that one of the input became, on each axis.
        method: "match", "adain" or "off".
        strength: Share, 0..1, of the correction that is made.
        backend: Backend of x.

    Returns:
        The `drift` "before" and, if the method is not "off", "after", as plain JSON data.

    Raises:
        PidSamplerError: An argument is not as described, or the picture holds NaN or infinity.
    """
    check_method(method, strength)
    backend, scale = get_backend(backend), whole("scale", scale)
    array("x", x)
    blocks = _blocks(x, source_rgb, scale)
    powers = 2 if method == "adain" else 1
    wanted, found = (
        picture_means(source_rgb, blocks, powers=powers),
        block_means(x, blocks, powers=powers, backend=backend),
    )
    before = drift(wanted[0], found[0], blocks=blocks)
    if method == "off":
        return {"before": before}
    if strength == 0.0:
        return {"before": before, "after": before}
    if method == "match":
        gain, grid = np.ones(3), strength * _coefficients(wanted[0] - found[0], blocks)
    else:
        gain, offset = _adain(blocks.mean(wanted), blocks.mean(found), strength)
        grid = np.broadcast_to(offset[:, None, None], (3, *blocks.shape))
    after = correct(x, blocks, gain=gain, grid=grid, backend=backend)
    return {"before": before, "after": drift(wanted[0], after, blocks=blocks)}


def check_method(method: str, strength: float) -> None:
    """Check a method's name and its strength.

    Raises:
        PidSamplerError: The name is unknown, or the strength is not a number in 0..1.
    """
    word("color method", method, choices=METHODS)
    if not isinstance(strength, Real) or isinstance(strength, bool) or not 0.0 <= strength <= 1.0:
        raise ConfigError(
            f"color strength {strength!r} is not a number in 0..1: 0 leaves colors as they are, 1 corrects in full"
        )


@moved.keywords()
def drift(source: NDArray[Any], result: NDArray[Any], *, blocks: Blocks) -> dict[str, float]:
    """Return the mean drift of lightness and chroma, result less input, in CIELAB (D65).

    It is taken between block means, which costs nothing beside them. The study's drift-l, -a and -b do so between the
    input's pixels and the result reduced to them.

    Args:
        source: Block means of the input in -1..1, (3, rows, columns).
        result: Those of the result.
        blocks: Over which they were taken.

    Returns:
        "l", above 0 where the result is lighter; "a", above 0 where it is pinker, below where greener; and "b", above 0
        where it is yellower, below where bluer. Rounded to 4 digits behind the point.
    """
    difference = blocks.mean(cielab(result)) - blocks.mean(cielab(source))
    return {name: round(float(value), 4) + 0.0 for name, value in zip("lab", difference, strict=True)}


def cielab(rgb: NDArray[Any]) -> NDArray[np.float64]:
    """Convert sRGB in -1..1, clamped, to CIELAB of the D65 white (CIE 15): (3, ...) -> float64 (3, ...)."""
    v = np.clip(0.5 + 0.5 * rgb.astype(np.float64), 0.0, 1.0)
    linear = np.where(v <= 0.04045, v / 12.92, ((v + 0.055) / 1.055) ** 2.4)
    xyz = np.tensordot(_XYZ, linear, axes=1)
    f = np.where(xyz > (6 / 29) ** 3, np.cbrt(xyz), xyz * (29 / 6) ** 2 / 3 + 4 / 29)
    return np.stack([116.0 * f[1] - 16.0, 500.0 * (f[0] - f[1]), 200.0 * (f[1] - f[2])])


def _blocks(x: Any, source_rgb: NDArray[Any], scale: int) -> Blocks:
    check_pixels("the input", source_rgb)
    height, width, _ = source_rgb.shape
    if scale < 1 or len(x.shape) != 4 or tuple(x.shape[:2]) != (1, 3):
        raise ConfigError(f"x has shape {x.shape} at scale {scale!r}, expected (1, 3, H, W) at 1 or more")
    if x.shape[2] < scale * height or x.shape[3] < scale * width:
        raise ConfigError(
            f"x has shape {x.shape}, smaller than the input's {height}x{width} pixels at scale {scale}: "
            "correct colors before the result is reduced"
        )
    return Blocks.of(height, width, scale=scale, size=BLOCK)


def _coefficients(difference: NDArray[np.float64], blocks: Blocks) -> NDArray[np.float64]:
    """Return the grid whose spline has nearly these block means, (3, rows, columns)."""
    grid = difference
    for _ in range(_ROUNDS):
        means = grid
        for axis, edges in zip((1, 2), blocks.edges(blocks.scale), strict=True):
            # A neighbor's share of a block's mean: that of t*t/2 over the middles of n pixels.
            share = (1.0 / 6.0 - 1.0 / (24.0 * np.diff(edges) ** 2)).reshape(-1, *[1] * (2 - axis))
            ends = np.pad(means, [(1, 1) if k == axis else (0, 0) for k in range(3)], mode="edge")
            n = means.shape[axis]
            around = np.take(ends, range(n), axis) + np.take(ends, range(2, n + 2), axis)
            means = (1.0 - 2.0 * share) * means + share * around
        grid = grid + (difference - means)
    return grid


def _adain(
    wanted: NDArray[np.float64], found: NDArray[np.float64], strength: float
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return gain and offset of each channel, (3,), from means and means of squares, (2, 3)."""
    std, its = (np.sqrt(np.maximum(squares - mean**2, 0.0)) for mean, squares in (wanted, found))
    gain = np.where(its > _FLAT, std / np.maximum(its, _FLAT), 1.0)
    return 1.0 + strength * (gain - 1.0), strength * (wanted[0] - gain * found[0])
