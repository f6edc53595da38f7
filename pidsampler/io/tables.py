"""Step tables as JSON files."""

from __future__ import annotations

from pathlib import Path

from ..errors import FileError, PidSamplerError
from ..table import StepTable
from ..values import file_path, instance
from .atomic import place
from .files import read_text

MOST_BYTES = 64_000_000


def read_table(path: str | Path) -> StepTable:
    """Read a table that `StepTable.to_json` wrote, such as the command `table` prints as JSON.

    Args:
        path: File to read.

    Returns:
        The table.

    Raises:
        PidSamplerError: The file cannot be read, is larger than 64 MB, or holds no such table.
    """
    path = file_path("path", path)
    text = read_text(path, expected="a table in JSON", most=MOST_BYTES)
    try:
        return StepTable.from_json(text)
    except PidSamplerError as error:
        raise FileError(f"{path}: {error}") from error


def write_table(path: str | Path, table: StepTable, *, overwrite: bool = False) -> None:
    """Write a table for `read_table`, whole or not at all.

    Args:
        path: File to write.
        table: Table to write.
        overwrite: Whether a file that is there is replaced.

    Raises:
        PidSamplerError: The file exists and `overwrite` is false, or cannot be written.
    """
    path, table = file_path("path", path), instance("table", table, kind=StepTable, words="a StepTable")
    data = f"{table.to_json(indent=1)}\n".encode()
    place(path, lambda file: file.write(data), overwrite=overwrite)
