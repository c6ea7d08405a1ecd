"""Fills in what a request leaves open, with a model's own dials; and turns a recipe back into its request."""

import secrets
import shlex
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final, Protocol, TypeVar

from dallecli.classes import Classes
from dallecli.errors import (
    BadRecipe,
    BadSetting,
    BadSize,
    PromptError,
    PromptTooLong,
    RequestError,
    TaskNotSupported,
)
from dallecli.limits import CANDIDATES, KEPT_PIXELS
from dallecli.recipe import Recipe
from dallecli.safe import safe
from dallecli.size import Size
from dallecli.sizing import Sized, Sizing, settle_size, settle_whole
from dallecli.tasks.embed import Embed
from dallecli.tasks.generate import Generate
from dallecli.tasks.inpaint import Inpaint
from dallecli.tasks.stages import (
    CODES,
    DECODER,
    GROUPS,
    INVERSION,
    NO_PRIOR,
    PAINTING_GROUPS,
    PRIORS,
    Dials,
    DiffusionSettings,
    Stage,
    StageSettings,
    has_option,
    option,
    value_name,
    written,
)
from dallecli.tasks.task import Habits, ModelRequest, Request, check_dials
from dallecli.version import __version__

INVERTING: Final = DiffusionSettings(sampler="ddim", steps=25, guidance=1.0)
"""How pictures are inverted by default. Painting from inverted noise takes the same steps."""

FAST_SAMPLER: Final = "dpm++"
"""The decoder's sampler for the effort "fast", the best one for few steps. docs/starter.md measures it."""
FAST_STEPS: Final = 10
"""The most steps that a stage takes with it."""
FAST_REUSE: Final = 2
"""Of so many steps of the effort "fast" a painting stage computes the whole network in one."""
BEST: Final = 2
"""A model's own steps and prior candidates are multiplied by this for the effort "best"."""


class Defaults(Sized, Protocol):
    """What `fill` needs to know of a model; a `ModelSpec` of the registry is one.

    tasks: what it can do. declared: the stages that it has, in the order in which they run. stages: their own dials, by
    name. prior_candidates: embeddings that its prior draws, None where it has no prior. habits: what it does by itself
    in single tasks. prompts: whether it paints what it is told in words. classes: those that it paints by their names;
    None if it paints none.
    """

    @property
    def tasks(self) -> tuple[str, ...]: ...
    @property
    def declared(self) -> tuple[Stage, ...]: ...
    @property
    def stages(self) -> Mapping[str, StageSettings]: ...
    @property
    def prior_candidates(self) -> int | None: ...
    @property
    def habits(self) -> Habits: ...
    @property
    def prompts(self) -> bool: ...
    @property
    def classes(self) -> Classes | None: ...
    def dials(self, way: str) -> Mapping[str, StageSettings]:
        """Its own dials by stage for one of the `WAYS` to paint, or for any other."""
        ...

    def running(self, size: Size) -> Sequence[str]:
        """The names of the stages that paint a picture of `size`, in order."""
        ...


def random_seed() -> int:
    """A seed for a request without one: below 2^32, short enough to be typed again."""
    return secrets.randbelow(2**32)


def fill(request: Request, model: Defaults, dropped: str, seed: int) -> Recipe:
    """Fill in everything that the request left open.

    `dropped` is the end of its sentences that the model will not read, or "".

    Raises: TaskNotSupported, BadSize, BadSetting, PromptError, PromptTooLong (strict requests only).
    """
    if request.task not in model.tasks:
        raise TaskNotSupported(f"{model.name} cannot {request.task}", hint=f"it can {', '.join(model.tasks)}")
    if isinstance(request, Generate):
        request = settle_subject(request, model)
    if request.strict and dropped:
        raise PromptTooLong(
            f"{model.name} would not read the end of this prompt: {dropped}", hint="shorten it, or leave out --strict"
        )
    sizing = settle_sizing(request, model)
    settings = request.settle(model.habits)
    count = max(request.count, len(settings.places) if settings.places is not None else 1)
    check_kept(count, sizing.size)
    stages = fill_stages(request, model, sizing.size)
    doubts = () if sizing.warning is None else (sizing.warning,)
    return Recipe(
        task=request.task,
        prompt=request.words,
        dropped=tuple(dropped.split()),
        inputs=tuple(source.recorded() for source in request.inputs),
        settings=settings,
        model=model.name,
        digest=None,
        seed=seed,
        count=count,
        size=sizing.size,
        crop=sizing.crop,
        stages=stages,
        prior=settle_prior(request, model) if request.imagines else None,
        prior_candidates=settle_candidates(request, model, request.rivals),
        device=request.device,
        dtype=request.dtype,
        versions={"dallecli": __version__},
        rewritten=request.rewritten,
        warnings=(*doubts, *_idle_dials(request, stages, model)),
    )


def settle_subject(request: Generate, model: Defaults) -> Generate:
    """The request with its class by the name that the model has for it.

    Raises: BadSetting for a class of a model without any, one that there is not, and words that nobody reads;
        PromptError if words are needed, and there are none.
    """
    if model.prompts:
        if request.class_name is not None:
            what = f"{model.name} paints what it is told in words, and knows no classes"
            raise BadSetting(what, hint=f"a prompt instead of --class: dalle generate {quoted(request.class_name)}")
        if request.prompt is None:
            raise PromptError("no prompt was given", hint='say what to paint: "a red fox in the snow"')
        return request
    if request.prompt is not None:
        hint = f"name a class instead of a prompt: --class {quoted(request.prompt)}"
        raise BadSetting(f"{model.name} reads no words", hint=hint)
    if request.class_name is None or model.classes is None:
        return request
    return replace(request, class_name=model.classes.named(request.class_name))


R = TypeVar("R", bound=ModelRequest)


def leave_out_usual(request: R, model: Defaults) -> tuple[R, tuple[str, ...]]:
    """The request without those of its `usual` values that the model cannot follow, and what is to be said of them."""
    if not request.usual:
        return request, ()
    notices = []
    for name, problem in list(_problems(request, model)):
        if name in request.usual:
            request = request.without(name)
            notices.append(f"{problem.what}, so {name.replace('_', '-')} of the config file does not count")
    return request, tuple(notices)


def _problems(request: ModelRequest, model: Defaults) -> Iterator[tuple[str, RequestError]]:
    """The values, by their names in a prompt line, with which a model cannot do a request, and why."""
    yield from _problem("size", settle_sizing, request, model)
    priors = list(_problem("prior", settle_prior, request, model))
    yield from priors
    request = replace(request, prior_kind=None) if priors else request
    yield from _problem("prior_candidates", settle_candidates, request, model)
    yield from _unfit_dials(request, model, _declared(request, model))


def _problem(
    name: str, settle: Callable[[ModelRequest, Defaults], object], request: ModelRequest, model: Defaults
) -> Iterator[tuple[str, RequestError]]:
    try:
        settle(request, model)
    except RequestError as error:
        yield name, error


def settle_rows(request: Request, name: str, rows: int | None) -> Request:
    """A request that goes on from a picture, with how many rows of codes are kept: half of them if it does not say.

    `rows` is how many a picture of the model `name` has; None where it does not write pictures row by row.

    Raises: TaskNotSupported, BadSetting.
    """
    if not isinstance(request, Generate) or request.continued is None:
        return request
    if rows is None:
        hint = "models that write codes and have their encoder can; --init paints over a picture"
        raise TaskNotSupported(f"{name} cannot go on from a picture", hint=hint)
    kept = request.rows if request.rows is not None else rows // 2
    if not 1 <= kept < rows:
        raise BadSetting(f"{kept} rows are kept of the {rows} that a picture of {name} has", hint=f"1 to {rows - 1}")
    return replace(request, rows=kept)


def quoted(text: str) -> str:
    """A text as an argument of a command line that is shown."""
    return shlex.quote(safe(text, 60))


def settle_prior(request: ModelRequest, model: Defaults) -> str | None:
    """What makes an image embedding of words: one of `PRIOR_KINDS`, or None for a model without a prior.

    Whether words can be painted without a prior is the model's `Description` to say.

    Raises: BadSetting for a prior that the model does not have.
    """
    if request.prior_kind is None:
        return next((kind for kind, stage in PRIORS.items() if stage in model.declared), None)
    kinds = [kind for kind, stage in PRIORS.items() if stage in model.declared]
    if request.prior_kind not in (*kinds, NO_PRIOR):
        what = f"{model.name} has no {request.prior_kind} prior"
        raise BadSetting(what, hint=f"--prior {' or '.join((*kinds, NO_PRIOR))}")
    return request.prior_kind


def check_kept(count: int, size: Size) -> None:
    """Refuse more pictures than can be kept until their sheet is drawn.

    Raises: BadSetting.
    """
    if count * size.pixels > KEPT_PIXELS:
        most = max(KEPT_PIXELS // size.pixels, 1)
        hint = f"at most {most} of this size at a time; lines of a prompt file paint any number"
        raise BadSetting(f"{count} pictures of {size.stated} px are more than are kept in memory", hint=hint)


def settle_sizing(request: ModelRequest, model: Defaults) -> Sizing:
    """What a model paints for the size of a request. Raises BadSize for one that it cannot paint."""
    sizing = settle_size(request.size, model)
    if isinstance(request, Inpaint) and not (sizing.size.is_square and sizing.crop is None):
        size = sizing.crop if sizing.crop is not None else sizing.size
        what = f"a hole is painted in squares, and not in {size} pixels; the picture keeps its own size"
        raise BadSize(what, hint="leave --size out, or give it one number")
    if isinstance(request, Embed):  # nobody sees a picture of which a part could be kept
        return Sizing(size=settle_whole(request.size, model))
    return sizing


def _idle_dials(request: ModelRequest, stages: Mapping[str, StageSettings], model: Defaults) -> tuple[str, ...]:
    """What is said of dials that were asked for, of stages that the model has and that do not run for this."""
    asked = {"prior": request.prior, "decoder": request.decoder, "upsampler": request.upsampler}
    running = {stage.group for stage in model.declared if stage.name in stages}
    idle = [value_name(group, dial) for group in GROUPS if group not in running for dial in asked[group].stated]
    if request.prior_candidates is not None and "prior" not in running:
        idle.append("prior_candidates")
    if request.prior_kind is not None and not request.imagines:
        idle.append("prior")
    options = [f"--{name.replace('_', '-')}" for name in idle if name not in request.usual]
    return tuple(f"{name} changes nothing: that stage does not run for this" for name in options)


def settle_candidates(request: ModelRequest, model: Defaults, rivals: int = 1) -> int | None:
    """How many embeddings the prior draws for each picture: the model's own times `rivals`, if none is asked for.

    Raises: BadSetting if there is no prior, and candidates were asked for.
    """
    if model.prior_candidates is None or request.prior_kind == NO_PRIOR:
        if request.prior_candidates is not None:
            what = f"{model.name} has no prior" if model.prior_candidates is None else "no prior draws candidates"
            raise BadSetting(what, hint="leave out --prior-candidates")
        return None
    if request.prior_candidates is not None:
        return request.prior_candidates
    return min(model.prior_candidates * rivals * (BEST if request.effort == "best" else 1), CANDIDATES)


def fill_stages(request: ModelRequest, model: Defaults, size: Size) -> dict[str, StageSettings]:
    """The stages that a request runs to paint (or to invert) pictures of `size`, with every dial set.

    Raises: BadSetting for a dial that the model's stages do not have, and a sampler that does not go both ways.
    """
    declared = _declared(request, model)
    for _, problem in _unfit_dials(request, model, declared):
        raise problem
    dials = model.dials(request.way)
    own = {stage.name: _at_effort(request.effort, stage, dials[stage.name]) for stage in declared}
    inversion: dict[str, StageSettings] = {}
    if request.inversion is not None:
        inversion = {INVERSION: _settle(request.inversion, _hurried(request.effort, INVERTING))}
        # Steps are undone by the same steps, so what paints from inverted noise follows the inversion.
        own |= {stage.name: inversion[INVERSION] for stage in declared if not stage.imagines}
    running = model.running(size)
    asked = {"prior": request.prior, "decoder": request.decoder, "upsampler": request.upsampler}
    settled = {stage.name: _settle(asked[stage.group], own[stage.name]) for stage in declared}
    imagining = {stage.name: settled[stage.name] for stage in declared if stage.imagines and request.imagines}
    return imagining | inversion | {name: settled[name] for name in running}


def request_of(recipe: Recipe) -> Request:
    """The request that a recipe answers, as far as a request can say it.

    The upsamplers' dials are left out, and of a sweep only the last picture is asked for.

    A recipe that was read from a file is checked by this. Raises BadRecipe, and what the requests raise.
    """
    dials = {name: Dials(**written(stage)) for name, stage in recipe.stages.items()}
    common: dict[str, Any] = {
        "model": recipe.model,
        "seed": recipe.seed,
        "count": recipe.count,
        "size": recipe.size,
        "prior_kind": recipe.prior,
        "prior": next((dials[stage.name] for stage in PRIORS.values() if stage.name in dials), Dials()),
        "decoder": next((dials[stage.name] for stage in (DECODER, CODES) if stage.name in dials), Dials()),
        "inverting": dials.get(INVERSION, Dials()),
        # Of a recipe without words nobody drew any.
        "prior_candidates": recipe.prior_candidates if recipe.prior is not None else None,
        "device": recipe.device,
        "dtype": recipe.dtype,
    }
    for name, stated in dials.items():
        check_dials(name, stated)
    settings = recipe.settings
    check_kept(recipe.count, recipe.size)
    if not recipe.inputs and recipe.task != "generate":
        raise BadRecipe(f"the recipe says {recipe.task}, and not what")
    if settings.has_frames and settings.places is not None:
        if len(settings.places) != recipe.count:
            raise BadRecipe(f"the recipe has {recipe.count} pictures and {len(settings.places)} places for them")
        common["count"] = 1
    request = settings.request(recipe.prompt, recipe.inputs, common)
    if request.inputs != recipe.inputs:
        raise BadRecipe(f"{recipe.task} does not start from {len(recipe.inputs)} inputs")
    return request


def _declared(request: ModelRequest, model: Defaults) -> list[Stage]:
    """The stages that a request may run: of several priors the one that is asked for."""
    kind = settle_prior(request, model)
    return [stage for stage in model.declared if not stage.imagines or (kind and PRIORS.get(kind) == stage)]


def _unfit_dials(request: ModelRequest, model: Defaults, declared: Sequence[Stage]) -> Iterator[tuple[str, BadSetting]]:
    """The dials, by their names in a prompt line, that would be swallowed: no stage of the model has them.

    And a sampler that does not go both ways, where that is needed.
    """
    asked = {"prior": request.prior, "decoder": request.decoder, "upsampler": request.upsampler}
    for group in GROUPS:
        stated = asked[group].stated
        stages = [stage for stage in declared if stage.group == group] if stated else []
        for dial in stated:
            if not stages:
                nobody = f"{model.name} has no {group}" if request.prior_kind != NO_PRIOR else f"no {group} runs"
                yield value_name(group, dial), BadSetting(nobody, hint=f"leave out {option(group, dial)}")
            elif not any(dial in stage.dials for stage in stages):
                whose = (
                    f"{model.name}, which writes codes,"
                    if stages[0] == CODES
                    else f"the {stages[0].spoken} of {model.name}"
                )
                own = ", ".join(option(group, name) for name in stages[0].dials if has_option(group, name))
                what = f"{whose} has no {dial.replace('_', '-')}"
                yield value_name(group, dial), BadSetting(what, hint=f"leave out {option(group, dial)}; it has {own}")
    if request.effort is not None and not any(_is_hurried(stage) for stage in declared):
        what = f"{model.name} has no steps that --{request.effort} would change"
        yield "effort", BadSetting(what, hint=f"leave out --{request.effort}")
    for group in PAINTING_GROUPS:
        if request.inversion is not None and asked[group].sampler not in (None, INVERTING.sampler):
            what = f"inverted noise cannot be painted with the sampler {asked[group].sampler!r}"
            hint = f"leave {option(group, 'sampler')} out: it is {INVERTING.sampler}"
            yield value_name(group, "sampler"), BadSetting(what, hint=hint)


def _is_hurried(stage: Stage) -> bool:
    return stage.hurried and stage.settings is DiffusionSettings


def _at_effort(effort: str | None, stage: Stage, own: StageSettings) -> StageSettings:
    """A model's own dials of a stage, changed by how much effort is asked for."""
    if not isinstance(own, DiffusionSettings):
        return own
    if effort == "fast" and not stage.imagines:
        own = replace(own, reuse=max(own.reuse, FAST_REUSE))
    if not stage.hurried:
        return own
    return _hurried(effort, own, own.sampler if stage.imagines else FAST_SAMPLER)


def _hurried(effort: str | None, own: DiffusionSettings, fast_sampler: str = INVERTING.sampler) -> DiffusionSettings:
    if effort is None:
        return own
    if effort == "best":
        return replace(own, steps=BEST * own.count)
    return replace(own, sampler=fast_sampler, steps=min(FAST_STEPS, own.count))


def _settle(asked: Dials, own: StageSettings) -> StageSettings:
    """A stage's own dials, changed by those that were asked for and that it has."""
    stated: dict[str, Any] = {name: value for name, value in asked.stated.items() if hasattr(own, name)}
    return replace(own, **stated) if stated else own
