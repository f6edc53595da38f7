"""One graph in OpenVINO and in onnxruntime-web, against ONNX Runtime: each where it is installed."""

import base64
import json
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import wholes

from pidsampler.export.one_graph import compile, described

WEB = os.environ.get("ORT_WEB", "")  # folder of the npm package onnxruntime-web
CASES = ["tiny heun@uniform:2", "student dpmpp-2m@uniform:3", "student flow-sde@pid:2", "any flow-sde@pid:2"]


@pytest.fixture(name="case", params=CASES, scope="module")
def _case(request, tmp_path_factory):
    """A file, what it takes, and what ONNX Runtime makes of that."""
    model, sampler = request.param.split()
    folder = tmp_path_factory.mktemp("other")
    if model == "student":
        model = wholes.exported(folder / "m", "--backbone sdxl --type 2kto4k --target tensorrt --dtype float32")
    size, image = (64, 64), wholes.photo()
    if model == "any":
        model, size, image = "tiny", "any", image[:5, :13]
    path = compile(model, sampler, size=size, output=folder / "s.onnx", output_type="float32")
    feeds = wholes.feeds(described(path).at(*image.shape[:2]).inputs, image)
    (made,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, feeds)
    assert made.std() > 0.1
    return path, feeds, made


def test_openvino(case):
    openvino = pytest.importorskip("openvino", reason="OpenVINO is not installed: a stage of .ci/run has it")
    path, feeds, made = case
    compiled = openvino.Core().compile_model(path, "CPU", {"INFERENCE_PRECISION_HINT": "f32"})
    np.testing.assert_allclose(compiled(feeds)["result"], made, rtol=0, atol=1e-5)


@pytest.mark.skipif(not WEB or shutil.which("node") is None, reason="no node, or no onnxruntime-web in ORT_WEB")
def test_onnxruntime_web(case, tmp_path):
    path, feeds, made = case
    held = {
        name: (array.dtype.name, array.shape, base64.b64encode(array.tobytes()).decode())
        for name, array in feeds.items()
    }
    (tmp_path / "feeds.json").write_text(json.dumps(held))
    script = Path(wholes.__file__).with_name("run_web.mjs")
    subprocess.run(
        ["node", script, Path(WEB).resolve(), path, tmp_path / "feeds.json", tmp_path / "result"], check=True
    )
    found = np.fromfile(tmp_path / "result", np.float32).reshape(made.shape)
    np.testing.assert_allclose(found, made, rtol=0, atol=1e-5)
