"""The exported network against PyTorch's stored numbers and against numpy, in every form; and the command."""

import json
import math
import os
import shutil
import subprocess
import sys
import types
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from hypothesis import given as drawn
from hypothesis import settings
from hypothesis import strategies as st
from paths import PARITY
from safetensors.numpy import save_file

from pidsampler import PidSamplerError, Upscaler
from pidsampler.backends import get_backend
from pidsampler.cli import main
from pidsampler.export import build
from pidsampler.export.architecture import Architecture, random_tensors
from pidsampler.export.build import FLOAT, Graph, data_type
from pidsampler.export.folder import ExportPlan, write_folder
from pidsampler.export.layers import TARGETS, Form
from pidsampler.export.network import build_network
from pidsampler.export.projection import build_projection
from pidsampler.export.published import ALIASES, PUBLISHED, get_published
from pidsampler.export.recover import Network
from pidsampler.export.reference import velocity
from pidsampler.export.tensors import Stored, check_tensors
from pidsampler.export.vae import ENCODERS, random_encoder
from pidsampler.export.verify import verify
from pidsampler.export.waves import sine
from pidsampler.onnx import Model
from pidsampler.onnx.manifest import Manifest

sys.path.insert(0, str(PARITY))
from pid_cases import CASES, V1, V15, given

SEED = 7


@pytest.fixture(name="stored", scope="module")
def _stored():
    with np.load(PARITY / "pid_network.npz") as found:
        return dict(found)


def error(found, expected):
    return np.linalg.norm(found - expected) / np.linalg.norm(expected)


def evaluated(folder, architecture, form, x, t, latent, sigma):
    """Write the graphs and run them."""
    import onnxruntime

    tensors, batch = random_tensors(architecture, SEED), len(x)
    feeds = {"x": x, "t": np.full(batch, t, np.float32), "degrade_sigma": np.full(batch, sigma, np.float32)}
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # more would wait for work at full speed
    options.log_severity_level = 4

    def session(name, graph):
        graph.save(folder / name)
        return onnxruntime.InferenceSession(folder / name, options, ["CPUExecutionProvider"])

    if form.split:
        projection = session("lq_projection.onnx", build_projection(architecture, tensors, form=form))
        assert [out.name for out in projection.get_outputs()] == architecture.features
        feeds |= zip(architecture.features, projection.run(None, {"lq_latent": latent}), strict=True)
    else:
        feeds["lq_latent"] = latent
    (out,) = session("pid_upscaler.onnx", build_network(architecture, tensors, form=form)).run(None, feeds)
    return out


@pytest.mark.parametrize("name", CASES)
def test_numpys_evaluation_is_pytorchs(name, stored):
    x, t, latent, sigma, caption = given(name)
    found = velocity(
        CASES[name][0], random_tensors(CASES[name][0], SEED), x=x, t=t, latent=latent, sigma=sigma, caption=caption
    )
    assert error(found.reshape(-1)[::7], stored[name]) < 3e-6


SOME = ("v1", "v1.5 of two pictures", "folded")  # not all of all, for the time that it takes
EACH = [*((name, "ort-cpu") for name in CASES), *((name, t) for name in SOME for t in TARGETS if t != "ort-cpu")]


@pytest.mark.parametrize(("name", "target"), EACH)
def test_the_graph_is_pytorchs(name, target, stored, tmp_path):
    architecture, batch, rows, columns = CASES[name]
    x, t, latent, sigma, caption = given(name)
    size = (rows * architecture.patch, columns * architecture.patch)
    forms = [(None, True), (size, False)]
    if target != "ort-cpu":  # both of one network, and of the others one each
        forms = {"v1": forms, "folded": forms[1:]}.get(name, forms[:1])
    for fixed, split in forms:
        form = Form(target=target, size=fixed, batch=batch, split=split, caption=caption[0])
        found = evaluated(tmp_path, architecture, form, x, t, latent, sigma)
        assert error(found.reshape(-1)[::7], stored[name]) < 3e-6


@settings(max_examples=6)
@drawn(st.integers(1, 4), st.integers(1, 4), st.sampled_from([V1, V15]), st.floats(0, 1000), st.floats(0, 0.8))
def test_any_size_time_and_noise_level(tmp_path_factory, rows, columns, architecture, t, sigma):
    step = architecture.scale * architecture.latent_factor
    rng = np.random.default_rng(rows * 4 + columns)
    x = rng.standard_normal((1, 3, rows * step, columns * step), np.float32)
    latent = rng.standard_normal((1, architecture.latent_channels, rows, columns), np.float32)
    t, sigma = float(np.float32(t)), float(np.float32(sigma))
    found = evaluated(tmp_path_factory.mktemp("m"), architecture, Form(), x, t, latent, sigma)
    caption = np.zeros((1, architecture.text_length, architecture.text_width))
    expected = velocity(
        architecture, random_tensors(architecture, SEED), x=x, t=t, latent=latent, sigma=sigma, caption=caption
    )
    assert error(found, expected) < 3e-6


def test_every_tensor_has_its_effect():
    """Else a test could not tell that one is left out."""
    small = replace(V15, depth=2, interval=1, pixel_depth=1, residuals=1, latent_factor=4)
    _, t, _, sigma, caption = given("v1.5")
    rng = np.random.default_rng(0)
    x, latent = rng.standard_normal((1, 3, 16, 32)), rng.standard_normal((1, V15.latent_channels, 1, 2))
    tensors = random_tensors(small, SEED)
    before = velocity(small, tensors, x=x, t=t, latent=latent, sigma=sigma, caption=caption)
    last = f"patch_blocks.{small.depth - 1}"
    idle = {f"{last}.{name}" for name in ("norm_y2.weight", "attn.proj_y.weight", "attn.proj_y.bias")}
    idle |= {f"{last}.mlp_y.w{k}.weight" for k in (1, 2, 3)} | {f"{last}.attn.q_norm_y.weight"}
    for name, tensor in tensors.items():
        changed = {**tensors, name: Stored.of(tensor.load() * np.float32(1.5))}
        same = np.array_equal(velocity(small, changed, x=x, t=t, latent=latent, sigma=sigma, caption=caption), before)
        assert same == (name in idle), name


@pytest.mark.parametrize("target", ["ort-cpu", "tensorrt"])
def test_half_precision_stays_near(target, tmp_path):
    x, t, latent, sigma, caption = given("v1.5")
    expected = velocity(V15, random_tensors(V15, SEED), x=x, t=t, latent=latent, sigma=sigma, caption=caption)
    found = evaluated(tmp_path, V15, Form(target=target, dtype="float16", caption=caption[0]), x, t, latent, sigma)
    assert found.dtype == np.float32
    assert 1e-5 < error(found, expected) < 5e-3


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("dtype", ["float32", "float16", "bfloat16"])
def test_no_operator_that_some_runtime_lacks(target, dtype, tmp_path):
    form = Form(target=target, dtype=dtype)
    tensors = random_tensors(V15, SEED)
    for graph in (build_network(V15, tensors, form=form), build_projection(V15, tensors, form=form)):
        graph.save(tmp_path / "g.onnx")
        onnx.checker.check_model(tmp_path / "g.onnx", full_check=True)
        model = onnx.shape_inference.infer_shapes(onnx.load(tmp_path / "g.onnx"), strict_mode=True, data_prop=True)
        values = [*model.graph.value_info, *model.graph.input, *model.graph.output]
        kinds = {value.type.tensor_type.elem_type for value in values} | {w.data_type for w in model.graph.initializer}
        assert onnx.TensorProto.DOUBLE not in kinds
        ours = {"float32": "FLOAT", "float16": "FLOAT16", "bfloat16": "BFLOAT16"}[dtype]
        assert onnx.TensorProto.DataType.Value(ours) in kinds
        operators = {(node.domain, node.op_type) for node in model.graph.node}
        assert ("", "Col2Im") not in operators
        assert {domain for domain, _ in operators} <= ({"", "com.microsoft"} if target.startswith("ort") else {""})
        (opset,) = (one.version for one in model.opset_import if one.domain == "")
        assert opset == (20 if target == "tensorrt" else 23)


def operators(form, architecture=V15):
    graph = build_network(architecture, random_tensors(architecture, SEED), form=form).model().graph
    return graph, {node.op_type for node in graph}


@pytest.mark.parametrize("size", [None, (64, 96)])
@pytest.mark.parametrize("target", [target for target in TARGETS if target != "tensorrt"])
def test_no_operator_without_a_cuda_kernel_in_onnx_runtime_1_26(target, size):
    """Those of opset 22 have one from 1.27 on, and until then sat on the CPU."""
    _, found = operators(Form(target=target, size=size), replace(V1, position_limit=64))
    assert not found & {"Sin", "Cos", "Round"}


def test_sine_and_cosine_by_arithmetic(tmp_path):
    import onnxruntime

    g = Graph("waves", 23)
    angles = g.input("angles", FLOAT, shape=("n",))
    for quarters, name in enumerate(("sine", "cosine")):
        g.output(name, sine(g, angles, quarters=quarters), dtype=FLOAT, shape=("n",))
    g.save(tmp_path / "g.onnx")
    turns = np.arange(-636, 637) * (np.pi / 2)  # where one of both is 0, and where the reduction jumps
    given = np.concatenate([np.linspace(-1000, 1000, 200_001), turns, np.nextafter(turns.astype(np.float32), 0)])
    given = given.astype(np.float32)
    found = onnxruntime.InferenceSession(tmp_path / "g.onnx", providers=["CPUExecutionProvider"]).run(
        None, {"angles": given}
    )
    for values, exact in zip(found, (np.sin(given.astype(np.float64)), np.cos(given.astype(np.float64))), strict=True):
        assert np.abs(values - exact).max() < 3e-7


ATTENTION = {
    "ort-cuda": "Attention",
    "ort-cuda-sm90": "MultiHeadAttention",
    "ort-cpu": "MultiHeadAttention",
    "onnx": "Attention",
    "tensorrt": "Softmax",
}


@pytest.mark.parametrize("target", TARGETS)
def test_attention_and_rotary_embedding_of_a_target(target):
    _, found = operators(Form(target=target))
    assert found & set(ATTENTION.values()) == {ATTENTION[target]}
    assert ("RotaryEmbedding" in found) == (target != "tensorrt")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_result_is_written_where_it_is_bound(dtype):
    """The result of a Reshape would be copied there."""
    graph, _ = operators(Form(dtype=dtype))
    (out,) = graph.outputs
    assert out.producer().inputs[0].producer().op_type == ("Add" if dtype == "float32" else "Cast")


@pytest.mark.parametrize("kept", [False, True])
def test_a_float32_residual(kept):
    """It gets what each block and each injection adds, cast from bfloat16, and the time before the pixels' blocks."""
    graph, _ = operators(Form(target="ort-cuda", dtype="bfloat16", float32_residual=kept), V1)

    def is_cast(value):
        made = value.producer()
        return made is not None and made.op_type == "Cast" and made.attributes["to"].as_int() == data_type(FLOAT)

    sums = [node for node in graph if node.op_type == "Add" and any(map(is_cast, node.inputs))]
    both_streams = 2 * V1.depth - 1  # nothing sees the text after the last block
    assert len(sums) == kept * (both_streams + len(V1.injections) + 1)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
def test_a_float32_residual_is_of_bfloat16(dtype):
    with pytest.raises(PidSamplerError, match=f"is for bfloat16, and in {dtype} the sums are float32 already"):
        operators(Form(dtype=dtype, float32_residual=True))


@pytest.mark.parametrize("architecture", [V1, V15])
def test_the_split_saves_all_projections_but_one(architecture, load_script):
    count = load_script("bench/multiplications.py")
    step, projection = count.of_model(architecture, 2 * architecture.scale * architecture.latent_factor)
    whole, _ = count.of_model(architecture, 2 * architecture.scale * architecture.latent_factor, split=False)
    assert whole == step + projection
    assert 4 * whole - (4 * step + projection) == 3 * projection > 0


def test_multiplications_are_counted(load_script, capsys):
    load_script("bench/multiplications.py").main(["1024"])
    assert "sdxl 2kto4k 1024x1024: 3.2e12 a step, the projection 0.11e12 (3.3%" in capsys.readouterr().out


def test_what_was_published():
    assert len(PUBLISHED) == 17
    for (backbone, kind), one in PUBLISHED.items():
        assert len(one.architecture.shapes()) == (461 if "v1pt5" in kind else 456)
        assert 1.36e9 < sum(map(math.prod, one.architecture.shapes().values())) < 1.41e9
        if one.encoder is not None:
            assert ENCODERS[one.encoder].channels == one.architecture.latent_channels
            assert ENCODERS[one.encoder].factor == one.architecture.latent_factor
        assert backbone in one.name
    assert get_published("sdxl", "2kto4k").name == "PiD_res2kto4k_sr4x_official_sdxl_distill_4step"
    assert get_published("siglip", "2k").name == "PiD_res2k_sr8x_official_siglip_distill_4step"
    assert get_published("flux", "2kto4k_v1pt5").name == "PiD_v1pt5_res2kto4k_sr4x_official_flux_distill_4step"
    teacher = get_published("flux2", "2kto4k_v1pt5_undistilled")
    assert teacher.name == "PiD_v1pt5_res2kto4k_sr4x_official_flux2_undistilled"
    for alias, backbone in ALIASES.items():
        kind = next(kind for name, kind in PUBLISHED if name == backbone)
        assert get_published(alias, kind) is get_published(backbone, kind)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"heads": 5}, "1536 is no multiple of 4 times 5 heads"),
        (
            {"pixel_hidden": 6, "projection": 30},
            "pixel_hidden=6 is no multiple of 4; projection=30 is no multiple of 4",
        ),
        ({"unpatchify": 3}, "latent_channels=16 is no multiple of unpatchify=3 squared"),
        ({"latent_factor": 6}, "a token has 3/2 latent pixels"),
        ({"rope": "other"}, "rope='other' is neither 'plain' nor 'ntk'"),
    ],
)
def test_sizes_that_cannot_be(options, message):
    with pytest.raises(PidSamplerError, match="the sizes are of no PiD network") as found:
        Architecture(**options)
    assert message in str(found.value)


def test_all_that_is_wrong_with_a_checkpoint_is_said_at_once():
    shape = (2, 3)
    found = {f"extra.{k}": Stored.of(np.zeros(shape)) for k in range(14)} | {"wrong": Stored.of(np.zeros(shape))}
    with pytest.raises(PidSamplerError) as error:
        check_tensors(found, {"wrong": (3, 2), "lost": (4,)}, where="F as sdxl")
    assert str(error.value).startswith("F as sdxl: of 2 tensors expected, 1 missing (lost [4]); 14 unexpected (extra.0")
    assert "extra.11 [2, 3] and 2 more" in str(error.value)
    assert str(error.value).endswith("1 of another shape (wrong [2, 3] instead of [3, 2])")


# The command.


@pytest.fixture(name="run")
def _run(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def run(*arguments, backbone="sdxl", kind="2kto4k"):
        try:
            code = main(["export", "--backbone", backbone, "--type", kind, *map(str, arguments)])
        except SystemExit as end:
            code = end.code
        out, err = capsys.readouterr()
        return code, out, err

    return run


RANDOM = ("--random-weights", 3, "--reduced")


@pytest.mark.parametrize(("backbone", "kind"), [("sdxl", "2kto4k"), ("flux2", "2kto4k_v1pt5"), ("zimage", "2k")])
def test_a_folder_of_random_weights_enlarges_a_picture(run, backbone, kind):
    code, out, err = run(*RANDOM, "-o", "m", "--verify", backbone=backbone, kind=kind)
    assert (code, err) == (0, "")
    assert "license: none: random weights" in out
    assert "off its evaluation in float64" in out
    contract = Model.load("m", get_backend("numpy")).contract
    published = get_published(backbone, kind)
    assert contract.name == f"random reduced {published.name}"
    assert contract.noise_frame == ("vp" if backbone == "sdxl" else "flow")
    assert contract.drifts == (backbone == "sdxl")
    assert contract.latent_channels == published.architecture.latent_channels
    assert contract.timesteps == (0.999, 0.866, 0.634, 0.342, 0.0)
    result = Upscaler.load("m", "cpu")(np.zeros((5, 9, 3), np.uint8))
    assert result.array.shape == (20, 36, 3)


def test_bfloat16_with_a_float32_residual(run):
    code, out, err = run(*RANDOM, "-o", "m", "--target", "ort-cuda", "--float32-residual", "--verify")
    assert (code, err) == (0, "")
    assert "off its evaluation in float64" in out
    code, _, err = run(*RANDOM, "-o", "n", "--float32-residual")
    assert code == 1
    assert "--float32-residual is for bfloat16, and in float32 the sums" in err
    assert "pass --dtype bfloat16 with it" in err


@pytest.fixture(name="exported", scope="module")
def _exported(tmp_path_factory):
    """What RANDOM gives, made once."""
    folder = tmp_path_factory.mktemp("exported") / "m"
    assert main(["export", "--backbone", "sdxl", "--type", "2kto4k", *map(str, RANDOM), "-o", str(folder)]) == 0
    return folder


def test_whole_and_split_folders_give_the_same_picture(run, exported):
    shutil.copytree(exported, "split")
    run(*RANDOM, "-o", "whole", "--whole")
    assert not Path("whole/lq_projection.onnx").exists()
    picture = np.random.default_rng(0).integers(0, 256, (16, 24, 3), np.uint8)
    pictures = [Upscaler.load(name, "cpu")(picture, seed=3).array for name in ("split", "whole")]
    assert np.array_equal(*pictures)


def test_a_fixed_size(run):
    assert run(*RANDOM, "-o", "m", "--size", "96x64")[0] == 0
    model = Model.load("m", get_backend("numpy"))
    assert model.contract.fixed_size == (16, 24)
    assert [tensor.shape for tensor in model.network.inputs if tensor.name == "x"] == [(1, 3, 64, 96)]
    with pytest.raises(
        PidSamplerError, match="m has a fixed size: numpy is compared with exports of dynamic size alone"
    ):
        verify(Path("m"))


def test_without_an_encoder_it_takes_latents(run):
    assert run(*RANDOM, "-o", "m", backbone="dinov2", kind="2k")[0] == 0
    assert not Path("m/vae_encoder.onnx").exists()
    up = Upscaler.load("m", "cpu")
    assert up(np.zeros((768, 2, 3), np.float32)).array.shape == (128, 192, 3)
    with pytest.raises(PidSamplerError, match=r"m has no vae_encoder\.onnx: it takes latents, not pictures"):
        up(np.zeros((8, 8, 3), np.uint8))
    manifest = json.loads(Path("m/pidsampler.json").read_text())
    del manifest["vae_factor"]
    Path("m/pidsampler.json").write_text(json.dumps(manifest))
    with pytest.raises(PidSamplerError, match=r"m has no vae_encoder\.onnx"):
        Model.load("m", get_backend("numpy"))


def checkpoint(path, prefix="net.", **changes):
    """A reduced SDXL student as a file."""
    architecture = get_published("sdxl", "2kto4k").architecture.reduced()
    tensors = {name: stored.load() for name, stored in random_tensors(architecture, SEED).items()}
    save_file({f"{prefix}{name}": changes.get(name, array) for name, array in tensors.items()}, path)


@pytest.fixture(name="small")
def _small(monkeypatch):
    """The published networks and encoders at reduced size, so that a test can have a checkpoint of one."""
    from pidsampler.export import published, vae

    reduced = {key: replace(one, architecture=one.architecture.reduced()) for key, one in published.PUBLISHED.items()}
    monkeypatch.setattr(published, "PUBLISHED", reduced)
    monkeypatch.setattr(vae, "ENCODERS", {name: one.reduced() for name, one in vae.ENCODERS.items()})


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize("prefix", ["net.", ""])
def test_a_checkpoint_and_its_encoder(run, prefix):
    Path("c").mkdir()
    path = "c" if prefix else "c/net.safetensors"
    checkpoint("c/net.safetensors", prefix)
    encoder = ENCODERS["sdxl"].reduced()
    save_file({name: one.load() for name, one in random_encoder(encoder, 1).items()}, "sdxl_vae.safetensors")
    code, out, err = run("--checkpoint", path, "--vae", "sdxl_vae.safetensors", "-o", "m", "--verify")
    assert (code, err) == (0, "pidsampler: c: net.safetensors is taken of this folder\n" * (path == "c"))
    assert "license: NVIDIA Source Code License v1 (non-commercial)" in out
    assert Upscaler.load("m", "cpu")(np.zeros((8, 8, 3), np.uint8)).array.shape == (32, 32, 3)


@pytest.mark.usefixtures("small")
def test_from_the_hub(run, monkeypatch, tmp_path):
    asked = []

    commit = "0123456789" * 4

    def download(repository, name, *, revision):
        asked.append((repository, name))
        assert revision == commit
        if name.endswith("sdxl_vae.safetensors"):
            save_file(
                {n: one.load() for n, one in random_encoder(ENCODERS["sdxl"].reduced(), 1).items()}, "v.safetensors"
            )
            return str(tmp_path / "v.safetensors")
        if "sd3" in name:
            raise OSError("no\nnetwork")
        checkpoint(tmp_path / "c.safetensors")
        return str(tmp_path / "c.safetensors")

    def info(repository, *, revision):
        return types.SimpleNamespace(sha=commit)

    module = types.SimpleNamespace(hf_hub_download=download, model_info=info)
    monkeypatch.setitem(sys.modules, "huggingface_hub", module)
    code, _, err = run("--from-hub", "-o", "m")
    assert (code, asked) == (1, [])
    assert "nvidia/PiD has the license: NVIDIA" in err
    assert "pass --accept-license if you accept it" in err
    code, _, err = run("--from-hub", "--accept-licence", "-o", "m")
    assert (code, err) == (0, "")
    name = "PiD_res2kto4k_sr4x_official_sdxl_distill_4step"
    assert asked == [
        ("nvidia/PiD", f"checkpoints/{name}/model_ema_bf16.pth"),
        ("nvidia/PiD", "checkpoints/sdxl_vae.safetensors"),
    ]
    made = Upscaler.load("m", "cpu")(np.zeros((8, 8, 3), np.uint8))
    assert made.record["model"]["origin"] == f"nvidia/PiD@{commit}"
    code, _, err = run("--from-hub", "--accept-licence", "-o", "n", backbone="sd3")
    assert (code, err.count("\n")) == (1, 1)
    assert "cannot be had from Hugging Face: no network" in err
    monkeypatch.setitem(sys.modules, "huggingface_hub", None)
    assert "pip install 'pidsampler[hub]'" in run("--from-hub", "--accept-licence", "-o", "n")[2]


def captions(path, shape):
    np.save(path, np.random.default_rng(0).standard_normal(shape).astype(np.float32))


BAD = {
    "backbone": (["--random-weights", 1], {"backbone": "sdx"}, "unknown backbone 'sdx': did you mean 'sdxl' or 'sd3'?"),
    "type": (["--random-weights", 1], {"kind": "4k"}, "unknown type '4k'"),
    "unpublished": (["--random-weights", 1], {"kind": "2k"}, "sdxl was not published as 2k: pass one of 2kto4k"),
    "target": ([*RANDOM, "--target", "openvino"], {}, "unknown target 'openvino'"),
    "dtype": ([*RANDOM, "--dtype", "int8"], {}, "unknown dtype 'int8'"),
    "a seed of 65 bits": (["--random-weights", 1 << 64], {}, "--random-weights 18446744073709551616 must be a"),
    "a size of 5,000 digits": ([*RANDOM, "--size", "9" * 5000 + "x1"], {}, "... is not WIDTHxHEIGHT"),
    "size": ([*RANDOM, "--size", "96"], {}, "--size '96' is not WIDTHxHEIGHT"),
    "odd size": ([*RANDOM, "--size", "96x65"], {}, "the size 96x65 is no multiple of 32 pixels"),
    "reduced": (["--checkpoint", "c.safetensors", "--reduced"], {}, "--reduced makes a network of random weights"),
    "no source": ([], {}, "one of the arguments --checkpoint --random-weights --from-hub is required"),
    "no file": (["--checkpoint", "none.pth"], {}, "none.pth"),
    "another network": (["--checkpoint", "other.safetensors"], {}, "no PiD network among 1 tensors, whose names"),
    "no VAE": ([*RANDOM, "--vae", "v"], {"backbone": "dinov2", "kind": "2k"}, "dinov2's encoder is no convolutional"),
    "no folder": ([*RANDOM, "-o", "no/m"], {}, "cannot write no/m: there is no folder no"),
    "a file": ([*RANDOM, "-o", "other.safetensors"], {}, "other.safetensors is a file, expected a new folder's name"),
    "something else": ([*RANDOM, "-o", "mine", "--overwrite"], {}, "mine holds 'diary.txt', which is not a model's"),
    "no caption": ([*RANDOM, "--caption", "none.npy"], {}, "cannot read none.npy: No such file"),
    "a small caption": ([*RANDOM, "--caption", "small.npy"], {}, "(4, 5), but the network takes one of (300, 2304)"),
    "a flat caption": ([*RANDOM, "--caption", "flat.npy"], {}, "the caption is float32 (4,), expected floats"),
    "a fixed size to verify": ([*RANDOM, "--size", "96x64", "--verify"], {}, "of dynamic size alone: leave the size"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_bad_input_is_one_line_and_leaves_no_folder(run, name):
    options, where, message = BAD[name]
    Path("mine").mkdir()
    Path("mine/diary.txt").write_text("dear")
    save_file({"x": np.zeros(3, np.float32)}, "other.safetensors")
    captions("small.npy", (4, 5))
    captions("flat.npy", (4,))
    before = sorted(Path().rglob("*"))
    code, _, err = run(*options, *([] if "-o" in options else ["-o", "m"]), **where)
    assert code in (1, 2)
    assert err.startswith("pidsampler: error: ")
    assert err.count("\n") == 1
    assert message in err
    assert sorted(Path().rglob("*")) == before


def test_a_caption_changes_the_picture(run, exported):
    captions("c.npy", (1, 300, 2304))
    shutil.copytree(exported, "plain")
    assert run(*RANDOM, "-o", "told", "--caption", "c.npy", "--verify")[0] == 0
    picture = np.full((8, 8, 3), 100, np.uint8)
    assert not np.array_equal(*(Upscaler.load(name, "cpu")(picture).array for name in ("plain", "told")))


def test_nothing_half_written_stays(run, monkeypatch):
    from pidsampler.export import folder

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    Path(".pidsampler-0.folder").mkdir()  # of an export that was killed, with its lock
    Path(".pidsampler-0.folder/pid_upscaler.onnx.data").write_bytes(bytes(9))
    Path(".pidsampler-0.tmp").touch()
    os.utime(".pidsampler-0.tmp", (0, 0))
    run(*RANDOM, "-o", "m")
    before = {path: path.read_bytes() for path in Path("m").iterdir()}
    assert "m holds a model already: pass --overwrite" in run(*RANDOM, "-o", "m")[2]
    monkeypatch.setattr(folder, "build_network", fail)
    code, _, err = run(*RANDOM, "-o", "m", "--overwrite")
    assert (code, err) == (1, "pidsampler: error: cannot write m: No space left on device\n")
    assert {path: path.read_bytes() for path in Path("m").iterdir()} == before
    assert list(Path().iterdir()) == [Path("m")]
    monkeypatch.undo()


def test_a_model_that_is_replaced_is_never_away_from_the_disk(run, exported, monkeypatch):
    shutil.copytree(exported, "m")
    before = {path.name: path.read_bytes() for path in Path("m").iterdir()}
    rename, moved = Path.rename, []

    def killed(path, target):
        moved.append(path)
        if len(moved) == 2:  # the new folder, after the old one
            raise KeyboardInterrupt
        return rename(path, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", killed)
        assert run(*RANDOM, "-o", "m", "--overwrite")[0] == 130
    assert {path.name: path.read_bytes() for path in Path("m").iterdir()} == before
    assert list(Path().iterdir()) == [Path("m")]


def test_a_model_that_a_killed_export_put_aside_comes_back(run, exported):
    shutil.copytree(exported, "m")
    before = {path.name: path.read_bytes() for path in Path("m").iterdir()}
    Path(".pidsampler-0.folder").mkdir()  # the new one, and the old one where it is kept meanwhile
    Path(".pidsampler-0.old").mkdir()
    Path("m").rename(".pidsampler-0.old/m")
    run(*RANDOM, "-o", "n")
    assert {path.name: path.read_bytes() for path in Path("m").iterdir()} == before
    assert sorted(Path().iterdir()) == [Path("m"), Path("n")]


def test_a_model_is_replaced_through_a_link_and_keeps_its_mode(run, exported):
    Path("disk").mkdir()
    shutil.copytree(exported, "disk/m")
    Path("disk/m").chmod(0o750)
    Path("m").symlink_to("disk/m")
    (manifest := Path("disk/m/pidsampler.json")).write_text("{}")
    assert run(*RANDOM, "-o", "m", "--overwrite")[0] == 0
    assert Path("m").is_symlink()
    assert json.loads(manifest.read_text())["name"]
    assert Path("disk/m").stat().st_mode & 0o777 == 0o750
    assert sorted(Path().rglob("*pidsampler-*")) == []


@pytest.mark.parametrize("option", ["--caption", "--null-caption", "--vae", "--checkpoint"])
def test_an_input_in_the_folder_is_not_replaced(run, option):
    Path("m").mkdir()
    captions("m/null_caption.npy", (300, 2304))
    Path("c.npy").hardlink_to("m/null_caption.npy")
    before = Path("c.npy").read_bytes()
    for name in ("m/null_caption.npy", "c.npy"):
        code, _, err = run(*(RANDOM if option != "--checkpoint" else ()), option, name, "-o", "m", "--overwrite")
        assert code == 1
        assert "m/null_caption.npy is " in err
        assert "which is never replaced" in err
        assert Path("m/null_caption.npy").read_bytes() == before


def small_plan():
    manifest = Manifest(vae_factor=V1.latent_factor)
    return ExportPlan(architecture=V1, tensors=random_tensors(V1, SEED), form=Form(), manifest=manifest)


def test_the_old_model_is_back_where_the_new_one_cannot_take_its_place(tmp_path):
    (tmp_path / "m").mkdir()
    (tmp_path / "m/pidsampler.json").write_text("{}")
    with pytest.raises(PidSamplerError, match="cannot write"):
        write_folder(small_plan(), tmp_path / "m", overwrite=True, check=shutil.rmtree)
    assert [path.name for path in tmp_path.iterdir()] == ["m"]
    assert (tmp_path / "m/pidsampler.json").read_text() == "{}"


def test_a_disk_that_is_too_small_is_said_before(run, monkeypatch):
    from pidsampler.export import folder

    monkeypatch.setattr(folder.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=1000))
    assert "needs 0.0 GB, but . has 0.0 GB free: make room" in run(*RANDOM, "-o", "m")[2]


@pytest.mark.parametrize(("dtype", "bound"), [("float32", "1e-05"), ("bfloat16", "0.001")])
def test_a_wrong_graph_is_found_and_stays_nowhere(run, monkeypatch, dtype, bound):
    from pidsampler.export import layers

    monkeypatch.setattr(layers, "ROPE_EXTENT", 15.9)
    code, out, err = run(*RANDOM, "-o", "m", "--verify", "--dtype", dtype)
    assert code == 1
    assert err.startswith("pidsampler: error: m is 0.00")
    assert f"off its evaluation in float64, more than the {bound} that {dtype} explains" in err
    assert "license" not in out
    assert list(Path().iterdir()) == []


def written(architecture, form, folder):
    """The graphs of random weights, and what they were made of."""
    tensors = random_tensors(architecture, SEED)
    if form.split:
        build_projection(architecture, tensors, form=form).save(folder / "lq_projection.onnx")
    build_network(architecture, tensors, form=form).save(folder / "pid_upscaler.onnx")
    return Network(architecture, tensors, form.dtype, form.caption)


@pytest.mark.parametrize(("architecture", "target"), [(V1, "tensorrt"), (V15, "onnx")])
def test_bfloat16_is_verified(architecture, target, tmp_path):
    """From its own weights as near as float32, but for TensorRT's factor of attention; and as far as bf16 is coarse."""
    small = replace(architecture, depth=2, pixel_depth=1, residuals=1, latent_factor=4)
    caption = given("v1.5")[4][0] if target == "onnx" else None
    form = Form(target=target, dtype="bfloat16", split=target != "onnx", takes_caption=caption is None, caption=caption)
    network = written(small, form, tmp_path)
    assert verify(tmp_path) < (1e-3 if target == "tensorrt" else 3e-6)
    assert 1e-3 < verify(tmp_path, network) < 2e-2
    other = {name: Stored.of(one.load() * np.float32(1.05)) for name, one in network.tensors.items()}
    with pytest.raises(PidSamplerError, match=r"more than the 0\.04 that bfloat16 explains"):
        verify(tmp_path, network._replace(tensors=other))


def test_a_bfloat16_folder_of_others_reads_no_file_elsewhere_and_fails_in_words(tmp_path):
    (tmp_path / "m").mkdir()
    written(V1, Form(dtype="bfloat16", split=False), tmp_path / "m")
    graph = tmp_path / "m" / "pid_upscaler.onnx"
    graph.with_name("pid_upscaler.onnx.data").rename(tmp_path / "secret")
    model = onnx.load(graph, load_external_data=False)
    for place in [place for weight in model.graph.initializer for place in weight.external_data]:
        place.value = "../secret" if place.key == "location" else place.value
    onnx.save(model, graph)
    with pytest.raises(PidSamplerError, match=r"cannot be run in float32: .*escapes model directory"):
        verify(tmp_path / "m")
    next(one for one in model.graph.input if one.name == "t").name = "time"
    (tmp_path / "secret").rename(tmp_path / "m" / "secret")
    for place in [place for weight in model.graph.initializer for place in weight.external_data]:
        place.value = "secret" if place.key == "location" else place.value
    for node in model.graph.node:
        node.input[:] = ["time" if name == "t" else name for name in node.input]
    onnx.save(model, graph)
    with pytest.raises(PidSamplerError, match=r"pid_upscaler\.onnx failed to run: .*time"):
        verify(tmp_path / "m")
    model.metadata_props.add(key="pidsampler.dtype", value="\a8")
    onnx.save(model, graph)
    with pytest.raises(PidSamplerError, match=r"m works in '\\x078', expected float32, float16, bfloat16"):
        verify(tmp_path / "m")
    graph.write_bytes(b"<html>")
    with pytest.raises(PidSamplerError, match=r"pid_upscaler\.onnx is not an ONNX graph"):
        verify(tmp_path / "m")
    graph.unlink()
    with pytest.raises(PidSamplerError, match=r"cannot read .*pid_upscaler\.onnx: No such file"):
        verify(tmp_path / "m")


ALL = ("float32", "float16", "bfloat16")


@pytest.mark.usefixtures("small")
@pytest.mark.parametrize(
    ("value", "dtype", "said"),
    [
        (np.nan, "float32", "y_pos_embedding holds NaN or infinity: copy or download"),
        (7e4, "float16", "y_pos_embedding holds 7e+04, too large for float16: pass --dtype bfloat16, or float32\n"),
        (3.4e38, "bfloat16", "y_pos_embedding holds 3.4e+38, too large for bfloat16: pass --dtype float32\n"),
        *(
            (1e300, dtype, f"too large for {dtype}: no type holds it, copy or download the file again\n")
            for dtype in ALL
        ),
    ],
)
def test_weights_that_are_no_numbers_are_said_before_anything_is_written(run, value, dtype, said):
    checkpoint("c.safetensors", y_pos_embedding=np.full((1, 300, 64), value, np.float64))
    before = sorted(Path().iterdir())
    code, out, err = run("--checkpoint", "c.safetensors", "-o", "m", "--dtype", dtype)
    assert (code, out) == (1, "")
    assert "c.safetensors as sdxl 2kto4k: y_pos_embedding holds " in err
    assert said in err
    assert sorted(Path().iterdir()) == before


def test_weights_that_the_export_itself_takes_too_far(tmp_path):
    """log_alpha is a number, but its exponential is not."""
    tensors = dict(random_tensors(V1, SEED))
    tensors["lq_proj.gate_modules.0.log_alpha"] = Stored.of(np.float32([90]))
    graph = build_network(V1, tensors, form=Form(dtype="float16"))
    with pytest.raises(
        PidSamplerError, match=r"lq_proj\.gate_modules\.0\.log_alpha holds 90, whose exponential is too"
    ):
        graph.save(tmp_path / "g.onnx")


def test_the_oldest_onnx_ir_is_asked_for_nothing_newer(monkeypatch, tmp_path):
    """Its 1.0 has no max_workers; what is here is how its `save` is declared."""
    asked = []

    def save(
        model, path, format=None, external_data=None, size_threshold_bytes=256, max_shard_size_bytes=None, callback=None
    ):
        asked.append((path, external_data))

    monkeypatch.setattr(build.ir, "save", save)
    build.Graph("empty", 22).save(tmp_path / "g.onnx")
    assert asked == [(tmp_path / "g.onnx", "g.onnx.data")]


def test_the_command_line_starts_without_it():
    code = "import sys, pidsampler.cli; sys.exit(any(name.startswith('onnx_ir') for name in sys.modules))"
    assert subprocess.run([sys.executable, "-P", "-c", code], check=False).returncode == 0
