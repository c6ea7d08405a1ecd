"""`dalle doctor`: findings that are true, and the exit code of what would go wrong."""

import platform
from pathlib import Path

import pytest

from dallecli import __version__
from dallecli.cli.settings import config_path

from .conftest import Dalle


def test_findings_name_versions_machine_and_placement(dalle: Dalle):
    result = dalle("doctor", "--device", "cpu", "--json")
    (findings,) = result.objects
    assert findings["versions"]["dalle"] == __version__
    assert findings["versions"]["python"] == platform.python_version()
    assert findings["placement"]["device"] == "cpu"
    assert findings["placement"]["why"]
    assert findings["settings"]["config"] == "nothing set"
    assert result.code == (findings["problems"][0]["exit_code"] if findings["problems"] else 0)


def test_a_model_that_is_not_here_is_a_problem_with_its_code(dalle: Dalle):
    result = dalle("doctor", "--model", "./missing")
    assert result.code == 2
    assert any(line.startswith("problem") for line in result.lines)


def test_settings_are_shown_with_what_they_change(dalle: Dalle, monkeypatch):
    config_path().parent.mkdir(parents=True)
    config_path().write_text('model = "./missing"\nsteps = 9\n')
    monkeypatch.setenv("DALLE_DEVICE", "cpu")
    (findings,) = dalle("doctor", "--json").objects
    assert findings["settings"]["config"] == "model=./missing, steps=9"
    assert "DALLE_DEVICE=cpu" in findings["settings"]["environment"]
    assert findings["model"]["model"] == "./missing"


def test_a_broken_config_file_is_a_finding(dalle: Dalle):
    config_path().parent.mkdir(parents=True)
    config_path().write_text("nope = 1")
    result = dalle("doctor")
    assert result.code == 2
    assert "'nope' is not a setting" in result.out.decode()
    assert Path(str(config_path())).name in result.out.decode()


@pytest.mark.parametrize(
    ("memory", "words"), [("low", "one network at a time; at most"), ("high", "all networks are kept; at most")]
)
def test_the_memory_plan_of_a_model_is_shown_with_what_its_networks_take(dalle: Dalle, memory: str, words: str):
    (findings,) = dalle("doctor", "--device", "cpu", "--memory", memory, "--json").objects
    assert findings["placement"]["memory plan"].startswith(words)
    assert findings["placement"]["networks at work"].startswith("text_encoder ")


def test_a_model_that_is_not_here_has_no_memory_plan_and_is_one_problem(dalle: Dalle):
    (findings,) = dalle("doctor", "--device", "cpu", "--model", "./missing", "--json").objects
    assert "memory plan" not in findings["placement"]
    assert len(findings["problems"]) == 1
