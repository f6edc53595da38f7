"""A model folder's graphs as files: what they take and make, and their nodes, without a session that loads them."""

from __future__ import annotations

import os
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray
from onnx_ir.passes.common import InlinePass, LiftConstantsToInitializersPass

from ..backends import get_backend
from ..errors import ModelError, reason
from ..onnx.contract import ENCODER, NETWORK, PROJECTION, Contract, read_contract, read_null_caption
from ..onnx.folders import check_model, model_hashes, model_path
from ..onnx.session import Session, Tensor
from .build import TYPES

# The nodes of a whole sampler are written in the highest opset of its graphs. These mean another thing in an older one.
LEAST_OPSET = 18
_TYPES = (*TYPES.values(), np.dtype(np.float64), np.dtype(np.int64))
_DAMAGED = "is not an ONNX graph: it is damaged or not downloaded whole"
_CHANGED = {"GroupNormalization": 21, "GridSample": 20, "DFT": 20}


class GraphFile:
    """One graph, of which no weight is read yet.

    Args:
        path: An .onnx file.

    Raises:
        PidSamplerError: The file is no graph, holds another graph in a node, or is of an opset below 18.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        model = loaded(path)
        try:
            InlinePass()(model)
            LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)(model)
        except Exception as error:  # of what a damaged graph breaks
            raise ModelError(f"{path} {_DAMAGED}") from error
        self.graph = model.graph
        self.opset = self.graph.opset_imports.get("", 1)
        self._check()
        self.inputs = [tensor(path, value) for value in self.graph.inputs if not value.is_initializer()]
        self.outputs = [tensor(path, value) for value in self.graph.outputs]
        for found in (*self.inputs, *self.outputs):
            if found.dtype not in _TYPES:
                raise ModelError(f"{path}: {found} has another type than {', '.join(map(str, _TYPES))}")

    def output_shapes(self, array: NDArray[Any]) -> dict[str, tuple[int, ...]]:
        """Run it once, in a session for this alone, and return the shape of each output."""
        return Session(self.path, get_backend("numpy")).output_shapes(array)

    def check_opset(self, version: int) -> None:
        """Check that its nodes mean the same in a later opset.

        Raises:
            PidSamplerError: One does not.
        """
        for node in self.graph:
            if self.opset < _CHANGED.get(node.op_type, 0) <= version and not node.domain:
                raise ModelError(
                    f"{self.path} is of opset {self.opset}, in which {node.op_type} means another thing than in "
                    f"opset {version} of the folder's other graphs: export all in one opset"
                )

    @property
    def domains(self) -> list[str]:
        """Operator domains beside ONNX's own that its nodes are of."""
        return sorted({node.domain for node in self.graph if node.domain not in ("", "ai.onnx")})

    def _check(self) -> None:
        if self.opset < LEAST_OPSET:
            raise ModelError(
                f"{self.path} is of opset {self.opset}: export it in opset {LEAST_OPSET} or later, which a whole "
                "sampler needs"
            )
        known = {None, *self.graph.inputs, *self.graph.initializers.values()}
        for node in self.graph:
            kinds = {attribute.type for attribute in node.attributes.values()}
            if kinds & {ir.AttributeType.GRAPH, ir.AttributeType.GRAPHS}:
                raise ModelError(
                    f"{self.path} holds {node.op_type}, a node with a graph inside: export it without control flow"
                )
            if not known.issuperset(node.inputs):
                raise ModelError(f"{self.path} {_DAMAGED}")
            known.update(node.outputs)
        if not known.issuperset(self.graph.outputs):
            raise ModelError(f"{self.path} {_DAMAGED}")
        for value in self.graph.initializers.values():
            if value.const_value is None:
                raise ModelError(f"{self.path}: the weight {value.name!r} has no values: export the folder again")
            if isinstance(value.const_value, ir.ExternalTensor):
                self._check_data(value.const_value)

    def _check_data(self, held: ir.ExternalTensor) -> None:
        """Check that a weight's external data is there, in a file of the model's own folder."""
        folder = os.path.realpath(self.path.parent)
        data = os.path.realpath(os.path.join(folder, held.location))
        name = os.path.basename(data)
        if os.path.dirname(data) != folder:
            raise ModelError(
                f"{self.path} names external data outside its own folder: put real files beside {self.path.name}, no "
                "links"
            )
        if not os.path.isfile(data):
            raise ModelError(f"{self.path}: its external data file {name!r} is missing: put it beside {self.path.name}")
        found, begin = os.stat(data), held.offset or 0
        if begin < 0 or begin + max(held.length or 0, held.nbytes) > found.st_size:
            raise ModelError(f"{self.path}: its external data file {name!r} ends early: copy or download it again")
        if found.st_nlink > 1:
            raise ModelError(
                f"{self.path}: its external data file {name!r} is a hard link, which ONNX's own tools refuse: copy it"
            )


class ModelFiles:
    """A model folder as files.

    Args:
        model: Bundled name, folder, or "hf:OWNER/NAME".

    Attributes:
        path: The folder.
        contract: What graphs and manifest say together.
        null_caption: Caption where none is given, float32 (tokens, width); None without null_caption.npy.

    Raises:
        PidSamplerError: There is no such model, or the folder breaks the contract.
    """

    def __init__(self, model: str | Path) -> None:
        self.path = path = model_path(model)
        manifest = check_model(path)
        self.encoder, self.projection = (
            GraphFile(path / name) if (path / name).is_file() else None for name in (ENCODER, PROJECTION)
        )
        self.network = GraphFile(path / NETWORK)
        self.contract: Contract = read_contract(
            path, manifest, encoder=self.encoder, network=self.network, projection=self.projection
        )
        self.null_caption: NDArray[np.float32] | None = read_null_caption(path, self.contract)

    @cached_property
    def hashes(self) -> dict[str, str]:
        """SHA-256 of each file that makes the model, see `model_hashes`."""
        return model_hashes(self.path)

    @property
    def graphs(self) -> list[GraphFile]:
        """The graphs in the order in which they run."""
        return [graph for graph in (self.encoder, self.projection, self.network) if graph is not None]


def loaded(path: Path) -> ir.Model:
    """Return a graph as it is; weights are read when they are asked for.

    Raises:
        PidSamplerError: The file is no graph.
    """
    try:
        return ir.load(path)
    except OSError as error:
        raise ModelError(f"cannot read {path}: {reason(error)}") from error
    except Exception as error:  # of the parser
        raise ModelError(f"{path} {_DAMAGED}") from error


def tensor(path: Path, value: ir.Value) -> Tensor:
    """Return a graph's input or output.

    Raises:
        PidSamplerError: The value has no type or shape.
    """
    if value.shape is None or value.dtype is None or value.name is None:
        raise ModelError(f"{path}: {value.name!r} has no type or shape: export it with both")
    shape = tuple(n if isinstance(n, int) else n.value for n in value.shape)
    try:
        return Tensor(name=value.name, dtype=np.dtype(value.dtype.numpy()), shape=shape)
    except TypeError as error:  # of one that numpy does not have
        raise ModelError(f"{path}: {value.name!r} is a {value.dtype.name}, which no model takes") from error
