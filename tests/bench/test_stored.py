"""Rows stored earlier beside those of now: known ratios, what is in one file only, and strange files."""

import csv
import math

import pytest

from pidsampler import PidSamplerError
from pidsampler.bench import ratios, samplers
from pidsampler.bench.rows import COLUMNS
from pidsampler.bench.stored import compared, read_rows
from pidsampler.cli import main

ROW = {
    **dict.fromkeys(COLUMNS, ""),
    "device": "A CPU",
    "cores": "2",
    "variant": "heun, row 1 of 3",
    "x": "float32",
    "m": "float32",
    "side": "512",
    "by": "pidsampler",
    "ms": "2.0",
    "iqr_ms": "0.2",
    "n": "25",
    "copy_gb_s": "10",
}


def write(path, *rows, header=COLUMNS):
    with path.open("w", newline="") as file:
        csv.writer(file).writerows([header, *([row[name] for name in COLUMNS] for row in rows)])
    return path


def test_a_change_has_its_interval():
    found = compared([{**ROW, "ms": 1.0, "iqr_ms": 0.1, "n": 25}], [ROW])
    (change,) = found.changes
    half = math.hypot(0.1, 0.1) * 1.96 / 1.35  # of the logarithm: IQR / median of each
    assert change.ratio.middle == 0.5
    assert change.ratio.low == pytest.approx(0.5 * math.exp(-half))
    assert change.ratio.high == pytest.approx(0.5 * math.exp(half))
    assert found.lines("old.csv") == [
        "heun, row 1 of 3, float32, 512: 1 ms, was 2 ms; 0.5 [0.407, 0.614] times as long: faster"
    ]
    assert (found.gone, found.added, found.notes) == ((), (), ())
    steady = {**ROW, "iqr_ms": "0.02"}
    assert compared([steady], [steady]).changes[0].ratio.verdict == "no difference can be told"


def test_the_copys_drift_widens_the_interval():
    steady = {**ROW, "iqr_ms": "0"}
    (alone,) = compared([{**steady, "ms": "1.8"}], [steady]).changes
    assert (alone.ratio.low, alone.ratio.high) == (0.9, 0.9)
    (change,) = compared([{**steady, "ms": "1.8", "copy_gb_s": "12"}], [steady]).changes
    assert change.ratio == ratios.Ratio(0.9, low=pytest.approx(0.9 / 1.2), high=pytest.approx(0.9 * 1.2))
    for unknown in ("", "x", "nan", "inf", "0", "-1"):
        assert compared([{**steady, "copy_gb_s": unknown}], [steady]).changes[0].drift == 1.0


def test_what_is_in_one_only_is_named_and_the_last_of_a_name_counts():
    others = [{**ROW, "variant": f"v{k}"} for k in range(10)]
    found = compared([{**ROW, "ms": "4.0"}, {**ROW, "side": "64"}], [ROW, *others, {**ROW, "ms": "8.0"}])
    assert [change.ratio.middle for change in found.changes] == [0.5]
    assert found.lines("old.csv")[1:] == [
        f"only in old.csv: {'; '.join(f'v{k}, float32, 512' for k in range(8))}; and 2 more",
        "not in old.csv: heun, row 1 of 3, float32, 64",
    ]
    assert compared([ROW], others).lines("old.csv")[0] == "no row of old.csv was timed"


def test_another_machine_is_said():
    found = compared([{**ROW, "device": "B", "copy_gb_s": 15.0}], [ROW])
    assert found.notes == (
        "they are of another machine: device 'A CPU', here 'B'",
        "a plain copy is 1.50 times as fast as it was: the machine is in another state",
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "has no rows: pass a file that pidsampler bench -o wrote"),
        ("a,b\n1,2\n", "has the columns a, b, not those of a benchmark"),
        (",".join(COLUMNS) + "\n", "has no rows"),
        (",".join(COLUMNS) + "\n1,2\n", "row 1 has 2 columns, not 29"),
        (",".join(COLUMNS) + '\n"1\n', "row 1: unexpected end of data"),
        ({"ms": "fast"}, "row 1: ms='fast' must be a finite number in"),
        ({"ms": "nan"}, "row 1: ms=nan must be"),
        ({"ms": "0"}, "row 1: ms=0.0 must be"),
        ({"ms": "1e400"}, "row 1: ms=inf must be"),
        ({"iqr_ms": "-1"}, "row 1: iqr_ms=-1.0 must be"),
        ({"n": "2.5"}, "row 1: n=2.5 must be a whole number"),
        ({"n": ""}, "row 1: n='' must be a whole number"),
        (b"\xff\xfe\x00", "is a text in UTF-16"),
        (b"\x00\xff\xff", "is not a text file, expected rows of a benchmark"),
    ],
)
def test_strange_files(tmp_path, capsys, text, message):
    path = tmp_path / "old.csv"
    if isinstance(text, dict):
        write(path, {**ROW, **text})
    else:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    with pytest.raises(PidSamplerError, match=message) as caught:
        read_rows(path)
    assert "\n" not in str(caught.value)
    assert main(["bench", "heun", "--compare", str(path)]) == 2
    assert message in capsys.readouterr().err


def test_a_large_file_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("pidsampler.bench.stored._MOST_ROWS", 2)
    with pytest.raises(PidSamplerError, match="has more than 2 rows: pass a part of it"):
        read_rows(write(tmp_path / "old.csv", ROW, ROW, ROW))
    with pytest.raises(PidSamplerError, match="cannot read"):
        read_rows(tmp_path / "none.csv")


def test_the_command(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(samplers, "cache_bytes", lambda backend: 1)
    monkeypatch.setattr(samplers.StepTiming, "is_noisy", True)
    path = tmp_path / "rows.csv"
    command = ["bench", "flow-ode", "--sizes", "8", "--quick", "--device", "cpu"]
    assert main([*command, "-o", str(path)]) == 0
    assert "2 of 2 rows are too noisy to tell their share or ratio" in capsys.readouterr().err
    row, run = read_rows(path)
    write(path, {**row, "device": "\x1b[31mother", "ms": "1e6"}, {**run, "variant": "gone\x1b[2J"})
    monkeypatch.setattr(samplers.StepTiming, "is_noisy", False)
    assert main([*command, "--compare", str(path)]) == 0
    out, err = capsys.readouterr()
    assert "\x1b" not in out + err
    assert f"against {path}:" in out
    assert "was 1e+06 ms" in out
    assert "times as long: faster" in out
    assert f"only in {path}: gone" in out
    assert "they are of another machine: device" in err
    assert "too noisy" not in err


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["hein"], "SPEC hein: unknown scheduler 'hein'"),
        (["heun", "--against", "hein"], "--against hein: unknown scheduler 'hein'"),
        (["heun@karras"], "SPEC heun@karras: timestep list 'karras' needs a number of steps"),
        (["no.py:x"], "SPEC no.py:x: cannot read 'no.py', to take a sampler from"),
        (["heun", "--rounds", "5"], "--rounds 5 must be a whole number in 6..10000"),
        (["heun", "--sizes", "0"], "size '0' is not a whole number in 1..16384"),
    ],
)
def test_wrong_command_lines(capsys, options, message):
    assert main(["bench", *options]) == 2
    assert message in capsys.readouterr().err
