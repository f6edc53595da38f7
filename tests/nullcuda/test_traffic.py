"""The count of what a step of the network moves: on graphs whose answer is known, and of a full-size step."""

import csv

import onnx
import pytest
from nullcuda.networks import ARCHITECTURE
from onnx import TensorProto, helper

from pidsampler.export.layers import Form
from pidsampler.export.published import get_published

SIDE = 64


def test_a_sum_reads_two_tensors_and_writes_one(runtime, load_script, tmp_path):
    def info(name, kind):
        return helper.make_tensor_value_info(name, kind, [1, 3, SIDE, SIDE])

    nodes = [
        helper.make_node("Cast", ["x"], ["half"], to=TensorProto.FLOAT16),
        helper.make_node("Add", ["half", "y"], ["z"]),
    ]
    inputs = [info("x", TensorProto.FLOAT), info("y", TensorProto.FLOAT16)]
    graph = helper.make_graph(nodes, "sum", inputs, [info("z", TensorProto.FLOAT16)])
    path = tmp_path / "sum.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    n = 3 * SIDE * SIDE
    assert load_script("bench/traffic.py").moved(path, runtime, SIDE) == {"Cast": 6 * n, "Add": 6 * n}


def test_blocks_are_alike(runtime, load_script, tmp_path):
    """From two depths the tool says what a third takes."""
    traffic, form = load_script("bench/traffic.py"), Form(target="ort-cuda", dtype="bfloat16", size=(SIDE, SIDE))
    whole = traffic.replace(ARCHITECTURE, depth=6)
    few = traffic.of_step(whole, form, runtime)
    traffic.build_network(whole, traffic.zeros(whole), form=form).save(tmp_path / "whole.onnx")
    found = traffic.moved(tmp_path / "whole.onnx", runtime, SIDE)
    assert {name: few[name] for name in found} == pytest.approx(found)


@pytest.mark.parametrize(("column", "residual", "most"), [("GB", False, 56), ("GB, float32 residual", True, 64)])
def test_the_bars_of_a_full_size_step(runtime, load_script, repository, column, residual, most):
    """And what `python bench/traffic.py -o bench/results/traffic.csv` recorded, in each release within 2 %."""
    traffic = load_script("bench/traffic.py")
    form = Form(target="ort-cuda", dtype="bfloat16", size=(2048, 2048), float32_residual=residual)
    found = traffic.elementwise(traffic.of_step(get_published("sdxl", "2kto4k").architecture, form, runtime)) / 1e9
    with (repository / "bench/results/traffic.csv").open(encoding="utf-8") as file:
        recorded = {(row["operator"], row["kind"]): float(row[column]) for row in csv.DictReader(file)}
    assert found <= most
    assert found == pytest.approx(recorded["all", "element-wise"], rel=0.02)
