"""Encoders as graphs against diffusers' modules with the same weights; see parity/vae_numbers.py for the numbers.

Errors are relative to the largest value. The stored numbers are of float64; PyTorch's own modules are up to 1e-6 off
them in float32.
"""

import json
import re
from dataclasses import replace

import ml_dtypes
import numpy as np
import onnx
import onnxruntime
import pytest
from models import write_model
from paths import PARITY

from pidsampler import PidSamplerError, noise
from pidsampler.backends import get_backend
from pidsampler.export import vae
from pidsampler.export.build import TYPES
from pidsampler.export.tensors import Stored
from pidsampler.export.vae import ENCODERS, build_encoder, canonical, encoder_shapes, random_encoder
from pidsampler.onnx import Model

DATA = json.loads((PARITY / "vae.json").read_text())
SEED = DATA["seed"]
IMAGE = np.clip(noise.normal(SEED, 0, DATA["image"]) / 2, -1, 1)[None]
HEIGHT, WIDTH = DATA["image"][1:]
EVERY = pytest.mark.parametrize("name", list(ENCODERS))


def narrow(name):
    sizes = {key: tuple(v) if isinstance(v, list) else v for key, v in DATA["encoders"][name]["narrow"].items()}
    return replace(ENCODERS[name], **sizes)


def opened(graph, folder):
    """Return the graph as a function, image -> latent, from its file."""
    path = folder / "vae_encoder.onnx"
    graph.save(path)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])
    return lambda image: session.run(["latent"], {"image": image})[0]


def run(graph, folder, image=IMAGE):
    return opened(graph, folder)(image)


def error(found, expected):
    assert found.shape == expected.shape
    return np.abs(found - expected).max() / np.abs(expected).max()


def stored(name):
    return np.array(DATA["encoders"][name]["latent"]).reshape(DATA["encoders"][name]["shape"])


# diffusers' names -> the LDM's: NVIDIA's, BFL's, ComfyUI's
LDM = {
    r"down_blocks\.(\d)\.resnets": r"down.\1.block",
    r"down_blocks\.(\d)\.downsamplers\.0": r"down.\1.downsample",
    r"mid_block\.resnets\.0": "mid.block_1",
    r"mid_block\.resnets\.1": "mid.block_2",
    r"mid_block\.attentions\.0\.group_norm": "mid.attn_1.norm",
    r"mid_block\.attentions\.0\.to_out\.0": "mid.attn_1.proj_out",
    r"mid_block\.attentions\.0\.to_": "mid.attn_1.",
    "conv_shortcut": "nin_shortcut",
    "conv_norm_out": "norm_out",
}
WAN = {
    r"^quant_conv": "conv1",
    r"encoder\.conv_in": "encoder.conv1",
    r"(down_blocks\.\d+|resnets\.\d)\.norm1": r"\1.residual.0",
    r"(down_blocks\.\d+|resnets\.\d)\.conv1": r"\1.residual.2",
    r"(down_blocks\.\d+|resnets\.\d)\.norm2": r"\1.residual.3",
    r"(down_blocks\.\d+|resnets\.\d)\.conv2": r"\1.residual.6",
    "conv_shortcut": "shortcut",
    "down_blocks": "downsamples",
    r"mid_block\.resnets\.0": "middle.0",
    r"mid_block\.attentions\.0": "middle.1",
    r"mid_block\.resnets\.1": "middle.2",
    "norm_out": "head.0",
    "conv_out": "head.2",
}


def renamed(tensors, names):
    found = {}
    for name, tensor in tensors.items():
        for pattern, new in names.items():
            name = re.sub(pattern, new, name)
        found[name] = tensor
    return found


def shaped(tensor, shape):
    return Stored.of(tensor.load().reshape(shape))


def with_decoder(tensors):
    """Add what a whole file holds besides."""
    other = Stored.of(np.zeros((3, 3), np.float32))
    return {**tensors, "decoder.conv_in.weight": other, "decoder.up.0.block.0.conv1.weight": other}


def ldm(encoder, tensors):
    found = renamed(tensors, LDM)
    for name, tensor in found.items():
        if re.search(r"attn_1\.\w+\.weight", name) and len(tensor.shape) == 2:
            found[name] = shaped(tensor, (*tensor.shape, 1, 1))
    if encoder.kind == "flux2":
        found = {re.sub("^quant_conv", "encoder.quant_conv", name): t for name, t in found.items()}
        found["bn.num_batches_tracked"] = Stored.of(np.array(7))
        found["decoder.post_quant_conv.weight"] = found["encoder.quant_conv.weight"]
    return with_decoder(found)


def in_a_larger_file(encoder, tensors):
    """As first_stage_model in a checkpoint of the whole diffusion model."""
    inside = {f"first_stage_model.{name}": tensor for name, tensor in ldm(encoder, tensors).items()}
    return {"model.diffusion_model.out.2.weight": Stored.of(np.zeros((4, 4), np.float32)), **inside}


def old_diffusers(encoder, tensors):
    names = {"to_q": "query", "to_k": "key", "to_v": "value", r"to_out\.0": "proj_attn"}
    return with_decoder(renamed(tensors, names))


def wan_2d(encoder, tensors):
    """As in NVIDIA's QwenImage_VAE_2d.pth."""
    return with_decoder({**renamed(tensors, WAN), "conv2.weight": Stored.of(np.zeros((2, 2, 1, 1), np.float32))})


def in_3d(encoder, tensors):
    """As diffusers' causal network: kernels of three slices, of which one frame meets the last."""
    found = {}
    for name, tensor in tensors.items():
        array = tensor.load()
        if name.endswith("gamma") and "attentions" not in name:
            array = array[..., None]
        elif array.ndim == 4 and not re.search("resample|attentions", name):
            slices = [array] if array.shape[-1] == 1 else [np.full_like(array, 9)] * 2 + [array]
            array = np.stack(slices, 2)
        found[name] = Stored.of(array)
    found["encoder.down_blocks.5.time_conv.weight"] = Stored.of(np.zeros((2, 2, 3, 1, 1), np.float32))
    return with_decoder(found)


def wan_3d(encoder, tensors):
    """As in Wan's own files and ComfyUI's."""
    return {f"vae.{name}": tensor for name, tensor in renamed(in_3d(encoder, tensors), WAN).items()}


LAYOUTS = [
    *((name, layout) for name in ("sdxl", "flux", "sd3", "flux2") for layout in (ldm, in_a_larger_file, old_diffusers)),
    *(("qwenimage", layout) for layout in (wan_2d, in_3d, wan_3d)),
]


@EVERY
@pytest.mark.parametrize("size", [(None, None), (HEIGHT, WIDTH)], ids=["dynamic", "fixed"])
def test_latents_are_diffusers_and_graphs_pass_the_checker(tmp_path, name, size):
    encoder = narrow(name)
    height, width = size
    found = run(build_encoder(encoder, random_encoder(encoder, SEED), height=height, width=width), tmp_path)
    assert found.dtype == np.float32
    assert error(found, stored(name)) < 1e-5
    path = tmp_path / "vae_encoder.onnx"
    onnx.checker.check_model(path, full_check=True)
    model = onnx.shape_inference.infer_shapes(onnx.load(path), check_type=True, strict_mode=True, data_prop=True)
    assert {o.domain: o.version for o in model.opset_import} == {"": 20}
    assert axes(model.graph.input) == {"image": [1, 3, height or "height", width or "width"]}
    small = [n // encoder.factor if n else f"latent_{s}" for n, s in zip(size, ("height", "width"), strict=True)]
    assert axes(model.graph.output) == {"latent": [1, encoder.channels, *small]}
    if height:
        assert [name for name, shape in axes(model.graph.value_info).items() if not all(shape)] == []


def axes(values):
    return {v.name: [d.dim_value or d.dim_param for d in v.type.tensor_type.shape.dim] for v in values}


@pytest.mark.parametrize(("name", "layout"), LAYOUTS, ids=lambda v: getattr(v, "__name__", v))
def test_every_layout_gives_the_same_tensors(name, layout):
    encoder = narrow(name)
    tensors = random_encoder(encoder, SEED)
    found = canonical(layout(encoder, tensors), encoder)
    assert list(found) == list(encoder_shapes(encoder))
    for key, tensor in found.items():
        assert tensor.load().shape == tensor.shape
        assert np.array_equal(tensor.load(), tensors[key].load()), key


@pytest.mark.parametrize(("name", "layout"), [("flux2", ldm), ("qwenimage", wan_3d)])
def test_every_layout_gives_the_same_latent(tmp_path, name, layout):
    encoder = narrow(name)
    tensors = random_encoder(encoder, SEED)
    found = run(build_encoder(encoder, canonical(layout(encoder, tensors), encoder)), tmp_path)
    assert np.array_equal(found, run(build_encoder(encoder, canonical(tensors, encoder)), tmp_path))


@pytest.mark.parametrize("dtype", [np.float16, ml_dtypes.bfloat16])
def test_weights_of_half_precision_become_float32(tmp_path, dtype):
    encoder = narrow("flux2")
    halves = {name: t.load().astype(dtype) for name, t in random_encoder(encoder, SEED).items()}
    found = run(build_encoder(encoder, {name: Stored.of(array) for name, array in halves.items()}), tmp_path)
    whole = {name: Stored.of(array.astype(np.float32)) for name, array in halves.items()}
    assert np.array_equal(found, run(build_encoder(encoder, whole), tmp_path))


@EVERY
def test_a_dynamic_graph_takes_every_multiple_of_the_factor(tmp_path, name):
    encoder = narrow(name)
    tensors = random_encoder(encoder, SEED)
    encode = opened(build_encoder(encoder, tensors), tmp_path)
    for height, width in ((16, 16), (64, 32), (16, 80)):
        image = np.clip(noise.normal(1, 0, (3, height, width)), -1, 1)[None]
        found = encode(image)
        assert found.shape == (1, encoder.channels, height // encoder.factor, width // encoder.factor)
    assert error(found, run(build_encoder(encoder, tensors, height=height, width=width), tmp_path, image)) < 1e-5


@pytest.mark.parametrize("scores", [24 * 24 - 1, 24 * 7, 1])
def test_attention_in_parts_is_the_same(tmp_path, monkeypatch, scores):
    """The image has 24 latent pixels: all but one at once, 7 at a time, one at a time."""
    monkeypatch.setattr(vae, "_SCORES", scores)
    encoder = narrow("sd3")
    found = run(build_encoder(encoder, random_encoder(encoder, SEED), height=HEIGHT, width=WIDTH), tmp_path)
    assert error(found, stored("sd3")) < 1e-5


def test_group_norms_of_large_images_keep_their_accuracy(tmp_path):
    """ONNX Runtime's own group and instance norms sum four million floats in one go, and are 8e-5 off."""
    encoder = replace(ENCODERS["sdxl"], widths=(4, 4), groups=1)
    norm, float32 = "encoder.conv_norm_out", TYPES["float32"]
    tensors = random_encoder(encoder, SEED)
    builder = vae._Builder(encoder, tensors, None, None)
    x = builder.g.input("image", float32, shape=(1, 4, "height", "width"))
    builder.g.output("latent", builder._group_norm(norm, x), dtype=float32, shape=(1, 4, "height", "width"))
    image = np.random.default_rng(0).standard_normal((1, 4, 1024, 1024), np.float32) + np.float32(2)
    whole = image.astype(np.float64)
    whole = (whole - whole.mean()) / np.sqrt(whole.var() + 1e-6)
    weight, bias = (tensors[f"{norm}.{part}"].load().reshape(-1, 1, 1) for part in ("weight", "bias"))
    assert error(run(builder.g, tmp_path, image), whole * weight + bias) < 1e-6


def test_a_model_folder_takes_the_encoder(tmp_path):
    folder = write_model(tmp_path / "m")
    encoder = narrow("sdxl")
    build_encoder(encoder, random_encoder(encoder, SEED)).save(folder / "vae_encoder.onnx")
    model = Model.load(folder, get_backend("numpy"))
    assert (model.contract.vae_factor, model.contract.latent_channels) == (8, 4)
    assert error(model.encode(IMAGE), stored("sdxl")) < 1e-5


@EVERY
def test_true_sizes(name):
    encoder = ENCODERS[name]
    channels, factor, count, weights = {
        "sdxl": (4, 8, 108, 34_163_664),
        "flux": (16, 8, 106, 34_274_208),
        "sd3": (16, 8, 106, 34_274_208),
        "flux2": (128, 16, 110, 34_426_112),
        "qwenimage": (16, 8, 82, 19_307_648),
    }[name]
    shapes = encoder_shapes(encoder)
    assert (encoder.channels, encoder.factor, len(shapes)) == (channels, factor, count)
    assert sum(int(np.prod(shape)) for shape in shapes.values()) == weights


@pytest.mark.parametrize("size", [(None, 32), (32, None), (0, 32), (32, 12), (-8, 32)], ids=str)
def test_sizes_that_do_not_fit_are_refused(size):
    encoder = narrow("flux")
    with pytest.raises(PidSamplerError, match=r"give both, or neither|must be multiples of 8"):
        build_encoder(encoder, random_encoder(encoder, SEED), height=size[0], width=size[1])


def test_all_that_is_wrong_with_a_checkpoint_is_said_at_once():
    encoder = narrow("sdxl")
    tensors = random_encoder(encoder, SEED)
    del tensors["quant_conv.bias"], tensors["encoder.mid_block.attentions.0.to_q.weight"]
    tensors["encoder.conv_in.weight"] = Stored.of(np.zeros((16, 4, 3, 3), np.float32))
    tensors["encoder.extra.weight"] = Stored.of(np.zeros(5, np.float32))
    with pytest.raises(PidSamplerError) as caught:
        canonical(with_decoder(tensors), encoder, where="a.safetensors")
    message = str(caught.value)
    assert message.startswith("a.safetensors as VAE encoder 'sdxl': of 108 tensors expected, 2 missing (")
    assert "encoder.mid_block.attentions.0.to_q.weight [32, 32], quant_conv.bias [8]" in message
    assert "1 unexpected (encoder.extra.weight [5])" in message
    assert "1 of another shape (encoder.conv_in.weight [16, 4, 3, 3] instead of [16, 3, 3, 3])" in message
    assert "decoder" not in message
    with pytest.raises(PidSamplerError, match="2 missing"):
        build_encoder(encoder, tensors)


@pytest.mark.parametrize(("given", "taken"), [("flux", "sdxl"), ("flux2", "flux"), ("sd3", "qwenimage")])
def test_another_encoders_checkpoint_is_refused(given, taken):
    with pytest.raises(PidSamplerError, match=r"missing|unexpected"):
        canonical(ldm(narrow(given), random_encoder(narrow(given), SEED)), narrow(taken))


def test_a_tensor_under_two_names_is_refused():
    encoder = narrow("sd3")
    tensors = random_encoder(encoder, SEED)
    with pytest.raises(PidSamplerError, match=r"twice under different names: .*encoder\.mid_block\.resnets\.0\.conv1"):
        canonical({**tensors, **ldm(encoder, tensors)}, encoder)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"widths": (16, 20)}, "width 16 is no multiple of 32 groups; width 20"),
        ({"scale": (1.0, 2.0)}, "scale has 2 numbers for 4 channels"),
        ({"kind": "conv"}, "kind='conv' is none of kl, flux2, wan"),
    ],
)
def test_encoders_that_cannot_be_are_refused(change, said):
    with pytest.raises(PidSamplerError, match=said):
        replace(ENCODERS["sdxl"], **change)


def test_random_tensors_are_functions_of_seed_and_name():
    encoder = narrow("flux")
    first, again, other = (random_encoder(encoder, seed) for seed in (1, 1, 2))
    name = "encoder.conv_in.weight"
    assert np.array_equal(first[name].load(), again[name].load())
    assert not np.array_equal(first[name].load(), other[name].load())
    assert {key: tensor.shape for key, tensor in first.items()} == encoder_shapes(encoder)
    assert len({tensor.load().tobytes() for tensor in first.values()}) == len(first)
