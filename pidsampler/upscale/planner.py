"""Planning for a model: how its results are cut up, and again in smaller tiles where memory runs out."""

from __future__ import annotations

import gc
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import TypeVar

from ..backends import Backend
from ..errors import OutOfMemoryError, PidSamplerWarning
from ..onnx import Model
from ..values import whole
from . import memory
from .memory import Memory, Need, TilePlan, Tiling
from .sizes import sampled_size
from .source import Source

T = TypeVar("T")


class Planner:
    """Plans tiles for the results of a model.

    Free memory is looked at once, when it is made: what graphs keep later is theirs to use again.

    Args:
        model: Loaded, and not yet run.
        backend: Owner of the memory that the model's graphs use.
    """

    def __init__(self, model: Model, backend: Backend) -> None:
        self._model, self._backend = model, backend
        self._memory = Memory.of(backend)

    def plan(self, source: Source, *, tiling: Tiling, tensors: int = 2) -> TilePlan:
        """Return how a result is cut up.

        Args:
            source: What is enlarged.
            tiling: What was asked for.
            tensors: Full-size float32 tensors that the sampler will hold: x, the network's output, the saved ones.

        Raises:
            PidSamplerError: The result does not fit, or the tiling does not suit the model, with the numbers.
        """
        contract = self._model.contract
        fixed = None
        if contract.fixed_size is not None:
            fixed = contract.fixed_size[0] * contract.scale, contract.fixed_size[1] * contract.scale
        return memory.plan(
            tiling,
            sampled_size(source, self._model),
            unit=contract.unit,
            scale=contract.scale,
            fixed=fixed,
            budget=self._memory.budget(tiling),
            tensors=whole("tensors", tensors, low=1),
            need=lambda: self._need,
        )

    @cached_property
    def _need(self) -> Need:
        """Memory of the model: as its manifest says, and measured where that says nothing."""
        network, encoder = self._model.contract.network_bytes, self._model.contract.encoder_bytes
        if network is not None and (encoder is not None or self._model.encoder is None):
            return Need(network, encoder or 0.0)
        measured = memory.measure(self._model, self._backend)
        return Need(measured.network if network is None else network, measured.encoder if encoder is None else encoder)

    def retry_on_oom(
        self, make: Callable[[TilePlan], T], source: Source, *, tiling: Tiling, tensors: int = 2
    ) -> tuple[T, TilePlan]:
        """Make a result by its plan, or by one of smaller tiles where memory runs out.

        Args:
            make: Makes the result.
            source: As in `plan`, and so are the others.
            tiling: What was asked for; a plan that was made again has another one.
            tensors: See `plan`.

        Returns:
            The result, and the plan that it was made by.

        Raises:
            PidSamplerError: Memory ran out again, or tiles cannot be smaller; or as `plan`.
        """
        plan = self.plan(source, tiling=tiling, tensors=tensors)
        try:
            return make(plan), plan
        except (OutOfMemoryError, MemoryError) as error:
            failure = str(error) or "no memory"
        # Outside of the handler, whose traceback holds on to what is to be freed.
        gc.collect()
        self._model.release()
        self._backend.release()
        again = None if self._model.contract.fixed_size else memory.smaller(plan)
        if again is None:
            raise OutOfMemoryError(f"out of memory, and tiles cannot be smaller here: {failure}")
        plan = self.plan(source, tiling=again, tensors=tensors)
        tile = next(iter(plan.grid))
        warnings.warn(
            f"out of memory ({failure}): tried again in {len(plan.grid)} tiles of {tile.width}x{tile.height}",
            PidSamplerWarning,
            stacklevel=4,
        )
        return make(plan), plan
