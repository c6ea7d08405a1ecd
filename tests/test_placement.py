"""The choice of device and number type, on the machine that runs the tests."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dallecli.errors import BadSetting, NoSuchDevice
from dallecli.placement import Need, decide, free_memory, plan_memory, system_memory


def test_the_cpu_is_always_there_and_the_reason_says_who_chose() -> None:
    placement = decide("cpu", "fp32")
    assert placement.device == torch.device("cpu")
    assert placement.dtype == torch.float32
    assert placement.kind == "fp32"
    assert placement.why == "cpu was asked for; fp32 was asked for"


def test_a_cpu_without_bf16_arithmetic_gets_fp32_and_one_with_it_bf16() -> None:
    placement = decide("cpu", None)
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    assert placement.kind == ("bf16" if native else "fp32")
    assert ("natively" if native else "no bf16 arithmetic") in placement.why


def test_bf16_can_be_had_on_any_cpu() -> None:
    assert decide("cpu", "bf16").dtype == torch.bfloat16


def test_fp16_on_a_cpu_is_refused_with_what_to_use() -> None:
    with pytest.raises(BadSetting) as raised:
        decide("cpu", "fp16")
    assert "fp32" in str(raised.value.hint)
    assert raised.value.exit_code == 2


@pytest.mark.parametrize("device", ["cuda:99", "gpu", "xpu", "cpu:0", "", "CPU"])
def test_an_unknown_device_is_answered_with_those_that_are_here(device: str) -> None:
    with pytest.raises(NoSuchDevice) as raised:
        decide(device, None)
    assert "cpu" in str(raised.value.hint)
    assert raised.value.exit_code == 5


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has CUDA")
def test_cuda_without_a_gpu_is_refused() -> None:
    with pytest.raises(NoSuchDevice, match="there is no cuda here"):
        decide("cuda", None)


def test_an_unknown_number_type_is_refused() -> None:
    with pytest.raises(BadSetting, match="int4"):
        decide("cpu", "int4")


@pytest.mark.gpu
def test_a_gpu_is_preferred_and_explained() -> None:
    placement = decide(None, None)
    assert placement.device == torch.device("cuda:0")
    assert placement.kind in ("bf16", "fp16")
    assert "cuda:0 is the fastest device here" in placement.why
    assert decide("cuda", None).device == placement.device
    free = free_memory(placement.name)
    assert free is not None
    assert free > 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_free_memory_is_what_the_system_has_left_at_most() -> None:
    free = free_memory("cpu")
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert free is not None
    assert 0 < free <= int(total.split()[1]) * 1024


CHAIN = {
    "text": Need(weights=10, working=0),
    "prior": Need(weights=100, working=0),
    "decoder": Need(weights=80, working=50),
    "upsampler": Need(weights=60, working=90),
}


def test_low_memory_is_that_of_the_network_which_takes_most() -> None:
    plan = plan_memory(CHAIN, 1000, "low")
    assert plan.kept == set()
    assert plan.peak == plan.least == 150


def test_high_memory_is_that_of_all_networks_and_the_fullest_moment_of_one() -> None:
    plan = plan_memory(CHAIN, 10, "high")
    assert plan.kept == set(CHAIN)
    assert plan.peak == 250 + 90
    assert plan.least == 150
    assert not plan.fits


@pytest.mark.parametrize("free", range(0, 500, 7))
def test_what_is_chosen_fits_whenever_anything_does(free: int) -> None:
    plan = plan_memory(CHAIN, free)
    assert plan.kept == set() or plan.peak <= 0.9 * free
    assert plan.fits == (free >= 150)
    # Nothing that was left out would have fitted as well.
    for part in set(CHAIN) - plan.kept:
        assert replace(plan, kept=plan.kept | {part}).peak > 0.9 * free


def test_the_largest_network_is_kept_first() -> None:
    assert plan_memory(CHAIN, 300).kept == {"prior", "text"}
    assert plan_memory(CHAIN, 380).kept == set(CHAIN)


def test_everything_is_kept_where_the_system_does_not_tell() -> None:
    plan = plan_memory(CHAIN, None)
    assert plan.kept == set(CHAIN)
    assert plan.fits


def test_an_unknown_memory_plan_is_refused() -> None:
    with pytest.raises(BadSetting, match="tight"):
        plan_memory(CHAIN, None, "tight")


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_the_machine_has_more_memory_than_is_free() -> None:
    memory = system_memory()
    assert memory.total is not None
    assert memory.free is not None
    assert 0 < memory.free < memory.total


def test_importing_the_module_does_not_import_torch() -> None:
    code = "import sys, dallecli.placement; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
