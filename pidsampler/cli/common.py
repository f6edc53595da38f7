"""What the commands share: exit codes, messages, columns, and the options for a sampler."""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from attrs import asdict

from ..errors import FileError, PidSamplerError, printable
from ..io.atomic import real_path, remove_leftovers
from ..io.files import check_outputs
from ..noise import NOISES
from ..schedulers.registry import OwnLike, as_scheduler
from ..schedulers.spec import file_of, reference
from ..table import Scheduler
from .output import say, tell

if TYPE_CHECKING:
    from ..schedulers.describe import Description

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130
_IN_PYTHON = ", or use timesteps.custom(times, partial=True) to stop at a noise level"  # of what is said of times
GOES_ON = "the same command goes on where it was"


class UsageError(PidSamplerError):
    """The command line is wrong, and nothing was done."""


@contextmanager
def checking() -> Iterator[None]:
    """What fails inside is the command line's fault: exit code 2."""
    try:
        yield
    except PidSamplerError as error:
        raise UsageError(str(error)) from error


@contextmanager
def resuming(how: str) -> Iterator[None]:
    """Ctrl-C inside is answered by how to go on, such as "the same command goes on where it was"."""
    try:
        yield
    except KeyboardInterrupt as interrupt:
        raise KeyboardInterrupt(how) from interrupt


def fail(error: object, code: int = FAILED, arguments: argparse.Namespace | None = None) -> int:
    """Print an error as one line on stderr, with options named as the command line has them; return the exit code."""
    tell(f"pidsampler: error: {as_typed(str(error), arguments)}")
    return code


def as_typed(text: str, arguments: argparse.Namespace | None) -> str:
    """Return a message of the library with its parameters as options: overwrite=True as --overwrite.

    A parameter with a value is an option where the user gave that option, or is told to pass it. False is to leave a
    flag out.
    """
    text = text.replace("list_schedulers()", "'pidsampler schedulers'").replace(_IN_PYTHON, "")
    text = text.replace("list_timesteps()", "'pidsampler timesteps'")
    command = getattr(arguments, "command", None)
    if command is None:
        return text
    for action in command.option_actions():
        name, option = action.dest, next(one for one in action.option_strings[::-1] if not one.startswith("--no-"))
        if action.nargs in (0, "?"):  # it may stand without a value
            text = re.sub(rf"\b{name}=True\b", option, text)
            text = re.sub(rf"\b{name}=False\b", f"leave {option} out", text)
        if "_" in name:
            text = re.sub(rf"(?<![\w./\\]){name}\b(?!=|\.\w)", option, text)
        given = getattr(arguments, name) != action.default
        before = r"(?<![\w(.])" if given else r"(?<=pass )"
        typed = partial(_typed, option)
        text = re.sub(rf"{before}{name}='?((?<=')[^']*|[^\s:,;)']+)'?", typed, text)
    return text


def _typed(option: str, found: re.Match[str]) -> str:
    return f"{option} {shlex.quote(found[1])}"


def other_inputs(arguments: argparse.Namespace) -> list[Path]:
    """Return the files that a command reads beside its pictures: of a sampler, a list, captions, a model."""
    found = [path for name in ("caption", "negative", "like") if (path := getattr(arguments, name, None)) is not None]
    for name in ("scheduler", "timesteps"):
        file = file_of(getattr(arguments, name, None))
        found += [] if file is None else [Path(file)]
    model = Path(getattr(arguments, "model", None) or "tiny")
    if model.is_file():
        return [*found, model]
    return [*found, *(model.iterdir() if model.is_dir() else ()), *model.glob("tables/*")]


def check_output_file(arguments: argparse.Namespace) -> None:
    """Say what would keep the one file of a long command from being written, before it begins.

    Raises:
        PidSamplerError: The output is an input too, exists without --overwrite, or cannot be a file.
    """
    output: Path = arguments.output
    check_outputs([output], inputs=[*arguments.images, *other_inputs(arguments)])
    if os.path.lexists(output) and not arguments.overwrite:
        raise FileError(f"{output} exists already: pass --overwrite to replace it")
    if (output.exists() and not output.is_file()) or not output.parent.is_dir():
        raise FileError(f"cannot write {output}: expected a file's name in a folder that exists")
    remove_leftovers(real_path(output).parent)


def duration(seconds: float) -> str:
    """Return a time in words, such as "5 min"."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def print_columns(header: list[str], rows: list[list[str]]) -> None:
    """Print rows below their header, each column as wide as its longest cell."""
    rows = [[printable(cell) for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for line in [header, *rows]:
        say("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def describe(what: Description | list[Description], *, as_json: bool) -> None:
    """Print a description, or several as JSON."""
    if as_json:
        data = [asdict(each) for each in what] if isinstance(what, list) else asdict(what)
        say(*json.dumps(data, indent=2, default=str).split("\n"))
        return
    assert not isinstance(what, list)
    say(f"{what.name}: {printable(what.summary)}", "")
    if what.options:
        rows = [[o.name, "" if o.default is None else str(o.default), o.takes] for o in what.options]
        print_columns(["option", "default", "takes"], rows)
        say("")
    facts = [["source", what.source], ["example", what.example]]
    if what.accuracy_order is not None:
        facts[:0] = [
            ["order", str(what.accuracy_order)],
            ["calls/step", str(what.model_calls_per_step)],
            ["stochastic", "yes" if what.stochastic else "no"],
        ]
    if what.aliases:
        facts.append(["also called", ", ".join(what.aliases)])
    for key, value in facts:
        say(f"{key:11}  {printable(value)}")


def add_times(parser: argparse.ArgumentParser, *, noise: bool = True) -> None:
    """Add the options that choose timesteps, eta, and with `noise` how the draws hang together."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument(
        "--steps",
        type=int,
        metavar="N",
        help="that many of the model's own timesteps, or more of them for all schedulers but flow-sde and flow-ode",
    )
    where.add_argument(
        "--timesteps",
        metavar="T,T,...",
        help="descending noise levels that end in 0, kept bit for bit; @FILE of them; LIST:STEPS, or FILE.py:LIST",
    )
    if noise:
        parser.add_argument("--noise", default="independent", help=f"{', '.join(NOISES)} (default: %(default)s)")
    parser.add_argument("--eta", type=float, help="share of fresh noise, 0..1, of schedulers that draw some")


def chosen_scheduler(arguments: argparse.Namespace, own: OwnLike, *, tables: Mapping[str, Path]) -> Scheduler:
    """Make the scheduler asked for, over the times asked for, or over `own`, the model's, which has these tables."""
    options = {} if arguments.eta is None else {"eta": arguments.eta}
    return as_scheduler(
        arguments.scheduler,
        timesteps=arguments.timesteps,
        steps=arguments.steps,
        own=own,
        begin=getattr(arguments, "start", None),
        options=options,
        tables=tables,
    )


def named_table(sampler: str, model: str) -> Scheduler | str:
    """Return a sampler as it was given, but for "@NAME" its table, which may be one of the model's own."""
    if reference(sampler) is None:
        return sampler
    from ..onnx import model_tables

    return as_scheduler(sampler, tables=model_tables(model))
