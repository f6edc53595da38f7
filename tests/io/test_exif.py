import io
import struct

import numpy as np
import pytest
from encoded import encoded, noise
from PIL import Image, ImageCms

from pidsampler.io import pictures, profiles


def exif(space=None, index=b"", orientation=1):
    """Encode EXIF of a color space, an interoperability index of at most 3 letters, and an orientation."""
    long, entries = ">HHII", struct.pack(">HHIHH", 274, 3, 1, orientation, 0)
    start = 8 + 2 + 12 * 2 + 4
    entries += struct.pack(long, 0x8769, 4, 1, start)  # the EXIF directory
    spaces = b"" if space is None else struct.pack(">HHIHH", 0xA001, 3, 1, space, 0)
    indices = struct.pack(">HHI4s", 1, 2, len(index) + 1, index) if index else b""
    spaces += struct.pack(long, 0xA005, 4, 1, start + 2 + len(spaces) + 12 + 4)
    directories = [struct.pack(">H", len(part) // 12) + part + bytes(4) for part in (entries, spaces, indices)]
    return b"Exif\0\0MM\0*" + struct.pack(">I", 8) + b"".join(directories)


def read(tmp_path, name, data):
    (tmp_path / name).write_bytes(data)
    return pictures.read(tmp_path / name)


def test_the_profile_of_adobe_rgb():
    """SRGB's red, and a gray, are 219, 0, 0 and 126, 126, 126 in Adobe RGB: worked out by hand from both standards."""
    numbers = np.array([[[219, 0, 0], [126, 126, 126], [255, 255, 255]]], np.uint8)
    found = ImageCms.profileToProfile(
        Image.fromarray(numbers),
        ImageCms.ImageCmsProfile(io.BytesIO(profiles.adobe_rgb())),
        ImageCms.createProfile("sRGB"),
        flags=ImageCms.Flags.NOOPTIMIZE,
    )
    assert np.abs(np.asarray(found)[0].astype(int) - [[255, 0, 0], [127, 127, 127], [255, 255, 255]]).max() <= 1


@pytest.mark.parametrize("name", ["a.jpg", "a.webp"])
@pytest.mark.parametrize(
    ("space", "index", "adobe"),
    [
        (0xFFFF, b"R03", True),
        (None, b"R03", True),
        (2, b"", True),
        (0xFFFF, b"R98", False),
        (0xFFFF, b"", False),  # it may be any
        (1, b"R03", False),  # sRGB
        (1, b"R98", False),
        (None, b"", False),
    ],
)
def test_adobe_rgb_that_only_exif_tells(tmp_path, name, space, index, adobe):
    kind = {"a.jpg": "JPEG", "a.webp": "WEBP"}[name]
    data = encoded(kind, Image.fromarray(noise(8, 8, 3)), exif=exif(space, index))
    assert read(tmp_path, name, data).icc == (profiles.adobe_rgb() if adobe else None)


def test_a_profile_and_the_chunks_of_a_png_are_asked_before_exif(tmp_path):
    image, other = Image.fromarray(noise(8, 8, 3)), profiles.of_gamma(1.0, None, gray=False)
    said = exif(0xFFFF, b"R03")
    assert read(tmp_path, "a.jpg", encoded("JPEG", image, exif=said, icc_profile=other)).icc == other
    assert read(tmp_path, "a.png", encoded("PNG", image, exif=said)).icc is None
    gray = image.convert("L")
    assert np.array_equal(read(tmp_path, "a.png", encoded("PNG", gray, exif=said)).pixels[:, :, 0], np.asarray(gray))


@pytest.mark.parametrize("name", ["a.jpg", "a.png"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_resolution_is_turned_with_the_picture(tmp_path, name, orientation):
    kind = {"a.jpg": "JPEG", "a.png": "PNG"}[name]
    data = encoded(kind, Image.fromarray(noise(8, 8, 3)), exif=exif(orientation=orientation), dpi=(300, 150))
    wanted = (300, 150) if orientation < 5 else (150, 300)
    assert read(tmp_path, name, data).dpi == pytest.approx(wanted, abs=0.1)


@pytest.mark.parametrize("orientation", range(10))
def test_a_picture_is_turned_without_its_exif_being_written_anew(tmp_path, orientation, monkeypatch):
    """Pillow's own way does so, which fails for some EXIF, and takes 9 s for 0.8 MB of it."""
    monkeypatch.setattr(Image.Exif, "tobytes", lambda *_: 1 / 0)
    array = noise(2, 3, 3)
    block = exif(orientation=orientation).removeprefix(b"Exif\0\0")
    found = read(tmp_path, "a.png", encoded("PNG", Image.fromarray(array), exif=block)).pixels
    turned = {2: array[:, ::-1], 3: array[::-1, ::-1], 4: array[::-1], 5: array.swapaxes(0, 1)}
    turned |= {6: np.rot90(array, -1), 7: np.rot90(array, 2).swapaxes(0, 1), 8: np.rot90(array)}
    assert np.array_equal(found, turned.get(orientation, array))
