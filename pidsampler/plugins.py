"""What comes from outside of the package, by name: registries with entry points, and objects of a user's own files."""

from __future__ import annotations

import importlib.util
import re
import stat
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar

from .errors import ConfigError, FileError, unknown_name
from .values import file_path, function, word, words

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

T = TypeVar("T")

_FILE = re.compile(r"(?P<file>.*?\.py):(?P<name>.*)", re.DOTALL)


def _own_name(thing: Any) -> tuple[str, ...]:
    return (thing.__name__,)


def _not_callable(thing: object, name: str) -> str | None:
    return None if callable(thing) else "is no function"


class Registry(Mapping[str, T]):
    """Things of one kind by name: ours, those that a program registers, and those of other packages' entry points.

    As a mapping it holds what was registered in this process, in that order. `find` knows aliases and entry points too;
    an entry point never takes the place of what was registered.

    Args:
        kind: What an error calls such a thing, such as "scheduler".
        group: Group of entry points by which other packages add to it.
        names: Returns the names a thing has by itself, its aliases after its own; by default its `__name__`.
        wrong: Called with a thing and its name; returns what is wrong, such as "is no function", or None.
        beside: What else can be passed where a name is unknown, such as "or a file", for the error.
        where: What lists the names, where they are too many for an error, such as "list_schedulers()".
    """

    def __init__(
        self,
        kind: str,
        group: str,
        *,
        names: Callable[[Any], tuple[str, ...]] = _own_name,
        wrong: Callable[[Any, str], str | None] = _not_callable,
        beside: str = "",
        where: str = "",
    ) -> None:
        self._kind, self._group, beside = word("kind", kind), word("group", group), word("beside", beside)
        self._names = function("names", names, takes="(thing)")
        self._wrong = function("wrong", wrong, takes="(thing, name)")
        self._beside = f", {beside}" if beside else ""
        self._where = word("where", where) or None
        self._things: dict[str, T] = {}
        self._aliases: dict[str, str] = {}

    def __getitem__(self, name: str) -> T:
        return self._things[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._things)

    def __len__(self) -> int:
        return len(self._things)

    def __repr__(self) -> str:
        return f"<Registry of {self._kind}: {', '.join(self)}>"

    def register(self, thing: Any = None, *, name: str | None = None, aliases: Iterable[str] = ()) -> Any:
        """Add a thing; as a decorator, with or without arguments, it returns what it decorates.

        Args:
            thing: A class, function or object of the registry's kind.
            name: Name to find it by; None takes its own.
            aliases: Other names for it, beside its own aliases.

        Raises:
            PidSamplerError: The thing is of another kind, or a name is taken.
        """
        if thing is None:
            return lambda decorated: self.register(decorated, name=name, aliases=aliases)
        try:
            own, *others = self._names(thing)
        except (AttributeError, TypeError, ValueError):  # its own fault, told below, or an object without a name
            own, others = "", []
        own = own if name is None else word("name", name)
        if (wrong := self._wrong(thing, own)) is not None:
            raise ConfigError(f"{self._kind} {own!r} ({thing!r}) {wrong}")
        if not own:
            raise ConfigError(f"{self._kind} {thing!r} has no name: pass name=")
        taken = self._things.keys() | self._aliases.keys()
        others = [*others, *words("aliases", aliases)]
        for each in (own, *others):
            if each in taken and not self._is_made_again(each, thing):
                raise ConfigError(f"there is a {self._kind} {each!r} already: pass another name")
        self._things[own] = thing
        self._aliases |= dict.fromkeys(others, own)
        return thing

    def _is_made_again(self, name: str, thing: Any) -> bool:
        """Whether it is the definition of the same name again, as where a notebook's cell runs twice."""
        known = self._things[self._aliases.get(name, name)]
        places = [(getattr(it, "__module__", None), getattr(it, "__qualname__", None)) for it in (known, thing)]
        return places[0] == places[1] and places[0][1] is not None

    def unregister(self, name: str) -> None:
        """Take away what was registered, with its aliases.

        Raises:
            PidSamplerError: Nothing was registered by that name.
        """
        if word(self._kind, name) not in self._things:
            raise unknown_name(self._kind, name, known=self._things)
        del self._things[name]
        self._aliases = {alias: own for alias, own in self._aliases.items() if own != name}

    def find(self, name: str, *, others: Iterable[str] = ()) -> T:
        """Return the thing of a name or alias.

        Args:
            name: Name, alias, or the name of an entry point.
            others: Further names that the caller knows, for the error.

        Raises:
            PidSamplerError: The name is unknown, or another package's thing cannot be loaded or is of another kind.
        """
        word(self._kind, name)
        if (own := self._aliases.get(name, name)) in self._things:
            return self._things[own]
        points = self._entry_points()
        if name not in points:
            known = [*self._things, *self._aliases, *others, *points]
            error = unknown_name(self._kind, name, known=known, where=self._where)
            raise ConfigError(f"{error}{self._beside}")
        return self._loaded(points[name])

    def names(self) -> list[str]:
        """Return the names of what was registered, then of what other packages add."""
        return [*self._things, *self._entry_points()]

    def knows(self, name: str) -> bool:
        """Return whether `find` knows a name or alias."""
        word(self._kind, name)
        return name in self._things or name in self._aliases or name in self._entry_points()

    def everything(self) -> list[T]:
        """Return what was registered, then what other packages add.

        Raises:
            PidSamplerError: Another package's thing cannot be loaded or is of another kind.
        """
        return [*self._things.values(), *map(self._loaded, self._entry_points().values())]

    def _entry_points(self) -> dict[str, EntryPoint]:
        from importlib.metadata import entry_points  # a tenth of the time of importing all of this package

        taken = self._things.keys() | self._aliases.keys()
        return {entry.name: entry for entry in entry_points(group=self._group) if entry.name not in taken}

    def _loaded(self, entry: EntryPoint) -> T:
        where = f"{self._kind} {entry.name!r} ({entry.value})"
        try:
            thing: T = entry.load()
        except Exception as error:  # whatever another package's import raises
            raise ConfigError(f"{where} cannot be loaded: {error}") from error
        if (wrong := self._wrong(thing, entry.name)) is not None:
            raise ConfigError(f"{where} {wrong}")
        return thing


def split_file(text: str) -> tuple[str, str] | None:
    """Return (FILE.py, NAME) of the text "FILE.py:NAME", or None for any other."""
    found = _FILE.fullmatch(word("text", text))
    return None if found is None else (found["file"], found["name"])


def load_from_file(path: str | Path, name: str, *, kind: str) -> Any:
    """Return an object of a Python file.

    The file is run, as by an import, and again only once it has changed.

    Args:
        path: The file.
        name: Name of the object in it.
        kind: What it is to be, such as "measure", for the error.

    Raises:
        PidSamplerError: The file is missing or fails, or has no such name.
    """
    file_path("path", path)
    word("kind", kind)
    try:
        about = Path(path).stat()
        if not stat.S_ISREG(about.st_mode):  # a pipe would not end
            raise ValueError("it is no file")
    except (OSError, ValueError) as error:  # ValueError of a null byte
        why = getattr(error, "strerror", None) or error
        raise FileError(f"cannot read {str(path)!r}, to take a {kind} from: {why}") from error
    found = getattr(_run_file(str(path), about.st_mtime_ns), word("name", name), None)
    if found is None:
        raise ConfigError(f"{path} has no function {name!r}, to take a {kind} from")
    return found


@cache  # what a file has loaded, such as a network, stays
def _run_file(path: str, changed: int) -> ModuleType:
    module_name = f"pidsampler file {path}"  # no module of this name can be shadowed
    spec = importlib.util.spec_from_file_location(module_name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module  # dataclasses and pickle look there
    try:
        spec.loader.exec_module(module)
    except Exception as error:  # the user's file may raise anything
        del sys.modules[module_name]
        raise FileError(f"{path} cannot be imported: {type(error).__name__}: {error}") from error
    return module
