"""TIFF's samples of 1 to 16 bits (TIFF 6.0): gray, palettes, RGB and CMYK, chunky or in planes, in strips or tiles.

Pillow reads some of these wrongly: planes, 16 bits whose 0 is white, gray with alpha, palettes of 8-bit colors. Here it
only unpacks bytes.
"""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError
from .tiff_pages import Page, pages, picture_page

_WIDTH, _HEIGHT, _BITS, _COMPRESSION, _PHOTOMETRIC, _FILL_ORDER = 256, 257, 258, 259, 262, 266
_STRIPS, _ORIENTATION, _SAMPLES, _ROWS, _STRIP_BYTES = 273, 274, 277, 278, 279
_X_RESOLUTION, _Y_RESOLUTION, _PLANAR, _UNIT, _PREDICTOR = 282, 283, 284, 296, 317
_TILE_WIDTH, _TILE_HEIGHT, _TILES, _TILE_BYTES, _INK_SET, _EXTRA, _FORMAT, _ICC = (
    322,
    323,
    324,
    325,
    332,
    338,
    339,
    34675,
)
_COLOR_MAP, _YCC_WEIGHTS, _YCC_SUBSAMPLING, _YCC_RANGE, _DEPTH = 320, 529, 530, 532, 32997

_WHITE_IS_ZERO, _BLACK_IS_ZERO, _RGB, _PALETTE, _CMYK, _YCC = 0, 1, 2, 3, 5, 6
_COLORS = {_WHITE_IS_ZERO: 1, _BLACK_IS_ZERO: 1, _RGB: 3, _PALETTE: 1, _CMYK: 4}  # samples of each
_ASSOCIATED, _ALPHAS = 1, (1, 2, 999)  # of ExtraSamples; the last is Corel Draw's
_LOSSLESS = (1, 5, 8, 32773, 32946, 34925, 50000)  # none, LZW, deflate, PackBits, deflate, LZMA, Zstandard
_PREDICTED = (5, 8, 32946, 34925, 50000)
_PACK_BITS = 32773
_ON_ITS_SIDE = (5, 6, 7, 8)
_READ = (*_LOSSLESS, 2, 3, 4, 6, 7, 32771, 32809, 34676, 34677)  # what libtiff in Pillow's wheels unpacks beside them

_CONVERT = "convert it to 8 or 16 bits, gray or RGB"
_REPACK = "save it with LZW or deflate, or without compression"
_MOST_SAMPLES = 16  # a pixel
_LONGEST_TILE = 1 << 20  # on a side
_BAND = 1 << 25  # bytes that are unpacked at once
_REVERSED = np.packbits(np.unpackbits(np.arange(256, dtype=np.uint8)[:, None], axis=1)[:, ::-1], axis=1)[:, 0]


@dataclass(frozen=True, kw_only=True)
class Tiff:
    """A TIFF's picture.

    Args:
        page: Which page it is.
        samples: uint8 or uint16 (H, W, C), upright: gray, RGB, or 4 inks, each with or without alpha; None where
            Pillow reads the page as it should.
        inks: Whether the samples are cyan, magenta, yellow and black.
        icc: Profile.
        dpi: Resolution (horizontal, vertical) in dots per inch.
        refusal: What a message says where Pillow does not know the page.
    """

    page: int
    samples: NDArray[Any] | None
    inks: bool
    icc: bytes | None
    dpi: tuple[Any, Any] | None
    refusal: str


def read(data: bytes, *, most: int, page: int | None = None) -> Tiff:
    """Read a TIFF's picture.

    Args:
        data: The file.
        most: Pixels that are accepted.
        page: Which one is the picture; None for the only one that is no reduced copy.

    Raises:
        PidSamplerError: The file is damaged, holds several pages, or samples of a kind that is not read.
    """
    found = pages(data)
    index = picture_page(found) if page is None else page
    tags, layout = found[index], _Layout.of(found[index])
    if layout.width * layout.height > most:
        raise FileError(f"is {layout.width}x{layout.height}: at most {most} pixels are accepted")
    samples = upright(_samples(layout), tags.number(_ORIENTATION, 1)) if layout.is_plain() else None
    icc, inks = tags.raw(_ICC) or None, layout.photometric == _CMYK
    return Tiff(page=index, samples=samples, inks=inks, icc=icc, dpi=_dpi(tags), refusal=layout.refusal)


def upright(pixels: NDArray[Any], orientation: int) -> NDArray[Any]:
    """Return pixels (H, W, C) turned and mirrored as the tag Orientation, 1..8, asks for."""
    if orientation in _ON_ITS_SIDE:
        pixels = pixels.swapaxes(0, 1)
    down, right = {2: (1, -1), 3: (-1, -1), 4: (-1, 1), 6: (1, -1), 7: (-1, -1), 8: (-1, 1)}.get(orientation, (1, 1))
    return np.ascontiguousarray(pixels[::down, ::right])


@dataclass(frozen=True)
class _Layout:
    """How a page's samples lie in the file: `count` a pixel, of so many bits each, the first of them colors."""

    page: Page
    width: int
    height: int
    count: int
    bits: tuple[int, ...]
    photometric: int
    planes: bool

    @classmethod
    def of(cls, page: Page) -> _Layout:
        width, height = page.number(_WIDTH, 0), page.number(_HEIGHT, 0)
        count, bits = page.number(_SAMPLES, 1), page.numbers(_BITS, (1,))
        if not all(isinstance(n, int) and n > 0 for n in (width, height, count)):
            raise FileError("is damaged: it does not say its size")
        if (depth := page.number(_DEPTH, 1)) != 1:
            raise FileError(f"holds a volume of {depth} slices: extract the one to enlarge")
        if count > _MOST_SAMPLES:
            raise FileError(f"has {count} samples a pixel, of which at most {_MOST_SAMPLES} are read: {_CONVERT}")
        bits = bits * count if len(bits) == 1 else bits[:count]
        photometric = page.number(_PHOTOMETRIC, _RGB if count >= 3 else _BLACK_IS_ZERO)
        return cls(page, width, height, count, bits, photometric, page.number(_PLANAR, 1) == 2 and count > 1)

    @property
    def colors(self) -> int:
        return _COLORS.get(self.photometric, 0)

    @property
    def alpha(self) -> tuple[int | None, bool]:
        """Which sample is alpha, and whether the colors are multiplied by it."""
        if self.count == self.colors + 1 and _EXTRA not in self.page:
            return self.colors, False
        extra = self.page.numbers(_EXTRA)[: self.count - self.colors]
        return next(((self.colors + k, n == _ASSOCIATED) for k, n in enumerate(extra) if n in _ALPHAS), (None, False))

    @property
    def refusal(self) -> str:
        """What a message says of it, by the numbers of TIFF's tags."""
        compression = self.page.number(_COMPRESSION, 1)
        return (
            f"has {self.count} x {self.bits[0]} bits a pixel{' in planes' * self.planes}, color space "
            f"{self.photometric} and compression {compression}, which is not read: "
            f"{_CONVERT if compression in _READ else _REPACK}"
        )

    def is_plain(self) -> bool:
        """Return whether the samples are read here; if not, Pillow does.

        Raises:
            PidSamplerError: Neither can.
        """
        number, bits = self.page.number, set(self.bits)
        kind = max({k for k in self.page.numbers(_FORMAT) if k != 4} | {1})  # 4 is "undefined"
        if kind != 1:
            named = {2: "signed", 3: "floating-point"}.get(kind, "complex")
            raise FileError(f"has {named} samples, whose black and white are not known: {_CONVERT}")
        if len(bits) != 1 or not bits <= {1, 2, 4, 8, 16}:
            raise FileError(f"has samples of {'/'.join(map(str, self.bits))} bits: {_CONVERT}")
        compression, predictor = number(_COMPRESSION, 1), number(_PREDICTOR, 1)
        deep = bits <= ({8} if self.photometric == _PALETTE else {8, 16}) or (bits <= {1, 2, 4} and self.count == 1)
        plain = deep and 0 < self.colors <= self.count and compression in _LOSSLESS
        usual = (1, 2) if compression in _PREDICTED and bits <= {8, 16} else (1,)
        if plain and predictor not in usual and compression in (*_PREDICTED, _PACK_BITS):
            raise FileError(f"is packed with predictor {predictor}, which is not read: {_REPACK}")
        if plain and self.photometric == _CMYK and number(_INK_SET, 1) != 1:
            raise FileError(f"has inks that are not cyan, magenta, yellow and black: {_CONVERT}")
        if plain and self.photometric in (_WHITE_IS_ZERO, _CMYK) and self.alpha[1]:
            raise FileError(f"has colors whose 0 is white, multiplied by alpha, which no standard defines: {_CONVERT}")
        if compression not in _READ or (not plain and (16 in bits or self.planes)):
            raise FileError(self.refusal)
        if self.photometric == _YCC and compression == 1 and not self._is_usual_ycc():
            raise FileError(f"has YCbCr of a range, of weights or of a subsampling that is not read: {_CONVERT}")
        return plain

    def _is_usual_ycc(self) -> bool:
        """Return whether Pillow reads YCbCr that is not packed: of full range, BT.601, and a color for each pixel."""
        numbers, weights = self.page.numbers, self.page.numbers(_YCC_WEIGHTS, (0.299, 0.587, 0.114))
        return (
            numbers(_YCC_SUBSAMPLING, (2, 2)) == (1, 1)
            and numbers(_YCC_RANGE, (0, 255, 128, 255, 128, 255)) == (0, 255, 128, 255, 128, 255)
            and bool(np.allclose(np.array(weights, float), (0.299, 0.587, 0.114), atol=1e-3))
        )


def _samples(layout: _Layout) -> NDArray[Any]:
    """Return the samples (H, W, C): colors, 0 black, and alpha."""
    alpha, associated = layout.alpha
    wanted = [*range(layout.colors), *([] if alpha is None else [alpha])]
    dtype: Any = np.uint16 if layout.bits[0] == 16 else np.uint8
    samples = np.empty((layout.height, layout.width, len(wanted)), dtype)
    if layout.planes:
        for k, plane in enumerate(wanted):
            for rows, part in _bands(layout, plane, 1):
                samples[rows, :, k] = part[:, :, 0]
    else:
        for rows, part in _bands(layout, 0, layout.count):
            samples[rows] = part[:, :, wanted]
    top = np.iinfo(dtype).max
    if layout.photometric == _PALETTE:
        samples = np.concatenate([_color_map(layout)[samples[:, :, 0]], samples[:, :, 1:]], axis=2)
    elif layout.bits[0] < 8:
        samples *= top // ((1 << layout.bits[0]) - 1)
    if associated:
        for row in samples:
            row[:, :-1] = np.rint(np.minimum(row[:, :-1] * (top / np.maximum(row[:, -1:], 1)), top))
    if layout.photometric == _WHITE_IS_ZERO:
        samples[:, :, 0] = top - samples[:, :, 0]
    return samples


def _color_map(layout: _Layout) -> NDArray[np.uint8]:
    """Return the colors of a palette, (256, 3) or less."""
    stored = np.array(layout.page.numbers(_COLOR_MAP))
    if stored.shape != (3 << layout.bits[0],) or stored.dtype.kind != "i":
        raise FileError("is damaged: its palette is not whole")
    return (stored >> (8 if stored.max() > 255 else 0)).astype(np.uint8).reshape(3, -1).T  # some write 8 bits of the 16


def _bands(layout: _Layout, plane: int, depth: int) -> Iterator[tuple[slice, NDArray[Any]]]:
    """Yield rows of a plane of `depth` samples a pixel, and these: (rows, width, depth)."""
    page, bits = layout.page, layout.bits[0]
    size = max(1, bits // 8)
    tiled, compression = _TILES in page, page.number(_COMPRESSION, 1)
    high, wide = page.number(_TILE_HEIGHT, 0), page.number(_TILE_WIDTH, 0)
    if not tiled:
        high, wide = min(page.number(_ROWS, layout.height), layout.height), layout.width
    if not 0 < high <= _LONGEST_TILE or not 0 < wide <= _LONGEST_TILE:
        raise FileError(f"is damaged: its strips or tiles are {wide}x{high}")
    starts, sizes = (page.numbers(tag) for tag in ((_TILES, _TILE_BYTES) if tiled else (_STRIPS, _STRIP_BYTES)))
    across, down, row = -(-layout.width // wide), -(-layout.height // high), -(-wide * depth * bits // 8)
    first = plane * across * down
    if compression == 1:  # some writers give other sizes, and readers do without
        sizes = (high * row,) * len(starts)
    if min(len(starts), len(sizes)) < first + across * down:
        raise FileError("is damaged: it does not say where all of its pixels are")
    step = max(1, _BAND // (across * high * row))
    for top in range(0, down, step):
        rows = slice(top * high, min((top + step) * high, layout.height))
        lines = min(step, down - top) * high if tiled else rows.stop - rows.start  # a tile may go beyond the picture
        tiles = range(first + top * across, first + min(top + step, down) * across)
        packed = [page.data[starts[k] : starts[k] + sizes[k]] for k in tiles]
        unpacked = (_joined if compression == 1 else _unpacked)(page, packed, (high, lines, row, across))
        if bits < 8:  # the first sample is in the highest bits, and a line ends with its last byte
            shifts = np.arange(8 - bits, -1, -bits, dtype=np.uint8)
            unpacked = (unpacked[:, :, None] >> shifts) & np.uint8((1 << bits) - 1)
            unpacked = unpacked.reshape(lines, across, -1)[:, :, :wide]
        samples = unpacked.view(f"{page.order}u{size}").reshape(lines, across, wide, depth)
        if page.number(_PREDICTOR, 1) == 2 and compression in _PREDICTED:
            samples = np.cumsum(samples, axis=2, dtype=f"u{size}")
        yield rows, samples.reshape(lines, across * wide, depth)[: rows.stop - rows.start, : layout.width]


def _joined(page: Page, packed: list[bytes], shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Return the bytes of strips or tiles (lines, across * row) that are not packed.

    Args:
        page: Their page.
        packed: Bytes of each.
        shape: Lines of one, lines of all, bytes of a line of one, and how many are side by side.
    """
    high, lines, row, across = shape
    result = np.empty((lines, across, row), np.uint8)
    for k, data in enumerate(packed):
        at = k // across * high
        target = result[at : at + high, k % across]
        if len(data) < target.size:
            raise FileError("is damaged: it ends within its pixels")
        target[:] = np.frombuffer(data, np.uint8, target.size).reshape(target.shape)
    if page.number(_FILL_ORDER, 1) == 2:
        result = _REVERSED[result]
    return result.reshape(lines, across * row)


def _unpacked(page: Page, packed: list[bytes], shape: tuple[int, int, int, int]) -> NDArray[np.uint8]:
    """Return the bytes of packed strips or tiles, see `_joined`: as those of a gray picture of 8 bits."""
    from PIL import TiffImagePlugin

    high, lines, row, across = shape
    tags = {_WIDTH: across * row, _HEIGHT: lines, _BITS: 8, _COMPRESSION: page.number(_COMPRESSION, 1)}
    tags |= {_PHOTOMETRIC: _BLACK_IS_ZERO, _FILL_ORDER: page.number(_FILL_ORDER, 1), _SAMPLES: 1}
    tags |= {_TILE_WIDTH: row, _TILE_HEIGHT: high} if _TILES in page else {_ROWS: high}
    lists = (_TILES, _TILE_BYTES) if _TILES in page else (_STRIPS, _STRIP_BYTES)
    with TiffImagePlugin.TiffImageFile(io.BytesIO(_file(tags, packed, lists))) as image:
        return np.array(image)


def _file(tags: dict[int, int], packed: list[bytes], lists: tuple[int, int]) -> bytes:
    """Return a TIFF of tags, and of strips or tiles whose places and sizes go into two more, `lists`."""
    count, sizes = len(packed), np.array([len(data) for data in packed], "<u4")
    after = 8 + 2 + 12 * (len(tags) + 2) + 4  # the directory
    places = (after + 8 * count + np.cumsum(sizes) - sizes).astype("<u4")
    values = {tag: (1, value) for tag, value in tags.items()}
    for k, (tag, stored) in enumerate(zip(lists, (places, sizes), strict=True)):
        values[tag] = (count, int(stored[0]) if count == 1 else after + 4 * count * k)
    directory = b"".join(struct.pack("<HHII", tag, 4, *values[tag]) for tag in sorted(values))
    start = struct.pack("<2sHIH", b"II", 42, 8, len(values)) + directory + bytes(4)
    return b"".join((start, places.tobytes(), sizes.tobytes(), *packed))


def _dpi(page: Page) -> tuple[Any, Any] | None:
    unit = {2: 1.0, 3: 2.54}.get(page.number(_UNIT, 2))
    if unit is None or _X_RESOLUTION not in page or _Y_RESOLUTION not in page:
        return None
    x, y = page.number(_X_RESOLUTION, 0) * unit, page.number(_Y_RESOLUTION, 0) * unit
    return (y, x) if page.number(_ORIENTATION, 1) in _ON_ITS_SIDE else (x, y)
