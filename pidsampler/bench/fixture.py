"""A pytest fixture that times samplers by pytest-benchmark (extra `bench`).

    pytest_plugins = ["pidsampler.bench.fixture"]

    def test_my_step(step_benchmark):
        step_benchmark("my.py:mine@uniform:8")

See docs/benchmarks.md.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import pytest

from .samplers import costliest_row


@pytest.fixture
def step_benchmark(benchmark: Any) -> Callable[..., None]:
    """A function (sampler, *, side=1024, dtype="float32", backend="numpy") that benchmarks a sampler's costliest row.

    The arguments are those of `bench.steps`. Each row is checked against the formula before. `extra_info` has `row`,
    its name, and `bytes`, what it moves. On a GPU each launch is waited for.
    """

    def time_step(sampler: Any, **options: Any) -> None:
        row = costliest_row(sampler, **options)
        launches = itertools.cycle(row.launches)

        def step() -> None:
            next(launches)()
            row.backend.synchronize()

        benchmark.extra_info.update(row=row.name, bytes=row.bytes)
        with row.backend.active():
            benchmark(step)

    return time_step
