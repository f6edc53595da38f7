"""Samplers and timesteps of one's own files, in each command and function that takes some."""

import csv
import json

import numpy as np
import pytest
from PIL import Image

import pidsampler as ps
from pidsampler import PidSamplerError
from pidsampler.bench import samplers as timed
from pidsampler.cli import main
from pidsampler.io.files import sha256
from pidsampler.search import Search
from pidsampler.study.report import figures
from pidsampler.upscale.source import Source

OWN = """
import numpy as np
from pidsampler import FlowODE

def euler(timesteps, factor=1.0):
    return FlowODE(timesteps).table()

made = FlowODE([0.9, 0.5, 0.0])

def squares(steps, top=0.999):
    return top * np.linspace(1, 0, steps + 1) ** 2
"""
SAMPLERS = {  # text -> its times
    "own.py:euler@uniform:3": np.linspace(1, 0, 4),
    "own.py:euler(2)@shifted(2):2": [1, 2 / 3, 0],
    "own.py:made": [0.9, 0.5, 0],
    "@table.json": [0.8, 0.3, 0],
    "unipc@shifted(2):2": [1, 2 / 3, 0],
}
LISTS = {  # text, of two steps -> its times
    "own.py:squares:2": [0.999, 0.999 / 4, 0],
    "own.py:squares(0.8):2": [0.8, 0.2, 0],
    "@list.txt": [0.7, 0.2, 0],
    "shifted(2):2": [1, 2 / 3, 0],
}
METHODS = ("heun", "own.py:euler")
QUICK = ("--model", "gaussian", "--device", "cpu")


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """A folder with the files, where few buffers are timed and no figure is drawn."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(timed, "cache_bytes", lambda backend: 1)
    monkeypatch.setattr(figures, "draw", lambda *_: [])
    (tmp_path / "own.py").write_text(OWN)
    (tmp_path / "list.txt").write_text("0.7\n0.2\n0\n")
    (tmp_path / "table.json").write_text(ps.FlowODE([0.8, 0.3, 0]).table().to_json())
    for seed, name in enumerate(("a.png", "b.png")):
        pixels = np.random.default_rng(seed).integers(0, 256, (4, 4, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / name)


def told(capsys, *command):
    assert main([*command]) == 0, capsys.readouterr().err
    return capsys.readouterr().out


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_in_commands(sampler, capsys):
    times, table = np.asarray(SAMPLERS[sampler]), ps.get_scheduler(sampler).table()
    assert table.times == pytest.approx(times, abs=1e-15)
    assert ps.StepTable.from_json(told(capsys, "table", sampler, "--json")) == table
    told(capsys, "upscale", "a.png", "-o", "one.png", "--scheduler", sampler, *QUICK)
    record = ps.read_record("one.png")
    assert ps.StepTable.from_json(json.dumps(record["table"])).times == table.times
    assert record["timesteps"] == pytest.approx(times, abs=1e-15)
    file = sampler.removeprefix("@").partition(":")[0]
    assert record.get("scheduler_sha256") == (None if sampler.startswith("unipc") else sha256(file))
    told(capsys, "upscale", "a.png", "b.png", "-o", "all/", "--scheduler", sampler, *QUICK)
    assert ps.read_record("all/b.png")["table"] == record["table"]
    text = told(capsys, "bench", sampler, "--against", "flow-ode", "--sizes", "8", "--quick", "--device", "cpu")
    assert f"{sampler}, run of {len(table)} rows" in text


@pytest.mark.parametrize("listed", LISTS)
@pytest.mark.parametrize("method", METHODS)
def test_timesteps_in_commands(method, listed, capsys):
    table = ps.get_scheduler(method, listed).table()
    assert sorted({*table.times}, reverse=True) == pytest.approx(LISTS[listed], abs=1e-15)
    assert ps.StepTable.from_json(told(capsys, "table", method, "--timesteps", listed, "--json")) == table
    told(capsys, "upscale", "a.png", "-o", "one.png", "--scheduler", method, "--timesteps", listed, *QUICK)
    record = ps.read_record("one.png")
    assert record["timesteps"] == pytest.approx(LISTS[listed], abs=1e-15)
    file = listed.removeprefix("@").partition(":")[0]
    assert record.get("timesteps_sha256") == (None if listed.startswith("shifted") else sha256(file))
    assert record.get("scheduler_sha256") == (sha256("own.py") if method == "own.py:euler" else None)


def test_a_method_is_searched_for_and_a_list_is_learnt_over(capsys):
    pictures = ("a.png", "b.png", *QUICK, "--seeds", "2", "--quiet")
    told(
        capsys, "search", *pictures, "-o", "s.txt", "--scheduler", "own.py:euler", "--calls", "2", "--evaluations", "1"
    )
    assert len(ps.get_scheduler("heun", "@s.txt").timesteps) == 3
    options = ("--calls", "2", "--timesteps", "own.py:squares(0.8):2", "--most-amplified", "1e9")
    told(capsys, "learn", *pictures, "-o", "t.json", *options)
    assert ps.get_scheduler("@t.json").table().times == pytest.approx([0.8, 0.2, 0], abs=1e-15)


@pytest.mark.parametrize(
    ("setting", "values", "preset"),
    [("scheduler", SAMPLERS, ""), ("timesteps", LISTS, 'preset.scheduler = "own.py:euler"')],
)
def test_in_a_study(tmp_path, capsys, setting, values, preset):
    text = f'measures = ["mean-error"]\npreset.model = "law"\n{preset}\nflows.law = {{means = [0.3], stds = [0.5]}}\n'
    (tmp_path / "study.toml").write_text(f"{text}axes.{setting} = {json.dumps([*values])}\n")
    told(capsys, "study", "study.toml", "-o", "out", "--device", "cpu", "--processes", "1", "--quiet")
    with open("out/results.csv", newline="") as file:
        rows = list(csv.DictReader(file))
    assert {*values} <= {row[f"set_{setting}"] for row in rows}
    assert all(float(row["mean-error"]) < 10 for row in rows)


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_sampler_in_functions(sampler, tmp_path):
    net, table = ps.denoiser.Gaussian(0.3, 0.5), ps.get_scheduler(sampler).table()
    expected = ps.sample(net, table, shape=(1, 3, 4, 4))
    np.testing.assert_array_equal(ps.sample(net, sampler, shape=(1, 3, 4, 4)), expected)
    assert ps.start(sampler, np.zeros((1, 3, 4, 4), np.float32)).table == table
    up = ps.Upscaler.load("gaussian", "cpu")
    source = Source({}, np.zeros((4, 4, 3), np.uint8))
    assert up("a.png", sampler).record["table"] == up.record(source, sampler)["table"]
    (row, _) = ps.bench.steps([sampler], side=8, rounds=6)
    assert row.sampler == sampler
    study = ps.study.Study(
        preset={"model": "law", "scheduler": sampler}, flows={"law": {"means": [0], "stds": [1]}}, folder=tmp_path
    )
    assert study.table(study.preset_cell)[0] == table


@pytest.mark.parametrize("listed", ["own.py:squares:2", "@list.txt"])
def test_timesteps_in_functions(listed):
    fit = ps.learn.fit(ps.denoiser.Gaussian(0.3, 0.5), calls=2, shape=(3, 4, 4), seeds=2, timesteps=listed)
    assert fit.table.times == pytest.approx(LISTS[listed], abs=1e-15)


def test_a_method_in_a_search():
    assert Search("own.py:euler(3)", 2).calls_made == 2


@pytest.mark.parametrize(
    ("command", "message"),
    [
        (["schedulers", "own.py:euler"], "'own.py:euler' names a file: pass a scheduler's name, see 'pidsampler sched"),
        (["schedulers", "@table.json"], "'@table.json' names a file"),
        (["timesteps", "own.py:squares"], "'own.py:squares' names a file: pass a list's name, see 'pidsampler timest"),
        (["table", "own.py:ruler"], "own.py has no function 'ruler', to take a sampler from"),
        (["table", "own.py:euler(factor=1,3)"], "only the first option may stand without its name"),
        (["table", "own.py:euler(1,factor=3)@uniform:2"], "own.py:euler has factor twice, without its name too"),
        (["table", "own.py:made(3)"], "own.py:made has no options: leave 3 out"),
        (["table", "own.py:made", "--timesteps", "@list.txt"], "own.py:made has its timesteps already"),
        (["upscale", "a.png", "-o", "x.png", "--scheduler", "own.py:euler", "--timesteps", "own.py:no:2"], "'no'"),
        (["search", "a.png", "b.png", "-o", "x.txt", "--scheduler", "@table.json"], "has its timesteps already"),
        (["learn", "a.png", "b.png", "-o", "x.json", "--timesteps", "own.py:no:2"], "has no function 'no'"),
        (["bench", "own.py:ruler"], "SPEC own.py:ruler: own.py has no function 'ruler'"),
    ],
)
def test_wrong_ones(command, message, capsys):
    assert main(command) in (1, 2)
    assert message in capsys.readouterr().err


def test_a_sampler_of_a_file_cannot_be_described():
    with pytest.raises(PidSamplerError, match="names a file: pass a scheduler's name, see list_schedulers"):
        ps.describe_scheduler("own.py:euler")
