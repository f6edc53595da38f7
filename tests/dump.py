"""What the package does, as text, to hold a change of its structure by.

    python tests/dump.py before && git switch mine && python tests/dump.py after && diff -r before after

writes the tables of every scheduler over every list, samples, the bundled models' pictures with their records, two
studies' results, and what the command line says, one file each. Times are left out. The package is the one that
`python` imports, and only its public names are used.
"""

from __future__ import annotations

import csv
import hashlib
import json
import os
import re
import subprocess
import sys
import warnings
from collections.abc import Iterator
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

import pidsampler as ps

EXAMPLES = Path(__file__).parent.parent / "examples"
LISTS = [
    "pid",
    "uniform",
    "shifted",
    "flux",
    "karras",
    "exponential",
    "polyexponential",
    "log_snr",
    "cosine",
    "linear_quadratic",
    "kl_optimal",
    "simple",
    "sgm_uniform",
    "ddim_uniform",
    "beta",
    "discrete",
]
OPTIONS = [
    "flow-sde(eta=0.5)@pid",
    "flow-sde(eta=0)@pid",
    "flow-sde(eta=0.5,last_eta=0.2)@pid:3",
    "adams-bashforth(order=4)@uniform:8",
    "unipc(order=3,b=bh1)@karras(rho=5):12",
    "dpmpp-2m-sde(eta=0.3,kind=heun)@shifted:9",
    "er-sde(order=1)@uniform:5",
    "sa-solver(order=3,tau=0.4)@uniform:9",
    "restart(repeats=2)@uniform:9",
    "seeds-2(eta=0.4,r=0.3)@uniform:6",
    "gradient-estimation(gamma=1.5)@uniform:6",
    "deis(order=3)@uniform:7",
    "uni_pc_bh2@uniform:5",
    "euler_ancestral@uniform:4",
]
STUDIES = {
    "pictures": """
reduce = true
preset = {images = "cat.png", seeds = 2}
axes = {scheduler = ["flow-sde", "heun@uniform:2", "flow-ode"], noise = ["independent", "fixed"]}
""",
    "flows": """
flows.two = {means = [-0.6, 0.5], stds = [0.3, 0.2], shape = [3, 32, 32]}
preset = {model = "two", seeds = 2}
axes = {scheduler = ["flow-sde", "heun", "sa-solver"], timesteps = ["uniform", "karras(rho=5)"], steps = [4, 8]}
""",
}
COMMANDS = (
    ["", "--help", "--version", "nothing", "models", "schedulers", "doctor", "inspect tiny", "inspect nope"]
    + [
        f"{name} --help"
        for name in [
            "upscale",
            "table",
            "inspect",
            "export",
            "study",
            "search",
            "bench",
            "doctor",
            "models",
            "schedulers",
        ]
    ]
    + [
        f"table {spec}"
        for spec in ("flow-sde", "heun@uniform:3 --json", "nope", "flow-sde(eta=x)", "dpmpp-2m --steps 2")
    ]
    + ["table flow-sde --eta 0.5 --timesteps 0.9,0.5,0 --noise brownian", "table flow-sde --timesteps @nofile"]
    + ["upscale cat.png -o one.png --quiet", "upscale cat.png -o one.png", "upscale none.png -o two.png"]
    + [
        f"upscale cat.png -o three.png {options}"
        for options in (
            [
                "--seed -1",
                "--scale 9",
                "--scale 9 --size 3x3",
                "--fit",
                "--size 900x",
                "--tile x",
                "--max-memory x",
                "--max-memory 1k",
                "--engine x",
                "--noise x",
                "--degrade-sigma 2",
                "--scheduler nope",
                "--model nope",
                "--timesteps a",
                "--steps 9",
                "--caption none.npy",
                "--color x",
                "--device x",
            ]
        )
    ]
    + ["upscale cat.png -o four.jpg --tile 100 --quiet", "upscale cat.png -o five.png --size 100x30 --quiet"]
    + ["search cat.png -o list.txt --calls 2 --evaluations 3 --seeds 2", "search cat.png -o no/list.txt"]
    + ["study none.toml -o x", "bench --variants nope", "export -o e --backbone sdx --type 2k --random-weights 0"]
)


def digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


def tables() -> Iterator[str]:
    named = (f"{i.name}@{times}:{n}" for i, times, n in product(ps.list_schedulers(), LISTS, (1, 2, 4, 7, 12)))
    for spec in (*named, *OPTIONS):
        try:
            scheduler = ps.get_scheduler(spec)
            yield f"{spec} {scheduler} {scheduler!r} {digest(scheduler.table().to_json().encode())}"
        except ps.PidSamplerError as error:
            yield f"{spec} ! {error}"


def samples() -> Iterator[str]:
    law = ps.denoiser.GaussianMixture([-0.6, 0.5], [0.3, 0.2], [1, 2])
    specs = ("flow-sde", "flow-ode", "sa-solver@uniform:5", "seeds-3@uniform:4", "dpmpp-2m@karras:6")
    kinds = product(("independent", "fixed", "brownian", "torch"), specs, (np.float32, np.float64), (33, 640))
    for noise, spec, dtype, side in kinds:
        if noise == "brownian" and side > 100:
            continue
        x = ps.sample((law, law), ps.get_scheduler(spec), shape=(2, 3, side, 35), seed=11, noise=noise, dtype=dtype)
        yield f"{noise} {spec} {np.dtype(dtype)} {x.shape} {digest(x.tobytes())}"


def pictures(photo: np.ndarray[Any, Any]) -> Iterator[str]:
    settings: list[tuple[str, dict[str, Any], dict[str, Any]]] = [
        ("tiny", {}, {}),
        ("tiny", {"finish": ps.Finish(color="match", despeckle=16.0, size=ps.Size(scale=1.5))}, {}),
        ("tiny", {"finish": ps.Finish(color="adain", color_strength=0.5)}, {}),
        ("tiny", {"seed": 9, "degrade_sigma": 0.2, "noise": "brownian"}, {}),
        ("tiny", {"noise": "torch"}, {"tiling": ps.Tiling(64, encoder=True)}),
        ("tiny", {}, {"tiling": ps.Tiling(96, 32)}),
        ("tiny-teacher", {"noise": "fixed"}, {}),
        ("gaussian", {}, {}),
    ]
    for model, options, load in settings:
        up = ps.Upscaler.load(model, "cpu", **load)
        for source in (photo, photo[:, :, 0], np.dstack([photo, photo[:, :, :1]]), photo[:7, :5]):
            for sampler in (None, "heun@uniform:3"):
                result = up(source, sampler, **options)
                record = {key: value for key, value in result.record.items() if key != "versions"}
                yield f"{model} {digest(result.array.tobytes())} {json.dumps(record, sort_keys=True)}"


def run(folder: Path, *words: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "100", "NO_COLOR": "1"}
    command = [sys.executable, "-P", "-m", "pidsampler.cli", *words]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def studies(folder: Path) -> Iterator[str]:
    for name, text in STUDIES.items():
        (folder / f"{name}.toml").write_text(text)
        done = run(folder, "study", f"{name}.toml", "-o", name, "--processes", "1", "--quiet", "--device", "cpu")
        yield f"{name} {done.returncode} {done.stderr}"
        with (folder / name / "results.csv").open() as file:
            for row in csv.DictReader(file):
                yield json.dumps({k: v for k, v in row.items() if k not in ("seconds", "network", "sampler")})
        for path in sorted((folder / name).rglob("*")):
            if path.suffix in (".png", ".json") and "figures" not in path.parts:
                yield f"{path.relative_to(folder)} {digest(path.read_bytes())}"


def commands(folder: Path) -> Iterator[str]:
    for words in COMMANDS:
        done = run(folder, *words.split())
        yield f"$ {words} -> {done.returncode}"
        for name, text in (("out", done.stdout), ("err", done.stderr)):
            text = re.sub(r"\d+\.\d+ s\b", "N s", text.replace(str(Path(ps.__file__).parent), "PACKAGE"))
            yield from (f"{name}| {line}" for line in text.splitlines())
    for path in sorted([*folder.glob("*.png"), *folder.glob("*.jpg"), *folder.glob("list.txt")]):
        yield f"{path.name} {digest(path.read_bytes())}"


def main(folder: Path) -> None:
    work = folder / "work"
    work.mkdir(parents=True)
    photo = np.asarray(Image.open(EXAMPLES / "cat.jpg").convert("RGB"))[100:148, 100:160]
    Image.fromarray(photo).save(work / "cat.png")
    found = {"tables": tables(), "samples": samples(), "pictures": pictures(photo)}
    for name, lines in {**found, "studies": studies(work), "commands": commands(work)}.items():
        (folder / f"{name}.txt").write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main(Path(sys.argv[1]))
