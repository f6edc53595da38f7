"""The shared library that hatch_build.py makes of kernels/host.c: found, checked, and called by ctypes.

ctypes releases Python's lock for the time of a call, so threads call it at once. It begins no threads, and has no
state but in what it is given, such as a `Crew`.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..values import file_path, shown

NAME = {"win32": "_host.dll", "darwin": "_host.dylib"}.get(sys.platform, "_host.so")

PATH = Path(__file__).with_name(NAME)

FORMS = ("neon", "sse2", "avx2", "avx512")  # in the order of kernels/host.c; of those that run here the last is used

MOST_RESULTS, MOST_TERMS = 8, 16  # of one row, as in kernels/host.c

_addressof, _byref, _view = ctypes.addressof, ctypes.byref, ctypes.c_char.from_buffer

_PACKS = [Struct(f"2I{7 + n}Q").pack for n in range(MOST_RESULTS * MOST_TERMS)]  # of a row with so many arrays

_MOST = 1 << 21  # elements of a row that one call does: Ctrl-C waits for its end

_SCRATCH = 1 << 16  # PID_SCRATCH there

_VERSION = 4  # PID_VERSION in kernels/host.c


class HostResult(ctypes.Structure):
    """What a row makes, x or a saved tensor, by the numbers of arrays."""

    _fields_ = (
        *((name, ctypes.c_uint32) for name in ("out", "terms")),
        ("weight", ctypes.c_double * MOST_TERMS),
        ("source", ctypes.c_int32 * MOST_TERMS),
    )


class HostRow(ctypes.Structure):
    """One row, `PidHostRow` in kernels/host.c."""

    _fields_ = (
        *((name, ctypes.c_double) for name in ("p", "q", "clip")),
        *((name, ctypes.c_uint32) for name in ("results", "draws")),
        *((name, ctypes.c_void_p) for name in ("draw", "scale")),
        ("result", HostResult * MOST_RESULTS),
    )


class HostImage(ctypes.Structure):
    """A sampled tensor and the picture in its top left, `PidImage` in kernels/host.c."""

    _fields_ = (
        *((name, ctypes.c_void_p) for name in ("x", "out")),
        *((name, ctypes.c_uint64) for name in ("plane", "row", "height", "width")),
        ("limit", ctypes.c_float),
    )


Crew = ctypes.Array[ctypes.c_char]  # `PidCrew` in kernels/host_crew.h, where threads wait that help with rows


class Library:
    """A library that was loaded, and the form of its functions that is called.

    Args:
        library: The loaded library.
        form: One of `FORMS`, for a set of instructions.
    """

    def __init__(self, library: ctypes.CDLL, form: str) -> None:
        self.form = form
        number = ctypes.c_uint32
        long, pointer = ctypes.c_uint64, ctypes.c_void_p
        self._number = FORMS.index(form)
        self._fill, self._step = library.pid_fill, library.pid_step
        self._fill.argtypes, self._fill.restype = (number, pointer, long, long, long, number, number), None
        self._step.argtypes = (pointer, pointer, pointer)
        self._crew_size, self._crew, self._help, self._call = (
            getattr(library, name) for name in ("pid_crew_size", "pid_crew", "pid_help", "pid_call")
        )
        for function in (self._crew, self._help, self._call):
            function.argtypes, function.restype = (pointer,), None
        self._torch, self._image = library.pid_torch, library.pid_image
        self._torch.argtypes = (number, pointer, long, long, number)
        self._image.argtypes = (number, pointer, long, long, pointer)

    def fill(self, out: NDArray[np.float32], seed: int, *, draw: int, stream: int, start: int) -> bool:
        """Write noise as `noise.fill` does, whose numbers are checked; False if the array is none for it."""
        if not suits(out, np.dtype(np.float32)) or not out.flags.writeable or start + len(out) > 1 << 64:
            return False
        self._fill(self._number, address(out), len(out), start, seed, draw, stream)
        return True

    def pack(
        self,
        row: HostRow,
        arrays: Sequence[int],
        *,
        itemsize: int,
        seed: int,
        m: int,
        m_start: int = 0,
        stop: int,
        part: int,
    ) -> bytes:
        """Return what `step` is given, `PidHostStep` in kernels/host.c.

        Args:
            row: Row, which must live as long as what is returned is used.
            arrays: Addresses of x and saved tensors of one image, in the order of the row's numbers.
            itemsize: Bytes of an element: 4 or 8.
            seed: Seed of the image, below 2^64.
            m: Address of the network's output from element `m_start` on, in the state's type.
            m_start: Number of that element.
            stop: Number of the element to end before.
            part: Number of elements that a thread takes at a time, a multiple of 4.
        """
        at, wide = _addressof(row), itemsize == 8
        return _PACKS[len(arrays)](self._number, wide, at, seed, m, m_start, stop, part, _MOST, *arrays)

    def step(self, packed: bytes, done: ctypes.c_uint64, *, crew: Crew | None = None) -> bool:
        """Do some parts of a row.

        Args:
            packed: What `pack` returned.
            done: Number of the element to go on from, a multiple of 4. Threads that do one row share it.
            crew: Threads that help, but for those that sleep; they help with one row at a time.

        Returns:
            Whether more may be left.
        """
        return bool(self._step(crew, packed, _byref(done)))

    def crew(self) -> Crew:
        """Return a place for threads that are to `help`, which live no longer than the process."""
        made = ctypes.create_string_buffer(self._crew_size())
        self._crew(made)
        return made

    def help(self, crew: Crew) -> None:
        """Help with rows, for ever; return where the crew has seven threads that do."""
        self._help(crew)

    def call(self, crew: Crew) -> None:
        """Wake a crew's threads, as a row will soon be there: for 0.4 ms they do not sleep again."""
        self._call(crew)

    def torch(self, out: NDArray[np.float32], *, skipped: int, seed: int) -> bool:
        """Write PyTorch's noise, after so many words of its generator; False where numpy is to do it.

        Args:
            out: float32 (N,) of at least 16 elements, contiguous.
            skipped: Numbers to skip, below 2^64.
            seed: Seed, below 2^32.
        """
        return skipped < 1 << 64 and bool(self._torch(self._number, out.ctypes.data, len(out), skipped, seed))

    def image(self, x: NDArray[np.float32], out: NDArray[np.uint8], *, rows: slice, limit: float | None) -> bool:
        """Make rows of a picture; False if a value of theirs is not finite.

        Args:
            x: float32 (3, H, W), whose rows are contiguous.
            out: uint8 (height, width, 3), contiguous: the picture in the top left of x.
            rows: Which rows of `out` are made.
            limit: Threshold of specks in x's units; None leaves them.
        """
        plane, row = (stride // x.itemsize for stride in x.strides[:2])
        described = HostImage(x.ctypes.data, out.ctypes.data, plane, row, *out.shape[:2], limit or 0.0)
        scratch = None if limit is None else np.empty(_SCRATCH, np.float32)
        memory = None if scratch is None else scratch.ctypes.data
        return bool(self._image(self._number, ctypes.addressof(described), rows.start, rows.stop, memory))


def suits(array: NDArray[np.floating], dtype: np.dtype[np.floating]) -> bool:
    """Return whether an array is of a type, has one axis, and lies in memory as C's arrays do."""
    flags = array.flags
    return array.dtype == dtype and array.ndim == 1 and flags.c_contiguous and flags.aligned


def address(array: NDArray[Any]) -> int:
    """Return where an array's elements lie, as `array.ctypes.data` does in three times the time."""
    if array.flags.carray and array.size:
        return _addressof(_view(array))  # type: ignore[arg-type]
    return array.ctypes.data


def load(path: str | Path, form: str | None = None) -> Library:
    """Load a library and check that it is this version's.

    Args:
        path: Shared library that hatch_build.py made.
        form: One of `FORMS`; None is the best that this processor runs.

    Raises:
        PidSamplerError: The library cannot be loaded, is of another version, or has no such form for this processor.
    """
    path = file_path("path", path)
    try:
        library = ctypes.CDLL(str(path.resolve()))
        version, size, runs = library.pid_version(), library.pid_row_size(), library.pid_forms()
    except (OSError, AttributeError, ValueError) as error:
        raise ConfigError(f"{path.name} cannot be loaded: {error}") from error
    if (version, size) != (_VERSION, ctypes.sizeof(HostRow)):
        raise ConfigError(f"{path.name} is of version {version}, expected {_VERSION}: install pidsampler again")
    forms = [name for k, name in enumerate(FORMS) if runs >> k & 1]
    if form is None:
        form = forms[-1]
    if form not in forms:
        raise ConfigError(f"form={shown(form)} does not run on this processor, expected one of {', '.join(forms)}")
    return Library(library, form)


@cache
def built() -> Library | None:
    """Return the library that lies in this package; None if none was built, or it does not run here."""
    try:
        return load(PATH)
    except ConfigError:
        return None


def described() -> str:
    """Return in words which form does the work, and why where that is numpy."""
    if not PATH.exists():
        return "numpy: no compiled library is here"
    try:
        return f"compiled, {load(PATH).form}"
    except ConfigError as error:
        return f"numpy: {error}"
