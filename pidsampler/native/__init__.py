"""The shared library of noise, rows and pictures on the CPU, where one was built; numpy has the same bits."""

from .crew import crew_for
from .library import FORMS, NAME, HostRow, Library, address, built, described, load, suits

__all__ = ["FORMS", "NAME", "HostRow", "Library", "address", "built", "crew_for", "described", "load", "suits"]
