"""The families of models, in one table: what a folder of each consists of, and how it is run. No torch here.

Adding a family is adding files and one entry of `LAYOUTS`: see docs/adding-a-family.md.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from pathlib import Path
from typing import Any, Final

from dallecli.tasks.embed import COMPARING
from dallecli.tasks.stages import (
    AUTOREGRESSIVE_PRIOR,
    CODES,
    DECODER,
    GUIDED_UPSAMPLER,
    PRIOR,
    UPSAMPLERS,
    Stage,
    StageSettings,
)

INDEX: Final = "model_index.json"
"""The file that states the kind of a model of several folders."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StageParts:
    """A stage of a family, and the parts of a folder that run it."""

    stage: Stage
    network: str
    """The part without which a model does not have the stage."""
    schedule: str | None = None
    """The part with its schedule; None for a stage without one."""
    sized: str | None = None
    """The part whose `sample_size` is the side of the picture after the stage; None if there is no picture yet."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ClipFacts:
    """What only families that paint CLIP's image embeddings have."""

    width: tuple[str, str]
    """The part and the field that state how many numbers an embedding has."""
    space: str = "text_encoder"
    """The part whose weights name the CLIP in whose space embeddings are."""
    meaning: str = "text_encoder"
    """The part that embeds sentences in that space."""
    reads: bool = True
    """Whether the decoder reads words besides the embedding."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """Files in which models are published that are not yet a model folder."""

    files: tuple[str | tuple[str, ...], ...]
    """The names of the files; a folder with any of them holds such a model. Of several names all have to be there."""
    convert: str
    """The function that makes a model folder of a folder with them, and returns what became what."""
    write: str
    """The function that writes what some of the files become into a new folder, and returns what is made of what."""
    check: str
    """The function that compares the tensors of a `Folder` with its networks."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Layout:
    """A family of models: what a folder of it consists of, and how it is run.

    Parts have the same names in every family, wherever they are on disk. A class or function is stated as "module:name"
    and imported when it is needed.
    """

    pipeline: str
    """The kind of model that `model_index.json` states."""
    index: str = ""
    """The folder in a model's folder that holds its `model_index.json`."""
    marker: str = INDEX
    """The file there that states the kind, where it is not `model_index.json`."""
    folders: Mapping[str, str] = field(default_factory=dict)
    """The folders of parts that are not in one of their own name."""
    sections: Mapping[str, str] = field(default_factory=dict)
    """Of networks that one `config.json` describes, the key of each one's own part of it."""
    foreign: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """Of networks that are in one file, how the names of its tensors begin that are not each one's own."""
    networks: tuple[str, ...]
    """The parts with weights that every such model has."""
    others: tuple[str, ...] = ("tokenizer",)
    """The parts without weights that every such model has, besides the schedules of its stages."""
    optional: tuple[tuple[str, ...], ...] = ()
    """Groups of parts that a model has completely or not at all."""
    fallbacks: Mapping[str, str] = field(default_factory=dict)
    """The part that is used instead of a missing one."""
    twins: Mapping[str, str] = field(default_factory=dict)
    """The part whose weights may be another one's, too; a folder that stores them once says so (see twins.py)."""
    stages: tuple[StageParts, ...]
    """In the order in which they run; a model has those whose network it has."""
    tasks: Mapping[str, str]
    """What can be asked, one of `tasks.table.ABILITIES`, and the part that each needs besides what every model has."""
    dials: str | Mapping[str, StageSettings]
    """The dials of an unregistered folder, by stage, or the registered model that has the same."""
    autoencoder: str | None = None
    """The part that turns latents or codes into pixels, if there are any."""
    sample_size: int | None = None
    """The `sample_size` of a decoder whose config has null there; None for families whose pipelines read it. Of a
    family without stages, the side of the pictures that it takes and gives by default."""
    steps: Mapping[str, str] = field(default_factory=dict)
    """The networks that run in every step, and the method that does: these can be compiled."""
    beside: Mapping[str, str] = field(default_factory=dict)
    """The networks that have another one at work beside them in every step, where a model has that."""
    oblong: bool = False
    """Whether pictures that are no squares are painted as such: no network of it has places, so that all of them take
    any width and height. If not, they are cut out of squares."""
    prompts: bool = True
    """Whether it paints what it is told in words; if not, it paints classes, or whatever it learned to paint."""
    reads_ahead: bool = False
    """Whether its text tower is so large that it is loaded for many prompts at once: see `Engine.expect`."""
    batch_invariant: bool = False
    """Whether its small models paint the same to the last bit, however many pictures at once: only what
    `tests/pipelines/test_batch_invariant.py` has seen doing so."""
    single: Mapping[str, str] = field(default_factory=dict)
    """How the names of tensors end that stay in float32 where a network is in float16, which would overflow."""
    precise: tuple[str, ...] = ()
    """The networks that compute in float32, whatever the others do."""
    planes: Mapping[str, int] = field(default_factory=dict)
    """The most memory that a network takes besides its weights, for one picture, in planes: a plane is as large as the
    picture that it paints, with the channels of its first level. Other networks take next to nothing."""
    caches: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    """The networks that write codes, and the numbers in their configs whose product is how many keys they remember."""
    description: str
    """The class of pipelines/description.py that answers, without torch, before weights are read."""
    opener: str
    """The function that opens such a folder as a pipeline."""
    published: Published | None = None
    """For families whose published files are not laid out so."""
    clip: ClipFacts | None = None
    """For families that paint CLIP's embeddings."""

    @property
    def schedules(self) -> tuple[str, ...]:
        """The parts with the schedules that every such model has."""
        always = [stage.schedule for stage in self.stages if stage.network in self.networks]
        return tuple(part for part in always if part is not None)


def published_in(folder: Path) -> Layout | None:
    """The family of the files in a folder, if they are a model that is not yet in a folder of its layout."""
    if (folder / INDEX).exists():
        return None
    for family in LAYOUTS.values():
        if family.published is not None and any(_are_in(folder, names) for names in family.published.files):
            return family
    return None


def _are_in(folder: Path, names: str | tuple[str, ...]) -> bool:
    return all((folder / name).is_file() for name in ((names,) if isinstance(names, str) else names))


def imported(name: str) -> Any:
    """The object that a table calls "module:name"."""
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


UNCLIP: Final = "dallecli.pipelines.unclip_description:UnClipDescription"

_PRIOR: Final = StageParts(stage=PRIOR, network="prior", schedule="prior_scheduler")
_AUTOREGRESSIVE: Final = StageParts(stage=AUTOREGRESSIVE_PRIOR, network="autoregressive_prior")
_DECODER: Final = StageParts(stage=DECODER, network="decoder", schedule="decoder_scheduler", sized="decoder")

# Each upsampler makes one size, and has a network of its own for the last step.
_UPSAMPLERS: Final = tuple(
    StageParts(stage=stage, network=f"{part}_first", schedule=f"{part}_scheduler", sized=f"{part}_first")
    for stage, part in zip(UPSAMPLERS, ("super_res", "super_res_2"), strict=True)
)
_SECOND_UPSAMPLER: Final = ("super_res_2_first", "super_res_2_last", "super_res_2_scheduler")
_RIVAL: Final = ("autoregressive_prior",)
_UPSAMPLING: Final = tuple(f"super_res_{which}" for which in ("first", "last", "2_first", "2_last"))

_KARLO: Final = Layout(
    pipeline="UnCLIPPipeline",
    networks=("text_encoder", "prior", "text_proj", "decoder", "super_res_first", "super_res_last"),
    optional=(("image_encoder",), _RIVAL, _SECOND_UPSAMPLER),
    twins={"super_res_last": "super_res_first", "super_res_2_last": "super_res_2_first"},
    stages=(_PRIOR, _AUTOREGRESSIVE, _DECODER, *_UPSAMPLERS),
    tasks={"generate": "prior"} | dict.fromkeys(("vary", "interpolate", "inpaint", "edit"), "image_encoder"),
    oblong=True,
    dials="karlo",
    steps={"prior": "answer", "decoder": "denoise"} | dict.fromkeys(_UPSAMPLING, "denoise"),
    # The decoder runs twice as many pictures as it paints, one half of them unguided.
    planes={"decoder": 80} | dict.fromkeys(_UPSAMPLING, 24),
    batch_invariant=True,
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
    optional=(_PAINTER, _INPAINTER, _RIVAL),
    fallbacks=dict(zip(_PAINTER, _INPAINTER, strict=True)),
    stages=(_PRIOR, _AUTOREGRESSIVE, _DECODER),
    tasks={
        **dict.fromkeys(("generate", "vary", "interpolate"), "decoder"),
        "inpaint": "inpaint_decoder",
        "edit": "decoder",
    },
    oblong=True,
    dials="kandinsky",
    autoencoder="movq",
    sample_size=64,  # 512 px, the default of its pipelines, which never read the config's
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
    stages=(_PRIOR, _AUTOREGRESSIVE, _DECODER),
    tasks={
        **dict.fromkeys(("vary", "interpolate", "inpaint"), "image_encoder"),
        **dict.fromkeys(("generate", "edit"), "prior"),
    },
    oblong=True,
    dials="sd-unclip",
    autoencoder="vae",
    steps={"prior": "answer", "decoder": "denoise"},
    planes={"decoder": 60, "vae": 8},
    description=UNCLIP,
    opener="dallecli.pipelines.stable_unclip:open_stable_unclip",
    clip=ClipFacts(width=("image_normalizer", "embedding_dim"), space="image_encoder", meaning="prior_text_encoder"),
)

# No CLIP and no prior: each UNet has a text tower of its own, and the words are painted at once. What was trained to
# inpaint may be missing.
_GLIDE_UNETS: Final = ("decoder", "super_res")
_GLIDE_PAINTING: Final = ("text_encoder", "decoder", "super_res_text_encoder", "super_res")
_GLIDE_INPAINTING: Final = tuple(f"inpaint_{part}" for part in _GLIDE_PAINTING)

_GLIDE: Final = Layout(
    pipeline="GlidePipeline",
    networks=_GLIDE_PAINTING,
    optional=(_GLIDE_INPAINTING,),
    stages=(
        _DECODER,
        StageParts(stage=UPSAMPLERS[0], network="super_res", schedule="super_res_scheduler", sized="super_res"),
    ),
    tasks={"generate": "decoder", "inpaint": "inpaint_decoder"},
    oblong=True,
    dials="glide",
    steps={f"{which}{unet}": "denoise" for which in ("", "inpaint_") for unet in _GLIDE_UNETS},
    planes={
        f"{which}{unet}": count for which in ("", "inpaint_") for unet, count in (("decoder", 80), ("super_res", 24))
    },
    description="dallecli.pipelines.glide_description:GlideDescription",
    opener="dallecli.pipelines.glide:open_glide",
    published=Published(
        files=("base.pt", "upsample.pt", "base_inpaint.pt", "upsample_inpaint.pt"),
        convert="dallecli.weights.glide:convert_glide",
        write="dallecli.weights.glide:write_glide",
        check="dallecli.pipelines.glide:check_tensors",
    ),
)

# No words: a class of ImageNet is painted, or without one whatever comes. A classifier leads the decoder; the upsampler
# knows the class by itself.
_ADM_UPSAMPLER: Final = replace(UPSAMPLERS[0], hurried=True)

_ADM: Final = Layout(
    pipeline="AdmPipeline",
    networks=("decoder",),
    others=(),
    optional=(("classifier",), ("super_res", "super_res_scheduler")),
    stages=(
        _DECODER,
        StageParts(stage=_ADM_UPSAMPLER, network="super_res", schedule="super_res_scheduler", sized="super_res"),
    ),
    tasks={"generate": "decoder"},
    dials="adm-64",
    steps={"decoder": "denoise", "super_res": "denoise"},
    beside={"decoder": "classifier"},
    prompts=False,
    planes={"decoder": 20, "super_res": 24, "classifier": 40},
    description="dallecli.pipelines.adm_description:AdmDescription",
    opener="dallecli.pipelines.adm:open_adm",
    published=Published(
        files=tuple(
            [f"{s}x{s}_{kind}.pt" for s in (64, 128, 256, 512) for kind in ("diffusion", "classifier")]
            + ["256x256_diffusion_uncond.pt", "64_256_upsampler.pt", "128_512_upsampler.pt"]
        ),
        convert="dallecli.weights.adm:convert_adm",
        write="dallecli.weights.adm:write_adm",
        check="dallecli.pipelines.adm:check_tensors",
    ),
)

# Two repositories: the second, in a folder of the first, enlarges, and reads the same states of T5.
_IF_ENLARGING: Final = ("super_res", "super_res_scheduler", "image_noising_scheduler")

_IF: Final = Layout(
    pipeline="IFPipeline",
    folders={
        "decoder": "unet",
        "decoder_scheduler": "scheduler",
        "super_res": "super_res/unet",
        "super_res_scheduler": "super_res/scheduler",
        "image_noising_scheduler": "super_res/image_noising_scheduler",
    },
    networks=("text_encoder", "decoder"),
    optional=(_IF_ENLARGING,),
    stages=(
        _DECODER,
        StageParts(stage=GUIDED_UPSAMPLER, network="super_res", schedule="super_res_scheduler", sized="super_res"),
    ),
    tasks=dict.fromkeys(("generate", "inpaint"), "decoder"),
    oblong=True,
    dials="if-m",
    steps={"decoder": "denoise", "super_res": "denoise"},
    reads_ahead=True,
    single={"text_encoder": ".wo.weight"},
    planes={"decoder": 80, "super_res": 48},
    description="dallecli.pipelines.deepfloyd_description:DeepFloydDescription",
    opener="dallecli.pipelines.deepfloyd:open_deepfloyd",
)

# The words are read by one half of a transformer, and the other one writes the codes of a VQGAN. Of that the decoder is
# needed, which has the codebook.
_DALLE_MINI: Final = Layout(
    pipeline="DalleMiniPipeline",
    networks=("text_encoder", "decoder", "vqgan"),
    optional=(("vqgan_encoder",),),
    stages=(StageParts(stage=CODES, network="decoder", sized="decoder"),),
    tasks={"generate": "decoder"},
    dials="dalle-mini",
    autoencoder="vqgan",
    precise=("vqgan", "vqgan_encoder"),
    planes={"vqgan": 8, "vqgan_encoder": 5},
    caches={"decoder": ("decoder_layers", "image_length", "d_model")},
    description="dallecli.pipelines.dalle_mini_description:DalleMiniDescription",
    opener="dallecli.pipelines.dalle_mini:open_dalle_mini",
    published=Published(
        files=("encoder_mini.pt", "decoder_mini.pt", "encoder.pt", "decoder.pt", ("flax_model.msgpack", "vocab.json")),
        convert="dallecli.weights.dalle_mini:convert_dalle_mini",
        write="dallecli.weights.dalle_mini:write_dalle_mini",
        check="dallecli.pipelines.dalle_mini:check_tensors",
    ),
)

# One transformer reads the words and writes the codes behind them.
_MINDALLE: Final = Layout(
    pipeline="MinDallePipeline",
    networks=("decoder", "vqgan"),
    optional=(("vqgan_encoder",),),
    stages=(StageParts(stage=CODES, network="decoder", sized="decoder"),),
    tasks={"generate": "decoder", "encode": "vqgan_encoder", "decode": "vqgan"},
    dials="mindalle",
    autoencoder="vqgan",
    precise=("vqgan", "vqgan_encoder"),
    planes={"vqgan": 8, "vqgan_encoder": 5},
    caches={"decoder": ("n_layers", "ctx_len_img", "embed_dim")},
    description="dallecli.pipelines.mindalle_description:MindalleDescription",
    opener="dallecli.pipelines.mindalle:open_mindalle",
    published=Published(
        files=("stage2_last.ckpt",),
        convert="dallecli.weights.mindalle:convert_mindalle",
        write="dallecli.weights.mindalle:write_mindalle",
        check="dallecli.pipelines.mindalle:check_tensors",
    ),
)

# DALL-E 1's autoencoder, the only part of that model which was published: it paints nothing, so it has no stages.
_DVAE: Final = Layout(
    pipeline="DiscreteVAE",
    networks=("encoder", "decoder"),
    others=(),
    stages=(),
    tasks={"encode": "encoder", "decode": "decoder"},
    dials="dvae",
    autoencoder="decoder",
    sample_size=256,
    planes={"encoder": 5, "decoder": 8},
    description="dallecli.pipelines.description:Description",
    opener="dallecli.pipelines.dvae:open_dvae",
    published=Published(
        files=("encoder.pkl", "decoder.pkl"),
        convert="dallecli.weights.dvae:convert_dvae",
        write="dallecli.weights.dvae:write_dvae",
        check="dallecli.pipelines.dvae:check_tensors",
    ),
)

# CLIP alone, as transformers saves it: both towers in one file and one config, all in one folder. It paints nothing.
_TEXT: Final = ("text_model.", "text_projection.")
_VISION: Final = ("vision_model.", "visual_projection.")
_SCALE: Final = "logit_scale"  # of the training; cosines need none

_CLIP: Final = Layout(
    pipeline="CLIPModel",
    marker="config.json",
    folders=dict.fromkeys(("text_encoder", "image_encoder", "tokenizer", "feature_extractor"), ""),
    sections={"text_encoder": "text_config", "image_encoder": "vision_config"},
    foreign={"text_encoder": (*_VISION, _SCALE), "image_encoder": (*_TEXT, _SCALE)},
    networks=("text_encoder", "image_encoder"),
    stages=(),
    tasks=dict.fromkeys(COMPARING, "image_encoder"),
    dials="clip-vit-b-32",
    sample_size=224,
    description="dallecli.pipelines.clip_description:ClipDescription",
    opener="dallecli.pipelines.clip:open_clip",
    clip=ClipFacts(width=("image_encoder", "projection_dim"), reads=False),
)

# The autoencoder whose codes DALL-E Mini and minDALL-E paint with. Its decoder, which has the codebook, is published
# alone as well.
_VQGAN: Final = Layout(
    pipeline="VQModel",
    networks=("decoder",),
    others=(),
    optional=(("encoder",),),
    stages=(),
    tasks={"encode": "encoder", "decode": "decoder"},
    dials="vqgan-f16",
    autoencoder="decoder",
    sample_size=256,
    planes={"encoder": 5, "decoder": 8},
    description="dallecli.pipelines.description:Description",
    opener="dallecli.pipelines.vqgan:open_vqgan",
    published=Published(
        files=("flax_model.msgpack", "last.ckpt", "stage1_last.ckpt", "detoker.pt"),
        convert="dallecli.weights.vqgan:convert_vqgan",
        write="dallecli.weights.vqgan:write_vqgan",
        check="dallecli.pipelines.vqgan:check_tensors",
    ),
)

# DALL-E 1 as the paper has it, with the autoencoder of that layout: one network reads the words and writes the codes.
_DALLE_1: Final = Layout(
    pipeline="Dalle1Pipeline",
    networks=("decoder", "dvae", "dvae_encoder"),
    stages=(StageParts(stage=CODES, network="decoder", sized="decoder"),),
    tasks={"generate": "decoder", "encode": "dvae_encoder", "decode": "dvae"},
    dials="starter-1",
    autoencoder="dvae",
    planes={"dvae_encoder": 5, "dvae": 8},
    caches={"decoder": ("n_layers", "ctx_len_img", "embed_dim")},
    batch_invariant=True,
    description="dallecli.pipelines.dalle1_description:Dalle1Description",
    opener="dallecli.pipelines.dalle1:open_dalle1",
)

LAYOUTS: Final[dict[str, Layout]] = {
    "karlo": _KARLO,
    # The same networks published for pictures instead of words: an image tower where the prior was. Words are painted
    # with --prior none.
    "karlo-variations": replace(
        _KARLO,
        pipeline="UnCLIPImageVariationPipeline",
        networks=("text_encoder", "image_encoder", "text_proj", "decoder", "super_res_first", "super_res_last"),
        optional=(_SECOND_UPSAMPLER,),
        tasks={**_KARLO.tasks, "generate": "text_encoder"},
    ),
    "kandinsky": _KANDINSKY,
    "stable-unclip": _STABLE,
    # The same for words: Karlo's prior and its text tower where the image tower was.
    "stable-unclip-text": replace(
        _STABLE,
        pipeline="StableUnCLIPPipeline",
        networks=("prior_text_encoder", "prior", "text_encoder", "image_normalizer", "decoder", "vae"),
        optional=(("image_encoder",), _RIVAL),
        clip=ClipFacts(
            width=("image_normalizer", "embedding_dim"), space="prior_text_encoder", meaning="prior_text_encoder"
        ),
    ),
    "glide": _GLIDE,
    "adm": _ADM,
    "deepfloyd-if": _IF,
    "dalle-mini": _DALLE_MINI,
    "dalle-1": _DALLE_1,
    "mindalle": _MINDALLE,
    "dvae": _DVAE,
    "clip": _CLIP,
    "vqgan": _VQGAN,
}
"""The families by name. Registries and folders name a family so; nothing else in dallecli does."""
