"""Prompts in a language model's words, for requests of clients: which ones, and what clients hear of it."""

import logging
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Protocol

from dallecli.engine import Engine
from dallecli.errors import NetworkError
from dallecli.knowledge import Knowledge
from dallecli.recipe import Recipe
from dallecli.rewriting.rewriter import Notes, Outcome, Rewriter
from dallecli.server.refusal import invalid
from dallecli.server.serving import Serving
from dallecli.server.translate import Asked
from dallecli.tasks.task import Request

log = logging.getLogger(__name__)


class Resolver(Protocol):
    """What of an engine is needed to settle a request."""

    def resolve(self, request: Request) -> Recipe: ...
    def knowledge(self, model: str) -> Knowledge: ...


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """An engine that is asked in its own thread, by another one, which waits."""

    engine: Engine
    thread: ThreadPoolExecutor

    def resolve(self, request: Request) -> Recipe:
        return self.thread.submit(self.engine.resolve, request).result()

    def knowledge(self, model: str) -> Knowledge:
        return self.thread.submit(self.engine.knowledge, model).result()


def rewriter_of(asked: Asked, serving: Serving) -> Rewriter | None:
    """Who rewrites the prompt of a request, if somebody does. Raises Refusal if it has to be, and nobody can."""
    if serving.rewriter is None:
        if asked.rewrite in ("required", "optional"):
            hint = "leave it out; the owner of this server can change that: dalle serve --rewrite"
            raise invalid("rewrite", "no prompt is rewritten here", hint)
        return None
    if asked.rewrite == "no" or asked.prompt is None:
        return None
    optional = serving.rewriter.optional if asked.rewrite is None else asked.rewrite == "optional"
    return replace(serving.rewriter, optional=optional, patient=True, notes=Notes())


def rewritten(request: Request, engine: Resolver, rewriter: Rewriter) -> Outcome:
    """A request in other words. Raises NetworkError, which does not tell clients where the language model is."""
    try:
        return rewriter.rewrite(request, engine)
    except NetworkError as error:
        log.warning("%s", "; ".join(error.lines()))
        hint = 'try again later; "rewrite": "optional" paints the prompt as it is, if need be'
        raise NetworkError(f"the prompt could not be rewritten: {error.what}", hint=hint) from error
