"""Lists of other projects: numbers that their public code gives, written out, and what holds at every length."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy.special import betainc, ndtr

from pidsampler import PidSamplerError, get_scheduler, timesteps

# RES4LYF, bong_tangent_scheduler(None, n).
BONG = {
    2: [1.0, 0.5, 0.0],
    3: [1.0, 0.861992645089, 0.5, 0.0],
    5: [1.0, 0.932035576216, 0.804306272729, 0.5, 0.132261434613, 0.0],
    8: [1.0, 0.971343878173, 0.929422957868, 0.86288786684, 0.744299707153, 0.5, 0.213121617935, 0.069646033306, 0.0],
}
# NVIDIA's howto: noise levels of "Align your steps" for 10 steps, rounded there; the last one becomes 0.
AYS = {
    "sd1": [14.615, 6.475, 3.861, 2.697, 1.886, 1.396, 0.963, 0.652, 0.399, 0.152],
    "sdxl": [14.615, 6.315, 3.771, 2.181, 1.342, 0.862, 0.555, 0.380, 0.234, 0.113],
    "svd": [700.00, 54.5, 15.886, 7.977, 4.248, 1.789, 0.981, 0.403, 0.173, 0.034],
}
# ComfyUI, AlignYourStepsScheduler of 5 steps, and stable-diffusion.cpp's GITS lists with their last level.
AYS_5 = [14.6146412293, 3.8636745985, 1.8841921177, 0.9642583904, 0.3977456272]
GITS = {
    2: [14.61464119, 0.803307],
    5: [14.61464119, 2.84484982, 1.24153244, 0.59516323, 0.25053367],
    8: [14.61464119, 5.85520077, 2.45070267, 1.36964464, 0.803307, 0.45573691, 0.25053367, 0.09824532],
    13: [
        *(14.61464119, 6.77309084, 3.46139455, 2.36326075, 1.56271636, 1.08895338, 0.803307, 0.59516323, 0.45573691),
        *(0.34370604, 0.25053367, 0.17026083, 0.09824532),
    ],
}


def levels(times):
    """Sigma of each time but the last."""
    return times[:-1] / (1 - times[:-1])


@pytest.mark.parametrize("steps", BONG)
def test_bong_tangent(steps):
    assert timesteps.bong_tangent(steps) == pytest.approx(BONG[steps], abs=1e-11)


@pytest.mark.parametrize("model", AYS)
def test_align_your_steps(model):
    times = timesteps.ays(10, model)
    assert levels(times) == pytest.approx(AYS[model], rel=0.015)  # "sdxl" has 0.1114 unrounded, and 0.113 there
    assert levels(timesteps.ays(10, model, shift=2.0)) == pytest.approx(2 * levels(times))
    assert timesteps.ays(1, model).tolist() == [times[0], 0.0]


def test_align_your_steps_of_other_lengths():
    assert levels(timesteps.ays(5)) == pytest.approx(AYS_5, rel=1e-9)
    longer = levels(timesteps.ays(20))
    assert longer[::2] == pytest.approx(levels(timesteps.ays(10)), rel=1e-9)
    assert np.log(longer[1:-2:2]) == pytest.approx((np.log(longer[:-3:2]) + np.log(longer[2::2])) / 2, rel=1e-9)


@pytest.mark.parametrize("steps", GITS)
def test_gits(steps):
    assert levels(timesteps.gits(steps)) == pytest.approx(GITS[steps], rel=2e-5)


def test_gits_beyond_its_tables():
    """stable-diffusion.cpp's log-linear interpolation of its list of 20 steps, to 25."""
    found = levels(timesteps.gits(25))
    expected = [14.61464119, 8.561381485, 5.630276071, 3.942295272, 2.874121648]
    assert found[:5] == pytest.approx(expected, rel=2e-5)
    assert found[-2:] == pytest.approx([0.120421299, 0.0770600751], rel=2e-5)


@pytest.mark.parametrize(
    ("tokens", "steps", "mu"),
    [
        (4096, 4, 2.291179894115571),
        (4096, 50, 2.0233511571292637),
        (1024, 28, 1.8591765771805644),
        (4300, 8, 2.2855403070602103),
        (4301, 8, 1.18469693),
        (16384, 8, 3.22998634),
    ],
)
def test_flux2_as_diffusers_has_it(tokens, steps, mu):
    assert timesteps.flux2_mu(tokens, steps) == pytest.approx(mu, rel=1e-14)
    expected = [1.0, *(1 / (1 + math.exp(-mu) * (steps / (steps - k) - 1)) for k in range(1, steps)), 0.0]
    assert timesteps.flux2(steps, tokens) == pytest.approx(expected, rel=1e-12)


def test_lcm_as_diffusers_has_it():
    assert (timesteps.lcm(4)[:-1] * 1000 - 1).tolist() == pytest.approx([999, 759, 499, 259])
    assert (timesteps.lcm(7)[:-1] * 1000 - 1).tolist() == pytest.approx([999, 859, 719, 579, 439, 299, 159])
    assert (timesteps.lcm(6, 30)[:-1] * 1000 - 1).tolist() == pytest.approx([989, 824, 659, 494, 329, 164])
    assert timesteps.lcm(3, shift=3.0) == pytest.approx(timesteps.shift(timesteps.lcm(3), 3.0))
    with pytest.raises(PidSamplerError, match=r"steps=31 must be a whole number in 1\.\.30"):
        timesteps.lcm(31, 30)


def test_logit_normal_as_ideogram_has_it():
    expected = [0.9998766054240138, 0.8134882372155796, 0.6090587477974415, 0.3909412522025588, 0.1865117627844204, 0]
    assert timesteps.logit_normal(5, std=1.75) == pytest.approx(expected, rel=1e-12)
    expected = [0.9998766054240138, 0.7927564262842921, 0.6799075783813886, 0.561352494009898, 0.41541571387847964, 0]
    assert timesteps.logit_normal(5, 0.5) == pytest.approx(expected, rel=1e-12)


@given(st.integers(2, 400), st.floats(-3, 3), st.floats(0.2, 2))
def test_logit_normal_holds_equal_shares(steps, mu, std):
    times = timesteps.logit_normal(steps, mu, std=std, t_max=1.0)[1:-1]
    below = ndtr((np.log(times / (1 - times)) - mu) / std)
    assert below == pytest.approx(1 - np.arange(1, steps) / steps, abs=1e-9)


@given(st.integers(1, 300), st.floats(0.2, 10))
def test_normal_is_sgm_uniform_with_its_last_time(steps, shift):
    """ComfyUI makes both from linspace(1, smallest), of one more time for sgm and without the last then."""
    smallest = float(timesteps.shift([0.001, 0.0], shift)[0])
    times = timesteps.normal(steps, shift)
    before = [1 + k / max(steps - 1, 1) * (smallest - 1) for k in range(steps)]
    assert times[:-1] == pytest.approx([shift * t / (1 + (shift - 1) * t) for t in before], rel=1e-9)
    if steps > 1:
        assert times[:-2] == pytest.approx(timesteps.sgm_uniform(steps - 1, shift)[:-1], rel=1e-12)


def test_beta57_as_res4lyf_has_it():
    assert (timesteps.beta57(8)[:-1] * 1000 - 1).tolist() == pytest.approx([999, 889, 719, 535, 361, 211, 96, 24])
    at = (timesteps.beta57(50)[:-1] * 1000 - 1) / 999
    assert betainc(0.5, 0.7, at) == pytest.approx(1 - np.arange(50) / 50, abs=0.012)  # half a time of 999


def test_smoothstep_to_the_nearest_of_its_times():
    times = timesteps.smoothstep(20)
    down = np.arange(20) / 20  # 1 - u
    assert 1000 * times[:-1] - 1 == pytest.approx(999 * (1 - down**2 * (3 - 2 * down)), abs=0.5)
    assert timesteps.smoothstep(10).tolist()[:3] == [1.0, 0.972, 0.896]
    assert timesteps.smoothstep(20, 3.0) == pytest.approx(timesteps.shift(times, 3.0))
    assert [len(timesteps.smoothstep(n)) - n - 1 for n in (77, 78)] == [0, -1]


@pytest.mark.parametrize("name", ["bong_tangent", "ays", "gits", "logit_normal", "flux2"])
@given(steps=st.integers(1, 3000))
def test_continuous_lists_have_the_steps_asked_for(name, steps):
    times = getattr(timesteps, name)(steps)
    assert timesteps.custom(times).tolist() == times.tolist()
    assert len(times) == steps + 1


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: timesteps.ays(4, "sd2"), "unknown model 'sd2': did you mean 'svd' or 'sd1'"),
        (lambda: timesteps.gits(4, 0), "shift=0 must be a finite number above 0"),
        (lambda: timesteps.flux2(4, 0), r"tokens=0 must be a whole number in 1\.\."),
        (lambda: timesteps.flux2(10_001), r"steps=10001 must be a whole number in 1\.\.10000"),
        (lambda: timesteps.logit_normal(4, std=0), "std=0 must be a finite number above 0"),
        (lambda: timesteps.logit_normal(4, 700), "must strictly descend"),
        (lambda: timesteps.logit_normal(4, -700.0, std=1e9), "must strictly descend"),
        (lambda: timesteps.lcm(4, 1001), r"original_steps=1001 must be a whole number in 1\.\.1000"),
        (lambda: timesteps.smoothstep(1001), r"steps=1001 must be a whole number in 1\.\.1000"),
        (lambda: timesteps.bong_tangent(0), "steps=0 must be a whole number of at least 1"),
    ],
)
def test_lists_refuse(make, message):
    with pytest.raises(PidSamplerError, match=message):
        make()


def test_they_are_known_in_a_spec():
    made = get_scheduler("heun@ays(model=sdxl,shift=2):8")
    assert made.timesteps.tolist() == timesteps.ays(8, "sdxl", shift=2).tolist()
    assert str(made) == "heun@ays(model=sdxl,shift=2):8"
