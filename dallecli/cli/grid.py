"""`dalle grid`: many pictures on a sheet."""

import io
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dallecli.cli import options

if TYPE_CHECKING:
    from dallecli.pictures.sheets import Tile

Label = Literal["prompt", "name", "seed", "none"]

ROWS = 12
"""Of a sheet, if nothing is said."""


def grid(
    things: Annotated[list[Path], typer.Argument(metavar="DIR|FILE", help="Pictures, and folders of pictures.")],
    columns: Annotated[
        int | None, typer.Option("--columns", metavar="N", min=1, help="As many as make it square if not given.")
    ] = None,
    rows: Annotated[int, typer.Option("--rows", metavar="N", min=1, help="At most; the rest is on further sheets.")] = (
        ROWS
    ),
    tile: Annotated[int, typer.Option("--tile", metavar="PX", min=16, max=2048, help="Side of a picture on it.")] = 256,
    label: Annotated[Label, typer.Option("--label", help="What stands under a picture.")] = "prompt",
    output: options.OutputFile = None,
    out: options.OutputFolder = None,
    force: options.Force = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Put many pictures on one sheet, or on several.

    Of a folder all pictures are taken, in the order of their names. A picture without a recipe has its name under it.
    Several sheets are called sheet-1.png, sheet-2.png, …

    \b
    Examples:
      dalle grid pictures -o sheet.png
      dalle grid a.png b.png c.png --columns 3 --label seed
      dalle grid pictures --tile 96 --columns 20 --rows 30 --label none
    """
    from dallecli.cli.display import emit, emit_json, emit_line
    from dallecli.cli.output import place, put
    from dallecli.pictures.formats import FORMATS
    from dallecli.pictures.picture import encode
    from dallecli.pictures.sheets import contact_sheet, grid_shape

    files = _pictures(things)
    across = columns if columns is not None else min(grid_shape(len(files))[0], ROWS)
    pages = [files[k : k + across * rows] for k in range(0, len(files), across * rows)]
    several = len(pages) > 1
    for number, page in enumerate(pages, 1):
        file = _numbered(output, number) if several else output
        where = place(file=file, folder=out, force=force, results=1, noun="pages", as_json=json, redirected="sheet.png")
        suffix = where.file.suffix.lower() if where.file is not None else ".png"
        form = _format_of(suffix)
        sheet = contact_sheet([_tile(path, label) for path in page], min(across, len(page)), tile)
        name = f"sheet-{number}{FORMATS[form]}" if several else f"sheet{FORMATS[form]}"
        data = encode(sheet, form, None)
        path = put(where, name, data)
        if path is None:
            emit(data)
        elif json:
            facts = {"path": str(path), "page": number, "pages": len(pages), "pictures": [str(one) for one in page]}
            emit_json({**facts, "width": sheet.width, "height": sheet.height})
        else:
            emit_line(str(path))


def _pictures(things: Sequence[Path]) -> list[Path]:
    """The files that are meant. Raises BadInput if there are none."""
    from dallecli.errors import BadInput
    from dallecli.source import PICTURE_SUFFIXES

    found: list[Path] = []
    for thing in things:
        if not thing.is_dir():
            found.append(thing)
            continue
        found += sorted(
            path
            for path in thing.rglob("*")
            if path.suffix.lower() in PICTURE_SUFFIXES and path.is_file() and not path.name.startswith(".")
        )
    if not found:
        raise BadInput("there are no pictures", where=str(things[0]))
    return found


def _tile(path: Path, label: Label) -> "Tile":
    from dallecli.errors import DalleError
    from dallecli.pictures.metadata import read_recipe
    from dallecli.pictures.reading import read_picture
    from dallecli.pictures.sheets import Tile
    from dallecli.source import read_source

    source = read_source(str(path))
    words = path.name if label in ("name", "prompt") else ""
    if label in ("prompt", "seed") and source.data is not None:
        with suppress(DalleError):
            recipe = read_recipe(io.BytesIO(source.data), where=str(path))
            words = recipe.title if label == "prompt" else f"seed {recipe.seed}"
    return Tile(image=read_picture(source).image, label=words)


def _numbered(output: str | None, number: int) -> str | None:
    """The name of one of several sheets. Raises BadOutput for standard output, which is one."""
    from dallecli.errors import BadOutput

    if output is None:
        return None
    if output == "-":
        raise BadOutput("standard output takes one sheet, and these are several", hint="more --rows, or -o sheet.png")
    path = Path(output)
    return str(path.with_name(f"{path.stem}-{number}{path.suffix}"))


def _format_of(suffix: str) -> str:
    """The format that a suffix means. Raises BadOutput."""
    from dallecli.errors import BadOutput
    from dallecli.source import PICTURE_SUFFIXES

    if suffix not in PICTURE_SUFFIXES:
        raise BadOutput(f"what format is {suffix!r}?", hint="end the name in .png, .jpg or .webp")
    return {".png": "png", ".webp": "webp"}.get(suffix, "jpeg")
