"""How a result is finished: colours, size and specks, from the command line to the record."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
from models import write_model
from paths import REPOSITORY
from PIL import Image

from pidsampler import PidSamplerError, Upscaler
from pidsampler.cli import main
from pidsampler.image import color
from pidsampler.image.size import Size
from pidsampler.io.records import find_record
from pidsampler.upscale.finish import Finish

CHAMELEON = REPOSITORY / "examples" / "chameleon.jpg"


@pytest.fixture(scope="module")
def photo():
    with Image.open(CHAMELEON) as image:
        return np.asarray(image.convert("RGB").resize((70, 52)))


@pytest.fixture(scope="module")
def gaussian():
    return Upscaler.load("gaussian", "cpu")


@pytest.fixture(scope="module")
def plain(gaussian, photo):
    return gaussian(photo, seed=2)


@pytest.fixture
def here(tmp_path, monkeypatch, photo):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo).save("in.png")


def by_pillow(array, width, height):
    planes = [
        Image.fromarray(array[..., c].astype(np.float32)).resize((width, height), Image.Resampling.LANCZOS)
        for c in range(3)
    ]
    return np.rint(np.clip(np.stack(planes, axis=2), 0, 255))


def test_another_size_is_a_reduction_of_the_same_result(gaussian, photo, plain):
    for size, expected in (
        (Size(scale=2), (104, 140)),
        (Size(width=100), (74, 100)),
        (Size(width=100, height=50, fit=True), (50, 67)),
    ):
        found = gaussian(photo, seed=2, finish=Finish(size=size))
        assert found.array.shape == (*expected, 3)
        assert np.abs(found.array - by_pillow(plain.array, expected[1], expected[0])).max() <= 1
        assert found.record["output"] == {"width": expected[1], "height": expected[0]}
        assert found.record["finish"]["size"] == str(size)
    with pytest.warns(UserWarning, match=r"size 99x20 changes the shape of a picture of 280x208") as said:
        assert gaussian(photo, finish=Finish(size=Size(width=99, height=20))).array.shape == (20, 99, 3)
    assert len(said) == 1
    with pytest.raises(PidSamplerError, match="scale 5 is above 4"):
        gaussian(photo, finish=Finish(size=Size(scale=5)))


def test_alpha_gets_the_size_too(gaussian, photo):
    alpha = np.dstack([photo, np.full(photo.shape[:2], 200, np.uint8)])
    found = gaussian(alpha, finish=Finish(size=Size(scale=1)))
    assert found.array.shape == (*photo.shape[:2], 4)
    assert (found.array[..., 3] == 200).all()


@pytest.fixture(scope="module")
def drifting(tmp_path_factory):
    """A model whose result is lighter than its input by 0.2 of -1..1, and says so."""
    return write_model(tmp_path_factory.mktemp("m"), add=0.2, manifest={"drifts": True})


def test_a_model_that_drifts_is_corrected(drifting, photo):
    up = Upscaler.load(drifting, "cpu")
    found, off = up(photo), up(photo, finish=Finish(color="off"))
    half = up(photo, finish=Finish(color="match", color_strength=0.5))
    assert (found.record["finish"]["color"], off.record["finish"]["color"]) == ("match", "off")
    assert (found.record["finish"]["color_strength"], off.record["finish"]["color_strength"]) == (1.0, None)
    before, after = found.record["drift"]["before"], found.record["drift"]["after"]
    assert before["l"] > 8
    assert max(map(abs, after.values())) < 0.5
    assert off.record["drift"] == {"before": before}
    assert after["l"] < half.record["drift"]["after"]["l"] < before["l"]
    mean = [one.array.mean() for one in (found, half, off)]
    assert mean == sorted(mean)
    assert mean[0] == pytest.approx(photo.mean(), abs=0.5)
    assert up(photo, finish=Finish(color="adain")).record["drift"]["after"]["l"] == pytest.approx(0, abs=0.5)


def test_a_model_that_does_not_is_left_alone(gaussian, photo, plain):
    assert plain.record["finish"] == {"color": "off", "color_strength": None, "size": None, "despeckle": None}
    assert plain.record["drift"].keys() == {"before"}
    assert np.array_equal(gaussian(photo, seed=2, finish=Finish(color="match", color_strength=0.0)).array, plain.array)


def test_a_latent_has_no_colours(gaussian):
    found = gaussian(np.zeros((192, 2, 3), np.float32), finish=Finish(color="match"))
    assert (found.record["finish"]["color"], found.record["drift"]) == ("off", None)


def test_specks_go(gaussian, photo, monkeypatch):
    """The result has one, which a network would have made."""
    from pidsampler.upscale import upscaler

    real = upscaler.sample

    def specked(*arguments, **options):
        x = real(*arguments, **options)
        x[0, :, 100, 120] = 1.0
        return x

    whole = gaussian(photo, seed=2).array
    monkeypatch.setattr(upscaler, "sample", specked)
    with_speck = gaussian(photo, seed=2).array
    without = gaussian(photo, seed=2, finish=Finish(despeckle=16.0))
    assert (with_speck[100, 120] == 255).all()
    assert np.abs(without.array[100, 120].astype(int) - whole[100, 120]).max() < 30
    assert without.record["finish"]["despeckle"] == 16.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"color": "macth"}, "unknown color 'macth': did you mean 'match'"),
        ({"color_strength": 1.5}, "color_strength=1.5 must be a finite number in [0, 1]"),
        ({"despeckle": -1.0}, "despeckle=-1.0 must be a finite number from 0"),
    ],
)
def test_a_wrong_finish(options, message):
    with pytest.raises(PidSamplerError, match=re.escape(message)):
        Finish(**options)


def test_on_the_command_line(here, capsys, drifting):
    command = ["upscale", "in.png", "--model", str(drifting), "--timesteps", "0.5,0", "-o"]
    assert main([*command, "a.png", "--scale", "1.5", "--despeckle"]) == 0
    assert "a.png: 105x78, 1 model call" in capsys.readouterr().out
    record = find_record(Path("a.png"))
    assert record["finish"] == {"color": "match", "color_strength": 1.0, "size": "scale 1.5", "despeckle": 16.0}
    assert main([*command, "b.png", "--color", "off", "--size", "99x99", "--fit", "--despeckle", "9"]) == 0
    record = find_record(Path("b.png"))
    assert record["finish"] == {"color": "off", "color_strength": None, "size": "99x99 fit", "despeckle": 9.0}
    with Image.open("b.png") as image:
        assert image.size == (99, 74)
    for wrong, message in (
        (["--color", "loud"], "unknown color 'loud'"),
        (["--scale", "two"], "--scale two is not a number"),
        (["--fit"], "--fit has nothing to fit into"),
        (["--scale", "2", "--size", "9x"], "exclude each other"),
    ):
        assert main([*command, "c.png", *wrong]) == 2
        assert message in capsys.readouterr().err
    assert main([*command, "c.png", "--size", "9999x"]) == 1
    assert "is above 280x208, what the model makes of this input" in capsys.readouterr().err


def test_a_folder_goes_on_where_the_finish_is_the_same(here, capsys):
    command = ["upscale", "in.png", "-o", "out/", "--model", "gaussian", "--timesteps", "0.5,0"]
    assert main([*command, "--scale", "2"]) == 0
    capsys.readouterr()
    assert main([*command, "--scale", "2"]) == 0
    assert "there already" in capsys.readouterr().out
    assert main([*command, "--scale", "3"]) == 1
    assert "not made from in.png with these settings" in capsys.readouterr().err


def test_the_record_can_be_written(gaussian, photo):
    record = gaussian(photo, finish=Finish("adain", 0.25, size=Size(height=30), despeckle=3.0)).record
    assert json.loads(json.dumps(record)) == record
    assert set(color.METHODS) == {"match", "adain", "off"}
