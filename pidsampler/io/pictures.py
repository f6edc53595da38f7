"""Picture files in and out: PNG, JPEG, WebP and TIFF, with what a photograph carries beside its pixels.

What a file is, its first bytes say; no other of Pillow's readers is tried, since some start programs.
"""

from __future__ import annotations

import io
import os
from dataclasses import KW_ONLY, dataclass, replace
from functools import partial
from pathlib import Path
from typing import IO, Any

import numpy as np
from numpy.typing import NDArray

from .. import moved
from ..errors import ConfigError, FileError, PidSamplerError, reason
from ..image.host import sides
from ..values import array, file_path, flag, instance, word
from . import exif, jpeg, kinds, modes, png, png_out, profiles, tiff
from .atomic import place, temporary_path, unwritable
from .files import opened

MAX_PIXELS = 1 << 26  # of an input: its 4x result has a thousand million pixels, 26 GB while sampled
MOST_BYTES = 1 << 30  # of a file: twice what so many pixels of RGBA and 16 bits need

# Suffix -> Pillow's save options; PNG is written by `png_out`.
_FORMATS: dict[str, dict[str, Any]] = {
    ".png": {},
    ".jpg": {"quality": 95, "subsampling": 0},
    ".jpeg": {"quality": 95, "subsampling": 0},
    ".webp": {"quality": 95},
    ".tif": {"compression": "tiff_lzw"},
    ".tiff": {"compression": "tiff_lzw"},
}
SUFFIXES = tuple(_FORMATS)
_MOST_DPI = {".jpg": 65535, ".jpeg": 65535, ".webp": 0}
_MOST_OTHER_DPI = 1e6
_LONGEST_SIDE = {".jpg": 65500, ".jpeg": 65500, ".webp": 16383}


@moved.keywords()
@dataclass(frozen=True)
class Picture:
    """A decoded picture.

    Args:
        pixels: uint8 or uint16 (H, W, C): gray, gray + alpha, RGB or RGB + alpha for C = 1, 2, 3, 4.
        icc: ICC color profile, if it still describes the pixels.
        dpi: Resolution (horizontal, vertical) in dots per inch.
        cicp: The four code points (ITU-T H.273) that name the colors in a PNG, before a profile does.
    """

    pixels: NDArray[np.uint8] | NDArray[np.uint16]
    _: KW_ONLY
    icc: bytes | None = None
    dpi: tuple[float, float] | None = None
    cicp: bytes | None = None


def is_picture(path: Path) -> bool:
    """Return whether a file is a PNG, JPEG, WebP or TIFF by its first bytes, whatever its name.

    Raises:
        PidSamplerError: No such file, or it cannot be read.
    """
    return kinds.picture_format(_load(file_path("path", path), kinds.HEAD)) is not None


def read(path: Path | bytes) -> Picture:
    """Decode a picture file; EXIF orientation is applied, palettes and CMYK become RGB.

    Args:
        path: The file, or the bytes of one.

    Raises:
        PidSamplerError: No such file, not a picture, damaged, animated or multi-page, of an unsupported pixel
            type, or of more than MAX_PIXELS pixels.
    """
    if isinstance(path, bytes):
        return _decoded(path, "the picture")
    path = file_path("path", path)
    return _decoded(_load(path, MOST_BYTES + 1), str(path))


def _decoded(data: bytes, path: str) -> Picture:
    from PIL import Image, UnidentifiedImageError

    if not data:
        raise FileError(f"{path} is empty (0 bytes), expected a picture")
    if len(data) > MOST_BYTES:
        raise FileError(f"{path} is of more than {MOST_BYTES} bytes, the most that is accepted")
    try:
        return _decode(data)
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise FileError(f"{path} is too large: {error}; at most {MAX_PIXELS} pixels are accepted") from error
    except PidSamplerError as error:
        raise FileError(f"{path} {error}") from error
    except UnidentifiedImageError as error:
        raise FileError(f"{path} is damaged: its header cannot be read") from error
    except MemoryError as error:
        raise FileError(f"{path}: there is not enough memory to decode it") from error
    except Exception as error:  # decoders raise anything at all on damaged data
        raise FileError(f"{path} is damaged: {' '.join(str(error).split())}") from error


def of_image(image: Any) -> Picture:
    """Take a `PIL.Image.Image` of any mode as a picture, turned as its EXIF orientation says.

    Raises:
        PidSamplerError: The mode does not say what is white, the file behind the image is damaged, or it has more than
            MAX_PIXELS pixels.
    """
    from PIL import Image

    instance("image", image, kind=Image.Image, words="a PIL image")
    try:
        return _of_file_behind(image) or _of_image(image)
    except PidSamplerError as error:
        raise ConfigError(f"the image {error}") from error
    except Exception as error:  # an image that was opened is decoded only here
        raise ConfigError(f"the image is damaged: {' '.join(str(error).split())}") from error


def to_image(picture: Picture) -> Any:
    """Return a picture of 8 bits as a `PIL.Image.Image` of mode L, LA, RGB or RGBA, with its profile."""
    from PIL import Image

    pixels = instance("picture", picture, kind=Picture, words="a Picture").pixels
    image = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    image.info |= {} if picture.icc is None else {"icc_profile": picture.icc}
    return image


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
        raise unwritable(path, error) from error


def check_fits(path: Path, size: tuple[int, int], *, alpha: bool, cicp: bool = False) -> None:
    """Check before any work that the file format of `path` can hold a picture of that size, (height, width).

    Args:
        path: The extension chooses the format.
        size: Size of the picture.
        alpha: Whether it has alpha.
        cicp: Whether code points name its colors, and no profile does.

    Raises:
        PidSamplerError: The format has no alpha channel or no code points, or a side is too long for it.
    """
    suffix, (height, width) = file_path("path", path).suffix.lower(), sides("size", size)
    if flag("alpha", alpha) and suffix in (".jpg", ".jpeg"):
        raise FileError(f"{path}: JPEG cannot hold the input's transparency: write .png, .webp or .tiff")
    if flag("cicp", cicp) and suffix != ".png":
        raise FileError(
            f"{path}: the input's colors are named by PNG's cICP, as PQ, HLG or a range of video, and {suffix} cannot "
            "hold that: write .png"
        )
    longest = _LONGEST_SIDE.get(suffix, 1 << 28)
    if max(height, width) > longest:
        raise FileError(
            f"{path}: the result is {width}x{height}, and {suffix} holds at most {longest} a side: write .png or .tiff"
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
    instance("picture", picture, kind=Picture, words="a Picture")
    path, record = file_path("path", path), word("record", record)
    check_output(path, overwrite)
    height, width, channels = picture.pixels.shape
    if picture.pixels.dtype != np.uint8:
        raise ConfigError(f"the picture is {picture.pixels.dtype}, expected uint8")
    check_fits(path, (height, width), alpha=channels in (2, 4), cicp=picture.cicp is not None and picture.icc is None)
    if holds_text(path):
        place(path, partial(write_png, picture=picture, record=record), overwrite=overwrite)
        return
    suffix, pixels = path.suffix.lower(), picture.pixels.view(np.uint8)
    icc, dpi = profiles.fitting(picture.icc, gray=channels <= 2), picture.dpi
    if dpi is not None and max(dpi) > _MOST_DPI.get(suffix, _MOST_OTHER_DPI):
        dpi = None
    if suffix == ".webp" and channels <= 2 and icc is not None:  # WebP has no gray, and stores RGB
        pixels, icc = _gray_as_srgb(pixels, icc), None
    encoded = partial(_encode, pixels=pixels[:, :, 0] if channels == 1 else pixels, suffix=suffix, icc=icc, dpi=dpi)
    place(path, encoded, overwrite=overwrite)
    place(sidecar(path), lambda file: file.write(record.encode() + b"\n"), overwrite=overwrite)


def write_png(file: IO[bytes], picture: Picture, *, record: str) -> None:
    """Write a PNG to an open file or a pipe, as `write` does; nothing is read from it.

    Args:
        file: Where it goes.
        picture: uint8 pixels.
        record: JSON of how the picture was made.
    """
    icc, dpi = profiles.fitting(picture.icc, gray=picture.pixels.shape[2] <= 2), picture.dpi
    dpi = None if dpi is not None and max(dpi) > _MOST_OTHER_DPI else dpi
    pixels = picture.pixels.view(np.uint8)
    png_out.write(file, pixels, text=record, icc=icc, dpi=dpi, cicp=picture.cicp)


def _encode(
    file: IO[bytes], pixels: NDArray[Any], *, suffix: str, icc: bytes | None, dpi: tuple[float, float] | None
) -> None:
    import imageio.v3 as iio

    options = {**_FORMATS[suffix], "icc_profile": icc, "dpi": dpi}
    told = {name: value for name, value in options.items() if value is not None}
    buffer = io.BytesIO()  # formats seek in what they write; this keeps imageio away from the file
    iio.imwrite(buffer, pixels, plugin="pillow", extension=suffix, is_batch=False, **told)
    file.write(buffer.getbuffer())


def holds_text(path: Path) -> bool:
    """Return whether the record goes into the picture file itself."""
    return file_path("path", path).suffix.lower() == ".png"


def sidecar(path: Path) -> Path:
    """Return where the record of a picture goes whose format holds no text."""
    path = file_path("path", path)
    return path.with_name(path.name + ".json")


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


def _load(path: Path, most: int) -> bytes:
    """Return a file's first bytes; pipes and devices, which may have no end, are not read."""
    with opened(path) as file:
        try:
            return file.read(most)
        except OSError as error:
            raise FileError(f"cannot read {path}: {reason(error)}") from error


def _decode(data: bytes) -> Picture:
    head = data[: kinds.HEAD]
    form = kinds.picture_format(head)
    if form == "PNG":
        return _decode_png(data)
    if form == "TIFF":
        return _decode_tiff(data)
    if form == "JPEG":
        return _decode_jpeg(data)
    if form is not None:
        return _decode_with_pillow(data, form)
    held = kinds.other(head)
    words = f"it holds {held}; " if held else ""
    raise FileError(f"is not a picture that can be read: {words}expected PNG, JPEG, WebP or TIFF")


def _decode_with_pillow(data: bytes, form: str, page: int = 0) -> Picture:
    """Decode a picture of a format; of TIFF a page."""
    from PIL import Image

    with Image.open(io.BytesIO(data), formats=[form]) as image:
        frames = getattr(image, "n_frames", 1)
        if form == "TIFF":
            image.seek(page)
        elif frames > 1 and image.format != "MPO":  # a phone's JPEG; the further frames are previews and gain maps
            raise FileError(f"holds {frames} frames or pages: extract the one to enlarge")
        return _of_image(image)


def _of_file_behind(image: Any) -> Picture | None:
    """Return the picture of an image that Pillow did not decode yet, from its file, which says more; or None."""
    file, form = getattr(image, "fp", None), image.format
    if file is None or not getattr(image, "tile", None) or form not in ("PNG", "TIFF") or file.closed:
        return None
    if form == "PNG" and getattr(image, "n_frames", 1) > 1:
        return None
    at = file.tell()
    try:
        file.seek(0)
        data = file.read(MOST_BYTES)
    finally:
        file.seek(at)
    return _decode_png(data) if form == "PNG" else _decode_tiff(data, image.tell())


def _of_image(image: Any) -> Picture:
    width, height = image.size
    if width * height > MAX_PIXELS:
        raise FileError(f"is {width}x{height}: at most {MAX_PIXELS} pixels are accepted")
    if not width or not height:
        raise FileError(f"is {width}x{height}: expected at least one pixel")
    image.load()  # first: what asks for EXIF would load it, and hide that it is damaged
    dpi, icc, sideways = _dpi(image.info.get("dpi")), modes.profile_of(image), exif.is_on_its_side(image)
    pixels, icc = modes.pixels_of(modes.upright(image), icc)  # which drops some of it
    return _described(Picture(pixels, icc=icc, dpi=dpi[::-1] if dpi and sideways else dpi))


def _described(picture: Picture) -> Picture:
    """Return a picture whose profile is for its own kind of numbers, or which has none."""
    gray = picture.pixels.shape[2] <= 2
    if picture.icc is not None and len(picture.icc) > profiles.LARGEST:
        raise FileError(f"has a color profile of more than {profiles.LARGEST} bytes: remove it")
    if gray and picture.cicp is None and picture.icc is not None and profiles.space(picture.icc) == "RGB ":
        return replace(picture, pixels=_gray_as_srgb(picture.pixels, picture.icc), icc=None)
    return replace(picture, icc=profiles.fitting(picture.icc, gray=gray))


def _gray_as_srgb(pixels: NDArray[Any], icc: bytes) -> NDArray[Any]:
    return np.concatenate([profiles.gray_to_srgb(pixels[:, :, :1], icc), pixels[:, :, 1:]], axis=2)


def _decode_png(data: bytes) -> Picture:
    parts = png.parse(data)
    picture = _decode_with_pillow(parts.data, "PNG")
    pixels = parts.finish(picture.pixels)
    return _described(replace(picture, pixels=pixels, icc=parts.icc, cicp=parts.cicp))


def _decode_tiff(data: bytes, page: int | None = None) -> Picture:
    from PIL import UnidentifiedImageError

    found = tiff.read(data, most=MAX_PIXELS, page=page)
    samples, icc = found.samples, found.icc
    if samples is None:
        try:
            picture = _decode_with_pillow(data, "TIFF", found.page)
        except UnidentifiedImageError as error:
            raise FileError(found.refusal) from error
        return replace(picture, dpi=_dpi(found.dpi))  # Pillow takes a resolution that is not given for 1
    if found.inks:
        rgb, alpha, icc = modes.inks_to_rgb(samples[:, :, :4], icc), samples[:, :, 4:], None
        samples = np.concatenate([rgb, alpha if alpha.dtype == np.uint8 else (alpha >> 8).astype(np.uint8)], axis=2)
    return _described(Picture(samples, icc=icc, dpi=_dpi(found.dpi)))


def _decode_jpeg(data: bytes) -> Picture:
    kind = jpeg.unread(data)
    if kind is not None:
        raise FileError(f"is {kind}, which is not read: convert it to a JPEG of 8 bits, or a PNG or TIFF")
    try:
        return _decode_with_pillow(data, "JPEG")
    except OSError:
        ways = [_decode_with_pillow(whole, "JPEG") for whole in jpeg.with_end(data)]
        if not ways or not all(np.array_equal(ways[0].pixels, way.pixels) for way in ways):
            raise
        return ways[0]


def _dpi(dpi: Any) -> tuple[float, float] | None:
    try:
        x, y = (float(n) for n in dpi)
    except (TypeError, ValueError, ZeroDivisionError):
        return None
    told = 0 < x < 1e6 and 0 < y < 1e6 and (x, y) != (1.0, 1.0)  # which Pillow says where a TIFF says nothing
    return (x, y) if told else None


__getattr__ = moved.names(__name__)
