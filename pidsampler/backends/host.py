"""The memory of this machine, as its system tells it: Linux does, also in a container; others may not."""

from __future__ import annotations

from pathlib import Path


def free_memory() -> int | None:
    """Return how many bytes can still be taken, or None where the system does not say."""
    found = [1024 * int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemAvailable:")]
    # A container's own limit, of either version of control groups; what files' pages take of it is given back.
    for folder, limit, used in (
        ("/sys/fs/cgroup", "memory.max", "memory.current"),
        ("/sys/fs/cgroup/memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        pages = [int(line.split()[1]) for line in _lines(f"{folder}/memory.stat") if line.startswith("inactive_file ")]
        for most, now in zip(_lines(f"{folder}/{limit}"), _lines(f"{folder}/{used}"), strict=False):
            if most.strip().isdecimal():
                found.append(int(most) - int(now) + sum(pages))
    return max(0, min(found)) if found else None


def held_memory() -> int | None:
    """Return how many bytes this process has in memory, or None where the system does not say."""
    held = [1024 * int(line.split()[1]) for line in _lines("/proc/self/status") if line.startswith("VmRSS:")]
    return held[0] if held else None


def _lines(path: str) -> list[str]:
    try:
        return Path(path).read_text().splitlines()
    except OSError:
        return []
