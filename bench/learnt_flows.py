"""How near samplers learnt on mixture flows end to the exact solution: python bench/learnt_flows.py [FLOW ...]

With --random 8 it takes that many mixtures at random in place of its own: two to six modes of width 0.03 to 0.3.

Prints a line of docs/learn.md for each flow and number of calls, as `pidsampler.learn.fit` has them by default: on
seeds that nothing was fitted to, beside the best known sampler over its best known list. Seconds are of the clock.
"""

import argparse
import time

import numpy as np

from pidsampler.denoiser import GaussianMixture
from pidsampler.learn import fit

FLOWS = {
    "three": GaussianMixture([-0.7, 0.1, 0.8], [0.1, 0.25, 0.15], [1, 2, 1.5]),
    "two": GaussianMixture([-0.5, 0.5], [0.1, 0.1], [1, 1]),
    "skew": GaussianMixture([-0.8, 0.9], [0.05, 0.3], [9, 1]),
    "five": GaussianMixture([-0.9, -0.4, 0, 0.3, 0.8], [0.05, 0.1, 0.2, 0.02, 0.15], [1, 3, 0.5, 2, 1]),
    "wide": GaussianMixture([-0.3, 0.4], [0.5, 0.35], [1, 2]),
    "far": GaussianMixture([-2, 0.5, 3], [0.4, 0.1, 0.6], [1, 4, 2]),
}


def random_flows(count, seed):
    """Return so many mixtures at random, by number."""
    rng = np.random.default_rng(seed)
    found = {}
    for k in range(count):
        n = int(rng.integers(2, 7))
        means, widths, weights = np.sort(rng.uniform(-1.5, 1.5, n)), rng.uniform(0.03, 0.3, n), rng.uniform(0.3, 3, n)
        found[f"{seed}-{k}, {n} modes"] = GaussianMixture(means.tolist(), widths.tolist(), weights.tolist())
    return found


def main():
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("flows", nargs="*", metavar="FLOW", help=f"of {', '.join(FLOWS)} (default: all)")
    parser.add_argument("--calls", type=int, nargs="+", default=[4, 6, 8])
    parser.add_argument("--side", type=int, default=16, help="pixels a side of an image")
    parser.add_argument("--random", type=int, metavar="N", help="mixtures at random in place of those")
    parser.add_argument("--seed", type=int, default=77, help="seed of --random (default: 77)")
    arguments = parser.parse_args()
    flows = FLOWS if arguments.random is None else random_flows(arguments.random, arguments.seed)
    if unknown := [name for name in arguments.flows if name not in flows]:
        parser.error(f"unknown flow {unknown[0]!r}: expected {', '.join(flows)}")
    print("| flow | calls | best named | distance | learnt | share | amplification | bfloat16 | seconds |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in arguments.flows or flows:
        for calls in arguments.calls:
            began = time.perf_counter()
            found = fit(flows[name], calls=calls, shape=(3, arguments.side, arguments.side))
            best, seconds = found.baselines[0], time.perf_counter() - began
            print(
                f"| {name} | {calls} | `{best.name}` | {best.mean:.4f} | {found.error:.5f} | "
                f"{found.error / best.mean:.3f} | {found.amplification:.1f} | {found.bfloat16:.5f} | {seconds:.0f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
