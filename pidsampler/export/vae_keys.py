"""PiD's VAE encoders as numbers: their sizes, the names and shapes of their tensors, and the layouts they come in.

Sources: the public code of nv-tlabs/PiD, `tokenizers/sdxl_vae.py`, `flux_vae.py`, `flux2_vae.py` and
`qwenimage_vae.py`, for what a latent is; diffusers 0.42, `models/autoencoders/`, for the names that tensors have here.
"""

from __future__ import annotations

import math
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..noise.philox import check_number, normal
from .fp8 import dequantized
from .layouts import copies, place, say_copies, unwrapped
from .tensors import Stored, check_tensors

_F32 = np.dtype(np.float32)
_QWEN_MEAN = (
    *(-0.7571, -0.7089, -0.9113, 0.1075, -0.1745, 0.9653, -0.1517, 1.5508),
    *(0.4134, -0.0715, 0.5517, -0.3632, -0.1922, -0.9497, 0.2503, -0.2921),
)
_QWEN_STD = (
    *(2.8184, 1.4541, 2.3275, 2.6558, 1.2196, 1.7708, 2.6052, 2.0743),
    *(3.2687, 2.1526, 2.8652, 1.5579, 1.6382, 1.1253, 2.8251, 1.9160),
)


@dataclass(frozen=True, kw_only=True)
class Encoder:
    """A VAE encoder: image -> (mean of the posterior - shift) * scale.

    Smaller ones for tests come from dataclasses.replace, with other widths, layers and groups.

    Args:
        name: For messages, and of the graph.
        latent: Channels of the posterior's mean.
        scale: One number, or one for each of these channels; FLUX.2's is a batch normalization stored with the weights.
        shift: One number, or one for each of these channels.
        kind: "kl", diffusers' AutoencoderKL with group norms; "flux2", the same with the mean's 2x2 patches put into
            channels (channel c, row i, column j of a patch -> channel 4c + 2i + j) and a batch normalization of them;
            "wan", Wan's and Qwen-Image's causal 3-D network, which for one frame is one of 2-D convolutions, with RMS
            norms.
        quant_conv: Whether a 1x1 convolution follows the last one.
        widths: Channels at each size of the image, from the full one on; each next has half the sides.
        layers: Residual blocks at each size.
        groups: Groups of the group norms.
    """

    name: str
    latent: int
    scale: float | tuple[float, ...] = 1.0
    shift: float | tuple[float, ...] = 0.0
    kind: Literal["kl", "flux2", "wan"] = "kl"
    quant_conv: bool = True
    widths: tuple[int, ...] = (128, 256, 512, 512)
    layers: int = 2
    groups: int = 32

    def __post_init__(self) -> None:
        wrong = [
            f"{key} has {len(values)} numbers for {self.latent} channels"
            for key, values in (("scale", self.scale), ("shift", self.shift))
            if isinstance(values, tuple) and len(values) != self.latent
        ]
        if self.kind not in ("kl", "flux2", "wan"):
            wrong.append(f"kind={self.kind!r} is none of kl, flux2, wan")
        if self.kind != "wan":
            wrong += [f"width {n} is no multiple of {self.groups} groups" for n in self.widths if n % self.groups]
        if wrong:
            raise ConfigError(f"the sizes are of no VAE encoder: {'; '.join(wrong)}")

    def reduced(self) -> Encoder:
        """Return a small encoder of the same kind."""
        return replace(self, widths=tuple(width // 8 for width in self.widths), layers=1, groups=4)

    @property
    def patch(self) -> int:
        """Pixels of the posterior's mean per pixel of the latent, along a side."""
        return 2 if self.kind == "flux2" else 1

    @property
    def factor(self) -> int:
        """Pixels of the image per pixel of the latent, along a side."""
        return self.patch << (len(self.widths) - 1)

    @property
    def channels(self) -> int:
        """Channels of the latent."""
        return self.latent * self.patch**2


ENCODERS: dict[str, Encoder] = {
    encoder.name: encoder
    for encoder in (
        Encoder(name="sdxl", latent=4, scale=0.13025),
        Encoder(name="flux", latent=16, scale=0.3611, shift=0.1159, quant_conv=False),
        Encoder(name="sd3", latent=16, scale=1.5305, shift=0.0609, quant_conv=False),
        Encoder(name="flux2", latent=32, kind="flux2"),
        Encoder(
            name="qwenimage",
            latent=16,
            scale=tuple(1.0 / std for std in _QWEN_STD),
            shift=_QWEN_MEAN,
            kind="wan",
            widths=(96, 192, 384, 384),
        ),
    )
}
"""The encoders of PiD's backbones; FLUX.1's is Z-Image's too."""


@dataclass(frozen=True, kw_only=True)
class Residual:
    """A residual block: its name, and the channels that it takes and gives."""

    name: str
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Halving:
    """A convolution of stride 2: its name, and the channels that it takes and gives."""

    name: str
    channels: int


def down_path(encoder: Encoder) -> Iterator[Residual | Halving]:
    """Yield the blocks from the first convolution to the middle, in order."""
    inputs, flat = encoder.widths[0], 0
    for i, width in enumerate(encoder.widths):
        level = f"encoder.down_blocks.{i}"
        for j in range(encoder.layers):
            # Wan's blocks are numbered through, halvings among them.
            name = f"encoder.down_blocks.{flat}" if encoder.kind == "wan" else f"{level}.resnets.{j}"
            yield Residual(name=name, inputs=inputs, outputs=width)
            inputs, flat = width, flat + 1
        if i != len(encoder.widths) - 1:
            wan = f"encoder.down_blocks.{flat}.resample.1"
            yield Halving(wan if encoder.kind == "wan" else f"{level}.downsamplers.0.conv", width)
            flat += 1


def encoder_shapes(encoder: Encoder) -> dict[str, tuple[int, ...]]:
    """Return the shape of each tensor by its name in diffusers, without what only the decoder uses.

    Qwen-Image's have diffusers' names and the shapes of the 2-D network: (out, in, 3, 3) and (channels, 1, 1).
    """
    first, last, twice = encoder.widths[0], encoder.widths[-1], 2 * encoder.latent
    wan, middle = encoder.kind == "wan", "encoder.mid_block"
    shapes = _conv("encoder.conv_in", 3, first, 3)
    for block in down_path(encoder):
        if isinstance(block, Residual):
            shapes |= _residual(encoder, block)
        else:
            shapes |= _conv(block.name, block.channels, block.channels, 3)
    shapes |= _residual(encoder, Residual(name=f"{middle}.resnets.0", inputs=last, outputs=last))
    shapes |= (_wan_attention if wan else _attention)(f"{middle}.attentions.0", last)
    shapes |= _residual(encoder, Residual(name=f"{middle}.resnets.1", inputs=last, outputs=last))
    shapes |= _norm(encoder, "encoder.norm_out" if wan else "encoder.conv_norm_out", last)
    shapes |= _conv("encoder.conv_out", last, twice, 3)
    if encoder.quant_conv:
        shapes |= _conv("quant_conv", twice, twice, 1)
    if encoder.kind == "flux2":
        shapes["bn.running_mean"] = shapes["bn.running_var"] = (encoder.channels,)
    return shapes


def _residual(encoder: Encoder, block: Residual) -> dict[str, tuple[int, ...]]:
    shapes = _norm(encoder, f"{block.name}.norm1", block.inputs)
    shapes |= _conv(f"{block.name}.conv1", block.inputs, block.outputs, 3)
    shapes |= _norm(encoder, f"{block.name}.norm2", block.outputs)
    shapes |= _conv(f"{block.name}.conv2", block.outputs, block.outputs, 3)
    if block.inputs != block.outputs:
        shapes |= _conv(f"{block.name}.conv_shortcut", block.inputs, block.outputs, 1)
    return shapes


def _attention(name: str, width: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {f"{name}.group_norm.{part}": (width,) for part in ("weight", "bias")}
    for layer in ("to_q", "to_k", "to_v", "to_out.0"):
        shapes |= {f"{name}.{layer}.weight": (width, width), f"{name}.{layer}.bias": (width,)}
    return shapes


def _wan_attention(name: str, width: int) -> dict[str, tuple[int, ...]]:
    shapes: dict[str, tuple[int, ...]] = {f"{name}.norm.gamma": (width, 1, 1)}
    return shapes | _conv(f"{name}.to_qkv", width, 3 * width, 1) | _conv(f"{name}.proj", width, width, 1)


def _norm(encoder: Encoder, name: str, width: int) -> dict[str, tuple[int, ...]]:
    if encoder.kind == "wan":
        return {f"{name}.gamma": (width, 1, 1)}
    return {f"{name}.weight": (width,), f"{name}.bias": (width,)}


def _conv(name: str, inputs: int, outputs: int, kernel: int) -> dict[str, tuple[int, ...]]:
    return {f"{name}.weight": (outputs, inputs, kernel, kernel), f"{name}.bias": (outputs,)}


_PREFIXES = ("first_stage_model", "vae")
# What the decoder, training, or more than one frame needs; "conv2." is Wan's post_quant_conv.
_DROPPED = re.compile(r"(decoder|post_quant_conv|conv2|loss)\.|.*\.(time_conv\.\w+|num_batches_tracked)$")
_Renames = tuple[tuple[str, str], ...]
_KL_RENAMES: _Renames = (
    (r"^encoder\.down\.(\d+)\.block\.", r"encoder.down_blocks.\1.resnets."),
    (r"^encoder\.down\.(\d+)\.downsample\.", r"encoder.down_blocks.\1.downsamplers.0."),
    (r"^encoder\.mid\.block_1\.", "encoder.mid_block.resnets.0."),
    (r"^encoder\.mid\.block_2\.", "encoder.mid_block.resnets.1."),
    (r"^encoder\.mid\.attn_1\.norm\.", "encoder.mid_block.attentions.0.group_norm."),
    (r"^encoder\.mid\.attn_1\.([qkv])\.", r"encoder.mid_block.attentions.0.to_\1."),
    (r"^encoder\.mid\.attn_1\.proj_out\.", "encoder.mid_block.attentions.0.to_out.0."),
    (r"\.nin_shortcut\.", ".conv_shortcut."),
    (r"^encoder\.norm_out\.", "encoder.conv_norm_out."),
    (r"^encoder\.quant_conv\.", "quant_conv."),
    # diffusers' names of before 0.15
    (r"\.attentions\.0\.(q)uery\.", r".attentions.0.to_\1."),
    (r"\.attentions\.0\.(k)ey\.", r".attentions.0.to_\1."),
    (r"\.attentions\.0\.(v)alue\.", r".attentions.0.to_\1."),
    (r"\.attentions\.0\.proj_attn\.", ".attentions.0.to_out.0."),
)
_WAN_RENAMES: _Renames = (
    (r"^conv1\.", "quant_conv."),
    (r"^encoder\.conv1\.", "encoder.conv_in."),
    (r"^encoder\.downsamples\.", "encoder.down_blocks."),
    (r"^encoder\.middle\.0\.", "encoder.mid_block.resnets.0."),
    (r"^encoder\.middle\.1\.", "encoder.mid_block.attentions.0."),
    (r"^encoder\.middle\.2\.", "encoder.mid_block.resnets.1."),
    (r"^encoder\.head\.0\.", "encoder.norm_out."),
    (r"^encoder\.head\.2\.", "encoder.conv_out."),
    (r"\.residual\.0\.", ".norm1."),
    (r"\.residual\.2\.", ".conv1."),
    (r"\.residual\.3\.", ".norm2."),
    (r"\.residual\.6\.", ".conv2."),
    (r"\.shortcut\.", ".conv_shortcut."),
)


def canonical(
    tensors: Mapping[str, Stored], encoder: Encoder, *, where: str = "", note: Callable[[str], object] = str
) -> dict[str, Stored]:
    """Return an encoder's tensors under the names and shapes of `encoder_shapes`, from any of the layouts they come in.

    These are diffusers' and the LDM's (NVIDIA's, BFL's, ComfyUI's), the latter under `first_stage_model.` or `vae.` if
    the file holds more than the VAE, and each below what `layouts.is_weights` says. For Qwen-Image they are diffusers',
    Wan's and the 2-D one of NVIDIA. Of a causal 3-D convolution the last slice is taken: a single frame meets no other,
    the others see zeros before it. The decoder's tensors are dropped.

    Args:
        tensors: Tensors by name, of any floating type.
        encoder: The encoder.
        where: Source of the tensors, for messages.
        note: Called with a line about what was chosen, and what fp8 costs.

    Raises:
        PidSamplerError: Tensors are missing, unexpected, of another shape, or there twice; all of them are said.
    """
    where = f"{where or 'the checkpoint'} as VAE encoder {encoder.name!r}"
    expected = encoder_shapes(encoder)
    found: dict[str, Stored] = {}
    twice = []
    own = {name: tensor for name, tensor in _unprefixed(tensors, note).items() if not _DROPPED.match(name)}
    for name, tensor in dequantized(own, note=note).items():
        new = _renamed(name, encoder)
        twice += [f"{new} (as {name} too)"] if new in found else []
        found[new] = _fitted(tensor, expected.get(new, tensor.shape))
    if twice:
        raise ConfigError(f"{where}: tensors are there twice under different names: {', '.join(twice)}")
    check_tensors(found, expected, where=where)
    return {name: found[name] for name in expected}


def _unprefixed(tensors: Mapping[str, Stored], note: Callable[[str], object]) -> Mapping[str, Stored]:
    tensors = unwrapped(tensors)
    prefixes = copies(tensors, "encoder.", more=_PREFIXES)
    if not prefixes:
        return tensors
    say_copies(prefixes, note)
    own = prefixes[0]
    return {name.removeprefix(own): tensor for name, tensor in tensors.items() if place(name, prefixes) == own}


def _renamed(name: str, encoder: Encoder) -> str:
    for pattern, new in _WAN_RENAMES if encoder.kind == "wan" else _KL_RENAMES:
        name = re.sub(pattern, new, name)
    return name


def _fitted(tensor: Stored, shape: tuple[int, ...]) -> Stored:
    """Return the tensor in that shape if axes of length 1, or earlier frames, are all that they differ by."""
    if len(tensor.shape) == 5 and len(shape) == 4:
        load = tensor.load
        last = (*tensor.shape[:2], *tensor.shape[3:])
        tensor = Stored(shape=last, dtype=tensor.dtype, load=lambda: np.ascontiguousarray(load()[:, :, -1]))
    same = [n for n in tensor.shape if n != 1] == [n for n in shape if n != 1]
    return reshaped(tensor, shape) if same else tensor


def reshaped(tensor: Stored, shape: tuple[int, ...]) -> Stored:
    """Return the tensor in another shape."""
    return tensor if tensor.shape == shape else replace(tensor, shape=shape, load=lambda: tensor.load().reshape(shape))


def random_encoder(encoder: Encoder, seed: int) -> dict[str, Stored]:
    """Return random tensors in place of a checkpoint's, each made when it is read, as `encoder_shapes` has them.

    Activations keep their size through the layers, and no tensor is without effect: matrices are normal with variance
    1/inputs, norms are around 1, variances log-normal, biases and means around 0. They are `pidsampler.noise`'s, a pure
    function of seed and name, so that stored results stay true.

    Args:
        encoder: The encoder.
        seed: Seed, 0..2^64-1.

    Raises:
        PidSamplerError: The seed is outside its range.
    """
    check_number("seed", seed, bits=64)
    return {
        name: Stored(shape=s, dtype=_F32, load=partial(_random, name, s, seed))
        for name, s in encoder_shapes(encoder).items()
    }


def _random(name: str, shape: tuple[int, ...], seed: int) -> NDArray[np.float32]:
    values = normal(seed, zlib.crc32(name.encode()), shape)
    if name.endswith("running_var"):
        return np.asarray(np.exp(np.float32(0.5) * values))
    if name.endswith("gamma") or (len(shape) == 1 and name.endswith("weight")):
        return np.float32(1.0) + np.float32(0.1) * values
    scale = 0.1 if len(shape) == 1 else 1.0 / math.sqrt(math.prod(shape[1:]))
    return np.float32(scale) * values
