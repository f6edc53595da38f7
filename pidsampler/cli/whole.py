"""`upscale --model sampler.onnx` and `inspect sampler.onnx`: a whole sampler that `compile` made."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import optional
from .common import OK, UsageError, print_columns
from .output import say

if TYPE_CHECKING:
    from ..upscale.batch import Settings
    from ..upscale.finish import Finish
    from ..upscale.whole_sampler import WholeSampler

# Options of `upscale` that the graph has in it, or that one graph has no use for.
_FIXED = ("scheduler", "steps", "timesteps", "eta", "noise", "start", "guidance", "negative")
_UNUSED = ("like", "tile", "overlap", "max_memory", "engine", "accept_license")


def is_whole(model: str) -> bool:
    """Return whether a model is named that is one file, and no folder."""
    return model.endswith(".onnx") and not Path(model).is_dir()


def load(arguments: argparse.Namespace) -> WholeSampler:
    """Load the file of --model.

    Raises:
        PidSamplerError: An option says what the graph has in it; or the file is no whole sampler.
    """
    from ..upscale.whole_sampler import WholeSampler

    for action in arguments.command.option_actions():
        given = getattr(arguments, action.dest) != action.default
        if given and action.dest in _FIXED:
            what = f"{action.option_strings[-1]} is in the graph {arguments.model} already"
            raise UsageError(f"{what}: leave it out, or compile another")
        if given and action.dest in _UNUSED:
            raise UsageError(f"{action.option_strings[-1]} is for a model's folder, and {arguments.model} is one graph")
    return WholeSampler(arguments.model, arguments.device)


def settings_of(arguments: argparse.Namespace, finish: Finish) -> Settings:
    """Return the settings that the arguments ask for, checked."""
    from ..io import captions
    from ..upscale.batch import Settings

    return Settings(
        seed=arguments.seed,
        degrade_sigma=arguments.degrade_sigma,
        caption=None if arguments.caption is None else captions.read(arguments.caption),
        finish=finish,
        overwrite=arguments.overwrite,
    )


def inspect(path: Path) -> int:
    """Print what a whole sampler takes and makes, and of what it was compiled."""
    optional("onnx_ir", "onnx-ir", extra="export")
    from ..export.one_graph import described

    whole = described(path)
    model = whole.record["model"]
    rows = [["in", str(port)] for port in whole.inputs] + [["out", str(port)] for port in whole.outputs]
    for name, value in model.items() if isinstance(model, dict) else ():
        rows += (
            [[f"sha256 {file}", str(digest)] for file, digest in value.items()]
            if isinstance(value, dict)
            else [["model" if name == "name" else name.replace("_", " "), str(value)]]
        )
    record = whole.record
    rows += [[name, str(record[name])] for name in ("scheduler", "guidance", "noise_frame") if record[name] is not None]
    if isinstance(learnt := record.get("learnt_for"), dict):
        this = "this one" if learnt.get("this_model") else "another one"
        rows.append(["learnt for", f"{learnt.get('model')}, {this}"])
    rows.append(["timesteps", ", ".join(f"{t:.6g}" for t in whole.table.times)])
    rows.append(["model calls", str(whole.calls)])
    rows.append(["operators", ", ".join(["ONNX's", *whole.domains])])
    print_columns(["sampler", str(path)], rows)
    say("", *str(whole.table).split("\n"))
    return OK
