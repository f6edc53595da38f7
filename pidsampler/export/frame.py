"""The sizes of a whole sampler's tensors: numbers, or names that the graph works out from the picture it is given."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ..errors import ConfigError
from ..image.host import MOST_SIDE
from ..onnx.contract import Contract
from ..onnx.whole import LATENT_SIDES, PICTURE_SIDES, RESULT_SIDES, SAMPLED_SIDES
from ..values import shown, wholes, word
from .build import Graph, Value

ANY = "any"

Axes = tuple[int | str, ...]
Extent = Sequence[int] | Value  # a shape: numbers, or int64 values of the graph


def as_size(size: object) -> tuple[int, int] | None:
    """Return the (height, width) of a result; None for "any".

    Raises:
        PidSamplerError: The size is neither.
    """
    if isinstance(size, str):
        word("size", size, choices=(ANY,))
        return None
    wanted = wholes("size", size, low=1, high=MOST_SIDE)
    if len(wanted) != 2:
        raise ConfigError(f"size={shown(size)} must be (height, width) of the result in pixels, or {ANY!r}")
    return wanted[0], wanted[1]


class FixedFrame:
    """Sizes that are numbers.

    Args:
        contract: The model's.
        size: (height, width) of the result.
        encodes: Whether the model has an encoder, and so takes pictures.

    Attributes:
        size: (height, width) of the result.
        picture: (height, width) of the picture.
        latent: (height, width) of the latent.
        sampled: (height, width) of what is sampled: the picture is padded to whole latent pixels.

    Raises:
        PidSamplerError: The model cannot make that size at once.
    """

    def __init__(self, contract: Contract, size: tuple[int, int], *, encodes: bool) -> None:
        unit = contract.scale if encodes else contract.unit
        if any(n % unit for n in size):
            what = f"{contract.name} makes sides of multiples of {unit} pixels"
            near = "x".join(str(max(unit, round(n / unit) * unit)) for n in reversed(size))
            raise ConfigError(f"the result's size is {size[1]}x{size[0]}, but {what}: pass {near}, say")
        small = (size[0] // contract.scale, size[1] // contract.scale)
        padded = contract.padded_size(*small)
        if contract.fixed_size not in (None, padded):
            raise ConfigError(f"{_only(contract)}: pass a size of at most that")
        self.size, self.picture, self._padded = size, small, padded
        self.latent = (padded[0] // contract.vae_factor, padded[1] // contract.vae_factor)
        self.sampled = (padded[0] * contract.scale, padded[1] * contract.scale)

    def measure(self, g: Graph, source: Value, *, axis: int) -> None:
        """Do nothing: all is known."""

    def extent(self, g: Graph, channels: int, *, latent: bool = False) -> Extent:
        """Return the shape of what is sampled, or of the latent."""
        return (1, channels, *(self.latent if latent else self.sampled))

    def padded(self, g: Graph, x: Value) -> Value:
        """Pad a picture (1, 3, height, width): what lies outside is read back in reverse, as `to_tensor` does."""
        for axis, (n, wanted) in enumerate(zip(self.picture, self._padded, strict=True), start=2):
            if n != wanted:
                x = g("Gather", x, g.constant(np.pad(np.arange(n), (0, wanted - n), mode="reflect")), axis=axis)
        return x

    def cropped(self, g: Graph, x: Value) -> Value:
        """Take the result out of what was sampled."""
        if self.sampled == self.size:
            return x
        return g("Slice", x, g.constant([0, 0]), g.constant(list(self.size)), g.constant([2, 3]))


class AnyFrame:
    """Sizes that are names, and values that the graph works out when it runs; with the attributes of `FixedFrame`.

    Args:
        contract: The model's.
        encodes: Whether the model has an encoder, and so takes pictures.

    Raises:
        PidSamplerError: The model makes one size alone.
    """

    def __init__(self, contract: Contract, *, encodes: bool) -> None:
        if contract.fixed_size is not None:
            raise ConfigError(f"{_only(contract)}: pass that size, in place of {ANY!r}")
        self.size, self.picture, self.latent = RESULT_SIDES, PICTURE_SIDES, LATENT_SIDES
        self.sampled = SAMPLED_SIDES if encodes else RESULT_SIDES
        self._contract, self._encodes = contract, encodes
        self._small: list[Value] = []  # height and width of the picture, int64 scalars
        self._latent: list[Value] = []

    def measure(self, g: Graph, source: Value, *, axis: int) -> None:
        """Read the sizes off the input.

        Args:
            g: The graph.
            source: The picture, or the latent.
            axis: Axis of its height, which that of its width follows.
        """
        shape, factor = g("Shape", source), self._contract.vae_factor
        sides = [g("Gather", shape, g.constant(n), axis=0) for n in (axis, axis + 1)]
        if self._encodes:
            self._small = sides
            self._latent = [_with(g, "Div", _with(g, "Add", n, factor - 1), factor) for n in sides]
        else:
            self._small, self._latent = [_with(g, "Mul", n, factor) for n in sides], sides

    def extent(self, g: Graph, channels: int, *, latent: bool = False) -> Extent:
        """Return the shape of what is sampled, or of the latent: int64 (4,)."""
        unit = 1 if latent else self._contract.unit
        return g("Concat", g.constant([1, channels]), *self._ends(g, self._latent, unit), axis=0)

    def padded(self, g: Graph, x: Value) -> Value:
        """Pad a picture (1, 3, height, width): what lies outside is read back in reverse, as `to_tensor` does."""
        zero, one = g.constant(0), g.constant(1)
        for axis, (n, cells) in enumerate(zip(self._small, self._latent, strict=True), start=2):
            last = g("Sub", n, one)  # of 0, 1 ... last ... 1, 0, 1: it comes again after twice that
            places = g("Range", zero, _with(g, "Mul", cells, self._contract.vae_factor), one)
            places = g("Mod", places, g("Max", _with(g, "Mul", last, 2), one))
            x = g("Gather", x, g("Sub", last, g("Abs", g("Sub", places, last))), axis=axis)
        return x

    def cropped(self, g: Graph, x: Value) -> Value:
        """Take the result out of what was sampled."""
        if not self._encodes:
            return x
        ends = g("Concat", *self._ends(g, self._small, self._contract.scale), axis=0)
        return g("Slice", x, g.constant([0, 0]), ends, g.constant([2, 3]))

    def _ends(self, g: Graph, sides: Sequence[Value], factor: int) -> list[Value]:
        return [g("Unsqueeze", _with(g, "Mul", n, factor), g.constant([0])) for n in sides]


Frame = FixedFrame | AnyFrame


def _with(g: Graph, op: str, value: Value, number: int) -> Value:
    return g(op, value, g.constant(number))


def _only(contract: Contract) -> str:
    height, width = (n * contract.scale for n in contract.fixed_size or (0, 0))
    return f"{contract.name} makes {width}x{height} at once, and one graph has no tiles"
