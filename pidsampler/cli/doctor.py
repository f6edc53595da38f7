"""`pidsampler doctor`: would a GPU run work here, and if not, which line repairs it?"""

from __future__ import annotations

import argparse

from .common import FAILED, OK
from .output import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command has no arguments."""


def run(arguments: argparse.Namespace) -> int:
    """Print the report; 0 where a GPU run works."""
    from ..onnx.doctor import report

    return OK if report(_upscale_something, say=lambda text: say(*text.split("\n"))) else FAILED


def _upscale_something() -> None:
    import numpy as np

    from ..upscale.upscaler import Upscaler

    Upscaler.load("tiny", "cuda")(np.zeros((8, 8, 3), np.uint8))
