"""What training replaces to save time changes nothing but rounding."""

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from dallecli.nets.attention import FEW, attend
from dallecli.nets.clip import ClipVisionConfig, CLIPVisionModel
from dallecli.training.machine import Machine

CPU = torch.device("cpu")


def randn(*shape: int, seed: int) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def gradients(result: Tensor, inputs: list[Tensor]) -> list[Tensor]:
    return list(torch.autograd.grad(result, inputs, randn(*result.shape, seed=9).to(result.dtype)))


@pytest.mark.parametrize(
    ("queries", "keys", "causal", "biased"),
    [(4, 32, False, False), (16, 44, False, True), (24, 24, False, True), (24, 24, True, False)],
)
def test_attention_and_its_gradients_are_those_of_the_fused_kernel(
    queries: int, keys: int, causal: bool, biased: bool
) -> None:
    q, k, v = (randn(2, 3, n, 16, seed=n + s).requires_grad_() for s, n in enumerate((queries, keys, keys)))
    bias = None
    if biased:
        bias = torch.zeros(2, 1, 1, keys)
        bias[1, ..., keys // 2 :] = -torch.inf
    assert queries * keys <= FEW
    plain = attend(q, k, v, bias, causal=causal)
    fused = F.scaled_dot_product_attention(q, k, v, attn_mask=bias, is_causal=causal)
    torch.testing.assert_close(plain, fused, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(gradients(plain, [q, k, v]), gradients(fused, [q, k, v]), atol=1e-5, rtol=1e-4)
    with torch.no_grad():  # where nothing is learned, the fused kernel answers, to the last bit
        assert torch.equal(attend(q, k, v, bias, causal=causal), fused)


def test_attention_of_many_tokens_stays_fused() -> None:
    q, k, v = (randn(1, 1, 200, 8, seed=s).requires_grad_() for s in range(3))
    assert torch.equal(attend(q, k, v), F.scaled_dot_product_attention(q, k, v))


def test_attention_in_half_precision_is_as_exact_as_its_inputs() -> None:
    q, k, v = ((3 * randn(2, 3, 20, 16, seed=s)).bfloat16().requires_grad_() for s in range(3))
    with torch.autocast("cpu", torch.bfloat16):
        found = attend(q, k, v)
    exact = F.scaled_dot_product_attention(q.double(), k.double(), v.double())
    assert found.dtype == torch.bfloat16
    # One rounding, at the end: half of the last of eight binary digits.
    assert ((found - exact).abs() <= 2**-8 * exact.abs() + 1e-6).all()


def test_group_norms_are_computed_in_single_precision_only_where_half_is_trained_on_a_cpu() -> None:
    for machine, replaced in ((Machine(CPU), False), (Machine(CPU, torch.bfloat16), True)):
        net = nn.Sequential(nn.GroupNorm(2, 8))
        names = list(net.state_dict())
        machine.suit(net)
        assert (type(net[0]) is not nn.GroupNorm) == replaced
        assert list(net.state_dict()) == names
    x = randn(3, 8, 5, 5, seed=0).bfloat16().requires_grad_()
    found = net(x)
    exact = F.group_norm(x.float(), 2)
    assert found.dtype == torch.bfloat16
    torch.testing.assert_close(found, exact.bfloat16(), atol=0, rtol=0)
    torch.testing.assert_close(gradients(found, [x]), gradients(exact, [x]), atol=0.02, rtol=0.02)


@pytest.mark.parametrize("side", [8, 11])
def test_patches_that_learn_are_what_the_convolution_makes_of_them(side: int) -> None:
    shape = {"hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 1}
    net = CLIPVisionModel(ClipVisionConfig(**shape, image_size=side, patch_size=4, projection_dim=8))
    pixels, weight = randn(2, 3, side, side, seed=0), net.vision_model.embeddings.patch_embedding.weight
    learning = net(pixels)
    weight.requires_grad_(requires_grad=False)
    torch.testing.assert_close(learning, net(pixels), atol=1e-5, rtol=1e-5)
    weight.requires_grad_()
    (found,) = gradients(learning, [weight])
    assert found.shape == weight.shape
    assert found.count_nonzero() > 0.9 * found.numel()
