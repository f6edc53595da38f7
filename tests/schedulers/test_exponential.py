"""Exponential Runge-Kutta methods: what their tableaux say, and stored runs (parity/exponential_numbers.py)."""

import json
import math

import numpy as np
import pytest
from paths import PARITY

from pidsampler import PidSamplerError, get_scheduler, sample
from pidsampler.denoiser import GaussianMixture
from pidsampler.schedulers import (
    ETDRK2,
    ETDRK3,
    ETDRK4,
    RES2S,
    RES3S,
    RES5S,
    RES6S,
    SEEDS2,
    ExponentialRungeKutta,
    ExponentialTableau,
    Krogstad,
)
from pidsampler.schedulers.exact import VARIABLES, Variable, log_snr, phi

METHODS = [RES2S, RES3S, RES5S, RES6S, ETDRK2, ETDRK3, ETDRK4, Krogstad]
STORED = json.loads((PARITY / "exponential.json").read_text())
LAW = GaussianMixture([-0.6, 0.5], [0.3, 0.2], [1, 2])
X = np.array(STORED["x"]).reshape(1, 1, 1, -1)


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.info.name)
def test_registered_order_is_the_tableaus(cls):
    tableau = cls([0.9, 0.5]).tableau
    assert tableau.order == cls.info.accuracy_order
    assert len(tableau.b) + 1 == cls.info.model_calls_per_step


@pytest.mark.parametrize(("c2", "c3"), [(0.5, 1.0), (0.4, 0.8), (1.0, 0.5), (1 / 3, 2 / 3), (0.9, 0.1)])
def test_res_keeps_its_order_wherever_the_evaluations_lie(c2, c3):
    assert RES2S([0.9, 0.5], c2=c2).tableau.order == 2
    assert RES3S([0.9, 0.5], c2=c2, c3=c3).tableau.order == 3


def stiff_order(tableau):
    """The order that long steps leave: Hochbruck and Ostermann's conditions of 2005, section 4.

    All conditions of the orders below hold at any z, and at their own order with the step's weights at 0. A condition
    with an arbitrary operator between two weights has a z for each.
    """
    c, size = np.array(tableau.c), len(tableau.c)

    def parts(z):
        *stages, step = tableau.at(z)
        return np.array([row + [0.0] * (size - len(row)) for row in stages]), np.array(step)

    def psi(k, z):
        """What stage i has of the k-th derivative too much."""
        stages = parts(z)[0]
        exact = [c[i] ** k * phi(k, c[i] * z) for i in range(size)]
        return stages @ (c ** (k - 1) / math.factorial(k - 1)) - exact

    def residuals(order, z, y, w):
        b = parts(z)[1]
        yield b @ (c ** (order - 1) / math.factorial(order - 1)) - phi(order, z)
        if order >= 3:
            yield b @ psi(order - 1, y)
        if order == 4:
            yield b @ (parts(w)[0] @ psi(2, y))
            yield b @ (c * psi(2, y))

    def holds(order, zs):
        triples = [(z, y, w) for z in zs for y in (-3.0, -0.7) for w in (-2.0, -0.3)]
        return all(abs(r) < 1e-10 for triple in triples for r in residuals(order, *triple))

    reached = 1
    while reached < 4 and holds(reached + 1, [0.0]):
        reached += 1
        if not holds(reached, [-2.5, -0.4]):
            break
    return reached


@pytest.mark.parametrize("cls", METHODS, ids=lambda cls: cls.info.name)
def test_stiff_order_is_as_stated(cls):
    assert stiff_order(cls([0.9, 0.5]).tableau) == cls.stiff_order


def test_a_wrong_number_lowers_the_derived_order():
    """RES4LYF's etdrk4_4s, which is ETDRK4 with two weights doubled; ETDRK4 with b of another z; and RES 2S."""
    right = ETDRK4.tableau
    theirs = ExponentialTableau(right.c, ((), (((1.0, 1, 0.5),),), ((), ((2.0, 1, 0.5),))), b=right.b)
    assert theirs.order == 2
    assert ExponentialTableau(right.c, right.a, b=(*right.b[:2], ((-1.0, 2, 1.0), (4.0, 3, 0.9)))).order == 2
    assert ExponentialTableau((0.5,), ((),), b=(((2.0, 2, 1.0),),)).order == 2
    assert ExponentialTableau((0.5,), ((),), b=(((1.9, 2, 1.0),),)).order == 1


@pytest.mark.parametrize("variable", VARIABLES)
def test_one_step_of_etdrk2_by_hand(variable):
    """x' = (t'/t)*x + s*(h*phi_1*x0 + h*phi_2*(x0' - x0)), s = 1 - t' in log-SNR, 1 in -log(sigma)."""
    t, s, x, net = 0.8, 0.5, 0.7, np.tanh
    h, scale = (log_snr(s) - log_snr(t), 1 - s) if variable == "log-snr" else (math.log(t / s), 1.0)
    phi_1 = (1 - math.exp(-h)) / h
    phi_2 = (phi_1 - 1) / -h
    first = net(x)
    ahead = s / t * x + scale * h * phi_1 * first
    expected = s / t * x + scale * h * (phi_1 * first + phi_2 * (net(ahead) - first))
    table = ETDRK2([t, s], variable=variable).table().predicting("x0")
    found = sample(lambda x, t: net(x), table, x=np.full((1, 1), x), dtype=np.float64)
    assert found[0, 0] == pytest.approx(expected, rel=1e-13)


def test_a_step_of_infinite_length_is_eulers():
    assert [len(RES5S([1.0, 0.5, 0.0], variable=name).table()) for name in VARIABLES] == [2, 6]
    first, last = RES5S([1.0, 0.5, 0.0]).table()
    assert (first.a, first.b, last.a, last.b) == (0.5, 0.5, 0.0, 1.0)


def test_seeds_at_the_end_of_the_step_is_the_exponential_heun_method():
    seeds, heun = (sample(LAW, f"{name}@karras:6", x=X, dtype=np.float64) for name in ("seeds-2(eta=0,r=1)", "etdrk2"))
    assert seeds == pytest.approx(heun, abs=1e-13)
    rows = SEEDS2([0.9, 0.4], r=1.0).table()
    assert [row.t for row in rows] == [0.9, 0.4]
    assert dict(rows[0].noise) == {1: pytest.approx(0.4 * math.sqrt(1 - math.exp(-2 * (log_snr(0.4) - log_snr(0.9)))))}
    assert {draw for row in rows for draw in row.draws} == {1}


IN_LOG_SIGMA = (
    "res4lyf:res_2s res-2s, res4lyf:res_3s res-3s, res4lyf:res_5s res-5s, res4lyf:etdrk2_2s etdrk2, "
    "res4lyf:res_3s_cox_matthews etdrk3, res4lyf:res_4s_krogstad krogstad, "
    "comfy:res_multistep res-multistep, comfy:dpmpp_2m dpmpp-2m"
)
ON_VELOCITY = (
    "rk38_4s rk38, ralston_3s ralston-3, ralston_4s ralston-4, ssprk4_4s ssprk43, dormand-prince_6s dormand-prince, "
    "bogacki-shampine_4s bogacki-shampine, tsi_7s tsit5"
)
SAME = {theirs: f"{ours}(variable=log-sigma)" for theirs, ours in map(str.split, IN_LOG_SIGMA.split(","))}
SAME |= {f"res4lyf:{theirs}": ours for theirs, ours in map(str.split, ON_VELOCITY.split(","))}


@pytest.mark.parametrize("name", SAME)
def test_stored_runs_of_res4lyf_and_comfyui(name):
    found = sample(LAW, get_scheduler(SAME[name], timesteps=STORED["sigmas"]), x=X, dtype=np.float64)
    assert np.abs(found.ravel() - STORED["runs"][name]).max() < 1e-6


def test_stored_run_of_comfyuis_exponential_heun():
    found = sample(LAW, SEEDS2(STORED["sigmas"][1:], eta=0.0, r=1.0), x=X, dtype=np.float64)
    assert np.abs(found.ravel() - STORED["runs"]["comfy:exp_heun_2_x0"]).max() < 1e-6


@pytest.mark.parametrize(
    ("theirs", "ours"), [("etdrk4_4s", "etdrk4"), ("res_5s_hochbruck-ostermann", "res-5s"), ("res_2s", "res-2s")]
)
def test_what_res4lyf_has_otherwise(theirs, ours):
    """Stages of other weights in two of its tableaux; and none measures its steps in log-SNR."""
    variable = "log-snr" if ours == "res-2s" else "log-sigma"
    made = get_scheduler(ours, timesteps=STORED["sigmas"], variable=variable)
    assert np.abs(sample(LAW, made, x=X, dtype=np.float64).ravel() - STORED["runs"][f"res4lyf:{theirs}"]).max() > 1e-3


def test_the_variables():
    snr, sigma = map(Variable, VARIABLES)
    assert snr.step(0.8, 0.5) == pytest.approx(math.log(4))
    assert sigma.step(0.8, 0.5) == pytest.approx(math.log(1.6))
    assert (snr.step(1.0, 0.5), sigma.step(0.5, 0.0)) == (math.inf, math.inf)
    assert sigma.step(1.0, 0.5) == pytest.approx(math.log(2))
    assert snr.inside(0.8, 0.5, share=0.5) == pytest.approx(2 / 3)
    assert sigma.inside(0.8, 0.5, share=0.5) == pytest.approx(math.sqrt(0.4))
    for variable in (snr, sigma):
        assert variable.inside(0.8, 0.3, share=1.0) == 0.3
        t, s = 0.9, math.nextafter(0.9, 0)
        assert variable.step(t, s) == pytest.approx((t - s) / (t * (1 - t) if variable is snr else t), rel=1e-12)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: RES2S([0.9, 0.5], c2=0.0), r"c2=0\.0 must be a finite number in \(0, 1\]"),
        (lambda: RES3S([0.9, 0.5], c2=2 / 3), r"c2=0\.6666666666666666 and c3=1\.0 leave no method of order 3"),
        (lambda: RES2S([0.9, 0.5], variable="sigma"), "unknown variable 'sigma'"),
        (lambda: ExponentialTableau((0.5,), (), b=()), r"1 nodes c needs as many weights b .*found 0 and \[\]"),
        (lambda: ExponentialTableau((1.5,), ((),), b=((),)), r"c=1\.5 must be a finite number in \[0, 1\]"),
        (lambda: ExponentialTableau((0.5,), ((),), b=(((1.0, 2),),)), r"b must be sums of terms \(weight, k, c\)"),
        (lambda: ExponentialRungeKutta([0.9, 0.5], 3), "tableau=3 must be an ExponentialTableau"),
    ],
)
def test_refusals(make, message):
    with pytest.raises(PidSamplerError, match=message):
        make()
