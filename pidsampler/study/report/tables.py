"""The report's table as Markdown and as LaTeX (booktabs), for a README or a paper."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import IO, Any

from ...errors import printable, unknown_name
from ...io.atomic import place
from ..work import BASELINE
from .plots import COSTS, has, loss, number, title_of

_SHOWN_COSTS = ("calls", "seconds")
_ARROWS = {"higher": "↑", "lower": "↓", "zero": "→ 0", "": ""}


def write(data: Mapping[str, Any], folder: Path) -> list[Path]:
    """Write table.md and table.tex into an existing folder, over any that are there, and return their paths.

    Raises:
        PidSamplerError: A file cannot be written.
    """
    texts = {folder / "table.md": markdown(data), folder / "table.tex": latex(data)}
    for path, text in texts.items():
        lines = "\n".join(map(printable, text.split("\n")))
        place(path, partial(_put, lines.encode()), overwrite=True)
    return list(texts)


def markdown(data: Mapping[str, Any], measures: Sequence[str] | None = None) -> str:
    """Return the results as a Markdown table with a line below that says what its marks mean.

    Args:
        data: The report's data.
        measures: The columns; by default every measure of the study, and of the costs model calls and seconds.

    Raises:
        PidSamplerError: A measure is unknown.
    """
    shown = _shown(data, measures)
    axes = [axis["name"] for axis in data["axes"]] or ["cell"]
    heads = [*map(_md, axes), *(f"{_md(title_of(m))} {_ARROWS[m['better']]}".strip() for m in shown)]
    lines = [_row(heads), _row([*("---" for _ in axes), *("---:" for _ in shown)])]
    for cell, names, values in _body(data, shown):
        first, *rest = map(_md, names)
        texts = [_md_value(value) if value else "—" for value in values]
        lines.append(_row([first + _marks(cell), *rest, *texts]))
    note = _note(data, shown, "—", "ns", _md)
    said = "\n\n".join(_md(text) for text in (data["question"], data.get("finding", "")) if text)
    return f"{said}\n\n" + "\n".join(lines) + f"\n\n{note}\n"


def latex(data: Mapping[str, Any], measures: Sequence[str] | None = None) -> str:
    r"""Return the results as a LaTeX table: \usepackage{booktabs} is all it asks for.

    Letters beyond Latin and Greek stay as they are: they need XeLaTeX or LuaLaTeX.

    Args:
        data: The report's data.
        measures: The columns; see `markdown`.

    Raises:
        PidSamplerError: A measure is unknown.
    """
    shown = _shown(data, measures)
    axes = [axis["name"] for axis in data["axes"]] or ["cell"]
    arrows = {"higher": r" $\uparrow$", "lower": r" $\downarrow$", "zero": r" $\to 0$", "": ""}
    heads = [*map(_tex, axes), *(_tex(title_of(m)) + arrows[m["better"]] for m in shown)]
    lines = []
    for cell, names, values in _body(data, shown):
        first, *rest = map(_tex, names)
        texts = [_tex_value(value) if value else "--" for value in values]
        lines.append(" & ".join([first + _marks(cell), *rest, *texts]) + r" \\")
    note = _note(data, shown, "--", r"\textsuperscript{ns}", _tex).replace("±", r"$\pm$")
    return "\n".join(
        [
            r"% \usepackage{booktabs}",
            r"\begin{table}",
            r"  \centering",
            rf"  \caption{{{_tex(data['question'])} {note}}}",
            rf"  \begin{{tabular}}{{{'l' * len(axes)}{'r' * len(shown)}}}",
            r"    \toprule",
            f"    {' & '.join(heads)} \\\\",
            r"    \midrule",
            *(f"    {line}" for line in lines),
            r"    \bottomrule",
            r"  \end{tabular}",
            r"\end{table}",
            "",
        ]
    )


def _marks(cell: Mapping[str, Any]) -> str:
    marks = {"preset": cell["preset"], "biased": cell["bias"], "of another model": cell["elsewhere"]}
    marks["no sampler"] = cell["id"] == BASELINE
    return "".join(f" ({mark})" for mark, applies in marks.items() if applies)


_Value = tuple[str, str, bool, bool]  # mean, half the interval's width or "", best, within noise of the preset


def _shown(data: Mapping[str, Any], names: Sequence[str] | None) -> list[Mapping[str, Any]]:
    known = {measure["name"]: measure for measure in data["measures"]}
    if names is None:
        return [known[name] for name in known if name not in COSTS or name in _SHOWN_COSTS]
    for name in names:
        if name not in known:
            raise unknown_name("measure", name, known=known)
    return [known[name] for name in names]


def _body(data: Mapping[str, Any], shown: Sequence[Mapping[str, Any]]) -> list[tuple[Any, list[str], list[Any]]]:
    """Return the rows: a cell, its settings, and a `_Value` or None for each measure."""
    columns = [_column(data, measure) for measure in shown]
    axes = [axis["name"] for axis in data["axes"]]
    rows = []
    for cell, *values in zip(_rows(data), *columns, strict=True):
        names = [cell["settings"].get(name, "") for name in axes] or [cell["label"]]
        rows.append((cell, names if any(names) else [cell["label"], *names[1:]], values))
    return rows


def _rows(data: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    return [*data["cells"], *([] if data["baseline"] is None else [data["baseline"]])]


def _column(data: Mapping[str, Any], measure: Mapping[str, Any]) -> list[_Value | None]:
    name, digits = measure["name"], measure["digits"]
    better = measure["better"]
    known = [cell["results"][name] for cell in data["cells"] if has(cell, name)]
    least = min((loss(better, result["mean"]) for result in known), default=0.0)
    best = {number(r["mean"], digits) for r in known if loss(better, r["mean"]) == least} if better else set()
    values: list[_Value | None] = []
    for cell in _rows(data):
        result = cell["results"][name] if has(cell, name) else None
        if result is None:
            values.append(None)
            continue
        half = None if result["low"] is None else (result["high"] - result["low"]) / 2
        mean, noise = number(result["mean"], digits), bool(result["difference"] and result["difference"]["noise"])
        values.append(
            (mean, number(half, digits, scientific=0) if half else "", mean in best and cell["id"] != BASELINE, noise)
        )
    return values


def _note(
    data: Mapping[str, Any],
    shown: Sequence[Mapping[str, Any]],
    nothing: str,
    noise: str,
    escape: Callable[[str], str],
) -> str:
    """The sentences that say what the intervals and marks mean, of those that are in the table."""
    values = [value for measure in shown for value in _column(data, measure)]
    runs = sorted({cell["runs"] for cell in data["cells"]})
    count = f"{runs[0]} to {runs[-1]}" if len(runs) > 1 else f"{runs[0]}" if runs else "no"
    parts = [f"Means over {count} {'run' if count == '1' else 'runs'}"]
    if any(value and value[1] for value in values):
        parts[0] += ", ± half the width of the interval"
    parts[0] += "."
    parts.append(escape(data["sampling"]))
    if any(value and value[2] for value in values):
        parts.append("Bold: best.")
    if any(value and value[3] for value in values):
        parts.append(f"{noise}: within noise of the preset (paired test, corrected for the number of comparisons).")
    if any(value is None for value in values):
        parts.append(f"{nothing}: no result.")
    if failed := [cell for cell in data["cells"] if cell["error"] is not None]:
        first = escape(f"{failed[0]['label']}: {failed[0]['error']}")
        parts.append(f"Runs failed in {len(failed)} of {len(data['cells'])} cells, the first: {first}.")
    parts += [f"{escape(line[:1].upper() + line[1:])}." for line in data["problems"] if line.startswith("measure ")]
    if any(cell["bias"] for cell in data["cells"]):
        parts.append("Biased: the sampler misses its noise level on purpose.")
    if any(cell["elsewhere"] for cell in data["cells"]):
        parts.append("Of another model: the sampler was learnt for another model than this one.")
    if data["baseline"] is not None:
        parts.append("No sampler: the input enlarged by bicubic, the same for every seed.")
    if data["preset"]:
        settings = ", ".join(f"{name} {value}" for name, value in data["preset"].items())
        parts.append(f"Preset: {escape(settings)}.")
    return " ".join(parts)


def _row(texts: Sequence[str]) -> str:
    return f"| {' | '.join(texts)} |"


def _md(text: str) -> str:
    """Text as Markdown shows it as it is, in a table too."""
    text = " ".join(text.split()).replace("&", "&amp;").replace("<", "&lt;")
    return re.sub(r"([\\`*_{}\[\]()#+!|~>$])", r"\\\1", text)


def _md_value(value: _Value) -> str:
    mean, half, best, noise = value
    return (f"**{mean}**" if best else mean) + (f" ± {half}" if half else "") + (" ns" if noise else "")


_TEX = {
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    "→": r"\ensuremath{\to}",
} | {letter: "\\" + letter for letter in "{}#$%&_"}


def _tex(text: str) -> str:
    """Text as LaTeX shows it as it is; Greek letters as mathematics."""
    return "".join(_TEX.get(letter) or _greek(letter) for letter in " ".join(text.split()))


def _greek(letter: str) -> str:
    match = re.fullmatch(r"GREEK (SMALL|CAPITAL) LETTER (\w+)", unicodedata.name(letter, ""))
    if match is None or match[2] not in (_SMALL if match[1] == "SMALL" else _CAPITAL):
        return letter
    return rf"\ensuremath{{\{match[2].lower() if match[1] == 'SMALL' else match[2].capitalize()}}}"


# Small letters with a command; of capitals only those that do not look like Latin ones have one.
_CAPITAL = ("GAMMA", "DELTA", "THETA", "XI", "PI", "SIGMA", "PHI", "PSI", "OMEGA")
_SMALL = (*_CAPITAL, "ALPHA", "BETA", "EPSILON", "ZETA", "ETA", "IOTA", "KAPPA", "MU", "NU", "RHO", "TAU", "CHI")


def _tex_value(value: _Value) -> str:
    mean, half, best, noise = value
    mean, half = (re.sub(r"e([+-])0*(\d+)$", r"\\cdot 10^{\1\2}", text).replace("^{+", "^{") for text in (mean, half))
    text = f"\\mathbf{{{mean}}}" if best else mean
    return (f"${text} \\pm {half}$" if half else f"${text}$") + (r"\textsuperscript{ns}" if noise else "")


def _put(data: bytes, file: IO[bytes]) -> None:
    file.write(data)
