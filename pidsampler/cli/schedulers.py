"""`pidsampler schedulers`: list the schedulers."""

from __future__ import annotations

import argparse

from ..schedulers.registry import list_schedulers
from .common import OK, print_columns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command has no arguments."""


def run(arguments: argparse.Namespace) -> int:
    """Print what each scheduler says of itself."""
    print_columns(
        ["name", "order", "calls/step", "stochastic", "source"],
        [
            [
                i.name,
                str(i.accuracy_order),
                str(i.model_calls_per_step),
                "yes" if i.stochastic else "no",
                i.source,
            ]
            for i in list_schedulers()
        ],
    )
    return OK
