"""Kandinsky's chains against diffusers' KandinskyV22 pipelines: every step, and the random draws.

Bounds and their reasons are those of `test_parity`. Where diffusers is wrong, a test says how, and what is right.
The published schedule of inpainting clips nothing, and latents of these random nets then grow to 20 times what they
should be, which the autoencoder multiplies further; so repainted pictures are compared in double precision only.
"""

from pathlib import Path
from typing import Any

import kandinsky_oracle as oracle
import numpy as np
import pytest
import torch
import torch.nn.functional as F
from diffusers.pipelines.kandinsky2_2.pipeline_kandinsky2_2_inpainting import prepare_mask
from oracle import difference
from PIL import Image
from torch import Tensor

from dallecli.diffusion.noise import Noise
from dallecli.pipelines.embedding import Embedding
from dallecli.pipelines.frame import Frame
from dallecli.pipelines.given import Beginning, Given, Hole
from dallecli.pipelines.kandinsky import INPAINT, _with_neighbours, open_kandinsky
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.pixels import to_pixels
from dallecli.pipelines.settings import PaintSettings, PriorSettings
from dallecli.pipelines.unclip_parts import UnClipParts
from dallecli.size import Size
from dallecli.tasks.stages import INVERSION, DiffusionSettings
from dallecli.weights.folder import Folder

from .test_parity import DOUBLE, LEVEL, SINGLE, Run, photo, recorded, recording, settings

STEPS = 6
SIZE = 64
SQUARE = Size.square(SIZE)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return oracle.write(tmp_path_factory.mktemp("models") / "kandinsky")


def opened(folder: Path, dtype: torch.dtype = torch.float32) -> UnClipParts[Any]:
    return open_kandinsky(Parts(Folder(folder), torch.device("cpu"), dtype), "tiny").parts


@pytest.fixture(scope="module")
def model(folder):
    return opened(folder)


@pytest.fixture(scope="module")
def theirs(folder):
    """diffusers' pipelines on the same folder, each opened when it is first needed."""
    opened: dict[str, Any] = {}

    def pipeline(name: str) -> Any:
        if name not in opened:
            opened[name] = getattr(oracle, f"open_{name}")(folder)
        return opened[name]

    return pipeline


def generators(seeds: list[int]) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def imagined(pipeline: Any, prompt: str, drawing: Any, guidance: float, **more: Any) -> tuple[Run, Tensor, Tensor]:
    """diffusers' embeddings and what they lead away from, with the samples of all steps."""
    run = Run(stages={"prior": []})
    with recorded(pipeline.scheduler, run.stages["prior"]):
        image, away = pipeline(
            prompt, num_inference_steps=STEPS, generator=drawing, guidance_scale=guidance, return_dict=False, **more
        )
    return run, image, away


def stages(guidance: float) -> Any:
    return settings({"decoder": STEPS}, {"decoder": guidance})


def assert_same(ours: list[Tensor], truth: list[Tensor], tolerance: float = SINGLE) -> None:
    assert len(ours) == len(truth)
    for mine, own in zip(ours, truth, strict=True):
        assert difference(mine.reshape(own.shape), own) < tolerance


@torch.no_grad()
@pytest.mark.parametrize(
    ("prior_guidance", "guidance", "size"), [(4.0, 4.0, SQUARE), (1.0, 1.0, SQUARE), (4.0, 4.0, Size(128, 64))], ids=str
)
def test_pictures_of_words_equal_the_oracles(model, theirs, prior_guidance, guidance, size):
    seeds, prompt = [0, 7], "a red cat on a blue dog"
    drawing = generators(seeds)
    truth, image, away = imagined(theirs("prior"), prompt, drawing, prior_guidance, num_images_per_prompt=2)
    truth.stages["decoder"] = []
    with recorded(theirs("decoder").scheduler, truth.stages["decoder"]):
        pixels = theirs("decoder")(
            image,
            away,
            height=size.height,
            width=size.width,
            num_inference_steps=STEPS,
            guidance_scale=guidance,
            generator=drawing,
            output_type="np",
        ).images
    ours, noise = Run(), Noise(seeds)
    with recording(ours) as watch:
        words = model.embedder.read([prompt])
        prior = settings({"prior": STEPS}, {"prior": prior_guidance})["prior"]
        embedding, _ = model.embedder.imagine(words, noise, PriorSettings(dials=prior, candidates=1), watch)
        painted = model.painter.decode(embedding, words, noise, PaintSettings(dials=stages(guidance), size=size), watch)
    assert difference(embedding.vector, image) < SINGLE
    for stage in ("prior", "decoder"):
        assert_same(ours.stages[stage], truth.stages[stage])
    assert_pictures(painted, pixels)
    assert all(torch.equal(a, g.get_state()) for a, g in zip(noise.state(), drawing, strict=True))


def assert_pictures(ours: Tensor, theirs: np.ndarray) -> None:
    levels = (ours * 0.5 + 0.5).clamp(0, 1).permute(0, 2, 3, 1)
    assert (levels - torch.from_numpy(theirs)).abs().max() < LEVEL


@torch.no_grad()
def test_a_negative_prompt_has_an_embedding_of_its_own_from_the_same_noise(model, theirs):
    drawing = torch.Generator().manual_seed(5)
    truth, image, away = imagined(theirs("prior"), "a teddy bear", drawing, 4.0, negative_prompt="a blue dog")
    ours, noise = Run(), Noise([5])
    with recording(ours) as watch:
        words = model.embedder.read(["a teddy bear"], "a blue dog")
        embedding, _ = model.embedder.imagine(
            words, noise, PriorSettings(dials=settings({"prior": STEPS}, {"prior": 4.0})["prior"], candidates=1), watch
        )
    assert_same(ours.stages["prior"], truth.stages["prior"])
    assert difference(embedding.vector, image) < SINGLE
    assert difference(embedding.away, away) < SINGLE
    assert torch.equal(noise.state()[0], drawing.get_state())


@torch.no_grad()
def test_guidance_leads_away_from_a_picture_that_is_zero_after_normalisation(model, theirs):
    embedding = Embedding(vector=torch.zeros(1, oracle.SHAPE.width), space="tiny")
    assert difference(model.painter._away(embedding), theirs("prior").get_zero_embed()) < SINGLE


@torch.no_grad()
def test_pictures_are_seen_as_the_oracle_sees_them(model, theirs):
    prior = theirs("prior")
    for image in (photo(64, 48), photo(31, 90), photo(12, 10)):
        pixels = prior.image_processor(image, return_tensors="pt").pixel_values
        assert difference(model.embedder.see([image]).vector, prior.image_encoder(pixels).image_embeds) < SINGLE


@torch.no_grad()
def test_variations_equal_the_oracles(model, theirs):
    image, seeds = photo(40, 30), [3, 4]
    seen, drawing = model.embedder.see([image]), generators(seeds)
    truth: list[Tensor] = []
    with recorded(theirs("decoder").scheduler, truth):
        pixels = theirs("decoder")(
            seen.vector.repeat(2, 1),
            theirs("prior").get_zero_embed(2),
            height=SIZE,
            width=SIZE,
            num_inference_steps=STEPS,
            generator=drawing,
            output_type="np",
        ).images
    ours, noise = Run(), Noise(seeds)
    with recording(ours) as watch:
        painted = model.painter.decode(
            seen, model.embedder.read([""]), noise, PaintSettings(dials=stages(4.0), size=SQUARE), watch
        )
    assert_same(ours.stages["decoder"], truth)
    assert_pictures(painted, pixels)


@torch.no_grad()
@pytest.mark.parametrize("strength", [0.3, 0.5, 1.0])
def test_pictures_painted_over_others_equal_the_oracles(model, theirs, strength):
    image, seen = photo(SIZE, SIZE), model.embedder.see([photo(40, 30)])
    drawing = torch.Generator().manual_seed(9)
    truth: list[Tensor] = []
    with recorded(theirs("img2img").scheduler, truth):
        pixels = theirs("img2img")(
            seen.vector,
            image,
            theirs("prior").get_zero_embed(),
            height=SIZE,
            width=SIZE,
            strength=strength,
            num_inference_steps=STEPS,
            generator=drawing,
            output_type="np",
        ).images
    ours, noise = Run(), Noise([9])
    with recording(ours) as watch:
        beginning = Beginning(pixels=to_pixels([image]), strength=strength)
        painted = model.painter.decode(
            seen,
            model.embedder.read([""]),
            noise,
            PaintSettings(dials=stages(4.0), size=SQUARE, given=Given(beginning=beginning)),
            watch,
        )
    assert_same(ours.stages["decoder"], truth)
    assert_pictures(painted, pixels)
    assert torch.equal(noise.state()[0], drawing.get_state())


def test_diffusers_transposes_the_size_of_a_picture_that_is_painted_over(theirs):
    """So no parity of other shapes is asked for: pictures are squares here, cut out before they are painted over."""
    preprocess = theirs("img2img").image_processor.preprocess
    assert preprocess(photo(64, 128), 64, 128).shape[-2:] == (64, 128)  # given as the pipeline gives it: width first


@torch.no_grad()
def test_the_last_step_is_taken_however_weak_the_strength(model):
    """diffusers takes int(steps * strength) steps; of none, its picture has no first timestep and it crashes."""
    beginning = Beginning(pixels=to_pixels([photo(SIZE, SIZE)]), strength=0.01)
    assert beginning.first(STEPS) == STEPS - 1
    run, seen = Run(), model.embedder.see([photo(40, 30)])
    with recording(run) as watch:
        model.painter.decode(
            seen,
            model.embedder.read([""]),
            Noise([1]),
            PaintSettings(dials=stages(4.0), size=SQUARE, given=Given(beginning=beginning)),
            watch,
        )
    assert len(run.stages["decoder"]) == 1


def hole_of(image: Image.Image, box: tuple[int, int, int, int]) -> tuple[Hole, np.ndarray]:
    """A hole of a box (left, top, right, bottom), and diffusers' mask for it: 1 is repainted."""
    mask = np.zeros((SIZE, SIZE), np.float32)
    mask[box[1] : box[3], box[0] : box[2]] = 1
    unknown = torch.from_numpy(mask > 0)[None, None]
    return Hole(pixels=to_pixels([image]), unknown=unknown, resample=1), mask


@torch.no_grad()
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize(("box", "guidance"), [((24, 16, 40, 48), 4.0), ((0, 0, 16, 64), 4.0), ((40, 40, 64, 64), 1.0)])
def test_repainted_pictures_equal_the_oracles(folder, box, guidance, dtype):
    model, oracles = opened(folder, dtype), oracle.open_inpaint(folder, dtype)
    image, seen = photo(SIZE, SIZE), model.embedder.see([photo(40, 30)])
    hole, mask = hole_of(image, box)
    drawing = torch.Generator().manual_seed(2)
    truth: list[Tensor] = []
    with recorded(oracles.scheduler, truth):
        pixels = oracles(
            seen.vector,
            image,
            mask,
            model.painter._away(seen),
            height=SIZE,
            width=SIZE,
            num_inference_steps=STEPS,
            guidance_scale=guidance,
            generator=drawing,
            output_type="np",
        ).images
    ours, noise = Run(), Noise([2])
    with recording(ours) as watch:
        painted = model.painter.decode(
            seen,
            model.embedder.read([""]),
            noise,
            PaintSettings(dials=stages(guidance), size=SQUARE, given=Given(hole=hole)),
            watch,
        )
    assert_same(ours.stages["decoder"], truth, SINGLE if dtype == torch.float32 else DOUBLE)
    # diffusers gives back what its autoencoder makes of the known part; here that part is as it was.
    expected = np.where(mask[None, :, :, None] > 0, pixels, np.asarray(image)[None] / 255)
    if dtype == torch.float64:
        assert_pictures(painted, expected)
    assert torch.equal(
        painted[~hole.unknown.expand_as(painted)], hole.pixels[~hole.unknown.expand_as(painted)].to(dtype)
    )
    assert torch.equal(noise.state()[0], drawing.get_state())


@torch.no_grad()
def test_what_is_narrower_than_a_cell_of_the_latents_is_repainted_where_diffusers_misses_it(model):
    hole, mask = hole_of(photo(SIZE, SIZE), (26, 0, 30, SIZE))  # between two columns of every eighth pixel
    cells = F.interpolate(torch.from_numpy(mask)[None, None], 8, mode="nearest")
    assert not cells.any()  # what diffusers makes of it: nothing is repainted
    known = model.painter._autoencoder(INPAINT).hole(hole, Frame(SQUARE, 16), _with_neighbours)
    assert known.unknown[0, 0, :, 3].all()


@torch.no_grad()
def test_neighbours_of_open_cells_are_opened_as_in_the_oracle():
    generator = torch.Generator().manual_seed(3)
    cells = torch.rand(1, 1, 9, 7, generator=generator) < 0.15
    keep = prepare_mask((~cells).float())
    assert torch.equal(_with_neighbours(cells), keep == 0)


@torch.no_grad()
def test_a_size_between_is_painted_larger_and_its_middle_is_kept(model):
    seen, words = model.embedder.see([photo(40, 30)]), model.embedder.read([""])
    whole = model.painter.decode(seen, words, Noise([1]), PaintSettings(dials=plain(), size=Size.square(128)), ignore)
    assert torch.equal(
        model.painter.decode(seen, words, Noise([1]), PaintSettings(dials=plain(), size=Size.square(100)), ignore),
        whole[..., 14:114, 14:114],
    )


@torch.no_grad()
def test_of_a_size_between_the_known_part_is_kept_to_the_bit(model):
    image = photo(50, 50)
    unknown = torch.zeros(1, 1, 50, 50, dtype=torch.bool)
    unknown[..., 10:30, 40:] = True
    hole = Hole(pixels=to_pixels([image]), unknown=unknown, resample=2)
    painted = model.painter.decode(
        model.embedder.see([image]),
        model.embedder.read([""]),
        Noise([1]),
        PaintSettings(dials=plain(), size=Size.square(50), given=Given(hole=hole)),
        ignore,
    )
    assert torch.equal(painted[~unknown.expand_as(painted)], hole.pixels[~unknown.expand_as(painted)])
    assert not torch.equal(painted, hole.pixels)


@torch.no_grad()
def test_a_picture_comes_back_from_its_own_noise(folder):
    """More nearly than from other noise: as its latents, for these random nets are no autoencoder."""
    model = opened(folder, torch.float64)
    seen, words, pixels = model.embedder.see([photo(40, 30)]), model.embedder.read([""]), to_pixels([photo(SIZE, SIZE)])
    dials = {"decoder": DiffusionSettings(sampler="ddim", steps=10, guidance=1.0)}
    x_T = model.painter.invert(seen, words, pixels, Noise([1]), dials | {INVERSION: dials["decoder"]}, ignore)
    assert x_T["decoder"].shape == (1, *model.painter.parts.folder.noise_shape(SQUARE))
    autoencoder = model.painter._autoencoder("")
    original = autoencoder.decode(autoencoder.encode(pixels)).clamp(-1, 1)
    again = model.painter.decode(
        seen, words, Noise([1]), PaintSettings(dials=dials, size=SQUARE, given=Given(start=x_T)), ignore
    )
    fresh = model.painter.decode(seen, words, Noise([1]), PaintSettings(dials=dials, size=SQUARE), ignore)
    assert (again - original).abs().mean() < 0.6 * (fresh - original).abs().mean()


def plain() -> dict[str, DiffusionSettings]:
    return {"decoder": DiffusionSettings(sampler="ancestral", steps=3, guidance=4.0)}


def ignore(*progress: Any) -> None:
    """No progress bar."""
