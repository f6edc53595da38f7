"""What the sampler asks of a backend: a `Device` for the memory, and a `Stepper` for the arithmetic of whole tensors.

Arrays are C-contiguous, and the first axis is the batch. `x[...] = y` writes to x, and slices are views. Element types
are numpy's, ml_dtypes' bfloat16 among them; a device translates.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol, runtime_checkable

from numpy.typing import NDArray

from ..table import Row

Array = Any
"""An array of numpy, CuPy, or another library."""

DLPACK_CPU = 1  # DLPack's device types
DLPACK_CUDA = (2, 13)  # the card's own memory, and managed


class Device(Protocol):
    """Where arrays live: memory, and the order of the work on it.

    Attributes:
        name: Name in the registry, such as "numpy".
        device: "cpu" or "cuda", as ONNX Runtime calls it.
        device_id: Number of the GPU, 0 on the CPU.
        stream_pointer: CUDA stream of all its work, 0 on the CPU.
    """

    name: str
    device: str
    device_id: int
    stream_pointer: int

    @staticmethod
    def owns(x: Any) -> bool:
        """Return whether x, of any type, is an array in this device's memory."""
        ...

    def active(self) -> AbstractContextManager[Any]:
        """Make its stream the current one: what array operations do inside is ordered with its own work.

        Returns:
            A context, to be entered by `with`.
        """
        ...

    def free_memory(self) -> int | None:
        """Return how many bytes can still be taken on the device; None if unknown."""
        ...

    def held_memory(self) -> int | None:
        """Return how many bytes this process, or on a GPU everybody, has taken; None if unknown."""
        ...

    def release(self) -> None:
        """Give memory that is kept for later back to the device."""
        ...

    def synchronize(self) -> None:
        """Wait until all its work is done, to measure time: nothing else needs it."""
        ...

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        """Allocate an array of an element type of numpy, or of that of one of its arrays.

        Args:
            shape: Shape of the array.
            dtype: Element type.

        Returns:
            The array, with whatever its memory holds.
        """
        ...

    def adopt(self, x: Any) -> Array:
        """Return x as this backend's array, without a copy where it already lies on the device.

        Returns:
            Array of the shape and element type of x.

        Raises:
            PidSamplerError: x lies on another device, or is no array.
        """
        ...

    def to_host(self, x: Array) -> NDArray[Any]:
        """Return an array as one of numpy: a view where the memory is the host's, else a copy.

        Args:
            x: Array of the device.

        Returns:
            numpy array of the shape and element type of x.
        """
        ...

    def write(self, x: Array, out: Array) -> None:
        """out = x in out's element type, rounded; both are arrays of this device of one shape."""
        ...

    def dtype(self, x: Array) -> Any:
        """Return numpy's element type for that of an array.

        Args:
            x: Array of the device.

        Returns:
            numpy array of the shape and element type of x.
        """
        ...

    def writable(self, x: Array) -> bool:
        """Return whether an array is C-contiguous and may be written to.

        Args:
            x: Array of the device.

        Returns:
            numpy array of the shape and element type of x.
        """
        ...

    def pointer(self, x: Array) -> int:
        """Return the address of the first element, for IO binding.

        Args:
            x: Array of the device.

        Returns:
            numpy array of the shape and element type of x.
        """
        ...


class Stepper(Protocol):
    """The arithmetic of the loop, in place. That of numpy is the reference: every other must agree with it.

    Attributes:
        state_types: Element types of x that `step` takes.
    """

    state_types: tuple[Any, ...]

    def noise(
        self,
        x: Array,
        seeds: Sequence[int],
        *,
        draw: int,
        stream: int = 0,
        keep: float = 0.0,
        scale: float = 1.0,
    ) -> None:
        """x = keep*x + scale*N(seed of the image, draw, stream), in place.

        Args:
            x: (B, ...) array, changed in place.
            seeds: Seed of each image.
            draw: Number of the draw.
            stream: Number of the stream.
            keep: Weight of x as it was.
            scale: Weight of the noise.
        """
        ...

    def step(
        self, row: Row, x: Array, *, m: Array, saved: Sequence[Array], seeds: Sequence[int], copy: Array | None = None
    ) -> None:
        """Do one row of a table: x and the saved tensors it names change in place.

        `copy`, of any floating type, becomes the new x too: what a network of another type reads next.

        Args:
            row: Row to do.
            x: (B, ...) array, the state.
            m: Output of the network, like x.
            saved: Saved tensors, one a slot.
            seeds: Seed of each image.
            copy: Array like x that becomes the new x too; None for none.
        """
        ...

    def predict_x0(self, row: Row, x: Array, *, m: Array, out: Array) -> None:
        """out = clip(p*x + q*m).

        Args:
            row: Row that says p, q and clip.
            x: (B, ...) array, the state.
            m: Output of the network, like x.
            out: Array like x, which is written.
        """
        ...


@runtime_checkable
class Backend(Device, Stepper, Protocol):
    """A device and the arithmetic on it; see `plain` for a short way to write one."""


@runtime_checkable
class Launcher(Protocol):
    """What a backend that runs the package's CUDA kernels has besides: operations on pictures are then launches.

    All others do them in numpy, on the host.
    """

    def launch(
        self,
        file: str,
        name: str,
        *,
        flags: Callable[[bool], tuple[str, ...]],
        tensors: Sequence[Array],
        arguments: tuple[Any, ...],
        threads: int,
        others: Sequence[Array] = (),
    ) -> None:
        """Check the arrays, and launch a kernel ordered after and before the caller's stream.

        Args:
            file: Source file in `kernels/`.
            name: Name of the kernel.
            flags: Returns the compiler's definitions, given whether each image of each tensor begins at a multiple of
                16 bytes.
            tensors: Arrays of one shape, the batch first; the grid has a row for each image.
            arguments: Arguments of the kernel: arrays, numpy's numbers, structs as arrays of one element.
            threads: Threads for each image.
            others: Arrays of other shapes, to be checked too.

        Raises:
            PidSamplerError: An array is not on the device, not contiguous or aligned, of another shape, or two overlap.
        """
        ...


class LaunchingBackend(Backend, Launcher, Protocol):
    """A backend that runs the package's CUDA kernels."""
