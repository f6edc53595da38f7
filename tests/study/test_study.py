import csv
import functools
import json
import os
import random
import re
import resource
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter

import numpy as np
import pytest
from forking import Server
from PIL import Image

from pidsampler import (
    Combination,
    PidSamplerError,
    Row,
    StepTable,
    Upscaler,
    get_scheduler,
    list_schedulers,
    sample,
)
from pidsampler.cli import main
from pidsampler.denoiser import GaussianMixture
from pidsampler.errors import PidSamplerWarning
from pidsampler.jobs import processes
from pidsampler.study import ReportOptions, Study, Truth
from pidsampler.study.file import read_study
from pidsampler.study.report import figures
from pidsampler.study.run import estimate, run_study
from pidsampler.study.store import Store


@pytest.fixture(name="undrawn", autouse=True)
def _undrawn(request, monkeypatch):
    """Figures take seconds, and have tests of their own."""
    if "drawn" not in request.fixturenames:
        monkeypatch.setattr(figures, "draw", lambda *_: [])


@pytest.fixture(name="drawn")
def _drawn():
    """For a test that wants figures."""


FLOW = {"means": [-0.6, 0.5], "stds": [0.1, 0.2], "weights": [1, 2], "shape": [3, 16, 16]}
TIMED = {"seconds", "network", "sampler"}

SMALL = """
question = "Which one?"
reduce = true
measures = ["psnr", "consistency", "ode-distance"]
converged = "heun@uniform:4"
[preset]
model = "gaussian"
images = "photos/*.png"
seeds = 2
steps = 4
[axes]
scheduler = ["flow-sde", "flow-ode"]
steps = [2, 4]
"""


@pytest.fixture(name="photos")
def _photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    y, x = np.mgrid[:48, :40]
    for name, k in (("a", 3), ("b", 7)):
        waves = 127 + 100 * np.sin(x / k)[..., None] * np.cos(y[..., None] / (k + np.arange(3)))
        Image.fromarray(np.rint(waves).astype(np.uint8)).save(folder / f"{name}.png")
    return folder


@pytest.fixture(name="study")
def _study(tmp_path, photos):
    path = tmp_path / "small.toml"
    path.write_text(SMALL)
    return path


def of_flow(**more):
    preset = {"model": "mixture", "scheduler": "flow-ode", "timesteps": "uniform", "steps": 4, "seeds": 2}
    return Study(**{"preset": preset, "axes": {"steps": [2, 4]}, "flows": {"mixture": FLOW}, **more})


def rows(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def untimed(folder):
    return [{key: value for key, value in row.items() if key not in TIMED} for row in rows(folder)]


# Cells


def labels(study):
    return [cell.label for cell in study.all_cells]


def test_a_grid_has_every_combination_and_the_preset():
    axes = {"scheduler": ["heun", "flow-ode"], "steps": [2, 8]}
    study = of_flow(axes=axes)
    assert labels(study) == [
        "flow-ode, steps=4", "heun, steps=2", "heun, steps=8", "flow-ode, steps=2", "flow-ode, steps=8",
    ]  # fmt: skip
    assert study.preset_cell.label == "flow-ode, steps=4"
    within = of_flow(axes={**axes, "steps": [2, 4]})
    assert len(within.all_cells) == 4
    assert within.preset_cell.label == "flow-ode, steps=4"


def test_one_at_a_time_leaves_the_preset_once():
    study = of_flow(axes={"scheduler": ["heun", "flow-ode"], "steps": [2, 4, 8]}, cells="one-at-a-time")
    assert labels(study) == ["flow-ode, steps=4", "heun, steps=4", "flow-ode, steps=2", "flow-ode, steps=8"]


def test_a_list_of_cells():
    study = of_flow(axes={}, cells=[{"scheduler": "heun", "steps": 2}, {"eta": 0.5, "scheduler": "flow-sde"}])
    assert labels(study) == ["flow-ode, steps=4, eta=own", "heun, steps=2, eta=own", "flow-sde, steps=4, eta=0.5"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"axes": {"steps": list(range(1, 201)), "eta": [k / 100 for k in range(100)]}},
            "it has 20000 cells, expected",
        ),
        (
            {"axes": {"steps": list(range(1, 10_002))}, "cells": "one-at-a-time"},
            "it has 10001 cells, expected at most 10000: leave values or an axis out",
        ),
        (
            {"axes": {"steps": list(range(1, 101)), "seeds": [99_999]}},
            "it has 9999902 runs of one image, expected at most 1000000: take fewer seeds",
        ),
    ],
    ids=["grid", "one at a time", "seeds"],
)
def test_more_than_anybody_waits_for(given, message):
    with pytest.raises(PidSamplerError, match=message):
        of_flow(**given)


def test_a_cells_id_depends_on_its_settings_alone():
    one = of_flow(axes={"steps": [2, 4]})
    two = of_flow(axes={"scheduler": ["heun", "flow-ode"]}, cells=[{"steps": 2}])
    assert {cell.id for cell in one.all_cells} == {cell.id for cell in two.all_cells}


@pytest.mark.parametrize(
    ("settings", "times"),
    [
        ({}, [0.999, 0.866, 0.634, 0.342, 0.0]),
        ({"steps": 2}, [0.999, 0.634, 0.0]),
        ({"timesteps": "uniform", "steps": 2}, [1.0, 0.5, 0.0]),
        ({"timesteps": [0.9, 0.25, 0]}, [0.9, 0.25, 0.0]),
        ({"timesteps": [0.9, 0.25, 0], "steps": 1}, [0.9, 0.0]),
        ({"scheduler": "flow-ode@uniform:2"}, [1.0, 0.5, 0.0]),
        ({"timesteps": "pid"}, [0.999, 0.866, 0.634, 0.342, 0.0]),
    ],
)
def test_times_of_a_cell(settings, times, photos):
    study = Study(preset={"model": "gaussian", "images": "*.png", **settings}, folder=photos)
    assert list(study.table(study.preset_cell)[0].times) == times


BAD = {
    "no toml": ("= 3", "not a study in TOML"),
    "unknown key": ("presets = {}", "unknown key 'presets': did you mean 'preset'?"),
    "kind": ("axes = 3", "axes is 3, expected a table of lists"),
    "truth": ("reduce = 1", "reduce is 1, expected true or false"),
    "setting": ('[preset]\nstep = 3', "unknown setting 'step': did you mean 'steps' or 'timesteps'?"),
    "axis": ('[axes]\nsampler = ["heun"]', "unknown setting 'sampler'"),
    "axis value": ('[axes]\nsteps = 3', "axis 'steps' is 3, expected a list"),
    "empty axis": ('[axes]\nsteps = []', "axis 'steps' is [], expected a list"),
    "steps": ('[preset]\nsteps = "four"', "the setting steps is 'four', expected a whole number"),
    "seeds": ("[preset]\nseeds = 0", "the setting seeds is 0, expected 1..100000, or a list"),
    "seed": ("[preset]\nimages = 'photos/a.png'\nseeds = [-1]", "seed=-1 must be"),
    "cells": ('cells = "all"', "unknown choice of cells 'all'"),
    "pictures": ('pictures = "none"', "unknown choice of pictures 'none'"),
    "both": ('reduce = true\nreferences = "x"', "leave 'references' out"),
    "no images": ("[preset]\nsteps = 4", "there are no images"),
    "no such image": ('[preset]\nimages = "x/*.png"', "no picture"),
    "twice": ('[preset]\nimages = "photos/a.png"\n[axes]\nsteps = [2, 2]', "'steps=2' occurs twice"),
    "flow": ("[flows.mixture]\nmean = [1]", "flow 'mixture': unknown key 'mean'"),
    "flow without stds": ("[flows.mixture]\nmeans = [1]", "flow 'mixture' needs lists of numbers"),
    "flow shape": ("[flows.mixture]\nmeans = [1]\nstds = [1]\nshape = [1, 2, 2]", "expected [3, height, width]"),
    "measure": ('measures = ["psnrr"]\n[preset]\nimages = "photos/a.png"', "unknown measure 'psnrr'"),
    "no cell": ('[preset]\nimages = "photos/a.png"\nscheduler = "x"', "no cell can be run; the first: "),
}  # fmt: skip


@pytest.mark.parametrize(("text", "message"), BAD.values(), ids=BAD)
def test_a_study_that_is_none_is_said_in_a_line(text, message, tmp_path, photos, capsys):
    path = tmp_path / "bad.toml"
    if text.startswith("[flows"):
        text += '\n[preset]\nmodel = "mixture"'
    path.write_text(text)
    assert main(["study", str(path), "-o", str(tmp_path / "out")]) != 0
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1
    assert not (tmp_path / "out" / "report.html").exists()


def test_two_pictures_of_one_name(photos, tmp_path):
    (tmp_path / "a.png").write_bytes((photos / "a.png").read_bytes())
    with pytest.raises(PidSamplerError, match="both named 'a'"):
        Study(preset={"images": ["photos/*.png", "a.png"]}, folder=tmp_path)


# Runs


def test_results_are_those_of_plain_runs(study, photos, tmp_path):
    finished = run_study(read_study(study), tmp_path / "out", device="cpu")
    assert (finished.runs, finished.failed, finished.error) == (16, 0, None)
    found = {(row["label"], row["image"], int(row["seed"])): row for row in rows(tmp_path / "out")}
    assert len(found) == 16
    up = Upscaler.load("gaussian", "cpu")
    for (label, image, seed), row in found.items():
        spec, steps = label.split(", steps=")
        whole = np.asarray(Image.open(photos / f"{image}.png"))
        small = np.asarray(Image.fromarray(whole).resize((10, 12), Image.Resampling.BICUBIC))
        picture = up(small, f"{spec}@pid:{steps}", seed=seed).array
        error = np.square(picture.astype(float) - whole).mean()
        assert float(row["psnr"]) == pytest.approx(10 * np.log10(255**2 / error), rel=1e-12)
        assert float(row["calls"]) == int(steps)
        assert float(row["memory"]) == pytest.approx(2 * 3 * 64 * 64 * 4 / 1e6)  # padded to the latent's grid
        assert (row["ode-distance"] == "") == (spec == "flow-sde")  # which does not go to the ODE's solution
        assert all(float(row[name]) > 0 for name in TIMED)
        if seed == 0:
            kept = np.asarray(Image.open(tmp_path / "out" / "pictures" / image / f"{row['cell']}-0.png"))
            np.testing.assert_array_equal(kept, picture)
        table = StepTable.from_json((tmp_path / "out" / "tables" / f"{row['cell']}.json").read_text())
        assert table == get_scheduler(f"{spec}@pid:{steps}").table()


def test_the_folder_holds_all_that_was_promised(study, tmp_path, drawn):
    study.write_text(SMALL.replace('["psnr", "consistency", "ode-distance"]', '["psnr"]'))  # figures of fewer take less
    run_study(read_study(study), tmp_path / "out", device="cpu")
    assert {path.name for path in (tmp_path / "out").iterdir()} - {".lock"} == {
        *("study.sqlite", "results.csv", "measures.csv", "table.md", "table.tex", "report.html"),
        *("tables", "pictures", "figures"),
    }  # fmt: skip
    names = {path.name for path in (tmp_path / "out" / "pictures" / "a").iterdir()}
    assert {"input-0.png", "reference-0.png"} < names
    assert len(names) == 2 + 2 * 4  # of the first seed: a picture and its previews, a cell
    with (tmp_path / "out" / "measures.csv").open(newline="") as file:
        described = {row["name"]: row for row in csv.DictReader(file)}
    assert described["psnr"]["unit"] == "dB"
    assert described["psnr"]["better"] == "higher"
    assert described.keys() == {"psnr", "calls", "memory", *TIMED}
    assert all(row["source"] for row in described.values())
    with sqlite3.connect(tmp_path / "out" / "study.sqlite") as db:
        assert db.execute("SELECT count(*) FROM results WHERE measure = 'psnr'").fetchone() == (16 + 2,)
        assert db.execute("SELECT count(*) FROM results WHERE cell = 'input' AND measure = 'psnr'").fetchone() == (2,)
    db.close()


def report_data(folder):
    text = (folder / "report.html").read_text("utf-8")
    return json.loads(re.search(r'id="data">(.*?)</script>', text, re.DOTALL)[1])


def test_the_input_enlarged_by_bicubic_is_measured_as_a_cell_is(study, tmp_path):
    run_study(read_study(study), tmp_path / "out", device="cpu")
    data = report_data(tmp_path / "out")
    expected = []
    for name in ("a", "b"):
        whole = np.asarray(Image.open(tmp_path / "photos" / f"{name}.png"))
        small = Image.fromarray(whole).resize((10, 12), Image.Resampling.BICUBIC)
        large = np.asarray(small.resize((40, 48), Image.Resampling.BICUBIC))
        expected.append(10 * np.log10(255**2 / np.square(large.astype(float) - whole).mean()))
    found = data["baseline"]
    assert (found["label"], found["runs"], found["settings"]) == ("bicubic", 2, {})
    assert found["results"]["psnr"]["mean"] == pytest.approx(np.mean(expected), rel=1e-12)
    assert found["results"]["psnr"]["low"] == found["results"]["psnr"]["high"]  # no seed changes it
    assert found["results"]["calls"]["mean"] == 0
    assert found["results"]["psnr"]["difference"] is not None
    assert "ode-distance" not in found["results"]
    assert data["by_image"]["images"] == ["a", "b"]
    assert data["by_image"]["values"]["psnr"]["input"] == pytest.approx(expected, rel=1e-5)
    table = (tmp_path / "out" / "table.md").read_text()
    (row,) = [line for line in table.splitlines() if "bicubic (no sampler)" in line.replace("\\", "")]
    assert f"| {np.mean(expected):.2f}"[:6] in row
    assert "no sampler: the input enlarged by bicubic" in table.lower()
    assert {row["label"] for row in rows(tmp_path / "out")} == {cell["label"] for cell in data["cells"]}


def test_without_a_reference_there_is_no_baseline(tmp_path, photos):
    own = Study(
        preset={"model": "gaussian", "images": str(photos / "*.png"), "scheduler": "flow-ode", "steps": 1},
        measures=["consistency"],
    )
    own.run(tmp_path / "out", device="cpu")
    data = report_data(tmp_path / "out")
    assert data["baseline"] is None
    assert re.fullmatch(r"The only cell has \d+ dB of consistency\.", data["finding"])


def test_the_report_says_what_it_was_made_with(study, tmp_path):
    run_study(read_study(study), tmp_path / "out", device="cpu", processes=2)
    data = report_data(tmp_path / "out")
    made = dict(data["made"])
    assert made["workers"] == "2"
    assert made["processor"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d", made["date"])
    assert data["file"] == study.read_text()
    run_study(read_study(study), tmp_path / "out", device="cpu", processes=1)  # which has nothing to do
    assert dict(report_data(tmp_path / "out")["made"]) == made


def test_shared_calls_are_counted_as_they_are_made(study, tmp_path, monkeypatch):
    made = Counter()
    from pidsampler.onnx.model import OnnxDenoiser

    predict = OnnxDenoiser.predict

    def counted(self, x, t, out):
        made["calls"] += 1
        predict(self, x, t, out)

    monkeypatch.setattr(OnnxDenoiser, "predict", counted)
    plan = read_study(study)
    found = estimate(plan, tmp_path / "out", device="cpu")
    # For each image and seed: t = 0.999 once, then 1 more call for two steps and 3 for four, for each scheduler.
    assert (found.cells, found.runs, found.calls, found.calls_alone) == (4, 16, 4 * 9, 4 * 12)
    assert found.seconds > 0
    made.clear()
    seen = []
    run_study(plan, tmp_path / "out", device="cpu", on_progress=seen.append)
    converged = 4 * 7  # Heun's four steps, for each image and seed
    assert made["calls"] == 4 * 9 + converged
    assert [p.done for p in seen] == sorted(p.done for p in seen)
    assert seen[-1].done == seen[-1].calls == 4 * 9
    assert estimate(plan, tmp_path / "out", device="cpu").runs == 0


def test_any_number_of_processes_gives_the_same(study, tmp_path):
    for count in (1, 2):
        run_study(read_study(study), tmp_path / f"{count}", device="cpu", processes=count)
    assert untimed(tmp_path / "1") == untimed(tmp_path / "2")
    for picture in (tmp_path / "1" / "pictures").rglob("*.png"):
        assert picture.read_bytes() == (tmp_path / "2" / picture.relative_to(tmp_path / "1")).read_bytes()


def test_a_flow_is_measured_against_its_exact_law(tmp_path):
    study = of_flow(axes={"scheduler": ["flow-ode", "heun"]}, measures=["ode-distance", "wasserstein-1", "mean-error"])
    run_study(study, tmp_path / "out", device="cpu")
    law = GaussianMixture(FLOW["means"], FLOW["stds"], FLOW["weights"])

    @functools.cache
    def ended(spec, seed):
        return sample(law, get_scheduler(spec), shape=(1, 3, 16, 16), seed=seed, dtype=float)

    for row in rows(tmp_path / "out"):
        x = ended(f"{row['set_scheduler']}@uniform:4", int(row["seed"]))
        mean = float(row["mean-error"])
        assert mean == pytest.approx(x.mean() - (-0.6 + 2 * 0.5) / 3, abs=1e-12)
        exact = ended("rk4@uniform:400", int(row["seed"]))
        assert float(row["ode-distance"]) == pytest.approx(np.sqrt(np.square(x - exact).mean()), rel=1e-4)


def test_fitted_orders_are_the_registrys(tmp_path):
    """Of methods without noise, since what is drawn would hide an error of second order; the rest take long."""
    names = [
        i.name for i in list_schedulers() if not i.stochastic and (i.model_calls_per_step < 3 or i.name == "tsit5")
    ]
    study = of_flow(
        preset={"model": "mixture", "scheduler": "flow-ode", "timesteps": "uniform", "steps": 8, "seeds": 1},
        axes={"scheduler": names, "steps": [8, 16, 32, 64]},
        measures=["ode-distance"],
        flows={"mixture": {**FLOW, "shape": [3, 4, 4], "interval": [0.95, 0.3]}},
    )
    finished = run_study(study, tmp_path / "out", device="cpu")
    data = json.loads(re.search(r'id="data"[^>]*>(.*?)</script>', finished.report.read_text(), re.S)[1])
    (convergence,) = data["convergence"]
    orders = {line["label"]: (line["order"]["fit"], line["expected"]) for line in convergence["series"]}
    assert orders.keys() == set(names)
    fits = {name: round(fit) for name, (fit, _) in orders.items()}
    assert fits.pop("tsit5") in (5, 6)  # its terms of order 5 are so small that those of order 6 are seen first
    assert fits == {name: e for name, (_, e) in orders.items() if name != "tsit5"}


def test_a_users_measure(tmp_path, study):
    (tmp_path / "own.py").write_text(
        "from pidsampler.study.measures import measure\n"
        '@measure(unit="of 255", better="", source="mean", needs=("picture",))\n'
        "def brightness(sample):\n"
        "    return sample.picture.mean()\n"
    )
    study.write_text(SMALL.replace('"consistency"', '"own.py:brightness"'))
    run_study(read_study(study), tmp_path / "out", device="cpu", processes=2)
    assert all(100 < float(row["brightness"]) < 150 for row in rows(tmp_path / "out"))


# What goes wrong


@pytest.mark.filterwarnings("default:known to fail")
def test_a_cell_that_fails_is_recorded_and_the_rest_goes_on(study, tmp_path, capsys):
    study.write_text(SMALL.replace("steps = [2, 4]", "steps = [2, 4, 9]"))
    assert main(["study", str(study), "-o", str(tmp_path / "out"), "--processes", "1", "--device", "cpu"]) == 1
    out, error = capsys.readouterr()
    assert "warning: known to fail: flow-sde, steps=9: " in error
    assert "24 runs of 6 cells" in out
    assert "8 runs failed; the first: flow-sde, steps=9: steps=9 would repeat times of a list of 4" in error
    found = rows(tmp_path / "out")
    assert len(found) == 24
    assert {row["label"] for row in found if row["error"]} == {"flow-sde, steps=9", "flow-ode, steps=9"}
    assert all(row["psnr"] for row in found if not row["error"])
    assert main(["study", str(study), "-o", str(tmp_path / "out"), "--dry-run", "--device", "cpu"]) == 1
    out, error = capsys.readouterr()
    assert "will fail: flow-ode, steps=9: steps=9 would repeat" in out
    assert "error: known to fail: 2; the first: flow-sde, steps=9" in error


@pytest.mark.parametrize("more", [["my.toml"], ["-o", "out"]])
def test_init_prints_and_takes_no_study(more, capsys):
    assert main(["study", "--init", *more]) == 2
    assert "--init prints a study and takes no other: pidsampler study --init > my.toml" in capsys.readouterr().err


def test_a_method_that_asks_two_networks_fails_before_a_run_of_a_model(study, tmp_path, capsys):
    study.write_text(SMALL.replace('"flow-ode"', '"euler-cfg-pp"'))
    main(["study", str(study), "-o", str(tmp_path / "out"), "--dry-run", "--device", "cpu"])
    assert "will fail: euler-cfg-pp, steps=2: its rows guide toward a caption" in capsys.readouterr().out


OWN = """
import os, time
from pidsampler.study.measures import measure

@measure(unit="", better="", source="", needs=("x",))
def own(sample):
    {body}
    return float(abs(sample.x).mean())
"""


def with_own_measure(tmp_path, study, body, steps="[2, 4]"):
    (tmp_path / "own.py").write_text(OWN.format(body=body))
    study.write_text(SMALL.replace('"consistency"', '"own.py:own"').replace("[2, 4]", steps))
    return study


@pytest.mark.parametrize("count", [1, 2])
def test_a_measure_that_raises_costs_its_own_column(study, tmp_path, count):
    with_own_measure(tmp_path, study, "assert sample.picture.mean() > 1e9, 'too dark'")
    finished = run_study(read_study(study), tmp_path / "out", device="cpu", processes=count)
    assert (finished.runs, finished.failed) == (16, 0)
    assert finished.error == "flow-sde, steps=2: own: AssertionError: too dark"
    assert all(row["psnr"] and row["calls"] and not row["own"] for row in rows(tmp_path / "out"))
    for text in (finished.summary(), finished.to_latex()):
        assert "Measure own failed in 16 of 16 runs: AssertionError: too dark" in text


def test_a_measure_that_failed_is_tried_again_once_the_study_had_ended(study, tmp_path):
    with_own_measure(tmp_path, study, "assert sample.picture.mean() > 1e9")
    plan, seen = read_study(study), []
    run_study(plan, tmp_path / "out", device="cpu")
    with_own_measure(tmp_path, study, "pass")
    os.utime(tmp_path / "own.py", ns=(1, 1))
    again = run_study(plan, tmp_path / "out", device="cpu", on_progress=seen.append)
    assert (len(seen), again.error) == (16, None)
    assert all(row["own"] for row in rows(tmp_path / "out"))
    store = Store(tmp_path / "stopped", {})
    store.add(("a", "b", 0), {}, error=None, gaps={"own": "why"})
    store.forget_failures()
    assert store.done() == {("a", "b", 0)}  # it had been stopped, and goes on where it was
    store.end()
    store.forget_failures()
    assert store.done() == set()
    store.close()


def test_a_process_that_dies_takes_only_its_run_with_it(study, tmp_path):
    body = "if sample.picture[0, 0, 0] % 8 == 1: os.kill(os.getpid(), 9)"
    with_own_measure(tmp_path, study, body)
    run_study(read_study(study), tmp_path / "out", device="cpu", processes=2)
    found = rows(tmp_path / "out")
    assert len(found) == 16
    died = {(row["label"], row["image"], row["seed"]) for row in found if row["error"]}
    assert 0 < len(died) < 16
    assert all("its process died (SIGKILL)" in row["error"] for row in found if row["error"])
    up = Upscaler.load("gaussian", "cpu")
    for row in found:
        whole = np.asarray(Image.open(tmp_path / "photos" / f"{row['image']}.png"))
        small = np.asarray(Image.fromarray(whole).resize((10, 12), Image.Resampling.BICUBIC))
        picture = up(small, f"{row['set_scheduler']}@pid:{row['set_steps']}", seed=int(row["seed"])).array
        assert bool(row["error"]) == (picture[0, 0, 0] % 8 == 1)


def test_a_worker_that_cannot_begin_is_said_at_once(study, tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "__name__", "pidsampler.nowhere")
    with pytest.raises(PidSamplerError, match="a worker could not begin: its process died \\(exit code 1\\)"):
        run_study(read_study(study), tmp_path / "out", device="cpu", processes=2)


def test_a_model_that_is_not_there_fails_its_cells(study, tmp_path):
    study.write_text(SMALL.replace('scheduler = ["flow-sde", "flow-ode"]', 'model = ["gaussian", "nowhere"]'))
    with pytest.warns(PidSamplerWarning, match="known to fail: nowhere, steps=2: .*nowhere"):
        finished = run_study(read_study(study), tmp_path / "out", device="cpu")
    assert finished.failed == 8
    assert "no model" in finished.error
    assert "nowhere" in finished.error


def test_a_folder_of_other_results_is_left_alone(study, photos, tmp_path):
    run_study(read_study(study), tmp_path / "out", device="cpu")
    before = (tmp_path / "out" / "results.csv").read_bytes()
    study.write_text(SMALL.replace('"psnr", ', ""))
    with pytest.raises(PidSamplerError, match="holds results of another choice of measures: pass another folder"):
        run_study(read_study(study), tmp_path / "out", device="cpu")
    study.write_text(SMALL)
    (photos / "a.png").write_bytes((photos / "b.png").read_bytes())
    with pytest.raises(PidSamplerError, match="holds results of another picture a"):
        run_study(read_study(study), tmp_path / "out", device="cpu")
    assert (tmp_path / "out" / "results.csv").read_bytes() == before


def test_a_study_may_grow(study, tmp_path):
    run_study(read_study(study), tmp_path / "out", device="cpu")
    seen = []
    study.write_text(SMALL.replace("steps = [2, 4]", "steps = [2, 3, 4]").replace("seeds = 2", "seeds = 3"))
    # The seeds are a setting: more of them are other cells, and more steps are not.
    run_study(read_study(study), tmp_path / "more", device="cpu")
    study.write_text(SMALL.replace("steps = [2, 4]", "steps = [2, 3, 4]"))
    run_study(read_study(study), tmp_path / "out", device="cpu", on_progress=seen.append)
    assert len(seen) == 8
    assert len(rows(tmp_path / "out")) == 24


def test_a_folder_that_is_no_study_is_left_alone(study, tmp_path, capsys):
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years")
    for more in ([], ["--dry-run"]):
        assert main(["study", str(study), "-o", str(tmp_path / "mine"), "--device", "cpu", *more]) == 1
        assert "holds 'thesis.txt' and no study, and is left alone" in capsys.readouterr().err
    assert [path.name for path in (tmp_path / "mine").iterdir()] == ["thesis.txt"]
    with pytest.raises(PidSamplerError, match=r"cannot use .*: Not a directory"):
        run_study(read_study(study), study, device="cpu")


def test_two_at_once_in_one_folder_are_refused(study, tmp_path):
    store = Store(tmp_path / "out", {})
    with pytest.raises(PidSamplerError, match="being worked on by another process"):
        run_study(read_study(study), tmp_path / "out", device="cpu")
    store.close()
    run_study(read_study(study), tmp_path / "out", device="cpu")


# Stopped and taken up

STEPS = "[1, 2, 3, 4]"
NAP = "time.sleep(0.05)"


# Figures take seconds, and have tests of their own.
UNDRAWN = """
from pidsampler.study.report import figures
figures.draw = lambda *_: []
"""
COMMAND = f"{UNDRAWN}\nimport sys\nfrom pidsampler import cli\nsys.exit(cli.main(sys.argv[1:]))"


def started(study, out, count=2, **options):
    command = [sys.executable, "-P", "-c", COMMAND, "study", str(study), "-o", str(out), "--device", "cpu"]
    return subprocess.Popen([*command, "--processes", str(count)], stderr=subprocess.PIPE, text=True, **options)


def test_killed_at_twelve_moments_it_gives_the_same_table(study, tmp_path):
    """Three while it starts, nine while it works: after its next run, and a moment."""
    plan = with_own_measure(tmp_path, study, NAP, steps=STEPS)
    run_study(read_study(plan), tmp_path / "whole", device="cpu")
    moments, folders, held = random.Random(6), [tmp_path / "killed-0"], []
    server, errors = Server(UNDRAWN), tmp_path / "err"

    def begun(folder, count):
        arguments = ["study", plan, "-o", folder, "--device", "cpu", "--processes", count]
        return server.start(arguments, folder=tmp_path, errors=errors)

    while len(held) < 12:
        before = len(Store.peek(folders[-1]))
        if before == 32:  # it was faster: the rest of the kills go to another
            folders.append(tmp_path / f"killed-{len(folders)}")
            continue
        process = begun(folders[-1], 2 if len(held) % 8 == 1 else 1)
        if len(held) % 4 == 0:
            time.sleep(moments.uniform(0.0, 0.2))
        else:
            while process.poll() is None and len(Store.peek(folders[-1])) == before:
                time.sleep(0.01)
            time.sleep(moments.uniform(0.0, 0.08))
        process.kill()
        if process.wait() == -signal.SIGKILL:
            held.append((folders[-1], len(Store.peek(folders[-1]))))
        else:
            assert process.wait() == 0, errors.read_text()
    assert len({one for one in held if 0 < one[1] < 32}) >= 6  # in the middle of the work, each at another run
    for folder in folders:
        assert begun(folder, 1).wait() == 0, errors.read_text()
        assert untimed(folder) == untimed(tmp_path / "whole")
        assert len({(row["cell"], row["image"], row["seed"]) for row in rows(folder)}) == 32
        for picture in (tmp_path / "whole" / "pictures").rglob("*.png"):
            assert picture.read_bytes() == (folder / picture.relative_to(tmp_path / "whole")).read_bytes()
    server.close()


def test_a_store_that_is_just_being_made_holds_nothing(tmp_path):
    assert Store.peek(tmp_path) == set()
    (tmp_path / "study.sqlite").touch()
    assert Store.peek(tmp_path) == set()


def test_interrupted_it_says_so_and_goes_on(study, tmp_path):
    plan = with_own_measure(tmp_path, study, NAP, steps=STEPS)
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)  # noqa: E731 -- a shell's background job ignores it
    process = started(plan, tmp_path / "out", preexec_fn=heard)
    while len(list((tmp_path / "out" / "pictures").rglob("*-x0.png"))) < 3:
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate()
    goes_on = "pidsampler: error: interrupted: the same command goes on where it was\n"
    assert (process.returncode, error) == (130, goes_on)
    some = untimed(tmp_path / "out")
    assert 0 < len(some) < 32
    run_study(read_study(plan), tmp_path / "out", device="cpu")
    assert len(rows(tmp_path / "out")) == 32
    assert [row for row in untimed(tmp_path / "out") if row in some] == some


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("pictures/x/a.png", {"images": "out/pictures/x/*.png"}),
        ("results.csv", {"images": "link.png"}),
        ("tables/a.json", {"scheduler": "@out/tables/a.json", "steps": None}),
        ("table.md", {"timesteps": "@out/table.md", "steps": None}),
    ],
)
def test_no_input_is_replaced(photos, tmp_path, name, more):
    path = tmp_path / "out" / name
    path.parent.mkdir(parents=True)
    content = get_scheduler("flow-sde").table().to_json().encode()
    content = (
        b"0.5\n0\n" if "timesteps" in more else content if "scheduler" in more else (photos / "a.png").read_bytes()
    )
    path.write_bytes(content)
    (tmp_path / "link.png").symlink_to(path)
    preset = {"model": "gaussian", "images": "photos/a.png", "steps": 2, **more}
    study = Study(preset=preset, measures=["specks"], folder=tmp_path)
    with pytest.raises(PidSamplerError, match="which is never replaced"):
        run_study(study, tmp_path / "out")
    assert path.read_bytes() == content


def test_names_do_not_control_a_terminal(photos, tmp_path):
    name = "red\x1b[31m\x9b\u202e"
    (photos / "a.png").rename(photos / f"{name}.png")
    shutil.copytree(Upscaler.load("gaussian", "cpu").model.path, tmp_path / name)
    preset = {"model": "gaussian", "images": "photos/*.png", "steps": 1}
    study = Study(preset=preset, axes={"model": ["gaussian", name]}, measures=["specks"], folder=tmp_path)
    run_study(study, tmp_path / "out")
    for path in (tmp_path / "out").glob("*.*"):
        if path.suffix in (".csv", ".md", ".tex", ".html"):
            assert not {*"\x1b\x9b\u202e"} & {*path.read_text(encoding="utf-8")}, path


def test_what_a_killed_study_left_is_removed(tmp_path):
    Store(tmp_path / "out", {}).close()
    for folder in ("out", "out/tables", "out/pictures/a"):
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder / ".pidsampler-0123456789abcdef.tmp").write_bytes(b"half")
        os.utime(tmp_path / folder / ".pidsampler-0123456789abcdef.tmp", (0, 0))
    preset = {"model": "law", "scheduler": "heun", "steps": 2}
    run_study(Study(preset=preset, flows={"law": FLOW}, measures=["mean-error"]), tmp_path / "out")
    assert not list((tmp_path / "out").rglob(".pidsampler-*"))


def test_a_full_disk_loses_nothing(study, tmp_path):
    """A limit on the size of files stands for it: SQLite meets it in the middle of a transaction."""
    plan = with_own_measure(tmp_path, study, "pass", steps=STEPS)
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (90_000, 90_000))  # noqa: E731
    uncovered = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    process = started(plan, tmp_path / "out", count=1, preexec_fn=limit, env=uncovered)
    _, error = process.communicate()
    assert process.returncode == 1
    assert "cannot be written" in error
    assert "Traceback" not in error
    run_study(read_study(plan), tmp_path / "out", device="cpu")
    run_study(read_study(plan), tmp_path / "whole", device="cpu")
    assert untimed(tmp_path / "out") == untimed(tmp_path / "whole")


def test_samplers_and_times_of_ones_own_files(tmp_path):
    """Relative to the study's folder; a flow between two noise levels scales their times too."""
    (tmp_path / "my.py").write_text(
        "from pidsampler import FlowODE\n"
        "def euler(timesteps):\n    return FlowODE(timesteps)\n"
        "def halving(steps):\n    return [*(0.5**k for k in range(steps)), 0.0]\n"
    )
    (tmp_path / "table.json").write_text(get_scheduler("flow-ode@uniform:2").table().to_json())
    (tmp_path / "list.txt").write_text("1\n0.5\n0\n")
    study = of_flow(
        axes={"scheduler": ["my.py:euler", "flow-ode"], "timesteps": ["my.py:halving", "@list.txt"], "steps": [2]},
        measures=["ode-distance"],
        folder=tmp_path,
    )
    tables = {cell.label: study.table(cell)[0] for cell in study.all_cells if cell.settings["steps"] == 2}
    assert {label: table.times for label, table in tables.items()} == {
        f"{scheduler}, timesteps={times}, steps=2": (1.0, 0.5, 0.0)
        for scheduler in ("my.py:euler", "flow-ode")
        for times in ("my.py:halving", "@list.txt")
    }
    assert len(set(tables.values())) == 1
    run_study(study, tmp_path / "out", device="cpu")
    found = [row["ode-distance"] for row in rows(tmp_path / "out")]
    assert len(found) == len(study.all_cells) * 2
    (tmp_path / "list.txt").write_text("1\n0.6\n0\n")
    with pytest.raises(PidSamplerError, match=r"table of .*list\.txt"):
        run_study(study, tmp_path / "out", device="cpu")
    (tmp_path / "list.txt").write_text("1\n0.5\n0\n")
    table = of_flow(
        preset={**study.preset, "scheduler": "@table.json", "timesteps": None, "steps": None}, folder=tmp_path
    )
    assert table.table(table.preset_cell)[0].times == (1.0, 0.5, 0.0)


def test_tables_that_ask_two_networks_and_biased_ones(tmp_path):
    """A flow has no condition, so that its two networks are one; the report says how far a biased table ends off."""
    keep = Row(1.0, 1.0, a=1.0, net=1, saves={0: Combination(b=1.0)})
    pair = StepTable([keep, Row(1.0, 0.5, a=0.5, b=1.0, h={0: -0.5}), Row(0.5, 0.0, b=1.0)])
    biased = StepTable([Row(1.0, 0.5, a=0.5, b=0.5), Row(0.5, 0.0, b=0.98, biased=True)])
    for name, table in (("pair", pair), ("biased", biased)):
        (tmp_path / f"{name}.json").write_text(table.to_json())
    study = of_flow(
        preset={"model": "mixture", "scheduler": "flow-ode", "timesteps": "uniform", "steps": 2, "seeds": 2},
        axes={},
        cells=[{"scheduler": f"@{name}.json", "timesteps": None, "steps": None} for name in ("pair", "biased")],
        measures=["ode-distance"],
        folder=tmp_path,
    )
    finished = run_study(study, tmp_path / "out", device="cpu")
    found = {(row["set_scheduler"], row["seed"]): float(row["ode-distance"]) for row in rows(tmp_path / "out")}
    for seed in "01":
        assert found["@pair.json", seed] == pytest.approx(found["flow-ode", seed], rel=1e-9)
        assert found["@biased.json", seed] != found["flow-ode", seed]
    data = json.loads(re.search(r'id="data"[^>]*>(.*?)</script>', finished.report.read_text(), re.S)[1])
    said = {cell["settings"]["scheduler"]: cell["bias"] for cell in data["cells"]}
    assert said == {
        "flow-ode": None,
        "@pair.json": None,
        "@biased.json": "image -0.02 and noise +0 at the end, by the self-check",
    }
    table = (tmp_path / "out" / "table.md").read_text()
    assert "biased.json (biased) |" in table
    assert "Biased: the sampler misses its noise level on purpose." in table


@pytest.mark.parametrize("scheduler", ["my.py:euler", "my.py:euler@uniform:2", "flow-ode@uniform:2"])
def test_a_files_sampler_is_scaled_to_a_flows_interval(tmp_path, scheduler):
    (tmp_path / "my.py").write_text("from pidsampler import FlowODE as euler\n")
    flows = {"mixture": {"means": [0.0], "stds": [1.0], "shape": [3, 4, 4], "interval": [0.8, 0.2]}}
    own = {} if "@" in scheduler else {"timesteps": "uniform", "steps": 2}
    preset = {"model": "mixture", "scheduler": scheduler, "seeds": 1, **own}
    study = Study(preset=preset, flows=flows, folder=tmp_path)
    assert study.table(study.preset_cell)[0].times == pytest.approx((0.8, 0.5, 0.2))


def test_what_0_1_gave_flat_is_bundled():
    with pytest.warns(DeprecationWarning, match=r"pass .* of Study in") as found:
        study = of_flow(title="a title", album=3.0, converged="heun@uniform:8")
    assert study == of_flow(truth=Truth(converged="heun@uniform:8"), report=ReportOptions(title="a title", album=3.0))
    assert [str(one.message) for one in found] == [
        "pass converged of Study in truth=Truth(...): this works until version 0.3",
        "pass title, album of Study in report=ReportOptions(...): this works until version 0.3",
    ]
    assert {one.filename for one in found} == {__file__}
    with pytest.warns(DeprecationWarning, match="attribute title of Study is called report.title now"):
        assert study.title == "a title"
