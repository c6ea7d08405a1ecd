"""Where a model runs and in what kind of number: decided once, with the reason in words.

Half the bits are half the memory and, on hardware made for them, several times the speed; on any other CPU they are
slower than float32. So the default follows the hardware, and `dalle doctor` prints why.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from dallecli.errors import BadSetting, NoSuchDevice

if TYPE_CHECKING:
    import torch

AMPERE = (8, 0)
"""The first CUDA capability with bf16 arithmetic of its own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """A device, the number type of the weights on it (`kind` is its name in a request), and why these."""

    device: "torch.device"
    dtype: "torch.dtype"
    kind: str
    why: str


def decide(device: str | None, dtype: str | None) -> Placement:
    """Choose what was left open: the fastest device that is here, and the fastest number type that it is made for.

    device: "cpu", "cuda", "cuda:N", "mps", or None. dtype: "fp32", "bf16", "fp16", or None.

    Raises:
        NoSuchDevice: the device is not here.
        BadSetting: fp16 on a CPU, or a number type that is none.
    """
    import torch

    dtypes = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
    if dtype is not None and dtype not in dtypes:
        raise BadSetting(f"no number type is called {dtype!r}", hint=f"one of {', '.join(dtypes)}")
    place, reason = _device(device)
    kind, because = _kind(place, dtype)
    return Placement(device=place, dtype=dtypes[kind], kind=kind, why=f"{reason}; {because}")


def free_memory(device: "torch.device") -> int | None:
    """Bytes that can still be taken on a device; None where the system does not tell."""
    if device.type == "cuda":
        import torch

        return torch.cuda.mem_get_info(device)[0]
    if device.type == "cpu" and sys.platform == "linux":
        return min([_linux_available(), *_control_group_free()])
    return None


def _device(asked: str | None) -> "tuple[torch.device, str]":
    import torch

    here = _devices_here()
    if asked is None:
        # the list is in the order of speed
        reason = "is the fastest device here" if len(here) > 1 else "is the only device that torch finds here"
        return torch.device(here[0]), f"{here[0]} {reason}"
    name = "cuda:0" if asked == "cuda" else asked
    if name not in here:
        built_for = "" if torch.version.cuda is not None or not asked.startswith("cuda") else ", and torch has no CUDA"
        raise NoSuchDevice(f"there is no {asked} here{built_for}", hint=f"here: {', '.join(here)}")
    return torch.device(name), f"{name} was asked for"


def _devices_here() -> list[str]:
    import torch

    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    if torch.backends.mps.is_available():
        devices.append("mps")
    return [*devices, "cpu"]


def _kind(device: "torch.device", asked: str | None) -> tuple[str, str]:
    if device.type == "cpu" and asked == "fp16":
        raise BadSetting("fp16 is not computed on a CPU", hint="--dtype fp32, or bf16 for half the memory")
    if asked is not None:
        return asked, f"{asked} was asked for"
    if device.type == "cuda":
        import torch

        name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
        if capability >= AMPERE:
            return "bf16", f"bf16, which {name} computes natively"
        return "fp16", f"fp16, because {name} has no bf16 arithmetic"
    if device.type == "mps":
        return "fp32", "fp32, because half precision is not measured on this kind of device"
    return _cpu_kind()


def _cpu_kind() -> tuple[str, str]:
    import torch

    for name, has in (("AMX", "_is_amx_tile_supported"), ("AVX512-BF16", "_is_avx512_bf16_supported")):
        supported = getattr(torch.cpu, has, None)  # no public name in the oldest torch that is supported
        if supported is not None and supported():
            return "bf16", f"bf16, which this CPU computes natively ({name})"
    capability = torch.backends.cpu.get_cpu_capability()
    return "fp32", f"fp32, because this CPU ({capability}) has no bf16 arithmetic"


def _linux_available() -> int:
    for line in Path("/proc/meminfo").read_text(encoding="ascii").splitlines():
        name, _, amount = line.partition(":")
        if name == "MemAvailable":
            return int(amount.split()[0]) * 1024
    return sys.maxsize


def _control_group_free() -> list[int]:
    """What a container's memory limit leaves, if there is a container with one."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = (group / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return []
    return [max(int(limit) - int(used), 0)] if limit.isdigit() else []
