"""What the plots of a study share: the style, the look of an axis' values, scales, bars and short names."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .. import work

COSTS = tuple(cost.name for cost in work.COSTS)  # what a cell takes, rather than what it gives

# Told apart by most colour-blind eyes: Okabe and Ito, "Color universal design" (2008), with grey for their yellow.
COLORS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8C8C8C")
MARKERS = "osD^vPX*<>hp"
INK, FAINT = "#333333", "#BBBBBB"

STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # it comes with matplotlib
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.titlesize": 8,
    "axes.edgecolor": INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#E6E6E6",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.color": INK,
    "ytick.color": INK,
    "legend.fontsize": 7,
    "legend.title_fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.0,
    "lines.markersize": 4.5,
    "text.parse_math": False,  # a user's text may hold a $
    "svg.fonttype": "path",  # looks the same everywhere
    "svg.hashsalt": "pidsampler",
    "savefig.dpi": 200,
}

_WIDTH = 7.0  # inches: a page's text
MOST = 16  # more names than these make no legend; so many colours there are, full and hollow
LONGEST = 34  # letters of a name in a legend


@dataclass(frozen=True, kw_only=True)
class Look:
    """How the values of the first two axes look; empty where they are more than a reader can tell apart."""

    colors: dict[str, tuple[str, bool]]  # value -> colour, filled
    markers: dict[str, str]
    axes: list[str]

    def of(self, settings: Mapping[str, str]) -> tuple[str, bool, str]:
        """The colour of a cell's point, whether it is filled, and its marker."""
        first, second = (*(settings[name] for name in self.axes[:2]), "", "")[:2]
        return *self.colors.get(first, (COLORS[-1], True)), self.markers.get(second, "o")

    @property
    def whole(self) -> bool:
        """Whether colour and marker say which cell it is."""
        return len(self.axes) <= 2 and bool(self.colors) and (len(self.axes) < 2 or bool(self.markers))


def look_of(axes: Sequence[Mapping[str, Any]]) -> Look:
    """Choose colours for the first axis' values and markers for the second's."""
    first, second = (*(axis["values"] for axis in axes[:2]), [], [])[:2]
    ways = [(color, filled) for filled in (True, False) for color in COLORS]
    colors = dict(zip(first, ways, strict=False)) if len(first) <= len(ways) else {}
    markers = dict(zip(second, MARKERS, strict=False)) if len(second) <= len(MARKERS) else {}
    return Look(colors=colors, markers=markers, axes=[axis["name"] for axis in axes])


def grid(rows: int, columns: int, *, height: float, sharey: Any = False) -> tuple[Any, list[Any]]:
    """Return a figure of a page's width, `height` inches high, and its panels row by row."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, height), layout="constrained")
    return figure, list(figure.subplots(rows, columns, squeeze=False, sharey=sharey).flat)


def point_style(look: tuple[str, bool, str]) -> dict[str, Any]:
    """Return matplotlib's options for a point of a color, filled or hollow, and a marker."""
    color, filled, marker = look
    return {"color": color, "marker": marker, "mfc": color if filled else "white", "mew": 0.8}


def has(cell: Mapping[str, Any], measure: str) -> bool:
    """Whether a cell has a mean of a measure."""
    result = cell["results"].get(measure)
    return result is not None and result["mean"] is not None


def bars_of(results: Sequence[Mapping[str, Any]]) -> list[list[float]]:
    """How far the intervals reach below and above the means; 0 where there is none."""
    known = [(r["mean"], *((r["mean"],) * 2 if r["low"] is None else (r["low"], r["high"]))) for r in results]
    return [[max(0.0, mean - low) for mean, low, _ in known], [max(0.0, high - mean) for mean, _, high in known]]


def log_scale(
    axes: Any, which: str, *, values: Sequence[float], powers_of_two: bool = False, ratio: float = 4.0
) -> None:
    """Make an axis logarithmic, with few ticks in plain numbers, where its values span more than a ratio."""
    least, most = min(values), max(values)
    if least <= 0.0 or most < ratio * least:
        return
    base = 2 if powers_of_two and most <= 1024 * least else 10
    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    decades = math.log10(most / least)
    steps = (1.0, 2.0, 5.0) if base == 10 and decades < 2.5 else (1.0,)
    every = 1 if base == 2 else max(1, round(decades / 5))
    first, last = (math.floor(math.log(v, base)) for v in (least, most))
    ticks = [step * float(base) ** k for k in range(first, last + 2) if k % every == 0 for step in steps]
    axis.set_ticks([t for t in ticks if least / 1.3 <= t <= most * 1.3], minor=False)
    axis.set_ticks([], minor=True)
    axis.set_major_formatter(lambda value, _: _plain(value))


def _plain(value: float) -> str:
    """A tick's number: 0.01, 500, or 10⁻⁵."""
    if 1e-3 <= value < 1e5:
        return f"{value:g}"
    mantissa, exponent = f"{value:.0e}".split("e")
    power = "10" + str(int(exponent)).translate(str.maketrans("-0123456789", "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"))
    return power if mantissa == "1" else f"{mantissa}·{power}"


def is_number(value: str) -> bool:
    """Whether a text is a finite number."""
    try:
        return math.isfinite(float(value))
    except ValueError:
        return False


def title_of(measure: Mapping[str, Any]) -> str:
    """Return a measure's name and unit."""
    return f"{measure['name']}, {measure['unit']}" if measure["unit"] else str(measure["name"])


def short(text: str, most: int = LONGEST) -> str:
    """Return a text in one line of at most that many letters."""
    text = " ".join(text.split())
    return text if len(text) <= most else text[: most - 1] + "…"
