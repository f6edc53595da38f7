"""Custom samplers for PiD, NVIDIA's Pixel Diffusion Decoder, without PyTorch.

Orthogonal parts, each its own object: timesteps (where), schedulers (how), noise, denoisers and backends. See
`sample` for a whole run, `start` for a loop of your own, `Upscaler` for a photo in and a 4x photo out.
"""

from . import denoiser, moved, noise, schedulers, timesteps
from .errors import PidSamplerError
from .image.size import Size
from .interop.diffusers import from_diffusers
from .onnx import CudaOptions
from .sampler import Run, sample, start
from .schedulers import FlowODE, FlowSDE, SchedulerInfo
from .schedulers.registry import get_scheduler, list_schedulers
from .table import Combination, Row, StepTable
from .upscale.finish import Finish
from .upscale.memory import Tiling
from .upscale.upscaler import Result, Upscaler
from .version import __version__ as __version__

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
    "from_diffusers",
    "get_scheduler",
    "list_schedulers",
    "noise",
    "sample",
    "schedulers",
    "start",
    "timesteps",
]

moved.install()
__getattr__ = moved.names(__name__)
