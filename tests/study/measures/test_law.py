import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import log_ndtr
from scipy.stats import norm

from pidsampler import PidSamplerError, get_scheduler, sample, timesteps
from pidsampler.denoiser import GaussianMixture
from pidsampler.study.measures import law

MIXTURE = GaussianMixture((-0.6, 0.5), (0.1, 0.2), (1, 2))
APART = GaussianMixture((-5, 5), (0.01, 0.02), (1, 3))
WIDE = GaussianMixture((0, 0, 0), (1e-3, 1, 10), (1, 1, 1))

component = st.tuples(st.floats(-3, 3), st.floats(1e-3, 2), st.floats(0.01, 1))
mixtures = st.lists(component, min_size=1, max_size=5).map(lambda rows: GaussianMixture(*zip(*rows, strict=True)))
times = st.floats(0, 1)


@given(st.floats(-3, 3), st.floats(1e-3, 2), times, st.floats(-8, 8))
def test_a_gaussian_has_the_normal_law(mean, std, t, z):
    flow = GaussianMixture([mean], [std], [1])
    center, spread = (1 - t) * mean, np.hypot((1 - t) * std, t)
    x = center + spread * z
    score = (x - center) / spread  # what of z rounding has left in x
    assert law.cdf(flow, x, t=t) == pytest.approx(norm.cdf(score), rel=1e-11)
    assert law.survival(flow, x, t=t) == pytest.approx(norm.sf(score), rel=1e-11)
    assert law.quantile(flow, norm.cdf(-abs(z)), t=t) == pytest.approx(center - spread * abs(z), abs=1e-12)
    assert law.quantile(flow, norm.cdf(-abs(z)), t=t, upper=True) == pytest.approx(center + spread * abs(z), abs=1e-12)
    if t:
        assert law.solution(flow, x, t=t) == pytest.approx(mean + std * z, abs=1e-12)


@pytest.mark.parametrize("flow", [MIXTURE, APART, WIDE])
@pytest.mark.parametrize("t", [0.0, 0.01, 0.5, 1.0])
def test_quantiles_undo_the_distribution_function_in_both_tails(flow, t):
    p = np.concatenate([np.logspace(-300, -1, 300), np.linspace(0.11, 0.5, 40)])
    for upper, tail in ((False, law.cdf), (True, law.survival)):
        x = law.quantile(flow, p, t=t, upper=upper)
        assert ((np.diff(x) > 0) == (not upper)).all()
        # An error of 1e-15 in x, times the density; the tail's logarithm is as steep as its score.
        slope = np.sqrt(-2 * np.log(p)) / np.hypot((1 - t) * flow.stds.min(), t)
        assert (np.abs(tail(flow, x, t=t) / p - 1) < 1e-13 + 4e-16 * slope * np.abs(x).clip(1)).all()


@given(mixtures, times, st.floats(1e-12, 1 - 1e-12))
def test_quantiles_to_rounding(flow, t, p):
    x = law.quantile(flow, p, t=t)
    near = np.nextafter(x + 1e-12 * np.array([-1, 1]) * max(1, abs(x)), x)
    below, above = law.cdf(flow, near, t=t)
    assert below * (1 - 1e-15) <= p <= above * (1 + 1e-15)


@given(mixtures, times)
def test_shape_is_kept_and_tails_sum_to_one(flow, t):
    x = np.linspace(-9, 9, 24).reshape(2, 3, 4, 1)
    below, above = law.cdf(flow, x, t=t), law.survival(flow, x, t=t)
    assert below.shape == above.shape == law.solution(flow, x, t=t).shape == x.shape
    assert np.allclose(below + above, 1, rtol=0, atol=1e-15)
    assert law.cdf(flow, 0.5, t=t).shape == law.quantile(flow, 0.5, t=t).shape == ()


def test_mirrored_laws_are_mirrored_to_the_bit():
    mirrored = GaussianMixture(-MIXTURE.means, MIXTURE.stds, MIXTURE.weights)
    p, x = np.array([1e-200, 1e-9, 0.3]), np.linspace(-8, 8, 50)
    assert np.array_equal(law.quantile(MIXTURE, p), -law.quantile(mirrored, p, upper=True))
    assert np.array_equal(law.cdf(MIXTURE, x), law.survival(mirrored, -x))
    assert np.allclose(law.solution(MIXTURE, x, t=0.7), -law.solution(mirrored, -x, t=0.7), rtol=1e-14, atol=0)


def test_moments_by_quadrature():
    for flow in (MIXTURE, APART, WIDE, GaussianMixture([0.3], [0.2], [1])):
        found = law.moments(flow)
        nodes, weights = np.polynomial.hermite_e.hermegauss(8)
        x = flow.means[:, None] + flow.stds[:, None] * nodes
        mass = flow.weights[:, None] * weights / weights.sum()
        mean = np.sum(mass * x)
        assert found.mean == pytest.approx(mean, abs=1e-14)
        for k, value in ((2, found.variance), (3, found.third), (4, found.fourth)):
            assert value == pytest.approx(np.sum(mass * (x - mean) ** k), rel=1e-10, abs=1e-12)


def test_moments_of_a_gaussian():
    assert law.moments(GaussianMixture([0.3], [0.5], [7])) == (0.3, 0.25, 0.0, 3 * 0.5**4)


def test_solution_is_the_flows_own_by_fine_runge_kutta():
    """To 8 sigma on both sides; with times that crowd near 0 the method keeps its order of 4."""
    x = np.linspace(-8, 8, 300).reshape(1, 3, 10, 10)
    exact = law.solution(MIXTURE, x, t=1.0)

    def error(steps):
        scheduler = get_scheduler("rk4", timesteps=timesteps.uniform(steps) ** 2)
        return np.abs(sample(MIXTURE, scheduler, x=x, dtype=np.float64) - exact).max()

    errors = [error(steps) for steps in (100, 200, 400)]
    assert errors[2] < 8e-9
    assert np.log2(errors[0] / errors[1]) == pytest.approx(4, abs=0.2)
    assert np.log2(errors[1] / errors[2]) == pytest.approx(4, abs=0.2)


@pytest.mark.parametrize("t", [0.3, 0.02])
def test_solution_from_within(t):
    x = np.linspace(-2, 2, 300).reshape(1, 3, 10, 10)
    times = t * timesteps.uniform(400) ** 2
    found = sample(MIXTURE, get_scheduler("rk4", timesteps=times), x=x, dtype=np.float64)
    assert np.abs(found - law.solution(MIXTURE, x, t=t)).max() < 2e-10


@given(mixtures, st.floats(0.01, 1), st.floats(0.01, 1))
def test_solution_increases_and_carries_the_law(flow, t, end):
    x = np.linspace(-8, 8, 400)
    found = law.solution(flow, x, t=t)
    assert (np.diff(found) >= -1e-14 * np.abs(found[1:])).all()
    below, above = law.cdf(flow, x, t=t), law.survival(flow, x, t=t)
    for wanted, tail in ((below, law.cdf(flow, found)), (above, law.survival(flow, found))):
        assert np.allclose(tail, wanted, rtol=1e-9, atol=1e-13)


def test_solution_at_time_0_is_x_itself():
    x = np.array([-3.0, 0.1, 40.0])
    found = law.solution(APART, x, t=0.0)
    assert np.array_equal(found, x)
    assert found is not x


def test_far_tails_keep_their_digits():
    """Far out the widest component alone is left: x0 = m + s*z with its share w of the tail, log-exactly."""
    z = np.array([10.0, 30.0, 100.0])
    found = law.solution(WIDE, z, t=1.0)
    assert np.allclose(log_ndtr(-found / 10) + np.log(1 / 3), log_ndtr(-z), rtol=1e-14, atol=0)
    assert np.array_equal(law.solution(WIDE, -z, t=1.0), -found)
    assert np.allclose(
        law.solution(GaussianMixture([0], [2], [1]), [1e100, -1e150], t=1.0), [2e100, -2e150], rtol=1e-14
    )


def test_atoms():
    """Components of std 0: jumps of the distribution function, and the flow goes into them."""
    flow = GaussianMixture((-0.6, 0.2, 0.9), (0, 0.05, 0), (2, 3, 5))
    assert np.allclose(law.cdf(flow, [-0.61, -0.6, 0.2, 0.89, 0.9]), [0, 0.2, 0.35, 0.5, 1], rtol=1e-14, atol=1e-40)
    assert np.allclose(
        law.survival(flow, [-0.61, -0.6, 0.2, 0.89, 0.9]), [1, 0.8, 0.65, 0.5, 0], rtol=1e-14, atol=1e-40
    )
    p = np.array([1e-9, 0.1, 0.19, 0.35, 0.51, 0.9])
    assert np.allclose(law.quantile(flow, p), [-0.6, -0.6, -0.6, 0.2, 0.9, 0.9], rtol=1e-15, atol=0)
    assert np.allclose(law.solution(flow, [-8, -2, 0.1, 8], t=1.0), [-0.6, -0.6, 0.9, 0.9], rtol=1e-15, atol=0)
    single = GaussianMixture([0.4], [0], [1])
    assert np.array_equal(law.solution(single, [-8, 0, 8], t=0.3), [0.4] * 3)


@settings(max_examples=30)
@given(st.floats(0.1, 0.9))
def test_a_narrow_component_tends_to_an_atom(p):
    for std in (1e-12, 1e-200):
        exact, near = (law.quantile(GaussianMixture((-0.6, 0.5), (s, 0.1), (1, 2)), p) for s in (0, std))
        assert near == pytest.approx(exact, abs=1e-10)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: law.cdf(MIXTURE, [0.0, np.nan]), "x holds nan, expected values within"),
        (lambda: law.solution(MIXTURE, [-np.inf, 0.0], t=1.0), "x holds -inf"),
        (lambda: law.survival(MIXTURE, [0.0, 1e151]), r"x holds 1e\+151"),
        (lambda: law.quantile(MIXTURE, [0.0, 0.5]), r"above 0 and below 1, found \[0\.0, 0\.5\]"),
        (lambda: law.quantile(MIXTURE, 1.0), "found 1.0"),
        (lambda: law.quantile(MIXTURE, np.nan), "found nan"),
        (lambda: law.cdf(MIXTURE, 0.0, t=1.5), r"t=1\.5 must be a noise level in 0\.\.1"),
        (lambda: law.solution(MIXTURE, 0.0, t=-0.1), r"t=-0\.1 must be a noise level"),
    ],
)
def test_bad_input(call, message):
    with pytest.raises(PidSamplerError, match=message):
        call()


def test_without_scipy_the_error_names_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.special", None)
    with pytest.raises(PidSamplerError, match=r"scipy is not installed: pip install 'pidsampler\[study\]'"):
        law.cdf(MIXTURE, 0.0)
