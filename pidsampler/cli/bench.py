"""`pidsampler bench`: time the sampler's step in all its variants, and others beside it."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from contextlib import nullcontext
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..backends import Backend, get_backend
from ..errors import ConfigError, PidSamplerError, unknown_name
from ..schedulers.registry import as_scheduler
from ..table import as_table
from ..values import shown, whole
from .common import OK, checking
from .output import say, tell

if TYPE_CHECKING:
    from ..bench.measurement import BenchPlan
    from ..bench.peers import StepImplementation
    from ..bench.steps import Variant

_SIDES = {"cpu": "512,1024", "cuda": "512,1024,2048,4096"}
_TYPES = {"cpu": "float32,float32/float16", "cuda": "float32,float32/float16,float16,bfloat16"}
_MOST_SIDE = 16384
_UPSCALE = "upscale"  # among the names of variants


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's options to its parser."""
    parser.add_argument(
        "samplers",
        nargs="*",
        metavar="SPEC",
        help="time these samplers' rows and runs, at 1024 in float32: heun@uniform:8, FILE.py:NAME, @table.json, or "
        "@NAME of the model's own tables",
    )
    parser.add_argument("--against", metavar="SPEC", help="compare each with this sampler, with a 95 %% interval")
    parser.add_argument("--model", metavar="MODEL", help="time a run by this model too: a bundled name or a folder")
    parser.add_argument("--rounds", type=int, metavar="N", help="samples of each (default: 20; with --model 6)")
    parser.add_argument("--device", default="auto", help="auto, cpu or cuda (default: %(default)s)")
    parser.add_argument(
        "--sizes", metavar="N,...", help=f"pixels a side (default: {_SIDES['cpu']}; on a GPU {_SIDES['cuda']})"
    )
    parser.add_argument(
        "--variants", metavar="NAME,...", help="by name or pattern, as 'flow-sde*,upscale' (default: all)"
    )
    parser.add_argument(
        "--dtype",
        metavar="X[/M],...",
        help=f"types of the state and of the network's output (default: {_TYPES['cpu']}; on a GPU {_TYPES['cuda']})",
    )
    parser.add_argument("--peers", metavar="NAME,...", help="whom to compare with, or none (default: all installed)")
    parser.add_argument("--quick", action="store_true", help="the first size and type, few samples: not for quoting")
    parser.add_argument("-o", "--output", type=Path, metavar="FILE", help="append the rows to a CSV file")
    parser.add_argument(
        "--compare", type=Path, metavar="FILE", help="say what changed against the rows of a CSV file of -o"
    )


def plan(arguments: argparse.Namespace) -> BenchPlan:
    """Return what a command line asks for.

    Raises:
        PidSamplerError: An option is wrong, or the file for the rows is another one.
    """
    from ..bench.measurement import BenchPlan
    from ..bench.rows import check_columns
    from ..bench.samplers import types_of
    from ..bench.timing import Effort

    if arguments.output is not None:
        check_columns(arguments.output)
    backend = _backend(arguments.device)
    sides = (arguments.sizes or _SIDES[backend.device]).split(",")
    types = (arguments.dtype or _TYPES[backend.device]).split(",")
    chosen, upscale = _variants((arguments.variants or "*").split(","))
    peers, missing = _peers(backend, arguments.peers)
    if arguments.quick:
        sides, types = sides[:1], types[:1]
    return BenchPlan(
        backend=backend,
        variants=chosen,
        types=[types_of(text, backend) for text in types],
        sides=[_side(text) for text in sides],
        peers=peers,
        missing=missing,
        effort=Effort(seconds=0.05, least=3) if arguments.quick else Effort(),
        upscale=upscale,
    )


def run(arguments: argparse.Namespace) -> int:
    """Time what is asked for; 0, or 2 where an option is wrong."""
    from ..bench.stored import compared, read_rows

    with checking():
        before = None if arguments.compare is None else read_rows(arguments.compare)
        for name in () if arguments.samplers else ("against", "model", "rounds"):
            if getattr(arguments, name) is not None:
                raise ConfigError(f"--{name} is for samplers: pass a SPEC, such as pidsampler bench heun@uniform:8")
        asked = None if arguments.samplers else plan(arguments)
    rows = _time_samplers(arguments) if asked is None else carry_out(asked, arguments.output)
    if before is not None:
        found = compared(rows, before)
        say("", f"against {arguments.compare}:", *(f"  {line}" for line in found.lines(str(arguments.compare))))
        for note in found.notes:
            tell(f"pidsampler: warning: {arguments.compare}: {note}")
    return OK


def carry_out(asked: BenchPlan, output: Path | None) -> list[dict[str, Any]]:
    """Print a line for each result, append them to a CSV file, and return them.

    Raises:
        PidSamplerError: Something does not compute what it is timed for, or the file cannot be written.
    """
    from ..bench.measurement import measure
    from ..bench.rows import appending

    say(f"{'side':>5}  {'x/m':17}  {'row':34}  {'by':13}  {'ms':>9}  {'± IQR':>8}  {'n':>3}  {'GB/s':>6}  of a copy")
    with appending(output) if output is not None else nullcontext(lambda row: None) as append:
        rows = []
        for row in measure(asked, tell):
            say(_line(row), flush=True)
            append(row)
            rows.append(row)
    _warn_of_noise(sum("share" in row and row["share"] is None for row in rows), len(rows))
    return rows


def _time_samplers(arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """Print what samplers take, append it to a CSV file, and return it."""
    from ..bench import steps
    from ..bench.ratios import LEAST
    from ..bench.rows import COLUMNS, appending, check_columns, machine
    from ..bench.samplers import MOST_ROUNDS, tables_of, types_of

    with checking():
        for name in ("variants", "peers"):
            if getattr(arguments, name) is not None:
                raise ConfigError(f"--{name} is for the package's own rows: leave it out, or the SPEC")
        if arguments.output is not None:
            check_columns(arguments.output)
        tables = tables_of(arguments.model)
        for name, specs in (("SPEC", arguments.samplers), ("--against", filter(None, [arguments.against]))):
            for spec in specs:
                _check_sampler(name, spec, tables)
        if arguments.rounds is not None:
            whole("rounds", arguments.rounds, low=LEAST, high=MOST_ROUNDS)
        backend = _backend(arguments.device)
        sides = [_side(text) for text in (arguments.sizes or "1024").split(",")]
        types = (arguments.dtype or "float32").split(",")
        for text in types:
            types_of(text, backend)
    options = {"against": arguments.against, "model": arguments.model, "rounds": arguments.rounds}
    if arguments.quick:
        sides, types, options["rounds"] = sides[:1], types[:1], arguments.rounds or 6
    where, rows, noisy = machine(backend), [], 0
    with appending(arguments.output) if arguments.output is not None else nullcontext(lambda row: None) as append:
        for side in sides:
            for text in types:
                say(f"{side}x{side}, {text}:", flush=True)
                for timing in steps(arguments.samplers, side=side, dtype=text, backend=backend, **options):
                    say(f"  {timing}", flush=True)
                    row = {**where, **timing.columns()}
                    rows.append({key: row[key] for key in COLUMNS if key in row})
                    append(rows[-1])
                    noisy += timing.is_noisy
    _warn_of_noise(noisy, len(rows))
    return rows


def _check_sampler(name: str, spec: str, tables: Mapping[str, Path]) -> None:
    try:
        as_table(as_scheduler(spec, partial=True, tables=tables))
    except PidSamplerError as error:
        raise ConfigError(f"{name} {spec}: {error}") from error


def _warn_of_noise(noisy: int, rows: int) -> None:
    if noisy:
        tell(
            f"pidsampler: warning: {noisy} of {rows} rows are too noisy to tell their share or ratio: close other "
            "programs, take a larger size, or more --rounds"
        )


def _line(row: dict[str, Any]) -> str:
    types = "/".join(dict.fromkeys((row["x"], row["m"]))) if "x" in row else ""
    text = f"{row['side']:5}  {types:17}  {row['variant']:34}  {row['by']:13}  {row['ms']:9.4g}  {row['iqr_ms']:8.2g}"
    text += f"  {row['n']:3}"
    if "share" in row:
        text += f"  {row['gb_s']:6.4g}  " + ("   noisy" if row["share"] is None else f"{row['share']:8.0%}")
    if row["host_ms"] is not None:
        text += f"  host {row['host_ms']:.3g} ms"
    return text


def _backend(device: str) -> Backend:
    if device not in ("auto", "cpu", "cuda"):
        raise unknown_name("device", device, known=("auto", "cpu", "cuda"))
    if device == "cpu":
        return get_backend("numpy")
    try:
        return get_backend("cupy")
    except PidSamplerError:
        if device == "cuda":
            raise
        return get_backend("numpy")


def _variants(words: list[str]) -> tuple[list[Variant], bool]:
    """Return the rows that a word or pattern names, and whether one names the whole upscale."""
    from ..bench.steps import variants

    known = variants()
    names = [*(variant.name for variant in known), _UPSCALE]
    for word in words:
        if not any(fnmatchcase(name, word) for name in names):
            raise unknown_name("variant", word, known=names)
    chosen = {name for name in names if any(fnmatchcase(name, word) for word in words)}
    return [variant for variant in known if variant.name in chosen], _UPSCALE in chosen


def _peers(backend: Backend, names: str | None) -> tuple[list[StepImplementation], dict[str, str]]:
    if names == "none":
        return [], {}
    from ..bench.peers import find_peers

    found, missing = find_peers(backend)
    if names is None:
        return found, missing
    peers = {peer.name: peer for peer in found}
    for name in names.split(","):
        if name in missing:
            raise ConfigError(f"peer {name!r} cannot be had here: {missing[name]}")
        if name not in peers:
            raise unknown_name("peer", name, known=[*peers, *missing, "none"])
    return [peers[name] for name in names.split(",")], {}


def _side(text: str) -> int:
    if not (text.isdecimal() and len(text) < 9 and 1 <= int(text) <= _MOST_SIDE):
        raise ConfigError(f"size {shown(text)} is not a whole number in 1..{_MOST_SIDE}: pass such as --sizes 512,1024")
    return int(text)
