import functools
import math
from itertools import pairwise

import methods
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_array_equal

from pidsampler import (
    Combination,
    FlowODE,
    FlowSDE,
    PidSamplerError,
    Row,
    StepTable,
    get_scheduler,
    list_schedulers,
    noise,
    sample,
    start,
    timesteps,
)
from pidsampler.denoiser import Gaussian, GaussianMixture
from pidsampler.noise import coupling, torch

SHAPE = (2, 3, 8, 9)
LAW = GaussianMixture([-0.6, 0.5], [0.3, 0.2], [1, 2])
STOCHASTIC = [info.name for info in list_schedulers() if info.stochastic]
UP = {"restart"}  # whose rows go back up in noise


def drawn(table):
    return {draw for row in table.rows for c in (row, *dict(row.saves).values()) for draw, _ in c.noise}


def test_fixed_noise_is_the_initial_noise_at_each_step():
    times = timesteps.pid()
    table = coupling.fixed(FlowSDE(times).table())
    assert [row.noise for row in table.rows] == [((0, t),) if t else () for t in times[1:]]
    eps = noise.normal(5, 0, SHAPE[1:]).astype(np.float64)[None]
    x, m = eps.copy(), np.empty_like(eps)
    for t, t_next in pairwise(times):
        LAW.predict(x, t, m)
        x = (1 - t_next) * (x - t * m) + t_next * eps
    found = sample(LAW, FlowSDE(times), shape=(1, *SHAPE[1:]), seed=5, dtype=np.float64, noise="fixed")
    assert found == pytest.approx(x, abs=1e-12)


def test_fixed_noise_between_ode_and_full_renoise():
    """Old and new noise are the same here, so their shares add up to 1, not their squares."""
    keep = math.sqrt(1 - 0.6**2)
    for row in coupling.fixed(FlowSDE(timesteps.pid(), eta=0.6).table()).rows[:-1]:
        assert row.a == pytest.approx(keep * row.t_next / row.t)
        assert row.noise == ((0, pytest.approx((1 - keep) * row.t_next)),)


@pytest.mark.parametrize(
    "wrapped", ["flow-sde.s_noise(factor=2)", "flow-ancestral.dcw(scale=0.2)", "edm-heun(s_churn=3,s_noise=1.5)"]
)
def test_fixed_noise_keeps_what_rows_miss_on_purpose(wrapped):
    table = get_scheduler(f"{wrapped}@uniform:4").table()
    found = coupling.fixed(table)
    assert drawn(found) == {0}
    assert [b.noise for b in found.bias] == pytest.approx([b.noise for b in table.bias], abs=1e-12)
    assert max(b.noise for b in found.bias) > 0.01


BIASED = {name for name in STOCHASTIC if get_scheduler(f"{name}@uniform:4").table().bias}


@pytest.mark.parametrize("name", sorted({*STOCHASTIC} - BIASED))
@pytest.mark.usefixtures("both")
def test_fixed_noise_of_every_method(name):
    """Where the network is exact, the noise is the initial one throughout, and the results those of the ODE."""
    times = np.linspace(1, 0, 7)
    table = coupling.fixed(get_scheduler(name, timesteps=times).table())
    assert drawn(table) == {0}
    eps = noise.normal(0, 0, SHAPE[1:])[None].astype(np.float64)
    run = start(table, eps, seed=0)
    for row in run:
        assert run.x == pytest.approx((1 - row.t) * 0.3 + row.t * eps, abs=1e-12)
        run.step((run.x - 0.3) / row.t)  # the velocity of the constant image 0.3


@pytest.mark.parametrize("change", [coupling.fixed, coupling.brownian])
def test_without_noise_nothing_changes(change):
    table = get_scheduler("unipc(order=3)@karras:8").table()
    assert change(table) == table


log_snrs = st.floats(-20, 20)


@given(st.lists(log_snrs, min_size=2, max_size=6, unique=True))
def test_increments_are_those_of_a_brownian_path(lams):
    """Each has variance 1, those of disjoint intervals are independent, and neighbors add up."""
    places = sorted(lam + 32 for lam in lams)
    if min(b - a for a, b in pairwise(places)) < 1e-4:
        return
    steps = [coupling._increment(a, b) for a, b in pairwise(places)]
    for i, step in enumerate(steps):
        assert sum(w * w for w in step.values()) == pytest.approx(1, rel=1e-12)
        assert len(step) <= 47
        assert all(0 < draw < 2**23 + 2 for draw in step)
        for other in steps[:i]:
            assert abs(sum(w * other.get(draw, 0.0) for draw, w in step.items())) < 1e-9
    whole = coupling._increment(places[0], places[-1])
    total = dict.fromkeys(whole, 0.0)
    for a, b, step in zip(places, places[1:], steps, strict=False):
        for draw, w in step.items():
            total[draw] = total.get(draw, 0.0) + w * math.sqrt((b - a) / (places[-1] - places[0]))
    assert total == pytest.approx({draw: whole.get(draw, 0.0) for draw in total}, abs=1e-9)


def test_nodes_of_the_path_have_draws_of_their_own():
    """Draw 0 stays the initial noise; level l has 2^l + 1 .. 2^(l + 1), after draw 1."""
    seen = set()
    for level in range(4):
        for j in range(2**level):
            middle = 64 * (j + 0.5) / 2**level
            new = {d for d in coupling._increment(middle - 1e-3, middle + 2e-3) if d <= 2 ** (level + 1)} - seen
            assert new <= {1, 2**level + 1 + j}
            seen |= new
    assert seen == set(range(1, 17))


@pytest.mark.parametrize("name", sorted({*STOCHASTIC} - UP))
def test_every_stochastic_method_follows_a_path(name):
    """Every draw is an increment over its row, so the tables pass their check; stages share their parts."""
    for times in (timesteps.pid(), np.linspace(1, 0, 12), timesteps.karras(9)):
        table = coupling.brownian(get_scheduler(name, timesteps=times).table())
        assert 0 not in drawn(table)
        for row, before in zip(table.rows, get_scheduler(name, timesteps=times).table().rows, strict=True):
            assert (row.a, row.b, row.h) == (before.a, before.b, before.h)


@functools.cache
def end_of_path(name, steps):
    table = get_scheduler(name, timesteps=np.linspace(0.95, 0.3, steps + 1)).table()
    return methods.on_gaussian(coupling.brownian(table), 0.3, 0.4)


# The law of FlowSDE has no limit, nor has that of a biased table.
@pytest.mark.parametrize("name", sorted({*STOCHASTIC} - UP - {"flow-sde", "edm-euler", "edm-heun"} - BIASED))
def test_strong_order(name):
    """On the Gaussian flow all follow one path to one limit (but er-sde, an SDE of its own), with strong order 1.

    The error is the root of the mean square over all paths, computed exactly from the weights of the draws. The
    multistep methods' first row, and the higher orders of the drift, make the slope larger at first.
    """
    constant, limit = end_of_path("er-sde" if name == "er-sde" else "seeds-2", 256)
    errors = []
    for n in (8, 16, 32):
        mean, found = end_of_path(name, n)
        off = [limit.get(d, 0.0) - found.get(d, 0.0) for d in limit.keys() | found.keys()]
        errors.append(math.hypot(mean - constant, *off))
    slopes = -np.diff(np.log2(errors))
    assert slopes.min() > 0.85
    assert errors[-1] < 0.06 * math.hypot(*limit.values())


def test_more_steps_of_one_seed_go_to_one_picture():
    """Samples, not only weights: 16 and 32 steps along one path end near each other, with other draws they do not."""
    distances = {}
    for kind in ("brownian", "independent"):
        x, y = (
            sample(Gaussian(0.3, 0.4), get_scheduler("dpmpp-2m-sde", times), shape=SHAPE, noise=kind)
            for times in (np.linspace(0.95, 0.3, 17), np.linspace(0.95, 0.3, 33))
        )
        distances[kind] = np.sqrt(np.mean((x - y) ** 2))
    assert distances["brownian"] < 0.1 * distances["independent"]


def test_samples_along_a_path_have_the_tables_moments():
    table = coupling.brownian(get_scheduler("seeds-2", timesteps=np.linspace(0.9, 0.3, 4)).table())
    mean, weights = methods.on_gaussian(table, 0.3, 0.6)
    eps = noise.normal(1, 0, (3, 120, 120)).astype(np.float64)
    start_x = 0.1 * 0.3 + np.hypot(0.1 * 0.6, 0.9) * eps
    x = sample(Gaussian(0.3, 0.6), table, x=start_x[None], seed=1, dtype=np.float64)
    std = math.hypot(*weights.values())
    assert abs(x.mean() - mean) < 5 * std / np.sqrt(x.size)
    assert abs(x.var() - std**2) < 5 * std**2 * np.sqrt(2 / x.size)


@pytest.mark.parametrize(
    "table",
    [
        get_scheduler("restart@uniform:6").table(),
        FlowSDE([0.5, 0.5 - 1e-7, 0.0]).table(),
        FlowSDE([1.0, 1 - 1e-15, 0.0]).table(),  # both beyond log-SNR -32
    ],
    ids=["up", "near", "far"],
)
def test_no_increment(table):
    with pytest.raises(PidSamplerError, match=r"draws noise but does not go down by a log-SNR of 1\.5e-05"):
        coupling.brownian(table)


def test_a_table_keeps_its_own_initial_noise():
    table = StepTable([Row(0.9, 0.5, b=0.5, noise={0: 0.3, 1: 0.4}), Row(0.5, 0.0, b=1.0)])
    assert dict(coupling.brownian(table).rows[0].noise)[0] == 0.3


@pytest.mark.parametrize("kind", ["fixed", "brownian"])
def test_a_choice_is_the_table_made_so(kind):
    change = {"fixed": coupling.fixed, "brownian": coupling.brownian}[kind]
    scheduler = get_scheduler("sa-solver@uniform:5")
    found = sample(LAW, scheduler, shape=SHAPE, seed=3, noise=kind)
    assert_array_equal(found, sample(LAW, change(scheduler.table()), shape=SHAPE, seed=3))
    run = start(scheduler, found, noise=kind)
    assert run.table == change(scheduler.table())


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("spec", ["flow-sde(eta=0.5)", "sa-solver(order=3)@uniform:6", "seeds-3@uniform:3", "flow-ode"])
def test_a_noise_function(spec, dtype):
    """The package's own noise, given as a function, gives the same bits."""
    expected = sample(LAW, get_scheduler(spec), shape=SHAPE, seed=[4, 9], dtype=dtype)
    found = sample(LAW, get_scheduler(spec), shape=SHAPE, seed=[4, 9], dtype=dtype, noise=noise.normal)
    assert_array_equal(found, expected)


def test_torchs_noise():
    """Draw 0 and each re-noise are the randn calls after manual_seed, one image's seed each."""
    eps = [torch.normal(11, k, SHAPE[1:]).astype(np.float64) for k in range(4)]
    times = timesteps.pid()
    x, m = eps[0][None], np.empty((1, *SHAPE[1:]))
    for k, (t, t_next) in enumerate(pairwise(times), 1):
        LAW.predict(x, t, m)
        x = (1 - t_next) * (x - t * m) + (t_next * eps[k] if t_next else 0)
    found = sample(LAW, FlowSDE(times), shape=SHAPE, seed=[11, 3], dtype=np.float64, noise="torch")
    assert found[:1] == pytest.approx(x, abs=1e-12)
    other = sample(LAW, FlowSDE(times), shape=SHAPE, seed=[3, 11], dtype=np.float64, noise="torch")
    assert_array_equal(found, other[::-1])


@pytest.mark.parametrize(
    ("given_noise", "message"),
    [
        (
            "browian",
            r"unknown noise 'browian': did you mean 'brownian'\? known are brownian, fixed, independent, torch",
        ),
        (3, "noise=3 is neither one of independent, fixed, brownian, torch nor a function"),
        (lambda seed, draw, shape: np.zeros(5, np.float32), r"returned shape \(5,\), expected \(3, 8, 9\)"),
    ],
)
def test_bad_noise(given_noise, message):
    with pytest.raises(PidSamplerError, match=message):
        sample(LAW, FlowODE(timesteps.pid()), shape=SHAPE, noise=given_noise)


def test_a_save_with_noise_of_its_own_is_scaled_with_its_row():
    save = Combination(a=0.2, b=0.5, noise={1: 0.3})
    table = StepTable([Row(0.8, 0.5, a=0.25, b=0.45, noise={1: math.sqrt(0.21)}, saves={0: save}), Row(0.5, 0.0, b=1)])
    row = coupling.fixed(table).rows[0]
    scale = 0.3 / math.sqrt(0.21)
    assert row.noise == ((0, pytest.approx(0.3)),)
    assert dict(row.saves)[0].noise == ((0, pytest.approx(0.3 * scale)),)
