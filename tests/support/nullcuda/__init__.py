"""ONNX Runtime's real CUDA provider over a CUDA runtime that does nothing: see docs/null-cuda.md.

The libraries are built by g++ for the onnxruntime-gpu that is installed: libcudart from runtime.cpp, the others as
stubs of the functions that the provider asks for, which note their name and return success.
"""

import ctypes
import importlib.util
import re
import shutil
import subprocess
from collections import Counter, defaultdict
from functools import cache
from pathlib import Path

import numpy as np

SOURCE = Path(__file__).parent / "runtime.cpp"
# As onnxruntime reads them: the kernels of attention that are its own, since cuDNN's stop at its graphs.
ENVIRONMENT = {"ORT_ENABLE_CUDNN_FLASH_ATTENTION": "0"}
_EVENT = np.dtype(
    [("what", "u8"), ("name", "u8"), ("stream", "u8"), ("bytes", "u8"), ("grid", "u4", 3), ("block", "u4")]
)
_FILE = re.compile(r"lib(\w+)\.so\.(\d+)")
_HEAD = '#include <cstddef>\nextern "C" void nullcuda_note(const char*, const char*);\n'
_NOTED = '{{ nullcuda_note("library", "{name}"); {rest}return 0; }}\n'


def missing():
    """Return why it cannot be had here, or None."""
    if provider() is None:
        return "onnxruntime-gpu is not installed: the tests over a null CUDA runtime are a stage of .ci/run"
    if shutil.which("g++") is None or shutil.which("nm") is None:
        return "no g++ or no nm to build a null CUDA runtime with"
    return (
        "an NVIDIA driver is here, which a null CUDA runtime would hide from the other tests" if _has_driver() else None
    )


def provider():
    """Return the path of the installed CUDA provider, or None; onnxruntime is not imported."""
    spec = importlib.util.find_spec("onnxruntime")
    folders = (spec and spec.submodule_search_locations) or ()
    found = [Path(folder, "capi", "libonnxruntime_providers_cuda.so") for folder in folders]
    return next((path for path in found if path.is_file()), None)


@cache
def _has_driver():
    try:
        ctypes.CDLL("libcuda.so.1")
    except OSError:
        return False
    return True


def needed(path):
    """Return the CUDA libraries that a provider needs, as {soname: functions}."""
    listed = subprocess.run(["nm", "-D", "--undefined-only", path], capture_output=True, text=True, check=True).stdout
    libraries = defaultdict(set)
    for name, _, soname in (line.split()[-1].partition("@") for line in listed.splitlines()):
        if _FILE.fullmatch(soname.lstrip("@")) and name.startswith(("cu", "__cuda")):
            libraries[soname.lstrip("@")].add(name)
        elif re.match("cu[A-Z]", name):  # of the driver, which has no versions
            libraries["libcuda.so.1"].add(name)
    linked = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    for soname in re.findall(r"\[(libcu\w+\.so\.\d+)\]", linked):
        libraries[soname] |= set()
    if not libraries["libcudnn.so.9"]:  # loaded by name when it is needed
        text = path.read_bytes()
        libraries["libcudnn.so.9"] = {n.decode() for n in re.findall(rb"\0(cudnn[A-Z]\w+)(?=\0)", text)}
    return {soname: sorted(names) for soname, names in libraries.items()}


def stub(name, major):
    """Return C++ of a library's function that notes its name and does nothing else."""
    if name in ("cudnnGetVersion", "cudnnGetCudartVersion"):
        return f'extern "C" size_t {name}() {{ return {"91900" if name == "cudnnGetVersion" else f"{major}000"}; }}\n'
    if name.endswith(("ErrorString", "StatusName", "StatusString")):
        return f'extern "C" const char* {name}(...) {{ return "of the null CUDA runtime"; }}\n'
    if "Create" in name:
        rest, arguments = "if (made) *made = (void*)0x77; ", "void** made, ..."
        if name == "cudnnBackendCreateDescriptor":
            arguments = "int, void** made"
        return f'extern "C" int {name}({arguments}) ' + _NOTED.format(name=name, rest=rest)
    if name == "cublasGetMathMode":
        return f'extern "C" int {name}(void*, int* mode) ' + _NOTED.format(name=name, rest="*mode = 0; ")
    return f'extern "C" int {name}(...) ' + _NOTED.format(name=name, rest="")


def built(folder):
    """Build the libraries for the provider that is installed, and return their paths in the order to load them."""
    libraries = needed(provider())
    runtime = next(soname for soname in libraries if soname.startswith("libcudart"))
    major = int(runtime.rpartition(".")[2])
    paths, jobs = [], []
    for soname in sorted(libraries, key=lambda soname: soname != runtime):
        text = folder / f"{soname}.cpp"
        if soname == runtime:
            text.write_text(SOURCE.read_text("utf-8"), "utf-8")
        else:
            text.write_text(_HEAD + "".join(stub(name, major) for name in libraries[soname]), "utf-8")
        # The provider asks for its functions by version, whose name is the library's.
        (folder / f"{soname}.map").write_text(f"{soname} {{ global: *; }};\n")
        command = [
            "g++",
            "-std=c++17",
            "-O1",
            "-shared",
            "-fPIC",
            "-w",
            f"-DCUDA_MAJOR={major}",
            text.name,
            "-o",
            soname,
        ]
        command += [f"-Wl,-soname,{soname}", f"-Wl,--version-script={soname}.map"]
        jobs.append(subprocess.Popen(command, cwd=folder))
        paths.append(folder / soname)
    assert [job.wait() for job in jobs] == [0] * len(jobs)
    return paths


class Runtime:
    """The libraries in this process, where the provider finds them by their names, and what was asked of them."""

    def __init__(self, folder):
        self._libraries = [ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL) for path in built(folder)]
        self._cudart = self._libraries[0]
        for name in ("events", "held", "peak", "pinned"):
            getattr(self._cudart, f"nullcuda_{name}").restype = ctypes.c_size_t
        self._names = {}

    def events(self):
        """Return all that was asked since `clear`, as (what, name, stream, bytes, grid, block)."""
        count = ctypes.c_size_t()
        start = self._cudart.nullcuda_events(ctypes.byref(count))
        if count.value == 0:
            return []
        found = np.frombuffer(ctypes.string_at(start, count.value * _EVENT.itemsize), _EVENT)
        return [
            (self._text(what), self._text(name), stream, size, tuple(grid), block)
            for what, name, stream, size, grid, block in found.tolist()
        ]

    def counts(self):
        """Return how often each kind was asked since `clear`."""
        return Counter(what for what, *_ in self.events())

    def clear(self):
        """Forget what was asked, and begin the peak of device memory anew."""
        self._cudart.nullcuda_clear()

    def allocate(self, size):
        """Return the address of device memory."""
        address = ctypes.c_void_p()
        assert self._cudart.cudaMalloc(ctypes.byref(address), ctypes.c_size_t(size)) == 0
        return address.value

    @property
    def held(self):
        """Bytes of device memory that are allocated."""
        return self._cudart.nullcuda_held()

    @property
    def peak(self):
        """Most bytes of device memory since `clear`."""
        return self._cudart.nullcuda_peak()

    @property
    def pinned(self):
        """Bytes of pinned host memory that are allocated."""
        return self._cudart.nullcuda_pinned()

    def _text(self, address):
        if address not in self._names:
            self._names[address] = ctypes.string_at(address).decode()
        return self._names[address]
