"""Studies from Python: schedulers, networks and measures as objects; results as a DataFrame and a LaTeX table."""

import csv
import inspect
import re
import sys
from pathlib import Path
from types import ModuleType

import attrs
import numpy as np
import pytest
from pages import python_blocks
from paths import REPOSITORY
from PIL import Image

import pidsampler as ps
from pidsampler import PidSamplerError
from pidsampler.cli import main
from pidsampler.study.log import trackio_log
from pidsampler.study.measures import get_measure, measure
from pidsampler.study.parts import ReportOptions, Truth
from pidsampler.study.report import figures
from pidsampler.study.settings import SETTINGS


@pytest.fixture(autouse=True)
def _undrawn(monkeypatch):
    """Figures take seconds, and have tests of their own."""
    monkeypatch.setattr(figures, "draw", lambda *_: [])


class Halved(ps.FlowODE):
    """A scheduler of one's own."""


def net(x, t):
    """The velocity from N(0, 1) at t = 1 to zeros."""
    return x / t


@measure(unit="", better="lower", source="mean |x|", needs=("x",))
def size(sample):
    return float(np.abs(sample.x).mean())


NET = ps.study.Network(net, shape=(3, 8, 8))


def read(folder):
    with (folder / "results.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def test_objects_of_ones_own(tmp_path):
    table = ps.get_scheduler("heun@uniform:2").table()
    study = ps.study.Study(
        preset={"model": NET, "timesteps": "uniform", "steps": 2},
        axes={"scheduler": {"mine": Halved, "his": "flow-ode"}},
        measures=[size, "ode-distance"],
    )
    results = study.run(tmp_path / "out")
    found = {row["label"]: row for row in read(tmp_path / "out")}
    assert found.keys() == {"flow-sde", "mine", "his"}
    x = ps.sample(net, Halved(ps.timesteps.uniform(2)), shape=(1, 3, 8, 8), seed=0)
    assert float(found["mine"]["size"]) == pytest.approx(np.abs(x).mean(), rel=1e-6)
    assert found["mine"]["size"] == found["his"]["size"]
    assert (results.runs, results.failed, results.problems) == (3, 0, ())
    assert len(list((tmp_path / "out" / "pictures" / "noise").glob("*-x0.png"))) == 3  # 3 channels are a picture
    made = ps.study.Study(preset={"model": NET, "scheduler": table}, measures=[size])
    assert [(cell.label, cell.settings["scheduler"]) for cell in made.all_cells] == [("preset", "StepTable")]
    assert made.table(made.preset_cell)[0] == table


def test_a_network_says_what_it_predicts(tmp_path):
    def x0(x, t):
        return np.zeros_like(x)

    own = ps.study.Network(x0, shape=(4, 8, 8), prediction="x0", name="zero")
    study = ps.study.Study(preset={"model": own, "scheduler": "flow-ode"}, measures=[size])
    study.run(tmp_path / "out")
    (row,) = read(tmp_path / "out")
    assert (row["set_model"], float(row["size"])) == ("zero", 0.0)
    assert not (tmp_path / "out" / "pictures").exists()


@pytest.mark.parametrize(
    ("axes", "message"),
    [
        (
            {"scheduler": [Halved(ps.timesteps.uniform(2)), type("Halved", (ps.FlowSDE,), {}), Halved]},
            "are both called",
        ),
        (
            {"model": [NET, ps.study.Network(net, shape=(3, 4, 4))]},
            r"both called 'net': give names, as in axes=\{'model'",
        ),
        ({"scheduler": [3]}, "the setting scheduler is 3"),
        ({"model": [net]}, "the setting model is <function net"),
        ({"steps": {"few": 2}}, "axis 'steps' is {'few': 2}, expected a list"),
    ],
)
def test_values_that_cannot_be_told_apart_or_used(axes, message):
    with pytest.raises(PidSamplerError, match=message):
        ps.study.Study(preset={"model": NET}, axes=axes, measures=[size])


def test_numbers_of_numpy_are_numbers():
    study = ps.study.Study(
        preset={"model": NET, "scheduler": "heun", "steps": np.int64(4)},
        axes={"timesteps": [ps.timesteps.uniform(4), np.array([0.9, 0.5, 0.2, 0.1, 0.0], np.float32)]},
    )
    assert [cell.settings["timesteps"] for cell in study.all_cells][1:] == [
        [1.0, 0.75, 0.5, 0.25, 0.0],
        np.array([0.9, 0.5, 0.2, 0.1, 0.0], np.float32).tolist(),
    ]
    axes = {"steps": np.arange(2, 4), "eta": [np.float32(0.5)]}
    assert ps.study.Study(preset={"model": NET}, axes=axes).axes == {"steps": [2, 3], "eta": [0.5]}


def test_objects_stay_in_this_process(tmp_path):
    study = ps.study.Study(preset={"model": NET}, measures=["ode-distance"])
    with pytest.raises(PidSamplerError, match="net is an object of this process, which no other has: pass processes=1"):
        study.run(tmp_path, processes=2)
    with pytest.raises(PidSamplerError, match="pass processes=1"):
        study.estimate(tmp_path, processes=2)
    twice = ps.study.Study(preset={"model": NET}, measures=[size, size])
    with pytest.raises(PidSamplerError, match="two measures are called 'size'"):
        twice.run(tmp_path)


def test_what_can_be_known_is_known_before(tmp_path, monkeypatch):
    @measure(unit="", better="", source="", needs=("x",), imports=("no_such_module",))
    def elsewhere(sample):
        return 0.0

    study = ps.study.Study(
        preset={"model": NET, "scheduler": "flow-sde"},
        axes={"scheduler": ["no-such-scheduler"]},
        measures=["psnr", "ode-distance", "mmd", "consistency", "specks", elsewhere],
    )
    found = study.estimate(tmp_path / "out").problems
    heads = [line.split(":")[0] for line in found]
    assert heads == [
        "no-such-scheduler",
        "measure psnr needs reference, which no run has",
        "measure ode-distance needs converged, which no run has",
        "measure mmd needs flow, which no run has",
        "measure consistency needs input, which no run has",
        "measure specks needs input, which no run has",
        "measure elsewhere needs no_such_module, which is not installed",
    ]
    assert not (tmp_path / "out").exists()


@pytest.mark.filterwarnings("default:known to fail")
def test_eight_cells_of_which_much_fails(tmp_path, capsys):
    """An impossible measure, a model that is not there, and a measure that fails: the rest is as good as ever."""
    Image.fromarray(np.arange(16 * 16 * 3, dtype=np.uint8).reshape(16, 16, 3)).save(tmp_path / "a.png")
    (tmp_path / "own.py").write_text(
        "from pidsampler.study.measures import measure\n"
        '@measure(unit="", better="lower", source="", needs=("picture",))\n'
        "def broken(sample):\n    raise ZeroDivisionError('on purpose')\n"
    )
    (tmp_path / "study.toml").write_text(
        'measures = ["psnr", "own.py:broken", "consistency"]\n'
        'preset = {model = "gaussian", scheduler = "flow-ode", images = "a.png"}\n'
        'axes = {model = ["gaussian", "nowhere"], scheduler = ["flow-ode", "heun"], steps = [1, 2]}\n'
        'cells = "grid"\n'
    )
    text = (tmp_path / "study.toml").read_text().replace("steps = [1, 2]", "steps = [2, 4]")
    (tmp_path / "study.toml").write_text(text.replace('"flow-ode", images', '"flow-ode", steps = 4, images'))
    out = tmp_path / "out"
    command = ["study", str(tmp_path / "study.toml"), "-o", str(out), "--device", "cpu", "--processes", "1"]
    assert main([*command, "--dry-run"]) == 1
    said, error = capsys.readouterr()
    assert said.count("will fail: nowhere, ") == 4
    assert "will fail: measure psnr needs reference, which no run has: set reduce, or references, or leave" in said
    assert "known to fail: 5" in error
    assert not out.exists()
    assert main(command) == 1
    error = capsys.readouterr().err
    assert "warning: known to fail: nowhere, flow-ode, steps=2: no model" in error
    assert "4 runs failed; the first: nowhere, flow-ode, steps=2: no model" in error
    results = ps.study.load(out)
    assert (results.runs, results.failed) == (8, 4)
    for row in read(out):
        whole = row["set_model"] == "gaussian"
        assert (bool(row["consistency"]), row["psnr"], row["broken"]) == (whole, "", "")
        assert row["error"].startswith("broken: ZeroDivisionError: on purpose" if whole else "no model")
    for table in (results.summary(), results.to_latex()):
        assert re.search("psnr, dB.*broken.*consistency, dB.*calls.*seconds", table)
        assert "Measure broken failed in 4 of 8 runs: ZeroDivisionError: on purpose." in table
        assert "Measure psnr needs reference, which no run has" in table
        assert "Runs failed in 4 of 8 cells, the first: nowhere, flow-ode, steps=2: no model" in table


def test_results_are_those_of_the_csv(tmp_path):
    pandas = pytest.importorskip("pandas")
    study = ps.study.Study(
        preset={"model": NET, "scheduler": "flow-ode", "seeds": 2}, axes={"steps": [2, 4]}, measures=[size]
    )
    frame = study.run(tmp_path / "out").to_pandas()
    plain = pandas.read_csv(tmp_path / "out" / "results.csv", dtype={"cell": str})
    pandas.testing.assert_frame_equal(frame, plain, rtol=1e-15)
    for row, line in zip(frame.to_dict("records"), read(tmp_path / "out"), strict=True):
        assert repr(row["size"]) == line["size"]
        assert (str(row["seed"]), row["image"], row["cell"]) == (line["seed"], line["image"], line["cell"])
    again = ps.study.load(tmp_path / "out")
    pandas.testing.assert_frame_equal(again.to_pandas(), frame)
    assert again.summary() == (tmp_path / "out" / "table.md").read_text() == again._repr_markdown_()
    assert r"\begin{tabular}" in again.to_latex()
    with pytest.raises(PidSamplerError, match=r"holds no study\.sqlite"):
        ps.study.load(tmp_path)


class Run:
    def __init__(self, told):
        self.told = told

    def log(self, metrics, step=None):
        self.told["logged"].append(metrics)

    def finish(self):
        self.told["finished"] += 1


# trackio 0.43.0's, as its source has them.
INIT = [
    *("project", "name", "group", "space_id", "server_url", "dataset_id", "bucket_id", "config", "resume", "settings"),
    *("private", "embed", "auto_log_gpu", "gpu_log_interval", "auto_log_cpu", "cpu_log_interval", "webhook_url"),
    "webhook_min_level",
]


def test_a_study_is_logged_to_trackio(tmp_path, monkeypatch):
    told = {"logged": [], "finished": 0, "runs": []}

    def init(*arguments, **options):
        kinds = [inspect.Parameter(name, inspect.Parameter.POSITIONAL_OR_KEYWORD) for name in INIT]
        told["runs"].append(
            inspect.Signature(kinds[:1] + [p.replace(default=None) for p in kinds[1:]])
            .bind(*arguments, **options)
            .arguments
        )
        return Run(told)

    trackio = ModuleType("trackio")
    trackio.init = init
    monkeypatch.setitem(sys.modules, "trackio", trackio)
    study = ps.study.Study(
        preset={"model": NET, "scheduler": "flow-ode", "seeds": 2}, axes={"steps": [2, 4]}, measures=[size]
    )
    with trackio_log(study) as log:
        study.run(tmp_path / "out", on_progress=log)
    assert [(run["project"], run["config"]["steps"], run["resume"]) for run in told["runs"]] == [  # as they end
        ("study", 2, "allow"),
        ("study", None, "allow"),
        ("study", 4, "allow"),
    ]
    assert sorted((one["image"], one["seed"]) for one in told["logged"]) == [("noise", 0)] * 3 + [("noise", 1)] * 3
    assert {one["size"] for one in told["logged"]} == {float(row["size"]) for row in read(tmp_path / "out")}
    assert told["finished"] == 3


def test_the_stand_in_is_trackios():
    trackio = pytest.importorskip("trackio")
    assert list(inspect.signature(trackio.init).parameters) == INIT
    for name in ("log", "finish"):
        assert inspect.signature(getattr(trackio.Run, name)).parameters.keys() == (
            inspect.signature(getattr(Run, name)).parameters.keys()
        )


def test_without_trackio(tmp_path, capsys, monkeypatch):
    monkeypatch.setitem(sys.modules, "trackio", None)
    (tmp_path / "a.toml").write_text('preset.model = "law"\nflows.law = {means = [0], stds = [1], shape = [3, 4, 4]}')
    assert main(["study", str(tmp_path / "a.toml"), "-o", str(tmp_path / "out"), "--log", "--device", "cpu"]) == 1
    assert "trackio is not installed: pip install 'pidsampler[log]'" in capsys.readouterr().err


def test_init_prints_a_study_that_runs(tmp_path, capsys):
    assert main(["study", "--init"]) == 0
    text = capsys.readouterr().out
    path = tmp_path / "mine.toml"
    path.write_text(text)
    assert len(ps.study.read_study(path).all_cells) == 9
    path.write_text(text.replace("[3, 32, 32]", "[3, 4, 4]"))
    assert (
        main(["study", str(path), "-o", str(tmp_path / "out"), "--device", "cpu", "--processes", "1", "--quiet"]) == 0
    )
    switched = re.sub(r"^# ([a-z_]+ = )", r"\1", text, flags=re.M)  # what is commented out is of the format too
    keys = {"reduce", "references", "album", "pictures", "images", "eta", "noise", "degrade_sigma"}
    assert keys <= {line.partition(" = ")[0] for line in switched.splitlines()}
    path.write_text(switched.replace("references =", "# "))
    assert ps.study.read_study(path).truth.reduce
    assert main(["study"]) == 2
    assert "expected STUDY.toml and -o DIR; pass --init" in capsys.readouterr().err


def test_the_page_runs(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    own, code = python_blocks("studies")
    Path("mine.py").write_text(own)
    assert get_measure("mine.py:brightness").unit == "of 255"
    exec(compile(code, "docs/studies.md", "exec"), {})
    assert capsys.readouterr().out.count("| Mine |") == 2


def test_the_page_has_every_key_and_setting():
    page = (REPOSITORY / "docs" / "studies.md").read_text()
    known = {*SETTINGS, *(f.name for part in (Truth, ReportOptions) for f in attrs.fields(part))}
    known |= {f.name for f in attrs.fields(ps.study.Study)} - {"truth", "report", "folder", "file"}
    assert {key for key in known if f"`{key}`" not in page} == set()
