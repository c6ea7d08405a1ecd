"""Whether everybody can use the page: narrow screens, light and dark, and what axe-core finds."""

import shutil
import subprocess
import tarfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.browser.conftest import listen
from tests.browser.using import ask, cards, edit, settled

pytestmark = pytest.mark.browser

AXE = "axe-core@4.14.1"

RULES = ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa", "best-practice"]


def nothing(page) -> None:
    """The page as it opens."""


def open_dials(page) -> None:
    page.get_by_text("Seed and dials").click()


def open_words(page) -> None:
    page.get_by_role("button", name="What it knows").click()
    page.get_by_role("dialog").wait_for()


def open_help(page) -> None:
    page.get_by_role("button", name="Help").click()


def open_picture(page) -> None:
    cards(page).first.locator(".picture").click()
    page.get_by_role("dialog", name="Picture").get_by_text("model").first.wait_for()


def open_menu(page) -> None:
    cards(page).first.get_by_role("button", name="More").click()
    page.get_by_role("menu").wait_for()


def open_editor(page) -> None:
    editor = edit(page)
    editor.get_by_label("left").fill("64")
    editor.get_by_text("Mark by numbers").click()
    editor.get_by_text("Dials").click()


VIEWS: list[Callable[..., None]] = [
    *(nothing, open_dials, open_words, open_help, open_picture, open_menu, open_editor),
]


@pytest.fixture(scope="module")
def axe(request: pytest.FixtureRequest) -> str:
    """The source of axe-core, which npm fetches once; skipped where it cannot."""
    folder = Path(request.config.cache.mkdir("axe-core"))
    source = folder / "package" / "axe.min.js"
    if not source.is_file():
        npm = shutil.which("npm")
        if npm is None:
            pytest.skip("axe-core comes with npm, which is not here")
        pack = [npm, "pack", "--silent", AXE]
        fetched = subprocess.run(pack, cwd=folder, capture_output=True, text=True, timeout=120)
        if fetched.returncode != 0:
            pytest.skip(f"npm cannot fetch {AXE}: {fetched.stderr.strip().splitlines()[-1:]}")
        with tarfile.open(folder / fetched.stdout.strip()) as archive:
            archive.extract("package/axe.min.js", folder, filter="data")
    return source.read_text("utf-8")


@pytest.fixture
def page(flat, visit) -> Iterator[object]:
    page = visit(flat)
    settled(page)
    return page


@pytest.mark.parametrize("view", VIEWS)
def test_nobody_is_kept_out_in_light_or_dark_on_a_desk_or_a_phone(view, axe, page, tmp_path):
    view(page)
    page.evaluate(axe)
    for width in (1280, 390):
        page.set_viewport_size({"width": width, "height": 900})
        for scheme in ("light", "dark"):
            page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            found = page.evaluate("rules => axe.run({runOnly: rules})", RULES)
            page.screenshot(path=tmp_path / f"{view.__name__}-{width}-{scheme}.png")
            assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == []


@pytest.mark.parametrize("view", VIEWS)
def test_nothing_has_to_be_scrolled_sideways_on_a_narrow_screen(view, page):
    for width in (390, 320):
        page.set_viewport_size({"width": width, "height": 700})
        page.reload()
        settled(page)
        view(page)
        wide = page.evaluate("""() => [document.documentElement, ...document.querySelectorAll('dialog, .menu')]
            .filter(element => element.scrollWidth > element.clientWidth
                || element.getBoundingClientRect().right > innerWidth)
            .map(element => element.outerHTML.slice(0, 200))""")
        assert wide == []


def test_a_page_that_breaks_its_policy_would_be_noticed(flat, visit):
    page, noticed = visit(flat, expected=("",)), []
    listen(page, noticed)
    page.evaluate("document.body.setAttribute('style', 'color: red')")
    page.evaluate("() => new Promise(resolve => setTimeout(resolve))")
    assert any(one.startswith("error: policy: style-src-attr") for one in noticed), noticed


def test_what_is_painted_is_said_to_who_cannot_see_it(serve, visit, axe):
    page = visit(serve(seconds="0.05"))
    ask(page, "a red car")
    page.locator(".job").get_by_text("step").wait_for()
    page.evaluate(axe)
    found = page.evaluate("rules => axe.run({runOnly: rules})", RULES)
    assert [(one["id"], [node["html"] for node in one["nodes"]]) for one in found["violations"]] == []
    page.get_by_role("status").get_by_text("Painting: a red car").wait_for()
    page.get_by_role("status").get_by_text("Done: a red car").wait_for()
