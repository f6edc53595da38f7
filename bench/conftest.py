def pytest_xdist_auto_num_workers():
    """A benchmark has the machine for itself."""
    return 0
