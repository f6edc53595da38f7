"""What the CUDA kernels are compiled from and called with: source text, flags, and a row as a struct. No GPU needed.

A variant of a kernel is a set of flags; a term that a row has not is compiled out. Headers are put into the source
text, so that its hash stands for all of it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import KW_ONLY, asdict, dataclass
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from .. import moved
from ..errors import ConfigError
from ..table import Row

# Element types as kernels/common.cuh numbers them.
KINDS = {np.dtype(np.float32): 0, np.dtype(np.float16): 1, np.dtype(ml_dtypes.bfloat16): 2}

MOST_SLOTS, MOST_DRAWS, MOST_WEIGHTS = 6, 128, 512  # of one row, and of its draws in all, as in kernels/step.cu

OPTIONS = ("--std=c++17",)  # of the compiler, beside the flags

NULL = np.uint64(0)  # a pointer that the kernel does not read; CuPy would pass None as no argument at all


@cache
def source(name: str) -> str:
    """Return a kernel file with the headers that it includes in their place, each once."""
    folder = files("pidsampler") / "kernels"
    if not folder.is_dir():  # a development install: they lie beside the package
        folder = Path(__file__).parents[2] / "kernels"
    seen: set[str] = set()

    def inlined(file: str) -> str:
        if file in seen:
            return ""
        seen.add(file)
        text = (folder / file).read_text(encoding="utf-8").replace("#pragma once\n", "")
        return re.sub(r'^#include "([^"]+)"\n', lambda found: inlined(found[1]), text, flags=re.MULTILINE)

    return inlined(name)


def kind(dtype: Any) -> int:
    """Return the number of an element type.

    Raises:
        PidSamplerError: The kernels have no such type.
    """
    found = KINDS.get(np.dtype(dtype))
    if found is None:
        raise ConfigError(f"dtype {np.dtype(dtype)} on the GPU is not {', '.join(map(str, KINDS))}")
    return found


def group(*kinds: int) -> int:
    """Return how many elements of tensors of these types a thread takes in one pass, as kernels/common.cuh has it."""
    return 4 if all(kind <= 0 for kind in kinds) else 8


def definitions(**flags: int | bool | str) -> tuple[str, ...]:
    """Return flags as options of the compiler: x=0, clip=True are -DPID_X=0, -DPID_CLIP=1."""
    return tuple(f"-DPID_{name.upper()}={v if isinstance(v, str) else int(v)}" for name, v in flags.items())


@moved.keywords()
@dataclass(frozen=True)
class StepVariant:
    """The flags of `pid_step`.

    Args:
        x: Element type of the state and the saved tensors, see `KINDS`.
        m: Element type of the network's output.
        reads_x: Whether the old x has a part in anything.
        clip: Whether x0 is clipped.
        slots: How many saved tensors are read, at most 6.
        saves: How many are written, at most 6.
        draws: How many draws are added, or -1 for any number that the row says, up to 128, or 512 in all results.
        cast: Element type of a second copy of the result for the network, or -1 for none.
        vector: Whether every image of every tensor begins at a multiple of 16 bytes.
    """

    x: int
    m: int
    _: KW_ONLY
    reads_x: bool
    clip: bool
    slots: int
    saves: int
    draws: int
    cast: int
    vector: bool = True

    @classmethod
    @moved.keywords()
    def of(cls, row: Row, *, x: int = 0, m: int = 0, cast: int = -1) -> StepVariant:
        """Return the leanest variant that does a row.

        Raises:
            PidSamplerError: The row reads or writes more saved tensors, or adds more draws, than a kernel can.
        """
        slots, draws = len(slots_read(row)), len(row.draws)
        for what, number, most in (
            ("reads {} saved tensors", slots, MOST_SLOTS),
            ("writes {} saved tensors", len(row.saves), MOST_SLOTS),
            ("adds {} draws", draws, _most_draws(len(row.saves))),
        ):
            if number > most:
                raise ConfigError(
                    f"the row at t={row.t!r} {what.format(number)}, more than the {most} of a GPU kernel: "
                    "run it with backend='numpy'"
                )
        reads_x = row.p != 0.0 or any(c.a != 0.0 for c in row.combinations)
        return cls(
            x,
            m,
            reads_x=reads_x,
            clip=row.clip is not None,
            slots=slots,
            saves=len(row.saves),
            draws=draws if draws <= (0 if _many(slots, len(row.saves)) else 3) else -1,
            cast=cast,
        )

    @property
    def flags(self) -> tuple[str, ...]:
        """Options of the compiler."""
        return definitions(**asdict(self))

    @property
    def group(self) -> int:
        """How many elements a thread takes in one pass."""
        return 4 if _many(self.slots, self.saves) else group(self.x, self.m, self.cast)

    @property
    def layout(self) -> np.dtype[Any]:
        """The struct PidRow of this variant."""
        results, draws = 1 + self.saves, _most_draws(self.saves) if self.draws < 0 else max(1, self.draws)
        f, u = np.float32, np.uint32
        fields: list[Any] = [("p", f), ("q", f), ("clip", f), ("a", f, results), ("b", f, results)]
        fields += [
            ("h", f, (results, max(1, self.slots))),
            ("draws", u),
            ("draw", u, draws),
            ("c", f, (results, draws)),
        ]
        return np.dtype(fields)

    def pack(self, row: Row) -> NDArray[Any]:
        """Return a row as a struct, an array of one element."""
        packed = np.zeros(1, self.layout)
        slots, draws = slots_read(row), row.draws
        packed["p"], packed["q"], packed["clip"], packed["draws"] = row.p, row.q, row.clip or 0.0, len(draws)
        packed["draw"][0, : len(draws)] = draws
        for r, c in enumerate(row.combinations):
            packed["a"][0, r], packed["b"][0, r] = c.a, c.b
            for slot, weight in c.h:
                packed["h"][0, r, slots.index(slot)] = weight
            for draw, weight in c.noise:
                packed["c"][0, r, draws.index(draw)] = weight
        return packed


def _most_draws(saves: int) -> int:
    """How many draws a kernel adds in a row that writes so many saved tensors: 128, or fewer from four on."""
    return min(MOST_DRAWS, MOST_WEIGHTS // (1 + saves))


def _many(slots: int, saves: int) -> bool:
    """Whether a thread has registers for four elements of so many saved tensors only, and no loop of draws unrolled."""
    return max(slots, saves) > 3


def slots_read(row: Row) -> Sequence[int]:
    """Return the saved tensors that a row reads, in the kernel's order."""
    return sorted({slot for c in row.combinations for slot, _ in c.h})
