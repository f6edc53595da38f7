"""Files of other people, opened with care: no pipe or device that would block for ever, no text without end."""

from __future__ import annotations

import codecs
import errno
import glob
import hashlib
import os
import stat
from collections.abc import Iterable
from io import BufferedReader
from pathlib import Path

from ..errors import ConfigError, FileError, reason
from ..values import file_path, items, whole, word

_UTF_16 = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)
_NO_FILE = "it is a pipe or a device, expected a file"
MOST_TEXT = 16_000_000
_MOST = 1 << 30  # that is asked for: so much memory is taken for it, whatever the file has


def opened(path: Path) -> BufferedReader:
    """Return a file open for reading; what is no regular file is refused at once, a pipe that nobody writes to as well.

    Raises:
        PidSamplerError: There is no such file, it may not be read, or it is a folder, a pipe, a socket or a device.
    """
    path = file_path("path", path)
    try:
        file = open(path, "rb", opener=_without_waiting)  # noqa: SIM115  # the caller closes it
    except (OSError, ValueError) as error:  # ValueError of a null byte in the name
        if isinstance(error, OSError) and error.errno == errno.ENXIO:  # a socket
            raise FileError(f"cannot read {path}: {_NO_FILE}") from error
        raise FileError(f"cannot read {path}: {reason(error) if isinstance(error, OSError) else error}") from error
    if not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
        file.close()
        raise FileError(f"cannot read {path}: {_NO_FILE}")
    return file


def _without_waiting(path: str, flags: int) -> int:
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))  # a pipe would wait for someone who writes to it


def read_bytes(path: Path, *, most: int | None = None) -> bytes:
    """Return what a file holds.

    Args:
        path: The file.
        most: Bytes that it may have; None for any number.

    Raises:
        PidSamplerError: The file cannot be read, see `opened`, or is larger.
    """
    path, most = file_path("path", path), None if most is None else whole("most", most, low=0, high=_MOST)
    with opened(path) as file:
        try:
            data = file.read() if most is None else file.read(most + 1)
        except OSError as error:
            raise FileError(f"cannot read {path}: {reason(error)}") from error
    if most is not None and len(data) > most:
        raise FileError(f"{path} is larger than {most / 1e6:g} MB, too large for such a file")
    return data


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex digits.

    Raises:
        PidSamplerError: The file cannot be read, see `opened`.
    """
    path = file_path("path", path)
    with opened(path) as file:
        try:
            return hashlib.file_digest(file, "sha256").hexdigest()
        except OSError as error:
            raise FileError(f"cannot read {path}: {reason(error)}") from error


def read_text(path: Path, *, expected: str, most: int = MOST_TEXT) -> str:
    """Return a text file in UTF-8, without the byte order mark that some editors put before it.

    Args:
        path: The file.
        expected: What it should be, for the error, such as "a table in JSON".
        most: Bytes that it may have.

    Raises:
        PidSamplerError: The file cannot be read, is larger, or is no text in UTF-8.
    """
    word("expected", expected)
    data = read_bytes(path, most=whole("most", most, low=0, high=_MOST))
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        if data.startswith(_UTF_16):
            raise FileError(f"{path} is a text in UTF-16: save it in UTF-8") from error
        raise FileError(f"{path} is not a text file, expected {expected}") from error


def matching(pattern: Path) -> list[Path]:
    """Return what a pattern such as photos/*.png matches, sorted; what is there under that very name is no pattern.

    So brackets in the names of folders and pictures stand for themselves.
    """
    pattern = file_path("pattern", pattern)
    if os.path.exists(pattern):  # False for a name that is too long, where Path raises
        return [pattern]
    there = next((folder for folder in pattern.parents if os.path.exists(folder)), Path())
    rest = str(pattern.relative_to(there))
    return [Path(path) for path in sorted(glob.glob(os.path.join(glob.escape(str(there)), rest)))]


def user_cache() -> Path:
    """Return the folder of this package in the user's cache; it need not exist.

    Raises:
        PidSamplerError: There is no home folder, and XDG_CACHE_HOME is not set.
    """
    try:
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pidsampler"
    except RuntimeError as error:  # neither HOME nor an entry of the user's
        raise FileError("there is no home folder to keep files in: set HOME or XDG_CACHE_HOME") from error


def check_outputs(outputs: Iterable[Path], *, inputs: Iterable[Path]) -> None:
    """Check that no file to be written is one of those to be read, by whatever name, and whether or not it may replace.

    Raises:
        PidSamplerError: One is; the message names both.
    """
    read = {identity: path for path in _paths("inputs", inputs) if (identity := _identity(path))}
    for output in _paths("outputs", outputs):
        if (identity := _identity(output)) and (path := read.get(identity)) is not None:
            what = "is an input" if path == output else f"is the input {path} by another name"
            raise ConfigError(f"{output} {what}, which is never replaced: pass another output")


def _paths(name: str, value: Iterable[Path]) -> list[Path]:
    return [file_path(name, path) for path in items(name, value, words="paths")]


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = os.stat(path)
    except (OSError, ValueError):
        return None
    return found.st_dev, found.st_ino
