"""`pidsampler study`: the command line of a study."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from importlib import resources

from ..jobs.base import MOST_WORKERS
from ..threads import count_cores
from ..values import whole
from .common import GOES_ON, OK, UsageError, duration, fail, resuming
from .output import say
from .progress import event, progress_bar


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("study", nargs="?", metavar="STUDY.toml", help="preset, axes and measures; see docs/studies.md")
    parser.add_argument("-o", "--output", metavar="DIR", help="folder of the results; goes on where it was")
    parser.add_argument("--init", action="store_true", help="print a study with comments, to begin from")
    parser.add_argument(
        "--dry-run", action="store_true", help="say how many model calls, about how long, and fail for what would fail"
    )
    parser.add_argument("--log", action="store_true", help="log each result to trackio (extra 'log')")
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
    if arguments.init:
        if arguments.study is not None or arguments.output is not None:
            raise UsageError("--init prints a study and takes no other: pidsampler study --init > my.toml")
        say(*resources.files("pidsampler.study").joinpath("init.toml").read_text(encoding="utf-8").splitlines())
        return OK
    if arguments.study is None or arguments.output is None:
        raise UsageError("expected STUDY.toml and -o DIR; pass --init for a study to begin from")
    from ..onnx.device import resolve_device
    from ..study.file import read_study
    from ..study.run import Progress

    study = read_study(arguments.study)
    count = arguments.processes
    if count is None and arguments.engine == "local":
        count = count_cores() if resolve_device(arguments.device).device == "cpu" else 1
    if count is not None:
        whole("processes", count, low=1, high=MOST_WORKERS)
    if arguments.dry_run:
        found = study.estimate(arguments.output, device=arguments.device, processes=count or 1)
        saved = f", {found.calls_alone} if nothing were shared" if found.calls < found.calls_alone else ""
        say(f"{found.cells} cells, {found.runs} runs to do, {found.calls} model calls{saved}")
        say(f"about {duration(found.seconds)} with {count or 1} at once on {arguments.device}")
        for problem in found.problems:
            say(f"will fail: {problem}")
        if found.problems:
            return fail(f"known to fail: {len(found.problems)}; the first: {found.problems[0]}", arguments=arguments)
        return OK
    with ExitStack() as stack:
        log = None
        if arguments.log:
            from ..study.log import trackio_log

            log = stack.enter_context(trackio_log(study))
        stack.enter_context(resuming(GOES_ON))
        advance = stack.enter_context(progress_bar(arguments.quiet, as_json=arguments.json))

        def on_progress(progress: Progress) -> None:
            _, image, seed = progress.outcome.run
            advance(f"{image}, seed {seed}", by=progress.outcome.calls, total=progress.calls)
            if log is not None:
                log(progress)

        results = study.run(
            arguments.output,
            device=arguments.device,
            processes=count,
            on_progress=on_progress,
            engine=arguments.engine,
        )
    if arguments.json:
        event("made", output=str(results.report), runs=results.runs, failed=results.failed)
    elif not arguments.quiet:
        say(f"{results.report}: {results.runs} runs of {len(study.all_cells)} cells")
    if results.failed:
        return fail(f"{results.failed} runs failed; the first: {results.error}", arguments=arguments)
    if results.error is not None:
        return fail(f"a measure failed; the first: {results.error}", arguments=arguments)
    return OK
