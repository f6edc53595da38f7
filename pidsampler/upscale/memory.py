"""A plan of the memory before any work: a picture whole, in tiles of what size, or not at all, with the numbers why.

What a result takes is bytes a pixel: of the sampler's own tensors, which are whole always, and of the network, which
sees a tile at a time.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Iterator
from threading import Event, Thread
from typing import Any

import attrs
import numpy as np

from .. import moved
from ..backends import Backend
from ..errors import ConfigError, PidSamplerError
from ..image.host import MOST_SIDE
from ..onnx import Model
from ..onnx.session import Session
from ..values import field, flag, instance, shown, whole, word
from .tiles import OVERLAP, Axis, Grid, axis

HEADROOM = 0.9  # of what is free: other programs take some too, and a plan is an estimate
WHOLE_BELOW = 1 << 20  # pixels of a result that is made whole without being asked: its plan would cost more than it
_PROBES = (256, 512)  # pixels a side that `measure` tries
POLL = 0.001  # seconds between two looks at what is held
_STATE = 12  # bytes a pixel of a float32 tensor of three channels
_AROUND = 8  # the input, its latent, and the picture of bytes
_DIGITS = 20  # of a number of bytes or pixels
_UNITS = {"": 1, "k": 10**3, "m": 10**6, "g": 10**9, "ki": 2**10, "mi": 2**20, "gi": 2**30}


def _tile(tile: str | int) -> str | int:
    if isinstance(tile, str):
        return word("tile", tile, choices=("auto", "off", "or a number of pixels"))
    return whole("tile", tile, low=1, high=MOST_SIDE)


@moved.keywords()
@attrs.frozen
class Tiling:
    """How results are cut up where memory asks for it. They hardly depend on it, see `upscale.tiles`.

    Args:
        tile: "auto": as memory allows; "off": whole, or an error; or the most pixels that a side of a tile may have, of
            the result.
        overlap: Pixels that neighboring tiles share at least; None for 128, or half of a smaller tile.
        max_memory: Bytes of the process, or on the card, that may be taken; None for what is free.
        encoder: Whether a number of `tile` is the encoder's too, whose tiles see less than the whole would.

    Raises:
        PidSamplerError: A value is not as described.
    """

    tile: str | int = attrs.field(converter=_tile, default="auto")
    overlap: int | None = field(whole, low=0, high=MOST_SIDE, default=None, optional=True)
    max_memory: int | None = field(whole, low=1, default=None, optional=True, kw_only=True)
    encoder: bool = field(flag, default=False, kw_only=True)

    def told(self, size: tuple[int, int], *, unit: int, scale: int) -> tuple[Grid, Grid] | None:
        """Return the tiles of the network and of the encoder where they are known before any planning; here never.

        Args:
            size: (height, width) of the result.
            unit: Pixels of the result for each latent pixel.
            scale: Pixels of the result for each of the input.
        """
        return None

    @classmethod
    @moved.keywords()
    def parse(cls, tile: str, overlap: int | None, *, max_memory: str | None) -> Tiling:
        """Read a tiling from text: a tile "auto", "off" or "1024", and memory such as "4G", "1.5GB", "800MiB".

        Args:
            tile: Side of a tile in pixels of the result, "auto" or "off".
            overlap: Pixels that neighboring tiles share at least; None for 128, or half of a smaller tile.
            max_memory: Most memory to use; None for what is free.

        Returns:
            The tiling.

        Raises:
            PidSamplerError: A text cannot be read.
        """
        most = None if max_memory is None else _bytes(word("max_memory", max_memory))
        return cls(
            int(tile) if word("tile", tile).isdecimal() and len(tile) < _DIGITS else tile, overlap, max_memory=most
        )


@attrs.frozen
class Need:
    """Memory that a model takes.

    Args:
        network: Bytes for each pixel of the tile, of the result, that the network sees.
        encoder: Bytes for each pixel of the input that the encoder sees.
    """

    network: float
    encoder: float


@attrs.frozen
class TilePlan:
    """How a picture is cut up.

    Args:
        grid: Tiles of the network, in pixels of the result.
        encoder: Tiles of the encoder, in pixels of the input.
        tiling: What the plan was made by.
    """

    grid: Grid = field(instance, kind=Grid, words="a Grid")
    encoder: Grid = field(instance, kind=Grid, words="a Grid")
    tiling: Tiling = field(instance, kind=Tiling, words="a Tiling", kw_only=True)

    @property
    def described(self) -> dict[str, Any] | None:
        """What the record says, enough to cut it so again: None for a picture made whole."""
        if len(self.grid) == len(self.encoder) == 1:
            return None

        def cut(grid: Grid) -> dict[str, int]:
            return {
                "width": grid.columns.size,
                "height": grid.rows.size,
                "columns": len(grid.columns.starts),
                "rows": len(grid.rows.starts),
            }

        overlaps = [n for side in (self.grid.rows, self.grid.columns) for n in side.overlaps[1:]]
        return {
            "of": {"width": self.grid.columns.length, "height": self.grid.rows.length},
            **cut(self.grid),
            "overlap": min(overlaps, default=0),
            "count": len(self.grid),
            "encoder": cut(self.encoder),
            "encoder_count": len(self.encoder),
        }


@attrs.frozen
class Memory:
    """Memory of a device at a moment.

    Args:
        free: Bytes that can still be taken; None if unknown.
        held: Bytes that are taken, by this process or on a GPU by everybody; None if unknown.
    """

    free: int | None
    held: int | None

    @classmethod
    def of(cls, backend: Backend) -> Memory:
        """Return the memory of a backend's device now."""
        return cls(backend.free_memory(), backend.held_memory())

    def budget(self, tiling: Tiling) -> int | None:
        """Return the bytes that results may take from now on; None if unknown."""
        most = [] if self.free is None else [int(HEADROOM * self.free)]
        if tiling.max_memory is not None:
            most.append(max(0, tiling.max_memory - (self.held or 0)))
        return min(most, default=None)


def plan(
    tiling: Tiling,
    size: tuple[int, int],
    *,
    unit: int,
    scale: int,
    fixed: tuple[int, int] | None,
    budget: int | None,
    tensors: int,
    need: Callable[[], Need],
) -> TilePlan:
    """Choose the largest tiles that fit.

    Args:
        tiling: What was asked for.
        size: (height, width) of the result, multiples of `unit`.
        unit: Pixels of the result for each latent pixel.
        scale: Pixels of the result for each of the input.
        fixed: (height, width) of the only result that the network makes, or None.
        budget: Bytes that may be taken; None if unknown.
        tensors: Full-size float32 tensors that the sampler holds: x, the network's output, the saved ones.
        need: What the model takes; asked only where it matters, since measuring may take a while.

    Raises:
        PidSamplerError: The result does not fit, or the tiling does not suit the model; the message has the numbers.
    """
    if budget is None or (size[0] * size[1] <= WHOLE_BELOW and tiling.max_memory is None):
        budget = sys.maxsize
    told = tiling.told(size, unit=unit, scale=scale)
    whole = _grid(size, size, tiling, unit)
    state = size[0] * size[1] * (tensors * _STATE + _AROUND)
    if told is not None:
        if state > budget:
            raise _refused(size, tensors, state, 0.0, budget)
        return TilePlan(*told, tiling=tiling)
    if fixed is not None or tiling.tile != "auto":  # by somebody who knows better: only what is certain is refused
        chosen = whole
        if fixed is not None:
            chosen = _fixed(tiling, size, unit, fixed)
        elif isinstance(tiling.tile, int):
            side = max(unit, tiling.tile // unit * unit)
            chosen = _grid(size, (side, side), tiling, unit)
        if state > budget:
            raise _refused(size, tensors, state, 0.0, budget)
        encoder = chosen if fixed is not None or tiling.encoder else whole
        return TilePlan(chosen, encoder.reduced(scale), tiling=tiling)
    if budget == sys.maxsize:
        return TilePlan(whole, whole.reduced(scale), tiling=tiling)
    needs = need()

    def taken(grid: Grid) -> float:
        pixels = grid.rows.size * grid.columns.size
        return pixels * (needs.network + (0 if len(grid) == 1 else 2 * _STATE))

    def encoded(grid: Grid) -> float:
        return grid.rows.size * grid.columns.size * needs.encoder / scale**2

    tiles = [whole, *_smaller(size, tiling, unit)]
    fitting = next((grid for grid in tiles if state + taken(grid) <= budget), None)
    if fitting is None:
        raise _refused(size, tensors, state, min(map(taken, tiles)), budget)
    encoder = next((grid for grid in tiles if encoded(grid) <= budget), tiles[-1])
    return TilePlan(fitting, encoder.reduced(scale), tiling=tiling)


def _refused(size: tuple[int, int], tensors: int, state: float, least: float, budget: int) -> PidSamplerError:
    more = f" and {_said(least)} for the smallest tile" if least else ""
    return ConfigError(
        f"a result of {size[1]}x{size[0]} takes {_said(state)} of memory for the sampler's {tensors} tensors{more}, "
        f"but there is {_said(budget)} beside the model: pass a smaller picture, a scheduler that saves less, or a "
        "higher max_memory"
    )


def smaller(failed: TilePlan) -> Tiling | None:
    """Return the tiling to try after a plan ran out of memory: tiles of half the side, or None if none is allowed."""
    tiling = failed.tiling
    side = max(failed.grid.rows.size, failed.grid.columns.size) // 2
    if tiling.tile == "off" or side < 1:
        return None
    overlap = tiling.overlap if tiling.overlap is None or tiling.overlap < side else None
    return Tiling(side, overlap, max_memory=tiling.max_memory, encoder=True)


def _fixed(tiling: Tiling, size: tuple[int, int], unit: int, fixed: tuple[int, int]) -> Grid:
    grid = Grid(*(_axis(n, tile, tiling, unit) for n, tile in zip(size, fixed, strict=True)))
    if len(grid) > 1 and (tiling.tile == "off" or (isinstance(tiling.tile, int) and tiling.tile != max(fixed))):
        raise ConfigError(
            f"the result is {size[1]}x{size[0]}, but the model makes {fixed[1]}x{fixed[0]} and no other size: with "
            f"tile={tiling.tile!r} it cannot be cut up; pass tile='auto'"
        )
    return grid


def _smaller(size: tuple[int, int], tiling: Tiling, unit: int) -> Iterator[Grid]:
    """Yield grids of ever smaller tiles."""
    shared = -(-(tiling.overlap or 0) // unit) * unit
    for side in range(max(size) - unit, shared, -unit):
        yield _grid(size, (side, side), tiling, unit)


def _grid(size: tuple[int, int], tile: tuple[int, int], tiling: Tiling, unit: int) -> Grid:
    rows, columns = (_least(_axis(n, side, tiling, unit), tiling, unit) for n, side in zip(size, tile, strict=True))
    return Grid(rows, columns)


def _axis(length: int, tile: int, tiling: Tiling, unit: int) -> Axis:
    overlap = tiling.overlap
    if overlap is None:
        overlap = min(OVERLAP, tile // 2 // unit * unit)
    return axis(length, tile, overlap=overlap, unit=unit)


def _least(cut: Axis, tiling: Tiling, unit: int) -> Axis:
    """The same number of tiles, as small as they can be: what they share beyond the overlap is work for nothing."""
    count = len(cut.starts)
    if count == 1:
        return cut
    shared = min(cut.overlaps[1:])
    asked = min(OVERLAP, shared) if tiling.overlap is None else min(-(-tiling.overlap // unit) * unit, shared)
    side = -(-(cut.length + (count - 1) * asked) // (count * unit)) * unit
    return axis(cut.length, side, overlap=asked, unit=unit)


def measure(model: Model, backend: Backend) -> Need:
    """Return what a model takes.

    Each runs on a small and on a larger picture of zeros, and what it takes is looked at meanwhile. The graphs are
    loaded anew before, since what a run took is kept for the next one and would not show again.
    """
    contract, f = model.contract, model.contract.vae_factor

    def network(side: int) -> Callable[[], object]:
        latent = backend.empty((1, contract.latent_channels, side, side), np.float32)
        x = backend.empty((1, 3, side * contract.unit, side * contract.unit), np.float32)
        out = backend.empty(x.shape, x.dtype)
        for array in (latent, x, out):
            array.fill(0.0)
        return lambda: model.denoiser(latent, 0.0).predict(x, 1.0, out)

    def encoder(side: int) -> Callable[[], object]:
        image = backend.empty((1, 3, side * f, side * f), np.float32)
        image.fill(0.0)
        return lambda: model.encode(image)

    def slope(session: Session, work: Callable[[int], Callable[[], object]], unit: int) -> float:
        session.close()
        sides = [-(-side // unit) for side in _PROBES]
        runs = [work(side) for side in sides]
        (first, second), (small, large) = [_peak(run, backend) for run in runs], [(n * unit) ** 2 for n in sides]
        return max(0.0, (second - first) / (large - small))

    with backend.active():
        of_encoder = 0.0 if model.encoder is None else slope(model.encoder, encoder, f)
        return Need(slope(model.network, network, contract.unit), of_encoder)


def _peak(run: Callable[[], object], backend: Backend) -> int:
    """Return the most bytes that are held while something runs."""
    done, seen = Event(), [0]

    def look() -> None:
        while not done.wait(POLL):
            seen.append(backend.held_memory() or 0)

    watcher = Thread(target=look)
    watcher.start()
    try:
        run()
        backend.synchronize()
    finally:
        done.set()
        watcher.join()
    return max(*seen, backend.held_memory() or 0)


def _bytes(text: str) -> int:
    found = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([kmg]i?)?b?", text.strip(), re.IGNORECASE)
    if found is None:
        raise ConfigError(f"max_memory={shown(text)} is no size in bytes: pass one such as 4G, 1.5GB or 800MiB")
    if len(found[1]) > _DIGITS:
        raise ConfigError(f"max_memory={shown(text)} is more than any machine has")
    return int(float(found[1]) * _UNITS[(found[2] or "").lower()])


def _said(count: float) -> str:
    return f"{count / 1e9:.2f} GB" if count >= 1e9 else f"{count / 1e6:.1f} MB"


__getattr__ = moved.names(__name__)
