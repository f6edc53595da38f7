"""The measurement: all that is to be timed is checked, then timed size by size."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import attrs
import numpy as np

from .. import moved
from ..backends import Backend, get_backend
from ..errors import PidSamplerError
from ..sampler import sample
from ..schedulers import FlowSDE
from ..timesteps import pid
from ..values import field, flag, function, instance, items, mapping, pairs, wholes, word
from .peers import Step, StepImplementation, check, ours
from .ratios import unpaired
from .rows import machine
from .steps import Variant, moved_bytes, slots
from .timing import (
    COPIED,
    Buffers,
    Clock,
    Effort,
    HostClock,
    Launch,
    Times,
    cache_bytes,
    clock_of,
    copies,
    element_size,
    timed,
)

PICTURE = 256  # pixels a side, of what is upscaled as a whole


def _backend(name: str, value: Any) -> Backend:
    return get_backend(value)


def _of(name: str, value: object, *, kind: type, words: str) -> tuple[Any, ...]:
    return tuple(instance(name, one, kind=kind, words=f"a list of {words}") for one in items(name, value, words=words))


def _types(name: str, value: object) -> tuple[tuple[str, str], ...]:
    return tuple((word(name, x), word(name, m)) for x, m in pairs(name, value))


@moved.keywords()
@attrs.frozen(kw_only=True)
class BenchPlan:
    """What to measure.

    Args:
        backend: Backend that is measured.
        variants: Rows to measure.
        types: Pairs (of the state and the saved tensors, of the network's output), by name.
        sides: Pixels a side of the square pictures.
        peers: Implementations of others, measured where they have the row and both types are equal and not float64.
        missing: Peers that cannot be had here, by name, and why.
        effort: Time spent on each.
        upscale: Whether to time a whole upscale by the bundled model, and its sampler alone, too.

    Raises:
        PidSamplerError: A value is not as described.
    """

    backend: Backend = field(_backend)
    variants: Sequence[Variant] = field(_of, kind=Variant, words="variants")
    types: Sequence[tuple[str, str]] = field(_types)
    sides: Sequence[int] = field(wholes, low=1)
    peers: Sequence[StepImplementation] = field(_of, kind=StepImplementation, words="peers", default=())
    missing: Mapping[str, str] = field(mapping, words="reasons by name", default={})
    effort: Effort = field(instance, kind=Effort, words="an Effort", default=Effort())
    upscale: bool = field(flag, default=False)


def measure(plan: BenchPlan, note: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Yield a row of `rows.COLUMNS` for each row, pair of types and size, and for each peer that has it.

    Args:
        plan: Rows, types and sizes to measure.
        note: Called with a line on each peer that is left out: not installed, or failing by itself.

    Raises:
        PidSamplerError: Something does not compute what it is timed for; nothing has been timed then.
    """
    instance("plan", plan, kind=BenchPlan, words="a BenchPlan")
    return _measured(plan, function("note", note, takes="(line)"))


def _measured(plan: BenchPlan, note: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    for name, why in plan.missing.items():
        note(f"without {name}: {why}")
    where, clock = machine(plan.backend), clock_of(plan.backend)
    with plan.backend.active():
        for row in _steps(plan, clock, note):
            yield {**where, **row}
        if plan.upscale:
            for row in _upscales(plan, note):
                yield {**where, **row}


def _steps(plan: BenchPlan, clock: Clock, note: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    own, checked = ours(plan.backend), {}
    for x, m in plan.types:
        asked = [own, *(plan.peers if x == m != "float64" else ())]
        checked[x, m] = [(variant, _checked(asked, variant, x, m, note)) for variant in plan.variants]
    caches = cache_bytes(plan.backend)
    most = max((slots(variant.row) for variant in plan.variants), default=0)
    for side in plan.sides:
        n = 3 * side * side
        copy = copies(plan.backend, n, caches=caches)
        clock.warm_up(copy)
        for (x, m), rows in checked.items():
            buffers: dict[int, Buffers] = {}  # of each library
            for variant, steppers in rows:
                subjects = {"copy": copy}
                for stepper, step in steppers:
                    key = id(stepper.arrays)
                    if key not in buffers:
                        buffers[key] = Buffers(stepper.arrays, (1, 3, side, side), x=x, m=m, most=most, caches=caches)
                    launches = buffers[key].launches(step, variant.row)
                    if _warmed_up(stepper, clock, launches, note):
                        subjects[stepper.name] = launches
                times = timed(clock, subjects, effort=plan.effort)
                copied = COPIED * n / times["copy"].ms / 1e6
                size = moved_bytes(variant.row, n, x=element_size(x), m=element_size(m))
                for stepper, _ in steppers:
                    if stepper.name not in times:
                        continue
                    speed = size / times[stepper.name].ms / 1e6
                    share = unpaired(times["copy"], times[stepper.name]).times(size / (COPIED * n))
                    yield {
                        **variant.described(),
                        "x": x,
                        "m": m,
                        "side": side,
                        "by": stepper.name,
                        "version": stepper.version,
                        **vars(times[stepper.name]),
                        "bytes": size,
                        "gb_s": speed,
                        "copy_gb_s": copied,
                        "share": share.middle if share.is_share else None,  # else the machine is too noisy to tell
                    }


def _checked(
    steppers: Sequence[StepImplementation], variant: Variant, x: str, m: str, note: Callable[[str], None]
) -> list[tuple[StepImplementation, Step]]:
    """Return those that have a row, each checked, and their steps."""
    found = []
    for stepper in steppers:
        try:
            step = stepper.prepare(variant.row)
            if step is not None:
                check(stepper, step, name=variant.name, row=variant.row, x=x, m=m)
                found.append((stepper, step))
        except PidSamplerError:
            raise
        except Exception as error:
            _left_out(stepper, error, note)
    return found


def _warmed_up(
    stepper: StepImplementation, clock: Clock, launches: Sequence[Launch], note: Callable[[str], None]
) -> bool:
    try:
        clock.warm_up(launches)
    except Exception as error:
        _left_out(stepper, error, note)
        return False
    return True


def _left_out(stepper: StepImplementation, error: Exception, note: Callable[[str], None]) -> None:
    """Note that a peer failed by itself, such as for want of a compiler; raise it for the one that is measured."""
    if stepper.exact:
        raise error
    note(f"without {stepper.name}: {type(error).__name__}: {str(error).partition(chr(10))[0]}")


def _upscales(plan: BenchPlan, note: Callable[[str], None]) -> Iterator[dict[str, Any]]:
    """Yield the time of a whole upscale of a square picture by the bundled model, and of its sampler alone."""
    from ..upscale.upscaler import Upscaler

    backend, side = plan.backend, 4 * PICTURE
    try:
        up = Upscaler.load("tiny", backend.device)
    except PidSamplerError as error:
        note(f"no whole upscale: {error}")
        return
    picture = np.random.default_rng(0).integers(0, 256, (PICTURE, PICTURE, 3), np.uint8)
    table = FlowSDE(pid()).table()

    def sampler() -> None:
        sample(lambda x, t: x, table, shape=(1, 3, side, side), backend=backend)
        if backend.device == "cuda":
            import cupy

            cupy.cuda.get_current_stream().synchronize()

    subjects: dict[str, Sequence[Launch]] = {
        f"upscale {PICTURE} to {side} by tiny": [lambda: up(picture)],
        f"sampler of an upscale to {side}": [sampler],
    }
    for launches in subjects.values():
        HostClock().warm_up(launches)
    times: dict[str, Times] = timed(HostClock(), subjects, effort=attrs.evolve(plan.effort, least=3))
    for name, one in times.items():
        yield {"variant": name, "side": side, "by": "pidsampler", **vars(one)}


__getattr__ = moved.names(__name__)
