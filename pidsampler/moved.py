"""What moved since version 0.1 works for one release, with a DeprecationWarning that says what to write now.

Import paths, by `MODULES` and `NAMES`; arguments that became keyword-only or have new names, by `keywords`; attributes
that have new names, by `attribute`.
"""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from importlib.machinery import ModuleSpec
from operator import attrgetter
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from importlib.abc import Loader

import attrs

F = TypeVar("F", bound=Callable[..., Any])

_PACKAGE = __package__

# Old module -> new module, both below the package.
MODULES = {
    "backends.cupy_backend": "backends.cupy",
    "backends.lanczos": "image.lanczos",
    "backends.numpy_backend": "backends.numpy",
    "batch": "upscale.batch",
    "blocks": "image.blocks",
    "captions": "io.captions",
    "colour": "image.color",
    "cores": "threads",
    "doctor": "onnx.doctor",
    "draws": "noise.coupling",
    "engine": "jobs.run",
    "export.command": "cli.export",
    "extras": "errors",
    "finish": "upscale.finish",
    "hub": "onnx.hub",
    "images": "io.pictures",
    "latents": "io.latents",
    "memory": "upscale.memory",
    "plot": "schedulers.plot",
    "problem": "search.problem",
    "progress": "cli.progress",
    "ray_engine": "jobs.ray",
    "registry": "schedulers.registry",
    "sizes": "image.size",
    "source": "upscale.source",
    "spec": "schedulers.spec",
    "study.album": "study.report.album",
    "study.command": "cli.study",
    "study.figures": "study.report.figures",
    "study.flow_measures": "study.measures.flows",
    "study.law": "study.measures.law",
    "study.measure": "study.measures.base",
    "study.picture_measures": "study.measures.pictures",
    "study.summary": "study.report.summary",
    "study.tables": "study.report.tables",
    "tiles": "upscale.tiles",
    "torch_noise": "noise.torch",
    "upscaler": "upscale.upscaler",
}

# Module that stayed -> names that left it -> their new module, with the new name after a colon where it has one.
NAMES = {
    "backends": {"DESPECKLE": "image.despeckle", "resolve_device": "onnx.device"},
    "bench": {"Plan": "bench:BenchPlan"},
    "bench.measurement": {"Plan": "bench.measurement:BenchPlan"},
    "bench.peers": {"Stepper": "bench.peers:StepImplementation"},
    "export.folder": {"Plan": "export.folder:ExportPlan"},
    "export.published": {"LICENCE": "export.published:LICENSE"},
    "io.pictures": {"read_record": "io.records:find_record", "remove_leftovers": "io.atomic"},
    "noise.coupling": dict.fromkeys(("NOISES", "with_noise"), "noise.registry"),
    "jobs.run": {"ENGINES": "jobs.base", "serve": "jobs.processes"},
    "onnx.doctor": {"Problem": "onnx.doctor:Fault"},
    "onnx.model": dict.fromkeys(
        ("bundled_models", "check_bundled", "model_has_null_caption", "model_hashes", "model_manifest"), "onnx.folders"
    ),
    "schedulers.base": {
        "renoised": "schedulers.base:ancestral_step",
        "sde_shares": "schedulers.base:noise_split",
    },
    "search": {"read_list": "io.times", "write_list": "io.times"},
    "search.problem": {"Trials": "search.trials"},
    "study.plan": {"read_study": "study.file", "Flow": "study.parts", "Study": "study.study"},
    "study.run": {"Finished": "study.results:Results"},
    "study.work": {
        "Job": "study.work:StudyJob",
        "Outcome": "study.work:RunOutcome",
        "Worker": "study.work:StudyWorker",
    },
    "upscale.batch": {
        "Job": "upscale.batch:FileJob",
        "Outcome": "upscale.batch:FileOutcome",
        "Worker": "upscale.batch:FileWorker",
    },
    "upscale.memory": {
        "Plan": "upscale.memory:TilePlan",
        "SMALL": "upscale.memory:WHOLE_BELOW",
        "SPARE": "upscale.memory:HEADROOM",
    },
}


def _warn(old: str, new: str, stacklevel: int) -> None:
    asking = inspect.stack(0)[stacklevel]
    if asking.function == "_handle_fromlist":  # of `from package import name`, which asks for the name once more
        return
    warnings.warn(
        f"{_PACKAGE}.{old} has moved to {_PACKAGE}.{new}: the old path works until version 0.3",
        DeprecationWarning,
        stacklevel=stacklevel + 1,
    )


class _Moved:
    """Finds a module of `MODULES` at its new place, where no other finder has found one."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        old = fullname.removeprefix(f"{_PACKAGE}.")
        return ModuleSpec(fullname, cast("Loader", self)) if old in MODULES and old != fullname else None

    def create_module(self, spec: ModuleSpec) -> None:
        """Leave that to Python."""

    def exec_module(self, module: ModuleType) -> None:
        old = module.__name__.removeprefix(f"{_PACKAGE}.")
        _warn(old, MODULES[old], stacklevel=2)
        sys.modules[module.__name__] = importlib.import_module(f"{_PACKAGE}.{MODULES[old]}")


def names(module: str, *, within: int = 0) -> Callable[[str], Any]:
    """Return the `__getattr__` of a module for what has left it, submodules among it.

    Args:
        module: The module's `__name__`.
        within: Number of functions between it and who asks, such as 1 for a `__getattr__` that calls it.
    """
    here = module.removeprefix(_PACKAGE).removeprefix(".")

    def attribute(name: str) -> Any:
        inside = f"{here}.{name}".removeprefix(".")
        if inside in MODULES:
            _warn(inside, MODULES[inside], stacklevel=2 + within)
            return importlib.import_module(f"{_PACKAGE}.{MODULES[inside]}")
        if name not in NAMES.get(here, {}):
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        new, _, renamed = NAMES[here][name].partition(":")
        renamed = renamed or name
        _warn(inside, f"{new}.{renamed}", stacklevel=2 + within)
        return getattr(importlib.import_module(f"{_PACKAGE}.{new}"), renamed)

    return attribute


def install() -> None:
    """Let the old paths be found; once."""
    if not any(isinstance(finder, _Moved) for finder in sys.meta_path):
        sys.meta_path.append(_Moved())


def keywords(**renamed: str) -> Callable[[F], F]:
    """Return a decorator that lets a function, or a class, be called as in 0.1.

    Arguments that became keyword-only may be given by position, in order, and old keywords by their new names.

    Args:
        **renamed: Old keyword -> new keyword.
    """

    def decorate(target: F) -> F:
        if not isinstance(target, type):
            return _as_before(target, renamed)
        target.__init__ = _as_before(target.__init__, renamed)  # type: ignore[misc]
        return target

    return decorate


def bundles(**parts: type) -> Callable[[F], F]:
    """Return a decorator that lets a class be called with the arguments of what are its parts now.

    Their values can be read from it, too.

    Args:
        **parts: Parameter of the class -> the attrs class that it takes.
    """

    def decorate(target: F) -> F:
        made: Any = target
        plain = made.__init__

        @functools.wraps(plain)
        def init(self: object, *arguments: Any, **options: Any) -> None:
            for part, kind in parts.items():
                if given := {f.name: options.pop(f.name) for f in attrs.fields(kind) if f.name in options}:
                    _deprecated(f"pass {', '.join(given)} of {made.__name__} in {part}={kind.__name__}(...)")
                    options[part] = kind(**given)
            plain(self, *arguments, **options)

        made.__init__ = init
        for part, kind in parts.items():
            for f in attrs.fields(kind):
                setattr(made, f.name, attribute(f.name, f"{part}.{f.name}"))
        return target

    return decorate


def attribute(old: str, new: str) -> Any:
    """Return a property for an attribute that is called `new` now, such as "license" or "report.title"."""

    def read(self: object) -> Any:
        _deprecated(f"the attribute {old} of {type(self).__name__} is called {new} now")
        return attrgetter(new)(self)

    return property(read, doc=f"Old name of `{new}`, until version 0.3.")


def _as_before(function: F, renamed: Mapping[str, str]) -> F:
    parameters = inspect.signature(function).parameters.values()
    most = sum(p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD) for p in parameters)
    later = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
    name = function.__qualname__.removesuffix(".__init__")

    @functools.wraps(function)
    def called(*arguments: Any, **options: Any) -> Any:
        extra = arguments[most:]
        if not extra and not renamed:
            return function(*arguments, **options)
        for old in renamed.keys() & options.keys():
            if (new := renamed[old]) not in options:
                _deprecated(f"the parameter {old} of {name} is called {new} now")
                options[new] = options.pop(old)
        if extra:
            if len(extra) > len(later) or options.keys() & set(later[: len(extra)]):
                return function(*arguments, **options)  # raises what Python says of it
            _deprecated(f"pass {', '.join(later[: len(extra)])} of {name} by keyword")
            options.update(zip(later, extra, strict=False))
        return function(*arguments[:most], **options)

    return called  # type: ignore[return-value]


def _deprecated(text: str) -> None:
    warnings.warn(f"{text}: this works until version 0.3", DeprecationWarning, stacklevel=3)
