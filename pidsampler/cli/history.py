"""What a learnt table says of where it comes from, in lines."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..errors import printable

_LONGEST = 200  # characters of a line: its file may say anything
_NAMED = 3  # pictures


def history_lines(history: Mapping[str, Any] | None) -> list[str]:
    """Return the history of a table as lines, each only where the history has what it tells.

    A file of a stranger may say anything: what is not of the kind expected is left out, and long lines are cut.

    Args:
        history: `StepTable.history`.
    """
    told = {**(history or {})}
    if told.get("error_of_reference") == 0:  # a measure and a run have none, and some solutions are exact
        del told["error_of_reference"]
    said = _Said(told)
    lines = [
        said.line("made by {} for the model {}", ("made_by",), ("model", "name")),
        said.line("with guidance {}", ("model", "guidance")),
        said.line("settings: {}", ("settings",)),
        said.line("times moved from {}", ("times_moved_from",)),
        said.line("fitted to {}, error {}", ("fitted_to",), ("error_fitted_to",)),
        said.line("held out {}", ("held_out",)),
        said.line("{}: {} [{}, {}]", ("measure",), *(("error", one) for one in ("mean", "low", "high"))),
        said.line("with the network's outputs in bfloat16: {}", ("error_bfloat16",)),
        said.line("error of the solution compared with: {}", ("error_of_reference",)),
        said.line("errors of the network are made {} times larger", ("amplification",)),
        said.line("best of {} known samplers: {}", ("known_samplers",), ("best_known", 0, "sampler")),
        said.line(
            "  its own {}; found less it {} [{}, {}], {}",
            ("best_known", 0, "mean"),
            *(("best_known", 0, "found_less_it", k) for k in (1, 0, 2)),
            ("best_known", 0, "found_is"),
        ),
        said.line("versions: {}", ("versions",)),
    ]
    shown = [printable(line) for line in lines if line]  # a line break in one would begin a line of the table's own
    return [line if len(line) <= _LONGEST else f"{line[:_LONGEST]}..." for line in shown]


class _Said:
    """A history, of which parts are asked for."""

    def __init__(self, history: Mapping[str, Any]) -> None:
        self._history = history

    def line(self, form: str, *paths: tuple[str | int, ...]) -> str:
        """The form with the parts at these paths filled in; empty where one is missing."""
        parts = [_text(self._at(path)) for path in paths]
        return form.format(*parts) if all(parts) else ""

    def _at(self, path: tuple[str | int, ...]) -> Any:
        value: Any = self._history
        for name in path:
            if isinstance(name, str):
                value = value.get(name) if isinstance(value, dict) else None
            else:
                value = value[name] if isinstance(value, list) and name < len(value) else None
        return value


def _text(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:.4g}"
    if isinstance(value, dict):
        return ", ".join(f"{name}={text}" for name, one in value.items() if (text := _text(one)))
    if isinstance(value, list):
        return _runs(value)
    return "" if value is None else str(value)


def _runs(images: list[Any]) -> str:
    """Pictures with their seeds, as a table's history has them."""
    if not all(isinstance(one, dict) and isinstance(one.get("seeds"), list) for one in images):
        return ""
    names = [str(one.get("name")) for one in images]
    shown = ", ".join(names[:_NAMED]) + (f" and {len(names) - _NAMED} more" if len(names) > _NAMED else "")
    return f"{sum(len(one['seeds']) for one in images)} runs of {shown}"
