import json
import os
import pty
import re
import shutil
import signal
import subprocess
import sys
import warnings
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from encoded import encoded, header_only
from models import write_model
from PIL import Image

from pidsampler import FlowODE, FlowSDE, StepTable, Upscaler, __version__, get_scheduler, list_schedulers, timesteps
from pidsampler.cli import main
from pidsampler.errors import PidSamplerError
from pidsampler.io.files import sha256
from pidsampler.noise import coupling
from pidsampler.onnx import folders as models
from pidsampler.schedulers.plot import plot_tables

RGB = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)


@pytest.fixture(name="here")
def _here(tmp_path, monkeypatch):
    """An empty working folder with one picture."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(RGB).save("in.png")
    return tmp_path


@pytest.fixture(name="run")
def _run(capsys):
    def run(*arguments):
        code = main([str(a) for a in arguments])
        out, err = capsys.readouterr()
        return code, out, err

    return run


def pixels(path):
    with Image.open(path) as image:
        return np.asarray(image)


def record(path):
    with Image.open(path) as image:
        return json.loads(image.text["pidsampler"])


def test_upscale(here, run):
    code, out, err = run("upscale", "in.png", "-o", "out.png")
    assert (code, err) == (0, "")
    assert re.fullmatch(r"out\.png: 36x24, 4 model calls on cpu, \d+\.\d s\n", out)
    assert np.array_equal(pixels("out.png"), Upscaler.load()(RGB).array)
    assert sorted(os.listdir()) == ["in.png", "out.png"]


def test_options_reach_the_sampler(here, run):
    times = "0.9990000000000001,0.30000000000000004,0"
    options = [
        "--timesteps",
        times,
        "--eta",
        "0.5",
        "--seed",
        "7",
        "--degrade-sigma",
        "0.2",
        "--device",
        "cpu",
        "--quiet",
    ]
    assert run("upscale", "in.png", "-o", "a.png", "--model", "gaussian", *options) == (0, "", "")
    scheduler = FlowSDE([0.999 + 2**-53, 0.1 + 0.2, 0], eta=0.5)
    expected = Upscaler.load("gaussian")(RGB, scheduler, seed=7, degrade_sigma=0.2)
    assert np.array_equal(pixels("a.png"), expected.array)
    assert ",".join(f"{t!r}" for t in record("a.png")["timesteps"]) == times + ".0"
    run("upscale", "in.png", "-o", "b.png", "--scheduler", "flow-ode", "--steps", "2")
    assert record("b.png")["timesteps"] == [0.999, 0.634, 0.0]
    assert StepTable.from_json(json.dumps(record("b.png")["table"])) == FlowODE(timesteps.pid(2)).table()
    run("upscale", "in.png", "-o", "c.png", "--scheduler", "flow-ode@uniform:3")
    assert record("c.png")["timesteps"] == timesteps.uniform(3).tolist()


def test_steps_choose_from_the_models_own_list(here, run):
    write_model(here / "m", {"timesteps": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0]})
    assert run("upscale", "in.png", "-o", "a.png", "--model", "m", "--steps", "6")[0] == 0
    assert record("a.png")["timesteps"] == [0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.0]
    code, _, err = run("upscale", "in.png", "-o", "b.png", "--model", "m", "--steps", "7")
    assert code == 2
    assert "--steps 7 would repeat times of a list of 6: pass 1..6" in err


def test_options_may_name_the_models_own_times(here, run):
    spec = "restart(t_max=0.866,t_min=0.342)"
    assert run("upscale", "in.png", "-o", "a.png", "--scheduler", spec)[::2] == (0, "")
    assert [row["t"] for row in record("a.png")["table"]["rows"]] == [0.999, 0.866, 0.634, 0.866, 0.634, 0.342]
    write_model(here / "m", {"timesteps": [0.9, 0.8, 0.7, 0.0]})
    spec = "restart(t_max=0.8,t_min=0.7)"
    assert run("upscale", "in.png", "-o", "b.png", "--model", "m", "--scheduler", spec)[::2] == (0, "")


def test_a_wrong_scheduler_is_said_before_a_model_is_loaded(here, run, monkeypatch):
    monkeypatch.setattr("pidsampler.upscale.upscaler.Upscaler.load", lambda *arguments: pytest.fail("loaded"))
    assert run("upscale", "in.png", "-o", "a.png", "--scheduler", "flow-sed")[0] == 2
    assert run("upscale", "in.png", "-o", "a.png", "--steps", "5")[0] == 2


def test_a_file_for_a_model_folder(here, run):
    code, _, err = run("upscale", "in.png", "-o", "a.png", "--model", "in.png")
    assert code == 1
    assert "no model 'in.png': pass a folder with vae_encoder.onnx" in err


def test_the_same_file_twice_and_in_a_batch(here, run):
    Image.fromarray(RGB[::-1]).save("other.png")
    run("upscale", "in.png", "-o", "one.png", "--seed", "3")
    code, out, _ = run("upscale", "other.png", "in.png", "-o", "all", "--seed", "3")
    assert code == 0
    assert len(out.splitlines()) == 2
    assert sorted(os.listdir("all")) == ["in.png", "other.png"]
    with open("one.png", "rb") as one, open("all/in.png", "rb") as again:
        assert one.read() == again.read()
    run("upscale", "in.png", "-o", "two.png", "--seed", "4")
    assert not np.array_equal(pixels("one.png"), pixels("two.png"))


def test_a_folder_as_output_for_one_input(here, run):
    assert run("upscale", "in.png", "-o", "new/")[0] == 0
    assert run("upscale", "in.png", "-o", "new", "--overwrite")[0] == 0
    assert os.listdir("new") == ["in.png"]


def test_a_bad_file_among_good_ones(here, run):
    (here / "bad.png").write_text("text")
    code, out, err = run("upscale", "bad.png", "in.png", "-o", "all")
    assert code == 1
    assert err.splitlines() == [
        "pidsampler: error: bad.png is not a picture that can be read: expected PNG, JPEG, WebP or TIFF",
        "pidsampler: error: 1 of 2 failed: bad.png",
    ]
    assert out.startswith("all/in.png: 36x24")
    assert os.listdir("all") == ["in.png"]


def test_a_latent_file(here, run):
    latent = np.zeros((192, 2, 3), np.float32)
    np.save("z.npy", latent)
    assert run("upscale", "z.npy", "-o", "z.png", "--degrade-sigma", "0.3")[0] == 0
    assert np.array_equal(pixels("z.png"), Upscaler.load()(latent, degrade_sigma=0.3).array)


def test_noise(here, run):
    assert run("upscale", "in.png", "-o", "a.png", "--noise", "brownian")[0] == 0
    result = Upscaler.load()("in.png", noise="brownian")
    assert np.array_equal(pixels("a.png"), result.array)
    assert result.record["noise"] == "brownian"
    assert StepTable.from_json(json.dumps(result.record["table"])) == coupling.brownian(
        get_scheduler("flow-sde").table()
    )
    code, out, _ = run("table", "flow-sde", "--noise", "fixed")
    assert code == 0
    assert out.count("*N(0)") == 3
    code, _, err = run("upscale", "in.png", "-o", "b.png", "--noise", "fixd")
    assert (code, err.count("\n")) == (2, 1)
    assert err.startswith("pidsampler: error: unknown noise 'fixd': did you mean 'fixed'? known are brownian, ")
    code, _, err = run("table", "restart@uniform:6", "--noise", "brownian")
    assert (code, err.count("\n")) == (2, 1)
    assert sorted(os.listdir()) == ["a.png", "in.png"]


def test_jpeg_gets_its_record_beside(here, run):
    assert run("upscale", "in.png", "-o", "a.jpg")[0] == 0
    assert sorted(os.listdir()) == ["a.jpg", "a.jpg.json", "in.png"]
    with open("a.jpg.json") as file:
        assert json.load(file)["seed"] == 0


def save(name, data):
    def make(here):
        (here / name).write_bytes(data)

    return make


def model(**options):
    return lambda here: write_model(here / "m", **options)


BAD = {
    # name: (what is made first, arguments, exit code, what the one line holds)
    "missing file": (None, ["no.png"], 1, "cannot read no.png: No such file or directory"),
    "not an image": (save("t.png", b"text"), ["t.png"], 1, "t.png is not a picture"),
    "truncated": (save("t.png", encoded("PNG")[:5000]), ["t.png"], 1, "t.png is damaged: image file is truncated"),
    "empty": (save("t.png", b""), ["t.png"], 1, "t.png is empty (0 bytes), expected a picture"),
    "huge": (save("t.png", header_only(100_000, 100_000)), ["t.png"], 1, "t.png is too large: Image size (10000000000"),
    "a folder": (lambda here: (here / "d").mkdir(), ["d"], 2, "out.png names a picture, but several"),
    "no output folder": (None, ["in.png", "-o", "no/out.png"], 2, "cannot write no/out.png: No such file or directory"),
    "unwritable": (None, ["in.png", "-o", "in.png/out.png"], 2, "cannot write in.png/out.png: Not a directory"),
    "unwritable folder": (None, ["in.png", "in.png", "-o", "in.png/d"], 2, "would both become"),
    "file for a folder": (save("f", b""), ["in.png", "x.png", "-o", "f"], 2, "f is a file, but several inputs need"),
    "no folder": (save("f", b""), ["in.png", "x.png", "-o", "f/d"], 2, "cannot make the folder f/d: Not a directory"),
    "existing": (save("out.png", b"mine"), ["in.png"], 2, "out.png exists already: pass --overwrite"),
    "existing record": (save("o.jpg.json", b"mine"), ["in.png", "-o", "o.jpg"], 2, "o.jpg.json exists already"),
    "extension": (None, ["in.png", "-o", "out.bmp"], 2, "unknown picture extension '.bmp', expected one of .png, "),
    "alpha in jpeg": (
        lambda here: Image.fromarray(np.zeros((4, 4, 4), np.uint8)).save(here / "a.png"),
        ["a.png", "-o", "out.jpg"], 1, "JPEG cannot hold the input's transparency",
    ),
    "same name twice": (None, ["in.png", "d/in.jpg", "-o", "all/"], 2, "and d/in.jpg would both become all/in.png"),
    "no graphs": (lambda here: (here / "m").mkdir(), ["in.png", "--model", "m"], 1, "m has no vae_encoder.onnx and no"),
    "no model": (None, ["in.png", "--model", "tinny"], 1, "no model 'tinny': did you mean 'tiny'? pass a folder"),
    "wrong inputs": (
        model(rename=[("x", "sample")]), ["in.png", "--model", "m"], 1,
        "its inputs are sample float32 [1, 3, out_h, out_w], t float32 [1]",
    ),
    "shapes against manifest": (
        model(size=(16, 16), manifest={"scale": 8}), ["in.png", "--model", "m"], 1,
        "scale is 8, but the graphs' shapes say 4",
    ),
    "external data": (
        lambda here: (write_model(here / "m", external=True) / "pid_upscaler.onnx.data").unlink(),
        ["in.png", "--model", "m"], 1, "its external data file 'pid_upscaler.onnx.data' is missing",
    ),
    "too large for fixed": (
        model(size=(8, 8)), ["in.png", "--model", "m", "--tile", "off"], 1,
        "the result is 64x32, but the model makes 32x32 and no other size",
    ),
    "latent channels": (
        lambda here: np.save(here / "z.npy", np.zeros((16, 2, 2), np.float32)), ["z.npy"], 1,
        "the latent has shape (1, 16, 2, 2), but tiny takes (1, 192, height, width)",
    ),
    "nan": (model(add=np.nan), ["in.png", "--model", "m"], 1, "the sampled image holds NaN or infinity"),
    "infinity": (model(add=np.inf), ["in.png", "--model", "m"], 1, "the sampled image holds NaN or infinity"),
    "half overflows": (
        model(add=1e5, kind="float16"), ["in.png", "--model", "m"], 1, "the sampled image holds NaN or infinity",
    ),
    "nan latent": (
        model(encoder={"gain": np.nan}), ["in.png", "--model", "m"], 1, "gave a latent with NaN or infinity",
    ),
    "times ascend": (None, ["in.png", "--timesteps", "0.5,0.7,0"], 2, "timestep 0.7 at position 1 ascends from 0.5"),
    "times repeat": (None, ["in.png", "--timesteps", "0.5,0.5,0"], 2, "timestep 0.5 at position 1 repeats"),
    "times above 1": (None, ["in.png", "--timesteps", "1.5,0"], 2, "timestep 1.5 at position 0 is outside 0..1"),
    "times below 0": (None, ["in.png", "--timesteps", "0.5,-0.1"], 2, "timestep -0.1 at position 1 is outside 0..1"),
    "times end": (None, ["in.png", "--timesteps", "0.9,0.5"], 2, "timesteps end in 0.5, expected 0"),
    "times end on the command line": (None, ["in.png", "--timesteps", "0.9,0.5"], 2, "expected 0: append 0\n"),
    "times text": (None, ["in.png", "--timesteps", "0.9,zero"], 2, "timestep 'zero' is not a number"),
    "one time": (None, ["in.png", "--timesteps", "0"], 2, "at least two times"),
    "steps 0": (None, ["in.png", "--steps", "0"], 2, "--steps 0 must be at least 1: pass 1..4"),
    "steps 5": (None, ["in.png", "--steps", "5"], 2, "--steps 5 would repeat times of a list of 4: pass 1..4, or"),
    "steps text": (None, ["in.png", "--steps", "four"], 2, "argument --steps: 'four' is not a whole number"),
    "both": (None, ["in.png", "--steps", "2", "--timesteps", "0.5,0"], 2, "not allowed with argument --steps"),
    "model in capitals": (None, ["in.png", "--model", "Tiny_Teacher"], 1, "did you mean 'tiny-teacher'? pass"),
    "option of a scheduler": (
        None, ["in.png", "--scheduler", "sa-solver(Taus=1)"], 2, "no option 'Taus': did you mean 'tau'? it takes",
    ),
    "5,000 digits": (None, ["in.png", "--overlap", "9" * 5000], 2, f"--overlap: '{'9' * 199}... is too long for a"),
    "5,000 digits of a tile": (None, ["in.png", "--tile", "9" * 5000], 2, f"unknown tile '{'9' * 200}...'"),
    "5,000 digits of memory": (None, ["in.png", "--max-memory", "9" * 5000], 2, "... is more than any machine has"),
    "5,000 digits of steps": (None, ["in.png", "--scheduler", "heun@pid:" + "9" * 5000], 2, "is not a number of steps"),
    "list twice": (None, ["in.png", "--scheduler", "flow-ode@pid", "--steps", "2"], 2, "use one of them"),
    "scheduler": (None, ["in.png", "--scheduler", "flow-sed"], 2, "'flow-sed': did you mean 'flow-sde'"),
    "scheduler, new folder": (None, ["in.png", "x.png", "-o", "new", "--scheduler", "zzz"], 2, "scheduler 'zzz'"),
    "eta": (None, ["in.png", "--eta", "1.5"], 2, "--eta 1.5 must be a finite number in [0, 1]"),
    "eta of ode": (None, ["in.png", "--scheduler", "flow-ode", "--eta", "0"], 2, "flow-ode has no option 'eta'"),
    "sigma": (None, ["in.png", "--degrade-sigma", "1.2"], 2, "--degrade-sigma 1.2 must be a finite number in [0, 1]"),
    "sigma nan": (None, ["in.png", "--degrade-sigma", "nan"], 2, "--degrade-sigma nan must be a finite number in"),
    "seed": (None, ["in.png", "--seed", "-1"], 2, "--seed -1 must be a whole number in 0..2^64-1"),
    "cuda": (None, ["in.png", "--device", "cuda"], 2, "device 'cuda' was asked for, but"),
    "device": (None, ["in.png", "--device", "gpu"], 2, "unknown device 'gpu'"),
    "option": (None, ["in.png", "--nope"], 2, "unrecognized arguments: --nope"),
    "no input": (None, [], 2, "the following arguments are required: IN"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_a_code_and_no_file(here, capsys, name, no_gpu):
    make, arguments, expected, message = BAD[name]
    if make is not None:
        make(here)
    output = [] if "-o" in arguments else ["-o", "out.png"]
    before = {path: path.stat().st_mtime_ns for path in here.rglob("*")}
    try:
        code = main(["upscale", *arguments, *output])
    except SystemExit as exit_:
        code = exit_.code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("pidsampler: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert len(err) < 1000
    assert code == expected
    assert {path: path.stat().st_mtime_ns for path in here.rglob("*")} == before


def test_out_of_memory_is_said_per_file(here, run, monkeypatch):
    def fail(*arguments, **options):
        raise MemoryError

    monkeypatch.setattr("pidsampler.upscale.upscaler.sample", fail)
    with warnings.catch_warnings():
        warnings.simplefilter("default")
        code, out, err = run("upscale", "in.png", "-o", "a.png")
    assert (code, out) == (1, "")
    assert err == (
        "pidsampler: warning: out of memory (no memory): tried again in 2 tiles of 32x32\n"
        "pidsampler: error: in.png: not enough memory for its result\n"
    )


def test_interrupted(here, run, monkeypatch):
    def fail(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("pidsampler.upscale.upscaler.sample", fail)
    assert run("upscale", "in.png", "-o", "a.png") == (130, "", "pidsampler: error: interrupted\n")
    assert os.listdir() == ["in.png"]
    code, _, err = run("upscale", "in.png", "-o", "all/")
    assert (code, err) == (130, "pidsampler: error: interrupted: the same command goes on where it was\n")
    monkeypatch.setattr("pidsampler.search.problem.Problem.solve", fail)
    code, _, err = run("search", "in.png", "-o", "times.txt")
    assert (code, err) == (
        130,
        "pidsampler: error: interrupted: the same command goes on where it was\n",
    )
    assert sorted(os.listdir()) == ["all", "in.png", "times.txt.journal"]


@pytest.mark.parametrize("command", [["-m", "pidsampler"], ["-m", "pidsampler.cli"], ["bin/pidsampler"]])
def test_interrupted_while_it_is_imported(tmp_path, repository, command):
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "pidsampler").write_text("from pidsampler.cli import main")
    (tmp_path / "numpy.py").write_text("import os, signal\nos.kill(os.getpid(), signal.SIGINT)")
    done = subprocess.run(
        [sys.executable, *command, "models"],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": f"{tmp_path}{os.pathsep}{repository}"},
        preexec_fn=partial(signal.signal, signal.SIGINT, signal.SIG_DFL),  # what runs in the background may ignore it
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "")


def test_table(run):
    expected = FlowSDE(timesteps.pid()).table()
    assert run("table", "flow-sde") == (0, f"{FlowSDE(timesteps.pid())}\n\n{expected}\n", "")
    spec = "dpmpp-2m(order=2)@karras(rho=7):12"
    for same in (spec, "dpmpp_2m( order = 2 )@karras(rho=7.0):012"):
        assert run("table", same)[1] == f"{spec}\n\n{get_scheduler(spec).table()}\n"
    code, out, _ = run("table", "flow-sde", "--steps", "2", "--json")
    assert code == 0
    assert StepTable.from_json(out) == FlowSDE(timesteps.pid(2)).table()
    _, out, _ = run("table", "flow-sde", "--timesteps", "0.7,0.2,0", "--eta", "0.25", "--json")
    assert StepTable.from_json(out) == FlowSDE([0.7, 0.2, 0], eta=0.25).table()
    _, out, _ = run("table", "flow-ode@uniform:8", "--json")
    assert StepTable.from_json(out) == FlowODE(timesteps.uniform(8)).table()
    code, out, err = run("table", "flow-ode@uniform:99999999999999")
    assert (code, out) == (2, "")
    assert "99999999999999 must be a whole number of at most 1000000" in err
    code, out, err = run("table", "flow-odd")
    assert (code, out) == (2, "")
    assert err.startswith("pidsampler: error: unknown scheduler 'flow-odd': did you mean 'flow-ode'")


def test_memory_that_does_not_suffice(run, monkeypatch):
    def refuse(_):
        raise MemoryError

    monkeypatch.setattr(FlowODE, "table", refuse)
    assert run("table", "flow-ode") == (1, "", "pidsampler: error: not enough memory\n")


@pytest.mark.parametrize("spec", ["flow-sde", "heun@uniform:4", "unipc(order=3)@karras:6"])
def test_table_plot(here, run, spec):
    code, out, err = run("table", spec, "--plot", "a.png")
    assert (code, err) == (0, "")
    assert re.match(r".+\n\nrow", out)
    assert pixels("a.png").shape[:2] == (800, 800)


def test_table_plot_in_another_format_and_over_a_file(here, run):
    spec = "flow-sde"
    (here / "a.png").touch()
    code, out, err = run("table", spec, "--plot", "a.png")
    message = "pidsampler: error: a.png exists already: pass --overwrite to replace it\n"
    assert (code, out, err) == (1, "", message)
    assert run("table", spec, "--plot", "a.png", "--overwrite")[0] == 0
    assert pixels("a.png").shape[:2] == (800, 800)
    run("table", spec, "--plot", "a.svg")
    assert "</svg>" in (here / "a.svg").read_text()


def test_several_tables_are_printed_and_drawn_together(here, run):
    """A learnt one stands beside named ones; a file's name may hold what matplotlib takes for mathematics."""
    _, text, _ = run("table", "dpmpp-2m@karras:4", "--json")
    (here / "a $x_$.json").write_text(text)
    specs = ["@a $x_$.json", "heun@uniform:2", "flow-sde@pid:4", "@a $x_$.json"]
    code, out, err = run("table", *specs, "--plot", "a.svg")
    assert (code, err) == (0, "")
    alone = [run("table", spec)[1] for spec in specs[:3]]
    assert out == "\n".join(alone)  # the one named twice once
    drawn = (here / "a.svg").read_text()
    assert [drawn.count(f"<!-- {name} -->") for name in (*specs[:3], "flow-ode")] == [1, 1, 1, 0]
    long = [f"@{'long' * 20}{k}.json" for k in range(2)]
    plot_tables({name: get_scheduler("flow-ode").table() for name in long}, Path("b.svg"))
    assert [Path("b.svg").read_text().count(f"longlong{k}.json -->") for k in range(2)] == [1, 1]


def test_several_tables_refuse(here, run):
    message = "several tables are not one in JSON: name one, or leave --json out"
    assert run("table", "heun", "euler", "--json") == (2, "", f"pidsampler: error: {message}\n")
    with pytest.raises(PidSamplerError, match="no table to draw"):
        plot_tables({}, Path("a.png"))
    with pytest.raises(PidSamplerError, match="must be a StepTable"):
        plot_tables({"heun": get_scheduler("heun@uniform:2")}, Path("a.png"))
    assert not (here / "a.png").exists()


def test_table_plot_refuses(here, run, monkeypatch):
    """What is drawn is printed before."""
    _, printed, _ = run("table", "flow-ode")
    code, out, err = run("table", "flow-ode", "--plot", "a.nope")
    assert (code, out) == (1, printed)
    assert err.startswith("pidsampler: error: cannot write a.nope: Format 'nope' is not supported")
    assert run("table", "flow-ode", "--plot", "no/a.png")[2].startswith("pidsampler: error: cannot write no/a.png: ")
    monkeypatch.setitem(sys.modules, "matplotlib.figure", None)
    message = "pidsampler: error: matplotlib is not installed: pip install 'pidsampler[plot]'\n"
    assert run("table", "flow-ode", "--plot", "a.png") == (1, printed, message)


def test_lists(run):
    code, out, _ = run("schedulers")
    assert code == 0
    assert [line.split()[0] for line in out.splitlines()] == ["name", *(info.name for info in list_schedulers())]
    code, out, _ = run("models")
    assert code == 0
    bundled = ("tiny", "tiny-teacher", "gaussian")
    assert [line.split()[:2] for line in out.splitlines()][1:] == [[name, "Apache-2.0"] for name in bundled]


@pytest.mark.parametrize("name", ["tiny", "tiny-teacher", "gaussian"])
def test_a_bundled_model_is_verified_by_its_hashes(here, run, name, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    code, out, err = run("inspect", name, "--verify")
    assert (code, err) == (0, "")
    assert out.endswith("\nit is the bundled model, unchanged\n")
    bundled = here / "models"
    shutil.copytree(models.BUNDLED_FOLDER, bundled)
    monkeypatch.setattr(models, "BUNDLED_FOLDER", bundled)
    assert run("inspect", str(bundled / name), "--verify")[0] == 0
    with (bundled / name / "pidsampler.json").open("a") as file:
        file.write(" ")
    code, _, err = run("inspect", name, "--verify")
    assert code == 1
    assert f"{name}/pidsampler.json is not as in the package: install pidsampler again" in err


def test_the_listed_hashes_are_those_of_all_bundled_files():
    """To renew: cd pidsampler/models && sha256sum */*.onnx */pidsampler.json */tables/*.json > SHA256SUMS"""
    listed = (models.BUNDLED_FOLDER / "SHA256SUMS").read_text().splitlines()
    found = [f"{d}  {name}/{file}" for name in models.bundled_models() for file, d in models.model_hashes(name).items()]
    for name in models.bundled_models():
        found += [f"{sha256(path)}  {name}/tables/{path.name}" for path in models.model_tables(name).values()]
    assert sorted(listed) == sorted(found)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--scheduler", "heun@karras:4"], "7 model calls"),
        (["--scheduler", "flow-sde@pid:1"], "1 model call"),
    ],
)
def test_model_calls_are_counted(here, run, options, said):
    code, out, _ = run("upscale", "in.png", "-o", "out.png", *options)
    assert code == 0
    assert f", {said} on cpu, " in out


def test_inspect(here, run):
    write_model(here / "m", {"licence": "CC0-1.0"}, size=(16, 24), kind="float16")
    code, out, _ = run("inspect", "m")
    assert code == 0
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in out.splitlines())
    assert lines["license"] == "CC0-1.0"
    assert lines["fixed size"] == "16, 24"
    assert lines["timesteps"] == "0.999, 0.866, 0.634, 0.342, 0.0"
    assert lines["vae_encoder.onnx in"] == "picture float16 [1, 3, 16, 24]"
    assert "pid_upscaler.onnx in      x float16 [1, 3, 64, 96]" in out
    assert len(lines["sha256 pid_upscaler.onnx"]) == 64
    assert "fixed size                any" in run("inspect", "tiny")[1]
    code, out, err = run("inspect", "nothing")
    assert (code, out) == (1, "")
    assert err.count("\n") == 1


def test_version_and_help(capsys):
    for arguments, text in ((["--version"], f"pidsampler {__version__}\n"), (["upscale", "--help"], "--degrade-sigma")):
        with pytest.raises(SystemExit) as exit_:
            main(arguments)
        assert exit_.value.code == 0
        assert text in capsys.readouterr().out
    with pytest.raises(SystemExit) as exit_:
        main([])
    assert exit_.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1


COMMAND = [sys.executable, "-P", "-m", "pidsampler.cli"]


def test_a_pipe_gets_no_progress_bar(here):
    done = subprocess.run([*COMMAND, "upscale", "in.png", "-o", "a.png"], capture_output=True, check=True)
    assert done.stderr == b""
    assert b"\x1b" not in done.stdout
    assert done.stdout.count(b"\n") == 1


def test_warnings_are_one_line(here):
    command = [*COMMAND, "upscale", "in.png", "-o", "a.png", "--degrade-sigma", "0.9"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == "pidsampler: warning: --degrade-sigma 0.9 is above 0.8, the most PiD is trained for\n"


def test_a_terminal_gets_one(here):
    parent, child = pty.openpty()
    done = subprocess.run(
        [*COMMAND, "upscale", "in.png", "-o", "a.png"], stderr=child, stdout=subprocess.PIPE, check=True,
        env={**os.environ, "TERM": "xterm", "COLUMNS": "80"},
    )  # fmt: skip
    os.close(child)
    shown = b""
    try:
        while piece := os.read(parent, 4096):
            shown += piece
    except OSError:  # Linux's way to say that the other end is closed
        pass
    os.close(parent)
    assert b"4/4" in shown
    assert b"in.png" in shown
    assert done.stdout.startswith(b"a.png: 36x24")


def test_no_traceback_from_a_real_process_and_a_closed_pipe():
    done = subprocess.run([*COMMAND, "upscale", "no.png", "-o", "/nowhere/a.png"], capture_output=True, text=True)
    assert done.returncode == 2
    assert (
        done.stderr
        == "pidsampler: error: cannot write /nowhere/a.png: No such file or directory: make the folder /nowhere first\n"
    )
    command = " ".join(COMMAND) + " table flow-ode@uniform:2000 | head -1"
    done = subprocess.run(["bash", "-o", "pipefail", "-c", command], capture_output=True, text=True)
    assert done.stderr == ""
    assert done.stdout == "flow-ode@uniform:2000\n"


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["upscal"], "unknown command 'upscal': did you mean 'upscale'? "),
        (["xyzzy"], "unknown command 'xyzzy': known are "),
        (["upscale", "a.png", "-o", "b.png", "--size", "0x5"], "--size 0x5 has a side of 0 pixels"),
        (["upscale", "a.png", "-o", "b.png", "--size", "3x3", "--scale", "2"], "--scale 2.0 and --size 3x3 exclude"),
    ],
)
def test_what_is_wrong_is_named_as_it_was_typed(command, words, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (8, 8)).save("a.png")
    try:
        code = main(command)
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert words in capsys.readouterr().err
