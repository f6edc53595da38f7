"""`pidsampler learn`: fit a sampler to a model, as near to its ODE's solution as so many calls can be."""

from __future__ import annotations

import argparse
from pathlib import Path

from ..errors import FileError
from ..io.tables import write_table
from .common import check_output_file, checking, duration, resuming
from .output import say
from .progress import progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `run` to a command's parser."""
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="pictures or latents; half is held out")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="for --scheduler @FILE.json")
    parser.add_argument("--model", default="tiny-teacher", help="bundled name or model folder (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=6, metavar="N", help="model calls (default: %(default)s)")
    parser.add_argument(
        "--history",
        choices=("1", "2", "3", "all"),
        default="3",
        help="how many predictions before its own a row weighs (default: %(default)s)",
    )
    parser.add_argument(
        "--ridge",
        type=float,
        default=1e-2,
        metavar="R",
        help="how much large weights count against the fit (default: %(default)s)",
    )
    parser.add_argument(
        "--timesteps",
        metavar="T,T,...",
        help="keep these times, and learn the weights only: as in upscale, with as many steps as calls",
    )
    parser.add_argument("--free-start", action="store_true", help="let the first time move too")
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="for each image (default: %(default)s)")
    parser.add_argument(
        "--evaluations", type=int, default=60, metavar="N", help="most lists to try (default: %(default)s)"
    )
    parser.add_argument(
        "--no-joint",
        dest="joint",
        action="store_false",
        help="leave out the last part, where times and weights are refined together",
    )
    parser.add_argument(
        "--most-amplified",
        type=float,
        default=10.0,
        metavar="X",
        help="refuse a sampler that makes errors of the network more times larger (default: %(default)s)",
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace an existing FILE")
    parser.add_argument("--dry-run", action="store_true", help="say what would be run and how long it takes, only")
    parser.add_argument("--quiet", action="store_true", help="print errors only")


def run(arguments: argparse.Namespace) -> int:
    """Learn as a command: print how good the table is, and write the file.

    Raises:
        PidSamplerError: An argument is not as it should be, or the fit failed or was refused.
    """
    from ..learn import Learning
    from ..search.problem import Problem

    with checking():
        calls = arguments.calls
        learning = Learning(
            calls=calls,
            timesteps=arguments.timesteps,
            history=min(calls, 64) if arguments.history == "all" else int(arguments.history),
            ridge=arguments.ridge,
            seeds=arguments.seeds,
            evaluations=arguments.evaluations,
            free_start=arguments.free_start,
            joint=arguments.joint,
            most_amplified=arguments.most_amplified,
        )
    check_output_file(arguments)
    problem = Problem.of_model(arguments.model, arguments.images, device=arguments.device)
    if arguments.dry_run:
        extent = learning.extent(problem)
        say(f"{extent.fitted} runs to fit to, {extent.held_out} held out, {extent.known} known samplers")
        say(f"about {extent.calls} model calls, {duration(learning.seconds(problem))} on {problem.backend.device}")
        return 0
    with resuming("nothing is written, and the same command begins anew"), progress_bar(arguments.quiet) as advance:
        found = learning.run(problem, lambda what, about: advance(what, total=about))
    if not arguments.quiet:
        say(*found.report, flush=True)
    try:
        write_table(arguments.output, found.table, overwrite=arguments.overwrite)
    except FileError:
        if arguments.quiet:  # then it would be lost
            say(*found.report)
        say(found.table.to_json())
        raise
    if not arguments.quiet:
        say(f"written to {arguments.output}")
    return 0
