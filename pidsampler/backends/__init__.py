"""Backends own the memory and do all arithmetic on full-size tensors; the loop knows one only as `Backend`."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from functools import cache
from typing import Any, Protocol

from ..errors import PidSamplerError, unknown_name
from ..table import Row

Array = Any  # numpy.ndarray or cupy.ndarray

NOT_FINITE = (
    "the sampled image holds NaN or infinity: the network's output is broken, or overflows in its element type "
    "(an fp16 graph often does; use its fp32 or bf16 export)"
)

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

    def tensor_to_image(self, x: Array, height: int, width: int) -> Any:
        """(1, 3, H, W) in -1..1 -> uint8 (height, width, 3) on the host, clamped, rounded and cropped.

        Raises:
            PidSamplerError: The tensor holds NaN or infinity.
        """
        ...


def get_backend(name: str) -> Backend:
    """Return a backend by name; that of the GPU is made once, so that its kernels compile once.

    Raises:
        PidSamplerError: The name is unknown, or the backend cannot be had here.
    """
    if name == "numpy":
        from .numpy_backend import NumpyBackend

        return NumpyBackend()
    if name == "cupy":
        return _cupy_backend()
    raise unknown_name("backend", name, ("cupy", "numpy"))


@cache
def _cupy_backend() -> Backend:
    from .cupy_backend import CupyBackend

    return CupyBackend()


def backend_of(x: Any) -> Backend:
    """Return the backend of the memory that an array lies in: CUDA's for CuPy arrays and CUDA tensors, else numpy's.

    Raises:
        PidSamplerError: x lies on a GPU that cannot be used from here.
    """
    where = x.__dlpack_device__()[0] if hasattr(x, "__dlpack_device__") else DLPACK_CPU
    return get_backend("cupy" if where in DLPACK_CUDA else "numpy")


def resolve_device(device: str) -> Backend:
    """Return the backend of a device: "cpu", "cuda", or "auto" for the best there is.

    Raises:
        PidSamplerError: The device is unknown, or cannot be had: never a silent CPU run.
    """
    if device not in ("auto", "cpu", "cuda"):
        raise unknown_name("device", device, ("auto", "cpu", "cuda"))
    if device == "cpu":
        return get_backend("numpy")
    try:
        from ..onnx.providers import check_cuda

        backend = get_backend("cupy")
        check_cuda()
        return backend
    except PidSamplerError as error:
        if device == "cuda":
            raise PidSamplerError(
                f"device 'cuda' was asked for, but {error}; pass 'cpu' to run without a GPU"
            ) from None
        return get_backend("numpy")
