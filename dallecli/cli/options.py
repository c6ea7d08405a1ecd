"""The options that commands share, declared once: in the frozen dataclasses that commands take (folding.py).

What only one command has stands in its file. A field that is part of a request has the name that the value has in a
prompt line. The `rich_help_panel` of an option is the section of the help that it stands in (help.py); nothing here is
markup.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, fields, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, cast

import typer

from dallecli.cli.bounds import check_finite
from dallecli.cli.help import (
    ANIMATION,
    BATCH,
    CLUSTER,
    MODEL,
    OUTPUT,
    PICTURES,
    REPORTING,
    REWRITING,
    SAMPLING,
    SERVER,
)
from dallecli.errors import BadSetting

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from dallecli.engine import Engine
    from dallecli.recipe import Motion
    from dallecli.rewriting.rewriter import Rewriter

Arrangement = Literal["grid", "files", "both"]
Format = Literal["png", "jpeg", "webp"]
Animated = Literal["gif", "webp", "apng", "mp4"]


YIELDING = (
    *("size", "fast", "sampler", "steps", "guidance", "temperature", "top_k", "top_p"),
    *("prior", "prior_steps", "prior_guidance", "prior_candidates", "prior_temperature", "prior_top_k"),
    *("upsampler_sampler", "upsampler_steps", "upsampler_guidance", "guidance_start", "guidance_stop", "reuse"),
    *("upsampler_guidance_start", "upsampler_guidance_stop", "upsampler_reuse"),
)
"""The settings of the config file that do not count for a model which cannot follow them."""


def values_of(options: Any) -> dict[str, object]:
    """What options say of a request, by the names of a prompt line's values, which are those of the fields."""
    from dallecli.tasks.values import Usual  # not needed for --help

    values = dict(_stated(options))
    context = cast("typer.Context | None", values.pop("context", None))
    if context is not None:
        usual = [name for name in YIELDING if values.get(name) is not None and _from_config(context, name)]
        values |= {name: Usual(values[name]) for name in usual}
    if "fast" in values:
        fast = values.pop("fast")
        values["effort"] = Usual(effort(fast.value)) if isinstance(fast, Usual) else effort(fast)
    return values


def _stated(options: Any) -> Iterator[tuple[str, object]]:
    for field in fields(options):
        value = getattr(options, field.name)
        if is_dataclass(value):
            yield from _stated(value)
        elif value != []:  # an option that may be repeated, and is not there
            yield field.name.removesuffix("_"), value


def _from_config(context: typer.Context, name: str) -> bool:
    source = context.get_parameter_source(name)
    return source is not None and source.name == "DEFAULT_MAP"


def effort(fast: object) -> str | None:
    """What --fast and --best mean; without both there is none."""
    return None if fast is None else "fast" if fast else "best"


def model_names(incomplete: str) -> list[str]:
    """Names for the shell's completion."""
    from dallecli.weights.registry import registry

    return [name for name, spec in registry().items() if spec.tasks and name.startswith(incomplete)]


def judge_names(incomplete: str) -> list[str]:
    """The models that can judge, for the shell's completion."""
    from dallecli.weights.registry import judges

    return [name for name in judges() if name.startswith(incomplete)]


def _sampler_names(incomplete: str) -> list[str]:
    from dallecli.weights.registry import SAMPLERS

    return [name for name in SAMPLERS if name.startswith(incomplete)]


def _prior_kinds(incomplete: str) -> list[str]:
    from dallecli.tasks.stages import PRIOR_KINDS

    return [kind for kind in PRIOR_KINDS if kind.startswith(incomplete)]


def _servers(incomplete: str) -> list[str]:
    from dallecli.remote.address import WORDS

    return [word for word in WORDS if word.startswith(incomplete)]


def known_dtype(name: str | None) -> str | None:
    """What --dtype means, by its name here. Raises BadSetting."""
    from dallecli.tasks.task import check_dtype
    from dallecli.tasks.values import dtype_of

    dtype = dtype_of(name)
    check_dtype(dtype)
    return dtype


# Arguments

Prompts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PROMPT",
        help="What to paint; each argument is one prompt. Without one, or with -, it is read from stdin.",
        show_default=False,
    ),
]
Images = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="IMAGE",
        help="Pictures, or embeddings that `dalle embed` wrote; - is stdin.",
        show_default=False,
    ),
]
Image = Annotated[
    str | None,
    typer.Argument(
        metavar="IMAGE", help="A picture, or an embedding that `dalle embed` wrote; - is stdin.", show_default=False
    ),
]
Picture = Annotated[
    str | None,
    typer.Argument(metavar="IMAGE", help="A PNG, JPEG or WebP picture; - is stdin.", show_default=False),
]
Ends = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="A B",
        help="Two or more ends: pictures, embeddings or sentences, in any mix; - is stdin.",
        show_default=False,
    ),
]
Things = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE|TEXT", help="Pictures, sentences, or embeddings; - is stdin."),
]
PictureFiles = Annotated[list[str], typer.Argument(metavar="FILE", help="PNG, JPEG or WebP files; - is stdin.")]
CodesFiles = Annotated[
    list[str], typer.Argument(metavar="CODES", help="Files of codes that `dalle encode` wrote; - is stdin.")
]
ModelName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A name from `dalle models list`, or a folder.", autocompletion=model_names),
]

# Of `dalle models`

KnowingModel = Annotated[
    str,
    typer.Argument(metavar="[NAME]", help="A name from `dalle models list`, or a folder.", autocompletion=model_names),
]

PullName = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A name from `dalle models list`, or hf:ORG/NAME[@REVISION].", autocompletion=model_names
    ),
]
PulledNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="Models; all that were pulled if none is given.", show_default=False),
]
ForTasks = Annotated[
    list[str] | None,
    typer.Option("--for", metavar="TASK", help="Only the parts for this task: generate, vary, …; repeatable."),
]
Half = Annotated[bool, typer.Option("--half", help="Weights in half precision, where they are published.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.", rich_help_panel=REPORTING)]
Checkpoint = Annotated[
    Path, typer.Argument(metavar="SOURCE", help="A pickled checkpoint, or a model folder with some.")
]
Converted = Annotated[Path, typer.Argument(metavar="TARGET", help="The .safetensors file, or the folder, to write.")]

# Options that stand in the classes of several commands, or of some by themselves


class SizeOption(str):
    """A size as it is typed: the side of a square, both sides, or proportions."""


def _size(value: object) -> SizeOption:
    from dallecli.size import HOW, read_size  # not needed for --help
    from dallecli.tasks.values import NUMBER

    text = str(value).strip()  # of the config file it may be a number
    if not NUMBER.fullmatch(text):
        try:
            read_size(text)
        except ValueError as error:
            raise typer.BadParameter(f"{error}: {HOW}.") from error
    return SizeOption(text)


Size = Annotated[
    SizeOption | None,
    typer.Option(
        "--size",
        parser=_size,
        metavar="PX",
        help="Pixels, as 512 or 1024x576, or proportions, as 16:9.",
        rich_help_panel=PICTURES,
    ),
]
Num = Annotated[
    int,
    typer.Option(
        "--num", "-n", metavar="N", help="How many pictures; each has its own seed.", rich_help_panel=PICTURES
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option("--prompt", "-p", metavar="TEXT", help="What to paint, in words.", rich_help_panel=PICTURES),
]
Negative = Annotated[
    str | None,
    typer.Option(
        "--negative", metavar="TEXT", help="What to keep out of the picture, in words.", rich_help_panel=PICTURES
    ),
]
Strength = Annotated[
    float | None,
    typer.Option(
        "--strength",
        metavar="X",
        help="How far to go, from 0 to 1. More than 0.5 leaves little of the picture.",
        rich_help_panel=PICTURES,
    ),
]


Judge = Annotated[
    str | None,
    typer.Option(
        "--judge",
        metavar="NAME|DIR",
        help="The model whose CLIP looks at the pictures and scores them. The model itself if not given.",
        autocompletion=judge_names,
        rich_help_panel=PICTURES,
    ),
]


class StepsOption(str):
    """The steps of a stage as they are typed: a number, or a published name."""


def _steps(value: object) -> StepsOption:
    from dallecli.tasks.stages import RESPACINGS  # not needed for --help
    from dallecli.tasks.values import NUMBER

    text = str(value).strip().lower()  # of the config file it may be a number
    if text not in RESPACINGS and not NUMBER.fullmatch(text):
        raise typer.BadParameter(f"{text!r} is not a whole number, and not one of {', '.join(RESPACINGS)}.")
    return StepsOption(text)


Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|DIR",
        help="A name from `dalle models list`, or a folder.",
        envvar="DALLE_MODEL",
        autocompletion=model_names,
        rich_help_panel=MODEL,
    ),
]
Device = Annotated[
    str | None,
    typer.Option(
        "--device",
        metavar="NAME",
        help="cpu, cuda, cuda:1 or mps. The best one if not given.",
        envvar="DALLE_DEVICE",
        rich_help_panel=MODEL,
    ),
]
DtypeOption = Annotated[
    str | None,
    typer.Option(
        "--dtype",
        metavar="<fp32|bf16|fp16>",
        help="Number type. The device's best if not given.",
        callback=known_dtype,
        rich_help_panel=MODEL,
    ),
]
Json = Annotated[
    bool,
    typer.Option(
        "--json", help="Print JSON, one object a line; an error is one object on stderr.", rich_help_panel=REPORTING
    ),
]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Nothing on stderr but errors.", rich_help_panel=REPORTING)]
# The boundary in app.py looks for this one before anything is parsed, so that it also covers mistakes in options.
Debug = Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.", rich_help_panel=REPORTING)]

Open = Annotated[
    bool,
    typer.Option(
        "--open",
        help="Show the result: a file in the system's viewer, several as their folder, a page in the browser.",
        rich_help_panel=OUTPUT,
    ),
]

Port = Annotated[
    int, typer.Option("--port", metavar="N", help="The port; 0 is any that is free.", rich_help_panel=SERVER)
]

TokenFile = Annotated[
    Path | None,
    typer.Option(
        "--token-file",
        metavar="FILE",
        help="A file with the token that a server asks for; it can also be in DALLE_TOKEN.",
        rich_help_panel=SERVER,
    ),
]

Out = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder for files that are named automatically; made if it is missing. The current one if not given.",
        rich_help_panel=OUTPUT,
    ),
]

Ray = Annotated[
    str | None,
    typer.Option(
        "--ray",
        metavar="auto|HOST:PORT",
        help="The Ray cluster that paints: auto is the one that this machine belongs to.",
        rich_help_panel=CLUSTER,
    ),
]

# What is sampled


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureOptions:
    """What is asked of every picture, whatever is painted."""

    seed: Annotated[
        int | None,
        typer.Option(
            "--seed",
            "-s",
            metavar="N",
            help="Seed of the first picture; each one after it has the next. Random if not given.",
            rich_help_panel=PICTURES,
        ),
    ] = None
    size: Size = None
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Refuse what the model does not know, or would not read to its end.",
            rich_help_panel=PICTURES,
        ),
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class EffortOptions:
    """How much work goes into a picture, by one word for all dials."""

    fast: Annotated[
        bool | None,
        typer.Option(
            "--fast/--best",
            help="Fewer steps of prior and decoder than the model's own, or more; single dials still count.",
            rich_help_panel=SAMPLING,
            show_default=False,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PriorDials:
    """What makes an image embedding of words, and how it is sampled."""

    prior: Annotated[
        str | None,
        typer.Option(
            "--prior",
            metavar="KIND",
            help="What makes an image embedding of the words: diffusion, autoregressive or none.",
            autocompletion=_prior_kinds,
            rich_help_panel=SAMPLING,
        ),
    ] = None
    prior_steps: Annotated[
        StepsOption | None,
        typer.Option(
            "--prior-steps",
            parser=_steps,
            metavar="N",
            help="Steps of the prior, or their name.",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    prior_guidance: Annotated[
        float | None,
        typer.Option("--prior-guidance", metavar="X", help="The same for the prior.", rich_help_panel=SAMPLING),
    ] = None
    prior_temperature: Annotated[
        float | None,
        typer.Option(
            "--prior-temperature",
            metavar="X",
            help="How evenly an autoregressive prior draws; 0 always takes the likeliest.",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    prior_top_k: Annotated[
        int | None,
        typer.Option(
            "--prior-top-k",
            metavar="N",
            help="Such a prior draws only from its N likeliest codes; 0 leaves all in.",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    prior_candidates: Annotated[
        int | None,
        typer.Option(
            "--prior-candidates",
            metavar="N",
            help="Embeddings that the prior draws; the one nearest to the text is painted.",
            rich_help_panel=SAMPLING,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PainterDials:
    """How decoder and upsamplers paint an embedding, where their sampler is not to choose."""

    steps: Annotated[
        StepsOption | None,
        typer.Option(
            "--steps",
            "--decoder-steps",
            parser=_steps,
            metavar="N",
            help="Steps of the decoder, or their published name: smart100, super40.",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    guidance: Annotated[
        float | None,
        typer.Option(
            "--guidance",
            metavar="X",
            help="How closely the decoder follows the prompt; 1.0 is off.",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    guidance_start: Annotated[
        float | None,
        typer.Option(
            "--guidance-start",
            metavar="SHARE",
            help="Guide only once this share of the noise is gone, from 0 to 1: the other steps are faster.",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    guidance_stop: Annotated[
        float | None,
        typer.Option(
            "--guidance-stop",
            metavar="SHARE",
            help="Guide only until this share of the noise is gone.",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    reuse: Annotated[
        int | None,
        typer.Option(
            "--reuse",
            metavar="N",
            help="Compute the whole decoder in one of N steps, and its uppermost level in the others.",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    upsampler_guidance_start: Annotated[
        float | None,
        typer.Option(
            "--upsampler-guidance-start",
            metavar="SHARE",
            help="The same as --guidance-start for such an upsampler.",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    upsampler_guidance_stop: Annotated[
        float | None,
        typer.Option(
            "--upsampler-guidance-stop",
            metavar="SHARE",
            help="The same as --guidance-stop for such an upsampler.",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    upsampler_reuse: Annotated[
        int | None,
        typer.Option(
            "--upsampler-reuse",
            metavar="N",
            help="The same as --reuse for each upsampler.",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    upsampler_steps: Annotated[
        StepsOption | None,
        typer.Option(
            "--upsampler-steps",
            parser=_steps,
            metavar="N",
            help="Steps of each upsampler, or their name.",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    upsampler_guidance: Annotated[
        float | None,
        typer.Option(
            "--upsampler-guidance",
            metavar="X",
            help="The same as --guidance for an upsampler that reads the prompt.",
            rich_help_panel=SAMPLING,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class SamplerDials(PainterDials):
    """How decoder and upsamplers paint an embedding."""

    sampler: Annotated[
        str | None,
        typer.Option(
            "--sampler",
            metavar="NAME",
            help="Sampler of the decoder: ancestral, ddim, dpm++ or plms.",
            autocompletion=_sampler_names,
            rich_help_panel=SAMPLING,
        ),
    ] = None
    upsampler_sampler: Annotated[
        str | None,
        typer.Option(
            "--upsampler-sampler",
            metavar="NAME",
            help="Sampler of each upsampler.",
            autocompletion=_sampler_names,
            rich_help_panel=SAMPLING,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class TokenDials:
    """How a model draws that writes a picture as codes, one after another."""

    temperature: Annotated[
        float | None,
        typer.Option(
            "--temperature",
            metavar="X",
            help="How evenly a model that writes codes draws them; 0 always takes the likeliest.",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    top_k: Annotated[
        int | None,
        typer.Option(
            "--top-k",
            metavar="N",
            help="Such a model draws only from its N likeliest codes; 0 leaves all in.",
            rich_help_panel=SAMPLING,
        ),
    ] = None
    top_p: Annotated[
        float | None,
        typer.Option(
            "--top-p",
            metavar="X",
            help="... and only from the likeliest that have this share together; 1 leaves all in.",
            rich_help_panel=SAMPLING,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class InversionDials:
    """How a picture is taken back to its noise."""

    inversion_steps: Annotated[
        int | None,
        typer.Option(
            "--inversion-steps",
            metavar="N",
            help="Steps back to a picture's noise; more of them reproduce it better.",
            rich_help_panel=SAMPLING,
        ),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ChainDials:
    """How all stages from words to pixels sample."""

    effort: EffortOptions
    prior: PriorDials
    painter: SamplerDials


# With what, and how


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelOptions:
    """Which model computes, where, and in which type of numbers."""

    context: typer.Context
    """Which of all options were typed, and which are of the config file."""
    model: Model = "starter"
    device: Device = None
    dtype: DtypeOption = None


@dataclass(frozen=True, slots=True, kw_only=True)
class CodingOptions(ModelOptions):
    """The same for pictures and codes, which take a discrete autoencoder."""

    model: Model = "dvae"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoryOptions:
    """How much memory a model may take. No result depends on it."""

    memory: Annotated[
        Literal["low", "auto", "high"],
        typer.Option(
            "--memory",
            help="What stays in memory: only the network at work, as many as fit, or all."
            " Pictures do not depend on it.",
            rich_help_panel=MODEL,
        ),
    ] = "auto"

    def engine(self) -> "Engine":
        """The engine of this machine that works so. Raises as `choose_engine`."""
        from dallecli.studio.choice import choose_engine

        return choose_engine(self.memory)


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineOptions(MemoryOptions):
    """How an engine works. What is painted changes by rounding at most."""

    batch: Annotated[
        int | None,
        typer.Option(
            "--batch",
            metavar="N",
            min=1,
            help="Pictures painted at a time; chosen for the device and the model if not given. Pixels of large models"
            " may differ, in bf16 visibly.",
            rich_help_panel=MODEL,
        ),
    ] = None
    compile: Annotated[
        bool,
        typer.Option(
            "--compile",
            help="Have torch compile the networks for an NVIDIA GPU, which takes a minute for each: for hundreds of"
            " pictures. They differ a little from those of networks that are not compiled.",
            rich_help_panel=MODEL,
        ),
    ] = False

    def engine(self) -> "Engine":
        from dallecli.studio.choice import choose_engine

        return choose_engine(self.memory, self.batch, compiled=self.compile)


@dataclass(frozen=True, slots=True, kw_only=True)
class ServerOptions:
    """Which `dalle serve` computes, if this machine does not do it by itself."""

    server: Annotated[
        str | None,
        typer.Option(
            "--server",
            metavar="URL|auto|none",
            help="Let this `dalle serve` do it; auto takes the one of this machine if it answers.",
            envvar="DALLE_SERVER",
            autocompletion=_servers,
            rich_help_panel=SERVER,
        ),
    ] = None
    token_file: TokenFile = None

    def engine(self, here: MemoryOptions) -> "Engine":
        """The engine that is meant: a server's, or the one that works `here`. Raises as `remote.choice.choose`."""
        from dallecli.remote.choice import choose

        return choose(self.server, self.token_file, here.engine)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterOptions:
    """Which Ray cluster paints, if this machine does not do it by itself."""

    ray: Ray = None
    ray_workers: Annotated[
        int | None,
        typer.Option(
            "--ray-workers",
            metavar="N",
            min=1,
            help="Use at most so many workers, and ask the cluster's autoscaler for them. All that there are if not"
            " given.",
            rich_help_panel=CLUSTER,
        ),
    ] = None
    weights_from: Annotated[
        str | None,
        typer.Option(
            "--weights-from",
            metavar="hub|driver|DIR",
            help="Where workers get a model that they lack: from the Hub, from this machine, or from a folder that all"
            " of them see and that is their HF_HOME. Each has its own if not given.",
            rich_help_panel=CLUSTER,
        ),
    ] = None

    @contextmanager
    def engine(
        self, here: "EngineOptions", otherwise: "Callable[[], Engine]", *, wide: bool = False
    ) -> "Iterator[Engine]":
        """The engine that is meant, as long as it is needed: a cluster's whose workers are like `here`, or `otherwise`.

        Raises: as `choose_engine` and `ClusterEngine`.
        """
        if self.ray is None:
            yield otherwise()
            return
        from contextlib import closing

        from dallecli.cli.display import results_apart
        from dallecli.cluster.connection import check_ray

        check_ray()
        from dallecli.cluster.engine import Asked, ClusterEngine

        setup = {"memory": here.memory, "batch": here.batch, "compiled": here.compile, "environment": self._passed()}
        folder = self.weights_from not in (None, "hub", "driver")
        asked = Asked(
            address=self.ray,
            workers=self.ray_workers,
            weights=None if folder else self.weights_from,
            setup=setup,
            wide=wide,
        )
        with results_apart(), closing(ClusterEngine(here.engine(), asked)) as engine:
            yield engine

    def _passed(self) -> dict[str, str]:
        """The variables of workers. Raises BadSetting."""
        import os

        from dallecli.cluster.worker import PASSED

        passed = {name: os.environ[name] for name in PASSED if name in os.environ}
        if self.weights_from not in (None, "hub", "driver"):
            if not Path(self.weights_from).is_dir():
                what = f"--weights-from {self.weights_from!r} is no folder"
                raise BadSetting(what, hint="hub, driver, or a folder that all machines see")
            passed["HF_HOME"] = str(Path(self.weights_from).resolve())
        return passed


@dataclass(frozen=True, slots=True, kw_only=True)
class BatchOptions:
    """How a prompt file is worked through. Raises BadSetting for what means nothing without one."""

    file: Annotated[
        str | None,
        typer.Option(
            "--prompts",
            metavar="FILE",
            help="Paint every line of a .txt, .jsonl, .csv or .tsv file, one file per picture; - is stdin. They go into"
            " --out, or into a new folder named after the file. Running the same command again continues.",
            rich_help_panel=BATCH,
        ),
    ] = None
    matrix: Annotated[
        bool,
        typer.Option(
            "--matrix",
            help="Paint every combination of {red|blue} and __list__, instead of one choice per picture.",
            rich_help_panel=BATCH,
        ),
    ] = False
    wildcards: Annotated[
        Path | None,
        typer.Option(
            "--wildcards",
            metavar="DIR",
            help="Folder of list.txt, whose lines __list__ stands for. The prompt file's own if not given.",
            rich_help_panel=BATCH,
        ),
    ] = None
    keep_going: Annotated[
        bool,
        typer.Option("--keep-going", help="Skip bad lines, and write them to failed.jsonl.", rich_help_panel=BATCH),
    ] = False
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Retry what failed in an earlier run.", rich_help_panel=BATCH)
    ] = False
    share: Annotated[
        bool,
        typer.Option(
            "--share", help="Share the work with other processes that paint into this folder.", rich_help_panel=BATCH
        ),
    ] = False
    shard: Annotated[
        str | None,
        typer.Option(
            "--shard", metavar="I/N", help="Only part I of N parts of the work, counted from 1.", rich_help_panel=BATCH
        ),
    ] = None

    def __post_init__(self) -> None:
        for field in fields(self):
            if self.file is None and getattr(self, field.name) not in (None, False):
                option = f"--{field.name.replace('_', '-')}"
                raise BadSetting(f"{option} is about a prompt file", hint="name it: --prompts FILE")

    @property
    def part(self) -> tuple[int, int] | None:
        """What --shard 2/8 means: (1, 8), the second of eight, from 0. Raises BadSetting."""
        if self.shard is None:
            return None
        number, _, count = self.shard.partition("/")
        if not (number.isdecimal() and count.isdecimal() and 1 <= int(number) <= int(count)):
            raise BadSetting(f"--shard {self.shard!r} means nothing", hint="the first of eight is --shard 1/8")
        return int(number) - 1, int(count)


@dataclass(frozen=True, slots=True, kw_only=True)
class RewriteOptions:
    """Whether, and by whom, prompts are rewritten before they are painted."""

    rewrite: Annotated[
        Literal["required", "optional"] | None,
        typer.Option(
            "--rewrite",
            metavar="[optional]",
            help="Have a language model rewrite prompts before they are painted, in words that the model knows. If it"
            " fails, so does the command; with `optional`, what was typed is painted.",
            rich_help_panel=REWRITING,
        ),
    ] = None
    rewrite_with: Annotated[
        tuple[str, str] | None,
        typer.Option(
            "--rewrite-with",
            metavar="URL MODEL",
            help="The language model that does it, and so --rewrite, too: the base URL of a server that speaks"
            " OpenAI's chat completions, and the model's name there. DALLE_REWRITE_URL or OPENAI_BASE_URL, and"
            " DALLE_REWRITE_MODEL, if not given.",
            rich_help_panel=REWRITING,
        ),
    ] = None

    def rewriter(self) -> "Rewriter | None":
        """Who rewrites; None if nobody shall. Raises BadSetting, BadConfig."""
        if self.rewrite is None and self.rewrite_with is None:
            return None
        from dallecli.rewriting.rewriter import Rewriter

        return Rewriter.choose(self.rewrite, self.rewrite_with)


# Where results go, and what is said


@dataclass(frozen=True, slots=True, kw_only=True)
class AxesOptions:
    """The options whose values are the columns and rows of a sheet."""

    x: Annotated[
        str | None,
        typer.Option(
            "--x",
            metavar="OPTION=A,B,…",
            help="A sheet with a column for each value, such as steps=10,25,50; sentences are separated by |.",
            rich_help_panel=OUTPUT,
        ),
    ] = None
    y: Annotated[
        str | None,
        typer.Option(
            "--y", metavar="OPTION=A,B,…", help="The same for rows, such as guidance=1,4,8.", rich_help_panel=OUTPUT
        ),
    ] = None

    @property
    def given(self) -> bool:
        """Whether a sheet with axes is asked for."""
        return self.x is not None or self.y is not None

    @property
    def named(self) -> tuple[str, ...]:
        """The values, by their names in a prompt line, that the axes give. Raises BadSetting."""
        from dallecli.cli.axes import read_axis

        return tuple(axis.name for axis in (read_axis(self.x), read_axis(self.y)) if axis is not None)


@dataclass(frozen=True, slots=True, kw_only=True)
class FileOptions:
    """Which files results are written to."""

    output: Annotated[
        str | None,
        typer.Option(
            "--output", "-o", metavar="FILE|-", help="Write exactly this file; - is stdout.", rich_help_panel=OUTPUT
        ),
    ] = None
    out: Out = None
    force: Annotated[
        bool,
        typer.Option(
            "--force",
            help="Replace existing files. Without it, -o refuses, and automatic names get a number.",
            rich_help_panel=OUTPUT,
        ),
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FormatOptions(FileOptions):
    """Which files pictures are written to, and in which format."""

    format: Annotated[
        Format | None,
        typer.Option("--format", help="File format. Taken from the name in -o, else png.", rich_help_panel=OUTPUT),
    ] = None


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureFileOptions(FormatOptions):
    """Which files pictures are written to, and in which form."""

    no_metadata: Annotated[
        bool, typer.Option("--no-metadata", help="Leave the recipe out of the files.", rich_help_panel=OUTPUT)
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class OutputOptions(PictureFileOptions):
    """Which files pictures are written to, in which form, and how several of them stand together."""

    layout: Annotated[
        Arrangement,
        typer.Option(
            "--layout", help="Several pictures as one sheet, as separate files, or both.", rich_help_panel=OUTPUT
        ),
    ] = "grid"


@dataclass(frozen=True, slots=True, kw_only=True)
class AnimationOptions:
    """How frames become an animation, if they do."""

    animate: Annotated[
        Animated | None,
        typer.Option(
            "--animate", help="Make an animation; a suffix such as .gif in -o does so, too.", rich_help_panel=ANIMATION
        ),
    ] = None
    fps: Annotated[float, typer.Option("--fps", metavar="X", help="Frames per second.", rich_help_panel=ANIMATION)] = (
        8.0
    )
    bounce: Annotated[
        bool, typer.Option("--bounce", help="Play forwards, then backwards.", rich_help_panel=ANIMATION)
    ] = False
    hold: Annotated[
        float,
        typer.Option(
            "--hold",
            metavar="S",
            help="Seconds for which the first and the last frame are held.",
            rich_help_panel=ANIMATION,
        ),
    ] = 0.0

    def __post_init__(self) -> None:
        check_finite("--fps", self.fps)
        check_finite("--hold", self.hold)

    @property
    def motion(self) -> "Motion":
        """The same as a recipe holds it."""
        from dallecli.recipe import Motion

        return Motion(fps=self.fps, bounce=self.bounce, hold=self.hold)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reporting:
    """What is said of a run."""

    json: Json = False
    quiet: Quiet = False
    debug: Debug = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PictureReporting(Reporting):
    """What is said of pictures, shown of them, and remembered."""

    preview: Annotated[
        bool, typer.Option("--preview", help="Draw the result in the terminal.", rich_help_panel=OUTPUT)
    ] = False
    open: Open = False
    no_history: Annotated[
        bool, typer.Option("--no-history", help="Keep this out of `dalle history`.", rich_help_panel=REPORTING)
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PaintingReporting(PictureReporting):
    """What is said of pictures, also before they are painted."""

    dry_run: Annotated[
        bool,
        typer.Option(
            "--dry-run",
            help="Paint nothing; say what would be painted, and with how much memory.",
            rich_help_panel=OUTPUT,
        ),
    ] = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PaintingOptions:
    """What every painting command takes besides what is asked: how it is painted, where it goes, and what is said."""

    engine: EngineOptions
    server: ServerOptions
    cluster: ClusterOptions
    rewriting: RewriteOptions
    batch: BatchOptions
    output: OutputOptions
    reporting: PaintingReporting

    def choose_engine(self) -> "Engine":
        """Whoever paints without a cluster. Raises as `remote.choice.choose`."""
        return self.server.engine(self.engine)

    def opened_engine(self) -> "AbstractContextManager[Engine]":
        """Whoever paints, as long as there is something to paint. Raises as `ClusterOptions.engine`."""
        return self.cluster.engine(self.engine, self.choose_engine)
