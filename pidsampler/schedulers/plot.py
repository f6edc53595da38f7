"""Draw tables: where they evaluate the network, and what each row keeps, adds and draws anew."""

from __future__ import annotations

import io
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import moved
from ..errors import ConfigError, FileError, missing_extra
from ..io.atomic import place
from ..table import StepTable
from ..values import instance, mapping
from .exact import log_snr

_MARKERS = "osD^vP*X"
_LONGEST = 48  # letters of a name, the last ones: where files of one folder differ


@moved.keywords()
def plot_table(table: StepTable, path: Path, *, title: str = "", overwrite: bool = False) -> None:
    """Write a picture of a table: t and half log-SNR of its evaluations, and its coefficients.

    Args:
        table: Any table.
        path: Where; the extension chooses the format, such as .png, .svg or .pdf.
        title: Title above the picture.
        overwrite: Replace an existing file.

    Raises:
        PidSamplerError: matplotlib is not installed, or the file exists or cannot be written.
    """
    figure = _figure(8.0)
    times, snr, weights = figure.subplots(3, 1, sharex=True)
    rows = range(len(table))
    times.step(range(len(table) + 1), table.times, where="post", marker="o")
    times.set(ylabel="t", ylim=(-0.05, 1.05))
    finite = [(i, log_snr(row.t)) for i, row in enumerate(table.rows) if row.t < 1.0]
    snr.plot(*zip(*finite, strict=True), marker="o") if finite else None
    snr.set(ylabel="half log-SNR, ln((1 - t)/t)")
    weights.plot(rows, [row.a for row in table.rows], marker="o", label="a: x")
    weights.plot(rows, [row.b for row in table.rows], marker="s", label="b: x0")
    for slot in range(table.slots):
        read = [(i, dict(row.h).get(slot, 0.0)) for i, row in enumerate(table.rows)]
        weights.plot(*zip(*read, strict=True), marker="^", linestyle="--", label=f"h: S{slot}")
    if any(row.noise for row in table.rows):
        noise = [sum(w * w for _, w in row.noise) ** 0.5 for row in table.rows]
        weights.plot(rows, noise, marker="x", linestyle=":", label="fresh noise")
    weights.set(ylabel="weight in the new x", xlabel="row (network evaluation)")
    weights.legend()
    for axes in (times, snr, weights):
        axes.grid(alpha=0.3)
    figure.suptitle(title, parse_math=False)
    _write(figure, path, overwrite=overwrite)


def plot_tables(tables: Mapping[str, StepTable], path: Path, *, overwrite: bool = False) -> None:
    """Write one picture of several tables: their times on one axis, weights, and x0 shares.

    The weights of a row are that of its own x0, and the sum of those of saved tensors. The x0 share is the weight of x0
    over that in Euler's row, 1 - t_next/t: above 1 a row goes on in the direction in which x0 changed. Rows that stay
    at their noise level have none.

    Args:
        tables: By name, which the picture shows.
        path: Where; the extension chooses the format, such as .png, .svg or .pdf.
        overwrite: Replace an existing file.

    Raises:
        PidSamplerError: There is no table, matplotlib is not installed, or the file exists or cannot be written.
    """
    tables = mapping("tables", tables, words="tables by name")
    if not tables:
        raise ConfigError("there is no table to draw: pass one or more")
    names = [name if len(name) <= _LONGEST else f"...{name[3 - _LONGEST :]}" for name in map(str, tables)]
    figure = _figure(7.0 + 0.3 * len(tables))
    times, weights, shares = figure.subplots(3, 1, sharex=True, height_ratios=[0.6 + 0.3 * len(tables), 3, 3])
    for k, table in enumerate(tables.values()):
        rows = instance("tables", table, kind=StepTable, words="a StepTable").rows
        look = {"color": f"C{k % 10}", "marker": _MARKERS[k % len(_MARKERS)]}
        at = [row.t for row in rows]
        times.plot(table.times, [k] * len(table.times), **look)
        weights.plot(at, [row.b for row in rows], **look)
        weights.plot(at, [sum(w for _, w in row.h) for row in rows], **look, linestyle="--", markerfacecolor="none")
        euler = [(row.t, row.b / (1.0 - row.t_next / row.t)) for row in rows if row.t_next < row.t]
        shares.plot(*zip(*euler, strict=True), **look) if euler else None
    times.set_yticks(range(len(names)), names, parse_math=False)
    times.set(xlim=(1.04, -0.04), ylim=(len(names) - 0.5, -0.5), title="times")
    weights.set(title="weights in the new x (filled: x0, hollow: saved tensors, summed)")
    shares.set(title="x0 share (1: Euler's row)", xlabel="noise level t of the row")
    for axes in (times, weights, shares):
        axes.grid(alpha=0.3)
    _write(figure, path, overwrite=overwrite)


def _figure(height: float) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "plot") from error
    return Figure(figsize=(8.0, height), layout="constrained")


def _write(figure: Any, path: Path, *, overwrite: bool) -> None:
    picture = io.BytesIO()
    try:
        figure.savefig(picture, format=path.suffix[1:])
    except ValueError as error:
        raise FileError(f"cannot write {path}: {error}") from error
    place(path, lambda file: file.write(picture.getbuffer()), overwrite=overwrite)
