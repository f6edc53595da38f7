"""The command that the page shows makes the page's picture."""

import shlex

import numpy as np
import pytest
from paths import REPOSITORY
from PIL import Image, ImageCms
from playground_page import drop, encoded, near, result, said

from pidsampler.cli import main

PIXELS = np.random.default_rng(2).integers(0, 256, (16, 24, 4), np.uint8)
PHOTO = Image.open(REPOSITORY / "examples" / "chameleon.jpg").convert("RGB").crop((100, 100, 141, 130))
RGB = Image.fromarray(PIXELS[..., :3])
SMOOTH = Image.fromarray(np.add.outer(np.arange(0, 128, 8), np.arange(24)).astype(np.uint8))
PROFILE = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
PLAIN = {
    "plain.png": encoded(RGB),
    "plain.jpg": encoded(PHOTO, "JPEG"),
    "progressive.jpg": encoded(PHOTO, "JPEG", progressive=True, subsampling=0),
}
OTHERS = {
    "gray.png": encoded(SMOOTH),
    "alpha.png": encoded(Image.fromarray(PIXELS)),
    "16-bit.png": encoded(Image.fromarray(np.arange(0, 384 * 170, 170, dtype=np.uint16).reshape(16, 24))),
    "large.png": encoded(RGB.resize((192, 128))),
}
RARE = {
    "gray.jpg": encoded(SMOOTH, "JPEG"),
    "cmyk.jpg": encoded(RGB.convert("CMYK"), "JPEG"),
    "key.png": encoded(RGB, transparency=tuple(PIXELS[0, 0, :3].tolist())),
    "palette.png": encoded(RGB.quantize(16)),
    "profile.png": encoded(RGB, icc_profile=PROFILE),
    "profile.jpg": encoded(RGB, "JPEG", icc_profile=PROFILE),
    "some.webp": encoded(RGB, "WEBP", lossless=True),
}


def command(page, name, content):
    """Drop a file; return the command and what is said about it."""
    drop(page, content, name)
    said(page, f"{name} at ")
    *notes, line = page.locator("#command").text_content().splitlines()
    return shlex.split(line), notes


@pytest.mark.parametrize("name", [*PLAIN, *OTHERS])
def test_the_command_makes_the_pages_picture(visit, name, tmp_path, monkeypatch):
    page = visit()
    said(page, "The result will be")
    page.locator("#first [name=steps]").select_option("1")
    content = {**PLAIN, **OTHERS}[name]
    (program, *arguments), notes = command(page, name, content)
    page.locator("#run").click()
    result(page)
    assert notes == ([] if name in PLAIN else ['# input.png is what "Save input" writes'])
    assert (program, arguments[:2]) == ("pidsampler", ["upscale", name if name in PLAIN else "input.png"])
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).write_bytes(content)
    with page.expect_download() as download:
        page.locator("#save-input").click()
    download.value.save_as(tmp_path / download.value.suggested_filename)
    assert main(arguments) == 0
    with Image.open("out.png") as made:
        assert made.convert("RGBA").getextrema()[3] == (255, 255)
        assert near(page, np.asarray(made.convert("RGB"), int))


def test_of_what_the_command_line_takes_in_another_way_the_command_names_the_saved_input(visit):
    page = visit()
    said(page, "The result will be")
    for name, content in RARE.items():
        line, notes = command(page, name, content)
        assert (line[2], len(notes)) == ("input.png", 1), name
