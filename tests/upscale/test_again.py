"""Records: read back from every format, and pictures made again from them, bit for bit."""

import copy
import io
import json
import random
import re
import sys
from contextlib import suppress
from functools import reduce
from operator import getitem
from pathlib import Path

import numpy as np
import pytest
from models import write_model
from PIL import Image

import pidsampler as ps
from pidsampler.cli import main
from pidsampler.cli.examples import EXAMPLES
from pidsampler.cli.main import build_parser
from pidsampler.io import captions
from pidsampler.io.files import sha256
from pidsampler.upscale.again import Recipe, needs

RGB = np.random.default_rng(0).integers(0, 256, (20, 26, 3), np.uint8)
OWN = """
from pidsampler import FlowODE
from pathlib import Path
Path("was-run").touch()
def mine(timesteps):
    return FlowODE(timesteps).table()
"""


@pytest.fixture(name="here")
def _here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(RGB).save("in.png")
    return tmp_path


@pytest.fixture(scope="module", name="up")
def _up():
    return ps.Upscaler.load("gaussian", "cpu")


@pytest.fixture(name="run")
def _run(capsys):
    def run(*arguments):
        code = main([str(a) for a in arguments])
        return code, *capsys.readouterr()

    return run


SETTINGS = {
    "a.png": {"seed": 2**64 - 1},
    "b.jpg": {"sampler": "dpmpp-2m-sde@karras:4", "noise": "brownian", "degrade_sigma": 0.3},
    "c.tif": {"noise": "torch", "start": 0.6},
    "d.webp": {
        "sampler": "heun.detail(amount=0.5)@uniform:3",
        "noise": "fixed",
        "finish": ps.Finish("adain", 0.5, size=ps.Size(width=60, height=70, fit=True), despeckle=4),
    },
    "e.png": {"finish": ps.Finish(size=ps.Size(1.5))},
}


@pytest.mark.parametrize("name", SETTINGS)
def test_made_again_by_its_record_it_has_the_same_bits(here, up, name):
    first = up("in.png", **SETTINGS[name])
    first.save(name)
    record = ps.read_record(name)
    assert record == json.loads(json.dumps(first.record))
    again = ps.make_again("in.png", name)
    assert np.array_equal(again.array, first.array)
    assert json.loads(json.dumps(again.record)) == record
    assert needs(record) == [f"the input 'in.png', of SHA-256 {record['input']['sha256']}"]


@pytest.mark.parametrize("encoder", [True, False])
def test_tiles_are_the_same_too(tmp_path, encoder):
    folder = write_model(tmp_path / "m")
    tiling = ps.Tiling(64, 24, encoder=encoder)
    first = ps.Upscaler.load(folder, "cpu", tiling=tiling)(RGB, seed=4)
    assert first.record["tiles"]["count"] > 2
    again = ps.make_again(RGB, first.record, model=folder)
    assert again.record == first.record
    assert np.array_equal(again.array, first.array)
    larger = ps.Upscaler.load(folder, "cpu", tiling=Recipe.of(first.record).tiling)(RGB.repeat(2, axis=0))
    assert larger.record["tiles"] is None  # of another size: as memory allows


def test_a_record_without_the_tiles_columns_is_refused_in_one_line(up):
    record = up(RGB).record
    for tiles in ({"width": 64}, [1], {"of": {"width": 104, "height": 80}, "width": 10**9}):
        with pytest.raises(ps.PidSamplerError, match=r"tile|width"):
            ps.make_again(RGB, {**record, "tiles": tiles})


def test_captions_are_given_and_told_by_their_hash(up):
    caption = np.ones((3, 4), np.float32)
    record = up(RGB).record | {"caption": captions.described(caption), "caption_source": "given"}
    assert needs(record)[-1] == f"the caption's embedding, of SHA-256 {record['caption']['sha256']}"
    assert np.array_equal(Recipe.of(record, caption=caption).options.caption, caption)
    with pytest.raises(ps.PidSamplerError, match="made with a caption, of which it holds the hash: pass caption="):
        Recipe.of(record)
    for name in ("caption", "negative"):
        with pytest.raises(ps.PidSamplerError, match=f"the {name} is not the record's"):
            Recipe.of(record, **{"caption": caption, name: 2 * caption})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"table": None}, "the record's table is None, expected rows"),
        ({"table": {"format": "pidsampler.StepTable/2", "rows": []}}, "at least one row"),
        ({"noise": "mine"}, "the record's noise is 'mine', whose values it does not hold"),
        ({"noise": ["torch"]}, "the record's noise is"),
        ({"seed": -1}, "seed=-1 must be"),
        ({"seed": "1"}, "seed='1' must be"),
        ({"start": 0.4}, "begins at the noise level"),
        ({"finish": {"size": "1x1x1"}}, "size='1x1x1' is not a size"),
        ({"finish": 3}, "finish=3 must be"),
        ({"model": {"sha256": {"a": "b"}, "name": "x\x1b[2J"}}, r"model, 'x.{1,2}x1b\[2J', is not bundled: pass"),
        ({"model": "tiny"}, "model='tiny' must be"),
        ({"input": {"sha256": "0"}}, "the input is not the record's"),
        ({"timesteps": "x"}, "timesteps='x' must be"),
    ],
)
def test_a_strangers_record_is_checked(up, change, message):
    with pytest.raises(ps.PidSamplerError, match=message) as refused:
        ps.make_again(RGB, {**up(RGB).record, **change})
    assert str(refused.value).isprintable()


def test_nothing_in_a_record_is_looked_up(here, up, monkeypatch):
    Path("own.py").write_text(OWN)
    record = up(RGB).record | {"scheduler": "own.py:mine@own.py:mine", "noise_frame": "flow"}
    record["model"] = {**record["model"], "name": str(here), "repository": "evil/model", "commit": "0" * 40}
    for find in ("load_from_file", "split_file"):
        monkeypatch.setattr(f"pidsampler.schedulers.registry.{find}", None)
    again = ps.make_again(RGB, record)
    assert again.record["scheduler"] == "own.py:mine@own.py:mine"
    assert not Path("was-run").exists()


def test_whatever_a_record_names_is_not_opened(here, up):
    """Each text in it in turn, as all kinds of names that elsewhere are looked up."""
    told, listening = [], True

    def hear(event, found):
        if listening and event in ("open", "import", "os.listdir", "os.scandir", "subprocess.Popen", "socket.connect"):
            told.append(str(found))

    Path("evil.py").write_text(OWN)
    Path("evil.json").write_text(ps.get_scheduler("heun@pid").table().to_json())
    record = json.loads(json.dumps(up(RGB).record))
    sys.addaudithook(hear)

    def texts(held, path=()):
        for key, value in held.items() if isinstance(held, dict) else enumerate(held):
            if isinstance(value, str):
                yield (*path, key)
            elif isinstance(value, dict | list):
                yield from texts(value, (*path, key))

    paths = list(texts(record))
    for path in paths:
        for name in (f"{here}/evil.py:mine@pid:4", "@evil.json", "hf:evil/model"):
            hostile = copy.deepcopy(record)
            entry = reduce(getitem, path[:-1], hostile)
            entry[path[-1]] = name
            with suppress(ps.PidSamplerError):
                Recipe.of(hostile).model()
                needs(hostile)
    hostile = json.loads(json.dumps(record).replace('"scheduler": "', '"scheduler": "evil.py:mine@evil.json '))
    ps.make_again(RGB, hostile)
    listening = False
    assert len(paths) > 10
    assert told  # the bundled model was
    assert [name for name in told if "evil" in name] == []


def test_damaged_records_give_one_line(up):
    rng, record = random.Random(5), up(RGB).record
    from fuzz import mutate_tree

    said = []
    for _ in range(400):
        told = mutate_tree(rng, record)
        try:
            Recipe.of(told)
            needs(told)
        except ps.PidSamplerError as error:
            said.append(str(error))
    assert len(said) > 50
    assert all(map(str.isprintable, said))


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("none.png", None, "cannot read none.png"),
        ("a.txt", b"hello", "a.txt is no picture that we write"),
        ("a.npy", b"\x93NUMPY", "a.npy holds a NumPy array"),
        ("a.jpg", b"\xff\xd8\xff\xe0", "a.jpg has no record: a.jpg.json"),
        ("a.json", b'{"a": NaN}', "not a record in JSON"),
        ("b.json", b"{" * 99, "not a record in JSON"),
        ("in.png", b"", "in.png is no picture"),
    ],
)
def test_what_holds_no_record_says_so(here, name, content, message):
    if content is not None:
        Path(name).write_bytes(content)
    with pytest.raises(ps.PidSamplerError, match=re.escape(message)):
        ps.read_record(name)


def test_inspect_and_like_on_the_command_line(here, run):
    assert (
        run("upscale", "in.png", "-o", "a.png", "--model", "gaussian", "--seed", 3, "--scheduler", "heun@uniform:2")[0]
        == 0
    )
    code, out, _ = run("inspect", "a.png")
    assert code == 0
    assert re.search(r"seed +3\n", out)
    assert "it can be made again here: pidsampler upscale INPUT -o OUT.png --like a.png" in out
    assert out.endswith("on this machine its bits are the same\n")
    assert json.loads(run("inspect", "a.png", "--json")[1]) == ps.read_record("a.png")
    code, out, err = run("upscale", "in.png", "-o", "b.png", "--like", "a.png")
    assert (code, err) == (0, "")
    assert out.endswith("; the same pixels as a.png\n")
    assert Path("b.png").read_bytes() == Path("a.png").read_bytes()
    Image.fromarray(RGB[::-1]).save("other.png")
    code, out, err = run("upscale", "other.png", "-o", "c.png", "--like", "a.png")
    assert (code, err) == (
        0,
        "pidsampler: other.png is not the input of a.png: another picture is made in the same way\n",
    )
    assert "pixels" not in out
    assert ps.read_record("c.png")["table"] == ps.read_record("a.png")["table"]
    assert run("upscale", "in.png", "-o", "d.png", "--like", "a.png", "--seed", 4) == (
        *(2, ""),
        "pidsampler: error: --seed and --like exclude each other: the record says it\n",
    )
    code, _, err = run("upscale", "in.png", "-o", "d.png", "--like", "a.png", "--model", "tiny-teacher")
    assert (code, "tiny-teacher is not the model of the record" in err) == (2, True)
    code, _, err = run("upscale", "in.png", "-o", "a.png", "--like", "a.png", "--overwrite")
    assert (code, "a.png is an input" in err) == (2, True)
    code, out, _ = run("inspect", "in.png")
    assert (code, out) == (1, "")


def test_inspect_says_what_keeps_it_from_being_made(here, run, up):
    up(RGB, noise=ps.noise.normal).save("a.png")
    code, out, _ = run("inspect", "a.png")
    assert (code, "it cannot be made again here: the record's noise is 'normal'" in out) == (1, True)


def test_a_folder_by_name_and_lines_of_json(here, run):
    code, out, err = run("upscale", "in.png", "-o", "new", "--model", "gaussian", "--json")
    assert (code, err) == (0, "")
    events = list(map(json.loads, out.splitlines()))
    assert [e["event"] for e in events] == ["progress"] * 4 + ["made"]
    assert events[3] == {"event": "progress", "what": "in.png", "done": 4.0, "total": 4}
    assert (events[4]["output"], events[4]["width"], events[4]["calls"]) == (str(Path("new/in.png")), 104, 4)
    Path("bad.png").write_bytes(b"no")
    code, out, _ = run("upscale", "bad.png", "-o", "new", "--model", "gaussian", "--json")
    assert (code, json.loads(out.splitlines()[-1])["event"]) == (1, "failed")


def test_a_picture_by_a_pipe(here, run, monkeypatch):
    run("upscale", "in.png", "-o", "a.png", "--model", "gaussian")

    class Pipe:
        closed = False
        buffer = io.BytesIO(Path("in.png").read_bytes())
        isatty = staticmethod(lambda: False)

    monkeypatch.setattr(sys, "stdin", Pipe)
    assert run("upscale", "-", "-o", "b.png", "--model", "gaussian")[0] == 0
    assert ps.read_record("b.png")["input"]["sha256"] == ps.read_record("a.png")["input"]["sha256"]
    assert np.array_equal(Image.open("b.png"), Image.open("a.png"))
    for wrong in (["-", "in.png", "-o", "d"], ["-", "-o", "new"], ["-", "-o", "x.png", "--engine", "ray"]):
        code, _, err = run("upscale", *wrong, "--model", "gaussian")
        assert (code, err.count("\n")) == (2, 1)


def test_a_picture_to_a_pipe(here, monkeypatch, capsysbinary):
    assert main(["upscale", "in.png", "-o", "a.png", "--model", "gaussian", "--quiet"]) == 0
    capsysbinary.readouterr()
    assert main(["upscale", "in.png", "-o", "-", "--model", "gaussian"]) == 0
    out, err = capsysbinary.readouterr()
    assert out == Path("a.png").read_bytes()
    assert err.startswith(b"-: 104x80, 4 model calls on cpu")


def test_examples_are_commands():
    import shlex

    parser = build_parser()
    for command, lines in EXAMPLES.items():
        for line in lines:
            words = shlex.split(line.partition(" < ")[0].partition(" > ")[0])
            assert words[:2] == ["pidsampler", command]
            parser.parse_args(words[1:])


def test_a_sampler_of_ones_own_file_is_in_the_record(here, up):
    Path("own.py").write_text(OWN)
    record = up(RGB, "own.py:mine").record
    assert record["scheduler"] == "own.py:mine"
    assert record["scheduler_sha256"] == sha256(Path("own.py"))
    assert ps.StepTable.from_json(json.dumps(record["table"])) == ps.FlowODE(ps.timesteps.pid()).table()
    Path("own.py").unlink()
    assert np.array_equal(ps.make_again(RGB, record).array, up(RGB, "flow-ode").array)


def test_images_of_all_kinds_and_lists(here, up):
    expected, data = up(RGB).array, Path("in.png").read_bytes()
    kinds = [Path("in.png"), "in.png", data, Image.fromarray(RGB), RGB, RGB / 255.0]
    results = up(kinds)
    assert isinstance(results, list)
    assert all(np.array_equal(result.array, expected) for result in results)
    assert up([]) == []
    assert up([[0.5, 0.25], [0.1, 0.9]]).array.shape == (8, 8, 1)  # one picture as numbers


def test_results_show_themselves(up):
    result = up(RGB)
    assert repr(result).startswith("<Result of 104x80, RGB: 'FlowSDE([0.999, 0.866")
    assert len(repr(result)) < 200
    assert repr(up).startswith("Upscaler(model=gaussian, backend=numpy, tiling=Tiling(")
    assert np.array_equal(np.asarray(result), result.array)
    assert np.stack(up([RGB, RGB])).shape == (2, 80, 104, 3)
    assert np.array_equal(np.asarray(result.to_pil()), result.array)
    gray = up(RGB[:, :, 0])
    assert (gray.to_pil().mode, up(np.dstack([RGB, RGB[:, :, 0]])).to_pil().mode) == ("L", "RGBA")
    with Image.open(io.BytesIO(result._repr_png_())) as shown:
        assert np.array_equal(np.asarray(shown), result.array)
    wide = up(np.zeros((2, 400, 3), np.uint8))
    with Image.open(io.BytesIO(wide._repr_png_())) as shown:
        assert shown.size == (1024, 5)
