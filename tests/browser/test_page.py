"""The page as somebody uses it: painting, the gallery, other tabs, a server that is slow or gone, strangers."""

import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image
from PIL.PngImagePlugin import PngInfo
from playwright.sync_api import expect

from dallecli.pictures.metadata import read_recipe
from tests.browser.conftest import LOST, REFUSED, gallery
from tests.browser.using import ask, cards, choose, edit, newest, paint, pictures, settled
from tests.server.talking import ROOT

pytestmark = pytest.mark.browser

TOKEN = "a-token-of-this-test-0123456789"


def test_pictures_of_a_prompt_are_painted_and_are_seen_before_they_are_done(serve, visit):
    page = visit(serve(seconds="0.05"))
    ask(page, "a red car at the beach", 2)
    job = page.locator(".job")
    expect(job.locator(".tile img").first).to_have_attribute("src", re.compile("^data:image/png"))
    expect(job.get_by_text("step")).to_be_visible()
    expect(cards(page)).to_have_count(2)
    expect(job).to_have_count(0)
    expect(cards(page).first.get_by_role("img")).to_have_attribute("alt", "a red car at the beach")


def test_the_starter_paints_and_its_picture_is_the_one_of_the_command_line(studio, visit, tmp_path):
    page = visit(studio, permissions=["clipboard-read", "clipboard-write"])
    page.get_by_text("Seed and dials").click()
    page.get_by_label("Seed").fill("7")
    page.get_by_label("Effort").select_option("fast")
    paint(page, "a red car; $(touch hurt) 'and'")
    choose(page, cards(page).first, "Copy as command line")
    page.get_by_text("Command copied").wait_for()
    command = shlex.split(page.evaluate("() => navigator.clipboard.readText()"))
    assert command[:2] == ["dalle", "generate"]
    whole = [sys.executable, "-m", "dallecli", *command[1:], "-o", "-", "-q"]
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(whole, capture_output=True, check=True, cwd=tmp_path, env=env)
    assert done.stdout == newest(studio)[0].read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_wide_picture_is_painted_where_its_size_is_chosen(flat, visit):
    page = visit(flat)
    page.get_by_text("Seed and dials").click()
    page.get_by_label("Size").select_option("256x144")
    paint(page, "a dog")
    assert Image.open(newest(flat)[0]).size == (256, 144)
    before = cards(page).count()
    page.locator("#count").select_option("1")
    cards(page).first.get_by_role("button", name="Vary").click()
    expect(cards(page)).to_have_count(before + 1)
    assert read_recipe(newest(flat)[0]).task == "vary"
    assert Image.open(newest(flat)[0]).size == (256, 144)


def test_a_picture_is_varied_and_the_command_of_it_paints_it_again(flat, visit, tmp_path):
    page = visit(flat, permissions=["clipboard-read", "clipboard-write"])
    settled(page)
    page.locator("#count").select_option("2")
    before = cards(page).count()
    cards(page).first.get_by_role("button", name="Vary").click()
    expect(cards(page)).to_have_count(before + 2)
    painted = newest(flat)[0]
    assert read_recipe(painted).task == "vary"
    choose(page, cards(page).first, "Copy as command line")
    page.get_by_text("Command copied").wait_for()
    command = shlex.split(page.evaluate("() => navigator.clipboard.readText()"))
    assert command[:2] == ["dalle", "replay"]
    env = {**os.environ, "PYTHONPATH": str(ROOT), "DALLE_ENGINE": "fake"}
    whole = [sys.executable, "-m", "dallecli", *command[1:], "-o", "-", "-q"]
    done = subprocess.run(whole, capture_output=True, check=True, cwd=tmp_path, env=env)
    assert done.stdout == Path(command[2]).read_bytes()


def test_a_full_queue_is_waited_for_by_everything_that_paints(serve, visit):
    page = visit(serve("--queue", "1", seconds="0.15"), expected=REFUSED)
    paint(page, "a dog")
    ask(page, "a red car", 1)
    page.locator(".job").get_by_text("step").wait_for()
    ask(page, "a cat", 1)
    expect(page.locator(".job")).to_have_count(2)
    cards(page).first.get_by_role("button", name="Vary").click()
    expect(page.locator("#status")).to_contain_text("The server is busy. Trying again in")
    editor = edit(page)
    editor.get_by_label("What to paint there").fill("a house")
    editor.get_by_role("button", name="Paint", exact=True).click()
    expect(editor.get_by_text("The server is busy. Trying again in")).to_be_visible()
    editor.get_by_role("button", name="Cancel", exact=True).click()
    expect(editor.get_by_text("Cancelled.")).to_be_visible()
    editor.get_by_role("button", name="Close", exact=True).click()
    expect(cards(page)).to_have_count(4)


def test_the_way_between_two_pictures_is_painted(flat, visit):
    page = visit(flat)
    paint(page, "a dog")
    paint(page, "a cat")
    before = cards(page).count()
    choose(page, cards(page).nth(0), "Interpolate with…")
    cards(page).nth(1).locator(".picture").click()
    dialog = page.get_by_role("dialog", name="Interpolate")
    dialog.get_by_role("spinbutton").fill("3")
    dialog.get_by_role("button", name="Paint").click()
    expect(cards(page)).to_have_count(before + 3)
    assert {read_recipe(path).task for path in newest(flat, 3)} == {"interpolate"}


def test_a_page_that_is_reloaded_while_something_is_painted_goes_on_with_it(serve, visit):
    page = visit(serve(seconds="0.1"))
    ask(page, "a red car")
    page.locator(".job").get_by_text("step").wait_for()
    page.reload()
    expect(page.locator(".job").get_by_text("a red car")).to_be_visible()
    expect(cards(page)).to_have_count(1)
    page.reload()
    expect(cards(page)).to_have_count(1)
    expect(page.locator("#jobs")).to_be_hidden()


def test_what_is_painted_in_one_tab_is_seen_in_the_other(flat, visit):
    page, other = visit(flat), visit(flat)
    settled(other)
    before = cards(other).count()
    paint(page, "a green tree")
    expect(cards(other)).to_have_count(before + 1)
    expect(cards(other).first.get_by_role("img")).to_have_attribute("alt", "a green tree")


def test_a_server_that_is_killed_is_said_and_the_page_goes_on_with_the_next(serve, visit):
    talk = serve()
    page = visit(talk, expected=LOST)
    paint(page, "a red car")
    ask_again = page.get_by_label("Prompt", exact=True)
    ask_again.fill("a blue car")
    assert talk.process is not None
    talk.process.kill()
    expect(page.get_by_role("alert").get_by_text("The server does not answer")).to_be_visible()
    expect(cards(page)).to_have_count(1)
    serve("--port", str(talk.port))
    expect(page.get_by_role("alert")).to_be_hidden()
    expect(ask_again).to_have_value("a blue car")
    paint(page, "a blue car")
    expect(cards(page)).to_have_count(2)


def test_a_server_that_hangs_is_said_and_the_page_goes_on_when_it_does(serve, visit):
    talk = serve()
    page = visit(talk, expected=LOST)
    paint(page, "a red car")
    assert talk.process is not None
    talk.process.send_signal(signal.SIGSTOP)
    expect(page.get_by_role("alert").get_by_text("slow to answer")).to_be_visible()
    talk.process.send_signal(signal.SIGCONT)
    expect(page.get_by_role("alert")).to_be_hidden()
    paint(page, "a blue car")


def test_what_strangers_wrote_into_a_picture_is_text(serve, visit):
    talk = serve()
    page = visit(talk)
    mischief = "<img src=x onerror=\"document.title='hurt'\"><script>document.title='hurt'</script>\u202e"
    paint(page, mischief)
    expect(cards(page).first.locator(".said")).to_have_text(mischief)
    assert page.locator("#grid img").count() == 1
    cards(page).first.locator(".picture").click()
    expect(page.get_by_role("dialog", name="Picture").locator(".prompt")).to_have_text(mischief)
    assert page.title() == "dalle"


def test_a_file_with_a_recipe_that_is_none_is_shown_without_one(serve, visit):
    talk = serve()
    pictures(talk).mkdir(parents=True)
    info = PngInfo()
    info.add_itxt("dalle", '{"prompt": ["<b>", 1]}')
    Image.new("RGB", (8, 8), "red").save(pictures(talk) / "<b>name.png", pnginfo=info)
    page = visit(talk)
    expect(cards(page)).to_have_count(1)
    expect(cards(page).locator(".said")).to_have_text("<b>name.png")


def test_any_folder_is_shown_and_nothing_in_it_can_be_changed(visit, tmp_path):
    command = [sys.executable, "-m", "dallecli", "generate", "a red car", "a blue car", "--out", str(tmp_path), "-q"]
    subprocess.run(command, check=True, env={**os.environ, "PYTHONPATH": str(ROOT), "DALLE_ENGINE": "fake"})
    (tmp_path / "notes.txt").write_text("no picture")
    with gallery(tmp_path) as talk:
        page = visit(talk)
        expect(cards(page)).to_have_count(2)
        page.get_by_role("searchbox").fill("blue")
        expect(cards(page)).to_have_count(1)
        expect(page.get_by_label("Prompt", exact=True)).to_be_hidden()
        cards(page).get_by_role("button", name="More").click()
        offered = page.get_by_role("menuitem").all_inner_texts()
        assert "Copy as command line" in offered
        assert not {"Delete", "Edit", "Vary", "Interpolate with…"} & set(offered)
        assert page.get_by_role("button", name="Vary").count() == 0
        page.keyboard.press("Escape")
        page.get_by_role("searchbox").fill("")
        Image.new("RGB", (8, 8), "red").save(tmp_path / "new.png")
        expect(cards(page)).to_have_count(3)


def test_what_is_left_out_of_a_large_folder_is_said(visit, tmp_path):
    Image.new("RGB", (8, 8)).save(tmp_path / "0.png")
    data = (tmp_path / "0.png").read_bytes()
    for k in range(1, 1001):
        (tmp_path / f"{k}.png").write_bytes(data)
    with gallery(tmp_path) as talk:
        page = visit(talk)
        expect(cards(page)).to_have_count(60)
        expect(page.locator("#left-out")).to_be_hidden()
        while page.get_by_role("button", name="Show older pictures").is_visible():
            shown = cards(page).count()
            page.get_by_role("button", name="Show older pictures").click()
            expect(cards(page)).not_to_have_count(shown)
        expect(page.get_by_text("The newest 1000 of 1001 are shown; a search finds the others.")).to_be_visible()
        page.close()  # before the server ends: pictures further down are still asked for


def test_a_token_is_asked_for_and_is_never_in_the_address(serve, visit):
    talk = serve(DALLE_TOKEN=TOKEN)
    page = visit(talk, expected=REFUSED)
    dialog = page.get_by_role("dialog", name="This server wants a token")
    dialog.get_by_label("Token").fill("a-wrong-one-0123456789")
    page.keyboard.press("Enter")
    expect(dialog.get_by_label("Token")).to_have_value("")
    dialog.get_by_label("Token").fill(TOKEN)
    page.keyboard.press("Enter")
    paint(page, "a red car")
    page.reload()
    expect(cards(page)).to_have_count(1)
    other = visit(talk, f"/#token={TOKEN}")
    expect(cards(other)).to_have_count(1)
    assert TOKEN not in other.url
    other.reload()
    expect(cards(other)).to_have_count(1)


def test_everything_can_be_done_with_the_keyboard(serve, visit):
    page = visit(serve(), permissions=["clipboard-read", "clipboard-write"])
    keyboard = page.keyboard
    page.get_by_label("Prompt", exact=True).wait_for()
    tab_to(page, page.get_by_label("Prompt", exact=True))
    keyboard.type("a red car")
    keyboard.press("Control+Enter")
    expect(cards(page)).to_have_count(4)
    first = cards(page).first.locator(".picture")
    tab_to(page, page.locator("#grid .picture[tabindex='0']"))
    keyboard.press("Home")
    expect(first).to_be_focused()
    keyboard.press("ArrowRight")
    expect(cards(page).nth(1).locator(".picture")).to_be_focused()
    keyboard.press("ArrowLeft")
    keyboard.press("Enter")
    expect(page.get_by_role("dialog", name="Picture")).to_be_visible()
    keyboard.press("ArrowRight")
    keyboard.press("Escape")
    expect(first).to_be_focused()
    tab_to(page, cards(page).first.get_by_role("button", name="More"))
    keyboard.press("Enter")
    expect(page.get_by_role("menu")).to_be_visible()
    keyboard.press("Escape")
    expect(cards(page).first.get_by_role("button", name="More")).to_be_focused()
    tab_to(page, cards(page).first.get_by_role("button", name="Edit"), back=True)
    keyboard.press("Enter")
    editor = page.get_by_role("dialog", name="Edit")
    tab_to(page, editor.get_by_text("Mark by numbers"))
    keyboard.press("Enter")
    for number in ("10", "20", "30", "40"):
        keyboard.press("Tab")
        keyboard.type(number)
    keyboard.press("Tab")
    keyboard.press("Enter")
    expect(editor.get_by_text("2 % of the picture is painted anew.")).to_be_visible()
    keyboard.press("Control+Enter")
    expect(editor.get_by_text("Done.")).to_be_visible()
    keyboard.press("Escape")
    expect(page.get_by_role("dialog")).to_have_count(0)
    expect(cards(page)).to_have_count(5)
    keyboard.press("Home")
    keyboard.press("Delete")
    asking = page.get_by_role("dialog", name="Delete this picture?")
    expect(asking.get_by_role("button", name="Cancel")).to_be_focused()
    tab_to(page, asking.get_by_role("button", name="Delete"))
    keyboard.press("Enter")
    expect(cards(page)).to_have_count(4)


def tab_to(page, target, *, back=False):
    """Press Tab until an element has the focus."""
    for _ in range(60):
        if target.evaluate("element => element === document.activeElement"):
            return
        page.keyboard.press("Shift+Tab" if back else "Tab")
    raise AssertionError(f"Tab does not lead to {target}")
