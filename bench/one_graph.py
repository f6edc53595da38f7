"""Compile a network of true size and random weights into one graph, check it, run it, and compare it with the loop.

    python bench/one_graph.py FOLDER [--size 256x256] [--backbone sdxl] [--type 2kto4k] [--scheduler SPEC]

FOLDER gets the weights, 5.6 GB for the SDXL student in float32, and keeps them: a second run begins at the compiling.
Each step is a process of its own, and prints its seconds and the most memory it held. Needs the extras cpu and export.
"""

import argparse
import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLI = (sys.executable, "-m", "pidsampler")
CHECK = "import sys, onnx; onnx.checker.check_model(sys.argv[1], full_check=True)"


def step(name, *command):
    """Run a command, and print what it took."""
    begin = time.perf_counter()
    _, status, used = os.wait4(subprocess.Popen([str(word) for word in command]).pid, 0)
    if status:
        sys.exit(f"{name} failed")
    print(f"{name:24} {time.perf_counter() - begin:7.1f} s {used.ru_maxrss / 1e6:7.2f} GB", flush=True)


def record(asked):
    """Make the model where it is not there, and measure its graph."""
    model, sampler = asked.folder / f"{asked.backbone}-{asked.type}-{asked.size}", asked.folder / "sampler.onnx"
    if not (model / "pid_upscaler.onnx").is_file():
        kind = ("--backbone", asked.backbone, "--type", asked.type, "--target", "onnx", "--dtype", "float32")
        step("export", *CLI, "export", *kind, "--random-weights", 0, "--size", asked.size, "-o", model, "--quiet")
    given = ("--scheduler", asked.scheduler) if asked.scheduler else ()
    size = ("--size", asked.size, "--output-type", "float32", "--quiet", "--overwrite")
    step("compile, copying", *CLI, "compile", model, *given, *size, "-o", sampler)
    sampler.unlink()
    (asked.folder / "sampler.onnx.data").unlink(missing_ok=True)
    sampler = model / "sampler.onnx"
    step("compile, in its folder", *CLI, "compile", model, *given, *size, "-o", sampler)
    step("checker", sys.executable, "-c", CHECK, sampler)
    small, made = asked.folder / "small.png", [asked.folder / f"{name}.png" for name in ("graph", "loop")]
    width, height = (int(n) // 4 for n in asked.size.split("x"))
    Image.open(asked.photo).convert("RGB").resize((width, height)).save(small)
    rest = ("--seed", 7, "--device", "cpu", "--overwrite", "--quiet")
    step("run, graph", *CLI, "upscale", small, "-o", made[0], "--model", sampler, *rest)
    step("run, loop", *CLI, "upscale", small, "-o", made[1], "--model", model, *given, *rest)
    graph, loop = (np.asarray(Image.open(path)).astype(int) for path in made)
    off = np.abs(graph - loop)
    print(
        f"{sampler.stat().st_size / 1e6:.2f} MB beside the weights; at most {off.max()} levels from the loop, ", end=""
    )
    print(f"{(off > 0).mean():.4%} of values differ")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n", maxsplit=1)[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--size", default="256x256")
    parser.add_argument("--backbone", default="sdxl")
    parser.add_argument("--type", default="2kto4k")
    parser.add_argument("--scheduler")
    parser.add_argument("--photo", type=Path, default=Path(__file__).parents[1] / "examples/chameleon.jpg")
    record(parser.parse_args())
