"""Custom samplers for PiD, NVIDIA's Pixel Diffusion Decoder, without PyTorch.

Orthogonal parts, each its own object: timesteps (where), schedulers (how), noise, denoisers and backends. See
`sample` for a whole run, `start` for a loop of your own, `Upscaler` for a photo in and a 4x photo out.
"""

import os
import signal
import sys
from importlib import import_module
from typing import TYPE_CHECKING, Any

# The command line only, `python -m pidsampler` or `pidsampler`: Ctrl-C until `cli.main` takes it is no traceback.
if {"pidsampler", "pidsampler.cli"} & (
    {*sys.orig_argv}
    if sys.argv[:1] == ["-m"]
    else {os.path.basename(name).removesuffix(".exe") for name in sys.argv[:1]}
) and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, lambda *_: sys.exit(130))

from . import denoiser, moved, noise, schedulers, timesteps
from .errors import PidSamplerError
from .sampler import Run, sample, start
from .schedulers import FlowODE, FlowSDE, SchedulerInfo
from .schedulers.registry import get_scheduler, list_schedulers
from .table import Combination, Row, StepTable
from .version import __version__ as __version__

if TYPE_CHECKING:
    from .image.size import Size
    from .interop.diffusers import from_diffusers
    from .io.records import read_record
    from .onnx import CudaOptions
    from .registries import register
    from .schedulers.describe import describe_scheduler, describe_timesteps, list_timesteps
    from .upscale.again import make_again
    from .upscale.finish import Finish
    from .upscale.memory import Tiling
    from .upscale.upscaler import Result, Upscaler

__all__ = [
    "Combination",
    "CudaOptions",
    "Finish",
    "FlowODE",
    "FlowSDE",
    "PidSamplerError",
    "Result",
    "Row",
    "Run",
    "SchedulerInfo",
    "Size",
    "StepTable",
    "Tiling",
    "Upscaler",
    "denoiser",
    "describe_scheduler",
    "describe_timesteps",
    "from_diffusers",
    "get_scheduler",
    "list_schedulers",
    "list_timesteps",
    "make_again",
    "noise",
    "read_record",
    "register",
    "sample",
    "schedulers",
    "start",
    "timesteps",
]

# What is imported when it is first used: the core is half of the time of importing all.
_LATER = {
    "CudaOptions": "onnx",
    "Finish": "upscale.finish",
    "Result": "upscale.upscaler",
    "Size": "image.size",
    "Tiling": "upscale.memory",
    "Upscaler": "upscale.upscaler",
    "describe_scheduler": "schedulers.describe",
    "describe_timesteps": "schedulers.describe",
    "from_diffusers": "interop.diffusers",
    "list_timesteps": "schedulers.describe",
    "make_again": "upscale.again",
    "read_record": "io.records",
    "register": "registries",
}
_ROOMS = ("backends", "bench", "export", "image", "interop", "io", "jobs", "onnx", "search", "study", "upscale")

moved.install()
_moved = moved.names(__name__, within=1)


def __getattr__(name: str) -> Any:
    if name in _ROOMS:
        return import_module(f"{__name__}.{name}")
    if name in _LATER:
        globals()[name] = found = getattr(import_module(f"{__name__}.{_LATER[name]}"), name)
        return found
    return _moved(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__, *_ROOMS})
