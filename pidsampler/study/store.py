"""A study's folder: results in SQLite, one transaction a run, so that a kill at any moment loses and doubles none."""

from __future__ import annotations

import csv
import io
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from ..errors import FileError, PidSamplerError, printable, reason
from ..io import atomic
from .measures import Measure
from .plan import Cell

NAME = "study.sqlite"

_SCHEMA = """
CREATE TABLE IF NOT EXISTS facts (name TEXT PRIMARY KEY, value TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS measures (
    name TEXT PRIMARY KEY, unit TEXT NOT NULL, better TEXT NOT NULL, source TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS cells (
    id TEXT PRIMARY KEY, label TEXT NOT NULL, settings TEXT NOT NULL, scheduler TEXT, steps INTEGER, step_table TEXT);
CREATE TABLE IF NOT EXISTS runs (
    cell TEXT NOT NULL REFERENCES cells (id), image TEXT NOT NULL, seed TEXT NOT NULL, error TEXT,
    PRIMARY KEY (cell, image, seed));
CREATE TABLE IF NOT EXISTS results (
    cell TEXT NOT NULL, image TEXT NOT NULL, seed TEXT NOT NULL, measure TEXT NOT NULL REFERENCES measures (name),
    value REAL NOT NULL, PRIMARY KEY (cell, image, seed, measure),
    FOREIGN KEY (cell, image, seed) REFERENCES runs (cell, image, seed));
CREATE TABLE IF NOT EXISTS gaps (
    cell TEXT NOT NULL, image TEXT NOT NULL, seed TEXT NOT NULL, measure TEXT NOT NULL, error TEXT NOT NULL,
    reported INTEGER NOT NULL DEFAULT 0, PRIMARY KEY (cell, image, seed, measure));
CREATE TABLE IF NOT EXISTS sessions (facts TEXT NOT NULL);
"""

RunKey = tuple[str, str, int]  # cell's id, image, seed


class Store:
    """The results of a study so far. Seeds are kept as text: SQLite's integers end at 2^63.

    Args:
        folder: Study folder; made if it is missing.
        facts: Facts that results rest on (study, versions, hashes), as JSON data. Those of a folder that has some must
            be the same.

    Raises:
        PidSamplerError: The folder holds another study or results of other facts, is in use, or cannot be written.
    """

    def __init__(self, folder: Path, facts: Mapping[str, Any]) -> None:
        self.folder = folder
        check_folder(folder)
        with _said(folder):
            folder.mkdir(parents=True, exist_ok=True)
            # Held while this lives, and freed by the system however it ends.
            self._lock = sqlite3.connect(folder / ".lock", timeout=0.0, isolation_level=None)
            try:
                self._lock.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                self._lock.close()
                raise FileError(f"{folder} is being worked on by another process: wait, or pass another") from error
            try:
                self._db = sqlite3.connect(folder / NAME, isolation_level=None)
                self._db.execute("PRAGMA journal_mode = WAL")
                self._db.executescript(_SCHEMA)
                self._check(facts)
            except BaseException:
                self._lock.close()
                raise

    @staticmethod
    def peek(folder: Path) -> set[RunKey]:
        """Return the runs that a folder holds and that did not fail, without touching it."""
        if not (folder / NAME).is_file():
            return set()
        with _said(folder), closing(sqlite3.connect(f"{(folder / NAME).resolve().as_uri()}?mode=ro", uri=True)) as db:
            if not db.execute("SELECT 1 FROM sqlite_master WHERE name = 'runs'").fetchone():
                return set()  # it is just being made, or who made it was killed
            return _runs(db, "SELECT cell, image, seed FROM runs WHERE error IS NULL")

    def close(self) -> None:
        """Leave the folder to others."""
        self._db.close()
        self._lock.close()

    def _check(self, facts: Mapping[str, Any]) -> None:
        held = self.facts()
        for name, value in facts.items():
            if name in held and held[name] != value:
                raise FileError(
                    f"{self.folder} holds results of another {name}: pass another folder, or remove this one"
                    + _changed(held[name], value)
                )
        with self._transaction():
            rows = [(name, json.dumps(value)) for name, value in facts.items()]
            self._db.executemany("INSERT OR IGNORE INTO facts VALUES (?, ?)", rows)

    def describe(
        self, cells: Iterable[tuple[Cell, str | None, int | None, str | None]], measures: Iterable[Measure]
    ) -> None:
        """Write down each (cell, scheduler, steps, table as JSON), and what the measures are."""
        with _said(self.folder), self._transaction():
            rows = [(c.id, c.label, json.dumps(c.settings), *others) for c, *others in cells]
            self._db.executemany("INSERT OR IGNORE INTO cells VALUES (?, ?, ?, ?, ?, ?)", rows)
            named = [(m.name, m.unit, m.better, m.source) for m in measures]
            self._db.executemany("INSERT OR IGNORE INTO measures VALUES (?, ?, ?, ?)", named)

    def done(self) -> set[RunKey]:
        """Return the runs that are in, failed ones too."""
        return _runs(self._db, "SELECT cell, image, seed FROM runs")

    def add(
        self, run: RunKey, values: Mapping[str, float], *, error: str | None, gaps: Mapping[str, str] | None = None
    ) -> None:
        """Write a run's results and which measures failed, all or none.

        Raises:
            PidSamplerError: The run is in already, or the disk is full.
        """
        key = (run[0], run[1], str(run[2]))
        with _said(self.folder), self._transaction():
            self._db.execute("INSERT INTO runs VALUES (?, ?, ?, ?)", (*key, error))
            rows = [(*key, name, value) for name, value in values.items()]
            self._db.executemany("INSERT INTO results VALUES (?, ?, ?, ?, ?)", rows)
            lacking = [(*key, name, why) for name, why in (gaps or {}).items()]
            self._db.executemany("INSERT INTO gaps (cell, image, seed, measure, error) VALUES (?, ?, ?, ?, ?)", lacking)

    def forget_failures(self) -> None:
        """Drop the runs that failed, so that they are tried again, and of a study that had ended those with a gap."""
        again = "IN (SELECT cell, image, seed FROM gaps WHERE reported)"
        with _said(self.folder), self._transaction():
            for table in ("results", "runs"):
                self._db.execute(f"DELETE FROM {table} WHERE (cell, image, seed) {again}")
            self._db.execute("DELETE FROM gaps WHERE reported")
            self._db.execute("DELETE FROM runs WHERE error IS NOT NULL")

    def end(self) -> None:
        """Note that what is missing was reported: whoever runs the study again wants it measured."""
        with _said(self.folder), self._transaction():
            self._db.execute("UPDATE gaps SET reported = 1")

    def results(self) -> dict[str, dict[str, dict[tuple[str, int], float]]]:
        """Return cell -> measure -> (image, seed) -> value, of all in order of image and seed."""
        found: dict[str, dict[str, dict[tuple[str, int], float]]] = {}
        query = "SELECT cell, measure, image, seed, value FROM results ORDER BY image, CAST(seed AS REAL), seed"
        for cell, measure, image, seed, value in self._db.execute(query):
            found.setdefault(cell, {}).setdefault(measure, {})[image, int(seed)] = value
        return found

    def facts(self) -> dict[str, Any]:
        """Return what results rest on."""
        return {name: json.loads(value) for name, value in self._db.execute("SELECT name, value FROM facts")}

    def note_session(self, facts: Mapping[str, str]) -> None:
        """Write down who works on the study now."""
        with _said(self.folder), self._transaction():
            self._db.execute("INSERT INTO sessions VALUES (?)", (json.dumps(dict(facts)),))

    def sessions(self) -> list[dict[str, str]]:
        """Return who worked on the study, in order."""
        return [json.loads(facts) for (facts,) in self._db.execute("SELECT facts FROM sessions ORDER BY rowid")]

    def errors(self) -> dict[str, dict[tuple[str, int], str]]:
        """Return cell -> (image, seed) -> what failed."""
        found: dict[str, dict[tuple[str, int], str]] = {}
        for cell, image, seed, error in self._db.execute(
            "SELECT * FROM runs WHERE error IS NOT NULL ORDER BY image, seed"
        ):
            found.setdefault(cell, {})[image, int(seed)] = error
        return found

    def gaps(self) -> dict[str, dict[str, dict[tuple[str, int], str]]]:
        """Return measure -> cell -> (image, seed) -> what failed, of each run that lacks it."""
        found: dict[str, dict[str, dict[tuple[str, int], str]]] = {}
        query = "SELECT measure, cell, image, seed, error FROM gaps ORDER BY measure, image, CAST(seed AS REAL), seed"
        for measure, cell, image, seed, error in self._db.execute(query):
            found.setdefault(measure, {}).setdefault(cell, {})[image, int(seed)] = error
        return found

    def write_csv(self, cells: Sequence[str]) -> None:
        """Write `results.csv`, a row a run by cell, image and seed, and `measures.csv`, what its columns are."""
        names = [name for (name,) in self._db.execute("SELECT name FROM measures ORDER BY rowid")]
        results, gaps = self.results(), self.gaps()
        query = (
            "SELECT cell, image, seed, error, label, settings, scheduler FROM runs JOIN cells ON cell = id "
            "ORDER BY image, CAST(seed AS REAL), seed"
        )
        place = {cell: i for i, cell in enumerate(cells)}
        runs = sorted((run for run in self._db.execute(query) if run[0] in place), key=lambda run: place[run[0]])
        settings = list(dict.fromkeys(key for run in runs for key in json.loads(run[5])))
        header = ["cell", "label", "image", "seed", *(f"set_{key}" for key in settings), "spec", *names, "error"]
        rows: list[list[Any]] = []
        for cell, image, seed, error, label, chosen, scheduler in runs:
            own = json.loads(chosen)
            found = results.get(cell, {})
            run = image, int(seed)
            values = [found.get(name, {}).get(run, "") for name in names]
            lacking = [f"{name}: {of[cell][run]}" for name, of in gaps.items() if run in of.get(cell, ())]
            why = error if error is not None else "; ".join(lacking) or None
            rows.append([cell, label, image, seed, *(_plain(own[key]) for key in settings), scheduler, *values, why])
        self._csv("results.csv", header, rows)
        described = self._db.execute("SELECT * FROM measures ORDER BY rowid").fetchall()
        self._csv("measures.csv", ["name", "unit", "better", "source"], described)

    def _csv(self, name: str, header: list[str], rows: Iterable[Iterable[Any]]) -> None:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(header)
        writer.writerows([printable(cell) if isinstance(cell, str) else cell for cell in row] for row in rows)
        atomic.place(self.folder / name, lambda file: file.write(text.getvalue().encode()), overwrite=True)

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            if self._db.in_transaction:  # a full disk ends it by itself
                self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")


def check_folder(folder: Path) -> None:
    """Check that a folder is missing, empty, or a study's.

    Raises:
        PidSamplerError: The folder holds other files, which are left alone, or is none.
    """
    if (folder / NAME).is_file():
        return
    try:
        others = sorted(path.name for path in folder.iterdir() if not path.name.startswith((".lock", ".pidsampler-")))
    except FileNotFoundError:
        return
    except OSError as error:
        raise FileError(f"cannot use {folder} for a study: {reason(error)}") from error
    if others:
        raise FileError(f"{folder} holds {others[0]!r} and no study, and is left alone: pass an empty or new folder")


@contextmanager
def _said(folder: Path) -> Iterator[None]:
    """Say what SQLite and the system raise in our own words."""
    try:
        yield
    except PidSamplerError:
        raise
    except sqlite3.IntegrityError as error:
        raise FileError(f"{folder / NAME} has such a row already: {error}") from error
    except (sqlite3.DatabaseError, OSError) as error:
        raise FileError(
            f"{folder / NAME} cannot be written: {error}; what is in it stays, and the study goes on from there"
        ) from error


def _runs(db: sqlite3.Connection, query: str) -> set[RunKey]:
    return {(cell, image, int(seed)) for cell, image, seed in db.execute(query)}


def _changed(old: Any, new: Any) -> str:
    """Say in which keys two JSON objects differ."""
    if not isinstance(old, dict) or not isinstance(new, dict):
        return f" ({old!r}, now {new!r})"
    keys = [key for key in {**old, **new} if old.get(key) != new.get(key)]
    return f" ({keys[0]}: {old.get(keys[0])!r}, now {new.get(keys[0])!r})"


def _plain(value: Any) -> Any:
    return value if isinstance(value, str | int | float) or value is None else json.dumps(value)
