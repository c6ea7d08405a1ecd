"""Half-precision weights that are multiplied in float32: exact but for the result's rounding, at any size."""

import pytest
import torch
from torch import nn

from dallecli.nets import single
from dallecli.nets.single import multiply_in_single


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize(
    ("layer", "x"),
    [
        (nn.Linear(300, 20), random(4, 300)),
        (nn.Linear(300, 20, bias=False), random(4, 300)),
        (nn.Conv2d(24, 10, 3, padding=1), random(2, 24, 13, 9)),
        (nn.Conv2d(24, 10, 3, stride=2), random(2, 24, 13, 9)),
        (nn.Conv2d(24, 10, 1), random(2, 24, 13, 9)),
    ],
    ids=str,
)
def test_only_weights_input_and_output_are_rounded(layer, x):
    layer, x = layer.bfloat16(), x.bfloat16()
    with torch.no_grad():
        exact = type(layer).forward(layer.double(), x.double())
        multiply_in_single(layer.bfloat16())
        found = layer(x)
    assert found.dtype == torch.bfloat16
    # Half a unit in the last of eight bits, and a little for the sum in float32.
    assert ((found.double() - exact).abs() <= exact.abs() * 2**-8 + 1e-5).all()


@pytest.mark.parametrize(("kernel", "height"), [(3, 13), (3, 16), (1, 7), (5, 11)])
def test_a_large_image_is_taken_in_bands_and_is_the_same(monkeypatch, kernel, height):
    layer = nn.Conv2d(6, 4, kernel, padding=kernel // 2).bfloat16()
    x = random(2, 6, height, 9).bfloat16()
    multiply_in_single(layer)
    with torch.no_grad():
        whole = layer(x)
        monkeypatch.setattr(single, "BAND", 100)
        bands = layer(x)
    # Sums of another order may tip a number to its neighbour in bfloat16.
    assert (whole.float() - bands.float()).abs().max() <= whole.float().abs().max() * 2**-8


def test_other_layers_and_float32_are_left_alone():
    net = nn.Sequential(nn.GroupNorm(2, 4), nn.Conv2d(4, 4, 3, padding=1))
    state = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    x = random(1, 4, 5, 5)
    with torch.no_grad():
        before = net(x)
        multiply_in_single(net)
        assert torch.equal(net(x), before)
    assert all(torch.equal(tensor, state[name]) for name, tensor in net.state_dict().items())
