"""The part of a picture with the most detail."""

from pathlib import Path

import numpy as np
import pytest

from pidsampler import PidSamplerError
from pidsampler.search.problem import Problem
from pidsampler.study.pictures import most_detailed
from pidsampler.upscale.source import Source

WHERE = Path("a.png")


def _picture(height=40, width=48):
    return np.full((height, width, 3), 100, np.uint8)


@pytest.mark.parametrize(
    ("place", "expected"),
    [((17, 10), (16, 8)), ((0, 0), (0, 0)), ((44, 37), (40, 32))],  # begins at quarters of 8
)
def test_where_pixels_differ(place, expected):
    picture = _picture()
    x, y = place
    picture[y : y + 3 : 2, x : x + 3] = 200
    source, found = most_detailed(Source.of(picture), 8, path=WHERE)
    x, y = found
    assert (source.rgb == picture[y : y + 8, x : x + 8]).all()
    assert abs(x - expected[0]) <= 6
    assert abs(y - expected[1]) <= 6
    assert source.rgb.max() == 200
    (rows, columns), (all_rows, all_columns) = (np.nonzero(a[:, :, 0] == 200) for a in (source.rgb, picture))
    assert (len(rows), len(columns)) == (len(all_rows), len(all_columns))  # all of it is inside


def test_the_first_of_several_and_sixteen_bits():
    assert most_detailed(Source.of(_picture()), 16, path=WHERE)[1] == (0, 0)
    picture = _picture().astype(np.uint16) * 257
    picture[20:22, 30] = 65535
    source, (x, y) = most_detailed(Source.of(picture), 7, path=WHERE)  # a quarter is 1 pixel
    assert source.rgb.shape == (7, 7, 3)
    assert 23 < x <= 29
    assert 14 < y <= 19


def test_all_of_a_picture_of_that_size():
    source, place = most_detailed(Source.of(_picture(9, 9)), 9, path=WHERE)
    assert (source.rgb.shape, place) == ((9, 9, 3), (0, 0))


def test_it_refuses():
    with pytest.raises(PidSamplerError, match=r"a\.png is less than 41 pixels wide or high: pass a smaller crop"):
        most_detailed(Source.of(_picture()), 41, path=WHERE)
    with pytest.raises(PidSamplerError, match=r"a\.png is a latent: only a picture can be cropped"):
        most_detailed(Source.of(np.zeros((16, 8, 8), np.float32)), 4, path=WHERE)


def test_a_problem_of_crops(repository):
    path = repository / "examples" / "road.jpg"
    whole = Problem.of_model("gaussian", [path], device="cpu").subjects[0]
    (subject,) = Problem.of_model("gaussian", [path], device="cpu", crop=8).subjects
    assert subject.shape == (1, 3, 32, 32)
    assert subject.sha256 == whole.sha256
    x, y, side = subject.crop
    assert side == 8
    assert (subject.seen.input == whole.seen.input[y : y + 8, x : x + 8]).all()
    (subject,) = Problem.of_model("gaussian", [path], device="cpu", crop=8, reduce=True).subjects
    assert (subject.shape, subject.crop[2]) == ((1, 3, 32, 32), 32)
    for crop in (3, 4097, 8.5):
        with pytest.raises(PidSamplerError, match="crop"):
            Problem.of_model("gaussian", [path], device="cpu", crop=crop)
