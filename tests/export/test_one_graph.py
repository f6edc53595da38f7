"""A whole sampler in one ONNX file: against the loop, for all kinds of rows and models; refusals; the command."""

import hashlib
import json
import re
import shutil
from functools import cache

import numpy as np
import onnx
import onnxruntime
import pytest
import wholes
from models import write_encoder, write_network
from PIL import Image
from wholes import SEED

import pidsampler as ps
from pidsampler import PidSamplerError, StepTable, Upscaler
from pidsampler.cli import main
from pidsampler.export import one_file
from pidsampler.export.build import FLOAT, Graph
from pidsampler.export.one_graph import compile, described
from pidsampler.export.philox import Philox
from pidsampler.noise import normal
from pidsampler.upscale.whole_sampler import WholeSampler

KINDS = ("flow-sde", "flow-ode", "heun@uniform:3", "dpmpp-2m@uniform:5", "unipc@uniform:5", "seeds-3@uniform:2")
RESTART = "restart@uniform:6"


@pytest.fixture(name="photo", scope="module")
def _photo():
    return wholes.photo()


@pytest.fixture(name="teacher", scope="module")
def _teacher(tmp_path_factory):
    """A teacher that takes captions."""
    words = "--backbone flux --type 2kto4k_v1pt5_undistilled --target onnx --caption input"
    return wholes.exported(tmp_path_factory.mktemp("exported") / "teacher", words)


@pytest.fixture(name="student", scope="module")
def _student(tmp_path_factory):
    words = "--backbone sdxl --type 2kto4k --target tensorrt --dtype float32"
    return wholes.exported(tmp_path_factory.mktemp("exported") / "student", words)


def evaluated(path, image, *, without=(), **given):
    """Run a file as a program in another language would, without some of ONNX Runtime's optimizers."""
    onnx.checker.check_model(str(path), full_check=True)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = 1, 4
    session = onnxruntime.InferenceSession(path, options, ["CPUExecutionProvider"], disabled_optimizers=list(without))
    (found,) = session.run(None, wholes.feeds(session.get_inputs(), image, **given))
    return found


@cache
def loaded(model):
    return Upscaler.load(model, "cpu")


def looped(model, sampler, image, *, seed=SEED, sigma=0.1, **given):
    """The loop's result, float32 (1, 3, height, width), and its picture."""
    up = loaded(model)
    bound = up.bind(image, seed=seed, degrade_sigma=sigma, **given)
    x = ps.sample(bound.denoiser, sampler, shape=bound.shape, seed=seed)
    return x[:, :, : bound.height, : bound.width], bound.picture(x)


def levels(a, b):
    return np.abs(a.astype(int) - b.astype(int))


@pytest.mark.parametrize("sampler", [*KINDS, RESTART, "@learnt-4", "edm-heun(s_churn=2)@uniform:3"])
def test_one_graph_is_the_loop(sampler, photo, tmp_path):
    model = "tiny-teacher"
    path = compile(model, sampler, size=(64, 64), output=tmp_path / "s.onnx", output_type="float32")
    whole = described(path)
    x, picture = looped(model, whole.table, photo)
    found = evaluated(path, photo)
    np.testing.assert_allclose(found, x, rtol=0, atol=1e-5)
    weights = sum(file.stat().st_size for file in loaded(model).model.path.glob("*.onnx"))
    assert path.stat().st_size < weights + 100_000
    pixels = compile(model, sampler, size=(64, 64), output=tmp_path / "p.onnx", noise="philox")
    off = levels(evaluated(pixels, photo), picture)
    assert off.max() <= 1
    assert (off > 0).mean() <= 0.001


def test_reduced_students_of_a_fixed_size(student, photo, tmp_path):
    path = compile(student, "heun@uniform:2", size=(64, 64), output=tmp_path / "s.onnx", output_type="float32")
    x, _ = looped(student, described(path).table, photo)  # sdxl's latent is vp, and its network has a projection
    np.testing.assert_allclose(evaluated(path, photo), x, rtol=0, atol=1e-5)
    assert {node.domain for node in onnx.load(path).graph.node} == {""}
    with pytest.raises(PidSamplerError, match="makes 64x64 at once, and one graph has no tiles"):
        compile(student, size=(128, 128), output=tmp_path / "t.onnx")


def test_captions_and_guidance(teacher, photo, tmp_path):
    rng = np.random.default_rng(0)
    caption = rng.standard_normal(loaded(teacher).model.contract.caption).astype(np.float32)
    size, out = (64, 64), {"overwrite": True, "output_type": "float32", "output": tmp_path / "s.onnx"}
    for sampler, guidance in (
        ("dpmpp-2m@uniform:3", 2.0),
        ("flow-ode@uniform:1", 0.0),
        ("euler-cfg-pp@uniform:2", None),
    ):
        path = compile(teacher, sampler, size=size, caption="input", guidance=guidance, **out)
        given = {"pair": True} if guidance is None else {"guidance": guidance}
        x, _ = looped(teacher, sampler, photo, caption=caption, **given)
        np.testing.assert_allclose(evaluated(path, photo, caption=caption[None]), x, rtol=0, atol=1e-5)
        # What differs is ONNX Runtime's: it folds the times' embeddings to constants by other kernels.
        found = evaluated(path, photo, caption=caption[None], without=["ConstantFolding"])
        np.testing.assert_array_equal(found, x)
    given = {"caption": caption, "guidance": 1.0}  # in the graph
    path = compile(teacher, "flow-ode@uniform:1", size=size, **given, **out)
    x, _ = looped(teacher, "flow-ode@uniform:1", photo, **given)
    np.testing.assert_allclose(evaluated(path, photo), x, rtol=0, atol=1e-5)
    folder = shutil.copytree(teacher, tmp_path / "with_null")
    np.save(folder / "null_caption.npy", caption)
    path = compile(folder, "flow-ode@uniform:1", size=size, **out)  # the model's own
    np.testing.assert_allclose(evaluated(path, photo), x, rtol=0, atol=1e-5)
    with pytest.raises(PidSamplerError, match="leads toward a caption, but none is given"):
        compile(teacher, "flow-ode@uniform:1", size=size, guidance=2.0, **out)
    with pytest.raises(PidSamplerError, match=r"the caption has shape \(1, 2\)"):
        compile(teacher, "flow-ode@uniform:1", size=size, caption=np.zeros((1, 2)), **out)


def test_sides_that_are_no_multiples_are_padded_and_cropped(tmp_path):
    photo = np.random.default_rng(0).integers(0, 256, (5, 21, 3), np.uint8)
    path = compile("tiny", size=(20, 84), output=tmp_path / "s.onnx")
    assert levels(evaluated(path, photo), looped("tiny", "flow-sde", photo)[1]).max() == 0


@pytest.mark.parametrize("kind", ["float16", "float32"])
def test_latents_and_half_precision(kind, tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    write_network(folder / "pid_upscaler.onnx", kind=kind, external=True)
    (folder / "pidsampler.json").write_text('{"vae_factor": 8}')
    latent = np.random.default_rng(0).standard_normal((1, 4, 2, 3)).astype(np.float32)
    path = compile(folder, "dpmpp-2m@uniform:3", size=(64, 96), output=folder / "s.onnx", output_type="float32")
    assert [port.name for port in described(path).inputs] == ["latent", "degrade_sigma", "noise_0"]
    # Beside its model it refers to the model's data, and has none of its own.
    assert {file.name for file in folder.iterdir()} == {
        *("pid_upscaler.onnx", "pid_upscaler.onnx.data", "pidsampler.json", "s.onnx")
    }
    x, _ = looped(folder, described(path).table, latent)
    np.testing.assert_allclose(evaluated(path, latent), x, rtol=0, atol=1e-6)
    elsewhere = compile(folder, "dpmpp-2m@uniform:3", size=(64, 96), output=tmp_path / "s.onnx", output_type="float32")
    shutil.rmtree(folder)
    np.testing.assert_array_equal(evaluated(elsewhere, latent), x)


def test_large_weights_go_beside_the_file_once(photo, tmp_path, monkeypatch):
    monkeypatch.setattr(one_file, "_INLINE", 1000)
    path = compile("tiny", "heun@uniform:4", size=(64, 64), output=tmp_path / "s.onnx")
    data = tmp_path / "s.onnx.data"
    assert 2_000_000 < data.stat().st_size < 2_500_000
    assert path.stat().st_size < 300_000
    found = evaluated(path, photo)
    monkeypatch.undo()
    with pytest.raises(PidSamplerError, match=r"s\.onnx exists already: pass overwrite=True"):
        compile("tiny", "heun@uniform:4", size=(64, 64), output=path)
    compile("tiny", "heun@uniform:4", size=(64, 64), output=path, overwrite=True)
    assert not data.exists()
    np.testing.assert_array_equal(evaluated(path, photo), found)


def test_philox_in_a_graph_is_ours():
    shape = (1, 3, 7, 9)  # no multiple of 4
    for seed, draw, stream in ((0, 0, 0), (2**64 - 1, 2**32 - 1, 1), (SEED, 3, 0)):
        g = Graph("noise", 18)
        values = Philox(g, g.input("seed", np.dtype(np.uint64), shape=(1,))).normal(draw, shape, stream=stream)
        g.output("n", values, dtype=FLOAT, shape=shape)
        from onnx_ir import to_proto

        session = onnxruntime.InferenceSession(to_proto(g.model()).SerializeToString())
        (found,) = session.run(None, {"seed": np.array([seed], np.uint64)})
        np.testing.assert_allclose(found[0], normal(seed, draw, shape[1:], stream), rtol=5e-7, atol=1e-6)


def test_what_a_file_says_of_itself(tmp_path):
    path = compile("tiny", "unipc@uniform:3", size=(64, 96), output=tmp_path / "s.onnx")
    said = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    assert said["license"] == "Apache-2.0"
    assert StepTable.from_json(said["pidsampler.table"]) == ps.get_scheduler("unipc@uniform:3").table()
    facts = json.loads(said["pidsampler.sampler"])
    assert (
        facts["record"]["model"]["sha256"]["pid_upscaler.onnx"]
        == hashlib.sha256((loaded("tiny").model.path / "pid_upscaler.onnx").read_bytes()).hexdigest()
    )
    assert facts["record"]["scheduler"].startswith("UniPC(")
    assert [str(port) for port in described(path).inputs] == [
        "picture uint8 [16, 24, 3]: RGB pixels, row by row",
        "degrade_sigma float32 [1]: noise level of the latent, 0..0.8",
        "noise_0 float32 [1, 3, 64, 96]: standard normal: x begins as it",
        "noise_latent float32 [1, 192, 2, 3]: standard normal, times degrade_sigma: zeros where that is 0",
    ]
    assert [str(port) for port in described(path).outputs] == ["result uint8 [64, 96, 3]: RGB pixels, row by row"]


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"size": (64, 66)}, r"the result's size is 66x64, but tiny makes sides of multiples of 4 pixels: pass 64x64"),
        ({"size": (64,)}, "must be .height, width. of the result"),
        ({"noise": "torch"}, "noise"),
        ({"output": "s.txt"}, "expected a name that ends in .onnx"),
        ({"output": "nowhere/s.onnx"}, "expected a file's name in a folder that exists"),
        ({"caption": "text"}, "must be an embedding"),
        ({"caption": "input"}, "tiny takes no caption"),
        ({"caption": np.zeros((2, 2))}, "tiny takes no caption"),
        ({"guidance": 2.0}, "guidance needs a network with a caption"),
        ({"sampler": ps.timesteps.custom([0.9, 0.5], partial=True)}, "sampler"),
        ({"sampler": ps.noise.brownian(ps.FlowSDE([0.9, 0.5, 0.0]).table())}, "row 0 mixes .* draws of noise"),
        ({"sampler": "flow-sde@uniform:300"}, "has 300 rows, and one graph holds at most 250"),
    ],
)
def test_what_cannot_be_compiled_is_said(given, message, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PidSamplerError, match=message):
        compile("tiny", **{"size": (64, 64), "output": "s.onnx", **given})
    assert list(tmp_path.iterdir()) == []


def test_the_models_own_graphs_are_never_replaced(tmp_path):
    folder = shutil.copytree(loaded("tiny").model.path, tmp_path / "m")
    with pytest.raises(PidSamplerError, match="is an input"):
        compile(folder, size=(64, 64), output=folder / "pid_upscaler.onnx", overwrite=True)


def test_graphs_that_cannot_be_merged(tmp_path):
    write_encoder(tmp_path / "vae_encoder.onnx")
    write_network(tmp_path / "pid_upscaler.onnx")
    network = onnx.load(tmp_path / "pid_upscaler.onnx")

    def refused(message):
        onnx.save(network, tmp_path / "pid_upscaler.onnx")
        with pytest.raises(PidSamplerError, match=message):
            compile(tmp_path, size=(64, 64), output=tmp_path / "s.onnx")

    body = onnx.helper.make_graph([], "then", [], [])
    network.graph.node.append(onnx.helper.make_node("If", ["c"], ["unused"], then_branch=body, else_branch=body))
    network.graph.initializer.append(onnx.numpy_helper.from_array(np.array(True), "c"))
    refused("holds If, a node with a graph inside")
    del network.graph.node[-1]
    network.graph.initializer[-1].CopyFrom(onnx.TensorProto(name="c", data_type=1, dims=[1], data_location=1))
    network.graph.initializer[-1].external_data.add(key="location", value="../secret")
    refused("names external data outside its own folder")
    (tmp_path / "short").write_bytes(bytes(3))
    network.graph.initializer[-1].external_data[0].value = "short"
    refused("its external data file 'short' ends early")
    (tmp_path / "whole").write_bytes(bytes(4))
    (tmp_path / "twice").hardlink_to(tmp_path / "whole")
    network.graph.initializer[-1].external_data[0].value = "whole"
    refused("is a hard link, which ONNX's own tools refuse: copy it")
    network.graph.initializer[-1].external_data[0].value = "nowhere"
    refused("its external data file 'nowhere' is missing")
    del network.graph.initializer[-1]
    network.graph.node.insert(0, onnx.helper.make_node("Neg", ["later"], ["unused"]))
    network.graph.node.append(onnx.helper.make_node("Neg", ["x"], ["later"]))
    refused("is not an ONNX graph: it is damaged")
    network.opset_import[0].version = 17
    refused("is of opset 17: export it in opset 18 or later")
    (tmp_path / "pid_upscaler.onnx").write_bytes(b"\xff" * 99)
    with pytest.raises(PidSamplerError, match="is not an ONNX graph"):
        compile(tmp_path, size=(64, 64), output=tmp_path / "s.onnx")


def test_the_command_and_upscale_and_inspect(photo, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    Image.fromarray(photo).save("photo.png")
    compiled = ("compile", "tiny", "--size", "64x64", "--output-type", "float32", "--noise", "philox", "-o", "s.onnx")
    assert main([*compiled, "--scheduler", "heun", "--steps", "3"]) == 0
    assert "s.onnx: 64x64, 5 model calls" in capsys.readouterr().out
    asked = ("photo.png", "--seed", "7", "--degrade-sigma", "0.2", "--color", "match", "--quiet", "-o")
    assert main(["upscale", *asked, "loop.png", "--scheduler", "heun", "--steps", "3"]) == 0
    assert main(["upscale", *asked, "graph.png", "--model", "s.onnx"]) == 0
    loop, graph = (np.asarray(Image.open(f"{name}.png")) for name in ("loop", "graph"))
    assert levels(loop, graph).max() <= 1
    assert (loop != graph).mean() <= 0.001
    record = ps.read_record("graph.png")
    assert record["graph"] == {
        "name": "s.onnx",
        "sha256": hashlib.sha256((tmp_path / "s.onnx").read_bytes()).hexdigest(),
    }
    assert record["table"] == ps.read_record("loop.png")["table"]
    assert main(["upscale", "photo.png", "--like", "graph.png", "--quiet", "-o", "again.png"]) == 0
    np.testing.assert_array_equal(np.asarray(Image.open("again.png")), loop)
    capsys.readouterr()
    assert main(["inspect", "s.onnx"]) == 0
    out = capsys.readouterr().out
    assert "seed uint64 [1]: seed of the noise" in out
    assert "Apache-2.0" in out
    for options, message in (
        ("--model s.onnx --eta 0.5", "--eta is in the graph s.onnx already"),
        ("--model s.onnx --tile 64", "--tile is for a model's folder"),
        ("--model loop.onnx", "no file loop.onnx"),
        ("--model s.onnx --caption c.npy", "takes no caption"),
    ):
        np.save("c.npy", np.zeros((2, 2), np.float32))
        assert main(["upscale", "photo.png", "-o", "x.png", *options.split()]) != 0
        assert message in capsys.readouterr().err
    assert main(["compile", "tiny", "--size", "64", "-o", "t.onnx"]) == 2
    assert "--size '64' is neither WIDTHxHEIGHT" in capsys.readouterr().err


def test_a_rule_of_times_is_for_what_is_sampled(teacher, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    command = ("compile", str(teacher), "--size", "60x64", "--steps", "2", "--quiet", "-o")  # 64x64 is sampled
    assert main([*command, "s.onnx"]) == 0
    times = described("s.onnx").table.times
    assert times == loaded(teacher).model.contract.timesteps.at((64, 64), 2)
    assert times != loaded(teacher).model.contract.timesteps.at((64, 60), 2)


def test_a_whole_sampler_in_python(photo, teacher, tmp_path):
    path = compile("tiny", size=(64, 64), output=tmp_path / "s.onnx", output_type="float32")
    sampler, up = WholeSampler(path, "cpu"), loaded("tiny")
    result, expected = sampler(photo, seed=3), up(photo, seed=3)
    np.testing.assert_array_equal(result.array, expected.array)
    assert {key: value for key, value in result.record.items() if key != "graph"} == expected.record
    wide = photo.astype(np.uint16) * 257
    np.testing.assert_array_equal(sampler(wide, seed=3).array, expected.array)
    with pytest.raises(PidSamplerError, match="takes pictures of 16x16, found one of 8x16"):
        sampler(photo[:, :8])
    with pytest.raises(PidSamplerError, match="takes pictures of 16x16, found a latent"):
        sampler(np.zeros((1, 192, 2, 2), np.float32))
    with pytest.raises(PidSamplerError, match=r"steps is in the graph .* already"):
        sampler(photo, steps=3)
    asked = {"size": (64, 64), "output": tmp_path / "t.onnx", "caption": "input", "guidance": 2.0}
    path = compile(teacher, "flow-ode@uniform:1", **asked)
    guided = WholeSampler(path, "cpu")
    caption = np.ones(loaded(teacher).model.contract.caption, np.float32)
    result = guided(photo, caption=caption)
    expected = loaded(teacher)(photo, "flow-ode@uniform:1", caption=caption, guidance=2.0)
    assert levels(result.array, expected.array).max() <= 1
    assert {**result.record, "graph": 0, "drift": 0} == {**expected.record, "graph": 0, "drift": 0}
    with pytest.raises(PidSamplerError, match="takes a caption, but none is given"):
        guided(photo)


def test_files_of_strangers(tmp_path):
    path = compile("tiny", size=(64, 64), output=tmp_path / "s.onnx")
    model = onnx.load(path)
    said = {prop.key: prop.value for prop in model.metadata_props}
    facts = json.loads(said["pidsampler.sampler"])

    def refused(message, **changed):
        onnx.helper.set_model_props(model, {**said, **changed})
        onnx.save(model, path)
        with pytest.raises(PidSamplerError, match=message) as caught:
            WholeSampler(path, "cpu")
        assert "\n" not in str(caught.value)

    def with_facts(**changed):
        return {"pidsampler.sampler": json.dumps({**facts, **changed})}

    refused("expected the format|has the format 'x'", **with_facts(format="x"))
    refused("has the entries", **with_facts(more=1))
    refused("not what|not a whole", **{"pidsampler.sampler": "{"})
    refused("scale=0", **with_facts(scale=0))
    refused(
        "has no entry 'guidance'",
        **with_facts(record={key: value for key, value in facts["record"].items() if key != "guidance"}),
    )
    refused("its tensors are not those of its description", **with_facts(inputs=facts["inputs"][:-1]))
    refused("a tensor has the entries", **with_facts(inputs=[{"name": "picture"}]))
    refused("a table", **{"pidsampler.table": "[]"})
    onnx.helper.set_model_props(model, {})
    onnx.save(model, path)
    with pytest.raises(PidSamplerError, match="it is no whole sampler: make one by"):
        WholeSampler(path, "cpu")


def test_the_example_of_docs_one_graph(repository, photo, tmp_path, monkeypatch):
    text = (repository / "docs" / "one-graph.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    monkeypatch.chdir(tmp_path)
    height, width = (4 * n for n in photo.shape[:2])
    compile("tiny", "flow-sde@pid:2", size=(height, width), output="sampler.onnx")
    names = {"photo": photo}
    exec(example, names)
    assert names["pixels"].shape == (height, width, 3)
    assert names["pixels"].std() > 1
