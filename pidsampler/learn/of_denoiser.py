"""A sampler learnt for a denoiser in Python: no model folder and no pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from ..denoiser import DenoiserLike, GaussianMixture, as_denoiser
from ..errors import ConfigError
from ..schedulers.making import check_options
from ..schedulers.registry import TimestepsLike, as_times
from ..search.problem import Problem, Subject
from ..study.measures import Sample
from ..values import number
from ..values import shape as shape_
from .learn import Learning
from .result import Fit

_SEEDS, _FLOW_SEEDS = 4, 16
_ELEMENTS = 12_288  # of a closed-form flow in all: more are fitted no better, and take longer


def fit(
    denoiser: DenoiserLike,
    *,
    calls: int,
    shape: Sequence[int],
    seeds: int | None = None,
    timesteps: TimestepsLike | None = None,
    first: float = 0.999,
    **options: Any,
) -> Fit:
    """Learn a sampler for a denoiser that predicts the velocity, in float64 on the CPU.

    Args:
        denoiser: A Denoiser, or any callable net(x, t) -> m of numpy arrays; two networks as one, such as `Guided`.
        calls: Model calls, 1..64.
        shape: (3, H, W) of an image.
        seeds: Number of seeds to fit to, and of others to hold out; from 2 on. None is 4. Of a
            closed-form flow it is as many as have 12,288 elements, but 4 to 16.
        timesteps: A list of so many steps to keep, in any form of `as_times`; None moves the times too.
        first: Noise level at which runs begin, from pure noise; that of a list is its own first time.
        **options: Others of `Learning`, such as history, ridge or target.

    Returns:
        The fit; `.table` is the sampler, `.error` what was measured of it, on seeds held out.

    Raises:
        PidSamplerError: An argument is not as described, or the fit is refused, see `Learning.run`.
    """
    kept = None if timesteps is None else tuple(as_times(timesteps).tolist())
    check_options(Learning, "fit", options=options)
    size = shape_("shape", shape)
    if len(size) != 3:
        raise ConfigError(f"shape={size} is not that of an image: pass (3, height, width)")
    network = as_denoiser(denoiser)
    if len(getattr(network, "networks", (network,))) > 1:
        raise ConfigError("a sampler is learnt for one network: pass the two as one, such as Guided(*networks, scale)")
    flow = network if isinstance(network, GaussianMixture) else None
    subject = Subject(name="seed", denoiser=network, shape=(1, *size), seen=Sample(np.empty(0), flow=flow))
    if seeds is None:
        seeds = _SEEDS if flow is None else max(_SEEDS, min(_FLOW_SEEDS, _ELEMENTS // math.prod(size)))
    learning = Learning(calls=calls, timesteps=kept, seeds=seeds, **options)
    top = number("first", first, low=0, high=1, above=True)
    top = top if kept is None else kept[0]
    return learning.run(Problem(name=type(network).__name__, subjects=[subject], first=top, dtype=np.float64))
