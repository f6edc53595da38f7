"""How near a model's own tables end to its ODE's solution: python bench/learnt.py PHOTOS [--model tiny-teacher]

Of each photograph the square with the most detail is cut out and reduced 4x to the input, so that it is 64x64 or
128x128. One seed each. The best named samplers are looked for as `pidsampler learn` does: all of them over all known
lists with at most as many calls on the first photograph, the best twelve on all. At later sizes those twelve are run.
Differences are paired, with 95 % intervals. Distances are RMS to 64 steps or more of DPM-Solver++ 3M.
"""

import argparse
from pathlib import Path

from pidsampler.errors import PidSamplerError
from pidsampler.io.tables import read_table
from pidsampler.learn.flights import Flight
from pidsampler.learn.known import best_known, known_samplers
from pidsampler.learn.solved import Reference, judged
from pidsampler.onnx import model_tables
from pidsampler.search.problem import Problem
from pidsampler.study.statistics import interval


def main():
    """Print a line of a table for each size and each of the model's tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("photos", type=Path, help="folder of photographs that nothing was fitted to")
    parser.add_argument("--model", default="tiny-teacher")
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 128], help="of inputs, in pixels")
    parser.add_argument("--most", type=int, default=100, help="photographs of all but the first size")
    arguments = parser.parse_args()
    tables = {name: read_table(path) for name, path in model_tables(arguments.model).items()}
    names = {}
    print("| input | images | table | calls | RMS | best named | RMS | share | less it, 95 % | solution's error |")
    print("|---|---|---|---|---|---|---|---|---|---|")
    for size in arguments.sizes:
        photos = sorted(path for path in arguments.photos.iterdir() if path.suffix in (".png", ".jpg"))
        photos = photos if size == arguments.sizes[0] else photos[: arguments.most]
        problem = Problem.of_model(arguments.model, photos, device="cpu", reduce=True, crop=size)
        with problem.backend.active():
            references = [Reference(Flight(problem, subject, seeds=[0])) for subject in problem.subjects]
            for name, table in tables.items():
                known = known_samplers(problem, len(table))
                known = {spec: known[spec] for spec in names.get(len(table), known)}
                errors = judged(references, [one.flight.by(table) for one in references])
                rivals = best_known(errors, references, known=known)
                if not rivals:
                    raise PidSamplerError(f"no named sampler takes {len(table)} calls at most")
                names[len(table)] = [rival.name for rival in rivals]
                best, mean = rivals[0], interval(errors).mean
                error = max(one.error for one in references)
                print(
                    f"| {size}x{size} | {len(photos)} | `@{name}` | {len(table)} | {mean:.5f} | `{best.name}` | "
                    f"{best.mean:.5f} | {mean / best.mean:.2f} | {best.difference.low:+.4f} .. "
                    f"{best.difference.high:+.4f} | {error:.1g} |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
