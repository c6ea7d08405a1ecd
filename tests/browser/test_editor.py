"""The editor: what is marked is what is painted anew, and all else keeps its bytes."""

import pytest

pytestmark = pytest.mark.browser


def test_what_is_drawn_is_painted_anew_and_the_rest_keeps_its_pixels(studio, visit):
    page = visit(studio)
    page.get_by_label("Prompt", exact=True).fill("a red car")
    page.locator("#count").select_option("1")
    page.get_by_role("button", name="Paint", exact=True).click()
    page.get_by_role("button", name="Edit", exact=True).first.click()
    page.screenshot(path="/tmp/ed/g.png")
    box = page.locator(".mask").bounding_box()
    m=page.mouse
    m.move(box["x"]+60,box["y"]+60); m.down(); m.move(box["x"]+200,box["y"]+150,steps=10); m.up()
    page.screenshot(path="/tmp/ed/h.png")
    page.locator("dialog").get_by_role("button", name="Paint", exact=True).click()
    page.get_by_role("button", name="Go on from this").click(trial=True)
    page.screenshot(path="/tmp/ed/i.png")
    page.set_viewport_size({"width":390,"height":844})
    page.screenshot(path="/tmp/ed/j.png")
