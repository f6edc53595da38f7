"""bench/gpu_day.py on the CPU: its measurements, the commands of its steps, and what it does when one goes wrong."""

import ast
import importlib
import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pidsampler import get_scheduler
from pidsampler.cli import bench, doctor
from pidsampler.cli import export as export_command
from pidsampler.cli.main import build_parser

SCRIPT = Path("bench/gpu_day.py")
CLI = [sys.executable, "-m", "pidsampler"]
PARTS = [(part, device) for part in "AB" for device in ("cuda", "cpu")]


@pytest.fixture(scope="module", name="day")
def _day(load_script):
    return load_script(SCRIPT)


@pytest.fixture(name="commands")
def _commands(day, tmp_path):
    """The words of all steps of the commands that begin like this."""

    def chosen(device, *begin):
        steps = [step for part in "AB" for step in day.steps_of(part, device, tmp_path, tmp_path)]
        return [step.command[len(begin) :] for step in steps if step.command[: len(begin)] == list(begin)]

    return chosen


def rows_of(text):
    return [json.loads(line) for line in text.splitlines()]


@pytest.mark.parametrize("words", [["smoke"], ["tiny", "--sides", "8,16"], ["steps", "--side", "16"], ["runs"]])
def test_measurements_on_the_cpu(repository, words):
    command = [sys.executable, repository / SCRIPT, *words, "--device", "cpu"]
    environment = {**os.environ, "PYTHONPATH": str(repository)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    rows = rows_of(done.stdout)
    assert rows
    assert not any("failed" in row for row in rows)
    assert all(row.get("ok", True) for row in rows)
    if words[0] == "smoke":
        assert {row["check"] for row in rows} >= {"noise", "flow-sde", "upscale by tiny"}
    if words[0] == "tiny":
        assert [row["side"] for row in rows] == [32, 64]


@pytest.mark.skipif(shutil.which("g++") is None, reason="no g++ to run the kernels with")
def test_measurements_of_kernels_on_a_stand_in_for_a_card(day, cupy, monkeypatch, capsys):
    monkeypatch.setattr(day, "SMOKE_SPECS", day.SMOKE_SPECS[:2])  # each kind of row takes g++ half a second
    cupy.cuda.Stream.synchronize = lambda stream: None
    assert day.attempted(day._kernels, "cuda")
    assert day.steps("cuda", 16)
    rows = rows_of(capsys.readouterr().out)
    assert all(row.get("ok", True) for row in rows)
    assert {row.get("check") for row in rows} >= {"noise", *day.SMOKE_SPECS, "flow-sde in bfloat16"}
    assert rows[-1] == {"steps": 16, "side": 16}
    assert day.used_gb("cuda") == 10.0


def test_an_error_is_a_result(day, capsys):
    def measured(side):
        raise ValueError(f"not {side}")

    assert not day.attempted(measured, 8)
    assert rows_of(capsys.readouterr().out) == [{"failed": "measured", "arguments": [8], "error": "ValueError: not 8"}]
    assert not day.check("a number", float("inf"), 1.0)
    assert not day.check("none", day.apart([float("nan")], [0.0]), 1.0)


def test_the_files_of_tests_exist_and_hold_what_is_left_out(day, repository, commands):
    texts = [(repository / name).read_text() for name in day.TESTS]
    assert all("gpu" in text for text in texts)
    (words,) = commands("cuda", sys.executable, "-m", "pytest")
    assert words[-len(day.TESTS) :] == list(day.TESTS)
    assert words[words.index("-k") + 1] == "not sanitizer"
    assert any(re.search(r"def test_\w*sanitizer", text) for text in texts)


def test_kernels_and_specs_exist(day, repository):
    assert f" {day.KERNEL}(" in (repository / "kernels" / "step.cu").read_text()
    for spec in (*day.SMOKE_SPECS, *day.RUN_SPECS):
        get_scheduler(spec)


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_command_lines_are_those_of_pidsampler(commands, device):
    found = [build_parser().parse_args(words) for words in commands(device, *CLI)]
    assert {given.run for given in found} == {bench.run, doctor.run, export_command.run}


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_benchmarks_can_be_planned(commands, device, request, monkeypatch, tmp_path):
    if device == "cuda":
        request.getfixturevalue("cupy").__version__ = "14.0"  # a stand-in
        monkeypatch.setitem(sys.modules, "torch", None)
    lines = [build_parser().parse_args(["bench", *words]) for words in commands(device, *CLI, "bench")]
    assert len(lines) == 3
    for given in lines:
        plan = bench.plan(given)
        assert plan.backend.device == device
        assert plan.variants
        assert given.output == tmp_path / "rows.csv"


@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_networks_to_export_are_published(commands, device):
    layers, published = (importlib.import_module(f"pidsampler.export.{name}") for name in ("layers", "published"))
    lines = [build_parser().parse_args(["export", *words]) for words in commands(device, *CLI, "export")]
    assert len(lines) == 3
    for given in lines:
        architecture = published.get_published(given.backbone, given.kind).architecture
        layers.check_form(architecture.reduced() if given.reduced else architecture, export_command._form(given))


@pytest.mark.parametrize(("part", "device"), PARTS)
def test_own_commands_are_those_of_the_script(day, repository, tmp_path, part, device):
    own, seen = [sys.executable, str(repository / SCRIPT)], 0
    for step in day.steps_of(part, device, tmp_path, tmp_path):
        if own[1] in step.command:
            assert step.command[step.command.index(own[1]) - 1] == own[0]
            assert day.parser().parse_args(step.command[step.command.index(own[1]) + 1 :]).device == device
            seen += 1
        else:
            assert step.command[:2] == [sys.executable, "-m"]
        assert (step.skipped == "needs a card") <= (device == "cpu")
    assert seen >= 4


def test_all_that_is_imported_exists(repository):
    names = set()
    for node in ast.walk(ast.parse((repository / SCRIPT).read_text())):
        if isinstance(node, ast.Import):
            names |= {(one.name, None) for one in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            names |= {(node.module, one.name) for one in node.names}
    ours = {(module, name) for module, name in names if module.split(".")[0] == "pidsampler"}
    assert len(ours) >= 8
    for module, name in ours:
        assert name is None or hasattr(importlib.import_module(module), name), f"{module}.{name}"
    others = {module.split(".")[0] for module, _ in names - ours} - set(sys.stdlib_module_names)
    assert others <= {"numpy", "ml_dtypes", "torch"}


def python(day, name, code, seconds=30.0, *words, **more):
    return day.Step(name, seconds, [sys.executable, "-c", code, *words], **more)


def test_a_step_that_fails_or_hangs_does_not_stop_the_others(day, monkeypatch, tmp_path, capsys):
    monkeypatch.setattr(day, "GRACE", 0.5)
    hangs = (
        "import signal, time; signal.signal(signal.SIGINT, signal.SIG_IGN); print('here', flush=True); time.sleep(60)"
    )
    late = "import time; time.sleep(1); print('too late')"
    starts = f"import subprocess, sys; subprocess.Popen([sys.executable, '-c', {late!r}])"
    steps = [
        python(day, "facts", """print('{"facts": {"gpu": "a card", "commit": ""}}')"""),
        python(
            day, "fails", "print('FAILED a.py::b'); print('1 failed, 2 passed in 3s'); raise SystemExit(3)", 9, "pytest"
        ),
        python(day, "leaves a process", starts),
        python(day, "hangs", hangs, 1.0),
        day.Step("is not there", 30, ["no-such-program"]),
        python(day, "is left out", "", skipped="needs a card"),
        python(day, "may fail", "raise SystemExit(1)", fine=(0, 1)),
        python(day, "works", """print('{"floor": "x", "tb_s": 4.5}')""", environment={"A": "1"}),
    ]
    began = time.monotonic()
    outcomes = day.run_part("A", steps, tmp_path / "new", 60.0, {"commit": "abc"})
    assert time.monotonic() - began < 10
    assert [outcome.code for outcome in outcomes] == [0, 3, 0, 124, 127, None, 1, 0]
    assert [outcome.step.name for outcome in outcomes if outcome.failed] == ["fails", "hangs", "is not there"]
    table = capsys.readouterr().out.partition("===== part A")[2]
    for line in (r"fails +3 ", r"hangs +124 +1\.\d +stopped after 1 s", r"is left out +- .*needs a card", r"works +0 "):
        assert re.search(f"^{line}", table, re.MULTILINE), line
    assert "FAILED a.py::b\n1 failed, 2 passed in 3s\n" in table
    assert '{"floor": "x", "tb_s": 4.5}\n' in table
    (results,) = (tmp_path / "new").glob("gpu-day-A-*.json")
    rows = json.loads(results.read_text())
    assert all((row["gpu"], row["commit"], row["part"]) == ("a card", "abc", "A") for row in rows)
    (floor,) = (row for row in rows if "floor" in row)
    assert (floor["step"], floor["tb_s"], floor["environment"]) == ("works", 4.5, {"A": "1"})
    (tested,) = (row for row in rows if row["step"] == "fails")
    assert (tested["failing"], tested["tests"], tested["exit"]) == (["FAILED a.py::b"], "1 failed, 2 passed in 3s", 3)
    assert all(sys.executable not in row.get("command", "") for row in rows)
    log = (tmp_path / "new" / "log-A.txt").read_text()
    assert "here\n" in log
    assert "too late\n" not in log


def test_nothing_runs_past_the_limit(day, monkeypatch, tmp_path):
    monkeypatch.setattr(day, "GRACE", 0.5)
    steps = [python(day, name, "import time; time.sleep(60)") for name in ("one", "two")]
    began = time.monotonic()
    outcomes = day.run_part("B", steps, tmp_path, 2.5)
    assert time.monotonic() - began < 2.5
    assert [outcome.code for outcome in outcomes] == [124, None]
    assert all(outcome.failed for outcome in outcomes)
    assert "no time" in outcomes[1].note


@pytest.mark.parametrize("part", ["A", "B"])
def test_a_dry_run_says_the_real_commands_and_runs_small_ones(day, monkeypatch, tmp_path, capsys, part):
    ran = []
    monkeypatch.setattr(day, "_run", lambda step, end, log: ran.append(step) or day.Outcome(step, 0, 0.0))
    assert day.main([part, "--dry-run", "--output", str(tmp_path), "--pid", str(tmp_path)]) == 0
    said = capsys.readouterr().out
    steps = day.steps_of(part, "cuda", tmp_path, tmp_path, pid=tmp_path)
    assert [step.name for step in ran] == [step.name for step in steps]
    assert all(f"===== {step.name} would, in {step.seconds:.0f} s, run " in said for step in steps)
    assert all(step.environment["CUDA_VISIBLE_DEVICES"] == "" for step in ran)
    if part == "B":
        assert "--type 2kto4k_v1pt5 --size 2048x2048 --target" in said
        large = [step.command for step in ran if "2kto4k_v1pt5" in step.command]
        assert large
        assert all({"--reduced", "256x256"} <= set(command) for command in large)
        (public,) = (step for step in ran if "public" in step.command)
        assert public.command[-5:] == [str(tmp_path), "256", "--reduced", "--device", "cuda"]
        assert not public.skipped


def test_a_dry_run_fails_of_all_but_cuda(day, tmp_path, capsys):
    def failed(error):
        return f"print('ran'); print({json.dumps(json.dumps({'failed': 'x', 'error': error}))}); raise SystemExit(1)"

    steps = [
        python(day, "hidden", "import os; raise SystemExit(os.environ['CUDA_VISIBLE_DEVICES'] != '')"),
        python(day, "no card", failed("DeviceError: no GPU can be used: cudaErrorNoDevice")),
        python(day, "no torch", failed("ModuleNotFoundError: No module named 'torch'")),
        python(day, "a command", "print('pidsampler: error: cupy is not installed: pip'); raise SystemExit(2)"),
        python(day, "a mistake", failed("TypeError: unexpected keyword argument")),
        python(day, "silent", "raise SystemExit(1)"),
    ]
    outcomes = day.run_part("A", steps, tmp_path, 60.0, dry=steps)
    assert [outcome.step.name for outcome in outcomes if outcome.failed] == ["a mistake", "silent"]
    assert [outcome.note for outcome in outcomes[1:4]] == ["goes as far as its first CUDA call"] * 3
    assert "no card would, in 30 s, run " in capsys.readouterr().out
    assert [path.name[:10] for path in tmp_path.glob("*.json")] == ["dry-run-A-"]  # not taken for results


@pytest.mark.parametrize("words", [["smoke"], ["tiny"], ["full", "none"], ["steps"], ["runs"]])
def test_measurements_go_as_far_as_their_first_cuda_call(day, no_gpu, capsys, words):
    assert day.main(words) == 1
    rows = rows_of(capsys.readouterr().out)
    assert rows
    assert all(day._NO_CUDA.search(row["error"]) for row in rows)
