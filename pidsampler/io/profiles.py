"""Color profiles (ICC.1:2022): which color space one is for, gray converted to sRGB, and profiles of a few numbers."""

from __future__ import annotations

import io
import struct
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

LARGEST = 16_000_000  # bytes: JPEG holds no more

_SRGB = (0.64, 0.33, 0.30, 0.60, 0.15, 0.06)  # x, y of red, green and blue (IEC 61966-2-1)
_D65 = (0.3127, 0.3290)
_D50 = np.array([0.9642, 1.0, 0.8249])  # the white of every profile
_BRADFORD = np.array([[0.8951, 0.2664, -0.1614], [-0.7502, 1.7135, 0.0367], [0.0389, -0.0685, 1.0296]])

# Of ITU-T H.273: primaries -> x, y of red, green, blue and white, table 2; transfer -> its inverse as an ICC
# parametric curve, table 3: (g,), or (g, a, b, c, d) for (a*v + b)^g from v = d on and c*v below.
_PRIMARIES = {
    1: (*_SRGB, *_D65),
    4: (0.67, 0.33, 0.21, 0.71, 0.14, 0.08, 0.310, 0.316),
    5: (0.64, 0.33, 0.29, 0.60, 0.15, 0.06, *_D65),
    6: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    7: (0.630, 0.340, 0.310, 0.595, 0.155, 0.070, *_D65),
    9: (0.708, 0.292, 0.170, 0.797, 0.131, 0.046, *_D65),
    11: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, 0.314, 0.351),
    12: (0.680, 0.320, 0.265, 0.690, 0.150, 0.060, *_D65),
}
_SRGB_CURVE = (2.4, 1.0 / 1.055, 0.055 / 1.055, 1.0 / 12.92, 0.04045)
_BT709_CURVE = (1.0 / 0.45, 1.0 / 1.099, 0.099 / 1.099, 1.0 / 4.5, 0.081)
_CURVES: dict[int, tuple[float, ...]] = {
    **dict.fromkeys((1, 6, 14, 15), _BT709_CURVE),
    4: (2.2,),
    5: (2.8,),
    8: (1.0,),
    13: _SRGB_CURVE,
}


def fitting(icc: bytes | None, *, gray: bool) -> bytes | None:
    """Return a profile if it is one for gray, or RGB, and None for any other."""
    return icc if space(icc) == ("GRAY" if gray else "RGB ") else None


def space(icc: bytes | None) -> str | None:
    """Return the color space of the numbers that a profile is for, such as "RGB ", or None where it is no profile."""
    if icc is None or len(icc) < 132 or icc[36:40] != b"acsp":
        return None
    return icc[16:20].decode("latin-1")


def gray_to_srgb(gray: NDArray[Any], icc: bytes) -> NDArray[Any]:
    """Return gray as sRGB shows it, from gray whose numbers a profile for gray or for RGB describes.

    Args:
        gray: uint8 or uint16 of any shape.
        icc: Profile; one that cannot be used leaves the numbers as they are.
    """
    from PIL import Image, ImageCms

    ramp = Image.fromarray(np.arange(256, dtype=np.uint8)[None])
    try:
        source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
        target = ImageCms.createProfile("sRGB")
        mode = "L" if space(icc) == "GRAY" else "RGB"
        exact = ImageCms.Flags.NOOPTIMIZE  # else littleCMS puts a coarse table in a steep curve's place
        shown = ImageCms.profileToProfile(ramp.convert(mode), source, target, outputMode="RGB", flags=exact)
    except (ImageCms.PyCMSError, OSError):
        return gray
    curve = np.asarray(shown, np.float64).mean(axis=(0, 2))
    if np.abs(curve - np.arange(256)).max() <= 1.0:
        return gray
    top = np.iinfo(gray.dtype).max
    values = np.interp(np.arange(top + 1) * (255.0 / top), np.arange(256.0), curve * (top / 255.0))
    table: NDArray[Any] = np.rint(values).astype(gray.dtype)
    shades: NDArray[Any] = table[gray]
    return shades


def of_gamma(gamma: float | None, chromaticities: Sequence[float] | None, *, gray: bool) -> bytes | None:
    """Return the profile of a gamma and of chromaticities, or None where they are sRGB's or make no sense.

    Args:
        gamma: Exponent that made numbers of light, 0.45455 for common pictures; None is the curve of sRGB.
        chromaticities: x, y of white, red, green and blue, as in PNG's chunk cHRM; None are sRGB's.
        gray: Whether it is for gray, where only gamma counts.
    """
    primaries: tuple[float, ...] = _PRIMARIES[1]
    if chromaticities is not None and not gray:
        primaries = (*chromaticities[2:], *chromaticities[:2])
    common = gamma is None or (gamma > 0 and abs(gamma / 0.45455 - 1.0) <= 0.01)
    if common and np.abs(np.subtract(primaries, _PRIMARIES[1])).max() <= 0.001:
        return None
    if gamma is not None and not 0.01 <= gamma <= 10.0:
        return None
    return _profile(primaries, (1.0 / gamma,) if gamma and not common else _SRGB_CURVE, gray)


def adobe_rgb() -> bytes:
    """Return the profile of Adobe RGB (1998), section 4.3: its primaries, white D65 and a gamma of 563/256."""
    icc = _profile((0.64, 0.33, 0.21, 0.71, 0.15, 0.06, *_D65), (563 / 256,), False)
    assert icc is not None
    return icc


def of_code_points(cicp: bytes, *, gray: bool) -> bytes | None:
    """Return the profile of the four code points of PNG's chunk cICP (ITU-T H.273), or None where none can say it.

    None can say PQ and HLG, whose white is no fixed light, and numbers of video range.
    """
    primaries, curve = _PRIMARIES.get(cicp[0]), _CURVES.get(cicp[1])
    if primaries is None or curve is None or cicp[3] != 1:
        return None
    return _profile(primaries, curve, gray)


def _profile(primaries: Sequence[float], curve: Sequence[float], gray: bool) -> bytes | None:
    """Return a profile of version 4: for gray a curve, for RGB three and a matrix; None for senseless primaries."""
    trc = b"para" + struct.pack(">4xHH", 0 if len(curve) == 1 else 3, 0) + _fixed(curve)
    tags = {b"desc": _text("as the picture said"), b"cprt": _text("no copyright"), b"wtpt": _xyz(_D50)}
    if gray:
        tags[b"kTRC"] = trc
    else:
        matrices = _matrices(np.reshape(primaries, (4, 2)))
        if matrices is None:
            return None
        adaptation, columns = matrices
        tags[b"chad"] = b"sf32" + bytes(4) + _fixed(adaptation.ravel())
        for letter, column in zip("rgb", columns.T, strict=True):
            tags[f"{letter}XYZ".encode()] = _xyz(column)
            tags[f"{letter}TRC".encode()] = trc
    start, table, body = 128 + 4 + 12 * len(tags), b"", b""
    for name, data in tags.items():
        table += struct.pack(">4sII", name, start + len(body), len(data))
        body += data + bytes(-len(data) % 4)
    header = struct.pack(">I4xI4s4s4s", start + len(body), 0x04300000, b"mntr", b"GRAY" if gray else b"RGB ", b"XYZ ")
    header += struct.pack(">6H4s28x", 2026, 1, 1, 0, 0, 0, b"acsp") + _fixed(_D50) + bytes(48)
    return header + struct.pack(">I", len(tags)) + table + body


def _matrices(xy: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]] | None:
    """Return the adaptation of white to D50, and XYZ of red, green and blue so adapted, each a column."""
    if not np.isfinite(xy).all() or (xy[:, 1] < 1e-3).any():
        return None
    xyz = np.stack([xy[:, 0] / xy[:, 1], np.ones(4), (1.0 - xy.sum(axis=1)) / xy[:, 1]])
    if np.linalg.cond(xyz[:, :3]) > 1e4:
        return None
    cones, cones_d50 = _BRADFORD @ xyz[:, 3], _BRADFORD @ _D50
    if (cones <= 0).any():
        return None
    adaptation = np.linalg.inv(_BRADFORD) @ np.diag(cones_d50 / cones) @ _BRADFORD
    columns = adaptation @ (xyz[:, :3] * np.linalg.solve(xyz[:, :3], xyz[:, 3]))
    return (adaptation, columns) if max(np.abs(adaptation).max(), np.abs(columns).max()) < 100 else None


def _fixed(numbers: Any) -> bytes:
    """s15Fixed16Number, of each."""
    return struct.pack(f">{len(numbers)}i", *(round(float(n) * 65536) for n in numbers))


def _xyz(color: Any) -> bytes:
    return b"XYZ " + bytes(4) + _fixed(color)


def _text(text: str) -> bytes:
    return b"mluc" + struct.pack(">4xII2s2sII", 1, 12, b"en", b"US", 2 * len(text), 28) + text.encode("utf-16-be")
