"""Every command on a tiny random DALL·E Mini: pictures are made again to the byte, and the rest is refused by name."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import dalle_mini_oracle
import pytest
from PIL import Image

from dallecli.cli.preview import Glimpses
from dallecli.engine import Progress
from dallecli.pictures.metadata import read_recipe
from dallecli.tasks.stages import TokenSettings

from .conftest import NO_CLIP, NO_PRIOR, Dalle, assert_refused

pytestmark = pytest.mark.usefixtures("local")

HERE = ("--device", "cpu", "--dtype", "fp32")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(dalle_mini_oracle.make(tmp_path_factory.mktemp("models") / "tiny"))


def test_a_sentence_is_painted_with_min_dalles_dials_and_made_again_byte_for_byte(dalle: Dalle, model: str):
    made = dalle(
        "generate", "a cat", "--negative", "cat", *HERE, "-m", model, "-s", "7", "-n", "2", "--layout", "files"
    )
    assert (made.code, len(made.lines)) == (0, 2)
    recipe = read_recipe(Path(made.lines[-1]))
    assert recipe.stages == {"codes": TokenSettings(temperature=1.0, top_k=256, top_p=1.0, guidance=16.0)}
    assert (recipe.prior, recipe.prior_candidates, recipe.seed) == (None, None, 8)
    again = dalle("replay", made.lines[-1], "-m", model, "-o", "again.png", "-q")
    assert (again.code, again.err) == (0, "")
    with Image.open(made.lines[-1]) as first, Image.open("again.png") as second:
        assert first.tobytes() == second.tobytes()


REFUSED = {
    "vary": (["vary", "cat.png"], "cannot vary"),
    "interpolate": (["interpolate", "a cat", "a dog"], "cannot interpolate"),
    "edit": (["edit", "cat.png", "--from", "a cat", "--to", "a dog"], "cannot edit"),
    "inpaint": (["inpaint", "cat.png", "--mask", "0,0,4,4"], "cannot inpaint"),
    "init": (["generate", "a cat", "--init", "cat.png"], "paints over no other"),
    "continue": (["generate", "a cat", "--continue", "cat.png"], "cannot go on from a picture"),
    **NO_CLIP,
    **NO_PRIOR,
    "class": (["generate", "--class", "tench"], "knows no classes"),
    "size": (["generate", "a cat", "--size", "16"], "it paints 8"),
    "steps": (["generate", "a cat", "--steps", "9"], "writes codes, has no steps"),
    "sampler": (["generate", "a cat", "--sampler", "ddim"], "writes codes, has no sampler"),
    "fast": (["generate", "a cat", "--fast"], "has no steps that --fast would change"),
    "upsampler": (["generate", "a cat", "--upsampler-steps", "9"], "has no upsampler"),
    "top-p": (["generate", "a cat", "--top-p", "0"], "top-p is 0"),
    "letters": (["generate", "a 猫", "--strict"], "does not know: 猫"),
    "length": (["generate", "cat " * 70, "--strict"], "would not read the end"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_it_cannot_do_is_refused_by_name(dalle: Dalle, model: str, name: str):
    assert_refused(dalle(*REFUSED[name][0], "-m", model, "-q"), REFUSED[name][1])


def test_what_is_not_read_is_said(dalle: Dalle, model: str):
    result = dalle("generate", "a 猫 " + "cat " * 70, *HERE, "-m", model, "-o", "a.png")
    assert result.code == 0
    assert "does not know: 猫\n" in result.err
    assert "dropped: cat cat" in result.err
    assert read_recipe(Path("a.png")).dropped


def test_pictures_do_not_depend_on_the_memory_plan_and_a_dry_run_knows_it(dalle: Dalle, model: str):
    for plan in ("low", "high"):
        ask = ("generate", "a cat", *HERE, "-m", model, "-s", "3", "--memory", plan, "-o", f"{plan}.png")
        assert dalle(*ask, "--no-metadata").code == 0
    assert Path("low.png").read_bytes() == Path("high.png").read_bytes()
    dry = dalle("generate", "a cat", "-m", model, "--dry-run", "--json")
    assert dry.objects[0]["recipe"]["stages"]["codes"]["top_k"] == 256


@pytest.mark.long
def test_a_killed_prompt_file_goes_on_to_the_same_pictures(dalle: Dalle, model: str):
    prompts = [{"prompt": "a cat" if seed % 2 else "cat cat", "seed": seed, "top_k": 9} for seed in range(24)]
    Path("p.jsonl").write_text("\n".join(json.dumps(line) for line in prompts))
    ask = ("generate", "--prompts", "p.jsonl", *HERE, "-m", model, "--out", "out")
    running = subprocess.Popen([sys.executable, "-m", "dallecli", *ask, "--batch", "1"], stdout=subprocess.DEVNULL)
    until = time.monotonic() + 60
    while not list(Path().glob("out/*.png")) and time.monotonic() < until:
        time.sleep(0.01)
    os.kill(running.pid, signal.SIGKILL)
    running.wait()
    before = {path.name: path.read_bytes() for path in Path("out").glob("*.png")}
    assert 0 < len(before) < 24
    assert dalle(*ask, "-q").code == 0
    after = {path.name: path.read_bytes() for path in Path("out").glob("*.png")}
    assert (len(after), before.items() <= after.items()) == (24, True)
    single = dalle("generate", "a cat", *HERE, "-m", model, "-s", "21", "--top-k", "9", "-o", "21.png")
    assert single.code == 0
    same = next(path for path in Path("out").glob("*.png") if read_recipe(path).seed == 21)
    with Image.open("21.png") as alone, Image.open(same) as among:
        assert alone.tobytes() == among.tobytes()


class Screen:
    """What `Glimpses` needs of a display."""

    animated = True

    def __init__(self) -> None:
        self.drawn: list[tuple[int, int]] = []

    def progress(self, progress: Progress) -> None: ...
    def draw(self) -> None: ...

    def preview(self, image: Image.Image, columns: int) -> None:
        self.drawn.append(image.size)


def test_an_unfinished_picture_is_drawn_at_each_quarter_and_not_oftener_than_asked():
    for every, times in ((0.0, 3), (1000.0, 0)):
        screen = Screen()
        glimpses = Glimpses(screen, every)  # type: ignore[arg-type]
        for step in range(1, 17):
            done = Progress(stage="codes", step=step, steps=16, picture=0, pictures=2)
            glimpses.progress(replace(done, look=lambda: [Image.new("RGB", (8, 8))] * 2))
        assert screen.drawn == [(16, 8)] * times
