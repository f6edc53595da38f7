"""Whether a picture file is whole: a PNG is told chunk by chunk without decoding it, others are decoded."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import IO

from ..errors import FileError, reason
from .files import opened
from .kinds import HEAD, picture_format
from .png import SIGNATURE

_PART = 1 << 20  # bytes read at once


def damage(path: Path) -> str | None:
    """Return what is wrong with a PNG: cut off, or bytes that do not fit their checksum; None for a whole one.

    A JPEG, WebP or TIFF is damaged where it cannot be decoded, unless it is too large for Pillow to try. A file of
    another format has no damage that could be told here, but an empty one has.

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
        if SIGNATURE.startswith(begin):
            return "it ends early" if begin else "it is empty"
        return _damage_of_others(begin + file.read(HEAD), file)
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


def _damage_of_others(head: bytes, file: IO[bytes]) -> str | None:
    from PIL import Image

    form = picture_format(head)
    if form is None:
        return None
    file.seek(0)
    try:
        with Image.open(file, formats=[form]) as image:
            image.load()
    except (MemoryError, Image.DecompressionBombError, Image.DecompressionBombWarning):
        return None
    except Exception as error:  # decoders raise anything at all on damaged data
        return " ".join(str(error).split()) or type(error).__name__
    return None
