"""What carries out a row in a benchmark: pidsampler's backend, and what others write in its place.

Peers are expressions in numpy, CuPy or PyTorch as the formulas read, the same compiled or fused, PiD's own step and
diffusers' scheduler. Each is checked against the formula before it is timed, see `check`.
"""

from __future__ import annotations

import math
import operator
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from functools import partial, reduce
from importlib import import_module
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from .. import moved
from ..backends import Backend
from ..errors import ConfigError, PidSamplerError
from ..noise import philox
from ..table import Combination, Row
from ..version import __version__
from .in_place import in_place
from .steps import slots

Array = Any
Step = Callable[[Array, Array, Sequence[Array]], Sequence[Array]]  # (x, m, saved) -> the new x and what is saved

SEED = 7

_BY_TORCH = ("torch", "torch-in-place", "torch-compile", "pid-reference", "diffusers")
_MOST_DRAWS = 3  # that a peer makes: none would follow a Brownian path by forty

_SHAPE = (1, 3, 111, 113)  # of the check: no multiple of a vector's or a chunk's length
_ROUNDINGS = 16  # of a result, in units of its type's eps and of the largest sum of |weight * value|
_DEVIATIONS = 6  # of a mean or standard deviation of noise, in units of its own standard deviation


class Arrays(Protocol):
    """A library's arrays, as far as a benchmark needs them."""

    def upload(self, host: NDArray[Any], dtype: str) -> Array:
        """Return a new array of the type with these values."""
        ...

    def download(self, x: Array) -> NDArray[np.float64]:
        """Return the values on the host."""
        ...

    def normal(self, like: Array) -> Array:
        """Return standard normal noise of the shape and type of an array."""
        ...

    def clip(self, x: Array, bound: float) -> Array:
        """Return x clipped to -bound..bound."""
        ...

    def seed(self) -> None:
        """Let `normal` begin again."""
        ...


@moved.keywords()
@dataclass(frozen=True, kw_only=True)
class StepImplementation:
    """Something that carries out rows.

    Args:
        name: Name in the results.
        version: Version of the library that does the work.
        arrays: Arrays that it takes and returns.
        prepare: Returns the function that does a row, or None where this has no such row.
        exact: Whether its noise is `philox.normal` of `SEED`; else it is the library's own.
    """

    name: str
    version: str
    arrays: Arrays
    prepare: Callable[[Row], Step | None]
    exact: bool = False


def formula(
    row: Row,
    x: NDArray[Any],
    *,
    m: NDArray[Any],
    saved: Sequence[NDArray[Any]],
    eps: dict[int, NDArray[Any]],
) -> list[NDArray[Any]]:
    """Return the new x and what is saved, as `table` states a row, in the arrays' own precision."""
    x0 = row.p * x + row.q * m
    if row.clip is not None:
        x0 = np.clip(x0, -row.clip, row.clip)

    def total(c: Combination) -> NDArray[Any]:
        terms = [c.a * x, c.b * x0, *(w * saved[k] for k, w in c.h), *(w * eps[k] for k, w in c.noise)]
        result: NDArray[Any] = np.sum(terms, axis=0)
        return result

    return [total(c) for c in row.combinations]


def check(stepper: StepImplementation, step: Step, *, name: str, row: Row, x: str, m: str) -> None:
    """Check that a stepper's step does what the row of that name says, for a state and an output of the types named.

    pidsampler's noise is known. A peer's is what it gives for tensors of zeros, which must be normal with the row's
    standard deviation; the rest must agree to rounding.

    Raises:
        PidSamplerError: The step does something else.
    """
    rng, arrays = np.random.default_rng(0), stepper.arrays
    types = [x, m, *[x] * slots(row)]
    given = [arrays.upload(rng.standard_normal(_SHAPE, np.float32), dtype) for dtype in types]
    values = [arrays.download(a) for a in given]
    nothing = np.zeros(_SHAPE)
    if stepper.exact:
        known = {draw: philox.normal(SEED, draw, _SHAPE).astype(np.float64) for draw in row.draws}
        added = formula(row, nothing, m=nothing, saved=[nothing] * slots(row), eps=known)
    else:
        zeros = [arrays.upload(nothing, dtype) for dtype in types]
        arrays.seed()
        added = [arrays.download(a) for a in step(zeros[0], zeros[1], zeros[2:])]
    expected = formula(row, values[0], m=values[1], saved=values[2:], eps=dict.fromkeys(row.draws, nothing))
    sizes = [np.abs(a).max() for a in values]
    arrays.seed()
    found = [arrays.download(a) for a in step(given[0], given[1], given[2:])]
    wrong = f"{stepper.name} does not compute {name!r} (x {x}, m {m})"
    for c, got, sure, of_noise in zip(row.combinations, found, expected, added, strict=True):
        mean, std, n = of_noise.mean(), math.hypot(*(w for _, w in c.noise)), of_noise.size
        if not (
            abs(mean) <= _DEVIATIONS * std / n**0.5 and abs(of_noise.std() - std) <= _DEVIATIONS * std / (2 * n) ** 0.5
        ):
            raise ConfigError(
                f"{wrong}: its noise has mean {mean:.3g} and standard deviation {of_noise.std():.3g}, expected 0 and "
                f"{std:.3g}"
            )
        x0 = abs(row.p) * sizes[0] + abs(row.q) * sizes[1]
        size = abs(c.a) * sizes[0] + abs(c.b) * x0 + sum(abs(w) * sizes[2 + k] for k, w in c.h)
        error = float(np.abs(got - sure - of_noise).max())
        if not error <= _ROUNDINGS * _eps(x) * (size + np.abs(of_noise).max()):
            raise ConfigError(f"{wrong}: it is {error:.3g} off, more than rounding explains")


def _eps(dtype: str) -> float:
    return 2.0**-7 if dtype == "bfloat16" else float(np.finfo(dtype).eps)


def ours(backend: Backend) -> StepImplementation:
    """Return the stepper that is measured: a backend."""

    def prepare(row: Row) -> Step:
        def step(x: Array, m: Array, saved: Sequence[Array]) -> Sequence[Array]:
            backend.step(row, x, m=m, saved=saved, seeds=[SEED])
            return [x, *(saved[slot] for slot, _ in row.saves)]

        return step

    arrays = _NumpyArrays() if backend.device == "cpu" else _CupyArrays()
    return StepImplementation(name="pidsampler", version=__version__, arrays=arrays, prepare=prepare, exact=True)


def expressions(row: Row, arrays: Arrays) -> Step:
    """Return a row as one would write it down: an array expression a term, noise by the library."""

    def times(weight: float, x: Array) -> Array:
        return x if weight == 1.0 else weight * x

    def step(x: Array, m: Array, saved: Sequence[Array]) -> Sequence[Array]:
        x0 = row.q * m if row.p == 0.0 else times(row.p, x) + row.q * m
        if row.clip is not None:
            x0 = arrays.clip(x0, row.clip)
        eps = {draw: arrays.normal(x) for draw in row.draws}
        results = []
        for c in row.combinations:
            terms = [(c.a, x), (c.b, x0), *((w, saved[k]) for k, w in c.h), *((w, eps[draw]) for draw, w in c.noise)]
            results.append(reduce(operator.add, (times(w, array) for w, array in terms if w != 0.0)))
        return results

    return step


def find_peers(backend: Backend) -> tuple[list[StepImplementation], dict[str, str]]:
    """Return the peers on a backend's device, and of those that are not to be had here the reason by name."""
    peers, missing = [], {}
    if backend.device == "cpu":
        peers = [_as_written("numpy", np.__version__, _NumpyArrays())]
    else:
        cupy = _CupyArrays()
        peers = [
            _as_written("cupy", cupy.version, cupy),
            StepImplementation(name="cupy-fuse", version=cupy.version, arrays=cupy, prepare=cupy.fused),
        ]
    try:
        torch = _TorchArrays(backend)
        peers += [
            _as_written("torch", torch.version, torch, torch.no_gradients),
            StepImplementation(name="torch-in-place", version=torch.version, arrays=torch, prepare=torch.in_place),
            StepImplementation(name="torch-compile", version=torch.version, arrays=torch, prepare=torch.compiled),
            StepImplementation(name="pid-reference", version=torch.version, arrays=torch, prepare=torch.pid_reference),
        ]
        diffusers = import_module("diffusers")
        peers.append(
            StepImplementation(
                name="diffusers",
                version=diffusers.__version__,
                arrays=torch,
                prepare=partial(torch.diffusers_step, diffusers),
            ),
        )
    except (ImportError, PidSamplerError) as error:
        found = {peer.name for peer in peers}
        missing = {name: str(error) for name in _BY_TORCH if name not in found}
    return peers, missing


def _as_written(
    name: str, version: str, arrays: Arrays, wrap: Callable[[Step], Step] = lambda step: step
) -> StepImplementation:
    def prepare(row: Row) -> Step | None:
        return wrap(expressions(row, arrays)) if len(row.draws) <= _MOST_DRAWS else None

    return StepImplementation(name=name, version=version, arrays=arrays, prepare=prepare)


def _is_ode(row: Row) -> bool:
    """Whether a row is an Euler step of the flow's ODE."""
    a = row.t_next / row.t
    return row == Row(row.t, row.t_next, a=a, b=1.0 - a)


def _is_sde(row: Row) -> bool:
    """Whether a row is PiD's own: x0, noised again to the next level."""
    noise = dict.fromkeys(row.draws, row.t_next)
    return len(noise) == 1 and row == Row(row.t, row.t_next, b=1.0 - row.t_next, noise=noise)


class _NumpyArrays:
    def __init__(self) -> None:
        self.seed()

    def seed(self) -> None:
        self._rng = np.random.Generator(np.random.SFC64(0))  # the fastest that numpy has

    def upload(self, host: NDArray[Any], dtype: str) -> Array:
        return host.astype(dtype)

    def download(self, x: Array) -> NDArray[np.float64]:
        return np.array(x, np.float64)

    def normal(self, like: Array) -> Array:
        return self._rng.standard_normal(like.shape, like.dtype)

    def clip(self, x: Array, bound: float) -> Array:
        return np.clip(x, -bound, bound)


class _CupyArrays:
    def __init__(self) -> None:
        import cupy

        self._cupy, self.version = cupy, str(cupy.__version__)

    def seed(self) -> None:
        self._cupy.random.seed(0)

    def upload(self, host: NDArray[Any], dtype: str) -> Array:
        return self._cupy.asarray(host.astype(dtype))

    def download(self, x: Array) -> NDArray[np.float64]:
        return np.array(x.get(), np.float64)

    def normal(self, like: Array) -> Array:
        return self._cupy.random.standard_normal(like.shape, np.float32).astype(like.dtype, copy=False)

    def clip(self, x: Array, bound: float) -> Array:
        return self._cupy.clip(x, -bound, bound)

    def fused(self, row: Row) -> Step | None:
        """Return the flow's Euler step or PiD's as one kernel by `cupy.fuse`, beside those for the noise."""
        fuse = self._cupy.fuse(kernel_name="fused_step")
        if _is_ode(row):
            euler = fuse(lambda x, m: row.a * x + row.b * (x + row.q * m))
            return lambda x, m, saved: [euler(x, m)]
        if _is_sde(row):
            noised = fuse(lambda x, m, eps: row.b * (x + row.q * m) + row.t_next * eps)
            return lambda x, m, saved: [noised(x, m, self.normal(x))]
        return None


class _TorchArrays:
    """PyTorch, on the stream of the backend."""

    def __init__(self, backend: Backend) -> None:
        self.torch = torch = import_module("torch")
        self.device, self.version = backend.device, str(torch.__version__)
        if self.device == "cuda":
            if not torch.cuda.is_available():
                raise ConfigError("this build of PyTorch finds no CUDA")
            torch.cuda.set_stream(torch.cuda.ExternalStream(backend.stream_pointer))
        self.no_gradients: Callable[[Step], Step] = torch.inference_mode()

    def seed(self) -> None:
        self.torch.manual_seed(0)

    def upload(self, host: NDArray[Any], dtype: str) -> Array:
        return self.torch.tensor(host, dtype=getattr(self.torch, dtype), device=self.device)

    def download(self, x: Array) -> NDArray[np.float64]:
        return np.asarray(x.double().cpu().numpy(), np.float64)

    def normal(self, like: Array) -> Array:
        return self.torch.randn_like(like)

    def clip(self, x: Array, bound: float) -> Array:
        return x.clamp(-bound, bound)

    def in_place(self, row: Row) -> Step | None:
        """A row in as few passes over memory as PyTorch can do it."""
        return self.no_gradients(in_place(self.torch, row)) if len(row.draws) <= _MOST_DRAWS else None

    def compiled(self, row: Row) -> Step | None:
        """PiD's step by `torch.compile`, which fuses the noise too."""
        if not _is_sde(row):
            return None
        q, b, t_next, randn_like = row.q, row.b, row.t_next, self.torch.randn_like
        self.torch.compiler.reset()  # else what was compiled for other rows and sizes counts against this one

        def step(x: Array, m: Array) -> Array:
            return b * (x + q * m) + t_next * randn_like(x)

        whole = self.torch.compile(step, dynamic=False)
        return self.no_gradients(lambda x, m, saved: [whole(x, m)])

    def pid_reference(self, row: Row) -> Step | None:
        """PiD's step as its reference code has it: x0 in float64."""
        if not _is_sde(row):
            return None

        def step(x: Array, m: Array, saved: Sequence[Array]) -> Sequence[Array]:
            x0 = (x.double() + row.q * m.double()).to(x.dtype)
            return [row.b * x0 + row.t_next * self.normal(x)]

        return self.no_gradients(step)

    def diffusers_step(self, diffusers: Any, row: Row) -> Step | None:
        """FlowMatchEulerDiscreteScheduler's step, stochastic for PiD's row."""
        if not (_is_ode(row) or _is_sde(row)):
            return None
        scheduler = diffusers.FlowMatchEulerDiscreteScheduler(stochastic_sampling=_is_sde(row))
        scheduler.set_timesteps(sigmas=[row.t, row.t_next], device=self.device)
        scheduler.set_begin_index(0)

        def step(x: Array, m: Array, saved: Sequence[Array]) -> Sequence[Array]:
            fresh = copy(scheduler)  # a call moves its step index on
            results: tuple[Array, ...] = fresh.step(m, fresh.timesteps[0], x, return_dict=False)
            return results

        return self.no_gradients(step)


__getattr__ = moved.names(__name__)
