"""Compile the SDXL student of true size, of random weights, into one graph: check it, run it, compare it with the loop.

    pip install '.[cpu,export]' && python bench/one_graph.py FOLDER

FOLDER gets the weights, 5.5 GB in float32, and keeps them: a second run begins at the compiling. Each step is a process
of its own, and prints its seconds and the most memory that it held.
"""

import os
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
from PIL import Image

CLI = (sys.executable, "-m", "pidsampler")
KIND = ["--backbone", "sdxl", "--type", "2kto4k", "--target", "onnx", "--dtype", "float32", "--random-weights", "0"]
SIDE = 256  # pixels of the result
CHECK = "import sys, onnx; onnx.checker.check_model(sys.argv[1], full_check=True)"
PHOTO = Path(__file__).parents[1] / "examples/chameleon.jpg"


def step(name, *command):
    """Run a command, and print what it took."""
    begin = time.perf_counter()
    _, status, used = os.wait4(subprocess.Popen(command).pid, 0)
    if status:
        sys.exit(f"{name} failed")
    print(f"{name:24} {time.perf_counter() - begin:7.1f} s {used.ru_maxrss / 1e6:7.2f} GB", flush=True)


def measure(folder):
    """Make the model where it is not there, and measure its graph."""
    model, size = folder / "model", ("--size", f"{SIDE}x{SIDE}", "--quiet")
    if not (model / "pid_upscaler.onnx").is_file():
        step("export", *CLI, "export", *KIND, *size, "-o", model)
    sampler, compiled = model / "sampler.onnx", (*CLI, "compile", model, *size, "--output-type", "float32")
    step("compile, copying", *compiled, "--overwrite", "-o", folder / "sampler.onnx")
    (folder / "sampler.onnx.data").unlink()
    step("compile, in its folder", *compiled, "--overwrite", "-o", sampler)
    step("checker", sys.executable, "-c", CHECK, sampler)
    Image.open(PHOTO).convert("RGB").resize((SIDE // 4, SIDE // 4)).save(folder / "small.png")
    for name, one in (("graph", sampler), ("loop", model)):
        given = ("--model", one, "--seed", "7", "--device", "cpu", "--overwrite", "--quiet")
        step(f"run, {name}", *CLI, "upscale", folder / "small.png", "-o", folder / f"{name}.png", *given)
    graph, loop = (np.asarray(Image.open(folder / f"{name}.png")).astype(int) for name in ("graph", "loop"))
    off = np.abs(graph - loop)
    print(f"{sampler.stat().st_size / 1e6:.2f} MB beside the weights")
    print(f"{(off > 0).mean():.4%} of values differ from the loop's, by {off.max()} levels at most")


if __name__ == "__main__":
    measure(Path(sys.argv[1]))
