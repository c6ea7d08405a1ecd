"""T5's encoder against transformers' own, on the same random weights."""

import math

import pytest
import torch
from torch import Tensor
from transformers import T5Config as TheirConfig
from transformers import T5EncoderModel

from dallecli.nets.t5 import T5Config, T5Encoder, relative_buckets

# Both sides compute in float32 with the same operations: what is left is rounding, about 1e-7 a layer.
TOLERANCE = 1e-5
# bfloat16 has 8 bits of precision: 0.004. Sums of a few layers, in another order, differ by a few of these.
HALF_TOLERANCE = 0.03
SHAPES = [
    {"vocab_size": 64, "d_model": 32, "d_kv": 8, "d_ff": 48, "num_layers": 2, "num_heads": 4},
    {"vocab_size": 50, "d_model": 24, "d_kv": 16, "d_ff": 40, "num_layers": 3, "num_heads": 2},
    {"vocab_size": 32, "d_model": 16, "d_kv": 4, "d_ff": 16, "num_layers": 1, "num_heads": 3}
    | {"relative_attention_num_buckets": 8, "relative_attention_max_distance": 20},
]
TOKENS = 77


def pair(shape: dict, dtype: torch.dtype = torch.float32) -> tuple[T5Encoder, T5EncoderModel]:
    torch.manual_seed(0)
    theirs = T5EncoderModel(TheirConfig(**shape, feed_forward_proj="gated-gelu", tie_word_embeddings=False)).eval()
    for weight in theirs.parameters():  # the library's own initialisation is nearly nothing, and hides mistakes
        weight.data = torch.randn_like(weight) * 0.3 + (weight.dim() == 1)
    ours = T5Encoder(T5Config.from_config(theirs.config.to_dict())).eval()
    ours.load_state_dict({name: theirs.state_dict()[name] for name in ours.state_dict()}, strict=True)
    return ours.to(dtype), theirs.to(dtype)


def prompts(vocabulary: int) -> tuple[Tensor, Tensor]:
    """Random tokens of prompts that are empty, short, longer and too long."""
    ids = torch.randint(3, vocabulary, (4, TOKENS), generator=torch.Generator().manual_seed(1))
    mask = torch.arange(TOKENS) < torch.tensor([1, 5, 40, TOKENS])[:, None]
    return ids * mask, mask


def difference(ours: Tensor, theirs: Tensor) -> float:
    return float((ours - theirs).abs().max() / theirs.abs().max())


@pytest.mark.parametrize("shape", SHAPES)
@torch.no_grad()
def test_states_are_those_of_transformers_also_of_padding(shape):
    ours, theirs = pair(shape)
    ids, mask = prompts(shape["vocab_size"])
    truth = theirs(ids, attention_mask=mask.long()).last_hidden_state
    assert difference(ours(ids, mask), truth) < TOLERANCE


@torch.no_grad()
def test_a_prompt_does_not_depend_on_what_stands_behind_its_end():
    ours, _ = pair(SHAPES[0])
    ids, mask = prompts(64)
    other = torch.where(mask, ids, 9)
    assert torch.equal(ours(ids, mask)[mask], ours(other, mask)[mask])


@torch.no_grad()
def test_states_in_bfloat16_are_those_of_transformers():
    ours, theirs = pair(SHAPES[0], torch.bfloat16)
    ids, mask = prompts(64)
    truth = theirs(ids, attention_mask=mask.long()).last_hidden_state
    states = ours(ids, mask)
    assert states.dtype == torch.bfloat16
    assert difference(states.float(), truth.float()) < HALF_TOLERANCE


def with_single_outputs(net: torch.nn.Module) -> None:
    """What transformers does when it loads float16: `_keep_in_fp32_modules`."""
    net.half()
    for name, module in net.named_modules():
        if name.endswith(".wo"):
            module.float()


@torch.no_grad()
def test_in_float16_the_outputs_of_feed_forward_layers_are_float32():
    ours, theirs = pair(SHAPES[0])
    for net in (ours, theirs):
        with_single_outputs(net)
    ids, mask = prompts(64)
    truth = theirs(ids, attention_mask=mask.long()).last_hidden_state
    states = ours(ids, mask)
    assert states.dtype == truth.dtype == torch.float16
    assert difference(states.float(), truth.float()) < HALF_TOLERANCE


@torch.no_grad()
def test_in_float16_what_overflows_in_attention_is_clamped_as_by_transformers():
    ours, theirs = pair(SHAPES[0])
    for net, layer in ((ours, ours.encoder.block[0].layer[0]), (theirs, theirs.encoder.block[0].layer[0])):
        layer.SelfAttention.o.weight.data[3] = 60000
        layer.SelfAttention.v.weight.data[:] = 50
        with_single_outputs(net)
    ids, mask = prompts(64)
    attended = ours.encoder.block[0].layer[0](ours.shared(ids), torch.zeros(1, 1, 1, TOKENS).half())
    assert attended.isinf().any()
    truth = theirs(ids, attention_mask=mask.long()).last_hidden_state
    states = ours(ids, mask)
    assert truth.isfinite().all()
    assert difference(states.float(), truth.float()) < HALF_TOLERANCE


@pytest.mark.parametrize(
    "changed",
    [
        {"feed_forward_proj": "relu"},
        {"feed_forward_proj": "gated-silu"},
        {"is_decoder": True},
        {"relative_attention_num_buckets": 6},
        {"relative_attention_num_buckets": 0},
        {"relative_attention_max_distance": 8},
        {"d_model": "wide"},
    ],
)
def test_other_variants_are_refused_by_name(changed):
    with pytest.raises(ValueError, match=next(iter(changed))):
        T5Config.from_config({"feed_forward_proj": "gated-gelu"} | changed)


def test_a_config_that_states_nothing_is_that_of_the_first_t5_and_refused():
    with pytest.raises(ValueError, match="feed_forward_proj is 'relu'"):
        T5Config.from_config({})


def test_buckets_are_exact_nearby_and_the_last_one_from_the_maximal_distance_on():
    config = T5Config(feed_forward_proj="gated-gelu")
    buckets = relative_buckets(300, config)
    assert buckets[0, :8].tolist() == [0, 17, 18, 19, 20, 21, 22, 23]
    assert buckets[:8, 0].tolist() == [0, 1, 2, 3, 4, 5, 6, 7]
    assert set(buckets[0, 128:].tolist()) == {31} and set(buckets[128:, 0].tolist()) == {15}
    assert buckets[0, 16].item() == 16 + 8 + int(math.log(16 / 8) / math.log(128 / 8) * 8)
