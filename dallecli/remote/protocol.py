"""What an engine and its server say to each other: `dalle-engine/1`, over HTTP.

A question is a POST to /dalle/engine/1/QUESTION with one JSON object. An answer is a stream of frames, each a line of
JSON in ASCII; one that has "bytes" is followed by so many bytes. The last one is {"end": true} or {"error": …}, so
that a stream which just stops is no answer. While nothing happens, {"waiting": N} comes now and then.

Requests travel as the values that the one builder of requests takes, recipes as pictures hold them. The files among
them travel by themselves, to /dalle/inputs/SHA256, and only where the server lacks them; in a message a file is its
sha256 and nothing else, so that no path and no name of a file leaves the machine.

Both sides take the other for a stranger: every table is read strictly, and everything has a bound.
"""

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, cast, get_args

from dallecli import errors
from dallecli.classes import Classes
from dallecli.engine import Progress
from dallecli.errors import BadRecipe, BadSetting, DalleError, RequestError
from dallecli.fields import Fields
from dallecli.knowledge import Knowledge
from dallecli.limits import COUNT_LIMIT, PIXEL_LIMIT, SIDE_LIMIT
from dallecli.recipe import DIAL_LIMIT, Recipe
from dallecli.source import Source, SourceKind
from dallecli.tasks.values import Usual
from dallecli.unknown import Unknown

MAJOR: Final = 1
"""Servers and clients with another number do not understand each other."""
PROTOCOL: Final = f"dalle-engine/{MAJOR}"
ENGINE: Final = "/dalle/engine"
QUESTIONS: Final = f"{ENGINE}/{MAJOR}"
INPUTS: Final = "/dalle/inputs"
LOOKS: Final = "/dalle/looks"

FRAMES: Final = "application/x-dalle-frames"
"""The media type of an answer."""

OTHER_PROTOCOL: Final = "other_protocol"
INPUT_MISSING: Final = "input_missing"
GOING_DOWN: Final = "server_is_going_down"
"""Codes of errors that the engine acts upon."""

QUIET_SECONDS: Final = 10.0
"""After so long without a frame one says that nothing is wrong."""

SHA256: Final = r"[0-9a-f]{64}"

USUAL: Final = "usual"
"""What marks a value in a message that nobody asked for this time."""

_TEXT: Final = 2000
"""So many characters of an error's facts are taken from a server."""


# Files


def file_named(sha256: str, kind: str = "picture") -> dict[str, Any]:
    """A file in a message."""
    return {"kind": kind, "sha256": sha256}


def source_said(source: Source) -> dict[str, Any]:
    """A source in a message: words as they are, a file by its sha256."""
    if source.kind == "text":
        return {"kind": "text", "words": source.name}
    return file_named(str(source.sha256), source.kind)


def source_heard(value: object, find: Callable[[str], bytes]) -> Source:
    """What `source_said` gave, with its bytes, of which the sha256 is the name. Raises BadSetting, and as `find`."""
    fields = Fields(value, BadSetting, where="a file in the message")
    kind = cast(SourceKind, fields.choice("kind", get_args(SourceKind)))
    if kind == "text":
        source = Source(kind="text", name=fields.text("words"))
    else:
        sha256 = fields.match("sha256", SHA256, "a sha256")
        source = Source(kind=kind, name=sha256, sha256=sha256, data=find(sha256))
    fields.finish()
    return source


def hidden(source: Source) -> Source:
    """A source whose name says nothing of this machine."""
    return source if source.kind == "text" else replace(source, name=str(source.sha256))


def values_said(values: Mapping[str, object]) -> dict[str, Any]:
    """The values of a request in a message."""

    return {name: _value_said(value) for name, value in values.items()}


def _value_said(value: object) -> object:
    if isinstance(value, Usual):
        return {USUAL: value.value}
    if isinstance(value, Source):
        return source_said(value)
    return [_value_said(part) for part in value] if isinstance(value, list | tuple) else value


def values_heard(values: Mapping[str, object], find: Callable[[str], bytes]) -> dict[str, object]:
    """What `values_said` gave, with the bytes of the files. Raises BadSetting, and as `find`."""

    def heard(name: str, value: object, *, inside: bool) -> object:
        if isinstance(value, dict) and set(value) == {USUAL} and not inside:
            return Usual(heard(name, value[USUAL], inside=True))
        if isinstance(value, dict):
            return source_heard(value, find)
        if isinstance(value, list) and inside:
            raise BadSetting(f"{name!r} is a list of lists")
        return [heard(name, part, inside=True) for part in value] if isinstance(value, list) else value

    return {name: heard(name, value, inside=False) for name, value in values.items()}


def files_named(message: object) -> set[str]:
    """The sha256 of every file in a message."""
    found: set[str] = set()
    left = [message]
    while left:  # not by calls of itself: a message may be nested as deeply as JSON may
        value = left.pop()
        if isinstance(value, dict):
            sha256 = value.get("sha256")
            if isinstance(sha256, str) and re.fullmatch(SHA256, sha256):
                found.add(sha256)
            left += value.values()
        elif isinstance(value, list):
            left += value
    return found


# Recipes


def recipe_said(recipe: Recipe) -> dict[str, Any]:
    """A recipe in a message, without its warnings."""
    said = recipe.with_sources(hidden).to_dict()
    for source in said["inputs"]:
        source.pop("data", None)  # it travels as every other file does
    return said


def recipe_heard(value: object, find: Callable[[str], bytes]) -> Recipe:
    """What `recipe_said` gave, with the bytes of the files. Raises BadRecipe, and as `find`."""

    def found(source: Source) -> Source:
        if source.kind == "text":
            return source
        if source.sha256 is None or source.name != source.sha256:
            raise BadRecipe("a file in a recipe that travels is called by its sha256")
        return replace(source, data=find(source.sha256))

    return Recipe.from_dict(value).with_sources(found)


def settled_said(recipe: Recipe) -> dict[str, Any]:
    """A recipe with what only whoever asked has to know."""
    unknown = {**recipe.unknown.to_dict(), "listed": recipe.unknown.listed}
    return {"recipe": recipe_said(recipe), "warnings": list(recipe.warnings), "unknown": unknown}


def unknown_heard(fields: Fields) -> Unknown:
    """The "unknown" of a message."""
    unknown = Unknown(words=fields.texts("words"), pictures=fields.texts("pictures"), listed=fields.flag("listed"))
    fields.finish()
    return unknown


def knowledge_said(knowledge: Knowledge) -> dict[str, Any]:
    """What a model knows."""
    words = {kind: {word: list(others) for word, others in known.items()} for kind, known in knowledge.words.items()}
    classes = None if knowledge.classes is None else list(knowledge.classes.lines)
    return {"words": words, "classes": classes, "prompts": knowledge.prompts}


def knowledge_heard(fields: Fields) -> Knowledge:
    """What `knowledge_said` gave. Raises as the fields."""
    kinds = fields.table("words")
    words = {kind: {word: table.texts(word) for word in table} for kind in kinds if (table := kinds.table(kind))}
    classes = None if fields.null("classes") else Classes(fields.texts("classes", least=1))
    prompts = fields.flag("prompts")
    fields.finish()
    return Knowledge(words=words, classes=classes, prompts=prompts)


class Restored:
    """Puts back into an answer the names that its question did not have.

    sources: those of the question, in the order in which a recipe has them.
    """

    def __init__(self, sources: Sequence[Source]) -> None:
        self._sources = sources
        self._files = {source.sha256: source for source in reversed(sources) if source.sha256 is not None}

    def text(self, text: str) -> str:
        """A text of the server, with the files as errors call them."""
        for sha256, source in self._files.items():
            text = text.replace(sha256, source.where)
        return text

    def name(self, name: str) -> str:
        """The name of something that was made of our files, with these as recipes call them."""
        for sha256, source in self._files.items():
            name = name.replace(sha256, source.recorded().name)
        return name

    def recipe(self, recipe: Recipe) -> Recipe:
        """A recipe of the server, with the names and the bytes of our files. Raises BadRecipe if it has others."""
        ours = iter(self._sources)

        def own(theirs: Source) -> Source:
            source = next(ours, None)
            if source is None or (source.kind, hidden(source).name) != (theirs.kind, theirs.name):
                raise BadRecipe("the recipe starts from something else than was asked")
            return source.recorded()

        restored = recipe.with_sources(own)
        if next(ours, None) is not None:
            raise BadRecipe("the recipe does not start from all that was asked")
        return restored

    def unknown(self, unknown: Unknown) -> Unknown:
        """What a server's model does not know."""
        return replace(unknown, pictures=tuple(self.text(name) for name in unknown.pictures))

    def settled(self, fields: Fields) -> Recipe:
        """What `settled_said` gave. Raises BadRecipe, and as the fields."""
        recipe = self.recipe(Recipe.from_dict(fields.take("recipe")))
        warnings = tuple(self.text(warning) for warning in fields.texts("warnings"))
        return replace(recipe, warnings=warnings, unknown=self.unknown(unknown_heard(fields.table("unknown"))))

    def error(self, error: DalleError) -> DalleError:
        """An error of the server, about our files."""
        error.what = self.text(error.what)
        error.where = None if error.where is None else self.text(error.where)
        error.hint = None if error.hint is None else self.text(error.hint)
        return error


# Progress


def step_said(progress: Progress) -> dict[str, Any]:
    """A step of a stage."""
    return {
        "stage": progress.stage,
        "step": progress.step,
        "steps": progress.steps,
        "picture": progress.picture,
        "pictures": progress.pictures,
        "together": progress.together,
        "square": progress.square,
        "squares": progress.squares,
        "look": progress.look is not None,
    }


def step_heard(fields: Fields) -> Progress:
    """What `step_said` gave, without something to look at; whether there is anything is left in `fields`."""
    progress = Progress(
        stage=fields.match("stage", r"[a-z0-9_]{1,64}"),
        step=fields.whole("step", least=1, most=DIAL_LIMIT),
        steps=fields.whole("steps", least=1, most=DIAL_LIMIT),
        picture=fields.whole("picture", least=0, most=COUNT_LIMIT),
        pictures=fields.whole("pictures", least=1, most=COUNT_LIMIT),
        together=fields.whole("together", least=1, most=COUNT_LIMIT),
        square=fields.whole("square", least=0, most=DIAL_LIMIT),
        squares=fields.whole("squares", least=1, most=DIAL_LIMIT),
    )
    return progress


# Numbers and pixels


def number_heard(value: object) -> float:
    """A number of a message, where JSON has null for those that it does not know. Raises ValueError."""
    if value is None:
        return math.nan
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ValueError("this is no number")
    return float(value)


def check_sides(width: int, height: int) -> int:
    """How many bytes the pixels of a picture take, in RGB. Raises ValueError for sides that no picture has."""
    if not (1 <= width <= SIDE_LIMIT and 1 <= height <= SIDE_LIMIT and width * height <= PIXEL_LIMIT):
        raise ValueError(f"no picture has {width} x {height} pixels")
    return 3 * width * height


# Errors


def _kinds(kind: type[DalleError]) -> Iterator[type[DalleError]]:
    yield kind
    for inner in kind.__subclasses__():
        yield from _kinds(inner)


KINDS: Final[Mapping[str, type[DalleError]]] = {
    kind.__name__: kind for kind in _kinds(DalleError) if kind.__module__ == errors.__name__
}
"""The errors that a server can name. One that it has and we do not becomes a `RequestError`."""


def error_heard(value: object) -> DalleError:
    """The error whose `facts` these are. Raises ValueError for what are no facts."""
    if not isinstance(value, dict):
        raise ValueError("this is no error")
    what, where, hint = (value.get(name) for name in ("what", "where", "hint"))
    if not isinstance(what, str) or not all(text is None or isinstance(text, str) for text in (where, hint)):
        raise ValueError("this is no error")
    kind = KINDS.get(str(value.get("error")), RequestError)
    cut = [None if text is None else text[:_TEXT] for text in (what, where, hint)]
    return kind(str(cut[0]), cut[1], cut[2])
