"""Rows on the CPU against PyTorch, diffusers, plain numpy, and another version of this package, sample by sample.

    OMP_NUM_THREADS=1 python bench/cpu_rows.py [--other FOLDER] [--rounds 15] [--by COLUMN,...] [VARIANT ...]

Prints a table of docs/benchmarks.md: all take turns, and each has its median time, of the clock and in parentheses of
the processor (all threads together), in ms. Each begins after a pause, as after a network's call: by then the threads
of another one sleep, that waited awake. "compiled" and "numpy" are this package's two forms. FOLDER is a checkout of
the other version, which runs in a process of its own.
"""

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections import deque
from functools import partial
from itertools import cycle
from pathlib import Path

import numpy as np

OTHER = """
import sys, time
import numpy as np
from pidsampler.backends import get_backend
from pidsampler.bench.steps import variants
backend, rows, side = get_backend("numpy"), {v.name: v.row for v in variants()}, int(sys.argv[1])
rng = np.random.default_rng(0)
sets = [[rng.standard_normal((1, 3, side, side), np.float32) for _ in range(6)] for _ in range(2)]
print(flush=True)
for turn, name in enumerate(map(str.strip, sys.stdin)):
    x, m, *saved = sets[turn % 2]
    x[...] = 0.5
    began, used = time.perf_counter_ns(), time.process_time_ns()
    backend.step(rows[name], x, m=m, saved=saved, seeds=[7])
    print(time.perf_counter_ns() - began, time.process_time_ns() - used, flush=True)
"""


PAUSE = 5e-3  # seconds
PEERS = {"torch-in-place": "torch-in-place", "torch": "torch", "diffusers": "diffusers", "numpy": "plain numpy"}


def timed(step):
    time.sleep(PAUSE)
    began, used = time.perf_counter_ns(), time.process_time_ns()
    step()
    return time.perf_counter_ns() - began, time.process_time_ns() - used


def subjects(row, side):
    """Each way to do a row, as a function without arguments that goes through two sets of tensors."""
    from pidsampler import native
    from pidsampler.backends import get_backend
    from pidsampler.bench.peers import find_peers, ours

    backend = get_backend("numpy")
    here = native.built

    def without(step):
        def numpys(*arrays):
            native.built = lambda: None
            try:
                step(*arrays)
            finally:
                native.built = here

        return numpys

    own = ours(backend)
    steps = [("compiled" if here() else "", own.arrays, own.prepare(row)), ("numpy", own.arrays, own.prepare(row))]
    steps = [(name, arrays, without(step) if name == "numpy" else step) for name, arrays, step in steps if name]
    peers, _ = find_peers(backend)
    by_name = {peer.name: peer for peer in peers}
    steps += [(PEERS[k], by_name[k].arrays, by_name[k].prepare(row)) for k in PEERS if k in by_name]
    host = np.random.default_rng(0)
    for name, arrays, step in steps:
        if step is None:
            continue
        sets = []
        for _ in range(2):
            values = (host.standard_normal((1, 3, side, side), np.float32) for _ in range(6))
            sets.append([arrays.upload(value, "float32") for value in values])
        yield name, partial(once, step, cycle(sets))


def once(step, sets):
    x, m, *saved = next(sets)
    step(x, m, saved)


def _cell(takes):
    return "{:.3g} ({:.3g})".format(*(statistics.median(each) / 1e6 for each in zip(*takes, strict=True)))


def print_head(columns, side):
    """Print what the table is true of, and its head."""
    from pidsampler.backends import get_backend
    from pidsampler.bench.peers import find_peers
    from pidsampler.bench.rows import machine

    backend = get_backend("numpy")
    where = machine(backend)
    versions = {peer.name: peer.version for peer in find_peers(backend)[0]}
    libraries = [f"{name} {versions[name]}" for name in ("torch", "diffusers", "numpy") if name in versions]
    print(f"{where['device']}, threads: {where['cores']}; 3x{side}x{side}, float32; Python {where['python']},")
    print(f"{', '.join(libraries)}; pidsampler {where['commit'] or where['pidsampler']}, {where['date'][:10]}\n")
    print(f"| row | {' | '.join(columns)} |\n|{'---|' * (1 + len(columns))}", flush=True)


def main():
    from pidsampler.bench.steps import variants

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("variants", nargs="*", help="rows by name (default: all)")
    parser.add_argument("--other", type=Path, help="a checkout of another version")
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--by", help="columns, such as compiled,torch-in-place (default: all)")
    arguments = parser.parse_args()
    other = None
    if arguments.other:
        other = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", OTHER, str(arguments.side)], stdin=subprocess.PIPE, text=True,
            stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(arguments.other)}, cwd=arguments.other,
        )  # fmt: skip
        other.stdout.readline()
    columns = ["compiled", "numpy", *PEERS.values(), *(["other"] if other else [])]
    if arguments.by:
        columns = [name for name in columns if name in arguments.by.split(",") or name == "other"]
    print_head(columns, arguments.side)
    for variant in variants():
        if arguments.variants and variant.name not in arguments.variants:
            continue
        turns = {name: step for name, step in subjects(variant.row, arguments.side) if name in columns}
        takes = {name: [] for name in turns}
        rounds = min(arguments.rounds, 3) if len(variant.row.draws) > 3 else arguments.rounds
        order = deque(turns)
        for _ in range(rounds):
            order.rotate(1)  # who comes after the other process, or after whom, is not always the same
            for name in order:
                takes[name].append(timed(turns[name]))
            if other:
                other.stdin.write(f"{variant.name}\n")
                other.stdin.flush()
                takes.setdefault("other", []).append(tuple(map(int, other.stdout.readline().split())))
        cells = [_cell(takes[name]) if name in takes else "" for name in columns]
        print(f"| `{variant.name}` | {' | '.join(cells)} |", flush=True)
    if other:
        other.stdin.close()
        other.wait()


if __name__ == "__main__":
    main()
