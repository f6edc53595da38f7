"""Networks for the null CUDA runtime, and where their nodes run."""

from collections import Counter, defaultdict
from dataclasses import replace

import numpy as np
import onnx
from onnx import TensorProto, helper

from pidsampler.export.architecture import random_tensors
from pidsampler.export.folder import ExportPlan, write_folder
from pidsampler.export.layers import Form
from pidsampler.export.published import get_published
from pidsampler.onnx.contract import PROJECTION
from pidsampler.onnx.manifest import Manifest
from pidsampler.onnx.providers import import_onnxruntime

ARCHITECTURE = replace(
    get_published("sdxl", "2kto4k").architecture.reduced(),
    depth=2,
    pixel_depth=1,
    residuals=1,
    text_width=32,
    text_length=8,
)


def export(folder, architecture=ARCHITECTURE, **form):
    """Write a folder of random weights; its projection is one without convolutions, which stop at cuDNN.

    The projection runs once a picture, and is no part of the loop.
    """
    form = Form(**form)
    plan = ExportPlan(
        architecture=architecture,
        tensors=random_tensors(architecture, 3),
        form=form,
        manifest=Manifest(vae_factor=architecture.latent_factor, scale=architecture.scale),
    )
    write_folder(plan, folder)
    _flatten(folder / PROJECTION, architecture, form)
    return folder


def latent(side, architecture=ARCHITECTURE):
    """Return a latent of zeros for results of `side` pixels."""
    small = side // (architecture.scale * architecture.latent_factor)
    return np.zeros((architecture.latent_channels, small, small), np.float32)


def placed(path, **options):
    """Return where a graph's nodes run, as {provider: {operator: nodes}}."""
    onnxruntime = import_onnxruntime()
    given = onnxruntime.SessionOptions()
    given.log_severity_level = 4
    given.add_session_config_entry("session.record_ep_graph_assignment_info", "1")
    providers = [("CUDAExecutionProvider", {"device_id": "0", **options})]
    session = onnxruntime.InferenceSession(str(path), given, providers=providers)
    assert session.get_providers()[0] == "CUDAExecutionProvider"
    found = defaultdict(Counter)
    for part in session.get_provider_graph_assignment_info():
        found[part.ep_name].update(node.op_type for node in part.get_nodes())
    return dict(found)


def _flatten(path, architecture, form):
    """Replace a projection by one of the same inputs and outputs, whose features are the latent's mean."""
    model = onnx.load(path, load_external_data=False)
    [source], outputs = model.graph.input, model.graph.output
    nodes = [
        helper.make_node("ReduceMean", [source.name], ["exact"], keepdims=0),
        helper.make_node("Cast", ["exact"], ["mean"], to=outputs[0].type.tensor_type.elem_type),
    ]
    shape = [d.dim_value for d in outputs[0].type.tensor_type.shape.dim]
    constants = {"shape": shape}
    if form.size is None:
        per = (architecture.scale * architecture.latent_factor // architecture.patch) ** 2
        constants = {"one": [1], "per": [per], "width": [shape[-1]]}
        nodes += [
            helper.make_node("Shape", [source.name], ["size"], start=2),
            helper.make_node("ReduceProd", ["size"], ["area"], keepdims=1),
            helper.make_node("Mul", ["area", "per"], ["tokens"]),
            helper.make_node("Concat", ["one", "tokens", "width"], ["shape"], axis=0),
        ]
    nodes += [helper.make_node("Expand", ["mean", "shape"], [output.name]) for output in outputs]
    weights = [helper.make_tensor(name, TensorProto.INT64, [len(value)], value) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "projection", [source], outputs, weights)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10), path)
    path.with_name(f"{path.name}.data").unlink(missing_ok=True)
