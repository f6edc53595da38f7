"""`pidsampler inspect`: print the contract found in a model folder."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import optional
from ..io.files import sha256
from ..io.tables import read_table
from .common import OK, print_columns
from .output import say


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Add the command's arguments."""
    parser.add_argument("model", metavar="FOLDER", help="model folder, or a bundled name")
    parser.add_argument(
        "--verify",
        action="store_true",
        help="compare with numpy and float64 (extra 'export'), a bundled model with the package's hashes",
    )


def run(arguments: argparse.Namespace) -> int:
    """Print the contract, the graphs' tensors and the files' hashes."""
    from ..onnx import Model
    from ..onnx.device import resolve_device
    from ..onnx.hub import hub_origin
    from ..onnx.model import check_bundled

    model = Model.load(arguments.model, resolve_device("auto"))
    facts = asdict(model.contract).items()
    rows = [["licence" if name == "license" else name.replace("_", " "), _shown(name, value)] for name, value in facts]
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
