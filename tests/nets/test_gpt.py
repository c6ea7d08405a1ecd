"""The transformer of one stream: minDALL-E's keys, and what is written with the cache is what is read at once."""

import pytest
import torch

from dallecli.nets.gpt import Gpt, GptConfig

TINY = {"vocab_size_txt": 11, "vocab_size_img": 13, "embed_dim": 8, "n_layers": 2, "n_heads": 2,
        "ctx_len_txt": 5, "ctx_len_img": 6}  # fmt: skip


@pytest.fixture(scope="module")
def gpt() -> Gpt:
    torch.manual_seed(0)
    return Gpt(GptConfig.from_config(TINY)).eval()


def streams(gpt: Gpt) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    return torch.randint(11, (3, 5), generator=generator), torch.randint(13, (3, 6), generator=generator)


@pytest.mark.parametrize("as_tensor", [False, True])
@torch.inference_mode()
def test_codes_written_one_by_one_have_the_logits_of_the_whole_stream(gpt: Gpt, as_tensor: bool) -> None:
    text, codes = streams(gpt)
    _, whole = gpt(text, codes)
    first, cache = gpt.read(text)
    logits = [first]
    for place in range(5):
        logits.append(gpt.write(codes[:, place], torch.tensor([place]) if as_tensor else place, cache))
    torch.testing.assert_close(torch.stack(logits, dim=1), whole, rtol=0, atol=1e-5)


@torch.inference_mode()
def test_no_position_sees_what_comes_after_it(gpt: Gpt) -> None:
    text, codes = streams(gpt)
    of_text, of_codes = gpt(text, codes)
    changed = codes.clone()
    changed[:, 3] = (codes[:, 3] + 1) % 13
    text_again, codes_again = gpt(text, changed)
    assert torch.equal(of_text, text_again)
    assert torch.equal(of_codes[:, :4], codes_again[:, :4])
    assert not torch.allclose(of_codes[:, 4], codes_again[:, 4])


@torch.inference_mode()
def test_every_text_position_is_attended_padding_among_them(gpt: Gpt) -> None:
    text, codes = streams(gpt)
    for place in range(5):
        changed = text.clone()
        changed[:, place] = (text[:, place] + 1) % 11
        assert not torch.allclose(gpt(text, codes)[1], gpt(changed, codes)[1]), place


@torch.inference_mode()
def test_streams_go_on_from_a_text_that_was_read_once(gpt: Gpt) -> None:
    text, codes = streams(gpt)
    rows = torch.tensor([2, 0, 2])
    _, cache = gpt.read(text)
    going_on = cache.repeat(rows)
    logits = gpt.write(codes[:, 0], 0, going_on)
    torch.testing.assert_close(logits, gpt(text[rows], codes)[1][:, 1], rtol=0, atol=1e-5)


@pytest.mark.parametrize(
    ("field", "value", "said"), [("n_heads", 3, "no multiple of n_heads"), ("ctx_len_img", 0, "at least 1")]
)
def test_a_config_that_makes_no_network_is_refused_by_name(field: str, value: int, said: str) -> None:
    with pytest.raises(ValueError, match=said):
        GptConfig.from_config(TINY | {field: value})
