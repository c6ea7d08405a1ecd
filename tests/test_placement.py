"""The choice of device and number type, on the machine that runs the tests."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from dallecli.errors import BadSetting, NoSuchDevice
from dallecli.placement import decide, free_memory


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
    free = free_memory(placement.device)
    assert free is not None
    assert free > 2**20


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not tell")
def test_free_memory_is_what_the_system_has_left_at_most() -> None:
    free = free_memory(torch.device("cpu"))
    total = next(line for line in Path("/proc/meminfo").read_text().splitlines() if line.startswith("MemTotal"))
    assert free is not None
    assert 0 < free <= int(total.split()[1]) * 1024


def test_importing_the_module_does_not_import_torch() -> None:
    code = "import sys, dallecli.placement; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout.strip() == "False"
