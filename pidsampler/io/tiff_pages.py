"""TIFF's directories (TIFF 6.0, section 2, and BigTIFF): their tags, and which page is the picture."""

from __future__ import annotations

import struct
from fractions import Fraction
from typing import Any

from ..errors import FileError

SIGNATURES = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")

_MOST_PAGES = 10_000
# Type -> its code for struct, and bytes; a rational is two numbers.
_TYPES = {1: ("B", 1), 2: ("B", 1), 3: ("H", 2), 4: ("I", 4), 5: ("I", 4), 6: ("b", 1), 7: ("B", 1), 8: ("h", 2)}
_TYPES |= {
    9: ("i", 4),
    10: ("i", 4),
    11: ("f", 4),
    12: ("d", 8),
    13: ("I", 4),
    16: ("Q", 8),
    17: ("q", 8),
    18: ("Q", 8),
}

_NEW_SUBFILE, _OLD_SUBFILE, _SUB_DIRECTORIES, _DNG_VERSION, _PHOTOMETRIC = 254, 255, 330, 50706, 262
_REDUCED, _MASK = 1, 4  # bits of NewSubfileType
_RAW = (32803, 34892)  # photometric: a color filter array, and LinearRaw


class Page:
    """One directory of a TIFF.

    Args:
        data: The file.
        order: "<" or ">".
        entries: Tag -> type, count, and where its value is.
    """

    def __init__(self, data: bytes, *, order: str, entries: dict[int, tuple[int, int, int]]) -> None:
        self.data, self.order, self._entries = data, order, entries

    def __contains__(self, tag: int) -> bool:
        return tag in self._entries

    def numbers(self, tag: int, default: tuple[Any, ...] = ()) -> tuple[Any, ...]:
        """Return the numbers of a tag, whole, Fraction or float, or the default where it is not there or damaged."""
        kind, count, at = self._entries.get(tag, (0, 0, 0))
        code, size = _TYPES.get(kind, ("", 0))
        pair = 2 if kind in (5, 10) else 1
        if not code or not count or at + count * pair * size > len(self.data):
            return default
        found = struct.unpack_from(f"{self.order}{count * pair}{code}", self.data, at)
        if pair == 1:
            return found
        return tuple(Fraction(a, b) if b else Fraction(0) for a, b in zip(found[::2], found[1::2], strict=True))

    def number(self, tag: int, default: int) -> Any:
        """Return the first number of a tag, or the default."""
        return self.numbers(tag, (default,))[0]

    def raw(self, tag: int) -> bytes:
        """Return the bytes of a tag, or none where it is not there."""
        return bytes(self.numbers(tag)) if self._entries.get(tag, (0,))[0] in (1, 2, 7) else b""


def pages(data: bytes) -> list[Page]:
    """Return the pages of a TIFF, in order.

    Raises:
        PidSamplerError: The file is damaged, or has very many.
    """
    order = "<" if data[:2] == b"II" else ">"
    big = data[2:4] in (b"+\0", b"\0+")
    counts, entry, offset = ("Q", "HHQ", "Q") if big else ("H", "HHI", "I")
    head, inline = struct.calcsize("<" + entry), struct.calcsize("<" + offset)
    found: list[Page] = []
    seen = set()
    try:
        at = struct.unpack_from(order + offset, data, 8 if big else 4)[0]
        while at:
            if at in seen or len(found) == _MOST_PAGES:
                raise FileError(f"has more than {len(found)} pages, or pages that go in a circle")
            seen.add(at)
            count = struct.unpack_from(order + counts, data, at)[0]
            at += struct.calcsize("<" + counts)
            if at + count * (head + inline) + inline > len(data):
                raise struct.error("a directory ends early")
            entries: dict[int, tuple[int, int, int]] = {}
            for k in range(at, at + count * (head + inline), head + inline):
                tag, kind, n = struct.unpack_from(order + entry, data, k)
                value = k + head
                if n * _TYPES.get(kind, ("", 0))[1] * (2 if kind in (5, 10) else 1) > inline:
                    value = struct.unpack_from(order + offset, data, value)[0]
                entries.setdefault(tag, (kind, n, value))
            found.append(Page(data, order=order, entries=entries))
            at = struct.unpack_from(order + offset, data, at + count * (head + inline))[0]
    except struct.error as error:
        if not found:
            raise FileError("is damaged: it ends within its directory") from error
    return found


def picture_page(found: list[Page]) -> int:
    """Return which page is the picture: the only one that is no reduced copy of another, and no mask.

    Raises:
        PidSamplerError: There are several, or only reduced copies, as in a camera's raw file.
    """
    if not found:
        raise FileError("is damaged: it has no page")
    first = found[0]
    if (
        _DNG_VERSION in first
        or any(page.number(_PHOTOMETRIC, 0) in _RAW for page in found)
        or first.data[8:10] == b"CR"
    ):
        raise FileError("is a camera's raw file: develop it to a PNG, JPEG or TIFF first")
    whole = [k for k, page in enumerate(found) if not _is_copy(page)]
    if len(whole) > 1:
        raise FileError(f"holds {len(whole)} frames or pages: extract the one to enlarge")
    if whole:
        return whole[0]
    if len(found) == 1 and _SUB_DIRECTORIES not in first:
        return 0
    raise FileError("holds only reduced copies of a picture, as a camera's raw file does: develop or export it first")


def _is_copy(page: Page) -> bool:
    return bool(page.number(_NEW_SUBFILE, 0) & (_REDUCED | _MASK)) or page.number(_OLD_SUBFILE, 1) == 2
