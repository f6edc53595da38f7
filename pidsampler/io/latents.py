"""Latent files: what a diffusion model left, to be decoded by PiD."""

from __future__ import annotations

import math
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from .. import values
from ..errors import ConfigError, FileError, PidSamplerError, printable, reason
from . import kinds
from .files import opened
from .npy import check_size, read_npy
from .safetensors import Entry, read_header

SUFFIXES = (".npy", ".npz", ".safetensors", ".latent")
_FLOATS = ("F64", "F32", "F16", "BF16")
_COMFY, _COMFY_MARK = "latent_tensor", "latent_format_version_0"
_COMFY_SCALE = 0.18215  # of Stable Diffusion 1's VAE: what files without the mark were multiplied by
_NAMES = ("latent", "latents", "lq_latent", _COMFY, "samples")


def read(path: Path) -> NDArray[np.float32]:
    """Read the latent of a .npy, .npz, .safetensors or .latent file, whatever its name ends with.

    Of several arrays in a file the one named latent, latents, lq_latent, latent_tensor or samples is taken. A .latent
    is ComfyUI's: safetensors with latent_tensor, divided by 0.18215 where there is no latent_format_version_0. Its
    values are those that ComfyUI's VAE decodes, before any scaling factor.

    Returns:
        float32 (1, C, h, w) as stored; see `batched`.

    Raises:
        PidSamplerError: The file cannot be read, or it is not clear which array is the latent.

    Source: ComfyUI, nodes.py (SaveLatent, LoadLatent).
    """
    path = values.file_path("path", path)
    try:
        stored = _READERS.get(_kind(path) or path.suffix.lower(), _npy)(path)
        name = next((n for n in _NAMES if n in stored), None)
        if len(stored) != 1 and name is None:
            raise FileError(f"{path} holds {', '.join(sorted(stored)) or 'no arrays'}: name one of them 'latent'")
        latent = batched(stored[next(iter(stored)) if name is None else name]())
    except PidSamplerError as error:
        raise FileError(str(error) if printable(str(path)) in str(error) else f"{path}: {error}") from error
    except OSError as error:
        raise FileError(f"cannot read {path}: {reason(error)}") from error
    except Exception as error:  # each of the three readers has error types of its own
        raise FileError(f"{path} is not a readable {path.suffix} file: {error}") from error
    if path.suffix.lower() == ".latent" and _COMFY_MARK not in stored:
        largest = np.abs(latent).max(initial=0)
        with np.errstate(over="ignore"):
            latent /= np.float32(_COMFY_SCALE)
        if np.isfinite(largest) and not np.isfinite(latent).all():
            raise FileError(f"{path}: the latent holds numbers up to {largest:.3g}, too large for float32 once scaled")
    return latent


def is_latent(path: Path) -> bool:
    """Return whether a file is of a kind that latents are stored in, by its first bytes or else by its name.

    Raises:
        PidSamplerError: No such file, or it cannot be read.
    """
    path = values.file_path("path", path)
    return _kind(path) is not None or path.suffix.lower() in SUFFIXES


def _kind(path: Path) -> str | None:
    with opened(path) as file:
        try:
            return kinds.latent_suffix(file.read(kinds.HEAD))
        except OSError as error:
            raise FileError(f"cannot read {path}: {reason(error)}") from error


def batched(array: NDArray[Any]) -> NDArray[np.float32]:
    """Return a latent as float32 (1, C, h, w), from (C, h, w), (1, C, h, w) or one frame (1, C, 1, h, w) of floats.

    Raises:
        PidSamplerError: The array has another type or number of axes, or several frames.
    """
    values.array("array", array)
    what = f"the latent is {array.dtype} of shape {array.shape}"
    if array.dtype.type is np.void:  # what numpy makes of types that are not its own
        raise ConfigError(f"{what}: bfloat16 perhaps, which .npy cannot say; save float32, or a .safetensors")
    if not is_float(array.dtype) or array.ndim not in (3, 4, 5):
        raise ConfigError(f"{what}, expected floats of shape (channels, height, width)")
    if array.ndim == 5:
        if array.shape[2] != 1:
            raise ConfigError(f"{what}, a video of {array.shape[2]} frames: pass one, (1, channels, 1, height, width)")
        array = array[:, :, 0]
    with np.errstate(over="ignore"):
        single = array.astype(np.float32)
    if not np.isfinite(single).all() and np.isfinite(array).all():
        raise ConfigError(f"{what}, and holds numbers up to {float(np.abs(array).max()):.3g}, too large for float32")
    return np.ascontiguousarray(single if single.ndim == 4 else single[None])


def is_float(dtype: np.dtype[Any]) -> bool:
    """Return whether an element type is one of real floats, of numpy or of ml_dtypes, such as bfloat16."""
    values.instance("dtype", dtype, kind=np.dtype, words="a numpy dtype")
    try:
        ml_dtypes.finfo(dtype)  # type: ignore[no-untyped-call]
    except (TypeError, ValueError):
        return False
    return dtype.kind != "c"


_Stored = dict[str, Callable[[], NDArray[Any]]]  # name of an array -> what reads it


def _npy(path: Path) -> _Stored:
    def read() -> NDArray[Any]:
        with opened(path) as file:
            return read_npy(file)

    return {"latent": read}


def _npz(path: Path) -> _Stored:
    with opened(path) as file, zipfile.ZipFile(file) as archive:
        names = [name for name in archive.namelist() if name.endswith(".npy")]

    def read(name: str) -> NDArray[Any]:
        with opened(path) as file, zipfile.ZipFile(file) as archive, archive.open(name) as member:
            return read_npy(member)

    return {name.removesuffix(".npy"): partial(read, name) for name in names}


def _safetensors(path: Path) -> _Stored:
    def read(name: str, held: Entry) -> NDArray[Any]:
        if held.kind not in _FLOATS:
            raise FileError(f"its tensor {name} is {held.kind}, expected one of {', '.join(_FLOATS)}")
        check_size(math.prod(held.shape) * held.dtype.itemsize)
        return held.load()

    return {name: partial(read, name, held) for name, held in read_header(path).tensors.items()}


_READERS: dict[str, Callable[[Path], _Stored]] = {".npz": _npz, ".safetensors": _safetensors, ".latent": _safetensors}
