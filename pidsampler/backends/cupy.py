"""The GPU backend: CuPy arrays, one launch a row, everything ordered on one stream of its own.

Work that came before on the caller's current CuPy stream is waited for, and that stream waits for ours, both on the
device by events; the host waits only where a result is downloaded. A loop in a caller's own hands needs no more: what
PyTorch does on its default stream is ordered with CuPy's default stream, which is the current one unless changed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, DeviceError, MissingDependencyError, ModelError, missing_extra
from ..image.blocks import Blocks
from ..image.lanczos import check_reduction, taps
from ..table import Row
from . import DLPACK_CUDA, NOT_FINITE, check_blend, despeckle_step
from .kernels import KINDS, OPTIONS, StepVariant, definitions, kind, slots_read, source

Array = Any  # cupy.ndarray

_THREADS = 256
_NULL = np.uint64(0)  # a pointer that the kernel does not read; CuPy would pass None as no argument at all


class CupyBackend:
    """CuPy arrays on the current CUDA device.

    Attributes:
        stream: The non-blocking stream of all its work, to share with ONNX Runtime.

    Raises:
        PidSamplerError: CuPy is not installed, or finds no GPU or driver that it can use.
    """

    name = "cupy"
    device = "cuda"
    state_types = tuple(KINDS)

    def __init__(self) -> None:
        self._cupy = _import_cupy()
        self.device_id: int = self._cupy.cuda.Device().id
        self.stream = self._cupy.cuda.Stream(non_blocking=True)
        self.stream_pointer: int = self.stream.ptr
        self._kernels: dict[tuple[str, tuple[str, ...]], Any] = {}
        self._seeds: dict[tuple[int, ...], Array] = {}

    @contextmanager
    def active(self) -> Iterator[None]:
        """Make its stream the current one of CuPy, after and before what the caller's does."""
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
        with self.stream:
            return self._cupy.empty(tuple(shape), dtype)

    def adopt(self, x: Any) -> Array:
        """Return x as a CuPy array: itself, a view of a CUDA tensor through DLPack, or an upload of a numpy array.

        Raises:
            PidSamplerError: x lies on another GPU, or is no array.
        """
        try:
            if isinstance(x, self._cupy.ndarray):
                return x
            if isinstance(x, np.ndarray):
                return self._cupy.asarray(x)
            if hasattr(x, "__dlpack_device__") and x.__dlpack_device__()[0] in DLPACK_CUDA:
                return self._cupy.from_dlpack(x)
            return self._cupy.asarray(np.from_dlpack(x) if hasattr(x, "__dlpack__") else np.asarray(x, np.float32))
        except (TypeError, ValueError, BufferError, RuntimeError) as error:
            raise ConfigError(f"{type(x).__name__} cannot be read as a CUDA array: {error}") from error

    def pointer(self, x: Array) -> int:
        """Return the address of the first element."""
        return int(x.data.ptr)

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
        """x = keep*x + scale*N, in place, in one launch."""
        flags = partial(definitions, x=kind(x.dtype), keep=keep != 0.0)
        numbers = np.uint32(draw), np.uint32(stream), np.float32(keep), np.float32(scale)
        self._launch("fill.cu", "pid_fill", flags, [x], (_size(x), self._on_device(seeds), x, *numbers))

    def step(
        self, row: Row, x: Array, m: Array, saved: Sequence[Array], seeds: Sequence[int], copy: Array | None = None
    ) -> None:
        """Do one row of a table, in place, in one launch."""
        read = [saved[slot] for slot in slots_read(row)]
        self._row(row, x, m, x, read, [saved[slot] for slot, _ in row.saves], seeds, copy)

    def predict_x0(self, row: Row, x: Array, m: Array, out: Array) -> None:
        """out = clip(p*x + q*m)."""
        alone = Row(row.t, row.t_next, b=1.0, p=row.p, q=row.q, clip=row.clip)
        self._row(alone, x, m, out, [], [], ())

    def image_to_tensor(self, image: Any, height: int, width: int) -> Array:
        """uint8 or uint16 (H, W, 3 or 4) -> float32 (1, 3, height, width) in -1..1, padded by reflection."""
        h, w, channels = image.shape
        pixels, x = self.adopt(np.ascontiguousarray(image)), self.empty((1, 3, height, width), np.float32)
        flags = partial(
            definitions,
            pixel=f"pid_u{8 * pixels.dtype.itemsize}",
            channels=channels,
            bgr=False,
            x=kind(x.dtype),
            despeckle=False,
        )
        sizes = tuple(map(np.uint32, (h, w, height, width)))
        self._launch("image.cu", "pid_to_tensor", flags, [x], (pixels, x, *sizes), threads=height * width)
        return x

    def tensor_to_image(self, x: Array, height: int, width: int, despeckle: float | None = None) -> NDArray[np.uint8]:
        """(1, 3, H, W) in -1..1 -> uint8 (height, width, 3) on the host, by one download; see `Backend`.

        Raises:
            PidSamplerError: The tensor holds NaN or infinity, or `despeckle` is not a number from 0 on.
        """
        step = despeckle_step(despeckle, height, width)
        size = height * width * 3
        with self.stream:  # the picture, and behind it the word that says whether something was not finite
            memory = self._cupy.empty(-(-size // 4) * 4 + 4, np.uint8)
            memory[-4:] = 0
        flags = partial(definitions, pixel="pid_u8", channels=3, bgr=False, x=kind(x.dtype), despeckle=step is not None)
        sizes = tuple(map(np.uint32, (height, width, *x.shape[2:])))
        arguments = (x, memory, *sizes, memory[-4:], np.float32(step or 0.0))
        self._launch("image.cu", "pid_to_image", flags, [x], arguments, threads=height * width)
        with self.stream:
            host = memory.get()
        if host[-4:].any():
            raise ModelError(NOT_FINITE)
        image: NDArray[np.uint8] = host[:size].reshape(height, width, 3)
        return image

    def reduce(self, x: Array, height: int, width: int, new_height: int, new_width: int) -> Array:
        """Reduce the top left (height, width) of x (1, 3, H, W) to (1, 3, new_height, new_width), in one launch.

        Raises:
            PidSamplerError: x is smaller than (height, width), or that is smaller than the new size.
        """
        check_reduction(x, height, width, new_height, new_width)
        if (new_height, new_width) == tuple(x.shape[2:]):
            return x
        result, tables = self.empty((1, 3, new_height, new_width), x.dtype), []
        for first, weights in (taps(height, new_height), taps(width, new_width)):
            with self.stream:
                tables += [self._cupy.asarray(first), self._cupy.asarray(weights), np.uint32(len(weights))]
        sizes = tuple(map(np.uint32, (*x.shape[2:], new_height, new_width)))
        flags = partial(definitions, x=kind(x.dtype))
        threads = new_height * new_width
        self._launch("reduce.cu", "pid_reduce", flags, [x], (x, result, *tables, *sizes), threads=threads)
        return result

    def blend(
        self, tile: Array, rows: Array, columns: Array, out: Array, top: int, left: int, fresh: tuple[int, int]
    ) -> None:
        """out += rows*columns*tile in the tile's place, in one launch; = where nothing was before."""
        check_blend(tile, rows, columns, out, top, left)
        if rows.dtype != np.float32 or columns.dtype != np.float32:
            raise ConfigError(f"weights are {rows.dtype} and {columns.dtype}, expected float32")
        _, planes, h, w = tile.shape
        x, m = kind(out.dtype), kind(tile.dtype)
        steps = w * tile.itemsize, out.shape[3] * out.itemsize, left * out.itemsize
        aligned = all(n % 16 == 0 for n in (out.data.ptr, columns.data.ptr, *steps))
        sizes = map(np.uint32, (*out.shape[2:], top, left, *fresh))
        arguments = (*map(np.uint32, (planes, h, w)), tile, rows, columns, out, *sizes)
        self._launch(
            "tile.cu",
            "pid_tile",
            lambda vector: definitions(x=x, m=m, vector=vector and aligned),
            [tile],
            arguments,
            threads=planes * h * -(-w // (4 if x == m == 0 else 8)),
            others=[rows, columns, out],
        )

    def block_means(self, x: Array, blocks: Blocks, powers: int = 1) -> NDArray[np.float64]:
        """Return means over blocks of clip(x, -1, 1), and of its squares: one launch, one download; see `Backend`.

        Raises:
            PidSamplerError: The picture holds NaN or infinity.
        """
        return self._colour(x, blocks, powers)

    def correct(self, x: Array, blocks: Blocks, gain: Any, grid: Any) -> NDArray[np.float64]:
        """x = gain*clip(x, -1, 1) + the grid's spline, in place, in one launch; return its block means; see `Backend`.

        Raises:
            PidSamplerError: The picture holds NaN or infinity.
        """
        means: NDArray[np.float64] = self._colour(x, blocks, 1, (gain, grid))[0]
        return means

    def _colour(
        self, x: Array, blocks: Blocks, powers: int, correction: tuple[Any, Any] | None = None
    ) -> NDArray[np.float64]:
        gain, grid = (np.ones(3), _NULL) if correction is None else correction
        if correction is not None:
            grid = self.adopt(np.ascontiguousarray(grid, np.float32))
        with self.stream:  # the sums, and behind them the word that says whether something was not finite
            sums = self._cupy.empty(powers * 3 * blocks.rows * blocks.columns + 1, np.int64)
            sums[:] = 0
        numbers = (*x.shape[2:], blocks.height, blocks.width, blocks.scale, blocks.rows, blocks.columns)
        variant = definitions(x=kind(x.dtype), correct=correction is not None, powers=powers)
        arguments = (x, *map(np.uint32, numbers), grid, *map(np.float32, gain), sums, sums[-1:])
        threads = blocks.rows * blocks.width * blocks.scale
        self._launch("colour.cu", "pid_colour", lambda vector: variant, [x], arguments, threads)
        with self.stream:
            host = sums.get()
        if host[-1]:
            raise ModelError(NOT_FINITE)
        means: NDArray[np.float64] = host[:-1].reshape(powers, 3, *blocks.shape) * 2.0**-32
        return means / blocks.areas(blocks.scale)

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
        variant = StepVariant.of(row, kind(x.dtype), kind(m.dtype), -1 if copy is None else kind(copy.dtype))
        arguments = (
            *(_size(x), self._on_device(seeds) if variant.draws else _NULL, x, m),
            *([*read, _NULL, _NULL, _NULL][:3]),
            out,
            *([*written, _NULL, _NULL, _NULL][:3]),
            *(_NULL if copy is None else copy, variant.pack(row)),
        )
        self._launch("step.cu", "pid_step", lambda vector: replace(variant, vector=vector).flags, tensors, arguments)

    def _launch(
        self,
        file: str,
        name: str,
        flags: Callable[..., tuple[str, ...]],
        tensors: Sequence[Array],
        arguments: tuple[Any, ...],
        threads: int | None = None,
        others: Sequence[Array] = (),
    ) -> None:
        """The only launch: checks what CuPy does not, and orders the kernel after and before the caller's stream.

        `flags(vector=)` are the compiler's, given whether every image of every tensor begins at a multiple of 16 bytes.
        `others` are arrays of other shapes than the tensors'.
        """
        self._check(tensors, others)
        images = tensors[0].shape[0]
        groups = -(-int(np.prod(tensors[0].shape[1:])) // 4) if threads is None else threads
        if images == 0 or groups == 0:
            return
        starts = [t.data.ptr for t in tensors] + [t.nbytes // images for t in tensors if images > 1]
        key = name, flags(vector=all(start % 16 == 0 for start in starts))
        if key not in self._kernels:
            module = self._cupy.RawModule(code=source(file), options=(*OPTIONS, *key[1]))
            self._kernels[key] = module.get_function(name)
        kernel = self._kernels[key]
        blocks = min(-(-groups // _THREADS), 1 << 20)
        with self.active():
            kernel((blocks, images), (_THREADS,), arguments)

    def _check(self, tensors: Sequence[Array], others: Sequence[Array]) -> None:
        spans = []
        for k, x in enumerate((*tensors, *others)):
            if not isinstance(x, self._cupy.ndarray):
                raise ConfigError(f"expected a CuPy array, found {type(x).__name__}: pass it through adopt()")
            if k < len(tensors) and x.shape != tensors[0].shape:
                raise ConfigError(f"arrays of shapes {x.shape} and {tensors[0].shape} in one row")
            if not x.flags.c_contiguous:
                raise ConfigError(f"an array of shape {x.shape} is not contiguous: pass cupy.ascontiguousarray(x)")
            if x.device.id != self.device_id:
                raise ConfigError(f"an array is on GPU {x.device.id}, expected GPU {self.device_id}")
            if x.data.ptr % x.dtype.itemsize:
                raise ConfigError(f"an array of {x.dtype} begins at {x.data.ptr:#x}, not at a whole element")
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
            with self.stream:
                self._seeds[key] = self._cupy.asarray(np.array(key, np.uint64))
        return self._seeds[key]

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
