"""`pidsampler learn`: fit a sampler to a model, as near to its ODE's solution, or as good, as so many calls can be."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import attrs

from ..errors import FileError, PidSamplerError
from ..io.tables import write_table
from .common import GOES_ON, UsageError, check_output_file, checking, duration, named_table, resuming
from .output import say, tell
from .progress import progress_bar

if TYPE_CHECKING:
    from ..search.problem import Problem

_GUIDANCE = (1.0, 3.0, 5.0)  # that a table is tried at


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the arguments of `run` to a command's parser."""
    parser.add_argument("images", nargs="+", type=Path, metavar="IMAGE", help="pictures or latents; half is held out")
    parser.add_argument("-o", "--output", required=True, type=Path, metavar="FILE", help="for --scheduler @FILE.json")
    parser.add_argument("--model", default="tiny-teacher", help="bundled name or model folder (default: %(default)s)")
    parser.add_argument("--calls", type=int, default=6, metavar="N", help="model calls (default: %(default)s)")
    parser.add_argument(
        "--target",
        default="ode",
        metavar="NAME",
        help="what to come near to: ode, or a sampler without noise such as dpmpp-3m@uniform:64; or a measure that is "
        "to be best, such as psnr: one that compares with a reference takes the images for it, and reduces them for "
        "the model (default: %(default)s)",
    )
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
    parser.add_argument("--paired", action="store_true", help="take two calls a step, as methods with a predictor do")
    parser.add_argument(
        "--biased",
        action="store_true",
        help="weigh x and x0 freely, so that noise levels are missed, as the table says",
    )
    parser.add_argument(
        "--free-start",
        action=argparse.BooleanOptionalAction,
        help="let the first time move too, downwards (default: unless the target is a measure)",
    )
    parser.add_argument("--seeds", type=int, default=1, metavar="N", help="for each image (default: %(default)s)")
    parser.add_argument(
        "--evaluations",
        type=int,
        default=40,
        metavar="N",
        help="most lists to try; half as many for the best known sampler (default: %(default)s)",
    )
    parser.add_argument(
        "--joint",
        type=int,
        metavar="N",
        help="from how many of the best known lists times and weights are refined together at the end; 0 leaves that "
        "out (default: 2)",
    )
    parser.add_argument(
        "--most-amplified",
        type=float,
        default=10.0,
        metavar="X",
        help="refuse a sampler that makes errors of the network more times larger (default: %(default)s)",
    )
    parser.add_argument(
        "--crop", type=int, metavar="N", help="take of each picture the NxN pixels with the most detail (default: all)"
    )
    parser.add_argument(
        "--matrix",
        action=argparse.BooleanOptionalAction,
        help="try the table on other things too: the held-out pictures at twice the crop, with a caption guidance 1, 3 "
        "and 5, and else the other bundled models (default: if the target is ode)",
    )
    parser.add_argument(
        "--caption",
        type=Path,
        metavar="FILE",
        help=".npy of its embedding for all pictures, for a model that takes one",
    )
    parser.add_argument(
        "--guidance", type=float, metavar="S", help="on the caption, from 0; 1 is none (default: the model's own)"
    )
    parser.add_argument(
        "--negative", type=Path, metavar="FILE", help=".npy to lead away from (default: as without a caption)"
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
    from ..io import captions
    from ..learn import Learning
    from ..learn.flights import seconds_a_call
    from ..learn.matrix import matrix, matrix_calls
    from ..learn.targets import ODE
    from ..search.journal import Journal
    from ..search.problem import Problem

    with checking():
        learning = Learning(
            calls=arguments.calls,
            timesteps=arguments.timesteps,
            history=arguments.history if arguments.history == "all" else int(arguments.history),
            ridge=arguments.ridge,
            seeds=arguments.seeds,
            evaluations=arguments.evaluations,
            free_start=arguments.free_start,
            joint=arguments.joint,
            most_amplified=arguments.most_amplified,
            target=named_table(arguments.target, arguments.model),
            paired=arguments.paired,
            biased=arguments.biased,
        )
    to_ode = learning.target == ODE
    if arguments.matrix and not to_ode:
        raise UsageError(f"--matrix is of distances to the ODE's solution, but the target is {arguments.target}")
    check_output_file(arguments)
    reduce = learning.measure is not None and "reference" in learning.measure.needs
    with checking():
        given = {
            name: None if (path := getattr(arguments, name)) is None else captions.read(path)
            for name in ("caption", "negative")
        }
    problem = Problem.of_model(
        arguments.model,
        arguments.images,
        device=arguments.device,
        reduce=reduce,
        crop=arguments.crop,
        guidance=arguments.guidance,
        **given,
    )
    elsewhere = _elsewhere(arguments, problem, given) if to_ode and arguments.matrix is not False else {}
    more = matrix_calls(arguments.calls, elsewhere)
    if arguments.dry_run:
        extent = learning.extent(problem)
        say(f"{extent.fitted} runs to fit to, {extent.held_out} held out, {extent.known} known samplers")
        each = " of two runs of the network each" if problem.conditions.get("guidance", 1.0) != 1.0 else ""
        takes = f"{duration(learning.seconds(problem))} on {problem.backend.device}"
        say(f"about {extent.calls} model calls{each}, {takes}")
        if elsewhere:
            takes = duration(sum(n * seconds_a_call(elsewhere[on], seeds=arguments.seeds) for on, n in more.items()))
            say(f"and about {sum(more.values())}, {takes}, to try the table on: {', '.join(elsewhere)}")
        return 0
    journal = Journal(arguments.output.with_name(f"{arguments.output.name}.journal"))
    with resuming(GOES_ON), progress_bar(arguments.quiet) as advance:
        found = learning.run(problem, lambda what, about: advance(what, total=about), journal=journal)
    if journal.replaced:
        tell(f"pidsampler: {journal.path} was of another command, so this one began anew")
    if elsewhere:
        with resuming(GOES_ON), progress_bar(arguments.quiet) as advance:
            rows = matrix(
                {"found": found.table},
                elsewhere,
                seeds=arguments.seeds,
                on_call=lambda on: advance(f"trying the table on {on}", total=sum(more.values())),
            )
        found = attrs.evolve(found, matrix=rows)
    if not arguments.quiet:
        say(*found.report, flush=True)
    try:
        write_table(arguments.output, found.table, overwrite=arguments.overwrite)
    except FileError:
        if arguments.quiet:  # then it would be lost
            say(*found.report)
        say(found.table.to_json())
        raise
    journal.remove()
    if not arguments.quiet:
        say(f"written to {arguments.output}")
    return 0


def _elsewhere(arguments: argparse.Namespace, problem: Problem, given: Mapping[str, Any]) -> dict[str, Problem]:
    """What a table is tried on beside what was held out: the same pictures, larger, at other guidance, by other models.

    The bundled models take no caption: where there is one, they are left out.
    """
    from ..onnx import bundled_models
    from ..search.problem import Problem

    pictures = [subject.name for subject in problem.subjects[1::2] or problem.subjects]
    made = partial(Problem.of_model, pictures=pictures, device=arguments.device)
    own = partial(made, arguments.model, **given)
    crop, known = arguments.crop, problem.conditions.get("guidance", 1.0)
    ways: dict[str, Callable[[], Problem]] = {}
    if crop:
        ways[f"{2 * crop}x{2 * crop}"] = partial(own, crop=2 * crop, guidance=arguments.guidance)
    if problem.conditions:
        scales = [scale for scale in _GUIDANCE if scale != known and (scale != 1.0 or given["negative"] is None)]
        ways |= {f"guidance {scale:g}": partial(own, crop=crop, guidance=scale) for scale in scales}
    else:
        others = [name for name in bundled_models() if name != arguments.model]
        ways |= {f"model {name}": partial(made, name, crop=crop) for name in others}
    found = {}
    for on, way in ways.items():
        try:
            found[on] = way()
        except PidSamplerError as error:
            if not arguments.quiet:
                tell(f"pidsampler: the table is not tried on {on}: {error}")
    return found
