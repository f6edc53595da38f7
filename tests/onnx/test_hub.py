"""Models from Hugging Face, with a stand-in for it."""

import shutil
import sys
import types

import numpy as np
import pytest

from pidsampler import PidSamplerError, Upscaler
from pidsampler.cli import main
from pidsampler.onnx import hub
from pidsampler.onnx.folders import BUNDLED_FOLDER

MAIN, OTHER = "0123456789" * 4, "ab" * 20


class Asked(list):
    """What was asked for, and the commits that branches are at."""

    def __init__(self):
        super().__init__()
        self.heads = {None: MAIN, "main": MAIN, "refs/pr/1": OTHER}


@pytest.fixture(name="asked")
def _asked(monkeypatch, tmp_path):
    """What the stand-in was asked for; it has one model, and an empty cache here."""
    asked = Asked()
    heads = asked.heads

    def snapshot_download(repository, *, revision, local_dir, allow_patterns):
        asked.append(repository if revision == MAIN else f"{repository}@{revision}")
        if repository != "someone/PiD.onnx-1":
            raise OSError("404:\n no such repository")
        assert "*.onnx" in allow_patterns
        shutil.copytree(BUNDLED_FOLDER / "gaussian", local_dir, dirs_exist_ok=True)

    def model_info(repository, *, revision=None):
        if repository == "someone/free":
            return types.SimpleNamespace(card_data=None, sha="main")
        if repository != "someone/PiD.onnx-1":
            raise OSError("404")
        return types.SimpleNamespace(card_data={"license": "other", "license_name": "nsclv1"}, sha=heads[revision])

    module = types.SimpleNamespace(snapshot_download=snapshot_download, model_info=model_info)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return asked


MODEL = "hf:someone/PiD.onnx-1"


def test_nothing_is_downloaded_before_its_licence_is_accepted(asked, tmp_path):
    message = f"{MODEL} is not on this machine; its license is other, nsclv1: pass accept_license=True to download it"
    for _ in range(2):
        with pytest.raises(PidSamplerError, match=message):
            Upscaler.load(MODEL, "cpu")
    assert asked == []
    up = Upscaler.load(MODEL, "cpu", accept_license=True)
    assert asked == ["someone/PiD.onnx-1"]
    assert up(np.zeros((4, 4, 3), np.uint8)).array.shape == (16, 16, 3)
    assert up.model.path == tmp_path / "cache" / "pidsampler" / "someone" / "PiD.onnx-1"
    Upscaler.load(MODEL, "cpu")  # from now on it is here
    assert asked == ["someone/PiD.onnx-1"]


def test_a_revision_is_a_commit_that_the_record_names(asked, tmp_path):
    picture = np.zeros((4, 4, 3), np.uint8)
    record = Upscaler.load(MODEL, "cpu", accept_license=True)(picture).record
    assert record["model"]["repository"] == "someone/PiD.onnx-1"
    assert record["model"]["commit"] == MAIN
    asked.heads[None] = "cd" * 20  # the branch goes on, and the model that is here stays
    assert Upscaler.load(MODEL, "cpu", accept_license=True)(picture).record["model"] == record["model"]
    assert asked == ["someone/PiD.onnx-1"] * 2
    up = Upscaler.load(f"{MODEL}@refs/pr/1", "cpu", accept_license=True)
    assert asked[-1] == f"someone/PiD.onnx-1@{OTHER}"
    assert up.model.path == tmp_path / "cache" / "pidsampler" / "someone" / "PiD.onnx-1@refs%2Fpr%2F1"
    assert up(picture).record["model"] == {**record["model"], "commit": OTHER}
    assert "commit" not in Upscaler.load("tiny", "cpu")(picture).record["model"]


def test_a_download_that_broke_off_is_no_model(asked, monkeypatch):
    module = sys.modules["huggingface_hub"]
    whole = module.snapshot_download

    def broken(repository, **options):
        whole(repository, **options)
        raise OSError("connection lost")

    monkeypatch.setattr(module, "snapshot_download", broken)
    with pytest.raises(PidSamplerError, match="connection lost"):
        Upscaler.load(MODEL, "cpu", accept_license=True)
    with pytest.raises(PidSamplerError, match="is not on this machine"):
        Upscaler.load(MODEL, "cpu")
    asked.heads[None] = OTHER
    monkeypatch.setattr(module, "snapshot_download", whole)
    up = Upscaler.load(MODEL, "cpu", accept_license=True)
    assert hub.hub_origin(up.model.path)["commit"] == MAIN  # what was begun is completed


def test_the_command(asked, tmp_path, capsys, monkeypatch, repository):
    monkeypatch.chdir(tmp_path)
    shutil.copy(repository / "examples" / "chameleon.jpg", "in.jpg")
    assert main(["upscale", "in.jpg", "-o", "out.png", "--model", MODEL]) == 1
    assert "its license is other, nsclv1" in capsys.readouterr().err
    assert main(["upscale", "in.jpg", "-o", "out.png", "--model", MODEL, "--accept-licence"]) == 0
    capsys.readouterr()
    assert main(["inspect", MODEL]) == 0
    assert MAIN in capsys.readouterr().out
    assert asked == ["someone/PiD.onnx-1"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("hf:", "'hf:' is no model of Hugging Face: pass hf:OWNER/NAME"),
        ("hf:../x", "'hf:../x' is no model"),
        ("hf:a/b/c", "'hf:a/b/c' is no model"),
        ("hf:a/b@", "'hf:a/b@' is no model"),
        ("hf:a/b@../c", "'hf:a/b@../c' is no model"),
        ("hf:someone/none", "someone/none cannot be had from Hugging Face: 404"),
        ("hf:someone/free", "its license is not stated"),
    ],
)
@pytest.mark.usefixtures("asked")
def test_what_cannot_be_had(model, message):
    with pytest.raises(PidSamplerError) as error:
        Upscaler.load(model, "cpu")
    assert message in str(error.value)
    assert "\n" not in str(error.value)
    if "not stated" not in message:
        with pytest.raises(PidSamplerError, match="Hugging Face"):
            Upscaler.load(model, "cpu", accept_license=True)


@pytest.mark.usefixtures("asked")
def test_without_the_extra(monkeypatch):
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    for accept in (False, True):
        with pytest.raises(PidSamplerError, match=r"huggingface_hub is not installed: pip install 'pidsampler\[hub\]'"):
            Upscaler.load(MODEL, "cpu", accept_license=accept)
    assert hub.PREFIX == "hf:"
