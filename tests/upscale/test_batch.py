"""Many files: folders in, folders out; what is there already, and what fails. Three hundred are in test_folders.py."""

import errno
import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest
from PIL import Image

from pidsampler import FlowSDE, PidSamplerError, Upscaler
from pidsampler.cli import main
from pidsampler.io import atomic, records
from pidsampler.upscale import batch
from pidsampler.upscale.source import Source

SCHEDULER = FlowSDE([1.0, 0.5, 0.0])


def picture(seed, height=6, width=9):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(name="here")
def _here(tmp_path, monkeypatch):
    """A working folder with a tree of three pictures, a latent, and what is none of these."""
    monkeypatch.chdir(tmp_path)
    for seed, name in enumerate(("in/b.png", "in/a.webp", "in/deep/er/c.tif")):
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(seed)).save(name, **({"lossless": True} if name.endswith("webp") else {}))
    np.save("in/deep/z.npy", np.zeros((192, 1, 2), np.float32))
    for name in ("in/notes.txt", "in/._b.png", "in/.hidden/d.png"):
        Path(name).parent.mkdir(exist_ok=True)
        Path(name).write_text("nothing")
    return tmp_path


@pytest.fixture(name="run")
def _run(capsys):
    def run(*arguments):
        code = main(["upscale", *map(str, arguments), "--model", "gaussian", "--device", "cpu"])
        out, err = capsys.readouterr()
        return code, out.splitlines(), err.splitlines()

    return run


@pytest.fixture(name="sampled")
def _sampled(monkeypatch):
    """The runs that are made."""
    from pidsampler.upscale import upscaler

    made, sample = [], upscaler.sample

    def counted(*arguments, **options):
        made.append(arguments)
        return sample(*arguments, **options)

    monkeypatch.setattr(upscaler, "sample", counted)
    return made


def written(folder):
    return sorted(str(path.relative_to(folder)) for path in Path(folder).rglob("*") if path.is_file())


ALL = ["a.png", "b.png", "deep/er/c.png", "deep/z.png"]


def test_a_folder_becomes_a_folder_of_the_same_shape(here, run):
    code, out, err = run("in", "-o", "out")
    assert (code, err) == (0, [])
    assert written("out") == ALL
    assert [line.split(":")[0] for line in out] == ["out/a.png", "out/b.png", "out/deep/z.png", "out/deep/er/c.png"]
    assert run("in/deep/er/c.tif", "-o", "alone.png")[0] == 0
    assert Path("alone.png").read_bytes() == Path("out/deep/er/c.png").read_bytes()


def test_files_and_folders_together(here, run):
    Image.fromarray(picture(7)).save("other.png")
    assert run("other.png", "in/deep", "-o", "out")[0] == 0
    assert written("out") == ["er/c.png", "other.png", "z.png"]


def test_what_is_there_already_is_left(here, run, sampled):
    run("in", "-o", "out")
    Path("out/b.png").unlink()
    before = {name: os.stat(f"out/{name}").st_mtime_ns for name in written("out")}
    del sampled[:]
    code, out, err = run("in", "-o", "out")
    assert (code, err, len(sampled)) == (0, [], 1)
    assert [line.split(": ")[1] for line in out].count("36x24, there already") == 2
    assert out[0] == "out/a.png: 36x24, there already"
    assert "there already" not in out[1]
    assert {name: os.stat(f"out/{name}").st_mtime_ns for name in before} == before
    run("in", "-o", "out", "--overwrite")
    assert len(sampled) == 1 + 4


@pytest.mark.parametrize("change", ["seed", "steps", "input", "not ours", "damaged"])
def test_what_was_made_otherwise_is_not_touched(here, run, change):
    run("in", "-o", "out")
    target, options = Path("out/b.png"), {"seed": ["--seed", "1"], "steps": ["--steps", "2"]}.get(change, [])
    if change == "input":
        Image.fromarray(picture(8)).save("in/b.png")
    elif change == "not ours":
        Image.fromarray(picture(8)).save(target)
    elif change == "damaged":
        target.write_bytes(target.read_bytes()[:20])
    before = target.read_bytes()
    code, out, err = run("in", "-o", "out", *options)
    assert code == 1
    assert target.read_bytes() == before
    why = (
        "pidsampler: error: out/b.png exists already, not made from in/b.png with these settings: pass --overwrite to "
        "replace it, or another folder"
    )
    if change == "damaged":
        why = (
            "pidsampler: error: out/b.png, for in/b.png, is damaged (it ends early): pass --overwrite to make it again"
        )
    assert why in err
    assert len(out) == (0 if options else 3)
    assert run("in", "-o", "out", *options, "--overwrite")[0] == 0
    assert run("in", "-o", "out", *options)[0] == 0


def test_failures_are_named_at_the_end_and_tried_again(here, run, sampled):
    Path("in/a0.png").write_bytes(b"nothing")
    Path("in/deep/x.jpg").write_bytes(b"")
    np.save("in/deep/er/y.npy", np.zeros((3, 1, 2), np.float32))  # of another model
    for _ in range(2):
        code, out, err = run("in", "-o", "out")
        assert (code, len(out), len(err)) == (1, 4, 4)
        assert err[-1] == "pidsampler: error: 3 of 7 failed: in/a0.png, in/deep/x.jpg, in/deep/er/y.npy"
        assert written("out") == ALL
        assert len(sampled) == 4


@pytest.mark.parametrize(
    ("inputs", "output", "message"),
    [
        (["in"], "in", "in is the folder of the inputs: pass another, such as -o in/large"),
        (["in/deep", "in"], "./in", "is the folder of the inputs"),
        (["in"], "out.png", "out.png names a picture, but several inputs need a folder: pass -o FOLDER"),
        (["empty"], "out", "empty holds no picture or latent: expected .png, .jpg, .jpeg, .webp, .tif, .tiff, .npy"),
        (["in", "in/b.png"], "out", "in/b.png and in/b.png would both become out/b.png: rename one"),
        (["in"], "in/notes.txt", "in/notes.txt is a file, but several inputs need a folder"),
        (["in", "--engine", "rey"], "out", "unknown engine 'rey': did you mean 'ray'?"),
    ],
)
def test_what_cannot_be(here, run, inputs, output, message):
    Path("empty").mkdir()
    before = written(".")
    code, out, (error,) = run(*inputs, "-o", output)
    assert (code, out) == (2, [])
    assert message in error
    assert written(".") == before


def test_the_output_may_lie_in_the_input(here, run):
    for _ in range(2):
        assert run("in", "-o", "in/large")[0] == 0
        assert written("in/large") == ALL


def test_reading_and_writing_go_on_beside_the_network(here, monkeypatch):
    """Each stage of one file waits for a stage of another that comes before it only where they overlap."""
    up = Upscaler.load("gaussian", "cpu")
    computing, read, written_one = threading.Event(), threading.Event(), threading.Event()
    files = [batch.File(Path(f"{k}.png"), Path(f"{k}-out.png")) for k in range(3)]
    for k in range(3):
        Image.fromarray(picture(k)).save(f"{k}.png")
    of, save = Source.of, batch.Result.save

    def slow_read(path):
        if Path(path).stem == "1":
            assert computing.wait(20)
        source = of(path)
        if Path(path).stem == "2":
            read.set()
        return source

    def slow_save(result, path, overwrite):
        if result.record["input"]["name"] == "0.png":
            assert read.wait(20)
        save(result, path, overwrite)
        written_one.set()

    def progress(path, share):
        computing.set()
        if path.name == "2.png":
            assert written_one.wait(20)

    monkeypatch.setattr(batch.Source, "of", staticmethod(slow_read))
    monkeypatch.setattr(batch.Result, "save", slow_save)
    settings = batch.Settings(SCHEDULER)
    found = list(batch.upscale_files(up, files, settings=settings, progress=progress))
    assert [(outcome.file, outcome.error) for outcome in found] == [(file, None) for file in files]


def test_an_error_of_ours_stops_all_and_leaves_whole_files(here, monkeypatch):
    up = Upscaler.load("gaussian", "cpu")
    files = batch.find_files([Path("in")], "out")
    found = batch.upscale_files(up, files, settings=batch.Settings(SCHEDULER))
    next(found)
    found.close()  # as an exception or Ctrl-C in the caller does
    for name in written("out"):
        assert records.find_record(Path("out") / name) is not None


def test_no_memory_is_said_of_its_file(here, run, monkeypatch):
    of = Source.of

    def fail(path):
        if path.name == "b.png":
            raise MemoryError
        return of(path)

    monkeypatch.setattr(batch.Source, "of", staticmethod(fail))
    code, out, err = run("in", "-o", "out")
    assert (code, len(out)) == (1, 3)
    assert err[0] == "pidsampler: error: in/b.png: not enough memory for its result"


def test_only_what_nobody_writes_is_left_over(tmp_path, monkeypatch):
    monkeypatch.setattr(atomic, "_NEW", 0.0)
    (tmp_path / ".pidsampler-0123456789abcdef.tmp").touch()
    (tmp_path / "mine.tmp").touch()
    seen = []

    def write(file):
        time.sleep(0.01)
        seen.append(subprocess.run(clean, check=True, cwd=tmp_path).returncode)

    code = (
        "import pathlib; from pidsampler.io import atomic; atomic._NEW = 0.0; atomic.remove_leftovers(pathlib.Path())"
    )
    clean = [sys.executable, "-P", "-c", code]
    atomic.place(tmp_path / "new.png", write, overwrite=False)
    assert seen == [0]
    assert written(tmp_path) == ["mine.tmp", "new.png"]


def test_a_folder_of_a_killed_process_is_left_over(tmp_path):
    """It is removed with all that is in it; the folder of a process that lives is not."""
    code = (
        "import os, pathlib, signal; from pidsampler.io import atomic\n"
        "with atomic.temporary_folder(pathlib.Path('m')) as folder:\n"
        "    (folder / 'half.onnx.data').write_bytes(bytes(100)); os.kill(os.getpid(), signal.SIGKILL)"
    )
    ended = subprocess.run([sys.executable, "-P", "-c", code], check=False, cwd=tmp_path)
    assert ended.returncode == -signal.SIGKILL
    lock, half = sorted(tmp_path.iterdir(), reverse=True)
    assert list(half.iterdir()) == [half / "half.onnx.data"]
    os.utime(lock, (0, 0))
    with atomic.temporary_folder(tmp_path / "n") as living:
        atomic.remove_leftovers(tmp_path)
        assert sorted(tmp_path.iterdir()) == [living, living.with_suffix(".tmp")]
        living.rename(tmp_path / "n")
    assert list(tmp_path.iterdir()) == [tmp_path / "n"]


def test_a_worker_of_a_cluster(here):
    files = batch.find_files([Path("in")], "out")
    settings = batch.Settings(SCHEDULER)
    job = batch.FileJob(tuple(files), settings)
    found = list(batch.FileWorker("gaussian", "cpu").run(job))
    assert [outcome.file for outcome in found] == files
    given_up, again = job.lost(found[:2], "it died")
    assert given_up == []
    assert [(one.files, one.again) for one in again] == [((file,), True) for file in files[2:]]
    (outcome,), none = again[0].lost([], "it died")
    assert (outcome.error, none) == (f"{files[2].path}: it died", [])
    errors = [outcome.error for outcome in batch.FileWorker("nowhere", "cpu").run(job)]
    assert len(errors) == 4
    assert all("no model 'nowhere'" in error for error in errors)


def test_the_record_is_known_before_anything_is_computed():
    up = Upscaler.load("gaussian", "cpu")
    source = Source.of(picture(0))
    options = {"sampler": "heun@uniform:3", "seed": 4, "degrade_sigma": 0.5}
    found = up(source, **options).record
    known = up.record(source, **options)
    assert found == found | known
    assert found.keys() - known.keys() == {"tiles", "drift", "ran_out_of_memory"}


def contents(*names):
    return {name: Path(name).read_bytes() for name in names}


@pytest.mark.parametrize("output", [".", "", "./", "in/..", "linked"])
@pytest.mark.parametrize("more", [[], ["--overwrite"]])
def test_no_input_is_replaced(here, capsys, output, more):
    for seed, name in enumerate(("x.png", "y.png")):
        Image.fromarray(picture(seed)).save(name)
    Path("linked").symlink_to(".")
    before, names = contents("x.png", "y.png"), written(".")
    try:
        code = main(["upscale", "x.png", "y.png", "-o", output, "--model", "gaussian", *more])
    except SystemExit as ended:
        code = ended.code
    assert code == 2
    assert "is empty" in (err := capsys.readouterr().err) or "never replaced" in err
    assert (contents("x.png", "y.png"), written(".")) == (before, names)


@pytest.mark.parametrize(
    ("link", "inputs", "output", "more"),
    [
        (("out/b.png", "in/b.png", "soft"), ["in"], "out", []),
        (("out/b.png", "in/b.png", "hard"), ["in"], "out", []),
        (("one.png", "in/b.png", "soft"), ["in/b.png"], "one.png", []),
        (("one.jpg.json", "table.json", "soft"), ["in/b.png"], "one.jpg", ["--scheduler", "@table.json"]),
        (("one.png", "list.txt", "hard"), ["in/b.png"], "one.png", ["--timesteps", "@list.txt"]),
    ],
)
def test_an_input_by_another_name_is_one(here, run, link, inputs, output, more):
    name, real, kind = link
    Path("list.txt").write_text("0.9\n0\n")
    Path("table.json").write_text(SCHEDULER.table().to_json())
    Path("out").mkdir()
    if kind == "soft":
        Path(name).symlink_to(Path(real).resolve())
    else:
        os.link(real, name)
    before = contents(real)
    code, out, (error,) = run(*inputs, "-o", output, "--overwrite", *more)
    assert (code, out) == (2, [])
    assert f"{name} is the input {real} by another name, which is never replaced" in error
    assert contents(real) == before


def test_a_result_that_was_cut_off_is_not_there(here, run):
    run("in", "-o", "out")
    data = Path("out/b.png").read_bytes()
    for damaged in (data[:-1], data[: len(data) // 2], data[:-40] + bytes(8) + data[-32:], b""):
        Path("out/b.png").write_bytes(damaged)
        code, out, err = run("in", "-o", "out")
        assert (code, len(out), len(err)) == (1, 3, 2)
        assert re.fullmatch(
            r"pidsampler: error: out/b\.png, for in/b\.png, is damaged \(.*\): pass --overwrite to make it again",
            err[0],
        )
        assert Path("out/b.png").read_bytes() == damaged
    assert run("in", "-o", "out", "--overwrite")[0] == 0
    assert Path("out/b.png").read_bytes() == data


def test_a_link_to_nothing_is_written_through_with_overwrite_alone(here, run):
    Path("out").mkdir()
    Path("out/b.png").symlink_to("nothing.png")
    code, out, err = run("in", "-o", "out")
    assert (code, len(out), len(err)) == (1, 3, 2)
    assert "out/b.png is a link to nothing: pass --overwrite to make what it leads to" in err[0]
    assert run("in", "-o", "out", "--overwrite")[0] == 0
    assert Path("out/nothing.png").is_file()
    assert Path("out/b.png").is_symlink()


def test_what_is_replaced_stays_a_link_and_keeps_its_mode(here, run):
    Path("elsewhere").mkdir()
    run("in/b.png", "-o", "elsewhere/real.png")
    Path("elsewhere/real.png").chmod(0o600)
    Path("out").mkdir()
    Path("out/b.png").symlink_to("../elsewhere/real.png")
    before = Path("elsewhere/real.png").read_bytes()
    assert run("in/b.png", "-o", "out/b.png", "--seed", "3", "--overwrite")[0] == 0
    assert Path("out/b.png").is_symlink()
    assert Path("elsewhere/real.png").read_bytes() != before
    assert Path("elsewhere/real.png").stat().st_mode & 0o777 == 0o600
    assert written("elsewhere") == ["real.png"]


@pytest.mark.parametrize(
    ("first", "second"),
    [("A.png", "a.webp"), ("Sub/c.png", "sub/c.png"), ("é.png", "e\u0301.webp"), ("ß.png", "SS.png")],
)
def test_results_that_differ_by_case_alone_are_refused(tmp_path, monkeypatch, run, first, second):
    monkeypatch.chdir(tmp_path)
    for name in (first, second):
        Path("in", name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(0)).save(Path("in", name))
    if len(written("in")) < 2:
        pytest.skip("this file system has one of them alone")
    code, out, (error,) = run("in", "-o", "out")
    assert (code, out) == (2, [])
    assert f"in/{first}" in error
    assert f"in/{second}" in error
    assert "one file where neither case nor how accents are written counts" in error
    assert not Path("out").exists()


def test_whatever_a_file_does_the_others_are_made(here, run, monkeypatch):
    of = Source.of

    def fail(path):
        if path.name == "b.png":
            raise ValueError("setting an array\nelement")
        return of(path)

    monkeypatch.setattr(batch.Source, "of", staticmethod(fail))
    np.save("in/bf16.npy", np.zeros((192, 1, 2), ml_dtypes.bfloat16))
    Path("out/deep").mkdir(parents=True)
    Path("out/deep/er").write_text("no folder")
    Path("out/deep/z.png").mkdir()
    code, out, err = run("in", "-o", "out")
    assert (code, len(out)) == (1, 1)
    assert out[0].startswith("out/a.png")
    assert err[0] == r"pidsampler: error: in/b.png: ValueError: setting an array\nelement"
    assert err[1].startswith("pidsampler: error: in/bf16.npy: the latent is |V2 of shape (192, 1, 2): bfloat16 perhaps")
    assert "z.png" in err[2]
    assert err[3] == "pidsampler: error: in/deep/er/c.tif: cannot write out/deep/er/c.png: Not a directory"
    assert err[4] == "pidsampler: error: 4 of 5 failed: in/b.png, in/bf16.npy, in/deep/z.npy, in/deep/er/c.tif"


def test_a_name_too_long_is_its_own_failure(here, run):
    code, out, err = run("in", "x" * 300 + ".png", "-o", "out")
    assert (code, len(out), len(err)) == (1, 4, 2)
    assert "File name too long" in err[0]


def test_what_a_folder_leaves_out_is_said(here, run):
    Image.fromarray(picture(1)).save("in/j.jfif", format="JPEG")
    Image.fromarray(picture(1)).save("in/deep/b.BMP", format="BMP")
    Path("in/bm.txt").write_text("BMW is no bitmap")
    Path("other").mkdir()
    Path("in/link").symlink_to("../other")
    if hasattr(os, "mkfifo"):
        os.mkfifo("in/pipe.jfif")
    code, out, err = run("in", "-o", "out")
    assert (code, len(out)) == (0, 4)
    known = "but not one of .png, .jpg, .jpeg, .webp, .tif, .tiff"
    left = f"in/link (a link to a folder), in/j.jfif (JPEG, {known}), in/deep/b.BMP (BMP, {known})"
    assert err == [f"pidsampler: left out: {left}: name what is meant to be enlarged too"]
    assert run("in", "-o", "out", "--quiet") == (0, [], [])
    Path("only").mkdir()
    Path("only/j.jfif").write_bytes(Path("in/j.jfif").read_bytes())
    code, out, (error,) = run("only", "-o", "out")
    assert code == 2
    assert f"left out: only/j.jfif (JPEG, {known})" in error


def test_a_folder_that_cannot_be_read_is_a_failure(here, run, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if str(path).endswith(("deep", "locked")):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))
        return scandir(path)

    Path("locked").mkdir()
    monkeypatch.setattr(os, "scandir", refuse)
    code, out, err = run("in", "-o", "out")
    assert (code, len(out)) == (1, 2)
    assert err == ["pidsampler: error: cannot read in/deep: Permission denied; what is in it is left out"]
    code, out, (error,) = run("locked", "-o", "out")
    assert code == 2
    assert "locked holds no picture or latent" in error
    assert "left out: locked (Permission denied)" in error
    with pytest.raises(PidSamplerError, match="cannot read in/deep: Permission denied"):
        batch.find_files([Path("in")], "out")


def claimed(path):
    """Another process that is at a file."""
    code = "import sys, pathlib; from pidsampler.io import atomic; r = atomic.claim(pathlib.Path(sys.argv[1]))"
    code += "; print(r is not None, flush=True); sys.stdin.read(); r()"
    process = subprocess.Popen(
        [sys.executable, "-c", code, path], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "True\n"
    return process


@pytest.mark.skipif(os.name == "nt", reason="it has no such locks")
def test_two_runs_share_a_folder(here, run, sampled):
    """What another run is at comes last; it is made all the same where that one does not make it."""
    Path("out").mkdir()
    other = claimed("out/a.png")
    code, out, err = run("in", "-o", "out")
    assert (code, err, len(sampled)) == (0, [], 4)
    assert [line.split(":")[0] for line in out] == ["out/b.png", "out/deep/z.png", "out/deep/er/c.png", "out/a.png"]
    other.communicate()
    assert written("out") == ALL


def test_what_another_run_makes_meanwhile_is_left(here, run, monkeypatch):
    run("in", "-o", "theirs")
    save = batch.Result.save

    def late(result, path, overwrite):
        if path.name != "a.png":
            path.write_bytes(Path("theirs", path.relative_to("out")).read_bytes())
        save(result, path, overwrite)

    monkeypatch.setattr(batch.Result, "save", late)
    code, out, err = run("in", "-o", "out")
    assert (code, err) == (0, [])
    assert [line.partition(": ")[2] for line in out][1:] == [
        "36x24, there already",
        "64x32, there already",
        "36x24, there already",
    ]
    monkeypatch.setattr(batch.Result, "save", save)
    run("in", "-o", "theirs", "--overwrite", "--seed", "1")
    monkeypatch.setattr(batch.Result, "save", late)
    for path in Path("out").rglob("*.png"):
        path.unlink()
    code, out, err = run("in", "-o", "out")
    assert (code, len(out), len(err)) == (1, 1, 4)
    assert "out/b.png exists already, not made from in/b.png with these settings" in err[0]


def test_interrupted_it_says_how_to_go_on(here, run, monkeypatch):
    def fail(*arguments, **options):
        raise KeyboardInterrupt

    monkeypatch.setattr("pidsampler.upscale.upscaler.sample", fail)
    assert run("in", "-o", "out") == (
        130,
        [],
        ["pidsampler: error: interrupted: the same command goes on where it was"],
    )
    again = "the same command makes all again; without --overwrite it goes on where it was"
    assert run("in", "-o", "out", "--overwrite")[2] == [f"pidsampler: error: interrupted: {again}"]
    assert written("out") == []


def test_an_input_is_not_replaced_whoever_named_the_files(here):
    Path("link.png").symlink_to("in/b.png")
    before = Path("in/b.png").read_bytes()
    pairs = [batch.File(Path("in/b.png"), Path(target)) for target in ("in/b.png", "link.png")]
    settings = batch.Settings(SCHEDULER, overwrite=True)
    outcomes = list(batch.upscale_files(Upscaler.load("gaussian", "cpu"), pairs, settings=settings))
    assert ["which is never replaced" in outcome.error for outcome in outcomes] == [True, True]
    assert Path("in/b.png").read_bytes() == before
