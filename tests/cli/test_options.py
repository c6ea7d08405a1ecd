"""The option classes: what they say of a request, and that a new option is declared in one place."""

import json
import subprocess
import sys

import pytest
import typer

from dallecli.cli.app import build
from dallecli.cli.edit import EditOptions
from dallecli.cli.interpolate import InterpolateOptions
from dallecli.cli.options import (
    BatchOptions,
    ChainDials,
    EffortOptions,
    InversionDials,
    ModelOptions,
    PainterDials,
    PictureOptions,
    PriorDials,
    SamplerDials,
    values_of,
)
from dallecli.errors import BadSetting
from dallecli.tasks.builder import build_request

from .conftest import environment

TYPED = typer.Context(typer.main.get_command(build()))
CHAIN = ChainDials(effort=EffortOptions(fast=True), prior=PriorDials(prior_steps=5), painter=SamplerDials(steps=9))


def test_the_fields_of_options_are_the_values_of_a_request():
    asked = InterpolateOptions(
        weights="2,1",
        n=2,
        picture=PictureOptions(seed=7),
        model=ModelOptions(context=TYPED, device="cpu"),
        dials=CHAIN,
        inversion=InversionDials(),
    )
    request = build_request("interpolate", {"ends": ["a fox", "a hen"]}, values_of(asked))
    assert (request.weights, request.count, request.seed, request.device) == ((2.0, 1.0), 2, 7, "cpu")
    assert (request.prior.steps, request.decoder.steps, request.effort) == (5, 9, "fast")


def test_a_field_may_have_a_name_that_python_keeps_for_itself():
    asked = EditOptions(
        from_="a",
        to="b",
        picture=PictureOptions(),
        model=ModelOptions(context=TYPED),
        effort=EffortOptions(),
        painter=PainterDials(),
        inversion=InversionDials(),
    )
    values = values_of(asked)
    assert (values["from"], values["to"], values["effort"]) == ("a", "b", None)
    assert "from_" not in values and "fast" not in values


def test_an_option_that_may_be_repeated_and_is_not_there_says_nothing():
    asked = InterpolateOptions(
        at=[], picture=PictureOptions(), model=ModelOptions(context=TYPED), dials=CHAIN, inversion=InversionDials()
    )
    assert "at" not in values_of(asked)


@pytest.mark.parametrize("options", [{"matrix": True}, {"shard": "1/2"}, {"wildcards": "lists"}])
def test_options_of_a_prompt_file_mean_nothing_without_one(options):
    (name,) = options
    with pytest.raises(BadSetting, match=f"--{name} is about a prompt file"):
        BatchOptions(**options)
    assert BatchOptions(file="x.txt", **options).file == "x.txt"


def test_a_new_option_of_a_class_is_in_every_command_that_takes_it():
    code = """
import dataclasses, json
from typing import Annotated
import typer
from dallecli.cli import options

@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class More(options.SamplerDials):
    eta: Annotated[float | None, typer.Option("--eta", rich_help_panel="Sampling")] = None

options.SamplerDials = More
options.ChainDials.__annotations__["painter"] = More
from dallecli.cli.app import build
from typer.main import get_command
found = {}
for name, command in get_command(build()).commands.items():
    found[name] = ["--eta"] in [param.opts for param in command.params]
print(json.dumps(sorted(name for name in found if found[name])))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=environment(), timeout=60)
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout) == ["generate", "inpaint", "interpolate", "vary"]
