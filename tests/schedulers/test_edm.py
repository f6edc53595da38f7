"""Runs of k-diffusion and Detail Daemon, stored with the script that made them (parity/edm_numbers.py)."""

import json

import methods
import numpy as np
import pytest
from attrs import evolve
from paths import PARITY

from pidsampler import Combination, PidSamplerError, StepTable, get_scheduler, sample, start
from pidsampler.denoiser import GaussianMixture
from pidsampler.noise import torch
from pidsampler.schedulers import EDMEuler, EDMHeun, FlowODE, Heun, detail, lying
from pidsampler.schedulers.base import Stage, eps, stage_rows

DATA = json.loads((PARITY / "edm.json").read_text())
X = np.array(DATA["x"]).reshape(1, 1, 1, -1)
LAW = GaussianMixture([-0.6, 0.5], [0.3, 0.2], [1, 2])


def name(run):
    return f"{run['sampler']} {run['options']}"


def theirs(raised):
    """Return noise as k-diffusion draws it: before each step, used or not; ours counts those used."""
    return lambda seed, draw, shape: torch.normal(5, raised[draw - 1], shape)


@pytest.mark.parametrize("run", DATA["churn"], ids=name)
def test_churn_agrees_with_k_diffusion(run):
    """Every state where a step begins, to 1e-6 of its size; their first churn makes the list begin at t_hat."""
    cls = {"euler": EDMEuler, "heun": EDMHeun}[run["sampler"]]
    times = [run["times"][0], *DATA["list"][1:]]
    table = cls(times, **{"s_tmin": 0.0, "s_tmax": 1e9, **run["options"]}).table()
    raised = [k for k, t in enumerate(run["times"]) if k and t > DATA["list"][k] + 1e-9]
    x = np.array(run["states"][0]).reshape(X.shape)
    steps, m, ends = start(table, x, noise=theirs(raised)), np.empty_like(x), {}
    for row in steps:
        LAW.predict(steps.x, row.at, m)
        steps.step(m)
        ends[round(row.t_next, 9)] = steps.x.ravel().copy()  # of Heun's two rows the second
    for t, state in zip([*run["times"][1:], 0.0], run["states"][1:], strict=True):
        assert np.abs(ends[round(t, 9)] - state).max() < 1e-6 * np.abs(state).max()
    assert any(row.biased for row in table) == ("s_noise" in run["options"])


@pytest.mark.parametrize("run", DATA["told"], ids=name)
def test_detail_daemon_and_lying_sigma_agree_with_comfyui(run):
    """What the network is told, to float32's rounding of their schedule, and the result to 1e-6 of its size."""
    inside = {"euler": FlowODE, "heun": Heun}[run["sampler"]](DATA["list"])
    table = {"detail": detail, "lying": lying}[run["wrapper"]](inside, **run["options"])
    assert [row.at for row in table] == pytest.approx(run["told"], rel=3e-8)
    assert all(row.q == -row.at for row in table)
    assert [row.at for row in table] != [row.t for row in table]
    x = sample(LAW, table, x=X, dtype=np.float64).ravel()
    assert np.abs(x - run["x"]).max() < 1e-6 * np.abs(run["x"]).max()
    options = ",".join(f"{key}={value}" for key, value in run["options"].items())
    spec = f"{inside.info.name}.{run['wrapper']}({options})"
    assert get_scheduler(spec, DATA["list"]).table() == table


TIMES = [0.9, 0.6, 0.3, 0.0]


def test_a_churned_row_written_by_hand():
    """gamma = 0.9/3: from t = 0.6, sigma 1.5, up to sigma 1.95, t_hat = 1.95/2.95."""
    first, second, third = EDMEuler(TIMES, s_churn=0.9).table()
    t_hat = 1.95 / 2.95
    assert (first.t, first.t_next, second.t) == (0.9, pytest.approx(t_hat), first.t_next)
    r = (1 - t_hat) / 0.4
    fresh = (1 - t_hat) * np.sqrt(1.95**2 - 1.5**2)
    assert (first.a, first.b) == pytest.approx((r * 0.6 / 0.9, r * (1 - 0.6 / 0.9)))
    assert dict(first.noise) == {1: pytest.approx(fresh)}
    assert dict(second.noise).keys() == {2}
    assert (third.a, third.b, third.noise, third.t_next) == (0.0, 1.0, (), 0.0)


def test_churn_is_cut_off_and_kept_inside_of_its_range():
    most = EDMEuler(TIMES, s_churn=100).table()
    assert most[1].t == pytest.approx(1.5 * np.sqrt(2) / (1 + 1.5 * np.sqrt(2)))
    assert EDMEuler(TIMES, s_tmin=1.6).table() == FlowODE(TIMES).table()
    assert EDMEuler(TIMES, s_tmax=0.4).table() == FlowODE(TIMES).table()
    assert EDMEuler(TIMES, s_tmin=1.4).table().times == (*EDMEuler(TIMES).table().times[:2], 0.3, 0.0)
    rows = EDMHeun([1.0, 0.5, 0.2, 0.0], s_churn=0).table()[:]
    assert rows == FlowODE([1.0, 0.5, 0.0]).table()[:1] + EDMHeun([0.5, 0.2, 0.0], s_churn=0).table()[:]


def test_s_noise_is_declared_and_its_deviation_is_known():
    table = EDMEuler(TIMES, s_churn=0.9, s_noise=1.1).table()
    assert [row.biased for row in table] == [True, True, False]
    t_hat, fresh = 1.95 / 2.95, 1 / 2.95 * np.sqrt(1.95**2 - 1.5**2)
    assert table.bias[0].noise == pytest.approx(np.sqrt(t_hat**2 + 0.21 * fresh**2) - t_hat)
    assert table == get_scheduler("edm-euler(s_churn=0.9).s_noise(factor=1.1)", TIMES).table()
    with pytest.raises(PidSamplerError, match="the noise comes out with standard deviation"):
        StepTable(evolve(row, biased=False) for row in table)


class Uneven(EDMHeun):
    """A mutant: the two stages weigh 0.45 and 0.55."""

    def _step(self, t, t_next):
        rows = super()._step(t, t_next)
        if len(rows) == 1:
            return rows
        start = Combination(a=(1 - t_next) / (1 - t))
        h = (t_next - t) / (1 - t)
        stages = [Stage(t_next, start, weights=(h,)), Stage(t_next, start, weights=(0.45 * h, 0.55 * h))]
        return stage_rows(t, stages, quantity=eps)


def test_a_wrong_weight_loses_the_weak_order():
    def slope(cls):
        errors = []
        for n in (32, 64, 128):
            mean, draws = methods.on_gaussian(cls(np.linspace(0.95, 0.3, n + 1)).table(), 0.3, 0.4)
            errors.append(abs(mean - 0.21) + abs(np.hypot.reduce([*draws.values()]) - np.hypot(0.28, 0.3)))
        return -np.polyfit(range(3), np.log2(errors), 1)[0]

    assert slope(EDMHeun) == pytest.approx(2, abs=0.2)
    assert slope(Uneven) < 1.5
