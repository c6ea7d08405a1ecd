"""Make the pictures of the guide about the page again: `python docs/guides/draw_page.py`, with the extra `browser`.

It starts `dalle serve` with the starter, has pictures painted with stated seeds, and photographs the page with
Playwright in the system's Chromium. The pictures are docs/images/page-*.png, in 256 colours.
"""

import json
import re
import shutil
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from PIL import Image
from playwright.sync_api import Browser, Locator, Page, sync_playwright

IMAGES = Path(__file__).parents[1] / "images"

PROMPTS: Final = {
    "a red car at the beach": 3,
    "a panda riding a bicycle": 5,
    "a blue house in the snow": 4,
    "a yellow cat": 11,
    "a blue elephant in the forest": 2,
    "a robot next to a tree": 8,
    "a castle at sea": 9,
    "an astronaut in space": 1,
}
"""What is in the gallery, and with which seed; the last is the newest."""

WAIT: Final = 300_000
"""Milliseconds for something to be painted."""


@contextmanager
def server(folder: Path) -> Iterator[str]:
    """The address of `dalle serve` with the pictures of `PROMPTS`."""
    command = [sys.executable, "-m", "dallecli", "serve", "--port", "0", "--pictures", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            assert running.stdout is not None
            found = re.search(r"http://[\d.]+:\d+", running.stdout.readline())
            assert found is not None
            for prompt, seed in PROMPTS.items():
                paint(found[0], prompt, seed)
            yield found[0]
        finally:
            running.terminate()


def paint(address: str, prompt: str, seed: int) -> None:
    """Have one picture painted, and wait for it."""
    asked = {"prompt": prompt, "seed": seed, "keep": True}
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{address}/v1/images/generations", json.dumps(asked).encode(), headers)
    with urllib.request.urlopen(request, timeout=WAIT / 1000) as answer:
        answer.read()


def opened(browser: Browser, address: str, width: int, height: int, scheme: str) -> Page:
    """The page in a window of this size."""
    assert scheme in ("light", "dark")
    page = browser.new_page(viewport={"width": width, "height": height}, color_scheme=scheme)  # type: ignore[arg-type]
    page.set_default_timeout(WAIT)
    page.goto(address)
    page.locator("#grid > li").nth(len(PROMPTS) - 1).wait_for()
    page.wait_for_load_state("networkidle")
    return page


def keep(page: Page, name: str) -> None:
    """Write what is seen, in 256 colours."""
    target = IMAGES / f"page-{name}.png"
    page.screenshot(path=target)
    with Image.open(target) as image:
        image.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(target, optimize=True)


def brush(editor: Locator, *points: tuple[float, float]) -> None:
    """Draw along points, as shares of the picture's sides."""
    box = editor.locator(".mask").bounding_box()
    assert box is not None
    places = [(box["x"] + x * box["width"], box["y"] + y * box["height"]) for x, y in points]
    mouse = editor.page.mouse
    mouse.move(*places[0])
    mouse.down()
    for place in places[1:]:
        mouse.move(*place, steps=8)
    mouse.up()


def draw_editor(page: Page) -> None:
    """Repaint a part of a picture, and look at what is marked."""
    page.locator("#grid > li").filter(has_text="yellow cat").get_by_role("button", name="Edit").click()
    editor = page.get_by_role("dialog", name="Edit")
    editor.locator(".mask").wait_for()
    editor.get_by_label("Size").fill("40")
    brush(editor, (0.5, 0.2), (0.88, 0.18), (0.88, 0.3), (0.6, 0.34))
    editor.get_by_label("What to paint there").fill("a yellow cat under an umbrella")
    editor.get_by_label("Seed").fill("1")
    editor.get_by_role("button", name="Paint", exact=True).click()
    editor.get_by_text("Done.").wait_for()
    editor.get_by_role("group", name="Tries").get_by_role("button", name="The picture").click()
    page.mouse.move(5, 5)
    keep(page, "editor")


def main() -> None:
    """Draw all pictures."""
    chromium = shutil.which("chromium")
    with tempfile.TemporaryDirectory() as folder, server(Path(folder)) as address, sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=chromium)
        page = opened(browser, address, 1280, 960, "light")
        keep(page, "desk")
        keep(opened(browser, address, 390, 844, "dark"), "phone")
        draw_editor(page)
        browser.close()


if __name__ == "__main__":
    main()
