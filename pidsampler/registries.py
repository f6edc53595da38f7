"""The one door for what a user adds to a process by name: schedulers, lists, wrappers, noises, measures, backends."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Any

from .errors import ConfigError, PidSamplerError
from .schedulers import SchedulerInfo
from .schedulers.making import made_by
from .schedulers.spec import Spec
from .table import as_table
from .values import shown, word, words

# Kind -> where its registry is: those that a spec does not name are imported when they are asked for.
_REGISTRIES = {
    "scheduler": "schedulers.registry:SCHEDULERS",
    "timesteps": "schedulers.registry:LISTS",
    "wrapper": "schedulers.wrappers:WRAPPERS",
    "noise": "noise.registry:NOISES",
    "measure": "study.measures:MEASURES",
    "backend": "backends.registry:BACKENDS",
}
_IN_SPECS = ("scheduler", "timesteps", "wrapper")
_TRIAL = (0.999, 0.75, 0.5, 0.25, 0.0)  # times by which a function shows what it makes


def register(kind: str, thing: Any = None, *, name: str | None = None, aliases: Iterable[str] = ()) -> Any:
    """Add something of one's own to this process, to be found by its name wherever ours are.

    As a decorator, `@register("timesteps")`, it returns what it decorates. Other packages do the same by entry points
    of the groups pidsampler.schedulers, .timesteps, .wrappers, .noises, .measures and .backends.

    Args:
        kind: Kind of the thing. "scheduler" is a class or function of timesteps that makes a table; what has no
            `SchedulerInfo` as `info` is said to be of order 1. "timesteps" is a function of the number of steps,
            "wrapper" one of a sampler, and "noise" one of a table. "measure" is what @measure made, and "backend" a
            class or function without arguments.
        thing: What is added; None for a decorator.
        name: Name to find it by; None takes its own.
        aliases: Other names for it.

    Raises:
        PidSamplerError: The kind is unknown, the thing is of another kind, or a name is taken or none for a spec.
    """
    module, _, attribute = _REGISTRIES[word("kind", kind, choices=_REGISTRIES)].partition(":")
    aliases, name = words("aliases", aliases), None if name is None else word("name", name)
    if thing is None:
        return lambda decorated: register(kind, decorated, name=name, aliases=aliases)
    for each in (*(() if name is None else (name,)), *aliases):
        if kind in _IN_SPECS and not _fits_a_spec(each):
            raise ConfigError(f"the name {shown(each)} cannot stand in a spec: pass letters, digits, - and _")
    added: Any = thing
    own = vars(thing) if isinstance(thing, type) else dir(thing)  # of a class the info may be that of the one below
    if kind == "scheduler" and callable(thing) and "info" not in own:
        added, name = _with_info(thing, name or str(getattr(thing, "__name__", ""))), None
    getattr(import_module(f"{__package__}.{module}"), attribute).register(added, name=name, aliases=aliases)
    return thing


def _fits_a_spec(name: str) -> bool:
    try:
        return Spec.parse(name) == Spec(name)
    except PidSamplerError:
        return False


def _with_info(function: Callable[..., Any], name: str) -> Any:
    """A function or class with what a scheduler says of itself, as far as one table shows it."""
    table = as_table(made_by(function, _times(), options={}, name=name or None))

    @functools.wraps(function, updated=())
    def made(timesteps: Any, **options: Any) -> Any:
        return function(timesteps, **options)

    return _described(made, name, calls=-(-len(table) // (len(_TRIAL) - 1)), draws=any(row.draws for row in table))


def _described(made: Any, name: str, *, calls: int, draws: bool) -> Any:
    made.info = SchedulerInfo(
        name, accuracy_order=1, model_calls_per_step=calls, stochastic=draws, source="registered in this process"
    )
    return made


def _times() -> Any:
    from .timesteps import custom

    return custom(_TRIAL)
