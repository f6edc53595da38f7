"""Small networks of each kind that PiD has, and what is put into them."""

import zlib

import numpy as np

from pidsampler.export.architecture import Architecture

SMALL = {
    "hidden": 64, "heads": 4, "depth": 3, "patch": 16, "pixel_hidden": 8, "pixel_attention": 48, "pixel_heads": 3,
    "text_width": 24, "text_length": 5, "projection": 16, "residuals": 2, "rope_side": 64,
}  # fmt: skip
V1 = Architecture(**SMALL, latent_channels=4)
V15 = Architecture(**SMALL, gate_per_channel=False, pixel_injection=True, replicate=True, latent_channels=8)

# Network, batch, rows and columns of tokens.
CASES = {
    "v1": (V1, 1, 4, 6),
    "v1 of two pictures": (V1, 2, 2, 4),
    "v1.5": (V15, 1, 4, 2),
    "v1.5 of two pictures": (V15, 2, 4, 6),
    "plain": (Architecture(**SMALL | {"rope": "plain", "depth": 2}, latent_channels=4), 1, 6, 4),
    "one row": (Architecture(**SMALL | {"depth": 1, "pixel_depth": 1}, latent_factor=4, latent_channels=3), 1, 1, 5),
    "four to one": (Architecture(**SMALL, latent_factor=16, latent_channels=6, interval=1), 1, 4, 8),
    "spread": (Architecture(**SMALL, latent_factor=16, latent_channels=8, unpatchify=2, replicate=True), 1, 4, 8),
    "folded": (Architecture(**SMALL, latent_factor=2, latent_channels=3, interval=3), 2, 3, 5),
    "other patch": (Architecture(**SMALL | {"patch": 8, "heads": 2}, scale=8, latent_factor=2), 1, 2, 6),
}


def given(name):
    """Return x, t, latent, sigma and caption of a case."""
    a, batch, rows, columns = CASES[name]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    side = a.unpatchify * a.stretch
    shape = (batch, a.latent_channels, int(rows / side), int(columns / side))
    return (
        rng.standard_normal((batch, 3, rows * a.patch, columns * a.patch), np.float32),
        float(np.float32(rng.uniform(0.0, 1000.0))),
        rng.standard_normal(shape, np.float32),
        float(np.float32(rng.uniform(0.0, 0.8))),
        rng.standard_normal((1, a.text_length, a.text_width), np.float32),
    )
