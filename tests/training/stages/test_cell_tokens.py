"""A decoder's cells begin by looking at what the image embedding says of their own part of the picture."""

from dataclasses import replace

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from dallecli.nets.attention import AddedKVAttention
from dallecli.nets.text_proj import TextProjConfig
from dallecli.nets.unet import UNetConfig
from dallecli.training.stages.cell_tokens import look_at_own_tokens
from dallecli.training.stages.decoder import DecoderParts

SIZE, SIDE, WIDTH, COUNT = 16, 4, 40, 400
TEXT_PROJ = TextProjConfig(
    clip_extra_context_tokens=SIDE**2, clip_embeddings_dim=WIDTH, time_embed_dim=32, cross_attention_dim=64
)
DECODER = UNetConfig(
    sample_size=SIZE,
    out_channels=6,
    down_block_types=("ResnetDownsampleBlock2D", "ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
    mid_block_type="UNetMidBlock2DSimpleCrossAttn",
    up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D", "ResnetUpsampleBlock2D"),
    block_out_channels=(8, 16, 48),
    layers_per_block=1,
    cross_attention_dim=64,
    attention_head_dim=24,
    norm_num_groups=2,
    time_embedding_dim=32,
    class_embed_type="identity",
    resnet_time_scale_shift="scale_shift",
)


def fresh(text_proj: TextProjConfig = TEXT_PROJ, decoder: UNetConfig = DECODER) -> DecoderParts:
    torch.manual_seed(0)
    return DecoderParts(text_proj, decoder)


def drawn() -> tuple[Tensor, Tensor]:
    """Pictures that a linear map reads from their embeddings but for the rounding to 8 bits."""
    generator = torch.Generator().manual_seed(1)
    embeddings = torch.randn(COUNT, WIDTH, generator=generator)
    ways = F.interpolate(torch.randn(WIDTH, 3, 6, 6, generator=generator), SIZE, mode="bilinear")
    pictures = 128 + 8 * torch.einsum("nd,dchw->nchw", embeddings, ways)
    return pictures.round().clamp(0, 255).to(torch.uint8), embeddings


def last_attention(parts: DecoderParts) -> AddedKVAttention:
    attentions = parts.decoder.up_blocks[0].get_submodule("attentions")
    attention = list(attentions.children())[-1]
    assert isinstance(attention, AddedKVAttention)
    return attention


def seen(parts: DecoderParts, embeddings: Tensor, seed: int) -> tuple[Tensor, Tensor]:
    """What goes into the last attention on the smallest map and what it adds, with random words, pictures and times."""
    kept: list[Tensor] = []
    attention = last_attention(parts)
    handle = attention.register_forward_hook(lambda _, given, out: kept.extend((given[0], out - given[0])))
    generator = torch.Generator().manual_seed(seed)
    count = len(embeddings)
    with torch.no_grad():
        words = 3 * torch.randn(count, 9, WIDTH, generator=generator)
        condition = parts.text_proj(embeddings, torch.randn(count, WIDTH, generator=generator), words)
        x = torch.randn(count, 3, SIZE, SIZE, generator=generator)
        t = torch.randint(1000, (count,), generator=generator)
        parts.decoder(x, t, condition.context, condition.time)
    handle.remove()
    return kept[0], kept[1]


def test_each_cell_is_given_what_is_read_of_its_patch_of_the_picture() -> None:
    pictures, embeddings = drawn()
    parts = fresh()
    assert look_at_own_tokens(parts.text_proj, parts.decoder, pictures[:300], embeddings[:300])
    held_out = pictures[300:].float() / 127.5 - 1
    patches = rearrange(held_out, "n c (i a) (j b) -> n (c a b) i j", i=SIDE, j=SIDE)
    _, added = seen(parts, embeddings[300:], seed=2)
    # A cell's own token has e^8 of the e^8 + 40 that its logits weigh together: 1.3 % of what it is given is others'.
    scale = (added * patches).sum() / patches.square().sum()
    assert float((added / scale - patches).square().mean() / patches.var()) < 0.002
    before = fresh()
    _, fresh_added = seen(before, embeddings[300:], seed=2)
    assert torch.corrcoef(torch.stack([fresh_added.flatten(), patches.flatten()]))[0, 1].abs() < 0.1


def test_cells_know_their_place_whatever_the_picture_the_words_and_the_time_are() -> None:
    pictures, embeddings = drawn()
    parts = fresh()
    look_at_own_tokens(parts.text_proj, parts.decoder, pictures, embeddings)
    places = []
    for seed in (3, 4):
        x, _ = seen(parts, embeddings[10 * seed : 10 * seed + 8], seed)
        places.append(last_attention(parts).group_norm(x)[:, -24:].detach())
    first = places[0][:1]
    assert all(torch.equal(one, first.expand_as(one)) for one in places)
    cells = first[0].flatten(1).T
    assert torch.cdist(cells, cells)[~torch.eye(SIDE**2, dtype=torch.bool)].min() > 0.5


@pytest.mark.parametrize(
    ("text_proj", "decoder"),
    [
        pytest.param(replace(TEXT_PROJ, clip_extra_context_tokens=4), DECODER, id="a token for four cells"),
        pytest.param(
            replace(TEXT_PROJ, cross_attention_dim=56), replace(DECODER, cross_attention_dim=56), id="narrow tokens"
        ),
        pytest.param(TEXT_PROJ, replace(DECODER, norm_num_groups=4), id="small norm groups"),
        pytest.param(TEXT_PROJ, replace(DECODER, attention_head_dim=8), id="narrow heads"),
        pytest.param(TEXT_PROJ, replace(DECODER, resnet_time_scale_shift="default"), id="times that are added"),
        pytest.param(
            TEXT_PROJ,
            replace(DECODER, up_block_types=("ResnetUpsampleBlock2D",) * 3),
            id="no attention on the way up",
        ),
    ],
)
def test_a_decoder_without_room_for_it_is_left_as_it_is(text_proj: TextProjConfig, decoder: UNetConfig) -> None:
    pictures, embeddings = drawn()
    parts = fresh(text_proj, decoder)
    assert not look_at_own_tokens(parts.text_proj, parts.decoder, pictures, embeddings)
    before = fresh(text_proj, decoder).state_dict()
    assert all(torch.equal(value, before[name]) for name, value in parts.state_dict().items())


def error_after(steps: int, parts: DecoderParts) -> float:
    """The error of pictures from their embeddings and nearly nothing but noise, after some steps on others."""
    pictures, embeddings = drawn()
    wanted = pictures.float() / 127.5 - 1
    optimizer = torch.optim.AdamW(parts.parameters(), lr=2e-3)
    generator = torch.Generator().manual_seed(5)

    def loss(rows: Tensor) -> Tensor:
        noise = torch.randn(len(rows), 3, SIZE, SIZE, generator=generator)
        condition = parts.text_proj(embeddings[rows], torch.zeros(len(rows), WIDTH), torch.zeros(len(rows), 1, WIDTH))
        t = torch.full((len(rows),), 990)
        painted = parts.decoder(noise, t, condition.context, condition.time)[:, :3]
        return F.mse_loss(painted, wanted[rows])

    for _ in range(steps):
        loss(torch.randint(300, (32,), generator=generator)).backward()
        optimizer.step()
        optimizer.zero_grad()
    with torch.no_grad():
        return float(loss(torch.arange(300, COUNT)) / wanted.var())


def test_such_a_decoder_learns_to_paint_from_embeddings_sooner() -> None:
    pictures, embeddings = drawn()
    begun = fresh()
    look_at_own_tokens(begun.text_proj, begun.decoder, pictures[:300], embeddings[:300])
    assert error_after(40, begun) < 0.6 * error_after(40, fresh())
