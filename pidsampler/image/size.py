"""Which size a result is to have: the model's own, or less.

A model samples at its native scale always. Another size is made of that result by one reduction (`lanczos.reduce`);
nothing is ever enlarged, and no model is run twice. Sizes are written WIDTHxHEIGHT, and pairs are (height, width).
"""

from __future__ import annotations

import re
import warnings
from fractions import Fraction

import attrs

from .. import moved
from ..errors import ConfigError, PidSamplerWarning
from ..values import field, flag, instance, number, shown, whole, wholes, word

_SIZE = re.compile(r"(\d{0,9})x(\d{0,9})", re.ASCII | re.IGNORECASE)
_STRETCH = Fraction(1, 100)  # a change of the aspect ratio that is not worth a word


@moved.keywords()
@attrs.frozen
class Size:
    """Output size that was asked for: a scale, or a width, a height, or both.

    Args:
        scale: Output side over input side, above 0.
        width: Pixels, at least 1. Alone, the height follows the picture's shape.
        height: Pixels, at least 1; likewise.
        fit: Take width and height as a box, of which an absent side is open: the largest size inside it that keeps
            the picture's shape. Without it both are exact, and the shape may change.

    Raises:
        PidSamplerError: Neither a scale nor a side is given, or both; a value is no such number; or `fit` has no
            box.
    """

    scale: float | None = field(number, low=0, above=True, default=None, optional=True)
    width: int | None = field(whole, low=1, default=None, optional=True)
    height: int | None = field(whole, low=1, default=None, optional=True, kw_only=True)
    fit: bool = field(flag, default=False, kw_only=True)

    def __attrs_post_init__(self) -> None:
        sides = [side for side in (self.width, self.height) if side is not None]
        if self.scale is None and not sides:
            raise ConfigError("a size needs a scale, a width or a height: pass such as scale=2, or width=3000")
        if self.scale is not None and (sides or self.fit):
            other = "fit" if self.fit else "a width or height"
            raise ConfigError(f"scale={self.scale} and {other} exclude each other: pass one of them")

    @classmethod
    @moved.keywords()
    def parse(cls, scale: str | float | None = None, size: str | None = None, *, fit: bool = False) -> Size | None:
        """Read a size from text.

        Args:
            scale: Output side over input side, such as "2" or "1.5".
            size: Output size: "3000x2000", or one side as "3000x" or "x2000".
            fit: Take the size as a box.

        Returns:
            None if nothing is asked for: the native size.

        Raises:
            PidSamplerError: One of them cannot be read, or they exclude each other.
        """
        width = height = None
        if size is not None:
            found = _SIZE.fullmatch(word("size", size).strip())
            if found is None or not any(found.groups()):
                raise ConfigError(f"size={shown(size)} is not a size: pass 3000x2000, or one side as 3000x or x2000")
            width, height = (int(side) if side else None for side in found.groups())
            if 0 in (width, height):
                raise ConfigError(f"size={shown(size)} has a side of 0 pixels: pass at least 1")
        elif flag("fit", fit) and scale is None:
            raise ConfigError("fit=True has nothing to fit into: pass a size such as 3000x2000 with it")
        if isinstance(scale, str):
            try:
                scale = float(scale)
            except ValueError as error:
                raise ConfigError(f"scale={shown(scale)} is not a number: pass one such as 2 or 1.5") from error
        if scale is not None and size is not None:
            raise ConfigError(f"scale={shown(scale)} and size={shown(size)} exclude each other: pass one of them")
        return None if scale is None and size is None else cls(scale, width, height=height, fit=fit)

    def __str__(self) -> str:
        """As the command line has it: "scale 1.5", "3000x2000", "x2000", "3000x2000 fit"."""
        if self.scale is not None:
            return f"scale {self.scale:g}"
        return f"{self.width or ''}x{self.height or ''}{' fit' * self.fit}"


@moved.keywords()
def resolve(size: Size | None, native: tuple[int, int], *, native_scale: int) -> tuple[int, int]:
    """Return the (height, width) of a result.

    Sides are rounded to the nearest pixel (Python's `round`), and at least 1. A box of `fit` larger than native gives
    native. An exact width and height may change the aspect ratio, see `warn_if_stretched`.

    Args:
        size: What was asked for; None for native.
        native: (height, width) that the model makes of the input.
        native_scale: Native side over input side.

    Raises:
        PidSamplerError: A side would be above native.
    """
    tall, wide = native = _native(native)
    whole("native_scale", native_scale, low=1)
    if size is None:
        return native
    instance("size", size, kind=Size, words="a Size")
    if size.scale is not None:
        if size.scale > native_scale:
            raise ConfigError(
                f"scale {size.scale:g} is above {native_scale}, the model's own: a result is never enlarged; "
                f"pass {native_scale} or less"
            )
        height, width = (max(1, round(side / native_scale * size.scale)) for side in native)
        return height, width
    if size.fit:
        shares = [Fraction(1)]
        shares += [] if size.width is None else [Fraction(size.width, wide)]
        shares += [] if size.height is None else [Fraction(size.height, tall)]
        return max(1, round(tall * min(shares))), max(1, round(wide * min(shares)))
    if (size.width or 0) > wide or (size.height or 0) > tall:
        raise ConfigError(
            f"size {size} is above {wide}x{tall}, what the model makes of this input: a result is never enlarged; "
            f"pass at most that, or fit=True for the largest inside both"
        )
    if size.width is None:
        assert size.height is not None
        return size.height, max(1, round(Fraction(wide * size.height, tall)))
    if size.height is None:
        return max(1, round(Fraction(tall * size.width, wide))), size.width
    return size.height, size.width


@moved.keywords()
def warn_if_stretched(height: int, width: int, *, native: tuple[int, int]) -> None:
    """Warn where a size changes the aspect ratio by more than 1 %, and by more than rounding explains."""
    tall, wide = _native(native)
    height, width = whole("height", height, low=1), whole("width", width, low=1)
    stretch = Fraction(width * tall, height * wide)
    (low, high), (other_low, other_high) = _scales(height, tall), _scales(width, wide)
    rounding = low <= other_high and other_low <= high
    if max(stretch, 1 / stretch) > 1 + _STRETCH and not rounding:
        warnings.warn(
            f"size {width}x{height} changes the shape of a picture of {wide}x{tall} by "
            f"{float(max(stretch, 1 / stretch) - 1):.1%}: pass fit=True, or one side alone, to keep it",
            PidSamplerWarning,
            stacklevel=6,  # the caller of `Upscaler.__call__`
        )


def _native(native: tuple[int, int]) -> tuple[int, int]:
    sides = wholes("native", native, low=1)
    if len(sides) != 2:
        raise ConfigError(f"native={shown(native)} must be (height, width)")
    return sides[0], sides[1]


def _scales(new: int, side: int) -> tuple[Fraction, Fraction]:
    """Return the least and the largest scale that round a side to such a new one."""
    half = Fraction(1, 2)
    return (new - half if new > 1 else Fraction(0)) / side, (new + half) / side
