import functools
import os
import tracemalloc
from itertools import pairwise

import numpy as np
import pytest
from attrs import evolve
from hypothesis import given, settings
from hypothesis import strategies as st
from methods import adams_bashforth_2, heun
from numpy.testing import assert_allclose, assert_array_equal

from pidsampler import Combination, FlowODE, FlowSDE, PidSamplerError, Row, StepTable, noise, sample, start, timesteps
from pidsampler.backends import get_backend
from pidsampler.denoiser import Gaussian, GaussianMixture, Guided

SHAPE = (2, 3, 20, 17)
TABLES = {
    "sde": FlowSDE(timesteps.pid()).table(),
    "eta": FlowSDE(timesteps.pid(), eta=0.3).table(),
    "ode": FlowODE(timesteps.pid()).table(),
    "clip": FlowODE(timesteps.pid()).table().clipped(0.13),
    "heun": heun(timesteps.uniform(5)),
    "ab2": adams_bashforth_2(timesteps.uniform(5)),
    "saved noise": StepTable(  # a save with noise, a save of a save, and two draws in one row
        [
            Row(0.9, 0.6, b=0.4, noise={1: 0.36, 2: 0.48}, saves={1: Combination(b=0.5, noise={1: 0.3}, a=0.2)}),
            Row(0.6, 0.3, b=0.7, noise={3: 0.3}, saves={0: Combination(h={1: 2.0}, b=-1.0), 2: Combination()}),
            Row(0.3, 0.0, b=1.0, h={2: 5.0}),
        ]
    ),
    "eps": FlowODE([0.9, 0.5, 0.0]).table().predicting("eps"),
    "x0": FlowSDE([0.9, 0.5, 0.0]).table().predicting("x0"),
}


def reference(network, table, x, seeds):
    """The formula of a table's row, whole tensors at a time, float64."""
    x = x.astype(np.float64)
    saved = {}

    def combined(c, x0):
        total = c.a * x + c.b * x0 + sum(w * saved[k] for k, w in c.h)
        for draw, w in c.noise:
            total = total + w * np.stack([noise.normal(s, draw, x.shape[1:]) for s in seeds]).astype(np.float64)
        return total

    for row in table.rows:
        x0 = row.p * x + row.q * network(x, row.t)
        if row.clip is not None:
            x0 = np.clip(x0, -row.clip, row.clip)
        new = combined(row, x0)
        saved |= {slot: combined(c, x0) for slot, c in row.saves}
        x = new
    return x


def network(x, t):
    out = np.empty_like(x)
    GaussianMixture([-0.6, 0.5], [0.1, 0.2], [1, 2]).predict(x, t, out)
    return out


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float64, 1e-12), (np.float32, 2e-5)])
@pytest.mark.usefixtures("both")
def test_equals_the_formula(name, dtype, tolerance):
    seeds = [3, 2**63]
    x = np.stack([noise.normal(s, 0, SHAPE[1:]) for s in seeds])
    expected = reference(network, TABLES[name], x, seeds)
    found = sample(network, TABLES[name], shape=SHAPE, seed=seeds, dtype=dtype)
    assert found.dtype == dtype
    assert np.abs(found - expected).max() < tolerance


@pytest.mark.parametrize("name", ["eta", "heun"])
def test_the_same_bits_over_a_hundred_runs(name):
    first = sample(network, TABLES[name], shape=SHAPE, seed=3)
    for _ in range(100):
        assert_array_equal(sample(network, TABLES[name], shape=SHAPE, seed=3), first)


def test_large_images_cross_chunks():
    """More elements than a chunk, and a tail: 3*210*211 = 132930."""
    shape = (1, 3, 210, 211)
    x = noise.normal(9, 0, shape[1:])[None]
    for name in ("eta", "saved noise", "clip"):
        found = sample(network, TABLES[name], shape=shape, seed=9, dtype=np.float64)
        assert np.abs(found - reference(network, TABLES[name], x, [9])).max() < 1e-12


@settings(max_examples=30)
@given(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=4), st.integers(0, 3))
def test_an_image_does_not_depend_on_its_batch(seeds, k):
    k %= len(seeds)
    table = TABLES["eta"]
    batch = sample(network, table, shape=(len(seeds), 3, 5, 7), seed=seeds)
    alone = sample(network, table, shape=(1, 3, 5, 7), seed=seeds[k])
    assert_array_equal(batch[k], alone[0])


def test_one_seed_counts_up_over_the_batch():
    found = sample(network, TABLES["sde"], shape=(3, 3, 4, 4), seed=5)
    assert_array_equal(found, sample(network, TABLES["sde"], shape=(3, 3, 4, 4), seed=[5, 6, 7]))
    assert not np.array_equal(found[0], found[1])


@pytest.mark.parametrize("name", TABLES)
def test_a_loop_of_ones_own_gives_the_same(name):
    table = TABLES[name]
    x = np.stack([noise.normal(s, 0, SHAPE[1:]) for s in (4, 5)])
    before = x.copy()
    run = start(table, x, seed=4)
    assert len(run) == len(table)
    times = []
    for row in run:
        times.append(row.t)
        run.step(network(run.x, row.t))
    assert times == list(table.times[:-1])
    assert_array_equal(run.x, sample(network, table, shape=SHAPE, seed=4))
    assert_array_equal(x, before)


def test_in_place_uses_the_callers_memory():
    x = np.stack([noise.normal(s, 0, SHAPE[1:]) for s in (4, 5)])
    run = start(TABLES["sde"], x, seed=4, inplace=True)
    assert run.x is x
    for row in run:
        run.step(network(run.x, row.t))
    assert_array_equal(x, sample(network, TABLES["sde"], shape=SHAPE, seed=4))


def test_two_runs_interleave():
    x = noise.normal(1, 0, (3, 8, 8))[None]
    one, two = start(TABLES["heun"], x, seed=1), start(TABLES["eta"], x, seed=1)
    rows_one, rows_two = iter(one), iter(two)
    for _ in range(4):
        one.step(network(one.x, next(rows_one).t))
        two.step(network(two.x, next(rows_two).t))
    for row in rows_one:
        one.step(network(one.x, row.t))
    shape = (1, 3, 8, 8)
    assert_array_equal(one.x, sample(network, TABLES["heun"], shape=shape, seed=1))
    assert_array_equal(two.x, sample(network, TABLES["eta"], shape=shape, seed=1))


def test_a_run_can_be_left_and_taken_up():
    run = start(TABLES["sde"], noise.normal(1, 0, (3, 8, 8))[None], seed=1)
    for row in run:
        run.step(network(run.x, row.t))
        if run.index == 2:
            break
    for row in run:
        run.step(network(run.x, row.t))
    assert_array_equal(run.x, sample(network, TABLES["sde"], shape=(1, 3, 8, 8), seed=1))


def test_from_given_images_and_a_scheduler():
    x = noise.normal(1, 0, (3, 8, 8))[None] * 0.5
    kept = x.copy()
    scheduler = FlowODE(timesteps.custom([0.5, 0.2], partial=True))
    found = sample(network, scheduler, x=x)
    assert_array_equal(x, kept)
    row = scheduler.table().rows[0]
    assert np.allclose(found, x + (0.2 - 0.5) * network(x, row.t), atol=1e-6)


def test_network_is_called_once_a_row_with_its_time():
    calls = []

    class Counting:
        def predict(self, x, t, out):
            calls.append(t)
            out[...] = network(x, t)

    sample(Counting(), TABLES["heun"], shape=(1, 3, 4, 4))
    assert calls == list(TABLES["heun"].times[:-1])


class Half:
    """A network that reads and writes half precision, and keeps what it was given."""

    input_dtype = output_dtype = np.dtype(np.float16)

    def __init__(self):
        self.seen = []

    def predict(self, x, t, out):
        assert (x.dtype, out.dtype) == (np.float16, np.float16)
        self.seen.append((t, x.copy()))
        out[...] = network(x.astype(np.float32), t)


def begun(name, seed=4):
    run = start(TABLES[name], np.empty(SHAPE, np.float32), seed=seed, inplace=True)
    run.initial_noise()
    return run


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("net", [network, Half()], ids=["float32", "float16"])
def test_a_run_advances_row_by_row_or_to_its_end(name, net):
    expected = sample(net, TABLES[name], shape=SHAPE, seed=4)
    run = begun(name)
    for row in run:
        assert row is run.row
        run.advance(net)
    assert_array_equal(run.x, expected)
    run = begun(name)
    run.advance(net)
    assert run.finish(net) is run.x
    assert_array_equal(run.x, expected)
    assert run.finish(net) is run.x  # nothing is left to do
    run = begun(name)
    for _ in run:
        run.step(run.evaluate(net))
    assert_array_equal(run.x, expected)


def test_the_initial_noise_is_draw_0_of_the_noise_given():
    run = begun("sde", seed=[8, 3])
    assert_array_equal(run.x, np.stack([noise.normal(s, 0, SHAPE[1:]) for s in (8, 3)]))
    run = start(TABLES["sde"], run.x, seed=[8, 3], noise=lambda seed, draw, shape: np.full(shape, seed + draw))
    run.initial_noise()
    assert_array_equal(run.x[:, 0, 0, 0], [8, 3])


def test_a_network_sees_x_as_it_is_also_where_the_caller_has_changed_it():
    run, net = begun("heun"), Half()
    for _ in run:
        before = run.x.copy()
        run.advance(net)
        assert_array_equal(net.seen[-1][1], before.astype(np.float16))
        run.x[...] *= 0.5


def test_a_run_evaluates_at_another_time_too():
    run = begun("sde")
    m = run.evaluate(network, 0.5)
    assert_array_equal(m, network(run.x, 0.5))
    assert run.index == 0
    assert run.evaluate(network) is m  # overwritten


def guided_rows(scale):
    """Euler's steps by a network that is guided in the rows."""
    rows = []
    for t, t_next in pairwise([0.9, 0.6, 0.3, 0.0]):
        rows.append(Row(t, t, a=1.0, net=1, saves={0: Combination(b=1.0)}))
        rows.append(Row(t, t_next, a=t_next / t, b=(1 - t_next / t) * scale, h={0: (1 - t_next / t) * (1 - scale)}))
    return StepTable(rows)


def other_network(x, t):
    out = np.empty_like(x)
    Gaussian(0.3, 0.4).predict(x, t, out)
    return out


def test_rows_that_guide_do_what_guided_does():
    found = sample((network, other_network), guided_rows(2.5), shape=SHAPE, dtype=np.float64)
    guided = Guided(network, other_network, 2.5)
    expected = sample(guided, FlowODE([0.9, 0.6, 0.3, 0.0]), shape=SHAPE, dtype=np.float64)
    assert_allclose(found, expected, rtol=0, atol=1e-14)
    run = start(guided_rows(2.5), found)
    for row in run:
        run.step((network, other_network)[row.net](run.x, row.at))
    assert_array_equal(run.x, sample((network, other_network), guided_rows(2.5), x=found, dtype=np.float64))


def test_a_network_that_reads_half_precision_beside_one_that_does_not():
    """The copy of x that a row makes for the next call is used only if that is a call of the same network."""
    half = Half()
    run = start(guided_rows(1.5), np.empty(SHAPE, np.float32), inplace=True)
    run.initial_noise()
    states = []
    run.finish((half, other_network), lambda run, m: states.append(run.x.astype(np.float16)))
    assert [t for t, _ in half.seen] == [0.9, 0.6, 0.3]
    for (_, seen), state in zip(half.seen, states[1::2], strict=True):
        assert_array_equal(seen, state)


def test_a_network_is_told_the_time_of_the_row():
    told = []

    def listening(x, t):
        told.append(t)
        return network(x, t)

    rows = [evolve(row, at=at) for row, at in zip(FlowODE([0.9, 0.5, 0.0]).table(), (0.8, 0.4), strict=True)]
    sample(listening, StepTable(rows), shape=SHAPE)
    assert told == [0.8, 0.4]


def test_one_network_is_refused_where_the_rows_ask_two():
    for one, what in ((network, "one network"), (Guided(network, network, 2.0), "one that is guided already")):
        with pytest.raises(PidSamplerError, match=rf"found {what}: pass the tuple \(conditional, unconditional\)"):
            sample(one, guided_rows(2.0), shape=SHAPE)


def test_a_step_of_ones_own_between_is_noticed():
    with pytest.raises(PidSamplerError, match="called 2 times for row 0"):
        sample(network, TABLES["sde"], shape=SHAPE, on_step=lambda run, m: run.step(m))


def test_previews_progress_and_cancel():
    seen = []

    def on_step(run, m):
        preview = run.predict_x0(m)
        assert np.allclose(preview, run.x - run.row.t * m, atol=1e-6)
        seen.append((run.index, len(run), run.row.t))

    found = sample(network, TABLES["sde"], shape=SHAPE, seed=2, on_step=on_step)
    assert seen == [(0, 4, 0.999), (1, 4, 0.866), (2, 4, 0.634), (3, 4, 0.342)]
    assert_array_equal(found, sample(network, TABLES["sde"], shape=SHAPE, seed=2))  # looking changes nothing

    class CancelledError(Exception):
        pass

    def cancel(run, m):
        if run.index == 1:
            raise CancelledError

    with pytest.raises(CancelledError):
        sample(network, TABLES["sde"], shape=SHAPE, on_step=cancel)


def test_preview_is_clipped_and_writes_where_told():
    run = start(TABLES["ode"].clipped(0.125), noise.normal(0, 0, (3, 8, 8))[None])
    m = network(run.x, run.row.t)
    out = np.full_like(run.x, np.nan)
    assert run.predict_x0(m, out) is out
    assert np.abs(out).max() == 0.125
    for bad in (
        np.empty((1, 3, 8, 7), np.float32),
        np.empty((1, 3, 8, 8)),
        np.empty((1, 3, 8, 16), np.float32)[..., ::2],
    ):
        with pytest.raises(PidSamplerError, match="contiguous float32 array of shape"):
            run.predict_x0(m, bad)


@pytest.mark.parametrize("dtype", [np.float16, np.float32, np.float64])
def test_network_output_of_any_float_type(dtype):
    x = noise.normal(1, 0, (3, 8, 8))[None]
    run, same = start(TABLES["ode"], x), start(TABLES["ode"], x)
    m = network(x, 0.999).astype(dtype)
    run.step(m)
    same.step(m.astype(np.float32))
    assert np.allclose(run.x, same.x, atol=1e-6)
    assert run.x.dtype == np.float32


def test_any_cpu_tensor_through_dlpack_or_array():
    class Tensor:
        """What torch's CPU tensor shows: DLPack, and no numpy type."""

        def __init__(self, array):
            self.array = array

        def __dlpack__(self, **options):
            return self.array.__dlpack__(**options)

        def __dlpack_device__(self):
            return self.array.__dlpack_device__()

    memory = noise.normal(1, 0, (3, 8, 8))[None]
    run = start(TABLES["ode"], Tensor(memory), inplace=True)
    assert run.x.ctypes.data == memory.ctypes.data
    for row in run:
        run.step(Tensor(network(run.x, row.t)))
    assert_array_equal(memory, sample(network, TABLES["ode"], shape=(1, 3, 8, 8), seed=1))


def test_bytes_after_the_first_step():
    """Nothing of x's size is allocated in the loop: a chunk's scratch for each of at most eight threads is all."""
    shape = (1, 3, 1024, 1024)
    x_bytes = 3 * 1024 * 1024 * 4
    for table in (TABLES["eta"], TABLES["heun"], TABLES["ab2"]):
        m = np.full(shape, 0.1, np.float32)
        run = start(table, noise.normal(0, 0, shape[1:])[None])
        address = run.x.ctypes.data
        run.step(m)
        tracemalloc.start()
        try:
            for _ in run:
                run.step(m)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert run.x.ctypes.data == address
        assert peak < x_bytes, f"{peak} bytes of scratch for x of {x_bytes}"


def of_many_chunks():
    found = sample(network, TABLES["eta"], shape=(2, 3, 331, 401), seed=5)
    get_backend("numpy").noise(found, [8, 9], draw=3, stream=1, keep=0.5, scale=2.0)
    return found


on_one_core = functools.cache(of_many_chunks)


@pytest.mark.parametrize("cores", [2, 3, 7, 64])
def test_any_number_of_cores_gives_the_same(monkeypatch, cores):
    """Of an image whose size is no multiple of a chunk; every element is written once."""
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(cores), raising=False)
    found = of_many_chunks()
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(1), raising=False)
    assert_array_equal(found, on_one_core())


def test_an_error_on_any_core_is_raised(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(2), raising=False)
    with pytest.raises(PidSamplerError, match="seed=-1"):
        get_backend("numpy").noise(np.empty((1, 3, 400, 400), np.float32), [-1], draw=0)


@pytest.mark.parametrize("eta", [0.0, 0.5, 1.0])
def test_law_on_the_gaussian_flow(eta):
    """On the exact flow of N(0.3, 0.2^2) each step is affine in x, so mean and variance have a recursion.

    x0 = mean + g*(x - (1-t)*mean), g = (1-t)*std^2 / ((1-t)^2*std^2 + t^2): the result's mean and standard deviation
    are within 5 standard errors of it.
    """
    mean, std, shape = 0.3, 0.2, (1, 3, 200, 200)
    table = FlowSDE(timesteps.uniform(8), eta).table()
    x = sample(Gaussian(mean, std), table, shape=shape, seed=11, dtype=np.float64)
    expected_mean, variance = 0.0, 1.0
    for row in table.rows:
        keep = 1 - row.t
        g = keep * std**2 / (keep**2 * std**2 + row.t**2)
        expected_mean = row.a * expected_mean + row.b * (mean + g * (expected_mean - keep * mean))
        variance = (row.a + row.b * g) ** 2 * variance + sum(w**2 for _, w in row.noise)
    assert abs(x.mean() - expected_mean) < 5 * np.sqrt(variance / x.size)
    assert abs(x.var() - variance) < 5 * variance * np.sqrt(2 / x.size)


LAWS = {"gaussian": Gaussian(0.3, 0.5), "mixture": GaussianMixture([-0.6, 0.5], [0.3, 0.2], [1, 2])}


def from_095_to_01(make, law, steps):
    x = noise.normal(0, 0, (3, 8, 8))[None].astype(np.float64)
    return sample(LAWS[law], make(np.linspace(0.95, 0.1, steps + 1)), x=x, dtype=np.float64)


@functools.cache
def converged(law):
    return from_095_to_01(heun, law, 1024)


@pytest.mark.parametrize(("method", "order"), [(lambda ts: FlowODE(ts).table(), 1), (heun, 2), (adams_bashforth_2, 2)])
@pytest.mark.parametrize("law", LAWS)
def test_order_of_convergence(method, order, law):
    """Error against a run of 1024 Heun steps, from t = 0.95 to 0.1: the slope over 16..128 steps is the order."""
    counts = [16, 32, 64, 128]
    errors = [np.abs(from_095_to_01(method, law, n) - converged(law)).mean() for n in counts]
    slope = -np.polyfit(np.log2(counts), np.log2(errors), 1)[0]
    assert slope == pytest.approx(order, abs=0.2)


GOOD = noise.normal(0, 0, (3, 4, 4))[None]


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: sample(network, TABLES["sde"]), r"shape is None, expected \(batch, 3, height, width\)"),
        (lambda: sample(network, TABLES["sde"], shape=(4,)), "expected .batch"),
        (lambda: sample(network, TABLES["sde"], shape=(1, 3, 0, 4)), "all above 0"),
        (lambda: sample(network, TABLES["sde"], shape=(1, 3, 4, 5), x=GOOD), "disagree"),
        (lambda: sample(network, TABLES["sde"], shape=SHAPE, backend="nunpy"), "did you mean 'numpy'"),
        (lambda: sample(network, TABLES["sde"], shape=SHAPE, dtype=np.float16), "float16 is not float32 or float64"),
        (lambda: sample(network, TABLES["sde"], shape=SHAPE, seed=[1]), "1 seeds for a batch of 2"),
        (lambda: sample(network, "sde", shape=SHAPE), "unknown scheduler 'sde': did you mean"),
        (lambda: sample(network, 3, shape=SHAPE), "the sampler is 3, expected a spec, a scheduler or StepTable"),
        (lambda: sample(network, lambda times: 3, shape=SHAPE), r"\(timesteps\) returned 3, expected a StepTable"),
        (lambda: sample(network, lambda: 3, shape=SHAPE), r"failed: TypeError: .*takes 0 positional arguments"),
        (lambda: sample(network, TABLES["sde"], shape=(1, "a")), r"shape is \(1, 'a'\), expected \(batch"),
        (lambda: sample(network, TABLES["sde"], shape=3), r"shape is 3, expected \(batch"),
        (lambda: sample(network, TABLES["sde"], shape=SHAPE, dtype="x"), "dtype='x' is no element type"),
        (lambda: sample(network, TABLES["sde"], shape=SHAPE, dtype=None), "dtype=None is no element type"),
        (lambda: sample(network, TABLES["sde"], shape=SHAPE, noise=3), "noise=3 is neither one of independent, fixed"),
        (lambda: sample(network, TABLES["sde"], shape=SHAPE, on_step=3), r"on_step=3 must be a function"),
        (lambda: start(TABLES["sde"], GOOD, inplace="x"), "inplace='x' must be True or False"),
        (lambda: sample(3, TABLES["sde"], shape=SHAPE), "expected a Denoiser"),
        (lambda: sample(lambda x, t: x[:, :1], TABLES["sde"], shape=SHAPE), r"returned shape \(2, 1, 20, 17\)"),
        (lambda: sample(lambda x, t: None, TABLES["sde"], shape=SHAPE), "returned shape None"),
        (lambda: start(TABLES["sde"], GOOD.astype(np.float16)), "x is float16"),
        (lambda: start(TABLES["sde"], GOOD[0, 0, 0]), r"x is float32 of shape \(4,\)"),
        (lambda: start(TABLES["sde"], "x"), "str cannot be read as a CPU array"),
        (lambda: start(TABLES["sde"], GOOD[..., ::2], inplace=True), "must be contiguous and writable"),
        (lambda: start(TABLES["sde"], GOOD).step(GOOD[..., :2]), "output has shape .* expected that of x"),
    ],
)  # fmt: skip
def test_refuses(call, message):
    with pytest.raises(PidSamplerError, match=message):
        call()


def test_forgetting_or_repeating_step_is_noticed():
    run = start(TABLES["sde"], GOOD)
    with pytest.raises(PidSamplerError, match=r"called 0 times for row 0, expected once"):
        for _ in run:
            pass
    run = start(TABLES["sde"], GOOD)
    rows = iter(run)
    next(rows)
    run.step(GOOD)
    run.step(GOOD)
    with pytest.raises(PidSamplerError, match=r"called 2 times for row 0"):
        next(rows)
    while run.index < len(run):
        run.step(GOOD)
    with pytest.raises(PidSamplerError, match="all 4 rows of this run are done"):
        run.step(GOOD)
