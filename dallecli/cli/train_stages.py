"""`dalle train clip|prior|decoder|upsampler|all`: networks from captioned pictures of one's own.

The five commands differ in the stages that they train, and in nothing else.
"""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dallecli.cli import options
from dallecli.cli.bars import Bars

if TYPE_CHECKING:
    from dallecli.training.project import Project

WHAT, HOW = "What", "How"

Data = Annotated[
    list[Path],
    typer.Argument(
        metavar="DATA",
        help="Captioned pictures: a folder of NAME.jpg + NAME.txt, one with metadata.jsonl or .csv, or .tar shards.",
    ),
]
Out = Annotated[
    Path,
    typer.Option(
        "--out", metavar="DIR", help="The model folder. One that was begun is gone on with.", rich_help_panel=WHAT
    ),
]
Origin = Annotated[
    str | None,
    typer.Option(
        "--from",
        metavar="NAME|DIR",
        help="Fine-tune this model: its sizes and words, and its parts where none are trained.",
        rich_help_panel=WHAT,
    ),
]
PresetOption = Annotated[
    str | None,
    typer.Option(
        "--preset",
        metavar="NAME|FILE",
        help="tiny, small (if not given), karlo, or a .toml file: sizes, recipes, budgets.",
        rich_help_panel=WHAT,
    ),
]
Set = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="Change a setting of the preset: runs.decoder.batch=64; repeatable.",
        rich_help_panel=WHAT,
    ),
]
MinSide = Annotated[
    int | None,
    typer.Option(
        "--min-side",
        metavar="PX",
        help="Leave smaller pictures out; if not given, those smaller than what the decoder paints.",
        rich_help_panel=WHAT,
    ),
]
Mirror = Annotated[
    bool,
    typer.Option(
        "--mirror",
        help="Learn from every picture's mirror image, too. Not with words such as left and right.",
        rich_help_panel=WHAT,
    ),
]
StrictData = Annotated[
    bool, typer.Option("--strict", help="Stop if anything in the data cannot be used.", rich_help_panel=WHAT)
]
Hours = Annotated[
    float | None,
    typer.Option(
        "--hours", metavar="H", help="Training time of all these stages together, in all.", rich_help_panel=HOW
    ),
]
TrainSteps = Annotated[
    int | None,
    typer.Option(
        "--train-steps", metavar="N", help="Steps of each of these stages, in all; not a time.", rich_help_panel=HOW
    ),
]
Threads = Annotated[
    int | None, typer.Option("--threads", metavar="N", help="CPU threads; all if not given.", rich_help_panel=HOW)
]

_REST: Final = """

    A run continues where it stopped, even where it was killed; with a larger budget it goes on. With several GPUs:
    accelerate launch --multi_gpu -m dallecli train …

    \b
    Examples:
"""

_WHOLE: Final = """Train a whole model on your own pictures.

    CLIP, the prior, the decoder and the upsamplers, one after the other."""
_STAGES: Final = {
    "clip": """Train CLIP on your own pictures.

    It learns what captions and pictures have in common; the prior and the decoder stand on it.""",
    "prior": """Train the prior on your own pictures.

    It learns to tell from a caption the CLIP embedding of its picture.""",
    "decoder": """Train the decoder on your own pictures.

    It learns to paint a small picture of an embedding and a caption.""",
    "upsampler": """Train the upsamplers on your own pictures.

    They learn to paint the details of a picture that is larger.""",
}


def _command(names: tuple[str, ...], what: str, *examples: str) -> Callable[..., None]:
    """A command that trains the stages whose name begins with one of `names`."""

    def train(
        data: Data,
        out: Out,
        origin: Origin = None,
        preset: PresetOption = None,
        changes: Set = None,
        min_side: MinSide = None,
        mirror: Mirror = False,
        strict: StrictData = False,
        hours: Hours = None,
        train_steps: TrainSteps = None,
        threads: Threads = None,
        device: options.Device = None,
        dtype: options.DtypeOption = None,
        quiet: options.Quiet = False,
        debug: options.Debug = False,
    ) -> None:
        import torch

        from dallecli.cli.display import emit_line
        from dallecli.placement import decide
        from dallecli.training.data import look
        from dallecli.training.machine import Machine, arithmetic
        from dallecli.training.project import Project
        from dallecli.training.project_settings import choose_settings
        from dallecli.training.team import join

        _check_numbers(hours, train_steps, threads, min_side, dtype)
        placement = decide(device, dtype)
        team, training_device = join(placement.device)
        settings = choose_settings(out, preset, [] if changes is None else changes, origin)
        autocast = torch.bfloat16 if placement.kind == "bf16" else None
        project = Project(out, settings, Machine(training_device, autocast, team))
        stages = tuple(stage for stage in project.stages if stage.startswith(names))
        project.check_stages(stages)
        budgets = _budgets(project, stages, hours, train_steps)
        listing = look(data, but=out)
        with arithmetic(threads), Bars(quiet=quiet or not team.first) as bars:
            project.begin(listing, project.terms(listing, min_side, mirror), strict=strict, watch=bars.count)
            for line in _about_data(project, strict=strict):
                bars.note(line)
            for stage in stages:
                seconds, steps = budgets[stage]
                reason = project.train_stage(stage, seconds=seconds, steps=steps, watch=bars.show, warn=bars.warn)
                if reason is not None:
                    bars.note(f"{stage} is left as it is: {reason}")
            for line in _about_model(project):
                bars.note(line)
        if team.first:
            emit_line(str(out))

    train.__doc__ = what + _REST + "\n".join(f"      {example}" for example in examples)
    return train


COMMANDS: Final = {
    **{
        name: _command((name,), what, f"dalle train {name} my-pictures --out my-model",
                       f"dalle train {name} my-pictures --out my-model --from starter --hours 2")
        for name, what in _STAGES.items()
    },
    "all": _command(("",), _WHOLE, "dalle train all my-pictures --out my-model --hours 3",
                    'dalle generate "what my captions say" --model ./my-model'),
}  # fmt: skip
"""The commands by name, in the order of the chain."""


def _check_numbers(
    hours: float | None, train_steps: int | None, threads: int | None, min_side: int | None, dtype: str | None
) -> None:
    from dallecli.errors import BadSetting

    numbers = {"--hours": hours, "--train-steps": train_steps, "--threads": threads, "--min-side": min_side}
    for name, value in numbers.items():
        if value is not None and not value > 0:
            raise BadSetting(f"{name} is {value}", hint="give a number above 0")
    if hours is not None and train_steps is not None:
        raise BadSetting("a budget is either a time or a number of steps", hint="give --hours or --train-steps")
    if dtype == "fp16":
        raise BadSetting("training is not done in fp16", hint="--dtype bf16, or fp32")


def _budgets(
    project: "Project", stages: tuple[str, ...], hours: float | None, steps: int | None
) -> dict[str, tuple[float, int | None]]:
    """Seconds and steps of each stage; `hours` are shared out as the preset's own seconds are."""
    import math

    from dallecli.errors import BadSetting

    runs = project.preset.runs
    if steps is not None:
        return dict.fromkeys(stages, (math.inf, steps))
    if hours is None:
        return {stage: (runs[stage].seconds, runs[stage].steps) for stage in stages}
    shares = {stage: runs[stage].seconds if len(stages) > 1 else 1.0 for stage in stages}
    whole = sum(shares.values())
    if math.isinf(whole):
        raise BadSetting("this preset counts steps: hours cannot be shared out among its stages",
                         hint="train one stage after the other, each with its own --hours")  # fmt: skip
    return {stage: (hours * 3600 * share / whole, None) for stage, share in shares.items()}


def _about_data(project: "Project", *, strict: bool) -> Iterator[str]:
    """What is learned from, and what is not."""
    from dallecli.errors import BadInput
    from dallecli.safe import safe
    from dallecli.training.data import summary

    album = project.album
    yield f"{len(album.captions) - album.held_out} pictures to learn from, {album.held_out} held out"
    for line in summary(album.faults):
        yield f"left out: {safe(line)}"
    if album.faults:
        yield f"{safe(str(project.state / 'left-out.jsonl'))} names them all"
    if album.small:
        largest = project.preset.sizes[-1]
        yield f"{album.small} are smaller than {largest} px and were enlarged; --min-side {largest} leaves them out"
    if project.cut:
        what = (
            f"{len(project.cut)} captions are longer than {project.preset.context} tokens: {safe(project.cut[0], 60)}"
        )
        if strict:
            raise BadInput(what, hint="shorten them, or leave --strict out")
        yield f"{what}; only their beginnings are read"


def _about_model(project: "Project") -> Iterator[str]:
    """What is still to do before the folder is a model that can be trusted."""
    if project.missing():
        yield f"not a whole model yet; still to train: {', '.join(project.missing())}"
    if project.stale():
        yield f"CLIP has moved: train {' and '.join(project.stale())} too, or they misread it"
