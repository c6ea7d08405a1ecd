"""Stable unCLIP's chains against diffusers' StableUnCLIP pipelines: every step, and the random draws.

Bounds and their reasons are those of `test_parity`. Which scheduler the published folder has is not known, so both that
it may have are held to.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import stable_oracle as oracle
import torch
from oracle import difference
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.diffusion.samplers import SAMPLERS
from dallecli.pipelines.embedding import Embedding
from dallecli.pipelines.frame import Frame
from dallecli.pipelines.given import Beginning, Given, Hole
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.pixels import to_pixels
from dallecli.pipelines.settings import PaintSettings, PriorSettings
from dallecli.pipelines.stable_unclip import _with_neighbours, open_stable_unclip
from dallecli.pipelines.unclip_parts import UnClipParts
from dallecli.size import Size
from dallecli.tasks.stages import INVERSION, DiffusionSettings
from dallecli.weights.folder import Folder

from .test_parity import DOUBLE, LEVEL, SINGLE, photo, recorded

STEPS = 6
SIZE = 64
SQUARE = Size.square(SIZE)
NATIVE = {"pndm": "plms", "ddim": "ddim"}


@pytest.fixture(scope="module")
def folders(tmp_path_factory) -> dict[str, Path]:
    place = tmp_path_factory.mktemp("models")
    return {
        **{name: oracle.write(place / name, name) for name in NATIVE},
        "words": oracle.write(place / "words", words=True),
    }


def opened(folder: Path, dtype: torch.dtype = torch.float32) -> UnClipParts[Any]:
    return open_stable_unclip(Parts(Folder(folder), torch.device("cpu"), dtype), "tiny").parts


def silent(stage: str, step: int, steps: int, /, look: object = None) -> None:
    """No progress bar."""


@contextmanager
def recorded_here(sampler: str, into: list[Tensor]) -> Iterator[dict[str, DiffusionSettings]]:
    """Give the sampler the name "recorded", under which it keeps every step; yield the settings of such a decoder."""

    def record(x: Tensor, step: Any) -> Tensor:
        into.append(x)
        return x

    SAMPLERS["recorded"] = partial(SAMPLERS[sampler], constrain=record)
    try:
        yield {"decoder": DiffusionSettings(sampler="recorded", steps=STEPS, guidance=10.0)}
    finally:
        del SAMPLERS["recorded"]


def guided(settings: dict[str, DiffusionSettings], guidance: float) -> dict[str, DiffusionSettings]:
    return {"decoder": DiffusionSettings(sampler=settings["decoder"].sampler, steps=STEPS, guidance=guidance)}


def assert_same(ours: list[Tensor], truth: list[Tensor], name: str, tolerance: float) -> None:
    truth = truth[1:] if name == "pndm" else truth  # the first half of Heun's step is no step of ours
    assert len(ours) == len(truth) == STEPS
    assert max(difference(a, b) for a, b in zip(ours, truth, strict=True)) < tolerance


def assert_pictures(ours: Tensor, theirs: Any) -> None:
    levels = (ours * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert (levels - torch.from_numpy(theirs)).abs().max() < LEVEL


@torch.no_grad()
@pytest.mark.parametrize(
    ("prompt", "negative", "size"),
    [("", "", SQUARE), ("a red cat", "a blue dog", SQUARE), ("a red cat", "", Size(96, 64))],
    ids=str,
)
@pytest.mark.parametrize("guidance", [10.0, 1.0])
@pytest.mark.parametrize("name", NATIVE)
def test_pictures_of_pictures_equal_the_oracles(folders, name, guidance, prompt, negative, size):
    image, theirs = photo(40, 30), oracle.open_variations(folders[name])
    truth: list[Tensor] = []
    drawing = torch.Generator().manual_seed(7)
    with recorded(theirs.scheduler, truth):
        pixels = theirs(
            image,
            prompt,
            negative_prompt=negative,
            height=size.height,
            width=size.width,
            num_inference_steps=STEPS,
            guidance_scale=guidance,
            generator=drawing,
            output_type="np",
        ).images
    ours: list[Tensor] = []
    model, noise = opened(folders[name]), Noise([7])
    with recorded_here(NATIVE[name], ours) as settings:
        words, embedding = model.embedder.read([prompt], negative), model.embedder.see([image])
        painted = model.painter.decode(
            embedding, words, noise, PaintSettings(dials=guided(settings, guidance), size=size), silent
        )
    assert_same(ours, truth, name, SINGLE)
    assert_pictures(painted, pixels)
    assert torch.equal(noise.state()[0], drawing.get_state())


@torch.no_grad()
@pytest.mark.parametrize("name", NATIVE)
def test_pictures_of_pictures_equal_the_oracles_without_rounding(folders, name):
    image, theirs = photo(40, 30), oracle.open_variations(folders[name], torch.float64)
    truth: list[Tensor] = []
    with recorded(theirs.scheduler, truth):
        theirs(
            image,
            "a dog",
            height=SIZE,
            width=SIZE,
            num_inference_steps=STEPS,
            generator=torch.Generator().manual_seed(3),
            output_type="np",
        )
    ours: list[Tensor] = []
    model = opened(folders[name], torch.float64)
    with recorded_here(NATIVE[name], ours) as settings:
        model.painter.decode(
            model.embedder.see([image]),
            model.embedder.read(["a dog"]),
            Noise([3]),
            PaintSettings(dials=settings, size=SQUARE),
            silent,
        )
    assert_same(ours, truth, name, DOUBLE)


@torch.no_grad()
def test_pictures_of_words_equal_the_oracles(folders):
    theirs, drawing = oracle.open_words(folders["words"]), torch.Generator().manual_seed(11)
    truth: list[Tensor] = []
    prior: list[Tensor] = []
    with recorded(theirs.scheduler, truth), recorded(theirs.prior_scheduler, prior):
        pixels = theirs(
            "a red cat on a blue dog",
            height=SIZE,
            width=SIZE,
            num_inference_steps=STEPS,
            prior_num_inference_steps=STEPS,
            guidance_scale=10.0,
            generator=drawing,
            output_type="np",
        ).images
    ours: list[Tensor] = []
    model, noise = opened(folders["words"]), Noise([11])
    words = model.embedder.read(["a red cat on a blue dog"])
    ask = DiffusionSettings(sampler="ancestral", steps=STEPS, guidance=4.0)
    embedding, _ = model.embedder.imagine(words, noise, PriorSettings(dials=ask, candidates=1), silent)
    assert difference(embedding.vector, theirs.prior.post_process_latents(prior[-1])) < SINGLE
    with recorded_here("plms", ours) as settings:
        painted = model.painter.decode(embedding, words, noise, PaintSettings(dials=settings, size=SQUARE), silent)
    assert_same(ours, truth, "pndm", SINGLE)
    assert_pictures(painted, pixels)
    assert torch.equal(noise.state()[0], drawing.get_state())


@pytest.mark.parametrize("name", ["pndm", "words"])
def test_several_pictures_are_each_what_they_are_alone(folders, name):
    model = opened(folders[name], torch.float64)
    words = model.embedder.read(["a red cat", "a blue dog"])
    generator = torch.Generator().manual_seed(0)
    vectors = torch.randn(2, oracle.SHAPE.width, generator=generator, dtype=torch.float64)
    ask = {"decoder": DiffusionSettings(sampler="plms", steps=3, guidance=4.0)}
    both = model.painter.decode(
        Embedding(vector=vectors, space="tiny"),
        words,
        Noise([1, 2]),
        PaintSettings(dials=ask, size=SQUARE),
        silent,
    )
    for k, prompt in enumerate(["a red cat", "a blue dog"]):
        one = Embedding(vector=vectors[k : k + 1], space="tiny")
        alone = model.painter.decode(
            one, model.embedder.read([prompt]), Noise([1 + k]), PaintSettings(dials=ask, size=SQUARE), silent
        )
        assert difference(both[k], alone[0]) < 1e-9


@pytest.mark.parametrize("sampler", ["plms", "ddim", "ancestral", "dpm++"])
@pytest.mark.parametrize("size", [SIZE, 50])
def test_what_is_known_of_a_picture_stays_to_the_last_bit(folders, sampler, size):
    model, image = opened(folders["pndm"]), photo(size, size)
    known = to_pixels([image])
    unknown = torch.zeros(1, 1, size, size, dtype=torch.bool)
    unknown[..., 10:30, 21:40] = True
    hole = Hole(pixels=known, unknown=unknown, resample=2)
    ask = {"decoder": DiffusionSettings(sampler=sampler, steps=3, guidance=4.0)}
    painted = model.painter.decode(
        model.embedder.see([image]),
        model.embedder.read([""]),
        Noise([1]),
        PaintSettings(dials=ask, size=Size.square(size), given=Given(hole=hole)),
        silent,
    )
    assert painted.shape == (1, 3, size, size)
    outside = ~unknown.expand_as(known)
    assert torch.equal(painted[outside], known[outside])
    assert (painted - known)[~outside].abs().mean() > 0.01


def test_the_hole_is_also_a_hole_where_the_encoder_has_seen_into_it(folders):
    model = opened(folders["pndm"])
    unknown = torch.zeros(1, 1, SIZE, SIZE, dtype=torch.bool)
    unknown[..., 26, 26] = True
    hole = Hole(pixels=torch.zeros(1, 3, SIZE, SIZE), unknown=unknown, resample=1)
    opened_cells = model.painter._autoencoder().hole(hole, Frame(SQUARE, 16), _with_neighbours).unknown
    cells = torch.zeros(8, 8, dtype=torch.bool)
    cells[2:5, 2:5] = True
    assert torch.equal(opened_cells[0, 0], cells)


def test_a_pictures_own_noise_leads_back_to_its_latents(folders):
    model, image = opened(folders["ddim"], torch.float64), photo(SIZE, SIZE)
    seen, nothing, pixels = model.embedder.see([image]), model.embedder.read([""]), to_pixels([image])
    ask = DiffusionSettings(sampler="ddim", steps=40, guidance=1.0)
    start = model.painter.invert(seen, nothing, pixels, Noise([0]), {INVERSION: ask, "decoder": ask}, silent)
    assert start["decoder"].shape == (1, 4, 8, 8)
    found: list[Tensor] = []
    with recorded_here("ddim", found):
        again = {"decoder": DiffusionSettings(sampler="recorded", steps=40, guidance=1.0)}
        for own in (start, None):
            model.painter.decode(
                seen,
                nothing,
                Noise([5]),
                PaintSettings(dials=again, size=SQUARE, given=Given(start=own)),
                silent,
            )
    latents = model.painter._autoencoder().encode(pixels)
    own, other = ((found[k] - latents).abs().mean() for k in (39, 79))
    assert own < other / 3


def test_little_strength_leaves_the_latents_of_a_picture_nearly_as_they_are(folders):
    model, image = opened(folders["pndm"], torch.float64), photo(SIZE, SIZE)
    pixels, nothing, seen = to_pixels([image]), model.embedder.read([""]), model.embedder.see([image])
    found: dict[float, list[Tensor]] = {0.04: [], 1.0: []}
    for strength, into in found.items():
        with recorded_here("plms", into):
            ask = {"decoder": DiffusionSettings(sampler="recorded", steps=50, guidance=4.0)}
            beginning = Beginning(pixels=pixels, strength=strength)
            model.painter.decode(
                seen,
                nothing,
                Noise([1]),
                PaintSettings(dials=ask, size=SQUARE, given=Given(beginning=beginning)),
                silent,
            )
    assert [len(into) for into in found.values()] == [2, 50]
    latents = model.painter._autoencoder().encode(pixels)
    near, far = ((into[-1] - latents).abs().mean() for into in found.values())
    assert near < far / 4


def test_words_without_a_prior_have_no_place_beside_pictures(folders):
    model = opened(folders["pndm"])
    with pytest.raises(ValueError, match="no prior"):
        model.embedder.meaning(model.embedder.read(["a cat"]))


def test_an_embedding_of_another_clip_is_refused(folders):
    model = opened(folders["pndm"])
    embedding = Embedding(vector=torch.zeros(1, oracle.SHAPE.width), space="other")
    ask = {"decoder": DiffusionSettings(sampler="plms", steps=3, guidance=4.0)}
    with pytest.raises(ValueError, match="other"):
        model.painter.decode(
            embedding, model.embedder.read([""]), Noise([1]), PaintSettings(dials=ask, size=SQUARE), silent
        )


def test_a_picture_of_any_shape_is_seen(folders):
    theirs, model = oracle.open_variations(folders["pndm"]), opened(folders["pndm"])
    for image in (photo(64, 48), photo(31, 90)):
        truth = theirs.image_encoder(theirs.feature_extractor(images=image, return_tensors="pt").pixel_values)
        assert difference(model.embedder.see([image]).vector, truth.image_embeds) < SINGLE
