"""Builds the playground in build/playground, or in a FOLDER given: `python docs/playground/build.py [FOLDER]`.

The folder holds all that the page asks for: its own files, ONNX Runtime's for browsers, the bundled models, example
photos, and `tables.json`. Any server of files can serve it. npm fetches the packages that package-lock.json pins.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pidsampler as ps
from pidsampler.errors import PidSamplerWarning
from pidsampler.table import Combination, Row
from pidsampler.upscale.tiles import OVERLAP

HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
RUNTIME = HERE / "node_modules" / "onnxruntime-web"
FILES = ("*.html", "*.css", "*.js")
RUNTIME_FILES = ("ort.wasm.min.mjs", "ort-wasm-simd-threaded.mjs", "ort-wasm-simd-threaded.wasm")
MODELS = ("tiny", "tiny-teacher")
GRAPHS = ("vae_encoder.onnx", "pid_upscaler.onnx")
EXAMPLES = ("chameleon.jpg", "cat.jpg", "road.jpg")
SCHEDULERS = (
    *("flow-sde", "flow-ode", "heun", "dpmpp-2m", "dpmpp-3m", "unipc", "deis"),
    *("dpmpp-2m-sde", "er-sde", "seeds-3", "flow-ancestral", "restart"),
)
LISTS = ("pid", "uniform", "shifted", "karras", "beta")
STEPS = range(1, 9)
ETAS = (0, 0.5, 1)
TILE = 512  # pixels a side, of the result, that the network sees at a time


def main() -> None:
    """Fetch what is missing, and build."""
    folder = Path(sys.argv[1]) if len(sys.argv) > 1 else ROOT / "build" / "playground"
    fetch()
    build(folder)
    print(f"{folder}: serve it by `python -m http.server -d {folder}`")


def fetch() -> None:
    """Have npm install the packages, where the pinned ONNX Runtime is not there."""
    wanted = json.loads((HERE / "package.json").read_text())["dependencies"]["onnxruntime-web"]
    found = RUNTIME / "package.json"
    if not found.is_file() or json.loads(found.read_text())["version"] != wanted:
        npm = shutil.which("npm") or sys.exit("npm is not there: install Node.js, which fetches ONNX Runtime's files")
        subprocess.run([npm, "ci", "--ignore-scripts", "--no-audit", "--no-fund"], cwd=HERE, check=True)


def build(folder: Path) -> None:
    """Make the folder, anew where it was built before.

    Args:
        folder: Folder of the page; another one's files are not replaced.
    """
    if folder.exists() and any(folder.iterdir()) and not (folder / "tables.json").is_file():
        sys.exit(f"{folder} holds other files: name an empty folder")
    shutil.rmtree(folder, ignore_errors=True)
    for pattern in FILES:
        _copy(HERE.glob(pattern), folder)
    _copy((RUNTIME / "dist" / name for name in RUNTIME_FILES), folder / "ort")
    _copy((ROOT / "examples" / name for name in EXAMPLES), folder / "examples")
    for model in MODELS:
        _copy((_model(model) / name for name in GRAPHS), folder / "models" / model)
    (folder / "tables.json").write_text(json.dumps(everything(), separators=(",", ":")), encoding="utf-8")


def everything() -> dict[str, Any]:
    """Return what the page knows: models, schedulers, lists, tiles, and all tables, by the spec that makes them."""
    classes = {info.name: info for info in ps.list_schedulers()}
    return {
        "version": ps.__version__,
        "tile": {"size": TILE, "overlap": OVERLAP},
        "models": {name: _facts(name) for name in MODELS},
        "schedulers": {name: {"eta": _takes_eta(name), "source": classes[name].source} for name in SCHEDULERS},
        "lists": LISTS,
        "steps": [*STEPS],
        "etas": ETAS,
        "examples": EXAMPLES,
        "tables": {name: [_row(row) for row in table] for name, table in tables()},
    }


def tables() -> Iterator[tuple[str, ps.StepTable]]:
    """Yield each table with its spec, or MODEL/NAME of a learnt one. What a scheduler cannot do is left out."""
    for model in MODELS:
        for name in _manifest(model).get("tables", ()):
            yield f"{model}/{name}", ps.StepTable.from_json((_model(model) / "tables" / f"{name}.json").read_text())
    for scheduler in SCHEDULERS:
        for kind in [f"(eta={eta})" for eta in ETAS] if _takes_eta(scheduler) else [""]:
            for times in LISTS:
                for steps in STEPS:
                    spec = f"{scheduler}{kind}@{times}:{steps}"
                    try:
                        with warnings.catch_warnings(action="error", category=PidSamplerWarning):
                            yield spec, ps.get_scheduler(spec).table()
                    except (ps.PidSamplerError, PidSamplerWarning):
                        continue


def _takes_eta(scheduler: str) -> bool:
    return hasattr(ps.get_scheduler(f"{scheduler}@uniform:4"), "eta")


def _model(name: str) -> Path:
    return ROOT / "pidsampler" / "models" / name


def _manifest(model: str) -> dict[str, Any]:
    return json.loads((_model(model) / "pidsampler.json").read_text())


def _facts(model: str) -> dict[str, Any]:
    manifest = _manifest(model)
    facts = {key: manifest[key] for key in ("description", "scale", "vae_factor", "timescale")}
    return {**facts, "tables": manifest.get("tables", [])}


def _row(row: Row) -> dict[str, Any]:
    """Return a row without what is a column's default, see docs/tables.md."""
    if row.net:
        raise ValueError(f"{row} asks an unconditional network, which these models have not")
    columns = {"t": row.t, "at": row.at, "p": row.p, "q": row.q, "clip": row.clip}
    defaults = {"at": row.t, "p": 1.0, "q": -row.t, "clip": None}
    told = {key: value for key, value in columns.items() if key not in defaults or value != defaults[key]}
    saves = [{"slot": slot, **_combination(c)} for slot, c in row.saves]
    return {**told, **_combination(row), **({"saves": saves} if saves else {})}


def _combination(c: Combination) -> dict[str, Any]:
    return {key: value for key, value in (("a", c.a), ("b", c.b), ("h", c.h), ("noise", c.noise)) if value}


def _copy(files: Iterable[Path], folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for path in files:
        shutil.copyfile(path, folder / path.name)


if __name__ == "__main__":
    main()
