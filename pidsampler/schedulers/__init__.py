"""How to step: schedulers, and the registry that finds them by name.

A scheduler is anything with a `table()` that returns a StepTable. One that should be found by name is a class
that takes `timesteps` first and has a `SchedulerInfo` as `info`; it joins by one line in `_REGISTERED`.
"""

from __future__ import annotations

import inspect
from typing import Any

from .. import timesteps as _timesteps
from ..errors import PidSamplerError, unknown_name
from ..table import Scheduler
from ..timesteps import TimesLike
from .flow import FlowODE, FlowSDE
from .info import SchedulerInfo

__all__ = ["FlowODE", "FlowSDE", "SchedulerInfo", "get_scheduler", "list_schedulers"]

_REGISTERED: tuple[Any, ...] = (FlowSDE, FlowODE)
_BY_NAME: dict[str, Any] = {cls.info.name: cls for cls in _REGISTERED}


def list_schedulers() -> list[SchedulerInfo]:
    """Return what each registered scheduler says about itself, in the registry's order."""
    return [cls.info for cls in _REGISTERED]


def get_scheduler(spec: str, timesteps: TimesLike | None = None, **options: Any) -> Scheduler:
    """Make a registered scheduler from its name.

    Args:
        spec: "NAME", "NAME@LIST" or "NAME@LIST:STEPS", such as "flow-sde@uniform:8".
        timesteps: The times, if the spec names no list. With neither it is `timesteps.pid()`.
        **options: The scheduler's own options, such as eta.

    Raises:
        PidSamplerError: Name, list or option is unknown, or times are given twice.
    """
    name, at, where = spec.partition("@")
    if name not in _BY_NAME:
        raise unknown_name("scheduler", name, _BY_NAME)
    if at:
        if timesteps is not None:
            raise PidSamplerError(f"{spec!r} names a timestep list and timesteps were given too: use one of them")
        listed, colon, count = where.partition(":")
        if colon and not count.isdecimal():
            raise PidSamplerError(f"{count!r} in {spec!r} is not a number of steps")
        timesteps = _timesteps.named(listed, int(count) if colon else None)
    elif timesteps is None:
        timesteps = _timesteps.pid()
    cls = _BY_NAME[name]
    known = [p for p in inspect.signature(cls).parameters if p != "timesteps"]
    for option in options:
        if option not in known:
            takes = f"it takes {', '.join(known)}" if known else "it takes none"
            raise PidSamplerError(f"{name} has no option {option!r}: {takes}")
    scheduler: Scheduler = cls(timesteps, **options)
    return scheduler
