"""Backends own the memory and do all arithmetic on full-size tensors; the loop knows one only as `Backend`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from ..errors import PidSamplerError, unknown_name
from ..table import Row

Array = Any  # numpy.ndarray, later cupy.ndarray


class Backend(Protocol):
    """What the sampler asks of a device. All arrays are C-contiguous; the first axis is the batch.

    The numpy one is the reference: every other must agree with it.
    """

    name: str
    device: str  # as ONNX Runtime calls it: "cpu" or "cuda"

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

    def step(self, row: Row, x: Array, m: Array, saved: Sequence[Array], seeds: Sequence[int]) -> None:
        """Do one row of a table: x and the saved tensors it names change in place."""
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
    """Return a backend by name.

    Raises:
        PidSamplerError: The name is unknown, or the backend is not in this version.
    """
    if name == "numpy":
        from .numpy_backend import NumpyBackend

        return NumpyBackend()
    if name == "cupy":
        raise PidSamplerError("this version of pidsampler has no cupy backend yet: pass backend='numpy'")
    raise unknown_name("backend", name, ("cupy", "numpy"))


def resolve_device(device: str) -> Backend:
    """Return the backend of a device: "cpu", "cuda", or "auto" for the best there is.

    Raises:
        PidSamplerError: The device is unknown, or cannot be had: never a silent CPU run.
    """
    if device in ("auto", "cpu"):
        return get_backend("numpy")
    if device == "cuda":
        raise PidSamplerError(
            "device 'cuda' was asked for, but this version of pidsampler has no CUDA backend yet: pass 'cpu'"
        )
    raise unknown_name("device", device, ("auto", "cpu", "cuda"))
