"""Jobs on a Ray cluster: an actor for each GPU or core, which keeps its model loaded."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator, Iterable, Sequence
from typing import Any

from .. import moved
from ..errors import optional
from .base import Job, Worker

_DIED = "its Ray worker died: is there enough memory for so many at once?"


@moved.keywords()
def cluster(
    make: Callable[[], Worker], jobs: Sequence[Job], *, device: str, count: int | None = None
) -> Generator[Any, None, None]:
    """Do jobs on the cluster that `ray.init` finds (RAY_ADDRESS, or one on this machine if there is none).

    Every machine must see files under the same paths. Results are those of a run on one machine, bit for bit, and an
    actor that dies is treated as a process that dies is.

    Args:
        make: Makes an actor's worker.
        jobs: What to do.
        device: "auto", "cpu" or "cuda"; with "cuda" an actor takes a whole GPU.
        count: Number of actors; None takes one for each GPU or core of the cluster.

    Raises:
        PidSamplerError: Ray is not installed.
    """
    ray: Any = optional("ray", "ray", extra="ray")
    if begun := not ray.is_initialized():
        ray.init(log_to_driver=False, configure_logging=False, include_dashboard=False)
    slot = "GPU" if device == "cuda" else "CPU"
    actor = ray.remote(num_cpus=int(slot == "CPU"), num_gpus=int(slot == "GPU"))(_Actor)
    slots = count or int(ray.cluster_resources().get(slot, 1))
    waiting, busy = deque(jobs), dict[Any, tuple[Any, Job, list[Any]]]()
    free = [actor.remote(make) for _ in range(min(slots, len(waiting)))]
    try:
        while waiting or busy:
            while waiting and free:
                worker, job = free.pop(), waiting.popleft()
                busy[worker.run.options(num_returns="streaming").remote(job)] = worker, job, []
            (stream,), _ = ray.wait(list(busy), num_returns=1)
            worker, job, got = busy[stream]
            try:
                outcome = ray.get(next(stream))
            except StopIteration:
                del busy[stream]
                free.append(worker)
            except ray.exceptions.RayActorError:
                del busy[stream]
                free.append(actor.remote(make))
                given_up, again = job.lost(got, _DIED)
                yield from given_up
                waiting.extendleft(again)
            else:
                got.append(outcome)
                yield outcome
    finally:
        if begun:
            ray.shutdown()
        else:
            for worker in [*free, *(worker for worker, _, _ in busy.values())]:
                ray.kill(worker)


class _Actor:
    def __init__(self, make: Callable[[], Worker]) -> None:
        self._worker = make()

    def run(self, job: Job) -> Iterable[Any]:
        yield from self._worker.run(job)
