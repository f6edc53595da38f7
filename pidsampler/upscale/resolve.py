"""From a sampler as it was asked for to the table that a model runs."""

from __future__ import annotations

from functools import partial

import attrs

from ..errors import ConfigError
from ..noise import NoiseFunction, with_noise
from ..onnx.contract import Contract
from ..onnx.manifest import TeacherRule
from ..schedulers.registry import as_scheduler
from ..table import Scheduler, StepTable, as_table
from ..values import field, instance, numbers, word
from .guidance import guidance_for
from .options import Options


@attrs.frozen(repr=False, kw_only=True)
class RecordedSampler:
    """The sampler of a record: a table that is ready for its model, with the draws of its noise.

    Args:
        steps: The table.
        name: What the record calls the sampler; it is shown, and never looked up.
        timesteps: The list that the record says it was made over.
    """

    steps: StepTable = field(instance, kind=StepTable, words="a StepTable")
    name: str = field(word)
    timesteps: tuple[float, ...] = field(numbers)

    def table(self) -> StepTable:
        """Return the table."""
        return self.steps

    def __repr__(self) -> str:
        return self.name


@attrs.frozen(eq=False, kw_only=True)
class Resolved:
    """A sampler made ready for a model.

    Args:
        sampler: Scheduler or table, as the record names it.
        table: Table of the sampler, for the model's prediction type and with the draws of the noise asked for.
        noise: Function that makes the noise; None is `noise.normal`.
        guidance: Scale of the guidance; None where a row calls the network once.
    """

    sampler: Scheduler
    table: StepTable
    noise: NoiseFunction | None
    guidance: float | None

    @property
    def tensors(self) -> int:
        """Full-size tensors of a run: x, the network's outputs, the saved ones and a function's noise."""
        draws = max((len(row.draws) for row in self.table.rows), default=0) if self.noise else 0
        return 2 + (self.guidance is not None) + self.table.slots + draws


def resolve(options: Options, contract: Contract, *, size: tuple[int, int] | None) -> Resolved:
    """Make the sampler that options ask for.

    Args:
        options: As asked for.
        contract: The model's.
        size: (height, width) of what is sampled, the whole picture: a rule of the model's makes its timesteps for it.
            None is any, which has no such rule.

    Raises:
        PidSamplerError: The sampler or the noise is unknown, they do not suit each other, the table does not end at 0,
            or the guidance does not suit the model.
    """
    times = contract.timesteps
    asked = contract.sampler if options.sampler is None else options.sampler
    own = partial(times.at, size) if isinstance(times, TeacherRule) else times
    sampler = as_scheduler(asked, steps=options.steps, own=own, begin=options.start, tables=contract.tables)
    table = as_table(sampler)
    if table.times[-1] != 0.0:
        raise ConfigError(f"the table ends at noise level {table.times[-1]!r}: a picture needs one that ends in 0")
    guidance = guidance_for(options, contract, pair=table.asks_both)
    if isinstance(sampler, RecordedSampler):
        table, noise = with_noise(table, "torch" if options.noise == "torch" else "independent")
    else:
        table, noise = with_noise(table.predicting(contract.prediction), options.noise)
    return Resolved(sampler=sampler, table=table, noise=noise, guidance=guidance)
