"""What the demo costs: the bundled model, a 256x256 photo to 1024x1024, PiD's four steps.

    pytest bench/bench_upscale.py --benchmark-json=bench.json && python bench/report.py bench.json

`outside_network` is the share of sampler, noise, encoder and conversion.
"""

import time

import numpy as np

from pidsampler import Upscaler

PHOTO = np.random.default_rng(0).integers(0, 256, (256, 256, 3), np.uint8)


class Timed:
    """A denoiser whose time is taken."""

    seconds = 0.0

    def __init__(self, denoiser):
        self.denoiser = denoiser

    def predict(self, x, t, out):
        began = time.perf_counter()
        self.denoiser.predict(x, t, out)
        Timed.seconds += time.perf_counter() - began


def test_upscale(benchmark, monkeypatch):
    up = Upscaler.load("tiny", "cpu")
    make, began = up.model.denoiser, time.perf_counter()
    monkeypatch.setattr(up.model, "denoiser", lambda *conditions, **named: Timed(make(*conditions, **named)))
    result = benchmark.pedantic(lambda: up(PHOTO), rounds=5, warmup_rounds=1)
    assert result.array.shape == (1024, 1024, 3)
    benchmark.extra_info["outside_network"] = 1 - Timed.seconds / (time.perf_counter() - began)
