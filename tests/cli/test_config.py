"""`dalle config` sets, shows and removes the defaults of options, and what is said on a command line wins over them."""

from pathlib import Path

import pytest
from PIL import Image

from dallecli.tasks.stages import RESPACINGS

from .conftest import Dalle


def test_what_is_set_is_shown_used_and_removed(dalle: Dalle, tmp_path):
    path = tmp_path / "home" / "config.toml"
    assert dalle("config", "where").lines == [str(path)]
    assert dalle("config", "get").lines == []
    assert dalle("config", "set", "steps", "9").err == f"steps = 9 ({path})\n"
    assert dalle("config", "set", "out", "my pictures", "-q").err == ""
    assert path.read_text() == 'steps = 9\nout = "my pictures"\n'
    assert dalle("config", "get").lines == ["steps = 9", 'out = "my pictures"']
    assert dalle("config", "get", "out", "--json").objects == [{"option": "out", "value": "my pictures"}]
    (shown,) = dalle("generate", "a fox", "--dry-run", "--json").objects
    assert shown["recipe"]["stages"]["decoder"]["steps"] == 9
    assert dalle("config", "unset", "steps").code == 0
    assert path.read_text() == 'out = "my pictures"\n'


def test_everything_else_in_the_file_stays(dalle: Dalle, tmp_path):
    path = tmp_path / "home" / "config.toml"
    path.parent.mkdir()
    path.write_text("# mine\nsteps = 9  # few\n\nmask = [\n  '1,1,2,2',\n]\nquiet = true\n")
    assert dalle("config", "set", "steps", "7").code == 0
    assert dalle("config", "set", "--size", "16").code == 0
    text = "# mine\nsteps = 7\n\nmask = [\n  '1,1,2,2',\n]\nquiet = true\nsize = 16\n"
    assert path.read_text() == text
    refused = dalle("config", "unset", "mask")
    assert (refused.code, path.read_text()) == (2, text)
    assert "mask cannot be changed here" in refused.err


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (["set", "layout", "pile"], "layout is 'pile', it should be one of grid, files, both"),
        (["set", "steps", "many"], f"steps is 'many', it should be a whole number, or one of {', '.join(RESPACINGS)}"),
        (["set", "guidance", "high"], "guidance is 'high', it should be a number"),
        (["set", "quiet", "1"], "quiet is '1', it should be true or false"),
        (["set", "dtype", "int4"], "no number type is called 'int4'"),
        (["set", "nope", "1"], "'nope' is not a setting"),
        (["set", "prompts", "x.txt"], "'prompts' belongs to one run, and is no setting"),
        (["set", "guidance", "nan"], "guidance is nan, it should be a finite number"),
        (["unset", "steps"], "steps is not set"),
        (["get", "steps"], "steps is not set"),
        (["get", "nope"], "'nope' is not a setting"),
    ],
)
def test_what_cannot_be_a_default_is_refused_and_not_written(dalle: Dalle, tmp_path, words, what):
    result = dalle("config", *words)
    assert (result.code, result.err.splitlines()[0]) == (2, f"error: {what}")
    assert not (tmp_path / "home" / "config.toml").exists()


def test_names_of_other_programs_are_answered(dalle: Dalle):
    assert "did you mean guidance?" in dalle("config", "set", "cfg", "3").err
    assert dalle("config", "set", "dtype", "float16").code == 0
    assert dalle("config", "get", "dtype").lines == ['"fp16"']


@pytest.mark.parametrize(
    ("defaults", "command"),
    [
        ({"out": "pics", "layout": "files", "format": "webp"}, ["generate", "a fox", "-n", "2", "-o", "x.png"]),
        ({"matrix": "true", "share": "true"}, ["generate", "a fox"]),
        ({"frames": "9"}, ["interpolate", "a fox", "a hen", "--at", "0.5"]),
        ({"weights": "1,2"}, ["interpolate", "a fox", "a hen", "--frames", "3"]),
        ({"sweep": "3"}, ["edit", "cat.png", "--from", "a cat", "--to", "a dog", "--strength", "0.5"]),
        ({"animate": "gif", "x": "steps=2,3"}, ["generate", "--prompts", "p.txt"]),
    ],
    ids=str,
)
def test_a_default_gives_way_to_an_option_that_contradicts_it(dalle: Dalle, defaults, command):
    Image.new("RGB", (32, 32)).save("cat.png")
    Path("p.txt").write_text("a fox\n")
    for name, value in defaults.items():
        assert dalle("config", "set", name, value).code == 0
    result = dalle(*command)
    assert result.code == 0, result.err


def test_a_list_and_an_animation_can_be_defaults(dalle: Dalle):
    assert dalle("config", "set", "at", "0.25,0.75").code == 0
    assert len(dalle("interpolate", "a fox", "a hen", "--json").objects) == 2
    assert dalle("config", "unset", "at").code == 0
    assert dalle("config", "set", "animate", "gif").code == 0
    assert dalle("interpolate", "a fox", "a hen", "-s", "7").lines == ["a-fox-to-a-hen-7.gif"]


def test_a_config_file_may_begin_with_a_byte_order_mark(dalle: Dalle, tmp_path):
    path = tmp_path / "home" / "config.toml"
    path.parent.mkdir()
    path.write_bytes(b"\xef\xbb\xbfseed = 7\n")
    assert dalle("config", "get", "seed").lines == ["7"]
    assert dalle("config", "set", "steps", "9").code == 0
    assert [dalle("config", "get", name).lines for name in ("seed", "steps")] == [["7"], ["9"]]


def test_the_home_of_nobody_is_named_and_no_mistake_of_ours(dalle: Dalle, tmp_path):
    path = tmp_path / "home" / "config.toml"
    path.parent.mkdir()
    path.write_text('out = "~nobody-of-that-name/x"\n')
    result = dalle("generate", "a fox", "--dry-run")
    assert (result.code, "nobody's home is known by that name" in result.err) == (2, True)


FOREIGN = {
    "steps": "12",
    "size": "256",
    "sampler": "ddim",
    "prior": "diffusion",
    "prior-candidates": "2",
    "fast": "true",
}
"""What the starter can do, and starter-1 cannot."""


@pytest.mark.parametrize("command", [["generate", "a fox"], ["generate", "--prompts", "p.txt"]])
def test_a_default_that_a_model_cannot_follow_does_not_count_and_that_is_said(dalle: Dalle, local: None, command):
    Path("p.txt").write_text("a fox\n")
    for name, value in FOREIGN.items():
        assert dalle("config", "set", name, value).code == 0
    result = dalle(*command, "--dry-run", "--model", "starter-1")
    assert result.code == 0, result.err
    for name in FOREIGN:
        assert f"so {'effort' if name == 'fast' else name} of the config file does not count" in result.err.replace(
            "_", "-"
        )
    assert "does not count" not in dalle(*command, "--dry-run").err


@pytest.mark.parametrize(("option", "value"), FOREIGN.items())
def test_the_same_on_the_command_line_is_refused(dalle: Dalle, local: None, option, value):
    words = (f"--{option}",) if option == "fast" else (f"--{option}", value)
    result = dalle("generate", "a fox", "--dry-run", "--model", "starter-1", *words)
    assert result.code == 2, result.err


def test_what_is_typed_counts_although_it_is_a_default_too(dalle: Dalle, local: None):
    assert dalle("config", "set", "steps", "12").code == 0
    result = dalle("generate", "a fox", "--dry-run", "--model", "starter-1", "--steps", "12")
    assert (result.code, "has no steps" in result.err) == (2, True)
