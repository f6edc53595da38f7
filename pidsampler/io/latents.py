"""Latent files: what a diffusion model left, to be decoded by PiD."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from .. import values
from ..errors import ConfigError, FileError, PidSamplerError, reason

SUFFIXES = (".npy", ".npz", ".safetensors")
_FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
_NAMES = ("latent", "latents", "lq_latent", "latent_tensor", "samples")  # latent_tensor is ComfyUI's


def read(path: Path) -> NDArray[np.float32]:
    """Read the latent of a .npy, .npz or .safetensors file.

    Of several arrays in a file the one named latent, latents, lq_latent, latent_tensor or samples is taken.

    Returns:
        float32 array as stored, of 3 or 4 axes; see `batched`.

    Raises:
        PidSamplerError: The file cannot be read, or it is not clear which array is the latent.
    """
    path = values.file_path("path", path)
    try:
        arrays = _load(path)
    except OSError as error:
        raise FileError(f"cannot read {path}: {reason(error)}") from error
    except Exception as error:  # each of the three readers has error types of its own
        raise FileError(f"{path} is not a readable {path.suffix} file: {error}") from error
    name = next((n for n in _NAMES if n in arrays), None)
    if len(arrays) != 1 and name is None:
        raise FileError(f"{path} holds {', '.join(sorted(arrays)) or 'no floats'}: name one of them 'latent'")
    array = arrays[name] if name is not None else next(iter(arrays.values()))
    try:
        return batched(array)
    except PidSamplerError as error:
        raise FileError(f"{path}: {error}") from error


def batched(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return a latent as float32 (1, C, h, w), from (C, h, w) or (1, C, h, w) of a floating type.

    Raises:
        PidSamplerError: The array has another type or number of axes.
    """
    values.array("array", array)
    if array.dtype.kind not in "fV" or array.ndim not in (3, 4):
        raise ConfigError(
            f"the latent is {array.dtype} of shape {array.shape}, expected floats of shape (channels, height, width)"
        )
    array = array.astype(np.float32)
    return np.ascontiguousarray(array if array.ndim == 4 else array[None])


def _load(path: Path) -> dict[str, NDArray[Any]]:
    suffix = path.suffix.lower()
    if suffix == ".safetensors":
        from safetensors import deserialize  # its numpy loader has no bfloat16, the type of most latents

        stored = deserialize(path.read_bytes())  # type: ignore[no-untyped-call]
        tensors = ((name, t) for name, t in stored if t["dtype"] in _FLOATS)
        return {n: np.frombuffer(t["data"], _FLOATS[t["dtype"]]).reshape(t["shape"]) for n, t in tensors}
    loaded = np.load(path, allow_pickle=False)
    if suffix == ".npy":
        return {"latent": loaded}
    with loaded:
        return dict(loaded)
