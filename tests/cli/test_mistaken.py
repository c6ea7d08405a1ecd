"""Commands, options and values that other programs have, or that are misspelled, are answered by what is meant here."""

import json
from pathlib import Path

import pytest
from typer.main import get_command

from dallecli.cli.app import build
from dallecli.cli.mistaken import _WITHIN, COMMANDS
from dallecli.tasks.synonyms import meant
from dallecli.tasks.values import DTYPE_SYNONYMS
from dallecli.weights.registry import SAMPLERS

from .conftest import Dalle, process


def hint(result) -> str:
    assert result.code == 2
    return result.err.splitlines()[-1].removeprefix("hint: ")


@pytest.mark.parametrize(
    ("arguments", "answer"),
    [
        (["a cat"], 'dalle generate "a cat"'),
        (["a", "red", "cat", "-n", "4"], 'dalle generate "a red cat" -n 4'),
        (['the "big" $cat'], "dalle generate 'the \"big\" $cat'"),
        (["cat.png"], "dalle show cat.png says how it was made, dalle vary paints others like it"),
        (["generte", "a cat"], "did you mean dalle generate?"),
        (["txt2img", "a cat"], "dalle generate"),
        (["pull", "karlo"], "dalle models pull"),
        (["models", "download", "karlo"], "dalle models pull"),
        (["models", "karlo"], "dalle models --help"),
        (["train", "starte"], "did you mean dalle train starter?"),
    ],
)
def test_a_command_that_does_not_exist_is_answered_by_the_one_that_is_meant(dalle: Dalle, arguments, answer):
    assert hint(dalle(*arguments)) == answer


@pytest.mark.parametrize(
    ("said", "meaning"),
    [
        (["help"], ["--help"]),
        (["help", "generate"], ["generate", "--help"]),
        (["help", "models", "pull"], ["models", "pull", "--help"]),
        (["models", "help"], ["models", "--help"]),
        (["train", "help", "all"], ["train", "all", "--help"]),
        (["version"], ["--version"]),
        (["-V"], ["--version"]),
        (["list"], ["models", "list"]),
        (["list", "--json"], ["models", "list", "--json"]),
    ],
)
def test_what_everybody_tries_first_works(dalle: Dalle, said, meaning):
    result, expected = dalle(*said), dalle(*meaning)
    assert (result.code, result.out, result.remarks) == (0, expected.out, "")


@pytest.mark.parametrize(
    ("command", "option", "answer"),
    [
        ("generate", "--prompt", 'the words are an argument: dalle generate "a cat"'),
        ("rank", "--prompt", 'the words are an argument: dalle rank "a cat"'),
        ("interpolate", "--prompt", 'the words are an argument: dalle interpolate "a cat" "a dog"'),
        ("edit", "--prompt", "did you mean --to TEXT?"),
        ("vary", "--image", "the picture is an argument: dalle vary cat.png"),
        ("generate", "--image", "did you mean --init IMAGE?"),
        ("generate", "--cfg", "did you mean --guidance X?"),
        ("generate", "--guidance_scale", "did you mean --guidance X?"),
        ("inpaint", "--cfg-scale", "did you mean --guidance X?"),
        ("generate", "--width", "both sides are in one option: --size 1024x576"),
        ("vary", "--height", "both sides are in one option: --size 1024x576"),
        ("interpolate", "-W", "both sides are in one option: --size 1024x576"),
        ("edit", "-H", "both sides are in one option: --size 1024x576"),
        ("generate", "--count", "did you mean --num N?"),
        ("vary", "--num-images", "did you mean --num N?"),
        ("edit", "--count", "dalle edit --help"),
        ("inpaint", "--negative-prompt", "did you mean --negative TEXT?"),
        ("generate", "--output-dir", "did you mean --out DIR?"),
        ("embed", "--outdir", "did you mean --out DIR?"),
        ("grid", "--output-file", "did you mean --output FILE|-?"),
        ("replay", "--overwrite", "did you mean --force?"),
        ("generate", "--num-inference-steps", "did you mean --steps N?"),
        ("generate", "--scheduler", "did you mean --sampler NAME?"),
        ("generate", "--stepz", "did you mean --steps N?"),
        ("generate", "--nope", "dalle generate --help"),
        ("generate", "--pre-view", "did you mean --preview?"),
        ("doctor", "--width", "dalle doctor --help"),
    ],
)
def test_an_option_that_does_not_exist_is_answered_by_the_one_that_is_meant(dalle: Dalle, command, option, answer):
    result = dalle(command, option, "3")
    assert result.err.splitlines()[0] == f"error: No such option: {option}"
    assert hint(result) == answer


@pytest.mark.parametrize("name", ["cfg", "guidance_scale", "width", "negative_prompt", "num_inference_steps", "count"])
def test_a_prompt_line_is_answered_as_an_option_is(dalle: Dalle, name):
    Path("p.jsonl").write_text(json.dumps({"prompt": "a cat", name: 3}) + "\n")
    own = {"cfg": "guidance", "guidance_scale": "guidance", "width": "size", "negative_prompt": "negative"}
    own |= {"num_inference_steps": "steps", "count": "n"}
    result = dalle("generate", "--prompts", "p.jsonl")
    assert f"dalle generate does not know '{name}'; did you mean '{own[name]}'?" in result.err


def test_a_name_that_is_like_none_is_not_guessed():
    known = ["layout", "out", "output", "compile", "json", "model", "format"]
    assert [meant(name, known) for name in ("cuont", "opn", "xyz", "art", "mode")] == [None, None, None, None, "model"]


def test_the_table_of_commands_names_commands_and_hides_none():
    root = get_command(build())
    models = root.commands["models"].commands
    for name in COMMANDS.values():
        first, _, second = name.partition(" ")
        assert first in root.commands and (not second or second in models)
    assert not set(COMMANDS) & set(root.commands)
    assert set(_WITHIN.values()) <= set(models) and not set(_WITHIN) & set(models)


@pytest.mark.parametrize(("name", "own"), DTYPE_SYNONYMS.items())
def test_number_types_have_the_names_of_other_libraries(dalle: Dalle, name, own):
    shown = dalle("generate", "a cat", "--dtype", name, "--dry-run", "--json")
    assert shown.objects[0]["recipe"]["dtype"] == own
    Path("p.jsonl").write_text(json.dumps({"prompt": "a cat", "dtype": name}) + "\n")
    assert dalle("generate", "--prompts", "p.jsonl", "--dry-run").code == 0


@pytest.mark.parametrize("command", [["generate", "x"], ["doctor"], ["replay", "x.png"], ["rank", "x", "y"]])
def test_a_number_type_that_does_not_exist_is_refused_with_those_that_do(dalle: Dalle, command):
    result = dalle(*command, "--dtype", "int4")
    assert result.remarks.splitlines() == ["error: no number type is called 'int4'", "hint: one of fp32, bf16, fp16"]


@pytest.mark.parametrize(
    ("option", "value", "said"),
    [
        ("--num", "many", "it is not a whole number"),
        ("--num", "1.5", "it is not a whole number"),
        ("--guidance", "x", "it is not a number"),
        ("--layout", "pile", "'pile' is not one of 'grid', 'files', 'both'."),
        ("--batch", "0", "it should be greater than or equal to 1"),
    ],
)
def test_no_message_has_the_words_of_a_library(dalle: Dalle, option, value, said):
    result = dalle("generate", "a cat", option, value)
    assert result.err.splitlines()[0].endswith(f": {said}")
    assert "Value error" not in result.err and "Input should" not in result.err


def test_the_help_lists_all_samplers_and_devices(dalle: Dalle):
    for command in ("generate", "vary", "interpolate", "inpaint"):
        text = " ".join(dalle(command, "--help").out.decode().split())
        assert all(name in text.partition("--sampler NAME")[2][:90] for name in SAMPLERS)
        assert "cpu, cuda, cuda:1 or mps" in text


@pytest.mark.parametrize(
    ("shell", "mark"),
    [("bash", "complete -o default"), ("zsh", "#compdef dalle"), ("fish", "complete --command dalle")],
)
def test_the_completion_of_a_shell_is_printed_by_its_name(shell, mark):
    result = process("--show-completion", shell, SHELL="/bin/sh")
    assert (result.code, result.remarks) == (0, "")
    assert mark in result.out.decode() and f"_DALLE_COMPLETE=complete_{shell}" in result.out.decode()


def test_a_shell_without_completion_is_refused(dalle: Dalle):
    result = dalle("--show-completion", "tcsh")
    assert (result.code, result.out) == (2, b"")
    assert "one of bash, zsh, fish" in result.err


def test_the_completion_of_a_shell_is_installed_by_its_name(tmp_path):
    result = process("--install-completion", "fish", HOME=str(tmp_path))
    assert result.code == 0
    assert (tmp_path / ".config" / "fish" / "completions" / "dalle.fish").is_file()


def test_frames_in_a_webp_that_does_not_move_are_named(dalle: Dalle):
    said = "x.webp is one sheet of all frames; --animate webp makes it move\n"
    assert dalle("interpolate", "a cat", "a dog", "-o", "x.webp").remarks == said
    assert dalle("interpolate", "a cat", "a dog", "-o", "y.webp", "--animate", "webp").remarks == ""
    assert dalle("interpolate", "a cat", "a dog", "-o", "z.png").remarks == ""


@pytest.mark.parametrize("name", ["ways.txt", "-"])
def test_a_text_file_of_ends_is_refused_at_once_with_the_way_that_works(dalle: Dalle, name):
    Path("ways.txt").write_text("a cat\na dog\n")
    result = dalle("interpolate", "--prompts", name, "--keep-going", stdin=b"a cat\na dog\n")
    assert result.code == 2
    assert result.err.splitlines()[0] == "error: a line of a text file is one end, and it takes two"
    line = hint(result).partition("such as ")[2]
    Path("ways.jsonl").write_text(line.replace("cat.png", "a cat") + "\n")
    assert dalle("interpolate", "--prompts", "ways.jsonl").code == 0


def test_a_picture_piped_where_words_are_expected_is_named(dalle: Dalle):
    assert dalle("generate", "a cat", "-o", "cat.png").code == 0
    picture = Path("cat.png").read_bytes()
    for data, kind in (
        (picture, "a PNG picture"),
        (b"GIF89a\x01\x00\x01\x00", "a GIF"),
        (b"PK\x03\x04\x00", "a ZIP archive"),
    ):
        result = dalle("generate", "-", "-o", "x.png", stdin=data)
        assert result.code == 2
        assert result.err.splitlines()[0].startswith(f"error: standard input is {kind}")
    assert (
        hint(dalle("generate", stdin=picture)) == "--init - paints over a picture, dalle vary - paints others like it"
    )
    for text in (b"BMW in the snow", b"MM in the snow"):
        assert dalle("generate", "-o", "-", stdin=text).code == 0
