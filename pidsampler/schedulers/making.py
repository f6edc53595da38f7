"""Schedulers that a user's own class, function or file makes, and what is said where they cannot."""

from __future__ import annotations

import inspect
import os
from collections.abc import Callable, Mapping
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import Any, TypeGuard

from ..errors import ConfigError, PidSamplerError, did_you_mean
from ..io.files import sha256
from ..io.tables import read_table
from ..table import Scheduler, StepTable
from ..timesteps import Times
from ..values import shown

# A spec or "@FILE.json", a scheduler, a StepTable, or a class or function of timesteps that makes one of the two.
SamplerLike = str | Scheduler | StepTable | Callable[..., Any]


@dataclass(frozen=True, repr=False)
class FileSampler:
    """A sampler of a file: its table, which can be sent to another process, under the name it was given by.

    Args:
        source: The text that named it, such as "my.py:heun@uniform:8" or "@table.json".
        steps: The table.
        timesteps: The times that the table was made of.
        sha256: That of the file.
        own: Its name among the model's own tables; None where it is not one of them.
    """

    source: str
    steps: StepTable
    _: KW_ONLY
    timesteps: tuple[float, ...]
    sha256: str | None = None
    own: str | None = None

    def table(self) -> StepTable:
        """Return the table."""
        return self.steps

    def __repr__(self) -> str:
        return self.source

    def _repr_html_(self) -> str:
        return self.steps.html(self.source)


def table_of(name: str, *, folder: Path, tables: Mapping[str, Path]) -> FileSampler:
    """Return the sampler of "@NAME": of the model's own tables the one of that name, else of the file.

    Args:
        name: What follows @.
        folder: Folder where relative paths start.
        tables: Files of the model's own tables by name.

    Raises:
        PidSamplerError: There is neither, or the file holds no table.
    """
    if tables and name not in tables and not os.path.lexists(folder / name):
        meant = did_you_mean(name, known=tables)
        raise ConfigError(
            f"there is no table {shown(f'@{name}')}: {meant}the model's own are {', '.join(f'@{n}' for n in tables)}, "
            "and there is no such file"
        )
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
    check_options(sampler, name, options=options)
    made = called(sampler, name, arguments=(times,), options=options)
    if not is_made(made):
        raise ConfigError(f"{name}(timesteps) returned {made!r}, expected a StepTable or a scheduler with table()")
    return made


def called(function: Callable[..., Any], name: str, *, arguments: tuple[Any, ...], options: Mapping[str, Any]) -> Any:
    """Return what a function of the user's or of another package returns; what it raises becomes a PidSamplerError."""
    try:
        return function(*arguments, **options)
    except (PidSamplerError, MemoryError):
        raise
    except Exception as error:  # it may raise anything
        raise ConfigError(f"{name} failed: {type(error).__name__}: {error}") from error


def check_options(function: Callable[..., Any] | None, name: str, *, options: Mapping[str, Any]) -> None:
    """Check that `function`, known to the user as `name`, has the options after its first argument; None has none."""
    parameters = list(inspect.signature(function).parameters.values()) if options and function is not None else []
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    known = [p.name for p in parameters[1:]]
    for option in options:
        if option not in known:
            takes = f"it takes {', '.join(known) if known else 'none'}"
            raise ConfigError(f"{name} has no option {shown(option)}: {did_you_mean(option, known=known)}{takes}")
