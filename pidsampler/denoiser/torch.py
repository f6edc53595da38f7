"""A network of PyTorch as a Denoiser: tensors in and out, no gradient kept."""

from __future__ import annotations

import sys
from typing import Any

from ..backends import backend_of
from ..errors import ModelError, missing_extra
from ..values import function, number

Array = Any


class TorchNetwork:
    """A torch module, or a function of tensors, as a network: module(x, t) -> m with t of shape (B,).

    `sample` makes one of a torch.nn.Module by itself. x is the state's own memory where it lies on the module's device
    and has its type, else a copy there; m may lie anywhere. t is float32.

    Args:
        module: Called as module(x, t) under torch.no_grad.
        device: Device of x and t; None is that of the module's first parameter, or x's own.
        dtype: torch.dtype of x; None is that of the module's first floating-point parameter, or x's own.

    Raises:
        PidSamplerError: The module cannot be called, or PyTorch is not installed.
    """

    def __init__(self, module: Any, *, device: Any = None, dtype: Any = None) -> None:
        try:
            import torch
        except ModuleNotFoundError as error:
            raise missing_extra("torch", "diffusers") from error
        self._torch, self._module = torch, function("module", module, takes="(x, t)")
        self._device, self._dtype = device, dtype

    def predict(self, x: Array, t: float, out: Array) -> None:
        """Write the module's output at x, t in (0, 1].

        Raises:
            PidSamplerError: t is outside its range, or the module's output is no tensor of x's shape.
        """
        torch, t = self._torch, number("t", t, low=0, high=1, above=True)
        parameters = list(self._module.parameters()) if isinstance(self._module, torch.nn.Module) else []
        floating = [p for p in parameters if p.is_floating_point()]
        device = self._device if self._device is not None or not parameters else parameters[0].device
        dtype = self._dtype if self._dtype is not None or not floating else floating[0].dtype
        with torch.no_grad():
            tensor = torch.from_dlpack(x).to(device=device, dtype=dtype)
            m = self._module(tensor, torch.full((len(tensor),), t, dtype=torch.float32, device=tensor.device))
            if not isinstance(m, torch.Tensor) or tuple(m.shape) != tuple(out.shape):
                found = f"shape {tuple(m.shape)}" if isinstance(m, torch.Tensor) else type(m).__name__
                raise ModelError(f"the torch network returned {found}, expected a tensor of x's shape {out.shape}")
            m = m.detach()
            if m.dtype == torch.bfloat16 or m.device != torch.from_dlpack(out).device:
                m = m.to(torch.from_dlpack(out))
            out[...] = backend_of(out).adopt(m)


def is_module(network: object) -> bool:
    """Return whether it is a torch.nn.Module, without importing PyTorch."""
    torch = sys.modules.get("torch")
    return torch is not None and isinstance(network, torch.nn.Module)
