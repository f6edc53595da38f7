"""The errors: each also of the builtin kind that one expects, with its cause, and named as the caller wrote it."""

import argparse
import ast
import re
import warnings
from pathlib import Path

import numpy as np
import pytest

import pidsampler
from pidsampler import PidSamplerError, StepTable, Upscaler, from_diffusers, get_scheduler, sample, timesteps
from pidsampler.cli import common
from pidsampler.cli.main import build_parser
from pidsampler.errors import (
    ConfigError,
    DeviceError,
    FileError,
    MissingDependencyError,
    ModelError,
    OutOfMemoryError,
    PidSamplerWarning,
    optional,
    unknown_name,
)
from pidsampler.io import latents, pictures
from pidsampler.io.times import read_list
from pidsampler.onnx.device import resolve_device

BUILTINS = {
    ConfigError: ValueError,
    FileError: OSError,
    MissingDependencyError: ImportError,
    OutOfMemoryError: MemoryError,
    DeviceError: RuntimeError,
}


@pytest.mark.parametrize("kind", [*BUILTINS, ModelError])
def test_each_kind_is_ours_and_the_builtin_one(kind):
    error = kind("a message")
    assert isinstance(error, PidSamplerError)
    assert isinstance(error, BUILTINS.get(kind, Exception))
    assert str(error) == "a message"


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda folder: get_scheduler("nope"), ConfigError),
        (lambda folder: timesteps.custom([0.5, 0.9, 0.0]), ConfigError),
        (lambda folder: StepTable.from_json("{"), ConfigError),
        (lambda folder: StepTable([]), ConfigError),
        (lambda folder: pictures.read(folder / "a.png"), FileError),
        (lambda folder: latents.read(folder / "a.npy"), FileError),
        (lambda folder: read_list(folder / "list.txt"), FileError),
        (lambda folder: from_diffusers(folder / "scheduler_config.json"), FileError),
        (lambda folder: Upscaler.load(folder / "model"), ModelError),
        (lambda folder: optional("no_such_module", "no-such-package", extra="study"), MissingDependencyError),
        (lambda folder: sample(lambda x, t: x[:1], get_scheduler("flow-ode"), shape=(2, 3, 4, 4)), ModelError),
    ],
)
def test_what_fails_is_of_its_kind(tmp_path, call, kind):
    with pytest.raises(kind) as caught:
        call(tmp_path)
    assert type(caught.value) is kind


def test_a_device_that_cannot_be_had(no_gpu):
    with pytest.raises(DeviceError, match="device 'cuda' was asked for") as caught:
        resolve_device("cuda")
    assert isinstance(caught.value.__cause__, MissingDependencyError)


def test_causes_are_kept(tmp_path):
    with pytest.raises(FileError) as caught:
        pictures.read(tmp_path / "a.png")
    assert isinstance(caught.value.__cause__, FileNotFoundError)
    text = '{"format": "pidsampler.StepTable/1", "rows": [{"t": 2, "t_next": 0, "p": 1, "q": -1, "clip": null, '
    with pytest.raises(ConfigError, match="t=2 must be"):  # not wrapped once more, though it is a ValueError
        StepTable.from_json(text + '"a": 0, "b": 1, "h": [], "noise": [], "saves": []}]}')


def test_no_cause_is_thrown_away():
    for path in Path(pidsampler.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            assert not (isinstance(node, ast.Raise) and isinstance(node.cause, ast.Constant)), f"{path}:{node.lineno}"


def test_warnings_are_of_one_class():
    up = Upscaler.load("gaussian", "cpu")
    with pytest.warns(PidSamplerWarning, match="degrade_sigma=0.9 is above 0.8"):
        up(np.zeros((4, 4, 3), np.uint8), degrade_sigma=0.9)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        up(np.zeros((4, 4, 3), np.uint8))


def test_library_code_names_parameters():
    """No message of it speaks of a command-line flag, but in a whole command."""
    package = Path(pidsampler.__file__).parent
    for path in package.rglob("*.py"):
        if path.is_relative_to(package / "cli") or path.name in ("kernels.py", "rows.py"):  # options of compilers, git
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                text = re.sub("`pidsampler [^`]+`", "", node.value)
                assert not re.search(r"(^|[\s(])--[a-z]", text), f"{path}:{node.lineno}"


@pytest.mark.parametrize(
    ("words", "text", "said"),
    [
        ([], "pass overwrite=True to replace it", "pass --overwrite to replace it"),
        ([], "a higher max_memory", "a higher --max-memory"),
        (
            [],
            "with tile=96 it cannot be cut up; pass tile='auto'",
            "with tile=96 it cannot be cut up; pass --tile auto",
        ),
        (["--tile", "96"], "with tile=96 it cannot", "with --tile 96 it cannot"),
        (["--seed", "-1"], "seed=-1 must be a whole number", "--seed -1 must be a whole number"),
        ([], "seed=-1 must be a whole number", "seed=-1 must be a whole number"),
        (["--eta", "2"], "eta=2.0 is outside 0..1: 0 is", "--eta 2.0 is outside 0..1: 0 is"),
        ([], "eta=True must be a finite number", "eta=True must be a finite number"),
        ([], "FlowSDE([0.9, 0.0], eta=2.0)", "FlowSDE([0.9, 0.0], eta=2.0)"),
        (["--steps", "8"], "pass timesteps='0.9,0.5,0'", "pass --timesteps 0.9,0.5,0"),
        (["--steps", "8"], "pass timesteps='log_snr(t_max=0.9):8'", "pass --timesteps 'log_snr(t_max=0.9):8'"),
        (["--scale", "two"], "scale='two' is not a number", "--scale two is not a number"),
        ([], "my overwritten_file.png", "my overwritten_file.png"),
    ],
)
def test_messages_are_said_as_they_are_typed(words, text, said):
    arguments = build_parser().parse_args(["upscale", "a.png", "-o", "b.png", *words])
    assert common.as_typed(text, arguments) == said
    assert common.as_typed(text, None) == text
    assert common.as_typed("see list_schedulers()", None) == "see 'pidsampler schedulers'"
    assert common.as_typed(text, argparse.Namespace()) == text


def test_unknown_names_are_answered_by_the_nearest():
    many = [f"scheme-{k}" for k in range(30)]
    cases = [
        (
            ("dpmpp-2m", "heun", "dpmpp_2m"),
            None,
            "DPMPP 2M",
            "did you mean 'dpmpp-2m'? known are dpmpp-2m, dpmpp_2m, heun",
        ),
        (("match", "off"), None, "zzz", "known are match, off"),
        (["heun", *many], "things()", "HEUN", "did you mean 'heun', "),
        (["heun", *many], "things()", "he.un", "? see things()"),
        (many, "things()", "", "see things()"),
        (list("abcdefghijklmnopqrstuvwxyz"), None, "9", "q, r, s, t and 6 more"),
    ]
    for known, where, name, message in cases:
        error = unknown_name("thing", name, known=known, where=where)
        assert f"unknown thing {name!r}: " in str(error)
        assert message in str(error)
        assert str(error).count("scheme-") <= 3
