"""A decoder whose cells begin by looking at what the image embedding says of their own part of the picture.

An embedding is one vector, and a convolution treats all places alike: which numbers of the embedding belong to which
place, a fresh decoder has to find out for each place anew, and that takes most of its training. Here the projection has
one image token for each cell of the smallest map of features. A token begins as what a linear map reads from the
embedding of its cell's patch of the picture, and the attention of the last layer on that map begins with each cell
looking at its own token. What is left to learn, how a patch is painted from its numbers, is the same everywhere.
"""

from operator import itemgetter
from typing import Final

import torch
from einops import rearrange
from torch import Tensor, nn

from dallecli.nets.attention import AddedKVAttention
from dallecli.nets.conditions import Time, Times
from dallecli.nets.resnet import ResnetBlock
from dallecli.nets.text_proj import UnCLIPTextProjModel
from dallecli.nets.unet import UNet
from dallecli.nets.unet_blocks import UpBlock
from dallecli.training.linear import ridge

FITTED_ON: Final = 4096
"""Pictures on which the linear map is fitted, at most."""
CERTAIN: Final = 8.0
"""The logit of a cell's own token; that of every other token and cell is 0."""
LOUD: Final = 8.0
"""What a token holds in its own place, where others hold 0, beside a patch's numbers of size 1: keys should still be
told apart once weights begin to move."""
TRIES: Final = 64
"""Random features of position among which the ones are taken that tell the cells apart most easily."""
PASSED: Final = 1.2784645
"""Where SiLU is 1."""


def look_at_own_tokens(text_proj: UnCLIPTextProjModel, decoder: UNet, pictures: Tensor, embeddings: Tensor) -> bool:
    """Let each cell of the smallest map of features look at a token with what is read of its patch of the picture.

    Args:
        text_proj, decoder: fresh networks, which are changed.
        pictures: uint8 [n 3 s s], as the decoder is to paint them.
        embeddings: theirs, [n d].

    Returns whether they were changed. There have to be as many image tokens as cells, with room in each for a patch's
    numbers and for one more a cell; as many channels as a patch has numbers; as many channels in a head, and in a norm
    group, as there are cells; and the time has to scale and shift norms, as it does in Karlo's decoder.
    """
    tokens, wide = text_proj.config.clip_extra_context_tokens, text_proj.config.cross_attention_dim
    block = decoder.up_blocks[0]
    assert isinstance(block, UpBlock)  # for the type checker
    if block.attentions is None:
        return False
    attention, resnet = block.attentions[-1], block.resnets[-1]
    assert isinstance(attention, AddedKVAttention) and isinstance(resnet, ResnetBlock)  # for the type checker
    width, config = decoder.config.block_out_channels[-1], decoder.config
    patch = 2 ** (len(config.block_out_channels) - 1)
    side, numbers = config.side // patch, 3 * patch**2
    group, head = width // config.norm_num_groups, width // attention.heads
    if tokens != side**2 or config.resnet_time_scale_shift != "scale_shift":
        return False
    if numbers > width or numbers + tokens > wide or tokens > min(group, head):
        return False
    _read_patches(text_proj, side, pictures[:FITTED_ON], embeddings[:FITTED_ON])
    _select(attention, _know_places(resnet, attention.group_norm, group, side), numbers)
    return True


@torch.no_grad()
def _read_patches(text_proj: UnCLIPTextProjModel, side: int, pictures: Tensor, embeddings: Tensor) -> None:
    """Let token i hold what is read of patch i, and behind it which token it is: of `side`^2 numbers one is not 0."""
    proj, norm, tokens = text_proj.clip_extra_context_tokens_proj, text_proj.text_encoder_hidden_states_norm, side**2
    whole = pictures.to(embeddings.device).flatten(1).float() / 127.5 - 1
    patches = rearrange(whole, "n (c i a j b) -> n (c a b i j)", c=3, i=side, j=side, a=pictures.shape[-1] // side)
    read = ridge(embeddings, patches)
    size = read(embeddings).std().clamp(min=1e-3)
    numbers = patches.shape[1] // tokens
    weight, bias = (rearrange(of, "(c n) ... -> c n ...", n=tokens) for of in (proj.weight, proj.bias))
    weight[:numbers] = rearrange(read.weight / size, "(c n) d -> c n d", n=tokens)
    bias[:numbers] = rearrange(read.bias / size, "(c n) -> c n", n=tokens)
    names = slice(numbers, numbers + tokens)
    weight[names] = 0
    bias[names] = LOUD * torch.eye(tokens, device=bias.device)
    # A word has no number.
    norm.weight[names] = 0
    norm.bias[names] = 0


@torch.no_grad()
def _know_places(resnet: ResnetBlock, norm: nn.GroupNorm, group: int, side: int) -> Tensor:
    """Let the last norm group of a block's output depend on the place alone; return it after `norm`, [side^2 group].

    A convolution sees the border, since there is nothing behind it: two of them tell places that are two from it.
    """
    width = norm.num_channels
    own = slice(width - group, width)
    resnet.norm1.weight[-1] = 0
    resnet.norm1.bias[-1] = PASSED
    assert resnet.conv_shortcut is not None  # there is a skip
    for layer in (resnet.conv1, resnet.conv2, resnet.conv_shortcut):
        _silence(layer, own)
    for part in (own, slice(2 * width - group, 2 * width)):
        _silence(resnet.time_emb_proj, part)
    x = resnet.conv1.weight.new_zeros(1, resnet.conv1.in_channels, side, side)
    time = Time(Times(x.new_zeros(1, 1, resnet.time_emb_proj.in_features)), 0)

    tries = []
    for _ in range(TRIES):
        first = nn.init.normal_(resnet.conv1.weight[own, -1])
        second = nn.init.normal_(resnet.conv2.weight[own, own], std=group**-0.5)
        places: Tensor = rearrange(norm(resnet(x, time))[:, own], "1 c i j -> (i j) c")
        told_apart = torch.linalg.svdvals(places - places.mean(dim=0))[side**2 - 2]
        tries.append((float(told_apart), first.clone(), second.clone(), places))
    _, resnet.conv1.weight[own, -1], resnet.conv2.weight[own, own], best = max(tries, key=itemgetter(0))
    return best


def _silence(layer: nn.Linear | nn.Conv2d, outputs: slice) -> None:
    """Let some outputs of a layer be 0."""
    assert layer.bias is not None  # for the type checker
    layer.weight[outputs] = 0
    layer.bias[outputs] = 0


@torch.no_grad()
def _select(attention: AddedKVAttention, places: Tensor, numbers: int) -> None:
    """Let the query of each cell, known by its row of `places`, be its token's key, and add what the token holds."""
    cells, group = places.shape
    heads, head = attention.heads, attention.to_q.out_features // attention.heads
    wanted = CERTAIN / LOUD * head**0.5 * torch.eye(cells, device=places.device)
    told = torch.cat([places, torch.ones_like(places[:, :1])], dim=1)
    query = (torch.linalg.pinv(told) @ wanted).T
    for layer in attention.to_q, attention.to_k, attention.add_k_proj, attention.add_v_proj:
        nn.init.zeros_(layer.weight)
        nn.init.zeros_(layer.bias)
    for part in range(0, heads * head, head):
        own = slice(part, part + cells)
        attention.to_q.weight[own, -group:] = query[:, :-1]
        attention.to_q.bias[own] = query[:, -1]
        attention.add_k_proj.weight[own, numbers : numbers + cells] = torch.eye(cells, device=places.device)
    nn.init.eye_(attention.add_v_proj.weight[:numbers, :numbers])
    out = attention.to_out[0]
    assert isinstance(out, nn.Linear)  # for the type checker
    nn.init.eye_(out.weight)
    nn.init.zeros_(out.bias)
