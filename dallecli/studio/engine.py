"""The engine that paints on this machine. It keeps the opened model for the next request.

`resolve` does everything that needs no weights, without torch: unknown names, incomplete files and impossible dials are
found in a fraction of a second. `paint` opens the model once, and paints.
"""

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from dallecli.engine import Progress, arithmetic, check_same_size, check_same_stages, unscored
from dallecli.errors import BadSetting, NotDownloaded, PromptTooLong
from dallecli.filling import (
    fill,
    fill_stages,
    leave_out_usual,
    random_seed,
    request_of,
    settle_candidates,
    settle_prior,
    settle_rows,
    settle_subject,
)
from dallecli.knowledge import Knowledge
from dallecli.pictures.crops import cropped, cropping
from dallecli.pipelines.description import Description
from dallecli.pipelines.pipeline import EmbedSettings
from dallecli.recipe import Recipe
from dallecli.safe import safe
from dallecli.sizing import settle_whole
from dallecli.source import Source
from dallecli.studio.batches import (
    BATCH,
    MOST_TOGETHER,
    SMALL,
    is_batch_invariant,
    paint_groups,
    paint_in_batches,
)
from dallecli.studio.coders import Coders
from dallecli.studio.judging import Judging
from dallecli.studio.memory import check_memory, memory_errors, plan_model
from dallecli.studio.models import Models
from dallecli.studio.opened import LastOpened, Opened, clip_of, placed
from dallecli.studio.used import Digests
from dallecli.tasks.coding import Coding
from dallecli.tasks.embed import Embed
from dallecli.tasks.generate import Generate
from dallecli.tasks.task import ModelRequest, Request
from dallecli.unknown import Unknown
from dallecli.weights.registry import find

if TYPE_CHECKING:
    from PIL.Image import Image

    from dallecli.codes_file import Coded
    from dallecli.embedding_file import Embedded
    from dallecli.pictures.picture import Picture
    from dallecli.placement import MemoryPlan, Placement
    from dallecli.shortlist import Scores

log = logging.getLogger(__name__)


class LocalEngine:
    """Paints with the models of this machine. It keeps only the last model open: they are large.

    `memory`, one of `placement.MEMORY`, says how much of it stays in memory. It belongs to the engine and not to a
    request, because pictures do not depend on it. `batch` is how many pictures are painted at once, None for `BATCH`.
    With `compiled`, torch compiles the networks that stay in the memory of a GPU, each in a minute or so of the first
    run. On a CPU that gains next to nothing, so none is compiled.

    Raises BadSetting for networks that are to be compiled but do not stay.
    """

    def __init__(self, memory: str = "auto", batch: int | None = None, *, compiled: bool = False) -> None:
        if compiled and memory == "low":
            what = "networks that leave the memory are not compiled"
            raise BadSetting(what, hint="--memory auto or high, or no --compile")
        self._memory = memory
        self._models = Models()
        self._last = LastOpened(memory, compiled=compiled)
        self._judging = Judging(models=self._models, painters=self._last, memory=memory)
        self._strangeness: dict[str, dict[str | None, float]] = {}  # by the model's source and the picture's sha256
        self._expected: list[Recipe] = []
        self._asked = batch
        self._batch = dict(BATCH) if batch is None else dict.fromkeys(BATCH, batch)

    def resolve(self, request: Request) -> Recipe:
        """Close what the request left open. Reads descriptions, headers and the tokenizer, but no weights.

        Weights are read only for a model whose folder says what pictures it knows, and that starts from a picture.

        Raises:
            RequestError: the model is unknown, or cannot do this: task, size, steps, sampler, guidance, prompt length;
                or a strict request has what it does not know.
            WeightsError: the model is not on this machine, or its files are incomplete.
        """
        try:
            model = self._models.find(request.model, request.task)
        except NotDownloaded:
            if isinstance(request, Generate):  # nobody should fetch a model that cannot paint this
                settle_subject(request, find(request.model))
            raise
        return self._resolve(request, model)

    def _resolve(self, request: Request, model: Description) -> Recipe:
        request, notices = leave_out_usual(request, model.spec)
        request, doubts = self._judging.appoint(request, model)
        model.check_request(request)
        request = settle_rows(request, model.spec.name, model.rows)
        seed = request.seed if request.seed is not None else random_seed()
        recipe = fill(request, model.spec, _dropped(request, model), seed)
        model.check_stages(recipe.stages)
        warnings = (*notices, *recipe.warnings, *doubts, *model.check_inputs(request, recipe.size, recipe.stages))
        return replace(recipe, warnings=warnings, unknown=self._unknown(request, model))

    def revive(self, recipe: Recipe, model: str | None = None) -> Recipe:
        """Check a recipe that was read from a file as `resolve` checks a request.

        `model`, a name or a folder, is used instead of the recipe's own, which may not be a folder.

        Raises: BadRecipe for what no request asks for, and what `resolve` raises.
        """
        found = (
            self._models.find(model, recipe.task)
            if model is not None
            else self._models.recorded(recipe.model, recipe.task)
        )
        if recipe.settings.judge is not None and recipe.settings.best_of is not None and recipe.settings.kept is None:
            self._models.recorded(recipe.settings.judge)  # a folder may not be named by a stranger
        fresh = self._resolve(request_of(replace(recipe, model=found.spec.name)), found)
        check_same_stages(recipe, fresh)
        check_same_size(recipe, fresh)
        found.check_stages(recipe.stages)
        warnings = (*fresh.warnings, *self._unlike(recipe))
        return replace(unscored(recipe), model=found.spec.name, warnings=warnings)

    def embed(self, request: Embed, progress: Callable[[Progress], None]) -> "list[Embedded]":
        """An embedding of every input, in order, after `arithmetic`.

        Raises: as `resolve` and `paint`.
        """
        model = self._models.find(request.model)
        request, notices = leave_out_usual(request, model.spec)
        for notice in notices:
            log.warning("%s", safe(notice, 300))
        model.check_request(request)
        dropped = _dropped(request, model)
        if dropped:
            what = f"{model.spec.name} would not read the end of this: {dropped}"
            if request.strict:
                raise PromptTooLong(what, hint="shorten it, or leave out --strict")
            log.warning("%s", safe(what, 300))
        size = settle_whole(request.size, model.spec)
        settings = EmbedSettings(
            model=model.spec.name,
            size=size,
            stages=fill_stages(request, model.spec, size),
            prior=settle_prior(request, model.spec) if request.imagines else None,
            prior_candidates=settle_candidates(request, model.spec),
            seed=request.seed if request.seed is not None else random_seed(),
        )
        model.check_stages(settings.stages)
        model.check_inputs(request, size, settings.stages)
        unknown = self._unknown(request, model)
        clip = clip_of(self._last.open(model, request.device, request.dtype), model.spec.name)
        with memory_errors(model.spec.name):
            found = clip.embed(request, settings, progress)
        noted = [
            replace(one, unknown=_unknown_of(source, model, unknown))
            for one, source in zip(found, request.sources, strict=True)
        ]
        return arithmetic(request, noted)

    def encode(self, request: Coding, progress: Callable[[Progress], None]) -> "list[Coded]":
        """The codes of every picture, in order.

        Raises: BadSize for a side that no whole number of codes covers; as `resolve` and `paint`.
        """
        return Coders(self._models, self._last).encode(request, progress)

    def decode(self, request: Coding, progress: Callable[[Progress], None]) -> "list[Image]":
        """The picture of every file of codes, in order.

        Raises: BadCodes for files without codes, and codes of another codebook; as `resolve` and `paint`.
        """
        return Coders(self._models, self._last).decode(request, progress)

    def paint(
        self, recipe: Recipe, progress: Callable[[Progress], None], scores: "Scores | None" = None
    ) -> Iterator["Picture"]:
        """Yield the pictures of a recipe as they are done, each with its own completed recipe.

        As many at a time as the recipe says, unless the engine was told how many. For a best-of see `Engine.paint`.

        Raises:
            BadFile: the recipe was made with other weights, or a file is damaged.
            LayoutMismatch: the weights are not those of the networks that the model describes.
            MachineError: there is no such device, not enough memory, or a stage gave no finite numbers.
        """
        from dallecli.placement import threads

        with threads(recipe.threads):
            if recipe.settings.best_of is not None:
                yield from self._judging.best(recipe, self._paint, progress, scores)
            else:
                yield from self._paint(recipe, progress)

    def _paint(self, recipe: Recipe, progress: Callable[[Progress], None]) -> Iterator["Picture"]:
        opened = self._open(recipe)
        complete, kind = opened.complete(recipe), opened.kind
        batches = self._batches(recipe, opened.placement, kind)
        if self._asked is None and complete.together is not None:
            batches = {kind: min(complete.together, MOST_TOGETHER)}
        found = paint_in_batches(opened.pipeline.paint, complete, cropping(complete, progress), batches, kind)
        yield from map(opened.finished, map(cropped, found))

    def group(self, recipe: Recipe) -> int:
        """How many pictures are painted at once on the recipe's device. Raises NoSuchDevice, BadSetting."""
        from dallecli.placement import decide

        placement = decide(recipe.device, recipe.dtype)
        small = is_batch_invariant(self._models.named(recipe.model), placement)
        kind = SMALL if small else placement.device.type
        return self._batches(recipe, placement, kind)[kind]

    def paint_together(self, recipes: Sequence[Recipe], progress: Callable[[Progress], None]) -> Iterator["Picture"]:
        """Yield the picture of each recipe; when memory runs out, continue with half as many at once.

        Raises: as `paint`.
        """
        from dallecli.placement import threads

        with threads(recipes[0].threads):
            opened = self._open(recipes[0])
            complete = [opened.complete(recipe) for recipe in recipes]
            watch = cropping(recipes[0], progress)
            batches = self._batches(recipes[0], opened.placement, opened.kind)
            found = paint_groups(opened.pipeline.paint_together, complete, watch, batches, opened.kind)
            yield from map(opened.finished, map(cropped, found))

    def reads_ahead(self, recipe: Recipe) -> bool:
        """Whether its model has a text tower that is loaded for many prompts at once."""
        return self._models.named(recipe.model).folder.family.reads_ahead

    def expect(self, recipes: Sequence[Recipe]) -> None:
        """Hear what will be painted next. The model of it is told when it is opened."""
        self._expected = list(recipes)

    def machine(self, recipe: Recipe) -> str:
        """What paints a recipe here, in the words of the finished picture's. Raises NoSuchDevice, BadSetting."""
        from dallecli.placement import decide, threads

        placement = decide(recipe.device, recipe.dtype)
        small = is_batch_invariant(self._models.named(recipe.model), placement)
        with threads(recipe.threads):
            return placed(recipe, placement, compiled=self._last.compiled, batch_invariant=small).machine

    def digest(self, recipe: Recipe) -> str:
        """The sha256 of what a recipe uses of its model, remembered from one process to the next. Raises BadFile."""
        return Digests.read(self._models.named(recipe.model).folder).of(recipe)

    def judge_digest(self, recipe: Recipe) -> str | None:
        """The sha256 of what a best-of uses of its judge; None where there is none. Raises BadFile."""
        return self._judging.digest(recipe)

    def plan_memory(self, name: str, placement: "Placement") -> "MemoryPlan":
        """The memory plan of a model on a device. Raises as `resolve` does for the model."""
        return plan_model(self._models.find(name), placement, self._memory)

    def knowledge(self, model: str) -> Knowledge:
        """What the makers of a model wrote down that it knows. Raises: as `resolve`."""
        found = self._models.find(model)
        kinds = found.words.kinds if found.words is not None else {}
        return Knowledge(words=kinds, classes=found.spec.classes, prompts=found.spec.prompts)

    def memory(self, recipe: Recipe) -> str:
        """The memory plan for a recipe, in words.

        Raises:
            MachineError: there is no such device, or not enough memory on it.
        """
        from dallecli.placement import decide

        model, placement = self._models.named(recipe.model), decide(recipe.device, recipe.dtype)
        plan = plan_model(model, placement, self._memory, recipe.size.pixels)
        check_memory(model.spec.name, placement, plan)
        return plan.why + self._judging.memory_of(recipe, placement)

    def _unknown(self, request: ModelRequest, model: Description) -> Unknown:
        """What the model does not know of a request. Raises NotKnown if a strict one has something."""
        words = Unknown(words=model.unknown(request.texts), listed=model.words is not None)
        if request.strict:
            words.refuse(model.spec.name)
        given = request.inputs if isinstance(request, Request) else request.sources
        found = replace(words, pictures=self._strange(given, request, model))
        if request.strict:
            found.refuse(model.spec.name)
        return found

    def _strange(self, given: Sequence[Source], request: ModelRequest, model: Description) -> tuple[str, ...]:
        """The names of the pictures that are strange to a model; each file is looked at once."""
        pictures = {source.sha256: source for source in given if source.kind == "picture"}
        if model.strangeness is None or not pictures:
            return ()
        known = self._strangeness.setdefault(model.spec.source, {})
        fresh = [source for sha256, source in pictures.items() if sha256 not in known]
        if fresh:
            clip = clip_of(self._last.open(model, request.device, request.dtype), model.spec.name)
            with memory_errors(model.spec.name):
                for source in fresh:
                    known[source.sha256] = clip.strangeness([source], model.spec.sizes[0])[0]
        strange = [source for source in given if known.get(source.sha256, 0.0) > model.strangeness]
        return tuple(dict.fromkeys(source.where for source in strange))

    def _unlike(self, recipe: Recipe) -> tuple[str, ...]:
        """What painted a recipe that was read from a file, and will not this time."""
        from dallecli.placement import most_threads

        found = []
        if recipe.threads is not None and recipe.threads > most_threads():
            found.append(f"with {recipe.threads} threads, too many for this machine")
        here = min(recipe.candidates().count, MOST_TOGETHER if self._asked is None else self._asked)
        if recipe.together is not None and recipe.together > here:
            found.append(f"{recipe.together} pictures at a time (--batch), and is now {here}")
        if recipe.compiled and not self._last.compiled:
            found.append("by compiled networks (--compile), and is now by others")
        return tuple(f"it was painted {difference}: pixels may differ" for difference in found)

    def _batches(self, recipe: Recipe, placement: "Placement", kind: str) -> dict[str, int]:
        """How many pictures are painted at once: unless it was asked, as many of a small model as there is room for."""
        if self._asked is not None or kind != SMALL:
            return self._batch
        plan = plan_model(self._models.named(recipe.model), placement, self._memory, recipe.size.pixels)
        return self._batch | {SMALL: plan.pictures(BATCH[SMALL])}

    def _open(self, recipe: Recipe) -> Opened:
        opened = self._last.open_for(recipe, self._models.named(recipe.model))
        own = [other for other in self._expected if other.model == recipe.model]
        if own:
            opened.pipeline.expect(own)
            self._expected = [other for other in self._expected if other.model != recipe.model]
        return opened


def _dropped(request: ModelRequest, model: Description) -> str:
    """The ends of a request's sentences that the model will not read."""
    return " ".join(model.dropped(text) for text in request.texts).strip()


def _unknown_of(source: Source, model: Description, all_of_it: Unknown) -> Unknown:
    """What the model does not know of one source of a request."""
    if source.kind == "text":
        return Unknown(words=model.unknown([source.name]), listed=model.words is not None)
    return Unknown(pictures=tuple(name for name in all_of_it.pictures if name == source.where))
