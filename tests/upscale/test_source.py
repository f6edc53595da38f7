"""What may be given as an image: arrays, floats, PIL images, and files told by what they hold."""

import io
import struct

import ml_dtypes
import numpy as np
import pytest
import tifffile
from encoded import encoded, noise, png16
from PIL import Image, ImageCms

from pidsampler import PidSamplerError, Upscaler
from pidsampler.io import profiles
from pidsampler.io.png import chunk
from pidsampler.upscale.batch import File, Settings, upscale_files
from pidsampler.upscale.source import Source

RGB = noise(12, 14, 3)
SRGB = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()


@pytest.fixture(name="gaussian", scope="module")
def _gaussian():
    return Upscaler.load("gaussian", "cpu")


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.longdouble])
@pytest.mark.parametrize("channels", [0, 1, 2, 3, 4])
def test_floats_of_0_to_1_are_a_picture(dtype, channels):
    array = np.maximum(noise(12, 14, max(channels, 1)), 1)  # nothing is hidden
    array = array if channels else array[:, :, 0]
    floats = array.astype(dtype) / dtype(255)
    floats[0, 0] = 1.0 + 1e-7 if dtype == np.float64 else 1.0  # rounding goes beyond
    array[0, 0] = 255
    found, wanted = Source.of(floats), Source.of(array)
    assert {"width": 14, "height": 12}.items() < found.described.items()
    assert found.channels == wanted.channels
    assert found.rgb.dtype == np.uint8
    assert np.array_equal(found.rgb, wanted.rgb)


def test_floats_give_the_result_of_their_eight_bits(gaussian):
    assert np.array_equal(gaussian(RGB / 255.0).array, gaussian(RGB).array)


def test_floats_between_eight_bits_are_kept_to_sixteen():
    array = noise(12, 14, 3, dtype=np.uint16)
    assert np.array_equal(Source.of(array / 65535.0).rgb, array)
    assert Source.of(np.array([[0.25, 0.5]])).rgb[0, :, 0].tolist() == [16384, 32768]


@pytest.mark.parametrize(
    "latent",
    [
        RNG.standard_normal(shape)
        for RNG in [np.random.default_rng(0)]
        for shape in [(4, 2, 2), (16, 4, 4), (16, 64, 3), (4, 8, 8), (1, 4, 2, 2)]
    ]
    + [np.zeros((4, 2, 2)), np.random.default_rng(0).random((1, 16, 4, 4)), np.random.default_rng(0).random((4, 8, 5))],
    ids=lambda latent: str(latent.shape),
)
def test_latents_stay_latents(latent):
    found = Source.of(latent)
    assert found.latent.shape == (1, *latent.shape[-3:])


@pytest.mark.parametrize(
    ("image", "message"),
    [
        (
            np.full((16, 4, 4), 0.5),
            r"\(16, 4, 4\) in 0..1 may be a picture of 4x16 or a latent of 16 channels: pass the",
        ),
        (np.eye(4)[:, :, None].repeat(3, 2), r"pass the picture as uint8, or the latent as \(1, 4, 4, 3\)"),
        (RGB[:, :, 0] * 1.0, r"float64 of shape \(12, 14\) with values in .*\.\..*, expected 0\.\.1: divide"),
        (RGB[:, :, 0] / 127.5 - 1.0, "expected 0..1"),
        (np.full((4, 4), np.nan), "with values in nan..nan, expected 0..1"),
    ],
)
def test_floats_that_may_be_both_or_neither_are_refused(image, message):
    with pytest.raises(PidSamplerError, match=message):
        Source.of(image)


def test_masked_arrays_are_refused_where_something_is_masked():
    with pytest.raises(PidSamplerError, match=r"masked array: pass its mask as alpha, or image\.filled\(0\)"):
        Source.of(np.ma.masked_array(RGB, RGB > 9))
    assert np.array_equal(Source.of(np.ma.masked_array(RGB)).rgb, RGB)


@pytest.mark.parametrize("image", [RGB * 1.0, RGB / 127.5 - 1.0, np.where(RGB > 9, RGB / 255, np.nan)])
def test_floats_beyond_0_to_1_say_how_a_picture_is_given(gaussian, image):
    with pytest.raises(PidSamplerError, match=r"floats of a picture are \(height, width, 1\.\.4\) in 0\.\.1"):
        gaussian(image)


@pytest.mark.parametrize("dtype", [">u2", "<u2", ">f4", ml_dtypes.bfloat16])
def test_the_order_of_bytes_and_the_type_of_floats_do_not_matter(dtype):
    whole = np.dtype(dtype).kind == "u"
    given = (RGB.astype(np.uint16) * 257 if whole else np.round(RGB / 255)).astype(dtype)
    assert np.array_equal(Source.of(given).rgb, given.astype(np.uint16) if whole else given.astype(np.uint8) * 255)
    latent = np.linspace(-3, 3, 4 * 8 * 8).reshape(4, 8, 8).astype(np.float32 if whole else dtype)
    assert np.array_equal(Source.of(latent).latent[0], latent.astype(np.float32))


class Nothing:
    def __array__(self, *_, **__):
        raise RuntimeError("it needs\x1b a gradient")


@pytest.mark.parametrize("given", [[[1], [1, 2]], Nothing()], ids=["ragged", "fails"])
def test_what_is_no_array_is_refused(gaussian, given):
    with pytest.raises(PidSamplerError, match=r"image of type \w+ cannot be made an array: "):
        gaussian(given)
    with pytest.raises(PidSamplerError, match=r"caption of type \w+ cannot be made an array: "):
        gaussian(RGB, caption=given)


def converted(mode):
    image = Image.fromarray(RGB)
    if mode == "LAB":
        return ImageCms.profileToProfile(
            image, ImageCms.createProfile("sRGB"), ImageCms.createProfile("LAB"), outputMode="LAB"
        )
    if mode.startswith("I;16"):
        return Image.frombytes(mode, (14, 12), (noise(12, 14).astype(np.uint16) * 257).tobytes())
    through = {"La": "LA", "RGBa": "RGBA", "PA": "P"}.get(mode)
    return (image if through is None else image.convert(through)).convert(mode)


MODES = ["1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "I;16", "I;16B"]


@pytest.mark.parametrize("mode", MODES)
def test_pil_images_of_any_mode(mode):
    image = converted(mode)
    source = Source.of(image)
    alpha = "a" in mode.lower()[1:] and mode not in ("LAB",)
    gray = mode[0] in "1LI" and mode != "LAB"
    assert source.channels == (1 if gray else 3) + alpha
    assert source.alpha is None or (source.alpha == 255).all()
    if mode.startswith("I;16"):
        array = np.frombuffer(image.tobytes(), "<u2" if mode == "I;16" else ">u2").reshape(12, 14, 1)
        assert np.array_equal(source.rgb, np.broadcast_to(array, (12, 14, 3)))
    else:
        seen = image if mode not in ("La", "RGBa", "PA") else image.convert("LA" if mode == "La" else "RGBA")
        wanted = lab_shown(np.asarray(image)) if mode == "LAB" else np.asarray(seen.convert("RGB"))
        assert np.abs(source.rgb.astype(int) - wanted).max() <= 2


def lab_shown(numbers):
    """CIE L*a*b* of 8 bits and D50 (ICC.1:2022, section 10.9), adapted to D65 by Bradford, as sRGB (IEC 61966-2-1)."""
    y = (numbers[:, :, 0] / 2.55 + 16.0) / 116.0
    f = np.stack([y + numbers[:, :, 1].astype(np.int8) / 500.0, y, y - numbers[:, :, 2].astype(np.int8) / 200.0])
    x, y, z = (
        np.where(f > 6 / 29, f**3, 3 * (6 / 29) ** 2 * (f - 4 / 29)) * np.array([0.9642, 1.0, 0.8249])[:, None, None]
    )
    linear = np.stack(
        [
            3.1341 * x - 1.6173 * y - 0.4906 * z,
            -0.9788 * x + 1.9161 * y + 0.0335 * z,
            0.0719 * x - 0.2290 * y + 1.4052 * z,
        ],
        axis=2,
    ).clip(0.0, 1.0)
    return 255.0 * np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def lazy(data):
    return Image.open(io.BytesIO(data))


def test_a_pil_image_that_is_not_decoded_yet_is_its_file(tmp_path):
    """Pillow keeps 8 of 16 bits, drops cICP, and reads planes and white that is 0 wrongly."""
    deep = noise(5, 4, 4, dtype=np.uint16) | 1
    assert np.array_equal(Source.of(lazy(png16(deep))).rgb, deep[:, :, :3])
    assert Source.of(lazy(with_cicp(bytes([9, 16, 0, 1])))).cicp == bytes([9, 16, 0, 1])
    for options in ({"photometric": "rgb", "planarconfig": "separate"}, {"photometric": "miniswhite"}):
        stored = np.moveaxis(deep[:, :, :3], 2, 0) if "planarconfig" in options else deep[:, :, 0]
        tifffile.imwrite(tmp_path / "a.tif", stored, metadata=None, **options)
        wanted = deep[:, :, :3] if "planarconfig" in options else np.repeat(65535 - deep[:, :, :1], 3, 2)
        with Image.open(tmp_path / "a.tif") as image:
            assert np.array_equal(Source.of(image).rgb, wanted)
            assert np.asarray(image).shape[:2] == (5, 4)  # it can still be decoded


def test_a_pil_image_is_the_page_and_the_pixels_that_it_stands_at(tmp_path):
    images = [Image.fromarray(noise(5, 4, 3)) for _ in range(3)]
    images[0].save(tmp_path / "a.tif", save_all=True, append_images=images[1:])
    with Image.open(tmp_path / "a.tif") as image:
        for k in (2, 0, 1):
            image.seek(k)
            assert np.array_equal(Source.of(image).rgb, np.asarray(images[k]))
        image.load()
        image.putpixel((0, 0), (1, 2, 3))
        assert Source.of(image).rgb[0, 0].tolist() == [1, 2, 3]
        assert Source.of(image).dpi is None  # Pillow says 1


def test_gamma_of_a_png_stays_with_a_pil_image():
    array = noise(4, 4, 3)
    data = encoded("PNG", Image.fromarray(array))
    at = data.index(b"IDAT") - 4
    linear, srgb = chunk(b"gAMA", struct.pack(">I", 100000)), chunk(b"sRGB", b"\0")
    image = lazy(data[:at] + linear + data[at:])
    wanted = Source.of(image).icc
    assert wanted == profiles.of_gamma(1.0, None, gray=False) is not None
    assert Source.of(image.convert("RGB")).icc == wanted
    assert Source.of(lazy(data[:at] + srgb + linear + data[at:]).convert("RGB")).icc is None
    image.info["gamma"] = "strange"
    assert Source.of(image.convert("RGB")).icc is None


def test_a_senseless_resolution_of_a_turned_image_is_dropped():
    exif = Image.Exif()
    exif[274] = 6
    for dpi in (300, "x", (72,)):
        image = Image.fromarray(RGB)
        image.info.update(exif=exif.tobytes(), dpi=dpi)
        source = Source.of(image)
        assert np.array_equal(source.rgb, np.rot90(RGB, -1))
        assert source.dpi is None


def test_a_profile_for_rgb_stays_with_luma_and_chroma():
    image = Image.fromarray(RGB).convert("YCbCr")
    image.info["icc_profile"] = SRGB
    assert Source.of(image).icc == SRGB


@pytest.mark.parametrize("mode", ["I", "F"])
def test_pil_images_whose_white_is_unknown_are_refused(mode):
    with pytest.raises(
        PidSamplerError, match=f"the image has pixels of type '{mode}', which does not say what is white: convert"
    ):
        Source.of(Image.fromarray(RGB).convert(mode))


def test_a_pil_image_is_turned_and_keeps_its_profile_and_its_key(tmp_path):
    exif = Image.Exif()
    exif[274] = 6
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif, icc_profile=SRGB, dpi=(300, 300))
    with Image.open(tmp_path / "a.png") as image:
        found, wanted = Source.of(image), Source.of(tmp_path / "a.png")
    assert np.array_equal(found.rgb, np.rot90(RGB, -1))
    assert (found.icc, found.dpi) == (wanted.icc, wanted.dpi) == (SRGB, pytest.approx((300, 300), abs=0.1))
    for mode, key in (("L", 7), ("RGB", (7, 8, 9)), ("P", 0)):
        image = Image.new(mode, (4, 4), key)
        image.putpixel((1, 1), 0 if mode == "L" else 1 if mode == "P" else (7, 8, 0))
        image.info["transparency"] = key
        assert (Source.of(image).alpha == np.where(np.arange(16) == 5, 255, 0).reshape(4, 4)).all()


def test_a_pil_image_that_is_cut_off_is_an_error():
    with pytest.raises(PidSamplerError, match=r"the image is damaged: .*truncated"):
        Source.of(Image.open(io.BytesIO(encoded("PNG")[:3000])))


def test_a_file_is_told_by_what_it_holds(tmp_path):
    (tmp_path / "picture.npy").write_bytes(encoded("PNG", Image.fromarray(RGB)))
    assert np.array_equal(Source.of(tmp_path / "picture.npy").rgb, RGB)
    np.save(tmp_path / "latent.npy", np.zeros((4, 2, 2), np.float32))
    assert Source.of(tmp_path / "latent.npy").latent.shape == (1, 4, 2, 2)
    (tmp_path / "latent.npy").rename(tmp_path / "latent.png")
    assert Source.of(tmp_path / "latent.png").latent.shape == (1, 4, 2, 2)


def with_cicp(cicp):
    data = encoded("PNG", Image.fromarray(RGB))
    at = data.index(b"IDAT") - 4
    return data[:at] + chunk(b"cICP", cicp) + data[at:]


def test_code_points_go_into_the_result_and_pq_into_png_only(gaussian, tmp_path):
    (tmp_path / "in.png").write_bytes(with_cicp(bytes([9, 16, 0, 1])))
    result = gaussian(tmp_path / "in.png")
    assert np.array_equal(result.array, gaussian(RGB).array)
    result.save(tmp_path / "out.png")
    assert chunk(b"cICP", bytes([9, 16, 0, 1])) in (tmp_path / "out.png").read_bytes()
    calls = []
    files = [File(tmp_path / "in.png", tmp_path / "out.jpg")]
    outcomes = upscale_files(gaussian, files, settings=Settings(), progress=lambda *_: calls.append(1))
    (outcome,) = outcomes
    assert "named by PNG's cICP" in outcome.error
    assert not calls  # before any work


def test_hidden_colors_do_not_reach_the_network(gaussian):
    """The result is that of the same picture with other colors under alpha 0; what is visible is as it was."""
    alpha = np.zeros((12, 14), np.uint8)
    alpha[3:9, 3:9] = 200
    other = np.where(alpha[:, :, None] > 0, RGB, noise(12, 14, 3))
    found = [gaussian(np.dstack([rgb, alpha]), seed=2).array for rgb in (RGB, other)]
    assert np.array_equal(*found)
    assert np.array_equal(found[0][..., 3], gaussian(np.dstack([RGB, alpha])).array[..., 3])
    source = Source.of(np.dstack([RGB, alpha]))
    assert np.array_equal(source.rgb[3:9, 3:9], RGB[3:9, 3:9])
    assert np.array_equal(Source.of(np.dstack([RGB, np.maximum(alpha, 1)])).rgb, RGB)
