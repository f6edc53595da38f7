"""Turn pytest-benchmark's JSON into result rows: python bench/report.py bench.json [rows.jsonl]

Prints a table with the share that each part has of the whole, or that a benchmark measured itself; with a second file,
appends one JSON row a benchmark to it.
"""

import json
import platform
import sys
from pathlib import Path

import numpy as np


def rows(data):
    """Yield one row a benchmark, keyed by machine, versions and commit."""
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


def main(source, target=None):
    """Print the table, and append the rows to `target`."""
    table = list(rows(json.loads(Path(source).read_text())))
    whole = next((row["median_s"] for row in table if row["name"] == "whole"), None)
    print(f"{table[0]['cpu']}, Python {table[0]['python']}, numpy {table[0]['numpy']}")
    print("| part | ms | share |\n|---|---|---|")
    for row in table:
        share = ""
        if row["name"] in ("whole", "noise", "arithmetic", "conversion"):
            share = f"{row['median_s'] / whole:.0%} of the whole"
        elif "outside_network" in row:
            share = f"{row['outside_network']:.0%} outside the network"
        print(f"| {row['name']} | {1000 * row['median_s']:.1f} | {share} |")
    if target is not None:
        with Path(target).open("a") as file:
            file.writelines(json.dumps(row) + "\n" for row in table)


if __name__ == "__main__":
    if len(sys.argv) not in (2, 3):
        raise SystemExit(__doc__.splitlines()[0])
    main(*sys.argv[1:])
