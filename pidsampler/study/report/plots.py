"""What the report's plots show, said once as plain data: the page (plots.js) and the figures of a paper draw the same.

A plot has `kind`, `name` (of its file), `panels`, and `legend`: [axis, [[value, color, shape], ...]] each, or `facts`:
what the facts of its series are. A **panel** has `of` (by which it is chosen), `x` and `y`, `series`, and `summary` in
words; one of cells has `front`: those that none beats at their cost, by rising cost, `stairs`: whether a line joins
them, and `level`: a [label, y] to compare with. An **axis** has `title`, `log`, `low`, `high`, `ticks`: [value, text],
`digits` and `names`: whether its ticks are names. A **series** has `label`, `joined` ("line", "thread" or ""), `dash`,
`facts`, and a list for each of its points' x, y, low, high (None: no interval), color, shape, ring, cell and note.

Colors and shapes are numbered from 0, here and there alike; a color stands for the same value of the first axis in all.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

from ...schedulers.exact import log_snr
from .. import work

COSTS = tuple(cost.name for cost in work.COSTS)  # what a cell takes, rather than what it gives

_AGAINST = {"calls": "model calls", "seconds": "seconds"}
_BETTER = {"higher": "  ↑ better", "lower": "  ↓ better", "zero": "  0 is best", "": ""}
_LOG_X, _LOG_Y = 4.0, 20.0  # how far values reach, as a ratio, before only a logarithm shows them all
_HUGE = 1e150  # no axis goes beyond
_FEW = 6  # different values that are the ticks themselves
_CLOSE = 1 / 25  # of an axis: ticks nearer than that are left out

_Data = Mapping[str, Any]
_Plot = dict[str, Any]  # or a part of one
_Point = dict[str, Any]


def plots_of(data: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the plots of a report's data, see above; one without anything to show is left out."""
    made = [
        *(_pareto(data, measure) for measure in data["measures"] if measure["name"] not in COSTS),
        *(_effects(data, axis) for axis in data["axes"]),
        _convergence(data),
        _schedules(data),
    ]
    shown = [plot for plot in made if plot["panels"]]
    named: dict[str, int] = {}
    for plot in shown:
        name = plot["name"] = re.sub(r"[^A-Za-z0-9_-]+", "-", plot["name"]).strip("-")
        named[name] = named.get(name, 0) + 1
        if named[name] > 1:
            plot["name"] += f"-{named[name]}"
    return shown


def has(cell: _Data, measure: str) -> bool:
    """Whether a cell has a mean of a measure."""
    result = cell["results"].get(measure)
    return result is not None and result["mean"] is not None


def title_of(measure: _Data) -> str:
    """Return a measure's name and unit."""
    return f"{measure['name']}, {measure['unit']}" if measure["unit"] else str(measure["name"])


def loss(better: str, value: float) -> float:
    """Return a number that is the less, the better a mean is; 0 where a measure has no direction."""
    return {"higher": -value, "lower": value, "zero": abs(value), "": 0.0}[better]


def number(value: float, digits: int, *, scientific: int = 1) -> str:
    """Return a number with that many decimals; as 1.2e-07 where they would say 0 of what is not."""
    text = f"{value:.{digits}f}"
    return f"{value:.{scientific}e}" if value and not float(text) else text


# ---- The four plots ----


def _pareto(data: _Data, measure: _Data) -> _Plot:
    """A measure against model calls and against seconds."""
    name, better, baseline = measure["name"], measure["better"], data["baseline"]
    level = [baseline["label"], baseline["results"][name]["mean"]] if baseline and has(baseline, name) else None
    panels = []
    for cost, title in _AGAINST.items():
        cells = [cell for cell in data["cells"] if has(cell, name) and has(cell, cost)]
        at = {cell["id"]: (cell["results"][cost]["mean"], cell["results"][name]["mean"]) for cell in cells}
        cells = sorted((cell for cell in cells if at[cell["id"]][0] > 0.0), key=lambda cell: at[cell["id"]])
        if not cells:
            continue
        front = [cells[i] for i in _front([at[cell["id"]] for cell in cells], better)] if better else []
        lines: dict[tuple[str, ...], list[_Point]] = {}
        for cell in cells:
            values = [cell["settings"][axis["name"]] for axis in data["axes"]]
            ranks = [axis["values"].index(value) for axis, value in zip(data["axes"], values, strict=True)]
            point = _at(at[cell["id"]][0], cell["results"][name], *ranks[:2], ring=cell["preset"], cell=cell["id"])
            lines.setdefault((*values[:1], *values[2:]), []).append(point)
        joined = "thread" if len(data["axes"]) > 1 else ""
        points = [point for line in lines.values() for point in line]
        x = _axis([point["x"] for point in points], title, log=_LOG_X)
        told = [f"{c['label']}, {number(at[c['id']][1], measure['digits'])} at {at[c['id']][0]:g}" for c in front]
        summary = f"{title_of(measure)} against {title} of {len(cells)} cells." + " On the front: " * bool(told)
        marks = {"front": [cell["id"] for cell in front], "stairs": better in ("higher", "lower"), "level": level}
        series = [_series("", line, joined) for line in lines.values()]
        panels.append(_panel(cost, series, x=x, y=_y_axis(points, measure), summary=summary + "; ".join(told)) | marks)
    legend = [  # the first axis has colors, the second shapes
        [axis["name"], [[value, None if second else i, i * second] for i, value in enumerate(axis["values"])]]
        for second, axis in enumerate(data["axes"][:2])
        if len(axis["values"]) > 1
    ]
    return {"kind": "pareto", "name": f"pareto-{name}", "measure": name, "panels": panels, "legend": legend}


def _front(points: Sequence[tuple[float, float]], better: str) -> list[int]:
    """The points that no other beats at the same cost or less, by rising cost."""
    worth = [loss(better, y) for _, y in points]
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], worth[i])):
        if not front or worth[i] < worth[front[-1]]:
            front.append(i)
    return front


def _effects(data: _Data, axis: _Data) -> _Plot:
    """One axis' effect on each measure, each on the scale of that measure's effects of all axes."""
    which, preset = data["axes"].index(axis), data["preset"].get(axis["name"])
    numeric = all(_is_number(value) for value in axis["values"])
    panels = []
    for measure in data["measures"]:
        alike = [effect for effect in data["effects"] if effect["measure"] == measure["name"]]
        every = [(effect["axis"], p) for effect in alike for p in effect["points"] if p["mean"] is not None]
        points: list[_Point] = []
        for point in (point for name, point in every if name == axis["name"]):
            value = point["value"]
            rank = axis["values"].index(value)
            look = (0,) * which + (rank,) if which < 2 else ()
            points.append(_at(float(value if numeric else len(points)), point, *look, ring=preset == value, note=value))
        if not points or measure["name"] in COSTS:
            continue
        names = [point["note"] for point in points]
        x = _axis([point["x"] for point in points], axis["name"], log=_LOG_X) if numeric else _names(names)
        told = [f"{point['note']} {number(point['y'], measure['digits'])}" for point in points]
        summary = f"{title_of(measure)} by {axis['name']}: {', '.join(told)}"
        y = _y_axis([_at(0.0, point) for _, point in every], measure)
        series = [_series(axis["name"], points, "thread" if numeric else "")]
        panels.append(_panel(measure["name"], series, x=x, y=y, summary=summary))
    return {"kind": "effects", "name": f"effects-{axis['name']}", "axis": axis["name"], "panels": panels}


def _convergence(data: _Data) -> _Plot:
    """Errors against model calls, both logarithmic, with each line's fitted order."""
    digits = {measure["name"]: measure["digits"] for measure in data["measures"]}
    panels = []
    for part in data["convergence"]:
        lines = []
        for i, line in enumerate(part["series"]):
            color = _color_of(data, line["label"], i)
            facts = [_order(line["order"]), "—" if line["expected"] is None else f"{line['expected']:g}"]
            columns = zip(*(line[key] for key in ("calls", "steps", "mean", "low", "high")), strict=True)
            points = [
                _at(calls, {"mean": mean, "low": low, "high": high}, color, i, note=f"{steps} steps")
                for calls, steps, mean, low, high in columns
                if calls is not None and mean is not None and mean > 0.0
            ]
            if points:
                lines.append((line["label"], points, facts))
        if lines:
            every = [point for _, points, _ in lines for point in points]
            title = title_of({**part, "name": part["measure"]}) + _BETTER["lower"]
            y = _axis([point["y"] for point in every], title, log=1.0) | {"digits": digits.get(part["measure"], 4)}
            x = _axis([point["x"] for point in every], "model calls", log=1.0)
            told = "; ".join(f"{label} {order}" for label, _, (order, _) in lines)
            summary = f"{part['measure']} against model calls. Fitted orders: {told}"
            panels.append(_panel(part["measure"], _dashed(lines), x=x, y=y, summary=summary))
    facts = ["fitted order", "expected"]
    return {"kind": "convergence", "name": "convergence", "panels": panels, "facts": facts}


def _order(order: _Data | None) -> str:
    if order is None:
        return "—"
    ends = "" if order["low"] is None else f" ({order['low']:.2f} to {order['high']:.2f})"
    return f"{order['fit']:.2f}{ends}"


def _color_of(data: _Data, label: str, i: int) -> int:
    """The color of the first axis' value that a label begins with, or else of its place."""
    values = data["axes"][0]["values"] if data["axes"] else []
    near = [value for value in values if label == value or label.startswith(value + ",")]
    return values.index(max(near, key=len)) if near else i


def _schedules(data: _Data) -> _Plot:
    """The times of each different list, over their place in it, in t and in half log-SNR."""
    cells = [cell for cell in data["cells"] if cell["times"]]
    values = {axis["name"]: axis["values"] for axis in data["axes"]}
    names = _that_decide(cells, list(values))
    lists: dict[tuple[float, ...], list[_Data]] = {}
    for cell in cells:
        lists.setdefault(tuple(cell["times"]), []).append(cell)
    panels = []
    for of, title, value in (("t", "t", float), ("log-snr", "half log-SNR, ln((1 \u2212 t)/t)", _finite_log_snr)):
        lines = []
        for i, (times, same) in enumerate(lists.items()):
            color = values[names[0]].index(same[0]["settings"][names[0]]) if names else 0
            last = max(1, len(times) - 1)
            found = [(k, value(t)) for k, t in enumerate(times)]
            points = [
                _at(k / last, {"mean": y}, color, i, note=f"step {k} of {last}") for k, y in found if y is not None
            ]
            facts = [f"{_counted(last, 'step')}, {_counted(len(same), 'cell')}"]
            lines.append((_list_label(same, names), points, facts))
        every = [point["y"] for _, points, _ in lines for point in points]
        if every:
            summary = f"{title} of {len(lists)} lists: {'; '.join(label for label, *_ in lines)}"
            x, y = _axis([0.0, 0.5, 1.0], "share of the steps"), _axis(every, title) | {"digits": 4}
            panels.append(_panel(of, _dashed(lines), x=x, y=y, summary=summary))
    return {"kind": "schedules", "name": "schedules", "panels": panels, "facts": [""]}


def _finite_log_snr(t: float) -> float | None:
    return log_snr(t) if 0.0 < t < 1.0 else None


def _counted(count: int, word: str) -> str:
    return f"{count} {word}{'' if count == 1 else 's'}"


def _list_label(cells: Sequence[_Data], names: Sequence[str]) -> str:
    """What decides a list: the first of its cells' settings, and how many others there are."""
    chosen = list(dict.fromkeys(tuple(cell["settings"][name] for name in names) for cell in cells))
    parts = [f"{name}={value}" if _is_number(value) else value for name, value in zip(names, chosen[0], strict=True)]
    more = f" and {len(chosen) - 1} more" if len(chosen) > 1 else ""
    return (", ".join(parts) or "all cells") + more


def _that_decide(cells: Sequence[_Data], axes: Sequence[str]) -> tuple[str, ...]:
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


# ---- Points, series and axes ----


def _at(x: float, result: _Data, color: int = 0, shape: int = 0, *, ring: bool = False, **more: Any) -> _Point:
    ends = {"low": result.get("low"), "high": result.get("high")}
    return {"x": x, "y": result["mean"], **ends, "color": color, "shape": shape, "ring": ring, **more}


def _series(label: str, points: Sequence[_Point], joined: str, *, dash: int = 0, facts: Sequence[str] = ()) -> _Plot:
    keys = points[0] if points else _at(0.0, {"mean": 0.0})
    columns = {key: [point[key] for point in points] for key in keys}
    return {"label": label, "joined": joined, "dash": dash, "facts": list(facts), **columns}


def _dashed(lines: Sequence[tuple[str, list[_Point], list[str]]]) -> list[_Plot]:
    """Lines of (label, points, facts); those of one color differ in their dashes."""
    colors: list[int | None] = [points[0]["color"] if points else None for _, points, _ in lines]
    return [
        _series(label, points, "line", dash=colors[:i].count(colors[i]), facts=facts)
        for i, (label, points, facts) in enumerate(lines)
    ]


def _panel(of: str, series: Sequence[_Plot], *, x: _Plot, y: _Plot, summary: str) -> _Plot:
    return {"of": of, "x": x, "y": y, "series": series, "summary": summary}


def _y_axis(points: Sequence[_Point], measure: _Data) -> _Plot:
    """The axis of a measure: of the means alone where it is logarithmic, else of the intervals too."""
    means = [point["y"] for point in points]
    ends = [end for point in points for end in (point["low"], point["high"]) if end is not None]
    log = min(means) > 0.0 and max(means) >= _LOG_Y * min(means)
    title = title_of(measure) + _BETTER[measure["better"]]
    return _axis(means if log else means + ends, title, log=_LOG_Y) | {"digits": measure["digits"]}


def _names(names: Sequence[str]) -> _Plot:
    """An axis with a place for each name."""
    ends, ticks = {"low": -0.5, "high": len(names) - 0.5}, [[i, name] for i, name in enumerate(names)]
    return {"title": "", "log": False, **ends, "ticks": ticks, "digits": 0, "names": True}


def _axis(values: Sequence[float], title: str, *, log: float = math.inf) -> _Plot:
    """An axis for values; logarithmic if they are above 0 and reach as far as a ratio `log`."""
    values = [max(-_HUGE, min(value, _HUGE)) for value in values]
    least, most = min(values), max(values)
    ticks: list[list[Any]]
    is_log = least > 1.0 / _HUGE and most / least >= log
    if is_log:
        margin = max((most / least) ** 0.05, 1.15)
        low, high = least / margin, most * margin
    else:
        margin = 0.05 * (most - least) or 0.05 * abs(most) or 0.5
        low, high = least - margin, most + margin
    distinct = sorted(set(values))
    if len(distinct) <= _FEW and all(float(value).is_integer() for value in distinct):
        ticks = [[value, f"{value:g}"] for value in distinct]
    else:
        ticks = _log_ticks(low, high) if is_log else []
        ticks = ticks if len(ticks) > 1 else _linear_ticks(low, high)

    def place(value: float) -> float:
        return math.log(value) if is_log else value

    least_gap = _CLOSE * (place(high) - place(low))
    kept: list[list[Any]] = []
    for tick in ticks:
        if not kept or place(tick[0]) - place(kept[-1][0]) >= least_gap:
            kept.append(tick)
    return {"title": title, "log": is_log, "low": low, "high": high, "ticks": kept, "digits": 2, "names": False}


def _linear_ticks(low: float, high: float) -> list[list[Any]]:
    rough = (high - low) / 6
    unit = 10.0 ** math.floor(math.log10(rough))
    step = next(factor * unit for factor in (1, 2, 5, 10) if factor * unit >= 0.999 * rough)
    digits = max(0, -math.floor(math.log10(step) + 1e-9))
    form = f".{digits}f" if digits <= 6 and max(-low, high) < 1e7 else "g"
    ticks = (i * step for i in range(math.floor(low / step), math.ceil(high / step) + 1))
    return [[tick, f"{tick:{form}}".replace("-", "\u2212")] for tick in ticks if low <= tick <= high]


def _log_ticks(low: float, high: float) -> list[list[Any]]:
    """Few ticks within the ends: powers of ten, and twice and five times those where there are not many."""
    decades = math.log10(high / low)
    factors = (1, 2, 5) if decades < 2.5 else (1,)
    every = max(1, round(decades / 5))
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    ticks = [factor * 10.0**k for k in range(first, last + 1) if k % every == 0 for factor in factors]
    return [[tick, _plain(tick)] for tick in ticks if low <= tick <= high]


def _plain(value: float) -> str:
    """A tick's number: 0.01, 500, or 10⁻⁵."""
    if 1e-3 <= value < 1e5:
        return f"{value:g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if mantissa == "1" else f"{mantissa}·{power}"


def _is_number(value: str) -> bool:
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False
