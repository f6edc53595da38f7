"""Worker pools: in-process, processes, Ray."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from .. import moved
from ..values import function, items, whole, word
from . import processes, ray
from .base import MOST_WORKERS, Job, Worker, check_engine


@moved.keywords()
def outcomes(
    engine: str, make: Callable[[], Worker], *, jobs: Sequence[Job], device: str, count: int | None
) -> Generator[Any, None, None]:
    """Do jobs and yield what comes of them, in no order that could be relied on.

    Args:
        engine: "local" or "ray".
        make: Makes a worker; it is pickled for another process.
        jobs: What to do.
        device: "auto", "cpu" or "cuda", where the workers run their model.
        count: Number of workers; with Ray None is one for each GPU or core of the cluster.

    Raises:
        PidSamplerError: There is no such engine, Ray is not installed, or a worker died before it had begun.
    """
    check_engine(engine)
    function("make", make, takes="()")
    jobs = items("jobs", jobs, words="jobs")
    word("device", device, choices=("auto", "cpu", "cuda"))
    count = None if count is None else whole("count", count, low=1, high=MOST_WORKERS)
    if engine == "ray":
        return ray.cluster(make, jobs, device=device, count=count)
    return _here(make, jobs) if count == 1 else processes.pool(make, jobs, count=count or 1)


def _here(make: Callable[[], Worker], jobs: Iterable[Any]) -> Generator[Any, None, None]:
    worker = make()
    for job in jobs:
        yield from worker.run(job)


__getattr__ = moved.names(__name__)
