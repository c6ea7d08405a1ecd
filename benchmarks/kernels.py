"""Where the time of a picture goes, by kind of kernel: `python benchmarks/kernels.py karlo`, `kandinsky` or `starter`.

Ours paints one picture that does not count, one that is timed, and the same once more under torch's profiler, which
slows Python down but not the kernels. What ran is grouped by name (see `KINDS`): on a GPU kernels and transfers, on a
CPU operators, each without those that it calls. On a GPU it also says in what share of the time the device did nothing.
Beside the seconds stands the floor: the work of all networks, counted on diffusers' as in `stages.py`, at the best
speed that the machine showed in this run. Karlo and Kandinsky have random weights, in the folder of `stages.py`;
Kandinsky's has no prior, so its picture begins with an embedding.

--folder FOLDER          where the random weights are, or are written to (not for the starter, which has its own)
--dtype bf16|fp32|fp16   the type in which networks compute (bf16)
--device cuda            where it paints (cpu)
--batch N                pictures at once (1)
--json FILE              keep the figures, which `report.py` makes a page of
"""

import argparse
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import figures
import measuring
import torch
from peer import NETWORKS, Make, Network, Step
from random_folders import find_or_write
from sides import SPACE, STAGES, WHOLE, Case, Go, called, ours
from stages import calls, default_folder
from torch.profiler import ProfilerActivity, profile

from dallecli.diffusion.noise import Noise
from dallecli.pipelines.embedding import Embedding
from dallecli.pipelines.kandinsky import open_kandinsky
from dallecli.pipelines.parts import Parts
from dallecli.pipelines.settings import PaintSettings
from dallecli.size import Size
from dallecli.weights.folder import Folder
from dallecli.weights.registry import find, locate

MODELS = (*STAGES, "starter")

KINDS = (
    # Compilers name a fused kernel after all that it does.
    ("elementwise and reductions", ("triton_poi", "triton_red", "triton_per")),
    # cuDNN's changes of layout, which have its name as its convolutions do.
    ("copies", ("nchwtonhwc", "nhwctonchw", "converttensor")),
    # Before convolutions and matrix products: kernels of attention are made with cuDNN and CUTLASS too.
    ("attention", ("attention", "flash", "fmha", "sdpa", "softmax")),
    ("norms", ("group_norm", "groupnorm", "layer_norm", "layernorm", "rowwisemoments", "computefusedparams")),
    # Before matrix products: an implicit GEMM is a convolution, and so is every GEMM of cuDNN's.
    ("convolutions", ("convol", "conv2d", "conv_depthwise", "fprop", "dgrad", "implicit_gemm", "winograd", "cudnn")),
    ("matrix products", ("gemm", "gemv", "cutlass", "nvjet", "splitk", "addmm", "aten::mm", "bmm", "aten::matmul")),
    ("matrix products", ("linear_pointwise", "mkldnn_linear", "aten::linear", "aten::einsum")),
    # Before elementwise: most copies are elementwise kernels that do nothing else.
    ("copies", ("copy", "memcpy", "memset", "aten::cat", "aten::stack", "aten::clone", "transpose", "permute")),
    ("copies", ("reorder", "gather", "aten::index", "index_elementwise", "indexselect", "embedding", "constant_pad")),
    ("elementwise and reductions", ("elementwise", "reduce_kernel", "upsample", "pool", "aten::add", "aten::mul")),
    ("elementwise and reductions", ("aten::sub", "aten::rsub", "aten::div", "aten::silu", "aten::gelu", "aten::sum")),
    ("elementwise and reductions", ("aten::clamp", "aten::abs", "aten::normal_", "aten::isfinite", "aten::fill_")),
)
"""Kinds of kernels and fragments of their names, in small letters: CUDA's and those of a CPU's operators. The first
line that matches counts."""

OTHERS = "others"
"""The kind of what is in no line of `KINDS`."""

NAMED = 5
"""How many of the others are printed by name."""

LONGEST_NAME = 100
"""Of a name that is printed: a kernel's ends in hundreds of letters of template arguments."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Ran:
    """One thing that ran on the device: a kernel, a transfer or an operator. `start`, `end` and `seconds` are in
    seconds; those of an operator are without the operators that it called, so that none counts twice."""

    name: str
    start: float
    end: float
    seconds: float


def kind_of(name: str) -> str:
    """The kind of a kernel or operator, by its name."""
    small = name.lower()
    return next((kind for kind, fragments in KINDS if any(part in small for part in fragments)), OTHERS)


def totals(named: Iterable[tuple[str, Ran]]) -> dict[str, dict[str, float]]:
    """Seconds and launches under each name, the longest first."""
    sums: dict[str, dict[str, float]] = {}
    for name, ran in named:
        row = sums.setdefault(name, {"seconds": 0.0, "launches": 0})
        row["seconds"] += ran.seconds
        row["launches"] += 1
    return dict(sorted(sums.items(), key=lambda item: -item[1]["seconds"]))


def busy_seconds(rans: Iterable[Ran]) -> float:
    """How long at least one of them ran: the length of the union of their intervals."""
    busy, until = 0.0, float("-inf")
    for ran in sorted(rans, key=lambda ran: ran.start):
        busy += max(0.0, ran.end - max(ran.start, until))
        until = max(until, ran.end)
    return busy


def profiled(go: Go, device: torch.device) -> tuple[float, list[Ran]]:
    """Paint once under the profiler: the seconds that it took, and what ran on the device.

    Raises RuntimeError if the profiler saw nothing of it. One process can do this once: after a first session, CUPTI
    may be silent.
    """
    on_cpu = device.type == "cpu"
    # Operators are recorded on a GPU too: kernels alone are not always delivered.
    with profile(activities=[ProfilerActivity.CPU, *([] if on_cpu else [ProfilerActivity.CUDA])]) as profiler:
        seconds = go(1).first
    rans = list(what_ran(profiler.events() or (), on_cpu))
    if not rans:
        raise RuntimeError(f"torch's profiler saw nothing run on {device}")
    return seconds, rans


def what_ran(events: Iterable[Any], on_cpu: bool) -> Iterator[Ran]:
    """The profiler's events of the device, from microseconds."""
    kind = "CPU" if on_cpu else "CUDA"
    for event in events:
        if event.device_type.name == kind and not event.is_user_annotation:
            start, end = event.time_range.start, event.time_range.end
            own = event.self_cpu_time_total if on_cpu else end - start
            yield Ran(name=event.name, start=start / 1e6, end=end / 1e6, seconds=own / 1e6)


def painter(case: Case) -> Go:
    """What paints all pictures once: from words, or Kandinsky's from embeddings."""
    if case.model != "kandinsky":
        return ours(case)
    folder = Folder(case.folder)
    model = open_kandinsky(Parts(folder, case.device, case.dtype, set(folder.networks)), SPACE).parts
    vector, away = torch.randn(2, case.batch, folder.width())
    embedding = Embedding(vector=vector, space=SPACE, away=away)
    words: Any = None  # its decoder reads none
    stages, size = {"decoder": case.settings("decoder")}, Size.square(folder.sizes()[0])
    noise = range(case.batch)
    return called(
        lambda: model.painter.decode(
            embedding, words, Noise(noise), PaintSettings(dials=stages, size=size), lambda *_: None
        )
    )


def networks(model: str) -> dict[str, Network]:
    """diffusers' network of each stage of a run; the starter's are Karlo's, and one more upsampler."""
    if model != "starter":
        return {stage: NETWORKS[model, stage] for stage in STAGES[model]}
    karlo = networks("karlo")
    decoder = replace(karlo["decoder"], prepare=_starter_decoder)
    return {**karlo, "decoder": decoder, "upsampler_2": replace(karlo["upsampler"], place="super_res_2_first")}


def _starter_decoder(net: Any, count: int, some: Make, ones: Make) -> Step:
    """As Karlo's, with widths and a length of text of its own."""
    folder = locate(find("starter"))
    tokens = folder.config("text_encoder")["max_position_embeddings"]
    n = tokens + folder.config("text_proj")["clip_extra_context_tokens"]
    b, side, t = 2 * count, net.config.sample_size, ones((), dtype=torch.long)
    x, context = some(b, 3, side, side), some(b, n, net.config.cross_attention_dim)
    time, mask = some(b, net.config.time_embedding_dim), ones(b, n, dtype=torch.bool)
    return lambda: net(x, t, context, class_labels=time, attention_mask=mask)


def tflop(case: Case) -> float:
    """The work of all networks of a run."""
    stages = networks(case.model).items()
    return sum(network.tflop(case.folder, case.batch) * calls(case.model, stage) for stage, network in stages)


def read_case() -> tuple[Case, Path | None]:
    """The command line, with the folder found: what is painted, and where the figures go."""
    parser = measuring.parser(__doc__)
    parser.add_argument("model", choices=MODELS)
    parser.add_argument("--folder", type=Path)
    measuring.add_place(parser)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.model == "starter" and options.folder is not None:
        parser.error("the starter has its own folder")
    case = Case(
        model=options.model,
        stage=WHOLE,
        folder=_folder(options),
        device=options.device,
        kind=options.dtype,
        batch=options.batch,
        memory="auto",
    )
    return case, options.json


def _folder(options: argparse.Namespace) -> Path:
    if options.model == "starter":
        return locate(find("starter")).path
    folder = options.folder if options.folder is not None else default_folder(options.model)
    return find_or_write(options.model, folder.resolve(), "bf16")


def measure(case: Case) -> dict[str, Any]:
    """The figures of a picture."""
    go = painter(case)
    go(1)
    before = measuring.peaks(case.dtype, case.device)
    seconds = go(1).first
    under_profiler, rans = profiled(go, case.device)
    after = measuring.peaks(case.dtype, case.device)
    others = ((ran.name[:LONGEST_NAME], ran) for ran in rans if kind_of(ran.name) == OTHERS)
    return {
        "seconds": seconds,
        "profiled": under_profiler,
        "busy": busy_seconds(rans) if case.device.type != "cpu" else None,
        "tflop": tflop(case),
        "peaks": {kind: max(before[kind], after[kind]) for kind in before},
        "kinds": totals((kind_of(ran.name), ran) for ran in rans),
        "others": dict(list(totals(others).items())[:NAMED]),
    }


def print_table(found: Mapping[str, Any]) -> None:
    """All that was measured."""
    total = figures.kernel_seconds(found)
    print("| kind | seconds | share | launches |\n| --- | --- | --- | --- |")
    for kind, row in found["kinds"].items():
        print(f"| {kind} | {row['seconds']:.3f} | {row['seconds'] / total:.1%} | {row['launches']} |")
    print(f"\nin all {total:.3f} s, in a run of {found['profiled']:.3f} s under the profiler")
    print("the largest of the others:")
    for name, row in found["others"].items():
        print(f"  {row['seconds'] * 1e3:.3f} ms, {row['launches']} launches: {name}")
    floor, peak = figures.floor_seconds(found), max(found["peaks"].values())
    print(f"\nwithout the profiler {found['seconds']:.3f} s, {found['seconds'] / floor:.2f} times the floor")
    print(f"the floor: {found['tflop']:.3f} TFLOP at {peak:.3f} TFLOP/s are {floor:.3f} s")
    if found["busy"] is not None:
        print(f"the device did nothing in {figures.idle_share(found):.1%} of the time")


def main() -> None:
    """Measure and print."""
    case, file = read_case()
    found = {
        "table": "kernels",
        "machine": measuring.machine(case.device),
        "command": measuring.command_line("folder", "json"),
        "model": case.model,
        "dtype": case.kind,
        "batch": case.batch,
        **measure(case),
    }
    print_table(found)
    batch = "" if case.batch == 1 else f" x {case.batch}"
    measuring.write(file, f"kernels {case.model} {case.kind}{batch}", found)


if __name__ == "__main__":
    main()
