"""What a study found, read from its folder."""

from __future__ import annotations

import csv
import io
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ..errors import FileError, optional
from ..io.files import read_text
from ..values import field, file_path
from .store import NAME
from .work import COSTS

if TYPE_CHECKING:
    import pandas

_MOST_BYTES = 1 << 30
_TEXTS = ("cell", "label", "image")  # also where they look like numbers, as "0801" of a picture's name


@attrs.frozen(slots=False)
class Results:
    """What a study found: made by `Study.run` and `load`.

    In a notebook it shows itself as the table of all cells.

    Args:
        folder: The study's folder.
    """

    folder: Path = field(file_path)

    def to_pandas(self) -> pandas.DataFrame:
        """Return a row for each run as `results.csv` has it, bit for bit: settings, measures, and what failed.

        Raises:
            PidSamplerError: pandas is not installed, or the file cannot be read.
        """
        text = self._read("results.csv")
        header = next(csv.reader(io.StringIO(text, newline="")))
        measures = header[header.index("spec") + 1 : -1]
        frame: pandas.DataFrame = optional("pandas", "pandas").read_csv(
            io.StringIO(text),
            dtype=dict.fromkeys(_TEXTS, str),
            converters=dict.fromkeys(measures, _number),  # pandas' own reading of numbers may err in the last bit
            keep_default_na=False,
            na_values=[""],
        )
        return frame

    def summary(self) -> str:
        """Return what was found, in words and as a table of all cells, in Markdown: the text of `table.md`.

        Raises:
            PidSamplerError: The study has not ended yet, or the file cannot be read.
        """
        return self._read("table.md")

    def to_latex(self) -> str:
        r"""Return the table of all cells for a paper, with \usepackage{booktabs}: the text of `table.tex`.

        Raises:
            PidSamplerError: The study has not ended yet, or the file cannot be read.
        """
        return self._read("table.tex")

    @property
    def report(self) -> Path:
        """Path of the report."""
        return self.folder / "report.html"

    @property
    def runs(self) -> int:
        """Number of runs."""
        return len(self._rows)

    @property
    def failed(self) -> int:
        """Number of runs that failed; one that only lacks a measure is none of them."""
        return sum(bool(row["error"]) and not row[COSTS[0].name] for row in self._rows)

    @property
    def problems(self) -> tuple[str, ...]:
        """What failed, a line each, with its cell, whole runs first: of several runs with one reason, one."""
        lacking = sorted((row for row in self._rows if row["error"]), key=lambda row: bool(row[COSTS[0].name]))
        return tuple(dict.fromkeys(f"{row['label']}: {row['error']}" for row in lacking))

    @property
    def error(self) -> str | None:
        """The first of the problems, or None."""
        return next(iter(self.problems), None)

    @cached_property
    def _rows(self) -> list[dict[str, Any]]:
        return list(csv.DictReader(io.StringIO(self._read("results.csv"), newline="")))

    def _repr_markdown_(self) -> str:
        return self.summary()

    def _read(self, name: str) -> str:
        if not (self.folder / name).is_file():
            raise FileError(f"{self.folder} has no {name} yet: the study has not ended, run it again to go on")
        return read_text(self.folder / name, expected="what a study wrote", most=_MOST_BYTES)


def _number(text: str) -> float:
    return float(text or "nan")


def load(folder: str | Path) -> Results:
    """Return the results of a study's folder.

    Raises:
        PidSamplerError: The folder is no study's.
    """
    folder = file_path("folder", folder)
    if not (folder / NAME).is_file():
        raise FileError(f"{folder} holds no {NAME}, expected the folder of a study")
    return Results(folder)
