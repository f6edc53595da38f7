"""`pidsampler learn`, and what uses the table that it writes."""

import json
import re
import shutil
import warnings

import numpy as np
import pytest
import wholes
from PIL import Image

from pidsampler import Upscaler
from pidsampler.bench import samplers as timed
from pidsampler.cli.main import main
from pidsampler.errors import PidSamplerWarning
from pidsampler.export.one_graph import compile, described
from pidsampler.io.tables import read_table
from pidsampler.onnx import model_hashes
from pidsampler.search.problem import Problem
from pidsampler.study import Study
from pidsampler.study.report import figures

QUICK = (
    *("--model", "gaussian", "--calls", "2", "--evaluations", "1", "--seeds", "2", "--most-amplified", "100"),
    *("--device", "cpu"),
)


@pytest.fixture(scope="module", name="here")
def _here(tmp_path_factory, repository):
    """A folder with two small pictures and a table learnt on them."""
    folder = tmp_path_factory.mktemp("learnt")
    with Image.open(repository / "examples" / "road.jpg") as image:
        for name, x in (("a.png", 0), ("b.png", 100)):
            image.convert("RGB").crop((x, x, x + 4, x + 4)).save(folder / name)
    pictures = [str(folder / name) for name in ("a.png", "b.png")]
    assert main(["learn", *pictures, *QUICK, "-o", str(folder / "table.json"), "--quiet", "--no-matrix"]) == 0
    return folder


@pytest.fixture(name="learn")
def _learn(here, capsys):
    def learn(*options, matrix=False):
        """Learn as a command; the exit code, and what it said."""
        all_options = (*QUICK, *options) if matrix else (*QUICK, "--no-matrix", *options)
        try:
            code = main(["learn", str(here / "a.png"), str(here / "b.png"), *all_options])
        except SystemExit as ended:
            code = ended.code
        said = capsys.readouterr()
        return code, said.out, said.err

    return learn


def test_the_table_and_its_history(here):
    history = json.loads((here / "table.json").read_text())["history"]
    assert history == read_table(here / "table.json").history
    assert history["model"] == {"name": "gaussian", "sha256": model_hashes("gaussian")}
    assert [one["name"] for one in history["fitted_to"]] == ["a.png"]
    (held_out,) = history["held_out"]
    assert held_out["name"] == "b.png"
    assert len(held_out["sha256"]) == 64
    assert sorted(held_out["errors"]) == ["2", "3"]
    error = history["error"]
    assert error["low"] <= error["mean"] <= error["high"]
    assert error["mean"] == pytest.approx(np.mean([*held_out["errors"].values()]))
    assert error["mean"] < history["best_known"][0]["mean"]
    assert history["best_known"][0]["found_is"] == "better"
    assert 1 < history["amplification"] < 100
    assert history["settings"] == {
        "calls": 2,
        "timesteps": None,
        "history": 3,
        "ridge": 0.01,
        "seeds": 2,
        "evaluations": 1,
        "free_start": None,
        "joint": None,
        "most_amplified": 100.0,
        "target": "ode",
        "paired": False,
        "biased": False,
    }
    assert sorted(history["consistency"]) == ["found", "own", "solution"]
    assert str(here) not in json.dumps(history)


def test_it_is_shown(here, capsys):
    assert main(["table", f"@{here / 'table.json'}"]) == 0
    shown = capsys.readouterr().out.splitlines()
    history = read_table(here / "table.json").history
    mean, low, high = (f"{history['error'][name]:.4g}" for name in ("mean", "low", "high"))
    best = history["best_known"][0]
    assert shown[1] == f"made by {history['made_by']} for the model gaussian"
    assert shown[2].startswith("settings: calls=2, history=3, ridge=0.01, seeds=2, ")
    assert shown[4] == f"fitted to 2 runs of a.png, error {history['error_fitted_to']:.4g}"
    assert shown[5:7] == ["held out 2 runs of b.png", f"RMS distance to the ODE's solution: {mean} [{low}, {high}]"]
    assert f"best of {history['known_samplers']} known samplers: {best['sampler']}" in shown
    assert shown[shown.index("") - 1].startswith("versions: pidsampler=")


def test_a_fit_to_a_measure_states_no_error_of_a_solution(learn, tmp_path, capsys):
    table = tmp_path / "table.json"
    assert learn("-o", str(table), "--target", "consistency", "--evaluations", "0")[0] == 0
    assert read_table(table).history["error_of_reference"] == 0
    assert main(["table", f"@{table}"]) == 0
    shown = capsys.readouterr().out
    assert "\nheld out 2 runs of b.png\n" in shown
    assert "error of the solution" not in shown


def test_a_history_of_a_stranger_is_shown_whatever_it_is(here, capsys):
    data = json.loads((here / "table.json").read_text())
    strange = {
        "model": {"name": "z" * 5000},
        "made_by": "\x1b[1m",
        "fitted_to": [1],
        "best_known": [],
        "held_out": [{}],
    }
    for history in ({"x": 1}, {"model": [], "error": "\x1b[1m", "best_known": {}}, strange, {"settings": [[]]}):
        (here / "strange.json").write_text(json.dumps({**data, "history": history}))
        assert main(["table", f"@{here / 'strange.json'}"]) == 0
        assert "\x1b" not in (out := capsys.readouterr().out)
        assert len(out) < 2000
    forged = "x\n\nrow  t  t_next\n0    1  0"
    (here / "strange.json").write_text(json.dumps({**data, "history": {"made_by": forged, "model": {"name": "m"}}}))
    assert main(["table", f"@{here / 'strange.json'}"]) == 0
    assert capsys.readouterr().out.splitlines()[1:3] == [f"made by {forged} for the model m".replace("\n", "\\n"), ""]


def test_another_model_warns_and_its_record_says_so(here):
    table = f"@{here / 'table.json'}"
    with pytest.warns(PidSamplerWarning, match="learnt for the model 'gaussian', and this is not the same"):
        result = Upscaler.load("tiny", "cpu")(here / "a.png", table)
    assert result.record["learnt_for"] == {"model": "gaussian", "this_model": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = Upscaler.load("gaussian", "cpu")(here / "a.png", table)
    assert result.record["learnt_for"] == {"model": "gaussian", "this_model": True}
    assert result.record["table"]["history"] == read_table(here / "table.json").history
    assert "learnt_for" not in Upscaler.load("gaussian", "cpu")(here / "a.png", "heun@uniform:2").record


def test_a_target_of_another_model_warns(here, learn, tmp_path):
    options = ("--target", f"@{here / 'table.json'}", "-o", str(tmp_path / "t.json"), "--overwrite")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        code, _, err = learn("--model", "tiny", *options)
    assert (code, err.count("warning: the target ")) == (0, 1)
    assert "table.json was learnt for the model 'gaussian', and this is not the same" in err
    assert learn(*options)[::2] == (0, "")


def test_another_model_warns_in_all_that_runs_it(here, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(timed, "cache_bytes", lambda backend: 1)
    monkeypatch.setattr(figures, "draw", lambda *_: [])
    table, said = f"@{here / 'table.json'}", "learnt for the model 'gaussian', and this is not the same"
    with pytest.warns(PidSamplerWarning, match=said):
        compile("tiny", table, size=(64, 64), output="other.onnx")
    assert described("other.onnx").record["learnt_for"] == {"model": "gaussian", "this_model": False}
    assert main(["inspect", "other.onnx"]) == 0
    assert re.search("^learnt for +gaussian, another one$", capsys.readouterr().out, re.M)
    with pytest.warns(PidSamplerWarning, match=f"table.json was {said}"):
        timed.steps([table], model="tiny", side=64, rounds=6)
    study = {"preset": {"images": str(here / "a.png"), "scheduler": table}, "measures": ["consistency"]}
    with pytest.warns(PidSamplerWarning, match=f"the table of tiny was {said}"):
        result = Study(**study, axes={"model": ["gaussian", "tiny"]}).run("both", device="cpu")
    assert "tiny (preset) (of another model) |" in result.summary()
    assert "| gaussian |" in result.summary()
    assert "learnt for another model than this one" in result.summary()
    assert said in result.report.read_text()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        timed.steps([table], side=64, rounds=6)
        timed.steps([table], model=Upscaler.load("gaussian", "cpu"), side=64, rounds=6)
        compile("gaussian", table, size=(64, 64), output="same.onnx")
        study["preset"]["model"] = "gaussian"
        assert "another model" not in Study(**study).run("same", device="cpu").summary()


def test_a_table_of_the_model_is_a_target(here, learn, tmp_path, repository):
    shutil.copytree(repository / "pidsampler" / "models" / "gaussian", tmp_path / "model")
    manifest = tmp_path / "model" / "pidsampler.json"
    manifest.write_text(json.dumps({**json.loads(manifest.read_text()), "tables": ["mine"]}))
    (tmp_path / "model" / "tables").mkdir()
    shutil.copy(here / "table.json", tmp_path / "model" / "tables" / "mine.json")
    options = ("--model", str(tmp_path / "model"), "--target", "@mine", "--evaluations", "0", "--joint", "0")
    code, out, err = learn("-o", str(tmp_path / "t.json"), *options)
    assert code == 0, err
    assert "RMS distance to @mine" in out
    assert read_table(tmp_path / "t.json").history["settings"]["target"] == "@mine"
    code, _, err = learn("-o", str(tmp_path / "u.json"), "--target", "@none")
    assert (code, "none" in err) == (2, True)


def test_a_guidance_to_learn_at(here, learn, capsys):
    words = "--backbone flux --type 2kto4k_v1pt5_undistilled --target onnx --caption input"
    teacher = wholes.exported(here / "teacher", words)
    caption = np.random.default_rng(0).standard_normal(Upscaler.load(teacher, "cpu").model.contract.caption)
    np.save(here / "c.npy", caption.astype(np.float32))
    x, found = np.random.default_rng(1).standard_normal((1, 3, 64, 64), np.float32), {}
    for scale in (0.0, 1.0, 3.0, None):
        problem = Problem.of_model(teacher, [here / "a.png"], device="cpu", caption=caption, guidance=scale)
        problem.subjects[0].denoiser.predict(x, 0.5, out := np.empty_like(x))
        found[problem.conditions.get("guidance", 1.0)] = out
    assert [*found] == [0.0, 1.0, 3.0, 5.0]  # the last one is the model's own
    for scale, out in found.items():
        np.testing.assert_allclose(out, found[0.0] + scale * (found[1.0] - found[0.0]), rtol=0, atol=1e-4)
    options = ("--model", str(teacher), "--calls", "1", "--evaluations", "0")
    told = ("--caption", str(here / "c.npy"), "--guidance", "3")
    code, out, _ = learn(*options, *told, "--dry-run", "-o", str(here / "g3.json"), matrix=True)
    assert (code, "model calls of two runs of the network each, " in out) == (0, True)
    assert out.endswith(", to try the table on: guidance 1, guidance 5\n")
    assert learn(*options, *told, "--target", "flow-ode@uniform:2", "-o", str(here / "g3.json"))[0] == 0
    model = read_table(here / "g3.json").history["model"]
    assert (model["guidance"], model["caption"]["shape"]) == (3.0, [*caption.shape])
    assert main(["table", f"@{here / 'g3.json'}"]) == 0
    assert "with guidance 3" in capsys.readouterr().out.splitlines()
    for wrong, message in (
        ((*options, "--guidance", "3"), "leads toward a caption, but none is given"),
        (("--guidance", "3"), "guidance needs a network with a caption, but"),
        ((*options, "--caption", str(here / "none.npy")), "cannot read"),
    ):
        code, _, err = learn(*wrong, "-o", str(here / "x.json"))
        assert (code in (1, 2), message in err) == (True, True), err


def test_crops_are_said(here, learn):
    code, out, _ = learn("-o", str(here / "cropped.json"), "--crop", "4")
    assert code == 0
    assert "Squares of 4 pixels with the most detail: a.png at 0, 0; b.png at 0, 0." in out
    assert read_table(here / "cropped.json").history["fitted_to"][0]["crop"] == [0, 0, 4]


def test_a_dry_run_writes_nothing(here, learn):
    code, out, _ = learn("-o", str(here / "new.json"), "--dry-run")
    assert code == 0
    assert "2 runs to fit to, 2 held out, " in out
    assert "model calls, " in out
    assert not (here / "new.json").exists()


def test_a_measure_takes_the_pictures_as_what_results_should_be(here, learn, capsys):
    path = here / "psnr.json"
    code, out, err = learn("-o", str(path), "--target", "psnr")
    assert code == 0, err
    assert "psnr (dB), higher is better" in out
    history = read_table(path).history
    assert (history["settings"]["target"], history["measure"]) == ("psnr", "psnr (dB), higher is better")
    assert history["error"]["mean"] >= history["best_known"][0]["mean"] - 1
    assert "consistency" not in history
    assert main(["table", f"@{path}"]) == 0
    assert "psnr (dB), higher is better: " in capsys.readouterr().out


def test_a_report_and_times_to_keep(here, learn):
    code, out, _ = learn("-o", str(here / "kept.json"), "--timesteps", "0.999,0.1,0", "--history", "all")
    assert code == 0
    assert "held out" in out
    assert "Consistency with the input: " in out
    assert "What was learnt is " in out
    assert "With the network's outputs in bfloat16: " in out
    assert "written to" in out
    assert read_table(here / "kept.json").times == (0.999, 0.1, 0.0)
    code, _, err = learn("-o", str(here / "kept.json"))
    assert code == 1
    assert "exists already: pass --overwrite" in err


@pytest.mark.parametrize(
    ("options", "code", "message"),
    [
        (("-o", "a.png", "--overwrite"), 1, "a.png"),
        (("-o", "none/table.json"), 1, "expected a file's name in a folder that exists"),
        (("-o", "x.json", "--calls", "0"), 2, "--calls 0 must be a whole number in 1..64"),
        (("-o", "x.json", "--timesteps", "0.9,0.5,0.1,0"), 2, "timesteps has 3 steps, but --calls 2: pass --calls 3"),
        (
            ("-o", "x.json", "--timesteps", "0.9,0.5,0", "--free-start"),
            2,
            "--free-start moves times, but timesteps keeps",
        ),
        (("-o", "x.json", "--history", "4"), 2, "invalid choice"),
        (("-o", "x.json", "--target", "psrn"), 2, "unknown target 'psrn': did you mean 'psnr'"),
        (("-o", "x.json", "--target", "flow-sde@pid"), 2, "draws noise"),
        (("-o", "x.json", "--calls", "3", "--paired"), 2, "--calls 3 cannot come in pairs"),
        (("-o", "x.json", "--seeds", "1"), 1, "1 held-out run gives no interval: pass more seeds"),
        (("-o", "x.json", "--most-amplified", "1", "--joint", "0"), 1, "more than --most-amplified 1"),
    ],
)
def test_it_refuses(here, learn, monkeypatch, options, code, message):
    monkeypatch.chdir(here)
    before = (here / "a.png").read_bytes()
    found, _, err = learn(*options)
    assert (found, message in err) == (code, True), err
    assert err.count("\n") == 1
    assert (here / "a.png").read_bytes() == before
    assert not (here / "x.json").exists()


def test_a_link_to_nothing_is_said_before_the_work(here, learn):
    (here / "link.json").symlink_to("nowhere.json")
    code, out, err = learn("-o", str(here / "link.json"))
    assert (code, out) == (1, "")
    assert "exists already: pass --overwrite" in err
    assert not (here / "link.json.journal").exists()


def test_a_table_is_tried_on_other_things(here, learn, tmp_path, repository):
    code, out, err = learn("-o", str(tmp_path / "t.json"), "--dry-run", matrix=True)
    assert code == 0
    assert re.search(r"^and about \d+, \d+ s, to try the table on: model tiny, model tiny-teacher$", out, re.M)
    code, out, err = learn("-o", str(tmp_path / "t.json"), "--crop", "4", matrix=True)
    assert code == 0, err
    assert err.count("\n") == 1
    assert "the table is not tried on 8x8: " in err
    assert "b.png is less than 8 pixels wide or high" in err
    rows = read_table(tmp_path / "t.json").history["matrix"]
    assert [row["on"] for row in rows] == ["model tiny", "model tiny-teacher"]
    for row in rows:
        line = f"{row['on']}  {row['distance']:.4g}  {row['best']}  {row['best_distance']:.4g}  {row['share']:.3g}"
        assert line.split() in [told.split()[:6] for told in out.splitlines()]
    other = ("-o", str(tmp_path / "u.json"), "--target", "flow-ode@uniform:2")
    assert learn(*other, matrix=True)[0] == 0
    assert "matrix" not in read_table(tmp_path / "u.json").history
    code, out, err = learn(*other, "--overwrite", "--matrix", matrix=True)
    assert (code, out) == (2, "")
    assert "--matrix is of distances to the ODE's solution, but the target is flow-ode@uniform:2" in err
