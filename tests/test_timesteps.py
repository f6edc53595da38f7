import math
import sys

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from lists import valid_lists

from pidsampler import PidSamplerError, timesteps
from pidsampler.schedulers.registry import LISTS, get_timesteps


@pytest.mark.parametrize(
    ("steps", "expected"),
    [
        (4, [0.999, 0.866, 0.634, 0.342, 0.0]),
        (3, [0.999, 0.866, 0.342, 0.0]),
        (2, [0.999, 0.634, 0.0]),
        (1, [0.999, 0.0]),
    ],
)
def test_pid_is_the_published_list_and_its_rule(steps, expected):
    assert timesteps.pid(steps).tolist() == expected


def test_pid_defaults_to_four_steps():
    times = timesteps.pid()
    assert times.dtype == np.float64
    assert times.tolist() == [0.999, 0.866, 0.634, 0.342, 0.0]


@pytest.mark.parametrize("steps", [-1, 0, 5, 100])
def test_pid_refuses_what_the_rule_cannot_give(steps):
    with pytest.raises(PidSamplerError, match=rf"steps={steps} .*explicit list"):
        timesteps.pid(steps)


def test_uniform():
    assert timesteps.uniform(4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    with pytest.raises(PidSamplerError, match="steps=0 must be a whole number of at least 1"):
        timesteps.uniform(0)


@given(valid_lists)
def test_custom_keeps_every_bit(times):
    kept = timesteps.custom(times)
    assert kept.dtype == np.float64
    assert [t.hex() for t in kept.tolist()] == [t.hex() for t in times]


def test_custom_returns_a_copy():
    mine = np.array([0.9, 0.5, 0.0])
    timesteps.custom(mine)[0] = 0.1
    assert mine[0] == 0.9


def test_partial_may_end_above_zero():
    assert timesteps.custom([0.9, 0.5], partial=True).tolist() == [0.9, 0.5]
    assert timesteps.custom([0.9, 0.0], partial=True).tolist() == [0.9, 0.0]


@pytest.mark.parametrize(
    ("times", "message"),
    [
        ([0.5, 0.7, 0.0], r"0\.7 at position 1 ascends from 0\.5"),
        ([0.5, 0.5, 0.0], r"0\.5 at position 1 repeats"),
        ([1.5, 0.5, 0.0], r"1\.5 at position 0 is outside 0\.\.1"),
        ([0.5, -0.25, 0.0], r"-0\.25 at position 1 is outside"),
        ([math.nan, 0.0], "nan at position 0 is outside"),
        ([math.inf, 0.0], "inf at position 0 is outside"),
        ([0.9, 0.25], r"end in 0\.25, expected 0.*partial=True"),
        ([0.0], "at least two times"),
        ([], "at least two times"),
        (0.5, "flat list"),
        ([[0.9, 0.0]], "flat list"),
        (["a", "b"], "list of numbers"),
        (None, "flat list"),
    ],
)
def test_custom_names_the_offending_value(times, message):
    with pytest.raises(PidSamplerError, match=message):
        timesteps.custom(times)


@given(valid_lists, st.data())
def test_subset_takes_ends_and_members(times, data):
    steps = data.draw(st.integers(1, len(times) - 1))
    chosen = timesteps.subset(times, steps).tolist()
    assert len(chosen) == steps + 1
    assert (chosen[0], chosen[-1]) == (times[0], times[-1])
    assert timesteps.custom(chosen).tolist() == chosen  # so none repeats
    assert set(chosen) <= set(times)


@pytest.mark.parametrize("name", LISTS)
@settings(max_examples=25)
@given(st.integers(1, 200))
@example(1)
@example(2)
@example(200)
def test_every_list_is_valid_at_every_length(name, steps):
    if name == "pid":
        steps = 1 + steps % 4
    if name == "pid_one_step":
        steps = 1
    if name == "log_snr":
        steps += 1
    if name == "lcm":
        steps = 1 + steps % 50
    times = get_timesteps(name, steps)
    assert times.dtype == np.float64
    assert timesteps.custom(times).tolist() == times.tolist()
    if name == "ddim_uniform":
        assert len(times) == len(range(1, 1000, 1000 // steps)) + 1
    elif name not in ("beta", "beta57", "smoothstep") or steps <= 50:
        assert len(times) == steps + 1
    assert "Source:" in LISTS[name].__doc__ or name == "uniform"
    again = get_timesteps(name, steps)
    again[0] = 0.5
    assert get_timesteps(name, steps)[0] == times[0]  # no state is shared


# Each by its formula, written again and evaluated by other means.
def plain_karras(n, k, rho=7.0):
    return (1.0 + k / (n - 1) * (0.001 ** (1 / rho) - 1.0)) ** rho


FORMULAS = {
    "karras": plain_karras,
    "exponential": lambda n, k: 0.001 ** (k / (n - 1)),
    "polyexponential": lambda n, k: 0.001 ** (k / (n - 1)),
    "kl_optimal": lambda n, k: math.tan(k / (n - 1) * math.atan(0.001) + (1 - k / (n - 1)) * math.atan(1.0)),
    "log_snr": lambda n, k: 1 / (1 + math.exp(math.log(999) * (2 * k / (n - 1) - 1))),
    "cosine": lambda n, k: 1 - 1 / (math.tan(math.pi / 2 * (1 - k / n)) + 1),  # SD3's CosMap
    "shifted": lambda n, k: 3 * (1 - k / n) / (1 + 2 * (1 - k / n)),
    "flux": lambda n, k: math.exp(1.15) / (math.exp(1.15) + 1 / (1 - k / n) - 1),
    "simple": lambda n, k: (1000 - int(k * 1000 / n)) / 1000,
    "sgm_uniform": lambda n, k: 1 + k / n * (0.001 - 1),
}


@pytest.mark.parametrize("name", FORMULAS)
@pytest.mark.parametrize("steps", [2, 5, 12])
def test_lists_by_their_formulas(name, steps):
    times = get_timesteps(name, steps)
    assert times[:-1] == pytest.approx([FORMULAS[name](steps, k) for k in range(steps)], rel=1e-12)
    assert times[-1] == 0.0


def test_linear_quadratic_as_mochi_has_it():
    """The coefficients of their a*i^2 + b*i + c, steps 10, threshold 0.025."""
    n, half, threshold = 10, 5, 0.025
    difference = half - threshold * n
    a = difference / (half * (n - half) ** 2)
    b = threshold / half - 2 * difference / (n - half) ** 2
    c = a * half**2
    below = [i * threshold / half for i in range(half)] + [a * i**2 + b * i + c for i in range(half, n)] + [1.0]
    assert timesteps.linear_quadratic(n) == pytest.approx([1 - y for y in below], abs=1e-12)
    assert timesteps.linear_quadratic(1).tolist() == [1.0, 0.0]


def test_ddim_uniform_as_comfyui_has_it():
    times = timesteps.ddim_uniform(4)
    assert times.tolist() == [0.752, 0.502, 0.252, 0.002, 0.0]


def test_beta_by_its_distribution_function():
    """The share of the distribution below each time is the level it was made for, to the grid's coarseness."""
    times = timesteps.beta(8)
    assert len(times) == 9
    x = np.linspace(0, 1, 2_000_001)[1:-1]
    density = x**-0.4 * (1 - x) ** -0.4
    below = np.cumsum(density) / density.sum()
    levels = 1 - np.arange(8) / 8
    assert np.interp(levels, below, x) == pytest.approx((1000 * times[:-1] - 1) / 999, abs=2e-3)
    assert timesteps.beta(8, shift=3.0) == pytest.approx(timesteps.shift(times, 3.0))
    assert len(timesteps.beta(1000)) < 1001


def test_beta_without_scipy_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    with pytest.raises(PidSamplerError, match=r"scipy is not installed: pip install 'pidsampler\[beta\]'"):
        timesteps.beta(8)


def test_discrete_spacings():
    assert timesteps.discrete(4).tolist() == [1.0, 0.75, 0.5, 0.25, 0.0]
    assert timesteps.discrete(4, "leading").tolist() == [0.751, 0.501, 0.251, 0.001, 0.0]
    assert timesteps.discrete(4, "linspace").tolist() == [1.0, 0.667, 0.334, 0.001, 0.0]
    assert timesteps.discrete(1, "linspace").tolist() == [1.0, 0.0]
    with pytest.raises(PidSamplerError, match="unknown spacing 'trail': did you mean 'trailing'"):
        timesteps.discrete(4, "trail")


@given(valid_lists, st.floats(1e-2, 1e2))
def test_shift_multiplies_the_odds(times, factor):
    shifted = timesteps.shift(times, factor)
    for before, after in zip(times, shifted.tolist(), strict=True):
        if 1e-6 < before < 1 - 1e-6:
            assert after / (1 - after) == pytest.approx(factor * before / (1 - before), rel=1e-6)
        if before in (0.0, 1.0):
            assert after == before


@pytest.mark.parametrize("steps", [1_000_001, 1 << 62, 10**400])
def test_no_list_is_endless(steps):
    for name in LISTS:
        with pytest.raises(PidSamplerError, match="steps="):
            get_timesteps(name, steps)
    with pytest.raises(PidSamplerError, match=r"steps=.* must be a whole number of at most 1000000"):
        timesteps.resample([0.9, 0.5, 0], steps)


def test_resolution_dependent_shifts():
    assert timesteps.flux_mu(256) == 0.5
    assert timesteps.flux_mu(4096) == pytest.approx(1.15)
    assert timesteps.pid_shift(1024, 1024) == 4.0
    assert timesteps.pid_shift(2048, 2048, base=6, size=2048) == 6.0
    # NVIDIA's: base_shift * sqrt(sqrt(H * W) / base_image_size_for_shift_calc), of the area and not the longer side
    assert timesteps.pid_shift(512, 4096) == pytest.approx(4.757, abs=5e-4)
    assert timesteps.pid_shift(4096, 512) == timesteps.pid_shift(512, 4096)
    assert timesteps.pid_shift(2160, 3840, base=6, size=2048) == pytest.approx(7.115, abs=5e-4)
    for sides in ((10**400, 1), (4, 1 << 31), (0, 1)):
        with pytest.raises(PidSamplerError, match=r"must be a whole number in 1\.\.2\^31-1"):
            timesteps.pid_shift(*sides)
    with pytest.raises(PidSamplerError, match=r"size=1000.* must be a whole number in 1\.\.2\^31-1"):
        timesteps.pid_shift(4, 4, size=10**400)
    with pytest.raises(PidSamplerError, match=r"tokens=1000.* must be a whole number"):
        timesteps.flux_mu(10**400)
    assert timesteps.pid_shift(1448, 1448, base=6, size=2048) == 6 * math.sqrt(1448 / 2048)


@pytest.mark.parametrize("steps", [1, 2, 25, 50])
@pytest.mark.parametrize("shift", [0.7, 1.0, 4.0, 6.0, 7.115])
def test_the_teachers_list_is_nvidias(steps, shift):
    """Their formula in float64, bit for bit; and as they compute it, in float32 from 1 - linspace(1, 0.001)."""
    s = np.linspace(0, 0.999, steps + 1)
    times = timesteps.teacher(steps, shift)
    assert times.tolist() == [shift * k / (1 + (shift - 1) * k) for k in s.tolist()][::-1]
    assert times[-1] == 0.0
    theirs = np.float32(1) - np.linspace(1, 0.001, steps + 1, dtype=np.float32)
    theirs = (np.float32(shift) * theirs / (1 + np.float32(shift - 1) * theirs))[::-1]
    assert theirs.dtype == np.float32
    assert np.abs(times - theirs).max() < 2e-7
    assert get_timesteps("teacher", steps, shift=shift).tolist() == times.tolist()


def test_where_the_teachers_list_begins():
    assert timesteps.teacher(25)[0] == pytest.approx(0.99983, abs=5e-6)
    with pytest.raises(PidSamplerError, match="teacher:8"):
        get_timesteps("teacher")
    with pytest.raises(PidSamplerError, match="times must strictly descend"):
        timesteps.teacher(4, 1e300)


def test_one_step_as_published_and_as_nvidias_code_takes_it():
    assert timesteps.pid(1).tolist() == [0.999, 0.0]
    assert timesteps.pid_one_step().tolist() == [1.0, 0.0]
    assert get_timesteps("pid_one_step").tolist() == get_timesteps("pid_one_step", 1).tolist() == [1.0, 0.0]
    with pytest.raises(PidSamplerError, match=r"steps=2 must be a whole number in 1\.\.1"):
        timesteps.pid_one_step(2)


def test_resample_keeps_a_list_at_its_own_length_and_its_ends_at_any():
    own = timesteps.pid()
    assert timesteps.resample(own, 4) == pytest.approx(own, rel=1e-12)
    longer = timesteps.resample(own, 7)
    assert longer[[0, -2, -1]].tolist() == [0.999, 0.342, 0.0]
    lam = np.log1p(-longer[:-1]) - np.log(longer[:-1])
    known = np.log1p(-own[:-1]) - np.log(own[:-1])
    assert lam[::2] == pytest.approx(known, rel=1e-9)
    assert lam[1::2] == pytest.approx((known[1:] + known[:-1]) / 2, rel=1e-9)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: timesteps.shift([0.5, 0], 0), "shift=0 must be a finite number above 0"),
        (lambda: timesteps.flux(4, mu=1e4), r"mu=10000\.0 must be a finite number in \[-700, 700\]"),
        (lambda: timesteps.karras(4, rho=0), "rho=0 must be"),
        (lambda: timesteps.polyexponential(4, rho=-1), "rho=-1 must be"),
        (lambda: timesteps.karras(4, t_max=1.5), r"t_max=1\.5 and t_min=0\.001 must keep 0 < t_min < t_max <= 1"),
        (lambda: timesteps.exponential(4, t_min=0), "t_min=0 must keep"),
        (lambda: timesteps.log_snr(4, t_max=1.0), "start at 1.0, where log-SNR is infinite"),
        (lambda: timesteps.resample([0.9, 0], 4), "a list of 1 steps cannot be resampled to 4"),
        (lambda: timesteps.resample([0.9, 0.5], 4), "end in 0.5"),
        (lambda: timesteps.linear_quadratic(4, threshold=1), r"threshold=1 must be a finite number in \(0, 1\)"),
        (lambda: timesteps.beta(4, a=0), "a=0 must be a finite number above 0"),
        (lambda: timesteps.simple(1001), r"steps=1001 must be a whole number in 1\.\.1000"),
        (lambda: timesteps.ddim_uniform(0), r"steps=0 must be a whole number in 1\.\.999"),
        (lambda: timesteps.cosine(0), "steps=0 must be a whole number of at least 1"),
        (lambda: get_timesteps("karras", 4, roh=7), "option 'roh': did you mean 'rho'. it takes rho, t_max, t_min"),
    ],
)  # fmt: skip
def test_lists_refuse(make, message):
    with pytest.raises(PidSamplerError, match=message):
        make()


def test_named():
    assert get_timesteps("pid").tolist() == timesteps.pid().tolist()
    assert get_timesteps("uniform", 3).tolist() == timesteps.uniform(3).tolist()
    with pytest.raises(PidSamplerError, match="did you mean 'uniform'"):
        get_timesteps("unifrom", 3)
    with pytest.raises(PidSamplerError, match="needs a number of steps, such as uniform:8"):
        get_timesteps("uniform")


@pytest.mark.parametrize(("times", "held"), [(["a", 0], "text"), ([True, False], "True or False")])
def test_what_is_no_number_is_said_with_what_was_expected(times, held):
    with pytest.raises(PidSamplerError, match=f"it has {held} where numbers in 0..1 were expected, such as"):
        timesteps.custom(times)
