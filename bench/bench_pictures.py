"""What pictures cost on the CPU, beside what others take for the same: noise as PyTorch's, tiles, colors, sizes, PNG.

    taskset -c 0 pytest bench/bench_pictures.py --benchmark-json=bench.json && python bench/report.py bench.json

Each is of 4096x4096 pixels, but the noise of 3x1024x1024 values, and of the enlarged photograph's PNG 1024x1024. On a
machine that others use too, add --benchmark-timer=time.process_time.
"""

import io
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pidsampler.backends import get_backend
from pidsampler.image import color, lanczos
from pidsampler.image.blend import blend
from pidsampler.image.pixels import to_image
from pidsampler.io import png_out
from pidsampler.noise.torch import normal

SIDE, SMALL, TILE = 4096, 1024, 1152
PHOTO = Path(__file__).parent.parent / "examples" / "chameleon.jpg"
BACKEND = get_backend("numpy")
RNG = np.random.default_rng(0)


@pytest.fixture(name="x", scope="module")
def _x():
    return np.float32(0.4) * RNG.standard_normal((1, 3, SIDE, SIDE), np.float32)


@pytest.fixture(name="photo", scope="module")
def _photo():
    with Image.open(PHOTO) as photo:
        return photo.convert("RGB").resize((SMALL, SMALL), Image.Resampling.BICUBIC)


def pytorchs():
    torch = pytest.importorskip("torch")
    torch.set_num_threads(1)
    torch.manual_seed(7)
    return torch.randn(3, SMALL, SMALL)


@pytest.mark.parametrize("by", ["ours", "torch"])
def test_noise_of_pytorch(benchmark, by):
    benchmark(partial(normal, 7, 0, (3, SMALL, SMALL)) if by == "ours" else pytorchs)


@pytest.mark.parametrize("despeckle", [None, 16.0])
def test_picture(benchmark, x, despeckle):
    benchmark(to_image, x, size=(SIDE, SIDE), despeckle=despeckle, backend=BACKEND)


@pytest.mark.parametrize("method", ["off", "match", "adain"])
def test_color(benchmark, x, method):
    rgb = RNG.integers(0, 256, (SIDE // 4, SIDE // 4, 3), np.uint8)
    benchmark(color.match, x, rgb, scale=4, method=method, strength=1.0, backend=BACKEND)


@pytest.mark.parametrize("by", ["ours", "pillow"])
def test_half_the_size(benchmark, x, by):
    size = SIDE // 2, SIDE // 2
    planes = [Image.fromarray(plane) for plane in x[0]]
    ours = partial(lanczos.reduce, x, size=(SIDE, SIDE), new_size=size, backend=BACKEND)
    benchmark(ours if by == "ours" else lambda: [p.resize(size, Image.Resampling.LANCZOS) for p in planes])


def test_tiles(benchmark, x):
    """Sixteen of 1152x1152 with overlaps of 171 pixels, blended."""
    starts = [k * (SIDE - TILE) // 3 for k in range(4)]
    tile, out, weight = x[:, :, :TILE, :TILE].copy(), np.zeros_like(x), np.full(TILE, 0.5, np.float32)

    def run():
        for top in starts:
            for left in starts:
                new = TILE - starts[1] if top else 0, TILE - starts[1] if left else 0
                blend(tile, out, rows=weight, columns=weight, top=top, left=left, unwritten=new, backend=BACKEND)

    benchmark(run)


@pytest.mark.parametrize("by", ["ours", "pillow"])
def test_png(benchmark, photo, by):
    pixels = np.asarray(photo)

    def run():
        file = io.BytesIO()
        if by == "ours":
            png_out.write(file, pixels, text="{}")
        else:
            photo.save(file, "PNG", compress_level=1, compress_type=3)
        return file.tell()

    benchmark.extra_info["bytes"] = benchmark(run)
