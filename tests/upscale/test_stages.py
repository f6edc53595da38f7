"""Each stage alone: read, resolve, plan, bind, finish, record; and what is planned again where memory runs out."""

import json

import numpy as np
import pytest
from models import write_model
from PIL import Image

from pidsampler import Finish, FlowODE, FlowSDE, PidSamplerError, Size, Tiling, Upscaler, noise, sample, timesteps
from pidsampler.backends import get_backend
from pidsampler.errors import OutOfMemoryError
from pidsampler.io.records import find_record
from pidsampler.onnx import Model
from pidsampler.upscale import batch, sizes
from pidsampler.upscale.bind import bind
from pidsampler.upscale.finish import finished
from pidsampler.upscale.options import Options
from pidsampler.upscale.planner import Planner
from pidsampler.upscale.record import SAME, make_record
from pidsampler.upscale.resolve import resolve
from pidsampler.upscale.source import Source, read

NUMPY = get_backend("numpy")
RGB = np.random.default_rng(0).integers(0, 256, (11, 13, 3), np.uint8)


@pytest.fixture
def model(tmp_path):
    """A model whose result is the 8x8 block means, enlarged, plus sigma."""
    return Model.load(write_model(tmp_path / "m"), NUMPY)


def test_read(tmp_path):
    Image.fromarray(RGB).save(tmp_path / "a.png")
    source = read(tmp_path / "a.png")
    assert read(source) is source
    assert np.array_equal(source.rgb, RGB)
    assert source.described["name"] == "a.png"
    assert read(np.zeros((4, 2, 3))).latent.shape == (1, 4, 2, 3)
    with pytest.raises(PidSamplerError, match="the image is int64"):
        read([1])


def test_sizes(model):
    picture, latent = read(RGB), read(np.zeros((4, 2, 3), np.float32))
    for source in (picture, latent):
        assert sizes.padded_size(source, model) == (16, 16) if source is picture else (16, 24)
        assert sizes.sampled_size(source, model) == tuple(4 * n for n in sizes.padded_size(source, model))
    assert sizes.output_size(picture, model) == (44, 52)
    assert sizes.output_size(latent, model) == (64, 96)
    assert sizes.output_size(picture, model, size=Size(2)) == (22, 26)
    with pytest.raises(PidSamplerError, match="scale 5 is above 4"):
        sizes.output_size(picture, model, size=Size(5))
    with pytest.raises(PidSamplerError, match=r"the latent has shape \(1, 5, 2, 3\)"):
        sizes.output_size(read(np.zeros((5, 2, 3), np.float32)), model)


def test_resolve(tmp_path):
    contract = Model.load(write_model(tmp_path / "m", manifest={"timesteps": [0.8, 0.3, 0]}), NUMPY).contract
    own = resolve(Options(), contract, size=(64, 64))
    assert own.sampler == FlowSDE([0.8, 0.3, 0])
    assert (own.table, own.noise, own.tensors) == (FlowSDE([0.8, 0.3, 0]).table(), None, 2)
    assert resolve(Options("flow-ode"), contract, size=(64, 64)).sampler == FlowODE([0.8, 0.3, 0])
    assert resolve(Options("heun@uniform:3"), contract, size=(64, 64)).tensors == 3
    given = resolve(Options(noise=noise.normal), contract, size=(64, 64))
    assert (given.noise, given.table, given.tensors) == (noise.normal, own.table, 3)
    assert resolve(Options(noise="fixed"), contract, size=(64, 64)).table == noise.fixed(own.table)
    with pytest.raises(PidSamplerError, match=r"ends at noise level 0\.5: a picture needs one that ends in 0"):
        resolve(Options(FlowSDE(timesteps.custom([0.9, 0.5], partial=True))), contract, size=(64, 64))


def test_plan(model):
    planner, source = Planner(model, NUMPY), read(RGB)
    whole = planner.plan(source, tiling=Tiling())
    assert (len(whole.grid), whole.described, whole.tiling) == (1, None, Tiling())
    cut = planner.plan(source, tiling=Tiling(32, 0))
    assert (len(cut.grid), len(cut.encoder), cut.tiling) == (4, 1, Tiling(32, 0))
    with pytest.raises(PidSamplerError, match="of memory for the sampler's 3 tensors"):
        planner.plan(source, tiling=Tiling(max_memory=1), tensors=3)


def test_bind(model):
    source, options = read(RGB), Options(seed=9, degrade_sigma=0.25)
    plan = Planner(model, NUMPY).plan(source, tiling=Tiling())
    bound = bind(source, options, model=model, backend=NUMPY, plan=plan)
    assert (bound.shape, bound.height, bound.width, bound.source) == ((1, 3, 64, 64), 44, 52, source)
    out = np.empty(bound.shape, np.float32)
    bound.denoiser.predict(np.zeros_like(out), 1.0, out)  # at t = 1 and x = 0 the velocity is -x0
    padded = np.pad(RGB, ((0, 5), (0, 3), (0, 0)), mode="reflect") / 127.5 - 1
    means = padded.reshape(2, 8, 2, 8, 3).mean((1, 3)).transpose(2, 0, 1)
    keep = np.sqrt(1 - 0.25**2)  # four channels are in the variance-preserving frame
    latent = keep * means + 0.25 * noise.normal(9, 0, (4, 2, 2), stream=1)[:3] + 0.25
    assert -out[0, :, ::32, ::32] == pytest.approx(latent, abs=1e-5)
    told = []
    tiles = Planner(model, NUMPY).plan(source, tiling=Tiling(32, 0))
    cut = bind(source, options, model=model, backend=NUMPY, plan=tiles, on_tile=lambda *at: told.append(at))
    again = np.empty_like(out)
    cut.denoiser.predict(np.zeros_like(out), 1.0, again)
    assert again == pytest.approx(out, abs=1e-6)
    assert told == [(k, 4) for k in range(1, 5)]
    with pytest.raises(PidSamplerError, match="m takes none"):
        bind(source, Options(caption=np.zeros((2, 2))), model=model, backend=NUMPY, plan=plan)


def test_finish():
    source = read(np.dstack([RGB, RGB[:, :, :1]]))
    x = np.zeros((1, 3, 64, 64), np.float32)
    made = {"scale": 4, "drifts": False, "backend": NUMPY, "native": (44, 52)}
    array, drift = finished(x.copy(), source, finish=Finish(), **made)
    assert (array.shape, drift.keys()) == ((44, 52, 4), {"before"})
    assert set(array[:, :, :3].flat) == {128}
    array, drift = finished(x.copy(), source, finish=Finish("match", size=Size(2)), **made)
    assert (array.shape, drift.keys()) == ((22, 26, 4), {"before", "after"})
    array, drift = finished(x, read(np.zeros((4, 2, 2), np.float32)), finish=Finish(), **made | {"native": (64, 64)})
    assert (array.shape, drift) == ((64, 64, 3), None)
    with pytest.raises(PidSamplerError, match="NaN or infinity"):
        finished(x * np.nan, source, finish=Finish(), **made)


def test_record(model):
    source, options = read(RGB), Options("heun@uniform:2", seed=4, finish=Finish(size=Size(2)))
    resolved = resolve(options, model.contract, size=(64, 64))
    record = make_record(source, options, resolved=resolved, model=model, device="cpu")
    assert json.loads(json.dumps(record)) == record
    assert record.keys() >= {*SAME, "scheduler", "timesteps", "output", "device", "versions"}
    assert (record["output"], record["seed"]) == ({"width": 26, "height": 22}, 4)
    assert record["model"].keys() == {"name", "licence", "sha256"}  # as files of 0.1 have it
    assert record["table"] == resolved.table.to_dict()


def test_the_stages_make_what_the_upscaler_makes(model):
    source, options = read(RGB), Options("heun@uniform:2", seed=4, degrade_sigma=0.2)
    resolved = resolve(options, model.contract, size=(64, 64))
    plan = Planner(model, NUMPY).plan(source, tiling=Tiling(), tensors=resolved.tensors)
    bound = bind(source, options, model=model, backend=NUMPY, plan=plan)
    x = sample(bound.denoiser, resolved.table, shape=bound.shape, seed=options.seed)
    made = {"scale": 4, "drifts": model.contract.drifts, "backend": NUMPY, "native": (bound.height, bound.width)}
    array, drift = finished(x.copy(), source, finish=options.finish, **made)
    result = Upscaler(model, NUMPY)(RGB, **options.keywords())
    assert np.array_equal(array, result.array)
    assert np.array_equal(array, bound.picture(x))
    made = make_record(source, options, resolved=resolved, model=model, device="cpu")
    assert result.record == made | {"tiles": None, "drift": drift, "ran_out_of_memory": False}


def test_what_runs_out_of_memory_is_made_of_smaller_tiles_once(model):
    planner, source, plans = Planner(model, NUMPY), read(RGB), []

    def make(plan):
        plans.append(plan)
        if len(plan.grid) < least:
            raise MemoryError
        return len(plans)

    least = 1
    assert planner.retry_on_oom(make, source, tiling=Tiling()) == (1, plans[0])
    least = 2
    with pytest.warns(UserWarning, match=r"out of memory \(no memory\): tried again in 4 tiles of 32x32"):
        made, plan = planner.retry_on_oom(make, source, tiling=Tiling())
    assert (made, plan) == (3, plans[2])
    assert (plan.tiling, plans[1].tiling) == (Tiling(32, encoder=True), Tiling())
    least = 5
    with pytest.warns(UserWarning, match="tried again"), pytest.raises(MemoryError):
        planner.retry_on_oom(make, source, tiling=Tiling())
    with pytest.raises(OutOfMemoryError, match="tiles cannot be smaller here: no memory"):
        planner.retry_on_oom(make, source, tiling=Tiling("off"))


@pytest.fixture
def little(monkeypatch):
    """Memory for tiles of up to four latent pixels; and how large the parts were that were tried."""
    tried, real = [], Model.denoiser

    def denoiser(self, latent, *rest, **options):
        tried.append(latent[0, 0].size)
        if tried[-1] > 4:
            raise OutOfMemoryError("no room")
        return real(self, latent, *rest, **options)

    monkeypatch.setattr(Model, "denoiser", denoiser)
    return tried


def test_a_folder_keeps_to_the_smaller_tiles(model, little, tmp_path):
    """It runs out of memory once, and not for each file; the caller's upscaler is as it was."""
    files = []
    for k in range(4):
        Image.fromarray(np.roll(RGB, k).repeat(2, axis=0).repeat(2, axis=1)).save(tmp_path / f"{k}.png")
        files.append(batch.File(tmp_path / f"{k}.png", tmp_path / f"{k}-out.png"))
    up, settings = Upscaler(model, NUMPY), batch.Settings("flow-ode@uniform:1")
    with pytest.warns(UserWarning, match="tried again") as said:
        outcomes = list(batch.upscale_files(up, files, settings=settings))
    assert [outcome.error for outcome in outcomes] == [None] * 4
    assert len(said) == len([size for size in little if size > 4]) == 1
    records = [find_record(file.target) for file in files]
    assert [record["ran_out_of_memory"] for record in records] == [True, False, False, False]
    assert len({json.dumps(record["tiles"]) for record in records}) == 1
    assert up.tiling == Tiling()


def test_a_worker_of_a_cluster_keeps_to_them_too(model, little, tmp_path, monkeypatch):
    Image.fromarray(RGB.repeat(2, axis=0).repeat(2, axis=1)).save(tmp_path / "a.png")
    monkeypatch.setattr(Upscaler, "load", lambda *_, **__: Upscaler(model, NUMPY))
    worker, settings = batch.FileWorker("m", "cpu"), batch.Settings("flow-ode@uniform:1")
    files = [batch.File(tmp_path / "a.png", tmp_path / f"{k}.png") for k in range(3)]
    with pytest.warns(UserWarning, match="tried again") as said:
        outcomes = [outcome for file in files for outcome in worker.run(batch.FileJob((file,), settings))]
    assert [outcome.error for outcome in outcomes] == [None] * 3
    assert len(said) == 1


def test_an_upscaler_is_frozen_and_others_are_made_of_it(model):
    up = Upscaler(model, NUMPY)
    with pytest.raises(AttributeError):
        up.tiling = Tiling(32)
    other = up.with_tiling(Tiling(32, 0))
    assert (up.tiling, other.tiling, other.model) == (Tiling(), Tiling(32, 0), model)
    assert other(RGB).record["tiles"]["count"] == 4
    for wrong in ({"model": "m"}, {"backend": "numpy"}, {"tiling": 32}):
        with pytest.raises(PidSamplerError, match=f"{next(iter(wrong))}=.* must be a"):
            Upscaler(**{"model": model, "backend": NUMPY, **wrong})


def test_a_plan_and_a_source_are_checked(model):
    up = Upscaler(model, NUMPY)
    for call in (lambda: up.plan("a.png"), lambda: up.output_size("a.png"), lambda: up.record("a.png")):
        with pytest.raises(PidSamplerError, match=r"source='a\.png' must be a Source"):
            call()
    with pytest.raises(PidSamplerError, match="plan=3 must be a TilePlan"):
        up.bind(Source.of(RGB), plan=3)
