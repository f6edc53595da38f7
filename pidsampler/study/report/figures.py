"""The report's plots for a paper: from the report's data, each as .svg and .png.

What is drawn: `pareto-<measure>` for each measure with a direction, against model calls and against seconds;
`effects-<axis>` for each axis; `convergence` and `schedules`. A plot without data is not drawn. A colour stands for the
same value of the first axis in all files. The same data gives the same bytes.
"""

from __future__ import annotations

import io
import itertools
import re
from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from ... import moved
from ...errors import FileError, missing_extra, reason
from ...io.atomic import place
from ...schedulers.exact import log_snr
from .drawing import (
    COLORS,
    COSTS,
    FAINT,
    INK,
    LONGEST,
    MARKERS,
    MOST,
    STYLE,
    Look,
    bars_of,
    grid,
    has,
    is_number,
    log_scale,
    look_of,
    point_style,
    short,
    title_of,
)

_NUMBERS, _NUMBERED = 10, "best at their model calls"
_CROWD = 100  # from here on points are smaller

_Rows = Sequence[Mapping[str, Any]]
_Point = tuple[float, float]


@moved.keywords()
def draw(data: Mapping[str, Any], folder: Path, *, overwrite: bool = True) -> list[Path]:
    """Draw the plots of a report.

    Args:
        data: The report's data.
        folder: Output folder; made if it is missing.
        overwrite: Replace existing files.

    Returns:
        The files, in pairs of .svg and .png.

    Raises:
        PidSamplerError: matplotlib is not installed, or a file exists, or it or the folder cannot be written.
    """
    try:
        import matplotlib
    except ImportError as error:
        raise missing_extra("matplotlib", "study") from error
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise FileError(f"cannot make the folder {folder}: {reason(error)}") from error
    files = []
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # rather than the user's own
        settings: Any = matplotlib.rcParams
        settings.update(STYLE)
        look = look_of(data["axes"])
        for name, figure in _figures(data, look):
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once, for both files
            for kind in ("svg", "png"):
                path = folder / f"{name}.{kind}"
                picture = io.BytesIO()
                nothing = {"Date": None} if kind == "svg" else {"Software": None}
                figure.savefig(picture, format=kind, metadata=nothing, bbox_inches="tight", pad_inches=0.03)
                place(path, partial(_copy, picture.getvalue()), overwrite=overwrite)
                files.append(path)
    return files


def _copy(data: bytes, file: IO[bytes]) -> None:
    file.write(data)


def _figures(data: Mapping[str, Any], look: Look) -> Iterable[tuple[str, Any]]:
    named: dict[str, int] = {}

    def unique(name: str) -> str:
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", name).strip("-")
        named[name] = named.get(name, 0) + 1
        return name if named[name] == 1 else f"{name}-{named[name]}"

    for measure in data["measures"]:
        if measure["better"] and measure["name"] not in COSTS:
            figure = _pareto(data, measure, look)
            if figure is not None:
                yield unique(f"pareto-{measure['name']}"), figure
    for axis in data["axes"]:
        effects = [effect for effect in data["effects"] if effect["axis"] == axis["name"] and _points(effect)]
        if effects:
            yield unique(f"effects-{axis['name']}"), _effects(data, axis, effects, look)
    if any(one["series"] for one in data["convergence"]):
        yield "convergence", _convergence(data, look)
    if any(cell["times"] for cell in data["cells"]):
        yield "schedules", _schedules(data, look)


def _pareto(data: Mapping[str, Any], measure: Mapping[str, Any], look: Look) -> Any:
    """A measure against model calls and seconds; None without a cell that has them."""
    name, better = measure["name"], measure["better"]
    shown = {cost: [cell for cell in data["cells"] if has(cell, name) and has(cell, cost)] for cost in _AGAINST}
    shown = {cost: cells for cost, cells in shown.items() if cells}
    if not shown:
        return None
    figure, panels = grid(1, len(shown), height=2.9, sharey=True)
    numbered: list[Mapping[str, Any]] = []
    for axes, (cost, cells) in zip(panels, shown.items(), strict=True):
        points = [(cell["results"][cost]["mean"], cell["results"][name]["mean"]) for cell in cells]
        _cells(axes, cells, points, [cell["results"][name] for cell in cells], look)
        front = _front(points, better)
        log_scale(axes, "x", values=[x for x, _ in points], powers_of_two=cost == "calls")
        axes.set_xlabel(_AGAINST[cost])
        if better == "zero":
            axes.axhline(0.0, color=FAINT, lw=0.8, zorder=1)
        else:
            log_scale(axes, "y", values=[y for _, y in points], ratio=20.0)
            best = {"color": FAINT, "lw": 1.2, "zorder": 1, "drawstyle": "steps-post"}
            axes.plot(*zip(*(points[i] for i in front), strict=True), **best)
        if not look.whole and axes is panels[0]:
            numbered = [cells[i] for i in front[:_NUMBERS]]
        for cell, point in zip(cells, points, strict=True):
            if cell in numbered:
                axes.plot(*point, marker="o", color=INK, ms=2.5, zorder=4)
                place = {"xytext": (-3, 3 if better == "higher" else -3), "textcoords": "offset points", "ha": "right"}
                place["va"] = "bottom" if better == "higher" else "top"
                axes.annotate(str(numbered.index(cell) + 1), point, **place, weight="bold", fontsize=7)
    panels[0].set_ylabel(f"{title_of(measure)} ({_BETTER[better]})")
    _legend(figure, data, look, numbered, front=better != "zero")
    return figure


def _cells(axes: Any, cells: _Rows, points: Sequence[_Point], results: _Rows, look: Look) -> None:
    """The cells' points with their intervals, a ring around the preset, and lines along the second axis."""
    groups: dict[tuple[str, bool, str], list[int]] = {}
    lines: dict[tuple[str, ...], list[int]] = {}
    for i, cell in enumerate(cells):
        groups.setdefault(look.of(cell["settings"]), []).append(i)
        lines.setdefault(tuple(cell["settings"][name] for name in look.axes if name not in look.axes[1:2]), []).append(
            i
        )
        if cell["preset"]:
            axes.plot(*points[i], marker="o", ms=9, mfc="none", mec=INK, mew=0.8, zorder=4)
    if look.colors and len(look.axes) > 1:
        for line in lines.values():
            color = look.of(cells[line[0]]["settings"])[0]
            axes.plot(*zip(*sorted(points[i] for i in line), strict=True), color=color, lw=0.6, alpha=0.35)
    for (color, filled, marker), places in groups.items():
        x, y = zip(*(points[i] for i in places), strict=True)
        bars = bars_of([results[i] for i in places])
        style = {**point_style((color, filled, marker)), "ms": 4.5 if len(cells) <= _CROWD else 3.0}
        axes.errorbar(x, y, yerr=bars, ls="", elinewidth=0.7, ecolor=(color, 0.45), **style)


_AGAINST = {"calls": "model calls", "seconds": "seconds"}
_BETTER = {"higher": "higher is better", "lower": "lower is better", "zero": "0 is best"}
_ARROW = {"higher": " ↑", "lower": " ↓", "zero": " → 0", "": ""}


def _front(points: Sequence[_Point], better: str) -> list[int]:
    """The points that no other beats at the same cost or less, by rising cost."""
    loss = [{"higher": -y, "lower": y, "zero": abs(y)}[better] for _, y in points]
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], loss[i])):
        if not front or loss[i] < loss[front[-1]]:
            front.append(i)
    return front


def _effects(data: Mapping[str, Any], axis: Mapping[str, Any], effects: _Rows, look: Look) -> Any:
    """One axis' effect on each measure: a line where its values are numbers, else a row for each value."""
    measures = {measure["name"]: measure for measure in data["measures"]}
    numbers = all(is_number(value) for value in axis["values"])
    columns = min(4 if numbers else 3, len(effects))
    rows = -(-len(effects) // columns)
    tall = 1.5 if numbers else 0.55 + 0.14 * len(axis["values"])
    figure, panels = grid(rows, columns, height=tall * rows + 0.2, sharey=False if numbers else "row")
    for i, (axes, effect) in enumerate(zip(panels, effects, strict=False)):
        measure = measures[effect["measure"]]
        points = _points(effect)
        means, bars = [point["mean"] for point in points], bars_of(points)
        axes.set_title(title_of(measure) + _ARROW[measure["better"]])
        if numbers:
            x = [float(point["value"]) for point in points]
            axes.errorbar(x, means, yerr=bars, color=COLORS[0], marker="o", ms=3.5, elinewidth=0.8)
            log_scale(axes, "x", values=x, powers_of_two=True)
            if i + columns >= len(effects):
                axes.set_xlabel(axis["name"])
            continue
        plain = (COLORS[0], True)
        row = {value: len(axis["values"]) - k for k, value in enumerate(axis["values"])}
        for k, (point, mean) in enumerate(zip(points, means, strict=True)):
            color, filled = look.colors.get(point["value"], plain) if axis["name"] == look.axes[0] else plain
            style = {**point_style((color, filled, "o")), "ms": 3.5, "elinewidth": 1.0}
            axes.errorbar([mean], [row[point["value"]]], xerr=[[side[k]] for side in bars], **style)
        axes.set_yticks([*row.values()], [short(value) for value in row])
        axes.set_ylim(0.4, len(row) + 0.6)
        axes.tick_params(axis="y", length=0, labelleft=i % columns == 0)
        axes.xaxis.get_major_locator().set_params(nbins=4)
        if measure["better"] == "zero":
            axes.axvline(0.0, color=FAINT, lw=0.8, zorder=1)
    for axes in panels[len(effects) :]:
        axes.remove()
    return figure


def _points(effect: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [point for point in effect["points"] if point["mean"] is not None]


def _convergence(data: Mapping[str, Any], look: Look) -> Any:
    """Errors against model calls, each measure in a panel; the legend says the fitted orders."""
    shown = [one for one in data["convergence"] if one["series"]]
    names = max((len(one["series"]) for one in shown if len(one["series"]) <= 2 * MOST), default=0)
    tall = max(3.0, 0.4 + 0.148 * names)
    figure, panels = grid(len(shown), 1, height=tall * len(shown))
    for axes, one in zip(panels, shown, strict=True):
        calls: list[float] = []
        means: list[float] = []
        for i, series in enumerate(one["series"]):
            points = [
                (n, {"mean": mean, "low": low, "high": high})
                for n, mean, low, high in zip(*(series[k] for k in ("calls", "mean", "low", "high")), strict=True)
                if n is not None and mean is not None and mean > 0.0
            ]
            if not points:
                continue
            x, y = [n for n, _ in points], [point["mean"] for _, point in points]
            below, above = bars_of([point for _, point in points])
            below = [min(bar, 0.999 * mean) for bar, mean in zip(below, y, strict=True)]
            color, filled = _color_of(series["label"], i, look)
            style = point_style((color, filled, MARKERS[i % len(MARKERS)]))
            label = _with_order(series) if len(one["series"]) <= 2 * MOST else None
            axes.errorbar(x, y, yerr=[below, above], label=label, elinewidth=0.7, **style)
            calls, means = calls + x, means + y
        if means:
            axes.set_ylim(min(means) / 2, max(means) * 2)
            log_scale(axes, "x", values=calls, powers_of_two=True)
            log_scale(axes, "y", values=means)
        axes.set(xlabel="model calls", ylabel=title_of({"name": one["measure"], "unit": one["unit"]}))
        if axes.get_legend_handles_labels()[0]:
            title = "fitted order [95 % interval] (expected)"
            axes.legend(loc="upper left", bbox_to_anchor=(1.01, 1.0), title=title, alignment="left", borderaxespad=0.0)
    return figure


def _with_order(series: Mapping[str, Any]) -> str:
    order, text = series["order"], short(series["label"])
    if order is None:
        text += ": none"
    else:
        ends = "" if order["low"] is None else f" [{order['low']:.2f}, {order['high']:.2f}]"
        text += f": {order['fit']:.2f}{ends}"
    return text if series["expected"] is None else f"{text} ({series['expected']:g})"


def _color_of(label: str, i: int, look: Look) -> tuple[str, bool]:
    """The colour of the first axis' value that a label begins with, or else of its place."""
    near = [value for value in look.colors if label == value or label.startswith(value + ",")]
    return look.colors[max(near, key=len)] if near else (COLORS[i % len(COLORS)], True)


def _schedules(data: Mapping[str, Any], look: Look) -> Any:
    """The times of each schedule once, over their place in the list, in t and in half log-SNR."""
    cells = [cell for cell in data["cells"] if cell["times"]]
    names = _that_decide(cells, look.axes)
    lists: dict[tuple[float, ...], list[list[str]]] = {}
    for cell in cells:
        chosen, same = [cell["settings"][name] for name in names], lists.setdefault(tuple(cell["times"]), [])
        if chosen not in same:
            same.append(chosen)
    figure, (left, right) = grid(1, 2, height=2.9)
    firsts = list(dict.fromkeys(same[0][0] for same in lists.values())) if names else [""]
    many, labelled = len(lists) > MOST, set()
    for i, (times, same) in enumerate(lists.items()):
        first = same[0][0] if names else ""
        color, _ = look.colors.get(first, (COLORS[firsts.index(first) % len(COLORS)], True))
        if many:
            label = None if first in labelled or len(firsts) > MOST else short(f"{names[0]}={first}")
            labelled.add(first)
        else:
            pairs = zip(names, same[0], strict=True)
            parts = [short(f"{name}={value}" if is_number(value) else value, LONGEST - 10) for name, value in pairs]
            label = ", ".join(parts) or "all cells"
            label += f" and {len(same) - 1} more" if len(same) > 1 else ""
        marker = "o" if many else MARKERS[i % len(MARKERS)]
        style = {"color": color, "marker": marker, "ms": 3, "lw": 0.8, "alpha": 0.5 if many else 0.9}
        x = [k / (len(times) - 1) for k in range(len(times))]
        left.plot(x, times, label=label, **style)
        finite = [(share, log_snr(t)) for share, t in zip(x, times, strict=True) if 0.0 < t < 1.0]
        if finite:
            right.plot(*zip(*finite, strict=True), **style)
    left.set(xlabel="share of the list", ylabel="t")
    right.set(xlabel="share of the list", ylabel="half log-SNR, ln((1 - t)/t)")
    if left.get_legend_handles_labels()[0]:
        figure.legend(loc="outside right upper")
    return figure


def _that_decide(cells: _Rows, axes: Sequence[str]) -> tuple[str, ...]:
    """The fewest axes whose values decide a cell's times."""
    for count in range(len(axes) + 1):
        for names in itertools.combinations(axes, count):
            found: dict[tuple[str, ...], Any] = {}
            if all(
                found.setdefault(tuple(cell["settings"][name] for name in names), cell["times"]) == cell["times"]
                for cell in cells
            ):
                return names
    return tuple(axes)


def _legend(figure: Any, data: Mapping[str, Any], look: Look, numbered: _Rows, front: bool) -> None:
    """What colours and markers stand for, and the preset's ring, right of the panels."""
    from matplotlib.lines import Line2D

    rows: list[tuple[Any, str]] = []
    ways = [{value: (*way, "o") for value, way in look.colors.items()}]
    ways += [{value: (INK, True, marker) for value, marker in look.markers.items()}]
    for axis, shown in zip(data["axes"], ways, strict=False):
        if len(shown) > 1:
            rows.append((Line2D([], [], ls=""), axis["name"]))
            rows += [(Line2D([], [], ls="", **point_style(way)), short(value)) for value, way in shown.items()]
    if any(cell["preset"] for cell in data["cells"]):
        rows.append((Line2D([], [], ls="", marker="o", ms=9, mfc="none", mec=INK, mew=0.8), "preset"))
    if front:
        rows.append((Line2D([], [], color=FAINT, lw=1.2), "best at its cost"))
    blank = Line2D([], [], ls="")
    if numbered:
        rows.append((blank, _NUMBERED))
        rows += [(blank, f"{number}  {short(cell['label'])}") for number, cell in enumerate(numbered, 1)]
    if rows:
        legend = figure.legend(*zip(*rows, strict=True), loc="outside right upper", labelspacing=0.35)
        for text in legend.get_texts():
            text.set_weight("bold" if text.get_text() in (*look.axes, _NUMBERED) else "normal")
