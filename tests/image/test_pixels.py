"""What operations on pictures refuse, and how they could be called in 0.1; what they do is in the tests beside this."""

import numpy as np
import pytest

from pidsampler import PidSamplerError
from pidsampler.image import color, lanczos, pixels
from pidsampler.image.blocks import Blocks

PICTURE = np.zeros((4, 5, 3), np.uint8)
X = np.zeros((1, 3, 8, 8), np.float32)


@pytest.mark.parametrize("size", [None, "x", 8, (8,), (8, 8, 8), (8, 1.5), (8, True), ("8", 8), b"88"])
def test_a_size_is_two_whole_numbers(size):
    for call in (
        lambda: pixels.to_tensor(PICTURE, size=size, backend="numpy"),
        lambda: pixels.to_image(X, size=size, backend="numpy"),
        lambda: lanczos.reduce(X, size=size, new_size=(2, 2), backend="numpy"),
        lambda: lanczos.reduce(X, size=(8, 8), new_size=size, backend="numpy"),
    ):
        with pytest.raises(PidSamplerError, match=r"size.*(must be \(height, width\)|must be a whole number)"):
            call()


@pytest.mark.parametrize("picture", [None, "x", PICTURE[:, :, 0], PICTURE[:, :, :2], PICTURE / 2, PICTURE[:0]])
def test_a_picture_is_rgb_of_whole_numbers(picture):
    with pytest.raises(PidSamplerError, match=r"the picture is .* expected uint8 or uint16 \(h, w, 3\)"):
        pixels.to_tensor(picture, size=(8, 8), backend="numpy")


def test_a_picture_fits():
    with pytest.raises(PidSamplerError, match="a picture of 5x4 is larger than size 5x3"):
        pixels.to_tensor(PICTURE, size=(3, 5), backend="numpy")
    with pytest.raises(PidSamplerError, match=r"a tensor of shape \(1, 3, 8, 8\) holds no picture of 8x9"):
        pixels.to_image(X, size=(9, 8), backend="numpy")


@pytest.mark.parametrize("backend", [None, "nunpy", 1])
def test_a_backend_is_one(backend):
    with pytest.raises(PidSamplerError, match="backend"):
        pixels.to_image(X, size=(8, 8), backend=backend)


@pytest.mark.parametrize("despeckle", ["x", True, -1, np.nan])
def test_a_threshold_is_a_number(despeckle):
    with pytest.raises(PidSamplerError, match=r"despeckle=.* is not a number of levels"):
        pixels.to_image(X, size=(8, 8), despeckle=despeckle, backend="numpy")


def test_what_0_1_could_do():
    small = PICTURE[:2, :2]
    with pytest.warns(DeprecationWarning, match="pass scale, method, strength, backend of match by keyword"):
        found = color.match(X, small, 4, "off", 1.0, "numpy")
    assert found == color.match(X, small, scale=4, method="off", strength=1.0, backend="numpy")
    with pytest.warns(DeprecationWarning, match="pass scale, rows, columns of Blocks by keyword"):
        assert Blocks(4, 5, 2, 1, 1) == Blocks(4, 5, scale=2, rows=1, columns=1)
    with pytest.raises(PidSamplerError, match="rows=0 must be a whole number of at least 1"):
        Blocks(4, 5, scale=2, rows=0, columns=1)
