"""Machine code of the row kernels without a GPU: NVRTC makes it, nvdisasm reads it, and instructions are counted."""

import re
import subprocess
import tempfile
from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import nvrtc
from variants import FULL

from pidsampler.backends.kernels import OPTIONS, definitions, source

ARCHITECTURES = (80, 90, 120)
_NAMES = ("float32", "float16", "bfloat16")  # as kernels/common.cuh numbers them
_BYTES = {0: 4, 1: 2, 2: 2, -1: 0}
_ROW = replace(FULL, slots=0, saves=0)
_MULTISTEP = replace(FULL, slots=2, saves=1)


def _rows():
    """The row kernels by name, as (file, kernel, flags): what a step of a table is on the card."""
    rows = {}
    for x, draws in product(range(3), (0, 1)):
        noise = "with noise" if draws else "without noise"
        rows[f"flow {_NAMES[x]} {noise}"] = "step.cu", "pid_step", replace(_ROW, x=x, m=x, draws=draws).flags
        rows[f"multistep {_NAMES[x]} {noise}"] = "step.cu", "pid_step", replace(_MULTISTEP, x=x, m=x, draws=draws).flags
    for m in (1, 2):
        flags = replace(_ROW, m=m, cast=m).flags
        rows[f"flow float32, {_NAMES[m]} network, with noise"] = "step.cu", "pid_step", flags
    rows["initial noise float32"] = "fill.cu", "pid_fill", definitions(x=0, keep=False, vector=True)
    return rows


ROWS = _rows()


@cache
def disassembler():
    """Return nvdisasm's path, of the wheel nvidia-cuda-nvdisasm, or None where that is not installed."""
    spec = find_spec("nvidia")
    folders = spec.submodule_search_locations if spec else []
    return next((path for folder in folders for path in Path(folder).glob("*/bin/nvdisasm")), None)


def missing():
    """Return why nothing can be counted here, or None."""
    if nvrtc.library() is None or disassembler() is None:
        return "a compiler or a disassembler is missing: pip install nvidia-cuda-nvrtc nvidia-cuda-nvdisasm"
    return None


def counted(row, architecture):
    """Return (instructions, elements) of a pass of a row kernel's loop by a full warp."""
    file, kernel, flags = ROWS[row]
    code = nvrtc.cubin(source(file), [*OPTIONS, *flags, "-ftz=true", f"-arch=sm_{architecture}"])
    with tempfile.NamedTemporaryFile(suffix=".cubin") as binary:
        binary.write(code)
        binary.flush()
        command = [disassembler(), "--print-code", binary.name]
        text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    path = full_path(*parsed(text, kernel))
    stored = 16 * sum("STG" in line and ".128" in line for line in path)
    flag = {name: int(value) for name, value in (f.removeprefix("-DPID_").split("=") for f in flags)}
    width = _BYTES[flag["X"]] * (1 + flag.get("SAVES", 0)) + _BYTES[flag.get("CAST", -1)]
    return len(path), stored // width


def parsed(text, kernel):
    """Return a kernel's instructions, and where each label stands among them."""
    code, labels = [], {}
    body = text.split(f".text.{kernel}:", 1)[1].split("//---", 1)[0]
    for line in body.splitlines():
        if label := re.match(r"\s*(\.L_x_\d+):", line):
            labels[label[1]] = len(code)
        elif found := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", line):
            code.append(found[1])
    return code, labels


def full_path(code, labels):
    """Return what a warp whose lanes all have a whole group executes in one pass of the main loop.

    That is the longest backward branch. A branch around what only the tail needs, which moves single elements, or a
    slow path, which is a call or yields infinity, is taken. Where lanes may differ, a warp executes both sides.
    """

    def target(k):
        found = re.search(r"\bBRA\b.*`\((\.L_x_\d+)\)", code[k])
        return labels.get(found[1]) if found else None

    ends = [(target(k), k) for k in range(len(code)) if (target(k) is not None and target(k) < k)]
    start, end = max(ends, key=lambda edge: edge[1] - edge[0])

    def rare(region):
        text = "\n".join(region)
        narrow = re.search(r"\b(LDG|STG)\.E(\.[US](8|16))? ", text) and ".128" not in text
        return bool(narrow) or "CALL" in text or ("+INF" in text and len(region) < 9)

    path, k = [], start
    while k <= end:
        path.append(code[k])
        to = target(k)
        # Forward only; what lies behind the loop is for the tail.
        k = to if to is not None and k < to <= end and rare(code[k + 1 : to]) else k + 1
    return path
