"""`dalle models`: the registry for people and for programs, without torch and without the network."""

from pathlib import Path

import pytest

from dallecli.weights.registry import registry

from .conftest import Dalle


def test_every_model_is_listed(dalle: Dalle):
    result = dalle("models", "list")
    assert (result.code, result.err) == (0, "")
    title, *rows = result.lines
    assert title.split() == ["NAME", "HERE", "PIXELS", "WHAT"]
    assert [row.split()[0] for row in rows] == list(registry())


def test_every_fact_is_in_the_json(dalle: Dalle):
    for facts, spec in zip(dalle("models", "list", "--json").objects, registry().values(), strict=True):
        assert facts["name"] == spec.name
        assert facts["licence"] == spec.licence
        assert facts["sizes"] == list(spec.sizes)
        assert facts["stages"]["decoder"]["steps"] == spec.stages["decoder"].steps


def test_a_model_in_the_hub_cache_is_noticed(dalle: Dalle, monkeypatch, tmp_path):
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    here = {facts["name"]: facts["here"] for facts in dalle("models", "list", "--json").objects}
    assert (here["starter"], here["karlo"]) == ("included", "no")
    (tmp_path / "models--kakaobrain--karlo-v1-alpha" / "snapshots" / "abc").mkdir(parents=True)
    here = {facts["name"]: facts["here"] for facts in dalle("models", "list", "--json").objects}
    assert here["karlo"] == "cached"


@pytest.mark.parametrize("name", ["nope", "starterr", "\x1b[31m"])
def test_the_path_of_an_unknown_model_is_an_error(dalle: Dalle, name):
    result = dalle("models", "path", name)
    assert (result.code, result.out) == (2, b"")
    assert "\x1b" not in result.err


def test_the_path_of_a_folder_that_is_no_model_is_an_error(dalle: Dalle):
    Path("empty").mkdir()
    result = dalle("models", "path", "./empty")
    assert (result.code, result.out) == (3, b"")
