"""Checkpoints of several files: an index that says which file holds which tensor, and folders of checkpoints.

Sources: the `*.index.json` of huggingface_hub's `split_torch_state_dict_into_shards` ({"metadata": ..., "weight_map":
{tensor: file}}), and the file names of diffusers' `utils/constants.py`. An index is data of others: it names files of
its own folder, and nothing else.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from ..errors import FileError, PidSamplerError
from ..io.data import parse_json
from .pickles import printable

INDEX = ".index.json"
_INDEX_BYTES = 2**25
_SHARDS = 1000
_NAMED = 6  # that an error lists
_SHARD = re.compile(r"(?P<stem>.*)-\d{5}-of-(?P<count>\d{5})(?P<end>\.\w+)")
# What a folder is searched for, the first kind that is there.
_KINDS = (
    re.compile(r".*(\.safetensors|\.sft)\.index\.json"),
    re.compile(r".*\.index\.json"),
    re.compile(r".*\.(safetensors|sft)"),
    re.compile(r".*\.(bin|ckpt|pt|pth)"),
)


def find_checkpoint(folder: Path) -> Path:
    """Return the one checkpoint in a folder: an index of shards, else a .safetensors, else a file of torch.save.

    Raises:
        PidSamplerError: There is none, more than one of a kind, or something else that is known.
        OSError: The folder cannot be read.
    """
    names = sorted(path.name for path in folder.iterdir() if not path.name.startswith("."))
    if any(name.endswith(".distcp") for name in names):
        raise FileError(
            "it is a distributed checkpoint of PyTorch (.distcp): run NVIDIA's scripts/convert_distcp_to_pt.py on "
            "it with the option ema, and pass its model_ema_bf16.pth"
        )
    if "model_index.json" in names:
        raise FileError("it is a whole diffusers pipeline: pass the folder of one model in it, such as vae")
    for kind in _KINDS:
        found = [name for name in names if kind.fullmatch(name)]
        if found and all(_shards(name) > 1 for name in found):
            raise FileError(f"it holds shards without their index ({_listed(found)}): copy or download *{INDEX} too")
        if len(found) > 1:
            raise FileError(f"it holds {len(found)} checkpoints ({_listed(found)}): pass one of these files")
        if found:
            return folder / found[0]
    raise FileError(f"it is a folder without a checkpoint (*{INDEX}, *.safetensors, *.bin, *.pth): pass the file")


def check_whole(path: Path) -> None:
    """Check that a file is no shard, by its name.

    Raises:
        PidSamplerError: The file is called such as model-00001-of-00002.safetensors.
    """
    if (count := _shards(path.name)) > 1:
        raise FileError(f"it is one of {count} shards: pass their folder, or the *{INDEX} in it")


def read_index(path: Path) -> dict[str, str]:
    """Read an index: the file that holds each tensor, a plain name in the index's own folder.

    Raises:
        PidSamplerError: The file is no index, names something outside its folder, or a shard is missing or not of it.
        OSError: The file cannot be read.
    """
    with path.open("rb") as file:
        data = file.read(_INDEX_BYTES + 1)
    if len(data) > _INDEX_BYTES:
        raise FileError(f"an index has up to {_INDEX_BYTES} bytes, it has more")
    try:  # bytes that are no text become halves of characters, which no text holds
        index = parse_json(data.decode(errors="surrogateescape"), expected="JSON of an index")
    except PidSamplerError as error:
        raise FileError(f"it is {error}") from error
    places = index.get("weight_map") if isinstance(index, dict) else None
    if not isinstance(places, dict) or not places:
        raise FileError('it is no index of shards: expected {"weight_map": {tensor: file}}')
    for tensor, name in places.items():
        if not isinstance(name, str) or not _is_plain(name):
            raise FileError(
                f"it says that {printable(tensor)} is in {printable(str(name))}, expected the name of a file in its "
                "own folder"
            )
    _check_shards(path.parent, set(places.values()))
    return places


def check_shard(name: str, *, found: Iterable[str], expected: Iterable[str]) -> None:
    """Check that a shard holds the tensors that the index places in it, and no others.

    Raises:
        PidSamplerError: Tensors are missing or not in the index; all of them are said.
    """
    there, told = list(found), set(expected)
    missing = [printable(tensor) for tensor in told.difference(there)]
    extra = [printable(tensor) for tensor in there if tensor not in told]
    kinds = (("lacks", sorted(missing), "which the index places there"), ("holds", extra, "which the index does not"))
    if said := [f"{verb} {_listed(names)}, {why}" for verb, names, why in kinds if names]:
        raise FileError(f"its shard {name} {'; and '.join(said)}: copy or download both again")


def _shards(name: str) -> int:
    """Return of how many shards a file is one, by its name; 0 for none."""
    found = _SHARD.fullmatch(name)
    return int(found["count"]) if found else 0


def _is_plain(name: str) -> bool:
    return 0 < len(name) <= 255 and name.isprintable() and not set(name) & set("/\\:") and name not in (".", "..")


def _check_shards(folder: Path, shards: set[str]) -> None:
    if len(shards) > _SHARDS:
        raise FileError(f"it names {len(shards)} shards, expected up to {_SHARDS}")
    missing = sorted(name for name in shards if not (folder / name).is_file())
    if missing:
        raise FileError(
            f"{len(missing)} of its {len(shards)} shards are not beside it ({_listed(missing)}): copy or download them"
        )
    series = {(found["stem"], found["end"]) for name in shards if (found := _SHARD.fullmatch(name))}
    extra = sorted(
        path.name
        for path in folder.iterdir()
        if (found := _SHARD.fullmatch(path.name)) and (found["stem"], found["end"]) in series
        if path.name not in shards
    )
    if extra:
        raise FileError(f"beside it are shards that it does not name ({_listed(extra)}): remove those of another copy")


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(printable(name) for name in names[:_NAMED]) + more
