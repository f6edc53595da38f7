"""A bar on a terminal, with the time that remains."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from ..errors import printable
from .output import on_terminal


@contextmanager
def progress_bar(quiet: bool, total: float | None = None) -> Iterator[Callable[..., None]]:
    """Show a bar on stderr if that is a terminal; in a pipe, or when quiet, nothing.

    Args:
        quiet: Whether to show nothing in any case.
        total: Number that `advance` counts to; None if only `advance` will know.

    Yields:
        advance(name, *ignored, by=1, total=None): name is shown, and a total replaces the earlier one.
    """
    if quiet or not on_terminal(sys.stderr):
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
