"""`pidsampler schedulers`: list the schedulers, or describe one."""

from __future__ import annotations

import argparse

from ..schedulers.registry import SCHEDULERS
from .common import OK, checking, describe, print_columns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="one of them, or another project's name for it")
    parser.add_argument("--json", action="store_true", help="as JSON, with each option's range")


def run(arguments: argparse.Namespace) -> int:
    """Print what each scheduler says of itself, or all of one."""
    from ..schedulers.describe import describe_scheduler

    with checking():
        found = [describe_scheduler(name) for name in SCHEDULERS.names() if arguments.name is None]
        one = None if arguments.name is None else describe_scheduler(arguments.name)
    if arguments.json or one is not None:
        describe(found if one is None else one, as_json=arguments.json)
        return OK
    print_columns(
        ["name", "order", "calls/step", "stochastic", "source"],
        [
            [d.name, str(d.accuracy_order), str(d.model_calls_per_step), "yes" if d.stochastic else "no", d.source]
            for d in found
        ],
    )
    return OK
