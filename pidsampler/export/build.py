"""A graph under construction, and its file: weights are read, converted and written one at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.tape import Tape

from ..errors import ModelError, PidSamplerError
from ..version import __version__
from .tensors import Stored

Value = ir.Value
TYPES = {
    "float32": np.dtype(np.float32),
    "float16": np.dtype(np.float16),
    "bfloat16": np.dtype(ml_dtypes.bfloat16),
}
FLOAT = TYPES["float32"]
_DATA_TYPES = {
    **{dtype: ir.DataType[{"float32": "FLOAT"}.get(name, name.upper())] for name, dtype in TYPES.items()},
    np.dtype(np.int64): ir.DataType.INT64,
    np.dtype(np.uint8): ir.DataType.UINT8,
    np.dtype(np.uint64): ir.DataType.UINT64,
    np.dtype(np.float64): ir.DataType.DOUBLE,
}
_IR_VERSION = 10
ARCHITECTURE, DTYPE = "pidsampler.architecture", "pidsampler.dtype"  # keys of a network's metadata


def data_type(dtype: np.dtype[Any]) -> int:
    """Return ONNX's number of a type, as Cast takes it."""
    return int(_DATA_TYPES[dtype])


class Graph:
    """Nodes in the order of their making; each call adds one and returns its output.

    Args:
        name: Name of the graph.
        opset: Version of ONNX's operators.
    """

    def __init__(self, name: str, opset: int) -> None:
        self.name = name
        self.metadata: dict[str, str] = {}
        self._opsets = {"": opset}
        self._tape = Tape()
        self._inputs: list[Value] = []
        self._outputs: list[Value] = []
        self._weights: dict[tuple[str, Any], Value] = {}
        self._constants: dict[tuple[Any, ...], Value] = {}
        self._called: dict[tuple[Any, ...], list[Value]] = {}  # a node of another graph and its inputs -> its outputs

    def input(self, name: str, dtype: np.dtype[Any], *, shape: Sequence[int | str]) -> Value:
        """Add an input; a dynamic axis is a name."""
        value = ir.Value(name=name, shape=ir.Shape(shape), type=ir.TensorType(_DATA_TYPES[dtype]))
        self._inputs.append(value)
        return value

    def __call__(self, op: str, *inputs: Value | None, domain: str = "", **attributes: Any) -> Value:
        """Add a node of one output."""
        if domain:
            self._opsets[domain] = 1
        return self._tape.op(op, inputs, attributes, domain=domain)

    def split(self, value: Value, count: int, *, axis: int) -> list[Value]:
        """Add a Split into equal parts."""
        return list(self._tape.op_multi_out("Split", [value], {"axis": axis, "num_outputs": count}, num_outputs=count))

    def weight(self, name: str, tensor: Stored, *, dtype: np.dtype[Any], transpose: bool = False) -> Value:
        """Add a stored tensor as an initializer of that type and name, or return the one added before.

        Args:
            name: Name unlike any other's.
            tensor: Stored tensor; it is loaded when the graph is written.
            dtype: Type of the initializer.
            transpose: Whether a matrix is turned over, as that of a Linear layer for MatMul.
        """
        key = (name, (dtype, transpose))
        if key not in self._weights:
            shape = tensor.shape[::-1] if transpose else tensor.shape

            def load() -> ir.TensorProtocol:
                array = tensor.load().T if transpose else tensor.load()
                with np.errstate(over="ignore"):
                    made = np.require(array.astype(dtype, copy=False), requirements="C")
                if not np.isfinite(made).all():
                    raise ModelError(
                        f"the weights {name} are not finite in {dtype}, which cannot hold them: pass another dtype"
                    )
                return ir.Tensor(made, name=name)

            lazy = ir.LazyTensor(load, dtype=_DATA_TYPES[dtype], shape=ir.Shape(shape), name=name)
            self._weights[key] = self._tape.initializer(lazy, name)
        return self._weights[key]

    def constant(self, value: Any, dtype: Any = np.int64) -> Value:
        """Add an array or a number as an initializer; equal ones are added once."""
        array: NDArray[Any] = np.asarray(value, dtype)
        key = (array.dtype, array.shape, array.tobytes())
        if key not in self._constants:
            name = f"constant_{len(self._constants)}"
            self._constants[key] = self._tape.initializer(ir.tensor(array, name=name), name)
        return self._constants[key]

    def call(self, graph: ir.Graph, inputs: Mapping[str, Value], *, name: str) -> list[Value]:
        """Add the nodes of another graph, and return its outputs: a local function, written out at each call.

        Its weights are added once, whatever the number of calls, and so is each node whose inputs are those of an
        earlier call: what depends on neither x nor t.

        Args:
            graph: Without graphs in attributes; its operators are those of this graph's opset too.
            inputs: What it takes, by name.
            name: Begins the names of its weights.
        """
        values: dict[Value | None, Value | None] = {None: None}
        for value in graph.inputs:
            if value.name is not None and value.name in inputs:
                values[value] = inputs[value.name]
        for weight, value in graph.initializers.items():
            if value not in values:
                values[value] = self._kept((name, weight), value.const_value)
        for domain, version in graph.opset_imports.items():
            if domain:
                self._opsets[domain] = version
        for node in graph:
            taken = [values[value] for value in node.inputs]
            key = (node, *taken)
            if key not in self._called:
                made = [value for value in node.outputs if value.name]
                attributes = {attribute.name: attribute for attribute in node.attributes.values()}
                self._called[key] = list(
                    self._tape.op_multi_out(node.op_type, taken, attributes, num_outputs=len(made), domain=node.domain)
                )
            values.update(zip(node.outputs, self._called[key], strict=False))
        return [found for value in graph.outputs if (found := values[value]) is not None]

    def _kept(self, key: tuple[str, str], tensor: Any) -> Value:
        """A tensor of another graph as an initializer, added once."""
        if key not in self._weights:
            tensor.name = ".".join(key)
            self._weights[key] = self._tape.initializer(tensor, tensor.name)
        return self._weights[key]

    def output(self, name: str, value: Value, *, dtype: np.dtype[Any], shape: Sequence[int | str]) -> None:
        """Make a value an output of that name, type and shape."""
        out = self._tape.op("Identity", [value])
        out.name, out.shape, out.type = name, ir.Shape(shape), ir.TensorType(_DATA_TYPES[dtype])
        self._outputs.append(out)

    def model(self) -> ir.Model:
        """Return what was built; weights are still to be loaded."""
        graph = ir.Graph(
            self._inputs,
            self._outputs,
            nodes=self._tape.nodes,
            initializers=self._tape.initializers,
            opset_imports=self._opsets,
            name=self.name,
        )
        return ir.Model(
            graph,
            ir_version=_IR_VERSION,
            producer_name="pidsampler",
            producer_version=__version__,
            metadata_props=self.metadata,
        )

    def save(self, path: Path) -> None:
        """Write the graph, and its larger weights beside it as `path`.data.

        Raises:
            PidSamplerError: Weights cannot be read, or are not finite in their type.
        """
        try:
            ir.save(self.model(), path, external_data=f"{path.name}.data")
        except ir.serde.SerdeError as error:  # around what a weight's `load` raises
            cause: BaseException | None = error
            while cause is not None and not isinstance(cause, PidSamplerError):
                cause = cause.__cause__
            if cause is None:
                raise
            raise cause from cause.__cause__
