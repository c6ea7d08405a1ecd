"""What is known of a model before its weights are read; each kind of model has a description of its own. No torch here.

A studio asks it whether a request is possible, how much of its sentences is read, and whether its dials and files fit;
it does not know the kind.
"""

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING

from dallecli.diffusion.respacing import respaced
from dallecli.errors import BadSetting, BadSteps, TaskNotSupported, UnknownSampler
from dallecli.inputs import check_inputs
from dallecli.size import Size
from dallecli.tasks.embed import Embed
from dallecli.tasks.stages import INVERSION, Dials, DiffusionSettings, StageSettings
from dallecli.tasks.task import ModelRequest, Request, check_dials, check_interval
from dallecli.weights.folder import Folder
from dallecli.weights.known import read_strangeness, read_words
from dallecli.weights.layouts import imported
from dallecli.weights.registry import SAMPLERS, ModelSpec, judges

if TYPE_CHECKING:
    from dallecli.pipelines.parts import Parts
    from dallecli.pipelines.pipeline import Pipeline


class Description:
    """A model that was found and checked: all of its files are there and complete.

    spec: the model, with the parts that are on this machine. parameters: how many numbers each network has.
    widest_sum: the most that a linear layer adds up, or more.
    words: those that it knows; strangeness: from where on a picture is strange to it; None where its folder does
    not say. rows: of codes, of a picture that is written row by row; None for one that is not.

    Raises: BadFolder, BadFile.
    """

    rows: int | None = None

    def __init__(self, spec: ModelSpec, folder: Folder) -> None:
        self.spec = spec
        self.folder = folder
        self.parameters: Mapping[str, int] = {part: folder.parameters_of(part) for part in folder.networks}
        self.widest_sum = max((folder.widest_sum(part) for part in folder.networks), default=0)
        self.words = read_words(folder.path)
        self.strangeness = read_strangeness(folder.path)
        self._trained_steps: dict[str, int] = {}

    def open(self, parts: "Parts") -> "Pipeline":
        """The model, opened with its parts. Raises BadFolder, BadFile where they contradict each other."""
        pipeline: Pipeline = imported(self.folder.family.opener)(parts)
        return pipeline

    def check_request(self, request: ModelRequest) -> None:
        """Refuse what the model has no parts for. Raises TaskNotSupported, BadSetting."""
        if isinstance(request, Request) and request.task not in self.spec.tasks:
            raise TaskNotSupported(f"{self.spec.name} cannot {request.task}", hint=self.abilities)
        if isinstance(request, Embed) or (isinstance(request, Request) and request.judges):
            what = "--best-of" if isinstance(request, Request) else "an embedding"
            scores = isinstance(request, Request) and self.spec.prompts
            hint = f"--judge {judges()[0]} scores its pictures" if scores else self.abilities
            raise TaskNotSupported(f"{self.spec.name} has no CLIP, which {what} needs", hint=hint)
        if request.prior_kind is not None:
            raise BadSetting(f"{self.spec.name} has no prior", hint="leave out --prior")

    def check_judge(self) -> None:
        """Refuse to score what other models paint, where there is no CLIP for that. Raises TaskNotSupported."""
        raise TaskNotSupported(f"{self.spec.name} has no CLIP to judge by", hint=f"--judge {' or '.join(judges())}")

    def dropped(self, text: str) -> str:
        """The end of a sentence that the model will not read; "" if it reads all."""
        return ""

    def unknown(self, texts: Iterable[str]) -> tuple[str, ...]:
        """The words of some sentences that the model does not know; none where its folder has no list of words."""
        return () if self.words is None else self.words.unknown(texts)

    def check_stages(self, stages: Mapping[str, StageSettings]) -> None:
        """Refuse dials that a stage cannot have. Raises UnknownSampler, BadSteps, BadSetting."""
        painting = [stage.name for stage in self.spec.declared if not stage.imagines]
        unguided = [stage.name for stage in self.spec.declared if not stage.guided]
        for name, settings in stages.items():
            if not isinstance(settings, DiffusionSettings):
                check_dials(name, Dials(**asdict(settings)))
                continue
            if settings.sampler not in SAMPLERS:
                hint = f"one of {', '.join(SAMPLERS)}"
                raise UnknownSampler(f"no sampler is called {settings.sampler!r}", hint=hint)
            if INVERSION in stages and name in (INVERSION, *painting) and settings.sampler != "ddim":
                what = f"the {name} cannot go from inverted noise with {settings.sampler}"
                raise BadSetting(what, hint="--sampler ddim, or none")
            _check_steps(name, settings, self.trained_steps(name if name != INVERSION else painting[0]))
            check_interval(name, settings.guidance_start, settings.guidance_stop)
            if name in unguided and settings.guidance != 1.0:
                what = f"the {name} guidance is {settings.guidance}, and this {name} reads no words"
                raise BadSetting(what, hint="leave it out, or at 1")

    def check_inputs(self, request: ModelRequest, size: Size, stages: Mapping[str, StageSettings]) -> tuple[str, ...]:
        """Decode all files of a request, and return what its author should be warned of.

        Raises: BadInput, BadPicture, BadMask, BadEmbedding, BadSetting.
        """
        return check_inputs(request, size)

    def trained_steps(self, stage: str) -> int:
        """The trained steps of a stage, read from the folder once: prompt files ask for them ten thousand times."""
        if stage not in self._trained_steps:
            self._trained_steps[stage] = self.folder.trained_steps(stage)
        return self._trained_steps[stage]

    @property
    def abilities(self) -> str:
        """What the model can do, as a hint."""
        return f"it can {', '.join(self.spec.tasks)}"


def _check_steps(stage: str, settings: DiffusionSettings, most: int) -> None:
    """Refuse steps that a stage cannot take. Raises BadSteps, BadSetting."""
    if not 2 <= settings.count <= most:
        raise BadSteps(f"{settings.count} {stage} steps are not possible", hint=f"from 2 to {most} are")
    if not isinstance(settings.steps, str):
        return
    if settings.sampler == "plms":
        what = f"plms is for evenly spaced steps, and {settings.steps} is not"
        raise BadSetting(what, hint=f"--steps {settings.count}, or another sampler")
    try:
        respaced(settings.steps, most)
    except ValueError as problem:
        raise BadSteps(
            f"the {stage} cannot take {settings.steps}: {problem}", hint=f"from 2 to {most} are"
        ) from problem
