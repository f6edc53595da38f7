"""Latent files: what a diffusion model left, to be decoded by PiD."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from .. import values
from ..errors import ConfigError, FileError, PidSamplerError, reason
from .files import opened, read_bytes

SUFFIXES = (".npy", ".npz", ".safetensors", ".latent")
_FLOATS = {"F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": ml_dtypes.bfloat16}
_COMFY, _COMFY_MARK = "latent_tensor", "latent_format_version_0"
_COMFY_SCALE = 0.18215  # of Stable Diffusion 1's VAE: what files without the mark were multiplied by
_NAMES = ("latent", "latents", "lq_latent", _COMFY, "samples")


def read(path: Path) -> NDArray[np.float32]:
    """Read the latent of a .npy, .npz, .safetensors or .latent file.

    Of several arrays in a file the one named latent, latents, lq_latent, latent_tensor or samples is taken. A .latent
    is ComfyUI's: safetensors with latent_tensor, divided by 0.18215 where there is no latent_format_version_0.

    Returns:
        float32 (1, C, h, w) as stored; see `batched`.

    Raises:
        PidSamplerError: The file cannot be read, or it is not clear which array is the latent.

    Source: ComfyUI, nodes.py (SaveLatent, LoadLatent).
    """
    path = values.file_path("path", path)
    try:
        arrays = _load(path)
    except FileError:
        raise
    except OSError as error:
        raise FileError(f"cannot read {path}: {reason(error)}") from error
    except Exception as error:  # each of the three readers has error types of its own
        raise FileError(f"{path} is not a readable {path.suffix} file: {error}") from error
    name = next((n for n in _NAMES if n in arrays), None)
    if len(arrays) != 1 and name is None:
        raise FileError(f"{path} holds {', '.join(sorted(arrays)) or 'no floats'}: name one of them 'latent'")
    array = arrays[name] if name is not None else next(iter(arrays.values()))
    try:
        latent = batched(array)
    except PidSamplerError as error:
        raise FileError(f"{path}: {error}") from error
    if path.suffix.lower() == ".latent" and _COMFY_MARK not in arrays:
        latent /= np.float32(_COMFY_SCALE)
    return latent


def batched(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return a latent as float32 (1, C, h, w), from (C, h, w), (1, C, h, w) or one frame (1, C, 1, h, w) of floats.

    Raises:
        PidSamplerError: The array has another type or number of axes, or several frames.
    """
    values.array("array", array)
    what = f"the latent is {array.dtype} of shape {array.shape}"
    if array.dtype.type is np.void:  # what numpy makes of types that are not its own
        raise ConfigError(f"{what}: bfloat16 perhaps, which .npy cannot say; save float32, or a .safetensors")
    if not _is_float(array.dtype) or array.ndim not in (3, 4, 5):
        raise ConfigError(f"{what}, expected floats of shape (channels, height, width)")
    if array.ndim == 5:
        if array.shape[2] != 1:
            raise ConfigError(f"{what}, a video of {array.shape[2]} frames: pass one, (1, channels, 1, height, width)")
        array = array[:, :, 0]
    array = array.astype(np.float32)
    return np.ascontiguousarray(array if array.ndim == 4 else array[None])


def _is_float(dtype: np.dtype[Any]) -> bool:
    try:
        ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    except (TypeError, ValueError):
        return False
    return dtype.kind != "c"


def _load(path: Path) -> dict[str, NDArray[Any]]:
    suffix = path.suffix.lower()
    if suffix in (".safetensors", ".latent"):
        from safetensors import deserialize  # its numpy loader has no bfloat16, the type of most latents

        stored = deserialize(read_bytes(path))  # type: ignore[no-untyped-call]
        tensors = ((name, t) for name, t in stored if t["dtype"] in _FLOATS)
        return {n: np.frombuffer(t["data"], _FLOATS[t["dtype"]]).reshape(t["shape"]) for n, t in tensors}
    with opened(path) as file:
        loaded = np.load(file, allow_pickle=False)
        return {"latent": loaded} if suffix == ".npy" else dict(loaded)
