"""PyTorch's noise and the picture of a tensor, compiled: numpy's bits, in each form that this processor runs.

Tried mutations, each of which fails here. Noise: the second loop of the twist one shorter, a product and a sum apart,
the last 16 not filled again, a word skipped. Pictures: one row less around a tile, 0 outside, the fourth run left out,
the brim's corners left out, below and above swapped, rounding half up, planes in another order.
"""

import numpy as np
import pytest

from pidsampler import PidSamplerError, native
from pidsampler import threads as pool
from pidsampler.image.pixels import to_image
from pidsampler.noise import torch


@pytest.fixture(name="by_numpy")
def _by_numpy(form, monkeypatch):
    """Calls a function without the library, for the form's results to be compared with."""

    def call(work, *arguments, **named):
        with monkeypatch.context() as patch:
            patch.setattr(native, "built", lambda: None)
            return work(*arguments, **named)

    return call


@pytest.mark.parametrize(
    ("seed", "draw", "shape"),
    [
        (0, 0, (3, 333, 101)),
        (2**32 + 5, 2, (16,)),
        (7, 3, (17,)),
        (1, 4, (31,)),
        (2**64 - 1, 1, (624, 2)),
        (9, 5, (3, 7, 5)),
        (3, 1000, (1248,)),
    ],
)
def test_noise_of_pytorch(form, by_numpy, seed, draw, shape):
    """Sizes that 16, and the generator's 624 words, divide or not; draws that begin anywhere in those."""
    found = torch.normal(seed, draw, shape)
    assert found.tobytes() == by_numpy(torch.normal, seed, draw, shape).tobytes()


def picture(height, width, kind, padded=(2, 5)):
    """A tensor with NaN and infinity around its picture."""
    rng = np.random.default_rng(height * width)
    x = rng.normal(size=(1, 3, height + padded[0], width + padded[1])).astype(np.float32)
    if kind == "lines":
        x = np.cumsum(x, axis=3) * np.float32(0.05)
    elif kind == "levels":  # many equal ones, and some half way between two of 255
        x = np.rint(x * 64) / np.float32(127.5)
    x[:, :, height:], x[:, :, :, width:] = np.nan, np.inf
    return x


@pytest.mark.parametrize("despeckle", [None, 0.0, 16.0, 300.0])
@pytest.mark.parametrize("kind", ["noise", "lines", "levels"])
def test_pictures(form, by_numpy, despeckle, kind):
    """As wide and high as a brim, a tile and more; with a margin or without."""
    for height, width in ((1, 1), (1, 9), (9, 1), (7, 7), (8, 5), (33, 257), (70, 300)):
        for padded in ((0, 0), (2, 5)):
            x = picture(height, width, kind, padded)
            arguments = {"size": (height, width), "despeckle": despeckle, "backend": "numpy"}
            assert np.array_equal(to_image(x, **arguments), by_numpy(to_image, x, **arguments)), (height, width)


def test_threads_do_not_matter(form, by_numpy, monkeypatch):
    monkeypatch.setattr(pool, "count_cores", lambda: 4)
    x = picture(500, 60, "noise")
    for despeckle in (None, 16.0):
        arguments = {"size": (500, 60), "despeckle": despeckle, "backend": "numpy"}
        assert np.array_equal(to_image(x, **arguments), by_numpy(to_image, x, **arguments))


@pytest.mark.parametrize("despeckle", [None, 16.0])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_is_refused(form, despeckle, value):
    for place in ((0, 0, 0), (1, 99, 310), (2, 31, 256)):
        x = np.zeros((1, 3, 100, 311), np.float32)
        x[(0, *place)] = value
        with pytest.raises(PidSamplerError, match="holds NaN or infinity"):
            to_image(x, size=(100, 311), despeckle=despeckle, backend="numpy")


@pytest.mark.parametrize("despeckle", [None, 16.0, 1e300])
def test_tensors_of_other_kinds(form, by_numpy, despeckle):
    """Other types and layouts than the library's are numpy's."""
    x = picture(40, 50, "levels", padded=(0, 0))
    arguments = {"size": (40, 50), "despeckle": despeckle, "backend": "numpy"}
    expected = by_numpy(to_image, x, **arguments)
    strided = np.repeat(x, 2, axis=3)[:, :, :, ::2]
    upside_down = np.ascontiguousarray(x[:, ::-1, ::-1])[:, ::-1, ::-1]
    packed = np.empty((1, 3, 40), np.dtype({"names": ["row"], "formats": ["50f4"], "itemsize": 203}))["row"]
    packed[...] = x
    for other in (strided, np.asfortranarray(x), upside_down, packed):
        assert np.array_equal(to_image(other, **arguments), expected)
    for dtype in (np.float16, np.float64):
        wide = x.astype(dtype)
        assert np.array_equal(to_image(wide, **arguments), by_numpy(to_image, wide, **arguments))
