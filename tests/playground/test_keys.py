"""The keys of the page: what works from where."""

import pytest
from playground_page import SMALL, result, said

FOCUS = "(kind) => { document.activeElement.blur(); document.querySelector(kind).focus(); }"


def divider(page):
    return float(page.locator(".frame input").input_value())


@pytest.mark.parametrize("kind", ["body", "#model", "#both", "#seed"])
def test_enter_runs(visit, kind):
    page = visit()
    said(page, "The result will be")
    page.locator("#first [name=steps]").select_option("1")
    page.locator("#side").select_option("64")
    said(page, "64x64")
    page.evaluate(FOCUS, kind)
    page.keyboard.press("Enter")
    assert result(page)["samplers"][0]["calls"] == 1
    assert not page.locator("#both").is_checked()


def test_enter_on_the_divider_runs_again_and_on_a_button_does_what_the_button_does(visit):
    page = visit(**SMALL)
    result(page)
    page.locator("#seed").fill("7")
    for kind, focused in (("summary", "0"), (".strip button", "0"), (".frame input", "7")):
        page.evaluate(FOCUS, kind)
        page.keyboard.press("Enter")
        assert result(page)["seed"] == focused, kind
    assert page.locator("details").get_attribute("open") is not None


def test_arrows_move_the_divider(visit):
    page = visit()
    said(page, "The result will be")
    page.keyboard.press("ArrowRight")
    assert divider(page) == 50  # there is nothing to compare yet
    page = visit(**SMALL)
    result(page)
    for kind in ("body", "#run", ".strip button", "#both", ".frame input"):
        before = divider(page)
        page.evaluate(FOCUS, kind)
        for key in ("ArrowRight", "ArrowRight", "ArrowLeft"):
            page.keyboard.press(key)
        assert divider(page) == before + 0.5, kind
    shown = page.locator("canvas.right").first.evaluate("(it) => getComputedStyle(it).clipPath")
    assert shown == f"inset(0px 0px 0px {divider(page):g}%)"


@pytest.mark.parametrize("kind", ["#seed", "#model"])
def test_arrows_stay_with_a_field_that_uses_them(visit, kind):
    page = visit(**SMALL)
    result(page)
    page.evaluate(FOCUS, kind)
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Alt+ArrowRight")
    assert divider(page) == 50
