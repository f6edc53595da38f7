"""Arrays in numpy's format, read without trust in what the header promises."""

from __future__ import annotations

import math
from collections.abc import Callable
from io import BufferedIOBase
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError
from ..values import instance, shown, whole
from . import kinds

_MOST = 1 << 29  # bytes: a latent of 45 megapixels of a picture, by the largest latents that there are
_HEADERS: dict[tuple[int, int], Callable[..., Any]] = {  # the third version is for fields with names
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


def read_npy(file: IO[bytes]) -> NDArray[Any]:
    """Read an array of numpy's format once its header, which may promise anything, is found good.

    Raises:
        Exception: The file holds no such array, one of objects or fields, or one of more than 512 MB; of any kind.
    """
    instance("file", file, kind=BufferedIOBase, words="a file that is open for reading bytes")
    begin = file.read(8)
    if not begin.startswith(kinds.NUMPY):
        held = kinds.other(begin)
        raise ValueError(f"it is no array in numpy's format{f': it holds {held}' if held else ''}")
    shape, fortran, dtype = _HEADERS[begin[6], begin[7]](file)
    if dtype.hasobject or dtype.names or min(shape, default=0) < 0:
        raise ValueError(f"it is an array of {dtype} and shape {shape}, expected floats")
    size = math.prod(shape) * dtype.itemsize
    check_size(size)
    array = np.frombuffer(file.read(size), dtype, math.prod(shape))
    return array.reshape(shape[::-1]).transpose() if fortran else array.reshape(shape)


def check_size(size: int) -> None:
    """Check that an array is not larger than any latent or caption.

    Raises:
        PidSamplerError: The array has more than 512 MB.
    """
    if (type(size) is int and size > _MOST) or whole("size", size, low=0) > _MOST:
        raise FileError(f"it has {shown(size)} bytes, expected at most {_MOST}")
