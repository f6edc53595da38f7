"""Published lists for Stable Diffusion, in flow time.

Their noise levels are sigma of x = x0 + sigma*eps. A flow's x_t = (1 - t)*x0 + t*eps has the same ratio of noise to
signal at t = sigma/(1 + sigma), so that is the time here; `shift` multiplies sigma.
"""

from __future__ import annotations

import numpy as np

from .core import Times, checked, count, interpolated
from .core import shift as shifted_by

_AYS = {
    "sd1": "14.6146412293 6.4745760956 3.8636745985 2.6946151520 1.8841921177 1.3943805092 0.9642583904 0.6523686016 "
    "0.3977456272 0.1515232662 0.0291671582",
    "sdxl": "14.6146412293 6.3184485287 3.7681790315 2.1811480769 1.3405244945 0.8620721141 0.5550693289 0.3798540708 "
    "0.2332364134 0.1114188177 0.0291671582",
    "svd": "700 54.5 15.886 7.977 4.248 1.789 0.981 0.403 0.173 0.034 0.002",
}
# For 2 to 20 steps: which of the 101 equally spaced discrete times of Stable Diffusion 1, 0 the noisiest.
_GITS = """
0 71 100
0 51 82 100
0 39 67 89 100
0 34 58 79 94 100
0 17 43 66 85 97 100
0 17 38 58 77 92 99 100
0 17 38 55 71 85 94 99 100
0 17 34 50 66 79 89 96 99 100
0 17 34 49 62 73 83 91 96 99 100
0 17 33 46 58 70 79 87 93 97 99 100
0 17 32 44 55 66 75 83 89 94 97 99 100
0 14 29 39 51 62 71 79 85 90 94 97 99 100
0 14 29 38 50 60 69 77 83 88 92 95 97 99 100
0 12 22 32 42 52 62 70 77 83 88 92 95 97 99 100
0 12 22 32 42 52 62 70 77 83 87 91 94 96 98 99 100
0 12 22 32 42 52 62 70 77 83 87 90 93 95 97 98 99 100
0 12 22 32 41 50 59 67 74 80 85 89 92 94 96 97 98 99 100
0 12 22 32 41 50 58 66 73 79 84 88 91 93 95 96 97 98 99 100
0 12 22 32 41 50 58 66 73 79 83 87 90 92 94 95 96 97 98 99 100
"""


def ays(steps: int, model: str = "sd1", *, shift: float = 1.0) -> Times:
    """Return the list of "Align your steps" for a model, of 10 steps, or taken to another number of them.

    It begins at the model's own noisiest time: 0.936 for "sd1" and "sdxl", 0.9986 for "svd".

    Args:
        steps: Number of steps; other than 10 are interpolated linearly in log-SNR, as published.
        model: "sd1" (Stable Diffusion 1), "sdxl" or "svd" (Stable Video Diffusion).
        shift: Multiplies the noise levels, above 0.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..1,000,000, `model` is unknown, or `shift` is not above 0.

    Source: "Align your steps" (arXiv 2404.14507); the numbers and the interpolation as in ComfyUI's
    AlignYourStepsScheduler, whose last time is 0 in place of the published smallest one.
    """
    return _taken_to(count(steps), np.array(_AYS[checked("model", model)].split(), np.float64), shift=shift)


def gits(steps: int, shift: float = 1.0) -> Times:
    """Return the list of GITS for Stable Diffusion 1, of up to 20 steps, or interpolated to more as `ays` is.

    It begins at 0.936. Its coefficient is 1.2, the usual one.

    Args:
        steps: Number of steps.
        shift: Multiplies the noise levels, above 0.

    Returns:
        float64 (steps + 1,), descending to 0.

    Raises:
        PidSamplerError: `steps` is outside 1..1,000,000 or `shift` is not above 0.

    Source: GITS (arXiv 2405.11326); the lists as in ComfyUI's GITSScheduler, which are times of a teacher's 100 equal
    steps: log alpha is interpolated between SD's 1000 times, as in DPM-Solver. That differs from the numbers given
    there by 1.3e-5 at most, their rounding.
    """
    rows = [[int(k) for k in line.split()] for line in _GITS.strip().splitlines()]
    row = [0, 100] if count(steps) == 1 else rows[min(steps, len(rows) + 1) - 2]
    betas = np.linspace(0.00085**0.5, 0.012**0.5, 1000) ** 2
    log_alpha = np.interp(np.linspace(999, 0, 101), np.arange(1000), 0.5 * np.cumsum(np.log1p(-betas)))
    return _taken_to(steps, np.sqrt(np.expm1(-2.0 * log_alpha))[row], shift=shift)


def _taken_to(steps: int, sigmas: Times, *, shift: float) -> Times:
    """The list of noise levels with so many steps, the last level replaced by 0."""
    times = sigmas / (1.0 + sigmas)
    if len(times) != steps + 1:
        times = interpolated(times, steps + 1)
    return shifted_by(np.append(times[:-1], 0.0), shift)
