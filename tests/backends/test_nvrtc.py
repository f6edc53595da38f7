"""Every kernel compiled by NVRTC for every architecture, as CuPy would: no GPU and no driver are needed.

The compiler gives the same for the same, and compiling everything takes a minute and a half. So compiled.json keeps a
digest of each variant that passed: of its source, its flags, the options and NVRTC's version. A variant with another
digest is compiled for every architecture; of the others a run compiles a part for each, and every one once.
`PYTHONPATH=tests/support python tests/backends/test_nvrtc.py` compiles everything and writes the digests anew.
"""

import hashlib
import json
import re
from dataclasses import replace
from importlib.metadata import version
from itertools import groupby
from operator import itemgetter
from pathlib import Path

import nvrtc
import pytest
from variants import COLOURS, FILLS, FULL, IMAGES, TILES, VARIANTS

from pidsampler.backends.kernels import OPTIONS, definitions, source

pytestmark = pytest.mark.skipif(nvrtc.library() is None, reason="nvidia-cuda-nvrtc is not installed")

ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
ALIKE = (86, 89)  # 80's instructions: a part of the variants will do
TOGETHER = 4
FILL_FLAGS = [definitions(x=x, keep=keep, vector=vector) for x, keep, vector in FILLS]
IMAGE_FLAGS = [definitions(pixel=f"pid_u{p}", channels=c, bgr=bgr, x=x, despeckle=x != 1) for p, c, bgr, x in IMAGES]
EVERY = [
    *(("step.cu", v.flags) for v in VARIANTS),
    *(("fill.cu", flags) for flags in FILL_FLAGS),
    *(("image.cu", flags) for flags in IMAGE_FLAGS),
    *(("tile.cu", definitions(x=x, m=m, vector=vector)) for x, m, vector in TILES),
    *(("colour.cu", definitions(x=x, correct=correct, powers=powers)) for x, correct, powers in COLOURS),
    *(("reduce.cu", definitions(x=x, vector=True)) for x in (0, 1, 2)),
]


STORED = Path(__file__).with_name("compiled.json")
PART = len(ARCHITECTURES)  # one of so many: together they are all


def cupy_options(architecture):
    """Return what CuPy gives NVRTC beside the flags."""
    return [*OPTIONS, "-ftz=true", f"-arch=sm_{architecture}"]


def digest(name, flags):
    """Of a variant with all that its machine code and registers depend on."""
    same = [version("nvidia-cuda-nvrtc"), *map(cupy_options, ARCHITECTURES)]
    return hashlib.sha256(json.dumps([*same, source(name), flags]).encode()).hexdigest()[:16]


def compiled(architecture, jobs):
    """Yield each job's file, its flags, and each kernel's use of a multiprocessor, when they were checked."""
    files = [list(same) for _, same in groupby(jobs, key=itemgetter(0))]
    for batch in (same[k : k + TOGETHER] for same in files for k in range(0, len(same), TOGETHER)):
        (name, _), *_ = batch
        results = nvrtc.together(source(name), [flags for _, flags in batch], cupy_options(architecture))
        for (_, flags), (usage, ptx) in zip(batch, results, strict=True):
            assert set(usage) == ({"pid_to_tensor", "pid_to_image"} if name == "image.cu" else {f"pid_{name[:-3]}"})
            assert ".f64" not in ptx, flags
            for kernel, used in usage.items():
                assert (used["stack"], used["spills"]) == (0, 0), (kernel, flags)
                assert used["registers"] <= 64, (kernel, flags)
            yield name, flags, usage


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_every_variant_compiles_without_spills_or_local_memory(architecture, record_property):
    """At most 64 registers, so that four blocks of 256 threads fit a multiprocessor; nothing in float64."""
    assert len(EVERY) > 60
    passed, at = {*json.loads(STORED.read_text())}, ARCHITECTURES.index(architecture)
    new = [architecture not in ALIKE and digest(*job) not in passed for job in EVERY]
    jobs = [job for k, job in enumerate(EVERY) if new[k] or k % PART == at]
    for _, flags, usage in compiled(architecture, jobs):
        for kernel, used in usage.items():
            record_property(f"{kernel} {' '.join(flags)}", used["registers"])


def test_variants_compiled_together_are_those_compiled_alone():
    some, options = [flags for name, flags in EVERY if name == "image.cu"][:3], [*OPTIONS, "-arch=sm_80"]
    alone = [nvrtc.compiled(source("image.cu"), [*options, *flags])[0] for flags in some]
    assert [usage for usage, _ in nvrtc.together(source("image.cu"), some, options)] == alone


@pytest.mark.parametrize(
    ("v", "loads", "stores"),
    [
        (replace(FULL, slots=0, saves=0), 2, 1),  # x and m in, x out
        (replace(FULL, slots=0, saves=0, draws=0, reads_x=False), 1, 1),
        (replace(FULL, slots=2, saves=1), 4, 2),
        (replace(FULL, x=0, m=1, slots=0, saves=0), 3, 2),  # eight elements: x is two times 16 bytes, m one
        (replace(FULL, x=1, m=1, slots=1, saves=1, cast=2), 3, 3),
    ],
    ids=str,
)
def test_tensors_move_16_bytes_at_a_time(v, loads, stores):
    _, ptx = nvrtc.compiled(source("step.cu"), [*OPTIONS, *v.flags, "-arch=sm_90"])
    assert len(re.findall(r"ld\.global\.v4\.[fu]32", ptx)) == loads
    assert len(re.findall(r"st\.global\.v4\.[fu]32", ptx)) == stores


@pytest.mark.parametrize(("x", "name"), [(1, "f16x2"), (2, "bf16x2")])
def test_halves_are_rounded_two_at_a_time_from_sm_80_on(x, name):
    """Eight elements out, eight in the other type. Of two the second is the upper half, which the PTX has first."""
    v = replace(FULL, x=x, m=x, slots=0, saves=0, draws=0, cast=3 - x)
    options = [*OPTIONS, *v.flags]
    pairs = rf"cvt\.rn\.{name}\.f32\s+%r\d+, (%f\d+), (%f\d+)"
    found = re.findall(pairs, nvrtc.compiled(source("step.cu"), [*options, "-arch=sm_80"])[1])
    assert len(found) == 4
    two = f"__global__ void two(const float* in, pid_u32* out) {{ *out = PidElement<{x}>::pack(in); }}"
    ptx = nvrtc.compiled(source("common.cuh") + two, [*OPTIONS, "-arch=sm_80"])[1]
    assert re.search(r"ld\.global\.f32\s+(%f\d+), \[%rd\d+\+4\]", ptx)[1] == re.search(pairs, ptx)[1]
    assert f".rn.{name}" not in nvrtc.compiled(source("step.cu"), [*options, "-arch=sm_75"])[1]


def test_noise_has_no_slow_path_and_no_product_of_64_bits():
    """A thread's four normals: ten rounds of two products, two roots; both products of 64 bits are of its place."""
    _, ptx = nvrtc.compiled(source("fill.cu"), [*OPTIONS, *definitions(x=0, keep=0, vector=1), "-arch=sm_90"])
    assert re.search(r"\b(sqrt|lg2|div|call)\b", ptx) is None
    assert len(re.findall(r"rsqrt\.approx", ptx)) == 2
    assert len(re.findall(r"mul\.wide\.u32", ptx)) == 2 * 10 + 2
    assert len(re.findall(r"mul\.lo\.[su]64", ptx)) == 2


def test_a_flag_that_is_missing_is_an_error():
    with pytest.raises(RuntimeError, match="PID_DRAWS"):
        nvrtc.compiled(source("step.cu"), [*OPTIONS, *FULL.flags[:6], "-arch=sm_90"])


if __name__ == "__main__":
    for number in ARCHITECTURES:
        jobs = EVERY[::5] if number in ALIKE else EVERY
        print(f"sm_{number}: {len(list(compiled(number, jobs)))} variants")
    STORED.write_text(json.dumps([digest(*job) for job in EVERY], indent=1) + "\n")
