"""The plan of the memory: what is chosen fits, is as large as fits, and what happens where it does not."""

import json
import os
import subprocess
import sys
from contextlib import suppress
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from models import write_model, write_split_model

from pidsampler import PidSamplerError, Upscaler
from pidsampler.backends import get_backend, host
from pidsampler.cli import main
from pidsampler.errors import OutOfMemoryError
from pidsampler.onnx import Model
from pidsampler.onnx import model as model_module
from pidsampler.upscale import memory
from pidsampler.upscale.memory import Memory, Need, TilePlan, Tiling

UNIT, SCALE = 32, 4
PHOTO = np.random.default_rng(0).integers(0, 256, (40, 72, 3), np.uint8)


def planned(tiling, size, budget, network=100.0, tensors=2, fixed=None):
    return memory.plan(
        tiling,
        size,
        unit=UNIT,
        scale=SCALE,
        fixed=fixed,
        budget=budget,
        tensors=tensors,
        need=lambda: Need(network, 10.0),
    )


def peak(plan, size, network, tensors):
    pixels = plan.grid.rows.size * plan.grid.columns.size
    state = size[0] * size[1] * (12 * tensors + 8)
    return state + pixels * (network + (24 if len(plan.grid) > 1 else 0))


@settings(max_examples=30)
@given(
    st.tuples(st.integers(1, 200), st.integers(1, 200)),
    st.integers(1, 20_000),
    st.integers(2, 6),
    st.floats(10, 5000),
    st.sampled_from([None, 0, 32, 100, 640]),
)
def test_what_is_planned_fits_and_is_the_largest(sides, megabytes, tensors, network, overlap):
    size, budget = tuple(UNIT * n for n in sides), megabytes * 10**6
    tiling = Tiling(overlap=overlap, max_memory=1)
    state = (12 * tensors + 8) * size[0] * size[1]
    least = np.prod([min(side, (overlap or 0) + 2 * UNIT) for side in size]) * (network + 24)
    if budget < state + least:  # it may still fit, but where it does not, that is said
        with suppress(PidSamplerError):
            planned(tiling, size, budget, network, tensors)
        if budget < state:
            with pytest.raises(PidSamplerError, match="of memory for the sampler's"):
                planned(tiling, size, budget, network, tensors)
        return
    plan = planned(tiling, size, budget, network, tensors)
    assert peak(plan, size, network, tensors) <= budget
    assert plan.grid.rows.length == size[0]
    assert plan.encoder.rows.length * SCALE == size[0]
    for side in (plan.grid.rows, plan.grid.columns):
        assert all(start % UNIT == 0 for start in side.starts)
        assert all(n >= (overlap or 0) for n in side.overlaps[1:])
    if len(plan.grid) > 1:  # whole did not fit
        whole = size[0] * size[1] * (12 * tensors + 8 + network)
        assert whole > budget


def test_more_memory_is_never_smaller_tiles():
    size, last = (4096, 3072), 0
    for megabytes in range(450, 2500, 100):
        plan = planned(Tiling(), size, megabytes * 10**6)
        pixels = plan.grid.rows.size * plan.grid.columns.size
        assert pixels >= last
        last = pixels
    assert last == 4096 * 3072


def test_what_is_small_or_unknown_is_whole_and_not_measured():
    def unmeasured(tiling, size, budget, fixed=None):
        def never():
            raise AssertionError

        return memory.plan(tiling, size, unit=UNIT, scale=SCALE, fixed=fixed, budget=budget, tensors=2, need=never)

    for size, budget, tiling in (((1024, 1024), 10, Tiling()), ((9984, 9984), None, Tiling())):
        plan = unmeasured(tiling, size, budget)
        assert (len(plan.grid), plan.described) == (1, None)
    # What was chosen is tried, if there is room for the sampler's own, and nothing is measured.
    for tiling, fixed in ((Tiling("off"), None), (Tiling(512), None), (Tiling(), (512, 512))):
        unmeasured(tiling, (2048, 2048), 10**9, fixed)
        plan = planned(tiling, (2048, 2048), 2048**2 * 32 + 10, fixed=fixed)
        assert (len(plan.grid) == 1) == (tiling.tile == "off")
        with pytest.raises(PidSamplerError, match=r"134\.2 MB of memory for the sampler's 2 tensors"):
            planned(tiling, (2048, 2048), 2048**2 * 32 - 10, fixed=fixed)
    with pytest.raises(
        PidSamplerError, match=r"a result of 1024x512 takes 16.8 MB .* and 0.1 MB .* there is 0.0 MB beside"
    ):
        planned(Tiling(max_memory=10), (512, 1024), 10)


def test_a_tile_that_was_asked_for():
    plan = planned(Tiling(500, 70), (1024, 640), 10)
    # 500 is no whole number of latent pixels, and three of 416 suffice for the height, two of 384 for the width
    assert (plan.grid.rows.size, plan.grid.columns.size) == (416, 384)
    assert plan.described["overlap"] >= 70
    assert plan.described["count"] == len(plan.grid) == 3 * 2
    assert len(plan.encoder) == 1
    assert planned(Tiling(500, 70, encoder=True), (1024, 640), 10).encoder.rows.size == 104
    assert planned(Tiling(2000), (1024, 640), 10).described is None
    assert planned(Tiling(1), (64, 64), None).described["width"] == UNIT


def test_fixed_graphs_are_tiles():
    plan = planned(Tiling(), (1024, 3072), None, fixed=(1024, 1024))
    assert (plan.described["width"], len(plan.grid)) == (1024, 4)
    assert len(planned(Tiling("off"), (1024, 1024), None, fixed=(1024, 1024)).grid) == 1
    for tile in ("off", 512):
        with pytest.raises(PidSamplerError, match="the model makes 1024x1024 and no other size"):
            planned(Tiling(tile), (1024, 3072), None, fixed=(1024, 1024))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("of",), "unknown tile 'of'"),
        ((0,), "tile=0 must be a whole number in 1..2"),
        (("auto", -1), "overlap=-1 must be a whole number in 0..2"),
    ],
)
def test_a_wrong_tiling(arguments, message):
    with pytest.raises(PidSamplerError, match=message):
        Tiling(*arguments)


def test_memory_of_nothing():
    with pytest.raises(PidSamplerError, match="max_memory=0 must be a whole number of at least 1"):
        Tiling(max_memory=0)


@pytest.mark.parametrize(
    ("text", "count"),
    [("1000", 1000), ("4G", 4 * 10**9), ("1.5GB", 1_500_000_000), ("800MiB", 800 * 2**20), ("2 ki", 2048)],
)
def test_sizes_in_bytes(text, count):
    assert Tiling.parse("auto", None, max_memory=text) == Tiling(max_memory=count)


@pytest.mark.parametrize("text", ["", "4T", "-1", "4 GB a lot", "G"])
def test_what_is_no_size(text):
    with pytest.raises(PidSamplerError, match="is no size in bytes: pass one such as 4G"):
        Tiling.parse("auto", None, max_memory=text)


def test_the_machine_says_its_memory(monkeypatch, tmp_path):
    assert host.free_memory() > 10**8
    before = host.held_memory()
    held = np.ones(10_000_000)
    assert 60e6 < host.held_memory() - before < 120e6
    del held
    files = {
        "/proc/meminfo": ["MemTotal: 9 kB", "MemAvailable:   4000 kB"],
        "/sys/fs/cgroup/memory.max": ["3000000"],
        "/sys/fs/cgroup/memory.current": ["2000000"],
        "/sys/fs/cgroup/memory.stat": ["anon 5", "inactive_file 100000"],
    }
    monkeypatch.setattr(host, "_lines", lambda path: files.get(path, []))
    assert host.free_memory() == 1_100_000
    files["/sys/fs/cgroup/memory.max"] = ["max"]
    assert host.free_memory() == 4_096_000
    files.clear()
    assert host.free_memory() is None
    assert host.held_memory() is None
    backend = get_backend("numpy")
    assert Memory.of(backend).budget(Tiling()) is None
    assert Memory.of(backend).budget(Tiling(max_memory=7)) == 7


def test_the_budget_is_what_is_free_and_allowed(monkeypatch):
    monkeypatch.setattr(host, "free_memory", lambda: 1000)
    monkeypatch.setattr(host, "held_memory", lambda: 300)
    backend = get_backend("numpy")
    assert Memory.of(backend).budget(Tiling()) == 900
    assert Memory.of(backend).budget(Tiling(max_memory=700)) == 400
    assert Memory.of(backend).budget(Tiling(max_memory=5000)) == 900
    assert Memory.of(backend).budget(Tiling(max_memory=200)) == 0


def test_a_model_is_measured_as_its_manifest_says():
    script = """
from pidsampler.upscale import memory
from pidsampler.onnx import Model
from pidsampler.onnx import model as model_module
from pidsampler.backends import get_backend
backend = get_backend("numpy")
model = Model.load("tiny", backend)
need = memory.measure(model, backend)
print(need.network, need.encoder, model.contract.network_bytes, model.contract.encoder_bytes)
"""
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, check=True)
    network, encoder, *stated = map(float, done.stdout.split())
    assert 0.5 * stated[0] < network < 1.5 * stated[0]
    assert 0.0 <= encoder < 3 * stated[1]


def test_a_model_that_says_nothing_is_measured_once(tmp_path, monkeypatch):
    calls = []
    monkeypatch.setattr(memory, "measure", lambda *_: calls.append(1) or Need(50.0, 5.0))
    up = Upscaler.load(write_split_model(tmp_path / "m"), "cpu", tiling=Tiling(max_memory=host.held_memory() + 10**9))
    for _ in range(2):
        up(PHOTO)
    assert calls == [1]


def whole_and_tiled(folder, tiling, image=PHOTO, **options):
    whole = Upscaler.load(folder, "cpu", tiling=Tiling("off"))(image, **options)
    return whole, Upscaler.load(folder, "cpu", tiling=tiling)(image, **options)


@pytest.mark.parametrize("write", [write_model, write_split_model])
@pytest.mark.parametrize("encoder", [True, False])
def test_a_tiled_picture_is_the_whole_one(tmp_path, write, encoder):
    """The network looks at no neighbors, so that even tiles without an overlap agree."""
    whole, tiled = whole_and_tiled(write(tmp_path / "m"), Tiling(96, 0, encoder=encoder), degrade_sigma=0.3, seed=4)
    assert np.abs(whole.array.astype(int) - tiled.array).max() <= 1
    assert whole.record["tiles"] is None
    tiles = tiled.record["tiles"]
    assert (tiles["width"], tiles["height"], tiles["overlap"], tiles["count"]) == (96, 96, 0, 6)
    assert tiles["encoder_count"] == (6 if encoder else 1)
    assert {**whole.record, "tiles": 0} == {**tiled.record, "tiles": 0}


def test_fixed_graphs_take_what_is_larger(tmp_path):
    fixed, dynamic = write_model(tmp_path / "f", size=(32, 24)), write_model(tmp_path / "d")
    for image in (PHOTO, PHOTO[:20], PHOTO[:, :9], PHOTO[:33, :25]):
        found = Upscaler.load(fixed, "cpu")(image, seed=4)
        assert found.array.shape == (4 * image.shape[0], 4 * image.shape[1], 3)
        if image.shape[0] >= 32 and image.shape[1] >= 24:
            expected = Upscaler.load(dynamic, "cpu")(image, seed=4)
            assert np.abs(found.array.astype(int) - expected.array).max() <= 1
    latent = np.random.default_rng(1).standard_normal((1, 4, 5, 7), np.float32)
    found, expected = (Upscaler.load(folder, "cpu")(latent) for folder in (fixed, dynamic))
    assert np.abs(found.array.astype(int) - expected.array).max() <= 1
    with pytest.raises(PidSamplerError, match=r"the latent is \(3, 7\) in size, but f takes \(4, 3\) at least"):
        Upscaler.load(fixed, "cpu")(latent[:, :, :3])


def test_out_of_memory_tries_a_smaller_tile_once(tmp_path, monkeypatch):
    folder, seen = write_model(tmp_path / "m"), []
    plain = Upscaler.load(folder, "cpu")(PHOTO)
    real = Model.denoiser

    def fails_above(pixels, error):
        def denoiser(self, latent, *rest, **options):
            seen.append(latent.shape[2:])
            if latent[0, 0].size > pixels:
                raise error
            return real(self, latent, *rest, **options)

        monkeypatch.setattr(Model, "denoiser", denoiser)

    for error in (OutOfMemoryError("no room"), MemoryError()):
        fails_above(44, error)
        up = Upscaler.load(folder, "cpu")
        with pytest.warns(UserWarning, match=r"out of memory \(.*\): tried again in 8 tiles of 128x128"):
            result = up(PHOTO)
        assert np.abs(result.array.astype(int) - plain.array).max() <= 1
        assert result.record["tiles"]["width"] == 128
        assert (result.record["ran_out_of_memory"], plain.record["ran_out_of_memory"]) == (True, False)
        # The smaller tiles are that result's, not the upscaler's: it plans anew, or is told to keep to them.
        assert (up.tiling, result.plan.tiling) == (Tiling(), Tiling(144, encoder=True))
        with pytest.warns(UserWarning, match="tried again"):
            assert up(PHOTO).record == result.record
        again = up.with_tiling(result.plan.tiling)(PHOTO)
        assert np.array_equal(again.array, result.array)
        assert again.record == result.record | {"ran_out_of_memory": False}
    fails_above(5, OutOfMemoryError("no room"))
    seen.clear()
    with pytest.warns(UserWarning, match="tried again"), pytest.raises(OutOfMemoryError, match="no room"):
        Upscaler.load(folder, "cpu")(PHOTO)
    assert len(seen) == 2
    with pytest.raises(OutOfMemoryError, match="tiles cannot be smaller here: no room"):
        Upscaler.load(folder, "cpu", tiling=Tiling("off"))(PHOTO)


@pytest.mark.parametrize(
    "said",
    [
        "Failed to allocate memory for requested buffer of size 5",
        "std::bad_alloc",
        "CUDA failure 2: out of memory ; GPU=0",
        "CUDNN failure 4000: CUDNN_STATUS_ALLOC_FAILED",
    ],
)
def test_what_runs_say_when_memory_is_gone(tmp_path, monkeypatch, said):
    model = Model.load(write_model(tmp_path / "m"), get_backend("numpy"))
    binding = model.network.bind()

    class Session:
        def run_with_iobinding(self, *_):
            raise RuntimeError(said)

    binding._session = Session()
    with pytest.raises(OutOfMemoryError):
        binding.run()


def test_real_memory_that_runs_out(tmp_path):
    """A process that may have little more than the model: ONNX Runtime itself says that there is no more."""
    script = """
import resource, numpy as np
from pidsampler import Tiling, Upscaler
up = Upscaler.load("gaussian", "cpu")
up(np.zeros((8, 8, 3), np.uint8), "flow-ode", seed=1)
np.ones((999, 999)) @ np.ones((999, 999))  # or numpy's library of matrices ends the process
now = int(open("/proc/self/statm").read().split()[0]) * 4096
resource.setrlimit(resource.RLIMIT_AS, (now + 260_000_000, -1))
record = up(np.zeros((512, 512, 3), np.uint8), "flow-ode@uniform:1").record
print(record["tiles"]["width"], record["ran_out_of_memory"])
"""
    # Threads reserve 64 MB each without the one, and stacks with as many as there are cores.
    environment = os.environ | {"MALLOC_ARENA_MAX": "1", "OMP_NUM_THREADS": "2"}
    done = subprocess.run([sys.executable, "-P", "-c", script], capture_output=True, text=True, env=environment)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "768 True\n"
    assert "PidSamplerWarning: out of memory (" in done.stderr
    assert "tried again in 9 tiles of 768x768" in done.stderr


def test_on_the_command_line(tmp_path, monkeypatch, capsys):
    from pidsampler.io.records import find_record

    monkeypatch.chdir(tmp_path)
    from PIL import Image

    Image.fromarray(PHOTO).save("in.png")
    options = ["upscale", "in.png", "--model", "gaussian", "-o"]
    assert main([*options, "a.png", "--tile", "96", "--overlap", "64"]) == 0
    assert find_record(Path("a.png"))["tiles"]["count"] == 3 * 7
    assert main([*options, "b.png", "--max-memory", "50MB"]) == 1
    assert "takes 1.5 MB of memory for the sampler's 2 tensors" in capsys.readouterr().err
    for wrong, message in (
        (["--tile", "big"], "unknown tile 'big'"),
        (["--max-memory", "lots"], "--max-memory lots is no size in bytes"),
        (["--overlap", "-3"], "--overlap -3 must be a whole number in 0..2^31-1"),
    ):
        assert main([*options, "c.png", *wrong]) == 2
        assert message in capsys.readouterr().err
    assert main([*options, "c.png", "--tile", "96", "--overlap", "96"]) == 1
    assert "overlap 96 leaves nothing of a tile of 96 pixels" in capsys.readouterr().err


def test_progress_adds_up_to_one(tmp_path):
    folder = write_model(tmp_path / "m")
    for tiling, calls in ((Tiling("off"), 4), (Tiling(96, 0), 4 * 6)):
        shares = []
        Upscaler.load(folder, "cpu", tiling=tiling)(PHOTO, progress=shares.append)
        assert len(shares) == calls
        assert sum(shares) == pytest.approx(1.0)


def test_manifests_state_memory_and_drift(tmp_path):
    folder = write_model(tmp_path / "m", manifest={"network_bytes": 9.5, "encoder_bytes": 2, "drifts": True})
    contract = Model.load(folder, get_backend("numpy")).contract
    assert (contract.network_bytes, contract.encoder_bytes, contract.drifts) == (9.5, 2, True)
    for key, value in (("network_bytes", 0), ("encoder_bytes", "much"), ("drifts", 1)):
        (folder / "pidsampler.json").write_text(json.dumps({key: value}))
        with pytest.raises(PidSamplerError, match=f"{key} is {value!r}, expected"):
            Model.load(folder, get_backend("numpy"))


def test_a_plan_says_what_it_is():
    plan = planned(Tiling(128, 32), (256, 128), None)
    assert isinstance(plan, TilePlan)
    assert plan.described == {
        "of": {"width": 128, "height": 256},
        "width": 128,
        "height": 128,
        "columns": 1,
        "rows": 3,
        "overlap": 64,
        "count": 3,
        "encoder": {"width": 32, "height": 64, "columns": 1, "rows": 1},
        "encoder_count": 1,
    }


def test_features_of_tiles_are_not_looked_at_within_the_loop(tmp_path, monkeypatch):
    """It would wait for the device; what is not finite in them shows in the result."""
    looks, real = [], model_module._is_finite
    monkeypatch.setattr(model_module, "_is_finite", lambda array: looks.append(array.shape) or real(array))
    tiled = Upscaler.load(write_split_model(tmp_path / "m"), "cpu", tiling=Tiling(96, 0))
    tiled(PHOTO)
    assert looks == []
    Upscaler.load(tmp_path / "m", "cpu", tiling=Tiling("off"))(PHOTO)
    assert len(looks) == 2
    broken = write_split_model(tmp_path / "b", gain=np.nan)
    with pytest.raises(PidSamplerError, match="NaN or infinity"):
        Upscaler.load(broken, "cpu", tiling=Tiling(96, 0))(PHOTO)
    assert len(looks) == 2
