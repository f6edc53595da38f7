"""Model folders from released checkpoints or random weights: `pidsampler export` (extra `export`), without PyTorch."""
