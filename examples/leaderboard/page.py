"""Make docs/leaderboard.md of the leaderboard's results: python examples/leaderboard/page.py"""

import json
from pathlib import Path

from pidsampler.study.statistics import difference

HERE = Path(__file__).parent
ENTRIES = {
    "named": "best named",
    "named, by PSNR": "best named by PSNR",
    "searched": "best searched",
    "AYS": "AYS' lists",
    "GITS": "GITS",
    "learnt": "learnt",
    "learnt, all history": "learnt, all history",
    "learnt, LPIPS": "learnt, LPIPS",
}
COLUMNS = {
    "ode-distance": ("distance to the ODE", "lower"),
    "ode-psnr": ("PSNR to it, dB", "higher"),
    "psnr": ("PSNR, dB", "higher"),
    "lpips": ("LPIPS", "lower"),
    "gradient": ("gradient energy", ""),
}


def text(results):
    """Return the page, whose tables are those of the results."""
    prose = (HERE / "page.md").read_text()
    tables = [section(results, model) for model in dict.fromkeys(row["model"] for row in results)]
    return prose.replace("<!-- tables -->", "\n".join(tables))


def section(results, model):
    """Return the table of a model."""
    rows = [row for row in results if row["model"] == model]
    columns = [name for name in COLUMNS if any(name in row["measures"] for row in rows)]
    heads = ["calls", "row", "sampler", *(COLUMNS[name][0] for name in columns), "amplification", "seconds"]
    heads += ["commit", "author"]
    lines = [f"## `{model}`", "", f"| {' | '.join(heads)} |", "|" + "---|" * len(heads)]
    order = list(ENTRIES)
    known = {row["calls"]: row for row in rows if row["entry"] == "named"}

    def place(row):
        return row["calls"], order.index(row["entry"]) if row["entry"] in order else len(order)

    for row in sorted(rows, key=place):
        cells = [cell(row, known.get(row["calls"]), name) for name in columns]
        head = [str(row["calls"]), ENTRIES.get(row["entry"], row["entry"]), f"`{row['sampler']}`"]
        tail = [
            "" if row[name] is None else form.format(row[name])
            for name, form in (("amplification", "{:.2g}"), ("seconds", "{:.0f}"))
        ]
        lines.append(f"| {' | '.join([*head, *cells, *tail, row['commit'], row['author']])} |")
    return "\n".join(lines) + "\n"


def cell(row, known, name):
    """Return a mean with its interval, bold where it is surely better than that of the best named sampler."""
    if name not in row["measures"]:
        return ""
    one, better = row["measures"][name], COLUMNS[name][1]
    shown = "{:.2f} [{:.1f}, {:.1f}]" if "psnr" in name else "{:.3g} [{:.2g}, {:.2g}]"
    said = shown.format(one["mean"], one["low"], one["high"])
    if known is None or known is row or not better or name not in known["measures"]:
        return said
    other = known["measures"][name]["values"]
    runs, base = ({(str(k), 0): value for k, value in enumerate(values)} for values in (one["values"], other))
    change = difference(runs, base)
    sure = change.high < 0 if better == "lower" else change.low > 0
    return f"**{said}**" if sure else said


def main():
    """Write the page."""
    results = json.loads((HERE / "results.json").read_text())
    (HERE.parents[1] / "docs" / "leaderboard.md").write_text(text(results))


if __name__ == "__main__":
    main()
