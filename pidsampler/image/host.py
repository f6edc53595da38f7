"""What operations on pictures share on the host: checks, tiles on all cores, and writing to another device's array."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import threads
from ..backends import Array, Backend
from ..errors import ConfigError
from ..values import array, whole

Tile = tuple[slice, slice]

MOST_SIDE = (1 << 31) - 1  # pixels of a picture, which fit what codecs and kernels count by
_MOST_PIXELS = 1 << 40  # of one: no memory holds so many

NOT_FINITE = (
    "the sampled image holds NaN or infinity: the network's output is broken, or overflows in its element type "
    "(an fp16 graph often does; use its fp32 or bf16 export)"
)

# As on a GPU, what is not finite, or too large for the result's type, passes through without a word, or is refused.
quiet = np.errstate(over="ignore", invalid="ignore")


def sides(name: str, size: tuple[int, int]) -> tuple[int, int]:
    """Return the parameter `name`, (height, width), as two whole numbers.

    Raises:
        PidSamplerError: The size is something else.
    """
    if not isinstance(size, Sequence) or isinstance(size, str | bytes) or len(size) != 2:
        raise ConfigError(f"{name}={size!r} must be (height, width)")
    height, width = (
        whole(f"{side} of {name}", n, high=MOST_SIDE) for side, n in zip(("height", "width"), size, strict=True)
    )
    if height * width > _MOST_PIXELS:
        raise ConfigError(f"{name}={size!r} is more than {_MOST_PIXELS} pixels")
    return height, width


def check_picture(x: Array, size: tuple[int, int]) -> None:
    """Check that a tensor holds a picture of (height, width) in its top left.

    Raises:
        PidSamplerError: The tensor is not (1, 3, H, W) with H, W at least that.
    """
    height, width = size
    shape = tuple(array("x", x).shape)
    if len(shape) != 4 or shape[:2] != (1, 3) or not (1 <= height <= shape[2] and 1 <= width <= shape[3]):
        raise ConfigError(
            f"a tensor of shape {shape} holds no picture of {width}x{height}: expected (1, 3, H, W) of at "
            f"least (1, 3, {height}, {width})"
        )


def check_pixels(what: str, image: NDArray[Any]) -> None:
    """Check that a picture is uint8 or uint16 (h, w, 3), neither of them 0.

    Raises:
        PidSamplerError: The picture is something else; the message calls it `what`.
    """
    shape: tuple[int, ...] = getattr(image, "shape", ())
    kind = getattr(image, "dtype", type(image).__name__)
    if len(shape) != 3 or shape[2] != 3 or 0 in shape or kind not in (np.uint8, np.uint16):
        raise ConfigError(f"{what} is {kind} of shape {shape}, expected uint8 or uint16 (h, w, 3)")


@contextmanager
def writing(x: Array, backend: Backend) -> Iterator[NDArray[Any]]:
    """Yield an array on the host to read and write; what is written goes to x, unless an exception ends it."""
    array = backend.to_host(x)
    array = array if array.flags.writeable else array.copy()
    yield array
    if array is not x:
        backend.write(backend.adopt(array), x)


def each(work: Callable[[Tile], object], tiles: Sequence[Tile]) -> None:
    """Call work(tile) for each, on all cores where that pays."""
    threads.map(work, tiles, most=min(8, len(tiles) // 4))
