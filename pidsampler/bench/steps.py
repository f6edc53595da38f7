"""What is timed: rows of tables, one of each kind that costs something else, and the bytes that a row must move."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from attrs import evolve

from ..backends.kernels import StepVariant
from ..noise import coupling
from ..schedulers.registry import get_scheduler, without_list
from ..table import Row, StepTable

# A spec, the row of its table, what is added to the name, and the change that this stands for.
_ROWS: tuple[tuple[str, int, str, Callable[[StepTable], StepTable]], ...] = (
    ("flow-ode", 1, "", lambda table: table),
    ("flow-sde(eta=0.0)", 1, "", lambda table: table),
    ("flow-sde(eta=0.5)", 1, "", lambda table: table),
    ("flow-sde", 1, "", lambda table: table),
    ("flow-sde", 1, " clipped", lambda table: table.clipped(1.0)),
    ("flow-sde", 1, " of x0", lambda table: table.predicting("x0")),
    ("flow-sde", 1, " brownian", coupling.brownian),
    ("heun@uniform:8", 3, "", lambda table: table),
    ("dpmpp-2m@uniform:8", 2, "", lambda table: table),
    ("dpmpp-3m@uniform:8", 3, "", lambda table: table),
    ("unipc(order=3)@uniform:8", 3, "", lambda table: table),
    ("dpmpp-2m-sde@uniform:8", 2, "", lambda table: table),
    ("sa-solver@uniform:8", 3, "", lambda table: table),
    ("seeds-3@uniform:8", 6, "", lambda table: table),
)
_MOST_DRAWS = (
    3  # of a row that is timed without its noise too: a Brownian one differs from its plain form by noise only
)


@dataclass(frozen=True, kw_only=True)
class Variant:
    """A row to time.

    Args:
        name: The scheduler's spec without its times, and what was changed.
        family: Family of the scheduler: the module that it is in.
        eta: The scheduler's, None where it has none.
        row: From the middle of its table.
    """

    name: str
    family: str
    eta: float | None
    row: Row

    def described(self) -> dict[str, Any]:
        """Return its columns; `reads` and `writes` count saved tensors."""
        kernel = StepVariant.of(self.row)
        return {
            "variant": self.name,
            "family": self.family,
            "eta": self.eta,
            "clip": self.row.clip,
            "draws": len(self.row.draws),
            "reads": kernel.slots,
            "writes": kernel.saves,
        }


def variants() -> list[Variant]:
    """Return all rows to time; one with noise is followed by itself without it, the arithmetic's part."""
    found = []
    for spec, index, change, changed in _ROWS:
        scheduler = get_scheduler(spec)
        row = changed(scheduler.table()).rows[index]
        family = type(scheduler).__module__.rpartition(".")[2]
        variant = Variant(name=without_list(spec) + change, family=family, eta=getattr(scheduler, "eta", None), row=row)
        found.append(variant)
        if 0 < len(row.draws) <= _MOST_DRAWS:
            saves = tuple((slot, evolve(c, noise=())) for slot, c in row.saves)
            found.append(replace(variant, name=f"{variant.name} without noise", row=evolve(row, noise=(), saves=saves)))
    return found


def moved_bytes(row: Row, n: int, *, x: int, m: int) -> int:
    """Return the bytes that a row must move: m in, x out, x in where it is read, each saved tensor in or out.

    Args:
        row: Row of a table.
        n: Elements of x.
        x: Size of an element of the state and the saved tensors, in bytes.
        m: Size of an element of the network's output, in bytes.
    """
    kernel = StepVariant.of(row)
    return n * (m + x * (kernel.reads_x + 1 + kernel.slots + kernel.saves))


def slots(row: Row) -> int:
    """Return how many saved tensors a row needs: one more than the highest slot that it reads or writes."""
    read = [slot for c in row.combinations for slot, _ in c.h]
    return 1 + max([*read, *(slot for slot, _ in row.saves)], default=-1)
