"""A caption as an input of the network, from the export to the record; and a folder compared with its own weights."""

import hashlib
import json
import os
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import write_model
from paths import PARITY

from pidsampler import PidSamplerError, Upscaler
from pidsampler.backends import get_backend
from pidsampler.cli import main
from pidsampler.denoiser import Guided
from pidsampler.export.architecture import random_tensors
from pidsampler.export.folder import ExportPlan, write_folder
from pidsampler.export.layers import TARGETS, Form
from pidsampler.export.recover import recovered
from pidsampler.export.tensors import Stored
from pidsampler.export.verify import verify
from pidsampler.io import captions
from pidsampler.io.records import find_record
from pidsampler.onnx import Model
from pidsampler.onnx.manifest import Manifest

sys.path.insert(0, str(PARITY))
from pid_cases import V1, V15

SEED = 5
IDLE = ("norm_y2.", "mlp_y.", "attn.proj_y.", "attn.q_norm_y.")
# As many heads for pixels as for patches, of other widths.
NETWORKS = {"v1": replace(V1, pixel_heads=4), "v1.5": V15}


def write(architecture, form, name="m", **parts):
    path = Path(name)
    manifest = Manifest(vae_factor=architecture.latent_factor)
    given = {"tensors": random_tensors(architecture, SEED), "manifest": manifest, **parts}
    write_folder(ExportPlan(architecture=architecture, form=form, **given), path, overwrite=True)
    return path


@pytest.fixture(autouse=True)
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


@pytest.fixture(scope="module")
def exported(tmp_path_factory):
    return write(V15, Form(takes_caption=True), tmp_path_factory.mktemp("exported") / "m")


@pytest.fixture
def folder(exported):
    return shutil.copytree(exported, Path("m"))


@pytest.fixture
def caption():
    return np.random.default_rng(1).standard_normal((V15.text_length, V15.text_width), np.float32)


@pytest.fixture
def latent():
    return np.random.default_rng(2).standard_normal((1, V15.latent_channels, 2, 1), np.float32)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("split", [True, False])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_the_weights_come_back_from_the_graphs(name, split, dtype):
    architecture = NETWORKS[name]
    stored = np.ones((architecture.text_length, architecture.text_width))
    found = recovered(write(architecture, Form(dtype=dtype, split=split, caption=stored)))
    assert (found.architecture, found.dtype) == (architecture, dtype)
    assert np.array_equal(found.caption, stored)
    expected = random_tensors(architecture, SEED)
    assert found.tensors.keys() == expected.keys()
    last = f"patch_blocks.{architecture.depth - 1}."
    for tensor, one in expected.items():
        given, back = one.load().astype(np.float64), found.tensors[tensor].load().astype(np.float64)
        if tensor.startswith(tuple(last + end for end in IDLE)):
            given = np.zeros_like(given)
        elif tensor == f"{last}attn.qkv_y.weight":
            given[: architecture.hidden] = 0.0
        # alpha is stored, of which this is the logarithm
        error = 1e-2 if dtype == "bfloat16" else 1e-6 if tensor.endswith("log_alpha") else 0.0
        np.testing.assert_allclose(back, given, rtol=error, atol=error, err_msg=tensor)


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("target", TARGETS)
def test_a_folder_is_compared_with_its_own_weights(name, target):
    assert verify(write(NETWORKS[name], Form(target=target, takes_caption=name == "v1"))) < 2e-6


def test_a_folder_of_an_earlier_version_whose_caption_is_shorter():
    """Its graph holds as many learnt positions as its caption has tokens."""
    tensors = random_tensors(V15, SEED)
    cut = {**tensors, "y_pos_embedding": Stored.of(tensors["y_pos_embedding"].load()[:, :3])}
    folder = write(replace(V15, text_length=3), Form(caption=np.ones((3, V15.text_width))), tensors=cut)
    graph = onnx.load(folder / "pid_upscaler.onnx", load_external_data=False)
    (stated,) = (entry for entry in graph.metadata_props if entry.key == "pidsampler.architecture")
    stated.value = json.dumps({**json.loads(stated.value), "text_length": V15.text_length})
    onnx.save(graph, folder / "pid_upscaler.onnx")
    assert recovered(folder).caption.shape == (3, V15.text_width)
    assert verify(folder) < 2e-6


def test_inspect_finds_a_graph_that_computes_something_else(folder, capsys):
    assert main(["inspect", "m", "--verify"]) == 0
    assert "off its evaluation in float64" in capsys.readouterr().out
    graph = onnx.load(folder / "pid_upscaler.onnx", load_external_data=False)
    next(node for node in graph.graph.node if node.op_type == "Gelu").op_type = "Relu"
    onnx.save(graph, folder / "pid_upscaler.onnx")
    assert main(["inspect", "m", "--verify"]) == 1
    assert "off its evaluation in float64, more than the 1e-05 that float32 explains" in capsys.readouterr().err


def test_inspect_says_what_it_cannot_compare(folder, capsys, monkeypatch):
    write_model(Path("of-others"))
    assert main(["inspect", "of-others", "--verify"]) == 1
    assert "does not say what network it is" in capsys.readouterr().err
    graph = onnx.load(folder / "pid_upscaler.onnx", load_external_data=False)
    for tensor in graph.graph.initializer:
        tensor.name = "mine" if tensor.name == "s_embedder.proj.bias" else tensor.name
    for node in graph.graph.node:
        node.input[:] = ["mine" if name == "s_embedder.proj.bias" else name for name in node.input]
    onnx.save(graph, folder / "pid_upscaler.onnx")
    assert main(["inspect", "m", "--verify"]) == 1
    assert "m has no weights s_embedder.proj.bias: a graph was changed since its export" in capsys.readouterr().err
    write(V1, Form(target="ort-cuda", dtype="bfloat16"))
    assert main(["inspect", "m", "--verify"]) == 1
    assert "bfloat16, for one, needs a GPU" in capsys.readouterr().err
    monkeypatch.setitem(sys.modules, "onnx_ir", None)
    assert main(["inspect", "of-others", "--verify"]) == 1
    assert "pip install 'pidsampler[export]'" in capsys.readouterr().err


def test_a_given_caption_does_what_a_stored_one_does(folder, caption, latent):
    stored = Model.load(write(V15, Form(caption=caption), "stored"), get_backend("numpy"))
    zeros = Model.load(write(V15, Form(), "zeros"), get_backend("numpy"))
    model = Model.load(folder, get_backend("numpy"))
    assert model.contract.caption == caption.shape
    assert zeros.contract.caption is None
    x = np.random.default_rng(3).standard_normal((1, 3, 64, 32), np.float32)
    for one, like in ((caption, stored), (None, zeros)):
        found, expected = np.empty_like(x), np.empty_like(x)
        model.denoiser(latent, 0.1, caption=one).predict(x, 0.5, found)
        like.denoiser(latent, 0.1).predict(x, 0.5, expected)
        np.testing.assert_allclose(found, expected, atol=2e-5)


def test_a_teacher_is_guided_by_its_caption(folder, caption, latent):
    """As NVIDIA's: the latent is there in both, the caption in one."""
    up = Upscaler.load(folder, "cpu")
    told, untold = (up.bind(latent, caption=one) for one in (caption, None))
    x = np.random.default_rng(3).standard_normal(told.shape, np.float32)
    found, a, b = (np.empty_like(x) for _ in range(3))
    Guided(told.denoiser, untold.denoiser, 3.0).predict(x, 0.5, found)
    told.denoiser.predict(x, 0.5, a)
    untold.denoiser.predict(x, 0.5, b)
    np.testing.assert_allclose(found, b + 3.0 * (a - b), atol=1e-5)


def test_the_record_says_which_caption(folder, caption, latent, capsys):
    np.save("latent.npy", latent)
    np.save("c.npy", caption[None])
    command = ["upscale", "latent.npy", "-o", "out/", "--model", str(folder), "--device", "cpu"]
    assert main([*command, "--caption", "c.npy"]) == 0
    record = find_record(Path("out/latent.png"))
    up = Upscaler.load(folder, "cpu")
    told = up(latent, caption=caption)
    assert record["caption"] == told.record["caption"] == captions.described(caption)
    assert record["caption"]["shape"] == list(caption.shape)
    untold = up(latent)
    assert untold.record["caption"] is None
    assert [one.record["caption_source"] for one in (told, untold)] == ["given", "zeros"]
    assert not np.array_equal(told.array, untold.array)
    capsys.readouterr()
    assert main([*command, "--caption", "c.npy"]) == 0
    assert "there already" in capsys.readouterr().out
    assert main(command) == 1
    assert "not made from latent.npy with these settings" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (np.zeros((4, 5)), "the caption has shape (4, 5), but m takes one of (5, 24)"),
        (np.zeros((4, 24)), "m takes one of (5, 24): an embedding has 5 tokens, those of its padding included"),
        (np.zeros((4, 5), int), "the caption is int64 (4, 5), expected floats (tokens, width)"),
        (np.zeros(4), "the caption is float64 (4,), expected floats (tokens, width)"),
        (np.full((5, 24), np.nan), "the caption holds NaN or infinity"),
    ],
)
def test_a_wrong_caption(folder, latent, array, message, capsys):
    with pytest.raises(PidSamplerError) as caught:
        Upscaler.load(folder, "cpu")(latent, caption=array)
    assert message in str(caught.value)
    np.save("c.npy", array)
    np.save("latent.npy", latent)
    assert main(["upscale", "latent.npy", "-o", "o.png", "--model", "m", "--caption", "c.npy"]) in (1, 2)
    assert message in capsys.readouterr().err
    assert not Path("o.png").exists()


def test_captions_where_there_are_none(capsys):
    Path("broken.npy").write_text("no array")
    for name, message in (("none.npy", "cannot read none.npy"), ("broken.npy", "broken.npy cannot be read as .npy")):
        assert main(["upscale", "x.png", "-o", "o.png", "--caption", name]) == 2
        assert message in capsys.readouterr().err
    with pytest.raises(PidSamplerError, match=r"tiny takes none: leave it out, or export the model with caption=input"):
        Upscaler.load("tiny", "cpu")(np.zeros((4, 4, 3), np.uint8), caption=np.zeros((2, 2)))


@pytest.mark.parametrize("shape", [(10**12, 24), (2**62, 24), (10**30, 24)])
def test_a_caption_file_that_claims_more_than_it_holds(shape):
    header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}, }}".ljust(117) + "\n"
    Path("c.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header.encode())
    with pytest.raises(PidSamplerError, match=r"c\.npy: it has [0-9]+ bytes, expected at most 536870912"):
        captions.read(Path("c.npy"))


def test_a_caption_in_a_zip_is_said_to_be_no_npy():
    np.savez("c.npz", np.zeros((4, 5), np.float32))
    with pytest.raises(PidSamplerError, match=r"c\.npz cannot be read as \.npy: it is no array.*: it holds a ZIP"):
        captions.read(Path("c.npz"))


def test_the_null_caption_of_a_folder_is_its_default(caption, latent, capsys):
    folder = write(V15, Form(takes_caption=True), null_caption=caption[None].astype(np.float16))
    up, plain = Upscaler.load(folder, "cpu"), Upscaler.load(write(V15, Form(takes_caption=True), "plain"), "cpu")
    null = up.model.null_caption
    assert (null.dtype, null.shape, null.flags.writeable) == (np.float32, caption.shape, False)
    assert np.array_equal(null, caption.astype(np.float16))
    assert plain.model.null_caption is None
    untold, told, like = up(latent), up(latent, caption=caption), plain(latent, caption=null)
    assert np.array_equal(untold.array, like.array)
    assert not np.array_equal(untold.array, plain(latent).array)
    assert np.array_equal(told.array, plain(latent, caption=caption).array)
    records = [result.record for result in (untold, told, like)]
    assert [record["caption_source"] for record in records] == ["null caption", "given", "given"]
    assert records[0]["caption"] == records[2]["caption"] == captions.described(null)
    digest = hashlib.sha256((folder / "null_caption.npy").read_bytes()).hexdigest()
    assert records[0]["model"]["sha256"]["null_caption.npy"] == digest
    assert "null_caption.npy" not in plain.model.hashes
    assert main(["inspect", str(folder)]) == 0
    assert digest in capsys.readouterr().out
    assert write(V15, Form(takes_caption=True)) == folder  # replaced: the file is a model's
    assert not (folder / "null_caption.npy").exists()


def test_a_stored_caption_is_told_from_zeros(caption, latent, capsys):
    digest = captions.described(caption)["sha256"]
    for given, expected in ((caption, digest), (None, None)):
        folder = write(V15, Form(caption=given))
        assert Model.load(folder, get_backend("numpy")).contract.stored_caption == expected
        assert Upscaler.load(folder, "cpu")(latent).record["model"].get("stored_caption") == expected
        assert main(["inspect", "m"]) == 0
        shown = [line.split() for line in capsys.readouterr().out.splitlines()]
        assert ["stored", "caption", expected or "none"] in shown
    assert "stored_caption" not in json.loads(Path("m/pidsampler.json").read_text())


def test_a_record_of_a_network_that_takes_no_caption(latent):
    record = Upscaler.load(write(V15, Form()), "cpu")(latent).record
    assert (record["caption"], record["caption_source"]) == (None, None)


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (
            np.zeros((4, 24)),
            r"null_caption\.npy: the caption has shape \(4, 24\), but the network takes one of \(5, 24\)",
        ),
        (np.full((5, 24), np.inf), r"null_caption\.npy: the caption holds NaN or infinity"),
        (np.zeros((5, 24), int), r"null_caption\.npy: the caption is int64"),
        (None, r"null_caption\.npy cannot be read as \.npy"),
    ],
)
def test_a_null_caption_that_is_none(folder, array, message):
    np.save(folder / "null_caption.npy", array) if array is not None else (folder / "null_caption.npy").write_text("x")
    with pytest.raises(PidSamplerError, match=message):
        Model.load(folder, get_backend("numpy"))


@pytest.mark.parametrize("kind", ["link", "folder", "pipe"])
def test_a_null_caption_that_is_there_is_never_left_out(folder, kind):
    """It would become zeros."""
    path = folder / "null_caption.npy"
    if kind == "link":
        path.symlink_to("nowhere.npy")
    elif kind == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    with pytest.raises(PidSamplerError, match=r"cannot read m/null_caption\.npy"):
        Model.load(folder, get_backend("numpy"))


def test_a_caption_that_is_a_pipe_is_not_waited_for(capsys):
    os.mkfifo("c.npy")
    assert main(["upscale", "x.png", "-o", "o.png", "--caption", "c.npy"]) == 2
    assert "cannot read c.npy: it is a pipe" in capsys.readouterr().err


def test_a_caption_of_numbers_too_large_for_its_type(caption, recwarn):
    np.save("c.npy", np.full((5, 24), -1e300))
    with pytest.raises(
        PidSamplerError, match=r"c\.npy: the caption holds numbers up to 1e\+300, too large for float32"
    ):
        captions.read(Path("c.npy"))
    assert not recwarn.list
    large = np.where(caption == caption.max(), np.float32(1e5), caption)
    forms = [
        (Form(dtype="float16", takes_caption=True), {"null_caption": large}),
        (Form(dtype="float16", caption=large), {}),
    ]
    for form, parts in forms:
        with pytest.raises(PidSamplerError, match=r"the caption holds numbers up to 1e\+05, too large for float16"):
            write(V15, form, **parts)
    write(V15, Form(dtype="bfloat16", takes_caption=True), null_caption=large)


def test_a_null_caption_that_nobody_takes(caption):
    with pytest.raises(PidSamplerError, match="null_caption is for a network that takes a caption: pass caption=input"):
        write(V15, Form(), null_caption=caption)
    with pytest.raises(PidSamplerError, match=r"has shape \(4, 24\), but the network takes one of \(5, 24\)"):
        write(V15, Form(takes_caption=True), null_caption=caption[:4])
    folder = write(V15, Form())
    np.save(folder / "null_caption.npy", caption)
    with pytest.raises(PidSamplerError, match=r"null_caption\.npy: the network takes no caption: delete the file"):
        Model.load(folder, get_backend("numpy"))


@pytest.mark.parametrize(
    ("kind", "shape"), [("FLOAT", (1, 5)), ("FLOAT", (1, "n", 24)), ("FLOAT", (2, 5, 24)), ("INT64", (1, 5, 24))]
)
def test_a_graph_whose_caption_is_none(kind, shape):
    folder = write_model(Path("m"))
    graph = onnx.load(folder / "pid_upscaler.onnx")
    graph.graph.input.append(onnx.helper.make_tensor_value_info("caption", getattr(onnx.TensorProto, kind), shape))
    onnx.save(graph, folder / "pid_upscaler.onnx")
    with pytest.raises(PidSamplerError, match=r"expected floats of a fixed shape \(1, tokens, width\)"):
        Model.load(folder, get_backend("numpy"))


def test_export_of_a_network_that_takes_one(capsys):
    command = ["export", "--backbone", "dinov2", "--type", "2k", "--random-weights", "1", "--reduced", "-o", "m"]
    np.save("n.npy", np.ones((300, 2304), np.float16))
    assert main([*command, "--null-caption", "n.npy"]) in (1, 2)
    assert "pass --caption input with it" in capsys.readouterr().err
    assert main([*command, "--caption", "input", "--null-caption", "n.npy"]) == 0
    assert "zeros" not in capsys.readouterr().out
    assert np.array_equal(Model.load("m", get_backend("numpy")).null_caption, np.ones((300, 2304)))
    assert main([*command, "--overwrite"]) == 0
    assert "caption: zeros in the graph, which NVIDIA's inference never uses" in capsys.readouterr().out
    assert main([*command, "--overwrite", "--caption", "input"]) == 0
    assert "caption: zeros where no caption is given" in capsys.readouterr().out
    assert Model.load("m", get_backend("numpy")).contract.caption == (300, 2304)
    assert json.loads(Path("m/pidsampler.json").read_text())["vae_factor"] == 16
    assert main(["inspect", "m"]) == 0
    assert "300, 2304" in capsys.readouterr().out


def test_a_header_without_an_end_is_said_in_a_line(tmp_path):
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4\n"
    (tmp_path / "c.npy").write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(32))
    with pytest.raises(PidSamplerError, match=r"c\.npy cannot be read as \.npy"):
        captions.read(tmp_path / "c.npy")
