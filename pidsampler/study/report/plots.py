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
_FEW = 6  # different values that are the ticks themselves
_CLOSE = 1 / 25  # of an axis: ticks nearer than that are left out

_COLUMNS = ("x", "y", "low", "high", "color", "shape", "ring")

_Data = Mapping[str, Any]
_Point = dict[str, Any]


def plots_of(data: _Data) -> list[dict[str, Any]]:
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


def _pareto(data: _Data, measure: _Data) -> dict[str, Any]:
    """A measure against model calls and against seconds."""
    name, better = measure["name"], measure["better"]
    panels = []
    for cost, title in _AGAINST.items():
        cells = [cell for cell in data["cells"] if has(cell, name) and has(cell, cost)]
        cells = [cell for cell in cells if cell["results"][cost]["mean"] > 0.0]
        if not cells:
            continue
        at = {cell["id"]: (cell["results"][cost]["mean"], cell["results"][name]["mean"]) for cell in cells}
        front = [cells[i] for i in _front([at[cell["id"]] for cell in cells], better)] if better else []
        lines: dict[tuple[str, ...], list[_Point]] = {}
        for cell in sorted(cells, key=lambda cell: at[cell["id"]]):
            color, shape = _ranks(data, cell)
            line = tuple(cell["settings"].get(axis["name"], "") for i, axis in enumerate(data["axes"]) if i != 1)
            known = {"x": at[cell["id"]][0], **_interval(cell["results"][name]), "cell": cell["id"]}
            lines.setdefault(line, []).append({**known, "color": color, "shape": shape, "ring": cell["preset"]})
        joined = "thread" if len(data["axes"]) > 1 else ""
        told = [f"{c['label']}, {number(at[c['id']][1], measure['digits'])} at {at[c['id']][0]:g}" for c in front]
        points = list(itertools.chain(*lines.values()))
        baseline = data["baseline"]
        panels.append(
            {
                "of": cost,
                "x": _axis([p["x"] for p in points], title, log=_LOG_X),
                "y": _y_axis(points, measure),
                "series": [_series("", line, joined) for line in lines.values()],
                "front": [cell["id"] for cell in front],
                "stairs": better in ("higher", "lower"),
                "level": [baseline["label"], baseline["results"][name]["mean"]]
                if baseline is not None and has(baseline, name)
                else None,
                "summary": f"{title_of(measure)} against {title} of {len(cells)} cells."
                + (f" On the front: {'; '.join(told)}" if told else ""),
            }
        )
    kinds = [[[value, i, 0] for i, value in enumerate(axis["values"])] for axis in data["axes"][:1]]
    kinds += [[[value, None, i] for i, value in enumerate(axis["values"])] for axis in data["axes"][1:2]]
    legend = [[axis["name"], kind] for axis, kind in zip(data["axes"], kinds, strict=False) if len(kind) > 1]
    return {"kind": "pareto", "name": f"pareto-{name}", "measure": name, "panels": panels, "legend": legend}


def _front(points: Sequence[tuple[float, float]], better: str) -> list[int]:
    """The points that no other beats at the same cost or less, by rising cost."""
    worth = [loss(better, y) for _, y in points]
    front: list[int] = []
    for i in sorted(range(len(points)), key=lambda i: (points[i][0], worth[i])):
        if not front or worth[i] < worth[front[-1]]:
            front.append(i)
    return front


def _effects(data: _Data, axis: _Data) -> dict[str, Any]:
    """One axis' effect on each measure, each on the scale of that measure's effects of all axes."""
    which = data["axes"].index(axis)
    numeric = all(_is_number(value) for value in axis["values"])
    panels = []
    for measure in data["measures"]:
        alike = [effect for effect in data["effects"] if effect["measure"] == measure["name"]]
        points = [p for effect in alike if effect["axis"] == axis["name"] for p in effect["points"]]
        points = [point for point in points if point["mean"] is not None]
        if not points or measure["name"] in COSTS:
            continue
        ranks = [axis["values"].index(point["value"]) for point in points]
        shown = [
            {
                "x": float(point["value"]) if numeric else float(i),
                **_interval(point),
                "color": rank if which == 0 else 0,
                "shape": rank if which == 1 else 0,
                "ring": data["preset"].get(axis["name"]) == point["value"],
                "note": point["value"],
            }
            for i, (point, rank) in enumerate(zip(points, ranks, strict=True))
        ]
        told = [f"{point['value']} {number(point['mean'], measure['digits'])}" for point in points]
        values = [point["x"] for point in shown]
        names = None if numeric else [point["value"] for point in points]
        everywhere = [_interval(p) for effect in alike for p in effect["points"] if p["mean"] is not None]
        panels.append(
            {
                "of": measure["name"],
                "x": _axis(values, axis["name"] if numeric else "", log=_LOG_X if numeric else None, names=names),
                "y": _y_axis(everywhere, measure),
                "series": [_series(axis["name"], shown, "thread" if numeric else "")],
                "summary": f"{title_of(measure)} by {axis['name']}: {', '.join(told)}",
            }
        )
    return {"kind": "effects", "name": f"effects-{axis['name']}", "axis": axis["name"], "panels": panels}


def _convergence(data: _Data) -> dict[str, Any]:
    """Errors against model calls, both logarithmic, with each line's fitted order."""
    digits = {measure["name"]: measure["digits"] for measure in data["measures"]}
    panels = []
    for part in data["convergence"]:
        series, used = [], dict[int, int]()
        for i, line in enumerate(part["series"]):
            color = _color_of(data, line["label"], i)
            columns = (line[key] for key in ("calls", "steps", "mean", "low", "high"))
            points = [
                {"x": calls, **_interval({"mean": mean, "low": low, "high": high}), "color": color, "shape": i}
                | {"ring": False, "note": f"{steps} steps"}
                for calls, steps, mean, low, high in zip(*columns, strict=True)
                if calls is not None and mean is not None and mean > 0.0
            ]
            if points:
                used[color] = used.get(color, -1) + 1
                facts = [_order(line["order"]), "—" if line["expected"] is None else f"{line['expected']:g}"]
                series.append(_series(line["label"], points, "line", dash=used[color], facts=facts))
        if series:
            every = [point for line in part["series"] for point in line["mean"] if point]
            told = "; ".join(f"{line['label']} {line['facts'][0]}" for line in series)
            panels.append(
                {
                    "of": part["measure"],
                    "x": _axis([x for line in series for x in line["x"]], "model calls", log=1.0),
                    "y": _axis(every, title_of({**part, "name": part["measure"]}) + _BETTER["lower"], log=1.0)
                    | {"digits": digits.get(part["measure"], 4)},
                    "series": series,
                    "summary": f"{part['measure']} against model calls. Fitted orders: {told}",
                }
            )
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


def _schedules(data: _Data) -> dict[str, Any]:
    """The times of each different list, over their place in it, in t and in half log-SNR."""
    cells = [cell for cell in data["cells"] if cell["times"]]
    axes = [axis["name"] for axis in data["axes"]]
    names = _that_decide(cells, axes)
    lists: dict[tuple[float, ...], list[_Data]] = {}
    for cell in cells:
        lists.setdefault(tuple(cell["times"]), []).append(cell)
    firsts = data["axes"][axes.index(names[0])]["values"] if names else [""]
    panels = []
    for of, title, value in (("t", "t", float), ("log-snr", "half log-SNR, ln((1 \u2212 t)/t)", _finite_log_snr)):
        series, used = [], dict[int, int]()
        for times, same in lists.items():
            color = firsts.index(same[0]["settings"][names[0]]) if names else 0
            used[color] = used.get(color, -1) + 1
            last = max(1, len(times) - 1)
            found = [(k, value(t)) for k, t in enumerate(times)]
            points = [
                {"x": k / last, "y": y, "low": None, "high": None, "color": color, "shape": used[color], "ring": False}
                | {"note": f"step {k} of {last}"}
                for k, y in found
                if y is not None
            ]
            facts = [f"{_counted(last, 'step')}, {_counted(len(same), 'cell')}"]
            series.append(_series(_list_label(same, names), points, "line", dash=used[color], facts=facts))
        values = [y for line in series for y in line["y"]]
        if values:
            said = "; ".join(line["label"] for line in series)
            panels.append(
                {
                    "of": of,
                    "x": _axis([0.0, 0.5, 1.0], "share of the steps"),
                    "y": _axis(values, title) | {"digits": 4},
                    "series": series,
                    "summary": f"{title} against the share of the steps, of {len(lists)} lists: {said}",
                }
            )
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


def _interval(result: _Data) -> _Point:
    return {"y": result["mean"], "low": result["low"], "high": result["high"]}


def _series(
    label: str, points: Sequence[_Point], joined: str, *, dash: int = 0, facts: Sequence[str] = ()
) -> dict[str, Any]:
    keys = (*_COLUMNS, *(key for key in ("cell", "note") if points and key in points[0]))
    columns = {key: [point[key] for point in points] for key in keys}
    return {"label": label, "joined": joined, "dash": dash, "facts": list(facts), **columns}


def _ranks(data: _Data, cell: _Data) -> tuple[int, int]:
    """The places of a cell's settings among the values of the first and the second axis."""
    ranks = [axis["values"].index(cell["settings"][axis["name"]]) for axis in data["axes"][:2]]
    return (ranks[0] if ranks else 0), (ranks[1] if len(ranks) > 1 else 0)


def _y_axis(points: Sequence[_Point], measure: _Data) -> dict[str, Any]:
    """The axis of a measure: of the means alone where it is logarithmic, else of the intervals too."""
    means = [point["y"] for point in points]
    ends = [end for point in points for end in (point["low"], point["high"]) if end is not None]
    log = min(means) > 0.0 and max(means) >= _LOG_Y * min(means)
    title = title_of(measure) + _BETTER[measure["better"]]
    return _axis(means if log else means + ends, title, log=_LOG_Y) | {"digits": measure["digits"]}


def _axis(
    values: Sequence[float], title: str, *, log: float | None = None, names: Sequence[str] | None = None
) -> dict[str, Any]:
    """An axis for values; logarithmic if they are above 0 and reach as far as a ratio `log`."""
    least, most = min(values), max(values)
    ticks: list[list[Any]] = [[i, name] for i, name in enumerate(names or ())]
    if names is not None:
        ends = {"low": -0.5, "high": len(names) - 0.5}
        return {"title": title, "log": False, **ends, "ticks": ticks, "digits": 0, "names": True}
    is_log = log is not None and least > 0.0 and most >= log * least
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
    ticks = (i * step for i in range(math.floor(low / step), math.ceil(high / step) + 1))
    return [[tick, f"{tick:.{digits}f}".replace("-", "\u2212")] for tick in ticks if low <= tick <= high]


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
