"""What a file holds, told from its first bytes and not from its name."""

from __future__ import annotations

from collections.abc import Mapping

from . import jpeg, png, tiff_pages

HEAD = 64  # bytes that tell
NUMPY = b"\x93NUMPY"

_PICTURES = {  # that are not read
    b"GIF8": "GIF",
    b"8BPS": "Photoshop",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "Radiance HDR",
}
_OTHERS = {
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"%PDF": "a PDF",
    NUMPY: "a NumPy array",
    b"PK\3\4": "a ZIP archive",
    b"<svg": "SVG",
    b"<?xml": "XML",
    b"<!DOCTYPE": "a web page",
    b"<html": "a web page",
    b"version https://git-lfs": "a pointer of Git LFS, not the file: git lfs pull",
}


def picture_format(head: bytes) -> str | None:
    """Return Pillow's name of the format of a picture that is read: PNG, JPEG, WEBP or TIFF; or None."""
    if head.startswith(png.SIGNATURE):
        return "PNG"
    if head.startswith(jpeg.SIGNATURE):
        return "JPEG"
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "WEBP"
    return "TIFF" if head.startswith(tiff_pages.SIGNATURES) else None


def latent_suffix(head: bytes) -> str | None:
    """Return the ending of files of a latent that begin so, .npy, .npz or .safetensors; or None."""
    if head.startswith(NUMPY):
        return ".npy"
    if head.startswith(b"PK\3\4"):  # of other archives too: what the first file in it is called tells
        return ".npz" if b".npy" in head[30:] else None
    return ".safetensors" if head[8:10] in (b'{"', b"{ ", b"{}") and head[5:8] == bytes(3) else None


def unread_format(head: bytes) -> str | None:
    """Return the name of the format of a picture that is not read, such as GIF or HEIF; or None."""
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return "AVIF" if brand in (b"avif", b"avis") else "HEIF" if brand[:3] in (b"hei", b"mif", b"hev") else None
    if head[:2] == b"BM" and head[6:10] == bytes(4):  # reserved bytes, which no text has
        return "BMP"
    return _first(_PICTURES, head)


def other(head: bytes) -> str | None:
    """Return in words what a file holds that is no picture of ours, if that is known."""
    name = unread_format(head)
    return _first(_OTHERS, head) if name is None else f"a picture in {name}"


def _first(names: Mapping[bytes, str], head: bytes) -> str | None:
    return next((name for start, name in names.items() if head.startswith(start)), None)
