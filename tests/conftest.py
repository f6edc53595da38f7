import gc
import getpass
import importlib.util
import os
import platform
import shutil
import sys
import tempfile
from functools import lru_cache
from pathlib import Path

import pytest
from hypothesis import settings
from paths import REPOSITORY

from pidsampler import PidSamplerError, native
from pidsampler.backends import registry
from pidsampler.onnx.session import Binding
from pidsampler.threads import count_cores

_WORKERS = min(count_cores(), 4)

# What a user may have set changes no test, nor makes each process compile the package anew. A home of its own: nothing
# is read from the user's or left in it.
_HOME = tempfile.TemporaryDirectory(prefix="pidsampler-home-")
for _name in ("OMP_NUM_THREADS", "PYTHONDONTWRITEBYTECODE", "RAY_ADDRESS", "XDG_CACHE_HOME"):
    os.environ.pop(_name, None)
os.environ["HOME"] = _HOME.name
# Each worker has a core: what several threads of numpy's library would do is to wait for each other.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
# One for all processes and days: matplotlib lists the fonts there, which takes seconds.
os.environ["MPLCONFIGDIR"] = str(Path(tempfile.gettempdir(), f"pidsampler-matplotlib-{getpass.getuser()}"))

if "CI" not in os.environ:  # there hypothesis loads a profile of its own, without deadline and randomness
    settings.register_profile("local", deadline=None)
    settings.load_profile("local")


def pytest_xdist_auto_num_workers(config):
    """For folders as many workers as cores, up to four, which take a gigabyte each; for files, and on a GPU, none."""
    alone = config.option.markexpr or not all(Path(name).is_dir() for name in config.args)
    return 0 if alone or _WORKERS == 1 else _WORKERS


@pytest.hookimpl(wrapper=True)
def pytest_collection():
    """Without Python's search for circles, which would go through nine thousand tests again and again."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.fixture(name="no_gpu")
def _no_gpu(monkeypatch):
    """As on a machine without CuPy, whatever this one has."""
    monkeypatch.setitem(sys.modules, "cupy", None)
    registry._made.cache_clear()


@pytest.fixture(scope="session", autouse=True)
def _random_weights():
    """Made once, though an export, its check and every evaluation in numpy read each anew."""
    from pidsampler.export import architecture

    drawn = lru_cache(2000)(architecture._random)

    def remembered(name, shape, seed):
        weights = drawn(name, shape, seed)
        weights.flags.writeable = False
        return weights

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(architecture, "_random", remembered)
        yield


@pytest.fixture(scope="session", autouse=True)
def _no_wait_for_the_disk():
    """Files are not forced to the disk, five milliseconds each: only a machine that loses its power would tell."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "fsync", lambda file: None)
        yield


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


@pytest.fixture(scope="module", name="browser")
def _browser():
    """Chromium, without a request of its own."""
    playwright = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
    if found is None:
        pytest.skip("no Chromium on this machine")
    quiet = ("no-first-run", "disable-background-networking", "disable-component-update", "disable-sync")
    arguments = [f"--{name}" for name in ("no-sandbox", "disable-gpu", *quiet)]
    with playwright.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=found, args=arguments)
        yield browser
        browser.close()


@pytest.fixture(scope="session", name="host_library")
def _host_library(tmp_path_factory, load_script):
    """The CPU's compiled library, built once for all workers."""
    fcntl = pytest.importorskip("fcntl")
    folder = tmp_path_factory.getbasetemp()
    folder = folder.parent if "PYTEST_XDIST_WORKER" in os.environ else folder
    path = folder / native.NAME
    with (folder / "host.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not path.exists():
            said = load_script("hatch_build.py").build(path)
            if "no C compiler was found" in said or "none is written for" in said:
                pytest.skip(said)
    return path


_ARM = platform.machine().lower() in ("arm64", "aarch64")


@pytest.fixture(params=("neon",) if _ARM else ("sse2", "avx2", "avx512"), name="form")
def _form(request, host_library, monkeypatch):
    """The compiled library does noise and rows, in each form that runs here."""
    try:
        library = native.load(host_library, request.param)
    except PidSamplerError as error:
        if "does not run on this processor" not in str(error):
            raise
        pytest.skip(str(error))
    monkeypatch.setattr(native, "built", lambda: library)
    return request.param


@pytest.fixture(scope="module", params=("numpy", "compiled"), name="both")
def _both(request):
    """First numpy, then the compiled library does noise and rows."""
    library = native.load(request.getfixturevalue("host_library")) if request.param == "compiled" else None
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "built", lambda: library)
        yield request.param


@pytest.fixture(scope="session", name="folder")
def _folder(tmp_path_factory, worker_id):
    """Where the stand-in's kernels are built; all of xdist's workers share it."""
    own = tmp_path_factory.getbasetemp()
    path = (own if worker_id == "master" else own.parent) / "cupy"
    path.mkdir(exist_ok=True)
    return path


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
    registry._made.cache_clear()
    yield fake
    registry._made.cache_clear()


@pytest.fixture(name="runs")
def _runs(monkeypatch):
    """The graphs that ran, in order."""
    names, run = [], Binding.run

    def counted(binding):
        names.append(binding._path.name)
        run(binding)

    monkeypatch.setattr(Binding, "run", counted)
    return names
