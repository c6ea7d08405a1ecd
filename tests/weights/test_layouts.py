"""The table of families: every entry means what it says, and a model has the stages that its parts run."""

from dataclasses import replace
from pathlib import Path

import pytest

from dallecli.pipelines.description import Description
from dallecli.size import Size
from dallecli.tasks.stages import Stage
from dallecli.weights.layouts import LAYOUTS, Layout, StageParts, imported
from dallecli.weights.registry import ModelSpec, find, registry
from weights.model_folder import write_json, write_model

FAMILIES = pytest.mark.parametrize("family", LAYOUTS.values(), ids=LAYOUTS)


@FAMILIES
def test_what_describes_and_opens_a_folder_can_be_imported(family: Layout) -> None:
    assert issubclass(imported(family.description), Description)
    assert callable(imported(family.opener))


@FAMILIES
def test_an_entry_speaks_of_parts_that_it_knows(family: Layout) -> None:
    # a sister layout's, by which this one's lack is known
    shared = {"prior", "autoregressive_prior", "image_encoder", "prior_text_encoder"}
    optional = {part for group in family.optional for part in group}
    parts = {*family.networks, *family.schedules, *family.others, *optional}
    assert {*family.steps, *family.planes, *family.caches, *family.precise, *family.tasks.values()} <= parts | shared
    assert {*family.fallbacks, *family.fallbacks.values()} <= parts
    for runs in family.stages:
        if runs.network not in shared - parts:
            assert {runs.network, runs.schedule, runs.sized} - {None} <= parts


@FAMILIES
def test_a_folder_gets_the_dials_of_a_model_that_is_registered(family: Layout) -> None:
    assert isinstance(family.dials, str)
    assert registry()[family.dials].tasks


def test_a_model_without_a_prior_has_neither_its_stage_nor_its_candidates(tmp_path: Path) -> None:
    model = write_model(tmp_path / "pictures")
    write_json(model / "model_index.json", {"_class_name": "UnCLIPImageVariationPipeline"})
    (model / "prior").rename(model / "image_encoder")
    spec = find(str(model))
    assert [stage.name for stage in spec.declared] == ["decoder", "upsampler"]
    assert (spec.prior_candidates, list(spec.stages)) == (None, ["decoder", "upsampler"])


def test_a_size_is_painted_by_the_stages_up_to_the_one_that_makes_it(tmp_path: Path) -> None:
    spec = find(str(write_model(tmp_path / "cascade", second=True)))
    assert spec.running(Size.square(16)) == ("decoder",)
    assert spec.running(Size.square(64)) == ("decoder", "upsampler")
    assert spec.running(Size.square(256)) == ("decoder", "upsampler", "upsampler_2")


def test_a_model_that_paints_any_size_runs_all_its_painting_stages() -> None:
    assert find("kandinsky").running(Size.square(700)) == ("decoder",)


def test_stages_that_make_no_picture_run_before_the_one_that_does(monkeypatch: pytest.MonkeyPatch) -> None:
    names = ("outline", "colours", "detail", "enlarger")
    sized = {"colours": "colours", "enlarger": "enlarger"}
    stages = tuple(
        StageParts(stage=Stage(name=name, group="decoder"), network=name, sized=sized.get(name)) for name in names
    )
    monkeypatch.setitem(LAYOUTS, "drawn", replace(LAYOUTS["karlo"], stages=stages))
    declared = tuple(runs.stage for runs in stages)
    spec: ModelSpec = replace(registry()["starter"], layout="drawn", declared=declared, sizes=(64, 256))
    assert spec.running(Size.square(64)) == ("outline", "colours")
    assert spec.running(Size.square(256)) == names
