"""Tiles: a network sees a part of the picture at a time, while the sampling loop and the noise stay whole.

Only the velocity of a step is computed in tiles, which overlap and are blended by weights that sum to one. So seed,
schedule and the state between steps know nothing of tiles, and neighbors cannot drift apart over the steps
(the idea of MultiDiffusion, Bar-Tal et al., arXiv 2302.08113, with weights of one's own choice).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import cached_property
from itertools import pairwise
from typing import Any

import attrs
import numpy as np
from numpy.typing import NDArray

from .. import moved
from ..backends import Backend, get_backend
from ..denoiser import Denoiser, as_denoiser
from ..errors import ConfigError, ModelError
from ..image.blend import blend
from ..image.host import MOST_SIDE
from ..values import array, callback, field, function, instance, whole, wholes

Array = Any

# Pixels of the result that neighbors share unless said otherwise. `tiny` sees 56 pixels around one. In two by two
# tiles of 512, over the overlaps alone, its four steps differ from the whole by 42 dB without an overlap, 69 with 32,
# 93 with 64, 137 with 128 (6e-6 at most, of -1..1; 31 % more work), and by float32's rounding from 192 on. Networks
# that see further than it are why this is not 64.
OVERLAP = 128

Progress = Callable[[int, int], object]  # called as on_tile(how many are done, of how many), after each tile


@moved.keywords()
@attrs.frozen
class Tile:
    """A part of a picture, in pixels: of the result for `Tiled`, of the input for `encode_in_tiles`."""

    top: int = field(whole, low=0)
    left: int = field(whole, low=0)
    height: int = field(whole, low=1, kw_only=True)
    width: int = field(whole, low=1, kw_only=True)


@moved.keywords()
@attrs.frozen
class Axis:
    """One side of a picture, cut into tiles of one size; made by `axis`.

    Args:
        length: Length of the side, in pixels.
        size: Length of each tile.
        starts: Starts of the tiles, ascending from 0 to length - size, none further from the last than a tile's size.

    Raises:
        PidSamplerError: The tiles do not cover the side.
    """

    length: int = field(whole, high=MOST_SIDE)
    size: int = field(whole, high=MOST_SIDE)
    starts: tuple[int, ...] = field(wholes, kw_only=True)

    def __attrs_post_init__(self) -> None:
        ends = self.starts and self.starts[0] == 0 and self.starts[-1] == self.length - self.size
        if self.size < 1 or not ends or not all(0 < b - a <= self.size for a, b in pairwise(self.starts)):
            raise ConfigError(
                f"tiles of {self.size} from {self.starts} do not cover {self.length}: make an Axis by axis()"
            )

    @cached_property
    def overlaps(self) -> tuple[int, ...]:
        """How many pixels each tile has in common with the one before it; 0 for the first."""
        return 0, *(a + self.size - b for a, b in pairwise(self.starts))

    @cached_property
    def weights(self) -> tuple[NDArray[np.float64], ...]:
        """The weight of each tile's pixels: float64 (size,) in 0..1, of sum one over the tiles at every pixel.

        In an overlap of o pixels the outer o//4 of each tile count for nothing, since a network lacks surroundings
        there, and a raised cosine leads from one tile to the other in between. At the picture's own edges the weight
        is 1. Since less than half of an overlap is left out on either side, every pixel keeps a tile, also where more
        than two overlap; the weights are normalized for those.
        """
        weights = [np.ones(self.size) for _ in self.starts]
        for overlap, (before, after) in zip(self.overlaps[1:], pairwise(weights), strict=True):
            rise = _rise(overlap)
            before[self.size - overlap :] *= rise[::-1]
            after[:overlap] *= rise
        total = np.zeros(self.length)
        for start, weight in zip(self.starts, weights, strict=True):
            total[start : start + self.size] += weight
        for start, weight in zip(self.starts, weights, strict=True):
            weight /= total[start : start + self.size]
            weight.flags.writeable = False
        return tuple(weights)

    def reduced(self, factor: int) -> Axis:
        """Return the same tiles on a grid that is `factor` times coarser.

        Raises:
            PidSamplerError: A tile does not begin or end at a multiple of the factor.
        """
        factor = whole("factor", factor, low=1)
        for n in (self.length, self.size, *self.starts):
            if n % factor:
                raise ConfigError(
                    f"tiles of {self.size} of {self.length} begin or end at {n}, not a multiple of {factor}: "
                    f"make the grid with unit={factor} or a multiple"
                )
        return Axis(self.length // factor, self.size // factor, starts=tuple(start // factor for start in self.starts))


@moved.keywords()
def axis(length: int, size: int, *, overlap: int, unit: int = 1) -> Axis:
    """Cut a side into as few tiles as the overlap allows, spread evenly.

    Args:
        length: Length of the side in pixels, above 0; a multiple of `unit` where it is longer than a tile.
        size: Length of a tile, likewise. A tile as long as the side or longer makes one tile, the side itself.
        overlap: Least that neighbors have in common, 0..size - unit; it is rounded up to a multiple of `unit`.
        unit: Number whose multiples tiles begin at: that of the network's patch and the latent's factor.

    Raises:
        PidSamplerError: A number is not as described.
    """
    length, size, unit = (
        whole(name, n, low=1, high=MOST_SIDE) for name, n in (("length", length), ("size", size), ("unit", unit))
    )
    overlap = whole("overlap", overlap, low=0, high=MOST_SIDE)
    if size >= length:
        return Axis(length, length, starts=(0,))
    for name, n in (("side", length), ("tile", size)):
        if n % unit:
            raise ConfigError(f"a {name} of {n} pixels is not a multiple of {unit}: pass {-(-n // unit) * unit}")
    sides, tile, shared = length // unit, size // unit, -(-overlap // unit)
    if shared >= tile:
        raise ConfigError(
            f"overlap {overlap} leaves nothing of a tile of {size} pixels, whose starts are multiples of {unit}: pass "
            f"an overlap of at most {size - unit}, or tiles of at least {(shared + 1) * unit}"
        )
    gaps = -(-(sides - tile) // (tile - shared))
    if gaps >= 1_000_000:
        raise ConfigError(f"a side of {length} in tiles of {size} is {gaps + 1} tiles: pass larger tiles")
    return Axis(length, size, starts=tuple(unit * (k * (sides - tile) // gaps) for k in range(gaps + 1)))


@attrs.frozen
class Grid:
    """The tiles of a picture: those of its rows times those of its columns. Iteration goes row by row.

    A tile's weight at (y, x) is rows.weights[i][y]*columns.weights[j][x]: these sum to one as well.

    Args:
        rows: How the height is cut.
        columns: How the width is cut.
    """

    rows: Axis = field(instance, kind=Axis, words="an Axis")
    columns: Axis = field(instance, kind=Axis, words="an Axis")

    def __len__(self) -> int:
        return len(self.rows.starts) * len(self.columns.starts)

    def __iter__(self) -> Iterator[Tile]:
        for top in self.rows.starts:
            for left in self.columns.starts:
                yield Tile(top, left, height=self.rows.size, width=self.columns.size)

    def reduced(self, factor: int) -> Grid:
        """Return the same tiles on a grid that is `factor` times coarser; see `Axis.reduced`."""
        return Grid(self.rows.reduced(factor), self.columns.reduced(factor))


class Tiled:
    """A Denoiser whose output is that of other ones on overlapping tiles, blended.

    It holds x and the output of one tile, in the types that the tile's network reads and writes, made once. A grid of
    one tile goes straight to the network, which is then kept.

    Args:
        cut: Returns the Denoiser (or callable net(x, t) -> m) of a tile, its conditions cut with it, see `cut_latent`.
            It is asked anew for each tile of each step: to hold the conditions of all tiles would take the memory that
            tiles save.
        grid: Tiles in pixels of x.
        backend: Owner of x and out.
        on_tile: Progress within a step: on_tile(done, total) after each tile. An exception cancels.
    """

    @moved.keywords()
    def __init__(
        self,
        cut: Callable[[Tile], Denoiser | Callable[[Array, float], Array]],
        grid: Grid,
        *,
        backend: Backend,
        on_tile: Progress | None = None,
    ) -> None:
        function("cut", cut, takes="(tile)")
        callback("on_tile", on_tile, takes="(done, total)")
        self.grid = instance("grid", grid, kind=Grid, words="a Grid")
        backend = get_backend(backend)
        self._cut, self._on_tile = cut, on_tile
        self._blender = _Blender(grid, backend)
        self._whole: Denoiser | None = None
        self._x, self._m = _Buffer(backend), _Buffer(backend)

    def predict(self, x: Array, t: float, out: Array) -> None:
        """Write the blended output for x at noise level t into out; see `Denoiser.predict`.

        Args:
            x: (B, C, H, W) of a state's type, H and W those of the grid.
            t: Time, in (0, 1].
            out: Array like x; not the same memory.

        Raises:
            PidSamplerError: x or out is not of the grid's size, or `cut` returned no denoiser.
        """
        size = self.grid.rows.length, self.grid.columns.length
        if x.ndim != 4 or x.shape[2:] != size or out.shape != x.shape:
            raise ConfigError(
                f"x and out have shapes {x.shape} and {out.shape}, but the tiles are those of (batch, channels, "
                f"{size[0]}, {size[1]}): make the grid from the shape that is sampled"
            )
        for done, place in enumerate(self._blender.places, 1):
            self._predict(place, x, t, out)
            if self._on_tile is not None:
                self._on_tile(done, len(self.grid))

    def _predict(self, place: _Place, x: Array, t: float, out: Array) -> None:
        tile = place.tile
        denoiser = self._whole or as_denoiser(self._cut(tile))
        read, written = getattr(denoiser, "input_dtype", x.dtype), getattr(denoiser, "output_dtype", out.dtype)
        if len(self.grid) == 1:
            self._whole = denoiser
            if (read, written) == (x.dtype, out.dtype):
                denoiser.predict(x, t, out)
                return
        shape = (*x.shape[:2], tile.height, tile.width)
        part, m = self._x.of(shape, read), self._m.of(shape, written)
        with np.errstate(over="ignore"):  # what a half-precision network cannot hold becomes infinity
            part[...] = _part(x, tile)
        denoiser.predict(part, t, m)
        self._blender.blend(place, m, out)


@moved.keywords()
def cut_latent(latent: Array, tile: Tile, *, factor: int) -> Array:
    """Return the part of a latent that a tile stands on, contiguous: the latent itself where that is all of it.

    Args:
        latent: (B, C, h, w).
        tile: In pixels of the result.
        factor: Pixels of the result per latent pixel, along a side: the model's scale times its VAE's factor.

    Raises:
        PidSamplerError: The tile is not aligned to the factor, or reaches out of the latent.
    """
    if any(n % factor for n in (tile.top, tile.left, tile.height, tile.width)):
        raise ConfigError(
            f"{tile} is not aligned to latent pixels of {factor}: make the grid with unit={factor} or a multiple"
        )
    small = Tile(tile.top // factor, tile.left // factor, height=tile.height // factor, width=tile.width // factor)
    if small.top + small.height > latent.shape[2] or small.left + small.width > latent.shape[3]:
        raise ConfigError(f"{tile} reaches out of a latent of shape {latent.shape} at {factor} pixels each")
    part = _part(latent, small)
    return latent if part.shape == latent.shape else part.copy()


@moved.keywords()
def encode_in_tiles(
    encode: Callable[[Array], Array],
    image: Array,
    *,
    grid: Grid,
    factor: int,
    channels: int,
    backend: Backend,
    on_tile: Progress | None = None,
) -> Array:
    """Encode a picture in overlapping tiles, and blend their latents.

    Args:
        encode: Function of a tile, float32 (1, 3, h, w), to its latent (1, C, h/f, w/f) of any floating type. It must
            not keep what it is given: the next tile comes in the same memory.
        image: float32 (1, 3, H, W) in -1..1.
        grid: Tiles in pixels of the image, H x W, made with a unit that is a multiple of the factor.
        factor: f, pixels of the image per latent pixel, along a side.
        channels: C.
        backend: Owner of the image and the latents.
        on_tile: Called as on_tile(done, total) after each tile.

    Returns:
        float32 latent (1, C, H/f, W/f).

    Raises:
        PidSamplerError: The grid does not suit the image or the factor, or `encode` returned another shape.
    """
    function("encode", encode, takes="(tile)")
    callback("on_tile", on_tile, takes="(done, total)")
    instance("grid", grid, kind=Grid, words="a Grid")
    channels, backend = whole("channels", channels, low=1, high=1 << 16), get_backend(backend)
    if array("image", image).shape[2:] != (grid.rows.length, grid.columns.length):
        raise ConfigError(
            f"the image has shape {image.shape}, expected {grid.rows.length}x{grid.columns.length} as the grid"
        )
    small = grid.reduced(factor)
    blender = _Blender(small, backend)
    latent = backend.empty((1, channels, small.rows.length, small.columns.length), np.float32)
    buffer = _Buffer(backend)
    for done, (tile, place) in enumerate(zip(grid, blender.places, strict=True), 1):
        part = image
        if len(grid) > 1:
            part = buffer.of((*image.shape[:2], tile.height, tile.width), image.dtype)
            part[...] = _part(image, tile)
        encoded = encode(part)
        expected = 1, channels, place.tile.height, place.tile.width
        if encoded.shape != expected:
            raise ModelError(
                f"the encoder returned shape {encoded.shape} for a tile of {part.shape}, expected {expected}"
            )
        blender.blend(place, encoded, latent)
        if on_tile is not None:
            on_tile(done, len(grid))
    return latent


@attrs.frozen
class _Place:
    """A tile, which of its axes' tiles it is made of, and the offset in it from which no earlier tile wrote."""

    tile: Tile
    row: int
    column: int
    unwritten: tuple[int, int]


class _Blender:
    """Adds tiles up, in the grid's order, with the weights on the device."""

    def __init__(self, grid: Grid, backend: Backend) -> None:
        self._grid, self._backend = grid, backend
        across = len(grid.columns.starts)
        self.places = [
            _Place(tile, *divmod(k, across), (grid.rows.overlaps[k // across], grid.columns.overlaps[k % across]))
            for k, tile in enumerate(grid)
        ]
        self._weights: dict[Any, tuple[list[Array], list[Array]]] = {}

    def blend(self, place: _Place, values: Array, out: Array) -> None:
        """Put a tile's values to those of the tiles before it."""
        # In float64 too, where the state is: everything else takes weights of float32.
        dtype = np.dtype(np.float64 if self._backend.dtype(out) == np.float64 else np.float32)
        if dtype not in self._weights:
            rows, columns = (
                [self._backend.adopt(weight.astype(dtype)) for weight in side.weights]
                for side in (self._grid.rows, self._grid.columns)
            )
            self._weights[dtype] = rows, columns
        rows, columns = self._weights[dtype]
        blend(
            values,
            out,
            rows=rows[place.row],
            columns=columns[place.column],
            top=place.tile.top,
            left=place.tile.left,
            unwritten=place.unwritten,
            backend=self._backend,
        )


class _Buffer:
    """An array that is made again only for another shape or type."""

    def __init__(self, backend: Backend) -> None:
        self._backend, self._array = backend, None

    def of(self, shape: tuple[int, ...], dtype: Any) -> Array:
        if self._array is None or self._array.shape != shape or self._array.dtype != dtype:
            self._array = None  # not both at once
            self._array = self._backend.empty(shape, dtype)
        return self._array


def _part(x: Array, tile: Tile) -> Array:
    return x[:, :, tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]


def _rise(overlap: int) -> NDArray[np.float64]:
    """(overlap,): 0 in the outer quarter, then a raised cosine, 1 in the inner quarter; mirrored, 1 minus itself."""
    margin = overlap // 4
    ramp = np.arange(overlap - 2 * margin) + 0.5
    middle = np.sin(0.5 * np.pi * ramp / max(1, len(ramp))) ** 2
    return np.concatenate([np.zeros(margin), middle, np.ones(margin)])
