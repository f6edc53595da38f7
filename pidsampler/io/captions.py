"""A caption's embedding: what a text encoder made of the words that go with a picture."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, FileError, PidSamplerError, printable, reason
from ..values import array as array_
from ..values import file_path, host_array, instance, wholes, word
from .files import opened
from .npy import read_npy


def read(path: Path) -> NDArray[np.float32]:
    """Read an embedding from a .npy file.

    Returns:
        float32 (tokens, width).

    Raises:
        PidSamplerError: The file cannot be read, or does not hold floats of such a shape.
    """
    path = file_path("path", path)
    try:
        with opened(path) as file:
            array = read_npy(file)
    except PidSamplerError as error:
        raise FileError(str(error) if printable(str(path)) in str(error) else f"{path}: {error}") from error
    except OSError as error:
        raise FileError(f"cannot read {path}: {reason(error)}") from error
    except Exception as error:  # of a header, whose parser raises anything
        raise FileError(f"{path} cannot be read as .npy: {error}") from error
    try:
        return checked(array).copy()
    except PidSamplerError as error:
        raise FileError(f"{path}: {error}") from error


def checked(array: Any) -> NDArray[np.float32]:
    """Return an embedding as float32 (tokens, width), from floats of that shape or of (1, tokens, width).

    Raises:
        PidSamplerError: The array has another type or shape, or a value is not finite, or too large for float32.
    """
    array = host_array("the caption", array)
    if array.dtype.kind != "f" or array.ndim not in (2, 3) or (array.ndim == 3 and len(array) != 1):
        raise ConfigError(f"the caption is {array.dtype} {array.shape}, expected floats (tokens, width)")
    if not np.isfinite(array).all():
        raise ConfigError("the caption holds NaN or infinity, expected finite numbers: make it again")
    check_fits(array, np.dtype(np.float32))
    return np.ascontiguousarray(array.reshape(array.shape[-2:]), np.float32)


def check_fits(caption: NDArray[Any], dtype: np.dtype[Any]) -> None:
    """Check that no finite number of an embedding becomes infinite in another type of floats.

    Raises:
        PidSamplerError: One does; the message names the largest, and the type.
    """
    caption, dtype = array_("caption", caption), instance("dtype", dtype, kind=np.dtype, words="a numpy dtype")
    with np.errstate(over="ignore"):
        fits = np.isfinite(caption.astype(dtype)).all()
    if not fits:
        largest = float(np.abs(caption).max())
        way = "make it again" if dtype == np.float32 else "export the network in float32"
        raise ConfigError(f"the caption holds numbers up to {largest:.3g}, too large for {dtype}: {way}")


def check_shape(caption: Any, shape: tuple[int, int], *, taker: str = "the network") -> None:
    """Check that an embedding has the shape that a network takes.

    One of fewer tokens is not filled up: NVIDIA pads the prompt before the encoder, and what the encoder makes of the
    padding depends on the prompt (nv-tlabs/PiD, `pixeldit_model.py`, `_encode_text_raw`).

    Args:
        caption: Array (tokens, width).
        shape: (tokens, width) that the network takes.
        taker: The network's name in the message.

    Raises:
        PidSamplerError: The shape is another.
    """
    found = tuple(array_("caption", caption).shape)
    expected, taker = wholes("shape", shape, low=1), word("taker", taker)
    if found != expected:
        of_tokens = len(found) == 2 == len(expected) and found[1] == expected[1]
        hint = f": an embedding has {expected[0]} tokens, those of its padding included; examples/caption.py makes one"
        raise ConfigError(f"the caption has shape {found}, but {taker} takes one of {expected}{hint * of_tokens}")


def described(caption: Any | None) -> dict[str, Any] | None:
    """Return what the record says of an embedding: its shape, and the SHA-256 of its float32 values.

    Raises:
        PidSamplerError: The caption is no embedding, see `checked`.
    """
    if caption is None:
        return None
    array = checked(caption)
    return {"shape": list(array.shape), "sha256": hashlib.sha256(array.tobytes()).hexdigest()}
