"""Backends own the memory and do all arithmetic on full-size tensors; the loop knows one only as `Backend`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import moved
from ..errors import ConfigError, unknown_name
from ..image.blocks import Blocks
from ..table import Row

Array = Any  # numpy.ndarray or cupy.ndarray

NOT_FINITE = (
    "the sampled image holds NaN or infinity: the network's output is broken, or overflows in its element type "
    "(an fp16 graph often does; use its fp32 or bf16 export)"
)

DESPECKLE = 16.0  # levels of 255 that a speck stands out by, see `Backend.tensor_to_image`
BRIM = 4  # pixels from a speck to its brim, and one less than a run; kernels/image.cu has it too

DLPACK_CPU = 1  # DLPack's device types
DLPACK_CUDA = (2, 13)  # the card's own memory, and managed


class Backend(Protocol):
    """What the sampler asks of a device. All arrays are C-contiguous; the first axis is the batch.

    The numpy one is the reference: every other must agree with it.
    """

    name: str
    device: str  # as ONNX Runtime calls it: "cpu" or "cuda"
    device_id: int
    state_types: tuple[Any, ...]  # element types of x that `step` takes
    stream_pointer: int  # of the CUDA stream of all its work, 0 on the CPU

    def active(self) -> AbstractContextManager[Any]:
        """Make its stream the current one: what array operations do inside is ordered with its own work."""
        ...

    def free_memory(self) -> int | None:
        """Return how many bytes can still be taken on the device, or None where nobody says."""
        ...

    def held_memory(self) -> int | None:
        """Return how many bytes this process, or on a GPU everybody, has taken; None where nobody says."""
        ...

    def release(self) -> None:
        """Give memory that is kept for later back to the device."""
        ...

    def synchronize(self) -> None:
        """Wait until all its work is done, to measure time: nothing else needs it."""
        ...

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        """Allocate."""
        ...

    def adopt(self, x: Any) -> Array:
        """Return x as this backend's array, without a copy where it already lies on the device."""
        ...

    def pointer(self, x: Array) -> int:
        """Return the address of the first element, for IO binding."""
        ...

    def noise(
        self,
        x: Array,
        seeds: Sequence[int],
        draw: int,
        stream: int = 0,
        *,
        keep: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        """x = keep*x + scale*N(seed of the image, draw, stream), in place."""
        ...

    def step(
        self, row: Row, x: Array, m: Array, saved: Sequence[Array], seeds: Sequence[int], copy: Array | None = None
    ) -> None:
        """Do one row of a table: x and the saved tensors it names change in place.

        `copy`, of any floating type, becomes the new x too: what a network of another type reads next.
        """
        ...

    def predict_x0(self, row: Row, x: Array, m: Array, out: Array) -> None:
        """out = clip(p*x + q*m)."""
        ...

    def image_to_tensor(self, image: Array, height: int, width: int) -> Array:
        """uint8 or uint16 (H, W, 3) -> float32 (1, 3, height, width) in -1..1, padded by reflection."""
        ...

    def tensor_to_image(self, x: Array, height: int, width: int, despeckle: float | None = None) -> Any:
        """(1, 3, H, W) in -1..1 -> uint8 (height, width, 3) on the host, clamped, rounded and cropped.

        Args:
            x: The tensor; it does not change.
            height: Of the picture, at most H.
            width: Of the picture, at most W.
            despeckle: In levels of 255, such as `DESPECKLE`; None leaves all as it is. Specks are what is isolated. In
                each channel, a value that stands out above both its brim and its runs by more than this becomes the
                higher of the two, and one below them likewise; compared is x as it was, clamped. The brim is the
                highest of the outermost pixels of the 9x9 around (Bright and Steel 1987). The runs are the straight
                ones of 5 pixels, across, down and aslant, that the pixel is in: of each the lowest, of those the
                highest, an opening by lines (Soille and Talbot 2001). So spots up to 4 pixels wide go, peaks of larger
                ones are flattened, and edges, lines and things of 5 pixels stay. What lies outside the picture is
                neither brim nor run; a picture under 8x8 pixels has too little of either and stays.

        Raises:
            PidSamplerError: The tensor holds NaN or infinity, or `despeckle` is not a number from 0 on.
        """
        ...

    def reduce(self, x: Array, height: int, width: int, new_height: int, new_width: int) -> Array:
        """Reduce the top left (height, width) of x (1, 3, H, W) to (1, 3, new_height, new_width) of x's type.

        With the Lanczos-3 filter as Pillow has it, in float32. Values are not clamped, and NaN stays. x itself is
        returned where it has the new size already.

        Raises:
            PidSamplerError: x is smaller than (height, width), or that is smaller than the new size.
        """
        ...

    def blend(
        self, tile: Array, rows: Array, columns: Array, out: Array, top: int, left: int, fresh: tuple[int, int]
    ) -> None:
        """out[b, c, top + y, left + x] += rows[y]*columns[x]*tile[b, c, y, x], in place.

        Args:
            tile: (B, C, h, w) of any floating type.
            rows: (h,) weights, float32; with numpy of any floating type.
            columns: (w,) likewise.
            out: (B, C, H, W) of a state's type. In half precision it is rounded once for each tile that covers a place.
            top: Of the tile's first row in `out`.
            left: Of its first column.
            fresh: (y, x) within the tile, from which on both ways nothing was written before: there it is = for +=.

        Raises:
            PidSamplerError: The shapes do not fit together, or the tile reaches out of `out`.
        """
        ...

    def block_means(self, x: Array, blocks: Blocks, powers: int = 1) -> NDArray[np.float64]:
        """Return means over blocks of the result, of v = clip(x, -1, 1), what the picture shows.

        Args:
            x: (1, 3, H, W), of which the top left (scale*height, scale*width) of `blocks` is the picture.
            blocks: How it is divided.
            powers: 1, or 2 for the means of v*v too.

        Returns:
            float64 (powers, 3, rows, columns) on the host. Columns of a block are summed in float32 (x's type on
            numpy), which suits blocks up to a hundred pixels high; these sums exactly.

        Raises:
            PidSamplerError: The picture holds NaN or infinity.
        """
        ...

    def correct(self, x: Array, blocks: Blocks, gain: NDArray[Any], grid: NDArray[Any]) -> NDArray[np.float64]:
        """x = gain*clip(x, -1, 1) + s in place, s the quadratic spline of a grid: one pass over the picture.

        In block i at t (0..1 from one edge to the other), s is ((1-t)^2 g[i-1] + (1 + 2t(1-t)) g[i] + t^2 g[i+1])/2 on
        each axis, the uniform quadratic B-spline; the grid goes on beyond its ends as it ends.

        Args:
            x: As for `block_means`, and free of NaN and infinity in the picture. Around it nothing changes.
            blocks: How the picture is divided.
            gain: One factor a channel, (3,).
            grid: (3, rows, columns), in x's units.

        Returns:
            The block means of the x that it leaves, float64 (3, rows, columns), as by `block_means`.
        """
        ...


def despeckle_step(despeckle: float | None, height: int, width: int) -> float | None:
    """Return a `despeckle` of `Backend.tensor_to_image` in x's units, or None where a picture is to stay as it is.

    Raises:
        PidSamplerError: It is not a number from 0 on.
    """
    if despeckle is None:
        return None
    if not 0.0 <= despeckle < float("inf"):
        raise ConfigError(f"despeckle={despeckle!r} is not a number of levels from 0 to 255, such as {DESPECKLE}")
    return despeckle / 127.5 if max(height, width) >= 2 * BRIM else None


def get_backend(name: str) -> Backend:
    """Return a backend by name; that of the GPU is made once, so that its kernels compile once.

    Raises:
        PidSamplerError: The name is unknown, or the backend cannot be had here.
    """
    if name == "numpy":
        from .numpy import NumpyBackend

        return NumpyBackend()
    if name == "cupy":
        return _cupy_backend()
    raise unknown_name("backend", name, ("cupy", "numpy"))


@cache
def _cupy_backend() -> Backend:
    from .cupy import CupyBackend

    return CupyBackend()


def backend_of(x: Any) -> Backend:
    """Return the backend of the memory that an array lies in: CUDA's for CuPy arrays and CUDA tensors, else numpy's.

    Raises:
        PidSamplerError: x lies on a GPU that cannot be used from here.
    """
    where = x.__dlpack_device__()[0] if hasattr(x, "__dlpack_device__") else DLPACK_CPU
    return get_backend("cupy" if where in DLPACK_CUDA else "numpy")


def check_blend(tile: Array, rows: Array, columns: Array, out: Array, top: int, left: int) -> None:
    """Check the shapes that `Backend.blend` is given.

    Raises:
        PidSamplerError: They do not fit together, or the tile reaches out of `out`.
    """
    if tile.ndim != 4 or out.ndim != 4 or tile.shape[:2] != out.shape[:2]:
        raise ConfigError(
            f"a tile of shape {tile.shape} does not fit into {out.shape}: expected (batch, channels, height, width) of "
            "the same batch and channels"
        )
    (h, w), (height, width) = tile.shape[2:], out.shape[2:]
    if rows.shape != (h,) or columns.shape != (w,):
        raise ConfigError(f"weights of shapes {rows.shape} and {columns.shape} for a tile of {h} rows and {w} columns")
    if not (0 <= top <= height - h and 0 <= left <= width - w):
        raise ConfigError(f"a tile of {h}x{w} at row {top}, column {left} reaches out of {height}x{width}")


__getattr__ = moved.names(__name__)
