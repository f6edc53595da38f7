"""The CPU's compiled library has numpy's bits, in each form that this processor runs.

Tried mutations, each of which fails here. Noise: a round less, lanes in order 0, 1, 2, 3, the first counter's rest not
skipped, the tail's count one less, high words of the counter ignored. Rows: p and q swapped, a term of weight 0 read,
clip of one side in blocks or in one pass, the draws of the first result for all, x not written, m from the image's
beginning in a later part, nothing left after the first call, the first image's addresses for the second.
"""

import itertools
import os
import shutil
import subprocess
import sys
from functools import partial
from pathlib import Path

import ml_dtypes
import numpy as np
import pytest

from pidsampler import Combination, FlowSDE, PidSamplerError, Row, get_scheduler, native, timesteps
from pidsampler import threads as pool
from pidsampler.backends.numpy import NumpyBackend
from pidsampler.noise import coupling, philox

BACKEND = NumpyBackend()
SEEDS = (3, 2**64 - 1)
POISON = np.float32(7.5)


@pytest.fixture(name="by_numpy")
def _by_numpy(form, monkeypatch):
    """Calls a function without the library, for the form's results to be compared with."""

    def call(work):
        with monkeypatch.context() as patch:
            patch.setattr(native, "built", lambda: None)
            return work()

    return call


def bits(array):
    return array.view({2: np.uint16, 4: np.uint32, 8: np.uint64}[array.dtype.itemsize])


def same_bits(found, expected):
    """Bit for bit, but for the payload of NaN."""
    nan = np.isnan(found) & np.isnan(expected)
    return found.dtype == expected.dtype and bool(np.all((bits(found) == bits(expected)) | nan))


@pytest.mark.parametrize(
    ("start", "seed", "draw", "stream"),
    [(0, 0, 0, 0), (4 * (2**32 - 25_000), 2**64 - 1, 2**32 - 1, 2**32 - 1), (2**62 - 1, 2**63 + 5, 9, 1)],
)
def test_noise(form, by_numpy, start, seed, draw, stream):
    """200,003 values: all branches of the logarithm and all quarter turns, past a carry of the counter."""
    make = partial(np.empty, 200_003, np.float32)
    found, expected = make(), make()
    philox.fill(found, seed, draw=draw, stream=stream, start=start)
    by_numpy(lambda: philox.fill(expected, seed, draw=draw, stream=stream, start=start))
    assert np.array_equal(bits(found), bits(expected))


def test_noise_of_every_tail(form, by_numpy):
    """Any start and length, at any place in memory, and nothing beside it is written."""
    whole = by_numpy(lambda: philox.normal(5, 6, (400,)))
    for start in range(9):
        for n in (*range(70), 127, 128, 129):
            out = np.full(n + 8, POISON)
            philox.fill(out[start % 4 : start % 4 + n], 5, draw=6, start=start)
            assert np.array_equal(out[start % 4 : start % 4 + n], whole[start : start + n])
            assert np.all(out[: start % 4] == POISON)
            assert np.all(out[start % 4 + n :] == POISON)


def test_arrays_of_other_kinds_are_filled_too(form):
    whole = philox.normal(5, 6, (100,))
    wide, strided, swapped = np.empty(100), np.full(200, POISON), np.empty(100, np.dtype(np.float32).newbyteorder())
    for out in (wide, strided[::2], swapped):
        philox.fill(out, 5, draw=6)
        assert np.array_equal(out, whole)
    assert np.all(strided[1::2] == POISON)
    whole.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        philox.fill(whole, 5, draw=6)


def a_row(rng, slots, saves):
    """A row of any form: weights 0, 1 and others, each of them in some rows only."""

    def weight():
        return float(rng.choice([0.0, 1.0, -1.0, *rng.normal(size=3)]))

    def combination():
        draws = rng.choice(1000, int(rng.choice([0, 0, 1, 2, 40])), replace=False)
        noise = {int(draw): weight() for draw in draws}
        return {"a": weight(), "b": weight(), "h": {k: weight() for k in range(slots)}, "noise": noise}

    clip = [None, 0.6][int(rng.integers(2))]
    saved = {k: Combination(**combination()) for k in range(saves)}
    return Row(0.7, 0.4, **combination(), p=weight(), q=weight() or 0.5, clip=clip, saves=saved)


def stepped(row, x, m, saved):
    x, saved = x.copy(), [s.copy() for s in saved]
    BACKEND.step(row, x, m=m, saved=saved, seeds=SEEDS)
    return [x, *saved]


@pytest.mark.parametrize("m_type", [np.float16, ml_dtypes.bfloat16, np.float32, np.float64], ids=str)
@pytest.mark.parametrize("x_type", [np.float32, np.float64], ids=str)
def test_rows(form, by_numpy, x_type, m_type):
    """Rows of any number of terms, on sizes about a vector, a block and a chunk, with what is not finite."""
    rng = np.random.default_rng(1)
    for trial in range(12):
        slots = int(rng.integers(0, 6))
        row = a_row(rng, slots, saves=int(rng.integers(0, slots + 1)))
        n = int(rng.choice([1, 3, 8, 33, 1023, 1025] if trial else [pool.CHUNK + 5]))
        x, m, *saved = (rng.normal(size=(2, n)).astype(x_type) for _ in range(2 + slots))
        for array in (x, m):
            array[:, rng.integers(n, size=6)] = [np.nan, np.inf, -np.inf, -0.0, 0.0, 1e30]
        with np.errstate(over="ignore"):
            m = m.astype(m_type)
        expected = by_numpy(partial(stepped, row, x, m, saved))
        for found, known in zip(stepped(row, x, m, saved), expected, strict=True):
            assert same_bits(found, known), (row, n)


@pytest.mark.parametrize("dtype", [np.float32, np.float64], ids=str)
def test_rows_of_x_and_x0_alone(form, by_numpy, dtype):
    """The rows that are done in one pass: with and without x in x0, x in the sum, and a bound."""
    rng = np.random.default_rng(6)
    x, m = rng.normal(size=(2, 2, 1027)).astype(dtype)
    m[:, :5] = [np.nan, np.inf, -np.inf, -0.0, 0.0]
    for p, a, b, clip in itertools.product((0.0, 1.0, 0.7), (0.0, 1.0, 0.3), (1.0, -0.4), (None, 0.6)):
        row = Row(0.7, 0.4, p=p, q=-0.9, a=a, b=b, clip=clip)
        expected = by_numpy(partial(stepped, row, x, m, []))
        assert same_bits(stepped(row, x, m, [])[0], expected[0]), row


def test_an_output_too_large_for_the_state_becomes_infinite(form, by_numpy):
    """As in numpy's form, without a warning."""
    x, row = np.ones((2, 40), np.float32), Row(0.7, 0.4, a=0.3, b=-0.7, q=0.5)
    m = np.full(x.shape, 1e300)
    assert np.all(stepped(row, x, m, [])[0] == -np.inf)
    assert np.all(by_numpy(partial(stepped, row, x, m, []))[0] == -np.inf)


@pytest.mark.parametrize(("cores", "most"), [(4, 1 << 21), (4, 1), (1, 1)])
def test_parts_and_threads_do_not_matter(form, by_numpy, monkeypatch, cores, most):
    """A row of three parts, of a network's output in half precision and in the state's own type.

    Also in four threads, and where a call of the library does one part.
    """
    monkeypatch.setattr(pool, "count_cores", lambda: cores)
    monkeypatch.setattr(native.library, "_MOST", most)
    rng = np.random.default_rng(2)
    row = Row(0.7, 0.4, a=0.3, b=0.5, noise={2: 0.4, 5: 0.1}, saves={0: Combination(a=0.2, b=0.1)})
    x, m, saved = (rng.normal(size=(2, 8 * pool.CHUNK + 7)).astype(np.float32) for _ in range(3))
    for output in (m, m.astype(np.float16)):
        found, expected = stepped(row, x, output, [saved]), by_numpy(partial(stepped, row, x, output, [saved]))
        assert all(map(same_bits, found, expected))


@pytest.mark.parametrize("count", [9, 16])
def test_rows_too_wide_for_the_library_are_numpys(form, by_numpy, count):
    """More results or terms than kernels/host.c has room for."""
    rng = np.random.default_rng(3)
    x, m, *saved = (rng.normal(size=(2, 100)).astype(np.float32) for _ in range(2 + count))
    row = Row(0.7, 0.4, a=0.3, h=dict.fromkeys(range(count), 0.25), saves={k: Combination(a=k) for k in range(9)})
    assert all(map(same_bits, stepped(row, x, m, saved), by_numpy(partial(stepped, row, x, m, saved))))


def test_a_run_of_each_noise(form, by_numpy):
    """Whole tables, also over one Brownian path, whose rows have forty draws."""
    table = FlowSDE(timesteps.pid()).table()
    rng = np.random.default_rng(4)
    x, m, *saved = (rng.normal(size=(2, 999)).astype(np.float32) for _ in range(4))
    for rows in (table, coupling.brownian(table), coupling.fixed(table), get_scheduler("seeds-3@karras:4").table()):
        for row in rows:
            found, expected = stepped(row, x, m, saved), by_numpy(partial(stepped, row, x, m, saved))
            assert all(map(same_bits, found, expected))


def test_arrays_that_do_not_fit_are_refused_as_before(form):
    """The library reads no memory beyond an array: numpy gets what does not fit, and refuses it."""
    x, row = np.zeros((1, 8), np.float32), Row(0.7, 0.4, a=0.3, b=0.5, h={0: 1.0})
    for m, saved in ((np.zeros((1, 5), np.float32), x.copy()), (x, np.zeros((1, 5), np.float32))):
        with pytest.raises(ValueError, match="broadcast"):
            BACKEND.step(row, x, m=m, saved=[saved], seeds=[0])
    with pytest.raises(IndexError):
        BACKEND.step(row, x, m=x, saved=[], seeds=[0])
    with pytest.raises(PidSamplerError, match="seed=-1"):
        BACKEND.step(Row(0.7, 0.4, a=0.3, noise={0: 1.0}), x, m=x, saved=[], seeds=[-1])


def test_an_empty_batch_stays_empty(form):
    x = np.zeros((0, 3, 8, 8), np.float32)
    BACKEND.step(Row(0.7, 0.4, a=0.3), x, m=x, saved=[], seeds=[])


def test_another_order_of_bytes_is_numpys(form, by_numpy):
    rng = np.random.default_rng(5)
    x, m = rng.normal(size=(2, 2, 40)).astype(np.dtype(np.float32).newbyteorder())
    row = Row(0.7, 0.4, a=0.3, b=0.5)
    assert same_bits(stepped(row, x, m, [])[0], by_numpy(partial(stepped, row, x, m, []))[0])


def test_load_refuses(host_library, tmp_path, monkeypatch):
    other = tmp_path / native.NAME
    with pytest.raises(PidSamplerError, match=r"_host\S+ cannot be loaded"):
        native.load(other)
    other.write_bytes(b"no library")
    with pytest.raises(PidSamplerError, match=r"_host\S+ cannot be loaded"):
        native.load(other)
    with pytest.raises(PidSamplerError, match="form='mmx' does not run on this processor, expected one of"):
        native.load(host_library, "mmx")
    monkeypatch.setattr(native.library, "_VERSION", 0)
    with pytest.raises(PidSamplerError, match="is of version 4, expected 0: install pidsampler again"):
        native.load(host_library)


def test_the_doctor_says_why_numpy_does_the_work(tmp_path, monkeypatch):
    """A library of another version, or one that is damaged, is there and of no use: that is not the same as none."""
    path = tmp_path / native.NAME
    monkeypatch.setattr(native.library, "PATH", path)
    assert native.described() == "numpy: no compiled library is here"
    path.write_bytes(b"no library")
    assert native.described().startswith(f"numpy: {native.NAME} cannot be loaded: ")


def test_the_doctor_says_which_form_is_used(host_library, monkeypatch):
    monkeypatch.setattr(native.library, "PATH", host_library)
    assert native.described() == f"compiled, {native.load(host_library).form}"
    monkeypatch.setattr(native.library, "_VERSION", 0)
    assert native.described() == f"numpy: {native.NAME} is of version 4, expected 0: install pidsampler again"


def test_the_build_never_fails(load_script, monkeypatch, tmp_path):
    """Without a compiler, with one that fails, and with one that gives other bits, there is no library."""
    build, target = load_script("hatch_build.py"), tmp_path / native.NAME
    monkeypatch.delenv("CC", raising=False)
    with monkeypatch.context() as patch:
        patch.setattr(build, "_compilers", list)
        assert build.build(target).endswith("numpy does the work:\nno C compiler was found")
        patch.setattr(build.platform, "machine", lambda: "riscv64")
        assert "none is written for riscv64" in build.build(target)
    monkeypatch.setenv("CC", "/no/such/compiler -m64")
    assert "/no/such/compiler -m64: " in build.build(target)
    assert not target.exists()


def test_a_compiler_that_gives_other_bits_is_found_out(load_script, repository, monkeypatch, tmp_path):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    build, target = load_script("hatch_build.py"), tmp_path / native.NAME
    monkeypatch.setenv("CC", "cc")
    monkeypatch.setattr(build, "FLAGS", ("-std=gnu11", "-O0", "-ffp-contract=off", "-fvisibility=hidden"))
    monkeypatch.setattr(build, "ROOT", tmp_path)
    shutil.copytree(repository / "kernels", tmp_path / "kernels")
    text = (tmp_path / "kernels" / "host.c").read_text()
    (tmp_path / "kernels" / "host.c").write_text(text.replace("0.999999464f", "0.999999404f"))
    assert "gives other bits" in build.build(target)
    assert not target.exists()


@pytest.mark.parametrize("flag", ["-ffast-math", "-ffinite-math-only"])
def test_infinity_and_nan_stay_whatever_cc_says(load_script, flag):
    if shutil.which("cc") is None:
        pytest.skip("no C compiler")
    command = ["cc", flag, *load_script("hatch_build.py").FLAGS, "-dM", "-E", "-xc", os.devnull]
    macros = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    assert "__FAST_MATH__" not in macros
    assert "__FINITE_MATH_ONLY__ 1" not in macros


def test_a_compiler_that_does_not_work_is_none(load_script, monkeypatch):
    """As cc of macOS without its tools, and gcc without C's headers: zig's is asked for; but CC is the user's word."""
    build = load_script("hatch_build.py")
    monkeypatch.setattr(build.platform, "machine", lambda: "x86_64")
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(
        build, "_compilers", lambda: [["/no/such/compiler"], [sys.executable, "-c", "raise SystemExit(1)"]]
    )
    assert build.CustomBuildHook.dependencies(None) == ["ziglang>=0.13"]
    with monkeypatch.context() as patch:
        patch.setenv("CC", "/no/such/compiler")
        assert build.CustomBuildHook.dependencies(None) == []
    monkeypatch.setattr(build.sys, "maxsize", 2**31 - 1)  # there it would be for nothing
    assert build.CustomBuildHook.dependencies(None) == []


def test_a_library_is_put_in_place_whole(load_script, monkeypatch, tmp_path):
    """A full disk leaves no part of it, and what one installation placed is never written into by another."""
    build, target = load_script("hatch_build.py"), tmp_path / native.NAME
    monkeypatch.setattr(build.platform, "machine", lambda: "x86_64")
    monkeypatch.setattr(build, "_compilers", lambda: [["cc"]])
    monkeypatch.setattr(build, "_run", lambda *_: None)
    monkeypatch.setattr(build, "_compile", lambda _, __, made: made.write_bytes(b"library"))

    def other_installation_first(made, part):
        target.write_bytes(b"another's")
        place = target.stat().st_ino
        Path(part).write_bytes(b"lib")
        assert (target.read_bytes(), target.stat().st_ino) == (b"another's", place)
        target.unlink()
        raise OSError("no space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(build.shutil, "copyfile", other_installation_first)
        assert "no space left" in build.build(target)
    assert list(tmp_path.iterdir()) == []
    assert str(target) in build.build(target)
    assert [path.read_bytes() for path in tmp_path.iterdir()] == [b"library"]


def test_zigs_cache_is_not_left_in_the_home(load_script, monkeypatch, tmp_path):
    build, caches = load_script("hatch_build.py"), set()
    monkeypatch.setattr(build.subprocess, "run", lambda *_, env, **__: caches.add(env["ZIG_GLOBAL_CACHE_DIR"]))
    build._compile(["zig", "cc"], {"sse2": "-msse2"}, tmp_path / native.NAME)
    assert caches == {str(tmp_path / "zig")}
