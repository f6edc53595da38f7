"""PyTorch's tensors in a run: the backend of the device they lie on, and noise that is drawn a batch at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any

import ml_dtypes
import numpy as np
import torch
from numpy.typing import NDArray

from ..backends import Backend, get_backend
from ..backends.plain import PlainBackend
from ..errors import DeviceError, MissingDependencyError
from ..table import Row, StepTable

Tensor = Any  # torch.Tensor


class TorchBackend(PlainBackend):
    """Rows as PyTorch's own operations, on any device of PyTorch; noise is made on the host.

    Args:
        device: Name of the device, such as "cuda:0", "mps" or "cpu".
    """

    name = "torch"

    def __init__(self, device: Any) -> None:
        self._place = torch.device(device)
        self.device = self._place.type

    def empty(self, shape: Sequence[int], dtype: Any) -> Tensor:
        """Allocate, for an element type of PyTorch or numpy."""
        own = dtype if isinstance(dtype, torch.dtype) else getattr(torch, np.dtype(dtype).name)
        return torch.empty(tuple(shape), dtype=own, device=self._place)

    def adopt(self, x: Any) -> Tensor:
        """Return x as a tensor on the device: itself where it lies there."""
        tensor = x if isinstance(x, torch.Tensor) else torch.from_numpy(np.asarray(x))
        return tensor.detach().to(self._place)

    def to_host(self, x: Tensor) -> NDArray[Any]:
        """Return a copy in host memory, or a view where the tensor lies there."""
        host: NDArray[Any] = x.detach().cpu().numpy()
        return host

    def write(self, x: Tensor, out: Tensor) -> None:
        """out = x in out's element type."""
        out.copy_(x)

    def dtype(self, x: Tensor) -> Any:
        """Return numpy's element type for that of a tensor."""
        return np.dtype(str(x.dtype).removeprefix("torch."))

    def writable(self, x: Tensor) -> bool:
        """Return whether a tensor is contiguous; all are writable."""
        return bool(x.is_contiguous())

    def pointer(self, x: Tensor) -> int:
        """Return the address of the first element."""
        return int(x.data_ptr())

    def step(
        self, row: Row, x: Tensor, *, m: Tensor, saved: Sequence[Tensor], seeds: Sequence[int], copy: Any = None
    ) -> None:
        """Do one row of a table in place, in x's precision whatever m's."""
        super().step(row, x, m=m.to(x.dtype), saved=saved, seeds=seeds, copy=copy)

    def predict_x0(self, row: Row, x: Tensor, *, m: Tensor, out: Tensor) -> None:
        """out = clip(p*x + q*m), in x's precision."""
        super().predict_x0(row, x, m=m.to(x.dtype), out=out)


def backend_for(x: Tensor) -> Backend:
    """Return the backend of a tensor's device: numpy's on the CPU, CuPy's on its GPU, else PyTorch's operations."""
    if x.device.type == "cpu":
        return get_backend("numpy")
    if x.device.type == "cuda":
        with suppress(MissingDependencyError, DeviceError):
            cupy = get_backend("cupy")
            if cupy.device_id == x.device.index:
                return cupy
    return TorchBackend(x.device)


def shared(x: Tensor, backend: Backend) -> Any:
    """Return a tensor as an array of `backend_for` it, in the same memory wherever that is contiguous."""
    x = x.detach().contiguous()
    if backend.name != "torch" and x.dtype == torch.bfloat16:  # of which numpy's and older CuPy's DLPack do not know
        return backend.adopt(x.view(torch.int16)).view(ml_dtypes.bfloat16)
    return backend.adopt(x)


class BatchNoise:
    """A noise function for a run whose seeds are 0, 1, 2, ...: image b is number b of a batch that is drawn at once.

    Args:
        table: Table of the run; what several of its rows read is kept from the first to the last.
        draw: Returns the noise of the whole batch, given the row that reads it first.
    """

    def __init__(self, table: StepTable, draw: Callable[[Row], Tensor]) -> None:
        self._draw = draw
        self._rows = {draw: [row for row in table if draw in row.draws] for row in table for draw in row.draws}
        self._kept: dict[int, Tensor] = {}

    def __call__(self, seed: int, draw: int, shape: Sequence[int]) -> Tensor:
        """Return the noise of image `seed`."""
        rows = self._rows[draw]
        if draw not in self._kept:
            self._kept[draw] = self._draw(rows[0])
        batch = self._kept[draw]
        if seed == len(batch) - 1:  # the last image of this row
            rows.pop(0)
            if not rows:
                del self._kept[draw]
        return batch[seed]
