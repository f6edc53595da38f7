"""What is printed: no name controls the terminal, and no reader that is gone ends the work."""

import ast
import errno
import io
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from models import write_model
from PIL import Image

import pidsampler
from pidsampler import PidSamplerError
from pidsampler.cli import main, output
from pidsampler.cli.progress import progress_bar
from pidsampler.errors import FileError, printable

EVIL = "a\x1b[31m\r\x07\u202e.png"
SHOWN = r"a\x1b[31m\r\x07\u202e.png"


@pytest.fixture(name="here")
def _here(tmp_path, monkeypatch):
    """An empty working folder with one picture."""
    monkeypatch.chdir(tmp_path)
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (4, 5, 3), np.uint8)).save("in.png")
    return tmp_path


class Stream(io.StringIO):
    """A stdout of some encoding, which fails from some character on."""

    def __init__(self, encoding="utf-8", room=10**9, error=errno.ENOSPC):
        super().__init__()
        self._encoding, self._room, self._error = encoding, room, error

    @property
    def encoding(self):
        return self._encoding

    def write(self, text):
        text.encode(self._encoding)
        if self.tell() + len(text) > self._room:
            raise OSError(self._error, os.strerror(self._error))
        return super().write(text)


UPSCALE = ["upscale", "in.png", "-o", "out.png", "--model", "gaussian", "--device", "cpu"]


@pytest.mark.parametrize(
    ("stdout", "stderr", "code"),
    [
        (Stream("ascii"), Stream("ascii"), 0),
        (None, Stream(), 0),
        (Stream(), None, 0),
        (None, None, 0),
        (Stream(room=0), Stream(), 1),
        (Stream(room=0, error=errno.EPIPE), Stream(), 1),
        (Stream(room=0), Stream(room=0), 1),
    ],
)
def test_the_work_is_done_whoever_listens(here, monkeypatch, stdout, stderr, code):
    monkeypatch.setattr(sys, "stdout", stdout)
    monkeypatch.setattr(sys, "stderr", stderr)
    assert main(UPSCALE) == code
    with Image.open("out.png") as image:
        assert image.size == (20, 16)
    if stdout is not None and stderr is not None:
        full = stdout._room == 0 and stdout._error == errno.ENOSPC
        said = "pidsampler: error: cannot write to stdout: No space left on device\n"
        assert stderr.getvalue() == (said if full and stderr._room else "")


def test_a_closed_stdout(here, monkeypatch):
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stdout", closed)
    assert main(UPSCALE) == 0
    assert Path("out.png").exists()


@pytest.mark.parametrize("arguments", [["table", "heun"], ["--version"], ["table", "--help"]])
def test_a_full_disk_is_told_by_the_exit_code(monkeypatch, arguments):
    monkeypatch.setattr(sys, "stdout", Stream(room=3))
    monkeypatch.setattr(sys, "stderr", error := Stream())
    try:
        code = main(arguments)
    except SystemExit as ended:
        code = ended.code
    assert code == 1
    assert error.getvalue() == "pidsampler: error: cannot write to stdout: No space left on device\n"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="a device that is always full is Linux's")
@pytest.mark.parametrize("how", ["{} >/dev/full", "{} >&- 2>&-"])
def test_real_streams(here, how):
    command = [sys.executable, "-m", "pidsampler", *UPSCALE]
    done = subprocess.run(["sh", "-c", how.format('"$@"'), "sh", *command], capture_output=True, text=True)
    assert Path("out.png").exists()
    assert done.returncode == (1 if "full" in how else 0)
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


def test_names_of_files_do_not_reach_the_terminal(here, capfd):
    os.rename("in.png", EVIL)
    assert main(["upscale", EVIL, "-o", "out/", "--model", "gaussian"]) == 0
    Path("b\x1b.png").write_bytes(b"")
    assert main(["upscale", "b\x1b.png", "-o", f"no\x9b/{EVIL}"]) == 2
    assert main(["upscale", "b\x1b.png", "no\nname.png", "-o", "out", "--model", "gaussian"]) == 1
    out, err = capfd.readouterr()
    assert out.startswith(f"out/{SHOWN}: 20x16")
    assert r"cannot write no\x9b/" in err
    assert r"b\x1b.png is empty" in err
    assert r"cannot read no\nname.png" in err
    assert all(line.isprintable() for line in (out + err).splitlines())


def test_names_of_models_and_tensors_do_not_reach_the_terminal(here, capfd):
    write_model(here / "m", {"name": "m\x1b]0;x\x07", "license": "\x9b2J"})
    assert main(["inspect", "m"]) == 0
    write_model(here / "n", rename=[("x", "x\x1b[2J")])
    assert main(["inspect", "n"]) == 1
    Path("m/pidsampler.json").write_text('{"na\\u001bme": 1}')
    assert main(["inspect", "m"]) == 1
    out, err = capfd.readouterr()
    assert r"m\x1b]0;x\x07" in out
    assert r"x\x1b[2J" in err
    assert r"na\x1bme" in err
    assert all(line.isprintable() for line in (out + err).splitlines())


class Terminal(Stream):
    def isatty(self):
        return True


def test_the_bar_shows_names_as_they_are(monkeypatch):
    """Rich would read brackets as markup."""
    monkeypatch.setattr(sys, "stderr", screen := Terminal())
    monkeypatch.setattr(sys, "stdout", Stream())
    monkeypatch.setenv("TERM", "xterm")
    with progress_bar(quiet=False, total=1.0) as advance:
        advance("[red]a\x1b\x07.png", by=0.5)
    assert r"[red]a\x1b\x07.png" in screen.getvalue()
    assert "\x07" not in screen.getvalue()


@given(st.text())
def test_printable(text):
    shown = printable(text)
    shown.encode()
    assert all(c.isprintable() or c.isspace() for c in shown)
    assert not set(shown) & set("\n\r\t\x0b\x0c\x1b\x85\u2028\u2029\u202e\u2066\x9b")
    assert printable(shown) == shown
    if text.isprintable():
        assert shown == text


def test_every_error_of_ours_is_printable():
    assert str(FileError(f"cannot read {EVIL}")) == f"cannot read {SHOWN}"
    assert str(PidSamplerError("日本語　é.png")) == "日本語　é.png"  # an ideographic space is none of it


def test_one_place_prints():
    package = Path(pidsampler.__file__).parent
    for path in package.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            printing = isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "print"
            writing = isinstance(node, ast.Attribute) and node.attr == "write" and "sys.std" in ast.unparse(node)
            assert not printing, f"{path}:{node.lineno}"
            assert not writing, f"{path}:{node.lineno}"


def test_what_failed_is_forgotten_by_the_next_command(monkeypatch):
    monkeypatch.setattr(sys, "stdout", Stream(room=0))
    monkeypatch.setattr(sys, "stderr", Stream())
    assert main(["schedulers"]) == 1
    monkeypatch.setattr(sys, "stdout", whole := Stream())
    assert main(["schedulers"]) == 0
    assert "flow-sde" in whole.getvalue()
    assert output.close()
