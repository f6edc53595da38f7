"""The runs of a fit: which there are, and what is told of their model calls."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from typing import Any

from ..search.compare import Pairs
from ..search.journal import Journal
from ..search.problem import Problem, Subject
from .flights import Flight

OnCall = Callable[[str, int], object]


class Told:
    """Tells of each call what is done.

    Args:
        journal: Counts them.
        about: How many there will be, about.
        on_call: Called as on_call(what, about); None tells nothing.
    """

    def __init__(self, journal: Journal, *, about: int, on_call: OnCall | None) -> None:
        self.what, self.about, self.journal = "solving", about, journal
        self._on_call = on_call

    def __call__(self) -> None:
        """Count a call, and tell of it."""
        self.journal.calls += 1
        if self._on_call is not None:
            self._on_call(self.what, max(self.about - self.journal.skipped, self.journal.calls))


def flights(problem: Problem, pairs: Pairs, *, told: Told) -> list[Flight]:
    """Return the runs, those of an image together."""
    return [Flight(problem, subject, seeds=seeds, on_call=told) for subject, seeds in _by_image(pairs)]


def described(pairs: Pairs) -> list[dict[str, Any]]:
    """Return the images of runs, each with its seeds and, of a file, its SHA-256 and what was cut out of it."""
    found = []
    for subject, seeds in _by_image(pairs):
        of_file = {"sha256": subject.sha256, "crop": subject.crop and list(subject.crop)}
        found.append({"name": subject.name, **{key: of for key, of in of_file.items() if of}, "seeds": seeds})
    return found


def _by_image(pairs: Pairs) -> list[tuple[Subject, list[int]]]:
    seeds, subjects = defaultdict(list), {}
    for subject, seed in pairs:
        subjects[subject.name] = subject
        seeds[subject.name].append(seed)
    return [(subjects[name], of) for name, of in seeds.items()]
