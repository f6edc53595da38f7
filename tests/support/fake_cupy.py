"""A stand-in for CuPy without a GPU: arrays in host memory, and RawModule compiled by g++ and really executed.

It has what the cupy backend uses and no more, keeps a log of streams, events and launches, and can be told to raise on
whatever would move data between host and device or allocate. Its arrays are numpy's without what CuPy's have not:
`cupy_names` knows, and test_stand_in.py holds all of it against the package.
"""

import ctypes
import hashlib
import itertools
import types

import cupy_names
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


_REAL = cupy_names.stored()


class ForbiddenError(AssertionError):
    """Something that the sampling loop must not do."""


class Array(np.ndarray):
    """numpy's array as CuPy's would be: what CuPy has not is not there, and no operation takes numpy's arrays too."""

    where = 0  # of the stand-in alone: the number of the GPU

    @property
    def data(self):
        return types.SimpleNamespace(ptr=_address(self))

    @property
    def device(self):
        return types.SimpleNamespace(id=self.where)

    def __dlpack_device__(self):
        return 2, self.where

    def __array_finalize__(self, other):
        self.where = getattr(other, "where", 0)

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **more):
        if ufunc.__name__ not in _REAL["names"][""]:
            return NotImplemented
        for x in (*inputs, *out):
            if isinstance(x, np.ndarray) and not isinstance(x, Array):
                raise TypeError(f"Unsupported type {type(x)}")
        if out:
            more["out"] = tuple(x.view(np.ndarray) for x in out)
        plain = [x.view(np.ndarray) if isinstance(x, Array) else x for x in inputs]
        found = getattr(ufunc, method)(*plain, **more)
        if out:
            return out[0]
        return found.view(type(self)) if isinstance(found, np.ndarray) else found

    def __array_function__(self, function, kinds, arguments, more):
        if function.__name__ not in _REAL["names"][""]:
            return NotImplemented
        return super().__array_function__(function, kinds, arguments, more)


def _address(array):
    return np.ndarray.ctypes.__get__(array).data


def _missing(name):
    def missing(self):
        raise AttributeError(f"'ndarray' object has no attribute {name!r}")

    return property(missing)


def _checked(name, signature):
    def method(self, *arguments, **more):
        signature.bind(*arguments, **more)
        return getattr(np.ndarray, name)(self, *arguments, **more)

    return method


for _name in dir(np.ndarray):
    _place = f"ndarray.{_name}"
    if _name not in _REAL["names"]["ndarray"]:
        setattr(Array, _name, _missing(_name))
    elif _place in _REAL["signatures"] and _name not in vars(Array):
        setattr(Array, _name, _checked(_name, cupy_names.signature(_REAL["signatures"][_place])))


class FakeCupy(types.ModuleType):
    """`sys.modules["cupy"]` for a test. What it adds to CuPy, for the tests alone, is named in `OWN`."""

    OWN = frozenset({"seen", "forbidden", "compiled", "free", "capability"})

    def __init__(self, folder, devices=1):
        super().__init__("cupy")
        self.seen, self.forbidden, self.compiled = [], set(), []
        self.free, self.capability = 70 * 10**9, "90"
        self._folder, self._libraries = folder, {}
        fake, pointers = self, itertools.count(0x1000)

        def note(what):
            if what in fake.forbidden:
                raise ForbiddenError(what)
            fake.seen.append(what)

        class ndarray(Array):  # noqa: N801
            def get(self):
                note("download")
                return np.array(self)

        class Stream:
            def __init__(self, *, non_blocking=False):
                self.ptr, self.is_non_blocking, self.device_id = next(pointers), non_blocking, current.id

            def __enter__(self):
                if self.device_id != current.id:
                    raise RuntimeError(
                        f"The device that the stream is created on ({self.device_id}) does not match with the current "
                        f"device ({current.id})"
                    )
                streams.append(self)
                return self

            def __exit__(self, *_):
                assert streams.pop() is self

            def record(self, event=None):
                fake.seen.append(("record", self.ptr))
                return event

            def wait_event(self, event):
                fake.seen.append(("wait", self.ptr))

            def synchronize(self):
                fake.seen.append(("synchronize", self.ptr))

        class Event:
            def __init__(self, *, disable_timing=False):
                pass

        class Device:
            def __init__(self, device=None):
                self.id = current.id if device is None else device

            @property
            def compute_capability(self):
                return fake.capability

            def use(self):
                current.id = self.id

        class RawModule:
            def __init__(self, code=None, *, options=()):
                self._code, self._options = code, options

            def get_function(self, name):
                library = fake._library(self._code, self._options, name)

                def kernel(grid, block, args):
                    assert grid[0] < 2**31
                    assert grid[1] < 2**16
                    converted = [fake._address(a) for a in args]
                    array = (ctypes.c_void_p * len(args))(*(address for address, _ in converted))
                    fake.seen.append(("launch", name, streams[-1].ptr))
                    library.run(ctypes.c_uint(grid[0]), ctypes.c_uint(grid[1]), ctypes.c_uint(block[0]), array)

                return kernel

        class MemoryPool:
            def free_bytes(self):
                return 0

            def free_all_blocks(self):
                note("release")

        def asarray(a):
            if isinstance(a, ndarray):
                return a
            note("upload")
            return np.array(a).view(ndarray)

        def empty(shape, dtype=float):
            note("allocation")
            return np.full(shape, 0x7B, np.dtype(dtype)).view(ndarray)

        def from_dlpack(array):
            return array.on_device.view(ndarray)

        def get_default_memory_pool():
            return pool

        def get_current_stream():
            return streams[-1]

        class runtime:  # noqa: N801
            @staticmethod
            def getDevice():  # noqa: N802
                return current.id

            @staticmethod
            def getDeviceCount():  # noqa: N802
                return devices

            @staticmethod
            def memGetInfo():  # noqa: N802
                return fake.free, 80 * 10**9

        current = types.SimpleNamespace(id=0)
        streams, pool = [Stream()], MemoryPool()
        self.ndarray, self.RawModule, self.asarray, self.empty, self.from_dlpack = (
            ndarray, RawModule, asarray, empty, from_dlpack
        )  # fmt: skip
        self.get_default_memory_pool = get_default_memory_pool
        self.cuda = types.SimpleNamespace(
            Stream=Stream, Event=Event, Device=Device, MemoryPool=MemoryPool, runtime=runtime,
            get_current_stream=get_current_stream,
        )  # fmt: skip

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
            value = np.array(_address(argument), np.uint64)
        elif isinstance(argument, np.ndarray):
            assert argument.size == 1
            value = argument
        elif isinstance(argument, np.generic):
            value = np.array(argument)
        else:
            raise ForbiddenError(f"{argument!r} would be passed as CuPy guesses")
        return value.ctypes.data, value
