"""Graphs of PiD's VAE encoders: image -> latent, with the mean of the posterior, scale and shift inside, in float32.

All operators are primitive ones of opset 20.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from .build import FLOAT, Graph, Value
from .norms import group_norm
from .tensors import Stored, check_tensors
from .vae_keys import ENCODERS, Encoder, Residual, canonical, down_path, encoder_shapes, random_encoder, reshaped

__all__ = ["ENCODERS", "Encoder", "build_encoder", "canonical", "encoder_shapes", "random_encoder"]

OPSET = 20
_GROUP_EPS, _RMS_EPS, _BATCH_EPS = 1e-6, 1e-12, 1e-4
_SCORES = 1 << 26  # attention scores held at a time where the size is fixed: 256 MiB
_PARTS = 16  # parts of the queries where it is not


def build_encoder(
    encoder: Encoder, tensors: Mapping[str, Stored], *, height: int | None = None, width: int | None = None
) -> Graph:
    """Return the graph of an encoder.

    Its input is `image`, float32 (1, 3, height, width) in -1..1, its output `latent`, float32 (1, encoder.channels,
    height / encoder.factor, width / encoder.factor). The middle's attention is over all latent pixels at once; its
    scores are made in parts, which bounds their memory: at a fixed size to 256 MiB, at a dynamic one to a sixteenth of
    the whole (1 GiB at 2048x2048).

    Args:
        encoder: Which.
        tensors: Those of `encoder_shapes`, as `canonical` or `random_encoder` give them; loaded when it is saved.
        height: Height of the image; None for a dynamic axis, "height", and "latent_height" of the latent.
        width: Width of the image; both are fixed, or none.

    Raises:
        PidSamplerError: A size is no multiple of the factor, only one is given, or tensors do not fit.
    """
    _check_size(encoder, height, width)
    check_tensors(tensors, encoder_shapes(encoder), where=f"the tensors of VAE encoder {encoder.name!r}")
    return _Builder(encoder, tensors, height, width).graph()


def _check_size(encoder: Encoder, height: int | None, width: int | None) -> None:
    if height is None and width is None:
        return
    if height is None or width is None:
        raise ConfigError(f"height={height}, width={width}: give both, or neither for any size")
    if min(height, width) < 1 or height % encoder.factor or width % encoder.factor:
        raise ConfigError(
            f"height={height}, width={width} must be multiples of {encoder.factor} for VAE encoder {encoder.name!r}"
        )


class _Builder:
    """The layers of one graph; activations are (1, C, H, W), tokens (1, N, C)."""

    def __init__(self, encoder: Encoder, tensors: Mapping[str, Stored], height: int | None, width: int | None) -> None:
        self.encoder, self.tensors, self.size = encoder, tensors, (height, width)
        self.g = Graph(f"vae_encoder_{encoder.name}", OPSET)
        self.norm = self._rms_norm if encoder.kind == "wan" else self._group_norm

    def graph(self) -> Graph:
        e, (height, width) = self.encoder, self.size
        x = self.g.input("image", FLOAT, shape=(1, 3, height or "height", width or "width"))
        x = self._conv("encoder.conv_in", x)
        for block in down_path(e):
            x = self._residual(block, x) if isinstance(block, Residual) else self._conv(block.name, x, halve=True)
        last = e.widths[-1]
        x = self._residual(Residual(name="encoder.mid_block.resnets.0", inputs=last, outputs=last), x)
        x = self._attention("encoder.mid_block.attentions.0", x)
        x = self._residual(Residual(name="encoder.mid_block.resnets.1", inputs=last, outputs=last), x)
        x = self._silu(self.norm("encoder.norm_out" if e.kind == "wan" else "encoder.conv_norm_out", x))
        x = self._normalized(self._mean(x))
        sides = (height // e.factor, width // e.factor) if height and width else ("latent_height", "latent_width")
        self.g.output("latent", x, dtype=FLOAT, shape=(1, e.channels, *sides))
        return self.g

    def _mean(self, x: Value) -> Value:
        """Leave out the log-variance: it is the second half of the last convolution's outputs."""
        n = self.encoder.latent
        if not self.encoder.quant_conv:
            return self._conv("encoder.conv_out", x, outputs=n)
        return self._conv("quant_conv", self._conv("encoder.conv_out", x), outputs=n)

    def _normalized(self, x: Value) -> Value:
        e, g = self.encoder, self.g
        if e.kind != "flux2":
            x = g("Sub", x, self._per_channel(e.shift)) if e.shift else x
            return g("Mul", x, self._per_channel(e.scale))
        spread = g("SpaceToDepth", x, blocksize=e.patch)  # channels in the order (row, column, c)
        x = g("Gather", spread, g.constant(np.arange(e.channels).reshape(-1, e.latent).T.ravel()), axis=1)
        x = g("Sub", x, self._weight("bn.running_mean", (e.channels, 1, 1)))
        return g("Mul", x, self._changed("bn.running_var", "inverse", (e.channels, 1, 1), _inverse_deviation))

    def _per_channel(self, values: float | tuple[float, ...]) -> Value:
        return self.g.constant(np.asarray(values).reshape(-1, 1, 1), np.float32)

    def _residual(self, block: Residual, x: Value) -> Value:
        h = self._conv(f"{block.name}.conv1", self._silu(self.norm(f"{block.name}.norm1", x)))
        h = self._conv(f"{block.name}.conv2", self._silu(self.norm(f"{block.name}.norm2", h)))
        shortcut = x if block.inputs == block.outputs else self._conv(f"{block.name}.conv_shortcut", x)
        return self.g("Add", shortcut, h)

    def _silu(self, x: Value) -> Value:
        return self.g("Mul", x, self.g("Sigmoid", x))

    def _conv(self, name: str, x: Value, halve: bool = False, outputs: int | None = None) -> Value:
        """Add a convolution of stride 1 that keeps the size, or of stride 2, with a row and a column more at the end.

        With `outputs`, its first so many outputs only.
        """
        kernel = self.tensors[f"{name}.weight"].shape[-1]
        edge = kernel // 2
        weight, bias = (
            self._weight(f"{name}.{part}") if outputs is None else self._rows(f"{name}.{part}", 0, outputs)
            for part in ("weight", "bias")
        )
        pads, stride = ([0, 0, 1, 1], 2) if halve else ([edge] * 4, 1)
        return self.g("Conv", x, weight, bias, kernel_shape=[kernel] * 2, strides=[stride] * 2, pads=pads)

    def _group_norm(self, name: str, x: Value) -> Value:
        width = self.tensors[f"{name}.weight"].shape[0]
        weight, bias = (self._weight(f"{name}.{part}", (width, 1, 1)) for part in ("weight", "bias"))
        return group_norm(self.g, x, shape=(1, width, self.encoder.groups), weight=weight, bias=bias, eps=_GROUP_EPS)

    def _rms_norm(self, name: str, x: Value) -> Value:
        g, width = self.g, self.tensors[f"{name}.gamma"].shape[0]
        length = g("Max", g("ReduceL2", x, g.constant([1])), g.constant(_RMS_EPS, np.float32))
        gamma = self._changed(f"{name}.gamma", "scaled", (width, 1, 1), lambda a: a * np.sqrt(width))
        return g("Mul", g("Div", x, length), gamma)

    def _attention(self, name: str, x: Value) -> Value:
        g, width = self.g, self.encoder.widths[-1]
        wan = self.encoder.kind == "wan"
        normed = self.norm(f"{name}.norm" if wan else f"{name}.group_norm", x)
        tokens = g("Transpose", g("Reshape", normed, g.constant([1, width, -1])), perm=[0, 2, 1])
        if wan:
            q, k, v = (self._linear(f"{name}.to_qkv", tokens, i * width, width) for i in range(3))
        else:
            q, k, v = (self._linear(f"{name}.to_{layer}", tokens, 0, width) for layer in "qkv")
        q = g("Mul", q, g.constant(width**-0.5, np.float32))
        k = g("Transpose", k, perm=[0, 2, 1])
        out = self._linear(f"{name}.proj" if wan else f"{name}.to_out.0", self._attended(q, k, v), 0, width)
        return g("Add", x, g("Reshape", g("Transpose", out, perm=[0, 2, 1]), self._shape(x)))

    def _attended(self, q: Value, k: Value, v: Value) -> Value:
        """Return softmax(q k) v, with the queries in parts: (1, N, C), (1, C, N), (1, N, C) -> (1, N, C)."""
        g = self.g
        sides = self._latent_sides()
        if sides is None:
            count = g("Shape", q, start=1, end=2)
            missing = g("Mod", g("Neg", count), g.constant([_PARTS]))
            padded = g("Pad", q, g("Mul", missing, g.constant([0, 0, 0, 0, 1, 0])))
            parts = [self._part(part, k, v) for part in g.split(padded, _PARTS, axis=1)]
            return g("Slice", g("Concat", *parts, axis=1), g.constant([0]), count, g.constant([1]))
        tokens = sides[0] * sides[1]
        rows = max(_SCORES // tokens, 1)
        if rows >= tokens:
            return self._part(q, k, v)
        parts = [
            self._part(
                g("Slice", q, g.constant([start]), g.constant([min(start + rows, tokens)]), g.constant([1])), k, v
            )
            for start in range(0, tokens, rows)
        ]
        return g("Concat", *parts, axis=1)

    def _part(self, q: Value, k: Value, v: Value) -> Value:
        return self.g("MatMul", self.g("Softmax", self.g("MatMul", q, k), axis=-1), v)

    def _linear(self, name: str, tokens: Value, start: int, count: int) -> Value:
        weight = self._rows(f"{name}.weight", start, count, matrix=True)
        return self.g("Add", self.g("MatMul", tokens, weight), self._rows(f"{name}.bias", start, count))

    def _latent_sides(self) -> tuple[int, int] | None:
        """Return height and width of the posterior's mean, if they are fixed."""
        height, width = self.size
        halvings = len(self.encoder.widths) - 1
        return (height >> halvings, width >> halvings) if height and width else None

    def _shape(self, x: Value) -> Value:
        """Return the shape of the middle's activations."""
        sides = self._latent_sides()
        return self.g("Shape", x) if sides is None else self.g.constant([1, self.encoder.widths[-1], *sides])

    def _weight(self, name: str, shape: tuple[int, ...] | None = None) -> Value:
        tensor = self.tensors[name]
        return self.g.weight(name, reshaped(tensor, shape or tensor.shape), dtype=FLOAT)

    def _rows(self, name: str, start: int, count: int, matrix: bool = False) -> Value:
        """Add rows of a tensor; as a matrix, of a Linear layer or a 1x1 convolution, turned over for MatMul."""
        tensor = self.tensors[name]
        if matrix:
            tensor = reshaped(tensor, tensor.shape[:2])
        whole = count == tensor.shape[0]
        if not whole:
            load = tensor.load
            tensor = replace(tensor, shape=(count, *tensor.shape[1:]), load=lambda: load()[start : start + count])
        label = name if whole else f"{name}.{start}-{start + count - 1}"
        return self.g.weight(label, tensor, dtype=FLOAT, transpose=matrix)

    def _changed(
        self, name: str, label: str, shape: tuple[int, ...], change: Callable[[NDArray[Any]], NDArray[Any]]
    ) -> Value:
        """Add a tensor that is computed from a stored one, in float64."""
        load = self.tensors[name].load
        made = Stored(
            shape=shape, dtype=np.dtype(np.float64), load=lambda: change(load().astype(np.float64)).reshape(shape)
        )
        return self.g.weight(f"{name}.{label}", made, dtype=FLOAT)


def _inverse_deviation(variance: NDArray[Any]) -> NDArray[Any]:
    return np.asarray(1.0 / np.sqrt(variance + _BATCH_EPS))
