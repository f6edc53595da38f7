"""Whole samplers fed by hand: what their tests share."""

import numpy as np

from pidsampler.cli import main
from pidsampler.noise import normal

SEED = 2**63 + 5


def photo():
    """A picture of 16x16: uint8 (16, 16, 3)."""
    y, x = np.mgrid[:16, :16]
    return np.stack([16 * x, 16 * y, 255 - 8 * (x + y)], axis=2).astype(np.uint8)


def exported(folder, words, size=" --size 64x64"):
    """Export a reduced network of random weights, of 64x64 results or of any."""
    words += f" --random-weights 3 --reduced --quiet{size}"
    assert main(["export", *words.split(), "-o", str(folder)]) == 0
    return folder


def feeds(tensors, image, *, seed=SEED, sigma=0.1, **given):
    """What a graph takes, as a program in another language would make it: by its inputs' names and shapes alone."""
    made = {"degrade_sigma": np.array([sigma], np.float32), "seed": np.array([seed], np.uint64)}
    made |= {"picture": image, "latent": image, **given}
    for tensor in tensors:
        if tensor.name.startswith("noise_"):
            name = tensor.name.removeprefix("noise_")
            stream, draw = (1, 0) if name == "latent" else (0, int(name))
            made[tensor.name] = normal(seed, draw, tensor.shape[1:], stream)[None]
    return {tensor.name: made[tensor.name] for tensor in tensors}
