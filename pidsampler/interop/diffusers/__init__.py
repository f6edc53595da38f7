"""Doors to diffusers: a scheduler of its configs here, and a sampler of ours in its pipelines."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from ...errors import missing_extra
from .config import from_diffusers

if TYPE_CHECKING:
    from .scheduler import TableScheduler

__all__ = ["TableScheduler", "from_diffusers"]


def __getattr__(name: str) -> Any:
    # diffusers, which loads a pipeline's parts by their module, asks it for the base class too.
    if name not in ("TableScheduler", "SchedulerMixin"):
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    try:
        scheduler = import_module(f"{__name__}.scheduler")
    except ModuleNotFoundError as error:
        if error.name not in ("torch", "diffusers"):
            raise
        raise missing_extra(error.name, "diffusers") from error
    globals()[name] = found = getattr(scheduler, name)
    return found
