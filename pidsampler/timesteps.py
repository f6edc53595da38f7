"""Where to evaluate the network: descending lists of times t in [0, 1] that end in 0.

t is the noise level of the flow: x_t = (1 - t)*x0 + t*eps. A list of n + 1 times makes n steps. Every function
here returns a new float64 array; `custom` checks a list of the user's own and changes no bit of it.

Arguments that recur: `times` is a list that `custom` accepts; `steps` is at least 1 and at most a million; `t_max` and
`t_min` are the first and the last time before 0, 0 < t_min < t_max <= 1; `shift`, above 0, is the model's own (see
`shift`). An argument outside its range raises PidSamplerError.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .errors import ConfigError, missing_extra
from .moved import keywords
from .values import flag, number, shown, whole, word

Times = NDArray[np.float64]
TimesLike = Sequence[float] | NDArray[Any]

MOST_STEPS = 1_000_000  # of a list
_PID = (0.999, 0.866, 0.634, 0.342, 0.0)


def pid(steps: int = 4) -> Times:
    """Return the times that the PiD students were distilled with: [0.999, 0.866, 0.634, 0.342, 0].

    One step is [0.999, 0] by this rule. NVIDIA's code does not use its list for one step: see `pid_one_step`.

    Args:
        steps: 1 to 4: fewer than 4 are a `subset`, and above 4 its rule would repeat times.

    Source: PiD (arXiv 2605.23902) and its published inference code.
    """
    return subset(_PID, steps)


def pid_one_step(steps: int = 1) -> Times:
    """Return [1, 0], the single step that NVIDIA's code makes of a PiD student: the network is told t = 1.

    `pid(1)`, the published rule, tells it t = 0.999.

    Args:
        steps: 1, no other number.

    Source: nv-tlabs/PiD, pid_distill_model_infer.py (generate_samples_from_batch, student_timestep).
    """
    return uniform(_count(steps, 1))


def subset(times: TimesLike, steps: int) -> Times:
    """Choose `steps` steps, 1 to n, from a list of n: the times at indices round(linspace(0, n, steps + 1)).

    Source: PiD's inference code, which applies this rule to its own list of four steps.
    """
    full, steps = custom(times, partial=True), whole("steps", steps)
    n = len(full) - 1
    if not 1 <= steps <= n:
        why = "must be at least 1" if steps < 1 else f"would repeat times of a list of {n}"
        raise ConfigError(f"steps={steps} {why}: pass 1..{n}, or an explicit list of timesteps")
    return full[np.round(np.linspace(0, n, steps + 1)).astype(np.intp)]


def uniform(steps: int) -> Times:
    """Return `steps` + 1 equally spaced times from 1 to 0."""
    return np.linspace(1.0, 0.0, _count(steps) + 1)


def custom(times: TimesLike, partial: bool = False) -> Times:
    """Check a list of times and return it bit for bit: never shifted, rounded, reordered or shortened.

    Args:
        times: At least two finite numbers in [0, 1], strictly descending, the last one 0.
        partial: Allow the list to end above 0, for work that stops at a noise level.

    Raises:
        PidSamplerError: The list breaks one of these rules; the message names the offending value.
    """
    partial = flag("partial", partial)
    try:
        if np.asarray(times).dtype.kind in "bSU":
            raise TypeError("True, False and texts are none")
        array = np.array(times, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise ConfigError(f"timesteps must be a list of numbers, found {shown(times)}: {error}") from error
    if array.ndim != 1 or len(array) < 2:
        raise ConfigError(
            f"timesteps must be a flat list of at least two times, such as [0.999, 0], found {shown(times)}"
        )
    for i, t in enumerate(array.tolist()):
        if not math.isfinite(t) or not 0.0 <= t <= 1.0:
            raise ConfigError(f"timestep {t!r} at position {i} is outside 0..1")
        if i and not t < array[i - 1]:
            verb = "repeats" if t == array[i - 1] else "ascends from"
            raise ConfigError(
                f"timestep {t!r} at position {i} {verb} {float(array[i - 1])!r}: times must strictly descend"
            )
    if array[-1] != 0.0 and not partial:
        raise ConfigError(
            f"timesteps end in {float(array[-1])!r}, expected 0: append 0, or use "
            "timesteps.custom(times, partial=True) to stop at a noise level"
        )
    return array


def begin(times: TimesLike, start: float) -> Times:
    """Return what is left of a list from a noise level on: `start`, in (0, 1], then the times below it.

    A list that begins there stays as it is, bit for bit.

    Raises:
        PidSamplerError: The list begins below `start`.
    """
    full, start = custom(times, partial=True), number("start", start, low=0, high=1, above=True)
    if start > full[0]:
        raise ConfigError(f"start={start!r} is above {float(full[0])!r}, where the timesteps begin: pass at most that")
    if start <= full[-1]:
        raise ConfigError(f"start={start!r} is not above {float(full[-1])!r}, where the timesteps end: pass more")
    return np.append(start, full[full < start])


def shift(times: TimesLike, shift: float) -> Times:
    """Return shift*t / (shift*t + 1 - t) for each time: above 1 it moves a list towards noise.

    It multiplies the ratio t/(1 - t) of noise to signal by `shift`; 0 and 1 stay.

    Source: SD3 (arXiv 2403.03206), equation 23; FLUX's mu is log(shift).
    """
    t, shift = custom(times, partial=True), _positive("shift", shift)
    nearer: Times = shift * t / (shift * t + (1.0 - t))  # exact at 0 and 1
    return nearer


def shifted(steps: int, shift: float = 3.0) -> Times:
    """Return `uniform(steps)`, shifted; 3 is SD3's shift at 1024x1024.

    Source: SD3 (arXiv 2403.03206), section 5.3.2.
    """
    return _shift(uniform(steps), shift)


def flux(steps: int, mu: float = 1.15) -> Times:
    """Return FLUX's list: `uniform(steps)` shifted by e^mu; for an image's size see `flux_mu`.

    Source: black-forest-labs/flux, sampling.py (time_shift with sigma = 1).
    """
    return _shift(uniform(steps), math.exp(number("mu", mu, low=-700, high=700)))


def flux_mu(tokens: int) -> float:
    """Return FLUX's mu for an image of so many latent tokens: the line through (256, 0.5) and (4096, 1.15).

    Source: black-forest-labs/flux, sampling.py (get_schedule).
    """
    return 0.5 + (1.15 - 0.5) * (whole("tokens", tokens, low=1, high=1 << 40) - 256) / (4096 - 256)


def pid_shift(height: int, width: int, base: float = 4.0, size: int = 1024) -> float:
    """Return PiD's resolution-dependent shift, base * sqrt(sqrt(height * width) / size), of a result in pixels.

    `base`, the shift at a square of `size` pixels a side, is 4 at 1024 for v1 and 6 at 2048 for v1.5. A side has 1 to
    2^31-1 pixels.

    Source: nv-tlabs/PiD, pid_model.py and pixeldit_model.py (dynamic_shift).
    """
    most = (1 << 31) - 1
    side = math.sqrt(whole("height", height, low=1, high=most) * whole("width", width, low=1, high=most))
    return _positive("base", base) * math.sqrt(side / whole("size", size, low=1, high=most))


def teacher(steps: int, shift: float = 6.0) -> Times:
    """Return the times of PiD's teachers: shift*s / (1 + (shift - 1)*s) for s from 0.999 to 0 in equal steps.

    It ends in 0 exactly, and begins at 0.99983 for a shift of 6, that of v1.5 at 2048x2048. The shift depends on the
    size of the result, see `pid_shift`. NVIDIA's code computes the same in float32, less than 2e-7 off.

    Source: nv-tlabs/PiD, modules/dpmsolver/dpm_solver.py (get_time_steps, "time_uniform_flow").
    """
    s, shift = np.linspace(0.0, 0.999, _count(steps) + 1), _positive("shift", shift)
    return custom((shift * s / (1.0 + (shift - 1.0) * s))[::-1])


@keywords()
def karras(steps: int, rho: float = 7.0, *, t_max: float = 1.0, t_min: float = 0.001) -> Times:
    """Return `steps` times from t_max to t_min, equally spaced in t^(1/rho) for a rho above 0, then 0.

    Source: EDM (arXiv 2206.00364), equation 5, in t as ComfyUI and diffusers use it for flows.
    """
    top, bottom = (t ** (1.0 / _positive("rho", rho)) for t in _range(t_max, t_min))
    return _to_zero(np.linspace(top, bottom, _count(steps)) ** rho, t_max)


@keywords()
def polyexponential(steps: int, rho: float = 1.0, *, t_max: float = 1.0, t_min: float = 0.001) -> Times:
    """Return `steps` times from t_max to t_min whose logarithm falls as (1 - k/(steps - 1))^rho, rho above 0, then 0.

    Source: k-diffusion, get_sigmas_polyexponential.
    """
    top, bottom = (math.log(t) for t in _range(t_max, t_min))
    ramp = np.linspace(1.0, 0.0, _count(steps)) ** _positive("rho", rho)
    return _to_zero(np.exp(ramp * (top - bottom) + bottom), t_max)


@keywords()
def exponential(steps: int, t_max: float = 1.0, *, t_min: float = 0.001) -> Times:
    """Return `steps` times from t_max to t_min, equally spaced in their logarithm, then 0.

    Source: k-diffusion, get_sigmas_exponential.
    """
    return polyexponential(steps, t_max=t_max, t_min=t_min)


@keywords()
def log_snr(steps: int, t_max: float = 0.999, *, t_min: float = 0.001) -> Times:
    """Return `steps` times, at least 2, from t_max < 1 to t_min, equally spaced in log-SNR log((1 - t)/t), then 0.

    Source: DPM-Solver (arXiv 2206.00927), section 3.4 (uniform lambda).
    """
    return resample([*_range(t_max, t_min), 0.0], steps)


def resample(times: TimesLike, steps: int) -> Times:
    """Stretch or thin a list to `steps` steps, at least 2, by linear interpolation of its log-SNR.

    This is how a trained list such as PiD's is taken to another length: the first time, the last one and 0 stay. The
    list has at least two steps, starts below 1, where log-SNR is infinite, and ends in 0.

    Source: the log-linear interpolation of "Align your steps" (arXiv 2404.14507), in log-SNR.
    """
    t, steps = custom(times)[:-1], whole("steps", steps, high=MOST_STEPS)
    if t[0] == 1.0:
        raise ConfigError("timesteps start at 1.0, where log-SNR is infinite: start below 1, such as at 0.999")
    if len(t) < 2 or steps < 2:
        raise ConfigError(f"a list of {len(t)} steps cannot be resampled to {steps}: both must be at least 2")
    lam = np.log1p(-t) - np.log(t)
    at = np.interp(np.linspace(0, len(t) - 1, steps), np.arange(len(t)), lam)
    result: Times = np.exp(-np.logaddexp(0.0, at))  # 1 / (1 + e^lambda)
    result[-1] = t[-1]
    return _to_zero(result, float(t[0]))


def cosine(steps: int) -> Times:
    """Return the cosine schedule in flow time, sin(u) / (sin(u) + cos(u)) for u from pi/2 to 0.

    Source: Nichol and Dhariwal (arXiv 2102.09672); in flow time it is CosMap of SD3 (arXiv 2403.03206), equation 21.
    """
    u = uniform(steps) * (math.pi / 2)
    times: Times = np.sin(u) / (np.sin(u) + np.cos(u))
    times[0] = 1.0
    return times


def linear_quadratic(steps: int, threshold: float = 0.025) -> Times:
    """Return a list that leaves 1 in small equal steps, by `threshold` in (0, 1) in its first half, then larger ones.

    Source: Mochi (genmoai/mochi), linear_quadratic_schedule, as in ComfyUI.
    """
    steps, threshold = _count(steps), number("threshold", threshold, low=0, high=1, above=True, below=True)
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

    Source: "Align your steps" (arXiv 2404.14507), equation for the KL-optimal Gaussian schedule, as in ComfyUI.
    """
    top, bottom = map(math.atan, _range(t_max, t_min))
    return _to_zero(np.tan(np.linspace(top, bottom, _count(steps))), t_max)


def simple(steps: int, shift: float = 1.0) -> Times:
    """Return every (1000/steps)-th of the 1000 discrete times of a flow model, from 1 down, then 0; 1 to 1000 steps.

    Source: ComfyUI, simple_scheduler over ModelSamplingDiscreteFlow.
    """
    steps = _count(steps, 1000)
    back = [int(k * (1000 / steps)) for k in range(steps)]
    return _shift(np.array([*((1000 - k) / 1000 for k in back), 0.0]), shift)


def sgm_uniform(steps: int, shift: float = 1.0) -> Times:
    """Return `steps` equally spaced times from 1 that leave out the last of `steps` + 1, each shifted, then 0.

    Source: ComfyUI, normal_scheduler with sgm over ModelSamplingDiscreteFlow, whose smallest time, the shifted
    1/1000, is shifted once more. This is theirs; for a plain shift use `shifted`.
    """
    smallest = float(_shift(np.array([0.001, 0.0]), shift)[0])
    return _shift(np.append(np.linspace(1.0, smallest, _count(steps) + 1)[:-1], 0.0), shift)


def ddim_uniform(steps: int, shift: float = 1.0) -> Times:
    """Return every (1000 // steps)-th of the 1000 discrete times from the second smallest up, descending, then 0.

    The list has the ceiling of 999 / (1000 // steps) steps, which is not always `steps`, 1 to 999.

    Source: ComfyUI, ddim_scheduler over ModelSamplingDiscreteFlow.
    """
    indices = np.arange(1, 1000, 1000 // _count(steps, 999))
    return _shift(np.append((indices[::-1] + 1) / 1000, 0.0), shift)


@keywords()
def beta(steps: int, a: float = 0.6, *, b: float = 0.6, shift: float = 1.0) -> Times:
    """Return discrete times k/1000 at equally spaced quantiles of the beta distribution, shifted, then 0.

    The shape parameters are above 0: below 1, `a` crowds times near 0 and `b` near 1. Quantiles that round to the same
    time count once, so from about 500 of the at most 1000 steps on the list is shorter. Needs SciPy (extra `beta`).

    Source: "Beta sampling is all you need" (arXiv 2407.12173), as in ComfyUI's beta_scheduler.
    """
    try:
        from scipy.special import betaincinv
    except ImportError as error:
        raise missing_extra("scipy", "beta") from error
    levels = 1.0 - np.linspace(0.0, 1.0, _count(steps, 1000), endpoint=False)
    indices = np.unique(np.rint(betaincinv(_positive("a", a), _positive("b", b), levels) * 999))[::-1]
    return _shift(np.append((indices + 1) / 1000, 0.0), shift)


@keywords()
def discrete(steps: int, spacing: str = "trailing", *, shift: float = 1.0) -> Times:
    """Return `steps`, 1 to 1000, of the discrete times k/1000, spaced as diffusers names it, then 0.

    `spacing` is "trailing" (from 1000 down in equal steps), "leading" (whole steps up from 1), "linspace" (both ends).

    Source: "Common diffusion noise schedules and sample steps are flawed" (arXiv 2305.08891), table 2.
    """
    n = _count(steps, 1000)
    word("spacing", spacing, choices=("trailing", "leading", "linspace"))
    if spacing == "trailing":
        numbers: NDArray[Any] = np.round(1000 - np.arange(n) * (1000 / n))
    elif spacing == "leading":
        numbers = np.arange(n)[::-1] * (1000 // n) + 1
    else:
        numbers = np.round(np.linspace(0, 999, n))[::-1] + 1 if n > 1 else np.array([1000])
    return _shift(np.append(numbers / 1000, 0.0), shift)


_shift = shift  # for the functions with an argument of that name


def _count(steps: int, most: int | None = None) -> int:
    return whole("steps", whole("steps", steps, low=1, high=most), high=MOST_STEPS)


def _positive(name: str, value: float) -> float:
    return number(name, value, low=0, above=True)


def _range(t_max: float, t_min: float) -> tuple[float, float]:
    if not 0.0 < number("t_min", t_min) < number("t_max", t_max) <= 1.0:
        raise ConfigError(f"t_max={t_max!r} and t_min={t_min!r} must keep 0 < t_min < t_max <= 1")
    return t_max, t_min


def _to_zero(times: Times, first: float) -> Times:
    """Append 0, and put the first time in place exactly, which powers and logarithms miss by a rounding."""
    times[0] = first
    return np.append(times, 0.0)
