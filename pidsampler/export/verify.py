"""Comparing a folder with the network's evaluation in numpy and float64."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np

from ..backends import get_backend
from ..errors import ModelError
from ..onnx import Model
from .recover import Network, recovered
from .reference import velocity

TOLERANCES = {"float32": 1e-5, "float16": 1e-2}
_TIME, _SIGMA = 0.634, 0.25


def verify(folder: Path, network: Network | None = None) -> float:
    """Evaluate a folder's network on a small picture of noise, by ONNX Runtime on the CPU and in numpy.

    Args:
        folder: Written by `folder.write_folder`.
        network: Network that the folder was made of; None reads it back from its graphs.

    Returns:
        Norm of the difference of both velocities over that of the velocity.

    Raises:
        PidSamplerError: They differ by more than the type explains, it cannot be run on the CPU, or what it was made of
            cannot be read back.
    """
    if network is not None:
        _check_type(folder, network.dtype)
    model = Model.load(folder, get_backend("numpy"))
    if model.contract.fixed_size is not None:
        raise ModelError(f"{folder} has a fixed size, too large for numpy: verify an export of dynamic size")
    a, tensors, dtype, caption = network or recovered(folder)
    _check_type(folder, dtype)
    step = math.lcm(a.patch, a.scale * a.latent_factor)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 3, 2 * step, 3 * step), np.float32)
    sides = [n // (a.scale * a.latent_factor) for n in x.shape[2:]]
    latent = rng.standard_normal((1, a.latent_channels, *sides), np.float32)
    given = None
    if caption is None:
        caption = np.zeros((a.text_length, a.text_width), np.float32)
    if model.contract.caption is not None:
        given = caption = rng.standard_normal(caption.shape, np.float32)
    found = np.empty_like(x)
    model.denoiser(latent, _SIGMA, caption=given).predict(x, _TIME, found)
    time = float(np.float32(_TIME * model.contract.timescale))
    expected = velocity(a, tensors, x=x, t=time, latent=latent, sigma=float(np.float32(_SIGMA)), caption=caption[None])
    error = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    if not error <= TOLERANCES[dtype]:
        raise ModelError(
            f"{folder} is {error:.2g} off its evaluation in float64, more than the {TOLERANCES[dtype]:g} that {dtype} "
            "explains: please report it"
        )
    return error


def _check_type(folder: Path, dtype: str) -> None:
    if dtype not in TOLERANCES:
        raise ModelError(f"{folder}: ONNX Runtime's CPU provider does not run {dtype}: verify a float32 export")
