"""Learnt samplers: a solver fitted to a network in seconds."""

from .learn import Fit, Learning, fit
from .solver import LinearSolver

__all__ = ["Fit", "Learning", "LinearSolver", "fit"]
