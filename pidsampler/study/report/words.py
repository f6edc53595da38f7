"""What a study found, in one paragraph: the best cell, its gain with the interval, and what is within noise of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..statistics import Runs, corrected, difference
from .plots import COSTS, has, loss, number

SIGNIFICANT = 0.05
_NAMED = 4  # cells, in a sentence
_MANY = 2  # cells, of more than which the best one is a lucky one too


def finding(data: Mapping[str, Any], results: Mapping[str, Mapping[str, Runs]]) -> str:
    """Return the paragraph, about the first measure of which more or less is better; "" where there is none.

    Args:
        data: The report's data.
        results: Cell -> measure -> runs.
    """
    for measure in data["measures"]:
        cells = [cell for cell in data["cells"] if has(cell, measure["name"])]
        if cells and measure["better"] in ("higher", "lower") and measure["name"] not in COSTS:
            return " ".join(_sentences(data, cells, measure, results))
    return ""


def _sentences(
    data: Mapping[str, Any],
    cells: Sequence[Mapping[str, Any]],
    measure: Mapping[str, Any],
    results: Mapping[str, Mapping[str, Runs]],
) -> list[str]:
    name, sign = measure["name"], 1.0 if measure["better"] == "higher" else -1.0

    def mean(cell: Mapping[str, Any]) -> float:
        return float(cell["results"][name]["mean"])

    def text(value: float) -> str:
        return f"{number(value, measure['digits'])} {measure['unit']}".rstrip()

    best = min(cells, key=lambda cell: loss(measure["better"], mean(cell)))
    who = f"the preset ({_quoted(best)})" if best["preset"] else _quoted(best)
    most = "highest" if sign > 0.0 else "lowest"
    said = [f"Of {len(cells)} cells {who} has the {most} {name}: {text(mean(best))}."]
    if len(cells) == 1:
        said = [f"The only cell has {text(mean(best))} of {name}."]
    gain = best["results"][name]["difference"]
    if gain is not None:
        ends = sorted(sign * gain[end] for end in ("low", "high"))
        said.append(
            f"That is {text(sign * gain['mean'])} better than the preset, with a 95 % interval from "
            f"{text(ends[0])} to {text(ends[1])}" + (": within noise." if gain["noise"] else ".")
        )
    runs = {cell["id"]: results[cell["id"]][name] for cell in cells}
    found = [(cell, difference(runs[cell["id"]], runs[best["id"]])) for cell in cells if cell is not best]
    pairs = [(cell, pair.p) for cell, pair in found if pair is not None]
    near = [cell for (cell, _), p in zip(pairs, corrected([p for _, p in pairs]), strict=True) if p >= SIGNIFICANT]
    if near:
        more = f" and {len(near) - _NAMED} more" if len(near) > _NAMED else ""
        are = "Within noise of it are" if len(near) > 1 else "Within noise of it is"
        said.append(f"{are} {', '.join(map(_quoted, near[:_NAMED]))}{more}.")
    elif pairs:
        said.append("No other cell is within noise of it.")
    elif len(cells) > 1:
        said.append("Each cell is a single run, so nothing can be said about noise.")
    costs = {cell["id"]: cell["results"]["calls"]["mean"] for cell in (best, *near) if has(cell, "calls")}
    cheapest = min(near, key=lambda cell: costs.get(cell["id"], float("inf")), default=best)
    if costs.get(cheapest["id"], 0.0) < costs.get(best["id"], 0.0):
        said.append(
            f"Of these, {_quoted(cheapest)} takes the fewest model calls: {costs[cheapest['id']]:g} "
            f"rather than {costs[best['id']]:g}."
        )
    if gain is not None and not gain["noise"] and len(cells) > _MANY:
        said.append("It was picked after the runs, so expect a little less from new ones.")
    baseline = data["baseline"]
    if baseline is not None and has(baseline, name):
        pair = difference(results[baseline["id"]][name], runs[best["id"]])
        end = "."
        if pair is not None and pair.p >= SIGNIFICANT:
            end = ": within noise of the best cell."
        elif loss(measure["better"], mean(baseline)) < loss(measure["better"], mean(best)):
            end = ": better than every cell."
        said.append(f"The input enlarged by bicubic, which is no sampler, has {text(mean(baseline))}{end}")
    return said


def _quoted(cell: Mapping[str, Any]) -> str:
    return f'"{cell["label"]}"'
