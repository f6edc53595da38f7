"""The null CUDA runtime, in this process before a session asks for CUDA."""

import nullcuda
import pytest

REASON = nullcuda.missing()


def pytest_collection_modifyitems(items):
    for item in items:
        if REASON is not None and "runtime" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.skip(reason=REASON))


@pytest.fixture(scope="session", name="loaded")
def _loaded(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        for name, value in nullcuda.ENVIRONMENT.items():
            patch.setenv(name, value)
        yield nullcuda.Runtime(tmp_path_factory.mktemp("nullcuda"))


@pytest.fixture(name="runtime")
def _runtime(loaded):
    loaded.clear()
    return loaded
