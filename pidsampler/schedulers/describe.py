"""What a scheduler or a timestep list is, takes and is called elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

import attrs

from ..timesteps.core import RANGES
from ..values import expected, field, whole, word, words
from .base import SchedulerInfo
from .names import other_names
from .registry import LISTS, scheduler_class, timestep_list


@attrs.frozen
class Option:
    """An option of a scheduler or a list.

    Args:
        name: Its name, as in a spec.
        default: Value that it has where it is not given; None where the method chooses.
        takes: What it takes, in words, such as "a number in [0, 1]"; "" where that is not known.
        limits: The range or choices, by name: low, high, above and below (which ends are left out), choices.
    """

    name: str = field(word)
    default: Any = None
    takes: str = field(word, default="", kw_only=True)
    limits: dict[str, Any] = attrs.field(factory=dict, kw_only=True, hash=False)


@attrs.frozen
class Description:
    """A scheduler or a timestep list, described.

    Args:
        name: Its name here.
        summary: What it does: the first paragraph of its docstring, without the source.
        options: Its options.
        aliases: Names of other projects for it, with its own default options.
        source: Paper or project that it comes from.
        example: A spec that works.
        accuracy_order: Order of a scheduler, as in `SchedulerInfo`; None for a list.
        model_calls_per_step: Network evaluations of a scheduler for each step; None for a list.
        stochastic: Whether a scheduler draws fresh noise; None for a list.
    """

    name: str = field(word)
    summary: str = field(word, kw_only=True)
    options: tuple[Option, ...] = attrs.field(kw_only=True)
    aliases: tuple[str, ...] = field(words, kw_only=True)
    source: str = field(word, kw_only=True)
    example: str = field(word, kw_only=True)
    accuracy_order: int | None = field(whole, default=None, optional=True, kw_only=True)
    model_calls_per_step: int | None = field(whole, default=None, optional=True, kw_only=True)
    stochastic: bool | None = attrs.field(default=None, kw_only=True)


def describe_scheduler(name: str) -> Description:
    """Return what a scheduler is, by its name, or another project's.

    Raises:
        PidSamplerError: The name is unknown, or what it is elsewhere is not here.
    """
    cls = scheduler_class(name)
    info: SchedulerInfo = cls.info
    checked = {f.name.lstrip("_"): f.metadata for f in getattr(cls, "__attrs_attrs__", ())}
    return Description(
        info.name,
        summary=_summary(cls),
        options=tuple(_option(p, checked.get(p.name, {})) for p in _parameters(cls)),
        aliases=(*info.aliases, *_aliases(info.name, lists=False)),
        source=info.source,
        example=f"{info.name}@log_snr:8",
        accuracy_order=info.accuracy_order,
        model_calls_per_step=info.model_calls_per_step,
        stochastic=info.stochastic,
    )


def describe_timesteps(name: str) -> Description:
    """Return what a timestep list is, by its name, or another project's.

    Raises:
        PidSamplerError: The name is unknown, or what it is elsewhere is not here.
    """
    own, function = timestep_list(name)
    options = []
    for parameter in _parameters(function):
        check, limits = RANGES.get(parameter.name, (None, {}))
        takes = {} if check is None else {"takes": expected(check, **limits), **limits}
        options.append(_option(parameter, takes))
    source = inspect.getdoc(function) or ""
    return Description(
        own,
        summary=_summary(function),
        options=tuple(options),
        aliases=_aliases(own, lists=True),
        source=" ".join(source.partition("Source: ")[2].split()).removesuffix("."),
        example=f"heun@{own}:{1 if own == 'pid_one_step' else 4}",
    )


def list_timesteps() -> list[Description]:
    """Return what each timestep list is: ours first, then those of other packages.

    Raises:
        PidSamplerError: Another package's list cannot be loaded.
    """
    return [describe_timesteps(name) for name in LISTS.names()]


def _parameters(made: Callable[..., Any]) -> list[inspect.Parameter]:
    """Those after the first, which are the times or the steps."""
    return [p for p in list(inspect.signature(made).parameters.values())[1:] if p.kind is not p.VAR_KEYWORD]


def _option(parameter: inspect.Parameter, about: Any) -> Option:
    default = None if parameter.default is parameter.empty else parameter.default
    limits = {key: value for key, value in about.items() if key in ("low", "high", "above", "below", "choices")}
    return Option(parameter.name, default, takes=about.get("takes", ""), limits=limits)


def _summary(thing: object) -> str:
    first = " ".join((inspect.getdoc(thing) or "").partition("\n\n")[0].split())
    return first.partition(" Source: ")[0]


def _aliases(name: str, *, lists: bool) -> tuple[str, ...]:
    """The rows that mean a thing with no other options than its own."""
    plain = f"@{name}" if lists else name
    return tuple(row.name for row in other_names() if row.here == plain and row.name != name)
