"""`dalle train starter`: the networks of the model that ships with dalle, from nothing or from a model's weights."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from dallecli.cli import options
from dallecli.cli.bars import Bars
from dallecli.cli.bounds import check_hours, check_threads
from dallecli.cli.folding import folded

if TYPE_CHECKING:
    from dallecli.training.kinds import ModelKind
    from dallecli.training.preset import BasePreset
    from dallecli.training.world.starter import Workshop

RUN = "Run"

PresetName = Annotated[
    str,
    typer.Option(
        "--preset", metavar="NAME", help="cpu (16 px base), looks (32 px), gpu (64 px) or tiny.", rich_help_panel=RUN
    ),
]
StateFolder = Annotated[
    Path | None,
    typer.Option(
        "--state", metavar="DIR", help="Where runs live and resume; the cache if not given.", rich_help_panel=RUN
    ),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class StarterOptions:
    """What is trained of the starter, how long, and where. Raises BadSetting for a number that means nothing."""

    preset: PresetName = "cpu"
    stage: Annotated[
        list[str] | None,
        typer.Option("--stage", metavar="NAME", help="Train this stage only; repeatable.", rich_help_panel=RUN),
    ] = None
    hours: Annotated[
        float | None,
        typer.Option("--hours", metavar="H", help="Training time of all stages together.", rich_help_panel=RUN),
    ] = None
    origin: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="NAME|DIR",
            help="Start from this model's weights where there is no training state.",
            rich_help_panel=RUN,
        ),
    ] = None
    out: Annotated[
        Path | None,
        typer.Option("--out", metavar="DIR", help="Write the trained model folder here.", rich_help_panel=RUN),
    ] = None
    state: StateFolder = None
    threads: Annotated[
        int | None, typer.Option("--threads", metavar="N", help="CPU threads; all if not given.", rich_help_panel=RUN)
    ] = None

    def __post_init__(self) -> None:
        check_hours(self.hours)
        check_threads(self.threads)

    def stages(self, preset: "BasePreset") -> list[str]:
        """The stages to train, in their order. Raises BadSetting for one that the preset does not have."""
        from dallecli.errors import BadSetting

        asked = self.stage if self.stage else list(preset.runs)
        for name in asked:
            if name not in preset.runs:
                raise BadSetting(f"there is no stage {name!r}", hint=f"choose from {', '.join(preset.runs)}")
        return [name for name in preset.runs if name in asked]


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipStarterOptions(StarterOptions):
    """The same, and what only a starter with a CLIP of its own has."""

    lock_image_encoder: Annotated[
        bool,
        typer.Option(
            "--lock-image-encoder",
            help="Train CLIP's text encoder alone; pictures keep their embeddings.",
            rich_help_panel=RUN,
        ),
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenStarterOptions(StarterOptions):
    """The same of the starter that writes codes."""

    preset: Annotated[
        str,
        typer.Option("--preset", metavar="NAME", help="tokens (64 px) or tokens-tiny.", rich_help_panel=RUN),
    ] = "tokens"


@folded
def starter(
    *,
    asked: ClipStarterOptions,
    device: options.Device = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train the starter's networks: CLIP, prior, decoder, upsamplers and the judge, one after the other.

    A run continues where it stopped, even after a kill. More --hours than before continue a finished one.

    \b
    Examples:
      dalle train starter --out my-starter
      dalle train starter --stage decoder --hours 8
      dalle train starter --from starter --stage upsampler --hours 2 --out my-starter
      dalle train starter --from starter --stage clip --lock-image-encoder
      dalle generate "a blue dog" --model ./my-starter
    """
    from dallecli.training.kinds import UNCLIP

    _train(UNCLIP, asked, device, quiet=quiet, locked=asked.lock_image_encoder)


@folded
def starter_tokens(
    *,
    asked: TokenStarterOptions,
    device: options.Device = None,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Train starter-1's networks, DALL-E 1's way: an autoencoder, and the transformer that writes its codes.

    A run continues where it stopped, even after a kill. More --hours than before continue a finished one.

    \b
    Examples:
      dalle train starter-tokens --out my-starter-1
      dalle train starter-tokens --stage transformer --hours 8
      dalle generate "a blue dog" --model ./my-starter-1
    """
    from dallecli.training.kinds import TOKENS

    _train(TOKENS, asked, device, quiet=quiet)


def _train(kind: "ModelKind", asked: StarterOptions, device: str | None, *, quiet: bool, locked: bool = False) -> None:
    import torch

    from dallecli.cli.display import emit_line
    from dallecli.placement import decide
    from dallecli.training.machine import Machine, arithmetic
    from dallecli.training.world.starter import Workshop

    preset = kind.load(asked.preset)
    chosen = asked.stages(preset)
    placement = decide(device, None)
    machine = Machine(placement.device, None if placement.dtype == torch.float32 else torch.bfloat16)
    folder = state_folder(asked.state, asked.preset)
    workshop = Workshop(preset, folder, machine, asked.origin, locked=locked)
    workshop.check_origin(chosen if asked.out is None else preset.runs)
    whole = sum(preset.runs[name].seconds for name in chosen)
    with arithmetic(asked.threads), Bars(quiet=quiet) as bars:
        for name in chosen:
            seconds = preset.runs[name].seconds * (1 if asked.hours is None else asked.hours * 3600 / whole)
            if asked.origin is not None:
                bars.note(_start(workshop, name, asked.origin))
            reason = workshop.train_stage(name, seconds, bars.show)
            if reason is not None:
                bars.note(f"{name} is left as it is: {reason}")
    if asked.out is not None:
        workshop.export(asked.out)
        emit_line(str(asked.out))


def state_folder(given: Path | None, preset: str) -> Path:
    """The state folder of a preset, below the one that was given or the cache. Raises BadSetting without either."""
    from dallecli.errors import BadSetting
    from dallecli.own_folders import NOWHERE, own_folder

    folder = given if given is not None else own_folder("cache", "dalle-train")
    if folder is None:
        raise BadSetting(f"there is no place for the training's state: {NOWHERE}", hint="name a folder with --state")
    return folder / preset


def _start(workshop: "Workshop", name: str, origin: str) -> str:
    """Say what the training of a stage starts from."""
    if workshop.chain.has_state(name):
        return f"{name} continues from its own training state, not from {origin}"
    if not workshop.chain.stages[name].configs:
        return f"{name} is not part of a model: it starts from nothing"
    return f"{name} starts from {origin}"
