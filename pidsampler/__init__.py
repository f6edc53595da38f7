"""Custom samplers for PiD, NVIDIA's Pixel Diffusion Decoder, without PyTorch.

Orthogonal parts, each its own object: timesteps (where), schedulers (how), noise, denoisers and backends. See
`sample` for a whole run, `start` for a loop of your own, `Upscaler` for a photo in and a 4x photo out.
"""

from . import denoiser, draws, noise, schedulers, timesteps, torch_noise
from .errors import PidSamplerError
from .finish import Finish
from .interop import from_diffusers
from .memory import Tiling
from .onnx import CudaOptions
from .registry import get_scheduler, list_schedulers
from .sampler import Run, sample, start
from .schedulers import FlowODE, FlowSDE, SchedulerInfo
from .sizes import Size
from .table import Combination, Row, StepTable
from .upscaler import Result, Upscaler

__version__ = "0.1.0"

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
    "draws",
    "from_diffusers",
    "get_scheduler",
    "list_schedulers",
    "noise",
    "sample",
    "schedulers",
    "start",
    "timesteps",
    "torch_noise",
]
