"""Every option of the command line, declared once. Commands list these aliases and fold the values into a request.

The `rich_help_panel` of an option is the section of the help that it stands in (help.py); nothing here is markup.
"""

from pathlib import Path
from typing import Annotated, Literal

import typer

from dallecli.cli.help import ANIMATION, ARITHMETIC, BATCH, MASK, MODEL, OUTPUT, PICTURES, REPORTING, SAMPLING

Layout = Literal["grid", "files", "both"]
Format = Literal["png", "jpeg", "webp"]
Animated = Literal["gif", "webp", "apng", "mp4"]
Dtype = Literal["fp32", "bf16", "fp16"]
NoiseKind = Literal["fixed", "inverted"]
MaskMode = Literal["white", "alpha"]


def _model_names(incomplete: str) -> list[str]:
    """Names for the shell's completion."""
    from dallecli.weights.registry import registry

    return [name for name, spec in registry().items() if spec.tasks and name.startswith(incomplete)]


def effort(fast: bool | None) -> str | None:
    """A request's effort, of `Fast`: without --fast and --best there is none."""
    return None if fast is None else "fast" if fast else "best"


def _sampler_names(incomplete: str) -> list[str]:
    from dallecli.weights.registry import SAMPLERS

    return [name for name in SAMPLERS if name.startswith(incomplete)]


Prompts = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="PROMPT",
        help="What to paint; each argument is one prompt. None, or -: read one from stdin.",
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
    str, typer.Argument(metavar="IMAGE", help="A picture, or an embedding that `dalle embed` wrote; - is stdin.")
]
Picture = Annotated[str, typer.Argument(metavar="IMAGE", help="A PNG, JPEG or WebP picture; - is stdin.")]
Ends = Annotated[
    list[str],
    typer.Argument(metavar="A B", help="Two or more ends: pictures, embeddings or sentences, as you like; - is stdin."),
]
Things = Annotated[
    list[str],
    typer.Argument(metavar="IMAGE|TEXT", help="Pictures, sentences, or embeddings; - is stdin."),
]

Num = Annotated[
    int,
    typer.Option("--num", "-n", metavar="N", help="How many pictures, with a seed each.", rich_help_panel=PICTURES),
]
BestOf = Annotated[
    int | None,
    typer.Option(
        "--best-of",
        metavar="N",
        help="Paint N pictures and keep those that CLIP finds nearest to the prompt.",
        rich_help_panel=PICTURES,
    ),
]
Prompt = Annotated[
    str | None,
    typer.Option("--prompt", "-p", metavar="TEXT", help="Words for what is painted.", rich_help_panel=PICTURES),
]
Negative = Annotated[
    str | None,
    typer.Option("--negative", metavar="TEXT", help="Words for what should not be painted.", rich_help_panel=PICTURES),
]
Init = Annotated[
    str | None,
    typer.Option(
        "--init",
        metavar="IMAGE",
        help="A picture to paint over, with --strength; - is stdin.",
        rich_help_panel=PICTURES,
    ),
]
Fidelity = Annotated[
    float | None,
    typer.Option(
        "--fidelity",
        metavar="X",
        help="From 0, the same subject, to 1, the same picture. Fresh noise if not given.",
        rich_help_panel=PICTURES,
    ),
]
Frames = Annotated[
    int | None,
    typer.Option(
        "--frames",
        metavar="N",
        help="Pictures on the way, both ends included; 7 if not given.",
        rich_help_panel=PICTURES,
    ),
]
At = Annotated[
    list[float] | None,
    typer.Option(
        "--at", metavar="X", help="Only the picture there, from 0 to 1; repeatable.", rich_help_panel=PICTURES
    ),
]
Weights = Annotated[
    str | None,
    typer.Option(
        "--weights", metavar="W,W,…", help="One blend of all ends, with these shares.", rich_help_panel=PICTURES
    ),
]
NoiseOption = Annotated[
    NoiseKind,
    typer.Option(
        "--noise",
        help="Fresh noise, the same for all frames; or that of the pictures, which reproduces the ends.",
        rich_help_panel=PICTURES,
    ),
]
Before = Annotated[
    str, typer.Option("--from", metavar="TEXT", help="What the picture shows.", rich_help_panel=PICTURES)
]
After = Annotated[
    str, typer.Option("--to", metavar="TEXT", help="What it should show instead.", rich_help_panel=PICTURES)
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
Sweep = Annotated[
    int | None,
    typer.Option(
        "--sweep", metavar="N", help="N pictures on the way from the original to there.", rich_help_panel=PICTURES
    ),
]

MaskOption = Annotated[
    list[str] | None,
    typer.Option(
        "--mask",
        metavar="FILE|X,Y,W,H",
        help="What to repaint: the white of a picture, or a box in pixels; repeatable."
        " Without it, where the picture itself is transparent.",
        rich_help_panel=MASK,
    ),
]
MaskModeOption = Annotated[
    MaskMode,
    typer.Option("--mask-mode", help="What of a mask is repainted: white, or transparent.", rich_help_panel=MASK),
]
InvertMask = Annotated[bool, typer.Option("--invert-mask", help="Repaint what is not marked.", rich_help_panel=MASK)]
Expand = Annotated[
    str | None,
    typer.Option(
        "--expand",
        metavar="EDGE=PX,…",
        help="Paint beyond the edges, as left=64,top=32; a number alone is for all four.",
        rich_help_panel=MASK,
    ),
]
ShowMask = Annotated[
    bool,
    typer.Option("--show-mask", help="Paint nothing; show what would be repainted, tinted.", rich_help_panel=MASK),
]

Animate = Annotated[
    Animated | None,
    typer.Option("--animate", help="Make an animation. The suffix in -o says so, too.", rich_help_panel=ANIMATION),
]
Fps = Annotated[float, typer.Option("--fps", metavar="X", help="Frames a second.", rich_help_panel=ANIMATION)]
Bounce = Annotated[bool, typer.Option("--bounce", help="Go back as well.", rich_help_panel=ANIMATION)]
Hold = Annotated[
    float, typer.Option("--hold", metavar="S", help="Seconds that the ends stand still.", rich_help_panel=ANIMATION)
]

Minus = Annotated[
    list[str] | None,
    typer.Option("--minus", metavar="IMAGE|TEXT", help="Take this away; repeatable.", rich_help_panel=ARITHMETIC),
]
Plus = Annotated[
    list[str] | None,
    typer.Option("--plus", metavar="IMAGE|TEXT", help="Add this; repeatable.", rich_help_panel=ARITHMETIC),
]
Imagine = Annotated[
    bool,
    typer.Option(
        "--imagine",
        help="Let the prior make image embeddings of sentences, so that they can be painted.",
        rich_help_panel=PICTURES,
    ),
]
Invert = Annotated[
    bool,
    typer.Option(
        "--invert", help="Also keep the noise from which the picture can be painted again.", rich_help_panel=PICTURES
    ),
]
Places = Annotated[
    list[Path] | None,
    typer.Option(
        "--input",
        metavar="FILE|DIR",
        help="Where a picture that was used may be now, under any name; repeatable.",
        rich_help_panel=PICTURES,
    ),
]

Seed = Annotated[
    int | None,
    typer.Option(
        "--seed",
        "-s",
        metavar="N",
        help="Seed of the first picture; the next has the next. Random if not given.",
        rich_help_panel=PICTURES,
    ),
]
Size = Annotated[
    int | None,
    typer.Option(
        "--size",
        metavar="PX",
        help="Side in pixels: one of the model's sizes, or any, if it paints any.",
        rich_help_panel=PICTURES,
    ),
]
Strict = Annotated[
    bool,
    typer.Option(
        "--strict", help="Refuse a prompt that the model would not read to its end.", rich_help_panel=PICTURES
    ),
]

Model = Annotated[
    str,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|DIR",
        help="A name from `dalle models list`, or a folder.",
        envvar="DALLE_MODEL",
        autocompletion=_model_names,
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
    Dtype | None,
    typer.Option("--dtype", help="Type of the numbers. The device's best if not given.", rich_help_panel=MODEL),
]
Memory = Annotated[
    Literal["low", "auto", "high"],
    typer.Option(
        "--memory",
        help="What stays in memory: only the network at work, as many as fit, or all. Pictures do not depend on it.",
        rich_help_panel=MODEL,
    ),
]

# For pictures that are made again: whatever is not said is in the recipe, and no variable changes that.
OtherModel = Annotated[
    str | None,
    typer.Option(
        "--model",
        "-m",
        metavar="NAME|DIR",
        help="Where the recipe's model is, if it has no name that is known here.",
        autocompletion=_model_names,
        rich_help_panel=MODEL,
    ),
]
OtherDevice = Annotated[
    str | None,
    typer.Option("--device", metavar="NAME", help="Another device than the recipe's.", rich_help_panel=MODEL),
]
OtherDtype = Annotated[
    Dtype | None, typer.Option("--dtype", help="Another type of numbers than the recipe's.", rich_help_panel=MODEL)
]

Fast = Annotated[
    bool | None,
    typer.Option(
        "--fast/--best",
        help="Fewer steps of prior and decoder than the model's own, or more; other dials still count.",
        rich_help_panel=SAMPLING,
        show_default=False,
    ),
]
Steps = Annotated[
    int | None,
    typer.Option("--steps", "--decoder-steps", metavar="N", help="Steps of the decoder.", rich_help_panel=SAMPLING),
]
InversionSteps = Annotated[
    int | None,
    typer.Option(
        "--inversion-steps",
        metavar="N",
        help="Steps back to a picture's noise; more of them reproduce it better.",
        rich_help_panel=SAMPLING,
    ),
]
Resample = Annotated[
    int | None,
    typer.Option(
        "--resample",
        metavar="N",
        help="How often each step is taken, so that new and old fit together; 1 is once.",
        rich_help_panel=SAMPLING,
    ),
]
PriorSteps = Annotated[
    int | None, typer.Option("--prior-steps", metavar="N", help="Steps of the prior.", rich_help_panel=SAMPLING)
]
UpsamplerSteps = Annotated[
    int | None,
    typer.Option("--upsampler-steps", metavar="N", help="Steps of each upsampler.", rich_help_panel=SAMPLING),
]
Guidance = Annotated[
    float | None,
    typer.Option(
        "--guidance", metavar="X", help="How hard the decoder follows the prompt; 1.0 is off.", rich_help_panel=SAMPLING
    ),
]
PriorGuidance = Annotated[
    float | None,
    typer.Option("--prior-guidance", metavar="X", help="The same for the prior.", rich_help_panel=SAMPLING),
]
Sampler = Annotated[
    str | None,
    typer.Option(
        "--sampler",
        metavar="NAME",
        help="Sampler of the decoder.",
        autocompletion=_sampler_names,
        rich_help_panel=SAMPLING,
    ),
]
PriorCandidates = Annotated[
    int | None,
    typer.Option(
        "--prior-candidates",
        metavar="N",
        help="Embeddings that the prior tries; the one nearest to the text is painted.",
        rich_help_panel=SAMPLING,
    ),
]

OutputFile = Annotated[
    str | None,
    typer.Option(
        "--output", "-o", metavar="FILE|-", help="Write exactly this file; - is stdout.", rich_help_panel=OUTPUT
    ),
]
OutputFolder = Annotated[
    Path | None,
    typer.Option(
        "--out",
        metavar="DIR",
        help="Folder for files that get a name of their own. The current one if not given.",
        rich_help_panel=OUTPUT,
    ),
]
LayoutOption = Annotated[
    Layout,
    typer.Option(
        "--layout", help="Several pictures as one sheet, as files of their own, or both.", rich_help_panel=OUTPUT
    ),
]
FormatOption = Annotated[
    Format | None,
    typer.Option("--format", help="Format of the files. From the name in -o, else png.", rich_help_panel=OUTPUT),
]
NoMetadata = Annotated[
    bool, typer.Option("--no-metadata", help="Leave the recipe out of the files.", rich_help_panel=OUTPUT)
]
Force = Annotated[
    bool,
    typer.Option(
        "--force",
        help="Replace files that exist. Without it -o refuses, and other names get a number.",
        rich_help_panel=OUTPUT,
    ),
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Paint nothing; say what would be painted, and with how much memory.", rich_help_panel=OUTPUT
    ),
]
Preview = Annotated[bool, typer.Option("--preview", help="Draw the result in the terminal.", rich_help_panel=OUTPUT)]

AxisX = Annotated[
    str | None,
    typer.Option(
        "--x",
        metavar="OPTION=A,B,…",
        help="A sheet with a column for each value, as steps=10,25,50; sentences are separated by |.",
        rich_help_panel=OUTPUT,
    ),
]
AxisY = Annotated[
    str | None,
    typer.Option("--y", metavar="OPTION=A,B,…", help="The same for rows, as guidance=1,4,8.", rich_help_panel=OUTPUT),
]
PromptsFile = Annotated[
    str | None,
    typer.Option(
        "--prompts",
        metavar="FILE",
        help="Paint every line of a .txt, .jsonl, .csv or .tsv file, each picture a file of its own; - is stdin."
        " They go into --out, or a new folder with the file's name. The same command again goes on.",
        rich_help_panel=BATCH,
    ),
]
Matrix = Annotated[
    bool,
    typer.Option(
        "--matrix",
        help="Paint all that {red|blue} and __list__ stand for, instead of one choice a picture.",
        rich_help_panel=BATCH,
    ),
]
WildcardsFolder = Annotated[
    Path | None,
    typer.Option(
        "--wildcards",
        metavar="DIR",
        help="Where the lines of __list__ are: list.txt. Beside the prompt file if not given.",
        rich_help_panel=BATCH,
    ),
]
BatchSize = Annotated[
    int | None,
    typer.Option(
        "--batch",
        metavar="N",
        min=1,
        help="Pictures painted at a time; what the device is good at if not given. On a CPU more are quicker with small"
        " models, and may differ by one level of 255.",
        rich_help_panel=MODEL,
    ),
]
Compile = Annotated[
    bool,
    typer.Option(
        "--compile",
        help="Have torch compile the networks for an NVIDIA GPU, which takes a minute for each: for hundreds of"
        " pictures. They differ a little from those of networks that are not compiled.",
        rich_help_panel=MODEL,
    ),
]
KeepGoing = Annotated[
    bool,
    typer.Option("--keep-going", help="Leave bad lines out, and keep them in failed.jsonl.", rich_help_panel=BATCH),
]
RetryFailed = Annotated[
    bool, typer.Option("--retry-failed", help="Try again what failed in an earlier run.", rich_help_panel=BATCH)
]
Share = Annotated[
    bool,
    typer.Option(
        "--share", help="Share the work with other processes that paint into this folder.", rich_help_panel=BATCH
    ),
]
Shard = Annotated[
    str | None,
    typer.Option("--shard", metavar="I/N", help="Only the I-th of N parts of the work, from 1.", rich_help_panel=BATCH),
]

NoHistory = Annotated[
    bool, typer.Option("--no-history", help="Do not remember this in `dalle history`.", rich_help_panel=REPORTING)
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

PictureFiles = Annotated[list[str], typer.Argument(metavar="FILE", help="PNG, JPEG or WebP files; - is stdin.")]
ModelName = Annotated[
    str,
    typer.Argument(metavar="NAME", help="A name from `dalle models list`, or a folder.", autocompletion=_model_names),
]

PullName = Annotated[
    str,
    typer.Argument(
        metavar="NAME", help="A name from `dalle models list`, or hf:ORG/NAME[@REVISION].", autocompletion=_model_names
    ),
]
PulledNames = Annotated[
    list[str] | None,
    typer.Argument(metavar="NAME", help="Models; all that were pulled if none is given.", show_default=False),
]
ForTasks = Annotated[
    list[str] | None,
    typer.Option("--for", metavar="TASK", help="Only the parts for this: generate, vary, … May be repeated."),
]
Half = Annotated[bool, typer.Option("--half", help="Weights in half precision, where they are published.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.", rich_help_panel=REPORTING)]
Checkpoint = Annotated[
    Path, typer.Argument(metavar="SOURCE", help="A pickled checkpoint, or a model folder with some.")
]
Converted = Annotated[Path, typer.Argument(metavar="TARGET", help="The .safetensors file, or the folder, to write.")]
