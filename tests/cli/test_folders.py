"""Three hundred files at once: what is broken is named, a kill loses nothing, and memory and sessions stay the same."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from forking import Server
from PIL import Image

from pidsampler.cli import main
from pidsampler.io import atomic, records

FILES, BROKEN = 300, 10
SIZES = ((2, 2), (3, 5), (9, 9), (8, 2), (17, 24), (24, 7))
ARGUMENTS = ["upscale", "in", "--model", "gaussian", "--device", "cpu", "-o"]

# The command line itself, with the process's resident bytes after each file, and how many sessions were made.
WATCHED = """
import json, mmap, sys
from pathlib import Path
import onnxruntime
from pidsampler import cli
from pidsampler.upscale import batch

resident, sessions = [], []
upscale_files, session = batch.upscale_files, onnxruntime.InferenceSession

def watched(*arguments, **options):
    for outcome in upscale_files(*arguments, **options):
        yield outcome
        resident.append(int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE)

def made(path, *arguments, **options):
    sessions.append(Path(path).name)
    return session(path, *arguments, **options)

batch.upscale_files, onnxruntime.InferenceSession = watched, made
code = cli.main(sys.argv[1:])
Path("watched.json").write_text(json.dumps([code, resident, sessions]))
"""

# Stops for good in the middle of a file, once there are so many as the file `last` says.
STOPPED = """
import time
from pathlib import Path
from pidsampler.io import pictures

place = pictures.place

def stopping(path, write, **options):
    def half(file):
        if len(list(path.parent.glob("*.png"))) >= int(Path("last").read_text()):
            file.write(b"half")
            file.flush()
            Path("stopped").touch()
            time.sleep(600)
        write(file)

    place(path, half, **options)

pictures.place = stopping
"""


def picture(k):
    """Of one of a handful of sizes, in color or gray, with or without alpha."""
    shape = (*SIZES[k % len(SIZES)], k // len(SIZES) % 4 + 1)
    pixels = np.random.default_rng(k).integers(0, 256, shape, np.uint8)
    return Image.fromarray(pixels[:, :, 0] if shape[2] == 1 else pixels)


def breakages(whole):
    """Each way to be broken: a suffix, and what writes such a file, given a whole picture's path."""
    content = whole.read_bytes()
    picture = Image.open(whole).convert("RGB")
    others = {"save_all": True, "append_images": [Image.new("RGB", picture.size)]}
    yield ".png", lambda path: path.write_bytes(content[: len(content) // 2])
    yield ".png", lambda path: path.write_text("not a picture")
    yield ".png", lambda path: path.symlink_to("nowhere.png")
    yield ".jpg", lambda path: path.write_bytes(content[1:])
    yield ".webp", lambda path: path.touch()
    yield ".png", lambda path: picture.save(path, **others)
    yield ".tif", lambda path: picture.save(path, **others)
    yield ".tif", lambda path: Image.new("F", (3, 3)).save(path)
    yield ".npy", lambda path: np.save(path, np.zeros((3, 2, 2), np.float32))
    yield ".npy", lambda path: np.save(path, np.full((192, 2, 2), np.nan, np.float32))


@pytest.fixture(name="place", scope="module")
def _place(tmp_path_factory):
    """A folder `in` of 300 files, the names of the broken ones, and `whole`, what becomes of them."""
    place = tmp_path_factory.mktemp("folders")
    (place / "in").mkdir()
    for k in range(FILES):
        picture(k).save(place / "in" / f"{k:03}.png")
    at = [0, FILES - 1, *random.Random(8).sample(range(1, FILES - 1), BROKEN - 2)]
    broken = []
    for k, (suffix, write) in zip(sorted(at), breakages(place / "in" / "002.png"), strict=True):
        (place / "in" / f"{k:03}.png").unlink()
        write(place / "in" / f"{k:03}{suffix}")
        broken.append(f"in/{k:03}{suffix}")
    command = [sys.executable, "-P", "-c", WATCHED, *ARGUMENTS, "whole"]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True)
    code, resident, sessions = json.loads((place / "watched.json").read_text())
    return {"path": place, "broken": broken, "err": done.stderr, "code": code, "rss": resident, "sessions": sessions}


def check_end(place, code, err, files=FILES):
    lines = err.splitlines()
    assert code == 1
    assert len(lines) == BROKEN + 1
    for name, line in zip(place["broken"], lines, strict=False):
        assert re.match(rf"pidsampler: error: (cannot read )?{name}\b", line)
    assert lines[-1] == f"pidsampler: error: {BROKEN} of {files} failed: {', '.join(place['broken'])}"


def test_broken_files_are_named_and_all_others_done(place):
    check_end(place, place["code"], place["err"])
    made = {path.name for path in (place["path"] / "whole").iterdir()}
    assert made == {f"{k:03}.png" for k in range(FILES)} - {Path(name).stem + ".png" for name in place["broken"]}
    assert len(made) == FILES - BROKEN
    for name in made:
        source = place["path"] / "in" / name
        with Image.open(source) as small, Image.open(place["path"] / "whole" / name) as large:
            assert large.size == (4 * small.width, 4 * small.height)
            assert (large.mode, np.asarray(large).dtype) == (small.mode, np.uint8)  # decodes to its end
        assert records.find_record(place["path"] / "whole" / name)["input"]["name"] == name


def test_memory_stays_flat(place):
    """A picture of 24x17 leaves 38 kB if its result is kept, and 470 kB of sampled tensors."""
    warm, last = place["rss"][60:160], place["rss"][-100:]
    assert len(place["rss"]) == FILES
    assert max(last) - max(warm) < 2e6


def test_nothing_is_loaded_again_for_another_picture(place):
    assert sorted(place["sessions"]) == ["pid_upscaler.onnx", "vae_encoder.onnx"]


@pytest.fixture(name="part")
def _part(place, tmp_path):
    """A folder `in` of every fifth file of those, and of all that are broken."""
    (tmp_path / "in").mkdir()
    for k, path in enumerate(sorted((place["path"] / "in").iterdir())):
        if k % 5 == 0 or f"in/{path.name}" in place["broken"]:
            shutil.copy2(path, tmp_path / "in" / path.name, follow_symlinks=False)
    return tmp_path


@pytest.mark.parametrize("where", ["anywhere", "in the middle of a file"])
def test_killed_it_goes_on(place, part, monkeypatch, capsys, where):
    monkeypatch.chdir(part)
    moments, killed, out, whole = random.Random(9), 0, part / "out", place["path"] / "whole"
    out.mkdir()
    names, stopped, midway = sorted(os.listdir("in")), Path("stopped"), where != "anywhere"
    server = Server(STOPPED if midway else "")

    def made():
        return [name for name in os.listdir(out) if name.endswith(".png")]

    for progress in sorted(moments.sample(range(1, len(names) - 20), 4)):
        stopped.unlink(missing_ok=True)
        Path("last").write_text(str(progress))
        process = server.start([*ARGUMENTS, out], folder=part)
        while process.poll() is None and not (stopped.exists() if midway else len(made()) >= progress):
            time.sleep(0.001)
        time.sleep(0.0 if midway else moments.uniform(0.0, 0.02))
        process.kill()
        killed += process.wait() == -signal.SIGKILL
        assert len(made()) >= progress
        for name in made():
            assert (out / name).read_bytes() == (whole / name).read_bytes()
        if midway:
            assert len(made()) == progress
            assert len(os.listdir(out)) > progress  # what it was at
    server.close()
    assert killed >= 2  # a machine that is busy elsewhere may let one come to its end
    monkeypatch.setattr(atomic, "_NEW", 0.0)  # what a killed process left is old
    code = main([*ARGUMENTS, str(out)])
    check_end(place, code, capsys.readouterr().err, files=len(names))
    broken = {Path(name).name for name in place["broken"]}
    assert sorted(os.listdir(out)) == [name for name in names if name not in broken]
    for name in os.listdir(out):
        assert (out / name).read_bytes() == (whole / name).read_bytes()
