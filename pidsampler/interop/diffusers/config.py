"""From other projects: a scheduler and its times from a diffusers `scheduler_config.json`."""

from __future__ import annotations

import math
import os
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ... import schedulers, timesteps
from ...errors import ConfigError, PidSamplerError, PidSamplerWarning, missing_extra, printable, unknown_name
from ...io.data import read_json
from ...schedulers import TimesScheduler
from ...timesteps import Times, TimesLike
from ...values import flag, number, numbers, shown, whole, word


def from_diffusers(
    config: str | Path | Mapping[str, Any],
    steps: int | None = None,
    *,
    mu: float | None = None,
    tokens: int | None = None,
    sigmas: TimesLike | None = None,
) -> TimesScheduler:
    """Build the scheduler that a diffusers config describes, over the times that its `set_timesteps` would make.

    Known are FlowMatchEulerDiscreteScheduler, FlowMatchHeunDiscreteScheduler, FlowMatchLCMScheduler, and
    DPMSolverMultistepScheduler and UniPCMultistepScheduler with use_flow_sigmas. The times are diffusers' own, also
    where it shifts a list twice: Euler, Heun and LCM shift the ends of the list that they shift again. They are not
    rounded to float32, nor to whole timesteps for the network as DPMSolverMultistep's and UniPC's are.

    Args:
        config: A scheduler_config.json, a folder that holds one, or its content.
        steps: Number of steps, from 1; not needed with `sigmas`.
        mu: The shift's logarithm, for a config with use_dynamic_shifting.
        tokens: In place of mu: the number of latent tokens of the image, from which FLUX's pipelines take it.
        sigmas: Noise levels before shifting, for pipelines that pass their own: FLUX's is `uniform(steps)[:-1]`. Only
            for the flow-match and UniPC schedulers.

    Warns:
        PidSamplerWarning: The config sets keys that are not honored; the message names them.

    Returns:
        The scheduler, with its times.

    Raises:
        PidSamplerError: The config cannot be read, its class is unknown, a setting has no equivalent, or an argument
            does not fit it.

    Source: diffusers 0.42, the schedulers' set_timesteps and step.
    """
    steps = None if steps is None else whole("steps", steps, low=1, high=timesteps.MOST_STEPS)
    mu = None if mu is None else number("mu", mu, **_MU)
    tokens = None if tokens is None else whole("tokens", tokens, low=1)
    given = _read(config)
    name = given.get("_class_name")
    if not isinstance(name, str) or name not in _CLASSES:
        raise unknown_name("diffusers scheduler", shown(name) if not isinstance(name, str) else name, known=_CLASSES)
    known = _CLASSES[name]
    for key, (values, default) in known.required.items():
        if given.get(key, default) not in values:
            wanted = " or ".join(map(repr, values))
            raise ConfigError(f"{name} with {key}={shown(given.get(key, default))} has no equivalent, only {wanted}")
    try:
        settings = {key: _setting(key, given.get(key, default)) for key, default in known.honored.items()}
    except PidSamplerError as error:
        raise ConfigError(f"{name}: {error}") from error
    _warn_of_others(name, known, given)
    if settings.get("use_dynamic_shifting"):
        settings["mu"] = _mu(settings, mu, tokens)
    elif mu is not None or tokens is not None:
        raise ConfigError(f"mu and tokens are for a config with use_dynamic_shifting, which this {name} has not")
    if sigmas is not None:
        sigmas = timesteps.custom([*numbers("sigmas", sigmas), 0.0])[:-1]
        if steps not in (None, len(sigmas)):
            raise ConfigError(f"{len(sigmas)} sigmas and steps={steps} disagree: pass one of them")
        steps = len(sigmas)
    elif steps is None:
        raise ConfigError("steps are missing: pass how many, from 1, or sigmas")
    with np.errstate(all="ignore"):  # what comes to no number is refused next
        times = known.times(settings, steps, sigmas)
    try:
        return known.scheduler(settings, timesteps.custom(np.append(times, 0.0)))
    except PidSamplerError as error:
        raise ConfigError(f"{name}: the config's settings make no list of times: {error}") from error


def _setting(key: str, value: Any) -> Any:
    """Check a setting that the times or the scheduler are made of."""
    if key in _RANGES:
        return number(key, value, **_RANGES[key])
    if key == "shift_terminal":
        return None if value is None else number(key, value, low=0, high=1, below=True)
    if key == "time_shift_type":
        return word(key, value, choices=("exponential", "linear"))
    return flag(key, value) if key.startswith("use_") or key == "stochastic_sampling" else value  # others: `required`


def _read(config: str | Path | Mapping[str, Any]) -> Mapping[str, Any]:
    if isinstance(config, Mapping):
        return {word("a key of config", key): value for key, value in config.items()}
    if not isinstance(config, str | Path):
        raise ConfigError(f"config={shown(config)} must be a path, or a config's content")
    path = Path(config)
    path = path / "scheduler_config.json" if os.path.isdir(path) else path
    content = read_json(path, expected="a scheduler's config in JSON", most=_MOST_BYTES)
    if not isinstance(content, dict):
        raise ConfigError(f"{path} holds {type(content).__name__}, expected a scheduler's config")
    return content


def _warn_of_others(name: str, known: _Class, given: Mapping[str, Any]) -> None:
    """Warn of the settings that change what diffusers does, and not what is done here."""
    rest = given.keys() - known.honored.keys() - known.required.keys() - known.without_effect
    others = {key: shown(given[key]) for key in sorted(rest) if not key.startswith("_") and given[key]}
    if given.get("solver_order") == 3 and given.get("algorithm_type") == "sde-dpmsolver++":
        others["solver_order"] = "3 (k-diffusion's dpmpp_3m_sde here; diffusers' last term has another sign)"
    if given.get("solver_order") == 3 and given.get("lower_order_final", True):
        others["lower_order_final"] = "True (the last step but one keeps order 3 here)"
    if others:
        keys = ", ".join(f"{printable(key)}={value}" for key, value in others.items())
        warnings.warn(f"{name}: not honored are {keys}", PidSamplerWarning, stacklevel=3)


def _mu(c: Mapping[str, Any], mu: float | None, tokens: int | None) -> float:
    """The mu given, or FLUX's line through (base_image_seq_len, base_shift) and (max_image_seq_len, max_shift)."""
    if mu is not None and tokens is None:
        return mu
    if tokens is None or mu is not None or "base_shift" not in c:
        raise ConfigError("the config has use_dynamic_shifting: pass mu (or tokens, where it has a base_shift)")
    low, high = c["base_image_seq_len"], c["max_image_seq_len"]
    if low == high:
        raise ConfigError(f"base_image_seq_len and max_image_seq_len are both {low:g}: expected two numbers of tokens")
    rise = (c["max_shift"] - c["base_shift"]) / (high - low)
    return number("the shift's mu, of tokens and the config's line,", c["base_shift"] + rise * (tokens - low), **_MU)


def _flow_match_times(c: Mapping[str, Any], steps: int, sigmas: Times | None) -> Times:
    """FlowMatch*Scheduler: shifted, stretched to a terminal time, or one of the lists between the same ends."""
    if sigmas is None:
        ends = np.array([1.0, 1.0 / c["num_train_timesteps"]])
        if not c.get("use_dynamic_shifting"):
            ends = _shifted(ends, c["shift"])  # and once more below
        sigmas = np.linspace(ends[0], ends[1], steps)
    t = _to_terminal(_shifted(sigmas, _factor(c, c["shift"])), c.get("shift_terminal"))
    kinds = [kind for kind in ("karras", "exponential", "beta") if c.get(f"use_{kind}_sigmas")]
    if len(kinds) > 1:
        raise ConfigError(f"the config asks for {' and '.join(kinds)} sigmas at once: choose one")
    if not kinds or steps == 1:
        return t
    if kinds == ["beta"]:
        try:
            from scipy.special import betaincinv
        except ImportError as error:
            raise missing_extra("scipy", "beta") from error
        spread: Times = t[-1] + betaincinv(0.6, 0.6, np.linspace(1.0, 0.0, steps)) * (t[0] - t[-1])
        return spread
    listed = timesteps.karras if kinds == ["karras"] else timesteps.exponential
    return listed(steps, t_max=float(t[0]), t_min=float(t[-1]))[:-1]


def _unipc_times(c: Mapping[str, Any], steps: int, sigmas: Times | None) -> Times:
    """UniPCMultistepScheduler with use_flow_sigmas. It starts at 1 - 1e-6 at most."""
    if sigmas is None:
        sigmas = np.linspace(1.0, 1.0 / c["num_train_timesteps"], steps + 1)[:-1]
    t = _to_terminal(_shifted(sigmas, _factor(c, c["flow_shift"])), c["shift_terminal"])
    t[0] = min(t[0], 1.0 - 1e-6)
    return t


def _dpm_times(c: Mapping[str, Any], steps: int, sigmas: Times | None) -> Times:
    """DPMSolverMultistepScheduler with use_flow_sigmas."""
    if sigmas is not None:
        raise ConfigError("DPMSolverMultistepScheduler takes no sigmas: pass steps")
    top = 1.0 - 1.0 / c["num_train_timesteps"]
    return _shifted(np.linspace(0.0, top, steps + 1)[:0:-1], _factor(c, c["flow_shift"]))


def _shifted(t: Times, factor: float) -> Times:
    moved: Times = factor * t / (1.0 + (factor - 1.0) * t)
    return moved


def _factor(c: Mapping[str, Any], fixed: float) -> float:
    """The factor of the shift: fixed, or by mu."""
    if not c.get("use_dynamic_shifting"):
        return fixed
    return float(c["mu"]) if c["time_shift_type"] == "linear" else math.exp(c["mu"])


def _to_terminal(t: Times, terminal: float | None) -> Times:
    """Stretched so that the last time is `terminal`."""
    if not terminal:
        return t
    if t[-1] == 1.0:
        raise ConfigError(f"shift_terminal={terminal:g} needs a list that ends below 1: pass more steps")
    stretched: Times = 1.0 - (1.0 - t) * (1.0 - terminal) / (1.0 - t[-1])
    return stretched


def _euler(c: Mapping[str, Any], times: Times) -> TimesScheduler:
    return schedulers.FlowSDE(times) if c["stochastic_sampling"] else schedulers.FlowODE(times)


def _dpm(c: Mapping[str, Any], times: Times) -> TimesScheduler:
    order, kind, sde = c["solver_order"], c["solver_type"], c["algorithm_type"] == "sde-dpmsolver++"
    if order == 1:
        return schedulers.DPMSolverPP2MSDE(times, order=1) if sde else schedulers.FlowODE(times)
    if order == 2:
        if sde:
            return schedulers.DPMSolverPP2MSDE(times, kind=kind)
        return schedulers.DPMSolverPP2M(times) if kind == "midpoint" else schedulers.RES(times)
    return schedulers.DPMSolverPP3MSDE(times) if sde else schedulers.DPMSolverPP3M(times)


@dataclass(frozen=True)
class _Class:
    """What is made of a diffusers class.

    Args:
        scheduler: (settings, times) -> ours.
        times: (settings, steps, sigmas) -> the times without the last 0.
        honored: The settings that the two read, with diffusers' defaults.
        required: Settings that have an equivalent with some values only: (those, diffusers' default).
        without_effect: Settings that do nothing for a flow there either.
    """

    scheduler: Callable[[Mapping[str, Any], Times], TimesScheduler]
    times: Callable[[Mapping[str, Any], int, Times | None], Times]
    honored: dict[str, Any]
    required: dict[str, tuple[tuple[Any, ...], Any]]
    without_effect: frozenset[str] = frozenset()


_MOST_BYTES = 1_000_000  # of a config
_MU: dict[str, Any] = {"low": -700, "high": 700}
_TOKENS: dict[str, Any] = {"low": 0, "high": 1e9}
_POSITIVE: dict[str, Any] = {"low": 0, "high": 1e6, "above": True}
_RANGES: dict[str, dict[str, Any]] = {
    "num_train_timesteps": {"low": 1, "high": 1e9},
    **dict.fromkeys(("shift", "flow_shift"), _POSITIVE),
    **dict.fromkeys(("base_shift", "max_shift"), _MU),
    **dict.fromkeys(("base_image_seq_len", "max_image_seq_len"), _TOKENS),
}
_SHIFTS = {"num_train_timesteps": 1000, "shift": 1.0}
_DYNAMIC = {"use_dynamic_shifting": False, "time_shift_type": "exponential"}
_LINE = {"base_shift": 0.5, "max_shift": 1.15, "base_image_seq_len": 256, "max_image_seq_len": 4096}
_KINDS = {"use_karras_sigmas": False, "use_exponential_sigmas": False, "use_beta_sigmas": False}
_FLOW_MATCH = {**_SHIFTS, **_DYNAMIC, **_LINE, **_KINDS, "shift_terminal": None}
_MULTISTEP = {"num_train_timesteps": 1000, "flow_shift": 1.0, **_DYNAMIC, "solver_order": 2}
_OF_A_FLOW: dict[str, tuple[tuple[Any, ...], Any]] = {
    "use_flow_sigmas": ((True,), False),
    "prediction_type": (("flow_prediction",), "epsilon"),
    "final_sigmas_type": (("zero",), "zero"),
    **dict.fromkeys((*_KINDS, "use_lu_lambdas"), ((False,), False)),
}
_BETAS = frozenset(
    {"beta_start", "beta_end", "beta_schedule", "trained_betas", "timestep_spacing", "steps_offset"}
    | {"rescale_betas_zero_snr", "dynamic_thresholding_ratio", "sample_max_value", "variance_type"}
    | {"lower_order_final", "euler_at_final", "lambda_min_clipped"}
)
_NOT_INVERTED: dict[str, tuple[tuple[Any, ...], Any]] = {"invert_sigmas": ((False,), False)}
_ORDERS = ((1, 2, 3), 2)

_CLASSES = {
    "FlowMatchEulerDiscreteScheduler": _Class(
        _euler, _flow_match_times, {**_FLOW_MATCH, "stochastic_sampling": False}, _NOT_INVERTED
    ),
    "FlowMatchHeunDiscreteScheduler": _Class(lambda c, times: schedulers.Heun(times), _flow_match_times, _SHIFTS, {}),
    "FlowMatchLCMScheduler": _Class(
        lambda c, times: schedulers.FlowSDE(times),
        _flow_match_times,
        _FLOW_MATCH,
        {**_NOT_INVERTED, "scale_factors": ((None, []), None)},
        frozenset({"upscale_mode"}),
    ),
    "DPMSolverMultistepScheduler": _Class(
        _dpm,
        _dpm_times,
        {**_MULTISTEP, "solver_type": "midpoint", "algorithm_type": "dpmsolver++"},
        {
            **_OF_A_FLOW,
            "solver_order": _ORDERS,
            "solver_type": (("midpoint", "heun"), "midpoint"),
            "algorithm_type": (("dpmsolver++", "sde-dpmsolver++"), "dpmsolver++"),
        },
        _BETAS,
    ),
    "UniPCMultistepScheduler": _Class(
        lambda c, times: schedulers.UniPC(times, c["solver_order"], b=c["solver_type"]),
        _unipc_times,
        {**_MULTISTEP, "solver_type": "bh2", "shift_terminal": None},
        {**_OF_A_FLOW, "solver_order": _ORDERS, "solver_type": (("bh1", "bh2"), "bh2"), "predict_x0": ((True,), True)},
        _BETAS,
    ),
}
