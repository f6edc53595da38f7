"""Builds the CPU's compiled library, kernels/host.c, when the package is installed, and in a checkout by hand:

    python hatch_build.py

It takes the C compiler that works (CC, else cc, gcc, clang), else zig's from PyPI. Without any, or for another kind of
processor, the package is installed without the library: numpy does the same work, with the same bits.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

try:
    from hatchling.builders.hooks.plugin.interface import BuildHookInterface
except ModuleNotFoundError:  # by hand
    BuildHookInterface = object

ROOT = Path(__file__).resolve().parent
NAME = {"win32": "_host.dll", "darwin": "_host.dylib"}.get(sys.platform, "_host.so")  # as pidsampler/native has it
X86 = {"sse2": "-msse2", "avx2": "-mavx2 -mfma", "avx512": "-mavx512f -mfma"}
FORMS = {"x86_64": X86, "amd64": X86, "aarch64": {"neon": ""}, "arm64": {"neon": ""}}
# Products and sums stay apart, so that every compiler and processor gives numpy's bits, whatever flags CC has.
FLAGS = (
    *("-std=gnu11", "-O3", "-funroll-loops", "-fvisibility=hidden"),
    *("-fno-fast-math", "-ffp-contract=off", "-fno-math-errno", "-fno-trapping-math"),
)
PIC = () if sys.platform == "win32" else ("-fPIC", "-pthread")

# Run on what was built, by itself: the noise of each form that runs here must have these bits. So a compiler that
# rounds in its own way is found out now.
CHECK = """
import ctypes, sys, zlib
library = ctypes.CDLL(sys.argv[1])
out = (ctypes.c_float * 4099)()
u32, u64 = ctypes.c_uint32, ctypes.c_uint64
for form in range(4):
    if library.pid_forms() >> form & 1:
        library.pid_fill(u32(form), out, u64(4099), u64(5), u64(1 << 63 | 7), u32(3), u32(1))
        if zlib.crc32(bytes(out)) != 0xFA42CD30:
            sys.exit(f"form {form} gives other bits: {zlib.crc32(bytes(out)):#x}")
"""


def build(target: Path) -> str:
    """Compile the library to a path, and return what was done; an old one is not left there."""
    with contextlib.suppress(OSError):  # on Windows one that is in use stays
        target.unlink(missing_ok=True)
    forms = _forms()
    if forms is None:
        return f"no compiled library: none is written for {platform.machine()}, numpy does the work"
    tried = []
    for compiler in _compilers():
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder, NAME)
            try:
                _compile(compiler, forms, made)
                _run([sys.executable, "-c", CHECK, str(made)], made.parent)
                _place(made, target)
            except (OSError, subprocess.SubprocessError) as error:
                said = getattr(error, "stderr", None) or str(error)
                tried.append(f"{shlex.join(compiler)}: {said.strip()}")
                continue
        return f"compiled library for {', '.join(forms)}, by {shlex.join(compiler)}: {target}"
    return "\n".join(["no compiled library, numpy does the work:", *(tried or ["no C compiler was found"])])


def _forms() -> dict[str, str] | None:
    """Return the forms for this processor, and their flags; None for another, and for a Python of 32 bits."""
    return FORMS.get(platform.machine().lower()) if sys.maxsize > 2**32 else None


def _compilers() -> list[list[str]]:
    if os.environ.get("CC"):
        return [shlex.split(os.environ["CC"])]
    found = [[path] for name in ("cc", "gcc", "clang") if (path := shutil.which(name))]
    return found + ([[sys.executable, "-m", "ziglang", "cc"]] if importlib.util.find_spec("ziglang") else [])


def _works(compiler: list[str]) -> bool:
    """Return whether a compiler makes a library at all: macOS has a cc that does not, and gcc may lack C's headers."""
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder, "try.c")
        source.write_text("#include <math.h>\n#include <stdint.h>\n#include <string.h>\nint pid_try;\n")
        try:
            _run([*compiler, "-shared", *PIC, str(source), "-o", str(Path(folder, NAME))], Path(folder))
        except (OSError, subprocess.SubprocessError):
            return False
    return True


def _place(made: Path, target: Path) -> None:
    """Put the library in place in one go: another installation, or a process that has it loaded, never sees a part."""
    handle, name = tempfile.mkstemp(dir=target.parent, prefix=NAME)
    os.close(handle)
    part = Path(name)
    try:
        shutil.copyfile(made, part)
        part.chmod(0o644)
        part.replace(target)
    finally:
        part.unlink(missing_ok=True)


def _compile(compiler: list[str], forms: dict[str, str], target: Path) -> None:
    run = partial(_run, folder=target.parent)
    common = [*compiler, *FLAGS, *PIC, str(ROOT / "kernels" / "host.c")]
    jobs = {target.with_name("main.o"): ["-c"]}
    for form, flag in forms.items():
        for real in ("float", "double"):
            flags = ["-c", f"-DPID_FORM={form}", f"-DPID_REAL={real}", f"-DPID_IS_{real.upper()}", *flag.split()]
            jobs[target.with_name(f"{form}_{real}.o")] = flags
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        list(pool.map(lambda job: run([*common, *job[1], "-o", str(job[0])]), jobs.items()))
    run([*compiler, "-shared", *PIC, *map(str, jobs), "-o", str(target)])


def _run(command: list[str], folder: Path) -> None:
    """Run a command; zig's cache, of 60 MB, lies in the folder and not in the user's home, which may be read-only."""
    environment = {**os.environ, "ZIG_GLOBAL_CACHE_DIR": str(folder / "zig")}
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=600, env=environment)


class CustomBuildHook(BuildHookInterface):
    """Puts the library into the wheel, whose tag then names the platform, or into the checkout if that is installed."""

    def dependencies(self) -> list[str]:
        """Return a compiler where none works; one that CC names is the only one."""
        known = _forms() is not None and sys.platform in ("linux", "darwin", "win32")
        return ["ziglang>=0.13"] if known and not os.environ.get("CC") and not any(map(_works, _compilers())) else []

    def initialize(self, version: str, build_data: dict) -> None:
        """Build the library."""
        inside = Path("pidsampler", "native", NAME)
        self._folder = tempfile.mkdtemp()
        target = ROOT / inside if version == "editable" else Path(self._folder, NAME)
        self.app.display_info(build(target))
        if target.exists():
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{sysconfig.get_platform().replace('-', '_').replace('.', '_')}"
            if version != "editable":
                build_data["force_include"][str(target)] = inside.as_posix()

    def finalize(self, version: str, build_data: dict, artifact_path: str) -> None:
        """Remove what is in the wheel now."""
        shutil.rmtree(self._folder, ignore_errors=True)


if __name__ == "__main__":
    made = ROOT / "pidsampler" / "native" / NAME
    print(build(made))
    sys.exit(not made.exists())
