"""Backends by name, and by the arrays they own: ours, those of other packages, and what `register_backend` adds."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

import numpy as np

from ..errors import ConfigError, PidSamplerError, unknown_name
from .base import Backend

# A class of a backend, or a function that makes one. Its attribute `owns`, if it has one, says which arrays are its.
Factory = Callable[[], Backend]

_GROUP = "pidsampler.backends"  # of entry points


def _numpy() -> Factory:
    from .numpy import NumpyBackend

    return NumpyBackend


def _cupy() -> Factory:
    from .cupy import CupyBackend

    return CupyBackend


# Each is a function that imports the factory, so that a backend is imported when it is asked for.
_BUILT_IN: dict[str, Callable[[], Factory]] = {"numpy": _numpy, "cupy": _cupy}
_added: dict[str, Callable[[], Factory]] = {}


def register_backend(name: str, factory: Factory) -> None:
    """Add a backend for this process; other packages add one by an entry point of the group `pidsampler.backends`.

    Args:
        name: Name for `get_backend`.
        factory: A class of a backend, or a function without arguments that makes one. Where it has an attribute `owns`,
            as a class has, `start` finds the backend by its arrays too.

    Raises:
        PidSamplerError: The name is no text or is taken, or the factory cannot be called.
    """
    if not isinstance(name, str) or not callable(factory):
        raise ConfigError(f"backend {name!r} of {factory!r}: pass a name, and a class or function without arguments")
    if name in _known():
        raise ConfigError(f"there is a backend {name!r} already: pass another name")
    _added[name] = lambda: factory


def get_backend(backend: str | Backend) -> Backend:
    """Return a backend by name, made once so that its kernels compile once; or the backend object given.

    Raises:
        PidSamplerError: The name is unknown, the backend cannot be had here, or what is given is neither.
    """
    if isinstance(backend, str):
        return _made(backend)
    if isinstance(backend, Backend) and not isinstance(backend, type):
        return backend
    raise ConfigError(f"backend={backend!r} is neither a name such as 'numpy' nor a backend object")


def backend_of(x: Any) -> Backend:
    """Return the backend whose memory an array lies in, the last registered first; numpy's where none owns it.

    Raises:
        PidSamplerError: x lies on a GPU that cannot be used from here.
    """
    if type(x) is np.ndarray:  # no other package is imported for these
        return _made("numpy")
    for name, load in reversed(list(_known().items())):
        try:
            factory = load()
        except PidSamplerError:  # another package's that is broken owns nothing; `get_backend` says why
            continue
        if getattr(factory, "owns", lambda x: False)(x):
            return _made(name)
    return _made("numpy")


def _known() -> Mapping[str, Callable[[], Factory]]:
    return {**_BUILT_IN, **_of_other_packages(), **_added}


@cache
def _made(name: str) -> Backend:
    known = _known()
    if name not in known:
        raise unknown_name("backend", name, known)
    made = known[name]()()
    if not isinstance(made, Backend):
        raise ConfigError(f"what was registered as backend {name!r} made {made!r}, which lacks a method of a Backend")
    return made


@cache
def _of_other_packages() -> Mapping[str, Callable[[], Factory]]:
    from importlib.metadata import entry_points  # a tenth of the time of importing all of this package

    def loader(entry: Any) -> Callable[[], Factory]:
        def load() -> Factory:
            try:
                factory: Factory = entry.load()
            except Exception as error:  # whatever another package's import raises
                raise ConfigError(f"backend {entry.name!r} ({entry.value}) cannot be loaded: {error}") from error
            return factory

        return load

    return {entry.name: loader(entry) for entry in entry_points(group=_GROUP) if entry.name not in _BUILT_IN}
