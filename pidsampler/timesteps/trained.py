"""Lists of the 1000 discrete times k/1000 that a flow model is trained with, as other projects choose among them.

Each is theirs for ComfyUI's ModelSamplingDiscreteFlow, diffusers' flow-match schedulers, or stable-diffusion.cpp's
DiscreteFlowDenoiser, whose table has shift(k/1000) for k = 1 to 1000.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import missing_extra
from ..moved import keywords
from .core import Times, checked, count, uniform
from .core import shift as shifted_by


def simple(steps: int, shift: float = 1.0) -> Times:
    """Return every (1000/steps)-th of the 1000 discrete times of a flow model, from 1 down, then 0; 1 to 1000 steps.

    Args:
        steps: Number of steps, 1..1000.
        shift: Shift of the times, above 0; above 1 it moves them toward noise.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..1000 or `shift` is not above 0.

    Source: ComfyUI, simple_scheduler over ModelSamplingDiscreteFlow.
    """
    steps = count(steps, 1000)
    back = [int(k * (1000 / steps)) for k in range(steps)]
    return shifted_by(np.array([*((1000 - k) / 1000 for k in back), 0.0]), shift)


def normal(steps: int, shift: float = 1.0) -> Times:
    """Return `steps` equally spaced times from 1 to the smallest, each shifted, then 0.

    Args:
        steps: Number of steps, from 1.
        shift: Shift of the times, above 0; above 1 it moves them toward noise.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..1,000,000 or `shift` is not above 0.

    Source: ComfyUI, normal_scheduler over ModelSamplingDiscreteFlow, whose smallest time, the shifted 1/1000, is
    shifted once more, as in `sgm_uniform`; "discrete" of stable-diffusion.cpp but for that.
    """
    return shifted_by(np.append(np.linspace(1.0, _smallest(shift), count(steps)), 0.0), shift)


def _smallest(shift: float) -> float:
    """ComfyUI's sigma_min."""
    return float(shifted_by([0.001, 0.0], shift)[0])


def sgm_uniform(steps: int, shift: float = 1.0) -> Times:
    """Return `steps` equally spaced times from 1 that leave out the last of `steps` + 1, each shifted, then 0.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..1,000,000 or `shift` is not above 0.

    Source: ComfyUI, normal_scheduler with sgm over ModelSamplingDiscreteFlow, whose smallest time, the shifted
    1/1000, is shifted once more. This is theirs; for a plain shift use `shifted`.
    """
    return shifted_by(np.append(np.linspace(1.0, _smallest(shift), count(steps) + 1)[:-1], 0.0), shift)


def ddim_uniform(steps: int, shift: float = 1.0) -> Times:
    """Return every (1000 // steps)-th of the 1000 discrete times from the second smallest up, descending, then 0.

    The list has the ceiling of 999 / (1000 // steps) steps, which is not always `steps`, 1 to 999.

    Args:
        steps: Number of steps asked for, 1..999.
        shift: Shift of the times, above 0; above 1 it moves them toward noise.

    Returns:
        float64 (n + 1,), n the ceiling of 999 / (1000 // steps), descending from at most 1 to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..999 or `shift` is not above 0.

    Source: ComfyUI, ddim_scheduler over ModelSamplingDiscreteFlow.
    """
    indices = np.arange(1, 1000, 1000 // count(steps, 999))
    return shifted_by(np.append((indices[::-1] + 1) / 1000, 0.0), shift)


@keywords()
def beta(steps: int, a: float = 0.6, *, b: float = 0.6, shift: float = 1.0) -> Times:
    """Return discrete times k/1000 at equally spaced quantiles of the beta distribution, shifted, then 0.

    The shape parameters are above 0: below 1, `a` crowds times near 0 and `b` near 1. Quantiles that round to the same
    time count once, so from about 500 of the at most 1000 steps on the list is shorter. Needs SciPy (extra `beta`).

    Args:
        steps: Number of steps, 1..1000.
        a: First shape parameter, above 0.
        b: Second shape parameter, above 0.
        shift: Shift of the times, above 0; above 1 it moves them toward noise.

    Returns:
        float64 (n + 1,), n at most `steps`, descending from 1 to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..1000, `a` or `b` is not above 0, or `shift` is not above 0.
        MissingDependencyError: SciPy is not installed.

    Source: "Beta sampling is all you need" (arXiv 2407.12173), as in ComfyUI's beta_scheduler.
    """
    try:
        from scipy.special import betaincinv
    except ImportError as error:
        raise missing_extra("scipy", "beta") from error
    levels = 1.0 - np.linspace(0.0, 1.0, count(steps, 1000), endpoint=False)
    indices = np.unique(np.rint(betaincinv(checked("a", a), checked("b", b), levels) * 999))[::-1]
    return shifted_by(np.append((indices + 1) / 1000, 0.0), shift)


def beta57(steps: int, shift: float = 1.0) -> Times:
    """Return `beta` with a = 0.5 and b = 0.7: more times near 0, and fewer near 1, than with its own 0.6 and 0.6.

    Args:
        steps: Number of steps, 1..1000.
        shift: Shift of the times, above 0; above 1 it moves them toward noise.

    Returns:
        float64 (n + 1,), n at most `steps`, descending from 1 to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..1000 or `shift` is not above 0.
        MissingDependencyError: SciPy is not installed.

    Source: RES4LYF, __init__.py.
    """
    return beta(steps, 0.5, b=0.7, shift=shift)


def smoothstep(steps: int, shift: float = 1.0) -> Times:
    """Return discrete times at u^2*(3 - 2*u) for equally spaced u from 1, shifted, then 0; 1 to 1000 steps.

    Those that round to the same time count once, so from 78 steps on the list is shorter.

    Args:
        steps: Number of steps, 1..1000.
        shift: Shift of the times, above 0; above 1 it moves them toward noise.

    Returns:
        float64 (n + 1,), n at most `steps`, descending from 1 to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..1000 or `shift` is not above 0.

    Source: stable-diffusion.cpp, SmoothStepScheduler.
    """
    u = uniform(count(steps, 1000))[:-1]
    indices = np.unique(np.rint(u * u * (3.0 - 2.0 * u) * 999))[::-1]
    return shifted_by(np.append((indices + 1) / 1000, 0.0), shift)


def lcm(steps: int, original_steps: int = 50, *, shift: float = 1.0) -> Times:
    """Return `steps`, evenly spaced by index, of the `original_steps` discrete times of an LCM's training, then 0.

    Args:
        steps: Number of steps, at most `original_steps`.
        original_steps: Number of steps that the LCM was distilled with, 1 to 1000: every
            (1000 // original_steps)-th time.
        shift: Shift of the model's times, above 0.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps`, `original_steps` or `shift` is out of its range.

    Source: diffusers, LCMScheduler.set_timesteps, in the discrete times of a flow; stable-diffusion.cpp, LCMScheduler.
    """
    most = checked("original_steps", original_steps)
    n = count(steps, most)
    numbers = (most - np.arange(n) * most // n) * (1000 // most)
    return shifted_by(np.append(numbers / 1000, 0.0), shift)


@keywords()
def discrete(steps: int, spacing: str = "trailing", *, shift: float = 1.0) -> Times:
    """Return `steps`, 1 to 1000, of the discrete times k/1000, spaced as diffusers names it, then 0.

    Args:
        steps: Number of steps, 1..1000.
        spacing: "trailing" (from 1000 down in equal steps), "leading" (whole steps up from 1), or "linspace" (both
            ends).
        shift: Shift of the times, above 0; above 1 it moves them toward noise.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..1000, `spacing` is unknown, or `shift` is not above 0.

    Source: "Common diffusion noise schedules and sample steps are flawed" (arXiv 2305.08891), table 2.
    """
    n = count(steps, 1000)
    checked("spacing", spacing)
    if spacing == "trailing":
        numbers: NDArray[Any] = np.round(1000 - np.arange(n) * (1000 / n))
    elif spacing == "leading":
        numbers = np.arange(n)[::-1] * (1000 // n) + 1
    else:
        numbers = np.round(np.linspace(0, 999, n))[::-1] + 1 if n > 1 else np.array([1000])
    return shifted_by(np.append(numbers / 1000, 0.0), shift)
