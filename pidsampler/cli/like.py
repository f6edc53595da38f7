"""`upscale --like PICTURE`: the options of a result, taken from another picture's record."""

from __future__ import annotations

import argparse
import hashlib
from pathlib import Path
from typing import TYPE_CHECKING

from ..errors import PidSamplerError
from .common import UsageError
from .output import tell

if TYPE_CHECKING:
    from ..upscale.again import Recipe
    from ..upscale.memory import Tiling

# What a record says, so that no option says it too.
_TOLD = (
    *("scheduler", "steps", "timesteps", "noise", "eta", "seed", "degrade_sigma", "start", "guidance"),
    *("scale", "size", "fit", "color", "color_strength", "despeckle"),
)
_TILES = ("tile", "overlap", "max_memory")


def read_recipe(arguments: argparse.Namespace) -> Recipe | None:
    """Return what the picture of --like says, and make its model that of the command; None without --like.

    Raises:
        PidSamplerError: An option says what the record says, or the record, the model or an embedding does not do.
    """
    if arguments.like is None:
        return None
    from ..io import captions
    from ..io.records import read_record
    from ..upscale.again import Recipe

    for action in arguments.command.option_actions():
        if action.dest in _TOLD and getattr(arguments, action.dest) != action.default:
            raise UsageError(f"{action.option_strings[-1]} and --like exclude each other: the record says it")
    given = {
        name: captions.read(path) for name in ("caption", "negative") if (path := getattr(arguments, name)) is not None
    }
    recipe = Recipe.of(read_record(arguments.like), **given)
    default = arguments.command.get_default("model")
    arguments.model = str(recipe.model(None if arguments.model == default else arguments.model))
    digest = _sha256(arguments.inputs[0]) if len(arguments.inputs) == 1 else None
    if digest not in (None, recipe.input_hash):
        which = f"{arguments.inputs[0]} is not the input of {arguments.like}"
        tell(f"pidsampler: {which}: another picture is made in the same way")
    return recipe


def tiling_of(arguments: argparse.Namespace, recipe: Recipe | None) -> Tiling:
    """Return how results are cut up: as the options say, or else as the record does."""
    from ..upscale.memory import Tiling

    parser = arguments.command
    if recipe is not None and all(getattr(arguments, name) == parser.get_default(name) for name in _TILES):
        return recipe.tiling
    return Tiling.parse(arguments.tile, arguments.overlap, max_memory=arguments.max_memory)


def compare(made: Path, like: Path) -> str | None:
    """Return how a picture that was made again differs from the first one; None where that cannot be told.

    Both are PNG: what another format holds is not what was made.
    """
    import numpy as np

    from ..io import pictures

    if not (pictures.holds_text(made) and pictures.holds_text(like)):
        return None
    try:
        pixels, first = pictures.read(made).pixels, pictures.read(like).pixels
    except PidSamplerError:
        return None
    if pixels.shape != first.shape:
        return f"not as {like}, which is of another size"
    levels = int(np.abs(pixels.astype(np.int32) - first).max())
    return f"the same pixels as {like}" if levels == 0 else f"up to {levels} of 255 off {like}"


def _sha256(path: Path) -> str | None:
    """The hash of a file that is there; of another kind of input none."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest() if path.is_file() else None
    except OSError:
        return None
