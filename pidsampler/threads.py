"""How many cores there are to use, and the one pool of threads that all array work on the CPU shares."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import cache
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    from concurrent.futures import ThreadPoolExecutor

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 1 << 15  # elements that fit into a core's cache; a multiple of 4, so that noise begins at whole counters

_MOST = 8  # threads; each needs about a megabyte, and memory is no faster for more
_WORTH = 8 * CHUNK  # to hand work over costs as much as a chunk's arithmetic
_PARTS, _LEAST = 4, 4  # a core, so that one that is late or slow does less; and chunks of one
_LONGEST = 64  # chunks of a part: Ctrl-C waits for its end, as compiled code does not see it

_pool: tuple[int, ThreadPoolExecutor] | None = None


def core_limit() -> int | None:
    """Return OMP_NUM_THREADS, which users set, and Ray for its workers; None where it is not set to a whole number."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(said)) if said.isdecimal() else None


def count_cores() -> int:
    """Return how many cores this process may use: what the system and its container allow, at most `core_limit`."""
    available = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return min(available, _own_quota() or available, core_limit() or available)


def cpu_quota(folder: str | Path = "/sys/fs/cgroup") -> int | None:
    """Return how many cores a container's quota of CPU time stands for, rounded up; None if there is no quota.

    Args:
        folder: Where control groups are mounted, of version 2 (`cpu.max`) or 1 (`cpu/cpu.cfs_quota_us`).
    """
    v1 = _words(Path(folder, "cpu", "cpu.cfs_quota_us")) + _words(Path(folder, "cpu", "cpu.cfs_period_us"))
    for words in (_words(Path(folder, "cpu.max")), v1):
        if len(words) == 2 and all(word.isdecimal() for word in words):  # neither "max" nor -1
            quota, period = (int(word) for word in words)
            if period > 0:
                return max(1, -(-quota // period))
    return None


def map(work: Callable[[Item], Result], items: Iterable[Item], *, most: int = _MOST) -> list[Result]:
    """Return work(item) for each item, in order, on all cores.

    The caller does its share and waits for no thread that has not begun, so `work` may call this again.

    Args:
        work: Called in any thread.
        items: What to do.
        most: How many threads at once, the caller's included.

    Raises:
        Exception: What `work` raised for the first item that failed; those not begun are left out then.
    """
    waiting = list(items)
    results: dict[int, Result] = {}
    errors: dict[int, BaseException] = {}
    indices = count()  # its next() is atomic: each index goes to one thread

    def share() -> None:
        while not errors and (index := next(indices)) < len(waiting):
            try:
                results[index] = work(waiting[index])
            except BaseException as error:
                errors[index] = error

    others = min(count_cores(), most, len(waiting)) - 1
    futures = [_threads().submit(share) for _ in range(others)]
    share()
    for future in futures:
        if not future.cancel():
            future.result()
    if errors:
        error = errors[min(errors)]
        errors.clear()  # a thread that is not quite done holds them, and they hold all arrays of the failed calls
        try:
            raise error
        finally:
            del error
    return [results[index] for index in range(len(waiting))]


def in_parts(work: Callable[[int, int], Any], size: int) -> None:
    """Call work(start, stop) for parts of 0..size that begin at whole chunks, a few a core, where that pays."""
    cores = 1 if size < _WORTH else min(count_cores(), _MOST)
    part = CHUNK * (min(max(-(-size // (_PARTS * cores * CHUNK)), _LEAST), _LONGEST) if cores > 1 else _LONGEST)
    if part >= size:
        work(0, size)
        return
    map(lambda start: work(start, min(start + part, size)), range(0, size, part))


def _threads() -> ThreadPoolExecutor:
    """Return the pool, made anew where the number of cores has changed; the old one's threads end with their work."""
    global _pool
    cores = count_cores()
    if _pool is None or _pool[0] != cores:
        from concurrent.futures import ThreadPoolExecutor  # a tenth of the time of importing all of this package

        _pool = cores, ThreadPoolExecutor(max(1, cores - 1), "pidsampler")  # the caller is one of them
    return _pool[1]


def _forget() -> None:
    global _pool
    _pool = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)  # a child has none of its parent's threads


@cache
def _own_quota() -> int | None:
    return cpu_quota()


def _words(path: Path) -> list[str]:
    try:
        return path.read_text().split()
    except OSError:
        return []
