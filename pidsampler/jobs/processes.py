"""Worker processes on this machine, each with its share of the cores."""

from __future__ import annotations

import os
import pickle
import queue
import signal
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Generator, Sequence
from contextlib import suppress
from typing import IO, Any

from ..errors import ConfigError
from .base import Job, Worker


class _Ready:
    """A worker has begun."""


class _Done:
    """A job is done."""


class _Dead:
    """A worker has ended."""


_HEAD = struct.Struct("<Q")  # before each thing that a worker is sent: its length

_Said = queue.SimpleQueue[tuple["_Process", Any]]  # a worker, and an outcome or one of the above


def pool(make: Callable[[], Worker], jobs: Sequence[Job], *, count: int) -> Generator[Any, None, None]:
    """Do jobs in processes; one that dies, of too little memory, is replaced.

    Args:
        make: Makes a process's worker; it is pickled.
        jobs: What to do.
        count: Number of processes, at most one for each job.

    Raises:
        PidSamplerError: A worker died before it had begun.
    """
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
            data = pickle.dumps(what)
            self._process.stdin.write(_HEAD.pack(len(data)) + data)
            self._process.stdin.flush()

    def _listen(self, said: _Said) -> None:
        assert self._process.stdout is not None
        with self._process.stdout as stream, suppress(EOFError, OSError, pickle.UnpicklingError):
            while True:
                said.put((self, pickle.load(stream)))
        said.put((self, _Dead()))


def serve(cores: list[int]) -> None:
    """Be a worker: what makes one and then jobs from stdin, outcomes to stdout, until stdin ends.

    It ends with its parent, however that ended, and in the middle of a job too: then its stdin ends.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the parent's to see
    if cores:
        os.sched_setaffinity(0, cores)
    with os.fdopen(os.dup(1), "wb") as stream, suppress(BrokenPipeError):
        os.dup2(2, 1)  # what a library prints must not come between
        given: queue.SimpleQueue[bytes] = queue.SimpleQueue()
        threading.Thread(target=_take, args=(os.fdopen(os.dup(0), "rb"), given), daemon=True).start()
        worker = pickle.loads(given.get())()
        _say(stream, _Ready())
        while True:
            for outcome in worker.run(pickle.loads(given.get())):
                _say(stream, outcome)
            _say(stream, _Done())


def _take(stream: IO[bytes], given: queue.SimpleQueue[bytes]) -> None:
    """Take what the parent sends as it comes, and end the process once nothing can come."""
    with suppress(OSError):
        while len(head := stream.read(_HEAD.size)) == _HEAD.size:
            given.put(stream.read(*_HEAD.unpack(head)))
    os.kill(os.getpid(), signal.SIGTERM)


def _say(stream: IO[bytes], word: object) -> None:
    pickle.dump(word, stream)
    stream.flush()


def _shares(count: int) -> list[list[int]]:
    """The cores of each process: an equal share where the system lets us choose, else whatever it gives."""
    if not hasattr(os, "sched_setaffinity"):
        return [[] for _ in range(count)]
    cores = sorted(os.sched_getaffinity(0))
    return [cores[k::count] or [cores[k % len(cores)]] for k in range(count)]
