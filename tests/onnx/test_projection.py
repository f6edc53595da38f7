"""Folders whose latent's projection is a graph of its own: it runs once for each picture, and the network reads it."""

import re
import shutil

import numpy as np
import onnx
import pytest
from fake_cuda import FakeCuda
from models import TYPES, write_model, write_split_model

from pidsampler import CudaOptions, PidSamplerError, Upscaler, sample, timesteps
from pidsampler.backends import get_backend
from pidsampler.cli import main
from pidsampler.onnx import Model, model
from pidsampler.onnx.session import Binding
from pidsampler.schedulers import FlowODE

BACKEND = get_backend("numpy")
RNG = np.random.default_rng(0)
PICTURE = np.linspace(0, 255, 14 * 21 * 3).reshape(14, 21, 3).astype(np.uint8)  # padded to 16x24: a latent of 2x3
LATENT = RNG.normal(size=(1, 4, 2, 3)).astype(np.float32)
NETWORK, PROJECTION = "pid_upscaler.onnx", "lq_projection.onnx"
needs_gcc = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to run the kernels with")


@pytest.fixture(name="cuda")
def _cuda(cupy, monkeypatch):
    return FakeCuda(cupy, monkeypatch)


def load(folder, options=None):
    return Model.load(folder, BACKEND, options=options)


def both(tmp_path, **options):
    return [write_split_model(tmp_path / name, whole=name == "whole", **options) for name in ("whole", "split")]


@pytest.mark.parametrize(
    ("options", "sigma"),
    [
        ({}, 0.0),
        ({}, 0.3),
        ({"kind": "float16"}, 0.2),
        ({"kind": "bfloat16"}, 0.2),
        ({"size": (16, 24)}, 0.0),
        ({"external": True}, 0.0),
        ({"channels": 16, "factor": 4, "scale": 2}, 0.1),
        ({"latent_kind": "float16"}, 0.0),
    ],
    ids=str,
)
def test_split_and_whole_give_the_same_picture(tmp_path, options, sigma):
    whole, split = both(tmp_path, **options)
    for folder in (whole, split):
        manifest = f'{{"scale": {options.get("scale", 4)}, "name": "same"}}'
        (folder / "pidsampler.json").write_text(manifest)
    assert load(whole).contract == load(split).contract
    for scheduler in ("flow-sde", "unipc@uniform:3", "heun@uniform:2"):
        pictures = [Upscaler.load(f, "cpu")(PICTURE, scheduler, seed=5, degrade_sigma=sigma) for f in (whole, split)]
        assert np.array_equal(*(picture.array for picture in pictures))
        assert np.ptp(pictures[0].array) > 100
    assert [PROJECTION in p.record["model"]["sha256"] for p in pictures] == [False, True]


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_split_and_whole_give_the_same_velocity(tmp_path, kind):
    """And the one that is known: x0 is the latent's first three channels, enlarged, plus sigma."""
    x = RNG.normal(size=(1, 3, 64, 96)).astype(np.float32)
    outs = [np.full_like(x, np.nan) for _ in range(2)]
    for folder, out in zip(both(tmp_path, kind=kind), outs, strict=True):
        load(folder).denoiser(LATENT, 0.25).predict(x, 0.5, out)
    assert np.array_equal(*outs)
    x0 = LATENT[:, :3].repeat(32, 2).repeat(32, 3) + 0.25
    tolerance = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 1e-1}[kind]
    assert outs[0] == pytest.approx((x - x0) / 0.5, abs=tolerance)


@pytest.mark.parametrize("steps", [1, 4, 9])
def test_the_projection_runs_once_a_picture_whatever_the_steps(tmp_path, runs, steps):
    """Where an axis is dynamic, once more for each new size of the latent: only a run tells how large features are."""
    up = Upscaler.load(write_split_model(tmp_path / "fixed", size=(16, 24)), "cpu")
    assert runs == []  # a contract of fixed sizes is read, not run
    for _ in range(3):
        up(PICTURE, f"euler@uniform:{steps}")
    assert runs == ["vae_encoder.onnx", PROJECTION, *[NETWORK] * steps] * 3
    up = Upscaler.load(write_split_model(tmp_path / "dynamic"), "cpu")
    for picture, new in [(PICTURE, 1), (PICTURE, 0), (PICTURE[:8], 1), (PICTURE, 0), (PICTURE[:7, :23], 0)]:
        runs.clear()
        up(picture, f"euler@uniform:{steps}")
        assert runs == ["vae_encoder.onnx", *[PROJECTION] * (1 + new), *[NETWORK] * steps]


def test_pictures_and_latents_of_many_sizes_with_one_upscaler(tmp_path):
    whole, split = (Upscaler.load(folder, "cpu") for folder in both(tmp_path))
    for height, width in [(1, 1), (16, 24), (24, 16), (33, 7), (16, 24), (1, 1)]:
        picture = RNG.integers(0, 256, (height, width, 3), np.uint8)
        assert np.array_equal(split(picture).array, whole(picture).array)
    for shape in [(4, 2, 3), (4, 3, 2), (4, 6, 1), (4, 2, 3)]:
        latent = RNG.normal(size=shape).astype(np.float32)
        assert np.array_equal(split(latent).array, whole(latent).array)


def test_the_network_reads_the_features_where_they_lie(tmp_path):
    """No copy: what changes in the arrays changes what the network sees, and the projection writes into them."""
    denoiser = load(write_split_model(tmp_path)).denoiser(LATENT, 0.0)
    features = denoiser._at.conditions
    assert {name: array.shape for name, array in features.items()} == {"lq_0": (1, 6, 3), "lq_pixel": (1, 64, 96, 3)}
    assert features["lq_0"].reshape(2, 3, 3) == pytest.approx(LATENT[0, :3].transpose(1, 2, 0))
    x, out = np.zeros((1, 3, 64, 96), np.float32), np.empty((1, 3, 64, 96), np.float32)
    denoiser.predict(x, 1.0, out)
    first = out.copy()
    features["lq_pixel"] += 0.5
    denoiser._at.binding.run()
    assert out == pytest.approx(first - 0.5, abs=1e-5)


def test_onnxruntime_keeps_no_memory_for_the_projection(tmp_path):
    """What finding the features' sizes took would stay as long as the session, as much as the features again."""
    sessions = load(write_split_model(tmp_path)).sessions
    assert [s._opened().get_session_options().enable_cpu_mem_arena for s in sessions] == [True, False, True]


def test_denoisers_beside_each_other_keep_their_own_features(tmp_path):
    model = load(write_split_model(tmp_path))
    one, other = (model.denoiser(latent, 0.0) for latent in (LATENT, -LATENT))
    table = FlowODE(timesteps.pid()).table()
    found = [sample(denoiser, table, shape=(1, 3, 64, 96), seed=1) for denoiser in (one, other, one)]
    assert np.array_equal(found[0], found[2])
    assert found[0] == pytest.approx(-found[1], abs=1e-4)


def test_the_contract_is_read_from_the_projection(tmp_path):
    dynamic = load(write_split_model(tmp_path / "d", channels=16)).contract
    assert (dynamic.latent_channels, dynamic.vae_factor, dynamic.noise_frame) == (16, 8, "flow")
    assert dynamic.fixed_size is None
    fixed = load(write_split_model(tmp_path / "f", size=(32, 64), scale=2)).contract
    assert (fixed.fixed_size, fixed.scale, fixed.vae_factor) == ((32, 64), 2, 8)


def test_a_projection_of_fixed_size_fixes_the_folder(tmp_path):
    """Though the other graphs are dynamic: pictures are padded to its size, and smaller latents refused."""
    up = Upscaler.load(write_split_model(tmp_path / "m", size=(32, 40), network_size=()), "cpu")
    assert up.model.contract.fixed_size == (32, 40)
    whole = Upscaler.load(write_split_model(tmp_path / "w", size=(32, 40), whole=True), "cpu")
    assert np.array_equal(up(PICTURE).array, whole(PICTURE).array)
    with pytest.raises(PidSamplerError, match=r"the latent is \(2, 3\) in size, but m takes \(4, 5\) at least"):
        up(np.zeros((4, 2, 3), np.float32))


def test_hashes_and_inspect_name_the_third_graph(tmp_path, capsys):
    folder = write_split_model(tmp_path / "m", external=True)
    (folder / "notes.txt").write_text("not part of the model")
    names = [PROJECTION, f"{PROJECTION}.data", NETWORK, f"{NETWORK}.data", "vae_encoder.onnx"]
    hashes = load(folder).hashes
    assert sorted(hashes) == names
    assert main(["inspect", str(folder)]) == 0
    out = capsys.readouterr().out
    for line in (
        f"{PROJECTION} in +lq_latent float32 [1, 4, latent_h, latent_w]",
        f"{PROJECTION} out +lq_0 float32 [1, tokens, 3]",
        f"{PROJECTION} out +lq_pixel float32 [1, pixel_h, pixel_w, 3]",
        f"{NETWORK} in +lq_0 float32 [1, tokens, 3]",
    ):
        assert re.search(re.escape(line).replace(r"\ \+", " +"), out)
    assert all(f"sha256 {name}" in out for name in names)
    data = folder / f"{PROJECTION}.data"
    data.write_bytes(bytes(len(data.read_bytes())))
    assert load(folder).hashes[data.name] != hashes[data.name]
    data.unlink()
    with pytest.raises(PidSamplerError, match=r"'lq_projection\.onnx\.data' is missing: put it beside lq_projection"):
        load(folder)


@needs_gcc
@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_on_cuda_as_on_the_cpu(cupy, cuda, tmp_path, kind):
    """Features are the card's arrays, all work is on one stream, and nothing is moved between the steps."""
    folder = write_split_model(tmp_path / "m", kind=kind)
    up = Upscaler.load(folder, "cuda")
    up(PICTURE)
    moved = []

    def on_step(run, m):
        moved.append([entry for entry in cupy.seen if entry in ("upload", "download", "allocation")])

    cupy.seen.clear()
    found = up(PICTURE, seed=3, degrade_sigma=0.2, on_step=on_step).array
    expected = Upscaler.load(folder, "cpu")(PICTURE, seed=3, degrade_sigma=0.2).array
    assert np.abs(found.astype(int) - expected).max() <= (1 if kind == "float32" else 8)
    # Where the features are rounded anyway, their layers may round too; no other graph may.
    assert [options["use_tf32"] for [(_, options)] in cuda.asked] == ["0", "0", "0" if kind == "float32" else "1"]
    assert {options["cudnn_conv_algo_search"] for [(_, options)] in cuda.asked} == {"EXHAUSTIVE"}
    assert all(entries == moved[0] for entries in moved)
    assert (cupy.seen.count("upload"), cupy.seen.count("download")) == (6, 2)  # the picture, seed, drift
    ours = get_backend("cupy").stream.ptr
    work = [entry for entry in cupy.seen if isinstance(entry, tuple) and entry[0] in ("launch", "network")]
    assert {entry[-1] for entry in work} == {ours}
    assert [entry[0] for entry in work].count("network") == 6  # encoder, projection and four steps
    features = up.bind(PICTURE).denoiser._at.conditions
    assert all(isinstance(array, cupy.ndarray) for array in features.values())


@needs_gcc
def test_a_replayed_cuda_graph_sees_new_features(cupy, cuda, tmp_path):
    """Sizes in turn, other pictures: each as without a graph, though the features stay at their addresses."""
    folder = write_split_model(tmp_path / "m")
    plain, replayed = (Upscaler.load(folder, "cuda", options=CudaOptions(cuda_graph=graph)) for graph in (False, True))
    addresses = {}
    for seed, size in enumerate([(6, 9), (6, 9), (16, 8), (6, 9), (16, 8)]):
        picture = RNG.integers(0, 256, (*size, 3), np.uint8)
        found, expected = (up(picture, seed=seed, degrade_sigma=0.1 * seed).array for up in (replayed, plain))
        assert np.array_equal(found, expected)
        for shape, captured in replayed.model._graphs.items():
            now = {name: array.data.ptr for name, array in captured.conditions.items()}
            assert addresses.setdefault(shape, now) == now
    assert [graph for _, graph in cuda.recorded] == ["1", "2"]
    graphs = [options["enable_cuda_graph"] for [(_, options)] in cuda.asked]
    assert graphs == ["0", "0", "0", "0", "1", "0"]  # only the network's


@needs_gcc
@pytest.mark.parametrize("cuda_graph", [False, True])
def test_one_graph_at_a_time(cupy, cuda, tmp_path, monkeypatch, cuda_graph):
    folder = write_split_model(tmp_path / "m")
    up = Upscaler.load(folder, "cuda", options=CudaOptions(one_at_a_time=True, cuda_graph=cuda_graph))
    alive, held, run = [], [], Binding.run

    def watched(binding):
        held.append(binding._session)  # the stand-in tells sessions apart by id, which another would take over
        alive.append([session.path.name for session in up.model.sessions if session._open is not None])
        run(binding)

    monkeypatch.setattr(Binding, "run", watched)
    picture, latent = PICTURE, np.ones((1, 4, 2, 3), np.float32)
    found = [up(what).array for what in (picture, latent, latent, picture)]
    assert all(names == ["vae_encoder.onnx"] or "vae_encoder.onnx" not in names for names in alive)
    assert alive.count(["vae_encoder.onnx"]) == 2
    plain = Upscaler.load(folder, "cuda")
    assert np.array_equal(found[0], plain(picture).array)
    assert np.array_equal(found[1], found[2])
    assert np.array_equal(found[2], plain(latent).array)
    assert np.array_equal(found[0], found[3])


def rewrite(folder, name, change):
    graph = onnx.load(folder / name)
    change(graph.graph)
    onnx.save(graph, folder / name)


def renamed(old, new):
    def change(graph):
        for value in [*graph.input, *graph.output]:
            value.name = new if value.name == old else value.name
        for node in graph.node:
            for names in (node.input, node.output):
                names[:] = [new if name == old else name for name in names]

    return change


def more_inputs(name):
    def change(graph):
        graph.input.append(onnx.helper.make_tensor_value_info(name, TYPES["float32"], [1, "a", 3]))
        graph.node.append(onnx.helper.make_node("Identity", [name], [f"{name}_unused"]))

    return change


def without(name):
    return lambda graph: graph.output.remove(next(value for value in graph.output if value.name == name))


def declared(name, kind=None, shape=None):
    def change(graph):
        for value in [*graph.input, *graph.output]:
            if value.name == name:
                tensor = value.type.tensor_type
                found = [d.dim_param or d.dim_value for d in tensor.shape.dim]
                made = onnx.helper.make_tensor_value_info(name, kind or tensor.elem_type, shape or found)
                value.CopyFrom(made)

    return change


def extra_output(kind, shape):
    def change(graph):
        node = onnx.helper.make_node("Cast", ["flat" if len(shape) == 1 else "lq_0"], ["more"], to=kind)
        graph.node.append(node)
        graph.output.append(onnx.helper.make_tensor_value_info("more", kind, shape))

    return change


def last_axis_dynamic(graph):
    graph.node.append(onnx.helper.make_node("Identity", ["lq_latent"], ["lq_2"]))
    shape = [1, 4, "latent_h", "latent_w"]
    graph.output.append(onnx.helper.make_tensor_value_info("lq_2", TYPES["float32"], shape))


def half(graph):
    renamed("lq_0", "single")(graph)
    graph.node.append(onnx.helper.make_node("Cast", ["single"], ["lq_0"], to=TYPES["float16"]))
    index = next(i for i, value in enumerate(graph.output) if value.name == "single")
    graph.output[index].CopyFrom(onnx.helper.make_tensor_value_info("lq_0", TYPES["float16"], [1, "tokens", 3]))


def five_axes(graph):
    graph.input[0].type.tensor_type.shape.dim.add().dim_value = 1
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([4]), "last"))
    for node in graph.node:
        node.input[:] = ["squeezed" if name == "lq_latent" else name for name in node.input]
    graph.node.insert(0, onnx.helper.make_node("Squeeze", ["lq_latent", "last"], ["squeezed"]))


INT64 = onnx.TensorProto.INT64

BAD = {
    "lacking": (
        PROJECTION,
        renamed("lq_0", "lq_7"),
        r"m/lq_projection\.onnx: pid_upscaler\.onnx has no input for lq_7: its inputs are x float32 .*, lq_0 float32 ",
    ),
    "nobody": (
        NETWORK,
        more_inputs("mood"),
        r"m/pid_upscaler\.onnx: nothing provides its input mood: expected x, t, degrade_sigma and the outputs of "
        r"lq_projection\.onnx, lq_0, lq_pixel",
    ),
    "not made": (PROJECTION, without("lq_pixel"), r"nothing provides its input lq_pixel: .*, lq_0$"),
    "no sigma": (
        NETWORK,
        renamed("degrade_sigma", "sigma"),
        r"m/pid_upscaler\.onnx: it has no input degrade_sigma; expected by name x, t, degrade_sigma, lq_0, lq_pixel",
    ),
    "type": (
        PROJECTION,
        half,
        r"m/pid_upscaler\.onnx: it takes lq_0 float32 \[1, tokens, 3\], but lq_projection\.onnx makes float16: export "
        "both in one element type",
    ),
    "no latent": (
        PROJECTION,
        renamed("lq_latent", "latent"),
        r"m/lq_projection\.onnx: its inputs are latent float32 \[1, 4, latent_h, latent_w\]; expected one of floats, "
        "lq_latent",
    ),
    "two inputs": (PROJECTION, more_inputs("t"), "its inputs are lq_latent float32 .*, t float32 .*; expected one of"),
    "int latent": (PROJECTION, declared("lq_latent", kind=INT64), "its inputs are lq_latent int64 .*; expected one of"),
    "both": (
        NETWORK,
        more_inputs("lq_latent"),
        r"m/pid_upscaler\.onnx: it takes lq_latent, but lq_projection\.onnx is there to take it: expected in its place "
        r"lq_0, lq_pixel, or no lq_projection\.onnx in the folder",
    ),
    "clash": (PROJECTION, renamed("lq_0", "t"), "its output 't' has the name of another input: rename it"),
    "one axis": (
        PROJECTION,
        extra_output(TYPES["float32"], [3]),
        r"its output is more float32 \[3\], expected floats of 2 axes or more, the last of a fixed size",
    ),
    "int feature": (
        PROJECTION,
        extra_output(INT64, [1, "tokens", 3]),
        r"its output is more int64 \[1, tokens, 3\], exp",
    ),
    "dynamic last": (PROJECTION, last_axis_dynamic, r"its output is lq_2 .*latent_w\], expected floats of 2 axes"),
    "size": (NETWORK, declared("lq_0", shape=[1, "n", 4]), r"it takes lq_0 .*\[1, n, 4\], but .* makes lq_0 .*, 3\]: "),
    "rank": (NETWORK, declared("lq_0", shape=[1, 1, "n", 3]), r"it takes lq_0 .*\[1, 1, n, 3\], but lq_projection"),
}


@pytest.mark.parametrize("name", BAD)
def test_refuses_a_folder_whose_graphs_do_not_fit(tmp_path, name):
    file, change, message = BAD[name]
    folder = write_split_model(tmp_path / "m")
    rewrite(folder, file, change)
    with pytest.raises(PidSamplerError, match=message) as caught:
        load(folder)
    assert "\n" not in str(caught.value)


def test_refuses_sizes_channels_and_axes_that_do_not_fit(tmp_path):
    folder = write_split_model(tmp_path / "channels", encoder_channels=16)
    with pytest.raises(PidSamplerError, match=r"lq_projection\.onnx: lq_latent has 4 channels, but vae_encoder.* 16"):
        load(folder)
    folder = write_split_model(tmp_path / "encoder", size=(32, 40), network_size=())
    write_split_model(tmp_path / "fixed", size=(32, 32))
    shutil.copy(tmp_path / "fixed" / "vae_encoder.onnx", folder)
    with pytest.raises(PidSamplerError, match=r"lq_projection\.onnx: picture .* is not 8 times lq_latent .* in size"):
        load(folder)
    folder = write_split_model(tmp_path / "axes")
    rewrite(folder, PROJECTION, five_axes)
    with pytest.raises(PidSamplerError, match=r"lq_projection\.onnx: lq_latent float32 .* expected 4 axes"):
        load(folder)


def test_a_projection_left_behind_or_beside_a_whole_network(tmp_path):
    folder = write_split_model(tmp_path / "m")
    shutil.move(folder / PROJECTION, tmp_path / PROJECTION)
    with pytest.raises(
        PidSamplerError, match=r"expected by name x, t, lq_latent, degrade_sigma, or lq_projection\.onn"
    ):
        load(folder)
    shutil.copy(tmp_path / PROJECTION, write_model(tmp_path / "whole"))
    with pytest.raises(PidSamplerError, match=r"it takes lq_latent, but lq_projection\.onnx is there to take it"):
        load(tmp_path / "whole")


@pytest.mark.parametrize(("kind", "gain"), [("float32", np.nan), ("bfloat16", np.inf), ("float16", 1e5)])
@pytest.mark.parametrize("part", [None, 4])
def test_features_that_are_not_finite(tmp_path, monkeypatch, kind, gain, part):
    """Wherever they are: only the last token of the last row is not zero."""
    monkeypatch.setattr(model, "_PART", part or model._PART)
    up = Upscaler.load(write_split_model(tmp_path / "m", kind=kind, gain=gain), "cpu")
    latent = np.zeros((1, 4, 2, 3), np.float32) if kind == "float16" else np.ones((1, 4, 2, 3), np.float32)
    latent[0, 2, 1, 2] = 1.0
    message = r"m/lq_projection\.onnx gave NaN or infinity in lq_0: an fp16 graph overflows, use its fp32 or bf16 expo"
    with pytest.raises(PidSamplerError, match=message):
        up(latent)


def test_a_projection_that_fails_says_with_what(tmp_path):
    """Declared for one size, made for another: onnxruntime refuses the run."""
    folder = write_split_model(tmp_path / "m")
    rewrite(folder, PROJECTION, declared("lq_0", shape=[1, 7, 3]))
    rewrite(folder, PROJECTION, declared("lq_pixel", shape=[1, 64, 96, 3]))
    with pytest.raises(PidSamplerError, match=r"lq_projection\.onnx failed to run: .*lq_latent \(1, 4, 2, 3\), lq_0"):
        Upscaler.load(folder, "cpu")(LATENT)
