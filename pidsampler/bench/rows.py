"""Results as rows of a CSV file: what they are true of, what was timed, and the times."""

from __future__ import annotations

import csv
import platform
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from ..backends import Backend
from ..errors import FileError, reason
from ..threads import count_cores
from ..version import __version__

MACHINE = ("device", "cores", "driver", "cuda", "python", "numpy", "pidsampler", "commit", "date")
STEP = ("variant", "family", "eta", "clip", "draws", "reads", "writes", "x", "m", "side")
TIMES = ("by", "version", "ms", "iqr_ms", "n", "host_ms", "bytes", "gb_s", "copy_gb_s", "share")
COLUMNS = (*MACHINE, *STEP, *TIMES)

_LONGEST = 10_000  # characters of a first line that are looked at: another file may have no other
_SHOWN = 500  # of what it has instead
_ROOT = Path(__file__).parents[2]  # of the repository, in a development install


def machine(backend: Backend) -> dict[str, str]:
    """Return what the results of a run are true of: device, driver, versions, commit, and when it began."""
    found = {
        "python": platform.python_version(),
        "numpy": np.__version__,
        "pidsampler": __version__,
        "commit": _commit(),
        "date": time.strftime("%Y-%m-%dT%H:%M"),
    }
    if backend.device == "cpu":
        return {"device": _cpu(), "cores": str(count_cores()), "driver": "", "cuda": "", **found}
    import cupy

    runtime = cupy.cuda.runtime
    properties = runtime.getDeviceProperties(backend.device_id)
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader", "-i", str(backend.device_id)]
    return {
        "device": properties["name"].decode(),
        "cores": str(properties["multiProcessorCount"]),
        "driver": _output(query),
        "cuda": str(runtime.runtimeGetVersion()),
        **found,
    }


@contextmanager
def appending(path: Path) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """Yield a function that appends a row, column by name, to a CSV file; what is missing or None stays empty.

    Raises:
        PidSamplerError: The file cannot be written, or has other columns.
    """
    check_columns(path)
    with _writing(path):
        file = path.open("a", newline="", encoding="utf-8")
    try:
        writer = csv.DictWriter(file, COLUMNS, lineterminator="\n")

        def append(row: Mapping[str, Any]) -> None:
            with _writing(path):
                if file.tell() == 0:
                    writer.writeheader()
                writer.writerow({key: _text(value) for key, value in row.items()})
                file.flush()  # a run that is stopped keeps what it has

        yield append
    finally:
        with _writing(path):
            file.close()


@contextmanager
def _writing(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise FileError(f"cannot write {path}: {reason(error)}") from error


def check_columns(path: Path) -> None:
    """Check that a file is new, empty, or of this module's.

    Raises:
        PidSamplerError: The file has other columns, or cannot be read.
    """
    try:
        if path.is_char_device() or path.is_fifo():  # it has no columns, and may never end a line
            return
        with path.open(newline="", encoding="utf-8-sig") as file:
            line = file.readline(_LONGEST)
            header = next(csv.reader([line] if line else []), list(COLUMNS))
    except FileNotFoundError:
        return
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise FileError(f"cannot read {path}: {error}") from error
    if header != list(COLUMNS):
        raise FileError(
            f"{path} has the columns {', '.join(header)[:_SHOWN]}, not those of a benchmark ({', '.join(COLUMNS)}): "
            "pass another file"
        )


def _text(value: Any) -> str:
    if value is None:
        return ""
    return f"{value:.6g}" if isinstance(value, float) else str(value)


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else platform.processor() or platform.machine()


def _commit() -> str:
    """The commit of a checkout, with "-dirty" where files differ from it; nothing for an installed package."""
    if not (_ROOT / ".git").exists():
        return ""
    return _output(["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"])


def _output(command: list[str]) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return ""
