"""Step tables as JSON files."""

from __future__ import annotations

from pathlib import Path

from ..errors import FileError, PidSamplerError
from ..table import StepTable
from ..values import file_path

MOST_BYTES = 64_000_000


def read_table(path: str | Path) -> StepTable:
    """Read a table that `StepTable.to_json` wrote, such as the command `table` prints as JSON.

    Raises:
        PidSamplerError: The file cannot be read, is larger than 64 MB, or holds no such table.
    """
    path = file_path("path", path)
    try:
        with path.open("rb") as file:
            data = file.read(MOST_BYTES + 1)
        if len(data) > MOST_BYTES:
            raise FileError(f"{path} is larger than {MOST_BYTES // 10**6} MB, which no table is")
        return StepTable.from_json(data.decode())
    except FileError:
        raise
    except UnicodeDecodeError as error:
        raise FileError(f"{path} is not a text file, expected a table in JSON") from error
    except (PidSamplerError, ArithmeticError, AttributeError, RecursionError) as error:
        why = error if isinstance(error, PidSamplerError) else f"not a table in JSON: {type(error).__name__}: {error}"
        raise FileError(f"{path}: {why}") from error
    except (OSError, ValueError) as error:  # ValueError of a null byte in the name
        raise FileError(f"cannot read {path}: {getattr(error, 'strerror', None) or error}") from error
