"""JPEG files (ITU-T T.81): which kind one is of, and whether one that ends early lacks only its end marker."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice, takewhile

SIGNATURE = b"\xff\xd8\xff"

_END, _SCAN = b"\xff\xd9", 0xDA
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC3, 0xC9, 0xCA, 0xCB)
_OTHER_FRAMES = {
    **dict.fromkeys((0xC5, 0xC6, 0xC7, 0xCD, 0xCE, 0xCF), "a hierarchical JPEG"),
    0xF7: "a JPEG-LS",
}
_PROGRESSIVE = (0xC2, 0xCA)
_MARKER = re.compile(rb"\xff+[^\x00\x01\xff\xd0-\xd7]")  # of a segment; decoders skip what is before it
_MOST_SCANS = 500  # files have a dozen; a hundred bytes more can be a scan of 2^26 pixels that takes 7 ms
_PADDINGS = (0xFE5AC33C, 0x55CC0FA5, 0xAA33F069, 0x963C5AC3)  # bits unlike each other from the first on


def unread(data: bytes) -> str | None:
    """Return in words what a JPEG is that Pillow does not read, such as one of 12 bits, or None."""
    if _scans(data) > _MOST_SCANS:
        return f"a JPEG of more than {_MOST_SCANS} scans"
    for kind, body in _segments(data):
        if kind in _FRAMES and body[:1] not in (b"", b"\x08"):
            return f"a JPEG of {body[0]} bits"
        if kind in _FRAMES or kind in _OTHER_FRAMES:
            return _OTHER_FRAMES.get(kind)
    return None


def _scans(data: bytes) -> int:
    """Return how many scans a decoder finds, at most one more than are read."""
    kinds = takewhile(lambda kind: kind != _END[1], (kind for kind, _ in _segments(data)))
    return sum(1 for _ in islice((kind for kind in kinds if kind == _SCAN), _MOST_SCANS + 1))


def with_end(data: bytes) -> list[bytes]:
    """Return ways to end a JPEG that has no end marker, or none where more is lacking for certain.

    All decode to the same picture if the data of all pixels is there: the decoder has no use for what follows. The
    first ends at once, where a decoder takes zeros for what lacks; the others have other bits there.
    """
    if not _all_scans(data):
        return []
    data = data.rstrip(b"\xff")
    restarts = re.findall(rb"\xff[\xd0-\xd7]", data[data.rfind(b"\xff\xda") :])
    # In the place of a restart marker that lacks, a decoder looks for the next in turn.
    restart = bytes((0xFF, 0xD0 + len(restarts) % 8))
    paddings = [padding.to_bytes(4, "big") * 32 for padding in _PADDINGS]
    return [data + _END, *(data + padding + restart + padding + _END for padding in paddings)]


def _all_scans(data: bytes) -> bool:
    """Return whether the scans bring each bit of each coefficient of each component (section G.1.1.1)."""
    components, progressive = 0, False
    done: dict[int, set[int]] = {}
    for kind, body in _segments(data):
        if kind in _FRAMES and len(body) >= 6:
            components, progressive = body[5], kind in _PROGRESSIVE
        elif kind == _SCAN and body and len(body) >= 4 + 2 * body[0]:
            first, last, bits = body[1 + 2 * body[0] :][:3]
            for component in body[1 : 1 + 2 * body[0] : 2]:
                whole = range(64) if not progressive else range(first, last + 1) if bits & 15 == 0 else ()
                done.setdefault(component, set()).update(whole)
        elif kind == _END[1]:
            return False
    return len(done) == components > 0 and all(len(found) == 64 for found in done.values())


def _segments(data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield each marker's second byte and what its segment holds; the data of a scan, or any other, are skipped."""
    at = 2
    while (found := _MARKER.search(data, at)) is not None:
        at = found.end()
        end = at + int.from_bytes(data[at : at + 2], "big")
        yield data[at - 1], data[at + 2 : end]
        at = max(at, end)
