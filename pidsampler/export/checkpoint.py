"""Checkpoints without PyTorch: safetensors and torch.save read tensor by tensor, and the names that PiD's have."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError, PidSamplerError, reason
from ..io.safetensors import read_header
from .fp8 import SCALES, dequantized
from .layouts import averaged, copies, place, say_copies, unwrapped
from .pickles import printable
from .shards import INDEX, check_shard, check_whole, find_checkpoint, read_index
from .tensors import Stored
from .torch_file import is_torch, read_torch

_HEAD = 64
_POINTER = b"version https://git-lfs"
_SAFETENSORS = (".safetensors", ".sft")
_NAME_LENGTH = 500

_BLOCKS = "patch_blocks."
_PREFIXES = ("net.", "core.", "model.diffusion_model.", "net_ema.", "ema.", "model.", "module.", "state_dict.")
_WRAPPERS = ("module.", "model.", "state_dict.")
_OTHERS = (
    *("net_ema.", "fake_score.", "discriminator.", "teacher.", "repa_loss.", "_repa_projector."),
    *("vae.", "text_encoders."),
)
_TRAINING_HEAD = "lq_proj.lq_aux_rgb_head."
_UNUSED = "pos_embed"  # of PixelDiT's own files
_COUNTERS = ("n_averaged", "decay", "num_updates", "initted", "step")  # of running averages: one number each
_SPLIT = (".adaLN_modulation_msa.", ".adaLN_modulation_mlp.")
_JOINED = ".adaLN_modulation.0."


@dataclass(frozen=True)
class Checkpoint:
    """A checkpoint's tensors, none of them in memory; a `Stored.load` opens a file, reads one and closes it."""

    path: Path
    tensors: dict[str, Stored]


def read_checkpoint(path: Path, *, note: Callable[[str], object] = str) -> Checkpoint:
    """Read the names, shapes and types of a checkpoint's tensors.

    It is a file of safetensors, or of torch.save since PyTorch 1.6, whatever its name ends in; an index of such files
    (`*.index.json`); or a folder with one of these. docs/checkpoints.md lists the layouts.

    A file of torch.save is never run: its pickle is followed only as far as it builds tensors and plain data. It has
    checksums, which are checked as tensors are loaded; safetensors have none. bf16 stays bf16. Loading a tensor takes
    its own size in memory, and beside it what it spans in the file where it lies there with other strides.

    Args:
        path: The file or folder.
        note: Called with a line about what was chosen, where there was a choice.

    Returns:
        The tensors by name. Of a file of torch.save around one dict of tensors ({"state_dict": ...}), that dict's;
        around several, see `torch_file.read_torch`; what is no tensor is left out.

    Raises:
        PidSamplerError: A file is missing, none of these, damaged, or wants to run anything; a folder holds none or
            several; an index and its shards disagree. `load` raises it too, where data are damaged or a file was
            changed since.
    """
    file = path
    try:
        if not path.exists():
            raise FileError("there is no such file or folder")
        if path.is_dir():
            file = find_checkpoint(path)
            note(f"{printable(file.name)} is taken of this folder")
        if not file.is_file():
            raise FileError("it is a device or a pipe: name the checkpoint file itself")
        if file.name.endswith(INDEX):
            tensors = _sharded(file, note)
        else:
            check_whole(file)
            tensors = _read(file, note)
        if not tensors:
            raise FileError("it holds no tensors, expected a network's weights")
        for name in tensors:
            if len(name) > _NAME_LENGTH or not name.isprintable():
                raise FileError(f"a tensor's name is {name[:40]!r}, expected printable characters")
    except PidSamplerError as error:
        raise FileError(f"cannot read {file}: {error}") from error
    except OSError as error:
        raise FileError(f"cannot read {file}: {reason(error)}") from error
    return Checkpoint(file, tensors)


def network_tensors(tensors: Mapping[str, Stored], *, note: Callable[[str], object] = str) -> dict[str, Stored]:
    """Return the tensors of PiD's network, under the names of its source.

    The layouts are those of NVIDIA's training and release files (`net.`; load_state_dict of pid_distill_model.py and
    pixeldit_model.py), PixelDiT's (`core.`, same place), redistributions without a prefix, files that ComfyUI saved
    (`model.diffusion_model.` and two halves of the pixel blocks' modulation; PixelDiTT2I in its supported_models.py),
    and an average (`net_ema.`; dcp.py), each of them also below what `layouts.is_weights` says, such as `module.`. Of a
    model and its average, the average is taken. What else training kept is left out (`fake_score.`, `discriminator.`,
    `teacher.`, ..., the projection's `lq_aux_rgb_head`), and so are the other parts of a ComfyUI checkpoint (`vae.`,
    `text_encoders.`). fp8 becomes float32, see `fp8.dequantized`. Whatever remains keeps its name.

    Args:
        tensors: Tensors by name, as `read_checkpoint` has them.
        note: Called with a line about what was chosen, and what fp8 costs.

    Raises:
        PidSamplerError: No prefix leads to the network, two tensors come to the same name, or the weights are
            integers or quantized in another way than to fp8.
    """
    tensors = unwrapped(tensors)
    prefixes = copies(tensors, _BLOCKS)
    if not prefixes:
        raise FileError(
            f"no PiD network among {len(tensors)} tensors, whose names begin with {_beginnings(tensors)}: expected "
            f"{_BLOCKS}0. and so on, alone or below {', '.join(_PREFIXES)}"
        )
    say_copies(prefixes, note)
    prefix = prefixes[0]
    found: dict[str, Stored] = {}
    average = {name.removeprefix(prefix) for name in tensors if name.startswith(prefix)} if averaged(prefix) else ()
    for name, tensor in tensors.items():
        own = place(name, prefixes)
        if own and own != prefix:
            continue
        short = name.removeprefix(prefix) if own == prefix else _unwrapped_name(name)
        other = short.startswith(_OTHERS) or (own != prefix and short in average)
        counter = short in _COUNTERS and math.prod(tensor.shape) == 1
        if other or counter or short.startswith(_TRAINING_HEAD) or short == _UNUSED:
            continue
        if short in found:
            raise FileError(f"{short} is there twice, as {prefix}{short} and without {prefix!r}: remove one")
        found[short] = tensor
    found = dequantized(found, note=note)
    _check_floats(found)
    return _join_modulations(found)


def _unwrapped_name(name: str) -> str:
    while name.startswith(_WRAPPERS):
        name = name.partition(".")[2]
    return name


def _beginnings(tensors: Mapping[str, Stored]) -> str:
    counts = Counter(name.partition(".")[0] + "." * ("." in name) for name in tensors)
    more = f" and {len(counts) - 12} more" if len(counts) > 12 else ""
    return ", ".join(f"{name} ({count})" for name, count in counts.most_common(12)) + more


def _check_floats(tensors: Mapping[str, Stored]) -> None:
    scales = [name for name in tensors if name.endswith(SCALES)]
    integers = [f"{name} ({tensor.dtype})" for name, tensor in tensors.items() if tensor.dtype.kind in "biuc"]
    if scales or integers:
        kind = f"{len(scales)} scales of quantized ones" if scales else f"{len(integers)} that are no floats"
        raise FileError(
            f"among {len(tensors)} weights are {kind}, such as {(scales or integers)[0]}: take the bf16 or fp32 file"
        )


def _join_modulations(tensors: dict[str, Stored]) -> dict[str, Stored]:
    """Join the halves (3 of 6 parts each, attention's and the MLP's) into which ComfyUI splits a modulation."""
    embedder = tensors.get("pixel_embedder.proj.weight")
    if embedder is None or not embedder.shape or not embedder.shape[0]:
        return tensors
    joined = dict(tensors)
    for name, first in tensors.items():
        twin = name.replace(*_SPLIT)
        second = tensors.get(twin) if twin != name else None
        if second and first.shape == second.shape and first.shape and first.shape[0] % (3 * embedder.shape[0]) == 0:
            del joined[name], joined[twin]
            joined[name.replace(_SPLIT[0], _JOINED)] = _interleaved(first, second, embedder.shape[0])
    return joined


def _interleaved(first: Stored, second: Stored, width: int) -> Stored:
    rows, *rest = first.shape

    def load() -> NDArray[Any]:
        halves = [half.load().reshape(-1, 3, width, *rest) for half in (first, second)]
        return np.concatenate(halves, 1).reshape(2 * rows, *rest)

    return Stored(shape=(2 * rows, *rest), dtype=first.dtype, load=load)


def _sharded(index: Path, note: Callable[[str], object]) -> dict[str, Stored]:
    places = read_index(index)
    tensors: dict[str, Stored] = {}
    inside: dict[str, list[str]] = {}
    for name, shard in places.items():
        inside.setdefault(shard, []).append(name)
    for shard, names in inside.items():
        try:
            found = _read(index.with_name(shard), note)
        except PidSamplerError as error:
            raise FileError(f"its shard {shard}: {error}") from error
        check_shard(shard, found=found, expected=names)
        tensors |= found
    return {name: tensors[name] for name in places}


def _read(path: Path, note: Callable[[str], object]) -> dict[str, Stored]:
    with path.open("rb") as file:
        head = file.read(_HEAD)
    if not head:
        raise FileError("it is empty: copy or download it again")
    if head.startswith(_POINTER):
        raise FileError("it is a pointer of Git LFS, not the file: run git lfs pull, or download it")
    if head.startswith(b"GGUF"):
        raise FileError("it is a GGUF file, quantized for other programs: take the bf16 or fp32 .safetensors")
    if not is_torch(head) and (path.suffix.lower() in _SAFETENSORS or head[8:9] == b"{"):
        return _safetensors(path)
    return read_torch(path, note=note)


def _safetensors(path: Path) -> dict[str, Stored]:
    entries = read_header(path).tensors
    return {name: Stored(shape=one.shape, dtype=one.dtype, load=one.load) for name, one in entries.items()}
