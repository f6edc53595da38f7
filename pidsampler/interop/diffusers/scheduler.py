"""A sampler of ours in diffusers' flow pipelines, in place of their scheduler."""

from __future__ import annotations

import inspect
import json
import logging
from collections.abc import Mapping
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.schedulers.scheduling_utils import SchedulerMixin, SchedulerOutput
from diffusers.utils.torch_utils import randn_tensor

from ...errors import ConfigError, PidSamplerError
from ...io.tables import read_table
from ...noise import with_noise
from ...sampler import Run, start
from ...schedulers.making import is_made, sampler_name
from ...schedulers.registry import as_scheduler, scheduler_class, without_list
from ...schedulers.spec import Spec, names_file, reference
from ...table import Row, StepTable, as_table
from ...values import number, shown, whole, word
from ..tensors import BatchNoise, backend_for, shared

Tensor = Any  # torch.Tensor

_GENERATOR = "generator"  # the noise of torch's generator
_log = logging.getLogger(__name__)


class TableScheduler(SchedulerMixin, ConfigMixin):
    """A diffusers scheduler whose steps are the rows of a table, for pipelines of flow models.

        pipe.scheduler = TableScheduler.from_config(pipe.scheduler.config, sampler="unipc")

    A spec that names a list, such as "unipc@shifted(3)", takes only the number of steps from the pipeline: sigmas and
    mu are ignored, which is logged once. One without a list goes over the pipeline's own times: its sigmas, shifted by
    mu or `shift` as FlowMatchEulerDiscreteScheduler with this config shifts them.

    The state is kept in float32; `step` takes and returns the model's type. A tensor that is not the one that `step`
    returned last becomes the state. Of CPU tensors numpy's backend uses the memory itself, and so does CuPy's of those
    on a GPU, where it is installed; on other devices the rows are PyTorch's operations.

    Args:
        sampler: Any form of `get_scheduler`, or what `StepTable.to_dict` returns. A config holds a spec or a table.
        noise: Noise that rows add where `step` is given no generator: a name of `noise.NOISES`, or "generator" for
            PyTorch's default generator.
        seed: Seed of that noise, 0..2^64-1: image b of a batch has seed + b.
        num_train_timesteps: What a time of 1 is called in `timesteps`; this and all others are those of
            FlowMatchEulerDiscreteScheduler.
        shift: Factor of the shift without mu.
        use_dynamic_shifting: Whether to shift by mu; None shifts by mu where the pipeline passes one.
        base_shift: Mu of an image of base_image_seq_len tokens, which pipelines read.
        max_shift: Mu of an image of max_image_seq_len tokens, which pipelines read.
        base_image_seq_len: Number of tokens, which pipelines read.
        max_image_seq_len: Number of tokens, which pipelines read.
        shift_terminal: Time that the last step of the list begins at.
        use_karras_sigmas: Whether the times are Karras's between the same ends; likewise the next two.
        use_exponential_sigmas: Whether they are exponential.
        use_beta_sigmas: Whether they are of the beta distribution.
        time_shift_type: "exponential" or "linear", how mu shifts.
        invert_sigmas: Only False: the times must fall.

    Raises:
        PidSamplerError: The sampler, the noise or the seed is none.
    """

    # What diffusers writes into a pipeline's model_index.json, and imports when it loads the pipeline.
    __module__ = "pidsampler.interop.diffusers"

    _run: Run | None
    _index: int | None
    _begin_index: int | None
    _state: Tensor
    _returned: Tensor

    @register_to_config
    def __init__(
        self,
        sampler: Any,
        *,
        noise: str = "independent",
        seed: int = 0,
        num_train_timesteps: int = 1000,
        shift: float = 1.0,
        use_dynamic_shifting: bool | None = None,
        base_shift: float | None = 0.5,
        max_shift: float | None = 1.15,
        base_image_seq_len: int = 256,
        max_image_seq_len: int = 4096,
        shift_terminal: float | None = None,
        use_karras_sigmas: bool = False,
        use_exponential_sigmas: bool = False,
        use_beta_sigmas: bool = False,
        time_shift_type: str = "exponential",
        invert_sigmas: bool = False,
    ) -> None:
        if invert_sigmas:
            raise ConfigError("invert_sigmas=True has no equivalent, only False: times must fall")
        self._sampler, stored = _checked(sampler)
        self.register_to_config(sampler=stored)
        self._noise, self._seed = word("noise", noise), whole("seed", seed, low=0)
        with_noise(StepTable([Row(1.0, 0.0, b=1.0)]), self._own_noise)
        self._scale = number("num_train_timesteps", num_train_timesteps, low=1)
        self._logged = False
        self._table: StepTable | None = None
        self._forget()

    @classmethod
    def from_config(cls, config: Any = None, return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """Make a scheduler of a config: of another one of these, or of a flow-match scheduler with `sampler`.

        Raises:
            PidSamplerError: No sampler is given and the config has none, or names a file, which a config never reads;
                or the config is not a flow-match scheduler's.
        """
        stored = config.get("sampler") if isinstance(config, Mapping) else None
        if "sampler" not in kwargs and (stored is None or names_file(stored)):
            raise ConfigError(f"the config's sampler={shown(stored)} is no spec or table: pass sampler=")
        if isinstance(config, Mapping) and "sampler" not in config:  # of another scheduler
            if "shift" not in config:
                raise ConfigError(
                    "the config has no shift, expected a flow-match scheduler's: make a TableScheduler with a list, "
                    'such as TableScheduler("unipc@shifted(shift=3)")'
                )
            names = inspect.signature(cls.__init__).parameters
            # With all its values: a default of ours may be another.
            config = {"use_dynamic_shifting": False, **{name: config[name] for name in names if name in config}}
        return super().from_config(config, return_unused_kwargs, **kwargs)

    @property
    def table(self) -> StepTable:
        """The table of the times that were set.

        Raises:
            PidSamplerError: No times were set.
        """
        if self._table is None:
            raise ConfigError("no timesteps are set: call set_timesteps first")
        return self._table

    @property
    def step_index(self) -> int | None:
        """How many rows are done, counted from the first of `timesteps`; None before the first step."""
        return self._index

    @property
    def begin_index(self) -> int | None:
        """Row to begin with, as set by `set_begin_index`."""
        return self._begin_index

    def set_begin_index(self, begin_index: int = 0) -> None:
        """Begin at an entry of `timesteps`, as image-to-image pipelines do."""
        self._begin_index = whole("begin_index", begin_index, low=0)

    def set_timesteps(
        self,
        num_inference_steps: int | None = None,
        device: Any = None,
        *,
        sigmas: Any = None,
        mu: float | None = None,
    ) -> None:
        """Make the table, `timesteps` with an entry for each network call, and `sigmas` with one more.

        Args:
            num_inference_steps: Number of steps; not needed with sigmas.
            device: Where `timesteps` are put.
            sigmas: Noise levels before shifting, without the last 0.
            mu: The shift's logarithm.

        Raises:
            PidSamplerError: Neither or different numbers of steps are given, the sampler has another number of its
                own, no sampler can be made of the times, or it asks for a pair of networks.
        """
        count = None if sigmas is None else len(sigmas)
        given = [n for n in (num_inference_steps, count) if n is not None]
        if len(set(given)) != 1:
            raise ConfigError(f"num_inference_steps={num_inference_steps} with {count or 'no'} sigmas: pass one number")
        self._steps, self._given = whole("num_inference_steps", given[0], low=1), (sigmas, mu)
        self._used_own = False
        made = self._made()
        table = as_table(made)
        if table.asks_both:
            raise ConfigError(f"{sampler_name(self._sampler)} asks for a pair of networks, and pipelines have one")
        fixed = [len(table), len(getattr(made, "timesteps", table.times)) - 1]
        if not self._used_own:
            if self._steps not in fixed:
                raise ConfigError(
                    f"{sampler_name(self._sampler)} has {fixed[-1]} steps of its own, and the pipeline asks for "
                    f"{self._steps}: pass num_inference_steps={fixed[-1]}"
                )
            if (sigmas is not None or mu is not None) and not self._logged:
                self._logged = True
                _log.warning(
                    "%s has a list of its own: the pipeline's sigmas and mu are ignored", sampler_name(self._sampler)
                )
        self._table, self._function = with_noise(table, self._own_noise)
        if any(0 in row.draws for row in self._table):
            raise ConfigError(f"noise={self._noise!r} reads the initial noise, which the pipeline draws itself")
        self.num_inference_steps = self._steps
        # A caller who passes sigmas counts entries of `timesteps`, one who passes a number counts steps.
        self.order = 1 if sigmas is not None else self._calls_a_step()
        told = torch.tensor([row.at for row in table], dtype=torch.float64) * self._scale
        self.timesteps = told.to(torch.float32).to(device)
        self.sigmas = torch.tensor(table.times, dtype=torch.float32)
        self._forget()

    def scale_noise(self, sample: Tensor, timestep: Tensor, noise: Tensor) -> Tensor:
        """Return (1 - t)*sample + t*noise at the noise level of the row that is next, or of `timestep` in training."""
        if self._begin_index is None:
            indices = [self._index_of(t) for t in timestep.flatten()]
        else:
            indices = [self._begin_index if self._index is None else self._index] * len(timestep)
        t = self.sigmas.to(device=sample.device, dtype=sample.dtype)[indices]
        t = t.reshape(-1, *[1] * (sample.ndim - 1))
        return t * noise + (1.0 - t) * sample

    def step(
        self,
        model_output: Tensor,
        timestep: Any,
        sample: Tensor,
        generator: Any = None,
        return_dict: bool = True,
    ) -> Any:
        """Do the next row.

        Args:
            model_output: Velocity eps - x0 that the network gave, like sample.
            timestep: Entry of `timesteps` that it was told; only where to begin is read from it.
            sample: State x; it is only read.
            generator: torch.Generator of the noise that the row adds, or one for each image; None takes `noise`.
            return_dict: Whether to return a SchedulerOutput, or a tuple.

        Returns:
            The new x as `prev_sample`, in model_output's type, in memory of its own.

        Raises:
            PidSamplerError: No timesteps are set, all rows are done, the sampler cannot begin here, or the shapes
                differ.
        """
        state, backend = self._state_of(sample), backend_for(sample)
        if self._run is None:
            self._run = self._begun(timestep, state, generator)
        else:
            self._run.x = shared(state, backend)
        self._run.step(shared(model_output, backend))
        self._index = (self._index or 0) + 1
        self._state, self._returned = state, state.to(model_output.dtype)
        self._version = self._returned._version if not self._returned.is_inference() else 0
        return SchedulerOutput(prev_sample=self._returned) if return_dict else (self._returned,)

    @property
    def _own_noise(self) -> str:
        return "independent" if self._noise == _GENERATOR else self._noise

    def _forget(self) -> None:
        self._run = self._index = self._begin_index = None
        self._state = self._returned = None

    def _made(self, begin: float | None = None) -> Any:
        """The scheduler for the number of steps and times that were set, from the noise level `begin` on."""
        sampler, steps = self._sampler, self._steps
        if not isinstance(sampler, str):
            return as_scheduler(sampler, own=self._own_times, steps=None if is_made(sampler) else steps, begin=begin)
        if Spec.parse(sampler).steps is not None:
            return as_scheduler(sampler, begin=begin)
        if without_list(sampler) != sampler:
            return as_scheduler(f"{sampler}:{steps}", begin=begin)
        return as_scheduler(sampler, own=self._own_times, steps=steps, begin=begin)

    def _own_times(self, steps: int | None) -> Any:
        """The times that the pipeline's own scheduler would have."""
        self._used_own = True
        sigmas, mu = self._given
        names = inspect.signature(FlowMatchEulerDiscreteScheduler.__init__).parameters
        settings = {name: self.config[name] for name in names if name in self.config}
        if settings["use_dynamic_shifting"] is None:
            settings["use_dynamic_shifting"] = mu is not None
        try:
            own = FlowMatchEulerDiscreteScheduler(**settings)
            own.set_timesteps(steps, sigmas=sigmas, mu=mu)
        except (TypeError, ValueError, ImportError) as error:
            raise ConfigError(f"FlowMatchEulerDiscreteScheduler makes no times of this config: {error}") from error
        times: list[float] = own.sigmas.tolist()
        while len(times) > 2 and times[-2] == 0.0:  # a list of the pipeline's that ends in 0 already
            times.pop()
        return times

    def _calls_a_step(self) -> int:
        """How many rows the first step takes: by so many is the table shorter that begins at the second."""
        times: tuple[float, ...] = tuple(getattr(self._made(), "timesteps", ()))
        try:
            return len(self.table) - len(as_table(self._made(begin=float(times[1])))) if len(times) > 2 else 1
        except PidSamplerError:  # what is made already cannot begin elsewhere
            return 1

    def _begun(self, timestep: Any, state: Tensor, generator: Any) -> Run:
        """Start a run at the row that `set_begin_index` says, or else at that of the time given."""
        table = self.table
        self._index = self._index_of(timestep) if self._begin_index is None else self._begin_index
        if self._index:
            table = self._rest(table, self._index)
        noise: Any = self._noise
        seed: Any = self._seed
        if generator is not None or noise == _GENERATOR:
            place = {"device": state.device, "dtype": torch.float32}
            noise = BatchNoise(table, lambda row: randn_tensor(state.shape, generator=generator, **place))
            seed = range(len(state))
        elif self._function is not None:
            noise = self._function
        else:
            noise = "independent"  # the table has its draws already
        backend = backend_for(state)
        return start(table, shared(state, backend), seed=seed, noise=noise, inplace=True, backend=backend)

    def _rest(self, table: StepTable, index: int) -> StepTable:
        """The table that begins at a later entry of `timesteps`, with no memory of what was before."""
        if index >= len(table):
            raise ConfigError(f"begin_index={index} is beyond the {len(table)} timesteps")
        told, t = [row.at for row in table.rows[index:]], table.times[index]
        name = sampler_name(self._sampler)
        try:
            if is_made(self._sampler):
                return table.with_rows(table.rows[index:])
            rest, _ = with_noise(as_table(self._made(begin=t)), self._own_noise)
        except PidSamplerError as error:
            raise ConfigError(f"{name} cannot begin at timestep {index}: {error}") from error
        if [row.at for row in rest] != told:
            raise ConfigError(
                f"{name} cannot begin at timestep {index}, t={t:.6g}, which is within a step: choose another strength "
                "or number of steps"
            )
        return rest

    def _index_of(self, timestep: Any) -> int:
        found = (self.timesteps == torch.as_tensor(timestep).to(self.timesteps)).nonzero()
        if not len(found):
            raise ConfigError(f"{shown(float(timestep))} is none of the timesteps: pass an entry of `timesteps`")
        return int(found[0])

    def _state_of(self, sample: Tensor) -> Tensor:
        """The state as a new tensor: float32 as it was kept, where the sample is the one returned, unchanged."""
        if sample is not self._returned or self._returned is None:
            kept = False
        elif sample.is_inference():  # these count no changes
            kept = torch.equal(sample, self._state.to(sample.dtype))
        else:
            kept = sample._version == self._version
        state = self._state if kept else sample.detach()
        return state.to(torch.float32, copy=True, memory_format=torch.contiguous_format)


def _checked(sampler: Any) -> tuple[Any, Any]:
    """Return a sampler, its table where that is in a file, and what the config holds of it: a spec or a table."""
    if isinstance(sampler, Mapping):
        try:
            sampler = StepTable.from_json(json.dumps(dict(sampler)))
        except (TypeError, ValueError, RecursionError) as error:
            raise ConfigError(f"sampler={shown(sampler)} is no table: {error}") from error
    if isinstance(sampler, str):
        path = reference(sampler)
        if path is None:
            spec = Spec.parse(sampler)
            if spec.file is None:
                without_list(sampler)
                if spec.list is None:
                    scheduler_class(sampler)
            return sampler, None if spec.file else sampler
        sampler = read_table(path)
    if is_made(sampler):
        return sampler, as_table(sampler).to_dict()
    if not callable(sampler):
        raise ConfigError(f"sampler={shown(sampler)} must be a spec, a scheduler, or a class or function of timesteps")
    return sampler, None
