"""`dalle generate`: sentences in, pictures out."""

from dataclasses import dataclass
from typing import Annotated

import typer

from dallecli.cli import options
from dallecli.cli.folding import folded
from dallecli.cli.help import PICTURES


@dataclass(frozen=True, slots=True, kw_only=True)
class GenerateOptions:
    """What is asked of pictures of a sentence."""

    n: options.Num = 1
    class_: Annotated[
        str | None,
        typer.Option(
            "--class",
            metavar="NAME",
            help="What to paint, for models that paint classes instead of prompts: a name, or a number.",
            rich_help_panel=PICTURES,
        ),
    ] = None
    best_of: Annotated[
        int | None,
        typer.Option(
            "--best-of",
            metavar="N",
            help="Paint N pictures and keep those that CLIP finds closest to the prompt.",
            rich_help_panel=PICTURES,
        ),
    ] = None
    judge: options.Judge = None
    negative: options.Negative = None
    init: Annotated[
        str | None,
        typer.Option(
            "--init",
            metavar="IMAGE",
            help="A picture to paint over, with --strength; - is stdin.",
            rich_help_panel=PICTURES,
        ),
    ] = None
    strength: options.Strength = None
    continue_: Annotated[
        str | None,
        typer.Option(
            "--continue",
            metavar="IMAGE",
            help="A picture to go on from, for models that write codes: its upper rows are kept; - is stdin.",
            rich_help_panel=PICTURES,
        ),
    ] = None
    rows: Annotated[
        int | None,
        typer.Option(
            "--rows",
            metavar="N",
            help="How many rows of codes --continue keeps. [default: half]",
            rich_help_panel=PICTURES,
        ),
    ] = None
    picture: options.PictureOptions
    model: options.ModelOptions
    dials: options.ChainDials
    tokens: options.TokenDials


@folded
def generate(
    *,
    prompts: options.Prompts = None,
    asked: GenerateOptions,
    painting: options.PaintingOptions,
    axes: options.AxesOptions,
) -> None:
    """Paint pictures of a sentence.

    Prints the path of every file it wrote. Several pictures of one prompt become one sheet; picture k of seed s is the
    picture of seed s + k.

    \b
    Examples:
      dalle generate "a red car at the beach"
      dalle generate "a red apple" "a blue apple" -n 4 --seed 7 --layout files
      dalle generate "a dog on a chair" -n 2 --best-of 16
      dalle generate "a dog on a chair" -n 32 --best-of 512 --judge clip-vit-b-32
      dalle generate "a cat, oil on canvas" --init cat.jpg --strength 0.4
      dalle generate "a cat in the snow" --continue cat.jpg --model starter-1
      dalle generate --prompts prompts.jsonl --out pictures
      dalle generate --class "golden retriever" --model adm-64
      dalle generate "a panda" --x steps=10,25,50 --y guidance=1,4,8
      echo "a castle in the forest" | dalle generate -o - > castle.png
    """
    from dallecli.arguments import check_one_stdin, read_files
    from dallecli.cli.command import PaintingCommand
    from dallecli.cli.prompts import STDIN, read_prompts

    command = PaintingCommand(task="generate", asked=asked, painting=painting)
    if painting.batch.file is not None:
        command.paint_file(prompts, axes)
        return
    arguments = prompts if prompts is not None else []
    named = {name: file for name, file in (("init", asked.init), ("continue", asked.continue_)) if file is not None}
    check_one_stdin(list(named.values()), arguments if arguments else [STDIN])
    start = dict(zip(named, read_files(list(named.values())), strict=True))
    given: list[dict[str, object]] = [{**start}]
    if arguments or _needs_words(asked, axes):
        given = [{"prompt": text, **start} for text in read_prompts(arguments)]
    command.paint(given, pictures=asked.n, axes=axes)


def _needs_words(asked: GenerateOptions, axes: options.AxesOptions) -> bool:
    """Whether a prompt is still to be read: not for a class, a sheet of prompts, and a model that reads none."""
    from dallecli.weights.registry import reads_prompts

    return asked.class_ is None and not {"class", "prompt"} & set(axes.named) and reads_prompts(asked.model.model)
