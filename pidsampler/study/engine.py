"""Who does a study's jobs: this process, or several on this machine."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Generator, Iterable, Sequence, Set
from contextlib import suppress
from dataclasses import replace
from typing import IO

from ..errors import PidSamplerError
from .work import Job, Outcome, Worker

Run = tuple[str, str, int]  # cell's id, image, seed


class _Ready:
    """A worker has begun."""


class _Done:
    """A job is done."""


class _Dead:
    """A worker has ended."""


_Said = queue.SimpleQueue[tuple["_Process", _Ready | Outcome | _Done | _Dead]]  # by which worker, and what


def here(jobs: Iterable[Job], device: str) -> Generator[Outcome, None, None]:
    """Do jobs one after the other in this process."""
    worker = Worker(device)
    for job in jobs:
        yield from worker.run(job)


def processes(jobs: Sequence[Job], device: str, count: int) -> Generator[Outcome, None, None]:
    """Do jobs in `count` processes, each with its share of the cores and its own copy of the model.

    A process that dies, of too little memory or a broken library, is replaced. What its job still lacked is tried once
    more, each cell on its own, and one that kills its process again is an outcome with an error.

    Raises:
        PidSamplerError: A process died before it had begun.
    """
    waiting = deque(jobs)
    said: _Said = queue.SimpleQueue()
    team = {_Process(device, cores, said) for cores in _shares(min(count, max(1, len(waiting))))}
    try:
        while team:
            process, word = said.get()
            if process not in team:  # one that was stopped, and now has ended
                continue
            if isinstance(word, Outcome):
                process.got.add(word.run)
                yield word
                continue
            if isinstance(word, _Dead):
                team.remove(process)
                process.stop()
                why = process.why_dead()
                if process.job is None:
                    raise PidSamplerError(f"a worker could not begin: {why}")
                job, got = process.job, process.got
                yield from (Outcome(run, error=why) for run in lacking(job, got) if len(job.tables) == 1)
                waiting.extendleft(retried(job, got))
                team.add(_Process(device, process.cores, said))
            elif waiting:
                process.give(waiting.popleft())
            else:
                team.remove(process)
                process.stop()
    finally:
        for process in team:
            process.stop()


def lacking(job: Job, got: Set[Run]) -> list[Run]:
    """Return the runs of a job that are not among those it gave."""
    return [run for cell in job.tables if (run := (cell, job.image, job.seed)) not in got]


def retried(job: Job, got: Set[Run]) -> list[Job]:
    """Return what to do again of a job whose worker died: each cell on its own, and none that was so already."""
    if len(job.tables) == 1:
        return []
    return [replace(job, tables={run[0]: job.tables[run[0]]}) for run in lacking(job, got)]


class _Process:
    """A worker in a process of its own: jobs go in by its stdin, outcomes come by its stdout."""

    def __init__(self, device: str, cores: list[int], said: _Said) -> None:
        self.cores = cores
        self.job: Job | None = None
        self.got: set[Run] = set()
        # Not by multiprocessing, which would run the caller's own script again.
        command = [sys.executable, "-c", f"from {__name__} import serve; serve({device!r}, {cores!r})"]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        threading.Thread(target=self._listen, args=(said,), daemon=True).start()

    def give(self, job: Job) -> None:
        self.job, self.got = job, set()
        assert self._process.stdin is not None
        with suppress(OSError):  # that it is dead is heard by _listen
            pickle.dump(job, self._process.stdin)
            self._process.stdin.flush()

    def why_dead(self) -> str:
        code = self._process.wait()
        how = signal.Signals(-code).name if code < 0 else f"exit code {code}"
        return f"its process died ({how}): is there enough memory for so many at once?"

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        assert self._process.stdin is not None
        with suppress(OSError):  # of what a dead process no longer reads
            self._process.stdin.close()

    def _listen(self, said: _Said) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream, suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                said.put((self, pickle.load(stream)))
        said.put((self, _Dead()))


def serve(device: str, cores: list[int]) -> None:
    """Be a worker: jobs from stdin, outcomes to stdout, until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to see
    if cores:
        os.sched_setaffinity(0, cores)
    with os.fdopen(os.dup(1), "wb") as stream, suppress(EOFError, BrokenPipeError):
        os.dup2(2, 1)  # what a library prints must not come between
        _say(stream, _Ready())
        worker = Worker(device)
        while True:
            for outcome in worker.run(pickle.load(sys.stdin.buffer)):
                _say(stream, outcome)
            _say(stream, _Done())


def _say(stream: IO[bytes], word: object) -> None:
    pickle.dump(word, stream)
    stream.flush()


def _shares(count: int) -> list[list[int]]:
    """The cores of each process: an equal share where the system lets us choose, else whatever it gives."""
    if not hasattr(os, "sched_setaffinity"):
        return [[] for _ in range(count)]
    cores = sorted(os.sched_getaffinity(0))
    return [cores[k::count] or [cores[k % len(cores)]] for k in range(count)]
