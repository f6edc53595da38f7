"""Colours of a result brought back to its input's, and specks taken out, on both backends.

Tried mutations, each of which fails here. Match: no rounds of back-projection, one too many, the clamp left out before,
in or after the correction, blocks of 64, a neighbor's share of a fourth, strength ignored. AdaIN: the variance without
its mean, the gain of a flat picture, the offset without the gain. Drift: another white, the toe left out, the wrong way
round, blocks weighed alike. Despeckle: a brim of 3, a brim of three sides, no brim, no runs aslant, half the threshold,
no clamp, bright specks only. Kernels: weights of top and bottom swapped, the block's column rounded the other way, sums
of what was before the store, a plane of another channel, what is not finite unreported, one slant for both.
"""

import json
import shutil
import sys
import tracemalloc

import emulated
import fake_cupy
import ml_dtypes
import numpy as np
import pytest
from emulated import DTYPES, Guarded
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from PIL import Image
from scipy import ndimage
from skimage.color import rgb2lab
from variants import COLOURS

from pidsampler import PidSamplerError, Upscaler, sample
from pidsampler.backends import get_backend, registry
from pidsampler.backends.kernels import source
from pidsampler.backends.numpy import NumpyBackend
from pidsampler.image.blocks import Blocks, block_means, correct, picture_means
from pidsampler.image.color import BLOCK, cielab, match
from pidsampler.image.despeckle import DESPECKLE
from pidsampler.image.pixels import to_image, to_tensor
from pidsampler.schedulers import FlowSDE
from pidsampler.study.measures import MEASURES, Sample

NUMPY = NumpyBackend()
needs_compiler = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to build the kernels with")
of_both = settings(max_examples=15, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.fixture(
    name="backend",
    params=["numpy", pytest.param("stand-in", marks=needs_compiler), pytest.param("gpu", marks=pytest.mark.gpu)],
)
def _backend(request):
    """Both backends, and CuPy itself where there is a GPU: one test body for all."""
    if request.param == "numpy":
        return NUMPY
    if request.param == "stand-in":
        request.getfixturevalue("cupy")
        return get_backend("cupy")
    cupy = pytest.importorskip("cupy", reason="CuPy is not installed")
    try:
        cupy.cuda.runtime.getDeviceCount()
    except RuntimeError as error:
        pytest.skip(f"no GPU: {error}")
    registry._made.cache_clear()
    return get_backend("cupy")


def host(x):
    return x.get() if hasattr(x, "get") else x


def matched(backend, x, small, scale, method="match", strength=1.0):
    """Return the corrected copy of x, and the drift."""
    on_device = backend.adopt(x.copy())
    found = match(on_device, small, scale=scale, method=method, strength=strength, backend=backend)
    return host(on_device), found


def apart(a, b):
    """The largest difference; pytest.approx is slow on large arrays."""
    return np.abs(np.asarray(a, np.float64) - b).max()


def shown(x, small, scale=4):
    height, width, _ = small.shape
    return to_image(x, size=(scale * height, scale * width), backend=NUMPY)


def drift_of(x, small):
    """What the study measures on full pictures: drift of L*, a* and b*."""
    given = Sample(np.zeros((1, 3, 1, 1)), shown(x, small), input=small)
    return np.array([MEASURES[f"drift-{c}"](given) for c in "lab"])


def enlarged(small, scale=4):
    height, width, _ = small.shape
    large = Image.fromarray(small).resize((scale * width, scale * height), Image.Resampling.LANCZOS)
    return to_tensor(np.asarray(large), size=(scale * height, scale * width), backend=NUMPY)


def dense(n, g, scale):
    """The spline of a grid on one axis in float64, as `blocks.correct` describes it: (pixels, g)."""
    matrix = np.zeros((scale * n, g))
    for i in range(g):
        start, stop = scale * (i * n // g), scale * ((i + 1) * n // g)
        t = (np.arange(start, stop) + 0.5 - start) / (stop - start)
        for k, weight in ((i - 1, (1 - t) ** 2), (i, 1 + 2 * t * (1 - t)), (i + 1, t**2)):
            matrix[start:stop, min(max(k, 0), g - 1)] += weight / 2
    return matrix


def dense_means(v, blocks):
    """Means over blocks in float64: (3, H, W) -> (3, rows, columns)."""
    (rows, columns), s = blocks.shape, blocks.scale
    down, across = (
        [(s * (i * n // g), s * ((i + 1) * n // g)) for i in range(g)]
        for n, g in ((blocks.height, rows), (blocks.width, columns))
    )
    return np.array([[[v[c, a:b, x:y].mean() for x, y in across] for a, b in down] for c in range(3)])


@st.composite
def divisions(draw):
    """Blocks of a small picture, of any number, and a padded tensor's size."""
    height, width = draw(st.integers(1, 23)), draw(st.integers(1, 23))
    blocks = Blocks(
        height,
        width,
        scale=draw(st.integers(1, 5)),
        rows=draw(st.integers(1, min(height, 5))),
        columns=draw(st.integers(1, min(width, 5))),
    )
    return blocks, blocks.scale * height + draw(st.integers(0, 9)), blocks.scale * width + draw(st.integers(0, 9))


# The operations over blocks.


@settings(max_examples=60)
@given(st.integers(1, 3000), st.integers(1, 3000), st.integers(1, 8), st.integers(1, 64))
def test_blocks_are_of_equal_size_but_for_a_pixel(height, width, scale, size):
    blocks = Blocks.of(height, width, scale=scale, size=size)
    for n, g, edges in zip((height, width), blocks.shape, blocks.edges(scale), strict=True):
        sizes = np.diff(edges) // scale
        assert (len(sizes), sizes.sum() * scale, edges[0]) == (g, scale * n, 0)
        assert sizes.max() - sizes.min() <= 1
        assert g == 1 or sizes.min() >= (2 * size) // 3 - 1
        assert sizes.max() <= 1.5 * size
        of_pixel = [((p + 1) * g - 1) // n for p in range(n)]  # as the kernel finds a pixel's block
        assert np.array_equal(of_pixel, np.repeat(np.arange(g), sizes))
    assert blocks.areas().sum() == height * width


@of_both
@given(divisions(), st.integers(1, 2), st.integers(0, 99))
def test_block_means(backend, division, powers, seed):
    blocks, height, width = division
    x = np.random.default_rng(seed).normal(0.1, 0.7, (1, 3, height, width)).astype(np.float32)
    found = block_means(backend.adopt(x), blocks, powers=powers, backend=backend)
    v = np.clip(x[0].astype(np.float64), -1, 1)
    assert found.dtype == np.float64
    assert found == pytest.approx(np.stack([dense_means(v**p, blocks) for p in (1, 2)][:powers]), abs=1e-6)


@of_both
@given(divisions(), st.integers(0, 99))
def test_correct_is_its_formula(backend, division, seed):
    blocks, height, width = division
    rng = np.random.default_rng(seed)
    x, grid = rng.normal(0, 0.7, (1, 3, height, width)).astype(np.float32), rng.normal(0, 0.3, (3, *blocks.shape))
    gain = np.array([1.0, 0.7, 1.2])
    on_device = backend.adopt(x.copy())
    means = correct(on_device, blocks, gain=gain, grid=grid, backend=backend)
    h, w, s = blocks.height, blocks.width, blocks.scale
    surface = dense(h, blocks.rows, s) @ grid @ dense(w, blocks.columns, s).T
    expected = x.astype(np.float64)
    inside = expected[0, :, : s * h, : s * w]
    inside[...] = gain[:, None, None] * np.clip(inside, -1, 1) + surface
    assert apart(host(on_device), expected) < 2e-6
    assert np.array_equal(host(on_device)[0, :, s * h :], x[0, :, s * h :])
    assert np.array_equal(host(on_device)[0, :, :, s * w :], x[0, :, :, s * w :])
    assert means == pytest.approx(dense_means(np.clip(inside, -1, 1), blocks), abs=2e-6)
    again = block_means(on_device, blocks, backend=backend)[0]
    assert means == pytest.approx(again, abs=1e-6)


@settings(max_examples=20)
@given(st.integers(1, 40), st.integers(1, 40), st.sampled_from([np.uint8, np.uint16]), st.integers(0, 99))
def test_means_of_the_input(height, width, dtype, seed):
    picture = np.random.default_rng(seed).integers(0, np.iinfo(dtype).max + 1, (height, width, 3)).astype(dtype)
    blocks = Blocks.of(height, width, scale=4, size=8)
    v = picture.transpose(2, 0, 1) * (2.0 / np.iinfo(dtype).max) - 1.0
    one = Blocks(height, width, scale=1, rows=blocks.rows, columns=blocks.columns)
    expected = np.stack([dense_means(v, one), dense_means(v * v, one)])
    assert picture_means(picture, blocks, powers=2) == pytest.approx(expected, abs=1e-12)
    assert picture_means(picture, blocks, powers=1) == pytest.approx(expected[:1], abs=1e-12)


def test_many_tiles_on_all_cores_are_as_few():
    """A picture of many tiles, in float32 and float64."""
    blocks, rng = Blocks.of(300, 290, scale=4, size=8), np.random.default_rng(0)
    x, grid = rng.normal(0, 0.6, (1, 3, 1201, 1163)), rng.normal(0, 0.3, (3, *blocks.shape))
    found = block_means(x, blocks, powers=2, backend=NUMPY)
    v = np.clip(x[0], -1, 1)
    assert found == pytest.approx(np.stack([dense_means(v, blocks), dense_means(v * v, blocks)]), abs=1e-12)
    single = x.astype(np.float32)
    for y, tolerance in ((x.copy(), 1e-12), (single, 1e-6)):
        correct(y, blocks, gain=np.ones(3), grid=grid, backend=NUMPY)
        surface = dense(300, blocks.rows, 4) @ grid @ dense(290, blocks.columns, 4).T
        assert apart(y[0, :, :1200, :1160], v[:, :1200, :1160] + surface) < tolerance


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("method", ["match", "adain", "off"])
def test_what_is_not_finite_is_refused_inside_the_picture_only(backend, value, method):
    small = np.full((3, 5, 3), 100, np.uint8)
    x = np.full((1, 3, 14, 20), 0.25, np.float32)
    x[0, 1, 13, 3] = value
    matched(backend, x, small, 4, method)
    x[0, 1, 11, 19] = value
    on_device = backend.adopt(x.copy())
    with pytest.raises(PidSamplerError, match="holds NaN or infinity"):
        match(on_device, small, scale=4, method=method, strength=1.0, backend=backend)
    assert np.array_equal(host(on_device), x, equal_nan=True)


# Drift.


def tint(x, r, g, b):
    return x + np.array([r, g, b], np.float32)[None, :, None, None]


def waves(x):
    """Greener and darker to one side, and another tint in waves of 24 input pixels."""
    y, z = (np.linspace(0, n / 96, n, dtype=np.float32) for n in x.shape[2:])
    wave = np.sin(2 * np.pi * (y[:, None] + 0.7 * z))
    return x + np.stack([0.06 * wave - 0.06, 0.05 + 0 * wave, -0.05 * wave - 0.04])[None]


DRIFTS = {
    "green": lambda x: tint(x, -0.03, 0.06, -0.03),
    "pink": lambda x: tint(x, 0.06, -0.04, 0.05),
    "gamma": lambda x: 2 * (np.clip(x, -1, 1) / 2 + 0.5) ** np.float32(0.85) - 1,
    "waves": waves,
    "more contrast": lambda x: 1.25 * x + 0.1,
    "less contrast": lambda x: 0.8 * x - 0.12,
}


@pytest.fixture(scope="module", name="inputs")
def _inputs(repository):
    """Pictures to enlarge: photographs reduced 4x, one of them gray, and hard and saturated edges."""
    found = {}
    for name in ("cat", "road", "chameleon"):
        with Image.open(repository / "examples" / f"{name}.jpg") as image:
            width, height = (n // 4 for n in image.size)
            found[name] = np.asarray(image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC))
    found["gray"] = np.repeat(found["cat"][:, :, 1:2], 3, axis=2)
    y, x = np.mgrid[:61, :83]
    ramp = np.stack([40 + 2 * x, 230 - 3 * y, 90 + y + x], axis=2)
    patches = np.array([[250, 250, 250], [200, 30, 40], [20, 90, 200], [15, 15, 15]])[(x // 21 + y // 20) % 4]
    found["edges"] = np.where((x < 50)[:, :, None], patches, ramp).astype(np.uint8)
    return found


@pytest.mark.parametrize("name", DRIFTS)
def test_match_takes_drift_away(inputs, name):
    """By the study's measure on the full pictures. Block means tell nearly as much.

    A chart of hard saturated edges is the worst there is: contrast lost inside of a block does not come back.
    """
    for kind, small in inputs.items():
        result = enlarged(small)
        x = DRIFTS[name](result).astype(np.float32)
        before = drift_of(x, small)
        y, found = matched(NUMPY, x, small, 4)
        assert np.abs(before).max() > 1.5
        assert np.abs(drift_of(y, small)).max() < (0.2 if kind != "edges" else 0.7 if "contrast" in name else 0.3)
        assert list(found) == ["before", "after"]
        assert max(map(abs, found["after"].values())) < 0.15
        assert [found["before"][c] for c in "lab"] == pytest.approx(before, rel=0.2, abs=0.7)
        errors = [np.sqrt(np.mean((np.clip(v, -1, 1) - np.clip(result, -1, 1)) ** 2)) for v in (x, y)]
        assert errors[1] < errors[0] * (0.75 if "contrast" in name else 0.25)


@pytest.mark.parametrize("name", DRIFTS)
def test_adain_takes_even_drift_away(inputs, name):
    for small in inputs.values():
        x = DRIFTS[name](enlarged(small)).astype(np.float32)
        y, _ = matched(NUMPY, x, small, 4, "adain")
        assert np.abs(drift_of(y, small)).max() < min(0.7, np.abs(drift_of(x, small)).max())


def test_without_drift_next_to_nothing_changes(inputs):
    """The bundled model has none: its results change by a level at most, and by a tenth of one on average."""
    tiny, small = Upscaler.load("tiny", "cpu"), inputs["chameleon"]
    bound = tiny.bind(small)
    x = sample(bound.denoiser, FlowSDE(tiny.model.contract.timesteps), shape=bound.shape)
    y, found = matched(NUMPY, x, small, 4)
    change = np.abs(shown(x, small).astype(int) - shown(y, small))
    assert change.max() <= 1
    assert change.mean() < 0.1
    assert np.abs(drift_of(y, small) - drift_of(x, small)).max() < 0.05
    assert max(map(abs, found["before"].values())) < 0.1
    for plain in inputs.values():  # and Lanczos' ringing about hard edges is kept
        x = enlarged(plain)
        y, _ = matched(NUMPY, x, plain, 4)
        assert np.abs(drift_of(y, plain)).max() < 0.2
        assert np.abs(y - x).max() * 127.5 < 4
        assert np.abs(y - x).mean() * 127.5 < 0.3


@pytest.mark.parametrize(("wave", "share"), [(1e9, 1.0), (8, 0.999), (4, 0.963), (2, 0.704)])
def test_the_gain_that_is_documented(wave, share):
    """Of a drift that is a wave of so many blocks, on one axis; the picture is long, and read far from its ends."""
    small = np.full((8, 64 * BLOCK, 3), 128, np.uint8)
    drift = 0.1 * np.cos(2 * np.pi * np.arange(64) / wave)
    x = np.broadcast_to(np.repeat(drift, 4 * BLOCK), (1, 3, 32, 256 * BLOCK)).astype(np.float32) + np.float32(1 / 255)
    y, _ = matched(NUMPY, x, small, 4)
    left = dense_means(y[0] - 1 / 255, Blocks(*small.shape[:2], scale=4, rows=1, columns=64))[0, 0]
    assert left[20:44] == pytest.approx((1 - share) * drift[20:44], abs=1e-4)


# Any picture, any strength.


@of_both
@given(
    st.sampled_from([1, 2, 3, 7, 12, 13, 31, 37]),
    st.sampled_from([1, 2, 5, 11, 12, 29]),
    st.integers(1, 4),
    st.tuples(st.integers(0, 9), st.integers(0, 9)),
    st.sampled_from([np.uint8, np.uint16]),
    st.sampled_from(["match", "adain"]),
    st.sampled_from([0.0, 0.5, 1.0]),
)
def test_any_size_and_strength(backend, height, width, scale, more, dtype, method, strength):
    """Mean and, by adain, deviation of each channel; half the strength makes half the change; padding stays."""
    rng, most = np.random.default_rng(height), np.iinfo(dtype).max
    small = (rng.uniform(0.3, 0.6, (height, width, 3)) * most).astype(dtype)
    x = rng.normal(0.05, 0.1, (1, 3, scale * height + more[0], scale * width + more[1])).astype(np.float32)
    y, found = matched(backend, x, small, scale, method, strength)
    inside = (0, slice(None), slice(scale * height), slice(scale * width))
    outside = y.copy()
    outside[inside] = x[inside]
    assert np.array_equal(outside, x)
    if strength == 0.0:
        assert np.array_equal(y, x)
        assert found["after"] == found["before"]
        return
    full, _ = matched(backend, x, small, scale, method)
    assert apart(y - x, strength * (full - x)) < 2e-6
    wanted, got = small.reshape(-1, 3) * (2.0 / most) - 1, full[inside].reshape(3, -1).T.astype(np.float64)
    if np.abs(got).max() < 1:
        uneven = 0.0 if method == "adain" or max(height, width) < BLOCK else 0.005  # blocks of unlike size
        assert got.mean(0) == pytest.approx(wanted.mean(0), abs=1e-5 + uneven)
        if method == "adain" and x[inside].std(axis=(1, 2)).min() > 0.01:
            assert got.std(0) == pytest.approx(wanted.std(0), abs=1e-5)
    json.dumps(found)


def test_both_backends_agree(cupy, inputs):
    backend, small = get_backend("cupy"), inputs["chameleon"]
    x = np.pad(DRIFTS["gamma"](enlarged(small)), ((0, 0), (0, 0), (0, 4), (0, 12))).astype(np.float32)
    for method in ("match", "adain", "off"):
        (here, drift), (there, its) = (matched(b, x, small, 4, method, 0.8) for b in (NUMPY, backend))
        assert apart(there, here) < 2e-6
        for when in drift:
            assert its[when] == pytest.approx(drift[when], abs=2e-4)
    with pytest.raises(PidSamplerError, match="dtype float64 on the GPU is not"):
        block_means(backend.adopt(x.astype(np.float64)), Blocks.of(4, 4, scale=4, size=8), backend=backend)
    on_device = backend.adopt(x)
    cupy.seen.clear()
    match(on_device, small, scale=4, method="match", strength=1.0, backend=backend)
    assert sum(entry[0] == "launch" for entry in cupy.seen if isinstance(entry, tuple)) == 2  # two passes
    assert cupy.seen.count("download") == 2


@pytest.mark.parametrize("color", [(0, 0, 0), (255, 255, 255), (200, 100, 3)])
@pytest.mark.parametrize("method", ["match", "adain"])
def test_flat_pictures(backend, method, color):
    """A flat result takes the input's mean and nothing is divided by its deviation; a flat input makes one flat."""
    small, value = np.full((5, 21, 3), color, np.uint8), np.array(color) / 127.5 - 1
    flat = np.full((1, 3, 20, 84), 0.2, np.float32)
    y, found = matched(backend, flat, small, 4, method)
    assert apart(y, value[None, :, None, None]) < 1e-6
    assert found["after"] == pytest.approx({"l": 0, "a": 0, "b": 0}, abs=1e-3)
    uneven = np.random.default_rng(0).integers(0, 256, (5, 21, 3)).astype(np.uint8)
    y, _ = matched(backend, flat, uneven, 4, "adain")
    assert y.std(axis=(2, 3)).max() < 1e-6
    noisy = flat + np.random.default_rng(0).normal(0, 0.1, flat.shape).astype(np.float32)
    y, _ = matched(backend, noisy, small, 4, "adain")
    assert apart(y, value[None, :, None, None]) < 1e-6


def test_gray_stays_gray(inputs):
    small = inputs["gray"]
    x = np.repeat(1.2 * enlarged(small)[:, :1] + 0.1, 3, axis=1)
    for method in ("match", "adain"):
        y, found = matched(NUMPY, x, small, 4, method)
        assert np.array_equal(y[0, 0], y[0, 1])
        assert np.array_equal(y[0, 0], y[0, 2])
        assert abs(found["after"]["a"]) < 0.01


def test_what_is_clamped_is_not_corrected():
    """Values past white show white: neither they nor their noise may darken it. All move from where they show."""
    small = np.full((24, 24, 3), 255, np.uint8)
    x = np.random.default_rng(0).uniform(1.0, 1.3, (1, 3, 96, 96)).astype(np.float32)
    y, _ = matched(NUMPY, x, small, 4)
    assert apart(y, 1) < 1e-6
    dark = np.full((24, 24, 3), 10, np.uint8)
    y, found = matched(NUMPY, np.full((1, 3, 96, 96), -1.2, np.float32), dark, 4)
    assert apart(y, 10 / 127.5 - 1) < 1e-6
    assert found["after"]["l"] == pytest.approx(0, abs=1e-3)


def test_memory_is_that_of_a_few_tiles():
    small = np.random.default_rng(0).integers(0, 256, (500, 500, 3)).astype(np.uint8)
    x = np.zeros((1, 3, 2000, 2000), np.float32)
    image = x.size  # what to_image returns, in bytes
    for work, most in (
        (lambda: match(x, small, scale=4, method="match", strength=1.0, backend=NUMPY), 4e6),
        (lambda: to_image(x, size=(2000, 2000), despeckle=DESPECKLE, backend=NUMPY), image + 24e6),
    ):
        tracemalloc.start()
        work()
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < most


def test_cielab_is_scikit_images():
    levels = np.random.default_rng(0).uniform(-1.1, 1.1, (3, 40, 40))
    levels[:, 0, :2] = [[-1, 1]] * 3
    expected = rgb2lab(np.clip(levels / 2 + 0.5, 0, 1).transpose(1, 2, 0)).transpose(2, 0, 1)
    assert apart(cielab(levels), expected) < 1e-3


def test_errors(inputs):
    small, x = inputs["chameleon"], enlarged(inputs["chameleon"])

    def refused(message, x=x, small=small, scale=4, method="match", strength=1.0):
        with pytest.raises(PidSamplerError, match=message):
            match(x, small, scale=scale, method=method, strength=strength, backend=NUMPY)

    refused("unknown color method 'macth': did you mean 'match'", method="macth")
    for strength in (-0.1, 1.1, np.nan, "1"):
        refused(r"color strength .* is not a number in 0\.\.1", strength=strength)
    refused(r"input is float64 of shape .* expected uint8 or uint16 \(h, w, 3\)", small=small / 2)
    refused(r"input is uint8 of shape \(64, 64\)", small=small[:, :, 0])
    refused(r"input is uint8 of shape \(0, 64, 3\)", small=small[:0])
    refused(r"x has shape \(3, 256, 256\) at scale 4", x=x[0])
    refused(r"smaller than the input's 64x64 pixels at scale 4: .*before the result is reduced", x=x[:, :, :255])
    for despeckle in (-1.0, np.nan, np.inf):
        with pytest.raises(PidSamplerError, match=r"despeckle=.* is not a number of levels .* such as 16\.0"):
            to_image(x, size=(256, 256), despeckle=despeckle, backend=NUMPY)


# Specks.


def reference(x, height, width, despeckle):
    """`pixels.to_image` by scipy."""
    line = np.zeros((5, 5), bool)
    line[2] = True
    brim, lines = np.pad(np.zeros((7, 7), bool), 1, constant_values=True), [line, line.T, np.eye(5) > 0]
    lines.append(lines[2][::-1])
    outside = {"mode": "constant", "cval": -np.inf}

    def above(v):
        """What v must stand out above."""
        runs = [
            ndimage.maximum_filter(ndimage.minimum_filter(v, footprint=f, **outside), footprint=f, **outside)
            for f in lines
        ]
        return np.max([ndimage.maximum_filter(v, footprint=brim, **outside), *runs], axis=0)

    image, step = np.empty((height, width, 3), np.uint8), np.float32(despeckle / 127.5)
    for c in range(3):
        v = np.clip(x[0, c, :height, :width].astype(np.float32), -1, 1)
        high, low = above(v), -above(-v)
        if max(height, width) >= 8:
            v = np.where(v > high + step, high, np.where(v < low - step, low, v))
        image[:, :, c] = np.rint(v * np.float32(127.5) + np.float32(127.5))
    return image


@of_both
@given(
    st.integers(1, 40), st.integers(1, 40), st.tuples(st.integers(0, 3), st.integers(0, 3)), st.integers(0, 60),
    st.integers(0, 99),
)  # fmt: skip
def test_despeckle_is_its_definition(backend, height, width, more, despeckle, seed):
    """On noise with specks in it, of sizes below, at and above the brim's, inside a padded tensor."""
    rng = np.random.default_rng(seed)
    x = rng.normal(0, 0.2, (1, 3, height + more[0], width + more[1])).astype(np.float32)
    x += rng.choice([0, 0, 0, 0, 0, 0, 0, 1.5, -1.5], x.shape).astype(np.float32)
    threshold = despeckle + 0.37  # of which no difference is likely to be
    found = to_image(backend.adopt(x), size=(height, width), despeckle=threshold, backend=backend)
    on_gpu = backend.name == "cupy" and not isinstance(sys.modules["cupy"], fake_cupy.FakeCupy)
    # A GPU fuses v*127.5 + 127.5, so that a half may round the other way.
    assert apart(found, reference(x, height, width, threshold)) <= (1 if on_gpu else 0)


def test_large_pictures_are_despeckled_alike(cupy):
    """Past the size of numpy's tiles; both backends to the bit."""
    rng = np.random.default_rng(0)
    x = ndimage.gaussian_filter(rng.normal(0, 1, (1, 3, 131, 521)), (0, 0, 2, 2)).astype(np.float32)
    x[rng.random(x.shape) < 0.01] += 0.7
    backend = get_backend("cupy")
    here, there = (to_image(b.adopt(x), size=(131, 521), despeckle=DESPECKLE, backend=b) for b in (NUMPY, backend))
    assert np.array_equal(here, there)
    assert np.array_equal(here, reference(x, 131, 521, DESPECKLE))
    assert np.mean(here != to_image(x, size=(131, 521), backend=NUMPY)) > 0.005


@pytest.mark.parametrize("place", [(0, 0), (0, 10), (2, 3), (15, 15), (31, 40), (20, 0)])
@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize("sign", [1, -1])
def test_isolated_spots_go(backend, place, size, sign):
    y, x = place
    plain = np.full((1, 3, 32, 41), 0.1, np.float32)
    spotted = plain.copy()
    spotted[0, :2, y : y + size, x : x + size] += np.float32(sign * (DESPECKLE + 1) / 127.5)
    found = to_image(backend.adopt(spotted), size=(32, 41), despeckle=DESPECKLE, backend=backend)
    assert np.array_equal(found, to_image(plain, size=(32, 41), backend=NUMPY))
    faint = plain.copy()
    faint[0, :, y : y + size, x : x + size] += np.float32(sign * (DESPECKLE - 1) / 127.5)
    same = to_image(backend.adopt(faint), size=(32, 41), despeckle=DESPECKLE, backend=backend)
    assert np.array_equal(same, to_image(faint, size=(32, 41), backend=NUMPY))


def drawings():
    """Things that are no specks, on 48x56: constants, edges, lines, corners, plateaus, ramps and stripes."""
    y, x = np.mgrid[:48, :56]
    return {
        "constant": 0 * x - 0.3,
        "edge": np.where(x + 0.3 * y < 30, -0.8, 0.8),
        "line": np.where(x == 20, 0.9, -0.5),
        "slanting line": np.where(x == y, 0.9, -0.5),
        "line that ends": np.where((y == 24) & (x > 15), -0.9, 0.5),
        "line between directions": np.where(3 * y // 7 == x - 9, -0.9, 0.5),
        "corner": np.where((x > 20) & (y > 20), 0.9, -0.9),
        "plateau": np.where((abs(x - 20) <= 2) & (abs(y - 20) <= 2), 0.9, -0.9),
        "plateau in a corner": np.where((x < 5) & (y >= 43), 0.9, -0.9),
        "ramp": x / 28 - 1 + 0 * y,
        "stripes": np.where(x // 2 % 2, 0.9, -0.9),
        "checks": np.where((x + y) % 2, 0.5, -0.5),
    }


@pytest.mark.parametrize("name", drawings())
def test_what_is_no_speck_stays_bit_for_bit(backend, name):
    for sign in (1, -1):
        x = np.repeat(sign * drawings()[name].astype(np.float32)[None, None], 3, axis=1)
        found, expected = (
            to_image(backend.adopt(x.copy()), size=(48, 56), despeckle=despeckle, backend=backend)
            for despeckle in (DESPECKLE, None)
        )
        assert np.array_equal(found, expected)


@pytest.mark.parametrize("width", [2, 3, 4, 5, 6, 8])
def test_no_peak_becomes_a_ring(backend, width):
    """Stars of any width at half of their height: nowhere does a peak fall below what is around it."""
    y, x = np.mgrid[-12:13, -12:13]
    star = 1.5 * np.exp2(-4 * (x * x + y * y) / width**2) - 0.9
    tensor = np.repeat(star.astype(np.float32)[None, None], 3, axis=1)
    found = to_image(backend.adopt(tensor), size=(25, 25), despeckle=DESPECKLE, backend=backend)[12, :, 0].astype(int)
    assert found[12] >= found.max() - (DESPECKLE if width > 5 else 0) * 2
    assert found[12] < to_image(tensor, size=(25, 25), backend=NUMPY)[12, 12, 0] - DESPECKLE


def test_despeckle_takes_out_what_the_study_counts(inputs, repository):
    """Specks set into an enlarged photo, 1 to 4 pixels wide: nearly all go, and little else changes."""
    small = inputs["cat"]
    x, rng = enlarged(small), np.random.default_rng(0)
    clean, spotted = shown(x, small), x.copy()
    for size in range(1, 5):
        for _ in range(15):
            y, z = rng.integers(8, 280, 2)
            spotted[0, :, y : y + size, z : z + size] += np.float32(rng.uniform(0.4, 0.8))
    height, width, _ = clean.shape
    cleaned = to_image(spotted, size=(height, width), despeckle=DESPECKLE, backend=NUMPY)

    def specks(picture):
        return MEASURES["specks"](Sample(np.zeros((1, 3, 1, 1)), picture, input=small))

    assert specks(clean) == 0
    assert specks(shown(spotted, small)) > 300
    assert specks(cleaned) < 10
    alone = to_image(x, size=(height, width), despeckle=DESPECKLE, backend=NUMPY)
    error = np.mean((alone.astype(float) - clean) ** 2)
    assert 10 * np.log10(255**2 / error) > 55


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_despeckling_hides_nothing_that_is_not_finite(backend, value):
    x = np.zeros((1, 3, 20, 20), np.float32)
    x[0, 1, 9, 9] = value
    with pytest.raises(PidSamplerError, match="holds NaN or infinity"):
        to_image(backend.adopt(x), size=(20, 20), despeckle=DESPECKLE, backend=backend)
    cropped = to_image(backend.adopt(x), size=(9, 20), despeckle=DESPECKLE, backend=backend)
    assert cropped.shape == (9, 20, 3)


# The kernels of every element type.

KERNEL = """
extern "C" void colour_{k}(unsigned blocks, unsigned images, unsigned threads, void* x, unsigned height,
        unsigned width, unsigned h, unsigned w, unsigned scale, unsigned rows, unsigned columns, const float* grid,
        float gain0, float gain1, float gain2, pid_u64* sums, pid_u32* bad) {{
    launch(blocks, images, threads, [&] {{
        pid_colour_body<{flags}>(x, height, width, h, w, scale, rows, columns, grid, gain0, gain1, gain2, sums, bad);
    }});
}}
"""
DESPECKLED = """
extern "C" void image_{x}(unsigned blocks, unsigned images, unsigned threads, const void* x, pid_u8* image,
        unsigned h, unsigned w, unsigned height, unsigned width, pid_u32* bad, float step) {{
    launch(blocks, images, threads, [&] {{
        pid_to_image_body<false, {x}, true>(x, image, h, w, height, width, bad, step);
    }});
}}
"""


@pytest.fixture(scope="module", name="kernels")
def _kernels(tmp_path_factory):
    text = '#include "cuda_emulation.h"\n' + source("colour.cu") + source("image.cu").replace(source("common.cuh"), "")
    text += "".join(KERNEL.format(k=k, flags=", ".join(map(str, v))) for k, v in enumerate(COLOURS))
    text += "".join(DESPECKLED.format(x=x) for x in DTYPES)
    return emulated.built(tmp_path_factory.mktemp("colour"), "colour", text)


@needs_compiler
@pytest.mark.parametrize("k", range(len(COLOURS)), ids=lambda k: str(COLOURS[k]))
def test_the_kernel_of_every_type(kernels, k):
    """As exact as the type, on any grid, and nothing but the picture is written."""
    (x, correct, powers), rng = COLOURS[k], np.random.default_rng(1)
    blocks, height, width = Blocks(11, 14, scale=3, rows=2, columns=3), 35, 45
    tensor = rng.normal(0, 0.6, (1, 3, height, width)).astype(DTYPES[x])
    grid = rng.normal(0, 0.2, (3, *blocks.shape)).astype(np.float32)
    exact = tensor.astype(np.float64)
    inside = exact[0, :, :33, :42]
    if correct:
        surface = dense(11, 2, 3) @ grid.astype(np.float64) @ dense(14, 3, 3).T
        inside[...] = np.array([0.5, 1.0, 1.25])[:, None, None] * np.clip(inside, -1, 1) + surface
    results = []
    for launch in ((3, 1, 64), (1, 1, 1), (9, 1, 33)):
        state, sums, bad = Guarded(tensor), Guarded(np.zeros((powers, 3, 2, 3), np.uint64)), np.zeros(1, np.uint32)
        emulated.call(
            getattr(kernels, f"colour_{k}"), launch, None,
            state.array, height, width, 11, 14, 3, 2, 3, grid, 0.5, 1.0, 1.25, sums.array, bad,
        )  # fmt: skip
        state.check()
        sums.check()
        assert bad[0] == 0
        results.append((state.array.copy(), sums.array.copy()))
    assert all(np.array_equal(a, b) for other in results[1:] for a, b in zip(other, results[0], strict=True))
    found, sums = results[0]
    step = float(ml_dtypes.finfo(DTYPES[x]).eps)
    assert np.abs(found.astype(np.float64) - exact).max() <= (2 * step if correct else 0)
    v = np.clip(found[0, :, :33, :42].astype(np.float64), -1, 1)
    expected = np.stack([dense_means(v, blocks), dense_means(v * v, blocks)][:powers]) * blocks.areas(3)
    assert sums.view(np.int64) * 2.0**-32 == pytest.approx(expected, abs=1e-4)
    tensor[0, 2, 30, 41] = np.inf
    emulated.call(
        getattr(kernels, f"colour_{k}"), (1, 1, 8), None,
        tensor, height, width, 11, 14, 3, 2, 3, grid, 0.5, 1.0, 1.25, np.zeros((2, 3, 2, 3), np.uint64), bad,
    )  # fmt: skip
    assert bad[0] == 1


@needs_compiler
@pytest.mark.parametrize("x", DTYPES)
def test_the_despeckling_kernel_of_every_type(kernels, x):
    rng = np.random.default_rng(2)
    tensor = (rng.normal(0, 0.1, (1, 3, 25, 31)) + (rng.random((1, 3, 25, 31)) < 0.02)).astype(DTYPES[x])
    state, image, bad = Guarded(tensor), Guarded(np.zeros((23, 30, 3), np.uint8)), np.zeros(1, np.uint32)
    emulated.call(getattr(kernels, f"image_{x}"), (2, 1, 32), None, state.array, image.array, 23, 30, 25, 31, bad, 0.2)
    state.check()
    image.check()
    assert np.array_equal(image.array, reference(tensor, 23, 30, 0.2 * 127.5))
    assert not np.array_equal(image.array, to_image(tensor.astype(np.float32), size=(23, 30), backend=NUMPY))
