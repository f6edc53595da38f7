"""`pidsampler compile`: a model and a sampler become one ONNX file."""

from __future__ import annotations

import argparse
import re
from functools import partial
from pathlib import Path
from typing import Any

from ..errors import ConfigError, optional
from ..io import captions
from ..values import shown
from .common import OK, add_times, checking, chosen_scheduler
from .output import say, tell

_SIZE = re.compile(r"(\d{1,7})x(\d{1,7})", re.ASCII)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("model", metavar="MODEL", help="bundled name, model folder, or hf:OWNER/NAME[@REVISION]")
    parser.add_argument(
        "-o", "--output", required=True, type=Path, metavar="FILE", help="the file, such as sampler.onnx"
    )
    parser.add_argument(
        "--scheduler",
        metavar="SPEC",
        help="see 'pidsampler schedulers', FILE.py:NAME, @FILE.json or @NAME (default: the model's, or flow-sde)",
    )
    add_times(parser, noise=False)
    parser.add_argument(
        "--size", required=True, metavar="WxH", help="size of the result in pixels, or 'any': each picture's own"
    )
    parser.add_argument(
        "--noise",
        default="input",
        help="input: the graph takes each draw; philox: it takes a seed, and makes the noise by operators that ONNX "
        "Runtime has on the CPU alone (default: %(default)s)",
    )
    parser.add_argument(
        "--output-type",
        default="uint8",
        metavar="TYPE",
        help="type of the result: uint8, pixels; float32, as sampled (default: %(default)s)",
    )
    parser.add_argument(
        "--caption",
        type=Path,
        metavar="FILE",
        help="its embedding's .npy, or 'input', for a network that takes one (default: the model's null caption)",
    )
    parser.add_argument("--guidance", type=float, metavar="S", help="on the caption, from 0: two model calls a row")
    parser.add_argument("--overwrite", action="store_true", help="replace a file that is there")
    parser.add_argument("--quiet", action="store_true", help="print errors only")


def run(arguments: argparse.Namespace) -> int:
    """Write the file, and print what it takes and makes.

    Raises:
        PidSamplerError: An argument is wrong, or the file cannot be made.
    """
    optional("onnx_ir", "onnx-ir", extra="export")
    from ..export.one_graph import compile, described, sampled_size
    from ..onnx import model_manifest, model_tables
    from ..onnx.manifest import TeacherRule

    manifest = model_manifest(arguments.model)
    with checking():
        size = _size(arguments.size)
        own = manifest.own_timesteps
        arguments.scheduler = arguments.scheduler or manifest.own_sampler
        sampler = chosen_scheduler(
            arguments,
            partial(own.at, sampled_size(arguments.model, size=size)) if isinstance(own, TeacherRule) else own,
            tables=model_tables(arguments.model),
        )
        caption: Any = arguments.caption
        if caption is not None:
            caption = "input" if caption == Path("input") else captions.read(caption)
    path = compile(
        arguments.model,
        sampler,
        size=size,
        output=arguments.output,
        noise=arguments.noise,
        output_type=arguments.output_type,
        caption=caption,
        guidance=arguments.guidance,
        overwrite=arguments.overwrite,
    )
    if arguments.quiet:
        return OK
    whole = described(path)
    calls = whole.calls
    made = "any size" if isinstance(size, str) else f"{size[1]}x{size[0]}"
    say(f"{path}: {made}, {calls} model call{'s' * (calls > 1)}, {path.stat().st_size / 1e6:.1f} MB")
    say(*(f"  in   {port}" for port in whole.inputs), *(f"  out  {port}" for port in whole.outputs))
    if whole.domains:
        tell(
            f"pidsampler: it needs ONNX Runtime, for operators of {', '.join(whole.domains)}: for other "
            "runtimes export the model with --target onnx or tensorrt"
        )
    return OK


def _size(text: str) -> tuple[int, int] | str:
    if text == "any":
        return text
    found = _SIZE.fullmatch(text)
    if found is None:
        raise ConfigError(f"--size {shown(text)} is neither WIDTHxHEIGHT in pixels, such as 512x512, nor 'any'")
    return int(found[2]), int(found[1])
