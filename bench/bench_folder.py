"""What a folder costs: twelve photos of 256x256 to 1024x1024 by the bundled model and PiD's four steps, files included.

    pytest bench/bench_folder.py --benchmark-json=bench.json && python bench/report.py bench.json

`outside_network` is the share of the time in which no graph was running: what decoding, encoding, noise and conversion
keep the network from. `beside_network` is how much longer the whole takes than the graphs alone: what is done at the
same time takes cores from them.
"""

import time
from itertools import count
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from pidsampler import FlowSDE, Upscaler, timesteps
from pidsampler.onnx.session import Binding
from pidsampler.upscale import batch

EXAMPLES = Path(__file__).parent.parent / "examples"
PHOTOS = 12


@pytest.fixture(name="photos")
def _photos(tmp_path):
    """A folder of the examples, each in four directions."""
    folder = tmp_path / "in"
    folder.mkdir()
    for k in range(PHOTOS):
        with Image.open(EXAMPLES / ("cat.jpg", "chameleon.jpg", "road.jpg")[k % 3]) as photo:
            ImageOps.fit(photo.convert("RGB"), (256, 256)).rotate(90 * (k // 3)).save(folder / f"{k:02}.png")
    return folder


@pytest.fixture(name="runs")
def _runs(monkeypatch):
    """How long each run of a graph took, in seconds."""
    seconds, run = [], Binding.run

    def timed(binding):
        began = time.perf_counter()
        run(binding)
        seconds.append(time.perf_counter() - began)

    monkeypatch.setattr(Binding, "run", timed)
    return seconds


def alone(up, photo, runs):
    """The time of the graphs for one photo, with nothing beside them; the best of three."""
    x, m = np.zeros((2, 1, 3, 1024, 1024), np.float32)
    totals = []
    for _ in range(3):
        runs.clear()
        denoiser = up.bind(photo).denoiser
        for t in timesteps.pid()[:-1]:
            denoiser.predict(x, t, m)
        totals.append(sum(runs))
    return min(totals)


def test_folder(benchmark, photos, tmp_path, runs):
    up, settings, numbers, shares, totals = (
        Upscaler.load("tiny", "cpu"),
        batch.Settings(FlowSDE(timesteps.pid())),
        count(),
        [],
        [],
    )

    def run():
        files = batch.find_files([photos], f"{tmp_path}/{next(numbers)}/")
        runs.clear()
        began = time.perf_counter()
        assert [outcome.error for outcome in batch.upscale_files(up, files, settings=settings)] == [None] * PHOTOS
        totals.append(time.perf_counter() - began)
        shares.append(1 - sum(runs) / totals[-1])

    before = alone(up, photos / "00.png", runs)
    benchmark.pedantic(run, rounds=3)
    each = min(before, alone(up, photos / "00.png", runs))
    benchmark.extra_info["outside_network"] = float(np.median(shares))
    benchmark.extra_info["beside_network"] = min(totals) / (PHOTOS * each) - 1
