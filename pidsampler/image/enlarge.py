"""Enlarging a tensor by bicubic interpolation: what a run may begin from. On the host, once a picture."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..values import array, whole


def enlarge(x: NDArray[Any], scale: int) -> NDArray[np.float32]:
    """Return a float32 tensor (B, C, H, W) as (B, C, scale*H, scale*W), by Pillow's bicubic filter.

    Raises:
        PidSamplerError: x is no such tensor, or the scale is below 1.
    """
    from PIL import Image

    scale = whole("scale", scale, low=1, high=64)
    if not isinstance(array("x", x), np.ndarray) or x.dtype != np.float32 or x.ndim != 4 or 0 in x.shape:
        raise ConfigError(
            f"x is {x.dtype} of shape {tuple(x.shape)}, expected float32 (batch, channels, height, width)"
        )
    batch, channels, height, width = x.shape
    large = np.empty((batch, channels, height * scale, width * scale), np.float32)
    for small, plane in zip(x.reshape(-1, height, width), large.reshape(-1, *large.shape[2:]), strict=True):
        plane[:] = Image.fromarray(small).resize((width * scale, height * scale), Image.Resampling.BICUBIC)
    return large
