"""ONNX Runtime reports to nobody: no file of its own, no look-up of a host."""

import ast
import os
import shutil
import subprocess
import sys

import pytest

from pidsampler.onnx import providers

# Names of hosts that a process looks up, in a file.
WATCH = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>

typedef int look_up(const char *, const char *, const struct addrinfo *, struct addrinfo **);

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
    FILE *log = fopen(getenv("LOOKED_UP"), "a");
    fprintf(log, "%s\n", node ? node : "");
    fclose(log);
    return EAI_FAIL;
}
"""
PICTURE = """
import socket, sys, time
import numpy as np
from pidsampler import Upscaler
Upscaler.load("gaussian", "cpu")(np.zeros((4, 4, 3), np.uint8))
try:
    socket.getaddrinfo("a.host.of.this.test", 80)
except OSError:
    pass
"""


def made_by_a_run(folder, **environment):
    """The files in a new home, and the hosts looked up, of a process that enlarges a picture."""
    (folder / "home").mkdir()
    names = ("ORT_DISABLE_TELEMETRY", "XDG_CACHE_HOME", "CI", "GITHUB_ACTIONS", "TF_BUILD", "GITLAB_CI")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    log = folder / "hosts"
    log.touch()
    if sys.platform == "linux" and (compiler := shutil.which("cc")):
        (folder / "watch.c").write_text(WATCH)
        library = str(folder / "watch.so")
        subprocess.run([compiler, "-shared", "-fPIC", "-o", library, str(folder / "watch.c")], check=True)
        environment |= {"LD_PRELOAD": library, "LOOKED_UP": str(log)}
    own = {"HOME": str(folder / "home"), "PYTHONPATH": os.pathsep.join(sys.path), **environment}
    subprocess.run([sys.executable, "-c", PICTURE], env=kept | own, check=True)
    found = [path for path in (folder / "home").rglob("*") if path.is_file() and "icrosoft" in str(path)]
    return found, set(log.read_text().split()), "LD_PRELOAD" in environment


def test_a_run_reports_to_nobody(tmp_path):
    found, hosts, watched = made_by_a_run(tmp_path)
    assert found == []
    assert hosts == ({"a.host.of.this.test"} if watched else set())


def test_one_place_imports_it(repository):
    own = repository / "pidsampler" / "onnx" / "providers.py"
    for folder in ("pidsampler", "examples", "bench"):
        for path in (repository / folder).rglob("*.py"):
            names = {
                alias.name.split(".")[0]
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.Import | ast.ImportFrom)
                for alias in (node.names if isinstance(node, ast.Import) else [ast.alias(node.module or "")])
            }
            assert "onnxruntime" not in names or path == own, path


@pytest.mark.parametrize(("before", "after"), [(None, "1"), ("0", "0"), ("1", "1")])
def test_what_the_user_has_set_stays(monkeypatch, before, after):
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    if before is not None:
        monkeypatch.setenv("ORT_DISABLE_TELEMETRY", before)
    providers.import_onnxruntime()
    assert os.environ["ORT_DISABLE_TELEMETRY"] == after


@pytest.mark.parametrize(("before", "asked"), [("", [3]), ("import onnxruntime", [])])
def test_warnings_of_no_session_are_left_out_where_nobody_else_imported_it(tmp_path, before, asked):
    """1.31.1 warns on stderr of each session on CUDA, through its default logger; who imported it has it as it is."""
    (tmp_path / "onnxruntime.py").write_text(
        "asked = []\nset_default_logger_severity = asked.append\ndisable_telemetry_events = list\n"
    )
    code = f"{before}\nfrom pidsampler.onnx import providers\nprint(providers.import_onnxruntime().asked)"
    path = os.pathsep.join([str(tmp_path), *sys.path])
    done = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, "PYTHONPATH": path}, check=True, capture_output=True, text=True
    )
    assert done.stdout == f"{asked}\n"
