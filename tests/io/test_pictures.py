import io
import json
import os
import struct
import warnings

import numpy as np
import pytest
from encoded import encoded, header_only, noise, png16
from PIL import Image, ImageCms

from pidsampler import PidSamplerError
from pidsampler.io import pictures, profiles, records
from pidsampler.io.pictures import Picture

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


def tiff16(array, order):
    """Encode uint16 (H, W, C) as an uncompressed TIFF of either byte order."""
    height, width, channels = array.shape
    e = {"little": "<", "big": ">"}[order]
    data = array.astype(f"{e}u2").tobytes()
    bits_at = 8 + len(data)
    tags = [
        (256, 4, 1, width),
        (257, 4, 1, height),
        (258, 3, channels, bits_at),
        (259, 3, 1, 1),
        (262, 3, 1, 2),
        (273, 4, 1, 8),
        (277, 3, 1, channels),
        (278, 4, 1, height),
        (279, 4, 1, len(data)),
        (284, 3, 1, 1),
    ] + ([(338, 3, 1, 2)] if channels == 4 else [])
    bits = struct.pack(f"{e}{channels}H", *[16] * channels)

    def entry(tag, kind, count, value):
        short = kind == 3 and count == 1
        return struct.pack(f"{e}HHI", tag, kind, count) + (
            struct.pack(f"{e}HH", value, 0) if short else struct.pack(f"{e}I", value)
        )

    directory = struct.pack(f"{e}H", len(tags)) + b"".join(entry(*tag) for tag in tags) + b"\0" * 4
    start = {"little": b"II", "big": b"MM"}[order] + struct.pack(f"{e}HI", 42, bits_at + len(bits))
    return start + data + bits + directory


def saved(tmp_path, image, name, **options):
    path = tmp_path / name
    image.save(path, **options)
    return path


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_eight_bits_round_trip(tmp_path, name, channels):
    options = {"lossless": True, "exact": True} if name == "a.webp" else {}
    array = noise(7, 5, channels)
    image = Image.fromarray(array[:, :, 0] if channels == 1 else array)
    picture = pictures.read(saved(tmp_path, image, name, **options))
    if name == "a.webp" and channels <= 2:  # WebP has no gray
        assert np.array_equal(picture.pixels[:, :, :3], np.broadcast_to(array[:, :, :1], (7, 5, 3)))
    else:
        assert picture.pixels.dtype == np.uint8
        assert np.array_equal(picture.pixels, array)


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits_png(tmp_path, channels):
    array = noise(7, 5, channels, dtype=np.uint16)
    (tmp_path / "a.png").write_bytes(png16(array))
    picture = pictures.read(tmp_path / "a.png")
    assert picture.pixels.dtype == np.uint16
    assert np.array_equal(picture.pixels, array)


@pytest.mark.parametrize("channels", [3, 4])
@pytest.mark.parametrize("order", ["little", "big"])
def test_sixteen_bits_tiff(tmp_path, channels, order):
    array = noise(7, 5, channels, dtype=np.uint16)
    (tmp_path / "a.tiff").write_bytes(tiff16(array, order))
    assert np.array_equal(pictures.read(tmp_path / "a.tiff").pixels, array)


def test_sixteen_bits_gray_tiff(tmp_path):
    array = noise(7, 5, 1, dtype=np.uint16)
    assert np.array_equal(pictures.read(saved(tmp_path, Image.fromarray(array[:, :, 0]), "a.tif")).pixels, array)


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("kind", ["rgb", "gray", "palette", "rgb16"])
def test_orientation_is_applied(tmp_path, orientation, kind):
    turns = {
        1: lambda a: a,
        2: lambda a: a[:, ::-1],
        3: lambda a: a[::-1, ::-1],
        4: lambda a: a[::-1],
        5: lambda a: a.swapaxes(0, 1),
        6: lambda a: np.rot90(a, -1),
        7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
        8: lambda a: np.rot90(a, 1),
    }
    exif = Image.Exif()
    exif[0x0112] = orientation
    if kind == "rgb16":
        array = noise(4, 3, 3, dtype=np.uint16)
        data = tiff16(array, "little")
        # One more tag: the count is bumped and the entry put where its number belongs (after 262).
        at = struct.unpack_from("<I", data, 4)[0]
        count = struct.unpack_from("<H", data, at)[0]
        split = at + 2 + 5 * 12
        entry = struct.pack("<HHIHH", 274, 3, 1, orientation, 0)
        data = data[:at] + struct.pack("<H", count + 1) + data[at + 2 : split] + entry + data[split:]
        path = tmp_path / "a.tif"
        path.write_bytes(data)
    else:
        array = noise(4, 3, 1 if kind == "gray" else 3)
        image = Image.fromarray(array[:, :, 0] if kind == "gray" else array)
        if kind == "palette":
            image = image.quantize(12)
            array = np.asarray(image.convert("RGB"))
        path = saved(tmp_path, image, "a.png", exif=exif)
    assert np.array_equal(pictures.read(path).pixels, turns[orientation](array))


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp"])
@pytest.mark.parametrize(
    "exif", [b"no EXIF", b"", b"II*\0\xff\xff\0\0", b"II*\0\x08\0\0\0\1\0\x12\1\2\0\1\0\0\0\6\0\0\0"]
)
def test_orientation_that_cannot_be_read_is_none(tmp_path, name, exif):
    image = Image.fromarray(np.full((4, 6, 3), 90, np.uint8))
    (tmp_path / name).write_bytes(
        encoded({"jpg": "JPEG"}.get(name[2:], name[2:].upper()), image, exif=b"Exif\0\0" + exif)
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of damaged EXIF
        assert pictures.read(tmp_path / name).pixels.shape == (4, 6, 3)


def test_palettes(tmp_path):
    image = Image.fromarray(noise(6, 6, 3)).quantize(16)
    assert np.array_equal(pictures.read(saved(tmp_path, image, "p.png")).pixels, np.asarray(image.convert("RGB")))
    path = saved(tmp_path, image, "t.png", transparency=image.getpixel((0, 0)))
    with Image.open(path) as stored:
        expected = np.asarray(stored.convert("RGBA"))
    assert set(np.unique(expected[:, :, 3])) == {0, 255}
    assert np.array_equal(pictures.read(path).pixels, expected)


@pytest.mark.parametrize("mode", ["1", "L", "RGB"])
def test_color_keys_become_alpha(tmp_path, mode):
    image = Image.fromarray(noise(6, 6, 3)).convert(mode)
    key = {"1": 1, "L": image.getpixel((2, 2)), "RGB": image.getpixel((2, 2))}[mode]
    path = saved(tmp_path, image, "k.png", transparency=key)
    pixels = pictures.read(path).pixels
    assert pixels.shape[2] == (4 if mode == "RGB" else 2)  # gray stays gray
    assert pixels[2, 2, -1] == (0 if mode != "1" or image.getpixel((2, 2)) else 255)


def test_bilevel_and_premultiplied(tmp_path):
    image = Image.fromarray(noise(6, 6, 1)[:, :, 0]).convert("1")
    pixels = pictures.read(saved(tmp_path, image, "b.png")).pixels
    assert np.array_equal(pixels[:, :, 0], np.asarray(image) * np.uint8(255))


def test_cmyk_with_and_without_a_profile(tmp_path):
    image = Image.fromarray(noise(6, 6, 3)).convert("CMYK")
    plain = pictures.read(saved(tmp_path, image, "c.tif"))
    assert np.array_equal(plain.pixels, np.asarray(image.convert("RGB")))
    wrong = pictures.read(saved(tmp_path, image, "w.tif", icc_profile=SRGB))  # not a CMYK profile: does not apply
    assert np.array_equal(wrong.pixels, plain.pixels)
    assert wrong.icc is None


def test_a_color_space_with_a_profile_of_its_own_goes_through_it(tmp_path):
    """No CMYK profile is free to ship; LAB's is made by littleCMS, and takes the same path."""
    lab = ImageCms.createProfile("LAB", 5000)
    rgb = Image.fromarray(np.full((4, 4, 3), [200, 100, 50], np.uint8))
    image = ImageCms.profileToProfile(rgb, ImageCms.createProfile("sRGB"), lab, outputMode="LAB")
    path = saved(tmp_path, image, "l.tif", icc_profile=ImageCms.ImageCmsProfile(lab).tobytes())
    picture = pictures.read(path)
    assert picture.pixels.shape == (4, 4, 3)
    assert np.abs(picture.pixels.astype(int) - [200, 100, 50]).max() <= 2
    assert picture.icc is None


@pytest.mark.parametrize("name", ["a.png", "a.jpg", "a.webp", "a.tif"])
def test_profile_and_resolution_are_kept(tmp_path, name):
    picture = Picture(noise(6, 6, 3), icc=SRGB, dpi=(300.0, 150.0))
    path = tmp_path / name
    pictures.write(path, picture, record="{}")
    back = pictures.read(path)
    assert back.icc == SRGB
    if name == "a.webp":  # has no field for it
        assert back.dpi is None
    else:
        assert back.dpi == pytest.approx((300, 150), abs=0.1)


def test_a_resolution_above_what_jpeg_holds_is_dropped(tmp_path):
    """It has 16 bits for it."""
    for dpi, kept in (((65535, 300), True), ((65536 + 72, 300), False)):
        pictures.write(tmp_path / "a.jpg", Picture(noise(6, 6, 3), dpi=dpi), record="{}", overwrite=True)
        assert pictures.read(tmp_path / "a.jpg").dpi == (dpi if kept else None)


@pytest.mark.parametrize("name", ["a.tif", "a.webp"])
def test_a_profile_that_no_jpeg_holds_is_refused(tmp_path, name):
    icc = SRGB + bytes(profiles.LARGEST + 1 - len(SRGB))
    path = saved(tmp_path, Image.fromarray(noise(6, 6, 3)), name, icc_profile=icc)
    with pytest.raises(PidSamplerError, match="has a color profile of more than 16000000 bytes: remove it"):
        pictures.read(path)


@pytest.mark.parametrize("dpi", [(0, 0), (72,), None, "x", (float("nan"), 1)])
def test_a_senseless_resolution_is_dropped(dpi):
    assert pictures._dpi(dpi) is None


@pytest.mark.parametrize(
    ("name", "channels"),
    [(f"a.{s}", c) for s in ("png", "tif", "webp", "jpg") for c in (1, 2, 3, 4) if s != "jpg" or c in (1, 3)],
)
def test_writes_what_it_reads(tmp_path, name, channels):
    smooth = np.add.outer(np.arange(40) * 2, np.arange(30) * 3).astype(np.uint8)
    array = np.stack([smooth, *(smooth + 7 * c for c in range(1, channels))], axis=2)
    pictures.write(tmp_path / name, Picture(array), record="{}")
    back = pictures.read(tmp_path / name).pixels
    if name in ("a.png", "a.tif"):
        assert np.array_equal(back, array)
    else:
        color = array[:, :, : 1 if channels <= 2 else 3].astype(int)
        assert np.abs(back[:, :, : color.shape[2]].astype(int) - color).mean() < 3


def test_the_record_is_in_the_png_or_beside(tmp_path):
    record = json.dumps({"seed": 3, "name": "π"})
    pictures.write(tmp_path / "a.png", Picture(noise(2, 2, 3)), record=record)
    with Image.open(tmp_path / "a.png") as image:
        assert image.text["pidsampler"] == record
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.png"]
    pictures.write(tmp_path / "a.jpg", Picture(noise(2, 2, 3)), record=record)
    assert json.loads((tmp_path / "a.jpg.json").read_text()) == json.loads(record)


def test_nothing_is_replaced_without_being_told(tmp_path):
    path = tmp_path / "a.png"
    path.write_bytes(b"mine")
    with pytest.raises(PidSamplerError, match=r"a\.png exists already: pass overwrite=True"):
        pictures.write(path, Picture(noise(2, 2, 3)), record="{}")
    assert path.read_bytes() == b"mine"
    pictures.write(path, Picture(noise(2, 2, 3)), record="{}", overwrite=True)
    assert pictures.read(path).pixels.shape == (2, 2, 3)
    (tmp_path / "b.jpg.json").write_bytes(b"mine")
    with pytest.raises(PidSamplerError, match=r"b\.jpg\.json exists already"):
        pictures.write(tmp_path / "b.jpg", Picture(noise(2, 2, 3)), record="{}")
    assert not (tmp_path / "b.jpg").exists()


def test_a_file_that_appears_meanwhile_is_not_replaced(tmp_path, monkeypatch):
    path = tmp_path / "a.png"
    monkeypatch.setattr(pictures, "check_output", lambda path, overwrite: path.write_bytes(b"mine"))
    with pytest.raises(PidSamplerError, match="exists already"):
        pictures.write(path, Picture(noise(2, 2, 3)), record="{}")
    assert path.read_bytes() == b"mine"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_without_hard_links_a_file_is_renamed(tmp_path, monkeypatch):
    def refuse(source, target):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", refuse)
    path = tmp_path / "a.png"
    pictures.write(path, Picture(noise(2, 2, 3)), record="{}")
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]
    monkeypatch.setattr(pictures, "check_output", lambda path, overwrite: path.write_bytes(b"mine"))
    with pytest.raises(PidSamplerError, match="exists already"):
        pictures.write(path, Picture(noise(2, 2, 3)), record="{}")
    assert path.read_bytes() == b"mine"


def test_a_name_as_long_as_the_system_allows(tmp_path):
    path = tmp_path / ("a" * 251 + ".png")
    pictures.write(path, Picture(noise(2, 2, 3)), record="{}")
    assert path.is_file()


def test_a_phones_jpeg_with_a_second_picture_inside(tmp_path):
    array = np.full((8, 8, 3), 90, np.uint8)
    path = tmp_path / "phone.jpg"
    Image.fromarray(array).save(path, "MPO", save_all=True, append_images=[Image.fromarray(array[:2, :2])])
    assert np.abs(pictures.read(path).pixels.astype(int) - 90).max() <= 2


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
def test_a_write_that_fails_leaves_the_old_file_and_no_other(tmp_path, monkeypatch, error):
    path = tmp_path / "a.png"
    path.write_bytes(b"mine")

    def fail(descriptor):
        raise error

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(PidSamplerError if isinstance(error, OSError) else KeyboardInterrupt) as caught:
        pictures.write(path, Picture(noise(2, 2, 3)), record="{}", overwrite=True)
    if isinstance(error, OSError):
        assert str(caught.value) == f"cannot write {path}: No space left on device"
    assert path.read_bytes() == b"mine"
    assert [p.name for p in tmp_path.iterdir()] == ["a.png"]


def test_new_files_have_the_users_permissions(tmp_path):
    old = os.umask(0o027)
    try:
        pictures.write(tmp_path / "a.png", Picture(noise(2, 2, 3)), record="{}")
    finally:
        os.umask(old)
    assert (tmp_path / "a.png").stat().st_mode & 0o777 == 0o640


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("a.bmp", r"unknown picture extension '\.bmp', expected one of \.png, \.jpg"),
        ("a", "unknown picture extension ''"),
        ("missing/a.png", "cannot write .*missing/a.png: No such file or directory"),
        ("file/a.png", "cannot write .*: Not a directory"),
        ("folder.png", "folder.png is a folder, expected a file name"),
    ],
)
def test_refuses_to_write(tmp_path, name, message):
    (tmp_path / "file").touch()
    (tmp_path / "folder.png").mkdir()
    with pytest.raises(PidSamplerError, match=message):
        pictures.check_output(tmp_path / name, overwrite=False)


def test_refuses_what_a_format_cannot_hold(tmp_path):
    with pytest.raises(PidSamplerError, match=r"JPEG cannot hold the input's transparency: write \.png"):
        pictures.check_fits(tmp_path / "a.jpg", (10, 10), alpha=True)
    with pytest.raises(PidSamplerError, match=r"16384x10, and \.webp holds at most 16383 a side"):
        pictures.check_fits(tmp_path / "a.webp", (10, 16384), alpha=False)
    pictures.check_fits(tmp_path / "a.png", (10, 100_000), alpha=True)
    with pytest.raises(PidSamplerError, match="transparency"):
        pictures.write(tmp_path / "a.jpg", Picture(noise(2, 2, 4)), record="{}")


def frames(kind, **options):
    buffer = io.BytesIO()
    first, *others = (Image.fromarray(noise(8, 8, 3)) for _ in range(3))
    first.save(buffer, kind, save_all=True, append_images=others, **options)
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", r"is empty \(0 bytes\), expected a picture"),
        (b"hello, I am a text", "is not a picture that can be read: expected PNG, JPEG, WebP or TIFF"),
        (encoded("PNG")[:5000], "is damaged: .*truncated"),
        (encoded("JPEG")[:2000], "is damaged: .*truncated"),
        (encoded("WEBP")[:1000], "is damaged|is not a picture"),
        (encoded("TIFF")[:3000], "is damaged|is not a picture"),
        (encoded("PNG")[:20], "is damaged|is not a picture"),
        (header_only(100_000, 100_000), r"is too large: Image size \(10000000000 pixels\)"),
        (header_only(10_000, 7_000), "is 10000x7000: at most 67108864 pixels are accepted"),
        (frames("PNG"), "holds 3 frames or pages: extract the one to enlarge"),
        (frames("WEBP", lossless=True), "holds 3 frames or pages"),
        (frames("TIFF"), "holds 3 frames or pages"),
        (encoded("TIFF", Image.fromarray(np.zeros((4, 4), np.float32))), "has floating-point samples"),
        (encoded("TIFF", Image.fromarray(np.zeros((4, 4), np.int32))), "has signed samples"),
    ],
    ids=lambda value: value[:8] if isinstance(value, bytes) else value[:30],
)  # fmt: skip
def test_refuses_to_read(tmp_path, data, message):
    path = tmp_path / "in.png"
    path.write_bytes(data)
    with pytest.raises(PidSamplerError, match=message) as caught:
        pictures.read(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("data", "held"),
    [
        (b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 16 16\n%%EOF\n", "PostScript"),
        (b"\xc5\xd0\xd3\xc6" + bytes(30), "PostScript"),
        (frames("GIF"), "a picture in GIF"),
        (encoded("BMP"), "a picture in BMP"),
        (b"\0\0\0\x1cftypavif\0\0\0\0", "a picture in AVIF"),
        (b"\0\0\0\x0cjP  \r\n\x87\n", "a picture in JPEG 2000"),
        (encoded("PDF"), "a PDF"),
        (b"\0\0\0\x18ftypheic\0\0\0\0", "a picture in HEIF"),
        (b"<!DOCTYPE html><html></html>", "a web page"),
        (b"version https://git-lfs.github.com/spec/v1\n", "a pointer of Git LFS, not the file: git lfs pull"),
        (b"\x93NUMPY\1\0", "a NumPy array"),
        (encoded("PPM"), ""),
        (encoded("TGA"), ""),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_only_four_formats_are_read_whatever_the_name_and_the_others_named(tmp_path, data, held, monkeypatch):
    def never(*_, **__):
        raise AssertionError("a program was started")

    monkeypatch.setattr("subprocess.Popen", never)
    for name in ("photo.png", "photo.eps"):
        (tmp_path / name).write_bytes(data)
        words = f"it holds {held}; " if held else ""
        with pytest.raises(
            PidSamplerError, match=f"not a picture that can be read: {words}expected PNG, JPEG, WebP or T"
        ):
            pictures.read(tmp_path / name)
        assert not pictures.is_picture(tmp_path / name)


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_a_name_does_not_matter(tmp_path, kind):
    data = encoded(kind)
    for name in ("a.png", "a.jpg", "a.npy", "a"):
        (tmp_path / name).write_bytes(data)
        assert pictures.is_picture(tmp_path / name)
        assert pictures.read(tmp_path / name).pixels.shape == (64, 64, 3)


def test_pipes_and_devices_are_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for path in (tmp_path / "pipe.png", "/dev/zero"):
        with pytest.raises(PidSamplerError, match="is a pipe or a device, expected a file"):
            pictures.read(path)


def test_a_file_larger_than_any_picture_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(pictures, "MOST_BYTES", 1000)
    path = tmp_path / "a.png"
    path.write_bytes(encoded("PNG"))
    with pytest.raises(PidSamplerError, match="is of more than 1000 bytes"):
        pictures.read(path)


GRAY_PROFILE = SRGB[:16] + b"GRAY" + SRGB[20:]


@pytest.mark.parametrize(
    ("mode", "icc", "kept"),
    [
        ("RGB", SRGB, True),
        ("RGB", GRAY_PROFILE, False),
        ("RGB", b"no profile", False),
        ("L", GRAY_PROFILE, True),
        ("L", SRGB, False),  # sRGB's gray is that of no profile
        ("P", GRAY_PROFILE, False),
        ("P", SRGB, True),
    ],
)
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".webp"])
def test_a_profile_of_another_color_space_is_dropped(tmp_path, mode, icc, kept, suffix):
    image = Image.fromarray(np.full((8, 8, 3), 120, np.uint8))
    image = image.quantize(2) if mode == "P" else image.convert(mode)
    image = image.convert("RGB") if suffix == ".jpg" and mode == "P" else image
    if suffix == ".webp" and mode == "L":
        kept = icc == SRGB  # WebP holds RGB
    picture = pictures.read(saved(tmp_path, image, f"a{suffix}", icc_profile=icc))
    assert picture.icc == (icc if kept else None)
    assert np.abs(picture.pixels.astype(int) - 120).max() <= 1
    wrong = Picture(picture.pixels, icc=icc)
    pictures.write(tmp_path / "b.png", wrong, record="{}")
    with Image.open(tmp_path / "b.png") as back:
        assert ("icc_profile" in back.info) == kept


def test_gray_of_an_rgb_profile_becomes_srgb(tmp_path):
    """0, 4, 31, 128 and 255 of linear light are 0, 34, 99, 188 and 255 in sRGB."""
    linear = profiles.of_gamma(1.0, None, gray=False)
    image = Image.fromarray(np.array([[0, 4, 31, 128, 255]], np.uint8))
    picture = pictures.read(saved(tmp_path, image, "a.png", icc_profile=linear))
    assert picture.icc is None
    assert np.abs(picture.pixels[0, :, 0].astype(int) - [0, 34, 99, 188, 255]).max() <= 1


def test_refuses_a_missing_file_and_a_folder(tmp_path):
    with pytest.raises(PidSamplerError, match=r"cannot read .*no\.png: No such file or directory"):
        pictures.read(tmp_path / "no.png")
    with pytest.raises(PidSamplerError, match=r"cannot read .*: Is a directory"):
        pictures.read(tmp_path)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_alpha_planes_are_enlarged_smoothly_and_exactly_where_flat(dtype):
    top = np.iinfo(dtype).max
    plane = np.full((6, 8), top, dtype)
    plane[:, 4:] = 0
    large = pictures.enlarge_plane(plane, (24, 32))
    assert large.shape == (24, 32)
    assert large.dtype == np.uint8
    assert (large[:, :14] == 255).all()
    assert (large[:, -14:] == 0).all()
    assert np.all(np.diff(large[0, 13:19].astype(int)) < 0)


@pytest.fixture(name="recorded")
def _recorded(tmp_path):
    pictures.write(tmp_path / "a.png", Picture(np.zeros((9, 9, 3), np.uint8)), record=json.dumps({"seed": "ä 1"}))
    return tmp_path / "a.png"


def test_the_record_of_a_picture_that_pillow_finds_too_large(recorded, monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    assert records.find_record(recorded) == {"seed": "ä 1"}


@pytest.mark.parametrize("cut", [0, 7, 8, 20, 40, 60])
def test_what_is_cut_off_or_another_file_has_no_record(recorded, cut):
    whole = recorded.read_bytes()
    assert b"IDAT" not in whole[:60]
    for end in (b"", b"\0\0", b"\xff" * 20):
        recorded.write_bytes(whole[:cut] + end)
        assert records.find_record(recorded) is None
    assert records.find_record(recorded.with_name("b.png")) is None
    Image.new("RGB", (2, 2)).save(recorded)
    assert records.find_record(recorded) is None
