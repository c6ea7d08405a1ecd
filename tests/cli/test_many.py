"""One bad input of many: the others are done, the bad one is named, and the exit code is 1."""

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import pytest
from PIL import Image

from .conftest import Dalle, environment


@pytest.fixture(autouse=True)
def pictures() -> None:
    """Two good pictures, and one that ends too soon."""
    for name, colour in (("cat.png", "red"), ("dog.png", "blue")):
        Image.new("RGB", (64, 64), colour).save(name)
    Path("bad.png").write_bytes(Path("cat.png").read_bytes()[:60])


def named(err: str) -> list[str]:
    """What is named on standard error before the last word."""
    return [line.partition(":")[0] for line in err.splitlines() if line.startswith(("bad.png: ", "nope.png: "))]


MANY = ("cat.png", "bad.png", "nope.png", "dog.png")


@pytest.mark.parametrize(
    ("command", "results"),
    [
        (("vary", *MANY, "-s", "3"), ["cat-vary-3.png", "dog-vary-3.png"]),
        (("embed", *MANY), ["cat.safetensors", "dog.safetensors"]),
        (("grid", *MANY), ["sheet.png"]),
    ],
    ids=["vary", "embed", "grid"],
)
def test_the_good_ones_are_done_and_the_bad_ones_named(dalle: Dalle, command, results):
    result = dalle(*command)
    assert (result.code, result.lines) == (1, results)
    assert sorted(named(result.err)) == ["bad.png", "nope.png"]
    assert result.err.splitlines()[-1] == "error: 2 of 4 could not be used; each is named above"


def test_rank_scores_what_can_be_read(dalle: Dalle):
    result = dalle("rank", *MANY, "a cat", "--json")
    assert result.code == 1
    assert {one["path"] for one in result.objects} == {"cat.png", "dog.png"}
    told = [json.loads(line) for line in result.err.splitlines()]
    assert [(one["error"], one["where"]) for one in told[:2]] == [("BadInput", "nope.png"), ("BadPicture", "bad.png")]
    assert told[-1]["exit_code"] == 1


def test_show_tells_of_the_good_ones(dalle: Dalle):
    dalle("generate", "a fox", "-s", "3")
    result = dalle("show", "nope.png", "a-fox-3.png", "bad.png")
    assert result.code == 1
    assert "a fox" in result.out.decode()
    assert named(result.err) == ["nope.png", "bad.png"]


def test_replay_makes_the_good_ones_again(dalle: Dalle):
    dalle("generate", "a fox", "-s", "3")
    result = dalle("replay", "nope.png", "a-fox-3.png", "cat.png")
    assert (result.code, result.lines) == (1, ["a-fox-3-2.png"])
    assert "cat.png: this picture carries no recipe" in result.err


def test_check_goes_on_to_the_next_folder(dalle: Dalle):
    Path("p.txt").write_text("a fox\n")
    dalle("generate", "--prompts", "p.txt")
    result = dalle("check", "nowhere", "p")
    assert result.code == 1
    assert "nowhere: there is no journal here" in result.err
    assert "p: 1 intact" in result.err


def test_a_journal_of_rubbish_is_no_journal_and_rubbish_in_one_is_counted(dalle: Dalle):
    Path("f").mkdir()
    journal = Path("f/journal.jsonl")
    journal.write_text("rubbish\n")
    assert dalle("check", "f").code == 2
    journal.unlink()
    Path("p.txt").write_text("a fox\n")
    dalle("generate", "--prompts", "p.txt", "--out", "f")
    with journal.open("a") as file:
        file.write("rubbish\n")
    result = dalle("check", "f")
    assert result.code == 0, "every picture that it names is there"
    assert "f: 1 intact, 1 unreadable lines in the journal" in result.err


def test_models_verify_goes_on_to_the_next(dalle: Dalle):
    result = dalle("models", "verify", "nope", "starter")
    assert (result.code, result.lines) == (1, ["starter: good"])
    assert "nope: no model is called 'nope'" in result.err


@pytest.mark.parametrize(
    "command", [("vary", "bad.png"), ("embed", "bad.png"), ("grid", "bad.png"), ("show", "bad.png")]
)
def test_a_single_bad_input_is_an_error_as_ever(dalle: Dalle, command):
    result = dalle(*command)
    assert result.code == 2
    assert result.err.startswith("error: ")


def test_what_is_wrong_with_the_request_stops_all(dalle: Dalle):
    result = dalle("vary", "cat.png", "dog.png", "--size", "17")
    assert (result.code, result.lines) == (2, [])


def test_a_word_is_a_word_also_beside_a_folder_of_its_name(dalle: Dalle):
    Path("fox").mkdir()
    result = dalle("rank", "cat.png", "fox")
    assert result.code == 0
    assert "'fox' is taken for words, not for the folder of this name" in result.err
    assert dalle("rank", "cat.png", "./fox").code == 2


@pytest.mark.parametrize(
    ("data", "what"),
    [
        (b"<!DOCTYPE html><html></html>", "this is a web page"),
        (b"version https://git-lfs.github.com/spec/v1\noid sha256:aa\nsize 3\n", "this is a Git LFS pointer"),
        (b"\x02\0\0\0\0\0\0\0{}", "this is a safetensors file already"),
        (b"\x89PNG\r\n\x1a\n" + bytes(40), "this is a picture"),
        (b"", "the file is empty"),
    ],
    ids=["page", "pointer", "safetensors", "picture", "empty"],
)
def test_what_is_no_checkpoint_is_named(dalle: Dalle, data, what):
    Path("x.bin").write_bytes(data)
    result = dalle("models", "convert", "x.bin", "y.safetensors")
    assert result.code == 3
    assert what in result.err
    assert not Path("y.safetensors").exists()


@pytest.mark.parametrize("held", [object, {"a": object}], ids=str)
@pytest.mark.long
def test_a_pickle_of_something_else_is_refused_without_torchs_advice(dalle: Dalle, held):
    Path("x.bin").write_bytes(pickle.dumps(held))
    result = dalle("models", "convert", "x.bin", "y.safetensors")
    assert result.code == 3
    assert "weights_only" not in result.err
    assert "torch.load" not in result.err


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("org/m", "hf:org/m"),
        ("https://huggingface.co/org/m", "hf:org/m"),
        ("https://huggingface.co/org/m/tree/main", "hf:org/m"),
        ("https://huggingface.co/org/m/tree/v1", "hf:org/m@v1"),
    ],
)
def test_a_repository_of_the_hub_is_called_by_its_name_here(dalle: Dalle, name, meant):
    result = dalle("models", "pull", name)
    assert result.code == 2
    assert f"from the Hugging Face Hub it is {meant}" in result.err


def test_a_missing_value_leads_to_the_help_of_its_command(dalle: Dalle):
    assert dalle("generate", "a fox", "--seed").err.splitlines()[-1] == "hint: dalle generate --help"


def test_an_empty_text_is_called_by_its_option(dalle: Dalle):
    assert "the text of --negative is empty" in dalle("generate", "a fox", "--negative", "").err
    assert "the text of --prompt is empty" in dalle("vary", "cat.png", "--prompt", "").err


def test_a_picture_in_a_folder_whose_name_is_not_utf_8_is_remembered(dalle: Dalle):
    folder = os.fsdecode(b"x\xff")
    assert dalle("generate", "a yak", "-s", "3", "--out", folder).code == 0
    (found,) = dalle("history", "yak", "--json").objects
    assert os.fsencode(found["path"]).endswith(b"x\xff/a-yak-3.png")
    assert found["there"]


def test_a_word_of_each_axis_value_is_no_forgotten_quote(dalle: Dalle):
    assert "one word each" not in dalle("generate", "a", "-s", "1", "--x", "steps=2,3").err


def test_standard_input_that_is_closed_is_no_terminal(dalle: Dalle):
    done = subprocess.run(
        ["sh", "-c", '"$0" -m dallecli vary - <&-', sys.executable], capture_output=True, text=True, env=environment()
    )
    assert done.returncode == 2
    assert "standard input is closed" in done.stderr
