"""The public names and what their docstrings say of them: for the site's reference, and for the test that it is whole.

What is public: the package's `__all__`, and that of each module of `MODULES`, or what such a module defines.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import re
import textwrap
import types
from collections.abc import Iterator
from functools import cache
from itertools import pairwise
from typing import Any, NamedTuple

from pidsampler.backends import Device, Stepper
from pidsampler.denoiser import Denoiser
from pidsampler.upscale.options import Options

# Modules below the package that are documented, in the order of the reference. A name is described where it is first.
MODULES = (
    "",
    "timesteps",
    "schedulers",
    "schedulers.registry",
    "table",
    "noise",
    "denoiser",
    "backends",
    "backends.plain",
    "errors",
    "io.records",
    "io.tables",
    "io.times",
    "onnx",
    "study",
    "study.plan",
    "study.run",
    "study.measures",
    "search",
    "learn",
    "bench",
    "export",
    "interop",
    "interop.k_diffusion",
)
# What classes keep without deriving from it: their methods take what these take.
CONTRACTS = (Denoiser, Device, Stepper)
# Modules whose names have a page for each module that defines them, because they are many.
SPLIT = ("timesteps", "schedulers")


class Entry(NamedTuple):
    """A public name: its page, its path from the package on, and what it is."""

    page: str
    path: str
    thing: Any

    @property
    def is_value(self) -> bool:
        """Whether it is a value or an alias of types: neither a class nor a function."""
        return self.thing is Any or not (inspect.isclass(self.thing) or inspect.isroutine(self.thing))


def public(module: types.ModuleType) -> list[str]:
    """Return the names of a module's `__all__`, or of what it or its submodules define."""
    if hasattr(module, "__all__"):
        return sorted(module.__all__)
    return sorted(
        name
        for name, value in vars(module).items()
        if not name.startswith("_") and f"{getattr(value, '__module__', None)}.".startswith(f"{module.__name__}.")
    )


@cache
def entries() -> tuple[Entry, ...]:
    """Return each public name once, but for modules."""
    found: list[Entry] = []
    seen: set[Any] = set()
    for path in MODULES:
        module = importlib.import_module(f"pidsampler.{path}".rstrip("."))
        for name in public(module):
            thing = getattr(module, name)
            key = f"{path}.{name}" if isinstance(thing, int) else id(thing)
            if isinstance(thing, types.ModuleType) or key in seen:
                continue
            seen.add(key)
            made_in = getattr(thing, "__module__", module.__name__)
            page = made_in if path in SPLIT and made_in.startswith(f"{module.__name__}.") else module.__name__
            found.append(Entry(page, f"{module.__name__}.{name}", thing))
    return tuple(found)


def described_bases(thing: type) -> set[type]:
    """Return the classes that a class derives from and that are public themselves."""
    return {entry.thing for entry in entries() if inspect.isclass(entry.thing)} & {*thing.__mro__[1:]}


def members(thing: type) -> Iterator[tuple[str, Any]]:
    """Yield the public methods and properties of a class, but for those that a public base has in the same form."""
    elsewhere = {*described_bases(thing), tuple, *BaseException.__mro__}
    for name, static in sorted(inspect.getmembers_static(thing)):
        if name.startswith("_") and name != "__call__":
            continue
        owner = next(base for base in thing.__mro__ if name in vars(base))
        if owner in elsewhere:
            continue
        is_property = isinstance(static, property) or type(static).__name__ == "cached_property"
        if is_property or callable(getattr(thing, name)):
            yield name, static if is_property else getattr(thing, name)


def section(docstring: str, title: str) -> str:
    """Return a section of a docstring in Google's style, without its title and indentation; "" where it has none."""
    found = re.search(rf"^{title}:\n((?:    .*\n|\n)+)", f"{docstring}\n", re.MULTILINE)
    return textwrap.dedent(found[1]) if found else ""


def items(text: str) -> dict[str, str]:
    """Return what a section says, by name; lines after a name's first one are indented."""
    found = re.findall(r"^\**(\w+):(.*\n(?:[ ]+.*\n|\n)*)", text, re.MULTILINE)
    return {name: textwrap.indent(words.strip(), "    ").lstrip() for name, words in found}


def arguments(docstring: str) -> dict[str, str]:
    """Return what a docstring's Args and Attributes say, by name."""
    return items(section(docstring, "Args")) | items(section(docstring, "Attributes"))


def inherited(thing: Any) -> dict[str, str]:
    """Return what is said of the arguments of a class or function, by itself or by the classes that it is made of."""
    found: dict[str, str] = {}
    if inspect.isclass(thing):
        docstrings = [inspect.cleandoc(vars(base).get("__doc__") or "") for base in thing.__mro__ if base is not object]
    else:
        docstrings = [inspect.getdoc(thing) or ""]
        owner, name = _owner(thing)
        docstrings += [inspect.getdoc(vars(base)[name]) or "" for base in owner.__mro__ if name in vars(base)]
        docstrings += [inspect.getdoc(getattr(kept, name)) or "" for kept in CONTRACTS if _keeps(owner, kept, name)]
        docstrings += [inspect.getdoc(Options) or ""] if "`Options`" in docstrings[0] else []
    for docstring in reversed(docstrings):
        found |= arguments(docstring)
    return found


def with_inherited(docstring: str, thing: Any) -> str:
    """Return a docstring whose Args say of each argument what is said of it where it is inherited from, too."""
    own, known = arguments(docstring), inherited(thing)
    more = [f"    {name}: {known[name]}\n" for name in parameters(thing) if name in known and name not in own]
    if not more:
        return docstring
    head, _, rest = f"{docstring.rstrip()}\n".partition("\nArgs:\n")
    own_part = re.match(r"(?:    .*\n)*", rest)[0] if rest else ""
    if not rest:
        found = re.search(r"^(?:Returns|Yields|Raises):\n", head, re.MULTILINE)
        at = found.start() if found else len(head)
        head, rest = head[:at], head[at:]
    said = own_part + "".join(more)
    return f"{head.rstrip()}\n\nArgs:\n{said}\n{rest[len(own_part) :].lstrip(chr(10))}"


def short(entry: Entry) -> Iterator[str]:
    """Yield what a docstring may call a public name: with its module, or a class by its name alone."""
    yield entry.path
    yield entry.path.removeprefix("pidsampler.")
    name = entry.path.rpartition(".")[2]
    if inspect.isclass(entry.thing) and not name.islower():
        yield name


def _keeps(owner: type, contract: type, name: str) -> bool:
    """Whether a class has all methods of a contract, and this is one of them."""
    methods = [each for each, value in vars(contract).items() if inspect.isfunction(value) and each[0] != "_"]
    return name in methods and all(hasattr(owner, each) for each in methods)


def _owner(function: Any) -> tuple[type, str]:
    """The class that a method is defined in, and its name there; `object` for other functions."""
    place = getattr(function, "__qualname__", "").rpartition(".")
    owner = getattr(inspect.getmodule(inspect.unwrap(function)), place[0], object)
    return (owner if inspect.isclass(owner) else object), place[2]


def parameters(thing: Any) -> list[str]:
    """Return the names that a function or a class' constructor takes; none of an error or a protocol."""
    if inspect.isclass(thing) and (issubclass(thing, BaseException) or getattr(thing, "_is_protocol", False)):
        return []
    return [name for name in inspect.signature(thing).parameters if name not in ("self", "cls")]


def value_docstring(entry: Entry) -> str:
    """Return the text below the assignment of a value, which Python itself does not keep; "" where there is none."""
    name = entry.path.rpartition(".")[2]
    for module in _homes(entry):
        body = ast.parse(inspect.getsource(module)).body
        for assigned, after in pairwise(body):
            targets = assigned.targets if isinstance(assigned, ast.Assign) else [getattr(assigned, "target", None)]
            if [getattr(target, "id", None) for target in targets] == [name] and isinstance(after, ast.Expr):
                text = getattr(after.value, "value", None)
                return inspect.cleandoc(text) if isinstance(text, str) else ""
    return ""


def _homes(entry: Entry) -> Iterator[types.ModuleType]:
    """The module of a value's path, and those below that have the same value under the same name."""
    path, _, name = entry.path.rpartition(".")
    module = importlib.import_module(path)
    yield module
    for node in ast.walk(ast.parse(inspect.getsource(module))):
        if isinstance(node, ast.ImportFrom) and any(alias.name == name for alias in node.names):
            yield importlib.import_module(f"{'.' * node.level}{node.module or ''}", module.__package__)
