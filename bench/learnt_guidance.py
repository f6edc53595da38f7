"""Samplers learnt at one guidance scale, tried at others: python bench/learnt_guidance.py

Prints the table of docs/learn.md: a mixture of three modes guided to two of them, by scales 1, 3 and 5. Each sampler is
fitted at one scale, and tried at all on other seeds, beside the best known sampler over its best known list there.
"""

import argparse

import numpy as np

from pidsampler.denoiser import GaussianMixture, Guided
from pidsampler.learn import fit, matrix
from pidsampler.search.problem import Problem, Subject
from pidsampler.study.measures import Sample

SCALES = (1.0, 3.0, 5.0)
ALL = GaussianMixture([-0.7, 0.1, 0.8], [0.1, 0.25, 0.15], [1, 2, 1.5])
SOME = GaussianMixture([-0.7, 0.1], [0.1, 0.25], [1, 2])
SEEDS = 4


def problem(scale, side):
    """Return the problem of sampling by guidance of a scale."""
    network, shape = Guided(SOME, ALL, scale), (1, 3, side, side)
    subject = Subject(name="seeds", denoiser=network, shape=shape, seen=Sample(np.empty(0)))
    return Problem(name=f"guidance {scale:g}", subjects=[subject], first=0.999, dtype=np.float64)


def main():
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--calls", type=int, nargs="+", default=[4, 6, 8])
    parser.add_argument("--side", type=int, default=16, help="pixels a side of an image")
    parser.add_argument("--ridge", type=float, default=0.01)
    arguments = parser.parse_args()
    print("| calls | fitted at |", " | ".join(f"tried at {scale:g}" for scale in SCALES), "|")
    print("|---|---|" + "---|" * len(SCALES))
    shape = (3, arguments.side, arguments.side)
    for calls in arguments.calls:
        tables = {
            f"{scale:g}": fit(
                Guided(SOME, ALL, scale), calls=calls, shape=shape, seeds=SEEDS, ridge=arguments.ridge, joint=8
            ).table
            for scale in SCALES
        }
        problems = {f"{scale:g}": problem(scale, arguments.side) for scale in SCALES}
        found = {(row.table, row.on): row for row in matrix(tables, problems, seeds=SEEDS)}
        for at in tables:
            cells = []
            for on in problems:
                row = found[at, on]
                cells.append(f"{row.distance:.4f}, {row.share:.2f}" + " (not shown better)" * (row.high > 0))
            print(f"| {calls} | {at} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
