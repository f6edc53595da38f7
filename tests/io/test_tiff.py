import struct

import numpy as np
import pytest
import tifffile
from encoded import noise
from PIL import Image, ImageCms

from pidsampler import PidSamplerError
from pidsampler.io import pictures
from pidsampler.io.tiff import upright
from pidsampler.io.tiff_pages import picture_page

SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
STRIPS = {"strips": {"rowsperstrip": 5}, "one strip": {}, "tiles": {"tile": (16, 32)}}
PACKED = {"plain": {}, "deflate": {"compression": "zlib"}, "predictor": {"compression": "zlib", "predictor": True}}
COLORS = {"minisblack": 1, "miniswhite": 1, "rgb": 3}


def written(tmp_path, array, planes=False, **options):
    """Write (H, W, C) by tifffile, which is no part of the package, and read it."""
    if array.shape[2] == 1:
        array = array[:, :, 0]
    else:
        options["planarconfig"] = "separate" if planes else "contig"
        array = np.moveaxis(array, -1, 0) if planes else array
    tifffile.imwrite(tmp_path / "a.tif", array, metadata=None, **options)
    return pictures.read(tmp_path / "a.tif")


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planes", [False, True])
@pytest.mark.parametrize("strips", STRIPS)
@pytest.mark.parametrize("packed", PACKED)
def test_samples(tmp_path, dtype, planes, strips, packed):
    """Each color and alpha, in both byte orders: 36 rows and columns, so that no strip or tile fits."""
    top = np.iinfo(dtype).max
    for photometric, count in COLORS.items():
        for extra in ((), ("unspecified",), ("unassalpha",), ("unassalpha", "unspecified")):
            for order in "<>":
                array = noise(36, 37, count + len(extra), dtype=dtype)
                options = {**STRIPS[strips], **PACKED[packed], "photometric": photometric, "byteorder": order}
                found = written(tmp_path, array, planes, extrasamples=extra or None, **options).pixels
                expected = array[:, :, : count + (extra[:1] == ("unassalpha",))].copy()
                if photometric == "miniswhite":
                    expected[:, :, 0] = top - expected[:, :, 0]
                assert found.dtype == dtype
                assert np.array_equal(found, expected), (photometric, extra, order)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("count", [1, 3])
def test_colors_that_are_multiplied_by_alpha(tmp_path, dtype, count):
    top = np.iinfo(dtype).max
    array = noise(8, 9, count + 1, dtype=dtype)
    array[0, 0] = 0
    expected = array.copy()
    for pixel, wanted in zip(array.reshape(-1, count + 1).tolist(), expected.reshape(-1, count + 1), strict=True):
        wanted[:count] = [min(round(c * top / max(pixel[-1], 1)), top) for c in pixel[:-1]]
    photometric = "minisblack" if count == 1 else "rgb"
    found = written(tmp_path, array, photometric=photometric, extrasamples=["assocalpha"]).pixels
    assert np.abs(found.astype(int) - expected).max() <= 1  # a half is rounded either way
    with pytest.raises(PidSamplerError, match="0 is white, multiplied by alpha"):
        written(tmp_path, array[:, :, :2], photometric="miniswhite", extrasamples=["assocalpha"])


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
@pytest.mark.parametrize("planes", [False, True])
def test_inks(tmp_path, dtype, planes):
    array = noise(8, 9, 5, dtype=dtype)
    eight = array if dtype == np.uint8 else (array >> 8).astype(np.uint8)
    wanted = np.asarray(Image.frombytes("CMYK", (9, 8), eight[:, :, :4].tobytes()).convert("RGB"))
    plain = written(tmp_path, array[:, :, :4], planes, photometric="separated").pixels
    assert np.array_equal(plain, wanted)
    both = written(tmp_path, array, planes, photometric="separated", extrasamples=["unassalpha"]).pixels
    assert np.array_equal(both, np.dstack([wanted, eight[:, :, 4]]))


@pytest.mark.parametrize(
    ("dtype", "named"),
    [
        (np.float16, "floating-point"),
        (np.float32, "floating-point"),
        (np.float64, "floating-point"),
        (np.int8, "signed"),
        (np.int16, "signed"),
        (np.int32, "signed"),
        (np.complex64, "complex"),
        (np.uint32, "32"),
    ],
)
@pytest.mark.parametrize("channels", [1, 3])
def test_other_samples_are_refused_for_what_they_are(tmp_path, dtype, named, channels):
    options = {"photometric": "rgb" if channels == 3 else "minisblack"}
    with pytest.raises(PidSamplerError, match=f"has .*{named}.*: convert it to 8 or 16 bits, gray or RGB"):
        written(tmp_path, np.zeros((4, 4, channels), dtype), **options)


def changed(tmp_path, array, tags, **options):
    """Write a picture by tifffile, then other values of its tags of one short or long number."""
    options.setdefault("photometric", "minisblack")
    tifffile.imwrite(tmp_path / "a.tif", array, metadata=None, **options)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        for tag, value in tags.items():
            file.pages[0].tags[tag].overwrite(value)
    return tmp_path / "a.tif"


@pytest.mark.parametrize(
    ("tags", "message"),
    [
        ({258: 12}, "samples of 12 bits"),
        ({258: 0}, "samples of 0 bits"),
        ({262: 3}, "1 x 16 bits a pixel, color space 3 and compression 1, which is not read"),
        ({262: 8}, "16 bits a pixel, color space 8"),
        ({262: 32803}, "camera's raw file"),
        ({259: 7}, "color space 1 and compression 7"),
        ({277: 40}, "40 samples a pixel, of which at most 16"),
        ({256: 0}, "does not say its size"),
        ({256: 90}, "is damaged: it ends within its pixels"),
        ({257: 90_000}, "does not say where all of its pixels are"),
        ({257: 900_000_000}, "at most 67108864 pixels"),
        ({278: 1}, "does not say where all of its pixels are"),
        ({278: 0}, "strips or tiles are 4x0"),
        ({273: 1 << 30}, "is damaged"),
    ],
    ids=str,
)
def test_refuses(tmp_path, tags, message):
    with pytest.raises(PidSamplerError, match=message):
        pictures.read(changed(tmp_path, np.zeros((4, 4), np.uint16), tags))


def test_a_volume_is_refused(tmp_path):
    """SGI's ImageDepth: one page of several slices."""
    tifffile.imwrite(tmp_path / "a.tif", noise(4, 16, 16), photometric="minisblack", volumetric=True, tile=(1, 16, 16))
    with pytest.raises(PidSamplerError, match="holds a volume of 4 slices: extract the one to enlarge"):
        pictures.read(tmp_path / "a.tif")


def test_refuses_what_pillow_does_not_know(tmp_path):
    path = changed(tmp_path, np.zeros((4, 4), np.uint8), {262: 9})
    with pytest.raises(PidSamplerError, match="has 1 x 8 bits a pixel, color space 9 and compression 1, which is not"):
        pictures.read(path)
    path = changed(tmp_path, np.zeros((3, 4, 4), np.uint8), {262: 8}, photometric="rgb", planarconfig="separate")
    with pytest.raises(PidSamplerError, match="has 3 x 8 bits a pixel in planes, color space 8"):
        pictures.read(path)


def test_refuses_what_is_packed_in_other_ways(tmp_path):
    packed = {"compression": "zlib", "predictor": True}
    with pytest.raises(PidSamplerError, match="packed with predictor 3"):
        pictures.read(changed(tmp_path, np.zeros((4, 4), np.uint16), {317: 3}, **packed))
    with pytest.raises(PidSamplerError, match="packed with predictor 2"):  # which libtiff knows only of the others
        pictures.read(changed(tmp_path, np.zeros((4, 4), np.uint16), {259: 32773}, **packed))
    for compression, dtype in ((34933, np.uint16), (50001, np.uint8)):  # PNG and WebP
        with pytest.raises(PidSamplerError, match=f"compression {compression}, which is not read: save it with LZW or"):
            pictures.read(changed(tmp_path, np.zeros((4, 4), dtype), {259: compression}))
    path = changed(tmp_path, noise(40, 40, dtype=np.uint16), {}, **packed)
    with tifffile.TiffFile(path) as file:
        start = file.pages[0].dataoffsets[0]
    path.write_bytes(path.read_bytes()[: start + 20] + bytes(9) + path.read_bytes()[start + 29 :])
    with pytest.raises(PidSamplerError, match="is damaged"):
        pictures.read(path)


def fill_order(path, order="<"):
    """Put FillOrder 2, which tifffile does not write, in the place of NewSubfileType 2."""
    data, subfile = path.read_bytes(), struct.pack(order + "HHII", 254, 4, 1, 2)
    assert data.count(subfile) == 1
    path.write_bytes(data.replace(subfile, struct.pack(order + "HHII", 266, 4, 1, 2)))


def test_bits_in_reverse(tmp_path):
    array = noise(5, 6, dtype=np.uint16)
    reverse = np.array([int(f"{n:08b}"[::-1], 2) for n in range(256)], np.uint8)
    path = changed(tmp_path, reverse[array.view(np.uint8)].view(np.uint16), {}, subfiletype=2)
    fill_order(path)
    assert np.array_equal(pictures.read(path).pixels[:, :, 0], array)


def packed_bits(array, bits, reverse=False):
    """Pack (H, W) of so many bits each: a line begins with a byte, its first sample in the highest bits of it."""
    fields = np.unpackbits(array[:, :, None], axis=2)[:, :, 8 - bits :]
    lines = np.packbits(fields.reshape(len(array), -1), axis=1)
    return (
        np.packbits(np.unpackbits(lines[:, :, None], axis=2), axis=2, bitorder="little")[:, :, 0] if reverse else lines
    )


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize(
    ("reverse", "options"), [(False, {"compression": "zlib"}), (True, {"byteorder": ">", "rowsperstrip": 3})]
)
def test_palettes_and_shades_of_few_bits(tmp_path, bits, reverse, options):
    """Color maps have 16 bits; some programs write 8 of them, and libtiff takes a map without any above 255 so."""
    array, top = noise(7, 13, dtype=np.uint8) >> (8 - bits), (1 << bits) - 1
    colors = noise(1 << bits, 3)
    colors[0] = 7  # one that is not black, for the maps of 16 bits
    for photometric, unit in ((0, 0), (1, 0), (3, 1), (3, 256), (3, 257)):
        extra = [(320, 3, 3 << bits, (colors.T.astype(int) * unit).ravel().tolist(), True)] * (unit > 0)
        tags = {256: 13, 258: bits, 262: photometric}
        stored = packed_bits(array, bits, reverse)
        path = changed(tmp_path, stored, tags, extratags=extra, subfiletype=2 * reverse, **options)
        if reverse:
            fill_order(path, options.get("byteorder", "<"))
        shades = array * (255 // top) if photometric == 1 else 255 - array * (255 // top)
        wanted = colors[array] if photometric == 3 else shades[:, :, None]
        assert np.array_equal(pictures.read(path).pixels, wanted), (photometric, unit)


def test_palettes_with_alpha(tmp_path):
    colors, array = noise(256, 3), noise(5, 6, 2)
    extra = [(320, 3, 768, (colors.T.astype(int) * 257).ravel().tolist(), True)]
    for meaning, wanted in ((2, np.dstack([colors[array[:, :, 0]], array[:, :, 1]])), (0, colors[array[:, :, 0]])):
        path = changed(tmp_path, array, {262: 3}, extrasamples=[meaning], planarconfig="contig", extratags=extra)
        assert np.array_equal(pictures.read(path).pixels, wanted)


@pytest.mark.parametrize("length", [767, 3, 0])
def test_palettes_that_end_early(tmp_path, length):
    extra = [(320, 3, length, [9] * length, True)] * (length > 0)
    with pytest.raises(PidSamplerError, match="is damaged: its palette is not whole"):
        pictures.read(changed(tmp_path, noise(5, 6), {262: 3}, extratags=extra))


@pytest.mark.parametrize(
    ("tags", "read"),
    [
        ([(530, 3, 2, (1, 1), True)], True),
        ([(530, 3, 2, (2, 1), True)], False),
        ([], False),  # that is (2, 2)
        ([(530, 3, 2, (1, 1), True), (532, 5, 6, (16, 1, 235, 1, 128, 1, 240, 1, 128, 1, 240, 1), True)], False),
        ([(530, 3, 2, (1, 1), True), (532, 5, 6, (0, 1, 255, 1, 128, 1, 255, 1, 128, 1, 255, 1), True)], True),
        ([(530, 3, 2, (1, 1), True), (529, 5, 3, (2126, 10000, 7152, 10000, 722, 10000), True)], False),
        ([(530, 3, 2, (1, 1), True), (529, 5, 3, (299, 1000, 587, 1000, 114, 1000), True)], True),
    ],
)
def test_luma_and_chroma_that_are_not_packed(tmp_path, tags, read):
    """Y, Cb, Cr of BT.601 in full range: 150 + 1.402*42, 150 - 0.344136*-38 - 0.714136*42 and 150 + 1.772*-38."""
    array = np.full((4, 6, 3), (150, 90, 170), np.uint8)
    path = changed(tmp_path, array, {262: 6}, photometric="rgb", extratags=tags)
    if read:
        assert np.abs(pictures.read(path).pixels - [209, 133, 83.0]).max() <= 1
    else:
        with pytest.raises(PidSamplerError, match="has YCbCr of a range, of weights or of a subsampling that is not"):
            pictures.read(path)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_orientation(orientation):
    """The first row and column of what is stored are on these sides of what is seen (TIFF 6.0, Orientation)."""
    stored = np.arange(6).reshape(2, 3, 1)
    row, column = (None, ("top", "left"), ("top", "right"), ("bottom", "right"), ("bottom", "left"), ("left", "top"),
                   ("right", "top"), ("right", "bottom"), ("left", "bottom"))[orientation]  # fmt: skip
    seen = upright(stored, orientation)[:, :, 0]
    sides = {"top": seen[0], "bottom": seen[-1], "left": seen[:, 0], "right": seen[:, -1]}
    assert sorted(sides[row]) == [0, 1, 2]
    assert sorted(sides[column]) == [0, 3]


@pytest.mark.parametrize("bigtiff", [False, True])
def test_profile_resolution_and_orientation(tmp_path, bigtiff):
    array = noise(4, 5, 3, dtype=np.uint16)
    extra = [(34675, 7, len(SRGB), SRGB, True), (274, 3, 1, 6, True)]
    picture = written(
        tmp_path, array, photometric="rgb", extratags=extra, resolution=(100, 50), resolutionunit=3, bigtiff=bigtiff
    )
    assert np.array_equal(picture.pixels, np.rot90(array, -1))
    assert picture.icc == SRGB
    assert picture.dpi == pytest.approx((127, 254))  # turned as the picture is


def pages(tmp_path, *subtypes):
    """Write pages of ever less width, of these kinds (NewSubfileType)."""
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for k, subtype in enumerate(subtypes):
            array = np.full((8, 16 >> k, 3), 40 * k, np.uint8)
            file.write(array, photometric="rgb", subfiletype=subtype, metadata=None)
    return tmp_path / "a.tif"


@pytest.mark.parametrize(
    ("subtypes", "taken"), [((0, 1), 0), ((0, 1, 1, 1), 0), ((1, 0), 1), ((1, 2, 1), 1), ((1,), 0)]
)
def test_reduced_copies_are_no_pages(tmp_path, subtypes, taken):
    found = pictures.read(pages(tmp_path, *subtypes)).pixels
    assert found.shape == (8, 16 >> taken, 3)
    assert (found == 40 * taken).all()


@pytest.mark.parametrize(
    ("subtypes", "message"),
    [
        ((0, 0), "holds 2 frames or pages: extract the one"),
        ((2, 2, 1), "holds 2 frames or pages"),
        ((1, 1), "only reduced copies of a picture, as a camera's raw file"),
    ],
)
def test_several_pages_are_refused(tmp_path, subtypes, message):
    with pytest.raises(PidSamplerError, match=message):
        pictures.read(pages(tmp_path, *subtypes))


def test_a_page_that_pillow_decodes_is_the_right_one(tmp_path):
    small, large = (Image.fromarray(noise(8, n, 3)).quantize(9) for n in (4, 8))
    small.save(tmp_path / "a.tif", save_all=True, append_images=[large], tiffinfo={254: 1})
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+") as file:
        file.pages[1].tags[254].overwrite(0)
    assert np.array_equal(pictures.read(tmp_path / "a.tif").pixels, np.asarray(large.convert("RGB")))


def test_raw_files_of_cameras_are_refused(tmp_path):
    tifffile.imwrite(
        tmp_path / "a.tif", noise(8, 8, 3), photometric="rgb", extratags=[(50706, 1, 4, (1, 4, 0, 0), True)]
    )
    with pytest.raises(PidSamplerError, match="camera's raw file: develop it to a PNG, JPEG or TIFF first"):
        pictures.read(tmp_path / "a.tif")


@pytest.mark.parametrize("mode", ["1", "P", "L", "CMYK", "LAB", "YCbCr"])
@pytest.mark.parametrize("compression", [None, "tiff_lzw", "packbits"])
def test_what_pillow_writes(tmp_path, mode, compression):
    image = Image.fromarray(noise(9, 11, 3))
    if mode == "LAB":
        lab = ImageCms.createProfile("LAB")
        image = ImageCms.profileToProfile(image, ImageCms.createProfile("sRGB"), lab, outputMode="LAB")
    image = image.convert(mode) if mode != "LAB" else image
    image.save(tmp_path / "a.tif", compression=compression)
    if mode == "LAB":  # which Pillow's own conversion does by a coarse table
        exact = ImageCms.Flags.NOOPTIMIZE
        image = ImageCms.profileToProfile(image, lab, ImageCms.createProfile("sRGB"), outputMode="RGB", flags=exact)
    expected = np.asarray(image.convert("L") if mode in ("1", "L") else image.convert("RGB"))
    picture = pictures.read(tmp_path / "a.tif")
    assert picture.dpi is None
    found = picture.pixels
    off = np.abs(found.astype(int) - expected.reshape(found.shape)).max()
    assert off <= (2 if mode in ("LAB", "YCbCr") else 0)  # libtiff and littleCMS round in their own ways


@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_jpeg_in_tiff(tmp_path, mode):
    image = Image.fromarray(np.full((16, 16, 3), (200, 100, 50), np.uint8)).convert(mode)
    image.save(tmp_path / "a.tif", compression="jpeg", quality=95)
    expected = np.asarray(image.convert("L" if mode == "L" else "RGB"), int)[0, 0]
    assert np.abs(pictures.read(tmp_path / "a.tif").pixels - expected).max() <= 4


@pytest.mark.parametrize(
    "data",
    [
        b"II*\0",
        b"II*\0\x08\0\0\0",
        b"II*\0\0\0\0\0",
        b"II*\0\x08\0\0\0\xff\xff" + bytes(40),
        b"II*\0\x08\0\0\0" + struct.pack("<HHHIII", 1, 256, 4, 1, 8, 8),  # the next directory is this one
        b"MM\0+\0\x08\0\0" + bytes(8),
    ],
)
def test_damaged_directories(tmp_path, data):
    (tmp_path / "a.tif").write_bytes(data)
    with pytest.raises(PidSamplerError, match=r"damaged|in a circle"):
        pictures.read(tmp_path / "a.tif")


def test_no_page_is_no_picture():
    with pytest.raises(PidSamplerError, match="it has no page"):
        picture_page([])
