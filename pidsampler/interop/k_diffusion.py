"""A sampler of ours where k-diffusion and ComfyUI call theirs."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any

import attrs

from ..errors import ConfigError, missing_extra
from ..noise import NoiseFunction
from ..sampler import start
from ..schedulers.making import SamplerLike, is_made, sampler_name
from ..schedulers.registry import as_scheduler, scheduler_class, without_list
from ..schedulers.spec import names_file, reference
from ..table import Row, StepTable, as_table
from ..values import shown, whole, word

Tensor = Any  # torch.Tensor

SPACES = ("flow", "ve")
_SAME = 1e-5  # of two times, of which one comes from a rounded sigma


def sampler(spec: SamplerLike, *, space: str | None = None, noise: str | NoiseFunction = "independent") -> KSampler:
    """Return a sampler with k-diffusion's signature: f(model, x, sigmas, extra_args=None, callback=None, disable=None).

    model(x, sigma*ones(B), **extra_args) returns x0. For a flow model sigma is the time t. For a variance-exploding one
    t = sigma/(1 + sigma), and the flow's x is x/(1 + sigma).

    Args:
        spec: A spec without a list, which goes over the sigmas; or any other form of `get_scheduler`: where it has
            times of its own, the sigmas must begin and end at them.
        space: "flow" or "ve". None takes what the model's `model_sampling` (ComfyUI) or class (k-diffusion) says; where
            neither tells, it is a flow, and sigmas above 1 are refused.
        noise: Noise that rows add where no `noise_sampler` is given, as in `start`. Its seed is extra_args["seed"];
            without one PyTorch's default generator draws it.

    Raises:
        PidSamplerError: The space or the noise is none, or the spec's forms are not those of `get_scheduler`.

    Source: k-diffusion, sampling.py; ComfyUI, comfy/samplers.py and comfy/model_sampling.py.
    """
    if space is not None:
        word("space", space, choices=SPACES)
    if not isinstance(noise, str) and not callable(noise):
        raise ConfigError(f"noise={shown(noise)} is neither a name nor a function")
    if isinstance(spec, str):
        if reference(spec) is not None:  # read once
            spec = as_table(as_scheduler(spec))
        elif not names_file(spec):
            scheduler_class(spec)
    elif not is_made(spec) and not callable(spec):
        raise ConfigError(f"spec={shown(spec)} must be a spec, a scheduler, or a class or function of timesteps")
    return KSampler(spec, space=space, noise=noise)


@attrs.frozen
class KSampler:
    """A sampler as k-diffusion and ComfyUI call it, made by `sampler`.

    Args:
        spec: Sampler, as in `sampler`.
        space: "flow", "ve" or None, as in `sampler`.
        noise: Noise of the rows, as in `sampler`.
    """

    spec: Any
    space: str | None = attrs.field(kw_only=True)
    noise: Any = attrs.field(kw_only=True)

    def __call__(
        self,
        model: Any,
        x: Tensor,
        sigmas: Tensor,
        extra_args: Mapping[str, Any] | None = None,
        callback: Callable[[dict[str, Any]], object] | None = None,
        disable: bool | None = None,
        noise_sampler: Callable[[Tensor, Tensor], Tensor] | None = None,
    ) -> Tensor:
        """Sample, and return x at the noise level sigmas[-1], in x's type; the state is float32.

        Args:
            model: Network that returns x0.
            x: (B, ...) at the noise level sigmas[0].
            sigmas: Falling noise levels.
            extra_args: Keywords of each call of the model.
            callback: Called once a step with x, i, sigma, sigma_hat and denoised.
            disable: Whether to show no progress bar.
            noise_sampler: Returns noise like x, given two sigmas.

        Raises:
            PidSamplerError: The sigmas are no list of times, or not those of the sampler; or the sampler asks for a
                pair of networks.
        """
        try:
            import torch
        except ModuleNotFoundError as error:
            raise missing_extra("torch", "diffusers") from error
        from .tensors import BatchNoise, backend_for, shared

        if len(sigmas) < 2:
            return x
        levels = [float(sigma) for sigma in sigmas]
        space = _space_of(model) if self.space is None else self.space
        table, steps = self._table(_times(levels, space))
        scale = _scale if space == "ve" else _one
        rows = [_for_x0(row, space) for row in table]
        extra_args = {} if extra_args is None else extra_args

        def sigma_of(t: float) -> Tensor:
            return torch.tensor(t / (1.0 - t) if space == "ve" else t, dtype=sigmas.dtype, device=sigmas.device)

        seed: Any = extra_args.get("seed")
        noise: Any = self.noise
        if noise_sampler is not None:
            seed = range(len(x))
            noise = BatchNoise(table, lambda row: noise_sampler(sigma_of(row.t), sigma_of(row.t_next)).float())
        else:
            first = int(torch.randint(2**63 - 1, ())) if seed is None else whole("seed", seed)
            seed = [(first + b) % 2**64 for b in range(len(x))]  # ComfyUI's may be the last
        with torch.no_grad(), _bar(len(levels) - 1, disable) as bar:
            state = (x.detach() / scale(table.times[0])).to(
                torch.float32, copy=True, memory_format=torch.contiguous_format
            )
            backend = backend_for(state)
            asked = table.with_rows(rows)
            run = start(asked, shared(state, backend), seed=seed, noise=noise, inplace=True, backend=backend)
            for index, row in enumerate(run):
                y = (state * scale(row.t)).to(x.dtype)
                denoised = model(y, sigma_of(row.at) * x.new_ones(len(x)), **extra_args)
                if index in steps:
                    sigma = {"sigma": sigma_of(row.t), "sigma_hat": sigma_of(row.at)}
                    if callback is not None:
                        callback({"x": y, "i": steps[index], **sigma, "denoised": denoised})
                    bar.update()
                run.step(shared(denoised, backend))
            return (state * scale(table.times[-1])).to(x.dtype)

    def _table(self, times: list[float]) -> tuple[StepTable, dict[int, int]]:
        """The table over the times, and the number of the step that each row begins, where it begins one."""
        named = isinstance(self.spec, str) and without_list(self.spec) != self.spec
        fixed = named or is_made(self.spec)
        made = as_scheduler(self.spec, timesteps=None if fixed else times, partial=True)
        table, name = as_table(made), sampler_name(self.spec)
        if table.asks_both:
            raise ConfigError(f"{name} asks for a pair of networks, and this model is one that is guided already")
        own = table.times
        if abs(own[0] - times[0]) > _SAME or abs(own[-1] - times[-1]) > _SAME:
            raise ConfigError(
                f"{name} goes from t={own[0]:.6g} to {own[-1]:.6g}, and the sigmas from t={times[0]:.6g} to "
                f"{times[-1]:.6g}: pass the sampler's own list as sigmas, or a sampler without a list"
            )
        return table, _first_rows(table, getattr(made, "timesteps", own), most=len(times) - 2)


def _first_rows(table: StepTable, times: Iterable[float], *, most: int) -> dict[int, int]:
    """The number of the step, up to `most`, that each row begins which begins one.

    It falls from the list's time, or past it where noise has raised what that step begins with.
    """
    listed = sorted(set(map(float, times)), reverse=True)
    if len(table) == len(listed) - 1:
        return {index: min(index, most) for index in range(len(table))}
    falls: dict[float, int] = {}
    for index, row in enumerate(table):
        if row.t_next < row.t:
            falls.setdefault(row.t, index)
    found: dict[int, int] = {}
    for step, t in enumerate(listed[:-1]):
        past = (index for index, row in enumerate(table) if row.t > t > row.t_next)
        first = falls[t] if t in falls else next(past, None)
        if first is not None:
            found[first] = min(step, most)
    return found


def _times(levels: list[float], space: str) -> list[float]:
    if space == "ve":
        return [sigma / (1.0 + sigma) for sigma in levels]
    if levels[0] > 1.0:
        raise ConfigError(
            f"sigmas begin at {levels[0]:g}, above 1: for a variance-exploding model, such as Stable Diffusion's, pass "
            "space='ve'"
        )
    return levels


def _space_of(model: Any) -> str:
    """Return what the model says of itself, in itself or in what it wraps."""
    for _ in range(5):
        sampling = getattr(model, "model_sampling", None)
        names = {cls.__name__ for cls in type(sampling).__mro__}
        if "CONST" in names:
            return "flow"
        wraps = any(cls.__module__.startswith("k_diffusion.") for cls in type(model).__mro__)
        if names & {"EPS", "COSMOS_RFLOW"} or wraps:
            return "ve"
        if (inner := getattr(model, "inner_model", None)) is None:
            break
        model = inner
    return "flow"


def _scale(t: float) -> float:
    """1 + sigma, by which a variance-exploding x is larger than the flow's."""
    if t == 1.0:
        raise ConfigError("a variance-exploding model has no time 1: begin below")
    return 1.0 / (1.0 - t)


def _one(t: float) -> float:
    return 1.0


def _for_x0(row: Row, space: str) -> Row:
    """Return a row that reads x0 of a velocity, for a network that returns x0 as it sees it at the time `at`.

    With y the model's x, its noise is (y - m)/sigma(at), so x0 = y - sigma(u)/sigma(at)*(y - m), where the row reads x0
    at u = -q. That is m itself where u = at.
    """
    if (row.p, row.q) == (0.0, 1.0):
        return row
    u = -row.q
    if row.p != 1.0 or not 0.0 < u <= 1.0:
        raise ConfigError(f"the row at t={row.t!r} reads no velocity: begin with the velocity's table")
    share = u / row.at
    if space == "ve" and u != row.at:
        share *= _scale(u) / _scale(row.at)
    y = _scale(row.t) if space == "ve" else 1.0
    return attrs.evolve(row, p=(1.0 - share) * y, q=share)


class _Silent:
    def __enter__(self) -> _Silent:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def update(self) -> None:
        pass


def _bar(total: int, disable: bool | None) -> Any:
    """k-diffusion's progress bar, of tqdm, which it and ComfyUI bring."""
    if disable:
        return _Silent()
    try:
        from tqdm.auto import tqdm
    except ModuleNotFoundError:
        return _Silent()
    return tqdm(total=total)
