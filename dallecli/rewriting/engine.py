"""An engine that rewrites first: whoever asks it for a recipe gets that of the rewritten sentences."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dallecli.engine import Engine
from dallecli.recipe import Recipe
from dallecli.rewriting.rewriter import Rewriter, as_painted, knowledge_of, lenient
from dallecli.safe import safe
from dallecli.tasks.generate import Generate, Generating
from dallecli.tasks.task import Request
from dallecli.unknown import Unknown


class RewritingEngine:
    """Another engine with `resolve` changed, and all else as it is there. What is revived is never rewritten."""

    def __init__(self, engine: Engine, rewriter: Rewriter, tell: Callable[[str], None] | None = None) -> None:
        """`tell` hears what whoever asked should know, instead of reading it in the recipe."""
        self._engine = engine
        self._rewriter = rewriter
        self._tell = tell

    def resolve(self, request: Request) -> Recipe:
        """The recipe of the rewritten request. Raises NetworkError, and as the engine."""
        outcome = self._rewriter.rewrite(request, self._engine)
        recipe = self._engine.resolve(outcome.request)
        if self._tell is None:
            return replace(recipe, warnings=(*outcome.warnings, *recipe.warnings))
        for warning in outcome.warnings:
            self._tell(warning)
        return recipe

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


class UnaskedEngine:
    """Another engine for requests that will be rewritten, and are not yet: it refuses only what no words can mend.

    What it does not know of them, and what it would not read, is not said: other words will be painted.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def resolve(self, request: Request) -> Recipe:
        """The recipe of what was typed. Raises as the engine."""
        knowledge = knowledge_of(self._engine, request)
        request = as_painted(request, knowledge)
        if not request.rewritable:
            return self._engine.resolve(request)
        if isinstance(request, Generate) and knowledge.classes is not None:
            return self._unclassed(request)
        recipe = self._engine.resolve(lenient(request))
        return replace(recipe, dropped=(), unknown=Unknown(pictures=recipe.unknown.pictures))

    def _unclassed(self, request: Generate) -> Recipe:
        """The recipe of any class, under the name that was typed: which one it is will be said later."""
        recipe = self._engine.resolve(replace(request, class_name="0"))
        settings = recipe.settings
        assert isinstance(settings, Generating)  # as all that `generate` settles
        return replace(recipe, settings=replace(settings, class_name=request.class_name))

    def __getattr__(self, name: str) -> Any:
        return getattr(self._engine, name)


def say(recipe: Recipe) -> list[str]:
    """What was rewritten in a recipe, a line each."""
    if recipe.rewritten is None:
        return []
    by = safe(recipe.rewritten.by, 60)
    return [f"rewritten by {by}: {safe(one.painted, 300)}" for one in recipe.rewritten.sentences]
