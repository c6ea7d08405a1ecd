"""What is known of an unCLIP model before its weights are read. No torch here."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from dallecli.errors import BadEmbedding, TaskNotSupported
from dallecli.inputs import check_inputs
from dallecli.pipelines.description import Description
from dallecli.size import Size
from dallecli.sizing import in_proportion, own_side
from dallecli.source import Source
from dallecli.tasks.embed import Embed
from dallecli.tasks.stages import NO_PRIOR, StageSettings
from dallecli.tasks.task import ModelRequest, Request
from dallecli.tokens import ClipTokenizer
from dallecli.weights.folder import Folder
from dallecli.weights.layouts import ClipFacts, imported
from dallecli.weights.registry import ModelSpec, judges

if TYPE_CHECKING:
    from dallecli.pipelines.parts import Parts
    from dallecli.pipelines.pipeline import Pipeline

LOOKING: Final = "image_encoder"
IMAGINING: Final = "prior"
"""The parts that look at pictures, and that make image embeddings of words."""


class UnClipDescription(Description):
    """An unCLIP model that was found and checked. Its layout has `clip`."""

    def __init__(self, spec: ModelSpec, folder: Folder) -> None:
        self.tokenizer = ClipTokenizer.open(folder.path_of("tokenizer"))
        super().__init__(spec, folder)

    @property
    def facts(self) -> ClipFacts:
        """What the layout says of its CLIP."""
        facts = self.folder.family.clip
        assert facts is not None  # or it would be of another kind
        return facts

    def space(self) -> str:
        """The name of the CLIP whose embeddings it uses: a public one's, or one made of its weights' digest."""
        if self.spec.clip is not None:
            return self.spec.clip
        return f"clip-{self.folder.weights_digest(self.facts.space)[:12]}"

    def open(self, parts: "Parts") -> "Pipeline":
        """The model, opened with its parts. Raises BadFolder, BadFile where they contradict each other."""
        pipeline: Pipeline = imported(self.folder.family.opener)(parts, self.space())
        return pipeline

    def check_request(self, request: ModelRequest) -> None:
        """Refuse what the model has no networks for, and words that nobody would read. Raises TaskNotSupported."""
        for part, what in self._needed(request).items():
            if part not in self.folder.parts:
                missing = f"{self.spec.name} has no {part}, which {what} needs"
                # A task that the model can do, but not from this input, must not be offered as the way out.
                seeing = "give it words or embeddings instead of pictures, or use a model that sees pictures"
                hint = seeing if part == LOOKING and request.looks else self.abilities
                if part == LOOKING and isinstance(request, Request) and request.judges:
                    hint = f"--judge {judges()[0]} scores its pictures"
                if part == IMAGINING and self.facts.meaning in self.folder.parts:
                    hint = f"--prior {NO_PRIOR} paints the embedding of the words themselves"
                    if any(IMAGINING in published.names for published in self.spec.parts):
                        hint += f"; dalle models pull {self.spec.name} fetches the prior"
                raise TaskNotSupported(missing, str(self.folder.path), hint)
        if isinstance(request, Request) and request.reads_beside and not self.facts.reads:
            what = f"the decoder of {self.spec.name} reads no words beside a picture"
            raise TaskNotSupported(what, hint="mix both: dalle interpolate PICTURE WORDS --weights 2,1")

    def check_judge(self) -> None:
        """Refuse a folder without one of the two towers. Raises TaskNotSupported."""
        for part in (LOOKING, self.facts.meaning):
            if part not in self.folder.parts:
                what = f"{self.spec.name} has no {part}, which a judge needs"
                raise TaskNotSupported(what, str(self.folder.path), f"--judge {' or '.join(judges())}")

    def dropped(self, text: str) -> str:
        """The end of a sentence that the text tower will not read."""
        return self.tokenizer.encode(text).dropped

    def check_inputs(self, request: ModelRequest, size: Size, stages: Mapping[str, StageSettings]) -> tuple[str, ...]:
        """Decode all files of a request, and compare what embeddings bring with what the model takes."""
        if not request.sources:
            return ()
        warnings = check_inputs(request, size, self.space())
        for source in request.sources:
            if source.kind == "embedding":
                self._check_embedding(source, request, size, stages)
        return warnings

    def _check_embedding(
        self, source: Source, request: ModelRequest, size: Size, stages: Mapping[str, StageSettings]
    ) -> None:
        """Raises BadEmbedding for one of another width, and for noise of other sizes than are painted."""
        from dallecli.embedding_file import read_embedding

        embedded, width = read_embedding(source), self.folder.width()
        if embedded.vector.shape != (width,):
            what = f"this embedding has {len(embedded.vector)} numbers, and {self.spec.name} takes {width}"
            raise BadEmbedding(what, where=source.name)
        there = {name: noise.shape for name, noise in embedded.noise.items()}
        if request.inversion is None or isinstance(request, Embed):
            return
        painting = [stage.name for stage in self.spec.declared if not stage.imagines and stage.name in stages]
        sides = self.spec.sizes[: self.spec.sizes.index(own_side(size, self.spec.sizes)) + 1]
        sizes = in_proportion(dict(zip(painting, sides[-len(painting) :], strict=True)), size)
        wanted = {name: self.folder.noise_shape(one) for name, one in sizes.items()}
        if not wanted.items() <= there.items():
            cell = self.folder.cell()
            found = ", ".join(str(Size(shape[-1], shape[-2]).scaled(cell, 1).stated) for shape in there.values())
            hint = f"--size with the largest of them, or: dalle embed --invert --size {size.stated}"
            raise BadEmbedding(f"this embedding brings noise for {found} pixels only", where=source.name, hint=hint)

    def _needed(self, request: ModelRequest) -> dict[str, str]:
        """The parts that a request needs, and what for."""
        needed: dict[str, str] = {}
        if isinstance(request, Request) and request.task in self.folder.family.tasks:
            needed[self.folder.family.tasks[request.task]] = request.task
        if request.looks:
            needed[LOOKING] = "looking at pictures"
        if isinstance(request, Request) and request.judges:
            needed[LOOKING] = "--best-of"
        if isinstance(request, Embed) and request.texts:
            needed[self.facts.meaning] = "placing words beside pictures"
        if request.imagines:
            needed[self.facts.meaning] = "making a picture of words"
            if request.prior_kind != NO_PRIOR:
                needed[IMAGINING] = "making a picture of words"
        return needed
