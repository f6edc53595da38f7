"""How many cores there are to use."""

from __future__ import annotations

import os


def core_limit() -> int | None:
    """Return OMP_NUM_THREADS, which users set, and Ray for its workers; None where it is not set to a whole number."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(said)) if said.isdecimal() else None


def count_cores() -> int:
    """Return how many cores this process may use: those that the system lets it, at most `core_limit`."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, core_limit() or available)
