"""The cupy backend on a stand-in for CuPy that runs the shipped kernels on the CPU (fake_cupy.py).

So one test body compares both backends, and what a launch is given, which stream it is on and what would move between
host and device are seen without a GPU.

Tried mutations, each of which fails here: slots, draws, seeds or saved tensors in another order, clip forgotten, x said
to be unread, vector loads from any address, seeds uploaded or kernels compiled anew each time, either wait of the two
streams left out, a blocking stream, what is not finite unreported, the copy of x in x's own type or not written, the
encoder in bfloat16, an output bound elsewhere, a CUDA graph's arrays bound anew.
"""

import shutil
import sys
import types

import fake_cupy
import numpy as np
import pytest
from ml_dtypes import bfloat16

from pidsampler import (
    FlowSDE,
    PidSamplerError,
    Row,
    get_scheduler,
    list_schedulers,
    noise,
    sample,
    start,
    timesteps,
)
from pidsampler.backends import get_backend, registry
from pidsampler.denoiser import GaussianMixture, Guided
from pidsampler.errors import DeviceError
from pidsampler.image.pixels import to_image, to_tensor

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to run the kernels with")

LAW = GaussianMixture([-0.6, 0.5], [0.3, 0.2], [1, 2])
OTHER = GaussianMixture([0.2], [0.4], [1])  # for rows that ask an unconditional network
SHAPE = (2, 3, 6, 8)


@pytest.fixture(name="xp", params=["stand-in", pytest.param("gpu", marks=pytest.mark.gpu)])
def _xp(request):
    """The stand-in, and CuPy itself where there is a GPU: one test body for all."""
    if request.param == "stand-in":
        return request.getfixturevalue("cupy")
    real = pytest.importorskip("cupy", reason="CuPy is not installed")
    try:
        real.cuda.runtime.getDeviceCount()
    except RuntimeError as error:
        pytest.skip(f"no GPU: {error}")
    registry._made.cache_clear()
    return real


def host(x):
    return x.get()


@pytest.mark.parametrize("info", list_schedulers(), ids=lambda info: info.name)
def test_every_method_as_on_numpy(xp, info):
    scheduler = get_scheduler(info.name, timesteps=timesteps.uniform(5))
    found = sample((LAW, OTHER), scheduler, shape=SHAPE, seed=[4, 2**40], backend="cupy")
    assert isinstance(found, xp.ndarray)
    expected = sample((LAW, OTHER), scheduler, shape=SHAPE, seed=[4, 2**40])
    assert host(found) == pytest.approx(expected, abs=3e-5)


@pytest.mark.parametrize("kind", ["independent", noise.normal], ids=["own", "given"])
def test_noise_is_added_to_a_picture_as_on_numpy(xp, kind):
    picture, states = np.full(SHAPE, 0.5, np.float32), []
    for x in (xp.asarray(picture), picture):
        run = start(FlowSDE([0.25, 0.0]), x, seed=[4, 2**40], noise=kind)
        run.add_noise()
        states.append(run.x)
    assert host(states[0]) == pytest.approx(states[1], abs=1e-6)
    assert states[1][0] == pytest.approx(0.375 + 0.25 * noise.normal(4, 0, SHAPE[1:]), abs=1e-6)


@pytest.mark.parametrize("network", [LAW, Guided(LAW, OTHER, 2.5)], ids=["mixture", "guided"])
def test_mixtures_and_guidance_on_arrays_without_a_namespace(xp, network):
    x = np.linspace(-2, 2, 288, dtype=np.float32).reshape(SHAPE)
    expected, out = np.empty_like(x), xp.empty(SHAPE, np.float32)
    network.predict(x, 0.4, expected)
    network.predict(xp.asarray(x), 0.4, out)  # the same object, now on arrays of another kind
    assert host(out) == pytest.approx(expected, abs=1e-5)


@pytest.mark.parametrize("noise", ["fixed", "brownian", "torch"])
def test_every_noise_as_on_numpy(xp, noise):
    found, expected = (
        sample(LAW, FlowSDE(timesteps.pid()), shape=SHAPE, seed=7, backend=name, noise=noise)
        for name in ("cupy", "numpy")
    )
    assert host(found) == pytest.approx(expected, abs=3e-5)


@pytest.mark.parametrize("shape", [(1, 1), (3, 7), (2, 3, 5, 5), (1, 3, 16, 16)])
def test_tables_of_other_predictions_and_clips_and_odd_sizes(xp, shape):
    for table in (FlowSDE([0.9, 0.4, 0.0]).table().predicting("x0"), FlowSDE([0.9, 0.4, 0.0]).table().clipped(0.2)):
        found, expected = (sample(LAW, table, shape=shape, seed=7, backend=name) for name in ("cupy", "numpy"))
        assert host(found) == pytest.approx(expected, abs=3e-5)


def test_a_loop_of_ones_own_on_device_arrays(xp):
    x = get_backend("numpy").empty(SHAPE, np.float32)
    get_backend("numpy").noise(x, [0, 1], draw=0)
    expected = sample(LAW, FlowSDE(timesteps.pid()), x=x, seed=[0, 1])
    on_device = xp.asarray(x)
    run = start(FlowSDE(timesteps.pid()), on_device, seed=[0, 1])
    m = xp.empty(SHAPE, np.float32)
    for row in run:
        LAW.predict(run.x, row.t, m)
        preview = run.predict_x0(m)
        assert host(preview) == pytest.approx(host(run.x) - row.t * host(m), abs=1e-5)
        run.step(m)
    assert host(run.x) == pytest.approx(expected, abs=3e-5)
    assert np.array_equal(host(on_device), x)  # it was copied
    again = start(FlowSDE(timesteps.pid()), on_device, seed=[0, 1], inplace=True)
    assert again.x is on_device


class CudaTensor:
    """What PyTorch's CUDA tensors show of themselves."""

    def __init__(self, values):
        self.on_device = np.array(values)

    def __dlpack_device__(self):
        return 2, 0

    def __dlpack__(self, **_):
        raise AssertionError("CuPy's from_dlpack asks for it")


def test_cuda_tensors_are_viewed_not_copied(cupy):
    x = CudaTensor(np.ones((1, 3, 4, 4), np.float32))
    run = start(FlowSDE([0.9, 0.0]), x, inplace=True)
    run.step(CudaTensor(np.full((1, 3, 4, 4), 0.5, np.float32)))
    assert x.on_device == pytest.approx(np.full((1, 3, 4, 4), 1 - 0.9 * 0.5))
    assert "upload" not in cupy.seen
    assert "download" not in cupy.seen


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_half_precision_state(xp, dtype):
    import ml_dtypes

    kind = np.dtype(getattr(ml_dtypes, dtype) if dtype == "bfloat16" else dtype)
    found = sample(lambda x, t: 0.5 * x, FlowSDE(timesteps.pid()), shape=(1, 3, 8, 8), backend="cupy", dtype=kind)
    expected = sample(lambda x, t: 0.5 * x, FlowSDE(timesteps.pid()), shape=(1, 3, 8, 8))
    assert found.dtype == kind
    assert host(found).astype(np.float32) == pytest.approx(expected, abs=16 * float(ml_dtypes.finfo(kind).eps))


@pytest.mark.parametrize("n", [1, 1023, 1024, 1025, 2048, 2049, 8200])
@pytest.mark.parametrize(("x", "m"), [("f4", "f4"), ("f4", "f2"), ("f2", "f4"), ("f2", "f2"), (bfloat16, bfloat16)])
def test_a_grid_has_a_thread_for_each_group_of_elements_and_no_block_more(cupy, monkeypatch, x, m, n):
    """A thread takes four elements where all are float32, else eight, a block 256 times as many."""
    launches = []
    kernel = lambda grid, block, arguments: launches.append((grid, block))  # noqa: E731
    monkeypatch.setattr(cupy, "RawModule", lambda **_: types.SimpleNamespace(get_function=lambda name: kernel))
    backend = get_backend("cupy")
    state, output = (cupy.asarray(np.zeros((2, n), kind)) for kind in (x, m))
    backend.step(Row(0.5, 0.25, a=1.0, b=1.0, q=1.0), state, m=output, saved=[], seeds=[0, 1])
    backend.noise(state, [0, 1], draw=0)
    expected = [256 * (4 if {*kinds} == {"f4"} else 8) for kinds in ((x, m), (x,))]
    assert launches == [((-(-n // elements), 2), (256,)) for elements in expected]


class Half:
    """A network that reads and writes float16, and says so."""

    input_dtype = output_dtype = np.dtype(np.float16)

    def __init__(self):
        self.seen = []

    def predict(self, x, t, out):
        assert (x.dtype, out.dtype) == (np.float16, np.float16)
        self.seen.append(host(x) if hasattr(x, "get") else x.copy())
        out[...] = x * np.float16(0.25)


@pytest.mark.parametrize("backend", ["numpy", "cupy"])
def test_a_network_of_half_precision_gets_its_copy_of_x_from_the_row(xp, backend):
    """The state stays float32: only what the network reads and writes is rounded."""
    network, states = Half(), []

    def keep(run, m):
        states.append(host(run.x) if backend == "cupy" else run.x.copy())

    found = sample(network, FlowSDE(timesteps.pid()), shape=SHAPE, seed=3, backend=backend, on_step=keep)
    assert found.dtype == np.float32
    for seen, state in zip(network.seen, states, strict=True):
        assert np.array_equal(seen, state.astype(np.float16))
        assert not np.array_equal(seen.astype(np.float32), state)

    def plain(x, t):
        return (x.astype(np.float16) * np.float16(0.25)).astype(np.float32)

    expected = sample(plain, FlowSDE(timesteps.pid()), shape=SHAPE, seed=3)
    assert (host(found) if backend == "cupy" else found) == pytest.approx(expected, abs=2e-3)


def test_float64_is_numpys_alone(cupy):
    with pytest.raises(PidSamplerError, match="dtype float64 is not float32 or float16 or bfloat16"):
        sample(LAW, FlowSDE([0.9, 0.0]), shape=SHAPE, backend="cupy", dtype=np.float64)
    with pytest.raises(PidSamplerError, match=r"x is float64 of shape .* expected float32 or float16 or bfloat16"):
        start(FlowSDE([0.9, 0.0]), cupy.asarray(np.zeros((1, 3, 4, 4))))


class Quiet:
    """A network that writes without help of the array library."""

    def predict(self, x, t, out):
        np.multiply(np.asarray(x), 0.5, out=np.asarray(out))


def test_nothing_is_moved_or_allocated_after_the_first_step(cupy):
    """Every method: after its first step only launches remain, one a row; no upload, no download, no allocation."""
    for info in list_schedulers():
        backend = get_backend("cupy")
        scheduler = get_scheduler(info.name, timesteps=timesteps.uniform(6))
        cupy.forbidden, launches = set(), []

        def after(run, m, launches=launches):
            launches.append(sum(entry[0] == "launch" for entry in cupy.seen if isinstance(entry, tuple)))
            if run.index == 2:  # the first step with noise has uploaded the seeds
                cupy.forbidden = {"upload", "download", "allocation"}

        cupy.seen.clear()
        sample((Quiet(), Quiet()), scheduler, shape=SHAPE, seed=3, backend="cupy", on_step=after)
        assert launches == list(range(1, 1 + len(scheduler.table())))  # the initial noise, then one a row
        assert cupy.seen.count("upload") <= 1
        cupy.forbidden = set()
        assert get_backend("cupy") is backend


def test_kernels_are_compiled_once(cupy):
    cupy._libraries = {}
    for _ in range(3):
        sample(LAW, FlowSDE(timesteps.pid()), shape=SHAPE, backend="cupy")
    assert sorted(name for name, _ in cupy.compiled) == ["pid_fill", "pid_step", "pid_step"]  # with noise and without
    assert all("--std=c++17" in options for _, options in cupy.compiled)


def test_launches_are_on_one_stream_ordered_with_the_callers(cupy):
    backend = get_backend("cupy")
    assert backend.stream.is_non_blocking
    x, m = cupy.asarray(np.ones((1, 8), np.float32)), cupy.asarray(np.ones((1, 8), np.float32))
    row = FlowSDE([0.9, 0.0]).table().rows[0]
    caller, ours = cupy.cuda.get_current_stream().ptr, backend.stream.ptr
    cupy.seen.clear()
    backend.step(row, x, m=m, saved=[], seeds=[0])
    assert cupy.seen == [
        ("record", caller), ("wait", ours), ("launch", "pid_step", ours), ("record", ours), ("wait", caller)
    ]  # fmt: skip
    cupy.seen.clear()
    with backend.stream:  # as around a whole upscale: nothing to wait for
        backend.step(row, x, m=m, saved=[], seeds=[0])
    assert cupy.seen == [("launch", "pid_step", ours)]


def test_pictures_as_on_numpy(xp):
    backend, numpy = get_backend("cupy"), get_backend("numpy")
    rng = np.random.default_rng(0)
    for kind in (np.uint8, np.uint16):
        picture = rng.integers(0, np.iinfo(kind).max, (5, 7, 3)).astype(kind)
        tensor = to_tensor(picture, size=(8, 16), backend=backend)
        assert host(tensor) == pytest.approx(to_tensor(picture, size=(8, 16), backend=numpy), abs=2e-7)
        image = to_image(tensor, size=(5, 7), backend=backend)
        assert type(image) is np.ndarray
        assert np.array_equal(image, to_image(host(tensor), size=(5, 7), backend=numpy))
    broken = xp.asarray(np.full((1, 3, 2, 3), np.nan, np.float32))
    with pytest.raises(PidSamplerError, match="holds NaN or infinity"):
        to_image(broken, size=(2, 3), backend=backend)


def test_a_result_is_one_download(cupy):
    backend = get_backend("cupy")
    x = cupy.asarray(np.zeros((1, 3, 5, 7), np.float32))
    cupy.seen.clear()
    to_image(x, size=(5, 7), backend=backend)
    assert cupy.seen.count("download") == 1


def arrays(cupy, *shapes, dtype=np.float32):
    return [cupy.asarray(np.ones(shape, dtype)) for shape in shapes]


def test_the_launch_wrapper_refuses(cupy):
    backend = get_backend("cupy")
    row = Row(0.9, 0.4, a=0.5, b=0.3, h={0: 0.1}, p=1.0)

    def step(x, m, saved):
        backend.step(row, x, m=m, saved=[saved], seeds=[0])

    x, m, saved = arrays(cupy, (1, 8), (1, 8), (1, 8))
    with pytest.raises(PidSamplerError, match="expected a CuPy array, found ndarray: pass it through adopt"):
        step(x, np.ones((1, 8), np.float32), saved)
    with pytest.raises(PidSamplerError, match=r"one row takes arrays of one shape, found \(1, 9\) and \(1, 8\)"):
        step(x, *arrays(cupy, (1, 9)), saved)
    with pytest.raises(PidSamplerError, match=r"is not contiguous: pass cupy\.ascontiguousarray"):
        step(x, arrays(cupy, (1, 16))[0][:, ::2], saved)
    with pytest.raises(PidSamplerError, match="dtype float64 on the GPU is not"):
        step(x, *arrays(cupy, (1, 8), dtype=np.float64), saved)
    with pytest.raises(PidSamplerError, match="a saved tensor or result is float16, expected float32"):
        step(x, m, *arrays(cupy, (1, 8), dtype=np.float16))
    elsewhere = arrays(cupy, (1, 8))[0]
    elsewhere.where = 1
    with pytest.raises(PidSamplerError, match=r"an array is on GPU 1, expected GPU 0.* by CUDA_VISIBLE_DEVICES=1"):
        step(x, elsewhere, saved)
    with pytest.raises(PidSamplerError, match="an array is on GPU 1, expected GPU 0"):
        backend.adopt(elsewhere)
    memory = arrays(cupy, (1, 12))[0]
    with pytest.raises(PidSamplerError, match="two arrays of one row overlap in part"):
        step(memory[:, :8], m, memory[:, 4:])
    odd = cupy.asarray(np.zeros(33, np.uint8))[1:].view(np.float32).reshape(1, 8)
    with pytest.raises(PidSamplerError, match=r"begins at 0x[0-9a-f]+, not at a whole element"):
        step(x, odd, saved)
    step(x, m, saved)  # and the same memory twice is fine
    step(x, m, m)


def test_arrays_that_16_does_not_divide_take_the_scalar_kernel(cupy):
    backend = get_backend("cupy")
    row = FlowSDE([0.9, 0.4, 0.0]).table().rows[0]
    values = np.random.default_rng(0).normal(size=(2, 1, 9)).astype(np.float32)
    plain = [v.copy() for v in values]
    get_backend("numpy").step(row, plain[0], m=plain[1], saved=[], seeds=[5])
    memory = cupy.asarray(np.zeros(40, np.float32))
    x, m = memory[1:10].reshape(1, 9), memory[12:21].reshape(1, 9)
    x[...], m[...] = values
    backend.step(row, x, m=m, saved=[], seeds=[5])
    assert np.asarray(x) == pytest.approx(plain[0], abs=1e-6)
    assert (memory[[0, 10, 11, 21, 22]] == 0).all()
    assert "-DPID_VECTOR=0" in next(flags for name, flags in backend._kernels if name == "pid_step")


def test_an_empty_batch_launches_nothing(cupy):
    backend = get_backend("cupy")
    cupy.seen.clear()
    backend.noise(backend.empty((0, 3, 4), np.float32), [], draw=0)
    assert not any(entry[0] == "launch" for entry in cupy.seen if isinstance(entry, tuple))


def test_a_batch_of_more_images_than_a_launch_takes(cupy):
    backend = get_backend("cupy")
    x = backend.empty((65536, 1), np.float32)
    with pytest.raises(PidSamplerError, match="a batch of 65536 images is more than the 65535 of a launch"):
        backend.noise(x, [0] * 65536, draw=0)
    backend.noise(x[:65535], [0] * 65535, draw=0)


def test_another_gpu_as_the_current_one_is_an_error_before_anything_is_done(cupy):
    """CuPy's stream would raise a RuntimeError of its own, or work would go to the other GPU."""
    backend = get_backend("cupy")
    x = cupy.asarray(np.ones((1, 8), np.float32))
    cupy.cuda.Device(1).use()
    for call in (
        lambda: backend.noise(x, [0], draw=0),
        lambda: backend.empty((1, 8), np.float32),
        lambda: backend.adopt(np.ones((1, 8), np.float32)),
        lambda: backend.to_host(x),
    ):
        with pytest.raises(DeviceError, match=r"^GPU 1 is CuPy's current one.*with cupy\.cuda\.Device\(0\)"):
            call()
    cupy.cuda.Device(0).use()
    backend.noise(x, [0], draw=0)


def test_arrays_that_cannot_be_adopted(cupy):
    with pytest.raises(PidSamplerError, match="str cannot be read as a CUDA array"):
        get_backend("cupy").adopt("x")
    cupy.from_dlpack = lambda x: (_ for _ in ()).throw(RuntimeError("another GPU"))
    with pytest.raises(PidSamplerError, match="CudaTensor cannot be read as a CUDA array: another GPU"):
        get_backend("cupy").adopt(CudaTensor(np.zeros(3)))


def test_no_cupy_no_driver_and_no_gpu(cupy, folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", fake_cupy.FakeCupy(folder, devices=0))
    with pytest.raises(PidSamplerError, match="no GPU can be used: the driver finds none"):
        get_backend("cupy")

    def raises():
        raise RuntimeError("cudaErrorInsufficientDriver: CUDA driver version is insufficient")

    broken = fake_cupy.FakeCupy(folder)
    broken.cuda.runtime = types.SimpleNamespace(getDeviceCount=raises)
    monkeypatch.setitem(sys.modules, "cupy", broken)
    with pytest.raises(PidSamplerError, match="no GPU can be used: cudaErrorInsufficientDriver"):
        get_backend("cupy")
    monkeypatch.setitem(sys.modules, "cupy", None)
    with pytest.raises(PidSamplerError, match=r"cupy is not installed: pip install 'pidsampler\[cuda13\]'"):
        get_backend("cupy")
