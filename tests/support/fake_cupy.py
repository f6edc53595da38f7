"""A stand-in for CuPy without a GPU: arrays in host memory, and RawModule compiled by g++ and really executed.

It has what the cupy backend uses and no more, keeps a log of streams, events and launches, and can be told to raise on
whatever would move data between host and device or allocate.
"""

import ctypes
import hashlib
import itertools
import types

import emulated
import numpy as np

TRAMPOLINE = """
#include <utility>
template <typename... A, std::size_t... I>
void called(void (*kernel)(A...), void** p, std::index_sequence<I...>) {{
    kernel(*static_cast<std::remove_const_t<A>*>(p[I])...);
}}
template <typename... A>
void with(void (*kernel)(A...), void** p) {{ called(kernel, p, std::index_sequence_for<A...>()); }}
extern "C" void run(unsigned blocks, unsigned images, unsigned threads, void** p) {{
    launch(blocks, images, threads, [&] {{ with({name}, p); }});
}}
"""


class ForbiddenError(AssertionError):
    """Something that the sampling loop must not do."""


class FakeCupy(types.ModuleType):
    """`sys.modules["cupy"]` for a test."""

    def __init__(self, folder, devices=1):
        super().__init__("cupy")
        self.log, self.forbidden, self.compiled = [], set(), []
        self._folder, self._libraries = folder, {}
        fake, pointers = self, itertools.count(0x1000)

        def note(what):
            if what in fake.forbidden:
                raise ForbiddenError(what)
            fake.log.append(what)

        class ndarray(np.ndarray):  # noqa: N801
            where = 0

            @property
            def data(self):
                return types.SimpleNamespace(ptr=self.ctypes.data)

            @property
            def device(self):
                return types.SimpleNamespace(id=self.where)

            @property
            def __array_namespace__(self):  # numpy's arrays have it, CuPy's do not
                raise AttributeError("'ndarray' object has no attribute '__array_namespace__'")

            def __dlpack_device__(self):
                return 2, self.where

            def __array_finalize__(self, other):
                self.where = getattr(other, "where", 0)

            def get(self):
                note("download")
                return np.array(self)

        class Stream:
            def __init__(self, non_blocking=False):
                self.ptr, self.non_blocking = next(pointers), non_blocking

            def __enter__(self):
                streams.append(self)

            def __exit__(self, *_):
                assert streams.pop() is self

            def record(self, event=None):
                fake.log.append(("record", self.ptr))
                return event

            def wait_event(self, event):
                fake.log.append(("wait", self.ptr))

        class RawModule:
            def __init__(self, code, options=()):
                self.code, self.options = code, options

            def get_function(self, name):
                library = fake._library(self.code, self.options, name)

                def kernel(grid, block, args):
                    converted = [fake._address(a) for a in args]
                    array = (ctypes.c_void_p * len(args))(*(address for address, _ in converted))
                    fake.log.append(("launch", name, streams[-1].ptr))
                    library.run(ctypes.c_uint(grid[0]), ctypes.c_uint(grid[1]), ctypes.c_uint(block[0]), array)

                return kernel

        def asarray(x):
            if isinstance(x, ndarray):
                return x
            note("upload")
            return np.array(x).view(ndarray)

        def empty(shape, dtype):
            note("allocation")
            return np.full(shape, 0x7B, np.dtype(dtype)).view(ndarray)

        streams = [Stream()]
        runtime = types.SimpleNamespace(getDeviceCount=lambda: devices, memGetInfo=lambda: (self.free, 80 * 10**9))
        self.free, kept = 70 * 10**9, types.SimpleNamespace(free_bytes=lambda: 0)
        kept.free_all_blocks = lambda: note("release")
        self.get_default_memory_pool = lambda: kept
        event = lambda disable_timing: object()  # noqa: E731
        device = lambda: types.SimpleNamespace(id=0)  # noqa: E731
        self.ndarray, self.RawModule, self.asarray, self.empty = ndarray, RawModule, asarray, empty
        self.from_dlpack = lambda x: x.on_device.view(ndarray)
        self.cuda = types.SimpleNamespace(
            Stream=Stream, Event=event, Device=device, runtime=runtime, get_current_stream=lambda: streams[-1]
        )

    def _library(self, code, options, name):
        key = hashlib.sha256(repr((code, options, name)).encode()).hexdigest()[:16]
        if key not in self._libraries:
            self.compiled.append((name, options))
            flags = "".join(f"#define {o[2:].replace('=', ' ')}\n" for o in options if o.startswith("-D"))
            text = flags + '#include "cuda_emulation.h"\n' + code + TRAMPOLINE.format(name=name)
            self._libraries[key] = emulated.built(self._folder, f"k{key}", text)
        return self._libraries[key]

    def _address(self, argument):
        """As CuPy: arrays pass their pointer, numpy scalars and structs their bytes; it guesses for anything else."""
        if isinstance(argument, self.ndarray):
            value = np.array(argument.ctypes.data, np.uint64)
        elif isinstance(argument, np.ndarray):
            assert argument.size == 1
            value = argument
        elif isinstance(argument, np.generic):
            value = np.array(argument)
        else:
            raise ForbiddenError(f"{argument!r} would be passed as CuPy guesses")
        return value.ctypes.data, value
