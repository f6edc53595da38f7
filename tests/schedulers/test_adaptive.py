"""The reference solution: against the exact one of a mixture, its table, and what it says of what it cannot reach."""

import math

import numpy as np
import pytest

from pidsampler import PidSamplerError, noise, sample
from pidsampler.denoiser import Gaussian, GaussianMixture
from pidsampler.schedulers import adaptive
from pidsampler.schedulers.adaptive import solve

MEANS, STDS, WEIGHTS = (-0.6, 0.5), (0.3, 0.2), (1 / 3, 2 / 3)
LAW = GaussianMixture(MEANS, STDS, WEIGHTS)
SHAPE = (2, 3, 4, 4)


def law_at(x, t):
    """The distribution function and the density of the flow at noise level t."""
    below, density = 0.0, 0.0
    for mean, std, weight in zip(MEANS, STDS, WEIGHTS, strict=True):
        spread = math.hypot((1 - t) * std, t)
        z = (x - (1 - t) * mean) / spread
        below = below + weight * 0.5 * (1 + np.vectorize(math.erf)(z / math.sqrt(2)))
        density = density + weight * np.exp(-z * z / 2) / (spread * math.sqrt(2 * math.pi))
    return below, density


def error_of(found, x, t_start, t_end):
    """How far a result is from the exact one: the ODE keeps each number's share of the law below it."""
    off = law_at(found, t_end)[0] - law_at(x, t_start)[0]
    return np.abs(off / law_at(found, t_end)[1]).max()


def initial(seeds):
    return np.stack([noise.normal(seed, 0, SHAPE[1:]) for seed in seeds]).astype(np.float64)


def test_it_reaches_its_tolerance_on_the_mixture_and_its_table_repeats_it():
    tolerance = 1e-8
    found = solve(LAW, tolerance=tolerance, shape=SHAPE, seed=3)
    assert error_of(found.x, initial([3, 4]), 1.0, 0.0) < found.error <= tolerance
    assert found.table.times[0] == 1.0
    assert (found.table.rows[-1].b, found.table.times[-1]) == (1.0, 0.0)
    assert found.table.times[-2] > 1e-2 * math.sqrt(tolerance)  # no lower than the last step needs
    again = sample(LAW, found.table, shape=SHAPE, seed=3, dtype=np.float64)
    assert np.array_equal(again, found.x)
    assert len(found.table) % 6 == 1
    assert found.calls > len(found.table)


def test_a_velocity_that_turns_late_is_followed_down():
    """It is 0 down to t = 0.3, and the solution is not x there."""
    found = solve(lambda x, t: max(0.3 - t, 0.0) * np.ones_like(x), tolerance=1e-4, x=np.zeros((1, 3, 1, 1)))
    np.testing.assert_allclose(found.x, -(0.3**2) / 2, rtol=0, atol=1e-4)


def test_the_middle_of_the_noise_is_led_to_a_mode():
    """From x = 0 the velocity does not bend at t = 1: x0 there is the mixture's mean, far from the solution."""
    x = np.zeros((1, 3, 1, 1))
    found = solve(LAW, tolerance=1e-6, x=x)
    assert error_of(found.x, x, 1.0, 0.0) < 1e-6


def test_between_two_noise_levels_from_an_array():
    x = initial([5, 6])
    found = solve(LAW, tolerance=1e-6, x=x, t_start=0.9, t_end=0.3)
    assert error_of(found.x, x, 0.9, 0.3) < found.error <= 1e-6
    assert (found.table.times[0], found.table.times[-1]) == (0.9, 0.3)
    assert np.array_equal(sample(LAW, found.table, x=x, dtype=np.float64), found.x)


def test_the_end_may_be_the_networks_x0_at_a_time():
    """On N(0, s^2) the exact x at t is s(t)/s(1) times x, and x0 a share of it."""
    std, t = 0.5, 0.05
    found = solve(Gaussian(0.0, std), tolerance=1e-6, shape=SHAPE, t_last=t)
    spread = math.hypot((1 - t) * std, t)
    assert found.table.times[-2:] == (t, 0.0)
    assert found.x == pytest.approx(initial([0, 1]) * spread * (1 - t) * std**2 / spread**2, abs=1e-6)


def test_a_network_may_predict_eps():
    def net(x, t):
        v = np.empty_like(x)
        LAW.predict(x, t, v)
        return x + (1 - t) * v

    x = initial([1, 2])
    found = solve(net, tolerance=1e-4, x=x, t_start=0.99, t_end=0.1, prediction="eps")
    assert error_of(found.x, x, 0.99, 0.1) < 1e-4


class Noisy:
    """A network whose answers differ from call to call, as no rounding of a right one does, but as coarsely."""

    def __init__(self):
        self.rng = np.random.default_rng(0)

    def predict(self, x, t, out):
        LAW.predict(x, t, out)
        out += 1e-3 * self.rng.normal(size=x.shape)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: solve(Noisy(), tolerance=1e-4, shape=SHAPE, t_start=0.9, t_end=0.3),
            r"tolerance=0\.0001 is not reached, by rounding or .* are \S+ apart, .* pass tolerance=0.00\d or more",
        ),
        (lambda: solve(lambda x, t: x * np.nan, shape=SHAPE), r"the network's output between t=1\.0 and 0\.\d+ is not"),
        (
            lambda: solve(lambda x, t: (x - math.sin(math.log(t))) / t, shape=SHAPE),
            r"the velocity is not smooth near t = 0 .* pass t_last, the lowest time .* such as 0\.01",
        ),
        (lambda: solve(LAW), "pass either x or shape"),
        (lambda: solve(LAW, x=initial([1, 2]), shape=SHAPE), "pass either x or shape"),
        (lambda: solve(LAW, shape=SHAPE, t_end=0.1, t_last=0.2), r"t_last=0\.2 is for a solution that ends at 0"),
        (lambda: solve(LAW, shape=SHAPE, t_start=0.5, t_end=0.5), "t_end=0.5 must be a finite number"),
        (lambda: solve(LAW, shape=SHAPE, tolerance=0.0), "tolerance=0.0 must be a finite number above 0"),
        (
            lambda: solve(LAW, shape=SHAPE, tolerance=1e-300),
            "the first solution would be of rounding alone: pass a larger",
        ),
        (lambda: solve(LAW, shape=SHAPE, prediction="noise"), "unknown prediction 'noise'"),
    ],
)
def test_refusals(call, message):
    with pytest.raises(PidSamplerError, match=message):
        call()


def test_a_first_solution_without_an_end_is_given_up(monkeypatch):
    monkeypatch.setattr(adaptive, "_MOST", 10)
    with pytest.raises(PidSamplerError, match=r"first .* takes more than 10 evaluations, at t=0\.\d+: pass a larger"):
        solve(LAW, shape=SHAPE)
