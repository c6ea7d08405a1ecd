"""The local engine on tiny random models in the published layout."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import oracle
import pytest
import torch
from PIL import Image

from dallecli.engine import Engine, Progress
from dallecli.errors import (
    BadFile,
    BadFolder,
    BadSetting,
    BadSize,
    BadSteps,
    DalleError,
    LayoutMismatch,
    NoSuchDevice,
    OutOfMemory,
    PromptTooLong,
    UnknownModel,
    UnknownSampler,
)
from dallecli.pictures.picture import Picture
from dallecli.recipe import Recipe
from dallecli.size import Size
from dallecli.studio.batches import paint_in_batches
from dallecli.studio.engine import LocalEngine
from dallecli.studio.memory import memory_errors
from dallecli.tasks.generate import Generate
from dallecli.tasks.stages import Dials

FAST = Dials(steps=3)


@pytest.fixture(scope="module")
def cascade(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny model with two upsamplers, 8 to 16 to 32 pixels."""
    return oracle.write(tmp_path_factory.mktemp("models") / "cascade", oracle.SHAPES["starter"])


@pytest.fixture
def model(cascade: Path, tmp_path: Path) -> Path:
    """A copy that a test may damage."""
    return shutil.copytree(cascade, tmp_path / "model")


def ask(model: Path | str, **changes: Any) -> Generate:
    dials: dict[str, Any] = {"seed": 7, "prior": FAST, "decoder": FAST, "upsampler": FAST, "dtype": "fp32"}
    return Generate(prompt="a red cat", model=str(model), **(dials | changes))


def paint(engine: LocalEngine, request: Generate) -> list[Picture]:
    return list(engine.paint(engine.resolve(request), lambda step: None))


def pixels(picture: Picture) -> bytes:
    return picture.image.tobytes()


def refusal(act: Callable[[], object], kind: type[DalleError]) -> DalleError:
    with pytest.raises(kind) as raised:
        act()
    assert len(raised.value.lines()) <= 3
    return raised.value


def test_the_engine_keeps_the_contract_of_engines() -> None:
    engine: Engine = LocalEngine()
    assert engine is not None


def test_a_request_becomes_a_recipe_with_the_models_own_dials(cascade: Path) -> None:
    recipe = LocalEngine().resolve(Generate(prompt="a red cat", model=str(cascade), seed=0))
    assert recipe.model == "cascade"
    assert recipe.seed == 0
    assert recipe.size == Size.square(32)
    assert list(recipe.stages) == ["prior", "decoder", "upsampler", "upsampler_2"]
    assert recipe.stages["decoder"].steps == 25
    assert recipe.digest is None


def test_without_a_seed_every_request_gets_its_own(cascade: Path) -> None:
    engine = LocalEngine()
    assert engine.resolve(ask(cascade, seed=None)).seed != engine.resolve(ask(cascade, seed=None)).seed


def test_resolving_needs_no_torch(cascade: Path) -> None:
    code = (
        "import sys; from dallecli.studio.engine import LocalEngine; from dallecli.tasks.generate import Generate;"
        f"LocalEngine().resolve(Generate(prompt='a cat', model={str(cascade)!r})); print('torch' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_a_painted_picture_knows_all_that_made_it(cascade: Path) -> None:
    (picture,) = paint(LocalEngine(), ask(cascade, device="cpu"))
    recipe = picture.recipe
    assert picture.image.size == (32, 32)
    assert picture.image.mode == "RGB"
    assert picture.seconds > 0
    assert -1 <= picture.scores["prior"] <= 1
    assert recipe.device == "cpu"
    assert recipe.dtype == "fp32"
    assert recipe.versions["torch"] == torch.__version__
    assert recipe.digest is not None
    assert len(recipe.digest) == 64
    assert Recipe.from_json(recipe.to_json()) == recipe


def test_a_picture_can_be_painted_again_from_its_recipe(cascade: Path) -> None:
    engine = LocalEngine()
    (picture,) = paint(engine, ask(cascade))
    (again,) = engine.paint(picture.recipe, lambda step: None)
    assert pixels(again) == pixels(picture)
    assert again.recipe == picture.recipe


def test_picture_k_is_the_picture_of_seed_plus_k_to_the_last_bit(cascade: Path) -> None:
    engine = LocalEngine()
    several = paint(engine, ask(cascade, count=3, seed=40))
    assert [picture.recipe.seed for picture in several] == [40, 41, 42]
    assert [picture.recipe.count for picture in several] == [1, 1, 1]
    (alone,) = paint(LocalEngine(), ask(cascade, seed=42))
    assert pixels(alone) == pixels(several[2])
    assert pixels(several[0]) != pixels(several[1])


@pytest.mark.parametrize(("size", "stages"), [(8, 2), (16, 3), (32, 4)])
def test_a_smaller_size_leaves_upsamplers_out(cascade: Path, size: int, stages: int) -> None:
    engine = LocalEngine()
    request = ask(cascade, size=size)
    assert len(engine.resolve(request).stages) == stages
    (picture,) = paint(engine, request)
    assert picture.image.size == (size, size)


def test_progress_goes_through_every_stage_of_every_picture(cascade: Path, large: None) -> None:
    engine = LocalEngine()
    seen: list[Progress] = []
    pictures = list(engine.paint(engine.resolve(ask(cascade, count=2, prior_candidates=1)), seen.append))
    assert len(pictures) == 2
    for k in range(2):
        for stage in ("prior", "decoder", "upsampler", "upsampler_2"):
            steps = [step.step for step in seen if (step.picture, step.stage) == (k, stage)]
            assert steps == [1, 2, 3]
    assert {step.pictures for step in seen} == {2}


def test_the_opened_model_is_kept_for_the_next_request(cascade: Path) -> None:
    engine = LocalEngine()
    paint(engine, ask(cascade))
    opened = engine._last._opened
    paint(engine, ask(cascade, seed=8))
    assert engine._last._opened is opened
    paint(engine, ask(cascade, dtype="bf16"))
    assert engine._last._opened is not opened


def test_another_number_type_is_used_and_recorded(cascade: Path) -> None:
    (picture,) = paint(LocalEngine(), ask(cascade, dtype="bf16"))
    assert picture.recipe.dtype == "bf16"


def test_the_words_that_do_not_fit_are_in_the_recipe(cascade: Path) -> None:
    long = replace(ask(cascade), prompt="a red cat on a blue teddy bear on a dog")
    assert LocalEngine().resolve(long).dropped == ("bear", "on", "a", "dog")
    error = refusal(lambda: LocalEngine().resolve(replace(long, strict=True)), PromptTooLong)
    assert "bear on a dog" in error.what


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"size": 33}, BadSize),
        ({"decoder": Dials(sampler="euler")}, UnknownSampler),
        ({"decoder": Dials(steps=1001)}, BadSteps),
        ({"upsampler": Dials(steps=1001)}, BadSteps),
        ({"upsampler": Dials(guidance=2.0)}, BadSetting),
    ],
)
def test_what_the_model_cannot_do_is_refused_before_it_is_opened(
    cascade: Path, changes: dict[str, Any], kind: type[DalleError]
) -> None:
    assert refusal(lambda: LocalEngine().resolve(ask(cascade, **changes)), kind).exit_code == 2


def test_an_unknown_model_is_refused() -> None:
    refusal(lambda: LocalEngine().resolve(ask("startre")), UnknownModel)


def test_a_device_that_is_not_here_is_refused(cascade: Path) -> None:
    refusal(lambda: paint(LocalEngine(), ask(cascade, device="cuda:77")), NoSuchDevice)


def test_two_folders_of_one_name_are_not_mixed_up(cascade: Path, tmp_path: Path) -> None:
    other = shutil.copytree(cascade, tmp_path / "cascade")
    engine = LocalEngine()
    engine.resolve(ask(cascade))
    refusal(lambda: engine.resolve(ask(other)), UnknownModel)


def test_pictures_that_were_painted_at_a_time_are_made_again_at_a_time(cascade: Path, large: None) -> None:
    asked = ask(cascade, count=3, dtype="bf16", size=8)
    first = paint(LocalEngine(batch=2), asked)
    assert [picture.recipe.together for picture in first] == [2, 2, 1]
    assert [picture.recipe.compiled for picture in first] == [False] * 3
    recipe = replace(first[0].recipe, count=3)
    engine = LocalEngine()
    again = list(engine.paint(engine.revive(recipe, str(cascade)), lambda step: None))
    assert [pixels(picture) for picture in again] == [pixels(picture) for picture in first]
    assert [picture.recipe for picture in again] == [picture.recipe for picture in first]


def test_the_pictures_of_several_recipes_know_how_many_were_painted_with_them(cascade: Path, large: None) -> None:
    engine = LocalEngine(batch=2)
    recipes = [engine.resolve(ask(cascade, seed=seed, size=8)) for seed in range(3)]
    pictures = engine.paint_together(recipes, lambda step: None)
    assert [picture.recipe.together for picture in pictures] == [2, 2, 2]  # the last one beside a copy of itself


@pytest.mark.parametrize(
    ("changes", "notice"),
    [
        ({"together": 4}, "painted 4 pictures at a time (--batch), and is now 1: pixels may differ"),
        ({"together": 1000, "count": 1000}, "painted 1000 pictures at a time (--batch), and is now 32"),
        ({"compiled": True}, "painted by compiled networks (--compile), and is now by others: pixels may differ"),
        ({"together": 4, "count": 4}, None),
        ({"together": 1, "compiled": False}, None),
    ],
)
def test_what_a_recipe_cannot_have_again_is_said_before_it_is_painted(
    cascade: Path, large: None, changes: dict[str, Any], notice: str | None
) -> None:
    recipe = LocalEngine().resolve(ask(cascade))
    revived = LocalEngine().revive(replace(recipe, **changes), str(cascade))
    assert notice in "".join(revived.warnings) if notice else revived.warnings == ()


def test_a_recipe_is_not_painted_with_other_weights(model: Path) -> None:
    engine = LocalEngine()
    recipe = replace(engine.resolve(ask(model)), digest="f" * 64)
    error = refusal(lambda: list(engine.paint(recipe, lambda step: None)), BadFile)
    assert "ffffffffffff" in error.what


def edit(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change the tensors of a weights file, or the values of a JSON file, in place."""
    from safetensors.torch import load_file, save_file

    if file.suffix == ".json":
        content: dict[str, Any] = json.loads(file.read_text())
        change(content)
        file.write_text(json.dumps(content))
    else:
        tensors = load_file(file)
        change(tensors)
        save_file(tensors, file)


def weights(model: Path, part: str) -> Path:
    return next((model / part).glob("*.safetensors"))


def replace_by_web_page(model: Path) -> None:
    weights(model, "decoder").write_text("<!DOCTYPE html><title>Sign in</title>" * 20)


def replace_by_pointer(model: Path) -> None:
    weights(model, "decoder").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 9\n")


def cut_short(model: Path) -> None:
    file = weights(model, "super_res_2_last")
    os.truncate(file, file.stat().st_size // 2)


def leave_only_a_pickle(model: Path) -> None:
    file = weights(model, "prior")
    file.rename(file.with_suffix(".bin"))


def break_config(model: Path) -> None:
    (model / "decoder" / "config.json").write_text('{"sample_size": 8,')


def remove_part(model: Path) -> None:
    shutil.rmtree(model / "text_proj")


def remove_everything(model: Path) -> None:
    shutil.rmtree(model)
    model.mkdir()


@pytest.mark.parametrize(
    ("damage", "kind", "words"),
    [
        (replace_by_web_page, BadFile, "web page"),
        (replace_by_pointer, BadFile, "Git LFS pointer"),
        (cut_short, BadFile, "cut short"),
        (leave_only_a_pickle, BadFile, "pickled"),
        (break_config, BadFile, "not valid JSON"),
        (remove_part, BadFolder, "text_proj"),
        (remove_everything, BadFolder, "empty"),
    ],
)
def test_a_broken_folder_is_refused_before_torch_is_needed(
    model: Path, damage: Callable[[Path], None], kind: type[DalleError], words: str
) -> None:
    damage(model)
    error = refusal(lambda: LocalEngine().resolve(ask(model)), kind)
    assert words in error.what
    assert error.exit_code == 3


def first_name(tensors: dict[str, Any]) -> str:
    return next(iter(tensors))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda tensors: tensors.pop(first_name(tensors)), "1 missing"),
        (lambda tensors: tensors.update(surprise=torch.ones(1)), "1 unexpected (surprise)"),
        (
            lambda tensors: tensors.update({"conv_in.bias": torch.ones(3)}),
            "1 misshaped (conv_in.bias is [3], not [24])",
        ),
        (lambda tensors: tensors["conv_in.bias"].fill_(float("nan")), "conv_in.bias holds NaN"),
        (lambda tensors: tensors.update({"conv_in.bias": torch.ones(24, dtype=torch.int32)}), "not floating point"),
    ],
)
def test_weights_that_are_not_the_networks_are_refused_when_it_is_opened(
    model: Path, change: Callable[[dict[str, Any]], None], words: str
) -> None:
    edit(weights(model, "decoder"), change)
    error = refusal(lambda: paint(LocalEngine(), ask(model)), LayoutMismatch)
    assert words in error.what
    assert error.exit_code == 3


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("decoder", {"layers_per_block": 0}),
        ("decoder", {"norm_num_groups": 0}),
        ("decoder", {"norm_num_groups": 7}),
        ("decoder", {"attention_head_dim": 0}),
        ("decoder", {"block_out_channels": []}),
        ("decoder", {"block_out_channels": "large"}),
        ("decoder", {"down_block_types": ["AttnDownBlock2D"] * 3}),
        ("decoder", {"cross_attention_dim": 21}),
        ("prior", {"num_attention_heads": 0}),
        ("prior", {"num_layers": 10**9}),
        ("prior", {"embedding_dim": 17}),
        ("prior", {"num_embeddings": 8}),
        ("text_encoder", {"num_attention_heads": 0}),
        ("text_encoder", {"num_attention_heads": 5}),
        ("text_encoder", {"hidden_size": 17}),
        ("text_encoder", {"vocab_size": 3}),
        ("text_encoder", {"max_position_embeddings": 3}),
        ("text_encoder", {"hidden_act": "tanh"}),
        ("text_proj", {"clip_extra_context_tokens": 0}),
        ("super_res_first", {"in_channels": 3}),
        ("prior_scheduler", {"clip_sample_range": None}),
        ("prior_scheduler", {"clip_sample_range": []}),
        ("decoder_scheduler", {"num_train_timesteps": 10**12}),
        ("decoder_scheduler", {"num_train_timesteps": "many"}),
    ],
    ids=str,
)
def test_a_config_with_an_impossible_value_is_an_error_of_the_weights_and_no_crash(
    model: Path, part: str, change: dict[str, Any]
) -> None:
    name = "scheduler_config.json" if part.endswith("_scheduler") else "config.json"
    edit(model / part / name, lambda config: config.update(change))
    with pytest.raises(DalleError) as raised:
        paint(LocalEngine(), ask(model))
    assert raised.value.exit_code == 3
    assert len(raised.value.lines()) <= 3


@pytest.mark.parametrize(
    ("part", "change"),
    [
        ("prior_scheduler", {"prediction_type": "magic"}),
        ("decoder_scheduler", {"beta_schedule": "linear"}),
        ("decoder_scheduler", {"clip_sample_range": "wide"}),
        ("super_res_scheduler", {"num_train_timesteps": 0}),
        ("super_res_scheduler", {"variance_type": 7}),
    ],
    ids=str,
)
def test_a_schedule_with_an_impossible_value_is_an_error_of_the_weights(
    model: Path, part: str, change: dict[str, Any]
) -> None:
    edit(model / part / "scheduler_config.json", lambda config: config.update(change))
    with pytest.raises(DalleError) as raised:
        paint(LocalEngine(), ask(model))
    assert raised.value.exit_code == 3


def test_a_model_that_cannot_fit_is_refused_before_it_is_loaded(cascade: Path) -> None:
    engine = LocalEngine()
    recipe = engine.resolve(ask(cascade))
    model = engine._models.named("cascade")
    model.parameters = {**model.parameters, "prior": 2**50}
    error = refusal(lambda: list(engine.paint(recipe, lambda step: None)), OutOfMemory)
    assert "4194304.0 GB in fp32" in error.what
    assert error.hint == "--dtype bf16 for half of it or a smaller model"


def crowded(limit: int, error: Callable[[], Exception], asked: list[int]) -> Callable[..., Iterator[Picture]]:
    """What paints pictures of one colour, and has no memory for more than `limit` at a time."""

    def paint(recipe: Recipe, progress: Callable[[Progress], None], batch: int) -> Iterator[Picture]:
        for first in range(0, recipe.count, batch):
            count = min(batch, recipe.count - first)
            asked.append(count)
            progress(Progress(stage="decoder", step=1, steps=1, picture=first, pictures=recipe.count))
            if count > limit:
                raise error()
            for k in range(first, first + count):
                image = Image.new("RGB", (1, 1), (recipe.single(k).seed, 0, 0))
                yield Picture(image=image, recipe=recipe.single(k), seconds=0.0, scores={})

    return paint


@pytest.mark.parametrize(
    "error",
    [
        lambda: torch.OutOfMemoryError("CUDA out of memory"),
        lambda: RuntimeError("DefaultCPUAllocator: can't allocate memory"),
        MemoryError,
    ],
)
def test_where_memory_is_short_fewer_pictures_at_a_time_give_the_same_pictures(
    cascade: Path, error: Callable[[], Exception]
) -> None:
    recipe = LocalEngine().resolve(ask(cascade, count=7, seed=10))
    asked: list[int] = []
    steps: list[Progress] = []
    batches = {"cpu": 8}
    pictures = list(paint_in_batches(crowded(2, error, asked), recipe, steps.append, batches, "cpu"))
    assert [picture.recipe.seed for picture in pictures] == list(range(10, 17))
    assert asked == [7, 4, 2, 2, 2, 1]
    assert batches == {"cpu": 2}
    assert {step.pictures for step in steps} == {7}


def test_no_memory_for_one_picture_is_an_error_and_what_was_finished_is_kept(cascade: Path) -> None:
    recipe = LocalEngine().resolve(ask(cascade, count=2))
    asked: list[int] = []
    painting = paint_in_batches(crowded(0, MemoryError, asked), recipe, lambda step: None, {"cpu": 2}, "cpu")
    error = refusal(lambda: list(painting), OutOfMemory)
    assert asked == [2, 1]
    assert error.exit_code == 5


def test_an_error_that_is_not_about_memory_is_passed_on(cascade: Path) -> None:
    recipe = LocalEngine().resolve(ask(cascade))
    painting = paint_in_batches(
        crowded(0, lambda: RuntimeError("shape mismatch"), []), recipe, lambda step: None, {"cpu": 4}, "cpu"
    )
    with pytest.raises(RuntimeError, match="shape mismatch"):
        list(painting)


def test_torch_itself_out_of_memory_is_recognised() -> None:
    with pytest.raises(OutOfMemory), memory_errors("m"):
        torch.empty(2**60, dtype=torch.uint8)
