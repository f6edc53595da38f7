"""The report's plots for a paper: from the report's data, each as .svg and .png.

What is drawn: `pareto-<measure>` for each measure with a direction, against model calls and against seconds;
`effects-<axis>` for each axis; `convergence` and `schedules`. A plot without data is not drawn. What a plot shows is
said in `plots`, for the page too. The same data gives the same bytes.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from ... import moved
from ...errors import FileError, missing_extra, reason
from ...io.atomic import place
from .plots import plots_of

# Told apart by most color-blind eyes: after Okabe and Ito, "Color universal design" (2008), as in the page.
_COLORS = ("#0072b2", "#d55e00", "#00916b", "#b8588f", "#d18f00", "#3aa0dc", "#55585e", "#8f8200")
_SHAPES = "os^DvPhX"
_DASHES: tuple[Any, ...] = ("-", (0, (6, 3)), (0, (2, 3)), (0, (8, 3, 2, 3)))
_INK, _FAINT = "#333333", "#bbbbbb"

_STYLE: dict[str, Any] = {
    "font.family": "DejaVu Sans",  # it comes with matplotlib
    "font.size": 8,
    "axes.labelsize": 8,
    "axes.edgecolor": _INK,
    "axes.linewidth": 0.6,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": "#e6e6e6",
    "grid.linewidth": 0.5,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "xtick.color": _INK,
    "ytick.color": _INK,
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
_MOST = 40  # names in a legend
_NUMBERED = 10  # cells with a number, where color and shape do not say which they are
_LONGEST = 34  # letters of a name
_CROWD = 100  # points of a panel, from where on they are smaller

_Part = Mapping[str, Any]


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
    directed = {measure["name"] for measure in data["measures"] if measure["better"]}
    labels = {cell["id"]: cell["label"] for cell in data["cells"]}
    files = []
    with matplotlib.rc_context():
        matplotlib.rcdefaults()  # rather than the user's own
        settings: Any = matplotlib.rcParams
        settings.update(_STYLE)
        for plot in plots_of(data):
            if plot["kind"] == "pareto" and plot["measure"] not in directed:
                continue
            figure = _figure(plot, labels, numbered=len(data["axes"]) > 2)
            figure.draw_without_rendering()
            figure.set_layout_engine("none")  # laid out once, for both files
            for kind in ("svg", "png"):
                path = folder / f"{plot['name']}.{kind}"
                picture = io.BytesIO()
                nothing = {"Date": None} if kind == "svg" else {"Software": None}
                figure.savefig(picture, format=kind, metadata=nothing, bbox_inches="tight", pad_inches=0.03)
                place(path, partial(_copy, picture.getvalue()), overwrite=overwrite)
                files.append(path)
    return files


def _copy(data: bytes, file: IO[bytes]) -> None:
    file.write(data)


def _figure(plot: _Part, labels: Mapping[str, str], *, numbered: bool) -> Any:
    """One plot: its panels beside one another, or below, and what its colors stand for at the right."""
    from matplotlib.figure import Figure
    from matplotlib.lines import Line2D

    panels = plot["panels"]
    columns = {"effects": 3, "convergence": 1}.get(plot["kind"], 2)
    columns = min(columns, len(panels))
    rows = -(-len(panels) // columns)
    lines = len(panels[0]["series"]) if plot["kind"] == "convergence" else 0
    tall = 1.9 if plot["kind"] == "effects" else max(2.9, 0.4 + 0.148 * min(lines, _MOST))
    figure = Figure(figsize=(_WIDTH, tall * rows), layout="constrained")
    every = list(figure.subplots(rows, columns, squeeze=False).flat)
    for axes, panel in zip(every, panels, strict=False):
        _panel(axes, panel)
        if plot["kind"] == "convergence":
            _legend(
                axes, [(_sign(line), _with_facts(line)) for line in panel["series"]], title=", ".join(plot["facts"])
            )
    for axes in every[len(panels) :]:
        axes.remove()
    if plot["kind"] == "schedules":
        _legend(figure, [(_sign(line), _short(line["label"])) for line in panels[0]["series"]])
    elif plot["kind"] == "pareto":
        blank = Line2D([], [], ls="")
        rows_: list[tuple[Any, str]] = []
        for axis, values in plot["legend"]:
            rows_ += [(blank, _short(axis)), *((_point(c, s), _short(value)) for value, c, s in values)]
        rows_.append((Line2D([], [], ls="", marker="o", ms=9, mfc="none", mec=_INK, mew=0.8), "preset"))
        if panels[0]["stairs"]:
            rows_.append((Line2D([], [], color=_FAINT, lw=1.2), "best at its cost"))
        if numbered:
            best = panels[0]["front"][:_NUMBERED]
            rows_ += [(blank, f"{i}  {_short(labels[cell])}") for i, cell in enumerate(best, 1)]
            for axes, panel in zip(every, panels, strict=False):
                _number(axes, panel, best)
        _legend(figure, rows_)
    return figure


def _panel(axes: Any, panel: _Part) -> None:
    """One panel: its axes, then the series' lines, points, intervals and rings, and the line of the best."""
    for which in "xy":
        axis = panel[which]
        if axis["log"]:
            axes.set(**{f"{which}scale": "log"})
        axes.set(**{f"{which}lim": (axis["low"], axis["high"]), f"{which}label": axis["title"]})
        ticks = getattr(axes, f"{which}axis")
        ticks.set_ticks([value for value, _ in axis["ticks"]], [_short(text) for _, text in axis["ticks"]])
        ticks.set_ticks([], minor=True)
        if axis["names"]:
            axes.tick_params(axis=which, length=0)
            for label in ticks.get_ticklabels():
                label.set(rotation=45, ha="right", rotation_mode="anchor")
    y = panel["y"]
    if y["low"] < 0.0 < y["high"]:
        axes.axhline(0.0, color=_FAINT, lw=0.8, zorder=1)
    looks: dict[tuple[int, int], list[tuple[float, float, float, float]]] = {}
    for line in panel["series"]:
        if line["joined"] and line["x"]:
            style = (
                {"ls": _DASHES[line["dash"] % len(_DASHES)]} if line["joined"] == "line" else {"lw": 0.6, "alpha": 0.35}
            )
            axes.plot(line["x"], line["y"], color=_color(line["color"][0]), **style)
        for px, py, low, high, color, shape, ring in zip(*(line[key] for key in _COLUMNS), strict=True):
            below, above = (0.0, 0.0) if low is None else (py - max(low, y["low"]), high - py)
            looks.setdefault((color, shape), []).append((px, py, max(0.0, below), max(0.0, above)))
            if ring:
                axes.plot(px, py, marker="o", ms=9, mfc="none", mec=_INK, mew=0.8, zorder=4)
    small = sum(map(len, looks.values())) > _CROWD
    for (color, shape), points in looks.items():
        px, py, below, above = zip(*points, strict=True)
        style = {**_look(color, shape), "ms": 3.0 if small else 4.5, "ecolor": (_color(color), 0.45)}
        axes.errorbar(px, py, yerr=[below, above], ls="", elinewidth=0.7, **style)
    if panel.get("stairs"):
        best = _of_cells(panel, panel["front"])
        axes.plot(*zip(*best, strict=True), color=_FAINT, lw=1.2, zorder=1, drawstyle="steps-post")
    if panel.get("level") and y["low"] < panel["level"][1] < y["high"]:
        axes.axhline(panel["level"][1], color=_INK, lw=0.7, ls=":", zorder=1)
        place = {"xy": (1.0, panel["level"][1]), "xycoords": ("axes fraction", "data"), "xytext": (0, 2)}
        axes.annotate(panel["level"][0], **place, textcoords="offset points", ha="right", fontsize=6, color=_INK)


_COLUMNS = ("x", "y", "low", "high", "color", "shape", "ring")


def _of_cells(panel: _Part, cells: Sequence[str]) -> list[tuple[float, float]]:
    """Where cells stand in a panel, of those that it has."""
    at = {c: (x, y) for line in panel["series"] for c, x, y in zip(line["cell"], line["x"], line["y"], strict=True)}
    return [at[cell] for cell in cells if cell in at]


def _number(axes: Any, panel: _Part, cells: Sequence[str]) -> None:
    for i, point in enumerate(_of_cells(panel, cells), 1):
        place = {"xytext": (-3, 3), "textcoords": "offset points", "ha": "right", "va": "bottom"}
        axes.annotate(str(i), point, **place, weight="bold", fontsize=7)


def _color(index: int) -> tuple[float, float, float]:
    """The palette's colors, then the same ones nearer to black, then nearer to white."""
    from matplotlib.colors import to_rgb

    turn = index // len(_COLORS) % 3
    base, toward = to_rgb(_COLORS[index % len(_COLORS)]), float(turn == 2)
    share = 0.55 if turn else 1.0
    red, green, blue = (share * part + (1.0 - share) * toward for part in base)
    return red, green, blue


def _look(color: int | None, shape: int) -> dict[str, Any]:
    """Matplotlib's options for a point; after the eight shapes come the same ones hollow."""
    rgb = _INK if color is None else _color(color)
    fill = "white" if shape // len(_SHAPES) % 2 else rgb
    return {"color": rgb, "marker": _SHAPES[shape % len(_SHAPES)], "mfc": fill, "mew": 0.8}


def _point(color: int | None, shape: int) -> Any:
    from matplotlib.lines import Line2D

    return Line2D([], [], ls="", **_look(color, shape))


def _sign(line: _Part) -> Any:
    from matplotlib.lines import Line2D

    look = _look(line["color"][0], line["shape"][0]) if line["color"] else {}
    return Line2D([], [], ls=_DASHES[line["dash"] % len(_DASHES)], **look)


def _with_facts(line: _Part) -> str:
    return f"{_short(line['label'])}: {', '.join(line['facts'])}"


def _legend(where: Any, rows: Sequence[tuple[Any, str]], title: str | None = None) -> None:
    """A legend at the right of a figure or of its panel."""
    from matplotlib.lines import Line2D

    shown = list(rows[:_MOST])
    if len(rows) > _MOST:
        shown.append((Line2D([], [], ls=""), f"and {len(rows) - _MOST} more"))
    place: dict[str, Any] = {"loc": "outside right upper"}
    if title is not None:
        place = {"loc": "upper left", "bbox_to_anchor": (1.01, 1.0), "title": title, "borderaxespad": 0.0}
    where.legend(*zip(*shown, strict=True), labelspacing=0.35, alignment="left", **place)


def _short(text: str) -> str:
    """Return a text in one line of few letters."""
    text = " ".join(text.split())
    return text if len(text) <= _LONGEST else text[: _LONGEST - 1] + "…"
