"""Weights of 8-bit floats: with the scales that ComfyUI's files hold beside them, or plainly cast.

Source: the public code of Comfy-Org/ComfyUI, `QUANTIZATION.md`, `comfy/quant_ops.py` and `comfy/utils.py`
(convert_old_quants): weight = float8 * scale. A scale is `LAYER.weight_scale`, or in older files `LAYER.scale_weight`
beside a tensor `scaled_fp8`; `LAYER.comfy_quant` is JSON as bytes. The scale of a layer's input (`input_scale`,
`scale_input`) is for 8-bit arithmetic alone.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import ml_dtypes
import numpy as np
from numpy.typing import NDArray

from ..errors import FileError, PidSamplerError
from ..io.data import parse_json
from .pickles import printable
from .tensors import Stored

_FLOAT8 = (np.dtype(ml_dtypes.float8_e4m3fn), np.dtype(ml_dtypes.float8_e5m2))
_FORMATS = ("float8_e4m3fn", "float8_e5m2")
_MARKER, _MARKER_BYTES = ".comfy_quant", 4096
_MARKER_KEYS = {"format", "full_precision_matrix_mult"}
_SCALES = (".weight_scale", ".scale_weight")
_INPUT_SCALES = (".input_scale", ".scale_input")
SCALES = (*_SCALES, *_INPUT_SCALES, ".weight_scale_2", ".weight_scale_inv", ".pre_quant_scale")
"""How names of scales end. Those that `dequantized` leaves belong to a format that is not read."""
_FILE_MARKER = "scaled_fp8"
_BETTER = "take the bf16 or fp32 file"


def dequantized(tensors: Mapping[str, Stored], *, note: Callable[[str], object] = str) -> dict[str, Stored]:
    """Return tensors with each 8-bit float as float32, multiplied by its scale where it has one.

    A scale is one number, or one for each row of a matrix. The product is rounded once, to float32.

    Args:
        tensors: Tensors by name; without 8-bit floats they are returned as they are.
        note: Called with a line about what 8 bits cost, where there are such weights.

    Raises:
        PidSamplerError: A marker names another format, or a scale is missing or not above 0. Scales of other kinds or
            shapes stay where they are, and 8-bit floats with them.
    """
    found = dict(tensors)
    marked = [found.pop(name) for name in tensors if name.rpartition(".")[2] == _FILE_MARKER]
    eights = [name for name, tensor in found.items() if tensor.dtype in _FLOAT8]
    for name in [name for name in tensors if name.endswith(_MARKER)]:
        _check_format(name.removesuffix(_MARKER), found.pop(name))
    if not eights:
        return found
    scaled = [name for name in eights if _scale(found, name)]
    if any(name.endswith(SCALES) for name in found):
        return found
    plain = [name for name in eights if name not in scaled]
    if plain and (scaled or marked):
        raise FileError(f"{printable(plain[0])} is fp8 without a scale, but the file is of scaled fp8: {_BETTER}")
    for name in plain:
        found[name] = _product(found[name], None)
    how = "with scales" if scaled else "cast without scales"
    note(
        f"{len(eights)} of its {len(found)} weights are fp8, {how}: they have 4 bits or fewer where bf16 has 8, and "
        f"the result will be about 5 to 10 % off; {_BETTER} if there is one"
    )
    return found


def _scale(found: dict[str, Stored], name: str) -> bool:
    """Multiply a weight by its scale, and remove that; whether there is one that fits."""
    layer, weight = name.removesuffix(".weight"), found[name]
    names = [layer + end for end in _SCALES if layer + end in found]
    if len(names) != 1 or layer == name:
        return False
    scale = found[names[0]]
    one, rows = math.prod(scale.shape) == 1, (weight.shape or (0,))[0]
    floats = scale.dtype.kind == "f" or scale.dtype == ml_dtypes.bfloat16
    if scale.dtype in _FLOAT8 or not floats or not (one or scale.shape in ((rows,), (rows, 1))):
        return False
    numbers = scale.load().astype(np.float64)
    wrong = numbers[~(np.isfinite(numbers) & (numbers > 0))]
    if wrong.size:
        raise FileError(f"{printable(names[0])} holds {wrong[0]:g}, expected numbers above 0: {_BETTER}")
    for other in (names[0], *(layer + end for end in _INPUT_SCALES)):
        found.pop(other, None)
    found[name] = _product(weight, scale)
    return True


def _product(weight: Stored, scale: Stored | None) -> Stored:
    def load() -> NDArray[Any]:
        wide = weight.load().astype(np.float32)
        if scale is not None:
            by_row = scale.load().astype(np.float32).reshape(-1, *[1] * (len(weight.shape) - 1))
            wide *= by_row if weight.shape else by_row.reshape(())
        return wide

    return Stored(shape=weight.shape, dtype=np.dtype(np.float32), load=load)


def _check_format(layer: str, marker: Stored) -> None:
    where = f"its layer {printable(layer)}"
    if marker.dtype != np.uint8 or math.prod(marker.shape) > _MARKER_BYTES:
        raise FileError(f"{where} has a {_MARKER} that is no short text: {_BETTER}")
    try:
        said = parse_json(marker.load().tobytes().decode(errors="surrogateescape"), expected="a marker")
    except PidSamplerError as error:
        raise FileError(f"{where} has a {_MARKER} that is no JSON: {_BETTER}") from error
    kind = said.get("format") if isinstance(said, dict) else None
    if kind not in _FORMATS:
        raise FileError(f"{where} is quantized as {printable(str(kind))}, which is not read: {_BETTER}")
    if more := sorted(set(said) - _MARKER_KEYS):
        raise FileError(f"{where} is quantized with {printable(more[0])}, which is not read: {_BETTER}")
