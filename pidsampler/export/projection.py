"""The projection of the latent, which PiD injects into its blocks: it depends on neither x nor t."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from numpy.typing import NDArray

from .architecture import GROUPS, Architecture
from .build import FLOAT, Graph, Value
from .layers import Form, Layers, part_of
from .norms import group_norm
from .tensors import Stored

_GROUP_EPS = 1e-5


def build_projection(architecture: Architecture, tensors: Mapping[str, Stored], *, form: Form) -> Graph:
    """Return the graph of lq_projection.onnx: lq_latent (B, C, h, w) in float32 -> `Architecture.features`.

    Raises:
        PidSamplerError: The form does not suit the network.
    """
    return Projection("lq_projection", architecture, tensors=tensors, form=form).projection()


class Projection(Layers):
    """Adds the projection's layers to a graph, in float32: it is small, and made once."""

    def projection(self) -> Graph:
        """Return the graph of the projection alone."""
        g, b = self.g, self.form.batch
        tokens = self._tokens()
        for name, feature in zip(self.a.features, self._projected(self._latent()), strict=True):
            g.output(name, feature, dtype=self.compute, shape=(b, tokens, self.a.hidden))
        return g

    def _latent(self) -> Value:
        step = self.a.scale * self.a.latent_factor
        sides: list[int | str] = ["latent_height", "latent_width"]
        if self.form.size is not None:
            sides = [n // step for n in self.form.size]
        shape = (self.form.batch, self.a.latent_channels, *sides)
        return self.g.input("lq_latent", FLOAT, shape=shape)

    def _tokens(self) -> int | str:
        return "tokens" if self.form.size is None else math.prod(n // self.a.patch for n in self.form.size)

    def _projected(self, latent: Value) -> list[Value]:
        a, g = self.a, self.g
        z = latent
        if a.unpatchify > 1:
            z = g("DepthToSpace", z, blocksize=a.unpatchify, mode="CRD")
        if a.stretch > 1:
            scales = g.constant([1.0, 1.0, *[float(a.stretch)] * 2], FLOAT)
            nearest = {"mode": "nearest", "coordinate_transformation_mode": "asymmetric", "nearest_mode": "floor"}
            z = g("Resize", z, None, scales, **nearest)
        z = self._folded(z, a.stretch.denominator)
        z = self._conv("lq_proj.latent_proj.2", self._silu(self._conv("lq_proj.latent_proj.0", z)))
        for i in range(3, 3 + a.residuals):
            inner = z
            for norm, conv in ((0, 2), (3, 5)):
                block = f"lq_proj.latent_proj.{i}.block"
                inner = self._conv(f"{block}.{conv}", self._silu(self._group_norm(f"{block}.{norm}", inner)))
            z = g("Add", z, inner)
        tokens = self._reshaped(z, self.form.batch, a.projection, -1)
        tokens = self._cast(g("Transpose", tokens, perm=[0, 2, 1]), self.compute)
        heads = [f"lq_proj.output_heads.{i}" for i in range(len(a.injections))]
        return [self._linear(head, tokens) for head in [*heads, *(["lq_proj.pit_head"] if a.pixel_injection else [])]]

    def _folded(self, z: Value, f: int) -> Value:
        """(B, C, f*h, f*w) -> (B, C*f*f, h, w), the channels outermost."""
        if f == 1:
            return z
        g, channels = self.g, self.a.folded_channels // f**2
        folded = g("SpaceToDepth", z, blocksize=f)  # f*f outermost
        size = g("Shape", folded, start=2, end=4)
        start = g.constant([self.form.batch, f * f, channels])
        apart = g("Reshape", folded, g("Concat", start, size, axis=0))
        end = g.constant([self.form.batch, channels * f * f])
        return g("Reshape", g("Transpose", apart, perm=[0, 2, 1, 3, 4]), g("Concat", end, size, axis=0))

    def _conv(self, name: str, x: Value) -> Value:
        """3x3, in float32: the projection is small, and made once."""
        g, padding = self.g, [1, 1, 1, 1]
        if self.a.replicate:
            x, padding = g("Pad", x, g.constant([0, 0, 1, 1, 0, 0, 1, 1]), mode="edge"), [0, 0, 0, 0]
        weight, bias = (
            g.weight(f"{name}.{part}", self._tensors[f"{name}.{part}"], dtype=FLOAT) for part in ("weight", "bias")
        )
        return g("Conv", x, weight, bias, kernel_shape=[3, 3], pads=padding)

    def _group_norm(self, name: str, x: Value) -> Value:
        channels = self.a.projection
        scale, shift = (
            self.g.weight(one, part_of(self._tensors[one], (channels, 1, 1), change=_upright), dtype=FLOAT)
            for one in (f"{name}.weight", f"{name}.bias")
        )
        return group_norm(
            self.g, x, shape=(self.form.batch, channels, GROUPS), weight=scale, bias=shift, eps=_GROUP_EPS
        )


def _upright(w: NDArray[Any]) -> NDArray[Any]:
    return w[:, None, None]
