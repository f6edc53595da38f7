"""PyTorch's pickles, read without running them: an instruction is followed only if it builds a tensor or plain data."""

from __future__ import annotations

import math
import pickletools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np

from ..errors import FileError, PidSamplerError

_STORAGES = {
    "torch.DoubleStorage": np.float64,
    "torch.FloatStorage": np.float32,
    "torch.HalfStorage": np.float16,
    "torch.BFloat16Storage": ml_dtypes.bfloat16,
    "torch.LongStorage": np.int64,
    "torch.IntStorage": np.int32,
    "torch.ShortStorage": np.int16,
    "torch.CharStorage": np.int8,
    "torch.ByteStorage": np.uint8,
    "torch.BoolStorage": np.bool_,
    "torch.ComplexFloatStorage": np.complex64,
    "torch.ComplexDoubleStorage": np.complex128,
}
_INSTRUCTIONS = 2_000_000  # a checkpoint takes about 45 a tensor
_AXES = 32
_STRETCHED = 2**28  # elements of a tensor that repeats those of its storage (strides of 0)


class Entries(list[tuple[Any, Any]]):
    """The entries of a dict, in order. Keys are not hashed: a hostile file chooses them."""


class _Ordered(Entries):
    """The entries of an OrderedDict."""


@dataclass(frozen=True, kw_only=True)
class Storage:
    """The elements that one or more tensors lie in: `count` of `dtype` in the record data/`key`."""

    key: str
    dtype: np.dtype[Any]
    count: int


@dataclass(frozen=True, kw_only=True)
class PickledTensor:
    """A tensor inside a storage; offset and strides are in elements and do not leave it.

    Attributes:
        span: Elements of the storage from its first to its last.
    """

    storage: Storage
    offset: int
    shape: tuple[int, ...]
    strides: tuple[int, ...]
    span: int


@dataclass(frozen=True)
class _Global:
    """A name that a pickle wants to import; it stays a name."""

    name: str


def read_pickle(data: bytes) -> Any:
    """Return what a data.pkl of PyTorch describes.

    Tensors come as `PickledTensor`, dicts as `Entries`, sets as lists, bytes of protocol 2 as text; numbers, str,
    bytes, None, lists and tuples as they are.
    No name of the file is imported and nothing in it is called.

    Raises:
        PidSamplerError: The pickle asks for something else, is damaged, or is too long.
    """
    reader = _Reader()
    try:
        for count, (opcode, argument, _) in enumerate(pickletools.genops(data)):
            if count >= _INSTRUCTIONS:
                raise FileError(f"its pickle has over {_INSTRUCTIONS} instructions, more than any checkpoint's")
            if opcode.name not in _STEPS:
                raise _refused(f"use the instruction {opcode.name}")
            _STEPS[opcode.name](reader, argument)
        return reader.pop()
    except PidSamplerError:
        raise
    except Exception as error:  # every kind of damage has an error of its own
        raise _damaged(str(error) or type(error).__name__) from error


def printable(text: str) -> str:
    """Return a text of a file as it is if it is short and printable, else quoted and cut."""
    return text if len(text) <= 100 and text.isprintable() else repr(text[:100])


class _Reader:
    """pickle's stack machine: a stack, the stacks below the open marks, and what was numbered to be used again."""

    def __init__(self) -> None:
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []
        self.memo: dict[int, Any] = {}

    def pop(self) -> Any:
        return self.stack.pop()

    def push(self, value: Any) -> None:
        self.stack.append(value)

    def since_mark(self) -> list[Any]:
        values, self.stack = self.stack, self.below.pop()
        return values

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def remember(self, index: int) -> None:
        if index > _INSTRUCTIONS:
            raise _damaged(f"it numbers a value {index}")
        self.memo[index] = self.stack[-1]

    def make_tuple(self, length: int) -> None:
        values = [self.pop() for _ in range(length)]
        self.push(tuple(reversed(values)))

    def extend(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if type(target) is not list:
            raise _refused(f"append to {_kind(target)}")
        target.extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.stack[-1]
        if not isinstance(target, Entries):
            raise _refused(f"set items of {_kind(target)}")
        target.extend(_pairs(values))

    def name(self, module: Any, name: Any) -> None:
        found = f"{module}.{name}"
        if not isinstance(module, str) or not isinstance(name, str):
            raise _damaged("a name to import is no text")
        if found not in _MADE and found not in _STORAGES:
            raise _refused(f"call {printable(found)}")
        self.push(_Global(found))

    def reduce(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, _Global) or function.name not in _MADE:
            raise _refused(f"call {_kind(function)}")
        if not isinstance(arguments, tuple):
            raise _damaged(f"{function.name} has no arguments")
        self.push(_MADE[function.name](*arguments))

    def build(self) -> None:
        """Drop an OrderedDict's attributes (`_metadata` of a module's state), the only use that tensors have for it."""
        state, target = self.pop(), self.stack[-1]
        if not (isinstance(target, _Ordered) and isinstance(state, Entries)):
            raise _refused(f"set the state of {_kind(target)}")

    def storage(self) -> None:
        match self.pop():
            case ("storage", _Global(name), str(key), str(), int(count)) if name in _STORAGES and count >= 0:
                self.push(Storage(key=key, dtype=np.dtype(_STORAGES[name]), count=count))
            case _:
                raise _damaged("a storage is not (storage, type, key, device, count)")


def _tensor(
    storage: Any, offset: Any, shape: Any, strides: Any, requires_grad: Any, hooks: Any, metadata: Any = ()
) -> PickledTensor:
    if not isinstance(storage, Storage) or not isinstance(shape, tuple) or not isinstance(strides, tuple):
        raise _damaged("a tensor has no storage, shape or strides")
    if len(shape) > _AXES or len(shape) != len(strides):
        raise FileError(f"a tensor has {len(shape)} sizes and {len(strides)} strides: expected up to {_AXES} of both")
    if metadata:
        raise FileError("a tensor is a conjugated or negated view: save it again after .resolve_conj()")
    where = f"of shape {_listed(shape)} and strides {_listed(strides)}"
    if not all(type(n) is int and 0 <= n < 2**62 for n in (offset, *shape, *strides)):
        raise FileError(f"a tensor {where} at {_listed((offset,))}: expected whole numbers from 0")
    count = math.prod(shape)
    span = 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True)) if count else 0
    if count and offset + span > storage.count:
        raise FileError(
            f"a tensor {where} at {offset} reaches outside the {storage.count} elements of its storage "
            f"{printable(storage.key)}"
        )
    if math.prod(max(n, 1) for n in shape) > max(storage.count, _STRETCHED):
        raise FileError(f"a tensor {where} is stretched from {storage.count} elements: save it contiguous")
    return PickledTensor(storage=storage, offset=offset, shape=shape, strides=strides, span=span)


def _parameter(data: Any, requires_grad: Any, hooks: Any) -> PickledTensor:
    if not isinstance(data, PickledTensor):
        raise _damaged("a parameter holds no tensor")
    return data


def _ordered() -> _Ordered:
    return _Ordered()


def _size(sizes: Any) -> tuple[Any, ...]:
    if not isinstance(sizes, tuple):
        raise _damaged("a torch.Size is made of no tuple")
    return sizes


def _set(values: Any = ()) -> Any:
    if not isinstance(values, (list, tuple)):
        raise _damaged("a set is made of no list")
    return values


def _encoded(text: Any, encoding: Any) -> str:
    """Return bytes as protocol 2 writes them, as latin1 text: nothing here has a use for them."""
    if not isinstance(text, str) or encoding != "latin1":
        raise _refused("call _codecs.encode with another encoding than latin1")
    return text


def _no_bytes() -> bytes:
    return b""


# None of these copies what it is given: a pickle of some bytes could ask for the same large copy again and again.
_MADE: dict[str, Callable[..., Any]] = {
    "torch._utils._rebuild_tensor_v2": _tensor,
    "torch._utils._rebuild_parameter": _parameter,
    "torch.Size": _size,
    "collections.OrderedDict": _ordered,
    "_codecs.encode": _encoded,
    **{f"{module}.{name}": _set for module in ("builtins", "__builtin__") for name in ("set", "frozenset")},
    **{f"{module}.bytes": _no_bytes for module in ("builtins", "__builtin__")},
}


def _pairs(values: list[Any]) -> list[tuple[Any, Any]]:
    return list(zip(values[::2], values[1::2], strict=True))


def _kind(value: Any) -> str:
    match value:
        case _Global(name):
            return name
        case _Ordered():
            return "an OrderedDict"
        case Entries():
            return "a dict"
        case PickledTensor():
            return "a tensor"
        case _:
            return f"a {type(value).__name__}"


def _listed(values: tuple[Any, ...]) -> str:
    shown = ", ".join(str(n) if type(n) is int and abs(n) < 2**63 else _kind(n) for n in values)
    return f"[{shown}]"


def _refused(found: str) -> PidSamplerError:
    return FileError(
        f"a .pth is a program; this one wants to {found}: nothing of it was run; "
        "take a .safetensors file, or save the tensors alone with torch.save(model.state_dict(), path)"
    )


def _damaged(why: str) -> PidSamplerError:
    return FileError(f"its pickle is damaged ({printable(why)}): copy or download it again")


def _text(reader: _Reader, argument: Any) -> None:
    module, _, name = argument.partition(" ")
    reader.name(module, name)


def _instance(name: str) -> None:
    raise _refused(f"make an object of {printable(name.replace(' ', '.', 1))} by INST")


def _object(reader: _Reader, name: str, depth: int) -> None:
    """Refuse an instruction that makes an object of the class `depth` values down the stack."""
    found = reader.stack[-depth] if len(reader.stack) >= depth else None
    raise _refused(f"make an object of {_kind(found)} by {name}")


def _extension(number: Any) -> None:
    raise _refused(f"import extension {number} of copyreg")


_LITERALS = (
    *("INT", "BININT", "BININT1", "BININT2", "LONG", "LONG1", "LONG4", "FLOAT", "BINFLOAT"),
    *("UNICODE", "BINUNICODE", "SHORT_BINUNICODE", "BINUNICODE8", "STRING", "BINSTRING", "SHORT_BINSTRING"),
    *("BINBYTES", "SHORT_BINBYTES", "BINBYTES8"),
)
_STEPS: dict[str, Callable[[_Reader, Any], object]] = {
    **dict.fromkeys(("PROTO", "FRAME", "STOP"), lambda r, _: None),
    **dict.fromkeys(_LITERALS, lambda r, value: r.push(value)),
    "NONE": lambda r, _: r.push(None),
    "NEWTRUE": lambda r, _: r.push(True),
    "NEWFALSE": lambda r, _: r.push(False),
    "MARK": lambda r, _: r.mark(),
    "POP": lambda r, _: r.pop() if r.stack else r.since_mark(),
    "POP_MARK": lambda r, _: r.since_mark(),
    "DUP": lambda r, _: r.push(r.stack[-1]),
    "EMPTY_TUPLE": lambda r, _: r.push(()),
    "TUPLE1": lambda r, _: r.make_tuple(1),
    "TUPLE2": lambda r, _: r.make_tuple(2),
    "TUPLE3": lambda r, _: r.make_tuple(3),
    "TUPLE": lambda r, _: r.push(tuple(r.since_mark())),
    **dict.fromkeys(("EMPTY_LIST", "EMPTY_SET"), lambda r, _: r.push([])),
    **dict.fromkeys(("LIST", "FROZENSET"), lambda r, _: r.push(r.since_mark())),
    "APPEND": lambda r, _: r.extend([r.pop()]),
    **dict.fromkeys(("APPENDS", "ADDITEMS"), lambda r, _: r.extend(r.since_mark())),
    "EMPTY_DICT": lambda r, _: r.push(Entries()),
    "DICT": lambda r, _: r.push(Entries(_pairs(r.since_mark()))),
    "SETITEM": lambda r, _: r.set_items([r.pop(), r.pop()][::-1]),
    "SETITEMS": lambda r, _: r.set_items(r.since_mark()),
    **dict.fromkeys(("GET", "BINGET", "LONG_BINGET"), lambda r, index: r.push(r.memo[index])),
    **dict.fromkeys(("PUT", "BINPUT", "LONG_BINPUT"), lambda r, index: r.remember(index)),
    "MEMOIZE": lambda r, _: r.remember(len(r.memo)),
    "GLOBAL": _text,
    "STACK_GLOBAL": lambda r, _: r.name(*[r.pop(), r.pop()][::-1]),
    "REDUCE": lambda r, _: r.reduce(),
    "BUILD": lambda r, _: r.build(),
    "BINPERSID": lambda r, _: r.storage(),
    "INST": lambda r, name: _instance(name),
    "OBJ": lambda r, _: _object(r, "OBJ", len(r.stack)),
    "NEWOBJ": lambda r, _: _object(r, "NEWOBJ", 2),
    "NEWOBJ_EX": lambda r, _: _object(r, "NEWOBJ_EX", 3),
    **dict.fromkeys(("EXT1", "EXT2", "EXT4"), lambda r, number: _extension(number)),
}
