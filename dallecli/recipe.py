"""How a picture was made: a request with nothing left open, as frozen data, to JSON and back.

Pictures carry it (pictures/metadata.py), `dalle show` prints it. The JSON is plain ASCII, so that no prompt can do
anything to a terminal or to a reader of metadata.
"""

import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from typing import Any, Final

from dallecli.errors import BadRecipe, RequestError
from dallecli.fields import Fields, Wording, read_json
from dallecli.rewritten import Rewritten
from dallecli.size import Size, read_size
from dallecli.source import Source
from dallecli.tasks.generate import Generating
from dallecli.tasks.stages import (
    NO_PRIOR,
    PRIOR_KINDS,
    PRIORS,
    RESPACINGS,
    DiffusionSettings,
    StageSettings,
    TokenSettings,
    read_saving,
    written,
)
from dallecli.tasks.table import SETTINGS
from dallecli.tasks.task import Settings, check_numbers
from dallecli.unknown import Unknown

FORMAT = "dalle-recipe/2"
OLD_FORMATS = ("dalle-recipe/1",)
"""Formats that are still read. The first knew `generate` only, so it had no inputs, settings and scores."""

DIAL_LIMIT: Final = 2**31
"""Above every number of steps and of tokens."""

WORDING: Final = Wording(
    not_a_table="the recipe is not a JSON object",
    missing="the recipe has no {path!r}",
    wrong="{path!r} in the recipe is {value}, not {wanted}",
    unknown="the recipe holds what no recipe holds: {path}",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """How the frames of an animation follow each other: see `pictures.animation.Tempo`."""

    fps: float
    bounce: bool
    hold: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One task with every dial set.

    `digest` and what is of the machine (`device` to `compiled`) are None, or as asked, until an engine has opened the
    model; the recipe of a finished picture states what was used.
    """

    task: str
    """Its name."""
    prompt: str
    """The prompt that is painted; "" if there was none."""
    dropped: tuple[str, ...]
    """The words at the end of a sentence that the model did not read."""
    inputs: tuple[Source, ...] = ()
    """The pictures, embeddings or words that it starts from; the files of a mask are in `settings`."""
    settings: Settings = field(default_factory=Generating)
    """What only this task has."""
    model: str
    """Its name."""
    digest: str | None
    """The sha256 of what is used of the model, in hex."""
    seed: int
    """Of the first picture; picture k has the seed `seed + k`."""
    count: int
    """How many pictures."""
    size: Size
    """Of what the model paints."""
    crop: Size | None = None
    """The middle of it that is the picture; None where that is all of it."""
    stages: Mapping[str, StageSettings]
    """The dials of the stages in the order in which they run, and of `INVERSION` if pictures are inverted."""
    prior: str | None = None
    """What made an image embedding of words, one of `PRIOR_KINDS`; None where there were no words, or no prior."""
    prior_candidates: int | None
    """How many embeddings the prior draws for a picture; None for a model without a prior."""
    device: str | None
    dtype: str | None
    """The number type."""
    threads: int | None = None
    """How many threads of a CPU: sums are divided among them, and rounded in another order. None elsewhere, and where
    pictures do not depend on it."""
    together: int | None = None
    """How many pictures were painted at a time: sums of another shape are rounded in another order. None where pictures
    do not depend on it."""
    compiled: bool | None = None
    """Whether torch compiled the networks: their sums are ordered in another way, too."""
    versions: Mapping[str, str]
    """Of what made it, by name: the programs' versions, and of a processor ("cpu", "gpu") what it computes with."""
    scores: Mapping[str, float] = field(default_factory=dict)
    """Of a finished picture."""
    motion: Motion | None = None
    """Of an animation."""
    rewritten: Rewritten | None = None
    """What was asked for, where a language model rewrote it; None where nobody did."""
    warnings: tuple[str, ...] = field(default=(), compare=False)
    """For the author of the request; no file has them."""
    unknown: Unknown = field(default=Unknown(), compare=False)
    """What the model does not know of this; no file has it."""

    def single(self, k: int) -> "Recipe":
        """The recipe of picture k alone, from 0: it paints exactly that picture.

        Raises: IndexError outside the count; ValueError for a best-of that has not been painted, where it is not known
        yet which picture that is.
        """
        if not 0 <= k < self.count:
            raise IndexError(f"picture {k} of {self.count}")
        settings = self.settings
        if settings.best_of is not None:
            if settings.kept is None:
                raise ValueError("which pictures are the best is known when all are painted")
            return replace(self, seed=settings.kept[k], count=1, settings=settings.unranked())
        if self.count == 1:
            return self
        if settings.has_frames and settings.places is not None:
            return replace(self, count=1, settings=settings.at(settings.places[k : k + 1]))
        return replace(self, seed=self.seed + k, count=1)

    def rest(self, first: int) -> "Recipe":
        """The recipe of picture `first` and all after it: what is left when the ones before are done."""
        return self.part(first, self.count)

    def part(self, first: int, most: int) -> "Recipe":
        """The recipe of picture `first` and those after it, `most` in all, or as many as there are."""
        settings, count = self.settings, min(most, self.count - first)
        if settings.has_frames and settings.places is not None:
            return replace(self, count=count, settings=settings.at(settings.places[first : first + count]))
        return replace(self, seed=self.seed + first, count=count)

    def candidates(self) -> "Recipe":
        """For a best-of the recipe of all pictures that are painted; any other recipe as it is."""
        best_of = self.settings.best_of
        return self if best_of is None else replace(self, count=best_of, settings=self.settings.unranked())

    def keeping(self, seeds: tuple[int, ...]) -> "Recipe":
        """A best-of with its outcome, best first; any other recipe as it is."""
        return replace(self, settings=self.settings.keeping(seeds))

    def judged(self, judge: str | None, digest: str | None) -> "Recipe":
        """The same with the name of what scores its pictures, or scored it, and the sha256 of that."""
        settings = self.settings.judged(judge, digest)
        return self if settings is self.settings else replace(self, settings=settings)

    @property
    def has_company(self) -> bool:
        """Whether it can be painted together with others that are `alike`."""
        return self.count == 1 and not self.inputs and self.settings.alike

    @property
    def alike(self) -> "Recipe | None":
        """What recipes that can be painted together have in common: all but the prompt and the seed.

        None for tasks and numbers of pictures that cannot be painted together.
        """
        if not self.has_company:
            return None
        return replace(self, prompt="", dropped=(), seed=0, rewritten=None, warnings=(), unknown=Unknown())

    @property
    def picture_size(self) -> Size:
        """Of a finished picture, of every task but `inpaint`, whose pictures are as large as what they were before."""
        return self.crop if self.crop is not None else self.size

    @property
    def sources(self) -> tuple[Source, ...]:
        """Every file that is needed to paint this: the inputs, and the files of the mask."""
        return (*self.inputs, *self.settings.mask_files)

    def with_sources(self, change: Callable[[Source], Source]) -> "Recipe":
        """The same with every source changed, for example into one that has its bytes."""
        inputs = tuple(change(source) for source in self.inputs)
        return replace(self, inputs=inputs, settings=self.settings.with_mask_files(change))

    @property
    def position(self) -> float | None:
        """The place of a single picture: between the ends, or towards the other sentence. None for other tasks."""
        places = self.settings.places
        return None if places is None else places[0]

    @property
    def notices(self) -> list[str]:
        """What whoever asked should know before this is painted: the picture is perhaps not what was meant.

        What is `unknown` is not among it: of many recipes it is said once.
        """
        dropped = " ".join(self.dropped)
        unread = [f"{self.model} reads no further than this; dropped: {dropped}"] if dropped else []
        return [*self.warnings, *unread]

    @property
    def machine(self) -> str:
        """What painted it besides this program, in words: everything that may round in another way."""
        made = ", ".join(f"{name} {version}" for name, version in self.versions.items() if name != "dallecli")
        where = " ".join(text for text in (self.device, self.dtype) if text is not None)
        if self.threads is not None:
            where += f", {self.threads} thread{'s' if self.threads > 1 else ''}"
        if self.together is not None and self.together > 1:
            where += f", {self.together} at a time"
        if self.compiled:
            where += ", compiled"
        return " on ".join(text for text in (made, where) if text)

    @property
    def made_with(self) -> str:
        """This program's version and the `machine`, in words."""
        version = self.versions.get("dallecli")
        return ", ".join(text for text in (f"dallecli {version}" if version else "", self.machine) if text)

    @property
    def title(self) -> str:
        """A few words for a file's name and a progress bar: the prompt, or what was done to which input.

        Of sentences that were rewritten it has what was asked for, which is what somebody looks for.
        """
        title = self.settings.title(self.prompt, self.inputs)
        return title if self.rewritten is None else self.rewritten.as_asked(title)

    def to_dict(self) -> dict[str, Any]:
        """Plain data, in the order in which a person wants to read it."""
        return {
            "format": FORMAT,
            "task": self.task,
            "prompt": self.prompt,
            **({"rewritten": self.rewritten.to_dict()} if self.rewritten is not None else {}),
            "dropped": list(self.dropped),
            "inputs": [source.to_dict() for source in self.inputs],
            "settings": self.settings.to_dict(),
            "model": self.model,
            "digest": self.digest,
            "seed": self.seed,
            "count": self.count,
            "size": self.size.stated,
            **({} if self.crop is None else {"crop": self.crop.stated}),
            "stages": {name: written(stage) for name, stage in self.stages.items()},
            "prior": self.prior,
            "prior_candidates": self.prior_candidates,
            "device": self.device,
            "dtype": self.dtype,
            "threads": self.threads,
            "together": self.together,
            "compiled": self.compiled,
            "versions": dict(self.versions),
            "scores": dict(self.scores),
            "motion": None if self.motion is None else asdict(self.motion),
        }

    def to_json(self) -> str:
        """One line of ASCII."""
        return json.dumps(self.to_dict(), allow_nan=False)

    @staticmethod
    def from_json(text: str) -> "Recipe":
        """Read what `to_json` wrote, or an older version did.

        What is read can be shown; whether it can be painted is checked by `filling.request_of`. Raises BadRecipe for
        anything else: unknown, missing, doubled or mistyped keys, a number of pictures that no request has.
        """
        try:
            data = read_json(text)
        except ValueError as error:
            raise BadRecipe(f"the recipe is not JSON: {error}") from error
        return Recipe.from_dict(data)

    @staticmethod
    def from_dict(data: object) -> "Recipe":
        """The same of what JSON holds: `to_dict` gave it. Raises BadRecipe."""
        fields = Fields(data, BadRecipe, wording=WORDING)
        written = fields.text("format")
        if written not in (FORMAT, *OLD_FORMATS):
            raise BadRecipe(f"the recipe is written as {written!r}", hint=f"this version reads {FORMAT!r}")
        recipe = _read(fields, old=written != FORMAT)
        _check(recipe)
        return recipe


def _read(fields: Fields, *, old: bool) -> Recipe:
    task = fields.choice("task", ("generate",) if old else tuple(SETTINGS))
    stages = _read_stages(fields.table("stages"))
    recipe = Recipe(
        task=task,
        prompt=fields.text("prompt"),
        dropped=fields.texts("dropped"),
        inputs=() if old else tuple(Source.read(source) for source in fields.tables("inputs")),
        settings=Generating() if old else _read_settings(task, fields.table("settings")),
        model=fields.text("model"),
        digest=fields.text("digest", optional=True),
        seed=fields.whole("seed"),
        count=fields.whole("count"),
        size=_read_size(fields, "size"),
        crop=_read_size(fields, "crop") if "crop" in fields else None,
        stages=stages,
        prior=_read_prior(fields, stages),
        prior_candidates=fields.whole("prior_candidates", optional=True),
        device=fields.text("device", optional=True),
        dtype=fields.text("dtype", optional=True),
        **_read_machine(fields),
        versions=_read_versions(fields.table("versions")),
        scores={} if old else _read_scores(fields.table("scores")),
        motion=None if old else _read_motion(fields),
        rewritten=Rewritten.read(fields.table("rewritten")) if "rewritten" in fields else None,
    )
    fields.finish()
    return recipe


def _read_size(fields: Fields, key: str) -> Size:
    """A size as `Size.stated` has it. Raises BadRecipe."""
    written, size = fields.take(key), None
    with suppress(ValueError):
        size = Size.square(written) if type(written) is int else read_size(str(written))
    if not isinstance(size, Size) or isinstance(written, bool):
        raise fields.wrong(key, written, "a size in pixels")
    return size


def _read_machine(fields: Fields) -> dict[str, Any]:
    """What of the machine 0.1.0 did not write."""
    counts = {name: fields.whole(name, least=1, optional=True) for name in ("threads", "together") if name in fields}
    compiled = "compiled" in fields and not fields.null("compiled")
    return counts | ({"compiled": fields.flag("compiled")} if compiled else {})


def _check(recipe: Recipe) -> None:
    """Refuse what would have no title, no pictures, or numbers beyond all counting. Raises BadRecipe."""
    if not recipe.inputs and recipe.task != "generate":
        raise BadRecipe(f"the recipe says {recipe.task}, and not what")
    if recipe.crop is not None and (recipe.task == "inpaint" or not recipe.size.holds(recipe.crop)):
        raise BadRecipe(f"the recipe cuts {recipe.crop} out of {recipe.size} pixels")
    try:
        check_numbers(None, recipe.count, None, recipe.prior_candidates)
        check_numbers(recipe.seed, 1, None, None)  # frames share a seed
    except RequestError as error:
        raise BadRecipe(error.what, hint=error.hint) from error


def _read_settings(task: str, fields: Fields) -> Settings:
    settings = SETTINGS[task].read(fields)
    fields.finish()
    return settings


def _read_prior(fields: Fields, stages: Mapping[str, StageSettings]) -> str | None:
    """What made embeddings; 0.1.0 did not say so, and had one prior."""
    ran = next((kind for kind, stage in PRIORS.items() if stage.name in stages), None)
    if "prior" not in fields:
        return ran
    prior = None if fields.null("prior") else fields.choice("prior", PRIOR_KINDS)
    if ran != (prior if prior != NO_PRIOR else None):
        raise BadRecipe(f"the recipe has the prior {prior}, and runs {', '.join(stages) or 'no stage'}")
    return prior


def _read_stages(fields: Fields) -> dict[str, StageSettings]:
    return {name: _read_stage(fields.table(name)) for name in fields}


def _read_stage(fields: Fields) -> StageSettings:
    stage: StageSettings
    if "steps" in fields:
        sampler, steps = fields.text("sampler"), fields.whole_or_choice("steps", RESPACINGS, most=DIAL_LIMIT)
        stage = DiffusionSettings(
            sampler=sampler, steps=steps, guidance=fields.number("guidance"), **read_saving(fields)
        )
    else:
        stage = TokenSettings(
            temperature=fields.number("temperature"),
            top_k=fields.whole("top_k", most=DIAL_LIMIT),
            top_p=fields.number("top_p"),
            guidance=fields.number("guidance"),
        )
    fields.finish()
    return stage


def _read_versions(fields: Fields) -> dict[str, str]:
    return {name: fields.text(name) for name in fields}


def _read_scores(fields: Fields) -> dict[str, float]:
    return {name: fields.number(name) for name in fields}


def _read_motion(recipe: Fields) -> Motion | None:
    if recipe.null("motion"):
        return None
    fields = recipe.table("motion")
    motion = Motion(fps=fields.number("fps"), bounce=fields.flag("bounce"), hold=fields.number("hold"))
    fields.finish()
    return motion
