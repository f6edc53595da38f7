"""Rows on the CPU against PyTorch, against numpy's form, and against another version of this package, sample by sample.

    OMP_NUM_THREADS=1 python bench/cpu_rows.py [--other FOLDER] [--side 1024] [--rounds 15] [VARIANT ...]

Made for a machine that others use at the same time: all take turns, and each has its least time, of the clock and in
parentheses of the processor (all threads together), in ms. FOLDER is a checkout of the other version, which runs in a
process of its own.
"""

import argparse
import os
import subprocess
import sys
import time
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


def timed(step):
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
    steps += [(p.name, p.arrays, p.prepare(row)) for p in peers if p.name in ("torch", "torch-in-place")]
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


def main():
    from pidsampler.bench.steps import variants

    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("variants", nargs="*", help="rows by name (default: all)")
    parser.add_argument("--other", type=Path, help="a checkout of another version")
    parser.add_argument("--side", type=int, default=1024)
    parser.add_argument("--rounds", type=int, default=15)
    arguments = parser.parse_args()
    other = None
    if arguments.other:
        other = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", OTHER, str(arguments.side)], stdin=subprocess.PIPE, text=True,
            stdout=subprocess.PIPE, env={**os.environ, "PYTHONPATH": str(arguments.other)}, cwd=arguments.other,
        )  # fmt: skip
        other.stdout.readline()
    for variant in variants():
        if arguments.variants and variant.name not in arguments.variants:
            continue
        turns = dict(subjects(variant.row, arguments.side))
        takes = {name: [] for name in turns}
        rounds = min(arguments.rounds, 3) if len(variant.row.draws) > 3 else arguments.rounds
        for _ in range(rounds):
            for name, launch in turns.items():
                takes[name].append(timed(launch))
            if other:
                other.stdin.write(f"{variant.name}\n")
                other.stdin.flush()
                takes.setdefault("other", []).append(tuple(map(int, other.stdout.readline().split())))
        least = {name: [min(each) / 1e6 for each in zip(*taken, strict=True)] for name, taken in takes.items()}
        said = "  ".join(f"{name} {wall:.2f} ({used:.2f})" for name, (wall, used) in least.items())
        print(f"{variant.name:<32} {said}", flush=True)
    if other:
        other.stdin.close()
        other.wait()


if __name__ == "__main__":
    main()
