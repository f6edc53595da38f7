"""Model folders from released checkpoints or random weights, and whole samplers in one ONNX graph, without PyTorch.

`pidsampler export` and `compile` need the extra `export`.
"""

from typing import Any

from .. import moved
from ..errors import optional

__all__ = ["compile"]

_moved = moved.names(__name__, within=1)


def __getattr__(name: str) -> Any:
    if name == "compile":
        optional("onnx_ir", "onnx-ir", extra="export")
        from .one_graph import compile

        return compile
    return _moved(name)
