"""For which model a table was learnt, and what is said where another one runs it."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

from ..errors import PidSamplerWarning
from ..onnx.manifest import NAME as MANIFEST
from ..table import StepTable
from ..values import instance, mapping


def learnt_for(table: StepTable, hashes: Mapping[str, str]) -> dict[str, Any] | None:
    """Return for which model a table was learnt, and whether it is this one: {"model": name, "this_model": bool}.

    Its history may be a stranger's. The same model are the same graphs and null caption: its manifest may have changed,
    as it does where the table is added to it.

    Args:
        table: The table; None is returned where it was not learnt.
        hashes: SHA-256 of this model's files by name; empty where it has none.

    Raises:
        PidSamplerError: An argument is not as described.
    """
    learnt = (instance("table", table, kind=StepTable, words="a StepTable").history or {}).get("model")
    own = mapping("hashes", hashes, words="SHA-256 by file name")
    if not isinstance(learnt, dict):
        return None
    found = learnt.get("sha256")
    known = {k: v for k, v in found.items() if k != MANIFEST} if isinstance(found, dict) else None
    this = known == {name: digest for name, digest in own.items() if name != MANIFEST}
    return {"model": str(learnt.get("name")), "this_model": this}


def of_another_model(learnt: Mapping[str, Any] | None, table: str = "the table") -> str | None:
    """Return what is to be warned of, or None where there is nothing.

    Args:
        learnt: What `learnt_for` returned.
        table: What to call the table.
    """
    if learnt is None or learnt["this_model"]:
        return None
    return (
        f"{table} was learnt for the model {learnt['model']!r}, and this is not the same: it may be worse here "
        "than a named scheduler; learn one for this model"
    )


def warn_of_another_model(learnt: Mapping[str, Any] | None, table: str = "the table", *, stacklevel: int) -> None:
    """Warn of a table that another model runs; the arguments are those of `of_another_model` and `warnings.warn`."""
    if (text := of_another_model(learnt, table)) is not None:
        warnings.warn(text, PidSamplerWarning, stacklevel=stacklevel + 1)
