"""A study's jobs on a Ray cluster: an actor for each GPU or core, which keeps its model loaded."""

from __future__ import annotations

from collections import deque
from collections.abc import Generator, Sequence
from typing import Any

from .engine import Run, lacking, retried
from .extras import optional
from .work import Job, Outcome, Worker

_DIED = "its Ray worker died: is there enough memory for so many at once?"


def cluster(jobs: Sequence[Job], device: str, count: int | None = None) -> Generator[Outcome, None, None]:
    """Do jobs on the cluster that `ray.init` finds (RAY_ADDRESS, or one on this machine if there is none).

    Every machine must see the study's pictures, models and folder under the same paths. Results are those of a run on
    one machine, bit for bit, and an actor that dies is treated as `engine.processes` treats a process.

    Args:
        jobs: What to do.
        device: "auto", "cpu" or "cuda"; with "cuda" an actor takes a whole GPU.
        count: Of actors; None takes one for each GPU or core of the cluster.

    Raises:
        PidSamplerError: Ray is not installed.
    """
    ray: Any = optional("ray", "ray", "ray")
    if begun := not ray.is_initialized():
        ray.init(log_to_driver=False, configure_logging=False, include_dashboard=False)
    slot = "GPU" if device == "cuda" else "CPU"
    actor = ray.remote(num_cpus=int(slot == "CPU"), num_gpus=int(slot == "GPU"))(_Actor)
    slots = count or int(ray.cluster_resources().get(slot, 1))
    waiting, busy = deque(jobs), dict[Any, tuple[Any, Job, set[Run]]]()
    free = [actor.remote(device) for _ in range(min(slots, len(waiting)))]
    try:
        while waiting or busy:
            while waiting and free:
                worker, job = free.pop(), waiting.popleft()
                busy[worker.run.options(num_returns="streaming").remote(job)] = worker, job, set()
            (stream,), _ = ray.wait(list(busy), num_returns=1)
            worker, job, got = busy[stream]
            try:
                outcome = ray.get(next(stream))
            except StopIteration:
                del busy[stream]
                free.append(worker)
            except ray.exceptions.RayActorError:
                del busy[stream]
                free.append(actor.remote(device))
                yield from (Outcome(run, error=_DIED) for run in lacking(job, got) if len(job.tables) == 1)
                waiting.extendleft(retried(job, got))
            else:
                got.add(outcome.run)
                yield outcome
    finally:
        if begun:
            ray.shutdown()
        else:
            for worker in [*free, *(worker for worker, _, _ in busy.values())]:
                ray.kill(worker)


class _Actor:
    def __init__(self, device: str) -> None:
        self._worker = Worker(device)

    def run(self, job: Job) -> Generator[Outcome, None, None]:
        yield from self._worker.run(job)
