"""Layers with weights in oneDNN's order compute what they computed before."""

import copy
import os
import subprocess
import sys

import pytest
import torch
from torch import nn

from dallecli.devices import native_bf16
from dallecli.nets import prepacked
from dallecli.nets.prepacked import can_prepack, prepack

LAYERS = {
    "3x3": nn.Conv2d(6, 24, 3, padding=1),
    "1x1": nn.Conv2d(8, 16, 1),
    "half": nn.Conv2d(8, 8, 3, stride=2, padding=1),
    "half, one-sided": nn.Conv2d(8, 8, 3, stride=2),
    "patches": nn.Conv2d(3, 16, 8, stride=8, bias=False),
    "linear": nn.Linear(24, 40),
    "no bias": nn.Linear(24, 40, bias=False),
}
prepacking = pytest.mark.skipif(not can_prepack(), reason="this torch, or this processor, has not got the operations")


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


@prepacking
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("name", LAYERS)
def test_a_prepacked_layer_computes_the_same_at_every_size(name, dtype):
    if dtype == torch.bfloat16 and native_bf16() is None:
        pytest.skip("bfloat16 is multiplied in float32 here")
    # Sums of up to 72 products of numbers around 1, in another order: one digit of the type.
    tolerance = {torch.float32: 1e-5, torch.bfloat16: 2e-2}[dtype]
    net = nn.Sequential(copy.deepcopy(LAYERS[name]).to(dtype)).requires_grad_(False)
    before = [net(x) for x in inputs(LAYERS[name], dtype)]
    prepack(net)
    for x, y in zip(inputs(LAYERS[name], dtype), before, strict=True):
        assert torch.allclose(net(x), y, rtol=0, atol=tolerance)


COUNTING = """
import sys
import torch
from torch import nn
from dallecli.nets.layers import channels_last
from dallecli.nets.prepacked import prepack
torch.set_num_threads(int(sys.argv[1]))
net = channels_last(nn.Sequential(nn.Conv2d(640, 640, 3, padding=1))).requires_grad_(False)
prepack(net)
with torch.inference_mode():
    for samples in (1, 2, 4, 1):
        x = torch.randn(samples, 640, 32, 32).contiguous(memory_format=torch.channels_last)
        net(x)
        print("prepared", flush=True)
        net(x)
        print("done", flush=True)
"""


@prepacking
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.long
def test_a_weight_is_reordered_where_the_number_of_samples_changes_and_in_no_other_call(threads: int):
    command = [sys.executable, "-c", COUNTING, str(threads)]
    verbose = {**os.environ, "ONEDNN_VERBOSE": "1"}
    printed = subprocess.run(command, capture_output=True, text=True, check=True, env=verbose, timeout=120).stdout
    calls = [part.partition("done")[0] for part in printed.split("prepared")[1:]]
    assert len(calls) == 4
    for call in calls:
        kinds = [
            line.split(",")[5] for line in call.splitlines() if line.startswith("onednn_verbose") and ",exec," in line
        ]
        assert kinds == ["convolution"]


@prepacking
def test_what_comes_first_does_not_change_what_comes_later():
    layer = nn.Conv2d(48, 48, 3, padding=1).requires_grad_(False)
    nets = [nn.Sequential(copy.deepcopy(layer)) for _ in range(3)]
    small, large = torch.randn(3, 48, 8, 8), torch.randn(1, 48, 24, 40)
    for net, first in zip(nets, (large, small, small[:1]), strict=True):
        prepack(net)
        net(first)
    assert all(torch.equal(net(x), nets[0](x)) for net in nets for x in (small, large))


@prepacking
def test_an_image_stays_in_the_order_of_pixels():
    net = nn.Sequential(nn.Conv2d(3, 8, 3, padding=1)).requires_grad_(False)
    prepack(net)
    assert net(torch.randn(2, 3, 16, 16)).is_contiguous(memory_format=torch.channels_last)


@prepacking
def test_the_plain_weights_go():
    net = nn.Sequential(nn.Conv2d(3, 8, 3), nn.Flatten(), nn.Linear(8, 4)).requires_grad_(False)
    prepack(net)
    net(torch.randn(1, 3, 3, 3))
    assert sorted(name for name, _ in net.named_parameters()) == ["0.bias", "2.bias"]


def test_operations_that_have_changed_are_not_used(monkeypatch):
    monkeypatch.setattr(torch.ops.mkldnn, "_linear_pointwise", lambda x, weight: x)
    assert not can_prepack.__wrapped__()


def test_another_processor_is_left_alone(monkeypatch):
    monkeypatch.setattr(prepacked, "MACHINES", ())
    assert not can_prepack.__wrapped__()
