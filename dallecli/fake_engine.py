"""An engine for tests: the whole contract, and flat colours instead of pictures. No torch, and no weights."""

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from dallecli.classes import Classes
from dallecli.engine import Progress, arithmetic, check_same_size, check_same_stages, unscored
from dallecli.errors import BadSteps, TaskNotSupported, UnknownModel, UnknownSampler
from dallecli.filling import fill, fill_stages, leave_out_usual, random_seed, request_of, settle_rows
from dallecli.inputs import check_inputs
from dallecli.knowledge import Knowledge
from dallecli.recipe import Recipe
from dallecli.shortlist import OWN, Scores, Shortlist
from dallecli.size import Size
from dallecli.sizing import own_side, settle_whole
from dallecli.source import Source
from dallecli.tasks.coding import Coding
from dallecli.tasks.edit import Editing
from dallecli.tasks.embed import Embed
from dallecli.tasks.inpaint import Inpainting
from dallecli.tasks.interpolate import Interpolating
from dallecli.tasks.stages import DECODER, INVERSION, PRIOR, UPSAMPLERS, DiffusionSettings, Stage, StageSettings
from dallecli.tasks.table import TASKS
from dallecli.tasks.task import HABITS, Habits, ModelRequest, Request

if TYPE_CHECKING:
    from PIL import Image

    from dallecli.codes_file import Coded
    from dallecli.embedding_file import Embedded
    from dallecli.pictures.picture import Picture


@dataclass(frozen=True, slots=True, kw_only=True)
class _FakeModel:
    """Defaults of a model that does not exist, shaped like the starter."""

    name: str
    tasks: tuple[str, ...] = tuple(TASKS)
    prior_candidates: int = 2
    sizes: tuple[int, ...] = (16, 64, 256)
    largest: int | None = None
    grids: tuple[int, ...] = (8, 32, 128)
    habits: Habits = HABITS
    prompts: bool = True
    classes: Classes | None = None

    @property
    def stages(self) -> Mapping[str, DiffusionSettings]:
        return _STAGES

    @property
    def declared(self) -> tuple[Stage, ...]:
        return (PRIOR, DECODER, *UPSAMPLERS)

    def dials(self, way: str) -> Mapping[str, DiffusionSettings]:
        return self.stages

    def running(self, size: Size) -> tuple[str, ...]:
        """The decoder, and an upsampler for each size after the first."""
        return tuple(stage.name for stage in self.declared[1 : 2 + self.sizes.index(own_side(size, self.sizes))])


_STAGES = {
    "prior": DiffusionSettings(sampler="ancestral", steps=10, guidance=4.0),
    "decoder": DiffusionSettings(sampler="ancestral", steps=25, guidance=4.0),
    "upsampler": DiffusionSettings(sampler="ancestral", steps=7, guidance=1.0),
    "upsampler_2": DiffusionSettings(sampler="ancestral", steps=7, guidance=1.0),
}


class FakeEngine:
    """Paints flat colours from the seed, which makes every front testable in milliseconds.

    It knows the models "starter" and "fake", the samplers of the local engine, up to 1000 steps, and reads 32 words of
    a prompt. Each step sleeps `seconds_per_step`, so that progress can be looked at.
    """

    MODELS = ("starter", "fake")
    SAMPLERS = ("ancestral", "ddim", "dpm++", "plms")
    STEPS = 1000
    WORDS = 32
    SPACE = "fake"
    GROUP = 4
    DIGEST = "0" * 64

    def __init__(self, seconds_per_step: float = 0.0) -> None:
        self.seconds_per_step = seconds_per_step

    def resolve(self, request: Request) -> Recipe:
        spec = self._find(request)
        request, notices = leave_out_usual(request, spec)
        request = settle_rows(request, spec.name, None)
        if request.judge is not None:
            self._known(request.judge)
            request = request.with_judge(request.judge if request.judge != request.model else None)
        seed = request.seed if request.seed is not None else random_seed()
        recipe = fill(request, spec, self._dropped(request), seed)
        self._check_stages(recipe.stages)
        warnings = (*notices, *recipe.warnings, *check_inputs(request, recipe.size, self.SPACE))
        return recipe if warnings == recipe.warnings else replace(recipe, warnings=warnings)

    def revive(self, recipe: Recipe, model: str | None = None) -> Recipe:
        recipe = replace(recipe, model=model if model is not None else recipe.model)
        fresh = self.resolve(request_of(recipe))
        check_same_stages(recipe, fresh)
        check_same_size(recipe, fresh)
        self._check_stages(recipe.stages)
        return replace(unscored(recipe), warnings=fresh.warnings)

    def paint(
        self, recipe: Recipe, progress: Callable[[Progress], None], scores: Scores | None = None
    ) -> Iterator["Picture"]:
        whole = replace(recipe, digest=self.DIGEST, device="cpu", dtype="fp32")
        if recipe.settings.best_of is None:
            yield from self._paint(whole, progress)
            return
        whole = whole.judged(recipe.settings.judge, self.judge_digest(recipe))
        shortlist, candidates = Shortlist(whole, scores), whole.candidates()
        for first, count in shortlist.missing():
            for picture in self._paint(replace(candidates, seed=first, count=count), progress):
                shortlist.take(picture, _score(picture, recipe.settings.judge))
        for seed in shortlist.absent():
            for picture in self._paint(replace(candidates, seed=seed, count=1), progress):
                shortlist.put(picture)
        yield from shortlist.pictures()

    def judge_digest(self, recipe: Recipe) -> str | None:
        return None if recipe.settings.judge is None else self.DIGEST

    def knowledge(self, model: str) -> Knowledge:
        self._known(model)
        return Knowledge()

    def memory(self, recipe: Recipe) -> str:
        return "next to nothing"

    def group(self, recipe: Recipe) -> int:
        return self.GROUP

    def paint_together(self, recipes: Sequence[Recipe], progress: Callable[[Progress], None]) -> Iterator["Picture"]:
        for recipe in recipes:
            yield from self.paint(recipe, progress)

    def reads_ahead(self, recipe: Recipe) -> bool:
        return False

    def expect(self, recipes: Sequence[Recipe]) -> None:
        """It has no network that would do something at once."""

    def machine(self, recipe: Recipe) -> str:
        return replace(recipe, device="cpu", dtype="fp32").machine

    def digest(self, recipe: Recipe) -> str:
        return self.DIGEST

    def embed(self, request: Embed, progress: Callable[[Progress], None]) -> "list[Embedded]":
        from dallecli.embedding_file import read_embedding

        spec = self._find(request)
        request, _ = leave_out_usual(request, spec)
        size = settle_whole(request.size, spec)
        check_inputs(request, size, self.SPACE)
        stages = fill_stages(request, spec, size)
        self._check_stages(stages)
        found = []
        for k, source in enumerate(request.sources):
            if source.kind == "embedding":
                found.append(read_embedding(source))
                continue
            invert = request.invert and source.kind == "picture" and k < len(request.inputs)
            if invert:
                self._step(INVERSION, stages[INVERSION], k, len(request.inputs), progress)
            found.append(_fake_embedding(source, request, invert=invert))
        return arithmetic(request, found)

    def encode(self, request: Coding, progress: Callable[[Progress], None]) -> "list[Coded]":
        spec = self._find(request)
        raise TaskNotSupported(f"{spec.name} cannot encode", hint=f"it can {', '.join(spec.tasks)}")

    def decode(self, request: Coding, progress: Callable[[Progress], None]) -> "list[Image.Image]":
        spec = self._find(request)
        raise TaskNotSupported(f"{spec.name} cannot decode", hint=f"it can {', '.join(spec.tasks)}")

    def _paint(self, recipe: Recipe, progress: Callable[[Progress], None]) -> Iterator["Picture"]:
        from PIL import Image

        from dallecli.pictures.crops import cropped, cropping
        from dallecli.pictures.picture import Picture

        watch = cropping(recipe, progress)
        for k in range(recipe.count):
            start = time.perf_counter()
            single = recipe.single(k)
            red, green, blue, match = _fake_colour(single)
            image = Image.new("RGB", (recipe.size.width, recipe.size.height), (red, green, blue))
            if isinstance(recipe.settings, Inpainting):
                image = _inpainted(recipe, recipe.settings, image)
            for name, stage in recipe.stages.items():
                self._step(name, stage, k, recipe.count, watch, None if name == "prior" else [image])
            scores = {"prior": match / 255, OWN: blue / 255} if recipe.task == "generate" else {}
            yield cropped(Picture(image=image, recipe=single, seconds=time.perf_counter() - start, scores=scores))

    def _step(
        self,
        name: str,
        stage: StageSettings,
        picture: int,
        pictures: int,
        progress: Callable[[Progress], None],
        seen: "Sequence[Image.Image] | None" = None,
    ) -> None:
        assert isinstance(stage, DiffusionSettings)  # the fake models have no others
        for step in range(1, stage.count + 1):
            if self.seconds_per_step > 0:
                time.sleep(self.seconds_per_step)
            look = None if seen is None else lambda: seen
            progress(Progress(stage=name, step=step, steps=stage.count, picture=picture, pictures=pictures, look=look))

    def _find(self, request: ModelRequest) -> _FakeModel:
        self._known(request.model)
        return _FakeModel(name=request.model)

    def _known(self, name: str) -> None:
        if name not in self.MODELS:
            raise UnknownModel(f"no model is called {name!r}", hint=f"one of {', '.join(self.MODELS)}")

    def _dropped(self, request: ModelRequest) -> str:
        return " ".join(" ".join(text.split()[self.WORDS :]) for text in request.texts).strip()

    def _check_stages(self, stages: Mapping[str, StageSettings]) -> None:
        for name, stage in stages.items():
            assert isinstance(stage, DiffusionSettings)  # the fake models have no others
            if stage.sampler not in self.SAMPLERS:
                raise UnknownSampler(
                    f"no sampler is called {stage.sampler!r}", hint=f"one of {', '.join(self.SAMPLERS)}"
                )
            if stage.count > self.STEPS:
                raise BadSteps(f"the {name} was trained on {self.STEPS} steps, not {stage.count}")


def _score(picture: "Picture", judge: str | None) -> float:
    """What the model itself finds of a picture is its blue; what a judge finds has nothing to do with it."""
    return picture.scores[OWN] if judge is None else _hash(f"{picture.recipe.seed} {judge}")[0] / 255


def _fake_colour(recipe: Recipe) -> bytes:
    """Red, green, blue and a score, from what decides about a picture: seed, inputs, settings. Ends are mixed."""
    settings = recipe.settings
    if isinstance(settings, Interpolating):
        ends = [_hash(f"{recipe.seed} {_key(source)}") for source in recipe.inputs]
        weights = _along(settings.positions[0], len(ends)) if settings.positions is not None else settings.weights
        shares = weights if weights is not None else ()
        return bytes(round(sum(share * end[i] for share, end in zip(shares, ends, strict=True))) for i in range(4))
    parts = [str(recipe.seed), *(_key(source) for source in recipe.sources)]
    if isinstance(settings, Editing):
        parts += [settings.before, settings.after, repr(settings.strengths[0])]
    return _hash(" ".join(parts))[:4]


def _key(source: Source) -> str:
    return source.name if source.sha256 is None else source.sha256


def _inpainted(recipe: Recipe, settings: Inpainting, painted: "Image.Image") -> "Image.Image":
    from dallecli.pictures.canvas import lay_out

    layout = lay_out(recipe.inputs[0], settings.mask, settings.expand, recipe.size.width)
    canvas = layout.canvas
    for patch in layout.patches:
        canvas = canvas.paste(patch, painted)
    return canvas.image


def _along(position: float, ends: int) -> tuple[float, ...]:
    """The share of each end at a position from 0 to 1 between the first and the last."""
    along = position * (ends - 1)
    return tuple(max(0.0, 1 - abs(along - k)) for k in range(ends))


def _hash(text: str) -> bytes:
    return hashlib.sha256(text.encode()).digest()


def _fake_embedding(source: Source, request: Embed, *, invert: bool) -> "Embedded":
    import numpy as np

    from dallecli.embedding_file import Embedded

    vector = (np.frombuffer(_hash(_key(source)), np.uint8) / 128 - 1).astype(np.float32)
    return Embedded(
        vector=vector,
        kind="text" if source.kind == "text" and not request.imagine else "image",
        space=FakeEngine.SPACE,
        name=source.recorded().name,
        model=request.model,
        noise={"decoder": np.zeros((3, 16, 16), np.float32)} if invert else {},
    )
