"""Training on pictures of one's own: what comes out is a model, and what cannot be is said before anything is done."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

import dallecli
from dallecli.errors import BadFolder, BadInput, BadOutput, BadSetting, NotDownloaded
from dallecli.tasks.stages import PRIOR_KINDS
from dallecli.training.data import look
from dallecli.training.machine import Machine
from dallecli.training.preset_file import OWN, load_own, read_preset
from dallecli.training.project import Project
from dallecli.training.project_settings import choose_settings
from dallecli.training.stages.unclip import check, stages_of
from dallecli.training.state import load_average
from dallecli.training.states import CaptionsOnDemand, CaptionTable, caption_states
from tests.training.postcards import write_postcards

CPU = Machine(torch.device("cpu"))


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of captioned pictures."""
    folder = tmp_path_factory.mktemp("data") / "postcards"
    write_postcards(folder)
    return folder


def open_project(
    out: Path, data: Path, preset: str | None = "tiny", origin: str | None = None, changes: tuple[str, ...] = ()
) -> Project:
    """A project that has begun."""
    project = Project(out, choose_settings(out, preset, changes, origin), CPU)
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
    assert project.missing() == tuple(stage for stage in project.stages if stage != "autoregressive_prior")
    for stage in project.stages:
        train(project, stage)
    assert project.missing() == ()
    return out


@pytest.fixture
def copied(model: Path, tmp_path: Path) -> Path:
    """A copy of the tiny model that a test may go on with."""
    return shutil.copytree(model, tmp_path / "copied")


def test_diffusers_paints_with_what_comes_out(model: Path) -> None:
    from tests.oracle import open_pipeline

    pipeline = open_pipeline(model)
    image = pipeline(
        "a red square on blue",
        prior_num_inference_steps=2,
        decoder_num_inference_steps=2,
        super_res_num_inference_steps=2,
    )
    assert image.images[0].size == (64, 64)


@pytest.mark.parametrize("kind", PRIOR_KINDS)
def test_every_prior_paints_in_what_comes_out(model: Path, kind: str) -> None:
    opened = dallecli.open(str(model), device="cpu")
    (picture,) = opened.generate("a red square on blue", seed=1, fast=True, prior=kind)
    stages = {"diffusion": {"prior"}, "autoregressive": {"autoregressive_prior"}, "none": set()}[kind]
    assert picture.recipe.prior == kind
    assert set(picture.recipe.stages) == stages | {"decoder", "upsampler"}


def test_we_paint_with_what_comes_out(model: Path) -> None:
    from dallecli.studio.engine import LocalEngine
    from dallecli.tasks.generate import Generate
    from dallecli.tasks.stages import Dials

    engine = LocalEngine()
    two = Dials(steps=2)
    request = Generate(prompt="a red square on blue", model=str(model), seed=3, prior=two, decoder=two, upsampler=two)
    (picture,) = engine.paint(engine.resolve(request), lambda _: None)
    assert picture.image.size == (64, 64)


def test_the_model_has_the_averaged_weights_and_the_words_of_the_captions(model: Path, data: Path) -> None:
    project = open_project(model, data, preset=None)
    prior = project.chain.stages["prior"].fresh()
    load_average(prior, project.state_file("prior"))
    written = load_file(model / "prior" / "diffusion_pytorch_model.safetensors")
    assert all(torch.equal(written[name], weight.half()) for name, weight in prior.state_dict().items())
    assert all(len(project.tokenizer.encode(word).ids) == 32 for word in ("red", "square"))
    assert project.tokenizer.encode("red square on").mask.count(True) == 5  # start, three words, end
    assert project.cut == ()


def test_fresh_clip_embeddings_have_a_root_mean_square_of_one(model: Path, data: Path) -> None:
    images, _ = open_project(model, data, preset=None).chain.conditions()
    assert images.square().mean().sqrt().item() == pytest.approx(1, abs=0.1)  # scaled on these, averaged weights


def test_a_finished_stage_is_left_as_it_is_and_goes_on_with_a_larger_budget(copied: Path, data: Path) -> None:
    project = open_project(copied, data, preset=None)
    before = project.state_file("decoder").read_bytes()
    assert "2 steps are spent" in str(train(project, "decoder"))
    assert project.state_file("decoder").read_bytes() == before
    assert train(project, "decoder", steps=4) is None
    lines = (copied / "training" / "decoder" / "log.jsonl").read_text().splitlines()
    assert [json.loads(line)["step"] for line in lines] == [2, 4]


def test_parts_that_a_kill_left_unwritten_are_written(copied: Path, data: Path) -> None:
    shutil.rmtree(copied / "prior_scheduler")
    (copied / "model_index.json").unlink()
    project = open_project(copied, data, preset=None)
    assert "spent" in str(train(project, "prior"))
    assert project.missing() == ()
    assert (copied / "model_index.json").is_file()


def test_clip_is_not_moved_once_others_depend_on_it(copied: Path, data: Path) -> None:
    reason = str(train(open_project(copied, data, preset=None), "clip", 9))
    assert reason.startswith("prior, autoregressive_prior and decoder depend on it")


def test_a_stage_refuses_to_start_before_the_one_it_reads(data: Path, tmp_path: Path) -> None:
    with pytest.raises(NotDownloaded) as refused:
        open_project(tmp_path / "new", data).check_stages(("prior",))
    assert "dalle train clip" in str(refused.value.hint)


def test_a_model_whose_clip_cannot_see_is_refused_but_for_its_upsamplers(model: Path, tmp_path: Path) -> None:
    origin = tmp_path / "origin"
    shutil.copytree(model, origin, ignore=shutil.ignore_patterns("training", "image_encoder"))
    out = tmp_path / "tuned"
    project = Project(out, choose_settings(out, "tiny", (), str(origin)), CPU)
    project.check_stages(("upsampler",))
    for stage in ("clip", "prior", "decoder"):
        with pytest.raises(BadFolder, match="cannot see"):
            project.check_stages((stage,))


def test_a_model_is_begun_from_another_one_and_keeps_what_is_not_trained(
    model: Path, data: Path, tmp_path: Path
) -> None:
    origin = tmp_path / "origin"
    shutil.copytree(model, origin, ignore=shutil.ignore_patterns("training"))
    out = tmp_path / "tuned"
    project = open_project(out, data, preset=None, origin=str(origin))
    assert project.missing() == ()
    assert train(project, "decoder") is None
    assert not (origin / "training").exists()
    changed = {
        path.parent.name
        for path in out.glob("*/*.safetensors")
        if path.parent.name != "training" and path.read_bytes() != (origin / path.relative_to(out)).read_bytes()
    }
    assert changed == {"decoder", "text_proj"}
    # It began at the origin's weights: two steps of 1e-4 at the start of the warm-up move none by more.
    before, after = (load_file(one / "decoder" / "diffusion_pytorch_model.safetensors") for one in (origin, out))
    assert max((before[name].float() - after[name].float()).abs().max().item() for name in before) < 5e-4
    assert project.stale() == ()


def test_what_misreads_a_clip_that_has_moved_is_named(model: Path, data: Path, tmp_path: Path) -> None:
    project = open_project(tmp_path / "tuned", data, preset=None, origin=str(model))
    assert train(project, "clip") is None
    assert project.stale() == ("prior", "autoregressive_prior", "decoder")
    assert train(project, "prior") is None
    assert project.stale() == ("autoregressive_prior", "decoder")


def test_the_starter_can_be_gone_on_with(data: Path, tmp_path: Path) -> None:
    out = tmp_path / "tuned"
    project = open_project(out, data, preset=None, origin="starter")
    assert train(project, "prior", 1) is None
    from dallecli.studio.engine import LocalEngine
    from dallecli.tasks.generate import Generate
    from dallecli.tasks.stages import Dials

    engine = LocalEngine()
    two = Dials(steps=2)
    request = Generate(prompt="a cat", model=str(out), seed=3, size=16, prior=two, decoder=two)
    (picture,) = engine.paint(engine.resolve(request), lambda _: None)
    assert picture.image.size == (16, 16)


# What is refused


def test_a_folder_with_something_else_in_it_is_not_written_to(tmp_path: Path) -> None:
    (tmp_path / "mine.txt").write_text("mine")
    with pytest.raises(BadOutput, match="dalle train did not make it"):
        choose_settings(tmp_path, None, (), None)


@pytest.mark.parametrize(
    ("preset", "origin", "said"),
    [("small", None, "other sizes"), (None, "starter", "began from nothing")],
    ids=["preset", "origin"],
)
def test_a_project_is_not_gone_on_with_as_another_one(
    model: Path, preset: str | None, origin: str | None, said: str
) -> None:
    with pytest.raises(BadOutput, match=said):
        choose_settings(model, preset, (), origin)


def test_recipes_and_budgets_may_change_on_the_way_and_are_kept(copied: Path, data: Path) -> None:
    changes = ("recipes.decoder.caption_dropout=0.3", "runs.decoder.batch=4", "recipes.upsampler.corruption=bsr")
    project = open_project(copied, data, preset=None, changes=changes)
    again = open_project(copied, data, preset=None)
    for one in (project, again):
        assert one.preset.lessons.decoder.caption_dropout == 0.3
        assert one.preset.runs["decoder"].how.batch == 4
        assert one.preset.lessons.upsampler.corruption == "bsr"


def test_strict_data_are_whole_or_refused_with_the_names(data: Path, tmp_path: Path) -> None:
    shutil.copytree(data, tmp_path / "data")
    (tmp_path / "data" / "3.txt").unlink()
    out = tmp_path / "new"
    project = Project(out, choose_settings(out, "tiny", (), None), CPU)
    listing = look([tmp_path / "data"])
    with pytest.raises(BadInput, match=r"1 without a caption \(3.png\)"):
        project.begin(listing, project.terms(listing, None, False), strict=True, watch=lambda done, of: None)
    assert [path for path in out.rglob("*") if path.is_file()] == [out / "training" / "left-out.jsonl"]
    project.begin(listing, project.terms(listing, None, False), strict=False, watch=lambda done, of: None)
    assert [json.loads(line)["name"] for line in (out / "training" / "left-out.jsonl").read_text().splitlines()] == [
        "3.png"
    ]


# Presets


@pytest.mark.parametrize("name", OWN)
def test_every_preset_describes_networks_that_fit_each_other(name: str) -> None:
    preset = read_preset(load_own(name), name)
    check(preset)
    stages = ["clip", "prior", "autoregressive_prior", "decoder", "upsampler", "upsampler_2"]
    stages = stages[: 4 + len(preset.upsamplers)]
    assert list(preset.runs) == stages


def test_karlo_has_karlos_sizes_and_the_papers_training() -> None:
    preset = read_preset(load_own("karlo"), "karlo")
    published = Path(__file__).parents[1] / "nets" / "published_keys"
    for stage, part in (("prior", "prior"), ("upsampler", "super_res_first")):
        with torch.device("meta"):
            net = stages_of(preset)[stage].fresh()
        shapes = json.loads((published / f"{part}.json").read_text())
        shapes = shapes.get("state_dict", shapes)
        assert {name: list(tensor.shape) for name, tensor in net.state_dict().items()} == shapes
    assert (preset.lessons.decoder.caption_dropout, preset.lessons.decoder.embedding_dropout) == (0.5, 0.1)
    assert preset.lessons.decoder.both == pytest.approx(0.05)
    assert (preset.lessons.prior.scale, preset.lessons.upsampler.corruption) == (17.2, "blur")


def without(key: str) -> Callable[[dict[str, object]], object]:
    return lambda table: table.pop(key)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("runs.decoder.batch=0", "batch is 0"),
        ("runs.decoder.bach=8", "bach"),
        ("runs.decoder=8", "runs.decoder is not a table"),
        ("recipes.decoder.caption_dropout=much", "caption_dropout"),
        ("recipes.painter.dropout=1", "painter"),
        ("recipes.upsampler.corruption=rust", "rust"),
        ("prior.embedding_dim=48", "need 48"),
        ("decoder.block_out_channels=[7, 16]", "7 channels"),
        ("decoder.sample_size=12", "whole multiple"),
        ("image_encoder.imagesize=16", "imagesize"),
        ("colour=red", "colour"),
        ("context=0", "context is 0"),
        ("no equals sign", "not a change"),
        ("decoder.sample_size=0", "sample_size is 0"),
        ("text_proj.clip_extra_context_tokens=0", "clip_extra_context_tokens is 0"),
        ("text_proj.clip_extra_context_tokens=many", "clip_extra_context_tokens is 'many'"),
        ("text_proj.cross_attention_dim=64", "text_proj has no setting cross_attention_dim"),
        ("runs.decoder.muon=perhaps", "muon"),
    ],
)
def test_a_preset_that_cannot_be_is_refused_by_the_name_of_the_setting(tmp_path: Path, change: str, said: str) -> None:
    out = tmp_path / "new"
    with pytest.raises(BadSetting, match=said):
        Project(out, choose_settings(out, "tiny", (change,), None), CPU)
    assert not out.exists()


@pytest.mark.parametrize(("name", "said"), [("huge", "huge"), ("gone.toml", "gone.toml"), ("bad.toml", "not TOML")])
def test_a_preset_that_is_none_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, said: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("bad.toml").write_text("context = = 3")
    with pytest.raises(BadSetting) as refused:
        load_own(name)
    assert said in " ".join(refused.value.lines())


# States


def test_captions_read_on_the_way_have_the_states_of_those_read_before(model: Path, data: Path) -> None:
    project = open_project(model, data, preset=None)
    text_encoder, dataset = project.chain.trained("clip").text_encoder, project.chain.dataset
    samples, drop = torch.tensor([3, 0, 7]), torch.tensor([False, True, False])
    before = caption_states(text_encoder, dataset.ids, dataset.empty)
    assert isinstance(before, CaptionTable)
    on_the_way = CaptionsOnDemand(text_encoder, dataset.ids, dataset.empty)
    for trim in (False, True):
        one, two = before.states(samples, drop, trim), on_the_way.states(samples, drop, trim)
        assert torch.equal(one.mask, two.mask)
        assert torch.allclose(one.embedding, two.embedding, atol=1e-5)
        # Kept in half precision; what stands where the mask is False is looked at by nobody.
        assert torch.allclose(one.hidden[one.mask], two.hidden[two.mask], atol=2e-3)


@pytest.mark.parametrize("good", [0, 1])
def test_what_was_left_out_is_named_also_where_nothing_is_left_to_train_on(
    data: Path, tmp_path: Path, good: int
) -> None:
    mine, out = tmp_path / "data", tmp_path / "new"
    mine.mkdir()
    for name in ["0.png", "0.txt"][: 2 * good]:
        shutil.copyfile(data / name, mine / name)
    for name in ("torn", "ripped"):
        (mine / f"{name}.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
        (mine / f"{name}.txt").write_text("a torn one")
    (mine / "alone.png").write_bytes(b"x")
    with pytest.raises(BadInput, match=r"train(ed)? on") as refused:
        open_project(out, mine)
    list_file = out / "training" / "left-out.jsonl"
    assert refused.value.where == str(list_file)
    assert {json.loads(line)["name"] for line in list_file.read_text().splitlines()} == {
        *("torn.png", "ripped.png", "alone.png")
    }
    assert open_project(out, data).album.held_out > 0
