"""Denoisers: what the sampler asks of a network, guidance, and closed-form ones whose exact answer is known."""

from .base import Denoiser, DenoiserLike, NetworkLike, Pair, as_denoiser, network_of
from .flows import Gaussian, GaussianMixture
from .guidance import (
    AdaptiveProjectedGuidance,
    CFGZeroStar,
    FrequencyDecoupledGuidance,
    Guided,
    RescaledGuidance,
)
from .torch import TorchNetwork

__all__ = [
    "AdaptiveProjectedGuidance",
    "CFGZeroStar",
    "Denoiser",
    "DenoiserLike",
    "FrequencyDecoupledGuidance",
    "Gaussian",
    "GaussianMixture",
    "Guided",
    "NetworkLike",
    "Pair",
    "RescaledGuidance",
    "TorchNetwork",
    "as_denoiser",
    "network_of",
]
