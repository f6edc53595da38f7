"""Names: the schedulers and timestep lists that a spec can name, ours and those of other packages."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from .. import schedulers
from .. import timesteps as lists
from ..errors import ConfigError, check_options, unknown_name
from ..table import Scheduler
from ..timesteps import Times, TimesLike
from . import SchedulerInfo, TimesScheduler
from .spec import Spec

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

# Every class of `schedulers` that has an `info` of its own, the cheapest first.
_REGISTERED: list[Any] = sorted(
    (thing for thing in vars(schedulers).values() if isinstance(thing, type) and "info" in vars(thing)),
    key=lambda cls: (cls.info.stochastic, cls.info.model_calls_per_step, cls.info.name),
)
_BY_NAME: dict[str, Any] = {name: cls for cls in _REGISTERED for name in (cls.info.name, *cls.info.aliases)}

# Names elsewhere for a method with other options than its own defaults.
_VARIANTS = {
    "dpmpp_2m_sde_heun": "dpmpp-2m-sde(kind=heun)",
    "ipndm_v": "adams-bashforth(order=4)",
    "lms": "adams-bashforth(order=4)",
    "uni_pc": "unipc(order=3,b=bh1)",
    "uni_pc_bh2": "unipc(order=3)",
}

_GROUP = "pidsampler.schedulers"  # of entry points

# The functions of `timesteps` that take a number of steps, by the name that follows @ in a spec.
LISTS: dict[str, Callable[..., Times]] = {
    f.__name__: f
    for f in (
        *(lists.pid, lists.uniform, lists.shifted, lists.flux, lists.karras, lists.exponential, lists.polyexponential),
        *(lists.log_snr, lists.cosine, lists.linear_quadratic, lists.kl_optimal, lists.simple, lists.sgm_uniform),
        *(lists.ddim_uniform, lists.beta, lists.discrete),
    )
}


def list_schedulers() -> list[SchedulerInfo]:
    """Return what each scheduler says about itself: ours first, the cheapest ahead, then those of other packages.

    Raises:
        PidSamplerError: Another package's scheduler cannot be loaded.
    """
    others = [_loaded(entry) for entry in _entry_points().values()]
    return [cls.info for cls in (*_REGISTERED, *others)]


def get_timesteps(name: str, steps: int | None = None, **options: Any) -> Times:
    """Return a list by its short name, as in the part after @ of a spec, such as "karras".

    Args:
        name: One of `LISTS`.
        steps: How many; None takes the list's own number, which only "pid" has.
        **options: The function's own, such as rho.

    Raises:
        PidSamplerError: The name or an option is unknown, or `steps` is missing or out of the list's range.
    """
    if name not in LISTS:
        raise unknown_name("timestep list", name, LISTS)
    check_options(name, LISTS[name], options)
    if steps is None:
        if name == "pid":
            return lists.pid()
        raise ConfigError(f"timestep list {name!r} needs a number of steps, such as {name}:8")
    return LISTS[name](steps, **options)


def _entry_points() -> dict[str, EntryPoint]:
    """Schedulers that other packages add, by name, unless it is one of ours."""
    from importlib.metadata import entry_points  # a tenth of the time of importing all of this package

    return {entry.name: entry for entry in entry_points(group=_GROUP) if entry.name not in _BY_NAME}


def _loaded(entry: EntryPoint) -> Any:
    try:
        cls = entry.load()
    except Exception as error:  # whatever another package's import raises
        raise ConfigError(f"scheduler {entry.name!r} ({entry.value}) cannot be loaded: {error}") from error
    if not isinstance(getattr(cls, "info", None), SchedulerInfo) or cls.info.name != entry.name:
        raise ConfigError(f"scheduler {entry.name!r} ({entry.value}) has no SchedulerInfo of that name as info")
    return cls


def get_scheduler(spec: str, timesteps: TimesLike | None = None, **options: Any) -> Scheduler:
    """Make a registered scheduler from its name; of one whose spec names a list, `str` gives the canonical spec.

    Args:
        spec: "NAME(options)@LIST(options):STEPS", where all but NAME may be left out, such as "heun",
            "flow-sde(eta=0.5)@pid:2" or "dpmpp-2m@karras(rho=5):12", see `spec.Spec`. Names of other projects are
            known as aliases.
        timesteps: The times, if the spec names no list. With neither it is `timesteps.pid()`.
        **options: The scheduler's own options, such as eta, if they are not in the spec.

    Raises:
        PidSamplerError: The spec cannot be read; a name, list or option is unknown; or times or an option are
            given twice.
    """
    parsed = Spec.parse(spec)
    if parsed.name in _VARIANTS:
        variant = Spec.parse(_VARIANTS[parsed.name])
        parsed = replace(parsed, name=variant.name, options={**variant.options, **parsed.options})
    cls = _BY_NAME.get(parsed.name)
    if cls is None:
        others = _entry_points()
        if parsed.name not in others:
            raise unknown_name("scheduler", parsed.name, [*_BY_NAME, *_VARIANTS, *others])
        cls = _loaded(others[parsed.name])
    if twice := sorted(parsed.options.keys() & options.keys()):
        raise ConfigError(f"{spec!r} has {twice[0]!r}, and it was given too: use one of them")
    options |= parsed.options
    check_options(parsed.name, cls, options)
    if parsed.list is None:
        times = lists.pid() if timesteps is None else timesteps
    elif timesteps is None:
        times = get_timesteps(parsed.list, parsed.steps, **parsed.list_options)
    else:
        raise ConfigError(f"{spec!r} names a timestep list and timesteps were given too: use one of them")
    scheduler: Scheduler = cls(times, **options)
    if parsed.list is not None and isinstance(scheduler, TimesScheduler):
        name, list_options = cls.info.name, _in_order(LISTS[parsed.list], parsed.list_options)
        parsed = replace(parsed, name=name, options=_in_order(cls, options), list_options=list_options)
        return scheduler.with_spec(parsed)
    return scheduler


def choose_scheduler(
    spec: str, own: TimesLike, timesteps: str | TimesLike | None = None, steps: int | None = None, **options: Any
) -> Scheduler:
    """Make a scheduler over the times asked for, by a list's name, as numbers or from a file, or over a model's own.

    Args:
        spec: As in `get_scheduler`; one that names a list goes with neither `timesteps` nor `steps`.
        own: The model's timesteps, for where nothing else says which.
        timesteps: A list's name and options, such as "karras(rho=5)"; "@FILE", see `io.times.read_list`; or times.
        steps: How many; of times that are given, a `timesteps.subset`.
        **options: The scheduler's own.

    Raises:
        PidSamplerError: As `get_scheduler`.
    """
    if "@" in spec:
        if timesteps is not None or steps is not None:
            raise ConfigError(f"{spec!r} names a timestep list and timesteps were given too: use one of them")
        return get_scheduler(spec, **options)
    if isinstance(timesteps, str) and not timesteps.startswith("@"):
        count = "" if steps is None else f":{steps}"
        return get_scheduler(f"{spec}@{timesteps}{count}", **options)
    if isinstance(timesteps, str):
        from ..io.times import read_list

        times: TimesLike = read_list(timesteps[1:])
    else:
        times = own if timesteps is None else lists.custom(timesteps)
    return get_scheduler(spec, times if steps is None else lists.subset(times, steps), **options)


def _in_order(function: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Options in the order of the function's signature."""
    return {key: options[key] for key in inspect.signature(function).parameters if key in options}
