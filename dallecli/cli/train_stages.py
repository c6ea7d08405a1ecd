"""`dalle train clip|prior|decoder|upsampler|all`: networks from captioned pictures of one's own.

The five commands differ in the stages that they train, and in nothing else.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from dallecli.cli import options
from dallecli.cli.bars import Bars
from dallecli.cli.bounds import check_above_zero, check_hours, check_threads
from dallecli.cli.folding import folded
from dallecli.limits import SIDE_LIMIT

if TYPE_CHECKING:
    from dallecli.training.kinds import ModelKind
    from dallecli.training.preset import RunSettings
    from dallecli.training.project import Project

WHAT, HOW = "Data and model", "Training"

MOST_STEPS: Final = 10**9

Data = Annotated[
    list[Path],
    typer.Argument(
        metavar="DATA",
        help="Captioned pictures: a folder of NAME.jpg + NAME.txt, one with metadata.jsonl or .csv, or .tar shards.",
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class ProjectOptions:
    """What is trained on which data, and where it goes."""

    out: Annotated[
        Path,
        typer.Option(
            "--out", metavar="DIR", help="The model folder. Training that began there continues.", rich_help_panel=WHAT
        ),
    ]
    origin: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NAME|DIR",
            help="Fine-tune this model: its sizes and words, and its parts where none are trained.",
            rich_help_panel=WHAT,
        ),
    ] = None
    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="NAME|FILE",
            help="tiny, small (if not given), karlo, or a .toml file: sizes, recipes, budgets.",
            rich_help_panel=WHAT,
        ),
    ] = None
    changes: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="Change a setting of the preset: runs.decoder.batch=64; repeatable.",
            rich_help_panel=WHAT,
        ),
    ] = None
    min_side: Annotated[
        int | None,
        typer.Option(
            "--min-side",
            metavar="PX",
            help="Leave smaller pictures out; if not given, those smaller than what the decoder paints.",
            rich_help_panel=WHAT,
        ),
    ] = None
    mirror: Annotated[
        bool,
        typer.Option(
            "--mirror",
            help="Learn from mirror images, too. Not for captions that say left and right.",
            rich_help_panel=WHAT,
        ),
    ] = False
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop if anything in the data cannot be used.", rich_help_panel=WHAT)
    ] = False

    def __post_init__(self) -> None:
        check_above_zero("--min-side", self.min_side, SIDE_LIMIT)


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenProjectOptions(ProjectOptions):
    """The same of a model that writes codes."""

    preset: Annotated[
        str | None,
        typer.Option(
            "--preset",
            metavar="NAME|FILE",
            help="tokens (if not given), tokens-tiny, or a .toml file: sizes, recipes, budgets.",
            rich_help_panel=WHAT,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class BudgetOptions:
    """How long is trained, on what. Raises BadSetting for a budget that means nothing."""

    hours: Annotated[
        float | None,
        typer.Option(
            "--hours", metavar="H", help="Training time of all these stages together, in total.", rich_help_panel=HOW
        ),
    ] = None
    train_steps: Annotated[
        int | None,
        typer.Option(
            "--train-steps",
            metavar="N",
            help="Steps of each of these stages, in total; not a time.",
            rich_help_panel=HOW,
        ),
    ] = None
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", help="CPU threads; all if not given.", rich_help_panel=HOW)
    ] = None
    device: options.Device = None
    dtype: options.DtypeOption = None

    def __post_init__(self) -> None:
        from dallecli.errors import BadSetting

        check_hours(self.hours)
        check_above_zero("--train-steps", self.train_steps, MOST_STEPS)
        check_threads(self.threads)
        if self.hours is not None and self.train_steps is not None:
            raise BadSetting("a budget is either a time or a number of steps", hint="give --hours or --train-steps")
        if self.dtype == "fp16":
            raise BadSetting("training is not done in fp16", hint="--dtype bf16, or fp32")

    def of(self, runs: "Mapping[str, RunSettings]", stages: Sequence[str]) -> dict[str, tuple[float, int | None]]:
        """Seconds and steps of each stage; --hours are shared out as the preset's own seconds are.

        Raises BadSetting where the preset counts steps, so that hours cannot be shared out.
        """
        import math

        from dallecli.errors import BadSetting

        if self.train_steps is not None:
            return dict.fromkeys(stages, (math.inf, self.train_steps))
        if self.hours is None:
            return {stage: (runs[stage].seconds, runs[stage].steps) for stage in stages}
        shares = {stage: runs[stage].seconds if len(stages) > 1 else 1.0 for stage in stages}
        whole = sum(shares.values())
        if math.isinf(whole):
            raise BadSetting(
                "this preset counts steps: hours cannot be shared out among its stages",
                hint="train one stage after the other, each with its own --hours",
            )
        return {stage: (self.hours * 3600 * share / whole, None) for stage, share in shares.items()}


_REST: Final = """

    A run continues where it stopped, even after a kill; a larger budget continues a finished one. With several GPUs:
    accelerate launch --multi_gpu -m dallecli train …

    \b
    Examples:
"""

_WHOLE: Final = """Train a whole model on your own pictures.

    CLIP, the prior, the decoder and the upsamplers, one after the other."""
_TOKENS: Final = """Train a model of DALL-E 1's kind on your own pictures.

    Patches of pictures become codes, an autoencoder learns to paint a picture of its codes, and a transformer learns to
    write the codes behind a caption."""
TOKEN_STAGES: Final = ("dvae", "transformer")
_STAGES: Final = {
    "clip": """Train CLIP on your own pictures.

    It learns what captions and pictures have in common; the prior and the decoder depend on it.""",
    "prior": """Train the prior on your own pictures.

    It learns to tell from a caption the CLIP embedding of its picture.""",
    "decoder": """Train the decoder on your own pictures.

    It learns to paint a small picture of an embedding and a caption.""",
    "upsampler": """Train the upsamplers on your own pictures.

    They learn to paint the details of a picture that is larger.""",
}


Kind = Annotated[
    str,
    typer.Option(
        "--kind", metavar="NAME", help="diffusion or autoregressive; a model may have both.", rich_help_panel=WHAT
    ),
]


def _prior_command(what: str, *examples: str) -> Callable[..., None]:
    """The command that trains a prior, of either kind."""

    def train(
        *,
        data: Data,
        kind: Kind = "diffusion",
        asked: ProjectOptions,
        budget: BudgetOptions,
        quiet: options.Quiet = False,
        debug: options.Debug = False,
    ) -> None:
        from dallecli.errors import BadSetting
        from dallecli.tasks.stages import PRIORS
        from dallecli.training.kinds import UNCLIP

        if kind not in PRIORS:
            raise BadSetting(f"no prior is called {kind!r}", hint=f"one of {', '.join(PRIORS)}")
        _train(UNCLIP, (PRIORS[kind].name,), data, asked, budget, quiet=quiet)

    train.__doc__ = _documented(what, examples)
    return folded(train)


def _documented(what: str, examples: Sequence[str]) -> str:
    return what + _REST + "\n".join(f"      {example}" for example in examples)


def _command(names: tuple[str, ...], what: str, *examples: str) -> Callable[..., None]:
    """A command that trains the stages of an unCLIP model whose name begins with one of `names`."""

    def train(
        *,
        data: Data,
        asked: ProjectOptions,
        budget: BudgetOptions,
        quiet: options.Quiet = False,
        debug: options.Debug = False,
    ) -> None:
        from dallecli.training.kinds import UNCLIP

        _train(UNCLIP, names, data, asked, budget, quiet=quiet)

    train.__doc__ = _documented(what, examples)
    return folded(train)


def _tokens_command() -> Callable[..., None]:
    """The command that trains a model of DALL-E 1's kind."""

    def train(
        *,
        data: Data,
        stage: Annotated[
            list[str] | None,
            typer.Option("--stage", metavar="NAME", help="Train this stage only; repeatable.", rich_help_panel=HOW),
        ] = None,
        asked: TokenProjectOptions,
        budget: BudgetOptions,
        quiet: options.Quiet = False,
        debug: options.Debug = False,
    ) -> None:
        from dallecli.errors import BadSetting
        from dallecli.training.kinds import TOKENS

        for name in stage if stage is not None else ():
            if name not in TOKEN_STAGES:
                raise BadSetting(f"there is no stage {name!r}", hint=f"choose from {', '.join(TOKEN_STAGES)}")
        _train(TOKENS, tuple(stage) if stage else TOKEN_STAGES, data, asked, budget, quiet=quiet)

    again = "dalle train tokens my-pictures --out my-model"
    train.__doc__ = _documented(
        _TOKENS,
        (f"{again} --hours 3", f"{again} --stage transformer --hours 8", f"{again} --from starter-1 --hours 1"),
    )
    return folded(train)


def _train(
    kind: "ModelKind",
    names: tuple[str, ...],
    data: Sequence[Path],
    asked: ProjectOptions,
    budget: BudgetOptions,
    *,
    quiet: bool,
) -> None:
    import torch

    from dallecli.cli.display import emit_line
    from dallecli.placement import decide
    from dallecli.training.data import look
    from dallecli.training.machine import Machine, arithmetic
    from dallecli.training.project import Project
    from dallecli.training.project_settings import choose_settings
    from dallecli.training.team import join

    out = asked.out
    placement = decide(budget.device, budget.dtype)
    team, device = join(placement.device)
    changes = [] if asked.changes is None else asked.changes
    settings = choose_settings(out, asked.preset, changes, asked.origin, kind)
    project = Project(out, settings, Machine(device, torch.bfloat16 if placement.kind == "bf16" else None, team))
    stages = tuple(stage for stage in project.stages if stage.startswith(names))
    project.check_stages(stages)
    budgets = budget.of(project.preset.runs, stages)
    listing = look(data, but=out)
    with project.alone(), arithmetic(budget.threads), Bars(quiet=quiet or not team.first) as bars:
        terms = project.terms(listing, asked.min_side, asked.mirror)
        project.begin(listing, terms, strict=asked.strict, watch=bars.count)
        for line in _about_data(project, strict=asked.strict):
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


def _of_stage(name: str) -> Callable[..., None]:
    """The command that trains one stage."""
    again = f"dalle train {name} my-pictures --out my-model"
    if name == "prior":
        return _prior_command(_STAGES[name], again, f"{again} --kind autoregressive")
    return _command((name,), _STAGES[name], again, f"{again} --from starter --hours 2")


COMMANDS: Final = {
    **{name: _of_stage(name) for name in _STAGES},
    "all": _command(
        tuple(_STAGES),
        _WHOLE,
        "dalle train all my-pictures --out my-model --hours 3",
        'dalle generate "what my captions say" --model ./my-model',
    ),
    "tokens": _tokens_command(),
}
"""The commands by name, in the order of the chain."""


def _about_data(project: "Project", *, strict: bool) -> Iterator[str]:
    """What is learned from, and what is not."""
    from dallecli.errors import BadInput
    from dallecli.safe import safe
    from dallecli.training.listing import summary

    album = project.album
    yield f"{len(album.captions) - album.held_out} pictures to learn from, {album.held_out} held out"
    for line in summary(album.faults):
        yield f"left out: {safe(line)}"
    if album.faults:
        yield f"{safe(str(project.left_out))} names them all"
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
        yield f"CLIP has changed: train {' and '.join(project.stale())} too, or they misread it"
