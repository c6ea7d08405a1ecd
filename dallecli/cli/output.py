"""Where pictures go: the plan, checked before anything is painted, and the files, each whole or not there at all."""

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from dallecli.cli.options import Animated, Format, Layout
from dallecli.cli.sheet import arrange, ending, frame_number
from dallecli.errors import BadOutput
from dallecli.recipe import Motion, Recipe

if TYPE_CHECKING:
    from PIL import Image

    from dallecli.pictures.animation import Tempo
    from dallecli.pictures.picture import Picture

STDOUT = "-"

RECORD: Mapping[str, str] = {
    "path": "the file that holds the picture",
    "tile": "its column and row in that file, from 0, if it is a sheet; else null",
    "index": "which of the pictures of its prompt or input it is, from 0; null for a sheet beside single files",
    "count": "1; for a sheet beside single files (`--layout both`), its number of pictures",
    "task": "the command that made it",
    "prompt": "the prompt, whole; empty if none was given",
    "truncated": "whether the model read less than all of it",
    "dropped": "the words that it did not read",
    "inputs": "what it was made from: for each input its kind, name and sha256",
    "position": "where on the way between the ends, or how far towards the other sentence; null for other tasks",
    "seed": "the seed of this very picture",
    "model": "the model's name",
    "digest": "the sha256 of its files",
    "size": "the side in pixels of what the model painted",
    "width": "the width of the picture in pixels",
    "height": "its height",
    "device": "where it was painted",
    "dtype": "with which numbers",
    "scores": "named scores of the picture, higher is better",
    "seconds": "how long it took to paint",
}
"""The keys of an object that `--json` prints, and what they mean."""

# The suffixes of animations, the one that every program knows first. Those of pictures need --animate beside them.
_MOVING: Mapping[Animated, tuple[str, ...]] = {
    "gif": (".gif",),
    "webp": (".webp",),
    "apng": (".png", ".apng"),
    "mp4": (".mp4",),
}
_SUFFIXES: Mapping[str, Format] = {".png": "png", ".jpg": "jpeg", ".jpeg": "jpeg", ".webp": "webp"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One file (`file`), standard output (`stdout`), or files with names of their own in `folder`."""

    file: Path | None
    stdout: bool
    folder: Path
    force: bool

    @property
    def certain(self) -> bool:
        """Whether there is exactly one place for one result."""
        return self.stdout or self.file is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class Output:
    """Where pictures go, and in which form. With `animated`, frames become one of these instead of a sheet."""

    place: Place
    layout: Layout
    format: Format
    metadata: bool
    animated: Animated | None = None
    motion: Motion | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Written:
    """The bytes of a file that is there now (`path`), or of one for standard output, and the pictures inside it."""

    path: Path | None
    data: bytes
    image: "Image.Image"
    records: tuple[dict[str, Any], ...]


def place(
    *, file: str | None, folder: Path | None, force: bool, results: int, noun: str, as_json: bool, redirected: str
) -> Place:
    """Decide where `results` of something go. Raises BadOutput where the options contradict each other.

    `noun` says of what there is one result each, `redirected` is what standard output could be redirected to.
    """
    if file is None:
        return Place(file=None, stdout=False, folder=folder if folder is not None else Path(), force=force)
    if folder is not None:
        raise BadOutput("-o and --out contradict each other", hint="-o names one file, --out the folder of many")
    if results > 1:
        raise BadOutput(f"-o names one file, but {results} {noun} make {results}", hint="use --out for a folder")
    if file != STDOUT:
        path = Path(file)
        return Place(file=path, stdout=False, folder=path.parent, force=force)
    if as_json:
        raise BadOutput("-o - and --json both want standard output", hint="write to a file, or leave out --json")
    if sys.stdout is not None and sys.stdout.isatty():
        raise BadOutput("standard output is a terminal", hint=f"redirect it: > {redirected}, or into a pipe")
    return Place(file=None, stdout=True, folder=Path(), force=force)


def plan(
    *,
    file: str | None,
    folder: Path | None,
    layout: Layout,
    format: Format | None,
    metadata: bool,
    force: bool,
    pictures: int,
    results: int = 1,
    noun: str = "prompts",
    animated: Animated | None = None,
    motion: Motion | None = None,
    as_json: bool,
) -> Output:
    """Decide where `pictures` of each of `results` prompts (or what `noun` says) go, and in which form.

    An animation is made of them if `animated` says so, or, given a `motion`, the name of the file.

    Raises: BadOutput where the options contradict each other; BadSetting, MissingExtra for an animation that cannot be.
    """
    where = place(
        file=file,
        folder=folder,
        force=force,
        results=results,
        noun=noun,
        as_json=as_json,
        redirected="picture.png",
    )
    if where.certain and pictures > 1 and layout != "grid":
        raise BadOutput(f"-o names one file, but --layout {layout} makes several", hint="use --out for a folder")
    animated = _animation(where, animated, motion, pictures) if motion is not None else None
    if where.file is not None and animated is None:
        format = _format_of(where.file, format, moving=motion is not None)
    return Output(
        place=where,
        layout=layout,
        format=format if format is not None else "png",
        metadata=metadata,
        animated=animated,
        motion=motion if animated is not None else None,
    )


def _animation(where: Place, asked: Animated | None, motion: Motion, pictures: int) -> Animated | None:
    """The animation that was asked for, by name or by the suffix of a file. Raises as `plan`."""
    suffix = where.file.suffix.lower() if where.file is not None else None
    unlike_pictures = {name: kind for kind, names in _MOVING.items() for name in names if name not in _SUFFIXES}
    kind = asked if asked is not None else unlike_pictures.get(suffix if suffix is not None else "")
    if kind is None:
        return None
    if suffix is not None and suffix not in _MOVING[kind]:
        hint = f"end the name in {_MOVING[kind][0]}, or leave --animate out"
        raise BadOutput(f"{where.file} is not a name for an animated {kind}", hint=hint)
    if pictures < 2:
        raise BadOutput("one picture does not move", hint="--frames or --sweep make more of them")
    from dallecli.pictures.animation import check_format

    check_format(kind, _tempo(motion))
    return kind


def _tempo(motion: Motion) -> "Tempo":
    from dallecli.pictures.animation import Tempo

    return Tempo(fps=motion.fps, bounce=motion.bounce, hold=motion.hold)


def probe(jobs: Sequence[tuple[Recipe, Output]]) -> None:
    """Find out, by trying, that the results can be written. Raises BadOutput, DiskFull, PromptError."""
    from dallecli.pictures.metadata import check_recipe_fits

    for recipe, output in jobs:
        if output.metadata:
            check_recipe_fits(recipe)
    _check_names([(recipe, output) for recipe, output in jobs if output.place.force and not output.place.certain])
    for where in {output.place: None for _, output in jobs}:
        # Twice the raw pixels: a sheet beside the single files, and PNG may even grow noise a little.
        space = sum(2 * 3 * recipe.size**2 * recipe.count for recipe, output in jobs if output.place == where)
        probe_place(where, space)


def probe_place(where: Place, space: int) -> None:
    """Find out, by trying, that `space` bytes can be written there. Raises BadOutput, DiskFull."""
    from dallecli.publish import check_file, check_folder

    if where.stdout:
        return
    if where.file is not None:
        check_file(where.file, force=where.force)
    check_folder(where.folder, space)


def put(where: Place, name: str, data: bytes) -> Path | None:
    """Publish a result in its place, under `name` where that is free to choose; None is for standard output."""
    from dallecli.publish import publish, publish_new

    if where.stdout:
        return None
    if where.file is not None:
        return publish(where.file, data, force=where.force)
    if where.force:
        return publish(where.folder / name, data, force=True)
    return publish_new(where.folder, name, data)


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
        if not singles and not output.place.certain:
            for k, picture in enumerate(waiting):
                done(_write_single(recipe, picture, k, output))
        raise
    if sheet:
        done(_write_sheet(recipe, waiting, output, alone=not singles))


def _completed(recipe: Recipe, pictures: "Sequence[Picture]") -> Recipe:
    """The recipe of all pictures of a sheet, with what their own recipes say that was used."""
    used = pictures[0].recipe
    whole = replace(recipe, digest=used.digest, device=used.device, dtype=used.dtype, versions=used.versions)
    return whole.keeping(tuple(picture.recipe.seed for picture in pictures))


def _kinds(recipe: Recipe, output: Output) -> tuple[bool, bool]:
    """Whether single files are written, and whether a sheet is. One picture needs no sheet."""
    if recipe.count == 1:
        return True, False
    return output.layout != "grid", output.layout != "files" or output.animated is not None


def _format_of(path: Path, asked: Format | None, *, moving: bool) -> Format:
    named = _SUFFIXES.get(path.suffix.lower())
    if named is None and asked is None:
        more = ", .gif or .mp4 for an animation" if moving else ""
        raise BadOutput(
            f"what format is {path.name!r}?", hint=f"end the name in .png, .jpg or .webp{more}, or say --format"
        )
    if asked is None or named is None:
        return named if named is not None else cast(Format, asked)
    if asked != named:
        raise BadOutput(f"{path.name!r} is a name for {named}, but --format is {asked}", hint="leave one of them out")
    return asked


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
            path = output.place.folder / name
            if path in seen:
                raise BadOutput(f"two results would be called {name}", hint="leave out --force: they get numbers then")
            check_file(path, force=True)
            seen.add(path)


def _write_single(recipe: Recipe, picture: "Picture", index: int, output: Output) -> Written:
    from dallecli.pictures.formats import FORMATS
    from dallecli.pictures.names import file_name

    data = picture.encode(output.format, metadata=output.metadata)
    own = picture.recipe
    path = put(output.place, file_name(own.title, own.seed, FORMATS[output.format], frame_number(recipe, index)), data)
    return Written(path=path, data=data, image=picture.image, records=(picture_record(picture, index, path, None),))


def _write_sheet(recipe: Recipe, pictures: "Sequence[Picture]", output: Output, *, alone: bool) -> Written:
    """All pictures of a recipe as one sheet or animation. If it is not alone, its pictures have records already."""
    from dallecli.pictures.animation import animate
    from dallecli.pictures.picture import encode

    images = [picture.image for picture in pictures]
    sheet, tiles = arrange(recipe, images)
    whole = replace(_completed(recipe, pictures), motion=output.motion)
    told = whole if output.metadata else None
    if output.animated is not None and output.motion is not None:
        data = animate(images, output.animated, _tempo(output.motion), told)
        width, height = images[0].size
    else:
        data = encode(sheet, output.format, told)
        width, height = sheet.size
    path = put(output.place, _sheet_name(whole, output), data)
    if alone:
        places = tiles if output.animated is None else [None] * len(tiles)
        records = [
            picture_record(picture, k, path, tile)
            for k, (picture, tile) in enumerate(zip(pictures, places, strict=True))
        ]
    else:
        seconds = round(sum(picture.seconds for picture in pictures), 3)
        about: dict[str, Any] = {
            "index": None,
            "count": len(pictures),
            "scores": {},
            "seconds": seconds,
            "position": None,
        }
        records = [{**picture_record(pictures[0], 0, path, None), **about, "width": width, "height": height}]
    return Written(path=path, data=data, image=sheet, records=tuple(records))


def _sheet_name(recipe: Recipe, output: Output) -> str:
    from dallecli.pictures.formats import FORMATS
    from dallecli.pictures.names import file_name

    if output.animated is not None:
        return file_name(recipe.title, recipe.seed, _MOVING[output.animated][0])
    return file_name(recipe.title, recipe.seed, FORMATS[output.format], ending(recipe))


def picture_record(
    picture: "Picture", index: int, path: Path | None, tile: tuple[int, int] | None = None
) -> dict[str, Any]:
    """One picture for `--json`. Where `path` is a sheet, `tile` is its column and row there, from 0."""
    recipe = picture.recipe
    return {
        "path": None if path is None else str(path),
        "tile": None if tile is None else list(tile),
        "index": index,
        "count": 1,
        "task": recipe.task,
        "prompt": recipe.prompt,
        "truncated": bool(recipe.dropped),
        "dropped": list(recipe.dropped),
        "inputs": [{"kind": given.kind, "name": given.name, "sha256": given.sha256} for given in recipe.inputs],
        "position": recipe.position,
        "seed": recipe.seed,
        "model": recipe.model,
        "digest": recipe.digest,
        "size": recipe.size,
        "width": picture.image.width,
        "height": picture.image.height,
        "device": recipe.device,
        "dtype": recipe.dtype,
        "scores": dict(picture.scores),
        "seconds": round(picture.seconds, 3),
    }
