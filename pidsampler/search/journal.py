"""What a long command has worked out so far, in a file: killed at any moment and begun again, it goes on from there.

Each number that takes calls of a network is written down as it is found, and taken from the file the next time. As the
work between is the same to the bit, so is the result. A line that was being written when the process was killed is left
out.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

import numpy as np

from ..errors import FileError, reason
from ..io.atomic import claim
from ..io.files import opened, read_bytes
from ..plugins import split_file
from ..threads import count_cores
from ..values import file_path, function, mapping, whole, word
from ..version import __version__

if TYPE_CHECKING:
    from .problem import Problem

_KIND = "pidsampler.Journal/1"
_MOST_BYTES = 512_000_000
_MOST_NUMBERS = 1 << 20  # of one entry: what is longer is worked out again


class Journal:
    """A file of what was worked out, or with no path nothing but a count of calls.

    Args:
        path: The file; None keeps nothing.

    Raises:
        PidSamplerError: The path is none.
    """

    def __init__(self, path: str | Path | None = None) -> None:
        self.path = None if path is None else file_path("path", path)
        self.calls = self.skipped = 0  # model calls made, and those that the file made needless
        self.replaced = False  # whether the file was of another command
        self._known: dict[str, tuple[int, list[float]]] = {}
        self._file: BinaryIO | None = None
        self._size = 0  # bytes of the file
        self._release: Callable[[], None] | None = None

    def begin(self, facts: Mapping[str, Any]) -> None:
        """Open the file, and take what it holds if it is of the same facts; a file of other facts begins anew.

        Args:
            facts: All that the numbers depend on, as JSON data.

        Raises:
            PidSamplerError: The file is no journal, another process is at work on it, or it cannot be written.
        """
        self.calls, self.skipped, self._known = 0, 0, {}
        text = json.dumps(mapping("facts", facts, words="facts by name"), sort_keys=True, default=str)
        head = json.dumps([_KIND, hashlib.sha256(text.encode()).hexdigest()]).encode() + b"\n"
        if self.path is None:
            return
        self._release = claim(self.path)
        if self._release is None:
            raise FileError(f"{self.path} is being worked on by another process: wait, or pass another output")
        try:
            whole_lines = self._read(head) if self.path.exists() else 0
            self._file = self.path.open("r+b" if whole_lines else "wb")
            self._file.seek(whole_lines)
            self._file.truncate()
            self._size = whole_lines or len(head)
            if not whole_lines:
                self._file.write(head)
                self._file.flush()
        except OSError as error:
            self.close()
            raise FileError(f"cannot write {self.path}: {reason(error)}") from error
        except FileError:
            self.close()
            raise

    def _read(self, head: bytes) -> int:
        """Take the entries of the file; how many of its bytes are whole lines of it, 0 where it is to begin anew."""
        assert self.path is not None
        with opened(self.path) as file:
            first = file.readline(200)
        if not first:
            return 0
        if not first.startswith(head[: len(_KIND) + 3]):
            raise FileError(f"{self.path} is no journal of this program: remove it, or pass another output")
        if first != head:
            self.replaced = True
            return 0
        done = len(head)
        for line in read_bytes(self.path, most=_MOST_BYTES)[done:].splitlines(keepends=True):
            entry = _entry(line)
            if entry is None:
                break
            name, calls, values = entry
            self._known[name] = calls, values
            done += len(line)
        return done

    def kept(self, name: str, work: Callable[[], Sequence[float]], *, count: int) -> list[float]:
        """Return numbers of a name: from the file, or by working them out.

        Args:
            name: Unlike any other's.
            work: Returns the numbers.
            count: How many there are.

        Raises:
            PidSamplerError: The file cannot be written.
        """
        word("name", name)
        function("work", work, takes="()")
        calls, values = self._known.get(name, (0, []))
        if len(values) == whole("count", count, low=0) and name in self._known:
            self.skipped += calls
            return values
        before = self.calls
        values = [float(value) for value in work()]
        if self.keeps(count):
            assert self._file is not None
            line = json.dumps([name, self.calls - before, values]).encode() + b"\n"
            self._known[name] = 0, values  # asked again, it costs nothing more
            if self._size + len(line) > _MOST_BYTES:  # a file that is too large is not read
                return values
            self._size += len(line)
            try:
                self._file.write(line)
                self._file.flush()
            except OSError as error:
                raise FileError(f"cannot write {self.path}: {reason(error)}") from error
        return values

    def keeps(self, count: int) -> bool:
        """Return whether so many numbers are kept at all."""
        return self._file is not None and whole("count", count, low=0) <= _MOST_NUMBERS

    def close(self) -> None:
        """Close the file, which stays."""
        if self._file is not None:
            with suppress(OSError):  # of a line that could not be written, which was said
                self._file.close()
            self._file = None
        if self._release is not None:
            self._release()
            self._release = None

    def remove(self) -> None:
        """Remove the file, once what it was for is written."""
        self.close()
        if self.path is not None:
            with suppress(OSError):
                self.path.unlink()


def facts_of(problem: Problem) -> dict[str, Any]:
    """Return what a problem's numbers depend on, as JSON data; a network without hashes is told by its name alone."""
    from importlib.metadata import PackageNotFoundError, version

    versions = {"pidsampler": __version__}
    for package in ("numpy", "scipy", "onnxruntime", "onnxruntime-gpu"):
        with suppress(PackageNotFoundError):
            versions[package] = version(package)
    return {
        "model": problem.name,
        "hashes": dict(problem.hashes),
        "conditions": problem.conditions,
        "images": [[subject.name, list(subject.shape), subject.sha256, subject.crop] for subject in problem.subjects],
        "first": problem.first,
        "own": None if problem.own is None else problem.own.tolist(),
        "prediction": problem.prediction,
        "dtype": str(np.dtype(problem.dtype)),
        "device": problem.backend.device,
        "cores": count_cores(),
        "versions": versions,
    }


def code_of(name: object) -> str | None:
    """Return the SHA-256 of the file of "FILE.py:NAME", as what it says may change; None of all else."""
    parts = split_file(name) if isinstance(name, str) else None
    return None if parts is None else hashlib.sha256(read_bytes(Path(parts[0]))).hexdigest()


def _entry(line: bytes) -> tuple[str, int, list[float]] | None:
    """An entry of a whole line; None of any other."""
    if not line.endswith(b"\n"):
        return None
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(found, list) or len(found) != 3:
        return None
    name, calls, values = found
    fits = isinstance(name, str) and type(calls) is int and calls >= 0 and isinstance(values, list)
    if not fits or not all(type(value) is float for value in values):
        return None
    return name, calls, values
