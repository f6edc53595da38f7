"""The command line in processes that begin at once: they are forked from one that has imported everything."""

import contextlib
import json
import os
import select
import signal
import subprocess
import sys

SERVER = """
import json, os, sys
import onnxruntime
from PIL import Image
from pidsampler import cli
from pidsampler.cli import study, upscale
from pidsampler.study import report, run
from pidsampler.upscale import batch
{setup}
for line in sys.stdin:
    arguments, folder, errors = json.loads(line)
    child = os.fork()
    if child == 0:
        os.chdir(folder)
        for number, path in (1, os.devnull), (2, errors):
            os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC), number)
        sys.exit(cli.main(arguments))
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Server:
    """One process that forks; `setup` is Python that it runs first. One child at a time."""

    def __init__(self, setup=""):
        # Without a buffer, `select` knows of every line that was not read.
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-c", SERVER.format(setup=setup)],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0,
        )  # fmt: skip

    def start(self, arguments, *, folder, errors=os.devnull):
        """Begin a command in a folder; what it writes to stderr goes into the file `errors`."""
        self._process.stdin.write(json.dumps([list(map(str, arguments)), str(folder), str(errors)]).encode() + b"\n")
        return Child(self._process.stdout)

    def close(self):
        self._process.stdin.close()
        assert self._process.wait() == 0
        self._process.stdout.close()


class Child:
    """Like subprocess.Popen, as far as needed."""

    def __init__(self, said):
        self._said, self._code, self._pid = said, None, int(said.readline())

    def poll(self):
        """Return its exit code, or None while it runs."""
        return self.wait() if self._code is not None or select.select([self._said], [], [], 0)[0] else None

    def wait(self):
        """Return its exit code, negative for a signal, when it has ended."""
        if self._code is None:
            self._code = int(self._said.readline())
        return self._code

    def kill(self):
        """Send SIGKILL; one that has ended takes no harm."""
        if self.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._pid, signal.SIGKILL)
