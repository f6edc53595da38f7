"""What the commands share: exit codes, messages, columns, and the options for a sampler."""

from __future__ import annotations

import argparse
import sys

from .. import timesteps
from ..errors import PidSamplerError
from ..noise import NOISES
from ..schedulers.registry import choose_scheduler
from ..table import Scheduler

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def fail(error: object, code: int = FAILED) -> int:
    """Print an error as one line on stderr, and return the exit code."""
    print(f"pidsampler: error: {error}", file=sys.stderr)
    return code


def print_columns(header: list[str], rows: list[list[str]]) -> None:
    """Print rows below their header, each column as wide as its longest cell."""
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for line in [header, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def add_times(parser: argparse.ArgumentParser) -> None:
    """Add the options that choose timesteps, noise and eta."""
    where = parser.add_mutually_exclusive_group()
    where.add_argument("--steps", type=int, metavar="N", help="that many of the model's own timesteps")
    where.add_argument(
        "--timesteps",
        metavar="T,T,...",
        help="descending noise levels that end in 0, kept bit for bit, or @FILE of them",
    )
    parser.add_argument("--noise", default="independent", help=f"{', '.join(NOISES)} (default: %(default)s)")
    parser.add_argument("--eta", type=float, help="share of fresh noise, 0..1, of schedulers that draw some")


def chosen_scheduler(arguments: argparse.Namespace, own: timesteps.TimesLike) -> Scheduler:
    """Make the scheduler asked for, over the times asked for, or over `own`, the model's."""
    times = arguments.timesteps
    if times is not None and not times.startswith("@"):
        times = [_number(text) for text in times.split(",")]
    options = {} if arguments.eta is None else {"eta": arguments.eta}
    return choose_scheduler(arguments.scheduler, own, times, arguments.steps, **options)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise PidSamplerError(f"timestep {text!r} is not a number: pass a list such as 0.999,0.634,0") from None
