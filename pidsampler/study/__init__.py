"""Studies: settings that vary, what was measured of each, and a report. `Study(...).run(folder)` gives `Results`."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from .. import moved

if TYPE_CHECKING:
    from . import measures
    from .file import read_study
    from .parts import Flow, Network, ReportOptions, Truth
    from .results import Results, load
    from .study import Study

__all__ = ["Flow", "Network", "ReportOptions", "Results", "Study", "Truth", "load", "measures", "read_study"]

# What is imported when it is first used: other rooms need parts of this one only.
_LATER = {
    **dict.fromkeys(("Flow", "Network", "ReportOptions", "Truth"), "parts"),
    **dict.fromkeys(("Results", "load"), "results"),
    "Study": "study",
    "read_study": "file",
}
_moved = moved.names(__name__, within=1)


def __getattr__(name: str) -> Any:
    if name == "measures":
        return import_module(f"{__name__}.{name}")
    if name in _LATER:
        return getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
    return _moved(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
