"""The fixture `step_benchmark`, as another project's tests use it, in a process of its own."""

import json
import os
import subprocess
import sys

import pytest

from pidsampler import PidSamplerError
from pidsampler.bench.samplers import costliest_row

TESTS = """
import pytest
from pidsampler import FlowODE, PidSamplerError

pytest_plugins = ["pidsampler.bench.fixture"]


class Mine(FlowODE):
    pass


@pytest.mark.parametrize("sampler", [Mine, "heun@uniform:3"])
def test_step(step_benchmark, sampler):
    step_benchmark(sampler, side=128)


def test_wrong(step_benchmark):
    with pytest.raises(PidSamplerError, match="unknown scheduler 'hein'"):
        step_benchmark("hein")
"""


def test_the_fixture(tmp_path):
    (tmp_path / "test_mine.py").write_text(TESTS)
    command = [sys.executable, "-m", "pytest", "-q", "--rootdir=.", "-p", "no:cacheprovider", "-W", "error"]
    few = ["--benchmark-min-rounds=2", "--benchmark-max-time=0.01", "--benchmark-json=found.json"]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    done = subprocess.run([*command, *few], cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert "3 passed" in done.stdout, done.stdout + done.stderr
    mine, heun = json.loads((tmp_path / "found.json").read_text())["benchmarks"]
    n = 3 * 128 * 128 * 4
    assert mine["extra_info"] == {"row": "Mine, row 1 of 4", "bytes": 3 * n}  # x and m in, x out
    assert heun["extra_info"] == {"row": "heun@uniform:3, row 1 of 5", "bytes": 4 * n}  # and a saved tensor
    assert mine["stats"]["rounds"] >= 2


def test_launches_do_the_row(monkeypatch):
    monkeypatch.setattr("pidsampler.bench.samplers.cache_bytes", lambda backend: 1)
    row = costliest_row("dpmpp-2m@uniform:4", side=8, dtype="float32/float16")
    assert (row.name, row.bytes) == ("dpmpp-2m@uniform:4, row 3 of 4", 3 * 8 * 8 * (2 + 4 * 4))
    x = row.launches[0].args[0]
    before = x.copy()
    row.launches[0]()
    assert (x != before).any()
    with pytest.raises(PidSamplerError, match="side=0 must be a whole number"):
        costliest_row("heun", side=0)
