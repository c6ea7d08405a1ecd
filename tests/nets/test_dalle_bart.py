"""DALL·E Mini's transformer: its arithmetic against the formulas, written out text by text."""

import math

import pytest
import torch
from dalle_mini_oracle import Reference
from torch import Tensor, nn

from dallecli.nets.dalle_bart import DalleBartConfig, DalleBartDecoder, DalleBartEncoder, Writing

TINY = DalleBartConfig(
    d_model=32, encoder_vocab_size=40, max_text_length=8, encoder_layers=2, encoder_attention_heads=2,
    encoder_ffn_dim=44, image_vocab_size=20, image_length=9, decoder_layers=2, decoder_attention_heads=2,
    decoder_ffn_dim=44, decoder_start_token_id=20,
)  # fmt: skip


def random_net(net: nn.Module, seed: int) -> nn.Module:
    generator = torch.Generator().manual_seed(seed)
    for parameter in net.parameters():
        parameter.data = torch.randn(parameter.shape, generator=generator) / math.sqrt(parameter.shape[-1])
    return net.requires_grad_(False).eval()


def written(decoder: DalleBartDecoder, states: Tensor, mask: Tensor, rows: list[int], tokens: list[int]) -> Tensor:
    """The logits [b n v] behind each of the tokens, which all rows read one after the other."""
    writing = Writing.begin(decoder, states, mask, rows)
    each = [torch.tensor([[token]] * len(rows)) for token in tokens]
    return torch.stack([decoder.write(token, place, writing) for place, token in enumerate(each)], dim=1)


def test_states_and_logits_are_those_of_the_formulas():
    encoder, decoder = random_net(DalleBartEncoder(TINY), 1), random_net(DalleBartDecoder(TINY), 2)
    reference = Reference({"encoder": encoder.state_dict(), "decoder": decoder.state_dict()})
    texts = [[0, 7, 9, 2], [0, 2], [0, 3, 4, 5, 6, 7, 8, 2]]
    ids = torch.tensor([text + [1] * (8 - len(text)) for text in texts])
    mask = torch.tensor([[k < len(text) for k in range(8)] for text in texts])
    states, tokens = encoder(ids, mask), [20, 3, 19, 0, 7, 7, 12, 1, 5]
    logits = written(decoder, states, mask, [2, 0, 1, 0], tokens)
    for row, text in enumerate([2, 0, 1, 0]):
        own = reference.states(texts[text])
        # Float32 against float64, through four layers: a millionth of the largest number, with room to spare.
        assert (states[text, : len(own)] - own).abs().max() < 1e-5 * own.abs().max()
        wanted = reference.logits(own, tokens)
        assert (logits[row] - wanted).abs().max() < 1e-4 * wanted.abs().max()


def test_tokens_that_are_known_are_read_at_once_as_one_by_one():
    encoder, decoder = random_net(DalleBartEncoder(TINY), 1), random_net(DalleBartDecoder(TINY), 2)
    ids, mask, tokens = torch.tensor([[0, 7, 2]]), torch.ones(1, 3, dtype=torch.bool), [20, 3, 19, 0, 7]
    states = encoder(ids, mask)
    one_by_one = written(decoder, states, mask, [0], tokens)
    writing = Writing.begin(decoder, states, mask, [0])
    at_once = decoder.write(torch.tensor([tokens[:4]]), 0, writing)
    assert torch.allclose(at_once, one_by_one[:, 3], atol=1e-5)
    assert torch.allclose(decoder.write(torch.tensor([tokens[4:]]), 4, writing), one_by_one[:, 4], atol=1e-5)


def test_it_runs_in_bfloat16_close_to_float32():
    encoder, decoder = random_net(DalleBartEncoder(TINY), 1), random_net(DalleBartDecoder(TINY), 2)
    ids, mask = torch.tensor([[0, 7, 2]]), torch.ones(1, 3, dtype=torch.bool)
    whole = written(decoder, encoder(ids, mask), mask, [0], [20, 3])
    states = encoder.bfloat16()(ids, mask)
    half = written(decoder.bfloat16(), states, mask, [0], [20, 3])
    assert half.dtype == torch.bfloat16
    assert (half - whole).abs().max() < 0.1 * whole.abs().max()  # eight bits, through four layers


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("use_bias", True), ("ln_positions", "postln"), ("use_glu", False), ("activation_function", "swish"),
        ("encoder_attention_heads", 15), ("decoder_start_token_id", 16385), ("force_ln_scale", True),
    ],
)  # fmt: skip
def test_a_variant_that_was_not_published_is_refused_by_name(field: str, value: object):
    with pytest.raises(ValueError, match=field):
        DalleBartConfig.from_config({field: value})
