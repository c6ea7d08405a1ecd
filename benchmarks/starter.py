"""The starter beside diffusers on the same folder: `python benchmarks/starter.py`.

They are compared up to 64 px, where diffusers' chain ends. Cold is a process from its start to the PNG; warm is one
more picture of a process that has everything loaded. Both sides take the same steps and guidance, one prior candidate,
float32, and as many threads. `--rounds N` sets how often each is measured (5), `--json FILE` keeps the figures.
"""

import argparse
import os
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measuring
import torch

from dallecli.request import Generate
from dallecli.studio import LocalEngine
from dallecli.weights.registry import ModelSpec, find, locate

PROMPT = "a teddy bear riding a skateboard"
COLD = """
import sys
sys.path.insert(0, sys.argv[1])
from starter import peer
peer()("{prompt}", 1)[0].save(sys.argv[2])
"""


def peer() -> Callable[[str, int], list[Any]]:
    """diffusers' UnCLIPPipeline on the starter's folder: from a prompt and a number of pictures to those pictures."""
    import diffusers
    from diffusers.pipelines.deprecated import unclip

    setattr(diffusers.pipelines, "unclip", unclip)  # noqa: B010  #  where published folders look for it
    spec = find("starter")
    opened: Any = diffusers.UnCLIPPipeline
    pipeline = opened.from_pretrained(str(locate(spec).path), torch_dtype=torch.float32)
    pipeline.set_progress_bar_config(disable=True)

    def paint(prompt: str, count: int) -> list[Any]:
        stages = spec.stages
        done = pipeline(
            prompt,
            num_images_per_prompt=count,
            generator=torch.Generator().manual_seed(1),
            prior_num_inference_steps=stages["prior"].steps,
            decoder_num_inference_steps=stages["decoder"].steps,
            super_res_num_inference_steps=stages["upsampler"].steps,
            prior_guidance_scale=stages["prior"].guidance,
            decoder_guidance_scale=stages["decoder"].guidance,
        )
        return list(done.images)

    return paint


def ours(spec: ModelSpec, size: int | None, count: int, candidates: int | None) -> Callable[[], object]:
    """The same with this project's engine, opened once; None is the model's own."""
    engine = LocalEngine()
    ask = Generate(prompt=PROMPT, model=spec.name, seed=1, size=size, count=count, prior_candidates=candidates)
    return lambda: list(engine.paint(engine.resolve(ask), lambda _: None))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    cpu, spec = torch.device("cpu"), find("starter")
    here, root = str(Path(__file__).parent), str(Path(__file__).parents[1])
    found: dict[str, Any] = {
        "machine": measuring.machine(cpu),
        "peaks": measuring.peaks(torch.float32, cpu),
        "rounds": options.rounds,
    }
    with tempfile.TemporaryDirectory() as folder:
        dalle = [sys.executable, "-m", "dallecli"]
        paint = [*dalle, "generate", PROMPT, "--seed", "1", "--quiet", "--force", "-o", f"{folder}/ours.png"]
        commands = {
            "help": [*dalle, "--help"],
            "ours 64 px": [*paint, "--size", "64", "--prior-candidates", "1"],
            "diffusers 64 px": [sys.executable, "-c", COLD.format(prompt=PROMPT), here, f"{folder}/theirs.png"],
            "ours as it is": paint,
            "ours, four as a grid": [*paint, "-n", "4"],
        }
        path = os.pathsep.join([root, os.environ.get("PYTHONPATH", "")])
        cold: dict[str, list[measuring.Run]] = {name: [] for name in commands}
        for round_ in range(options.rounds):
            for name in list(commands)[:: 1 if round_ % 2 == 0 else -1]:
                cold[name].append(measuring.run(commands[name], PYTHONPATH=path, HF_HUB_OFFLINE="1"))
    print("| cold process | seconds | peak MB |\n| --- | --- | --- |")
    for name, runs in cold.items():
        seconds, megabytes = [one.seconds for one in runs], max(one.megabytes for one in runs)
        found[f"cold {name}"] = {"seconds": seconds, "megabytes": megabytes}
        print(f"| {name} | {statistics.median(seconds):.2f} | {megabytes:.0f} |", flush=True)
    theirs = peer()
    with torch.inference_mode():
        taken = measuring.alternate(
            {
                "ours 64 px": ours(spec, 64, 1, 1),
                "diffusers 64 px": lambda: theirs(PROMPT, 1),
                "ours 64 px, 8 pictures": ours(spec, 64, 8, 1),
                "diffusers 64 px, 8 pictures": lambda: theirs(PROMPT, 8),
                "ours as it is": ours(spec, None, 1, None),
            },
            options.rounds,
        )
    print("\n| warm | seconds |\n| --- | --- |")
    for name, warm in taken.items():
        found[f"warm {name}"] = {"seconds": warm}
        print(f"| {name} | {statistics.median(warm):.2f} |")
    for suffix in ("", ", 8 pictures"):
        times = measuring.ratio(taken, f"diffusers 64 px{suffix}", f"ours 64 px{suffix}")
        found[f"ratio{suffix}"] = times
        print(f"diffusers takes {times:.2f} times as long as ours{suffix}")
    measuring.write(options.json, "starter", found)


if __name__ == "__main__":
    main()
