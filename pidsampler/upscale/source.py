"""Reading: a picture or a latent, from a file or an array."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from .. import moved
from ..errors import ConfigError, FileError, reason
from ..io import files, latents, pictures
from ..values import file_path


@moved.keywords()
@attrs.frozen(eq=False)
class Source:
    """An input taken apart: pixels, or a latent.

    Args:
        described: Entry of the record.
        rgb: uint8 or uint16 (H, W, 3); empty for a latent.
        channels: Channels of the picture: 1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha.
        alpha: (H, W), or None.
        latent: float32 (1, C, h, w), or None for a picture.
        icc: ICC color profile.
        dpi: Resolution.
    """

    described: dict[str, Any]
    rgb: NDArray[Any]
    channels: int = attrs.field(default=3, kw_only=True)
    alpha: NDArray[Any] | None = attrs.field(default=None, kw_only=True)
    latent: NDArray[np.float32] | None = attrs.field(default=None, kw_only=True)
    icc: bytes | None = attrs.field(default=None, kw_only=True)
    dpi: tuple[float, float] | None = attrs.field(default=None, kw_only=True)

    @classmethod
    def of(cls, image: str | Path | NDArray[Any]) -> Source:
        """Read a picture or latent file, or take an array; see `Upscaler.__call__`.

        Raises:
            PidSamplerError: The file cannot be read, or the array is neither.
        """
        if isinstance(image, str | Path):
            path = file_path("image", image)
            described = {"name": path.name, "sha256": _sha256(path)}
            if path.suffix.lower() in latents.SUFFIXES:
                return cls._of_latent(latents.read(path), described)
            return cls._of_picture(pictures.read(path), described)
        array = np.asarray(image)
        if array.dtype.kind == "f":
            return cls._of_latent(latents.batched(array), {})
        pixels = array[:, :, None] if array.ndim == 2 else array
        if array.dtype not in (np.uint8, np.uint16) or pixels.ndim != 3 or not 1 <= pixels.shape[2] <= 4:
            raise ConfigError(
                f"the image is {array.dtype} of shape {array.shape}, expected uint8 or uint16 of shape (height, "
                "width) or (height, width, 1..4), or floats (channels, height, width) for a latent"
            )
        if 0 in pixels.shape or pixels.shape[0] * pixels.shape[1] > pictures.MAX_PIXELS:
            raise ConfigError(f"the image has shape {array.shape}, expected 1 to {pictures.MAX_PIXELS} pixels")
        return cls._of_picture(pictures.Picture(pixels), {})

    @classmethod
    def _of_latent(cls, latent: NDArray[np.float32], described: dict[str, Any]) -> Source:
        shape = {"latent_shape": list(latent.shape)}
        return cls({**described, **shape}, rgb=np.empty((0, 0, 3), np.uint8), latent=latent)

    @classmethod
    def _of_picture(cls, picture: pictures.Picture, described: dict[str, Any]) -> Source:
        pixels = picture.pixels
        height, width, channels = pixels.shape
        color = pixels[:, :, : 1 if channels <= 2 else 3]
        return cls(
            {**described, "width": width, "height": height},
            rgb=np.broadcast_to(color, (height, width, 3)),
            channels=channels,
            alpha=pixels[:, :, -1] if channels in (2, 4) else None,
            icc=picture.icc,
            dpi=picture.dpi,
        )

    def like(self, rgb: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """Return a result with this source's channels: gray stays gray, and alpha is enlarged and put back."""
        color = rgb
        if self.channels <= 2:
            color = np.rint(rgb.mean(axis=2, keepdims=True)).astype(np.uint8)
        if self.alpha is None:
            return color
        alpha = pictures.enlarge_plane(self.alpha, rgb.shape[:2])
        return np.concatenate([color, alpha[:, :, None]], axis=2)


ImageLike = str | Path | NDArray[Any] | Source


def read(image: ImageLike) -> Source:
    """Return an input taken apart; one that is so already as it is.

    Raises:
        PidSamplerError: As `Source.of`.
    """
    return image if isinstance(image, Source) else Source.of(image)


def _sha256(path: Path) -> str:
    try:
        with files.opened(path) as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"cannot read {path}: {reason(error)}") from error
