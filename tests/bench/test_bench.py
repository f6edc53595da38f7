"""`pidsampler bench` and its table: what is checked, counted, refused and written. Its times mean nothing here.

The GPU's path runs on the stand-in for CuPy, PyTorch's and diffusers' on stand-ins made here.
"""

import argparse
import csv
import itertools
import os
import shutil
import subprocess
import sys
import threading
import time
import types
from pathlib import Path

import attrs
import numpy as np
import pytest

from pidsampler import PidSamplerError, Row, bench
from pidsampler.backends import get_backend
from pidsampler.backends.numpy import NumpyBackend
from pidsampler.bench import measurement, peers, rows, timing
from pidsampler.bench.steps import moved_bytes, slots, variants
from pidsampler.cli import bench as command

VARIANTS = {variant.name: variant for variant in variants()}
NUMPY = get_backend("numpy")
FULL = Path("/dev/full")
NOTHING = timing.Effort(seconds=0.0, least=1)


def parsed(*words):
    parser = argparse.ArgumentParser()
    command.add_arguments(parser)
    return parser.parse_args(words)


def planned(*words):
    return command.plan(parsed("--device", "cpu", "--peers", "none", *words))


def small(**changes):
    plan = {"variants": [VARIANTS["flow-sde"]], "types": [("float32", "float32")], "sides": [16], "effort": NOTHING}
    return bench.BenchPlan(**{"backend": NUMPY, **plan, **changes})


@pytest.fixture(autouse=True, name="few_buffers")
def _few_buffers(monkeypatch):
    monkeypatch.setattr(measurement, "cache_bytes", lambda backend: 1)


class Operand:
    """A tensor that only remembers its name when something is computed with it."""

    def __init__(self, name, used):
        self.name, self.used = name, used

    def _result(self, *_):
        self.used.add(self.name)
        return Operand("a temporary", self.used)

    __mul__ = __rmul__ = _result

    def __add__(self, other):
        other._result()
        return self._result()


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
def test_bytes_are_those_of_the_operands(variant):
    used = set()
    x, m, *saved = (Operand(name, used) for name in ("x", "m", *(f"S{k}" for k in range(slots(variant.row)))))
    arrays = types.SimpleNamespace(normal=lambda like: Operand("noise", used), clip=lambda x, bound: x._result())
    results = peers.expressions(variant.row, arrays)(x, m, saved)
    read = used - {"noise", "a temporary"}
    state = len(read - {"m"}) + len(results)  # tensors of the state's type
    assert "m" in read
    assert moved_bytes(variant.row, 1000, x=4, m=4) == 4000 * (state + 1)
    assert moved_bytes(variant.row, 1000, x=4, m=2) == 4000 * state + 2000
    assert moved_bytes(variant.row, 1000, x=8, m=8) == 8000 * (state + 1)


def test_bytes_of_the_design():
    n = 3 * 4096 * 4096
    assert moved_bytes(VARIANTS["flow-sde"].row, n, x=4, m=4) == 603_979_776
    assert moved_bytes(VARIANTS["flow-sde of x0"].row, n, x=4, m=4) == 8 * n  # x is not read
    assert moved_bytes(VARIANTS["unipc(order=3)"].row, n, x=4, m=4) == 4 * n * (3 + 3 + 2)


def test_variants_cover_what_a_row_can_have():
    described = [variant.described() for variant in VARIANTS.values()]
    for column, values in {
        "eta": {None, 0.0, 0.5, 1.0},
        "clip": {None, 1.0},
        "reads": {0, 1, 2, 3},
        "writes": {0, 1, 2},
        "family": {"flow", "runge_kutta", "multistep", "predictor_corrector", "singlestep"},
    }.items():
        assert values <= {one[column] for one in described}, column
    assert {1, 3} <= {one["draws"] for one in described}
    assert max(one["draws"] for one in described) > 30  # a Brownian path
    assert len(VARIANTS) == len(variants())  # names tell them apart
    for name, variant in VARIANTS.items():
        if name.endswith("without noise"):
            noisy = VARIANTS[name.removesuffix(" without noise")]
            assert not variant.row.draws
            assert noisy.row.draws
            assert moved_bytes(variant.row, 1, x=4, m=4) == moved_bytes(noisy.row, 1, x=4, m=4)


@pytest.mark.parametrize("variant", VARIANTS.values(), ids=lambda variant: variant.name)
@pytest.mark.parametrize(("x", "m"), [("float32", "float32"), ("float32", "float16"), ("float64", "bfloat16")])
def test_the_backend_and_expressions_pass_the_check(variant, x, m):
    ours = peers.ours(NUMPY)
    peers.check(ours, ours.prepare(variant.row), name=variant.name, row=variant.row, x=x, m=m)
    (written,) = (peer for peer in peers.find_peers(NUMPY)[0] if peer.name == "numpy")
    step = written.prepare(variant.row)
    assert (step is None) == variant.name.endswith("brownian")
    if step and x == m:
        peers.check(written, step, name=variant.name, row=variant.row, x=x, m=m)


def spoilt(name):
    """NumpyBackend.step with a mistake."""
    real = NumpyBackend.step

    def step(self, row, x, *, m, saved, seeds, copy=None):
        seeds = [seeds[0] + 1] if name == "another seed" else seeds
        real(self, row, x, m=m, saved=saved, seeds=seeds, copy=copy)
        if name == "weight":
            x *= 1.0001
        elif name == "last element":
            x.reshape(-1)[-1] += 1e-3
        elif name == "not a number":
            x.reshape(-1)[5] = np.nan
        elif name == "saved tensor" and row.saves:
            saved[row.saves[0][0]][...] = 0.0

    return step


@pytest.mark.parametrize("mistake", ["weight", "last element", "not a number", "saved tensor", "another seed"])
def test_a_wrong_kernel_is_an_error_before_anything_is_timed(mistake, monkeypatch):
    monkeypatch.setattr(NumpyBackend, "step", spoilt(mistake))
    monkeypatch.setattr(measurement, "timed", lambda *_, **__: pytest.fail("timed"))
    plan = small(variants=[VARIANTS["sa-solver"]], types=[("float64", "float64"), ("float32", "float32")])
    with pytest.raises(PidSamplerError, match=r"pidsampler does not compute 'sa-solver' \(x float64, m float64\)"):
        list(bench.measure(plan, print))


def peer(function, name="a peer"):
    """A peer on numpy of which `function(row)` makes the step."""
    (numpy,) = (one for one in peers.find_peers(NUMPY)[0] if one.name == "numpy")
    return peers.StepImplementation(
        name=name, version="1.0", arrays=numpy.arrays, prepare=lambda row: function(row, numpy.arrays)
    )


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        (lambda row: Row(row.t, row.t_next, b=row.b, noise={1: 1.05 * row.t_next}), "its noise has mean"),
        (lambda row: Row(row.t, row.t_next, b=row.b, noise={}), "expected 0 and 0.634"),
        (lambda row: Row(row.t, row.t_next, b=row.b + 1e-4, noise=row.noise), "off, more than rounding explains"),
    ],
)
def test_a_peer_that_computes_something_else_is_an_error(changed, message):
    plan = small(peers=[peer(lambda row, arrays: peers.expressions(changed(row), arrays))])
    with pytest.raises(PidSamplerError, match=f"a peer does not compute 'flow-sde'.*{message}"):
        list(bench.measure(plan, print))


def test_a_peer_that_fails_by_itself_is_left_out_and_said(capsys):
    def never(row, arrays):
        raise RuntimeError("no compiler\nand much more")

    def large_only(row, arrays):
        step = peers.expressions(row, arrays)
        return lambda x, m, saved: step(x, m, saved) if x.size > 1000 else 1 / 0

    plan = small(peers=[peer(never, "one"), peer(large_only, "two"), peer(peers.expressions, "three")])
    notes = []
    assert [row["by"] for row in bench.measure(plan, notes.append)] == ["pidsampler", "three"]
    assert notes == ["without one: RuntimeError: no compiler", "without two: ZeroDivisionError: division by zero"]


def test_a_missing_peer_is_said():
    plan = small(missing={"torch": "No module named 'torch'"})
    notes = []
    list(bench.measure(plan, notes.append))
    assert notes == ["without torch: No module named 'torch'"]


def test_rows_of_a_run(tmp_path, capsys):
    plan = small(
        variants=[VARIANTS["flow-ode"], VARIANTS["flow-sde(eta=0.5)"]],
        types=[("float32", "float32"), ("float32", "float16"), ("float64", "float64")],
        sides=[8, 16],
        peers=[peer(peers.expressions, "numpy")],
        effort=timing.Effort(seconds=0.0, least=3),
    )
    command.carry_out(plan, tmp_path / "rows.csv")
    lines = capsys.readouterr().out.splitlines()
    with (tmp_path / "rows.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert len(found) == len(lines) - 1 == 2 * (2 * 3 + 2)  # the peer where both types are float32
    keys = [(row["side"], row["x"], row["m"], row["variant"], row["by"]) for row in found]
    assert len(set(keys)) == len(keys)
    for row in found:
        assert tuple(row) == rows.COLUMNS
        assert all(row[key] for key in ("device", "cores", "python", "numpy", "pidsampler", "date", "version"))
        assert row["n"] == "3"
        assert row["host_ms"] == row["driver"] == ""
        element = {"float32": 4, "float64": 8}[row["x"]]
        output = {"float16": 2}.get(row["m"], element)
        assert int(row["bytes"]) == 3 * int(row["side"]) ** 2 * (2 * element + output)
        speed = int(row["bytes"]) / float(row["ms"]) / 1e6
        assert float(row["gb_s"]) == pytest.approx(speed, rel=1e-4)
        if row["share"]:  # else the machine was too noisy to tell
            assert float(row["share"]) == pytest.approx(speed / float(row["copy_gb_s"]), rel=1e-4)
    assert {row["eta"] for row in found} == {"", "0.5"}


def test_reruns_add_rows_under_one_header(tmp_path, monkeypatch):
    path = tmp_path / "rows.csv"
    for commit in ("a" * 40, "b" * 40):
        monkeypatch.setattr(rows, "_commit", lambda commit=commit: commit)
        command.carry_out(small(), path)
    header, *lines = path.read_text().splitlines()
    assert header == ",".join(rows.COLUMNS)
    assert ["a" * 40 in line for line in lines] == [True, False]


def test_rows_are_kept_when_a_run_is_stopped(tmp_path, monkeypatch):
    calls = itertools.count()

    def timed(*arguments, **options):
        if next(calls) == 1:
            raise KeyboardInterrupt
        return timing.timed(*arguments, **options)

    monkeypatch.setattr(measurement, "timed", timed)
    with pytest.raises(KeyboardInterrupt):
        command.carry_out(small(sides=[8, 16]), tmp_path / "rows.csv")
    assert len((tmp_path / "rows.csv").read_text().splitlines()) == 2


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"name,ms\nx,1\n", "has the columns name, ms, not those of a benchmark"),
        (b"\xff\xfe\0", "cannot read"),
        (b"a," * 3_000_000, "has the columns (a, )+.{0,3}, not those of a benchmark"),
    ],
)
def test_a_file_of_something_else_is_refused_before_any_work(content, message, tmp_path):
    path = tmp_path / "rows.csv"
    path.write_bytes(content)
    with pytest.raises(PidSamplerError, match=message) as error:
        planned("-o", str(path))
    assert len(str(error.value)) < 1200
    assert path.read_bytes() == content


def test_a_file_that_cannot_be_written(tmp_path):
    with pytest.raises(PidSamplerError, match="cannot read"):
        planned("-o", str(tmp_path))
    with pytest.raises(PidSamplerError, match="cannot write"):
        command.carry_out(small(), tmp_path / "missing" / "rows.csv")


def test_what_goes_wrong_elsewhere_is_not_said_of_the_file(tmp_path):
    with pytest.raises(BrokenPipeError), rows.appending(tmp_path / "rows.csv"):
        raise BrokenPipeError


@pytest.mark.skipif(not FULL.exists(), reason="no /dev/full")
def test_a_full_disk():
    with pytest.raises(PidSamplerError, match="cannot write /dev/full: No space left"), rows.appending(FULL) as append:
        append({"ms": 1.0})


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("--variants", "flow-sd"), "unknown variant 'flow-sd': did you mean 'flow-sde'"),
        (("--variants", "flow-ode,*3s*"), r"unknown variant '\*3s\*'"),
        (("--sizes", "512,big"), r"size 'big' is not a whole number in 1..16384"),
        (("--sizes", "0"), "size '0'"),
        (("--sizes", "16385"), "size '16385'"),
        (("--dtype", "float16"), "unknown type of the state 'float16'.*known are float32, float64"),
        (("--dtype", "float32/int8"), "unknown type of the output 'int8'"),
        (("--dtype", "float32/"), "unknown type of the output ''"),
        (("--device", "tpu"), "unknown device 'tpu'"),
        (("--peers", "numpi"), "unknown peer 'numpi': did you mean 'numpy'"),
    ],
)
def test_a_wrong_command_line(words, message):
    with pytest.raises(PidSamplerError, match=message):
        planned(*words)


def test_a_gpu_that_is_not_there(no_gpu):
    with pytest.raises(PidSamplerError, match="cupy is not installed"):
        command.plan(parsed("--device", "cuda"))
    assert command.plan(parsed("--device", "auto", "--peers", "none")).backend.name == "numpy"


def test_a_peer_that_is_not_installed(monkeypatch):
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(PidSamplerError, match="peer 'diffusers' cannot be had here: import of torch"):
        planned("--peers", "numpy,diffusers")
    assert list(command.plan(parsed("--device", "cpu")).missing) == [
        "torch",
        "torch-in-place",
        "torch-compile",
        "pid-reference",
        "diffusers",
    ]
    assert [one.name for one in planned("--peers", "numpy").peers] == ["numpy"]


def test_what_a_command_line_asks_for():
    plan = planned()
    assert [variant.name for variant in plan.variants] == list(VARIANTS)
    assert plan.upscale
    assert plan.sides == (512, 1024)
    assert plan.types == (("float32", "float32"), ("float32", "float16"))
    plan = planned("--variants", "flow-sde*noise,upscale", "--sizes", "24,8", "--dtype", "float64/float16", "--quick")
    assert all(name.endswith("noise") for name in (variant.name for variant in plan.variants))
    assert (plan.upscale, plan.sides, plan.types) == (True, (24,), (("float64", "float16"),))
    assert plan.effort.seconds < timing.Effort().seconds
    assert not planned("--variants", "flow-sde").upscale


def test_effort():
    effort = timing.Effort(seconds=0.5, least=7)
    assert not effort.enough(6, 0.9)
    assert effort.enough(7, 0.9)
    assert not effort.enough(50, 0.4)
    assert effort.enough(100, 0.1)
    assert not effort.enough(2, 60.0)
    assert effort.enough(3, 60.0)  # slow ones


def test_times_are_the_median_and_the_quartiles():
    class Clock:
        def sample(self, launches):
            return next(launches)(), None

    subjects = {"a": [lambda ms=ms: ms for ms in (1.0, 2.0, 3.0, 4.0, 100.0)], "b": [lambda: 7.0]}
    found = timing.timed(Clock(), subjects, effort=timing.Effort(seconds=0.0, least=5))
    assert found == {"a": timing.Times(ms=3.0, iqr_ms=2.0, n=5), "b": timing.Times(ms=7.0, iqr_ms=0.0, n=5)}


@pytest.mark.parametrize("name", ["flow-ode", "dpmpp-2m", "unipc(order=3)"])
def test_launches_go_through_four_times_the_caches_and_no_tensor_twice(name):
    caches, row, seen = 100_000, VARIANTS[name].row, []
    arrays = peers.ours(NUMPY).arrays
    buffers = timing.Buffers(arrays, (1, 3, 16, 16), x="float32", m="float16", most=4, caches=caches)
    for launch in buffers.launches(lambda x, m, saved: seen.append((x, m, *saved)), row):
        launch()
    tensors = [tensor for group in seen for tensor in group]
    assert len({tensor.ctypes.data for tensor in tensors}) == len(tensors)
    assert sum(tensor.nbytes for tensor in tensors) >= 4 * caches - seen[0][0].nbytes * len(seen[0])
    assert {len(group) for group in seen} == {2 + slots(row)}
    seen[0][0][...] = 0.0
    (launch, *_) = buffers.launches(lambda x, m, saved: seen.append(x), row)
    launch()
    assert seen[-1].any()  # as at first


def test_the_copy_copies():
    for launch in timing.copies(NUMPY, 8, caches=1000):
        source, target = launch.args
        target[...] = 5.0
        launch()
        assert source.shape == (12,)
        assert (target == source).all()


def test_the_machine_says_its_caches():
    assert timing.cache_bytes(NUMPY) >= 1 << 16


def test_a_whole_upscale(monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(measurement, "PICTURE", 16)
    upscale, sampler = bench.measure(small(variants=[], upscale=True), print)
    assert (upscale["variant"], upscale["side"]) == ("upscale 16 to 64 by tiny", 64)
    assert sampler["variant"] == "sampler of an upscale to 64"
    assert upscale["ms"] > 0
    assert upscale["n"] >= 3


class Tensor(np.ndarray):
    """Of the stand-in for PyTorch."""

    def double(self):
        return self.astype(np.float64)

    def cpu(self):
        return self

    def numpy(self):
        return np.asarray(self)

    def to(self, dtype):
        return self.astype(dtype)

    def clamp(self, low, high):
        return np.clip(self, low, high)

    def clamp_(self, low, high):
        return np.clip(self, low, high, out=self)

    def mul_(self, weight):
        self *= weight
        return self

    def add_(self, other, alpha):
        self += alpha * other
        return self

    def fill_(self, value):
        self[...] = value
        return self

    def normal_(self):
        self[...] = sys.modules["torch"].randn_like(self)
        return self


@pytest.fixture(name="torch")
def _torch(monkeypatch):
    """PyTorch and diffusers as far as the peers use them."""
    torch, diffusers = types.ModuleType("torch"), types.ModuleType("diffusers")
    torch.__version__, diffusers.__version__ = "2.0", "0.1"
    torch.streams, generator = [], [None]

    def manual_seed(seed):
        generator[0] = np.random.default_rng(seed)

    torch.manual_seed = manual_seed
    torch.float32, torch.float16, torch.float64 = np.float32, np.float16, np.float64
    torch.bfloat16 = np.dtype("bfloat16")
    torch.tensor = lambda host, dtype, device: np.array(host, dtype).view(Tensor)
    torch.randn_like = lambda x: generator[0].standard_normal(x.shape).astype(x.dtype).view(Tensor)
    torch.empty_like = np.empty_like
    torch.mul = lambda x, weight, out: np.multiply(x, weight, out=out)
    torch.addr = lambda x, a, b, beta, alpha, out: np.add(beta * x, alpha * np.outer(a, b), out=out)
    torch.add = lambda x, other, alpha, out: np.add(x, alpha * other, out=out)
    torch.inference_mode = lambda: lambda function: function
    torch.compile = lambda function, dynamic: function
    torch.compiler = types.SimpleNamespace(reset=lambda: None)
    torch.cuda = types.SimpleNamespace(
        is_available=lambda: True, ExternalStream=lambda pointer: pointer, set_stream=torch.streams.append
    )

    class FlowMatchEulerDiscreteScheduler:
        def __init__(self, stochastic_sampling):
            self.stochastic = stochastic_sampling

        def set_timesteps(self, sigmas, device):
            self.sigmas, self.timesteps = sigmas, [1000.0 * sigma for sigma in sigmas]

        def set_begin_index(self, index):
            self.index = index

        def step(self, m, timestep, x, return_dict):
            t, t_next = self.sigmas[self.index], self.sigmas[self.index + 1]
            self.index += 1
            assert timestep == 1000 * t
            if self.stochastic:
                return ((1 - t_next) * (x - t * m) + t_next * torch.randn_like(x),)
            return (x + (t_next - t) * m,)

    diffusers.FlowMatchEulerDiscreteScheduler = FlowMatchEulerDiscreteScheduler
    monkeypatch.setitem(sys.modules, "torch", torch)
    monkeypatch.setitem(sys.modules, "diffusers", diffusers)
    return torch


PLAIN = ("flow-ode", "flow-sde", "flow-sde clipped", "dpmpp-2m", "sa-solver")


def test_peers_by_pytorch(torch):
    plan = small(
        variants=[VARIANTS[name] for name in (*PLAIN, "flow-sde brownian")],
        peers=peers.find_peers(NUMPY)[0],
    )
    found = [(row["variant"], row["by"]) for row in bench.measure(plan, pytest.fail)]
    by = {variant.name: [b for name, b in found if name == variant.name] for variant in plan.variants}
    assert by == {
        "flow-ode": ["pidsampler", "numpy", "torch", "torch-in-place", "diffusers"],
        "flow-sde": ["pidsampler", "numpy", "torch", "torch-in-place", "torch-compile", "pid-reference", "diffusers"],
        "flow-sde clipped": ["pidsampler", "numpy", "torch", "torch-in-place"],
        "dpmpp-2m": ["pidsampler", "numpy", "torch", "torch-in-place"],
        "sa-solver": ["pidsampler", "numpy", "torch", "torch-in-place"],
        "flow-sde brownian": ["pidsampler"],
    }


def test_peers_without_diffusers(torch, monkeypatch):
    monkeypatch.setitem(sys.modules, "diffusers", None)
    found, missing = peers.find_peers(NUMPY)
    assert [one.name for one in found] == ["numpy", *(name for name in peers._BY_TORCH if name != "diffusers")]
    assert list(missing) == ["diffusers"]


def test_real_pytorch_and_diffusers_pass_the_check():
    pytest.importorskip("torch")
    pytest.importorskip("diffusers")
    for name in ("flow-ode", "flow-sde", "flow-sde clipped", "sa-solver", "seeds-3"):
        row = VARIANTS[name].row
        for one in peers.find_peers(NUMPY)[0]:
            if one.name != "torch-compile" and (step := one.prepare(row)) is not None:
                peers.check(one, step, name=name, row=row, x="float32", m="float32")


@pytest.fixture(name="clocked")
def _clocked(cupy, monkeypatch, tmp_path):
    """The stand-in for CuPy with what a benchmark needs besides: events with times, random numbers, properties."""
    clock = itertools.count()

    class Event:
        def __init__(self, disable_timing=False):
            pass

        def record(self, stream):
            self.at = next(clock)

        def synchronize(self):
            pass

    def launch_host_func(stream, function, argument):
        threading.Thread(target=function, args=(argument,)).start()

    stream_type, fake = type(cupy.cuda.get_current_stream()), cupy.asarray(np.zeros(1)).__class__
    stream_type.launch_host_func, stream_type.synchronize = launch_host_func, lambda self: None
    cupy.cuda.Event, cupy.__version__, cupy.copyto, cupy.clip = Event, "14.0", np.copyto, np.clip
    cupy.cuda.get_elapsed_time = lambda begin, end: float(end.at - begin.at)
    rng = np.random.default_rng(0)
    cupy.random = types.SimpleNamespace(
        seed=lambda seed: setattr(rng.bit_generator, "state", np.random.default_rng(seed).bit_generator.state),
        standard_normal=lambda shape, dtype: rng.standard_normal(shape, dtype).view(fake),
    )
    cupy.fuse = lambda kernel_name: lambda function: function
    properties = {"name": b"a stand-in", "multiProcessorCount": 132, "l2CacheSize": 1000}
    cupy.cuda.runtime.getDeviceProperties = lambda device: properties
    cupy.cuda.runtime.runtimeGetVersion = lambda: 13000
    (tmp_path / ".git").mkdir()
    monkeypatch.setattr(rows, "_ROOT", tmp_path)  # a checkout, wherever the package is
    monkeypatch.setattr(rows, "_output", lambda command: "580.1" if command[0] == "nvidia-smi" else "c" * 40)
    return cupy


needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to run the kernels with")


@needs_compiler
def test_the_gpus_path_runs(clocked, torch, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(measurement, "cache_bytes", timing.cache_bytes)
    chosen = ("--variants", "flow-ode,flow-sde,sa-solver", "--sizes", "8", "--dtype", "float32,float32/float16,float16")
    plan = command.plan(parsed("--device", "cuda", "--quick", *chosen))
    assert plan.types == (("float32", "float32"),)
    plan = command.plan(parsed("--device", "cuda", *chosen))
    plan = attrs.evolve(plan, effort=NOTHING)
    command.carry_out(plan, tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    sizes = {(row["variant"], row["x"], row["m"]): int(row["bytes"]) for row in found}
    assert sizes["flow-sde", "float32", "float32"] == 12 * 192  # x and m in, x out
    assert sizes["flow-sde", "float32", "float16"] == 10 * 192
    assert sizes["flow-sde", "float16", "float16"] == 6 * 192
    assert sizes["sa-solver", "float32", "float32"] == 4 * 192 * (3 + 2 + 2)  # two saved tensors in, two out
    of_sde = [row["by"] for row in found if row["variant"] == "flow-sde" and row["m"] == row["x"] == "float32"]
    assert of_sde == [
        "pidsampler",
        "cupy",
        "cupy-fuse",
        "torch",
        "torch-in-place",
        "torch-compile",
        "pid-reference",
        "diffusers",
    ]
    assert {row["device"] for row in found} == {"a stand-in"}
    assert {(row["driver"], row["cuda"], row["commit"]) for row in found} == {("580.1", "13000", "c" * 40)}
    assert all(float(row["host_ms"]) >= 0 for row in found)
    assert set(torch.streams) == {get_backend("cupy").stream_pointer}  # where the events are
    assert "host" in capsys.readouterr().out


@needs_compiler
def test_a_whole_upscale_on_the_gpu(clocked, monkeypatch):
    loaded = []
    monkeypatch.setattr("pidsampler.upscale.upscaler.Upscaler.load", lambda *where: loaded.append(where) or len)
    monkeypatch.setattr(measurement, "PICTURE", 4)
    plan = small(backend=get_backend("cupy"), variants=[], upscale=True)
    assert [row["side"] for row in bench.measure(plan, print)] == [16, 16]
    assert loaded == [("tiny", "cuda")]


def test_without_onnxruntime_there_is_no_whole_upscale(clocked, monkeypatch):
    def load(*where):
        raise PidSamplerError("onnxruntime is not installed")

    monkeypatch.setattr("pidsampler.upscale.upscaler.Upscaler.load", load)
    notes = []
    assert not list(bench.measure(small(variants=[], upscale=True), notes.append))
    assert notes == ["no whole upscale: onnxruntime is not installed"]


def test_a_launch_that_waits_for_the_gpu_is_an_error(clocked, monkeypatch):
    monkeypatch.setattr(timing, "_HELD", 0.01)
    monkeypatch.setattr(timing, "_QUEUED", 2)
    clock = timing.DeviceClock()
    with pytest.raises(PidSamplerError, match="a launch waits for the GPU"):
        clock.sample(itertools.cycle([lambda: time.sleep(0.02)]))
    ms, host = clock.sample(itertools.cycle([lambda: None]))
    assert ms == 0.5  # two launches between two ticks
    assert host < 10


@pytest.mark.gpu
def test_a_run_on_a_gpu(tmp_path):
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    try:
        cupy.cuda.runtime.getDeviceCount()
    except RuntimeError as error:
        pytest.skip(f"no GPU: {error}")
    words = ("--device", "cuda", "--variants", "flow*", "--sizes", "256", "--dtype", "float32,float16", "--quick")
    command.carry_out(command.plan(parsed(*words)), tmp_path / "rows.csv")
    with (tmp_path / "rows.csv").open(newline="") as file:
        found = list(csv.DictReader(file))
    assert {"pidsampler", "cupy", "cupy-fuse"} <= {row["by"] for row in found}
    assert all(float(row["ms"]) > 0 and row["driver"] for row in found)


def test_the_table_of_steps(load_script, tmp_path, capsys):
    path, script = tmp_path / "rows.csv", load_script("bench/report.py")
    run = {"device": "A CPU", "cores": 1, "x": "float32", "m": "float32", "version": "1.0"}
    run |= {"reads": 0, "writes": 0, "bytes": 12 * 3 * 1024**2, "copy_gb_s": 30.0}
    with rows.appending(path) as append:
        for date, by, variant, draws, side, ms, share in [
            ("2026-01-01", "pidsampler", "flow-sde", 1, 1024, 99.0, 0.01),
            ("2026-02-01", "pidsampler", "flow-sde", 1, 1024, 70.0, 0.0178),
            ("2026-02-01", "numpy", "flow-sde", 1, 1024, 35.0, 0.03),
            ("2026-02-01", "pidsampler", "flow-sde without noise", 0, 1024, 2.0, 0.63),
            ("2026-02-01", "numpy", "flow-sde without noise", 0, 1024, 5.0, 0.25),
            ("2026-02-01", "pidsampler", "flow-ode", 0, 1024, 2.5, 0.5),
            ("2026-02-01", "pidsampler", "heun", 0, 512, 1.0, 0.4),
            ("2026-02-01", "pidsampler", "upscale", "", 1024, 1.0, None),
        ]:
            columns = {"date": date, "by": by, "variant": variant, "draws": draws, "side": side, "ms": ms}
            append({**run, **columns, "share": share})
    script.main(path)
    out = capsys.readouterr().out
    assert "A CPU, cores: 1; 3x1024x1024, float32; a copy has 30 GB/s;" in out
    assert [line for line in out.splitlines() if line.startswith("| `")] == [
        "| `flow-sde` | 0, 0 | 12 | 2 ms | 63% | 70 ms | 1.8% | 2.5x, 0.5x |",
        "| `flow-ode` | 0, 0 | 12 | 2.5 ms | 50% |  |  |  |",
    ]
    script.main(path, "512")
    assert "| `heun` |" in capsys.readouterr().out


def test_the_table_of_the_rows_in_the_repository(load_script, repository, capsys):
    load_script("bench/report.py").main(repository / "bench" / "results" / "steps.csv")
    out = capsys.readouterr().out
    told = sum(not name.endswith("without noise") for name in VARIANTS)
    assert out.count("| `") == out.count("a copy has") * told > 0
    rows.check_columns(repository / "bench" / "results" / "steps.csv")


def test_the_rows_of_pytest_benchmark(repository, load_script, tmp_path, capsys):
    which = [str(repository / "bench" / "bench_steps.py"), "-k", "copy or flow-ode"]
    options = ["--benchmark-max-time=0", "--benchmark-min-rounds=1", f"--benchmark-json={tmp_path / 'bench.json'}"]
    command = [sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider", *which, *options]
    env = {name: value for name, value in os.environ.items() if "XDIST" not in name}  # as from a shell
    subprocess.run(command, cwd=repository, check=True, capture_output=True, timeout=120, env=env)
    load_script("bench/report.py").main(tmp_path / "bench.json")
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(" | ")[0] for line in lines[3:]] == ["| step[flow-ode]", "| copy"]
    assert all(line.endswith("% of a copy's speed |") for line in lines[3:])
