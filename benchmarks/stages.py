"""A model of the published size beside diffusers, stage by stage: `python benchmarks/stages.py karlo`
(or `kandinsky`, `glide`).

Both sides read the same folder, with random weights, which cost the same; it is written where `--folder` says if it is
not there (Karlo 6.9 GB, Kandinsky 2.6 GB, GLIDE 1.6 GB in bf16, in the platform's cache folder by default). Each side
of a stage is a process of its own (see `sides.py`), and they run in turns: `--rounds N` rounds (3) after one that does
not count, of as many steps each as `--steps prior=5,upsampler=2` says (few on a CPU, all that the model's run has on a
GPU). Work is counted on diffusers' network for both sides; the peak of the machine, a matrix product and a convolution,
is measured before and after each stage. Memory is the most that a process held while it ran the stage, of a GPU if it
ran there.

--dtype bf16|fp32|fp16   the type in which networks compute (bf16)
--device cuda            where both sides run (cpu)
--batch N                pictures at once (1)
--only prior,decoder     these stages only
--whole [N]              also N whole pictures (1) a side, each in a new process, in turns: `dalle generate` beside
                         diffusers, repaired where it does not run. Minutes each on a CPU
--memory PLAN            of those pictures of ours (low on a CPU, auto on a GPU)
--warm N                 also N rounds of whole pictures, `--batch` at once, in two processes that stay open
--compile                with ours compiled by torch in those, on a GPU; diffusers' stay as they come
--json FILE              keep the figures, which `report.py` makes a page of
"""

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import figures
import measuring
from figures import SIDES
from peer import NETWORKS
from platformdirs import user_cache_path
from random_folders import find_or_write
from sides import PROMPT, STAGES, WHOLE

from dallecli.placement import MEMORY
from dallecli.tasks.stages import DiffusionSettings
from dallecli.weights.folder import Folder
from dallecli.weights.registry import find

STEPS = {"text": 10, "prior": 4, "decoder": 3, "upsampler": 1, "autoencoder": 1}
"""Steps a round on a CPU, where those of the last two take half a minute."""


class Side:
    """A process of `sides.py` that is ready to run steps. Raises RuntimeError where it ends before its time."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._process = process
        self._answer()

    def run(self, steps: int) -> dict[str, float]:
        """The seconds of the first step and of each other: {"first": …, "step": …}."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{steps}\n")
        self._process.stdin.flush()
        return self._answer()

    def end(self) -> int:
        """Let it end; the most bytes that it held."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        return int(self._answer()["memory"])

    def _answer(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if line == "":
            raise RuntimeError(f"a side ended with {self._process.wait()} before its time: {self._process.args!r}")
        answer: dict[str, Any] = json.loads(line)
        return answer


@contextmanager
def both(command: Mapping[str, list[str]]) -> Iterator[dict[str, Side]]:
    """Both sides of a stage, opened one after the other; none is left behind."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    with ExitStack() as stack:
        sides = {}
        for name, words in command.items():
            process = stack.enter_context(subprocess.Popen(words, env=measuring.environment(), **pipes))
            stack.callback(process.kill)
            sides[name] = Side(process)
        yield sides


def contest(options: argparse.Namespace, stage: str, steps: int, rounds: int) -> dict[str, Any]:
    """The figures of one stage: seconds of every round and memory by side, and the machine's peak."""
    dtype = measuring.DTYPES[options.dtype]
    before = measuring.peaks(dtype, options.device)
    taken: dict[str, dict[str, Any]] = {side: {"first": [], "step": []} for side in SIDES}
    with both({side: command(options, side, stage) for side in SIDES}) as sides:
        for side in SIDES:
            sides[side].run(1 if options.device.type == "cpu" else steps)
        for round_ in range(rounds):
            for name in list(SIDES)[:: 1 if round_ % 2 == 0 else -1]:
                for kind, seconds in sides[name].run(steps).items():
                    taken[name][kind].append(seconds)
        for name in SIDES:
            taken[name]["memory"] = sides[name].end()
    after = measuring.peaks(dtype, options.device)
    peaks = {kind: max(before[kind], after[kind]) for kind in before}
    return {"steps": steps, "peaks": peaks, **taken}


def command(options: argparse.Namespace, side: str, stage: str) -> list[str]:
    """The process of a side."""
    place = [options.model, stage, str(options.folder), "--device", str(options.device)]
    words = [sys.executable, str(Path(__file__).with_name("sides.py")), side, *place]
    compiled = ["--compile"] if options.compile and stage == WHOLE else []
    return [*words, "--dtype", options.dtype, "--batch", str(options.batch), *compiled]


def whole(options: argparse.Namespace) -> dict[str, list[dict[str, float]]]:
    """Whole pictures, each in a process that starts, reads the folder and ends: seconds and bytes of each."""
    with tempfile.TemporaryDirectory() as folder:
        ours = [sys.executable, "-m", "dallecli", "generate", PROMPT, "--model", str(options.folder), "--quiet"]
        ours += ["--device", str(options.device), "--dtype", options.dtype, "--seed", "1", "--prior-candidates", "1"]
        ours += ["--memory", options.memory, "--force", "-o", f"{folder}/ours.png"]
        theirs = [sys.executable, str(Path(__file__).with_name("peer.py")), str(options.folder), PROMPT]
        theirs += [f"{folder}/theirs.png", "--device", str(options.device), "--dtype", options.dtype]
        taken = measuring.alternate_processes({"ours": ours, "diffusers": theirs}, options.whole)
    return {
        side: [{"seconds": run.seconds, "memory": run.megabytes * 1024**2} for run in runs]
        for side, runs in taken.items()
    }


def print_row(name: str, stage: Mapping[str, Any]) -> None:
    """One stage, as it is measured."""
    cells = [name, f"{stage['tflop']:.3f}"]
    for side in SIDES:
        seconds, share = figures.step_seconds(stage, side), figures.share_of_peak(stage, side)
        speed, memory = stage["tflop"] / seconds, stage[side]["memory"] / 1e9
        cells += [f"{seconds:.3f} s", f"{speed:.3f} ({share:.0%})", f"{memory:.2f} GB"]
    print(f"| {' | '.join(cells)} | {figures.step_ratio(stage):.2f} |", flush=True)


def calls(model: str, stage: str) -> int:
    """How many steps a stage has in the model's own run."""
    own = find(model).stages.get(stage)
    return own.count if isinstance(own, DiffusionSettings) else 1


def default_folder(model: str) -> Path:
    """Where a model with random weights lies unless `--folder` says otherwise."""
    return user_cache_path("dalle-benchmarks") / f"{model}-bf16"


def read_options() -> argparse.Namespace:
    """The command line, with the folder found and the steps of each stage settled."""
    parser = measuring.parser(__doc__)
    parser.add_argument("model", choices=STAGES)
    parser.add_argument("--folder", type=Path)
    measuring.add_place(parser)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--steps", default="")
    parser.add_argument("--only")
    parser.add_argument("--whole", type=int, nargs="?", const=1, default=0)
    parser.add_argument("--memory", choices=MEMORY)
    parser.add_argument("--warm", type=int, default=0)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.model != "karlo" and (options.whole or options.warm):
        parser.error("only Karlo's folder is whole")
    stages = STAGES[options.model]
    options.only = stages if options.only is None else tuple(filter(None, options.only.split(",")))
    asked = dict(pair.split("=") for pair in options.steps.split(",") if pair)
    for stage in (*options.only, *asked):
        if stage not in stages:
            parser.error(f"{options.model} has the stages {', '.join(stages)}, not {stage}")
    on_cpu = options.device.type == "cpu"
    if options.memory is None:
        options.memory = "low" if on_cpu else "auto"
    options.steps = {stage: STEPS[stage] if on_cpu else max(10, calls(options.model, stage)) for stage in stages}
    for stage in asked:
        options.steps[stage] = int(asked[stage])
    for stage in set(stages) & set(find(options.model).stages):
        options.steps[stage] = min(options.steps[stage], calls(options.model, stage))
    if "upsampler" in stages:  # whose last step has a network of its own, which is not to be measured
        options.steps["upsampler"] = min(options.steps["upsampler"], calls(options.model, "upsampler") - 1)
    folder = options.folder if options.folder is not None else default_folder(options.model)
    options.folder = find_or_write(options.model, folder.resolve(), "bf16")
    return options


def main() -> None:
    """Measure and print."""
    options = read_options()
    found: dict[str, Any] = {
        "table": "stages",
        "machine": measuring.machine(options.device),
        "command": measuring.command_line("folder", "json"),
        "model": options.model,
        "dtype": options.dtype,
        "batch": options.batch,
        "compiled": options.compile,
        "rounds": options.rounds,
        "stages": {},
    }
    if options.only:
        print("| stage | TFLOP | ours | TFLOP/s (of the peak) | memory | diffusers | TFLOP/s | memory | times |")
        print("| --- |" + " --- |" * 8, flush=True)
    for stage in options.only:
        taken = contest(options, stage, options.steps[stage], options.rounds)
        taken["tflop"] = NETWORKS[options.model, stage].tflop(options.folder, options.batch)
        taken["calls"] = calls(options.model, stage)
        found["stages"][stage] = taken
        print_row(stage, taken)
    if set(options.only) == set(STAGES[options.model]):
        sums = {side: sum(figures.run_seconds(stage, side) for stage in found["stages"].values()) for side in SIDES}
        run = " + ".join(str(calls(options.model, stage)) for stage in options.only)
        print(f"\nprojected, {run} steps: ours {sums['ours']:.1f} s, diffusers {sums['diffusers']:.1f} s")
    if options.whole or options.warm:
        Folder(options.folder).digest()  # remembered from here on, as of every model that was ever painted with
    if options.whole:
        found["memory"], found["whole"] = options.memory, whole(options)
        print("\n| a whole picture | seconds | memory |\n| --- | --- | --- |")
        for side, runs in found["whole"].items():
            seconds, memory = (statistics.median(run[what] for run in runs) for what in ("seconds", "memory"))
            print(f"| {side} | {seconds:.1f} | {memory / 1e9:.2f} GB |", flush=True)
    if options.warm:
        found["warm"] = contest(options, WHOLE, 1, options.warm)
        cells = (f"{side} {figures.step_seconds(found['warm'], side) / options.batch:.2f}" for side in SIDES)
        print(f"\nwarm, {options.batch} at once, seconds a picture: {', '.join(cells)}")
    batch = "" if options.batch == 1 else f" x {options.batch}"
    compiled = " compiled" if options.compile else ""
    measuring.write(options.json, f"{options.model} {options.dtype}{batch}{compiled}", found)


if __name__ == "__main__":
    main()
