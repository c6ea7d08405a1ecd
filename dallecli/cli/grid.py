"""`dalle grid`: many pictures on a sheet."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from dallecli.cli import options
from dallecli.cli.folding import folded

if TYPE_CHECKING:
    from dallecli.pictures.sheets import Tile

Label = Literal["prompt", "name", "seed", "none"]

ROWS = 12
"""Of a sheet, if nothing is said."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SheetOptions:
    """How the pictures stand on a sheet."""

    columns: Annotated[
        int | None, typer.Option("--columns", metavar="N", min=1, help="As many as make it square if not given.")
    ] = None
    rows: Annotated[int, typer.Option("--rows", metavar="N", min=1, help="At most; the rest is on further sheets.")] = (
        ROWS
    )
    tile: Annotated[int, typer.Option("--tile", metavar="PX", min=16, max=2048, help="Side of a picture on it.")] = 256
    label: Annotated[Label, typer.Option("--label", help="What stands under a picture.")] = "prompt"


@folded
def grid(
    things: Annotated[list[Path], typer.Argument(metavar="DIR|FILE", help="Pictures, and folders of pictures.")],
    sheet: SheetOptions,
    output: options.FileOptions,
    reporting: options.Reporting,
    open: options.Open = False,
) -> None:
    """Put many pictures on one sheet, or on several.

    From a folder, all pictures are taken, in the order of their names. One without a recipe has its name under it.
    Several sheets are called sheet-1.png, sheet-2.png, …

    \b
    Examples:
      dalle grid pictures -o sheet.png
      dalle grid a.png b.png c.png --columns 3 --label seed
      dalle grid pictures --tile 96 --columns 20 --rows 30 --label none
    """
    from dallecli.cli.display import Display
    from dallecli.cli.many import Many
    from dallecli.cli.viewer import show_in_viewer
    from dallecli.pictures.sheets import grid_shape

    display = Display(quiet=reporting.quiet)
    files = _pictures(things)
    many = Many(len(files), display, as_json=reporting.json)
    across = sheet.columns if sheet.columns is not None else min(grid_shape(len(files))[0], ROWS)
    pages = [files[k : k + across * sheet.rows] for k in range(0, len(files), across * sheet.rows)]
    paths = []
    for number, files in enumerate(pages, 1):
        page = _Page(number=number, pages=len(pages), files=files, columns=min(across, len(files)))
        tiles = many.each(lambda path: (path, _tile(path, sheet.label)), page.files)
        if tiles:
            paths.append(_write(page, tiles, sheet, output, reporting))
    if open:
        show_in_viewer(paths, display)
    many.finish()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Page:
    """One of several sheets, from 1, and the files on it."""

    number: int
    pages: int
    files: Sequence[Path]
    columns: int


def _write(
    page: _Page,
    tiles: "Sequence[tuple[Path, Tile]]",
    sheet: SheetOptions,
    output: options.FileOptions,
    reporting: options.Reporting,
) -> Path | None:
    """Write one sheet and say where; None is standard output."""
    from dallecli.cli.destination import choose_destination, probe_destination, put
    from dallecli.cli.display import Display, emit, emit_json, emit_line
    from dallecli.cli.results import note
    from dallecli.pictures.formats import FORMATS
    from dallecli.pictures.picture import encode
    from dallecli.pictures.sheets import contact_sheet

    numbered = replace(output, output=_numbered(output.output, page.number)) if page.pages > 1 else output
    destination = choose_destination(numbered, results=1, noun="pages", as_json=reporting.json, redirected="sheet.png")
    form = _format_of(destination.file.suffix.lower() if destination.file is not None else ".png")
    image = contact_sheet([tile for _, tile in tiles], min(page.columns, len(tiles)), sheet.tile)
    name = f"sheet-{page.number}{FORMATS[form]}" if page.pages > 1 else f"sheet{FORMATS[form]}"
    data = encode(image, form, None)
    probe_destination(destination, len(data), Display(quiet=reporting.quiet))
    path = put(destination, name, data)
    note(path)
    if path is None:
        emit(data)
    elif reporting.json:
        facts = {"path": str(path), "page": page.number, "pages": page.pages}
        on_it = [str(path) for path, _ in tiles]
        emit_json({**facts, "pictures": on_it, "width": image.width, "height": image.height})
    else:
        emit_line(str(path))
    return path


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
            recipe = read_recipe(source.data, where=str(path))
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
