"""Measure how far a bfloat16 export is from float64, with its sums in bfloat16 and in float32: no GPU is needed.

    pip install '.[cpu,export]' && python bench/rounding.py [--depth 14] [--width 384]

ONNX Runtime's CPU computes the exported graph in float32, and rounds each value that would be stored in bfloat16. The
weights are random. The error is the root mean square of the difference, over that of the velocity in float64.
"""

import argparse
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import onnx_ir as ir

from pidsampler.export.architecture import Architecture, random_tensors
from pidsampler.export.layers import Form
from pidsampler.export.network import build_network
from pidsampler.export.projection import build_projection
from pidsampler.export.reference import velocity
from pidsampler.onnx.providers import import_onnxruntime

HALF, SINGLE = ir.DataType.BFLOAT16, ir.DataType.FLOAT
SIZE = 128, 256
SEEDS = 1, 2
MOVED = {"Reshape", "Transpose", "Concat", "Slice", "Split", "Squeeze", "Unsqueeze", "Identity", "Expand"}


def rounded(graph):
    """Make a bfloat16 graph one of float32, in which each value that a node of the CUDA provider stores is rounded."""
    halves = {value for value in [*graph.inputs, *graph.initializers.values()] if value.dtype == HALF}
    for value in [*graph.inputs, *graph.outputs]:
        if value.dtype == HALF:
            value.dtype = SINGLE
    for node in list(graph):
        if node.op_type == "Cast":
            half = node.attributes["to"].as_int() == HALF
        else:  # of a norm the weight's type is the result's
            half = node.op_type != "Shape" and any(
                value in halves for value in node.inputs[1 if node.op_type == "RMSNormalization" else 0 :][:1]
            )
        if not half:
            continue
        halves.update(node.outputs)
        if node.op_type == "Cast":
            node.attributes["to"] = ir.AttrInt64("to", SINGLE)
        if node.op_type in MOVED or _is_quick_gelu(node):
            continue
        for value in node.outputs:
            narrow = ir.node("Cast", [value], {"to": HALF})
            wide = ir.node("Cast", narrow.outputs, {"to": SINGLE})
            value.replace_all_uses_with(wide.outputs[0])
            narrow.replace_input_with(0, value)
            graph.insert_after(node, [narrow, wide])
            halves.add(wide.outputs[0])
    for value in [value for value in graph.initializers.values() if value.dtype == HALF]:
        wide = ir.node("Cast", [value], {"to": SINGLE})
        value.replace_all_uses_with(wide.outputs[0])
        wide.replace_input_with(0, value)
        graph.insert_before(graph[0], wide)


def _is_quick_gelu(node):
    """Whether a Sigmoid is one kernel with the product that follows it."""
    of = node.inputs[0] if node.inputs else None
    return node.op_type == "Sigmoid" and all(u.op_type == "Mul" and of in u.inputs for u in node.outputs[0].consumers())


def run(model, inputs):
    """Return a graph's outputs by name."""
    runtime = import_onnxruntime()
    options = runtime.SessionOptions()
    options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = runtime.InferenceSession(
        ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    names = [output.name for output in session.get_outputs()]
    return dict(zip(names, session.run(names, inputs), strict=True))


def error(architecture, seed, *, residual):
    """Return how far the velocity is from float64."""
    rng = np.random.default_rng(seed)
    tensors, (height, width) = random_tensors(architecture, seed), SIZE
    side = architecture.scale * architecture.latent_factor
    x = rng.standard_normal((1, 3, height, width), np.float32)
    latent = rng.standard_normal((1, architecture.latent_channels, height // side, width // side), np.float32)
    caption = rng.standard_normal((architecture.text_length, architecture.text_width)).astype(np.float32)
    exact = velocity(architecture, tensors, x=x, t=634.0, latent=latent, sigma=0.25, caption=caption[None])
    form = Form(target="ort-cuda", dtype="bfloat16", size=SIZE, float32_residual=residual, caption=caption)
    network, projection = (build(architecture, tensors, form=form) for build in (build_network, build_projection))
    found = {"x": x, "t": np.full(1, 634, np.float32), "degrade_sigma": np.full(1, 0.25, np.float32)}
    given = {"lq_latent": latent}
    with TemporaryDirectory() as folder:
        for graph in (projection, network):
            graph.save(Path(folder) / "g.onnx")
            model = ir.load(Path(folder) / "g.onnx")
            ir.external_data.load_to_model(model)
            rounded(model.graph)
            given = {**found, **run(model, given)} if graph is projection else run(model, given)
    [predicted] = given.values()
    return np.linalg.norm(predicted - exact) / np.linalg.norm(exact)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--depth", type=int, default=14, help="blocks")
    parser.add_argument("--width", type=int, default=384, help="of the tokens")
    asked = parser.parse_args()
    of = Architecture(
        hidden=asked.width,
        heads=asked.width // 64,
        depth=asked.depth,
        pixel_attention=288,
        pixel_heads=4,
        text_width=64,
        text_length=77,
        projection=64,
        latent_channels=4,
    )
    for residual in (False, True):
        errors = " ".join(f"{error(of, seed, residual=residual):.2e}" for seed in SEEDS)
        print(f"sums in {'float32' if residual else 'bfloat16'}: {errors}")
