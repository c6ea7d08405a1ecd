"""What the Karlo pipeline promises beside parity: independence, laziness, and no silent nonsense."""

import json
import logging
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import oracle
import pytest
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file

from dallecli.diffusion.noise import Noise
from dallecli.errors import BadFile, BadFolder, BadSetting, BadSteps, NonFinite
from dallecli.pipelines.embedding import Embedding
from dallecli.pipelines.given import Beginning, Given
from dallecli.pipelines.settings import PaintSettings, PriorSettings
from dallecli.pipelines.verbs import generate
from dallecli.recipe import Recipe
from dallecli.size import Size
from dallecli.tasks.stages import DiffusionSettings

STAGES = {
    "prior": DiffusionSettings(sampler="ancestral", steps=4, guidance=4.0),
    "decoder": DiffusionSettings(sampler="ancestral", steps=4, guidance=3.0),
    "upsampler": DiffusionSettings(sampler="ancestral", steps=3, guidance=1.0),
    "upsampler_2": DiffusionSettings(sampler="ancestral", steps=2, guidance=1.0),
}
RECIPE = Recipe(
    task="generate",
    prompt="a red cat",
    dropped=(),
    model="tiny",
    digest=None,
    seed=0,
    count=1,
    size=Size.square(32),
    stages=STAGES,
    prior="diffusion",
    prior_candidates=2,
    device=None,
    dtype=None,
    versions={},
)

# Batches change the order in which kernels sum. In double precision that may at most tip a level on its edge.
LEVEL = 1


def ignore(*progress: Any) -> None:
    """No progress bar."""


def paint(model: Any, recipe: Recipe = RECIPE, batch: int = 8) -> list[np.ndarray]:
    return [np.asarray(picture.image).astype(int) for picture in generate(model, recipe, ignore, batch)]


def with_stage(name: str, **changed: Any) -> Recipe:
    return replace(RECIPE, stages={**STAGES, name: replace(STAGES[name], **changed)})


@pytest.fixture
def starter(model_folder: Any, opened: Any) -> Any:
    return opened(model_folder("starter"))


@pytest.fixture
def copied(model_folder: Any, tmp_path: Path) -> Path:
    """A folder that may be broken."""
    return Path(shutil.copytree(model_folder("starter"), tmp_path / "copy"))


def change_weights(folder: Path, part: str, change: Callable[[dict[str, torch.Tensor]], None]) -> None:
    (file,) = (folder / part).glob("*.safetensors")
    tensors = load_file(file)
    change(tensors)
    save_file(tensors, file)


def change_config(folder: Path, part: str, **changed: Any) -> None:
    (file,) = (folder / part).glob("*config.json")
    file.write_text(json.dumps(json.loads(file.read_text()) | changed))


# ----------------------------------------------------------------------------------------------------------------------
# Pictures.


@pytest.mark.parametrize("name", oracle.SHAPES)
@pytest.mark.long
def test_a_picture_is_the_same_alone_or_in_a_batch(model_folder, opened, name):
    # The first step of a net that predicts noise magnifies rounding 20000 times (see test_parity.py).
    model = opened(model_folder(name), torch.float32 if name == "starter" else torch.float64)
    stages = {stage: settings for stage, settings in STAGES.items() if name == "starter" or stage != "upsampler_2"}
    side = model.painter.parts.folder.sizes()[len(stages) - 2]
    recipe = replace(RECIPE, count=3, stages=stages, size=Size.square(side))
    together = paint(model, recipe, batch=3)
    for k, alone in enumerate(paint(model, recipe, batch=1)):
        assert abs(together[k] - alone).max() <= LEVEL
        assert abs(paint(model, recipe.single(k))[0] - alone).max() <= LEVEL
    assert abs(together[0] - together[1]).max() > 10


def test_padding_goes_only_where_nothing_is_said(starter):
    empty = starter.embedder.read(["", ""])
    assert empty.mask.shape == (3, 2)
    assert empty.mask.all()
    assert empty.hidden.shape[1] == 2
    # Of one length alone, but perhaps not beside others: a picture does not depend on those.
    read = starter.embedder.read(["a cat"], "a dog")
    assert read.mask.shape[1] == read.hidden.shape[1] == starter.embedder.tokenizer.context


@pytest.mark.parametrize("sampler", ["ancestral", "ddim", "dpm++"])
def test_every_sampler_paints_in_every_stage(starter, sampler):
    stages = {name: replace(settings, sampler=sampler) for name, settings in STAGES.items()}
    (picture,) = paint(starter, replace(RECIPE, stages=stages))
    assert picture.shape == (32, 32, 3)
    assert picture.std() > 5


@pytest.mark.parametrize(("count", "size"), [(2, Size(8, 8)), (3, Size(16, 16)), (4, Size(32, 32)), (4, Size(48, 32))])
def test_a_picture_has_the_size_and_its_seed_decides_in_any_batch(starter, count, size):
    names = ["prior", "decoder", "upsampler", "upsampler_2"]
    recipe = replace(RECIPE, size=size, count=2, stages={name: STAGES[name] for name in names[:count]})
    pictures = paint(starter, recipe, batch=2)
    assert [picture.shape[:2] for picture in pictures] == [size.shape] * 2
    assert abs(pictures[1] - paint(starter, recipe.single(1))[0]).max() <= LEVEL


def test_guidance_zero_does_not_see_the_prompt(starter):
    # DDIM, because a learned variance is the conditional half's at any guidance; one candidate, because the best of
    # several is the one that fits the prompt.
    blind = {name: replace(STAGES[name], guidance=0.0, sampler="ddim") for name in ("prior", "decoder")}
    recipe = replace(RECIPE, stages=STAGES | blind, prior_candidates=1)
    assert abs(paint(starter, recipe)[0] - paint(starter, replace(recipe, prompt="a blue dog"))[0]).max() == 0
    assert abs(paint(starter)[0] - paint(starter, replace(RECIPE, prompt="a blue dog"))[0]).max() > 0


def test_global_randomness_and_grad_mode_are_left_alone(starter):
    before = torch.get_rng_state()
    paint(starter)
    assert torch.equal(before, torch.get_rng_state())
    assert torch.is_grad_enabled()


# ----------------------------------------------------------------------------------------------------------------------
# Candidates.


def imagine(model: Any, candidates: int, seeds: tuple[int, ...] = (3, 4, 5)) -> tuple[Embedding, torch.Tensor, Noise]:
    noise = Noise(seeds)
    embedding, fit = model.embedder.imagine(
        model.embedder.read(["a red cat"]), noise, PriorSettings(dials=STAGES["prior"], candidates=candidates), ignore
    )
    return embedding, fit, noise


def test_more_candidates_fit_the_text_better(starter):
    fits = [imagine(starter, candidates)[1] for candidates in (1, 2, 8)]
    assert (fits[0] <= fits[1] + 1e-6).all()
    assert (fits[1] <= fits[2] + 1e-6).all()
    assert fits[2].sum() > fits[0].sum()


def test_a_picture_to_be_like_counts_as_much_as_the_text(starter):
    words = starter.embedder.read(["a red cat"])
    rivals = [
        starter.embedder.imagine(words, Noise([3]), PriorSettings(dials=STAGES["prior"], candidates=n), ignore)[
            0
        ].vector
        for n in (1, 2, 3, 4)
    ]
    drawn = torch.unique(torch.cat(rivals), dim=0)
    assert len(drawn) > 1
    for wanted in drawn:
        like = Embedding(vector=wanted[None], space=starter.painter.space)
        kept, fit = starter.embedder.imagine(
            words, Noise([3]), PriorSettings(dials=STAGES["prior"], candidates=4, like=like), ignore
        )
        merit = torch.cosine_similarity(drawn, words.embedding[1:]) + torch.cosine_similarity(drawn, wanted[None])
        assert fit + torch.cosine_similarity(kept.vector, like.vector) >= merit.max() - 1e-6
        torch.testing.assert_close(fit, torch.cosine_similarity(kept.vector, words.embedding[1:]))


def test_the_fit_is_the_cosine_with_the_text(starter):
    embedding, fit, _ = imagine(starter, 4)
    text = starter.embedder.read(["a red cat"]).embedding[1:]
    torch.testing.assert_close(fit, torch.cosine_similarity(embedding.vector, text))


def test_the_decoder_draws_the_same_however_many_candidates(starter):
    one, many = imagine(starter, 1)[2], imagine(starter, 5)[2]
    assert torch.equal(one.draw((3, 8, 8)), many.draw((3, 8, 8)))


# ----------------------------------------------------------------------------------------------------------------------
# Several prompts at once.


def paint_together(model: Any, prompts: list[str], seeds: tuple[int, ...]) -> torch.Tensor:
    words, noise = model.embedder.read(prompts), Noise(seeds)
    embedding, _ = model.embedder.imagine(words, noise, PriorSettings(dials=STAGES["prior"], candidates=2), ignore)
    return model.painter.decode(embedding, words, noise, PaintSettings(dials=STAGES, size=RECIPE.size), ignore)


def test_a_picture_that_is_painted_over_is_all_but_left_alone_in_the_last_step(model_folder, opened):
    """At t = 0 there is 0.6 % of noise, whatever a net says to it; at t = 999 nothing of the picture is left."""
    karlo = opened(model_folder("karlo"))
    pixels = F.interpolate(torch.rand(1, 3, 4, 4, generator=torch.Generator().manual_seed(0)), size=32)
    embedding, words = imagine(karlo, 1, seeds=(3,))[0], karlo.embedder.read(["a red cat"])
    far = {}
    for strength in (0.25, 1.0):
        beginning = Beginning(pixels=pixels, strength=strength)
        stages = {"decoder": STAGES["decoder"]}
        painted = karlo.painter.decode(
            embedding,
            words,
            Noise([3]),
            PaintSettings(dials=stages, size=Size.square(16), given=Given(beginning=beginning)),
            ignore,
        )
        far[strength] = (painted - F.adaptive_avg_pool2d(pixels, 16)).abs().mean().item()
    assert far[0.25] < 0.05
    assert far[1.0] > 0.2


def test_what_is_to_be_avoided_stands_where_the_empty_prompt_was(starter):
    plain, away = starter.embedder.read(["a red cat"]), starter.embedder.read(["a red cat"], "a blue dog")
    torch.testing.assert_close(plain.embedding[1], away.embedding[1])
    torch.testing.assert_close(away.embedding[0], starter.embedder.read(["a blue dog"]).embedding[1])
    assert (plain.negative, away.negative) == (False, True)


def test_prompts_are_painted_together_as_alone(starter):
    together = paint_together(starter, ["a red cat", "a blue dog"], (3, 9))
    for row, (prompt, seed) in enumerate([("a red cat", 3), ("a blue dog", 9)]):
        # One level of 255 is 0.0078.
        torch.testing.assert_close(together[row], paint_together(starter, [prompt], (seed,))[0], rtol=0, atol=0.004)


def test_in_a_group_of_one_size_neither_place_nor_neighbours_matter_to_the_last_bit(starter):
    one = paint_together(starter, ["a red cat", "a blue dog", "a tree"], (3, 9, 4))
    other = paint_together(starter, ["a house", "a house", "a red cat"], (7, 8, 3))
    assert torch.equal(one[0], other[2])


def test_each_prompt_has_its_meaning(starter):
    both = starter.embedder.meaning(starter.embedder.read(["a red cat", "a blue dog"])).vector
    for row, prompt in enumerate(["a red cat", "a blue dog"]):
        torch.testing.assert_close(both[row], starter.embedder.meaning(starter.embedder.read([prompt])).vector[0])


# ----------------------------------------------------------------------------------------------------------------------
# Loading.


def test_networks_are_loaded_when_they_are_needed(copied, opened):
    for part in ("super_res_first", "super_res_last", "super_res_2_first"):
        change_weights(copied, part, lambda tensors: tensors.clear())
    model = opened(copied)
    stages = {name: STAGES[name] for name in ("prior", "decoder")}
    assert paint(model, replace(RECIPE, stages=stages, size=Size.square(8)))[0].shape == (8, 8, 3)


def test_the_starters_parts_survive_a_second_use(starter):
    assert np.array_equal(paint(starter)[0], paint(starter)[0])


@pytest.mark.parametrize(
    ("part", "changed", "message"),
    [
        ("prior", {"num_embeddings": 77}, "number of tokens"),
        ("prior", {"embedding_dim": 99}, "width of embeddings"),
        ("text_proj", {"cross_attention_dim": 99}, "width of tokens"),
        ("text_proj", {"time_embed_dim": 99}, "width of time"),
        ("text_encoder", {"hidden_size": 98}, "width of text states"),
        ("text_encoder", {"vocab_size": 7}, "vocabulary"),
        ("image_encoder", {"image_size": 28}, "reads 28 x 28 pixels, the feature_extractor makes"),
        ("decoder", {"out_channels": 3}, "channels"),
        ("decoder", {"in_channels": 4}, "channels"),
        ("super_res_2_last", {"in_channels": 3}, "channels"),
    ],
)
def test_parts_of_different_models_are_refused(copied, opened, part, changed, message):
    change_config(copied, part, **changed)
    with pytest.raises(BadFolder, match=message):
        opened(copied)


@pytest.mark.parametrize(
    ("part", "changed", "message"),
    [
        ("decoder_scheduler", {"beta_schedule": "linear"}, "beta_schedule"),
        ("super_res_scheduler", {"variance_type": "fixed_large"}, "variance_type"),
        ("prior_scheduler", {"variance_type": "learned_range"}, "variance_type"),
        ("decoder_scheduler", {"trained_betas": [0.1] * 1000}, "trained_betas"),
        ("decoder_scheduler", {"prediction_type": "flow"}, "prediction_type"),
        ("decoder", {"down_block_types": ["Unheard"] * 3}, "down_block_types"),
    ],
)
def test_parts_of_an_unknown_kind_are_refused_by_name(copied, opened, part, changed, message):
    change_config(copied, part, **changed)
    with pytest.raises(BadFile, match=message) as caught:
        opened(copied)
    assert part in caught.value.where


# ----------------------------------------------------------------------------------------------------------------------
# Numbers.


def overflow_in_half(tensors: dict[str, torch.Tensor]) -> None:
    """Activations of about a million right behind the first layer: beyond float16, nothing for float32."""
    tensors["conv_in.weight"] *= 1e6 / tensors["conv_in.weight"].abs().max() / 20


@pytest.mark.long
def test_a_stage_that_overflows_is_done_again_in_a_wider_type(copied, opened, caplog):
    change_weights(copied, "decoder", overflow_in_half)
    recipe = replace(RECIPE, stages={name: STAGES[name] for name in ("prior", "decoder")}, count=2)
    with caplog.at_level(logging.WARNING):
        half = paint(opened(copied, torch.float16), recipe)
    assert any("decoder overflowed in torch.float16" in message for message in caplog.messages)
    single = paint(opened(copied, torch.float32), recipe)
    # The prior ran in half: its embedding differs in the third digit, and the decoder starts from it.
    assert all(abs(a - b).mean() < 3 for a, b in zip(half, single, strict=True))


def test_numbers_that_stay_infinite_are_an_error_and_not_a_picture(copied, opened):
    def overflow(tensors: dict[str, torch.Tensor]) -> None:
        tensors["conv_in.weight"][:] = 3e38

    change_weights(copied, "decoder", overflow)
    with pytest.raises(NonFinite, match="decoder"):
        paint(opened(copied))


def test_an_infinity_that_clipping_would_hide_is_found(copied, opened):
    def overflow(tensors: dict[str, torch.Tensor]) -> None:
        # The last layer alone: x0 becomes -infinity, which clips to a plain picture.
        tensors["conv_out.weight"][:] = 3e38

    change_weights(copied, "super_res_last", overflow)
    with pytest.raises(NonFinite, match="upsampler"):
        paint(opened(copied))


def test_half_precision_paints_nearly_the_same_picture(model_folder, opened):
    folder = model_folder("starter")
    single, half = paint(opened(folder))[0], paint(opened(folder, torch.bfloat16))[0]
    # bfloat16 has three digits; ten steps of guided random nets leave one and a half of them.
    assert abs(single - half).mean() < 10


# ----------------------------------------------------------------------------------------------------------------------
# Asks that can't be met.


def test_embeddings_of_another_clip_are_refused(starter):
    words = starter.embedder.read(["a red cat"])
    foreign = Embedding(vector=torch.zeros(1, 16), space="another clip")
    with pytest.raises(ValueError, match="another clip"):
        starter.painter.decode(foreign, words, Noise([0]), PaintSettings(dials=STAGES, size=RECIPE.size), ignore)


@pytest.mark.parametrize("steps", [1, 1001])
def test_impossible_step_counts_name_the_stage(starter, steps):
    with pytest.raises(BadSteps, match="between 2 and 1000") as caught:
        paint(starter, with_stage("decoder", steps=steps))
    assert caught.value.where == "decoder"


def test_guidance_of_an_upsampler_is_refused(starter):
    with pytest.raises(BadSetting, match="upsampler guidance is 4"):
        paint(starter, with_stage("upsampler", guidance=4.0))
