import importlib.util
import os
import sys
from pathlib import Path

import pytest
from hypothesis import settings

from pidsampler.backends import _cupy_backend

if "CI" not in os.environ:  # there hypothesis loads a profile of its own, without deadline and randomness
    settings.register_profile("local", deadline=None)
    settings.load_profile("local")

REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(name="no_gpu")
def _no_gpu(monkeypatch):
    """As on a machine without CuPy, whatever this one has."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    _cupy_backend.cache_clear()


@pytest.fixture(scope="session", name="repository")
def _repository():
    """The repository's root."""
    return REPOSITORY


@pytest.fixture(scope="session", name="load_script")
def _load_script():
    """Import a script of the repository by its path."""

    def load(path):
        spec = importlib.util.spec_from_file_location(Path(path).stem, REPOSITORY / path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return load


@pytest.fixture(scope="session", name="folder")
def _folder(tmp_path_factory):
    return tmp_path_factory.mktemp("cupy")


@pytest.fixture(scope="session", name="libraries")
def _libraries():
    return {}


@pytest.fixture(name="cupy")
def _cupy(folder, libraries, monkeypatch):
    """A new stand-in in place of cupy; what g++ built is shared."""
    import fake_cupy

    fake = fake_cupy.FakeCupy(folder)
    fake._libraries = libraries
    monkeypatch.setitem(sys.modules, "cupy", fake)
    _cupy_backend.cache_clear()
    yield fake
    _cupy_backend.cache_clear()
