"""Reading: a picture or a latent, from a file, an array or a PIL image."""

from __future__ import annotations

import hashlib
import sys
from pathlib import Path
from typing import Any, Protocol, TypeGuard

import attrs
import numpy as np
from numpy.typing import NDArray

from .. import moved
from ..errors import ConfigError
from ..image import hidden
from ..io import files, latents, pictures
from ..values import file_path, host_array

_SLACK = 1e-6  # by which rounding takes floats of 0..1 beyond that


class PILImage(Protocol):
    """`PIL.Image.Image`, of any mode, which is imported only where it is used."""

    @property
    def mode(self) -> str: ...  # noqa: D102

    @property
    def size(self) -> tuple[int, int]: ...  # noqa: D102


ImagesLike = list[Any] | tuple[Any, ...]  # of ImageLike, or of numbers


@moved.keywords()
@attrs.frozen(eq=False)
class Source:
    """An input taken apart: pixels, or a latent.

    Args:
        described: Entry of the record.
        rgb: uint8 or uint16 (H, W, 3), the visible colors spread into what alpha hides; empty for a latent.
        channels: Channels of the picture: 1 gray, 2 gray + alpha, 3 RGB, 4 RGB + alpha.
        alpha: (H, W), or None.
        latent: float32 (1, C, h, w), or None for a picture.
        icc: ICC color profile.
        dpi: Resolution.
        cicp: Code points of a PNG's colors, see `Picture`.
    """

    described: dict[str, Any]
    rgb: NDArray[Any]
    channels: int = attrs.field(default=3, kw_only=True)
    alpha: NDArray[Any] | None = attrs.field(default=None, kw_only=True)
    latent: NDArray[np.float32] | None = attrs.field(default=None, kw_only=True)
    icc: bytes | None = attrs.field(default=None, kw_only=True)
    dpi: tuple[float, float] | None = attrs.field(default=None, kw_only=True)
    cicp: bytes | None = attrs.field(default=None, kw_only=True)

    @classmethod
    def of(cls, image: str | Path | bytes | NDArray[Any] | PILImage | ImagesLike) -> Source:
        """Read a picture or latent file, or take a picture file's bytes, an array or a PIL image.

        Args:
            image: A picture file or its bytes; a PIL image; an array (H, W) or (H, W, 1..4) of uint8, uint16 or floats
                in 0..1; or a latent, as a .npy, .npz or .safetensors file or floats (C, h, w) or (1, C, h, w).

        Raises:
            PidSamplerError: The file cannot be read, or the array is neither.
        """
        if isinstance(image, str | Path):
            path = file_path("image", image)
            is_latent = not pictures.is_picture(path) and latents.is_latent(path)
            described = {"name": path.name.encode(errors="backslashreplace").decode(), "sha256": files.sha256(path)}
            if is_latent:
                return cls._of_latent(latents.read(path), described)
            return cls._of_picture(pictures.read(path), described)
        if isinstance(image, bytes):
            return cls._of_picture(pictures.read(image), {"sha256": hashlib.sha256(image).hexdigest()})
        if _is_pil(image):
            return cls._of_array(pictures.of_image(image))
        if np.ma.is_masked(image):
            raise ConfigError("the image is a masked array: pass its mask as alpha, or image.filled(0)")
        array = host_array("the image", image)
        if latents.is_float(array.dtype):
            if not _is_float_picture(array):
                latent = latents.batched(array)
                return cls._of_latent(latent, {"array_sha256": hashlib.sha256(latent.tobytes()).hexdigest()})
            array = _whole_numbers(array)
        pixels = array[:, :, None] if array.ndim == 2 else array
        if array.dtype not in (np.uint8, np.uint16) or pixels.ndim != 3 or not 1 <= pixels.shape[2] <= 4:
            kind = f"a {type(image).__name__}" if array.dtype == object else f"{array.dtype} of shape {array.shape}"
            raise ConfigError(
                f"the image is {kind}, expected uint8, uint16 or floats of 0..1 of shape (height, width) or (height, "
                "width, 1..4); a PIL image or a picture file's bytes; or for a latent floats (channels, height, width)"
            )
        if 0 in pixels.shape or pixels.shape[0] * pixels.shape[1] > pictures.MAX_PIXELS:
            raise ConfigError(f"the image has shape {array.shape}, expected 1 to {pictures.MAX_PIXELS} pixels")
        return cls._of_array(pictures.Picture(pixels))

    @classmethod
    def _of_array(cls, picture: pictures.Picture) -> Source:
        digest = hashlib.sha256(np.ascontiguousarray(picture.pixels).data).hexdigest()
        return cls._of_picture(picture, {"array_sha256": digest})

    @classmethod
    def _of_latent(cls, latent: NDArray[np.float32], described: dict[str, Any]) -> Source:
        shape = {"latent_shape": list(latent.shape)}
        return cls({**described, **shape}, rgb=np.empty((0, 0, 3), np.uint8), latent=latent)

    @classmethod
    def _of_picture(cls, picture: pictures.Picture, described: dict[str, Any]) -> Source:
        pixels = picture.pixels
        height, width, channels = pixels.shape
        color, alpha = pixels[:, :, : 1 if channels <= 2 else 3], pixels[:, :, -1] if channels in (2, 4) else None
        return cls(
            {**described, "width": width, "height": height},
            rgb=np.broadcast_to(color if alpha is None else hidden.spread(color, alpha), (height, width, 3)),
            channels=channels,
            alpha=alpha,
            icc=picture.icc,
            dpi=picture.dpi,
            cicp=picture.cicp,
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


ImageLike = str | Path | bytes | NDArray[Any] | PILImage | Source


def several(image: object) -> TypeGuard[list[Any]]:
    """Return whether it is a list or tuple of images, and not one image as lists of numbers."""
    return isinstance(image, list | tuple) and all(map(_is_image, image))


def read(image: ImageLike | ImagesLike) -> Source:
    """Return an input taken apart; one that is so already as it is.

    Raises:
        PidSamplerError: As `Source.of`.
    """
    return image if isinstance(image, Source) else Source.of(image)


def _is_image(thing: object) -> bool:
    return isinstance(thing, str | Path | bytes | Source) or _is_pil(thing) or getattr(thing, "ndim", 0) >= 2


def _is_pil(thing: object) -> bool:
    return "PIL.Image" in sys.modules and isinstance(thing, sys.modules["PIL.Image"].Image)


def _is_float_picture(array: NDArray[Any]) -> bool:
    """Return whether floats are a picture (H, W) or (H, W, 1..4) of 0..1, as scikit-image has them; if not, a latent.

    A latent (C, h, w) has values below 0 too, unless it is all zeros, and is hardly 4 wide and twice as high.

    Raises:
        PidSamplerError: They may be either, or have two axes, as only a picture has, and go beyond 0..1.
    """
    if array.ndim not in (2, 3) or 0 in array.shape or (array.ndim == 3 and array.shape[2] > 4):
        return False
    low, high = float(array.min()), float(array.max())
    within = -_SLACK <= low <= high <= 1.0 + _SLACK
    if array.ndim == 2 and not within:
        raise ConfigError(
            f"the image is {array.dtype} of shape {array.shape} with values in {low:.4g}..{high:.4g}, expected 0..1: "
            "divide it by its white, or np.clip(image, 0, 1)"
        )
    if array.ndim == 3 and within and array.shape[1] < 2 * array.shape[2]:
        if high == 0.0:
            return False
        height, width, channels = array.shape
        raise ConfigError(
            f"floats of shape {array.shape} in 0..1 may be a picture of {width}x{height} or a latent of {height} "
            f"channels: pass the picture as uint8, or the latent as (1, {height}, {width}, {channels})"
        )
    return within


def _whole_numbers(array: NDArray[Any]) -> NDArray[Any]:
    """Return floats of 0..1 as uint8 if they were that, so that the result is the same, and as uint16 if not."""
    values = np.clip(array.astype(np.float64), 0.0, 1.0)
    eight = np.rint(values * 255.0)
    if np.abs(values * 255.0 - eight).max() < 255.0 * _SLACK:
        return eight.astype(np.uint8)
    return np.rint(values * 65535.0).astype(np.uint16)
