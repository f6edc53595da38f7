import math

import numpy as np
import pytest

from pidsampler import FlowODE, PidSamplerError, sample, timesteps
from pidsampler.denoiser import Gaussian, GaussianMixture, Guided

X = np.linspace(-3, 3, 41)[None, None]


def velocity(law, t):
    out = np.full_like(X, np.nan)
    law.predict(X, t, out)
    return out


def by_quadrature(density, t):
    """E[eps - x0 | x_t] by summing over x0 on a fine grid: eps = (x - (1-t)*x0) / t."""
    x0 = np.linspace(-6, 6, 20_001)
    result = []
    for x in X.reshape(-1):
        eps = (x - (1 - t) * x0) / t
        weight = density(x0) * np.exp(-0.5 * eps**2)
        result.append(np.sum(weight * (eps - x0)) / np.sum(weight))
    return np.array(result).reshape(X.shape)


def bell(x, mean, std):
    return np.exp(-0.5 * ((x - mean) / std) ** 2) / std


@pytest.mark.parametrize("t", [0.2, 0.5, 0.9, 0.999])
def test_velocities_are_the_conditional_means(t):
    assert velocity(Gaussian(0.4, 0.3), t) == pytest.approx(by_quadrature(lambda x: bell(x, 0.4, 0.3), t), abs=1e-9)
    mixture = GaussianMixture([-0.8, 0.5, 1.0], [0.3, 0.2, 0.4], [2, 1, 3])
    density = lambda x: 2 * bell(x, -0.8, 0.3) + bell(x, 0.5, 0.2) + 3 * bell(x, 1.0, 0.4)  # noqa: E731
    assert velocity(mixture, t) == pytest.approx(by_quadrature(density, t), abs=1e-9)


def test_a_mixture_of_one_is_a_gaussian():
    assert np.allclose(velocity(GaussianMixture([0.4], [0.3], [5]), 0.3), velocity(Gaussian(0.4, 0.3), 0.3), atol=1e-14)


def test_a_point_mass_and_far_tails_stay_finite():
    assert velocity(Gaussian(0.5, 0.0), 0.25) == pytest.approx((X - 0.5) / 0.25)
    far = np.array([[[1e4, -1e4]]])
    out = np.empty_like(far)
    GaussianMixture([-1, 1], [0.1, 0.1], [1, 1]).predict(far, 0.01, out)
    assert np.isfinite(out).all()


def test_mean_may_be_an_image():
    mean = np.linspace(-1, 1, 41)[None, None]
    assert velocity(Gaussian(mean, 0.0), 0.5) == pytest.approx((X - mean) / 0.5)


def test_keeps_float32():
    x = X.astype(np.float32)
    out = np.empty_like(x)
    GaussianMixture([-1, 1], [0.1, 0.1], [1, 1]).predict(x, 0.5, out)
    assert out == pytest.approx(velocity(GaussianMixture([-1, 1], [0.1, 0.1], [1, 1]), 0.5), rel=1e-4, abs=1e-5)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Gaussian(0, -1), "std >= 0, found 0.0 and -1.0"),
        (lambda: Gaussian(math.nan, 1), "mean=nan must be a finite number"),
        (lambda: Gaussian(np.array([0, math.nan]), 1), "finite mean"),
        (lambda: GaussianMixture("a", [1], [1]), "means='a' must be a list of numbers"),
        (lambda: GaussianMixture([0], [1, 2], [1]), r"as many means \(1\) as stds \(2\)"),
        (lambda: GaussianMixture([], [], []), "weights must be above 0"),
        (lambda: GaussianMixture([0, 1], [1, 1], [1, 0]), "weights must be above 0"),
        (lambda: GaussianMixture([0, 1], [1, -1], [1, 1]), "std >= 0"),
    ],
)
def test_refuses(make, message):
    with pytest.raises(PidSamplerError, match=message):
        make()


class Counted:
    """A Denoiser that counts its calls."""

    def __init__(self, law):
        self.law, self.calls = law, 0

    def predict(self, x, t, out):
        self.calls += 1
        self.law.predict(x, t, out)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [0.0, 0.5, 1.0, 2.5, -1.0])
def test_guidance_between_gaussians_is_another_gaussian(scale, dtype):
    """Of one std, since their velocity is affine in the mean: that of N(m0 + scale*(m1 - m0), std^2)."""
    conditional, unconditional = Counted(Gaussian(0.5, 0.3)), Counted(Gaussian(-0.2, 0.3))
    guided = Guided(conditional, unconditional, scale)
    x = sample(guided, FlowODE(timesteps.uniform(5)), shape=(2, 3, 4, 5), dtype=dtype)
    expected = sample(Gaussian(-0.2 + scale * 0.7, 0.3), FlowODE(timesteps.uniform(5)), shape=(2, 3, 4, 5), dtype=dtype)
    assert x == pytest.approx(expected, abs=1e-5 if dtype == np.float32 else 1e-12)
    assert conditional.calls == (0 if scale == 0.0 else 5)
    assert unconditional.calls == (0 if scale == 1.0 else 5)


def test_guidance_within_an_interval():
    conditional, unconditional = Counted(Gaussian(0.5, 0.3)), Counted(Gaussian(-0.2, 0.3))
    guided = Guided(conditional, unconditional, 3.0, interval=(0.3, 0.7))
    for t in (0.9, 0.71, 0.25):
        assert np.array_equal(velocity(guided, t), velocity(Gaussian(0.5, 0.3), t))
    assert unconditional.calls == 0
    for t in (0.7, 0.5, 0.3):
        assert velocity(guided, t) == pytest.approx(velocity(Gaussian(-0.2 + 3 * 0.7, 0.3), t), abs=1e-12)
    assert (conditional.calls, unconditional.calls) == (6, 3)


def test_guidance_takes_functions_and_any_shape():
    guided = Guided(lambda x, t: x, lambda x, t: -x, 2.0)
    for shape in ((1, 3, 4, 4), (2, 3, 5, 4), (1, 3, 4, 4)):
        x, out = np.ones(shape, np.float32), np.empty(shape, np.float32)
        guided.predict(x, 0.5, out)
        assert (out == 3.0).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((3, Gaussian(0, 1), 2.0), "expected a Denoiser with predict"),
        ((Gaussian(0, 1), None, 2.0), "expected a Denoiser with predict"),
        ((Gaussian(0, 1), Gaussian(0, 1), math.nan), "scale=nan must be a finite number"),
        (
            (Gaussian(0, 1), Gaussian(0, 1), 2.0, (0.7, 0.3)),
            r"interval \(0\.7, 0\.3\) must keep 0 <= lowest <= highest",
        ),
        ((Gaussian(0, 1), Gaussian(0, 1), 2.0, (0.0, 1.5)), "must keep"),
    ],
)
def test_guidance_refuses(arguments, message):
    with pytest.raises(PidSamplerError, match=message):
        Guided(*arguments)
