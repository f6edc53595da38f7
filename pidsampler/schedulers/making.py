"""Schedulers that a user's own class, function or file makes, and what is said where they cannot."""

from __future__ import annotations

import copy
import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass, replace
from pathlib import Path
from typing import Any, TypeGuard, TypeVar

from ..errors import ConfigError, PidSamplerError, did_you_mean
from ..io.files import sha256
from ..io.tables import read_table
from ..table import Scheduler, StepTable, as_table
from ..timesteps import Times
from ..values import shown
from .base import TimesScheduler
from .spec import file_of

T = TypeVar("T", bound=Scheduler)

# A spec or "@FILE.json", a scheduler, a StepTable, or a class or function of timesteps that makes one of the two.
SamplerLike = str | Scheduler | StepTable | Callable[..., Any]


@dataclass(frozen=True, repr=False)
class FileSampler:
    """A sampler of a file or function: its table, which can be sent to another process, under the name it was given by.

    Args:
        source: The text that named it, such as "my.py:heun@uniform:8" or "@table.json".
        steps: The table.
        timesteps: The times that the table was made of.
        sha256: That of the sampler's file; None where only the times are of one, or nothing.
        timesteps_sha256: That of the times' file.
        own: Its name among the model's own tables; None where it is not one of them.
    """

    source: str
    steps: StepTable
    _: KW_ONLY
    timesteps: tuple[float, ...]
    sha256: str | None = None
    timesteps_sha256: str | None = None
    own: str | None = None

    def table(self) -> StepTable:
        """Return the table."""
        return self.steps

    def __repr__(self) -> str:
        return self.source

    def _repr_html_(self) -> str:
        return self.steps.html(self.source)


def table_of(name: str, *, folder: Path, tables: Mapping[str, Path] | None) -> FileSampler:
    """Return the sampler of "@NAME": of the model's own tables the one of that name, else of the file.

    Args:
        name: What follows @.
        folder: Folder where relative paths start.
        tables: Files of the model's own tables by name; None where there is no model.

    Raises:
        PidSamplerError: There is neither, or the file holds no table.
    """
    no_model, tables = tables is None, tables or {}
    if name not in tables and (tables or name == Path(name).stem) and not os.path.lexists(folder / name):
        known = f"the model's own are {', '.join(f'@{one}' for one in tables)}"
        if not tables:
            known = "no model is given" if no_model else "the model has no tables of its own"
        meant = did_you_mean(name, known=tables)
        raise ConfigError(f"there is no table {shown(f'@{name}')}: {meant}{known}, and there is no such file")
    path = tables.get(name, folder / name)
    table, own = read_table(path), name if name in tables else None
    return FileSampler(f"@{name}", table, timesteps=table.times, sha256=sha256(path), own=own)


def sampler_name(sampler: SamplerLike) -> str:
    """Return what to call a sampler in a line of text: its spec, or the name of its class or function."""
    if isinstance(sampler, str):
        return sampler
    if isinstance(sampler, StepTable):
        return "StepTable"
    if is_made(sampler) and type(sampler).__repr__ is not object.__repr__:
        return str(sampler)
    return getattr(sampler, "__qualname__", type(sampler).__qualname__)


def is_made(sampler: object) -> TypeGuard[Scheduler]:
    """Return whether it is a scheduler or a table, and not a class or function that makes one."""
    return isinstance(sampler, Scheduler) and not isinstance(sampler, type)


def unchanged(made: Scheduler, name: str | None = None, *, asked: bool, options: Mapping[str, Any]) -> Scheduler:
    """Return a scheduler that is made already, unless times (`asked`) or options were given for it."""
    if asked or options:  # only then is it named: a class of the user's need not be able to say its options
        name = sampler_name(made) if name is None else name
        if asked:
            raise ConfigError(f"{name} has its timesteps already: pass neither timesteps nor steps")
        check_options(None, name, options=options)
    return made


def made_by(sampler: Any, times: Times, *, options: Mapping[str, Any], name: str | None = None) -> Scheduler:
    """Return what a class or function of timesteps makes.

    Args:
        sampler: The class or function.
        times: Timesteps, the first argument.
        options: Other arguments, by keyword.
        name: Name that the user knows it by; None takes its own.

    Raises:
        PidSamplerError: The sampler is no class or function, lacks an option, fails, or makes no scheduler.
    """
    if not callable(sampler):
        expected = "a spec, a scheduler or StepTable, or a class or function of timesteps"
        raise ConfigError(f"{'the sampler' if name is None else name} is {sampler!r}, expected {expected}")
    name = name or sampler_name(sampler)
    options = check_options(sampler, name, options=options)
    made = called(sampler, name, arguments=(times,), options=options)
    if not is_made(made):
        raise ConfigError(f"{name}(timesteps) returned {made!r}, expected a StepTable or a scheduler with table()")
    return made


def over_file(
    made: T, timesteps: object, *, folder: Path, name: str | None = None, times: Times | None = None
) -> T | FileSampler:
    """Return a scheduler that knows the SHA-256 of the file that its times were in, for the record.

    A table that is given a name knows that too, wherever its times are from.

    Args:
        made: A scheduler.
        timesteps: What its times were given as; only "@FILE" and "FILE.py:NAME" are of a file.
        folder: Folder where relative paths start.
        name: Name that the user knows the scheduler by; None takes its own.
        times: The times that it was made of; None takes its own.
    """
    digest = None if (file := file_of(timesteps)) is None else sha256(folder / file)
    if digest is None and not (name is not None and isinstance(made, StepTable)):
        return made
    if isinstance(made, TimesScheduler):
        made = copy.copy(made)
        object.__setattr__(made, "timesteps_sha256", digest)
        return made
    if isinstance(made, FileSampler):
        return replace(made, timesteps_sha256=digest)
    table = as_table(made)
    listed = getattr(made, "timesteps", table.times if times is None else times)
    return FileSampler(name or sampler_name(made), table, timesteps=tuple(map(float, listed)), timesteps_sha256=digest)


def called(function: Callable[..., Any], name: str, *, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    """Return what a function of the user's or of another package returns; what it raises becomes a PidSamplerError."""
    try:
        return function(*arguments, **options)
    except (PidSamplerError, MemoryError):
        raise
    except Exception as error:  # it may raise anything
        raise ConfigError(f"{name} failed: {type(error).__name__}: {error}") from error


def check_options(function: Callable[..., Any] | None, name: str, *, options: Mapping[str, Any]) -> dict[str, Any]:
    """Return options by their names, checked that `function` has them after its first argument; None has none.

    Args:
        function: A class or function.
        name: Name that the user knows it by.
        options: Values by name; that of "" is the first option's, see `spec`.

    Raises:
        PidSamplerError: The function has no such option, or its first one is given twice.
    """
    parameters = list(inspect.signature(function).parameters.values()) if options and function is not None else []
    known, named = [p.name for p in parameters[1:] if p.kind is not p.VAR_KEYWORD], dict(options)
    if "" in named:
        if not known:
            raise ConfigError(f"{name} has no options: leave {shown(named[''])} out")
        first = known[0]
        if first in named:
            raise ConfigError(f"{name} has {first} twice, without its name too: use one of them")
        named = {first: named.pop(""), **named}
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return named
    for option in named:
        if option not in known:
            takes = f"it takes {', '.join(known) if known else 'none'}"
            raise ConfigError(f"{name} has no option {shown(option)}: {did_you_mean(option, known=known)}{takes}")
    return named
