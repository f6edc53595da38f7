"""`pidsampler table`: print a scheduler's table of coefficients."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

from .. import timesteps
from ..errors import FileError
from ..io.files import check_outputs
from ..noise import with_noise
from ..table import Scheduler, StepTable
from .common import OK, add_times, checking, chosen_scheduler, other_inputs
from .output import say

_LONGEST = 100  # characters that are shown of what a table says of itself


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "scheduler",
        metavar="SPEC",
        help="spec such as heun@uniform:8 or unipc(order=3)@karras(rho=5):12; FILE.py:NAME; @FILE.json, a table",
    )
    parser.add_argument("--model", help="bundled name or model folder: its timesteps, and @NAME of its own tables")
    add_times(parser)
    parser.add_argument("--json", action="store_true", help="as JSON, for StepTable.from_json")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw it too: .png, .svg or .pdf (extra 'plot')")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE")


def run(arguments: argparse.Namespace) -> int:
    """Print the table, and draw it where that is asked for."""
    with checking():
        scheduler = _scheduler(arguments)
        table, _ = with_noise(scheduler.table(), arguments.noise)
        if arguments.plot is not None:
            check_outputs([arguments.plot], inputs=other_inputs(arguments))
    if arguments.plot is not None and os.path.lexists(arguments.plot) and not arguments.overwrite:
        raise FileError(f"{arguments.plot} exists already: pass --overwrite to replace it")
    text = table.to_json(indent=2) if arguments.json else "\n".join([f"{scheduler}", *_history(table), "", f"{table}"])
    say(*text.split("\n"), flush=True)  # before it is drawn, which may fail
    if arguments.plot is not None:
        from ..schedulers.plot import plot_table

        plot_table(table, arguments.plot, title=str(scheduler), overwrite=arguments.overwrite)
    return OK


def _scheduler(arguments: argparse.Namespace) -> Scheduler:
    if arguments.model is None:
        return chosen_scheduler(arguments, timesteps.pid(), tables={})
    from ..onnx import model_manifest, model_tables

    own = model_manifest(arguments.model).listed_timesteps
    return chosen_scheduler(arguments, own, tables=model_tables(arguments.model))


def _history(table: StepTable) -> list[str]:
    """What a learnt table says of itself, in two lines at most; its file may say anything."""
    said = table.history or {}

    def found(*names: str | int) -> str:
        value: Any = said
        for name in names:
            inside = isinstance(value, dict) if isinstance(name, str) else isinstance(value, list)
            value = value[name] if inside and (name in value if isinstance(name, str) else value) else None
        return f"{value:.4g}" if isinstance(value, float) else str(value)[:_LONGEST]

    if not said:
        return []
    return [
        f"made by {found('made_by')} for the model {found('model', 'name')}",
        f"{found('measure')}: {found('error', 'mean')}, of {found('best_known', 0, 'sampler')} "
        f"{found('best_known', 0, 'mean')}; amplification {found('amplification')}",
    ]
