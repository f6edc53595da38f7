"""The loop: `sample` runs a table with a denoiser; `start` hands the loop to the caller."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from .backends import Backend, backend_of, get_backend
from .denoiser import Denoiser, as_denoiser
from .errors import ConfigError, ModelError
from .noise.coupling import NoiseFunction, with_noise
from .noise.philox import check_seeds
from .table import Combination, Row, Scheduler, StepTable, as_table

Array = Any


class Run:
    """A table being carried out on one batch, made by `start`.

        run = pidsampler.start(table, x, seed=0)
        for row in run:
            run.step(net(run.x, row.t))
        run.x

    All state of a run is in this object: two runs can interleave, and a loop can be left at any row.

    Attributes:
        table: The StepTable, with the draws of the noise asked for.
        x: (B, ...) array, the state; changed in place by each step.
        index: How many rows have been done, 0..len(run).
    """

    def __init__(
        self, table: StepTable, x: Array, seeds: tuple[int, ...], backend: Backend, noise: NoiseFunction | None
    ) -> None:
        self.table = table
        self.x = x
        self.index = 0
        self._seeds = seeds
        self._backend = backend
        self._noise = noise
        self._saved = [backend.empty(x.shape, x.dtype) for _ in range(table.slots)]
        self._given: list[Array] = []  # noise of a function, one tensor a draw of a row

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
        """Do the current row, given the network's output at (run.x, row.t).

        Args:
            m: Array like x, of any floating type; it is only read.
            copy: Array of x's shape and any floating type, which becomes the new x too: on the GPU in the same pass,
                for a network that reads half precision.

        Raises:
            PidSamplerError: m has another shape than x, or all rows are done.
        """
        row, saved = self.row, self._saved
        if self._noise is not None:
            row, saved = self._with_given_noise(row)
        self._backend.step(row, self.x, self._output(m), saved, self._seeds, copy)
        self.index += 1

    def branch(self, table: StepTable) -> Run:
        """Return another run that goes on from here by `table`, with a copy of this one's state.

        What two tables have in common at their beginning, a network's calls above all, is then computed once.

        Args:
            table: Its first `index` rows are those that this run has done. Draws of noise are taken as they are: give
                it the noise that this run has, see `draws.with_noise`.

        Raises:
            PidSamplerError: The rows already done are others.
        """
        if table.rows[: self.index] != self.table.rows[: self.index]:
            raise ConfigError(f"the table to branch to has not the {self.index} rows that are done: start anew")
        other = Run(table, self._backend.empty(self.x.shape, self.x.dtype), self._seeds, self._backend, self._noise)
        for copy, array in zip([other.x, *other._saved], [self.x, *self._saved], strict=False):
            copy[...] = array
        other.index = self.index
        return other

    def predict_x0(self, m: Array, out: Array | None = None) -> Array:
        """Return the clean image that the current row sees in x and m: a preview, before `step`.

        Args:
            m: The network's output at (run.x, row.t).
            out: Contiguous array like x to write into; None allocates one.

        Raises:
            PidSamplerError: m or out is not like x, or all rows are done.
        """
        if out is None:
            out = self._backend.empty(self.x.shape, self.x.dtype)
        elif out.shape != self.x.shape or out.dtype != self.x.dtype or not self._backend.writable(out):
            raise ConfigError(f"out must be a contiguous {self.x.dtype} array of shape {self.x.shape}")
        self._backend.predict_x0(self.row, self.x, self._output(m), out)
        return out

    def _with_given_noise(self, row: Row) -> tuple[Row, list[Array]]:
        """Return the row with its draws as further saved tensors, and the saved tensors with them."""
        slots = {draw: len(self._saved) + k for k, draw in enumerate(row.draws)}

        def reading(c: Combination) -> dict[str, Any]:
            return {"h": (*c.h, *((slots[draw], w) for draw, w in c.noise)), "noise": ()}

        saves = tuple((slot, replace(c, **reading(c))) for slot, c in row.saves)
        while len(self._given) < len(slots):
            self._given.append(self._backend.empty(self.x.shape, self.x.dtype))
        for draw, array in zip(slots, self._given, strict=False):
            self._fill(array, draw)
        return replace(row, **reading(row), saves=saves), [*self._saved, *self._given]

    def _fill(self, x: Array, draw: int) -> None:
        """x = N(draw), by the backend or the function given."""
        if self._noise is None:
            self._backend.noise(x, self._seeds, draw)
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


def start(
    table: StepTable | Scheduler,
    x: Array,
    *,
    seed: int | Sequence[int] = 0,
    noise: str | NoiseFunction = "independent",
    inplace: bool = False,
    backend: str | Backend | None = None,
) -> Run:
    """Begin a run whose loop the caller writes: see `Run`.

    Args:
        table: A StepTable, or a scheduler with `table()`.
        x: (B, ...): noise, or images at the noise level of the table's first row. float32 or float64 as a numpy
            array or any CPU tensor that numpy can view; float32, float16 or bfloat16 as a CuPy array or CUDA tensor,
            which the run then stays with.
        seed: Seed of the noise that rows add: one for each image, or a single one s for s, s+1, ...
        noise: How the noise of a run hangs together: "independent" draws, "fixed" (the initial noise each time),
            "brownian" (increments of one path, see `draws.brownian`), "torch" (PyTorch's CPU noise, see
            `torch_noise`), or a function (seed, draw, shape of one image) -> array, where draw 0 is the initial noise.
        inplace: Use x's own memory as the state instead of a copy.
        backend: Backend of x, by name or as an object; None is that which owns it, see `backend_of`.

    Raises:
        PidSamplerError: x is of another type or shape, or in place and not contiguous, a seed is wrong, or the
            noise is unknown or does not suit the table.
    """
    backend = backend_of(x) if backend is None else get_backend(backend)
    x = backend.adopt(x)
    if x.ndim < 2 or backend.dtype(x) not in backend.state_types:
        types = " or ".join(map(str, backend.state_types))
        raise ConfigError(
            f"x is {backend.dtype(x)} of shape {x.shape}, expected {types} of shape (batch, 3, height, width)"
        )
    if not inplace:
        copy = backend.empty(x.shape, x.dtype)
        copy[...] = x
        x = copy
    elif not backend.writable(x):
        raise ConfigError("with inplace=True x must be contiguous and writable: pass a copy")
    steps, given = with_noise(as_table(table), noise)
    return Run(steps, x, check_seeds(seed, x.shape[0]), backend, given)


def sample(
    denoiser: Denoiser | Callable[[Array, float], Array],
    table: StepTable | Scheduler,
    shape: Sequence[int] | None = None,
    seed: int | Sequence[int] = 0,
    x: Array | None = None,
    backend: str | Backend = "numpy",
    dtype: Any = np.float32,
    noise: str | NoiseFunction = "independent",
    on_step: Callable[[Run, Array], object] | None = None,
) -> Array:
    """Sample a batch of images.

    Args:
        denoiser: A Denoiser, or any callable net(x, t) -> m.
        table: A StepTable, or a scheduler with `table()`.
        shape: (B, 3, H, W) of the result; needed where x is not given.
        seed: One for each image, or a single one s for s, s+1, ... An image depends on its own seed only, not
            on the batch.
        x: Where to start, at the noise level of the table's first row; it is copied. None starts from pure
            noise, draw 0, which suits tables that begin near t = 1.
        backend: "numpy", "cupy" for the GPU, or another one by name or as an object.
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
    dtype = np.dtype(dtype)
    if dtype not in where.state_types:
        raise ConfigError(f"dtype {dtype} is not {' or '.join(map(str, where.state_types))}")
    if x is not None:
        x = where.adopt(x)
        if shape is not None and tuple(shape) != x.shape:
            raise ConfigError(f"shape {tuple(shape)} and x of shape {x.shape} disagree: pass one of them")
        state = where.empty(x.shape, dtype)
        where.write(x, state)
    elif shape is not None and len(shape) >= 2 and all(n > 0 for n in shape):
        state = where.empty(shape, dtype)
    else:
        raise ConfigError(f"shape is {shape}, expected (batch, 3, height, width), all above 0, or x instead")
    network = as_denoiser(denoiser)
    run = start(table, state, seed=seed, noise=noise, inplace=True, backend=where)
    if x is None:
        run._fill(run.x, draw=0)
    m = where.empty(state.shape, getattr(network, "output_dtype", dtype))
    copy = None  # of x, in the type that the network reads
    if (read := getattr(network, "input_dtype", dtype)) != dtype:
        copy = where.empty(state.shape, read)
        where.write(run.x, copy)
    for row in run:
        network.predict(run.x if copy is None else copy, row.t, m)
        if on_step is not None:
            on_step(run, m)
        run.step(m, copy if run.index + 1 < len(run) else None)
    return run.x
