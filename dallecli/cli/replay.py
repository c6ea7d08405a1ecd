"""`dalle replay`: a picture made again from the recipe that it carries."""

import functools
import time
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, cast

import typer

from dallecli.cli import options
from dallecli.cli.folding import folded
from dallecli.cli.help import MODEL, PICTURES
from dallecli.version import __version__

if TYPE_CHECKING:
    from PIL import Image

    from dallecli.cli.display import Display
    from dallecli.cli.output import Output
    from dallecli.cli.saving import Written
    from dallecli.recipe import Recipe
    from dallecli.source import Source


@dataclass(frozen=True, slots=True, kw_only=True)
class RecipeOptions:
    """What is to be different from a recipe. What is not said is in it, and no environment variable changes that."""

    input: Annotated[
        list[Path] | None,
        typer.Option(
            "--input",
            metavar="FILE|DIR",
            help="Where to look for the pictures that were used, under any name; repeatable.",
            rich_help_panel=PICTURES,
        ),
    ] = None
    model: Annotated[
        str | None,
        typer.Option(
            "--model",
            "-m",
            metavar="NAME|DIR",
            help="Where the recipe's model is, if its name is not known here.",
            autocompletion=options.model_names,
            rich_help_panel=MODEL,
        ),
    ] = None
    device: Annotated[
        str | None,
        typer.Option(
            "--device",
            metavar="NAME",
            help="Another device than the recipe's: cpu, cuda, cuda:1 or mps.",
            rich_help_panel=MODEL,
        ),
    ] = None
    dtype: Annotated[
        str | None,
        typer.Option(
            "--dtype",
            metavar="<fp32|bf16|fp16>",
            help="Another number type than the recipe's.",
            callback=options.known_dtype,
            rich_help_panel=MODEL,
        ),
    ] = None

    def change(self, recipe: "Recipe") -> "Recipe":
        """A recipe with what is different."""
        return replace(
            recipe,
            device=self.device if self.device is not None else recipe.device,
            dtype=self.dtype if self.dtype is not None else recipe.dtype,
            versions={"dallecli": __version__},
        )


@folded
def replay(
    files: options.PictureFiles,
    changes: RecipeOptions,
    memory: options.MemoryOptions,
    server: options.ServerOptions,
    output: options.PictureFileOptions,
    reporting: options.PictureReporting,
) -> None:
    """Make pictures again, from the recipes in them.

    As many threads of a CPU are used as then, and as many pictures are painted at a time, where pixels depend on
    either. With the same weights and versions, and on a processor with the same instructions, every pixel is the
    same; if one is not, it says so. Pictures that were used are found by their content: where they were, beside the
    file, or where --input says.

    \b
    Examples:
      dalle replay a-red-fox-7.png -o again.png
      dalle replay cat-vary-7-grid.png --input ~/photos
    """
    from dallecli.cli.display import Display
    from dallecli.cli.many import OF_INPUTS, Many
    from dallecli.cli.painting import paint, running, summary, warn
    from dallecli.cli.saving import probe
    from dallecli.cli.viewer import show_in_viewer
    from dallecli.errors import UnknownModel, WeightsError
    from dallecli.history import History
    from dallecli.source import read_source

    display, history = Display(quiet=reporting.quiet), History(on=not reporting.no_history)
    engine = server.engine(memory)
    many = Many(len(files), display, as_json=reporting.json, errors=(*OF_INPUTS, UnknownModel, WeightsError))
    places = changes.input if changes.input is not None else []
    originals, jobs = [], []
    for file in files:
        with many.passing_over(file):
            original = _read(read_source(file), places)
            changed = changes.change(original.recipe)
            target = _plan(original, changed, output, results=len(files), as_json=reporting.json)
            jobs.append((engine.revive(changed, changes.model), target))
            originals.append(original)
    probe(jobs, display)
    warn([recipe for recipe, _ in jobs], display)
    recipes, paths, began = [recipe for recipe, _ in jobs], [], time.perf_counter()
    with closing(history), running(recipes, display):
        engine.expect(recipes)
        for original, (recipe, target) in zip(originals, jobs, strict=True):
            with many.passing_over(original.name):
                (written,) = paint(engine, recipe, target, display, history, reporting)
                _compare(original, written, engine.machine(recipe), target.format, display)
                paths.append(written.path)
    if paths:
        display.say(summary(recipes, paths, time.perf_counter() - began))
    if reporting.open:
        show_in_viewer(paths, display)
    many.finish()


@dataclass(frozen=True, slots=True, kw_only=True)
class _Original:
    """A file that is made again: its recipe, with the bytes of the inputs, and its pixels."""

    name: str
    recipe: "Recipe"
    format: "options.Format"
    animated: "options.Animated | None"
    image: "Image.Image"


def _read(source: "Source", places: list[Path]) -> _Original:
    """Raises: BadPicture, BadRecipe, and BadInput for an input that is not found."""
    from dallecli.pictures.formats import opened
    from dallecli.pictures.metadata import read_recipe
    from dallecli.source import locate

    data = source.data if source.data is not None else b""
    recipe = read_recipe(data, where=source.name)
    with opened(data, source.where) as picture:
        image, format = picture.file.convert("RGB"), picture.plain.format
    recipe = recipe.with_sources(lambda wanted: locate(wanted, Path(source.name), places))
    kind = cast("options.Format", format.lower())
    animated: options.Animated | None = None
    if recipe.motion is not None:
        animated = "webp" if kind == "webp" else "apng"
    return _Original(name=source.name, recipe=recipe, format=kind, animated=animated, image=image)


def _plan(
    original: _Original, changed: "Recipe", files: options.PictureFileOptions, *, results: int, as_json: bool
) -> "Output":
    """Where a picture that is made again goes: in the form of the original if nothing else is said."""
    from dallecli.cli.output import plan

    own = original.format if files.output is None else None
    motion = changed.motion
    return plan(
        options.OutputOptions(
            output=files.output,
            out=files.out,
            force=files.force,
            format=files.format if files.format is not None else own,
            no_metadata=files.no_metadata,
        ),
        pictures=changed.count,
        results=results,
        noun="files",
        animation=None
        if motion is None
        else options.AnimationOptions(
            animate=original.animated, fps=motion.fps, bounce=motion.bounce, hold=motion.hold
        ),
        as_json=as_json,
    )


def _compare(
    original: _Original, written: "Written", machine: str, format: "options.Format", display: "Display"
) -> None:
    """Say whether the same picture came out. Where a format loses something, both have to have lost the same.

    `machine` is what painted the new one.
    """
    from PIL import ImageChops

    from dallecli.pictures.formats import opened
    from dallecli.safe import safe

    if "jpeg" in (format, original.format) and format != original.format:
        return
    with opened(written.data, "the new picture") as picture:
        image = picture.file.convert("RGB")
    name = safe(original.name, 200)
    if image.size != original.image.size:
        display.warn(f"{name} is {_sides(original.image)} pixels, what was made from its recipe {_sides(image)}")
        return
    levels = functools.reduce(ImageChops.lighter, ImageChops.difference(image, original.image).split()).histogram()
    most = max(level for level, count in enumerate(levels) if count > 0)
    if most > 0:
        share = 1 - levels[0] / (image.width * image.height)
        machines = f"made: {safe(original.recipe.made_with, 200)}; here: dallecli {__version__}, {machine}"
        display.warn(f"{share:.1%} of the pixels differ from {name}, by up to {most} of 255 ({machines})")
    else:
        display.note(f"every pixel is that of {name}")


def _sides(image: "Image.Image") -> str:
    return f"{image.width} x {image.height}"
