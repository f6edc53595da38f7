"""The real page in Chromium, from servers of files on this machine."""

import os

import numpy as np
import pytest
from PIL import Image
from playground_page import LONG, SMALL, drop, encoded, near, picture, result, said, upscaled

from pidsampler.upscale.memory import Tiling

CANVAS = """(side) => {
    const canvas = document.querySelector(`.frame > canvas.${side}`);
    const pen = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d");
    pen.drawImage(canvas, 0, 0);
    return [...pen.getImageData(0, 0, canvas.width, canvas.height).data].join();
}"""


@pytest.mark.parametrize(
    ("image", "sampler"),
    [("photo.png", "flow-sde(eta=1)@pid:4"), ("half.png", "heun@karras:4"), ("half.png", "dpmpp-2m@uniform:4")],
)
def test_an_address_starts_a_run_whose_picture_is_the_command_lines(visit, site, image, sampler):
    name, _, times = sampler.partition("@")
    times, _, steps = times.partition(":")
    page = visit(scheduler=name.split("(")[0], list=times, steps=steps, seed=2**64 - 5, image=image)
    found = result(page)
    assert found["samplers"][0]["spec"] == sampler
    assert (found["image"], found["seed"], found["model"]) == (image, str(2**64 - 5), "tiny")
    assert found["threads"] == min(4, os.cpu_count())
    assert near(page, upscaled(site / image, sampler, seed=2**64 - 5))
    command = page.locator("#command").text_content()
    assert command == (f"pidsampler upscale {image} --model tiny --scheduler '{sampler}' --seed {2**64 - 5} -o out.png")


def test_a_learnt_table(visit, site):
    page = visit(image="small.png", model="tiny-teacher", scheduler="learnt-4", seed=3)
    assert result(page)["samplers"][0]["spec"] == "@learnt-4"
    assert near(page, upscaled(site / "small.png", "@learnt-4", model="tiny-teacher", seed=3))
    assert page.locator("#first select:disabled").count() == 3
    page.locator("#model").select_option("tiny")
    assert page.locator("#first [name=scheduler]").input_value() == "flow-sde"
    assert page.locator("#first select:disabled").count() == 0


def test_what_is_larger_than_a_tile_is_made_in_tiles(visit, site):
    page = visit(image="wide.png", side=256, scheduler="heun", list="karras", steps=1)
    result(page)
    assert picture(page).shape == (108, 576, 3)
    assert near(page, upscaled(site / "wide.png", "heun@karras:1", tiling=Tiling(512), seed=0))


@pytest.mark.parametrize("how", ["button", "Escape"])
def test_a_run_is_cancelled_and_another_one_started(visit, how):
    page = visit(**LONG)
    page.locator(".strip button").first.wait_for()
    assert page.workers
    assert page.evaluate("() => window.result") is None
    assert page.locator("#bar").is_visible()
    page.keyboard.press("Escape") if how == "Escape" else page.locator("#cancel").click()
    assert result(page, "cancelled")["message"] == "The run was cancelled."
    said(page, "Cancelled.")
    assert page.locator("#bar").is_hidden()
    steps = page.locator(".strip button").count()
    page.locator("#first [name=steps]").select_option("1")
    assert page.locator(".strip button").count() == steps < 8
    page.locator("#run").click()
    assert [sampler["calls"] for sampler in result(page)["samplers"]] == [1]


def test_two_samplers_are_compared_with_a_divider(visit, site):
    page = visit(**SMALL, scheduler="flow-sde", eta=0.5, scheduler2="heun", list2="uniform", steps2=2, seed=1)
    specs = [sampler["spec"] for sampler in result(page)["samplers"]]
    assert specs == ["flow-sde(eta=0.5)@uniform:2", "heun@uniform:2"]
    for i, spec in enumerate(specs):
        assert near(page, upscaled(site / "small.png", spec, seed=1), i)
    assert page.locator(".label").all_text_contents() == specs
    divider = page.locator(".frame input")
    divider.focus()
    for _ in range(20):
        page.keyboard.press("ArrowRight")
    assert (
        page.locator("canvas.right").first.evaluate("(it) => getComputedStyle(it).clipPath") == "inset(0px 0px 0px 60%)"
    )
    box = divider.bounding_box()
    page.mouse.click(box["x"] + 0.25 * box["width"], box["y"] + 0.5 * box["height"])
    assert abs(float(divider.input_value()) - 25) <= 1


def test_each_step_can_be_looked_at(visit):
    page = visit(**SMALL, scheduler="heun")
    result(page)
    steps = page.locator(".strip button")
    assert [text.strip() for text in steps.all_text_contents()] == ["1", "2", "3", "result"]
    assert steps.first.get_attribute("title") == "x0 of call 1 at t = 1.00"
    last = page.evaluate(CANVAS, "right")
    steps.first.focus()
    page.keyboard.press("Enter")
    assert page.evaluate(CANVAS, "right") != last
    assert steps.first.get_attribute("aria-pressed") == "true"
    assert page.locator(".label.right").text_content() == "heun@uniform:2, call 1"
    steps.last.click()
    assert page.evaluate(CANVAS, "right") == last


def test_the_keyboard_is_enough(visit):
    page = visit()
    said(page, "The result will be")
    page.locator("#side").focus()
    page.keyboard.press("ArrowUp")
    assert page.locator("#side").input_value() == "64"
    said(page, "64x64")
    focused = []
    while not focused or focused[-1] != "run":
        page.keyboard.press("Tab")
        focused.append(page.evaluate("() => document.activeElement.id || document.activeElement.name"))
        assert len(focused) < 20, focused
    assert focused == ["model", "scheduler", "list", "steps", "eta", "both", "seed", "run"]
    page.keyboard.press("Shift+Tab")
    page.keyboard.type("7")
    page.keyboard.press("Enter")
    assert result(page)["seed"] == "7"
    assert "seed=7" in page.url


def test_a_photo_is_dropped(visit):
    page = visit()
    said(page, "The result will be")
    image = Image.fromarray(np.random.default_rng(1).integers(0, 256, (16, 24, 3), np.uint8))
    assert drop(page, encoded(image), "it's mine.png") == [True, False]
    said(page, "it's mine.png at 24x16. The result will be 96x64.")
    page.locator("#first [name=steps]").select_option("1")
    page.locator("#run").click()
    assert result(page)["image"] == "it's mine.png"
    assert page.locator("#command").text_content().startswith("pidsampler upscale './it'\\''s mine.png' --model tiny ")
    assert near(page, upscaled(encoded(image), "flow-sde@pid:1", seed=0))
    assert "image=" not in page.url
    with page.expect_download() as download:
        page.locator("#save").click()
    assert np.array_equal(np.asarray(Image.open(download.value.path()))[..., :3], picture(page))
    with page.expect_download() as download:
        page.locator("#save-input").click()
    assert np.array_equal(np.asarray(Image.open(download.value.path()))[..., :3], np.asarray(image))


def test_a_large_photo_is_reduced(visit, repository):
    page = visit()
    said(page, "The result will be")
    page.locator("#file").set_input_files(repository / "examples" / "road.jpg")
    said(page, "road.jpg at 128x96. The result will be 512x384.")
    assert page.locator("#examples").input_value() == ""


def test_nothing_is_wider_than_the_window(visit):
    page = visit(**SMALL, scheduler="dpmpp-2m-sde", scheduler2="restart", steps2=8)
    result(page)
    page.locator("summary").click()
    inside = "(all) => all.every((it) => it.closest('.strip') || it.getBoundingClientRect().right <= innerWidth)"
    for width in (320, 390, 1440):
        page.set_viewport_size({"width": width, "height": 800})
        assert page.evaluate("() => document.documentElement.scrollWidth") == width
        assert page.locator("body *:visible").evaluate_all(inside)


def test_light_and_dark(visit):
    grounds = []
    for scheme in ("light", "dark"):
        page = visit(options={"color_scheme": scheme})
        grounds.append(page.evaluate("() => getComputedStyle(document.documentElement).backgroundColor"))
    light, dark = (sum(map(int, ground[4:-1].split(","))) for ground in grounds)
    assert light > 3 * 200 > 3 * 60 > dark


def test_a_plain_server_is_enough_for_several_threads(visit, serve):
    page = visit(serve(isolating=False), **SMALL)
    assert result(page)["threads"] == min(4, os.cpu_count())
    assert page.evaluate("() => crossOriginIsolated")


def test_where_no_isolation_can_be_had_one_thread_computes(visit, serve):
    page = visit(serve(isolating=False), init="delete Navigator.prototype.serviceWorker", **SMALL)
    assert result(page)["threads"] == 1
