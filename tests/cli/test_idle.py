"""Options that change nothing in the company of the others are refused by name."""

import pytest
from PIL import Image
from typer.main import get_command

from dallecli.cli.app import build
from dallecli.cli.idle import TABLE

from .conftest import Dalle


@pytest.fixture(autouse=True)
def pictures() -> None:
    Image.new("RGB", (64, 64), "red").save("cat.png")
    Image.new("RGB", (64, 64), "blue").save("dog.png")


@pytest.mark.parametrize(
    ("line", "option"),
    [
        ("interpolate a b --fps 9", "--fps"),
        ("interpolate a b --bounce", "--bounce"),
        ("edit cat.png --from a --to b --sweep 3 --hold 1", "--hold"),
        ("edit cat.png --from a --to b --x strength=0.1,0.2 --animate gif", "--animate"),
        ("vary cat.png --inversion-steps 9", "--inversion-steps"),
        ("interpolate cat.png dog.png --inversion-steps 9", "--inversion-steps"),
        ("embed cat.png --inversion-steps 9", "--inversion-steps"),
        ("embed cat.png --size 64", "--size"),
        ("embed x --prior-steps 9", "--prior-steps"),
        ("embed x --fast", "--fast"),
        ("embed x -s 3", "--seed"),
        ("embed x --invert", "--invert"),
        ("embed cat.png --imagine", "--imagine"),
        ("embed x -o x.png", "--output"),
        ("generate a -n 2 --x steps=2,3", "--num"),
        ("vary cat.png --layout files --y steps=2,3", "--layout"),
        ("generate --prompts p.txt --layout both", "--layout"),
        ("inpaint cat.png --mask 0,0,9,9 --show-mask --x steps=2,3", "--x"),
        ("inpaint cat.png --mask 0,0,9,9 --mask-mode alpha", "--mask-mode"),
        ("generate a -o - --force", "--force"),
        ("generate a -o - --no-history", "--no-history"),
        ("history fox --clear", "--clear"),
    ],
)
def test_an_option_without_an_effect_is_refused(dalle: Dalle, line, option):
    result = dalle(*line.split())
    assert result.code == 2
    assert option in result.err
    assert len(result.err.splitlines()) <= 3


@pytest.mark.parametrize(
    "line",
    [
        "interpolate a b --frames 3 --fps 9 -o x.gif",
        "edit cat.png --from a --to b --sweep 3 --bounce --animate gif",
        "vary cat.png --fidelity 0.5 --inversion-steps 9",
        "vary cat.png --x fidelity=0.2,0.5 --inversion-steps 9",
        "embed cat.png x --invert --imagine --seed 3 --fast",
        "embed x -o x.safetensors",
        "generate a --layout files",
        "inpaint cat.png --mask 0,0,9,9 --show-mask",
    ],
)
def test_an_option_with_an_effect_is_not(dalle: Dalle, line):
    result = dalle(*line.split())
    assert result.code == 0, result.err


def test_a_setting_may_be_idle(dalle: Dalle):
    dalle("config", "set", "fps", "9")
    dalle("config", "set", "inversion-steps", "9")
    assert dalle("interpolate", "a", "b").code == 0
    assert dalle("vary", "cat.png").code == 0


def test_a_dial_of_a_stage_that_does_not_run_is_named(dalle: Dalle):
    said = dalle("interpolate", "cat.png", "dog.png", "--prior-steps", "9", "--prior-candidates", "2").err
    assert "warning: --prior-steps changes nothing: that stage does not run for this" in said
    assert "warning: --prior-candidates changes nothing" in said
    assert "changes nothing" in dalle("generate", "a", "--size", "16", "--upsampler-steps", "9").err
    assert "changes nothing" not in dalle("generate", "a", "--upsampler-steps", "9", "--prior-steps", "9").err


def test_the_table_names_options_that_exist():
    commands = get_command(build()).commands
    commands = {**commands, **commands["probe"].commands}
    for idle in TABLE:
        for name in idle.commands:
            known = {param.name for param in commands[name].params}
            assert set(idle.options) <= known, (name, idle.options)
