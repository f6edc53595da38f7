"""Picture files in and out: PNG, JPEG, WebP and TIFF, with what a photograph carries beside its pixels."""

from __future__ import annotations

import io
import json
import os
import struct
import warnings
from dataclasses import KW_ONLY, dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .. import moved
from ..errors import FileError, PidSamplerError, reason
from ..image.host import sides
from ..values import array, file_path, flag, instance, word
from .atomic import place, temporary_path
from .files import opened, read_bytes

_RECORD = b"pidsampler\0\0\0\0\0"  # a text chunk's beginning: its name, not compressed, in no language

MAX_PIXELS = 1 << 26  # of an input: its 4x result has a thousand million pixels, 26 GB while sampled

# Suffix -> Pillow's save options. PNG by Z_RLE, which is 3 here: zlib then looks for runs only. An enlarged photo of
# 1024x1024 takes 60 ms and 1.13 MB; without it, level 1 takes 62 ms and 1.25 MB, level 6 270 ms and 1.11 MB. A drawing
# of lines grows by a seventh over level 1.
_FORMATS: dict[str, dict[str, Any]] = {
    ".png": {"compress_level": 1, "compress_type": 3},
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
    ".webp": {"quality": 95},
    ".tif": {"compression": "tiff_lzw"},
    ".tiff": {"compression": "tiff_lzw"},
}
SUFFIXES = tuple(_FORMATS)
_LONGEST_SIDE = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383}
_OTHER_BYTE_ORDER = {"B": "L", "L": "B", "N": "B" if np.little_endian else "L"}


@moved.keywords()
@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Args:
        pixels: uint8 or uint16 (H, W, C): gray, gray + alpha, RGB or RGB + alpha for C = 1, 2, 3, 4.
        icc: ICC colour profile, if it still describes the pixels.
        dpi: Resolution (horizontal, vertical) in dots per inch.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    _: KW_ONLY
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None


def read(path: Path) -> Picture:
    """Decode a picture file; EXIF orientation is applied, palettes and CMYK become RGB.

    Raises:
        PidSamplerError: No such file, not a picture, damaged, animated or multi-page, of an unsupported pixel
            type, or of more than MAX_PIXELS pixels.
    """
    from PIL import Image, UnidentifiedImageError

    path = file_path("path", path)
    data = read_bytes(path)
    if not data:
        raise FileError(f"{path} is empty (0 bytes), expected a picture")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow's doubts about metadata; what matters to us raises below
            return _decode(data)
    except UnidentifiedImageError as error:
        raise FileError(f"{path} is not a picture that can be read: expected PNG, JPEG, WebP or TIFF") from error
    except Image.DecompressionBombError as error:
        raise FileError(f"{path} is too large: {error}; at most {MAX_PIXELS} pixels are accepted") from error
    except PidSamplerError as error:
        raise FileError(f"{path} {error}") from error
    except Exception as error:  # decoders raise anything at all on damaged data
        raise FileError(f"{path} is damaged: {' '.join(str(error).split())}") from error


def check_output(path: Path, overwrite: bool) -> None:
    """Check before any work that a picture can be written to `path`.

    Raises:
        PidSamplerError: The extension is unknown, the file exists and `overwrite` is false, or its folder does
            not exist or cannot be written.
    """
    path, overwrite = file_path("path", path), flag("overwrite", overwrite)
    if path.suffix.lower() not in _FORMATS:
        known = ", ".join(_FORMATS)
        raise FileError(f"{path}: unknown picture extension {path.suffix!r}, expected one of {known}")
    for target in (path, *([] if holds_text(path) else [sidecar(path)])):
        if os.path.isdir(target):  # no error for a name that is too long, which is told below
            raise FileError(f"{target} is a folder, expected a file name")
        if os.path.lexists(target) and not overwrite:
            raise FileError(f"{target} exists already: pass overwrite=True to replace it")
    probe = temporary_path(path)
    try:
        probe.touch(exist_ok=False)
        probe.unlink()
    except OSError as error:
        raise FileError(f"cannot write {path}: {reason(error)}") from error


def check_fits(path: Path, size: tuple[int, int], *, alpha: bool) -> None:
    """Check before any work that the file format of `path` can hold a picture of that size, (height, width).

    Raises:
        PidSamplerError: The format has no alpha channel, or a side is too long for it.
    """
    suffix, (height, width) = file_path("path", path).suffix.lower(), sides("size", size)
    flag("alpha", alpha)
    if alpha and suffix in (".jpg", ".jpeg"):
        raise FileError(f"{path}: JPEG cannot hold the input's transparency: write .png, .webp or .tiff")
    if max(height, width) > _LONGEST_SIDE.get(suffix, 1 << 31):
        raise FileError(
            f"{path}: the result is {width}x{height}, and {suffix} holds at most "
            f"{_LONGEST_SIDE[suffix]} a side: write .png or .tiff"
        )


@moved.keywords()
def write(path: Path, picture: Picture, *, record: str, overwrite: bool = False) -> None:
    """Encode a picture and put it in place in one go: no half-written file, whatever happens.

    Args:
        path: The extension chooses the format.
        picture: uint8 pixels. Profile and resolution are kept where the format can hold them.
        record: JSON of how the picture was made: a PNG text chunk, or a file beside it of the same name + .json.
        overwrite: Replace an existing file.

    Raises:
        PidSamplerError: The file exists, cannot be written, or the format cannot hold the picture.
    """
    import imageio.v3 as iio
    from PIL.PngImagePlugin import PngInfo

    instance("picture", picture, kind=Picture, words="a Picture")
    path, record = file_path("path", path), word("record", record)
    check_output(path, overwrite)
    height, width, channels = picture.pixels.shape
    check_fits(path, (height, width), alpha=channels in (2, 4))
    suffix = path.suffix.lower()
    options = dict(_FORMATS[suffix])
    # WebP has no gray: Pillow stores RGB, which a gray profile would not describe.
    if picture.icc is not None and not (suffix == ".webp" and channels <= 2):
        options["icc_profile"] = picture.icc
    if picture.dpi is not None and suffix != ".webp":
        options["dpi"] = picture.dpi
    if holds_text(path):
        text = PngInfo()
        text.add_itxt("pidsampler", record)
        options["pnginfo"] = text
    pixels = picture.pixels[:, :, 0] if channels == 1 else picture.pixels

    def encode(file: IO[bytes]) -> None:
        buffer = io.BytesIO()  # formats seek in what they write; this keeps imageio away from the file
        iio.imwrite(buffer, pixels, plugin="pillow", extension=suffix, is_batch=False, **options)
        file.write(buffer.getbuffer())

    place(path, encode, overwrite=overwrite)
    if not holds_text(path):
        place(sidecar(path), lambda file: file.write(record.encode() + b"\n"), overwrite=overwrite)


def holds_text(path: Path) -> bool:
    """Return whether the record goes into the picture file itself."""
    return file_path("path", path).suffix.lower() == ".png"


def sidecar(path: Path) -> Path:
    """Return where the record of a picture goes whose format holds no text."""
    path = file_path("path", path)
    return path.with_name(path.name + ".json")


def read_record(path: Path) -> dict[str, Any] | None:
    """Return the record in a PNG that `write` made, or None where a file is none such.

    The chunks before the pixels are read as they are: Pillow opens no picture that it finds too large.
    """
    path = file_path("path", path)
    try:
        with opened(path) as file:
            kind, text = file.read(8), b""
            while kind != b"IDAT" and not text.startswith(_RECORD):
                length, kind = struct.unpack(">I4s", file.read(8))
                text = file.read(length) if kind == b"iTXt" else b""
                file.seek(4 if kind == b"iTXt" else length + 4, os.SEEK_CUR)
        record = json.loads(text.removeprefix(_RECORD))
    except (OSError, ValueError, struct.error):  # not a PNG, damaged, or without a record
        return None
    return record if isinstance(record, dict) else None


def enlarge_plane(plane: NDArray[Any], size: tuple[int, int]) -> NDArray[np.uint8]:
    """Enlarge one uint8 or uint16 plane (H, W), such as alpha, to (height, width); the result is uint8.

    Pillow's Hamming filter is smooth and never negative: sharper ones ring, and a ring in alpha is a halo.
    """
    from PIL import Image

    size = sides("size", size)
    image = Image.fromarray(array("plane", plane).astype(np.float32) * np.float32(255.0 / np.iinfo(plane.dtype).max))
    large = np.array(image.resize(size[::-1], Image.Resampling.HAMMING))
    np.clip(large, 0.0, 255.0, out=large)
    np.rint(large, out=large)
    return large.astype(np.uint8)


def _decode(data: bytes) -> Picture:
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(data)) as image:
        width, height = image.size
        if width * height > MAX_PIXELS:
            raise FileError(f"is {width}x{height}: at most {MAX_PIXELS} pixels are accepted")
        frames = getattr(image, "n_frames", 1)
        if frames > 1 and image.format != "MPO":  # a phone's JPEG; the further frames are previews and gain maps
            raise FileError(f"holds {frames} frames or pages: extract the one to enlarge")
        info = image.info
        low = _low_bytes(data)
        upright = ImageOps.exif_transpose(image)
        icc = info.get("icc_profile") or None
        if upright.mode in ("CMYK", "LAB", "YCbCr", "HSV"):
            upright, icc = _to_rgb(upright, icc), None
        pixels = _pixels(upright)
    if low is not None:
        pixels = (pixels.astype(np.uint16) << 8) | low
    return Picture(pixels, icc=icc, dpi=_dpi(info.get("dpi")))


def _pixels(image: Any) -> NDArray[Any]:
    """Return (H, W, C) pixels of an upright image in any mode but the CMYK kind."""
    mode = image.mode
    if mode == "P" or (mode in ("1", "L", "RGB") and "transparency" in image.info):
        # A gray palette image may become RGB here; its colours are the same.
        mode = "RGBA" if "transparency" in image.info else image.palette.mode
    mode = {"1": "L", "PA": "RGBA", "La": "LA", "RGBa": "RGBA", "RGBX": "RGB"}.get(mode, mode)
    if mode.startswith("I;16"):
        pixels = np.asarray(image).astype(np.uint16)
    elif mode in ("L", "LA", "RGB", "RGBA"):
        pixels = np.array(image if image.mode == mode else image.convert(mode))
    else:
        raise FileError(f"has pixels of type {image.mode!r}: convert it to 8 or 16 bits per channel")
    return pixels[:, :, None] if pixels.ndim == 2 else pixels


def _low_bytes(data: bytes) -> NDArray[np.uint8] | None:
    """Return the low bytes of a 16-bit colour image, upright, or None for any other.

    Pillow keeps only the high byte of such pixels. Its unpacker for the other byte order keeps the other one.
    """
    from PIL import Image, ImageOps

    with Image.open(io.BytesIO(data)) as image:
        tiles = []
        for tile in image.tile:
            args = tile.args if isinstance(tile.args, tuple) else (tile.args,)
            kind = str(args[0]) if args else ""
            if kind[:-1] not in ("RGB;16", "RGBA;16") or kind[-1] not in _OTHER_BYTE_ORDER:
                return None
            other = (kind[:-1] + _OTHER_BYTE_ORDER[kind[-1]], *args[1:])
            tiles.append(tile._replace(args=other if isinstance(tile.args, tuple) else other[0]))
        if not tiles:
            return None
        image.tile = tiles
        return np.asarray(ImageOps.exif_transpose(image))


def _to_rgb(image: Any, icc: bytes | None) -> Any:
    """Convert to sRGB, through the picture's own profile where it has a good one."""
    from PIL import ImageCms

    if icc is not None:
        try:
            source = ImageCms.ImageCmsProfile(io.BytesIO(icc))
            converted = ImageCms.profileToProfile(image, source, ImageCms.createProfile("sRGB"), outputMode="RGB")
        except (ImageCms.PyCMSError, OSError):
            pass  # a broken profile, or one of another colour space: the plain conversion is what is left
        else:
            return converted
    return image.convert("RGB")


def _dpi(dpi: Any) -> tuple[float, float] | None:
    try:
        x, y = (float(n) for n in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    return (x, y) if 0 < x < 1e6 and 0 < y < 1e6 else None


__getattr__ = moved.names(__name__)
