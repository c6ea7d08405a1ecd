"""What is known of a guided-diffusion model ("ADM") before its weights are read. No torch here."""

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from dallecli.classes import Classes
from dallecli.errors import BadSetting
from dallecli.pipelines.description import Description
from dallecli.size import Size
from dallecli.tasks.generate import Generate
from dallecli.tasks.stages import DECODER, DiffusionSettings, StageSettings
from dallecli.tasks.task import ModelRequest
from dallecli.weights.folder import Folder
from dallecli.weights.layouts import imported
from dallecli.weights.registry import ModelSpec

if TYPE_CHECKING:
    from dallecli.pipelines.parts import Parts
    from dallecli.pipelines.pipeline import Pipeline

CLASSIFIER: Final = "classifier"
"""The part that leads the decoder to a class."""

OFF: Final = 0.0
"""The guidance with which the classifier leads nowhere, unlike the 1 of guidance by words."""


class AdmDescription(Description):
    """A guided-diffusion model that was found and checked."""

    def __init__(self, spec: ModelSpec, folder: Folder) -> None:
        super().__init__(_with_classes(_unled(spec, folder), folder), folder)

    @property
    def _leads(self) -> bool:
        return CLASSIFIER in self.folder.parts

    @property
    def _knows_classes(self) -> bool:
        """Whether the decoder has to be told a class."""
        return _class_count(self.folder, "decoder", "num_class_embeds") is not None

    def open(self, parts: "Parts") -> "Pipeline":
        """The model, opened with its parts. Raises BadFolder, BadFile where they contradict each other."""
        pipeline: Pipeline = imported(self.folder.family.opener)(parts, self.spec.classes)
        return pipeline

    def check_request(self, request: ModelRequest) -> None:
        """Refuse words, a missing class, and one that nothing would lead to. Raises TaskNotSupported, BadSetting."""
        super().check_request(request)
        if not isinstance(request, Generate):
            return
        if request.negative is not None:
            raise BadSetting(f"{self.spec.name} reads no words", hint="leave out --negative")
        if request.class_name is None and request.prompt is None and self._knows_classes:
            what = f"{self.spec.name} paints classes, and none was named"
            raise BadSetting(what, hint='name one: --class "golden retriever", or its number')
        if request.class_name is not None and not (self._knows_classes or self._leads):
            what = f"{self.spec.name} knows no classes, and has no classifier that would lead to one"
            raise BadSetting(what, hint="leave out --class")

    def check_stages(self, stages: Mapping[str, StageSettings]) -> None:
        """Refuse dials that a stage cannot have. Raises UnknownSampler, BadSteps, BadSetting."""
        super().check_stages(stages)
        guidance = stages[DECODER.name].guidance
        if guidance != OFF and not self._leads:
            what = f"the guidance is {guidance:g}, and {self.spec.name} has no classifier that guides"
            raise BadSetting(what, hint="leave out --guidance, or convert the classifier as well: docs/guides/adm.md")

    def check_inputs(self, request: ModelRequest, size: Size, stages: Mapping[str, StageSettings]) -> tuple[str, ...]:
        """Decode all files of a request, and return what its author should be warned of."""
        warnings = super().check_inputs(request, size, stages)
        asked, own = request.decoder.guidance, self.spec.stages[DECODER.name].guidance
        if isinstance(request, Generate) and request.class_name is None and asked not in (None, own):
            return (*warnings, "--guidance changes nothing: no class is named to which it would lead")
        return warnings


def _unled(spec: ModelSpec, folder: Folder) -> ModelSpec:
    """The model with its guidance off, if it has no classifier."""
    own = spec.stages[DECODER.name]
    if CLASSIFIER in folder.parts or not isinstance(own, DiffusionSettings):
        return spec
    return replace(spec, stages={**spec.stages, DECODER.name: replace(own, guidance=OFF)})


def _with_classes(spec: ModelSpec, folder: Folder) -> ModelSpec:
    """The model with classes by their numbers, if its folder has no names for them."""
    counts = (_class_count(folder, "decoder", "num_class_embeds"), _class_count(folder, CLASSIFIER, "num_classes"))
    count = next((count for count in counts if count is not None), None)
    if spec.classes is not None or count is None:
        return spec
    return replace(spec, classes=Classes(tuple(map(str, range(count)))))


def _class_count(folder: Folder, part: str, field: str) -> int | None:
    """How many classes a part states; None where it has none."""
    count = folder.config(part).get(field) if part in folder.parts else None
    return count if type(count) is int else None
