"""`dalle vary`: variations of a picture."""

from dataclasses import dataclass
from typing import Annotated

import typer

from dallecli.cli import options
from dallecli.cli.folding import folded
from dallecli.cli.help import PICTURES


@dataclass(frozen=True, slots=True, kw_only=True)
class VaryOptions:
    """What is asked of variations."""

    prompt: options.Prompt = None
    fidelity: Annotated[
        float | None,
        typer.Option(
            "--fidelity",
            metavar="X",
            help="From 0, the same subject, to 1, the same picture. Fresh noise if not given.",
            rich_help_panel=PICTURES,
        ),
    ] = None
    n: options.Num = 1
    picture: options.PictureOptions
    model: options.ModelOptions
    effort: options.EffortOptions
    painter: options.SamplerDials
    inversion: options.InversionDials


@folded
def vary(
    *,
    images: options.Images = None,
    asked: VaryOptions,
    painting: options.PaintingOptions,
    axes: options.AxesOptions,
) -> None:
    """Paint variations of a picture.

    They keep what CLIP sees in the original; the rest is made up. Several of them become one sheet with the original in
    its first corner. --fidelity starts from the picture's own noise, and at 1 nothing changes.

    \b
    Examples:
      dalle vary cat.jpg -n 5
      dalle vary cat.jpg --fidelity 0.8
      dalle vary --prompts photos.csv --out variations
      dalle embed cat.jpg --minus "a cat" --plus "a dog" -o - | dalle vary -
    """
    from dallecli.arguments import check_one_stdin, needed, read_files
    from dallecli.cli.command import PaintingCommand

    command = PaintingCommand(task="vary", asked=asked, painting=painting)
    if painting.batch.file is not None:
        command.paint_file(images, axes)
    else:
        paths = needed(images, "IMAGE") if images or "image" not in axes.named else []
        check_one_stdin(paths)
        many = command.many(len(paths))
        given = many.each(lambda path: {"image": read_files([path])[0]}, paths)
        command.paint(given, pictures=asked.n, noun="pictures", axes=axes, many=many)
