"""Each kind of row on the CPU by pytest-benchmark, at 1024x1024 in float32: the rows of `pidsampler bench`.

    pytest bench/bench_steps.py --benchmark-json=bench.json && python bench/report.py bench.json

Checked against the formula, then timed over buffers that no cache holds. Peers, other sizes and types, and a GPU, whose
time pytest-benchmark does not see, are for `pidsampler bench`.
"""

import itertools

import pytest

from pidsampler.backends import get_backend
from pidsampler.bench.peers import check, ours
from pidsampler.bench.steps import moved_bytes, slots, variants
from pidsampler.bench.timing import Buffers, cache_bytes, copies

SIDE = 1024
ELEMENTS = 3 * SIDE * SIDE
BACKEND = get_backend("numpy")
OURS = ours(BACKEND)
VARIANTS = variants()


@pytest.fixture(scope="module", name="buffers")
def _buffers():
    most = max(slots(variant.row) for variant in VARIANTS)
    return Buffers(OURS.arrays, (1, 3, SIDE, SIDE), x="float32", m="float32", most=most, caches=cache_bytes(BACKEND))


@pytest.mark.parametrize("variant", VARIANTS, ids=lambda variant: variant.name)
def test_step(benchmark, buffers, variant):
    step = OURS.prepare(variant.row)
    check(OURS, step, name=variant.name, row=variant.row, x="float32", m="float32")
    launches = itertools.cycle(buffers.launches(step, variant.row))
    benchmark(lambda: next(launches)())
    benchmark.extra_info["bytes"] = moved_bytes(variant.row, ELEMENTS, x=4, m=4)


def test_copy(benchmark):
    """On all cores, of as many bytes as an Euler step moves."""
    launches = itertools.cycle(copies(BACKEND, ELEMENTS, caches=cache_bytes(BACKEND)))
    benchmark(lambda: next(launches)())
    benchmark.extra_info["bytes"] = 12 * ELEMENTS
