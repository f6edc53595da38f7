"""Comparing a folder with the network's evaluation in numpy and float64."""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..backends import get_backend
from ..errors import PidSamplerError
from ..onnx import Model
from .architecture import Architecture
from .reference import velocity
from .tensors import Stored

TOLERANCES = {"float32": 1e-5, "float16": 1e-2}
_TIME, _SIGMA = 0.634, 0.25


def verify(
    folder: Path, architecture: Architecture, tensors: Mapping[str, Stored], dtype: str, caption: NDArray[Any] | None
) -> float:
    """Evaluate a folder's network on a small picture of noise, by ONNX Runtime on the CPU and in numpy.

    Args:
        folder: Just written.
        architecture: Of its network.
        tensors: What it was made of.
        dtype: In which type.
        caption: As in `Form`.

    Returns:
        Norm of the difference of both velocities over that of the velocity.

    Raises:
        PidSamplerError: They differ by more than the type explains, or it cannot be run on the CPU.
    """
    if dtype not in TOLERANCES:
        raise PidSamplerError(f"{folder}: ONNX Runtime's CPU provider does not run {dtype}: verify a float32 export")
    a = architecture
    model = Model.load(folder, get_backend("numpy"))
    if model.contract.fixed_size is not None:
        raise PidSamplerError(f"{folder} has a fixed size, too large for numpy: verify an export without --size")
    step = math.lcm(a.patch, a.scale * a.latent_factor)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 3, 2 * step, 3 * step), np.float32)
    sides = [n // (a.scale * a.latent_factor) for n in x.shape[2:]]
    latent = rng.standard_normal((1, a.latent_channels, *sides), np.float32)
    found = np.empty_like(x)
    model.denoiser(latent, _SIGMA).predict(x, _TIME, found)
    if caption is None:
        caption = np.zeros((a.text_length, a.text_width))
    time = float(np.float32(_TIME * model.contract.timescale))
    expected = velocity(a, tensors, x, time, latent, float(np.float32(_SIGMA)), caption[None])
    error = float(np.linalg.norm(found - expected) / np.linalg.norm(expected))
    if not error <= TOLERANCES[dtype]:
        raise PidSamplerError(
            f"{folder} is {error:.2g} off its evaluation in float64, more than the {TOLERANCES[dtype]:g} that {dtype} "
            "explains: please report it"
        )
    return error
