"""Whether a PNG file is whole, told chunk by chunk without decoding it."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import IO

from ..errors import FileError, reason
from .files import opened
from .png import SIGNATURE

_PART = 1 << 20  # bytes read at once


def damage(path: Path) -> str | None:
    """Return what is wrong with a PNG: cut off, or bytes that do not fit their checksum; None for a whole one.

    A file of another format has no damage that could be told here, but an empty one has.

    Raises:
        PidSamplerError: The file cannot be read.
    """
    with opened(path) as file:
        try:
            return _damage(file)
        except OSError as error:
            raise FileError(f"cannot read {path}: {reason(error)}") from error


def _damage(file: IO[bytes]) -> str | None:
    begin = file.read(len(SIGNATURE))
    if begin != SIGNATURE:
        return ("it ends early" if begin else "it is empty") if SIGNATURE.startswith(begin) else None
    kind = b""
    while kind != b"IEND":
        head = file.read(8)
        if len(head) < 8:
            return "it ends early"
        left, kind = struct.unpack(">I4s", head)
        checksum = zlib.crc32(kind)
        while left:
            part = file.read(min(left, _PART))
            if not part:
                return "it ends early"
            checksum, left = zlib.crc32(part, checksum), left - len(part)
        stored = file.read(4)
        if len(stored) < 4:
            return "it ends early"
        if stored != checksum.to_bytes(4):
            return f"the checksum of its part {kind.decode('latin-1')} does not fit"
    return None
