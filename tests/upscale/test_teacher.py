"""Teachers as NVIDIA runs them: a rule for the timesteps, DPM-Solver++ 2M, guidance on the caption alone."""

import json
import os
import pickle
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import attrs
import numpy as np
import onnxruntime
import pytest
from fake_cuda import FakeCuda
from models import write_model
from pages import python_blocks
from paths import PARITY
from PIL import Image

import pidsampler
from pidsampler import (
    Combination,
    CudaOptions,
    FlowODE,
    PidSamplerError,
    Row,
    StepTable,
    Tiling,
    Upscaler,
    noise,
    sample,
    timesteps,
)
from pidsampler.cli import main
from pidsampler.denoiser import GaussianMixture, Guided
from pidsampler.export.architecture import random_tensors
from pidsampler.export.folder import ExportPlan, write_folder
from pidsampler.export.layers import Form
from pidsampler.export.published import PUBLISHED, get_published
from pidsampler.io import captions
from pidsampler.io.records import find_record
from pidsampler.onnx.manifest import Manifest, TeacherRule, read_manifest
from pidsampler.search.problem import Problem
from pidsampler.study import Study
from pidsampler.upscale.batch import Settings
from pidsampler.upscale.options import Options
from pidsampler.upscale.resolve import resolve
from pidsampler.upscale.source import Source

sys.path.insert(0, str(PARITY))
from pid_cases import V15

SMALL = replace(V15, depth=2, pixel_depth=1)
RULE, STEPS = TeacherRule(base=6.0, size=2048, steps=25), 3
UNIT = SMALL.scale * SMALL.latent_factor
RNG = np.random.default_rng(0)
CAPTION, NEGATIVE = RNG.standard_normal((2, SMALL.text_length, SMALL.text_width)).astype(np.float32)


def write_teacher(folder, split=True):
    """A small network of random weights with a teacher's manifest, which takes latents."""
    facts = {"timesteps": attrs.evolve(RULE, steps=STEPS), "sampler": "dpmpp-2m", "guidance": 5.0}
    plan = ExportPlan(
        architecture=SMALL,
        tensors=random_tensors(SMALL, 3),
        form=Form(takes_caption=True, split=split),
        manifest=Manifest(vae_factor=SMALL.latent_factor, **facts),
    )
    write_folder(plan, folder)
    return folder


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_teacher(tmp_path_factory.mktemp("models") / "teacher")


@pytest.fixture(scope="module")
def up(folder):
    return Upscaler.load(folder, "cpu")


def latent_of(height, width):
    shape = (1, SMALL.latent_channels, height // UNIT, width // UNIT)
    return np.random.default_rng(height).standard_normal(shape, np.float32)


def network_of(folder, latent, text):
    """velocity(x, t) of one graph, run by ONNX Runtime as it is."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # more would wait for work at full speed
    session = onnxruntime.InferenceSession(folder / "pid_upscaler.onnx", options, ["CPUExecutionProvider"])
    given = {"degrade_sigma": np.zeros(1, np.float32), "lq_latent": latent, "caption": text[None]}

    def velocity(x, t):
        feeds = {"x": x.astype(np.float32), "t": np.array([1000 * t], np.float32)}
        return session.run(None, {**feeds, **given})[0].astype(np.float64)

    return velocity


def nvidias(x, told, untold, *, scale, steps):
    """NVIDIA's recipe, written out in float64: pid_model.py, generate_samples_from_batch; dpm_solver.py, sample.

    Takes the initial noise and velocities of the caption and of the negative.
    """
    height, width = x.shape[2:]
    shift = 6.0 * np.sqrt(np.sqrt(height * width) / 2048)
    s = np.linspace(0, 0.999, steps + 1)
    times = (shift * s / (1 + (shift - 1) * s))[::-1]

    def x0_at(x, t):
        """noise_pred_fn and data_prediction_fn: eps = (1 - t)*v + x, guided; x0 = (x - t*eps)/(1 - t)."""
        eps, other = ((1 - t) * velocity(x, t) + x for velocity in (told, untold))
        return (x - t * (other + scale * (eps - other))) / (1 - t)

    with np.errstate(divide="ignore"):
        lam = np.log(1 - times) - np.log(times)
    older = None
    for i in range(steps):
        x0 = x0_at(x, times[i])
        phi = np.expm1(-(lam[i + 1] - lam[i]))
        alpha, ratio = 1 - times[i + 1], times[i + 1] / times[i]
        x = ratio * x - alpha * phi * x0
        if 0 < i < steps - 1:  # order 1 first, and at last: lower_order_final
            r0 = (lam[i] - lam[i - 1]) / (lam[i + 1] - lam[i])
            x -= 0.5 * alpha * phi * (x0 - older) / r0
        older = x0
    return x


@pytest.mark.parametrize(("height", "width"), [(256, 256), (128, 512)])
def test_a_teacher_is_sampled_as_nvidias_code_samples_it(height, width, folder, tmp_path):
    plain = write_teacher(tmp_path / "whole", split=False)
    latent, found = latent_of(height, width), []

    def last(run, m):
        if run.index == len(run) - 1:
            found.append(run.predict_x0(m))

    up = Upscaler.load(folder, "cpu")
    result = up(latent, seed=7, caption=CAPTION, negative=NEGATIVE, on_step=last)
    start = noise.normal(7, 0, (3, height, width))[None].astype(np.float64)
    expected = nvidias(
        start, *(network_of(plain, latent, text) for text in (CAPTION, NEGATIVE)), scale=5.0, steps=STEPS
    )
    assert result.record["scheduler"].startswith("DPMSolverPP2M(")
    assert np.abs(expected).max() > 1.1  # nothing is clipped before the end
    # Of the largest value: random weights and guidance 5 leave x0 about 7 wide, with float32's rounding in both.
    assert np.abs(found[0] - expected).max() < 1e-5 * np.abs(expected).max()
    assert np.linalg.norm(found[0] - expected) < 2e-6 * np.linalg.norm(expected)
    levels = np.rint(np.clip(expected[0].transpose(1, 2, 0), -1, 1) * 127.5 + 127.5)
    assert np.abs(result.array - levels).max() <= 1


@pytest.mark.parametrize("steps", [1, 2, 3, 25])
def test_the_solver_is_nvidias_at_every_length(steps):
    """In float64, on velocities of a closed form that are not linear in x."""
    told, untold = GaussianMixture([-0.5, 0.7], [0.2, 0.1], [1, 2]), GaussianMixture([0.0], [0.6], [1])

    def velocity(law):
        def at(x, t):
            out = np.empty_like(x)
            law.predict(x, t, out)
            return out

        return at

    x = noise.normal(3, 0, (3, 64, 96))[None].astype(np.float64)
    expected = nvidias(x, velocity(told), velocity(untold), scale=5.0, steps=steps)
    spec = f"dpmpp-2m@teacher(shift={timesteps.pid_shift(64, 96, base=6, size=2048)!r}):{steps}"
    found = sample(Guided(told, untold, 5.0), spec, x=x, dtype=np.float64)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-10)


def test_the_list_is_made_anew_for_each_size_and_for_the_whole_picture(up):
    for height, width in ((64, 64), (32, 128), (96, 64)):
        expected = timesteps.teacher(STEPS, timesteps.pid_shift(height, width, base=6, size=2048)).tolist()
        for cut in (Tiling(), Tiling(32, 0)):
            made = up.with_tiling(cut)(latent_of(height, width), caption=CAPTION)
            assert made.record["timesteps"] == expected
        assert up.record(Source.of(latent_of(height, width)))["timesteps"] == expected
    assert up.record(Source.of(latent_of(64, 64)), steps=2)["timesteps"] == list(RULE.at((64, 64), 2))
    assert up.record(Source.of(latent_of(64, 64)), "heun@uniform:3")["timesteps"] == timesteps.uniform(3).tolist()
    with pytest.raises(PidSamplerError, match=r"'heun@uniform:3' names a timestep list and steps were given too"):
        up.record(Source.of(latent_of(64, 64)), "heun@uniform:3", steps=2)


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({}, 1),
        ({"guidance": 1.0}, 1),
        ({"caption": CAPTION}, 2),  # by the manifest's guidance
        ({"caption": CAPTION, "guidance": 1}, 1),
        ({"caption": CAPTION, "guidance": 2.5}, 2),
        ({"caption": CAPTION, "negative": NEGATIVE}, 2),
    ],
)
def test_how_often_the_network_is_called(up, runs, options, calls):
    shares = []
    for count, cut in ((1, Tiling()), (4, Tiling(32, 0))):
        runs.clear()
        up.with_tiling(cut)(latent_of(64, 64), **options, progress=shares.append)
        assert runs.count("pid_upscaler.onnx") == STEPS * calls * count
        assert runs.count("lq_projection.onnx") == (1 if count == 1 else STEPS * count)
    assert sum(shares) == pytest.approx(2.0)


def test_guidance_is_of_the_text_alone(up):
    latent, t = latent_of(64, 96), 0.6
    x = np.random.default_rng(1).standard_normal((1, 3, 64, 96), np.float32)

    def velocity(**options):
        out = np.empty_like(x)
        up.bind(latent, degrade_sigma=0.2, **options).denoiser.predict(x, t, out)
        return out

    told, untold = (velocity(caption=text, guidance=1) for text in (CAPTION, NEGATIVE))
    zeros = velocity()
    for negative, away in ((NEGATIVE, untold), (None, zeros)):
        guided = velocity(caption=CAPTION, negative=negative)
        np.testing.assert_allclose(guided, away + 5.0 * (told - away), atol=2e-5)
    guided = velocity(caption=np.zeros_like(CAPTION), negative=NEGATIVE, guidance=3)
    np.testing.assert_allclose(guided, untold + 3 * (zeros - untold), atol=2e-5)
    assert np.abs(told - untold).max() > 0.1


def test_the_negative_is_the_folders_null_caption_where_none_is_given(folder, up, tmp_path):
    latent = latent_of(64, 64)
    shutil.copytree(folder, tmp_path / "stored")
    np.save(tmp_path / "stored" / "null_caption.npy", NEGATIVE)
    stored = Upscaler.load(tmp_path / "stored", "cpu")(latent, caption=CAPTION)
    given, zeros = up(latent, caption=CAPTION, negative=NEGATIVE), up(latent, caption=CAPTION)
    assert np.array_equal(stored.array, given.array)
    assert not np.array_equal(stored.array, zeros.array)
    assert stored.record["negative"] == given.record["negative"] != zeros.record["negative"]


def test_the_null_caption_stands_for_a_caption_where_a_negative_is_given(folder, up, tmp_path, monkeypatch):
    stored = tmp_path / "stored"
    shutil.copytree(folder, stored)
    np.save(stored / "null_caption.npy", CAPTION)
    latent, null = latent_of(64, 64), Upscaler.load(stored, "cpu")
    for options in ({}, {"guidance": 0.5}):
        found = null(latent, negative=NEGATIVE, **options)
        assert np.array_equal(found.array, up(latent, caption=CAPTION, negative=NEGATIVE, **options).array)
    with pytest.raises(PidSamplerError, match="guidance=3 leads toward a caption, but none is given"):
        null(latent, guidance=3)  # away from what it leads to
    monkeypatch.chdir(tmp_path)
    np.save("n.npy", NEGATIVE)
    np.save("a.npy", latent)
    assert main(["upscale", "a.npy", "-o", "o.png", "--model", "stored", "--negative", "n.npy", "--device", "cpu"]) == 0
    assert find_record(Path("o.png"))["guidance"] == 5.0


def test_a_sampler_that_saves_counts_the_second_output(up):
    contract = up.model.contract
    plain, guided = (
        resolve(Options(caption=CAPTION, guidance=scale), contract, size=(64, 64)).tensors for scale in (1, 5)
    )
    assert (plain, guided) == (3, 4)


def by_rows(scale):
    """Euler's steps that guide in their rows."""
    rows = []
    for t, t_next in ((1.0, 0.5), (0.5, 0.0)):
        rows.append(Row(t, t, a=1.0, net=1, saves={0: Combination(b=1.0)}))
        rows.append(Row(t, t_next, a=t_next / t, b=(1 - t_next / t) * scale, h={0: (1 - t_next / t) * (1 - scale)}))
    return StepTable(rows)


def test_a_sampler_guides_by_its_rows(up, runs):
    latent, given = latent_of(64, 64), {"caption": CAPTION, "negative": NEGATIVE}
    for count, cut in ((1, Tiling()), (4, Tiling(32, 0))):
        shares = []  # the first picture of a size runs the projection once more, to learn its shapes
        expected = up.with_tiling(cut)(latent, FlowODE([1.0, 0.5, 0.0]), guidance=2.5, **given)
        runs.clear()
        found = up.with_tiling(cut)(latent, by_rows(2.5), progress=shares.append, **given)
        assert runs.count("pid_upscaler.onnx") == 4 * count
        assert runs.count("lq_projection.onnx") == (1 if count == 1 else 4 * count)
        assert sum(shares) == pytest.approx(1.0)
        assert np.abs(found.array.astype(int) - expected.array).max() <= 1
    assert found.record["negative"] == expected.record["negative"] is not None
    assert (found.record["guidance"], expected.record["guidance"]) == (None, 2.5)
    bound = up.bind(latent, pair=True, **given)
    x = sample(bound.denoiser, by_rows(2.5), shape=bound.shape)
    assert np.array_equal(bound.picture(x), up(latent, by_rows(2.5), **given).array)


def test_cfg_pp_is_its_formula(up):
    """x' = (1 - t')*x0_g + t'*eps_u with the caption's network and the negative's."""
    latent, given = latent_of(64, 64), {"caption": CAPTION, "negative": NEGATIVE}
    bound = up.bind(latent, pair=True, **given)
    x = noise.normal(0, 0, bound.shape[1:])[None]
    for t, t_next in ((1.0, 0.5), (0.5, 0.0)):
        outputs = [np.empty_like(x) for _ in range(2)]
        for network, out in zip(bound.denoiser.networks, outputs, strict=True):
            network.predict(x, t, out)
        c, u = (x - t * out for out in outputs)
        x = (1 - t_next) * (u + 2.5 * (c - u)) + t_next * (x - (1 - t) * u) / t
    found = up(latent, "euler-cfg-pp(scale=2.5)@uniform:2", **given)
    assert np.abs(found.array.astype(int) - bound.picture(x.astype(np.float32))).max() <= 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"caption": CAPTION, "guidance": 2}, "guides by its rows, with a scale of its own, but guidance=2 is given"),
        ({}, "the sampler guides toward a caption by its rows, but none is given: pass a caption"),
    ],
)
def test_a_sampler_that_guides_by_its_rows_refuses(up, options, message):
    with pytest.raises(PidSamplerError, match=message):
        up(latent_of(64, 64), by_rows(2.0), **options)
    with pytest.raises(PidSamplerError, match="tiny takes none"):
        Upscaler.load("tiny", "cpu").record(Source.of(np.zeros((8, 8, 3), np.uint8)), by_rows(2.0))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"guidance": 5}, "guidance=5 leads toward a caption, but none is given: pass a caption too"),
        ({"negative": NEGATIVE}, "a negative leads toward a caption, but none is given: pass a caption too"),
        ({"negative": NEGATIVE, "guidance": 3}, "guidance=3 leads toward a caption, but none is given"),
        (
            {"caption": CAPTION, "negative": NEGATIVE, "guidance": 1},
            "a negative has an effect with guidance alone: pass a guidance other than 1, or no negative",
        ),
        (
            {"caption": CAPTION, "negative": CAPTION[:2]},
            r"the caption has shape \(2, 24\), but .* takes one of \(5, 24\)",
        ),
        ({"caption": np.zeros((2, 3))}, r"the caption has shape \(2, 3\)"),
    ],
)
def test_guidance_that_cannot_be(up, options, message):
    for made in (up, up.bind):
        with pytest.raises(PidSamplerError, match=message):
            made(latent_of(64, 64), **options)


def test_guidance_of_a_network_that_takes_no_caption(tmp_path):
    plain = Upscaler.load(write_model(tmp_path / "m"), "cpu")
    with pytest.raises(PidSamplerError, match=r"m takes none: leave it out, or export the model with caption=input"):
        plain(np.zeros((8, 8, 3), np.uint8), caption=CAPTION, guidance=5)
    with pytest.raises(PidSamplerError, match="m takes no caption"):
        plain.model.denoisers(np.zeros((1, 4, 1, 1), np.float32), 0.0, captions=[None, None])
    with pytest.raises(PidSamplerError, match="a negative has an effect with guidance alone"):
        plain(np.zeros((8, 8, 3), np.uint8), negative=NEGATIVE)


@pytest.fixture
def here(folder, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    np.save("a.npy", latent_of(64, 64))
    np.save("c.npy", CAPTION)
    np.save("n.npy", NEGATIVE)
    return ["upscale", "a.npy", "-o", "out/", "--model", str(folder), "--device", "cpu"]


def test_the_command_runs_a_teacher_and_goes_on_where_it_was(here, up, capsys):
    guided = [*here, "--caption", "c.npy", "--negative", "n.npy", "--guidance", "3"]
    assert main(guided) == 0
    record = find_record(Path("out/a.png"))
    python = up("a.npy", caption=CAPTION, negative=NEGATIVE, guidance=3)
    assert np.array_equal(np.asarray(Image.open("out/a.png")), python.array)
    assert record == json.loads(json.dumps(python.record))
    assert (record["guidance"], record["negative"]) == (3.0, captions.described(NEGATIVE))
    calls = 2 * len(record["table"]["rows"])  # with guidance each is two
    assert f", {calls} model calls on cpu, " in capsys.readouterr().out
    assert main(guided) == 0
    assert "there already" in capsys.readouterr().out
    for other in (["--guidance", "4"], ["--caption", "n.npy"], ["--negative", "c.npy"], ["--guidance", "3"]):
        changed = [*guided, *other]
        if other == ["--guidance", "3"]:
            changed.remove("--negative")
            changed.remove("n.npy")
        assert main(changed) == 1
        assert "not made from a.npy with these settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("options", "scheduler", "times"),
    [
        ([], "DPMSolverPP2M(", RULE.at((64, 64), STEPS)),
        (["--steps", "2"], "DPMSolverPP2M(", RULE.at((64, 64), 2)),
        (["--scheduler", "flow-sde"], "FlowSDE(", RULE.at((64, 64), STEPS)),
        (["--scheduler", "dpmpp-2m-sde(kind=heun)", "--eta", "0.5"], "eta=0.5, kind='heun'", RULE.at((64, 64), STEPS)),
        (["--scheduler", "heun@uniform:2"], "Heun", (1.0, 0.5, 0.0)),
        (["--timesteps", "0.9,0.4,0"], "DPMSolverPP2M(", (0.9, 0.4, 0.0)),
    ],
)
def test_the_commands_sampler_over_a_rule(here, options, scheduler, times):
    assert main([*here, *options]) == 0
    record = find_record(Path("out/a.png"))
    assert scheduler in record["scheduler"]
    assert tuple(record["timesteps"]) == times


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--guidance", "5"], "--guidance 5 leads toward a caption, but none is given: pass a caption too"),
        (["--negative", "n.npy"], "a negative leads toward a caption, but none is given: pass a caption too"),
        (["--negative", "n.npy", "--guidance", "1"], "a negative has an effect with guidance alone"),
        (["--scheduler", "heun@uniform:2", "--steps", "2"], "names a timestep list and steps were given too"),
        (["--negative", "none.npy"], "cannot read none.npy"),
        (["--scheduler", "euler-cfg-pp@uniform:2"], "the sampler guides toward a caption by its rows, but none is"),
        (
            ["--scheduler", "euler-cfg-pp", "--caption", "c.npy", "--guidance", "2"],
            "but --guidance 2 is given: leave it",
        ),
        (["--guidance", "-1", "--caption", "c.npy"], "must be a finite number from 0"),
    ],
)
def test_a_command_line_that_is_wrong(here, options, message, capsys):
    assert main([*here, *options]) == 2
    assert message in capsys.readouterr().err
    assert not Path("out/a.png").exists()


def test_the_command_needs_no_scale_beside_rows_that_guide(here, folder):
    manifest = folder / "pidsampler.json"
    own = manifest.read_text()
    try:
        manifest.write_text(json.dumps({k: v for k, v in json.loads(own).items() if k != "guidance"}))
        given = ["--caption", "c.npy", "--negative", "n.npy", "--scheduler", "euler-cfg-pp@uniform:2"]
        assert main([*here, *given]) == 0
    finally:
        manifest.write_text(own)
    assert find_record(Path("out/a.png"))["negative"] is not None


def test_settings_travel():
    settings = Settings(caption=CAPTION, negative=NEGATIVE, guidance=5, steps=3)
    again = pickle.loads(pickle.dumps(settings))
    assert again == settings
    assert again != attrs.evolve(settings, negative=CAPTION)
    assert again != attrs.evolve(settings, guidance=4)


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to run the kernels with")
def test_a_replayed_cuda_graph_is_told_either_text(cupy, folder, monkeypatch):
    cuda = FakeCuda(cupy, monkeypatch)
    plain, replayed = (Upscaler.load(folder, "cuda", options=CudaOptions(cuda_graph=graph)) for graph in (False, True))
    for seed, (options, size) in enumerate(
        [({"caption": CAPTION}, 64), ({}, 64), ({"caption": CAPTION, "negative": NEGATIVE}, 64), ({}, 96)]
    ):
        found, expected = (up(latent_of(64, size), seed=seed, **options).array for up in (replayed, plain))
        assert np.array_equal(found, expected)
    assert [graph for _, graph in cuda.recorded] == ["1", "2"]  # one for both texts of a size


def test_a_manifest_holds_a_rule(folder, up):
    data = json.loads((folder / "pidsampler.json").read_text())
    assert data["timesteps"] == {"shift": {"base": 6.0, "size": 2048}, "steps": STEPS}
    assert (data["sampler"], data["guidance"]) == ("dpmpp-2m", 5.0)
    assert read_manifest(folder).timesteps == attrs.evolve(RULE, steps=STEPS) == up.model.contract.timesteps
    assert main(["inspect", str(folder)]) == 0


def test_teachers_are_exported_with_theirs(tmp_path):
    teachers = [one for one in PUBLISHED.values() if one.is_teacher]
    assert {one.backbone for one in teachers} == {"flux", "flux2", "qwenimage"}
    for one in PUBLISHED.values():
        expected = (RULE, "dpmpp-2m", 5.0) if one.is_teacher else (tuple(timesteps.pid().tolist()), None, None)
        assert (one.timesteps, one.sampler, one.guidance) == expected
    assert get_published("flux", "2kto4k_v1pt5_undistilled").timesteps.at((2048, 2048))[0] == pytest.approx(
        0.99983, abs=5e-6
    )


RULES = {"shift": {"base": 6, "size": 2048}, "steps": 25}


@pytest.mark.parametrize(
    ("facts", "message"),
    [
        ({"timesteps": {}}, "timesteps is {}, expected a list of times, or a rule such as"),
        ({"timesteps": {"shift": 6, "steps": 25}}, "expected a list of times, or a rule such as"),
        ({"timesteps": {**RULES, "stops": 3}}, "expected a list of times, or a rule such as"),
        (
            {"timesteps": {**RULES, "steps": 0}},
            r"'steps': 0}, expected a base above 0 and at most 1000, a size .* and 1\.\.1000 steps",
        ),
        ({"timesteps": {**RULES, "steps": 10**9}}, r"'steps': 1000000000}, expected .* 1\.\.1000 steps"),
        ({"timesteps": {**RULES, "shift": {"base": 0, "size": 1}}}, "expected a base above 0"),
        ({"timesteps": {**RULES, "shift": {"base": "6", "size": 1}}}, "expected a base above 0"),
        ({"timesteps": {**RULES, "shift": {"base": 6, "size": 2.5}}}, "expected a base above 0"),
        ({"sampler": "dpmp-2m"}, "sampler is 'dpmp-2m', expected a scheduler's name and options, such as 'dpmpp-2m'"),
        ({"sampler": "evil.py:run"}, "sampler is 'evil.py:run', expected a scheduler's name"),
        ({"sampler": "@table.json"}, "sampler is '@table.json', expected a scheduler's name"),
        ({"sampler": "heun@uniform:1000000000"}, "expected a scheduler's name"),
        ({"sampler": "restart(repeats=1000000000)"}, "expected a scheduler's name"),
        ({"sampler": "dpmpp-2m\x1b[2J"}, r"sampler is 'dpmpp-2m\\x1b\[2J', expected a scheduler's name"),
        ({"sampler": 3}, "sampler is 3, expected a scheduler's name"),
        ({"sampler": "restart(repeats=1000)"}, "expected a scheduler's name"),
        ({"sampler": "restart(t_max=0.5)"}, "expected a scheduler's name .*, that suits the timesteps"),
        ({"sampler": "restart", "timesteps": [0.5, 0]}, "expected a scheduler's name .*, that suits the timesteps"),
        ({"timesteps": [1, *(0.5**k for k in range(1, 1001)), 0]}, "expected a list of at most 1001 times, or a rule"),
        ({"timesteps": "abc"}, "timesteps is 'abc', expected a list of at most 1001 times, or a rule"),
        ({"timesteps": [10**400, 0]}, "timesteps must be a list of numbers"),
        ({"guidance": 10**400}, "guidance is 1000.*, expected a number above 0 and at most 1000"),
        ({"guidance": 1e308}, r"guidance is 1e\+308, expected"),
        ({"guidance": float("nan")}, "guidance is nan, expected"),
        ({"guidance": None}, "guidance is None, expected"),
        ({"guidance": True}, "guidance is True, expected"),
        ({"timescale": 10**400}, "timescale is 1000.*, expected a number above 0 and at most 1e6"),
        ({"network_bytes": 10**400}, "network_bytes is 1000.*, expected a number above 0 and at most 1e9"),
        ({"encoder_bytes": 0}, "encoder_bytes is 0, expected"),
        ({"scale": 10**400}, r"scale is 1000.*, expected a whole number in 1\.\.64"),
        ({"vae_factor": 257}, r"vae_factor is 257, expected a whole number in 1\.\.256"),
        ({"position_limit": 1 << 21}, r"position_limit is 2097152, expected a whole number in 1\.\.2\^20"),
        ({"prediction": {}}, "prediction is {}, expected one of velocity, x0, eps"),
        ({"noise_frame": []}, r"noise_frame is \[\], expected one of flow, vp"),
        ({"stored_caption": "0" * 63}, "expected 64 hex digits, a SHA-256"),
        ({"drifts": 1}, "drifts is 1, expected true or false"),
        ({"name": "x" * 4001}, r"name is 'xxx.*\.\.\., expected a text of at most 4000 characters"),
        ({"x" * 4001: 1}, "unknown key 'x{100}': "),
        ({"guidance": 0}, "guidance is 0, expected a number above 0"),
        ({"guidance": "5"}, "guidance is '5', expected a number above 0"),
    ],
)
def test_a_manifest_of_a_stranger(tmp_path, monkeypatch, facts, message):
    monkeypatch.chdir(tmp_path)
    Path("evil.py").write_text("raise SystemExit('it ran')\n")
    Path("pidsampler.json").write_text(json.dumps(facts))
    with pytest.raises(PidSamplerError, match=message):
        read_manifest(Path())


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("[" * 100_000, "cannot be read as JSON: it is nested too deeply"),
        ('{"timesteps":' + "[" * 100_000 + "]" * 100_000 + "}", "cannot be read as JSON: it is nested too deeply"),
        ('{"name": "' + "x" * 1_000_000 + '"}', "is larger than 1 MB"),
        ('{"scale": ' + "1" * 5000 + "}", "cannot be read as JSON"),
        ("\udcff", "is not a text file, expected JSON"),
    ],
    ids=["nested", "nested list", "large", "digits", "bytes"],
)
def test_a_manifest_that_is_no_plain_json(tmp_path, content, message):
    (tmp_path / "pidsampler.json").write_text(content, encoding="utf-8", errors="surrogateescape")
    with pytest.raises(PidSamplerError, match=message):
        read_manifest(tmp_path)


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_a_manifest_that_is_there_is_never_left_out(tmp_path, kind):
    """It would become the facts of a student of PiD."""
    path = tmp_path / "pidsampler.json"
    if kind == "link":
        path.symlink_to("nowhere.json")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(PidSamplerError, match=r"cannot read .*pidsampler\.json"):
        read_manifest(tmp_path)


def test_texts_of_a_manifest_control_no_terminal(folder, tmp_path, capsys):
    shutil.copytree(folder, tmp_path / "m")
    path = tmp_path / "m" / "pidsampler.json"
    texts = {"name": "\x1b[31mred\n\ud800 x", "description": "ein\u202e größerer Name", "licence": "MIT\r\n"}
    path.write_text(json.dumps({**json.loads(path.read_text()), **texts}))
    assert main(["inspect", str(tmp_path / "m")]) == 0
    out = capsys.readouterr().out
    for found in (r"\x1b[31mred\n\ud800 x", r"ein\u202e größerer Name", r"MIT\r\n"):
        assert found in out
    assert out.replace("\n", "").isprintable()


def test_what_a_manifest_may_say_can_be_said(tmp_path):
    """The ends of the ranges, with a byte order mark before them."""
    most = {"scale": 64, "vae_factor": 256, "timescale": 1e6, "guidance": 1000, "position_limit": 1 << 20}
    (tmp_path / "pidsampler.json").write_text("\ufeff" + json.dumps({**most, "network_bytes": 1e9, "drifts": True}))
    found = read_manifest(tmp_path)
    assert {key: getattr(found, key) for key in most} == most
    (tmp_path / "pidsampler.json").write_text(
        json.dumps({"sampler": "restart(t_max=0.5)", "timesteps": [0.9, 0.5, 0.2, 0]})
    )
    assert read_manifest(tmp_path).own_sampler == "restart(t_max=0.5)"


def test_a_list_as_before(tmp_path):
    (tmp_path / "pidsampler.json").write_text('{"timesteps": [0.8, 0.3, 0]}')
    manifest = read_manifest(tmp_path)
    assert (manifest.own_timesteps, manifest.own_sampler) == ((0.8, 0.3, 0.0), "flow-sde")
    assert manifest.listed_timesteps == manifest.own_timesteps


def test_a_study_needs_one_list_for_pictures_of_all_sizes(folder, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    preset = {"model": str(folder), "images": "a.png"}
    study = Study(preset=preset, folder=tmp_path)
    with pytest.raises(
        PidSamplerError, match=r"depend on the result's size .*: pass a list of one shift, such as 'teach"
    ):
        study.scheduler(study.preset_cell)
    study = Study(preset={**preset, "timesteps": "teacher(shift=2)", "steps": 4}, folder=tmp_path)
    assert study.scheduler(study.preset_cell).timesteps.tolist() == timesteps.teacher(4, 2).tolist()


def test_a_study_runs_each_model_by_its_own_scheduler(folder, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "a.png")
    preset = {"model": str(folder), "images": "a.png", "timesteps": "teacher(shift=6)", "steps": 2}
    axes = {"model": [str(folder), "tiny", "nowhere"], "scheduler": ["dpmpp-2m", "flow-sde"]}
    study = Study(preset=preset, axes=axes, cells="one-at-a-time", folder=tmp_path)
    cells = study.all_cells
    assert [cell.settings["scheduler"] for cell in cells] == ["dpmpp-2m", "flow-sde", "flow-sde", "flow-sde"]
    assert str(study.scheduler(cells[0])) == "dpmpp-2m@teacher(shift=6):2"
    said = Study(preset={**preset, "scheduler": "dpmpp-2m"}, folder=tmp_path)
    assert said.preset_cell.id == study.preset_cell.id
    again = pickle.loads(pickle.dumps(study))
    assert (again.preset_cell, again.all_cells) == (study.preset_cell, cells)


def test_a_search_needs_pictures_of_one_size(folder, tmp_path):
    for name, width, size in (("a", 64, 1.0), ("b", 64, 0.5), ("c", 96, 1.0)):
        np.save(tmp_path / f"{name}.npy", size * latent_of(64, width))
    same, other = ([tmp_path / f"{name}.npy" for name in names] for names in ("ab", "ac"))
    assert Problem.of_model(folder, same, device="cpu").own.tolist() == list(RULE.at((64, 64), STEPS))
    with pytest.raises(PidSamplerError, match=r"depend on the result's size .*: pass pictures of one size"):
        Problem.of_model(folder, other, device="cpu")


def test_the_page_runs(folder, monkeypatch):
    (code,) = python_blocks("pid")
    monkeypatch.chdir(folder.parent)
    made = Upscaler.__call__
    results = []
    monkeypatch.setattr(Upscaler, "__call__", lambda *given, **more: results.append(made(*given, **more)))
    exec(code, {"ps": pidsampler, "photo": latent_of(128, 128), "array": CAPTION, "other": NEGATIVE})
    assert [len(result.record["table"]["rows"]) for result in results] == [STEPS, 12]
