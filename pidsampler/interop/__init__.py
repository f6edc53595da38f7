"""Doors to other projects."""

from . import k_diffusion
from .diffusers import from_diffusers

__all__ = ["from_diffusers", "k_diffusion"]
