"""How launches are timed: clocks, samples in turn, and buffers that no cache holds."""

from __future__ import annotations

import itertools
import random
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import attrs
import numpy as np

from ..backends import Backend
from ..backends.kernels import KINDS
from ..errors import ConfigError
from ..table import Row
from ..threads import in_parts
from ..values import field, number, whole
from .peers import Array, Arrays, Step
from .steps import slots

Launch = Callable[[], object]
Sample = tuple[float, float | None]  # milliseconds of a launch, and on a GPU those that the host needs for it

COPIED = 12  # bytes an element that the copy moves

_TURNOVER = 4  # what launches go through before they come back, in sizes of all caches
_UNKNOWN_CACHES = 64 << 20  # bytes, where the machine does not say
_MOST = 100  # samples
_SLOW = 1.0  # seconds after which three samples do
_QUEUED = 16  # launches in a sample on a GPU: more than a thousand kernels would fill the stream's queue
_HELD = 2.0  # seconds that a stream waits for its launches at most
_SIZES: dict[str, int] = {str(dtype): dtype.itemsize for dtype in (*KINDS, np.dtype(np.float64))}


@attrs.frozen
class Effort:
    """How long each subject is timed.

    Args:
        seconds: Until so much time is spent on it,
        least: but at least so many samples, or three where those take more than a second.
    """

    seconds: float = field(number, low=0.0, default=0.1)
    least: int = field(whole, low=1, default=5)

    def enough(self, samples: int, spent: float) -> bool:
        """Return whether so many samples, taken in so many seconds, are enough."""
        least = min(self.least, 3) if spent > _SLOW else self.least
        return samples >= least and (spent > self.seconds or samples >= _MOST)


@dataclass(frozen=True, kw_only=True)
class Times:
    """Of one launch: median and interquartile range, on a GPU also the median of the host's time for it.

    Args:
        ms: Median in milliseconds.
        iqr_ms: Interquartile range.
        n: Number of samples.
        host_ms: The host's, None on the CPU.
    """

    ms: float
    iqr_ms: float
    n: int
    host_ms: float | None = None

    @staticmethod
    def of(samples: Sequence[Sample]) -> Times:
        """Return those of samples."""
        low, middle, high = np.percentile([ms for ms, _ in samples], (25, 50, 75))
        host = [ms for _, ms in samples if ms is not None]
        host_ms = float(np.median(host)) if host else None
        return Times(ms=float(middle), iqr_ms=float(high - low), n=len(samples), host_ms=host_ms)


class Clock(Protocol):
    """What takes samples."""

    def warm_up(self, launches: Sequence[Launch]) -> None:
        """Do what is done at first only: compile, allocate, fill caches of code."""
        ...

    def sample(self, launches: Iterator[Launch]) -> Sample:
        """Time launches."""
        ...


class HostClock:
    """Where a launch returns when it is done."""

    def warm_up(self, launches: Sequence[Launch]) -> None:
        """Launch once."""
        launches[0]()

    def sample(self, launches: Iterator[Launch]) -> Sample:
        """Time one launch."""
        launch = next(launches)
        began = time.perf_counter()
        launch()
        return 1e3 * (time.perf_counter() - began), None


class DeviceClock:
    """Events on CuPy's current stream, which is held while launches are queued: the card has no pause between them."""

    def __init__(self) -> None:
        import cupy

        self._cuda = cupy.cuda

    def warm_up(self, launches: Sequence[Launch]) -> None:
        """Launch once on a free stream, since to compile may wait for it; then sample, so that a pool has its memory.

        Raises:
            PidSamplerError: A launch waits for the stream.
        """
        launches[0]()
        self.sample(itertools.cycle(launches))

    def sample(self, launches: Iterator[Launch]) -> Sample:
        """Time sixteen launches.

        Raises:
            PidSamplerError: A launch waits for the stream.
        """
        stream, go = self._cuda.get_current_stream(), threading.Event()
        begin, end = self._cuda.Event(), self._cuda.Event()
        stream.launch_host_func(lambda _: go.wait(_HELD), None)
        try:
            begin.record(stream)
            began = time.perf_counter()
            for launch in itertools.islice(launches, _QUEUED):
                launch()
            host = time.perf_counter() - began
            end.record(stream)
        finally:
            go.set()
        end.synchronize()
        if host > _HELD:
            raise ConfigError(f"a launch waits for the GPU: the host needed {host:.1f} s for {_QUEUED}")
        return float(self._cuda.get_elapsed_time(begin, end)) / _QUEUED, 1e3 * host / _QUEUED


def clock_of(backend: Backend) -> Clock:
    """Return the clock for a row on a backend's device."""
    return DeviceClock() if backend.device == "cuda" else HostClock()


def in_turn(subjects: Mapping[str, Callable[[], Sample]], rounds: int) -> dict[str, list[Sample]]:
    """Take a sample of each subject in each round, in an order drawn anew, so that the k-th ones are from one moment.

    Args:
        subjects: Functions that take a sample, by name.
        rounds: Number of samples of each.
    """
    order, rng = list(subjects), random.Random(0)
    samples: dict[str, list[Sample]] = {name: [] for name in subjects}
    for _ in range(rounds):
        rng.shuffle(order)
        for name in order:
            samples[name].append(subjects[name]())
    return samples


def timed(clock: Clock, subjects: Mapping[str, Sequence[Launch]], *, effort: Effort) -> dict[str, Times]:
    """Time subjects, each a list of launches to go through, in turn: what disturbs the machine meets all of them."""
    launches = {name: itertools.cycle(one) for name, one in subjects.items()}
    samples: dict[str, list[Sample]] = {name: [] for name in subjects}
    spent = dict.fromkeys(subjects, 0.0)
    waiting = list(subjects)
    while waiting:
        for name in waiting:
            began = time.perf_counter()
            samples[name].append(clock.sample(launches[name]))
            spent[name] += time.perf_counter() - began
        waiting = [name for name, taken in samples.items() if not effort.enough(len(taken), spent[name])]
    return {name: Times.of(taken) for name, taken in samples.items()}


class Buffers:
    """Tensors of one library, size and pair of types, at least four times what all caches hold.

    Args:
        arrays: The library.
        shape: (1, 3, H, W).
        x: Type of the state and the saved tensors.
        m: Type of the network's output.
        most: Most saved tensors that any row needs.
        caches: Bytes, see `cache_bytes`.
    """

    def __init__(self, arrays: Arrays, shape: tuple[int, ...], *, x: str, m: str, most: int, caches: int) -> None:
        host = np.random.default_rng(0).standard_normal(shape, np.float32)
        count = -(-_TURNOVER * caches // (host.size * element_size(x)))
        self._fresh = arrays.upload(host, x)
        self._states = [arrays.upload(host, x) for _ in range(count + most)]
        self._outputs = [arrays.upload(host, m) for _ in range(count)]

    def launches(self, step: Step, row: Row) -> list[Launch]:
        """Return launches of a row that go through all tensors; x and the saved ones are as they were at first."""
        for state in self._states:
            state[...] = self._fresh
        length = 1 + slots(row)
        groups = [self._states[k : k + length] for k in range(0, len(self._states) - length + 1, length)]
        return [partial(step, x, m, saved) for (x, *saved), m in zip(groups, self._outputs, strict=False)]

    def runs(self, run: Callable[[Array, Iterator[Array]], object]) -> list[Launch]:
        """Return launches of a function of x and an endless supply of outputs; x is as it was at first."""
        for state in self._states:
            state[...] = self._fresh
        outputs = itertools.cycle(self._outputs)
        return [partial(run, x, outputs) for x in self._states]


def copies(backend: Backend, n: int, *, caches: int) -> list[Launch]:
    """Return launches of a plain copy of 6n bytes, which moves 12n as an Euler step of n elements in float32 does."""
    count = -(-_TURNOVER * caches // (12 * n))
    pairs = [[backend.empty((3 * n // 2,), np.float32) for _ in range(2)] for _ in range(count)]
    for array in itertools.chain(*pairs):
        array[...] = 1.0
    if backend.device == "cuda":
        import cupy

        return [partial(cupy.copyto, target, source) for source, target in pairs]

    def copy(source: Array, target: Array) -> None:
        def part(start: int, stop: int) -> None:
            target[start:stop] = source[start:stop]

        in_parts(part, target.size)  # as rows are done

    return [partial(copy, source, target) for source, target in pairs]


def element_size(dtype: str) -> int:
    """Return the bytes of an element of a type by name."""
    return _SIZES[dtype]


def cache_bytes(backend: Backend) -> int:
    """Return what all caches of a backend's device hold together: the CPU's on all levels, or the GPU's second."""
    if backend.device == "cuda":
        import cupy

        properties: dict[str, Any] = cupy.cuda.runtime.getDeviceProperties(backend.device_id)
        return int(properties["l2CacheSize"])
    found = {}
    for folder in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index*"):
        try:
            level, cpus, size = ((folder / name).read_text().strip() for name in ("level", "shared_cpu_list", "size"))
        except OSError:
            continue
        found[level, cpus, (folder / "type").read_text()] = int(size.removesuffix("K")) << 10
    return sum(found.values()) or _UNKNOWN_CACHES
