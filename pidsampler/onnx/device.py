"""The device that graphs run on, and the backend that owns its memory."""

from __future__ import annotations

from ..backends import Backend, get_backend
from ..errors import DeviceError, PidSamplerError
from ..values import word
from .providers import check_cuda


def resolve_device(device: str) -> Backend:
    """Return the backend of a device: "cpu", "cuda", or "auto" for the best there is.

    Raises:
        PidSamplerError: The device is unknown, or cannot be had: never a silent CPU run.
    """
    word("device", device, choices=("auto", "cpu", "cuda"))
    if device == "cpu":
        return get_backend("numpy")
    try:
        backend = get_backend("cupy")
        check_cuda()
        return backend
    except PidSamplerError as error:
        if device == "cuda":
            raise DeviceError(f"device 'cuda' was asked for, but {error}; pass 'cpu' to run without a GPU") from error
        return get_backend("numpy")
