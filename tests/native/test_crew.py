"""Threads that help with compiled rows.

Tried mutations, each of which fails here: a helper that joins no row, or the same one twice; a caller that does not
wait for helpers, or does not give the crew back; a child that calls its parent's threads; helpers on the caller's core.
"""

import os
import subprocess
import sys
import threading
import time
from ctypes import c_uint64

import numpy as np
import pytest

from pidsampler import Row, native
from pidsampler import threads as pool
from pidsampler.backends.numpy import NumpyBackend

PART = 4096
ROW = Row(0.7, 0.4, a=0.3, b=0.5, noise={2: 0.4})
SIZE = 8 * pool.CHUNK + 7


@pytest.fixture(name="library")
def _library():
    return native.built() or pytest.skip("no compiled library")


@pytest.fixture(name="cores")
def _cores(monkeypatch):
    monkeypatch.setattr(pool, "count_cores", lambda: 4)
    return 4


@pytest.fixture(name="packed")
def _packed(library, monkeypatch):
    """Copies noise to x, a part a call, and what must live as long."""
    monkeypatch.setattr(native.library, "_MOST", PART)
    x, m = np.zeros(64 * PART, np.float32), np.random.default_rng(0).normal(size=64 * PART).astype(np.float32)
    row = native.HostRow(0.0, 1.0, np.inf, 1, 0)
    row.result[0].terms, row.result[0].weight[0], row.result[0].source[0] = 1, 1.0, -1
    at = [native.address(x)]
    return library.pack(row, at, itemsize=4, seed=0, m=native.address(m), stop=x.size, part=PART), x, m, row


def rows_until(done, library, crew, packed):
    """Do the row, all of it and again, until what is called with its number of calls says so."""
    step, x, m, _ = packed
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        x[:] = 0.0
        at, calls = c_uint64(), 1
        if crew is not None:
            library.call(crew)
        while library.step(step, at, crew=crew):
            calls += 1
        assert np.array_equal(x, m)
        if done(calls):
            return True
    return False


def test_helpers_do_parts_of_a_row(library, packed):
    """So the caller needs fewer calls than there are parts; a row without them, or with none, needs one a part."""
    assert rows_until(lambda calls: calls == 65, library, None, packed)
    crew = library.crew()
    assert rows_until(lambda calls: calls == 65, library, crew, packed)
    threading.Thread(target=library.help, args=(crew,), daemon=True).start()
    assert rows_until(lambda calls: calls < 60, library, crew, packed)
    time.sleep(0.02)  # until they sleep, to be woken again
    assert rows_until(lambda calls: calls < 60, library, crew, packed)


def test_a_crew_has_no_more_than_seven(library):
    crew = library.crew()
    helpers = [threading.Thread(target=library.help, args=(crew,), daemon=True) for _ in range(9)]
    for helper in helpers:
        helper.start()
    deadline = time.monotonic() + 60
    while sum(helper.is_alive() for helper in helpers) > 7 and time.monotonic() < deadline:
        time.sleep(0.01)
    time.sleep(0.05)
    assert sum(helper.is_alive() for helper in helpers) == 7


def test_rows_of_many_threads_at_once(library, cores):
    """One of them has the crew, whichever; all have their own results."""
    backend, host = NumpyBackend(), np.random.default_rng(1)
    x, m = host.normal(size=(2, 1, SIZE)).astype(np.float32)

    def row(seed):
        mine = x.copy()
        backend.step(ROW, mine, m=m, saved=[], seeds=[seed])
        return mine

    expected = [row(seed) for seed in range(3)]
    wrong, together = [], threading.Barrier(3, timeout=30)

    def work(seed):
        together.wait()
        wrong.extend(k for k in range(30) if not np.array_equal(row(seed), expected[seed]))

    users = [threading.Thread(target=work, args=(seed,)) for seed in range(3)]
    for user in users:
        user.start()
    for user in users:
        user.join()
    assert wrong == []


@pytest.mark.skipif(not hasattr(os, "sched_getaffinity"), reason="a system that keeps no thread off a core")
def test_helpers_are_kept_off_the_callers_core(library):
    allowed = os.sched_getaffinity(0)
    if len(allowed) < 2:
        pytest.skip("one core")
    crew, helper = library.crew(), threading.Thread(daemon=True)
    helper.run = lambda: library.help(crew)
    helper.start()
    time.sleep(0.05)
    try:
        for core in (*allowed, min(allowed)):
            deadline, others = time.monotonic() + 60, allowed - {core}
            while os.sched_getaffinity(helper.native_id) != others and time.monotonic() < deadline:
                os.sched_setaffinity(0, {core})  # of this thread
                os.sched_setaffinity(0, allowed)  # it mostly stays there for a while
                library.call(crew)
            assert os.sched_getaffinity(helper.native_id) == others
    finally:
        os.sched_setaffinity(0, allowed)


def test_a_caller_with_one_core_calls_no_helper(library, packed):
    """The helper may be on that core: all parts are the caller's."""
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("a system that keeps no thread off a core")
    crew, allowed = library.crew(), os.sched_getaffinity(0)
    threading.Thread(target=library.help, args=(crew,), daemon=True).start()
    try:
        os.sched_setaffinity(0, {min(allowed)})
        time.sleep(0.05)
        assert rows_until(lambda calls: calls == 65, library, crew, packed)
    finally:
        os.sched_setaffinity(0, allowed)


def test_a_thread_that_did_not_begin_is_asked_for_again(library, monkeypatch):
    monkeypatch.setattr(pool, "count_cores", lambda: 2)
    other, begun = native.load(native.library.PATH), []

    def none_left(_):
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patch:
        patch.setattr(native.crew.Thread, "start", none_left)
        assert native.crew_for(other, 8 * pool.CHUNK) is not None
    monkeypatch.setattr(native.crew.Thread, "start", lambda self: begun.append(self.name))
    crew = native.crew_for(other, 8 * pool.CHUNK)
    assert native.crew_for(other, 8 * pool.CHUNK) is crew
    assert begun == ["pidsampler_row_0"]


def test_small_rows_and_one_core_need_no_crew(library, cores, monkeypatch):
    monkeypatch.setattr(type(library), "call", lambda *_: pytest.fail("a thread was called"))
    assert native.crew_for(library, 8 * pool.CHUNK - 1) is None
    monkeypatch.setattr(pool, "count_cores", lambda: 1)
    assert native.crew_for(library, 8 * pool.CHUNK) is None


FORK = """
import os, sys, warnings
import numpy as np
from pidsampler import Row, native, threads
from pidsampler.backends.numpy import NumpyBackend
warnings.simplefilter("ignore")  # newer versions of Python warn of a fork beside threads
threads.count_cores = lambda: 3
def row():
    x = np.ones((1, 1 << 19), np.float32)
    NumpyBackend().step(Row(0.7, 0.4, a=0.3, b=0.5, noise={0: 0.1}), x, m=x.copy(), saved=[], seeds=[1])
    return x
crew = native.crew_for(native.built(), 1 << 19)
here = row()
child = os.fork()
if child == 0:
    ended = np.array_equal(row(), here) and native.crew_for(native.built(), 1 << 19) is not crew
    os._exit(7 if ended else 8)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_a_crew_of_its_own(library):
    command = [sys.executable, "-P", "-c", FORK]  # the package that is tested here, not the checkout's
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("7", "")
