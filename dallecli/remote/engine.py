"""An engine that lets a running `dalle serve` compute: the whole contract over HTTP, and no torch here."""

import logging
import math
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeVar

from dallecli.engine import Progress
from dallecli.errors import BadRecipe, DalleError, NetworkError, UnknownModel
from dallecli.fields import Fields
from dallecli.knowledge import Knowledge
from dallecli.limits import JSON_BYTES, TOGETHER
from dallecli.recipe import Recipe
from dallecli.remote.choice import SAID
from dallecli.remote.connection import Frame, InputMissing, Server
from dallecli.remote.protocol import (
    LOOKS,
    Restored,
    check_sides,
    knowledge_heard,
    number_heard,
    recipe_said,
    step_heard,
    unknown_heard,
    values_said,
)
from dallecli.source import Source
from dallecli.tasks.coding import Coding
from dallecli.tasks.embed import Embed
from dallecli.tasks.task import SEED_LIMIT, Request

if TYPE_CHECKING:
    from PIL.Image import Image

    from dallecli.codes_file import Coded
    from dallecli.embedding_file import Embedded
    from dallecli.pictures.picture import Picture
    from dallecli.shortlist import Scores

T = TypeVar("T")

log = logging.getLogger(__name__)

CHUNK: Final = 16
"""So many pictures of one recipe are asked for at a time, so that others have their turn in between."""

HUB: Final = "hf:"
"""What a name of a model begins with that has a slash and is no folder."""

_MESSAGE_BYTES: Final = JSON_BYTES // 2
"""What recipes of one message take together."""


class RemoteEngine:
    """Asks a server, and is otherwise what every engine is. Pictures, recipes and errors are those of the server.

    Files are sent where the server lacks them, without their names. A best-of is painted at once, and so is everything
    with inputs; of other recipes so many pictures at a time that no other client waits for all of them.

    All methods raise, besides what they raise on the machine that paints: NetworkError where the server is lost, or
    answers what it should not; UnknownModel for a folder of this machine.
    """

    def __init__(self, server: Server) -> None:
        self._server = server
        self._sent: set[str] = set()
        self._known: dict[tuple[object, ...], Any] = {}
        self._expected: list[Recipe] = []

    def resolve(self, request: Request) -> Recipe:
        _check_names(request.model, request.judge)
        restored = Restored(request.sources)
        message = {"task": request.task, "values": values_said(request.to_values())}
        recipe = self._settled("resolve", message, restored, request.sources)
        if (recipe.task, recipe.prompt) != (request.task, request.words):
            raise self._server.odd(BadRecipe("a recipe of something else"))
        return replace(recipe, rewritten=request.rewritten)

    def revive(self, recipe: Recipe, model: str | None = None) -> Recipe:
        _check_names(model, None)
        message = {"recipe": recipe_said(recipe), "model": model}
        return self._settled("revive", message, Restored(recipe.sources), recipe.sources)

    def paint(
        self, recipe: Recipe, progress: Callable[[Progress], None], scores: "Scores | None" = None
    ) -> Iterator["Picture"]:
        if recipe.settings.best_of is not None:
            known = [] if scores is None else [[seed, score] for seed, score in scores.known.items()]
            yield from self._paint("paint", [recipe], progress, {"scores": known}, scores)
            return
        for first, part in self._parts(recipe):

            def watch(step: Progress, first: int = first) -> None:
                progress(replace(step, picture=step.picture + first, pictures=recipe.count))

            yield from self._paint("paint", [part], watch, {})

    def group(self, recipe: Recipe) -> int:
        found = self._once("group", recipe, recipe.model, recipe.device, recipe.dtype)
        return self._whole(found, least=1)

    def paint_together(self, recipes: Sequence[Recipe], progress: Callable[[Progress], None]) -> Iterator["Picture"]:
        first = 0
        for several in _messages(recipes):

            def watch(step: Progress, first: int = first) -> None:
                progress(replace(step, picture=step.picture + first, pictures=len(recipes)))

            yield from self._paint("paint_together", several, watch, {})
            first += len(several)

    def reads_ahead(self, recipe: Recipe) -> bool:
        return self._once("reads_ahead", recipe, recipe.model) is True

    def expect(self, recipes: Sequence[Recipe]) -> None:
        """Said to the server with the next picture: others may use it in between."""
        alone = [recipe for recipe in recipes if not recipe.sources]
        ahead = len(alone) > 1 and self.reads_ahead(alone[0])
        self._expected = next(_messages(alone), []) if ahead else []

    def machine(self, recipe: Recipe) -> str:
        return self._text(self._about("machine", recipe))

    def digest(self, recipe: Recipe) -> str:
        return self._text(self._about("digest", recipe))

    def judge_digest(self, recipe: Recipe) -> str | None:
        found = self._about("judge_digest", recipe)
        return None if found is None else self._text(found)

    def knowledge(self, model: str) -> Knowledge:
        _check_names(model, None)
        (frame,) = self._ask("knowledge", {"model": model}, (), "knowledge", 1, Restored(()))
        try:
            return knowledge_heard(Fields(frame.value, NetworkError))
        except DalleError as error:
            raise self._server.odd(error) from error

    def memory(self, recipe: Recipe) -> str:
        return self._text(self._about("memory", recipe))

    def embed(self, request: Embed, progress: Callable[[Progress], None]) -> "list[Embedded]":
        from dallecli.embedding_file import read_embedding

        restored = Restored(request.sources)

        def heard(frame: Frame, _: int) -> "Embedded":
            fields = Fields(frame.value, NetworkError)
            unknown = restored.unknown(unknown_heard(fields.table("unknown")))
            fields.finish()
            found = read_embedding(_as_file(frame.data))
            return replace(found, name=restored.name(found.name), unknown=unknown)

        return self._work("embed", request, "embedding", heard, progress)

    def encode(self, request: Coding, progress: Callable[[Progress], None]) -> "list[Coded]":
        from dallecli.codes_file import read_codes

        def heard(frame: Frame, k: int) -> "Coded":
            return replace(read_codes(_as_file(frame.data)), name=request.inputs[k].recorded().name)

        return self._work("encode", request, "codes", heard, progress)

    def decode(self, request: Coding, progress: Callable[[Progress], None]) -> "list[Image]":
        return self._work("decode", request, "image", lambda frame, _: _image(frame), progress)

    # Questions with one answer

    def _settled(
        self, question: str, message: Mapping[str, Any], restored: Restored, sources: Sequence[Source]
    ) -> Recipe:
        """A recipe that the server has settled."""
        (frame,) = self._ask(question, message, sources, "settled", 1, restored)
        try:
            fields = Fields(frame.value, NetworkError)
            recipe = restored.settled(fields)
            fields.finish()
        except DalleError as error:
            raise self._server.odd(error) from error
        return recipe

    def _about(self, question: str, recipe: Recipe) -> object:
        """What the server says of a recipe."""
        message = {"recipe": recipe_said(recipe)}
        (frame,) = self._ask(question, message, recipe.sources, "value", 1, Restored(recipe.sources))
        return frame.value

    def _once(self, question: str, recipe: Recipe, *decides: object) -> object:
        """The same where it is asked for every picture, and depends on little."""
        key = (question, *decides)
        if key not in self._known:
            self._known[key] = self._about(question, recipe)
        return self._known[key]

    def _text(self, value: object) -> str:
        if not isinstance(value, str):
            raise self._server.odd(ValueError(f"{value!r:.40} is no text"))
        return value

    def _whole(self, value: object, *, least: int) -> int:
        if type(value) is not int or value < least:
            raise self._server.odd(ValueError(f"{value!r:.40} is no number of pictures"))
        return value

    # Questions with several answers

    def _work(
        self,
        question: str,
        request: Embed | Coding,
        kind: str,
        heard: Callable[[Frame, int], T],
        progress: Callable[[Progress], None],
    ) -> list[T]:
        """What the server makes of each input of a request."""
        _check_names(request.model, None)
        message, count = {"values": values_said(request.to_values())}, len(request.inputs)
        frames = self._ask(question, message, request.sources, kind, count, Restored(request.sources), progress)
        found = []
        for k, frame in enumerate(frames):
            try:
                found.append(heard(frame, k))
            except (DalleError, ValueError) as error:
                raise self._server.odd(error) from error
        return found

    def _paint(
        self,
        question: str,
        recipes: Sequence[Recipe],
        progress: Callable[[Progress], None],
        more: Mapping[str, Any],
        scores: "Scores | None" = None,
    ) -> Iterator["Picture"]:
        """The pictures of one message."""
        sources = [source for recipe in recipes for source in recipe.sources]
        expected, self._expected = self._expected, []
        message: dict[str, Any] = {"recipes": [recipe_said(recipe) for recipe in recipes], **more}
        if expected:
            message["expected"] = [recipe_said(recipe) for recipe in expected]
        count = sum(recipe.count for recipe in recipes)
        frames = self._ask(question, message, sources, "picture", count, Restored(sources), progress, scores)
        for k, frame in enumerate(frames):
            recipe = recipes[k] if len(recipes) > 1 else recipes[0]
            try:
                picture = _picture(frame, recipe)
            except (DalleError, ValueError) as error:
                raise self._server.odd(error) from error
            yield picture

    def _ask(
        self,
        question: str,
        message: Mapping[str, Any],
        sources: Sequence[Source],
        kind: str,
        count: int,
        restored: Restored,
        progress: Callable[[Progress], None] | None = None,
        scores: "Scores | None" = None,
    ) -> Iterator[Frame]:
        """The `count` frames of a `kind` that a question is answered with; what comes in between is taken care of.

        Files that the server lacks are sent before.
        """
        hearing = _Hearing(self._server, kind, count, progress, scores)
        for attempt in range(3):
            self._send(sources)
            try:
                with self._server.ask(question, message) as frames:
                    yield from hearing.hear(frames)
                return
            except InputMissing as error:
                self._sent.clear()
                if attempt == 2:
                    raise self._server.odd(error) from error
            except DalleError as error:
                restored.error(error)
                raise

    def _send(self, sources: Sequence[Source]) -> None:
        """Let the server have the files of these."""
        for source in sources:
            sha256, data = source.sha256, source.data
            if source.kind == "text" or sha256 is None or data is None or sha256 in self._sent:
                continue
            if not self._server.has_input(sha256):
                self._server.put_input(sha256, data)
            self._sent.add(sha256)

    def _parts(self, recipe: Recipe) -> Iterator[tuple[int, Recipe]]:
        """A recipe in parts that are painted one after the other, each with the number of its first picture.

        As many pictures as are painted at a time stay together, so that they are rounded as they would be otherwise.
        """
        size = recipe.count
        if size > CHUNK and recipe.single(0).has_company:
            group = self.group(recipe)
            size = math.ceil(CHUNK / group) * group
        for first in range(0, recipe.count, size):
            yield first, recipe.part(first, size)


class _Hearing:
    """The frames of one answer."""

    def __init__(
        self,
        server: Server,
        kind: str,
        count: int,
        progress: Callable[[Progress], None] | None,
        scores: "Scores | None",
    ) -> None:
        self._server = server
        self._kind = kind
        self._count = count
        self._progress = progress
        self._scores = scores
        self._job = ""
        self._waits = False

    def hear(self, frames: Iterator[Frame]) -> Iterator[Frame]:
        """Those that are wanted, all of them. Raises NetworkError for others, fewer or more."""
        come = 0
        for frame in frames:
            if frame.name == self._kind and come < self._count:
                come += 1
                yield frame
                continue
            try:
                tell = self._beside(frame)
            except (NetworkError, ValueError) as error:
                raise self._server.odd(error) from error
            tell()
        if come != self._count:
            raise self._server.odd(ValueError(f"it sends {come} of {self._count}"))

    def _beside(self, frame: Frame) -> Callable[[], None]:
        """What is to be done for a frame that is not wanted for itself. Raises NetworkError, ValueError."""
        fields = Fields({frame.name: frame.value}, NetworkError)
        if frame.name == "job":
            self._job = fields.match("job", "[0-9a-f]{32}")
        elif frame.name == "waiting":
            return partial(self._wait, fields.whole("waiting", least=0))
        elif frame.name == "step":
            return partial(self._step, *self._step_of(fields.table("step")))
        elif frame.name == "score" and self._scores is not None:
            score = fields.table("score")
            seed, found = score.whole("seed", least=0, most=SEED_LIMIT), number_heard(score.take("score"))
            score.finish()
            return partial(self._scores.note, seed, found)
        else:
            raise ValueError(f"{frame.name!r:.40} is no answer to this")
        return _nothing

    def _step_of(self, fields: Fields) -> tuple[Progress, bool]:
        step, seen = step_heard(fields), fields.flag("look")
        fields.finish()
        return step, seen and self._job != ""

    def _step(self, step: Progress, seen: bool) -> None:
        if self._progress is not None:
            self._progress(replace(step, look=self._look) if seen else step)

    def _wait(self, waiting: int) -> None:
        """Nothing is painted for us yet; said once."""
        if waiting > 0 and not self._waits:
            self._waits = True
            count = "1 picture is" if waiting == 1 else f"{waiting} pictures are"
            log.log(SAID, "the server paints for others first: %s waiting", count)

    def _look(self) -> "list[Image]":
        """The unfinished pictures as they are now; none where they are finished meanwhile."""
        with suppress(DalleError):
            return [_image(frame) for frame in self._server.read(f"{LOOKS}/{self._job}") if frame.name == "image"]
        return []


def _nothing() -> None:
    """What is to be done for a frame that only says something."""


def _picture(frame: Frame, recipe: Recipe) -> "Picture":
    """A picture of a frame. Raises BadRecipe, NetworkError, ValueError for what is none, or another one."""
    from dallecli.pictures.picture import Picture

    fields = Fields(frame.value, NetworkError)
    made = Restored(recipe.sources).recipe(Recipe.from_dict(fields.take("recipe")))
    if (made.task, made.prompt, made.model, made.count) != (recipe.task, recipe.prompt, recipe.model, 1):
        raise ValueError("a picture of something else")
    scores = fields.table("scores")
    picture = Picture(
        image=_pixels(fields, frame.data),
        recipe=replace(made, warnings=recipe.warnings, unknown=recipe.unknown),
        seconds=fields.number("seconds", least=0),
        scores={name: number_heard(scores.take(name)) for name in scores},
    )
    fields.finish()
    return picture


def _image(frame: Frame) -> "Image":
    fields = Fields(frame.value, NetworkError)
    image = _pixels(fields, frame.data)
    fields.finish()
    return image


def _pixels(fields: Fields, data: bytes) -> "Image":
    """An image by its sides and its pixels. Raises ValueError, NetworkError."""
    from PIL import Image

    width, height = fields.whole("width"), fields.whole("height")
    if check_sides(width, height) != len(data):
        raise ValueError(f"{len(data)} bytes are not {width} x {height} pixels")
    return Image.frombytes("RGB", (width, height), data)


def _as_file(data: bytes) -> Source:
    return Source(kind="embedding", name="the server's answer", sha256="", data=data)


def _messages(recipes: Sequence[Recipe]) -> Iterator[list[Recipe]]:
    """Recipes in as few messages as take them."""
    several: list[Recipe] = []
    size = 0
    for recipe in recipes:
        length = len(recipe.to_json())
        if several and (len(several) == TOGETHER or size + length > _MESSAGE_BYTES):
            yield several
            several, size = [], 0
        several.append(recipe)
        size += length
    if several:
        yield several


def _check_names(model: str | None, judge: str | None) -> None:
    """Refuse folders of this machine: a server has its own. Raises UnknownModel."""
    for name in (model, judge):
        if name is None or name.startswith(HUB):
            continue
        if os.sep in name or "/" in name or name.startswith((".", "~")):
            hint = "a name of a model that it has, or --server none to paint here"
            raise UnknownModel("a server opens no folder of this machine", where=name, hint=hint)
