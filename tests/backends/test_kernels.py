"""The kernels' arithmetic, built by g++ from the files that the wheel ships, against numpy.

Tried mutations, each of which fails here. Noise: a round less, a key word not bumped, the two multipliers swapped,
u near 1 not from the complement of r, the exponent's sign, a coefficient off by 1e-6, a quarter turn's sign, sine and
cosine swapped. Step: p and q swapped, a result's b of another
one, h of another slot, a draw's counter without its part, one draw less, the seed of the first image for all, clip of
one side only, the tail stored whole, the tail not stored, an image's offset forgotten, the cast or a
saved tensor of another result. Half precision: rounding up at ties, no subnormals, no sign. Fill: scale and
keep swapped, the stream ignored. Images: no reflection past the second edge, BGR not swapped back, rounding by
truncation, 128 for 127.5, no clamp below.
"""

import ctypes
import shutil
from dataclasses import replace

import emulated
import ml_dtypes
import numpy as np
import pytest
from emulated import DTYPES, Guarded
from variants import FILLS, FULL, IMAGES, VARIANTS

from pidsampler import Combination, PidSamplerError, Row, get_scheduler, list_schedulers, timesteps
from pidsampler.backends.kernels import StepVariant, definitions, group, kind, slots_read, source
from pidsampler.backends.numpy import NumpyBackend
from pidsampler.image.pixels import to_image, to_tensor
from pidsampler.noise import coupling
from pidsampler.noise import philox as noise

pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to build the kernels with")

NOISE = """
extern "C" void words(pid_u64 q, pid_u32 draw, pid_u32 stream, pid_u64 seed, long n, pid_u32* out) {
    for (long i = 0; i < n; ++i) {
        const PidWords r = pid_philox(q + i, draw, stream, seed);
        for (int j = 0; j < 4; ++j) out[4 * i + j] = r.w[j];
    }
}
extern "C" void normals(pid_u64 q, pid_u32 draw, pid_u32 stream, pid_u64 seed, long n, float* out) {
    for (long i = 0; i < n; ++i) pid_normals(q + i, draw, stream, seed, out + 4 * i);
}
extern "C" void polar(long n, const pid_u32* r, float* out) {
    for (long i = 0; i < n; ++i) {
        out[3 * i] = pid_radius(r[i]);
        pid_sincos(r[i], out[3 * i + 1], out[3 * i + 2]);
    }
}
extern "C" void pack_half(long n, const float* in, pid_u32* out) {
    for (long i = 0; i < n / 2; ++i) out[i] = PidElement<PID_F16>::pack(in + 2 * i);
}
extern "C" void pack_bfloat(long n, const float* in, pid_u32* out) {
    for (long i = 0; i < n / 2; ++i) out[i] = PidElement<PID_BF16>::pack(in + 2 * i);
}
extern "C" int group(int x, int m) {
    static const int groups[3][3] = {{pid_group<0, 0>(), pid_group<0, 1>(), pid_group<0, 2>()},
                                     {pid_group<1, 0>(), pid_group<1, 1>(), pid_group<1, 2>()},
                                     {pid_group<2, 0>(), pid_group<2, 1>(), pid_group<2, 2>()}};
    return m < 0 ? pid_group<0, -1>() : groups[x][m];
}
extern "C" void to_half(long n, const float* in, pid_u16* out) {
    for (long i = 0; i < n; ++i) out[i] = pid_to_half(in[i]);
}
extern "C" void to_bfloat(long n, const float* in, pid_u16* out) {
    for (long i = 0; i < n; ++i) out[i] = pid_to_bfloat(in[i]);
}
extern "C" void from_half(long n, const pid_u16* in, float* out) {
    for (long i = 0; i < n; ++i) out[i] = pid_from_half(in[i]);
}
extern "C" void from_bfloat(long n, const pid_u16* in, float* out) {
    for (long i = 0; i < n; ++i) out[i] = pid_from_bfloat(in[i]);
}
"""


@pytest.fixture(scope="module", name="library")
def _library(tmp_path_factory):
    library = emulated.built(tmp_path_factory.mktemp("noise"), "noise", source("noise.cuh") + NOISE)
    u64, u32, pointer = ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p
    library.words.argtypes = library.normals.argtypes = [u64, u32, u32, u64, ctypes.c_long, pointer]
    library.polar.argtypes = [ctypes.c_long, pointer, pointer]
    return library


@pytest.mark.parametrize("q", [0, 2**32 - 500, 2**62])
def test_words_are_bit_equal(library, q):
    seed, draw, stream, n = 0x123456789ABCDEF0, 7, 1, 1000
    found = np.full((n, 4), 0xDEADBEEF, np.uint32)
    library.words(q, draw, stream, seed, n, found.ctypes.data)
    expected = np.stack(noise._philox(q, n, seed, draw, stream), axis=1)
    assert np.array_equal(found, expected)


def test_normals_are_bit_equal(library):
    n = 1_000_000
    found = np.full(n, np.nan, np.float32)
    library.normals(0, 3, 0, 42, n // 4, found.ctypes.data)
    expected = noise.normal(42, 3, (n,))
    assert np.array_equal(found, expected)


F = np.float32
EVERYWHERE = np.random.default_rng(7).integers(0, 2**32, 1_000_000, np.uint32)
THIRDS = [2**33 // 3 * 2**-k for k in range(31)]  # where the exponent of u changes
EDGES = np.unique(
    np.concatenate([int(at) + np.arange(-2000, 2000) for at in (0, *(2.0 ** np.arange(33)), 3 * 2**30, *THIRDS)])
    % 2**32
).astype(np.uint32)


def polar(library, r):
    """The kernel's radius, sine and cosine of words."""
    out = np.full((len(r), 3), np.nan, np.float32)
    library.polar(len(r), r.ctypes.data, out.ctypes.data)
    return out


def exact_polar(r):
    """The same in float64: near u = 1 from 1 - u, and the angle less its nearest quarter turns."""
    u, below_1 = (r + 0.5) * 2.0**-32, (2.0**32 - r - 0.5) * 2.0**-32
    quarters = (r.astype(np.int64) + 2**29) >> 30
    angle = (r - quarters * 2**30 + 0.5) * 2.0**-32 * 2 * np.pi
    s, c = np.sin(angle), np.cos(angle)
    sine, cosine = (np.choose((quarters + k) % 4, [s, c, -s, -c]) for k in (0, 1))
    return np.stack([np.sqrt(-2 * np.where(u < 0.5, np.log(u), np.log1p(-below_1))), sine, cosine], axis=1)


@pytest.mark.parametrize("r", [EVERYWHERE, EDGES], ids=["everywhere", "edges"])
def test_radius_and_angle_are_within_2e_7_of_themselves(library, r):
    """Over all 2^32 words, every 29th tried, it was 1.6e-7 and 1.7e-7; both ends and each change of exponent here."""
    exact = exact_polar(r.astype(np.float64))
    assert np.abs(polar(library, r) / exact - 1).max(axis=0) == pytest.approx(0, abs=1.8e-7)


@pytest.mark.parametrize("first", [0, 2**32 - 1000], ids=["largest", "smallest"])
def test_tails_agree_to_4_ulp_or_1e_6(library, first):
    """The thousand words of the largest radius, up to 6.66, and of the smallest, each with 4000 angles."""
    r, angles = np.arange(first, first + 1000, dtype=np.uint32), EVERYWHERE[:4000]
    found = polar(library, r)[:, :1, None] * polar(library, angles)[None, :, 1:]
    exact = exact_polar(r)[:, :1, None] * exact_polar(angles)[None, :, 1:]
    assert np.all(np.abs(found - exact) <= np.maximum(4 * np.spacing(np.abs(exact).astype(F)), 1e-6))


def test_numpys_noise_has_the_same_bits(library):
    """Where a compiler does not contract, as here, this source makes the very noise of `noise.normal`."""
    r = np.concatenate([EVERYWHERE, EDGES])
    again = np.stack([noise._radius(r.copy()), *noise._sine_and_cosine(r.copy())], axis=1)
    assert np.array_equal(polar(library, r).view(np.uint32), again.view(np.uint32))


@pytest.mark.parametrize("name", ["half", "bfloat"])
def test_half_precision_is_converted_exactly(library, name):
    """All 65,536 values there, and back again the float32 around each of them and around the middles between two."""
    dtype = np.dtype(np.float16 if name == "half" else ml_dtypes.bfloat16)
    bits = np.arange(2**16, dtype=np.uint16)
    found = np.empty(2**16, np.float32)
    getattr(library, f"from_{name}")(ctypes.c_long(2**16), *emulated.pointers(bits, found))
    with np.errstate(invalid="ignore"):
        expected = bits.view(dtype).astype(np.float32)
    assert np.array_equal(found, expected, equal_nan=True)
    finite = np.sort(expected[np.isfinite(expected)])
    middles = ((finite[1:].astype(np.float64) + finite[:-1]) / 2).astype(np.float32)
    edges = np.array([np.inf, -np.inf, 65519.996, 65520.0, 1e30, 3.3961776e38, 3.4e38, 1e-45, 5e-8, -0.0], np.float32)
    centres = np.concatenate([finite, middles, edges])
    values = np.concatenate(
        [centres, np.nextafter(centres, np.float32(np.inf)), np.nextafter(centres, np.float32(-np.inf))]
    )
    halves = np.empty(len(values), np.uint16)
    getattr(library, f"to_{name}")(ctypes.c_long(len(values)), *emulated.pointers(values, halves))
    with np.errstate(over="ignore"):
        assert np.array_equal(halves, values.astype(dtype).view(np.uint16))
    pairs = np.empty(len(values) // 2, np.uint32)
    getattr(library, f"pack_{name}")(ctypes.c_long(len(values)), *emulated.pointers(values, pairs))
    assert np.array_equal(pairs.view(np.uint16), halves[: 2 * len(pairs)])  # the first in the lower half
    nans = np.array([np.nan, -np.nan], np.float32)
    getattr(library, f"to_{name}")(ctypes.c_long(2), *emulated.pointers(nans, halves))
    assert np.isnan(halves[:2].view(dtype).astype(np.float32)).all()


@pytest.fixture(scope="module", name="steps")
def _steps(tmp_path_factory):
    return emulated.step_library(tmp_path_factory.mktemp("step"), VARIANTS)


def row_of(v, rng):
    """A row with every term of a variant, of weights that tell each other apart."""
    w = lambda: float(rng.uniform(0.1, 0.9) * rng.choice([-1, 1]))  # noqa: E731
    numbers = list(rng.choice(1000, 40 if v.draws < 0 else v.draws, replace=False))

    def combination():
        a = w() if v.reads_x else 0.0
        return {"a": a, "b": w(), "h": {k: w() for k in range(v.slots)}, "noise": {int(d): w() for d in numbers}}

    saves = {k: Combination(**combination()) for k in range(v.saves)}
    clip = 0.6 if v.clip else None
    return Row(0.7, 0.4, **combination(), p=w() if v.reads_x else 0.0, q=w(), clip=clip, saves=saves)


def in_float64(row, x, m, saved, seeds):
    """The row's formula on float64 arrays."""
    x0 = row.p * x + row.q * m
    if row.clip is not None:
        x0 = np.clip(x0, -row.clip, row.clip)

    def combined(c):
        total = c.a * x + c.b * x0 + sum(w * saved[k] for k, w in c.h)
        for draw, w in c.noise:
            total = total + w * np.stack([noise.normal(s, draw, x.shape[1:]) for s in seeds]).astype(np.float64)
        return total

    return [combined(row), *(combined(c) for _, c in row.saves)]


SEEDS = (3, 2**63 + 5)


def launched(steps, v, row, x, m, saved, grid=(3, 64), shift=0, cast=None):
    """Run the emulated kernel in place; return the results after checking that nothing else was written."""
    state, seeds = Guarded(x, shift), np.array(SEEDS[: len(x)], np.uint64)
    inputs, slots = Guarded(m, shift), [Guarded(s, shift) for s in saved]
    copy = None if v.cast < 0 else Guarded(np.zeros(x.shape, DTYPES[v.cast]), shift)
    read = [slots[k].array for k in slots_read(row)]
    written = [slots[slot].array for slot, _ in row.saves]
    k = VARIANTS.index(v)
    packed = v.pack(row)
    assert packed.nbytes == getattr(steps, f"size_{k}")()
    blocks, threads = grid
    emulated.call(
        getattr(steps, f"step_{k}"), (blocks, len(x), threads), x[0].size, seeds, state.array, inputs.array,
        *(read + [None] * 6)[:6], state.array, *(written + [None] * 6)[:6], copy and copy.array, packed,
    )  # fmt: skip
    for guarded in (state, inputs, *slots, *([copy] if copy else [])):
        guarded.check()
    assert np.array_equal(inputs.array.view(np.uint8), np.ascontiguousarray(m).view(np.uint8))
    for slot, s in enumerate(saved):
        if slot not in dict(row.saves):
            assert np.array_equal(slots[slot].array, s)
    return [state.array, *written], copy and copy.array


def inputs(v, n, rng, images=2):
    """x, m and saved tensors of a variant, of n elements an image."""
    x = rng.normal(size=(images, n)).astype(DTYPES[v.x])
    m = rng.normal(size=(images, n)).astype(DTYPES[v.m])
    saved = [rng.normal(size=(images, n)).astype(DTYPES[v.x]) for _ in range(max(v.slots, v.saves))]
    return x, m, saved


@pytest.mark.parametrize("v", VARIANTS, ids=lambda v: " ".join(v.flags).replace("-DPID_", "").lower())
def test_step_is_as_exact_as_numpy(steps, v):
    """Its error against float64 is at most twice numpy's in float32 with one rounding, plus 1e-6 for each normal."""
    rng = np.random.default_rng(1)
    row = row_of(v, rng)
    x, m, saved = inputs(v, 1024, rng)
    exact = in_float64(row, x.astype(np.float64), m.astype(np.float64), [s.astype(np.float64) for s in saved], SEEDS)
    plain, kept = x.astype(np.float32), [s.astype(np.float32) for s in saved]
    NumpyBackend().step(row, plain, m=m.astype(np.float32), saved=kept, seeds=SEEDS)
    found, copy = launched(steps, v, row, x, m, saved)
    numpys = [plain, *(kept[slot] for slot, _ in row.saves)]
    combinations = [row, *(c for _, c in row.saves)]
    for ours, its, right, c in zip(found, numpys, exact, combinations, strict=True):
        allowed = 2 * np.abs(its.astype(DTYPES[v.x]).astype(np.float64) - right).max()
        allowed += 1e-6 * sum(abs(w) for _, w in c.noise)
        assert np.abs(right).max() > 0.1
        assert np.abs(ours.astype(np.float64) - right).max() <= allowed
    if copy is not None:
        step = np.abs(exact[0]).max() * float(ml_dtypes.finfo(DTYPES[v.cast]).eps)
        assert np.abs(copy.astype(np.float64) - exact[0]).max() <= step


@pytest.mark.parametrize("n", [0, 1, 3, 4, 5, 7, 8, 9, 31, 32, 33, 127, 1021])
@pytest.mark.parametrize("v", [v for v in VARIANTS if v.slots == 1 and v.saves == 1 and v.draws == 1], ids=str)
def test_step_of_any_size_is_a_piece_of_the_whole(steps, v, n):
    """Tails are right and nothing past them is touched; so are starts that 16 does not divide, without `vector`."""
    rng = np.random.default_rng(2)
    row = row_of(v, rng)
    x, m, saved = inputs(v, 1024, rng, images=1)
    whole, _ = launched(steps, v, row, x, m, saved)
    for shift in (0,) if v.vector else (0, 1, 3):
        parts, _ = launched(steps, v, row, x[:, :n], m[:, :n], [s[:, :n] for s in saved], shift=shift)
        for part, all_of_it in zip(parts, whole, strict=True):
            assert np.array_equal(part, all_of_it[:, :n])


@pytest.mark.parametrize("v", [replace(FULL, draws=-1), replace(FULL, x=0, m=1, slots=1, saves=1)], ids=str)
def test_step_does_not_depend_on_the_grid_nor_on_the_batch(steps, v):
    rng = np.random.default_rng(3)
    row = row_of(v, rng)
    x, m, saved = inputs(v, 1000, rng)
    first, _ = launched(steps, v, row, x, m, saved)
    for grid in ((1, 1), (1, 1024), (7, 33), (400, 1)):
        again, _ = launched(steps, v, row, x, m, saved, grid)
        assert all(np.array_equal(a, b) for a, b in zip(first, again, strict=True))
    alone, _ = launched(steps, v, row, x[:1], m[:1], [s[:1] for s in saved])
    assert all(np.array_equal(a[:1], b) for a, b in zip(first, alone, strict=True))


def test_steps_with_and_without_vector_loads_are_bit_equal(steps):
    rng = np.random.default_rng(4)
    for v in VARIANTS[-12:]:
        assert not v.vector
        row = row_of(v, rng)
        x, m, saved = inputs(v, 999 if v.x == v.m == 0 else 1000, rng, images=1)
        plain, vector = (launched(steps, w, row, x, m, saved)[0] for w in (v, replace(v, vector=True)))
        assert all(np.array_equal(a, b) for a, b in zip(plain, vector, strict=True))


def test_rows_that_a_kernel_cannot_do():
    many = Row(0.5, 0.4, b=1.0, h=dict.fromkeys(range(7), 0.1))
    with pytest.raises(
        PidSamplerError, match=r"the row at t=0\.5 reads 7 saved tensors, more than the 6 of a GPU kernel"
    ):
        StepVariant.of(many)
    with pytest.raises(PidSamplerError, match="writes 7 saved tensors"):
        StepVariant.of(Row(0.5, 0.4, b=1.0, saves={k: Combination(b=1.0) for k in range(7)}))
    with pytest.raises(PidSamplerError, match="adds 129 draws"):
        StepVariant.of(Row(0.5, 0.4, b=1.0, noise=dict.fromkeys(range(129), 0.1)))
    with pytest.raises(PidSamplerError, match="adds 74 draws, more than the 73 of a GPU kernel"):
        StepVariant.of(
            Row(0.5, 0.4, b=1.0, noise=dict.fromkeys(range(74), 0.1), saves={k: Combination(b=1.0) for k in range(6)})
        )
    with pytest.raises(PidSamplerError, match="dtype float64 on the GPU is not float32, float16, bfloat16"):
        kind(np.float64)


def test_a_thread_takes_as_many_elements_as_the_grid_is_sized_by(library):
    for x, m in [(x, m) for x in DTYPES for m in DTYPES] + [(0, -1)]:
        assert library.group(x, m) == group(x, m) == (4 if max(x, m) == 0 else 8)


ROOM = 4096 - 18 * 8  # bytes of a launch's parameters, beside n and the pointers


def test_every_method_and_its_brownian_form_fits_a_kernel():
    for info in list_schedulers():
        table = get_scheduler(info.name, timesteps=timesteps.uniform(9)).table()
        for change in (lambda t: t, coupling.fixed, *(() if info.name == "restart" else (coupling.brownian,))):
            for row in change(table).rows:
                v = StepVariant.of(row)
                assert v.layout.itemsize <= ROOM
                assert len(row.draws) <= 128


def test_a_launch_has_room_for_the_largest_rows():
    for saves in range(7):
        assert replace(FULL, slots=6, saves=saves, draws=-1).layout.itemsize <= ROOM


FILL = """
extern "C" void fill_{k}(unsigned blocks, unsigned images, unsigned threads, pid_u64 n, const pid_u64* seeds, void* x,
        pid_u32 draw, pid_u32 stream, float keep, float scale) {{
    launch(blocks, images, threads, [&] {{
        pid_fill_body<{x}, {keep}, {vector}>(n, seeds, x, draw, stream, keep, scale); }});
}}
"""


@pytest.fixture(scope="module", name="fills")
def _fills(tmp_path_factory):
    text = '#include "cuda_emulation.h"\n' + source("fill.cu")
    for k, (x, keep, vector) in enumerate(FILLS):
        text += FILL.format(k=k, x=x, keep=keep, vector=vector)
    return emulated.built(tmp_path_factory.mktemp("fill"), "fill", text)


@pytest.mark.parametrize("n", [0, 1, 31, 33, 1021, 1024])
@pytest.mark.parametrize("k", range(len(FILLS)), ids=lambda k: str(FILLS[k]))
def test_fill(fills, k, n):
    x, keep, vector = FILLS[k]
    images = 1 if vector and n % 8 else 2
    old = np.random.default_rng(5).normal(size=(images, n)).astype(DTYPES[x])
    state, seeds = Guarded(old, shift=0 if vector else 1), np.array(SEEDS[:images], np.uint64)
    emulated.call(getattr(fills, f"fill_{k}"), (2, images, 32), n, seeds, state.array, 9, 1, 0.75, 0.5)
    state.check()
    eps = np.stack([noise.normal(s, 9, (n,), stream=1) for s in SEEDS[:images]]).astype(np.float64)
    exact = 0.5 * eps + (0.75 * old.astype(np.float64) if keep else 0.0)
    tolerance = 1e-6 if x == 0 else 2 * float(ml_dtypes.finfo(DTYPES[x]).eps) * 2.5
    assert np.abs(state.array.astype(np.float64) - exact).max(initial=0) <= tolerance


IMAGE = """
extern "C" void to_tensor_{k}(unsigned blocks, unsigned images, unsigned threads, const void* image, void* tensor,
        unsigned h, unsigned w, unsigned height, unsigned width) {{
    launch(blocks, images, threads, [&] {{
        pid_to_tensor_body<{pixel}, {channels}, {bgr}, {x}>((const {pixel}*)image, tensor, h, w, height, width); }});
}}
extern "C" void to_image_{k}(unsigned blocks, unsigned images, unsigned threads, const void* tensor, void* image,
        unsigned h, unsigned w, unsigned height, unsigned width, void* bad) {{
    launch(blocks, images, threads, [&] {{
        pid_to_image_body<{bgr}, {x}>(tensor, (pid_u8*)image, h, w, height, width, (pid_u32*)bad); }});
}}
"""


@pytest.fixture(scope="module", name="images")
def _images(tmp_path_factory):
    text = '#include "cuda_emulation.h"\n' + source("image.cu")
    for k, (pixel, channels, bgr, x) in enumerate(IMAGES):
        text += IMAGE.format(k=k, pixel={8: "pid_u8", 16: "pid_u16"}[pixel], channels=channels, bgr=bgr, x=x)
    return emulated.built(tmp_path_factory.mktemp("image"), "image", text)


@pytest.mark.parametrize(
    "size", [(1, 1, 1, 1), (1, 1, 4, 3), (5, 7, 5, 7), (5, 7, 8, 16), (3, 2, 16, 9), (2, 9, 33, 9)]
)
@pytest.mark.parametrize("k", range(len(IMAGES)), ids=lambda k: str(IMAGES[k]))
def test_picture_to_tensor_and_back(images, k, size):
    pixel, channels, bgr, x = IMAGES[k]
    h, w, height, width = size
    most = 2**pixel - 1
    rng = np.random.default_rng(6)
    picture = Guarded(rng.integers(0, most + 1, (h, w, channels)).astype(f"uint{pixel}"))
    tensor = Guarded(np.zeros((1, 3, height, width), DTYPES[x]))
    emulated.call(getattr(images, f"to_tensor_{k}"), (2, 1, 32), None, picture.array, tensor.array, h, w, height, width)
    tensor.check()
    rgb = picture.array[:, :, :3][:, :, ::-1] if bgr else picture.array[:, :, :3]
    expected = to_tensor(np.ascontiguousarray(rgb), size=(height, width), backend=NumpyBackend())
    step = float(ml_dtypes.finfo(DTYPES[x]).eps)
    assert np.abs(tensor.array.astype(np.float64) - expected).max() <= step
    back, bad = Guarded(np.zeros((h, w, 3), np.uint8)), np.zeros(1, np.uint32)
    emulated.call(
        getattr(images, f"to_image_{k}"), (2, 1, 32), None, tensor.array, back.array, h, w, height, width, bad
    )
    back.check()
    again = to_image(tensor.array.astype(np.float32), size=(h, w), backend=NumpyBackend())
    assert np.array_equal(back.array[:, :, ::-1] if bgr else back.array, again)
    assert bad[0] == 0


@pytest.mark.parametrize("value", [-7.0, -1.0 - 1e-6, 3.0, 0.5 / 127.5, 1.5 / 127.5, -127.0 / 127.5])
def test_values_past_the_range_are_clamped_and_halves_rounded_to_even(images, value):
    tensor = np.full((1, 3, 2, 2), value, np.float32)
    found, bad = np.full((2, 2, 3), 77, np.uint8), np.zeros(1, np.uint32)
    emulated.call(images.to_image_0, (1, 1, 4), None, tensor, found, 2, 2, 2, 2, bad)
    assert np.array_equal(found, to_image(tensor, size=(2, 2), backend=NumpyBackend()))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("place", [0, 2, 3])
def test_what_is_not_finite_is_reported_inside_the_picture_only(images, value, place):
    tensor = np.zeros((1, 3, 2, 2), np.float32)
    tensor[0, 1, place // 2, place % 2] = value
    found, bad = np.zeros((2, 1, 3), np.uint8), np.zeros(1, np.uint32)
    emulated.call(images.to_image_0, (1, 1, 4), None, tensor, found, 2, 1, 2, 2, bad)
    assert bad[0] == (0 if place == 3 else 1)  # place 3 is cropped


def test_flags():
    assert definitions(x=0, clip=True, pixel="pid_u8") == ("-DPID_X=0", "-DPID_CLIP=1", "-DPID_PIXEL=pid_u8")


def test_sources_hold_their_headers_once():
    text = source("step.cu")
    assert '#include "' not in text
    assert text.count("PID_DEVICE PidWords pid_philox") == text.count("struct PidElement<PID_F32>") == 1
