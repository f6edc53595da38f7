"""`pidsampler table`: print schedulers' tables of coefficients, and draw them."""

from __future__ import annotations

import argparse
import os
from functools import partial
from pathlib import Path

from .. import timesteps
from ..errors import ConfigError, FileError
from ..io.files import check_outputs
from ..noise import with_noise
from ..table import Scheduler, StepTable
from .common import OK, add_times, checking, chosen_scheduler, other_inputs
from .history import history_lines
from .output import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "scheduler",
        nargs="+",
        metavar="SPEC",
        help="spec such as heun@uniform:8 or unipc(order=3)@karras(rho=5):12; FILE.py:NAME; @FILE.json, a table",
    )
    parser.add_argument("--model", help="bundled name or model folder: its timesteps, and @NAME of its own tables")
    add_times(parser)
    parser.add_argument("--json", action="store_true", help="a single table as JSON, for StepTable.from_json")
    parser.add_argument(
        "--plot", type=Path, metavar="FILE", help="draw them too, in one picture: .png, .svg or .pdf (extra 'plot')"
    )
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE")


def run(arguments: argparse.Namespace) -> int:
    """Print the tables, and draw them where that is asked for."""
    with checking():
        tables = dict(map(partial(_made, arguments), arguments.scheduler))
        if arguments.json and len(tables) > 1:
            raise ConfigError("several tables are not one in JSON: name one, or leave --json out")
    if arguments.plot is not None and os.path.lexists(arguments.plot) and not arguments.overwrite:
        raise FileError(f"{arguments.plot} exists already: pass --overwrite to replace it")
    texts = [
        table.to_json(indent=2) if arguments.json else "\n".join([name, *history_lines(table.history), "", f"{table}"])
        for name, table in tables.items()
    ]
    say(*"\n\n".join(texts).split("\n"), flush=True)  # before they are drawn, which may fail
    if arguments.plot is not None:
        from ..schedulers.plot import plot_table, plot_tables

        if len(tables) > 1:
            plot_tables(tables, arguments.plot, overwrite=arguments.overwrite)
        else:
            ((name, table),) = tables.items()
            plot_table(table, arguments.plot, title=name, overwrite=arguments.overwrite)
    return OK


def _made(arguments: argparse.Namespace, spec: str) -> tuple[str, StepTable]:
    """The name and table of one of the samplers asked for."""
    one = argparse.Namespace(**{**vars(arguments), "scheduler": spec})
    scheduler = _scheduler(one)
    if arguments.plot is not None:
        check_outputs([arguments.plot], inputs=other_inputs(one))
    return str(scheduler), with_noise(scheduler.table(), arguments.noise)[0]


def _scheduler(arguments: argparse.Namespace) -> Scheduler:
    if arguments.model is None:
        return chosen_scheduler(arguments, timesteps.pid(), tables={})
    from ..onnx import model_manifest, model_tables

    own = model_manifest(arguments.model).listed_timesteps
    return chosen_scheduler(arguments, own, tables=model_tables(arguments.model))
