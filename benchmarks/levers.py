"""What each thing that was done for speed on a CPU is worth: `python benchmarks/levers.py`.

Each row is of one lever (docs/decisions/speed.md): the same work without it and with it, in one process, in turns, all
else equal. The starter's weights are its own, all others are random, which costs the same. Work of less than a tenth of
a second is repeated that long, and a row has the seconds of doing it once. Rows of prepacked layers are left out where
this torch or this processor cannot. `--dtype` is the type in which networks compute (bf16, which the processor must
know), `--rounds N` how often each is measured (7), `--compile` adds a lever that is not pulled, torch's compiler, which
takes a minute and needs a compiler of C++, and `--json FILE` keeps the figures.
"""

import copy
import statistics
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import measuring
import torch
import torch.nn.functional as F
from figures import ratio
from torch import Tensor, nn

from dallecli.devices import native_bf16
from dallecli.nets.autoencoder import SpatialNorm
from dallecli.nets.conditions import Context, Time
from dallecli.nets.layers import channels_last
from dallecli.nets.prepacked import can_prepack, prepack
from dallecli.nets.prior import PriorConfig, PriorTransformer
from dallecli.nets.text_proj import TextProjConfig
from dallecli.nets.unet import UNet, UNetConfig
from dallecli.studio.engine import LocalEngine
from dallecli.tasks.generate import Generate
from dallecli.weights.load import load_net
from dallecli.weights.registry import find, locate

CPU = torch.device("cpu")
LONG = 0.1
"""Seconds from which on work is timed by itself."""
GUIDED = 2
"""A picture with guidance is one pass of two."""
PRIOR_LAYERS = 4
"""Of Karlo's 20, which are all the same."""
PICTURES = 8

Work = Callable[[], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class Lever:
    """The same work without a lever and with it."""

    name: str
    without: Work
    pulled: Work


def levers(dtype: torch.dtype, kind: str, compiled: bool) -> Iterator[Lever]:
    """All of them, each made when its turn comes."""
    if compiled:
        yield decoder_compiled(dtype)
    with ExitStack() as processes:
        yield freed_memory_kept(kind, processes)
    yield text_read_once(dtype)
    yield conditions_made_once(dtype)
    if can_prepack():
        yield decoder_prepacked(dtype)
        yield convolution_prepacked(dtype)
    yield norm_broadcast(dtype)
    yield pictures_at_once(kind)
    for wider in (1, 2, 4):
        yield steps_at_once(dtype, wider)


def text_read_once(dtype: torch.dtype) -> Lever:
    """A step of a prior of Karlo's widths: all tokens, or the three after a text that was read."""
    config = PriorConfig(num_layers=PRIOR_LAYERS)
    net = PriorTransformer(config).to(dtype).eval()
    x, embedding = torch.randn(2, GUIDED, config.embedding_dim, dtype=dtype)
    hidden = torch.randn(GUIDED, config.num_embeddings, config.embedding_dim, dtype=dtype)
    mask = torch.ones(GUIDED, config.num_embeddings, dtype=torch.bool)
    t = torch.tensor(500)
    text, rows = net.read(embedding, hidden, mask), torch.arange(GUIDED)
    return Lever(
        name=f"the prior's text read once: a step of {PRIOR_LAYERS} layers of Karlo's widths",
        without=lambda: net(x, t, embedding, hidden, mask),
        pulled=lambda: net.answer(x, t, text, rows),
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What the starter's decoder is given in a step: noised images, and random numbers in place of what it is told."""

    x: Tensor
    context: Tensor
    condition: Tensor
    mask: Tensor

    def step(self, net: UNet) -> Work:
        """A step of a run that has begun."""
        time, context = Time(net.times([500], self.condition), 0), Context(self.context, self.mask)
        return lambda: net.denoise(self.x, time, context)


def starters_decoder(dtype: torch.dtype) -> tuple[UNet, Told]:
    """The network, with layers of torch's own, and what it is given."""
    folder = locate(find("starter"))
    config = UNetConfig.from_config(folder.config("decoder"))
    seen = TextProjConfig.from_config(folder.config("text_proj"))
    text = PriorConfig.from_config(folder.config("prior")).num_embeddings
    net = channels_last(load_net(lambda: UNet(config), folder.weights_file("decoder"), dtype, CPU))
    tokens = seen.clip_extra_context_tokens + text
    told = Told(
        x=torch.randn(GUIDED, config.in_channels, config.side, config.side, dtype=dtype),
        context=torch.randn(GUIDED, tokens, seen.cross_attention_dim, dtype=dtype),
        condition=torch.randn(GUIDED, config.time_dim, dtype=dtype),
        mask=torch.ones(GUIDED, tokens, dtype=torch.bool),
    )
    return net, told


def conditions_made_once(dtype: torch.dtype) -> Lever:
    """A step of the starter's decoder that makes of its time and context what its layers need, or finds it made."""
    net, told = starters_decoder(dtype)
    t = torch.tensor(500)
    return Lever(
        name="times and context made ready once: a step of the starter's decoder",
        without=lambda: net(told.x, t, told.context, told.condition, told.mask),
        pulled=told.step(net),
    )


def decoder_prepacked(dtype: torch.dtype) -> Lever:
    """A step of the starter's decoder with layers of torch's own, or with weights in oneDNN's order."""
    net, told = starters_decoder(dtype)
    packed = copy.deepcopy(net)
    prepack(packed)
    name = "layers prepacked: a step of the starter's decoder"
    return Lever(name=name, without=told.step(net), pulled=told.step(packed))


def convolution_prepacked(dtype: torch.dtype) -> Lever:
    """A convolution at the bottom of Karlo's decoder."""
    plain = channels_last(nn.ModuleList([nn.Conv2d(1280, 1280, 3, padding=1)]).to(dtype))
    packed = copy.deepcopy(plain)
    prepack(packed)
    x = torch.randn(GUIDED, 1280, 8, 8, dtype=dtype).contiguous(memory_format=torch.channels_last)
    name = f"layers prepacked: a convolution of {GUIDED} x 1280 x 8 x 8"
    return Lever(name=name, without=lambda: plain[0](x), pulled=lambda: packed[0](x))


def decoder_compiled(dtype: torch.dtype) -> Lever:
    """A step of the starter's decoder as it runs, or compiled by torch, weights included."""
    import torch._inductor.config

    torch._inductor.config.freezing = True
    net, told = starters_decoder(dtype)
    packed = copy.deepcopy(net)
    if can_prepack():
        prepack(packed)
    plain = told.step(net)
    plain()  # makes its times and its context ready, which a step has no part in
    name = "compiled by torch, which is left out: a step of the starter's decoder"
    return Lever(name=name, without=told.step(packed), pulled=torch.compile(plain))


BLOCK = """
import sys, torch
from dallecli.nets.conditions import Time, Times
from dallecli.nets.layers import channels_last
from dallecli.nets.prepacked import can_prepack, prepack
from dallecli.nets.resnet import ResnetBlock
from dallecli.pipelines.allocator import keep_freed
dtype = {dtype}
net = channels_last(torch.nn.ModuleList([ResnetBlock(320, 320, 8, 32, 1e-5, False)]).to(dtype))
if can_prepack():
    prepack(net)
x = torch.randn(1, 320, 256, 256, dtype=dtype).contiguous(memory_format=torch.channels_last)
time = Time(Times(torch.randn(1, 1, 8, dtype=dtype)), 0)
with torch.inference_mode():
    net[0](x, time)
    if {keep}:
        keep_freed()
    for _ in sys.stdin:
        net[0](x, time)
        print(flush=True)
"""
"""A process that runs the largest residual block of Karlo's upsampler, once for each line that it is sent."""


def freed_memory_kept(kind: str, processes: ExitStack) -> Lever:
    """The block with memory that is handed back and forth, or kept, each in a process, whose memory it is."""

    def block(keep: bool) -> Work:
        code = BLOCK.format(dtype=measuring.DTYPES[kind], keep=keep)
        process = processes.enter_context(
            subprocess.Popen(
                [sys.executable, "-c", code],
                env=measuring.environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
        processes.callback(process.kill)

        def run() -> None:
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write("\n")
            process.stdin.flush()
            if process.stdout.readline() == "":
                raise RuntimeError(f"the process of a block ended with {process.wait()}")

        return run

    name = "freed memory kept: a residual block of 1 x 320 x 256 x 256"
    return Lever(name=name, without=block(keep=False), pulled=block(keep=True))


def norm_broadcast(dtype: torch.dtype) -> Lever:
    """A spatial norm of MOVQ, at 256 px: as it is published, or ours."""
    norm = channels_last(SpatialNorm(128, 4).to(dtype))
    x = torch.randn(1, 128, 256, 256, dtype=dtype).contiguous(memory_format=torch.channels_last)
    latent = torch.randn(1, 4, 32, 32, dtype=dtype)

    def published() -> Tensor:
        enlarged = F.interpolate(latent, size=x.shape[-2:], mode="nearest")
        out: Tensor = norm.norm_layer(x) * norm.conv_y(enlarged) + norm.conv_b(enlarged)
        return out

    name = "a spatial norm that broadcasts: MOVQ's, of 1 x 128 x 256 x 256"
    return Lever(name=name, without=published, pulled=lambda: norm(x, latent))


def pictures_at_once(kind: str) -> Lever:
    """Pictures of the starter one by one, or all at once."""
    ask = Generate(prompt="a teddy bear riding a skateboard", model="starter", seed=1, size=64, count=PICTURES)

    def paint(batch: int) -> Work:
        engine = LocalEngine(batch=batch)
        recipe = engine.resolve(replace(ask, device="cpu", dtype=kind))
        return lambda: list(engine.paint(recipe, lambda _: None))

    name = f"`--batch {PICTURES}`: {PICTURES} pictures of the starter, 64 px"
    return Lever(name=name, without=paint(1), pulled=paint(PICTURES))


def steps_at_once(dtype: torch.dtype, wider: int) -> Lever:
    """A step of a decoder at 64 px for pictures one by one, or for all at once: where a model stops being small."""
    json = locate(find("starter")).config("decoder")
    channels = [wider * count for count in json["block_out_channels"]]
    net = UNet(UNetConfig.from_config(json | {"block_out_channels": channels, "sample_size": 64})).to(dtype).eval()
    numbers = sum(parameter.numel() for parameter in net.parameters())
    channels_last(net)
    if can_prepack():
        prepack(net)

    def step(pictures: int) -> Work:
        several = GUIDED * pictures
        told = Told(
            x=torch.randn(several, net.config.in_channels, 64, 64, dtype=dtype),
            context=torch.randn(several, 28, json["cross_attention_dim"], dtype=dtype),
            condition=torch.randn(several, net.config.time_dim, dtype=dtype),
            mask=torch.ones(several, 28, dtype=torch.bool),
        )
        return told.step(net)

    name = f"{PICTURES} pictures at once: a step of a decoder of {numbers / 1e6:.0f} million numbers, 64 px"
    return Lever(name=name, without=repeated(step(1), PICTURES), pulled=step(PICTURES))


def measure(lever: Lever, rounds: int) -> dict[str, list[float]]:
    """Seconds of the work, by round."""
    cases, times = {"without": lever.without, "with": lever.pulled}, {}
    for name, work in cases.items():
        work()  # what is done once is not a step's
        times[name] = max(1, round(LONG / measuring.seconds_of(work)))
    taken = measuring.alternate({name: repeated(work, times[name]) for name, work in cases.items()}, rounds)
    return {name: [seconds / times[name] for seconds in taken[name]] for name in cases}


def repeated(work: Work, times: int) -> Work:
    """The work, so many times."""

    def go() -> None:
        for _ in range(times):
            work()

    return go


def main() -> None:
    """Measure and print."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--dtype", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.dtype == "bf16" and native_bf16() is None:
        parser.error("this processor has no bf16 arithmetic; take --dtype fp32")
    found: dict[str, Any] = {
        "table": "levers",
        "machine": measuring.machine(CPU),
        "command": measuring.command_line("json"),
        "dtype": options.dtype,
        "rounds": options.rounds,
        "levers": {},
    }
    print("| lever | without | with | times |\n| --- | --- | --- | --- |", flush=True)
    with torch.inference_mode():
        for lever in levers(measuring.DTYPES[options.dtype], options.dtype, options.compile):
            taken = measure(lever, options.rounds)
            found["levers"][lever.name] = taken
            seconds = (f"{statistics.median(taken[side]):.3g} s" for side in ("without", "with"))
            print(f"| {lever.name} | {' | '.join(seconds)} | {ratio(taken, 'without', 'with'):.2f} |", flush=True)
    measuring.write(options.json, f"levers {options.dtype}", found)


if __name__ == "__main__":
    main()
