"""What is asked of CUDA: where nodes run, copies, waits and memory; see docs/null-cuda.md.

Each bar is what a card would be asked for, since the provider and its choices are real.
"""

import pytest
from nullcuda.networks import ARCHITECTURE, export, latent, placed

from pidsampler import CudaOptions, Upscaler
from pidsampler.backends import get_backend
from pidsampler.export.architecture import random_tensors
from pidsampler.export.build import TYPES
from pidsampler.export.layers import TARGETS, Form
from pidsampler.export.projection import build_projection
from pidsampler.export.vae import ENCODERS, build_encoder, random_encoder
from pidsampler.onnx import bundled_models
from pidsampler.onnx.contract import ENCODER, NETWORK
from pidsampler.upscale.memory import measure

SIDE = 128
# Arithmetic on the sizes of graphs for any size: numbers of the host, a few for each graph and none for each token.
SHAPES = {"Concat", "Sub", "Max", "Cast", "Squeeze", "Log", "Mul", "Exp", "Div"}
PADDING = {"Neg", "Mod"}  # of encoders, to whole windows
WAITS = "wait for a stream", "wait for the device", "wait for an event"
COPIES, COPIED = 40, 40_000  # most tables that go to the card in a call, and their bytes


def waited(counts):
    return sum(counts[what] for what in WAITS)


@pytest.mark.parametrize("graph", [ENCODER, NETWORK])
@pytest.mark.parametrize("model", bundled_models())
def test_bundled_models_are_on_the_card(runtime, repository, model, graph):
    found = placed(repository / "pidsampler/models" / model / graph)
    assert set(found) == {"CUDAExecutionProvider"}, found


@pytest.mark.parametrize("name", sorted(ENCODERS))
def test_encoders_are_on_the_card(runtime, tmp_path, name):
    encoder = ENCODERS[name].reduced()
    for size in (None, 64):
        build_encoder(encoder, random_encoder(encoder, 1), height=size, width=size).save(tmp_path / "e.onnx")
        found = placed(tmp_path / "e.onnx")
        assert set(found["CUDAExecutionProvider"]) >= {"Conv"}
        assert set(found.get("CPUExecutionProvider", ())) <= (set() if size else SHAPES | PADDING), found


@pytest.mark.parametrize("size", [None, (SIDE, SIDE)], ids=["any", "fixed"])
@pytest.mark.parametrize("dtype", TYPES)
def test_projections_are_on_the_card(runtime, tmp_path, dtype, size):
    form = Form(target="ort-cuda", dtype=dtype, size=size)
    build_projection(ARCHITECTURE, random_tensors(ARCHITECTURE, 3), form=form).save(tmp_path / "p.onnx")
    found = placed(tmp_path / "p.onnx")
    assert set(found.get("CPUExecutionProvider", ())) <= (set() if size else SHAPES), found


@pytest.mark.parametrize("size", [None, (SIDE, SIDE)], ids=["any", "fixed"])
@pytest.mark.parametrize(
    ("target", "dtype", "residual"),
    [*((target, dtype, False) for target in TARGETS for dtype in TYPES), ("ort-cuda", "bfloat16", True)],
)
def test_the_loop_stays_on_the_card(cupy, runtime, tmp_path, target, dtype, residual, size):
    """From the second step on nothing comes back, nothing is allocated, and the host waits once a picture at most."""
    folder = export(tmp_path / "m", target=target, dtype=dtype, float32_residual=residual, size=size)
    found = placed(folder / NETWORK)
    assert set(found.get("CPUExecutionProvider", ())) <= (set() if size else SHAPES), found
    up, steps, sizes = Upscaler.load(folder, "cuda"), [], []

    def on_step(run, m):
        steps.append(runtime.counts())
        sizes.append(sum(size for what, _, _, size, *_ in runtime.events() if what == "copy host to device"))
        runtime.clear()

    for picture in range(2):
        runtime.clear()
        up(latent(SIDE), seed=picture, on_step=on_step)
    assert len(steps) == 8
    for counts, copied in zip(steps[1:4] + steps[5:], sizes[1:4] + sizes[5:], strict=True):
        assert counts["kernel"] > 100
        assert counts["copy device to host"] == 0
        assert counts["allocation"] == counts["pinned allocation"] == counts["release"] == 0
        assert counts["copy host to device"] <= COPIES
        assert copied <= COPIED
    assert sum(map(waited, steps[4:])) + waited(runtime.counts()) <= 1


@pytest.mark.parametrize("capability", [80, 120])
def test_attention_needs_no_scores_of_all_pairs(cupy, runtime, tmp_path, monkeypatch, capability):
    """Four times the pixels take at most 4.5 times the memory, on cards of two kinds of attention."""
    monkeypatch.setenv("NULLCUDA_CAPABILITY", str(capability))
    folder, peaks = export(tmp_path / "m", target="ort-cuda", dtype="float16"), []
    for side in (256, 512):
        up = Upscaler.load(folder, "cuda")
        runtime.clear()
        loaded = runtime.held
        up(latent(side))
        peaks.append(runtime.peak - loaded)
    assert 0 < peaks[1] < 4.5 * peaks[0]


def test_memory_is_as_the_plan_measures_it(cupy, runtime, tmp_path):
    """The plan measures two small sizes: a larger result takes no more than they say, and not much less.

    Both go through one session, which cannot use all that the first left: so the plan is above.
    """
    cupy.cuda.Stream.synchronize = lambda stream: None
    cupy.cuda.runtime.memGetInfo = lambda: (80 * 2**30 - runtime.held, 80 * 2**30)
    up = Upscaler.load(export(tmp_path / "m", target="ort-cuda", dtype="bfloat16"), "cuda")
    need, peaks = measure(up.model, get_backend("cupy")).network, []
    for side in (512, 768):
        up.model.release()
        runtime.clear()
        up(latent(side))
        peaks.append(runtime.peak)
    assert 0.75 < (peaks[1] - peaks[0]) / (need * (768**2 - 512**2)) <= 1


def test_pinned_memory_stays_over_800_calls(cupy, runtime, tmp_path):
    up = Upscaler.load(export(tmp_path / "m", target="ort-cuda", dtype="bfloat16", size=(SIDE, SIDE)), "cuda")
    found = []
    for seed in range(200):  # of four calls
        up(latent(SIDE), seed=seed)
        found.append(runtime.pinned)
    assert max(found) == found[9], found[::20]


def test_a_cuda_graph_is_recorded_once_and_replayed(cupy, runtime, tmp_path):
    folder = export(tmp_path / "m", target="ort-cuda", dtype="bfloat16", size=(SIDE, SIDE))
    up, steps = Upscaler.load(folder, "cuda", options=CudaOptions(cuda_graph=True)), []

    def on_step(run, m):
        steps.append(runtime.counts())
        runtime.clear()

    up(latent(SIDE), on_step=on_step)
    assert sum(counts["capture begins"] for counts in steps) == 1
    assert [(counts["graph launch"], counts["kernel"]) for counts in steps[1:]] == [(1, 0)] * 3
