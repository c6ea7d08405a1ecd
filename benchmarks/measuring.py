"""What the benchmarks share: clocks, memory, and the peak of the machine, measured in the same run as the rest."""

import argparse
import json
import os
import platform
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from dallecli.devices import native_bf16

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """How one process ended: its seconds by the clock and the most memory that it held, in megabytes."""

    seconds: float
    megabytes: float


def environment() -> dict[str, str]:
    """That of processes to measure: this checkout first, nothing asked of the network, and libraries that are quiet."""
    path = os.pathsep.join([str(Path(__file__).parents[1]), os.environ.get("PYTHONPATH", "")])
    quiet = {f"{library}_VERBOSITY": "error" for library in ("DIFFUSERS", "TRANSFORMERS")}
    return {**os.environ, **quiet, "PYTHONPATH": path, "HF_HUB_OFFLINE": "1", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}


_LAUNCHER = """
import os, sys, time
began = time.perf_counter()
quiet = [(os.POSIX_SPAWN_OPEN, 1, os.devnull, os.O_WRONLY, 0)]
process = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ, file_actions=quiet)
_, status, usage = os.wait4(process, 0)
print(time.perf_counter() - began, usage.ru_maxrss, os.waitstatus_to_exitcode(status))
"""
"""A process inherits the largest size of the one that starts it, so a small one does."""


def run(command: Sequence[str]) -> Run:
    """Run a process to its end; the command begins with a path. Raises RuntimeError if it fails."""
    launch = [sys.executable, "-S", "-c", _LAUNCHER, *command]
    done = subprocess.run(launch, env=environment(), stdout=subprocess.PIPE, text=True, check=True)
    seconds, most, code = done.stdout.split()
    if int(code) != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {code}")
    return Run(seconds=float(seconds), megabytes=int(most) / (1024 if sys.platform == "linux" else 1024**2))


def write_for_diffusers(model: Path, folder: Path) -> None:
    """Write a model as diffusers reads it: in our folders the weights of each of Karlo's upsamplers are stored once."""
    command = [sys.executable, "-m", "dallecli", "models", "convert", str(model), str(folder), "--quiet"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def now() -> float:
    """The time in seconds, when the device has done all that it was told."""
    in_use: Callable[[], bool] = torch.cuda.is_initialized  # where it is not, asking would open the device
    if in_use():
        torch.cuda.synchronize()
    return time.perf_counter()


def seconds_of(work: Callable[[], object]) -> float:
    """How long some work takes, the device's share included."""
    began = now()
    work()
    return now() - began


def alternate(cases: Mapping[str, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """Time every case once a round, each round in the opposite order of the last, after one that does not count.

    So whatever else the machine does falls on all cases alike: ratios mean something where seconds do not.
    """
    taken: dict[str, list[float]] = {name: [] for name in cases}
    for round_ in range(-1, rounds):
        order = list(cases) if round_ % 2 == 0 else list(cases)[::-1]
        for name in order:
            seconds = seconds_of(cases[name])
            if round_ >= 0:
                taken[name].append(seconds)
    return taken


def alternate_processes(commands: Mapping[str, Sequence[str]], rounds: int) -> dict[str, list[Run]]:
    """Run every process once a round, each round in the opposite order of the last. All rounds count.

    Raises RuntimeError if one fails.
    """
    taken: dict[str, list[Run]] = {name: [] for name in commands}
    for round_ in range(rounds):
        for name in list(commands)[:: 1 if round_ % 2 == 0 else -1]:
            taken[name].append(run(commands[name]))
    return taken


def peaks(dtype: torch.dtype, device: torch.device) -> dict[str, float]:
    """The machine's best TFLOP/s in this type: a matrix product of 2048, and a 3 x 3 convolution of 320 channels."""
    side, channels, pixels = (2048, 320, 64) if device.type == "cpu" else (8192, 640, 128)
    matrix = torch.randn(side, side, device=device).to(dtype)
    image = torch.randn(2, channels, pixels, pixels, device=device).to(dtype).to(memory_format=torch.channels_last)
    conv = torch.nn.Conv2d(channels, channels, 3, padding=1, device=device, dtype=dtype)
    conv = conv.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # missing in torch's stubs
    with torch.inference_mode():
        taken = {
            "gemm": min(seconds_of(lambda: matrix @ matrix) for _ in range(8)),
            "conv": min(seconds_of(lambda: conv(image)) for _ in range(8)),
        }
    flops = {"gemm": 2 * side**3, "conv": 2 * 9 * channels**2 * 2 * pixels**2}
    return {name: flops[name] / taken[name] / 1e12 for name in taken}


def flops_of(work: Callable[[], object]) -> float:
    """The floating-point operations of some work, as torch counts them."""
    from torch.utils.flop_counter import FlopCounterMode

    with FlopCounterMode(display=False) as counter:
        work()
    return float(counter.get_total_flops())


def most_memory(device: torch.device) -> int:
    """The most bytes that this process ever held: of the device where that is a GPU, else of the main memory."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    if sys.platform == "linux":  # elsewhere a process begins with the largest size of the one that started it
        lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))
    import resource

    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _capability() -> str:
    bf16 = native_bf16()
    return torch.backends.cpu.get_cpu_capability() + ("" if bf16 is None else f", {bf16}")


def machine(device: torch.device) -> dict[str, Any]:
    """What was measured on."""
    return {
        "processor": _processor() if device.type == "cpu" else torch.cuda.get_device_name(device),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "capability": _capability() if device.type == "cpu" else "cuda",
        "python": platform.python_version(),
        "torch": str(torch.__version__),
        "diffusers": version("diffusers"),
    }


def parser(text: str | None) -> argparse.ArgumentParser:
    """For the options that a script's own text explains, as it is laid out there.

    Options have to be spelled out, or `command_line` would take one that is cut short for another.
    """
    layout = argparse.RawDescriptionHelpFormatter
    return argparse.ArgumentParser(description=text, formatter_class=layout, allow_abbrev=False)


def add_place(parser: argparse.ArgumentParser) -> None:
    """Take where and in what networks compute, and how many pictures at once."""
    parser.add_argument("--dtype", choices=DTYPES, default="bf16")
    parser.add_argument("--device", type=torch.device, default=torch.device("cpu"))
    parser.add_argument("--batch", type=int, default=1)


def command_line(*places: str) -> str:
    """This process as it was started, without the options that only say where things are on this machine."""
    words = [f"benchmarks/{Path(sys.argv[0]).name}"]
    given = iter(sys.argv[1:])
    for word in given:
        name, equals, _ = word.partition("=")
        if name.removeprefix("--") not in places:
            words.append(word)
        elif equals == "":
            next(given)
    return shlex.join(["python", *words])


def write(path: Path | None, name: str, figures: Mapping[str, Any]) -> None:
    """Keep the figures of one benchmark under its name, beside those of others in the same file."""
    if path is None:
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    known = json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}
    tables = dict(sorted({**known, name: figures}.items()))
    path.write_text(json.dumps(tables, indent=1) + "\n", encoding="utf-8")


def _processor() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines() if sys.platform == "linux" else ():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()
