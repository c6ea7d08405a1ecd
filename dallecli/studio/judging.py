"""The best of many: candidates are painted, scored by a CLIP, and of all of them only the best are kept in memory.

Who paints and who judges may be two models. If both fit into memory they stay there, and each picture is scored as it
comes; else they take turns, and one is let go before the other comes.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Final

from dallecli.engine import Progress
from dallecli.errors import BadFile, BadSetting, NotDownloaded, PromptTooLong, TaskNotSupported
from dallecli.pipelines.description import Description
from dallecli.recipe import Recipe
from dallecli.safe import safe
from dallecli.shortlist import Scores, Shortlist
from dallecli.studio.memory import check_memory, memory_errors, plan_model
from dallecli.studio.models import Models
from dallecli.studio.opened import LastOpened, clip_of
from dallecli.studio.used import Digests
from dallecli.tasks.task import Request
from dallecli.unknown import Unknown
from dallecli.weights.layouts import LAYOUTS
from dallecli.weights.registry import HUB, find, judges

if TYPE_CHECKING:
    from dallecli.pictures.picture import Picture
    from dallecli.pipelines.pipeline import Clip
    from dallecli.placement import Placement

TURN_PIXELS: Final = 2**24
"""Pixels that are painted in a turn before they are scored: 256 pictures of 256 px, in 48 MB."""

Paint = Callable[[Recipe, Callable[[Progress], None]], Iterator["Picture"]]
"""Paints the pictures of a recipe, in batches."""


@dataclass(slots=True, kw_only=True)
class Judging:
    """Finds the best of the pictures that `painters` have. memory: the kind of memory plan, as `LocalEngine`'s."""

    models: Models
    painters: LastOpened
    memory: str
    judges: LastOpened = field(init=False)
    _apart: dict[tuple[str, str, str], bool] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self.judges = LastOpened(self.memory, compiled=False)

    def appoint(self, request: Request, model: Description) -> tuple[Request, tuple[str, ...]]:
        """The request with the judge by its name in recipes, or without one that is the model itself.

        Also what its author should know of the judge.

        Raises: BadSetting where there are no words to judge by; TaskNotSupported for a judge without a CLIP; what
            `Models.find` raises for it; PromptTooLong, NotKnown (strict requests only).
        """
        if request.judge is None:
            return request, ()
        if not model.spec.prompts:
            what = f"{model.spec.name} paints no sentences, which a judge compares pictures with"
            raise BadSetting(what, hint="leave out --best-of and --judge")
        judge = self._find(request.judge)
        judge.check_judge()
        if judge.spec.source == model.spec.source:
            return request.with_judge(None), ()
        return request.with_judge(judge.spec.name), _doubts(judge, request)

    def digest(self, recipe: Recipe) -> str | None:
        """The sha256 of what is used of a recipe's judge; None where there is none. Raises BadFile."""
        judge = self._judge(recipe)
        return None if judge is None else Digests.read(judge.folder).judging()

    def memory_of(self, recipe: Recipe, placement: "Placement") -> str:
        """How the judge of a recipe fits into memory, in words; "" where there is none. Raises OutOfMemory."""
        judge = self._judge(recipe)
        if judge is None:
            return ""
        plan = plan_model(judge, placement, self.memory)
        check_memory(judge.spec.name, placement, plan)
        how = "in turns with it" if self._in_turns(recipe, placement) else "beside it"
        return f"; {judge.spec.name} judges {how}: {plan.why}"

    def best(
        self, recipe: Recipe, paint: Paint, progress: Callable[[Progress], None], scores: Scores | None
    ) -> Iterator["Picture"]:
        """Yield the best pictures of a best-of, the best first. `paint` paints candidates, and keeps no model.

        Raises: as `Engine.paint`, and BadFile for another judge than the recipe's.
        """
        from dallecli.placement import decide

        settings = recipe.settings
        digest = self.digest(recipe)
        if settings.judge_digest is not None and settings.judge_digest != digest:
            what = f"{settings.judge} has other weights than the recipe was judged with: {settings.judge_digest[:12]}"
            raise BadFile(what, hint="pull or copy that model again")
        judged = recipe.judged(settings.judge, digest)
        shortlist = Shortlist(judged, scores)
        placement = decide(recipe.device, recipe.dtype)
        apart = self._in_turns(recipe, placement)
        at_once = not apart and self._stays(recipe)
        for first, count in shortlist.missing(None if at_once else max(1, TURN_PIXELS // recipe.size.pixels)):
            pictures = paint(_some(recipe, first, count), _watch(progress, recipe, first))
            if not at_once:
                pictures = iter(list(pictures))  # all of them before the painter leaves
            if apart:
                self.painters.close()
            for picture in pictures:
                shortlist.take(picture, self._score(picture, recipe))
            if apart:
                self.judges.close()
        for seed in shortlist.absent():
            for picture in paint(_some(recipe, seed, 1), _watch(progress, recipe, seed)):
                shortlist.put(picture)
        yield from shortlist.pictures()

    def _find(self, name: str) -> Description:
        try:
            return self.models.find(name)
        except NotDownloaded as error:  # nobody should fetch a model that cannot judge
            layout = LAYOUTS.get(find(name).layout) if not name.startswith(HUB) else None
            if layout is not None and layout.clip is None:
                what = f"{name} has no CLIP to judge by, and is not on this machine"
                raise TaskNotSupported(what, hint=f"--judge {' or '.join(judges())}") from error
            raise

    def _score(self, picture: "Picture", recipe: Recipe) -> float:
        judge = self._judge(recipe)
        model, opened = (judge, self.judges) if judge is not None else (self.models.named(recipe.model), self.painters)
        with memory_errors(model.spec.name):
            clip: Clip = clip_of(opened.open(model, recipe.device, recipe.dtype), model.spec.name)
            return clip.score(picture.image, recipe.prompt)

    def _judge(self, recipe: Recipe) -> Description | None:
        name = recipe.settings.judge
        return None if name is None else self.models.named(name)

    def _stays(self, recipe: Recipe) -> bool:
        """Whether pictures can be scored as they come, without a network of the painter leaving for the judge."""
        if recipe.settings.judge is not None:
            return True
        return self.painters.open(self.models.named(recipe.model), recipe.device, recipe.dtype).whole

    def _in_turns(self, recipe: Recipe, placement: "Placement") -> bool:
        """Whether the painter has to leave before the judge comes. Decided once, while neither takes memory yet."""
        from dallecli.placement import USABLE

        judge, model = self._judge(recipe), self.models.named(recipe.model)
        if judge is None:
            return False
        pair = model.spec.source, judge.spec.source, placement.name
        if pair not in self._apart:
            plans = [plan_model(model, placement, self.memory, recipe.size.pixels)]
            plans.append(plan_model(judge, placement, self.memory))
            free, needed = plans[0].free, sum(plan.peak for plan in plans)
            self._apart[pair] = self.memory == "low" or (free is not None and needed > USABLE * free)
        return self._apart[pair]


def _doubts(judge: Description, request: Request) -> tuple[str, ...]:
    """What a judge does not read of a request's prompt, or does not know. Raises PromptTooLong, NotKnown."""
    name, words = judge.spec.name, Unknown(words=judge.unknown([request.words]))
    dropped = judge.dropped(request.words)
    if request.strict:
        words.refuse(name)
        if dropped:
            what = f"{name} would judge without the end of this prompt: {dropped}"
            raise PromptTooLong(what, hint="shorten it, or leave out --strict")
    unread = [f"{name} judges without the end of the prompt: {safe(dropped, 200)}"] if dropped else []
    strange = [f"{name} judges, and does not know: {', '.join(words.words)}"] if words.words else []
    return (*unread, *strange)


def _some(recipe: Recipe, first: int, count: int) -> Recipe:
    """The recipe of `count` candidates from the seed `first` on."""
    return replace(recipe.candidates(), seed=first, count=count)


def _watch(progress: Callable[[Progress], None], recipe: Recipe, first: int) -> Callable[[Progress], None]:
    """The progress of some candidates as that of all."""
    best_of = recipe.settings.best_of

    def watch(step: Progress) -> None:
        progress(replace(step, picture=step.picture + first - recipe.seed, pictures=best_of or step.pictures))

    return watch
