"""Checkpoints without PyTorch: safetensors and torch.save read tensor by tensor, and the names that PiD's have."""

from __future__ import annotations

import json
import math
import sys
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..errors import FileError, PidSamplerError, reason
from .fp8 import SCALES, dequantized
from .layouts import averaged, copies, place, say_copies, unwrapped
from .pickles import printable
from .shards import INDEX, check_shard, check_whole, find_checkpoint, read_index, unique_names
from .tensors import Stored
from .torch_file import is_torch, read_torch

_TYPES = {
    "F64": np.float64,
    "F32": np.float32,
    "F16": np.float16,
    "BF16": ml_dtypes.bfloat16,
    "F8_E4M3": ml_dtypes.float8_e4m3fn,
    "F8_E5M2": ml_dtypes.float8_e5m2,
    "I64": np.int64,
    "I32": np.int32,
    "I16": np.int16,
    "I8": np.int8,
    "U64": np.uint64,
    "U32": np.uint32,
    "U16": np.uint16,
    "U8": np.uint8,
    "BOOL": np.bool_,
}
HEADER_BYTES = 8_000_000
"""Bytes of a safetensors header; real ones have up to 1 MB. 95 MB of JSON would take 2.4 GB of memory."""
_HEAD = 64
_POINTER = b"version https://git-lfs"
_SAFETENSORS = (".safetensors", ".sft")
_NAME_LENGTH = 500
_AXES = 32

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
            raise FileError("there is no such file")
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
            raise FileError("it holds no tensors")
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
            integers or quantised in another way than to fp8.
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
        kind = f"{len(scales)} scales of quantised ones" if scales else f"{len(integers)} that are no floats"
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
        raise FileError("it is a GGUF file, quantised for other programs: take the bf16 or fp32 .safetensors")
    if not is_torch(head) and (path.suffix.lower() in _SAFETENSORS or head[8:9] == b"{"):
        return _safetensors(path)
    return read_torch(path, note=note)


def _safetensors(path: Path) -> dict[str, Stored]:
    size = path.stat().st_size
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
        if HEADER_BYTES < length <= size - 8:
            raise FileError(f"its header has {length} bytes, more than the {HEADER_BYTES} that any real file has")
        if size < 8 or length > size - 8:
            raise FileError(
                f"its header would take {length} bytes of a file of {size}: it is truncated or another kind"
            )
        header = _header(file.read(length))
    end, tensors = 0, {}
    entries = {name: _entry(name, entry) for name, entry in header.items() if name != "__metadata__"}
    for name, (dtype, shape, begin, stop) in sorted(entries.items(), key=lambda item: item[1][2:]):
        if begin != end:
            raise FileError(f"its tensor {printable(name)} begins at byte {begin}, but the one before it ends at {end}")
        end = stop
        tensors[name] = _stored(path, 8 + length + begin, dtype, shape)
    if end != size - 8 - length:
        raise FileError(f"its tensors take {end} bytes, {size - 8 - length} are there: copy or download it again")
    return {name: tensors[name] for name in entries}


def _header(data: bytes) -> dict[str, Any]:
    try:
        header = json.loads(data.decode(), object_pairs_hook=unique_names)
    except (ValueError, RecursionError) as error:
        raise FileError(f"its header is no JSON of safetensors ({printable(str(error))})") from error
    if not isinstance(header, dict):
        raise FileError(f"its header is a {type(header).__name__}, expected an object")
    return header


def _entry(name: str, entry: Any) -> tuple[np.dtype[Any], tuple[int, ...], int, int]:
    match entry:
        case {"dtype": str(kind), "shape": [*shape], "data_offsets": [begin, stop]}:
            pass
        case _:
            raise FileError(f"its tensor {printable(name)} has no dtype, shape and two data_offsets")
    if kind not in _TYPES:
        raise FileError(
            f"its tensor {printable(name)} is {printable(kind)}, expected {', '.join(_TYPES)}: "
            "take the bf16 or fp32 file"
        )
    dtype = np.dtype(_TYPES[kind])
    if not all(type(n) is int and 0 <= n < 2**62 for n in (*shape, begin, stop)) or len(shape) > _AXES:
        raise FileError(f"its tensor {printable(name)} has sizes or offsets that are no whole numbers from 0")
    if stop - begin != math.prod(shape) * dtype.itemsize or math.prod(max(n, 1) for n in shape) >= 2**62:
        raise FileError(
            f"its tensor {printable(name)} lies at bytes {begin} to {stop}, which is not the size of {kind} {shape}"
        )
    return dtype, tuple(shape), begin, stop


def _stored(path: Path, start: int, dtype: np.dtype[Any], shape: tuple[int, ...]) -> Stored:
    count = math.prod(shape) * dtype.itemsize

    def load() -> NDArray[Any]:
        data = np.empty(count, np.uint8)
        try:
            with path.open("rb") as file:
                file.seek(start)
                read = file.readinto(data.data)
        except OSError as error:
            raise FileError(f"cannot read {path}: {reason(error)}") from error
        if read != count:
            raise FileError(f"cannot read {path}: it has become shorter than it was")
        if sys.byteorder == "big":
            data = data.view(f"u{dtype.itemsize}").byteswap().view(np.uint8)
        return data.view(dtype).reshape(shape)

    return Stored(shape=shape, dtype=dtype, load=load)
