"""PiD's network as an ONNX graph, written operator by operator from its description, not traced.

What differs from the source's own order of work, and not in its result:

- The latent's projection can be a graph of its own: it depends on neither x nor t, and runs once for all steps.
- A rotary embedding turns pairs of neighbors. Rows of the weights are reordered, so that all firsts of the pairs come
  before all seconds, and the turning needs no strided access; queries and keys are reordered alike.
- A gate's layer over [x, latent] is two layers, and a pixel block's modulation six: no large tensor is joined or cut.
- What is one number for all tokens joins a weight first: a modulation's scale that of its norm (for one picture at a
  time), and what the noise level takes from a gate its bias.
- A float32 residual gets the results of a block's two layers at once, and within the block its rounded tokens are seen.
- Of the last patch block, what only its text stream would need is left out.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError
from .architecture import ROPE_THETA, Architecture, time_frequencies
from .build import ARCHITECTURE, DTYPE, FLOAT, Graph, Value, data_type
from .layers import Form, Size, pair_order, part_of
from .projection import Projection
from .tensors import Stored

LONGEST_SIDE = 16384  # pixels, of a graph with dynamic sizes


def build_network(architecture: Architecture, tensors: Mapping[str, Stored], *, form: Form) -> Graph:
    """Return the graph of pid_upscaler.onnx.

    Inputs x (B, 3, H, W), t (B,), degrade_sigma (B,), and lq_latent (B, C, h, w) or, where the projection is split off,
    `Architecture.features`, each (B, tokens, hidden); if asked for, caption (B, text_length, text_width); output v_pred
    like x. x, t, degrade_sigma, caption and v_pred are float32.

    Args:
        architecture: Sizes of the network.
        tensors: Weights by name, checked by `check_tensors` against `Architecture.shapes`.
        form: See `Form`.

    Raises:
        PidSamplerError: The form does not suit the network.
    """
    return _Network("pid_upscaler", architecture, tensors=tensors, form=form).network()


class _Network(Projection):
    """Adds the network's layers to a graph."""

    def network(self) -> Graph:
        a, g, b = self.a, self.g, self.form.batch
        g.metadata = {ARCHITECTURE: json.dumps(asdict(a)), DTYPE: self.form.dtype}
        height, width = self.form.size or ("height", "width")
        x = g.input("x", FLOAT, shape=(b, 3, height, width))
        t = g.input("t", FLOAT, shape=(b,))
        if self.form.split:
            sigma = g.input("degrade_sigma", FLOAT, shape=(b,))
            shape = (b, self._tokens(), a.hidden)
            features = [g.input(name, self.compute, shape=shape) for name in a.features]
        else:
            latent = self._latent()
            sigma = g.input("degrade_sigma", FLOAT, shape=(b,))
            features = self._projected(latent)
        caption = self._caption()
        self.rows, self.columns = self._grid(x)
        patches = self._patches(x)
        time = self._time(t)
        image = self._cast(self._linear("s_embedder.proj", self._reshaped(patches, b, -1, 3 * a.patch**2)), self.stream)
        text, sigma = self._text(caption), self._reshaped(sigma, b, 1, 1)
        condition = self._silu(time)
        for i in range(a.depth):
            if i in a.injections:
                k = a.injections.index(i)
                image = self._injected(f"lq_proj.gate_modules.{k}", image, features[k], sigma)
            image, text = self._patch_block(f"patch_blocks.{i}", image, text, condition, last=i == a.depth - 1)
        seen = self._silu(g("Add", self._cast(time, self.stream), image))
        if a.pixel_injection:
            seen = self._injected("pit_lq_gate", seen, features[-1], sigma)
        pixels = self._pixels(patches)
        for i in range(a.pixel_depth):
            pixels = self._pixel_block(f"pixel_blocks.{i}", pixels, seen)
        self._output(self._norm("final_layer.norm", pixels, self.wide))
        return g

    def _output(self, pixels: Value) -> None:
        """The last layer. Its bias comes last, or a cast: ONNX Runtime would copy the result of a Reshape."""
        a, g, b = self.a, self.g, self.form.batch
        weight, bias = self._tensors["final_layer.linear.weight"], self._tensors["final_layer.linear.bias"]
        out = self._affine("final_layer.linear", pixels, weight, None)
        out = self._reshaped(out, b, self.rows, self.columns, a.patch, a.patch, 3)
        out = g("Transpose", out, perm=[0, 5, 1, 3, 2, 4])
        out = self._reshaped(out, b, 3, *(self._times(n, a.patch) for n in (self.rows, self.columns)))
        bias = part_of(bias, (3, 1, 1), change=lambda w: w)
        out = g("Add", out, g.weight("final_layer.linear.bias", bias, dtype=self.compute))
        height, width = self.form.size or ("height", "width")
        g.output("v_pred", self._cast(out, FLOAT), dtype=FLOAT, shape=(b, 3, height, width))

    def _time(self, t: Value) -> Value:
        """(B, 1, hidden), computed in float32 at any rate: it is small, and t is up to 1000."""
        g = self.g
        angles = g("Mul", self._reshaped(t, self.form.batch, 1, 1), g.constant(time_frequencies(), FLOAT))
        waves = g("Concat", self._wave("Cos", angles), self._wave("Sin", angles), axis=-1)
        inner = self._silu(self._linear("t_embedder.mlp.0", waves, FLOAT))
        return self._cast(self._linear("t_embedder.mlp.2", inner, FLOAT), self.wide)

    def _caption(self) -> Value:
        a = self.a
        if self.form.takes_caption:
            caption = self.g.input("caption", FLOAT, shape=(self.form.batch, a.text_length, a.text_width))
            return self._cast(caption, self.compute)
        stored = np.zeros((a.text_length, a.text_width)) if self.form.caption is None else self.form.caption
        return self.g.weight("caption", Stored.of(np.ascontiguousarray(stored[None], np.float32)), dtype=self.compute)

    def _text(self, caption: Value) -> Value:
        places = self._tensors["y_pos_embedding"]
        text = self._cast(self._linear("y_embedder.proj", caption), self.stream)
        text = self._norm("y_embedder.norm", text, self.stream)
        text = self.g("Add", text, self.g.weight("y_pos_embedding", places, dtype=self.stream))
        return (
            text
            if self.form.batch == 1 or self.form.takes_caption
            else self.g("Concat", *[text] * self.form.batch, axis=0)
        )

    def _injected(self, name: str, x: Value, feature: Value, sigma: Value) -> Value:
        """x + sigmoid(layer([x, feature]) - alpha*sigma) * feature, in `stream`."""
        g, d, layer = self.g, self.a.hidden, f"{name}.content_proj"
        weight, bias = self._tensors[f"{layer}.weight"], self._tensors[f"{layer}.bias"]
        half = (weight.shape[0], d)
        of_x = self._affine(f"{layer}.x", x, part_of(weight, half, change=lambda w: w[:, :d]), None)
        of_feature = self._affine(f"{layer}.lq", feature, part_of(weight, half, change=lambda w: w[:, d:]), None)
        log_alpha = self._tensors[f"{name}.log_alpha"]
        alpha = part_of(log_alpha, (1, 1, 1), change=lambda w: _exponential(f"{name}.log_alpha", w))
        offset = g("Mul", sigma, g.weight(f"{name}.alpha", alpha, dtype=FLOAT))
        offset = g("Sub", self._cast(g.weight(f"{layer}.x.bias", bias, dtype=self.compute), FLOAT), offset)
        logit = g("Add", g("Add", of_x, self._cast(offset, self.compute)), of_feature)
        gate = self._cast(g("Sigmoid", logit), self.wide)
        return g("Add", x, self._cast(g("Mul", gate, self._cast(feature, self.wide)), self.stream))

    # The transformer over patches.

    def _patch_block(self, name: str, image: Value, text: Value, condition: Value, last: bool) -> tuple[Value, Value]:
        g, a = self.g, self.a
        of_image, of_text = (
            self._cast(self._linear(f"{name}.adaLN_modulation_{stream}.0", condition), self.wide)
            for stream in ("img", "txt")
        )
        image_parts, text_parts = (g.split(parts, 6, axis=-1) for parts in (of_image, of_text))
        seen_x, seen_y = self._cast(image, self.wide), self._cast(text, self.wide)
        moved = self._modulated(f"{name}.norm_x1", seen_x, *image_parts[:2], alike=True)
        qx, kx, vx = self._heads(f"{name}.attn", "_x", moved, a.hidden, a.heads, self._rotation(a.hidden // a.heads))
        moved = self._modulated(f"{name}.norm_y1", seen_y, *text_parts[:2], alike=True)
        angles = self._text_rotation()
        qy, ky, vy = self._heads(f"{name}.attn", "_y", moved, a.hidden, a.heads, angles, query=not last)
        k, v = g("Concat", ky, kx, axis=1), g("Concat", vy, vx, axis=1)
        if qy is None:
            mixed = self._attention(qx, k, v, a.hidden, a.heads)
            return self._stream(name, "x", (image, seen_x), image_parts, mixed), text
        mixed = self._attention(g("Concat", qy, qx, axis=1), k, v, a.hidden, a.heads)
        ends = [g.constant([n]) for n in (0, a.text_length, np.iinfo(np.int64).max)]
        of_y, of_x = (g("Slice", mixed, ends[i], ends[i + 1], g.constant([1])) for i in range(2))
        return (
            self._stream(name, "x", (image, seen_x), image_parts, of_x),
            self._stream(name, "y", (text, seen_y), text_parts, of_y),
        )

    def _stream(
        self, name: str, stream: str, tokens: tuple[Value, Value], parts: Sequence[Value], mixed: Value
    ) -> Value:
        """The rest of a block for one stream, whose tokens come in `stream` and in `wide`.

        A float32 sum gets both layers' results at once: between them it is seen rounded, which no later block sees.
        """
        g, (gate, shift, scale, last) = self.g, parts[2:]
        total, seen = tokens
        attended = self._gated(gate, self._linear(f"{name}.attn.proj_{stream}", mixed))
        seen = g("Add", seen, attended)
        moved = self._modulated(f"{name}.norm_{stream}2", seen, shift, scale, alike=True)
        mlp = f"{name}.mlp_{stream}"
        inner = g("Mul", self._silu(self._linear(f"{mlp}.w1", moved)), self._linear(f"{mlp}.w3", moved))
        fed = self._gated(last, self._linear(f"{mlp}.w2", inner))
        if self.stream == self.wide:
            return g("Add", seen, fed)
        return g("Add", total, self._cast(g("Add", attended, fed), self.stream))

    def _gated(self, gate: Value, branch: Value) -> Value:
        return self.g("Mul", gate, self._cast(branch, self.wide))

    def _text_rotation(self) -> tuple[Value, Value]:
        head = self.a.hidden // self.a.heads
        rates = ROPE_THETA ** (-np.arange(0, head, 2) / head)
        order = pair_order(head)[: head // 2] // 2
        return self._of_angles(np.arange(self.a.text_length)[:, None] * rates[order])

    # The pixels of each patch.

    def _patches(self, x: Value) -> Value:
        """(B, 3, H, W) -> (B, rows, columns, 3, patch, patch)."""
        p = self.a.patch
        apart = self._reshaped(x, self.form.batch, 3, self.rows, p, self.columns, p)
        return self.g("Transpose", apart, perm=[0, 2, 4, 1, 3, 5])

    def _pixels(self, patches: Value) -> Value:
        """(B, tokens, patch^2, pixel_hidden): each pixel's layer, and where it is."""
        a, g, p, c = self.a, self.g, self.a.patch, self.a.pixel_hidden
        pixels = self._linear("pixel_embedder.proj", g("Transpose", patches, perm=[0, 1, 2, 4, 5, 3]))
        pixels = self._cast(pixels, self.wide)
        for size, first, shape in (
            (self.columns, True, (1, 1, self.columns, 1, p, c)),
            (self.rows, False, (1, self.rows, 1, p, 1, c)),
        ):
            table = self._position_table(size, first)
            pixels = g("Add", pixels, self._cast(self._reshaped(table, *shape), self.wide))
        return self._reshaped(pixels, self.form.batch, -1, a.patch**2, c)

    def _position_table(self, size: Size, first: bool) -> Value:
        """(pixels of a side, pixel_hidden): sines and cosines of each pixel's position along the side.

        Beyond the limit of a side of any size, position i*limit/side is place + part/side in whole numbers: a table has
        the sine and cosine of the place, and the rest, below 1, is turned by. In float32 a sine of thousands would be
        1e-4 off; and where nothing is scaled, the part is 0 and the table is exact, as 1 - 2 sin(0)^2 is.
        """
        a, g, c = self.a, self.g, self.a.pixel_hidden
        limit = a.position_limit
        if isinstance(size, int):
            count = size * a.patch
            places = np.arange(count) * (1.0 if limit is None else min(1.0, limit / count))
            return g.constant(_waves(places, c, first=first), FLOAT)
        pixels = g("Mul", size, g.constant([a.patch]))
        if limit is None:
            table = g.constant(_waves(np.arange(LONGEST_SIDE), c, first=first), FLOAT)
            return g("Slice", table, g.constant([0]), pixels, g.constant([0]))
        side = g("Max", pixels, g.constant([limit]))
        scaled = g("Mul", g("Range", g.constant(0), g("Squeeze", pixels), g.constant(1)), g.constant([limit]))
        place = g("Div", scaled, side)
        part = g("Sub", scaled, g("Mul", place, side))
        part = g("Div", *(g("Cast", n, to=data_type(FLOAT)) for n in (part, side)))
        turn = g("Mul", g("Unsqueeze", part, g.constant([1])), g.constant(_rates(c, first=first), FLOAT))
        at, quarter_on = (
            g("Gather", g.constant(_waves(np.arange(limit), c, first=first, phase=phase), FLOAT), place, axis=0)
            for phase in (0.0, np.pi / 2)
        )
        half = self._wave("Sin", g("Mul", turn, g.constant(0.5, FLOAT)))
        cosine = g("Sub", g.constant(1.0, FLOAT), g("Mul", g("Add", half, half), half))
        return g("Add", g("Mul", at, cosine), g("Mul", quarter_on, self._wave("Sin", turn)))

    def _pixel_block(self, name: str, pixels: Value, seen: Value) -> Value:
        g, a, b, flat = self.g, self.a, self.form.batch, self.a.patch**2 * self.a.pixel_hidden
        seen = self._cast(seen, self.compute)
        shift, scale = (self._modulation(name, seen, j) for j in (0, 1))
        moved = self._modulated(f"{name}.norm1", pixels, shift, scale)
        squeezed = self._linear(f"{name}.compress_to_attn", self._reshaped(moved, b, -1, flat))
        width, heads = a.pixel_attention, a.pixel_heads
        q, k, v = self._heads(f"{name}.attn", "", squeezed, width, heads, self._rotation(width // heads))
        mixed = self._linear(f"{name}.attn.proj", self._attention(q, k, v, width, heads))
        mixed = self._linear(f"{name}.expand_from_attn", mixed)
        mixed = self._reshaped(mixed, b, -1, a.patch**2, a.pixel_hidden)
        pixels = g("Add", pixels, self._gated(self._modulation(name, seen, 2), mixed))
        shift, scale = (self._modulation(name, seen, j) for j in (3, 4))
        moved = self._modulated(f"{name}.norm2", pixels, shift, scale)
        inner = g("Gelu", self._linear(f"{name}.mlp.fc1", moved))
        return g("Add", pixels, self._gated(self._modulation(name, seen, 5), self._linear(f"{name}.mlp.fc2", inner)))

    def _modulation(self, name: str, seen: Value, part: int) -> Value:
        """One of the six parts of a pixel block's modulation, (B, tokens, patch^2, pixel_hidden)."""
        count, c, layer = self.a.patch**2, self.a.pixel_hidden, f"{name}.adaLN_modulation.0"
        weight, bias = (
            part_of(
                stored, (count * c, *stored.shape[1:]), change=lambda w: w.reshape(count, 6, c, *w.shape[1:])[:, part]
            )
            for stored in (self._tensors[f"{layer}.weight"], self._tensors[f"{layer}.bias"])
        )
        out = self._cast(self._affine(f"{layer}.{part}", seen, weight, bias), self.wide)
        return self._reshaped(out, self.form.batch, -1, count, c)


def _waves(places: NDArray[Any], width: int, *, first: bool, phase: float = 0.0) -> NDArray[np.float64]:
    """(positions, width): sines and cosines of positions in one half of the channels, zeros in the other."""
    quarter = width // 4
    angles = places[:, None] * 10000.0 ** (-np.arange(quarter) / quarter) + phase
    waves, nothing = np.concatenate([np.sin(angles), np.cos(angles)], axis=1), np.zeros((len(places), 2 * quarter))
    return np.concatenate([waves, nothing] if first else [nothing, waves], axis=1)


def _rates(width: int, *, first: bool) -> NDArray[np.float64]:
    """(width,): by how much each angle of `_waves` grows from one position to the next."""
    quarter = width // 4
    rates, nothing = np.tile(10000.0 ** (-np.arange(quarter) / quarter), 2), np.zeros(2 * quarter)
    return np.concatenate([rates, nothing] if first else [nothing, rates])


def _exponential(name: str, weight: NDArray[Any]) -> NDArray[np.float64]:
    with np.errstate(over="ignore"):
        made = np.exp(weight.astype(np.float64))
        if not np.isfinite(made.astype(np.float32)).all():
            raise ModelError(
                f"{name} holds {float(weight.max()):.3g}, whose exponential is too large for float32: copy or download "
                "the file again"
            )
    return made
