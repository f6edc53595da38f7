"""Comparing a folder with the network's evaluation in numpy and float64."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..backends import get_backend
from ..errors import ModelError
from ..onnx import Model
from ..onnx.contract import CAPTION, LATENT, NETWORK, PROJECTION
from ..onnx.manifest import read_manifest
from .architecture import Architecture
from .pickles import printable
from .recover import Network, recovered, stored_type
from .reference import velocity
from .widened import WideGraph

TOLERANCES = {"float32": 1e-5, "float16": 1e-2, "bfloat16": 4e-2}
"""How far a folder may be off, by its type: in bfloat16 ten times 2^-8, by which one weight is rounded at most."""
_OWN_TOLERANCE = 1e-3  # of a bfloat16 folder from its own weights: a few numbers of the graph are rounded too
_TIME, _SIGMA = 0.634, 0.25
_TIMESCALE = 1000.0  # of a folder whose manifest does not say, as in onnx.contract

Floats = NDArray[np.float32]


class _Graphs(NamedTuple):
    """A folder at work: velocity(x, latent, caption) at _TIME and _SIGMA."""

    fixed: bool
    takes_caption: bool
    timescale: float
    velocity: Callable[[Floats, Floats, Floats | None], Floats]


class _Found(NamedTuple):
    """What a folder made of what; the caption is None where it is stored."""

    x: Floats
    latent: Floats
    caption: Floats | None
    time: float
    velocity: Floats


def verify(folder: Path, network: Network | None = None, *, name: Path | None = None) -> float:
    """Evaluate a folder's network on a small picture of noise, by ONNX Runtime on the CPU and in numpy.

    A bfloat16 folder is run in float32, with its own weights, and compared with these in float64, and with the network
    that it was made of where that is given.

    Args:
        folder: Written by `folder.write_folder`.
        network: Network that the folder was made of; None reads it back from its graphs.
        name: How messages call the folder, if it will have another name.

    Returns:
        Norm of the difference of both velocities over that of the velocity.

    Raises:
        PidSamplerError: They differ by more than the type explains, it cannot be run on the CPU, or what it was made of
            cannot be read back.
    """
    dtype = stored_type(folder) if network is None else network.dtype
    narrow, name = dtype == "bfloat16", folder if name is None else name
    if dtype not in TOLERANCES:
        raise ModelError(f"{name} works in {printable(dtype)}, expected {', '.join(TOLERANCES)}")
    graphs = _wide(folder) if narrow else _opened(folder)
    if graphs.fixed:
        raise ModelError(f"{name} has a fixed size: numpy is compared with exports of dynamic size alone")
    own = recovered(folder) if network is None or narrow else network
    found = _found(own.architecture, graphs)
    del graphs  # and their memory
    error = _checked(found, own, name, _OWN_TOLERANCE if narrow else TOLERANCES[dtype])
    return _checked(found, network, name, TOLERANCES[dtype]) if narrow and network is not None else error


def check_verifiable(size: tuple[int, int] | None) -> None:
    """Check before an export that `verify` can do its work: numpy takes no picture of a published size.

    Raises:
        PidSamplerError: The export is of a fixed size.
    """
    if size is not None:
        raise ModelError("numpy is compared with exports of dynamic size alone: leave the size out, or verify")


def _found(a: Architecture, graphs: _Graphs) -> _Found:
    step = math.lcm(a.patch, a.scale * a.latent_factor)
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1, 3, 2 * step, 3 * step), np.float32)
    sides = [n // (a.scale * a.latent_factor) for n in x.shape[2:]]
    latent = rng.standard_normal((1, a.latent_channels, *sides), np.float32)
    caption = rng.standard_normal((a.text_length, a.text_width), np.float32) if graphs.takes_caption else None
    time = float(np.float32(_TIME * graphs.timescale))
    return _Found(x, latent, caption, time, graphs.velocity(x, latent, caption))


def _checked(found: _Found, network: Network, name: Path, tolerance: float) -> float:
    a, tensors, dtype, caption = network
    if found.caption is not None:
        caption = found.caption
    elif caption is None:
        caption = np.zeros((a.text_length, a.text_width), np.float32)
    sigma = float(np.float32(_SIGMA))
    expected = velocity(a, tensors, x=found.x, t=found.time, latent=found.latent, sigma=sigma, caption=caption[None])
    error = float(np.linalg.norm(found.velocity - expected) / np.linalg.norm(expected))
    if not error <= tolerance:
        raise ModelError(
            f"{name} is {error:.2g} off its evaluation in float64, more than the {tolerance:g} that {dtype} "
            "explains: please report it"
        )
    return error


def _opened(folder: Path) -> _Graphs:
    model = Model.load(folder, get_backend("numpy"))

    def predicted(x: Floats, latent: Floats, caption: Floats | None) -> Floats:
        found = np.empty_like(x)
        model.denoiser(latent, _SIGMA, caption=caption).predict(x, _TIME, found)
        return found

    contract = model.contract
    return _Graphs(contract.fixed_size is not None, contract.caption is not None, contract.timescale, predicted)


def _wide(folder: Path) -> _Graphs:
    projection = WideGraph(folder / PROJECTION) if (folder / PROJECTION).exists() else None
    network = WideGraph(folder / NETWORK)
    timescale = read_manifest(folder).timescale or _TIMESCALE

    def predicted(x: Floats, latent: Floats, caption: Floats | None) -> Floats:
        time, sigma = (np.full(1, value, np.float32) for value in (_TIME * timescale, _SIGMA))
        feeds: dict[str, NDArray[Any]] = {"x": x, "t": time, "degrade_sigma": sigma, LATENT: latent}
        if projection is not None:
            feeds |= projection({LATENT: feeds.pop(LATENT)})
        if caption is not None:
            feeds[CAPTION] = caption[None]
        (found,) = network(feeds).values()
        return found

    fixed = all(isinstance(n, int) for n in network.inputs["x"])
    return _Graphs(fixed, CAPTION in network.inputs, timescale, predicted)
