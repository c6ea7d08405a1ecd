"""Where a model runs, in which number type, and which networks stay in memory: decided once, with the reason in words.

Half precision takes half the memory and, on hardware made for it, a fraction of the time; on any other CPU it is
slower than float32. So the default follows the hardware, and `dalle doctor` prints the reason.

The networks of a model work one after the other. A network that is kept is ready for the next picture, but only the one
at work has to be in memory: a `MemoryPlan` says which are kept. It never changes a picture.
"""

import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from dallecli.devices import accelerators, check_capability, native_bf16, onednn_limit, torch_build
from dallecli.errors import BadConfig, BadSetting, NoSuchDevice

if TYPE_CHECKING:
    import torch

AMPERE = (8, 0)
"""The first CUDA capability with bf16 arithmetic of its own."""

MEMORY: Final = ("low", "auto", "high")
"""What stays in memory: only the network at work, as many networks as fit, or all of them."""

WIDTHS: Final = {"fp32": 4, "bf16": 2, "fp16": 2}
"""Bytes of a number, by the name of its type in a request."""

USABLE: Final = 0.9
"""The share of free memory that a plan fills. The rest is for torch itself and for other processes."""


MOST_THREADS: Final = 256
"""As many, or as many as the machine has processors: libraries crash when they are asked for thousands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placement:
    """Where a model runs, and in which number type. Only `device` and `dtype` import torch."""

    name: str
    """The device: cpu, mps or cuda:N."""
    kind: str
    """The number type of the weights, by its name in a request."""
    why: str
    """Why these, in words."""

    @property
    def device(self) -> "torch.device":
        """The device, as torch has it."""
        import torch

        return torch.device(self.name)

    @property
    def dtype(self) -> "torch.dtype":
        """The number type, as torch has it."""
        import torch

        return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[self.kind]

    @property
    def width(self) -> int:
        """Bytes of a number."""
        return WIDTHS[self.kind]


def decide(device: str | None, dtype: str | None) -> Placement:
    """Choose what was left open: the fastest device of this machine, and the fastest number type that it is made for.

    device: "cpu", "cuda", "cuda:N", "mps", or None. dtype: "fp32", "bf16", "fp16", or None.

    Raises:
        NoSuchDevice: this machine has no such device.
        BadSetting: fp16 on a CPU, or an unknown number type.
        BadConfig: the environment asks for more threads than libraries survive, or for instructions that the CPU lacks.
    """
    check_thread_variables()
    check_capability()
    if dtype is not None and dtype not in WIDTHS:
        raise BadSetting(f"no number type is called {dtype!r}", hint=f"one of {', '.join(WIDTHS)}")
    name, reason = _device(device)
    kind, because = _kind(name, dtype)
    return Placement(name=name, kind=kind, why=f"{reason}; {because}")


@contextmanager
def threads(count: int | None) -> Iterator[None]:
    """Compute on a CPU with so many threads; None, and more than `most_threads`, leaves their number alone."""
    import torch

    before = torch.get_num_threads()
    if count is not None and count <= most_threads():
        torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def thread_limit() -> int:
    """The most threads that may be asked for."""
    return max(MOST_THREADS, os.cpu_count() or 1)


def check_thread_variables() -> None:
    """Refuse variables that ask for so many threads that the process would crash. Raises BadConfig."""
    for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS"):
        asked = (
            os.environ.get(name, "").partition(",")[0].strip()
        )  # the first number is for threads that are not nested
        if asked.isascii() and asked.isdigit() and (len(asked) > 9 or int(asked) > thread_limit()):
            raise BadConfig(f"{name} asks for {asked[:20]} threads", hint=f"at most {thread_limit()}, or unset it")


def most_threads() -> int:
    """The most threads that are started for a recipe, which may be a stranger's: a few for each core."""
    return 4 * (os.cpu_count() or 1)


def processor(device: "torch.device") -> dict[str, str]:
    """What a device computes with, as recipes state it: each rounds in its own way. Nothing where it is not known."""
    import torch

    if device.type == "cuda":
        return {"gpu": torch.cuda.get_device_name(device)}
    if device.type != "cpu":
        return {}
    # oneDNN chooses its instructions by itself, and may be told to use fewer of them.
    least = onednn_limit()
    found = [torch.backends.cpu.get_cpu_capability(), native_bf16(), least and f"oneDNN {least}"]
    return {"cpu": "+".join(text for text in found if text)}


def free_memory(device: str) -> int | None:
    """The bytes that are free on a device of this name; None where the system does not tell."""
    if device.startswith("cuda"):
        import torch

        return torch.cuda.mem_get_info(torch.device(device))[0]
    return system_memory().free if device == "cpu" else None


@dataclass(frozen=True, slots=True, kw_only=True)
class SystemMemory:
    """Main memory that this process may use, in bytes; None where the system does not tell."""

    total: int | None
    free: int | None


def system_memory() -> SystemMemory:
    """The memory of the machine, or of the container around this process, if that is less."""
    if sys.platform == "linux":
        stated = _linux_memory()
        total, free = stated["MemTotal"], stated["MemAvailable"]
        limit = _control_group_limit()
        if limit is not None:
            total, free = min(total, limit[0]), min(free, max(limit[0] - limit[1], 0))
        return SystemMemory(total=total, free=free)
    if sys.platform == "win32":
        return SystemMemory(total=None, free=None)
    return SystemMemory(total=os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE"), free=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """The memory that a network takes on its device, in bytes."""

    weights: int
    working: int
    """Besides the weights, while it works."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryPlan:
    """Which networks of a model are kept; every other one is read when it is needed, and released afterwards."""

    kind: str
    """One of `MEMORY`."""
    needs: Mapping[str, Need]
    """Of every network, in the order of the chain."""
    kept: frozenset[str]
    free: int | None
    """Free bytes on the device when this was planned; None where the system does not tell."""

    @property
    def peak(self) -> int:
        """The most bytes that are needed at once."""
        return _peak(self.needs, self.kept)

    @property
    def least(self) -> int:
        """The peak of a plan that keeps nothing: with less memory the model does not run."""
        return _peak(self.needs, frozenset())

    @property
    def fits(self) -> bool:
        """Whether that much is free, as far as the system tells."""
        return self.free is None or self.peak <= self.free

    def pictures(self, most: int) -> int:
        """How many pictures there is room for at once: at least 1, and at most so many."""
        working = max((need.working for need in self.needs.values()), default=0)
        if self.free is None or working == 0:
            return most
        return min(most, max(1, int(USABLE * self.free - self.peak) // working + 1))

    @property
    def why(self) -> str:
        """The plan in words."""
        if self.kept == set(self.needs):
            kept = "all networks are kept"
        elif self.kept:
            kept = f"kept: {', '.join(part for part in self.needs if part in self.kept)}"
        else:
            kept = "one network at a time"
        there = "" if self.free is None else f" of {in_words(self.free)} that are free"
        return f"{kept}; at most {in_words(self.peak)}{there}"


def plan_memory(needs: Mapping[str, Need], free: int | None, kind: str = "auto") -> MemoryPlan:
    """Choose what to keep. With "auto" that is as much as fits into `USABLE` of the free memory, the largest first.

    Raises BadSetting for an unknown kind.
    """
    if kind not in MEMORY:
        raise BadSetting(f"no memory plan is called {kind!r}", hint=f"one of {', '.join(MEMORY)}")
    kept: frozenset[str] = frozenset()
    if kind != "low":
        for part in sorted(needs, key=lambda part: -needs[part].weights):
            if kind == "high" or free is None or _peak(needs, kept | {part}) <= USABLE * free:
                kept |= {part}
    return MemoryPlan(kind=kind, needs=needs, kept=kept, free=free)


def in_words(amount: int) -> str:
    """A number of bytes as people read it."""
    return f"{amount / 2**30:.1f} GB" if amount >= 2**30 else f"{amount / 2**20:.0f} MB"


def _peak(needs: Mapping[str, Need], kept: frozenset[str]) -> int:
    always = sum(needs[part].weights for part in kept)
    return always + max(
        (need.working + (0 if part in kept else need.weights) for part, need in needs.items()), default=0
    )


def _device(asked: str | None) -> tuple[str, str]:
    if asked == "cpu":  # always there: nobody has to be asked
        return asked, "cpu was asked for"
    here = [*accelerators(), "cpu"]
    if asked is None:
        # the list is in the order of speed
        reason = "is the fastest device here" if len(here) > 1 else "is the only device that torch finds here"
        return here[0], f"{here[0]} {reason}"
    name = "cuda:0" if asked == "cuda" else asked
    if name not in here:
        built_for = "" if torch_build().cuda is not None or not asked.startswith("cuda") else ", and torch has no CUDA"
        raise NoSuchDevice(f"there is no {asked} here{built_for}", hint=f"here: {', '.join(here)}")
    return name, f"{name} was asked for"


def _kind(device: str, asked: str | None) -> tuple[str, str]:
    if device == "cpu" and asked == "fp16":
        raise BadSetting("fp16 is not computed on a CPU", hint="--dtype fp32, or bf16 for half the memory")
    if asked is not None:
        return asked, f"{asked} was asked for"
    if device == "mps":
        return "fp32", "fp32, because half precision is not measured on this kind of device"
    return _cpu_kind() if device == "cpu" else _cuda_kind(device)


def _cuda_kind(device: str) -> tuple[str, str]:
    import torch

    name, capability = torch.cuda.get_device_name(device), torch.cuda.get_device_capability(device)
    if capability >= AMPERE:
        return "bf16", f"bf16, which {name} computes natively"
    return "fp16", f"fp16, because {name} has no bf16 arithmetic"


def _cpu_kind() -> tuple[str, str]:
    name = native_bf16()
    if name is not None:
        return "bf16", f"bf16, which this CPU computes natively ({name})"
    return "fp32", "fp32, because this CPU has no bf16 arithmetic"


def _linux_memory() -> dict[str, int]:
    """Bytes by the names in /proc/meminfo."""
    lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    return {line.partition(":")[0]: int(line.split()[1]) * 1024 for line in lines}


def _control_group_limit() -> tuple[int, int] | None:
    """The bytes that a container allows and those in use, if there is a container with a limit."""
    group = Path("/sys/fs/cgroup")
    try:
        limit = (group / "memory.max").read_text(encoding="ascii").strip()
        used = (group / "memory.current").read_text(encoding="ascii").strip()
    except OSError:
        return None
    return (int(limit), int(used)) if limit.isdigit() else None
