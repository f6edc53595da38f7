"""The command that the page shows makes the page's picture."""

import shlex

import numpy as np
import pytest
from PIL import Image, ImageCms
from playground_page import drop, encoded, near, result, said

from pidsampler.cli import main

PIXELS = np.random.default_rng(2).integers(0, 256, (16, 24, 4), np.uint8)
RGB = Image.fromarray(PIXELS[..., :3])
SMOOTH = Image.fromarray(np.add.outer(np.arange(0, 128, 8), np.arange(24)).astype(np.uint8))  # as a photo is
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
FILES = {
    "plain.png": encoded(RGB),
    "plain.jpg": encoded(Image.merge("RGB", [SMOOTH, SMOOTH.rotate(180), SMOOTH]), "JPEG", quality=95),
    "progressive.jpg": encoded(Image.merge("RGB", [SMOOTH] * 3), "JPEG", progressive=True),
    "gray.png": encoded(SMOOTH),
    "gray.jpg": encoded(SMOOTH, "JPEG"),
    "cmyk.jpg": encoded(RGB.convert("CMYK"), "JPEG"),
    "alpha.png": encoded(Image.fromarray(PIXELS)),
    "opaque.png": encoded(RGB.convert("RGBA")),
    "key.png": encoded(RGB, transparency=tuple(PIXELS[0, 0, :3].tolist())),
    "palette.png": encoded(RGB.quantize(16)),
    "16-bit.png": encoded(Image.fromarray(np.arange(0, 384 * 170, 170, dtype=np.uint16).reshape(16, 24))),
    "profile.png": encoded(RGB, icc_profile=PROFILE),
    "profile.jpg": encoded(RGB, "JPEG", icc_profile=PROFILE),
    "some.webp": encoded(RGB, "WEBP", lossless=True),
    "large.png": encoded(RGB.resize((192, 128))),
}


@pytest.mark.parametrize("name", FILES)
def test_the_command_makes_the_pages_picture(visit, name, tmp_path, monkeypatch):
    page = visit()
    said(page, "The result will be")
    drop(page, FILES[name], name)
    said(page, f"{name} at ")
    page.locator("#first [name=steps]").select_option("1")
    page.locator("#run").click()
    result(page)
    *notes, command = page.locator("#command").text_content().splitlines()
    plain = name in ("plain.png", "plain.jpg", "progressive.jpg")
    assert notes == ([] if plain else ['# input.png is what "Save input" writes'])
    program, *arguments = shlex.split(command)
    assert (program, arguments[:2]) == ("pidsampler", ["upscale", name if plain else "input.png"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(FILES[name])
    with page.expect_download() as download:
        page.locator("#save-input").click()
    download.value.save_as(tmp_path / download.value.suggested_filename)
    assert main(arguments) == 0
    with Image.open("out.png") as made:
        assert made.convert("RGBA").getextrema()[3] == (255, 255)
        assert near(page, np.asarray(made.convert("RGB"), int))
