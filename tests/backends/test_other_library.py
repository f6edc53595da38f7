"""Backends of other array libraries, written here against the public interface: the package is not edited for them.

array-api-strict has what the array API standard has and no more: no `flags`, `copy` or `reshape`, no iteration, no
length, no element types of numpy's, and no assignment from one type to another. PyTorch joins where it is installed.
"""

import array_api_strict as strict
import numpy as np
import pytest

from pidsampler import FlowSDE, PidSamplerError, get_scheduler, list_schedulers, sample, start, timesteps
from pidsampler.backends import BACKENDS, Backend, Launcher, backend_of, get_backend, registry
from pidsampler.backends.plain import PlainBackend
from pidsampler.denoiser import Gaussian, Guided
from pidsampler.image import blend, blocks, color, despeckle, lanczos, pixels
from pidsampler.upscale.tiles import Grid, Tiled, axis

SHAPE = (2, 3, 6, 8)
LAW = Gaussian(0.2, 0.6)
OTHER = Gaussian(-0.1, 0.4)  # for rows that ask an unconditional network


class Strict(PlainBackend):
    """array-api-strict's arrays."""

    name = "strict"

    @staticmethod
    def owns(x):
        return isinstance(x, type(strict.empty(0)))

    def empty(self, shape, dtype):
        own = isinstance(dtype, type(strict.float32))
        return strict.empty(tuple(shape), dtype=dtype if own else getattr(strict, np.dtype(dtype).name))

    def adopt(self, x):
        return x if self.owns(x) else strict.from_dlpack(np.ascontiguousarray(x))


def torch_backend():
    torch = pytest.importorskip("torch", reason="PyTorch is not installed")

    class Torch(PlainBackend):
        """PyTorch's tensors on the CPU."""

        name = "torch"

        @staticmethod
        def owns(x):
            return isinstance(x, torch.Tensor)

        def empty(self, shape, dtype):
            own = isinstance(dtype, torch.dtype)
            return torch.empty(tuple(shape), dtype=dtype if own else getattr(torch, np.dtype(dtype).name))

        def adopt(self, x):
            return x.detach() if self.owns(x) else torch.from_numpy(np.ascontiguousarray(x))

        def to_host(self, x):
            return x.detach().numpy()

    return Torch


@pytest.fixture(name="backend", params=["strict", "torch"])
def _backend(request):
    return Strict() if request.param == "strict" else torch_backend()()


@pytest.fixture(name="registered")
def _registered(backend):
    BACKENDS.register(type(backend), name=backend.name)
    yield get_backend(backend.name)
    BACKENDS.unregister(backend.name)
    registry._made.cache_clear()


def test_it_is_a_backend_that_launches_nothing(backend):
    assert isinstance(backend, Backend)
    assert not isinstance(backend, Launcher)
    assert get_backend(backend) is backend


@pytest.mark.parametrize("info", list_schedulers(), ids=lambda info: info.name)
def test_every_method_as_on_numpy(backend, info):
    scheduler = get_scheduler(info.name, timesteps=timesteps.uniform(5))
    found = sample((LAW, OTHER), scheduler, shape=SHAPE, seed=[4, 2**40], backend=backend)
    assert backend.owns(found)
    expected = sample((LAW, OTHER), scheduler, shape=SHAPE, seed=[4, 2**40])
    assert backend.to_host(found) == pytest.approx(expected, abs=3e-6)


@pytest.mark.parametrize("noise", ["fixed", "brownian", "torch"])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_every_noise_and_type_as_on_numpy(backend, noise, dtype):
    found, expected = (
        sample(LAW, FlowSDE(timesteps.pid()), shape=SHAPE, seed=7, backend=where, noise=noise, dtype=dtype)
        for where in (backend, "numpy")
    )
    assert backend.dtype(found) == dtype
    assert backend.to_host(found) == pytest.approx(expected, abs=3e-6)


@pytest.mark.parametrize("form", ["object", "name", "owner"])
def test_a_loop_of_ones_own(backend, form, request):
    """The backend is given as an object or by name, or found as the owner of x."""
    registered = None if form == "object" else request.getfixturevalue("registered")
    given = {"object": backend, "name": backend.name, "owner": None}[form]
    x = np.random.default_rng(0).normal(size=SHAPE).astype(np.float32)
    mine = backend.adopt(x)
    runs = [
        start(FlowSDE(timesteps.pid()), array, seed=[0, 1], backend=where)
        for array, where in ((mine, given), (x, "numpy"))
    ]
    assert form != "owner" or backend_of(mine) is registered
    for _ in runs[1]:
        previews = []
        for run, owner in zip(runs, (backend, get_backend("numpy")), strict=True):
            m = owner.empty(run.x.shape, run.x.dtype)
            LAW.predict(run.x, run.row.t, m)
            out = owner.empty(run.x.shape, run.x.dtype)
            assert run.predict_x0(m, out) is out
            previews.append(owner.to_host(out))
            run.step(m)
        assert previews[0] == pytest.approx(previews[1], abs=2e-6)
    assert backend.to_host(runs[0].x) == pytest.approx(runs[1].x, abs=2e-6)
    assert np.array_equal(backend.to_host(mine), x)
    again = start(FlowSDE([0.9, 0.0]), mine, inplace=True, backend=backend)
    assert backend.pointer(again.x) == backend.pointer(mine)


def test_what_it_refuses(backend):
    with pytest.raises(PidSamplerError, match="dtype float16 is not float32 or float64"):
        sample(LAW, FlowSDE([0.9, 0.0]), shape=SHAPE, backend=backend, dtype=np.float16)
    whole = backend.adopt(np.zeros((1, 3, 4, 8), np.int32))
    with pytest.raises(PidSamplerError, match=r"x is int32 of shape .* expected float32 or float64"):
        start(FlowSDE([0.9, 0.0]), whole, backend=backend)
    aside = backend.adopt(np.zeros((1, 3, 4, 8), np.float32))[:, :, :, 4:]
    with pytest.raises(PidSamplerError, match="with inplace=True x must be contiguous and writable"):
        start(FlowSDE([0.9, 0.0]), aside, inplace=True, backend=backend)


def test_noise_that_keeps_a_share_of_what_was(backend):
    found, expected = backend.adopt(np.ones(SHAPE, np.float32)), np.ones(SHAPE, np.float32)
    for where, x in ((backend, found), (get_backend("numpy"), expected)):
        where.noise(x, [3, 4], draw=2, stream=1, keep=0.25, scale=0.5)
    assert backend.to_host(found) == pytest.approx(expected, abs=1e-6)


def test_rows_that_clip_and_save_x_itself(backend):
    """What is saved is of the old x, also where it is x itself, and a tensor of weight 0 is not read."""
    from pidsampler.table import Combination, Row

    rng = np.random.default_rng(0)
    x, m, kept = rng.normal(size=(3, *SHAPE)).astype(np.float32)
    kept[0, 0] = np.nan
    row = Row(0.9, 0.4, a=0.5, b=0.3, saves={0: Combination(a=1.0), 1: Combination()}, p=1.0, q=-0.9, clip=0.6)
    found = [backend.adopt(array.copy()) for array in (x, m, kept, kept)]
    backend.step(row, found[0], m=found[1], saved=found[2:], seeds=[0, 1], copy=backend.empty(SHAPE, np.float64))
    expected = [array.copy() for array in (x, m, kept, kept)]
    get_backend("numpy").step(row, expected[0], m=expected[1], saved=expected[2:], seeds=[0, 1])
    for one, other in zip(found, expected, strict=True):
        assert backend.to_host(one) == pytest.approx(other, abs=1e-6)
    assert np.array_equal(expected[2], x)


def test_pictures_bit_for_bit(backend):
    """Each operation on pictures, on the host for all but launchers."""
    rng = np.random.default_rng(0)
    small = rng.integers(0, 256, (12, 19, 3), np.uint8)
    large = rng.normal(0, 0.7, (1, 3, 52, 80)).astype(np.float32)

    def finished(where):
        tensor = pixels.to_tensor(small, size=(13, 24), backend=where)
        x = where.adopt(large.copy())
        drift = color.match(x, small, scale=4, method="match", strength=0.8, backend=where)
        half = lanczos.reduce(x, size=(48, 76), new_size=(24, 38), backend=where)
        assert lanczos.reduce(half, size=(24, 38), new_size=(24, 38), backend=where) is half
        means = blocks.block_means(half, blocks.Blocks(6, 9, scale=4, rows=2, columns=3), powers=2, backend=where)
        pictures = [
            pixels.to_image(half, size=(24, 38), despeckle=levels, backend=where)
            for levels in (None, despeckle.DESPECKLE)
        ]
        return [where.to_host(tensor), where.to_host(x), where.to_host(half), means, *pictures], drift

    (found, drift), (expected, its) = finished(backend), finished(get_backend("numpy"))
    for one, other in zip(found, expected, strict=True):
        assert type(one) is np.ndarray
        assert np.array_equal(one, other)
    assert drift == its


def test_tiles(backend):
    """Blended tiles of a network that sees each pixel alone are the whole."""
    grid = Grid(axis(24, 16, overlap=8), axis(40, 16, overlap=8))
    x = backend.adopt(np.random.default_rng(0).normal(size=(1, 3, 24, 40)).astype(np.float32))
    whole, tiled = backend.empty(x.shape, np.float32), backend.empty(x.shape, np.float32)
    LAW.predict(x, 0.5, whole)
    Tiled(lambda tile: LAW, grid, backend=backend).predict(x, 0.5, tiled)
    assert backend.to_host(tiled) == pytest.approx(backend.to_host(whole), abs=1e-6)


class Apart(Strict):
    """Memory that the host cannot see, as a GPU's: what it is given it copies."""

    name, device = "apart", "cuda"
    downloads = 0

    def to_host(self, x):
        self.downloads += 1
        return np.array(super().to_host(x))

    def write(self, x, out):
        out[...] = strict.astype(x, out.dtype)


def test_memory_that_is_not_the_hosts():
    """What an operation writes in place comes back to the device."""
    where, rng = Apart(), np.random.default_rng(0)
    tile, old = rng.normal(size=(1, 3, 4, 5)).astype(np.float32), rng.normal(size=(1, 3, 8, 9)).astype(np.float32)
    ones = np.ones(4, np.float32), np.ones(5, np.float32)
    results = []
    for backend in (where, get_backend("numpy")):
        out, rows, columns, values = (backend.adopt(a.copy()) for a in (old, *ones, tile))
        place = {"rows": rows, "columns": columns, "top": 2, "left": 3, "unwritten": (1, 2), "backend": backend}
        blend.blend(values, out, **place)
        small = rng.integers(0, 256, (2, 2, 3), np.uint8) * 0 + 90
        color.match(out, small, scale=4, method="adain", strength=1.0, backend=backend)
        results.append(backend.to_host(out))
    assert np.array_equal(*results)
    assert where.downloads > 3


def test_guidance_of_an_array_that_has_no_copy():
    xp = pytest.importorskip("array_api_strict")
    x, out = xp.ones((1, 3, 2, 2)), xp.zeros((1, 3, 2, 2))
    Guided(lambda x, t: x, lambda x, t: 3.0 * x, 2.0).predict(x, 0.5, out)
    assert np.all(np.from_dlpack(out) == -1.0)
