import json
import re
from pathlib import Path

import numpy as np
import onnx
import pytest
from models import write_encoder, write_model, write_network

from pidsampler import FlowODE, PidSamplerError, sample, timesteps
from pidsampler.backends import get_backend
from pidsampler.onnx import Model, bundled_models
from pidsampler.onnx.manifest import Manifest
from pidsampler.onnx.session import Session

BACKEND = get_backend("numpy")
IMAGE = np.random.default_rng(0).uniform(-1, 1, (1, 3, 16, 24)).astype(np.float32)
TABLE = FlowODE(timesteps.pid()).table()


def load(folder):
    return Model.load(folder, BACKEND)


def block_means(image, factor=8):
    b, c, h, w = image.shape
    return image.reshape(b, c, h // factor, factor, w // factor, factor).mean((3, 5))


def enlarged(latent, times=32):
    return latent.repeat(times, 2).repeat(times, 3)


@pytest.mark.parametrize(
    ("options", "tolerance"),
    [
        ({}, 1e-5),
        ({"kind": "float16"}, 2e-3),
        ({"kind": "bfloat16"}, 3e-2),
        ({"encoder": {"kind": "float32", "latent_kind": "float16"}}, 1e-3),
        ({"size": (16, 24)}, 1e-5),
        ({"external": True}, 1e-5),
        ({"scalar_shape": ()}, 1e-5),
        ({"scalar_shape": ("n",)}, 1e-5),
        ({"t_kind": "int64"}, 1e-5),
        ({"symbolic": True}, 1e-5),
        ({"channels": 16, "factor": 16, "scale": 2}, 1e-5),
        ({"prediction": "x0", "manifest": {"prediction": "x0"}}, 1e-5),
    ],
    ids=str,
)
def test_every_kind_of_folder_gives_the_known_answer(tmp_path, options, tolerance):
    """x0 = mean of the latent's block, enlarged, plus sigma, at any t: so the result is that, whatever the table."""
    factor, scale = options.get("factor", 8), options.get("scale", 4)
    if scale != 4:
        options = {**options, "manifest": {"scale": scale}}
    image = np.zeros((1, 3, 16, 32), np.float32) if factor == 16 else IMAGE
    model = load(write_model(tmp_path / "m", **options))
    assert model.contract.vae_factor == factor
    assert model.contract.scale == scale
    latent = model.encode(image)
    assert latent.dtype == np.float32
    assert latent[:, :3] == pytest.approx(block_means(image, factor), abs=tolerance)
    table = TABLE.predicting(model.contract.prediction)
    shape = (1, 3, image.shape[2] * scale, image.shape[3] * scale)
    found = sample(model.denoiser(latent, 0.25), table, shape=shape, seed=1)
    assert found == pytest.approx(enlarged(block_means(image, factor) + 0.25, factor * scale), abs=2 * tolerance)


def test_onnxruntime_reads_and_writes_our_memory(tmp_path):
    """Addresses, not only values: no copy in, no copy out, and a changed input is seen without a new binding."""
    model = load(write_model(tmp_path))
    denoiser = model.denoiser(model.encode(IMAGE), 0.0)
    x, out = np.ones((1, 3, 64, 96), np.float32), np.full((1, 3, 64, 96), np.nan, np.float32)
    denoiser.predict(x, 0.5, out)
    first = out.copy()
    (v_pred,) = denoiser._at.binding._binding.get_outputs()
    assert v_pred.data_ptr() == out.ctypes.data
    assert np.isfinite(first).all()
    x += 1.0
    denoiser._at.binding.run()  # nothing bound again: it must read x where x lies
    assert out == pytest.approx(first + 1.0 / 0.5, abs=1e-5)
    latent = denoiser._at.binding._held["lq_latent"]
    latent += 0.5
    denoiser._at.binding.run()
    assert out == pytest.approx(first + (1.0 - 0.5) / 0.5, abs=1e-5)


def test_the_binding_keeps_its_memory_alive(tmp_path):
    model = load(write_model(tmp_path))
    binding = model.encoder.bind()
    binding.input("picture", IMAGE.copy())  # no other reference to either array
    binding.output("z", np.full((1, 4, 2, 3), np.nan, np.float32))
    for _ in range(100):
        np.full(IMAGE.shape, 7.0, np.float32)  # would take the place of freed memory
    binding.run()
    assert binding._held["z"][:, :3] == pytest.approx(block_means(IMAGE), abs=1e-6)


def test_only_other_element_types_are_staged(tmp_path):
    single = load(write_model(tmp_path / "32"))
    half = load(write_model(tmp_path / "16", kind="float16"))
    x, out = np.ones((2, 3, 64, 96), np.float32), np.empty((2, 3, 64, 96), np.float32)
    for model, staged in ((single, set()), (half, {"x", "v_pred"})):
        denoiser = model.denoiser(model.encode(IMAGE), 0.0)
        denoiser.predict(x, 0.5, out)
        assert set(denoiser._at._staged) == staged
        before = {name: array.ctypes.data for name, array in denoiser._at._staged.items()}
        denoiser.predict(x, 0.25, out)
        assert {name: array.ctypes.data for name, array in denoiser._at._staged.items()} == before


def test_a_batch_passes_image_by_image(tmp_path):
    model = load(write_model(tmp_path))
    denoiser = model.denoiser(model.encode(IMAGE), 0.0)
    batch = sample(denoiser, TABLE, shape=(3, 3, 64, 96), seed=[5, 6, 7])
    alone = sample(denoiser, TABLE, shape=(1, 3, 64, 96), seed=[6])
    assert np.array_equal(batch[1], alone[0])


def test_int64_times_are_rounded(tmp_path):
    model = load(write_model(tmp_path, t_kind="int64"))
    denoiser = model.denoiser(model.encode(IMAGE), 0.0)
    out = np.empty((1, 3, 64, 96), np.float32)
    denoiser.predict(np.zeros_like(out), 0.5678, out)
    assert denoiser._at.time.tolist() == [568]


def test_contract_without_a_manifest_comes_from_the_graphs(tmp_path):
    dynamic = load(write_model(tmp_path / "sdxl-like")).contract
    assert dynamic.name == "sdxl-like"
    assert (dynamic.scale, dynamic.vae_factor, dynamic.latent_channels) == (4, 8, 4)
    assert (dynamic.noise_frame, dynamic.prediction, dynamic.timescale) == ("vp", "velocity", 1000.0)
    assert dynamic.timesteps == (0.999, 0.866, 0.634, 0.342, 0.0)
    assert dynamic.fixed_size is None
    fixed = load(write_model(tmp_path / "fixed", size=(32, 64), channels=16, factor=16, scale=8)).contract
    assert (fixed.scale, fixed.vae_factor, fixed.latent_channels) == (8, 16, 16)
    assert fixed.noise_frame == "flow"
    assert fixed.fixed_size == (32, 64)


def test_contract_with_a_manifest(tmp_path):
    manifest = {
        "name": "mine",
        "description": "a test",
        "licence": "CC0-1.0",
        "prediction": "eps",
        "timescale": 1,
        "timesteps": [0.9, 0.5, 0],
        "noise_frame": "flow",
        "scale": 2,
        "vae_factor": 8,
    }
    contract = load(write_model(tmp_path, manifest, scale=2)).contract
    assert contract.timesteps == (0.9, 0.5, 0.0)
    assert contract.license == "CC0-1.0"
    for key, value in manifest.items():
        if key not in ("timesteps", "licence"):
            assert getattr(contract, key) == value


def test_the_licence_may_be_spelled_in_two_ways(tmp_path):
    contract = load(write_model(tmp_path / "m", {"license": "CC0-1.0"})).contract
    assert contract.license == "CC0-1.0"
    with pytest.warns(DeprecationWarning, match="licence of Contract is called license now"):
        assert contract.licence == "CC0-1.0"
    with pytest.warns(DeprecationWarning, match="licence of Manifest is called license now"):
        manifest = Manifest(licence="CC0-1.0")
    assert manifest.to_dict() == {"licence": "CC0-1.0"}
    with pytest.warns(DeprecationWarning, match="licence of Manifest is called license now"):
        assert manifest.licence == "CC0-1.0"
    with pytest.raises(PidSamplerError, match="has both licence and license: leave one out"):
        load(write_model(tmp_path / "twice", {"license": "a", "licence": "a"}))


def test_the_public_sdxl_exports_shapes(tmp_path):
    """1x3x1024x1024 -> 1x4x128x128, x 1x3x4096x4096, t [1], degrade_sigma [1], no manifest, external data."""
    contract = load(write_model(tmp_path, size=(1024, 1024), external=True)).contract
    assert (contract.scale, contract.vae_factor, contract.latent_channels) == (4, 8, 4)
    assert (contract.noise_frame, contract.fixed_size) == ("vp", (1024, 1024))
    assert contract.padded_size(600, 800) == (1024, 1024)


def test_padded_sizes(tmp_path):
    dynamic = load(write_model(tmp_path / "dynamic")).contract
    assert [dynamic.padded_size(h, w) for h, w in [(1, 1), (8, 16), (9, 17)]] == [(8, 8), (8, 16), (16, 24)]
    fixed = load(write_model(tmp_path / "fixed", size=(32, 64))).contract
    assert fixed.padded_size(1, 64) == (32, 64)
    assert fixed.padded_size(33, 65) == (40, 72)


def test_hashes_cover_external_data_and_nothing_else(tmp_path):
    folder = write_model(tmp_path, {"name": "x"}, external=True)
    (folder / "notes.txt").write_text("not part of the model")
    hashes = load(folder).hashes
    names = ["pid_upscaler.onnx", "pid_upscaler.onnx.data", "pidsampler.json", "vae_encoder.onnx"]
    assert sorted(hashes) == names
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in hashes.values())
    data = folder / "pid_upscaler.onnx.data"
    data.write_bytes(bytes(len(data.read_bytes())))
    assert load(folder).hashes["pid_upscaler.onnx.data"] != hashes["pid_upscaler.onnx.data"]


def rewrite(path, change):
    model = onnx.load(path)
    change(model.graph)
    onnx.save(model, path)


def broken(tmp_path, change, **options):
    folder = write_model(tmp_path / "m", **options)
    change(folder)
    return folder


def reshape(path, name):
    """Declare a tensor with five axes."""

    def change(graph):
        for value in [*graph.input, *graph.output]:
            if value.name == name:
                value.type.tensor_type.shape.dim.add().dim_value = 1
        if name == "z":
            node = next(n for n in graph.node if n.output[0] == "z")
            node.output[0] = "z4"
            graph.initializer.append(onnx.numpy_helper.from_array(np.array([4]), "last"))
            graph.node.append(onnx.helper.make_node("Unsqueeze", ["z4", "last"], ["z"]))
        else:
            for node in graph.node:
                node.input[:] = ["squeezed" if i == name else i for i in node.input]
            graph.initializer.append(onnx.numpy_helper.from_array(np.array([4]), "last"))
            graph.node.insert(0, onnx.helper.make_node("Squeeze", [name, "last"], ["squeezed"]))

    rewrite(path, change)


def int_sigma(folder):
    def change(graph):
        graph.input[3].type.tensor_type.elem_type = onnx.TensorProto.INT64

    rewrite(folder / "pid_upscaler.onnx", change)


def mixed_sizes(folder):
    def make_dynamic(graph):
        for value in [*graph.input, *graph.output]:
            if len(value.type.tensor_type.shape.dim) == 4:
                value.type.tensor_type.shape.dim[3].dim_param = f"{value.name}_width"

    for path in folder.glob("*.onnx"):
        rewrite(path, make_dynamic)


def nothing(folder):
    pass


DATA = "pid_upscaler.onnx.data"


def outside(folder, place):
    """Make the network's data lie beside the folder, and name them so."""
    data = folder / DATA
    moved = folder.parent / data.name
    data.rename(moved)
    if "/" not in place:
        (folder / place).symlink_to(moved)
    graph = onnx.load(folder / "pid_upscaler.onnx", load_external_data=False)
    for weight in graph.graph.initializer:
        for entry in weight.external_data:
            if entry.key == "location":
                entry.value = place
    (folder / "pid_upscaler.onnx").write_bytes(graph.SerializeToString())


BAD_FOLDERS = {
    "no graphs": (lambda f: [p.unlink() for p in f.iterdir()], {}, "has no vae_encoder.onnx and no pid_upscaler.onnx"),
    "no network": (lambda f: (f / "pid_upscaler.onnx").unlink(), {}, "m has no pid_upscaler.onnx: a model folder"),
    "not a graph": (lambda f: (f / "pid_upscaler.onnx").write_bytes(b"version https"), {}, "is not an ONNX graph"),
    "empty": (lambda f: (f / "vae_encoder.onnx").write_bytes(b""), {}, "is not an ONNX graph"),
    "external": (
        lambda f: (f / "pid_upscaler.onnx.data").unlink(),
        {"external": True},
        r"its external data file 'pid_upscaler\.onnx\.data' is missing: put it beside pid_upscaler\.onnx",
    ),
    "a way out": (lambda f: outside(f, f"../{DATA}"), {"external": True}, "names external data outside"),
    "an absolute path": (lambda f: outside(f, str(f.parent / DATA)), {"external": True}, "names external data outside"),
    "a link": (lambda f: outside(f, "link.data"), {"external": True}, "names external data outside its own folder"),
    "input name": (nothing, {"rename": [("x", "sample")]}, "its inputs are sample float32 .* expected by name x, t, "),
    "axes": (nothing, {"scalar_shape": (2,)}, r"t float32 \[2\] expected a scalar or one number"),
    "two axes": (nothing, {"scalar_shape": (1, 1)}, "expected a scalar or one number"),
    "channels": (nothing, {"encoder": {"channels": 16}}, "lq_latent has 4 channels, but vae_encoder.onnx makes .* 16"),
    "sizes": (nothing, {"size": (32, 32), "encoder": {"size": (64, 32)}}, "is not 16 times lq_latent"),
    "batch": (nothing, {"encoder": {"batch": 2}}, r"picture float32 \[2, 3, h, w\] is not an image"),
    "scale": (nothing, {"size": (32, 32), "manifest": {"scale": 8}}, "scale is 8, but the graphs' shapes say 4"),
    "factor": (nothing, {"manifest": {"vae_factor": 16}}, "vae_factor is 16, but the graphs' shapes say 8"),
    "half fixed": (mixed_sizes, {"size": (32, 32)}, "one of height and width is fixed and the other dynamic"),
    "three axes": (
        lambda f: reshape(f / "vae_encoder.onnx", "z"),
        {},
        r"its output is z float32 \[.*\], expected a lat",
    ),
    "latent axes": (
        lambda f: reshape(f / "pid_upscaler.onnx", "lq_latent"),
        {},
        "lq_latent float32 .* expected 4 axes",
    ),
    "probe": (nothing, {"factor": 5}, r"an image of shape \(1, 3, 64, 64\) became z of shape \(1, 4, 12, 12\)"),
    "int sigma": (int_sigma, {}, r"degrade_sigma int64 \[1\] expected a floating type"),
    "key": (nothing, {"manifest": {"scales": 4}}, "unknown key 'scales': did you mean 'scale'"),
    "value": (nothing, {"manifest": {"scale": 0}}, "scale is 0, expected a whole number in 1..64"),
    "bool": (nothing, {"manifest": {"scale": True}}, "scale is True, expected a whole number"),
    "text": (nothing, {"manifest": {"name": 3}}, "name is 3, expected a text"),
    "frame": (nothing, {"manifest": {"noise_frame": "ve"}}, "noise_frame is 've', expected one of flow, vp"),
    "timescale": (nothing, {"manifest": {"timescale": -1}}, "timescale is -1, expected a number above 0"),
    "times": (nothing, {"manifest": {"timesteps": [0.5, 0.7, 0]}}, r"json: timestep 0\.7 at position 1 ascends"),
    "list": (nothing, {"manifest": []}, "holds a list, expected an object"),
    "json": (lambda f: (f / "pidsampler.json").write_text("{"), {}, "cannot be read as JSON"),
}


@pytest.mark.parametrize("name", BAD_FOLDERS)
def test_refuses_a_folder_that_breaks_the_contract(tmp_path, name):
    change, options, message = BAD_FOLDERS[name]
    folder = broken(tmp_path, change, **options)
    with pytest.raises(PidSamplerError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_refuses_other_graphs_in_the_two_places(tmp_path):
    write_network(tmp_path / "vae_encoder.onnx")
    write_network(tmp_path / "pid_upscaler.onnx")
    with pytest.raises(PidSamplerError, match="it has 4 inputs and 1 outputs, expected one image in and one latent"):
        load(tmp_path)
    write_encoder(tmp_path / "vae_encoder.onnx")
    write_encoder(tmp_path / "pid_upscaler.onnx")
    with pytest.raises(PidSamplerError, match=r"its inputs are picture float32 .*expected by name"):
        load(tmp_path)


def test_refuses_several_outputs_and_odd_types(tmp_path):
    folder = write_model(tmp_path)
    extra = onnx.helper.make_tensor_value_info("mu", onnx.TensorProto.FLOAT, None)
    rewrite(folder / "pid_upscaler.onnx", lambda graph: graph.output.append(extra))
    with pytest.raises(PidSamplerError, match="its outputs are v_pred, mu; expected one, like x"):
        load(folder)
    write_network(folder / "pid_upscaler.onnx")

    def to_int32(graph):
        graph.input[1].type.tensor_type.elem_type = onnx.TensorProto.INT32

    rewrite(folder / "pid_upscaler.onnx", to_int32)
    with pytest.raises(PidSamplerError, match=r"'t' is a tensor\(int32\), expected one of tensor\(float\)"):
        load(folder)


def test_a_graph_whose_scale_is_not_the_stated_one_fails_with_the_shapes(tmp_path):
    """Dynamic shapes cannot show it before the first run; nothing must come out as if it had worked."""
    for k, prediction in enumerate(("velocity", "x0")):
        model = load(write_model(tmp_path / str(k), {"prediction": prediction}, output_scale=2, prediction=prediction))
        denoiser = model.denoiser(model.encode(IMAGE), 0.0)
        with pytest.raises(PidSamplerError, match=r"failed to run: .*x \(1, 3, 64, 96\)"):
            sample(denoiser, TABLE, shape=(1, 3, 64, 96))


def test_nan_latent(tmp_path):
    model = load(write_model(tmp_path, encoder={"gain": np.nan}))
    with pytest.raises(PidSamplerError, match="gave a latent with NaN or infinity: an fp16 VAE overflows"):
        model.encode(IMAGE)


def test_check_latent(tmp_path):
    model = load(write_model(tmp_path / "any"))
    model.check_latent(np.zeros((1, 4, 3, 5), np.float32))
    for shape in [(1, 16, 3, 5), (2, 4, 3, 5), (4, 3, 5), (1, 4, 0, 5)]:
        with pytest.raises(PidSamplerError, match=r"but any takes \(1, 4, height, width\)"):
            model.check_latent(np.zeros(shape, np.float32))
    with pytest.raises(PidSamplerError, match="latent holds NaN"):
        model.check_latent(np.full((1, 4, 3, 5), np.nan, np.float32))
    fixed = load(write_model(tmp_path / "fixed", size=(32, 64)))
    fixed.check_latent(np.zeros((1, 4, 4, 9), np.float32))
    with pytest.raises(PidSamplerError, match=r"takes \(4, 8\) at least"):
        fixed.check_latent(np.zeros((1, 4, 5, 7), np.float32))


def test_no_such_model():
    with pytest.raises(PidSamplerError, match=r"no model 'tiney'.*one of tiny, tiny-teacher, gaussian"):
        load("tiney")


def test_an_array_that_is_not_contiguous_cannot_be_bound(tmp_path):
    binding = load(write_model(tmp_path)).encoder.bind()
    with pytest.raises(PidSamplerError, match="not contiguous"):
        binding.input("picture", IMAGE[..., ::2])


def test_a_missing_onnxruntime_names_the_extra(monkeypatch, tmp_path):
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(PidSamplerError, match=r"onnxruntime is not installed: pip install 'pidsampler\[cpu\]'"):
        Session(tmp_path / "any.onnx", BACKEND)


def test_another_provider_than_asked_for_is_an_error(monkeypatch, tmp_path):
    import onnxruntime

    write_encoder(tmp_path / "vae_encoder.onnx")
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: ["OtherProvider"])
    with pytest.raises(PidSamplerError, match="asked for CPUExecutionProvider, but onnxruntime took Other"):
        Session(tmp_path / "vae_encoder.onnx", BACKEND)


def test_the_bundled_model_is_what_its_script_builds(tmp_path, repository, load_script):
    load_script("examples/build_gaussian_model.py").main(tmp_path)
    bundled = load("gaussian").path
    assert json.loads((tmp_path / "pidsampler.json").read_text()) == json.loads(
        (bundled / "pidsampler.json").read_text()
    )
    latent = np.random.default_rng(1).normal(size=(1, 192, 3, 4)).astype(np.float32)
    x = np.random.default_rng(2).normal(size=(1, 3, 96, 128)).astype(np.float32)
    outs = [np.empty_like(x), np.empty_like(x)]
    for model, out in zip((load(tmp_path), load("gaussian")), outs, strict=True):
        model.denoiser(latent, 0.3).predict(x, 0.7, out)
    assert np.array_equal(*outs)


def test_bundled_models_are_small_and_say_what_they_are():
    for name, manifest in bundled_models().items():
        assert manifest.license
        assert manifest.description
        folder = load(name).path
        assert sum(path.stat().st_size for path in Path(folder).iterdir()) < 8_000_000


@pytest.mark.parametrize("sigma", [0.0, 0.3, 1.0])
@pytest.mark.parametrize("t", [0.999, 0.5, 0.1])
def test_the_bundled_model_is_its_formula(load_script, sigma, t):
    """The graph against the docstring of its script, evaluated in float64 by other means (Pillow's bicubic filter)."""
    from PIL import Image

    script = load_script("examples/build_gaussian_model.py")
    model = load("gaussian")
    rng = np.random.default_rng(3)
    latent = rng.normal(size=(1, 192, 4, 5)).astype(np.float32)
    x = rng.normal(size=(1, 3, 128, 160)).astype(np.float32)
    found = np.full_like(x, np.nan)
    model.denoiser(latent, sigma).predict(x, t, found)

    tau2 = script.prior_variances()
    spread = (1 - sigma) ** 2 * tau2 + sigma**2
    z = latent[0] * ((1 - sigma) * tau2 / spread)[:, None, None]
    blocks = np.einsum("ckhw,kij->chiwj", z.reshape(3, 64, 4, 5), script.dct_basis()) / script.LATENT_GAIN
    small = blocks.reshape(3, 32, 40)
    mu = np.stack(
        [np.asarray(Image.fromarray(p.astype(np.float32)).resize((160, 128), Image.Resampling.BICUBIC)) for p in small]
    )
    variance = script.STD**2 + np.mean(tau2 * sigma**2 / spread) / script.LATENT_GAIN**2
    d = (1 - t) ** 2 * variance + t**2
    expected = (t - (1 - t) * variance) / d * (x[0] - (1 - t) * mu) - mu
    inside = (slice(None), slice(8, -8), slice(8, -8))  # at the border Pillow renormalizes its weights
    np.testing.assert_allclose(found[0][inside], expected[inside], rtol=2e-5, atol=2e-5)


def test_the_bundled_encoder_loses_nothing():
    model = load("gaussian")
    latent = model.encode(IMAGE)
    assert latent.shape == (1, 192, 2, 3)
    out = np.empty((1, 3, 64, 96), np.float32)
    x = sample(model.denoiser(latent, 0.0), FlowODE([1.0, 0.0]), shape=out.shape)
    reduced = x.reshape(1, 3, 16, 4, 24, 4).mean((3, 5))
    assert np.corrcoef(reduced.ravel(), IMAGE.ravel())[0, 1] > 0.9
