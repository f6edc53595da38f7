"""Samplers timed: a row, a whole run, and a run by a model, as a share of a copy and beside another sampler."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ..backends import Backend, get_backend
from ..denoiser import Denoiser, DenoiserLike, Pair, as_denoiser
from ..errors import ConfigError, unknown_name
from ..sampler import sample, start
from ..schedulers.making import SamplerLike, sampler_name
from ..schedulers.registry import get_scheduler
from ..table import StepTable, as_table
from ..values import items, whole, word
from ..version import __version__
from .peers import SEED, Array, check, ours
from .ratios import LEAST, NOISY, Ratio, median, paired
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


@dataclass(frozen=True, kw_only=True)
class StepTiming:
    """A sampler's row, its run, or its run by a model, timed.

    Args:
        sampler: The sampler's name: its spec, or that of its class or function.
        part: Such as "row 3 of 8", "run of 8 rows" or "run with tiny".
        about: What was timed, by the names of `rows.COLUMNS`.
        samples: Milliseconds of one launch of the row, or of one run, and on a GPU those of the host, round by round.
        copy: Of a plain copy, taken in turn with it; None of a run by a model.
        share: Of the copy's speed, with its 95 % interval; None of a run by a model.
        outside: What of a run by a model is not the network's: noise and rows, as a share.
        against: Name of the sampler that it is compared with.
        ratio: How many times as long as that one's it takes, with its 95 % interval.
    """

    sampler: str
    part: str
    about: Mapping[str, Any] = field(repr=False)
    samples: tuple[Sample, ...] = field(repr=False)
    copy: Times | None = None
    share: Ratio | None = None
    outside: Ratio | None = None
    against: str | None = None
    ratio: Ratio | None = None

    @property
    def times(self) -> Times:
        """Median and interquartile range of the samples."""
        return Times.of(self.samples)

    @property
    def kind(self) -> str:
        """Which of two samplers' parts are compared: "row", "run of" or "run with"."""
        return "row" if self.part.startswith("row") else "run of" if self.outside is None else "run with"

    @property
    def is_noisy(self) -> bool:
        """Whether its share of a copy, or its ratio, cannot be told."""
        unsure = self.ratio is not None and self.ratio.verdict == NOISY
        return unsure or (self.share is not None and not self.share.is_share)

    def columns(self) -> dict[str, Any]:
        """Return a row of `rows.COLUMNS`; the share of a copy is None where the machine is too noisy to tell it."""
        row = {**self.about, **vars(self.times)}
        if self.copy is not None and self.share is not None:
            row["gb_s"] = row["bytes"] / self.times.ms / 1e6
            row["copy_gb_s"] = COPIED * 3 * row["side"] ** 2 / self.copy.ms / 1e6
            row["share"] = self.share.middle if self.share.is_share else None
        return row

    def to_dict(self) -> dict[str, Any]:
        """Return everything in one flat dict, for a table: `columns`, and each ratio with the ends of its interval."""
        row = {"sampler": self.sampler, "part": self.part, **self.columns(), "against": self.against}
        for name in ("share", "outside", "ratio"):
            ratio: Ratio | None = getattr(self, name)
            row.setdefault(name, None if ratio is None else ratio.middle)
            row[f"{name}_low"], row[f"{name}_high"] = (None, None) if ratio is None else (ratio.low, ratio.high)
        return row

    @property
    def compared(self) -> str:
        """The comparison in words, such as "0.93 [0.91, 0.95] times as long as heun: faster", or "" without one."""
        return "" if self.ratio is None else f"{self.ratio} times as long as {self.against}: {self.ratio.verdict}"

    @property
    def shares(self) -> str:
        """The share of a copy, or what of a run by a model is not the network's, in words."""
        if self.outside is not None:
            return f"{_percent(self.outside)} outside the network"
        if self.share is None:
            return ""
        return f"{_percent(self.share)} of a copy" if self.share.is_share else f"share of a copy: {NOISY}"

    def __str__(self) -> str:
        said = (
            f"{self.sampler}, {self.part}: {self.times.ms:.4g} ms (IQR {self.times.iqr_ms:.2g}, {self.times.n} samples)"
        )
        return "; ".join(filter(None, [said, self.shares, self.compared]))


def _percent(ratio: Ratio) -> str:
    return f"{ratio.middle:.0%} [{ratio.low:.0%}, {ratio.high:.0%}]"


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
        samplers: In any form of `get_scheduler`; without a list over `timesteps.pid()`.
        against: Sampler that each is compared with; it may be among them.
        model: To time a run with the network too: a name or folder, a loaded Upscaler, or a denoiser.
        side: Pixels a side of the square result, 1..16384.
        dtype: Type of the state, or of state and network's output, such as "float32/float16".
        rounds: Samples of each, at least 6; None is 20, and with a model 6.
        backend: Backend that does the rows.

    Raises:
        PidSamplerError: An argument is not as described, a row does not do what its formula says, or the model failed.
    """
    subjects = [_Subject.of(sampler) for sampler in items("samplers", samplers, words="samplers")]
    place = _Place(get_backend(backend), types=word("dtype", dtype), side=whole("side", side, low=1, high=_MOST_SIDE))
    if rounds is None:
        rounds = ROUNDS if model is None else WITH_MODEL
    whole("rounds", rounds, low=LEAST, high=MOST_ROUNDS)
    base = None
    if against is not None:
        base = next((one for one in subjects if one.given == against), None) or _Subject.of(against)
        subjects += [] if base in subjects else [base]
    names = _names(subjects)
    with place.backend.active():
        found = place.timed(dict(zip(names, subjects, strict=True)), _networks(model, place), rounds)
    return found if base is None else _compared(found, names[subjects.index(base)])


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
    def of(cls, sampler: SamplerLike) -> _Subject:
        made = get_scheduler(sampler)
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
        own, n, caches = ours(self.backend), 3 * self.side**2, cache_bytes(self.backend)
        for name, subject in samplers.items():
            for i, row in enumerate(subject.table):
                named = f"{name}, {_part(subject, i)}"
                step = own.prepare(row)
                assert step is not None
                check(own, step, name=named, row=row, x=self.x, m=self.m)
        most = max((slots(row) for one in samplers.values() for row in one.table), default=0)
        buffers = Buffers(own.arrays, self.shape, x=self.x, m=self.m, most=most, caches=caches)
        clock = clock_of(self.backend)
        takes = {"": _taking(clock, copies(self.backend, n, caches=caches))}
        abouts: dict[str, tuple[str, str, dict[str, Any]]] = {}
        outside: dict[str, list[float]] = {}

        def add(name: str, part: str, take: Callable[[], Sample], about: Mapping[str, Any]) -> None:
            key = f"{name}, {part}"
            where = {"x": self.x, "m": self.m, "side": self.side, "by": "pidsampler", "version": __version__}
            takes[key] = take
            abouts[key] = name, part, {**samplers[name].about, **about, "variant": key, **where}

        for name, one in samplers.items():
            sizes = [moved_bytes(row, n, x=element_size(self.x), m=element_size(self.m)) for row in one.table]
            i = max(range(len(sizes)), key=lambda i: (sizes[i], len(one.table[i].draws)))
            row, rows = one.table[i], _words(one)
            described = Variant(name="", family="", eta=None, row=row).described()
            described = {key: described[key] for key in ("clip", "draws", "reads", "writes")}
            step = own.prepare(row)
            assert step is not None
            launches = buffers.launches(step, row)
            add(name, _part(one, i), _taking(clock, launches), {**described, "bytes": sizes[i]})
            add(name, f"run of {rows}", _taking(HostClock(), self._runs(one.table, buffers)), {"bytes": sum(sizes)})
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
