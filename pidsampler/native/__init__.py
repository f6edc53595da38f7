"""The shared library of noise and rows on the CPU, where one was built; numpy gives the same bits without it."""

from .library import FORMS, NAME, HostRow, Library, address, built, load, suits

__all__ = ["FORMS", "NAME", "HostRow", "Library", "address", "built", "load", "suits"]
