"""Learnt samplers: a solver fitted to a network in minutes."""

from .learn import Extent, Learning
from .matrix import Tried, matrix
from .of_denoiser import fit
from .result import Fit
from .solver import LinearSolver

__all__ = ["Extent", "Fit", "Learning", "LinearSolver", "Tried", "fit", "matrix"]
