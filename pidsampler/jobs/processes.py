"""Who does a list of jobs: this process, several on this machine, or a Ray cluster."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from contextlib import suppress
from typing import IO, Any, Protocol, Self

from ..errors import ConfigError, unknown_name

ENGINES = ("local", "ray")


class Job(Protocol):
    """What a worker does in one go; it is pickled on its way there."""

    def lost(self, got: Sequence[Any], why: str) -> tuple[list[Any], list[Self]]:
        """Say what to do when its worker died: the outcomes that are given up, and the jobs that try the rest again.

        Args:
            got: The outcomes that it gave before.
            why: How the worker died, one line.
        """
        ...


class Worker(Protocol):
    """Does jobs, and keeps between them what is slow to load; what fails is an outcome, not an exception."""

    def run(self, job: Any) -> Iterable[Any]:
        """Do a job."""
        ...


def outcomes(
    engine: str, make: Callable[[], Worker], jobs: Sequence[Job], device: str, count: int | None
) -> Generator[Any, None, None]:
    """Do jobs and yield what comes of them, in no order that could be relied on.

    Args:
        engine: "local" or "ray".
        make: Makes a worker; it is pickled for another process.
        jobs: What to do.
        device: "auto", "cpu" or "cuda", where the workers run their model.
        count: How many workers; with Ray None is one for each GPU or core of the cluster.

    Raises:
        PidSamplerError: There is no such engine, Ray is not installed, or a worker died before it had begun.
    """
    if engine == "ray":
        from .ray import cluster

        return cluster(make, jobs, device, count)
    check_engine(engine)
    return _here(make, jobs) if count == 1 else _processes(make, jobs, count or 1)


def check_engine(engine: str) -> None:
    """Check the name of an engine.

    Raises:
        PidSamplerError: There is no such engine.
    """
    if engine not in ENGINES:
        raise unknown_name("engine", engine, ENGINES)


class _Ready:
    """A worker has begun."""


class _Done:
    """A job is done."""


class _Dead:
    """A worker has ended."""


_Said = queue.SimpleQueue[tuple["_Process", Any]]  # by which worker, and what: an outcome or one of the above


def _here(make: Callable[[], Worker], jobs: Iterable[Any]) -> Generator[Any, None, None]:
    worker = make()
    for job in jobs:
        yield from worker.run(job)


def _processes(make: Callable[[], Worker], jobs: Sequence[Job], count: int) -> Generator[Any, None, None]:
    """Do jobs in processes, each with its share of the cores; one that dies, of too little memory, is replaced."""
    waiting = deque(jobs)
    said: _Said = queue.SimpleQueue()
    team = {_Process(make, cores, said) for cores in _shares(min(count, max(1, len(waiting))))}
    try:
        while team:
            process, word = said.get()
            if process not in team:  # one that was stopped, and now has ended
                continue
            if isinstance(word, _Dead):
                team.remove(process)
                process.stop()
                why = process.why_dead()
                if process.job is None:
                    raise ConfigError(f"a worker could not begin: {why}")
                given_up, again = process.job.lost(process.got, why)
                yield from given_up
                waiting.extendleft(again)
                team.add(_Process(make, process.cores, said))
            elif not isinstance(word, _Ready | _Done):
                process.got.append(word)
                yield word
            elif waiting:
                process.give(waiting.popleft())
            else:
                team.remove(process)
                process.stop()
    finally:
        for process in team:
            process.stop()


class _Process:
    """A worker in a process of its own: jobs go in by its stdin, outcomes come by its stdout."""

    def __init__(self, make: Callable[[], Worker], cores: list[int], said: _Said) -> None:
        self.cores = cores
        self.job: Job | None = None
        self.got: list[Any] = []
        # Not by multiprocessing, which would run the caller's own script again. Modules are found where we find them.
        code = f"import sys; sys.path[:] = {sys.path!r}; from {__name__} import serve; serve({cores!r})"
        command = [sys.executable, "-P", "-c", code]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._send(make)
        threading.Thread(target=self._listen, args=(said,), daemon=True).start()

    def give(self, job: Job) -> None:
        self.job, self.got = job, []
        self._send(job)

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

    def _send(self, what: object) -> None:
        assert self._process.stdin is not None
        with suppress(OSError):  # that it is dead is heard by _listen
            pickle.dump(what, self._process.stdin)
            self._process.stdin.flush()

    def _listen(self, said: _Said) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream, suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                said.put((self, pickle.load(stream)))
        said.put((self, _Dead()))


def serve(cores: list[int]) -> None:
    """Be a worker: what makes one and then jobs from stdin, outcomes to stdout, until stdin ends."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to see
    if cores:
        os.sched_setaffinity(0, cores)
    with os.fdopen(os.dup(1), "wb") as stream, suppress(EOFError, BrokenPipeError):
        os.dup2(2, 1)  # what a library prints must not come between
        worker = pickle.load(sys.stdin.buffer)()
        _say(stream, _Ready())
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
