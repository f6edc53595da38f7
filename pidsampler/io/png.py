"""PNG files (Portable Network Graphics 3, W3C 2025) taken apart: what Pillow reads wrongly, or refuses, it never sees.

Colors are named by the first of the chunks cICP, iCCP, sRGB, and gAMA with cHRM (section 4.3, table 1). The numbers
stay as they are, and what names them is kept: cICP itself, and a profile, of the file or made of gAMA and cHRM.
"""

from __future__ import annotations

import io
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError
from . import profiles
from .modes import upright, with_key

SIGNATURE = b"\x89PNG\r\n\x1a\n"

_CRITICAL = (b"IHDR", b"PLTE", b"IDAT", b"IEND")
_TEXTS = (b"tEXt", b"zTXt", b"iTXt")
_TURNS = (b"XML:com.adobe.xmp", b"Raw profile type exif")  # texts that may say how the picture is turned
_LONGEST_TEXT = 1 << 25  # of those; Pillow itself refuses a picture for 1 MB that was compressed


@dataclass(frozen=True, kw_only=True)
class Png:
    """A PNG taken apart.

    Args:
        data: What Pillow is to decode: the pixels, how they are turned, and their resolution.
        two_bytes: Whether those pixels are RGBA of 8 bits that stand for gray and alpha of 16.
        key: The color, in 8 or 16 bits as the pixels are, that is transparent.
        icc: Profile; that of the file, or one made of cICP or of gAMA and cHRM.
        cicp: Code points of cICP, where those are not sRGB's.
    """

    data: bytes
    two_bytes: bool
    key: tuple[int, ...] | None
    icc: bytes | None
    cicp: bytes | None

    def finish(self, pixels: NDArray[Any]) -> NDArray[Any]:
        """Return the pixels (H, W, C) that the file holds, from those that Pillow decoded."""
        low = _low_bytes(self.data)
        if self.two_bytes:
            pixels = np.ascontiguousarray(pixels).view(">u2").astype(np.uint16)
        elif low is not None:
            pixels = (pixels.astype(np.uint16) << 8) | low
        return pixels if self.key is None else with_key(pixels, self.key)


def parse(data: bytes) -> Png:
    """Take a PNG apart.

    Raises:
        PidSamplerError: The file holds several frames, too large a profile or no palette, or is of Apple's own kind.
    """
    kept, found, kinds = [SIGNATURE], dict[bytes, bytes](), set[bytes]()
    depth, color_type = data[24:26].ljust(2, b"\0")
    gray, two_bytes = color_type in (0, 4), (depth, color_type) == (16, 4)
    for name, body, whole in _chunks(data):
        if name == b"CgBI":
            raise FileError("is a PNG of Apple's own kind (CgBI), which is not read: convert it to a usual PNG")
        if name == b"IHDR" and two_bytes:  # as many bytes a pixel, so the filters are the same
            whole = chunk(name, body[:8] + b"\x08\x06" + body[10:])
        what = b"\0" + body.partition(b"\0")[0] if name in _TEXTS else name
        if what in kinds and name != b"IDAT":  # there is to be one of each; thousands would take time and memory
            continue
        if name in _CRITICAL or name == b"eXIf" or (name == b"tRNS" and color_type == 3 and body):
            kept.append(whole)
        elif whole == chunk(name, body):  # its checksum is right
            found[name] = body
            kept.append(whole if name == b"pHYs" and len(body) == 9 else _turning_text(name, body))
        else:
            continue
        kinds.add(what)
    if color_type == 3 and not any(part[4:8] == b"PLTE" for part in kept):
        raise FileError("is damaged: its palette is missing")
    frames = int.from_bytes(found.get(b"acTL", b"")[:4], "big")
    if frames > 1:
        raise FileError(f"holds {frames} frames or pages: extract the one to enlarge")
    icc, cicp = _colors(found, gray)
    key = _key(found.get(b"tRNS", b""), depth, color_type)
    return Png(data=b"".join(kept), two_bytes=two_bytes, key=key, icc=icc, cicp=cicp)


def chunk(name: bytes, body: bytes) -> bytes:
    """Return a chunk: length, name, body and checksum."""
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes, bytes]]:
    """Yield each chunk's name, body and all of it; what is damaged is the last one, as it is, for Pillow to judge."""
    at = len(SIGNATURE)
    while at < len(data):
        length, name = int.from_bytes(data[at : at + 4], "big"), data[at + 4 : at + 8]
        end = at + 12 + length
        if end > len(data) or not name.isalpha():
            name, end = (name if name in _CRITICAL else b"IEND"), len(data)
        yield name, data[at + 8 : at + 8 + length], data[at:end]
        if name == b"IEND":
            return
        at = end


def _turning_text(name: bytes, body: bytes) -> bytes:
    """Return the chunk of a text that may say how the picture is turned, not compressed; of any other nothing."""
    keyword, _, rest = body.partition(b"\0")
    if keyword not in _TURNS or name not in _TEXTS:
        return b""
    head, text, compressed = keyword + b"\0", rest, False
    if name == b"zTXt":
        name, text, compressed = b"tEXt", rest[1:], True
    elif name == b"iTXt":
        head, text, compressed = head + bytes(4), rest[2:].split(b"\0", 2)[-1], rest[:1] == b"\1"
    if compressed:
        text, whole = _inflated(text, _LONGEST_TEXT)
        text = text if whole else b""
    return chunk(name, head + text) if len(text) <= _LONGEST_TEXT else b""


def _inflated(packed: bytes, most: int) -> tuple[bytes, bool]:
    """Return the first bytes of what was compressed, at most so many, and whether that is all of it."""
    unpacker = zlib.decompressobj()
    try:
        return unpacker.decompress(packed, most), unpacker.eof
    except zlib.error:
        return b"", False


def _colors(found: dict[bytes, bytes], gray: bool) -> tuple[bytes | None, bytes | None]:
    """Return profile and code points."""
    profile: bytes | None = None
    if b"iCCP" in found:
        packed = found[b"iCCP"].partition(b"\0")[2][1:]
        profile, whole = _inflated(packed, profiles.LARGEST + 1)
        if len(profile) > profiles.LARGEST:
            raise FileError(f"has a color profile of more than {profiles.LARGEST} bytes: remove it")
        if not whole or profiles.space(profile) not in ("RGB ", "GRAY" if gray else "RGB "):
            profile = None
    cicp = found.get(b"cICP", b"")
    if len(cicp) == 4 and cicp[2] == 0 and cicp[3] <= 1:  # RGB is the only model that PNG has
        if cicp == b"\x01\x0d\0\x01":  # sRGB
            return None, None
        return profiles.fitting(profile, gray=gray) or profiles.of_code_points(cicp, gray=gray), cicp
    if profile is not None or b"sRGB" in found:
        return profile, None
    gamma, points = found.get(b"gAMA", b""), found.get(b"cHRM", b"")
    return profiles.of_gamma(
        int.from_bytes(gamma, "big") / 1e5 if len(gamma) == 4 and any(gamma) else None,
        [n / 1e5 for n in struct.unpack(">8I", points)] if len(points) == 32 else None,
        gray=gray,
    ), None


def _key(color: bytes, depth: int, color_type: int) -> tuple[int, ...] | None:
    """Return the transparent color of tRNS, as deep as the pixels that Pillow gives."""
    if len(color) < {0: 2, 2: 6}.get(color_type, len(color) + 1):
        return None
    samples = struct.unpack_from(">H" if color_type == 0 else ">3H", color)
    top = (1 << depth) - 1  # a decoder ignores the bits above
    return tuple((n & top) * (255 // top if depth < 8 else 1) for n in samples)


def _low_bytes(data: bytes) -> NDArray[np.uint8] | None:
    """Return the low bytes of RGB of 16 bits, with alpha or without, upright, or None for any other.

    Pillow keeps only the high byte of such pixels. Its unpacker for the other byte order keeps the other one.
    """
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
        tiles = []
        for tile in image.tile:
            kind = tile.args if isinstance(tile.args, str) else ""
            if kind not in ("RGB;16B", "RGBA;16B"):
                return None
            tiles.append(tile._replace(args=kind[:-1] + "L"))
        if not tiles:
            return None
        image.tile = tiles
        return np.asarray(upright(image))
