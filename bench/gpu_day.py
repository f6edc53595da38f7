"""All that a borrowed card can tell about this project, in two parts of under ten minutes each.

    python bench/gpu_day.py A                   facts, smoke, doctor, pytest -m gpu, rows, small pictures, floors
    python bench/gpu_day.py B                   PiD's network, small and full, compute-sanitizer, ncu, peers
    python bench/gpu_day.py A --dry-run         each step, small, up to its first CUDA call: any card is hidden from it
    python bench/gpu_day.py A --device cpu      what needs no card, at small sizes: to test this script

Each step is a process with a time limit; one that fails or is stopped does not stop the others. Nothing is installed.
`--output` (default: $OUT, or ./gpu-day) receives gpu-day-A-DATE.json, with a row for each result and each step, to be
put into bench/results/; and log-A.txt, rows.csv of `pidsampler bench`, and ncu.csv, which are appended to. `--pid DIR`
times PiD's public PyTorch network too, from a checkout of github.com/nv-tlabs/PiD. The measurements are commands too,
which print a line of JSON for each result, errors included:

    python bench/gpu_day.py facts | smoke [FOLDER...] | tiny | full FOLDER [SIDE] | public DIR [SIDE] | floors | steps
                            | runs
"""

import argparse
import glob
import importlib.util
import json
import math
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from importlib.metadata import distributions
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
LIMIT = 580.0  # seconds of a part
GRACE = 3.0  # seconds between asking a process to stop and killing it
LEAST = 1.0  # a step with fewer seconds left is not begun
OVER = 124  # the exit code of a step that ran over its limit, as of timeout(1)
INTERRUPTED = "interrupted"

TESTS = (
    "tests/backends/test_gpu.py",
    "tests/backends/test_cupy.py",
    "tests/upscale/test_tiles.py",
    "tests/image/test_color.py",
    "tests/image/test_size.py",
    "tests/bench/test_bench.py",
)
KERNEL = "pid_step"
METRICS = (
    "gpu__time_duration.sum",
    "dram__bytes.sum",
    "dram__throughput.avg.pct_of_peak_sustained_elapsed",
    "smsp__inst_executed.sum",
    "smsp__issue_active.avg.pct_of_peak_sustained_active",
    "sm__warps_active.avg.pct_of_peak_sustained_active",
    "launch__registers_per_thread",
    "launch__grid_size",
)
SMOKE_SPECS = ("flow-sde", "flow-ode", "dpmpp-2m@uniform:5", "sa-solver@uniform:5", "seeds-3@uniform:4")
RUN_SPECS = ("flow-sde@uniform:3", "sa-solver@uniform:3", "seeds-3@uniform:3", "rk4@uniform:3")
QUERY = ("name", "driver_version", "memory.total", "clocks.max.sm", "power.limit")
PACKAGES = re.compile(  # whose versions are said
    r"(numpy|ml.dtypes|cupy|onnxruntime|onnx-ir|torch$|triton$|diffusers$|pytest$|"
    r"nvidia-(cudnn|cublas|cuda-nvrtc|cuda-runtime))"
)

# What the first call of CUDA says where there is no card, or no package that would make one.
_NO_CUDA = re.compile(
    r"no GPU can be used|install NVIDIA's driver|cupy is not installed|No module named '(cupy|torch)|No CUDA GPUs|"
    r"not compiled with CUDA|NVIDIA driver on your system|cuda(13|12)\]"
)
_FAILING = re.compile(r"^(FAILED|ERROR) ")
_SUMMARY = re.compile(r"\d+ (passed|failed|skipped|errors?|deselected|tests? collected)\b")
_SHOWN = 300  # characters of a line


# ---- the steps of a part


@dataclass(frozen=True)
class Step:
    """A command of a part.

    Args:
        name: As in the table.
        seconds: Its limit.
        command: Program and arguments.
        environment: Variables that it has beside the part's.
        shown: How many of its last lines are printed.
        fine: The exit codes that are no failure.
        skipped: Why it is not run here; nothing where it is.
    """

    name: str
    seconds: float
    command: list[str]
    environment: Mapping[str, str] = field(default_factory=dict)
    shown: int = 6
    fine: tuple[int, ...] = (0,)
    skipped: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of a step: its exit code, None where it was not run, the seconds it took, and a remark."""

    step: Step
    code: int | None
    seconds: float
    note: str = ""

    @property
    def failed(self) -> bool:
        """Whether it was run and went wrong, or was left out for want of time."""
        return self.code not in self.step.fine if self.code is not None else not self.step.skipped


def steps_of(
    part: str, device: str, output: Path, scratch: Path, *, small: bool = False, pid: Path | None = None
) -> list[Step]:
    """Return the steps of part "A" or "B".

    Args:
        part: Its name.
        device: "cuda", or "cpu" for small sizes and without what needs a card.
        output: The folder for tables that the steps write themselves.
        scratch: A folder for models.
        small: Whether networks are reduced ones; on the CPU they are.
        pid: A checkout of PiD's public code, for part B.
    """
    if part == "A":
        return _first(device, output)
    return _second(device, output, scratch, small or device == "cpu", pid)


def _own(device: str, *words: object) -> list[str]:
    return [sys.executable, str(ROOT / "bench" / "gpu_day.py"), *map(str, words), "--device", device]


def _cli(*words: object) -> list[str]:
    return [sys.executable, "-m", "pidsampler", *map(str, words)]


def _bench(device: str, output: Path, sizes: str, dtype: str, *words: str) -> list[str]:
    small = ["--sizes", "64", "--quick"] if device == "cpu" else ["--sizes", sizes, "--dtype", dtype]
    return _cli("bench", "--device", device, "-o", output / "rows.csv", *small, *words)


def _needs(device: str, tool: str = "") -> str:
    """Return why a step that needs a card, and perhaps a tool, is skipped; nothing where it is not."""
    if device == "cpu":
        return "needs a card"
    return f"{tool} is not installed" if tool and shutil.which(tool) is None else ""


def _first(device: str, output: Path) -> list[Step]:
    # The project's own "error" would turn any warning of the libraries on a borrowed machine into a failure.
    tests = [sys.executable, "-m", "pytest", "-m", "gpu", "-q", "-rfE", "-n", "0", "-p", "no:cacheprovider"]
    # One that lacks a package does not stop the others.
    tests += ["-W", "default", "--durations=8", "-k", "not sanitizer", "--continue-on-collection-errors"]
    if importlib.util.find_spec("pytest_timeout"):
        tests.append("--timeout=120")
    if device == "cpu":
        tests.append("--collect-only")
    several, few = "flow-*,dpmpp-2m,sa-solver*", "flow-ode,flow-sde,flow-sde without noise"
    four = "float32,float16,bfloat16,float32/bfloat16"
    sides = "16,32" if device == "cpu" else "256,512,1024"
    return [
        Step("facts", 30, _own(device, "facts")),
        Step("smoke", 90, _own(device, "smoke"), shown=12),
        Step("doctor", 60, _cli("doctor", "--device", device), shown=4),
        Step("pytest -m gpu", 240, [*tests, *TESTS], shown=4 if device == "cpu" else 45),
        Step("rows 4096", 90, _bench(device, output, "4096", four, "--peers", "none", "--variants", several), shown=30),
        Step(
            "rows 1024, 2048",
            60,
            _bench(device, output, "1024,2048", "float32,bfloat16", "--peers", "none", "--variants", few),
            shown=8,
        ),
        Step("tiny", 60, _own(device, "tiny", "--sides", sides), shown=4),
        Step("floors", 60, _own(device, "floors"), shown=14, skipped=_needs(device)),
    ]


def _second(device: str, output: Path, scratch: Path, few: bool, pid: Path | None) -> list[Step]:
    reduced, full, other = scratch / "reduced", scratch / "full", scratch / "full-any-card"
    cpu = device == "cpu"
    random = _cli("export", "--random-weights", "0", "--quiet", "--overwrite")
    target = ["--target", "ort-cpu" if cpu else "ort-cuda-sm90"]
    side = 256 if few else 2048
    large = ["--backbone", "flux", "--type", "2kto4k_v1pt5", "--size", f"{side}x{side}", *(["--reduced"] * few)]
    small = ["--backbone", "sdxl", "--type", "2kto4k", "--reduced"]
    any_card = ["--target", "ort-cuda", "--dtype", "float32" if cpu else "bfloat16"]  # the other form of attention
    watched = _own(device, "runs")
    sanitizer = "compute-sanitizer"
    profiler = ["ncu", "--clock-control", "none", "-k", f"regex:{KERNEL}", "--csv", "--log-file"]
    profiler += [str(output / "ncu.csv"), "--metrics", ",".join(METRICS)]
    measured = _own(device, "full", full, side)
    return [
        Step("facts", 30, _own(device, "facts")),
        Step("export reduced", 60, [*random, *small, *target, "-o", str(reduced)]),
        Step("smoke reduced", 60, _own(device, "smoke", reduced), shown=4),
        Step("export full", 150, [*random, *large, *target, "-o", str(full)]),
        Step("full", 90, measured, shown=7),
        Step(
            "full, no cuDNN attention",
            60,
            measured,
            {"ORT_ENABLE_CUDNN_FLASH_ATTENTION": "0"},
            shown=3,
            skipped=_needs(device),
        ),
        *(
            Step(
                f"sanitizer {tool}",
                60,
                [sanitizer, "--tool", tool, "--report-api-errors", "no", "--error-exitcode", "9", *watched],
                shown=4,
                skipped=_needs(device, sanitizer),
            )
            for tool in ("memcheck", "initcheck")
        ),
        Step("ncu", 60, [*profiler, *_own(device, "steps")], shown=3, skipped=_needs(device, "ncu")),
        Step(
            "peers 2048",
            90,
            _bench(device, output, "2048", "float32,bfloat16", "--variants", "flow-ode,flow-sde"),
            shown=20,
        ),
        Step("export full, any card", 120, [*random, *large, *any_card, "-o", str(other)]),
        Step("full, any card", 60, _own(device, "full", other, side), shown=3),
        Step(
            "full, PiD's own code",
            90,
            _own(device, "public", pid or "PiD", side, *(["--reduced"] * few)),
            shown=4,
            skipped="" if pid else "no --pid",
        ),
    ]


# ---- running them


def run_part(
    part: str,
    steps: Sequence[Step],
    output: Path,
    limit: float = LIMIT,
    known: Mapping[str, Any] | None = None,
    *,
    dry: Sequence[Step] = (),
) -> list[Outcome]:
    """Run the steps in turn, never past the limit; print the last lines of each, and a table at the end.

    Args:
        part: Its name, in the names of the files.
        steps: What to run. One may print a line {"facts": {...}}, which every row from then on carries.
        output: The folder for the log and the results, made if it is not there.
        limit: Seconds for all steps.
        known: Facts that count where a step does not say them.
        dry: The steps that these stand for in a dry run, to be said. Any card is hidden from the steps then, and one
            that ends at its first CUDA call has not failed.

    Returns:
        What came of each step that was reached: all of them, unless Ctrl-C or SIGTERM came.
    """
    end = time.monotonic() + limit
    output.mkdir(parents=True, exist_ok=True)
    known = known or {}
    facts: dict[str, Any] = {**known}
    outcomes, printed, tests = [], [], []
    results = output / f"{'dry-run' if dry else 'gpu-day'}-{part}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    rows: list[dict[str, Any]] = []
    with (output / f"log-{part}.txt").open("a+b") as log:
        for k, step in enumerate(steps):
            would = f" would, in {step.seconds:.0f} s, run {_typed(dry[k])}" if dry else ""
            print(f"\n===== {step.name}{would}", flush=True)
            log.write(f"\n===== {step.name}: {shlex.join(step.command)}\n".encode())
            log.flush()
            begin = log.seek(0, os.SEEK_END)
            outcome = _run(replace(step, environment={**step.environment, **_HIDDEN}) if dry else step, end, log)
            log.seek(begin)
            lines = log.read().decode(errors="replace").splitlines()
            if dry:
                outcome = _without_cuda(step, outcome, lines)
            outcomes.append(outcome)
            for line in [*lines[-step.shown :], *([outcome.note] if outcome.note else [])]:
                print(line[:_SHOWN])
            found = list(_json_rows(lines))
            for row in found:
                facts |= row.get("facts", {})
            facts |= {name: value for name, value in known.items() if not facts.get(name)}
            tested = _tested(lines) if "pytest" in step.command else {}
            summary = {**tested, "exit": outcome.code, "seconds": round(outcome.seconds, 1)}
            summary |= {"limit_s": step.seconds, "command": _portable(step.command, output)}
            if outcome.note:
                summary["note"] = outcome.note
            where = {"part": part, "step": step.name, **({"environment": step.environment} if step.environment else {})}
            rows += [{**where, **row, **facts} for row in [*(row for row in found if "facts" not in row), summary]]
            # Each time anew and whole: whoever stops this has what was found until then.
            results.write_text("[\n" + ",\n".join(map(json.dumps, rows)) + "\n]\n")
            printed += [row for row in found if "facts" not in row]
            tests += [*tested.get("failing", []), *([tested["tests"]] if tested.get("tests") else [])]
            if outcome.note == INTERRUPTED:
                break
    _print_end(part, outcomes, tests, printed)
    print(f"results: {results}", flush=True)
    return outcomes


_HIDDEN = {"CUDA_VISIBLE_DEVICES": ""}


def _without_cuda(step: Step, outcome: Outcome, lines: Sequence[str]) -> Outcome:
    """Return what a step came to from which any card was hidden: it has not failed if CUDA is all that it lacked."""
    if not outcome.failed:
        return outcome
    errors = [row["error"] for row in _json_rows(lines) if "failed" in row]
    found = errors or [line for line in lines if line.strip()][-1:]
    if found and all(map(_NO_CUDA.search, found)) and outcome.code not in (None, OVER):
        return replace(outcome, step=replace(step, fine=(outcome.code,)), note="goes as far as its first CUDA call")
    return outcome


def _typed(step: Step) -> str:
    return "".join(f"{name}={value} " for name, value in step.environment.items()) + shlex.join(step.command)


def _run(step: Step, end: float, log: BinaryIO) -> Outcome:
    """Run one step and all that it starts, until its limit or as long before the end as stopping it may take."""
    most = min(step.seconds, end - time.monotonic() - 2 * GRACE)
    if step.skipped:
        return Outcome(step, None, 0.0, f"skipped: {step.skipped}")
    if most < LEAST:
        return Outcome(step, None, 0.0, "skipped: no time is left")
    began = time.monotonic()
    try:
        process = subprocess.Popen(
            step.command,
            cwd=ROOT,
            env=_environment(step.environment),
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    except OSError as error:
        return Outcome(step, 127, 0.0, f"cannot be started: {error}")
    note = ""
    try:
        code = process.wait(most)
    except subprocess.TimeoutExpired:
        code, note = OVER, f"stopped after {most:.0f} s"
        _signal(process, signal.SIGINT)  # pytest then tells what it has found so far
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    except KeyboardInterrupt:
        code, note = -signal.SIGINT, INTERRUPTED
    finally:
        _signal(process, signal.SIGKILL)  # whatever of its group is left
        with suppress(subprocess.TimeoutExpired):
            process.wait(GRACE)
    return Outcome(step, code, time.monotonic() - began, note)


def _signal(process: subprocess.Popen[bytes], number: int) -> None:
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return the variables of a step: this checkout is what it imports, CUDA's libraries those of NVIDIA's wheels."""
    spec = importlib.util.find_spec("nvidia")
    places = list(spec.submodule_search_locations or []) if spec else []
    libraries = sorted(name for place in places for name in glob.glob(f"{glob.escape(place)}/*/lib"))
    found = {**os.environ, "PYTHONUNBUFFERED": "1"}
    for name, first in (("PYTHONPATH", [str(ROOT)]), ("LD_LIBRARY_PATH", libraries)):
        paths = [*first, *filter(None, [os.environ.get(name)])]
        if paths:
            found[name] = os.pathsep.join(paths)
    return {**found, **more}


def _json_rows(lines: Sequence[str]) -> Iterator[dict[str, Any]]:
    for line in lines:
        if line.startswith('{"'):
            with suppress(json.JSONDecodeError):
                yield json.loads(line)


def _tested(lines: Sequence[str]) -> dict[str, Any]:
    """Return pytest's last line of counts, and the lines of what failed."""
    counts = [line.strip("= ") for line in lines if _SUMMARY.search(line) and not _FAILING.match(line)]
    return {"tests": counts[-1] if counts else "", "failing": [line for line in lines if _FAILING.match(line)]}


def _portable(command: Sequence[str], output: Path) -> str:
    """Return a command as text without this machine's folders."""
    text = shlex.join(command).replace(sys.executable, "python").replace(f"{ROOT}/", "").replace(f"{output}/", "")
    return re.sub(r"\S*/gpu-day-\w+/", "", text)


def _print_end(part: str, outcomes: Sequence[Outcome], tests: Sequence[str], rows: Sequence[Mapping[str, Any]]) -> None:
    print(f"\n===== part {part}, {sum(outcome.seconds for outcome in outcomes):.0f} s")
    print(f"{'step':26} {'exit':>4} {'s':>6}")
    for outcome in outcomes:
        code = "-" if outcome.code is None else outcome.code
        print(f"{outcome.step.name:26} {code:>4} {outcome.seconds:6.1f}  {outcome.note}".rstrip())
    for line in [*tests[-40:], *map(json.dumps, rows)]:
        print(line[:_SHOWN])
    sys.stdout.flush()


# ---- what is measured: each prints its results


def say(**row: Any) -> None:
    """Print a result."""
    print(json.dumps(row), flush=True)


def attempted(what: Callable[..., bool | None], *arguments: Any) -> bool:
    """Call a measurement, and return whether it went well; an error is a result too."""
    try:
        return what(*arguments) is not False
    except (Exception, KeyboardInterrupt) as error:
        given = [Path(a).name if isinstance(a, str | Path) else a for a in arguments]
        say(failed=what.__name__.strip("_"), arguments=given, error=f"{type(error).__name__}: {str(error)[:600]}")
        if isinstance(error, KeyboardInterrupt):
            raise
        traceback.print_exc(limit=8)
        return False


def facts(device: str) -> bool:
    """Say what the results are true of: the card, its driver, versions, and the commit."""
    found: dict[str, Any] = {"on": device}
    if device == "cuda":
        query = ["nvidia-smi", f"--query-gpu={','.join(QUERY)}", "--format=csv,noheader,nounits", "-i", "0"]
        try:
            answer = subprocess.run(query, capture_output=True, text=True, check=True).stdout
            names = ("gpu", "driver", "gpu_mib", "max_sm_mhz", "power_limit_w")
            found |= dict(zip(names, (word.strip() for word in answer.split(",")), strict=False))
        except (OSError, subprocess.CalledProcessError) as error:
            found |= {"gpu": None, "driver": None, "gpu_error": str(error)[:200]}
    packages = {one.metadata["Name"]: one.version for one in distributions()}
    versions = {name: packages[name] for name in sorted(filter(None, packages)) if PACKAGES.match(name)}
    try:
        from pidsampler.backends import get_backend
        from pidsampler.bench.rows import machine

        host = machine(get_backend("numpy"))
        found |= {"cpu": host["device"], "cores": host["cores"], "python": host["python"]}
        found |= {"commit": host["commit"], "date": host["date"]}
        versions |= {"pidsampler": host["pidsampler"]}
        return True
    finally:  # the card is told even where the package cannot be imported
        say(facts={**found, "versions": versions})
        tools = [name for name in ("g++", "nvcc", "ncu", "compute-sanitizer") if shutil.which(name)]
        say(tools=tools)


def backend_name(device: str) -> str:
    """Return the name of a device's backend."""
    return "cupy" if device == "cuda" else "numpy"


def on_host(x: Any) -> np.ndarray[Any, Any]:
    """Return an array of any backend in host memory."""
    return np.asarray(x.get() if hasattr(x, "get") else x)


def apart(found: Any, expected: Any) -> float | None:
    """Return the largest difference of two arrays, None where it is no finite number."""
    worst = float(np.abs(on_host(found).astype(np.float64) - on_host(expected).astype(np.float64)).max())
    return worst if math.isfinite(worst) else None


def check(name: str, worst: float | None, bar: float, **more: Any) -> bool:
    """Say how far something is off beside how far it may be, and return whether it is within that."""
    fine = worst is not None and worst <= bar
    say(check=name, worst=worst, bar=bar, ok=fine, **more)
    return fine


def random_picture(side: int) -> np.ndarray[Any, Any]:
    """Return a square picture of noise."""
    return np.random.default_rng(0).integers(0, 256, (side, side, 3), np.uint8)


def used_gb(device: str) -> float | None:
    """Return the memory that is taken on the card by whomever, or by this process on the CPU."""
    from pidsampler.backends import get_backend

    held = get_backend(backend_name(device)).held_memory()
    return None if held is None else round(held / 1e9, 2)


def smoke(device: str, folders: Sequence[str]) -> bool:
    """Check the kernels against numpy, and that pictures come out: of the bundled model, and of those in folders."""
    fine = [attempted(_kernels, device), attempted(_upscale, device, "tiny", 32)]
    fine += [attempted(_upscale, device, folder, 64) for folder in folders]
    return all(fine)


def _kernels(device: str) -> bool:
    import ml_dtypes

    from pidsampler import get_scheduler, sample
    from pidsampler.backends import get_backend

    name = backend_name(device)
    backend = get_backend(name)
    x, expected = backend.empty((1, 3, 301, 303), np.float32), np.empty((1, 3, 301, 303), np.float32)
    began = time.perf_counter()
    backend.noise(x, [5], draw=0)
    backend.synchronize()
    first = round(time.perf_counter() - began, 3)
    get_backend("numpy").noise(expected, [5], draw=0)
    fine = [check("noise", apart(x, expected), 2e-6, first_launch_s=first)]
    for spec in SMOKE_SPECS:
        scheduler = get_scheduler(spec)
        one, other = (sample(_half, scheduler, shape=(2, 3, 64, 65), seed=3, backend=b) for b in (name, "numpy"))
        fine.append(check(spec, apart(one, other), 3e-5))
    if ml_dtypes.bfloat16 in backend.state_types:
        scheduler = get_scheduler("flow-sde")
        state = sample(_half, scheduler, shape=(1, 3, 64, 64), backend=name, dtype=ml_dtypes.bfloat16)
        whole = sample(_half, scheduler, shape=(1, 3, 64, 64), backend="numpy")
        fine.append(check("flow-sde in bfloat16", apart(state, whole), 0.1, dtype=str(state.dtype)))
    return all(fine)


def _half(x: Any, t: float) -> Any:
    return 0.5 * x


def _upscale(device: str, model: str, side: int) -> bool:
    from pidsampler import Upscaler

    began = time.perf_counter()
    up = Upscaler.load(model, device)
    loaded = round(time.perf_counter() - began, 2)
    picture = random_picture(side)
    array = up(picture, seed=1).array
    more = {"shape": array.shape, "load_s": loaded, "used_gb": used_gb(device)}
    if model == "tiny":
        return check("upscale by tiny", apart(array, Upscaler.load(model, "cpu")(picture, seed=1).array), 2, **more)
    say(check=f"upscale by {Path(model).name}", ok=True, **more)
    return True


def tiny(device: str, sides: Sequence[int]) -> bool:
    """Time pictures of the bundled model, the first and the median of the others, from array to array."""
    fine = [attempted(_tiny, device, side) for side in sides]
    return all(fine)


def _tiny(device: str, side: int) -> None:
    from pidsampler import Upscaler

    up, picture = Upscaler.load("tiny", device), random_picture(side)
    first, *others = [_seconds(lambda: up(picture, seed=1)) for _ in range(6)]
    median = round(float(np.median(others)), 4)
    say(upscale="tiny", side=4 * side, first_s=round(first, 4), median_s=median, n=len(others), used_gb=used_gb(device))


def _seconds(call: Callable[[], object]) -> float:
    began = time.perf_counter()
    call()
    return time.perf_counter() - began


def full(device: str, folder: str, side: int) -> bool:
    """Time pictures of a model folder and the parts of each, then pictures without waiting after each part."""
    return attempted(_full, device, folder, side)


def _full(device: str, folder: str, side: int) -> None:
    from pidsampler import PidSamplerError, Run, Upscaler
    from pidsampler.backends import get_backend
    from pidsampler.errors import OutOfMemoryError

    name, backend = Path(folder).name, get_backend(backend_name(device))
    began = time.perf_counter()
    up = Upscaler.load(folder, device)
    say(full=name, load_s=round(time.perf_counter() - began, 2), used_gb=used_gb(device))
    picture = random_picture(side // up.model.contract.scale)

    def made(seed: int, on_step: Callable[[Run, Any], object] | None = None) -> dict[str, str]:
        try:
            up(picture, seed=seed, on_step=on_step)
        except OutOfMemoryError:
            raise
        except PidSamplerError as error:  # random weights may overflow at the end: the times are true all the same
            return {"error": str(error)[:_SHOWN]}
        return {}

    for seed in range(4):
        stamps = [("", time.perf_counter())]

        def seen(run: Run, m: Any, stamps: list[tuple[str, float]] = stamps) -> None:
            backend.synchronize()
            stamps.append((f"network {run.index}", time.perf_counter()))

        trouble = made(seed, seen)
        stamps.append(("end", time.perf_counter()))
        times = [at for _, at in stamps]
        parts = {what: round(at - times[i], 4) for i, (what, at) in enumerate(stamps[1:])}
        total = round(times[-1] - times[0], 4)
        say(full=name, side=side, run=seed, total_s=total, parts_s=parts, used_gb=used_gb(device), **trouble)
    _, *others = [_seconds(lambda: made(1)) for _ in range(4)]
    say(full=name, side=side, without_waiting_s=round(float(np.median(others)), 4), n=len(others))


def public(device: str, checkout: str, side: int, reduced: bool) -> bool:
    """Time a call of PiD's public PyTorch network with random weights: as it is, and by torch.compile."""
    return attempted(_public, device, checkout, side, reduced)


def _public(device: str, checkout: str, side: int, reduced: bool) -> None:
    import torch

    from pidsampler.export.published import get_published

    path = ROOT / "tests" / "parity" / "pid_network_numbers.py"
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    numbers = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(numbers)
    a = get_published("flux", "2kto4k_v1pt5").architecture
    a = a.reduced() if reduced else a
    dtype = torch.bfloat16 if device == "cuda" else torch.float32
    small = side // (a.scale * a.latent_factor)
    with torch.device(device), torch.inference_mode():
        network = numbers.network(Path(checkout), a).to(dtype).eval()
        x, latent = torch.randn(1, 3, side, side, dtype=dtype), torch.randn(1, a.latent_channels, small, small)
        caption, t, sigma = (
            torch.zeros(1, a.text_length, a.text_width, dtype=dtype),
            torch.full((1,), 500.0),
            torch.zeros(1),
        )

        def call(run: Callable[..., Any]) -> None:
            with torch.autocast(device, dtype=dtype, enabled=device == "cuda"):  # as PiD's own sampler calls it
                run(x, t.to(dtype), caption, lq_latent=latent.to(dtype), degrade_sigma=sigma.to(dtype))
            if device == "cuda":
                torch.cuda.synchronize()

        for by, run in (("eager", network), ("torch.compile", torch.compile(network))):
            first, *others = [_seconds(lambda run=run: call(run)) for _ in range(5)]
            median = round(float(np.median(others)), 4)
            say(public=by, side=side, first_s=round(first, 2), call_s=median, n=len(others), torch=torch.__version__)


def floors(device: str) -> bool:
    """Say what the card itself can do, by PyTorch: a copy, and products and attention of the network's shapes."""
    fine = [attempted(_floor_copy)]
    tokens = 16384  # of 2048x2048
    for inner, outer in ((1536, 1536), (1536, 4608), (1536, 4096), (4096, 1536)):
        fine.append(attempted(_floor_product, tokens, inner, outer))
    for heads, width, count in ((24, 64, tokens + 300), (16, 72, tokens)):
        for kind in ("CUDNN_ATTENTION", "FLASH_ATTENTION", "EFFICIENT_ATTENTION"):
            fine.append(attempted(_floor_attention, heads, width, count, kind))
    return all(fine)


def _per_second(call: Callable[[], object], work: float, rounds: int = 20) -> float:
    """Return how much work, in units of 1e12, a call does in a second on the card."""
    import torch

    for _ in range(3):
        call()
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    torch.cuda.synchronize()
    begin.record()
    for _ in range(rounds):
        call()
    end.record()
    torch.cuda.synchronize()
    return float(round(work * rounds / (begin.elapsed_time(end) / 1e3) / 1e12, 2))


def _floor_copy() -> None:
    import torch

    source = torch.randn(1 << 28, device="cuda")
    target = torch.empty_like(source)
    speed = _per_second(lambda: target.copy_(source), 2.0 * source.nbytes)
    say(floor="copy of 1 GiB", tb_s=speed, torch=torch.__version__, cudnn=torch.backends.cudnn.version())


def _floor_product(rows: int, inner: int, columns: int) -> None:
    import torch

    x = torch.randn(rows, inner, device="cuda", dtype=torch.bfloat16)
    w = torch.randn(inner, columns, device="cuda", dtype=torch.bfloat16)
    say(floor=f"product {rows}x{inner}x{columns}", tflop_s=_per_second(lambda: x @ w, 2.0 * rows * inner * columns))


def _floor_attention(heads: int, width: int, tokens: int, kind: str) -> None:
    import torch
    from torch.nn.attention import SDPBackend, sdpa_kernel

    shape = (1, heads, tokens, width)
    q, k, v = (torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    attention = torch.nn.functional.scaled_dot_product_attention
    try:
        with sdpa_kernel(getattr(SDPBackend, kind)):
            speed = _per_second(lambda: attention(q, k, v), 4.0 * heads * tokens**2 * width, 5)
    except RuntimeError as error:  # not every kind takes every shape: no failure
        say(floor=f"attention {heads}x{width}", tokens=tokens, by=kind, error=str(error)[:120])
        return
    say(floor=f"attention {heads}x{width}", tokens=tokens, by=kind, tflop_s=speed)


def steps(device: str, side: int) -> bool:
    """Launch rows of a table for a profiler to look at: the first and the last, each twice, the second time warm."""
    return attempted(_steps, device, side)


def _steps(device: str, side: int) -> None:
    import ml_dtypes

    from pidsampler import FlowSDE, timesteps
    from pidsampler.backends import get_backend

    backend = get_backend(backend_name(device))
    rows = FlowSDE(timesteps.pid()).table().rows
    half, brain = np.float16, ml_dtypes.bfloat16
    pairs = [(np.float32, np.float32), (half, half), (brain, brain), (np.float32, brain)]
    launches = 0
    for x_type, m_type in pairs:
        if x_type not in backend.state_types:
            continue
        x, m = (backend.empty((1, 3, side, side), dtype) for dtype in (x_type, m_type))
        for array, seed in ((x, 1), (m, 2)):
            backend.noise(array, [seed], draw=0)
        for row in (rows[0], rows[0], rows[-1], rows[-1]):
            backend.step(row, x, m=m, saved=[], seeds=[7])
            launches += 1
        backend.synchronize()
        del x, m
    say(steps=launches, side=side)


def runs(device: str) -> bool:
    """Sample small batches of several kinds, for compute-sanitizer to watch."""
    return attempted(_runs, device)


def _runs(device: str) -> None:
    from pidsampler import get_scheduler, sample

    for spec in RUN_SPECS:
        for shape in ((1, 3, 32, 32), (2, 3, 7, 9)):
            on_host(sample(_half, get_scheduler(spec), shape=shape, backend=backend_name(device)))
    say(runs=len(RUN_SPECS))


# ---- the command line


def parser() -> argparse.ArgumentParser:
    """Return the parser of the command line."""
    found = argparse.ArgumentParser(
        prog="gpu_day.py", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = found.add_subparsers(dest="command", metavar="COMMAND", required=True)

    def command(name: str, text: str) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.add_argument("--device", choices=("cuda", "cpu"), default="cuda", help="default: %(default)s")
        return sub

    for part, text in (("A", "facts, smoke, tests, rows, floors"), ("B", "PiD's network, sanitizer, ncu, peers")):
        sub = command(part, text)
        sub.add_argument(
            "--limit", type=float, default=LIMIT, metavar="S", help="seconds in all (default: %(default)s)"
        )
        sub.add_argument("--output", type=Path, metavar="DIR", help="for log and results (default: $OUT or ./gpu-day)")
        sub.add_argument("--commit", metavar="TEXT", help="said in the rows where the checkout does not know it")
        sub.add_argument("--pid", type=Path, metavar="DIR", help="checkout of nv-tlabs/PiD, whose network is timed too")
        sub.add_argument("--dry-run", action="store_true", help="run each step, small, up to its first CUDA call")
    command("facts", "the card, its driver, and versions")
    command("smoke", "kernels against numpy, and a picture").add_argument("folders", nargs="*", metavar="FOLDER")
    sides = command("tiny", "times of the bundled model")
    sides.add_argument("--sides", type=_numbers, default=[256, 512, 1024], metavar="N,...", help="of the inputs")
    sub = command("full", "times of a model folder, by parts")
    sub.add_argument("folder", metavar="FOLDER")
    sub.add_argument(
        "side", nargs="?", type=int, default=2048, metavar="SIDE", help="of results (default: %(default)s)"
    )
    sub = command("public", "times of PiD's public PyTorch network")
    sub.add_argument("checkout", metavar="DIR")
    sub.add_argument("side", nargs="?", type=int, default=2048, metavar="SIDE", help="default: %(default)s")
    sub.add_argument("--reduced", action="store_true", help="a small network of the same form")
    command("floors", "what the card itself can do")
    command("steps", "rows for a profiler").add_argument("--side", type=int, default=4096, help="default: %(default)s")
    command("runs", "small runs for compute-sanitizer")
    return found


def _numbers(text: str) -> list[int]:
    return [int(word) for word in text.split(",")]


def main(words: Sequence[str] | None = None) -> int:
    """Run a command line, and return its exit code: 0 where all went well, else 1; 130 after Ctrl-C."""
    given = parser().parse_args(words)
    call: dict[str, Callable[[], bool]] = {
        "A": lambda: part(given),
        "B": lambda: part(given),
        "facts": lambda: attempted(facts, given.device),
        "smoke": lambda: smoke(given.device, given.folders),
        "tiny": lambda: tiny(given.device, given.sides),
        "full": lambda: full(given.device, given.folder, given.side),
        "public": lambda: public(given.device, given.checkout, given.side, given.reduced),
        "floors": lambda: floors(given.device),
        "steps": lambda: steps(given.device, given.side),
        "runs": lambda: runs(given.device),
    }
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # what was started is stopped then, too
    try:
        return 0 if call[given.command]() else 1
    except KeyboardInterrupt:
        return 130


def part(given: argparse.Namespace) -> bool:
    """Run a part, and return whether all that was run went well."""
    output = (given.output or Path(os.environ.get("OUT") or "gpu-day")).resolve()
    with tempfile.TemporaryDirectory(prefix="gpu-day-", ignore_cleanup_errors=True) as scratch:
        known = {"commit": given.commit} if given.commit else {}
        pid = given.pid and given.pid.resolve()
        listed, small = (
            steps_of(given.command, given.device, output, Path(scratch), small=few, pid=pid) for few in (False, True)
        )
        if given.dry_run:
            outcomes = run_part(given.command, small, output, given.limit, known, dry=listed)
        else:
            outcomes = run_part(given.command, listed, output, given.limit, known)
    if len(outcomes) < len(listed) or outcomes[-1].note == INTERRUPTED:
        raise KeyboardInterrupt
    return not any(outcome.failed for outcome in outcomes)


if __name__ == "__main__":
    sys.exit(main())
