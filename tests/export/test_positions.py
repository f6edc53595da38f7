"""Pixel positions beyond a limit: scaled down in the graph, each side on its own, and stated by the folder."""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from paths import PARITY

from pidsampler import PidSamplerError, Tiling, Upscaler
from pidsampler.backends import get_backend
from pidsampler.cli import main
from pidsampler.export import reference
from pidsampler.export.architecture import Architecture, random_tensors
from pidsampler.export.folder import ExportPlan, write_folder
from pidsampler.export.layers import Form
from pidsampler.export.network import build_network
from pidsampler.export.recover import recovered
from pidsampler.export.reference import velocity
from pidsampler.export.verify import verify
from pidsampler.onnx import Model
from pidsampler.onnx.manifest import Manifest, read_manifest

sys.path.insert(0, str(PARITY))
from pid_cases import V1, V15

SEED, TIME, SIGMA = 3, 500.0, 0.25
TARGETS = ("ort-cpu", "tensorrt")  # of opset 23 and 20
SMALL = {"depth": 1, "pixel_depth": 1, "residuals": 1, "patch": 8, "scale": 2, "latent_factor": 4}
V1, V15 = replace(V1, **SMALL), replace(V15, **SMALL)


def limited(limit, architecture=V1):
    return replace(architecture, position_limit=limit)


def given(architecture, height, width):
    rng = np.random.default_rng(height)
    step = architecture.scale * architecture.latent_factor
    x = rng.standard_normal((1, 3, height, width), np.float32)
    return x, rng.standard_normal((1, architecture.latent_channels, height // step, width // step), np.float32)


def evaluated(architecture, form, x, latent, folder):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # more would wait for work at full speed
    options.log_severity_level = 4
    build_network(architecture, random_tensors(architecture, SEED), form=form).save(folder / "n.onnx")
    feeds = {"x": x, "t": np.array([TIME], np.float32), "degrade_sigma": np.array([SIGMA], np.float32)}
    session = onnxruntime.InferenceSession(folder / "n.onnx", options, ["CPUExecutionProvider"])
    (out,) = session.run(None, {**feeds, "lq_latent": latent})
    return out


def expected(architecture, x, latent):
    caption = np.zeros((1, architecture.text_length, architecture.text_width))
    return velocity(
        architecture,
        random_tensors(architecture, SEED),
        x=x,
        t=TIME,
        latent=latent,
        sigma=SIGMA,
        caption=caption,
    )


def error(found, wanted):
    return np.linalg.norm(found - wanted) / np.linalg.norm(wanted)


def scaled_table(limit):
    """As nv-tlabs/PiD's get_1d_sincos_pos_embed_from_grid, over positions as SceneWorks' 8f4b5921 scales them."""

    def table(positions, width):
        n, half = len(positions), width // 2
        scale = limit / n if n > limit else 1.0
        omega = 1.0 / 10000 ** (np.arange(half) / half)
        out = (np.arange(n) * scale)[:, None] * omega[None]
        return np.concatenate([np.sin(out), np.cos(out)], axis=1)

    return table


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("size", [None, (16, 48), (48, 16)])
def test_each_side_beyond_the_limit_is_scaled(target, size, tmp_path, monkeypatch):
    limit = 25
    for height, width in [size] if size else [(16, 48), (48, 16), (32, 40)]:
        x, latent = given(V1, height, width)
        found = evaluated(limited(limit), Form(target=target, size=size, split=False), x, latent, tmp_path)
        numpys, plain = expected(limited(limit), x, latent), expected(V1, x, latent)
        with monkeypatch.context() as patch:
            patch.setattr(reference, "_waves", scaled_table(limit))
            wanted = expected(V1, x, latent)
        assert error(numpys, wanted) < 1e-12
        assert error(found, wanted) < 3e-6
        assert error(plain, wanted) > 1e-2


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("size", [None, (32, 48)])
def test_up_to_the_limit_the_graph_is_the_plain_one(target, size, tmp_path):
    x, latent = given(V1, 32, 48)
    form = Form(target=target, size=size, split=False)
    plain, same = (evaluated(a, form, x, latent, tmp_path) for a in (V1, limited(48)))
    assert np.array_equal(plain, same)


def test_no_digits_are_lost_at_full_length(tmp_path):
    narrow = replace(limited(3840), pixel_hidden=4)
    x, latent = given(narrow, 5120, 8)
    found = evaluated(narrow, Form(split=False), x, latent, tmp_path)
    assert error(found, expected(narrow, x, latent)) < 3e-6


@pytest.mark.parametrize("target", TARGETS)
def test_the_graph_is_valid_for_every_target(target, tmp_path):
    build_network(limited(40), random_tensors(V1, SEED), form=Form(target=target)).save(tmp_path / "g.onnx")
    onnx.checker.check_model(tmp_path / "g.onnx", full_check=True)
    model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "g.onnx"), strict_mode=True, data_prop=True)
    kinds = {value.type.tensor_type.elem_type for value in model.graph.value_info}
    assert onnx.TensorProto.DOUBLE not in kinds


def folder(architecture, name):
    plan = ExportPlan(
        architecture=architecture,
        tensors=random_tensors(architecture, SEED),
        form=Form(),
        manifest=Manifest(vae_factor=architecture.latent_factor, scale=architecture.scale),
    )
    write_folder(plan, Path(name))
    return Path(name)


def test_the_folder_and_the_record_say_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    limited_, plain = folder(limited(12, V15), "limited"), folder(V15, "plain")
    assert json.loads((limited_ / "pidsampler.json").read_text())["position_limit"] == 12
    assert "position_limit" not in (plain / "pidsampler.json").read_text()
    assert recovered(limited_).architecture == limited(12, V15)
    assert verify(limited_) < 3e-6  # of a picture of 16x24: split, and beyond the limit
    latent = np.random.default_rng(0).standard_normal((1, V15.latent_channels, 2, 2), np.float32)
    records = [Upscaler.load(name, "cpu")(latent).record for name in (limited_, plain)]
    assert [record["model"].get("position_limit") for record in records] == [12, None]
    (plain / "pidsampler.json").write_text('{"vae_factor": 4, "position_limit": 0}')
    with pytest.raises(PidSamplerError, match="position_limit is 0, expected a whole number in 1"):
        read_manifest(plain)


def test_tiles_up_to_the_limit_never_meet_it(tmp_path, monkeypatch):
    """Positions of a tile begin at 0: nothing of a larger picture is scaled."""
    monkeypatch.chdir(tmp_path)
    latent = np.random.default_rng(0).standard_normal((1, V15.latent_channels, 4, 4), np.float32)
    names = folder(limited(16, V15), "limited"), folder(V15, "plain")

    def pictures(tiling):
        return [Upscaler.load(name, "cpu", tiling=tiling)(latent).array for name in names]

    assert np.array_equal(*pictures(Tiling(16, overlap=8)))
    assert not np.array_equal(*pictures(Tiling()))


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command = ["export", "--backbone", "dinov2", "--type", "2k", "--random-weights", "1", "--reduced", "-o", "m"]
    assert main([*command, "--position-limit", "0"]) in (1, 2)
    assert "--position-limit 0 must be a whole number in 1..1048576" in capsys.readouterr().err
    assert main([*command, "--position-limit", "64"]) == 0
    assert Model.load("m", get_backend("numpy")).contract.position_limit == 64
    capsys.readouterr()
    assert main(["inspect", "m"]) == 0
    shown = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["position", "limit", "64"] in shown
    assert ["fixed", "size", "any"] in shown


@pytest.mark.parametrize("wrong", [0, -1, 1.5, "x", True, 10**22])
def test_a_limit_is_a_whole_number(wrong):
    with pytest.raises(PidSamplerError, match=r"position_limit=.* in 1\.\.1048576"):
        Architecture(position_limit=wrong)
