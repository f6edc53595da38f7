"""`pidsampler doctor`: would an upscale work here, and if not, which line repairs it?"""

from __future__ import annotations

import argparse
from functools import partial

from .common import FAILED, OK
from .output import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's argument."""
    parser.add_argument(
        "--device", default="auto", choices=("auto", "cpu", "cuda"), help="where it must work (default: %(default)s)"
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the report; 0 where an upscale works on the device."""
    from ..onnx.doctor import report

    works = partial(_upscale_something, arguments.device)
    return OK if report(works, device=arguments.device, say=lambda text: say(*text.split("\n"))) else FAILED


def _upscale_something(device: str) -> str:
    """Upscale a picture, and return the device that was used."""
    import numpy as np

    from ..upscale.upscaler import Upscaler

    return str(Upscaler.load("tiny", device)(np.zeros((8, 8, 3), np.uint8)).record["device"])
