"""Files of safetensors: the header is bounded and checked first, and a tensor is read when it is asked for.

Source: huggingface/safetensors, README.md (Format).
"""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..errors import FileError, PidSamplerError, reason
from ..values import file_path, shown
from .data import parse_json
from .files import opened

HEADER_BYTES = 8_000_000
"""Bytes of a safetensors header; real ones have up to 1 MB. 95 MB of JSON would take 2.4 GB of memory."""
_TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
_METADATA = "__metadata__"
_AXES = 32


@dataclass(frozen=True, kw_only=True)
class Entry:
    """A tensor in a file.

    Args:
        path: The file.
        kind: Its type as the header has it, such as "BF16".
        dtype: Its type as numpy's, or ml_dtypes'.
        shape: Its shape.
        start: Where in the file it begins, in bytes.
    """

    path: Path
    kind: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    start: int

    def load(self) -> NDArray[Any]:
        """Read it, contiguous.

        Raises:
            PidSamplerError: The file cannot be read, or is shorter than it was.
        """
        data = np.empty(math.prod(self.shape) * self.dtype.itemsize, np.uint8)
        with opened(self.path) as file:
            try:
                file.seek(self.start)
                read = file.readinto(data.data)
            except OSError as error:
                raise FileError(f"cannot read {self.path}: {reason(error)}") from error
        if read != data.size:
            raise FileError(f"cannot read {self.path}: it has become shorter than it was")
        if sys.byteorder == "big":
            data = data.view(f"u{self.dtype.itemsize}").byteswap().view(np.uint8)
        return data.view(self.dtype).reshape(self.shape)


@dataclass(frozen=True, kw_only=True)
class Header:
    """What a file says of itself.

    Args:
        tensors: Its tensors by name, in the header's order.
        metadata: What else it says, by name; checked to be plain data, and no more.
    """

    tensors: Mapping[str, Entry]
    metadata: Mapping[str, Any]


def read_header(path: Path) -> Header:
    """Read the header of a file of safetensors.

    Raises:
        PidSamplerError: The file cannot be read; or its header is none, is too long, has a name twice, or places
            tensors that overlap, leave holes, are of an unknown type, or do not fit their shapes.
    """
    path = file_path("path", path)
    with opened(path) as file:
        size = os.fstat(file.fileno()).st_size
        length = int.from_bytes(file.read(8), "little")
        if HEADER_BYTES < length <= size - 8:
            raise FileError(f"its header has {length} bytes, more than the {HEADER_BYTES} that any real file has")
        if size < 8 or length > size - 8:
            raise FileError(
                f"its header would take {length} bytes of a file of {size}: it is truncated or another kind"
            )
        header = _parsed(file.read(length))
    metadata = header.pop(_METADATA, None)
    end, tensors = 0, dict[str, Entry]()
    places = {name: _place(name, entry) for name, entry in header.items()}
    for name, (kind, shape, begin, stop) in sorted(places.items(), key=lambda item: item[1][2:]):
        if begin != end:
            raise FileError(f"its tensor {_short(name)} begins at byte {begin}, but the one before it ends at {end}")
        end = stop
        tensors[name] = Entry(path=path, kind=kind, dtype=np.dtype(_TYPES[kind]), shape=shape, start=8 + length + begin)
    if end != size - 8 - length:
        raise FileError(f"its tensors take {end} bytes, {size - 8 - length} are there: copy or download it again")
    return Header(
        tensors={name: tensors[name] for name in places}, metadata=metadata if isinstance(metadata, dict) else {}
    )


def _parsed(data: bytes) -> dict[str, Any]:
    try:  # bytes that are no text become halves of characters, which no text holds
        header = parse_json(data.decode(errors="surrogateescape"), expected="JSON of safetensors")
    except PidSamplerError as error:
        raise FileError(f"its header is {error}") from error
    if not isinstance(header, dict):
        raise FileError(f"its header is a {type(header).__name__}, expected an object")
    return header


def _place(name: str, entry: Any) -> tuple[str, tuple[int, ...], int, int]:
    match entry:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [begin, stop]}:
            pass
        case _:
            raise FileError(f"its tensor {_short(name)} has no dtype, shape and two data_offsets")
    if kind not in _TYPES:
        raise FileError(
            f"its tensor {_short(name)} is {_short(kind)}, expected {', '.join(_TYPES)}: take the bf16 or fp32 file"
        )
    if not all(type(n) is int and 0 <= n < 2**62 for n in (*shape, begin, stop)) or len(shape) > _AXES:
        raise FileError(f"its tensor {_short(name)} has sizes or offsets that are no whole numbers from 0")
    size = math.prod(shape) * np.dtype(_TYPES[kind]).itemsize
    if stop - begin != size or math.prod(max(n, 1) for n in shape) >= 2**62:
        raise FileError(
            f"its tensor {_short(name)} lies at bytes {begin} to {stop}, which is not the size of {kind} {shape}"
        )
    return kind, tuple(shape), begin, stop


def _short(name: str) -> str:
    return name if len(name) <= 100 and name.isprintable() else shown(name[:100])
