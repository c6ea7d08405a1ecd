"""`dalle train`: a model from pictures of your own; the starter from nothing, and what it is worth."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dallecli.cli import options
from dallecli.cli.bars import Bars
from dallecli.cli.folding import folded
from dallecli.cli.help import SectionedCommand
from dallecli.cli.train_stages import COMMANDS

if TYPE_CHECKING:
    from dallecli.training.world.starter import Workshop

train = typer.Typer(
    rich_markup_mode=None, help="Train on your own pictures; train the starter, and measure it.", no_args_is_help=True
)
for _name, _command in COMMANDS.items():
    train.command(_name, cls=SectionedCommand)(_command)

RUN, MEASURE = "Run", "Measure"

PresetOption = Annotated[
    str,
    typer.Option("--preset", metavar="NAME", help="cpu (16 px base), gpu (64 px base) or tiny.", rich_help_panel=RUN),
]
StateOption = Annotated[
    Path | None,
    typer.Option(
        "--state", metavar="DIR", help="Where runs live and resume; the cache if not given.", rich_help_panel=RUN
    ),
]
StageOption = Annotated[
    list[str] | None,
    typer.Option("--stage", metavar="NAME", help="Train this stage only; repeatable.", rich_help_panel=RUN),
]
HoursOption = Annotated[
    float | None,
    typer.Option("--hours", metavar="H", help="Training time of all stages together.", rich_help_panel=RUN),
]
ThreadsOption = Annotated[
    int | None, typer.Option("--threads", metavar="N", help="CPU threads; all if not given.", rich_help_panel=RUN)
]
OriginOption = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="NAME|DIR",
        help="Go on from this model's weights where no training state is left.",
        rich_help_panel=RUN,
    ),
]
ExportOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Write the trained model folder here.", rich_help_panel=RUN),
]


@train.command(cls=SectionedCommand)
def starter(
    preset: PresetOption = "cpu",
    stage: StageOption = None,
    hours: HoursOption = None,
    origin: OriginOption = None,
    out: ExportOption = None,
    state: StateOption = None,
    threads: ThreadsOption = None,
    device: options.Device = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train the starter's networks: CLIP, prior, decoder, upsamplers and the judge, one after the other.

    A run continues where it stopped, even after a kill. With more --hours than before it goes on.

    \b
    Examples:
      dalle train starter --out my-starter
      dalle train starter --stage decoder --hours 8
      dalle train starter --from starter --stage upsampler --hours 2 --out my-starter
      dalle generate "a blue dog" --model ./my-starter
    """
    import torch

    from dallecli.cli.display import emit_line
    from dallecli.errors import BadSetting
    from dallecli.placement import decide
    from dallecli.training.machine import Machine, arithmetic
    from dallecli.training.preset_file import load_preset
    from dallecli.training.world.starter import Workshop

    plan = load_preset(preset)
    for name in stage or ():
        if name not in plan.runs:
            raise BadSetting(f"there is no stage {name!r}", hint=f"choose from {', '.join(plan.runs)}")
    if hours is not None and not hours > 0:
        raise BadSetting(f"--hours is {hours}", hint="give a number above 0")
    if threads is not None and threads < 1:
        raise BadSetting(f"--threads is {threads}", hint="give a number above 0")
    placement = decide(device, None)
    autocast = None if placement.dtype == torch.float32 else torch.bfloat16
    machine = Machine(placement.device, autocast)
    workshop = Workshop(plan, (state or _cache()) / preset, machine, origin)
    chosen = [name for name in plan.runs if name in (stage or plan.runs)]
    workshop.check_origin(chosen if out is None else plan.runs)
    whole = sum(plan.runs[name].seconds for name in chosen)
    with arithmetic(threads), Bars(quiet=quiet) as bars:
        for name in chosen:
            seconds = plan.runs[name].seconds * (1 if hours is None else hours * 3600 / whole)
            if origin is not None:
                bars.note(_start(workshop, name, origin))
            reason = workshop.train_stage(name, seconds, bars.show)
            if reason is not None:
                bars.note(f"{name} is left as it is: {reason}")
    if out is not None:
        workshop.export(out)
        emit_line(str(out))


@train.command(cls=SectionedCommand)
@folded
def evaluate(
    model: options.Model = "starter",
    pictures: Annotated[
        int, typer.Option("--num", "-n", metavar="N", help="Prompts of each kind.", rich_help_panel=MEASURE)
    ] = 96,
    seed: Annotated[
        int, typer.Option("--seed", "-s", metavar="N", help="Seed of the first picture.", rich_help_panel=MEASURE)
    ] = 0,
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="NAME", help="Prompts of this kind only; repeatable.", rich_help_panel=MEASURE),
    ] = None,
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write the pictures here.", rich_help_panel=MEASURE)
    ] = None,
    preset: PresetOption = "cpu",
    state: StateOption = None,
    device: options.Device = None,
    *,
    dials: options.ChainDials,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Let the independent judge say how often a model paints what was asked.

    The judge is the one trained under --state (dalle train starter --stage judge); its own accuracy on drawn scenes
    that it has never seen stands beside. Pictures are judged at 64 px.

    \b
    Examples:
      dalle train evaluate
      dalle train evaluate --model ./my-starter -n 200 --json
      dalle train evaluate --kind pair --guidance 4 --steps 15
    """
    from dallecli.cli.display import emit_json, emit_rows
    from dallecli.errors import BadSetting
    from dallecli.placement import decide
    from dallecli.tasks.generate import Generate
    from dallecli.tasks.stages import Dials
    from dallecli.training.machine import Machine
    from dallecli.training.preset_file import load_preset
    from dallecli.training.world.evaluate import KINDS
    from dallecli.training.world.evaluate import evaluate as measure
    from dallecli.training.world.starter import Workshop

    known = [one.name for one in KINDS]
    for name in kind if kind is not None else ():
        if name not in known:
            raise BadSetting(f"there is no kind {name!r}", hint=f"choose from {', '.join(known)}")
    if pictures < 1:
        raise BadSetting(f"--num is {pictures}", hint="give a number above 0")
    ask = Generate(
        prompt="a judged one",
        model=model,
        seed=seed,
        prior=Dials(steps=dials.prior.prior_steps, guidance=dials.prior.prior_guidance),
        decoder=Dials(sampler=dials.painter.sampler, steps=dials.painter.steps, guidance=dials.painter.guidance),
        upsampler=Dials(steps=dials.painter.upsampler_steps),
        prior_candidates=dials.prior.prior_candidates,
        effort=options.effort(dials.effort.fast),
        device=device,
    )
    workshop = Workshop(load_preset(preset), (state or _cache()) / preset, Machine(decide(device, None).device))
    with Bars(quiet=quiet) as bars:
        figures = measure(workshop, ask, count=pictures, kinds=kind, out=out, watch=bars.count)
    if json:
        emit_json(figures)
    else:
        emit_rows([(name, f"{value:.3f}") for name, value in figures.items()])


def _start(workshop: "Workshop", name: str, origin: str) -> str:
    """Say what the training of a stage starts from."""
    if workshop.chain.has_state(name):
        return f"{name} goes on from its own training state, not from {origin}"
    if not workshop.chain.stages[name].configs:
        return f"{name} is not part of a model: it starts from nothing"
    return f"{name} starts from {origin}"


def _cache() -> Path:
    from platformdirs import user_cache_path

    return user_cache_path("dalle-train")
