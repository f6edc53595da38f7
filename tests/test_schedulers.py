import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_timesteps import valid_lists

from pidsampler import FlowODE, FlowSDE, PidSamplerError, StepTable, get_scheduler, list_schedulers, timesteps


def test_pid_rows_are_pids_own_to_the_last_bit():
    """x0 = x - t*v, then x = (1 - t')*x0 + t'*eps, and x0 itself at the end."""
    table = FlowSDE(timesteps.pid()).table()
    times = [0.999, 0.866, 0.634, 0.342, 0.0]
    assert list(table.times) == times
    for k, row in enumerate(table.rows):
        assert (row.p, row.q, row.clip) == (1.0, -times[k], None)
        assert (row.a, row.b, row.h, row.saves) == (0.0, 1.0 - times[k + 1], (), ())
        assert row.noise == (((k + 1, times[k + 1]),) if times[k + 1] else ())


@given(valid_lists)
def test_ode_rows(times):
    table = FlowODE(times).table()
    for row in table.rows:
        assert row.a == row.t_next / row.t
        assert row.b == 1.0 - row.t_next / row.t
        assert row.noise == ()
    assert FlowSDE(times, eta=0).table() == table


@given(valid_lists, st.floats(0, 1))
def test_every_eta_builds_a_table_that_passes_its_checks(times, eta):
    table = FlowSDE(times, eta).table()
    assert isinstance(table, StepTable)
    assert len(table) == len(times) - 1
    assert (table.rows[-1].a, table.rows[-1].b, table.rows[-1].noise) == (0.0, 1.0, ())


@given(valid_lists, st.floats(0, 1))
def test_eta_splits_the_noise(times, eta):
    """Of the variance t'^2 at t', eta^2 is fresh and the rest is implied by x."""
    for k, row in enumerate(FlowSDE(times, eta).table().rows):
        fresh = dict(row.noise).get(k + 1, 0.0)
        assert fresh == pytest.approx(eta * row.t_next, abs=0)
        implied = row.a * row.t
        assert implied**2 + fresh**2 == pytest.approx(row.t_next**2, rel=1e-12)


def test_a_partial_list_stops_at_its_noise_level():
    table = FlowSDE(timesteps.custom([0.9, 0.5], partial=True)).table()
    assert table.times == (0.9, 0.5)
    assert table.rows[0].noise == ((1, 0.5),)


@pytest.mark.parametrize("eta", [-0.1, 1.1, math.nan])
def test_eta_out_of_range(eta):
    with pytest.raises(PidSamplerError, match=r"eta=.* is outside 0\.\.1"):
        FlowSDE(timesteps.pid(), eta)


@pytest.mark.parametrize("cls", [FlowSDE, FlowODE])
def test_bad_times_are_refused_at_once(cls):
    with pytest.raises(PidSamplerError, match="ascends"):
        cls([0.5, 0.9, 0.0])


@pytest.mark.parametrize("info", list_schedulers(), ids=lambda info: info.name)
def test_registry_sweep(info):
    """Every registered scheduler: found by name, documented, sourced, right number of rows, repeatable."""
    scheduler = get_scheduler(info.name, timesteps=timesteps.uniform(6))
    assert type(scheduler).info is info
    assert "Source:" in type(scheduler).__doc__
    assert info.source
    assert info.accuracy_order >= 1
    table = scheduler.table()
    assert scheduler.table() == table  # no hidden state
    assert len(table) == 6 * info.model_calls_per_step
    assert StepTable.from_json(table.to_json()) == table
    assert any(row.noise for row in table.rows) == info.stochastic
    assert eval(repr(scheduler), {type(scheduler).__name__: type(scheduler)}).table() == table


def test_specs():
    assert get_scheduler("flow-sde").table() == FlowSDE(timesteps.pid()).table()
    assert get_scheduler("flow-ode@uniform:8").table() == FlowODE(timesteps.uniform(8)).table()
    assert get_scheduler("flow-sde@pid:2", eta=0.5).table() == FlowSDE([0.999, 0.634, 0], eta=0.5).table()
    assert get_scheduler("flow-sde", timesteps=[0.7, 0]).table() == FlowSDE([0.7, 0]).table()


@pytest.mark.parametrize(
    ("spec", "options", "message"),
    [
        ("flow_sde", {}, "unknown scheduler 'flow_sde': did you mean 'flow-sde'"),
        ("zzz", {}, "unknown scheduler 'zzz': known are flow-ode, flow-sde"),
        ("flow-sde@karas:8", {}, "unknown timestep list 'karas'"),
        ("flow-sde@uniform:x", {}, "'x' in 'flow-sde@uniform:x' is not a number of steps"),
        ("flow-sde@uniform:0", {}, "steps=0"),
        ("flow-sde@uniform:8", {"timesteps": [0.5, 0]}, "use one of them"),
        ("flow-ode", {"eta": 0.5}, "flow-ode has no option 'eta': it takes none"),
        ("flow-sde", {"etta": 0.5}, "flow-sde has no option 'etta': it takes eta"),
    ],
)
def test_bad_specs(spec, options, message):
    with pytest.raises(PidSamplerError, match=message):
        get_scheduler(spec, **options)
