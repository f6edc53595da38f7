"""How many cores are used, and the pool that array work on the CPU shares.

Tried mutations, each of which fails here: a quota rounded down, version 1's period taken for its quota, "max" or -1
taken for a number; an error kept for oneself, work that goes on after an error, the last error instead of the first, a
pool for each call, a child that waits for its parent's threads, a caller that waits for a helper that cannot begin.
"""

import contextlib
import gc
import os
import subprocess
import sys
import threading
import time
import weakref
from itertools import pairwise

import pytest

from pidsampler import threads


def mount(folder, files):
    for name, text in files.items():
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("files", "cores"),
    [
        ({}, None),
        ({"cpu.max": "max 100000\n"}, None),
        ({"cpu.max": "200000 100000\n"}, 2),
        ({"cpu.max": "150000 100000\n"}, 2),
        ({"cpu.max": "5000 100000\n"}, 1),
        ({"cpu.max": "200000\n"}, None),
        ({"cpu.max": "200000 0\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "300000\n", "cpu/cpu.cfs_period_us": "100000\n"}, 3),
        ({"cpu/cpu.cfs_quota_us": "-1\n", "cpu/cpu.cfs_period_us": "100000\n"}, None),
        ({"cpu/cpu.cfs_quota_us": "300000\n"}, None),
        ({"cpu.max": "max 100000\n", "cpu/cpu.cfs_quota_us": "10000\n", "cpu/cpu.cfs_period_us": "10000\n"}, 1),
    ],
)
def test_a_containers_quota(tmp_path, files, cores):
    assert threads.cpu_quota(mount(tmp_path, files)) == cores


@pytest.mark.parametrize(("quota", "said", "cores"), [(None, "", 6), (4, "", 4), (9, "", 6), (4, "2", 2), (2, "4", 2)])
def test_the_least_of_affinity_quota_and_omp_num_threads(monkeypatch, quota, said, cores):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: range(6), raising=False)
    monkeypatch.setattr(threads, "_own_quota", lambda: quota)
    monkeypatch.setenv("OMP_NUM_THREADS", said)
    assert threads.count_cores.__wrapped__() == cores  # it is counted once a process


@pytest.fixture(name="cores")
def _cores(monkeypatch):
    monkeypatch.setattr(threads, "count_cores", lambda: 4)
    return 4


def test_results_are_in_order_and_work_is_on_all_cores(cores):
    together = threading.Barrier(cores, timeout=30)  # breaks unless so many threads are at work at once
    assert threads.map(lambda n: (together.wait(), n * n)[1], range(2 * cores)) == [n * n for n in range(2 * cores)]
    assert threads.map(str, []) == []


def test_at_most_so_many_threads(cores):
    for most in (1, 2):
        one_more = threading.Barrier(most + 1, timeout=0.5)

        def alone(n, one_more=one_more):
            with pytest.raises(threading.BrokenBarrierError):
                one_more.wait()

        threads.map(alone, range(4), most=most)


def test_threads_are_kept(cores):
    def names():
        together = threading.Barrier(cores, timeout=30)
        return set(threads.map(lambda _: (together.wait(), threading.get_ident())[1], range(cores)))

    assert names() == names()


def test_the_first_error_is_raised_and_ends_the_work(cores):
    class FirstError(Exception):
        pass

    begun, held = [], threading.Event()

    def work(n):
        begun.append(n)
        if n == 1:
            held.wait(30)
            raise FirstError(n)
        if n == 2:
            try:
                raise ValueError(n)
            finally:
                held.set()
        if n == 3 or n == 0:
            held.wait(30)

    with pytest.raises(FirstError):
        threads.map(work, range(1000))
    assert len(begun) < 1000
    assert threads.map(str, range(3)) == ["0", "1", "2"]  # and the pool goes on


def test_an_error_keeps_nothing_alive(cores):
    """A second try with smaller tiles needs the memory of the first, before Python looks for circles."""
    seen = []

    class Array:
        pass

    def work(_):
        array = Array()
        seen.append(weakref.ref(array))
        raise MemoryError

    gc.disable()
    try:
        with contextlib.suppress(MemoryError):
            threads.map(work, range(8))
        assert [array() for array in seen] == [None] * len(seen) != []
    finally:
        gc.enable()


def test_calls_inside_of_calls_do_not_wait_for_each_other(cores):
    def work(n):
        return sum(threads.map(lambda k: sum(threads.map(lambda j: n + k + j, range(5))), range(7)))

    expected = [sum(n + k + j for k in range(7) for j in range(5)) for n in range(20)]
    assert threads.map(work, range(20)) == expected


def test_parts_begin_at_whole_chunks(cores):
    seen = []
    size = 9 * threads.CHUNK + 5
    threads.in_parts(lambda start, stop: seen.append((start, stop)), size)
    seen.sort()
    assert len(seen) == 3  # of four chunks at least
    assert (seen[0][0], seen[-1][1]) == (0, size)
    assert all(start % threads.CHUNK == 0 for start, _ in seen)
    assert all(stop == start for (_, stop), (start, _) in pairwise(seen))
    seen.clear()
    threads.in_parts(lambda start, stop: seen.append((start, stop)), 7 * threads.CHUNK)
    assert seen == [(0, 7 * threads.CHUNK)]


@pytest.mark.parametrize("cores", [1, 2])
def test_ctrl_c_waits_for_one_part_of_a_long_row(monkeypatch, cores):
    """Compiled code does not see a signal: a row is never one call, not on one core either."""
    monkeypatch.setattr(threads, "count_cores", lambda: cores)
    done = []

    def work(start, stop):
        done.append(stop - start)
        if threading.current_thread() is threading.main_thread():
            raise KeyboardInterrupt
        time.sleep(0.01)

    with pytest.raises(KeyboardInterrupt):
        threads.in_parts(work, 10**10)
    assert sum(done) < 10**9


FORK = """
import os, warnings
from pidsampler import threads
warnings.simplefilter("ignore")  # newer versions of Python warn of a fork beside threads
threads.count_cores = lambda: 3
assert threads.map(str, range(9)) == list("012345678")
child = os.fork()
if child == 0:
    import threading
    together = threading.Barrier(3, timeout=20)
    threads.map(lambda _: together.wait(), range(3))
    os._exit(7)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this system")
def test_a_forked_child_has_threads_of_its_own():
    done = subprocess.run([sys.executable, "-c", FORK], capture_output=True, text=True, timeout=60)
    assert (done.stdout.strip(), done.stderr) == ("7", "")
