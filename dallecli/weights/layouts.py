"""The families of models, in one table: what a folder of each consists of, and how it is run. No torch here.

Adding a family is adding files and one entry of `LAYOUTS`: see docs/adding-a-family.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any, Final

from dallecli.tasks.stages import DECODER, PRIOR, UPSAMPLERS, Stage, StageSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class StageParts:
    """A stage of a family, and the parts of a folder that run it.

    stage: what the family declares. network: the part without which a model does not have the stage. schedule: the part
    with its schedule; None for a stage that has none. sized: the part whose `sample_size` is the side of the picture
    that is there after the stage; None where no picture is there yet.
    """

    stage: Stage
    network: str
    schedule: str | None = None
    sized: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFacts:
    """What only those families have that paint CLIP's image embeddings.

    width: the part and the field that say how many numbers an embedding has. space: the part whose weights name the
    CLIP in whose space embeddings are. meaning: the part that puts sentences into that space. reads: whether the
    decoder reads words beside the embedding; otherwise all that they say is in the embedding.
    """

    width: tuple[str, str]
    space: str = "text_encoder"
    meaning: str = "text_encoder"
    reads: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A family of models: what a folder of it consists of, and how it is run. Parts are named as everywhere here.

    index: the folder in a model's folder that holds its `model_index.json`. pipeline: how that calls the kind of model.
    folders: of the parts that are not in one of their own name. networks: the parts with weights that every such model
    has. others: the parts without weights that every such model has, beside the schedules of its stages. optional:
    groups of parts that come whole or not at all. fallbacks: the part that stands in for one that is not there.

    stages: in the order in which they run; a model has those whose network it has. tasks: what can be asked, and the
    part that each task needs beside what every model has. dials: those that an unregistered folder gets, by stage, or
    the registered model whose dials these are. autoencoder: the part that turns latents into pixels, where latents are
    painted.

    steps: the networks that run in every step, and which method of them that is: those can be compiled. planes: how
    much a network takes beside its weights at its fullest moment, for one picture, measured in planes as large as the
    picture that it paints, with the channels of its first level. Of others it is next to nothing.

    description: the class that answers, without torch, what can be said of a folder before its weights are read (see
    pipelines/description.py). opener: what it opens such a folder with. Both are written "module:name", and imported
    when they are needed. clip: facts of families that paint CLIP's embeddings.
    """

    pipeline: str
    index: str = ""
    folders: Mapping[str, str] = field(default_factory=dict)
    networks: tuple[str, ...]
    others: tuple[str, ...] = ("tokenizer",)
    optional: tuple[tuple[str, ...], ...] = ()
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    stages: tuple[StageParts, ...]
    tasks: Mapping[str, str]
    dials: str | Mapping[str, StageSettings]
    autoencoder: str | None = None
    steps: Mapping[str, str] = field(default_factory=dict)
    planes: Mapping[str, int] = field(default_factory=dict)
    description: str
    opener: str
    clip: ClipFacts | None = None

    @property
    def schedules(self) -> tuple[str, ...]:
        """The schedules that every such model has."""
        always = [stage.schedule for stage in self.stages if stage.network in self.networks]
        return tuple(part for part in always if part is not None)


def imported(name: str) -> Any:
    """What a table calls "module:name"."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


UNCLIP: Final = "dallecli.pipelines.unclip_description:UnClipDescription"

_PRIOR: Final = StageParts(stage=PRIOR, network="prior", schedule="prior_scheduler")
_DECODER: Final = StageParts(stage=DECODER, network="decoder", schedule="decoder_scheduler", sized="decoder")

# Each upsampler makes one size, and has a network of its own for the last step.
_UPSAMPLERS: Final = tuple(
    StageParts(stage=stage, network=f"{part}_first", schedule=f"{part}_scheduler", sized=f"{part}_first")
    for stage, part in zip(UPSAMPLERS, ("super_res", "super_res_2"), strict=True)
)
_SECOND_UPSAMPLER: Final = ("super_res_2_first", "super_res_2_last", "super_res_2_scheduler")
_UPSAMPLING: Final = tuple(f"super_res_{which}" for which in ("first", "last", "2_first", "2_last"))

_KARLO: Final = Layout(
    pipeline="UnCLIPPipeline",
    networks=("text_encoder", "prior", "text_proj", "decoder", "super_res_first", "super_res_last"),
    optional=(("image_encoder",), _SECOND_UPSAMPLER),
    stages=(_PRIOR, _DECODER, *_UPSAMPLERS),
    tasks={"generate": "prior"} | dict.fromkeys(("vary", "interpolate", "inpaint", "edit"), "image_encoder"),
    dials="karlo",
    steps={"prior": "answer", "decoder": "denoise"} | dict.fromkeys(_UPSAMPLING, "denoise"),
    # The decoder runs twice as many pictures as it paints, one half of them unguided.
    planes={"decoder": 80} | dict.fromkeys(_UPSAMPLING, 24),
    description=UNCLIP,
    opener="dallecli.pipelines.karlo:open_karlo",
    clip=ClipFacts(width=("text_proj", "clip_embeddings_dim")),
)

# Three repositories, which lie side by side in one folder under their own names. One decoder paints, and another was
# trained to inpaint; with one of them a model is whole.
_KANDINSKY_FOLDERS: Final = {
    **{part: f"kandinsky-2-2-prior/{part}" for part in ("text_encoder", "prior", "image_encoder", "tokenizer")},
    "prior_scheduler": "kandinsky-2-2-prior/scheduler",
    "feature_extractor": "kandinsky-2-2-prior/image_processor",
    "decoder": "kandinsky-2-2-decoder/unet",
    "movq": "kandinsky-2-2-decoder/movq",
    "decoder_scheduler": "kandinsky-2-2-decoder/scheduler",
    "inpaint_decoder": "kandinsky-2-2-decoder-inpaint/unet",
    "inpaint_movq": "kandinsky-2-2-decoder-inpaint/movq",
    "inpaint_decoder_scheduler": "kandinsky-2-2-decoder-inpaint/scheduler",
}
_PAINTER: Final = ("decoder", "movq", "decoder_scheduler")
_INPAINTER: Final = tuple(f"inpaint_{part}" for part in _PAINTER)

_KANDINSKY: Final = Layout(
    pipeline="KandinskyV22PriorPipeline",
    index="kandinsky-2-2-prior",
    folders=_KANDINSKY_FOLDERS,
    networks=("text_encoder", "prior", "image_encoder"),
    optional=(_PAINTER, _INPAINTER),
    fallbacks=dict(zip(_PAINTER, _INPAINTER, strict=True)),
    stages=(_PRIOR, _DECODER),
    tasks={
        **dict.fromkeys(("generate", "vary", "interpolate"), "decoder"),
        "inpaint": "inpaint_decoder",
        "edit": "decoder",
    },
    dials="kandinsky",
    autoencoder="movq",
    steps={"prior": "answer", "decoder": "denoise", "inpaint_decoder": "denoise"},
    planes={"decoder": 80, "movq": 12, "inpaint_decoder": 80, "inpaint_movq": 12},
    description=UNCLIP,
    opener="dallecli.pipelines.kandinsky:open_kandinsky",
    clip=ClipFacts(width=("image_encoder", "projection_dim"), reads=False),
)

# The decoder is Stable Diffusion's, which reads text beside the embedding. But no sentence becomes an embedding without
# a prior, and its text tower.
_STABLE: Final = Layout(
    pipeline="StableUnCLIPImg2ImgPipeline",
    folders={"decoder": "unet", "decoder_scheduler": "scheduler"},
    networks=("text_encoder", "image_encoder", "image_normalizer", "decoder", "vae"),
    others=("image_noising_scheduler", "tokenizer"),
    stages=(_PRIOR, _DECODER),
    tasks={
        **dict.fromkeys(("vary", "interpolate", "inpaint"), "image_encoder"),
        **dict.fromkeys(("generate", "edit"), "prior"),
    },
    dials="sd-unclip",
    autoencoder="vae",
    steps={"prior": "answer", "decoder": "denoise"},
    planes={"decoder": 60, "vae": 8},
    description=UNCLIP,
    opener="dallecli.pipelines.stable_unclip:open_stable_unclip",
    clip=ClipFacts(width=("image_normalizer", "embedding_dim"), space="image_encoder", meaning="prior_text_encoder"),
)

LAYOUTS: Final[dict[str, Layout]] = {
    "karlo": _KARLO,
    # The same networks published for pictures instead of words: an image tower where the prior was.
    "karlo-variations": replace(
        _KARLO,
        pipeline="UnCLIPImageVariationPipeline",
        networks=("text_encoder", "image_encoder", "text_proj", "decoder", "super_res_first", "super_res_last"),
        optional=(_SECOND_UPSAMPLER,),
    ),
    "kandinsky": _KANDINSKY,
    "stable-unclip": _STABLE,
    # The same for words: Karlo's prior and its text tower where the image tower was.
    "stable-unclip-text": replace(
        _STABLE,
        pipeline="StableUnCLIPPipeline",
        networks=("prior_text_encoder", "prior", "text_encoder", "image_normalizer", "decoder", "vae"),
        optional=(("image_encoder",),),
        clip=ClipFacts(
            width=("image_normalizer", "embedding_dim"), space="prior_text_encoder", meaning="prior_text_encoder"
        ),
    ),
}
"""The families by name. Registries and folders name a family so; nothing else in dallecli does."""
