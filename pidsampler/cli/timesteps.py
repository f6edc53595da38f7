"""`pidsampler timesteps`: list the timestep lists, or describe one."""

from __future__ import annotations

import argparse
from textwrap import shorten

from .common import OK, checking, describe, print_columns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("name", nargs="?", metavar="NAME", help="one of them, or another project's name for it")
    parser.add_argument("--json", action="store_true", help="as JSON, with each option's range")


def run(arguments: argparse.Namespace) -> int:
    """Print the lists, or all of one."""
    from ..schedulers.describe import describe_timesteps, list_timesteps

    with checking():
        found = list_timesteps() if arguments.name is None else describe_timesteps(arguments.name)
    if arguments.json or not isinstance(found, list):
        describe(found, as_json=arguments.json)
        return OK
    print_columns(
        ["name", "options", "source"],
        [
            [d.name, ", ".join(f"{o.name}={o.default}" for o in d.options), shorten(d.source, 60, placeholder=" ...")]
            for d in found
        ],
    )
    return OK
