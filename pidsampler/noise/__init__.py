"""Where randomness comes from: counter-based normals, PyTorch's, and how the draws of a run hang together."""

from .coupling import NoiseFunction, brownian, fixed
from .philox import DEGRADE, SAMPLER, check_number, check_seeds, fill, normal
from .registry import NOISES, with_noise

__all__ = [
    "DEGRADE",
    "NOISES",
    "SAMPLER",
    "NoiseFunction",
    "brownian",
    "check_number",
    "check_seeds",
    "fill",
    "fixed",
    "normal",
    "with_noise",
]
