"""Colors that alpha hides, replaced by the visible ones around them.

Files keep any color under alpha 0, often black or white. A network sees it beside the visible edge, where it bleeds in.

A hidden pixel becomes blur(rgb * a) / blur(a), a normalized convolution (Knutsson and Westin 1993). The blur is a sum
of ever wider ones, each of a quarter of the weight: the nearest colors count most, and no pixel is too far from all.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..values import array

_SHARE = 0.25  # weight of a blur twice as wide


def spread(color: NDArray[Any], alpha: NDArray[Any]) -> NDArray[Any]:
    """Return colors whose hidden pixels have those of the visible ones around them.

    A pixel is hidden where alpha is 0 of 255. All others are left as they are, bit for bit; so is the whole picture
    where none is hidden, or all are.

    Args:
        color: uint8 or uint16 (H, W, C).
        alpha: (H, W), of the same element type.

    Raises:
        PidSamplerError: An argument is not as described.
    """
    if array("color", color).ndim != 3 or array("alpha", alpha).shape != color.shape[:2]:
        raise ConfigError(f"color has shape {color.shape}, alpha {alpha.shape}: expected (H, W, C) and (H, W)")
    if color.dtype != alpha.dtype or color.dtype not in (np.uint8, np.uint16):
        raise ConfigError(f"color is {color.dtype}, alpha {alpha.dtype}: expected uint8 or uint16, both alike")
    hidden = alpha <= (0 if alpha.dtype == np.uint8 else 128)  # of 65535, what rounds to 0 of 255
    if not hidden.any() or hidden.all():
        return color
    weight = _enlarged(_blurred(alpha.astype(np.float32)), alpha.shape)
    result = color.copy()
    for c in range(color.shape[2]):
        spread_color = _enlarged(_blurred(color[:, :, c] * alpha.astype(np.float32)), alpha.shape) / weight
        np.copyto(result[:, :, c], np.rint(spread_color).astype(color.dtype), where=hidden)
    return result


def _blurred(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the sum of blurs of a plane, at half its size."""
    levels = [_halved(plane)]
    while max(levels[-1].shape) > 1:
        levels.append(_halved(levels[-1]))
    total = levels.pop()
    for level in reversed(levels):
        total = level + np.float32(_SHARE) * _enlarged(total, level.shape)
    return total


def _halved(plane: NDArray[np.float32]) -> NDArray[np.float32]:
    from PIL import Image

    height, width = (-(-n // 2) for n in plane.shape)
    return np.asarray(Image.fromarray(plane).resize((width, height), Image.Resampling.BOX))


def _enlarged(plane: NDArray[np.float32], shape: Sequence[int]) -> NDArray[np.float32]:
    from PIL import Image

    return np.asarray(Image.fromarray(plane).resize((shape[1], shape[0]), Image.Resampling.BILINEAR))
