"""The trained network as a model folder: two ONNX graphs and the manifest.

The encoder folds the picture 8x8 into channels: nothing is lost, and the latent has a VAE's size. Weights are stored in
float16 and computed with in float32.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from network import SCALE, STUDENT_TIMES, TinyPiD, enlarging_weights
from onnx import TensorProto, helper, numpy_helper
from torch import Tensor

from pidsampler.onnx.providers import import_onnxruntime

FOLD = 8
OPSET, IR = 18, 9  # old enough for ONNX Runtime 1.24 and TensorRT 10


class Graph:
    """Nodes and constants, put together line by line."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def add(self, kind: str, *inputs: str, to: str | None = None, **attributes: Any) -> str:
        """Add a node and return the name of its output."""
        name = to or f"{kind}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(kind, list(inputs), [name], **attributes))
        return name

    def constant(self, value: Any, half: bool = False) -> str:
        """Add a constant, in float16 with a cast behind it where `half`, and return its name."""
        array = np.asarray(value)
        name = f"constant_{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(array.astype(np.float16) if half else array, name))
        if half:
            self.nodes.append(helper.make_node("Cast", [name], [name + "_float"], to=TensorProto.FLOAT))
        return name + "_float" if half else name

    def save(self, path: Path, inputs: dict[str, list[Any]], outputs: dict[str, list[Any]]) -> None:
        """Check the graph and write it."""

        def infos(tensors: dict[str, list[Any]]) -> list[Any]:
            return [helper.make_tensor_value_info(n, TensorProto.FLOAT, shape) for n, shape in tensors.items()]

        graph = helper.make_graph(self.nodes, path.stem, infos(inputs), infos(outputs), self.constants)
        model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR)
        onnx.checker.check_model(model, full_check=True)
        onnx.save(model, path)


def encoder(path: Path) -> None:
    """Write the encoder: the picture folded 8x8."""
    g = Graph()
    g.add("SpaceToDepth", "image", to="latent", blocksize=FOLD)
    g.save(path, {"image": [1, 3, "h", "w"]}, {"latent": [1, 3 * FOLD**2, "lh", "lw"]})


def network(path: Path, state: dict[str, Tensor]) -> None:
    """Write the network from its weights, by the names of network.py."""
    g = Graph()

    def weights(name: str, *shape: int) -> list[str]:
        weight, bias = (state[f"{name}.{part}"].numpy() for part in ("weight", "bias"))
        return [g.constant(weight.reshape(len(weight), -1, *shape), half=True), g.constant(bias, half=True)]

    def conv(name: str, h: str) -> str:
        return g.add("Conv", h, *weights(name, 3, 3), pads=[1, 1, 1, 1])

    def silu(h: str) -> str:
        return g.add("Mul", h, g.add("Sigmoid", h))

    one, column = g.constant(np.float32(1)), g.constant(np.array([1, 1], np.int64))
    plane = g.constant(np.array([1, 1, 1, 1], np.int64))
    t = g.add("Reshape", g.add("Div", "t", g.constant(np.float32(1000))), column)
    sigma = g.add("Reshape", "degrade_sigma", column)
    condition = g.add("Concat", t, g.add("Mul", t, t), sigma, g.add("Sqrt", sigma), axis=1)
    for name in ("embed.0", "embed.2"):
        condition = silu(g.add("Gemm", condition, *weights(name), transB=1))
    picture = g.add("DepthToSpace", "lq_latent", blocksize=FOLD, mode="DCR")
    padded = g.add("Pad", picture, g.constant(np.array([0, 0, 2, 2, 0, 0, 2, 2], np.int64)), mode="edge")
    taps = enlarging_weights().repeat(3, 1, 1)[:, None].numpy()
    base = g.add("Conv", padded, g.constant(taps), group=3)
    # ONNX folds block by block, PyTorch channel by channel.
    order = np.arange(3 * SCALE**2).reshape(SCALE**2, 3).T.ravel()
    folded = g.add("Gather", g.add("SpaceToDepth", "x", blocksize=SCALE), g.constant(order.astype(np.int64)), axis=1)
    keep = g.add("Reshape", g.add("Sub", one, t), plane)
    beyond = g.add("Sub", folded, g.add("Mul", keep, base))
    h = conv("enter", g.add("Concat", folded, beyond, picture, axis=1))
    width = state["enter.weight"].shape[0]
    halves = g.constant(np.array([width, width], np.int64))
    spatial = g.constant(np.array([1, width, 1, 1], np.int64))
    for k in range(sum(name.endswith("first.weight") for name in state)):
        modulation = g.add("Gemm", condition, *weights(f"blocks.{k}.modulation"), transB=1)
        scale, shift = f"scale_{k}", f"shift_{k}"
        g.nodes.append(helper.make_node("Split", [modulation, halves], [scale, shift], axis=1))
        scale, shift = g.add("Reshape", g.add("Add", scale, one), spatial), g.add("Reshape", shift, spatial)
        inner = g.add("Add", g.add("Mul", conv(f"blocks.{k}.first", h), scale), shift)
        h = g.add("Add", h, conv(f"blocks.{k}.second", silu(inner)))
    x0 = g.add("DepthToSpace", g.add("Add", base, conv("leave", h)), blocksize=SCALE, mode="CRD")
    g.add("Div", g.add("Sub", "x", x0), g.add("Reshape", t, plane), to="v_pred")
    image = [1, 3, "h", "w"]
    inputs = {"x": image, "t": [1], "lq_latent": [1, 3 * FOLD**2, "lh", "lw"], "degrade_sigma": [1]}
    g.save(path, inputs, {"v_pred": image})


def check(net: TinyPiD, path: Path) -> None:
    """Stop if the graph is not the network, up to the weights' rounding."""
    x, t, sigma = torch.randn(1, 3, 96, 64), torch.tensor([0.4]), torch.tensor([0.2])
    picture = torch.rand(1, 3, 24, 16) * 2 - 1
    with torch.no_grad():
        expected = (x - net(x, t, picture, sigma)) / t
    # ONNX folds block by block, with the channel last.
    latent = picture.reshape(1, 3, 3, FOLD, 2, FOLD).permute(0, 3, 5, 1, 2, 4).reshape(1, -1, 3, 2)
    feeds = {"x": x, "t": 1000 * t, "lq_latent": latent, "degrade_sigma": sigma}
    session = import_onnxruntime().InferenceSession(path, providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {name: value.numpy() for name, value in feeds.items()})
    if not np.abs(found - expected.numpy()).max() < 0.02:
        raise SystemExit(
            f"{path} differs from network.py by {np.abs(found - expected.numpy()).max():.3g}: export.py is old"
        )


def write(net: TinyPiD, folder: Path, name: str, description: str) -> None:
    """Write both graphs and the manifest.

    Args:
        net: The trained network.
        folder: Where to, made if it is not there.
        name: Name for the manifest.
        description: Description for the manifest.
    """
    folder.mkdir(parents=True, exist_ok=True)
    encoder(folder / "vae_encoder.onnx")
    network(folder / "pid_upscaler.onnx", net.state_dict())
    check(net, folder / "pid_upscaler.onnx")
    manifest = {
        "name": name,
        "description": description,
        "licence": "Apache-2.0",
        "prediction": "velocity",
        "timescale": 1000,
        "timesteps": [*STUDENT_TIMES, 0.0],
        "noise_frame": "flow",
        "scale": SCALE,
        "vae_factor": FOLD,
        "network_bytes": 113,
        "encoder_bytes": 24,
    }
    (folder / "pidsampler.json").write_text(json.dumps(manifest, indent=2) + "\n")
