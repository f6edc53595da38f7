"""Tiles: their geometry and weights, `Tiled` against the whole, the encoder's twin, and the kernel that blends.

Tried mutations, each of which fails here. Geometry: a margin of an eighth, none or half of an overlap, ramps that rise
on both sides, no normalization, a tile too many, starts not aligned, an overlap rounded down. Tiled: the first tile's
network or conditions kept for all, one tile not passed straight or in the wrong type, buffers made anew or kept for
another batch, weights uploaded each time, of float32 for a state of float64, or of the other side, everything fresh, or
the two sides of what is fresh swapped; a latent's part not contiguous. Blending: what is fresh from one side on is
enough, added to what was there, or read for nothing; the tail stored whole; the image's offset, the place or a weight
forgotten; the element types swapped; vector stores where 16 does not divide; rows done by two threads.
"""

import shutil
from itertools import product

import emulated
import numpy as np
import pytest
from emulated import DTYPES, Guarded
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image
from variants import TILES

from pidsampler import FlowODE, FlowSDE, PidSamplerError, get_scheduler, list_schedulers, sample, timesteps
from pidsampler.backends import get_backend, registry
from pidsampler.backends.kernels import source
from pidsampler.denoiser import Gaussian, GaussianMixture, Guided
from pidsampler.image.blend import blend
from pidsampler.image.pixels import to_tensor
from pidsampler.onnx import Model
from pidsampler.upscale.tiles import OVERLAP, Axis, Grid, Tile, Tiled, axis, cut_latent, encode_in_tiles

NUMPY = get_backend("numpy")


def along(length, size, overlap, unit=1):
    return axis(length, size, overlap=overlap, unit=unit)


def box(top, left, height, width):
    return Tile(top, left, height=height, width=width)


needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to run the kernels with")


@pytest.fixture(
    name="name",
    params=["numpy", pytest.param("stand-in", marks=needs_compiler), pytest.param("gpu", marks=pytest.mark.gpu)],
)
def _name(request):
    """A backend's name: one test body for numpy, the stand-in, and CuPy itself where there is a GPU."""
    if request.param == "numpy":
        return "numpy"
    if request.param == "stand-in":
        request.getfixturevalue("cupy")
        return "cupy"
    real = pytest.importorskip("cupy", reason="CuPy is not installed")
    try:
        real.cuda.runtime.getDeviceCount()
    except RuntimeError as error:
        pytest.skip(f"no GPU: {error}")
    registry._made.cache_clear()
    return "cupy"


def host(x):
    return np.array(x.get() if hasattr(x, "get") else x)


# Geometry and weights


@st.composite
def cuts(draw):
    """(length, size, overlap, unit) that `axis` takes."""
    unit, tiles = draw(st.integers(1, 33)), draw(st.integers(1, 24))
    length = draw(st.one_of(st.integers(1, 6 * tiles), st.integers(1, 2 * tiles)))
    return length * unit, tiles * unit, draw(st.integers(0, (tiles - 1) * unit)), unit


@settings(max_examples=300)
@given(cuts())
@example((4096, 512, 128, 32))
@example((997, 89, 88, 1))
@example((65, 64, 63, 1))  # all of two tiles but one pixel
@example((66, 64, 63, 1))  # three over almost all pixels
def test_tiles_cover_a_side_evenly_with_the_overlap_and_no_more_of_them(cut):
    length, size, overlap, unit = cut
    found = along(*cut)
    if size >= length:
        assert found == Axis(length, length, starts=(0,))
        return
    assert (found.length, found.size, found.starts[0], found.starts[-1]) == (length, size, 0, length - size)
    assert all(start % unit == 0 for start in found.starts)
    shared, steps = -(-overlap // unit) * unit, np.diff(found.starts)
    assert (size - steps >= shared).all()
    assert found.overlaps == (0, *(size - steps))
    assert np.ptp(steps) <= unit
    assert (len(steps) - 1) * (size - shared) < length - size  # one tile less would not reach


def total(side, dtype=np.float64):
    """The sum, in float64, of the weights as they are in another type."""
    found = np.zeros(side.length)
    for start, weight in zip(side.starts, side.weights, strict=True):
        found[start : start + side.size] += weight.astype(dtype)
    return found


@settings(max_examples=200)
@given(cuts())
@example((65, 64, 63, 1))
@example((66, 64, 63, 1))
@example((997, 89, 88, 1))
def test_weights_sum_to_one_and_leave_the_outer_quarter_of_an_overlap_out(cut):
    side = along(*cut)
    with np.errstate(all="raise"):
        weights = side.weights
    assert weights is side.weights  # made once
    assert np.abs(total(side) - 1).max() <= 1e-15
    assert np.abs(total(side, np.float32) - 1).max() <= 2.0**-24
    overlaps = (*side.overlaps, 0)
    for weight, before, after in zip(weights, overlaps, overlaps[1:], strict=False):
        margin, last = before // 4, side.size - after // 4
        assert weight.shape == (side.size,)
        assert (weight[:margin] == 0).all()
        assert (weight[last:] == 0).all()
        assert (weight[margin:last] > 0).all()
        assert (weight <= 1).all()
    assert weights[0][0] == weights[-1][-1] == 1


def test_weights_of_every_small_side():
    """All sides up to 12 pixels: also the shortest tiles and the longest overlaps."""
    count = 0
    for length in range(1, 13):
        for size in range(1, length + 1):
            for overlap in range(size):
                with np.errstate(all="raise"):
                    assert np.abs(total(along(length, size, overlap)) - 1).max() <= 4e-16
                count += 1
    assert count == 364


def test_the_ramp_of_an_overlap():
    before, after = along(24, 16, 8).weights
    ramp = (1 - np.cos(np.pi * (np.arange(4) + 0.5) / 4)) / 2
    assert after == pytest.approx(np.r_[[0] * 2, ramp, [1] * 10], abs=1e-15)
    assert before == pytest.approx(after[::-1], abs=1e-15)
    with pytest.raises(ValueError, match="read-only"):
        before[0] = 2


def test_tiles_that_only_touch_have_weights_of_one():
    side = along(12, 4, 0)
    assert side.starts == (0, 4, 8)
    assert all((weight == 1).all() for weight in side.weights)


def test_a_grid_goes_row_by_row():
    grid = Grid(along(6, 4, 1), along(3, 5, 2))
    assert list(grid) == [box(0, 0, 4, 3), box(2, 0, 4, 3)]
    assert len(grid) == 2
    wide = Grid(along(64, 64, 0, 32), along(160, 64, 32, 32))
    assert [tile.left for tile in wide] == [0, 32, 64, 96]
    assert wide.reduced(32) == Grid(Axis(2, 2, starts=(0,)), Axis(5, 2, starts=(0, 1, 2, 3)))


@pytest.mark.parametrize(
    ("cut", "message"),
    [
        ((0, 4, 0, 1), "length=0 must be a whole number in 1.."),
        ((9, 0, 0, 1), "size=0 must be"),
        ((9, 4, -1, 1), "overlap=-1 must be"),
        ((9, 4, 0, 0), "unit=0 must be"),
        ((9, 4, 4, 1), r"overlap 4 leaves nothing of a tile of 4 .* an overlap of at most 3, or tiles of at least 5"),
        ((96, 64, 33, 32), r"overlap 33 leaves nothing .* an overlap of at most 32, or tiles of at least 96"),
        ((100, 64, 0, 32), "a side of 100 pixels is not a multiple of 32: pass 128"),
        ((128, 60, 0, 32), "a tile of 60 pixels is not a multiple of 32: pass 64"),
    ],
)
def test_axis_refuses(cut, message):
    with pytest.raises(PidSamplerError, match=message):
        along(*cut)


@pytest.mark.parametrize("starts", [(), (1, 4), (0, 3), (0, 1, 1, 4), (0, 5, 4), (0, 4)])
def test_tiles_that_leave_gaps_are_refused(starts):
    with pytest.raises(PidSamplerError, match="do not cover 7: make an Axis by axis"):
        Axis(7, 3, starts=starts)


def test_grids_that_a_factor_does_not_divide():
    with pytest.raises(PidSamplerError, match=r"begin or end at 12, not a multiple of 8: make the grid with unit=8"):
        along(40, 16, 0, 4).reduced(8)


# Whole against tiled


def gaussian(shape, dtype=np.float32, seed=0):
    """A mean and a standard deviation for each element, so that a tile must have its own part of them."""
    rng = np.random.default_rng(seed)
    return rng.uniform(-1, 1, (1, *shape[1:])).astype(dtype), rng.uniform(0.1, 0.5, (1, *shape[1:])).astype(dtype)


def part(array, tile):
    return array[:, :, tile.top : tile.top + tile.height, tile.left : tile.left + tile.width]


def cut_gaussian(mean, std, backend=NUMPY):
    mean, std = backend.adopt(mean), backend.adopt(std)
    return lambda tile: Gaussian(part(mean, tile), part(std, tile))


def compare(shape, grid, table, name="numpy", dtype=np.float32, seed=0):
    """Return the largest difference of tiled and whole, in relation to the whole where that is above 1."""
    mean, std = gaussian(shape, dtype)
    backend = get_backend(name)
    arguments = {"seed": seed, "backend": name, "dtype": dtype}
    cuts = [cut_gaussian(mean, std, backend), cut_gaussian(-mean, std, backend)]  # for rows that ask a pair
    everything = box(0, 0, *shape[2:])
    whole = host(sample(tuple(cut(everything) for cut in cuts), table, shape=shape, **arguments))
    tiled = host(sample(tuple(Tiled(cut, grid, backend=backend) for cut in cuts), table, shape=shape, **arguments))
    assert tiled.dtype == whole.dtype == dtype
    assert np.abs(whole).max() > 0.05 if whole.size > 100 else True
    return np.abs(tiled - whole).max() / max(1, np.abs(whole).max())


PRIMES = (2, 3, 5, 7, 31, 61, 101, 199, 307)
TABLE = FlowSDE([0.999, 0.5, 0.0]).table()


@st.composite
def sides(draw):
    """(length, size, overlap) of unit 1, of any length up to some hundreds and not above a dozen tiles."""
    length = draw(st.one_of(st.integers(1, 40), st.sampled_from(PRIMES), st.integers(1, 320)))
    size = draw(st.integers(max(1, length // 7), length + 2))
    least = size // 2 if length > 40 else size - 1
    return length, size, draw(st.integers(0, min(least, size - 1)))


@settings(max_examples=60, derandomize=True)
@given(sides(), sides(), st.sampled_from([np.float32, np.float64]))
@example((1, 1, 0), (1, 1, 0), np.float32)
@example((1, 7, 0), (313, 100, 20), np.float32)
@example((12, 1, 0), (12, 1, 0), np.float64)  # tiles of one pixel
@example((12, 5, 4), (13, 12, 11), np.float32)  # five tiles over a pixel
@example((700, 256, 64), (900, 301, 100), np.float32)
@example((701, 702, 0), (887, 89, 1), np.float32)  # primes, in strips
def test_tiled_and_whole_agree(rows, columns, dtype):
    """To 1e-5 in float32; in float64 to its own rounding, since the weights are of float64 there."""
    shape = (1, 3, rows[0], columns[0])
    tolerance = 1e-5 if dtype == np.float32 else 1e-12
    assert compare(shape, Grid(along(*rows), along(*columns)), TABLE, dtype=dtype) <= tolerance


SMALL = (2, 3, 13, 17)
CUT = Grid(along(13, 6, 2), along(17, 8, 3))  # 3x3 tiles, the last of them shifted inwards


@pytest.mark.parametrize("info", list_schedulers(), ids=lambda info: info.name)
def test_every_scheduler(info):
    table = get_scheduler(info.name, timesteps=timesteps.uniform(6)).table()
    assert compare(SMALL, CUT, table, seed=[4, 2**40]) <= 1e-5
    assert compare(SMALL, CUT, table, seed=[4, 2**40], dtype=np.float64) <= 1e-12


@pytest.mark.parametrize(
    ("shape", "grid"),
    [
        (SMALL, CUT),
        ((1, 3, 1, 1), Grid(along(1, 1, 0), along(1, 1, 0))),
        ((1, 3, 31, 5), Grid(along(31, 7, 5), along(5, 9, 0))),
        ((2, 3, 32, 64), Grid(along(32, 16, 8, 8), along(64, 32, 16, 8))),  # vector loads
        ((1, 3, 12, 13), Grid(along(12, 5, 4), along(13, 12, 11))),
    ],
    ids=str,
)
def test_tiled_and_whole_agree_on_either_backend(name, shape, grid):
    assert compare(shape, grid, FlowSDE(timesteps.pid()).table(), name) <= 1e-5


@pytest.mark.parametrize("where", ["inside", "outside"])
def test_guidance_inside_and_outside_of_tiles(name, where):
    """A guided network in tiles, and the guidance of two tiled networks."""
    backend = get_backend(name)
    cut, other = (cut_gaussian(*gaussian(SMALL, seed=seed), backend) for seed in (1, 2))
    everything = box(0, 0, *SMALL[2:])
    if where == "inside":
        tiled = Tiled(lambda tile: Guided(cut(tile), other(tile), 2.5), CUT, backend=backend)
    else:
        tiled = Guided(Tiled(cut, CUT, backend=backend), Tiled(other, CUT, backend=backend), 2.5)
    table = FlowODE(timesteps.uniform(5))
    found = host(sample(tiled, table, shape=SMALL, backend=name))
    expected = host(sample(Guided(cut(everything), other(everything), 2.5), table, shape=SMALL, backend=name))
    assert np.abs(found - expected).max() <= 1e-5 * max(1, np.abs(expected).max())


def test_a_mixture(name):
    law = GaussianMixture([-0.6, 0.5], [0.3, 0.2], [1, 2])
    tiled = Tiled(lambda tile: law, CUT, backend=get_backend(name))
    for table in (FlowSDE(timesteps.pid()), get_scheduler("dpmpp-2m", timesteps=timesteps.uniform(6))):
        found, expected = (host(sample(network, table, shape=SMALL, backend=name)) for network in (tiled, law))
        assert found == pytest.approx(expected, abs=1e-5)


def test_seams_need_an_overlap():
    """What is compared above does differ where a network lacks surroundings: a blur, whose tiles end at their edges."""

    def blur(x, t):
        wide = np.pad(x, ((0, 0), (0, 0), (0, 0), (1, 1)), mode="edge")
        return (wide[..., :-2] + wide[..., 1:-1] + wide[..., 2:]) / 3

    def difference(overlap):
        width = 40 - overlap  # of two tiles
        tiled = Tiled(lambda tile: blur, Grid(along(8, 8, 0), along(width, 20, overlap)), backend=NUMPY)
        x = np.random.default_rng(0).normal(size=(1, 3, 8, width)).astype(np.float32)
        out = np.empty_like(x)
        tiled.predict(x, 0.5, out)
        return np.abs(out - blur(x, 0.5)).max()

    assert difference(0) > 0.1
    assert difference(3) > 0.01  # no margin of a whole pixel
    assert difference(4) < 1e-6


# The wrapper


class Recorded:
    """A network that notes what it is given."""

    def __init__(self, **attributes):
        self.calls = []
        self.__dict__.update(attributes)

    def predict(self, x, t, out):
        self.calls.append((x, out))
        out[...] = x * 0.5


def test_conditions_are_cut_anew_for_each_tile_and_step_and_progress_is_told():
    cuts, told = [], []
    tiled = Tiled(lambda tile: cuts.append(tile) or Recorded(), CUT, backend=NUMPY, on_tile=lambda *at: told.append(at))
    sample(tiled, FlowODE([0.9, 0.5, 0.0]), shape=SMALL)
    assert cuts == [*CUT] * 2
    assert told == [(k, 9) for k in range(1, 10)] * 2


def test_buffers_are_made_once_and_are_contiguous():
    network = Recorded(input_dtype=np.dtype(np.float16), output_dtype=np.dtype(np.float16))
    tiled = Tiled(lambda tile: network, CUT, backend=NUMPY)
    for shape in (SMALL, (1, *SMALL[1:])):
        network.calls.clear()
        sample(tiled, FlowODE([0.9, 0.5, 0.0]), shape=shape)
        assert len({(id(x), id(out)) for x, out in network.calls}) == 1
        for array in network.calls[0]:
            assert array.shape == (*shape[:2], 6, 8)
            assert array.dtype == np.float16
            assert array.flags.c_contiguous


@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
def test_a_network_of_half_precision(name, dtype):
    """It reads and writes its own type; state and sum are float32."""
    kind = next(d for d in DTYPES.values() if d == dtype)
    network = Recorded(input_dtype=kind, output_dtype=kind)
    tiled = Tiled(lambda tile: network, CUT, backend=get_backend(name))
    found = host(sample(tiled, FlowSDE(timesteps.pid()), shape=SMALL, backend=name))
    whole = host(
        sample(Recorded(input_dtype=kind, output_dtype=kind), FlowSDE(timesteps.pid()), shape=SMALL, backend=name)
    )
    assert found == pytest.approx(whole, abs=1e-6)


def test_one_tile_goes_straight_to_its_network():
    network, asked = Recorded(), []
    grid = Grid(along(13, 20, 2), along(17, 17, 3))
    tiled = Tiled(lambda tile: asked.append(tile) or network, grid, backend=NUMPY)
    x, out = np.ones(SMALL, np.float32), np.empty(SMALL, np.float32)
    for _ in range(3):
        tiled.predict(x, 0.5, out)
    assert all(call[0] is x and call[1] is out for call in network.calls)
    assert asked == [box(0, 0, 13, 17)]
    half = Recorded(input_dtype=np.dtype(np.float16), output_dtype=np.dtype(np.float16))
    Tiled(lambda tile: half, grid, backend=NUMPY).predict(x, 0.5, out)
    assert half.calls[0][0].dtype == np.float16
    assert (out == 0.5).all()


def test_nothing_but_launches_after_the_first_step(cupy):
    """No upload, download or allocation; one launch a tile beside that of each row."""

    class Quiet:
        def predict(self, x, t, out):
            np.multiply(np.asarray(x), 0.5, out=np.asarray(out))

    def after(run, m):
        if run.index == 1:
            cupy.seen.clear()
            cupy.forbidden = {"upload", "download", "allocation"}

    network = Quiet()
    backend = get_backend("cupy")
    sample(
        Tiled(lambda tile: network, CUT, backend=backend),
        FlowODE(timesteps.uniform(5)),
        shape=SMALL,
        backend="cupy",
        on_step=after,
    )
    launches = [entry for entry in cupy.seen if isinstance(entry, tuple) and entry[0] == "launch"]
    assert [name for _, name, _ in launches] == ["pid_step", *(["pid_tile"] * 9 + ["pid_step"]) * 3]
    assert {stream for *_, stream in launches} == {backend.stream.ptr}


def test_tiled_refuses():
    tiled = Tiled(lambda tile: None, CUT, backend=NUMPY)
    with pytest.raises(PidSamplerError, match=r"expected a Denoiser with predict.* found None"):
        sample(tiled, TABLE, shape=SMALL)
    with pytest.raises(PidSamplerError, match=r"shapes \(1, 3, 13, 18\) .* the tiles are those of .* 13, 17\)"):
        sample(tiled, TABLE, shape=(1, 3, 13, 18))
    with pytest.raises(PidSamplerError, match=r"returned shape \(2, 3, 5, 8\), expected that of x, \(2, 3, 6, 8\)"):
        sample(Tiled(lambda tile: lambda x, t: x[:, :, 1:], CUT, backend=NUMPY), TABLE, shape=SMALL)


def test_an_exception_of_the_callback_cancels():
    def stop(done, total):
        raise KeyboardInterrupt

    network = Recorded()
    with pytest.raises(KeyboardInterrupt):
        sample(Tiled(lambda tile: network, CUT, backend=NUMPY, on_tile=stop), TABLE, shape=SMALL)
    assert len(network.calls) == 1


# Conditions and the encoder


def test_a_latent_is_cut_with_its_tile(name):
    backend = get_backend(name)
    latent = np.arange(2 * 4 * 5, dtype=np.float32).reshape(1, 2, 4, 5)
    found = cut_latent(backend.adopt(latent), box(32, 64, 64, 96), factor=32)
    assert np.array_equal(host(found), latent[:, :, 1:3, 2:5])
    assert found.flags.c_contiguous
    assert type(found) is type(backend.adopt(latent))
    whole = backend.adopt(latent)
    assert cut_latent(whole, box(0, 0, 128, 160), factor=32) is whole


@pytest.mark.parametrize(
    ("tile", "message"),
    [
        (box(16, 0, 64, 64), r"Tile\(top=16.* is not aligned to latent pixels of 32"),
        (box(0, 0, 64, 65), "is not aligned"),
        (box(96, 0, 64, 64), r"reaches out of a latent of shape \(1, 2, 4, 5\)"),
        (box(0, 128, 64, 64), "reaches out"),
    ],
)
def test_parts_that_a_latent_has_not(tile, message):
    with pytest.raises(PidSamplerError, match=message):
        cut_latent(np.zeros((1, 2, 4, 5), np.float32), tile, factor=32)


def means(image, factor=4):
    b, c, h, w = image.shape
    return image.reshape(b, c, h // factor, factor, w // factor, factor).mean((3, 5))


@pytest.mark.parametrize(("size", "overlap"), [(16, 0), (16, 5), (24, 16), (64, 0)])
def test_an_encoder_of_its_own_blocks_does_not_show_its_tiles(name, size, overlap):
    backend = get_backend(name)
    image = np.random.default_rng(0).uniform(-1, 1, (1, 3, 36, 60)).astype(np.float32)
    grid = Grid(along(36, size, overlap, 4), along(60, size, overlap, 4))
    seen, told = [], []

    def encode(tile):
        assert tile.flags.c_contiguous
        seen.append(tile.shape)
        return backend.adopt(means(host(tile)))

    progress = lambda *at: told.append(at)  # noqa: E731
    found = encode_in_tiles(
        encode, backend.adopt(image), grid=grid, factor=4, channels=3, backend=backend, on_tile=progress
    )
    assert host(found) == pytest.approx(means(image), abs=1e-6)
    assert (found.dtype, type(found)) == (np.float32, type(backend.adopt(image)))
    assert seen == [(1, 3, min(size, 36), min(size, 60))] * len(grid)
    assert told == [(k + 1, len(grid)) for k in range(len(grid))]


def test_latents_of_half_precision_are_blended_in_float32():
    image = np.full((1, 3, 8, 24), 0.3, np.float32)
    grid = Grid(along(8, 8, 0, 4), along(24, 16, 8, 4))
    found = encode_in_tiles(
        lambda x: means(x).astype(np.float16), image, grid=grid, factor=4, channels=3, backend=NUMPY
    )
    assert found.dtype == np.float32
    assert found == pytest.approx(np.full((1, 3, 2, 6), np.float32(np.float16(0.3))), abs=1e-7)


def test_encoding_refuses():
    image, grid = np.zeros((1, 3, 8, 24), np.float32), Grid(along(8, 8, 0, 4), along(24, 16, 8, 4))
    with pytest.raises(PidSamplerError, match=r"shape \(1, 3, 8, 24\), expected 24x24 as the grid"):
        encode_in_tiles(means, image, grid=Grid(grid.columns, grid.columns), factor=4, channels=3, backend=NUMPY)
    with pytest.raises(PidSamplerError, match="not a multiple of 16"):
        encode_in_tiles(means, image, grid=grid, factor=16, channels=3, backend=NUMPY)
    with pytest.raises(
        PidSamplerError, match=r"returned shape \(1, 3, 2, 4\) for a tile of .*, expected \(1, 4, 2, 4\)"
    ):
        encode_in_tiles(means, image, grid=grid, factor=4, channels=4, backend=NUMPY)


# The bundled models


def at_seams(array, side, axis_of):
    """The mean absolute gradient across the lines where a tile, or its weight, begins, is in the middle, or ends."""
    lines = set()
    for start, shared in zip(side.starts[1:], side.overlaps[1:], strict=True):
        lines |= {start, start + shared // 4, start + shared // 2, start + shared - shared // 4, start + shared}
    steps = np.abs(np.diff(array.astype(np.float64), axis=axis_of))
    return steps.take([line - 1 for line in sorted(lines)], axis=axis_of).mean()


@pytest.fixture(scope="module", name="photo")
def _photo(repository):
    with Image.open(repository / "examples/chameleon.jpg") as file:
        return np.asarray(file.convert("RGB"))[40:160, 40:216]


def photo_in_tiles(model, photo, size, overlap):
    """Return PSNR of tiled against whole in dB, and the ratio of their gradients at the seams of each side cut."""
    contract = model.contract
    unit = contract.scale * contract.vae_factor
    height, width = photo.shape[:2]
    latent = model.encode(to_tensor(photo, size=(height, width), backend=NUMPY))
    shape = (1, 3, 4 * height, 4 * width)
    grid = Grid(along(shape[2], size, overlap, unit), along(shape[3], size, overlap, unit))
    assert {*grid.rows.overlaps[1:], *grid.columns.overlaps[1:]} == {overlap}
    tiled = Tiled(lambda tile: model.denoiser(cut_latent(latent, tile, factor=unit), 0.0), grid, backend=NUMPY)
    table = FlowSDE(contract.timesteps)
    found, whole = (sample(network, table, shape=shape) for network in (tiled, model.denoiser(latent, 0.0)))
    psnr = 10 * np.log10(4 / np.mean((found.astype(np.float64) - whole) ** 2))
    sides = [(side, axis_of) for side, axis_of in ((grid.rows, 2), (grid.columns, 3)) if len(side.starts) > 1]
    return psnr, [at_seams(found, *side) / at_seams(whole, *side) for side in sides]


@pytest.mark.parametrize(
    ("bundled", "size", "overlap", "crop", "least"),
    [
        ("gaussian", 256, 32, (120, 176), 120),
        ("tiny", 128, 32, (56, 80), 55),
        ("tiny", 256, OVERLAP, (64, 96), 120),
    ],
)
def test_a_photo_in_tiles_is_the_photo(photo, bundled, size, overlap, crop, least):
    """Sizes at which neighbors share just the overlap; 45 dB and ratios of 0.95 to 1.05 would do."""
    psnr, ratios = photo_in_tiles(Model.load(bundled, NUMPY), photo[: crop[0], : crop[1]], size, overlap)
    assert psnr >= least
    assert len(ratios) == (2 if overlap == 32 else 1)
    assert ratios == pytest.approx([1] * len(ratios), abs=0.02)


def test_without_an_overlap_seams_are_seen(photo):
    """So the ratio above can fail."""
    _, ratios = photo_in_tiles(Model.load("gaussian", NUMPY), photo[:64, :128], 256, 0)
    assert min(ratios) > 1.5


# The kernel

TEXT = """
extern "C" void tile_{k}(unsigned blocks, unsigned images, unsigned threads, unsigned planes, unsigned h, unsigned w,
        const void* tile, const void* rows, const void* columns, void* out, unsigned height, unsigned width,
        unsigned top, unsigned left, unsigned fresh_row, unsigned fresh_column) {{
    launch(blocks, images, threads, [&] {{
        pid_tile_body<{x}, {m}, {vector}>(planes, h, w, tile, static_cast<const float*>(rows),
            static_cast<const float*>(columns), out, height, width, top, left, fresh_row, fresh_column); }});
}}
"""


@pytest.fixture(scope="module", name="kernels")
def _kernels(tmp_path_factory):
    text = '#include "cuda_emulation.h"\n' + source("tile.cu")
    for k, (x, m, vector) in enumerate(TILES):
        text += TEXT.format(k=k, x=x, m=m, vector=vector)
    return emulated.built(tmp_path_factory.mktemp("tile"), "tile", text)


def blended(tile, rows, columns, out, top, left, fresh):
    """The formula of `Backend.blend` in float64, on a copy."""
    out = out.astype(np.float64)
    place = out[:, :, top : top + len(rows), left : left + len(columns)]
    place[:, :, fresh[0] :, fresh[1] :] = 0
    place += rows[:, None] * columns.astype(np.float64) * tile.astype(np.float64)
    return out


# (h, w), (H, W), (top, left), (y, x) that is fresh
PLACES = [
    ((1, 1), (1, 1), (0, 0), (0, 0)),
    ((4, 8), (9, 24), (5, 8), (0, 0)),
    ((4, 16), (9, 40), (0, 16), (2, 8)),
    ((5, 16), (5, 32), (0, 0), (5, 16)),  # nothing is
    ((3, 7), (5, 13), (1, 3), (1, 2)),
    ((2, 33), (3, 67), (1, 34), (0, 5)),
    ((3, 16), (7, 32), (4, 16), (9, 0)),
]


CASES = [
    (k, case)
    for (k, (_, _, vector)), case in product(enumerate(TILES), PLACES)
    if not (vector and any(n % 8 for n in (case[0][1], case[1][1], case[2][1])))
]


@needs_compiler
@pytest.mark.parametrize(("k", "case"), CASES, ids=lambda v: str(TILES[v] if isinstance(v, int) else v))
def test_the_kernel_is_the_formula_and_writes_nowhere_else(kernels, k, case):
    (h, w), (height, width), (top, left), fresh = case
    x, m, vector = TILES[k]
    rng = np.random.default_rng(7)
    tile = Guarded(rng.normal(size=(2, 3, h, w)).astype(DTYPES[m]), shift=1 - vector)
    rows = Guarded(rng.uniform(0.1, 1, h).astype(np.float32), shift=1)
    columns = Guarded(rng.uniform(0.1, 1, w).astype(np.float32), shift=1 - vector)
    old = rng.normal(size=(2, 3, height, width)).astype(DTYPES[x])
    expected = blended(tile.array, rows.array, columns.array, old, top, left, fresh)
    old[:, :, top + fresh[0] : top + h, left + fresh[1] : left + w] = np.nan  # what is fresh may be anything
    inputs = [a.array.copy() for a in (tile, rows, columns)]
    for grid in ((1, 1), (3, 32), (200, 1)):
        out = Guarded(old, shift=1 - vector)
        emulated.call(
            getattr(kernels, f"tile_{k}"), (grid[0], 2, grid[1]), None, 3, h, w, tile.array, rows.array, columns.array,
            out.array, height, width, top, left, *fresh,
        )  # fmt: skip
        for guarded in (out, tile, rows, columns):
            guarded.check()
        assert all(np.array_equal(a.array, b) for a, b in zip((tile, rows, columns), inputs, strict=True))
        step = 3e-7 if x == 0 else 4 * 2.0 ** (-11 if x == 1 else -8)
        assert np.abs(out.array.astype(np.float64) - expected).max() <= step
        outside = np.ones(old.shape, bool)
        outside[:, :, top : top + h, left : left + w] = False
        assert np.array_equal(out.array[outside], old[outside])


def put(backend, tile, rows, columns, out, at=(0, 0), unwritten=(0, 0)):
    """`blend` with its arguments in short."""
    top, left = at
    blend(tile, out, rows=rows, columns=columns, top=top, left=left, unwritten=unwritten, backend=backend)


@pytest.mark.parametrize("kinds", [(0, 0), (0, 1), (0, 2), (1, 1), (2, 0)], ids=str)
def test_blending_on_either_backend(name, kinds):
    x, m = (DTYPES[k] for k in kinds)
    if name == "numpy" and kinds[0]:
        x = np.dtype(np.float64)
    backend = get_backend(name)
    large = (200, 230), (400, 500), (100, 130), (60, 70)  # all cores, and parts of a tile at a time
    for (h, w), (height, width), (top, left), fresh in (*PLACES, large):
        rng = np.random.default_rng(8)
        tile, old = rng.normal(size=(2, 3, h, w)).astype(m), rng.normal(size=(2, 3, height, width)).astype(x)
        kind = x if x == np.float64 else np.float32
        rows, columns = (rng.uniform(0.1, 1, n).astype(kind) for n in (h, w))
        expected = blended(tile, rows, columns, old, top, left, fresh)
        old[:, :, top + fresh[0] : top + h, left + fresh[1] : left + w] = np.nan
        arrays = [backend.adopt(a) for a in (tile, rows, columns, old)]
        put(backend, *arrays, (top, left), fresh)
        step = {"float64": 1e-15, "float32": 4e-7, "float16": 2e-3, "bfloat16": 2e-2}[x.name]
        assert np.abs(host(arrays[3]).astype(np.float64) - expected).max() <= step


def test_what_is_not_finite_is_kept(name):
    backend = get_backend(name)
    tile = np.ones((1, 1, 4, 4), np.float32)
    tile[0, 0, 1, 2] = np.nan
    out = backend.adopt(np.zeros((1, 1, 6, 6), np.float32))
    weights = backend.adopt(np.zeros(4, np.float32))
    put(backend, backend.adopt(tile), weights, weights, out, (1, 1))
    assert np.isnan(host(out)[0, 0, 2, 3])
    assert np.isnan(host(out)).sum() == 1


@pytest.mark.parametrize(
    ("shapes", "at", "message"),
    [
        (
            ((1, 3, 4), (3,), (4,), (1, 3, 8, 8)),
            (0, 0),
            r"a tile of shape \(1, 3, 4\) does not fit into \(1, 3, 8, 8\)",
        ),
        (((2, 3, 4, 4), (4,), (4,), (1, 3, 8, 8)), (0, 0), "of the same batch and channels"),
        (
            ((1, 3, 4, 5), (4,), (4,), (1, 3, 8, 8)),
            (0, 0),
            r"weights have shapes \(4,\) and \(4,\), expected \(4,\) and \(5,\) as the tile",
        ),
        (((1, 3, 4, 5), (5,), (5,), (1, 3, 8, 8)), (0, 0), r"expected \(4,\) and \(5,\) as the tile"),
        (
            ((1, 3, 4, 4), (4,), (4,), (1, 3, 8, 8)),
            (5, 0),
            "a tile of 4x4 at row 5, column 0 reaches out of a picture of 8x8",
        ),
        (((1, 3, 4, 4), (4,), (4,), (1, 3, 8, 8)), (0, -1), "reaches out"),
    ],
)
def test_blending_refuses(name, shapes, at, message):
    backend = get_backend(name)
    arrays = [backend.adopt(np.zeros(shape, np.float32)) for shape in shapes]
    with pytest.raises(PidSamplerError, match=message):
        put(backend, *arrays, at)


def test_the_gpus_blend_refuses(cupy):
    backend = get_backend("cupy")
    tile, out = (cupy.asarray(np.zeros((1, 3, n, n), np.float32)) for n in (4, 8))
    weights, precise = cupy.asarray(np.zeros(4, np.float32)), cupy.asarray(np.zeros(4))
    with pytest.raises(PidSamplerError, match="weights are float64 and float32, expected float32"):
        put(backend, tile, precise, weights, out)
    with pytest.raises(PidSamplerError, match="is not contiguous"):
        put(backend, tile, weights, weights, out.transpose(0, 1, 3, 2))
    memory = cupy.asarray(np.zeros(300, np.float32))
    with pytest.raises(PidSamplerError, match="overlap in part"):
        put(backend, memory[:48].reshape(tile.shape), weights, weights, memory[16:208].reshape(out.shape))


def test_places_that_16_does_not_divide_take_the_scalar_kernel(cupy):
    backend = get_backend("cupy")
    for left, vector in ((4, 1), (2, 0)):
        backend._kernels.clear()
        tile, out = (cupy.asarray(np.ones((1, 3, n, n), np.float32)) for n in (4, 8))
        weights = cupy.asarray(np.ones(4, np.float32))
        put(backend, tile, weights, weights, out, (1, left), (4, 4))
        assert f"-DPID_VECTOR={vector}" in next(flags for name, flags in backend._kernels if name == "pid_tile")
        assert host(out).sum() == 3 * (64 + 16)
