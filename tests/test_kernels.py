"""The kernels' arithmetic, built by g++ from the headers that the wheel ships, against numpy.

Tried mutations, each of which fails here: a round less, a key word not bumped, the two multipliers swapped,
log1pf(w) for log1pf(-w), a quarter turn's sign, sine and cosine swapped.
"""

import ctypes
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from pidsampler import noise

KERNELS = Path(__file__).parent.parent / "kernels"
pytestmark = pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to build the kernels' headers with")

SOURCE = """
#include "noise.cuh"
extern "C" void words(pid_u64 q, pid_u32 draw, pid_u32 stream, pid_u64 seed, long n, pid_u32* out) {
    for (long i = 0; i < n; ++i) {
        const PidWords r = pid_philox(q + i, draw, stream, seed);
        for (int j = 0; j < 4; ++j) out[4 * i + j] = r.w[j];
    }
}
extern "C" void normals(pid_u64 q, pid_u32 draw, pid_u32 stream, pid_u64 seed, long n, float* out) {
    for (long i = 0; i < n; ++i) pid_normals(q + i, draw, stream, seed, out + 4 * i);
}
extern "C" void pair(pid_u32 r, pid_u32 r2, float* out) {
    pid_sincos(r2, out[1], out[2]);
    out[0] = pid_radius(r);
}
"""


@pytest.fixture(scope="module", name="library")
def _library(tmp_path_factory):
    folder = tmp_path_factory.mktemp("kernels")
    (folder / "test.cpp").write_text(SOURCE)
    command = ["g++", "-std=c++17", "-O2", "-ffp-contract=off", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    subprocess.run([*command, f"-I{KERNELS}", "test.cpp", "-o", "test.so"], cwd=folder, check=True)
    library = ctypes.CDLL(folder / "test.so")
    u64, u32, pointer = ctypes.c_uint64, ctypes.c_uint32, ctypes.c_void_p
    library.words.argtypes = library.normals.argtypes = [u64, u32, u32, u64, ctypes.c_long, pointer]
    library.pair.argtypes = [u32, u32, pointer]
    return library


@pytest.mark.parametrize("q", [0, 2**32 - 500, 2**62])
def test_words_are_bit_equal(library, q):
    seed, draw, stream, n = 0x123456789ABCDEF0, 7, 1, 1000
    found = np.full((n, 4), 0xDEADBEEF, np.uint32)
    library.words(q, draw, stream, seed, n, found.ctypes.data)
    expected = np.stack(noise._philox(q, n, seed, draw, stream), axis=1)
    assert np.array_equal(found, expected)


def test_normals_agree_to_4_ulp_or_1e_6(library):
    n = 1_000_000
    found = np.full(n, np.nan, np.float32)
    library.normals(0, 3, 0, 42, n // 4, found.ctypes.data)
    expected = noise.normal(42, 3, (n,))
    allowed = np.maximum(4 * np.spacing(np.abs(expected)), np.float32(1e-6))
    assert np.all(np.abs(found - expected) <= allowed)


@pytest.mark.parametrize(
    "r", [0, 1, 2, 2**29 - 1, 2**29, 2**30, 2**31 - 1, 2**31, 2**31 + 1, 3 * 2**30, 2**32 - 2**29, 2**32 - 1]
)
def test_edges_of_radius_and_angle(library, r):
    """float32 evaluation at the ends of each branch, against float64."""
    out = np.full(3, np.nan, np.float32)
    library.pair(r, r, out.ctypes.data)
    u, v = (r + 0.5) * 2.0**-32, (r + 0.5) * 2.0**-32 * 2 * np.pi
    assert out[0] == pytest.approx(np.sqrt(-2 * np.log(u)), rel=4e-7)
    assert out[1:] == pytest.approx(
        [np.sin(v), np.cos(v)], rel=4e-7, abs=1e-15
    )  # float64's own v near 2*pi is off by 4e-16
