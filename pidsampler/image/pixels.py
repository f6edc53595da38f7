"""Pictures to tensors and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import native
from ..backends import Array, Backend, get_backend
from ..backends.base import Launcher, LaunchingBackend
from ..backends.kernels import definitions, kind
from ..errors import ConfigError, ModelError
from ..threads import CHUNK
from .despeckle import despeckled, threshold
from .host import NOT_FINITE, Tile, check_picture, check_pixels, each, quiet, sides

_ROWS = 64  # of a picture that the compiled library makes at a time; it cuts them into tiles of 32


def to_tensor(image: NDArray[Any], *, size: tuple[int, int], backend: str | Backend) -> Array:
    """Return a picture as a tensor in -1..1, padded by reflection below and to the right.

    Args:
        image: uint8 or uint16 (h, w, 3) on the host.
        size: (height, width) of the tensor, at least (h, w).
        backend: Backend of the tensor.

    Returns:
        float32 (1, 3, height, width).

    Raises:
        PidSamplerError: The picture is something else, or larger than `size`.
    """
    backend, (height, width) = get_backend(backend), sides("size", size)
    check_pixels("the picture", image)
    shape = image.shape
    if height < shape[0] or width < shape[1]:
        raise ConfigError(f"a picture of {shape[1]}x{shape[0]} is larger than size {width}x{height}")
    if isinstance(backend, Launcher):
        return _launched_to_tensor(image, height, width, backend)
    return backend.adopt(_to_tensor(image, height, width))


def to_image(
    x: Array, *, size: tuple[int, int], despeckle: float | None = None, backend: str | Backend
) -> NDArray[np.uint8]:
    """Return the picture in the top left of a tensor: clamped, rounded and cropped, by one download from a GPU.

    Args:
        x: (1, 3, H, W) in -1..1; it does not change.
        size: (height, width) of the picture, at most (H, W).
        despeckle: Levels of 255 by which a speck stands out that is taken away, such as `despeckle.DESPECKLE`, see
            `despeckle`; None leaves all as it is.
        backend: Backend of x.

    Returns:
        uint8 (height, width, 3) on the host.

    Raises:
        PidSamplerError: The picture holds NaN or infinity, x is smaller than it, or `despeckle` is not a number from 0.
    """
    backend, size = get_backend(backend), sides("size", size)
    check_picture(x, size)
    step = threshold(despeckle, size=size)
    if isinstance(backend, Launcher):
        return _launched_to_image(x, size, step, backend)
    host = backend.to_host(x)
    library = native.built()
    if library is not None and host.dtype == np.float32 and host.flags.aligned and host.strides[3] == host.itemsize:
        return _compiled(library, host[0], size, step)
    return _to_image(host, *size) if step is None else despeckled(host, size=size, step=step)


def _to_tensor(image: NDArray[Any], height: int, width: int) -> NDArray[np.float32]:
    h, w, _ = image.shape
    x = np.empty((1, 3, height, width), np.float32)
    inside = x[0, :, :h, :w]
    np.multiply(image.transpose(2, 0, 1), np.float32(2.0 / np.iinfo(image.dtype).max), out=inside)
    inside -= 1.0
    # Columns and rows past the edge are read back in reverse: numpy's "reflect", for any amount of padding.
    x[0, :, :h, w:] = inside[:, :, np.pad(np.arange(w), (0, width - w), mode="reflect")[w:]]
    x[0, :, h:, :] = x[0][:, np.pad(np.arange(h), (0, height - h), mode="reflect")[h:], :]
    return x


@quiet
def _to_image(x: NDArray[Any], height: int, width: int) -> NDArray[np.uint8]:
    image = np.empty((height, width, 3), np.uint8)
    rows = max(1, CHUNK // (3 * width))
    for top in range(0, height, rows):
        part = x[0, :, top : min(top + rows, height), :width]
        if not np.isfinite(part).all():
            raise ModelError(NOT_FINITE)
        scaled = part * x.dtype.type(127.5)
        scaled += 127.5
        np.clip(scaled, 0.0, 255.0, out=scaled)
        np.rint(scaled, out=scaled)
        image[top : top + rows] = scaled.transpose(1, 2, 0)
    return image


def _compiled(
    library: native.Library, x: NDArray[np.float32], size: tuple[int, int], step: float | None
) -> NDArray[np.uint8]:
    image = np.empty((*size, 3), np.uint8)

    def work(tile: Tile) -> None:
        if not library.image(x, image, rows=tile[0], limit=step):
            raise ModelError(NOT_FINITE)

    each(work, [(slice(top, min(top + _ROWS, size[0])), slice(size[1])) for top in range(0, size[0], _ROWS)])
    return image


def _launched_to_tensor(image: NDArray[Any], height: int, width: int, backend: LaunchingBackend) -> Array:
    h, w, _ = image.shape
    pixels, x = backend.adopt(np.ascontiguousarray(image)), backend.empty((1, 3, height, width), np.float32)
    backend.launch(
        "image.cu",
        "pid_to_tensor",
        flags=lambda vector: _definitions(image.dtype, x, vector),
        tensors=[x],
        arguments=(pixels, x, *(np.uint32(n) for n in (h, w, height, width))),
        threads=height * width,
    )
    return x


def _launched_to_image(
    x: Array, size: tuple[int, int], step: float | None, backend: LaunchingBackend
) -> NDArray[np.uint8]:
    height, width = size
    count = height * width * 3
    # The picture, and behind it the word that says whether something was not finite.
    memory = backend.empty((-(-count // 4) * 4 + 4,), np.uint8)
    with backend.active():
        memory[-4:] = 0
    sizes = (np.uint32(n) for n in (height, width, *x.shape[2:]))
    backend.launch(
        "image.cu",
        "pid_to_image",
        flags=lambda vector: _definitions(np.dtype(np.uint8), x, vector, step is not None),
        tensors=[x],
        arguments=(x, memory, *sizes, memory[-4:], np.float32(step or 0.0)),
        threads=height * width,
    )
    host = backend.to_host(memory)
    if host[-4:].any():
        raise ModelError(NOT_FINITE)
    image: NDArray[np.uint8] = host[:count].reshape(height, width, 3)
    return image


def _definitions(pixel: np.dtype[Any], x: Array, vector: bool, despeckle: bool = False) -> tuple[str, ...]:
    name, number = f"pid_u{8 * pixel.itemsize}", kind(x.dtype)
    return definitions(pixel=name, channels=3, bgr=False, x=number, despeckle=despeckle, vector=vector)
