"""What PiD's graphs are made of: layers, rotary embeddings and attention, in the form that was asked for."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, unknown_name
from ..io import captions
from .architecture import ROPE_EXTENT, ROPE_THETA, Architecture
from .build import FLOAT, TYPES, Graph, Value, data_type
from .tensors import Stored
from .waves import sine

TARGETS = ("ort-cuda", "ort-cuda-sm90", "ort-cpu", "tensorrt", "onnx")

_MICROSOFT = "com.microsoft"
_MULTI_HEAD = ("ort-cuda-sm90", "ort-cpu")  # which take ONNX Runtime's own attention
_RMS_EPS = 1e-6


@dataclass(frozen=True, kw_only=True)
class Form:
    """How a network is written.

    Args:
        target: Runtime that runs it. "onnx" takes the operators of opset 23, and "tensorrt" plain ones of opset 20.
            "ort-cuda" is the same graph as "onnx", for any card: ONNX Runtime computes its attention by
            FlashAttention-2 from compute capability 8.0 on. "ort-cuda-sm90" and "ort-cpu" take ONNX Runtime's own
            MultiHeadAttention, which releases for CUDA 13 compute by cuDNN on cards of 9.0 and later. Elsewhere it is
            slower in bfloat16 than the attention of "ort-cuda".
        dtype: "float32"; "bfloat16"; or "float16", where sums over layers stay in float32, which float16 may overflow.
        size: (height, width) of the result in pixels, or None for any.
        batch: Pictures at a time.
        split: Whether the latent's projection is a graph of its own.
        float32_residual: Whether sums over layers stay in float32 in a bfloat16 network too.
        caption: (text_length, text_width), stored in the graph; None for zeros.
        takes_caption: Whether it is an input of the graph instead, of all text_length tokens.
    """

    target: str = "ort-cpu"
    dtype: str = "float32"
    size: tuple[int, int] | None = None
    batch: int = 1
    split: bool = True
    float32_residual: bool = False
    caption: NDArray[Any] | None = None
    takes_caption: bool = False


def check_form(a: Architecture, form: Form) -> None:
    """Check that a network can be written so.

    Raises:
        PidSamplerError: The target or the type is unknown, or the size or the caption does not suit the network.
    """
    if form.target not in TARGETS:
        raise unknown_name("target", form.target, known=TARGETS)
    if form.dtype not in TYPES:
        raise unknown_name("dtype", form.dtype, known=TYPES)
    if form.float32_residual and form.dtype != "bfloat16":
        raise ConfigError(
            f"float32_residual is for bfloat16, and in {form.dtype} the sums are float32 already: pass "
            "dtype='bfloat16' with it, or leave it out"
        )
    step = math.lcm(a.patch, a.scale * a.latent_factor)
    if form.size is not None and any(n < 1 or n % step for n in form.size):
        height, width = form.size
        raise ConfigError(f"the size {width}x{height} is no multiple of {step} pixels, which the network needs")
    if form.caption is not None:
        captions.check_shape(form.caption, (a.text_length, a.text_width))
        captions.check_fits(form.caption, TYPES[form.dtype])


Size = int | Value


class Layers:
    """Adds PiD's layers to a graph.

    Matrices work in `compute`, gates and shifts in `wide`, and what is summed over layers is kept in `stream`.
    """

    def __init__(self, name: str, a: Architecture, *, tensors: Mapping[str, Stored], form: Form) -> None:
        check_form(a, form)
        self.a, self.form, self._tensors = a, form, tensors
        self.g = Graph(name, 20 if form.target == "tensorrt" else 23)
        self.compute = TYPES[form.dtype]
        self.wide = FLOAT if form.dtype == "float16" else self.compute
        self.stream = FLOAT if form.float32_residual else self.wide
        self.rows: Size = 0  # of tokens, once x is there
        self.columns: Size = 0
        self._angles: dict[int, tuple[Value, Value]] = {}

    # Sizes: numbers where they are fixed, values of the graph where they are not.

    def _grid(self, x: Value) -> tuple[Size, Size]:
        """Rows and columns of tokens."""
        if self.form.size is not None:
            rows, columns = (n // self.a.patch for n in self.form.size)
            return rows, columns
        patch = self.g.constant([self.a.patch])
        rows_, columns_ = (self.g("Div", self.g("Shape", x, start=axis, end=axis + 1), patch) for axis in (2, 3))
        return rows_, columns_

    def _times(self, size: Size, factor: int) -> Size:
        return size * factor if isinstance(size, int) else self.g("Mul", size, self.g.constant([factor]))

    def _reshaped(self, value: Value, *shape: Size) -> Value:
        if all(isinstance(n, int) for n in shape):
            return self.g("Reshape", value, self.g.constant(shape))
        parts = [self.g.constant([n]) if isinstance(n, int) else n for n in shape]
        return self.g("Reshape", value, self.g("Concat", *parts, axis=0))

    # Layers.

    def _cast(self, value: Value, dtype: np.dtype[Any]) -> Value:
        return self.g("Cast", value, to=data_type(dtype)) if self.form.dtype != "float32" else value

    def _linear(self, name: str, x: Value, dtype: np.dtype[Any] | None = None) -> Value:
        """A layer with its bias, in `compute` unless told otherwise."""
        bias = f"{name}.bias"
        return self._affine(name, x, self._tensors[f"{name}.weight"], self._tensors.get(bias), dtype)

    def _affine(
        self, name: str, x: Value, weight: Stored, bias: Stored | None, dtype: np.dtype[Any] | None = None
    ) -> Value:
        dtype = dtype or self.compute
        out = self.g(
            "MatMul", self._cast(x, dtype), self.g.weight(f"{name}.weight", weight, dtype=dtype, transpose=True)
        )
        return out if bias is None else self.g("Add", out, self.g.weight(f"{name}.bias", bias, dtype=dtype))

    def _norm(self, name: str, x: Value, dtype: np.dtype[Any]) -> Value:
        """RMS normalization of x, which is of that type."""
        return self._rms(x, self._norm_weight(name, dtype), dtype)

    def _norm_weight(self, name: str, dtype: np.dtype[Any], order: NDArray[np.int64] | None = None) -> Value:
        stored = self._tensors[f"{name}.weight"]
        if order is not None:
            stored = part_of(stored, stored.shape, change=lambda w: w[order])
        return self.g.weight(f"{name}.weight", stored, dtype=dtype)

    def _rms(self, x: Value, weight: Value, dtype: np.dtype[Any]) -> Value:
        g = self.g
        if self.form.target != "tensorrt":
            return g("RMSNormalization", x, weight, axis=-1, epsilon=_RMS_EPS)
        wide = self._cast(x, FLOAT)
        mean = g("ReduceMean", g("Mul", wide, wide), g.constant([-1]), keepdims=1)
        scale = g("Sqrt", g("Add", mean, g.constant(_RMS_EPS, FLOAT)))
        return g("Mul", self._cast(g("Div", wide, scale), dtype), weight)

    def _silu(self, x: Value) -> Value:
        return self.g("Mul", x, self.g("Sigmoid", x))

    def _modulated(self, name: str, x: Value, shift: Value, scale: Value, *, alike: bool = False) -> Value:
        """norm(x) * (1 + scale) + shift, all in `wide`; alike: one shift and scale for all tokens, (B, 1, width)."""
        g, weight = self.g, self._norm_weight(name, self.wide)
        factor = g("Add", scale, g.constant(1.0, self.wide))
        if alike and self.form.batch == 1:  # the norm takes both factors as one
            weight = self._reshaped(g("Mul", factor, weight), -1)
            return g("Add", self._rms(x, weight, self.wide), shift)
        return g("Add", g("Mul", self._rms(x, weight, self.wide), factor), shift)

    def _heads(
        self, name: str, stream: str, x: Value, width: int, heads: int, angles: tuple[Value, Value], query: bool = True
    ) -> tuple[Value | None, Value, Value]:
        """Query, key and value, (B, tokens, width), turned."""
        order = pair_order(width // heads)
        turned = (np.arange(heads)[:, None] * (width // heads) + order).reshape(-1)
        qkv = self._tensors[f"{name}.qkv{stream}.weight"]

        def made(part: str, rows: NDArray[np.int64]) -> Value:
            weight = part_of(qkv, (width, width), change=lambda w: w["qkv".index(part) * width + rows])
            out = self._affine(f"{name}.{part}{stream}", x, weight, None)
            if part == "v":
                return out
            out = self._cast(self._reshaped(out, self.form.batch, -1, heads, width // heads), self.wide)
            out = self._rms(out, self._norm_weight(f"{name}.{part}_norm{stream}", self.wide, order), self.wide)
            return self._cast(self._turned(self._cast(out, FLOAT), angles, heads, width // heads), self.compute)

        return made("q", turned) if query else None, made("k", turned), made("v", np.arange(width))

    def _turned(self, x: Value, angles: tuple[Value, Value], heads: int, head: int) -> Value:
        """Turn (B, tokens, heads, head), whose pairs are (i, i + head/2); in float32; (B, tokens, heads*head)."""
        g, (cos, sin) = self.g, angles
        if self.form.target != "tensorrt":
            return g("RotaryEmbedding", self._reshaped(x, self.form.batch, -1, heads * head), cos, sin, num_heads=heads)
        first, second = g.split(x, 2, axis=-1)
        turned = g(
            "Concat",
            g("Sub", g("Mul", first, cos), g("Mul", second, sin)),
            g("Add", g("Mul", first, sin), g("Mul", second, cos)),
            axis=-1,
        )
        return self._reshaped(turned, self.form.batch, -1, heads * head)

    def _attention(self, q: Value | None, k: Value, v: Value, width: int, heads: int) -> Value:
        g = self.g
        if self.form.target in _MULTI_HEAD:
            return g("MultiHeadAttention", q, k, v, domain=_MICROSOFT, num_heads=heads)
        if self.form.target != "tensorrt":
            return g("Attention", q, k, v, q_num_heads=heads, kv_num_heads=heads)
        apart = [self._reshaped(x, self.form.batch, -1, heads, width // heads) for x in (q, k, v) if x is not None]
        q, k, v = (
            g("Transpose", x, perm=perm)
            for x, perm in zip(apart, ([0, 2, 1, 3], [0, 2, 3, 1], [0, 2, 1, 3]), strict=True)
        )
        q = g("Mul", q, g.constant((width // heads) ** -0.5, self.compute))
        weights = self._cast(g("Softmax", self._cast(g("MatMul", q, k), FLOAT), axis=-1), self.compute)
        mixed = g("Transpose", g("MatMul", weights, v), perm=[0, 2, 1, 3])
        return self._reshaped(mixed, self.form.batch, -1, width)

    # Rotary embeddings: cosines and sines of (tokens, head / 2) angles: x's for the first half of the pairs, then y's.

    def _rotation(self, head: int) -> tuple[Value, Value]:
        if head not in self._angles:
            along = [self._along(size, head) for size in (self.columns, self.rows)]
            if isinstance(self.rows, int) and isinstance(self.columns, int):
                shape = (self.rows, self.columns, head // 4)
                x, y = along
                both = np.concatenate([np.broadcast_to(x, shape), np.broadcast_to(y[:, None], shape)], axis=-1)
                self._angles[head] = self._of_angles(both.reshape(-1, head // 2))
            else:
                self._angles[head] = self._spread("Cos", along, head), self._spread("Sin", along, head)
        return self._angles[head]

    def _of_angles(self, angles: NDArray[np.float64]) -> tuple[Value, Value]:
        """The cosines and sines as `_turned` takes them: (tokens, 1, head / 2), or (B, tokens, head / 2)."""
        plain = self.form.target == "tensorrt"
        angles = angles[:, None] if plain else np.repeat(angles[None], self.form.batch, axis=0)
        return self.g.constant(np.cos(angles), FLOAT), self.g.constant(np.sin(angles), FLOAT)

    def _wave(self, op: str, angles: Value) -> Value:
        """Sin or Cos of few angles: of opset 20, or by arithmetic."""
        if self.form.target == "tensorrt":
            return self.g(op, angles)
        return sine(self.g, angles, quarters=int(op == "Cos"))

    def _along(self, size: Size, head: int) -> Any:
        """(size, head / 4): angles along a side, as an array where the size is known."""
        a, g = self.a, self.g
        power = np.arange(head // 4) * 4.0 / head
        reference = a.rope_side // a.patch
        growth = head / (head - 4) if a.rope == "ntk" else 0.0
        if isinstance(size, int):
            theta = ROPE_THETA * (size / reference) ** growth
            return np.linspace(0.0, ROPE_EXTENT, size)[:, None] * theta**-power
        one = g.constant([1])
        count = g("Cast", g("Max", g("Sub", size, one), one), to=1)
        places = g("Cast", g("Range", g.constant(0), g("Squeeze", size), g.constant(1)), to=1)
        places = g("Div", g("Mul", places, g.constant(ROPE_EXTENT, FLOAT)), count)
        stretch = g("Log", g("Div", g("Cast", size, to=1), g.constant(float(reference), FLOAT)))
        rates = g("Exp", g("Mul", stretch, g.constant(-power * growth, FLOAT)))
        rates = g("Mul", rates, g.constant(ROPE_THETA**-power, FLOAT))
        return g("Mul", g("Unsqueeze", places, g.constant([1])), rates)

    def _spread(self, wave: str, along: Sequence[Value], head: int) -> Value:
        g, quarter = self.g, head // 4
        of_x, of_y = (self._wave(wave, angles) for angles in along)
        of_x = self._reshaped(of_x, 1, self.columns, quarter)
        of_y = self._reshaped(of_y, self.rows, 1, quarter)
        shape = g(
            "Concat", *(n for n in (self.rows, self.columns) if not isinstance(n, int)), g.constant([quarter]), axis=0
        )
        both = g("Concat", g("Expand", of_x, shape), g("Expand", of_y, shape), axis=-1)
        if self.form.target == "tensorrt":
            return self._reshaped(both, -1, 1, head // 2)
        return g("Concat", *[self._reshaped(both, 1, -1, head // 2)] * self.form.batch, axis=0)


def part_of(stored: Stored, shape: tuple[int, ...], *, change: Callable[[NDArray[Any]], NDArray[Any]]) -> Stored:
    """A part of a stored tensor, or another order of it."""
    return Stored(
        shape=shape, dtype=stored.dtype, load=lambda: np.ascontiguousarray(change(stored.load())).reshape(shape)
    )


def pair_order(head: int) -> NDArray[np.int64]:
    """Where each element of a head comes from: firsts of the pairs that x turns and of those of y, then the seconds."""
    pairs = np.concatenate([np.arange(0, head // 2, 2), np.arange(1, head // 2, 2)])
    return np.concatenate([2 * pairs, 2 * pairs + 1])
