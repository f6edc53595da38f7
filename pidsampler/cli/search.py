"""`pidsampler search`: find a good list of timesteps for a model, a scheduler and a number of calls."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import FileError
from ..io.times import write_list
from .common import GOES_ON, check_output_file, duration, named_table, resuming
from .output import say, tell
from .progress import event, progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `run` to a command's parser."""
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="pictures or latents; half is held out")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="for --timesteps @FILE")
    parser.add_argument("--model", default="tiny", help="bundled name or model folder (default: %(default)s)")
    parser.add_argument(
        "--scheduler", default="dpmpp-2m", metavar="SPEC", help="without a list, or FILE.py:NAME (default: %(default)s)"
    )
    parser.add_argument("--calls", type=int, default=4, metavar="N", help="most model calls (default: %(default)s)")
    parser.add_argument(
        "--measure",
        default="ode-distance",
        metavar="NAME",
        help="what is to be best; one that compares with a reference takes the images for it, and reduces them for the "
        "model (default: %(default)s)",
    )
    parser.add_argument("--seeds", type=int, default=4, metavar="N", help="for each image (default: %(default)s)")
    parser.add_argument(
        "--evaluations", type=int, default=60, metavar="N", help="most lists to try (default: %(default)s)"
    )
    parser.add_argument(
        "--free-start", action="store_true", help="let the first time move too, at which the noise is then too strong"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run and how long it takes, only")
    parser.add_argument("--json", action="store_true", help="print lines of JSON: progress, and the result")
    parser.add_argument("--quiet", action="store_true", help="print errors only")


def run(arguments: argparse.Namespace) -> int:
    """Search as a command: print the list and its gains, and write the file.

    Raises:
        PidSamplerError: An argument is not as it should be, or the search failed.
    """
    from ..search import Search
    from ..search.journal import Journal
    from ..search.problem import Problem

    output = arguments.output
    search = Search(
        named_table(arguments.scheduler, arguments.model),
        arguments.calls,
        measure=arguments.measure,
        seeds=arguments.seeds,
        evaluations=arguments.evaluations,
        free_start=arguments.free_start,
    )
    check_output_file(arguments)
    reduce = "reference" in search.measure.needs
    problem = Problem.of_model(arguments.model, arguments.images, device=arguments.device, reduce=reduce)
    if arguments.dry_run:
        say(
            f"{search.most_calls(problem)} model calls at most, {duration(search.seconds(problem))} on "
            f"{problem.backend.device}"
        )
        return 0
    journal = Journal(arguments.output.with_name(f"{arguments.output.name}.journal"))
    with resuming(GOES_ON), progress_bar(arguments.quiet, as_json=arguments.json) as advance:
        what = "searching"

        def on_best(value: float) -> None:
            nonlocal what
            what = f"searching: {search.measure.name} {value:.4g}"

        found = search.run(problem, lambda most: advance(what, total=most), on_best=on_best, journal=journal)
    if journal.replaced:
        tell(f"pidsampler: {journal.path} was of another command, so this one began anew")
    result = [*found.table, "", ",".join(map(repr, found.times.tolist()))]
    if not (arguments.quiet or arguments.json):
        say(*result, flush=True)
    try:
        write_list(output, found.times, comments=[*found.made, *found.table], overwrite=arguments.overwrite)
    except FileError:
        if arguments.quiet or arguments.json:  # then it would be lost
            say(*result)
        raise
    journal.remove()
    if arguments.json:
        event("made", output=str(output), timesteps=found.times.tolist())
    elif not arguments.quiet:
        say(f"written to {output}")
    return 0
