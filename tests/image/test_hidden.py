import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pidsampler as ps
from pidsampler import PidSamplerError
from pidsampler.image.hidden import spread

RNG = np.random.default_rng(5)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 3])
def test_one_visible_color_goes_everywhere(dtype, channels):
    top = np.iinfo(dtype).max
    color = RNG.integers(0, top, (37, 90, channels), dtype)
    alpha = np.zeros((37, 90), dtype)
    alpha[30:33, 2:5] = RNG.integers(top // 200, top, (3, 3))
    wanted = np.array([3, 200, 77][:channels], dtype) * (top // 255)
    color[alpha > 0] = wanted
    assert np.array_equal(spread(color, alpha), np.broadcast_to(wanted, color.shape))


def test_visible_pixels_stay_and_hidden_ones_take_after_those_near():
    """Between two colors the hidden middle goes from one to the other without a jump."""
    color = np.zeros((32, 64, 3), np.uint8)
    color[:, :20], color[:, 44:] = (200, 40, 10), (20, 60, 240)
    alpha = np.zeros((32, 64), np.uint8)
    alpha[:, :20], alpha[:, 44:] = 255, 128
    alpha[3, 3] = 1
    found = spread(color, alpha).astype(int)
    assert np.array_equal(found[alpha > 0], color[alpha > 0])
    assert np.abs(found[:, 20] - color[0, 0]).max() <= 12
    assert np.abs(found[:, 43] - color[0, -1]).max() <= 24  # the far side is opaque, and this one half
    assert np.abs(np.diff(found[:, 20:44], axis=1)).max() <= 24
    assert (np.diff(found[:, 20:44], axis=1)[..., 0] <= 0).all()


@pytest.mark.parametrize(("alpha", "wanted"), [(255, 100), (85, 50)])
def test_colors_count_by_their_alpha(alpha, wanted):
    """Two visible pixels, as far from each pixel between them: 200 * alpha / (255 + alpha) there, whatever the blur."""
    color, alphas = np.full((16, 16, 1), 77, np.uint8), np.zeros((16, 16), np.uint8)
    color[0, 0], color[15, 15], alphas[0, 0], alphas[15, 15] = 0, 200, 255, alpha
    found = spread(color, alphas)[:, :, 0]
    assert (np.diag(found[:, ::-1]) == wanted).all()
    assert found[0, 1] < found[0, 12] < found[1, 15] <= found[15, 14] > wanted


@given(st.integers(1, 9), st.integers(1, 9), st.integers(0, 2**32 - 1), st.sampled_from([np.uint8, np.uint16]))
def test_hidden_pixels_are_within_the_visible_range(height, width, seed, dtype):
    rng = np.random.default_rng(seed)
    color = rng.integers(0, np.iinfo(dtype).max, (height, width, 3), dtype, endpoint=True)
    alpha = rng.choice(np.array([0, 0, 1, 300, 65535]).astype(dtype), (height, width))
    found = spread(color, alpha)
    hidden = alpha == 0 if dtype == np.uint8 else alpha <= 128
    assert np.array_equal(found[~hidden], color[~hidden])
    if 0 < hidden.sum() < hidden.size:
        for c in range(3):
            seen = color[alpha > 0, c]
            assert seen.min() <= found[hidden, c].min() <= found[hidden, c].max() <= seen.max()


@pytest.mark.parametrize("level", [0, 1, 255])
def test_where_nothing_is_hidden_or_all_the_picture_stays(level):
    color = RNG.integers(0, 255, (5, 6, 3), np.uint8)
    assert spread(color, np.full((5, 6), level, np.uint8)) is color


@pytest.mark.parametrize(
    ("color", "alpha", "message"),
    [
        (np.zeros((4, 4), np.uint8), np.zeros((4, 4), np.uint8), r"color has shape \(4, 4\)"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 5), np.uint8), r"alpha \(4, 5\)"),
        (np.zeros((4, 4, 3), np.uint8), np.zeros((4, 4), np.uint16), "color is uint8, alpha uint16"),
        (np.zeros((4, 4, 3)), np.zeros((4, 4)), "color is float64"),
    ],
)
def test_refuses(color, alpha, message):
    with pytest.raises(PidSamplerError, match=message):
        spread(color, alpha)


@pytest.mark.parametrize("hidden", [0, 255])
def test_nothing_of_the_hidden_color_is_seen_at_the_edge_of_a_disc(hidden):
    """Over a ground of its own color the result of a disc is that color; hidden black or white was 76 levels off."""
    color = np.array([220, 30, 40])
    y, x = np.mgrid[:40, :40]
    rgba = np.full((40, 40, 4), hidden, np.uint8)
    rgba[..., 3] = np.clip((14.5 - np.hypot(y - 19.5, x - 19.5)) * 255, 0, 255)
    rgba[rgba[..., 3] > 0, :3] = color
    result = ps.Upscaler.load("tiny", "cpu")(rgba, seed=1).array.astype(float)
    alpha = result[..., 3:] / 255
    assert {0.0, 1.0} <= set(alpha.ravel())
    assert np.abs(result[..., :3] * alpha + color * (1 - alpha) - color).max() <= 3
