from functools import partial

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pidsampler import PidSamplerError, get_scheduler, noise, sample, start
from pidsampler.denoiser import GaussianMixture
from pidsampler.study.shared import count_calls, sample_all

SHAPE = (3, 8, 8)
LAW = GaussianMixture([-0.6, 0.5], [0.1, 0.2], [1, 2])
ODES = ("flow-ode", "heun", "dpmpp-2m", "dpmpp-3m", "unipc")
NOISY = ("flow-sde", "flow-sde(eta=0.5)", "er-sde")
OTHER = (
    "flow-ode@karras:4",
    "flow-ode@pid:4",
    "flow-sde@pid:4",
    "rk4@uniform:2",
    "restart@uniform:5",
    "flow-ode@uniform:1",
)
SPECS = [*(f"{name}@uniform:4" for name in (*ODES, *NOISY)), *OTHER]
TABLES = {spec: get_scheduler(spec).table() for spec in SPECS}


class Counted:
    """The exact network, which counts, and fails at some time."""

    def __init__(self, fails_at=None):
        self.calls, self.fails_at = [], fails_at

    def predict(self, x, t, out):
        if t == self.fails_at:
            raise RuntimeError("out of luck")
        self.calls.append(t)
        LAW.predict(x, t, out)


def fresh(table, seed=3):
    return start(table, noise.normal(seed, 0, SHAPE)[None], seed=seed)


def together(tables, network, **options):
    run = fresh(next(iter(tables.values())))
    return {
        key: x if isinstance(x, Exception) else x.copy()
        for key, x, _ in sample_all(network, tables, run=run, **options)
    }


@given(st.lists(st.sampled_from(SPECS), min_size=1, unique=True))
def test_the_same_bits_as_alone_in_no_more_calls(specs):
    tables, network = {spec: TABLES[spec] for spec in specs}, Counted()
    found = together(tables, network)
    assert found.keys() == tables.keys()
    for spec, x in found.items():
        np.testing.assert_array_equal(x, sample(LAW, tables[spec], shape=(1, *SHAPE), seed=3))
    assert len(network.calls) == count_calls(tables.values()) <= sum(map(len, tables.values()))


def test_calls_that_are_shared():
    assert count_calls([TABLES["flow-ode@uniform:4"], TABLES["flow-sde@uniform:4"]]) == 7  # the first
    assert count_calls([TABLES["flow-ode@uniform:4"], TABLES["dpmpp-2m@uniform:4"]]) < 8
    assert count_calls([TABLES["flow-ode@uniform:4"], TABLES["flow-ode@pid:4"]]) == 8  # other times
    assert count_calls([TABLES["flow-ode@uniform:4"]] * 2) == 4


def test_equal_tables_are_one_run():
    network = Counted()
    found = together({"a": TABLES["heun@uniform:4"], "b": TABLES["heun@uniform:4"]}, network)
    np.testing.assert_array_equal(found["a"], found["b"])
    assert len(network.calls) == len(TABLES["heun@uniform:4"])


def test_costs_add_up_along_each_way():
    costs = {key: cost for key, _, cost in sample_all(Counted(), TABLES, run=fresh(TABLES[SPECS[0]]))}
    assert sum(cost.new_calls for cost in costs.values()) == count_calls(TABLES.values())
    for cost in costs.values():
        assert cost.network > 0
        assert cost.sampler > 0


def test_a_failure_meets_those_who_needed_the_call():
    found = together(TABLES, Counted(fails_at=0.5))
    failed = {spec for spec, x in found.items() if isinstance(x, Exception)}
    assert failed == {spec for spec, table in TABLES.items() if 0.5 in table.times}
    assert 0 < len(failed) < len(TABLES)
    assert {str(found[spec]) for spec in failed} == {"out of luck"}
    for spec in found.keys() - failed:
        np.testing.assert_array_equal(found[spec], sample(LAW, TABLES[spec], shape=(1, *SHAPE), seed=3))


def test_previews_are_those_of_each():
    seen = {}

    def on_step(key, run, m):
        seen.setdefault(key, []).append((run.row.t, run.predict_x0(m).copy()))

    together(TABLES, Counted(), on_step=on_step)
    for spec, table in TABLES.items():
        sample(LAW, table, shape=(1, *SHAPE), seed=3, on_step=partial(on_step, f"{spec} alone"))
        for (t, x), (t_alone, alone) in zip(seen[spec], seen[f"{spec} alone"], strict=True):
            assert t == t_alone
            np.testing.assert_array_equal(x, alone)


@pytest.mark.parametrize("kind", ["fixed", "brownian", "torch"])
def test_any_noise(kind):
    tables = {
        spec: TABLES[spec] for spec in ("flow-sde@uniform:4", "flow-sde(eta=0.5)@uniform:4", "flow-ode@uniform:4")
    }
    drawn = {spec: noise.with_noise(table, kind) for spec, table in tables.items()}
    function = next(iter(drawn.values()))[1] or noise.normal
    first = next(iter(tables.values()))
    run = start(first, function(3, 0, SHAPE)[None], seed=3, noise=kind)
    for spec, x, _ in sample_all(LAW, {spec: table for spec, (table, _) in drawn.items()}, run=run):
        np.testing.assert_array_equal(x, sample(LAW, tables[spec], shape=(1, *SHAPE), seed=3, noise=kind))


def test_a_branch_needs_the_rows_that_are_done():
    run = fresh(TABLES["heun@uniform:4"])
    run.step(run.x)
    with pytest.raises(PidSamplerError, match="1 rows that are done"):
        run.branch(TABLES["heun@uniform:4"].__class__(TABLES["flow-ode@uniform:4"].rows))
