"""Studies: settings that vary, what was measured of each, and a report."""

from .. import moved

__getattr__ = moved.names(__name__)
