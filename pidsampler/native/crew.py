"""The threads that help with compiled rows: they wait in the library, where waking one needs nothing of Python."""

from __future__ import annotations

import os
from contextlib import suppress
from threading import Lock, Thread

from ..threads import cores_for
from .library import Crew, Library

_crews: dict[Library, Crew] = {}
_beginning = Lock()


def crew_for(library: Library, size: int) -> Crew | None:
    """Wake the threads that are to help with a row of so many elements; None where one core is to do it.

    There are as many as the system gives, less than the cores by one: the caller does what they do not.
    """
    cores = cores_for(size)
    if cores == 1:
        return None
    crew = _crews.get(library)
    if crew is None:
        crew = _begin(library, cores - 1)
    library.call(crew)
    return crew


def _begin(library: Library, count: int) -> Crew:
    """Have a crew; where the system gives no thread, the next row tries again."""
    with _beginning:
        crew = _crews.get(library) or library.crew()
        with suppress(RuntimeError):
            for k in range(count if library not in _crews else 0):
                Thread(target=library.help, args=(crew,), name=f"pidsampler_row_{k}", daemon=True).start()
                _crews[library] = crew
    return crew


def _forget() -> None:
    global _beginning
    _crews.clear()
    _beginning = Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)  # a child has none of its parent's threads
