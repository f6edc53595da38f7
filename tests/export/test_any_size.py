"""Whole samplers of any size: against the loop; refusals; the command."""

import json

import numpy as np
import onnx
import onnxruntime
import pytest
import wholes
from models import write_network
from PIL import Image
from wholes import SEED

import pidsampler as ps
from pidsampler import PidSamplerError, Upscaler
from pidsampler.cli import main
from pidsampler.export.one_graph import compile, described, sampled_size
from pidsampler.upscale.whole_sampler import WholeSampler

# A side that pads to more than itself is mirrored more than once; of a side of 1 there is nothing to mirror.
SIZES = [(16, 16), (5, 21), (1, 1), (1, 9), (3, 8), (40, 33)]


def picture(height, width):
    return np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)


def evaluated(path, image, sides):
    """Run a file for one size, worked out by what it says of itself."""
    onnx.checker.check_model(str(path), full_check=True)
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    return session.run(None, wholes.feeds(described(path).at(*sides).inputs, image))[0]


def looped(up, sampler, image):
    bound = up.bind(image, seed=SEED, degrade_sigma=0.1)
    x = ps.sample(bound.denoiser, sampler, shape=bound.shape, seed=SEED)
    return x[:, :, : bound.height, : bound.width]


@pytest.mark.parametrize("noise", ["input", "philox"])
def test_one_file_is_the_loop_for_pictures_of_all_sizes(noise, tmp_path):
    path, up = tmp_path / "s.onnx", Upscaler.load("tiny", "cpu")
    compile("tiny", "flow-sde@pid:2", size="any", output=path, noise=noise, output_type="float32")
    for sides in SIZES:
        found = evaluated(path, picture(*sides), sides)
        np.testing.assert_allclose(found, looped(up, "flow-sde@pid:2", picture(*sides)), rtol=0, atol=1e-5)
    fixed = compile("tiny", "flow-sde@pid:2", size=(64, 64), output=tmp_path / "f.onnx", noise=noise)
    assert path.stat().st_size < fixed.stat().st_size + 20_000


def test_a_reduced_student_and_a_guided_teacher(tmp_path):
    words = "--backbone sdxl --type 2kto4k --target onnx --dtype float32"
    model = wholes.exported(tmp_path / "student", words, size="")
    path = compile(model, "heun@uniform:2", size="any", output=tmp_path / "s.onnx", output_type="float32")
    up = Upscaler.load(model, "cpu")
    for sides in ((16, 16), (19, 9)):
        image = picture(*sides)
        np.testing.assert_allclose(
            evaluated(path, image, sides), looped(up, "heun@uniform:2", image), rtol=0, atol=1e-5
        )
    words = "--backbone flux --type 2kto4k_v1pt5_undistilled --target onnx --caption input"
    teacher = wholes.exported(tmp_path / "teacher", words, size="")
    asked = {"size": "any", "output": tmp_path / "t.onnx", "noise": "philox", "caption": "input", "guidance": 2.0}
    with pytest.raises(PidSamplerError, match="timesteps depend on the result's size: give one size, or timesteps"):
        compile(teacher, "dpmpp-2m", **asked)
    guided = WholeSampler(compile(teacher, "dpmpp-2m@uniform:2", **asked), "cpu")
    up = Upscaler.load(teacher, "cpu")
    caption = np.ones(up.model.contract.caption, np.float32)
    image = picture(11, 16)
    expected = up(image, "dpmpp-2m@uniform:2", caption=caption, guidance=2.0).array.astype(int)
    assert np.abs(guided(image, caption=caption).array - expected).max() <= 1


def test_latents_of_all_sizes(tmp_path):
    folder = tmp_path / "m"
    folder.mkdir()
    write_network(folder / "pid_upscaler.onnx")
    (folder / "pidsampler.json").write_text('{"vae_factor": 8}')
    path = compile(folder, "flow-sde@pid:2", size="any", output=tmp_path / "s.onnx", output_type="float32")
    assert [str(port).partition(":")[0] for port in (*described(path).inputs, *described(path).outputs)] == [
        "latent float32 [1, 4, latent_height, latent_width]",
        "degrade_sigma float32 [1]",
        "noise_0 float32 [1, 3, result_height, result_width]",
        "noise_1 float32 [1, 3, result_height, result_width]",
        "result float32 [1, 3, result_height, result_width]",
    ]
    up, sampler = Upscaler.load(folder, "cpu"), WholeSampler(path, "cpu")
    for shape in ((1, 4, 2, 3), (1, 4, 1, 1)):
        latent = np.random.default_rng(0).standard_normal(shape).astype(np.float32)
        found = evaluated(path, latent, (8 * shape[2], 8 * shape[3]))
        np.testing.assert_allclose(found, looped(up, "flow-sde@pid:2", latent), rtol=0, atol=1e-6)
        assert np.abs(sampler(latent).array.astype(int) - up(latent, "flow-sde@pid:2").array).max() <= 1
    with pytest.raises(PidSamplerError, match=r"takes latents of shape \(1, 4, latent_height, .*\(1, 5, 2, 2\)"):
        sampler(np.zeros((1, 5, 2, 2), np.float32))
    with pytest.raises(PidSamplerError, match="found a picture"):
        sampler(picture(8, 8))


def test_the_command(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    assert main(["compile", "tiny", "--size", "any", "--noise", "philox", "-o", "s.onnx"]) == 0
    assert "s.onnx: any size, 4 model calls" in capsys.readouterr().out
    photos = tmp_path / "photos"
    photos.mkdir()
    for sides in SIZES[:2]:
        Image.fromarray(picture(*sides)).save(photos / f"{sides[0]}.png")
    for model in ("tiny", "s.onnx"):
        assert main(["upscale", "photos", "--quiet", "-o", f"of-{model}", "--model", model, "--seed", "7"]) == 0
    for file in photos.iterdir():
        a, b = (np.asarray(Image.open(tmp_path / f"of-{model}" / file.name)) for model in ("tiny", "s.onnx"))
        assert np.abs(a.astype(int) - b).max() <= 1
    record = ps.read_record("of-s.onnx/5.png")
    assert (record["output"], record["graph"]["name"]) == ({"width": 84, "height": 20}, "s.onnx")
    capsys.readouterr()
    assert main(["inspect", "s.onnx"]) == 0
    assert "picture uint8 [height, width, 3]" in capsys.readouterr().out
    with pytest.raises(PidSamplerError, match="takes pictures, found a latent"):
        WholeSampler("s.onnx", "cpu")(np.zeros((1, 192, 2, 2), np.float32))


def test_what_cannot_be_of_any_size(tmp_path):
    words = "--backbone sdxl --type 2kto4k --target onnx"
    model = wholes.exported(tmp_path / "m", words)
    with pytest.raises(PidSamplerError, match=r"makes 64x64 at once, .*: pass that size, in place of 'any'"):
        compile(model, size="any", output=tmp_path / "s.onnx")
    with pytest.raises(PidSamplerError, match=r"size.*'an'.*any"):
        compile("tiny", size="an", output=tmp_path / "s.onnx")
    assert sampled_size("tiny", size="any") is None
    assert not (tmp_path / "s.onnx").exists()


def test_sizes_of_strangers(tmp_path):
    path = compile("tiny", "flow-ode@uniform:1", size="any", output=tmp_path / "s.onnx")
    model = onnx.load(path)
    said = {prop.key: prop.value for prop in model.metadata_props}
    facts = json.loads(said["pidsampler.sampler"])

    def refused(message, **changed):
        text = json.dumps({**facts, **changed})
        onnx.helper.set_model_props(model, {**said, "pidsampler.sampler": text})
        onnx.save(model, path)
        with pytest.raises(PidSamplerError, match=message):
            WholeSampler(path, "cpu")

    refused("vae_factor=0", vae_factor=0)
    refused("unknown shape 'heights'", inputs=[{**facts["inputs"][0], "shape": ["heights", "width", 3]}])
    refused("shape.*whole number", inputs=[{**facts["inputs"][0], "shape": [1.5, "width", 3]}])
    refused("its tensors are not those", inputs=[{**facts["inputs"][0], "shape": [16, 16, 3]}, *facts["inputs"][1:]])
    with pytest.raises(PidSamplerError, match=r"more than 2.40 elements"):
        described(compile("tiny", size="any", output=path, overwrite=True)).at(1 << 20, 1 << 20)
    with pytest.raises(PidSamplerError, match="is of any height, where one size was expected"):
        _ = described(path).inputs[0].sizes


def test_a_picture_of_two_axes(tmp_path):
    path = compile("tiny", "flow-ode@uniform:1", size=(4, 4), output=tmp_path / "s.onnx")
    said = {prop.key: prop.value for prop in onnx.load(path).metadata_props}
    facts = json.loads(said["pidsampler.sampler"])
    picture, sigma = {**facts["inputs"][0], "shape": [4, 4]}, facts["inputs"][1]
    facts |= {"inputs": [picture, sigma], "outputs": [{**facts["outputs"][0], "shape": [4, 4, 1]}]}
    helper, uint8 = onnx.helper, onnx.TensorProto.UINT8
    graph = helper.make_graph(
        [helper.make_node("Unsqueeze", ["picture", "axis"], ["result"])],
        "gray",
        [
            helper.make_tensor_value_info("picture", uint8, [4, 4]),
            helper.make_tensor_value_info("degrade_sigma", onnx.TensorProto.FLOAT, [1]),
        ],
        [helper.make_tensor_value_info("result", uint8, [4, 4, 1])],
        [onnx.numpy_helper.from_array(np.array([2]), "axis")],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    helper.set_model_props(model, {**said, "pidsampler.sampler": json.dumps(facts)})
    onnx.save(model, path)
    with pytest.raises(PidSamplerError, match=r"its input is picture uint8 \[4, 4\].*, which no whole sampler takes"):
        WholeSampler(path, "cpu")
