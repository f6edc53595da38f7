"""`upscale -` and `upscale -o -`: a picture's bytes in by stdin, out by stdout; lines then go to stderr."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable
from os.path import exists, isdir
from pathlib import Path
from typing import TYPE_CHECKING

from ..io import pictures
from ..io.files import check_outputs
from .common import UsageError, other_inputs
from .output import divert, on_terminal, receive, send

if TYPE_CHECKING:
    from ..upscale.batch import FileOutcome, Settings
    from ..upscale.upscaler import Upscaler

_PIPE = "-"


def is_piped(arguments: argparse.Namespace) -> bool:
    """Return whether a picture comes by stdin or goes to stdout."""
    return Path(_PIPE) in arguments.inputs or arguments.output == _PIPE


def check(arguments: argparse.Namespace) -> None:
    """Check before any work what is piped, and let lines go to stderr where stdout is the picture's.

    Raises:
        PidSamplerError: Several inputs, a folder or a cluster; stdout is a terminal; or the output cannot be written.
    """
    inputs, output = arguments.inputs, arguments.output
    if len(inputs) != 1 or isdir(inputs[0]):
        raise UsageError("- is one picture, by stdin or stdout: give one input that is no folder")
    if arguments.engine != "local":
        raise UsageError(f"- is a picture of this process: not with --engine {arguments.engine}")
    if output == _PIPE:
        if on_terminal(sys.stdout):
            raise UsageError("-o - writes a picture's bytes, and stdout is a terminal: send it to a file or a pipe")
        divert()
        return
    path = Path(output)
    if isdir(path) or output.endswith("/") or not (path.suffix or exists(path)):
        raise UsageError(f"{output} is a folder, and what comes by stdin has no name: pass -o FILE.png")
    check_outputs([path], inputs=other_inputs(arguments))
    pictures.check_output(path, arguments.overwrite)


def upscale(
    arguments: argparse.Namespace, up: Upscaler, *, settings: Settings, progress: Callable[[Path, float], object]
) -> FileOutcome:
    """Enlarge the one picture.

    Raises:
        PidSamplerError: The picture cannot be read, made or written.
    """
    from ..upscale.batch import File, FileOutcome

    (path,), began = arguments.inputs, time.perf_counter()
    image = receive(pictures.MOST_BYTES) if path == Path(_PIPE) else path
    result = up(image, **settings.keywords(), progress=lambda share: progress(path, share))
    if arguments.output == _PIPE:
        send(result.to_png())
    else:
        result.save(arguments.output, arguments.overwrite)
    file = File(path, Path(arguments.output))
    return FileOutcome(file, record=result.record, seconds=time.perf_counter() - began)
