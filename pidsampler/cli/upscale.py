"""`pidsampler upscale`: enlarge pictures, or decode latents."""

from __future__ import annotations

import argparse
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from attrs import evolve

from ..image.despeckle import DESPECKLE
from ..schedulers.spec import Spec
from . import like, pipe, whole
from .common import FAILED, GOES_ON, OK, add_times, checking, chosen_scheduler, fail, other_inputs, resuming
from .output import say, tell
from .progress import event, progress_bar

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from ..onnx.manifest import Manifest
    from ..schedulers.making import SamplerLike
    from ..table import Scheduler
    from ..upscale.again import Recipe
    from ..upscale.batch import File, FileOutcome, LeftOut, Settings, UpscalerLike
    from ..upscale.finish import Finish
    from ..upscale.memory import Tiling

_ROUNDING = 1e-9  # of shares that sum to 1
_SHOWN = 10  # of what is left out, by name
_DESPECKLE = f"remove isolated pixels that stand out by that many of 255 (default: {DESPECKLE:g})"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="IN",
        help="PNG, JPEG, WebP, TIFF; .npy, .npz, .safetensors, .latent; folders of them; - is a picture by stdin",
    )
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="file; or folder, of PNGs: one that is there, a name that ends with / or has no suffix; - is stdout",
    )
    parser.add_argument(
        "--model",
        default="tiny",
        help="bundled name, model folder, hf:OWNER/NAME[@REVISION], or a .onnx that 'compile' made (default: "
        "%(default)s)",
    )
    parser.add_argument(
        "--accept-license",
        "--accept-licence",
        dest="accept_license",
        action="store_true",
        help="accept the license of an hf: model, and download it (extra 'hub')",
    )
    parser.add_argument(
        "--scheduler",
        metavar="SPEC",
        help="sampler: a name, see 'pidsampler schedulers'; FILE.py:NAME; @FILE.json, a table; or @NAME, a table of "
        "the model's own (default: the model's, or flow-sde)",
    )
    parser.add_argument(
        "--like", type=Path, metavar="PICTURE", help="make it as this one was made, by its record; of its input: again"
    )
    add_times(parser)
    parser.add_argument("--seed", type=int, default=0, help="seed of the noise, 0..2^64-1 (default: %(default)s)")
    parser.add_argument(
        "--degrade-sigma",
        type=float,
        default=0.0,
        metavar="S",
        help="noise level of the latent, 0..0.8 (default: 0)",
    )
    parser.add_argument(
        "--start",
        type=float,
        metavar="T",
        help="noise level to begin at, from the enlarged input (default: pure noise)",
    )
    parser.add_argument("--scale", metavar="S", help="result over input, at most the model's own (default)")
    parser.add_argument("--size", metavar="WxH", help="size of the result, by one reduction; one side may be left out")
    parser.add_argument("--fit", action="store_true", help="the largest inside --size that keeps the picture's shape")
    parser.add_argument(
        "--color", help="match or adain: the input's colors; off (default: match for models that drift)"
    )
    parser.add_argument(
        "--color-strength", type=float, default=1.0, metavar="S", help="share of it, 0..1 (default: %(default)s)"
    )
    parser.add_argument("--despeckle", type=float, nargs="?", const=DESPECKLE, metavar="LEVELS", help=_DESPECKLE)
    parser.add_argument(
        "--tile",
        default="auto",
        metavar="N",
        help="auto, off, or pixels a side, at least a latent pixel's (default: %(default)s)",
    )
    parser.add_argument(
        "--overlap", type=int, metavar="N", help="pixels that tiles share (default: 128, or half a tile)"
    )
    parser.add_argument(
        "--max-memory", metavar="BYTES", help="most memory for tiles, such as 4G (default: what is free)"
    )
    parser.add_argument(
        "--caption", type=Path, metavar="FILE", help=".npy of its embedding, for a model that takes one"
    )
    parser.add_argument(
        "--guidance", type=float, metavar="S", help="on the caption, from 0; 1 is none (default: the model's own)"
    )
    parser.add_argument(
        "--negative", type=Path, metavar="FILE", help=".npy to lead away from (default: as without a caption)"
    )
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument("--engine", default="local", help="local, or ray for a cluster (default: %(default)s)")
    parser.add_argument("--overwrite", action="store_true", help="replace existing outputs")
    parser.add_argument("--json", action="store_true", help="print lines of JSON: progress, and each result")
    parser.add_argument("--quiet", action="store_true", help="print errors only")


def run(arguments: argparse.Namespace) -> int:
    """Enlarge the inputs; 0, or 1 where one failed, or 2 where an option is wrong."""
    from ..io import atomic
    from ..onnx.hub import PREFIX, download_model
    from ..upscale import batch

    if arguments.accept_license and arguments.model.startswith(PREFIX):
        download_model(arguments.model)
    piped = pipe.is_piped(arguments)
    with checking():
        if piped:
            pipe.check(arguments)
        recipe = None if whole.is_whole(arguments.model) else like.read_recipe(arguments)
    asked = _asked_of_whole(arguments) if whole.is_whole(arguments.model) else _asked_of_folder(arguments, recipe)
    settings, calls = asked.settings, asked.calls
    left_out: list[LeftOut] = []
    with checking():
        files = [] if piped else _files(arguments, left_out)
    # Where a target is a link, its new content is written beside what it leads to.
    folders = {path.parent for file in files for path in (file.target, atomic.real_path(file.target))}
    for folder in folders:
        atomic.remove_leftovers(folder)
    unread = _tell_left_out(left_out, arguments)
    failed, done = [], dict[Path, float]()
    again = GOES_ON
    if arguments.overwrite:
        again = "the same command makes all again; without --overwrite it goes on where it was"
    with (
        resuming(again) if files and files[0].resume else nullcontext(),
        progress_bar(arguments.quiet, max(1, len(files)) * calls, as_json=arguments.json) as advance,
    ):

        def progress(path: Path, share: float) -> None:
            done[path] = done.get(path, 0.0) + share
            advance(str(path) if arguments.json else path.name, by=share * calls)

        if arguments.engine == "ray":
            outcomes: Iterable[FileOutcome] = batch.upscale_on_cluster(
                arguments.model, arguments.device, files=files, settings=settings, tiling=asked.tiling
            )
        else:
            up = asked.load()
            if piped:
                outcomes = [pipe.upscale(arguments, up, settings=settings, progress=progress)]
            else:
                outcomes = batch.upscale_files(up, files, settings=settings, progress=progress)
        for outcome in outcomes:
            if (rest := 1.0 - done.get(outcome.file.path, 0.0)) > _ROUNDING:
                progress(outcome.file.path, rest)
            if outcome.error is not None:
                failed.append(str(outcome.file.path))
                fail(outcome.error, arguments=arguments)
            _report(outcome, arguments, recipe)
    for folder in folders:  # again, for those that were too new to be told from what is being written
        atomic.remove_leftovers(folder)
    if len(files) > 1 and failed:
        fail(f"{len(failed)} of {len(files)} failed: {', '.join(failed)}")
    return FAILED if failed or unread else OK


class _Asked(NamedTuple):
    """What the arguments ask for.

    Args:
        settings: Settings of each file.
        calls: Calls of the network for each.
        tiling: How results are cut up.
        load: Function that loads what makes them.
    """

    settings: Settings
    calls: int
    tiling: Tiling | None
    load: Callable[[], UpscalerLike]


def _asked_of_folder(arguments: argparse.Namespace, recipe: Recipe | None) -> _Asked:
    """What is asked of a model's folder, which may be large: what is wrong is said before its graphs are loaded."""
    from ..onnx import model_has_null_caption, model_manifest
    from ..upscale.guidance import guidance_scale
    from ..upscale.upscaler import Upscaler

    manifest = model_manifest(arguments.model)
    with checking():
        scheduler, sampler = _samplers(arguments, manifest, recipe)
        settings = _settings(arguments, scheduler, sampler=sampler, recipe=recipe)
        tiling = like.tiling_of(arguments, recipe)
        null_caption = model_has_null_caption(arguments.model)
        pair = scheduler.table().asks_both
        guided = guidance_scale(settings, manifest.guidance, null_caption=null_caption, pair=pair) is not None
    calls = len(scheduler.table()) * (2 if guided else 1)
    return _Asked(settings, calls, tiling, partial(Upscaler.load, arguments.model, arguments.device, tiling=tiling))


def _asked_of_whole(arguments: argparse.Namespace) -> _Asked:
    """What is asked of a whole sampler in one file, which is loaded."""
    sampler = whole.load(arguments)
    with checking():
        settings = whole.settings_of(arguments, _finish(arguments))
    return _Asked(settings, sampler.whole.calls, None, lambda: sampler)


def _samplers(
    arguments: argparse.Namespace, manifest: Manifest, recipe: Recipe | None
) -> tuple[Scheduler, SamplerLike]:
    """Return a scheduler as asked for, checked, and what to sample by.

    That is the scheduler itself, or its spec where the model makes its timesteps anew for each size.
    """
    from ..onnx import model_tables
    from ..onnx.manifest import TeacherRule

    if recipe is not None:
        recorded = recipe.sampler
        return recorded, recorded
    own, tables = manifest.own_timesteps, model_tables(arguments.model)
    arguments.scheduler = arguments.scheduler or manifest.own_sampler
    if not isinstance(own, TeacherRule):
        scheduler = chosen_scheduler(arguments, own, tables=tables)
        return scheduler, scheduler
    scheduler = chosen_scheduler(arguments, partial(own.at, (own.size, own.size)), tables=tables)
    if arguments.timesteps is not None:
        return scheduler, scheduler
    if arguments.eta is None:
        return scheduler, arguments.scheduler
    spec = Spec.parse(arguments.scheduler)
    return scheduler, str(evolve(spec, options={**spec.options, "eta": arguments.eta}))


def _tell_left_out(left_out: list[LeftOut], arguments: argparse.Namespace) -> bool:
    """Say what folders hold that is not enlarged; whether some of it could not be looked into."""
    unread = [what for what in left_out if what.failed]
    for what in unread:
        fail(f"cannot read {what.path}: {what.why}; what is in it is left out")
    others = [str(what) for what in left_out if not what.failed]
    if arguments.json:
        for what in left_out:
            event("left-out", path=str(what.path), why=what.why)
    elif others and not arguments.quiet:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        tell(f"pidsampler: left out: {', '.join(others[:_SHOWN])}{more}: name what is meant to be enlarged too")
    return bool(unread)


def _settings(
    arguments: argparse.Namespace, scheduler: Scheduler, *, sampler: SamplerLike, recipe: Recipe | None
) -> Settings:
    """Return the settings that the arguments ask for, checked."""
    from ..io import captions
    from ..jobs.base import check_engine
    from ..noise import with_noise
    from ..onnx.device import resolve_device
    from ..upscale import batch

    check_engine(arguments.engine)
    resolve_device(arguments.device)
    if recipe is not None:
        return batch.Settings(**recipe.options.keywords(), overwrite=arguments.overwrite)
    with_noise(scheduler.table(), arguments.noise)
    return batch.Settings(
        sampler,
        seed=arguments.seed,
        degrade_sigma=arguments.degrade_sigma,
        noise=arguments.noise,
        caption=None if arguments.caption is None else captions.read(arguments.caption),
        guidance=arguments.guidance,
        negative=None if arguments.negative is None else captions.read(arguments.negative),
        steps=None if sampler is scheduler else arguments.steps,
        start=arguments.start,
        finish=_finish(arguments),
        overwrite=arguments.overwrite,
    )


def _finish(arguments: argparse.Namespace) -> Finish:
    from ..image.size import Size
    from ..upscale.finish import Finish

    return Finish(
        color=arguments.color,
        color_strength=arguments.color_strength,
        size=Size.parse(arguments.scale, arguments.size, fit=arguments.fit),
        despeckle=arguments.despeckle,
    )


def _files(arguments: argparse.Namespace, left_out: list[LeftOut]) -> list[File]:
    """Return the files that the arguments name, checked; what folders leave out is added to a list."""
    from ..io import pictures
    from ..upscale import batch

    files = batch.find_files(
        arguments.inputs, arguments.output, left_out=left_out.append, others=other_inputs(arguments)
    )
    for file in files:
        if not file.resume:  # of many each is checked when its turn comes, and fails alone
            pictures.check_output(file.target, arguments.overwrite)
    return files


def _report(outcome: FileOutcome, arguments: argparse.Namespace, recipe: Recipe | None) -> None:
    """Say what came of a file, but for an error, which is said already on stderr."""
    path, target, record = str(outcome.file.path), outcome.file.target, outcome.record
    if record is None:
        if arguments.json:
            event("failed", input=path, error=outcome.error)
        return
    likeness = None
    if recipe is not None and not (recipe.unlike(record) or arguments.output == "-"):
        likeness = like.compare(target, arguments.like)
    calls = len(record["table"]["rows"]) * (1 if record["guidance"] is None else 2)
    facts = {**record["output"], "calls": calls, "device": record["device"]}
    if arguments.json:
        again = {} if likeness is None else {"likeness": likeness}
        event("made", input=path, output=str(target), **facts, seconds=round(outcome.seconds, 3), **again)
    elif not arguments.quiet:
        size = "{width}x{height}".format(**record["output"])
        how = f"{calls} model call{'s' * (calls > 1)} on {record['device']}, {outcome.seconds:.1f} s"
        how = "there already" if outcome.seconds == 0.0 else how
        say(f"{target}: {size}, {how}{'' if likeness is None else f'; {likeness}'}")
