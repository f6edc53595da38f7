"""`pidsampler inspect`: print the contract found in a model folder, how a picture was made, or what a graph takes."""

from __future__ import annotations

import argparse
import json
import os
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import PidSamplerError, optional, printable
from ..io.files import sha256
from ..io.tables import read_table
from . import whole
from .common import FAILED, OK, UsageError, print_columns
from .output import say

_LONGEST = 100  # characters of an entry that are shown


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument(
        "model",
        metavar="FOLDER|FILE",
        help="model folder, or a bundled name; a picture that upscale made; or a .onnx that compile made",
    )
    parser.add_argument("--json", action="store_true", help="print a picture's record as JSON")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare with numpy and float64 (extra 'export'), a bundled model with the package's hashes",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the contract, the graphs' tensors and the files' hashes; or a picture's record."""
    from ..io.pictures import SUFFIXES

    if whole.is_whole(arguments.model):
        if arguments.json or arguments.verify:
            raise UsageError("--json is for a picture's record, and --verify for a model folder")
        return whole.inspect(Path(arguments.model))
    if os.path.isfile(arguments.model) or Path(arguments.model).suffix.lower() in SUFFIXES:  # a picture, there or not
        return _run_picture(arguments)
    if arguments.json:
        raise UsageError("--json is for a picture's record")
    from ..onnx import Model
    from ..onnx.device import resolve_device
    from ..onnx.folders import check_bundled
    from ..onnx.hub import hub_origin

    model = Model.load(arguments.model, resolve_device("auto"))
    facts = asdict(model.contract).items()
    rows = [[name.replace("_", " "), _shown(name, value)] for name, value in facts]
    for session in model.sessions:
        rows += [[f"{session.path.name} in", str(t)] for t in session.inputs]
        rows += [[f"{session.path.name} out", str(t)] for t in session.outputs]
    rows += [[name, value] for name, value in hub_origin(model.path).items()]
    rows += [[f"sha256 {name}", digest] for name, digest in model.hashes.items()]
    rows += [[f"table @{name}", _described(path)] for name, path in model.contract.tables.items()]
    print_columns(["folder", str(model.path)], rows)
    if arguments.verify and check_bundled(arguments.model):
        say("it is the bundled model, unchanged")
    elif arguments.verify:
        optional("onnx_ir", "onnx-ir", extra="export")
        from ..export.verify import verify

        say(f"{verify(model.path):.1e} off its evaluation in float64")
    return OK


def _run_picture(arguments: argparse.Namespace) -> int:
    """Print how a picture was made, and whether it can be made again here; 1 where it cannot."""
    from ..io.records import read_record

    if arguments.verify:
        raise UsageError("--verify is for a model folder")
    path = Path(arguments.model)
    record = read_record(path)
    if arguments.json:
        say(*json.dumps(record, indent=2).split("\n"))
        return OK
    print_columns(["picture", str(path)], [[name, text] for name, text in _facts(record)])
    say("")
    from ..upscale.again import needs

    try:
        needed = needs(record)
    except PidSamplerError as error:
        say(f"it cannot be made again here: {error}")
        return FAILED
    say("it can be made again here: pidsampler upscale INPUT -o OUT.png --like " + printable(str(path)))
    say(*(f"  needs {line}" for line in needed))
    others = list(_others(record))
    say(*(f"  {line}" for line in others))
    say("on this machine its bits are the same" if not others else "so that its bits may differ")
    return OK


def _facts(record: dict[str, Any]) -> list[tuple[str, str]]:
    """What is said of each entry, in a line; of the table how long it is."""
    found = []
    for name, value in record.items():
        if name == "table":
            rows = value.get("rows") if isinstance(value, dict) else None
            found.append(("rows", f"{len(rows) if isinstance(rows, list) else 'none'} in the table"))
        elif isinstance(value, dict):
            found += [(f"{name} {key}", _line(inside)) for key, inside in value.items()]
        elif value is not None:
            found.append((name.replace("_", " "), _line(value)))
    return found


def _line(value: object) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def _others(record: dict[str, Any]) -> list[str]:
    """What is not here as it was where the picture was made."""
    from ..onnx.device import resolve_device
    from ..onnx.providers import import_onnxruntime
    from ..upscale.record import versions

    device, then = resolve_device("auto").device, record.get("versions")
    here = {"device": device, **versions(str(import_onnxruntime().__version__))}
    was = {"device": record.get("device"), **(then if isinstance(then, dict) else {})}
    others = [f"{name} {_line(was.get(name))} then, {here[name]} here" for name in here if was.get(name) != here[name]]
    return [*others, *(["made by one graph then, by a model's folder here"] if "graph" in record else [])]


def _described(path: Path) -> str:
    table = read_table(path)
    calls = f"{len(table)} model call{'s' * (len(table) > 1)}"
    return f"{calls}, times {', '.join(f'{t:.4g}' for t in table.times)}, sha256 {sha256(path)}"


def _shown(name: str, value: Any) -> str:
    if value is None:
        return "any" if name == "fixed_size" else "none"
    if value == "":
        return "not stated"
    if isinstance(value, dict):
        return ", ".join(value) or "none"
    return ", ".join(map(repr, value)) if isinstance(value, tuple) else str(value)
