"""PiD's network as numbers: its sizes, the names and shapes of its tensors, and random ones in their place.

Source: Kang et al., "PiD" (arXiv 2605.23902), and the public code of nv-tlabs/PiD, `networks/pid_net.py`,
`pixeldit_official.py` and `lq_projection_2d.py`, whose names the tensors have.
"""

from __future__ import annotations

import math
import zlib
from dataclasses import dataclass, fields, replace
from fractions import Fraction
from functools import partial

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..noise.philox import check_number
from ..values import flag, whole, word
from .tensors import Stored

TIME_FREQUENCIES = 128
TIME_PERIOD = 10.0
ROPE_THETA = 10000.0
ROPE_EXTENT = 16.0  # of a picture's side, whatever its pixels
_FEW = ("depth", "pixel_depth", "residuals")
_MOST_BLOCKS = 1000
_MOST_WIDTH = 1 << 20
GROUPS = 4  # of the projection's group normalization


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """The sizes of a PiD network; the defaults are those of the released v1 networks.

    Args:
        hidden: Width of a token.
        heads: Heads of the patch blocks' attention.
        depth: Patch blocks, of an image and a text stream.
        patch: Pixels a side of a token.
        pixel_hidden: Width of a pixel.
        pixel_attention: Width of the pixel blocks' attention.
        pixel_heads: Heads of the pixel blocks' attention.
        pixel_depth: Pixel blocks.
        text_width: Width of the caption's embedding.
        text_length: Tokens of the caption's embedding.
        rope: "ntk", which stretches theta with the picture's side, or "plain".
        rope_side: Pixels a side at which "ntk" is the same as "plain".
        position_limit: Pixels a side up to which pixel positions are NVIDIA's, 0, 1, 2, ...; those of a longer side
            are scaled down to that range, each side on its own (position interpolation, Chen et al. 2023, arXiv
            2306.15595). None, as NVIDIA's, scales none.
        scale: Output pixels per input pixel, along a side.
        latent_channels: C of the latent.
        latent_factor: Input pixels per latent pixel, along a side.
        unpatchify: Factor by which the latent is spread first, along a side: 2 for FLUX.2's in v1.5.
        projection: Width of the latent's projection.
        residuals: Residual blocks of the projection.
        interval: Blocks from one injection of the latent to the next.
        replicate: Whether its convolutions see the edge repeated, or zeros beyond it.
        gate_per_channel: Whether an injection's gate is one for each channel, or one for each token.
        pixel_injection: Whether the latent is injected before the pixel blocks too.
    """

    hidden: int = 1536
    heads: int = 24
    depth: int = 14
    patch: int = 16
    pixel_hidden: int = 16
    pixel_attention: int = 1152
    pixel_heads: int = 16
    pixel_depth: int = 2
    text_width: int = 2304
    text_length: int = 300
    rope: str = "ntk"
    rope_side: int = 1024
    position_limit: int | None = None
    scale: int = 4
    latent_channels: int = 16
    latent_factor: int = 8
    unpatchify: int = 1
    projection: int = 512
    residuals: int = 4
    interval: int = 2
    replicate: bool = False
    gate_per_channel: bool = True
    pixel_injection: bool = False

    def __post_init__(self) -> None:
        for own in fields(self):
            value, kind = getattr(self, own.name), own.type
            if kind == "bool":
                flag(own.name, value)
            elif kind == "int":
                few = own.name in _FEW
                whole(own.name, value, low=0 if few else 1, high=_MOST_BLOCKS if few else _MOST_WIDTH)
        wrong = [
            f"{width} is no multiple of 4 times {count} heads"
            for width, count in ((self.hidden, self.heads), (self.pixel_attention, self.pixel_heads))
            if width % (4 * count)
        ]
        if self.pixel_hidden % 4:
            wrong.append(f"pixel_hidden={self.pixel_hidden} is no multiple of 4")
        if self.projection % GROUPS:
            wrong.append(f"projection={self.projection} is no multiple of {GROUPS}")
        if self.latent_channels % self.unpatchify**2:
            wrong.append(
                f"latent_channels={self.latent_channels} is no multiple of unpatchify={self.unpatchify} squared"
            )
        if self.stretch.numerator != 1 and self.stretch.denominator != 1:
            wrong.append(f"a token has {self.stretch} latent pixels, neither a whole number nor the inverse of one")
        if word("rope", self.rope) not in ("plain", "ntk"):
            wrong.append(f"rope={self.rope!r} is neither 'plain' nor 'ntk'")
        if self.position_limit is not None:
            whole("position_limit", self.position_limit, low=1, high=1 << 20)  # as in pidsampler.json
        if wrong:
            raise ConfigError(f"the sizes are of no PiD network: {'; '.join(wrong)}")

    @property
    def feed_forward(self) -> int:
        """Width inside a patch block's feed-forward layer."""
        return int(2 * int(self.hidden * 4.0) / 3)

    @property
    def stretch(self) -> Fraction:
        """Tokens per latent pixel along a side, once the latent is spread: above 1 it is repeated, below 1 folded."""
        return Fraction(self.scale * self.latent_factor, self.unpatchify * self.patch)

    @property
    def injections(self) -> list[int]:
        """The patch blocks before which the latent is injected."""
        return list(range(0, self.depth, self.interval))

    @property
    def features(self) -> list[str]:
        """Names of what the latent's projection gives, one for each injection."""
        return [*(f"lq_{i}" for i in range(len(self.injections))), *(["lq_pixel"] if self.pixel_injection else [])]

    @property
    def folded_channels(self) -> int:
        """Channels of the latent as the projection sees it."""
        spread = self.latent_channels // self.unpatchify**2
        return spread * self.stretch.denominator**2

    def reduced(self) -> Architecture:
        """Return a small network of the same kind, of a few million weights."""
        return replace(self, hidden=64, heads=4, depth=4, pixel_attention=96, pixel_heads=4, projection=32)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of each tensor by name."""
        return {**self._trunk(), **self._pixels(), **self._projection()}

    def _trunk(self) -> dict[str, tuple[int, ...]]:
        d, head = self.hidden, self.hidden // self.heads
        shapes: dict[str, tuple[int, ...]] = {
            **_linear("s_embedder.proj", 3 * self.patch**2, d),
            **_linear("t_embedder.mlp.0", 2 * TIME_FREQUENCIES, d),
            **_linear("t_embedder.mlp.2", d, d),
            **_linear("y_embedder.proj", self.text_width, d),
            "y_embedder.norm.weight": (d,),
            "y_pos_embedding": (1, self.text_length, d),
        }
        for i in range(self.depth):
            block = f"patch_blocks.{i}"
            for stream in "xy":
                shapes[f"{block}.norm_{stream}1.weight"] = shapes[f"{block}.norm_{stream}2.weight"] = (d,)
                shapes[f"{block}.attn.qkv_{stream}.weight"] = (3 * d, d)
                shapes[f"{block}.attn.q_norm_{stream}.weight"] = shapes[f"{block}.attn.k_norm_{stream}.weight"] = (
                    head,
                )
                shapes |= _linear(f"{block}.attn.proj_{stream}", d, d)
                for part, (rows, columns) in {"w1": (0, 1), "w3": (0, 1), "w2": (1, 0)}.items():
                    sides = (d, self.feed_forward)
                    shapes[f"{block}.mlp_{stream}.{part}.weight"] = (sides[columns], sides[rows])
            for stream in ("img", "txt"):
                shapes |= _linear(f"{block}.adaLN_modulation_{stream}.0", d, 6 * d)
        return shapes

    def _pixels(self) -> dict[str, tuple[int, ...]]:
        c, a, pixels = self.pixel_hidden, self.pixel_attention, self.patch**2
        shapes: dict[str, tuple[int, ...]] = {
            **_linear("pixel_embedder.proj", 3, c),
            "final_layer.norm.weight": (c,),
            **_linear("final_layer.linear", c, 3),
        }
        for i in range(self.pixel_depth):
            block = f"pixel_blocks.{i}"
            shapes[f"{block}.norm1.weight"] = shapes[f"{block}.norm2.weight"] = (c,)
            shapes |= _linear(f"{block}.compress_to_attn", pixels * c, a)
            shapes |= _linear(f"{block}.expand_from_attn", a, pixels * c)
            shapes[f"{block}.attn.qkv.weight"] = (3 * a, a)
            shapes[f"{block}.attn.q_norm.weight"] = shapes[f"{block}.attn.k_norm.weight"] = (a // self.pixel_heads,)
            shapes |= _linear(f"{block}.attn.proj", a, a)
            shapes |= _linear(f"{block}.mlp.fc1", c, 4 * c)
            shapes |= _linear(f"{block}.mlp.fc2", 4 * c, c)
            shapes |= _linear(f"{block}.adaLN_modulation.0", self.hidden, 6 * c * pixels)
        return shapes

    def _projection(self) -> dict[str, tuple[int, ...]]:
        d, width = self.hidden, self.projection
        shapes = {**_conv("lq_proj.latent_proj.0", self.folded_channels, width)}
        shapes |= _conv("lq_proj.latent_proj.2", width, width)
        for i in range(3, 3 + self.residuals):
            block = f"lq_proj.latent_proj.{i}.block"
            for norm, conv in ((0, 2), (3, 5)):
                shapes[f"{block}.{norm}.weight"] = shapes[f"{block}.{norm}.bias"] = (width,)
                shapes |= _conv(f"{block}.{conv}", width, width)
        gates = [f"lq_proj.gate_modules.{i}" for i in range(len(self.injections))]
        heads = [f"lq_proj.output_heads.{i}" for i in range(len(self.injections))]
        if self.pixel_injection:
            gates, heads = [*gates, "pit_lq_gate"], [*heads, "lq_proj.pit_head"]
        for gate, head in zip(gates, heads, strict=True):
            shapes |= _linear(head, width, d)
            shapes |= _linear(f"{gate}.content_proj", 2 * d, d if self.gate_per_channel else 1)
            shapes[f"{gate}.log_alpha"] = ()
        return shapes


def time_frequencies() -> NDArray[np.float32]:
    """Return what t, up to 1000, is multiplied by before its sines and cosines, (128,): rounded as the network's are.

    In float32 a product of 1000 is 3e-5 off, which shows in the result: so these are part of the network.
    """
    exponents = np.arange(TIME_FREQUENCIES, dtype=np.float32) * np.float32(-math.log(TIME_PERIOD))
    return np.exp((exponents / np.float32(TIME_FREQUENCIES)).astype(np.float64)).astype(np.float32)


def _linear(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs), f"{name}.bias": (outputs,)}


def _conv(name: str, inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs, 3, 3), f"{name}.bias": (outputs,)}


def random_tensors(architecture: Architecture, seed: int) -> dict[str, Stored]:
    """Return random tensors in place of a checkpoint's, each made when it is read.

    Activations keep their size through the layers, and no tensor is without effect: matrices are normal with variance
    1/inputs, norms are around 1, biases around 0.

    Args:
        architecture: Sizes of the network.
        seed: Seed, 0..2^64-1.

    Raises:
        PidSamplerError: The seed is outside its range.
    """
    check_number("seed", seed, bits=64)
    return {
        name: Stored(shape=shape, dtype=np.dtype(np.float32), load=partial(_random, name, shape, seed))
        for name, shape in architecture.shapes().items()
    }


def _random(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    normal = np.random.default_rng([seed, zlib.crc32(name.encode())]).standard_normal(shape, np.float32)
    if name.endswith("log_alpha"):
        return np.asarray(math.log(5.0) + 0.1 * normal, np.float32)
    if len(shape) == 1:
        is_norm = name.endswith("weight")
        return np.asarray(is_norm + 0.1 * normal, np.float32)
    if name == "y_pos_embedding":
        return normal
    return np.asarray(normal / np.sqrt(np.float32(math.prod(shape[1:]))), np.float32)
