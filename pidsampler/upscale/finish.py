"""What happens to a sampled picture before it is written: colours, size, specks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import Backend
from ..image import color, despeckle, lanczos, pixels, size
from ..image.size import Size
from .source import Source


@dataclass(frozen=True)
class Finish:
    """How a result is finished, in this order.

    Args:
        color: "match", "adain" or "off", see `colour`; None is the model's own: "match" where its manifest says that
            its colours drift. A latent has no colours to go by.
        color_strength: 0..1, the share of the correction that is made.
        size: Less than the model's own size, by one reduction; None is the model's.
        despeckle: Levels of 255 by which an isolated pixel stands out that is taken for a speck, see
            `image.despeckle`; None leaves all in place.

    Raises:
        PidSamplerError: One is not as described.
    """

    color: str | None = None
    color_strength: float = 1.0
    size: Size | None = None
    despeckle: float | None = None

    def __post_init__(self) -> None:
        color.check_method(self.color or "off", self.color_strength)
        despeckle.threshold(self.despeckle, size=(1, 1))

    def method(self, source: Source, drifts: bool) -> str:
        """Return how the colours of a result are corrected.

        Args:
            source: Of the result.
            drifts: Whether the model's colours do.
        """
        if source.latent is not None:
            return "off"
        return self.color or ("match" if drifts else "off")

    def described(self, source: Source, drifts: bool) -> dict[str, Any]:
        """Return what the record says, as plain JSON data."""
        method = self.method(source, drifts)
        return {
            "color": method,
            "color_strength": float(self.color_strength) if method != "off" else None,
            "size": None if self.size is None else str(self.size),
            "despeckle": None if self.despeckle is None else float(self.despeckle),
        }


def finished(
    x: Any, source: Source, native: tuple[int, int], scale: int, method: str, finish: Finish, backend: Backend
) -> tuple[NDArray[np.uint8], dict[str, Any] | None]:
    """Finish a sampled picture.

    Args:
        x: (1, 3, H, W) on the backend's device; it may change.
        source: Of the picture.
        native: Its (height, width) within x.
        scale: Pixels of the result for each of the source.
        method: Of `Finish.method`.
        finish: See `Finish`.
        backend: Of x.

    Returns:
        uint8 (height, width, C) with the source's channels, and the drift of its colours before and after the
        correction, or None for a latent.

    Raises:
        PidSamplerError: x holds NaN or infinity.
    """
    drift = None
    if source.latent is None:
        drift = color.match(x, source.rgb, scale=scale, method=method, strength=finish.color_strength, backend=backend)
    new_size = size.resolve(finish.size, native, scale)
    x = lanczos.reduce(x, size=native, new_size=new_size, backend=backend)
    return source.like(pixels.to_image(x, size=new_size, despeckle=finish.despeckle, backend=backend)), drift
