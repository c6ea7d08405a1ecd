"""The engine that paints on this machine: from a model's name to an opened model that is kept for the next request.

`resolve` settles everything that needs no network, without torch: unknown names, cut-short files and impossible dials
are found in a fraction of a second. `paint` opens the model, once, and paints.
"""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, Final

from dallecli.engine import Progress, arithmetic, best, check_same_stages
from dallecli.errors import (
    BadEmbedding,
    BadFile,
    BadSetting,
    BadSteps,
    OutOfMemory,
    PromptTooLong,
    TaskNotSupported,
    UnknownModel,
    UnknownSampler,
)
from dallecli.filling import fill, fill_stages, random_seed, request_of, settle_candidates, settle_size
from dallecli.inputs import check_inputs
from dallecli.recipe import Recipe
from dallecli.safe import safe
from dallecli.tasks.embed import Embed
from dallecli.tasks.stages import INVERSION, DiffusionSettings, StageSettings
from dallecli.tasks.task import ModelRequest, Request
from dallecli.tokens import ClipTokenizer
from dallecli.weights.digest import file_digest
from dallecli.weights.folder import Folder
from dallecli.weights.lock import check_bytes
from dallecli.weights.registry import SAMPLERS, ModelSpec, find, locate

if TYPE_CHECKING:
    from dallecli.embedding_file import Embedded
    from dallecli.pictures.picture import Picture
    from dallecli.pipelines.parts import Parts
    from dallecli.placement import MemoryPlan, Placement

log = logging.getLogger(__name__)

BATCH: Final[Mapping[str, int]] = {"cpu": 1, "mps": 1, "cuda": 8}
"""Pictures at a time by type of device. On a CPU several at a time would be faster with small models, but one at a time
makes a picture the same to the last bit, whatever it was painted with. On a GPU it may differ by one level of 255."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Model:
    """A model that was found and looked over: its files are whole, its tokenizer is open.

    `parameters` is how many numbers each network has.
    """

    spec: ModelSpec
    folder: Folder
    tokenizer: ClipTokenizer
    parameters: Mapping[str, int]
    known_steps: dict[str, int] = field(default_factory=dict)

    def trained_steps(self, stage: str) -> int:
        """As of the folder, but read once: prompt files ask for it ten thousand times."""
        if stage not in self.known_steps:
            self.known_steps[stage] = self.folder.trained_steps(stage)
        return self.known_steps[stage]

    def space(self) -> str:
        """The name of the CLIP whose embeddings it works on: of a public one, or from its tower's own weights."""
        if self.spec.clip is not None:
            return self.spec.clip
        return f"clip-{file_digest(self.folder.weights_file(self.folder.clip))[:12]}"


@dataclass(frozen=True, slots=True, kw_only=True)
class _Opened:
    """A model with its networks, ready to paint, and the recipe's words for what it is."""

    source: str
    placement: "Placement"
    digest: str
    pipeline: Any  # a `pipelines.verbs.Model`, whose words are its own business


class LocalEngine:
    """Paints with the models of this machine. It keeps the last model open, and one only: they are large.

    `memory`, one of `placement.MEMORY`, says how much of it stays in memory. It is the engine's and not a request's,
    because pictures do not depend on it. `batch` is how many pictures are painted at once, None for `BATCH`. With
    `compiled` those networks that stay in the memory of a GPU are compiled by torch, each in a minute or so of the
    first run; on a CPU that gains next to nothing, so none is.

    Raises BadSetting for networks that are to be compiled and do not stay.
    """

    def __init__(self, memory: str = "auto", batch: int | None = None, *, compiled: bool = False) -> None:
        if compiled and memory == "low":
            what = "networks that leave the memory are not compiled"
            raise BadSetting(what, hint="--memory auto or high, or no --compile")
        self._memory = memory
        self._compiled = compiled
        self._models: dict[str, _Model] = {}
        self._opened: _Opened | None = None
        self._batch = dict(BATCH) if batch is None else dict.fromkeys(BATCH, batch)

    def resolve(self, request: Request) -> Recipe:
        """Close what the request left open. Reads descriptions, headers and the tokenizer, but no weights.

        Raises:
            RequestError: the model is unknown, or cannot do this: task, size, steps, sampler, guidance, prompt length.
            WeightsError: the model is not on this machine, or its files are not whole.
        """
        model = self._find(request.model)
        _check_parts(request, model)
        _check_words(request, model)
        dropped = _dropped(request, model)
        seed = request.seed if request.seed is not None else random_seed()
        recipe = fill(request, model.spec, dropped, seed)
        _check_stages(recipe.stages, model)
        return replace(recipe, warnings=_check_inputs(request, recipe.size, recipe.stages, model))

    def revive(self, recipe: Recipe) -> Recipe:
        """Check a recipe that was read from a file as `resolve` checks a request.

        Raises: BadRecipe for what no request asks for, and what `resolve` raises.
        """
        fresh = self.resolve(request_of(recipe))
        check_same_stages(recipe, fresh)
        _check_stages(recipe.stages, self._find(recipe.model))
        return replace(recipe, scores={}, warnings=fresh.warnings)

    def embed(self, request: Embed, progress: Callable[[Progress], None]) -> "list[Embedded]":
        """An embedding of every input, in order, after `arithmetic`.

        Raises: as `resolve` and `paint`.
        """
        model = self._find(request.model)
        _check_parts(request, model)
        dropped = _dropped(request, model)
        if dropped:
            what = f"{model.spec.name} would not read the end of this: {dropped}"
            if request.strict:
                raise PromptTooLong(what, hint="shorten it, or leave out --strict")
            log.warning("%s", safe(what, 300))
        size = settle_size(request, model.spec)
        stages = fill_stages(request, model.spec, size)
        _check_stages(stages, model)
        _check_inputs(request, size, stages, model)
        opened = self._open(model, request.device, request.dtype)
        from dallecli.pipelines.verbs import diffusion, embed

        with memory_errors(model.spec.name):
            found = embed(
                opened.pipeline,
                request,
                name=model.spec.name,
                size=size,
                stages=diffusion(stages),
                candidates=settle_candidates(request, model.spec) or 1,
                seed=request.seed if request.seed is not None else random_seed(),
                progress=progress,
            )
        return arithmetic(request, found)

    def paint(self, recipe: Recipe, progress: Callable[[Progress], None]) -> Iterator["Picture"]:
        """Yield the pictures of a recipe as they are done, each with its own completed recipe.

        Raises:
            BadFile: the recipe was made with other weights, or a file is damaged.
            LayoutMismatch: the weights are not those of the networks that the model describes.
            MachineError: the device is not here, memory does not suffice, or a stage gave no finite numbers.
        """
        opened = self._opened_for(recipe)
        complete = _completed(recipe.candidates(), opened)
        from dallecli.pipelines.verbs import VERBS, judge

        verb = VERBS[recipe.task]

        def paint_some(rest: Recipe, watch: Callable[[Progress], None], batch: int) -> Iterator["Picture"]:
            return verb(opened.pipeline, rest, watch, batch)

        kind = opened.placement.device.type
        pictures = paint_in_batches(paint_some, complete, progress, self._batch, kind)
        if recipe.settings.best_of is not None:
            words = opened.pipeline.read([recipe.prompt])
            pictures = iter(best([judge(opened.pipeline, picture, words) for picture in pictures], recipe.count))
        yield from pictures

    def group(self, recipe: Recipe) -> int:
        """How many pictures are painted at once on the recipe's device. Raises NoSuchDevice, BadSetting."""
        from dallecli.placement import decide

        return self._batch[decide(recipe.device, recipe.dtype).device.type]

    def paint_together(self, recipes: Sequence[Recipe], progress: Callable[[Progress], None]) -> Iterator["Picture"]:
        """Yield the picture of each recipe; where memory does not suffice, go on with half as many at once.

        Raises: as `paint`.
        """
        opened = self._opened_for(recipes[0])
        kind = opened.placement.device.type
        left = [_completed(recipe, opened) for recipe in recipes]
        while left:
            size = self._batch[kind]
            some, pictures = left[:size], None
            # Filled up, and what is too much thrown away: sums of another size may be rounded in another order.
            full = [*some, *[some[-1]] * (size - len(some))]

            def watch(step: Progress, count: int = len(some)) -> None:
                progress(replace(step, together=count, pictures=count))

            try:
                with memory_errors(some[0].model):
                    from dallecli.pipelines.verbs import generate_together

                    pictures = generate_together(opened.pipeline, full, watch)
            except OutOfMemory:
                if size == 1:
                    raise
            if pictures is None:  # not in the except block, where the exception still holds on to the tensors
                self._batch[kind] = size // 2
                _release(kind)
            else:
                left = left[len(some) :]
                yield from pictures[: len(some)]

    def digest(self, recipe: Recipe) -> str:
        """The sha256 of the model's weights, remembered from one process to the next. Raises BadFile."""
        return self._find_again(recipe).folder.digest()

    def plan_memory(self, name: str, placement: "Placement") -> "MemoryPlan":
        """What of a model stays in memory on a device. Raises as `resolve` does for the model."""
        return _plan_memory(self._find(name), placement, self._memory)

    def memory(self, recipe: Recipe) -> str:
        """The memory plan for a recipe, in words.

        Raises:
            MachineError: the device is not here, or its memory does not suffice.
        """
        from dallecli.placement import decide

        model, placement = self._find(recipe.model), decide(recipe.device, recipe.dtype)
        plan = self.plan_memory(recipe.model, placement)
        check_memory(model.spec.name, placement, plan)
        return plan.why

    def _find(self, name: str) -> _Model:
        """The model under the name in a request, which may be a folder; kept under the name in its recipes."""
        spec = find(name)
        known = self._models.get(spec.name)
        if known is not None:
            if known.spec.source != spec.source:
                raise UnknownModel(
                    f"two folders of one run are both called {spec.name}", spec.source, "rename one: recipes go by name"
                )
            return known
        folder = locate(spec)
        model = _Model(
            spec=replace(spec, sizes=folder.sizes(), largest=folder.largest(), tasks=folder.tasks),
            folder=folder,
            tokenizer=ClipTokenizer.open(folder.place("tokenizer")),
            parameters={part: folder.parameters_of(part) for part in folder.networks},
        )
        self._models[spec.name] = model
        return model

    def _find_again(self, recipe: Recipe) -> _Model:
        return self._models[recipe.model] if recipe.model in self._models else self._find(recipe.model)

    def _opened_for(self, recipe: Recipe) -> _Opened:
        return self._open(self._find_again(recipe), recipe.device, recipe.dtype, recipe.digest)

    def _open(self, model: _Model, device: str | None, dtype: str | None, digest: str | None = None) -> _Opened:
        from dallecli.placement import decide

        placement = decide(device, dtype)
        opened = self._opened
        if opened is None or (opened.source, opened.placement) != (model.spec.source, placement):
            self._opened = opened = None  # the old model's memory is free before the new one takes its own
            plan = _plan_memory(model, placement, self._memory)
            check_memory(model.spec.name, placement, plan)
            check_bytes(model.spec.name)
            from dallecli.pipelines.parts import Parts

            compiled = self._compiled and placement.device.type == "cuda"
            if self._compiled and not compiled:
                log.warning("networks are compiled for CUDA devices only, and this is %s", placement.device)
            parts = Parts(model.folder, placement.device, placement.dtype, plan.kept, compiled)
            with memory_errors(model.spec.name):
                pipeline = LAYOUTS[model.folder.layout](parts, model.space())
            opened = _Opened(
                source=model.spec.source, placement=placement, digest=model.folder.digest(), pipeline=pipeline
            )
            self._opened = opened
        if digest is not None and digest != opened.digest:
            raise BadFile(
                f"these are not the weights that the recipe was painted with: {digest[:12]}",
                str(model.folder.path),
                f"here is {opened.digest[:12]}",
            )
        return opened


def _completed(recipe: Recipe, opened: _Opened) -> Recipe:
    """The recipe with what it is really painted with."""
    return replace(
        recipe,
        digest=opened.digest,
        device=str(opened.placement.device),
        dtype=opened.placement.kind,
        versions={**recipe.versions, "torch": _torch_version()},
    )


def paint_in_batches(
    paint: Callable[[Recipe, Callable[[Progress], None], int], Iterator["Picture"]],
    recipe: Recipe,
    progress: Callable[[Progress], None],
    batches: dict[str, int],
    kind: str,
) -> Iterator["Picture"]:
    """Paint a recipe `batches[kind]` pictures at a time; where memory does not suffice, go on with half as many.

    What is finished stays finished, and the seeds stay the same. The number that worked is kept in `batches`.

    Raises:
        OutOfMemory: one picture at a time is too much.
    """
    done = 0
    while done < recipe.count:
        first = done
        rest = recipe.rest(first)

        def watch(step: Progress, first: int = first) -> None:
            progress(replace(step, picture=step.picture + first, pictures=recipe.count))

        failed = False
        try:
            with memory_errors(recipe.model):
                for picture in paint(rest, watch, batches[kind]):
                    done += 1
                    yield picture
        except OutOfMemory:
            if batches[kind] == 1:
                raise
            failed = True
        if failed:  # not in the except block, where the exception still holds on to the tensors of the attempt
            batches[kind] //= 2
            _release(kind)


@contextmanager
def memory_errors(model: str) -> Iterator[None]:
    """Turn every way in which Python and torch say that memory is used up into OutOfMemory."""
    import torch

    hint = "close other programs, paint fewer or smaller pictures, or use a smaller model"
    try:
        yield
    except (MemoryError, torch.OutOfMemoryError) as problem:
        raise OutOfMemory(f"there is not enough memory for {model}", hint=hint) from problem
    except RuntimeError as problem:  # torch's CPU allocator has no class of its own
        if "can't allocate memory" not in str(problem) and "out of memory" not in str(problem):
            raise
        raise OutOfMemory(f"there is not enough memory for {model}", hint=hint) from problem


def _check_parts(request: ModelRequest, model: _Model) -> None:
    """Refuse what a model has no networks for."""
    needed = {model.folder.needed(request.task): request.task} if isinstance(request, Request) else {}
    if request.looks:
        needed["image_encoder"] = "looking at pictures"
    if isinstance(request, Request) and request.judges:
        needed["image_encoder"] = "--best-of"
    if isinstance(request, Embed) and any(source.kind == "text" for source in request.sources):
        needed[model.folder.meaning] = "placing words beside pictures"
    if request.imagines:
        needed["prior"] = "making a picture of words"
    for part, what in needed.items():
        if part not in model.folder.parts:
            tasks = ", ".join(model.spec.tasks)
            raise TaskNotSupported(
                f"{model.spec.name} has no {part}, which {what} needs", str(model.folder.path), f"it can {tasks}"
            )


def _check_words(request: ModelRequest, model: _Model) -> None:
    """Refuse words that nobody would read."""
    if isinstance(request, Request) and request.reads_beside and not model.folder.reads:
        what = f"the decoder of {model.spec.name} reads no words beside a picture"
        raise TaskNotSupported(what, hint="mix both: dalle interpolate PICTURE WORDS --weights 2,1")


def _dropped(request: ModelRequest, model: _Model) -> str:
    """The ends of a request's sentences that the model will not read."""
    return " ".join(model.tokenizer.encode(text).dropped for text in request.texts).strip()


def _check_stages(stages: Mapping[str, StageSettings], model: _Model) -> None:
    for name, settings in stages.items():
        assert isinstance(settings, DiffusionSettings)  # no model has others
        if settings.sampler not in SAMPLERS:
            raise UnknownSampler(f"no sampler is called {settings.sampler!r}", hint=f"one of {', '.join(SAMPLERS)}")
        if INVERSION in stages and name != "prior" and settings.sampler != "ddim":
            raise BadSetting(
                f"the {name} cannot go from inverted noise with {settings.sampler}", hint="--sampler ddim, or none"
            )
        most = model.trained_steps(name if name != INVERSION else "decoder")
        if not 2 <= settings.steps <= most:
            raise BadSteps(f"{settings.steps} {name} steps are not possible", hint=f"from 2 to {most} are")
        if name.startswith("upsampler") and settings.guidance != 1.0:
            raise BadSetting(
                f"the {name} guidance is {settings.guidance}", hint="upsamplers see no prompt: leave it at 1"
            )


def _check_inputs(
    request: ModelRequest, size: int, stages: Mapping[str, StageSettings], model: _Model
) -> tuple[str, ...]:
    """Decode all inputs, and compare what embeddings bring with what the model takes. Returns warnings."""
    if not request.sources:
        return ()
    warnings = check_inputs(request, size, model.space())
    width = model.folder.width()
    painters = [name for name in stages if name not in ("prior", INVERSION)]
    sides = [*(side for side in model.spec.sizes if side < size), size][-len(painters) :]
    wanted = {name: model.folder.noise_shape(side) for name, side in zip(painters, sides, strict=True)}
    for source in request.sources:
        if source.kind != "embedding":
            continue
        from dallecli.embedding_file import read_embedding

        embedded = read_embedding(source)
        if embedded.vector.shape != (width,):
            what = f"this embedding has {len(embedded.vector)} numbers, and {model.spec.name} takes {width}"
            raise BadEmbedding(what, where=source.name)
        there = {name: noise.shape for name, noise in embedded.noise.items()}
        if request.inversion is not None and not isinstance(request, Embed) and not wanted.items() <= there.items():
            found = ", ".join(str(shape[-1] * model.folder.cell()) for shape in there.values())
            hint = f"--size with the largest of them, or: dalle embed --invert --size {size}"
            raise BadEmbedding(f"this embedding brings noise for {found} pixels only", where=source.name, hint=hint)
    return warnings


def _plan_memory(model: _Model, placement: "Placement", kind: str) -> "MemoryPlan":
    from dallecli.placement import Need, free_memory, plan_memory

    needs = {
        part: Need(
            weights=count * placement.dtype.itemsize,
            # Whatever the weights are, some layers compute in float32.
            working=model.folder.working_numbers(part) * 4,
        )
        for part, count in model.parameters.items()
    }
    return plan_memory(needs, free_memory(placement.device), kind)


def check_memory(model: str, placement: "Placement", plan: "MemoryPlan") -> None:
    """Refuse what cannot fit: on a CPU the system would otherwise end this process, or another, without a word.

    Raises: OutOfMemory, with what would fit.
    """
    if plan.free is None or plan.fits:
        return
    from dallecli.placement import in_words

    ways = []
    if plan.least <= plan.free:
        ways.append("--memory low")
    if placement.dtype.itemsize == 4:
        ways.append("--dtype bf16 for half of it")
    raise OutOfMemory(
        f"{model} takes {in_words(plan.peak)} in {placement.kind},"
        f" and {in_words(plan.free)} are free on {placement.device}",
        hint=" or ".join([*ways, "a smaller model"]),
    )


def _open_karlo(parts: "Parts", space: str) -> Any:
    from dallecli.pipelines.karlo import KarloPipeline

    return KarloPipeline(parts, space)


def _open_kandinsky(parts: "Parts", space: str) -> Any:
    from dallecli.pipelines.kandinsky import KandinskyPipeline

    return KandinskyPipeline(parts, space)


def _open_stable_unclip(parts: "Parts", space: str) -> Any:
    from dallecli.pipelines.stable_unclip import StableUnclipPipeline

    return StableUnclipPipeline(parts, space)


LAYOUTS: Final[Mapping[str, Callable[["Parts", str], Any]]] = {
    "karlo": _open_karlo,
    "karlo-variations": _open_karlo,
    "kandinsky": _open_kandinsky,
    "stable-unclip": _open_stable_unclip,
    "stable-unclip-text": _open_stable_unclip,
}
"""How a folder of each layout is opened, given the name of its CLIP: the one place that knows the families by name."""


def _release(kind: str) -> None:
    if kind == "cuda":
        import torch

        torch.cuda.empty_cache()


def _torch_version() -> str:
    import torch

    return str(torch.__version__)
