"""Post-processing: color, resize, despeckle."""

from __future__ import annotations

from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from .. import moved
from ..backends import Backend
from ..image import color, lanczos, pixels, size
from ..image.size import Size
from ..values import field, flag, instance, number, word
from .source import Source


@moved.keywords()
@attrs.frozen
class Finish:
    """Post-processing of a result, in this order: color, size, specks.

    Args:
        color: "match", "adain" or "off", see `image.color`; None is the model's own: "match" where its manifest says
            that its colors drift. A latent has no colors to go by.
        color_strength: Share of the correction, 0..1, that is made.
        size: Less than the model's own size, by one reduction; None is the model's.
        despeckle: Levels of 255 by which an isolated pixel stands out that is taken for a speck, see
            `image.despeckle`; None leaves all in place.

    Raises:
        PidSamplerError: A value is not as described.
    """

    color: str | None = field(word, choices=color.METHODS, default=None, optional=True)
    color_strength: float = field(number, low=0, high=1, default=1.0)
    size: Size | None = field(instance, kind=Size, words="a Size", default=None, optional=True, kw_only=True)
    despeckle: float | None = field(number, low=0, default=None, optional=True, kw_only=True)

    def method(self, source: Source, drifts: bool) -> str:
        """Return how the colors of a result are corrected.

        Args:
            source: Input of the result.
            drifts: Whether the model's colors are known to drift.

        Raises:
            PidSamplerError: The source or `drifts` is of a wrong kind.
        """
        if instance("source", source, kind=Source, words="a Source").latent is not None:
            return "off"
        flag("drifts", drifts)
        return self.color or ("match" if drifts else "off")

    def described(self, source: Source, drifts: bool) -> dict[str, Any]:
        """Return what the record says, as plain JSON data.

        Args:
            source: Input of the result.
            drifts: Whether the model's colors are known to drift.
        """
        method = self.method(source, drifts)
        return {
            "color": method,
            "color_strength": self.color_strength if method != "off" else None,
            "size": None if self.size is None else str(self.size),
            "despeckle": self.despeckle,
        }


def finished(
    x: Any,
    source: Source,
    *,
    finish: Finish,
    native: tuple[int, int],
    scale: int,
    drifts: bool,
    backend: Backend,
) -> tuple[NDArray[np.uint8], dict[str, Any] | None]:
    """Finish a sampled picture.

    Args:
        x: (1, 3, H, W) on the backend's device; it may change.
        source: What the picture was made from.
        finish: What to do.
        native: (height, width) of the picture, the model's own.
        scale: Pixels of the picture for each of the source, along a side.
        drifts: Whether the model's colors are known to drift.
        backend: Owner of x.

    Returns:
        uint8 (height, width, C) with the source's channels, and the drift of its colors before and after the
        correction, or None for a latent.

    Raises:
        PidSamplerError: x holds NaN or infinity.
    """
    drift = None
    if source.latent is None:
        method = finish.method(source, drifts)
        drift = color.match(x, source.rgb, scale=scale, method=method, strength=finish.color_strength, backend=backend)
    new_size = size.resolve(finish.size, native, native_scale=scale)
    x = lanczos.reduce(x, size=native, new_size=new_size, backend=backend)
    return source.like(pixels.to_image(x, size=new_size, despeckle=finish.despeckle, backend=backend)), drift
