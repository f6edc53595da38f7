"""Wrappers of tables: rows written out, how specs name them, and what is said of wrong ones."""

import pickle

import numpy as np
import pytest

from pidsampler import PidSamplerError, StepTable, get_scheduler, list_schedulers, timesteps
from pidsampler.denoiser import Gaussian
from pidsampler.sampler import sample
from pidsampler.schedulers import (
    FlowODE,
    FlowSDE,
    Heun,
    dcw,
    decoupled,
    detail,
    epsilon_scaling,
    lying,
    s_noise,
    time_shift,
    wrappers,
)

TIMES = [0.9, 0.8, 0.6, 0.4, 0.2, 0.0]
ODE = FlowODE(TIMES)


def test_detail_tells_less_noise_in_the_middle_and_reads_x0_there():
    """Five steps: it rises from 0 at step 1 (0.2*4 rounded) to its most at step 2, and falls to 0 at step 3."""
    table = detail(ODE, 2.0)
    assert [row.at for row in table] == [0.9, 0.8, pytest.approx(0.6 * 0.8), 0.4, 0.2]
    assert all((row.p, row.q) == (1.0, -row.at) for row in table)
    assert [(row.a, row.b) for row in table] == [(row.a, row.b) for row in ODE.table()]
    assert table.predicting("velocity") == table
    assert [row.at for row in detail(ODE, -2.0, start=0, end=1)] == pytest.approx([0.9, 0.88, 0.72, 0.44, 0.2])
    assert [row.at for row in detail(ODE, 2.0, start=0, end=1, smooth=False, exponent=2)] == pytest.approx(
        [0.9, 0.8 * 0.95, 0.6 * 0.8, 0.4 * 0.95, 0.2]
    )
    assert detail(FlowODE([0.9, 0.0])) == FlowODE([0.9, 0.0]).table()


def test_detail_counts_steps_of_the_list_and_not_rows():
    stages = detail(Heun(TIMES), 2.0)
    assert {row.t: row.at for row in stages} == {row.t: row.at for row in detail(ODE, 2.0)}
    # Stages between two times: their share is between too.
    between = detail(get_scheduler("midpoint", TIMES), 2.0)
    assert between[3].t == pytest.approx(0.7)
    assert between[3].at == pytest.approx(0.7 * 0.9)
    assert detail(Heun(TIMES).table(), 2.0) == stages  # its times are those of the list


def test_what_is_told_stays_within_0_and_1():
    assert [row.at for row in lying(ODE, 0.5)] == [1.0, 1.0, pytest.approx(0.9), pytest.approx(0.6), pytest.approx(0.3)]
    assert [row.at for row in detail(ODE, 5, start=0.5, end=0.5)] == [0.9, 0.8, 0.3, 0.4, 0.2]


def test_lying_tells_a_share_between_two_times():
    assert [row.at for row in lying(ODE, -0.1, start=0.2, end=0.6)] == [0.9, 0.8 * 0.9, 0.6 * 0.9, 0.4 * 0.9, 0.2]


def test_decoupled_and_shifted_times_read_x0_at_the_noise_level_of_x():
    told = [0.95, 0.7, 0.5, 0.3, 0.1]
    table = decoupled(ODE, told)
    assert [row.at for row in table] == told
    assert [row.q for row in table] == [-t for t in TIMES[:-1]]
    assert decoupled(ODE, "0.95/0.7/0.5/0.3/0.1") == table
    assert get_scheduler("flow-ode.decoupled(at=0.95/0.7/0.5/0.3/0.1)", TIMES).table() == table
    assert decoupled(ODE) == ODE.table()
    shifted = time_shift(ODE, -0.25, cutoff=0.3)
    assert [row.at for row in shifted] == pytest.approx([0.65, 0.55, 0.35, 0.15, 0.2])
    assert [row.at for row in time_shift(ODE, -0.25)] == pytest.approx([0.65, 0.55, 0.35, 0.15, 0.2])  # 0.2 cannot be
    assert {row.q for row in shifted} == {-t for t in TIMES[:-1]}


def test_what_a_network_is_told_changes_what_it_answers():
    x = sample(Gaussian(0.3, 0.6), detail(ODE, 5.0), shape=(1, 3, 4, 4), dtype=np.float64)
    assert np.abs(x - sample(Gaussian(0.3, 0.6), ODE, shape=(1, 3, 4, 4), dtype=np.float64)).max() > 1e-3


def test_s_noise_scales_what_rows_draw_and_declares_it():
    table, plain = s_noise(FlowSDE(TIMES), 1.5), FlowSDE(TIMES).table()
    for row, old in zip(table, plain, strict=True):
        assert [(d, w) for d, w in row.noise] == [(d, pytest.approx(1.5 * w)) for d, w in old.noise]
        assert row.biased == bool(old.noise)
    assert table.bias[0].noise == pytest.approx(0.5 * 0.8)
    assert s_noise(ODE) == ODE.table()
    assert s_noise(FlowSDE(TIMES), 1.0) == plain


def test_epsilon_scaling_of_the_velocity_is_that_of_comfyui():
    """denoised becomes x - (x - denoised)/f: on a network that returns m, Euler's step is of v/f."""
    [first, *_], last = epsilon_scaling(ODE, 1.25), epsilon_scaling(ODE, 1.25)[-1]
    x, m = 0.7, 0.4
    x0 = x - 0.9 * m / 1.25
    assert first.a * x + first.b * (x - 0.9 * m) == pytest.approx(x - (0.9 - 0.8) * m / 1.25)
    assert last.a * x + last.b * (x - 0.9 * m) == pytest.approx(x0)
    assert first.biased


def test_epsilon_scaling_of_eps_keeps_the_image():
    """x0 of eps/f: the image's share stays, since x = (1 - t)*x0 + t*eps; the noise's does not."""
    table = epsilon_scaling(ODE, 1.25, slope=-0.5, of="eps", t_max=0.6)
    assert [row.biased for row in table] == [False, False, True, True, True]
    assert [bias.mean for bias in table.bias] == pytest.approx([0.0] * 5, abs=1e-12)
    f = 1.25 - 0.5 * 0.6
    assert table.bias[2].noise == pytest.approx((0.6 - 0.4) / (1 - 0.6) * (1 - 1 / f))


def test_dcw_moves_x_away_from_x0_where_a_step_ends():
    table, plain = dcw(ODE, 0.1), ODE.table()
    for row, old in zip(table, plain, strict=True):
        s = 0.1 * old.t
        x, x0 = 0.7, 0.2
        after = old.a * x + old.b * x0
        assert row.a * x + row.b * x0 == pytest.approx(after + s * (after - x0))
    assert (table[-1].a, table[-1].b, table[-1].biased) == (0.0, 1.0, False)
    stages = dcw(Heun(TIMES), 0.1)
    assert [row.biased for row in stages] == [*[False, True] * 4, False]


@pytest.mark.parametrize("name", [name for name in wrappers.WRAPPERS if name not in ("decoupled", "inverted")])
@pytest.mark.parametrize("info", list_schedulers(), ids=lambda info: info.name)
def test_every_method_can_be_wrapped(info, name):
    """Rows that read what a changed row has saved are declared as well: else the table would be refused."""
    plain, table = (get_scheduler(info.name + suffix, TIMES).table() for suffix in ("", f".{name}"))
    assert len(table) == len(plain)
    told = name in ("detail", "lying", "time_shift")
    assert table != plain or (name == "s_noise" and not info.stochastic)
    assert plain.bias or bool(table.bias) != told or table == plain


@pytest.mark.parametrize(
    ("spec", "canonical"),
    [
        ("euler.detail@uniform:8", "flow-ode.detail@uniform:8"),
        ("heun . detail( end = 0.70, amount=.5 ) @karras:8", "heun.detail(amount=0.5,end=0.7)@karras:8"),
        ("heun.Time-Shift.epsilon scaling@uniform:4", "heun.time_shift.epsilon_scaling@uniform:4"),
        ("DPM++ 2M Karras.detail:8", "dpmpp-2m.detail@karras:8"),
        ("lcm(eta=0.5).s_noise(factor=1.1).detail(smooth=false)", None),
        ("flow-sde(eta=0.5).s_noise.detail(smooth=false)@pid", "flow-sde(eta=0.5).s_noise.detail(smooth=False)@pid"),
    ],
)
def test_specs_name_wrappers(spec, canonical):
    made = get_scheduler(spec)
    assert canonical in (None, str(made))
    again = get_scheduler(str(made)) if canonical else get_scheduler(spec)
    assert again == made
    assert hash(again) == hash(made)
    assert again.table() == made.table()
    assert pickle.loads(pickle.dumps(made)) == made


def test_wrappers_apply_from_left_to_right_and_print():
    made = get_scheduler("flow-sde.dcw(scale=0.5).epsilon_scaling(factor=1.5)", TIMES)
    assert made.table() == epsilon_scaling(dcw(FlowSDE(TIMES), 0.5), 1.5)
    assert made.table() != dcw(epsilon_scaling(FlowSDE(TIMES), 1.5), 0.5)
    assert str(made) == f"FlowSDE({TIMES}, eta=1.0).dcw(scale=0.5).epsilon_scaling(factor=1.5)"
    assert made != get_scheduler("flow-sde.dcw(scale=0.5).epsilon_scaling(factor=1.6)", TIMES)
    assert get_scheduler("flow-sde.dcw", TIMES, eta=0.5).table() == dcw(FlowSDE(TIMES, 0.5))
    assert get_scheduler("flow-sde.dcw", "uniform:4").timesteps.tolist() == timesteps.uniform(4).tolist()


def test_a_wrapper_of_ones_own_and_a_sampler_of_a_file(tmp_path):
    @wrappers.WRAPPERS.register
    def shorter(sampler, rows=1):
        return StepTable(sampler.table()[rows:])

    try:
        assert get_scheduler("flow-ode.shorter(rows=2)", TIMES).table() == StepTable(ODE.table()[2:])
        (tmp_path / "mine.py").write_text("from pidsampler.schedulers import Heun as mine\n")
        made = get_scheduler(f"{tmp_path}/mine.py:mine.detail(amount=1)@uniform:5")
        assert made.table() == detail(Heun(timesteps.uniform(5)), 1)
        assert str(made) == f"{tmp_path}/mine.py:mine.detail(amount=1)@uniform:5"
        with pytest.raises(PidSamplerError, match="shorter failed: TypeError"):
            get_scheduler("flow-ode.shorter(rows=x)", TIMES).table()
        wrappers.WRAPPERS.register(lambda sampler: 3, name="three")
        with pytest.raises(PidSamplerError, match="the table of the wrapper three=3 must be a StepTable"):
            get_scheduler("flow-ode.three", TIMES).table()
    finally:
        for name in ("shorter", "three"):
            wrappers.WRAPPERS.unregister(name)


@pytest.mark.parametrize(
    ("wrapper", "message"),
    [
        ("detial", "unknown wrapper 'detial': did you mean 'detail'"),
        ("detail(amont=1)", "detail has no option 'amont': did you mean 'amount'"),
        ("detail(amount=9)", r"amount=9 must be a finite number in \[-5, 5\]"),
        ("detail(smooth=2)", "smooth=2 must be True or False"),
        ("detail(start=2)", r"start=2 must be .* in \[0, 1\]"),
        ("detail()x", "cannot read"),
        ("", "cannot read"),
        ("lying(factor=-1)", "factor=-1 must be a finite number above -1"),
        ("decoupled(at=0.5/x)", "at='0.5/x' must be numbers such as 0.98/0.6/0.3"),
        ("decoupled(at=0.5/0.4)", r"at=\(0\.5, 0\.4\) are 2 times for 5 rows"),
        ("decoupled(at=0.5)", "at=0.5 are 1 times for 5 rows"),
        ("decoupled(at=0.5/0)", r"at=0.0 must be a finite number in \(0, 1\]"),
        ("time_shift(by=2)", r"by=2 must be .* in \[-1, 1\]"),
        ("decoupled(at=0.9/0.8/0.5/0.4/0.2).detail(amount=5)", "expected p = 1 and q = -at"),
        ("s_noise(factor=-1)", "factor=-1 must be a finite number from 0"),
        ("epsilon_scaling(factor=0)", r"factor=0 must be .* in \(0, 2\]"),
        ("epsilon_scaling(factor=0.5,slope=-1)", "the divisor at t=0.9=-0.4 must be a finite number above 0"),
        ("epsilon_scaling(of=x0)", "of 'x0'"),
        ("dcw(scale=2)", r"scale=2 must be .* in \[-1, 1\]"),
    ],
)
def test_wrong_wrappers(wrapper, message):
    with pytest.raises(PidSamplerError, match=message):
        get_scheduler(f"flow-ode.{wrapper}", TIMES).table()


def test_eps_cannot_be_scaled_at_1():
    with pytest.raises(PidSamplerError, match="eps is undefined at t = 1: pass t_max below 1"):
        epsilon_scaling(FlowODE([1.0, 0.5, 0.0]), of="eps")
    assert not epsilon_scaling(FlowODE([1.0, 0.5, 0.0]), of="eps", t_max=0.9)[0].biased
