"""What only a GPU can show; see test_cupy_backend.py for the bodies that run there and on a stand-in alike."""

import shutil
import subprocess
import sys

import numpy as np
import pytest

from pidsampler import FlowSDE, get_scheduler, sample, start, timesteps
from pidsampler.backends import get_backend
from pidsampler.denoiser import GaussianMixture

pytestmark = pytest.mark.gpu
LAW = GaussianMixture([-0.6, 0.5], [0.3, 0.2], [1, 2])


@pytest.fixture(name="cupy")
def _cupy():
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    try:
        cupy.cuda.runtime.getDeviceCount()
    except RuntimeError as error:
        pytest.skip(f"no GPU: {error}")
    return cupy


def test_identical_bits_over_a_hundred_runs(cupy):
    first = sample(LAW, get_scheduler("sa-solver@uniform:5"), shape=(1, 3, 300, 301), seed=3, backend="cupy").get()
    for _ in range(100):
        again = sample(LAW, get_scheduler("sa-solver@uniform:5"), shape=(1, 3, 300, 301), seed=3, backend="cupy").get()
        assert np.array_equal(again, first)


@pytest.mark.parametrize("n", [1, 255, 257, 1021, 2**20 + 1])
def test_normals_as_on_the_cpu(cupy, n):
    backend = get_backend("cupy")
    x, expected = backend.empty((1, n), np.float32), np.empty((1, n), np.float32)
    backend.noise(x, [2**63 + 1], draw=7)
    get_backend("numpy").noise(expected, [2**63 + 1], draw=7)
    allowed = np.maximum(4 * np.spacing(np.abs(expected)), np.float32(1e-6))
    assert (np.abs(x.get() - expected) <= allowed).all()


def test_more_than_2_31_elements(cupy):
    """Indices need 64 bits: the last elements of 2^31 + 40, which only the noise's own position tells."""
    if cupy.cuda.runtime.memGetInfo()[0] < 10 * 2**30:
        pytest.skip("needs 10 GiB of free memory")
    from pidsampler.noise.philox import fill

    n = 2**31 + 40
    x = get_backend("cupy").empty((1, n), np.float32)
    get_backend("cupy").noise(x, [5], draw=1)
    expected = np.empty(64, np.float32)
    fill(expected, 5, draw=1, start=n - 64)
    assert x[0, -64:].get() == pytest.approx(expected, abs=1e-6)


def test_nothing_is_allocated_and_nothing_moved_inside_the_loop(cupy):
    """CuPy's pool is asked for nothing after the first step, and no copy crosses the bus: seen through hooks."""
    pool_calls = []

    class Hook(cupy.cuda.MemoryHook):
        name = "counting"

        def malloc_preprocess(self, **_):
            pool_calls.append(1)

    x = cupy.asarray(np.ones((1, 3, 64, 64), np.float32))
    m = cupy.full_like(x, 0.5)
    run = start(get_scheduler("sa-solver@uniform:6"), x)
    run.step(m)
    run.step(m)
    with Hook(), cupy.cuda.get_current_stream():
        while run.index < len(run):
            run.step(m)
    assert pool_calls == []


def test_a_loop_around_a_torch_network(cupy):
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")
    if not torch.cuda.is_available():
        pytest.skip("this PyTorch has no CUDA")
    x = torch.ones((1, 3, 32, 32), device="cuda")
    expected = sample(lambda x, t: 0.5 * x, FlowSDE(timesteps.pid()), x=np.ones((1, 3, 32, 32), np.float32), seed=3)
    run = start(FlowSDE(timesteps.pid()), x, seed=3, inplace=True)
    for _ in run:
        run.step(0.5 * x)  # x is the state's own memory
    assert x.cpu().numpy() == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("example", ["loop_around_cupy.py", "loop_around_torch.py"])
def test_examples(cupy, repository, example):
    if "torch" in example:
        pytest.importorskip("torch", reason="PyTorch is not installed")
    subprocess.run([sys.executable, repository / "examples" / example], check=True)


def test_a_picture_on_the_command_line(cupy, repository, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")
    if "CUDAExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("this onnxruntime has no CUDA")
    command = [sys.executable, "-m", "pidsampler.cli", "upscale", repository / "examples" / "road.jpg", "-o"]
    for device in ("cuda", "cpu"):
        done = subprocess.run(
            [*command, tmp_path / f"{device}.png", "--device", device], check=True, capture_output=True, text=True
        )
        assert f"on {device}" in done.stdout
    from PIL import Image

    one, other = (np.asarray(Image.open(tmp_path / f"{device}.png")).astype(int) for device in ("cuda", "cpu"))
    assert np.abs(one - other).max() <= 2


@pytest.mark.parametrize("tool", ["memcheck", "initcheck"])
def test_compute_sanitizer(cupy, tool):
    if shutil.which("compute-sanitizer") is None:
        pytest.skip("compute-sanitizer is not installed")
    code = (
        "import numpy as np, pidsampler as ps\n"
        "for name in ('flow-sde', 'sa-solver', 'seeds-3', 'rk4'):\n"
        "    s = ps.get_scheduler(name + '@uniform:3')\n"
        "    for shape in ((1, 3, 32, 32), (2, 3, 7, 9)):\n"
        "        ps.sample(lambda x, t: x, s, shape=shape, backend='cupy').get()\n"
    )
    command = ["compute-sanitizer", "--tool", tool, "--error-exitcode", "9", sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-2000:]
