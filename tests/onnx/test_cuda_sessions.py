"""ONNX Runtime on CUDA and whole upscales, on stand-ins: CuPy's (fake_cupy.py) and one for a CUDA session.

The session is a real one of the CPU, since the stand-in's device memory is the host's: so results are compared with the
CPU's, what a session is given is seen, and a CUDA graph replays what it recorded, whatever is bound later.
"""

import shutil
import types
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from fake_cuda import FakeCuda
from models import write_model, write_split_model

from pidsampler import CudaOptions, PidSamplerError, Upscaler
from pidsampler.backends import get_backend, registry
from pidsampler.onnx import providers
from pidsampler.onnx.device import resolve_device
from pidsampler.upscale.memory import Tiling

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to run the kernels with")


@pytest.fixture(name="cuda")
def _cuda(cupy, monkeypatch):
    return FakeCuda(cupy, monkeypatch)


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_a_whole_upscale_as_on_the_cpu(cupy, cuda, tmp_path, kind):
    write_model(tmp_path / "m", kind=kind)
    picture = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    up = Upscaler.load(tmp_path / "m", "cuda")
    found = up(picture, seed=3, degrade_sigma=0.2)
    expected = Upscaler.load(tmp_path / "m", "cpu")(picture, seed=3, degrade_sigma=0.2)
    assert np.abs(found.array.astype(int) - expected.array).max() <= (1 if kind == "float32" else 8)
    assert (found.record["device"], expected.record["device"]) == ("cuda", "cpu")
    ours = str(get_backend("cupy").stream.ptr)
    [[(provider, options)], [(_, again)]] = cuda.asked[:2]
    assert provider == "CUDAExecutionProvider"
    assert options == again
    assert (options["user_compute_stream"], options["use_tf32"]) == (ours, "0")
    assert cuda.runs[-4:] == ["1"] * 4


def test_an_upscale_is_on_one_stream_and_moves_only_the_picture(cupy, cuda):
    """Between the picture's upload and the result's download: launches and network calls on one stream, no wait."""
    up = Upscaler.load("gaussian", "cuda")
    picture = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    up(picture)
    counts = []

    def on_step(run, m):
        moved = [entry for entry in cupy.seen if entry in ("upload", "download")]
        counts.append((len(moved), cupy.seen.count("allocation")))

    cupy.seen.clear()
    up(picture, on_step=on_step)
    assert len(set(counts)) == 1  # nothing is moved or allocated from one step to the next
    # The picture, and for its drift small tables of where blocks begin and their means; the seeds are there already.
    assert (cupy.seen.count("upload"), cupy.seen.count("download")) == (5, 2)
    ours = get_backend("cupy").stream.ptr
    work = [entry for entry in cupy.seen if isinstance(entry, tuple) and entry[0] in ("launch", "network")]
    assert {entry[-1] for entry in work} == {ours}
    assert [entry[0] for entry in work].count("network") == 5  # the encoder and four steps
    waits = [entry for entry in cupy.seen if isinstance(entry, tuple) and entry[0] in ("wait", "record")]
    assert len(waits) == 4  # before all of it, and after


@pytest.mark.parametrize("of", ["a photo", "a latent"])
@pytest.mark.parametrize("write", [write_model, write_split_model])
@pytest.mark.parametrize("options", [CudaOptions(), CudaOptions(cuda_graph=True), CudaOptions(one_at_a_time=True)])
def test_tiles_on_cuda_as_on_the_cpu(cupy, cuda, tmp_path, of, write, options):
    """Conditions are cut on the device: nothing is moved from one step to the next."""
    folder, rng = write(tmp_path / "m"), np.random.default_rng(0)
    image = rng.integers(0, 256, (17, 40, 3), np.uint8)
    if of == "a latent":
        image = rng.standard_normal((4, 3, 5), np.float32)
    up = Upscaler.load(folder, "cuda", options=options, tiling=Tiling(64, 32, encoder=True))
    up(image)
    moved = []
    cupy.seen.clear()
    found = up(image, seed=3, on_step=lambda *_: moved.append([e for e in cupy.seen if e in ("upload", "download")]))
    assert all(entries == moved[0] for entries in moved)
    assert moved[0].count("download") == 0
    assert found.record["tiles"]["count"] == 2 * 4
    assert len(cuda.asked) <= 3 + 2 * 3  # no graph is loaded anew for a tile
    expected = Upscaler.load(folder, "cpu", tiling=Tiling("off"))(image, seed=3)
    assert np.abs(found.array.astype(int) - expected.array).max() <= 1


def test_a_replayed_cuda_graph_sees_new_data(cupy, cuda, tmp_path):
    """Pictures of two sizes in turn, other seeds and latents: each as without a graph, though the graph stays put."""
    write_model(tmp_path / "m")
    rng = np.random.default_rng(0)
    plain, replayed = (Upscaler.load(tmp_path / "m", "cuda", options=CudaOptions(cuda_graph=g)) for g in (False, True))
    for seed, size in enumerate([(6, 9), (6, 9), (16, 8), (6, 9), (16, 8)]):
        picture = rng.integers(0, 256, (*size, 3), np.uint8)
        found, expected = (up(picture, seed=seed, degrade_sigma=0.1 * seed).array for up in (replayed, plain))
        assert np.array_equal(found, expected)
    assert [graph for _, graph in cuda.recorded] == ["1", "2"]
    assert [options["enable_cuda_graph"] for [(_, options)] in cuda.asked] == ["0", "0", "0", "1"]


def test_one_session_at_a_time(cupy, cuda, tmp_path):
    write_model(tmp_path / "m")
    picture = np.zeros((6, 9, 3), np.uint8)
    up = Upscaler.load(tmp_path / "m", "cuda", options=CudaOptions(one_at_a_time=True))
    alive = []

    def on_step(run, m):
        alive.append((up.model.encoder._open is not None, up.model.network._open is not None))

    first = up(picture, on_step=on_step).array
    assert set(alive) == {(False, True)}
    assert np.array_equal(up(picture).array, first)
    assert np.array_equal(first, Upscaler.load(tmp_path / "m", "cuda")(picture).array)
    assert len(cuda.asked) == 2 + 4 + 2  # to read the contract, then both for each picture, then both once


@pytest.mark.parametrize(("tf32", "limit"), [(False, None), (True, 2**30)])
def test_tensorrt_and_its_options(cupy, cuda, monkeypatch, tmp_path, tf32, limit):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    Upscaler.load("gaussian", "cuda", options=CudaOptions("tensorrt", tf32=tf32, memory_limit=limit))
    encoder, network = cuda.asked
    assert [name for name, _ in network] == ["TensorrtExecutionProvider", "CUDAExecutionProvider"]
    assert (encoder[0][1]["trt_bf16_enable"], network[0][1]["trt_bf16_enable"]) == ("0", "1")
    assert network[0][1]["trt_engine_cache_path"] == str(tmp_path / "pidsampler" / "tensorrt")
    ours = str(get_backend("cupy").stream.ptr)
    assert {options["user_compute_stream"] for _, options in (*encoder, *network)} == {ours}
    assert network[1][1]["use_tf32"] == str(int(tf32))
    assert network[1][1].get("gpu_mem_limit") == (None if limit is None else str(limit))


def test_options_out_of_range():
    with pytest.raises(PidSamplerError, match="unknown provider 'trt': known are cuda, tensorrt"):
        CudaOptions("trt")
    with pytest.raises(PidSamplerError, match="memory_limit=0 must be a whole number of at least 1"):
        CudaOptions(memory_limit=0)


def test_devices(cupy, cuda, monkeypatch, capsys):
    assert resolve_device("auto").name == resolve_device("cuda").name == "cupy"
    assert capsys.readouterr().out == ""  # whatever onnxruntime prints while it looks for libraries
    assert resolve_device("cpu").name == "numpy"
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"])
    with pytest.raises(PidSamplerError, match="device 'cuda' was asked for, but the onnxruntime that is installed is"):
        resolve_device("cuda")
    assert resolve_device("auto").name == "numpy"


def test_one_run_in_32_waits_and_gives_staged_memory_back(cupy, cuda):
    """Of each graph, however many pictures and tiles there are; held against the null CUDA runtime, this keeps pinned
    memory at 1 MB over 800 calls of a network where it grew by 15."""
    up = Upscaler.load("gaussian", "cuda")
    contract = up.model.contract
    latent = np.zeros((1, contract.latent_channels, 1, 2), np.float32)
    denoiser = up.model.denoiser(up.backend.adopt(latent), 0.0)
    x, out = (up.backend.empty((1, 3, contract.unit, 2 * contract.unit), np.float32) for _ in range(2))
    x[...] = 0.0
    cuda.runs.clear()
    for k in range(70):
        if k == 20:
            denoiser = up.model.denoiser(up.backend.adopt(latent), 0.0)  # as for the next picture
        denoiser.predict(x, 0.5, out)
    assert [k for k, flag in enumerate(cuda.runs, 1) if flag == "0"] == [32, 64]
    assert set(cuda.runs) == {"0", "1"}


@pytest.mark.parametrize("cuda_graph", [False, True])
def test_numbers_whose_operator_is_the_cpus_are_bound_in_host_memory(cupy, cuda, tmp_path, cuda_graph):
    """On the device ONNX Runtime would copy them once, when they are bound, and each step would have the same t."""
    write_model(tmp_path / "m")
    picture = np.random.default_rng(0).integers(0, 256, (6, 9, 3), np.uint8)
    options = CudaOptions(cuda_graph=cuda_graph)
    expected = Upscaler.load(tmp_path / "m", "cuda", options=options)(picture, seed=3, degrade_sigma=0.2).array
    cuda.on_host = {"t", "degrade_sigma"}
    up = Upscaler.load(tmp_path / "m", "cuda", options=options)
    assert up.model.network.on_host == {"t", "degrade_sigma"}
    assert np.array_equal(up(picture, seed=3, degrade_sigma=0.2).array, expected)


@pytest.mark.parametrize(
    ("name", "what"), [("x", "takes 'x'"), ("lq_latent", "takes 'lq_latent'"), ("v_pred", "makes 'v_pred'")]
)
def test_arrays_whose_operator_is_the_cpus_are_refused(cupy, cuda, tmp_path, name, what):
    write_model(tmp_path / "m")
    cuda.on_host = {name}
    with pytest.raises(PidSamplerError, match=f"nothing on the GPU for the operator that {what}.*pass device='cpu'"):
        Upscaler.load(tmp_path / "m", "cuda")


def test_a_graph_that_cannot_be_captured_says_how_to_export(cupy, cuda, monkeypatch):
    def refuse(*_, **__):
        raise RuntimeError(
            "This session cannot use the graph capture feature as requested by the user  as all compute graph nodes "
            "have not been partitioned to the CUDAExecutionProvider"
        )

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(PidSamplerError, match=r"CUDA graph.* by `pidsampler export --size`, or pass cuda_graph=False"):
        Upscaler.load("gaussian", "cuda", options=CudaOptions(cuda_graph=True))


def test_a_model_that_the_cpu_was_tried_with_says_where_to_look(cupy, cuda, monkeypatch):
    """Without CUDA's libraries ONNX Runtime goes on with the CPU, which has nothing for bfloat16, and says that."""

    def refuse(*_, **__):
        raise RuntimeError("[ONNXRuntimeError] : 9 : NOT_IMPLEMENTED : Could not find an implementation for Add(14)")

    monkeypatch.setattr(onnxruntime, "InferenceSession", refuse)
    with pytest.raises(
        PidSamplerError, match=r"implementation for Add\(14\); if CUDA's libraries.*doctor --device cuda"
    ):
        Upscaler.load("gaussian", "cuda")


def test_a_run_without_cudnn_says_where_to_look(cupy, cuda, monkeypatch):
    """From 1.28 on a session is made without it, and its first convolution or attention fails."""
    up = Upscaler.load("gaussian", "cuda")

    def refuse(*_):
        raise RuntimeError(
            "NOT_IMPLEMENTED : cuDNN is unavailable or disabled for CUDA Execution Provider: dlopen failed"
        )

    monkeypatch.setattr(onnxruntime.InferenceSession, "run_with_iobinding", refuse)
    with pytest.raises(
        PidSamplerError, match=r"cuDNN is unavailable.*; `pidsampler doctor --device cuda` says the line"
    ):
        up(np.zeros((6, 9, 3), np.uint8))


def test_bfloat16_on_a_card_without_it_is_refused(cupy, cuda, tmp_path):
    write_model(tmp_path / "m", kind="bfloat16")
    for capability in ("75", "80"):
        registry._made.cache_clear()
        cupy.capability = capability
        if capability == "80":
            assert Upscaler.load(tmp_path / "m", "cuda")
            break
        with pytest.raises(PidSamplerError, match=r"bfloat16, which a card of sm_75 has not.*export --dtype float16"):
            Upscaler.load(tmp_path / "m", "cuda")


def test_libraries_are_loaded_from_nvidias_packages_wherever_they_are(cuda, monkeypatch, tmp_path):
    """ONNX Runtime looks beside itself alone: here it lies elsewhere, and the system has only the CUDA runtime."""
    names = ("cublas.so.13", "cublasLt.so.13", "cudart.so.13", "cudnn.so.9", "cublas.so.12", "cusolver.so.12")
    (tmp_path / "nvidia" / "cu13" / "lib").mkdir(parents=True)
    for name in names:
        (tmp_path / "nvidia" / "cu13" / "lib" / f"lib{name}").touch()
    loaded = []

    def load(name):
        if name.endswith(".so.13") and "cudart" in name:
            return
        if "/" not in name:
            raise OSError(f"{name}: cannot open shared object file")
        loaded.append(Path(name).name)

    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path / "nvidia")])
    monkeypatch.setattr(providers, "find_spec", lambda name: spec)
    monkeypatch.setattr(onnxruntime, "cuda_version", "13.0", raising=False)
    monkeypatch.setattr(providers.ctypes, "CDLL", load)
    providers.check_cuda()
    assert loaded == ["libcublasLt.so.13", "libcublas.so.13", "libcudnn.so.9"]


def test_a_silent_fall_back_to_the_cpu_is_an_error(cupy, cuda, monkeypatch):
    monkeypatch.setattr(onnxruntime.InferenceSession, "get_providers", lambda self: ["CPUExecutionProvider"])
    with pytest.raises(PidSamplerError, match="asked for CUDAExecutionProvider, but onnxruntime took CPUExecution"):
        Upscaler.load("gaussian", "cuda")
