"""Inversion: tables that go up, and the error of going up and down again."""

import functools

import numpy as np
import pytest

from pidsampler import PidSamplerError, StepTable, get_scheduler, list_schedulers, noise, sample
from pidsampler.denoiser import GaussianMixture
from pidsampler.schedulers import FlowODE, Heun, detail, inverted

LAW = GaussianMixture([-0.6, 0.5], [0.3, 0.2], [1, 2])
X = 0.5 * noise.normal(0, 0, (3, 8, 8))[None].astype(np.float64)
TIMES = [0.9, 0.6, 0.3, 0.0]


def test_rows_go_up():
    table = inverted(FlowODE(TIMES), 0.1)
    assert table.times == (0.1, 0.3, 0.6, 0.9)
    assert [w for row in table for w in (row.a, row.b)] == pytest.approx([3, -2, 2, -1, 1.5, -0.5])
    assert table == get_scheduler("flow-ode.inverted(t_min=0.1)", TIMES).table()
    assert inverted(FlowODE(TIMES)).times == (0.001, 0.3, 0.6, 0.9)
    assert inverted(FlowODE(TIMES), 0.3).times == (0.3, 0.6, 0.9)
    assert StepTable.from_json(table.to_json()) == table
    assert len(inverted(Heun(TIMES))) == 6
    assert detail(get_scheduler("heun.inverted", TIMES), 1.0).times == inverted(Heun(TIMES)).times


def round_trip(name, n, t_min=0.3):
    down = get_scheduler(name, np.linspace(0.9, t_min, n + 1))
    up = sample(LAW, inverted(down, t_min), x=X, dtype=np.float64)
    return np.abs(sample(LAW, down, x=up, dtype=np.float64) - X).mean()


@pytest.mark.parametrize(
    ("name", "order"),
    # Of a one-step method of even order the leading terms of both ways cancel.
    [("flow-ode", 1), ("adams-bashforth", 2), ("dpmpp-2m", 2), ("midpoint", 3), ("heun", 3), ("kutta3", 3), ("rk4", 5)],
)
def test_the_order_of_the_round_trip(name, order):
    errors = [round_trip(name, n) for n in (16, 32, 64)]
    assert -np.polyfit(range(3), np.log2(errors), 1)[0] == pytest.approx(order, abs=0.2)


@pytest.mark.parametrize(
    "info",
    [i for i in list_schedulers() if not (i.stochastic or i.name.endswith("cfg-pp"))],
    ids=lambda info: info.name,
)
def test_every_method_without_noise_comes_back(info):
    assert round_trip(info.name, 16) < 0.03


def test_the_picture_taken_as_x_at_t_min_costs_an_error_of_that_size():
    """Down to 0 again from a fine inversion: half the t_min, half the error."""

    def error(t_min):
        fine = functools.partial(np.geomspace, 0.9, t_min)
        up = sample(LAW, inverted(get_scheduler("rk4", fine(65)), t_min), x=X, dtype=np.float64)
        return np.abs(sample(LAW, get_scheduler("rk4", [*fine(65), 0.0]), x=up, dtype=np.float64) - X).mean()

    assert error(0.005) / error(0.01) == pytest.approx(0.5, abs=0.05)


@pytest.mark.parametrize(
    ("sampler", "t_min", "message"),
    [
        (FlowODE(TIMES).table(), 0.1, "only a method over a list can be inverted"),
        (FlowODE(TIMES), 0.9, "t_min=0.9 is not below 0.9, where the list begins"),
        (FlowODE(TIMES), 0, r"t_min=0 must be a finite number in \(0, 1\)"),
        (get_scheduler("flow-sde", TIMES), 0.1, "a method that draws noise cannot be inverted"),
        (get_scheduler("flow-sde@uniform:1"), 0.1, "a method that draws noise cannot be inverted"),
        (get_scheduler("restart(repeats=0)@uniform:4"), 0.1, "restart goes up by noise, and cannot be inverted"),
        (get_scheduler("euler-cfg-pp", TIMES), 0.1, "a method that guides by its rows, as CFG"),
        (get_scheduler("dpmpp-2m@uniform:8"), 0.1, "the method has no step up to t = 1: take a list"),
    ],
)
def test_what_cannot_be_inverted(sampler, t_min, message):
    with pytest.raises(PidSamplerError, match=message):
        inverted(sampler, t_min)
