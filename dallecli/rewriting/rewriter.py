"""Has the sentences of a request rewritten, and looks at what came back before it is painted."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Final, Protocol, Self

from dallecli.errors import BadSetting, NetworkError, NotDownloaded, PromptError
from dallecli.knowledge import Knowledge
from dallecli.recipe import Recipe
from dallecli.rewriting.brief import again, brief, read
from dallecli.rewriting.chat import AS_TYPED, ask
from dallecli.rewriting.endpoint import Endpoint
from dallecli.safe import safe
from dallecli.tasks.generate import Generate
from dallecli.tasks.task import Request

TRIES: Final = 2
"""How often a language model is asked for one request, if its first answer cannot be painted as it is."""


class Asked(Protocol):
    """What has to be known of the model that paints: an engine knows it."""

    def resolve(self, request: Request) -> Recipe: ...
    def knowledge(self, model: str) -> Knowledge: ...


class Notes:
    """The sentences that were rewritten so far, by key, in memory: none is asked for twice.

    Where the language model failed and what was typed was painted, there is None.
    """

    def __init__(self) -> None:
        self.known: dict[str, tuple[str, ...] | None] = {}

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Inside, nobody else asks for what is in these notes."""
        yield

    def note(self, key: str, asked: Sequence[str], painted: Sequence[str] | None, by: str) -> None:
        """Remember what came back."""
        self.known[key] = tuple(painted) if painted is not None else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A request as it is painted, and what whoever asked for it should know."""

    request: Request
    warnings: tuple[str, ...] = ()


@dataclass(slots=True)
class Rewriter:
    """Rewrites requests with one language model.

    optional: whether a failure is a warning, and what was typed is painted. patient: whether it asks again after such a
    failure, for other requests; a server does. notes: what was rewritten before.
    """

    endpoint: Endpoint
    optional: bool = False
    patient: bool = False
    notes: Notes = field(default_factory=Notes)
    _failed: bool = False

    @classmethod
    def choose(cls, rewrite: str | None, named: tuple[str, str] | None) -> Self:
        """Who rewrites, as --rewrite and --rewrite-with say, one of which is given. Raises BadSetting, BadConfig."""
        if rewrite not in (None, "required", "optional"):
            raise BadSetting(f"rewriting is required or optional, not {rewrite!r}")
        return cls(endpoint=Endpoint.choose(named), optional=rewrite == "optional")

    def rewrite(self, request: Request, model: Asked) -> Outcome:
        """A request in the words of the language model; one that says nothing to paint, as it is.

        Raises: NetworkError if the language model fails, unless it is optional; and what the engine raises.
        """
        knowledge = knowledge_of(model, request)
        request = as_painted(request, knowledge)
        if not request.rewritable or not (knowledge.prompts or knowledge.classes):
            return Outcome(request=request)
        key = self._key(request)
        with self.notes.asking():
            if key not in self.notes.known:
                return self._ask(key, request, knowledge, model)
        known = self.notes.known[key]
        return Outcome(request=request if known is None else request.rewrite(known, self.endpoint.model))

    def _ask(self, key: str, request: Request, knowledge: Knowledge, model: Asked) -> Outcome:
        """Ask, and remember what came of it."""
        if not request.sources and knowledge.prompts:
            model.resolve(lenient(request))  # nobody should wait for an answer about what cannot be painted
        failure: NetworkError | None = None
        painted = None
        if not self._failed:
            try:
                painted = self._sentences(request, knowledge, model)
            except NetworkError as error:
                if not self.optional:
                    raise
                failure, self._failed = error, not self.patient
        self.notes.note(key, request.rewritable, painted, self.endpoint.model)
        if painted is not None:
            return Outcome(request=request.rewrite(painted, self.endpoint.model))
        hint = "; no other is asked for" if self._failed else ""
        return Outcome(
            request=request,
            warnings=(f"not rewritten, and painted as it was typed: {failure.what}{hint}",) if failure else (),
        )

    def _sentences(self, request: Request, knowledge: Knowledge, model: Asked) -> list[str]:
        """The sentences to paint: of two answers the first that nothing is wrong with, else the better one."""
        messages = brief(request.task, request.rewritable, knowledge)
        best: tuple[int, list[str]] | None = None
        for _ in range(TRIES):
            answer = ask(self.endpoint, messages)
            sentences, doubts, worth = self._judged(answer, request, model)
            if sentences is not None and (best is None or worth < best[0]):
                best = worth, sentences
            if not doubts:
                break
            messages = again(messages, answer, doubts)
        if best is None:
            said = safe(repr(answer.strip()), 80)
            what = f"{safe(self.endpoint.model, 60)} answers with what cannot be painted: {said}"
            raise NetworkError(what, self.endpoint.url, AS_TYPED)
        return best[1]

    def _judged(self, answer: str, request: Request, model: Asked) -> tuple[list[str] | None, list[str], int]:
        """The sentences of an answer if they can be painted, what is wrong with them, and how much of them is."""
        sentences = read(answer, len(request.rewritable))
        if sentences is None:
            count = len(request.rewritable)
            return None, ["That is not one prompt." if count == 1 else f"Those are not {count} numbered lines."], 0
        try:
            said = request.saying(sentences)
            if request.sources:  # pictures are looked at when all else is settled
                return sentences, [], 0
            recipe = model.resolve(lenient(said))
        except (BadSetting, PromptError) as error:
            return None, [f"That cannot be painted: {error.what}."], 0
        unknown, dropped = recipe.unknown.words, recipe.dropped
        doubts = [f"The model does not know these words: {', '.join(unknown)}."] if unknown else []
        doubts += [f"It is too long: the model does not read its end, from {dropped[0]!r} on."] if dropped else []
        return sentences, doubts, len(unknown) + len(dropped)

    def _key(self, request: Request) -> str:
        """What decides how a request is rewritten."""
        facts = [request.task, request.model, self.endpoint.model, *request.rewritable]
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()


def knowledge_of(model: Asked, request: Request) -> Knowledge:
    """What the model of a request knows. Raises what the engine raises of a request for a model that is not here."""
    try:
        return model.knowledge(request.model)
    except NotDownloaded:
        model.resolve(request)  # which says so, too, unless the model could not do this anyway
        raise


def as_painted(request: Request, knowledge: Knowledge) -> Request:
    """A request with its prompt as the class to paint, for a model that paints classes instead of prompts."""
    if isinstance(request, Generate) and request.prompt is not None and knowledge.classes is not None:
        return replace(request, prompt=None, class_name=request.prompt)
    return request


def lenient(request: Request) -> Request:
    """The same without being strict about words, which may still be rewritten."""
    return replace(request, strict=False)
