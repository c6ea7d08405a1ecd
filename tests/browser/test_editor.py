"""The editor: what is marked is painted anew, and all else keeps its bytes."""

import numpy as np
import pytest
from PIL import Image

from dallecli.pictures.metadata import read_recipe
from tests.browser.conftest import REFUSED
from tests.browser.using import cards, edit, marked, newest, paint, pictures, pixels, place, repaint, stroke

pytestmark = pytest.mark.browser

SIDE = 256
OLDEST = -1


@pytest.fixture
def editor(flat, visit):
    """The editor, open on a flat picture of 256 x 256 pixels."""
    return edit(visit(flat), OLDEST)


def plan(editor) -> str:
    return editor.locator(".plan").inner_text()


def test_what_is_drawn_is_painted_anew_and_the_rest_keeps_its_pixels(studio, visit):
    page = visit(studio)
    paint(page, "a red car")
    editor = edit(page)
    stroke(editor, (40, 60), (200, 60))
    drawn = marked(editor) == 255
    editor.get_by_label("What to paint there").fill("a tree")
    editor.get_by_text("Dials").click()
    editor.get_by_label("Effort").select_option("fast")
    repaint(editor)
    painted, before = newest(studio, 2)
    (mask,) = read_recipe(painted).settings.mask_files
    sent = np.asarray(Image.open(pictures(studio) / "inputs" / f"{mask.sha256}.png"))[..., 3]
    assert set(np.unique(sent)) == {0, 255}
    assert (sent == 0).tolist() == drawn.tolist()
    assert drawn[60, 40:200].all()
    assert not drawn[:40].any() and not drawn[80:].any()  # the brush is 32 pixels wide
    assert (pixels(painted)[~drawn] == pixels(before)[~drawn]).all()
    assert (pixels(painted)[drawn] != pixels(before)[drawn]).any()


def test_strokes_are_undone_and_done_again_one_by_one(editor):
    stroke(editor, (40, 60), (200, 60))
    once = marked(editor)
    stroke(editor, (40, 200), (200, 200))
    twice = marked(editor)
    editor.page.keyboard.press("Control+z")
    assert (marked(editor) == once).all()
    editor.get_by_role("button", name="Undo").click()
    assert not marked(editor).any()
    assert editor.get_by_role("button", name="Undo").is_disabled()
    editor.get_by_role("button", name="Redo").click()
    editor.locator(".mask").press("Control+Shift+z")
    assert (marked(editor) == twice).all()
    assert editor.get_by_role("button", name="Redo").is_disabled()


def test_an_eraser_a_rectangle_an_inversion_and_a_clearing_do_what_they_say(editor):
    editor.get_by_role("button", name="Rectangle").click()
    stroke(editor, (20.5, 30.5), (99.5, 79.5))
    box = np.zeros((SIDE, SIDE), bool)
    box[30:80, 20:100] = True
    assert (marked(editor) == box * 255).all()
    editor.get_by_role("button", name="Eraser").click()
    stroke(editor, (60, 55), (60, 56))
    erased = marked(editor) == 255
    assert not erased[55, 60] and erased[31, 21]
    editor.get_by_role("button", name="Invert").click()
    assert (marked(editor) == ~erased * 255).all()
    editor.get_by_role("button", name="Clear").click()
    assert not marked(editor).any()
    editor.get_by_role("button", name="Brush").click()
    stroke(editor, (60, 55), (120, 56))
    stroke(editor, (60, 55), (120, 56), button="right")
    assert not marked(editor).any()


def test_keys_choose_tools_and_sizes_while_the_picture_has_the_focus_and_are_text_in_a_field(editor):
    size = editor.get_by_label("Size")
    before = int(size.input_value())
    keyboard = editor.page.keyboard
    keyboard.press("]")
    assert int(size.input_value()) > before
    keyboard.press("[")
    assert int(size.input_value()) == before
    keyboard.press("e")
    assert editor.get_by_role("button", name="Eraser").get_attribute("aria-pressed") == "true"
    editor.get_by_label("What to paint there").fill("")
    keyboard.type("bri[i]")
    assert editor.get_by_label("What to paint there").input_value() == "bri[i]"
    assert editor.get_by_role("button", name="Eraser").get_attribute("aria-pressed") == "true"
    assert not marked(editor).any()


def test_a_brush_of_one_pixel_marks_the_pixels_that_it_is_led_over(editor):
    size = editor.get_by_label("Size")
    size.fill("1")
    stroke(editor, (10.1, 20.9), (30.1, 20.9))
    assert marked(editor)[20, 10:31].all()
    assert marked(editor).sum() == 21 * 255


def test_without_a_pointer_a_rectangle_is_said_in_numbers_and_a_mask_saved_and_read(editor, tmp_path):
    editor.get_by_text("Mark by numbers").click()
    for name, value in (("x", 10), ("y", 200), ("width", 40), ("height", 30)):
        editor.get_by_label(name, exact=True).fill(str(value))
    editor.get_by_role("button", name="Mark", exact=True).click()
    box = np.zeros((SIDE, SIDE), bool)
    box[200:230, 10:50] = True
    assert (marked(editor) == box * 255).all()
    with editor.page.expect_download() as saving:
        editor.get_by_role("button", name="Save the mask").click()
    saved = tmp_path / "mask.png"
    saving.value.save_as(saved)
    assert (np.asarray(Image.open(saved).convert("L")) == box * 255).all()
    editor.get_by_role("button", name="Unmark").click()
    assert not marked(editor).any()
    editor.get_by_label("Mask from a file").set_input_files(saved)
    editor.get_by_text("2 % of the picture").wait_for()
    assert (marked(editor) == box * 255).all()


def test_what_is_no_mask_of_this_picture_is_refused_in_words(editor, tmp_path):
    other, none = tmp_path / "other.png", tmp_path / "none.png"
    Image.new("L", (20, 10)).save(other)
    none.write_bytes(b"nothing")
    editor.get_by_text("Mark by numbers").click()
    for file, words in ((other, "this one has 20 × 10 pixels, the picture 256 × 256"), (none, "not a picture")):
        editor.get_by_label("Mask from a file").set_input_files(file)
        editor.get_by_role("alert").get_by_text(words).wait_for()
    editor.get_by_label("width", exact=True).fill("300")
    editor.get_by_label("height", exact=True).fill("10")
    editor.get_by_role("button", name="Mark", exact=True).click()
    editor.get_by_role("alert").get_by_text("A rectangle lies in the picture").wait_for()
    assert not marked(editor).any()


def test_a_picture_is_painted_beyond_its_edges_and_keeps_its_own_pixels(flat, editor):
    editor.get_by_label("left").fill("64")
    editor.get_by_label("bottom").fill("32")
    assert plan(editor) == "It grows from 256 × 256 to 320 × 288 pixels."
    repaint(editor)
    painted, before = (pixels(path) for path in newest(flat, 2))
    assert painted.shape == (288, 320, 3)
    assert (painted[:256, 64:] == before).all()
    assert (painted[:, :64] != before[0, 0]).any()


def test_a_mask_is_kept_between_tries_and_when_the_editor_is_opened_again(editor):
    stroke(editor, (40, 60), (200, 60))
    drawn = marked(editor)
    editor.get_by_label("What to paint there").fill("a tree")
    editor.get_by_label("Pictures").fill("2")
    editor.get_by_label("right").fill("16")
    editor.get_by_role("button", name="Paint", exact=True).click()
    editor.get_by_text("2 pictures are done.").wait_for()
    assert (marked(editor) == drawn).all()
    assert editor.get_by_role("group", name="Tries").get_by_role("button").count() == 4
    page = editor.page
    editor.get_by_role("button", name="Close").click()
    again = edit(page, OLDEST)
    assert (marked(again) == drawn).all()
    assert again.get_by_label("What to paint there").input_value() == "a tree"
    assert again.get_by_label("right").input_value() == "16"


def test_one_goes_on_from_what_was_painted(editor):
    stroke(editor, (40, 60), (200, 60))
    editor.get_by_label("top", exact=True).fill("20")
    repaint(editor)
    editor.get_by_role("button", name="Go on from this").click()
    editor.get_by_role("button", name="Go on from this").wait_for(state="detached")
    assert marked(editor).shape == (276, 256)
    assert not marked(editor).any()
    assert editor.get_by_label("top", exact=True).input_value() == ""


def test_where_nothing_is_marked_the_whole_is_painted_over_by_a_strength(flat, editor):
    assert plan(editor) == "Nothing is marked: the whole picture is painted over."
    editor.get_by_text("Dials").click()
    editor.get_by_label("Strength").fill("0.35")
    repaint(editor)
    (painted,) = newest(flat)
    recipe = read_recipe(painted)
    assert recipe.task == "generate"
    assert recipe.settings.strength == 0.35
    stroke(editor, (40, 60), (200, 60))
    assert editor.get_by_label("Strength").is_disabled()


def test_what_the_server_refuses_is_said_and_the_mask_stays(flat, visit):
    editor = edit(visit(flat, expected=REFUSED), OLDEST)
    editor.get_by_role("button", name="Invert").click()
    assert plan(editor).startswith("Everything is marked")
    editor.get_by_role("button", name="Paint", exact=True).click()
    editor.get_by_role("alert").get_by_text("leaves nothing of the picture").wait_for()
    assert marked(editor).all()
    assert editor.get_by_role("button", name="Paint", exact=True).is_enabled()


def test_painting_shows_how_far_it_is_and_can_be_cancelled(serve, visit):
    page = visit(serve(seconds="0.1"))
    paint(page, "a red car")
    editor = edit(page)
    stroke(editor, (40, 60), (200, 60))
    editor.get_by_role("button", name="Paint", exact=True).click()
    editor.get_by_text("prior: step").wait_for()
    editor.get_by_role("button", name="Cancel").click()
    editor.get_by_text("Cancelled.").wait_for()
    assert editor.get_by_role("group", name="Tries").get_by_role("button").count() == 0
    assert marked(editor).any()


def test_what_is_painted_goes_on_when_the_editor_is_closed(serve, visit):
    page = visit(serve(seconds="0.01"))
    paint(page, "a red car")
    editor = edit(page)
    stroke(editor, (40, 60), (200, 60))
    editor.get_by_role("button", name="Paint", exact=True).click()
    editor.get_by_text("step 1").wait_for()
    page.keyboard.press("Escape")
    editor.wait_for(state="detached")
    cards(page).nth(1).wait_for()


def test_one_finger_draws_and_two_zoom(flat, visit):
    page = visit(flat, has_touch=True, viewport={"width": 390, "height": 844})
    editor = edit(page, OLDEST)
    page.touchscreen.tap(*place(editor, (128, 128)))
    dot = marked(editor)
    assert dot[128, 128] == 255 and not dot[20].any()
    before = editor.locator(".mask").bounding_box()
    pinch(page, place(editor, (100, 128)), place(editor, (150, 128)), 30)
    assert editor.locator(".mask").bounding_box()["width"] > before["width"]
    assert (marked(editor) == dot).all()


def pinch(page, left, right, apart):
    """Put two fingers down and move them apart."""
    session = page.context.new_cdp_session(page)

    def touch(kind, *points):
        touches = [{"x": x, "y": y, "id": number} for number, (x, y) in enumerate(points)]
        session.send("Input.dispatchTouchEvent", {"type": kind, "touchPoints": touches})

    touch("touchStart", left)
    touch("touchStart", left, right)
    for step in range(1, 4):
        by = apart * step / 3
        touch("touchMove", (left[0] - by, left[1]), (right[0] + by, right[1]))
    touch("touchEnd")
