"""Tensors that are read when they are needed: a checkpoint is larger than the memory that an export may take."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..errors import ModelError

_LARGER = {"bfloat16": np.dtype(ml_dtypes.bfloat16), "float32": np.dtype(np.float32)}  # than float16
_NAMED = 12  # tensors of a kind that an error lists by name


@dataclass(frozen=True, kw_only=True)
class Stored:
    """A tensor that is not in memory.

    Args:
        shape: Shape of the array.
        dtype: numpy's type; ml_dtypes.bfloat16 for bf16.
        load: Reads it, contiguous.
    """

    shape: tuple[int, ...]
    dtype: np.dtype[Any]
    load: Callable[[], NDArray[Any]]

    @classmethod
    def of(cls, array: NDArray[Any]) -> Stored:
        """Return a tensor that is in memory after all."""
        return cls(shape=array.shape, dtype=array.dtype, load=lambda: array)


def check_tensors(found: Mapping[str, Stored], expected: Mapping[str, tuple[int, ...]], *, where: str) -> None:
    """Check that a checkpoint has the tensors that a network needs, and no others.

    Args:
        found: Tensors by name.
        expected: Name -> shape.
        where: Names of the checkpoint and the network, for the message.

    Raises:
        PidSamplerError: Tensors are missing, unexpected, or of another shape; all of them are said at once.
    """
    missing = [f"{name} {list(shape)}" for name, shape in expected.items() if name not in found]
    unexpected = [f"{name} {list(tensor.shape)}" for name, tensor in found.items() if name not in expected]
    wrong = [
        f"{name} {list(found[name].shape)} instead of {list(shape)}"
        for name, shape in expected.items()
        if name in found and found[name].shape != tuple(shape)
    ]
    kinds = (("missing", missing), ("unexpected", unexpected), ("of another shape", wrong))
    said = [f"{len(names)} {kind} ({_listed(names)})" for kind, names in kinds if names]
    if said:
        raise ModelError(f"{where}: of {len(expected)} tensors expected, {'; '.join(said)}")


def check_values(tensors: Mapping[str, Stored], *, dtype: np.dtype[Any], where: str) -> None:
    """Check that every weight is a finite number, and stays one in the type that the network works in.

    It loads each tensor once. It asks so much also of the few that a float16 network keeps in float32.

    Args:
        tensors: Tensors by name.
        dtype: Type in which they are to be written.
        where: Names of the checkpoint and the network, for the message.

    Raises:
        PidSamplerError: A tensor holds NaN or infinity, or a number too large for the type; the message names it.
    """
    for name, tensor in tensors.items():
        array = tensor.load()
        if not array.size:
            continue
        wide = array if array.itemsize >= 4 else array.astype(np.float32)  # whose min and max are fast, and pass on NaN
        ends = np.array([wide.min(), wide.max()])
        if not np.isfinite(ends).all():
            raise ModelError(f"{where}: {name} holds NaN or infinity: copy or download the file again")
        if not _fits(ends, dtype):
            others = [name for name, other in _LARGER.items() if _fits(ends, other)]
            way = "no type holds it, copy or download the file again"
            if others:
                way = f"pass dtype={others[0]!r}" + ", or float32" * (len(others) > 1)
            raise ModelError(f"{where}: {name} holds {max(ends, key=abs):.3g}, too large for {dtype}: {way}")


def _fits(ends: NDArray[Any], dtype: np.dtype[Any]) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(ends.astype(dtype)).all())


def _listed(names: list[str]) -> str:
    more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
    return ", ".join(names[:_NAMED]) + more
