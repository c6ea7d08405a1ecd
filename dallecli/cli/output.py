"""Where pictures go: the plan, checked before anything is painted, and the files, each whole or not there at all."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dallecli.cli.options import Format, Layout
from dallecli.errors import BadOutput
from dallecli.recipe import Recipe

if TYPE_CHECKING:
    from PIL import Image

    from dallecli.picture import Picture

STDOUT = "-"
SHEET = "-grid"

RECORD: Mapping[str, str] = {
    "path": "the file that holds the picture",
    "tile": "its column and row in that file, from 0, if it is a sheet; else null",
    "index": "which of the prompt's pictures it is, from 0; null for a sheet beside single files",
    "count": "1; for a sheet beside single files (`--layout both`), its number of pictures",
    "prompt": "the prompt, whole",
    "truncated": "whether the model read less than all of it",
    "dropped": "the words that it did not read",
    "seed": "the seed of this very picture",
    "model": "the model's name",
    "digest": "the sha256 of its files",
    "size": "the side of the picture in pixels",
    "device": "where it was painted",
    "dtype": "with which numbers",
    "scores": "named scores of the picture, higher is better",
    "seconds": "how long it took to paint",
}
"""The keys of an object that `--json` prints, and what they mean."""

_SUFFIXES: Mapping[str, Format] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """One file (`file`), standard output (`stdout`), or files named after prompt and seed in `folder`."""

    file: Path | None
    stdout: bool
    folder: Path
    layout: Layout
    format: Format
    metadata: bool
    force: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """A file that is there now (`path`), or the bytes for standard output (`data`), and the pictures inside it."""

    path: Path | None
    data: bytes | None
    image: "Image.Image"
    records: tuple[dict[str, Any], ...]


def plan(
    *,
    file: str | None,
    folder: Path | None,
    layout: Layout,
    format: Format | None,
    metadata: bool,
    force: bool,
    pictures: int,
    prompts: int,
    as_json: bool,
) -> Output:
    """Decide where `pictures` of each of `prompts` prompts go. Raises BadOutput where the options contradict."""
    if file is None:
        place = folder if folder is not None else Path()
        return Output(
            file=None,
            stdout=False,
            folder=place,
            layout=layout,
            format=format if format is not None else "png",
            metadata=metadata,
            force=force,
        )
    if folder is not None:
        raise BadOutput("-o and --out contradict each other", hint="-o names one file, --out the folder of many")
    if prompts > 1:
        raise BadOutput(f"-o names one file, but {prompts} prompts make {prompts}", hint="use --out for a folder")
    if pictures > 1 and layout != "grid":
        raise BadOutput(f"-o names one file, but --layout {layout} makes several", hint="use --out for a folder")
    if file == STDOUT:
        if as_json:
            raise BadOutput("-o - and --json both want standard output", hint="write to a file, or leave out --json")
        if sys.stdout is not None and sys.stdout.isatty():
            raise BadOutput("standard output is a terminal", hint="redirect it (> picture.png), or draw with --preview")
        return Output(
            file=None,
            stdout=True,
            folder=Path(),
            layout=layout,
            format=format if format is not None else "png",
            metadata=metadata,
            force=force,
        )
    path = Path(file)
    return Output(
        file=path,
        stdout=False,
        folder=path.parent,
        layout=layout,
        format=_format_of(path, format),
        metadata=metadata,
        force=force,
    )


def probe(output: Output, recipes: Iterable[Recipe]) -> None:
    """Find out, by trying, that the results can be written. Raises BadOutput, DiskFull, PromptError."""
    from dallecli.picture import check_file, check_folder, check_recipe_fits

    recipes = list(recipes)
    if output.metadata:
        for recipe in recipes:
            check_recipe_fits(recipe)
    if output.stdout:
        return
    if output.file is not None:
        check_file(output.file, force=output.force)
    elif output.force:
        _check_names(recipes, output)
    # Twice the raw pixels: a sheet beside the single files, and PNG may even grow noise a little.
    check_folder(output.folder, space=sum(2 * 3 * recipe.size**2 * recipe.count for recipe in recipes))


def save(recipe: Recipe, pictures: Iterable["Picture"], output: Output, done: Callable[[Written], None]) -> None:
    """Write the pictures of one recipe as they come, and say so through `done`.

    Whatever ends the painting early, pictures that waited for their sheet are kept as single files, unless -o asked for
    one certain file. Raises BadOutput, DiskFull, BadSetting, and whatever the engine raises.
    """
    from dallecli.picture import encode, grid, grid_shape

    singles, sheet = _kinds(recipe, output)
    waiting: list[Picture] = []
    try:
        for k, picture in enumerate(pictures):
            if singles:
                done(_write_single(picture, k, output))
            if sheet:
                waiting.append(picture)
    except BaseException:
        if not singles and output.file is None and not output.stdout:
            for k, picture in enumerate(waiting):
                done(_write_single(picture, k, output))
        raise
    if sheet:
        image = grid([picture.image for picture in waiting])
        whole = replace(waiting[0].recipe, count=len(waiting))
        data = encode(image, output.format, whole if output.metadata else None)
        path = _publish(data, whole, output, SHEET)
        records = [_record(picture, k, path) for k, picture in enumerate(waiting)]
        columns, _ = grid_shape(len(waiting))
        if singles:
            seconds = round(sum(picture.seconds for picture in waiting), 3)
            records = [{**records[0], "count": len(waiting), "index": None, "scores": {}, "seconds": seconds}]
        else:
            records = [{**record, "tile": [k % columns, k // columns]} for k, record in enumerate(records)]
        done(Written(path=path, data=data if output.stdout else None, image=image, records=tuple(records)))


def _kinds(recipe: Recipe, output: Output) -> tuple[bool, bool]:
    """Whether single files are written, and whether a sheet is. One picture needs no sheet."""
    if recipe.count == 1:
        return True, False
    return output.layout != "grid", output.layout != "files"


def _format_of(path: Path, asked: Format | None) -> Format:
    named = _SUFFIXES.get(path.suffix.lower())
    if named is None and asked is None:
        raise BadOutput(f"what format is {path.name!r}?", hint="end the name in .png, .jpg or .webp, or say --format")
    if asked is None or named is None:
        return named if named is not None else cast(Format, asked)
    if asked != named:
        raise BadOutput(f"{path.name!r} is a name for {named}, but --format is {asked}", hint="leave one of them out")
    return asked


def _check_names(recipes: Sequence[Recipe], output: Output) -> None:
    """With --force an older file is replaced, but not one of this very run."""
    from dallecli.picture import check_file, file_name

    seen: set[str] = set()
    for recipe in recipes:
        singles, sheet = _kinds(recipe, output)
        seeds = range(recipe.seed, recipe.seed + recipe.count) if singles else range(0)
        names = [file_name(recipe.prompt, seed, output.format) for seed in seeds]
        if sheet:
            names.append(file_name(recipe.prompt, recipe.seed, output.format, SHEET))
        for name in names:
            if name in seen:
                raise BadOutput(f"two results would be called {name}", hint="leave out --force: they get numbers then")
            check_file(output.folder / name, force=True)
            seen.add(name)


def _write_single(picture: "Picture", index: int, output: Output) -> Written:
    data = picture.encode(output.format, metadata=output.metadata)
    path = _publish(data, picture.recipe, output, "")
    record = _record(picture, index, path)
    return Written(path=path, data=data if output.stdout else None, image=picture.image, records=(record,))


def _publish(data: bytes, recipe: Recipe, output: Output, ending: str) -> Path | None:
    from dallecli.picture import file_name, publish, publish_new

    if output.stdout:
        return None
    if output.file is not None:
        return publish(output.file, data, force=output.force)
    name = file_name(recipe.prompt, recipe.seed, output.format, ending)
    if output.force:
        return publish(output.folder / name, data, force=True)
    return publish_new(output.folder, name, data)


def _record(picture: "Picture", index: int, path: Path | None) -> dict[str, Any]:
    """One picture for `--json`. Where `path` is a sheet, `tile` is its column and row there, from 0."""
    recipe = picture.recipe
    return {
        "path": None if path is None else str(path),
        "tile": None,
        "index": index,
        "count": 1,
        "prompt": recipe.prompt,
        "truncated": bool(recipe.dropped),
        "dropped": list(recipe.dropped),
        "seed": recipe.seed,
        "model": recipe.model,
        "digest": recipe.digest,
        "size": recipe.size,
        "device": recipe.device,
        "dtype": recipe.dtype,
        "scores": dict(picture.scores),
        "seconds": round(picture.seconds, 3),
    }
