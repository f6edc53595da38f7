"""Draw a table: where it evaluates the network, and what each row keeps, adds and draws anew."""

from __future__ import annotations

import io
from pathlib import Path

from .. import moved
from ..errors import FileError, missing_extra
from ..io.atomic import place
from ..table import StepTable
from .exact import log_snr


@moved.keywords()
def plot_table(table: StepTable, path: Path, *, title: str = "", overwrite: bool = False) -> None:
    """Write a picture of a table: t and half log-SNR of its evaluations, and its coefficients.

    Args:
        table: Any table.
        path: Where; the extension chooses the format, such as .png, .svg or .pdf.
        title: Above the picture.
        overwrite: Replace an existing file.

    Raises:
        PidSamplerError: matplotlib is not installed, or the file exists or cannot be written.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise missing_extra("matplotlib", "plot") from error
    figure = Figure(figsize=(8, 8), layout="constrained")
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
    figure.suptitle(title)
    picture = io.BytesIO()
    try:
        figure.savefig(picture, format=path.suffix[1:])
    except ValueError as error:
        raise FileError(f"cannot write {path}: {error}") from error
    place(path, lambda file: file.write(picture.getbuffer()), overwrite=overwrite)
