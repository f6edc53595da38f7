"""The GPU backend: CuPy arrays, one launch a row, everything ordered on one stream of its own.

Work that came before on the caller's current CuPy stream is waited for, and that stream waits for ours, both on the
device by events; the host waits only where a result is downloaded. A loop in a caller's own hands needs no more: what
PyTorch does on its default stream is ordered with CuPy's default stream, which is the current one unless changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import moved
from ..errors import ConfigError, DeviceError, MissingDependencyError, missing_extra
from ..table import Row
from .base import DLPACK_CUDA
from .kernels import KINDS, MOST_SLOTS, NULL, OPTIONS, StepVariant, definitions, group, kind, slots_read, source

Array = Any  # cupy.ndarray

_THREADS = 256
_MOST_IMAGES = 65535  # of a launch: CUDA's limit of a grid's second axis


class CupyBackend:
    """CuPy arrays on the current CUDA device.

    Attributes:
        stream: The non-blocking stream of all its work, to share with ONNX Runtime.
        architecture: Compute capability times ten: 90 for sm_90.

    Raises:
        PidSamplerError: CuPy is not installed, or finds no GPU or driver that it can use.
    """

    name = "cupy"
    device = "cuda"
    state_types = tuple(KINDS)

    def __init__(self) -> None:
        self._cupy = _import_cupy()
        device = self._cupy.cuda.Device()
        self.device_id: int = device.id
        self.architecture = int(device.compute_capability)
        self.stream = self._cupy.cuda.Stream(non_blocking=True)
        self.stream_pointer: int = self.stream.ptr
        self._kernels: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._seeds: dict[tuple[int, ...], Array] = {}

    @staticmethod
    def owns(x: Any) -> bool:
        """Return whether x is an array or tensor on a CUDA GPU."""
        return hasattr(x, "__dlpack_device__") and x.__dlpack_device__()[0] in DLPACK_CUDA

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make its stream the current one of CuPy, after and before what the caller's does.

        Raises:
            PidSamplerError: Another GPU is the current one.
        """
        self._check_current()
        with self._after_and_before_the_caller(), self.stream:
            yield

    def free_memory(self) -> int:
        """Return how many bytes can still be taken on the card, by CuPy's pool from what it keeps."""
        free, _ = self._cupy.cuda.runtime.memGetInfo()
        return int(free + self._cupy.get_default_memory_pool().free_bytes())

    def held_memory(self) -> int:
        """Return how many bytes of the card are taken, by whomever."""
        _, total = self._cupy.cuda.runtime.memGetInfo()
        return int(total - self.free_memory())

    def release(self) -> None:
        """Give what CuPy's pool keeps back to the card."""
        self._cupy.get_default_memory_pool().free_all_blocks()

    def synchronize(self) -> None:
        """Wait for its stream."""
        self.stream.synchronize()

    def empty(self, shape: Sequence[int], dtype: Any) -> Array:
        """Allocate, from CuPy's memory pool."""
        with self._current():
            return self._cupy.empty(tuple(shape), dtype)

    def adopt(self, x: Any) -> Array:
        """Return x as a CuPy array: itself, a view of a CUDA tensor through DLPack, or an upload of a numpy array.

        Raises:
            PidSamplerError: x lies on another GPU, or is no array; or another GPU is the current one.
        """
        self._check_current()
        try:
            found = self._adopted(x)
        except (TypeError, ValueError, BufferError, RuntimeError) as error:
            raise ConfigError(f"{type(x).__name__} cannot be read as a CUDA array: {error}") from error
        self._check_place(found)
        return found

    def _adopted(self, x: Any) -> Array:
        if isinstance(x, self._cupy.ndarray):
            return x
        if self.owns(x) and not isinstance(x, np.ndarray):
            return self._cupy.from_dlpack(x)
        if not isinstance(x, np.ndarray):
            x = np.from_dlpack(x) if hasattr(x, "__dlpack__") else np.asarray(x, np.float32)
        return self._cupy.asarray(x)

    def to_host(self, x: Array) -> NDArray[Any]:
        """Return a copy in host memory, by one download after what came before."""
        with self.active():
            copy: NDArray[Any] = x.get()
        return copy

    def write(self, x: Array, out: Array) -> None:
        """out = x in out's element type, rounded."""
        out[...] = x

    def dtype(self, x: Array) -> Any:
        """Return the element type of an array."""
        return x.dtype

    def writable(self, x: Array) -> bool:
        """Return whether an array is C-contiguous; all are writable."""
        return bool(x.flags.c_contiguous)

    def pointer(self, x: Array) -> int:
        """Return the address of the first element."""
        return int(x.data.ptr)

    @moved.keywords()
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
        """x = keep*x + scale*N, in place, in one launch."""
        x_kind, keeps = kind(x.dtype), keep != 0.0
        numbers = np.uint32(draw), np.uint32(stream), np.float32(keep), np.float32(scale)
        self.launch(
            "fill.cu",
            "pid_fill",
            flags=lambda vector: definitions(x=x_kind, keep=keeps, vector=vector),
            tensors=[x],
            arguments=(_size(x), self._on_device(seeds), x, *numbers),
            threads=-(-int(_size(x)) // group(x_kind)),
        )

    @moved.keywords()
    def step(
        self, row: Row, x: Array, *, m: Array, saved: Sequence[Array], seeds: Sequence[int], copy: Array | None = None
    ) -> None:
        """Do one row of a table, in place, in one launch."""
        read = [saved[slot] for slot in slots_read(row)]
        self._row(row, x, m, x, read, [saved[slot] for slot, _ in row.saves], seeds, copy)

    @moved.keywords()
    def predict_x0(self, row: Row, x: Array, *, m: Array, out: Array) -> None:
        """out = clip(p*x + q*m)."""
        alone = Row(row.t, row.t_next, b=1.0, p=row.p, q=row.q, clip=row.clip)
        self._row(alone, x, m, out, [], [], ())

    def _row(
        self,
        row: Row,
        x: Array,
        m: Array,
        out: Array,
        read: Sequence[Array],
        written: Sequence[Array],
        seeds: Sequence[int],
        copy: Array | None = None,
    ) -> None:
        for other in (*read, *written, out):
            if other.dtype != x.dtype:
                raise ConfigError(f"a saved tensor or result is {other.dtype}, expected {x.dtype} as the state")
        tensors = [x, m, out, *read, *written, *([] if copy is None else [copy])]
        cast = -1 if copy is None else kind(copy.dtype)
        variant = StepVariant.of(row, x=kind(x.dtype), m=kind(m.dtype), cast=cast)

        def padded(some: Sequence[Array]) -> list[Any]:
            return [*some, *[NULL] * (MOST_SLOTS - len(some))]

        arguments = (
            *(_size(x), self._on_device(seeds) if variant.draws else NULL, x, m),
            *padded(read),
            out,
            *padded(written),
            *(NULL if copy is None else copy, variant.pack(row)),
        )
        self.launch(
            "step.cu",
            "pid_step",
            flags=lambda vector: replace(variant, vector=vector).flags,
            tensors=tensors,
            arguments=arguments,
            threads=-(-int(_size(x)) // variant.group),
        )

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
        """Launch a kernel, the only launch there is: check what CuPy does not, and keep the caller's order of work.

        See `Launcher.launch` for the arguments.

        Raises:
            PidSamplerError: An array is not on the device, not contiguous or aligned, of another shape, or two overlap.
        """
        self._check(tensors, others)
        images = tensors[0].shape[0]
        if images == 0 or threads == 0:
            return
        if images > _MOST_IMAGES:
            raise ConfigError(f"a batch of {images} images is more than the {_MOST_IMAGES} of a launch: pass fewer")
        starts = [t.data.ptr for t in tensors] + [t.nbytes // images for t in tensors if images > 1]
        key = name, flags(all(start % 16 == 0 for start in starts))
        if key not in self._kernels:
            module = self._cupy.RawModule(code=source(file), options=(*OPTIONS, *key[1]))
            self._kernels[key] = module.get_function(name)
        kernel = self._kernels[key]
        blocks = min(-(-threads // _THREADS), 1 << 20)
        with self.active():
            kernel((blocks, images), (_THREADS,), arguments)

    def _check(self, tensors: Sequence[Array], others: Sequence[Array]) -> None:
        spans = []
        for k, x in enumerate((*tensors, *others)):
            if not isinstance(x, self._cupy.ndarray):
                raise ConfigError(f"expected a CuPy array, found {type(x).__name__}: pass it through adopt()")
            if k < len(tensors) and x.shape != tensors[0].shape:
                raise ConfigError(f"one row takes arrays of one shape, found {x.shape} and {tensors[0].shape}")
            if not x.flags.c_contiguous:
                raise ConfigError(f"an array of shape {x.shape} is not contiguous: pass cupy.ascontiguousarray(x)")
            self._check_place(x)
            if x.data.ptr % x.dtype.itemsize:
                raise ConfigError(
                    f"an array of {x.dtype} begins at {x.data.ptr:#x}, not at a whole element: pass a copy"
                )
            spans.append((x.data.ptr, x.data.ptr + x.nbytes))
        spans.sort()
        for (start, stop), (other, other_stop) in pairwise(spans):
            if other < stop and (start, stop) != (other, other_stop):
                raise ConfigError("two arrays of one row overlap in part: each must be its own, or the same memory")

    def _on_device(self, seeds: Sequence[int]) -> Array:
        """The seeds as an array on the device, uploaded once."""
        key = tuple(int(seed) for seed in seeds)
        if key not in self._seeds:
            self._seeds.clear()
            with self._current():
                self._seeds[key] = self._cupy.asarray(np.array(key, np.uint64))
        return self._seeds[key]

    def _check_place(self, x: Array) -> None:
        if x.device.id != self.device_id:
            raise ConfigError(
                f"an array is on GPU {x.device.id}, expected GPU {self.device_id}, which this process samples on: copy "
                f"it there, or let the process see one GPU, by CUDA_VISIBLE_DEVICES={x.device.id}"
            )

    def _check_current(self) -> None:
        current = self._cupy.cuda.runtime.getDevice()
        if current != self.device_id:
            raise DeviceError(
                f"GPU {current} is CuPy's current one, but this process samples on GPU {self.device_id}, which was at "
                f"first: call it inside `with cupy.cuda.Device({self.device_id})`, or let the process see one GPU, by "
                f"CUDA_VISIBLE_DEVICES={current}"
            )

    def _current(self) -> Any:
        """Its stream, which CuPy makes its current one where the GPU is the current one too."""
        self._check_current()
        return self.stream

    @contextmanager
    def _after_and_before_the_caller(self) -> Iterator[None]:
        current = self._cupy.cuda.get_current_stream()
        shared = current.ptr == self.stream.ptr
        if not shared:
            self.stream.wait_event(current.record(self._event()))
        yield
        if not shared:
            current.wait_event(self.stream.record(self._event()))

    def _event(self) -> Any:
        return self._cupy.cuda.Event(disable_timing=True)


def _size(x: Array) -> np.uint64:
    return np.uint64(np.prod(x.shape[1:], dtype=np.int64))


def _import_cupy() -> Any:
    try:
        import cupy
    except ImportError as error:
        raise MissingDependencyError(f"{missing_extra('cupy', 'cuda13')}, or [cuda12] for an older driver") from error
    try:
        count = cupy.cuda.runtime.getDeviceCount()
    except RuntimeError as error:  # CuPy's own type derives from it
        raise DeviceError(f"no GPU can be used: {error}") from error
    if count == 0:
        raise DeviceError("no GPU can be used: the driver finds none")
    return cupy
