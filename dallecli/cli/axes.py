"""`--x` and `--y`: one sheet with a picture for every pair of values of two options."""

import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from dallecli.batch.jobs import Reader
from dallecli.batch.prompt_file import Line
from dallecli.batch.wildcards import Wildcards, escaped
from dallecli.cli.destination import probe_destination, put
from dallecli.cli.display import Display, emit, emit_json, emit_line
from dallecli.cli.options import PaintingReporting
from dallecli.cli.output import Output
from dallecli.cli.painting import describe, running, say_passes, say_rewritten, summary, warn
from dallecli.cli.results import note
from dallecli.cli.viewer import show_in_viewer
from dallecli.engine import Engine
from dallecli.errors import BadSetting, RequestError
from dallecli.filling import check_kept, random_seed
from dallecli.history import History
from dallecli.limits import COUNT_LIMIT
from dallecli.pictures.formats import FORMATS
from dallecli.pictures.names import file_name
from dallecli.pictures.picture import Picture, encode
from dallecli.pictures.record import picture_record
from dallecli.pictures.sheets import Tile, contact_sheet
from dallecli.publish import check_file
from dallecli.recipe import Recipe

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Axes:
    """A column for each value of `x`, and a row for each of `y`; without one of them there is one column, or row."""

    x: Axis | None
    y: Axis | None

    @property
    def columns(self) -> int:
        return len(self.x.values) if self.x is not None else 1

    @property
    def rows(self) -> int:
        return len(self.y.values) if self.y is not None else 1

    @property
    def names(self) -> list[str]:
        return [axis.name for axis in (self.x, self.y) if axis is not None]

    @property
    def pairs(self) -> list[dict[str, str]]:
        """The values of each picture, row by row."""
        across, down = _choices(self.x), _choices(self.y)
        return [beside | below for below in down for beside in across]


def _choices(axis: Axis | None) -> list[dict[str, str]]:
    return [{axis.name: value} for value in axis.values] if axis is not None else [{}]


def paint_axes(
    task: str,
    values: Mapping[str, object],
    axes: Axes,
    output: Output,
    engine: Engine,
    reporting: PaintingReporting,
) -> None:
    """Paint one request with every pair of values, all with one seed unless that is an axis, onto one sheet.

    `values` are for what the axes do not say; files among them are read already.

    Raises: as the task's command, with the pair that is to blame; BadSetting for too many pictures.
    """
    recipes = _resolve(task, values, axes, engine)
    if reporting.dry_run:
        describe(recipes, engine, reporting)
        return
    display = Display(quiet=reporting.quiet)
    name = _name(values, recipes[0], axes, FORMATS[output.format])
    _probe(recipes, output, name, display)
    say_rewritten(recipes, display)
    warn(recipes, display)
    say_passes(recipes, display)
    painted: list[Picture] = []
    began = time.perf_counter()
    with running(recipes, display):
        engine.expect(recipes)
        for recipe in recipes:
            display.begin()
            painted += engine.paint(recipe, display.progress)
    sheet = contact_sheet(
        [Tile(image=picture.image) for picture in painted],
        axes.columns,
        min(TILE, max(recipe.picture_size.longer for recipe in recipes)),
        column_titles=axes.x.titles if axes.x is not None else (),
        row_titles=axes.y.titles if axes.y is not None else (),
    )
    data = encode(sheet, output.format, None)
    path = put(output.destination, name, data)
    note(path)
    if path is None:
        emit(data)
    else:
        with closing(History(on=not reporting.no_history)) as history:
            history.remember(path, recipes[0], recipes[0].seed)
        _announce(painted, path, axes, as_json=reporting.json)
    display.say(summary(recipes, [path], time.perf_counter() - began))
    if reporting.preview:
        display.preview(sheet)
    if reporting.open:
        show_in_viewer([path], display)


def _resolve(task: str, values: Mapping[str, object], axes: Axes, engine: Engine) -> list[Recipe]:
    if axes.columns * axes.rows > COUNT_LIMIT:
        raise BadSetting(f"{axes.columns} x {axes.rows} pictures are too many", hint=f"at most {COUNT_LIMIT}")
    seed = values.get("seed")
    defaults = {**_literal(values), "n": 1, "seed": seed if seed is not None else random_seed()}
    reader = Reader(command=task, defaults=defaults, wildcards=Wildcards(Path()))
    recipes = []
    for pair in axes.pairs:
        try:
            (job,) = reader.jobs(Line(number=1, values=_literal(pair)))
            recipe = engine.resolve(job.request)
            if recipe.count > 1:
                raise BadSetting(f"each pair of values is one picture, not {recipe.count}")
        except RequestError as error:
            said = ", ".join(f"{name} {value}" for name, value in pair.items())
            raise type(error)(error.what, where=said, hint=error.hint) from error
        recipes.append(recipe)
        check_kept(axes.columns * axes.rows, recipe.size)
    return recipes


def _probe(recipes: Sequence[Recipe], output: Output, name: str, display: Display) -> None:
    """Find out, by trying, that the sheet can be written. Raises BadOutput, DiskFull."""
    destination = output.destination
    probe_destination(destination, sum(2 * 3 * recipe.size.pixels for recipe in recipes), display)
    if destination.force and not destination.certain:
        check_file(destination.folder / name, force=True)


def _literal(values: Mapping[str, object]) -> dict[str, object]:
    """The same values, with a prompt that stands for itself, whatever braces are in it."""
    prompt = values.get("prompt")
    return {**values, "prompt": escaped(prompt)} if isinstance(prompt, str) else dict(values)


def _name(values: Mapping[str, object], recipe: Recipe, axes: Axes, suffix: str) -> str:
    prompt = values.get("prompt")
    title = prompt if isinstance(prompt, str) and "prompt" in axes.names else recipe.title
    names = "-".join(name.replace("_", "-") for name in axes.names)
    return file_name(title, recipe.seed, suffix, f"-by-{names}")


def _announce(painted: Sequence[Picture], path: Path, axes: Axes, *, as_json: bool) -> None:
    if as_json:
        for k, picture in enumerate(painted):
            emit_json(picture_record(picture, k, path, (k % axes.columns, k // axes.columns)))
    else:
        emit_line(str(path))
