"""What the system says of this machine is what torch says of it."""

import subprocess
import sys
from contextlib import nullcontext

import pytest
import torch

from dallecli import devices
from dallecli.errors import BadConfig


def test_the_system_names_the_bf16_arithmetic_that_torch_finds(monkeypatch):
    stated = devices.native_bf16()
    monkeypatch.setattr(devices, "_cpu_flags", lambda: None)  # so torch is asked
    assert devices.native_bf16() == stated


def test_limits_in_the_environment_are_kept(monkeypatch):
    flags = {*devices.AVX512, *devices.BF16}
    monkeypatch.setattr(devices, "_cpu_flags", lambda: flags)
    assert devices.native_bf16() == "AMX"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "avx512_core_bf16")
    assert devices.native_bf16() == "AVX512-BF16"
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    assert devices.native_bf16() is None
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA")
    flags -= {"avx512bw"}
    assert devices.native_bf16() is None


def test_the_devices_are_those_that_torch_finds():
    found = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    assert devices.accelerators() == found + (["mps"] if torch.backends.mps.is_available() else [])


def test_the_build_that_is_read_is_the_one_that_torch_states():
    assert devices.torch_build() == devices.Build(cuda=torch.version.cuda, hip=torch.version.hip)


@pytest.mark.skipif(torch.cuda.is_available() or sys.platform == "darwin", reason="torch is asked where a GPU may be")
def test_a_machine_without_a_gpu_is_known_without_torch():
    code = "import sys\nfrom dallecli.placement import decide\ndecide(None, None)\nassert 'torch' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], timeout=60).returncode == 0


def test_a_torch_for_cuda_has_no_devices_without_the_driver(monkeypatch):
    monkeypatch.setattr(devices, "torch_build", lambda: devices.Build(cuda="13.0", hip=None))
    monkeypatch.setitem(devices.CUDA_DRIVER, sys.platform, "libno-such-driver.so.1")
    monkeypatch.setitem(sys.modules, "torch", None)  # importing it fails
    assert devices.accelerators() == []


@pytest.mark.parametrize(
    ("asked", "flags", "refused"),
    [
        ("avx512", {"avx2", "fma"}, True),
        ("avx512", {*devices.AVX512}, False),
        ("avx2", {"avx2"}, True),
        ("avx2", {"avx2", "fma"}, False),
        ("default", {"sse2"}, False),
        ("vsx", {"sse2"}, True),
        ("vsx", set(), False),  # another kind of processor has other values
    ],
)
def test_instructions_that_would_end_the_process_are_refused(monkeypatch, asked, flags, refused):
    monkeypatch.setattr(devices, "_cpu_flags", lambda: flags)
    monkeypatch.setenv("ATEN_CPU_CAPABILITY", asked)
    with pytest.raises(BadConfig) if refused else nullcontext():
        devices.check_capability()
