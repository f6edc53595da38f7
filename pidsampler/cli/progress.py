"""Progress: a bar on a terminal with the time that remains, or lines of JSON for scripts."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ..errors import printable
from .output import on_terminal, say


def event(kind: str, **facts: Any) -> None:
    """Print a line of JSON for a script: {"event": kind, ...}."""
    say(json.dumps({"event": kind, **facts}), flush=True)


@contextmanager
def progress_bar(quiet: bool, total: float | None = None, *, as_json: bool = False) -> Iterator[Callable[..., None]]:
    """Show a bar on stderr if that is a terminal; in a pipe, or when quiet, nothing.

    Args:
        quiet: Whether to show nothing in any case.
        total: Number that `advance` counts to; None if only `advance` will know.
        as_json: Whether to print a line of JSON for each step in place of the bar, see `event`.

    Yields:
        advance(name, *ignored, by=1, total=None): name is shown, and a total replaces the earlier one.
    """
    if as_json and not quiet:
        done, most = 0.0, total

        def count(name: str, *_: object, by: float = 1, total: float | None = None) -> None:
            nonlocal done, most
            done, most = done + by, most if total is None else total
            if by:
                event("progress", what=name, done=round(done, 3), total=most)

        yield count
        return
    if quiet or as_json or not on_terminal(sys.stderr):
        yield lambda name, *_, **__: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = [TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn()]
    # Lines for a pipe must stay on stdout; on a terminal they must not cut through the bar.
    shared = on_terminal(sys.stdout)
    with Progress(*columns, console=Console(stderr=True), transient=True, redirect_stdout=shared) as progress:
        task = progress.add_task("loading", total=total)

        def advance(name: str, *_: object, by: float = 1, total: float | None = None) -> None:
            progress.update(task, advance=by, description=printable(name), total=total)

        yield advance
