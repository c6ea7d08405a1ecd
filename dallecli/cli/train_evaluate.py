"""`dalle train evaluate`: how often a model paints what was asked, in the words of an independent judge."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final

import typer

from dallecli.cli import options
from dallecli.cli.bars import Bars
from dallecli.cli.bounds import check_above_zero
from dallecli.cli.folding import folded
from dallecli.cli.train_starter import PresetName, StateFolder, state_folder

MEASURE = "Measure"

MOST_PROMPTS: Final = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class MeasureOptions:
    """What is measured, and by which judge. Raises BadSetting for a number that means nothing."""

    pictures: Annotated[
        int, typer.Option("--num", "-n", metavar="N", help="Prompts of each kind.", rich_help_panel=MEASURE)
    ] = 96
    seed: Annotated[
        int, typer.Option("--seed", "-s", metavar="N", help="Seed of the first picture.", rich_help_panel=MEASURE)
    ] = 0
    kind: Annotated[
        list[str] | None,
        typer.Option("--kind", metavar="NAME", help="Prompts of this kind only; repeatable.", rich_help_panel=MEASURE),
    ] = None
    out: Annotated[
        Path | None, typer.Option("--out", metavar="DIR", help="Write the pictures here.", rich_help_panel=MEASURE)
    ] = None
    preset: PresetName = "cpu"
    state: StateFolder = None

    def __post_init__(self) -> None:
        check_above_zero("--num", self.pictures, MOST_PROMPTS)


@folded
def evaluate(
    *,
    model: options.Model = "starter",
    asked: MeasureOptions,
    device: options.Device = None,
    dials: options.ChainDials,
    drawing: options.TokenDials,
    reporting: options.Reporting,
) -> None:
    """Let the independent judge say how often a model paints what was asked.

    The judge is the one trained under --state (dalle train starter --stage judge); its own accuracy on drawn scenes
    that it has never seen stands beside. Pictures are judged at 64 px. Two kinds ask no single prompt: "variety" paints
    the same captions from many seeds, and "detail" looks at pictures of full size.

    \b
    Examples:
      dalle train evaluate
      dalle train evaluate --model ./my-starter -n 200 --json
      dalle train evaluate --model starter-1 --guidance 2
      dalle train evaluate --kind pair --guidance 4 --steps 15
      dalle train evaluate --kind variety --kind detail --prior-guidance 2
    """
    from dallecli.cli.display import emit_json, emit_rows
    from dallecli.errors import BadSetting
    from dallecli.placement import decide
    from dallecli.tasks.builder import build_request
    from dallecli.tasks.generate import Generate
    from dallecli.training.machine import Machine
    from dallecli.training.preset_file import load_preset
    from dallecli.training.world.evaluate import evaluate as measure
    from dallecli.training.world.evaluate import kind_names
    from dallecli.training.world.starter import Workshop
    from dallecli.training.world.worlds import find_world

    preset = load_preset(asked.preset)
    known = kind_names(find_world(preset.world))
    for name in asked.kind if asked.kind is not None else ():
        if name not in known:
            raise BadSetting(f"there is no kind {name!r}", hint=f"choose from {', '.join(known)}")
    # The words take the place of these for every prompt.
    common = {"prompt": "a judged one", "model": model, "seed": asked.seed, "device": device}
    request = build_request("generate", {**common, **options.values_of(dials), **options.values_of(drawing)})
    assert isinstance(request, Generate)  # for the type checker
    machine = Machine(decide(device, None).device)
    workshop = Workshop(preset, state_folder(asked.state, asked.preset), machine)
    with Bars(quiet=reporting.quiet) as bars:
        figures = measure(workshop, request, count=asked.pictures, kinds=asked.kind, out=asked.out, watch=bars.count)
    if reporting.json:
        emit_json(figures)
    else:
        emit_rows([(name, f"{value:.3f}") for name, value in figures.items()])
