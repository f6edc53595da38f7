"""Count the memory that a step of PiD's network moves beside its products, by operator: no GPU is needed.

    pip install '.[export]' onnxruntime-gpu pytest && python bench/traffic.py [--side 2048] [-o FILE.csv]

ONNX Runtime's CUDA provider runs the graph over the tests' null CUDA runtime, so its fusions and choices are real. Each
node's inputs and outputs are counted once, in their types. The network has its full width, and two depths from which
the whole is extrapolated, since all blocks are alike. A bfloat16 network is counted with its sums in float32 too. It
takes about a gigabyte, and two minutes. bench/results/traffic.csv is what `-o` wrote with no other option.
"""

import argparse
import csv
import json
import math
import os
import sys
from collections import Counter
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT / "tests/support"), str(ROOT)]

import nullcuda  # noqa: E402

from pidsampler.export.build import TYPES  # noqa: E402
from pidsampler.export.layers import TARGETS, Form  # noqa: E402
from pidsampler.export.network import build_network  # noqa: E402
from pidsampler.export.published import get_published  # noqa: E402
from pidsampler.export.tensors import Stored  # noqa: E402
from pidsampler.onnx.contract import NETWORK  # noqa: E402
from pidsampler.onnx.providers import import_onnxruntime  # noqa: E402

# What ONNX Runtime does by a pass of its own over a whole tensor, element by element.
ELEMENTWISE = {
    "Add",
    "Sub",
    "Mul",
    "Div",
    "Sqrt",
    "Sigmoid",
    "Cast",
    "QuickGelu",
    "Gelu",
    "Silu",
    "Swish",
    "Neg",
    "Exp",
    "Floor",
    "RotaryEmbedding",
}
PRODUCTS = {"MatMul", "FusedMatMul", "Gemm", "MultiHeadAttention", "Attention", "Conv"}
NUMBERS = {"float32": 1, "float16": 10, "bfloat16": 16}
BYTES = {"float": 4, "float16": 2, "bfloat16": 2, "int64": 8, "int32": 4, "bool": 1}


def zeros(architecture):
    """Return weights of zeros: no result is looked at."""
    return {
        name: Stored(shape=shape, dtype=np.dtype(np.float32), load=lambda shape=shape: np.zeros(shape, np.float32))
        for name, shape in architecture.shapes().items()
    }


def moved(path, runtime, side):
    """Return the bytes that each operator reads and writes in one run of a graph."""
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level, options.enable_profiling = 4, True
    options.enable_mem_pattern = False
    options.profile_file_prefix = str(path.with_suffix(""))
    session = onnxruntime.InferenceSession(
        str(path), options, providers=[("CUDAExecutionProvider", {"device_id": "0"})]
    )
    assert session.get_providers()[0] == "CUDAExecutionProvider"
    binding = session.io_binding()
    names = {f"tensor({'float' if name == 'float32' else name})": number for name, number in NUMBERS.items()}
    for tensor in session.get_inputs():
        shape = [n if isinstance(n, int) else side for n in tensor.shape]
        address = runtime.allocate(4 * math.prod(shape))
        binding.bind_input(tensor.name, "cuda", 0, names[tensor.type], shape, address)
    for tensor in session.get_outputs():
        binding.bind_output(tensor.name, "cuda", 0)
    session.run_with_iobinding(binding)
    counted = Counter()
    for event in json.loads(Path(session.end_profiling()).read_text("utf-8")):
        arguments = event.get("args", {})
        if event.get("cat") != "Node" or "output_type_shape" not in arguments:
            continue
        if arguments["provider"] == "CUDAExecutionProvider" and arguments["op_name"] not in ("Reshape", "Unsqueeze"):
            for tensor in arguments["input_type_shape"] + arguments["output_type_shape"]:
                for kind, shape in tensor.items():
                    counted[arguments["op_name"]] += BYTES[kind] * math.prod(shape)
    return counted


def of_step(architecture, form, runtime):
    """Return the bytes of a whole step by operator, from two networks of fewer blocks."""
    least = architecture.interval
    with TemporaryDirectory() as folder:
        few, more = (
            _of_depth(replace(architecture, depth=depth), form, runtime, Path(folder)) for depth in (least, 2 * least)
        )
    repeats = (architecture.depth - least) / least
    return Counter({name: few[name] + repeats * (more[name] - few[name]) for name in more})


def _of_depth(architecture, form, runtime, folder):
    build_network(architecture, zeros(architecture), form=form).save(folder / NETWORK)
    return moved(folder / NETWORK, runtime, form.size[0])


def kind(operator):
    """Return what an operator is counted as."""
    return "element-wise" if operator in ELEMENTWISE else "product" if operator in PRODUCTS else "other"


def elementwise(found):
    """Return the bytes of element-wise passes."""
    return sum(size for operator, size in found.items() if kind(operator) == "element-wise")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--backbone", default="sdxl")
    parser.add_argument("--type", default="2kto4k")
    parser.add_argument("--side", type=int, default=2048, help="pixels of the result")
    parser.add_argument("--target", choices=TARGETS, default="ort-cuda")
    parser.add_argument("--dtype", choices=TYPES, default="bfloat16")
    parser.add_argument("-o", "--output", type=Path, help="a CSV file of what is printed")
    asked = parser.parse_args()
    if (reason := nullcuda.missing()) is not None:
        sys.exit(reason)
    os.environ.update(nullcuda.ENVIRONMENT)
    architecture = get_published(asked.backbone, asked.type).architecture
    form = Form(target=asked.target, dtype=asked.dtype, size=(asked.side, asked.side))
    forms = {"GB": form}
    if asked.dtype == "bfloat16":
        forms["GB, float32 residual"] = replace(form, float32_residual=True)
    with TemporaryDirectory() as built:
        runtime = nullcuda.Runtime(Path(built))
        found = [of_step(architecture, form, runtime) for form in forms.values()]
    rows = [["operator", "kind", *forms]]
    for name in sorted(set().union(*found), key=lambda name: -found[0][name]):
        rows.append([name, kind(name), *(f"{of[name] / 1e9:.2f}" for of in found)])
    rows.append(["all", "element-wise", *(f"{elementwise(of) / 1e9:.2f}" for of in found)])
    rows.append(["all", "", *(f"{sum(of.values()) / 1e9:.2f}" for of in found)])
    for name, *columns in rows:
        print(f"{name:28} {columns[0]:13}", *(f"{column:>22}" for column in columns[1:]))
    if asked.output is not None:
        with asked.output.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, lineterminator="\n").writerows(rows)
