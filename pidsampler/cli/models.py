"""`pidsampler models`: list the bundled models."""

from __future__ import annotations

import argparse

from .common import OK, print_columns


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command has no arguments."""


def run(arguments: argparse.Namespace) -> int:
    """Print each model's name, license and description."""
    from ..onnx import bundled_models

    rows = [[name, m.license or "", m.description or ""] for name, m in bundled_models().items()]
    print_columns(["name", "license", "description"], rows)
    return OK
