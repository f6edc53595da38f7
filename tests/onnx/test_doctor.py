import ctypes
import re
import subprocess
import sys
import tomllib
import types

import pytest

from pidsampler import PidSamplerError
from pidsampler.cli import doctor as command
from pidsampler.cli import main
from pidsampler.onnx import doctor, providers
from pidsampler.onnx.doctor import Card, Inventory, diagnose

H200, B200, V100 = Card("NVIDIA H200", 90), Card("NVIDIA B200", 100), Card("Tesla V100", 70)
CUDA13 = {"cupy-cuda13x": "14.2.0", "onnxruntime-gpu": "1.31.1"}
CUDA12 = {"cupy-cuda12x": "14.2.0", "onnxruntime-gpu": "1.26.0"}
LIBRARIES = frozenset({"libcublas.so.12", "libcublas.so.13", "libcudnn.so.9"})


def here(packages, driver=(13, 0), card=H200, libraries=LIBRARIES):
    return Inventory(packages=packages, driver=driver, cards=(card,) if card else (), libraries=libraries)


@pytest.mark.parametrize(
    "found",
    [
        here(CUDA13),
        here(CUDA12),
        here(CUDA12, driver=(12, 4)),
        here(CUDA12, card=V100),
        here({**CUDA13, "onnxruntime-gpu": "1.28.0"}, card=B200),
        here({"cupy": "14.2.0", "onnxruntime-gpu": "1.31.1"}),  # built from source: of whatever CUDA
    ],
    ids=range(6),
)
def test_inventories_that_fit(found):
    assert diagnose(found) == []


BROKEN = {
    "no driver": (here(CUDA13, None, None), "no NVIDIA driver", "install NVIDIA's driver"),
    "no card": (here(CUDA13, card=None), "the driver finds no GPU", "CUDA_VISIBLE_DEVICES"),
    "no cupy": (here({"onnxruntime-gpu": "1.31.1"}), "CuPy is not installed", "pip install 'pidsampler[cuda13]'"),
    "no cupy, older driver": (
        here({"onnxruntime-gpu": "1.26.0"}, driver=(12, 8)), "CuPy is not installed", "pip install 'pidsampler[cuda12]'"
    ),
    "two cupys": (
        here({**CUDA13, "cupy-cuda12x": "14"}), "cupy-cuda12x and cupy-cuda13x hide each other",
        "pip uninstall -y cupy-cuda12x cupy-cuda13x && pip install 'pidsampler[cuda13]'",
    ),
    "cupy too new for the driver": (
        here({**CUDA12, "cupy-cuda13x": "14"} | {"cupy-cuda12x": ""}, (12, 4)), "hide each other", "[cuda12]"
    ),
    "CUDA 13 on a driver for 12": (
        here(CUDA13, (12, 4)), "cupy-cuda13x needs CUDA 13, but the driver runs CUDA 12.4",
        "pip uninstall -y cupy-cuda13x && pip install 'pidsampler[cuda12]'",
    ),
    "CUDA 13 on a card before Turing": (
        here(CUDA13, card=V100), "cupy-cuda13x needs CUDA 13, but it has no code for Tesla V100", "[cuda12]"
    ),
    "onnxruntime for 13 on a driver for 12": (
        here({**CUDA12, "onnxruntime-gpu": "1.31.1"}, (12, 4)), "onnxruntime-gpu 1.31.1 needs CUDA 13",
        "pip uninstall -y onnxruntime-gpu && pip install 'pidsampler[cuda12]'",
    ),
    "both onnxruntimes": (
        here({**CUDA13, "onnxruntime": "1.31.1"}), "onnxruntime and onnxruntime-gpu hide each other",
        "pip uninstall -y onnxruntime onnxruntime-gpu && pip install 'pidsampler[cuda13]'",
    ),
    "the CPU's onnxruntime": (
        here({"cupy-cuda13x": "14", "onnxruntime": "1.31.1"}), "onnxruntime is the one for the CPU",
        "pip uninstall -y onnxruntime && pip install 'pidsampler[cuda13]'",
    ),
    "no onnxruntime": (
        here({"cupy-cuda13x": "14"}), "onnxruntime-gpu is not installed", "pip install 'pidsampler[cuda13]'"
    ),
    "CUDA 12 beside 13": (
        here({"cupy-cuda12x": "14", "onnxruntime-gpu": "1.31.1"}), "cupy-cuda12x and onnxruntime-gpu 1.31.1, which is",
        "pip uninstall -y cupy-cuda12x onnxruntime-gpu && pip install 'pidsampler[cuda13]'",
    ),
    "CUDA 13 beside 12": (
        here({"cupy-cuda13x": "14", "onnxruntime-gpu": "1.26.0"}), "which is for CUDA 12, do not fit", "[cuda13]"
    ),
    "B200": (
        here(CUDA13, card=B200), "onnxruntime-gpu 1.31.1 has no code for NVIDIA B200 (sm_100)",
        "pip install 'onnxruntime-gpu[cuda,cudnn]==1.28.0'",
    ),
    "no cuBLAS": (
        here(CUDA13, libraries=frozenset()), "libcublas.so.13 and libcudnn.so.9 cannot be found",
        "pip install 'onnxruntime-gpu[cuda,cudnn]==1.31.1'",
    ),
    "no cuDNN": (
        here(CUDA12, libraries={"libcublas.so.12"}), "libcudnn.so.9 cannot be found",
        "pip install 'onnxruntime-gpu[cuda,cudnn]==1.26.0'",
    ),
    "no cuDNN, which graphs need in every release": (
        here(CUDA13, libraries={"libcublas.so.13"}), "libcudnn.so.9 cannot be found",
        "pip install 'onnxruntime-gpu[cuda,cudnn]==1.31.1'",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", BROKEN)
def test_inventories_that_do_not(name):
    found, what, repair = BROKEN[name]
    problem = diagnose(found)[0]
    assert what in problem.what
    assert repair in problem.repair


def test_a_report_that_is_well():
    lines, tried = [], []
    assert doctor.report(lambda: tried.append(1) or "cuda", here(CUDA13), device="cuda", say=lines.append)
    assert tried == [1]
    assert "driver        CUDA 13.0" in lines
    assert "card          NVIDIA H200 (sm_90)" in lines
    assert lines[-1] == "a picture went through the GPU: all is well"


def test_a_report_of_problems_tries_nothing():
    lines = []
    assert not doctor.report(pytest.fail, here({}), device="cuda", say=lines.append)
    assert "problem: CuPy is not installed\n  repair: pip install 'pidsampler[cuda13]'" in lines


def test_what_the_inventory_does_not_show_is_found_by_trying():
    def works():
        raise PidSamplerError("the session is the CPU's")

    lines = []
    for device in ("cuda", "auto", "cpu"):
        assert not doctor.report(works, here(CUDA13), device=device, say=lines.append)
        assert lines[-1] == "problem: the session is the CPU's"


@pytest.mark.parametrize("device", ["auto", "cpu"])
def test_without_a_gpu_an_upscale_works(device):
    lines = []
    assert doctor.report(lambda: "cpu", here({"onnxruntime": "1.31.1"}, None, None), device=device, say=lines.append)
    assert lines[-1] == "a picture went through the CPU: all is well"
    assert any("no GPU run: no NVIDIA driver" in line for line in lines) == (device == "auto")
    assert not any("problem" in line for line in lines)


def test_extras_are_said():
    lines = []
    doctor.report(lambda: "cpu", here({"scipy": "1", "matplotlib": "3"}, None, None), say=lines.append)
    assert "extra plot    is here" in lines
    assert "extra study   without scikit-image, flip-evaluator, pandas" in lines
    assert "extra hub     without huggingface-hub" in lines


def test_extras_are_those_of_the_project(repository):
    project = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    others = {"cpu", "cuda12", "cuda13", "test", "docs", "dev"}
    named = {key: tuple(re.match(r"[\w-]+", need)[0] for need in project[key]) for key in project if key not in others}
    assert named == doctor.EXTRAS


def test_on_the_command_line(monkeypatch, capsys):
    monkeypatch.setattr(doctor, "take_inventory", lambda: here({}, None, None))
    assert main(["doctor", "--device", "cuda"]) == 1
    out, err = capsys.readouterr()
    assert "problem: no NVIDIA driver" in out
    assert err == ""
    assert main(["doctor"]) == 0
    assert "no GPU run: no NVIDIA driver" in capsys.readouterr().out
    monkeypatch.setattr(doctor, "take_inventory", lambda: here(CUDA13))
    monkeypatch.setattr(command, "_upscale_something", lambda device: device)
    assert main(["doctor", "--device", "cuda"]) == 0


def test_this_machine_is_looked_at():
    done = subprocess.run([sys.executable, "-P", "-m", "pidsampler.cli", "doctor"], capture_output=True, text=True)
    assert done.returncode == 0
    assert "numpy         " in done.stdout
    assert done.stderr == ""


class Driver:
    """libcuda with two cards, by its own calls."""

    def __init__(self, init=0):
        self._init = init

    def cuInit(self, flags):  # noqa: N802
        return self._init

    def _write(self, pointer, value):
        ctypes.cast(pointer, ctypes.POINTER(ctypes.c_int))[0] = value
        return 0

    def cuDriverGetVersion(self, pointer):  # noqa: N802
        return self._write(pointer, 12040)

    def cuDeviceGetCount(self, pointer):  # noqa: N802
        return self._write(pointer, 2)

    def cuDeviceGet(self, pointer, k):  # noqa: N802
        return self._write(pointer, k)

    def cuDeviceGetName(self, name, size, device):  # noqa: N802
        name.value = f"Card {device.value}".encode()

    def cuDeviceGetAttribute(self, pointer, attribute, device):  # noqa: N802
        return self._write(pointer, {75: 8, 76: 6 + device.value}[attribute])


def test_the_driver_is_asked(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver())
    found = doctor.take_inventory()
    assert (found.driver, found.cards) == ((12, 4), (Card("Card 0", 86), Card("Card 1", 87)))
    assert "libcudnn.so.9" in found.libraries
    monkeypatch.setattr(ctypes, "CDLL", lambda name: Driver(init=100))
    assert doctor.take_inventory().driver is None


def test_libraries_of_packages_are_found(tmp_path, monkeypatch):
    folder = tmp_path / "nvidia" / "cu13" / "lib"
    folder.mkdir(parents=True)
    (folder / "libcublas.so.13").touch()
    spec = types.SimpleNamespace(submodule_search_locations=[str(tmp_path / "nvidia")])
    monkeypatch.setattr(providers, "find_spec", lambda name: spec)
    assert "libcublas.so.13" in doctor._libraries()
