"""PiD's network in numpy and float64, as its source describes it: what a graph is checked against.

It shares nothing with `network`, which builds the graph, but the names of the tensors. Slow, and meant to be read.

Source: nv-tlabs/PiD, `networks/pid_net.py`, `pixeldit_official.py` and `lq_projection_2d.py`; the rotary embedding is
of Su et al. 2021 (arXiv 2104.09864), its stretching of bloc97's "NTK-aware" scaling.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .architecture import GROUPS, ROPE_EXTENT, ROPE_THETA, Architecture, time_frequencies
from .tensors import Stored

Array = NDArray[np.float64]


def velocity(
    architecture: Architecture,
    tensors: Mapping[str, Stored],
    *,
    x: NDArray[Any],
    t: float,
    latent: NDArray[Any],
    sigma: float,
    caption: NDArray[Any],
) -> Array:
    """Evaluate the network.

    Args:
        architecture: Sizes of the network.
        tensors: Weights by name.
        x: (B, 3, H, W); H and W are multiples of the patch.
        t: Noise level times 1000, as the network takes it, 0..1000.
        latent: (B, C, h, w).
        sigma: Noise level of the latent, 0..1.
        caption: (1, tokens, text_width).

    Returns:
        (B, 3, H, W).
    """
    return _Network(architecture, tensors).velocity(_wide(x), _wide(latent), _wide(caption), t, sigma)


class _Network:
    def __init__(self, architecture: Architecture, tensors: Mapping[str, Stored]) -> None:
        self.a, self._tensors = architecture, tensors

    def weight(self, name: str) -> Array:
        return _wide(self._tensors[name].load())

    def linear(self, name: str, x: Array) -> Array:
        out: Array = x @ self.weight(f"{name}.weight").T
        return out + self.weight(f"{name}.bias") if f"{name}.bias" in self._tensors else out

    def norm(self, name: str, x: Array) -> Array:
        size: Array = np.sqrt(np.square(x).mean(-1, keepdims=True) + 1e-6)
        return x / size * self.weight(f"{name}.weight")

    def velocity(self, x: Array, latent: Array, caption: Array, t: float, sigma: float) -> Array:
        a, p = self.a, self.a.patch
        batch, _, height, width = x.shape
        rows, columns = height // p, width // p
        features = self.features(latent, rows, columns)
        time = self.linear("t_embedder.mlp.2", _silu(self.linear("t_embedder.mlp.0", _frequencies(t))))
        patches = x.reshape(batch, 3, rows, p, columns, p).transpose(0, 2, 4, 1, 3, 5)
        image = self.linear("s_embedder.proj", patches.reshape(batch, rows * columns, 3 * p * p))
        text = self.norm("y_embedder.norm", self.linear("y_embedder.proj", caption))
        text = np.repeat(text + self.weight("y_pos_embedding")[:, : text.shape[1]], batch, axis=0)
        for i in range(a.depth):
            if i % a.interval == 0:
                k = i // a.interval
                image = self.gated(f"lq_proj.gate_modules.{k}", image, features[k], sigma)
            image, text = self.patch_block(f"patch_blocks.{i}", image, text, _silu(time), rows, columns)
        condition = _silu(time + image)
        if a.pixel_injection:
            condition = self.gated("pit_lq_gate", condition, features[-1], sigma)
        pixels = self.pixels(x)
        for i in range(a.pixel_depth):
            pixels = self.pixel_block(f"pixel_blocks.{i}", pixels, condition, rows, columns)
        out = self.linear("final_layer.linear", self.norm("final_layer.norm", pixels))
        return out.reshape(batch, rows, columns, p, p, 3).transpose(0, 5, 1, 3, 2, 4).reshape(x.shape)

    def gated(self, name: str, x: Array, feature: Array, sigma: float) -> Array:
        logit = self.linear(f"{name}.content_proj", np.concatenate([x, feature], axis=-1))
        return x + feature / (1.0 + np.exp(np.exp(self.weight(f"{name}.log_alpha")) * sigma - logit))

    # The transformer over patches.

    def patch_block(
        self, name: str, image: Array, text: Array, condition: Array, rows: int, columns: int
    ) -> tuple[Array, Array]:
        of_image = np.split(self.linear(f"{name}.adaLN_modulation_img.0", condition), 6, axis=-1)
        of_text = np.split(self.linear(f"{name}.adaLN_modulation_txt.0", condition), 6, axis=-1)
        head = self.a.hidden // self.a.heads
        streams = (
            ("x", image, of_image, self.rotation(head, rows, columns)),
            ("y", text, of_text, _text_rotation(head, text.shape[1])),
        )
        queries, keys, values = [], [], []
        for stream, tokens, (shift, scale, *_), rotation in reversed(streams):
            moved = self.norm(f"{name}.norm_{stream}1", tokens) * (1 + scale) + shift
            qkv = self.linear(f"{name}.attn.qkv_{stream}", moved)
            q, k, v = np.moveaxis(qkv.reshape(*qkv.shape[:2], 3, self.a.heads, head), 2, 0)
            queries.append(_rotated(self.norm(f"{name}.attn.q_norm_{stream}", q), rotation))
            keys.append(_rotated(self.norm(f"{name}.attn.k_norm_{stream}", k), rotation))
            values.append(v)
        mixed = _attention(*(np.concatenate(parts, axis=1) for parts in (queries, keys, values)))
        out = []
        for stream, tokens, modulation, _ in streams:
            gate, shift, scale, last = modulation[2:]
            seen = mixed[:, text.shape[1] :] if stream == "x" else mixed[:, : text.shape[1]]
            tokens = tokens + gate * self.linear(f"{name}.attn.proj_{stream}", seen)
            moved = self.norm(f"{name}.norm_{stream}2", tokens) * (1 + scale) + shift
            inner = _silu(self.linear(f"{name}.mlp_{stream}.w1", moved)) * self.linear(f"{name}.mlp_{stream}.w3", moved)
            out.append(tokens + last * self.linear(f"{name}.mlp_{stream}.w2", inner))
        return out[0], out[1]

    def rotation(self, head: int, rows: int, columns: int) -> Array:
        """(tokens, head / 2) angles: of x and y in turn."""
        power = np.arange(head // 4) * 4 / head
        angles = np.empty((rows, columns, head // 4, 2))
        for axis, count in ((0, columns), (1, rows)):
            theta = ROPE_THETA
            if self.a.rope == "ntk":
                theta *= (count / (self.a.rope_side // self.a.patch)) ** (head / (head - 4))
            along = np.linspace(0.0, ROPE_EXTENT, count)[:, None] * theta**-power
            angles[..., axis] = along if axis == 0 else along[:, None]
        return angles.reshape(rows * columns, head // 2)

    # The pixels of each patch.

    def pixels(self, x: Array) -> Array:
        p, (batch, _, height, width) = self.a.patch, x.shape
        half = self.a.pixel_hidden // 2
        of_pixels = self.linear("pixel_embedder.proj", x.transpose(0, 2, 3, 1))
        of_pixels[..., :half] += _waves(self.positions(width), half)
        of_pixels[..., half:] += _waves(self.positions(height), half)[:, None]
        grid = of_pixels.reshape(batch, height // p, p, width // p, p, -1).transpose(0, 1, 3, 2, 4, 5)
        return grid.reshape(batch, height // p * (width // p), p * p, -1)

    def positions(self, side: int) -> Array:
        limit = self.a.position_limit or side
        return _wide(np.arange(side)) * min(1.0, limit / side)

    def pixel_block(self, name: str, pixels: Array, condition: Array, rows: int, columns: int) -> Array:
        batch, tokens, count, width = pixels.shape
        modulation = self.linear(f"{name}.adaLN_modulation.0", condition).reshape(batch, tokens, count, 6 * width)
        shift, scale, gate, shift_2, scale_2, gate_2 = np.split(modulation, 6, axis=-1)
        moved = self.norm(f"{name}.norm1", pixels) * (1 + scale) + shift
        squeezed = self.linear(f"{name}.compress_to_attn", moved.reshape(batch, tokens, count * width))
        head = self.a.pixel_attention // self.a.pixel_heads
        qkv = self.linear(f"{name}.attn.qkv", squeezed)
        q, k, v = np.moveaxis(qkv.reshape(batch, tokens, 3, self.a.pixel_heads, head), 2, 0)
        rotation = self.rotation(head, rows, columns)
        q = _rotated(self.norm(f"{name}.attn.q_norm", q), rotation)
        k = _rotated(self.norm(f"{name}.attn.k_norm", k), rotation)
        mixed = self.linear(f"{name}.attn.proj", _attention(q, k, v))
        pixels = pixels + gate * self.linear(f"{name}.expand_from_attn", mixed).reshape(pixels.shape)
        moved = self.norm(f"{name}.norm2", pixels) * (1 + scale_2) + shift_2
        return pixels + gate_2 * self.linear(f"{name}.mlp.fc2", _gelu(self.linear(f"{name}.mlp.fc1", moved)))

    # The latent's projection.

    def features(self, latent: Array, rows: int, columns: int) -> list[Array]:
        a, spread = self.a, self.a.unpatchify
        batch, channels, height, width = latent.shape
        z = latent.reshape(batch, channels // spread**2, spread, spread, height, width)
        z = z.transpose(0, 1, 4, 2, 5, 3).reshape(batch, channels // spread**2, height * spread, width * spread)
        z = z.repeat(a.stretch.numerator, axis=2).repeat(a.stretch.numerator, axis=3)
        fold = a.stretch.denominator
        z = z.reshape(batch, -1, rows, fold, columns, fold).transpose(0, 1, 3, 5, 2, 4)
        z = z.reshape(batch, -1, rows, columns)
        z = self.conv("lq_proj.latent_proj.2", _silu(self.conv("lq_proj.latent_proj.0", z)))
        for i in range(3, 3 + a.residuals):
            inner = z
            for norm, conv in ((0, 2), (3, 5)):
                block = f"lq_proj.latent_proj.{i}.block"
                inner = self.conv(f"{block}.{conv}", _silu(self.group_norm(f"{block}.{norm}", inner)))
            z = z + inner
        tokens = z.reshape(batch, -1, rows * columns).transpose(0, 2, 1)
        heads = [f"lq_proj.output_heads.{i}" for i in range(len(a.injections))]
        return [self.linear(head, tokens) for head in [*heads, *(["lq_proj.pit_head"] if a.pixel_injection else [])]]

    def conv(self, name: str, x: Array) -> Array:
        *_, height, width = x.shape
        around = np.pad(x, ((0, 0), (0, 0), (1, 1), (1, 1)), mode="edge" if self.a.replicate else "constant")
        kernel, out = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")[:, None, None]
        for i in range(3):
            for j in range(3):
                seen = around[:, :, i : i + height, j : j + width]
                out = out + np.einsum("oc,bchw->bohw", kernel[:, :, i, j], seen)
        return out

    def group_norm(self, name: str, x: Array) -> Array:
        parts = x.reshape(len(x), GROUPS, -1)
        parts = (parts - parts.mean(-1, keepdims=True)) / np.sqrt(parts.var(-1, keepdims=True) + 1e-5)
        scale, shift = self.weight(f"{name}.weight"), self.weight(f"{name}.bias")
        out: Array = parts.reshape(x.shape) * scale[:, None, None] + shift[:, None, None]
        return out


def _wide(array: NDArray[Any]) -> Array:
    return np.asarray(array, np.float64)


def _silu(x: Array) -> Array:
    return x / (1.0 + np.exp(-x))


def _gelu(x: Array) -> Array:
    from math import erf

    out: Array = 0.5 * x * (1.0 + np.vectorize(erf)(x / np.sqrt(2.0)))
    return out


def _frequencies(t: float) -> Array:
    angles = _wide(np.float32(t) * time_frequencies())
    waves: Array = np.concatenate([np.cos(angles), np.sin(angles)])
    return waves[None, None]


def _waves(positions: Array, width: int) -> Array:
    """(positions, width): sines and cosines of positions."""
    angles = positions[:, None] * 10000.0 ** (-np.arange(width // 2) / (width // 2))
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=1)


def _text_rotation(head: int, tokens: int) -> Array:
    return np.arange(tokens)[:, None] * ROPE_THETA ** (-np.arange(0, head, 2) / head)


def _rotated(x: Array, angles: Array) -> Array:
    """Turn each pair of neighbors of (B, tokens, heads, head)."""
    turned = (x[..., ::2] + 1j * x[..., 1::2]) * np.exp(1j * angles)[:, None]
    return np.stack([turned.real, turned.imag], axis=-1).reshape(x.shape)


def _attention(q: Array, k: Array, v: Array) -> Array:
    """(B, tokens, heads, head) three times -> (B, tokens, heads*head)."""
    scores = np.einsum("bqhd,bkhd->bhqk", q, k) / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    mixed: Array = np.einsum("bhqk,bkhd->bqhd", weights, v)
    return mixed.reshape(*mixed.shape[:2], -1)
