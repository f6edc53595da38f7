"""Search for a list of timesteps."""

from .. import moved
from .compare import Rival
from .search import Found, Search, from_gaps, refine

__all__ = ["Found", "Rival", "Search", "from_gaps", "refine"]

__getattr__ = moved.names(__name__)
