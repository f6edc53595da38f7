"""Lists by a formula of continuous time, and the shifts that go with an image's size."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..moved import keywords
from ..values import number, whole
from .core import Times, checked, count, custom, resample, span, subset, to_zero, uniform
from .core import shift as shifted_by

_PID = (0.999, 0.866, 0.634, 0.342, 0.0)


def pid(steps: int = 4) -> Times:
    """Return the times that the PiD students were distilled with: [0.999, 0.866, 0.634, 0.342, 0].

    One step is [0.999, 0] by this rule. NVIDIA's code does not use its list for one step: see `pid_one_step`.

    Args:
        steps: Number of steps, 1 to 4: fewer than 4 are a `subset`, and above 4 its rule would repeat times.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..4.

    Source: PiD (arXiv 2605.23902) and its published inference code.
    """
    return subset(_PID, steps)


def pid_one_step(steps: int = 1) -> Times:
    """Return [1, 0], the single step that NVIDIA's code makes of a PiD student: the network is told t = 1.

    `pid(1)`, the published rule, tells it t = 0.999.

    Args:
        steps: Number of steps: 1, no other.

    Returns:
        float64 (2,).

    Raises:
        PidSamplerError: `steps` is not 1.

    Source: nv-tlabs/PiD, pid_distill_model_infer.py (generate_samples_from_batch, student_timestep).
    """
    return uniform(count(steps, 1))


def shifted(steps: int, shift: float = 3.0) -> Times:
    """Return `uniform(steps)`, shifted; 3 is SD3's shift at 1024x1024.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..1,000,000 or `shift` is not above 0.

    Source: SD3 (arXiv 2403.03206), section 5.3.2.
    """
    return shifted_by(uniform(steps), shift)


def flux(steps: int, mu: float = 1.15) -> Times:
    """Return FLUX's list: `uniform(steps)` shifted by e^mu; for an image's size see `flux_mu`.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..1,000,000 or `mu` is outside -700..700.

    Source: black-forest-labs/flux, sampling.py (time_shift with sigma = 1).
    """
    return shifted_by(uniform(steps), math.exp(checked("mu", mu)))


def flux_mu(tokens: int) -> float:
    """Return FLUX's mu for an image of so many latent tokens: the line through (256, 0.5) and (4096, 1.15).

    Raises:
        PidSamplerError: The number of tokens is outside 1..2^40.

    Source: black-forest-labs/flux, sampling.py (get_schedule).
    """
    return 0.5 + (1.15 - 0.5) * (whole("tokens", tokens, low=1, high=1 << 40) - 256) / (4096 - 256)


def flux2(steps: int, tokens: int = 4096) -> Times:
    """Return FLUX.2's list: `uniform(steps)` shifted by e^mu, where mu depends on the steps too, see `flux2_mu`.

    Args:
        steps: Number of steps, at most 10,000, beyond what the line was fitted to.
        tokens: Number of latent tokens of the image, 1 to 2^21: 4096 is 1024x1024 pixels.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..10,000 or `tokens` is out of its range.

    Source: black-forest-labs/flux2, sampling.py (get_schedule).
    """
    steps = count(steps, 10_000)
    return shifted_by(uniform(steps), math.exp(flux2_mu(tokens, steps)))


def flux2_mu(tokens: int, steps: int) -> float:
    """Return FLUX.2's mu: linear in the steps between lines in the tokens, fitted at 10 and at 200 steps.

    Above 4300 tokens the line of 200 steps counts alone, so that mu jumps down there.

    Raises:
        PidSamplerError: The number of tokens or of steps is out of its range.

    Source: black-forest-labs/flux2, sampling.py (compute_empirical_mu).
    """
    tokens, steps = checked("tokens", tokens), checked("steps", steps)
    at_200 = 0.00016927 * tokens + 0.45666666
    if tokens > 4300:
        return at_200
    at_10 = 8.73809524e-05 * tokens + 1.89833333
    return at_200 + (at_200 - at_10) * (steps - 200) / 190


def pid_shift(height: int, width: int, base: float = 4.0, size: int = 1024) -> float:
    """Return PiD's resolution-dependent shift, base * sqrt(sqrt(height * width) / size), of a result in pixels.

    `base`, the shift at a square of `size` pixels a side, is 4 at 1024 for v1 and 6 at 2048 for v1.5. A side has 1 to
    2^31-1 pixels.

    Raises:
        PidSamplerError: A side or `size` is out of its range, or `base` is not above 0.

    Source: nv-tlabs/PiD, pid_model.py and pixeldit_model.py (dynamic_shift).
    """
    most = (1 << 31) - 1
    side = math.sqrt(whole("height", height, low=1, high=most) * whole("width", width, low=1, high=most))
    return number("base", base, low=0, above=True) * math.sqrt(side / whole("size", size, low=1, high=most))


def teacher(steps: int, shift: float = 6.0) -> Times:
    """Return the times of PiD's teachers: shift*s / (1 + (shift - 1)*s) for s from 0.999 to 0 in equal steps.

    It ends in 0 exactly, and begins at 0.99983 for a shift of 6, that of v1.5 at 2048x2048. The shift depends on the
    size of the result, see `pid_shift`. NVIDIA's code computes the same in float32, less than 2e-7 off.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..1,000,000 or `shift` is not above 0.

    Source: nv-tlabs/PiD, modules/dpmsolver/dpm_solver.py (get_time_steps, "time_uniform_flow").
    """
    s, shift = np.linspace(0.0, 0.999, count(steps) + 1), checked("shift", shift)
    return custom((shift * s / (1.0 + (shift - 1.0) * s))[::-1])


@keywords()
def karras(steps: int, rho: float = 7.0, *, t_max: float = 1.0, t_min: float = 0.001) -> Times:
    """Return `steps` times from t_max to t_min, equally spaced in t^(1/rho) for a rho above 0, then 0.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` or `rho` is out of range, or 0 < t_min < t_max <= 1 does not hold.

    Source: EDM (arXiv 2206.00364), equation 5, in t as ComfyUI and diffusers use it for flows.
    """
    top, bottom = (t ** (1.0 / checked("rho", rho)) for t in span(t_max, t_min))
    return to_zero(np.linspace(top, bottom, count(steps)) ** rho, t_max)


@keywords()
def polyexponential(steps: int, rho: float = 1.0, *, t_max: float = 1.0, t_min: float = 0.001) -> Times:
    """Return `steps` times from t_max to t_min whose logarithm falls as (1 - k/(steps - 1))^rho, rho above 0, then 0.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` or `rho` is out of range, or 0 < t_min < t_max <= 1 does not hold.

    Source: k-diffusion, get_sigmas_polyexponential.
    """
    top, bottom = (math.log(t) for t in span(t_max, t_min))
    ramp = np.linspace(1.0, 0.0, count(steps)) ** checked("rho", rho)
    return to_zero(np.exp(ramp * (top - bottom) + bottom), t_max)


@keywords()
def exponential(steps: int, t_max: float = 1.0, *, t_min: float = 0.001) -> Times:
    """Return `steps` times from t_max to t_min, equally spaced in their logarithm, then 0.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..1,000,000, or 0 < t_min < t_max <= 1 does not hold.

    Source: k-diffusion, get_sigmas_exponential.
    """
    return polyexponential(steps, t_max=t_max, t_min=t_min)


@keywords()
def log_snr(steps: int, t_max: float = 0.999, *, t_min: float = 0.001) -> Times:
    """Return `steps` times, at least 2, from t_max < 1 to t_min, equally spaced in log-SNR log((1 - t)/t), then 0.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` is outside 2..1,000,000, or 0 < t_min < t_max < 1 does not hold.

    Source: DPM-Solver (arXiv 2206.00927), section 3.4 (uniform lambda).
    """
    return resample([*span(t_max, t_min), 0.0], steps)


def cosine(steps: int) -> Times:
    """Return the cosine schedule in flow time, sin(u) / (sin(u) + cos(u)) for u from pi/2 to 0.

    Args:
        steps: Number of steps, from 1.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..1,000,000.

    Source: Nichol and Dhariwal (arXiv 2102.09672); in flow time it is CosMap of SD3 (arXiv 2403.03206), equation 21.
    """
    u = uniform(steps) * (math.pi / 2)
    times: Times = np.sin(u) / (np.sin(u) + np.cos(u))
    times[0] = 1.0
    return times


def linear_quadratic(steps: int, threshold: float = 0.025) -> Times:
    """Return a list that leaves 1 in small equal steps, by `threshold` in (0, 1) in its first half, then larger ones.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..1,000,000 or `threshold` is not inside (0, 1).

    Source: Mochi (genmoai/mochi), linear_quadratic_schedule, as in ComfyUI.
    """
    steps, threshold = count(steps), checked("threshold", threshold)
    if steps == 1:
        return uniform(1)
    half = steps // 2
    rest = steps - half
    slope = threshold / half
    bend = (1.0 - threshold - slope * rest) / rest**2  # so that the second half ends at 1
    k = np.arange(steps + 1.0)
    below = np.where(k < half, slope * k, threshold + slope * (k - half) + bend * (k - half) ** 2)
    below[-1] = 1.0
    return 1.0 - below


@keywords()
def kl_optimal(steps: int, t_max: float = 1.0, *, t_min: float = 0.001) -> Times:
    """Return `steps` times from t_max to t_min, equally spaced in arctan(t), then 0.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..1,000,000, or 0 < t_min < t_max <= 1 does not hold.

    Source: "Align your steps" (arXiv 2404.14507), equation for the KL-optimal Gaussian schedule, as in ComfyUI.
    """
    top, bottom = map(math.atan, span(t_max, t_min))
    return to_zero(np.tan(np.linspace(top, bottom, count(steps))), t_max)


def logit_normal(steps: int, mu: float = 0.0, *, std: float = 1.0, t_max: float = 0.9998766054240137) -> Times:
    """Return t_max, then the times at equally spaced quantiles of the logit-normal distribution, descending, then 0.

    Args:
        steps: Number of steps n; the k-th time is 1 / (1 + e^-(mu + std*z)), z the normal quantile of 1 - k/n.
        mu: Mean of log(t/(1 - t)), in -700..700. Ideogram 4 adds half the log of the number of pixels over 512*512.
        std: Its standard deviation, above 0: 1 is SD3's density of training, 1.5 to 1.75 Ideogram 4's.
        t_max: First time, where the quantile is 1: here 1 / (1 + e^-9), Ideogram 4's limit.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: An argument is out of its range, or `t_max` is not above the next time.

    Source: SD3 (arXiv 2403.03206), equation 19, for the density; ideogram-oss/ideogram4, scheduler.py, for the list.
    """
    from statistics import NormalDist

    n, normal = count(steps), NormalDist(checked("mu", mu), checked("std", std))
    z = np.array([normal.inv_cdf(1.0 - k / n) for k in range(1, n)])
    with np.errstate(over="ignore"):  # to 0, which `custom` refuses
        return custom([checked("t_max", t_max), *(1.0 / (1.0 + np.exp(-z))), 0.0])


def bong_tangent(steps: int) -> Times:
    """Return two arcs of the arctangent, from 1 to 1/2 and from 1/2 to 0, that meet after six tenths of the steps.

    One step is [1, 0], where RES4LYF divides by 0.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..1,000,000.

    Source: RES4LYF, sigmas.py (bong_tangent_scheduler with its defaults). It gives t itself, for flows.
    """
    n = count(steps) + 2
    pivot, slope = int(n * 0.6), 0.2 / (n / 40)
    if steps == 1:
        return uniform(1)
    upper = _arc(np.arange(pivot) - pivot, slope=slope, top=1.0, bottom=0.5)
    return np.append(upper[:-1], _arc(np.arange(n - pivot), slope=slope, top=0.5, bottom=0.0))


def _arc(k: NDArray[Any], *, slope: float, top: float, bottom: float) -> Times:
    """-arctan(slope*k), moved and scaled to go from top to bottom exactly."""
    v = -np.arctan(slope * k)
    arc: Times = bottom + (top - bottom) * ((v - v[-1]) / (v[0] - v[-1]))
    return arc
