"""How to step: schedulers, and the registry that finds them by name.

A scheduler is anything with a `table()` that returns a StepTable. One that should be found by name is a class
that takes `timesteps` first and has a `SchedulerInfo` as `info`; it joins by one line in `_REGISTERED`, or from
another package through the entry-point group "pidsampler.schedulers".
"""

from __future__ import annotations

import re
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from .. import timesteps as _timesteps
from ..errors import PidSamplerError, check_options, unknown_name
from ..table import Scheduler
from ..timesteps import TimesLike
from .base import SchedulerInfo
from .flow import FlowAncestral, FlowODE, FlowSDE
from .multistep import (
    DEIS,
    ERSDE,
    RES,
    AdamsBashforth,
    DPMSolverPP2M,
    DPMSolverPP2MSDE,
    DPMSolverPP3M,
    DPMSolverPP3MSDE,
    GradientEstimation,
)
from .predictor_corrector import SASolver, UniPC
from .restart import Restart
from .runge_kutta import RK4, SSPRK3, ButcherTableau, Heun, Kutta3, Midpoint, Ralston, RungeKutta
from .singlestep import SEEDS2, SEEDS3, DPMSolver2, DPMSolver3, DPMSolverPP2S, DPMSolverPPSDE

__all__ = [
    "DEIS",
    "ERSDE",
    "RES",
    "RK4",
    "SEEDS2",
    "SEEDS3",
    "SSPRK3",
    "AdamsBashforth",
    "ButcherTableau",
    "DPMSolver2",
    "DPMSolver3",
    "DPMSolverPP2M",
    "DPMSolverPP2MSDE",
    "DPMSolverPP2S",
    "DPMSolverPP3M",
    "DPMSolverPP3MSDE",
    "DPMSolverPPSDE",
    "FlowAncestral",
    "FlowODE",
    "FlowSDE",
    "GradientEstimation",
    "Heun",
    "Kutta3",
    "Midpoint",
    "Ralston",
    "Restart",
    "RungeKutta",
    "SASolver",
    "SchedulerInfo",
    "UniPC",
    "get_scheduler",
    "list_schedulers",
]

_REGISTERED: tuple[Any, ...] = (
    FlowSDE,
    FlowODE,
    FlowAncestral,
    Restart,
    Midpoint,
    Heun,
    Ralston,
    SSPRK3,
    Kutta3,
    RK4,
    DPMSolver2,
    DPMSolver3,
    DPMSolverPP2S,
    AdamsBashforth,
    GradientEstimation,
    DPMSolverPP2M,
    DPMSolverPP3M,
    DEIS,
    RES,
    UniPC,
    DPMSolverPPSDE,
    SEEDS2,
    SEEDS3,
    DPMSolverPP2MSDE,
    DPMSolverPP3MSDE,
    ERSDE,
    SASolver,
)
_BY_NAME: dict[str, Any] = {name: cls for cls in _REGISTERED for name in (cls.info.name, *cls.info.aliases)}

_GROUP = "pidsampler.schedulers"  # of entry points

# NAME(options)@LIST(options):STEPS, where all but the first is optional
_SPEC = re.compile(
    r"(?P<name>[^@():]+)(\((?P<options>[^()]*)\))?(@(?P<list>[^@():]+)(\((?P<its>[^()]*)\))?(:(?P<steps>.*))?)?"
)


def list_schedulers() -> list[SchedulerInfo]:
    """Return what each scheduler says about itself: ours in the registry's order, then those of other packages.

    Raises:
        PidSamplerError: Another package's scheduler cannot be loaded.
    """
    others = [_loaded(entry) for entry in _entry_points().values()]
    return [cls.info for cls in (*_REGISTERED, *others)]


def _entry_points() -> dict[str, EntryPoint]:
    """Schedulers that other packages add, by name, unless it is one of ours."""
    return {entry.name: entry for entry in entry_points(group=_GROUP) if entry.name not in _BY_NAME}


def _loaded(entry: EntryPoint) -> Any:
    try:
        cls = entry.load()
    except Exception as error:  # whatever another package's import raises
        raise PidSamplerError(f"scheduler {entry.name!r} ({entry.value}) cannot be loaded: {error}") from error
    if not isinstance(getattr(cls, "info", None), SchedulerInfo) or cls.info.name != entry.name:
        raise PidSamplerError(f"scheduler {entry.name!r} ({entry.value}) has no SchedulerInfo of that name as info")
    return cls


def get_scheduler(spec: str, timesteps: TimesLike | None = None, **options: Any) -> Scheduler:
    """Make a registered scheduler from its name.

    Args:
        spec: "NAME(options)@LIST(options):STEPS", where all but NAME may be left out, such as "heun",
            "flow-sde(eta=0.5)@pid:2" or "dpmpp-2m@karras(rho=5):12". Names of other projects are known as aliases.
        timesteps: The times, if the spec names no list. With neither it is `timesteps.pid()`.
        **options: The scheduler's own options, such as eta, if they are not in the spec.

    Raises:
        PidSamplerError: The spec cannot be read; a name, list or option is unknown; or times or an option are
            given twice.
    """
    found = _SPEC.fullmatch(spec)
    if found is None:
        raise PidSamplerError(f"cannot read {spec!r}: expected NAME(option=value)@LIST(option=value):STEPS")
    name = found["name"]
    cls = _BY_NAME.get(name)
    if cls is None:
        others = _entry_points()
        if name not in others:
            raise unknown_name("scheduler", name, [*_BY_NAME, *others])
        cls = _loaded(others[name])
    given = _options(spec, found["options"])
    if twice := sorted(given.keys() & options.keys()):
        raise PidSamplerError(f"{spec!r} has {twice[0]!r}, and it was given too: use one of them")
    options = {**given, **options}
    check_options(name, cls, options)
    if found["list"]:
        if timesteps is not None:
            raise PidSamplerError(f"{spec!r} names a timestep list and timesteps were given too: use one of them")
        steps = found["steps"]
        if steps is not None and not steps.isdecimal():
            raise PidSamplerError(f"{steps!r} in {spec!r} is not a number of steps")
        timesteps = _timesteps.named(
            found["list"], None if steps is None else int(steps), **_options(spec, found["its"])
        )
    elif timesteps is None:
        timesteps = _timesteps.pid()
    scheduler: Scheduler = cls(timesteps, **options)
    return scheduler


def _options(spec: str, text: str | None) -> dict[str, Any]:
    """Read "a=1, b='x'"; a value is a Python number, or else a word."""
    options: dict[str, Any] = {}
    for part in (text or "").split(",") if text else []:
        key, equals, value = (piece.strip() for piece in part.partition("="))
        if not equals or not key.isidentifier() or key in options:
            raise PidSamplerError(f"cannot read {part!r} in {spec!r}: expected option=value, each once")
        options[key] = _value(value)
    return options


def _value(text: str) -> int | float | str:
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            pass
    return text.strip("'\"")
