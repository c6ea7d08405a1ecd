"""Weights that are read when their layer is first called are those of the file, and what is wrong is said then."""

import gc
import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dallecli.devices import native_bf16
from dallecli.errors import BadFile, LayoutMismatch
from dallecli.nets.prepacked import can_prepack, large_weights, prepack
from dallecli.weights import unread as module
from dallecli.weights.load import load_net, open_net
from dallecli.weights.unread import Unread

CPU = torch.device("cpu")
on_linux = pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="this system does not list open files")


class Net(nn.Module):
    """A convolution and a product, large enough to be read by need, and what is not."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(96, 128, 3, padding=1)
        self.norm = nn.GroupNorm(8, 128)
        self.linear = nn.Linear(300, 256)

    def forward(self, x: Tensor) -> Tensor:
        """Both layers."""
        return self.linear(torch.nn.functional.pad(self.norm(self.conv(x)).flatten(2), (0, 300 - x[0, 0].numel())))


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    torch.manual_seed(0)
    return {name: torch.randn_like(tensor) for name, tensor in Net().state_dict().items()}


@pytest.fixture
def file(tmp_path: Path, tensors: dict[str, Tensor]) -> Path:
    save_file(tensors, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def opened(file: Path, dtype: torch.dtype = torch.float32) -> tuple[Net, Unread]:
    return open_net(Net, file, dtype, CPU, later=large_weights)


def is_open(file: Path) -> bool:
    return any(link.resolve() == file for link in Path("/proc/self/fd").iterdir())


@pytest.mark.parametrize("block", [module.BLOCK, 10_000, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("stored", [torch.float32, torch.float16, torch.bfloat16], ids=str)
def test_every_tensor_is_the_files_in_whatever_order_they_are_asked_for(
    file: Path,
    tensors: dict[str, Tensor],
    stored: torch.dtype,
    dtype: torch.dtype,
    block: int,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "BLOCK", block)
    save_file({name: tensor.to(stored) for name, tensor in tensors.items()}, file)
    net, unread = opened(file, dtype)
    assert sorted(unread.names) == ["conv.weight", "linear.weight"]
    assert net.conv.weight.is_meta
    for name in ("linear.weight", "conv.weight"):
        found = unread.read(name)
        assert torch.equal(found, tensors[name].to(stored).to(dtype))
        assert found.is_contiguous() or found.is_contiguous(memory_format=torch.channels_last)
    assert not unread.names
    assert torch.equal(net.conv.bias, tensors["conv.bias"].to(stored).to(dtype))


@pytest.mark.skipif(not can_prepack(), reason="this torch, or this processor, has not got the operations")
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_a_network_computes_what_one_that_was_read_at_once_does(file: Path, dtype: torch.dtype) -> None:
    if dtype == torch.bfloat16 and native_bf16() is None:
        pytest.skip("networks compute in bfloat16 only where the processor does")
    x = torch.randn(2, 96, 12, 12).to(dtype)
    whole = load_net(Net, file, dtype, CPU)
    prepack(whole)
    net, unread = opened(file, dtype)
    prepack(net, {name: (lambda name=name: unread.read(name)) for name in unread.names})
    with torch.inference_mode():
        assert torch.equal(net(x), whole(x))
        assert torch.equal(net(x[:1]), whole(x[:1]))
    assert not unread.names
    assert set(net.state_dict()) == set(whole.state_dict())


@on_linux
def test_the_file_is_closed_with_the_last_tensor(file: Path) -> None:
    _, unread = opened(file)
    for name in unread.names:
        assert is_open(file)
        unread.read(name)
    assert not is_open(file)


@on_linux
def test_the_file_of_a_network_that_is_released_is_closed(file: Path) -> None:
    net, unread = opened(file)
    assert is_open(file)
    del net, unread
    gc.collect()
    assert not is_open(file)


@on_linux
def test_a_file_of_which_nothing_is_left_to_read_is_closed(file: Path) -> None:
    _, unread = open_net(Net, file, torch.float32, CPU)
    assert not unread.names
    assert not is_open(file)


def test_a_file_that_goes_is_read_all_the_same(file: Path, tensors: dict[str, Tensor]) -> None:
    _, unread = opened(file)
    file.unlink()
    assert torch.equal(unread.read("conv.weight"), tensors["conv.weight"])


def test_a_file_that_is_cut_before_a_layer_is_called_is_an_error_each_time_and_not_a_crash(file: Path) -> None:
    _, unread = opened(file)
    os.truncate(file, file.stat().st_size // 2)
    for _ in range(2):
        with pytest.raises(BadFile, match="cannot be read") as raised:
            [unread.read(name) for name in unread.names]
        assert raised.value.where == str(file)


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_number_that_is_none_is_found_when_it_is_read_and_its_tensor_named(
    file: Path, tensors: dict[str, Tensor], bad: float
) -> None:
    tensors["conv.weight"][100, 3, 1, 1] = bad
    save_file(tensors, file)
    _, unread = opened(file)
    unread.read("linear.weight")
    with pytest.raises(LayoutMismatch, match=r"conv\.weight holds NaN or infinity"):
        unread.read("conv.weight")


def test_where_all_that_is_small_is_zero_everything_is_read_and_only_then_refused(
    file: Path, tensors: dict[str, Tensor]
) -> None:
    large = {"conv.weight", "linear.weight"}
    save_file({name: tensor if name in large else torch.zeros_like(tensor) for name, tensor in tensors.items()}, file)
    net, unread = opened(file)
    assert not unread.names
    assert torch.equal(net.conv.weight, tensors["conv.weight"])
    save_file({name: torch.zeros_like(tensor) for name, tensor in tensors.items()}, file)
    with pytest.raises(LayoutMismatch, match="every number in this file is zero"):
        opened(file)
