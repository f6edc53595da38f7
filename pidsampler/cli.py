"""The command line: `pidsampler --help`.

Exit codes: 0 all done; 1 a file or a model failed, the others are done; 2 the command line is wrong, nothing was
done; 130 interrupted.
"""

from __future__ import annotations

import argparse
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, NoReturn

from . import __version__, bench, search, timesteps
from .backends import DESPECKLE
from .draws import NOISES, with_noise
from .engine import check_engine
from .errors import PidSamplerError
from .export import command as export
from .extras import optional
from .hub import PREFIX, download_model
from .progress import progress_bar
from .registry import choose_scheduler, list_schedulers
from .study import command as study
from .table import Scheduler

_DESPECKLE = f"remove isolated pixels that stand out by that many of 255 (default: {DESPECKLE:g})"

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code."""
    warnings.showwarning = _show_warning
    try:
        arguments = _parser().parse_args(argv)
        code: int = arguments.run(arguments)
        sys.stdout.flush()
    except PidSamplerError as error:
        return _fail(error)
    except KeyboardInterrupt:
        return _fail("interrupted", INTERRUPTED)
    except MemoryError:
        return _fail("not enough memory")
    except BrokenPipeError:  # the reader of our output, such as head, is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FAILED
    return code


def _upscale(arguments: argparse.Namespace) -> int:
    from . import batch, captions, images
    from .backends import resolve_device
    from .finish import Finish
    from .memory import Tiling
    from .noise import check_seeds
    from .onnx import model_manifest
    from .sizes import Size
    from .upscaler import Upscaler, check_sigma

    if arguments.accept_licence and arguments.model.startswith(PREFIX):
        download_model(arguments.model)
    # The model may be large: what is wrong on the command line is said before its graphs are loaded.
    own = model_manifest(arguments.model).own_timesteps
    try:
        scheduler = _scheduler(arguments, own)
        with_noise(scheduler.table(), arguments.noise)
        check_sigma(arguments.degrade_sigma)
        caption = None if arguments.caption is None else captions.read(arguments.caption)
        check_seeds(arguments.seed, 1)
        size = Size.parse(arguments.scale, arguments.size, arguments.fit)
        finish = Finish(arguments.color, arguments.color_strength, size, arguments.despeckle)
        tiling = Tiling.parse(arguments.tile, arguments.overlap, arguments.max_memory)
        check_engine(arguments.engine)
        resolve_device(arguments.device)
        files = batch.find_files(arguments.inputs, arguments.output)
        for file in files:
            images.check_output(file.target, arguments.overwrite or file.resume)
    except PidSamplerError as error:
        return _fail(error, USAGE)
    folders = {file.target.parent for file in files}
    for folder in folders:
        images.remove_leftovers(folder)
    settings = batch.Settings(
        scheduler, arguments.seed, arguments.degrade_sigma, arguments.noise, arguments.overwrite, caption, finish
    )
    calls, failed, done = len(scheduler.table()), [], dict[Path, float]()
    with progress_bar(arguments.quiet, len(files) * calls) as advance:

        def progress(path: Path, share: float) -> None:
            done[path] = done.get(path, 0.0) + share
            advance(path.name, by=share * calls)

        if arguments.engine == "ray":
            outcomes = batch.upscale_on_cluster(arguments.model, arguments.device, files, settings, tiling)
        else:
            up = Upscaler.load(arguments.model, arguments.device, tiling=tiling)
            outcomes = batch.upscale_files(up, files, settings, progress)
        for outcome in outcomes:
            progress(outcome.file.path, 1.0 - done.get(outcome.file.path, 0.0))
            if outcome.error is not None:
                failed.append(str(outcome.file.path))
                _fail(outcome.error)
            elif not arguments.quiet:
                print(_said(outcome))
    for folder in folders:  # again, for those that were too new to be told from what is being written
        images.remove_leftovers(folder)
    if len(files) > 1 and failed:
        _fail(f"{len(failed)} of {len(files)} failed: {', '.join(failed)}")
    return FAILED if failed else OK


def _said(outcome: Any) -> str:
    record, target = outcome.record, outcome.file.target
    size = "{width}x{height}".format(**record["output"])
    if outcome.seconds == 0.0:
        return f"{target}: {size}, there already"
    return f"{target}: {size}, {len(record['timesteps']) - 1} steps on {record['device']}, {outcome.seconds:.1f} s"


def _table(arguments: argparse.Namespace) -> int:
    try:
        scheduler = _scheduler(arguments, timesteps.pid())
        table, _ = with_noise(scheduler.table(), arguments.noise)
    except PidSamplerError as error:
        return _fail(error, USAGE)
    if arguments.plot is not None:
        from .plot import plot_table

        plot_table(table, arguments.plot, str(scheduler), arguments.overwrite)
    print(table.to_json(indent=2) if arguments.json else f"{scheduler}\n\n{table}")
    return OK


def _schedulers(arguments: argparse.Namespace) -> int:
    _print_columns(
        ["name", "order", "calls/step", "stochastic", "source"],
        [
            [
                i.name,
                str(i.accuracy_order),
                str(i.model_calls_per_step),
                "yes" if i.stochastic else "no",
                i.source,
            ]
            for i in list_schedulers()
        ],
    )
    return OK


def _models(arguments: argparse.Namespace) -> int:
    from .onnx import bundled_models

    rows = [[name, m.licence or "", m.description or ""] for name, m in bundled_models().items()]
    _print_columns(["name", "licence", "description"], rows)
    return OK


def _inspect(arguments: argparse.Namespace) -> int:
    from .backends import resolve_device
    from .onnx import Model

    model = Model.load(arguments.model, resolve_device("auto"))
    rows = [[key.replace("_", " "), _shown(value)] for key, value in asdict(model.contract).items()]
    for session in model.sessions:
        rows += [[f"{session.path.name} in", str(t)] for t in session.inputs]
        rows += [[f"{session.path.name} out", str(t)] for t in session.outputs]
    rows += [[f"sha256 {name}", digest] for name, digest in model.hashes.items()]
    _print_columns(["folder", str(model.path)], rows)
    if arguments.verify:
        optional("onnx_ir", "onnx-ir", "export")
        from .export.verify import verify

        print(f"{verify(model.path):.1e} off its evaluation in float64")
    return OK


def _doctor(arguments: argparse.Namespace) -> int:
    from .doctor import report

    return OK if report() else FAILED


def _bench(arguments: argparse.Namespace) -> int:
    try:
        plan = bench.plan(arguments)
    except PidSamplerError as error:
        return _fail(error, USAGE)
    bench.run(plan, arguments.output)
    return OK


def _shown(value: Any) -> str:
    if value is None:
        return "any"
    if value == "":
        return "not stated"
    return ", ".join(map(repr, value)) if isinstance(value, tuple) else str(value)


def _scheduler(arguments: argparse.Namespace, own: timesteps.TimesLike) -> Scheduler:
    """Make the scheduler asked for, over the times asked for, or over `own`, the model's."""
    times = arguments.timesteps
    if times is not None and not times.startswith("@"):
        times = [_number(text) for text in times.split(",")]
    options = {} if arguments.eta is None else {"eta": arguments.eta}
    return choose_scheduler(arguments.scheduler, own, times, arguments.steps, **options)


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        raise PidSamplerError(f"timestep {text!r} is not a number: pass a list such as 0.999,0.634,0") from None


def _print_columns(header: list[str], rows: list[list[str]]) -> None:
    widths = [max(map(len, column)) for column in zip(header, *rows, strict=True)]
    for line in [header, *rows]:
        print("  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip())


def _fail(error: object, code: int = FAILED) -> int:
    print(f"pidsampler: error: {error}", file=sys.stderr)
    return code


def _show_warning(message: Warning | str, *details: Any, **more: Any) -> None:
    print(f"pidsampler: warning: {message}", file=sys.stderr)


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"pidsampler: error: {message} (see {self.prog} --help)\n")


def _parser() -> argparse.ArgumentParser:
    parser = _Parser(prog="pidsampler", description="Custom samplers for PiD: a photo or latent in, a 4x photo out.")
    parser.add_argument("--version", action="version", version=f"pidsampler {__version__}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)

    def command(name: str, run: Callable[[argparse.Namespace], int], text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    sub = command("upscale", _upscale, "enlarge pictures, or decode latents")
    sub.add_argument(
        "inputs",
        nargs="+",
        type=Path,
        metavar="IN",
        help="PNG, JPEG, WebP, TIFF; .npy, .npz, .safetensors; folders of them",
    )
    sub.add_argument(
        "-o",
        "--output",
        required=True,
        metavar="OUT",
        help="file, or folder for several inputs (PNG); goes on where it was",
    )
    sub.add_argument(
        "--model", default="tiny", help="bundled name, model folder, or hf:OWNER/NAME (default: %(default)s)"
    )
    sub.add_argument("--accept-licence", action="store_true", help="of an hf: model, and download it (extra 'hub')")
    sub.add_argument(
        "--scheduler",
        default="flow-sde",
        metavar="SPEC",
        help="see 'pidsampler schedulers' (default: %(default)s)",
    )
    _add_times(sub)
    sub.add_argument("--seed", type=int, default=0, help="0..2^64-1 (default: %(default)s)")
    sub.add_argument(
        "--degrade-sigma",
        type=float,
        default=0.0,
        metavar="S",
        help="noise level of the latent, 0..0.8 (default: 0)",
    )
    sub.add_argument("--scale", metavar="S", help="result over input, at most the model's own (default)")
    sub.add_argument("--size", metavar="WxH", help="of the result, likewise; one side may be left out")
    sub.add_argument("--fit", action="store_true", help="the largest inside --size that keeps the picture's shape")
    sub.add_argument("--color", help="match or adain: the input's colours; off (default: match for models that drift)")
    sub.add_argument("--color-strength", type=float, default=1.0, metavar="S", help="0..1 (default: %(default)s)")
    sub.add_argument("--despeckle", type=float, nargs="?", const=DESPECKLE, metavar="LEVELS", help=_DESPECKLE)
    sub.add_argument("--tile", default="auto", metavar="N", help="auto, off, or pixels a side (default: %(default)s)")
    sub.add_argument("--overlap", type=int, metavar="N", help="of tiles, in pixels (default: 128, or half a tile)")
    sub.add_argument("--max-memory", metavar="BYTES", help="such as 4G, to cut tiles by (default: what is free)")
    sub.add_argument("--caption", type=Path, metavar="FILE", help=".npy of its embedding, for a model that takes one")
    sub.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    sub.add_argument("--engine", default="local", help="local, or ray for a cluster (default: %(default)s)")
    sub.add_argument("--overwrite", action="store_true", help="replace existing outputs")
    sub.add_argument("--quiet", action="store_true", help="print errors only")

    sub = command("table", _table, "print a scheduler's table of coefficients")
    sub.add_argument("scheduler", metavar="SPEC", help="spec such as heun@uniform:8 or unipc(order=3)@karras(rho=5):12")
    _add_times(sub)
    sub.add_argument("--json", action="store_true", help="as JSON, for StepTable.from_json")
    sub.add_argument("--plot", type=Path, metavar="FILE", help="draw it too: .png, .svg or .pdf (extra 'plot')")
    sub.add_argument("--overwrite", action="store_true", help="replace an existing FILE")

    sub = command("inspect", _inspect, "print the contract found in a model folder")
    sub.add_argument("model", metavar="FOLDER", help="model folder, or a bundled name")
    sub.add_argument("--verify", action="store_true", help="compare with numpy and float64 (extra 'export')")

    sub = command("export", export.run, "make a model folder of a PiD checkpoint, or of random weights")
    export.add_arguments(sub)

    sub = command("study", study.run, "compare samplers: a grid of settings, measured, with a report")
    study.add_arguments(sub)

    sub = command("search", search.run, "find a good list of timesteps for a model, a scheduler and a number of calls")
    search.add_arguments(sub)

    sub = command("bench", _bench, "time the sampler's step in all its variants, and others beside it")
    bench.add_arguments(sub)

    command("doctor", _doctor, "say whether a GPU run would work here, and what to install if not")
    command("models", _models, "list the bundled models")
    command("schedulers", _schedulers, "list the schedulers")
    return parser


def _add_times(sub: argparse.ArgumentParser) -> None:
    where = sub.add_mutually_exclusive_group()
    where.add_argument("--steps", type=int, metavar="N", help="that many of the model's own timesteps")
    where.add_argument(
        "--timesteps",
        metavar="T,T,...",
        help="descending noise levels that end in 0, kept bit for bit, or @FILE of them",
    )
    sub.add_argument("--noise", default="independent", help=f"{', '.join(NOISES)} (default: %(default)s)")
    sub.add_argument("--eta", type=float, help="share of fresh noise, 0..1, of schedulers that draw some")


if __name__ == "__main__":
    sys.exit(main())
