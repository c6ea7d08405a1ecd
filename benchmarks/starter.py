"""The starter beside diffusers on the same folder: `python benchmarks/starter.py`.

They are compared up to 64 px, where diffusers' chain ends. Cold is a process from its start to the PNG; warm is one
more call of a process that has everything loaded, for one picture or for several. Both sides take the steps of
diffusers' pipeline, its sampler, the starter's guidance, one prior candidate, the same number type, and as many
threads, and paint all pictures of a call at once. "As it is" is each side as it comes: ours with the starter's own
steps and samplers, the type that suits the machine, and as many pictures at once as it paints by itself; diffusers,
whose pipeline has no other sampler, with its own steps, and all pictures at once. `--rounds N` sets how often each is
measured (5), `--dtype` the type of both sides (fp32), `--device cuda` where they paint, and `--json FILE` keeps the
figures.
"""

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import measuring
import torch
from figures import ratio
from peer import open_unclip

from dallecli.pipelines.settings import diffusion_dials
from dallecli.studio.engine import LocalEngine
from dallecli.tasks.generate import Generate
from dallecli.tasks.stages import Dials
from dallecli.weights.registry import find, locate

PROMPT = "a teddy bear riding a skateboard"
SPEC = find("starter")
FOLDER = locate(SPEC).path


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of the warm table: pictures of one call, and whether it is ours as it comes or the comparison."""

    pictures: int
    compared: bool
    size: int | None

    @property
    def name(self) -> str:
        """What is painted, in words."""
        what = "1 picture" if self.pictures == 1 else f"{self.pictures} pictures"
        size = f"{self.size if self.size is not None else SPEC.sizes[-1]} px"
        how = ", as it is" if not self.compared else f", --batch {self.pictures}" if self.pictures > 1 else ""
        return f"{what}, {size}{how}"

    @property
    def batch(self) -> int | None:
        """How many pictures ours paints at once: all, as diffusers does, or None for what it does by default."""
        return self.pictures if self.compared else None


WARM = (
    Row(pictures=1, compared=True, size=64),
    Row(pictures=8, compared=True, size=64),
    Row(pictures=16, compared=True, size=64),
    Row(pictures=1, compared=False, size=None),
    Row(pictures=8, compared=False, size=64),
    Row(pictures=16, compared=False, size=64),
)


STEPS = {"prior": 25, "decoder": 25, "upsampler": 7}
"""What diffusers' `UnCLIPPipeline` takes, if it is told nothing else."""
SAMPLER = "ancestral"
"""... and the only sampler that it has."""


def dials() -> dict[str, Any]:
    """The steps of diffusers' pipeline and the starter's guidance, by their names there."""
    stages = diffusion_dials({name: SPEC.stages[name] for name in ("prior", "decoder")})
    return {
        "prior_num_inference_steps": STEPS["prior"],
        "decoder_num_inference_steps": STEPS["decoder"],
        "super_res_num_inference_steps": STEPS["upsampler"],
        "prior_guidance_scale": stages["prior"].guidance,
        "decoder_guidance_scale": stages["decoder"].guidance,
    }


def ours(engine: LocalEngine, row: Row, dtype: str, device: str) -> Callable[[], object]:
    """One call of this project's engine."""
    ask = Generate(prompt=PROMPT, model=SPEC.name, seed=1, size=row.size, count=row.pictures, device=device)
    if row.compared:
        ask = replace(
            ask,
            dtype=dtype,
            prior_candidates=1,
            prior=Dials(steps=STEPS["prior"], sampler=SAMPLER),
            decoder=Dials(steps=STEPS["decoder"], sampler=SAMPLER),
            upsampler=Dials(steps=STEPS["upsampler"], sampler=SAMPLER),
        )
    return lambda: list(engine.paint(engine.resolve(ask), lambda _: None))


def cold(options: argparse.Namespace, theirs: Path) -> dict[str, list[dict[str, float]]]:
    """Whole processes, in turns."""
    with tempfile.TemporaryDirectory() as folder:
        dalle = [sys.executable, "-m", "dallecli"]
        paint = [*dalle, "generate", PROMPT, "--seed", "1", "--quiet", "--force", "-o", f"{folder}/ours.png"]
        paint += ["--device", options.device]
        same = ["--size", "64", "--prior-candidates", "1", "--dtype", options.dtype]
        same += ["--sampler", SAMPLER, "--upsampler-sampler", SAMPLER]
        same += ["--prior-steps", str(STEPS["prior"]), "--steps", str(STEPS["decoder"])]
        same += ["--upsampler-steps", str(STEPS["upsampler"])]
        place = ["--device", options.device, "--dtype", options.dtype, "--options", json.dumps(dials())]
        peer = str(Path(__file__).with_name("peer.py"))
        commands = {
            "ours, 64 px": [*paint, *same],
            "diffusers, 64 px": [sys.executable, peer, str(theirs), PROMPT, f"{folder}/theirs.png", *place],
            "ours, as it is": paint,
            "ours, four as a grid, as it is": [*paint, "-n", "4"],
        }
        taken = measuring.alternate_processes(commands, options.rounds)
    return {
        name: [{"seconds": run.seconds, "memory": run.megabytes * 1024**2} for run in runs]
        for name, runs in taken.items()
    }


def warm(options: argparse.Namespace, theirs: Path) -> dict[str, list[float]]:
    """Calls of open models, in turns."""
    pipeline = open_unclip(theirs, torch.device(options.device), measuring.DTYPES[options.dtype])
    # One for each batch, and so for each type: an engine that is asked for another type opens its model anew.
    engines = {row.batch: LocalEngine(batch=row.batch) for row in WARM}
    cases: dict[str, Callable[[], object]] = {}
    for row in WARM:
        cases[f"ours, {row.name}"] = ours(engines[row.batch], row, options.dtype, options.device)
        if row.size is not None:
            given = {**dials(), "num_images_per_prompt": row.pictures}
            cases[f"diffusers, {row.name}"] = partial(pipeline, PROMPT, **given)
    return measuring.alternate(cases, options.rounds)


def main() -> None:
    """Measure and print."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--dtype", choices=measuring.DTYPES, default="fp32")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    found: dict[str, Any] = {
        "table": "starter",
        "machine": measuring.machine(torch.device(options.device)),
        "command": measuring.command_line("json"),
        "dtype": options.dtype,
        "rounds": options.rounds,
        "peaks": measuring.peaks(measuring.DTYPES[options.dtype], torch.device(options.device)),
    }
    with tempfile.TemporaryDirectory() as folder:
        theirs = Path(folder) / "starter"
        measuring.write_for_diffusers(FOLDER, theirs)
        found["cold"] = cold(options, theirs)
        print("| cold process | seconds | peak MB |\n| --- | --- | --- |")
        for name, runs in found["cold"].items():
            seconds, most = statistics.median(run["seconds"] for run in runs), max(run["memory"] for run in runs)
            print(f"| {name} | {seconds:.2f} | {most / 1024**2:.0f} |", flush=True)
        taken = warm(options, theirs)
    pictures = {f"{side}, {row.name}": row.pictures for row in WARM for side in ("ours", "diffusers")}
    found["warm"] = {name: {"pictures": pictures[name], "seconds": seconds} for name, seconds in taken.items()}
    print("\n| warm | seconds | pictures a second |\n| --- | --- | --- |")
    for name, case in found["warm"].items():
        seconds = statistics.median(case["seconds"])
        print(f"| {name} | {seconds:.2f} | {case['pictures'] / seconds:.2f} |")
    for row in WARM:
        if row.size is not None:
            times = ratio(taken, f"diffusers, {row.name}", f"ours, {row.name}")
            print(f"diffusers takes {times:.2f} times as long as ours: {row.name}")
    measuring.write(options.json, "starter", found)


if __name__ == "__main__":
    main()
