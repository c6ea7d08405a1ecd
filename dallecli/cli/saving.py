"""Pictures as files, each whole or not there at all: single ones, sheets and animations, under names of their own."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dallecli.cli.destination import probe_destination, put
from dallecli.cli.display import Display
from dallecli.cli.output import ANIMATION_SUFFIXES, Output
from dallecli.cli.sheet import arrange, ending, frame_number
from dallecli.errors import BadOutput
from dallecli.pictures.record import picture_record
from dallecli.recipe import Recipe

if TYPE_CHECKING:
    from PIL import Image

    from dallecli.pictures.picture import Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The bytes of a file that is there now (`path`), or of one for standard output, and the pictures inside it."""

    path: Path | None
    data: bytes
    image: "Image.Image"
    records: tuple[dict[str, Any], ...]

    @property
    def repeats(self) -> bool:
        """Whether it is a sheet of pictures that are files of their own."""
        return self.records[0]["index"] is None


def probe(jobs: Sequence[tuple[Recipe, Output]], display: Display) -> None:
    """Find out, by trying, that the results can be written. Raises BadOutput, DiskFull, PromptError."""
    from dallecli.pictures.metadata import check_recipe_fits

    for recipe, output in jobs:
        if output.metadata:
            check_recipe_fits(recipe)
    _check_names(
        [(recipe, output) for recipe, output in jobs if output.destination.force and not output.destination.certain]
    )
    for destination in {output.destination: None for _, output in jobs}:
        # Twice the raw pixels: a sheet beside the single files, and PNG may even grow noise a little.
        space = sum(
            2 * 3 * recipe.size.pixels * recipe.count for recipe, output in jobs if output.destination == destination
        )
        probe_destination(destination, space, display)


def save(recipe: Recipe, pictures: Iterable["Picture"], output: Output, done: Callable[[Written], None]) -> None:
    """Write the pictures of one recipe as they come, and say so through `done`.

    Whatever ends the painting early, pictures that waited for their sheet are kept as single files, unless -o asked for
    one certain file. Raises BadOutput, DiskFull, BadSetting, and whatever the engine raises.
    """
    singles, sheet = _kinds(recipe, output)
    waiting: list[Picture] = []
    try:
        for k, picture in enumerate(pictures):
            if singles:
                done(_write_single(recipe, picture, k, output))
            if sheet:
                waiting.append(picture)
    except BaseException:
        if not singles and not output.destination.certain:
            for k, picture in enumerate(waiting):
                done(_write_single(recipe, picture, k, output))
        raise
    if sheet:
        done(_write_sheet(recipe, waiting, output, alone=not singles))


def _completed(recipe: Recipe, pictures: "Sequence[Picture]") -> Recipe:
    """The recipe of all pictures of a sheet, with what their own recipes say that was used."""
    used = pictures[0].recipe
    whole = replace(recipe, digest=used.digest, versions=used.versions)
    whole = replace(whole, device=used.device, dtype=used.dtype, threads=used.threads)
    whole = replace(whole, together=used.together, compiled=used.compiled)
    whole = whole.judged(recipe.settings.judge, used.settings.judge_digest)
    return whole.keeping(tuple(picture.recipe.seed for picture in pictures))


def _kinds(recipe: Recipe, output: Output) -> tuple[bool, bool]:
    """Whether single files are written, and whether a sheet is. One picture needs no sheet."""
    if recipe.count == 1:
        return True, False
    return output.layout != "grid", output.layout != "files" or output.animated is not None


def _check_names(jobs: Sequence[tuple[Recipe, Output]]) -> None:
    """With --force an older file is replaced, but not one of this very run."""
    from dallecli.pictures.formats import FORMATS
    from dallecli.pictures.names import file_name
    from dallecli.publish import check_file

    seen: set[Path] = set()
    for recipe, output in jobs:
        singles, sheet = _kinds(recipe, output)
        names = []
        for k in range(recipe.count if singles else 0):
            seed = recipe.seed if recipe.settings.has_frames else recipe.seed + k
            names.append(file_name(recipe.title, seed, FORMATS[output.format], frame_number(recipe, k)))
        if sheet:
            names.append(_sheet_name(recipe, output))
        for name in names:
            path = output.destination.folder / name
            if path in seen:
                raise BadOutput(f"two results would be called {name}", hint="leave out --force: they get numbers then")
            check_file(path, force=True)
            seen.add(path)


def _write_single(recipe: Recipe, picture: "Picture", index: int, output: Output) -> Written:
    from dallecli.pictures.formats import FORMATS
    from dallecli.pictures.names import file_name

    data = picture.encode(output.format, metadata=output.metadata)
    own = picture.recipe
    path = put(
        output.destination, file_name(own.title, own.seed, FORMATS[output.format], frame_number(recipe, index)), data
    )
    return Written(path=path, data=data, image=picture.image, records=(picture_record(picture, index, path, None),))


def _write_sheet(recipe: Recipe, pictures: "Sequence[Picture]", output: Output, *, alone: bool) -> Written:
    """All pictures of a recipe as one sheet or animation. If it is not alone, its pictures have records already."""
    from dallecli.pictures.animation import Tempo, animate
    from dallecli.pictures.picture import encode

    images = [picture.image for picture in pictures]
    sheet, tiles = arrange(recipe, images)
    whole = replace(_completed(recipe, pictures), motion=output.motion)
    told = whole if output.metadata else None
    if output.animated is not None and output.motion is not None:
        tempo = Tempo(fps=output.motion.fps, bounce=output.motion.bounce, hold=output.motion.hold)
        data = animate(images, output.animated, tempo, told)
        size = images[0].size
    else:
        data = encode(sheet, output.format, told)
        size = sheet.size
    path = put(output.destination, _sheet_name(whole, output), data)
    if alone:
        places = tiles if output.animated is None else [None] * len(tiles)
        described = zip(pictures, places, strict=True)
        records = [picture_record(picture, k, path, tile) for k, (picture, tile) in enumerate(described)]
    else:
        records = [_sheet_record(pictures, path, size)]
    return Written(path=path, data=data, image=sheet, records=tuple(records))


def _sheet_record(pictures: "Sequence[Picture]", path: Path | None, size: tuple[int, int]) -> dict[str, Any]:
    """A sheet beside single files, as a record like those of its pictures."""
    return {
        **picture_record(pictures[0], 0, path),
        "index": None,
        "count": len(pictures),
        "position": None,
        "width": size[0],
        "height": size[1],
        "scores": {},
        "seconds": round(sum(picture.seconds for picture in pictures), 3),
    }


def _sheet_name(recipe: Recipe, output: Output) -> str:
    from dallecli.pictures.formats import FORMATS
    from dallecli.pictures.names import file_name

    if output.animated is not None:
        return file_name(recipe.title, recipe.seed, ANIMATION_SUFFIXES[output.animated][0])
    return file_name(recipe.title, recipe.seed, FORMATS[output.format], ending(recipe))
