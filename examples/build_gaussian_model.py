"""Build the bundled closed-form model: a PiD stand-in whose exact answer is known.

    pip install onnx numpy && python examples/build_gaussian_model.py pidsampler/models/gaussian

It keeps PiD's folder contract (VAE factor 8, scale 4, dynamic sizes) and holds no trained weight:

- The latent is the orthonormal 8x8 block DCT of the image, channel by channel: 192 channels, times 2.
- degrade_sigma = s says that the latent is (1 - s)*z + s*noise. Under the prior that coefficient k of z is
  N(0, tau_k^2), tau falling with frequency as in photographs, its posterior mean is w_k times the latent,
  w_k = (1 - s)*tau_k^2 / ((1 - s)^2*tau_k^2 + s^2), and the mean over k of its variance is known too.
- The clean 4x image is N(mu, std^2): mu is the Catmull-Rom enlargement of that posterior mean; std^2 is 0.03^2
  plus that mean variance in pixels. With D = (1 - t)^2*std^2 + t^2 the velocity is exactly
  (t - (1 - t)*std^2) / D * (x - (1 - t)*mu) - mu.
"""

import json
import sys
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

BLOCK, SCALE, CHANNELS = 8, 4, 3 * 8 * 8
LATENT_GAIN = 2.0  # images in -1..1 have a standard deviation of about 0.5: the latent's is about 1
STD = 0.03
OPSET, IR = 18, 9  # old enough for ONNX Runtime 1.24 and TensorRT 10


def dct_basis() -> np.ndarray:
    """Return (64, 8, 8): the orthonormal DCT-II basis images of an 8x8 block."""
    k, n = np.mgrid[:BLOCK, :BLOCK]
    rows = np.sqrt(np.where(k == 0, 1, 2) / BLOCK) * np.cos(np.pi * (2 * n + 1) * k / (2 * BLOCK))
    return np.einsum("ui,vj->uvij", rows, rows).reshape(64, BLOCK, BLOCK)


def channel_kernels(basis: np.ndarray) -> np.ndarray:
    """Return (192, 3, 8, 8): each color channel's own 64 basis images."""
    kernels = np.zeros((CHANNELS, 3, BLOCK, BLOCK))
    for c in range(3):
        kernels[64 * c : 64 * (c + 1), c] = basis
    return kernels


def prior_variances() -> np.ndarray:
    """Return (192,): variances of the latent's coefficients, 1/f^2 as in photographs."""
    u, v = np.mgrid[:BLOCK, :BLOCK]
    dc, first = (LATENT_GAIN * 0.5 * BLOCK) ** 2, (LATENT_GAIN * 0.2 * BLOCK) ** 2
    per_block = np.where(u + v == 0, dc, first / np.maximum(1, u**2 + v**2) ** 1.5)
    return np.tile(per_block.reshape(-1), 3)


def enlarging_kernels() -> np.ndarray:
    """Return (48, 1, 5, 5): the Catmull-Rom weights of each of the 4x4 output phases, for each channel."""
    taps = np.zeros((SCALE, 5))
    for phase in range(SCALE):
        offset = (phase + 0.5) / SCALE - 0.5  # of the output pixel's center, in input pixels
        d = np.abs(np.arange(-2, 3) - offset)
        near, far = 1.5 * d**3 - 2.5 * d**2 + 1, -0.5 * d**3 + 2.5 * d**2 - 4 * d + 2
        taps[phase] = np.where(d <= 1, near, np.where(d < 2, far, 0))
    phases = np.einsum("pi,qj->pqij", taps, taps).reshape(SCALE**2, 1, 5, 5)
    return np.tile(phases, (3, 1, 1, 1))


class Graph:
    """A list of nodes under construction; each call adds one and returns its output's name."""

    def __init__(self) -> None:
        self.nodes: list = []
        self.constants: list = []

    def constant(self, name: str, value: np.ndarray | float, dtype: type = np.float32) -> str:
        """Add an initializer."""
        self.constants.append(numpy_helper.from_array(np.asarray(value, dtype), name))
        return name

    def __call__(self, op: str, *inputs: str, to: str = "", **attributes: object) -> str:
        """Add a node; `to` names its output."""
        to = to or f"{op.lower()}_{len(self.nodes)}"
        self.nodes.append(helper.make_node(op, inputs, [to], **attributes))
        return to

    def model(self, name: str, inputs: dict[str, list], outputs: dict[str, list]) -> onnx.ModelProto:
        """Return the checked model, all tensors float32."""

        def infos(tensors: dict[str, list]) -> list:
            return [helper.make_tensor_value_info(n, TensorProto.FLOAT, s) for n, s in tensors.items()]

        graph = helper.make_graph(self.nodes, name, infos(inputs), infos(outputs), self.constants)
        opset = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(graph, opset_imports=opset, ir_version=IR, producer_name="pidsampler")
        onnx.checker.check_model(model, full_check=True)
        return model


def encoder() -> onnx.ModelProto:
    """Return image -> latent: one convolution."""
    g = Graph()
    kernels = g.constant("dct", LATENT_GAIN * channel_kernels(dct_basis()))
    g("Conv", "image", kernels, to="latent", strides=[BLOCK, BLOCK])
    return g.model(
        "gaussian_vae_encoder",
        {"image": [1, 3, "height", "width"]},
        {"latent": [1, CHANNELS, "latent_height", "latent_width"]},
    )


def network() -> onnx.ModelProto:
    """Return x, t, lq_latent, degrade_sigma -> velocity, as in this file's docstring."""
    g = Graph()
    one, thousand = g.constant("one", 1.0), g.constant("thousand", 1000.0)
    t = g("Div", "t", thousand)
    keep_t = g("Sub", one, t)

    s = "degrade_sigma"
    keep = g("Sub", one, s)
    tau2 = g.constant("tau2", prior_variances().reshape(1, CHANNELS, 1, 1))
    s2 = g("Mul", s, s)
    spread = g("Add", g("Mul", g("Mul", keep, keep), tau2), s2)
    weight = g("Div", g("Mul", keep, tau2), spread)
    left = g("Div", g("Mul", tau2, s2), spread)  # variance of each coefficient given the latent
    mean_left = g("ReduceMean", left, keepdims=0)

    z = g("Mul", "lq_latent", weight)
    inverse = g.constant("inverse_dct", channel_kernels(dct_basis()) / LATENT_GAIN)
    small = g("ConvTranspose", z, inverse, strides=[BLOCK, BLOCK])
    padded = g("Pad", small, g.constant("pads", [0, 0, 2, 2, 0, 0, 2, 2], np.int64), mode="edge")
    phases = g("Conv", padded, g.constant("catmull_rom", enlarging_kernels()), group=3)
    mu = g("DepthToSpace", phases, blocksize=SCALE, mode="CRD")

    gain2 = g.constant("gain2", LATENT_GAIN**2)
    variance = g("Add", g.constant("std2", STD**2), g("Div", mean_left, gain2))
    keep_variance = g("Mul", keep_t, variance)
    d = g("Add", g("Mul", keep_t, keep_variance), g("Mul", t, t))
    slope = g("Div", g("Sub", t, keep_variance), d)
    # slope*(x - (1-t)*mu) - mu, with the two multiples of mu put together: fewer passes over large tensors
    mu_weight = g("Add", g("Mul", slope, keep_t), one)
    g("Sub", g("Mul", slope, "x"), g("Mul", mu_weight, mu), to="velocity")
    return g.model(
        "gaussian_pid_upscaler",
        {
            "x": [1, 3, "out_height", "out_width"],
            "t": [1],
            "lq_latent": [1, CHANNELS, "latent_height", "latent_width"],
            "degrade_sigma": [1],
        },
        {"velocity": [1, 3, "out_height", "out_width"]},
    )


MANIFEST = {
    "name": "gaussian",
    "description": "closed-form stand-in for PiD: Gaussian around the Catmull-Rom enlargement, exact velocity",
    "licence": "Apache-2.0",
    "prediction": "velocity",
    "timescale": 1000,
    "timesteps": [0.999, 0.866, 0.634, 0.342, 0.0],
    "noise_frame": "flow",
    "scale": SCALE,
    "vae_factor": BLOCK,
    "network_bytes": 35,
    "encoder_bytes": 32,
}


def main(folder: Path) -> None:
    """Write the model folder."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(encoder(), folder / "vae_encoder.onnx")
    onnx.save(network(), folder / "pid_upscaler.onnx")
    (folder / "pidsampler.json").write_text(json.dumps(MANIFEST, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit("usage: python examples/build_gaussian_model.py FOLDER")
    main(Path(sys.argv[1]))
