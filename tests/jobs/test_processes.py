"""Worker processes: they end with the process that began them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

WORK = """
import os, sys, time
from functools import partial
from pathlib import Path
from pidsampler.jobs.run import outcomes

class Job:
    def lost(self, got, why):
        return [why], []

class Sleeper:
    def run(self, job):
        Path("pid.part").write_text(str(os.getpid()))
        os.replace("pid.part", "pid")
        yield "begun"
        time.sleep(60)

if __name__ == "__main__":
    import work
    for outcome in outcomes("local", work.Sleeper, jobs=[work.Job(), work.Job()], device="cpu", count=2):
        pass
"""


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as about:
            return about.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="it is Linux that tells what lives")
def test_a_worker_ends_with_its_parent_in_the_middle_of_a_job(tmp_path):
    (tmp_path / "work.py").write_text(WORK)
    parent = subprocess.Popen([sys.executable, "work.py"], cwd=tmp_path, start_new_session=True)
    try:
        end = time.monotonic() + 60
        while not (tmp_path / "pid").exists():
            assert time.monotonic() < end
            time.sleep(0.01)
        worker = int((tmp_path / "pid").read_text())
        assert alive(worker)
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        while alive(worker):
            assert time.monotonic() < end - 20
            time.sleep(0.01)
    finally:
        parent.kill()
        parent.wait()
        if (tmp_path / "pid").exists() and alive(worker := int((tmp_path / "pid").read_text())):
            os.kill(worker, signal.SIGKILL)
