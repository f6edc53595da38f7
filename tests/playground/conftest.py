import shutil

import pytest
from paths import REPOSITORY

PLAYGROUND = REPOSITORY / "docs" / "playground"


@pytest.fixture(scope="session", name="playground")
def _playground(load_script):
    """The build's script."""
    return load_script(PLAYGROUND / "build.py")


@pytest.fixture(scope="session", name="site")
def _site(playground, tmp_path_factory):
    """The page's folder, with what npm fetched before."""
    if not playground.RUNTIME.is_dir():
        pytest.skip("ONNX Runtime's files for browsers are not there: run npm ci in docs/playground")
    folder = tmp_path_factory.mktemp("playground")
    playground.build(folder)
    return folder


@pytest.fixture(scope="session", name="node")
def _node():
    return shutil.which("node") or pytest.skip("no Node.js on this machine")
