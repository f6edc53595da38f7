"""Files of torch.save: zip archives of a pickle and the bytes of its tensors."""

from __future__ import annotations

import io
import sys
import zipfile
import zlib
from collections.abc import Callable, Mapping
from itertools import dropwhile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import FileError, PidSamplerError, reason
from .layouts import averaged, is_weights, say_copies
from .pickles import Entries, PickledTensor, printable, read_pickle
from .tensors import Stored

_LEGACY = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the magic number of PyTorch's files before 1.6
_PICKLE_BYTES = 2**26
_CHUNK = 2**20
_DEPTH = 8  # of dicts in dicts
_LOCAL_HEADER = 30  # bytes, of which the last four are the lengths of the name and of what follows it

_Keys = tuple[str, ...]  # that lead to a dict inside others


def is_torch(head: bytes) -> bool:
    """Return whether a file's first bytes are those of torch.save, of any version."""
    return head.startswith((b"PK\x03\x04", _LEGACY))


def read_torch(path: Path, *, note: Callable[[str], object] = str) -> dict[str, Stored]:
    """Read what a file of torch.save holds, without its tensors' data.

    A dict of tensors gives these. A dict around one dict of tensors, at any depth ({"state_dict": ...}, beside numbers
    and such, or fewer tensors of its own), gives the inner one; around several, the keys stand before their names, with
    dots. Where some of these are called as models are (`layouts.is_weights`), they are taken alone, and the others are
    left out, with a note if they have the same names in them. What is no tensor is left out.

    Args:
        path: The file.
        note: Called with a line about copies of the model that are left out.

    Raises:
        PidSamplerError: The file is no .pth, is damaged, or its pickle wants to run something.
        OSError: The file cannot be read.
    """
    archive = _Archive(path)
    return {name: archive.stored(tensor) for name, tensor in _named(archive.top(), note).items()}


class _Archive:
    """The records of an archive, each found at its name below the archive's one folder."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._checked: set[str] = set()  # records whose CRC was right
        with path.open("rb") as file:
            head = file.read(len(_LEGACY))
            self._size = file.seek(0, io.SEEK_END)
        if not head.startswith(b"PK"):
            raise FileError(_no_zip(head))
        self._records = _records(path)
        order = self._whole("byteorder") if "byteorder" in self._records else b"little"
        if order not in (b"little", b"big"):
            raise FileError(f"its byte order is {order[:20]!r}, expected little or big")
        self._swapped = order.decode() != sys.byteorder

    def top(self) -> Any:
        return read_pickle(self._whole("data.pkl"))

    def stored(self, tensor: PickledTensor) -> Stored:
        """Return a tensor of the pickle to be loaded.

        Raises:
            PidSamplerError: The record is missing, compressed, or shorter than the tensor needs.
        """
        storage = tensor.storage
        record = self._record(f"data/{storage.key}")
        if record.file_size < storage.count * storage.dtype.itemsize:
            raise FileError(
                f"the record data/{printable(storage.key)} has {record.file_size} bytes, "
                f"its {storage.count} elements of {storage.dtype} need {storage.count * storage.dtype.itemsize}"
            )

        def load() -> NDArray[Any]:
            try:
                return self._load(tensor)
            except PidSamplerError as error:
                raise FileError(f"cannot read {self._path}: {error}") from error
            except OSError as error:
                raise FileError(f"cannot read {self._path}: {reason(error)}") from error

        return Stored(shape=tensor.shape, dtype=storage.dtype, load=load)

    def _load(self, tensor: PickledTensor) -> NDArray[Any]:
        dtype = tensor.storage.dtype
        if not tensor.span:
            return np.empty(tensor.shape, dtype)
        raw = self._read(f"data/{tensor.storage.key}", tensor.offset * dtype.itemsize, tensor.span * dtype.itemsize)
        if self._swapped:
            part = dtype.itemsize // 2 if dtype.kind == "c" else dtype.itemsize
            raw = raw.view(f"u{part}").byteswap()
        strides = [stride * dtype.itemsize for stride in tensor.strides]
        array: NDArray[Any] = np.ndarray(tensor.shape, dtype, raw, strides=strides)
        return array if array.flags.c_contiguous else array.copy(order="C")

    def _whole(self, name: str) -> bytes:
        size = self._record(name).file_size
        if size > _PICKLE_BYTES:
            raise FileError(f"its record {name} has {size} bytes, expected up to {_PICKLE_BYTES}")
        return self._read(name, 0, size).tobytes()

    def _record(self, name: str) -> zipfile.ZipInfo:
        if name not in self._records:
            raise FileError(f"it has no record {printable(name)}: copy or download it again")
        record = self._records[name]
        if record.compress_type != zipfile.ZIP_STORED or record.flag_bits & 1:
            raise FileError(
                f"its record {printable(name)} is compressed or encrypted, which torch.save does not do: "
                "save it again with torch.save"
            )
        return record

    def _read(self, name: str, start: int, count: int) -> NDArray[np.uint8]:
        """Read a part of a record; the whole record is checked against its CRC the first time."""
        record = self._record(name)
        with self._path.open("rb") as file:
            begin = self._begin(file, record)
            data = np.empty(count, np.uint8)
            if name not in self._checked and count < record.file_size:
                file.seek(begin)
                self._check(name, _crc(file, record.file_size))
            file.seek(begin + start)
            if file.readinto(data.data) != count:
                raise FileError(_truncated(name))
        if count == record.file_size:
            self._check(name, zlib.crc32(data.data))
        return data

    def _check(self, name: str, found: int) -> None:
        if self._records[name].CRC not in (0, found):  # 0: torch.serialization.set_crc32_options(False)
            raise FileError(f"its record {printable(name)} is damaged (CRC): copy or download it again")
        self._checked.add(name)

    def _begin(self, file: io.BufferedReader, record: zipfile.ZipInfo) -> int:
        """Return where a record's bytes begin: behind its name and padding, which only its own header gives."""
        name = record.orig_filename.encode("utf-8" if record.flag_bits & 0x800 else "cp437")
        if 0 <= record.header_offset <= self._size - _LOCAL_HEADER:
            file.seek(record.header_offset)
            header = file.read(_LOCAL_HEADER + len(name))
            lengths = [int.from_bytes(header[at : at + 2], "little") for at in (26, 28)]
            begin = record.header_offset + _LOCAL_HEADER + sum(lengths)
            same = header.startswith(b"PK\x03\x04") and lengths[0] == len(name) and header.endswith(name)
            if same and begin + record.file_size <= self._size:
                return begin
        raise FileError(_truncated(record.filename))


def _records(path: Path) -> dict[str, zipfile.ZipInfo]:
    """Return an archive's records by their names below its folder, that of its one data.pkl."""
    try:
        with zipfile.ZipFile(path) as archive:
            found = archive.infolist()
    except OSError:
        raise
    except Exception as error:  # zipfile has an error for every kind of damage
        raise FileError("it is a damaged or truncated zip archive: copy or download it again") from error
    names = [info.filename for info in found]
    folders = [name.removesuffix("data.pkl") for name in names if name.endswith("/data.pkl") and name.count("/") == 1]
    if len(folders) != 1:
        raise FileError(f"it is a zip archive with {len(folders)} FOLDER/data.pkl in it, expected one, of torch.save")
    if len(set(names)) != len(names):
        raise FileError("it is a zip archive with two records of one name: save it again with torch.save")
    return {info.filename.removeprefix(folders[0]): info for info in found if info.filename.startswith(folders[0])}


def _named(top: Any, note: Callable[[str], object]) -> dict[str, PickledTensor]:
    if not isinstance(top, Entries):
        kind = "tensor" if isinstance(top, PickledTensor) else type(top).__name__
        raise FileError(f"it holds no dict but a {kind}: expected tensors by name, or a dict of these")
    found, lists = _dicts(top)
    if not found:
        keys = ", ".join(printable(key) for key, _ in top[:12] if isinstance(key, str))
        raise FileError(f"it holds no tensors by name, only {keys or 'nothing'}: expected a model's state_dict")
    largest = max(found, key=lambda path: len(found[path]))
    models = {path for path in found if all(map(is_weights, path)) and (path or not largest)}
    if not models:
        inner = sorted((path for path in found if path), key=len)
        return _joined(found, [path for path in inner if len(path) == len(inner[0])])
    main = max((path for path in found if path in models), key=lambda path: len(found[path]))
    names = {path: {_own(name) for name in tensors} for path, tensors in found.items()}
    shared = {path: len(own & names[main]) for path, own in names.items()}
    same = [path for path in found if 2 * shared[path] >= min(len(names[path]), len(names[main]))]
    whole = {path for path in same if 2 * len(names[path]) >= len(names[main])}
    around = {path[:end] for path in (*found, *lists) for end in range(len(path))}  # which may have bare tensors only
    known = models | {()}
    taken = [path for path in found if path in known and (path in whole or (main and path not in around))]
    left = whole.union(path for path in same if path and averaged(_prefix(path))).difference(taken)
    others = [_prefix(path) for path in same if path in left]
    others += [
        f"{_prefix(path)} (a list without names)"
        for path, count in lists.items()
        if averaged(_prefix(path)) and 2 * count >= len(found[main])
    ]
    first = next((path for path in taken if path in same and averaged(_prefix(path))), main)
    say_copies([_prefix(first), *others], note)
    return _joined(found, taken)


def _dicts(top: Entries) -> tuple[dict[_Keys, dict[str, PickledTensor]], dict[_Keys, int]]:
    """Return the dicts of tensors by name at any depth, and how many tensors lists have, each by the keys to it."""
    dicts: dict[_Keys, dict[str, PickledTensor]] = {}
    lists: dict[_Keys, int] = {}
    waiting: list[tuple[_Keys, Any]] = [((), top)]
    seen: set[int] = set()  # a hostile file may hold a dict in itself, or many times
    for path, value in waiting:
        if id(value) in seen or len(path) > _DEPTH:
            continue
        seen.add(id(value))
        entries = value if isinstance(value, Entries) else [(None, one) for one in value]
        named = {key: one for key, one in entries if isinstance(key, str) and isinstance(one, PickledTensor)}
        if named:
            dicts[path] = named
        elif not isinstance(value, Entries):
            lists[path] = sum(isinstance(one, PickledTensor) for one in value)
        waiting += [
            ((*path, key if isinstance(key, str) else str(i)), one)
            for i, (key, one) in enumerate(entries)
            if isinstance(one, list | tuple)
        ]
    return dicts, lists


def _joined(found: Mapping[_Keys, dict[str, PickledTensor]], paths: list[_Keys]) -> dict[str, PickledTensor]:
    """Return the tensors of one dict, or of several with the keys to each before their names."""
    if len(paths) == 1:
        return found[paths[0]]
    return {_prefix(path) + name: tensor for path in paths for name, tensor in found[path].items()}


def _prefix(path: _Keys) -> str:
    return "".join(f"{key.replace('.', '_')}." for key in path)


def _own(name: str) -> str:
    """Return a tensor's name without what stands before the model's own names."""
    parts = name.split(".")
    return ".".join(dropwhile(lambda part: part.startswith("_") or is_weights(part), parts[:-1])) + f".{parts[-1]}"


def _crc(file: io.BufferedReader, count: int) -> int:
    crc = 0
    while count:
        chunk = file.read(min(count, _CHUNK))
        if not chunk:
            return -1
        crc, count = zlib.crc32(chunk, crc), count - len(chunk)
    return crc


def _no_zip(head: bytes) -> str:
    if head == _LEGACY:
        return "it was saved by PyTorch before 1.6 or without its zip format: load it there and torch.save it again"
    return f"it begins with {head[:4]!r}, neither safetensors nor a zip of torch.save: copy or download it again"


def _truncated(name: str) -> str:
    return (
        f"its record {printable(name)} is not where the archive says, as in a truncated file: copy or download it again"
    )
