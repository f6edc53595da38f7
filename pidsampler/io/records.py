"""Records of how pictures were made, read back from the files that hold them."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Any

from ..errors import FileError, reason
from ..values import file_path
from . import kinds, png_out
from .data import parse_json, read_json
from .files import MOST_TEXT, opened
from .pictures import sidecar

_MOST_CHUNKS = 10_000  # before the pixels


def read_record(path: str | Path) -> dict[str, Any]:
    """Return the record of how a picture was made, as plain JSON data.

    It is data of whoever wrote the file. Nothing in it is looked up, opened or run.

    Args:
        path: A PNG, which holds its record itself; a JPEG, WebP or TIFF, whose record is PATH.json; or such a .json.

    Raises:
        PidSamplerError: The file cannot be read, or holds no record; the record breaks a rule of `io.data.parse_json`,
            or has more than 16 MB.
    """
    path = file_path("path", path)
    with opened(path) as file:
        try:
            head = file.read(kinds.HEAD)
        except OSError as error:
            raise FileError(f"cannot read {path}: {reason(error)}") from error
    form = kinds.picture_format(head)
    if form == "PNG":
        if (found := find_record(path)) is None:
            raise FileError(
                f"{path} holds no record of how it was made, or a damaged one: pass what `pidsampler upscale` wrote"
            )
        return found
    beside = path if form is None else sidecar(path)
    if form is None and not head.lstrip(b"\xef\xbb\xbf \t\r\n").startswith(b"{"):
        held = kinds.other(head)
        what = f"holds {held}" if held else "is no picture that we write"
        raise FileError(f"{path} {what}, expected a PNG, JPEG, WebP or TIFF, or a record in JSON")
    if not os.path.exists(beside):
        raise FileError(f"{path} has no record: {beside.name}, which is written beside a {form}, is not there")
    record = read_json(beside, expected="a record in JSON")
    assert isinstance(record, dict)
    return record


def find_record(path: Path) -> dict[str, Any] | None:
    """Return the record in a PNG that we wrote, or None where a file is none such.

    The chunks before the pixels are read as they are: Pillow opens no picture that it finds too large.

    Args:
        path: File to look into.

    Raises:
        PidSamplerError: The path is no path.
    """
    path = file_path("path", path)
    try:
        with opened(path) as file:
            kind, text, most = file.read(8), b"", _MOST_CHUNKS
            while kind != b"IDAT" and not text.startswith(png_out.RECORD) and most:
                length, kind = struct.unpack(">I4s", file.read(8))
                is_text, most = kind == b"iTXt" and length <= MOST_TEXT, most - 1
                text = file.read(length) if is_text else b""
                file.seek(4 if is_text else length + 4, os.SEEK_CUR)
        record = parse_json(text.removeprefix(png_out.RECORD).decode(), expected="a record")
    except (OSError, ValueError, struct.error):  # not a PNG, damaged, or without a record
        return None
    return record if isinstance(record, dict) else None
