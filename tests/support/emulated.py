"""The kernels built by g++ from the files that the wheel ships, called as a launch would call them."""

import ctypes
import os
import subprocess
from pathlib import Path

import numpy as np

from pidsampler.backends.kernels import KINDS, source

TESTS = Path(__file__).parent
DTYPES = {number: dtype for dtype, number in KINDS.items()}
COMMAND = ["g++", "-std=c++17", "-O1", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-Wno-unknown-pragmas"]


def built(folder, name, text):
    """Compile C++ text to a shared library and load it; one of this name that another process built is taken."""
    path = folder / f"{name}.so"
    if not path.exists():
        mine = f"{name}-{os.getpid()}"
        (folder / f"{mine}.cpp").write_text(text)
        command = [*COMMAND, "-shared", "-fPIC", f"-I{TESTS}", f"{mine}.cpp", "-o", f"{mine}.so"]
        subprocess.run(command, cwd=folder, check=True)
        (folder / f"{mine}.so").replace(path)
    return ctypes.CDLL(path)


STEP = """
extern "C" void step_{k}(unsigned blocks, unsigned images, unsigned threads, pid_u64 n, const pid_u64* seeds,
        const void* x, const void* m, const void* f0, const void* f1, const void* f2, const void* f3, const void* f4,
        const void* f5, void* out, void* t0, void* t1, void* t2, void* t3, void* t4, void* t5, void* cast,
        const void* row) {{
    const void* const from[PID_MOST_SLOTS] = {{f0, f1, f2, f3, f4, f5}};
    void* const to[PID_MOST_SLOTS] = {{t0, t1, t2, t3, t4, t5}};
    launch(blocks, images, threads, [&] {{
        pid_step_body<{flags}>(n, seeds, x, m, from, out, to, cast, *static_cast<const {row}*>(row));
    }});
}}
extern "C" unsigned size_{k}() {{ return sizeof({row}); }}
"""


def step_library(folder, variants):
    """Build `pid_step` for some variants; they are called by their place in the list."""
    text = '#include "cuda_emulation.h"\n' + source("step.cu")
    for k, v in enumerate(variants):
        flags = (v.x, v.m, v.reads_x, v.clip, v.slots, v.saves, v.draws, v.cast, v.vector)
        row = f"PidRow<{v.slots}, {v.saves}, {v.draws}>"
        text += STEP.format(k=k, flags=", ".join(str(int(flag)) for flag in flags), row=row)
    return built(folder, "step", text)


def pointers(*arrays):
    """Addresses as ctypes wants them; None is a null pointer."""
    return [ctypes.c_void_p(None if a is None else a.ctypes.data) for a in arrays]


def call(function, grid, n, *arguments):
    """Launch: grid is (blocks, images, threads); numbers are passed as C ints and floats, arrays by address."""
    converted = [ctypes.c_uint(g) for g in grid] + ([] if n is None else [ctypes.c_uint64(n)])
    for a in arguments:
        if isinstance(a, float):
            converted.append(ctypes.c_float(a))
        elif isinstance(a, int):
            converted.append(ctypes.c_uint(a))
        else:
            converted += pointers(a)
    function(*converted)


class Guarded:
    """An array in poisoned memory with guard words on both sides, `shift` elements past a multiple of 16 bytes."""

    def __init__(self, values, shift=0):
        values = np.asarray(values)
        size, item = values.nbytes, values.itemsize
        self._memory = np.full(size + 96, 0xA5, np.uint8)
        start = -self._memory.ctypes.data % 16 + 32 + shift * item
        self._inside = slice(start, start + size)
        self.array = self._memory[self._inside].view(values.dtype).reshape(values.shape)
        self.array[...] = values

    def check(self):
        """Whether nothing was written outside."""
        outside = np.delete(self._memory, np.r_[self._inside])
        assert (outside == 0xA5).all()
