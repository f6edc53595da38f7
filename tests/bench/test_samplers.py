"""Samplers that are timed: intervals of known numbers, the parts, and what is refused. Times mean nothing here."""

import pytest

import pidsampler as ps
from pidsampler import PidSamplerError
from pidsampler.bench import ratios, samplers, timing
from pidsampler.cli import main


@pytest.fixture(autouse=True, name="few_buffers")
def _few_buffers(monkeypatch):
    monkeypatch.setattr(samplers, "cache_bytes", lambda backend: 1)


# Ranks of the 95 % interval of a median, as tables of the sign test have them.
@pytest.mark.parametrize(("n", "low", "high"), [(6, 1, 6), (9, 2, 8), (20, 6, 15), (50, 18, 33), (100, 40, 61)])
def test_the_interval_of_a_median(n, low, high):
    assert ratios.median(range(1, n + 1)) == ratios.Ratio((n + 1) / 2, low=low, high=high)


@pytest.mark.parametrize(
    ("ratio", "verdict"),
    [
        (ratios.Ratio(0.9, low=0.8, high=0.95), "faster"),
        (ratios.Ratio(1.2, low=1.1, high=1.3), "slower"),
        (ratios.Ratio(1.0, low=0.95, high=1.05), "no difference can be told"),
        (ratios.Ratio(1.0, low=0.5, high=2.0), "the machine is too noisy to tell"),
    ],
)
def test_verdicts(ratio, verdict):
    assert ratio.verdict == verdict


def test_ratios_are_of_what_was_taken_together():
    slow = [1.0, 10.0, 1.0, 10.0, 1.0, 10.0]
    assert ratios.paired([2 * ms for ms in slow], slow) == ratios.Ratio(2.0, low=2.0, high=2.0)


def test_a_share_that_cannot_be_is_not_told():
    steady = timing.Times(ms=1.0, iqr_ms=0.0, n=5)
    assert ratios.unpaired(steady, steady).is_share
    assert not ratios.unpaired(timing.Times(ms=34.2, iqr_ms=0.0, n=5), steady).is_share  # 3420 % of a copy
    assert not ratios.unpaired(timing.Times(ms=1.0, iqr_ms=0.9, n=5), steady).is_share


def test_parts_of_samplers(tmp_path):
    (tmp_path / "my.py").write_text("from pidsampler.schedulers import Heun\nmine = Heun\n")
    mine = f"{tmp_path}/my.py:mine@uniform:2"
    found = ps.bench.steps([mine, "dpmpp-2m@uniform:4"], against="dpmpp-2m@uniform:4", side=8, rounds=6)
    assert [(one.sampler, one.part) for one in found] == [
        (mine, "row 1 of 3"),
        (mine, "run of 3 rows"),
        ("dpmpp-2m@uniform:4", "row 3 of 4"),
        ("dpmpp-2m@uniform:4", "run of 4 rows"),
    ]
    assert [one.ratio is None for one in found] == [False, False, True, True]
    assert [one.times.n for one in found] == [6] * 4
    assert found[3].columns()["bytes"] > found[2].columns()["bytes"]
    assert found[0].to_dict()["ratio"] == found[0].ratio.middle


def test_a_run_by_a_network():
    *_, whole = ps.bench.steps(["flow-ode"], model=lambda x, t: x, side=8, rounds=6)
    assert whole.part == "run with the network"
    assert 0 < whole.outside.low <= whole.outside.middle < 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"samplers": "heun"}, "samplers='heun' must be a list of samplers"),
        ({"samplers": ["hein"]}, "unknown scheduler 'hein'"),
        ({"side": 0}, "side=0 must be a whole number in 1..16384"),
        ({"rounds": 5}, "rounds=5 must be a whole number in 6..10000"),
        ({"dtype": "int8"}, "unknown type of the state 'int8'"),
        ({"against": "heun"}, "against='heun' is all that is to be timed"),
    ],
)
def test_what_is_refused(options, message):
    with pytest.raises(PidSamplerError, match=message):
        ps.bench.steps(**{"samplers": ["heun"], "side": 8, **options})


def test_the_command(tmp_path, capsys):
    path = str(tmp_path / "rows.csv")
    assert (
        main(["bench", "flow-ode", "--against", "flow-sde", "--sizes", "8", "--quick", "--device", "cpu", "-o", path])
        == 0
    )
    assert "times as long as flow-sde" in capsys.readouterr().out
    assert main(["bench", "--against", "flow-sde"]) == 2
    assert main(["bench", "flow-ode", "--peers", "none"]) == 2
