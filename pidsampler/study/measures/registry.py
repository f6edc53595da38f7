"""The measures by name, and those of a file of one's own."""

from __future__ import annotations

import importlib.util
import sys
from functools import cache
from pathlib import Path
from types import ModuleType

from ...errors import ConfigError, FileError, unknown_name
from . import flows, pictures
from .base import Measure

MEASURES: dict[str, Measure] = {
    found.name: found for module in (pictures, flows) for found in vars(module).values() if isinstance(found, Measure)
}


def get_measure(name: str) -> Measure:
    """Return a measure of MEASURES, or one of the user's own.

    Args:
        name: A name in MEASURES, or "path/to/file.py:function" whose function was decorated by @measure. The file is
            run, as by an import, and again only once it has changed.

    Raises:
        PidSamplerError: The name is unknown; the file is missing or fails; it has no such function, or a plain one.
    """
    if name in MEASURES:
        return MEASURES[name]
    path, _, function = name.rpartition(":")
    if not path.endswith(".py"):
        raise ConfigError(f"{unknown_name('measure', name, MEASURES)}, or file.py:function of your own")
    try:
        changed = Path(path).stat().st_mtime_ns
    except OSError as error:
        raise FileError(f"cannot read {path!r}, to take a measure from: {error.strerror or error}") from error
    found = getattr(_run_file(path, changed), function, None)
    if found is None:
        raise ConfigError(f"{path} has no function {function!r}")
    if not isinstance(found, Measure):
        raise ConfigError(f"{name} is not a measure: decorate it by pidsampler.study.measures.measure")
    return found


@cache  # what a file has loaded, such as a network, stays
def _run_file(path: str, changed: int) -> ModuleType:
    module_name = f"pidsampler measures of {path}"  # no module of this name can be shadowed
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
