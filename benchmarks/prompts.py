"""A prompt file of the starter, in pictures an hour: `python benchmarks/prompts.py`.

Each line has words and a seed of its own. Ours is the command that reads the file, as it comes: it checks the lines,
keeps a journal, and writes PNGs with their recipes. diffusers has no such command; its pipeline gets the same
sentences, eight at a time, and writes plain PNGs of 64 px, where its chain ends, in float32 and with its own steps, as
it comes. Each is a process from its start to its end. `--lines N` is how many lines there are (1000), and `--json FILE`
keeps the figures.
"""

import json
import sys
import tempfile
from itertools import cycle, islice, product
from pathlib import Path
from typing import Any

import measuring
import torch
from starter import FOLDER, SPEC, dials

from dallecli.studio.engine import LocalEngine

BATCH = 8


def sentences(count: int) -> list[str]:
    """Of the starter's things and colours: 480 different ones, again and again."""
    words = LocalEngine().knowledge(SPEC.name).words
    each = [f"a {thing} on a {colour} background" for colour, thing in product(words["colours"], words["things"])]
    return list(islice(cycle(each), count))


def main() -> None:
    """Measure and print."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--lines", type=int, default=1000)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        measuring.write_for_diffusers(FOLDER, folder / "starter")
        lines, file = sentences(options.lines), folder / "prompts.jsonl"
        file.write_text("".join(json.dumps({"prompt": line, "seed": k}) + "\n" for k, line in enumerate(lines)))
        dalle = [sys.executable, "-m", "dallecli", "generate", "--prompts", str(file), "--quiet", "--device", "cpu"]
        peer = [sys.executable, str(Path(__file__).with_name("peer.py")), str(folder / "starter"), str(file)]
        peer += [str(folder / "theirs"), "--several", str(BATCH), "--dtype", "fp32", "--options", json.dumps(dials())]
        commands = {
            "ours, 256 px": [*dalle, "--out", str(folder / "256")],
            "ours, 64 px": [*dalle, "--size", "64", "--out", str(folder / "64")],
            "diffusers, 64 px": peer,
        }
        taken = {name: measuring.run(command) for name, command in commands.items()}
    found: dict[str, Any] = {
        "table": "prompts",
        "machine": measuring.machine(torch.device("cpu")),
        "command": measuring.command_line("json"),
        "lines": options.lines,
        "runs": {name: {"seconds": run.seconds, "memory": run.megabytes * 1024**2} for name, run in taken.items()},
    }
    for name, run in taken.items():
        print(f"{name}: {run.seconds:.0f} s, {3600 * options.lines / run.seconds:.0f} pictures an hour")
    measuring.write(options.json, "prompts", found)


if __name__ == "__main__":
    main()
