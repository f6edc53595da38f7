"""`pidsampler table`: print a scheduler's table of coefficients."""

from __future__ import annotations

import argparse
import os
from pathlib import Path

from .. import timesteps
from ..errors import FileError
from ..io.files import check_outputs
from ..noise import with_noise
from .common import OK, add_times, checking, chosen_scheduler, other_inputs
from .output import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "scheduler",
        metavar="SPEC",
        help="spec such as heun@uniform:8 or unipc(order=3)@karras(rho=5):12; FILE.py:NAME; @FILE.json, a table",
    )
    add_times(parser)
    parser.add_argument("--json", action="store_true", help="as JSON, for StepTable.from_json")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it too: .png, .svg or .pdf (extra 'plot')")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE")


def run(arguments: argparse.Namespace) -> int:
    """Print the table, and draw it where that is asked for."""
    with checking():
        scheduler = chosen_scheduler(arguments, timesteps.pid())
        table, _ = with_noise(scheduler.table(), arguments.noise)
        if arguments.plot is not None:
            check_outputs([arguments.plot], inputs=other_inputs(arguments))
    if arguments.plot is not None and os.path.lexists(arguments.plot) and not arguments.overwrite:
        raise FileError(f"{arguments.plot} exists already: pass --overwrite to replace it")
    text = table.to_json(indent=2) if arguments.json else f"{scheduler}\n\n{table}"
    say(*text.split("\n"), flush=True)  # before it is drawn, which may fail
    if arguments.plot is not None:
        from ..schedulers.plot import plot_table

        plot_table(table, arguments.plot, title=str(scheduler), overwrite=arguments.overwrite)
    return OK
