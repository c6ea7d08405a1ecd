"""`dalle history` finds what was painted here before."""

import os
import stat
from pathlib import Path

from .conftest import Dalle, process


def paths(result) -> list[str]:
    return [found["path"] for found in result.objects]


def test_a_picture_is_found_by_any_words_of_its_prompt(dalle: Dalle):
    for prompt in ("a red panda in the snow", "a red car", "100% ein BÄR_森"):
        assert dalle("generate", prompt, "-s", "7").code == 0
    assert paths(dalle("history", "RED", "pan", "--json")) == [str(Path("a-red-panda-in-the-snow-7.png").absolute())]
    assert len(paths(dalle("history", "red", "--json"))) == 2
    assert [len(paths(dalle("history", word, "--json"))) for word in ("0%", "R_森", "%", "_")] == [1, 1, 1, 1]
    newest = dalle("history", "--last", "1", "--json").objects[0]
    assert (newest["prompt"], newest["seed"], newest["there"]) == ("100% ein BÄR_森", 7, True)


def test_without_json_it_is_a_table_of_paths(dalle: Dalle):
    assert dalle("generate", "a fox\x1b[2J", "-s", "7").code == 0
    titles, row = dalle("history", "fox").lines
    assert titles.split() == ["made", "task", "what", "model", "seed", "path"]
    assert "  generate  a fox^[[2J  starter  7  " in row
    assert row.endswith(str(Path("a-fox-2j-7.png").absolute()))
    assert dalle("history", "zebra").lines == ["nothing was found"]


def test_every_command_is_remembered_and_batches_too(dalle: Dalle):
    assert dalle("generate", "a fox", "-s", "7", "-n", "3").code == 0
    assert dalle("vary", "a-fox-7-grid.png", "-s", "9").code == 0
    assert dalle("generate", "--prompts", "-", stdin=b"a dog\na cat\n").code == 0
    assert [found["task"] for found in dalle("history", "--json").objects] == [
        "generate",
        "generate",
        "vary",
        "generate",
    ]
    assert dalle("history", "fox-7-grid", "--json").objects[0]["task"] == "vary"


def test_nothing_is_remembered_against_ones_will(dalle: Dalle, tmp_path):
    assert dalle("generate", "a fox", "--no-history").code == 0
    assert not (tmp_path / "home" / "history.sqlite").exists()
    (tmp_path / "home").mkdir(exist_ok=True)
    (tmp_path / "home" / "config.toml").write_text("no-history = true\n")
    assert dalle("generate", "--prompts", "-", stdin=b"a dog\n").code == 0
    assert dalle("history").lines == ["nothing was found"]


def test_only_the_owner_can_read_it_and_it_can_be_forgotten(dalle: Dalle, tmp_path):
    assert dalle("generate", "a fox").code == 0
    path = tmp_path / "home" / "history.sqlite"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert dalle("history", "--clear").code == 0
    assert dalle("history").lines == ["nothing was found"]


def test_a_history_that_cannot_be_written_stops_nobody(dalle: Dalle, tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "history.sqlite").write_bytes(b"this is no database, whatever its name says" * 10)
    result = dalle("generate", "a fox", "-s", "7")
    assert (result.code, result.lines) == (0, ["a-fox-7.png"])
    assert "the history cannot be written" in result.err
    broken = dalle("history")
    assert broken.code == 2
    assert "dalle history --clear begins a new one" in broken.err


def test_processes_remember_at_the_same_time(dalle: Dalle):
    assert process("generate", "a fox").code == 0
    assert os.environ["DALLE_HOME"]
    assert len(dalle("history", "--json").objects) == 1


def test_it_shows_what_every_picture_was_made_from(dalle: Dalle):
    assert dalle("generate", "a cat", "-o", "cat.png").code == 0
    assert dalle("interpolate", "cat.png", "a dog", "-s", "7").code == 0
    assert dalle("inpaint", "cat.png", "--mask", "1,1,8,8", "-p", "a hat", "-s", "7").code == 0
    assert dalle("edit", "cat.png", "--from", "a cat", "--to", "a dog", "-s", "7").code == 0
    assert dalle("vary", "cat.png", "-s", "7").code == 0
    found = dalle("history", "--json").objects
    assert [(one["task"], one["inputs"], one["prompt"]) for one in found] == [
        ("vary", ["cat.png"], ""),
        ("edit", ["cat.png"], "a cat → a dog"),
        ("inpaint", ["cat.png"], "a hat"),
        ("interpolate", ["cat.png", "a dog"], ""),
        ("generate", [], "a cat"),
    ]
    shown = dalle("history").out.decode()
    assert "  interpolate  cat.png → a dog  " in shown and "  inpaint      cat.png: a hat  " in shown
    assert "  edit         cat.png: a cat → a dog  " in shown
    assert dalle("history", "a dog", "--json").objects[-1]["task"] == "interpolate"


def test_a_history_of_an_older_version_goes_on(dalle: Dalle, tmp_path):
    import sqlite3

    (tmp_path / "home").mkdir()
    with sqlite3.connect(tmp_path / "home" / "history.sqlite") as database:
        database.execute(
            "CREATE TABLE pictures (number INTEGER PRIMARY KEY, made INTEGER, path TEXT, task TEXT, prompt TEXT,"
            " words TEXT, seed INTEGER, model TEXT)"
        )
        database.execute("INSERT INTO pictures VALUES (1, 1, '/a.png', 'generate', 'a fox', 'a fox', 7, 'starter')")
    assert dalle("vary", "missing.png").code == 2
    assert dalle("generate", "a hen").code == 0
    assert [(one["prompt"], one["inputs"]) for one in dalle("history", "--json").objects] == [
        ("a hen", []),
        ("a fox", []),
    ]
