"""Samplers timed: a row, a whole run, and a run by a model, as a share of a copy and beside another sampler."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import Backend, get_backend
from ..denoiser import Denoiser, DenoiserLike, Pair, as_denoiser
from ..errors import ConfigError, unknown_name
from ..sampler import sample, start
from ..schedulers.making import SamplerLike, sampler_name
from ..schedulers.registry import as_scheduler
from ..table import Row, StepTable, as_table
from ..upscale.learnt import learnt_for, warn_of_another_model
from ..values import items, shown, whole, word
from ..version import __version__
from .peers import SEED, Array, Step, StepImplementation, check, ours
from .ratios import LEAST, Ratio, median, paired
from .step_timing import StepTiming
from .steps import Variant, moved_bytes, slots
from .timing import (
    COPIED,
    Buffers,
    Clock,
    HostClock,
    Launch,
    Sample,
    Times,
    cache_bytes,
    clock_of,
    copies,
    element_size,
    in_turn,
)

if TYPE_CHECKING:
    from ..upscale.upscaler import Upscaler

ROUNDS, WITH_MODEL = 20, LEAST  # by default

_SCHEDULERS = "pidsampler.schedulers"
_OUTPUTS = ("float32", "float16", "bfloat16")  # types of a network's output; of the state, see the backend
_MOST_SIDE = 16384
MOST_ROUNDS = 10_000


def steps(
    samplers: Iterable[SamplerLike],
    *,
    against: SamplerLike | None = None,
    model: str | Path | Upscaler | DenoiserLike | None = None,
    side: int = 1024,
    dtype: str = "float32",
    rounds: int | None = None,
    backend: str | Backend = "numpy",
) -> list[StepTiming]:
    """Time samplers: of each its costliest row and a whole run without the network, and a run by a model.

    All take turns, in an order drawn anew in each round, so that what disturbs the machine meets all. Ratios are
    medians of those within a round, with an interval of 95 %, see `ratios.median`. Before, each row is checked against
    the formula.

    Args:
        samplers: In any form of `get_scheduler`; without a list over `timesteps.pid()`. "@NAME" may be one of the
            model's own tables.
        against: Sampler that each is compared with; it may be among them.
        model: To time a run with the network too: a name or folder, a loaded Upscaler, or a denoiser.
        side: Pixels a side of the square result, 1..16384.
        dtype: Type of the state, or of state and network's output, such as "float32/float16".
        rounds: Samples of each, at least 6; None is 20, and with a model 6.
        backend: Backend that does the rows.

    Returns:
        A timing for each sampler and kind, in order.

    Raises:
        PidSamplerError: An argument is not as described, a row does not do what its formula says, or the model failed.
    """
    tables = tables_of(model)
    subjects = [_Subject.of(sampler, tables) for sampler in items("samplers", samplers, words="samplers")]
    place = _Place(get_backend(backend), types=word("dtype", dtype), side=whole("side", side, low=1, high=_MOST_SIDE))
    if rounds is None:
        rounds = ROUNDS if model is None else WITH_MODEL
    whole("rounds", rounds, low=LEAST, high=MOST_ROUNDS)
    base = None
    if against is not None:
        if all(one.given == against for one in subjects):
            raise ConfigError(f"against={shown(against)} is all that is to be timed: name another sampler beside it")
        base = next((one for one in subjects if one.given == against), None) or _Subject.of(against, tables)
        subjects += [] if base in subjects else [base]
    names = _names(subjects)
    for name, subject in zip(names, subjects, strict=True):
        warn_of_another_model(_learnt_for(subject.table, model), name, stacklevel=2)
    with place.backend.active():
        found = place.timed(dict(zip(names, subjects, strict=True)), _networks(model, place), rounds)
    return found if base is None else _compared(found, names[subjects.index(base)])


@dataclass(frozen=True, kw_only=True)
class CostliestRow:
    """The costliest row of a sampler, checked against the formula and ready to be timed.

    Args:
        name: Name, such as "heun@uniform:8, row 2 of 15".
        bytes: What it moves.
        launches: Functions that do it, each on other tensors; together they hold four times what all caches do.
        backend: Backend that does them, in its `active()`; on a GPU a launch is done after `synchronize()`.
    """

    name: str
    bytes: int
    launches: Sequence[Launch]
    backend: Backend


def costliest_row(
    sampler: SamplerLike, *, side: int = 1024, dtype: str = "float32", backend: str | Backend = "numpy"
) -> CostliestRow:
    """Return a sampler's costliest row, for a clock of one's own; the arguments are those of `steps`.

    Raises:
        PidSamplerError: An argument is not as described there, or a row does not do what its formula says.
    """
    subject = _Subject.of(sampler)
    place = _Place(get_backend(backend), types=word("dtype", dtype), side=whole("side", side, low=1, high=_MOST_SIDE))
    name = sampler_name(sampler)
    with place.backend.active():
        i, launches = place.costliest(subject.table, place.buffers({name: subject}, cache_bytes(place.backend)))
    size = moved_bytes(subject.table[i], 3 * side**2, x=element_size(place.x), m=element_size(place.m))
    return CostliestRow(name=f"{name}, {_part(subject, i)}", bytes=size, launches=launches, backend=place.backend)


def types_of(text: str, backend: Backend) -> tuple[str, str]:
    """Return the types of the state and of the network's output of a text such as "float32/float16".

    Raises:
        PidSamplerError: There is no such type, or the backend has no such state.
    """
    x, slash, m = text.partition("/")
    states = [np.dtype(dtype).name for dtype in backend.state_types]
    if x not in states:
        raise unknown_name("type of the state", x, known=states)
    outputs = {x, *_OUTPUTS}
    if slash and m not in outputs:
        raise unknown_name("type of the output", m, known=outputs)
    return x, m if slash else x


@dataclass(frozen=True, eq=False)
class _Subject:
    given: SamplerLike
    table: StepTable
    about: Mapping[str, Any]

    @classmethod
    def of(cls, sampler: SamplerLike, tables: Mapping[str, Path] | None = None) -> _Subject:
        made = as_scheduler(sampler, partial=True, tables=tables)
        package, _, family = type(made).__module__.rpartition(".")
        eta = getattr(made, "eta", None)
        about = {
            "family": family if package == _SCHEDULERS else "",
            "eta": eta if isinstance(eta, int | float) else None,
        }
        return cls(sampler, as_table(made), about)


def _names(subjects: Sequence[_Subject]) -> list[str]:
    """Names that tell samplers apart: the second of one name has a number."""
    met: dict[str, int] = {}
    names = []
    for subject in subjects:
        name = sampler_name(subject.given)
        met[name] = met.get(name, 0) + 1
        names.append(name if met[name] == 1 else f"{name} #{met[name]}")
    return names


def tables_of(model: str | Path | Upscaler | DenoiserLike | None) -> dict[str, Path]:
    """Return the files of a model's own tables by name; none of what is no model folder's.

    Raises:
        PidSamplerError: There is no such model, or its manifest is not valid.
    """
    from ..onnx import model_tables
    from ..upscale.upscaler import Upscaler

    if isinstance(model, str | Path):
        return model_tables(model)
    return model.model.contract.tables if isinstance(model, Upscaler) else {}


def _learnt_for(table: StepTable, model: str | Path | Upscaler | DenoiserLike | None) -> dict[str, Any] | None:
    """For which model a table was learnt; None where it was not, or no model runs it."""
    from ..onnx import model_hashes
    from ..upscale.upscaler import Upscaler

    if model is None or table.history is None:
        return None
    hashes = model_hashes(model) if isinstance(model, str | Path) else {}
    return learnt_for(table, model.model.hashes if isinstance(model, Upscaler) else hashes)


class _Timed:
    """A network whose time is taken."""

    def __init__(self, denoiser: Denoiser, place: _Place) -> None:
        self._denoiser, self._place = denoiser, place

    def __getattr__(self, name: str) -> Any:  # such as `input_dtype`
        return getattr(self._denoiser, name)

    def predict(self, x: Array, t: float, out: Array) -> None:
        began = self._place.now()
        self._denoiser.predict(x, t, out)
        self._place.in_network += self._place.now() - began


# By whether a table asks two networks, what `sample` takes; and what to call it.
_Networks = tuple[str, Callable[[bool], DenoiserLike]]


def _networks(model: str | Path | Upscaler | DenoiserLike | None, place: _Place) -> _Networks | None:
    from ..upscale.upscaler import Upscaler

    if model is None:
        return None
    if isinstance(model, str | Path):
        model, name = Upscaler.load(model, place.backend.device), str(model)
    elif not isinstance(model, Upscaler):
        network = as_denoiser(model)
        return "the network", lambda asks_both: network
    else:
        name = model.model.contract.name
    scale, up = model.model.contract.scale, model
    if up.backend.device != place.backend.device:
        raise ConfigError(
            f"the model is on the device {up.backend.device}, and the rows are done on {place.backend.device}: load it "
            f"with device={place.backend.device!r}"
        )
    if place.side % scale:
        raise ConfigError(f"side={place.side} must be a multiple of {scale}, by which the model {name} enlarges")
    small = place.side // scale
    photo = np.random.default_rng(SEED).integers(0, 256, (small, small, 3), np.uint8)

    def bound(asks_both: bool) -> DenoiserLike:
        made = up.bind(photo, pair=asks_both)
        if made.shape != place.shape:
            raise ConfigError(
                f"the model {name} makes {made.shape[3]}x{made.shape[2]}, not side={place.side}: pass that"
            )
        return made.denoiser

    return name, cache(bound)


class _Place:
    """Where and at what size samplers are timed: the backend, its clock, and the types."""

    def __init__(self, backend: Backend, *, types: str, side: int) -> None:
        self.backend, self.side = backend, side
        self.x, self.m = types_of(types, backend)
        self.shape = (1, 3, side, side)
        self.in_network = 0.0

    def now(self) -> float:
        self.backend.synchronize()
        return time.perf_counter()

    def timed(self, samplers: Mapping[str, _Subject], networks: _Networks | None, rounds: int) -> list[StepTiming]:
        n, caches = 3 * self.side**2, cache_bytes(self.backend)
        buffers, clock = self.buffers(samplers, caches), clock_of(self.backend)
        takes = {"": _taking(clock, copies(self.backend, n, caches=caches))}
        abouts: dict[str, tuple[str, str, dict[str, Any]]] = {}
        outside: dict[str, list[float]] = {}

        def add(name: str, part: str, take: Callable[[], Sample], about: Mapping[str, Any]) -> None:
            key = f"{name}, {part}"
            where = {"x": self.x, "m": self.m, "side": self.side, "by": "pidsampler", "version": __version__}
            takes[key] = take
            abouts[key] = name, part, {**samplers[name].about, **about, "variant": key, **where}

        for name, one in samplers.items():
            sizes = self._sizes(one.table)
            i, launches = self.costliest(one.table, buffers)
            described = Variant(name="", family="", eta=None, row=one.table[i]).described()
            described = {key: described[key] for key in ("clip", "draws", "reads", "writes")}
            add(name, _part(one, i), _taking(clock, launches), {**described, "bytes": sizes[i]})
            runs = _taking(HostClock(), self._runs(one.table, buffers))
            add(name, f"run of {_words(one)}", runs, {"bytes": sum(sizes)})
            if networks is not None:
                take, outside[name] = self._whole(one.table, networks[1](one.table.asks_both))
                add(name, f"run with {networks[0]}", take, {})
        samples = in_turn(takes, rounds)
        copied = samples.pop("")
        found = []
        for key, taken in samples.items():
            name, part, about = abouts[key]
            timing = StepTiming(sampler=name, part=part, about=about, samples=tuple(taken))
            if "bytes" in about:
                factor = about["bytes"] / (COPIED * n)
                timing = replace(timing, copy=Times.of(copied), share=_ratio(copied, taken).times(factor))
            else:
                timing = replace(timing, outside=median(outside[name][-rounds:]))
            found.append(timing)
        return found

    def buffers(self, samplers: Mapping[str, _Subject], caches: int) -> Buffers:
        """Tensors for samplers, once each of their rows is checked against the formula."""
        own = ours(self.backend)
        for name, subject in samplers.items():
            for i, row in enumerate(subject.table):
                check(own, _step(own, row), name=f"{name}, {_part(subject, i)}", row=row, x=self.x, m=self.m)
        most = max((slots(row) for one in samplers.values() for row in one.table), default=0)
        return Buffers(own.arrays, self.shape, x=self.x, m=self.m, most=most, caches=caches)

    def costliest(self, table: StepTable, buffers: Buffers) -> tuple[int, list[Launch]]:
        """The number of the row that moves the most bytes, and of those draws the most; and its launches."""
        sizes = self._sizes(table)
        i = max(range(len(sizes)), key=lambda i: (sizes[i], len(table[i].draws)))
        return i, buffers.launches(_step(ours(self.backend), table[i]), table[i])

    def _sizes(self, table: StepTable) -> list[int]:
        x, m = element_size(self.x), element_size(self.m)
        return [moved_bytes(row, 3 * self.side**2, x=x, m=m) for row in table]

    def _runs(self, table: StepTable, buffers: Buffers) -> list[Launch]:
        def run(x: Array, outputs: Iterator[Array]) -> None:
            begun = start(table, x, seed=SEED, inplace=True, backend=self.backend)
            for _ in begun:
                begun.step(next(outputs))
            self.backend.synchronize()

        return buffers.runs(run)

    def _whole(self, table: StepTable, network: DenoiserLike) -> tuple[Callable[[], Sample], list[float]]:
        """What takes a sample of a run by a network, and the shares outside the network that it notes."""
        shares: list[float] = []
        networks = [_Timed(each, self) for each in getattr(as_denoiser(network), "networks", (as_denoiser(network),))]
        timed = networks[0] if len(networks) == 1 else Pair(*networks)

        def take() -> Sample:
            self.in_network, began = 0.0, self.now()
            sample(timed, table, shape=self.shape, seed=SEED, backend=self.backend, dtype=np.dtype(self.x))
            seconds = self.now() - began
            shares.append(1.0 - self.in_network / seconds)
            return 1e3 * seconds, None

        take()  # warm
        return take, shares


def _step(own: StepImplementation, row: Row) -> Step:
    step = own.prepare(row)
    assert step is not None  # ours have every row
    return step


def _part(subject: _Subject, i: int) -> str:
    return f"row {i + 1} of {len(subject.table)}"


def _words(subject: _Subject) -> str:
    return f"{len(subject.table)} row{'s' if len(subject.table) > 1 else ''}"


def _taking(clock: Clock, launches: Sequence[Launch]) -> Callable[[], Sample]:
    clock.warm_up(launches)
    return partial(clock.sample, itertools.cycle(launches))


def _ratio(taken: Sequence[Sample], others: Sequence[Sample]) -> Ratio:
    return paired([ms for ms, _ in taken], [ms for ms, _ in others])


def _compared(found: list[StepTiming], base: str) -> list[StepTiming]:
    """Each with its ratio to the part of the same kind of the sampler `base`."""
    kinds = {timing.kind: timing.samples for timing in found if timing.sampler == base}
    return [
        timing
        if timing.sampler == base
        else replace(timing, against=base, ratio=_ratio(timing.samples, kinds[timing.kind]))
        for timing in found
    ]
