"""Output sizes, and the reduction that makes them, on both backends against Pillow.

The kernel is run as test_cupy_backend.py and test_kernels.py run theirs, and compiled in test_nvrtc.py.

Tried mutations, each of which fails here. Kernel: rows and columns swapped, a channel of another plane, 32 bits for a
plane's offset, the padded width forgotten, a tap less, the result's element type, no stride over the grid. Tables: the
centre without its half, the filter not widened, weights not normalized or of two lobes, a window past the edge. Bands:
no margin, a place in the band without its fraction, the margin's place forgotten, one band less. Sizes: a side that
follows the wrong one, a box that enlarges, no least side, width and height swapped, rounding down.
"""

import math
import shutil
import subprocess
import sys
import warnings

import emulated
import fake_cupy
import ml_dtypes
import numpy as np
import pytest
from emulated import DTYPES, Guarded
from hypothesis import example, given, settings
from hypothesis import strategies as st
from PIL import Image

from pidsampler import PidSamplerError, threads
from pidsampler.backends.cupy import CupyBackend
from pidsampler.backends.kernels import source
from pidsampler.backends.numpy import NumpyBackend
from pidsampler.image import lanczos
from pidsampler.image.size import Size, resolve, warn_if_stretched

HAS_COMPILER = shutil.which("g++") is not None

sides = st.integers(1, 5000)


class TestSize:
    @pytest.mark.parametrize(
        ("scale", "size", "fit", "expected"),
        [
            (None, None, False, None),
            ("2", None, False, Size(scale=2.0)),
            ("1.5", None, False, Size(scale=1.5)),
            (0.25, None, False, Size(scale=0.25)),
            (None, "3000x2000", False, Size(width=3000, height=2000)),
            (None, " 3000X2000 ", True, Size(width=3000, height=2000, fit=True)),
            (None, "3000x", False, Size(width=3000)),
            (None, "x2000", True, Size(height=2000, fit=True)),
        ],
    )
    def test_the_command_lines_options(self, scale, size, fit, expected):
        assert Size.parse(scale, size, fit=fit) == expected

    @pytest.mark.parametrize(
        ("scale", "size", "fit", "message"),
        [
            ("two", None, False, "scale='two' is not a number: pass one such as 2 or 1.5"),
            ("0", None, False, r"scale=0\.0 must be a finite number above 0"),
            ("-1", None, False, r"scale=-1\.0 must be"),
            ("nan", None, False, "scale=nan must be"),
            ("inf", None, False, "scale=inf must be"),
            *(
                (None, text, False, f"size='{text}' is not a size: pass 3000x2000, or one side as 3000x or x2000")
                for text in ("", "x", "3000", "3000x2000x3", "-3x4", "3.5x2", "3 x 4", "9999999999x1", "٣x٣")
            ),
            (None, "0x2000", False, "size='0x2000' has a side of 0 pixels"),
            (None, "3000x0", True, "size='3000x0' has a side of 0 pixels"),
            (None, None, True, "fit=True has nothing to fit into: pass a size such as 3000x2000"),
            ("2", "3000x", False, r"scale=2\.0 and size='3000x' exclude each other: pass one of them"),
            ("2", None, True, r"scale=2\.0 and fit exclude each other"),
        ],
    )
    def test_options_that_are_refused(self, scale, size, fit, message):
        with pytest.raises(PidSamplerError, match=message):
            Size.parse(scale, size, fit=fit)

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({}, "a size needs a scale, a width or a height"),
            ({"fit": True}, "a size needs a scale, a width or a height"),
            ({"scale": "2"}, "scale='2' must be a finite number above 0"),
            ({"scale": True}, "scale=True must be"),
            ({"width": 2.0}, r"width=2\.0 must be a whole number of at least 1"),
            ({"height": True}, "height=True must be"),
        ],
    )
    def test_no_size_is_made_of_what_is_none(self, arguments, message):
        with pytest.raises(PidSamplerError, match=message):
            Size(**arguments)

    def test_numpys_numbers_do(self):
        assert Size(width=np.int64(30)) == Size(width=30)
        assert Size(scale=np.float32(1.5)) == Size(scale=1.5)

    @given(st.floats(0.01, 8), sides | st.none(), sides | st.none(), st.booleans())
    def test_a_size_as_text(self, scale, width, height, fit):
        sized = Size(width=width, height=height, fit=fit) if width or height else Size(scale=round(scale, 3))
        words = str(sized).split()
        if sized.scale is not None:
            assert words[0] == "scale"
            assert Size.parse(scale=words[1]) == sized
        else:
            assert Size.parse(size=words[0], fit="fit" in words) == sized


class TestResolve:
    def test_nothing_asked_is_native(self):
        assert resolve(None, (4096, 2732), native_scale=4) == (4096, 2732)

    @pytest.mark.parametrize(
        ("size", "expected"),
        [
            (Size(scale=4), (2732, 4096)),
            (Size(scale=2), (1366, 2048)),
            (Size(scale=1.5), (1024, 1536)),  # 683*1.5 = 1024.5, to the even one
            (Size(scale=1e-9), (1, 1)),
            (Size(width=3000, height=2000), (2000, 3000)),
            (Size(width=3000), (2001, 3000)),
            (Size(height=2000), (2000, 2999)),
            (Size(width=3000, height=2000, fit=True), (2000, 2999)),
            (Size(width=2000, height=3000, fit=True), (1334, 2000)),
            (Size(width=2000, fit=True), (1334, 2000)),
            (Size(height=9000, fit=True), (2732, 4096)),
            (Size(width=9000, height=9000, fit=True), (2732, 4096)),
            (Size(width=9000, height=1366, fit=True), (1366, 2048)),
            (Size(width=1), (1, 1)),
        ],
        ids=str,
    )
    def test_sizes(self, size, expected):
        assert resolve(size, (2732, 4096), native_scale=4) == expected

    @pytest.mark.parametrize(
        ("size", "message"),
        [
            (Size(scale=5), "scale 5 is above 4, the model's own: a result is never enlarged; pass 4 or less"),
            (
                Size(width=5000, height=10),
                r"size 5000x10 is above 4096x2732, what the model makes of this input: a result is never enlarged; "
                r"pass at most that, or fit=True for the largest inside both",
            ),
            (Size(width=10, height=2733), "size 10x2733 is above 4096x2732"),
            (Size(width=4097), "size 4097x is above 4096x2732"),
            (Size(height=2733), "size x2733 is above 4096x2732"),
        ],
        ids=str,
    )
    def test_nothing_is_enlarged(self, size, message):
        with pytest.raises(PidSamplerError, match=message):
            resolve(size, (2732, 4096), native_scale=4)

    @given(sides, sides, st.sampled_from([1, 4, 8]), st.floats(1e-3, 8))
    def test_scales(self, height, width, native_scale, scale):
        """Each side is the input's times the scale to half a pixel; and such a size may be asked for exactly too."""
        native = height * native_scale, width * native_scale
        if scale > native_scale:
            with pytest.raises(PidSamplerError, match="is above"):
                resolve(Size(scale=scale), native, native_scale=native_scale)
            return
        found = resolve(Size(scale=scale), native, native_scale=native_scale)
        for new, side, most in zip(found, (height, width), native, strict=True):
            assert 1 <= new <= most
            assert new == 1 or new == pytest.approx(side * scale, abs=0.5 + 1e-9)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            assert resolve(Size(width=found[1], height=found[0]), native, native_scale=native_scale) == found
            warn_if_stretched(*found, native=native)

    @given(sides, sides, sides | st.none(), sides | st.none())
    @example(1, 5000, 2500, 1)
    def test_the_largest_inside_a_box(self, tall, wide, width, height):
        """No larger one of the picture's shape is inside box and native, and the shape is kept to half a pixel."""
        if width is height is None:
            return
        new_height, new_width = resolve(Size(width=width, height=height, fit=True), (tall, wide), native_scale=4)
        most_height, most_width = min(height or tall, tall), min(width or wide, wide)
        assert 1 <= new_height <= most_height
        assert 1 <= new_width <= most_width
        assert new_height == most_height or new_width == most_width
        of_width, of_height = tall * new_width / wide, wide * new_height / tall
        kept = abs(new_height - of_width) <= 0.5 and new_width == most_width
        kept |= abs(new_width - of_height) <= 0.5 and new_height == most_height
        assert kept or (new_height == 1 and of_width < 1) or (new_width == 1 and of_height < 1)

    @given(sides, sides, sides)
    def test_one_side_takes_the_other_with_it(self, tall, wide, side):
        for given_wide, size in ((True, Size(width=side)), (False, Size(height=side))):
            if side > (wide if given_wide else tall):
                with pytest.raises(PidSamplerError, match="is above"):
                    resolve(size, (tall, wide), native_scale=4)
                continue
            height, width = resolve(size, (tall, wide), native_scale=4)
            assert side == (width if given_wide else height)
            assert height <= tall
            assert width <= wide
            other, exact = (height, tall * side / wide) if given_wide else (width, wide * side / tall)
            assert other == 1 or abs(other - exact) <= 0.5 + 1e-9

    def test_another_shape_is_made_with_a_warning(self):
        with pytest.warns(UserWarning, match=r"size 1000x1000 changes the shape of a picture of 4096x2732 by 49\.9%"):
            warn_if_stretched(
                *resolve(Size(width=1000, height=1000), (2732, 4096), native_scale=4), native=(2732, 4096)
            )
        with pytest.warns(UserWarning, match=r"by 2\.0%: pass fit=True, or one side alone, to keep it"):
            warn_if_stretched(1000, 980, native=(2000, 2000))
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warn_if_stretched(1000, 991, native=(2000, 2000))  # less than 1 %
            warn_if_stretched(1, 2, native=(29, 41))  # what rounding makes of it


def in_pillow(x, height, width, new_height, new_width):
    """The reduction of each plane as a whole, float32 (1, 3, h, w)."""
    planes = [Image.fromarray(np.ascontiguousarray(plane[:height, :width], np.float32)) for plane in x[0]]
    new = [np.asarray(p.resize((new_width, new_height), Image.Resampling.LANCZOS)) for p in planes]
    return np.stack(new)[None]


def host(x):
    return x.get() if hasattr(x, "get") else x


def stand_in(folder):
    """The cupy backend on a stand-in for CuPy."""
    if not HAS_COMPILER:
        pytest.skip("no g++ to run the kernels with")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "cupy", fake_cupy.FakeCupy(folder))
        return CupyBackend()


def gpu():
    real = pytest.importorskip("cupy", reason="CuPy is not installed")
    try:
        real.cuda.runtime.getDeviceCount()
    except RuntimeError as error:
        pytest.skip(f"no GPU: {error}")
    return CupyBackend()


@pytest.fixture(
    scope="module", name="backend", params=["numpy", "stand-in", pytest.param("gpu", marks=pytest.mark.gpu)]
)
def _backend(request, tmp_path_factory):
    """The backends: one test body for all."""
    if request.param == "numpy":
        return NumpyBackend()
    return gpu() if request.param == "gpu" else stand_in(tmp_path_factory.mktemp("cupy"))


@pytest.fixture(scope="module", name="cupy_backend")
def _cupy_backend(tmp_path_factory):
    return stand_in(tmp_path_factory.mktemp("cupy_alone"))


def reductions(most=70, factor=20.0):
    """(size, new size) of one axis."""
    return st.integers(1, most).flatmap(lambda n: st.tuples(st.just(n), st.integers(math.ceil(n / factor), n)))


def padded(picture, below, right, dtype=np.float32):
    """A picture with NaN past its edges, which must not be read."""
    _, _, h, w = picture.shape
    x = np.full((1, 3, h + below, w + right), np.nan, dtype)
    x[:, :, :h, :w] = picture
    return x


@given(
    reductions(),
    reductions(),
    st.integers(0, 3),
    st.integers(0, 3),
    st.integers(0, 2**32 - 1),
    st.sampled_from(sorted(DTYPES)),
)
@example((1, 1), (1, 1), 0, 0, 0, 0)
@example((1, 1), (67, 1), 1, 1, 0, 0)
@example((61, 1), (1, 1), 1, 0, 0, 0)
@example((61, 59), (53, 53), 0, 1, 0, 0)
@example((64, 32), (48, 12), 2, 2, 0, 0)
@settings(max_examples=60)
def test_as_in_pillow(backend, rows, columns, below, right, seed, element):
    (height, new_height), (width, new_width) = rows, columns
    dtype = DTYPES[element]
    picture = np.random.default_rng(seed).uniform(-1, 1, (1, 3, height, width)).astype(dtype)
    x = padded(picture, below, right, dtype)
    expected = in_pillow(x, height, width, new_height, new_width)
    on_device = backend.adopt(x)
    found = lanczos.reduce(on_device, size=(height, width), new_size=(new_height, new_width), backend=backend)
    assert (found.shape, found.dtype) == ((1, 3, new_height, new_width), dtype)
    assert found.flags.c_contiguous
    tolerance = 1e-5 * 2 + (0.0 if element == 0 else 2 * float(ml_dtypes.finfo(dtype).eps))
    assert np.abs(host(found).astype(np.float32) - expected).max() <= tolerance
    assert np.array_equal(host(on_device), x, equal_nan=True)


@given(reductions(400, 20.0), reductions(40, 5.0), st.integers(0, 3), st.sampled_from([1, 1 << 12, 1 << 20]))
@settings(max_examples=60)
def test_bands_are_parts_of_the_whole(rows, columns, right, band):
    """On the CPU, many bands of different sizes."""
    (height, new_height), (width, new_width) = rows, columns
    picture = np.random.default_rng(height).uniform(-1, 1, (1, 3, height, width)).astype(np.float32)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(lanczos, "_BAND", band)
        found = lanczos.reduce(
            padded(picture, 0, right), size=(height, width), new_size=(new_height, new_width), backend="numpy"
        )
    assert np.abs(found - in_pillow(picture, height, width, new_height, new_width)).max() <= 2e-5


@pytest.mark.parametrize(("size", "new"), [((37, 53), (37, 20)), ((37, 53), (11, 53)), ((37, 53), (2, 3))])
def test_constants_and_ramps_stay(backend, size, new):
    height, width = size
    constant = np.full((1, 3, height, width), 0.7, np.float32)
    found = host(lanczos.reduce(backend.adopt(constant), size=size, new_size=new, backend=backend))
    assert found == pytest.approx(np.full((1, 3, *new), 0.7, np.float32), abs=1e-6)
    # A straight line across both axes, where the whole filter is inside the picture.
    line = np.array([0.5, -0.3, 0.2])[:, None, None] + np.add.outer(0.02 * np.arange(height), 0.01 * np.arange(width))
    found = host(lanczos.reduce(backend.adopt(line[None].astype(np.float32)), size=size, new_size=new, backend=backend))
    y, x = ((np.arange(n) + 0.5) * side / n - 0.5 for n, side in zip(new, size, strict=True))
    expected = np.array([0.5, -0.3, 0.2])[:, None, None] + np.add.outer(0.02 * y, 0.01 * x)
    inside = [
        np.arange(n) if n == side else np.flatnonzero((c >= 3 * side / n) & (c <= side - 3 * side / n))
        for c, n, side in zip((y, x), new, size, strict=True)
    ]
    whole = np.ix_(np.arange(3), *inside)
    assert found[0][whole] == pytest.approx(expected[whole], abs=5e-5)  # Lanczos' own ripple: 1e-3 of the slope
    if new != (2, 3):
        assert expected[whole].size > 30


def test_values_are_not_clamped_and_nan_stays(backend):
    x = np.zeros((1, 3, 40, 40), np.float32)
    x[:, :, :, 20:] = 1.0
    x[0, 1, 8, 12] = np.nan
    found = host(lanczos.reduce(backend.adopt(x), size=(40, 40), new_size=(10, 10), backend=backend))
    assert found[0, 0].max() > 1.01
    assert found[0, 0].min() < -0.01
    broken = np.isnan(found)
    assert broken[0, 1, 2, 3]
    assert not broken[0, [0, 2]].any()
    assert not broken[0, 1, 6:].any()
    assert not broken[0, 1, :, 7:].any()


def test_what_has_the_size_already(backend):
    x = backend.adopt(np.arange(3 * 5 * 7, dtype=np.float32).reshape(1, 3, 5, 7))
    assert lanczos.reduce(x, size=(5, 7), new_size=(5, 7), backend=backend) is x
    part = lanczos.reduce(x, size=(4, 6), new_size=(4, 6), backend=backend)
    assert part.flags.c_contiguous
    assert np.array_equal(host(part), host(x)[:, :, :4, :6])


@pytest.mark.parametrize(
    ("shape", "size", "message"),
    [
        (
            (1, 3, 8, 8),
            (9, 8, 2, 2),
            r"a tensor of shape \(1, 3, 8, 8\) holds no picture of 8x9: expected .* \(1, 3, 9",
        ),
        ((1, 3, 8, 8), (8, 9, 2, 2), "holds no picture of 9x8"),
        ((1, 3, 8, 8), (0, 8, 0, 2), "holds no picture of 8x0"),
        ((2, 3, 8, 8), (8, 8, 2, 2), r"a tensor of shape \(2, 3, 8, 8\) holds no"),
        ((1, 4, 8, 8), (8, 8, 2, 2), "holds no"),
        ((3, 8, 8), (8, 8, 2, 2), "holds no"),
        ((1, 3, 8, 8), (6, 7, 7, 2), "a picture of 7x6 cannot be reduced to 2x7: pass 1x1 to 7x6"),
        ((1, 3, 8, 8), (6, 7, 2, 8), "cannot be reduced to 8x2"),
        ((1, 3, 8, 8), (6, 7, 0, 2), "cannot be reduced to 2x0"),
    ],
)
def test_reductions_that_are_refused(backend, shape, size, message):
    with pytest.raises(PidSamplerError, match=message):
        lanczos.reduce(backend.adopt(np.zeros(shape, np.float32)), size=size[:2], new_size=size[2:], backend=backend)


def test_float64_and_overflow_on_the_cpu():
    x = np.random.default_rng(0).uniform(-1, 1, (1, 3, 40, 30))
    found = lanczos.reduce(x, size=(40, 30), new_size=(13, 11), backend="numpy")
    assert found.dtype == np.float64
    assert found == pytest.approx(in_pillow(x, 40, 30, 13, 11), abs=1e-5)
    assert not np.isfinite(lanczos.reduce(x * 1e300, size=(40, 30), new_size=(13, 11), backend="numpy")).all()
    ends = np.where(np.arange(40) < 20, -65504, 65504)[:, None] * np.ones((1, 3, 40, 30))
    assert np.isinf(lanczos.reduce(ends.astype(np.float16), size=(40, 30), new_size=(13, 11), backend="numpy")).any()


def test_any_number_of_cores_gives_the_same_bits(monkeypatch):
    x = np.random.default_rng(0).uniform(-1, 1, (1, 3, 300, 200)).astype(np.float32)
    results = []
    for cores in (1, 2, 5):
        monkeypatch.setattr(threads, "count_cores", lambda cores=cores: cores)
        results.append(lanczos.reduce(x, size=(300, 200), new_size=(171, 93), backend="numpy"))
    assert all(np.array_equal(results[0], other) for other in results[1:])


MEMORY = """
import re, sys
from pathlib import Path
import numpy as np
import PIL.Image
from pidsampler.image import lanczos
from pidsampler.threads import count_cores
height, width, new_height, new_width = map(int, sys.argv[1:])
x = np.full((1, 3, height + 8, width + 8), 0.5, np.float32)
# Not getrusage: its figure begins with the parent's.
most = lambda: 1024 * int(re.search(r"VmHWM:\\s*(\\d+)", Path("/proc/self/status").read_text())[1])
lanczos.reduce(x, size=(64, 64), new_size=(32, 32), backend="numpy")
before = most()
result = lanczos.reduce(x, size=(height, width), new_size=(new_height, new_width), backend="numpy")
print(x.nbytes, result.nbytes, most() - before, count_cores())
"""


@pytest.mark.skipif(sys.platform != "linux", reason="how a process's memory is told differs")
@pytest.mark.parametrize("size", [(4000, 4000, 2000, 2000), (3000, 4000, 75, 100)])
def test_the_cpu_needs_no_memory_of_the_pictures_size(size):
    """Of the whole process, as Pillow's memory is its own: the result, and what `lanczos` says."""
    command = [sys.executable, "-c", MEMORY, *map(str, size)]
    said = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    picture, result, grown, cores = map(int, said.split())
    height, width, new_height, _ = size
    band = 12 * max(1 << 20, 10 * height * width // new_height)
    allowed = result + min(band * cores, 100_000_000) + 2**22
    assert result < grown < allowed
    assert cores > 2 or allowed < picture / 2


def test_one_launch_one_allocation_and_four_uploads_on_the_gpu(cupy_backend):
    cupy = cupy_backend._cupy
    x = cupy.asarray(np.ones((1, 3, 12, 16), np.float32))
    lanczos.reduce(x, size=(10, 13), new_size=(5, 4), backend=cupy_backend)
    assert [name for name, _ in cupy.compiled] == ["pid_reduce"]
    cupy.seen.clear()
    lanczos.reduce(x, size=(12, 16), new_size=(5, 4), backend=cupy_backend)
    ours = cupy_backend.stream.ptr
    assert [e for e in cupy.seen if e[0] != "record" and e[0] != "wait"] == [
        "allocation", *["upload"] * 4, ("launch", "pid_reduce", ours)
    ]  # fmt: skip
    assert len(cupy.compiled) == 1
    with pytest.raises(PidSamplerError, match="is not contiguous"):
        lanczos.reduce(x[:, :, :, ::2], size=(10, 4), new_size=(5, 4), backend=cupy_backend)
    with pytest.raises(PidSamplerError, match="dtype float64 on the GPU is not"):
        lanczos.reduce(x.astype(np.float64), size=(10, 4), new_size=(5, 4), backend=cupy_backend)


KERNEL = """
extern "C" void reduce_{x}(unsigned blocks, unsigned images, unsigned threads, const void* from, void* to,
        const void* rows, const void* down, unsigned row_taps, const void* columns, const void* across,
        unsigned column_taps, unsigned height, unsigned width, unsigned new_height, unsigned new_width) {{
    launch(blocks, images, threads, [&] {{
        pid_reduce_body<{x}>(from, to, (const pid_u32*)rows, (const float*)down, row_taps, (const pid_u32*)columns,
                             (const float*)across, column_taps, height, width, new_height, new_width); }});
}}
"""


@pytest.fixture(scope="module", name="kernels")
def _kernels(tmp_path_factory):
    if not HAS_COMPILER:
        pytest.skip("no g++ to run the kernels with")
    text = '#include "cuda_emulation.h"\n' + source("reduce.cu")
    return emulated.built(tmp_path_factory.mktemp("r"), "reduce", text + "".join(KERNEL.format(x=x) for x in DTYPES))


def launched(kernels, x, to, height, width, grid):
    """Run the emulated kernel on the top left of x."""
    (new_height, new_width), number = to.shape[2:], next(k for k, dtype in DTYPES.items() if dtype == x.dtype)
    rows, down = lanczos.taps(height, new_height)
    columns, across = lanczos.taps(width, new_width)
    emulated.call(
        getattr(kernels, f"reduce_{number}"), grid, None, x, to, rows, down, len(down), columns, across, len(across),
        *x.shape[2:], new_height, new_width,
    )  # fmt: skip


@pytest.mark.parametrize("element", DTYPES)
def test_the_kernel_writes_its_result_alone_whatever_the_grid(kernels, element):
    x = np.random.default_rng(0).uniform(-1, 1, (1, 3, 23, 31)).astype(DTYPES[element])
    expected = in_pillow(x, 21, 29, 9, 10)
    results = []
    for grid in ((1, 1, 256), (1, 1, 1), (3, 1, 7), (90, 1, 1)):
        to = Guarded(np.full((1, 3, 9, 10), 7, DTYPES[element]))
        launched(kernels, x, to.array, 21, 29, grid)
        to.check()
        results.append(to.array.astype(np.float32))
    step = 1e-6 + (0.0 if element == 0 else float(ml_dtypes.finfo(DTYPES[element]).eps))
    assert np.abs(results[0] - expected).max() <= step
    assert all(np.array_equal(results[0], other) for other in results[1:])


def test_the_kernel_finds_elements_past_2_32(kernels, tmp_path):
    """In a file of holes: of 2^16 x 2^16 pixels, so that the second channel begins at element 2^32."""
    x = np.memmap(tmp_path / "x", np.float16, "w+", shape=(1, 3, 1 << 16, 1 << 16))
    for c in range(3):
        x[0, c, :4, :4] = c + 1
    to = np.zeros((1, 3, 2, 2), np.float16)
    launched(kernels, x, to, 4, 4, (1, 1, 4))
    assert np.array_equal(to, np.arange(1, 4)[:, None, None] * np.ones((1, 3, 2, 2)))


@given(reductions(400, 50.0))
@example((7, 7))
@example((3000, 1))
def test_tables(axis):
    size, new_size = axis
    first, weights = lanczos.taps(size, new_size)
    assert (first.dtype, weights.dtype) == (np.uint32, np.float32)
    assert first.shape == weights.shape[1:] == (new_size,)
    assert (first.astype(np.int64) + len(weights)).max() <= size
    assert weights.astype(np.float64).sum(axis=0) == pytest.approx(np.ones(new_size), abs=1e-6)
    dense = np.zeros((new_size, size))
    dense[np.arange(new_size), first + np.arange(len(weights))[:, None]] = weights
    assert np.abs(dense - dense[::-1, ::-1]).max() <= 1e-6
    assert np.count_nonzero(weights, axis=0).max() <= math.ceil(6 * size / new_size)
