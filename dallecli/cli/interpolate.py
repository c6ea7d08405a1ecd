"""`dalle interpolate`: what lies between pictures, or between sentences."""

from dataclasses import dataclass
from typing import Annotated, Literal

import typer

from dallecli.cli import options
from dallecli.cli.folding import folded
from dallecli.cli.help import PICTURES


@dataclass(frozen=True, slots=True, kw_only=True)
class InterpolateOptions:
    """What is asked of pictures between others."""

    frames: Annotated[
        int | None,
        typer.Option(
            "--frames",
            metavar="N",
            help="Number of frames, both ends included; 7 if not given.",
            rich_help_panel=PICTURES,
        ),
    ] = None
    at: Annotated[
        list[float] | None,
        typer.Option(
            "--at",
            metavar="X",
            help="Only the picture at this position, from 0 to 1; repeatable.",
            rich_help_panel=PICTURES,
        ),
    ] = None
    weights: Annotated[
        str | None,
        typer.Option(
            "--weights", metavar="W,W,…", help="One blend of all ends, with these weights.", rich_help_panel=PICTURES
        ),
    ] = None
    noise: Annotated[
        Literal["fixed", "inverted"],
        typer.Option(
            "--noise",
            help="Fresh noise, the same for all frames, or the pictures' own, which reproduces the ends.",
            rich_help_panel=PICTURES,
        ),
    ] = "fixed"
    n: options.Num = 1
    picture: options.PictureOptions
    model: options.ModelOptions
    dials: options.ChainDials
    inversion: options.InversionDials

    @property
    def pictures(self) -> int:
        """How many pictures that makes."""
        from dallecli.tasks.interpolate import FRAMES

        if self.at or self.weights is not None:
            return max(self.n, len(self.at) if self.at else 1)
        return self.frames if self.frames is not None else FRAMES


@folded
def interpolate(
    *,
    ends: options.Ends = None,
    asked: InterpolateOptions,
    animation: options.AnimationOptions,
    painting: options.PaintingOptions,
) -> None:
    """Paint what lies between pictures or sentences.

    Both may be mixed: an argument is a file if there is one of that name, else a sentence. The frames become one strip,
    or an animation if the name in -o ends in .gif or .mp4.

    \b
    Examples:
      dalle interpolate cat.jpg dog.jpg
      dalle interpolate "a red apple" "a green apple" --frames 24 --bounce -o apples.gif
      dalle interpolate cat.jpg "a castle" --at 0.4 -n 4
      dalle interpolate cat.jpg dog.jpg fox.jpg --weights 2,1,1
      dalle interpolate cat.jpg dog.jpg --noise inverted --animate mp4
    """
    from dallecli.arguments import read_ends, read_weights
    from dallecli.cli.command import PaintingCommand, required

    command = PaintingCommand(task="interpolate", asked=asked, painting=painting, animation=animation)
    if painting.batch.file is not None:
        command.paint_file(ends)
    else:
        arguments = required(ends, "argument 'A B'", "interpolate")
        given = {"weights": read_weights(asked.weights), "ends": read_ends(arguments)}
        command.paint([given], pictures=asked.pictures)
