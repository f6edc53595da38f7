"""From a sampler as it was asked for to the table that a model runs."""

from __future__ import annotations

import attrs

from ..errors import ConfigError
from ..noise import NoiseFunction, with_noise
from ..onnx.contract import Contract
from ..schedulers import FlowSDE
from ..schedulers.registry import as_scheduler
from ..table import Scheduler, StepTable, as_table
from .options import Options


@attrs.frozen(eq=False, kw_only=True)
class Resolved:
    """A sampler made ready for a model.

    Args:
        sampler: Scheduler or table, as the record names it.
        table: Table of the sampler, for the model's prediction type and with the draws of the noise asked for.
        noise: Function that makes the noise; None is `noise.normal`.
    """

    sampler: Scheduler
    table: StepTable
    noise: NoiseFunction | None

    @property
    def tensors(self) -> int:
        """Full-size tensors that a run holds: x, the network's output, the saved ones and a function's noise."""
        draws = max((len(row.draws) for row in self.table.rows), default=0) if self.noise else 0
        return 2 + self.table.slots + draws


def resolve(options: Options, contract: Contract) -> Resolved:
    """Make the sampler that options ask for.

    Raises:
        PidSamplerError: The sampler or the noise is unknown, they do not suit each other, or the table does not end
            at 0.
    """
    sampler = as_scheduler(FlowSDE if options.sampler is None else options.sampler, own=contract.timesteps)
    table = as_table(sampler)
    if table.times[-1] != 0.0:
        raise ConfigError(f"the table ends at noise level {table.times[-1]!r}: a picture needs one that ends in 0")
    table, noise = with_noise(table.predicting(contract.prediction), options.noise)
    return Resolved(sampler=sampler, table=table, noise=noise)
