"""The page of all figures: `python benchmarks/report.py` writes docs/benchmarks.md from docs/benchmarks/*.json.

Each of these files is of one machine, and is what the benchmarks write with `--json`, or all of them by `tables.py`.
The page has nothing that is not in them; a test holds it to that.
"""

import json
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import figures
from figures import SIDES

DOCS = Path(__file__).parents[1] / "docs"
PAGE = DOCS / "benchmarks.md"
FILES = DOCS / "benchmarks"
INTRODUCTION = Path(__file__).with_name("introduction.md")
"""What is above all tables."""

Figures = Mapping[str, Any]

NOTHING = """
No figures have been taken yet.
"""

STAGE_NAMES = {
    "text": "text tower",
    "prior": "prior",
    "decoder": "decoder",
    "upsampler": "upsampler",
    "autoencoder": "autoencoder, to pixels",
}

MODELS = {
    "karlo": "Karlo, 256 px",
    "kandinsky": "Kandinsky 2.2, from an embedding to 512 px",
    "starter": "the starter, 256 px",
}

PROCESSES = {
    "python": "a Python that does nothing",
    "dalle --help": "`dalle --help`",
    "import torch": "`import torch`",
    "ours: the engine": "our engine imported, torch included",
    "ours: a model open": "the same, and the starter opened; networks are read when they are needed",
    "diffusers: its pipeline": "diffusers' `UnCLIPPipeline` imported",
    "diffusers: a model open": "the same, and the starter opened",
}


def page(machines: Mapping[str, Figures]) -> str:
    """The whole page, from what was measured on each machine, by its name."""
    sections = [section(name, machines[name]) for name in sorted(machines)]
    return INTRODUCTION.read_text(encoding="utf-8") + ("".join(sections) if sections else NOTHING)


def section(name: str, tables: Figures) -> str:
    """All tables of one machine."""
    order = [key for kind in TABLES for key in sorted(tables) if tables[key]["table"] == kind]
    texts = [f"{TABLES[tables[key]['table']](tables[key])}\n{origin(tables[key])}\n" for key in order]
    return f"\n## {name}\n" + "".join(texts) + out_of_the_box(tables)


def origin(table: Figures) -> str:
    """Where a table's figures are from: command, machine and versions."""
    machine = table["machine"]
    cores = f"{machine['threads']} of {machine['cores']} cores of " if machine["capability"] != "cuda" else ""
    kind = f" ({machine['capability']})" if machine["capability"] != "cuda" else ""
    versions = ", ".join(f"{what} {machine[what]}" for what in ("torch", "diffusers"))
    rounds = f", rounds: {table['rounds']}" if "rounds" in table else ""
    where = f"{cores}{machine['processor']}{kind}, Python {machine['python']}, {versions}"
    return f"`{table['command']}`{rounds}; {where}."


def stages(table: Figures) -> str:
    """A model of the published size, stage by stage."""
    lines = [f"\n### {_what(table)}\n"]
    own = table["stages"]
    if own:
        head = ["a step", "steps", "TFLOP", "ours", "diffusers", "times", "ours, of the peak", "diffusers, of the peak"]
        rows = [_stage_row(STAGE_NAMES[name], stage) for name, stage in own.items()]
        whole = {"text", "prior", "decoder", "upsampler"} if table["model"] == "karlo" else {"decoder", "autoencoder"}
        if set(own) == whole:
            rows.append(_projected_row(own))
        lines.append(_table([*head, "ours, memory", "diffusers, memory"], rows))
        lines.append(_peaks(own))
    if "whole" in table:
        plan = f"ours with `--memory {table['memory']}`"
        lines.append(f"A whole picture, in a process that starts, reads the folder and ends; {plan}:\n")
        lines.append(_table(["", "seconds", "main memory"], [[side, *_cold(table["whole"][side])] for side in SIDES]))
    if "warm" in table:
        warm = table["warm"]
        rows = [
            [
                side,
                _seconds(figures.step_seconds(warm, side)),
                f"{table['batch'] / figures.step_seconds(warm, side):.2f}",
            ]
            for side in SIDES
        ]
        lines.append("Whole pictures, in a process that has everything loaded:\n")
        lines.append(_table(["", "seconds", "pictures a second"], rows))
        lines.append(f"diffusers takes {figures.step_ratio(warm):.2f} times as long.\n")
    return "\n".join(lines)


def _what(table: Figures) -> str:
    """What is painted, and how."""
    batch = "" if table["batch"] == 1 else f", {table['batch']} pictures at once"
    compiled = ", ours compiled" if table.get("compiled", False) else ""
    return f"{MODELS[table['model']]}, {table['dtype']}{batch}{compiled}"


def _stage_row(name: str, stage: Figures) -> list[str]:
    seconds = [_seconds(figures.step_seconds(stage, side)) for side in SIDES]
    shares = [f"{figures.share_of_peak(stage, side):.0%}" for side in SIDES]
    memory = [f"{stage[side]['memory'] / 1e9:.1f} GB" for side in SIDES]
    return [name, str(stage["calls"]), f"{stage['tflop']:.2f}", *seconds, _times(stage), *shares, *memory]


def _times(stage: Figures) -> str:
    return f"**{figures.step_ratio(stage):.2f}**"


def _projected_row(own: Figures) -> list[str]:
    """All steps of a run, as a sum."""
    tflop = sum(stage["tflop"] * stage["calls"] for stage in own.values())
    peak = max(max(stage["peaks"].values()) for stage in own.values())
    seconds = {side: sum(figures.run_seconds(stage, side) for stage in own.values()) for side in SIDES}
    shares = [f"{tflop / seconds[side] / peak:.0%}" for side in SIDES]
    times = f"**{seconds['diffusers'] / seconds['ours']:.2f}**"
    cells = ["all steps, projected", "", f"{tflop:.1f}", *(_seconds(seconds[side]) for side in SIDES), times]
    return [*cells, *shares, "", ""]


def _peaks(own: Figures) -> str:
    spans = []
    for kind, what in (("gemm", "in a matrix product"), ("conv", "in a convolution")):
        reached = [stage["peaks"][kind] for stage in own.values()]
        low, high = f"{min(reached):.3g}", f"{max(reached):.3g}"
        spans.append(f"{low if low == high else f'{low} to {high}'} {what}")
    return f"The machine reached, in TFLOP/s: {', '.join(spans)}.\n"


def _cold(runs: Sequence[Figures]) -> list[str]:
    seconds = statistics.median(run["seconds"] for run in runs)
    return [_seconds(seconds), f"{max(run['memory'] for run in runs) / 1e9:.2f} GB"]


def starter(table: Figures) -> str:
    """The starter, cold and warm."""
    lines = [f"\n### The starter, {table['dtype']}\n"]
    lines.append(
        "Up to 64 px, where diffusers' chain ends, with the steps and the sampler of its pipeline, the starter's"
        " guidance, and all pictures of a call at once, which ours is told by options; as it is: both as they come,"
        " ours with the starter's own steps and samplers.\n"
    )
    cold = [[name, *_cold(runs)] for name, runs in table["cold"].items()]
    lines.append(_table(["a process from its start to the PNG", "seconds", "memory"], cold))
    lines.append(_table(WARM_HEAD, _warm_rows(table["warm"])))
    return "\n".join(lines)


WARM_HEAD = ("a call with everything loaded", "ours", "pictures a second", "diffusers", "pictures a second", "times")


def _warm_rows(cases: Figures) -> Iterable[list[str]]:
    """What is painted, and by each side that was measured with it: seconds, and pictures a second."""
    for what in dict.fromkeys(name.partition(", ")[2] for name in cases):
        cells, taken = [what], {}
        for side in SIDES:
            case = cases.get(f"{side}, {what}")
            if case is None:
                cells += ["", ""]
                continue
            taken[side] = case["seconds"]
            seconds = statistics.median(case["seconds"])
            cells += [_seconds(seconds), f"{case['pictures'] / seconds:.2f}"]
        yield [*cells, f"**{figures.ratio(taken, 'diffusers', 'ours'):.2f}**" if len(taken) == 2 else ""]


def startup(table: Figures) -> str:
    """Processes that start, and networks that are loaded."""
    rows = [[PROCESSES[name], _seconds(statistics.median(table["processes"][name]))] for name in PROCESSES]
    lines = ["\n### Start-up and loading\n", _table(["a process", "seconds"], rows)]
    if table["loads"]:
        lines.append(
            "Karlo's decoder (885 M numbers) in bf16, in seconds from a file in the page cache: until it is open; until"
            " a first small step has read all of it; until the first step of a picture is done, guided and at 64 px;"
            " and the same from a file that is not in memory. diffusers maps a file of the same type, and reads it only"
            " in its step. Memory is what a small step needs.\n"
        )
        rows = [_load_row(kind, side, runs) for kind, sides in table["loads"].items() for side, runs in sides.items()]
        lines.append(_table(["file", "", "open", "a small step", "a first step", "from the disk", "memory"], rows))
    return "\n".join(lines)


def _load_row(kind: str, side: str, runs: Sequence[Figures]) -> list[str]:
    times = [_seconds(statistics.median(run[part] for run in runs)) for part in ("open", "read", "step", "cold")]
    return [kind, side, *times, f"{max(run['memory'] for run in runs) / 1e9:.1f} GB"]


def kernels(table: Figures) -> str:
    """Where the time of a picture goes, by kind of kernel."""
    on_cpu, total = table["busy"] is None, figures.kernel_seconds(table)
    what = "The operators, each without those that it calls" if on_cpu else "The kernels and transfers"
    rows = [
        [kind, _seconds(row["seconds"]), f"{row['seconds'] / total:.1%}", str(row["launches"])]
        for kind, row in table["kinds"].items()
    ]
    floor, peak = figures.floor_seconds(table), max(table["peaks"].values())
    times = f"**{table['seconds'] / floor:.2f}** times as long as its floor"
    lines = [
        f"\n### Where the time goes: {_what(table)}\n",
        f"{what}, of a run of {_seconds(table['profiled'])} seconds under torch's profiler.\n",
        _table(["kind", "seconds", "share", "calls" if on_cpu else "launches"], rows),
        f"Without the profiler it took {_seconds(table['seconds'])} seconds, {times}: {table['tflop']:.3g} TFLOP are"
        f" {_seconds(floor)} seconds at {peak:.3g} TFLOP/s, the better one of a matrix product and a convolution.\n",
    ]
    if not on_cpu:
        lines.append(f"The device did nothing in {figures.idle_share(table):.0%} of this time.\n")
    if table["others"]:
        names = (f"`{name}` {row['seconds'] * 1e3:.3g} ms" for name, row in table["others"].items())
        lines.append(f"The largest of the others: {', '.join(names)}.\n")
    return "\n".join(lines)


def levers(table: Figures) -> str:
    """What each thing that was done for speed on a CPU is worth."""
    lines = [
        f"\n### Levers, {table['dtype']}\n",
        "The same work without and with what was [done for speed](decisions/speed.md#speed), in seconds.\n",
    ]
    rows = [
        [
            name,
            *(_seconds(statistics.median(taken[side])) for side in ("without", "with")),
            f"**{figures.ratio(taken, 'without', 'with'):.2f}**",
        ]
        for name, taken in table["levers"].items()
    ]
    lines.append(_table(["lever", "without", "with", "times"], rows))
    return "\n".join(lines)


def samplers(table: Figures) -> str:
    """What the starter's dials are worth."""
    lines = [
        "\n### Samplers and steps\n",
        f"The starter's pictures, {table['pictures']} of each kind, judged as [its page](starter.md#quality)"
        " says, and the seconds of one at 256 px with everything loaded.\n",
    ]
    rows = [
        [
            f"`{name}`" if name.startswith("--") else name,
            *(f"{row[part]:.1%}" for part in ("pair_all_objects", "style_style", "style_objects")),
            _seconds(statistics.median(row["seconds"])),
        ]
        for name, row in table["rows"].items()
    ]
    lines.append(_table(["", "both of a pair", "the style", "its thing", "seconds"], rows))
    return "\n".join(lines)


def saving(table: Figures) -> str:
    """What the dials that leave out work save of large networks."""
    lines = [
        "\n### What the dials save\n",
        f"The seconds of a step of a network of the published size, in {table['dtype']}, and how many times as fast as"
        " the model's own run one is with each dial, by the steps of each kind that it takes. What the dials do to"
        " pictures was measured on [the starter](starter.md#the-dials).\n",
    ]
    for name, network in table["networks"].items():
        head, seconds = list(network["seconds"]), network["seconds"].values()
        medians = [_seconds(statistics.median(taken)) for taken in seconds]
        lines.append(_table([f"{name}, a step", *head], [["seconds", *medians]]))
        rows = [
            [
                f"`{run}`" if run.startswith("--") else run,
                *(str(steps.get(kind, 0)) for kind in head),
                f"**{figures.times_as_fast(network, run):.2f}**",
            ]
            for run, steps in network["runs"].items()
        ]
        lines.append(_table([f"{name}, a run: its steps", *head, "times as fast"], rows))
    return "\n".join(lines)


def int8(table: Figures) -> str:
    """What 8-bit integers would save and cost."""
    own = {"bfloat16": "bf16", "float32": "fp32"}[table["dtype"]]
    lines = [
        "\n### 8-bit integers\n",
        f"The seconds of a step, in {own} and with all convolutions of at least {table['least_channels']} channels of"
        " [8-bit integers](decisions/speed.md#speed), and the error of both: how far a step's result is from"
        " float32's, as a share of it. Large networks have random weights, the starter's its own. Nothing is painted"
        " so.\n",
    ]
    rows = []
    for name, network in table["networks"].items():
        seconds, errors = network.get("seconds"), network["error"]
        taken = ["", "", ""]
        if seconds is not None:
            medians = [_seconds(statistics.median(seconds[kind])) for kind in ("own", "int8")]
            taken = [*medians, f"**{figures.ratio(seconds, 'own', 'int8'):.2f}**"]
        times = errors["int8"] / errors["own"]
        rows.append([name, *taken, f"{errors['own']:.2%}", f"{errors['int8']:.2%}", f"**{times:.1f}**"])
    head = ["a step", own, "int8", "times as fast", f"error in {own}", "in int8", "times as large"]
    return "\n".join([*lines, _table(head, rows)])


def server(table: Figures) -> str:
    """What a server costs over painting, and what many callers get."""
    request, health = statistics.median(table["request"]), max(table["health"])
    served, offline = (statistics.median(table[name]) for name in ("served", "offline"))
    share = statistics.median(a / b for a, b in zip(table["served"], table["offline"], strict=True))
    callers, batch = table["callers"], table["batch"]
    rows = [
        ["from the start to the first answer", f"{_seconds(statistics.median(table['start']))} s"],
        ["a warm request, without its painting", f"{1000 * request:.1f} ms"],
        [
            "`dalle generate --server`, from its start to its end, without the painting",
            f"{_seconds(statistics.median(table['command_line']))} s",
        ],
        [f"{callers} callers at once, `--batch {batch}`", f"{served:.2f} pictures a second"],
        [f"the same prompts from a prompt file, `--batch {batch}`", f"{offline:.2f} pictures a second"],
        ["callers to prompt file, median of the rounds' own ratios", f"**{share:.2f}**"],
        ["the slowest answer of `/health` meanwhile", f"{1000 * health:.0f} ms"],
    ]
    return f"\n### The server, with the starter\n\n{_table(['', ''], rows)}"


def scale(table: Figures) -> str:
    """A batch on many workers."""
    cpu, disk = (f"{1000 * table[part]:.2g} ms" for part in ("cpu", "disk"))
    ray = f"; Ray takes {1000 * table['order']:.2g} ms for an order" if table["order"] is not None else ""
    without = "" if ray else " What Ray itself takes is not counted."
    few, many = table["memory"]
    most = {workers: int(workers) * table["group"] / table["seconds"] for workers in table["workers"]}
    rows = [
        [workers, f"{rate:.1f}", f"{rate / most[workers]:.0%}", f"{busy:.0%}"]
        for workers, (rate, busy) in table["workers"].items()
    ]
    lines = [
        "\n### Many workers\n",
        f"What the driver of a batch does for a picture of {table['bytes'] / 1e3:.0f} kB, measured: {cpu} of its CPU"
        f" and {disk} of the disk{ray}.{without} It took {few:.0f} MB for {table['lines'] // 4} lines"
        f" and {many:.0f} MB for {table['lines']}. The table is simulated with these: workers take"
        f" {table['seconds']:g} seconds for"
        f" {table['group']} pictures. Where the driver works all the time, start several with `--shard`"
        " ([guide](guides/cluster.md#very-many-workers)).\n",
        _table(["workers", "pictures a second", "of what they could", "the driver works"], rows),
    ]
    if table["load"] > table["machine"]["cores"]:
        lines.append(f"Other programs were at work: the load average was {table['load']:.0f}.\n")
    return "\n".join(lines)


def finished(table: Figures) -> str:
    """A batch in which nothing is left to do."""
    rows = [
        [what, *(_seconds(run[name]) for name in ("seconds", "cpu")), f"{run['megabytes']:.0f} MB"]
        for what, run in table["runs"].items()
    ]
    head = [f"{table['lines']} lines", "seconds", "of CPU", "memory"]
    text = "Small flat pictures that nothing paints; the second row is the same command once more:\n"
    return f"\n### Going on over a finished batch\n\n{text}\n{_table(head, rows)}"


def prompts(table: Figures) -> str:
    """Prompt files, in pictures an hour."""
    rows = [
        [
            what,
            _seconds(run["seconds"]),
            f"{3600 * table['lines'] / run['seconds']:.0f}",
            f"{run['memory'] / 1e9:.2f} GB",
        ]
        for what, run in table["runs"].items()
    ]
    text = (
        "The starter, each side as it comes: ours reads, checks and journals the file, in the number type that suits"
        " the processor, with the starter's own steps and samplers; diffusers' pipeline gets the same sentences, eight"
        " at a time, in float32, with its own steps.\n"
    )
    head = [f"{table['lines']} lines", "seconds", "pictures an hour", "memory"]
    return f"\n### A prompt file\n\n{text}\n{_table(head, rows)}"


def out_of_the_box(tables: Figures) -> str:
    """Ours in bf16 beside diffusers in float32: what both do when nobody chooses or repairs anything."""
    ours, theirs = tables.get("karlo bf16"), tables.get("karlo fp32")
    if ours is None or theirs is None:
        return ""
    parts = {"text", "prior", "decoder", "upsampler"}
    if set(ours["stages"]) != parts or set(theirs["stages"]) != parts:
        return ""
    fast = sum(figures.run_seconds(stage, "ours") for stage in ours["stages"].values())
    slow = sum(figures.run_seconds(stage, "diffusers") for stage in theirs["stages"].values())
    return (
        "\nOurs in bf16 beside diffusers in float32, which is all that its Karlo knows on a CPU as it comes, projected:"
        f" {_seconds(fast)} and {_seconds(slow)} seconds, **{slow / fast:.2f}** times as long.\n"
    )


TABLES: dict[str, Callable[[Figures], str]] = {
    "startup": startup,
    "starter": starter,
    "prompts": prompts,
    "stages": stages,
    "kernels": kernels,
    "levers": levers,
    "samplers": samplers,
    "saving": saving,
    "int8": int8,
    "server": server,
    "scale": scale,
    "finished": finished,
}
"""What makes a text of each kind of table, in the order of the page."""


def _seconds(seconds: float) -> str:
    """With three digits, however long it took."""
    return f"{seconds:.0f}" if seconds >= 100 else f"{seconds:.3g}"


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def machines(folder: Path) -> dict[str, Figures]:
    """What was measured, by the name of the machine."""
    return {file.stem: json.loads(file.read_text(encoding="utf-8")) for file in folder.glob("*.json")}


if __name__ == "__main__":
    PAGE.write_text(page(machines(FILES)), encoding="utf-8")
