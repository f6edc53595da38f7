"""The pictures that a report holds: every cell's on the same part of an image, small enough for one file."""

from __future__ import annotations

import io
import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..work import frames, picture_path, strip_path

_QUALITY = 90
_BYTES = 0.45  # of a photograph's pixel in WebP of that quality, and a third more as text
_LEAST = 256  # pixels a side, before images are left out
_STRIPS = 0.2  # share of the space for previews


Shown = dict[str, dict[str, tuple[int, Sequence[float]]]]  # image -> cell -> (seed, times)


@dataclass(kw_only=True)
class Album:
    """Parts of a report's data, see `summary`, and its picture files by their ids."""

    images: list[dict[str, Any]] = field(default_factory=list)
    pictures: dict[str, dict[str, str]] = field(default_factory=dict)
    strips: dict[str, dict[str, dict[str, Any]]] = field(default_factory=dict)
    files: dict[str, bytes] = field(default_factory=dict)


def album(folder: Path, shown: Shown, *, megabytes: float) -> Album:
    """Gather the pictures of a study's folder.

    Args:
        folder: Study folder.
        shown: Image -> cell -> (seed, times of its rows); "input" and "reference" stand beside the cells.
        megabytes: Size limit of the pictures in the report.
    """
    made = Album()
    count = max((len(cells) for cells in shown.values()), default=0) + 2
    space = 1e6 * megabytes * (1 - _STRIPS) / _BYTES / count  # pixels, of one cell
    images = list(shown)[: max(1, int(space / _LEAST**2))]
    side = math.isqrt(int(space / max(1, len(images))))
    frame = math.isqrt(int(1e6 * megabytes * _STRIPS / _BYTES / count / max(1, len(images)) / 8))
    for image in images:
        found = {cell: picture_path(folder, (cell, image, seed)) for cell, (seed, _) in shown[image].items()}
        seed = next(iter(shown[image].values()))[0]
        found |= {name: picture_path(folder, (name, image, seed)) for name in ("input", "reference")}
        opened = {cell: _read(path) for cell, path in found.items() if path.is_file()}
        if not opened:
            continue
        pictures: dict[str, str] = {}
        strips: dict[str, dict[str, Any]] = {}
        guide = opened.get("reference", next(iter(opened.values())))
        part = _part(guide, side)
        x, y, width, height = part
        for cell, picture in opened.items():
            pictures[cell] = _add(made.files, picture[y : y + height, x : x + width])
        for cell, (seed, times) in shown[image].items():
            path = strip_path(folder, (cell, image, seed))
            if path.is_file():
                rows = frames(len(times) - 1)
                strips[cell] = {
                    "data": _add(made.files, _shrunk(_read(path), len(rows), frame)),
                    "t": [times[i] for i in rows],
                }
        made.images.append(
            {"name": image, "width": guide.shape[1], "height": guide.shape[0], "shown": [x, y, width, height]}
        )
        made.pictures[image], made.strips[image] = pictures, strips
    return made


def _read(path: Path) -> NDArray[np.uint8]:
    from PIL import Image

    with Image.open(path, formats=["PNG"]) as image:
        return np.asarray(image.convert("RGB"))


def _add(files: dict[str, bytes], picture: NDArray[np.uint8]) -> str:
    """Add a picture as WebP and return its id; equal pictures are one file."""
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(picture).save(file, "WEBP", quality=_QUALITY, method=2)
    data = file.getvalue()
    for name, held in files.items():
        if held == data:
            return name
    name = f"p{len(files)}"
    files[name] = data
    return name


def _part(picture: NDArray[np.uint8], side: int) -> tuple[int, int, int, int]:
    """Return (x, y, width, height): all of it, or the square of so many pixels where it has most detail."""
    height, width, _ = picture.shape
    if height * width <= side * side:
        return 0, 0, width, height
    h, w = min(side, height), min(side, width)
    gray = picture.mean(axis=2)
    detail = np.zeros((height + 1, width + 1))
    detail[2:, 1:] += np.abs(np.diff(gray, axis=0))
    detail[1:, 2:] += np.abs(np.diff(gray, axis=1))
    total = detail.cumsum(axis=0).cumsum(axis=1)
    inside = total[h:, w:] - total[:-h, w:] - total[h:, :-w] + total[:-h, :-w]
    y, x = np.unravel_index(inside.argmax(), inside.shape)
    return int(x), int(y), w, h


def _shrunk(strip: NDArray[np.uint8], count: int, side: int) -> NDArray[np.uint8]:
    """Reduce frames that stand side by side to at most `side` pixels each."""
    from PIL import Image

    height, width = strip.shape[0], strip.shape[1] // count
    scale = min(1.0, max(16, side) / max(height, width))
    h, w = max(1, round(height * scale)), max(1, round(width * scale))
    parts = np.split(strip, count, axis=1)
    return np.concatenate(
        [np.asarray(Image.fromarray(part).resize((w, h), Image.Resampling.BOX)) for part in parts], axis=1
    )
