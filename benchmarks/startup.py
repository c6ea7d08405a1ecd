"""Start-up and loading beside diffusers: `python benchmarks/startup.py`.

The first table is of whole processes, from start to end. The second is of one network, Karlo's decoder at its published
size: until it is open in bf16, until a first small step has read every number in it, and until the first step of a
picture is done, guided and at 64 px; from a file in the same type and from one in float32, which both sides have to
convert; with the file in the page cache, and for the last figure after it was evicted from there. Each time is of a
process of its own. The folders are written if they are not there (see `stages.py`), 6.9 and 3.6 GB. `--folder` says
where the first is, the other is beside it. `--rounds N` sets how often each is measured (3) after one that does not
count, `--device cuda` where the network is loaded to, `--json FILE` keeps the figures.
"""

import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import measuring
from random_folders import find_or_write
from stages import default_folder

PROCESSES = {
    "python": "pass",
    "import torch": "import torch",
    "ours: the engine": "import torch, dallecli.studio.engine, dallecli.pipelines.karlo",
    "ours: a model open": """
import torch
from dallecli.pipelines.karlo import open_karlo
from dallecli.pipelines.parts import Parts
from dallecli.studio.engine import LocalEngine
from dallecli.weights.registry import find, locate
open_karlo(Parts(locate(find("starter")), torch.device("cpu"), torch.float32), "starter")
""",
    "diffusers: its pipeline": "from diffusers import UnCLIPPipeline",
    "diffusers: a model open": """
import sys
sys.path.insert(0, {here!r})
import torch
from pathlib import Path
from peer import open_unclip
open_unclip(Path({starter!r}), torch.device("cpu"), torch.float32)
""",
}
"""What a process does between its start and its end, beside `dalle --help`."""

LOADERS = {
    "ours": """
from dallecli.nets.unet import UNet, UNetConfig
from dallecli.pipelines.parts import Parts
from dallecli.weights.folder import Folder
began = measuring.now()
parts = Parts(Folder(Path({folder!r})), device, torch.bfloat16)
net = parts.net("decoder", lambda config: UNet(UNetConfig.from_config(config)), torch.bfloat16)
opened = measuring.now()
net(x, t, context, time)
""",
    "diffusers": """
from diffusers import UNet2DConditionModel
began = measuring.now()
net = UNet2DConditionModel.from_pretrained({folder!r}, subfolder="decoder", dtype=torch.bfloat16).to(device)
opened = measuring.now()
net(x, t, context, class_labels=time)
""",
}
LOADING = """
import json, sys
sys.path.insert(0, {here!r})
from pathlib import Path
import measuring, torch
device = torch.device({device!r})
t = torch.tensor(500, device=device)
x, context, time = (torch.randn(*shape, dtype=torch.bfloat16, device=device) for shape in {shapes!r})
with torch.no_grad():
    {body}
print(json.dumps({{"open": opened - began, "step": measuring.now() - began, "memory": measuring.most_memory(device)}}))
"""
SMALL = ((1, 3, 16, 16), (1, 81, 1536), (1, 1280))
GUIDED = ((2, 3, 64, 64), (2, 81, 1536), (2, 1280))
"""Shapes of a noised image, its context and its condition."""


def processes(rounds: int, here: str) -> dict[str, list[float]]:
    """Seconds of whole processes, in turns."""
    from dallecli.weights.registry import find, locate

    with tempfile.TemporaryDirectory() as name:
        given = {"here": here, "starter": str(Path(name) / "starter")}
        measuring.write_for_diffusers(locate(find("starter")).path, Path(given["starter"]))
        commands = {"dalle --help": [sys.executable, "-m", "dallecli", "--help"]}
        commands |= {name: [sys.executable, "-c", code.format(**given)] for name, code in PROCESSES.items()}
        taken = measuring.alternate_processes(commands, rounds + 1)
    return {name: [run.seconds for run in runs[1:]] for name, runs in taken.items()}


def load(body: str, shapes: tuple[tuple[int, ...], ...], here: str, device: str) -> dict[str, float]:
    """What a process that loads a network, and makes a step with it, says of that."""
    code = LOADING.format(here=here, device=device, shapes=shapes, body=body)
    done = subprocess.run(
        [sys.executable, "-c", code], env=measuring.environment(), stdout=subprocess.PIPE, text=True, check=True
    )
    said: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return said


def evict(folder: Path) -> None:
    """Have the system forget what it keeps in memory of the files of a folder. Not every file system does."""
    for path in folder.glob("*.safetensors"):
        with path.open("rb") as file:
            os.fsync(file.fileno())
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def loads(body: str, folder: Path, here: str, device: str) -> dict[str, float]:
    """All figures of a side and a file, once."""
    small, warm = (load(body, shapes, here, device) for shapes in (SMALL, GUIDED))
    evict(folder / "decoder")
    cold = load(body, GUIDED, here, device)
    return {
        "open": small["open"],
        "read": small["step"],
        "memory": small["memory"],
        "step": warm["step"],
        "cold": cold["step"],
    }


def main() -> None:
    """Measure and print."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--folder", type=Path, default=default_folder("karlo"))
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    import torch

    here = str(Path(__file__).parent)
    found: dict[str, Any] = {
        "table": "startup",
        "machine": measuring.machine(torch.device(options.device)),
        "command": measuring.command_line("folder", "json"),
        "rounds": options.rounds,
        "processes": processes(options.rounds, here),
        "loads": {},
    }
    print("| process | seconds |\n| --- | --- |")
    for name, seconds in found["processes"].items():
        print(f"| {name} | {statistics.median(seconds):.2f} |", flush=True)
    same = find_or_write("karlo", options.folder.resolve(), "bf16")
    folders = {"bf16": same, "fp32": find_or_write("karlo-decoder", same.with_name("karlo-decoder-fp32"), "fp32")}
    print("\n| file | side | open | read | memory | step | cold |\n| --- | --- | --- | --- | --- | --- | --- |")
    for kind, folder in folders.items():
        taken: dict[str, list[dict[str, float]]] = {side: [] for side in LOADERS}
        for round_ in range(-1, options.rounds):
            for side in list(LOADERS)[:: 1 if round_ % 2 == 0 else -1]:
                body = LOADERS[side].format(folder=str(folder)).strip().replace("\n", "\n    ")
                said = loads(body, folder, here, options.device)
                if round_ >= 0:
                    taken[side].append(said)
        found["loads"][kind] = taken
        for side, runs in taken.items():
            parts = ("open", "read", "step", "cold")
            opened, read, step, cold = (statistics.median(run[part] for run in runs) for part in parts)
            memory = max(run["memory"] for run in runs) / 1e9
            print(
                f"| {kind} | {side} | {opened:.2f} | {read:.2f} | {memory:.2f} GB | {step:.2f} | {cold:.2f} |",
                flush=True,
            )
    measuring.write(options.json, "startup", found)


if __name__ == "__main__":
    main()
