"""Photographs to training pairs: patches of 128x128 and their 4x reductions, where bicubic enlargement misses most."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image

PATCH, SCALE = 128, 4
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff"}


def reduced(image: Image.Image, factor: int) -> Image.Image:
    """Return a photograph reduced by a whole factor, which hides what its JPEG and its lens have lost."""
    return image if factor == 1 else image.resize((image.width // factor, image.height // factor), Image.LANCZOS)


def low_resolution(image: np.ndarray) -> np.ndarray:
    """Return uint8 (h, w, 3) for (4h, 4w, 3), by Pillow's bicubic filter, which is antialiased."""
    height, width, _ = image.shape
    return np.asarray(Image.fromarray(image).resize((width // SCALE, height // SCALE), Image.BICUBIC))


def bicubic(image: np.ndarray) -> np.ndarray:
    """Return uint8 (4h, 4w, 3) for (h, w, 3): what the model is measured against."""
    height, width, _ = image.shape
    return np.asarray(Image.fromarray(image).resize((width * SCALE, height * SCALE), Image.BICUBIC))


class Patches:
    """Random patches of the photographs of a folder.

    Args:
        folder: Folder of pictures, searched for those with the usual suffixes.
        factors: Each photograph is used reduced by each of these.
        seed: Seed of the choice. The n-th batch is a function of (seed, n), so that a run can be resumed.
    """

    def __init__(self, folder: Path, factors: tuple[int, ...] = (2, 3), seed: int = 0) -> None:
        paths = sorted(path for path in folder.iterdir() if path.suffix.lower() in SUFFIXES)
        if not paths:
            raise SystemExit(f"{folder} holds no pictures ({', '.join(sorted(SUFFIXES))})")
        self._seed = seed
        self._images: list[np.ndarray] = []
        places, weights = [], []
        for path in paths:
            with Image.open(path) as opened:
                original = opened.convert("RGB")
            # A picture that is small already is sharp already.
            for factor in factors if min(original.size) >= 1200 else (1,):
                image = np.asarray(reduced(original, factor))
                image = image[: image.shape[0] // SCALE * SCALE, : image.shape[1] // SCALE * SCALE]
                missed = image.astype(np.float32) - bicubic(low_resolution(image))
                squared = np.square(missed).mean(axis=2)
                for y in range(0, image.shape[0] - PATCH + 1, PATCH // 2):
                    for x in range(0, image.shape[1] - PATCH + 1, PATCH // 2):
                        places.append((len(self._images), y, x))
                        weights.append(float(np.sqrt(squared[y : y + PATCH, x : x + PATCH].mean())))
                self._images.append(image)
        self._places = places
        share = np.array(weights) + 0.5  # some flat ones too
        self._share = share / share.sum()

    def __len__(self) -> int:
        return len(self._places)

    def batch(self, n: int, size: int) -> tuple[np.ndarray, np.ndarray]:
        """Return the n-th batch: uint8 (size, 3, 128, 128), and (size, 3, 32, 32) reduced 4x."""
        rng = np.random.default_rng([self._seed, n])
        large, small = [], []
        for k in rng.choice(len(self._places), size, p=self._share):
            picture, y, x = self._places[k]
            image = self._images[picture]
            y = min(image.shape[0] - PATCH, y + int(rng.integers(PATCH // 2)))
            x = min(image.shape[1] - PATCH, x + int(rng.integers(PATCH // 2)))
            patch = np.rot90(image[y : y + PATCH, x : x + PATCH], int(rng.integers(4)))
            patch = np.ascontiguousarray(patch[:, :: rng.choice([-1, 1])])
            large.append(patch.transpose(2, 0, 1))
            small.append(low_resolution(patch).transpose(2, 0, 1))
        return np.stack(large), np.stack(small)
