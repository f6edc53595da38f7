"""`pidsampler study`: the command line of a study."""

from __future__ import annotations

import argparse

from ..jobs.base import MOST_WORKERS
from ..threads import count_cores
from ..values import whole
from .common import GOES_ON, OK, duration, fail, resuming
from .output import say
from .progress import event, progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("study", metavar="STUDY.toml", help="preset, axes and measures; see examples/studies")
    parser.add_argument(
        "-o", "--output", required=True, metavar="DIR", help="folder of the results; goes on where it was"
    )
    parser.add_argument("--dry-run", action="store_true", help="say how many model calls, and about how long")
    parser.add_argument(
        "--processes", type=int, metavar="N", help="how many work at once (default: one a core, one on a GPU)"
    )
    parser.add_argument("--engine", default="local", help="local, or ray for a cluster (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--json", action="store_true", help="print lines of JSON: progress, and the result")
    parser.add_argument("--quiet", action="store_true", help="print errors only")


def run(arguments: argparse.Namespace) -> int:
    """Carry a study out, or say what it would take; 0, or 1 where a run failed.

    Raises:
        PidSamplerError: The study cannot begin.
    """
    from ..onnx.device import resolve_device
    from ..study.file import read_study
    from ..study.run import Progress, estimate, run_study

    study = read_study(arguments.study)
    count = arguments.processes
    if count is None and arguments.engine == "local":
        count = count_cores() if resolve_device(arguments.device).device == "cpu" else 1
    if count is not None:
        whole("processes", count, low=1, high=MOST_WORKERS)
    if arguments.dry_run:
        found = estimate(study, arguments.output, device=arguments.device, processes=count or 1)
        saved = f", {found.calls_alone} if nothing were shared" if found.calls < found.calls_alone else ""
        say(f"{found.cells} cells, {found.runs} runs to do, {found.calls} model calls{saved}")
        say(f"about {duration(found.seconds)} with {count or 1} at once on {arguments.device}")
        for label, error in found.errors.items():
            say(f"will fail: {label}: {error}")
        return 0
    with resuming(GOES_ON), progress_bar(arguments.quiet, as_json=arguments.json) as advance:

        def on_progress(progress: Progress) -> None:
            _, image, seed = progress.outcome.run
            advance(f"{image}, seed {seed}", by=progress.outcome.calls, total=progress.calls)

        finished = run_study(
            study,
            arguments.output,
            device=arguments.device,
            processes=count,
            on_progress=on_progress,
            engine=arguments.engine,
        )
    if arguments.json:
        event("made", output=str(finished.report), runs=finished.runs, failed=finished.failed)
    elif not arguments.quiet:
        say(f"{finished.report}: {finished.runs} runs of {len(study.all_cells)} cells")
    if finished.failed:
        return fail(f"{finished.failed} runs failed; the first: {finished.error}", arguments=arguments)
    return OK
