"""Step tables that a model folder brings along: "@NAME" is one of them, or else a file."""

import json
import re
import shutil
import sys
import types
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pidsampler import PidSamplerError, StepTable, Upscaler, get_scheduler
from pidsampler.bench import samplers as timed
from pidsampler.cli.main import main
from pidsampler.errors import PidSamplerWarning
from pidsampler.io.tables import write_table
from pidsampler.onnx import model_hashes, model_tables
from pidsampler.onnx.hub import download_model
from pidsampler.onnx.manifest import read_manifest
from pidsampler.study.study import Study

OWN, FILE = get_scheduler("heun@uniform:2").table(), get_scheduler("flow-ode@pid:2").table()


@pytest.fixture(scope="module", name="here")
def _here(tmp_path_factory):
    """A folder with a picture, a model of two own tables, and a file with the name of one of them."""
    here = tmp_path_factory.mktemp("own")
    shutil.copytree(Upscaler.load("gaussian", "cpu").model.path, here / "m")
    history = {"model": {"name": "gaussian", "sha256": model_hashes("gaussian")}}  # before the tables were added
    write_table(here / "own.json", StepTable(OWN, history=history))
    (here / "m" / "tables").mkdir()
    (here / "own.json").rename(here / "m" / "tables" / "quick.json")
    (here / "m" / "tables" / "plain-2.json").write_text(OWN.to_json())
    write_table(here / "quick", FILE)
    _say(here / "m", ["quick", "plain-2"])
    Image.fromarray(np.arange(48, dtype=np.uint8).reshape(4, 4, 3)).save(here / "a.png")
    return here


@pytest.fixture(autouse=True)
def _inside(here, monkeypatch):
    monkeypatch.chdir(here)


def _say(folder, tables):
    path = folder / "pidsampler.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tables": tables}))


def _rows(record):
    return StepTable.from_json(json.dumps(record["table"])).rows


def test_the_models_own_comes_before_a_file():
    assert {name: path.name for name, path in model_tables("m").items()} == {
        "quick": "quick.json",
        "plain-2": "plain-2.json",
    }
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = Upscaler.load("m", "cpu")("a.png", "@quick").record
    assert _rows(record) == OWN.rows
    assert (record["scheduler"], record["own_table"]) == ("@quick", "quick")
    assert record["learnt_for"] == {"model": "gaussian", "this_model": True}
    other = Upscaler.load("m", "cpu")("a.png", "@./quick").record
    assert _rows(other) == FILE.rows
    assert "own_table" not in other
    assert _rows(Upscaler.load("gaussian", "cpu")("a.png", "@quick").record) == FILE.rows


@pytest.mark.parametrize("calls", [4, 6, 8])
def test_the_bundled_teacher_brings_its_own(calls):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        record = Upscaler.load("tiny-teacher", "cpu")("a.png", f"@learnt-{calls}").record
    assert len(record["table"]["rows"]) == calls
    assert record["learnt_for"] == {"model": "tiny-teacher", "this_model": True}
    history = record["table"]["history"]
    assert history["best_known"][0]["found_is"] == "better"
    assert history["error_bfloat16"] < 1.1 * history["error"]["mean"]


def test_another_models_table_warns_still():
    with pytest.warns(PidSamplerWarning, match="learnt for the model 'gaussian', and this is not the same"):
        record = Upscaler.load("tiny", "cpu")("a.png", "@m/tables/quick.json").record
    assert record["learnt_for"] == {"model": "gaussian", "this_model": False}


def test_commands(capsys):
    assert main(["upscale", "a.png", "-o", "b.png", "--model", "m", "--scheduler", "@quick", "--quiet"]) == 0
    with Image.open("b.png") as image:
        assert json.loads(image.text["pidsampler"])["own_table"] == "quick"
    assert main(["table", "@quick", "--model", "m", "--json"]) == 0
    assert StepTable.from_json(capsys.readouterr().out).rows == OWN.rows
    assert main(["table", "@quick", "--json"]) == 0
    assert StepTable.from_json(capsys.readouterr().out).rows == FILE.rows
    assert main(["table", "heun", "--model", "m"]) == 0
    assert capsys.readouterr().out.startswith("Heun([0.999, 0.866")
    assert main(["inspect", "m"]) == 0
    lines = dict(re.split(r"  +", line, maxsplit=1) for line in capsys.readouterr().out.splitlines())
    assert lines["tables"] == "quick, plain-2"
    assert lines["table @quick"].startswith("3 model calls, times 1, 0.5, 0.5, 0, sha256 ")


def test_a_file_of_the_model_is_no_output(capsys):
    before = Path("m/tables/quick.json").read_bytes()
    command = ["table", "heun", "--model", "m", "--plot", "m/tables/quick.json", "--overwrite"]
    assert main(command) != 0
    assert Path("m/tables/quick.json").read_bytes() == before
    assert capsys.readouterr().err.count("\n") == 1


def test_a_folder_of_pictures(here, tmp_path):
    (tmp_path / "in").mkdir()
    for name in ("a.png", "b.png"):
        shutil.copy(here / "a.png", tmp_path / "in" / name)
    command = ["upscale", str(tmp_path / "in"), "-o", str(tmp_path / "out"), "--model", "m", "--scheduler", "@quick"]
    assert main([*command, "--quiet"]) == 0
    with Image.open(tmp_path / "out" / "b.png") as image:
        assert json.loads(image.text["pidsampler"])["own_table"] == "quick"


def test_a_study():
    study = Study(
        preset={"model": "m", "images": "a.png", "scheduler": "@quick", "seeds": 1}, axes={"model": ["m", "gaussian"]}
    )
    tables = [study.table(cell)[0] for cell in study.all_cells]
    assert [table.rows for table in tables] == [OWN.rows, FILE.rows]


def test_a_model_with_a_rule_of_times(here, tmp_path):
    shutil.copytree(here / "m", tmp_path / "m")
    path = tmp_path / "m" / "pidsampler.json"
    rule = {"shift": {"base": 6, "size": 2048}, "steps": 25}
    path.write_text(json.dumps({**json.loads(path.read_text()), "timesteps": rule}))
    command = ["upscale", str(here / "a.png"), "-o", str(tmp_path / "b.png"), "--model", str(tmp_path / "m")]
    assert main([*command, "--scheduler", "@quick", "--quiet"]) == 0
    with Image.open(tmp_path / "b.png") as image:
        assert json.loads(image.text["pidsampler"])["own_table"] == "quick"


@pytest.mark.parametrize("given", ["@quik", "@../m/tables/quick", "@\x1b[1m", "@" + "x" * 5000])
def test_what_is_neither_is_answered_by_the_models_own(capsys, given):
    expected = "the model's own are @quick, @plain-2, and there is no such file"
    with pytest.raises(PidSamplerError, match=expected):
        Upscaler.load("m", "cpu")("a.png", given)
    assert main(["upscale", "a.png", "-o", "c.png", "--model", "m", "--scheduler", given]) == 2
    err = capsys.readouterr().err
    assert expected in err
    assert err.count("\n") == 1
    assert len(err) < 400
    assert "\x1b" not in err
    assert ("did you mean 'quick'" in err) == (given == "@quik")


@pytest.mark.parametrize("command", [["upscale", "a.png", "-o", "c.png", "--scheduler"], ["table"]])
def test_a_models_table_where_the_model_has_none(capsys, command):
    assert main([*command, "@learnt-4", "--model", "tiny"]) == 2
    expected = "there is no table '@learnt-4': {}, and there is no such file"
    assert expected.format("the model has no tables of its own") in capsys.readouterr().err
    with pytest.raises(PidSamplerError, match=expected.format("no model is given")):
        get_scheduler("@learnt-4")


@pytest.mark.parametrize(
    "tables",
    [
        "quick",
        {"quick": "tables/quick.json"},
        None,
        3,
        [3],
        [[]],
        ["../quick"],
        ["/etc/passwd"],
        ["a/b"],
        ["a\\b"],
        [".hidden"],
        [".."],
        [""],
        ["x" * 101],
        ["quick\n"],
        ["\x1b[1m"],
        ["größe"],
        ["quick", "quick"],
        [f"t{n}" for n in range(101)],
    ],
)
def test_a_manifest_of_a_stranger(tmp_path, tables):
    (tmp_path / "pidsampler.json").write_text(json.dumps({"tables": tables}))
    with pytest.raises(
        PidSamplerError, match=r"tables is .*, expected a list of at most 100 names, each once"
    ) as error:
        read_manifest(tmp_path)
    assert str(error.value).isprintable()


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "cannot read .*bad.json: No such file"),
        ("[" * 100_000, "bad.json"),
        ("{}", "bad.json"),
        ("\ud800", "is not a text file"),
    ],
)
def test_a_table_of_a_stranger(here, tmp_path, capsys, content, message):
    shutil.copytree(here / "m", tmp_path / "m")
    _say(tmp_path / "m", ["bad"])
    if content is not None:
        (tmp_path / "m" / "tables" / "bad.json").write_text(content, errors="surrogatepass")
    up = Upscaler.load(tmp_path / "m", "cpu")  # its graphs are good
    with pytest.raises(PidSamplerError, match=message):
        up("a.png", "@bad")
    assert main(["inspect", str(tmp_path / "m")]) == 1
    assert capsys.readouterr().err.count("\n") == 1


def test_what_a_manifest_lists_is_written_as_it_is_read(tmp_path):
    (tmp_path / "pidsampler.json").write_text('{"tables": ["learnt-4", "a.b_C"]}')
    manifest = read_manifest(tmp_path)
    assert manifest.tables == ("learnt-4", "a.b_C")
    assert json.loads(json.dumps(manifest.to_dict())) == {"tables": ["learnt-4", "a.b_C"]}


def test_a_download_has_them(monkeypatch, tmp_path):
    patterns = []
    hub = types.SimpleNamespace(
        model_info=lambda *args, **options: types.SimpleNamespace(sha="0" * 40),
        snapshot_download=lambda *args, allow_patterns, **options: patterns.extend(allow_patterns),
    )
    monkeypatch.setitem(sys.modules, "huggingface_hub", hub)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    download_model("hf:someone/model")
    assert "tables/*.json" in patterns


def test_a_bench_and_a_search_know_them(monkeypatch, capsys):
    monkeypatch.setattr(timed, "cache_bytes", lambda backend: 1)
    sizes = ("--model", "m", "--sizes", "32", "--quick", "--device", "cpu")
    assert main(["bench", "@quick", "--against", "@plain-2", *sizes]) == 0
    assert "@plain-2, run with m" in capsys.readouterr().out
    found = timed.steps(["@quick"], model=Upscaler.load("m", "cpu"), side=32, rounds=6)
    assert {one.sampler for one in found} == {"@quick"}
    assert main(["bench", "@quikc", *sizes]) == 2
    assert "did you mean 'quick'" in capsys.readouterr().err
    command = ("search", "a.png", "a.png", "-o", "s.txt", "--model", "m", "--scheduler")
    for name, message in (("@plain-2", "@plain-2 has its timesteps already"), ("@quikc", "did you mean 'quick'")):
        assert main([*command, name]) in (1, 2)
        assert message in capsys.readouterr().err
