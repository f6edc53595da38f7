"""From results to what the report says: means with intervals, differences, effects of axes, orders of convergence."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...errors import PidSamplerError
from ...schedulers.spec import Spec
from ...table import as_table
from ..measures import Measure
from ..parts import Flow
from ..plan import Cell, Plan, as_text
from ..statistics import Interval, Runs, corrected, describe, difference, interval, order
from ..store import Store
from ..work import BASELINE
from . import figures, tables, write_report
from .album import Album, Shown, album
from .plots import COSTS
from .words import SIGNIFICANT, finding

_OF_CONVERGENCE = ("ode-distance", "wasserstein-1")
_FEWEST_POINTS = 3  # of a line whose order is fitted
_MOST_NUMBERS = 200_000  # of single images, in a page


def report(
    study: Plan,
    store: Store,
    *,
    measures: Iterable[Measure],
    known: Sequence[str] = (),
    elsewhere: Mapping[str, str] | None = None,
) -> Path:
    """Write a study's report, figures and tables from its results; return the report's path.

    Args:
        study: The study.
        store: Results of the study.
        measures: In the order of the report.
        known: What was known to fail before a run, a line each.
        elsewhere: Cell's id -> what is said of its table, which was learnt for another model.

    Raises:
        PidSamplerError: A file cannot be written, or a package of the extra 'study' is missing.
    """
    shown: Shown = {}
    for cell in study.all_cells if study.report.album else ():
        if not isinstance(study.source(cell), Flow) and _times(study, cell) is not None:
            for image, seed in reversed(study.runs(cell)):  # the first seed stays
                shown.setdefault(image, {})[cell.id] = seed, study.table(cell)[0].times
    pictures = album(store.folder, shown, megabytes=study.report.album)
    data = summarise(study, store, measures=list(measures), pictures=pictures, known=known, elsewhere=elsewhere)
    path = store.folder / "report.html"
    write_report(data, pictures.files, path=path)
    figures.draw(data, store.folder / "figures")
    tables.write(data, store.folder)
    return path


def summarise(
    study: Plan,
    store: Store,
    *,
    measures: list[Measure],
    pictures: Album | None = None,
    known: Sequence[str] = (),
    elsewhere: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Return all that the report says, as plain JSON data whose numbers are finite or None.

    Args:
        study: The study.
        store: Results of the study.
        measures: In the order of the report.
        pictures: Pictures for the viewer.
        known: What was known to fail before a run, a line each.
        elsewhere: Cell's id -> what is said of its table, which was learnt for another model.
    """
    pictures = pictures or Album()
    results, errors = store.results(), store.errors()
    cells = study.all_cells
    results[BASELINE] = _for_every_seed(study, results.get(BASELINE, {}))
    summed = {m.name: _summed(study, m.name, results) for m in measures}
    data: dict[str, Any] = {
        "title": study.report.title,
        "question": study.report.question,
        "preset": {name: as_text(value) for name, value in study.preset_cell.settings.items()},
        "made": _made(study, store, results, errors),
        "file": study.file,
        "sampling": describe(longest) if (longest := _longest(results)) else "Nothing was measured.",
        "axes": [{"name": name, "values": values} for name, values in _axes(study).items()],
        "measures": [_described(m, summed[m.name]) for m in measures],
        "cells": [
            {
                "id": cell.id,
                "label": cell.label,
                "preset": cell.id == study.preset_cell.id,
                "settings": dict(cell.axes),
                "runs": len(study.runs(cell)),
                "failed": len(errors.get(cell.id, {})),
                "error": next(iter(errors.get(cell.id, {}).values()), None),
                "times": _times(study, cell),
                "bias": _bias(study, cell),
                "elsewhere": (elsewhere or {}).get(cell.id),
                "results": {m.name: summed[m.name][cell.id] for m in measures if cell.id in summed[m.name]},
            }
            for cell in cells
        ],
        "baseline": _baseline(measures, results[BASELINE], summed),
        "by_image": _by_image([cell.id for cell in cells], measures, results),
        "effects": [effect for name in _axes(study) for m in measures if (effect := _effect(study, name, m, results))],
        "convergence": [
            line for m in measures if m.name in _OF_CONVERGENCE and (line := _convergence(study, m, results))
        ],
        "problems": _problems(study, store, known),
        "images": pictures.images,
        "pictures": pictures.pictures,
        "strips": pictures.strips,
    }
    return {**data, "finding": finding(data, results), "tex": tables.latex(data)}


def _for_every_seed(study: Plan, found: Mapping[str, Runs]) -> dict[str, dict[tuple[str, int], float]]:
    """What was measured of each input enlarged by bicubic, once for each seed of the preset: no seed changes it."""
    seeds = study.runs(study.preset_cell)
    spread = {}
    for name, runs in found.items():
        known = {image: value for (image, _), value in runs.items()}
        spread[name] = {(image, seed): known[image] for image, seed in seeds if image in known}
    return spread


def _baseline(
    measures: Sequence[Measure], found: Mapping[str, Runs], summed: Mapping[str, Mapping[str, Any]]
) -> dict[str, Any] | None:
    """The input enlarged by bicubic, as a cell without settings."""
    if not found:
        return None
    images = len({image for runs in found.values() for image, _ in runs})
    results = {m.name: {**summed[m.name][BASELINE], "n": images} for m in measures if BASELINE in summed[m.name]}
    facts = {"id": BASELINE, "label": "bicubic", "preset": False, "settings": {}, "runs": images, "failed": 0}
    return {**facts, "error": None, "times": None, "bias": None, "elsewhere": None, "results": results}


def _by_image(ids: Sequence[str], measures: Sequence[Measure], results: Results) -> dict[str, Any] | None:
    """Each cell's mean over the seeds of each image, or None where there is one image, or more than a page can hold."""
    shown = [measure.name for measure in measures if measure.name not in COSTS]
    ids = [cell for cell in (*ids, BASELINE) if results.get(cell)]
    images = list(dict.fromkeys(image for cell in ids for runs in results[cell].values() for image, _ in runs))
    if len(images) < 2 or len(ids) * len(images) * len(shown) > _MOST_NUMBERS:
        return None
    values: dict[str, dict[str, list[float | None]]] = {}
    for name in shown:
        for cell in ids:
            seeds: dict[str, list[float]] = {}
            for (image, _), value in results[cell].get(name, {}).items():
                seeds.setdefault(image, []).append(value)
            if seeds:
                means = [math.fsum(seeds[image]) / len(seeds[image]) if image in seeds else None for image in images]
                values.setdefault(name, {})[cell] = [None if m is None else float(f"{m:.6g}") for m in means]
    return {"images": images, "values": values}


def _problems(study: Plan, store: Store, known: Sequence[str]) -> list[str]:
    """What failed but for whole runs, a line each."""
    total, lines = sum(len(study.runs(cell)) for cell in study.all_cells), list(known)
    for name, cells in store.gaps().items():
        lost = [error for cell in study.all_cells for error in cells.get(cell.id, {}).values()]
        if lost:
            lines.append(f"measure {name} failed in {len(lost)} of {total} runs: {lost[0]}")
    return lines


def _axes(study: Plan) -> dict[str, list[str]]:
    """What varies: the texts of each axis, in their order."""
    values: dict[str, dict[str, None]] = {}
    for cell in study.all_cells:
        for name, text in cell.axes.items():
            values.setdefault(name, {})[text] = None
    return {name: list(texts) for name, texts in values.items()}


Results = Mapping[str, Mapping[str, Runs]]  # cell -> measure -> runs


def _longest(results: Results) -> Runs:
    return max((runs for cell in results.values() for runs in cell.values()), key=len, default={})


def _summed(study: Plan, measure: str, results: Results) -> dict[str, dict[str, Any]]:
    """Each cell's mean, interval and difference to the preset, whose p-values are corrected together."""
    base = results.get(study.preset_cell.id, {}).get(measure)
    found: dict[str, dict[str, Any]] = {}
    compared = {}
    for cell in (*(cell.id for cell in study.all_cells), BASELINE):
        runs = results.get(cell, {}).get(measure)
        if runs:
            found[cell] = {**_plain(interval(runs)), "n": len(runs), "difference": None}
            if base and cell != study.preset_cell.id and (pair := difference(runs, base)) is not None:
                compared[cell] = pair
    for (cell_id, pair), p in zip(compared.items(), corrected([pair.p for pair in compared.values()]), strict=True):
        found[cell_id]["difference"] = {**_plain(pair), "p": p, "noise": p >= SIGNIFICANT}
    return found


def _described(measure: Measure, summed: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """A measure, and the digits that its intervals allow."""
    halves = sorted(
        (s["high"] - s["low"]) / 2 for s in summed.values() if s["low"] is not None and s["high"] > s["low"]
    )
    size = halves[len(halves) // 2] if halves else max((abs(s["mean"]) for s in summed.values()), default=0.0) / 100
    whole = all(float(s["mean"]).is_integer() for s in summed.values())
    digits = 0 if whole or not size else min(6, max(0, 1 - math.floor(math.log10(size))))
    facts = {"name": measure.name, "unit": measure.unit, "better": measure.better, "source": measure.source}
    return {**facts, "digits": digits}


def _effect(study: Plan, axis: str, measure: Measure, results: Results) -> dict[str, Any] | None:
    """The mean over the cells with each value of an axis: of a grid all, else those that differ in it alone."""
    own = study.preset_cell.axes
    points = []
    for value in _axes(study)[axis]:
        cells = [cell for cell in study.all_cells if cell.axes[axis] == value]
        if study.cells != "grid":
            cells = [cell for cell in cells if all(cell.axes[name] == own[name] for name in own if name != axis)]
        held = [results.get(cell.id, {}).get(measure.name, {}) for cell in cells]
        held = [runs for runs in held if runs]
        if held:
            shared = set.intersection(*(set(runs) for runs in held))
            if shared:
                means = {run: math.fsum(runs[run] for runs in held) / len(held) for run in shared}
                points.append({"value": value, **_plain(interval(means))})
    return {"axis": axis, "measure": measure.name, "points": points} if len(points) > 1 else None


def _convergence(study: Plan, measure: Measure, results: Results) -> dict[str, Any] | None:
    """An error against the number of steps, a line for each choice of all else."""
    lines: dict[str, list[tuple[int, Cell]]] = {}
    for cell in study.all_cells:
        if "steps" in cell.axes and cell.settings["steps"] is not None and measure.name in results.get(cell.id, {}):
            others = ", ".join(text for name, text in cell.axes.items() if name != "steps")
            lines.setdefault(others or str(cell.settings["scheduler"]), []).append((cell.settings["steps"], cell))
    series = []
    for label, cells in lines.items():
        cells.sort(key=lambda point: point[0])
        if len(cells) < _FEWEST_POINTS:
            continue
        runs = [results[cell.id][measure.name] for _, cell in cells]
        found = [_plain(interval(r)) for r in runs]
        fitted = order([steps for steps, _ in cells], runs)
        series.append(
            {
                "label": label,
                "steps": [steps for steps, _ in cells],
                "calls": [len(study.table(cell)[0]) for _, cell in cells],
                **{key: [point[key] for point in found] for key in ("mean", "low", "high")},
                "order": None if fitted is None else {k: _finite(v) for k, v in vars(fitted).items()},
                "expected": _accuracy_order(study, cells[0][1]),
            }
        )
    return {"measure": measure.name, "unit": measure.unit, "series": series} if series else None


def _accuracy_order(study: Plan, cell: Cell) -> int | None:
    """What the registry says of a cell's method with its own options."""
    info = getattr(study.scheduler(cell), "info", None)
    if info is None or cell.settings["eta"] is not None:
        return None
    return None if Spec.parse(cell.settings["scheduler"]).options else info.accuracy_order


def _times(study: Plan, cell: Cell) -> list[float] | None:
    """The list of a cell, or None where it has none."""
    try:
        scheduler = study.scheduler(cell)
        times = scheduler.timesteps if hasattr(scheduler, "timesteps") else scheduler.table().times
        return [float(t) for t in times]
    except PidSamplerError:
        return None


def _bias(study: Plan, cell: Cell) -> str | None:
    """How far the cell's table ends off its noise level where it says so, or None."""
    try:
        table = as_table(study.scheduler(cell))
    except PidSamplerError:
        return None
    if not table.bias:
        return None
    end = table.bias[-1]
    return f"image {end.total_mean:+.3g} and noise {end.total_noise:+.3g} at the end, by the self-check"


def _made(study: Plan, store: Store, results: Results, errors: Mapping[str, Mapping[Any, str]]) -> list[list[str]]:
    """What made the results, label and text."""
    facts = store.facts()
    ids = [cell.id for cell in study.all_cells]
    calls = sum(math.fsum(results.get(i, {}).get("calls", {}).values()) for i in ids)
    seconds = sum(math.fsum(results.get(i, {}).get("seconds", {}).values()) for i in ids)
    made = [
        ["cells", str(len(ids))],
        ["runs", str(sum(len(study.runs(cell)) for cell in study.all_cells))],
        ["failed", str(sum(len(errors.get(i, {})) for i in ids))],
        ["model calls, each run alone", f"{calls:.0f}"],
        ["seconds, each run alone", f"{seconds:.0f}"],
        ["device", str(facts.get("device", ""))],
    ]
    sessions = store.sessions()
    for name, label in (("device", "processor"), ("cores", "cores"), ("workers", "workers"), ("commit", "commit")):
        texts = dict.fromkeys(session.get(name, "") for session in sessions)
        made.append([label, ", ".join(filter(None, texts))])
    dates = [session["date"].replace("T", " ") for session in sessions]
    made.append(["date", " to ".join(dict.fromkeys([dates[0], dates[-1]])) if dates else ""])
    made += [[name.removeprefix("version of "), str(v)] for name, v in facts.items() if name.startswith("version of ")]
    return [line for line in made if line != ["failed", "0"] and line[1]]


def _plain(found: Interval) -> dict[str, float | None]:
    return {"mean": _finite(found.mean), "low": _finite(found.low), "high": _finite(found.high)}


def _finite(value: float) -> float | None:
    return value if math.isfinite(value) else None
