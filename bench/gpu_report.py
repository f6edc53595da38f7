"""Measure the GPU's part of the work, one command, a few minutes: python bench/gpu_report.py [rows.jsonl]

Each row of a table is checked against numpy, then timed by events: median over launches that rotate among buffers of
400 MB in all, so that no cache holds them. Its speed stands beside that of a copy on the same card in the same run, as
a share of it, by the bytes that it must move: x and m in, x out, and each saved tensor read or written. PyTorch's forms
of the same SDE step are timed too where PyTorch is installed, and a whole upscale where onnxruntime has CUDA.
"""

import json
import subprocess
import sys
import time
from pathlib import Path

import ml_dtypes
import numpy as np

import pidsampler as ps
from pidsampler import draws
from pidsampler.backends import get_backend
from pidsampler.backends.kernels import StepVariant

SIDES = (512, 1024, 2048, 4096)
KINDS = {"fp32": np.float32, "fp16": np.float16, "bf16": ml_dtypes.bfloat16}
ROTATED = 400e6  # bytes
T, T_NEXT = 0.866, 0.634
PICTURE = 256  # pixels a side


def rows():
    """Return the rows to time, by name: those of a table that is past its start."""

    def of(spec, change=lambda table: table):
        return change(ps.get_scheduler(spec).table()).rows

    return {
        "flow-ode": of("flow-ode")[1],
        "flow-sde": of("flow-sde")[1],
        "flow-sde, brownian": of("flow-sde", draws.brownian)[1],
        "dpmpp-2m": of("dpmpp-2m@uniform:8")[2],
        "unipc": of("unipc(order=3)@uniform:8")[3],
        "sa-solver": of("sa-solver@uniform:8")[3],
        "seeds-3, last stage": of("seeds-3@uniform:8")[6],
    }


def moved(row, n, x, m):
    """Return the bytes that a row of n elements must move; x and m are the sizes of their elements."""
    v = StepVariant.of(row)
    return n * (m + x * (v.reads_x + 1 + v.slots + v.saves))


def median_ms(cupy, launches, repeats=15):
    """Return the median and the spread (interquartile range) of the time of one of `launches`, in milliseconds."""
    for launch in launches:
        launch()
    stream, times = cupy.cuda.get_current_stream(), []
    for _ in range(repeats):
        begin, end = cupy.cuda.Event(), cupy.cuda.Event()
        begin.record(stream)
        for launch in launches:
            launch()
        end.record(stream)
        end.synchronize()
        times.append(cupy.cuda.get_elapsed_time(begin, end) / len(launches))
    low, middle, high = np.percentile(times, (25, 50, 75))
    return float(middle), float(high - low)


def checked(backend, cupy, row, x, m):
    """Fail unless a row gives what numpy gives, on fresh random numbers."""
    rng = np.random.default_rng(time.time_ns())
    shape = (1, 3, 37, 41)
    state, output, *saved = (rng.normal(size=shape).astype(np.float32) for _ in range(2 + 4))
    arrays = [cupy.asarray(a.astype(kind)) for a, kind in zip([state, output, *saved], [x, m, *[x] * 4], strict=True)]
    plain = [a.get().astype(np.float32) for a in arrays]
    get_backend("numpy").step(row, plain[0], plain[1], plain[2:], [5])
    backend.step(row, arrays[0], arrays[1], arrays[2:], [5])
    tolerance = 3e-5 if x == np.float32 else 16 * float(ml_dtypes.finfo(x).eps)
    assert np.abs(arrays[0].get().astype(np.float32) - plain[0]).max() < tolerance


def step_times(backend, cupy, sides):
    """Yield a result for each row, element type and size, and for the copy that it is compared with."""
    for side in sides:
        n = 3 * side * side
        sets = max(2, min(64, round(ROTATED / (12 * n))))
        blocks = [(cupy.empty(n, np.float32), cupy.ones(n, np.float32)) for _ in range(sets)]
        ms, spread = median_ms(cupy, [lambda a=a, b=b: cupy.copyto(a, b) for a, b in blocks])
        copy = 8 * n / ms / 1e6
        yield {"name": "copy", "side": side, "ms": ms, "iqr_ms": spread, "gb_s": copy}
        del blocks
        for (name, row), (x, m) in (
            (r, k)
            for r in rows().items()
            for k in (("fp32", "fp32"), ("fp32", "fp16"), ("fp16", "fp16"), ("bf16", "bf16"))
        ):
            checked(backend, cupy, row, KINDS[x], KINDS[m])
            v = StepVariant.of(row)

            def tensors(x=x, m=m, v=v, side=side):
                shape = (1, 3, side, side)
                state, output = cupy.zeros(shape, KINDS[x]), cupy.zeros(shape, KINDS[m])
                backend.noise(state, [1], 1)
                backend.noise(output, [2], 2)
                return state, output, [cupy.zeros(shape, KINDS[x]) for _ in range(max(4, v.slots))]

            groups = [tensors() for _ in range(max(2, min(16, sets // 3)))]
            ms, spread = median_ms(cupy, [lambda g=g, row=row: backend.step(row, *g, [7]) for g in groups])
            size = moved(row, n, np.dtype(KINDS[x]).itemsize, np.dtype(KINDS[m]).itemsize)
            speed = size / ms / 1e6
            yield {
                "name": name, "x": x, "m": m, "side": side, "ms": ms, "iqr_ms": spread,
                "bytes": size, "gb_s": speed, "share_of_copy": speed / copy,
            }  # fmt: skip


def torch_times(cupy, sides):
    """Yield PyTorch's times of the flow-sde row in float32: plain, compiled, PiD's x0 in float64, diffusers."""
    try:
        import torch
    except ImportError:
        return
    if not torch.cuda.is_available():
        return

    def plain(x, v):
        return (1 - T_NEXT) * (x - T * v) + T_NEXT * torch.randn_like(x)

    def reference(x, v):
        x0 = (x.double() - T * v.double()).float()
        eps = torch.randn_like(x)
        return (1 - T_NEXT) * x0 + T_NEXT * eps

    steps = {"eager": plain, "compiled": torch.compile(plain), "PiD's reference": reference}
    try:
        from diffusers import FlowMatchEulerDiscreteScheduler
    except ImportError:
        pass
    else:
        scheduler = FlowMatchEulerDiscreteScheduler(stochastic_sampling=True)
        scheduler.set_timesteps(sigmas=[T, T_NEXT], device="cuda")

        def diffusers_step(x, v):
            scheduler._step_index = 0
            return scheduler.step(v, scheduler.timesteps[0], x).prev_sample

        steps["diffusers"] = diffusers_step
    for side in sides:
        x, v = (torch.randn((1, 3, side, side), device="cuda") for _ in range(2))
        for name, step in steps.items():
            with torch.inference_mode():
                ms, spread = median_ms(cupy, [lambda step=step, x=x, v=v: step(x, v)] * 4)
            yield {"name": f"PyTorch, {name}", "side": side, "ms": ms, "iqr_ms": spread, "torch": torch.__version__}


def whole_times(cupy):
    """Yield the time of a whole upscale of a square picture by the bundled model, and of its sampler alone."""
    try:
        up = ps.Upscaler.load("tiny", "cuda")
    except ps.PidSamplerError as error:
        print(f"no whole upscale: {error}")
        return
    picture = np.random.default_rng(0).integers(0, 256, (PICTURE, PICTURE, 3), np.uint8)
    table = ps.FlowSDE(ps.timesteps.pid()).table()

    def nothing(x, t):
        return x

    for name, run in (
        (f"upscale {PICTURE} to {4 * PICTURE}", lambda: up(picture)),
        ("its sampler", lambda: ps.sample(nothing, table, (1, 3, 4 * PICTURE, 4 * PICTURE), backend="cupy")),
    ):
        ms, spread = median_ms(cupy, [run] * 3)
        yield {"name": name, "ms": ms, "iqr_ms": spread}


def machine(cupy):
    """Return what a result is true of."""
    properties = cupy.cuda.runtime.getDeviceProperties(0)
    commit = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    return {
        "gpu": properties["name"].decode(),
        "sm": properties["major"] * 10 + properties["minor"],
        "driver": cupy.cuda.runtime.driverGetVersion(),
        "cuda": cupy.cuda.runtime.runtimeGetVersion(),
        "cupy": cupy.__version__,
        "pidsampler": ps.__version__,
        "commit": commit,
        "date": time.strftime("%Y-%m-%d"),
    }


def main(target=None, sides=SIDES):
    """Print a table, and append the rows to `target`."""
    import cupy

    backend, where, lines = get_backend("cupy"), machine(cupy), []
    with backend.active():
        for times in (step_times(backend, cupy, sides), torch_times(cupy, sides), whole_times(cupy)):
            for result in times:
                lines.append(json.dumps({**result, **where}))
                cells = [result["name"], result.get("x", ""), result.get("m", ""), str(result.get("side", ""))]
                share = f"{result['share_of_copy']:.0%}" if "share_of_copy" in result else ""
                print(f"| {' | '.join(cells)} | {result['ms']:.4f} ms | {result.get('gb_s', 0):.0f} GB/s | {share} |")
    if target is not None:
        with Path(target).open("a") as file:
            file.writelines(line + "\n" for line in lines)


if __name__ == "__main__":
    main(*sys.argv[1:2])
