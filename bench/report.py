"""Tables of results, from what pytest-benchmark or `pidsampler bench` wrote.

    python bench/report.py bench.json [rows.jsonl]          a line a benchmark; appended to the second file too
    python bench/report.py rows.csv [SIDE [X/M]]            a table of steps, of each device's last run

A benchmark stands with the share that it has of the whole, of a plain copy's speed, or that it measured itself. The
table of steps is of one size and pair of types, by default the largest and float32.
"""

import csv
import json
import platform
import sys
from pathlib import Path

import numpy as np

SILENT = " without noise"
LIBRARIES = ("cupy", "torch", "diffusers")  # among the peers, whose version is said


def rows(data):
    """Yield one row a benchmark of pytest-benchmark's JSON, keyed by machine, versions and commit."""
    for bench in data["benchmarks"]:
        yield {
            "name": bench["name"].removeprefix("test_"),
            "median_s": bench["stats"]["median"],
            "iqr_s": bench["stats"]["iqr"],
            "rounds": bench["stats"]["rounds"],
            **bench["extra_info"],
            "cpu": data["machine_info"]["cpu"].get("brand_raw", platform.machine()),
            "python": data["machine_info"]["python_version"],
            "numpy": np.__version__,
            "commit": data["commit_info"]["id"],
            "date": data["datetime"][:10],
        }


def print_benchmarks(table):
    """Print a line a benchmark."""
    by_name = {row["name"]: row for row in table}
    print(f"{table[0]['cpu']}, Python {table[0]['python']}, numpy {table[0]['numpy']}")
    print("| part | ms | share |\n|---|---|---|")
    for row in table:
        share = ""
        if row["name"] in ("whole", "noise", "arithmetic", "conversion") and "whole" in by_name:
            share = f"{row['median_s'] / by_name['whole']['median_s']:.0%} of the whole"
        elif "bytes" in row and "copy" in by_name:
            copy = by_name["copy"]
            share = f"{row['bytes'] / row['median_s'] * copy['median_s'] / copy['bytes']:.0%} of a copy's speed"
        elif "outside_network" in row:
            share = f"{row['outside_network']:.0%} outside the network"
        elif "peak_bytes" in row:
            share = f"{row['peak_bytes'] / 1e9:.2f} GB at most"
        print(f"| {row['name']} | {1000 * row['median_s']:.1f} | {share} |")


def print_steps(table, side=None, types="float32"):
    """Print a table of the last run of each device: time, share of a copy, and how many times as long peers take.

    A row with noise is told in two: its arithmetic alone, and the whole.
    """
    for device in dict.fromkeys((row["device"], row["cores"]) for row in table):
        of_device = [row for row in table if (row["device"], row["cores"]) == device and row["share"]]
        of_device = [row for row in of_device if "/".join(dict.fromkeys((row["x"], row["m"]))) == types]
        at = side or max((row["side"] for row in of_device), key=int, default=None)
        of_device = [row for row in of_device if row["side"] == at]
        if not of_device:
            continue
        last = max(row["date"] for row in of_device)
        found = {(row["variant"], row["by"]): row for row in of_device if row["date"] == last}
        one, peers = next(iter(found.values())), list(dict.fromkeys(by for _, by in found if by != "pidsampler"))
        copied = np.median([float(row["copy_gb_s"]) for row in found.values()])
        where = f"cores: {one['cores']}"
        if one["cuda"]:
            where = f"CUDA {int(one['cuda']) // 1000}.{int(one['cuda']) % 1000 // 10}, driver {one['driver']}"
        used = {f"{row['by']} {row['version']}": None for row in found.values() if row["by"] in LIBRARIES}
        versions = [f"Python {one['python']}", f"numpy {one['numpy']}", *used]
        print(f"{one['device']}, {where}; 3x{at}x{at}, {types}; a copy has {copied:.3g} GB/s; {', '.join(versions)};")
        print(f"pidsampler {one['pidsampler']}, {one['commit']}\n")
        header = ["row", "saved in, out", "bytes", "arithmetic", "of a copy", "with noise", "of a copy", *peers]
        print(f"| {' | '.join(header)} |\n|{'---|' * len(header)}")
        for variant in dict.fromkeys(variant for variant, _ in found if not variant.endswith(SILENT)):
            parts = [found.get((variant + end, "pidsampler")) for end in (SILENT, "")]
            if parts[1]["draws"] == "0":
                parts.reverse()
            known = next(part for part in parts if part)
            size = round(int(known["bytes"]) / (3 * int(at) ** 2))
            cells = [f"`{variant}`", f"{known['reads']}, {known['writes']}", str(size)]
            for part in parts:
                cells += [f"{float(part['ms']):.3g} ms", percent(float(part["share"]))] if part else ["", ""]
            for peer in peers:
                pairs = [(part, part and found.get((part["variant"], peer))) for part in parts]
                cells.append(", ".join(f"{float(b['ms']) / float(a['ms']):.1f}x" for a, b in pairs if b))
            print(f"| {' | '.join(cells)} |")
        print()


def percent(share):
    """Return a share as text, two digits of it."""
    return f"{share:.0%}" if share >= 0.1 else f"{share:.1%}"


def main(source, *more):
    """Print the table of a file, by its suffix."""
    if Path(source).suffix == ".csv":
        with Path(source).open(newline="") as file:
            print_steps(list(csv.DictReader(file)), *more)
        return
    table = list(rows(json.loads(Path(source).read_text())))
    print_benchmarks(table)
    for target in more:
        with Path(target).open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in table)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3, 4):
        raise SystemExit(__doc__)
    main(*sys.argv[1:])
