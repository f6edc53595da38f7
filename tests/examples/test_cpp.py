"""examples/cpp built against ONNX Runtime's headers, and its picture beside Python's."""

import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from PIL import Image

from pidsampler import Upscaler
from pidsampler.export import compile

HEADERS = Path(os.environ.get("ORT_INCLUDE", "/usr/include/onnxruntime"))
LIBRARY = next(Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*"), None)


@pytest.mark.skipif(
    shutil.which("cmake") is None or LIBRARY is None or not (HEADERS / "onnxruntime_cxx_api.h").is_file(),
    reason="needs cmake, ONNX Runtime's library, and its headers in ORT_INCLUDE (Debian: libonnxruntime-dev)",
)
def test_the_program_makes_pythons_picture(tmp_path, repository):
    options = [f"-DORT_INCLUDE={HEADERS}", f"-DORT_LIBRARY={LIBRARY}", "-DCMAKE_BUILD_TYPE=Debug"]
    build = tmp_path / "build"
    for command in (
        ["cmake", "-S", repository / "examples/cpp", "-B", build, *options],
        ["cmake", "--build", build],
    ):
        subprocess.run(command, check=True, capture_output=True)
    y, x = np.mgrid[:16, :24]
    photo = np.stack([10 * x, 16 * y, 255 - 8 * x], axis=2).astype(np.uint8)
    Image.fromarray(photo).save(tmp_path / "in.ppm")
    expected = Upscaler.load("tiny", "cpu")(photo, seed=7).array
    for size in ("any", (64, 96)):
        sampler = compile("tiny", size=size, output=tmp_path / "s.onnx", noise="philox", overwrite=True)
        enlarge = [build / "enlarge", sampler]
        subprocess.run([*enlarge, tmp_path / "in.ppm", tmp_path / "out.ppm", "7"], check=True)
        off = np.abs(np.asarray(Image.open(tmp_path / "out.ppm")).astype(int) - expected)
        assert off.max() <= 1
        assert (off > 0).mean() <= 0.001
    (tmp_path / "short.ppm").write_bytes((tmp_path / "in.ppm").read_bytes()[:-1])
    for wrong, message in ((tmp_path / "out.ppm", "takes pictures of 24x16"), (tmp_path / "short.ppm", "ends early")):
        ended = subprocess.run([*enlarge, wrong, tmp_path / "x.ppm"], capture_output=True, text=True)
        assert (ended.returncode, message in ended.stderr) == (1, True)
    for seed in ("abc", "-1", "", str(1 << 64)):
        command = [*enlarge, tmp_path / "in.ppm", tmp_path / "x.ppm", seed]
        ended = subprocess.run(command, capture_output=True, text=True)
        assert (ended.returncode, f'SEED is "{seed}"' in ended.stderr) == (1, True)
    compile("tiny", size="any", output=sampler, overwrite=True)
    ended = subprocess.run([*enlarge, tmp_path / "in.ppm", tmp_path / "x.ppm"], capture_output=True, text=True)
    assert (ended.returncode, "compile it with --noise philox" in ended.stderr) == (1, True)
