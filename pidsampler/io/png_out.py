"""PNG files made (Portable Network Graphics 3, W3C 2025): a few rows at a time, on all cores.

Of all that follows the network, to write a PNG takes longest. Pillow does it on one core, and tries five filters for
each row. Here all rows get Paeth's (section 9.4), which is the one that it takes for nearly every row of a photograph,
and zlib compresses bands of rows on their own, each ended on a byte as Z_SYNC_FLUSH does it (RFC 1951). The bands are
the same on all machines.

zlib's Z_RLE looks for runs only. An enlarged photograph of 1024x1024 becomes 1.01 MB, by level 6 and its longer search
1.00 MB in eight times the time. A drawing of lines grows by a seventh over level 1.
"""

from __future__ import annotations

import struct
import zlib
from typing import IO

import numpy as np
from numpy.typing import NDArray

from .. import threads
from .png import SIGNATURE, chunk

Pixels = NDArray[np.uint8]

_BAND = 1 << 17  # bytes of the rows that are compressed together
_AT_ONCE = 64  # bands that are in memory

RECORD = b"pidsampler\0\0\0\0\0"  # a text chunk's beginning: its name, not compressed, in no language

_COLOR_TYPES = {1: 0, 2: 4, 3: 2, 4: 6}  # by channels
_PAETH = 4
_ADLER = 65521


def write(
    file: IO[bytes],
    pixels: Pixels,
    *,
    text: str,
    icc: bytes | None = None,
    dpi: tuple[float, float] | None = None,
    cicp: bytes | None = None,
) -> None:
    """Write a PNG.

    Args:
        file: Where it goes; nothing is read from it.
        pixels: uint8 (H, W, C): gray, gray + alpha, RGB or RGB + alpha for C = 1, 2, 3, 4.
        text: Text of the keyword "pidsampler", before the pixels.
        icc: ICC color profile.
        dpi: Resolution (horizontal, vertical) in dots per inch, below 50 million.
        cicp: Code points of cICP.
    """
    height, width, channels = pixels.shape
    header = struct.pack(">IIBBBBB", width, height, 8, _COLOR_TYPES[channels], 0, 0, 0)
    parts = [SIGNATURE, chunk(b"IHDR", header)]
    if cicp is not None:
        parts.append(chunk(b"cICP", cicp))
    if icc is not None:
        parts.append(chunk(b"iCCP", b"ICC Profile\0\0" + zlib.compress(icc)))
    if dpi is not None:
        parts.append(chunk(b"pHYs", struct.pack(">IIB", *(round(n / 0.0254) for n in dpi), 1)))  # a meter
    parts.append(chunk(b"iTXt", RECORD + text.encode()))
    file.write(b"".join(parts))
    rows = max(1, _BAND // (width * channels))
    tops, sums = range(0, height, rows), (1, 0)

    def compressed(top: int) -> tuple[bytes, int, int]:
        """Return a band's chunk, the checksum of what it holds (Adler-32, RFC 1950), and how many bytes that is."""
        filtered = _filtered(pixels, top, min(top + rows, height))
        packer = zlib.compressobj(1, zlib.DEFLATED, -zlib.MAX_WBITS, zlib.DEF_MEM_LEVEL, zlib.Z_RLE)
        body = b"" if top else b"\x78\x01"  # the stream's beginning: deflate, a window of 32 KiB, fast
        body += packer.compress(filtered.data) + packer.flush(zlib.Z_SYNC_FLUSH)
        return chunk(b"IDAT", body), zlib.adler32(filtered.data), filtered.size

    for k in range(0, len(tops), _AT_ONCE):
        for made, checksum, size in threads.map(compressed, tops[k : k + _AT_ONCE]):
            file.write(made)
            low, high = checksum & 0xFFFF, checksum >> 16  # the sum of the bytes and 1, and the sum of such sums
            sums = (sums[0] + low - 1) % _ADLER, (sums[1] + high + size * (sums[0] - 1)) % _ADLER
    end = b"\x03\0" + struct.pack(">HH", sums[1], sums[0])  # an empty block, which is the last
    file.write(chunk(b"IDAT", end) + chunk(b"IEND", b""))


def _filtered(pixels: Pixels, top: int, bottom: int) -> Pixels:
    """Return rows of a picture less what Paeth's predictor says of each byte, each behind the filter's number.

    Of the bytes to the left (a), above (b), and above that one (c), it is the one nearest to a + b - c; a before b
    before c. Their distances are |b - c|, |a - c|, and |(a - c) + (b - c)|: the sum of the two where a and b lie on
    one side of c, which is then never nearest, and otherwise their difference.
    """
    _, width, channels = pixels.shape
    line = width * channels
    padded = np.zeros((bottom - top + 1, channels + line), np.uint8)  # left of the picture and above it is 0
    first = max(0, top - 1)
    padded[first - bottom :, channels:] = pixels[first:bottom].reshape(bottom - first, line)
    a, b, c = padded[1:, :-channels], padded[:-1, channels:], padded[:-1, :-channels]
    of_a, of_b = _distance(b, c), _distance(a, c)
    of_c = _distance(of_a, of_b)
    takes_a = of_a <= of_b
    takes_c = (a > c) != (b > c)
    takes_c &= of_c < of_a
    takes_c &= of_c < of_b
    guess = np.bitwise_xor(a, b, out=of_c)
    guess &= np.negative(takes_a.view(np.uint8), out=of_a)  # all bits or none: quicker than to choose by bool
    guess ^= b
    swap = np.bitwise_xor(guess, c, out=of_b)
    swap &= np.negative(takes_c.view(np.uint8), out=of_a)
    guess ^= swap
    result = np.empty((bottom - top, 1 + line), np.uint8)
    result[:, 0] = _PAETH
    np.subtract(padded[1:, channels:], guess, out=result[:, 1:])
    return result


def _distance(p: Pixels, q: Pixels) -> Pixels:
    distance: Pixels = np.maximum(p, q)
    distance -= np.minimum(p, q)
    return distance
