"""`--x` and `--y`: one sheet with a picture for every pair of values of two options."""

from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dallecli.batch.jobs import Reader
from dallecli.batch.prompt_file import Line
from dallecli.batch.wildcards import Wildcards, escaped
from dallecli.cli.display import Display, emit, emit_json, emit_line
from dallecli.cli.output import Output, picture_record, probe, put
from dallecli.cli.painting import foretell, warn
from dallecli.cli.run import Run
from dallecli.errors import BadSetting, RequestError
from dallecli.filling import random_seed
from dallecli.history import History
from dallecli.pictures.formats import FORMATS
from dallecli.pictures.names import file_name
from dallecli.pictures.picture import Picture, encode
from dallecli.pictures.sheets import Tile, contact_sheet
from dallecli.recipe import Recipe
from dallecli.tasks.task import COUNT_LIMIT, Request

TILE = 512
"""The most pixels that the side of a picture has on the sheet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Axis:
    """An option and the values that it goes through."""

    name: str
    values: tuple[str, ...]

    @property
    def titles(self) -> list[str]:
        """What stands at its rows or columns; a sentence speaks for itself."""
        return [value if self.name == "prompt" else f"{self.name} {value}" for value in self.values]


def read_axis(text: str | None) -> Axis | None:
    """What `--x steps=10,25` means; sentences are separated by bars. Raises BadSetting."""
    if text is None:
        return None
    name, _, rest = text.partition("=")
    name = name.strip().replace("-", "_")
    values = tuple(value.strip() for value in rest.split("|" if "|" in rest or name == "prompt" else ","))
    if not name or not all(values):
        raise BadSetting(f"the axis {text!r} means nothing", hint="--x steps=10,25,50, or --x 'prompt=a fox|a dog'")
    if name in ("command", "name", "n"):
        raise BadSetting(f"{name} cannot be an axis of a sheet")
    return Axis(name=name, values=values)


def paint_axes(
    prompts: Sequence[str],
    x: Axis | None,
    y: Axis | None,
    values: Mapping[str, object],
    output: Output,
    run: Run,
) -> None:
    """Paint a sentence with every pair of values, all with one seed unless that is an axis, onto one sheet.

    `values` are for what the axes do not say.

    Raises: as `dalle generate`, with the pair that is to blame; BadSetting for too many pictures.
    """
    if len(prompts) > 1:
        raise BadSetting("the pictures of a sheet with axes are of one prompt", hint="--y 'prompt=a fox|a dog'")
    (prompt,) = prompts
    engine, display = run.engine(), Display(quiet=run.quiet)
    seed = values.get("seed")
    reader = Reader(
        command="generate",
        defaults={**values, "n": 1, "seed": seed if seed is not None else random_seed()},
        wildcards=Wildcards(Path()),
    )
    across, down = (axis.values if axis is not None else (None,) for axis in (x, y))
    if len(across) * len(down) > COUNT_LIMIT:
        raise BadSetting(f"{len(across)} x {len(down)} pictures are too many", hint=f"at most {COUNT_LIMIT}")
    requests: list[Request] = []
    recipes: list[Recipe] = []
    for below in down:
        for beside in across:
            pair = {axis.name: value for axis, value in ((x, beside), (y, below)) if axis is not None}
            try:
                (job,) = reader.jobs(Line(number=1, values={"prompt": escaped(prompt)} | _sentences(pair)))
                requests.append(job.request)
                recipes.append(engine.resolve(job.request))
            except RequestError as error:
                said = ", ".join(f"{name} {value}" for name, value in pair.items())
                raise type(error)(error.what, where=said, hint=error.hint) from error
    if run.dry_run:
        foretell(requests, run)
        return
    probe([(recipe, output) for recipe in recipes])
    warn(recipes, display)
    painted: list[Picture] = []
    for recipe in recipes:
        with display.opening(recipe.model):
            painted += engine.paint(recipe, display.progress)
    sheet = contact_sheet(
        [Tile(image=picture.image) for picture in painted],
        len(across),
        min(TILE, max(recipe.size for recipe in recipes)),
        column_titles=x.titles if x is not None else (),
        row_titles=y.titles if y is not None else (),
    )
    data = encode(sheet, output.format, None)
    path = put(output.place, _name(prompt, recipes[0], x, y, FORMATS[output.format]), data)
    if path is None:
        emit(data)
        return
    with closing(History(on=run.history)) as history:
        history.remember(path, recipes[0], recipes[0].seed)
    if run.as_json:
        for k, picture in enumerate(painted):
            emit_json(picture_record(picture, k, path, (k % len(across), k // len(across))))
    else:
        emit_line(str(path))
    if run.preview:
        display.preview(sheet)


def _sentences(pair: Mapping[str, str | None]) -> dict[str, object]:
    """The values of a pair; sentences stand for themselves, whatever braces are in them."""
    return {name: escaped(value) if name == "prompt" and value is not None else value for name, value in pair.items()}


def _name(prompt: str, recipe: Recipe, x: Axis | None, y: Axis | None, suffix: str) -> str:
    axes = "-".join(axis.name.replace("_", "-") for axis in (x, y) if axis is not None)
    return file_name(prompt, recipe.seed, suffix, f"-by-{axes}")
