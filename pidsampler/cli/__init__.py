"""The command line, one file a command; nothing outside of it speaks of command-line flags."""

from .main import main

__all__ = ["main"]
