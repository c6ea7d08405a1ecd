"""Training a model of DALL·E 1's kind on pictures of one's own: what comes out is a model."""

import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from dallecli.errors import BadOutput, BadSetting
from dallecli.studio.engine import LocalEngine
from dallecli.tasks.generate import Generate
from dallecli.training.data import look
from dallecli.training.kinds import TOKENS, UNCLIP
from dallecli.training.machine import Machine
from dallecli.training.preset_file import changed, load_own
from dallecli.training.project import Project
from dallecli.training.project_settings import choose_settings
from dallecli.training.token_preset import check_tokens, read_token_preset
from tests.training.postcards import write_postcards

CPU = Machine(torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of captioned pictures."""
    folder = tmp_path_factory.mktemp("data") / "postcards"
    write_postcards(folder)
    return folder


def open_project(out: Path, data: Path, origin: str | None = None) -> Project:
    """A project that has begun."""
    project = Project(out, choose_settings(out, "tokens-tiny", (), origin, TOKENS), CPU)
    listing = look([data])
    project.begin(listing, project.terms(listing, None, False), strict=False, watch=lambda done, of: None)
    return project


def train(project: Project, stage: str, steps: int = 2) -> str | None:
    return project.train_stage(stage, seconds=1e9, steps=steps)


@pytest.fixture(scope="module")
def model(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model, every stage trained for two steps."""
    out = tmp_path_factory.mktemp("trained") / "model"
    project = open_project(out, data)
    assert project.missing() == ("dvae", "transformer")
    for stage in project.stages:
        train(project, stage)
    assert project.missing() == ()
    return out


def test_we_paint_with_what_comes_out_and_its_size_is_the_presets(model: Path) -> None:
    engine = LocalEngine()
    recipe = engine.resolve(Generate(prompt="a red square on blue", model=str(model), seed=3, device="cpu"))
    (picture,) = engine.paint(recipe, lambda _: None)
    assert picture.image.size == (16, 16)


def test_a_finished_stage_is_left_as_it_is_and_goes_on_with_a_larger_budget(
    model: Path, data: Path, tmp_path: Path
) -> None:
    copied = shutil.copytree(model, tmp_path / "copied")
    weights = copied / "decoder" / "diffusion_pytorch_model.safetensors"
    before = load_file(weights)
    project = open_project(copied, data)
    assert "are spent" in str(train(project, "transformer"))
    assert train(project, "transformer", steps=4) is None
    assert any(not torch.equal(load_file(weights)[key], tensor) for key, tensor in before.items())


def test_a_model_is_begun_from_another_one_whose_codes_stay(model: Path, data: Path, tmp_path: Path) -> None:
    project = open_project(tmp_path / "tuned", data, str(model))
    assert project.stages == ("dvae", "transformer")
    for stage in project.stages:
        train(project, stage)
    one, other = (load_file(path / "dvae_encoder" / "model.safetensors") for path in (model, tmp_path / "tuned"))
    assert all(torch.equal(other[key], tensor) for key, tensor in one.items())


def test_a_project_of_one_kind_is_not_gone_on_with_as_another(model: Path) -> None:
    with pytest.raises(BadOutput) as refused:
        choose_settings(model, None, (), None, UNCLIP)
    assert "dalle train tokens" in str(refused.value.hint)


@pytest.mark.parametrize(("kind", "preset", "origin"), [(TOKENS, "tokens-tiny", "starter"), (UNCLIP, "tiny", "model")])
def test_a_model_of_another_kind_is_not_begun_from(
    model: Path, tmp_path: Path, kind: object, preset: str, origin: str
) -> None:
    settings = choose_settings(tmp_path / "out", preset, (), origin.replace("model", str(model)), kind)  # type: ignore[arg-type]
    with pytest.raises(BadSetting, match=r"no codes|no prior"):
        Project(tmp_path / "out", settings, CPU)


@pytest.mark.parametrize("name", TOKENS.presets)
def test_every_preset_describes_networks_that_fit_each_other(name: str) -> None:
    check_tokens(read_token_preset(load_own(name, TOKENS.presets), name))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("size=18", r"no multiple of dvae\.patch_size"),
        ("dvae.codes=0", "codes is 0"),
        ("dvae.components=49", "a patch has 48 numbers"),
        ("dvae.width=7", "two for each of the 4 components"),
        ("transformer.n_heads=5", "no multiple of n_heads"),
        ("transformer.n_head=4", "transformer has no setting n_head"),
        ("recipes.dvae.rate=1", r"recipes\.dvae has no setting rate"),
    ],
)
def test_a_preset_that_cannot_be_is_refused_by_the_name_of_the_setting(change: str, said: str) -> None:
    with pytest.raises(BadSetting, match=said):
        check_tokens(read_token_preset(changed(load_own("tokens-tiny", TOKENS.presets), (change,)), "mine"))
