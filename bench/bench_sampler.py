"""What the sampler itself costs: everything that is neither the network nor a file, for one 1024x1024 result.

    taskset -c 0 pytest bench/bench_sampler.py --benchmark-json=bench.json && python bench/report.py bench.json

FlowSDE over PiD's four steps, on one core. `whole` is what a run does; noise, arithmetic and conversion are its parts.
Single rows are in bench_steps.py.
"""

import numpy as np
from attrs import evolve

from pidsampler import FlowSDE, sample, timesteps
from pidsampler.backends import get_backend
from pidsampler.image.pixels import to_image, to_tensor

SHAPE = (1, 3, 1024, 1024)
BACKEND = get_backend("numpy")
RNG = np.random.default_rng(0)
PHOTO = RNG.integers(0, 256, (256, 256, 3), np.uint8)
M = RNG.normal(size=SHAPE).astype(np.float32)


class Copied:
    """A network whose output is there already: four copies, 1 % of the whole, stand for its calls."""

    def predict(self, x, t, out):
        np.copyto(out, M)


def test_whole(benchmark):
    table = FlowSDE(timesteps.pid()).table()

    def run():
        to_tensor(PHOTO, size=(256, 256), backend=BACKEND)
        return to_image(sample(Copied(), table, shape=SHAPE), size=(1024, 1024), backend=BACKEND)

    assert benchmark(run).shape == (1024, 1024, 3)


def test_noise(benchmark):
    """The initial noise and the three re-noises."""
    out = np.empty(SHAPE, np.float32)

    def run():
        for draw in range(4):
            BACKEND.noise(out, [0], draw=draw)

    benchmark(run)
    assert abs(out.std() - 1) < 0.01


def test_arithmetic(benchmark):
    """The four rows without their noise."""
    x, saved = np.zeros(SHAPE, np.float32), []
    rows = [evolve(row, noise=()) for row in FlowSDE(timesteps.pid()).table()]

    def run():
        for row in rows:
            BACKEND.step(row, x, m=M, saved=saved, seeds=[0])

    benchmark(run)


def test_conversion(benchmark):
    def run():
        to_tensor(PHOTO, size=(256, 256), backend=BACKEND)
        return to_image(M, size=(1024, 1024), backend=BACKEND)

    assert benchmark(run).max() == 255
