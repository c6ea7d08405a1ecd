"""Every net against the class it was published with, on the same random weights, in three shapes each.

Both sides compute in float32 with the same operations in nearly the same order, so what is left is rounding: about
1e-7 a layer, which the nets add up to a few 1e-6 of their largest output. TOLERANCE leaves a margin for other machines
and stays ten times below the 1e-4 that the whole pipeline is allowed.
"""

import gc
import weakref
from typing import Any

import oracle
import pytest
import torch
from diffusers.models.embeddings import Timesteps
from torch import Tensor, nn

from dallecli.nets.clip import ClipTextConfig, CLIPTextModel, ClipVisionConfig, CLIPVisionModel
from dallecli.nets.conditions import AHEAD, Context, KeysValues, Time, Times
from dallecli.nets.prior import PriorConfig, PriorTransformer
from dallecli.nets.resnet import sinusoid
from dallecli.nets.text_proj import TextProjConfig, UnCLIPTextProjModel
from dallecli.nets.unet import UNet, UNetConfig

TOLERANCE = 1e-5
VOCABULARY = 50
SHAPES = pytest.mark.parametrize("shape", oracle.SHAPES.values(), ids=oracle.SHAPES)
PICTURES = 3

pytestmark = pytest.mark.usefixtures("without_gradients")


@pytest.fixture
def without_gradients():
    with torch.no_grad():
        yield


def twin(build: Any, config: Any, theirs: nn.Module) -> Any:
    """Our net with the oracle's weights, loaded strictly and unrenamed."""
    json = theirs.config.to_dict() if hasattr(theirs.config, "to_dict") else dict(theirs.config)
    ours = build(config.from_config(json)).eval()
    ours.load_state_dict(theirs.state_dict(), strict=True)
    return ours


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def prompt_mask(tokens: int) -> Tensor:
    """The masks of prompts of 2, 3, ... tokens [PICTURES, tokens]."""
    return torch.arange(tokens) < torch.arange(2, 2 + PICTURES)[:, None]


def timesteps() -> list[Tensor]:
    """A shared one, as the samplers give, and one a picture, as training does."""
    return [torch.tensor(999), torch.tensor([0, 417, 999])]


@SHAPES
def test_text_tower(shape):
    theirs = oracle.text_encoder(shape, VOCABULARY)
    ours = twin(CLIPTextModel, ClipTextConfig, theirs)
    ids = torch.randint(0, VOCABULARY - 1, (PICTURES, shape.context), generator=torch.Generator().manual_seed(0))
    # The end token at three places, and again as padding behind the first of them.
    ids[0, 1:] = ids[1, 3] = ids[2, -1] = VOCABULARY - 1
    states, truth = ours(ids), theirs(ids)
    assert oracle.difference(states.hidden, truth.last_hidden_state) < TOLERANCE
    assert oracle.difference(states.embedding, truth.text_embeds) < TOLERANCE


@SHAPES
def test_image_tower(shape):
    theirs = oracle.image_encoder(shape)
    ours = twin(CLIPVisionModel, ClipVisionConfig, theirs)
    pixels = random(PICTURES, 3, shape.vision["image_size"], shape.vision["image_size"])
    assert oracle.difference(ours(pixels), theirs(pixels).image_embeds) < TOLERANCE


@SHAPES
def test_prior(shape):
    theirs = oracle.prior(shape)
    ours = twin(PriorTransformer, PriorConfig, theirs)
    x, text = random(PICTURES, shape.width), random(PICTURES, shape.width, seed=1)
    hidden = random(PICTURES, shape.context, shape.width, seed=2)
    mask = prompt_mask(shape.context)
    for t in timesteps():
        truth = theirs(x, t, text, hidden, mask).predicted_image_embedding
        assert oracle.difference(ours(x, t, text, hidden, mask), truth) < TOLERANCE
        # the texts in another order than the samples
        read = ours.read(text.flip(0), hidden.flip(0), mask.flip(0))
        answer = ours.answer(x, t, read, torch.arange(PICTURES).flip(0))
        assert oracle.difference(answer, truth) < TOLERANCE
    assert torch.equal(x * ours.clip_std + ours.clip_mean, theirs.post_process_latents(x))


@SHAPES
def test_prior_without_the_columns_that_are_padding_in_every_prompt(shape):
    theirs = oracle.prior(shape)
    ours = twin(PriorTransformer, PriorConfig, theirs)
    x, text = random(PICTURES, shape.width), random(PICTURES, shape.width, seed=1)
    hidden = random(PICTURES, shape.context, shape.width, seed=2)
    mask = prompt_mask(shape.context)
    mask[:, -2:] = False
    truth = theirs(x, timesteps()[0], text, hidden, mask).predicted_image_embedding
    trimmed = ours(x, timesteps()[0], text, hidden[:, :-2], mask[:, :-2])
    assert oracle.difference(trimmed, truth) < TOLERANCE


@SHAPES
def test_text_proj(shape):
    theirs = oracle.text_proj(shape)
    ours = twin(UnCLIPTextProjModel, TextProjConfig, theirs)
    image, text = random(PICTURES, shape.width), random(2 * PICTURES, shape.width, seed=1)
    hidden = random(2 * PICTURES, shape.context, shape.width, seed=2)
    context, time = theirs(
        image_embeddings=image,
        prompt_embeds=text,
        text_encoder_hidden_states=hidden,
        do_classifier_free_guidance=True,
    )
    no_image = ours.learned_classifier_free_guidance_embeddings.expand_as(image)
    condition = ours(torch.cat([no_image, image]), text, hidden)
    assert oracle.difference(condition.context, context) < TOLERANCE
    assert oracle.difference(condition.time, time) < TOLERANCE


@SHAPES
def test_decoder(shape):
    theirs = oracle.decoder(shape)
    ours = twin(UNet, UNetConfig, theirs)
    size, tokens = shape.decoder["sample_size"], shape.context + 4
    x = random(PICTURES, 3, size, size)
    context = random(PICTURES, tokens, shape.text_proj["cross_attention_dim"], seed=1)
    time = random(PICTURES, shape.text_proj["time_embed_dim"], seed=2)
    mask = prompt_mask(tokens)
    for t in timesteps():
        truth = theirs(x, t, context, class_labels=time, attention_mask=mask).sample
        assert oracle.difference(ours(x, t, context, time, mask), truth) < TOLERANCE
    truth = theirs(x, t, context, class_labels=time).sample
    assert oracle.difference(ours(x, t, context, time), truth) < TOLERANCE


SUPER_RES = {name: shape.super_res for name, shape in oracle.SHAPES.items()} | {
    "second": oracle.SHAPES["starter"].second_super_res
}


@pytest.mark.parametrize("config", SUPER_RES.values(), ids=SUPER_RES)
def test_super_resolution(config):
    theirs = oracle.super_res(config, 6)
    ours = twin(UNet, UNetConfig, theirs)
    x = random(PICTURES, 6, config["sample_size"], config["sample_size"])
    for t in timesteps():
        assert oracle.difference(ours(x, t), theirs(x, t).sample) < TOLERANCE


def test_a_timestep_for_all_is_a_timestep_for_each():
    config = oracle.SHAPES["karlo"].super_res
    ours = twin(UNet, UNetConfig, oracle.super_res(config, 6))
    x = random(PICTURES, 6, config["sample_size"], config["sample_size"])
    once, each = ours(x, torch.tensor(500)), ours(x, torch.full((PICTURES,), 500))
    assert oracle.difference(once, each) < TOLERANCE  # a product of one row and of several may be rounded differently


def test_what_is_computed_once_a_run_is_what_every_step_would_compute():
    config = oracle.SHAPES["karlo"].super_res
    ours = twin(UNet, UNetConfig, oracle.super_res(config, 6))
    x = random(PICTURES, 6, config["sample_size"], config["sample_size"])
    ts = list(range(999, 999 - 2 * AHEAD, -1))
    times = ours.times(ts)
    for place in (0, AHEAD - 1, AHEAD, len(ts) - 1, 0):
        assert oracle.difference(ours.denoise(x, Time(times, place)), ours(x, torch.tensor(ts[place]))) < TOLERANCE


def test_a_network_that_leaves_takes_its_projections_along():
    layer, context, times = nn.Linear(4, 4), Context(random(1, 2, 4)), Times(random(3, 1, 4))
    context.once(layer, lambda tokens: KeysValues(tokens, tokens))
    times.through(layer, 0)
    left = weakref.ref(layer)
    del layer
    gc.collect()
    assert left() is None


@pytest.mark.parametrize("width", [8, 12, 24, 192, 320, 2048])
def test_time_features_equal_the_oracles_bit_for_bit(width):
    t = torch.arange(1000)
    assert torch.equal(sinusoid(t, width), Timesteps(width, flip_sin_to_cos=True, downscale_freq_shift=0)(t))
