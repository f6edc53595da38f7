"""Samplers and timesteps in every form that a user can give: by name, from a file, as an object or a function."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from attrs import evolve

from .. import moved, schedulers
from .. import timesteps as lists
from ..errors import ConfigError
from ..io.files import sha256
from ..io.times import read_list
from ..plugins import Registry, load_from_file, split_file
from ..table import Scheduler, as_table
from ..timesteps import Times, TimesLike
from ..values import shown
from . import SchedulerInfo, TimesScheduler
from .lengths import has_no_length, of_steps, one_of
from .making import (
    FileSampler,
    SamplerLike,
    called,
    check_options,
    is_made,
    made_by,
    over_file,
    sampler_name,
    table_of,
    unchanged,
)
from .names import list_as_here, names_known, sampler_as_here, wrappers_as_here
from .spec import Spec, names_file, parse_times, reference
from .wrappers import WRAPPERS, Wrapped, wrapped

# A list, or its text: "LIST(options):STEPS", "FILE.py:LIST", "@FILE.txt" or numbers with commas.
TimestepsLike = str | TimesLike
# A model's timesteps, or what makes so many of them; called with None for as many as the model has.
OwnLike = TimesLike | Callable[[int | None], TimesLike]


def _lacks_info(thing: Any, name: str) -> str | None:
    info = getattr(thing, "info", None)
    fits = isinstance(info, SchedulerInfo) and info.name == name
    return None if fits else "has no SchedulerInfo of that name as info"


# Classes that take `timesteps` first and have a SchedulerInfo as `info`.
SCHEDULERS: Registry[Any] = Registry(
    "scheduler",
    "pidsampler.schedulers",
    names=lambda thing: (thing.info.name, *thing.info.aliases),
    wrong=_lacks_info,
    where="list_schedulers()",
)
# Every class of `schedulers` that has an `info` of its own, the cheapest first.
for _cls in sorted(
    (thing for thing in vars(schedulers).values() if isinstance(thing, type) and "info" in vars(thing)),
    key=lambda cls: (cls.info.stochastic, cls.info.model_calls_per_step, cls.info.name),  # type: ignore[attr-defined]
):
    SCHEDULERS.register(_cls)

# Functions of a number of steps, and of options, by the name that follows @ in a spec.
LISTS: Registry[Callable[..., Times]] = Registry("timestep list", "pidsampler.timesteps", where="list_timesteps()")
for _list in (
    *(lists.pid, lists.uniform, lists.shifted, lists.flux, lists.karras, lists.exponential, lists.polyexponential),
    *(lists.log_snr, lists.cosine, lists.linear_quadratic, lists.kl_optimal, lists.simple, lists.sgm_uniform),
    *(lists.ddim_uniform, lists.beta, lists.discrete, lists.teacher, lists.pid_one_step, lists.normal, lists.beta57),
    *(lists.smoothstep, lists.bong_tangent, lists.ays, lists.gits, lists.logit_normal, lists.flux2, lists.lcm),
):
    LISTS.register(_list)


def list_schedulers() -> list[SchedulerInfo]:
    """Return what each scheduler says about itself: ours first, the cheapest ahead, then those of other packages.

    Raises:
        PidSamplerError: Another package's scheduler cannot be loaded.
    """
    return [thing.info for thing in SCHEDULERS.everything()]


def scheduler_class(name: str) -> Any:
    """Return the class of a scheduler's name, also another project's.

    Raises:
        PidSamplerError: The name is unknown, or what it is elsewhere is not here.
    """
    if names_file(name):
        raise ConfigError(f"{name!r} names a file: pass a scheduler's name, see list_schedulers()")
    return _found_scheduler(_as_here(Spec.parse(name)).name)


def timestep_list(name: str) -> tuple[str, Callable[..., Times]]:
    """Return a list's name here, and its function, also for another project's name.

    Raises:
        PidSamplerError: As `scheduler_class`.
    """
    if names_file(name):
        raise ConfigError(f"{name!r} names a file: pass a list's name, see list_timesteps()")
    spec = Spec("", list=name)
    own = str((spec if LISTS.knows(name) else list_as_here(spec, own=LISTS)).list)
    return own, _found_list(own)


def get_timesteps(name: str, steps: int | None = None, **options: Any) -> Times:
    """Return a list, float64 (steps + 1,), by its short name, as after @ in a spec, such as "karras".

    Args:
        name: One of `LISTS`, or a list of another package.
        steps: Number of steps; None takes the list's own number, which only "pid" has.
        **options: The function's own, such as rho.

    Raises:
        PidSamplerError: The name or an option is unknown, or `steps` is missing or out of the list's range.
    """
    return _named(name, steps, options)


def _named(name: str, steps: int | None, options: Mapping[str, Any], *, stretch: bool = False, to: str = "") -> Times:
    """A registered list; a student's, which has a length of its own, as `as_times` makes so many steps of it."""
    if not LISTS.knows(name):
        spec = _list_as_here(Spec("", list=name, list_options=options))
        name, options = str(spec.list), spec.list_options
    function = _found_list(name)
    if function is not lists.pid or steps is None:
        return _list_of(name, function, steps, options)
    return of_steps(_list_of(name, function, None, options), steps, stretch=stretch, to=to)


def _list_of(name: str, function: Callable[..., Any], steps: int | None, options: Mapping[str, Any]) -> Times:
    options = check_options(function, name, options=options)
    if steps is None and has_no_length(function):
        raise ConfigError(f"timestep list {name!r} needs a number of steps, such as {name}:8")
    return lists.custom(
        called(function, name, arguments=() if steps is None else (steps,), options=options), partial=True
    )


def as_times(
    timesteps: TimestepsLike | None = None,
    *,
    steps: int | None = None,
    own: OwnLike | None = None,
    folder: Path = Path(),
    partial: bool = False,
    stretch: bool = False,
) -> Times:
    """Return a list of times, float64 (n,) and descending, whatever form it was given in.

    Args:
        timesteps: Times; or a text: a list's name and options, such as "karras(rho=5):8"; "FILE.py:NAME", a list or a
            function of steps in a Python file, with options and steps likewise; "@FILE", see `io.times.read_list`; or
            "T,T,...". None takes `own`.
        steps: Number of steps; of times that are given, a `timesteps.subset`, or with `stretch` a `resample` where they
            are fewer.
        own: A model's timesteps, or a function of `steps` that makes them; None is `timesteps.pid()`.
        folder: Folder where relative paths start.
        partial: Whether times that are given may end above 0.
        stretch: Whether times that are given may be resampled to more steps than they have.

    Raises:
        PidSamplerError: The text cannot be read, a name or file is unknown or fails, or the times are no list.
    """
    if timesteps is None:
        if callable(own):
            return lists.custom(own(steps))
        times = lists.pid() if own is None else lists.custom(own, partial=True)
    elif not isinstance(timesteps, str):
        times = lists.custom(timesteps, partial=partial)
    elif (path := reference(timesteps)) is not None:
        times = read_list(folder / path)
    elif isinstance(parsed := parse_times(timesteps), list):
        times = lists.custom(parsed, partial=partial)
    else:
        count = one_of(timesteps, parsed.steps, steps=steps)
        assert parsed.list is not None
        if parsed.file is None:
            return _named(parsed.list, count, parsed.list_options, stretch=stretch)
        found = load_from_file(folder / parsed.file, parsed.list, kind="timestep list")
        if callable(found):
            return _list_of(f"{parsed.file}:{parsed.list}", found, count, parsed.list_options)
        check_options(None, timesteps, options=parsed.list_options)
        times, steps = lists.custom(found), count
    return times if steps is None else of_steps(times, steps, stretch=stretch)


@moved.keywords(spec="sampler")
def get_scheduler(sampler: SamplerLike, timesteps: TimestepsLike | None = None, **options: Any) -> Scheduler:
    """Return a scheduler, whatever form it was given in; `str` of one whose spec names a list is the canonical spec.

    Args:
        sampler: A spec "NAME(options)@LIST(options):STEPS", where all but NAME may be left out, such as "heun",
            "flow-sde(eta=0.5)@pid:2" or "dpmpp-2m@karras(rho=5):12"; names of other projects are known too, such as
            "DPM++ 2M Karras:8", see `schedulers.names`. Wrappers follow the method, such as "heun.detail@karras:8", see
            `schedulers.wrappers`. Or "FILE.py:NAME", "@FILE.json", a scheduler, a StepTable, or a class or function of
            timesteps.
        timesteps: The times, if the spec names no list, in any form of `as_times`. With neither it is
            `timesteps.pid()`.
        **options: The scheduler's own options, such as eta, if they are not in the spec.

    Raises:
        PidSamplerError: The spec cannot be read; a name, list, file or option is unknown; times or an option are given
            twice, or to what has them already; or what was to make a scheduler fails.
    """
    return as_scheduler(sampler, timesteps=timesteps, partial=True, options=options)


def as_scheduler(
    sampler: SamplerLike,
    *,
    timesteps: TimestepsLike | None = None,
    steps: int | None = None,
    own: OwnLike | None = None,
    folder: Path = Path(),
    partial: bool = False,
    begin: float | None = None,
    options: Mapping[str, Any] | None = None,
    tables: Mapping[str, Path] | None = None,
) -> Scheduler:
    """Return a scheduler for whatever form a sampler was given in: the one place where that is decided.

    Args:
        sampler: As in `get_scheduler`.
        timesteps: As in `as_times`, and so are `steps`, `own`, `folder`, also of the sampler's file, and `partial`.
        steps: Number of steps, where `timesteps` has none. More than the list has resample it, see
            `timesteps.resample`; but not for flow-sde and flow-ode, which are for a student's own times. The list
            "pid" of the sampler or of `timesteps` likewise.
        own: The model's timesteps, where nothing else says which.
        folder: Folder where relative paths start.
        partial: Whether times that are given may end above 0.
        begin: Noise level to begin at, see `timesteps.begin`; None keeps the whole list. What is made already has to
            begin there.
        options: The scheduler's own options.
        tables: The model's own tables: "@NAME" is one of them, or else a file.

    Raises:
        PidSamplerError: As `get_scheduler`.
    """
    given, asked = dict(options or {}), timesteps is not None or steps is not None

    def stretches(maker: Any) -> bool:
        return maker not in (schedulers.FlowSDE, schedulers.FlowODE)

    def cut(times: Times) -> Times:
        return times if begin is None else lists.begin(times, begin)

    def times_for(maker: Any) -> Times:
        return cut(as_times(timesteps, steps=steps, own=own, folder=folder, partial=partial, stretch=stretches(maker)))

    def made_already(
        made: Scheduler, name: str | None = None, *, asked: bool = asked, options: Mapping[str, Any] = given
    ) -> Scheduler:
        unchanged(made, name, asked=asked, options=options)
        if begin is not None and (first := as_table(made).times[0]) != begin:
            raise ConfigError(
                f"{sampler_name(made) if name is None else name} begins at the noise level {first!r}, not at "
                f"{begin!r}: give a method without times, or times that begin at {begin!r}"
            )
        return made

    if not isinstance(sampler, str):
        if is_made(sampler):
            return made_already(sampler)
        return over_file(made_by(sampler, times_for(sampler), options=given), timesteps, folder=folder)
    if (name := reference(sampler)) is not None:
        file = table_of(name, folder=folder, tables=tables)
        made_already(file.steps, sampler)
        return file
    spec = Spec.parse(sampler)
    if twice := sorted(spec.options.keys() & given.keys()):
        raise ConfigError(f"{sampler!r} has {twice[0]!r}, and it was given too: use one of them")
    spec = _as_here(evolve(spec, options={**spec.options, **given}))
    if spec.list is not None and spec.steps is None and timesteps is None and has_no_length(_found_list(spec.list)):
        spec, steps = evolve(spec, steps=steps), None
    if spec.list is not None and (timesteps is not None or steps is not None):
        what = "steps" if timesteps is None else "timesteps"
        raise ConfigError(f"{sampler!r} names a timestep list and {what} were given too: use one of them")
    if isinstance(timesteps, str) and reference(timesteps) is None:
        listed = parse_times(timesteps)
        if isinstance(listed, Spec) and listed.file is None:  # so that the scheduler knows its whole spec
            count = one_of(timesteps, listed.steps, steps=steps)
            spec = _as_here(evolve(spec, list=listed.list, list_options=listed.list_options, steps=count))

    def times(maker: Any) -> Times:
        if spec.list is not None:
            to = "" if asked else without_list(sampler)
            return cut(_named(spec.list, spec.steps, spec.list_options, stretch=stretches(maker), to=to))
        return times_for(maker)

    if spec.file is None:
        return _registered(spec, times, tells_all=begin is None, timesteps=timesteps, folder=folder)
    own_file, name = folder / spec.file, f"{spec.file}:{spec.name}"
    found = load_from_file(own_file, spec.name, kind="sampler")
    if is_made(found):
        table = as_table(made_already(found, name, asked=asked or spec.list is not None, options=spec.options))
        own_times = tuple(map(float, getattr(found, "timesteps", table.times)))
        made = FileSampler(name, table, timesteps=own_times, sha256=sha256(own_file))
    else:
        over = times(found)
        table = as_table(made_by(found, over, options=spec.options, name=name))
        spec = evolve(spec, options=check_options(found, name, options=spec.options))
        made = FileSampler(str(spec), table, timesteps=tuple(over.tolist()), sha256=sha256(own_file))
        made = over_file(made, timesteps, folder=folder)
    return replace(made, source=str(spec), steps=as_table(wrapped(made, spec.wrappers))) if spec.wrappers else made


def _registered(
    spec: Spec, times: Callable[[Any], Times], *, tells_all: bool, timesteps: TimestepsLike | None, folder: Path
) -> Scheduler:
    """The scheduler of a spec's name, over times; the name is looked at first. It knows a spec that tells all of it."""
    cls = _found_scheduler(spec.name)
    check_options(cls, spec.name, options=spec.options)
    scheduler = made_by(cls, over := times(cls), options=spec.options, name=spec.name)
    scheduler = over_file(scheduler, timesteps, folder=folder, name=str(evolve(spec, wrappers=())), times=over)
    made = wrapped(scheduler, spec.wrappers)
    if tells_all and spec.list is not None and isinstance(scheduler, TimesScheduler | FileSampler):
        name, list_options = cls.info.name, _in_order(_found_list(spec.list), spec.list_options)
        spec = evolve(spec, name=name, options=_in_order(cls, spec.options), list_options=list_options)
        return made.with_spec(spec) if isinstance(made, TimesScheduler | Wrapped) else made
    return made


def _as_here(spec: Spec) -> Spec:
    """A spec with the names that its sampler and list have here; unknown ones stay."""
    spec = wrappers_as_here(spec, own=WRAPPERS)
    found = [(wrapper, WRAPPERS.find(wrapper.name)) for wrapper in spec.wrappers]
    spec = evolve(
        spec,
        wrappers=[evolve(w, options=_in_order(it, check_options(it, w.name, options=w.options))) for w, it in found],
    )
    if spec.file is None:
        here = spec if SCHEDULERS.knows(spec.name) else sampler_as_here(spec, own=SCHEDULERS, lists=LISTS)
        spec = evolve(here, options=_first_named(_found_scheduler, here.name, given=spec.options, found=here.options))
    if spec.list is None and spec.steps is not None:
        if spec.file is None:
            _found_scheduler(spec.name)  # raises where it is unknown
        like = str(evolve(spec, list="uniform"))
        raise ConfigError(
            f"{shown(str(spec))} has a number of steps and no timestep list: pass a list, such as {shown(like)}"
        )
    return spec if spec.list is None else _list_as_here(spec)


def _list_as_here(spec: Spec) -> Spec:
    """A spec with the name and options that its list has here; an unknown one stays."""
    here = spec if LISTS.knows(str(spec.list)) else list_as_here(spec, own=LISTS)
    name, given = str(here.list), spec.list_options
    return evolve(here, list_options=_first_named(_found_list, name, given=given, found=here.list_options))


def _first_named(
    find: Callable[[str], Any], name: str, *, given: dict[str, Any], found: dict[str, Any]
) -> dict[str, Any]:
    """The options `found` for those `given`, where the first one may stand without its name."""
    if "" not in given:
        return found
    first = check_options(find(name), name, options={"": given[""]})
    check_options(find(name), name, options={key: given[key] for key in ("", *first) if key in given})
    return {**first, **{key: value for key, value in found.items() if key and key not in first}}


def _found_scheduler(name: str) -> Any:
    return SCHEDULERS.find(name, others=names_known(lists=False))


def _found_list(name: str) -> Callable[..., Any]:
    return LISTS.find(name, others=names_known(lists=True))


def without_list(text: str) -> str:
    """Return the text of a spec up to its timestep list; of a name that holds a list, the sampler's name here.

    "@FILE", which has none, stays as it is.

    Raises:
        PidSamplerError: The text is no spec, or as `as_scheduler` of its names.
    """
    if reference(text) is not None:
        return text
    spec = Spec.parse(text)
    if spec.list is None and (here := _as_here(spec)).list is not None:
        return str(evolve(here, list=None, list_options={}, steps=None))
    file, rest = split_file(text) or (None, text)
    name = rest.partition("@")[0]
    return name if file is None else f"{file}:{name}"


def _in_order(function: Any, options: dict[str, Any]) -> dict[str, Any]:
    """Options in the order of the function's signature."""
    return {key: options[key] for key in inspect.signature(function).parameters if key in options}
