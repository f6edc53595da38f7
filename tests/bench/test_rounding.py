"""The rounding of a graph to bfloat16, node by node."""

import ml_dtypes
import numpy as np
import onnx_ir as ir

from pidsampler.export.build import FLOAT, Graph, data_type

HALF = np.dtype(ml_dtypes.bfloat16)


def test_each_value_is_rounded(load_script):
    rounding = load_script("bench/rounding.py")
    g = Graph("g", 23)
    x = g.input("x", FLOAT, shape=(3,))
    half = g("Cast", x, to=data_type(HALF))
    g.output("y", g("Cast", g("Add", g("Mul", half, half), half), to=data_type(FLOAT)), dtype=FLOAT, shape=(3,))
    model = g.model()
    rounding.rounded(model.graph)
    given = np.array([1.2345, -0.777, 3.1e3], np.float32)
    narrow = given.astype(HALF)
    expected = (narrow * narrow + narrow).astype(np.float32)
    assert np.array_equal(rounding.run(model, {"x": given})["y"], expected)
    assert not np.array_equal(expected, given * given + given)
    assert all(value.dtype != ir.DataType.BFLOAT16 for value in (*model.graph.inputs, *model.graph.outputs))
