"""A folder's bfloat16 graphs run in float32, with the same weights: ONNX Runtime has no bfloat16 on the CPU."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..errors import ModelError
from ..onnx.providers import import_onnxruntime

_NARROW, _WIDE = ir.DataType.BFLOAT16, ir.DataType.FLOAT


class WideGraph:
    """A graph whose bfloat16 weights are cast to float32, and where casts to bfloat16 are left out.

    Nothing is written: ONNX Runtime reads the weights from the graph's own folder, and refuses any other.

    Args:
        path: An .onnx file of `pidsampler export`.

    Raises:
        PidSamplerError: The graph cannot be read, or ONNX Runtime refuses it.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        runtime = import_onnxruntime()
        options = runtime.SessionOptions()
        options.log_severity_level = 4
        options.enable_cpu_mem_arena = False  # the weights in float32 are not kept
        options.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(path.parent))
        try:
            graph = ir.to_proto(_widened(ir.load(path))).SerializeToString()
            self._session = runtime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # both have a dozen types of their own
            raise ModelError(f"{path} cannot be run in float32: {' '.join(str(error).split())}") from error

    @property
    def inputs(self) -> dict[str, list[int | str]]:
        """Shapes of the inputs, by name; a dynamic axis is a text."""
        return {one.name: list(one.shape) for one in self._session.get_inputs()}

    def __call__(self, feeds: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[np.float32]]:
        """Return the outputs by name, of inputs in float32.

        Raises:
            PidSamplerError: ONNX Runtime refused the run.
        """
        names = [one.name for one in self._session.get_outputs()]
        try:
            return dict(zip(names, self._session.run(names, dict(feeds)), strict=True))
        except Exception as error:
            raise ModelError(f"{self._path} failed to run: {' '.join(str(error).split())}") from error


def _widened(model: ir.Model) -> ir.Model:
    graph = model.graph
    for value in (*graph.inputs, *graph.outputs):
        if value.dtype == _NARROW:
            value.dtype = _WIDE
    for node in graph:
        if node.op_type == "Cast" and node.attributes["to"].as_int() == _NARROW:
            node.attributes["to"] = ir.AttrInt64("to", _WIDE)
    for node in list(graph):  # each weight just before it is needed, so that not all are in memory at once
        for value in [v for v in node.inputs if v is not None and v.is_initializer() and v.dtype == _NARROW]:
            cast = ir.node("Cast", [value], {"to": _WIDE})
            value.replace_all_uses_with(cast.outputs[0])
            cast.replace_input_with(0, value)
            graph.insert_before(node, cast)
    return model
