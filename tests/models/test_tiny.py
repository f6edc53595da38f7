"""What the trained model is held to, on photographs: gains over bicubic, colours, sizes, seeds, steps and sigma."""

import json
from itertools import pairwise

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from pidsampler import FlowODE, FlowSDE, Upscaler, timesteps
from pidsampler.backends.numpy import NumpyBackend
from pidsampler.image.pixels import to_tensor


@pytest.fixture(scope="module", name="quality")
def _quality(load_script):
    return load_script("bench/quality.py")


@pytest.fixture(scope="module", name="tiny")
def _tiny():
    return Upscaler.load("tiny", "cpu")


@pytest.fixture(scope="module", name="photos")
def _photos(repository, quality):
    """Name to (photograph, the photograph reduced 4x)."""
    found = {}
    for name in ("cat", "road", "chameleon"):
        with Image.open(repository / "examples" / f"{name}.jpg") as image:
            photo = np.asarray(image.convert("RGB"))
        height, width = (n // 4 * 4 for n in photo.shape[:2])
        photo = photo[:height, :width]
        found[name] = photo, quality.resized(photo, width // 4, height // 4)
    return found


@pytest.fixture(scope="module", name="cat")
def _cat(photos):
    """A piece of the cat's face, reduced: 64x64."""
    return photos["cat"][1][8:72, 16:80]


@pytest.fixture(scope="module", name="eye")
def _eye(cat):
    """A part of it, for samplers of many model calls: 16x16."""
    return cat[:16, :16]


def rms(a, b):
    return float(np.sqrt(np.mean((a.astype(float) - b) ** 2)))


@pytest.mark.parametrize(("name", "decibels"), [("cat", 0.5), ("road", 0.8), ("chameleon", 1.0)])
def test_better_than_bicubic(tiny, quality, photos, name, decibels):
    """The cat is from neither the photographs that were trained on nor the packages they are from."""
    photo, small = photos[name]
    plain = quality.measures(photo, small, quality.resized(small, photo.shape[1], photo.shape[0]))
    found = quality.measures(photo, small, tiny(small).array)
    assert found["PSNR"] > plain["PSNR"] + decibels
    assert found["SSIM"] > plain["SSIM"] + 0.02
    assert found["again"] > 50
    assert found["drift"] < 0.5


@pytest.mark.parametrize(("width", "height"), [(32, 32), (33, 47), (257, 60), (60, 270)])
def test_colours_and_no_seams_at_any_size(tiny, quality, repository, width, height):
    with Image.open(repository / "examples" / "cat.jpg") as image:
        small = np.asarray(image.resize((width, height), Image.Resampling.BICUBIC))
    result = tiny(small).array
    assert quality.fidelity(small, result)["drift"] < 1
    # The network's grids are 4 pixels, its latent's 32: differences across them are no larger than elsewhere.
    for axis, n in ((0, height), (1, width)):
        if n < 256:
            continue
        steps = np.abs(np.diff(result.astype(float), axis=axis)).mean(axis=(1 - axis, 2))
        across, inside = steps[31::32].mean(), np.concatenate([steps[k::32] for k in (3, 7, 11, 15, 19, 23, 27)]).mean()
        assert across == pytest.approx(inside, rel=0.05)


def test_smooth_pictures_stay_smooth(tiny, quality):
    """A ramp, where any grid would show."""
    ramp = np.linspace(30, 220, 96)[:, None] + np.linspace(-20, 20, 80)
    small = np.rint(np.stack([ramp, ramp[::-1], 0 * ramp + 128], axis=2)).astype(np.uint8)
    difference = tiny(small).array.astype(float) - quality.resized(small, 320, 384)
    assert np.abs(difference).max() <= 8  # at the picture's edge
    inside = difference[16:-16, 16:-16]
    assert np.abs(inside).max() <= 2
    by_place_in_the_grid = inside.reshape(88, 4, 72, 4, 3).mean((0, 2))
    assert np.abs(by_place_in_the_grid).max() < 0.5


@settings(max_examples=15)
@given(st.integers(1, 40), st.integers(1, 40), st.tuples(*[st.sampled_from([0, 50, 128, 200, 255])] * 3))
def test_flat_stays_flat(tiny, height, width, color):
    difference = tiny(np.full((height, width, 3), color, np.uint8)).array.astype(int) - color
    assert np.abs(difference).max() <= 10  # of saturated green
    assert np.abs(difference.mean((0, 1))).max() < 2.5  # of a single such pixel; 1 from a few on


def test_seeds_differ_where_the_input_leaves_texture_open(tiny, quality, cat):
    """In fur, and more where there is more of it; not where the input is smooth."""

    def difference(small):
        results = [tiny(small, "flow-ode@uniform:16", seed=seed).array for seed in (0, 1)]
        for result in results:
            assert quality.fidelity(small, result)["again"] > 45
        return np.abs(results[0].astype(float) - results[1]).mean(axis=2)

    fur = difference(cat)
    assert fur.mean() > 2.5
    assert difference(np.broadcast_to(cat.mean((0, 1)).astype(np.uint8), (32, 32, 3))).mean() < 0.2 * fur.mean()
    detail = np.abs(cat - quality.resized(quality.resized(cat, 32, 32), 64, 64).astype(float)).mean(axis=2)
    fur, detail = (a.reshape(8, len(a) // 8, 8, -1).mean((1, 3)).ravel() for a in (fur, detail))
    order = np.argsort(detail)
    assert fur[order[-16:]].mean() > 1.2 * fur[order[:16]].mean()


@pytest.mark.parametrize(("name", "counts"), [("tiny", (2, 4, 8, 16, 32)), ("tiny-teacher", (1, 2, 4, 8, 16, 32))])
def test_ode_steps_approach_the_result_of_64(name, counts, eye):
    """One step and two of the student are both its mean, as far away: it makes detail below t = 0.3."""
    up = Upscaler.load(name, "cpu")

    def run(steps):
        return up(eye, FlowODE(timesteps.uniform(steps)), seed=3).array

    converged = run(64)
    distances = [rms(run(steps), converged) for steps in counts]
    for fewer, more in pairwise(distances):
        assert more < 0.9 * fewer


def test_higher_order_gets_nearer_with_as_many_calls(tiny, eye):
    converged = tiny(eye, "rk4@uniform:32", seed=3).array
    euler, second = (rms(tiny(eye, f"{name}@uniform:16", seed=3).array, converged) for name in ("flow-ode", "dpmpp-2m"))
    assert second < euler


def test_steps_eta_and_noise_have_effects(tiny, cat):
    results = [tiny(cat, FlowSDE(timesteps.subset(timesteps.pid(), n)), seed=1).array for n in (1, 2, 4)]
    results += [tiny(cat, FlowODE(timesteps.pid()), seed=1).array]
    for k, one in enumerate(results):
        for other in results[:k]:
            assert rms(one, other) > 0.3


def test_degrade_sigma_invents_more(tiny, quality, cat):
    results = [tiny(cat, degrade_sigma=sigma, seed=1).array for sigma in (0.0, 0.2, 0.4)]
    again = [quality.fidelity(cat, result)["again"] for result in results]
    assert again[0] > again[1] + 3 > again[2] + 6


def test_x0_uses_x_and_t(tiny, cat):
    """The network is a flow model: what it takes the clean image to be depends on x, t and sigma."""
    latent = tiny.model.encode(to_tensor(cat, size=(64, 64), backend=NumpyBackend()))
    rng = np.random.default_rng(0)
    x = rng.normal(size=(1, 3, 256, 256)).astype(np.float32)

    def x0(x, t, sigma=0.0):
        out = np.empty_like(x)
        tiny.model.denoiser(latent, sigma).predict(x, t, out)
        return x - t * out

    mean = x0(x, 1.0)
    state = 0.9 * mean + 0.1 * x
    for other in (x0(state, 0.1), x0(x, 1.0, 0.3)):
        assert np.sqrt(np.mean((other - mean) ** 2)) > 0.005
    assert np.sqrt(np.mean((x0(state, 0.1) - x0(0.9 * mean - 0.1 * x, 0.1)) ** 2)) > 0.01


def test_the_folder(tiny):
    folder = tiny.model.path
    assert sum(path.stat().st_size for path in folder.iterdir()) <= 8_000_000
    manifest = json.loads((folder / "pidsampler.json").read_text())
    assert manifest["timesteps"] == timesteps.pid().tolist()
    for name in ("vae_encoder.onnx", "pid_upscaler.onnx"):
        model = onnx.load(folder / name)
        assert {node.domain for node in model.graph.node} == {""}
        assert [(opset.domain, opset.version) for opset in model.opset_import] == [("", 18)]
    weights = [w for w in model.graph.initializer if len(w.dims) == 4 and w.dims[1] > 1]
    assert len(weights) > 10
    assert all(w.data_type == onnx.TensorProto.FLOAT16 for w in weights)
    card = (folder / "MODEL_CARD.md").read_text()
    assert "| mean | `flow-sde` |" in card
