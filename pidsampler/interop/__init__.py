"""Doors to other projects."""

from .diffusers import from_diffusers

__all__ = ["from_diffusers"]
