"""Backends own the memory and do all arithmetic on full-size tensors; the loop knows one only as `Backend`."""

from __future__ import annotations

from .. import moved
from .base import Array, Backend, Device, Launcher, Stepper
from .registry import BACKENDS, backend_of, get_backend

__all__ = ["BACKENDS", "Array", "Backend", "Device", "Launcher", "Stepper", "backend_of", "get_backend"]

__getattr__ = moved.names(__name__)
