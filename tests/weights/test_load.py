"""A network is loaded whole and exactly, or not at all and with a reason."""

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from dallecli.errors import BadFile, BadSetting, LayoutMismatch
from dallecli.weights.load import load_net

CPU = torch.device("cpu")


class Attention(nn.Module):
    """A network with the names of an attention layer, and no other use."""

    def __init__(self, width: int = 4) -> None:
        super().__init__()
        self.to_q = nn.Linear(width, width)
        self.to_k = nn.Linear(width, width)
        self.to_v = nn.Linear(width, width)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])
        self.scale = nn.Parameter(torch.ones(()))


@pytest.fixture
def tensors() -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(1)
    return {name: torch.randn(tensor.shape, generator=generator) for name, tensor in Attention().state_dict().items()}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    (tmp_path / "part").mkdir()
    return tmp_path / "part" / "model.safetensors"


def test_every_tensor_arrives_exactly(tensors: dict[str, Tensor], file: Path) -> None:
    save_file(tensors, file)
    net = load_net(Attention, file, torch.float32, CPU)
    assert set(net.state_dict()) == set(tensors)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, tensors[name])


def test_the_network_is_ready_for_inference(tensors: dict[str, Tensor], file: Path) -> None:
    save_file(tensors, file)
    net = load_net(Attention, file, torch.float32, CPU)
    assert not net.training
    assert not any(parameter.requires_grad for parameter in net.parameters())
    assert {parameter.device for parameter in net.parameters()} == {CPU}


@pytest.mark.parametrize("stored", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
@pytest.mark.parametrize("wanted", [torch.float16, torch.bfloat16, torch.float32])
def test_every_float_type_is_converted_to_the_wanted_one(
    tensors: dict[str, Tensor], file: Path, stored: torch.dtype, wanted: torch.dtype
) -> None:
    save_file({name: tensor.to(stored) for name, tensor in tensors.items()}, file)
    net = load_net(Attention, file, wanted, CPU)
    for name, tensor in net.state_dict().items():
        assert tensor.dtype == wanted
        assert torch.equal(tensor, tensors[name].to(stored).to(wanted))


def test_a_file_may_mix_float_types(tensors: dict[str, Tensor], file: Path) -> None:
    tensors["to_q.weight"] = tensors["to_q.weight"].half()
    save_file(tensors, file)
    assert load_net(Attention, file, torch.float32, CPU).to_q.weight.dtype == torch.float32


def test_position_ids_are_ignored(tensors: dict[str, Tensor], file: Path) -> None:
    save_file({**tensors, "text_model.embeddings.position_ids": torch.arange(77)[None]}, file)
    load_net(Attention, file, torch.float32, CPU)


def test_old_attention_names_are_the_same_layers(tensors: dict[str, Tensor], file: Path) -> None:
    old = {"to_q": "query", "to_k": "key", "to_v": "value", "to_out.0": "proj_attn"}
    renamed = dict(tensors)
    for new_name, old_name in old.items():
        for kind in ("weight", "bias"):
            renamed[f"{old_name}.{kind}"] = renamed.pop(f"{new_name}.{kind}")
    save_file(renamed, file)
    net = load_net(Attention, file, torch.float32, CPU)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, tensors[name])


def test_a_layer_under_both_its_names_is_not_chosen_by_chance(tensors: dict[str, Tensor], file: Path) -> None:
    save_file({**tensors, "query.weight": torch.ones(4, 4)}, file)
    with pytest.raises(LayoutMismatch, match="1 unexpected"):
        load_net(Attention, file, torch.float32, CPU)


def mismatch(tensors: dict[str, Tensor], file: Path, build: Callable[[], nn.Module] = Attention) -> str:
    save_file(tensors, file)
    with pytest.raises(LayoutMismatch) as raised:
        load_net(build, file, torch.float32, CPU)
    assert raised.value.where == str(file)
    assert len(raised.value.lines()) <= 3
    assert all(len(line) < 420 for line in raised.value.lines())
    return raised.value.what


def test_a_missing_tensor_is_named(tensors: dict[str, Tensor], file: Path) -> None:
    del tensors["to_k.bias"]
    assert "1 missing (to_k.bias)" in mismatch(tensors, file)


def test_an_extra_tensor_is_named(tensors: dict[str, Tensor], file: Path) -> None:
    assert "1 unexpected (surprise)" in mismatch({**tensors, "surprise": torch.ones(1)}, file)


def test_a_wrong_shape_is_named_with_both_shapes(tensors: dict[str, Tensor], file: Path) -> None:
    assert "1 misshaped (to_q.weight is [4, 5], not [4, 4])" in mismatch(
        {**tensors, "to_q.weight": torch.ones(4, 5)}, file
    )


@pytest.mark.parametrize(
    ("kind", "name"), [(torch.int8, "I8"), (torch.int64, "I64"), (torch.uint8, "U8"), (torch.bool, "BOOL")]
)
def test_a_quantised_tensor_is_refused(tensors: dict[str, Tensor], file: Path, kind: torch.dtype, name: str) -> None:
    tensors["to_v.weight"] = torch.ones(4, 4, dtype=kind)
    assert f"1 not floating point (to_v.weight is {name})" in mismatch(tensors, file)


def test_all_kinds_of_differences_come_in_one_report(tensors: dict[str, Tensor], file: Path) -> None:
    del tensors["to_k.bias"]
    report = mismatch({**tensors, "to_q.weight": torch.ones(5, 4), "x": torch.ones(1)}, file)
    assert "1 missing" in report
    assert "1 unexpected" in report
    assert "1 misshaped" in report


def test_a_thousand_differences_are_counted_and_five_are_named(file: Path) -> None:
    report = mismatch({f"x{i}": torch.ones(1) for i in range(1000)}, file)
    assert "9 missing" in report
    assert "1000 unexpected (x0, x1, x10, x100, x101, …)" in report


def test_a_report_of_endless_names_still_fits_on_its_line(file: Path) -> None:
    report = mismatch({"x" * 500: torch.ones(1), "y" * 500: torch.ones(1)}, file)
    assert "9 missing" in report
    assert "2 unexpected" in report


@pytest.mark.parametrize("bad", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("kind", [torch.float16, torch.float32])
def test_a_number_that_is_none_is_found_and_its_tensor_named(
    tensors: dict[str, Tensor], file: Path, bad: float, kind: torch.dtype
) -> None:
    tensors["to_v.weight"][2, 3] = bad
    report = mismatch({name: tensor.to(kind) for name, tensor in tensors.items()}, file)
    assert "to_v.weight holds NaN or infinity" in report


def test_infinities_of_both_signs_are_found(tensors: dict[str, Tensor], file: Path) -> None:
    tensors["to_v.weight"][0] = torch.tensor([float("inf"), float("-inf"), 0.0, 0.0])
    assert "to_v.weight" in mismatch(tensors, file)


def test_the_largest_numbers_there_are_are_still_numbers(tensors: dict[str, Tensor], file: Path) -> None:
    tensors["to_v.weight"][:] = 3e38
    save_file(tensors, file)
    assert torch.equal(load_net(Attention, file, torch.float32, CPU).to_v.weight, tensors["to_v.weight"])


def test_weights_too_large_for_fp16_say_so_and_are_not_called_damaged(tensors: dict[str, Tensor], file: Path) -> None:
    tensors["to_v.weight"][0, 0] = 1e5
    save_file(tensors, file)
    with pytest.raises(BadSetting, match=r"to_v\.weight holds 1e\+05, which is too large for float16"):
        load_net(Attention, file, torch.float16, CPU)
    load_net(Attention, file, torch.bfloat16, CPU)


def test_a_file_of_zeros_is_refused(tensors: dict[str, Tensor], file: Path) -> None:
    assert "zero" in mismatch({name: torch.zeros_like(tensor) for name, tensor in tensors.items()}, file)


def test_a_zero_tensor_among_others_is_fine(tensors: dict[str, Tensor], file: Path) -> None:
    tensors["to_q.bias"].zero_()
    save_file(tensors, file)
    load_net(Attention, file, torch.float32, CPU)


@pytest.mark.parametrize("width", [-4, 2**40])
def test_a_config_that_makes_no_network_is_blamed_and_not_the_weights(
    tensors: dict[str, Tensor], file: Path, width: int
) -> None:
    save_file(tensors, file)
    with pytest.raises(BadFile, match="no network can be built") as raised:
        load_net(lambda: Attention(width), file, torch.float32, CPU)
    assert raised.value.where == str(file.parent / "config.json")


def test_building_costs_no_memory_and_no_random_numbers(tensors: dict[str, Tensor], file: Path) -> None:
    save_file(tensors, file)
    before = torch.get_rng_state()
    devices = []

    def build() -> nn.Module:
        net = Attention()
        devices.extend(parameter.device.type for parameter in net.parameters())
        return net

    load_net(build, file, torch.float32, CPU)
    assert set(devices) == {"meta"}
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.long
def test_loading_does_not_import_the_half_of_torch_that_computes_without_data(file: Path) -> None:
    # Initialising an embedding on the meta device would: it takes longer than all the rest of loading.
    save_file({"weight": torch.ones(3, 2)}, file)
    code = f"""
import sys, torch
from pathlib import Path
from dallecli.weights.load import load_net
load_net(lambda: torch.nn.Embedding(3, 2), Path({str(file)!r}), torch.float32, torch.device("cpu"))
print("sympy" in sys.modules)
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == "False"


def test_a_file_that_is_cut_between_its_header_and_its_tensors_is_an_error_and_not_a_crash(
    tensors: dict[str, Tensor], file: Path
) -> None:
    save_file(tensors, file)

    def build() -> nn.Module:  # runs when the header has been read and found good
        os.truncate(file, file.stat().st_size - 32)
        return Attention()

    with pytest.raises(BadFile, match="cannot be read"):
        load_net(build, file, torch.float32, CPU)


def test_a_file_that_is_cut_after_loading_is_no_concern(tensors: dict[str, Tensor], file: Path) -> None:
    save_file(tensors, file)
    net = load_net(Attention, file, torch.float32, CPU)
    os.truncate(file, 0)
    for name, tensor in net.state_dict().items():
        assert torch.equal(tensor, tensors[name])


def test_a_config_that_asks_for_a_million_layers_is_refused_while_it_is_built(
    tensors: dict[str, Tensor], file: Path
) -> None:
    save_file(tensors, file)
    built = 0

    def build() -> nn.Module:
        nonlocal built
        layers = []
        for _ in range(10**6):
            built += 1
            layers.append(nn.Linear(4, 4))
        return nn.Sequential(*layers)

    with pytest.raises(BadFile, match="more than 2 times as many tensors as the weights have") as caught:
        load_net(build, file, torch.float32, CPU)
    assert caught.value.where == str(file.parent / "config.json")
    assert built < 100


def test_a_config_that_asks_for_a_trillion_numbers_is_refused(tensors: dict[str, Tensor], file: Path) -> None:
    save_file(tensors, file)
    with pytest.raises(BadFile, match="more than 2 times as many numbers as the weights have"):
        load_net(lambda: Attention(10**6), file, torch.float32, CPU)
