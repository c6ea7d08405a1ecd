"""What this machine computes with: its devices, and the arithmetic of its processor.

Importing torch takes seconds, and `--dry-run` and `dalle doctor` need nothing else of it. So the system is asked, where
its answer is what torch's would be; torch itself is asked where a GPU could be.
"""

import ctypes
import functools
import importlib.util
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from dallecli.errors import BadConfig

AVX512_BF16: Final = "AVX512-BF16"
"""The bf16 arithmetic of AVX-512, as recipes and `dalle doctor` call it."""

AMX: Final = "AMX"
"""The tiles of AMX, likewise."""

BF16: Final = {"amx_tile": AMX, "avx512_bf16": AVX512_BF16}
"""Arithmetic for bf16 that a CPU may have: what Linux calls it, and what people do. The fastest is first."""

CUDA_DRIVER: Final = {"linux": "libcuda.so.1", "win32": "nvcuda.dll"}
"""The library through which torch finds CUDA devices, by system; without it there are none."""


WITHOUT_BF16: Final = frozenset({"SSE41", "AVX", "AVX2", "AVX2_VNNI", "AVX2_VNNI_2", "AVX512_CORE", "AVX512_CORE_VNNI"})
"""What oneDNN may be limited to that has no bf16 arithmetic, as ONEDNN_MAX_CPU_ISA names it."""

WITHOUT_AMX: Final = WITHOUT_BF16 | {"AVX512_CORE_BF16", "AVX512_CORE_FP16", "AVX10_1_512"}
"""The same for AMX."""

AVX512: Final = frozenset({"avx512f", "avx512vl", "avx512bw", "avx512dq", "fma"})
"""What a CPU has, in the words of Linux, where torch uses its instructions of 512 bits."""


CAPABILITIES: Final = {"default": frozenset[str](), "avx2": frozenset({"avx2", "fma"}), "avx512": AVX512}
"""What a processor of x86 must have for each value of torch's ATEN_CPU_CAPABILITY."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """What the torch that is installed was built for."""

    cuda: str | None
    """The version of CUDA."""
    hip: str | None
    """The version of ROCm, whose devices are called cuda, too."""


@functools.cache
def torch_build() -> Build:
    """The build of torch, read from its file of versions alone. Raises ModuleNotFoundError without torch."""
    package = importlib.util.find_spec("torch")
    if package is None or package.origin is None:
        raise ModuleNotFoundError("torch is not installed", name="torch")
    path = Path(package.origin).with_name("version.py")
    spec = importlib.util.spec_from_file_location("dallecli_torch_version", path)
    assert spec is not None and spec.loader is not None  # as the file's name ends in .py
    version = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(version)
    return Build(cuda=version.cuda, hip=version.hip)


def accelerators() -> list[str]:
    """The devices besides the CPU, as torch calls them; the fastest is first."""
    if not _may_have_accelerators():
        return []
    import torch

    devices = [f"cuda:{index}" for index in range(torch.cuda.device_count())]
    return [*devices, "mps"] if torch.backends.mps.is_available() else devices


def native_bf16() -> str | None:
    """The name of this CPU's bf16 arithmetic; None if there is none, or the environment forbids its use."""
    wide, found = _arithmetic()
    if not wide:
        return None
    least = (onednn_limit() or "").upper()
    forbidden = {AMX: least in WITHOUT_AMX, AVX512_BF16: least in WITHOUT_BF16}
    return next((name for name in found if not forbidden[name]), None)


def onednn_limit() -> str | None:
    """The newest instructions that oneDNN may use; None where nothing is said."""
    return os.environ.get("ONEDNN_MAX_CPU_ISA", os.environ.get("DNNL_MAX_CPU_ISA"))


def check_capability() -> None:
    """Refuse an ATEN_CPU_CAPABILITY that torch does not know, or whose instructions this CPU does not have.

    torch ignores the one with a warning; the other ends the process at the first of them. Raises BadConfig.
    """
    asked, flags = os.environ.get("ATEN_CPU_CAPABILITY"), _cpu_flags()
    if asked is None or not flags:
        return
    if asked not in CAPABILITIES:
        raise BadConfig(f"ATEN_CPU_CAPABILITY is {asked!r}", hint=f"one of {', '.join(CAPABILITIES)}, or unset it")
    if not flags >= CAPABILITIES[asked]:
        raise BadConfig(f"ATEN_CPU_CAPABILITY is {asked}, which this processor does not have", hint="unset it")


def _arithmetic() -> tuple[bool, list[str]]:
    """Whether torch uses instructions of 512 bits on this CPU, and which arithmetic for bf16 there is."""
    flags = _cpu_flags()
    limit = os.environ.get("ATEN_CPU_CAPABILITY")
    if flags is not None and limit is None:
        return flags >= AVX512, [name for flag, name in BF16.items() if flag in flags]
    import torch

    found = []
    for name, has in ((AMX, "_is_amx_tile_supported"), (AVX512_BF16, "_is_avx512_bf16_supported")):
        supported = getattr(torch.cpu, has, None)  # no public name in the oldest torch that is supported
        if supported is not None and supported():
            found.append(name)
    return torch.backends.cpu.get_cpu_capability().startswith("AVX512"), found


def _may_have_accelerators() -> bool:
    """Whether torch could find a device besides the CPU; it is not imported to find out."""
    driver = CUDA_DRIVER.get(sys.platform)
    build = torch_build()
    if driver is None or build.hip is not None:
        return True
    if build.cuda is None:
        return False
    try:
        ctypes.CDLL(driver)
    except OSError:
        return False
    return True


@functools.cache
def _cpu_flags() -> frozenset[str] | None:
    """What this CPU can do, in the words of Linux; None where the system does not tell."""
    if sys.platform != "linux":
        return None
    with Path("/proc/cpuinfo").open(encoding="utf-8", errors="replace") as file:
        # Processors other than those of x86 have none of the arithmetic in BF16, and call this line something else.
        return next(
            (frozenset(line.partition(":")[2].split()) for line in file if line.startswith("flags")), frozenset()
        )
