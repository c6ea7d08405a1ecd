"""The command that a hint names installs a package where dalle is, with pip, pipx or uv."""

import sys
import tomllib
from pathlib import Path

import pytest

from dallecli import installation
from dallecli.installation import EXTRAS, extra_command, install_command

ROOT = Path(__file__).parents[1]


@pytest.fixture
def environment(tmp_path, monkeypatch):
    """An environment that is called dalle-shell, as Python sees the one that it runs in."""
    own = tmp_path / "dalle-shell"
    own.mkdir()
    monkeypatch.setattr(sys, "prefix", str(own))
    monkeypatch.setattr(sys, "executable", str(own / "bin" / "python"))
    return own


def test_the_extras_in_hints_are_those_of_the_project():
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    own = ("test", "browser")  # for who works on dalle
    assert {name: tuple(packages) for name, packages in extras.items() if name not in own} == dict(EXTRAS)


def test_the_distribution_is_not_called_like_the_project_of_somebody_else():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["name"] == "dalle-shell"
    assert project["scripts"] == {"dalle": "dallecli.cli.app:main"}


def test_pip_is_the_one_of_the_interpreter_that_runs(environment):
    assert extra_command("video") == f"{environment}/bin/python -m pip install 'av>=15.0'"


def test_what_pipx_installed_is_added_to_with_pipx(environment):
    (environment / "pipx_metadata.json").write_text("{}")
    assert extra_command("video") == "pipx inject dalle-shell 'av>=15.0'"
    assert install_command("torch", upgrade=True) == "pipx runpip dalle-shell install --upgrade torch"


def test_what_uv_installed_as_a_tool_is_added_to_with_uv(environment):
    (environment / "uv-receipt.toml").write_text("")
    assert extra_command("video") == f"uv pip install --python {environment}/bin/python 'av>=15.0'"


def test_an_environment_without_pip_is_added_to_with_uv(environment, monkeypatch):
    monkeypatch.setattr(installation, "find_spec", lambda name: None)
    assert extra_command("train").startswith("uv pip install --python ")


def test_no_page_and_no_hint_installs_the_project_of_somebody_else():
    pages = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "dallecli").rglob("*.py")]
    assert [page for page in pages if "dallecli[" in page.read_text(encoding="utf-8")] == []
