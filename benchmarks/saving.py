"""What the dials that leave out work save: `python benchmarks/saving.py`.

The seconds of a step of a large network of random weights, which cost the same: with and without guidance, of the whole
network and of its uppermost level, in turns. From these follows what a run takes with each dial, by the steps that it
really takes. What the dials do to pictures is measured on the starter (`benchmarks/sampling.py`). `--dtype` is the type
in which networks compute, `--rounds N` how often each step is measured (3), `--only NAME` measures one network
(`starter` is small, and among no others), and `--json FILE` keeps the figures. Needs 9 GB of memory in float32.
"""

import json
import statistics
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import measuring
import torch
from figures import times_as_fast
from torch import Tensor

from dallecli.devices import native_bf16
from dallecli.diffusion.noise import Noise
from dallecli.diffusion.samplers import SAMPLERS
from dallecli.diffusion.schedule import Schedule
from dallecli.filling import fill_stages
from dallecli.nets.conditions import Context, Place, Time
from dallecli.nets.deep_features import DeepFeatures
from dallecli.nets.layers import channels_last
from dallecli.nets.prepacked import can_prepack, prepack
from dallecli.nets.unet import UNet, UNetConfig
from dallecli.pipelines.graphs import Graphs
from dallecli.pipelines.stage import Diffusion, Nets, Run
from dallecli.size import Size
from dallecli.tasks.generate import Generate
from dallecli.tasks.stages import Dials, DiffusionSettings
from dallecli.weights.registry import find, locate

CPU = torch.device("cpu")
KEYS = Path(__file__).parents[1] / "tests" / "nets" / "published_keys"

Kind = tuple[bool, bool]
"""Of a step: whether it is guided, and whether it computes the whole network."""
KINDS = {
    (True, True): "guided",
    (True, False): "guided, uppermost level",
    (False, True): "not guided",
    (False, False): "not guided, uppermost level",
}

AS_IT_IS = Generate(prompt="a cat", model="karlo", seed=0)
RUNS = {
    "as it is": AS_IT_IS,
    "--guidance-stop 0.5": replace(AS_IT_IS, decoder=Dials(guidance_stop=0.5)),
    "--reuse 2": replace(AS_IT_IS, decoder=Dials(reuse=2)),
    "--reuse 3": replace(AS_IT_IS, decoder=Dials(reuse=3)),
    "--reuse 2 --guidance-stop 0.5": replace(AS_IT_IS, decoder=Dials(reuse=2, guidance_stop=0.5)),
    "--upsampler-reuse 2": replace(AS_IT_IS, upsampler=Dials(reuse=2)),
    "--fast": replace(AS_IT_IS, effort="fast"),
}


WITHOUT_UPSAMPLER = [(run, asked) for run, asked in RUNS.items() if not asked.upsampler.stated]


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """A network. model, stage: whose it is. keys: the list of its keys, or None. tokens: of its context."""

    model: str
    stage: str
    keys: str | None
    tokens: int


NETWORKS = {
    "Karlo's decoder": Measured(model="karlo", stage="decoder", keys="decoder", tokens=81),
    "Karlo's upsampler": Measured(model="karlo", stage="upsampler", keys="super_res_first", tokens=0),
    "Kandinsky's decoder": Measured(model="kandinsky", stage="decoder", keys="kandinsky_unet", tokens=0),
    "starter": Measured(model="starter", stage="decoder", keys=None, tokens=28),
}
SMALL = "starter"


def step(net: UNet, of: Measured, dtype: torch.dtype, kind: Kind) -> Callable[[], object]:
    """A step of a run that has begun."""
    config, (guided, whole) = net.config, kind
    several = 2 if guided else 1
    x = torch.randn(several, config.in_channels, config.side, config.side, dtype=dtype)
    condition: Tensor | None = None
    context: Context | None = None
    if config.sees_embeddings:
        assert config.encoder_hid_dim is not None
        told = net.condition(torch.randn(several, config.encoder_hid_dim, dtype=dtype))
        condition, context = told.time, Context(told.context)
    elif config.cross_attention_dim is not None:
        condition = torch.randn(several, config.time_dim, dtype=dtype)
        context = Context(torch.randn(several, of.tokens, config.cross_attention_dim, dtype=dtype))
    time, deep = Time(net.times([500], condition), 0), DeepFeatures()
    net.denoise(x, time, context, deep)
    deep.fresh = whole
    return lambda: net.denoise(x, time, context, deep)


def seconds_of(steps: dict[Kind, Callable[[], object]], rounds: int) -> dict[str, list[float]]:
    """The seconds of every kind of step, each round in the opposite order of the last.

    One of another number of samples than the last is taken once before: it orders the weights anew, as few of a run do.
    """
    taken: dict[str, list[float]] = {KINDS[kind]: [] for kind in steps}
    before: bool | None = None
    for round_ in range(rounds):
        for kind in list(steps)[:: 1 if round_ % 2 == 0 else -1]:
            if kind[0] != before:
                steps[kind[0], True]()
                before = kind[0]
            taken[KINDS[kind]].append(measuring.seconds_of(steps[kind]))
    return taken


def config_of(of: Measured) -> dict[str, Any]:
    """The config of a network."""
    if of.keys is None:
        return locate(find(of.model)).config(of.stage)
    config: dict[str, Any] = json.loads((KEYS / f"{of.keys}.json").read_text())["config"]
    return config


def network(of: Measured, dtype: torch.dtype) -> UNet:
    """A network as it runs, of random weights."""
    net = UNet(UNetConfig.from_config(config_of(of))).to(dtype).requires_grad_(False).eval()
    channels_last(net)
    if can_prepack():
        prepack(net)
    return net


def steps_of(run: Generate, of: Measured) -> Counter[Kind]:
    """The steps that a run takes of a stage, by kind; one that another network takes is like those of this one."""
    spec = find(of.model)
    settings = fill_stages(replace(run, model=of.model), spec, Size.square(spec.sizes[-1]))[of.stage]
    assert isinstance(settings, DiffusionSettings)
    found: Counter[Kind] = Counter()

    def nets(bound: Run) -> Nets:
        def counted(deep: DeepFeatures | None, x: Tensor, place: Place) -> Tensor:
            found[len(x) == 2, deep is None or deep.fresh] += 1
            return x

        return partial(counted, bound.deep), partial(counted, None) if of.stage == "upsampler" else None

    schedule = Schedule.from_config({})
    diffusion = Diffusion(stage=of.stage, shape=(3, 4, 4), schedule=schedule, guided=of.stage == "decoder", nets=nets)
    steps = diffusion.steps(settings)
    denoise = diffusion.denoiser(settings, torch.float32, steps, torch.ones(1, dtype=torch.bool), Graphs(CPU))
    SAMPLERS[settings.sampler](denoise, torch.zeros(1, 3, 4, 4), steps, Noise([0]), lambda done: None)
    return found


def main() -> None:
    """Measure and print."""
    parser = measuring.parser(__doc__)
    parser.add_argument("--dtype", choices=("bf16", "fp32"), default="bf16")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", choices=tuple(NETWORKS))
    parser.add_argument("--json", type=Path)
    options = parser.parse_args()
    if options.dtype == "bf16" and native_bf16() is None:
        parser.error("this processor has no bf16 arithmetic; take --dtype fp32")
    names = [options.only] if options.only is not None else [name for name in NETWORKS if name != SMALL]
    found: dict[str, Any] = {
        "table": "saving",
        "machine": measuring.machine(CPU),
        "command": measuring.command_line("json"),
        "dtype": options.dtype,
        "rounds": options.rounds,
        "networks": {},
    }
    dtype = measuring.DTYPES[options.dtype]
    for name in names:
        of = NETWORKS[name]
        # An upsampler's dials are for models that have one.
        possible = RUNS.items() if any(s.name == "upsampler" for s in find(of.model).declared) else WITHOUT_UPSAMPLER
        runs = {run: steps_of(asked, of) for run, asked in possible}
        kinds = [kind for kind in KINDS if any(kind in steps for steps in runs.values())]
        with torch.inference_mode():
            net = network(of, dtype)
            taken = seconds_of({kind: step(net, of, dtype, kind) for kind in kinds}, options.rounds)
            del net
        # A run that takes the steps of another one has no row of its own.
        rows = {
            run: {KINDS[kind]: count for kind, count in steps.items()}
            for run, steps in runs.items()
            if run == "as it is" or steps != runs["as it is"]
        }
        found["networks"][name] = {"seconds": taken, "runs": rows}
        for kind, seconds in taken.items():
            print(f"{name}, a step, {kind}: {statistics.median(seconds):.3g} s", flush=True)
        for run, steps in rows.items():
            faster = times_as_fast(found["networks"][name], run)
            print(f"{name}, {run}: {sum(steps.values())} steps, {faster:.2f} times as fast", flush=True)
    measuring.write(options.json, f"saving {options.dtype}", found)


if __name__ == "__main__":
    main()
