"""How many cores there are to use, and the one pool of threads that array work on the CPU shares.

Compiled rows have threads of their own, see `native.crew`.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from contextlib import suppress
from functools import cache
from itertools import count
from pathlib import Path
from queue import SimpleQueue
from threading import Lock, Thread
from typing import Any, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

CHUNK = 1 << 15  # elements that fit into a core's cache; a multiple of 4, so that noise begins at whole counters

_MOST = 8  # threads; each needs about a megabyte, and memory is no faster for more
_WORTH = 8 * CHUNK  # to hand work over costs as much as a chunk's arithmetic
_PARTS, _LEAST = 2, 4  # a core, so that one that is late does less, at 10 us each; and chunks of one
_LONGEST = 64  # chunks of a part: Ctrl-C waits for its end, as compiled code does not see it

_waiting: SimpleQueue[Callable[[], object]] = SimpleQueue()  # what the threads take their work from
_begun = 0  # of these threads
_beginning = Lock()


def core_limit() -> int | None:
    """Return OMP_NUM_THREADS, which users set, and Ray for its workers; None where it is not set to a whole number."""
    said = os.environ.get("OMP_NUM_THREADS", "")
    return max(1, int(said)) if said.isdecimal() else None


@cache
def count_cores() -> int:
    """Return how many cores this process may use: what the system and its container allow, at most `core_limit`.

    They are counted once, as it costs as much as a small row: a change in a process that has begun is not seen.
    """
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

    helpers = [_Helper(share) for _ in range(min(count_cores(), most, len(waiting)) - 1)]
    if _begun < len(helpers):
        _begin(len(helpers))
    share()
    for helper in helpers:
        helper.wait()
    if errors:
        error = errors[min(errors)]
        errors.clear()  # a thread that is not quite done holds them, and they hold all arrays of the failed calls
        try:
            raise error
        finally:
            del error
    return [results[index] for index in range(len(waiting))]


def cores_for(size: int) -> int:
    """Return on how many cores work on so many elements is to be done."""
    return 1 if size < _WORTH else min(count_cores(), _MOST)


def in_parts(work: Callable[[int, int], Any], size: int) -> None:
    """Call work(start, stop) for parts of 0..size that begin at whole chunks, a few a core, where that pays."""
    cores = cores_for(size)
    part = CHUNK * (min(max(-(-size // (_PARTS * cores * CHUNK)), _LEAST), _LONGEST) if cores > 1 else _LONGEST)
    if part >= size:
        work(0, size)
        return
    starts = range(0, size, part)
    if cores > 1:
        map(lambda start: work(start, min(start + part, size)), starts)
        return
    for start in starts:
        work(start, min(start + part, size))


class _Helper:
    """A share of work for a thread of the pool, if one begins with it before the caller waits.

    It costs a third of what an executor's does, which rows of a table that take half a millisecond would notice.
    """

    def __init__(self, share: Callable[[], object]) -> None:
        self._share, self._taken, self._done = share, Lock(), Lock()
        self._done.acquire()
        _waiting.put(self._help)

    def _help(self) -> None:
        if self._taken.acquire(blocking=False):
            self._share()  # which raises nothing
            self._done.release()

    def wait(self) -> None:
        """Wait for the thread that has begun, if one has."""
        if not self._taken.acquire(blocking=False):
            self._done.acquire()
        del self._share  # it holds all arrays, and this may lie in the queue for long


def _begin(threads: int) -> None:
    """Have at least so many threads, or as many as the system gives: the callers do what no thread does."""
    global _begun
    with _beginning, suppress(RuntimeError):
        while _begun < threads:
            Thread(target=_serve, args=(_waiting,), name=f"pidsampler_{_begun}", daemon=True).start()
            _begun += 1


def _serve(waiting: SimpleQueue[Callable[[], object]]) -> None:
    while True:
        waiting.get()()


def _forget() -> None:
    global _waiting, _begun, _beginning
    _waiting, _begun, _beginning = SimpleQueue(), 0, Lock()


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
