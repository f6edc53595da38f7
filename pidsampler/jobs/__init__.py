"""Worker pools: in-process, processes, Ray."""
