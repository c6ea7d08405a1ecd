"""No command writes through a link that lies where its output goes."""

import json
import os
from pathlib import Path

import pytest
from cli.conftest import Dalle
from PIL import Image

pytestmark = pytest.mark.trust

LINE = b'{"prompt": "a fox", "name": "fox"}\n'

# What each of these writes, and how: into a folder where every name that it would use is a link to outside.
COMMANDS: dict[str, tuple[str, tuple[str, ...]]] = {
    "-o": ("x.png", ("generate", "a fox", "-o", "x.png")),
    "a sheet with -o": ("x.png", ("generate", "a fox", "-n", "4", "-o", "x.png")),
    "a sheet in a folder": ("a-fox-7-grid.png", ("generate", "a fox", "-n", "4", "--seed", "7", "--out", ".")),
    "files in a folder": ("a-fox-7.png", ("generate", "a fox", "--seed", "7", "--out", ".")),
    "a sheet with axes": ("x.png", ("generate", "a fox", "--x", "steps=2,3", "-o", "x.png")),
    "an animation": ("x.gif", ("interpolate", "a cat", "a dog", "-o", "x.gif")),
    "variations": ("x.png", ("vary", "cat.png", "-n", "2", "-o", "x.png")),
    "an edit": ("x.png", ("edit", "cat.png", "--from", "a cat", "--to", "a dog", "-o", "x.png")),
    "inpainting": ("x.png", ("inpaint", "cat.png", "--mask", "0,0,8,8", "-o", "x.png")),
    "a mask": ("x.png", ("inpaint", "cat.png", "--mask", "0,0,8,8", "--show-mask", "-o", "x.png")),
    "an embedding": ("x.safetensors", ("embed", "cat.png", "-o", "x.safetensors")),
    "a grid": ("x.png", ("grid", "cat.png", "-o", "x.png")),
    "a replay": ("x.png", ("replay", "made.png", "-o", "x.png")),
    "a batch": ("fox.png", ("generate", "--prompts", "p.jsonl", "--out", ".")),
}


@pytest.fixture
def inputs(dalle: Dalle) -> None:
    Image.new("RGB", (32, 32), "red").save("cat.png")
    Path("p.jsonl").write_bytes(LINE)
    assert dalle("generate", "a hen", "-o", "made.png").code == 0


@pytest.mark.parametrize("target", ["precious", "missing"])
@pytest.mark.parametrize("what", list(COMMANDS))
def test_a_link_is_refused_and_with_force_the_link_is_replaced(dalle: Dalle, tmp_path, figures, inputs, what, target):
    name, arguments = COMMANDS[what]
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "precious").write_bytes(b"mine")
    Path(name).symlink_to(outside / target)
    refused = dalle(*arguments)
    assert Path(name).is_symlink()
    assert [(path.name, path.read_bytes()) for path in outside.iterdir()] == [("precious", b"mine")]
    if "--out" in arguments and "--prompts" not in arguments:
        assert refused.code == 0
        assert refused.lines[0] not in (name, f"./{name}")  # names that are taken get numbers
    else:
        assert refused.code in (1, 2)
        assert "this is a link, and leads elsewhere" in refused.err
    again = ("--retry-failed",) if "--prompts" in arguments else ()
    forced = dalle(*arguments, "--force", *again)
    assert forced.code == 0, forced.err
    assert not Path(name).is_symlink()
    assert Path(name).stat().st_size > 100
    assert [(path.name, path.read_bytes()) for path in outside.iterdir()] == [("precious", b"mine")]
    counted = figures.setdefault("outputs over links", {"tried": 0, "followed": 0})
    counted["tried"] += 1


@pytest.mark.parametrize("own", ["journal.jsonl", "failed.jsonl", ".dalle", ".dalle/door.lock", ".dalle/journal.lock"])
def test_what_a_batch_keeps_beside_its_pictures_is_never_behind_a_link(dalle: Dalle, tmp_path, inputs, own):
    outside = tmp_path / "outside"
    outside.mkdir()
    precious = outside / "precious"
    precious.write_bytes(b"half a li")  # a torn line would be cut from a journal
    link = Path("o") / own
    link.parent.mkdir(parents=True)
    link.symlink_to(outside if own == ".dalle" else precious)
    Path("p.jsonl").write_bytes(LINE + b'{"prompt": "x", "size": 3}\n')
    result = dalle("generate", "--prompts", "p.jsonl", "--out", "o", "--keep-going")
    assert precious.read_bytes() == b"half a li"
    assert [path.name for path in outside.iterdir()] == ["precious"]
    if own == "failed.jsonl":
        assert (result.code, json.loads(link.read_text())["size"]) == (1, 3)
        assert not link.is_symlink()
    else:
        assert result.code == 2, result.err


@pytest.mark.parametrize("kind", ["a pipe", "a folder"])
def test_a_journal_that_is_none_is_refused_and_not_waited_for(dalle: Dalle, inputs, kind):
    Path("o").mkdir()
    if kind == "a pipe":
        os.mkfifo("o/journal.jsonl")
    else:
        Path("o/journal.jsonl").mkdir()
    for arguments in (("generate", "--prompts", "p.jsonl", "--out", "o"), ("check", "o")):
        result = dalle(*arguments)
        assert (result.code, "mistake" in result.err) == (2, False), result.err


def test_nothing_is_converted_onto_a_link(dalle: Dalle, tmp_path):
    Path("model.bin").write_bytes(b"x")
    Path("model.safetensors").symlink_to(tmp_path / "outside")
    result = dalle("models", "convert", "model.bin", "model.safetensors")
    assert (result.code, "this is already there" in result.err) == (2, True)
    assert Path("model.safetensors").is_symlink()
