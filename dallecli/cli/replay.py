"""`dalle replay`: a picture made again from the recipe that it carries."""

import functools
import io
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, cast

from dallecli import __version__
from dallecli.cli import options

if TYPE_CHECKING:
    from PIL import Image

    from dallecli.cli.display import Display
    from dallecli.cli.output import Written
    from dallecli.recipe import Recipe
    from dallecli.source import Source


def replay(
    files: options.PictureFiles,
    inputs: options.Places = None,
    model: options.OtherModel = None,
    device: options.OtherDevice = None,
    dtype: options.OtherDtype = None,
    memory: options.Memory = "auto",
    output: options.OutputFile = None,
    out: options.OutputFolder = None,
    format: options.FormatOption = None,
    no_metadata: options.NoMetadata = False,
    force: options.Force = False,
    preview: options.Preview = False,
    no_history: options.NoHistory = False,
    json: options.Json = False,
    quiet: options.Quiet = False,
    debug: options.Debug = False,
) -> None:
    """Make pictures again, from the recipes in them.

    With the same weights and versions, on the same machine, every pixel is the same; if one is not, it says so.
    Pictures that were used are found by their content: where they were, beside the file, or where --input says.

    \b
    Examples:
      dalle replay a-red-fox-7.png -o again.png
      dalle replay cat-vary-7-grid.png --input ~/photos
    """
    from dallecli.cli.display import Display
    from dallecli.cli.output import plan, probe
    from dallecli.cli.painting import paint, warn
    from dallecli.cli.run import Run
    from dallecli.history import History
    from dallecli.source import read_source

    run = Run(memory, preview=preview, as_json=json, quiet=quiet, history=not no_history)
    display, history, engine = Display(quiet=run.quiet), History(on=run.history), run.engine()
    originals = [_read(read_source(file), inputs if inputs is not None else []) for file in files]
    jobs = []
    for original in originals:
        changed = _changed(original.recipe, model, device, dtype)
        target = plan(
            file=output,
            folder=out,
            layout="grid",
            format=format if format is not None or output is not None else original.format,
            metadata=not no_metadata,
            force=force,
            pictures=changed.count,
            results=len(files),
            noun="files",
            animated=original.animated,
            motion=changed.motion,
            as_json=json,
        )
        jobs.append((engine.revive(changed), target))
    probe(jobs)
    warn([recipe for recipe, _ in jobs], display)
    for original, (recipe, target) in zip(originals, jobs, strict=True):
        (written,) = paint(engine, recipe, target, display, history, run)
        _compare(original, written, target.format, display)


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
    recipe = read_recipe(io.BytesIO(data), where=source.name)
    with opened(io.BytesIO(data), source.name) as file:
        image, format = file.convert("RGB"), file.format
    recipe = recipe.with_sources(lambda wanted: locate(wanted, Path(source.name), places))
    kind = cast("options.Format", str(format).lower())
    animated: options.Animated | None = None
    if recipe.motion is not None:
        animated = "webp" if kind == "webp" else "apng"
    return _Original(name=source.name, recipe=recipe, format=kind, animated=animated, image=image)


def _changed(recipe: "Recipe", model: str | None, device: str | None, dtype: str | None) -> "Recipe":
    return replace(
        recipe,
        model=model if model is not None else recipe.model,
        device=device if device is not None else recipe.device,
        dtype=dtype if dtype is not None else recipe.dtype,
        versions={"dallecli": __version__},
    )


def _compare(original: _Original, written: "Written", format: "options.Format", display: "Display") -> None:
    """Say whether the same picture came out. Where a format loses something, both have to have lost the same."""
    from PIL import ImageChops

    from dallecli.pictures.formats import opened
    from dallecli.safe import safe

    if "jpeg" in (format, original.format) and format != original.format:
        return
    with opened(io.BytesIO(written.data), "the new picture") as file:
        image = file.convert("RGB")
    name = safe(original.name, 200)
    if image.size != original.image.size:
        display.warn(f"{name} is {_sides(original.image)} pixels, what was made from its recipe {_sides(image)}")
        return
    levels = functools.reduce(ImageChops.lighter, ImageChops.difference(image, original.image).split()).histogram()
    most = max(level for level, count in enumerate(levels) if count > 0)
    if most > 0:
        share = 1 - levels[0] / (image.width * image.height)
        made = safe(", ".join(f"{what} {version}" for what, version in original.recipe.versions.items()), 100)
        display.warn(f"{share:.1%} of the pixels differ from {name}, by up to {most} of 255 (made: {made})")
    else:
        display.note(f"every pixel is that of {name}")


def _sides(image: "Image.Image") -> str:
    return f"{image.width} x {image.height}"
