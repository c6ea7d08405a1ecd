"""Verbs, with a model whose pictures show which noise they were painted from."""

from collections.abc import Iterator
from dataclasses import replace

import pytest
import torch

from dallecli.engine import Progress
from dallecli.pictures.picture import Picture
from dallecli.pipelines.embedding import Embedding
from dallecli.pipelines.pixels import to_images
from dallecli.pipelines.unclip_parts import UnClipParts
from dallecli.pipelines.verbs import VERBS, generate
from dallecli.recipe import Recipe
from dallecli.size import Size
from dallecli.tasks.stages import DiffusionSettings

RECIPE = Recipe(
    task="generate",
    prompt="a red fox",
    dropped=(),
    model="noisy",
    digest=None,
    seed=100,
    count=5,
    size=Size.square(4),
    stages={
        "prior": DiffusionSettings(sampler="ancestral", steps=2, guidance=1.0),
        "decoder": DiffusionSettings(sampler="ancestral", steps=3, guidance=1.0),
    },
    prior="diffusion",
    prior_candidates=2,
    device=None,
    dtype=None,
    versions={},
)


class NoisyModel:
    """Embeds a picture as its noise and paints it as noise; keeps what it was asked."""

    def __init__(self) -> None:
        self.prompts = []
        self.batches = []

    def read(self, prompts, negative=""):
        self.prompts += prompts
        return tuple(prompt.upper() for prompt in prompts)

    def imagine(self, words, noise, settings, watch):
        self.batches.append((words, len(noise), settings.dials, settings.candidates))
        for step in range(settings.dials.steps):
            watch("prior", step + 1, settings.dials.steps)
        vector = noise.draw((4,))
        return Embedding(vector=vector, space="noisy"), vector[:, 0]

    def decode(self, embedding, words, noise, settings, watch):
        steps = settings.dials["decoder"].steps
        for step in range(steps):
            watch("decoder", step + 1, steps)
        return noise.draw((3, 4, 4)) + embedding.vector.mean(dim=1)[:, None, None, None]


def parts_of(model: NoisyModel) -> UnClipParts:
    return UnClipParts(embedder=model, painter=model)


def ignore(progress: Progress) -> None:
    """No progress bar."""


def paint(recipe: Recipe, batch: int) -> list[Picture]:
    return list(generate(parts_of(NoisyModel()), recipe, ignore, batch))


def pixels(pictures: list[Picture]) -> list[bytes]:
    return [picture.image.tobytes() for picture in pictures]


@pytest.mark.parametrize("batch", [1, 2, 3, 5, 8])
def test_pictures_do_not_depend_on_the_batch(batch):
    assert pixels(paint(RECIPE, batch)) == pixels(paint(RECIPE, 4))


def test_picture_k_of_a_seed_is_the_picture_of_seed_plus_k():
    together = paint(RECIPE, 5)
    for k, picture in enumerate(together):
        assert pixels([picture]) == pixels(paint(replace(RECIPE, seed=100 + k, count=1), 1))
        assert picture.recipe == replace(RECIPE.single(k), together=5)


def test_the_prompt_is_read_once_and_all_dials_arrive():
    model = NoisyModel()
    list(generate(parts_of(model), RECIPE, ignore, 2))
    assert model.prompts == ["a red fox"]
    assert model.batches == [(("A RED FOX",), count, RECIPE.stages["prior"], 2) for count in (2, 2, 1)]


def test_pictures_come_as_they_are_done():
    model = NoisyModel()
    pictures: Iterator[Picture] = generate(parts_of(model), RECIPE, ignore, 2)
    assert model.batches == []
    next(pictures)
    next(pictures)
    assert len(model.batches) == 1
    next(pictures)
    assert len(model.batches) == 2


def test_progress_says_which_picture_a_step_is_for():
    seen: list[Progress] = []
    list(generate(parts_of(NoisyModel()), replace(RECIPE, count=3), seen.append, 2))
    assert [(p.stage, p.step, p.steps, p.picture, p.pictures) for p in seen] == [
        *[("prior", step, 2, 0, 3) for step in (1, 2)],
        *[("decoder", step, 3, 0, 3) for step in (1, 2, 3)],
        *[("prior", step, 2, 2, 3) for step in (1, 2)],
        *[("decoder", step, 3, 2, 3) for step in (1, 2, 3)],
    ]


def test_pictures_carry_their_score_and_their_share_of_the_time():
    pictures = paint(RECIPE, 5)
    assert len({picture.scores["prior"] for picture in pictures}) == 5
    assert all(picture.seconds > 0 for picture in pictures)


def test_every_verb_is_found_by_its_task():
    assert VERBS[RECIPE.task] is generate


def test_levels_are_rounded_and_clipped():
    levels = torch.tensor([-1.5, -1.0, 0.0, 0.499 / 127.5, 0.501 / 127.5 + 1 / 255, 1.0, 1.5])
    image = to_images(levels.expand(1, 3, 1, 7))[0]
    assert image.mode == "RGB"
    assert [image.getpixel((x, 0))[0] for x in range(7)] == [0, 0, 128, 128, 129, 255, 255]
