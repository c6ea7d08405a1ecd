"""`dalle inpaint`: part of a picture repainted, the rest kept."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal, cast

import typer

from dallecli.cli import options
from dallecli.cli.folding import folded
from dallecli.cli.help import MASK, SAMPLING
from dallecli.errors import BadSetting

if TYPE_CHECKING:
    from dallecli.tasks.inpaint import Inpaint


@dataclass(frozen=True, slots=True, kw_only=True)
class MaskOptions:
    """What is repainted."""

    mask: Annotated[
        list[str] | None,
        typer.Option(
            "--mask",
            metavar="FILE|X,Y,W,H",
            help="What to repaint: the white part of a picture, or a box in pixels; repeatable."
            " Without it, where the picture itself is transparent.",
            rich_help_panel=MASK,
        ),
    ] = None
    mask_mode: Annotated[
        Literal["white", "alpha"],
        typer.Option(
            "--mask-mode", help="Which part of a mask is repainted: white, or transparent.", rich_help_panel=MASK
        ),
    ] = "white"
    invert_mask: Annotated[
        bool, typer.Option("--invert-mask", help="Repaint what is not marked.", rich_help_panel=MASK)
    ] = False
    expand: Annotated[
        str | None,
        typer.Option(
            "--expand",
            metavar="EDGE=PX,…",
            help="Paint beyond the edges, such as left=64,top=32; a number alone is for all four.",
            rich_help_panel=MASK,
        ),
    ] = None


ShowMask = Annotated[
    bool,
    typer.Option("--show-mask", help="Paint nothing; show what would be repainted, tinted.", rich_help_panel=MASK),
]


@dataclass(frozen=True, slots=True, kw_only=True)
class InpaintOptions:
    """What is asked of a picture that is repainted."""

    region: MaskOptions
    prompt: options.Prompt = None
    negative: options.Negative = None
    n: options.Num = 1
    picture: options.PictureOptions
    model: options.ModelOptions
    dials: options.ChainDials
    resample: Annotated[
        int | None,
        typer.Option(
            "--resample",
            metavar="N",
            help="How often each step is taken, so that the new part fits the old one; 1 is once.",
            rich_help_panel=SAMPLING,
        ),
    ] = None


@folded
def inpaint(
    *,
    image: options.Picture = None,
    asked: InpaintOptions,
    painting: options.PaintingOptions,
    axes: options.AxesOptions,
    show_mask: ShowMask = False,
) -> None:
    """Repaint part of a picture.

    All other pixels stay as they are, and so does the size. What is repainted is white in a mask, inside a box, or
    transparent in the picture; with --expand, also what is added around it.

    \b
    Examples:
      dalle inpaint room.png --mask 20,150,120,90 --prompt "a red couch"
      dalle inpaint room.png --mask mask.png --show-mask
      dalle inpaint cutout.png --prompt "a beach" -n 4
      dalle inpaint room.png --expand left=64,right=64
    """
    from dallecli.arguments import check_one_stdin, read_files, read_masks
    from dallecli.cli.command import PaintingCommand, required

    command = PaintingCommand(task="inpaint", asked=asked, painting=painting)
    if painting.batch.file is not None:
        if show_mask:
            raise BadSetting("--show-mask is about one picture", hint="leave out --prompts")
        command.paint_file([image] if image is not None else None, axes)
        return
    if "image" not in axes.named:
        required(image, "argument 'IMAGE'", "inpaint")
    masks = asked.region.mask or []
    check_one_stdin([image] if image is not None else [], masks)
    given: dict[str, object] = {"image": read_files([image])[0]} if image is not None else {}
    given["mask"] = read_masks(masks)
    if show_mask:
        from dallecli.cli.show_mask import write_overlay

        write_overlay(cast("Inpaint", command.request(given)), command.plan(), painting)
    else:
        command.paint([given], pictures=asked.n, axes=axes)
