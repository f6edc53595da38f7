import io
import itertools
import struct
import zlib

import numpy as np
import pytest
from encoded import noise
from PIL import Image, ImageCms

from pidsampler import PidSamplerError
from pidsampler.io import pictures, png_out, profiles
from pidsampler.io.pictures import Picture
from pidsampler.io.png import SIGNATURE, chunk, parse

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
GAMMA_22, LINEAR = struct.pack(">I", 45455), struct.pack(">I", 100000)
CHRM_SRGB = struct.pack(">8I", 31270, 32900, 64000, 33000, 30000, 60000, 15000, 6000)
CHRM_P3 = struct.pack(">8I", 31270, 32900, 68000, 32000, 26500, 69000, 15000, 6000)
LINEAR_SHOWN = [0, 13, 22, 28, 34, 99, 188, 255]  # of 0, 1, 2, 3, 4, 31, 128 and 255: IEC 61966-2-1, worked out by hand


def png(array, *extra, color_type=None, depth=None, interlaced=False):
    """Encode uint8 or uint16 (H, W, C) without a filter, with chunks before its pixels."""
    height, width, channels = array.shape
    depth = depth or array.itemsize * 8
    color_type = {1: 0, 2: 4, 3: 2, 4: 6}[channels] if color_type is None else color_type
    passes = [array]
    if interlaced:  # Adam7, section 8.1
        starts = ((0, 0, 8, 8), (0, 4, 8, 8), (4, 0, 8, 4), (0, 2, 4, 4), (2, 0, 4, 2), (0, 1, 2, 2), (1, 0, 2, 1))
        passes = [array[y::down, x::right] for y, x, down, right in starts]
    lines = itertools.chain.from_iterable(part for part in passes if part.size)
    if depth < 8:
        bits = np.unpackbits(array[:, :, 0, None], axis=2)[:, :, 8 - depth :].reshape(height, -1)
        lines = np.packbits(bits, axis=1)
    raw = b"".join(b"\0" + line.astype(f">u{array.itemsize}").tobytes() for line in lines)
    header = struct.pack(">IIBBBBB", width, height, depth, color_type, 0, 0, interlaced)
    return b"".join(
        [SIGNATURE, chunk(b"IHDR", header), *extra, chunk(b"IDAT", zlib.compress(raw)), chunk(b"IEND", b"")]
    )


def read(tmp_path, data):
    (tmp_path / "a.png").write_bytes(data)
    return pictures.read(tmp_path / "a.png")


def shown(icc, rgb):
    """What littleCMS shows of 8-bit numbers (N, C) with a profile, in sRGB."""
    image = Image.fromarray(rgb[None, :, 0] if rgb.shape[1] == 1 else rgb[None])
    source, target = ImageCms.ImageCmsProfile(io.BytesIO(icc)), ImageCms.createProfile("sRGB")
    exact = ImageCms.Flags.NOOPTIMIZE
    return np.asarray(ImageCms.profileToProfile(image, source, target, outputMode="RGB", flags=exact))[0].astype(int)


@pytest.mark.parametrize("interlaced", [False, True])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_sixteen_bits(tmp_path, channels, interlaced):
    array = noise(11, 13, channels, dtype=np.uint16)
    found = read(tmp_path, png(array, interlaced=interlaced)).pixels
    assert found.dtype == np.uint16
    assert np.array_equal(found, array)


def test_sixteen_bits_of_gray_and_alpha_are_turned(tmp_path):
    array = noise(3, 5, 2, dtype=np.uint16)
    exif = Image.Exif()
    exif[274] = 6
    found = read(tmp_path, png(array, chunk(b"eXIf", exif.tobytes()[6:]))).pixels
    assert np.array_equal(found, np.rot90(array, -1))


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_a_color_key_hides_only_its_own_color(tmp_path, dtype, channels):
    array = noise(6, 6, channels, dtype=dtype)
    array[1, 1] = array[0, 0] ^ 1  # the same high byte
    array[2, 3] = key = array[0, 0].copy()
    top = np.iinfo(dtype).max
    # Of 8 bits, a decoder ignores the high byte.
    samples = key.astype(np.uint16) | (0x1200 if dtype == np.uint8 else 0)
    found = read(tmp_path, png(array, chunk(b"tRNS", samples.astype(">u2").tobytes()))).pixels
    assert np.array_equal(found[:, :, :-1], array)
    alpha = np.where((array == key).all(axis=2), 0, top)
    assert alpha[1, 1] == top
    assert np.array_equal(found[:, :, -1], alpha)


@pytest.mark.parametrize("depth", [1, 2, 4])
def test_a_color_key_of_few_bits(tmp_path, depth):
    top = (1 << depth) - 1
    array = np.arange(24, dtype=np.uint8).reshape(3, 8, 1) % (top + 1)
    found = read(tmp_path, png(array, chunk(b"tRNS", b"\0\1"), depth=depth)).pixels
    assert np.array_equal(found[:, :, 0], array[:, :, 0] * (255 // top))
    assert np.array_equal(found[:, :, 1], np.where(array[:, :, 0] == 1, 0, 255))


TEXT = zlib.compress(b"a" * 3_000_000)


@pytest.mark.parametrize(
    "extra",
    [
        chunk(b"zTXt", b"workflow\0\0" + TEXT),
        chunk(b"iTXt", b"workflow\0\1\0\0\0" + TEXT),
        chunk(b"tEXt", b"workflow\0" + b"a" * 3_000_000),
        chunk(b"iTXt", b"XML:com.adobe.xmp\0\1\0\0\0" + TEXT),
        chunk(b"zTXt", b"Raw profile type exif\0\0" + TEXT),
        chunk(b"zTXt", b"broken\0\0abc"),
        chunk(b"iCCP", b"broken\0\0abc"),
        chunk(b"iCCP", b"no profile\0\0" + TEXT),
        chunk(b"tEXt", b"a\0b")[:-4] + b"\0\0\0\0",  # a wrong checksum
        chunk(b"acTL", struct.pack(">II", 1, 0)),
        chunk(b"tRNS", b""),
        chunk(b"tEXt", b"IEND\0as a part is called") + chunk(b"tEXt", b"IHDR\0"),
    ],
    ids=range(12),
)
def test_what_is_beside_the_pixels_does_not_matter(tmp_path, extra):
    array = noise(2, 2, 3)
    picture = read(tmp_path, png(array, extra))
    assert np.array_equal(picture.pixels, array)
    assert picture.icc is None


EXIF = b"\nexif\n      32\n" + (b"Exif\0\0" + b"II*\0\x08\0\0\0\1\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0").hex().encode()


@pytest.mark.parametrize(
    ("name", "head", "text"),
    [
        (b"iTXt", b"XML:com.adobe.xmp\0%b\0de\0XMP\0", b'<rdf:Description tiff:Orientation="6"/>' + b" " * 2_000_000),
        (b"zTXt", b"Raw profile type exif\0\0", EXIF),
        (b"tEXt", b"Raw profile type exif\0", EXIF),
    ],
)
def test_texts_may_turn_a_picture(tmp_path, name, head, text):
    array = noise(2, 3, 3)
    for packed in {b"iTXt": (b"\0", b"\1"), b"zTXt": (b"\1",), b"tEXt": (b"\0",)}[name]:
        start = head % packed if b"%b" in head else head
        extra = chunk(name, start + (zlib.compress(text) if packed == b"\1" else text))
        assert np.array_equal(read(tmp_path, png(array, extra)).pixels, np.rot90(array, -1))


@pytest.mark.parametrize(
    ("part", "most"),
    [
        (chunk(b"zTXt", b"XML:com.adobe.xmp\0\0" + TEXT), 1),
        (chunk(b"zTXt", b"Raw profile type exif\0\0" + TEXT), 1),
        (chunk(b"pHYs", bytes(9)), 1),
        (chunk(b"PLTE", b"abc"), 1),
        (chunk(b"eXIf", b"II*\0"), 1),
        (chunk(b"tEXt", b"a\0b"), 0),
    ],
    ids=range(6),
)
def test_what_is_there_many_times_counts_once(tmp_path, part, most):
    """A megabyte of texts that were compressed was 2.4 GB."""
    array = noise(2, 2, 3)
    assert np.array_equal(read(tmp_path, png(array, *[part] * 50)).pixels, array)
    name = {b"zTXt": b"tEXt"}.get(part[4:8], part[4:8])
    assert parse(png(array, *[part] * 50)).data.count(name) == most


def test_large_profiles_are_read_and_written(tmp_path):
    icc = SRGB + bytes(3_000_000)
    picture = read(tmp_path, png(noise(2, 2, 3), chunk(b"iCCP", b"x\0\0" + zlib.compress(icc))))
    assert picture.icc == icc
    pictures.write(tmp_path / "b.png", picture, record="{}")
    assert pictures.read(tmp_path / "b.png").icc == icc
    too_large = zlib.compress(SRGB + bytes(profiles.LARGEST))
    with pytest.raises(PidSamplerError, match="color profile of more than 16000000 bytes: remove it"):
        read(tmp_path, png(noise(2, 2, 3), chunk(b"iCCP", b"x\0\0" + too_large)))


@pytest.mark.parametrize(
    ("suffix", "channels"),
    [(suffix, channels) for suffix in (".png", ".tiff", ".webp") for channels in (1, 2, 3, 4)]
    + [(".jpg", 1), (".jpg", 3)],
)
def test_gamma_is_kept_as_a_profile(tmp_path, suffix, channels):
    picture = read(tmp_path, png(noise(2, 2, channels), chunk(b"gAMA", LINEAR)))
    pictures.write(tmp_path / f"b{suffix}", picture, record="{}")
    icc = pictures.read(tmp_path / f"b{suffix}").icc
    if suffix == ".webp" and channels <= 2:
        assert icc is None  # gray is stored as RGB, in sRGB
        return
    samples = np.array([0, 1, 2, 3, 4, 31, 128, 255], np.uint8)[:, None].repeat(1 if channels <= 2 else 3, 1)
    assert np.abs(shown(icc, samples) - np.array(LINEAR_SHOWN)[:, None]).max() <= 1


@pytest.mark.parametrize("suffix", [".webp", ".png"])
def test_gray_of_a_profile_becomes_srgb_where_gray_cannot_be_written(tmp_path, suffix):
    array = np.tile(np.array([1, 4, 31, 128, 255], np.uint8)[:, None, None], (1, 64, 1)).repeat(16, 0)
    picture = Picture(array, icc=profiles.of_gamma(1.0, None, gray=True))
    pictures.write(tmp_path / f"a{suffix}", picture, record="{}")
    found = pictures.read(tmp_path / f"a{suffix}")
    wanted = [13, 34, 99, 188, 255] if suffix == ".webp" else [1, 4, 31, 128, 255]
    assert np.abs(found.pixels[8::16, 8, 0].astype(int) - wanted).max() <= 2
    assert (found.icc is None) == (suffix == ".webp")


@pytest.mark.parametrize(
    ("chunks", "kept"),
    [
        ({b"gAMA": GAMMA_22}, False),
        ({b"gAMA": GAMMA_22, b"cHRM": CHRM_SRGB}, False),
        ({b"sRGB": b"\0", b"gAMA": LINEAR, b"cHRM": CHRM_P3}, False),  # sRGB is asked first
        ({b"gAMA": bytes(4)}, False),
        ({b"gAMA": b"\xff" * 4}, False),
        ({b"gAMA": b"\1"}, False),
        ({b"cHRM": bytes(32)}, False),
        ({b"cHRM": struct.pack(">8I", *[33333] * 8)}, False),
        ({b"cHRM": CHRM_P3}, True),
        ({b"gAMA": struct.pack(">I", 55556)}, True),
        ({b"gAMA": GAMMA_22, b"cHRM": CHRM_P3}, True),
        ({b"cICP": bytes([1, 13, 0, 1]), b"gAMA": LINEAR}, False),  # that is sRGB
        ({b"cICP": bytes([12, 13, 5, 1])}, False),  # not RGB
    ],
    ids=range(13),
)
def test_what_names_the_colors_is_kept_where_that_is_not_srgb(tmp_path, chunks, kept):
    picture = read(tmp_path, png(noise(2, 2, 3), *(chunk(*item) for item in chunks.items())))
    assert (picture.icc is not None) == kept
    assert picture.cicp is None


def test_code_points_are_asked_before_a_profile(tmp_path):
    """Gray is not converted by a profile for RGB where that does not name its colors."""
    array, cicp = noise(2, 2, 1), bytes([1, 8, 0, 1])
    linear = chunk(b"iCCP", b"x\0\0" + zlib.compress(profiles.of_gamma(0.3, None, gray=False)))
    picture = read(tmp_path, png(array, linear, chunk(b"cICP", cicp)))
    assert np.array_equal(picture.pixels, array)
    assert (picture.icc, picture.cicp) == (profiles.of_gamma(1.0, None, gray=True), cicp)


def test_a_profile_is_asked_before_gamma(tmp_path):
    profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(SRGB))
    assert read(tmp_path, png(noise(2, 2, 3), chunk(b"gAMA", LINEAR), profile)).icc == SRGB


@pytest.mark.parametrize("channels", [1, 3])
def test_gamma_is_asked_where_a_profile_is_for_other_numbers(tmp_path, channels):
    """One of LAB, or of gray for RGB, describes none of these pixels."""
    lab = ImageCms.ImageCmsProfile(ImageCms.createProfile("LAB")).tobytes()
    for icc in (lab, *[profiles.of_gamma(0.3, None, gray=True)] * (channels == 3)):
        profile = chunk(b"iCCP", b"x\0\0" + zlib.compress(icc))
        picture = read(tmp_path, png(noise(2, 2, channels), chunk(b"gAMA", LINEAR), profile))
        assert picture.icc == profiles.of_gamma(1.0, None, gray=channels == 1)


def test_chromaticities_as_a_profile(tmp_path):
    """SRGB's red is 234, 51, 35 in Display P3."""
    picture = read(tmp_path, png(noise(2, 2, 3), chunk(b"cHRM", CHRM_P3)))
    found = shown(picture.icc, np.array([[234, 51, 35], [128, 128, 128], [255, 255, 255]], np.uint8))
    assert np.abs(found - [[255, 0, 0], [128, 128, 128], [255, 255, 255]]).max() <= 2


@pytest.mark.parametrize("cicp", [bytes([12, 13, 0, 1]), bytes([9, 1, 0, 1]), bytes([1, 8, 0, 1])])
def test_code_points_are_kept_and_have_a_profile_for_other_formats(tmp_path, cicp):
    picture = read(tmp_path, png(noise(2, 2, 3), chunk(b"cICP", cicp)))
    pictures.write(tmp_path / "b.png", picture, record="{}")
    data = (tmp_path / "b.png").read_bytes()
    assert chunk(b"cICP", cicp) in data
    assert data.index(b"cICP") < data.index(b"IDAT")
    back = pictures.read(tmp_path / "b.png")
    assert back.cicp == cicp
    pictures.write(tmp_path / "b.tif", picture, record="{}")
    assert pictures.read(tmp_path / "b.tif").icc == picture.icc == back.icc
    if cicp[0] == 12:
        assert np.abs(shown(picture.icc, np.array([[234, 51, 35]], np.uint8)) - [255, 0, 0]).max() <= 2


@pytest.mark.parametrize("cicp", [bytes([9, 16, 0, 1]), bytes([9, 18, 0, 1]), bytes([1, 13, 0, 0])])
def test_pq_hlg_and_video_range_stay_in_png(tmp_path, cicp):
    picture = read(tmp_path, png(noise(2, 2, 3), chunk(b"cICP", cicp)))
    pictures.write(tmp_path / "b.png", picture, record="{}")
    assert pictures.read(tmp_path / "b.png").cicp == cicp
    with pytest.raises(PidSamplerError, match=r"named by PNG's cICP.*\.jpg cannot hold that: write \.png"):
        pictures.write(tmp_path / "b.jpg", picture, record="{}")
    assert not (tmp_path / "b.jpg").exists()


def test_without_its_end_or_with_more_behind_it(tmp_path):
    array = noise(2, 2, 3)
    data = png(array)
    assert np.array_equal(read(tmp_path, data[:-12]).pixels, array)
    assert np.array_equal(read(tmp_path, data + b"more").pixels, array)


def test_frames(tmp_path):
    with pytest.raises(PidSamplerError, match="holds 3 frames or pages"):
        read(tmp_path, png(noise(2, 2, 3), chunk(b"acTL", struct.pack(">II", 3, 0))))


def test_apples_own_kind_is_named(tmp_path):
    data = png(noise(2, 2, 3))
    with pytest.raises(PidSamplerError, match=r"is a PNG of Apple's own kind \(CgBI\), which is not read"):
        read(tmp_path, SIGNATURE + chunk(b"CgBI", b"P\0 \2") + data[8:])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("opened", [False, True])
def test_pixels_that_do_not_fit_their_checksum_are_damaged(tmp_path, dtype, channels, opened):
    data = bytearray(png(noise(40, 50, channels, dtype=dtype)))
    data[-20] ^= 1  # Adler-32 of the pixels, before the checksum of IDAT and IEND
    with pytest.raises(PidSamplerError, match="is damaged: broken data stream"):
        pictures.of_image(Image.open(io.BytesIO(data))) if opened else read(tmp_path, data)


def test_a_palette_that_is_missing_is_damage(tmp_path):
    data = png(noise(3, 5, 1), color_type=3)
    with pytest.raises(PidSamplerError, match="is damaged: its palette is missing"):
        read(tmp_path, data)


def test_a_text_may_be_called_as_a_part_is(tmp_path):
    image = Image.fromarray(noise(4, 4, 1)[:, :, 0]).convert("P")
    file = io.BytesIO()
    image.save(file, "PNG")
    data = file.getvalue()
    read(tmp_path, data[:33] + chunk(b"tEXt", b"PLTE\0") + data[33:])


def unpacked(data):
    """The filtered rows of a PNG; zlib checks their checksum."""
    packed, at = b"", len(SIGNATURE)
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "big")
        packed += data[at + 8 : at + 8 + length] * (data[at + 4 : at + 8] == b"IDAT")
        at += 12 + length
    return zlib.decompress(packed)


def written(array):
    file = io.BytesIO()
    png_out.write(file, array, text="{}")
    return file.getvalue()


def test_the_filter_by_hand():
    """Beneath 7 and 9, the guess for what follows 5 is 7, above and to the left, for 12 it is 9, above."""
    assert unpacked(written(np.array([[[7], [9]], [[5], [6]]], np.uint8))) == bytes([4, 7, 2, 4, 254, 255])
    assert unpacked(written(np.array([[[7], [9]], [[8], [12]]], np.uint8))) == bytes([4, 7, 2, 4, 1, 3])
    assert unpacked(written(np.array([[[1, 2, 3], [4, 6, 8]]], np.uint8))) == bytes([4, 1, 2, 3, 3, 4, 5])


@pytest.mark.parametrize("band", [1, 100, 1 << 17])
@pytest.mark.parametrize("shape", [(1, 1, 1), (200, 1, 3), (1, 300, 4), (31, 17, 2), (40, 30, 3)])
def test_bands_are_one_picture(monkeypatch, band, shape):
    """Of one row or several; more of them than are in memory at once."""
    array = noise(*shape)
    array[: shape[0] // 2] //= 64
    at_once = unpacked(written(array))
    monkeypatch.setattr(png_out, "_BAND", band)
    data = written(array)
    with Image.open(io.BytesIO(data)) as image:
        assert np.array_equal(np.asarray(image).reshape(shape), array)
    assert unpacked(data) == at_once


def test_only_eight_bits_are_written(tmp_path):
    with pytest.raises(PidSamplerError, match="the picture is uint16, expected uint8"):
        pictures.write(tmp_path / "a.png", Picture(noise(2, 2, 3, dtype=np.uint16)), record="{}")
