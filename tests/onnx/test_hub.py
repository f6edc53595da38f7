"""Models from Hugging Face, with a stand-in for it."""

import shutil
import sys
import types

import numpy as np
import pytest

from pidsampler import PidSamplerError, Upscaler
from pidsampler.cli import main
from pidsampler.onnx import hub
from pidsampler.onnx.model import _BUNDLED_FOLDER


@pytest.fixture(name="asked")
def _asked(monkeypatch, tmp_path):
    """What the stand-in was asked for; it has one model, and an empty cache here."""
    asked = []

    def snapshot_download(repository, local_dir, allow_patterns):
        asked.append(repository)
        if repository != "someone/PiD.onnx-1":
            raise OSError("404:\n no such repository")
        assert "*.onnx" in allow_patterns
        shutil.copytree(_BUNDLED_FOLDER / "gaussian", local_dir, dirs_exist_ok=True)

    def model_info(repository):
        if repository == "someone/free":
            return types.SimpleNamespace(card_data=None)
        if repository != "someone/PiD.onnx-1":
            raise OSError("404")
        return types.SimpleNamespace(card_data={"license": "other", "license_name": "nsclv1"})

    module = types.SimpleNamespace(snapshot_download=snapshot_download, model_info=model_info)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return asked


MODEL = "hf:someone/PiD.onnx-1"


def test_nothing_is_downloaded_before_its_licence_is_accepted(asked, tmp_path):
    message = f"{MODEL} is not on this machine; its licence is other, nsclv1: pass accept_license=True to download it"
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


def test_the_command(asked, tmp_path, capsys, monkeypatch, repository):
    monkeypatch.chdir(tmp_path)
    shutil.copy(repository / "examples" / "chameleon.jpg", "in.jpg")
    assert main(["upscale", "in.jpg", "-o", "out.png", "--model", MODEL]) == 1
    assert "its licence is other, nsclv1" in capsys.readouterr().err
    assert main(["upscale", "in.jpg", "-o", "out.png", "--model", MODEL, "--accept-licence"]) == 0
    assert main(["inspect", MODEL]) == 0
    assert asked == ["someone/PiD.onnx-1"]


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ("hf:", "'hf:' is no model of Hugging Face: pass hf:OWNER/NAME"),
        ("hf:../x", "'hf:../x' is no model"),
        ("hf:a/b/c", "'hf:a/b/c' is no model"),
        ("hf:someone/none", "someone/none cannot be had from Hugging Face: 404"),
        ("hf:someone/free", "its licence is not stated"),
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
