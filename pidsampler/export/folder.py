"""Writing a model folder: whole or not at all."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .. import moved
from ..errors import ConfigError, FileError, PidSamplerError, reason
from ..io import captions
from ..io.atomic import real_path, remove_leftovers, replace_folder, temporary_folder
from ..io.files import check_outputs
from ..onnx.contract import ENCODER, NETWORK, NULL_CAPTION, PROJECTION
from ..onnx.manifest import NAME as MANIFEST
from ..onnx.manifest import Manifest
from .architecture import Architecture
from .build import TYPES
from .layers import Form, check_form
from .network import build_network
from .projection import build_projection
from .tensors import Stored
from .vae import Encoder, build_encoder

_GRAPHS = (ENCODER, PROJECTION, NETWORK)
_FILES = {MANIFEST, NULL_CAPTION, *_GRAPHS, *(f"{name}.data" for name in _GRAPHS)}
_SPARE = 1.02  # of the weights' bytes, for all else


@moved.keywords()
@dataclass(frozen=True, kw_only=True)
class ExportPlan:
    """What goes into a folder.

    Args:
        architecture: Sizes of the network.
        tensors: Weights by name, see `Architecture.shapes`.
        form: Form of the network: types, sizes, inputs.
        manifest: Facts that the graphs do not say; its position_limit becomes the architecture's, and its
            stored_caption the form's.
        encoder: The image's encoder, or None for latents only.
        encoder_tensors: Weights of the encoder, see `encoder_shapes`.
        null_caption: Floats (text_length, text_width) of a network that takes a caption: the one where none is given.
            None is zeros, which NVIDIA's inference never uses.

    Raises:
        PidSamplerError: The null caption has another shape, holds NaN or infinity, or numbers too large for the type of
            the form; or the form takes no caption.
    """

    architecture: Architecture
    tensors: Mapping[str, Stored]
    form: Form
    manifest: Manifest
    encoder: Encoder | None = None
    encoder_tensors: Mapping[str, Stored] | None = None
    null_caption: NDArray[Any] | None = None

    def __post_init__(self) -> None:
        if self.null_caption is None:
            return
        if not self.form.takes_caption:
            raise ConfigError("null_caption is for a network that takes a caption: pass caption=input with it")
        a = self.architecture
        captions.check_shape(null := captions.checked(self.null_caption), (a.text_length, a.text_width))
        check_form(a, self.form)
        captions.check_fits(null, TYPES[self.form.dtype])  # in which the network works

    @property
    def size(self) -> int:
        """Bytes of the weights as they are written."""
        width = int(TYPES[self.form.dtype].itemsize)
        network = sum(width * math.prod(tensor.shape) for tensor in self.tensors.values())
        encoder = sum(4 * math.prod(tensor.shape) for tensor in (self.encoder_tensors or {}).values())
        return network + encoder


def check_target(target: Path, overwrite: bool, *, inputs: Iterable[Path] = ()) -> None:
    """Check that a folder can be written.

    Args:
        target: The folder, or a link to it.
        overwrite: Whether a model that is there is replaced.
        inputs: Files that are read, and so are never replaced.

    Raises:
        PidSamplerError: The folder exists and `overwrite` is false, it holds an input or what is no model's, or its
            parent does not exist.
    """
    if not real_path(target).parent.is_dir():
        raise FileError(f"cannot write {target}: there is no folder {target.parent}")
    try:
        if not target.exists():
            return
    except OSError as error:  # of a name that is too long
        raise FileError(f"cannot write {target}: {reason(error)}") from error
    if not target.is_dir():
        raise FileError(f"{target} is a file, expected a new folder's name")
    if others := sorted({path.name for path in target.iterdir()} - _FILES):
        raise FileError(f"{target} holds {others[0]!r}, which is not a model's: pass a new folder")
    check_outputs(target.iterdir(), inputs=inputs)
    if any(target.iterdir()) and not overwrite:
        raise FileError(f"{target} holds a model already: pass overwrite=True to replace it, or another folder")


@moved.keywords()
def write_folder(
    plan: ExportPlan,
    target: Path,
    *,
    overwrite: bool = False,
    note: Callable[[str], object] = str,
    check: Callable[[Path], object] | None = None,
) -> None:
    """Write a model folder under a temporary name, and rename it when it is whole and checked.

    What exports that were killed left beside it is removed first. The model that is replaced stays until the new one
    has its name, and a link is followed.

    Args:
        plan: See `ExportPlan`.
        target: The folder.
        overwrite: Whether a model that is there is replaced.
        note: Called with the name of each file before it is written.
        check: Called with the temporary folder when all files are in it, such as `verify`; what it raises ends the
            export, and no folder stays.

    Raises:
        PidSamplerError: The folder cannot be written, or does not fit on the disk; or weights are not finite.
    """
    check_target(target, overwrite)
    named, target = target, real_path(target)
    remove_leftovers(target.parent)
    free = shutil.disk_usage(target.parent).free
    if plan.size * _SPARE > free:
        raise FileError(
            f"{named} needs {plan.size / 1e9:.1f} GB, but {named.parent} has {free / 1e9:.1f} GB free: make room, or "
            "pass dtype='bfloat16'"
        )
    try:
        with temporary_folder(target) as temporary:
            _write(plan, temporary, note)
            if check is not None:
                check(temporary)
            replace_folder(temporary, target)
    except PidSamplerError:
        raise
    except OSError as error:
        raise FileError(f"cannot write {named}: {reason(error)}") from error
    remove_leftovers(target.parent)  # again, for those that were too new to be told from what is being written


def _write(plan: ExportPlan, folder: Path, note: Callable[[str], object]) -> None:
    if plan.encoder is not None and plan.encoder_tensors is not None:
        note(ENCODER)
        height, width = plan.form.size or (None, None)
        scale = plan.architecture.scale
        height, width = height and height // scale, width and width // scale
        build_encoder(plan.encoder, plan.encoder_tensors, height=height, width=width).save(folder / ENCODER)
    if plan.form.split:
        note(PROJECTION)
        build_projection(plan.architecture, plan.tensors, form=plan.form).save(folder / PROJECTION)
    note(NETWORK)
    build_network(plan.architecture, plan.tensors, form=plan.form).save(folder / NETWORK)
    if plan.null_caption is not None:
        note(NULL_CAPTION)
        np.save(folder / NULL_CAPTION, captions.checked(plan.null_caption))
    manifest = replace(
        plan.manifest, position_limit=plan.architecture.position_limit, stored_caption=_stored(plan.form)
    )
    (folder / MANIFEST).write_text(json.dumps(manifest.to_dict(), indent=2) + "\n", encoding="utf-8")


def _stored(form: Form) -> str | None:
    """What tells the caption in a graph from zeros."""
    said = None if form.takes_caption else captions.described(form.caption)
    return None if said is None else str(said["sha256"])


__getattr__ = moved.names(__name__)
