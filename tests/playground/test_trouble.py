"""What the page refuses: the reason is told, and the page goes on."""

import pytest
from playground_page import LONG, SMALL, drop, result, said

NO_PICTURE = "notes.txt is no picture that this browser reads: choose a PNG, JPEG or WebP file."


def test_a_file_that_is_no_picture_is_told_and_the_page_goes_on(visit):
    page = visit()
    said(page, "The result will be")
    drop(page, b"no picture", "notes.txt")
    assert result(page, "failed")["message"] == NO_PICTURE
    said(page, NO_PICTURE)
    page.locator("#examples").select_option("cat.jpg")
    said(page, "cat.jpg at ")


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"scheduler": "eular"}, "scheduler=eular cannot be had here: choose flow-sde, "),
        (
            {"scheduler": "restart", "list": "karras", "steps": 1},
            "steps=1 cannot be had here: choose 3, 4, 5, 6, 7, 8.",
        ),
        ({"steps": 9}, "steps=9 cannot be had here: choose 1, 2, 3, 4."),
        ({"steps2": "four"}, "steps2=four cannot be had here: choose "),
        ({"scheduler": "flow-ode", "eta": 2}, "eta=2 cannot be had with flow-ode: leave it out."),
        (
            {"model": "tiny-teacher", "scheduler": "learnt-4", "steps": 7, "list": "zzz"},
            "list=zzz cannot be had with learnt-4: leave it out.",
        ),
        ({"eta": ""}, "eta= cannot be had here: choose 0, 0.5, 1."),
        ({"model": "large"}, "model=large cannot be had here: choose tiny, tiny-teacher."),
        ({"seed": "-1"}, "The seed is -1: enter a whole number, 0 to 2^64 - 1."),
        ({"seed": 2**64}, f"The seed is {2**64}: enter a whole number, 0 to 2^64 - 1."),
        ({"image": "//example.org/photo.png"}, "//example.org/photo.png is on another server: drop the file instead."),
        ({"image": "style.css"}, "style.css is no picture that this browser reads: "),
        ({"image": ""}, "image= names no picture: name an example, or a path on this server."),
        ({"image": "examples/"}, "examples/ is no picture that this browser reads: "),
    ],
)
def test_an_address_that_asks_for_what_is_not_there_is_told_and_there_is_a_photo(visit, asked, words):
    page = visit(**asked)
    assert result(page, "failed")["message"].startswith(words)
    said(page, words)
    said(page, "chameleon.jpg at 128x128.")
    page.locator("#side").select_option("64")
    said(page, "chameleon.jpg at 64x64.")
    assert page.locator("#trouble").text_content() == ""


def test_a_bad_setting_leaves_the_photo_that_was_asked_for(visit):
    page = visit(**{**SMALL, "steps": 9})
    said(page, "small.png at 29x22.")
    page.locator("#run").click()
    assert result(page, "done")["image"] == "small.png"


@pytest.mark.parametrize("eta", ["0.50", ".5"])
def test_a_number_may_be_written_in_another_way(visit, eta):
    assert result(visit(**SMALL, eta=eta))["samplers"][0]["spec"] == "flow-sde(eta=0.5)@uniform:2"


def test_what_is_refused_ends_no_run_and_replaces_no_result(visit):
    page = visit(**LONG)
    page.locator(".strip button").first.wait_for()
    drop(page, b"no picture", "notes.txt")
    said(page, NO_PICTURE)
    assert page.evaluate("() => window.result") is None
    found = result(page)
    assert found["image"] == "half.png"
    said(page, NO_PICTURE)
    said(page, found["message"])
    drop(page, b"no picture", "more.txt")
    said(page, "more.txt is no picture")
    page.locator("#seed").fill("-1")
    page.locator("#run").click()
    said(page, "The seed is -1")
    assert result(page) == found
    assert page.locator("#save").is_visible()


def test_tables_that_are_missing_are_told(visit, serve):
    lost = "Failed to load resource: the server responded with a status of 404 (Not Found)"
    page = visit(serve(missing="/tables.json"), expected=lost)
    words = "tables.json is not on this server: make the folder by docs/playground/build.py, and serve all of it."
    assert result(page, "failed")["message"] == words
    said(page, words)
