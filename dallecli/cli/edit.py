"""`dalle edit`: a picture moved along the difference of two sentences."""

from dataclasses import dataclass
from typing import Annotated

import typer

from dallecli.cli import options
from dallecli.cli.folding import folded
from dallecli.cli.help import PICTURES


@dataclass(frozen=True, slots=True, kw_only=True)
class EditOptions:
    """What is asked of an edit."""

    from_: Annotated[
        str | None,
        typer.Option("--from", metavar="TEXT", help="What the picture shows.", rich_help_panel=PICTURES),
    ] = None
    to: Annotated[
        str | None,
        typer.Option("--to", metavar="TEXT", help="What it should show instead.", rich_help_panel=PICTURES),
    ] = None
    strength: options.Strength = None
    sweep: Annotated[
        int | None,
        typer.Option(
            "--sweep",
            metavar="N",
            help="N pictures in equal steps from the original to the full strength.",
            rich_help_panel=PICTURES,
        ),
    ] = None
    picture: options.PictureOptions
    model: options.ModelOptions
    effort: options.EffortOptions
    painter: options.PainterDials
    inversion: options.InversionDials


@folded
def edit(
    *,
    image: options.Image = None,
    asked: EditOptions,
    animation: options.AnimationOptions,
    painting: options.PaintingOptions,
    axes: options.AxesOptions,
) -> None:
    """Change a picture by the difference of two sentences.

    The picture's own noise is kept, so what the sentences do not mention changes little. --sweep paints the steps in
    between as one strip; take the strength that you like best from it.

    \b
    Examples:
      dalle edit cat.jpg --from "a cat" --to "a dog"
      dalle edit room.png --from "a room by day" --to "a room at night" --sweep 6
      dalle edit cat.jpg --from "a cat" --to "a tiger" --sweep 24 --bounce -o tiger.gif
    """
    from dallecli.arguments import read_files
    from dallecli.cli.command import PaintingCommand, required

    command = PaintingCommand(task="edit", asked=asked, painting=painting, animation=animation)
    if painting.batch.file is not None:
        command.paint_file([image] if image is not None else None, axes)
        return
    needed = (
        ("image", image, "argument 'IMAGE'"),
        ("from", asked.from_, "option '--from'"),
        ("to", asked.to, "option '--to'"),
    )
    for name, value, what in needed:
        if name not in axes.named:
            required(value, what, "edit")
    given: dict[str, object] = {"image": read_files([image])[0]} if image is not None else {}
    command.paint([given], pictures=asked.sweep if asked.sweep is not None else 1, axes=axes)
