"""What a file holds, told from its first bytes and not from its name."""

from __future__ import annotations

from . import jpeg, png, tiff_pages

HEAD = 64  # bytes that tell

_OTHERS = {
    b"%!PS": "PostScript",
    b"\xc5\xd0\xd3\xc6": "PostScript",
    b"%PDF": "a PDF",
    b"GIF8": "a GIF",
    b"BM": "a BMP",
    b"8BPS": "a Photoshop document",
    b"\xff\x0a": "JPEG XL",
    b"\0\0\0\x0cJXL ": "JPEG XL",
    b"\0\0\0\x0cjP  ": "JPEG 2000",
    b"\xff\x4f\xff\x51": "JPEG 2000",
    b"v/1\x01": "OpenEXR",
    b"#?RADIANCE": "a Radiance HDR picture",
    b"\x93NUMPY": "a NumPy array: a latent's name ends with .npy",
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


def other(head: bytes) -> str | None:
    """Return in words what else a file holds, if that is known."""
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        return "AVIF" if brand in (b"avif", b"avis") else "HEIF" if brand[:3] in (b"hei", b"mif", b"hev") else "a video"
    return next((words for start, words in _OTHERS.items() if head.startswith(start)), None)
