"""Pillow's images, of any mode, as pixels."""

from __future__ import annotations

import io
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError
from . import exif, profiles

# Pillow's names of what the orientations 2 to 8 ask for.
_WAYS = ["FLIP_LEFT_RIGHT", "ROTATE_180", "FLIP_TOP_BOTTOM", "TRANSPOSE", "ROTATE_270", "TRANSVERSE", "ROTATE_90"]
_GRAY = ("1", "L", "LA", "La", "I;16", "I;16B", "I;16L", "I;16N")
_ALIKE = {"1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB"}


def upright(image: Any) -> Any:
    """Return a `PIL.Image.Image` turned as its EXIF orientation, or that of its XMP, says.

    Raises:
        Exception: Any of a decoder. Orientation that cannot be read is none.
    """
    from PIL.Image import Transpose

    image.load()
    turned = exif.orientation(image)
    # Not by ImageOps.exif_transpose, which writes all of EXIF anew: that may fail, or take long.
    return image if turned == 1 else image.transpose(Transpose[_WAYS[turned - 2]])


def pixels_of(image: Any, icc: bytes | None) -> tuple[NDArray[Any], bytes | None]:
    """Return pixels (H, W, C) of uint8 or uint16, and the profile if it still describes them.

    Args:
        image: An upright `PIL.Image.Image`.
        icc: Profile of its numbers.

    Raises:
        PidSamplerError: The mode does not say what is white.
    """
    if image.mode in ("CMYK", "LAB"):
        return np.array(_to_rgb(image, icc)), None
    if image.mode in ("YCbCr", "HSV"):  # other ways to write RGB
        image = image.convert("RGB")
    mode, key = image.mode, image.info.get("transparency")
    if mode == "P":  # a gray palette may become RGB here; its colors are the same
        mode, key = ("RGBA" if key is not None else image.palette.mode), None
    mode = _ALIKE.get(mode, mode)
    if mode.startswith("I;16"):
        pixels = np.asarray(image).astype(np.uint16)
    elif mode in ("L", "LA", "RGB", "RGBA"):
        pixels = np.array(image if image.mode == mode else image.convert(mode))
    else:
        raise FileError(
            f"has pixels of type {image.mode!r}, which does not say what is white: convert it to 8 or 16 bits per "
            "channel, or pass an array of uint8, uint16 or floats of 0..1"
        )
    pixels = pixels[:, :, None] if pixels.ndim == 2 else pixels
    return (with_key(pixels, np.ravel(key)) if key is not None else pixels), icc


def profile_of(image: Any) -> bytes | None:
    """Return the profile of a `PIL.Image.Image`, or one of PNG's gamma and chromaticities, or of EXIF's colors."""
    icc, info = image.info.get("icc_profile"), image.info
    if icc or "srgb" in info:
        return icc or None
    try:
        named = profiles.of_gamma(info.get("gamma"), info.get("chromaticity"), gray=image.mode in _GRAY)
    except (TypeError, ValueError):  # anything may be in there
        named = None
    return named if image.format == "PNG" else named or exif.profile(image)  # a PNG's EXIF does not count for colors


def with_key(pixels: NDArray[Any], key: Any) -> NDArray[Any]:
    """Return gray or RGB with alpha: 0 where all channels are those of the key; pixels that have alpha as they are."""
    if len(key) != pixels.shape[2] or not np.issubdtype(np.asarray(key).dtype, np.integer):
        return pixels
    shown = (pixels != key).any(axis=2, keepdims=True)
    return np.concatenate([pixels, shown * pixels.dtype.type(np.iinfo(pixels.dtype).max)], axis=2)


def inks_to_rgb(inks: NDArray[Any], icc: bytes | None) -> NDArray[np.uint8]:
    """Return sRGB (H, W, 3) of cyan, magenta, yellow and black (H, W, 4), 0 for none; uint8 or uint16."""
    from PIL import Image

    eight = inks if inks.dtype == np.uint8 else (inks >> 8).astype(np.uint8)
    return np.array(_to_rgb(Image.frombytes("CMYK", eight.shape[1::-1], np.ascontiguousarray(eight).tobytes()), icc))


def _to_rgb(image: Any, icc: bytes | None) -> Any:
    """Convert to sRGB, through the picture's own profile where it has a good one."""
    from PIL import ImageCms

    if icc is not None or image.mode == "LAB":
        try:
            source = ImageCms.createProfile("LAB") if icc is None else ImageCms.ImageCmsProfile(io.BytesIO(icc))
            target, exact = ImageCms.createProfile("sRGB"), ImageCms.Flags.NOOPTIMIZE
            converted = ImageCms.profileToProfile(image, source, target, outputMode="RGB", flags=exact)
        except (ImageCms.PyCMSError, OSError):
            pass  # a broken profile, or one of another color space: the plain conversion is what is left
        else:
            return converted
    return image.convert("RGB")
