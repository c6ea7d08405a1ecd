"""`dalle replay`: the same picture again, from the file alone or with its inputs, or a clear reason why not."""

import hashlib
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from fewer import fewer
from PIL import Image
from PIL.PngImagePlugin import PngInfo

from dallecli.pictures.metadata import read_recipe
from dallecli.pictures.picture import encode

from .conftest import Dalle, on_terminal, process

SAID_OF_TIME = re.compile(r"(each step is taken \d+ times, .*\n)?")
"""How long it takes, where that is said, and no warning."""

PICTURE = {"png": "a fox.png", "jpeg": "a fox.jpg", "webp": "a fox.webp"}


@pytest.fixture(autouse=True)
def pictures(settings: None) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (48, 64, 3), dtype=np.uint8)
    Image.fromarray(pixels).save("cat.png")
    Image.new("RGB", (32, 32), "blue").save("dog.jpg")
    mask = Image.new("L", (64, 48), 0)
    mask.paste(255, (0, 0, 32, 48))
    mask.save("left.png")


EVERYTHING = {
    "generate": ["generate", "a fox", "--steps", "9", "--guidance", "0"],
    "sheet": ["generate", "a fox", "-n", "4"],
    "best": ["generate", "a fox", "-n", "2", "--best-of", "7"],
    "vary": ["vary", "cat.png", "--prompt", "in snow"],
    "variations": ["vary", "cat.png", "-n", "3", "--fidelity", "0.5"],
    "interpolate": ["interpolate", "cat.png", "a fox", "dog.jpg", "--frames", "5"],
    "one place": ["interpolate", "cat.png", "a fox", "--at", "0.3"],
    "blends": ["interpolate", "cat.png", "dog.jpg", "--weights", "2,1", "-n", "3"],
    "inverted": ["interpolate", "cat.png", "dog.jpg", "--noise", "inverted", "--inversion-steps", "5"],
    "inpaint": ["inpaint", "cat.png", "--mask", "left.png", "--mask", "40,0,9,9", "--invert-mask", "-n", "2"],
    "outpaint": ["inpaint", "cat.png", "--expand", "left=9", "--prompt", "a wood"],
    "edit": ["edit", "cat.png", "--from", "a", "--to", "b"],
    "sweep": ["edit", "cat.png", "--from", "a", "--to", "b", "--sweep", "4"],
}


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_file_of_every_task_is_made_again_byte_for_byte(dalle: Dalle, name):
    (path,) = dalle(*EVERYTHING[name], "-s", "7", "--out", ".").lines
    result = dalle("replay", path, "-o", "again.png")
    assert (result.code, result.lines) == (0, ["again.png"])
    assert SAID_OF_TIME.fullmatch(result.remarks)
    assert Path("again.png").read_bytes() == Path(path).read_bytes()


@pytest.mark.parametrize("name", ["sheet", "best", "variations", "interpolate", "inverted", "inpaint", "sweep"])
def test_a_picture_of_a_row_is_made_again_alone(dalle: Dalle, name):
    paths = dalle(*EVERYTHING[name], "-s", "7", "--layout", "files").lines
    assert len(paths) > 1
    for k, path in enumerate(paths):
        assert SAID_OF_TIME.fullmatch(dalle("replay", path, "-o", f"again-{k}.png").remarks)
        with Image.open(path) as first, Image.open(f"again-{k}.png") as second:
            assert first.tobytes() == second.tobytes()


@pytest.mark.parametrize("format", ["png", "jpeg", "webp"])
def test_what_is_made_again_has_the_format_and_a_name_of_its_own(dalle: Dalle, format):
    (path,) = dalle("generate", "a fox", "-s", "7", "--format", format).lines
    (again,) = dalle("replay", path).lines
    assert again == f"{Path(path).stem}-2{Path(path).suffix}"
    assert Path(again).read_bytes() == Path(path).read_bytes()


def test_an_animation_moves_again(dalle: Dalle):
    for kind in ("webp", "apng"):
        way = ["interpolate", "cat.png", "dog.jpg", "--frames", "4", "--size", "16", "--fps", "5", "--bounce"]
        (path,) = dalle(*way, "--animate", kind, "-s", "7").lines
        (again,) = dalle("replay", path).lines
        assert Path(again).read_bytes() == Path(path).read_bytes()
        with Image.open(again) as image:
            assert image.n_frames == 6


def test_a_recipe_of_the_first_format_is_still_played(dalle: Dalle):
    """What version 0.1.0 wrote, taken from a file of its own."""
    dalle("generate", "a fox", "-s", "7", "-o", "x.png")
    recipe = read_recipe(Path("x.png"))
    with Image.open("x.png") as image:
        text = image.info["dalle"]
        for key in ("inputs", "settings", "scores", "motion"):
            start = text.index(f', "{key}": ')
            depth, end = 0, start + len(f', "{key}": ')
            while depth > 0 or text[end] not in ",}":
                depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(text[end], 0)
                end += 1
            text = text[:start] + text[end:]
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("dalle", text.replace("dalle-recipe/2", "dalle-recipe/1"))
        image.save("old.png", pnginfo=info)
    assert b"dalle-recipe/1" in Path("old.png").read_bytes()
    assert dalle("replay", "old.png", "-o", "again.png").remarks == ""
    assert read_recipe(Path("again.png")) == recipe


# Inputs


def test_an_input_that_was_moved_and_renamed_is_found_by_its_content(dalle: Dalle):
    (path,) = dalle("vary", "cat.png", "-s", "7").lines
    Path("album").mkdir()
    Path("cat.png").rename("album/holiday-3.png")
    Path("album/other.txt").write_text("no picture")
    result = dalle("replay", path)
    assert (result.code, result.out) == (2, b"")
    assert result.remarks.splitlines() == [
        "error: the picture that this was made from is not here: cat.png",
        f"where: {path}",
        "hint: say where it is: --input FILE, or a folder",
    ]
    assert dalle("replay", path, "--input", "album", "-o", "again.png").code == 0
    assert dalle("replay", path, "--input", "album/holiday-3.png", "-o", "again-2.png").code == 0
    assert Path("again.png").read_bytes() == Path(path).read_bytes() == Path("again-2.png").read_bytes()


def test_an_input_that_has_changed_is_not_used(dalle: Dalle):
    (path,) = dalle("inpaint", "cat.png", "--mask", "left.png").lines
    Image.new("L", (64, 48), 255).save("left.png")
    result = dalle("replay", path)
    assert (result.code, result.err.splitlines()[0]) == (2, "error: left.png has changed since this was made from it")


def test_a_result_is_played_again_from_another_folder(dalle: Dalle, monkeypatch):
    Path("out").mkdir()
    (path,) = dalle("vary", "cat.png", "-s", "7", "--out", "out").lines
    Path("cat.png").rename("out/cat.png")
    Path("elsewhere").mkdir()
    monkeypatch.chdir("elsewhere")
    assert dalle("replay", f"../{path}", "-o", "again.png").code == 0
    assert Path("again.png").read_bytes() == Path(f"../{path}").read_bytes()


def test_what_came_out_of_a_pipe_travels_inside(dalle: Dalle):
    embedding = dalle("embed", "cat.png", "--minus", "a cat", "--plus", "a dog", "-o", "-").out
    (path,) = dalle("vary", "-", "-s", "7", stdin=embedding).lines
    assert dalle("replay", path, "-o", "again.png").code == 0
    assert Path("again.png").read_bytes() == Path(path).read_bytes()


def test_a_picture_from_a_pipe_is_found_with_its_file(dalle: Dalle):
    (path,) = dalle("vary", "-", "-s", "7", stdin=Path("cat.png").read_bytes()).lines
    refused = dalle("replay", path)
    assert refused.err.splitlines()[0].endswith("is not here: standard input")
    assert dalle("replay", path, "--input", ".", "-o", "again.png").code == 0


# What differs, and what is refused


def test_another_picture_than_the_files_is_reported(dalle: Dalle):
    dalle("generate", "a fox", "-s", "7", "-o", "x.png")
    recipe = read_recipe(Path("x.png"))
    with Image.open("x.png") as image:
        image.putpixel((0, 0), tuple((level + 9) % 256 for level in image.getpixel((0, 0))))
        Path("touched.png").write_bytes(encode(image, "png", recipe))
        Path("smaller.png").write_bytes(encode(image.resize((9, 9)), "png", recipe))
    assert dalle("replay", "touched.png").err.startswith(
        "warning: 0.0% of the pixels differ from touched.png, by up to"
    )
    result = dalle("replay", "smaller.png")
    assert result.remarks == "warning: smaller.png is 9 x 9 pixels, what was made from its recipe 256 x 256\n"
    assert result.code == 0


def test_on_a_terminal_it_says_that_every_pixel_is_the_same():
    process("generate", "a fox", "-s", "7", "-o", "x.png")
    assert "every pixel is that of x.png" in on_terminal("replay", "x.png").err


def test_several_files_at_once(dalle: Dalle):
    paths = dalle("generate", "a fox", "a cat", "-s", "7").lines
    Path("again").mkdir()
    lines = dalle("replay", *paths, "--out", "again").lines
    assert [Path(line).read_bytes() for line in lines] == [Path(path).read_bytes() for path in paths]
    assert dalle("replay", *paths, "-o", "x.png").code == 2


def test_the_picture_itself_can_come_from_a_pipe(dalle: Dalle):
    data = dalle("generate", "a fox", "-s", "7", "-o", "-").out
    assert dalle("replay", "-", "-o", "-", stdin=data).out == data


def test_a_file_that_nothing_can_be_made_from_is_refused(dalle: Dalle):
    dalle("embed", "cat.png", "-o", "z.safetensors")
    Path("text.png").write_text("hello")
    for name, what in (
        ("cat.png", "this picture carries no recipe"),
        ("text.png", "this is not a picture"),
        ("missing.png", "the file cannot be read: No such file or directory"),
        ("z.safetensors", "this is not a picture"),
    ):
        result = dalle("replay", name)
        assert (result.code, result.out) == (2, b"")
        assert result.err.splitlines()[:2] == [f"error: {what}", f"where: {name}"]


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('"count": 1', '"count": 100000', "the number of pictures is 100000"),
        ('"model": "starter"', '"model": "nope"', "no model is called 'nope'"),
        ('"size": 256', '"size": 100', "starter does not paint 100 pixels"),
        ('"steps": 26', '"steps": 99999', "the decoder was trained on 1000 steps, not 99999"),
        ('"fidelity": 0.5', '"fidelity": 5.5', "the fidelity is 5.5"),
        ('"device": "cpu"', '"device": "gpu9"', "no device is called 'gpu9'"),
    ],
)
def test_a_recipe_that_somebody_made_up_is_checked_like_a_request(dalle: Dalle, old, new, what):
    dials = ["--steps", "26", "--fidelity", "0.5"]
    dalle("vary", "cat.png", "-o", "x.png", *dials)
    with Image.open("x.png") as image:
        text = image.info["dalle"]
        assert old in text
        from PIL.PngImagePlugin import PngInfo

        info = PngInfo()
        info.add_itxt("dalle", text.replace(old, new))
        image.save("y.png", pnginfo=info)
    result = dalle("replay", "y.png")
    assert (result.code, result.err.splitlines()[0]) == (2 if "device" not in old else 5, f"error: {what}")


def test_a_model_in_a_folder_is_named_again(dalle: Dalle):
    dalle("generate", "a fox", "-s", "7", "-o", "x.png", "-m", "fake")
    result = dalle("replay", "x.png", "-m", "starter", "-o", "y.png")
    assert (result.code, read_recipe(Path("y.png")).model) == (0, "starter")


def test_inputs_are_told_apart_by_their_content(dalle: Dalle):
    """Two ends may have one name, in two folders, and recipes keep only the last part of a path."""
    for folder, colour in (("a", "red"), ("b", "lime")):
        Path(folder).mkdir()
        Image.new("RGB", (8, 8), colour).save(f"{folder}/x.png")
    first, second = (str(Path(folder, "x.png").resolve()) for folder in "ab")
    (path,) = dalle("interpolate", first, second, "-s", "7").lines
    names = [(source.name, source.sha256) for source in read_recipe(Path(path)).inputs]
    assert names == [("x.png", hashlib.sha256(Path(file).read_bytes()).hexdigest()) for file in (first, second)]
    assert dalle("replay", path, "--input", "a", "--input", "b", "-o", "again.png").code == 0
    assert Path("again.png").read_bytes() == Path(path).read_bytes()


# A stranger's picture


def forge(path: str, change: Callable[[dict[str, Any]], None]) -> str:
    """A copy of a picture whose recipe says something else."""
    facts = read_recipe(Path(path)).to_dict()
    change(facts)
    info = PngInfo()
    info.add_itxt("dalle", json.dumps(facts))
    Image.new("RGB", (16, 16)).save("forged.png", pnginfo=info)
    return "forged.png"


@pytest.mark.parametrize(
    "name", fewer(["tiny", "./tiny", "{here}/tiny", "../work/tiny", "~/tiny", "~nobody/x", "\ud800", "\0"], each=3)
)
def test_a_recipe_cannot_open_a_folder(dalle: Dalle, model, monkeypatch, name):
    """Not even one that lies beside it: both may have come in one archive."""
    monkeypatch.setenv("DALLE_ENGINE", "local")
    monkeypatch.setenv("HOME", str(Path.cwd()))
    Path("tiny").symlink_to(model)
    (path,) = dalle("generate", "a fox", "-m", "./tiny", "--size", "8", "--fast", "-o", "x.png").lines
    assert read_recipe(Path(path)).model == "tiny"
    lie = forge(path, lambda facts: facts.update(model=name.format(here=Path.cwd())))
    result = dalle("replay", lie, "-o", "y.png")
    assert (result.code, Path("y.png").exists()) == (2, False)
    assert result.err.startswith("error: no model is called ")
    assert "hint: if it is a folder that you trust: -m FOLDER" in result.err
    assert dalle("replay", lie, "-m", "./tiny", "-o", "y.png").code == 0
    assert read_recipe(Path("y.png")).model == "tiny"


@pytest.mark.parametrize("name", ["hf:../../etc", "hf:a/../b", "hf:a/b@../../x", "hf:"])
def test_a_recipe_cannot_leave_the_cache(dalle: Dalle, monkeypatch, name):
    path = dalle("generate", "a fox", "-o", "x.png").lines[0]
    monkeypatch.setenv("DALLE_ENGINE", "local")
    assert dalle("replay", forge(path, lambda facts: facts.update(model=name))).code == 2


def test_only_the_last_name_of_an_inputs_path_is_looked_for(dalle: Dalle, tmp_path):
    path = dalle("vary", "cat.png", "-o", "x.png").lines[0]
    Path("cat.png").rename(tmp_path / "cat.png")
    for name in (str(tmp_path / "cat.png"), "../cat.png", "a/../../cat.png"):
        result = dalle("replay", forge(path, lambda facts, name=name: facts["inputs"][0].update(name=name)))
        assert (result.code, result.out) == (2, b"")
        assert "is not here" in result.err


LIES: list[tuple[str, str, object]] = [
    *(("best", "count", lie) for lie in (0, -1, 10**6, 10**30, 1.5, True)),
    *(("best", "seed", lie) for lie in (-1, 2**63, 2**63 - 1, 10**30, 7.5)),
    *(("best", "size", lie) for lie in (0, -16, 10**30)),
    *(("best", "prior_candidates", lie) for lie in (0, -1, 10**6, None)),
    *(("best", "settings.best_of", lie) for lie in (0, 1, 10**6, None)),
    *(("best", "settings.kept", lie) for lie in ([7], [7, 7], [7, 10**30], [-1, 7], [7, 14], [], ["7", 8])),
    *(("best", "stages.decoder.steps", lie) for lie in (0, 1, -5, 10**6, 10**30)),
    *(("best", "stages.decoder.guidance", lie) for lie in (-1, 10**400)),
    *(("best", "stages.decoder.guidance_stop", lie) for lie in (-1, 1.5, "1")),
    *(("best", "stages.upsampler.reuse", lie) for lie in (0, 10**30, 1.5)),
    *(("best", "stages.prior.reuse", lie) for lie in (2,)),
    ("best", "stages.upsampler", {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "guidance": 1.0}),
    ("best", "stages.decoder", {"temperature": 1.0, "top_k": 10**400, "top_p": 1.0, "guidance": 1.0}),
    *(("vary", "inputs", lie) for lie in ([], [{"kind": "text", "name": "a fox", "sha256": None}])),
    *(("interpolate", "settings.positions", lie) for lie in ([], [2, 0, 0, 0, 0], [0, 1], None)),
    *(("blends", "settings.weights", lie) for lie in ([2, 1], [1e308, 1e308], [-1, 2], [0, 0], [1], None)),
    *(("inpaint", "settings.resample", lie) for lie in (0, -1, 10**30)),
    *(("inpaint", "settings.expand.left", lie) for lie in (-1, 10**30)),
    *(("inpaint", "settings.mask.boxes", lie) for lie in ([[0, 0, 0, 0]], [[10**30, 0, 1, 1]], [[1, 2]])),
    *(("sweep", "settings.strengths", lie) for lie in ([], [0, 2, 0, 0], [0, 1])),
    *(("sweep", "settings.before", lie) for lie in ("", "\ud800", "\0")),
]


@pytest.mark.parametrize(("name", "key", "lie"), fewer(LIES, each=4), ids=lambda value: repr(value)[:40])
def test_every_number_of_a_recipe_is_checked_as_a_requests_are(dalle: Dalle, name, key, lie):
    (path,) = dalle(*EVERYTHING[name], "-s", "7", "--out", ".").lines

    def change(facts: dict[str, Any]) -> None:
        *parents, last = key.split(".")
        for parent in parents:
            facts = facts[parent]
        facts[last] = lie

    lying = forge(path, change)
    result = dalle("replay", lying)
    assert (result.code, result.out) == (2, b""), result.err
    # What can still be shown may be shown, but nothing else happens.
    for command in (["show"], ["show", "--json"], ["grid", "--force", "-o", "sheet.png"]):
        shown = dalle(*command, lying)
        assert shown.code in (0, 2), shown.err
        if "--json" in command and shown.code == 0:
            json.loads(shown.out, parse_constant=lambda constant: pytest.fail(constant))


def test_a_request_with_weights_that_have_no_sum_is_refused(dalle: Dalle):
    result = dalle("interpolate", "cat.png", "dog.jpg", "--weights", "1e308,1e308")
    assert (result.code, result.err.splitlines()[0]) == (2, "error: the weights have no finite sum")


def test_an_input_folder_that_cannot_be_read_is_named(dalle: Dalle, monkeypatch):
    path = dalle("vary", "cat.png", "-o", "x.png").lines[0]
    Path("cat.png").unlink()
    Path("album").mkdir()

    def refused(self: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "iterdir", refused)
    result = dalle("replay", path, "--input", "album")
    assert (result.code, result.err.splitlines()[1]) == (2, "where: album")
