"""The tensors of a network, read back from the graphs that were made of them, in their own names and order."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from ..errors import ModelError, PidSamplerError, reason, unknown_name
from ..io.data import parse_json
from ..onnx.contract import NETWORK, PROJECTION
from ..values import mapping
from .architecture import Architecture
from .build import ARCHITECTURE, DTYPE
from .layers import pair_order
from .tensors import Stored

Weights = NDArray[Any]

_CHANGED = "a graph was changed since its export"


class Network(NamedTuple):
    """What a folder's network is made of.

    Args:
        architecture: Sizes of the network.
        tensors: Weights by name, see `Architecture.shapes`.
        dtype: In which it works.
        caption: (tokens, text_width), stored in the graph; None for zeros, or where it is an input.
    """

    architecture: Architecture
    tensors: Mapping[str, Stored]
    dtype: str
    caption: Weights | None


def stored_type(folder: Path) -> str:
    """Return the type in which a folder's network works; no weights are read.

    Raises:
        PidSamplerError: The folder's graph is not `pidsampler export`'s.
    """
    return _loaded(folder).metadata_props[DTYPE]


def recovered(folder: Path) -> Network:
    """Undo what `network` does to a network's tensors: turned matrices, reordered rows, parts of a layer.

    What the graph leaves out, since it has no effect, becomes zeros. A tensor is read when it is loaded.

    Args:
        folder: Written by `folder.write_folder`, and loaded by ONNX Runtime before, which refuses hostile paths.

    Raises:
        PidSamplerError: The folder's graphs are not `pidsampler export`'s.
    """
    network = _loaded(folder)
    architecture = _architecture(network.metadata_props[ARCHITECTURE], folder)
    graphs = [network] if not (folder / PROJECTION).exists() else [network, ir.load(folder / PROJECTION)]
    weights = {n: value.const_value for g in graphs for n, value in g.graph.initializers.items()}
    reader = _Reader(architecture, weights, folder)
    tensors = {name: reader.tensor(name, shape) for name, shape in architecture.shapes().items()}
    caption = reader.read("caption")[0] if "caption" in weights else None
    return Network(architecture, tensors, network.metadata_props[DTYPE], caption)


def _architecture(text: str, folder: Path) -> Architecture:
    expected = "the sizes of a network"
    try:
        sizes = mapping(ARCHITECTURE, parse_json(text, expected=expected, most_values=1000), words=expected)
        names = [field.name for field in fields(Architecture)]
        for name in sizes:
            if name not in names:
                raise unknown_name("size", name, known=names)
        return Architecture(**sizes)
    except PidSamplerError as error:
        raise ModelError(f"{folder / NETWORK} says of itself what no export does: {error}") from error


def _loaded(folder: Path) -> ir.Model:
    try:
        network = ir.load(folder / NETWORK)
    except OSError as error:
        raise ModelError(f"cannot read {folder / NETWORK}: {reason(error)}") from error
    except Exception as error:  # protobuf has errors of its own
        raise ModelError(f"{folder / NETWORK} is not an ONNX graph: it is damaged or not downloaded whole") from error
    if not {ARCHITECTURE, DTYPE} <= network.metadata_props.keys():
        raise ModelError(
            f"{folder / NETWORK} does not say what network it is, so it cannot be compared: export it by this version"
        )
    return network


class _Reader:
    def __init__(self, architecture: Architecture, weights: dict[str, Any], folder: Path) -> None:
        self.a, self._weights, self._folder = architecture, weights, folder

    def read(self, name: str) -> Weights:
        if self._weights[name] is None:
            raise ModelError(f"{self._folder} holds no values of the weights {name}: {_CHANGED}")
        array: Weights = self._weights[name].numpy()
        return array

    def tensor(self, name: str, shape: tuple[int, ...]) -> Stored:
        parts, joined = self._parts(name)
        there = [part for part in parts if part in self._weights]
        if parts != there and not self._has_no_effect(name):
            raise ModelError(f"{self._folder} has no weights {parts[0]}: {_CHANGED}")

        def load() -> Weights:
            if not there:
                return np.zeros(shape, np.float32)
            like = self.read(there[0])
            found = [self.read(part) if part in there else np.zeros_like(like) for part in parts]
            try:
                return np.ascontiguousarray(joined(found)).reshape(shape)
            except (ValueError, IndexError) as error:  # numpy's, of arrays of another shape
                raise ModelError(
                    f"{self._folder} has weights {parts[0]} of another shape than {shape}: {_CHANGED}"
                ) from error

        return Stored(shape=shape, dtype=np.dtype(np.float32), load=load)

    def _parts(self, name: str) -> tuple[list[str], Callable[[list[Weights]], Weights]]:
        """The names in the graphs of what a tensor became, and how it is put together again."""
        layer, _, kind = name.rpartition(".")
        if ".qkv" in name:
            heads, width = self._heads(name)
            order = (np.arange(heads)[:, None] * width + pair_order(width)).reshape(-1)
            parts = [name.replace("qkv", part) for part in "qkv"]
            return parts, lambda w: np.concatenate([*(_ordered(part.T, order) for part in w[:-1]), w[-1].T])
        if "_norm" in name and ".attn." in name:
            order = pair_order(self._heads(name)[1])
            return [name], lambda w: _ordered(w[0], order)
        if layer.endswith("content_proj"):
            if kind == "bias":
                return [f"{layer}.x.bias"], lambda w: w[0]
            return [f"{layer}.x.weight", f"{layer}.lq.weight"], lambda w: np.concatenate(w).T
        if name.endswith("log_alpha"):
            return [f"{layer}.alpha"], lambda w: np.log(w[0].astype(np.float64))
        if name.startswith("pixel_blocks.") and ".adaLN_modulation" in name:
            count, c = self.a.patch**2, self.a.pixel_hidden
            parts = [f"{layer}.{part}.{kind}" for part in range(6)]

            def joined(w: list[Weights]) -> Weights:
                return np.stack([part.T.reshape(count, c, *part.shape[:-1]) for part in w], axis=1)

            return parts, joined
        if name == "y_pos_embedding":
            return [name], lambda w: np.pad(w[0], ((0, 0), (0, self.a.text_length - w[0].shape[1]), (0, 0)))
        turned = kind == "weight" and name in self._weights and len(self._weights[name].shape) == 2
        return [name], lambda w: w[0].T if turned else w[0]

    def _heads(self, name: str) -> tuple[int, int]:
        of_pixels = name.startswith("pixel_blocks.")
        heads = self.a.pixel_heads if of_pixels else self.a.heads
        return heads, (self.a.pixel_attention if of_pixels else self.a.hidden) // heads

    def _has_no_effect(self, name: str) -> bool:
        """Whether a tensor is of the last block's text stream, after its keys and values."""
        last = f"patch_blocks.{self.a.depth - 1}."
        ends = ("norm_y2.", "mlp_y.", "attn.proj_y.", "attn.q_norm_y.", "attn.qkv_y.")
        return name.startswith(tuple(last + end for end in ends))


def _ordered(array: Weights, order: NDArray[np.int64]) -> Weights:
    """Undo `array[order]`."""
    out = np.empty_like(array)
    out[order] = array
    return out
