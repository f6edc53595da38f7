"""What EXIF says of a picture beside its pixels: whether it lies on its side, and whether its colors are Adobe RGB."""

from __future__ import annotations

from typing import Any

from . import profiles

_ORIENTATION, _EXIF, _INTEROPERABILITY = 0x112, 0x8769, 0xA005  # a tag, and two directories
_COLOR_SPACE, _INDEX = 0xA001, 1  # tags in these
_ADOBE, _UNCALIBRATED = 2, 0xFFFF  # the first is no standard's, but some cameras write it


def orientation(image: Any) -> int:
    """Return 1..8, how a `PIL.Image.Image` is to be turned and mirrored, by its EXIF or XMP; 1 is not at all."""
    try:
        value = image.getexif().get(_ORIENTATION)
    except Exception:  # a damaged EXIF block is no damaged picture
        return 1
    return value if isinstance(value, int) and 1 <= value <= 8 else 1


def is_on_its_side(image: Any) -> bool:
    """Return whether what a `PIL.Image.Image` stores as a row is a column to see."""
    return orientation(image) >= 5


def profile(image: Any) -> bytes | None:
    """Return the profile of Adobe RGB if EXIF says that a `PIL.Image.Image` has these colors (DCF 2.0), or None.

    Cameras have no other way to say it: a color space that is not calibrated, with the interoperability index R03.
    """
    try:
        exif = image.getexif()
        space = exif.get_ifd(_EXIF).get(_COLOR_SPACE)
        index = str(exif.get_ifd(_INTEROPERABILITY).get(_INDEX, "")).strip("\0 ")
    except Exception:
        return None
    is_adobe = space == _ADOBE or (space in (None, _UNCALIBRATED) and index == "R03")
    return profiles.adobe_rgb() if is_adobe else None
