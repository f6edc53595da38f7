"""The measures by name, and those of a file of one's own."""

from __future__ import annotations

from ...errors import ConfigError
from ...plugins import Registry, load_from_file, split_file
from ...values import word
from . import flows, pictures
from .base import Measure


def _undecorated(thing: object, name: str) -> str | None:
    fits = isinstance(thing, Measure) and thing.name == name
    return None if fits else "is no measure of that name: decorate it by pidsampler.study.measures.measure"


MEASURES: Registry[Measure] = Registry(
    "measure",
    "pidsampler.measures",
    names=lambda thing: (thing.name,),
    wrong=_undecorated,
    beside="or file.py:function of your own",
    where="list(study.measures.MEASURES)",
)
"""The measures by name, those of plug-ins too."""
for _module in (pictures, flows):
    for _found in vars(_module).values():
        if isinstance(_found, Measure):
            MEASURES.register(_found)


def get_measure(name: str | Measure) -> Measure:
    """Return a measure of MEASURES or of another package, or one of the user's own.

    Args:
        name: A name in MEASURES, or "path/to/file.py:function" whose function was decorated by @measure. The file is
            run, as by an import, and again only once it has changed. A measure is returned as it is.

    Raises:
        PidSamplerError: The name is unknown; the file is missing or fails; it has no such function, or a plain one.
    """
    if isinstance(name, Measure):
        return name
    parts = split_file(word("measure", name))
    if parts is None:
        return MEASURES.find(name)
    found = load_from_file(*parts, kind="measure")
    if not isinstance(found, Measure):
        raise ConfigError(f"{name} is not a measure: decorate it by pidsampler.study.measures.measure")
    return found
