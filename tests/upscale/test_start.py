"""Beginning from the enlarged picture at a noise level, as SDEdit."""

import json

import numpy as np
import pytest
from PIL import Image

from pidsampler import FlowODE, FlowSDE, PidSamplerError, Tiling, Upscaler, noise, start, timesteps
from pidsampler.cli.main import main
from pidsampler.image.enlarge import enlarge
from pidsampler.io.records import find_record

RGB = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)


@pytest.fixture(scope="module", name="up")
def _up():
    return Upscaler.load("gaussian", "cpu")


def first_x(up, **options):
    """Return x as the first row sees it, with the result."""
    seen = []
    result = up(RGB, on_step=lambda run, m: seen.append(run.x.copy()), **options)
    return seen[0], result


def bicubic(rgb):
    size = (4 * rgb.shape[1], 4 * rgb.shape[0])
    planes = [
        Image.fromarray(rgb[:, :, c] * np.float32(2 / 255) - 1).resize(size, Image.Resampling.BICUBIC) for c in range(3)
    ]
    return np.stack([np.asarray(plane) for plane in planes])[None]


@pytest.mark.parametrize("kind", ["independent", "fixed", "brownian", "torch", noise.normal])
def test_x_is_the_enlarged_picture_with_noise(up, kind):
    x, result = first_x(up, start=0.6, seed=5, noise=kind)
    drawn = (noise.torch.normal if kind == "torch" else noise.normal)(5, 0, (3, 64, 96))
    assert x == pytest.approx(0.4 * bicubic(RGB) + 0.6 * drawn[None], abs=2e-6)
    assert result.array.shape == (64, 96, 3)


def test_times_above_the_start_are_left_out(up):
    assert up(RGB, start=0.6).record["timesteps"] == [0.6, 0.342, 0.0]
    assert up(RGB, start=0.634).record["timesteps"] == [0.634, 0.342, 0.0]
    assert up(RGB, "heun@uniform:4", start=0.6).record["timesteps"] == [0.6, 0.5, 0.25, 0.0]
    assert up(RGB, "heun.detail@uniform:4", start=0.6).record["scheduler"] == "Heun([0.6, 0.5, 0.25, 0.0]).detail"
    assert up(RGB, FlowSDE, start=0.6).record["timesteps"] == [0.6, 0.342, 0.0]
    whole = up(RGB, FlowODE([0.6, 0.1, 0.0]), start=0.6).record
    assert whole["timesteps"] == [0.6, 0.1, 0.0]
    assert whole["start"] == 0.6
    assert up(RGB).record["start"] is None


def test_a_low_start_keeps_the_picture(up):
    """At t = 0.001 there is next to nothing to take away: the result is the enlarged input within 2 levels."""
    near = up(RGB, start=0.001).array
    assert np.abs(near - np.clip(bicubic(RGB)[0].transpose(1, 2, 0) * 127.5 + 127.5, 0, 255)).max() < 3
    assert np.abs(up(RGB, start=0.9).array.astype(int) - near).max() > 10


def test_in_tiles_x_is_the_same(up):
    large = np.tile(RGB, (10, 6, 1))
    seen = []
    for tiling in (Tiling("off"), Tiling(256, overlap=64)):
        up.with_tiling(tiling)(large, start=0.5, on_step=lambda run, m: seen.append(run.x.copy()), sampler=FlowODE)
    assert (seen[0] == seen[2]).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"start": 0}, r"start=0 must be a finite number in \(0, 1\]"),
        ({"start": "x"}, "start='x' must be a finite number"),
        ({"start": 1.0}, "start=1.0 is above 0.999, where the timesteps begin"),
        ({"start": 0.6, "sampler": FlowODE([0.9, 0.5, 0.0])}, "FlowODE.* begins at the noise level 0.9, not at 0.6"),
        ({"start": 0.6, "sampler": FlowODE([0.9, 0.0]).table()}, "StepTable begins at the noise level 0.9"),
    ],
)
def test_a_wrong_start(up, options, message):
    with pytest.raises(PidSamplerError, match=message):
        up(RGB, **options)


def test_a_latent_is_no_picture(up):
    with pytest.raises(PidSamplerError, match=r"start=0\.6 begins from the enlarged picture, and a latent has none"):
        up(np.full((1, up.model.contract.latent_channels, 2, 2), -1, np.float32), start=0.6)


def test_begin_keeps_what_is_below():
    assert timesteps.begin([0.9, 0.5, 0.2], 0.4).tolist() == [0.4, 0.2]
    with pytest.raises(PidSamplerError, match=r"start=0\.2 is not above 0\.2, where the timesteps end"):
        timesteps.begin([0.9, 0.5, 0.2], 0.2)


def test_noise_is_added_in_a_loop_of_ones_own():
    image = np.ones((2, 3, 4, 4), np.float32)
    run = start(FlowODE([0.25, 0.0]), image, seed=[3, 9])
    run.add_noise()
    assert run.x[1] == pytest.approx(0.75 + 0.25 * noise.normal(9, 0, (3, 4, 4)), abs=1e-6)


def test_what_cannot_be_enlarged_is_refused():
    with pytest.raises(PidSamplerError, match="x is float64 of shape"):
        enlarge(np.zeros((1, 3, 4, 4)), 2)


def test_the_command_line_begins_there_too(tmp_path, capsys):
    for name in ("a.png", "b.png"):
        Image.fromarray(RGB).save(tmp_path / name)
    words = ["upscale", str(tmp_path), "-o", str(tmp_path / "out"), "--model", "gaussian", "--quiet"]
    assert main([*words, "--start", "0.6"]) == 0
    record = find_record(tmp_path / "out" / "a.png")
    assert (record["start"], record["timesteps"]) == (0.6, [0.6, 0.342, 0.0])
    assert json.loads(json.dumps(record)) == record
    assert main([*words, "--start", "0.6"]) == 0  # goes on where it was
    assert main([*words, "--start", "0.5"]) == 1
    assert "not made from" in capsys.readouterr().err
    assert main([*words, "--start", "1"]) == 2
    assert "--start 1.0 is above 0.999" in capsys.readouterr().err
