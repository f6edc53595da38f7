"""Count the multiplications of PiD's published networks, from the graphs: what splitting off the projection saves.

    pip install '.[export]' && python bench/multiplications.py 2048 4096

Each graph is built at its true size and read by ONNX's shape inference; no weight is made.
"""

import math
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import onnx
import onnx_ir as ir

from pidsampler.export.architecture import Architecture, random_tensors
from pidsampler.export.build import Graph
from pidsampler.export.layers import Form
from pidsampler.export.network import build_network
from pidsampler.export.projection import build_projection
from pidsampler.export.published import get_published

_SMALL = 100  # elements of a constant that decides a shape


def of_graph(graph: Graph) -> int:
    """Return the multiplications of all matrix products and convolutions of a graph of fixed sizes."""
    model = graph.model()
    for name, weight in list(model.graph.initializers.items()):
        if math.prod(weight.shape) > _SMALL:  # only its shape matters
            del model.graph.initializers[name]
            weight.const_value = None
            model.graph.inputs.append(weight)
    with TemporaryDirectory() as folder:
        ir.save(model, Path(folder) / "graph.onnx")
        found = onnx.shape_inference.infer_shapes(onnx.load(Path(folder) / "graph.onnx"), data_prop=True).graph
    shapes = {weight.name: list(weight.dims) for weight in found.initializer}
    for value in (*found.value_info, *found.input, *found.output):
        shapes[value.name] = [dim.dim_value for dim in value.type.tensor_type.shape.dim]
    total = 0
    for node in found.node:
        if node.op_type == "MatMul":
            total += math.prod(shapes[node.input[0]]) * shapes[node.input[1]][-1]
        elif node.op_type == "Conv":
            total += math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
    return total


def of_model(architecture: Architecture, side: int, split: bool = True) -> tuple[int, int]:
    """Return the multiplications of a step and, once a picture, of the projection, of a square result."""
    form = Form(target="tensorrt", size=(side, side), split=split)  # whose attention is made of matrix products
    tensors = random_tensors(architecture, 0)
    step = of_graph(build_network(architecture, tensors, form=form))
    return step, of_graph(build_projection(architecture, tensors, form=form)) if split else 0


def main(sides: list[str]) -> None:
    """Print the counts of an SDXL student (v1) and a FLUX student (v1.5)."""
    for backbone, kind in (("sdxl", "2kto4k"), ("flux", "2kto4k_v1pt5")):
        for side in map(int, sides):
            step, projection = of_model(get_published(backbone, kind).architecture, side)
            share = projection / (step + projection)
            counts = f"{step / 1e12:.1f}e12 a step, the projection {projection / 1e12:.2f}e12"
            saved = f"({share:.1%} of a step with it); split off, four steps save {0.75 * share:.1%}"
            print(f"{backbone} {kind} {side}x{side}: {counts} {saved}")


if __name__ == "__main__":
    main(sys.argv[1:])
