"""Specks taken out of a picture: what is isolated, and stands out by more than a threshold.

In each channel, a value that stands out above both its brim and its runs by more than the threshold becomes the higher
of the two, and one below them likewise; compared is x as it was, clamped. The brim is the highest of the outermost
pixels of the 9x9 around (Bright and Steel 1987). The runs are the straight ones of 5 pixels, across, down and aslant,
that the pixel is in: of each the lowest, of those the highest, an opening by lines (Soille and Talbot 2001).

So spots up to 4 pixels wide go, peaks of larger ones are flattened, and edges, lines and things of 5 pixels stay. What
lies outside the picture is neither brim nor run; a picture under 8x8 pixels has too little of either and stays.

On a GPU it is a part of the launch that makes the picture, see `pixels.to_image`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, ModelError
from ..values import number
from .host import NOT_FINITE, Tile, each, quiet

Array = NDArray[Any]

DESPECKLE = 16.0  # a good threshold, in levels of 255

_BRIM = 4  # pixels from a speck to its brim, and one less than a run; kernels/image.cu has it too
_TILE = 64, 256  # rows and columns; the brim's rows and columns around it are read too


def threshold(despeckle: float | None, *, size: tuple[int, int]) -> float | None:
    """Return a `despeckle` of `pixels.to_image` in x's units; None where a picture is to stay as it is.

    Args:
        despeckle: Levels of 255 from 0, such as `DESPECKLE`, or None.
        size: (height, width) of the picture.

    Raises:
        PidSamplerError: `despeckle` is no finite number of at least 0.
    """
    if despeckle is None:
        return None
    try:
        levels = number("despeckle", despeckle, low=0.0)
    except ConfigError as error:
        text = f"despeckle={despeckle!r} is not a number of levels from 0 to 255, such as {DESPECKLE}"
        raise ConfigError(text) from error
    return levels / 127.5 if max(size) >= 2 * _BRIM else None


@quiet
def despeckled(x: Array, *, size: tuple[int, int], step: float) -> NDArray[np.uint8]:
    """Return the picture in the top left of x without its specks.

    Args:
        x: (1, 3, H, W) in about -1..1 on the host; it does not change.
        size: (height, width) of the picture.
        step: Threshold in x's units.

    Returns:
        uint8 (height, width, 3), clamped and rounded.

    Raises:
        PidSamplerError: The picture holds NaN or infinity.
    """
    height, width = size
    image = np.empty((height, width, 3), np.uint8)
    limit = x.dtype.type(step)
    rows, columns = _TILE

    @quiet
    def work(tile: Tile) -> None:
        down, across = tile
        # The tile with its surroundings. What lies outside the picture is NaN: minimum and maximum keep it, so that it
        # ends runs, and fmax and fmin pass over it.
        outer = np.full(
            (3, down.stop - down.start + 2 * _BRIM, across.stop - across.start + 2 * _BRIM), np.nan, x.dtype
        )
        top, left = max(0, down.start - _BRIM), max(0, across.start - _BRIM)
        bottom, right = min(height, down.stop + _BRIM), min(width, across.stop + _BRIM)
        y, z = top - down.start + _BRIM, left - across.start + _BRIM
        inside = outer[:, y : y + bottom - top, z : z + right - left]
        np.copyto(inside, x[0, :, top:bottom, left:right])
        v = outer[:, _BRIM:-_BRIM, _BRIM:-_BRIM]
        if not np.isfinite(v).all():
            raise ModelError(NOT_FINITE)
        np.clip(inside, -1.0, 1.0, out=inside)
        high, low = _standing(outer, np.fmax, np.minimum), _standing(outer, np.fmin, np.maximum)
        above, below = v > high + limit, v < low - limit
        np.copyto(v, high, where=above)
        np.copyto(v, low, where=below)
        v *= 127.5
        v += 127.5
        image[down, across] = np.rint(v, out=v).transpose(1, 2, 0)

    each(
        work,
        [
            (slice(y, min(y + rows, height)), slice(x, min(x + columns, width)))
            for y in range(0, height, rows)
            for x in range(0, width, columns)
        ],
    )
    return image


def _standing(outer: Array, pick: Any, drop: Any) -> Array:
    """Return what each value must stand out above for pick fmax and drop minimum; below, for fmin and maximum.

    (C, h + 2 _BRIM, w + 2 _BRIM) -> (C, h, w).
    """
    inner = slice(_BRIM, -_BRIM)
    found = _brim(outer, pick)
    for v, dy, dx in ((outer[:, inner], 0, 1), (outer[:, :, inner], 1, 0), (outer, 1, 1)):
        pick(found, _line(_line(v, dy, dx, drop), dy, dx, pick), out=found)
    mirrored = outer[:, :, ::-1]
    return pick(found, _line(_line(mirrored, 1, 1, drop), 1, 1, pick)[:, :, ::-1], out=found)  # type: ignore[no-any-return]


def _line(v: Array, dy: int, dx: int, pick: Any) -> Array:
    """Return the pick of each pixel and the next _BRIM in direction (dy, dx), by doubling: 1, 2, 4 and one more."""

    def ahead(a: Array, b: Array, n: int) -> Array:
        h, w = b.shape[1] - n * dy, b.shape[2] - n * dx
        return pick(a[:, :h, :w], b[:, n * dy :, n * dx :])  # type: ignore[no-any-return]

    two = ahead(v, v, 1)
    return ahead(ahead(two, two, 2), v, _BRIM)


def _brim(outer: Array, pick: Any) -> Array:
    """Return the pick of the outermost pixels of the square around each pixel."""
    across, down = _line(outer, 0, 1, pick), _line(outer, 1, 0, pick)
    across, down = pick(across[:, :, :-_BRIM], across[:, :, _BRIM:]), pick(down[:, :-_BRIM], down[:, _BRIM:])
    brim: Array = pick(across[:, : -2 * _BRIM], across[:, 2 * _BRIM :])
    pick(brim, down[:, :, : -2 * _BRIM], out=brim)
    return pick(brim, down[:, :, 2 * _BRIM :], out=brim)  # type: ignore[no-any-return]
