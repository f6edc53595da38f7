"""Lists of times as text files."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from .. import moved, timesteps
from ..errors import FileError, PidSamplerError, printable
from ..timesteps import Times, TimesLike
from ..values import file_path, shown, words
from .atomic import place
from .files import read_text

_MOST_BYTES = 2_000_000


def read_list(path: str | Path) -> Times:
    """Read a list of times from a text file, bit for bit: one a line, but for empty lines and those that begin with #.

    Args:
        path: File to read.

    Returns:
        float64 (n,), descending.

    Raises:
        PidSamplerError: The file cannot be read or is larger than 2 MB, a line is no number, or the times are no list,
            see `custom`.
    """
    path = file_path("path", path)
    text = read_text(path, expected="one time a line", most=_MOST_BYTES)
    times = []
    for number, line in enumerate(map(str.strip, text.splitlines()), 1):
        if line and not line.startswith("#"):
            try:
                times.append(float(line))
            except ValueError as error:
                raise FileError(f"{path}, line {number}: {shown(line)} is not a time, such as 0.634") from error
    try:
        return timesteps.custom(times)
    except PidSamplerError as error:
        raise FileError(f"{path}: {error}") from error


@moved.keywords()
def write_list(path: str | Path, times: TimesLike, *, comments: Sequence[str] = (), overwrite: bool = False) -> None:
    """Write a list of times for `read_list`, below lines of comment, whole or not at all.

    Args:
        path: File to write.
        times: Descending times.
        comments: Lines to put first, each behind a "#".
        overwrite: Whether a file that is there is replaced.

    Raises:
        PidSamplerError: The times are no list; or the file exists and `overwrite` is false, or cannot be written.
    """
    path, comments = file_path("path", path), words("comments", comments)
    lines = [f"# {printable(line)}".rstrip() for comment in comments for line in comment.splitlines() or [""]]
    lines += map(repr, timesteps.custom(times).tolist())
    data = "".join(f"{line}\n" for line in lines).encode(errors="backslashreplace")
    place(path, lambda file: file.write(data), overwrite=overwrite)
