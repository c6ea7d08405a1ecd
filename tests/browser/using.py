"""What somebody does with the page, as tests say it."""

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tests.server.talking import Talk

if TYPE_CHECKING:
    from playwright.sync_api import Locator, Page

Pixels = NDArray[np.uint8]


def paint(page: "Page", prompt: str, count: int = 1) -> None:
    """Have pictures of a prompt painted, and wait until they are in the gallery."""
    from playwright.sync_api import expect

    settled(page)
    before = cards(page).count()
    ask(page, prompt, count)
    expect(cards(page)).to_have_count(before + count)
    expect(page.locator(".job progress")).to_have_count(0)


def settled(page: "Page") -> None:
    """Wait until the page has its pictures, or knows that there are none."""
    page.locator("#grid > li, #empty:not([hidden])").first.wait_for()


def ask(page: "Page", prompt: str, count: int = 1) -> None:
    """The same without waiting."""
    page.get_by_label("Prompt", exact=True).fill(prompt)
    page.locator("#count").select_option(str(count))
    page.get_by_role("button", name="Paint", exact=True).click()


def cards(page: "Page") -> "Locator":
    """The pictures of the gallery, the newest first."""
    return page.locator("#grid > li")


def choose(page: "Page", card: "Locator", action: str) -> None:
    """Do something with a picture that is in its menu."""
    card.get_by_role("button", name="More").click()
    page.get_by_role("menuitem", name=action).click()


def edit(page: "Page", number: int = 0) -> "Locator":
    """Open the editor on a picture of the gallery."""
    cards(page).nth(number).get_by_role("button", name="Edit", exact=True).click()
    editor = page.get_by_role("dialog", name="Edit")
    editor.locator(".mask").wait_for()
    return editor


def repaint(editor: "Locator") -> None:
    """Have it painted, and wait until it is."""
    from playwright.sync_api import expect

    editor.get_by_role("button", name="Paint", exact=True).click()
    expect(editor.get_by_text("Done.")).to_be_visible()


def stroke(editor: "Locator", *points: tuple[float, float], button: str = "left") -> None:
    """Drag the mouse along points, in pixels of the picture, which is scrolled to where there is more than fits."""
    editor.locator(".mask").scroll_into_view_if_needed()
    mouse, places = editor.page.mouse, [place(editor, point) for point in points]
    mouse.move(*places[0])
    mouse.down(button=button)
    for x, y in places[1:]:
        mouse.move(x, y, steps=5)
    mouse.up(button=button)


def place(editor: "Locator", point: tuple[float, float]) -> tuple[float, float]:
    """Where a pixel of the picture is on the screen."""
    mask = editor.locator(".mask")
    box = mask.bounding_box()
    assert box is not None
    width = int(mask.evaluate("canvas => canvas.width"))
    scale = box["width"] / width
    return box["x"] + point[0] * scale, box["y"] + point[1] * scale


def marked(editor: "Locator") -> Pixels:
    """What is marked, as [h w] of 0 and 255: the opacity of the mask that is shown."""
    mask = editor.locator(".mask")
    data = mask.evaluate("""async canvas => {
        const blob = await new Promise(resolve => canvas.toBlob(resolve));
        return Array.from(new Uint8Array(await blob.arrayBuffer()));
    }""")
    return np.asarray(Image.open(io.BytesIO(bytes(data))))[..., 3]


def pictures(talk: Talk) -> Path:
    """The folder of a server's pictures."""
    assert talk.log is not None
    return talk.log.parent / "pictures"


def newest(talk: Talk, count: int = 1) -> list[Path]:
    """The newest pictures of a server, the newest first."""
    return sorted(pictures(talk).glob("*.png"), key=lambda path: path.stat().st_mtime_ns, reverse=True)[:count]


def pixels(path: Path) -> Pixels:
    """[h w 3]."""
    return np.asarray(Image.open(path).convert("RGB"))
