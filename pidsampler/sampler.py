"""The one loop: `sample` runs a table with a denoiser; `start` hands the loop to the caller, as a `Run`."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from attrs import evolve

from . import moved
from .backends import Backend, backend_of, get_backend
from .denoiser import Denoiser, DenoiserLike, as_denoiser, network_of
from .errors import ConfigError, ModelError
from .noise import NoiseFunction, with_noise
from .noise.philox import check_seeds
from .schedulers.making import SamplerLike
from .schedulers.registry import get_scheduler
from .table import Combination, Row, StepTable, as_table
from .values import callback, flag, instance, shown
from .values import shape as shape_

Array = Any


class Run:
    """A table being carried out on one batch, made by `start`.

        run = pidsampler.start(table, x, seed=0)
        for row in run:
            run.step(net(run.x, row.at))
        run.x

    `run.advance(net)` is one row of this, `run.finish(net)` all that are left. All state of a run is in this object:
    two runs can interleave, and a loop can be left at any row.

    Args:
        seeds: Seed of each image.
        backend: Owner of x, which does the rows.
        noise: Function of (seed, draw, shape) that makes the noise; None for Philox.

    Attributes:
        table: The StepTable, with the draws of the noise asked for.
        x: (B, ...) array, the state; changed in place by each step.
        index: Number of rows done, 0..len(run).
    """

    def __init__(
        self, table: StepTable, x: Array, *, seeds: tuple[int, ...], backend: Backend, noise: NoiseFunction | None
    ) -> None:
        self.table = table
        self.x = x
        self.index = 0
        self._seeds = seeds
        self._backend = backend
        self._noise = noise
        self._saved = [backend.empty(x.shape, x.dtype) for _ in range(table.slots)]
        self._given: list[Array] = []  # noise of a function, one tensor a draw of a row
        self._m: Array = None  # what the network writes
        self._copy: Array = None  # of x, in the type that the network reads
        self._is_copied = False  # whether a step of `finish` has made that copy

    def __repr__(self) -> str:
        return f"<Run of {len(self.table)} rows, {self.index} done, x of shape {tuple(self.x.shape)}>"

    def __len__(self) -> int:
        return len(self.table)

    def __iter__(self) -> Iterator[Row]:
        """Yield the rows not yet done. Each must be followed by one call of `step`."""
        while self.index < len(self):
            index = self.index
            yield self.row
            if self.index != index + 1:
                raise ConfigError(f"step() was called {self.index - index} times for row {index}, expected once")

    @property
    def row(self) -> Row:
        """The row to do next.

        Raises:
            PidSamplerError: All rows are done.
        """
        if self.index >= len(self):
            raise ConfigError(f"all {len(self)} rows of this run are done: start another run")
        return self.table.rows[self.index]

    def step(self, m: Array, copy: Array | None = None) -> None:
        """Do the current row, given the output at (run.x, row.at) of the network that the row asks, `row.net`.

        Args:
            m: Array like x, of any floating type; it is only read.
            copy: Array of x's shape and any floating type, which becomes the new x too: on the GPU in the same pass,
                for a network that reads half precision.

        Raises:
            PidSamplerError: m or copy has another shape than x, or all rows are done.
        """
        row, saved = self.row, self._saved
        if copy is not None and getattr(copy, "shape", None) != self.x.shape:
            raise ConfigError(f"copy must be an array of x's shape {self.x.shape}")
        if self._noise is not None:
            row, saved = self._with_given_noise(row)
        self._backend.step(row, self.x, m=self._output(m), saved=saved, seeds=self._seeds, copy=copy)
        self.index += 1

    def initial_noise(self) -> None:
        """Make x the initial noise, draw 0."""
        self._fill(self.x, draw=0)

    def add_noise(self) -> None:
        """Make x, a clean image, (1 - t)*x + t*N(0), at the table's first noise level t: where SDEdit begins.

        Source: SDEdit (arXiv 2108.01073), algorithm 1, in flow time.
        """
        t = self.table.times[0]
        if self._noise is None:
            self._backend.noise(self.x, self._seeds, draw=0, keep=1.0 - t, scale=t)
            return
        drawn = self._backend.empty(self.x.shape, self.x.dtype)
        self._fill(drawn, draw=0)
        row = Row(1.0, t, a=1.0 - t, h={0: t})
        self._backend.step(row, self.x, m=drawn, saved=[drawn], seeds=self._seeds)

    def evaluate(self, denoiser: DenoiserLike, t: float | None = None, *, net: int | None = None) -> Array:
        """Return the network's output at (run.x, row.at), in the element type that the network writes.

        Args:
            denoiser: A Denoiser, any callable net(x, t) -> m, or a tuple (conditional, unconditional) of two.
            t: Another time to tell the network than the row's `at`, in (0, 1], for a table to branch to.
            net: Another network than the row's, 0 or 1, likewise.

        Returns:
            Array like x; the next evaluation overwrites it.

        Raises:
            PidSamplerError: The denoiser is no network, its output has another shape, or all rows are done.
        """
        row = self.row
        network = network_of(denoiser, row.net if net is None else net)
        t = row.at if t is None else t
        x = self.x
        if (read := getattr(network, "input_dtype", x.dtype)) != x.dtype:
            self._copy = self._like_x(self._copy, read)
            if not self._is_copied:
                self._backend.write(x, self._copy)
            x = self._copy
        self._is_copied = False
        self._m = self._like_x(self._m, getattr(network, "output_dtype", self.x.dtype))
        network.predict(x, t, self._m)
        return self._m

    def advance(self, denoiser: DenoiserLike, on_step: OnStep | None = None) -> None:
        """Do the current row: evaluate the network, then step.

        Args:
            denoiser: As in `evaluate`.
            on_step: Called as on_step(run, m) between the two, as in `sample`.

        Raises:
            PidSamplerError: As `evaluate`.
        """
        self._advance(as_denoiser(denoiser), callback("on_step", on_step, takes="(run, m)"), ahead=False)

    def finish(self, denoiser: DenoiserLike, on_step: OnStep | None = None) -> Array:
        """Do all rows that are left, and return x.

        Args:
            denoiser: As in `evaluate`.
            on_step: Called as on_step(run, m) in each row, as in `sample`.

        Returns:
            `run.x`, of its shape (B, C, H, W).

        Raises:
            PidSamplerError: As `evaluate`.
        """
        network, on_step = as_denoiser(denoiser), callback("on_step", on_step, takes="(run, m)")
        for row in self:
            following = self.table.rows[self.index + 1 : self.index + 2]
            self._advance(network, on_step, ahead=[after.net for after in following] == [row.net])
        return self.x

    def _advance(self, denoiser: Denoiser, on_step: OnStep | None, *, ahead: bool) -> None:
        """Do the current row; `ahead` copies x in the same pass if the network, asked next too, reads another type."""
        network = network_of(denoiser, self.row.net)
        m = self.evaluate(denoiser)
        if on_step is not None:
            on_step(self, m)
        copy = self._copy if ahead and getattr(network, "input_dtype", self.x.dtype) != self.x.dtype else None
        self.step(m, copy)
        self._is_copied = copy is not None

    def _like_x(self, kept: Array, dtype: Any) -> Array:
        """The array kept, or a new one where it has another type."""
        return kept if kept is not None and kept.dtype == dtype else self._backend.empty(self.x.shape, dtype)

    def branch(self, table: StepTable) -> Run:
        """Return another run that goes on from here by `table`, with a copy of this one's state.

        What two tables have in common at their beginning, a network's calls above all, is then computed once.

        Args:
            table: Its first `index` rows are those that this run has done. Draws of noise are taken as they are: give
                it the noise that this run has, see `noise.with_noise`.

        Raises:
            PidSamplerError: The rows already done are others.
        """
        instance("table", table, kind=StepTable, words="a StepTable")
        if table.rows[: self.index] != self.table.rows[: self.index]:
            raise ConfigError(f"the table to branch to has not the {self.index} rows that are done: start anew")
        x = self._backend.empty(self.x.shape, self.x.dtype)
        other = Run(table, x, seeds=self._seeds, backend=self._backend, noise=self._noise)
        for copy, array in zip([other.x, *other._saved], [self.x, *self._saved], strict=False):
            self._backend.write(array, copy)
        other.index = self.index
        return other

    def predict_x0(self, m: Array, out: Array | None = None) -> Array:
        """Return the clean image that the current row sees in x and m: a preview, before `step`.

        Args:
            m: The network's output at (run.x, row.at).
            out: Contiguous array like x to write into; None allocates one.

        Returns:
            Array like x: `out` where it is given.

        Raises:
            PidSamplerError: m or out is not like x, or all rows are done.
        """
        if out is None:
            out = self._backend.empty(self.x.shape, self.x.dtype)
        elif (getattr(out, "shape", None), getattr(out, "dtype", None)) != (
            self.x.shape,
            self.x.dtype,
        ) or not self._backend.writable(out):
            raise ConfigError(f"out must be a contiguous {self.x.dtype} array of shape {self.x.shape}")
        self._backend.predict_x0(self.row, self.x, m=self._output(m), out=out)
        return out

    def _with_given_noise(self, row: Row) -> tuple[Row, list[Array]]:
        """Return the row with its draws as further saved tensors, and the saved tensors with them."""
        slots = {draw: len(self._saved) + k for k, draw in enumerate(row.draws)}

        def reading(c: Combination) -> dict[str, Any]:
            return {"h": (*c.h, *((slots[draw], w) for draw, w in c.noise)), "noise": ()}

        saves = tuple((slot, evolve(c, **reading(c))) for slot, c in row.saves)
        while len(self._given) < len(slots):
            self._given.append(self._backend.empty(self.x.shape, self.x.dtype))
        for draw, array in zip(slots, self._given, strict=False):
            self._fill(array, draw)
        return evolve(row, **reading(row), saves=saves), [*self._saved, *self._given]

    def _fill(self, x: Array, draw: int) -> None:
        """x = N(draw), by the backend or the function given."""
        if self._noise is None:
            self._backend.noise(x, self._seeds, draw=draw)
            return
        for b, seed in enumerate(self._seeds):
            values = self._backend.adopt(self._noise(seed, draw, tuple(x.shape[1:])))
            if values.shape != x.shape[1:]:
                raise ConfigError(f"the noise function returned shape {values.shape}, expected {x.shape[1:]}")
            self._backend.write(values, x[b, ...])

    def _output(self, m: Array) -> Array:
        m = self._backend.adopt(m)
        if m.shape != self.x.shape:
            raise ModelError(f"the network's output has shape {m.shape}, expected that of x, {self.x.shape}")
        return m


OnStep = Callable[[Run, Array], object]


@moved.keywords(table="sampler")
def start(
    sampler: SamplerLike,
    x: Array,
    *,
    seed: int | Sequence[int] = 0,
    noise: str | NoiseFunction = "independent",
    inplace: bool = False,
    backend: str | Backend | None = None,
) -> Run:
    """Begin a run whose loop the caller writes: see `Run`.

    Args:
        sampler: A spec, a scheduler, a StepTable, or any other form of `get_scheduler`.
        x: (B, ...): noise, or images at the noise level of the table's first row. float32 or float64 as a numpy
            array or any CPU tensor that numpy can view; float32, float16 or bfloat16 as a CuPy array or CUDA tensor,
            which the run then stays with.
        seed: Seed of the noise that rows add: one for each image, or a single one s for s, s+1, ...
        noise: Kind of the noise. "independent" draws anew each time, "fixed" takes the initial noise again,
            "brownian" takes increments of one path (`noise.brownian`). "torch" is PyTorch's noise on the CPU. Others
            are the names of `noise.NOISES`, or a function (seed, draw, shape of one image) -> array. Draw 0 is the
            initial noise.
        inplace: Use x's own memory as the state instead of a copy.
        backend: Backend of x, by name or as an object; None is that which owns it, see `backend_of`.

    Returns:
        The run, before its first row.

    Raises:
        PidSamplerError: The sampler is none; x is of another type or shape, or in place and not contiguous; a seed is
            wrong; or the noise is unknown or does not suit the table.
    """
    backend = backend_of(x) if backend is None else get_backend(backend)
    x = backend.adopt(x)
    if x.ndim < 2 or backend.dtype(x) not in backend.state_types:
        types = " or ".join(map(str, backend.state_types))
        found = f"x is {backend.dtype(x)} of shape {x.shape}"
        raise ConfigError(f"{found}, expected {types} of shape (batch, 3, height, width)")
    if not flag("inplace", inplace):
        copy = backend.empty(x.shape, x.dtype)
        backend.write(x, copy)
        x = copy
    elif not backend.writable(x):
        raise ConfigError("with inplace=True x must be contiguous and writable: pass a copy")
    table, given = with_noise(as_table(get_scheduler(sampler)), noise)
    return Run(table, x, seeds=check_seeds(seed, x.shape[0]), backend=backend, noise=given)


@moved.keywords(table="sampler")
def sample(
    denoiser: DenoiserLike,
    sampler: SamplerLike,
    *,
    shape: Sequence[int] | None = None,
    seed: int | Sequence[int] = 0,
    x: Array | None = None,
    backend: str | Backend = "numpy",
    dtype: Any = np.float32,
    noise: str | NoiseFunction = "independent",
    on_step: OnStep | None = None,
) -> Array:
    """Sample a batch of images.

    Args:
        denoiser: A Denoiser, any callable net(x, t) -> m, or a tuple (conditional, unconditional) of two, for a
            sampler whose rows ask both.
        sampler: A spec such as "heun@uniform:8", a scheduler, a StepTable, or any other form of `get_scheduler`. One
            that names no times takes `timesteps.pid()`.
        shape: (B, 3, H, W) of the result; needed where x is not given.
        seed: Seed of each image, or a single one s for s, s+1, ... An image depends on its own seed only, not
            on the batch.
        x: Where to start, at the noise level of the table's first row; it is copied. None starts from pure
            noise, draw 0, which suits tables that begin near t = 1.
        backend: "numpy", "cupy" for the GPU, or another backend's name or object.
        dtype: float32, or with numpy float64 to measure accuracy below float32's rounding. The noise is the same.
        noise: "independent", "fixed", "brownian", "torch" or a function, as in `start`; for the initial noise too.
        on_step: Called as on_step(run, m) after each network evaluation and before the update: `run.index` and
            `len(run)` are the progress, `run.predict_x0(m)` is a preview, and an exception cancels the run.

    Returns:
        (B, 3, H, W) array of `dtype` at the table's last noise level.

    Raises:
        PidSamplerError: An argument is not as described.
    """
    where = get_backend(backend)
    kind = _element_type(dtype)
    if kind not in where.state_types:
        raise ConfigError(f"dtype {kind} is not {' or '.join(map(str, where.state_types))}")
    if x is not None:
        x = where.adopt(x)
        if shape is not None and _checked_shape(shape) != x.shape:
            raise ConfigError(f"shape {tuple(shape)} and x of shape {x.shape} disagree: pass one of them")
        state = where.empty(x.shape, kind)
        where.write(x, state)
    else:
        state = where.empty(_checked_shape(shape), kind)
    network = as_denoiser(denoiser)
    run = start(sampler, state, seed=seed, noise=noise, inplace=True, backend=where)
    if x is None:
        run.initial_noise()
    return run.finish(network, on_step)


def _element_type(dtype: Any) -> np.dtype[Any]:
    if dtype is None:  # which numpy takes for float64
        raise ConfigError("dtype=None is no element type, such as numpy.float32")
    try:
        found: np.dtype[Any] = np.dtype(dtype)
    except TypeError as error:
        raise ConfigError(f"dtype={dtype!r} is no element type, such as numpy.float32") from error
    return found


def _checked_shape(shape: Any) -> tuple[int, ...]:
    """Return the sizes of (batch, ...), whole numbers above 0."""
    try:
        sizes = shape_("shape", shape)
    except (TypeError, ConfigError):
        sizes = ()
    if len(sizes) < 2:
        raise ConfigError(f"shape is {shown(shape)}, expected (batch, 3, height, width), all above 0, or x instead")
    return sizes
