"""Layers with weights in oneDNN's order compute what they computed before."""

import copy

import pytest
import torch
from torch import nn

from dallecli.nets import prepacked
from dallecli.nets.prepacked import can_prepack, prepack
from dallecli.placement import native_bf16

LAYERS = {
    "3x3": nn.Conv2d(6, 24, 3, padding=1),
    "1x1": nn.Conv2d(8, 16, 1),
    "half": nn.Conv2d(8, 8, 3, stride=2, padding=1),
    "half, one-sided": nn.Conv2d(8, 8, 3, stride=2),
    "patches": nn.Conv2d(3, 16, 8, stride=8, bias=False),
    "linear": nn.Linear(24, 40),
    "no bias": nn.Linear(24, 40, bias=False),
}
# Sums of up to 72 products of numbers around 1, in another order.
TOLERANCES = {torch.float32: 1e-5, torch.bfloat16: 2e-2}

pytestmark = pytest.mark.skipif(
    not can_prepack(), reason="this torch lacks the operations, or the processor is no x86-64"
)


@pytest.fixture(autouse=True)
def without_gradients():
    with torch.inference_mode():
        yield


def inputs(layer: nn.Conv2d | nn.Linear, dtype: torch.dtype) -> list[torch.Tensor]:
    """Several batches and sizes, and both orders in memory."""
    draw = torch.Generator().manual_seed(0)
    shapes = [(1, 5, 24), (3, 7, 24), (2, 24)]
    if isinstance(layer, nn.Conv2d):
        shapes = [(1, layer.in_channels, 16, 16), (3, layer.in_channels, 16, 16), (1, layer.in_channels, 24, 40)]
    plain = [torch.randn(shape, generator=draw).to(dtype) for shape in shapes]
    return [*plain, plain[1].transpose(0, 1).contiguous().transpose(0, 1)]


@pytest.mark.parametrize("dtype", TOLERANCES, ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_a_prepacked_layer_computes_the_same_at_every_size(name, dtype):
    if dtype == torch.bfloat16 and native_bf16() is None:
        pytest.skip("bfloat16 is multiplied in float32 here")
    net = nn.Sequential(copy.deepcopy(LAYERS[name]).to(dtype)).requires_grad_(False)
    before = [net(x) for x in inputs(LAYERS[name], dtype)]
    prepack(net)
    for x, y in zip(inputs(LAYERS[name], dtype), before, strict=True):
        assert torch.allclose(net(x), y, rtol=0, atol=TOLERANCES[dtype])


def test_an_image_stays_in_the_order_of_pixels():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1)).requires_grad_(False)
    prepack(net)
    assert net(torch.randn(2, 3, 16, 16)).is_contiguous(memory_format=torch.channels_last)


def test_the_plain_weights_go():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 4)).requires_grad_(False)
    prepack(net)
    net(torch.randn(1, 3, 3, 3))
    assert sorted(name for name, _ in net.named_parameters()) == ["0.bias", "2.bias"]


def test_without_the_operations_layers_stay_as_they_are(monkeypatch):
    monkeypatch.setattr(prepacked, "MACHINES", ())
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Linear(8, 4))
    prepack(net)
    assert [type(layer) for layer in net] == [nn.Conv2d, nn.Linear]
