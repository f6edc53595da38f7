"""Backends by name, and by the arrays they own."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import cache
from typing import Any

import numpy as np

from ..errors import ConfigError, PidSamplerError
from ..plugins import Registry
from .base import Backend

# A factory is a class of a backend, or a function that makes one. Where it has an attribute `owns`, as a class has,
# `start` finds the backend by its arrays too: owns(x) says whether x is one of them.
Factory = Callable[[], Backend]

BACKENDS: Registry[Factory] = Registry(
    "backend", "pidsampler.backends", names=lambda factory: (getattr(factory, "name", None) or factory.__name__,)
)
"""The backends by name: functions or classes without arguments that make one."""


def _numpy() -> Backend:
    from .numpy import NumpyBackend

    return NumpyBackend()


class _Cupy:
    """Factory of the GPU's backend, which knows its arrays before CuPy is imported."""

    def __call__(self) -> Backend:
        from .cupy import CupyBackend

        return CupyBackend()

    @staticmethod
    def owns(x: Any) -> bool:
        from .cupy import CupyBackend

        return CupyBackend.owns(x)


BACKENDS.register(_numpy, name="numpy")
BACKENDS.register(_Cupy(), name="cupy")


def get_backend(backend: str | Backend) -> Backend:
    """Return a backend by name, made once so that its kernels compile once; or the backend object given.

    Raises:
        PidSamplerError: The name is unknown, the backend cannot be had here, or what is given is neither.
    """
    if isinstance(backend, str):
        return _made(BACKENDS.find(backend))
    if isinstance(backend, Backend) and not isinstance(backend, type):
        return backend
    raise ConfigError(f"backend={backend!r} is neither a name such as 'numpy' nor a backend object")


def backend_of(x: Any) -> Backend:
    """Return the backend whose memory an array lies in, the last registered first; numpy's where none owns it.

    Raises:
        PidSamplerError: x lies on a GPU that cannot be used from here.
    """
    if type(x) is not np.ndarray:  # no other package is imported for these
        for name in reversed(BACKENDS.names()):
            factory = None
            with suppress(PidSamplerError):  # another package's that is broken owns nothing; `get_backend` says why
                factory = BACKENDS.find(name)
            if getattr(factory, "owns", lambda x: False)(x):
                return get_backend(name)
    return get_backend("numpy")


@cache
def _made(factory: Factory) -> Backend:
    try:
        made = factory()
    except PidSamplerError:
        raise
    except Exception as error:  # another package's may raise anything
        raise ConfigError(f"the backend's factory {factory!r} failed: {type(error).__name__}: {error}") from error
    if not isinstance(made, Backend):
        raise ConfigError(f"the backend's factory {factory!r} made {made!r}, which lacks a method of a Backend")
    return made
