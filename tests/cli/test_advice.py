"""What an error tells to do, done: a command that fails says how, and that command works."""

import contextlib
import io
import re
import shlex

import numpy as np
import pytest
from PIL import Image

from pidsampler.cli import main

UP = "upscale in.png -o out.png --model gaussian"
LEARN = "learn in.png two.png --model gaussian --evaluations 1 --seeds 2 -o t.json"
SEARCH = "search in.png two.png --model gaussian --calls 2 --evaluations 1 -o times.txt"

# What is typed, what the error says, and what is typed then.
ADVICE = [
    (f"{UP} --scheduler hein", "did you mean 'heun'", f"{UP} --scheduler heun"),
    (f"{UP} --scheduler nope", "see 'pidsampler schedulers'", "schedulers"),
    (f"{UP} --scheduler heun@karas:4", "did you mean 'karras'", f"{UP} --scheduler heun@karras:4"),
    (f"{UP} --scheduler heun@nope:4", "see 'pidsampler timesteps'", "timesteps"),
    (f"{UP} --scheduler heun@karras", "such as karras:8", f"{UP} --scheduler heun@karras:8"),
    (f"{UP} --scheduler karras", "such as heun@karras:8", f"{UP} --scheduler heun@karras:8"),
    (f"{UP} --scheduler 'heun(order=2)@pid:4'", "it takes none", f"{UP} --scheduler heun@pid:4"),
    (f"{UP} --scheduler 'flow-sde(eta=2)'", "in [0, 1]", f"{UP} --scheduler 'flow-sde(eta=1)'"),
    (f"{UP} --scheduler heun@uniform:x", "such as 8", f"{UP} --scheduler heun@uniform:8"),
    (f"{UP} --scheduler heun.detial@pid:4", "did you mean 'detail'", f"{UP} --scheduler heun.detail@pid:4"),
    (f"{UP} --scheduler heun@pid:4 --steps 3", "use one of them", f"{UP} --scheduler heun@pid:4"),
    (f"{UP} --scheduler heun@pid:4 --timesteps 0.9,0", "use one of them", f"{UP} --scheduler heun --timesteps 0.9,0"),
    (f"{UP} --scheduler my.py", "FILE.py:NAME", f"{UP} --scheduler my.py:mine"),
    (f"{UP} --steps 5", "pass --timesteps 0.999,", f"{UP} --timesteps TIMES"),
    (f"{UP} --steps 5", "pass 1..4", f"{UP} --steps 4"),
    (f"{UP} --timesteps 0.9,0.5", "append 0", f"{UP} --timesteps 0.9,0.5,0"),
    (f"{UP} --timesteps 0.5,0.9,0", "must strictly descend", f"{UP} --timesteps 0.9,0.5,0"),
    (f"{UP} --timesteps list.txt", "@FILE of times", f"{UP} --timesteps @list.txt"),
    (f"{UP} --timesteps karas:4", "did you mean 'karras'", f"{UP} --timesteps karras:4"),
    ("upscale in.png -o out.png --model gausian", "did you mean 'gaussian'", UP),
    (
        "upscale in.png two.png -o out.png --model gaussian",
        "pass -o FOLDER",
        "upscale in.png two.png -o new/ --model gaussian",
    ),
    ("upscale in.png -o in.png --model gaussian", "pass another output", UP),
    ("upscale in.png -o in.png --overwrite --model gaussian", "pass another output", UP),
    (
        "upscale in.png -o there.png --model gaussian",
        "--overwrite",
        "upscale in.png -o there.png --overwrite --model gaussian",
    ),
    ("upscale in.png -o out.bmp --model gaussian", "one of .png", UP),
    ("upscale clear.png -o out.jpg --model gaussian", "write .png", "upscale clear.png -o out.png --model gaussian"),
    (f"{UP} --scale 9", "pass 4 or less", f"{UP} --scale 4"),
    (f"{UP} --size 10", "one side as 3000x", f"{UP} --size 10x"),
    (f"{UP} --size 99x99", "--fit for the largest", f"{UP} --size 99x99 --fit"),
    (f"{UP} --scale 2 --size 9x9", "pass one of them", f"{UP} --size 9x9"),
    (f"{UP} --fit", "pass a size", f"{UP} --fit --size 20x20"),
    (f"{UP} --max-memory lots", "such as 4G", f"{UP} --max-memory 4G"),
    (f"{UP} --caption c.npy", "leave it out", UP),
    (f"{UP} --negative c.npy", "or no negative", UP),
    (f"{UP} --color match-it", "known are adain, match, off", f"{UP} --color match"),
    (f"{UP} --noise brown", "did you mean 'brownian'", f"{UP} --noise brownian"),
    (f"{UP} --seed -1", "in 0..2^64-1", f"{UP} --seed 1"),
    (f"{UP} --seeed 1", "see pidsampler --help", "--help"),
    (f"{UP} --seed one", "see pidsampler upscale --help", "upscale --help"),
    (f"{UP} --engine rai", "known are local, ray", f"{UP} --engine local"),
    ("inspect in.png", "pass what `pidsampler upscale` wrote", "inspect there.png"),
    ("table heun flow-ode --json", "name one", "table heun --json"),
    ("schedulers heum", "did you mean 'heun'", "schedulers heun"),
    ("timesteps karas", "did you mean 'karras'", "timesteps karras"),
    ("study", "pass --init", "study --init"),
    (SEARCH.replace("two", "in") + " --scheduler heun", "give each picture once", f"{SEARCH} --scheduler heun"),
    (f"{SEARCH} --scheduler heun@karras", "pass what is before @", f"{SEARCH} --scheduler heun"),
    (f"{SEARCH} --scheduler flow-sde", "psnr for pictures", f"{SEARCH} --scheduler flow-sde --measure psnr"),
    (f"{LEARN} --calls 1 --paired", "an even number, or leave --paired out", f"{LEARN} --calls 2 --paired"),
    (f"{LEARN} --calls 1 --target psrn", "did you mean 'psnr'", f"{LEARN} --calls 1 --target psnr"),
    ("bench --against heun", "such as pidsampler bench heun@uniform:8", "bench heun@uniform:8 --sizes 32 --rounds 6"),
    ("compile gaussian -o g.txt --size 32x32", "ends in .onnx", "compile gaussian -o g.onnx --size 32x32"),
    ("compile gaussian -o g.onnx --size 33x33", "pass 32x32, say", "compile gaussian -o g.onnx --size 32x32"),
]


def typed(command):
    """Run a command, and return its exit code and what it says on stderr."""
    said = io.StringIO()
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(said):
        try:
            code = main(shlex.split(command))
        except SystemExit as ended:
            code = ended.code
    return code or 0, said.getvalue()


@pytest.fixture(scope="module", name="pictures")
def _pictures(tmp_path_factory):
    folder, rng = tmp_path_factory.mktemp("advice"), np.random.default_rng(0)
    for name, channels in {"in.png": 3, "two.png": 3, "clear.png": 4}.items():
        Image.fromarray(rng.integers(0, 256, (8, 8, channels), np.uint8)).save(folder / name)
    (folder / "list.txt").write_text("0.9\n0.5\n0\n")
    (folder / "my.py").write_text("import pidsampler as ps\n\n\ndef mine(t):\n    return ps.FlowODE(t).table()\n")
    np.save(folder / "c.npy", np.zeros((5, 24), np.float32))
    with contextlib.chdir(folder):
        assert typed("upscale in.png -o there.png --model gaussian") == (0, "")
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(("wrong", "advice", "right"), ADVICE)
def test_the_advice_of_an_error_works(wrong, advice, right, pictures, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, data in pictures.items():
        (tmp_path / name).write_bytes(data)
    code, said = typed(wrong)
    assert code in (1, 2)
    assert said.startswith("pidsampler: error: ")
    assert said.count("\n") == 1
    assert advice in said
    assert {name: (tmp_path / name).read_bytes() for name in pictures} == pictures
    if "TIMES" in right:
        right = right.replace("TIMES", re.search(r"--timesteps ([\d.,]+)", said)[1])
    code, said = typed(right)
    assert code == 0, said
