"""Learnt samplers: a solver fitted to a network in minutes."""

from .learn import Extent, Learning
from .of_denoiser import fit
from .result import Fit
from .solver import LinearSolver

__all__ = ["Extent", "Fit", "Learning", "LinearSolver", "fit"]
