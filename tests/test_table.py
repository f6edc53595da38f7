import copy
import json
import math
import pickle
from itertools import pairwise

import numpy as np
import pytest
from attrs import evolve
from attrs.exceptions import FrozenInstanceError
from hypothesis import given
from hypothesis import strategies as st
from lists import valid_lists
from methods import adams_bashforth_2, heun

from pidsampler import Combination, FlowODE, FlowSDE, PidSamplerError, Row, StepTable, get_scheduler, timesteps
from pidsampler.noise import brownian, fixed, with_noise

TABLES = {
    "sde": FlowSDE(timesteps.pid()).table(),
    "eta": FlowSDE(timesteps.pid(), eta=0.3).table(),
    "ode": FlowODE(timesteps.pid()).table(),
    "heun": heun(timesteps.uniform(5)),
    "ab2": adams_bashforth_2(timesteps.uniform(5)),
}


@pytest.fixture(params=TABLES, name="table")
def _table(request):
    return TABLES[request.param]


def test_rows_times_and_slots(table):
    assert len(table) == len(table.rows)
    assert len(table.times) == len(table) + 1
    assert table.times[-1] == 0.0
    assert table.slots == (1 if any(row.saves for row in table.rows) else 0)


def test_is_frozen_hashable_and_equal_by_value(table):
    with pytest.raises(FrozenInstanceError):
        table.rows = ()
    with pytest.raises(FrozenInstanceError):
        table.rows[0].t = 0.5
    twin = StepTable(copy.deepcopy(list(table.rows)))
    assert twin == table
    assert hash(twin) == hash(table)
    assert twin != TABLES["heun" if table is not TABLES["heun"] else "ode"]


def test_json_round_trips_exactly(table):
    text = table.to_json()
    assert StepTable.from_json(text) == table
    assert StepTable.from_json(text).to_json() == text
    json.loads(text, parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))


@given(valid_lists, st.floats(0, 1))
def test_json_round_trips_for_any_list(times, eta):
    table = FlowSDE(times, eta).table()
    assert StepTable.from_json(table.to_json(indent=1)) == table


def test_prints_as_readable_columns():
    lines = str(TABLES["heun"]).splitlines()
    assert len(lines) == 1 + len(TABLES["heun"])
    assert lines[0].split() == ["row", "t", "t_next", "x0", "x", "saves"]
    assert lines[1].split("  ")[-1] == "S0 = 0.9*x + 0.1*x0"
    assert "saves" not in str(TABLES["sde"])
    assert " ".join(str(TABLES["sde"]).splitlines()[1].split()) == "0 0.999 0.866 x - 0.999*m 0.134*x0 + 0.866*N(1)"
    assert Combination().formula() == "0"
    assert "clip(x - 0.999*m, 1)" in str(TABLES["sde"].clipped(1.0))


def test_zero_terms_and_order_do_not_matter():
    a = Row(0.5, 0.2, a=0.4, b=0.6, h={1: 0.0}, noise={})
    assert a == Row(0.5, 0.2, a=0.4, b=0.6)
    assert Combination(h={2: 1.0, 1: 2.0}) == Combination(h=[(1, 2.0), (2, 1.0)])


def test_a_custom_table_survives_pickling_and_evolve():
    table = TABLES["heun"]
    assert copy.copy(table) == table
    assert evolve(table.rows[0], clip=None) == table.rows[0]


BROKEN = {
    "no rows": (lambda: StepTable([]), "at least one row"),
    "gap": (lambda: StepTable([Row(0.9, 0.5, a=5 / 9, b=4 / 9), Row(0.4, 0, b=1)]), "another time than row 0 ends"),
    "unsaved": (lambda: StepTable([Row(0.9, 0, b=1, h={0: 0.1})]), "reads slot 0 before any row has saved it"),
    "constant": (lambda: StepTable([Row(0.9, 0, b=0.99)]), r"row 0 .*comes out 0\.99 times itself, expected.* = 1"),
    "variance": (
        lambda: StepTable([Row(0.9, 0.5, b=0.5, noise={1: 0.4})]),
        r"standard deviation 0\.4, expected t_next = 0\.5",
    ),
    "correlated": (  # twice the same draw adds up in amplitude, not in variance
        lambda: StepTable(
            [Row(0.9, 0.5, b=0.5, noise={1: 0.5}), Row(0.5, 0.25, a=0.3, b=0.6, noise={1: 0.2})]
        ),
        r"standard deviation 0\.35",
    ),
    "nan": (lambda: Row(0.9, 0.5, a=math.nan), "a=nan must be a finite number"),
    "inf noise": (lambda: Row(0.9, 0.5, noise={1: math.inf}), "weight of draw 1=inf must be a finite number"),
    "nan slot": (lambda: Row(0.9, 0.5, h={0: math.nan}), "weight of slot 0=nan must be a finite number"),
    "t 0": (lambda: Row(0.0, 0.0), r"t=0\.0 must be a finite number in \(0, 1\]"),
    "t 2": (lambda: Row(2.0, 0.0), r"t=2\.0 must be"),
    "t_next": (lambda: Row(0.5, -0.1), r"t_next=-0\.1 must be a finite number in \[0, 1\]"),
    "q": (lambda: Row(0.5, 0.1, q=0), "ignore the network"),
    "clip": (lambda: Row(0.5, 0.1, clip=0), "clip=0 must be a finite number above 0"),
    "slot": (lambda: Combination(h={-1: 1.0}), "slot=-1 must be a whole number"),
    "draw": (lambda: Combination(noise={2**32: 1.0}), "draw=4294967296 must be"),
    "half slot": (lambda: Combination(h=[(0.5, 1.0)]), r"slot=0\.5 must be a whole number"),
    "twice": (lambda: Combination(noise=[(1, 0.5), (1, 0.5)]), "draw 1 occurs twice"),
    "at": (lambda: Row(0.5, 0.1, at=0.0), r"at=0\.0 must be a finite number in \(0, 1\]"),
    "net": (lambda: Row(0.5, 0.1, net=2), r"net=2 must be a whole number in 0\.\.1"),
    "biased": (lambda: Row(0.5, 0.1, biased=1), "biased=1 must be"),
    "untold prediction": (
        lambda: StepTable([Row(0.5, 0, b=1, at=0.4, p=0.0, q=1.0)]).predicting("velocity"),
        r"the row at t=0\.5 has at=0\.4, p=0\.0 and q=1\.0: only with p = 1 and q = -t or -at",
    ),
    "save slot": (lambda: Row(0.5, 0.1, saves={-2: Combination(a=1)}), "slot=-2"),
    "prediction": (lambda: TABLES["ode"].predicting("velocty"), "did you mean 'velocity'"),
    "eps at 1": (lambda: TABLES["heun"].predicting("eps"), "undefined at t = 1"),
    "json": (lambda: StepTable.from_json("{"), "not a table in JSON"),
    "json list": (lambda: StepTable.from_json("[]"), "not a table in JSON: a part is of another kind"),
    "format": (lambda: StepTable.from_json('{"format": "x", "rows": []}'), "format 'x'"),
    "json key": (
        lambda: StepTable.from_json('{"format": "pidsampler.StepTable/1", "rows": [{"t": 1}]}'),
        "not a table in JSON: entry 'saves' is missing",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_refuses(name):
    make, message = BROKEN[name]
    with pytest.raises(PidSamplerError, match=message):
        make()


@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("factor", [1 - 1e-9, 1 + 1e-9])
def test_any_weight_that_is_off_is_noticed(name, factor):
    """Each a, b, h and noise weight of each row and each save, changed by one part in 1e9, breaks the check."""
    table = TABLES[name]

    def variants(c):
        if c.a:
            yield evolve(c, a=c.a * factor)
        if c.b:
            yield evolve(c, b=c.b * factor)
        for kind in ("h", "noise"):
            for k, (index, weight) in enumerate(getattr(c, kind)):
                changed = list(getattr(c, kind))
                changed[k] = (index, weight * factor)
                yield evolve(c, **{kind: changed})

    tried = 0
    for i, row in enumerate(table.rows):
        broken = list(variants(row))
        for slot, saved in row.saves:
            others = {s: c for s, c in row.saves if s != slot}
            read_later = any(slot in dict(later.h) for later in table.rows[i + 1 :])
            broken += [evolve(row, saves={**others, slot: c}) for c in variants(saved) if read_later]
        for bad in broken:
            tried += 1
            with pytest.raises(PidSamplerError, match=r"constant image|standard deviation"):
                StepTable([*table.rows[:i], bad, *table.rows[i + 1 :]])
    assert tried >= len(table)


def test_a_wrong_weight_is_noticed_late_in_a_long_table_too():
    rows = list(heun(timesteps.uniform(500)).rows)
    row = rows[-2]
    with pytest.raises(PidSamplerError, match=r"row 997 .*constant image"):
        StepTable([*rows[:-2], evolve(row, b=row.b + 1e-9), rows[-1]])


def test_predicting_rewrites_only_p_and_q():
    table = FlowSDE([0.9, 0.5, 0]).table()
    assert [(r.p, r.q) for r in table.rows] == [(1.0, -0.9), (1.0, -0.5)]
    assert table.predicting("velocity") == table
    assert [(r.p, r.q) for r in table.predicting("x0").rows] == [(0.0, 1.0)] * 2
    p, q = table.predicting("eps").rows[1].p, table.predicting("eps").rows[1].q
    assert (p, q) == (2.0, -1.0)
    assert [evolve(r, p=1.0, q=-r.t) for r in table.predicting("eps").rows] == list(table.rows)


def test_a_row_tells_the_network_its_own_time_if_no_other():
    row = Row(0.8, 0.4, a=0.5, b=0.5)
    assert (row.at, row.net) == (0.8, 0)
    assert row == Row(0.8, 0.4, a=0.5, b=0.5, at=0.8, net=0)
    other = evolve(row, at=0.7)
    assert (other.at, other.q) == (0.7, -0.8)
    lines = str(StepTable([other])).splitlines()
    assert lines[0].split() == ["row", "t", "at", "t_next", "x0", "x"]
    assert lines[1].split()[1:4] == ["0.8", "0.7", "0.4"]


def test_predicting_reads_x0_at_the_time_that_q_names():
    decoupled, lying = (Row(0.8, 0.4, a=0.5, b=0.5, at=0.5, q=q) for q in (None, -0.5))
    read = [StepTable([row]).predicting("eps").rows[0] for row in (decoupled, lying)]
    assert [(row.p, row.q) for row in read] == [(1 / (1 - 0.8), -0.8 / (1 - 0.8)), (2.0, -1.0)]
    assert [row.at for row in read] == [0.5, 0.5]
    for row in (decoupled, lying):
        assert StepTable([row]).predicting("velocity") == StepTable([row])
        assert [(r.p, r.q) for r in StepTable([row]).predicting("x0")] == [(0.0, 1.0)]


def test_rows_of_two_networks_are_told_apart():
    keep = Row(0.8, 0.8, a=1.0, net=1, saves={0: Combination(b=1.0)})
    guided = Row(0.8, 0.4, a=0.5, b=0.5 * 3.0, h={0: 0.5 * -2.0})
    table = StepTable([keep, guided])
    assert table.asks_both
    assert not StepTable([Row(0.8, 0.0, b=1.0)]).asks_both
    assert str(table).splitlines()[0].split() == ["row", "t", "t_next", "net", "x0", "x", "saves"]
    assert table.times == (0.8, 0.8, 0.4)


LOUD = StepTable(  # the noise of the first row 5 % too large, and the image of the second 1 % too small
    [
        Row(0.9, 0.5, b=0.5, noise={1: 0.525}, biased=True),
        Row(0.5, 0.2, a=0.4, b=0.594, biased=True),
        Row(0.2, 0.1, a=0.5, b=0.5),
    ]
)


def test_a_biased_table_says_how_far_it_is_off_and_by_how_much_in_all():
    alone = [(bias.mean, bias.noise) for bias in LOUD.bias]
    total = [(bias.total_mean, bias.total_noise) for bias in LOUD.bias]
    assert alone == [pytest.approx(pair, abs=1e-15) for pair in [(0.0, 0.025), (-0.006, 0.0), (0.0, 0.0)]]
    assert total == [pytest.approx(pair, abs=1e-15) for pair in [(0.0, 0.025), (-0.006, 0.01), (-0.003, 0.005)]]
    assert str(LOUD).splitlines()[1].endswith("mean +0 (+0), noise +0.025 (+0.025)")
    assert TABLES["heun"].bias == ()
    assert "bias" not in str(TABLES["heun"])
    written = json.loads(LOUD.to_json())["rows"]
    assert written[2]["bias"]["total_noise"] == LOUD.bias[2].total_noise
    assert [row["biased"] for row in written] == [True, True, False]


def test_a_biased_table_is_still_refused_where_it_does_not_say_so():
    for i, what in ((0, "standard deviation 0.525"), (1, "comes out 0.794 times itself")):
        rows = [*LOUD.rows[:i], evolve(LOUD.rows[i], biased=False), *LOUD.rows[i + 1 :]]
        with pytest.raises(PidSamplerError, match=f"row {i} .*{what}.*or declare the row biased"):
            StepTable(rows)


def test_json_of_all_columns_and_of_version_0_1():
    told = StepTable([evolve(row, at=0.3, net=i % 2) for i, row in enumerate(LOUD)])
    assert StepTable.from_json(told.to_json()) == told
    old = json.loads(TABLES["heun"].to_json())
    old["format"] = "pidsampler.StepTable/1"
    for row in old["rows"]:
        del row["at"], row["net"], row["biased"]
    assert StepTable.from_json(json.dumps(old)) == TABLES["heun"]
    old["format"] = "pidsampler.StepTable/2"
    with pytest.raises(PidSamplerError, match="entry 'at' is missing"):
        StepTable.from_json(json.dumps(old))


def test_a_table_of_a_thousand_brownian_rows_is_read_back():
    table, _ = with_noise(get_scheduler("flow-sde@uniform:1000").table(), "brownian")
    assert StepTable.from_json(table.to_json()) == table


def test_a_history_goes_where_its_table_goes():
    history = {"made_by": "hand", "model": {"name": "m\u0142", "sha256": {}}, "errors": [1e-300, 0.1, None, True]}
    rows = FlowSDE([0.9, 0.5, 0.0]).table().rows
    table = StepTable(rows, history=history)
    history["made_by"] = "somebody else"
    table.history["made_by"] = "somebody else"
    assert table.history == {**history, "made_by": "hand"}
    assert table == StepTable(rows)
    assert hash(table) == hash(StepTable(rows))
    for other in (
        StepTable.from_json(table.to_json()),
        table.predicting("x0"),
        table.clipped(1.0),
        fixed(table),
        brownian(table),
        copy.deepcopy(table),
        pickle.loads(pickle.dumps(table)),
    ):
        assert other.history == table.history
    assert StepTable(rows).history is None
    assert "history" not in StepTable(rows).to_dict()


@pytest.mark.parametrize(
    ("history", "message"),
    [
        ([], r"history=\[\] must be a mapping"),
        ({"x": math.nan}, "is not JSON"),
        ({"x": np.float32(1)}, "is not JSON"),
        ({"x": "y" * 100_000}, "has 100009 characters in JSON, expected at most 100000"),
    ],
)
def test_a_history_is_short_json(history, message):
    rows = FlowSDE([0.9, 0.5, 0.0]).table().rows
    with pytest.raises(PidSamplerError, match=message):
        StepTable(rows, history=history)
    with pytest.raises(PidSamplerError):
        StepTable.from_json(json.dumps({**StepTable(rows).to_dict(), "history": "y"}))


def test_biased_rows_whose_weights_grow_without_bound_are_refused():
    """Each alone could be summed, and all together could not."""
    times = (1.0, 0.75, 0.5, 0.0)
    with pytest.raises(PidSamplerError, match="the weights of all rows together are too large to be summed"):
        StepTable([Row(t, after, a=1e130, biased=True) for t, after in pairwise(times)])
