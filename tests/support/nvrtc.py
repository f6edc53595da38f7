"""NVRTC from its wheel (nvidia-cuda-nvrtc), through ctypes: CUDA source to machine code without a GPU or a driver."""

import ctypes
import re
from functools import cache
from importlib.util import find_spec
from pathlib import Path


@cache
def library():
    """Return libnvrtc, or None where the wheel is not installed."""
    spec = find_spec("nvidia")
    folders = spec.submodule_search_locations if spec else []
    found = [path for folder in folders for path in Path(folder).glob("*/lib/libnvrtc.so.*")]
    return ctypes.CDLL(str(found[0])) if found else None


def compiled(text, options):
    """Compile a source; return {kernel: {"registers", "stack", "spills"}} and its PTX, or raise what NVRTC said."""
    nvrtc, program = library(), ctypes.c_void_p()
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None) == 0
    given = [*options, "--ptxas-options=-v"]
    result = nvrtc.nvrtcCompileProgram(program, len(given), (ctypes.c_char_p * len(given))(*map(str.encode, given)))
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetProgramLogSize(program, ctypes.byref(size))
    log = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetProgramLog(program, log)
    said = log.value.decode()
    if result != 0:
        raise RuntimeError(said)
    nvrtc.nvrtcGetPTXSize(program, ctypes.byref(size))
    ptx = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetPTX(program, ptx)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    usage = {}
    for part in said.split("Compiling entry function")[1:]:
        stack, stores, loads = map(int, re.search(r"(\d+) bytes stack frame, (\d+) .* stores, (\d+)", part).groups())
        registers = int(re.search(r"Used (\d+) registers", part)[1])
        usage[re.match(r" '(\w+)'", part)[1]] = {"registers": registers, "stack": stack, "spills": stores + loads}
    return usage, ptx.value.decode()


def together(text, variants, options):
    """Compile variants of a source, each its own list of -D options, in one go; return what `compiled` would for each.

    It takes half the time. The PTX is that of all.
    """
    kernels = re.findall(r"__global__ void __launch_bounds__\(\d+\)\s+(\w+)\(", text)
    parts = []
    for k, flags in enumerate(variants):
        macros = [flag.removeprefix("-D").split("=") for flag in flags] + [[name, f"{name}_{k}"] for name in kernels]
        parts += [f"#define {name} {value}" for name, value in macros]
        parts += [f"namespace variant_{k} {{", text, "}"]
        parts += [f"#undef {name}" for name, _ in macros]
    usage, ptx = compiled("\n".join(parts), options)
    assert len(usage) == len(variants) * len(kernels)
    return [({name: usage[f"{name}_{k}"] for name in kernels}, ptx) for k in range(len(variants))]


def cubin(text, options):
    """Compile a source to machine code of the architecture that the options name."""
    nvrtc, program, given = library(), ctypes.c_void_p(), [option.encode() for option in options]
    assert nvrtc.nvrtcCreateProgram(ctypes.byref(program), text.encode(), b"kernel.cu", 0, None, None) == 0
    assert nvrtc.nvrtcCompileProgram(program, len(given), (ctypes.c_char_p * len(given))(*given)) == 0
    size = ctypes.c_size_t()
    nvrtc.nvrtcGetCUBINSize(program, ctypes.byref(size))
    code = ctypes.create_string_buffer(size.value)
    nvrtc.nvrtcGetCUBIN(program, code)
    nvrtc.nvrtcDestroyProgram(ctypes.byref(program))
    return code.raw
