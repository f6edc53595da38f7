"""Model folders from released checkpoints or random weights: `pidsampler export` (extra `export`), without PyTorch."""

from .. import moved

__getattr__ = moved.names(__name__)
