"""Files of others: pipes, marks before a text, brackets in names, no home; and what is written over them."""

import os
import socket
import stat
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pidsampler import PidSamplerError, Upscaler, from_diffusers, get_scheduler
from pidsampler.bench.rows import COLUMNS, check_columns
from pidsampler.cli import main
from pidsampler.export.folder import check_target
from pidsampler.io import atomic, captions, files, latents, pictures, whole
from pidsampler.io.tables import read_table
from pidsampler.io.times import read_list
from pidsampler.onnx import model_hashes
from pidsampler.onnx.hub import model_folder
from pidsampler.onnx.manifest import read_manifest
from pidsampler.plugins import load_from_file
from pidsampler.study.file import read_study

BOM = b"\xef\xbb\xbf"
CONFIG = '{"_class_name": "FlowMatchEulerDiscreteScheduler"}'
STUDY = 'preset.model = "law"\nflows.law = {means = [0], stds = [1]}'

# What is read as text: file name, content, and what it comes to.
TEXTS = {
    "list.txt": ("0.9\n0.5\n0\n", lambda path: read_list(path).tolist()),
    "table.json": (get_scheduler("heun").table().to_json(), read_table),
    "config.json": (CONFIG, lambda path: str(from_diffusers(path, steps=4))),
    "study.toml": (STUDY, lambda path: read_study(path).flows),
    "pidsampler.json": ('{"name": "mine"}', lambda path: read_manifest(path.parent).name),
    "rows.csv": (",".join(COLUMNS) + "\n", check_columns),
}


@pytest.mark.parametrize("name", TEXTS)
def test_a_mark_before_a_text_is_no_part_of_it(tmp_path, name):
    text, read = TEXTS[name]
    path = tmp_path / name
    path.write_text(text)
    expected = read(path)
    path.write_bytes(BOM + text.encode())
    assert read(path) == expected


@pytest.mark.parametrize("name", [name for name in TEXTS if name != "rows.csv"])
def test_a_text_in_another_encoding_is_named(tmp_path, name):
    text, read = TEXTS[name]
    (tmp_path / name).write_text(text, encoding="utf-16")
    with pytest.raises(PidSamplerError, match="is a text in UTF-16: save it in UTF-8"):
        read(tmp_path / name)


READERS = {
    "a.png": pictures.read,
    "b.png": lambda path: Upscaler.load("gaussian", "cpu")(path),
    "latent.npy": latents.read,
    "latent.npz": latents.read,
    "z.safetensors": latents.read,
    "caption.npy": captions.read,
    "mine.py": lambda path: load_from_file(path, "thing", kind="measure"),
    "whole.png": whole.damage,
    **{name: read for name, (_, read) in TEXTS.items() if name != "rows.csv"},
}


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
@pytest.mark.parametrize("name", READERS)
def test_a_pipe_is_refused_and_not_waited_for(tmp_path, name):
    os.mkfifo(tmp_path / name)
    with pytest.raises(PidSamplerError, match=r"it is a pipe or a device|it is no file"):
        READERS[name](tmp_path / name)


@pytest.mark.skipif(not hasattr(socket, "AF_UNIX"), reason="this system has no such sockets")
def test_a_socket_is_refused_as_a_pipe_is(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the name of a socket is short
    with socket.socket(socket.AF_UNIX) as made:
        made.bind("a.png")
        with pytest.raises(PidSamplerError, match=r"cannot read a\.png: it is a pipe or a device, expected a file"):
            files.opened("a.png")


@pytest.mark.skipif(not Path("/dev/zero").exists(), reason="this system has no such device")
def test_a_device_without_end_is_refused(tmp_path):
    (tmp_path / "a.png").symlink_to("/dev/zero")
    with pytest.raises(PidSamplerError, match="it is a pipe or a device, expected a file"):
        pictures.read(tmp_path / "a.png")


def test_bytes_up_to_a_number(tmp_path):
    (tmp_path / "a").write_bytes(b"12345")
    assert files.read_bytes(tmp_path / "a", most=5) == b"12345"
    with pytest.raises(PidSamplerError, match="is larger than 4e-06 MB"):
        files.read_bytes(tmp_path / "a", most=4)
    for name, why in (("", "Is a directory"), ("none", "No such file"), ("a\0b", "null")):
        with pytest.raises(PidSamplerError, match=f"cannot read .*{why}"):
            files.read_bytes(tmp_path / name)


@pytest.mark.parametrize(
    ("names", "pattern", "found"),
    [
        (["[2024] trip/a.png", "[2024] trip/b.png"], "[2024] trip/*.png", ["[2024] trip/a.png", "[2024] trip/b.png"]),
        (["img[1].png", "img1.png"], "img[1].png", ["img[1].png"]),
        (["img1.png", "img2.png"], "img[1].png", ["img1.png"]),
        (["x[a]/y*/1.png", "x[a]/yes/1.png"], "x[a]/y*/*.png", ["x[a]/y*/1.png"]),
        (["a.png"], "?.jpg", []),
        (["a.png", "b/c.png"], "**/*.png", ["b/c.png"]),
    ],
)
def test_brackets_that_are_there_are_no_pattern(tmp_path, monkeypatch, names, pattern, found):
    monkeypatch.chdir(tmp_path)
    for name in names:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    assert files.matching(Path(pattern)) == [Path(name) for name in found]
    assert files.matching(tmp_path / pattern) == [tmp_path / name for name in found]


def test_no_home_is_said(monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", "/x")
    assert files.user_cache() == Path("/x/pidsampler")
    monkeypatch.setenv("XDG_CACHE_HOME", "")  # not set, as the specification has it
    assert files.user_cache() == Path.home() / ".cache" / "pidsampler"

    def none():
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.setattr(Path, "home", none)
    with pytest.raises(PidSamplerError, match="set HOME or XDG_CACHE_HOME"):
        model_folder("hf:owner/name")


def write(path, data, overwrite):
    atomic.place(path, lambda file: file.write(data), overwrite=overwrite)


@pytest.mark.skipif(os.name == "nt", reason="its permissions are others")
def test_what_is_replaced_keeps_its_permissions_and_its_link(tmp_path):
    real, link, dangling = tmp_path / "deep" / "real", tmp_path / "link", tmp_path / "dangling"
    real.parent.mkdir()
    real.write_bytes(b"old")
    real.chmod(0o640)
    link.symlink_to(real)
    write(link, b"new", overwrite=True)
    assert (link.is_symlink(), real.read_bytes(), stat.S_IMODE(real.stat().st_mode)) == (True, b"new", 0o640)
    assert [path.name for path in real.parent.iterdir()] == ["real"]
    with pytest.raises(PidSamplerError, match="exists already"):
        write(link, b"newer", overwrite=False)
    dangling.symlink_to(tmp_path / "later")
    write(dangling, b"first", overwrite=True)
    assert (dangling.is_symlink(), (tmp_path / "later").read_bytes()) == (True, b"first")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(PidSamplerError, match="pipe is a pipe or a device"):
        write(tmp_path / "pipe", b"", overwrite=True)


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="only root may give files away")
def test_a_file_that_is_replaced_keeps_its_owner(tmp_path):
    (path := tmp_path / "a.txt").write_bytes(b"old")
    os.chown(path, 12345, 54321)
    write(path, b"new", overwrite=True)
    assert (path.read_bytes(), path.stat().st_uid, path.stat().st_gid) == (b"new", 12345, 54321)


def test_an_output_is_no_input_by_any_name(tmp_path):
    one, two = tmp_path / "one", tmp_path / "two"
    one.touch()
    two.touch()
    os.link(one, tmp_path / "hard")
    (tmp_path / "soft").symlink_to(one)
    files.check_outputs([two, tmp_path / "new"], inputs=[one, tmp_path / "none"])
    for name in ("one", "hard", "soft", "../" + tmp_path.name + "/one"):
        with pytest.raises(PidSamplerError, match="which is never replaced: pass another output"):
            files.check_outputs([two, tmp_path / name], inputs=[one])


def test_search_and_table_replace_no_input_either(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save("a.png")
    Path("list.txt").write_text("0.9\n0.5\n0\n")
    before = Path("a.png").read_bytes()
    assert main(["search", "a.png", "-o", "a.png", "--overwrite", "--model", "gaussian"]) == 1
    assert main(["table", "heun", "--timesteps", "@list.txt", "--plot", "list.txt", "--overwrite"]) == 2
    assert capsys.readouterr().err.count("is an input, which is never replaced") == 2
    assert (Path("a.png").read_bytes(), Path("list.txt").read_text()) == (before, "0.9\n0.5\n0\n")


@pytest.mark.parametrize(
    "arguments",
    [
        ["upscale", "a.png", "-o", ""],
        ["upscale", "a.png", "--output="],
        ["upscale", "", "-o", "b.png"],
        ["upscale", "a.png", "-o", "b.png", "--model", ""],
        ["upscale", "a.png", "-o", "b.png", "--scheduler="],
        ["upscale", "a.png", "-o", "b.png", "--caption", ""],
        ["table", ""],
        ["study", "", "-o", "out"],
        ["bench", "-o", ""],
    ],
)
def test_an_empty_argument_is_an_error(tmp_path, monkeypatch, capsys, arguments):
    monkeypatch.chdir(tmp_path)
    Image.new("RGB", (4, 4)).save("a.png")
    with pytest.raises(SystemExit) as ended:
        main(arguments)
    assert ended.value.code == 2
    err = capsys.readouterr().err
    assert f": it is empty: is a variable not set? (see pidsampler {arguments[0]} --help)" in err
    assert os.listdir() == ["a.png"]


@pytest.mark.parametrize("call", [lambda: Upscaler.load(""), lambda: Upscaler.load("gaussian", "cpu")("")])
def test_an_empty_path_is_an_error(call):
    with pytest.raises(PidSamplerError, match="''"):
        call()


CLAIMED = """
import sys
from pathlib import Path
from pidsampler.io import atomic
release = atomic.claim(Path("a.png"))
print(release is not None, flush=True)
sys.stdin.read()
"""


@pytest.mark.skipif(os.name == "nt", reason="it has no such locks")
def test_a_claim_is_one_processes_and_ends_with_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    other = subprocess.Popen([sys.executable, "-c", CLAIMED], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "True\n"
    assert atomic.claim(Path("a.png")) is None
    other.kill()
    other.communicate()
    release = atomic.claim(Path("a.png"))
    assert len(os.listdir()) == 1
    atomic.claim(Path("b.png"))()
    release()
    release()  # once more does no harm
    assert os.listdir() == []
    assert atomic.claim(Path("none/a.png")) is not None  # that nothing can be written there is said elsewhere


PNG_PARTS = {
    "whole": (lambda data: data, None),
    "more behind its end": (lambda data: data + b"x", None),
    "empty": (lambda data: b"", "it is empty"),
    "another format": (lambda data: b"GIF89a" + data, None),
    "no end": (lambda data: data[:-12], "it ends early"),
    "half": (lambda data: data[: len(data) // 2], "it ends early"),
    "a hole": (lambda data: data[:60] + bytes(8) + data[68:], "the checksum of its part IDAT does not fit"),
}


@pytest.mark.parametrize("name", PNG_PARTS)
def test_damage_of_a_png(tmp_path, name):
    change, expected = PNG_PARTS[name]
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 20, 3), np.uint8)).save(path)
    path.write_bytes(change(path.read_bytes()))
    assert whole.damage(path) == expected


@pytest.mark.parametrize("form", ["JPEG", "WEBP", "TIFF"])
def test_damage_of_other_formats(tmp_path, form):
    path = tmp_path / "a.png"  # a name says nothing
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 40, 3), np.uint8)).save(path, form)
    data = path.read_bytes()
    assert whole.damage(path) is None
    for cut in (len(data) // 2, len(data) - 300):
        path.write_bytes(data[:cut])
        assert whole.damage(path) is not None


def test_a_png_is_damaged_wherever_it_is_cut(tmp_path):
    path = tmp_path / "a.png"
    Image.new("RGB", (3, 2)).save(path)
    data = path.read_bytes()
    for length in range(len(data)):
        path.write_bytes(data[:length])
        assert whole.damage(path) is not None


@pytest.mark.parametrize(
    "read",
    [
        *(pictures.read, latents.read, captions.read, read_list, read_table, read_study, check_columns),
        *(lambda path: from_diffusers(path, steps=4), lambda path: Upscaler.load(path, "cpu"), model_hashes),
        lambda path: check_target(path, True),
    ],
)
def test_a_name_that_is_too_long_is_said(read):
    with pytest.raises(PidSamplerError, match=r"File name too long|no model 'a|cannot read the model"):
        read(Path("a" * 5000))


def test_a_model_whose_graph_is_empty_has_hashes(tmp_path):
    (tmp_path / "pid_upscaler.onnx").touch()
    (tmp_path / "other").write_bytes(b"x")
    assert list(model_hashes(tmp_path)) == ["pid_upscaler.onnx"]
